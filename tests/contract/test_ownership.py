"""Whose things are whose where it is not plain: inherited labels, taken volumes, closed labs, drivers that overlap."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import threading
import time
import uuid
from dataclasses import replace
from pathlib import Path

import psutil
import pytest

from dockerlab.errors import BadInputError, LabClosedError, LabLockedError, ReplicaFailedError
from dockerlab.fleet.apply import Driver
from dockerlab.fleet.strategies import RollingUpdate
from dockerlab.images import Image, build
from dockerlab.lab import Lab, clean
from dockerlab.lab.home import Home
from dockerlab.processes import Process
from dockerlab.router import haproxy_program


def test_a_container_that_only_inherited_our_labels_is_not_ours(lab: Lab, web1: Image) -> None:
    api, tag = lab.client.api, f"committed-{uuid.uuid4().hex[:8]}"
    web = lab.fleet("web", web1, replicas=1)
    api.commit(web.status().replicas[0].id, repository=tag, tag="1")
    theirs = api.create_container(f"{tag}:1", name=f"{tag}-theirs")["Id"]
    try:
        api.start(theirs)
        assert web.scale(1).ready == 1
        assert len(web.status().replicas) == 1
        lab.reset()
        assert api.inspect_container(theirs)["State"]["Running"]
    finally:
        api.remove_container(theirs, force=True)
        api.remove_image(f"{tag}:1")


def test_our_own_container_of_a_committed_image_is_ours(lab: Lab, web1: Image) -> None:
    api, tag = lab.client.api, f"committed-{uuid.uuid4().hex[:8]}"
    first = lab.start(web1)
    api.commit(first.id, repository=tag, tag="1")
    second = lab.start(f"{tag}:1")
    report = lab.reset()
    assert f"container {second.name}" in report.removed
    api.remove_image(f"{tag}:1")


def test_a_volume_of_somebody_else_is_refused(lab: Lab, base_image: Image) -> None:
    api, name = lab.client.api, f"theirs-{uuid.uuid4().hex[:8]}"
    api.create_volume(name)
    try:
        with pytest.raises(BadInputError, match="was not made by this lab"):
            lab.start(base_image, "sleep 60", volumes={name: "/data"})
    finally:
        api.remove_volume(name)


def test_what_the_engine_refuses_to_remove_is_kept_and_named(lab: Lab, base_image: Image) -> None:
    api, volume = lab.client.api, f"{lab.name}-data"
    lab.start(base_image, "sleep 60", volumes={volume: "/data"})
    host_config = api.create_host_config(binds=[f"{volume}:/data"])
    theirs = api.create_container(base_image.id, ["sleep", "60"], host_config=host_config)["Id"]
    try:
        report = lab.reset()
        assert any(line.startswith(f"volume {volume}: ") for line in report.kept)
        assert api.inspect_container(theirs)
    finally:
        api.remove_container(theirs)
    assert f"volume {volume}" in lab.reset().removed


def test_a_closed_lab_and_its_fleets_do_nothing_more(lab: Lab, web1: Image) -> None:
    web = lab.fleet("web", web1, replicas=1)
    lab.close()
    with pytest.raises(LabClosedError, match="Open it again"):
        web.scale(2)
    with pytest.raises(LabClosedError):
        lab.run(web1, "true")
    assert Lab(lab.name, engine=lab.engine.kind).fleets["web"].scale(2).ready == 2


def test_a_driver_is_seen_at_every_moment(lab: Lab) -> None:
    home, end, misses = Home(lab.name), threading.Event(), []

    def drive() -> None:
        while not end.is_set():
            lab._drive()

    thread = threading.Thread(target=drive)
    thread.start()
    stop_s = time.monotonic() + 1
    while time.monotonic() < stop_s:
        if home.holder() is None:
            misses.append(time.monotonic())
    end.set()
    thread.join()
    assert not misses


def test_a_lab_that_cannot_be_opened_is_not_held(lab: Lab) -> None:
    lab.close()
    path = Home(lab.name).state_path
    path.write_text("{", encoding="utf-8")
    with pytest.raises(Exception, match="does not parse"):
        Lab(lab.name, engine=lab.engine.kind)
    assert Home(lab.name).holder() is None


def test_only_haproxy_is_ended_with_a_lab(lab: Lab) -> None:
    config = Home(lab.name).runtime() / "web.cfg"
    config.write_text("", encoding="utf-8")
    with subprocess.Popen(["tail", "-f", str(config)], stdout=subprocess.DEVNULL) as reader:
        lab.reset()
        assert reader.poll() is None
        reader.kill()


def test_a_bad_image_for_a_fleet_that_is_there_is_an_error(lab: Lab, web1: Image, tmp_path: Path) -> None:
    (tmp_path / "Dockerfile").write_text('FROM dockerlab/base:1\nEXPOSE 80\nCMD ["false"]\n', encoding="utf-8")
    bad = build(lab.client, tmp_path, tag="bad:converge")
    web = lab.fleet("web", web1, replicas=2)
    with pytest.raises(ReplicaFailedError, match="exited"):
        lab.fleet("web", bad, replicas=2)
    status = web.status()
    assert (status.phase, status.image) == ("Healthy", web1.name)
    with pytest.raises(BadInputError, match="cannot check another path"):
        lab.fleet("web", web1, health_path="/other")


def test_a_replica_restarted_by_hand_serves_again(lab: Lab, web1: Image) -> None:
    web = lab.fleet("web", web1, replicas=2)
    before = {row.id for row in web.status().replicas}
    lab.client.api.restart(next(iter(before)), timeout=1)
    status = web.scale(2)
    assert status.ready == 2
    assert {row.id for row in status.replicas} == before


def test_the_server_of_a_container_removed_by_hand_goes_with_the_next_look(lab: Lab, web1: Image) -> None:
    web = lab.fleet("web", web1, replicas=2)
    gone = web.status().replicas[0]
    lab.client.api.remove_container(gone.id, force=True)
    web.scale(1)
    assert gone.name not in web._control.router.api.servers()


def test_a_run_that_was_cut_short_does_not_wedge_the_next(lab: Lab, web1: Image) -> None:
    web = lab.fleet("web", web1, replicas=1)
    driver: Driver = web._control._site.driver
    # What two presses of Stop leave: a step that never ran, and a replica that it would have made.
    from concurrent.futures import Future

    from dockerlab.fleet.model import Replica

    stale: Future[None] = Future()
    stale.cancel()
    driver._futures[stale] = "never"
    web._control._site.roster.put(Replica("never", 1, state="creating", traffic="none", busy=True))
    assert web.scale(3).ready == 3


def test_long_names_fit(engine_kind_lab: Lab, web1: Image) -> None:
    assert engine_kind_lab.fleet("f" * 31, web1, replicas=1).status().ready == 1


@pytest.fixture
def engine_kind_lab(lab: Lab) -> object:
    made = Lab("l" + uuid.uuid4().hex[:30], engine=lab.engine.kind)
    yield made
    made.reset()
    made.close()


SHADOWED = """
import sys
import dockerlab as dl
lab = dl.Lab()
lab.start(sys.argv[1], "sleep 600", init=True)
lab.reset()
lab.start(sys.argv[1], "sleep 600", init=True)
print(lab.name, len(__import__("psutil").Process().children()), flush=True)
__import__("time").sleep(60)
"""


def test_a_file_of_the_learner_does_not_stand_in_the_watchdogs_way(lab: Lab, base_image: Image, tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(f"import sys\nsys.path.pop(0)\n{SHADOWED}", encoding="utf-8")
    (tmp_path / "docker.py").write_text("raise SystemExit('the wrong docker')\n", encoding="utf-8")
    (tmp_path / "click.py").write_text("raise SystemExit('the wrong click')\n", encoding="utf-8")
    command = [sys.executable, str(script), base_image.name]
    with subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, text=True, env=dict(os.environ)) as process:
        assert process.stdout is not None
        name, children = process.stdout.readline().split()
        process.kill()
    assert children == "1", "one watchdog, however often the lab was reset"
    end_s = time.monotonic() + 30
    filters = {"label": f"dockerlab.lab={name}"}
    while lab.client.api.containers(all=True, filters=filters):
        assert time.monotonic() < end_s, "the clean-up found the learner's file first"
        time.sleep(0.1)


def test_two_processes_cannot_drive_one_lab_through_an_old_fleet(lab: Lab, web1: Image) -> None:
    web = lab.fleet("web", web1, replicas=1)
    lab.close()
    code = f"import dockerlab as dl, time\ndl.Lab({lab.name!r})\nprint('open', flush=True)\ntime.sleep(60)"
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "open\n"
        with pytest.raises(LabClosedError):
            web.scale(2)
        with pytest.raises(LabLockedError):
            Lab(lab.name, engine=lab.engine.kind)
        other.kill()


def test_stop_after_the_router_was_started_anew_removes_nothing_that_served(
    lab: Lab, web1: Image, monkeypatch: pytest.MonkeyPatch
) -> None:
    web = lab.fleet("web", web1, replicas=4)
    before = {row.id for row in web.status().replicas}
    psutil.Process(web._control.router.record.pid).kill()

    def stop(_: Driver) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Driver, "_pause", stop)
        with pytest.raises(KeyboardInterrupt):
            web.scale(5)
    assert before <= {row["Id"] for row in lab.client.api.containers()}
    assert web.scale(4).ready == 4
    assert {row.id for row in web.status().replicas} == before


def test_stop_while_a_failed_rollout_is_put_back_leaves_nothing_that_a_rerun_cannot_mend(
    lab: Lab, web1: Image, web2: Image, monkeypatch: pytest.MonkeyPatch
) -> None:
    web = lab.fleet("web", web1, replicas=2)
    # The new revision serves on one replica when the deadline of the other passes and Stop is pressed.
    web._control.record.revisions[2] = replace(web.revisions[0], number=2, image_id=web2.id, image=web2.name)
    web._control._site.replicas.start(web._control._site.replicas.new_name(), web._control.record.revisions[2])
    status = lab.fleet("web", web1, replicas=2).status()
    assert (status.phase, {row.revision for row in status.replicas}) == ("Healthy", {1})


def test_clean_leaves_a_lab_whose_fleets_are_on_another_engine(lab: Lab, web1: Image) -> None:
    web = lab.fleet("web", web1, replicas=1)
    report = clean(replace(lab.engine, id="another"), names=[lab.name])
    assert any("on another engine" in line for line in report.kept)
    assert web.status().ready == 1


@pytest.mark.nightly  # half a minute of waiting
def test_an_image_that_serves_and_exits_for_ever_is_rolled_back(lab: Lab, web1: Image, tmp_path: Path) -> None:
    text = (
        "FROM dockerlab/base:1\nRUN mkdir /w && echo ok > /w/healthz\nEXPOSE 80\n"
        'CMD ["sh", "-c", "httpd -p 80 -h /w; sleep 1; exit 3"]\n'
    )
    (tmp_path / "Dockerfile").write_text(text, encoding="utf-8")
    image = build(lab.client, tmp_path, tag="shortlived:test")
    web = lab.fleet("web", web1, replicas=1)
    rollout = web.rollout(image, RollingUpdate(min_ready_s=30))
    assert rollout.status == "RolledBack"
    assert "have exited again" in rollout.reason
    assert web.status().phase == "Healthy"


def test_a_router_whose_socket_was_tidied_away_is_replaced(lab: Lab, web1: Image) -> None:
    web = lab.fleet("web", web1, replicas=1)
    record = web._control.router.record
    Path(record.control.removeprefix("unix:")).unlink()
    assert web.scale(2).ready == 2
    assert not Process(record.pid, record.created_s).alive()


def test_a_full_disk_for_the_state_is_a_clear_error(lab: Lab, web1: Image, tmp_path: Path) -> None:
    if os.geteuid() != 0 or shutil.which("mount") is None:
        pytest.skip("mounting a small disk needs root and the program mount")
    code = FULL.format(image=web1.name, name="l" + uuid.uuid4().hex[:12])
    small = tmp_path / "small"
    small.mkdir()
    shell = f"mount -t tmpfs -o size=64k tmpfs {small} && XDG_STATE_HOME={small} exec {sys.executable} -c '{code}'"
    answer = subprocess.run(
        ["unshare", "--mount", "sh", "-c", shell], capture_output=True, text=True, timeout=60, check=False
    )
    assert answer.stdout.strip() == "StateError No space left on device", answer.stdout + answer.stderr


FULL = """
import os, pathlib
import dockerlab as dl
lab = dl.Lab("{name}")
fill = pathlib.Path(os.environ["XDG_STATE_HOME"]) / "fill"
try:
    with fill.open("wb", buffering=0) as file:
        while True:
            file.write(bytes(512))
except OSError:
    pass
try:
    lab.fleet("web", "{image}", replicas=1)
except dl.DockerlabError as error:
    print(type(error).__name__, "No space left on device" if "No space left" in str(error) else error)
fill.unlink()
lab.reset()
"""


def test_an_old_haproxy_on_the_path_is_passed_over(tmp_path: Path) -> None:
    program = tmp_path / "haproxy"
    program.write_text("#!/bin/sh\necho HAProxy version 2.4.22 2023/02/14\n", encoding="utf-8")
    program.chmod(0o755)
    assert haproxy_program({"PATH": str(tmp_path)}) != program
    program.write_text("#!/bin/sh\necho HAProxy version 2.8.3\n", encoding="utf-8")
    assert haproxy_program({"PATH": str(tmp_path)}) == program
