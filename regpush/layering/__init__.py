"""Strategies that plan the layers of a closure."""
