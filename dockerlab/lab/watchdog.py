"""Wait for a process to end, then remove what its ephemeral lab made. Run as a script; imports nothing of dockerlab.

It is a child of the process that it watches, in a session of its own, so that neither Ctrl-C nor kill -9 of the kernel
reaches it. When the parent has gone it runs `dockerlab clean`, for a minute where the engine does not answer.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time

POLL_S = 0.3
TRIES, PAUSE_S = 20, 3.0


def main() -> None:
    """Watch the process of the first argument for the lab of the second."""
    parent, name, package = int(sys.argv[1]), sys.argv[2], sys.argv[3]
    if os.name == "nt":
        sys.stdin.buffer.read()  # ends with the parent; its number stays on Windows
    else:
        while os.getppid() == parent:
            time.sleep(POLL_S)
    # `python -m` puts the present folder first on the path: it must be the package's, not the learner's.
    os.chdir(package)
    command = [sys.executable, "-m", "dockerlab", "clean", "--lab", name, "--yes"]
    for _ in range(TRIES):
        if subprocess.call(command) == 0:
            break
        time.sleep(PAUSE_S)  # the engine may be starting again


if __name__ == "__main__":
    main()
