"""What the web server says of clients that talk nonsense: not for the engine's log."""

from __future__ import annotations

import logging

from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError

BROKEN_BODY = (web.RequestPayloadError, HttpProcessingError)


def server_log() -> logging.Logger:
    """Give the log for the web server.

    It writes a traceback, and with it pieces of the request, for each client that does not speak HTTP or leaves too
    early. Those have been answered, or are gone: they are dropped, everything else is kept.
    """
    found = logging.getLogger("aiohttp.server")
    if _is_worth_it not in found.filters:
        found.addFilter(_is_worth_it)
    return found


def _is_worth_it(record: logging.LogRecord) -> bool:
    error = record.exc_info[1] if record.exc_info else None
    return not isinstance(error, (*BROKEN_BODY, ConnectionError))
