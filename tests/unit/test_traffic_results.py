from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dockerlab.errors import BadInputError
from dockerlab.traffic.results import Count, Request, Results, percentile, results_of

KINDS = ("refused", "reset", "timeout", "http_5xx", "unsent")

requests = st.builds(
    Request,
    scheduled_s=st.floats(0, 1000),
    sent_s=st.one_of(st.just(math.nan), st.floats(0, 1000)),
    latency_s=st.floats(0, 5),
    status=st.sampled_from([0, 200, 204, 301, 404, 503]),
    version=st.sampled_from(["", "1", "2"]),
    replica=st.sampled_from(["", "a", "b"]),
    error=st.sampled_from(["", "", *KINDS]),
)


def ok(at, latency=0.05, **more):
    return Request(at, at, latency, 200, **more)


@given(st.lists(requests))
def test_every_request_is_either_answered_or_lost(rows):
    results = results_of(rows)
    summary = results.summary()
    good = [r for r in rows if 200 <= r.status < 300 and not r.error and r.latency_s <= 2]
    assert (summary.scheduled, summary.ok, summary.lost) == (len(rows), len(good), len(rows) - len(good))
    assert sum(summary.lost_by_kind.values()) == summary.lost
    assert list(results.scheduled_s) == sorted(results.scheduled_s)
    for counts in (results.by_version(), results.by_replica()):
        assert sum(count.ok for count in counts.values()) == summary.ok
        assert sum(count.lost for count in counts.values()) == summary.lost
    if good:
        assert min(r.latency_s for r in good) <= summary.p50_s <= summary.p95_s <= summary.p99_s <= summary.max_s <= 2


@given(st.lists(requests), st.floats(0, 1000))
def test_windows_part_a_load_without_overlap_or_gap(rows, cut):
    results = results_of(rows)
    before, after = results.summary(until_s=cut), results.summary(since_s=cut)
    assert before.scheduled + after.scheduled == len(rows)
    assert before.lost + after.lost == results.summary().lost


@given(st.lists(st.floats(0, 10), min_size=1), st.integers(0, 100))
def test_a_percentile_is_a_measured_value_that_enough_do_not_exceed(values, percent):
    value = percentile(sorted(values), percent)
    assert value in values
    assert sum(v <= value for v in values) >= len(values) * percent / 100


@pytest.mark.parametrize(
    ("request_", "kind"),
    [
        (ok(0.0), ""),
        (ok(0.0, 2.0), ""),
        (ok(0.0, 2.001), "timeout"),
        (Request(0.0, 0.0, 0.1, 204), ""),
        (Request(0.0, 0.0, 0.1, 302), "http_3xx"),
        (Request(0.0, 0.0, 0.1, 404), "http_4xx"),
        (Request(0.0, 0.0, 0.1, 503, error="http_5xx"), "http_5xx"),
        (Request(0.0, 0.0, 0.1, 200, error="incomplete"), "incomplete"),
        (Request(0.0, 0.0, 0.0, 0, error="refused"), "refused"),
        (Request(0.0, math.nan, 2.5, 0, error="unsent"), "unsent"),
        (Request(0.0, 0.0, 0.1, 0), "other"),
    ],
)
def test_what_counts_as_lost(request_, kind):
    assert results_of([request_]).lost_kind == (kind,)


def test_requests_that_never_left_lower_the_sent_share():
    summary = results_of([ok(0.0), Request(1.0, math.nan, 2.0, 0, error="unsent")]).summary()
    assert (summary.sent, summary.sent_share) == (1, 0.5)


def test_throughput_counts_answers_over_the_time_they_took():
    assert results_of(ok(n / 10, 0.1) for n in range(100)).summary().throughput_rps == pytest.approx(10)
    assert results_of(ok(n / 10, 0.1) for n in range(100)).summary(2.0, 4.0).throughput_rps == pytest.approx(10)


@pytest.mark.parametrize(
    ("lost", "outage_s"),
    [("", 0.0), ("....", 0.0), (".xx..x..", 2.0), ("x.x.", 1.0), (".xxx", 2.0), ("...x", 0.0), ("xxxx", 3.0)],
)
def test_the_longest_outage_ends_with_an_answer_or_with_the_load(lost, outage_s):
    requests = [Request(n, n, 0.0, 0, error="refused") if mark == "x" else ok(n) for n, mark in enumerate(lost)]
    assert results_of(requests).summary().outage_s == outage_s


def test_a_load_by_version_and_replica():
    results = results_of([ok(0, version="1", replica="a"), ok(1, version="2", replica="a"), Request(2, 2, 0, 0)])
    assert results.by_version() == {"": Count(0, 1), "1": Count(1, 0), "2": Count(1, 0)}
    assert results.by_replica() == {"": Count(0, 1), "a": Count(2, 0)}


def test_nothing_sent_is_no_success():
    summary = Results().summary()
    assert (summary.ok, summary.lost, summary.throughput_rps) == (0, 0, 0.0)
    assert math.isnan(summary.sent_share)
    assert math.isnan(summary.p50_s)
    assert "No request yet" in Results()._repr_html_()
    assert repr(Results()) == "Results: no request yet"


def test_router_retries_belong_to_the_whole_load():
    results = results_of([ok(0.0), ok(1.0)], router_retries=3)
    assert results.summary().router_retries == 3
    assert results.summary(since_s=0.5).router_retries is None
    assert "retried by the router" in repr(results)


def test_columns_of_different_length_are_refused():
    with pytest.raises(BadInputError, match="differ in length"):
        Results(scheduled_s=(1.0,))


def test_the_tables_name_everything_and_escape_what_a_service_sent():
    results = results_of([ok(0.0, version="<script>"), Request(1.0, 1.0, 0.0, 0, error="refused")])
    html = results._repr_html_()
    assert "<script>" not in html
    assert "&lt;script&gt;" in html
    assert "1 (1 refused)" in html
    assert "1 (1 refused)" in repr(results)
    assert html.count("<caption") == 2
