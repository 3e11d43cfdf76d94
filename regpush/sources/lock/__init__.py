"""Download and unpack the packages that a lock file lists, when a layer that must be sent has them.

A lock file (`uv.lock`, `package-lock.json`) names every package of a project with a hash.
"""
