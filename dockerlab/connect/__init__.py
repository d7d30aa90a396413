"""Find the container engine of this machine, and say what it can do."""

from dockerlab.connect.boundary import engine_errors, translate
from dockerlab.connect.find import Search, connect, protect_loopback, search
from dockerlab.connect.info import Engine
from dockerlab.connect.isolation import Limit, Wall

__all__ = [
    "Engine",
    "Limit",
    "Search",
    "Wall",
    "connect",
    "engine_errors",
    "protect_loopback",
    "search",
    "translate",
]
