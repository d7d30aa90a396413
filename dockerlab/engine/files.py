"""Files of the engine: replaced as a whole, and removed whatever a container did to them. All functions block."""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
import threading
from pathlib import Path


def replace(path: Path, content: bytes) -> None:
    """Replace a file as a whole: whoever reads it, also after a crash, finds the old content or the new one."""
    aside = path.with_name(f".{path.name}.{os.getpid()}-{threading.get_ident()}.new")
    aside.write_bytes(content)
    aside.replace(path)


def remove(path: Path) -> None:
    """Delete a file or folder, also where a container took the permission to write from a folder; none is fine."""
    try:
        found = os.lstat(path)
    except FileNotFoundError:
        return
    if not stat.S_ISDIR(found.st_mode):
        path.unlink(missing_ok=True)
        return

    left = False

    def open_up(_function: object, name: str, _error: object) -> None:
        nonlocal left
        try:
            os.chmod(os.path.dirname(name), 0o700)
            if stat.S_ISDIR(os.lstat(name).st_mode):
                os.chmod(name, 0o700)
                os.rmdir(name)
            else:
                os.unlink(name)
        except FileNotFoundError:
            return
        except OSError:
            left = True

    try:
        shutil.rmtree(path, onerror=open_up)
    except RecursionError:  # a container can nest folders deeper than Python can follow
        left = True
    if left:
        for command in (["chmod", "-R", "u+rwX"], ["rm", "-rf"]):
            subprocess.run([*command, "--", str(path)], check=False, capture_output=True)
