"""Does one more container cost the same when many run already? And what does the engine cost when it has nothing to do?

The peer of the last ten containers are the first ten of the same run; that of the idle engine is its limit.
"""

from __future__ import annotations

import statistics
import sys
import time

import psutil
from _bench import WEB, remove_all, report
from _engines import ISOLATORS, embedded

from dockerlab.connect import Engine
from dockerlab.images import base, build

MANY = {"bubblewrap": 300, "proot": 50}
LABEL = "dockerlab.benchmark"
FLAT = 1.5  # "flat" leaves room for the noise of a machine
IDLE_MB, IDLE_SHARE = 80, 0.01
IDLE_S = 10


def one_more(engine: Engine, count: int) -> list[float]:
    """Start so many containers one after the other; seconds of each."""
    api = engine.client.api
    seconds = []
    for _ in range(count):
        begun_s = time.perf_counter()
        host_config = api.create_host_config(port_bindings={80: ("127.0.0.1", None)})
        api.start(api.create_container("web:bench1", ports=[80], labels=[LABEL], host_config=host_config)["Id"])
        seconds.append(time.perf_counter() - begun_s)
    return seconds


def idle(engine: Engine) -> tuple[float, float]:
    """Give the memory (MB) and the share of a core that the engine takes when nobody asks anything."""
    process = psutil.Process(int(engine.client.info()["Dockerlab"]["Pid"]))
    family = [process, *process.children()]
    before_s = sum(sum(one.cpu_times()[:2]) for one in family)
    time.sleep(IDLE_S)
    after_s = sum(sum(one.cpu_times()[:2]) for one in family)
    return sum(one.memory_info().rss for one in family) / 1e6, (after_s - before_s) / IDLE_S


def main() -> int:
    """Measure and print."""
    held = []
    for isolator in ISOLATORS:
        with embedded(isolator) as engine:
            base.ensure(engine.client)
            build(engine.client, WEB, tag="web:bench1", args={"VERSION": "1"})
            memory_mb, share = idle(engine)
            count = MANY[isolator]
            seconds = one_more(engine, count + 10)[5:]
            print(f"  {isolator}: {statistics.mean(seconds):.4f} s each", file=sys.stderr)
            held += [
                report(f"one more container with {count} running, {isolator}", seconds[-10:], seconds[:10], limit=FLAT),
                report(f"memory of the idle engine, {isolator}", [memory_mb], [IDLE_MB], limit=1, unit="MB"),
                report(f"share of a core of the idle engine, {isolator}", [share], [IDLE_SHARE], limit=1, unit="cores"),
            ]
            remove_all(engine.client, LABEL)
    return 0 if all(held) else 1


if __name__ == "__main__":
    sys.exit(main())
