"""How long does a build of five steps take without the cache?

The peer is Docker Engine's classic builder in the same run, with the same build folder.
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from _bench import report_each, rounds
from _engines import ISOLATORS, all_engines

from dockerlab.connect import Engine
from dockerlab.images import base, build

ROUNDS = 7
LIMIT = 0.5
DOCKERFILE = """\
FROM dockerlab/base:1
COPY settings /etc/settings
RUN echo one > /one
RUN mkdir /srv && cp /one /srv/two
ENV GREETING=hello
CMD ["sh", "-c", "cat /srv/two"]
"""


def five_steps(engine: Engine, folder: Path) -> Callable[[], float]:
    """Give the contender: build, seconds."""
    base.ensure(engine.client)

    def contend() -> float:
        begun_s = time.perf_counter()
        build(engine.client, folder, tag="steps:bench", no_cache=True)
        return time.perf_counter() - begun_s

    return contend


def main() -> int:
    """Measure and print."""
    with all_engines() as engines, tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        (folder / "Dockerfile").write_text(DOCKERFILE, encoding="utf-8")
        (folder / "settings").write_text("colour=blue\n", encoding="utf-8")
        try:
            seconds = rounds({name: five_steps(engine, folder) for name, engine in engines.items()}, ROUNDS)
        finally:
            for engine in engines.values():
                engine.client.api.remove_image("steps:bench", force=True)
                engine.client.images.prune({"label": "dockerlab.benchmark"})
    held = report_each("a build of five steps, {} against Docker Engine", seconds, dict.fromkeys(ISOLATORS, LIMIT))
    return 0 if held else 1


if __name__ == "__main__":
    sys.exit(main())
