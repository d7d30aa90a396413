"""The reconciler on replicas that are no longer as their image: changed by hand, or by their own program."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from support import until
from test_fleet import containers
from test_reconciler import LESSON, replaced

from dockerlab.connect import Engine
from dockerlab.errors import BadInputError
from dockerlab.heal.policy import HealingPolicy
from dockerlab.heal.reconciler import Reconciler
from dockerlab.images import Image
from dockerlab.lab import Lab

OFTEN = HealingPolicy(unhealthy_after_s=1, interval_s=0.2, drift_interval_s=0.2)


def change(lab: Lab, container_id: str, script: str = "echo by hand >>/etc/passwd; echo >/srv/new") -> None:
    code, output = lab.client.containers.get(container_id).exec_run(["sh", "-c", script])
    assert code == 0, output


def test_what_is_changed_by_hand_under_load_is_replaced_and_nothing_is_lost(lab: Lab, web1: Image) -> None:
    web = lab.fleet("web", web1, replicas=3, env={"WORK_MS": "20"})
    victim, *others = web.status().replicas
    with lab.traffic(web.url, rate=30) as traffic, Reconciler(web, OFTEN, drift=True) as healer:
        time.sleep(1)
        assert healer.events == (), "what a replica writes by itself is ignored"
        change(lab, victim.id)
        until(lambda: replaced(web, victim.name))
        time.sleep(1)
    summary = traffic.results.summary()
    assert (summary.lost, summary.sent_share >= 0.99) == (0, True)
    assert {row.name for row in others} < {row.name for row in web.status().replicas}
    assert (web.status().ready, len(containers(lab))) == (3, 3)
    (event,) = (event for event in healer.events if event.done == "replaced")
    assert (event.replica, event.seen) == (victim.name, "drifted")
    assert event.cause == "It differs from its image: /etc/passwd changed, /srv/new added."
    assert {event.replica for event in healer.events} == {victim.name}
    assert healer.state == "Healthy"


def test_several_are_replaced_one_after_the_other(lab: Lab, web1: Image) -> None:
    web = lab.fleet("web", web1, replicas=4, stop_grace_s=1)
    victims = [row.name for row in web.status().replicas[:3]]
    for row in web.status().replicas[:3]:
        change(lab, row.id)
    ready: list[int] = []

    def all_replaced() -> bool:
        ready.append(web.status().ready)
        return all(replaced(web, victim) for victim in victims)

    with Reconciler(web, OFTEN, drift=True) as healer:
        until(all_replaced)
    assert min(ready) >= 3
    assert [event.replica for event in healer.events if event.done == "replaced"] == victims
    assert "only 1 of 4 may be out of service at a time" in str(healer.events)


def test_a_program_that_writes_by_itself_is_marked_unless_it_may(lab: Lab, web1: Image, tmp_path: Path) -> None:
    run = 'CMD ["sh", "-c", "mkdir /srv/log; echo begun >/srv/log/web; exec sh /srv/web/serve"]'
    (tmp_path / "Dockerfile").write_text(f"FROM {web1.name}\n{run}\n", encoding="utf-8")
    web = lab.fleet("web", lab.build(tmp_path, tag="web:writes", quiet=True), replicas=2, stop_grace_s=1)
    policy = HealingPolicy(interval_s=0.2, drift_interval_s=0.2, crash_loop_after=3, crash_loop_s=60)
    with Reconciler(web, policy, drift=True) as healer:
        until(lambda: healer.state == "DriftLoopBackOff")
        there = {row.name for row in web.status().replicas}
        time.sleep(2)
        assert {row.name for row in web.status().replicas} == there, "it waits"
        victim = web.status().replicas[0]
        lab.client.api.kill(victim.id, signal="SIGKILL")
        until(lambda: replaced(web, victim.name))
    assert sum(event.done == "replaced" and event.seen == "drifted" for event in healer.events) == 2
    marked = next(event for event in healer.events if event.done == "marked")
    assert marked.cause.startswith("DriftLoopBackOff: 3 times in a row replicas differed soon after they were made (")
    assert "/srv/log" in marked.cause
    assert "name the path in ignore=[...]" in marked.cause
    assert web.status().ready == 2

    with Reconciler(web, policy, drift=True, ignore=["/srv/log"]) as patient:
        time.sleep(1)
    assert (patient.events, patient.state) == ((), "Healthy")


def test_it_is_off_by_default_and_during_a_rollout(lab: Lab, web1: Image, web2: Image) -> None:
    web = lab.fleet("web", web1, replicas=2)
    change(lab, web.status().replicas[0].id)
    with Reconciler(web, LESSON) as healer:
        time.sleep(1)
    assert healer.events == ()
    with Reconciler(web, OFTEN, drift=True) as healer, web.turn():
        assert web.rollout(web2).status == "Complete"
    assert not any(event.done == "replaced" for event in healer.events)


def test_containers_that_are_not_the_fleets_are_left_alone(lab: Lab, engine: Engine, web1: Image) -> None:
    web, other = lab.fleet("web", web1), lab.fleet("other", web1)
    shop = lab.servers("shop", web1, count=1)
    change(lab, other.status().replicas[0].id)
    shop.run("echo >/srv/new")
    before = {row["Id"] for row in containers(lab)}
    with Reconciler(web, OFTEN, drift=True) as healer:
        time.sleep(1)
    assert healer.events == ()
    assert {row["Id"] for row in containers(lab)} == before


def test_what_to_ignore_is_a_list_and_needs_drift(lab: Lab, web1: Image) -> None:
    web = lab.fleet("web", web1)
    with pytest.raises(BadInputError, match="is the text '/srv'"):
        Reconciler(web, drift=True, ignore="/srv")
    with pytest.raises(BadInputError, match="not watched") as caught:
        Reconciler(web, ignore=["/srv"])
    assert caught.value.advice == "Add drift=True."
