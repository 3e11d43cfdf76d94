"""A Node project with a lock file of npm becomes a closure: `node:./app`.

Each locked package is an item, known by the hash in the lock. Planning reads the lock alone;
the tarballs of layers that must be sent are fetched and laid out as `npm ci` would.
"""
