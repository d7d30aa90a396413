"""The reconciler on a real engine: what is killed, hung, removed or crashing, and what it does about it."""

from __future__ import annotations

import socket
import time
from pathlib import Path

import pytest
from support import Forwarder, until
from test_fleet import ask, containers

from dockerlab.connect import Engine
from dockerlab.errors import BadInputError, EngineError
from dockerlab.fleet.fleet import Fleet
from dockerlab.heal.policy import HealingPolicy
from dockerlab.heal.reconciler import Reconciler
from dockerlab.images import Image
from dockerlab.lab import Lab

LESSON = HealingPolicy(unhealthy_after_s=1, interval_s=0.2)


def replaced(web: Fleet, victim: str) -> bool:
    status = web.status()
    return status.phase == "Healthy" and victim not in {row.name for row in status.replicas}


def test_a_killed_replica_is_replaced_under_load_by_itself(lab: Lab, web1: Image) -> None:
    web = lab.fleet("web", web1, replicas=3, env={"WORK_MS": "20"})
    victim = web.status().replicas[0]
    with Reconciler(web, LESSON) as healer, lab.traffic(web.url, rate=30) as traffic:
        lab.client.api.kill(victim.id, signal="SIGKILL")
        until(lambda: replaced(web, victim.name))
        assert "running" in repr(healer)
    assert (web.status().ready, len(containers(lab))) == (3, 3)
    assert traffic.results.summary().sent_share >= 0.99
    event = next(event for event in healer.events if event.done == "replaced")
    assert (event.replica, event.seen) == (victim.name, "exited")
    assert "exit code 137" in event.cause
    assert victim.name in healer._repr_html_()
    assert not healer.running


@pytest.mark.nightly  # tests/chaos hangs replicas, too
def test_hung_replicas_are_replaced_one_after_the_other(lab: Lab, web1: Image) -> None:
    web = lab.fleet("web", web1, replicas=4, ready_timeout_s=5, stop_grace_s=1)
    victims = web.status().replicas[:2]
    for victim in victims:
        lab.client.api.pause(victim.id)
    until(lambda: sum(row.health == "unhealthy" for row in web.status().replicas) == 2)
    with Reconciler(web, LESSON) as healer:
        until(lambda: all(replaced(web, victim.name) for victim in victims))
    assert len(containers(lab)) == 4
    gone = {event.replica: event.seen for event in healer.events if event.done in {"replaced", "removed"}}
    assert {name: seen for name, seen in gone.items() if name} == {victim.name: "unhealthy" for victim in victims}
    assert "only 1 of 4 may be replaced at a time" in str(healer.events)


def test_a_container_removed_by_hand_is_made_up_for(lab: Lab, web1: Image) -> None:
    web = lab.fleet("web", web1, replicas=2)
    victim = web.status().replicas[0]
    with Reconciler(web, LESSON) as healer:
        lab.client.api.remove_container(victim.id, force=True)
        until(lambda: replaced(web, victim.name))
    assert len(containers(lab)) == 2
    assert {event.seen for event in healer.events if event.done != "waits"} <= {"missing", "exited"}
    assert {event.done for event in healer.events} & {"started", "replaced"}


def test_a_version_that_crashes_after_a_while_is_marked(lab: Lab, web1: Image, tmp_path: Path) -> None:
    run = 'CMD ["sh", "-c", "sh /srv/web/serve & sleep 1; exit 3"]'
    (tmp_path / "Dockerfile").write_text(f"FROM {web1.name}\n{run}\n", encoding="utf-8")
    web = lab.fleet("web", web1)
    policy = HealingPolicy(interval_s=0.2, crash_loop_after=3, crash_loop_s=1.5)
    with Reconciler(web, policy) as healer:
        web.rollout(lab.build(tmp_path, tag="web:crashes", quiet=True))
        until(lambda: healer.state == "CrashLoopBackOff" and healer.failures >= 4)
        assert healer.exit_code == 3
        assert "exit code 3" in repr(healer)
        web.rollout(web1)
        until(lambda: healer.state == "Healthy")
    marked = next(event for event in healer.events if event.done == "marked")
    assert "the last exit code is 3" in marked.cause
    waits = [event.wait_s for event in healer.events if (event.seen, event.done) == ("exited", "waits")]
    assert waits[0] <= 0.1
    assert waits == sorted(waits)
    assert waits[-1] > 1
    assert web.status().phase == "Healthy"


def test_a_killed_router_comes_back_at_its_port(lab: Lab, web1: Image) -> None:
    web = lab.fleet("web", web1, replicas=2)
    url = web.url
    with Reconciler(web, LESSON) as healer:
        web._control.router.stop()
        until(lambda: any(event.seen == "no router" and event.done == "started" for event in healer.events))
    assert web.url == url
    assert ask(url)["version"] == "1"
    assert web.status().phase == "Healthy"


def test_a_rollout_is_left_alone(lab: Lab, web1: Image, web2: Image) -> None:
    web = lab.fleet("web", web1, replicas=3)
    with Reconciler(web, LESSON) as healer:
        with pytest.raises(BadInputError, match="running already"):
            healer.__enter__()
        assert web.rollout(web2).status == "Complete"
        assert web.scale(1).ready == 1
        time.sleep(1)
    assert (healer.events, healer.state) == ((), "Healthy")
    assert len(containers(lab)) == 1


def test_a_fleet_that_is_removed_ends_it(lab: Lab, web1: Image) -> None:
    web = lab.fleet("web", web1, replicas=2)
    with Reconciler(web, LESSON) as healer:
        web.remove()
        until(lambda: not healer.running)
    assert healer.events[-1].done == "ended"
    assert containers(lab) == []


def test_the_error_of_the_block_is_the_one_that_is_seen(lab: Lab, web1: Image) -> None:
    web = lab.fleet("web", web1)
    healer = Reconciler(web, LESSON)
    with pytest.raises(KeyboardInterrupt), healer:
        raise KeyboardInterrupt
    assert not healer.running


def test_an_engine_that_is_away_is_waited_for(
    engine: Engine, lab_name: str, web1: Image, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not engine.address.startswith("unix://"):
        pytest.skip(f"the engine is not at a unix socket but at {engine.address}")
    listener = socket.create_server(("127.0.0.1", 0))
    wire = Forwarder(listener, engine.address.removeprefix("unix://"))
    with monkeypatch.context() as patch:
        patch.delenv("DOCKERLAB_ENGINE", raising=False)
        patch.setenv("DOCKER_HOST", f"tcp://127.0.0.1:{listener.getsockname()[1]}")
        cut_off = Lab(lab_name)
    try:
        healer = Reconciler(cut_off.fleet("web", web1), LESSON)

        def missed() -> list[float]:
            return [event.wait_s for event in healer.events if event.seen == "no engine"]

        healer.__enter__()
        wire.cut()
        until(lambda: len(missed()) >= 3)
        assert healer.running
        with pytest.raises(EngineError):
            healer.__exit__(None, None, None)
        assert missed()[:3] == [0.1, 0.2, 0.4]
    finally:
        wire.cut()
        cut_off.close()
        again = Lab(lab_name, engine=engine.kind)
        again.reset()
        again.close()
