"""Ten rollouts in a row under load, by each strategy that promises it, and not one request lost."""

from __future__ import annotations

import time

import pytest

import dockerlab as dl
from dockerlab.fleet.strategies import Strategy
from dockerlab.images import Image
from dockerlab.lab import Lab

REPLICAS, RUNS, WORK_MS, LOAD = 10, 10, 50, 0.7


@pytest.mark.nightly
@pytest.mark.timeout(900)
@pytest.mark.parametrize(
    "strategy",
    [
        dl.RollingUpdate(),
        dl.BlueGreen(scale_down_delay_s=1, analysis=dl.Analysis(1)),
        dl.Canary([dl.SetWeight(10), dl.Pause(1), dl.SetWeight(50), dl.Analysis(1)]),
    ],
    ids=lambda strategy: type(strategy).__name__,
)
def test_ten_rollouts_at_70_percent_lose_nothing(lab: Lab, web1: Image, web2: Image, strategy: Strategy) -> None:
    web = lab.fleet("web", web1, replicas=REPLICAS, env={"WORK_MS": str(WORK_MS)})
    for run in range(RUNS):
        with lab.traffic(web.url, rate=LOAD * REPLICAS * 1000 / WORK_MS) as traffic:
            time.sleep(1)
            rollout = web.rollout([web2, web1][run % 2], strategy)
            time.sleep(1)
        summary = traffic.results.summary()
        assert rollout.status == "Complete"
        assert summary.sent_share >= 0.99
        assert summary.lost == 0, f"run {run + 1}: {summary}"
        print(f"run {run + 1}: {summary.scheduled} requests, {summary.router_retries} retries by the router")
