from __future__ import annotations

import re
from html.parser import HTMLParser
from importlib.resources import files

import pytest

from dockerlab.errors import BadInputError, EngineLostError, RouterError
from dockerlab.fleet.model import FleetStatus, Phase, ReplicaStatus
from dockerlab.plots.palette import DARK, LIGHT
from dockerlab.widgets import cards, words
from dockerlab.widgets.static import summary_html, summary_text

NASTY = '"><img src=x onerror=alert(1)>'
VOID = {"img", "br", "input"}


class Page(HTMLParser):
    """Reads HTML, and insists that every element is closed in its turn."""

    def __init__(self, source: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.words: list[str] = []
        self._open: list[str] = []
        self.feed(source)
        self.close()
        assert self._open == []

    def handle_starttag(self, tag: str, attrs: object) -> None:
        self.tags.append(tag)
        if tag not in VOID:
            self._open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.words.append(data)


def replica(name: str = "lab-web-a", **changes: object) -> ReplicaStatus:
    values: dict[str, object] = {
        "id": "0123456789abcdef",
        "image": "web:1",
        "revision": 1,
        "state": "running",
        "health": "healthy",
        "traffic": "ready",
        "address": "127.0.0.1:32768",
        "sessions": 0,
        "age_s": 1.0,
    }
    return ReplicaStatus(name=name, **{**values, **changes})  # type: ignore[arg-type]


def fleet(*replicas: ReplicaStatus, desired: int | None = None, phase: Phase = "Healthy") -> FleetStatus:
    wanted = len(replicas) if desired is None else desired
    return FleetStatus("web", "http://127.0.0.1:8080", wanted, 1, "web:1", phase, replicas)


def test_the_summary_has_a_row_for_each_replica() -> None:
    page = Page(summary_html(fleet(replica("lab-web-a"), replica("lab-web-b", revision=2, image="web:2"))))
    assert page.tags.count("tr") == 3
    text = " ".join(page.words)
    for word in ("lab-web-a", "lab-web-b", "● web:1", "■ web:2", "0123456789ab", "✓ healthy", "gets requests"):
        assert word in text
    assert "2 of 2 replicas ready" in text


def test_the_summary_stays_the_same_while_only_requests_and_ages_change() -> None:
    before, after = replica(), replica(sessions=7, age_s=99.0)
    assert summary_html(fleet(before)) == summary_html(fleet(after))
    assert summary_html(fleet(before)) != summary_html(fleet(replica(health="unhealthy")))


def test_a_lost_fleet_is_not_shown_as_if_it_were_there() -> None:
    shown = summary_html(fleet(replica()), lost="It was removed.", mark="mine")
    assert "It was removed." in shown
    assert words.LAST_SEEN in shown.partition("<table>")[0]
    assert 'class="dockerlab-summary mine"' in shown
    assert summary_text(fleet(replica()), lost="It was removed.") == "It was removed."


def test_an_empty_fleet_says_that_nothing_answers() -> None:
    assert words.NO_REPLICAS in summary_html(fleet())
    assert words.NO_REPLICAS in cards.cards(fleet())


def test_nothing_is_shown_before_the_first_look() -> None:
    assert Page(summary_html(None)).tags == ["div"]
    assert words.WAITING in cards.cards(None)


def test_whatever_the_engine_says_cannot_become_markup() -> None:
    bad = replica(NASTY, id=NASTY, image=NASTY, state=NASTY, health=NASTY, traffic=NASTY, address=NASTY)
    status = FleetStatus(NASTY, NASTY, 1, 1, NASTY, NASTY, (bad,))  # type: ignore[arg-type]
    for shown in (
        summary_html(status, lost="", error=NASTY, mark=NASTY),
        summary_html(status, lost=NASTY),
        cards.head(status, NASTY),
        cards.head(None, NASTY),
        cards.cards(status),
        cards.link(NASTY, {"JUPYTERHUB_SERVICE_PREFIX": NASTY}),
        cards.news(busy=NASTY, error=NASTY, lost=""),
        cards.news(busy="", error="", lost=NASTY),
        cards.commands(NASTY),
    ):
        assert "img" not in Page(shown).tags


@pytest.mark.parametrize(
    ("changes", "condition", "traffic"),
    [
        ({}, ("✓", "healthy"), "gets requests"),
        ({"health": "starting", "traffic": "drain"}, ("…", "starting"), "gets no new requests"),
        ({"traffic": "drain"}, ("✓", "healthy"), "gets no new requests"),
        ({"health": "starting", "traffic": "none"}, ("…", "running"), "not in the router"),
        ({"health": "unhealthy"}, ("✕", "unhealthy"), "gets no requests"),
        ({"health": "unhealthy", "state": "exited"}, ("✕", "stopped"), "gets no requests"),
        ({"health": "unhealthy", "state": "exited", "traffic": "none"}, ("…", "stopped"), "not in the router"),
        ({"state": "created", "health": "starting", "traffic": "none"}, ("…", "not started"), "not in the router"),
    ],
)
def test_the_words_for_a_replica(changes: dict[str, object], condition: tuple[str, str], traffic: str) -> None:
    one = replica(**changes)  # type: ignore[arg-type]
    assert (words.condition(one), words.traffic(one)) == (condition, traffic)
    shown = " ".join(Page(cards.card(one)).words)
    assert condition[1] in shown
    assert traffic in shown


def test_the_bar_is_never_longer_than_full() -> None:
    assert "width:50.0%" in cards.head(fleet(replica(), desired=2), "web")
    assert "width:100.0%" in cards.head(fleet(replica(), replica(), desired=1), "web")
    assert "width:0.0%" in cards.head(fleet(), "web")


def test_on_a_hub_the_link_goes_through_the_proxy() -> None:
    assert 'href="http://127.0.0.1:8080"' in cards.link("http://127.0.0.1:8080", {})
    hub = {"JUPYTERHUB_SERVICE_PREFIX": "/user/ada/"}
    assert 'href="/user/ada/proxy/8080/"' in cards.link("http://127.0.0.1:8080", hub)


def test_news_is_read_out() -> None:
    shown = cards.news(busy="Scaling to 3 replicas…", error="It failed.", lost="")
    assert 'aria-live="polite"' in shown
    assert 'role="alert"' in shown
    assert 'role="alert"' not in cards.news(busy="", error="", lost="")


def test_errors_become_words_that_say_what_to_do_next() -> None:
    assert words.trouble(BadInputError("Too many.", "Give fewer.")) == "Too many.\nGive fewer."
    assert words.trouble(KeyError("x")) == "Something unexpected went wrong: KeyError: 'x'"
    assert "was removed" in words.loss("web", RouterError("no answer"))
    assert words.loss("web", EngineLostError("The engine is gone.", "Start it.")) == "The engine is gone.\nStart it."


def test_the_panel_has_the_colours_of_the_plots() -> None:
    css = files("dockerlab.widgets").joinpath("fleet_panel.css").read_text(encoding="utf-8")
    light, dark = css.split('body[data-jp-theme-light="false"]', 1)
    for part, palette in ((light, LIGHT), (dark, DARK)):
        found = dict(re.findall(r"--dl-([\w]+): (#[0-9a-f]{6});", part))
        assert tuple(found[str(place)] for place in range(5)) == palette.series
        assert (found["alarm"], found["muted"]) == (palette.alarm, palette.muted)
    assert len(words.SHAPES) == len(LIGHT.series)
