"""The image routes of the embedded engine over a real store, asked over HTTP; no containers, no registry."""

from __future__ import annotations

import asyncio
import base64
import io
import json
import sys
import tarfile
from collections.abc import Awaitable, Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the embedded engine runs on Linux only")

from aiohttp import ClientSession  # noqa: E402
from aiohttp.test_utils import TestServer, make_mocked_request  # noqa: E402

from dockerlab.engine.api import images, system, transfers  # noqa: E402
from dockerlab.engine.api.app import State, make_app  # noqa: E402
from dockerlab.engine.api.changes import apply_changes  # noqa: E402
from dockerlab.engine.events import Events  # noqa: E402
from dockerlab.engine.images import Images  # noqa: E402
from dockerlab.engine.places import Places  # noqa: E402
from dockerlab.engine.refusals import RefusalError  # noqa: E402

Url = Callable[[str], str]


def archive(**files: str) -> bytes:
    target = io.BytesIO()
    with tarfile.open(fileobj=target, mode="w") as tar:
        for name, text in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(text)
            tar.addfile(info, io.BytesIO(text.encode()))
    return target.getvalue()


def run(folder: Path, test: Callable[[ClientSession, Url, State], Awaitable[None]]) -> None:
    async def inside() -> None:
        report = SimpleNamespace(storage_driver="copy")
        places = Places(folder / "d", folder / "r")
        parts: dict[str, Any] = {
            "isolator": SimpleNamespace(report=report),
            "containers": SimpleNamespace(list=list),
            "networks": None,
            "volumes": None,
        }
        state = State("1", "me", places, Images(places.images), events=Events(), **parts)
        server = TestServer(make_app(state, [*system.routes(), *transfers.routes(), *images.routes()]))
        await server.start_server()
        try:
            async with ClientSession() as session:
                await test(session, lambda path: str(server.make_url("/")).rstrip("/") + path, state)
        finally:
            await server.close()

    asyncio.run(inside())


async def put(session: ClientSession, url: Url, name: str, *changes: str, **files: str) -> str:
    """Import an image; gives its id."""
    repository, _, tag = name.partition(":")
    query = [("fromSrc", "-"), ("repo", repository), ("tag", tag), *(("changes", change) for change in changes)]
    async with session.post(url("/images/create"), params=query, data=archive(**(files or {"f": name}))) as response:
        content = await response.json()
        assert response.status == 200, content
        return str(content["status"])


async def get(session: ClientSession, address: str, **params: str) -> tuple[int, Any]:
    async with session.get(address, params=params) as response:
        return response.status, await response.json()


class TestList:
    def test_names_filters_and_labels(self, tmp_path: Path) -> None:
        async def ask(session: ClientSession, url: Url, state: State) -> None:
            first = await put(session, url, "web:1", "LABEL a=b")
            second = await put(session, url, "team/web:2", "LABEL a=c")
            bare = await put(session, url, "", f="no name")

            async def ids(**wanted: list[str]) -> set[str]:
                status, rows = await get(session, url("/images/json"), filters=json.dumps(wanted))
                assert status == 200, rows
                return {row["Id"] for row in rows}

            assert await ids() == {first, second, bare}
            assert await ids(reference=["web"]) == {first}
            assert await ids(reference=["*:1"]) == {first}
            assert await ids(reference=["*"]) == {first}  # a star does not go past a slash
            assert await ids(reference=["team/*", "web:1"]) == {first, second}
            assert await ids(reference=["w[a-f]b:?"]) == {first}
            assert await ids(label=["a"]) == {first, second}
            assert await ids(label=["a=c"]) == {second}
            assert await ids(dangling=["true"]) == {bare}
            assert await ids(dangling=["false"]) == {first, second}
            assert await ids(since=["web:1"]) <= {second, bare}
            assert await ids(until=["1h"]) == set()
            assert await ids(until=["2099-01-01"]) == {first, second, bare}

        run(tmp_path, ask)

    @pytest.mark.parametrize(
        ("wanted", "status"),
        [
            ({"reference": ["web["]}, 400),
            ({"reference": ["web[]"]}, 400),
            ({"until": ["tomorrow"]}, 400),
            ({"dangling": ["perhaps"]}, 400),
            ({"colour": ["red"]}, 400),
            ({"before": ["gone"]}, 404),
        ],
    )
    def test_a_filter_that_makes_no_sense(self, tmp_path: Path, wanted: dict[str, list[str]], status: int) -> None:
        async def ask(session: ClientSession, url: Url, state: State) -> None:
            await put(session, url, "web:1")
            found, content = await get(session, url("/images/json"), filters=json.dumps(wanted))
            assert (found, bool(content["message"])) == (status, True)

        run(tmp_path, ask)


class TestOne:
    def test_it_is_inspected_tagged_and_removed(self, tmp_path: Path) -> None:
        async def ask(session: ClientSession, url: Url, state: State) -> None:
            image_id = await put(session, url, "web:1", 'CMD ["a", "b"]\nENV X=1', "ENV Y=$X EXTRA=2", "EXPOSE 80")
            _, found = await get(session, url("/images/web:1/json"))
            assert (found["Id"], found["RepoTags"]) == (image_id, ["web:1"])
            assert found["Config"]["Cmd"] == ["a", "b"]
            assert found["Config"]["Env"] == ["X=1", "Y=1", "EXTRA=2"]
            assert found["Config"]["ExposedPorts"] == {"80/tcp": {}}
            assert found["GraphDriver"]["Name"] == "copy"
            assert len(found["RootFS"]["Layers"]) == 1
            _, history = await get(session, url("/images/web:1/history"))
            assert history[0]["Id"] == image_id
            async with session.post(url("/images/web:1/tag"), params={"repo": "a.io:5/x/y", "tag": "2"}) as response:
                assert response.status == 201
            async with session.delete(url("/images/web:1")) as response:
                assert await response.json() == [{"Untagged": "web:1"}]
            assert (await get(session, url("/images/web:1/json")))[0] == 404
            assert (await get(session, url("/images/a.io:5/x/y:2/json")))[1]["Id"] == image_id
            async with session.delete(url("/images/a.io:5/x/y:2")) as response:
                assert {"Deleted": image_id} in await response.json()
            actions = [event["Action"] for event in state.events.past(0)]
            assert actions == ["import", "tag", "untag", "untag", "delete"]

        run(tmp_path, ask)

    @pytest.mark.parametrize(
        ("query", "says"),
        [
            ({}, "invalid reference"),
            ({"tag": "1"}, "needs a repository"),
            ({"repo": "WEB"}, "lowercase"),
            ({"repo": "web:1", "tag": "2"}, "has a tag already"),
            ({"repo": "web", "tag": "a b"}, "invalid reference"),
        ],
    )
    def test_a_tag_that_makes_no_sense(self, tmp_path: Path, query: dict[str, str], says: str) -> None:
        async def ask(session: ClientSession, url: Url, state: State) -> None:
            await put(session, url, "web:1")
            async with session.post(url("/images/web:1/tag"), params=query) as response:
                assert response.status == 400
                assert says in (await response.json())["message"]

        run(tmp_path, ask)

    def test_an_image_whose_container_runs_stays(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        async def ask(session: ClientSession, url: Url, state: State) -> None:
            image_id = await put(session, url, "web:1")
            container = SimpleNamespace(id="c" * 64, record=SimpleNamespace(image_id=image_id, running=True))
            monkeypatch.setattr(state.containers, "list", lambda: [container])
            async with session.delete(url("/images/web:1")) as response:
                assert response.status == 409
                assert "cccccccccccc" in (await response.json())["message"]
            async with session.post(url("/images/prune"), params={"filters": '{"dangling":["0"]}'}) as response:
                assert (await response.json())["ImagesDeleted"] is None

        run(tmp_path, ask)


class TestArchives:
    def test_what_is_saved_can_be_loaded(self, tmp_path: Path) -> None:
        async def ask(session: ClientSession, url: Url, state: State) -> None:
            image_id = await put(session, url, "web:1")
            async with session.get(url("/images/get"), params={"names": "web:1"}) as response:
                assert response.content_type == "application/x-tar"
                saved = await response.read()
            async with session.delete(url("/images/web:1")) as response:
                assert response.status == 200
            async with session.post(url("/images/load"), data=io.BytesIO(saved)) as response:
                assert json.loads(await response.text())["stream"] == "Loaded image: web:1\n"
            assert (await get(session, url("/images/web:1/json")))[1]["Id"] == image_id
            assert list(state.places.temporary.iterdir()) == []

        run(tmp_path, ask)

    def test_what_cannot_be_saved_or_loaded(self, tmp_path: Path) -> None:
        async def ask(session: ClientSession, url: Url, state: State) -> None:
            assert (await get(session, url("/images/get")))[0] == 400
            assert (await get(session, url("/images/gone/get")))[1] == {"message": "No such image: gone:latest"}
            async with session.post(url("/images/load"), data=b"no archive") as response:
                assert response.status == 400
            async with session.post(url("/images/create"), params={"fromSrc": "http://x/y"}) as response:
                assert response.status == 501
            async with session.post(url("/images/create")) as response:
                assert response.status == 400
            async with session.get(url("/images/search"), params={"term": "x"}) as response:
                assert response.status == 501

        run(tmp_path, ask)

    def test_a_registry_that_does_not_answer_gives_a_status(self, tmp_path: Path) -> None:
        async def ask(session: ClientSession, url: Url, state: State) -> None:
            async with session.post(
                url("/images/create"), params={"fromImage": "127.0.0.1:1/x", "tag": "1"}
            ) as response:
                assert response.status == 502
                assert "refused" in (await response.json())["message"]

        run(tmp_path, ask)


class TestChanges:
    @pytest.mark.parametrize("text", ["RUN x", "FROM x", "COPY a b", "nonsense", "ENV", "EXPOSE x"])
    def test_what_is_not_a_change_is_refused(self, text: str) -> None:
        with pytest.raises(RefusalError) as caught:
            apply_changes({}, [text])
        assert caught.value.status == 400


class TestLogins:
    def test_they_are_read_from_the_headers(self) -> None:
        raw = base64.urlsafe_b64encode(json.dumps({"username": "ä?>", "password": "p"}).encode()).decode()
        for text in (raw, raw.rstrip("=")):
            request = make_mocked_request("POST", "/", headers={"X-Registry-Auth": text})
            assert transfers.registry_auth(request) == {"username": "ä?>", "password": "p"}
        raw = base64.urlsafe_b64encode(json.dumps({"r.io": {"username": "u"}}).encode()).decode()
        request = make_mocked_request("POST", "/", headers={"X-Registry-Config": raw})
        assert transfers.registry_config(request) == {"r.io": {"username": "u"}}
        assert transfers.registry_auth(request) == {}

    @pytest.mark.parametrize("text", ["%%%", "bm8ganNvbg==", "WzFd"])
    def test_what_cannot_be_read_is_bad(self, text: str) -> None:
        with pytest.raises(RefusalError) as caught:
            transfers.registry_auth(make_mocked_request("POST", "/", headers={"X-Registry-Auth": text}))
        assert caught.value.status == 400
