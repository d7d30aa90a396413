"""The command ``dockerlab``.

What a command needs is imported when that command runs, so that ``dockerlab --help`` answers at once.
"""

# ruff: noqa: PLC0415  imports inside the commands are the point, see above

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import click

from dockerlab.errors import BadInputError, DockerlabError, NotebookError

if TYPE_CHECKING:
    from rich.console import Console

ENGINES = ("docker", "podman", "embedded")
ISOLATORS = ("bubblewrap", "proot")
INTERRUPTED = 130
_STATUS_STYLES = {"ok": "green", "note": "cyan", "warning": "yellow", "missing": "bold red"}


class _Commands(click.Group):
    """Shows an error of ours as its sentence, never as a traceback."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except DockerlabError as error:
            _say_error(error)
            ctx.exit(1)
        except KeyboardInterrupt:
            click.echo("Interrupted.", err=True)
            ctx.exit(INTERRUPTED)


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"]})
def main() -> None:
    """Learn immutable infrastructure by building, running, scaling and replacing real containers."""


@main.command()
def version() -> None:
    """Show the version."""
    from dockerlab.course.files import own_version

    click.echo(f"dockerlab {own_version()}")


@main.command()
@click.option("--json", "as_json", is_flag=True, help="Print JSON for programs.")
def doctor(as_json: bool) -> None:
    """Look at what the course needs on this machine, and say what to do about what is missing.

    The exit code is 0 when nothing is missing, else 1.
    """
    from dockerlab.doctor import diagnose

    diagnosis = diagnose()
    if as_json:
        click.echo(json.dumps(diagnosis.as_dict(), indent=2))
    else:
        from rich.table import Table
        from rich.text import Text

        table = Table(box=None, pad_edge=False, show_header=False)
        table.add_column(no_wrap=True)
        table.add_column(no_wrap=True)
        table.add_column(overflow="fold")
        for name, status, text in diagnosis.rows:
            table.add_row(Text(name), Text(status, _STATUS_STYLES.get(status, "dim")), Text(text))
        console = _console()
        console.print(table)
        last = "Nothing is missing." if diagnosis.ok else "Something is missing; the lines marked so say what to do."
        console.print(Text(last, "green" if diagnosis.ok else "bold red"))
    sys.exit(0 if diagnosis.ok else 1)


@main.command()
@click.argument("notebooks", nargs=-1, metavar="[NOTEBOOK...]", type=click.Path(path_type=Path))
@click.option("--only", default="", metavar="PATTERN", help="Only notebooks with this in their name, or fitting it.")
@click.option(
    "--out",
    default=Path("dockerlab-report"),
    type=click.Path(path_type=Path, file_okay=False),
    show_default=True,
    help="Folder for pages and report.",
)
@click.option("--engine", type=click.Choice(ENGINES), help="Take only an engine of this kind.")
@click.option(
    "-p", "--parameter", "parameters", type=(str, str), multiple=True, metavar="NAME VALUE", help="Set a parameter."
)
@click.option(
    "--cell-timeout",
    "cell_timeout_s",
    type=click.IntRange(min=1),
    default=600,
    show_default=True,
    metavar="SECONDS",
    help="How long one cell may take.",
)
@click.option(
    "--kernel-timeout",
    "kernel_timeout_s",
    type=click.IntRange(min=1),
    default=60,
    show_default=True,
    metavar="SECONDS",
    help="How long a kernel may take to start.",
)
@click.option("--kernel", default="", metavar="NAME", help="A Jupyter kernel instead of the one the notebooks name.")
def run(
    *,
    notebooks: tuple[Path, ...],
    only: str,
    out: Path,
    engine: str | None,
    parameters: tuple[tuple[str, str], ...],
    cell_timeout_s: int,
    kernel_timeout_s: int,
    kernel: str,
) -> None:
    """Run notebooks without a browser, all of the course where none is named, and write a report.

    The exit code is 0 when all passed, 1 when one failed, 2 when the command was not understood, 130 when interrupted.
    """
    from dockerlab.connect import connect
    from dockerlab.course import run as course
    from dockerlab.course.display import RunDisplay
    from dockerlab.course.files import DEFAULT_FOLDER, in_clone, shipped

    if not notebooks:
        own = Path(DEFAULT_FOLDER)
        notebooks = (own if in_clone() is None and own.is_dir() else shipped(),)
    try:
        chosen = course.select(notebooks, only)
        values = {name: _value(text) for name, text in parameters}
        course.check_parameters(chosen, values)
    except (BadInputError, NotebookError) as error:
        _say_error(error)
        sys.exit(2)
    # A CI service that cancels a job sends this: then, too, kernels are shut down and the report is written.
    signal.signal(signal.SIGTERM, _interrupt)
    with RunDisplay(_console(), len(chosen)) as display:
        report = course.run(
            chosen,
            out=out,
            display=display,
            engine=connect(engine),
            parameters=values,
            cell_timeout_s=cell_timeout_s,
            kernel_timeout_s=kernel_timeout_s,
            kernel=kernel,
        )
    sys.exit(report.exit_code)


@main.command(context_settings={"ignore_unknown_options": True})
@click.option(
    "--dir",
    "folder",
    type=click.Path(path_type=Path, file_okay=False),
    help="Where your copy of the notebooks is, ./dockerlab-notebooks by default.",
)
@click.argument("extra", nargs=-1, type=click.UNPROCESSED, metavar="[JUPYTERLAB OPTION...]")
def lab(folder: Path | None, extra: tuple[str, ...]) -> None:
    """Open JupyterLab at the first notebook.

    In a clone of the project the notebooks are opened where they are. Otherwise they are first copied to a folder of
    yours; what you changed there is never overwritten. Options that are not known here go to JupyterLab.
    """
    from dockerlab.course.files import DEFAULT_FOLDER, FIRST, copy_course, in_clone, shipped

    for option in extra:
        if option.lstrip("-").split("=")[0] in {"ip", "ServerApp.ip", "NotebookApp.ip"}:
            raise click.UsageError(
                "JupyterLab is opened for this machine only; to share it, run `jupyter lab` yourself."
            )
    clone = in_clone()
    if clone is None or folder is not None:
        folder = (folder or Path(DEFAULT_FOLDER)).resolve()
        copied = copy_course(shipped(), folder)
        if copied.added or copied.updated:
            click.echo(f"{folder}: {len(copied.added)} files are new, {len(copied.updated)} were brought up to date.")
        for mine, beside in copied.kept:
            click.echo(f"You changed {mine}; it was left as it is. The new version is beside it: {beside}")
    else:
        folder = clone
    options = [f"--ServerApp.root_dir={folder}", f"--LabApp.default_url=/lab/tree/{FIRST}"]
    if hasattr(os, "geteuid") and os.geteuid() == 0:
        options.append("--allow-root")  # it listens on loopback only, and asks for a token
    command = [sys.executable, "-m", "jupyterlab", *options, *extra, "--ServerApp.ip=127.0.0.1"]
    if os.name == "posix":
        sys.stdout.flush()
        os.execv(command[0], command)  # noqa: S606  JupyterLab takes this process's place, signals go to it
    sys.exit(subprocess.call(command))


@main.command()
@click.option("--lab", "labs", multiple=True, metavar="NAME", help="Only this lab; may be given several times.")
@click.option("--all", "everything", is_flag=True, help="All labs; the same as no --lab.")
@click.option("--images", is_flag=True, help="Also the images that dockerlab built.")
@click.option("--engine", type=click.Choice(ENGINES), help="Take only an engine of this kind.")
@click.option("--force", is_flag=True, help="Also labs that a live process holds.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.option("--dry-run", is_flag=True, help="Only list what would be removed.")
def clean(
    *, labs: tuple[str, ...], everything: bool, images: bool, engine: str | None, force: bool, yes: bool, dry_run: bool
) -> None:
    """Remove what labs left behind: containers, networks, volumes and state. Nothing else is touched."""
    if labs and everything:
        raise click.UsageError("Give either --lab or --all.")
    from dockerlab.connect import connect
    from dockerlab.lab.clean import clean as remove

    found = connect(engine)
    names = labs or None
    planned = remove(found, names=names, images=images, force=force, dry_run=True)
    for thing in planned.kept:
        click.echo(f"is kept: {thing}")
    if not planned.removed:
        click.echo("There is nothing to remove.")
        return
    for thing in planned.removed:
        click.echo(thing)
    if dry_run:
        click.echo(f"{len(planned.removed)} would be removed.")
        return
    if not yes and not click.confirm(f"Remove these {len(planned.removed)}?"):
        click.echo("Nothing was removed.")
        return
    done = remove(found, names=names, images=images, force=force)
    click.echo(f"{len(done.removed)} removed.")


@main.group()
def engine() -> None:
    """Start, stop and look at the embedded engine, which needs neither Docker nor root (Linux only).

    It starts by itself where the course finds no other engine.
    """
    if sys.platform != "linux":
        raise click.UsageError("the embedded engine runs on Linux only; install Docker or Podman on this machine.")


@engine.command()
@click.option("--isolation", type=click.Choice(ISOLATORS), help="What puts up the walls; the best that works here.")
@click.option(
    "--idle-exit",
    "idle_exit_s",
    type=click.FloatRange(min=0),
    default=0.0,
    metavar="SECONDS",
    help="Let it end by itself after so long with nothing to do.",
)
def start(*, isolation: str | None, idle_exit_s: float) -> None:
    """Start it, unless it runs already."""
    from dockerlab.engine import daemon
    from dockerlab.engine.places import find_places

    places = find_places()
    chosen = isolation or os.environ.get("DOCKERLAB_ISOLATION", "").strip().lower()
    started = daemon.start(places, isolation=chosen, idle_exit_s=idle_exit_s)
    click.echo(f"The embedded engine {'was started' if started else 'runs already'}: {places.address}")


@engine.command()
def stop() -> None:
    """Stop it: its containers end, images and volumes stay."""
    from dockerlab.engine import daemon
    from dockerlab.engine.places import find_places

    click.echo("The embedded engine was stopped." if daemon.stop(find_places()) else "The embedded engine did not run.")


@engine.command()
@click.option("--json", "as_json", is_flag=True, help="Print JSON for programs.")
def status(as_json: bool) -> None:
    """Tell whether it runs, where, and what it takes.

    The exit code is 0 when it answers, else 1.
    """
    from dockerlab.engine import daemon
    from dockerlab.engine.places import find_places

    found = daemon.status(find_places())
    if as_json:
        click.echo(json.dumps(found.as_dict(), indent=2))
    else:
        for label, text in found.rows:
            click.echo(f"{label + ':':<20}{text}")
    sys.exit(0 if found.running else 1)


@engine.command()
def env() -> None:
    """Print what makes `docker` in a shell talk to it: eval "$(dockerlab engine env)"."""
    import shlex

    from dockerlab.engine.places import find_places

    click.echo(f"export DOCKER_HOST={shlex.quote(find_places().address)}")


def _console() -> Console:
    from rich.console import Console

    return Console()


def _say_error(error: DockerlabError) -> None:
    click.secho(str(error), fg="red", err=True)


def _interrupt(*_: object) -> NoReturn:
    raise KeyboardInterrupt


def _value(text: str) -> Any:
    """Read a parameter's value: a number, true, false or null, a list or an object as in JSON; else it is text."""
    named = {"True": True, "False": False, "None": None}
    if text in named:
        return named[text]
    try:
        return json.loads(text)
    except ValueError:
        return text
