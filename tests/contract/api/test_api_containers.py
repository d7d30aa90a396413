"""A container's life: made, started, stopped, killed, renamed, removed; how it is listed and described."""

from __future__ import annotations

import time
from typing import Any

import docker.errors
import pytest
import requests
from bench import Bench, Raw
from support import until


def state(container: Any) -> dict[str, Any]:
    container.reload()
    return dict(container.attrs["State"])


def refused(status: int, text: str, call: Any, *arguments: Any, **options: Any) -> None:
    with pytest.raises(docker.errors.APIError) as caught:
        call(*arguments, **options)
    assert caught.value.status_code == status, caught.value
    assert text.lower() in str(caught.value.explanation).lower()


def test_a_whole_life(bench: Bench) -> None:
    made = bench.create(["sh", "-c", "echo on; usleep 50000; exit 3"], name=bench.fresh())
    assert len(made.id) == 64
    told = state(made)
    assert (told["Status"], told["Running"], told["Pid"], told["ExitCode"]) == ("created", False, 0, 0)
    assert told["StartedAt"].startswith("0001-01-01T00:00:00")
    made.start()
    assert made.wait()["StatusCode"] == 3
    told = state(made)
    assert (told["Status"], told["Running"], told["ExitCode"], told["Error"]) == ("exited", False, 3, "")
    assert told["StartedAt"] < told["FinishedAt"]
    assert told["OOMKilled"] is False
    made.remove()
    with pytest.raises(docker.errors.NotFound):
        made.reload()


def test_while_it_runs(bench: Bench) -> None:
    made = bench.start()
    told = state(made)
    assert (told["Status"], told["Running"], told["Paused"], told["Restarting"]) == ("running", True, False, False)
    assert told["Pid"] > 0
    assert told["FinishedAt"].startswith("0001-01-01T00:00:00")
    made.start()  # 304: nothing changes
    assert state(made)["StartedAt"] == told["StartedAt"]


def test_it_is_found_by_id_prefix_and_name(bench: Bench) -> None:
    made = bench.create(["true"], name=bench.fresh())
    for reference in (made.id, made.id[:12], made.id[:6], made.name, f"/{made.name}"):
        assert bench.client.containers.get(reference).id == made.id


def test_create_refusals(bench: Bench) -> None:
    made = bench.create(["true"], name=bench.fresh())
    refused(409, f'The container name "/{made.name}" is already in use by container', bench.create, name=made.name)
    refused(409, made.id, bench.create, name=made.name)
    refused(400, "Invalid container name", bench.create, name="a b")
    refused(404, "No such image: nosuch:9", bench.create, ["true"], image="nosuch:9")
    with pytest.raises(docker.errors.ImageNotFound):
        bench.create(["true"], image="nosuch:9")
    refused(400, "no command specified", bench.create, None, image=bench.image("FROM scratch\nLABEL a=b\n"))


def test_an_unknown_network_is_refused_at_the_latest_at_the_start(bench: Bench) -> None:
    with pytest.raises(docker.errors.APIError) as caught:
        bench.start(network="no-such-network")
    assert caught.value.status_code in (400, 404)
    assert "no-such-network not found" in str(caught.value.explanation)


def test_create_tells_warnings_as_a_list(bench: Bench, raw: Raw) -> None:
    answer = raw("POST", "/containers/create", {"Image": bench.base, "Cmd": "true", "Labels": bench.labels})
    assert answer.status == 201
    assert isinstance(answer.json["Warnings"] or [], list)
    assert bench.client.containers.get(answer.json["Id"]).attrs["Config"]["Cmd"] == ["true"]


def test_a_name_is_made_up(bench: Bench) -> None:
    names = {bench.create(["true"]).name for _ in range(3)}
    assert len(names) == 3
    assert all(names)


@pytest.mark.parametrize("code", [0, 3, 255])
def test_exit_codes(bench: Bench, code: int) -> None:
    assert bench.finish(["sh", "-c", f"exit {code}"]) == (code, "")


def test_exit_codes_of_signals(bench: Bench) -> None:
    for number, code in ((9, 137), (15, 143), (2, 130)):
        made = bench.start(["sleep", "60"], init=number != 9)
        made.kill(number)
        assert made.wait(timeout=10)["StatusCode"] == code
        assert state(made)["ExitCode"] == code


@pytest.mark.parametrize(
    ("command", "code", "text"),
    [
        (["no-such-program"], 127, "no-such-program"),
        (["/no/such/program"], 127, "/no/such/program"),
        (["/etc/passwd"], 126, "permission denied"),
        (["/etc"], 126, "/etc"),
    ],
)
def test_programs_that_cannot_be_started(bench: Bench, command: list[str], code: int, text: str) -> None:
    made = bench.create(command)
    with pytest.raises(docker.errors.APIError) as caught:
        made.start()
    assert caught.value.status_code in (400, 404, 500)
    assert text in str(caught.value.explanation)
    told = state(made)
    assert (told["Running"], told["ExitCode"], told["Status"]) == (False, code, "created")
    assert text in told["Error"]


def test_stop_is_patient_and_then_kills(bench: Bench) -> None:
    kind = bench.start(["sh", "-c", "trap 'echo bye; exit 5' TERM; echo up; while :; do usleep 20000; done"])
    until(lambda: b"up" in kind.logs())
    kind.stop(timeout=10)
    assert state(kind)["ExitCode"] == 5
    assert kind.logs().splitlines() == [b"up", b"bye"]
    deaf = bench.start(["sh", "-c", "trap '' TERM; echo up; while :; do usleep 20000; done"])
    until(lambda: b"up" in deaf.logs())
    begun = time.monotonic()
    deaf.stop(timeout=1)
    assert 0.9 < time.monotonic() - begun < 4
    assert state(deaf)["ExitCode"] == 137
    deaf.stop()  # 304: it is stopped already
    begun = time.monotonic()
    other = bench.start()
    other.stop(timeout=0)
    assert time.monotonic() - begun < 4
    assert state(other)["ExitCode"] == 137


def test_the_stop_signal_and_time_of_the_container(bench: Bench) -> None:
    script = "trap 'echo usr1; exit 4' USR1; trap '' TERM; echo up; while :; do usleep 20000; done"
    made = bench.start(["sh", "-c", script], stop_signal="SIGUSR1")
    until(lambda: b"up" in made.logs())
    made.stop(timeout=5)
    assert state(made)["ExitCode"] == 4
    assert made.attrs["Config"]["StopSignal"] == "SIGUSR1"
    created = bench.api.create_container(bench.base, ["sleep", "60"], labels=bench.labels, stop_timeout=1)
    bench.api.start(created)
    begun = time.monotonic()
    bench.api.stop(created)
    # Process 1 ignores what it does not handle; without a namespace for processes there is no process 1
    assert (0.9 if bench.engine.has_wall("pid") else 0) < time.monotonic() - begun < 5
    assert bench.api.inspect_container(created)["Config"]["StopTimeout"] == 1


def test_restart_keeps_the_writable_layer(bench: Bench) -> None:
    made = bench.start(["sh", "-c", "echo line >> /kept; wc -l < /kept; exec sleep 60"])
    until(lambda: made.logs().split() == [b"1"])
    first = state(made)
    made.restart(timeout=0)
    until(lambda: made.logs().split() == [b"1", b"2"])
    second = state(made)
    assert second["Pid"] != first["Pid"]
    assert second["StartedAt"] > first["StartedAt"]
    made.stop(timeout=0)
    made.start()
    until(lambda: made.logs().split() == [b"1", b"2", b"3"])
    assert made.attrs["RestartCount"] == 0


def test_restart_starts_what_was_stopped(bench: Bench) -> None:
    made = bench.create(["sleep", "60"])
    made.restart(timeout=0)
    assert state(made)["Running"]


def test_signals_reach_the_main_process(bench: Bench) -> None:
    made = bench.start(["sh", "-c", "trap 'echo hup' HUP; echo up; while :; do usleep 20000; done"])
    until(lambda: b"up" in made.logs())
    for name in ("SIGHUP", "HUP", "1"):
        made.kill(signal=name)
        time.sleep(0.1)
    until(lambda: made.logs().count(b"hup") == 3)
    assert state(made)["Running"]
    made.kill()
    until(lambda: not state(made)["Running"])
    refused(409, "is not running", made.kill)


def test_wait_for_conditions(bench: Bench) -> None:
    made = bench.create(["sh", "-c", "exit 6"])
    with pytest.raises((requests.exceptions.ReadTimeout, requests.exceptions.ConnectionError)):
        made.wait(timeout=0.3, condition="next-exit")
    made.start()
    assert made.wait(timeout=10)["StatusCode"] == 6
    assert made.wait(timeout=10, condition="not-running")["StatusCode"] == 6


def test_wait_for_removal(bench: Bench) -> None:
    import threading

    made = bench.start(["sh", "-c", "sleep 0.5; exit 8"], auto_remove=True)
    told: list[Any] = []
    waiter = threading.Thread(target=lambda: told.append(bench.api.wait(made.id, timeout=20, condition="removed")))
    waiter.start()
    waiter.join()
    assert told[0]["StatusCode"] == 8
    with pytest.raises(docker.errors.NotFound):
        made.reload()


def test_auto_remove_also_after_a_stop(bench: Bench) -> None:
    made = bench.start(auto_remove=True)
    made.stop(timeout=0)

    def gone() -> bool:
        return not bench.api.containers(all=True, filters={"id": made.id})

    until(gone)


def test_rename(bench: Bench) -> None:
    first, second = bench.create(["true"], name=bench.fresh()), bench.create(["true"], name=bench.fresh())
    old, new = first.name, bench.fresh()
    first.rename(new)
    first.reload()
    assert first.attrs["Name"] == f"/{new}"
    with pytest.raises(docker.errors.NotFound):
        bench.client.containers.get(old)
    refused(409, "already in use", first.rename, second.name)
    second.rename(old)


def test_remove(bench: Bench) -> None:
    made = bench.start(volumes={bench.fresh(): {"bind": "/kept"}}, name=bench.fresh())
    refused(409, "You cannot remove a running container", made.remove)
    made.remove(force=True)
    refused(404, "No such container", made.remove)
    bench.create(["true"], name=made.name)
    bench.api.remove_volume(made.attrs["Mounts"][0]["Name"])


def test_prune_with_a_label(bench: Bench) -> None:
    stopped, running = bench.create(["true"]), bench.start()
    told = bench.client.containers.prune(filters=bench.filter)
    assert told["ContainersDeleted"] == [stopped.id]
    assert told["SpaceReclaimed"] >= 0
    assert state(running)["Running"]
    assert bench.client.containers.prune(filters=bench.filter)["ContainersDeleted"] in (None, [])


def test_listing(bench: Bench) -> None:
    image = bench.image("FROM BASE\nLABEL one=two\n", tag=f"{bench.name}:1")
    running = bench.start(image=image, name=bench.fresh(), labels={"role": "a"})
    ended = bench.start(["sh", "-c", "exit 5"], name=bench.fresh(), labels={"role": "b"})
    ended.wait()
    created = bench.create(["true"], name=bench.fresh())

    def ids(*, everything: bool = True, **filters: Any) -> list[str]:
        given = {**filters, "label": [bench.filter["label"], *filters.get("label", ())]}
        return [entry["Id"] for entry in bench.api.containers(all=everything, filters=given)]

    assert ids() == [created.id, ended.id, running.id]  # the newest first
    assert ids(everything=False) == [running.id]
    assert ids(status=["exited"]) == [ended.id]
    assert ids(status=["created", "running"]) == [created.id, running.id]
    assert ids(exited=[5]) == [ended.id]
    assert ids(exited=[6]) == []
    assert ids(label=["role"]) == [ended.id, running.id]
    assert ids(label=["role=a"]) == [running.id]
    assert ids(name=[ended.name]) == [ended.id]
    assert ids(name=[f"^/{ended.name}$"]) == [ended.id]
    assert ids(name=[bench.name]) == [created.id, ended.id, running.id]
    assert ids(id=[ended.id[:12]]) == [ended.id]
    assert ids(ancestor=[f"{bench.name}:1"]) == ids(ancestor=[image]) == [running.id]
    assert ids(before=[ended.name]) == [running.id]
    assert ids(since=[ended.name]) == [created.id]
    assert ids(network=["bridge"], status=["running"]) == [running.id]
    newest = bench.api.containers(all=True, limit=1, filters=bench.filter)
    assert [entry["Id"] for entry in newest] == [created.id]


def test_an_entry_of_the_list(bench: Bench) -> None:
    image = bench.image("FROM BASE\nLABEL one=two\nEXPOSE 81\n", tag=f"{bench.name}:1")
    made = bench.start(["sleep", "300"], image=f"{bench.name}:1", name=bench.fresh(), ports={80: ("127.0.0.1", None)})
    entry = bench.api.containers(filters=bench.filter, size=True)[0]
    assert entry["Names"] == [f"/{made.name}"]
    assert (entry["Image"], entry["ImageID"]) == (f"{bench.name}:1", image)
    assert entry["Command"] == "sleep 300"
    assert abs(entry["Created"] - time.time()) < 60
    assert entry["State"] == "running"
    assert entry["Status"].startswith(("Up ", "Less"))
    assert entry["Labels"] == {**bench.labels, "dockerlab.image": "true", "one": "two"}
    ports = {(port["PrivatePort"], port["Type"], port.get("IP")) for port in entry["Ports"]}
    assert ports == {(80, "tcp", "127.0.0.1"), (81, "tcp", None)}
    assert next(port["PublicPort"] for port in entry["Ports"] if port["PrivatePort"] == 80) > 0
    assert entry["HostConfig"]["NetworkMode"] in ("default", "bridge")
    assert list(entry["NetworkSettings"]["Networks"]) == ["bridge"]
    assert entry["Mounts"] == []
    assert entry["SizeRootFs"] > 1e6
    ended = bench.start(["sh", "-c", "exit 5"])
    ended.wait()
    entry = bench.api.containers(all=True, filters={"id": ended.id})[0]
    assert entry["Status"].startswith("Exited (5) ")
    assert entry["Image"] == "dockerlab/base:1" or bench.base.endswith(entry["Image"].removeprefix("sha256:"))


def test_inspecting(bench: Bench) -> None:
    volume = bench.volume()
    made = bench.start(
        ["-c", "sleep 300"],
        entrypoint=["/bin/sh"],
        environment={"A": "b=c"},
        hostname="here",
        working_dir="/w",
        user="0:0",
        volumes={volume.name: {"bind": "/data", "mode": "ro"}},
        ports={"80/tcp": ("127.0.0.1", None)},
        init=True,
        mem_limit="64m",
        restart_policy={"Name": "on-failure", "MaximumRetryCount": 2},
    )
    made.reload()
    told = made.attrs
    assert told["Id"] == made.id
    assert told["Image"] == bench.base
    assert (told["Path"], told["Args"]) == ("/bin/sh", ["-c", "sleep 300"])
    config, host = told["Config"], told["HostConfig"]
    assert (config["Entrypoint"], config["Cmd"]) == (["/bin/sh"], ["-c", "sleep 300"])
    assert (config["Hostname"], config["WorkingDir"], config["User"]) == ("here", "/w", "0:0")
    assert "A=b=c" in config["Env"]
    assert any(item.startswith("PATH=") for item in config["Env"])
    assert config["ExposedPorts"] == {"80/tcp": {}}
    assert config["Labels"][next(iter(bench.labels))] == bench.name
    assert (config["Tty"], config["OpenStdin"]) == (False, False)
    assert host["Binds"] == [f"{volume.name}:/data:ro"]
    assert host["Init"] is True
    assert host["Memory"] == 64 << 20
    assert host["RestartPolicy"] == {"Name": "on-failure", "MaximumRetryCount": 2}
    assert host["PortBindings"]["80/tcp"][0]["HostIp"] == "127.0.0.1"
    (mount,) = told["Mounts"]
    assert (mount["Type"], mount["Name"], mount["Destination"], mount["RW"]) == ("volume", volume.name, "/data", False)
    ports = told["NetworkSettings"]["Ports"]["80/tcp"]
    assert [port["HostIp"] for port in ports] == ["127.0.0.1"]
    assert told["NetworkSettings"]["Networks"]["bridge"]["IPAddress"]
    assert told["RestartCount"] == 0
    assert told["Driver"]
    assert told["Platform"] == "linux"
    assert "Health" not in told["State"] or told["State"]["Health"] is None


def test_restart_policy_on_failure(bench: Bench) -> None:
    script = "echo try; exit 9"
    policy = {"Name": "on-failure", "MaximumRetryCount": 2}
    failing = bench.start(["sh", "-c", script], restart_policy=policy)
    good = bench.start(["true"], restart_policy=policy)

    def given_up() -> bool:
        failing.reload()
        return failing.attrs["RestartCount"] == 2 and failing.attrs["State"]["Status"] == "exited"

    until(given_up)
    assert failing.logs().split() == [b"try"] * 3
    assert failing.attrs["State"]["ExitCode"] == 9
    good.reload()
    assert (good.attrs["RestartCount"], good.attrs["State"]["Status"]) == (0, "exited")


def test_restart_policy_always_ends_with_a_stop(bench: Bench) -> None:
    made = bench.start(["sh", "-c", "echo try; sleep 0.2"], restart_policy={"Name": "always"})
    until(lambda: made.logs().count(b"try") >= 2)
    made.stop(timeout=1)
    count = made.logs().count(b"try")
    time.sleep(0.6)
    assert made.logs().count(b"try") == count
    assert state(made)["Status"] == "exited"


def test_pause(bench: Bench) -> None:
    made = bench.start(["sh", "-c", "while :; do echo x; usleep 20000; done"])
    made.pause()
    assert state(made)["Status"] == "paused"
    assert state(made)["Paused"]
    before = made.logs()
    time.sleep(0.3)
    assert made.logs() == before
    made.unpause()
    until(lambda: len(made.logs()) > len(before))
    assert state(made)["Status"] == "running"


def test_update_of_the_restart_policy(bench: Bench) -> None:
    made = bench.start()
    made.update(restart_policy={"Name": "on-failure", "MaximumRetryCount": 4})
    made.reload()
    assert made.attrs["HostConfig"]["RestartPolicy"] == {"Name": "on-failure", "MaximumRetryCount": 4}


def test_thirty_at_the_same_time(bench: Bench) -> None:
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(6) as pool:
        made = list(pool.map(lambda number: bench.start(["sleep", "300"], name=f"{bench.name}-n{number}"), range(30)))
        assert len(bench.api.containers(filters=bench.filter)) == 30
        assert len({container.id for container in made}) == 30
        list(pool.map(lambda container: container.remove(force=True), made))
    assert bench.api.containers(all=True, filters=bench.filter) == []
