"""Fleets on a real engine: made, scaled, replaced, rolled out, rolled back, found again."""

from __future__ import annotations

import json
import subprocess
import sys
import time
import urllib.request
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import pytest

import dockerlab as dl
from dockerlab.errors import BadInputError, LabLockedError
from dockerlab.images import Image
from dockerlab.lab import Lab

OPENER = urllib.request.build_opener(urllib.request.ProxyHandler({}))


def ask(url: str) -> dict[str, str]:
    with OPENER.open(f"{url}/cgi-bin/whoami", timeout=5) as answer:
        content: dict[str, str] = json.load(answer)
    return content


def containers(lab: Lab) -> list[dict[str, object]]:
    rows = lab.client.api.containers(all=True, filters={"label": f"dockerlab.lab={lab.name}"})
    return list(rows)


def test_a_fleet_serves_when_the_call_returns(lab: Lab, web1: Image) -> None:
    web = lab.fleet("web", web1, replicas=2)
    assert ask(web.url)["version"] == "1"
    status = web.status()
    assert (status.phase, status.ready, status.desired) == ("Healthy", 2, 2)
    assert len(containers(lab)) == 2


def test_scaling_up_and_down_reaches_the_number_and_every_replica_serves(lab: Lab, web1: Image) -> None:
    web = lab.fleet("web", web1, replicas=1)
    assert web.scale(5).ready == 5
    with ThreadPoolExecutor(4) as pool:
        seen = Counter(answer["replica"] for answer in pool.map(lambda _: ask(web.url), range(40)))
    assert set(seen) == {row.name for row in web.status().replicas}
    assert web.scale(2).ready == 2
    assert len(containers(lab)) == 2
    assert web.scale(0).replicas == ()
    assert containers(lab) == []
    assert web.scale(1).ready == 1


def test_running_the_cell_again_changes_nothing(lab: Lab, web1: Image) -> None:
    first = lab.fleet("web", web1, replicas=2)
    before = {row.id for row in first.status().replicas}
    again = lab.fleet("web", web1, replicas=2)
    assert again is first
    assert {row.id for row in again.status().replicas} == before
    assert first.rollout(web1).events == ()


def test_another_image_under_the_same_name_is_rolled_out(lab: Lab, web1: Image, web2: Image) -> None:
    lab.fleet("web", web1, replicas=1)
    web = lab.fleet("web", web2, replicas=2)
    assert ask(web.url)["version"] == "2"
    assert web.status().ready == 2


@pytest.mark.parametrize("strategy", [dl.RollingUpdate(max_surge=1, max_unavailable=0), dl.Recreate()])
def test_a_rollout_and_its_rollback_replace_every_container(
    lab: Lab, web1: Image, web2: Image, strategy: dl.Recreate | dl.RollingUpdate
) -> None:
    web = lab.fleet("web", web1, replicas=3)
    first = {row.id for row in web.status().replicas}
    rollout = web.rollout(web2, strategy)
    assert (rollout.status, rollout.from_revision, rollout.to_revision) == ("Complete", 1, 2)
    second = {row.id for row in web.status().replicas}
    assert len(second) == 3
    assert not first & second
    assert ask(web.url)["version"] == "2"
    kinds = Counter(event.kind for event in rollout.events)
    assert kinds == {"rollout": 1, "started": 3, "ready": 3, "drained": 3, "removed": 3, "complete": 1}
    assert [event.time_s for event in rollout.events] == sorted(event.time_s for event in rollout.events)
    back = web.rollback()
    assert (back.status, back.to_revision) == ("Complete", 1)
    assert ask(web.url)["version"] == "1"
    assert web.revision == 1


def test_a_rolling_update_loses_no_request(lab: Lab, web1: Image, web2: Image) -> None:
    web = lab.fleet("web", web1, replicas=4)
    with lab.traffic(web.url, rate=50) as traffic:
        web.rollout(web2)
    summary = traffic.results.summary()
    assert summary.lost == 0, summary
    assert summary.sent_share >= 0.99
    assert {"1", "2"} <= set(traffic.results.version)


def test_recreating_loses_requests_and_they_are_counted(lab: Lab, web1: Image, web2: Image) -> None:
    web = lab.fleet("web", web1, replicas=2)
    with lab.traffic(web.url, rate=40) as traffic:
        web.rollout(web2, dl.Recreate())
    assert traffic.results.summary().lost > 0


def test_a_version_that_never_gets_healthy_is_rolled_back(lab: Lab, web1: Image, web2: Image) -> None:
    web = lab.fleet("web", web1, replicas=2)
    before = {row.id for row in web.status().replicas}
    strategy = dl.RollingUpdate(max_surge=1, max_unavailable=0, progress_deadline_s=2)
    rollout = web.rollout(web2, strategy, env={"HEALTH": "never"})
    assert rollout.status == "RolledBack"
    assert "did not become healthy within 2 s" in rollout.reason
    status = web.status()
    assert (status.phase, status.revision) == ("Healthy", 1)
    assert {row.id for row in status.replicas} == before, "the old replicas were never touched"
    assert web.rollout(web2).status == "Complete"


def test_replace_puts_a_new_replica_in_the_place_of_one(lab: Lab, web1: Image) -> None:
    web = lab.fleet("web", web1, replicas=2)
    names = [row.name for row in web.status().replicas]
    status = web.replace(names[0])
    now = [row.name for row in status.replicas]
    assert status.ready == 2
    assert names[0] not in now
    assert names[1] in now
    with pytest.raises(BadInputError, match="has no replica 'nobody'"):
        web.replace("nobody")


def test_the_only_replica_is_replaced_without_loss(lab: Lab, web1: Image) -> None:
    web = lab.fleet("web", web1, replicas=1, env={"WORK_MS": "20"})
    with lab.traffic(web.url, rate=20) as traffic:
        for _ in range(2):
            web.replace(web.status().replicas[0].name)
        web.repair(web.status().replicas[0].name)
    assert traffic.results.summary().lost == 0
    assert sum(event.kind == "removed" for event in web.events) == 3, web.events


def test_a_killed_replica_is_seen_and_replaced_by_the_next_scale(lab: Lab, web1: Image) -> None:
    web = lab.fleet("web", web1, replicas=3)
    victim = web.status().replicas[0]
    lab.client.api.kill(victim.id)
    assert web.status().phase == "Degraded"
    status = web.scale(3)
    assert status.ready == 3
    assert victim.id not in {row.id for row in status.replicas}


def test_a_container_removed_behind_its_back_is_replaced(lab: Lab, web1: Image) -> None:
    web = lab.fleet("web", web1, replicas=2)
    lab.client.api.remove_container(web.status().replicas[0].id, force=True)
    assert web.scale(2).ready == 2
    assert len(web.status().replicas) == 2


def test_environment_and_revisions(lab: Lab, web1: Image, web2: Image) -> None:
    web = lab.fleet("web", web1, replicas=1, env={"WORK_MS": "20"})
    web.rollout(web2)
    web.rollout(web2, env={"WORK_MS": "30"})
    assert [r.number for r in web.revisions] == [1, 2, 3]
    assert dict(web.revisions[1].env) == {"WORK_MS": "20"}
    web.rollback(to=1)
    assert web.revision == 1
    with pytest.raises(BadInputError, match="has no revision 9"):
        web.rollback(to=9)


def test_two_fleets_live_side_by_side(lab: Lab, web1: Image, web2: Image) -> None:
    one, two = lab.fleet("one", web1), lab.fleet("two", web2)
    assert (ask(one.url)["version"], ask(two.url)["version"]) == ("1", "2")
    one.remove()
    assert list(lab.fleets) == ["two"]
    assert ask(two.url)["version"] == "2"
    assert len(containers(lab)) == 1


OPEN = """
import sys
import dockerlab as dl
lab = dl.Lab(sys.argv[1])
web = lab.fleets["web"]
print(web.url, web.status().ready, web.revision)
"""


def test_a_named_lab_is_found_again_by_another_process(lab: Lab, web1: Image) -> None:
    web = lab.fleet("web", web1, replicas=2)
    lab.close()
    command = [sys.executable, "-c", OPEN, lab.name]
    answer = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    assert answer.stdout.split() == [web.url, "2", "1"]


TAKE = """
import sys
import dockerlab as dl
try:
    dl.Lab(sys.argv[1])
except dl.DockerlabError as error:
    print(type(error).__name__, error)
"""


TAKE = """
import sys
import dockerlab as dl
try:
    dl.Lab(sys.argv[1])
except dl.DockerlabError as error:
    print(type(error).__name__, error)
"""


def test_a_lab_has_one_driver_at_a_time(lab: Lab) -> None:
    command = [sys.executable, "-c", TAKE, lab.name]
    answer = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    assert answer.stdout.startswith(LabLockedError.__name__)
    assert "another process" in answer.stdout


DRIVER = """
import sys, time
import dockerlab as dl
lab = dl.Lab(sys.argv[1])
web = lab.fleet("web", sys.argv[2], replicas=4)
print("ready", flush=True)
web.rollout(sys.argv[3])
print("done", flush=True)
"""


@pytest.mark.nightly  # tests/chaos kills drivers, too
def test_a_lab_whose_driver_was_killed_in_mid_rollout_is_taken_over_and_goes_on(
    lab: Lab, web1: Image, web2: Image
) -> None:
    lab.close()
    command = [sys.executable, "-c", DRIVER, lab.name, web1.name, web2.name]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as driver:
        assert driver.stdout is not None
        assert driver.stdout.readline() == "ready\n"
        time.sleep(0.5)
        driver.kill()
    mine = Lab(lab.name, engine=lab.engine.kind)
    web = mine.fleets["web"]
    assert web.rollout(web2).status == "Complete"
    status = web.status()
    assert (status.ready, {row.image for row in status.replicas}) == (4, {web2.name})
    assert len(containers(lab)) == 4


def test_the_router_is_started_again_where_it_died(lab: Lab, web1: Image) -> None:
    web = lab.fleet("web", web1, replicas=2)
    url = web.url
    web._control.router.stop()
    mine = Lab(lab.name, engine=lab.engine.kind)
    web = mine.fleet("web", web1, replicas=2)
    assert web.url == url
    assert ask(web.url)["version"] == "1"
