"""Stop (KeyboardInterrupt) in the middle leaves a whole state that the next cell can use."""

from __future__ import annotations

import os
import signal
import threading
import time
import uuid
from collections.abc import Callable
from pathlib import Path

import pytest
from support import processes_with

from dockerlab.fleet.fleet import Fleet
from dockerlab.fleet.model import Pool
from dockerlab.images import Image
from dockerlab.lab import Lab
from dockerlab.router.runtime import RuntimeApi

# Stop in the middle of docker-py's connect leaves its socket to the garbage collector.
pytestmark = pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning")


def press_stop_when(condition: Callable[[], bool]) -> None:
    """Interrupt this process, as Jupyter's Stop does, once `condition` holds; give up after 30 s."""

    def watch() -> None:
        end_s = time.monotonic() + 30
        while time.monotonic() < end_s:
            if condition():
                os.kill(os.getpid(), signal.SIGINT)
                return
            time.sleep(0.02)

    threading.Thread(target=watch, daemon=True).start()


def live(lab: Lab) -> list[dict[str, object]]:
    return list(lab.client.api.containers(all=True, filters={"label": f"dockerlab.lab={lab.name}"}))


def whole(web: Fleet) -> bool:
    """Every container of the fleet serves, and there are as many as are wanted."""
    status = web.status()
    return all(row.ready for row in status.replicas) and len(status.replicas) == status.desired


def test_in_a_scale(lab: Lab, web1: Image) -> None:
    web = lab.fleet("web", web1, replicas=1)
    press_stop_when(lambda: len(live(lab)) >= 4)
    with pytest.raises(KeyboardInterrupt):
        web.scale(25)
    assert whole(web)
    assert 1 <= web.replicas < 25
    assert web.scale(3).ready == 3


def test_in_the_first_start(lab: Lab, web1: Image) -> None:
    press_stop_when(lambda: len(live(lab)) >= 3)
    with pytest.raises(KeyboardInterrupt):
        lab.fleet("web", web1, replicas=25)
    assert live(lab) == []
    assert lab.fleets == {}
    assert lab.fleet("web", web1, replicas=2).status().ready == 2


def test_in_a_rollout(lab: Lab, web1: Image, web2: Image) -> None:
    web = lab.fleet("web", web1, replicas=6)
    press_stop_when(lambda: any(row.revision == 2 and row.ready for row in web.status().replicas))
    with lab.traffic(web.url, rate=30) as traffic, pytest.raises(KeyboardInterrupt):
        web.rollout(web2)
    assert traffic.results.summary().lost == 0
    status = web.status()
    assert all(row.ready for row in status.replicas)
    assert {row.revision for row in status.replicas} == {1, 2}
    assert web.rollback().status == "Complete"
    assert {row.revision for row in web.status().replicas} == {1}
    assert whole(web)


def test_after_the_router_took_one_out(lab: Lab, web1: Image, web2: Image, monkeypatch: pytest.MonkeyPatch) -> None:
    web = lab.fleet("web", web1, replicas=3)
    drain = RuntimeApi.drain

    def drain_and_stop(self: RuntimeApi, name: str, pool: Pool) -> None:
        drain(self, name, pool)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(RuntimeApi, "drain", drain_and_stop)
        with pytest.raises(KeyboardInterrupt):
            web.rollout(web2)
    assert all(row.ready for row in web.status().replicas)


def test_a_stopped_rollout_goes_on_when_the_cell_is_run_again(lab: Lab, web1: Image, web2: Image) -> None:
    web = lab.fleet("web", web1, replicas=6)
    press_stop_when(lambda: any(row.revision == 2 and row.ready for row in web.status().replicas))
    with pytest.raises(KeyboardInterrupt):
        web.rollout(web2)
    assert web.rollout(web2).status == "Complete"
    assert {row.revision for row in web.status().replicas} == {2}
    assert whole(web)


def test_in_traffic(lab: Lab, web1: Image) -> None:
    web = lab.fleet("web", web1, replicas=1)
    traffic = lab.traffic(web.url, rate=10, duration_s=30)
    press_stop_when(lambda: len(traffic.results) > 5)
    with pytest.raises(KeyboardInterrupt), traffic:
        traffic.wait()
    assert not traffic.running
    assert len(traffic.results) > 5
    with lab.traffic(web.url, rate=10, duration_s=0.5) as again:
        again.wait()
    assert again.results.summary().lost == 0


def test_in_a_build(lab: Lab, base_image: Image, tmp_path: Path) -> None:
    mark = f"sleep 3{uuid.uuid4().int % 10**6:06d}"
    (tmp_path / "Dockerfile").write_text(f"FROM dockerlab/base:1\nRUN echo started && {mark}\n", encoding="utf-8")
    press_stop_when(lambda: bool(processes_with(mark)))
    with pytest.raises(KeyboardInterrupt):
        lab.build(tmp_path, tag="stopped:test", no_cache=True, quiet=True)
    end_s = time.monotonic() + 10
    while processes_with(mark):
        assert time.monotonic() < end_s, "the engine goes on with the build"
        time.sleep(0.1)
    (tmp_path / "Dockerfile").write_text("FROM dockerlab/base:1\nRUN echo done\n", encoding="utf-8")
    assert lab.build(tmp_path, tag="stopped:test", quiet=True).tags == ("stopped:test",)
    lab.client.api.remove_image("stopped:test")
