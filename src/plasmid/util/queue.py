"""`Queue`: a first-in first-out queue that any task, actor or program of the session may use."""

from __future__ import annotations

import asyncio
import queue
from collections import deque
from collections.abc import Callable, Iterable
from typing import Any

import plasmid
from plasmid import actor, api
from plasmid.engine import current
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
    arrays pass through without a copy. Nothing is taken for who was interrupted, cancelled, or dead
    when there was an item; lost is what was on its way to who died then.
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
        call = self.actor.put.remote(item, _patience(block, timeout))
        try:
            api.get(call)
        except BaseException:
            self._withdraw(call)
            raise

    def get(self, block: bool = True, timeout: float | None = None) -> Any:
        """Take the oldest item.

        Blocks until there is one, at most `timeout` seconds: Empty, as without `block` if there is
        none now. ValueError for a negative timeout, ActorDiedError.
        """
        call = self.actor.get.remote(_patience(block, timeout))
        try:
            return api.get(call)
        except BaseException:
            self._withdraw(call, taken=True)
            raise

    async def put_async(self, item: Any, block: bool = True, timeout: float | None = None) -> None:
        """The same for coroutines."""
        call = self.actor.put.remote(item, _patience(block, timeout))
        try:
            await call
        except BaseException:
            self._withdraw(call)
            raise

    async def get_async(self, block: bool = True, timeout: float | None = None) -> Any:
        """The same for coroutines."""
        call = self.actor.get.remote(_patience(block, timeout))
        try:
            return await call
        except BaseException:
            self._withdraw(call, taken=True)
            raise

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

    def _withdraw(self, call: Any, taken: bool = False) -> None:
        """After an exception: a call that has not ended is not to do anything, as nobody waits for
        it any more. What it has taken all the same goes back; if nothing, `put_back` lacks its
        argument and is not run."""
        if current.get_engine().is_failed(call):
            return
        api.cancel(call)
        if taken:
            self.actor.put_back.remote(call)


def _patience(block: bool, timeout: float | None) -> float | None:
    if not block:
        return 0
    if timeout is not None and timeout < 0:
        raise ValueError(f"'timeout' must be a non-negative number, not {timeout!r}")
    return timeout


class _Items:
    """The actor of a queue. timeout: 0 = do not wait, None = for ever.

    Who waits is in a line and looks again when its turn comes. Who leaves without having used its
    turn gives it to the next. What an item is taken for is looked at last, with no `await` between.
    """

    def __init__(self, maxsize: int) -> None:
        self._most = maxsize
        self._items: deque[Any] = deque()
        self._takers: deque[asyncio.Future[None]] = deque()
        self._givers: deque[asyncio.Future[None]] = deque()

    async def qsize(self) -> int:
        return len(self._items)

    async def put(self, item: Any, timeout: float | None) -> None:
        if not await _come_true(self._has_room, self._givers, timeout):
            raise Full(f"the queue has {len(self._items)} items, as many as it may")
        self._items.append(item)
        _wake(self._takers)

    async def get(self, timeout: float | None) -> Any:
        if not await _come_true(self._has_items, self._takers, timeout):
            raise Empty("the queue has no item")
        if not current.engine.is_awaited():
            _wake(self._takers)
            raise Empty("nobody waits for the item any more")
        item = self._items.popleft()
        _wake(self._givers)
        return item

    async def put_back(self, item: Any) -> None:
        self._items.appendleft(item)  # where there may be no room: it was here before
        _wake(self._takers)

    async def put_batch(self, items: list[Any]) -> None:
        now = len(self._items)
        if 0 < self._most < now + len(items):
            raise Full(f"{len(items)} items do not fit into a queue that has {now} of {self._most}")
        self._items += items
        for _ in items:
            _wake(self._takers)

    async def get_batch(self, number: int) -> list[Any]:
        if number > len(self._items):
            raise Empty(f"the queue has {len(self._items)} items, not {number}")
        taken = [self._items.popleft() for _ in range(number)]
        for _ in taken:
            _wake(self._givers)
        return taken

    def _has_items(self) -> bool:
        return bool(self._items)

    def _has_room(self) -> bool:
        return not 0 < self._most <= len(self._items)


async def _come_true(
    condition: Callable[[], bool], line: deque[asyncio.Future[None]], timeout: float | None
) -> bool:
    """Whether the condition holds, now or in time, and the call was not cancelled meanwhile."""
    if timeout == 0 or condition():
        return condition()
    try:
        async with asyncio.timeout(timeout):
            while not condition():
                turn = asyncio.get_running_loop().create_future()
                line.append(turn)
                try:
                    await turn
                except BaseException:
                    if turn.cancelled():
                        line.remove(turn)
                    else:  # it had come
                        _wake(line)
                    raise
                if plasmid.get_runtime_context().is_canceled():  # and is about to be told
                    _wake(line)
                    return False
    except TimeoutError:
        return False
    return True


def _wake(line: deque[asyncio.Future[None]]) -> None:
    """It is the turn of the first in the line, which leaves it."""
    while line:
        turn = line.popleft()
        if not turn.done():
            turn.set_result(None)
            return
