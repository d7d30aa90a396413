"""What does `import dockerlab` cost beyond `import docker`?"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import time

ROUNDS = 15


def seconds(module: str) -> float:
    """Time a fresh interpreter that imports `module`."""
    begun_s = time.perf_counter()
    subprocess.run([sys.executable, "-c", f"import {module}"], check=True)
    return time.perf_counter() - begun_s


def main() -> int:
    """Measure and print."""
    for module in ("docker", "dockerlab"):
        seconds(module)
    pairs = [(seconds("dockerlab"), seconds("docker")) for _ in range(ROUNDS)]
    added = statistics.median(ours - peer for ours, peer in pairs)
    line = {
        "question": "seconds that import dockerlab adds to import docker",
        "ours": round(statistics.median(ours for ours, _ in pairs), 3),
        "peer": round(statistics.median(peer for _, peer in pairs), 3),
        "unit": "s",
        "ratio": round(statistics.median(ours / peer for ours, peer in pairs), 3),
        "added": round(added, 3),
        "limit": 0.15,
        "n": ROUNDS,
        "holds": added <= 0.15,
    }
    print(json.dumps(line), flush=True)
    return 0 if added <= 0.15 else 1


if __name__ == "__main__":
    sys.exit(main())
