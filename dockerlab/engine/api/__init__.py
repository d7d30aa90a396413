"""The Docker Engine API."""
