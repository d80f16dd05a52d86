"""Where progress bars are drawn: beneath each other, and beneath what is printed.

On a terminal, and with the library `tqdm`, each bar has its row there as long as it is open; its
last state then goes to the text above. Elsewhere a bar is a line of text from time to time, and one
at its end. Both on sys.stderr.
"""

from __future__ import annotations

import builtins
import importlib
import os
import sys
import threading
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from itertools import count
from typing import Any

LINE_SECONDS = 5.0
"""Between the lines of a bar that is no more than text."""


class Bar:
    """The state of a bar. `key`: which bar it is; the first part says whose, None for this
    program's. `prefix`: whose, for people."""

    __slots__ = ("description", "is_closed", "key", "n", "position", "prefix", "total", "unit")

    def __init__(
        self,
        key: tuple[object, ...],
        n: float,
        total: float | None,
        description: str,
        unit: str,
        position: int,
        is_closed: bool,
    ) -> None:
        self.key = key
        self.n = n
        self.total = total
        self.description = description
        self.unit = unit
        self.position = position
        self.is_closed = is_closed
        self.prefix = ""

    @property
    def label(self) -> str:
        return f"{self.prefix}{self.description}"


class Board:
    """The bars of this process and of the tasks whose output it shows.

    Processes and threads: any thread may call it; who draws has its lock, and waits as long as the
    terminal does. What goes wrong in drawing is not told to anybody. A forked child has a board of
    its own.
    """

    def __init__(self) -> None:
        self.pid = os.getpid()
        self._lock = threading.RLock()
        self._busy = False
        self._rows: dict[object, _Drawn | _Text] = {}
        self._abandoned: deque[Bar] = deque()

    def show(self, bar: Bar) -> None:
        """Draw a bar that is new, or has changed, or is closed."""
        with self._at_work() as free, suppress(Exception):
            if free:
                self._show(bar)

    def abandon(self, bar: Bar) -> None:
        """Close a bar, from a finalizer, which may run wherever memory is allocated: at once if
        nobody is drawing, else when that is done."""
        self._abandoned.append(bar)
        if self._lock.acquire(blocking=False):
            try:
                with self._at_work():
                    pass
            finally:
                self._lock.release()

    def forget(self, owner: object) -> None:
        """Close the bars of a process that is gone, as they are."""
        with self._at_work() as free, suppress(Exception):
            for key, row in list(self._rows.items()) if free else ():
                if row.bar.key[0] is owner:
                    self._close(key)

    @contextmanager
    def aside(self, stream: Any) -> Iterator[None]:
        """No bar is in the way of what is written to `stream` meanwhile."""
        with self._at_work() as free:
            hidden = self._hide(stream) if free else None
            try:
                yield
            finally:
                if hidden is not None:
                    with suppress(Exception):
                        hidden.__exit__(None, None, None)

    def hide_bars(self) -> None:
        """Clear the rows of all bars."""
        self._on_each_row("clear")

    def unhide_bars(self) -> None:
        """Draw all bars again."""
        self._on_each_row("refresh")

    def _on_each_row(self, call: str) -> None:
        with self._at_work() as free, suppress(Exception):
            for row in self._drawn() if free else ():
                getattr(row.tqdm, call)()

    @contextmanager
    def _at_work(self) -> Iterator[bool]:
        """Yields False inside of itself: a finalizer, or a stream that prints, came in between."""
        with self._lock:
            if self._busy:
                yield False
                return
            self._busy = True
            try:
                yield True
            finally:
                while self._abandoned:
                    with suppress(Exception):
                        self._show(self._abandoned.popleft())
                self._busy = False

    def _show(self, bar: Bar) -> None:
        row = self._rows.get(bar.key)
        if row is None:
            if sys.stderr is None:
                return
            row = self._rows[bar.key] = _row(bar, sys.stderr)
            self._arrange()
        else:
            row.update(bar)
        if bar.is_closed:
            self._close(bar.key)

    def _close(self, key: object) -> None:
        try:
            self._rows.pop(key).close()
        finally:
            self._arrange()

    def _hide(self, stream: Any) -> Any:
        if self._drawn() and is_terminal(stream):
            with suppress(Exception):
                hidden = drawer().external_write_mode(file=stream)
                hidden.__enter__()
                return hidden
        return None

    def _drawn(self) -> list[_Drawn]:
        """Those with a row, in their order: by process, by the position the user gave, by age."""
        groups: dict[object, int] = {}
        for row in self._rows.values():
            groups.setdefault(row.bar.key[0], len(groups))
        drawn = [row for row in self._rows.values() if isinstance(row, _Drawn)]
        return sorted(drawn, key=lambda row: (groups[row.bar.key[0]], row.bar.position))

    def _arrange(self) -> None:
        """Give each bar its row, and leave those to others that tqdm has given them."""
        drawn = self._drawn()
        _guard_print(bool(drawn))
        if not drawn:
            return
        kind = drawer()
        with kind.external_write_mode(file=sys.stderr):
            bars = [bar for bar in list(kind._instances) if hasattr(bar, "pos")]
            taken = {abs(bar.pos) for bar in bars if type(bar) is not kind}
            for row, place in zip(drawn, (n for n in count() if n not in taken), strict=False):
                row.tqdm.pos = -place


class _Drawn:
    """A row of the terminal."""

    def __init__(self, bar: Bar, stream: Any) -> None:
        self.bar = bar
        self.tqdm = drawer()(
            desc=bar.label,
            total=bar.total,
            initial=bar.n,
            unit=bar.unit,
            file=stream,
            leave=False,
            dynamic_ncols=True,
        )

    def update(self, bar: Bar) -> None:
        self.bar = bar
        self.tqdm.n, self.tqdm.total, self.tqdm.unit = bar.n, bar.total, bar.unit
        self.tqdm.set_description(bar.label, refresh=False)
        self.tqdm.refresh()

    def close(self) -> None:
        stream = self.tqdm.fp
        with self.tqdm.external_write_mode(file=stream):
            last = str(self.tqdm)
            self.tqdm.close()
            stream.write(last.rstrip() + "\n")
            stream.flush()


class _Text:
    """Lines of text."""

    def __init__(self, bar: Bar, stream: Any) -> None:
        self.bar = bar
        self._stream = stream
        self._due = time.monotonic() + LINE_SECONDS

    def update(self, bar: Bar) -> None:
        self.bar = bar
        if time.monotonic() >= self._due and not bar.is_closed:
            self.close()

    def close(self) -> None:
        self._due = time.monotonic() + LINE_SECONDS
        bar = self.bar
        done = f"{bar.n} {bar.unit}" if bar.total is None else f"{bar.n} of {bar.total}"
        self._stream.write(f"{bar.prefix}{bar.description or bar.unit}: {done}\n")
        self._stream.flush()


def _row(bar: Bar, stream: Any) -> _Drawn | _Text:
    if is_terminal(stream):
        with suppress(ImportError):
            return _Drawn(bar, stream)
    return _Text(bar, stream)


def is_terminal(stream: Any) -> bool:
    try:
        return bool(stream.isatty())
    except (AttributeError, ValueError):
        return False


class _Kind:
    made: Any = None


def drawer() -> Any:
    """tqdm's class without its thread. ImportError where the library is not installed."""
    if _Kind.made is None:
        tqdm = importlib.import_module("tqdm").tqdm
        _Kind.made = type("Drawn", (tqdm,), {"monitor_interval": 0})
    return _Kind.made


# The program's own prints ------------------------------------------------------------------------

_print = builtins.print


def safe_print(*args: Any, **kwargs: Any) -> None:
    """print(), with no progress bar in the way."""
    stream = kwargs.get("file") or sys.stdout
    if stream is sys.stdout or stream is sys.stderr:
        with board().aside(stream):
            _print(*args, **kwargs)
    else:
        _print(*args, **kwargs)


def _guard_print(guard: bool) -> None:
    """While bars are drawn, the program's `print` is `safe_print`, as in Ray, unless it says
    RAY_TQDM_PATCH_PRINT=0 or has another in its place."""
    before, after = (_print, safe_print) if guard else (safe_print, _print)
    if builtins.print is before and os.environ.get("RAY_TQDM_PATCH_PRINT", "1") != "0":
        builtins.print = after


class _Present:
    board = Board()


def board() -> Board:
    """That of this process."""
    if _Present.board.pid != os.getpid():
        _Present.board = Board()
    return _Present.board
