"""Memory of the store is made ahead of the large objects that will want it, where CPU and memory
allow.

A new page is zeroed before it is written, which takes as long as the copy into it. So while one
process fills what it has, the keeper, on another core, has the machine give what comes behind.
"""

from __future__ import annotations

import os

from plasmid.runtime.trimming import warm_seconds

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from plasmid._core import core

TO_SPARE = 1 << 30
"""Bytes of memory that are left to everybody else: four times what is made ahead at most."""


class Warmer:
    """Warms a piece at a time, so that the keeper hears of what happens meanwhile.

    Processes and threads: the keeper's one thread, for some 5 ms a piece.
    """

    def __init__(self, arena: core.Arena, left: Callable[[], float]) -> None:
        """left: how many bytes may still come to be used."""
        self._arena = arena
        self._left = left
        # On the only core, or if it went at once, it would be in the way of what it is to help.
        self._is_worth_it = len(os.sched_getaffinity(0)) > 1 and warm_seconds() > 0
        self._goes_on = False

    def pauses(self) -> list[float]:
        """Seconds until look() is due, if it is."""
        return [0.0] if self._goes_on else []

    def look(self) -> None:
        """Warm a piece, if some is wanted and there is enough."""
        self._goes_on = False
        if not self._arena.is_cold:
            return
        if self._is_worth_it and self._left() > TO_SPARE:
            self._goes_on = self._arena.warm() > 0
        else:
            self._arena.warm_not()
