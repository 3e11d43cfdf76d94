"""Turn a Node project with a lock of npm or pnpm into a closure: `node:./app`.

Each locked package is an item, identified by the hash in the lock. Planning reads the lock alone;
the tarballs of layers that must be sent are downloaded, and their files are placed where `npm ci`
or `pnpm install` would place them.
"""
