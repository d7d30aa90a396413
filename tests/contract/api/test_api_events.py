"""What the engine tells about what happens."""

from __future__ import annotations

import threading
import time
from typing import Any

import pytest
from bench import Bench, Raw
from support import until


def told(bench: Bench, since: float, until_s: float | None = None, **filters: Any) -> list[dict[str, Any]]:
    """Give what has happened."""
    given = {"label": bench.filter["label"], **filters}
    moment = f"{until_s or time.time() + 0.1:.6f}"
    return list(bench.client.events(since=int(since), until=moment, filters=given, decode=True))


def test_a_life(bench: Bench) -> None:
    since = time.time() - 1
    made = bench.start(["sh", "-c", "exit 3"], name=bench.fresh())
    made.wait()
    made.start()
    made.wait()
    made.rename(bench.fresh())
    made.remove()
    happened = told(bench, since, type="container")
    actions = [event["Action"] for event in happened]
    wanted = ["create", "start", "die", "start", "die", "rename", "destroy"]
    assert [action for action in actions if action in wanted] == wanted
    first, death = happened[0], next(event for event in happened if event["Action"] == "die")
    assert (first["Type"], first["Actor"]["ID"]) == ("container", made.id)
    assert first["Actor"]["Attributes"]["name"] == made.name
    assert first["Actor"]["Attributes"]["image"]
    assert first["Actor"]["Attributes"][next(iter(bench.labels))] == bench.name
    assert (first["status"], first["id"]) == ("create", made.id)
    assert first["scope"] == "local"
    assert abs(first["time"] - time.time()) < 60
    assert first["timeNano"] // 10**9 == first["time"]
    assert death["Actor"]["Attributes"]["exitCode"] == "3"
    assert [event["timeNano"] for event in happened] == sorted(event["timeNano"] for event in happened)


def test_stopping_and_killing(bench: Bench) -> None:
    since = time.time() - 1
    made = bench.start()
    made.stop(timeout=0)
    made.start()
    made.kill("KILL")
    made.wait()
    made.restart(timeout=0)
    made.pause()
    made.unpause()
    actions = [event["Action"] for event in told(bench, since)]
    for action in ("kill", "die", "stop", "restart", "pause", "unpause"):
        assert action in actions, actions
    kills = told(bench, since, event="kill")
    assert kills[-1]["Actor"]["Attributes"]["signal"] == "9" or len(kills) > 1
    assert {event["Action"] for event in kills} == {"kill"}


def test_filters(bench: Bench) -> None:
    since = time.time() - 1
    first, second = bench.create(["true"], name=bench.fresh()), bench.create(["true"])
    assert [event["id"] for event in told(bench, since, event="create")] == [first.id, second.id]
    assert [event["id"] for event in told(bench, since, container=first.id)] == [first.id]
    assert [event["id"] for event in told(bench, since, container=[first.name])] == [first.id]
    assert told(bench, since, type="volume") == []
    assert told(bench, since, event=["destroy"]) == []
    assert told(bench, time.time() - 100, until_s=since - 5) == []
    assert len(told(bench, since, image=first.attrs["Config"]["Image"], event="create")) == 2


def test_networks_volumes_and_images(bench: Bench) -> None:
    since = int(time.time() - 1)
    network, volume = bench.network(), bench.volume()
    made = bench.start(network=network.name)
    made.remove(force=True)
    network.remove()
    volume.remove()
    image = bench.image("FROM BASE\nLABEL a=b\n", tag=f"{bench.name}:1")
    bench.api.tag(image, f"{bench.name}-x", "2")
    bench.api.remove_image(f"{bench.name}-x:2")
    happened = list(bench.client.events(since=since, until=int(time.time() + 1), decode=True))

    def of(kind: str, **attributes: str) -> list[str]:
        mine = [event for event in happened if event["Type"] == kind]
        return [
            event["Action"]
            for event in mine
            if all(event["Actor"]["Attributes"].get(key) == value for key, value in attributes.items())
        ]

    assert of("network", name=network.name) == ["create", "connect", "disconnect", "destroy"]
    assert [event["Action"] for event in happened if event["Actor"]["ID"] == volume.name] == ["create", "destroy"]
    images = [event["Action"] for event in happened if event["Type"] == "image" and event["Actor"]["ID"] == image]
    assert "tag" in images
    assert "untag" in images


def test_as_it_happens(bench: Bench) -> None:
    stream = bench.client.events(decode=True, filters={**bench.filter, "event": ["start", "die"]})
    seen: list[dict[str, Any]] = []

    def watch() -> None:
        seen.extend(stream)

    watcher = threading.Thread(target=watch)
    watcher.start()
    made = bench.start(["true"])
    until(lambda: len(seen) == 2)
    stream.close()
    watcher.join(10)
    assert [event["Action"] for event in seen] == ["start", "die"]
    assert {event["id"] for event in seen} == {made.id}


def test_until_ends_a_stream_of_what_is_to_come(bench: Bench) -> None:
    begun = time.monotonic()
    assert list(bench.client.events(until=int(time.time()) + 1, filters=bench.filter)) == []
    assert time.monotonic() - begun < 4


def test_exec_and_health(bench: Bench) -> None:
    since = time.time() - 1
    check = {"test": ["CMD", "true"], "interval": 200_000_000}
    made = bench.start(healthcheck=check)
    made.exec_run(["sh", "-c", "exit 4"])
    until(lambda: any(event["Action"] == "health_status: healthy" for event in told(bench, since)))
    actions = [event["Action"] for event in told(bench, since)]
    assert any(action.startswith("exec_create: sh -c") for action in actions)
    assert any(action.startswith("exec_start: ") for action in actions)
    assert "exec_die" in actions
    codes = [event["Actor"]["Attributes"].get("exitCode") for event in told(bench, since, event="exec_die")]
    assert "4" in codes


@pytest.mark.parametrize("moment", ["{:.0f}", "{:.9f}"])
def test_moments(bench: Bench, raw: Raw, moment: str) -> None:
    since = moment.format(time.time() - 1)
    bench.create(["true"])
    query = {"since": since, "until": moment.format(time.time() + 1), "filters": '{"type":["container"]}'}
    answer = raw("GET", "/events", query=query)
    assert answer.status == 200
    assert bench.name.encode() in answer.body
