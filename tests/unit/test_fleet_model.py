"""The threads of the panel's model, against a plain stand-in; tests/contract/test_panel.py has real containers."""

from __future__ import annotations

import ast
import gc
import threading
import time
import weakref
from collections.abc import Iterator
from pathlib import Path

import pytest
from support import until

from dockerlab.errors import BadInputError, EngineLostError, RouterError
from dockerlab.fleet.model import FleetStatus, ReplicaStatus
from dockerlab.widgets import FleetModel, fleet_model


class StandIn:
    """Keeps a list of names as if they were containers; an operation waits until `gate` is open."""

    name = "web"

    def __init__(self, replicas: int = 1) -> None:
        self.desired = replicas
        self.names = [f"web-{number}" for number in range(replicas)]
        self.done: list[str] = []
        self.gate = threading.Event()
        self.gate.set()
        self.entered = threading.Event()
        self.trouble: Exception | None = None
        self.blind: Exception | None = None
        self.looks = 0
        self.threads: set[int] = set()
        self._turn = threading.Lock()

    def status(self) -> FleetStatus:
        self.looks += 1
        if self.blind:
            raise self.blind
        rows = tuple(
            ReplicaStatus(name, f"id-{name}", "web:1", 1, "running", "healthy", "ready", "", 0, 0.0)
            for name in self.names
        )
        return FleetStatus("web", "http://127.0.0.1:1", self.desired, 1, "web:1", "Healthy", rows)

    def scale(self, replicas: int, /) -> None:
        self._operation(f"scale {replicas}")
        self.desired = replicas
        self.names = [f"web-{number}" for number in range(replicas)]

    def replace(self, name: str, /) -> None:
        self._operation(f"replace {name}")
        self.names = [f"{other}-new" if other == name else other for other in self.names]

    def _operation(self, title: str) -> None:
        assert self._turn.acquire(blocking=False), "two operations at once"
        try:
            self.threads.add(threading.get_ident())
            self.entered.set()
            assert self.gate.wait(10)
            self.done.append(title)
            if self.trouble:
                raise self.trouble
        finally:
            self._turn.release()


@pytest.fixture
def fleet() -> StandIn:
    return StandIn()


@pytest.fixture
def model(fleet: StandIn) -> Iterator[FleetModel]:
    made = FleetModel(fleet, interval_s=0.01)
    yield made
    fleet.gate.set()
    made.close()
    until(lambda: not mine())


def mine() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name.endswith(" web")]


def names(model: FleetModel) -> list[str]:
    return [replica.name for replica in model.status.replicas] if model.status else []


def test_it_knows_the_fleet_at_once_and_without_a_thread(model: FleetModel) -> None:
    assert names(model) == ["web-0"]
    assert (model.desired, model.busy, model.error, model.lost) == (1, "", "", "")
    assert mine() == []


def test_it_follows_the_fleet(fleet: StandIn, model: FleetModel) -> None:
    seen: list[int] = []
    model.observe(lambda change: seen.append(len(change["new"].replicas)), "status")
    model.start()
    model.start()
    assert mine() == ["follow web"]
    fleet.scale(4)
    until(lambda: model.desired == 4)
    assert seen[-1] == 4


def test_nothing_is_told_while_nothing_changes(fleet: StandIn, model: FleetModel) -> None:
    told: list[str] = []
    model.observe(lambda change: told.append(change["name"]))
    model.start()
    looks = fleet.looks
    until(lambda: fleet.looks > looks + 5)
    assert told == []


def test_a_pause_stops_the_looks(fleet: StandIn, model: FleetModel) -> None:
    model.start()
    until(lambda: fleet.looks > 3)
    model.pause()
    looks = fleet.looks
    time.sleep(0.1)
    assert fleet.looks == looks
    model.resume()
    until(lambda: fleet.looks > looks)


def test_an_order_returns_at_once_and_says_what_is_done(fleet: StandIn, model: FleetModel) -> None:
    fleet.gate.clear()
    model.scale(3)
    assert (model.desired, model.busy) == (3, "Scaling to 3 replicas…")
    assert fleet.done == []
    assert not model.wait(0.02)
    fleet.gate.set()
    assert model.wait(5)
    assert (model.busy, model.desired, len(names(model))) == ("", 3, 3)
    assert threading.get_ident() not in fleet.threads
    until(lambda: not mine())


def test_of_several_orders_to_scale_the_latest_wins(fleet: StandIn, model: FleetModel) -> None:
    fleet.gate.clear()
    model.scale(2)
    assert fleet.entered.wait(5)
    for number in (5, 9, 1, 7):
        model.scale(number)
    assert model.desired == 7
    assert model.busy == "Scaling to 2 replicas, then scale to 7 replicas…"
    fleet.gate.set()
    assert model.wait(5)
    assert fleet.done == ["scale 2", "scale 7"]


def test_a_look_does_not_undo_what_is_ordered(fleet: StandIn, model: FleetModel) -> None:
    model.start()
    fleet.gate.clear()
    model.scale(8)
    desired: list[int] = []
    model.observe(lambda change: desired.append(change["new"]), "desired")
    looks = fleet.looks
    until(lambda: fleet.looks > looks + 5)
    fleet.gate.set()
    assert model.wait(5)
    until(lambda: len(names(model)) == 8)
    assert desired == []
    assert model.desired == 8


def test_orders_of_both_kinds_are_done_one_after_the_other(fleet: StandIn, model: FleetModel) -> None:
    fleet.gate.clear()
    model.scale(2)
    assert fleet.entered.wait(5)
    model.replace("web-0")
    model.replace("web-0")  # a second press of the button
    model.scale(3)
    fleet.gate.set()
    assert model.wait(5)
    assert fleet.done == ["scale 2", "replace web-0", "scale 3"]


def test_two_hundred_orders_from_four_threads_end_with_the_last(fleet: StandIn, model: FleetModel) -> None:
    model.start()

    def order() -> None:
        for number in range(1, 51):
            model.scale(number)

    threads = [threading.Thread(target=order, daemon=True) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
    model.scale(6)
    assert model.wait(10)
    assert (fleet.done[-1], model.desired, len(names(model)), model.busy) == ("scale 6", 6, 6, "")
    assert model.ordered == 201


def test_a_failure_is_told_in_plain_words_and_forgotten_with_the_next_order(
    fleet: StandIn, model: FleetModel, capfd: pytest.CaptureFixture[str]
) -> None:
    fleet.trouble = BadInputError("So many cannot be had.", "Give fewer.")
    model.scale(5000)
    assert model.wait(5)
    assert model.error == "So many cannot be had.\nGive fewer."
    assert model.desired == 1  # back to what is there
    fleet.trouble = None
    model.scale(2)
    assert model.error == ""
    assert model.wait(5)
    assert model.error == ""
    assert capfd.readouterr() == ("", "")


def test_even_a_bug_is_told_and_the_next_order_done(fleet: StandIn, model: FleetModel) -> None:
    fleet.trouble = ZeroDivisionError("oh")
    model.replace("web-0")
    assert model.wait(5)
    assert model.error == "Something unexpected went wrong: ZeroDivisionError: oh"
    fleet.trouble = None
    model.replace("web-0")
    assert model.wait(5)
    assert names(model) == ["web-0-new"]


@pytest.mark.parametrize(
    ("blind", "words"),
    [(RouterError("no answer"), "was removed"), (EngineLostError("The engine is gone."), "The engine is gone.")],
)
def test_a_fleet_that_cannot_be_seen_is_said_to_be_lost(
    fleet: StandIn, model: FleetModel, blind: Exception, words: str
) -> None:
    model.start()
    fleet.blind = blind
    until(lambda: words in model.lost)
    fleet.blind = None
    until(lambda: not model.lost)


def test_a_fleet_that_is_gone_from_the_start_is_no_error(fleet: StandIn) -> None:
    fleet.blind = RouterError("no answer")
    model = FleetModel(fleet)
    assert model.status is None
    assert model.lost
    model.close()


def test_the_commands_of_an_order_are_told(fleet: StandIn) -> None:
    model = FleetModel(fleet, commands=lambda: f"# {fleet.done[-1]}")
    assert model.commands == ""
    model.scale(2)
    assert model.wait(5)
    assert model.commands == "# scale 2"
    model.close()


def test_an_observer_that_fails_ends_no_thread(
    fleet: StandIn, model: FleetModel, capfd: pytest.CaptureFixture[str]
) -> None:
    def fail(change: object) -> None:
        raise OSError("the page is gone")

    model.observe(fail, "status")
    model.start()
    model.scale(3)
    assert model.wait(5)
    fleet.scale(4)
    until(lambda: model.desired == 4)
    assert capfd.readouterr() == ("", "")


def test_close_ends_the_threads_and_lets_the_observers_go(fleet: StandIn) -> None:
    model = FleetModel(fleet, interval_s=0.01)
    told: list[str] = []
    model.observe(lambda change: told.append(change["name"]))
    model.start()
    fleet.gate.clear()
    model.scale(2)
    assert fleet.entered.wait(5)
    model.scale(9)
    told.clear()
    model.close()
    model.close()
    fleet.gate.set()
    until(lambda: not mine())
    assert fleet.done == ["scale 2"]  # what was begun came to its end, the rest was given up
    assert told == []
    model.scale(3)
    assert mine() == []
    looks = fleet.looks
    model.refresh()
    assert fleet.looks == looks


def test_close_can_be_called_by_an_observer(fleet: StandIn) -> None:
    model = FleetModel(fleet, interval_s=0.01)
    model.observe(lambda change: model.close(), "status")
    model.start()
    fleet.scale(2)
    until(lambda: model.closed and not mine())


def test_a_closed_model_is_not_kept_alive(fleet: StandIn) -> None:
    model = FleetModel(fleet, interval_s=0.01)
    model.start()
    model.close()
    gone = weakref.ref(model)
    del model
    gc.collect()
    assert gone() is None


def test_the_model_knows_nothing_of_widgets() -> None:
    tree = ast.parse(Path(fleet_model.__file__).read_text(encoding="utf-8"))
    found = {node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    found |= {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    assert not {name for name in found if name and name.split(".")[0] in ("ipywidgets", "IPython")}
