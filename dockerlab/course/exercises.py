"""Exercises of the course: what is asked, hints, and a check of what is really there."""

from __future__ import annotations

import html
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from dockerlab.course.checks import CHECKS, Fact
from dockerlab.course.words import words
from dockerlab.errors import BadInputError

if TYPE_CHECKING:
    from dockerlab.lab import Lab
    from dockerlab.traffic.results import Results


@dataclass(frozen=True)
class Finding:
    """One thing that a check looked at.

    Parameters
    ----------
    key : str
        What was looked at, in one word.
    ok : bool
        Whether it is as the exercise asks.
    text : str
        A sentence about what was found; where it is not right, with what to do.
    """

    key: str
    ok: bool
    text: str


@dataclass(frozen=True, repr=False)
class Check:
    """What a check found.

    Parameters
    ----------
    verdict : str
        The result in one sentence.
    findings : tuple of Finding
        In the order in which they were looked at. A check stops where the rest would make no sense.
    done, to_do : str
        The words for a finding that is right and for one that is not.
    """

    verdict: str
    findings: tuple[Finding, ...]
    done: str = "ok"
    to_do: str = "not yet"

    @property
    def passed(self) -> bool:
        """Whether the exercise is solved."""
        return bool(self.findings) and all(finding.ok for finding in self.findings)

    def __str__(self) -> str:
        width = max(len(self.done), len(self.to_do)) + 3
        rows = [f"{'[' + self._word(finding) + ']':<{width}}{finding.text}" for finding in self.findings]
        return "\n".join([self.verdict, *rows])

    __repr__ = __str__

    def _repr_html_(self) -> str:
        rows = "".join(
            f'<tr><td style="text-align:left;white-space:nowrap">{"&#10003;" if finding.ok else "&#10007;"} '
            f'{html.escape(self._word(finding))}</td><td style="text-align:left">{_marked(finding.text)}</td></tr>'
            for finding in self.findings
        )
        return f"<div><p><b>{html.escape(self.verdict)}</b></p><table><tbody>{rows}</tbody></table></div>"

    def _word(self, finding: Finding) -> str:
        return self.done if finding.ok else self.to_do


@dataclass(frozen=True, repr=False)
class Hint:
    """The hints that were given so far, the newest last.

    Parameters
    ----------
    lines : tuple of str
        One hint each, with its number.
    """

    lines: tuple[str, ...]

    def __str__(self) -> str:
        return "\n".join(self.lines)

    __repr__ = __str__

    def _repr_html_(self) -> str:
        return "".join(f"<p>{_marked(line)}</p>" for line in self.lines)


class Exercise:
    """One exercise in one lab. Made by :func:`exercise`; shows its task in a notebook.

    Examples
    --------
    >>> task = exercise("first_service", lab)  # doctest: +SKIP
    >>> task.hint()  # doctest: +SKIP
    >>> task.check().passed  # doctest: +SKIP
    True
    """

    def __init__(self, name: str, lab: Lab, *, language: str = "en") -> None:
        self.name = name
        self._lab = lab
        self._common: Mapping[str, Any] = words(language)["exercise"]
        self._texts: Mapping[str, Any] = words(language)["exercises"][name]
        self._given = 0

    @property
    def title(self) -> str:
        """A few words."""
        return str(self._texts["title"])

    @property
    def task(self) -> str:
        """What to do."""
        return str(self._texts["task"]).format(lab=self._lab.name)

    def check(self, results: Results | None = None) -> Check:
        """Look at what is really there: containers, images, the router. Changes nothing and raises nothing.

        Parameters
        ----------
        results : Results, optional
            Of a load, for exercises that ask for one.

        Returns
        -------
        Check
        """
        findings: list[Finding] = []
        try:
            findings.extend(self._finding(fact) for fact in CHECKS[self.name](self._lab, results))
        except Exception as error:  # noqa: BLE001 - whatever a learner did, the check only tells
            text = str(self._common["trouble"]).format(error=getattr(error, "message", None) or repr(error))
            findings.append(Finding("trouble", ok=False, text=text))
        missing = sum(not finding.ok for finding in findings)
        verdict = self._common["passed" if findings and not missing else "not_passed"]
        return Check(
            str(verdict).format(title=self.title), tuple(findings), self._common["done"], self._common["to_do"]
        )

    def hint(self) -> Hint:
        """Give one more hint each time, and the last ones again when there are no more."""
        hints = [str(hint).format(lab=self._lab.name) for hint in self._texts["hints"]]
        self._given = min(self._given + 1, len(hints) + 1)
        lines = [
            str(self._common["hint"]).format(number=number, total=len(hints), text=text)
            for number, text in enumerate(hints[: self._given], 1)
        ]
        return Hint((*lines, str(self._common["no_more"])) if self._given > len(hints) else tuple(lines))

    def _finding(self, fact: Fact) -> Finding:
        text = self._texts["findings"][fact.key]["ok" if fact.ok else "not_ok"]
        return Finding(fact.key, fact.ok, str(text).format(lab=self._lab.name, **fact.values))

    def __str__(self) -> str:
        return f"{self._common['heading'].format(title=self.title)}\n{self.task}"

    __repr__ = __str__

    def _repr_html_(self) -> str:
        heading = html.escape(self._common["heading"].format(title=self.title))
        return f"<div><p><b>{heading}</b></p><p>{_marked(self.task)}</p></div>"


def exercise(name: str, lab: Lab, *, language: str = "en") -> Exercise:
    """Give an exercise of the course.

    Parameters
    ----------
    name : str
        Such as ``"first_service"``.
    lab : Lab
        The lab in which it is to be solved; nothing outside it is looked at.
    language : str
        Of the texts.

    Returns
    -------
    Exercise

    Raises
    ------
    BadInputError
        Where there is no such exercise or language.
    """
    if name not in CHECKS:
        raise BadInputError(f"There is no exercise {name!r}.", f"Choose one of: {', '.join(sorted(CHECKS))}.")
    return Exercise(name, lab, language=language)


def _marked(text: str) -> str:
    """Escape a text, and show what stands in backticks as code."""
    return re.sub(r"`([^`]+)`", r"<code>\1</code>", html.escape(text, quote=False))
