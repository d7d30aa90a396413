"""How many requests does a rolling update of 10 replicas lose at 70 % of their capacity, in 10 runs in a row?

The peer is Recreate on the same fleet under the same load.
"""

from __future__ import annotations

import json
import sys
import time

from _bench import web_image

import dockerlab as dl
from dockerlab.lab import Lab

REPLICAS, RUNS, WORK_MS, LOAD = 10, 10, 50, 0.7


def main() -> int:
    """Measure and print."""
    rate = LOAD * REPLICAS * 1000 / WORK_MS
    with Lab() as lab:
        images = [web_image(lab, 1), web_image(lab, 2)]
        web = lab.fleet("web", images[0], replicas=REPLICAS, env={"WORK_MS": str(WORK_MS)})

        def lost(run: int, strategy: dl.Recreate | dl.RollingUpdate) -> dict[str, float]:
            with lab.traffic(web.url, rate=rate) as traffic:
                time.sleep(1)
                rollout = web.rollout(images[(run + 1) % 2], strategy)
                time.sleep(1)
            summary = traffic.results.summary()
            assert rollout.status == "Complete"
            assert summary.sent_share >= 0.99
            row = {
                "lost": summary.lost,
                "sent": summary.sent,
                "retries": summary.router_retries or 0,
                "p95_ms": round(1000 * (summary.p95_s or 0)),
                "seconds": round(rollout.duration_s, 2),
            }
            print(f"  {type(strategy).__name__}: {row}", file=sys.stderr)
            return row

        rolling = [lost(run, dl.RollingUpdate()) for run in range(RUNS)]
        recreate = lost(RUNS, dl.Recreate())
    worst = max(row["lost"] for row in rolling)
    line = {
        "question": f"requests lost: rolling update of {REPLICAS} replicas at {LOAD:.0%} load, worst of {RUNS} runs",
        "ours": worst,
        "peer": recreate["lost"],
        "unit": "requests",
        "ratio": round(worst / recreate["lost"], 3) if recreate["lost"] else None,
        "limit": 0,
        "n": RUNS,
        "holds": worst == 0,
        "sent": sum(row["sent"] for row in rolling),
        "router_retries": sum(row["retries"] for row in rolling),
    }
    print(json.dumps(line), flush=True)
    return 0 if worst == 0 else 1


if __name__ == "__main__":
    sys.exit(main())
