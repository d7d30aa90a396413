"""Write binder/environment.yml from requirements/run.lock. `make lock` calls it, and a test holds that both agree."""

from __future__ import annotations

from pathlib import Path

HERE = Path(__file__).resolve().parent
LOCK = HERE.parent / "requirements" / "run.lock"
ENVIRONMENT = HERE / "environment.yml"
HEAD = """\
# Written by `make lock` from requirements/run.lock, which says more; do not change it by hand.
name: dockerlab
channels:
  - conda-forge
dependencies:
  - python=3.12
  - pip
  - pip:
"""


def render(lock: str) -> str:
    """Give the text of environment.yml for the text of a lock.

    Its lines are taken over as they are, with the markers: pip leaves out what this Python does not need.
    """
    lines = (line.rstrip() for line in lock.splitlines())
    return HEAD + "".join(f"      - {line}\n" for line in lines if line and not line.lstrip().startswith("#"))


if __name__ == "__main__":
    ENVIRONMENT.write_text(render(LOCK.read_text("utf-8")), "utf-8")
