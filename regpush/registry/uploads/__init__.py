"""Uploads of blobs: the forms of an upload, its session, and how it resumes."""
