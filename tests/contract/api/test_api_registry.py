"""Pull and push, against a registry of this machine."""

from __future__ import annotations

import json
import uuid
from typing import Any

import docker.errors
import pytest
from bench import Bench

from dockerlab.connect import engine_errors
from dockerlab.errors import EngineError


@pytest.fixture
def name(registry: str, bench: Bench) -> str:
    return f"{registry}/{bench.name}/{uuid.uuid4().hex[:6]}"


def push(bench: Bench, image: str, name: str, tag: str = "1") -> tuple[str, list[dict[str, Any]]]:
    bench.api.tag(image, name, tag)
    told = list(bench.api.push(name, tag, stream=True, decode=True))
    assert not [message for message in told if "error" in message], told
    return next(message["aux"]["Digest"] for message in told if "aux" in message), told


def test_there_and_back(bench: Bench, name: str) -> None:
    image = bench.image('FROM BASE\nRUN echo pushed > /f && chown 12:34 /f\nCMD ["cat", "/f"]\n')
    assert not bench.api.inspect_image(image)["RepoDigests"]
    digest, told = push(bench, image, name)
    assert bench.api.inspect_image(image)["RepoDigests"] == [f"{name}@{digest}"]
    assert any(message.get("status", "").startswith(f"The push refers to repository [{name}]") for message in told)
    assert any(f"1: digest: {digest} size: " in message.get("status", "") for message in told)
    bench.api.remove_image(image, force=True)
    with pytest.raises(docker.errors.ImageNotFound):
        bench.api.inspect_image(image)
    told = [json.loads(line) for line in bench.api.pull(name, "1").splitlines()]
    words = [message.get("status", "") for message in told]
    assert words[0] == f"Pulling from {name.partition('/')[2]}"
    assert f"Digest: {digest}" in words
    assert f"Status: Downloaded newer image for {name}:1" in words
    assert any(word == "Pull complete" for word in words)
    assert bench.api.inspect_image(f"{name}:1")["Id"] == image
    told = bench.output("cat /f; stat -c %u:%g /f", image=image)
    assert bench.owned(told) == bench.owned("pushed\n12:34\n")
    assert f"Status: Image is up to date for {name}:1" in bench.api.pull(name, "1")


def test_by_digest(bench: Bench, name: str) -> None:
    image = bench.image("FROM BASE\nLABEL role=digest\n")
    digest, _ = push(bench, image, name)
    bench.api.remove_image(image, force=True)
    found = bench.client.images.pull(f"{name}@{digest}")
    assert found.id == image
    assert (found.tags, found.attrs["RepoDigests"]) == ([], [f"{name}@{digest}"])
    assert bench.api.inspect_image(f"{name}@{digest}")["Id"] == image
    bench.api.remove_image(f"{name}@{digest}")
    with pytest.raises(docker.errors.ImageNotFound):
        bench.api.inspect_image(image)
    wrong = "sha256:" + "0" * 64
    with pytest.raises(docker.errors.NotFound):
        bench.client.images.pull(f"{name}@{wrong}")


def test_layers_are_sent_once(bench: Bench, name: str) -> None:
    first = bench.image("FROM BASE\nLABEL role=a\n")
    push(bench, first, name)
    second = bench.image("FROM BASE\nCOPY f /f\n", {"f": bench.name})
    _, told = push(bench, second, name, "2")
    words = [message.get("status", "") for message in told]
    assert "Layer already exists" in words
    assert words.count("Pushed") == 1


def test_a_tag_that_moves(bench: Bench, name: str) -> None:
    first, second = (bench.image(f"FROM BASE\nLABEL role={role}\n") for role in "ab")
    push(bench, first, name)
    push(bench, second, name)
    bench.api.tag(first, name, "1")
    assert bench.client.images.pull(name, tag="1").id == second
    assert bench.api.inspect_image(f"{name}:1")["Id"] == second
    assert f"{name}:1" not in bench.api.inspect_image(first)["RepoTags"]


def test_all_tags(bench: Bench, name: str) -> None:
    images = {}
    for tag in ("x", "y"):
        images[tag] = bench.image(f"FROM BASE\nLABEL role={tag}\n")
        push(bench, images[tag], name, tag)
        bench.api.remove_image(images[tag], force=True)
    found = bench.client.images.pull(name, all_tags=True)
    assert {image.id for image in found} == set(images.values())


def test_a_build_pulls_what_it_starts_from(bench: Bench, name: str) -> None:
    image = bench.image("FROM BASE\nRUN echo parent > /parent\n")
    push(bench, image, name)
    bench.api.remove_image(image, force=True)
    child = bench.image(f"FROM {name}:1\nRUN cat /parent > /child\n")
    assert bench.output("cat /child", image=child) == "parent\n"


def test_what_is_not_there(bench: Bench, name: str, registry: str) -> None:
    with pytest.raises(docker.errors.NotFound, match=r"not found|unknown"):
        bench.client.images.pull(name, tag="1")
    told = list(bench.api.push(name, "1", stream=True, decode=True))
    assert any("does not exist locally with the tag: 1" in message.get("error", "") for message in told)


def test_a_registry_that_does_not_answer(bench: Bench) -> None:
    with pytest.raises(docker.errors.APIError) as caught:
        bench.client.images.pull("127.0.0.1:9/no/such", tag="1")
    assert caught.value.status_code == (500 if bench.engine.kind == "docker" else 502)
    assert "127.0.0.1:9" in str(caught.value.explanation)
    bench.api.tag(bench.base, "127.0.0.1:9/no/such", "1")
    try:
        told = list(bench.api.push("127.0.0.1:9/no/such", "1", stream=True, decode=True))
    finally:
        bench.api.remove_image("127.0.0.1:9/no/such:1")
    assert any("127.0.0.1:9" in message.get("error", "") for message in told)


def test_what_a_registry_has_is_told_without_a_pull(bench: Bench, name: str) -> None:
    image = bench.image("FROM BASE\nLABEL role=told\n")
    digest, _ = push(bench, image, name)
    for asked in (f"{name}:1", f"{name}@{digest}"):
        told = bench.api.inspect_distribution(asked)
        assert told["Descriptor"]["digest"] == digest
        assert told["Descriptor"]["mediaType"] == "application/vnd.docker.distribution.manifest.v2+json"
        assert told["Descriptor"]["size"] > 100
        (platform,) = told["Platforms"]
        assert (platform["os"], platform["architecture"]) == ("linux", bench.api.inspect_image(image)["Architecture"])
    with pytest.raises(docker.errors.APIError):
        bench.api.inspect_distribution(f"{name}:2")


def test_a_login_is_asked_of_the_registry(bench: Bench, registry: str) -> None:
    def login(address: str) -> Any:
        data = {"username": "u", "password": "p", "serveraddress": address}
        return bench.api._result(bench.api._post_json(bench.api._url("/auth"), data=data), json=True)

    for address in (registry, f"http://{registry}/v2/"):
        assert login(address)["Status"] == "Login Succeeded"
    with pytest.raises(docker.errors.APIError, match=r"127\.0\.0\.1:9.*connection refused"):
        login("127.0.0.1:9")


def test_a_registry_whose_name_is_not_known(bench: Bench) -> None:
    with pytest.raises(EngineError, match=r"could not get it from the registry.*no such host"), engine_errors():
        bench.client.images.pull("no.such.host.invalid/web", tag="1")


def test_no_tag_at_all(bench: Bench, name: str) -> None:
    told = list(bench.api.push(name, stream=True, decode=True))
    assert told[-1]["error"] == f"An image does not exist locally with the tag: {name}"
    image = bench.image("FROM BASE\nLABEL role=all\n")
    for tag in ("x", "y"):
        bench.api.tag(image, name, tag)
    told = list(bench.api.push(name, stream=True, decode=True))
    assert [message["aux"]["Tag"] for message in told if "aux" in message] == ["x", "y"]
    told = list(bench.api.push(name, "z", stream=True, decode=True))
    assert told[-1]["error"] == f"tag does not exist: {name}:z"
