"""Each exercise's check: fails before, fails for a near miss, passes after the solution; on the engine's real state."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterator
from pathlib import Path
from string import Formatter
from typing import TYPE_CHECKING, Any

import pytest

import dockerlab as dl
from dockerlab.course.checks import CHECKS
from dockerlab.course.exercises import Check, Exercise, exercise
from dockerlab.course.words import words
from dockerlab.errors import BadInputError
from dockerlab.images import Image
from dockerlab.lab import Lab

if TYPE_CHECKING:
    from docker.models.containers import Container

WEB = Path(__file__).parents[2] / "notebooks" / "apps" / "web"


def wrong(check: Check) -> list[str]:
    """Name the findings that are not right; their sentences must have no blanks left."""
    assert not re.search(r"\{\w*\}|\{\{", str(check)), check
    assert check.passed == (not any(not finding.ok for finding in check.findings))
    return [finding.key for finding in check.findings if not finding.ok]


# The texts


@pytest.mark.parametrize("name", sorted(CHECKS))
def test_every_exercise_has_its_texts(name: str) -> None:
    texts = words()["exercises"][name]
    assert texts["title"]
    assert texts["task"]
    assert len(texts["hints"]) >= 2
    for finding in texts["findings"].values():
        assert set(finding) == {"ok", "not_ok"}
        for sentence in finding.values():
            assert sentence.endswith((".", "`."))
            list(Formatter().parse(sentence))  # raises where a brace is out of place


def test_no_text_is_without_an_exercise() -> None:
    assert set(words()["exercises"]) == set(CHECKS)


def test_what_is_unknown_is_refused_with_what_there_is(lab: Lab) -> None:
    with pytest.raises(BadInputError, match="first_service"):
        exercise("no_such", lab)
    with pytest.raises(BadInputError, match="en"):
        exercise("own_layer", lab, language="xx")


def test_hints_come_one_by_one_and_end(lab: Lab) -> None:
    task = exercise("own_layer", lab)
    total = len(words()["exercises"]["own_layer"]["hints"])

    counts = [len(task.hint().lines) for _ in range(total)]

    assert counts == list(range(1, total + 1))
    last = task.hint()
    assert "%%solution" in last.lines[-1]
    assert last == task.hint()
    assert "<p>" in last._repr_html_()


def test_a_check_shows_itself_as_text_and_as_html(lab: Lab) -> None:
    task = exercise("first_service", lab)
    check = task.check()

    assert "[not yet]" in repr(check)
    assert lab.name not in task.title
    page = check._repr_html_()
    assert "<code>REPLICA</code>" in page
    assert "`" not in page


def test_a_check_raises_nothing_whatever_happens(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lab.client.api, "base_url", "http+docker://localhost/not-an-engine")

    check = exercise("own_layer", lab).check()

    assert wrong(check) == ["trouble"]
    assert not check.passed


# The exercises


def test_first_service(lab: Lab, web1: Image) -> None:
    task = exercise("first_service", lab)
    assert wrong(task.check()) == ["named"]

    lab.start(web1, name=f"{lab.name}-one", ports={80: None})
    assert wrong(task.check()) == ["named"], "a service without a name of its own"

    lab.start(web1, name=f"{lab.name}-one", env={"REPLICA": "Ada"})
    assert wrong(task.check()) == ["published"], "it cannot be reached"

    lab.start(web1, ["sleep", "60"], name=f"{lab.name}-one", env={"REPLICA": "Ada"}, ports={80: None}, init=True)
    assert wrong(task.check()) == ["answers"], "another program"

    lab.start(web1, name=f"{lab.name}-two", env={"REPLICA": "Ada"}, ports={80: None})
    check = task.check()
    assert check.passed, check
    assert "Ada" in str(check)


def test_a_container_of_another_lab_solves_nothing(lab: Lab, lab_name: str, web1: Image) -> None:
    with Lab(f"{lab_name}-x", engine=lab.engine.kind) as other:
        try:
            other.start(web1, env={"REPLICA": "Ada"}, ports={80: None})
            assert exercise("first_service", other).check().passed
            assert wrong(exercise("first_service", lab).check()) == ["named"]
        finally:
            other.reset()


BAD_ORDER = "FROM dockerlab/base:1\nCOPY page.html /\nRUN sleep 1.5 && echo tool > /tool\n"
GOOD_ORDER = "FROM dockerlab/base:1\nRUN sleep 1.5 && echo tool > /tool\nCOPY page.html /\n"
NO_STEP = "FROM dockerlab/base:1\nCOPY page.html /\n"


@pytest.fixture
def pages(lab: Lab, base_image: Image, tmp_path: Path) -> Iterator[Pages]:
    made = Pages(lab, tmp_path)
    yield made
    for number in (1, 2):
        made.forget(number)


class Pages:
    """The folder of the exercise, and its two images."""

    def __init__(self, lab: Lab, folder: Path) -> None:
        self.lab, self.folder = lab, folder
        self.task: Exercise = exercise("cached_step", lab)

    def build(self, dockerfile: str, number: int, page: str) -> None:
        (self.folder / "Dockerfile").write_text(dockerfile)
        (self.folder / "page.html").write_text(page)
        self.lab.build(self.folder, tag=f"pages-{self.lab.name}:{number}", quiet=True)

    def forget(self, number: int) -> None:
        name = f"pages-{self.lab.name}:{number}"
        if self.lab.client.api.images(name=name):
            self.lab.client.api.remove_image(name)


def test_cached_step(pages: Pages, lab: Lab) -> None:
    unique = lab.name  # no cache of an earlier run
    assert wrong(pages.task.check()) == ["built"]

    pages.build(BAD_ORDER, 1, f"one {unique}")
    assert wrong(pages.task.check()) == ["built"]
    pages.build(BAD_ORDER, 2, f"two {unique}")
    assert wrong(pages.task.check()) == ["shared"], "the order was not changed"

    pages.build(GOOD_ORDER, 2, f"two {unique}")
    assert wrong(pages.task.check()) == ["shared"], "only one of them was built anew"

    pages.build(GOOD_ORDER, 1, f"two {unique}")
    assert wrong(pages.task.check()) == ["differ"], "the page was not changed"

    pages.build(NO_STEP, 1, f"one {unique}")
    pages.build(NO_STEP, 2, f"two {unique}")
    assert wrong(pages.task.check()) == ["step"], "the slow step was left out"

    pages.build(GOOD_ORDER, 1, f"one {unique}")
    pages.build(GOOD_ORDER, 2, f"two {unique}")
    check = pages.task.check()
    assert check.passed, check


def test_own_layer(lab: Lab, web1: Image, web2: Image) -> None:
    task = exercise("own_layer", lab)
    assert wrong(task.check()) == ["three", "one_note"]

    containers = [lab.start(web1), lab.start(web1), lab.start(web2)]
    note = ["sh", "-c", "echo hello > /note.txt"]
    containers[0].exec_run(note)
    assert wrong(task.check()) == ["three"], "the third is of another image"

    containers.append(lab.start(web1))
    assert task.check().passed

    containers[1].exec_run(note)
    check = task.check()
    assert wrong(check) == ["one_note"], "written in two of them"
    assert "in 2 of them" in str(check)

    containers[1].exec_run(["rm", "/note.txt"])
    check = task.check()
    assert check.passed, check
    assert str(containers[0].name) in str(check)


def test_enough_replicas(lab: Lab, web1: Image) -> None:
    task = exercise("enough_replicas", lab)
    assert wrong(task.check()) == ["fleet"]
    # 40 ms: 25 a second for each; 120 / (25 x 0.7) is 6.9, so 7. A learner's usual 50 ms would make it 9.
    web = lab.fleet("web", web1, replicas=6, env={"WORK_MS": "40"})
    assert wrong(task.check()) == ["enough"], "one too few"

    web.scale(8)
    assert wrong(task.check()) == ["not_too_many"], "one too many"

    web.scale(7)
    check = task.check()
    assert check.passed, check

    lab.client.api.kill(web.status().replicas[0].id)
    deadline = time.monotonic() + 15
    while web.status().phase == "Healthy" and time.monotonic() < deadline:
        time.sleep(0.1)
    assert wrong(task.check()) == ["enough", "whole"], "one of them is dead"

    web.scale(7)
    assert task.check().passed


@pytest.mark.nightly  # `make run` solves it, too
def test_nobody_notices(lab: Lab, web1: Image, web2: Image) -> None:
    task = exercise("nobody_notices", lab)
    web3 = lab.build(WEB, tag="web:test3", args={"VERSION": "3"}, quiet=True)
    assert wrong(task.check()) == ["fleet"]
    web = lab.fleet("web", web1, replicas=2)
    gentle = dl.RollingUpdate(max_surge=1, max_unavailable=0)
    assert wrong(task.check()) == ["version", "load"]

    with lab.traffic(web.url, rate=15) as traffic:
        web.rollout(web2, gentle)
        time.sleep(0.5)
    assert wrong(task.check(traffic.results)) == ["version"], "another version"

    with lab.traffic(web.url, rate=15) as traffic:
        web.rollout(web3, dl.Recreate())
        time.sleep(0.5)
    assert wrong(task.check()) == ["load"], "no load was given"
    assert wrong(task.check(traffic.results)) == ["lost"], "the service was away"

    web.rollback()
    web.rollout(web3, gentle)
    with lab.traffic(web.url, rate=15, duration_s=1) as traffic:
        traffic.wait()
    assert wrong(task.check(traffic.results)) == ["covers"], "the load came after the rollout"

    web.rollback()
    with lab.traffic(web.url, rate=15) as traffic:
        web.rollout(web3, gentle)
        time.sleep(0.5)
    check = task.check(traffic.results)
    assert check.passed, check


def test_rescued_data(lab: Lab, base_image: Image) -> None:
    task = exercise("rescued_data", lab)
    apps = WEB.parent
    v1 = lab.build(apps / "counter", tag="counter:test1", quiet=True)
    v2 = lab.build(apps / "counter", tag="counter:test2", args={"VERSION": "2"}, quiet=True)
    name, data = f"{lab.name}-till", {f"{lab.name}-till-data": "/data"}
    assert wrong(task.check()) == ["runs"]

    def start(image: Image, **more: Any) -> Container:
        return lab.start(image, name=name, init=True, **{"ports": {80: None}, **more})

    def visit(container: Container, times: int) -> None:
        for _ in range(times):
            assert container.exec_run(["/www/cgi-bin/visit"]).exit_code == 0

    old = start(v1)
    visit(old, 5)
    assert wrong(task.check()) == ["version", "volume"], "nothing was done yet"
    archive = b"".join(old.get_archive("/data/visits.txt")[0])

    start(v1, env={"VERSION": "2"}, volumes=data).put_archive("/data", archive)
    assert wrong(task.check()) == ["version"], "the old image only pretends"
    lab.client.api.remove_container(name, force=True)
    lab.client.api.remove_volume(next(iter(data)))

    start(v2)
    assert wrong(task.check()) == ["volume", "data"], "the data went with the old container"

    visit(start(v2, volumes=data), 5)
    assert wrong(task.check()) == ["data"], "as many visits, but to the new version"

    start(v2, volumes=dict.fromkeys(data, "/elsewhere")).exec_run(["mkdir", "/data"])
    lab.client.containers.get(name).put_archive("/data", archive)
    assert wrong(task.check()) == ["volume"], "the data is in the writable layer again"

    start(v2, volumes=data, ports={}).put_archive("/data", archive)
    assert wrong(task.check()) == ["answers"], "nobody can reach it"

    start(v2, volumes=data)
    check = task.check()
    assert check.passed, check
    assert "5 visits" in str(check)
    assert lab.client.volumes.get(next(iter(data))).attrs["Labels"].items() >= lab.labels.items()


def test_the_texts_are_json_in_utf8_without_a_mark() -> None:
    file = Path(str(dl.course.__file__)).parent / "texts" / "en.json"
    assert not file.read_bytes().startswith(b"\xef\xbb\xbf")
    assert json.loads(file.read_text("utf-8"))["exercises"]
