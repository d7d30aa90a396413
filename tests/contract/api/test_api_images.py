"""Images: tagged, listed, described, removed, carried from place to place."""

from __future__ import annotations

import io
import json
import tarfile
from typing import Any

import docker.errors
import pytest
from bench import Bench, archive, content_of, refusal_of, unpacked


def names(bench: Bench, **filters: Any) -> list[str]:
    given = {**filters, "label": [bench.filter["label"], *filters.get("label", ())]}
    return [entry["Id"] for entry in bench.api.images(filters=given)]


def status_of(call: Any, *arguments: Any, **options: Any) -> tuple[int, str]:
    with pytest.raises(docker.errors.APIError) as caught:
        call(*arguments, **options)
    return caught.value.status_code, str(caught.value.explanation)


@pytest.fixture
def image(bench: Bench) -> str:
    """Give an image with a tag."""
    return bench.image("FROM BASE\nCOPY f /f\nLABEL role=a\n", {"f": bench.name}, tag=f"{bench.name}:1")


def test_inspect(bench: Bench, image: str) -> None:
    told = bench.api.inspect_image(image)
    assert (told["Id"], told["RepoTags"], told["RepoDigests"] or []) == (image, [f"{bench.name}:1"], [])
    assert told["Os"] == "linux"
    assert told["Architecture"] in ("amd64", "arm64")
    assert told["Size"] > 1e6
    assert told["RootFS"]["Type"] == "layers"
    base = bench.api.inspect_image(bench.base)["RootFS"]["Layers"]
    assert told["RootFS"]["Layers"][:-1] == base
    assert told["Created"][:2] == "20"
    assert told["Config"]["Cmd"] == ["sh"]
    assert told["GraphDriver"]["Name"]
    for reference in (f"{bench.name}:1", image.removeprefix("sha256:"), image.removeprefix("sha256:")[:12]):
        assert bench.api.inspect_image(reference)["Id"] == image
    assert bench.api.inspect_image(f"docker.io/library/{bench.name}:1")["Id"] == image
    assert status_of(bench.api.inspect_image, bench.name) == (404, status_of(bench.api.inspect_image, bench.name)[1])


def test_tag(bench: Bench, image: str) -> None:
    bench.api.tag(image, f"{bench.name}/other", "2")
    bench.api.tag(f"{bench.name}:1", f"localhost:5000/{bench.name}")
    told = bench.api.inspect_image(image)["RepoTags"]
    assert sorted(told) == sorted([f"{bench.name}:1", f"{bench.name}/other:2", f"localhost:5000/{bench.name}:latest"])
    # A tag moves.
    second = bench.image("FROM BASE\nLABEL role=b\n")
    bench.api.tag(second, bench.name, "1")
    assert bench.api.inspect_image(f"{bench.name}:1")["Id"] == second
    assert f"{bench.name}:1" not in bench.api.inspect_image(image)["RepoTags"]


def test_list(bench: Bench, image: str) -> None:
    bench.api.tag(image, f"{bench.name}/other", "2")
    dangling = bench.image("FROM BASE\nLABEL role=b\n")
    (entry,) = [entry for entry in bench.api.images(filters=bench.filter) if entry["Id"] == image]
    assert sorted(entry["RepoTags"]) == sorted([f"{bench.name}:1", f"{bench.name}/other:2"])
    assert entry["Labels"]["role"] == "a"
    assert entry["Size"] > 1e6
    assert isinstance(entry["Created"], int)
    assert isinstance(entry["Containers"], int)
    assert entry["ParentId"] == "" or entry["ParentId"].startswith("sha256:")
    assert set(names(bench)) == {image, dangling}
    assert names(bench, label=["role=a"]) == [image]
    assert names(bench, dangling=["true"]) == [dangling]
    assert names(bench, dangling=["false"]) == [image]
    assert names(bench, reference=[f"{bench.name}"]) == [image]
    assert names(bench, reference=[f"{bench.name}:*"]) == [image]
    assert names(bench, reference=[f"{bench.name}:2"]) == []
    assert names(bench, reference=[f"{bench.name}/*:2"]) == [image]
    assert set(names(bench, since=["dockerlab/base:1"])) == {image, dangling}
    assert names(bench, before=[f"{bench.name}:1"]) == []
    assert [found.id for found in bench.client.images.list(name=f"{bench.name}:1")] == [image]
    (untagged,) = [entry for entry in bench.api.images(filters=bench.filter) if entry["Id"] == dangling]
    assert untagged["RepoTags"] in ([], ["<none>:<none>"], None)


def test_untag_and_delete(bench: Bench, image: str) -> None:
    bench.api.tag(image, f"{bench.name}/other", "2")
    told = bench.api.remove_image(f"{bench.name}/other:2")
    assert told == [{"Untagged": f"{bench.name}/other:2"}]
    bench.api.tag(image, f"{bench.name}/other", "2")
    status, text = status_of(bench.api.remove_image, image)
    assert status == 409
    assert "must be forced" in text
    assert "multiple repositories" in text
    bench.api.remove_image(f"{bench.name}/other:2")
    told = bench.api.remove_image(f"{bench.name}:1")
    assert told[0] == {"Untagged": f"{bench.name}:1"}
    assert {"Deleted": image} in told
    with pytest.raises(docker.errors.ImageNotFound):
        bench.api.inspect_image(image)
    assert bench.api.inspect_image("dockerlab/base:1")["Id"] == bench.base


def test_force_takes_all_tags(bench: Bench, image: str) -> None:
    bench.api.tag(image, f"{bench.name}/other", "2")
    told = bench.api.remove_image(image, force=True)
    assert {"Untagged": f"{bench.name}:1"} in told
    assert {"Untagged": f"{bench.name}/other:2"} in told
    assert {"Deleted": image} in told


def test_conflicts_with_containers(bench: Bench, image: str) -> None:
    made = bench.create(["sleep", "300"], image=image)
    short = image.removeprefix("sha256:")[:12]
    status, text = status_of(bench.api.remove_image, image)
    assert status == 409
    assert f"conflict: unable to delete {short} (must be forced) - image is being used by stopped container" in text
    status, text = status_of(bench.api.remove_image, f"{bench.name}:1")
    assert status == 409
    assert f'unable to remove repository reference "{bench.name}:1" (must force)' in text
    assert made.id[:12] in text
    made.start()
    status, text = status_of(bench.api.remove_image, image, force=True)
    assert status == 409
    assert f"unable to delete {short} (cannot be forced) - image is being used by running container" in text
    bench.api.tag(image, f"{bench.name}/other", "2")
    bench.api.remove_image(f"{bench.name}/other:2")  # only one of two names
    made.remove(force=True)
    bench.api.remove_image(image)


def test_conflicts_with_children(bench: Bench, image: str) -> None:
    child = bench.image(f"FROM {bench.name}:1\nLABEL role=c\n")
    bench.api.remove_image(f"{bench.name}:1", noprune=True)
    status, text = status_of(bench.api.remove_image, image)
    assert (status, "image has dependent child images" in text) == (409, True)
    assert bench.api.inspect_image(child)["Id"] == child


def test_prune_with_a_label(bench: Bench, image: str) -> None:
    dangling = bench.image("FROM BASE\nLABEL role=b\n")
    told = bench.client.images.prune(filters={**bench.filter, "dangling": True})
    assert {"Deleted": dangling} in told["ImagesDeleted"]
    assert names(bench) == [image]
    told = bench.client.images.prune(filters={**bench.filter, "dangling": False})
    assert {"Untagged": f"{bench.name}:1"} in told["ImagesDeleted"]
    assert names(bench) == []


def test_save_and_load(bench: Bench, image: str) -> None:
    bench.api.tag(image, f"{bench.name}/other", "2")
    data = b"".join(bench.api.get_image(f"{bench.name}:1"))
    manifest = json.loads(content_of(data, "manifest.json"))
    (entry,) = manifest
    assert entry["RepoTags"] == [f"{bench.name}:1"]
    layers = bench.api.inspect_image(image)["RootFS"]["Layers"]
    assert len(entry["Layers"]) == len(layers)
    assert json.loads(content_of(data, entry["Config"]))["rootfs"]["diff_ids"] == layers
    bench.api.remove_image(image, force=True)
    told = list(bench.api.load_image(data))
    assert any(f"Loaded image: {bench.name}:1" in message.get("stream", "") for message in told)
    assert bench.api.inspect_image(f"{bench.name}:1")["Id"] == image
    assert bench.output("cat /f", image=image) == bench.name


def test_save_by_id_and_several(bench: Bench, image: str) -> None:
    second = bench.image("FROM BASE\nLABEL role=b\n", tag=f"{bench.name}:2")
    manifest = json.loads(content_of(b"".join(bench.api.get_image(image)), "manifest.json"))
    assert manifest[0]["RepoTags"] in (None, [])
    response = bench.api._get(bench.api._url("/images/get"), params={"names": [f"{bench.name}:1", f"{bench.name}:2"]})
    data = response.content
    bench.api.remove_image(f"{bench.name}:1")
    bench.api.remove_image(f"{bench.name}:2")
    loaded = bench.client.images.load(data)
    assert {found.id for found in loaded} == {image, second}


@pytest.mark.parametrize("data", [b"no tar at all", archive({"x": "y"}), archive({"manifest.json": "{"}), b""])
def test_loads_that_cannot_be(bench: Bench, data: bytes) -> None:
    told: list[dict[str, Any]] = []
    status, _ = refusal_of(lambda: told.extend(bench.api.load_image(data)))
    assert status in (0, 400) or bench.engine.kind == "docker"
    assert status or any("error" in message for message in told) or data == b""


def test_a_load_with_a_layer_that_is_not_what_it_says(bench: Bench, image: str) -> None:
    data = b"".join(bench.api.get_image(f"{bench.name}:1"))
    manifest = json.loads(content_of(data, "manifest.json"))
    target = io.BytesIO()
    with tarfile.open(fileobj=io.BytesIO(data)) as old, tarfile.open(fileobj=target, mode="w") as new:
        for entry in old:
            file = old.extractfile(entry) if entry.isfile() else None
            if entry.name == manifest[0]["Layers"][-1]:
                content = archive({"f": "forged"})
                entry.size, entry.type, file = len(content), tarfile.REGTYPE, io.BytesIO(content)
            new.addfile(entry, file)
    bench.api.remove_image(image, force=True)
    told: list[dict[str, Any]] = []
    status, _ = refusal_of(lambda: told.extend(bench.api.load_image(target.getvalue())))
    assert status < 500
    assert status or any("error" in message for message in told), told
    with pytest.raises(docker.errors.ImageNotFound):
        bench.api.inspect_image(image)


def test_export_and_import(bench: Bench) -> None:
    made = bench.start(["sh", "-c", "echo mine > /mine && chown 12:34 /mine && ln -s mine /l"])
    made.wait()
    data = b"".join(made.export())
    changes = ['CMD ["cat", "/mine"]', f"LABEL {bench.filter['label']}", "ENV PATH=/bin"]
    told = bench.api.import_image_from_data(data, repository=bench.name, tag="in", changes=changes)
    image = json.loads(told.strip().splitlines()[-1])["status"]
    bench.keep_track(image)
    assert bench.api.inspect_image(f"{bench.name}:in")["Id"] == image
    assert len(bench.api.inspect_image(image)["RootFS"]["Layers"]) == 1
    assert bench.output(None, image=image) == "mine\n"
    told = bench.owned(bench.output("stat -c %u:%g /mine; readlink /l; stat -c %a /tmp", image=image))
    assert told.split() == [bench.owned("12:34"), "mine", "1777"]


def test_import_of_nonsense(bench: Bench) -> None:
    status, _ = status_of(bench.api.import_image_from_data, b"this is no tar at all", repository=bench.name)
    assert status == 400 or bench.engine.kind == "docker"


def test_commit(bench: Bench) -> None:
    made = bench.start(
        ["sh", "-c", "echo new > /new; rm -r /var/www; echo changed >> /etc/passwd"], labels={"own": "1"}
    )
    made.wait()
    image = made.commit(
        bench.name, "done", message="a message", author="me",
        changes='CMD ["cat", "/new"]\nENV ADDED=yes\nWORKDIR /etc\nEXPOSE 99',
    ).id  # fmt: skip
    bench.keep_track(image)
    told = bench.api.inspect_image(f"{bench.name}:done")
    assert (told["Id"], told["Comment"], told["Author"]) == (image, "a message", "me")
    assert told["Config"]["Cmd"] == ["cat", "/new"]
    assert "ADDED=yes" in told["Config"]["Env"]
    assert (told["Config"]["WorkingDir"], told["Config"]["ExposedPorts"]) == ("/etc", {"99/tcp": {}})
    assert told["Config"]["Labels"]["own"] == "1"
    base = bench.api.inspect_image(bench.base)["RootFS"]["Layers"]
    assert told["RootFS"]["Layers"][:-1] == base
    assert bench.output(None, image=image) == "new\n"
    script = "ls /var; tail -n 1 passwd; cat /new"
    assert bench.output(script, image=image).split() == ["changed", "new"]
    layer_names = {name for name in unpacked(b"".join(made.export())) if name.startswith("var/www")}
    assert layer_names == set()


def test_commit_of_one_that_runs(bench: Bench) -> None:
    made = bench.start(["sh", "-c", "echo x > /x; sleep 300"])
    made.exec_run(["sh", "-c", "until test -s /x; do usleep 9999; done"])
    image = bench.keep_track(made.commit().id)
    assert bench.output("cat /x", image=image) == "x\n"
    made.reload()
    assert made.status == "running"
    refusal = status_of(made.commit, bench.name, "x", changes="NOSUCH x")
    assert refusal[0] == 400 or bench.engine.kind == "docker"
