"""Pulling and pushing against registries: Debian's own, and ours; and what a bad one may try."""

from __future__ import annotations

import asyncio
import contextlib
import gzip
import hashlib
import io
import json
import shutil
import socket
import subprocess
import sys
import tarfile
import time
import urllib.error
import urllib.request
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any, NoReturn, TypeVar

import pytest
from aiohttp import web
from support import registry_command

from dockerlab.engine.images import Images, Reference, host_architecture, parse
from dockerlab.engine.images.registry import is_loopback, proxy_for
from dockerlab.engine.images.transfer import login, pull, pull_all, push
from dockerlab.engine.refusals import RefusalError

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the embedded engine runs on Linux only")

Missing = Callable[[str, str], NoReturn]
T = TypeVar("T")


def run(work: Awaitable[T]) -> T:
    async def inner() -> T:
        return await asyncio.wait_for(work, 60)

    return asyncio.run(inner())


def silent(message: dict[str, Any]) -> None:
    pass


def pack(name: str, content: bytes) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        info = tarfile.TarInfo(name)
        info.size = len(content)
        archive.addfile(info, io.BytesIO(content))
    return buffer.getvalue()


@pytest.fixture
def images(tmp_path: Path) -> Images:
    store = Images(tmp_path / "store")
    layers = [store.add_layer(io.BytesIO(pack(name, name.encode() * 100_000))).diff_id for name in "ab"]
    config = {
        "architecture": host_architecture(),
        "os": "linux",
        "config": {},
        "rootfs": {"type": "layers", "diff_ids": layers},
    }
    store.add_image(config)
    return store


def wait(address: str, log: Path) -> None:
    ends = time.monotonic() + 20
    while True:
        try:
            with urllib.request.urlopen(f"http://{address}/v2/", timeout=1):
                return
        except OSError:  # noqa: PERF203
            assert time.monotonic() < ends, log.read_text()
            time.sleep(0.05)


@pytest.fixture(scope="module", params=["debian", "ours"])
def registry(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, missing: Missing
) -> Iterator[str]:
    """The address of a registry of this machine, of each kind."""
    home = tmp_path_factory.mktemp("registry")
    with socket.create_server(("127.0.0.1", 0)) as probe:
        address = f"127.0.0.1:{probe.getsockname()[1]}"
    if request.param == "debian":
        program = shutil.which("docker-registry")
        if program is None:
            missing("registry", "the program docker-registry (Debian package docker-registry) is not installed")
        command = registry_command(program, home, address)
    else:
        command = [sys.executable, "-m", "dockerlab.engine.images.serve", str(home / "data"), address.partition(":")[2]]
    with (home / "log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log)
    try:
        wait(address, home / "log")
        yield address
    finally:
        process.terminate()
        assert process.wait(10) in (0, -15, 2)


def test_what_is_pushed_comes_back_the_same(registry: str, images: Images, tmp_path: Path) -> None:
    record = images.list()[0]
    name = parse(f"{registry}/team/web:1")
    images.tag(record.id, name)
    told: list[dict[str, Any]] = []
    digest = run(push(images, name, progress=told.append))
    assert told[0] == {"status": f"The push refers to repository [{registry}/team/web]"}
    assert [one["status"] for one in told if one.get("status") in ("Preparing", "Pushed")] == ["Preparing"] * 2 + [
        "Pushed"
    ] * 2
    aux = told[-1]["aux"]
    assert (aux["Tag"], aux["Digest"]) == ("1", digest)
    assert told[-2]["status"] == f"1: digest: {digest} size: {aux['Size']}"
    assert images.get(record.id).digests == (f"{registry}/team/web@{digest}",)
    told.clear()
    assert run(push(images, name, progress=told.append)) == digest
    assert [one.get("status") for one in told].count("Layer already exists") == 2

    other = Images(tmp_path / "other")
    told.clear()
    back = run(pull(other, name, progress=told.append))
    assert (back.id, back.tags, back.digests) == (record.id, (name.familiar,), (f"{registry}/team/web@{digest}",))
    for diff_id in record.diff_ids:
        assert other.layer_tar(diff_id).read_bytes() == images.layer_tar(diff_id).read_bytes()
    assert told[0] == {"status": "Pulling from team/web", "id": "1"}
    assert {"status": "Pull complete", "progressDetail": {}, "id": told[1]["id"]} in told
    assert [one["status"] for one in told[-2:]] == [
        f"Digest: {digest}",
        f"Status: Downloaded newer image for {name.familiar}",
    ]
    told.clear()
    run(pull(other, name, progress=told.append))
    assert told[-1]["status"] == f"Status: Image is up to date for {name.familiar}"
    by_digest = Images(tmp_path / "by-digest")
    back = run(pull(by_digest, parse(f"{registry}/team/web@{digest}"), progress=silent))
    assert (back.id, back.tags) == (record.id, ())
    assert list(by_digest.temporary.iterdir()) == []
    # The image that was pulled goes out in the form in which it came in
    other.tag(back.id, f"{registry}/team/web:again")
    assert run(push(other, parse(f"{registry}/team/web:again"), progress=silent)) == digest


def test_all_tags_are_pushed_when_none_is_named(registry: str, images: Images) -> None:
    record = images.list()[0]
    for tag in ("1", "2"):
        images.tag(record.id, f"{registry}/all:{tag}")
    run(push(images, parse(f"{registry}/all"), progress=silent))
    assert sorted(get(f"http://{registry}/v2/all/tags/list")[2]["tags"]) == ["1", "2"]


def test_what_is_not_there_is_said(registry: str, images: Images) -> None:
    name = parse(f"{registry}/nosuch:1")
    said = refused(404, pull(images, name, progress=silent))
    assert said.startswith(f"manifest for {registry}/nosuch:1 not found: ")
    assert refused(404, push(images, name, progress=silent)) == (
        f"An image does not exist locally with the tag: {registry}/nosuch"
    )


def refused(status: int, work: Awaitable[Any]) -> str:
    with pytest.raises(RefusalError) as caught:
        run(work)
    assert caught.value.status == status, caught.value
    return caught.value.message


def test_a_registry_that_does_not_answer_is_named(images: Images) -> None:
    said = refused(502, pull(images, parse("127.0.0.1:9/web:1"), progress=silent))
    assert "connection refused" in said
    assert "http://127.0.0.1:9/" in said


def get(url: str, method: str = "GET", **headers: str) -> tuple[int, Any, Any]:
    request = urllib.request.Request(url, method=method, headers=headers)
    try:
        with urllib.request.urlopen(request, timeout=10) as answer:
            raw = answer.read()
            found = answer.status, answer.headers
    except urllib.error.HTTPError as error:
        with error:
            raw = error.read()
            found = error.code, error.headers
    with contextlib.suppress(ValueError):
        return (*found, json.loads(raw))
    return (*found, raw)


class Bad:
    """A registry whose answers a test makes up: paths below /v2/ to bytes or handlers."""

    def __init__(self) -> None:
        self.answers: dict[str, Any] = {}
        self.asked: list[tuple[str, str, str]] = []

    async def handle(self, request: web.Request) -> web.StreamResponse:
        self.asked.append((request.method, request.path_qs, request.headers.get("Authorization", "")))
        answer = self.answers.get(request.path.removeprefix("/v2/"))
        if answer is None:
            return web.json_response({"errors": [{"code": "MANIFEST_UNKNOWN", "message": "unknown"}]}, status=404)
        if callable(answer):
            given: web.StreamResponse = await answer(request)
            return given
        return web.Response(body=answer)

    def image(self, *layers: bytes, architecture: str = "", **config: Any) -> bytes:
        """Put an image's blobs there and give its manifest."""
        diff_ids = [digest(gzip.decompress(one)) for one in layers]
        fields = {"architecture": architecture or host_architecture(), "os": "linux", **config}
        raw = json.dumps({**fields, "rootfs": {"type": "layers", "diff_ids": diff_ids}}).encode()
        for one in (raw, *layers):
            self.answers[f"web/blobs/{digest(one)}"] = one
        manifest = {
            "schemaVersion": 2,
            "config": {
                "mediaType": "application/vnd.oci.image.config.v1+json",
                "digest": digest(raw),
                "size": len(raw),
            },
            "layers": [
                {"mediaType": "application/vnd.oci.image.layer.v1.tar+gzip", "digest": digest(one), "size": len(one)}
                for one in layers
            ],
        }
        return json.dumps(manifest).encode()

    def pull(self, images: Images, name: str = "web:1", *, all_tags: bool = False, **options: Any) -> Any:
        take: Any = pull_all if all_tags else pull

        async def inner() -> Any:
            runner = web.AppRunner(self.app(), shutdown_timeout=0.1)
            await runner.setup()
            site = web.TCPSite(runner, "127.0.0.1", 0)
            await site.start()
            try:
                port = runner.addresses[0][1]
                return await take(images, parse(f"127.0.0.1:{port}/{name}"), progress=silent, **options)
            finally:
                await runner.cleanup()

        return inner()

    def app(self) -> web.Application:
        app = web.Application()
        app.router.add_route("*", "/{path:.*}", self.handle)
        return app


def digest(raw: bytes) -> str:
    return f"sha256:{hashlib.sha256(raw).hexdigest()}"


LAYER = gzip.compress(pack("f", b"x" * 50_000), mtime=0)
NAME = f"web/blobs/{digest(LAYER)}"


def test_the_right_platform_is_chosen_from_a_list(tmp_path: Path) -> None:
    bad = Bad()
    mine, other = bad.image(LAYER), bad.image(LAYER, architecture="s390x")
    for one in (mine, other):
        bad.answers[f"web/manifests/{digest(one)}"] = one
    entries = [
        {
            "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "digest": digest(raw),
            "size": len(raw),
            "platform": {"os": "linux", "architecture": architecture},
        }
        for raw, architecture in ((other, "s390x"), (mine, host_architecture()))
    ]
    bad.answers["web/manifests/1"] = json.dumps({"schemaVersion": 2, "manifests": entries}).encode()
    images = Images(tmp_path / "a")
    record = run(bad.pull(images))
    assert record.config["architecture"] == host_architecture()
    assert record.digests[0].endswith(digest(bad.answers["web/manifests/1"]))
    assert run(bad.pull(images, platform="linux/s390x")).config["architecture"] == "s390x"
    assert refused(404, bad.pull(images, platform="linux/mips")) == (
        "no matching manifest for linux/mips in the manifest list entries"
    )
    bad.answers["web/manifests/2"] = mine
    assert "does not match the specified platform" in refused(404, bad.pull(images, "web:2", platform="linux/s390x"))
    assert "platform specifier" in refused(400, bad.pull(images, platform="a/b/c/d"))
    bad.answers[f"web/manifests/{digest(mine)}"] = other
    assert "verification failed" in refused(502, bad.pull(Images(tmp_path / "b")))


def test_nothing_that_its_digest_does_not_vouch_for_is_kept(tmp_path: Path) -> None:
    async def cut(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Length": str(len(LAYER))})
        await response.prepare(request)
        await response.write(LAYER[:50])
        assert request.transport is not None
        request.transport.close()
        return response

    attempts: list[int] = []

    async def once(request: web.Request) -> web.StreamResponse:
        attempts.append(1)
        return await cut(request) if len(attempts) < 2 else web.Response(body=LAYER)

    cases: dict[str, tuple[Any, str]] = {
        "other bytes": (LAYER[:-1] + b"!", "layer verification failed"),
        "fewer bytes": (LAYER[:-1], "layer verification failed"),
        "more bytes": (LAYER + b"!", "layer verification failed"),
        "cut": (cut, "unexpected EOF"),
    }
    for name, (answer, said) in cases.items():
        bad, images = Bad(), Images(tmp_path / name)
        bad.answers["web/manifests/1"] = bad.image(LAYER)
        bad.answers[NAME] = answer
        assert said in refused(502, bad.pull(images)), name
        assert images.list() == []
        assert list(images.shelf) == []
        assert list(images.temporary.iterdir()) == []
    bad = Bad()
    bad.answers["web/manifests/1"] = bad.image(LAYER)
    bad.answers[NAME] = once
    assert run(bad.pull(Images(tmp_path / "again"))).diff_ids == (digest(gzip.decompress(LAYER)),)
    config = next(key for key, raw in bad.answers.items() if isinstance(raw, bytes) and b"diff_ids" in raw)
    bad.answers[config] = bad.answers[config].replace(b"linux", b"evilx")
    assert "image config verification failed" in refused(502, bad.pull(Images(tmp_path / "config")))


def test_a_manifest_that_makes_no_sense_is_refused(tmp_path: Path) -> None:
    bad = Bad()
    sound = json.loads(bad.image(LAYER))
    wrong = [
        b"{",
        b"[]",
        b"{}",
        json.dumps({**sound, "layers": [{"digest": "x"}]}).encode(),
        json.dumps({**sound, "layers": []}).encode(),
        json.dumps({**sound, "config": {**sound["config"], "digest": "sha256:../../etc/passwd"}}).encode(),
        json.dumps({**sound, "layers": [{**sound["layers"][0], "size": 1 << 60}]}).encode(),
        b"[" * 100_000,
    ]
    for number, raw in enumerate(wrong):
        bad.answers["web/manifests/1"] = raw
        refused(400, bad.pull(Images(tmp_path / str(number))))
    bad.answers["web/manifests/1"] = b'{"schemaVersion": 1, "fsLayers": []}'
    assert "schema version 1" in refused(501, bad.pull(Images(tmp_path / "old")))
    bad.answers["web/manifests/1"] = b" " * (5 << 20)
    assert "longer than" in refused(502, bad.pull(Images(tmp_path / "long")))


def test_a_token_is_fetched_with_the_name_and_password(tmp_path: Path) -> None:
    bad = Bad()
    manifest = bad.image(LAYER)

    def guarded(raw: bytes) -> Callable[[web.Request], Awaitable[web.Response]]:
        async def answer(request: web.Request) -> web.Response:
            if request.headers.get("Authorization") == "Bearer good":
                return web.Response(body=raw)
            realm = f"http://{request.host}/v2/token"
            challenge = f'Bearer realm="{realm}",service="here",scope="repository:web:pull"'
            return web.Response(status=401, headers={"WWW-Authenticate": challenge})

        return answer

    async def token(request: web.Request) -> web.Response:
        assert request.query["scope"] == "repository:web:pull"
        assert request.query["service"] == "here"
        good = request.headers.get("Authorization") == "Basic bWU6c2VjcmV0"  # me:secret
        return web.json_response({"token": "good"} if good else {"details": "wrong"}, status=200 if good else 401)

    bad.answers = {path: guarded(raw) for path, raw in bad.answers.items()}
    bad.answers.update({"web/manifests/1": guarded(manifest), "token": token})
    assert run(bad.pull(Images(tmp_path / "a"), auth={"username": "me", "password": "secret"})).config["os"] == "linux"
    said = refused(404, bad.pull(Images(tmp_path / "b"), auth={"username": "me", "password": "wrong"}))
    assert said.startswith("pull access denied for 127.0.0.1:")
    assert "docker login" in said
    refused(404, bad.pull(Images(tmp_path / "c")))


def test_basic_authentication_and_a_password_that_goes_nowhere_else(tmp_path: Path) -> None:
    bad, elsewhere = Bad(), Bad()
    manifest = bad.image(LAYER)

    async def guarded(request: web.Request) -> web.Response:
        if request.headers.get("Authorization") == "Basic bWU6c2VjcmV0":
            return web.Response(body=manifest)
        return web.Response(status=401, headers={"WWW-Authenticate": 'Basic realm="x"'})

    bad.answers["web/manifests/1"] = guarded
    elsewhere.answers["blob"] = LAYER

    async def inner() -> None:
        runner = web.AppRunner(elsewhere.app(), shutdown_timeout=0.1)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        target = f"http://127.0.0.1:{runner.addresses[0][1]}/v2/blob"

        async def away(request: web.Request) -> web.Response:
            return web.Response(status=307, headers={"Location": target})

        bad.answers[NAME] = away
        try:
            await bad.pull(Images(tmp_path / "a"), auth={"username": "me", "password": "secret"})
        finally:
            await runner.cleanup()

    run(inner())
    assert elsewhere.asked == [("GET", "/v2/blob", "")]

    async def plain(request: web.Request) -> web.Response:
        return web.Response(status=307, headers={"Location": "http://example.com/blob"})

    bad.answers[NAME] = plain
    said = refused(502, bad.pull(Images(tmp_path / "b"), auth={"username": "me", "password": "secret"}))
    assert "not encrypted" in said


def test_loopback_never_goes_through_a_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    from yarl import URL

    monkeypatch.setenv("HTTPS_PROXY", "http://proxy:3128")
    monkeypatch.setenv("HTTP_PROXY", "http://proxy:3128")
    monkeypatch.setenv("NO_PROXY", "inner.example")
    monkeypatch.setenv("no_proxy", "inner.example")
    assert proxy_for(URL("https://registry-1.docker.io/v2/")) == "http://proxy:3128"
    assert proxy_for(URL("https://inner.example/v2/")) is None
    for host in ("127.0.0.1:5000", "127.9.8.7", "localhost:80", "[::1]:5000"):
        assert is_loopback(host)
        assert proxy_for(URL(f"http://{host}/v2/")) is None
    for host in ("example.com", "127.0.0.1.example.com", "localhost.example.com", "10.0.0.1"):
        assert not is_loopback(host)


def test_our_registry_says_what_it_has(registry: str, images: Images) -> None:
    record = images.list()[0]
    for name in ("cat/a:1", "cat/a:2", "cat/b:1"):
        images.tag(record.id, f"{registry}/{name}")
        run(push(images, parse(f"{registry}/{name}"), progress=silent))
    root = f"http://{registry}/v2"
    assert {"cat/a", "cat/b"} <= set(get(f"{root}/_catalog")[2]["repositories"])
    status, headers, page = get(f"{root}/cat/a/tags/list?n=1")
    assert status == 200
    if "Link" in headers:  # Debian's gives all at once
        assert page["tags"] == ["1"]
        assert headers["Link"] == '</v2/cat/a/tags/list?n=1&last=1>; rel="next"'
        assert get(f"{root}/cat/a/tags/list?n=1&last=1")[2]["tags"] == ["2"]
    status, headers, manifest = get(
        f"{root}/cat/a/manifests/1", Accept="application/vnd.docker.distribution.manifest.v2+json"
    )
    assert headers["Content-Type"] == "application/vnd.docker.distribution.manifest.v2+json"
    blob = manifest["layers"][0]["digest"]
    status, headers, raw = get(f"{root}/cat/a/blobs/{blob}", Range="bytes=0-9")
    assert (status, len(raw)) == (206, 10)
    assert get(f"{root}/cat/a/blobs/{blob}", "HEAD")[1]["Docker-Content-Digest"] == blob
    assert get(f"{root}/cat/nosuch/blobs/{blob}")[0] == 404
    assert get(f"{root}/cat/nosuch/tags/list")[2]["errors"][0]["code"] == "NAME_UNKNOWN"


@pytest.fixture(scope="module")
def ours(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Path]]:
    home = tmp_path_factory.mktemp("ours")
    command = [sys.executable, "-m", "dockerlab.engine.images.serve", str(home / "data"), "0"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    with process.stdout as output:
        address = output.readline().strip()
        try:
            yield f"http://{address}/v2", home / "data"
        finally:
            process.terminate()
            assert process.wait(10) == 0


def send(url: str, method: str, data: bytes = b"", **headers: str) -> tuple[int, Any, Any]:
    request = urllib.request.Request(
        url, data=data, method=method, headers={k.replace("_", "-"): v for k, v in headers.items()}
    )
    try:
        with urllib.request.urlopen(request, timeout=10) as answer:
            return answer.status, answer.headers, answer.read()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.headers, error.read()


def test_our_registry_takes_only_what_fits_its_digest(ours: tuple[str, Path]) -> None:
    root, _ = ours
    host = root.removesuffix("/v2")

    def start() -> str:
        status, headers, _ = send(f"{root}/x/blobs/uploads/", "POST")
        assert status == 202
        return host + headers["Location"]

    place = start()
    assert send(place, "PATCH", b"abc", Content_Range="0-2")[1]["Range"] == "0-2"
    assert send(place, "PATCH", b"abc", Content_Range="0-2")[0] == 416
    assert send(place, "PATCH", b"def", Content_Range="3-5")[0] == 202
    assert send(f"{place}?digest={digest(b'abcdefg')}", "PUT", b"g")[0] == 201
    assert send(f"{root}/x/blobs/{digest(b'abcdefg')}", "GET")[2] == b"abcdefg"
    assert send(f"{start()}?digest={digest(b'other')}", "PUT", b"g")[0] == 400
    assert send(f"{start()}?digest=sha256:..%2F..%2Fx", "PUT", b"g")[0] == 400
    assert send(f"{root}/x/blobs/uploads/?digest={digest(b'one')}", "POST", b"one")[0] == 201
    assert send(f"{root}/y/blobs/uploads/?mount={digest(b'one')}&from=x", "POST")[0] == 201
    assert send(f"{root}/y/blobs/uploads/?mount={digest(b'no')}&from=x", "POST")[0] == 202
    assert send(f"{root}/y/blobs/{digest(b'one')}", "GET")[2] == b"one"
    gone = start()
    assert send(gone, "DELETE")[0] == 204
    assert send(gone, "PATCH", b"x")[0] == 404
    missing = json.dumps({"schemaVersion": 2, "config": None, "layers": []}).encode()
    assert send(f"{root}/x/manifests/1", "PUT", missing)[0] == 400
    described = {"mediaType": "a", "digest": digest(b"nosuch"), "size": 1}
    raw = json.dumps({"schemaVersion": 2, "config": described, "layers": []}).encode()
    assert b"MANIFEST_BLOB_UNKNOWN" in send(f"{root}/x/manifests/1", "PUT", raw)[2]
    described = {"mediaType": "a", "digest": digest(b"one"), "size": 3}
    raw = json.dumps({"schemaVersion": 2, "config": described, "layers": []}).encode()
    assert send(f"{root}/x/manifests/{digest(b'else')}", "PUT", raw)[0] == 400
    assert send(f"{root}/x/manifests/1", "PUT", raw)[0] == 201
    assert send(f"{root}/x/manifests/1", "GET")[2] == raw
    assert send(f"{root}/x/manifests/{digest(raw)}", "DELETE")[0] == 202
    assert send(f"{root}/x/manifests/1", "GET")[0] == 404
    assert json.loads(send(f"{root}/x/tags/list", "GET")[2])["tags"] == []
    assert send(f"{root}/x/blobs/{digest(b'one')}", "DELETE")[0] == 202
    assert send(f"{root}/x/blobs/{digest(b'one')}", "GET")[0] == 404
    assert send(f"{root}/y/blobs/{digest(b'one')}", "GET")[2] == b"one"


@pytest.mark.parametrize(
    ("path", "method", "status"),
    [
        ("/../../etc/passwd", "GET", 404),
        ("/x/../y/tags/list", "GET", 400),
        ("/x/..%2F..%2Fy/tags/list", "GET", 404),
        ("/_blobs/tags/list", "GET", 400),
        ("/UP/tags/list", "GET", 404),
        ("/x/manifests/..%2F..%2Fa", "GET", 400),
        ("/x/blobs/sha256:..%2F..%2Fa", "GET", 400),
        ("/x/tags/list?n=-1", "GET", 400),
        ("/_catalog?n=x", "GET", 400),
        ("/_catalog", "POST", 405),
        ("/nosuch", "GET", 404),
        ("/", "GET", 200),
        ("/x/manifests/" + "t" * 129, "GET", 400),
    ],
)
def test_our_registry_refuses_what_makes_no_sense(ours: tuple[str, Path], path: str, method: str, status: int) -> None:
    found, headers, raw = send(ours[0] + path, method)
    assert found == status
    assert headers["Docker-Distribution-Api-Version"] == "registry/2.0"
    assert json.loads(raw) if status >= 400 else True


def test_reference_is_a_plain_value() -> None:
    assert parse("a:1") == Reference("docker.io", "library/a", "1")


def test_our_registry_says_that_its_port_is_taken(ours: tuple[str, Path], tmp_path: Path) -> None:
    port = ours[0].removesuffix("/v2").rpartition(":")[2]
    command = [sys.executable, "-m", "dockerlab.engine.images.serve", str(tmp_path), port]
    ended = subprocess.run(command, capture_output=True, text=True, check=False, timeout=30)
    assert ended.returncode == 1
    assert ended.stderr == f"The registry cannot listen on port {port} of 127.0.0.1: Address already in use.\n"


def test_a_full_disk_is_named_as_clients_know_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import errno

    def full(*arguments: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    bad, store = Bad(), Images(tmp_path)
    bad.answers["web/manifests/1"] = bad.image(LAYER)
    for place in ("pulling", "shelf", "loading"):
        with monkeypatch.context() as patch:
            patch.setattr(f"dockerlab.engine.images.{place}.write_all", full)
            if place == "pulling":
                said = refused(500, bad.pull(store))
            else:
                with pytest.raises(RefusalError) as caught:
                    (store.load if place == "loading" else store.add_layer)(io.BytesIO(pack("a", b"x")))
                said = caught.value.message
        assert said.endswith("no space left on device")
    assert list(store.temporary.iterdir()) == []


def test_a_login_is_good_or_not() -> None:
    async def guarded(request: web.Request) -> web.Response:
        good = request.headers.get("Authorization") == "Basic bWU6c2VjcmV0"
        return web.Response(status=200 if good else 401, headers={"WWW-Authenticate": 'Basic realm="x"'})

    bad = Bad()
    bad.answers[""] = guarded

    async def ask(password: str) -> None:
        runner = web.AppRunner(bad.app(), shutdown_timeout=0.1)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        address = f"http://127.0.0.1:{runner.addresses[0][1]}/v2/"
        try:
            await login({"username": "me", "password": password, "serveraddress": address})
        finally:
            await runner.cleanup()

    run(ask("secret"))
    assert refused(401, ask("wrong")).endswith("failed with status: 401 Unauthorized")
    refused(400, login({"serveraddress": "no address"}))


def test_a_list_of_tags_that_is_nonsense(tmp_path: Path) -> None:
    bad = Bad()
    for raw in (b"[", b"[]", b'{"tags": "x"}', b'{"tags": ["a/b"]}', b'{"tags": [1]}'):
        bad.answers["web/tags/list"] = raw
        assert "cannot be read" in refused(502, bad.pull(Images(tmp_path / "a"), "web", all_tags=True))
    bad.answers["web/tags/list"] = b'{"tags": null}'
    refused(404, bad.pull(Images(tmp_path / "a"), "web", all_tags=True))
    bad.answers["web/manifests/1"] = bad.answers["web/manifests/2"] = bad.image(LAYER)

    async def pages(request: web.Request) -> web.Response:
        tag, more = ("2", {}) if request.query else ("1", {"Link": '</v2/web/tags/list?last=1>; rel="next"'})
        return web.json_response({"tags": [tag]}, headers=more)

    bad.answers["web/tags/list"] = pages
    assert len(run(bad.pull(Images(tmp_path / "b"), "web", all_tags=True))) == 2
