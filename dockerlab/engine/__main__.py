"""``python -m dockerlab.engine``: the engine as a process."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path


def main() -> int:
    """Run the engine until it is told to end."""
    parser = argparse.ArgumentParser(prog="python -m dockerlab.engine", description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="folder for what stays")
    parser.add_argument("--runtime", type=Path, required=True, help="folder for the socket")
    parser.add_argument("--isolation", default="", help="bubblewrap or proot; the best that works when left out")
    parser.add_argument("--idle-exit", type=float, default=0.0, metavar="SECONDS", help="end after so long idle")
    parser.add_argument("--detach", action="store_true", help="go on in the background")
    parser.add_argument("--ready", type=int, default=-1, metavar="FD", help="where to say that it listens")
    options = parser.parse_args()
    if options.detach and os.fork():
        # The child belongs to no session's leader and no parent of ours: it outlives both, and nobody is left to wait
        os._exit(0)
    if options.ready >= 0:
        os.set_inheritable(options.ready, False)
    from dockerlab.engine.places import Places  # noqa: PLC0415  after the fork, which should be quick
    from dockerlab.engine.server import serve  # noqa: PLC0415

    return serve(
        Places(options.data, options.runtime),
        isolation=options.isolation,
        idle_exit_s=options.idle_exit,
        ready=options.ready,
    )


if __name__ == "__main__":
    sys.exit(main())
