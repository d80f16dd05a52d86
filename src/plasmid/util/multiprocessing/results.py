"""What a pool's calls give: a result, or an iterator over results, that another thread fills."""

from __future__ import annotations

import sys
import threading
from collections import deque
from collections.abc import Callable, Iterator
from functools import partial
from itertools import chain
from multiprocessing import TimeoutError
from typing import Any, TypeAlias

__all__ = ["AsyncResult", "Items", "Settle"]


class AsyncResult:
    """The value of a call, or what it raised; of a map when all calls have ended.

    Processes and threads: any thread may wait.
    """

    def __init__(
        self,
        chunks: int,
        join: Callable[[list[Any]], Any],
        callback: Callable[[Any], object] | None,
        error_callback: Callable[[BaseException], object] | None,
        telling: threading.Lock,
    ) -> None:
        self._chunks: list[Any] = [None] * chunks
        self._missing = chunks
        self._join = join
        self._callback = callback
        self._error_callback = error_callback
        self._telling = telling  # held while one of the pool's callbacks runs
        self._error: BaseException | None = None
        self._value: Any = None
        self._over = threading.Event()
        self._lock = threading.Lock()
        if not chunks:
            self._end()

    def ready(self) -> bool:
        """Whether the call has ended."""
        return self._over.is_set()

    def successful(self) -> bool:
        """Whether it did without raising. ValueError before it has ended."""
        if not self.ready():
            raise ValueError(f"{self!r} not ready")
        return self._error is None

    def wait(self, timeout: float | None = None) -> None:
        """Until it has ended, or for `timeout` seconds."""
        self._over.wait(timeout)

    def get(self, timeout: float | None = None) -> Any:
        """The value. multiprocessing.TimeoutError if it is not there after `timeout` seconds; what
        the call raised, of a map what raised first."""
        self.wait(timeout)
        if not self.ready():
            raise TimeoutError(f"no result after {timeout} s")
        if self._error is not None:
            try:
                raise self._error
            finally:
                del self  # or the error would lead back to itself by its traceback
        return self._value

    def settle(self, index: int, value: Any, error: BaseException | None) -> None:
        """Chunk `index` has ended. Called for each once, by any thread."""
        with self._lock:
            if error is not None:
                self._error = self._error or error
            self._chunks[index] = value
            self._missing -= 1
            is_over = not self._missing
        if is_over:
            self._end()

    def _end(self) -> None:
        if self._error is None:
            self._value = self._join(self._chunks)
        self._chunks = []
        try:
            self._tell()
        finally:
            self._over.set()  # last: who has waited may rely on what the callback did

    def _tell(self) -> None:
        callback: Any = self._callback if self._error is None else self._error_callback
        if callback is None:
            return
        try:
            with self._telling:
                callback(self._value if self._error is None else self._error)
        except BaseException:  # shown, as of a thread: the thread goes on with other calls
            threading.excepthook(threading.ExceptHookArgs((*sys.exc_info(), None)))


Settle: TypeAlias = Callable[[Any, BaseException | None], None]


class Items:
    """The items of chunks of results, `in_order` or as they come.

    chunks  of work
    submit  begins the work on one, and has its second argument called with what comes of it
    window  so many chunks may be on their way, or wait for whoever takes them: work is read as
            results are taken, so that neither piles up

    Processes and threads: one thread iterates.
    """

    def __init__(
        self,
        chunks: Iterator[list[Any]],
        submit: Callable[[list[Any], Settle], None],
        window: int,
        in_order: bool,
    ) -> None:
        self._chunks = chunks
        self._submit = submit
        self._window = window
        self._in_order = in_order
        self._submitted = self._taken = 0
        self._come: dict[int, tuple[Any, BaseException | None]] = {}
        self._arrived = threading.Condition()
        self._rest: deque[Any] = deque()
        self._unread: BaseException | None = None  # what the iterable raised
        self._advance()

    def __iter__(self) -> Items:
        return self

    def __next__(self) -> Any:
        return self.next()

    def next(self, timeout: float | None = None) -> Any:
        """The next item. multiprocessing.TimeoutError if it is not there after `timeout` seconds;
        what the call raised, and at last what the iterable did; StopIteration."""
        while not self._rest:
            value, error = self._next_chunk(timeout)
            if error is not None:
                raise error
            self._rest.extend(value)
        return self._rest.popleft()

    def _next_chunk(self, timeout: float | None) -> tuple[Any, BaseException | None]:
        if self._taken == self._submitted:
            error, self._unread = self._unread, None
            raise error or StopIteration
        with self._arrived:
            if not self._arrived.wait_for(self._is_there, timeout):
                raise TimeoutError(f"no result after {timeout} s")
            index = self._taken if self._in_order else next(iter(self._come))
            come = self._come.pop(index)
        self._taken += 1
        self._advance()
        return come

    def _is_there(self) -> bool:
        return self._taken in self._come if self._in_order else bool(self._come)

    def _advance(self) -> None:
        while self._unread is None and self._submitted < self._taken + self._window:
            try:
                chunk = next(self._chunks)
            except StopIteration:
                return
            except BaseException as error:
                self._unread = error
                return
            self._submitted += 1
            self._submit(chunk, partial(self._settle, self._submitted - 1))

    def _settle(self, index: int, value: Any, error: BaseException | None) -> None:
        with self._arrived:
            self._come[index] = value, error
            self._arrived.notify_all()


def flat(chunks: list[Any]) -> list[Any]:
    """The items of all chunks."""
    return list(chain.from_iterable(chunks))
