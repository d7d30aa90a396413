"""The panel on real containers; tests/browser has it in a page."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest
from support import until

from dockerlab.errors import BadInputError
from dockerlab.widgets import FleetPanel, words

if TYPE_CHECKING:
    from dockerlab.fleet.fleet import Fleet
    from dockerlab.images.layers import Image
    from dockerlab.lab import Lab


@pytest.fixture
def web(lab: Lab, web1: Image) -> Fleet:
    return lab.fleet("web", web1, replicas=2)


@pytest.fixture
def panel(web: Fleet) -> Iterator[FleetPanel]:
    made = FleetPanel(web)
    yield made
    made.close()


def containers(lab: Lab) -> dict[str, str]:
    """Give name and id of the lab's running replicas, as the engine has them."""
    filters = {"label": [f"dockerlab.lab={lab.name}", "dockerlab.fleet=web", "dockerlab.revision"]}
    return {row["Names"][0].lstrip("/"): row["Id"] for row in lab.client.api.containers(filters=filters)}


def test_an_order_changes_real_containers(lab: Lab, panel: FleetPanel) -> None:
    panel.model.scale(4)
    assert panel.model.wait(60)
    assert panel.model.error == ""
    assert len(containers(lab)) == 4
    assert panel.summary_html().count("✓ healthy") == 4
    panel.model.scale(1)
    assert panel.model.wait(60)
    assert len(containers(lab)) == 1


def test_the_slider_is_an_order(lab: Lab, panel: FleetPanel) -> None:
    panel._slider.value = 3
    assert panel.model.wait(60)
    assert (panel._number.value, len(containers(lab))) == (3, 3)
    panel._number.value = 2
    assert panel.model.wait(60)
    assert (panel._slider.value, len(containers(lab))) == (2, 2)


def test_replace_makes_another_container(lab: Lab, panel: FleetPanel) -> None:
    before = containers(lab)
    chosen = sorted(before)[0]
    panel._choice.value = chosen
    panel._button.click()
    assert panel.model.wait(60)
    after = containers(lab)
    assert panel.model.error == ""
    assert len(after) == 2
    assert before[chosen] not in after.values()
    assert before[sorted(before)[1]] in after.values()
    assert "docker rm" in panel.model.commands
    assert "docker run -d" in panel.model.commands


def test_without_a_choice_nothing_is_replaced(lab: Lab, panel: FleetPanel) -> None:
    before = containers(lab)
    panel._button.click()
    assert "Choose a replica first" in panel._news.value
    panel._choice.value = sorted(before)[0]
    assert "Choose a replica first" not in panel._news.value
    assert containers(lab) == before


def test_a_change_by_code_is_followed(web: Fleet, panel: FleetPanel) -> None:
    web.scale(3)
    until(lambda: panel._slider.value == 3 and panel._cards.value.count("<li") == 3)
    assert panel.model.ordered == 0  # following is not ordering


def test_the_slider_grows_with_the_fleet(web: Fleet) -> None:
    panel = FleetPanel(web, max_replicas=1)
    try:
        assert (panel._slider.max, panel._slider.value) == (2, 2)
    finally:
        panel.close()


@pytest.mark.parametrize("number", [0, -1, 1001, 2.5, True, "many"])
def test_a_slider_without_an_end_is_refused(web: Fleet, number: int) -> None:
    with pytest.raises(BadInputError, match="Give a whole number"):
        FleetPanel(web, max_replicas=number)


def test_a_fleet_that_is_removed_is_said_to_be(web: Fleet, panel: FleetPanel) -> None:
    web.remove()
    until(lambda: "was removed" in panel._news.value)
    assert panel._slider.disabled
    assert panel._button.disabled
    assert "was removed" in panel.summary_html()
    assert words.LAST_SEEN in panel.summary_html().partition("<table")[0]


def test_a_lab_that_is_reset_is_no_failure(lab: Lab, web: Fleet, panel: FleetPanel) -> None:
    lab.reset()
    until(lambda: "was removed" in panel._news.value)
    late = FleetPanel(web)
    assert "was removed" in late.summary_html()
    late.close()


def test_close_takes_everything_down(web: Fleet) -> None:
    from ipywidgets.widgets.widget import _instances

    before = set(_instances)
    panel = FleetPanel(web)
    assert set(_instances) > before
    panel.close()
    panel.close()
    assert set(_instances) <= before
    until(lambda: not [thread for thread in threading.enumerate() if thread.name == "follow web"])
    assert repr(panel) == "<FleetPanel of web, closed>"
    assert "✓ healthy" in panel.summary_html()
