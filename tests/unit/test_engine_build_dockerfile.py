"""Dockerfiles: what is in them, and Docker's sentences about wrong ones (as Docker Engine 20.10 gave them)."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dockerlab.engine.build.dockerfile import parse
from dockerlab.engine.build.instructions import parse_one
from dockerlab.engine.refusals import RefusalError

TWO_NEEDED = "requires at least two arguments, but only one was provided. Destination could not be determined"


def instructions(text: str) -> list[tuple[str, tuple[str, ...], bool]]:
    return [(one.keyword, one.args, one.exec_form) for stage in parse(text.encode()).stages for one in stage.steps]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "the Dockerfile (Dockerfile) cannot be empty"),
        ("\n# c\n", "failed to parse Dockerfile: file with no instructions"),
        ("FOO x", "dockerfile parse error line 1: unknown instruction: FOO"),
        ("RUN x", "no build stage in current context"),
        ("ENV a=1\nFROM a", "no build stage in current context"),
        ("FROM", "dockerfile parse error line 1: FROM requires either one or three arguments"),
        ("FROM a as", "dockerfile parse error line 1: FROM requires either one or three arguments"),
        (
            "FROM a AS 1x",
            'dockerfile parse error line 1: invalid name for build stage: "1x", '
            "name can't start with a number or contain symbols",
        ),
        ("FROM --foo=1 a", "dockerfile parse error line 1: Unknown flag: foo"),
        ("FROM --platform a", "dockerfile parse error line 1: Missing a value on flag: platform"),
        ("# escape=x\nFROM a", "failed to parse Dockerfile: invalid escape token 'x' does not match ` or \\"),
        ("# escape=`\n# escape=`\nFROM a", "failed to parse Dockerfile: only one escape parser directive can be used"),
        (
            "FROM a\nENV " + "a" * 70000,
            "failed to parse Dockerfile: dockerfile line greater than max allowed size of 65535",
        ),
    ],
)
def test_a_file_that_is_wrong(text: str, message: str) -> None:
    with pytest.raises(RefusalError) as caught:
        parse(text.encode())
    assert (caught.value.status, caught.value.message) == (400, message)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("FOO a b", "unknown instruction: FOO"),
        ("COMMENT a b", "unknown instruction: COMMENT"),
        ("RUN\u00a0x", "unknown instruction: RUN\u00a0X"),
        ("\ttab x", "unknown instruction: TAB"),
        ("RUN --foo true", "Unknown flag: foo"),
        ("COPY", f"COPY {TWO_NEEDED}"),
        ("COPY a", f"COPY {TWO_NEEDED}"),
        ('COPY ["a"]', f"COPY {TWO_NEEDED}"),
        ("ADD a", f"ADD {TWO_NEEDED}"),
        ("COPY --chown a b c", "Missing a value on flag: chown"),
        ("COPY --chown=1 --chown=2 a b", "Duplicate flag specified: chown"),
        ("COPY --link a b", "Unknown flag: link"),
        ("ENV", "ENV requires at least one argument"),
        ("ENV =1", "ENV names can not be blank"),
        ("ENV a=1 =b", "ENV names can not be blank"),
        ("LABEL =x", "LABEL names can not be blank"),
        ("ARG", "ARG requires at least one argument"),
        ("ARG a=1 =2", "ARG names can not be blank"),
        ("WORKDIR", "WORKDIR requires exactly one argument"),
        ("USER", "USER requires exactly one argument"),
        ("MAINTAINER", "MAINTAINER requires exactly one argument"),
        ("STOPSIGNAL", "STOPSIGNAL requires exactly one argument"),
        ("EXPOSE", "EXPOSE requires at least one argument"),
        ("VOLUME []", "VOLUME requires at least one argument"),
        ('VOLUME [""]', "VOLUME specified can not be an empty string"),
        ("HEALTHCHECK", "HEALTHCHECK requires at least one argument"),
        ("HEALTHCHECK FOO", 'Unknown type "FOO" in HEALTHCHECK (try CMD)'),
        ("HEALTHCHECK CMD", "Missing command after HEALTHCHECK CMD"),
        ("HEALTHCHECK NONE x", "HEALTHCHECK NONE takes no arguments"),
        ("HEALTHCHECK --interval=x CMD a", 'time: invalid duration "x"'),
        ("HEALTHCHECK --interval=0.1ms CMD a", 'Interval "interval" cannot be less than 1ms'),
        ("HEALTHCHECK --retries=x CMD a", 'strconv.ParseInt: parsing "x": invalid syntax'),
        ("HEALTHCHECK --retries=-1 CMD a", "--retries must be at least 1 (not -1)"),
        ("SHELL []", "SHELL requires at least one argument"),
        ("SHELL /bin/sh", "SHELL requires the arguments to be in JSON form"),
        ("ONBUILD", "ONBUILD requires at least one argument"),
        ("ONBUILD FROM a", "FROM isn't allowed as an ONBUILD trigger"),
        ("ONBUILD ONBUILD RUN a", "Chaining ONBUILD via `ONBUILD ONBUILD` isn't allowed"),
    ],
)
def test_an_instruction_that_is_wrong_has_its_line(line: str, message: str) -> None:
    with pytest.raises(RefusalError) as caught:
        parse(f"FROM a\n{line}\n".encode())
    assert caught.value.message == f"dockerfile parse error line 2: {message}"


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("ENV a", "ENV must have two arguments"),
        ("ENV a=1 b", 'Syntax error - can\'t find = in "b". Must be of the form: name=value'),
        ("LABEL a", "LABEL must have two arguments"),
        ("CMD [1]", "when using JSON array syntax, arrays must be comprised of strings only"),
        ("ONBUILD ENV a", "ENV must have two arguments"),
    ],
)
def test_words_that_do_not_divide(line: str, message: str) -> None:
    with pytest.raises(RefusalError) as caught:
        parse(f"FROM a\n{line}\n".encode())
    assert caught.value.message == f"failed to parse Dockerfile: {message}"


@pytest.mark.parametrize("line", ["RUN <<EOF\necho a\nEOF", "COPY <<'END' /a\nhi\nEND", "RUN cat <<-X > /y\n\tz\n\tX"])
def test_heredocs_are_refused_with_a_way_out(line: str) -> None:
    with pytest.raises(RefusalError, match=r"^dockerfile parse error line 2: heredocs .* need BuildKit.*&&"):
        parse(f"FROM a\n{line}\n".encode())


def test_a_shift_is_no_heredoc() -> None:
    assert instructions("FROM a\nRUN echo $(( 1 <<X ))") == [("RUN", ("echo $(( 1 <<X ))",), False)]


def test_long_ones_and_impossible_characters_are_refused_at_once() -> None:
    for text in (
        "ENV a=" + ("x" * 60_000 + "\\\n") * 3,
        "ONBUILD " * 8000,
        "HEALTHCHECK --interval=" + "1" * 60_000 + " CMD x",
        'RUN ["a\\u0000"]',
        'CMD ["\\ud800"]',
    ):
        with pytest.raises(RefusalError, match=r"^dockerfile parse error line 2: "):
            parse(f"FROM a\n{text}\n".encode())


def test_forms_of_instructions() -> None:
    text = """
    FROM a
    RUN echo "a  b" && \\
        # a comment in between
        true
    RUN ["a", "b c"]
    CMD ['not', 'json']
    ENV A=1 B="x y" C=a\\ b
    ENV OLD the whole  rest
    COPY --from=x "q" y z
    EXPOSE 80 90
    HEALTHCHECK --retries=2 cmd wget  x
    run lower
    """
    assert instructions(text) == [
        ("RUN", ('echo "a  b" &&         true',), False),
        ("RUN", ("a", "b c"), True),
        ("CMD", ("['not', 'json']",), False),
        ("ENV", ("A", "1", "B", '"x y"', "C", "a\\ b"), False),
        ("ENV", ("OLD", "the whole  rest"), False),
        ("COPY", ('"q"', "y", "z"), False),
        ("EXPOSE", ("80", "90"), False),
        ("HEALTHCHECK", ("CMD", "wget  x"), False),
        ("RUN", ("lower",), False),
    ]


def test_the_escape_character_can_be_a_backtick() -> None:
    file = parse(b"# syntax=x\n# escape=`\nFROM a\nRUN x `\n  y \\\nCMD z")
    assert file.escape == "`"
    assert [one.args for one in file.stages[0].steps] == [("x   y \\",), ("z",)]


def test_windows_line_ends_and_a_byte_order_mark() -> None:
    assert instructions("\ufeffFROM a\r\nRUN x \\\r\n y\r\n") == [("RUN", ("x  y",), False)]


def test_an_empty_line_in_a_continuation_is_warned_of() -> None:
    file = parse(b"FROM a\nRUN x \\\n\n y\n")
    assert file.stages[0].steps[0].args == ("x  y",)
    assert file.warnings == ("[WARNING]: Empty continuation line found in:\n    RUN x  y",)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("RUN\\\n x", [("RUN", ("x",), False)]),
        ("RU\\\n# c\n\nN x", [("RUN", ("x",), False)]),
        ("RUN x \\", [("RUN", ("x",), False)]),
        ("RUN x \\\n\n", [("RUN", ("x",), False)]),
        ("\\\nRUN x\n\\\n", [("RUN", ("x",), False)]),
        ("RUN  x   \\\n\ty  ", [("RUN", ("x   \ty",), False)]),
    ],
)
def test_lines_are_joined_as_docker_joins_them(text: str, expected: list[tuple[str, tuple[str, ...], bool]]) -> None:
    assert instructions(f"FROM a\n{text}") == expected


def test_a_file_of_too_many_lines() -> None:
    with pytest.raises(RefusalError, match="at most 10000 lines are taken"):
        parse(b"FROM a\n" + b"#\n" * 10_000)


def test_stages() -> None:
    file = parse(b"ARG V=1\nFROM a:$V AS One\nRUN x\nFROM --platform=linux/amd64 b\nRUN y\nRUN z")
    assert [one.args for one in file.globals] == [("V=1",)]
    assert [(stage.base, stage.name, len(stage.steps)) for stage in file.stages] == [("a:$V", "one", 1), ("b", "", 2)]
    assert file.step_count == 6
    assert file.stages[1].origin.flags == {"platform": "linux/amd64"}
    assert len(file.up_to("ONE").stages) == len(file.up_to("0").stages) == 1
    assert len(file.up_to("").stages) == 2
    with pytest.raises(RefusalError, match=r"^failed to reach build target zzz in Dockerfile$"):
        file.up_to("zzz")


def test_one_instruction_by_itself() -> None:
    assert parse_one("CMD x").args == ("x",)
    with pytest.raises(RefusalError, match=r"^unknown instruction: FOO$"):
        parse_one("FOO")


@given(st.text(alphabet=st.sampled_from("FROMaRUN ENVCOPY=\n\\\"'$[]{}#-,<1 \t"), max_size=80))
def test_no_text_brings_it_down(text: str) -> None:
    for beginning in ("", "FROM a\n", "FROM a\nENV ", "FROM a\nCOPY ", "FROM a\nHEALTHCHECK "):
        with contextlib.suppress(RefusalError):
            parse((beginning + text).encode())
