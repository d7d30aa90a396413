"""Scaling a fleet by what its router measures."""
