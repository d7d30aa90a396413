"""Variables and quotes in the words of a Dockerfile: ``$VAR``, ``${VAR:-x}``, ``'...'``, ``"..."``."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from dockerlab.engine.build.golang import quoted
from dockerlab.engine.refusals import RefusalError, bad

DEPTH_LIMIT = 50
SIZE_LIMIT = 1 << 20  # a few lines of ENV A=$A$A would else grow without end
_SPECIAL = "@*#?-$!0"


def expand(word: str, variables: Mapping[str, str], escape: str = "\\") -> str:
    """Expand one word.

    Parameters
    ----------
    word : str
        As in the Dockerfile.
    variables : mapping of str to str
    escape : str
        The Dockerfile's escape character.

    Returns
    -------
    str
        Without quotes, variables replaced; one that is not set is empty.

    Raises
    ------
    RefusalError
        400, in Docker's words.

    Examples
    --------
    >>> expand("'$A' ${A:-none} ${B:-none}", {"A": "1"})
    '$A 1 none'
    """
    return "".join(text for text, _ in _Reader(word, variables, escape).run())


def expand_list(word: str, variables: Mapping[str, str], escape: str = "\\") -> list[str]:
    """Expand a word that may become several: a space that comes from a variable divides too."""
    words: list[str] = []
    current, open_ = "", False
    for text, may_divide in _Reader(word, variables, escape).run():
        if not may_divide:
            current, open_ = current + text, True
            continue
        for letter in text:
            if letter.isspace():
                if open_:
                    words.append(current)
                current, open_ = "", False
            else:
                current, open_ = current + letter, True
    return [*words, current] if open_ else words


class _Reader:
    """Reads one word and gives pieces: a text, and whether spaces in it divide words."""

    def __init__(self, word: str, variables: Mapping[str, str], escape: str) -> None:
        self._word = word
        self._variables = variables
        self._escape = escape
        self._position = 0
        self._depth = 0
        self._size = 0

    def run(self) -> list[tuple[str, bool]]:
        try:
            return self._until("")
        except RefusalError as error:
            raise bad(f"failed to process {quoted(self._word[:200])}: {error.message}") from error

    def _peek(self) -> str:
        return self._word[self._position : self._position + 1]

    def _next(self) -> str:
        letter = self._peek()
        self._position += len(letter)
        return letter

    def _until(self, stop: str) -> list[tuple[str, bool]]:
        pieces: list[tuple[str, bool]] = []
        readers: dict[str, Callable[[], str]] = {"'": self._single, '"': self._double, "$": self._dollar}
        while letter := self._peek():
            if letter == stop:
                self._next()
                return pieces
            if letter in readers:
                pieces.append((self._bounded(readers[letter]()), letter == "$"))
                continue
            self._next()
            if letter == self._escape:
                letter = self._next()
                if not letter:
                    break
                pieces.append((letter, False))
            else:
                pieces.append((letter, True))
        if stop:
            raise bad(f"unexpected end of statement while looking for matching {stop}")
        return pieces

    def _bounded(self, text: str) -> str:
        self._size += len(text)
        if self._size > SIZE_LIMIT:
            raise bad(f"the value is too large: at most {SIZE_LIMIT} characters are taken")
        return text

    def _single(self) -> str:
        self._next()
        end = self._word.find("'", self._position)
        if end < 0:
            raise bad("unexpected end of statement while looking for matching single-quote")
        text = self._word[self._position : end]
        self._position = end + 1
        return text

    def _double(self) -> str:
        self._next()
        out: list[str] = []
        while letter := self._peek():
            if letter == '"':
                self._next()
                return "".join(out)
            if letter == "$":
                out.append(self._bounded(self._dollar()))
                continue
            self._next()
            if letter == self._escape:
                following = self._peek()
                if not following:
                    continue
                if following in ('"', "$", self._escape):
                    letter = self._next()
            out.append(letter)
        raise bad("unexpected end of statement while looking for matching double-quote")

    def _dollar(self) -> str:
        self._next()
        if self._peek() != "{":
            name = self._name()
            return self._variables.get(name, "") if name else "$"
        self._next()
        if not self._peek():
            raise bad("syntax error: missing '}'")
        if self._peek() in "{}:":
            raise bad("syntax error: bad substitution")
        name = self._name()
        mark = self._next()
        if mark == "}":
            return self._variables.get(name, "")
        empty_counts = mark == ":"
        if empty_counts:
            mark = self._next()
            if mark not in ("+", "-", "?"):
                raise bad(f"unsupported modifier ({mark}) in substitution")
        elif mark not in ("+", "-", "?") or not mark:
            raise bad("missing ':' in substitution")
        return self._modified(name, mark, self._alternative(), empty_counts=empty_counts)

    def _alternative(self) -> str:
        self._depth += 1
        if self._depth > DEPTH_LIMIT:
            raise bad("too many substitutions in each other")
        try:
            return "".join(text for text, _ in self._until("}"))
        except RefusalError as error:
            if "looking for matching }" in error.message:
                raise bad("syntax error: missing '}'") from error
            raise
        finally:
            self._depth -= 1

    def _modified(self, name: str, mark: str, word: str, *, empty_counts: bool) -> str:
        value = self._variables.get(name)
        there = bool(value) if empty_counts else value is not None
        if mark == "+":
            return word if there else ""
        if there:
            return value or ""
        if mark == "-":
            return word
        reason = "is not allowed to be unset" if value is None else "is not allowed to be empty"
        raise bad(f"{name}: {word or reason}")

    def _name(self) -> str:
        first = self._peek()
        start = self._position
        if first.isdigit():
            while self._peek().isdigit():
                self._next()
        elif first and first in _SPECIAL:
            self._next()
        else:
            while _in_name(self._peek()):
                self._next()
        return self._word[start : self._position]


def _in_name(letter: str) -> bool:
    return letter == "_" or letter.isalnum()
