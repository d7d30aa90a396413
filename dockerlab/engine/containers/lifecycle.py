"""All containers: how they come to be and how they go."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from dockerlab.engine import files
from dockerlab.engine.containers import launch, naming, settings, wiring
from dockerlab.engine.containers.container import Container
from dockerlab.engine.containers.execs import Execs
from dockerlab.engine.containers.networks import Networks, check_endpoint
from dockerlab.engine.containers.record import Record, load_all
from dockerlab.engine.containers.running import Runner
from dockerlab.engine.containers.volumes import Volumes
from dockerlab.engine.refusals import RefusalError, bad, conflict

Ids = list[str]
Points = list[dict[str, Any]]


class Containers(Runner):
    """All containers of the engine. Belongs to the event loop.

    Parameters
    ----------
    folder : Path
        One folder a container is made below it.
    images : Images
    isolator : Isolator
    networks : Networks
    volumes : Volumes
    events : Events
    """

    def __init__(  # noqa: PLR0917  the parts of the engine
        self, folder: Path, images: Any, isolator: Any, networks: Networks, volumes: Volumes, events: Any
    ) -> None:
        super().__init__(isolator, wiring.Wiring(networks, isolator, events), events)
        self._folder = folder
        self._images = images
        self.networks = networks
        self.volumes = volumes
        self.execs = Execs(isolator, events)
        volumes.in_use = self.using_volume

    async def open(self) -> None:
        """Read what an earlier engine left, and start what is always to run."""
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        for path, record in await asyncio.to_thread(lambda: list(load_all(self._folder))):
            if record is None or record.status == "removing" or record.name in self._names:
                await self._isolator.remove(path.name)
                await asyncio.to_thread(files.remove, path)
                continue
            container = Container(record, path)
            was_up = record.running or record.status == "restarting"
            if was_up:
                record.status, record.exit_code, record.finished_ns = "exited", 255, time.time_ns()
                record.health = record.health and {**record.health, "Status": "unhealthy"}
                container.save()
            self._containers[record.id] = container
            self._names[record.name] = record.id
            policy = record.host["RestartPolicy"]["Name"]
            if record.host.get("AutoRemove") and was_up:
                await self._remove(container, volumes=True)
            elif policy == "always" or (policy == "unless-stopped" and not record.stopped_by_hand):
                with contextlib.suppress(RefusalError):
                    await self.start(container)

    async def close(self, grace_s: float = 8.0) -> None:
        """Stop everything: the engine ends."""
        self._closing = True
        await asyncio.gather(
            *(self.stop(one, grace_s) for one in self.list() if one.may_print()), return_exceptions=True
        )
        for container in self.list():
            for task in (*container.tasks, container.health_task, container.restart_timer):
                if task:
                    task.cancel()
            container.log.finish()

    async def create(self, body: Mapping[str, Any], name: str = "", platform: str = "") -> tuple[Container, Ids]:
        """Make a container as POST /containers/create says; give it and the warnings.

        Raises
        ------
        RefusalError
            400, 404, 409, 500, 501: see :mod:`~dockerlab.engine.containers.settings`.
        """
        name = naming.check(name) if name else naming.make_up(self._names)
        asked = body.get("Image")
        if not asked or not isinstance(asked, str):
            raise bad("No command specified" if not asked else "the name of the image must be a text")
        image = await asyncio.to_thread(self._images.get, asked)
        _check_platform(platform, image, asked)
        wanted = settings.read(body, image.config.get("config") or {})
        networks = {}
        for key, row in wanted.networks.items():
            try:
                network = self.networks.get(key)
            except RefusalError:
                networks[key] = row  # as Docker: a network that is not there is an error of the start
            else:
                networks[network.name] = check_endpoint(network, row)
        identity = secrets.token_hex(32)
        record = Record(
            id=identity,
            name=name,
            image_id=image.id,
            config=wanted.config,
            host=wanted.host,
            mounts=[],
            networks=networks,
            diff_ids=list(image.diff_ids),
            argv=list(wanted.argv),
            created_ns=time.time_ns(),
        )
        record.config["Hostname"] = record.config["Hostname"] or wiring.hostname(record)
        container = Container(record, self._folder / identity)
        self._reserve(name, identity)
        try:
            await self._make(container, image, wanted)
        except BaseException:
            del self._names[name]
            await self._isolator.remove(identity)
            await asyncio.to_thread(files.remove, container.folder)
            raise
        self._containers[identity] = container
        self.tell(container, "create")
        return container, [*wanted.warnings, *self._unkept(record)]

    def _unkept(self, record: Record) -> Ids:
        """Say what was asked for and is not kept here."""
        asked = record.host.get("ReadonlyRootfs") or any(not point["RW"] for point in record.mounts)
        if asked and self._isolator.name == "proot":
            return ["PRoot cannot keep a container from writing. Read-only discarded."]
        return []

    async def _make(self, container: Container, image: Any, wanted: settings.Settings) -> None:
        record = container.record
        inherited = self._volumes_from(record)
        mounts = [*wanted.mounts]
        taken = {one.target for one in mounts}
        try:
            container.folder.mkdir(mode=0o700)
            points, made, targets = await asyncio.to_thread(launch.make_points, mounts, self.volumes)
            record.mounts = [*points, *(one for one in inherited if one["Destination"] not in taken)]
            await self._isolator.prepare(record.id, self._images.layers(image))
            if targets:
                async with self._isolator.root(record.id) as root:
                    await asyncio.to_thread(launch.copy_up, root, record.mounts, targets)
        except OSError as error:
            raise RefusalError(500, f"{(error.strerror or str(error)).lower()}") from error
        for volume in made:
            self._events.emit("volume", "create", volume, {"driver": "local"})
        container.save()

    def _volumes_from(self, record: Record) -> Points:
        found: Points = []
        for one in record.host.get("VolumesFrom") or ():
            name, _, mode = one.partition(":")
            try:
                other = self.get(name)
            except RefusalError as error:
                raise bad(error.message) from None
            found += [{**point, "RW": point["RW"] and mode != "ro"} for point in other.record.mounts]
        return found

    def rename(self, container: Container, name: str) -> None:
        """Give another name; 409 where it is taken."""
        if not name:
            raise bad("Neither old nor new names may be empty")
        try:
            new = naming.check(name, shown=f"/{name.removeprefix('/')}")
        except RefusalError as error:
            raise bad(f"Error when allocating new name: {error.message}") from None
        old = container.name
        if new == old:
            raise bad("Renaming a container with the same name as its current name")
        self._reserve(new, container.id, "Error when allocating new name: ")
        del self._names[old]
        container.record.name = new
        container.save()
        self.wiring.renamed(container)
        self.tell(container, "rename", oldName=f"/{old}")

    async def remove(self, container: Container, *, force: bool = False, volumes: bool = False) -> None:
        """Remove a container; 409 in Docker's words where it runs and not `force`."""
        status = container.record.status
        if status == "removing":
            raise conflict(f"removal of container {container.id} is already in progress")
        if not force and status in ("running", "restarting", "paused"):
            first = "Unpause and then stop" if status == "paused" else "Stop"
            raise conflict(
                f"You cannot remove a {status} container {container.id}. {first} the container before attempting "
                "removal or force remove"
            )
        await self._remove(container, volumes=volumes)

    async def _remove(self, container: Container, *, volumes: bool) -> None:
        record = container.record
        if record.status == "removing":
            return
        self._cancel_restart(container)
        record.status = "removing"
        async with container.busy:  # a start that is under way ends first
            if container.process is not None:
                record.status = "removing"
                self.tell(container, "kill", signal="9")
                if not await self._end(container):
                    record.status = "running"
                    raise RefusalError(500, f"Could not kill running container {record.id}, cannot remove")
            if container.console:
                container.console.close()
                container.console = None
            with contextlib.suppress(RefusalError):
                container.save()
            await self._isolator.remove(record.id)
            await asyncio.to_thread(files.remove, container.folder)
            self._containers.pop(record.id, None)
            self._names.pop(record.name, None)
            self.execs.forget(container)
            self.wiring.leave(container)
        if volumes:
            await self._remove_volumes(record)
        self.tell(container, "destroy")
        container.removed()

    async def _remove_volumes(self, record: Record) -> None:
        for point in record.mounts:
            with contextlib.suppress(RefusalError):
                if point["Type"] == "volume" and self.volumes.get(point["Name"]).anonymous:
                    await asyncio.to_thread(self.volumes.remove, point["Name"])
                    self._events.emit("volume", "destroy", point["Name"], {"driver": "local"})


def _check_platform(platform: str, image: Any, asked: str) -> None:
    if not platform:
        return
    system, _, architecture = platform.partition("/")
    own = (image.config.get("os") or "linux", image.config.get("architecture") or "")
    wanted = (system, architecture.partition("/")[0] or own[1])
    if wanted != own:
        raise RefusalError(
            404,
            f"image with reference {asked} was found but does not match the specified platform: wanted {platform}, "
            f"actual: {own[0]}/{own[1]}",
        )
