"""How long does it take from asking for a container to the first answer of the web server in it?

The peer is Docker Engine in the same run, with the same image and through the same SDK.
"""

from __future__ import annotations

import http.client
import sys
import time
from collections.abc import Callable

from _bench import WEB, remove_all, report_each, rounds
from _engines import all_engines

from dockerlab.connect import Engine
from dockerlab.images import base, build

ROUNDS = 15
LABEL = "dockerlab.benchmark"
LIMITS = {"bubblewrap": 0.15, "proot": 0.3}


def first_answer(engine: Engine) -> Callable[[], float]:
    """Give the contender: create, start, ask until the page comes; seconds."""
    base.ensure(engine.client)
    image = build(engine.client, WEB, tag="web:bench1", args={"VERSION": "1"})
    api = engine.client.api

    def contend() -> float:
        begun_s = time.perf_counter()
        host_config = api.create_host_config(port_bindings={80: ("127.0.0.1", None)}, init=True)
        container = api.create_container(image.id, ports=[80], labels=[LABEL], host_config=host_config)["Id"]
        api.start(container)
        port = int(api.inspect_container(container)["NetworkSettings"]["Ports"]["80/tcp"][0]["HostPort"])
        while not _answers(port):
            time.sleep(0.001)
        seconds = time.perf_counter() - begun_s
        api.remove_container(container, force=True)
        return seconds

    return contend


def _answers(port: int) -> bool:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=2)
    try:
        connection.request("GET", "/healthz")
        return connection.getresponse().status == 200
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def main() -> int:
    """Measure and print."""
    with all_engines() as engines:
        contenders = {name: first_answer(engine) for name, engine in engines.items()}
        for contend in contenders.values():
            contend()  # the first of an image is not what is asked
        try:
            seconds = rounds(contenders, ROUNDS)
        finally:
            for engine in engines.values():
                remove_all(engine.client, LABEL)
    held = report_each("create and start to the first answer, {} against Docker Engine", seconds, LIMITS)
    return 0 if held else 1


if __name__ == "__main__":
    sys.exit(main())
