"""Credentials and tokens for one registry: the first source that knows it is taken.

record.py       Credentials, one login
sources.py      the order: flags, files, GitHub's token, netrc
  files.py      Docker's config.json and containers' auth.json, read; login and logout, pure
    keys.py     which entry of a file is for which registry
    helpers.py  programs that keep secrets
  netrc.py      ~/.netrc
store.py        login and logout: where the answer goes
challenges.py   what a registry asks for: WWW-Authenticate
authorizer.py   the headers that answer it
"""
