"""What a search for functions found, in a shape that prints."""

from __future__ import annotations

import typing as t

_COLUMNS = ("function_name", "function_uuid", "description")
_WIDEST = 48


class FunctionSearchResults(t.List[t.Dict[str, t.Any]]):
    """One page of functions, best match first, each a dict; it knows where in all of them it stands, and prints as a table."""

    def __init__(self, functions: t.Iterable[dict[str, t.Any]], *, offset: int, total: int) -> None:
        super().__init__(functions)
        self.offset = offset
        self.total = total

    @property
    def has_next_page(self) -> bool:
        """Whether there are more after this page."""
        return self.offset + len(self) < self.total

    def __str__(self) -> str:
        if not self:
            return "[]"
        rows = [_COLUMNS, *(tuple(_cell(function.get(name)) for name in _COLUMNS) for function in self)]
        widths = [max(len(row[index]) for row in rows) for index in range(len(_COLUMNS))]
        lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths)).rstrip() for row in rows]
        first, last = self.offset + 1, self.offset + len(self)
        return "\n".join([*lines, f"{first} to {last} of {self.total}"])


def _cell(value: t.Any) -> str:
    text = " ".join(str(value or "").split())
    return text if len(text) <= _WIDEST else f"{text[: _WIDEST - 1]}…"
