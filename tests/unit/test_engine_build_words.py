"""Variables and quotes in a Dockerfile."""

from __future__ import annotations

import pytest

from dockerlab.engine.build.golang import duration, duration_ns, quoted
from dockerlab.engine.build.words import expand, expand_list
from dockerlab.engine.refusals import RefusalError

VARIABLES = {"A": "1", "EMPTY": "", "SPACED": "x  y", "PORTS": "80 90/udp"}


@pytest.mark.parametrize(
    ("word", "expected"),
    [
        ("plain", "plain"),
        ("$A", "1"),
        ("${A}b", "1b"),
        ("$Ab", ""),
        ("$A-$A", "1-1"),
        ("$", "$"),
        ("a$", "a$"),
        ("$/x", "$/x"),
        ("'$A'", "$A"),
        ('"$A"', "1"),
        ('"a \\" b"', 'a " b'),
        ('"\\$A"', "$A"),
        ('"\\n"', "\\n"),
        ("\\$A", "$A"),
        ("a\\ b", "a b"),
        ("it\\'s", "it's"),
        ("${A:-x}", "1"),
        ("${EMPTY:-x}", "x"),
        ("${NONE:-x$A}", "x1"),
        ("${NONE:-${EMPTY:-deep}}", "deep"),
        ("${A:+y}", "y"),
        ("${NONE:+y}", ""),
        ("${EMPTY:+y}", ""),
        ("${EMPTY-x}", ""),
        ("${NONE-x}", "x"),
        ("${EMPTY+y}", "y"),
        ("${A:?no}", "1"),
        ("$SPACED", "x  y"),
        ("$1", ""),
        ("x\\", "x"),
        ("é$Aü", "é"),  # letters of any script belong to a name
    ],
)
def test_expand(word: str, expected: str) -> None:
    assert expand(word, VARIABLES) == expected


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("${b", "missing ':' in substitution"),
        ("${b#x}", "missing ':' in substitution"),
        ("${b?x}", "b: x"),
        ("${b:?msg}", "b: msg"),
        ("${EMPTY:?}", "EMPTY: is not allowed to be empty"),
        ("${b:?}", "b: is not allowed to be unset"),
        ("${b:-", "syntax error: missing '}'"),
        ("${", "syntax error: missing '}'"),
        ("${}", "syntax error: bad substitution"),
        ("${b:x}", "unsupported modifier (x) in substitution"),
        ('"x', "unexpected end of statement while looking for matching double-quote"),
        ("'x", "unexpected end of statement while looking for matching single-quote"),
    ],
)
def test_expand_refuses_in_dockers_words(word: str, message: str) -> None:
    with pytest.raises(RefusalError) as caught:
        expand(word, VARIABLES)
    assert caught.value.message == f"failed to process {quoted(word)}: {message}"
    assert caught.value.status == 400


def test_escape_may_be_a_backtick() -> None:
    assert expand("C:\\x`$A", VARIABLES, "`") == "C:\\x$A"


def test_a_variable_may_become_several_words() -> None:
    assert expand_list("$PORTS", VARIABLES) == ["80", "90/udp"]
    assert expand_list("'a b'", VARIABLES) == ["a b"]
    assert expand_list("$NONE", VARIABLES) == []


def test_expansion_is_bounded() -> None:
    with pytest.raises(RefusalError, match="too large"):
        expand("$A" * 20, {"A": "x" * 100_000})
    with pytest.raises(RefusalError, match="too many substitutions"):
        expand("${A:-" * 2000 + "}" * 2000, {})


@pytest.mark.parametrize(
    ("text", "nanoseconds", "printed"),
    [
        ("1m30s", 90_000_000_000, "1m30s"),
        ("0", 0, "0s"),
        ("1.5s", 1_500_000_000, "1.5s"),
        ("1h", 3_600_000_000_000, "1h0m0s"),
        ("250ms", 250_000_000, "250ms"),
        ("90s", 90_000_000_000, "1m30s"),
        ("-2s", -2_000_000_000, "-2s"),
        ("1us", 1000, "1µs"),
    ],
)
def test_durations_are_gos(text: str, nanoseconds: int, printed: str) -> None:
    assert duration_ns(text) == nanoseconds
    assert duration(nanoseconds) == printed


@pytest.mark.parametrize("text", ["x", "1", "", "1x", "s", "9999999999999999999h", "1s 2s"])
def test_what_is_no_duration_is_refused(text: str) -> None:
    with pytest.raises(RefusalError, match=r"^time: "):
        duration_ns(text)
