"""Health checks: a container gets healthy, and not."""

from __future__ import annotations

from typing import Any

from bench import Bench
from support import until

SECOND = 10**9
FAST = {"interval": SECOND // 5, "timeout": SECOND, "retries": 2}


def health(container: Any) -> dict[str, Any]:
    container.reload()
    return dict(container.attrs["State"]["Health"])


def test_it_gets_healthy_and_falls_ill(bench: Bench) -> None:
    check = {**FAST, "test": ["CMD-SHELL", "echo looked; test ! -e /ill"]}
    made = bench.start(healthcheck=check)
    assert health(made)["Status"] in ("starting", "healthy")
    until(lambda: health(made)["Status"] == "healthy")
    assert bench.api.containers(filters={**bench.filter, "health": "healthy"})[0]["Id"] == made.id
    assert "(healthy)" in bench.api.containers(filters=bench.filter)[0]["Status"]
    assert health(made)["FailingStreak"] == 0
    last = health(made)["Log"][-1]
    assert (last["ExitCode"], last["Output"]) == (0, "looked\n")
    assert last["Start"] <= last["End"]
    assert made.exec_run("touch /ill").exit_code == 0
    until(lambda: health(made)["Status"] == "unhealthy")
    assert health(made)["FailingStreak"] >= 2
    assert health(made)["Log"][-1]["ExitCode"] == 1
    assert made.status == "running"
    made.exec_run("rm /ill")
    until(lambda: health(made)["Status"] == "healthy")
    until(lambda: len(health(made)["Log"]) == 5)


def test_of_the_image_and_not_at_all(bench: Bench) -> None:
    image = bench.image('FROM BASE\nHEALTHCHECK --interval=200ms --retries=1 CMD ["test", "-e", "/well"]\n')
    ill = bench.start(image=image)
    without = bench.start(image=image, healthcheck={"test": ["NONE"]})
    until(lambda: health(ill)["Status"] == "unhealthy")
    ill.exec_run("touch /well")
    until(lambda: health(ill)["Status"] == "healthy")
    without.reload()
    assert without.attrs["State"].get("Health") is None
    assert [entry["Id"] for entry in bench.api.containers(filters={**bench.filter, "health": "none"})] == [without.id]


def test_a_start_period_forgives(bench: Bench) -> None:
    check = {**FAST, "test": ["CMD", "false"], "start_period": 60 * SECOND}
    made = bench.start(healthcheck=check)
    until(lambda: len(health(made)["Log"]) >= 3)
    assert health(made)["Status"] == "starting"


def test_a_check_that_hangs_is_ended(bench: Bench) -> None:
    check = {"test": ["CMD", "sleep", "87654"], "interval": SECOND // 5, "timeout": SECOND // 2, "retries": 1}
    made = bench.start(healthcheck=check)
    until(lambda: health(made)["Status"] == "unhealthy")
    assert "exceeded timeout" in health(made)["Log"][0]["Output"]
    assert health(made)["Log"][0]["ExitCode"] == -1


def test_a_check_that_is_not_there(bench: Bench) -> None:
    made = bench.start(healthcheck={**FAST, "test": ["CMD", "no-such-program"], "retries": 1})
    until(lambda: health(made)["Status"] == "unhealthy")


def test_it_looks_at_its_own_port(bench: Bench) -> None:
    check = {**FAST, "test": ["CMD-SHELL", "wget -q -O /dev/null http://127.0.0.1:80/passwd"]}
    made = bench.start(["httpd", "-f", "-p", "80", "-h", "/etc"], init=True, healthcheck=check)
    until(lambda: health(made)["Status"] == "healthy")


def test_it_begins_anew_with_a_restart_and_ends_with_a_stop(bench: Bench) -> None:
    made = bench.start(healthcheck={**FAST, "test": ["CMD", "true"]})
    until(lambda: health(made)["Status"] == "healthy")
    made.restart(timeout=0)
    until(lambda: health(made)["Status"] == "healthy")
    made.stop(timeout=0)
    count = len(health(made)["Log"])
    assert health(made)["Status"] in ("healthy", "unhealthy")
    assert len(health(made)["Log"]) == count
