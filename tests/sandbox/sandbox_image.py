"""Make an image as Binder would make it from ``binder/``, on a Debian root file system.

What differs from the real thing: Binder has Ubuntu 24.04 and takes Python 3.12 from conda-forge. Here it is this
machine's Debian (or Ubuntu) and the Python of that, in a virtual environment at the place where repo2docker has its
own. The packages of apt.txt, the pip section of environment.yml, postBuild and start are really used, the last two as
uid 1000.

Three images, one on the other: root (apt.txt), environment (the pip section), course (the repository, postBuild). Each
has a tag that is made of everything that goes into it, so what is there already is not made again. All carry LABEL.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import platform
import shutil
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import docker
import yaml
from docker.errors import APIError, BuildError, ImageNotFound
from packaging.requirements import Requirement

ROOT = Path(__file__).resolve().parents[2]
LABEL = "dockerlab.sandbox"
PIECES = ("course", "environment", "root")  # what is built on something else comes before it
TAKEN = ("binder", "dockerlab", "notebooks", "requirements", "pyproject.toml", "README.md", "LICENSE")
"""What of the repository goes into the image. Tests and docs stay out: a change there makes no new image."""
PASSED_OVER = {"__pycache__", ".ipynb_checkpoints"}
PYTHON_PACKAGES = ("ca-certificates", "python3", "python3-venv")
# As in repo2docker's images.
ENVIRON = """\
ENV NB_USER=jovyan NB_UID=1000 USER=jovyan HOME=/home/jovyan REPO_DIR=/home/jovyan SHELL=/bin/bash LANG=C.UTF-8
ENV NB_PYTHON_PREFIX=/srv/conda/envs/notebook
ENV PATH=/srv/conda/envs/notebook/bin:/home/jovyan/.local/bin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
"""
ENVIRONMENT = f"""\
FROM {{base}}
LABEL {LABEL}=environment
{ENVIRON}
RUN useradd --uid 1000 --create-home --shell /bin/bash jovyan && mkdir -p /srv/conda/envs && chown -R jovyan /srv
COPY wheels /wheels
COPY pip.txt /wheels/pip.txt
USER 1000
RUN python3 -m venv /srv/conda/envs/notebook \\
 && python -m pip install --quiet --no-cache-dir --no-index --find-links /wheels --requirement /wheels/pip.txt \\
 && python -m pip check
"""
# postBuild's pip may ask for what builds a package (pyproject.toml, build-system): on Binder from the network, here
# from the same wheels.
COURSE = f"""\
FROM {{base}}
LABEL {LABEL}=course
WORKDIR /home/jovyan
COPY --chown=1000:1000 . .
ENV PIP_NO_INDEX=1 PIP_FIND_LINKS=/wheels
RUN ./binder/postBuild
"""
FACTS = "import json, platform, sys; print(json.dumps([platform.libc_ver()[1], platform.python_version()]))"


class NotHereError(Exception):
    """The image cannot be made on this machine; the message says why."""


def ensure(client: docker.DockerClient) -> str:
    """Give the tag of the course's image, after making what is missing of it."""
    apt = [*PYTHON_PACKAGES, *apt_packages()]
    codename, sources = debian()
    root = f"dockerlab-sandbox/root:{digest(codename, *sources, *apt)}"
    _unless_there(client, root, lambda: _make_root(client, root, codename, sources, apt))
    wanted = pip_lines()
    builders = build_requirements()
    environment = f"dockerlab-sandbox/environment:{digest(root, ENVIRONMENT, *wanted, *builders)}"
    _unless_there(client, environment, lambda: _make_environment(client, environment, root, wanted, builders))
    files = sorted(_files())
    course = f"dockerlab-sandbox/course:{digest(environment, COURSE, *_contents(files))}"
    _unless_there(client, course, lambda: _build(client, course, COURSE.format(base=environment), files))
    _remove_others(client, {root, environment, course})
    return course


def digest(*parts: str) -> str:
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:16]


def apt_packages() -> list[str]:
    """Read apt.txt as repo2docker does."""
    lines = (ROOT / "binder" / "apt.txt").read_text("utf-8").splitlines()
    return [name for line in lines if (name := line.partition("#")[0].strip())]


def pip_lines() -> list[str]:
    """Give the pip section of environment.yml."""
    read = yaml.safe_load((ROOT / "binder" / "environment.yml").read_text("utf-8"))
    (section,) = (entry["pip"] for entry in read["dependencies"] if isinstance(entry, dict))
    return list(section)


def build_requirements() -> list[str]:
    """Give what pip asks for when it installs the project itself as editable."""
    if sys.version_info >= (3, 11):
        import tomllib

        return [*tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["build-system"]["requires"], "editables"]
    return ["hatchling", "editables"]


def debian() -> tuple[str, list[str]]:
    """Give the name of this machine's Debian or Ubuntu, and the lines of its own package sources."""
    if not shutil.which("mmdebstrap"):
        raise NotHereError("mmdebstrap is not installed (`apt-get install mmdebstrap`)")
    release = platform.freedesktop_os_release()
    codename = release.get("VERSION_CODENAME", "")
    if release.get("ID") not in ("debian", "ubuntu") or not codename:
        raise NotHereError("this machine is neither Debian nor Ubuntu, so there is no root file system to be had")
    fields = "$(ORIGIN)|deb $(REPO_URI) $(RELEASE) $(COMPONENT)"
    asked = _run(["apt-get", "indextargets", "--format", fields, "Created-By: Packages"])
    ours = {line.partition("|")[2] for line in asked.splitlines() if line.startswith(("Debian|", "Ubuntu|"))}
    return codename, sorted(line for line in ours if f" {codename}" in line)


def _make_root(
    client: docker.DockerClient, tag: str, codename: str, sources: Sequence[str], apt: Sequence[str]
) -> None:
    with tempfile.TemporaryDirectory(prefix="dockerlab-") as folder:
        target = Path(folder) / "root.tar"
        # Without sources (no lists of packages here) mmdebstrap takes Debian's own mirror.
        _run(["mmdebstrap", "--variant=apt", f"--include={','.join(apt)}", codename, str(target), *sources])
        name, _, version = tag.partition(":")
        client.api.import_image_from_file(str(target), repository=name, tag=version, changes=[f"LABEL {LABEL}=root"])


def _make_environment(
    client: docker.DockerClient, tag: str, root: str, wanted: Sequence[str], builders: Sequence[str]
) -> None:
    command = ["python3", "-c", FACTS]
    asked = client.containers.run(root, command, remove=True, network_mode="none", labels={LABEL: "probe"})
    glibc, python = json.loads(asked)
    with tempfile.TemporaryDirectory(prefix="dockerlab-") as folder:
        wheels = Path(folder) / "wheels"
        download(wheels, wanted, builders, python=python, glibc=glibc)
        files = [(file, f"wheels/{file.name}") for file in sorted(wheels.iterdir())]
        listed = Path(folder) / "pip.txt"
        listed.write_text("".join(f"{line}\n" for line in wanted), "utf-8")
        _build(client, tag, ENVIRONMENT.format(base=root), [*files, (listed, "pip.txt")])


def download(folder: Path, wanted: Sequence[str], builders: Sequence[str], *, python: str, glibc: str) -> None:
    """Fetch wheels for another Python than this one, with this machine's own configuration of pip."""
    machine, minor = platform.machine(), int(glibc.split(".")[1])
    tags = [f"manylinux_2_{number}_{machine}" for number in range(minor, 4, -1)]
    tags += [f"manylinux2014_{machine}", f"manylinux2010_{machine}", f"manylinux1_{machine}", f"linux_{machine}"]
    pip = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--dest", str(folder)]
    pip += ["--only-binary=:all:", "--implementation=cp", f"--python-version={python}"]
    pip += [f"--platform={tag}" for tag in tags]
    # pip would judge markers by the Python that runs it.
    place = {"python_version": ".".join(python.split(".")[:2]), "python_full_version": python}
    pinned = [Requirement(line) for line in wanted]
    names = [f"{entry.name}{entry.specifier}" for entry in pinned if not entry.marker or entry.marker.evaluate(place)]
    _run([*pip, "--no-deps", *names])
    _run([*pip, *builders])


def _files() -> Iterator[tuple[Path, str]]:
    for name in TAKEN:
        start = ROOT / name
        for path in (start, *start.rglob("*")):
            inside = path.relative_to(ROOT)
            if path.is_file() and not PASSED_OVER & set(inside.parts):
                yield path, inside.as_posix()


def _contents(files: Sequence[tuple[Path, str]]) -> Iterator[str]:
    for path, name in files:
        yield f"{name} {path.stat().st_mode & 0o111} {hashlib.sha256(path.read_bytes()).hexdigest()}"


def _build(client: docker.DockerClient, tag: str, dockerfile: str, files: Sequence[tuple[Path, str]]) -> None:
    with tempfile.TemporaryFile() as context:
        with tarfile.open(fileobj=context, mode="w") as archive:
            recipe = tarfile.TarInfo(".dockerfile")
            recipe.size = len(dockerfile.encode())
            archive.addfile(recipe, io.BytesIO(dockerfile.encode()))
            for path, name in files:
                archive.add(path, name)
        context.seek(0)
        try:
            client.images.build(
                fileobj=context,
                custom_context=True,
                dockerfile=".dockerfile",
                tag=tag,
                labels={LABEL: tag.partition("/")[2].partition(":")[0]},
                network_mode="none",  # what is not in the wheels cannot slip in
                rm=True,
                forcerm=True,
            )
        except BuildError as error:
            said = "".join(str(line.get("stream", "")) for line in error.build_log)
            raise AssertionError(f"{tag} was not built: {error}\n{said[-6000:]}") from error


def _unless_there(client: docker.DockerClient, tag: str, make: Callable[[], None]) -> None:
    try:
        client.images.get(tag)
    except ImageNotFound:
        make()


def _remove_others(client: docker.DockerClient, kept: set[str]) -> None:
    """Remove the images of earlier states, unless something still uses them."""
    found: list[Any] = client.images.list(filters={"label": LABEL})
    tags = [tag for image in found for tag in image.tags if tag.startswith("dockerlab-sandbox/") and tag not in kept]
    for tag in sorted(tags, key=lambda tag: PIECES.index(tag.partition("/")[2].partition(":")[0])):
        with contextlib.suppress(APIError):
            client.images.remove(tag)


def _run(command: Sequence[str]) -> str:
    done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=900)
    if done.returncode:
        raise NotHereError(f"{command[0]} failed: {done.stderr.strip()[-2000:]}")
    return done.stdout
