"""Uploads blobs: the forms of an upload, its session, and how it resumes after a failure."""
