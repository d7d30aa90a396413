"""What every request to the embedded engine goes through: versions, headers, refusals, parameters; no containers."""

from __future__ import annotations

import asyncio
import io
import json
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the embedded engine runs on Linux only")

from aiohttp import ClientSession, web  # noqa: E402
from aiohttp.test_utils import TestServer  # noqa: E402

from dockerlab.engine.api import app as api  # noqa: E402
from dockerlab.engine.api import system  # noqa: E402
from dockerlab.engine.api.jsonstream import JsonStream  # noqa: E402
from dockerlab.engine.api.upload import upload  # noqa: E402
from dockerlab.engine.events import Events, matches  # noqa: E402
from dockerlab.engine.places import Places  # noqa: E402
from dockerlab.engine.refusals import RefusalError, missing  # noqa: E402

REPORT = SimpleNamespace(
    isolator="proot",
    version="5.1",
    storage_driver="copy",
    walls={"pid": False, "mount": True, "seccomp": True},
    warnings=("Containers share this machine's network.",),
)


def state(**more: Any) -> api.State:
    images = SimpleNamespace(list=list)
    facts: dict[str, Any] = {
        "version": "1",
        "id": "me",
        "places": Places(Path("/d"), Path("/r")),
        "images": images,
        "isolator": SimpleNamespace(report=REPORT),
        "events": Events(),
        "containers": SimpleNamespace(counts=lambda: {"running": 2, "paused": 1, "stopped": 4}),
        "networks": None,
        "volumes": None,
        **more,
    }
    return api.State(**facts)


async def echo(request: web.Request) -> web.Response:
    return web.json_response({"name": request.match_info["name"], "body": await api.body(request)})


async def parameters(request: web.Request) -> web.Response:
    return web.json_response(
        {
            "all": api.flag(request, "all", default=True),
            "n": api.number(request, "n", 7, maximum=100),
            "filters": api.filters(request, ("label", "name")),
        }
    )


async def refuse(request: web.Request) -> web.Response:
    raise missing("image", "x")


async def break_down(request: web.Request) -> web.Response:
    raise KeyError("oh\n  no")


async def take(request: web.Request) -> web.Response:
    async with upload(request, Path(request.query["folder"])) as path:
        return web.json_response({"size": path.stat().st_size})


ROUTES = [
    web.post("/images/{name:.+}/tag", echo),
    web.get("/parameters", parameters),
    web.get("/refuse", refuse),
    web.get("/break", break_down),
    web.post("/take", take),
    *system.routes(),
]


@asynccontextmanager
async def serving(
    routes: list[web.RouteDef] | None = None, of: api.State | None = None
) -> AsyncIterator[tuple[ClientSession, Callable[[str], str]]]:
    server = TestServer(api.make_app(of or state(), routes or ROUTES))
    await server.start_server()
    try:
        async with ClientSession() as session:
            yield session, lambda path: str(server.make_url("/")).rstrip("/") + path
    finally:
        await server.close()


def run(test: Callable[[ClientSession, Callable[[str], str]], Awaitable[None]], **more: Any) -> None:
    async def inside() -> None:
        async with serving(**more) as (session, url):
            await test(session, url)

    asyncio.run(inside())


def get(path: str) -> tuple[int, Any]:
    answer: list[Any] = []

    async def ask(session: ClientSession, url: Callable[[str], str]) -> None:
        async with session.get(url(path)) as response:
            answer.extend((response.status, await response.json()))

    run(ask)
    return answer[0], answer[1]


class TestVersions:
    @pytest.mark.parametrize("prefix", ["", "/v1.24", "/v1.43", "/v1.40"])
    def test_a_path_answers_with_and_without_a_version(self, prefix: str) -> None:
        async def ask(session: ClientSession, url: Callable[[str], str]) -> None:
            async with session.post(url(f"{prefix}/images/a.io:5000/b/c:1/tag"), data=b'{"x": 1}') as response:
                assert await response.json() == {"name": "a.io:5000/b/c:1", "body": {"x": 1}}
                assert response.headers["Api-Version"] == api.API_VERSION
                assert response.headers["Docker-Experimental"] == "false"
                assert response.headers["Ostype"] == "linux"
                assert response.headers["Server"] == "Dockerlab/1 (linux)"
                assert response.headers["Content-Type"] == "application/json"

        run(ask)

    @pytest.mark.parametrize(("version", "says"), [("1.23", "too old"), ("1.44", "too new"), ("2.0", "too new")])
    def test_another_version_is_refused_in_dockers_words(self, version: str, says: str) -> None:
        status, content = get(f"/v{version}/parameters")
        assert status == 400
        assert f"client version {version} is {says}" in content["message"]

    @pytest.mark.parametrize("path", ["/nix", "/", "/v1.43", "/v1.43/nix", "/v1/parameters", "/images/x/tag"])
    def test_what_is_not_there_is_not_found(self, path: str) -> None:
        assert get(path) == (404, {"message": "page not found"})


class TestRefusals:
    def test_a_refusal_becomes_its_answer(self) -> None:
        assert get("/refuse") == (404, {"message": "No such image: x"})

    def test_anything_else_becomes_one_sentence_and_is_logged(self, caplog: pytest.LogCaptureFixture) -> None:
        status, content = get("/break")
        assert (status, content) == (500, {"message": "the engine failed: 'oh\\n no'"})
        assert "KeyError" in caplog.text

    @pytest.mark.parametrize("raw", [b"{", b"[]", b'"x"', b"1", b"\xff\xfe", b"[" * 100_000])
    def test_a_body_that_is_no_object_is_bad(self, raw: bytes) -> None:
        async def ask(session: ClientSession, url: Callable[[str], str]) -> None:
            async with session.post(url("/images/x/tag"), data=raw) as response:
                assert response.status == 400
                assert "JSON" in (await response.json())["message"]

        run(ask)

    @pytest.mark.parametrize("raw", [b"", b" ", b"null", b"{}"])
    def test_no_body_is_an_empty_one(self, raw: bytes) -> None:
        async def ask(session: ClientSession, url: Callable[[str], str]) -> None:
            async with session.post(url("/images/x/tag"), data=raw) as response:
                assert (await response.json())["body"] == {}

        run(ask)

    def test_a_body_that_is_too_large_is_refused(self) -> None:
        async def ask(session: ClientSession, url: Callable[[str], str]) -> None:
            async with session.post(
                url("/images/x/tag"), data=io.BytesIO(b" " * (api.BODY_LIMIT_BYTES + 1))
            ) as response:
                assert response.status == 413
                assert "MiB" in (await response.json())["message"]

        run(ask)

    def test_work_goes_on_when_its_client_leaves_and_watching_does_not(self) -> None:
        happened: list[str] = []

        async def slow(request: web.Request) -> web.Response:
            try:
                await asyncio.sleep(0.2)
                happened.append(f"{request.method} done")
            except asyncio.CancelledError:
                happened.append(f"{request.method} left")
                raise
            return web.Response()

        async def ask(session: ClientSession, url: Callable[[str], str]) -> None:
            for method in ("GET", "DELETE"):
                with pytest.raises(asyncio.TimeoutError):
                    await asyncio.wait_for(session.request(method, url("/slow")), 0.05)
            await asyncio.sleep(0.4)
            assert sorted(happened) == ["DELETE done", "GET left"]

        run(ask, routes=[web.get("/slow", slow), web.delete("/slow", slow)])


class TestParameters:
    def test_defaults(self) -> None:
        assert get("/parameters") == (200, {"all": True, "n": 7, "filters": {}})

    @pytest.mark.parametrize(
        ("query", "name", "value"),
        [
            ("all=1", "all", True),
            ("all=True", "all", True),
            ("all=", "all", False),
            ("all=0", "all", False),
            ("all=False", "all", False),
            ("n=0", "n", 0),
            ("n=100", "n", 100),
            ("n=", "n", 7),
            ('filters={"label":["a=b","c"]}', "filters", {"label": ["a=b", "c"]}),
            ('filters={"name":{"a":true,"b":false}}', "filters", {"name": ["a"]}),
            ("filters=null", "filters", {}),
            ("filters=", "filters", {}),
        ],
    )
    def test_what_can_be_read(self, query: str, name: str, value: object) -> None:
        status, content = get(f"/parameters?{query}")
        assert status == 200
        assert content[name] == value

    @pytest.mark.parametrize(
        "query",
        [
            "all=maybe",
            "n=x",
            "n=-1",
            "n=101",
            "n=1.5",
            "n=1_0",
            "n=٣",
            "n=9999999999999999999999",
            "filters={",
            "filters=[]",
            "filters=1",
            'filters={"label":"a"}',
            'filters={"label":[1]}',
            'filters={"colour":["red"]}',
            "filters=" + "[" * 2000,
        ],
    )
    def test_what_cannot_is_bad_input(self, query: str) -> None:
        status, content = get(f"/parameters?{query}")
        assert status == 400
        assert content["message"].startswith("invalid")


class TestSystem:
    def test_ping_answers_get_and_head(self) -> None:
        async def ask(session: ClientSession, url: Callable[[str], str]) -> None:
            for method, text in (("GET", "OK"), ("HEAD", "")):
                async with session.request(method, url("/_ping")) as response:
                    assert (response.status, await response.text()) == (200, text)
                    assert response.headers["Builder-Version"] == "1"

        run(ask)

    def test_version_says_whose_engine_it_is(self) -> None:
        _, content = get("/version")
        assert "dockerlab" in content["Platform"]["Name"]
        assert (content["ApiVersion"], content["Version"]) == (api.API_VERSION, "1")
        assert [part["Name"] for part in content["Components"]] == ["Engine", "proot"]

    def test_info_says_what_holds_and_what_does_not(self) -> None:
        _, content = get("/info")
        assert (content["ID"], content["Driver"], content["OSType"]) == ("me", "copy", "linux")
        assert (content["Containers"], content["ContainersRunning"], content["Images"]) == (7, 2, 0)
        assert content["Warnings"] == list(REPORT.warnings)
        assert content["Dockerlab"]["Walls"] == REPORT.walls
        assert "name=seccomp,profile=dockerlab" in content["SecurityOptions"]
        assert not any(content[name] for name in ("MemoryLimit", "SwapLimit", "CpuCfsQuota", "PidsLimit"))
        assert isinstance(content["Isolation"], str)  # the docker command breaks on anything else

    @pytest.mark.parametrize("path", ["/swarm", "/nodes", "/services/x", "/secrets", "/configs", "/tasks"])
    def test_there_is_no_swarm(self, path: str) -> None:
        status, content = get(path)
        assert status == 503
        assert content["message"].startswith("This node is not a swarm manager")

    def test_events_come_as_they_happen_past_ones_first(self) -> None:
        of = state()

        async def ask(session: ClientSession, url: Callable[[str], str]) -> None:
            of.events.emit("container", "create", "ab", {"name": "web", "image": "web:1"})
            of.events.emit("network", "create", "cd", {"name": "net"})
            wanted = json.dumps({"container": ["web"]})
            async with session.get(url("/events"), params={"since": "0", "filters": wanted}) as response:
                first = json.loads(await response.content.readline())
                of.events.emit("container", "die", "ab", {"name": "web", "exitCode": "3"})
                second = json.loads(await response.content.readline())
                of.events.close()
                assert await response.read() == b""
            assert [first["status"], second["status"]] == ["create", "die"]
            assert (first["from"], second["Actor"]["Attributes"]["exitCode"]) == ("web:1", "3")
            assert of.events.listeners == 0

        run(ask, of=of)

    def test_events_end_at_until(self) -> None:
        of = state()

        async def ask(session: ClientSession, url: Callable[[str], str]) -> None:
            of.events.emit("volume", "create", "v")
            async with session.get(url("/events"), params={"since": "0", "until": "1"}) as response:
                assert await response.read() == b""
            async with session.get(url("/events"), params={"since": "0", "until": "99999999999"}) as response:
                assert b'"volume"' in await response.content.readline()
                of.events.close()
                await response.read()
            async with session.get(url("/events"), params={"since": "yesterday"}) as response:
                assert response.status == 400

        run(ask, of=of)


class TestEvents:
    EVENT: dict[str, Any] = {  # noqa: RUF012
        "Type": "container",
        "Action": "health_status: healthy",
        "scope": "local",
        "Actor": {"ID": "abcdef", "Attributes": {"name": "web", "image": "r.io:5/web:1", "a": "b"}},
    }

    @pytest.mark.parametrize(
        ("wanted", "passes"),
        [
            ({}, True),
            ({"type": ["container", "image"]}, True),
            ({"type": ["image"]}, False),
            ({"event": ["health_status"]}, True),
            ({"event": ["health_status: healthy"]}, True),
            ({"event": ["health_status: unhealthy"]}, False),
            ({"container": ["web"]}, True),
            ({"container": ["abc"]}, True),
            ({"container": ["db"]}, False),
            ({"network": ["web"]}, False),
            ({"image": ["r.io:5/web:1"]}, True),
            ({"image": ["r.io:5/web"]}, True),
            ({"image": ["r.io"]}, False),
            ({"label": ["a"]}, True),
            ({"label": ["a=b"]}, True),
            ({"label": ["a=c"]}, False),
            ({"label": ["a", "c"]}, False),
            ({"scope": ["swarm"]}, False),
            ({"type": ["container"], "event": ["die"]}, False),
        ],
    )
    def test_filters(self, wanted: dict[str, list[str]], passes: bool) -> None:
        assert matches(self.EVENT, wanted) is passes

    def test_a_listener_that_does_not_read_loses_its_turn_and_nobody_else(self) -> None:
        async def inside() -> None:
            events = Events()
            with events.subscribe() as incoming:
                for count in range(5000):
                    events.emit("volume", "create", str(count))
                assert events.listeners == 0
                assert len([event async for event in incoming]) < 5000

        asyncio.run(inside())


class TestStreams:
    def test_messages_follow_each_other_and_an_error_before_the_first_is_a_status(self) -> None:
        async def handle(request: web.Request) -> web.StreamResponse:
            stream = JsonStream(request)

            async def work(tell: Callable[[dict[str, Any]], None]) -> str:
                for count in range(int(request.query["n"])):
                    tell({"status": str(count)})
                if "fail" in request.query:
                    raise RefusalError(404, "gone")
                return "done"

            result = await stream.follow(work, hold=int(request.query.get("hold", "0")))
            if result:
                await stream.send({"status": result})
            return await stream.start()

        async def ask(session: ClientSession, url: Callable[[str], str]) -> None:
            async with session.get(url("/x?n=2")) as response:
                lines = [json.loads(line) for line in (await response.text()).splitlines()]
                assert [line["status"] for line in lines] == ["0", "1", "done"]
                assert response.headers["Api-Version"]
            async with session.get(url("/x?n=0&fail=1")) as response:
                assert (response.status, await response.json()) == (404, {"message": "gone"})
            for query, count in (("n=2&hold=3", 3), ("n=4&hold=2", 5)):
                async with session.get(url(f"/x?{query}")) as response:
                    assert len((await response.text()).splitlines()) == count
            async with session.get(url("/x?n=1&fail=1&hold=1")) as response:
                assert (response.status, await response.json()) == (404, {"message": "gone"})
            async with session.get(url("/x?n=1&fail=1")) as response:
                lines = [json.loads(line) for line in (await response.text()).splitlines()]
                assert response.status == 200
                assert lines[-1] == {"errorDetail": {"message": "gone"}, "error": "gone"}

        run(ask, routes=[web.get("/x", handle)])

    def test_an_upload_is_kept_in_a_file_as_long_as_it_is_used(self, tmp_path: Path) -> None:
        async def ask(session: ClientSession, url: Callable[[str], str]) -> None:
            size = api.BODY_LIMIT_BYTES + 5  # the bound on JSON does not apply
            async with session.post(
                url("/take"), params={"folder": str(tmp_path)}, data=io.BytesIO(b"x" * size)
            ) as response:
                assert await response.json() == {"size": size}
            assert list(tmp_path.iterdir()) == []

        run(ask)
