"""Credentials and tokens for one registry; the first source that has a login for it is used.

record.py       Credentials, one login
sources.py      the order of sources: flags, files, GitHub's token, netrc
  files.py      Docker's config.json and containers' auth.json: reading and changing, pure
    keys.py     which entry of a file is for which registry
    helpers.py  credential helpers, which are programs
  netrc.py      ~/.netrc
store.py        login and logout
challenges.py   the WWW-Authenticate header, scopes, tokens
authorizer.py   the Authorization header
"""
