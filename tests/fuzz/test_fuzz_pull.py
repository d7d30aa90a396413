"""A registry that lies: digests, sizes, types, endless answers, redirects. A pull then ends and leaves nothing."""

from __future__ import annotations

import asyncio
import gzip
import hashlib
import json
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest
from aiohttp import web
from fuzz_archives import archive, busybox_layer, configuration, damaged, tars, zeros_gzip
from fuzz_rig import Answer, Rig, amounts, fuzz
from hypothesis import strategies as st
from test_fuzz_api import json_values
from test_fuzz_archives import forget_images, layer_archives

MANIFEST = "application/vnd.oci.image.manifest.v1+json"
INDEX = "application/vnd.oci.image.index.v1+json"
LAYER = "application/vnd.oci.image.layer.v1.tar+gzip"


def digest(content: bytes) -> str:
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


@dataclass
class Shelf:
    """What the registry answers next."""

    manifest: bytes = b"{}"
    media_type: str = MANIFEST
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    blobs: dict[str, bytes] = field(default_factory=dict)
    manifests: dict[str, bytes] = field(default_factory=dict)
    endless: bool = False
    cut: bool = False


class Registry:
    """An HTTP server on loopback that answers as its shelf says."""

    def __init__(self) -> None:
        self.shelf = Shelf()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever)
        self._thread.start()
        self.port: int = asyncio.run_coroutine_threadsafe(self._open(), self._loop).result(10)

    async def _open(self) -> int:
        app = web.Application()
        app.router.add_route("*", "/{path:.*}", self._answer)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0)
        await site.start()
        port: int = site._server.sockets[0].getsockname()[1]  # type: ignore[union-attr]
        return port

    def close(self) -> None:
        asyncio.run_coroutine_threadsafe(self._runner.cleanup(), self._loop).result(10)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        shelf, path = self.shelf, request.match_info["path"]
        name = path.rpartition("/")[2]
        if "/blobs/" in path:
            content, kind = shelf.blobs.get(name, b""), "application/octet-stream"
            status = 200 if name in shelf.blobs else 404
        else:
            content, kind, status = shelf.manifests.get(name, shelf.manifest), shelf.media_type, shelf.status
        if "/blobs/" in path and (shelf.endless or shelf.cut):
            response = web.StreamResponse(headers={"Content-Length": str(10**12)} if shelf.cut else {})
            await response.prepare(request)
            try:
                await response.write(content)
                while shelf.endless:
                    await response.write(bytes(1 << 20))
            except ConnectionError:
                return response
            request.transport.abort()  # type: ignore[union-attr]
            return response
        return web.Response(body=content, status=status, headers={"Content-Type": kind, **shelf.headers})


@pytest.fixture(scope="module")
def registry() -> Iterator[Registry]:
    made = Registry()
    yield made
    made.close()


def pull(rig: Rig, registry: Registry, shelf: Shelf, more: str = "") -> Answer:
    registry.shelf = shelf
    answer = rig.ask("POST", f"/images/create?fromImage=127.0.0.1:{registry.port}/a/b&tag=x{more}", timeout_s=30)
    rig.check_log()
    assert answer.status != 0, "the pull does not end"
    rig.check_answer(answer)
    rig.check_clean()
    return answer


def image(layers: list[bytes], config: bytes | None = None, **more: Any) -> Shelf:
    """Make a good image of layers, whatever those are."""
    config = json.dumps(configuration(layers)).encode() if config is None else config
    packed = [gzip.compress(layer, 1, mtime=0) for layer in layers]
    manifest = {
        "schemaVersion": 2,
        "mediaType": MANIFEST,
        "config": {
            "mediaType": "application/vnd.oci.image.config.v1+json",
            "digest": digest(config),
            "size": len(config),
        },
        "layers": [{"mediaType": LAYER, "digest": digest(one), "size": len(one)} for one in packed],
        **more,
    }
    blobs = {digest(one): one for one in (*packed, config)}
    return Shelf(json.dumps(manifest).encode(), blobs=blobs)


def test_a_good_one_can_be_pulled(rig: Rig, registry: Registry) -> None:
    answer = pull(rig, registry, image([busybox_layer()]))
    assert answer.status == 200
    assert not answer.errors
    forget_images(rig)


@amounts(60, slow_factor=2)
def test_manifests(rig: Rig, registry: Registry, amount: int) -> None:
    described = st.dictionaries(
        st.sampled_from(["mediaType", "digest", "size", "platform", "urls", "annotations", "data"]),
        st.one_of(
            json_values(), st.sampled_from([MANIFEST, INDEX, LAYER, digest(b"{}"), digest(b""), 2, {"os": "linux"}])
        ),
        max_size=4,
    )
    manifest = st.dictionaries(
        st.sampled_from(["schemaVersion", "mediaType", "config", "layers", "manifests", "fsLayers", "history"]),
        st.one_of(json_values(), described, st.lists(described, max_size=3), st.sampled_from([1, 2, MANIFEST, INDEX])),
        max_size=5,
    )
    whole = st.one_of(manifest, json_values()).map(lambda drawn: json.dumps(drawn).encode())
    content = st.one_of(
        whole, whole, damaged(whole), damaged(st.just(image([b""]).manifest)), st.sampled_from([b"", b"[" * 50_000])
    )
    kind = st.sampled_from(
        [MANIFEST, INDEX, "application/json", "text/html", "application/vnd.docker.distribution.manifest.v1+json", ""]
    )
    blobs = {digest(b"{}"): b"{}", digest(b""): b""}

    def check(drawn: tuple[bytes, str, int]) -> None:
        raw, media_type, status = drawn
        pull(rig, registry, Shelf(raw, media_type, status, blobs=blobs, manifests={digest(b"{}"): b"{}"}))

    fuzz(
        amount,
        st.tuples(content, kind, st.sampled_from([200, 200, 200, 200, 404, 401, 403, 429, 500, 204, 418])),
        check,
    )
    forget_images(rig)


@amounts(25, slow_factor=4)
def test_layers(rig: Rig, registry: Registry, amount: int) -> None:
    def check(layers: list[bytes]) -> None:
        pull(rig, registry, image(layers))
        forget_images(rig)
        rig.check_clean()

    fuzz(amount, st.lists(tars(str(rig.canary / "x")), min_size=1, max_size=3), check)


def test_layers_that_want_out(rig: Rig, registry: Registry) -> None:
    for what, content in layer_archives(str(rig.canary)):
        pull(rig, registry, image([content + bytes(1024)]))
        assert (rig.canary / "secret").read_text() == "untouched", what
        assert (rig.canary / "secret").stat().st_nlink == 1, what
        forget_images(rig)


@amounts(25, slow_factor=4)
def test_configurations(rig: Rig, registry: Registry, amount: int) -> None:
    keys = st.sampled_from(["architecture", "os", "config", "rootfs", "history", "created", "author", "variant"])
    config = st.dictionaries(keys, json_values(), max_size=3).map(lambda drawn: {**configuration([]), **drawn})
    raw = st.one_of(config, config, json_values()).map(lambda drawn: json.dumps(drawn).encode())

    def check(content: bytes) -> None:
        pull(rig, registry, image([], config=content))
        rig.check_answer(rig.ask("GET", "/images/json"))

    fuzz(amount, st.one_of(raw, damaged(raw)), check)
    forget_images(rig)


HEADERS = [
    {"Location": "http://[::1/x"},
    {"Location": "http://example.org/x"},
    {"Location": "file:///etc/passwd"},
    {"Location": "//"},
    {"Location": "\udcff"},
    {"Location": ""},
    {"Location": "/v2/a/b/manifests/x"},
    {"WWW-Authenticate": "Bearer"},
    {"WWW-Authenticate": 'Bearer realm="http://[::1/"'},
    {"WWW-Authenticate": 'Bearer realm="http://example.org/"'},
    {"WWW-Authenticate": 'Bearer realm="http://127.0.0.1:9/x"'},
    {"WWW-Authenticate": 'Bearer realm="http://127.0.0.1:99999/x"'},
    {"WWW-Authenticate": "Basic"},
    {"WWW-Authenticate": "Negotiate"},
    {"Docker-Content-Digest": "sha256:nonsense"},
    {"Content-Encoding": "gzip"},
    {"Content-Type": ";;;"},
]


@pytest.mark.parametrize("status", [200, 301, 307, 401])
@pytest.mark.parametrize("headers", HEADERS, ids=range(len(HEADERS)))
def test_headers(rig: Rig, registry: Registry, headers: dict[str, str], status: int) -> None:
    answer = pull(rig, registry, Shelf(b"{}", status=status, headers=headers))
    assert answer.errors


def lie(shelf: Shelf, what: str) -> Shelf:
    """Change one thing of a good image."""
    manifest = json.loads(shelf.manifest)
    layer = manifest["layers"][0]
    content = shelf.blobs[layer["digest"]]
    changes: dict[str, dict[str, Any]] = {
        "longer than it says": {"size": 3},
        "shorter than it says": {"size": 10**9},
        "a size of 10**12": {"size": 10**12},
        "a negative size": {"size": -1},
        "a path as digest": {"digest": "sha256:../../../../etc/passwd"},
        "no digest": {"digest": "sha256:"},
        "another algorithm": {"digest": "md5:" + "0" * 32},
        "the configuration as layer": {"digest": manifest["config"]["digest"]},
    }
    if what == "another content":
        shelf.blobs[layer["digest"]] = content[:-1] + b"x"
    elif what == "a bomb":
        bomb = zeros_gzip(200 << 20)
        shelf.blobs[digest(bomb)] = bomb
        layer["digest"], layer["size"] = digest(bomb), len(bomb)
    elif what == "endless":
        shelf.endless = True
    elif what == "cut":
        shelf.cut = True
    elif what == "too many layers":
        manifest["layers"] = [layer] * 5000
    elif what == "a long manifest":
        manifest["annotations"] = {"x": "y" * (20 << 20)}
    layer.update(changes.get(what, {}))
    shelf.manifest = json.dumps(manifest).encode()
    return shelf


@pytest.mark.parametrize(
    "what",
    [
        "another content", "longer than it says", "shorter than it says", "a size of 10**12", "a negative size",
        "a path as digest", "no digest", "another algorithm", "the configuration as layer", "a bomb", "endless", "cut",
        "too many layers", "a long manifest",
    ],
)  # fmt: skip
def test_an_image_that_lies(rig: Rig, registry: Registry, what: str) -> None:
    before = rig.used()
    answer = pull(rig, registry, lie(image([archive({"x": b"x" * 500})]), what))
    assert answer.errors, answer
    assert rig.used() <= before + (1 << 19)
    assert not [
        row for row in rig.ask("GET", "/images/json").messages[0] if "fuzz/base:1" not in (row["RepoTags"] or ())
    ]
