"""Networks: /networks."""

from __future__ import annotations

from aiohttp import web

from dockerlab.engine.api.app import STATE, State, body, filters
from dockerlab.engine.containers import Container, clock, fields
from dockerlab.engine.containers.network import Network, passes
from dockerlab.engine.containers.networks import check_endpoint
from dockerlab.engine.containers.volumes import has_labels, truth
from dockerlab.engine.refusals import RefusalError, bad

_FILTERS = ("dangling", "driver", "id", "label", "name", "scope", "type")


def routes() -> list[web.RouteDef]:
    """Give the routes of this module."""
    return [
        web.get("/networks", _list, allow_head=False),
        web.post("/networks/create", _create),
        web.post("/networks/prune", _prune),
        web.get("/networks/{name}", _inspect, allow_head=False),
        web.delete("/networks/{name}", _remove),
        web.post("/networks/{name}/connect", _connect),
        web.post("/networks/{name}/disconnect", _disconnect),
    ]


def _network(request: web.Request) -> Network:
    found: Network = request.app[STATE].networks.get(request.match_info["name"])
    return found


def _used(state: State, network: Network) -> bool:
    return any(network.name in one.record.networks for one in state.containers.list())


async def _list(request: web.Request) -> web.Response:
    state = request.app[STATE]
    wanted = filters(request, _FILTERS)
    found = [one for one in state.networks.list() if passes(one, wanted)]
    if wanted.get("dangling"):
        dangling = truth(wanted["dangling"])
        found = [one for one in found if not one.predefined and dangling != _used(state, one)]
    return web.json_response([one.shown(containers=False) for one in found])


async def _create(request: web.Request) -> web.Response:
    state = request.app[STATE]
    made = state.networks.create(await body(request))
    state.events.emit("network", "create", made.id, {"name": made.name, "type": made.driver})
    return web.json_response({"Id": made.id, "Warning": ""}, status=201)


async def _inspect(request: web.Request) -> web.Response:
    return web.json_response(_network(request).shown())


async def _remove(request: web.Request) -> web.Response:
    state, network = request.app[STATE], _network(request)
    state.networks.remove(network)
    state.events.emit("network", "destroy", network.id, {"name": network.name, "type": network.driver})
    return web.Response(status=204)


async def _asked(request: web.Request) -> tuple[State, Network, Container, dict[str, object]]:
    state, network = request.app[STATE], _network(request)
    content = await body(request)
    return state, network, state.containers.get(fields.text(content, "Container")), content


async def _connect(request: web.Request) -> web.Response:
    state, network, container, content = await _asked(request)
    record = container.record
    mode = record.host["NetworkMode"]
    if network.name == "host" or mode == "host":
        raise bad("container cannot be disconnected from host network or connected to host network")
    if network.name == "none" or (mode == "none" and "none" in record.networks and container.process):
        raise bad("container cannot be connected to multiple networks with one of the networks in private (none) mode")
    if network.name in record.networks:
        raise RefusalError(403, f"endpoint with name {container.name} already exists in network {network.name}")
    record.networks.pop("none", None)
    record.networks[network.name] = check_endpoint(network, fields.table(content, "EndpointConfig"))
    if container.process:
        try:
            state.containers.wiring.connect(container, network)
        except RefusalError:
            del record.networks[network.name]
            raise
    container.save()
    state.containers.wiring.tell(network, container, "connect")
    return web.Response(status=200)


async def _disconnect(request: web.Request) -> web.Response:
    state, network, container, content = await _asked(request)
    if network.name == "host":
        raise bad("container cannot be disconnected from host network or connected to host network")
    if network.name not in container.record.networks:
        if fields.yes(content, "Force"):
            return web.Response(status=200)
        raise RefusalError(403, f"container {container.id} is not connected to network {network.name}")
    if container.process:
        state.containers.wiring.disconnect(container, network)
    del container.record.networks[network.name]
    container.save()
    state.containers.wiring.tell(network, container, "disconnect")
    return web.Response(status=200)


async def _prune(request: web.Request) -> web.Response:
    state = request.app[STATE]
    wanted = filters(request, ("label", "label!", "until"))
    until_ns = min((clock.until(value) for value in wanted.get("until", ())), default=0)
    removed = []
    for one in state.networks.list():
        if one.predefined or _used(state, one) or not has_labels(one.labels, wanted.get("label", ())):
            continue
        if (wanted.get("label!") and has_labels(one.labels, wanted["label!"])) or (
            until_ns and one.created_ns > until_ns
        ):
            continue
        state.networks.remove(one)
        removed.append(one.name)
        state.events.emit("network", "destroy", one.id, {"name": one.name, "type": one.driver})
    return web.json_response({"NetworksDeleted": removed or None})
