"""Progress bars on their way: from the task or program that has one to the board that draws it.

In the driver, and in other programs, that is a call. A worker writes the bar's state into its
output, see `output`, and the driver's log thread finds it there.
"""

from __future__ import annotations

import json
import math
import os
from contextlib import suppress
from itertools import count
from typing import ClassVar
from weakref import WeakValueDictionary

from plasmid.runtime import output
from plasmid.runtime.board import Bar, board

_DESCRIPTION, _UNIT = 200, 20  # characters shown, so that a state is shorter than LONGEST_MARK


class Source:
    """The end of a bar that makes progress.

    Sends no more often than every `interval` seconds; `send_rest` makes up for what was left out.
    """

    serials = count()
    alive: ClassVar[WeakValueDictionary[int, Source]] = WeakValueDictionary()
    """Those of this process that are not closed."""
    has_been: ClassVar[bool] = False
    """Whether this process ever had one."""

    def __init__(self, interval: float) -> None:
        self.pid = os.getpid()
        self.serial = next(Source.serials)
        self.is_closed = False
        self._interval = interval
        self._due = 0.0
        self._is_behind = False
        Source.alive[self.serial] = self
        Source.has_been = True

    def state(self) -> Bar:
        raise NotImplementedError

    def send(self, now: float) -> None:
        """`now`: by the monotonic clock."""
        if now < self._due:
            self._is_behind = True
        else:
            self._due = now + self._interval
            self._is_behind = False
            send(self.state())

    def send_rest(self) -> None:
        """The present state, unless it is known already."""
        if self._is_behind:
            self._is_behind = False
            send(self.state())

    def close(self) -> None:
        """Its last state is shown, and stays. A fork's copy closes nothing."""
        if not self.is_closed and self.pid == os.getpid():
            self.is_closed = True
            Source.alive.pop(self.serial, None)
            send(self.state())


def send_rest() -> None:
    """A task has ended: show what its bars have reached, though it was not their turn."""
    if not Source.has_been:
        return
    for ref in Source.alive.valuerefs():
        source = ref()
        if source is not None:
            with suppress(Exception):  # the user's numbers
                source.send_rest()


def send(bar: Bar) -> None:
    if not output.is_worker():
        board().show(bar)
        return
    state = (*bar.key, bar.n, bar.total, bar.description, bar.unit, bar.position, bar.is_closed)
    output.write_bar(json.dumps(state).encode())


def abandon(bar: Bar) -> None:
    """The same for one that is closed because nobody has it any more: may be called at any point of
    any thread, in the middle of drawing, too."""
    if output.is_worker():
        send(bar)
    else:
        board().abandon(bar)


def make(
    key: tuple[object, ...],
    n: float,
    total: float | None,
    description: str,
    unit: str,
    position: int,
    is_closed: bool,
) -> Bar:
    """A state that can be sent and drawn, whatever the numbers and texts."""
    line = " ".join(description[:_DESCRIPTION].replace("\0", " ").splitlines())
    return Bar(
        key,
        _number(n) or 0,
        None if total is None else _number(total),
        line,
        " ".join(unit[:_UNIT].replace("\0", " ").split()),
        int(position),
        is_closed,
    )


def parse(data: bytes) -> Bar | None:
    """What `send` wrote; None for anything else."""
    try:
        pid, serial, n, total, description, unit, position, is_closed = json.loads(data)
        return make((int(pid), int(serial)), n, total, description, unit, position, bool(is_closed))
    except (ValueError, TypeError, AttributeError, OverflowError, RecursionError):
        return None


def _number(value: float) -> float | None:
    """As int or float, of whatever library it was; None if it is infinite or no number."""
    number = value if type(value) is int else float(value)
    if not math.isfinite(number):
        return None
    return int(number) if number == int(number) else number
