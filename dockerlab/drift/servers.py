"""Servers managed by hand: containers that run for long and are set up by scripts."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from pathlib import Path
from typing import TYPE_CHECKING, overload

import docker
import docker.errors

from dockerlab.commands import unlisted
from dockerlab.connect import engine_errors
from dockerlab.drift.compare import Drift
from dockerlab.drift.look import WORKERS, look, side_by_side
from dockerlab.drift.model import IGNORED
from dockerlab.drift.results import ScriptResult, ScriptResults
from dockerlab.errors import BadInputError, DockerlabError, EngineLostError
from dockerlab.images.base import BASE_TAG, ensure
from dockerlab.ownership import NAME_LABEL, own_containers

if TYPE_CHECKING:
    from docker.models.containers import Container

SERVERS_LABEL, SETTINGS_LABEL = "dockerlab.servers", "dockerlab.settings"
COUNT_LIMIT = 200
_COMMAND = ["sleep", "1000000"]


class Servers(Sequence["Container"]):
    """Containers of one image that are kept and changed by hand. Made by :meth:`dockerlab.Lab.servers`.

    One of them, such as ``shop[0]``, is a plain container of the ``docker`` package; several, such as ``shop[:3]``,
    are servers again.

    Parameters
    ----------
    client : docker.DockerClient
    name : str
        Of the group.
    containers : sequence of Container
    prefix : str
        What the containers' names begin with and nobody wants to read.
    begin : callable
        Told what is about to be done.

    Examples
    --------
    >>> shop = lab.servers("shop", "dockerlab/base:1", count=5)  # doctest: +SKIP
    >>> shop.run("echo hello >> /etc/motd")  # doctest: +SKIP
    >>> shop[:1].run(Path("setup.sh"), env={"MIRROR": "http://172.17.0.2"})  # doctest: +SKIP
    >>> shop.drift()  # doctest: +SKIP
    5 servers, 2 different states
    """

    def __init__(
        self,
        client: docker.DockerClient,
        name: str,
        containers: Sequence[Container],
        *,
        prefix: str = "",
        begin: Callable[[str], None] = lambda _title: None,
    ) -> None:
        self.name = name
        self._client = client
        self._containers = tuple(containers)
        self._prefix = prefix
        self._begin = begin

    @overload
    def __getitem__(self, index: int) -> Container: ...
    @overload
    def __getitem__(self, index: slice) -> Servers: ...
    def __getitem__(self, index: int | slice) -> Container | Servers:
        if isinstance(index, slice):
            chosen = self._containers[index]
            return Servers(self._client, self.name, chosen, prefix=self._prefix, begin=self._begin)
        return self._containers[index]

    def __len__(self) -> int:
        return len(self._containers)

    @property
    def names(self) -> tuple[str, ...]:
        """Their names without that of the lab, such as ``shop-01``."""
        return tuple(str(container.name).removeprefix(self._prefix) for container in self._containers)

    def run(
        self, script: str | Path, *, env: Mapping[str, str] | None = None, timeout_s: float = 120.0
    ) -> ScriptResults:
        """Run a shell script on each server (``docker exec``), on several at the same time.

        Where it fails on one server, the others go on.

        Parameters
        ----------
        script : str or Path
            The text of the script, or the file that holds it.
        env : mapping, optional
            Environment variables for it.
        timeout_s : float
            Seconds after which nobody waits any more. The script itself is not ended.

        Returns
        -------
        ScriptResults
            Output and exit code of each. A script that fails is a result, not an error.

        Raises
        ------
        BadInputError
            Where the file cannot be read.
        """
        text, title = script, "a script"
        if isinstance(script, Path):
            try:
                text, title = script.read_text(encoding="utf-8"), script.name
            except (OSError, UnicodeDecodeError) as error:
                raise BadInputError(f"The script {script} cannot be read: {error}.", "Look at its name.") from error
        self._begin(f"run {title} on {self.name}")
        begun_s = time.monotonic()
        pool = ThreadPoolExecutor(WORKERS, thread_name_prefix="dockerlab-servers")
        try:
            jobs = [
                pool.submit(_run, self._client.api, str(container.id), name, str(text), dict(env or {}))
                for name, container in zip(self.names, self._containers, strict=True)
            ]
            wait(jobs, timeout=timeout_s)
        finally:
            # A script that hangs must hold neither this cell nor its Stop button.
            pool.shutdown(wait=False, cancel_futures=True)
        seconds = time.monotonic() - begun_s
        late = f"still running after {timeout_s:g} s"
        rows = [
            job.result() if job.done() and not job.cancelled() else ScriptResult(name, None, late, seconds)
            for name, job in zip(self.names, jobs, strict=True)
        ]
        return ScriptResults(tuple(rows), seconds)

    def drift(self, *, ignore: Sequence[str] = IGNORED) -> Drift:
        """Read what is on each server and compare it with the first one and with the image.

        Parameters
        ----------
        ignore : sequence of str
            Patterns that are left out, see :data:`dockerlab.drift.IGNORED`.

        Returns
        -------
        Drift
        """
        ids = [str(container.id) for container in self._containers]
        return look(self._client, ids, names=dict(zip(ids, self.names, strict=True)), ignore=ignore)

    def remove(self) -> None:
        """Remove these servers and all that is on them."""
        self._begin(f"remove {self.name}")
        side_by_side(lambda container: _remove(self._client.api, str(container.id)), self._containers)

    def __repr__(self) -> str:
        shown = self.names if len(self) <= 3 else (self.names[0], "...", self.names[-1])
        return f"{len(self)} servers: {', '.join(shown)}" if len(self) != 1 else f"1 server: {shown[0]}"


def have_servers(
    client: docker.DockerClient,
    name: str,
    image: str,
    *,
    lab: str,
    labels: Mapping[str, str],
    owned: Mapping[str, str],
    count: int,
    tmpfs: Mapping[str, str] | None,
    begin: Callable[[str], None],
) -> Servers:
    """Bring a group of servers to what is asked; see :meth:`dockerlab.Lab.servers`."""
    if not isinstance(count, int) or not 1 <= count <= COUNT_LIMIT:
        raise BadInputError(f"{count!r} servers cannot be had.", f"Choose from 1 to {COUNT_LIMIT}.")
    api, memory = client.api, dict(tmpfs or {})
    if image == BASE_TAG:
        ensure(client)  # nothing may have been built on it yet
    with engine_errors(), unlisted():
        image_id = str(api.inspect_image(image)["Id"])  # type: ignore[no-untyped-call]
        rows = own_containers(api, {**owned, SERVERS_LABEL: name})
    settings = ",".join(f"{path}:{options}" for path, options in sorted(memory.items()))
    wanted = [f"{lab}-{name}-{number:02d}" for number in range(1, count + 1)]
    kept: dict[str, str] = {}
    stale = []
    for row in rows:
        fits = row["ImageID"] == image_id and row["Labels"].get(SETTINGS_LABEL) == settings
        if fits and (at := row["Names"][0].lstrip("/")) in wanted:
            kept[at] = row["Id"]
        else:
            stale.append(row["Id"])
    side_by_side(lambda identity: _remove(api, identity), stale)

    def start(at: str) -> str:
        with engine_errors():
            identity = kept.get(at) or str(
                api.create_container(
                    image_id,
                    _COMMAND,
                    name=at,
                    labels={**labels, NAME_LABEL: at, SERVERS_LABEL: name, SETTINGS_LABEL: settings},
                    host_config=api.create_host_config(init=True, tmpfs=memory or None),
                )["Id"]
            )
            try:
                api.start(identity)  # one that runs already is left as it is
            except BaseException:
                if at not in kept:
                    _remove(api, identity)
                raise
        return identity

    running = {row["Id"] for row in rows if row["State"] == "running"}
    missing = [at for at in wanted if kept.get(at) not in running]
    kept.update(zip(missing, side_by_side(start, missing), strict=True))
    with engine_errors():
        containers = side_by_side(client.containers.get, [kept[at] for at in wanted])
    return Servers(client, name, containers, prefix=f"{lab}-", begin=begin)


def _run(api: docker.APIClient, identity: str, name: str, text: str, env: dict[str, str]) -> ScriptResult:
    begun_s = time.monotonic()
    try:
        with engine_errors():
            exec_id = api.exec_create(identity, ["sh", "-c", text], environment=env)["Id"]
            output: bytes = api.exec_start(exec_id)
            code: int | None = api.exec_inspect(exec_id)["ExitCode"]
    except EngineLostError:
        raise
    except DockerlabError as error:
        # It was removed or stopped: that is this server's result, and the others have theirs.
        return ScriptResult(name, 126, error.message, time.monotonic() - begun_s)
    return ScriptResult(name, code, output.decode(errors="replace"), time.monotonic() - begun_s)


def _remove(api: docker.APIClient, identity: str) -> None:
    with engine_errors(), contextlib.suppress(docker.errors.NotFound):
        api.remove_container(identity, force=True, v=True)
