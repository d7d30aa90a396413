"""Replacing what fails: when, how often, and by which numbers."""
