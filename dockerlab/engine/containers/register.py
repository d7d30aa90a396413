"""Which containers there are, by id and by name."""

from __future__ import annotations

from dockerlab.engine.containers.container import Container
from dockerlab.engine.refusals import bad, conflict, missing

Ids = list[str]


class Register:
    """All containers of the engine. Belongs to the event loop."""

    def __init__(self) -> None:
        self._containers: dict[str, Container] = {}
        self._names: dict[str, str] = {}

    def list(self) -> list[Container]:
        """Give all, in no order."""
        return list(self._containers.values())

    def counts(self) -> dict[str, int]:
        """Count those that are running, paused and stopped."""
        states = [one.record.status for one in self._containers.values()]
        running, paused = sum(one in ("running", "restarting") for one in states), states.count("paused")
        return {"running": running, "paused": paused, "stopped": len(states) - running - paused}

    def get(self, name: str) -> Container:
        """Find one by id, name, or the unique start of an id; 404 where there is none."""
        found = self._containers.get(name) or self._containers.get(self._names.get(name.removeprefix("/"), ""))
        if found:
            return found
        matches = [one for key, one in self._containers.items() if name and key.startswith(name)]
        if len(matches) > 1:
            raise bad(f"Multiple IDs found with provided prefix: {name}")
        if not matches:
            raise missing("container", name)
        return matches[0]

    def using_image(self, image_id: str, *, running: bool = False) -> Ids:
        """Give the ids of the containers made from an image; with `running` only of those that run."""
        found = (one.record for one in self._containers.values())
        return [one.id for one in found if one.image_id == image_id and (not running or one.running)]

    def using_volume(self, name: str) -> Ids:
        """Give the ids of the containers that have a volume."""
        return [
            key
            for key, one in self._containers.items()
            if any(point.get("Name") == name for point in one.record.mounts)
        ]

    def diff_ids(self) -> Ids:
        """Give every layer that a container's root stands on."""
        return [one for container in self._containers.values() for one in container.record.diff_ids]

    def _reserve(self, name: str, identity: str, prefix: str = "") -> None:
        """Take a name; 409 in Docker's words where another container has it."""
        if name in self._names:
            raise conflict(
                f'{prefix}Conflict. The container name "/{name}" is already in use by container '
                f'"{self._names[name]}". You have to remove (or rename) that container to be able to reuse that name.'
            )
        self._names[name] = identity
