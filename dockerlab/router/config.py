"""What HAProxy is told when it starts, and the port that it listens on."""

from __future__ import annotations

import socket

from dockerlab.errors import BadInputError, PortTakenError
from dockerlab.router.runtime import WEIGHT

MAXCONN = 1000

_TEXT = """\
global
    stats socket {control} level admin
    nbthread 1
    maxconn {maxconn}
    set-var {weight} int({green})
defaults
    mode http
    timeout connect 1s
    timeout client 60s
    timeout server 60s
    timeout queue 5s
    retries 3
    option redispatch 1
    option http-server-close
frontend service
    bind {bind}
    http-request set-var(txn.draw) rand(100),sub({weight})
    acl green var(txn.draw) -m int lt 0
    acl split var({weight}) -m int 1:99
    acl blue_there nbsrv(blue) gt 0
    acl green_there nbsrv(green) gt 0
    use_backend green if green green_there
    use_backend green if green !split
    use_backend green if !green split !blue_there green_there
    default_backend blue
frontend preview
    bind {preview}
    acl green_serves var({weight}) -m int ge 50
    use_backend blue if green_serves
    default_backend green
backend blue
    balance leastconn
    option httpchk GET {health_path}
backend green
    balance leastconn
    option httpchk GET {health_path}
"""


def config(*, control: str, bind: str, preview: str, health_path: str, green: int, maxconn: int = MAXCONN) -> str:
    """Give the configuration of a router.

    Parameters
    ----------
    control, bind, preview : str
        Addresses of the run-time API, the service and the pool that gets fewer requests, as HAProxy writes them.
    health_path : str
        Path that is checked on each replica.
    green : int
        Percent of the requests that go to the green pool at first.
    maxconn : int
        How many connections there may be.
    """
    return _TEXT.format(
        control=control,
        bind=bind,
        preview=preview,
        health_path=health_path,
        green=green,
        maxconn=maxconn,
        weight=WEIGHT,
    )


def listen(port: int | None) -> socket.socket:
    """Listen on a port of loopback; None takes a free one.

    Raises
    ------
    BadInputError, PortTakenError
    """
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind(("127.0.0.1", port or 0))
        listener.listen(1024)
    except OSError as error:
        listener.close()
        if isinstance(error, PermissionError):
            raise BadInputError(
                f"Port {port} is for the administrator only.", "Choose a port from 1024 to 65535."
            ) from error
        raise PortTakenError(port or 0) from error
    return listener
