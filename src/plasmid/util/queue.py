"""`Queue`: a first-in first-out queue that any task, actor or program of the session may use."""

from __future__ import annotations

import asyncio
import queue
from collections.abc import Iterable
from typing import Any

from plasmid import actor, api
from plasmid.remote import remote

__all__ = ["Empty", "Full", "Queue"]

_WAITERS = 10_000
"""Calls that the actor of a queue runs at a time: as many may wait and hold up no others."""


class Empty(queue.Empty):
    """There is no item, or not as many as were asked for; not in time."""


class Full(queue.Full):
    """There is no room for an item, or for all that were given; not in time."""


class Queue:
    """The interface of `queue.Queue`, between processes: an actor has the items.

    maxsize        how many items there may be; 0: any number
    actor_options  options of the actor, as `Class.options` takes them

    It can be passed to tasks and actors, and stored: all copies are the same queue, which lives as
    long as one of them, or as its actor is told to. `actor` is the actor's handle.

    Processes and threads: any may use it. Each call is a call of the actor, some 20 us; large
    arrays pass through without a copy. An item that was taken for somebody who has died is lost.
    """

    def __init__(self, maxsize: int = 0, actor_options: dict[str, Any] | None = None) -> None:
        options = {"max_concurrency": _WAITERS, "num_cpus": 0, **(actor_options or {})}
        self.maxsize = maxsize
        self.actor = remote(_Items).options(**options).remote(maxsize)

    def __len__(self) -> int:
        return self.size()

    def size(self) -> int:
        """How many items there are."""
        return int(api.get(self.actor.qsize.remote()))

    qsize = size

    def empty(self) -> bool:
        """Whether there is no item."""
        return self.size() == 0

    def full(self) -> bool:
        """Whether there is no room for an item."""
        return 0 < self.maxsize <= self.size()

    def put(self, item: Any, block: bool = True, timeout: float | None = None) -> None:
        """Add an item: a reference arrives as its value.

        Blocks until there is room, at most `timeout` seconds: Full, as without `block` if there is
        none now. ValueError for a negative timeout, ActorDiedError.
        """
        _finish(self.actor.put.remote(item, _patience(block, timeout)))

    def get(self, block: bool = True, timeout: float | None = None) -> Any:
        """Take the oldest item.

        Blocks until there is one, at most `timeout` seconds: Empty, as without `block` if there is
        none now. ValueError for a negative timeout, ActorDiedError.
        """
        return _finish(self.actor.get.remote(_patience(block, timeout)))

    async def put_async(self, item: Any, block: bool = True, timeout: float | None = None) -> None:
        """The same for coroutines."""
        await self.actor.put.remote(item, _patience(block, timeout))

    async def get_async(self, block: bool = True, timeout: float | None = None) -> Any:
        """The same for coroutines."""
        return await self.actor.get.remote(_patience(block, timeout))

    def put_nowait(self, item: Any) -> None:
        """`put(item, block=False)`"""
        self.put(item, block=False)

    def get_nowait(self) -> Any:
        """`get(block=False)`"""
        return self.get(block=False)

    def put_nowait_batch(self, items: Iterable[Any]) -> None:
        """Add all items, in order; or none, if there is no room for all: Full. TypeError if they
        cannot be iterated over."""
        if not isinstance(items, Iterable):
            raise TypeError(f"put_nowait_batch: items must be iterable, not {items!r}")
        api.get(self.actor.put_batch.remote(list(items)))

    def get_nowait_batch(self, num_items: int) -> list[Any]:
        """Take the `num_items` oldest items; or none, if there are fewer: Empty. TypeError,
        ValueError for what is no number of items."""
        if not isinstance(num_items, int):
            raise TypeError(f"get_nowait_batch: num_items must be an int, not {num_items!r}")
        if num_items < 0:
            raise ValueError(f"get_nowait_batch: num_items must not be negative: {num_items}")
        return list(api.get(self.actor.get_batch.remote(num_items)))

    def shutdown(self, force: bool = False, grace_period_s: float = 5) -> None:
        """End the queue for all who have it: later calls raise ActorDiedError.

        Calls that run have `grace_period_s` seconds to end, with `force` none. Blocks as long.
        """
        if not force:
            done, _ = api.wait([self.actor.__ray_terminate__.remote()], timeout=grace_period_s)
            if done:
                return
        actor.kill(self.actor)


def _patience(block: bool, timeout: float | None) -> float | None:
    if not block:
        return 0
    if timeout is not None and timeout < 0:
        raise ValueError(f"'timeout' must be a non-negative number, not {timeout!r}")
    return timeout


def _finish(call: Any) -> Any:
    """The result; a call that nobody waits for any more is cancelled, and takes no item."""
    try:
        return api.get(call)
    except BaseException:
        if not api.wait([call], timeout=0)[0]:
            api.cancel(call)
        raise


class _Items:
    """The actor of a queue. timeout: 0 = do not wait, None = for ever."""

    def __init__(self, maxsize: int) -> None:
        self._items: asyncio.Queue[Any] = asyncio.Queue(maxsize)

    async def qsize(self) -> int:
        return self._items.qsize()

    async def put(self, item: Any, timeout: float | None) -> None:
        try:
            if timeout == 0:
                self._items.put_nowait(item)
            else:
                async with asyncio.timeout(timeout):
                    await self._items.put(item)
        except (asyncio.QueueFull, TimeoutError):
            raise Full(f"the queue has {self._items.qsize()} items, as many as it may") from None

    async def get(self, timeout: float | None) -> Any:
        try:
            if timeout == 0:
                return self._items.get_nowait()
            async with asyncio.timeout(timeout):
                return await self._items.get()
        except (asyncio.QueueEmpty, TimeoutError):
            raise Empty("the queue has no item") from None

    async def put_batch(self, items: list[Any]) -> None:
        most, now = self._items.maxsize, self._items.qsize()
        if 0 < most < now + len(items):
            raise Full(f"{len(items)} items do not fit into a queue that has {now} of {most}")
        for item in items:
            self._items.put_nowait(item)

    async def get_batch(self, number: int) -> list[Any]:
        if number > self._items.qsize():
            raise Empty(f"the queue has {self._items.qsize()} items, not {number}")
        return [self._items.get_nowait() for _ in range(number)]
