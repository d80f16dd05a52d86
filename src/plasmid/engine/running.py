"""Which task a thread runs."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

from plasmid._core import core


class RunningTask:
    """A task on its worker's stack.

    core      the core's handle of it
    depth     tasks below it on the same stack
    resolved  values that references among its arguments arrived as
    run_inside(task)  run another to its end on top of it
    """

    __slots__ = ("core", "depth", "resolved", "run_inside")

    def __init__(
        self, task: core.Running, depth: int, run_inside: Callable[[core.Running], None]
    ) -> None:
        self.core = task
        self.depth = depth
        self.resolved: list[Any] = []
        self.run_inside = run_inside


class _Running(threading.local):
    """`task` of the calling thread; None in a driver, and in threads that a task has started."""

    task: RunningTask | None = None


running = _Running()
