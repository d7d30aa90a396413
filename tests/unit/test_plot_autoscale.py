"""The figure of a load and of the fleet that follows it."""

from __future__ import annotations

import math

import pytest
from matplotlib.axes import Axes

from dockerlab import plots
from dockerlab.autoscale.policy import AutoscalePolicy, Decision, History, Observation, Reading
from dockerlab.autoscale.rule import decide
from dockerlab.errors import BadInputError
from dockerlab.traffic.results import Request, Results, results_of

START_S = 1_700_000_000.0


def load(*, lost: int = 0) -> Results:
    """20 a second for 5 s, 100 for 10 s, 20 for 5 s; the first `lost` of the crowd are refused."""
    due = [n / 20 for n in range(100)] + [5 + n / 100 for n in range(1000)] + [15 + n / 20 for n in range(100)]
    rows = [
        Request(START_S + at, START_S + at, 0.05 + (0.4 if 5 <= at < 7 else 0), 200, "1", "a")
        if not 100 <= number < 100 + lost
        else Request(START_S + at, START_S + at, 0.001, 0, error="refused")
        for number, at in enumerate(due)
    ]
    return results_of(rows)


def decisions() -> list[Decision]:
    policy = AutoscalePolicy(target=1, max_replicas=6).faster(30)
    current, history, made = 1, History(), []
    for number in range(1, 40):
        at = number / 2
        value = (5.0 if 5 <= at < 15 else 0.8) / current
        rows = tuple(Reading(f"r{replica}", value) for replica in range(current))
        decision = decide(policy, history, Observation(current, rows), START_S + at)
        history = history.after(policy, decision)
        made.append(decision)
        current = decision.replicas
    return made


def lines(picture: plots.Picture) -> dict[str, tuple[list[float], list[float]]]:
    found = {}
    for axes in picture.figure.axes:
        for line in axes.lines:
            x, y = line.get_data()
            found[str(line.get_gid())] = ([float(value) for value in x], [float(value) for value in y])
    return found


def legend(axes: Axes) -> list[str]:
    box = axes.get_legend()
    return [text.get_text() for text in box.get_texts()] if box else []


def test_it_shows_what_was_sent_wanted_and_served() -> None:
    log = decisions()
    picture = plots.autoscale(load(), log, each_rps=20)
    found = lines(picture)
    assert {"due", "capacity", "wanted", "asked", "p95"} <= set(found)
    edges, rates = found["due"]
    assert sum(rates[:-1]) * (edges[1] - edges[0]) == pytest.approx(1200)
    assert max(rates) == pytest.approx(100, rel=0.03)
    times = [0.0, *(d.time_s - START_S for d in log)]
    assert found["wanted"] == (times, [1, *(d.replicas for d in log)])
    assert found["asked"] == (times, [1, *(d.recommended for d in log)])
    assert found["capacity"] == (times, [20 * number for number in (1, *(d.ready for d in log))])
    assert max(found["p95"][1]) == pytest.approx(0.45)
    assert picture.figure.get_suptitle() == "1,200 requests, 0 lost, 1 to 5 replicas"
    assert [legend(axes) for axes in picture.figure.axes] == [
        ["the fleet can answer", "users send"],
        ["serve", "are wanted", "formula asks for"],
        ["95 of 100 wait less"],
    ]


def test_the_sentence_says_what_it_shows() -> None:
    alt = plots.autoscale(load(lost=7), decisions(), each_rps=20).alt
    assert "1,200 requests over 20.0 seconds, 20 to 100 a second: 7 lost" in alt
    assert "one replica can answer 20 a second" in alt
    assert "wanted at first: 1; changes: 1 to 5 at 5.0 s" in alt


def test_every_lost_request_is_a_cross() -> None:
    picture = plots.autoscale(load(lost=7), decisions())
    axes = picture.figure.axes[-1]
    (crosses,) = [marks for marks in axes.collections if marks.get_gid() == "lost"]
    assert [float(x) for x, _ in crosses.get_offsets()] == pytest.approx([5 + n / 100 for n in range(7)])
    assert "7 lost" in legend(axes)
    assert axes.get_ylim()[1] > float(crosses.get_offsets()[0][1])
    assert "capacity" not in lines(picture)


def test_decisions_far_from_the_load_are_left_out() -> None:
    log = decisions()
    late = decide(AutoscalePolicy(target=1), History(), Observation(3), START_S + 900)
    assert lines(plots.autoscale(load(), [*log, late])) == lines(plots.autoscale(load(), log))


def test_what_is_missing_is_said_and_drawn_all_the_same() -> None:
    nothing = plots.autoscale(Results(), ())
    assert nothing.figure.get_suptitle() == "No requests"
    assert "no request was sent; no decision" in nothing.alt
    assert "no decision" in plots.autoscale(load(), ()).alt
    alone = plots.autoscale(Results(), decisions(), each_rps=20)
    assert "no request was sent" in alone.alt
    broken = results_of([Request(5, math.nan, 0.0, 0, error="refused"), Request(6, math.nan, 0.0, 0, error="refused")])
    for picture in (nothing, alone, plots.autoscale(load(), ()), plots.autoscale(broken, ())):
        assert picture.png() != picture.png(dark=True)


def test_a_capacity_that_makes_no_sense_is_refused() -> None:
    with pytest.raises(BadInputError, match="each_rps"):
        plots.autoscale(Results(), (), each_rps=0)
