"""What clients send in large pieces: archives and build contexts, kept in a file while they are worked on."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from aiohttp import web

from dockerlab.engine.refusals import RefusalError

LIMIT_BYTES = 16 << 30
_SPARE_BYTES = 64 << 20  # room that must be left, or the learner cannot even save the notebook
_CHUNK_BYTES = 1 << 20


@asynccontextmanager
async def upload(request: web.Request, folder: Path) -> AsyncIterator[Path]:
    """Keep the body of a request in a file for as long as the block runs.

    Parameters
    ----------
    request : aiohttp.web.Request
    folder : Path
        Where the file is made.

    Yields
    ------
    Path
        The file; it is deleted afterwards.

    Raises
    ------
    RefusalError
        413 or 500: it is too large, or the disk has no room.
    """
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    file, name = tempfile.mkstemp(prefix="upload-", dir=folder)
    path = Path(name)
    try:
        taken = 0
        async for chunk in request.content.iter_chunked(_CHUNK_BYTES):
            taken += len(chunk)
            if taken > LIMIT_BYTES:
                raise RefusalError(413, f"the request is too large: at most {LIMIT_BYTES >> 30} GiB are taken")
            await asyncio.to_thread(_write, file, chunk)
        os.close(file)
        file = -1
        yield path
    finally:
        if file >= 0:
            os.close(file)
        with contextlib.suppress(OSError):
            path.unlink()


def _write(file: int, chunk: bytes) -> None:
    try:
        if shutil.disk_usage(file).free < len(chunk) + _SPARE_BYTES:
            raise RefusalError(500, "write: no space left on device")
        view = memoryview(chunk)
        while view:
            view = view[os.write(file, view) :]
    except OSError as error:
        raise RefusalError(500, f"write: {(error.strerror or '').lower()}") from error
