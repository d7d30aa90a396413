"""The router in front of a fleet: HAProxy, driven through its run-time API."""

from __future__ import annotations

from dockerlab.router.container import ContainerRouter
from dockerlab.router.launch import Router, find_router, open_router, stop_router
from dockerlab.router.process import ProcessRouter, haproxy_program
from dockerlab.router.record import RouterRecord
from dockerlab.router.runtime import Look, RuntimeApi, Server

__all__ = [
    "ContainerRouter",
    "Look",
    "ProcessRouter",
    "Router",
    "RouterRecord",
    "RuntimeApi",
    "Server",
    "find_router",
    "haproxy_program",
    "open_router",
    "stop_router",
]
