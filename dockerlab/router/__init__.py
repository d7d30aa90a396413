"""The router in front of a fleet: HAProxy, driven through its run-time API."""

from __future__ import annotations

from dockerlab.router.launch import (
    ContainerRouter,
    ProcessRouter,
    Router,
    RouterRecord,
    find_router,
    haproxy_program,
    open_router,
    stop_router,
)
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
