"""`dockerlab doctor` and `dockerlab clean` against a real engine."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import TYPE_CHECKING

from docker.errors import NotFound

if TYPE_CHECKING:
    from dockerlab.connect import Engine
    from dockerlab.images.layers import Image
    from dockerlab.lab import Lab


def command(*arguments: str, answer: str = "") -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "dockerlab", *arguments],
        input=answer,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def is_there(engine: Engine, container: str) -> bool:
    try:
        engine.client.containers.get(container)
    except NotFound:
        return False
    return True


def test_doctor_finds_the_engine(engine: Engine, base_image: Image) -> None:
    table, data = command("doctor"), command("doctor", "--json")

    assert table.stderr == ""
    assert f"{engine.name} {engine.version}" in table.stdout
    answer = json.loads(data.stdout)
    assert answer["engine"]["id"] == engine.id
    assert table.returncode == data.returncode == (0 if answer["ok"] else 1)


def test_clean_asks_first_and_leaves_what_a_live_process_drives(engine: Engine, lab: Lab, base_image: Image) -> None:
    held = lab.start(base_image, ["sleep", "600"]).id
    bystander = engine.client.containers.create(base_image.id, ["sleep", "600"], labels={"dockerlab.test": "bystander"})
    try:
        refused = command("clean", "--lab", lab.name, "--yes")
        assert refused.returncode == 0, refused.stderr
        assert f"is kept: lab {lab.name}" in refused.stdout
        assert is_there(engine, held)

        listed = command("clean", "--lab", lab.name, "--force", "--dry-run")
        assert "would be removed" in listed.stdout
        assert "container " in listed.stdout
        assert is_there(engine, held)

        declined = command("clean", "--lab", lab.name, "--force", answer="n\n")
        assert "Nothing was removed." in declined.stdout
        assert is_there(engine, held)

        done = command("clean", "--lab", lab.name, "--force", answer="y\n")
        assert done.returncode == 0, done.stderr
        assert not is_there(engine, held)
        assert is_there(engine, bystander.id)

        again = command("clean", "--lab", lab.name, "--force", "--yes")
        assert "Traceback" not in again.stderr
        assert again.returncode == 0
    finally:
        bystander.remove(force=True)
