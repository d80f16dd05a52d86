"""`ActorPool`: work for a fixed number of actors, and its results."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from plasmid import api
from plasmid.engine import current
from plasmid.exceptions import ActorDiedError, NoActorLeftError

__all__ = ["ActorPool"]

_Work = tuple[Callable[[Any, Any], Any], Any]


class ActorPool:
    """Gives each value to an actor that is free, and hands out the results.

        pool = ActorPool([Worker.remote() for _ in range(4)])
        list(pool.map(lambda actor, value: actor.double.remote(value), range(100)))

    An actor has one call at a time; what is submitted beyond that waits, in order, for the first
    that ends. A call that raises leaves its actor in the pool, unlike a call whose actor died.

    Processes and threads: belongs to the thread that uses it. The pool holds its actors, but does
    not end them.
    """

    def __init__(self, actors: Iterable[Any]) -> None:
        self._idle = list(actors)
        self._queue: deque[tuple[int, _Work]] = deque()
        self._results: dict[int, Any] = {}  # by number of submission: what `fn` returned
        self._busy: dict[Any, tuple[Any, int]] = {}  # by reference: the actor, and that number
        self._submitted = 0
        self._next = 0

    def map(self, fn: Callable[[Any, Any], Any], values: Iterable[Any]) -> Iterator[Any]:
        """The results of `fn(actor, value)`, a call of that actor, in the order of the values.

        All are submitted before this returns; results not taken before are dropped. The iterator
        blocks until the next one is there, and raises what the call raised.
        """
        self._submit_all(fn, values)
        return self._take_all(self.get_next)

    def map_unordered(self, fn: Callable[[Any, Any], Any], values: Iterable[Any]) -> Iterator[Any]:
        """The same in the order in which results come."""
        self._submit_all(fn, values)
        return self._take_all(self.get_next_unordered)

    def submit(self, fn: Callable[[Any, Any], Any], value: Any) -> None:
        """Have `fn(actor, value)` called with a free actor, now or when there is one. Does not
        block.

        What `fn` raises is raised here if it is called now, and nothing is submitted; else in place
        of its result. TypeError if it does not return the references of a call.
        """
        if not self._idle:
            self._release(timeout=0)
        self._start()
        if self._idle:  # so nothing is queued
            self._call(self._submitted, fn, value)
        else:
            self._queue.append((self._submitted, (fn, value)))
        self._submitted += 1

    def has_next(self) -> bool:
        """Whether there is a result to get, or will be."""
        return bool(self._results or self._queue)

    def get_next(self, timeout: float | None = None, ignore_if_timedout: bool = False) -> Any:
        """The next result in the order of submission.

        Blocks, at most `timeout` seconds: TimeoutError, and with `ignore_if_timedout` that result
        is given up. StopIteration if there is none, ValueError after get_next_unordered() took a
        later one, NoActorLeftError, and what the call raised.
        """
        if not self.has_next():
            raise StopIteration("No more results to get")
        if self._next not in self._results and not self._is_queued(self._next):
            raise ValueError(
                "It is not allowed to call get_next() after get_next_unordered(): the results are "
                "not in order any more"
            )
        for _ in self._waits(timeout):
            if self._next in self._results and not self._is_pending(self._next):
                return self._take(self._next)
        if ignore_if_timedout:
            self._give_up(self._next)
        raise TimeoutError(f"result {self._next} of the pool is not there after {timeout} s")

    def get_next_unordered(
        self, timeout: float | None = None, ignore_if_timedout: bool = False
    ) -> Any:
        """The first result that is there. As get_next() otherwise; nothing is given up."""
        if not self.has_next():
            raise StopIteration("No more results to get")
        for _ in self._waits(timeout):
            for number in self._results:
                if not self._is_pending(number):
                    return self._take(number)
        raise TimeoutError(f"no result of the pool is there after {timeout} s")

    def has_free(self) -> bool:
        """Whether an actor is free: nothing is queued then, either."""
        self._release(timeout=0)
        self._start()
        return bool(self._idle)

    def pop_idle(self) -> Any:
        """Take a free actor out of the pool; None if there is none."""
        return self._idle.pop() if self.has_free() else None

    def push(self, actor: Any) -> None:
        """Add an actor. ValueError if it is in the pool."""
        if actor in self._idle or any(actor == busy for busy, _ in self._busy.values()):
            raise ValueError("Actor already belongs to current ActorPool")
        self._idle.append(actor)
        self._start()

    def _submit_all(self, fn: Callable[[Any, Any], Any], values: Iterable[Any]) -> None:
        self._queue.clear()
        self._results.clear()
        self._next = self._submitted
        for value in values:
            self.submit(fn, value)

    def _take_all(self, take: Callable[[], Any]) -> Iterator[Any]:
        while self.has_next():
            yield take()

    def _start(self) -> None:
        """Give queued work to free actors."""
        while self._queue and self._idle:
            number, (fn, value) = self._queue[0]
            try:
                self._call(number, fn, value)
            except Exception as error:  # whoever asks for this result is to get it, nobody else
                self._results[number] = _NotMade(error)
            self._queue.popleft()  # not if it was interrupted

    def _call(self, number: int, fn: Callable[[Any, Any], Any], value: Any) -> None:
        actor = self._idle.pop()
        try:
            result = fn(actor, value)
            # All results of one call come at once.
            ref = result[0] if isinstance(result, list) and result else result
            if type(ref) is not current.get_engine().ref_type:
                raise TypeError(
                    "ActorPool: fn(actor, value) must return what a call of the actor returned, "
                    f"not {result!r}"
                )
        except BaseException:
            self._idle.append(actor)
            raise
        self._results[number] = result
        self._busy[ref] = actor, number

    def _release(self, timeout: float | None) -> None:
        """Wait for a call to end; the actors of all that have are free again."""
        while self._busy:
            ready, _ = api.wait(list(self._busy), timeout=timeout)
            for ref in ready:
                actor, _ = self._busy.pop(ref)
                if not _has_died(ref):
                    self._idle.append(actor)
            if not ready or timeout != 0:
                return

    def _waits(self, timeout: float | None) -> Iterator[None]:
        """Once now, and once whenever calls have ended, until time is up."""
        deadline = None if timeout is None else time.monotonic() + timeout
        self._release(timeout=0)
        while True:
            self._start()
            yield
            if not self._busy:
                raise NoActorLeftError(
                    f"{len(self._queue)} calls wait and no actor of the pool is left: all have "
                    "died, or were taken out; push() another"
                )
            left = None if deadline is None else deadline - time.monotonic()
            if left is not None and left <= 0:
                return
            self._release(left)

    def _is_queued(self, number: int) -> bool:
        return bool(self._queue) and number >= self._queue[0][0]

    def _is_pending(self, number: int) -> bool:
        return any(number == busy for _, busy in self._busy.values())

    def _take(self, number: int) -> Any:
        self._next = max(self._next, number + 1)
        result = self._results.pop(number)
        if isinstance(result, _NotMade):
            raise result.error
        return api.get(result)

    def _give_up(self, number: int) -> None:
        self._results.pop(number, None)
        self._queue = deque(each for each in self._queue if each[0] != number)
        self._next = number + 1


class _NotMade:
    """The place of a result whose call could not be made."""

    def __init__(self, error: Exception) -> None:
        self.error = error


def _has_died(ref: Any) -> bool:
    """Whether a call ended with its actor."""
    if not current.engine.is_failed(ref):
        return False
    try:
        api.get(ref)
    except Exception as error:
        return isinstance(error, ActorDiedError)
    return False
