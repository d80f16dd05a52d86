"""Tasks that are coroutines: an event loop that lends the task's CPU while it sleeps."""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Coroutine
from typing import Any

from plasmid._core import core


def run(coroutine: Coroutine[Any, Any, Any], task: core.Running) -> Any:
    """Run a task's coroutine to its end, in a loop of its own.

    What it awaits may be the result of another task, which needs a CPU to come true.
    """
    with asyncio.Runner(
        loop_factory=lambda: asyncio.SelectorEventLoop(_LendingSelector(task))
    ) as runner:
        return runner.run(coroutine)


class _LendingSelector(selectors.DefaultSelector):
    def __init__(self, task: core.Running) -> None:
        super().__init__()
        self._task = task

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        if timeout is not None and timeout <= 0:
            return super().select(timeout)
        self._task.block()
        try:
            return super().select(timeout)
        finally:
            self._task.resume()
