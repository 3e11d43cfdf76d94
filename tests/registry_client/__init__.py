"""Servers of the registry client's tests, and the client as these tests open it."""
