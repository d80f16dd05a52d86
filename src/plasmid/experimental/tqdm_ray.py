"""Progress bars that work from tasks, under the name that Ray has for them.

Bars of all tasks are drawn together on the driver's terminal, beneath what is printed; those of the
program itself, too. `pip install plasmid[progress]` brings the library that draws them; without it,
and where stderr is no terminal, a bar is a line of text from time to time.
"""

from __future__ import annotations

import os
import sys
import time
from contextlib import suppress

from plasmid.runtime import bars
from plasmid.runtime.board import Bar, Board, board, safe_print

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from types import TracebackType
    from typing import Any, Self

__all__ = ["instance", "safe_print", "tqdm"]

SECONDS_BETWEEN = 0.1
"""Between two states of a bar that are shown, unless it asks for more."""


class tqdm(bars.Source):
    """A bar: around an iterable, or with `update`.

    `for x in tqdm(items, desc="copy"): ...` or `with tqdm(total=100) as bar: ... bar.update(1)`.
    total: how much there is to do; by default len(iterable), None if that is not known. unit: what
    is counted ("it"). position: order among the bars of one process. flush_interval_s: seconds
    between two states that are shown, at least 0.1, which is the default; what is reached at
    close(), or when the task ends, is always shown.

    An update costs well below a microsecond, and ten times a second a write to a file. TypeError
    if `total` is no number.

    Processes and threads: use a bar in the process that has made it; its counter is not guarded
    against several threads at once. Nothing waits for the driver. A bar that is garbage, or whose
    process has died, is closed. With `log_to_driver=False` bars of tasks are not shown.
    """

    def __init__(
        self,
        iterable: Iterable[Any] | None = None,
        desc: str | None = None,
        total: float | None = None,
        unit: str | None = None,
        position: int | None = None,
        flush_interval_s: float | None = None,
    ) -> None:
        self.is_closed = True  # for __del__, should this raise
        if total is None and iterable is not None:
            try:
                total = len(iterable)  # type: ignore[arg-type]
            except (TypeError, AttributeError):
                total = None
        if total is not None and not hasattr(total, "__float__"):
            raise TypeError(f"tqdm: total must be a number, not {total!r}")
        self.n: float = 0
        self.total = total
        self._iterable = iterable
        self._desc = desc or ""
        self._unit = unit or "it"
        self._position = position or 0
        super().__init__(max(SECONDS_BETWEEN, flush_interval_s or 0.0))
        self.send(time.monotonic())

    def update(self, n: float = 1) -> None:
        """So much more is done."""
        self.n += n
        self.send(time.monotonic())

    def set_description(self, desc: str | None = None) -> None:
        """What stands before the bar."""
        self._desc = desc or ""
        self.send(time.monotonic())

    def refresh(self) -> None:
        """Show `n` and `total` as they were set."""
        self.send(time.monotonic())

    def send(self, now: float) -> None:
        if not self.is_closed:
            super().send(now)

    def state(self) -> Bar:
        key = (self.pid, self.serial)
        texts = str(self._desc), str(self._unit)
        return bars.make(key, self.n, self.total, *texts, self._position, self.is_closed)

    def __iter__(self) -> Iterator[Any]:
        if self._iterable is None:
            raise ValueError("this bar was made without an iterable")
        try:
            for item in self._iterable:
                yield item
                self.update()
        finally:
            self.close()

    def __len__(self) -> int:
        if self.total is None:
            raise TypeError("the total of this bar is not known")
        return int(self.total)

    def __bool__(self) -> bool:
        return True

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def __del__(self) -> None:
        if self.is_closed or sys.is_finalizing() or self.pid != os.getpid():
            return
        self.is_closed = True
        with suppress(Exception):  # numbers that are none
            bars.abandon(self.state())


def instance() -> Board:
    """The board that draws the bars of this process, and in the driver those of tasks."""
    return board()
