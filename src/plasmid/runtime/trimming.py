"""Free memory of the store goes back to the machine when nobody has made an object for a while.

Not sooner: to have it again costs ten times what using it while it is there does.
"""

from __future__ import annotations

import os
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from plasmid._core import core

SETTING = "PLASMID_WARM_SECONDS"

SECONDS = 60.0
"""Without a new block, until memory goes back; unless SETTING says otherwise."""

KEPT = 64 << 20
"""Bytes of free memory that stay."""


def warm_seconds() -> float:
    """What the environment says, or else SECONDS. ValueError."""
    text = os.environ.get(SETTING)
    if not text:
        return SECONDS
    try:
        seconds = float(text)
    except ValueError:
        seconds = -1
    if not seconds >= 0:
        raise ValueError(
            f"init: {SETTING} is {text!r}, but must be seconds until free memory of the store goes "
            "back to the machine; inf: never"
        )
    return seconds


class Trimmer:
    """Waits until the store has been left alone, and trims it.

    Processes and threads: the keeper's one thread, for some 50 ms for each GB that goes back.
    """

    def __init__(self, arena: core.Arena) -> None:
        self._arena = arena
        self._seconds = warm_seconds()
        self._clock = -1  # blocks made so far when it was last looked
        self._due: float | None = None

    def pauses(self) -> list[float]:
        """Seconds until look() is due, if it is."""
        return [] if self._due is None else [max(0.0, self._due - time.monotonic())]

    def look(self) -> None:
        """Begin to wait when large blocks have been given back; trim when no block has been made
        since."""
        if not self._arena.is_loose or self._seconds == float("inf"):
            self._due = None
            return
        now, clock = time.monotonic(), self._arena.clock
        if self._due is None or (now >= self._due and clock != self._clock):
            self._clock = clock
            self._due = now + self._seconds
        elif now >= self._due:
            self._due = None
            self._arena.trim(KEPT)
