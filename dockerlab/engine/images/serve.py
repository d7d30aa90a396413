"""A small registry of this machine.

Run it with ``python -m dockerlab.engine.images.serve FOLDER PORT``; port 0 takes a free one, and the address is
printed. Docker takes a registry on loopback without TLS, so it listens nowhere else.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import signal
import socket
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from aiohttp import web

from dockerlab.engine.images.service import make_app


async def serve(folder: Path, port: int, *, said: Callable[[str], None]) -> None:
    """Serve until SIGTERM or SIGINT, or until this task is cancelled.

    Parameters
    ----------
    folder : Path
        Where everything is stored.
    port : int
        On 127.0.0.1; 0 takes a free one.
    said : callable
        Given the address once it listens.

    Raises
    ------
    OSError
        The port is taken.
    """
    listener = socket.create_server(("127.0.0.1", port), backlog=128)
    runner = web.AppRunner(make_app(folder), access_log=None, shutdown_timeout=2)
    await runner.setup()
    try:
        await web.SockSite(runner, listener).start()
        ended = asyncio.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            with contextlib.suppress(NotImplementedError):  # on Windows, where whoever ends it asks nobody
                asyncio.get_running_loop().add_signal_handler(number, ended.set)
        said(f"127.0.0.1:{listener.getsockname()[1]}")
        await ended.wait()
    finally:
        await runner.cleanup()


def main(arguments: Sequence[str] | None = None) -> None:
    """Run a registry from the command line."""
    parser = argparse.ArgumentParser(prog="python -m dockerlab.engine.images.serve", description=__doc__)
    parser.add_argument("folder", type=Path, help="where the images are stored")
    parser.add_argument("port", type=int, help="port on 127.0.0.1; 0 takes a free one")
    chosen = parser.parse_args(arguments)

    def said(address: str) -> None:
        sys.stdout.write(f"{address}\n")
        sys.stdout.flush()

    try:
        asyncio.run(serve(chosen.folder, chosen.port, said=said))
    except OSError as error:
        sys.exit(f"The registry cannot listen on port {chosen.port} of 127.0.0.1: {os.strerror(error.errno or 0)}.")


if __name__ == "__main__":
    main()
