"""Every route of the API with queries, bodies and names that make no sense: refused below 500, in words."""

from __future__ import annotations

import json
import re
import urllib.parse
from collections.abc import Iterator
from typing import Any

import pytest
from fuzz_rig import Rig, amounts, fuzz
from hypothesis import strategies as st

from dockerlab.engine.server import _routes

ROUTES = sorted({(route.method, route.path) for route in _routes()})
MADE, RUNNING, IMAGE = "fuzz-made", "fuzz-running", "fuzz/base:1"
_LATE_S = 0.15
_KEYS = """
AttachStdin AttachStdout AttachStderr Tty OpenStdin StdinOnce Env Cmd Entrypoint Image Labels Volumes WorkingDir User
Hostname Domainname ExposedPorts StopSignal StopTimeout Healthcheck NetworkDisabled MacAddress OnBuild Shell
ArgsEscaped HostConfig NetworkingConfig Binds Mounts PortBindings PublishAllPorts RestartPolicy AutoRemove NetworkMode
Memory NanoCpus CpuShares PidsLimit Privileged ReadonlyRootfs CapAdd CapDrop Dns DnsOptions DnsSearch ExtraHosts
GroupAdd IpcMode PidMode UTSMode UsernsMode ShmSize Tmpfs Ulimits LogConfig Init Isolation SecurityOpt Sysctls Devices
VolumesFrom VolumeDriver Links CgroupParent BlkioWeight OomScoreAdj Runtime StorageOpt EndpointsConfig Aliases
IPAMConfig IPv4Address Name Driver IPAM Config Subnet Gateway Options Internal Attachable EnableIPv6 CheckDuplicate
Container Force EndpointConfig DriverOpts Detach DetachKeys Privileged ConsoleSize Test Interval Timeout Retries
StartPeriod HostIp HostPort MaximumRetryCount Type Source Target ReadOnly ClusterVolumeSpec Soft Hard
""".split()  # noqa: SIM905
_QUERIES = """
all limit size filters since before until stream one-shot stdout stderr follow timestamps tail logs stdin detachKeys h
w t signal condition v force link name path noOverwriteDirNonDir copyUIDGID ps_args repo tag comment author pause
changes container fromImage fromSrc platform message noprune names manifests dangling term digests shared-size
dockerfile q nocache rm forcerm buildargs labels target networkmode extrahosts squash remote cachefrom shmsize memory
version outputs keep-storage type verbose scope quiet
""".split()  # noqa: SIM905
_WORDS = [
    "", "0", "1", "-1", "true", "false", "maybe", "9" * 30, "1.5", "1e9", "null", "[]", "{}", '{"a":["b"]}', '{"a":',
    '{"label":["x"]}', '{"status":["running"]}', '{"until":["x"]}', '{"until":["9999999999999"]}', '{"id":[""]}',
    '{"name":["["]}', '{"since":["nosuch"]}', '{"label":[7]}', "[" * 2000, "\0", "\ud800", "é", "..", "../..", "/",
    "a" * 300, "SIGKILL", "SIGNOPE", "KILL", "64", "65", "-9", "0x9", " ", "%", "a=b", "ctrl-a", "ctrl-é", "removed",
    "next-exit", "10m", "2020-01-01T00:00:00Z", "1700000000.5", "99999999999999999", "ENV A=1", "CMD [", "FROM x",
    "linux/amd64", "x/y/z/w", "fuzz/base", "fuzz/base:1", "sha256:" + "0" * 64, "UPPER", "a:b:c", "/etc",
    "/bin/busybox",
    "localhost:1/x", "127.0.0.1:1/x:1", "-", "aux", "-ef", "-o", "٣", "1_0",
]  # fmt: skip
_SCALARS = [
    None, True, False, 0, 1, -1, 2**31, 2**63, 10**30, 1.5, float("inf"), float("nan"), *_WORDS, "80/tcp", "70000/tcp",
    "80/x", "tcp", "10.1.2.3", "10.0.0.0/8", "999.1.1.1", "::1", "no", "always", "on-failure", "bridge", "host", "none",
    "container:x", "nosuch", "json-file", "local", "bind", "volume", "tmpfs", "nofile", "CMD-SHELL", "sh", "vol:/data",
    "vol:/data:ro", "rel:/x/../y", ":/x", "a:b:c:d", "vol:/", "/nosuch-on-this-machine-either:/x:zz",
]  # fmt: skip


def json_values() -> st.SearchStrategy[Any]:
    """Draw JSON made of the words of the API."""
    scalars = st.one_of(st.sampled_from(_SCALARS), st.integers(), st.text(max_size=5))
    keys = st.one_of(st.sampled_from(_KEYS), st.sampled_from([str(one) for one in _SCALARS]))
    return st.recursive(
        scalars,
        lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(keys, inner, max_size=4)),
        max_leaves=8,
    )


def bodies() -> st.SearchStrategy[bytes]:
    """Draw bodies: objects of the API's keys, now and then no JSON at all."""
    keys = st.sampled_from(_KEYS)
    one = st.dictionaries(keys, json_values(), max_size=3)
    host = st.dictionaries(keys, json_values(), max_size=3)
    made = st.tuples(one, st.sampled_from(["HostConfig", "NetworkingConfig", "Healthcheck", "IPAM", ""]), host)
    objects = made.map(
        lambda drawn: {"Image": IMAGE, "Name": "fuzz", **drawn[0], **({drawn[1]: drawn[2]} if drawn[1] else {})}
    )
    broken = st.sampled_from([b"", b"{", b"[]", b"null", b"7", b"[" * 100_000, b'{"a":' * 50_000, b"\xff\xfe", b"\0"])
    text = st.one_of(objects, objects, objects, json_values()).map(json.dumps)
    return st.one_of(text.map(lambda drawn: drawn.encode()), text.map(lambda drawn: drawn.encode()), broken)


def queries() -> st.SearchStrategy[str]:
    """Draw query strings, not always well written."""
    pairs = st.tuples(st.sampled_from(_QUERIES), st.one_of(st.sampled_from(_WORDS), st.text(max_size=6)))
    good = st.lists(pairs, max_size=4).map(
        lambda drawn: urllib.parse.urlencode([(k, v.encode("utf-8", "surrogatepass")) for k, v in drawn])
    )
    return st.one_of(
        good, good, good, st.sampled_from(["%", "%zz=%ff", "&&&", "=", "a=%00", "filters", "filters=%ff", "t=1&t=x"])
    )


def fill(path: str) -> st.SearchStrategy[str]:
    """Draw values for the variable parts of a path."""
    known = [MADE, RUNNING, IMAGE, "nosuch", "bridge", "fuzz", "fuzz/base"]
    whatever = [
        "%00",
        "..%2F..",
        "%2e%2e",
        "%ff",
        "a" * 5000,
        "é",
        "-",
        "%20",
        "*",
        "[",
        "sha256:" + "0" * 64,
        "a%2Fb",
        "0",
    ]
    value = st.one_of(st.sampled_from(known), st.sampled_from(known), st.sampled_from(whatever))
    parts = re.split(r"\{[^{}]*(?:\{[^{}]*\})?[^{}]*\}", path)
    return st.lists(value, min_size=len(parts) - 1, max_size=len(parts) - 1).map(
        lambda drawn: "".join(part + filled for part, filled in zip(parts, [*drawn, ""], strict=True))
    )


def restore(rig: Rig) -> None:
    """Make what the requests work on, where one of them has removed it."""
    from fuzz_archives import busybox_image

    if rig.ask("GET", f"/images/{IMAGE}/json").status != 200:
        assert rig.ask("POST", "/images/load", busybox_image()).status == 200
    for name in (MADE, RUNNING):
        found = rig.ask("GET", f"/containers/{name}/json")
        if found.status != 200:
            body = {"Image": IMAGE, "Cmd": ["sh", "-c", "trap 'exit 0' TERM; sleep 1000 & wait"]}
            assert rig.ask("POST", f"/containers/create?name={name}", body).status == 201
        if name == RUNNING and (found.status != 200 or not found.messages[0]["State"]["Running"]):
            assert rig.ask("POST", f"/containers/{name}/start").status in (204, 304)


def sweep(rig: Rig) -> None:
    """Remove every container, network and volume."""
    for row in rig.ask("GET", "/containers/json?all=1").messages[0]:
        assert rig.ask("DELETE", f"/containers/{row['Id']}?force=1&v=1").status == 204
    for row in rig.ask("GET", "/volumes").messages[0]["Volumes"] or ():
        rig.ask("DELETE", f"/volumes/{urllib.parse.quote(row['Name'])}?force=1")
    assert rig.ask("POST", "/networks/prune").status == 200


@pytest.fixture
def furnished(rig: Rig) -> Iterator[Rig]:
    """Give the engine with a container that runs and one that does not."""
    restore(rig)
    yield rig
    sweep(rig)


def methods(method: str) -> list[str]:
    return ["GET", "POST", "PUT", "DELETE"] if method == "*" else [method]


def test_there_are_routes() -> None:
    assert len(ROUTES) > 60


@amounts(3, slow_factor=20)
def test_every_route(furnished: Rig, amount: int) -> None:
    rig, failures = furnished, []

    def check(drawn: tuple[str, str, bytes, str]) -> None:
        where, query, body, verb = drawn
        headers = {"Content-Type": "application/json"} if body else {}
        answer = rig.ask(verb, f"{urllib.parse.quote(where, safe='/%:*[]')}?{query}", body, headers, timeout_s=_LATE_S)
        rig.check_answer(answer)
        if verb != "GET":
            restore(rig)

    for method, path in ROUTES:
        strategy = st.tuples(fill(path), queries(), bodies(), st.sampled_from(methods(method)))
        try:
            fuzz(amount, strategy, check)
        except (AssertionError, ConnectionError) as error:
            failures.append(f"{method} {path}: {error}\n" + "\n".join(getattr(error, "__notes__", ())))
            rig.skip_log()
        sweep(rig)
        restore(rig)
    assert not failures, "\n\n".join(failures)


@amounts(100)
def test_bodies_of_containers(furnished: Rig, amount: int) -> None:
    made = []

    def check(body: bytes) -> None:
        answer = furnished.ask("POST", "/containers/create", body, {"Content-Type": "application/json"})
        furnished.check_answer(answer)
        if answer.status == 201:
            name = answer.messages[0]["Id"]
            furnished.check_answer(furnished.ask("GET", f"/containers/{name}/json"))
            furnished.check_answer(furnished.ask("DELETE", f"/containers/{name}?force=1&v=1"))
            made.append(name)

    fuzz(amount, bodies(), check)
    print(f"{len(made)} of them made a container")


@amounts(40, slow_factor=10)
def test_bodies_of_containers_that_start(furnished: Rig, amount: int) -> None:
    """What is accepted must be startable, or say why not in words."""
    safe = [key for key in _KEYS if key not in ("Binds", "Mounts", "Image")]
    object_ = st.dictionaries(st.sampled_from(safe), json_values(), max_size=1)
    started = []

    def check(drawn: tuple[dict[str, Any], dict[str, Any]]) -> None:
        outer, host = drawn
        body = {"Cmd": ["true"], **outer, "Image": IMAGE, "HostConfig": host}
        answer = furnished.ask("POST", "/containers/create", json.dumps(body).encode(), timeout_s=10)
        furnished.check_answer(answer)
        if answer.status == 201:
            name = answer.messages[0]["Id"]
            furnished.check_answer(furnished.ask("POST", f"/containers/{name}/start", timeout_s=10))
            furnished.check_answer(furnished.ask("GET", f"/containers/{name}/json"))
            answer = furnished.ask("DELETE", f"/containers/{name}?force=1&v=1")
            furnished.check_answer(answer)
            started.append(name)

    fuzz(amount, st.tuples(object_, object_), check)
    print(f"{len(started)} of them made a container")


HTTP = [
    b"",
    b"\r\n\r\n",
    b"\0" * 1000,
    b"GET",
    b"GET / HTTP/9.9\r\n\r\n",
    b"GET  HTTP/1.1\r\n\r\n",
    b"GET /_ping HTTP/1.1\r\nContent-Length: -1\r\n\r\n",
    b"POST /containers/create HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999999999999999\r\n\r\n{}",
    b"POST /containers/create HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\n{}",
    b"POST /build HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000\r\n\r\nabc",
    b"POST /images/load HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\nabc\r\n",
    b"POST /images/load HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nffffffffffffffff\r\nabc\r\n",
    b"POST /images/load HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\nContent-Length: 4\r\n\r\n0\r\n\r\n",
    b"POST /images/load HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
    b"POST /containers/create HTTP/1.1\r\nHost: x\r\nContent-Encoding: gzip\r\nContent-Length: 4\r\n\r\nnope",
    b"POST /containers/create HTTP/1.1\r\nHost: x\r\nContent-Encoding: deflate\r\nContent-Length: 4\r\n\r\nnope",
    b"PUT /containers/x/archive?path=/ HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 9\r\n\r\n",
    b"PUT /containers/x/archive?path=/ HTTP/1.1\r\nHost: x\r\nExpect: nonsense\r\n\r\n",
    b"GET /_ping HTTP/1.1\r\nHost: x\r\n" + b"A: b\r\n" * 5000 + b"\r\n",
    b"GET /" + b"a" * 100_000 + b" HTTP/1.1\r\nHost: x\r\n\r\n",
    b"GET /_ping HTTP/1.1\r\nHost: x\r\nA: " + b"a" * 100_000 + b"\r\n\r\n",
    b"GET /_ping HTTP/1.1\r\nHost: \xff\r\n\r\n",
    b"GET /\xff HTTP/1.1\r\nHost: x\r\n\r\n",
    b"GET http://[::1/ HTTP/1.1\r\nHost: x\r\n\r\n",
    b"GET //x:y@[/_ping HTTP/1.1\r\nHost: x\r\n\r\n",
    b"CONNECT a:b HTTP/1.1\r\nHost: x\r\n\r\n",
    b"OPTIONS * HTTP/1.1\r\nHost: x\r\n\r\n",
    b"BREW /_ping HTTP/1.1\r\nHost: x\r\n\r\n",
    b"POST /containers/fuzz-running/attach?stream=1&stdout=1 HTTP/1.1\r\nHost: x\r\n"
    b"Upgrade: tcp\r\nConnection: Upgrade\r\n\r\n",
    b"POST /containers/fuzz-running/attach?stream=1 HTTP/1.1\r\nHost: x\r\n"
    b"Upgrade: \xff\r\nConnection: Upgrade\r\n\r\n\xff",
    b"GET /_ping HTTP/1.1\r\nHost: x\r\nUpgrade: h2c\r\nConnection: Upgrade, HTTP2-Settings\r\n\r\n",
    b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    b"GET /v99999999999999999999.1/_ping HTTP/1.1\r\nHost: x\r\n\r\n",
    b"GET /v1.999999/_ping HTTP/1.1\r\nHost: x\r\n\r\n",
    b"GET /_ping HTTP/1.1\r\nHost: x\r\n\r\n" * 50,
    b"GET /info HTTP/1.1\r\nHost: x\r\n\r\nGET /\0 HTTP/1.1\r\n\r\n",
    b"POST /images/create?fromImage=a HTTP/1.1\r\nHost: x\r\nX-Registry-Auth: \xff\xfe\r\nContent-Length: 0\r\n\r\n",
    b"POST /build HTTP/1.1\r\nHost: x\r\nX-Registry-Config: W10\r\nContent-Length: 0\r\n\r\n",
    b"POST /auth HTTP/1.1\r\nHost: x\r\nContent-Type: application/json; charset=nosuch\r\nContent-Length: 2\r\n\r\n{}",
    b"POST /containers/create HTTP/1.1\r\nHost: x\r\nContent-Type: multipart/form-data\r\nContent-Length: 2\r\n\r\n{}",
]  # fmt: skip


def check_raw(rig: Rig, content: bytes) -> None:
    answer = rig.raw(content)
    rig.check_log()
    for status in re.findall(rb"HTTP/1\.[01] (\d+)", answer):
        assert int(status) < 500 or int(status) in (501, 502), answer[:2000]


@pytest.mark.parametrize("content", HTTP, ids=range(len(HTTP)))
def test_broken_http(furnished_all: Rig, content: bytes) -> None:
    check_raw(furnished_all, content)


@pytest.fixture(scope="module")
def furnished_all(_rig: Rig) -> Iterator[Rig]:
    """Give the engine, looked after once for all requests below."""
    restore(_rig)
    yield _rig
    sweep(_rig)


@amounts(60, slow_factor=20)
def test_damaged_http(furnished: Rig, amount: int) -> None:
    from fuzz_archives import damaged

    fuzz(amount, damaged(st.sampled_from(HTTP)), lambda content: check_raw(furnished, content))
