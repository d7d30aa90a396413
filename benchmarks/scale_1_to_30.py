"""How long does it take from 1 replica to 30, all healthy and in the router?

Peers on the same engine, with the same image, the same published port and the same number of containers:
`docker compose up --scale` (which checks no health), and the bare engine through the SDK with 4 threads.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from _bench import remove_all, report, rounds, scale_up, web_image

from dockerlab.lab import Lab

TARGET, ROUNDS, THREADS = 30, 3, 4
LABEL = "dockerlab.benchmark"


def main() -> int:
    """Measure and print."""
    with Lab() as lab, tempfile.TemporaryDirectory() as folder:
        image = web_image(lab, 1)
        api = lab.client.api

        compose_file = Path(folder) / "compose.yaml"
        compose_file.write_text(
            f"services:\n  web:\n    image: {image.name}\n    ports: ['127.0.0.1::80']\n    labels: ['{LABEL}']\n",
            encoding="utf-8",
        )
        program = Path(sys.executable).with_name("docker-compose")

        def compose(*words: str) -> None:
            command = [str(program), "--progress", "quiet", "-p", "dockerlab-bench", "-f", str(compose_file), *words]
            subprocess.run(command, check=True, capture_output=True)

        def by_compose() -> float:
            compose("up", "-d")
            begun_s = time.perf_counter()
            compose("up", "-d", "--scale", f"web={TARGET}")
            seconds = time.perf_counter() - begun_s
            assert len(api.containers(filters={"label": LABEL})) == TARGET
            remove_all(lab.client, LABEL)
            compose("down")
            return seconds

        def start_one(_: int) -> None:
            host_config = api.create_host_config(port_bindings={80: ("127.0.0.1", None)})
            container = api.create_container(image.id, ports=[80], labels=[LABEL], host_config=host_config)
            api.start(container["Id"])

        def bare() -> float:
            start_one(0)
            with ThreadPoolExecutor(THREADS) as pool:
                begun_s = time.perf_counter()
                list(pool.map(start_one, range(TARGET - 1)))
                seconds = time.perf_counter() - begun_s
            remove_all(lab.client, LABEL)
            return seconds

        try:
            seconds = rounds({"ours": scale_up(lab, image, TARGET), "compose": by_compose, "bare": bare}, ROUNDS)
        finally:
            remove_all(lab.client, LABEL)
    held = [
        report(
            "1 to 30 replicas, healthy and routed, against docker compose",
            seconds["ours"],
            seconds["compose"],
            limit=0.6,
        ),
        report(
            "1 to 30 replicas, healthy and routed, against the bare engine", seconds["ours"], seconds["bare"], limit=1.2
        ),
    ]
    return 0 if all(held) else 1


if __name__ == "__main__":
    sys.exit(main())
