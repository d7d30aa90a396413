"""What a script came to on each of several servers; pure."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from html import escape


@dataclass(frozen=True)
class ScriptResult:
    """What a script came to on one server.

    Parameters
    ----------
    server : str
    exit_code : int or None
        0 means that the script's last command succeeded; None that it still ran when the time was over.
    output : str
        What it printed, errors included; where the script could not be started, why.
    seconds : float
        How long it ran.
    """

    server: str
    exit_code: int | None
    output: str
    seconds: float

    @property
    def ok(self) -> bool:
        """Whether the exit code says success."""
        return self.exit_code == 0


@dataclass(frozen=True, repr=False)
class ScriptResults:
    """What a script came to on each server; shows itself as a table.

    Parameters
    ----------
    rows : tuple of ScriptResult
        In the order of the servers.
    seconds : float
        From the first start to the last end; several servers work at the same time.
    """

    rows: tuple[ScriptResult, ...]
    seconds: float

    @property
    def failed(self) -> tuple[ScriptResult, ...]:
        """Those whose exit code is not 0."""
        return tuple(row for row in self.rows if not row.ok)

    @property
    def title(self) -> str:
        """The result in one line."""
        return f"{len(self.rows)} ran, {len(self.failed)} failed, {self.seconds:.1f} s"

    def __len__(self) -> int:
        return len(self.rows)

    def __iter__(self) -> Iterator[ScriptResult]:
        return iter(self.rows)

    def __getitem__(self, index: int) -> ScriptResult:
        return self.rows[index]

    def __str__(self) -> str:
        wide = max((len(row.server) for row in self.rows), default=0)
        lines = [f"{row.server:<{wide}}  {_code(row):>9}  {row.seconds:>6.2f} s  {_last(row)}" for row in self.rows]
        return "\n".join([self.title, *(line.rstrip() for line in lines)])

    __repr__ = __str__

    def _repr_html_(self) -> str:
        left = 'style="text-align:left"'
        rows = "".join(
            f"<tr><td {left}>{escape(row.server)}</td><td>{_code(row)}</td><td>{row.seconds:.2f}</td>"
            f"<td {left}>{escape(_last(row))}</td></tr>"
            for row in self.rows
        )
        head = f"<th {left}>server</th><th>exit code</th><th>seconds</th><th {left}>last line</th>"
        return (
            f"<table><caption>{escape(self.title)}</caption><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>"
        )


def _code(row: ScriptResult) -> str:
    return "-" if row.exit_code is None else str(row.exit_code)


def _last(row: ScriptResult) -> str:
    lines = row.output.strip().splitlines()
    return lines[-1] if lines else ""
