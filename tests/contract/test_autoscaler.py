"""The autoscaler on a real fleet: it follows the load, ends cleanly, and tells what went wrong."""

from __future__ import annotations

import os
import signal
import threading
import time

import pytest
from support import until

from dockerlab.autoscale.autoscaler import Autoscaler
from dockerlab.autoscale.policy import AutoscalePolicy
from dockerlab.course.exercises import exercise
from dockerlab.errors import BadInputError, FleetError, RouterError
from dockerlab.fleet.fleet import Fleet
from dockerlab.images import Image
from dockerlab.lab import Lab

LESSON = AutoscalePolicy(target=1, max_replicas=4).faster(60)


def threads() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("autoscale")]


def whole(web: Fleet) -> bool:
    status = web.status()
    return all(row.ready for row in status.replicas) and len(status.replicas) == status.desired


@pytest.mark.parametrize(("metric", "target"), [("in_flight", 1.0), ("rate", 5.0), ("latency", 0.06)])
def test_it_follows_the_load_up_and_down(lab: Lab, web1: Image, metric: str, target: float) -> None:
    web, other = lab.fleet("web", web1), lab.fleet("other", web1)
    policy = AutoscalePolicy(target=target, max_replicas=3).faster(150)
    with Autoscaler(web, policy, metric=metric) as scaler:  # type: ignore[arg-type]
        assert threads()
        with lab.traffic(web.url, rate=30):
            until(lambda: web.replicas > 1)
        if metric == "latency":  # without requests there is none, and then nothing changes
            until(lambda: scaler.decisions[-1].rule == "no metric")
        else:
            until(lambda: web.replicas == 1)
    assert threads() == []
    assert whole(web)
    assert (other.replicas, [event.kind for event in other.events]) == (1, ["started", "ready"])
    grown = next(decision for decision in scaler.decisions if decision.changes)
    assert (grown.current, grown.recommended > 1) == (1, True)
    assert grown.metric is not None
    assert grown.metric > target
    assert {decision.replicas for decision in scaler.decisions} <= {1, 2, 3}
    moves = [(decision.current, decision.replicas) for decision in scaler.decisions if decision.changes]
    told = [event.text for event in web.events if event.kind == "scaled"]
    assert told == [f"from {before} to {after} replicas" for before, after in moves]
    span_s = scaler.decisions[-1].time_s - scaler.decisions[0].time_s
    assert span_s < scaler.replica_seconds < 3.5 * (span_s + 60)


def test_a_quiet_fleet_stays_and_a_small_one_is_brought_to_its_least(lab: Lab, web1: Image) -> None:
    web = lab.fleet("web", web1)
    policy = AutoscalePolicy(target=1, min_replicas=2, max_replicas=3).faster(60)
    with Autoscaler(web, policy) as scaler:
        until(lambda: len(scaler.decisions) > 6)
    assert [d.rule for d in scaler.decisions if d.changes] == ["bounds"]
    assert web.status().ready == 2


def test_the_router_counts_requests_and_knows_who_gets_them(lab: Lab, web1: Image) -> None:
    web = lab.fleet("web", web1, replicas=2)
    api = web._control.router.api
    before = api.load()
    assert all(ready and in_flight == 0 for ready, in_flight, _ in before.values())
    with lab.traffic(web.url, rate=20, duration_s=1) as traffic:
        until(lambda: sum(in_flight for _, in_flight, _ in api.load().values()) > 0)
        traffic.wait()
    after = api.load()
    assert sum(after[name][2] - before[name][2] for name in after) == len(traffic.results)
    name = next(iter(after))
    api.drain(name)
    assert not api.load()[name][0]
    api.admit(name)


def test_a_fleet_that_is_removed_ends_it_without_an_error(lab: Lab, web1: Image) -> None:
    web = lab.fleet("web", web1)
    with Autoscaler(web, LESSON) as scaler:
        assert scaler.ended == ""
        web.remove()
        until(lambda: not scaler.running)
        assert threads() == []
        cost = scaler.replica_seconds
    assert scaler.ended == "The fleet has been removed."
    assert "The fleet has been removed, " in repr(scaler)
    assert scaler.replica_seconds == cost


def test_a_scaling_that_fails_is_raised_at_the_end_of_the_block(
    lab: Lab, web1: Image, monkeypatch: pytest.MonkeyPatch
) -> None:
    web = lab.fleet("web", web1)
    scaler = Autoscaler(web, AutoscalePolicy(target=1, min_replicas=2).faster(60))

    def scale(replicas: int) -> None:
        raise FleetError(f"{replicas} replicas are too many.")

    def block() -> None:
        with scaler:
            until(lambda: not scaler.running)

    monkeypatch.setattr(web, "scale", scale)
    with pytest.raises(FleetError, match="2 replicas are too many"):
        block()
    assert (scaler.running, scaler.ended) == (False, "")


def test_the_blocks_own_error_is_the_one_to_see(lab: Lab, web1: Image) -> None:
    web = lab.fleet("web", web1)

    def block() -> None:
        with Autoscaler(web, LESSON):
            web.remove()
            until(lambda: not threads())
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        block()
    assert threads() == []


def test_a_router_that_is_gone_is_no_metric_and_is_told(lab: Lab, web1: Image) -> None:
    web = lab.fleet("web", web1)
    scaler = Autoscaler(web, LESSON)

    def block() -> None:
        with scaler:
            web._control.router.stop()
            until(lambda: bool(scaler.decisions) and scaler.decisions[-1].rule == "no metric")

    with pytest.raises(RouterError, match="does not answer"):
        block()
    assert web.replicas == 1
    assert web.scale(2).ready == 2


def test_stop_in_the_middle_of_scaling_leaves_a_whole_fleet_and_no_thread(lab: Lab, web1: Image) -> None:
    web = lab.fleet("web", web1)
    scaler = Autoscaler(web, LESSON)

    def press() -> None:
        until(lambda: any(decision.changes for decision in scaler.decisions))
        for _ in range(3):  # an impatient learner
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(0.05)

    presser = threading.Thread(target=press)

    def block() -> None:
        with lab.traffic(web.url, rate=60):
            try:
                with scaler:
                    presser.start()
                    time.sleep(60)
            finally:
                until(lambda: not presser.is_alive())

    with pytest.raises(KeyboardInterrupt):
        block()
    assert threads() == []
    assert not scaler.running
    assert whole(web)
    assert web.replicas > 1


def test_it_runs_once_at_a_time_and_can_run_again(lab: Lab, web1: Image) -> None:
    web = lab.fleet("web", web1)
    with pytest.raises(BadInputError, match="in_flight"):
        Autoscaler(web, LESSON, metric="cpu")  # type: ignore[arg-type]
    scaler = Autoscaler(web, LESSON)
    with scaler:
        until(lambda: len(scaler.decisions) >= 2)
        with pytest.raises(BadInputError, match="running already"):
            scaler.__enter__()
    first = scaler.decisions
    with scaler:
        assert scaler.decisions == ()
    assert len(first) >= 2
    assert threads() == []


@pytest.mark.nightly  # `make run` solves it, too
def test_the_exercise(lab: Lab, web1: Image) -> None:
    task = exercise("night_shift", lab)

    def wrong(results: object = None) -> list[str]:
        return [f.key for f in task.check(results).findings if not f.ok]  # type: ignore[arg-type]

    assert wrong() == ["fleet"]
    web = lab.fleet("web", web1, replicas=5, env={"WORK_MS": "100"})
    assert wrong() == ["load"]
    with lab.traffic(web.url, rate=20, duration_s=1) as traffic:
        traffic.wait()
    assert wrong(traffic.results) == ["load"]

    night = [(10, 2), (45, 4), (10, 6)]
    with lab.traffic(web.url, rate=night) as traffic:
        traffic.wait()
    assert {"followed", "cost"} <= set(wrong(traffic.results)), "five all the time"

    web.scale(1)
    with lab.traffic(web.url, rate=night) as traffic, Autoscaler(web, AutoscalePolicy(target=2).faster(3)):
        traffic.wait()
    assert "lost" in wrong(traffic.results), "too slow"
