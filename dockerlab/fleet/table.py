"""Logs that show themselves as a table, as text and in a notebook. Pure."""

from __future__ import annotations

from html import escape
from typing import ClassVar, TypeVar

T = TypeVar("T")


class Table(tuple[T, ...]):
    """A tuple that shows itself as a table. What the table is made of is said by each kind of it.

    Attributes
    ----------
    columns : tuple of str
        Their names.
    numbers : int
        So many columns from the left hold numbers, which are aligned to the right.
    nothing : str
        What an empty one says.
    """

    __slots__ = ()
    columns: ClassVar[tuple[str, ...]]
    numbers: ClassVar[int]
    nothing: ClassVar[str]

    def _rows(self) -> list[tuple[str, ...]]:
        raise NotImplementedError

    def _caption(self) -> str:
        return ""

    def __str__(self) -> str:
        if not self:
            return self.nothing
        rows = [self.columns, *self._rows()]
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        lines = [
            "  ".join(
                cell.rjust(width) if place < self.numbers else cell.ljust(width)
                for place, (cell, width) in enumerate(zip(row, widths, strict=True))
            ).rstrip()
            for row in rows
        ]
        caption = self._caption()
        return "\n".join([caption, *lines] if caption else lines)

    __repr__ = __str__

    def _repr_html_(self) -> str:
        if not self:
            return f"<p>{escape(self.nothing)}</p>"
        sides = ["right" if place < self.numbers else "left" for place in range(len(self.columns))]

        def line(kind: str, cells: tuple[str, ...]) -> str:
            pairs = zip(sides, cells, strict=True)
            end = kind.partition(" ")[0]
            inner = (f'<{kind} style="text-align:{side}">{escape(cell)}</{end}>' for side, cell in pairs)
            return f"<tr>{''.join(inner)}</tr>"

        head = line('th scope="col"', self.columns)
        body = "".join(line("td", row) for row in self._rows())
        caption = self._caption()
        title = f'<caption style="text-align:left">{escape(caption)}</caption>' if caption else ""
        return f"<table>{title}<thead>{head}</thead><tbody>{body}</tbody></table>"
