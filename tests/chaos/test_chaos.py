"""A fault in the middle of a rollout: the fleet ends whole, in the wanted revision or the one before, nothing is left.

Each round follows from its seed, which a failure prints: the nightly test begins at DOCKERLAB_CHAOS_SEED.
"""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass

import docker.errors
import pytest

import dockerlab as dl
from dockerlab.connect import Engine
from dockerlab.engine import daemon
from dockerlab.engine.places import find_places
from dockerlab.errors import DockerlabError
from dockerlab.fleet.fleet import Fleet
from dockerlab.images import Image
from dockerlab.lab import Lab
from dockerlab.traffic.load import Traffic

REPLICAS, FAULT_WITHIN_S, RECOVERED_WITHIN_S = 3, 3.0, 60.0
STRATEGIES = 4
FIRST_SEED = int(os.environ.get("DOCKERLAB_CHAOS_SEED", "1"))
RESTART_DOCKER = os.environ.get("DOCKERLAB_RESTART_DOCKER", "")
"""A command that restarts Docker Engine, where this machine's may be restarted."""

# A process of its own, which can be killed. What a person would see as an error of the lab is told by exit code 3.
DRIVER = """
import sys
import dockerlab as dl
from dockerlab.errors import DockerlabError
name, engine, image, number = sys.argv[1:]
strategy = [
    dl.Recreate(progress_deadline_s=4),
    dl.RollingUpdate(max_surge=1, max_unavailable=0, progress_deadline_s=4),
    dl.BlueGreen(scale_down_delay_s=0.3, progress_deadline_s=4),
    dl.Canary([dl.SetWeight(30), dl.Pause(0.5), dl.SetWeight(60)], progress_deadline_s=4),
][int(number)]
try:
    lab = dl.Lab(name, engine=engine)
    web = lab.fleets["web"]
    print("ready", flush=True)
    web.rollout(image, strategy)
    lab.close()
except DockerlabError as error:
    print(f"{type(error).__name__}: {error}", file=sys.stderr)
    sys.exit(3)
"""


@dataclass
class Round:
    """A rollout under way, and what can happen to it."""

    engine: Engine
    lab: str
    web: Fleet  # as it was before
    driver: subprocess.Popen[str]
    chance: random.Random
    hung: str = ""

    def some_replica(self) -> str:
        """Give the id of one of the replicas that are there."""
        rows = self.engine.client.api.containers(filters={"label": f"dockerlab.lab={self.lab}"})
        replicas = sorted(row["Id"] for row in rows if "dockerlab.fleet" in row["Labels"])
        return self.chance.choice(replicas) if replicas else "none"


def kill_a_replica(it: Round) -> None:
    with suppress(docker.errors.APIError):  # it may be gone by now
        it.engine.client.api.kill(it.some_replica())


def hang_a_replica(it: Round) -> None:
    it.hung = it.some_replica()
    with suppress(docker.errors.APIError):
        it.engine.client.api.pause(it.hung)


def kill_the_driver(it: Round) -> None:
    it.driver.kill()


def kill_the_router(it: Round) -> None:
    with suppress(ProcessLookupError):
        os.kill(it.web._control.router.record.pid, signal.SIGKILL)


def restart_the_engine(it: Round) -> None:
    if it.engine.kind == "embedded":
        daemon.stop(find_places())
    else:
        subprocess.run(RESTART_DOCKER, shell=True, check=True, timeout=60)


Fault = Callable[[Round], None]


def faults_of(engine: Engine) -> list[Fault]:
    faults: list[Fault] = [kill_a_replica, hang_a_replica, kill_the_driver, kill_the_router]
    return faults + ([restart_the_engine] if engine.kind == "embedded" or RESTART_DOCKER else [])


def recover(lab: str, engine: str, hung: str) -> tuple[Lab, Fleet]:
    """Do what a person would: open the lab, go on with what was begun, and let the reconciler heal the rest."""
    policy = dl.HealingPolicy(unhealthy_after_s=0.5, interval_s=0.1)
    ends_s = time.monotonic() + RECOVERED_WITHIN_S
    seen: object = None
    while time.monotonic() < ends_s:
        mine = Lab(lab, engine=engine)
        try:
            web = mine.fleets["web"]
            with dl.Reconciler(web, policy):
                while time.monotonic() < ends_s:
                    seen = status = web.status()
                    if status.phase == "Paused":
                        web.resume()
                    elif status.phase == "Healthy" and hung not in {row.id for row in status.replicas}:
                        return mine, web
                    time.sleep(0.05)
        except DockerlabError as error:
            seen = error
        mine.close()
    raise AssertionError(f"the fleet did not recover: {seen}")


def play(engine: Engine, lab: str, images: tuple[Image, Image], seed: int) -> str:
    """Begin a rollout, let something happen, recover, and look whether all is well; tell what happened."""
    chance = random.Random(seed)
    faults = faults_of(engine)
    fault, strategy = faults[seed % len(faults)], chance.randrange(STRATEGIES)
    with Lab(lab, engine=engine.kind) as mine:
        web = mine.fleets["web"]
    before, target = web.image.id, images[web.image.id == images[0].id]
    command = [sys.executable, "-c", DRIVER, lab, engine.kind, target.name, str(strategy)]
    about = f"seed {seed}, {fault.__name__} in strategy {strategy}"
    with (
        Traffic(web.url, rate=40) as traffic,
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as driver,
    ):
        assert driver.stdout is not None
        assert driver.stdout.readline() == "ready\n", driver.communicate()[1]
        time.sleep(chance.uniform(0, FAULT_WITHIN_S))
        it = Round(engine, lab, web, driver, chance)
        fault(it)
        said = driver.communicate(timeout=90)[1]
        assert driver.returncode in (0, 3, -signal.SIGKILL), f"{about}: {said}"
        mine, web = recover(lab, engine.kind, it.hung)
    with mine:
        status = web.status()
        names = {row.name for row in status.replicas}
        about = f"{about}: {said}{status}"
        assert (status.phase, status.ready, len(names)) == ("Healthy", REPLICAS, REPLICAS), about
        assert web.image.id in (before, target.id), about
        assert {row.revision for row in status.replicas} == {web.revision}, about
        look = web._control.router.api.look()
        assert {name: server.traffic for name, server in look.servers.items()} == dict.fromkeys(names, "ready"), about
        assert look.green in (0, 100), about
        rows = engine.client.api.containers(all=True, filters={"label": f"dockerlab.lab={lab}"})
        assert {row["Names"][0].lstrip("/") for row in rows if "dockerlab.fleet" in row["Labels"]} == names, about
        if fault is kill_the_driver and strategy != 0:
            assert traffic.results.summary().lost == 0, about
        with Traffic(web.url, rate=40, duration_s=0.5) as after:
            pass
        assert after.results.summary().lost == 0, about
    return f"{fault.__name__} {'ends in the new' if web.image.id == target.id else 'goes back'}"


def play_all(engine: Engine, lab: Lab, images: tuple[Image, Image], seeds: range) -> None:
    lab.fleet("web", images[0], replicas=REPLICAS, env={"WORK_MS": "10"}, stop_grace_s=1)
    lab.close()
    ends: Counter[str] = Counter()
    for seed in seeds:
        ends[play(engine, lab.name, images, seed)] += 1
    print(*(f"{count:4} {end}" for end, count in sorted(ends.items())), sep="\n")


@pytest.mark.timeout(600)
def test_a_dozen_faults(engine: Engine, lab: Lab, web1: Image, web2: Image) -> None:
    """Play some on Docker Engine and the others on the embedded engine, each kind of fault at least once."""
    play_all(engine, lab, (web1, web2), range(5, 13) if engine.kind == "embedded" else range(1, 5))


@pytest.mark.nightly
@pytest.mark.timeout(7200)
def test_two_hundred_faults(engine: Engine, lab: Lab, web1: Image, web2: Image) -> None:
    play_all(engine, lab, (web1, web2), range(FIRST_SEED, FIRST_SEED + 200))
