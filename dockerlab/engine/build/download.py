"""ADD of an address: http and https."""

from __future__ import annotations

import asyncio
import email.utils
import os
import posixpath
from pathlib import Path
from urllib.parse import unquote, urlsplit

import aiohttp

from dockerlab.engine.build.blocking import blocking
from dockerlab.engine.build.golang import quoted
from dockerlab.engine.build.sources import Source, file_digest
from dockerlab.engine.images.tree import Entry, Tree
from dockerlab.engine.refusals import bad, upstream

LIMIT_BYTES = 2 << 30
SILENCE_S = 60.0
_CHUNK_BYTES = 1 << 20


def is_address(text: str) -> bool:
    """Tell whether ADD fetches it."""
    return text.startswith(("http://", "https://"))


async def fetch(address: str, folder: Path, *, to_folder: bool) -> Source:
    """Download a file.

    Parameters
    ----------
    address : str
    folder : Path
        Where to put it.
    to_folder : bool
        Whether it keeps the name that the address ends in.

    Returns
    -------
    Source

    Raises
    ------
    RefusalError
        400, or 502 where the server does not answer; in Docker's words.
    """
    try:
        name = posixpath.basename(unquote(urlsplit(address).path))
    except ValueError as error:
        raise bad(f"ADD failed: parse {quoted(address)}: {error}") from error
    if "/" in name or name in (".", "..") or "\0" in name or (to_folder and not name):
        raise bad(f"ADD failed: cannot determine filename from url: {address}")
    path = folder / f"download-{len(list(folder.iterdir()))}"
    timeout = aiohttp.ClientTimeout(total=None, sock_connect=SILENCE_S, sock_read=SILENCE_S)
    try:
        async with aiohttp.ClientSession(timeout=timeout, trust_env=True) as session, session.get(address) as answer:
            if answer.status >= 400:
                raise bad(f"ADD failed: failed to GET {address} with status {answer.status} {answer.reason}")
            with path.open("wb") as file:
                size = 0
                async for chunk in answer.content.iter_chunked(_CHUNK_BYTES):
                    size += len(chunk)
                    if size > LIMIT_BYTES:
                        raise bad(f"ADD failed: {address} is too large: at most {LIMIT_BYTES} bytes are taken")
                    await blocking(file.write, chunk)
            modified = _time_s(answer.headers.get("Last-Modified", ""))
    except (aiohttp.ClientError, asyncio.TimeoutError, ValueError) as error:
        raise upstream(f"ADD failed: Get {quoted(address)}: {_reason(error)}") from error
    digest = await blocking(file_digest, _entry(path, size, modified))
    return Source(name, _entry(path, size, modified), Tree([]), f"file:{digest}", downloaded=True)


def _reason(error: Exception) -> str:
    if isinstance(error, aiohttp.ClientConnectorError):
        number = error.os_error.errno
        reason = os.strerror(number).lower() if number and number > 0 else str(error.os_error)
        return f"dial tcp {error.host}:{error.port}: {reason}"
    return str(error) or "timeout"


def _entry(path: Path, size: int, modified_s: int) -> Entry:
    return Entry(f"/{path.name}", "file", 0o600, 0, 0, size, modified_s * 10**9, "", path)


def _time_s(text: str) -> int:
    try:
        parsed = email.utils.parsedate_tz(text)
        return max(0, int(email.utils.mktime_tz(parsed))) if parsed else 0
    except (ValueError, OverflowError):
        return 0
