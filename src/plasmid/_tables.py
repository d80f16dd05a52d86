"""Tables for people: rich's on a terminal where it is installed, else columns of plain text.

Plain text is not cut to a width, so it can be searched by other programs.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Sequence

Row = Sequence[str]


def as_text(columns: Sequence[str], rows: Sequence[Row]) -> str:
    """Lines of columns as wide as what is in them. Those whose name begins with ">" are aligned to
    the right."""
    lines = [[column.lstrip(">") for column in columns], *rows]
    widths = [max(map(len, cells)) for cells in zip(*lines, strict=True)]
    aligned = [
        "  ".join(
            cell.rjust(width) if column.startswith(">") else cell.ljust(width)
            for column, cell, width in zip(columns, line, widths, strict=True)
        ).rstrip()
        for line in lines
    ]
    return "\n".join(aligned)


def show(columns: Sequence[str], rows: Sequence[Row]) -> None:
    """Print the table."""
    if sys.stdout.isatty():
        try:
            _show_rich(columns, rows)
        except ImportError:
            pass
        else:
            return
    print(as_text(columns, rows))


def _show_rich(columns: Sequence[str], rows: Sequence[Row]) -> None:
    text = importlib.import_module("rich.text").Text  # which takes no brackets for its markup
    table = importlib.import_module("rich.table").Table(box=None, pad_edge=False)
    for column in columns:
        right = column.startswith(">")
        table.add_column(
            text(column.lstrip(">")), justify="right" if right else "left", overflow="fold"
        )
    for row in rows:
        table.add_row(*map(text, row))
    importlib.import_module("rich.console").Console().print(table)
