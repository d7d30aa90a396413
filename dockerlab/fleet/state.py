"""The state file of a lab: what labels cannot hold.

The engine is changed first and the file second, so a half-done step is always recognised from what is there. The file
is replaced as a whole, never written in place.
"""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from dockerlab.errors import StateError
from dockerlab.fleet.model import Event, Revision
from dockerlab.fleet.progress import Progress
from dockerlab.fleet.strategies import Strategy, strategy_from_json, strategy_to_json
from dockerlab.router import RouterRecord

FORMAT = 2
HISTORY_LIMIT = 10
"""Old revisions that are kept to go back to: Kubernetes' revisionHistoryLimit."""
TIMELINE_LIMIT = 500


@dataclass
class FleetRecord:
    """What is kept of one fleet.

    Parameters
    ----------
    name : str
    replicas : int
        How many are wanted.
    revision : int
        The last revision that was deployed whole.
    target : int
        The revision that is wanted; differs from `revision` while a rollout is under way or was stopped.
    revisions : dict of int to Revision
    history : list of int
        Numbers of the revisions in the order they were deployed, the present one last.
    router : RouterRecord or None
    stop_grace_s : float
        Seconds that a container gets to stop.
    init : bool
        Containers run under the engine's init.
    timeline : list of Event
        The last events.
    strategy : Strategy or None
        How the rollout that is under way, or was stopped, is done.
    progress : Progress
        How far it has come.
    history_limit : int
        So many revisions before the present one are kept to go back to.
    """

    name: str
    replicas: int
    revision: int
    target: int
    revisions: dict[int, Revision]
    history: list[int]
    router: RouterRecord | None = None
    stop_grace_s: float = 10.0
    init: bool = False
    timeline: list[Event] = field(default_factory=list)
    strategy: Strategy | None = None
    progress: Progress = field(default_factory=Progress)
    history_limit: int = HISTORY_LIMIT

    @property
    def half_way(self) -> bool:
        """Whether a rollout is under way or was stopped."""
        return self.target != self.revision

    def number_of(self, wanted: Revision) -> int:
        """Give the number of an equal revision, or the next one."""
        equal = (number for number, revision in self.revisions.items() if revision.same_as(wanted))
        return next(equal, max(self.revisions) + 1)

    def deployed(self, number: int) -> None:
        """Put a revision that was deployed at the end of the history, and let the oldest ones go."""
        history = [*self.history, number]
        kept = list(dict.fromkeys(reversed(history)))[: self.history_limit + 1]
        self.history = [one for one in history if one in kept]


@dataclass
class LabState:
    """What is kept of one lab.

    Parameters
    ----------
    engine_id : str
        The engine that holds its containers.
    fleets : dict of str to FleetRecord
    built : dict of str to str
        The id of each image that the lab built, by the name that it gave it.
    """

    engine_id: str
    fleets: dict[str, FleetRecord] = field(default_factory=dict)
    built: dict[str, str] = field(default_factory=dict)

    def save(self, path: Path) -> None:
        """Replace the file at `path` in one move."""
        content = {
            "format": FORMAT,
            "engine_id": self.engine_id,
            "fleets": [_to_json(fleet) for fleet in self.fleets.values()],
            "built": self.built,
        }
        try:
            handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        except OSError as error:
            raise StateError(path, error.strerror or str(error)) from error
        try:
            with os.fdopen(handle, "w", encoding="utf-8") as file:
                json.dump(content, file, indent=1)
                file.flush()
                os.fsync(file.fileno())
            Path(name).replace(path)
        except OSError as error:
            Path(name).unlink(missing_ok=True)
            raise StateError(path, error.strerror or str(error)) from error
        except BaseException:
            Path(name).unlink(missing_ok=True)
            raise

    @classmethod
    def load(cls, path: Path) -> LabState | None:
        """Read the file at `path`; None where there is none.

        Raises
        ------
        StateError
            Where it is not a state file of this version.
        """
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
            if content["format"] != FORMAT:
                raise StateError(path, f"its format is {content['format']}, this version reads {FORMAT}")
            fleets = [_from_json(fleet) for fleet in content["fleets"]]
            return cls(content["engine_id"], {fleet.name: fleet for fleet in fleets}, content["built"])
        except FileNotFoundError:
            return None
        except (OSError, ValueError, KeyError, TypeError) as error:
            if isinstance(error, StateError):
                raise
            raise StateError(path, f"it does not parse ({error})") from error


def _to_json(fleet: FleetRecord) -> dict[str, Any]:
    return {
        **asdict(fleet),
        "revisions": [asdict(revision) for revision in fleet.revisions.values()],
        "timeline": [asdict(event) for event in fleet.timeline[-TIMELINE_LIMIT:]],
        "strategy": strategy_to_json(fleet.strategy) if fleet.strategy else None,
        "progress": {**asdict(fleet.progress), "pools": list(fleet.progress.pools.items())},
    }


def _from_json(content: Mapping[str, Any]) -> FleetRecord:
    revisions = [Revision(**{**r, "env": tuple((k, v) for k, v in r["env"])}) for r in content["revisions"]]
    return FleetRecord(
        **{
            **content,
            "revisions": {revision.number: revision for revision in revisions},
            "router": RouterRecord(**content["router"]) if content["router"] else None,
            "timeline": [Event(**event) for event in content["timeline"]],
            "strategy": strategy_from_json(content["strategy"]) if content["strategy"] else None,
            "progress": Progress(**{**content["progress"], "pools": dict(content["progress"]["pools"])}),
        }
    )
