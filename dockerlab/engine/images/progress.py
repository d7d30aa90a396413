"""How far a pull or push is, in Docker's messages."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

Progress = Callable[[dict[str, Any]], None]
_REPORT_S = 0.1


class Meter:
    """Tells how far one layer is, not more often than somebody can see."""

    def __init__(self, progress: Progress, status: str, name: str, total: int) -> None:
        self._progress, self._status, self._name, self._total = progress, status, name, total
        self._told_s = 0.0

    def tell(self, current: int) -> None:
        """Say that so many bytes are done."""
        now = time.monotonic()
        if now - self._told_s >= _REPORT_S or current == self._total:
            self._told_s = now
            share = min(1.0, current / self._total if self._total else 1.0)
            bar = ("=" * int(share * 49) + ">").ljust(50)
            self._progress(
                {
                    "status": self._status,
                    "progressDetail": {"current": current, "total": self._total},
                    "progress": f"[{bar}]  {_size(current)}/{_size(self._total)}",
                    "id": self._name,
                }
            )


def short(digest: str) -> str:
    """Give the beginning of a digest, by which messages name a layer."""
    return digest.removeprefix("sha256:")[:12]


def _size(count: float) -> str:
    """Write a size as Docker's progress bars do."""
    for unit in ("B", "kB", "MB"):
        if count < 1000:
            return f"{count:.4g}{unit}"
        count /= 1000
    return f"{count:.4g}GB"
