"""Which deaths are the kernel's doing because memory ran out (its OOM killer).

The kernel kills with SIGKILL, as others do, but counts such deaths for each control group. We look
only when a worker was killed by that signal. The count tells no pid: if the kernel has killed a
process that a task had started, the next worker killed by hand seems to have died of it, too.
"""

from __future__ import annotations

import time

from plasmid.runtime.counters import read_values

NOT_KNOWN = (0, 0, 0, 0, 0)

TOGETHER = 1.0
"""Seconds for which a kill that was counted may explain a death: several are counted at once, and
their deaths are learned of one after the other."""


class OomKills:
    """`path`: a file with a line `oom_kill <count>`, see `resources.oom_counter`."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._seen = self._count()
        self._unexplained = 0  # kills that were counted and have not been met as a death
        self._until = 0.0

    def take(self) -> bool:
        """A worker was killed by SIGKILL: whether it was for want of memory. Each kill that was
        counted explains one death."""
        now, count = time.monotonic(), self._count()
        if now > self._until:
            self._unexplained = 0
        if count > self._seen:
            self._unexplained += count - self._seen
            self._until = now + TOGETHER
            self._seen = count
        if self._unexplained == 0:
            return False
        self._unexplained -= 1
        return True

    def _count(self) -> int:
        (count,) = read_values(self._path, b"oom_kill")
        return count


def memory_use() -> tuple[int, int, int]:
    """Limit, bytes in use now, and most that ever were, of the control group whose limit is the
    smallest, or of the machine; 0 where nothing tells."""
    from plasmid.runtime import resources  # of no use in a keeper until now

    return resources.memory_use()
