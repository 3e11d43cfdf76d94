"""Layering: a closure becomes a plan of layers."""
