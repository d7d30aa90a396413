"""A fleet as plain HTML that needs neither a kernel nor JavaScript: for headless runs and viewers of notebooks."""

from __future__ import annotations

from dockerlab.fleet.model import FleetStatus
from dockerlab.widgets import words
from dockerlab.widgets.words import text

_COLUMNS = ("replica", "image", "revision", "container", "condition", "traffic")
_NOTE = "margin:.2em 0;white-space:pre-line"


def summary_html(status: FleetStatus | None, *, lost: str = "", error: str = "", mark: str = "") -> str:
    """Show a fleet as a status line and a table.

    Parameters
    ----------
    status : FleetStatus or None
    lost, error : str
        Why the fleet cannot be looked at, and why the last order failed.
    mark : str
        A CSS class, by which a live panel hides the summary.

    Returns
    -------
    str
        The same text as long as no replica changes: requests in hand and ages are left out.
    """
    problems = "".join(f'<p style="{_NOTE}"><b>✕</b> {text(problem)}</p>' for problem in (lost, error) if problem)
    return f'<div class="dockerlab-summary {text(mark)}">{_fleet(status, stale=bool(lost))}{problems}</div>'


def summary_text(status: FleetStatus | None, *, lost: str = "", error: str = "") -> str:
    """Say the same in plain text."""
    lines = [] if lost or status is None else [str(status)]
    return "\n".join([*lines, *(problem for problem in (lost, error) if problem)])


def _fleet(status: FleetStatus | None, *, stale: bool) -> str:
    if status is None:
        return ""
    sign, phase = words.PHASES.get(status.phase, ("?", status.phase))
    line = (
        f'<p style="{_NOTE}"><b>{text(status.name)}</b>: {sign} {text(phase)}, {text(words.headline(status))}, '
        f'<code>{text(status.image)}</code> at <a href="{text(status.url)}">{text(status.url)}</a></p>'
    )
    if stale:
        line = f'<p style="{_NOTE}">{words.LAST_SEEN}</p>{line}'
    if not status.replicas:
        return f'{line}<p style="{_NOTE}">{words.NO_REPLICAS}</p>'
    head = "".join(f'<th scope="col">{name}</th>' for name in _COLUMNS)
    return f"{line}<table><thead><tr>{head}</tr></thead><tbody>{_rows(status)}</tbody></table>"


def _rows(status: FleetStatus) -> str:
    rows = []
    for replica in status.replicas:
        sign, condition = words.condition(replica)
        cells = (
            f"<code>{text(replica.name)}</code>",
            f"{words.SHAPES[words.hue(replica.revision)]} {text(replica.image)}",
            str(replica.revision),
            f"<code>{text(replica.id[:12])}</code>",
            f"{sign} {text(condition)}",
            text(words.traffic(replica)),
        )
        rows.append(f"<tr>{''.join(f'<td>{cell}</td>' for cell in cells)}</tr>")
    return "".join(rows)
