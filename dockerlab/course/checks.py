"""What each exercise looks at. Facts only; the sentences are in ``texts/``."""

from __future__ import annotations

import http.client
import io
import json
import math
import tarfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import docker.errors

from dockerlab.autoscale.metrics import replica_seconds
from dockerlab.connect import engine_errors
from dockerlab.drift.look import look
from dockerlab.drift.servers import SERVERS_LABEL
from dockerlab.errors import ImageNotFoundError
from dockerlab.images.base import BASE_TAG
from dockerlab.ownership import own_containers

if TYPE_CHECKING:
    from dockerlab.fleet.fleet import Fleet
    from dockerlab.images import Image
    from dockerlab.lab import Lab
    from dockerlab.traffic.results import Results

NOTE = "/note.txt"
SETTINGS, SERVERS = "/etc/shop.conf", 5
"""The file that `no_drift` reads, and on how many servers."""

TARGET_RPS, TARGET_SHARE = 120, 0.7
"""The load that `enough_replicas` plans for, and the share of the fleet's capacity that it may use."""

NIGHT_LOAD = ((10, 2), (45, 4), (10, 6))
"""The load of `night_shift`: requests a second and seconds."""
NIGHT_REPLICA_S = 52
"""What it may cost; five replicas all the time would cost 60."""

ENOUGH_SENT = 0.99
"""Below this share the sender was too slow to prove anything."""

TILL, DATA, TILL_VISITS = "till", "/data", 5
"""The service that `rescued_data` is about, where its data is, and how many visits it had as version 1."""

_ADDED = 1  # docker diff: 0 changed, 1 added, 2 deleted


@dataclass(frozen=True)
class Fact:
    """One thing that was looked at.

    Parameters
    ----------
    key : str
        Names the sentences for it.
    ok : bool
    values : mapping
        For the blanks in the sentences.
    """

    key: str
    ok: bool
    values: Mapping[str, object] = field(default_factory=dict)


def first_service(lab: Lab, results: Results | None) -> Iterator[Fact]:  # noqa: ARG001
    """Find a container of the service that runs, has a name of its own, and answers on this machine."""
    best: list[Fact] = [Fact("named", ok=False)]
    for found in _singles(lab):
        env = dict(word.partition("=")[::2] for word in found["Config"]["Env"] or ())
        replica = env.get("REPLICA", "").strip()
        if not replica:
            continue
        facts = [Fact("named", ok=True, values={"replica": replica})]
        public = _public_port(found)
        facts.append(Fact("published", ok=public > 0, values={"port": public, "replica": replica}))
        if public:
            answer = _who_answers(f"http://127.0.0.1:{public}", patience_s=3.0)
            told = str(answer.get("replica", ""))
            facts.append(Fact("answers", ok=told == replica, values={"port": public, "replica": replica}))
        if sum(fact.ok for fact in facts) > sum(fact.ok for fact in best):
            best = facts
    yield from best


def cached_step(lab: Lab, results: Results | None) -> Iterator[Fact]:  # noqa: ARG001
    """Two images of one Dockerfile differ, and yet share the layer of the slow step."""
    first, second = _image(lab, f"pages-{lab.name}:1"), _image(lab, f"pages-{lab.name}:2")
    missing = ", ".join(f"pages-{lab.name}:{number}" for number, image in ((1, first), (2, second)) if image is None)
    yield Fact("built", ok=not missing, values={"missing": missing})
    if first is None or second is None:
        return
    differ = first.id != second.id
    yield Fact("differ", ok=differ, values={"id": first.short_id, "other": second.short_id})
    slow = [
        next((number for number, layer in enumerate(image.layers) if layer.instruction.startswith("RUN sleep")), None)
        for image in (first, second)
    ]
    yield Fact("step", ok=None not in slow)
    if slow[0] is None or slow[1] is None or not differ:
        return
    # Each layer has its time in it: an equal one was made once. What lies below it must be equal too.
    shared = first.layers[: slow[0] + 1] == second.layers[: slow[1] + 1]
    yield Fact("shared", ok=shared)


def own_layer(lab: Lab, results: Results | None) -> Iterator[Fact]:  # noqa: ARG001
    """Three containers of one image run, and exactly one of them has a certain file."""
    groups: dict[str, list[tuple[str, bool]]] = defaultdict(list)
    for found in _singles(lab):
        with engine_errors():
            changes = lab.client.api.diff(found["Id"]) or []
        has_note = any(change["Path"] == NOTE and change["Kind"] == _ADDED for change in changes)
        groups[found["Image"]].append((found["Name"].lstrip("/"), has_note))
    rows = max(groups.values(), key=lambda rows: (any(note for _, note in rows), len(rows)), default=[])
    yield Fact("three", ok=len(rows) >= 3, values={"count": len(rows)})
    owners = [name for name, note in rows if note]
    yield Fact("one_note", ok=len(owners) == 1, values={"count": len(owners), "name": ", ".join(owners)})


def enough_replicas(lab: Lab, results: Results | None) -> Iterator[Fact]:  # noqa: ARG001
    """See that the fleet is as small as the load allows, with room to spare, and that all replicas serve."""
    fleet = lab.fleets.get("web")
    yield Fact("fleet", ok=fleet is not None)
    if fleet is None:
        return
    each_rps = 1000 / _work_ms(fleet)
    wanted = math.ceil(TARGET_RPS / (each_rps * TARGET_SHARE) - 1e-9)
    status = fleet.status()
    share = TARGET_RPS / (each_rps * status.ready) if status.ready else math.inf
    numbers = {"ready": status.ready, "desired": status.desired, "percent": f"{share:.0%}" if status.ready else "all"}
    yield Fact("enough", ok=status.ready >= wanted, values=numbers)
    if status.ready >= wanted:
        yield Fact("not_too_many", ok=status.desired <= wanted, values=numbers)
    yield Fact("whole", ok=status.phase == "Healthy", values=numbers)
    if status.phase == "Healthy" and status.ready:
        answered = {answer.get("replica") for answer in _ask(fleet, 3 * status.ready)}
        yield Fact("all_serve", ok=answered == {row.name for row in status.replicas}, values={"count": len(answered)})


def nobody_notices(lab: Lab, results: Results | None) -> Iterator[Fact]:
    """Every replica is version 3, and a load that covers the whole rollout lost nothing."""
    fleet = lab.fleets.get("web")
    yield Fact("fleet", ok=fleet is not None)
    if fleet is None:
        return
    status = fleet.status()
    told = sorted({str(answer.get("version", "none")) for answer in _ask(fleet, max(4, 2 * status.ready))})
    version_ok = told == ["3"] and status.phase == "Healthy"
    yield Fact("version", ok=version_ok, values={"versions": ", ".join(told), "phase": status.phase})
    load = results is not None and len(results) > 0
    yield Fact("load", ok=load)
    if results is None or not load or not version_ok:
        return
    mine = [event for event in fleet.events if event.revision == fleet.revision]
    begun_s = max((event.time_s for event in mine if event.kind == "rollout"), default=math.inf)
    ended_s = max((event.time_s for event in mine if event.kind == "complete"), default=math.inf)
    covers = results.scheduled_s[0] < begun_s < ended_s < results.scheduled_s[-1]
    yield Fact("covers", ok=covers)
    summary = results.summary()
    yield Fact("sent", ok=summary.sent_share >= ENOUGH_SENT, values={"percent": f"{summary.sent_share:.1%}"})
    yield Fact("lost", ok=summary.lost == 0, values={"lost": summary.lost, "scheduled": summary.scheduled})


def rescued_data(lab: Lab, results: Results | None) -> Iterator[Fact]:  # noqa: ARG001
    """Version 2 of a service runs, and the data of version 1 is in a volume of this lab that it uses."""
    found = next((row for row in _singles(lab) if row["Name"] == f"/{lab.name}-{TILL}"), None)
    yield Fact("runs", ok=found is not None)
    if found is None:
        return
    # The image's own words: a variable given at start would only pretend.
    env = dict(word.partition("=")[::2] for word in lab.image(found["Image"]).env)
    version = env.get("VERSION", "none")
    yield Fact("version", ok=version == "2", values={"version": version})
    mounts = [row for row in found.get("Mounts") or () if row["Destination"] == DATA and row["Type"] == "volume"]
    volume = str(mounts[0]["Name"]) if mounts else ""
    mine = _is_mine(lab, volume) if volume else False
    yield Fact("volume", ok=mine, values={"volume": volume})
    rows = _lines(lab, found["Id"], f"{DATA}/visits.txt")
    old = sum(row.endswith("version 1") for row in rows)
    yield Fact("data", ok=old >= TILL_VISITS, values={"count": old, "wanted": TILL_VISITS})
    if version != "2" or not mine or old < TILL_VISITS:
        return
    public = _public_port(found)
    answer = _who_answers(f"http://127.0.0.1:{public}", patience_s=3.0) if public else {}
    ok = answer.get("version") == "2" and answer.get("visits") == len(rows)
    yield Fact("answers", ok=ok, values={"visits": len(rows)})


def no_drift(lab: Lab, results: Results | None) -> Iterator[Fact]:  # noqa: ARG001
    """Five servers of one image that was built have the settings once, and nothing on them was changed since."""
    wanted = {**lab.labels, SERVERS_LABEL: "mine"}
    with engine_errors():
        rows = [row for row in own_containers(lab.client.api, wanted) if row["State"] == "running"]
    rows.sort(key=lambda row: str(row["Names"][0]))
    yield Fact("servers", ok=len(rows) >= SERVERS, values={"count": len(rows), "wanted": SERVERS})
    if len(rows) < SERVERS:
        return
    base, images = _image(lab, BASE_TAG), {row["ImageID"] for row in rows}
    yield Fact("one_image", ok=len(images) == 1 and (base is None or base.id not in images))
    wrong = [row["Names"][0].lstrip("/") for row in rows if _printed(lab, row["Id"], SETTINGS) != "workers=8"]
    yield Fact("settings", ok=not wrong, values={"names": ", ".join(wrong)})
    found = look(lab.client, [row["Id"] for row in rows])
    alike = found.states == 1 and not found.drifted and not found.gone
    yield Fact("as_built", ok=alike, values={"states": found.states, "names": ", ".join(found.drifted)})


def night_shift(lab: Lab, results: Results | None) -> Iterator[Fact]:
    """See that the fleet followed a given load, lost nothing of it, and was small enough meanwhile."""
    fleet = lab.fleets.get("web")
    yield Fact("fleet", ok=fleet is not None)
    if fleet is None:
        return
    load = results is not None and _is_night(results)
    yield Fact("load", ok=load)
    if results is None or not load:
        return
    since_s, until_s = results.scheduled_s[0], results.scheduled_s[-1]
    kinds = {event.kind for event in fleet.events if event.replica and since_s <= event.time_s <= until_s}
    yield Fact("followed", ok={"ready", "drained"} <= kinds)
    summary = results.summary()
    yield Fact("sent", ok=summary.sent_share >= ENOUGH_SENT, values={"percent": f"{summary.sent_share:.1%}"})
    yield Fact("lost", ok=summary.lost == 0, values={"lost": summary.lost, "scheduled": summary.scheduled})
    serving = [row.name for row in fleet.status().replicas if row.ready]
    cost_s = replica_seconds(fleet.events, serving, since_s=since_s, until_s=until_s)
    values = {"cost": f"{cost_s:.1f}", "budget": NIGHT_REPLICA_S}
    yield Fact("cost", ok=cost_s <= NIGHT_REPLICA_S, values=values)


def _is_night(results: Results) -> bool:
    """Tell whether a load had the rates of `NIGHT_LOAD`, one after the other."""
    since_s = results.scheduled_s[0] if len(results) else 0.0
    for rate_rps, span_s in NIGHT_LOAD:
        due = len(results.between(since_s - 0.01, since_s + span_s - 0.01))
        if not 0.95 * rate_rps * span_s <= due <= 1.05 * rate_rps * span_s:
            return False
        since_s += span_s
    return len(results) <= 1.05 * sum(rate_rps * span_s for rate_rps, span_s in NIGHT_LOAD)


CHECKS: Mapping[str, Callable[[Any, Any], Iterator[Fact]]] = {
    "cached_step": cached_step,
    "enough_replicas": enough_replicas,
    "first_service": first_service,
    "night_shift": night_shift,
    "no_drift": no_drift,
    "nobody_notices": nobody_notices,
    "own_layer": own_layer,
    "rescued_data": rescued_data,
}


def _singles(lab: Lab) -> Iterator[dict[str, Any]]:
    """Inspect the running containers of the lab that belong to no fleet."""
    api = lab.client.api
    labels = [f"{key}={value}" for key, value in lab.labels.items()]
    with engine_errors():
        rows = api.containers(filters={"label": labels, "status": "running"})
    for row in rows:
        if "dockerlab.fleet" not in row["Labels"]:
            with engine_errors():
                yield api.inspect_container(row["Id"])


def _public_port(found: Mapping[str, Any]) -> int:
    """Give the first port of this machine that leads into a container, 0 where none does."""
    ports = (found["NetworkSettings"].get("Ports") or {}).values()
    return next((int(binding["HostPort"]) for bindings in ports for binding in bindings or ()), 0)


def _is_mine(lab: Lab, volume: str) -> bool:
    with engine_errors():
        labels = lab.client.api.inspect_volume(volume).get("Labels") or {}
    return all(labels.get(key) == value for key, value in lab.labels.items())


def _lines(lab: Lab, container_id: str, path: str) -> list[str]:
    """Read a text file of a container; no lines where it is not there."""
    try:
        stream, _ = lab.client.api.get_archive(container_id, path)
        with tarfile.open(fileobj=io.BytesIO(b"".join(stream))) as archive:
            file = archive.extractfile(archive.next() or "")
            return file.read().decode(errors="replace").splitlines() if file else []
    except (docker.errors.NotFound, KeyError):
        return []


def _image(lab: Lab, name: str) -> Image | None:
    try:
        return lab.image(name)
    except ImageNotFoundError:
        return None


def _printed(lab: Lab, container_id: str, path: str) -> str:
    """Read a small text file in a container; empty where it cannot be read."""
    with engine_errors():
        code, output = lab.client.containers.get(container_id).exec_run(["cat", path])
    text = output if isinstance(output, bytes) else b"".join(output)
    return text.decode(errors="replace").strip() if code == 0 else ""


def _work_ms(fleet: Fleet) -> int:
    """Ask the service how long one piece of work takes, rather than believe what the fleet was made with."""
    return max(1, int(next(iter(_ask(fleet, 1)), {}).get("work_ms", 50)))


def _ask(fleet: Fleet, times: int) -> list[dict[str, Any]]:
    return [_who_answers(fleet.url) for _ in range(times)]


def _who_answers(url: str, *, patience_s: float = 0.0) -> dict[str, Any]:
    """Ask a service who it is; an empty answer where it says nothing that makes sense within `patience_s`."""
    deadline = time.monotonic() + patience_s
    while True:
        try:
            # Not urllib: that would ask a proxy of the environment.
            connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=2)
            try:
                connection.request("GET", "/cgi-bin/whoami")
                answer = connection.getresponse()
                told = json.loads(answer.read()) if answer.status == 200 else {}
            finally:
                connection.close()
            if isinstance(told, dict) and told:
                return told
        except (OSError, http.client.HTTPException, ValueError):
            pass
        if time.monotonic() >= deadline:
            return {}
        time.sleep(0.1)
