"""Volumes: made, listed, used, removed."""

from __future__ import annotations

from typing import Any

import docker.errors
import pytest
from bench import Bench, Raw


def test_a_whole_life(bench: Bench) -> None:
    made = bench.volume(labels={"a": "b"})
    told = bench.api.inspect_volume(made.name)
    assert (told["Name"], told["Driver"], told["Scope"]) == (made.name, "local", "local")
    assert told["Labels"] == {**bench.labels, "a": "b"}
    assert told["Mountpoint"].startswith("/")
    assert "T" in told["CreatedAt"]
    made.remove()
    with pytest.raises(docker.errors.NotFound, match=f"get {made.name}: no such volume"):
        bench.api.inspect_volume(made.name)


def test_made_twice_is_the_same(bench: Bench) -> None:
    made = bench.volume()
    again = bench.client.volumes.create(made.name, labels={"other": "label"})
    assert again.attrs["Labels"] == bench.labels
    assert again.attrs["CreatedAt"] == made.attrs["CreatedAt"]


def test_a_name_is_made_up(bench: Bench, raw: Raw) -> None:
    answer = raw("POST", "/volumes/create", {"Labels": bench.labels})
    assert answer.status == 201
    assert len(answer.json["Name"]) == 64


def test_listing(bench: Bench) -> None:
    first, second = bench.volume(labels={"role": "a"}), bench.volume(labels={"role": "b"})

    def names(**filters: Any) -> set[str]:
        given = {**filters, "label": [bench.filter["label"], *filters.get("label", ())]}
        answer = bench.api.volumes(filters=given)
        assert "Warnings" in answer
        return {entry["Name"] for entry in answer["Volumes"] or ()}

    assert names() == {first.name, second.name}
    assert names(label=["role=a"]) == {first.name}
    assert names(name=[second.name]) == {second.name}
    assert names(driver=["local"]) == {first.name, second.name}
    assert names(driver=["nosuch"]) == set()
    container = bench.create(["true"], volumes={first.name: {"bind": "/data"}})
    assert names(dangling=["true"]) == {second.name}
    assert names(dangling=["false"]) == {first.name}
    container.remove()
    assert names(dangling=["true"]) == {first.name, second.name}


def test_it_is_not_removed_while_a_container_has_it(bench: Bench) -> None:
    volume = bench.volume()
    container = bench.create(["true"], volumes={volume.name: {"bind": "/data"}})
    with pytest.raises(docker.errors.APIError) as caught:
        volume.remove()
    assert caught.value.status_code == 409
    expected = f"remove {volume.name}: volume is in use - [{container.id}]"
    assert caught.value.explanation == expected
    with pytest.raises(docker.errors.APIError):
        volume.remove(force=True)
    container.remove()
    volume.remove()
    with pytest.raises(docker.errors.NotFound):
        volume.remove()


def test_what_is_in_it_goes_with_it(bench: Bench) -> None:
    volume = bench.volume()
    mounts = {volume.name: {"bind": "/data"}}
    bench.output("mkdir -p /data/a && echo x > /data/a/b && chmod 000 /data/a", volumes=mounts)
    for entry in bench.api.containers(all=True, filters=bench.filter):
        bench.api.remove_container(entry["Id"])
    volume.remove()
    bench.volume(name=volume.name)
    assert bench.output("ls -A /data", volumes=mounts) == ""


def test_prune_with_a_label(bench: Bench) -> None:
    used, idle = bench.volume(), bench.volume()
    bench.create(["true"], volumes={used.name: {"bind": "/data"}})
    told = bench.client.volumes.prune(filters=bench.filter)
    assert idle.name not in {entry["Name"] for entry in bench.api.volumes(filters=bench.filter)["Volumes"] or ()} or (
        told["VolumesDeleted"] in (None, [])  # from API 1.42 on, prune leaves volumes with a name
    )
    assert used.name in {entry["Name"] for entry in bench.api.volumes(filters=bench.filter)["Volumes"]}


def test_two_containers_share_one(bench: Bench) -> None:
    mounts = {bench.volume().name: {"bind": "/data"}}
    first, second = bench.start(volumes=mounts), bench.start(volumes=mounts)
    assert first.exec_run(["sh", "-c", "echo shared > /data/x"])[0] == 0
    assert second.exec_run("cat /data/x").output == b"shared\n"


def test_one_is_not_seen_through_another(bench: Bench) -> None:
    first, second = bench.volume(), bench.volume()
    bench.output(
        "echo a > /a/x; echo b > /a/b/x; cat /a/x /a/b/x",
        volumes={first.name: {"bind": "/a"}, second.name: {"bind": "/a/b"}},
    )
    assert bench.output("cat /x/x; ls -A /x/b", volumes={first.name: {"bind": "/x"}}) == "a\n"
