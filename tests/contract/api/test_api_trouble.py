"""Requests that are wrong: a clear refusal below 500, and the engine goes on."""

from __future__ import annotations

import json
from typing import Any

import pytest
from bench import Answer, Bench, Raw, archive

UNKNOWN_CONTAINER = [
    *(("GET", path) for path in ("/json", "/top", "/logs?stdout=1", "/stats?stream=0", "/changes", "/export")),
    *(("POST", path) for path in ("/start", "/stop", "/restart", "/kill", "/wait", "/rename?name=other-name")),
    *(("POST", path) for path in ("/pause", "/unpause", "/resize?h=20&w=80", "/attach?stdout=1&stream=1")),
    *((method, "/archive?path=/") for method in ("GET", "HEAD", "PUT")),
    *(("POST", path) for path in ("/exec", "/update")),
    ("DELETE", ""),
]
OTHERS = [
    ("GET", "/images/nosuch:9/json", "No such image: nosuch:9"),
    ("GET", "/images/nosuch:9/history", "No such image: nosuch:9"),
    ("POST", "/images/nosuch:9/tag?repo=x&tag=1", "No such image: nosuch:9"),
    ("DELETE", "/images/nosuch:9", "No such image: nosuch:9"),
    ("GET", f"/images/sha256:{0:064}/json", "No such image: sha256:0"),
    ("GET", "/images/nosuch:9/get", ""),
    ("GET", "/networks/nosuch", "network nosuch not found"),
    ("DELETE", "/networks/nosuch", "network nosuch not found"),
    ("POST", "/networks/nosuch/connect", "nosuch"),
    ("POST", "/networks/nosuch/disconnect", "nosuch"),
    ("GET", "/volumes/nosuch", "get nosuch: no such volume"),
    ("DELETE", "/volumes/nosuch", "get nosuch: no such volume"),
    ("GET", "/exec/nosuch/json", "No such exec instance"),
    ("POST", "/exec/nosuch/start", "No such exec instance"),
    ("POST", "/exec/nosuch/resize?h=20&w=80", "No such exec instance"),
    ("POST", "/commit?container=nosuch", "No such container: nosuch"),
]
BODIES = [b"{", b"[]", b'"x"', b"7", b"[" * 5000, b'{"a":' * 5000, b"\xff\xfe", b"{'a':1}"]
CONTAINERS: list[dict[str, Any]] = [
    {"Image": 7},
    {"Image": ["x"]},
    {"Cmd": 7},
    {"Cmd": {"a": 1}},
    {"Cmd": [7]},
    {"Entrypoint": 7},
    {"Env": "A=1"},
    {"Env": [1]},
    {"Env": ["=x"]},
    {"Labels": ["x"]},
    {"Labels": {"a": 1}},
    {"User": 7},
    {"WorkingDir": "relative"},
    {"WorkingDir": 7},
    {"Tty": "yes"},
    {"ExposedPorts": ["80/tcp"]},
    {"Volumes": ["/data"]},
    {"StopSignal": "SIGNOPE"},
    {"StopTimeout": "x"},
    {"Healthcheck": {"Test": 7}},
    {"Healthcheck": {"Test": ["CMD", "true"], "Interval": 5}},
    {"Healthcheck": {"Test": ["CMD", "true"], "Retries": -1}},
    {"HostConfig": []},
    {"HostConfig": {"Memory": "x"}},
    {"HostConfig": {"Memory": 1}},
    {"HostConfig": {"PortBindings": {"80/tcp": [{"HostPort": "x"}]}}},
    {"HostConfig": {"PortBindings": {"80/tcp": [{"HostPort": "70000"}]}}},
    {"HostConfig": {"PortBindings": {"80/tcp": {"HostPort": "80"}}}},
    {"HostConfig": {"PortBindings": {"x/tcp": [{"HostPort": "80"}]}}},
    {"HostConfig": {"PortBindings": {"80/tcp": [{"HostPort": 80}]}}},
    {"HostConfig": {"Binds": ["a:b:c:d"]}},
    {"HostConfig": {"Binds": ["/tmp:relative"]}},
    {"HostConfig": {"Binds": ["/tmp:/"]}},
    {"HostConfig": {"Binds": ["/tmp:/x:nosuch"]}},
    {"HostConfig": {"Binds": "x"}},
    {"HostConfig": {"Binds": ["in/valid:/x"]}},
    {"HostConfig": {"Mounts": [{"Type": "nosuch", "Target": "/x"}]}},
    {"HostConfig": {"Mounts": [{"Type": "volume", "Target": ""}]}},
    {"HostConfig": {"Mounts": [{"Type": "bind", "Source": "/no/such/folder", "Target": "/x"}]}},
    {"HostConfig": {"Tmpfs": ["/x"]}},
    {"HostConfig": {"RestartPolicy": {"Name": "nosuch"}}},
    {"HostConfig": {"RestartPolicy": {"Name": "always", "MaximumRetryCount": 3}}},
    {"HostConfig": {"RestartPolicy": {"Name": "on-failure", "MaximumRetryCount": -3}}},
    {"HostConfig": {"RestartPolicy": {"Name": "always"}, "AutoRemove": True}},
    {"HostConfig": {"Ulimits": [{"Name": "nofile", "Soft": "x"}]}},
    {"HostConfig": {"AutoRemove": "yes"}},
    {"HostConfig": {"NetworkMode": 7}},
    {"NetworkingConfig": {"EndpointsConfig": []}},
    {"NetworkingConfig": 7},
]
# What Docker Engine 20.10 leaves to the start, or takes.
LATE: list[dict[str, Any]] = [
    {"ExposedPorts": {"x/tcp": {}}},
    {"ExposedPorts": {"99999/tcp": {}}},
    {"ExposedPorts": {"80/nosuch": {}}},
    {"HostConfig": {"Binds": ["/x/\0:/x"]}},
    {"Env": ["A=\0"]},
    {"Cmd": ["a\0b"]},
    {"Hostname": "a b/c"},
    {"User": "no:such:user"},
    {"NetworkingConfig": {"EndpointsConfig": {"a": {}, "b": {}}}},
]
FILTERS = ["{", "[]", "7", '"x"', '{"label":"x"}', '{"label":[7]}', '{"label":7}', "null]"]
LISTS = ["/containers/json", "/images/json", "/networks", "/volumes"]


def refused(raw: Raw, answer: Answer) -> None:
    """The answer says no in words. Docker Engine itself has a 500 for some of it; no other engine may."""
    limit = 501 if raw.engine.kind == "docker" else 500
    assert 400 <= answer.status < limit, (answer.status, answer.body)
    assert answer.message


@pytest.mark.parametrize(("method", "path"), UNKNOWN_CONTAINER)
def test_an_unknown_container(raw: Raw, method: str, path: str) -> None:
    body: Any = {"Cmd": ["true"]} if path == "/exec" else {} if path == "/update" else None
    answer = raw(method, f"/containers/no-such-container{path}", body)
    assert answer.status == 404
    if method != "HEAD":
        assert b"No such container: no-such-container" in answer.body


@pytest.mark.parametrize(("method", "path", "text"), OTHERS)
def test_other_unknown_things(raw: Raw, method: str, path: str, text: str) -> None:
    body: Any = {"Container": "nosuch"} if "connect" in path else {} if path.endswith("start") else None
    answer = raw(method, path, body)
    assert answer.status == 404
    assert text.lower() in answer.message.lower()


@pytest.mark.parametrize(
    "path",
    [
        *("/nosuch", "/containers", "/containers/x/nosuch", "/v1.41/nosuch", "//", "/../info", "/containers/%00/json"),
        *("/containers/..%2f..%2fetc/json", f"/containers/{'a' * 4000}/json", "/containers/%ff/json", "/v1.41", "/%"),
        *("/images/UPPER/json", "/images/%00/json", f"/images/{'a' * 4000}/json", "/images/..%2f..%2f/json"),
    ],
)
def test_paths_that_lead_nowhere(raw: Raw, path: str) -> None:
    assert raw("GET", path).status in (301, 400, 404)


@pytest.mark.parametrize(("method", "path"), [("PUT", "/containers/json"), ("DELETE", "/info"), ("POST", "/version")])
def test_methods_that_do_not_fit(raw: Raw, method: str, path: str) -> None:
    assert raw(method, path).status in (404, 405)


@pytest.mark.parametrize("body", BODIES, ids=lambda body: ascii(body[:8]))
@pytest.mark.parametrize("path", ["/containers/create", "/networks/create", "/volumes/create"])
def test_bodies_that_are_no_json_object(raw: Raw, path: str, body: bytes) -> None:
    refused(raw, raw("POST", path, body))


@pytest.mark.parametrize("body", [None, b"", b"null", b"{}"])
def test_a_container_of_nothing(raw: Raw, body: bytes | None) -> None:
    refused(raw, raw("POST", "/containers/create", body))


def test_a_body_of_another_type(raw: Raw) -> None:
    refused(raw, raw("POST", "/containers/create", b"{}", headers={"Content-Type": "text/plain"}))


@pytest.mark.parametrize("change", CONTAINERS, ids=json.dumps)
def test_containers_that_cannot_be(bench: Bench, raw: Raw, change: dict[str, Any]) -> None:
    refused(raw, raw("POST", "/containers/create", {"Image": bench.base, "Labels": bench.labels, **change}))


@pytest.mark.parametrize("change", LATE, ids=json.dumps)
def test_containers_that_may_be_refused_late(bench: Bench, raw: Raw, change: dict[str, Any]) -> None:
    body = {"Image": bench.base, "Cmd": ["true"], "Labels": bench.labels, **change}
    answer = raw("POST", "/containers/create", body)
    if answer.status == 201:
        answer = raw("POST", f"/containers/{answer.json['Id']}/start")
    assert answer.status == 204 or (400 <= answer.status <= 500 and answer.message)
    assert raw.engine.kind == "docker" or answer.status < 500


@pytest.mark.parametrize("name", ["a", "a b", "../x", "-x", "ä", "x/y", "a" + "\0"])
def test_names_that_cannot_be(bench: Bench, raw: Raw, name: str) -> None:
    body = {"Image": bench.base, "Labels": bench.labels}
    answer = raw("POST", "/containers/create", body, query={"name": name})
    assert answer.status == 400
    assert "Invalid container name" in answer.message


@pytest.mark.parametrize("path", LISTS)
def test_filters_that_cannot_be(raw: Raw, path: str) -> None:
    for text in FILTERS:
        refused(raw, raw("GET", path, query={"filters": text}))
    answer = raw("GET", path, query={"filters": '{"nosuch":["x"]}'})
    assert answer.status == 400
    assert "nosuch" in answer.message
    assert raw("GET", path, query={"filters": '{"label":{"nosuch-label":true}}'}).status == 200


@pytest.mark.parametrize(
    ("path", "filters"),
    [
        ("/containers/json", {"status": ["nosuch"]}),
        ("/containers/json", {"exited": ["x"]}),
        ("/containers/json", {"health": ["x"]}),
        ("/images/json", {"dangling": ["x"]}),
        ("/networks", {"type": ["x"]}),
    ],
)
def test_values_of_filters_that_cannot_be(raw: Raw, path: str, filters: dict[str, Any]) -> None:
    refused(raw, raw("GET", path, query={"filters": json.dumps(filters)}))


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/containers/json?limit=abc"),
        ("GET", "/events?since=x"),
        ("GET", "/events?until=1&filters={"),
        ("POST", "/containers/prune?filters=[7"),
        ("POST", "/volumes/prune?filters={"),
        ("POST", "/images/create"),
        ("POST", "/images/create?fromImage=UPPER"),
        ("POST", "/images/create?fromImage=bad:tag:x"),
        ("POST", "/images/dockerlab%2Fbase:1/tag?repo=UPPER&tag=1"),
        ("POST", "/images/dockerlab%2Fbase:1/tag?repo=x&tag=b:d"),
        ("POST", "/images/dockerlab%2Fbase:1/tag"),
        ("POST", "/commit"),
    ],
)
def test_parameters_that_cannot_be(raw: Raw, method: str, path: str) -> None:
    refused(raw, raw(method, path))


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/networks/create", {"Name": 7}),
        ("/networks/create", {}),
        ("/networks/create", {"Name": "test-api-bad", "Driver": "nosuch"}),
        ("/networks/create", {"Name": "test-api-bad", "IPAM": {"Config": [{"Subnet": "nonsense"}]}}),
        ("/networks/create", {"Name": "test-api-bad", "IPAM": 7}),
        ("/networks/create", {"Name": "bridge"}),
        ("/networks/create", {"Name": "host"}),
        ("/volumes/create", {"Name": 7}),
        ("/volumes/create", {"Name": "../x"}),
        ("/volumes/create", {"Name": "/etc"}),
        ("/volumes/create", {"Name": "a"}),
        ("/volumes/create", {"Name": "test-api-bad", "Labels": 7}),
        ("/volumes/create", {"Name": "test-api-bad", "Driver": "nosuch"}),
    ],
)
def test_networks_and_volumes_that_cannot_be(raw: Raw, path: str, body: dict[str, Any]) -> None:
    if "Driver" in body and raw.engine.kind == "docker":
        pytest.skip("Docker Engine looks for a plugin for 15 s")
    refused(raw, raw("POST", path, body))


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("POST", "/kill?signal=NOPE", None),
        ("POST", "/kill?signal=99", None),
        ("POST", "/kill", None),
        ("POST", "/stop?t=abc", None),
        ("POST", "/rename", None),
        ("POST", "/rename?name=a%20b", None),
        ("POST", "/resize?h=abc&w=1", None),
        ("POST", "/resize?h=2&w=1", None),
        ("GET", "/archive", None),
        ("PUT", "/archive?path=/", b"this is no tar archive at all"),
        ("PUT", "/archive?path=/etc/passwd", archive({"a": "b"})),
        ("PUT", "/archive?path=/nosuch", archive({"a": "b"})),
        ("GET", "/archive?path=/nosuch", None),
        ("GET", "/logs", None),
        ("GET", "/logs?stdout=1&since=abc", None),
        ("POST", "/exec", {}),
        ("POST", "/exec", {"Cmd": 7}),
        ("POST", "/exec", {"Cmd": ["true"]}),
        ("POST", "/exec", b"{"),
        ("GET", "/top", None),
        ("POST", "/pause", None),
        ("POST", "/unpause", None),
        ("POST", "/update", b"{"),
    ],
)
def test_what_a_container_that_was_never_started_refuses(
    bench: Bench, raw: Raw, method: str, path: str, body: Any
) -> None:
    container = bench.create(["true"])
    refused(raw, raw(method, f"/containers/{container.id}{path}", body))


def test_an_unknown_way_to_wait(bench: Bench, raw: Raw) -> None:
    container = bench.create(["true"])
    answer = raw("POST", f"/containers/{container.id}/wait?condition=nosuch")
    # Docker Engine 20.10 does not look at it; later ones refuse.
    assert answer.status in (200, 400)


def test_the_engine_goes_on(raw: Raw) -> None:
    assert raw("GET", "/_ping").body == b"OK"
