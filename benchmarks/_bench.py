"""What the benchmarks share: rounds in turn, medians of ratios, one JSON line a question."""

from __future__ import annotations

import json
import statistics
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import docker

from dockerlab.images import Image, build
from dockerlab.lab import Lab

WEB = Path(__file__).parents[1] / "notebooks" / "apps" / "web"


def rounds(contenders: Mapping[str, Callable[[], float]], count: int) -> dict[str, list[float]]:
    """Let the contenders run in turn, `count` times, so that a slow spell of the machine hits all alike.

    The first of a round is another one each time.
    """
    seconds: dict[str, list[float]] = {name: [] for name in contenders}
    names = list(contenders)
    for turn in range(count):
        shift = turn % len(names)
        for name in names[shift:] + names[:shift]:
            seconds[name].append(contenders[name]())
            print(f"  {name}: {seconds[name][-1]:.2f}", file=sys.stderr)
    return seconds


def report(
    question: str,
    ours: Sequence[float],
    peer: Sequence[float],
    *,
    limit: float,
    unit: str = "s",
    more: Mapping[str, object] | None = None,
) -> bool:
    """Print the JSON line of a comparison: medians, and the median of the ratios round by round; `more` goes last."""
    ratio = statistics.median(a / b for a, b in zip(ours, peer, strict=True))
    holds = ratio <= limit
    line = {
        "question": question,
        "ours": round(statistics.median(ours), 3),
        "peer": round(statistics.median(peer), 3),
        "unit": unit,
        "ratio": round(ratio, 3),
        "limit": limit,
        "n": len(ours),
        "holds": holds,
        **(more or {}),
    }
    print(json.dumps(line), flush=True)
    return holds


def report_each(
    question: str, seconds: Mapping[str, Sequence[float]], limits: Mapping[str, float], *, peer: str = "docker"
) -> bool:
    """Print a JSON line for each contender that was there, against one peer; `question` has a place for its name."""
    there = [name for name in limits if name in seconds]
    held = [report(question.format(name), seconds[name], seconds[peer], limit=limits[name]) for name in there]
    return all(held)


def scale_up(lab: Lab, image: Image, target: int) -> Callable[[], float]:
    """Give the contender that takes a fleet from 1 replica to so many, all healthy and in the router; seconds."""

    def contend() -> float:
        web = lab.fleet("web", image, replicas=1)
        begun_s = time.perf_counter()
        status = web.scale(target)
        seconds = time.perf_counter() - begun_s
        assert status.ready == target
        web.remove()
        return seconds

    return contend


def web_image(lab: Lab, version: int) -> Image:
    """Build the sample service."""
    return build(lab.client, WEB, tag=f"web:bench{version}", args={"VERSION": str(version)})


def remove_all(client: docker.DockerClient, label: str) -> None:
    """Remove every container with a label."""
    for row in client.api.containers(all=True, filters={"label": label}):
        client.api.remove_container(row["Id"], force=True, v=True)
