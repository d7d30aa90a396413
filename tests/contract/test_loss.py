"""Ten rolling updates in a row under load, and not one request lost."""

from __future__ import annotations

import time

import pytest

from dockerlab.images import Image
from dockerlab.lab import Lab

REPLICAS, RUNS, WORK_MS, LOAD = 10, 10, 50, 0.7


@pytest.mark.nightly
@pytest.mark.timeout(900)
def test_ten_rolling_updates_at_70_percent_lose_nothing(lab: Lab, web1: Image, web2: Image) -> None:
    web = lab.fleet("web", web1, replicas=REPLICAS, env={"WORK_MS": str(WORK_MS)})
    for run in range(RUNS):
        with lab.traffic(web.url, rate=LOAD * REPLICAS * 1000 / WORK_MS) as traffic:
            time.sleep(1)
            rollout = web.rollout([web2, web1][run % 2])
            time.sleep(1)
        summary = traffic.results.summary()
        assert rollout.status == "Complete"
        assert summary.sent_share >= 0.99
        assert summary.lost == 0, f"run {run + 1}: {summary}"
