"""BlueGreen and Canary on a real engine, under real requests: paused, promoted, aborted, killed and resumed."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from collections import Counter

import pytest
from support import until
from test_fleet import ask, containers

import dockerlab as dl
from dockerlab.errors import BadInputError, FleetError
from dockerlab.fleet.fleet import Fleet
from dockerlab.fleet.strategies import Strategy
from dockerlab.images import Image
from dockerlab.lab import Lab
from dockerlab.traffic.results import Results

FAST = {"WORK_MS": "20"}


def images(web: Fleet) -> set[str]:
    status = web.status()
    assert status.ready == status.desired == len(status.replicas)
    return {row.image for row in status.replicas}


def lost_after(results: Results, time_s: float) -> int:
    """Count the requests that were sent after a moment, and lost."""
    return sum(bool(error) for sent_s, error in zip(results.sent_s, results.error, strict=True) if sent_s > time_s)


def test_blue_green_shows_the_new_version_before_anybody_gets_it(lab: Lab, web1: Image, web2: Image) -> None:
    web = lab.fleet("web", web1, replicas=3, env=FAST)
    with lab.traffic(web.url, rate=60) as traffic:
        time.sleep(0.5)
        rollout = web.rollout(web2, dl.BlueGreen(auto_promote=False, scale_down_delay_s=0.5))
        assert (rollout.status, rollout.reason) == ("Paused", "somebody to promote it")
        assert web.status().phase == "Paused"
        assert len(containers(lab)) == 6
        assert [ask(web.preview_url)["version"] for _ in range(5)] == ["2"] * 5
        assert [ask(web.url)["version"] for _ in range(5)] == ["1"] * 5
        done = web.promote()
        time.sleep(0.5)
    assert done.status == "Complete"
    assert images(web) == {web2.name}
    assert [event.kind for event in done.events if event.kind in ("weight", "complete")] == ["weight", "complete"]
    results = traffic.results
    switched_s = next(event.time_s for event in done.events if event.kind == "weight")
    assert results.summary().lost == 0
    sent = zip(results.sent_s, results.version, strict=True)
    assert {version for sent_s, version in sent if sent_s < switched_s - 0.1} == {"1"}
    # The next one uses the other pool, and so on.
    assert web.rollout(web1, dl.BlueGreen(scale_down_delay_s=0)).status == "Complete"
    assert ask(web.url)["version"] == "1"


def test_a_canary_gets_its_share_and_then_everything(lab: Lab, web1: Image, web2: Image) -> None:
    web = lab.fleet("web", web1, replicas=4, env=FAST)
    strategy = dl.Canary([dl.SetWeight(25), dl.Pause(4), dl.SetWeight(75), dl.Analysis(1)])
    with lab.traffic(web.url, rate=80) as traffic:
        time.sleep(0.5)
        rollout = web.rollout(web2, strategy)
        time.sleep(0.5)
    assert rollout.status == "Complete"
    assert images(web) == {web2.name}
    assert traffic.results.summary().lost == 0
    times = {event.text: event.time_s for event in rollout.events if event.kind in ("weight", "step")}
    from_s, to_s = times["25 % of the requests go to revision 2"], times["on to step 3"]
    between = [
        version
        for sent_s, version in zip(traffic.results.sent_s, traffic.results.version, strict=True)
        if from_s + 0.1 < sent_s < to_s - 0.1
    ]
    # About 300 requests: five standard deviations around a quarter.
    assert 0.12 < between.count("2") / len(between) < 0.38


@pytest.mark.parametrize("strategy", ["canary", "blue-green"])
def test_a_version_that_fails_now_and_then_is_rolled_back(lab: Lab, web1: Image, web2: Image, strategy: str) -> None:
    web = lab.fleet("web", web1, replicas=4, env=FAST)
    careful = {
        "canary": dl.Canary([dl.SetWeight(25), dl.Analysis(10)]),
        "blue-green": dl.BlueGreen(analysis=dl.Analysis(10), scale_down_delay_s=0),
    }[strategy]
    with lab.traffic(web.url, rate=80) as traffic:
        time.sleep(0.5)
        rollout = web.rollout(web2, careful, env={**FAST, "FAIL_RATE": "20"})
        time.sleep(1)
    assert rollout.status == "RolledBack"
    assert "requests to the new revision were lost" in rollout.reason
    assert images(web) == {web1.name}
    summary = traffic.results.summary()
    back_s = max(event.time_s for event in rollout.events if event.kind == "weight")
    assert 0 < summary.lost < (0.25 if strategy == "canary" else 1.0) * summary.scheduled
    assert lost_after(traffic.results, back_s + 0.2) == 0
    assert web.revision == 1


@pytest.mark.parametrize(
    "bad",
    [
        pytest.param({"HEALTH": "never"}, id="unhealthy"),
        pytest.param({"PORT": "81"}, id="elsewhere", marks=pytest.mark.nightly),
        pytest.param({"WARMUP_S": "60"}, id="slow", marks=pytest.mark.nightly),
    ],
)
def test_a_canary_that_never_gets_healthy_gets_no_request(
    lab: Lab, web1: Image, web2: Image, bad: dict[str, str]
) -> None:
    web = lab.fleet("web", web1, replicas=2)
    with lab.traffic(web.url, rate=20) as traffic:
        rollout = web.rollout(web2, dl.Canary([dl.SetWeight(50)], progress_deadline_s=2), env=bad)
    assert rollout.status == "RolledBack"
    assert "did not become healthy within 2 s" in rollout.reason
    summary = traffic.results.summary()
    assert (summary.lost, set(traffic.results.by_version())) == (0, {"1"})
    assert images(web) == {web1.name}


def paused_canary(lab: Lab, web1: Image, web2: Image, name: str = "web") -> Fleet:
    web = lab.fleet(name, web1, replicas=3, env=FAST)
    assert web.rollout(web2, dl.Canary([dl.SetWeight(40), dl.Pause(), dl.SetWeight(60), dl.Pause()])).status == "Paused"
    return web


def test_a_paused_canary_is_promoted_step_by_step_or_at_once(lab: Lab, web1: Image, web2: Image) -> None:
    web = paused_canary(lab, web1, web2)
    again = web.promote()
    assert (again.status, web.status().phase) == ("Paused", "Paused")
    assert web.resume().status == "Paused"  # nobody has said that it is good
    assert web.promote(full=True).status == "Complete"
    assert images(web) == {web2.name}


def test_a_paused_canary_is_aborted(lab: Lab, web1: Image, web2: Image) -> None:
    web = paused_canary(lab, web1, web2)
    result = web.abort()
    assert (result.status, result.reason) == ("RolledBack", "It was aborted.")
    assert images(web) == {web1.name}
    assert {ask(web.url)["version"] for _ in range(5)} == {"1"}
    for refused in (web.abort, web.resume, web.promote):
        with pytest.raises(FleetError, match="under way or paused"):
            refused()


def test_while_a_canary_waits_both_revisions_are_kept_and_scaled(lab: Lab, web1: Image, web2: Image) -> None:
    web = paused_canary(lab, web1, web2)
    assert web.promote().status == "Paused"  # at 60 %

    def there() -> Counter[int]:
        rows = web.status().replicas
        assert all(row.ready for row in rows)
        return Counter(row.revision for row in rows)

    assert there() == {1: 3, 2: 2}
    for revision in (1, 2):
        lab.client.api.kill(next(row.id for row in web.status().replicas if row.revision == revision))
    web.repair()
    assert there() == {1: 3, 2: 2}
    web.replace(next(row.name for row in web.status().replicas if row.revision == 2))
    assert there() == {1: 3, 2: 2}
    web.scale(5)
    assert there() == {1: 5, 2: 4}
    web.scale(3)
    assert there() == {1: 3, 2: 3}
    assert web._control.router.api.look().green == 60
    assert web.promote(full=True).status == "Complete"
    assert images(web) == {web2.name}


def test_after_the_switch_only_what_serves_is_kept(lab: Lab, web1: Image, web2: Image) -> None:
    web = lab.fleet("web", web1, replicas=2, env=FAST)
    results: list[dl.Rollout] = []
    thread = threading.Thread(target=lambda: results.append(web.rollout(web2, dl.BlueGreen(scale_down_delay_s=600))))
    thread.start()
    until(lambda: any(event.kind == "weight" for event in web.events))
    web.pause()
    thread.join(20)
    assert [result.status for result in results] == ["Paused"]
    web.scale(3)
    assert Counter(row.revision for row in web.status().replicas) == {1: 2, 2: 3}
    assert {ask(web.url)["version"] for _ in range(5)} == {"2"}
    assert web.abort().status == "RolledBack"
    assert Counter(row.revision for row in web.status().replicas) == {1: 3}


def test_an_equal_rollout_goes_on_and_another_one_takes_over(lab: Lab, web1: Image, web2: Image) -> None:
    web = paused_canary(lab, web1, web2)
    names = {row.name for row in web.status().replicas}
    same = web.rollout(web2, dl.Canary([dl.SetWeight(40), dl.Pause(), dl.SetWeight(60), dl.Pause()]))
    assert same.status == "Paused"
    assert {row.name for row in web.status().replicas} == names
    assert web.scale(4).desired == 4
    assert web.rollback().status == "Complete"
    assert images(web) == {web1.name}
    assert paused_canary(lab, web1, web2).rollout(web2, dl.RollingUpdate()).status == "Complete"
    assert images(web) == {web2.name}
    nothing = web.rollout(web2, dl.Canary())
    assert (nothing.status, nothing.events) == ("Complete", ())


def test_a_rollout_of_another_thread_is_paused_and_replaced(lab: Lab, web1: Image, web2: Image) -> None:
    web = lab.fleet("web", web1, replicas=2, env=FAST)
    with pytest.raises(FleetError, match="No rollout"):
        web.pause()
    results: list[dl.Rollout] = []
    slow = dl.Canary([dl.SetWeight(50), dl.Pause(60)])

    def roll() -> None:
        results.append(web.rollout(web2, slow))

    for interrupt in (web.pause, lambda: web.rollout(web1)):
        thread = threading.Thread(target=roll)
        thread.start()
        until(lambda: web.status().phase == "Progressing" and any(e.kind == "weight" for e in web.events[-3:]))
        interrupt()
        thread.join(20)
        assert [result.status for result in results] == ["Paused"]
        results.clear()
        if interrupt == web.pause:
            assert web.status().phase == "Paused"
            assert web.abort().status == "RolledBack"
    assert images(web) == {web1.name}


DRIVER = """
import sys
import dockerlab as dl
lab = dl.Lab(sys.argv[1])
web = lab.fleet("web", sys.argv[2], replicas=3)
print(web.url, flush=True)
web.rollout(sys.argv[3], dl.Canary([dl.SetWeight(40), dl.Pause(600), dl.SetWeight(60)]))
"""


def test_a_killed_process_leaves_a_canary_that_can_be_resumed(lab: Lab, web1: Image, web2: Image) -> None:
    lab.close()
    command = [sys.executable, "-c", DRIVER, lab.name, web1.name, web2.name]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as driver:
        assert driver.stdout is not None
        url = driver.stdout.readline().strip()
        until(lambda: ask(url)["version"] == "2")
        time.sleep(0.2)  # the weight stands in the router first, in the state file second
        driver.kill()
    mine = Lab(lab.name, engine=lab.engine.kind)
    web = mine.fleets["web"]
    assert web.status().phase == "Paused"
    # The router is lost as well: its servers and the weight are put back.
    web._control.router.stop()
    web.scale(3)
    look = web._control.router.api.look()
    assert (look.green, sorted(server.pool for server in look.servers.values())) == (40, ["blue"] * 3 + ["green"] * 2)
    until(lambda: {ask(web.url)["version"] for _ in range(20)} == {"1", "2"})
    assert web.promote(full=True).status == "Complete"
    assert images(web) == {web2.name}


@pytest.mark.parametrize(
    "strategy",
    [dl.Recreate(), dl.RollingUpdate(max_surge=1, max_unavailable=0), dl.BlueGreen(scale_down_delay_s=0)],
    ids=lambda strategy: type(strategy).__name__,
)
def test_a_plan_is_what_the_rollout_then_does(lab: Lab, web1: Image, web2: Image, strategy: Strategy) -> None:
    web = lab.fleet("web", web1, replicas=3, env=FAST)
    before = (web.status().replicas, web.revisions, web.events)
    plan = web.plan(web2, strategy)
    after = (web.status().replicas, web.revisions, web.events)
    assert [row.name for row in before[0]] == [row.name for row in after[0]]
    assert before[1:] == after[1:]
    assert plan.ends == "Complete"
    kinds = {"start": "started", "admit": "ready", "drain": "drained", "remove": "removed", "weight": "weight"}
    rollout = web.rollout(web2, strategy)
    done = Counter(event.kind for event in rollout.events if event.kind in kinds.values())
    assert Counter(kinds[step.action] for step in plan.steps) == done
    starts = [text for text in plan.commands if text.startswith("docker run -d --name ")]
    assert len(starts) == 3
    assert all(web2.name in text and f"dockerlab.lab={lab.name}" in text for text in starts)
    assert web.plan(web2, strategy).steps == ()


def test_what_makes_no_sense_changes_nothing(lab: Lab, web1: Image) -> None:
    web = lab.fleet("web", web1, replicas=1)
    with pytest.raises(BadInputError, match="SetWeight before"):
        web.rollout(web1, dl.Canary([dl.Analysis()]))
    assert web.status().phase == "Healthy"
