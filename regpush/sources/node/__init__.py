"""Turn a Node project with a lock file of npm or pnpm into a closure: `node:./app`.

Each package in the lock file is an item, identified by the hash that the lock file states. The plan
is made from the lock file alone. Only tarballs whose layer must be sent are downloaded; their files
get the paths that `npm ci` or `pnpm install` would give them.
"""
