from __future__ import annotations

from itertools import islice

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dockerlab.errors import BadInputError
from dockerlab.traffic.schedule import MAX_RATE_RPS, Schedule, Step, constant, steps


def test_constant_rate_is_evenly_spaced():
    assert list(constant(4, duration_s=1).offsets_s()) == [0.0, 0.25, 0.5, 0.75]


def test_without_a_duration_it_never_ends():
    assert list(islice(constant(10).offsets_s(), 100_000, 100_001)) == [10_000.0]


def test_steps_follow_each_other():
    schedule = steps([(2, 1), (4, 0.5)])
    assert list(schedule.offsets_s()) == [0.0, 0.5, 1.0, 1.25]
    assert schedule.duration_s == 1.5


@given(st.integers(1, 500), st.integers(1, 20))
def test_whole_seconds_hold_exactly_the_rate(rate, seconds):
    offsets = list(constant(rate, duration_s=seconds).offsets_s())
    assert len(offsets) == rate * seconds
    assert offsets == sorted(offsets)
    assert offsets[-1] < seconds


@pytest.mark.parametrize("rate", [0, -1, MAX_RATE_RPS + 1, float("nan"), float("inf")])
def test_a_rate_out_of_range_is_refused(rate):
    with pytest.raises(BadInputError, match="Choose a rate"):
        constant(rate)


@pytest.mark.parametrize("duration_s", [0, -1, float("nan")])
def test_a_duration_out_of_range_is_refused(duration_s):
    with pytest.raises(BadInputError, match="duration"):
        constant(1, duration_s=duration_s)


def test_nothing_can_follow_a_step_without_end():
    with pytest.raises(BadInputError, match="never ends"):
        Schedule((Step(1), Step(2)))
    with pytest.raises(BadInputError, match="at least one"):
        steps([])
