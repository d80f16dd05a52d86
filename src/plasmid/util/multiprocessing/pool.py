"""`Pool`: the standard library's interface, and processes that may die."""

from __future__ import annotations

import threading
import weakref
from collections.abc import Callable, Iterable, Iterator, Sized
from functools import lru_cache, partial
from itertools import islice, starmap
from multiprocessing import TimeoutError
from typing import Any, NoReturn

from plasmid import api, session
from plasmid.engine import current
from plasmid.exceptions import PoolTerminatedError
from plasmid.remote import remote
from plasmid.util.multiprocessing.crew import AHEAD, Crew, Job
from plasmid.util.multiprocessing.results import AsyncResult, Items, Settle, flat

__all__ = ["AsyncResult", "Pool", "TimeoutError"]

CHUNKS = 4
"""Chunks of a map for each process, as in the standard library."""

Callback = Callable[[Any], object] | None


class Pool:
    """So many processes that run functions.

    processes         how many; default: the session's CPUs
    initializer       called with `initargs` in each process first
    maxtasksperchild  a process is replaced after so many calls (chunks)
    context           without effect
    ray_address       a session to join, if none has been started
    ray_remote_args   options of the actors that the processes are, such as {"num_cpus": 1}; by
                      default they hold no CPU, so that pools in tasks do not wait for each other

    As `multiprocessing.Pool` otherwise, but for this: functions and arguments are pickled as those
    of tasks, lambdas and closures too, and arrays are views of the store. When a process dies, the
    call that it ran raises ActorUnavailableError, and another process goes on with the rest: use
    ray_remote_args={"max_task_retries": 3} to have it run again. `imap` reads its iterable only as
    far ahead as results are taken. After terminate(), results that are still to come raise.

    Processes and threads: any thread of the process that made it may use it. Callbacks run in a
    thread of plasmid's, one at a time: they should be short. It cannot be pickled.
    """

    def __init__(
        self,
        processes: int | None = None,
        initializer: Callable[..., object] | None = None,
        initargs: Iterable[Any] = (),
        maxtasksperchild: int | None = None,
        context: Any = None,
        ray_address: str | None = None,
        ray_remote_args: dict[str, Any] | None = None,
    ) -> None:
        if not current.is_started():
            session.init(address=ray_address)
        if processes is None:
            processes = max(1, int(api.cluster_resources()["CPU"]))
        _check_count("processes", processes)
        if maxtasksperchild is not None:
            _check_count("maxtasksperchild", maxtasksperchild)
        if initializer is not None and not callable(initializer):
            raise TypeError(f"initializer must be a callable, not {initializer!r}")
        options = {"num_cpus": 0, "max_restarts": -1, **(ray_remote_args or {})}
        cls = remote(_Process).options(**options)
        make = partial(cls.remote, initializer, tuple(initargs))
        self._crew = Crew(make, processes, maxtasksperchild)
        self._telling = threading.Lock()
        self._is_open = True
        weakref.finalize(self, self._crew.end)

    # ---- calls

    def apply(
        self, func: Callable[..., Any], args: Iterable[Any] = (), kwds: dict[str, Any] | None = None
    ) -> Any:
        """`func(*args, **kwds)` in one of the processes. Blocks."""
        return self.apply_async(func, args, kwds).get()

    def apply_async(
        self,
        func: Callable[..., Any],
        args: Iterable[Any] = (),
        kwds: dict[str, Any] | None = None,
        callback: Callback = None,
        error_callback: Callback = None,
    ) -> AsyncResult:
        """The same without blocking."""
        result = AsyncResult(1, lambda chunks: chunks[0], callback, error_callback, self._telling)
        given = _function(func), tuple(args or ()), dict(kwds or {})
        self._put(Job("call", given, partial(result.settle, 0)))
        return result

    def map(
        self, func: Callable[[Any], Any], iterable: Iterable[Any], chunksize: int | None = None
    ) -> list[Any]:
        """`[func(item) for item in iterable]`, by `chunksize` items at a time. Blocks."""
        return list(self.map_async(func, iterable, chunksize).get())

    def map_async(
        self,
        func: Callable[[Any], Any],
        iterable: Iterable[Any],
        chunksize: int | None = None,
        callback: Callback = None,
        error_callback: Callback = None,
    ) -> AsyncResult:
        """The same without blocking."""
        return self._map(func, iterable, chunksize, False, callback, error_callback)

    def starmap(
        self,
        func: Callable[..., Any],
        iterable: Iterable[Iterable[Any]],
        chunksize: int | None = None,
    ) -> list[Any]:
        """`[func(*item) for item in iterable]`. Blocks."""
        return list(self.starmap_async(func, iterable, chunksize).get())

    def starmap_async(
        self,
        func: Callable[..., Any],
        iterable: Iterable[Iterable[Any]],
        chunksize: int | None = None,
        callback: Callback = None,
        error_callback: Callback = None,
    ) -> AsyncResult:
        """The same without blocking."""
        return self._map(func, iterable, chunksize, True, callback, error_callback)

    def imap(
        self, func: Callable[[Any], Any], iterable: Iterable[Any], chunksize: int | None = 1
    ) -> Items:
        """An iterator over `func(item)`, in order; it blocks until the next is there."""
        return self._imap(func, iterable, chunksize, in_order=True)

    def imap_unordered(
        self, func: Callable[[Any], Any], iterable: Iterable[Any], chunksize: int | None = 1
    ) -> Items:
        """The same in the order in which they come."""
        return self._imap(func, iterable, chunksize, in_order=False)

    # ---- the end

    def close(self) -> None:
        """Take no more calls; the processes end when all have ended."""
        self._is_open = False
        self._crew.end()

    def terminate(self) -> None:
        """Kill the processes. Calls that have not begun raise PoolTerminatedError, those that run
        ActorDiedError."""
        self._is_open = False
        self._crew.kill(PoolTerminatedError("the pool was terminated before the call began"))

    def join(self) -> None:
        """Wait until all calls have ended, and the processes. ValueError before close()."""
        if self._is_open:
            raise ValueError("Pool is still running")
        self._crew.join()

    def __enter__(self) -> Pool:
        self._check_open()
        return self

    def __exit__(self, *error: object) -> None:
        self.terminate()

    def __reduce__(self) -> NoReturn:
        raise NotImplementedError("pool objects cannot be passed between processes or pickled")

    def __repr__(self) -> str:
        state = "RUN" if self._is_open else "CLOSE"
        return f"<{type(self).__module__}.Pool state={state} pool_size={len(self._crew)}>"

    # ---- chunks

    def _map(
        self,
        func: Callable[..., Any],
        iterable: Iterable[Any],
        chunksize: int | None,
        star: bool,
        callback: Callback,
        error_callback: Callback,
    ) -> AsyncResult:
        items: Any = iterable if isinstance(iterable, Sized) else list(iterable)
        if chunksize is None:
            chunksize = -(-len(items) // (CHUNKS * len(self._crew))) or 1
        _check_count("chunksize", chunksize)
        self._check_open()
        chunks = list(_cut(items, chunksize))
        result = AsyncResult(len(chunks), flat, callback, error_callback, self._telling)
        function = [api.put(_function(func))]
        for index, chunk in enumerate(chunks):
            self._put(Job("map", (function, chunk, star), partial(result.settle, index)))
        return result

    def _imap(
        self,
        func: Callable[..., Any],
        iterable: Iterable[Any],
        chunksize: int | None,
        in_order: bool,
    ) -> Items:
        _check_count("chunksize", 1 if chunksize is None else chunksize)
        self._check_open()
        function = [api.put(_function(func))]

        def submit(chunk: list[Any], settle: Settle) -> None:
            self._crew.put(Job("map", (function, chunk, False), settle))

        window = 2 * AHEAD * len(self._crew)
        return Items(_cut(iterable, chunksize or 1), submit, window, in_order)

    def _put(self, job: Job) -> None:
        self._check_open()
        self._crew.put(job)

    def _check_open(self) -> None:
        if self._crew.broken is None and not self._is_open:
            raise ValueError("Pool not running")


class _Process:
    """The actor."""

    def __init__(
        self, initializer: Callable[..., object] | None, initargs: tuple[Any, ...]
    ) -> None:
        self._function = lru_cache(maxsize=4)(api.get)
        if initializer is not None:
            initializer(*initargs)

    def call(self, func: Callable[..., Any], args: tuple[Any, ...], kwds: dict[str, Any]) -> Any:
        return func(*args, **kwds)

    def map(self, function: list[Any], chunk: list[Any], star: bool) -> list[Any]:
        func = self._function(function[0])
        return list(starmap(func, chunk) if star else map(func, chunk))


def _cut(items: Iterable[Any], size: int) -> Iterator[list[Any]]:
    rest = iter(items)
    while chunk := list(islice(rest, size)):
        yield chunk


def _function(func: Callable[..., Any]) -> Callable[..., Any]:
    """Of a remote function what it was made of."""
    return getattr(func, "_function", func)


def _check_count(name: str, value: Any) -> None:
    if not isinstance(value, int):
        raise TypeError(f"{name} must be an int, not {value!r}")
    if value < 1:
        raise ValueError(f"{name} must be at least 1, not {value}")
