"""concurrent.futures over references: one thread that waits for all of them at once."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any, TypeAlias

from plasmid._core import core

# A future, and how it gets its value of the reference.
_Made: TypeAlias = tuple[Future[Any], Callable[[core.ObjectRef], Any]]


LINGER = 100e-6
"""Seconds that a future's maker looks for its value itself, if nothing else is waited for."""


class Futures:
    """Completes futures as their references get values.

    Processes and threads: `future` may be called from any thread and does not block, but for LINGER
    seconds. The thread lives while there are futures without a value, and sleeps in one wait for
    all of them. What a future's callbacks do, they do in that thread.
    """

    def __init__(
        self,
        arena: core.Arena,
        read: Callable[[core.ObjectRef], Any],
        wait: Callable[[list[core.ObjectRef], int, float | None], bool],
    ) -> None:
        self._arena = arena
        self._read = read
        self._wait = wait
        self._lock = threading.Lock()
        self._waiting: dict[core.ObjectRef, list[_Made]] = {}
        self._thread: threading.Thread | None = None
        self._bell: core.Pending | None = None

    def future(self, ref: core.ObjectRef) -> Future[Any]:
        return self._future(ref, self._read)

    def event(self, ref: core.ObjectRef) -> Future[None]:
        """A future that gets None when the reference is ready."""
        return self._future(ref, _read_nothing)

    def forget(self, ref: core.ObjectRef, future: Future[Any]) -> None:
        """Nobody waits for this future of `ref` any more."""
        with self._lock:
            left = [made for made in self._waiting.pop(ref, ()) if made[0] is not future]
            if left:
                self._waiting[ref] = left
            elif self._bell is not None:
                self._bell.seal()
                self._bell = None

    def _future(self, ref: core.ObjectRef, read: Callable[[core.ObjectRef], Any]) -> Future[Any]:
        future: Future[Any] = Future()
        future.set_running_or_notify_cancel()
        made = future, read
        # What comes at once costs no change of threads: 30 us in place of 300 from task to task.
        # Read beside the lock: whether others wait decides only if it pays to linger.
        if self._arena.is_ready(ref) or (not self._waiting and self._arena.linger(ref, LINGER)):
            self._complete(ref, [made])
            return future
        with self._lock:
            # It waits for the lock before it looks, so `made` may be added last: not at all if the
            # thread cannot be started or the session has ended.
            if self._thread is None:
                thread = threading.Thread(target=self._run, name="plasmid-futures", daemon=True)
                thread.start()
                self._thread = thread
            elif self._bell is not None:
                self._bell.seal()
                self._bell = None
            self._waiting.setdefault(ref, []).append(made)
        return future

    def close(self, patience: float = 5.0) -> None:
        """Return when the thread has ended, as it does when its session has. Not for ever: it may
        be in a callback that waits for what the caller holds."""
        thread = self._thread
        if thread is not None and thread is not threading.current_thread():
            thread.join(patience)

    def _run(self) -> None:
        try:
            while refs := self._to_wait_for():
                self._wait(refs, 1, None)
                del refs  # while the thread sleeps, no variable of it may keep a value
                self._complete_ready()
        except BaseException as error:  # the session has ended; nobody else would say so
            with self._lock:
                left, self._waiting = self._waiting, {}
                self._bell = self._thread = None
            for futures in left.values():
                for future, _ in futures:
                    _settle(future.set_exception, error.with_traceback(None))

    def _to_wait_for(self) -> list[core.ObjectRef]:
        """All references, and a bell that ends the wait when another comes: an object that is
        sealed then. Nothing if the thread is to end."""
        bell = self._arena.create_object(1, ())
        with self._lock:
            if self._waiting:
                self._bell = bell
                return [bell.ref, *self._waiting]
            self._bell = self._thread = None
            return []

    def _complete_ready(self) -> None:
        for ref, futures in self._take_ready():
            self._complete(ref, futures)

    def _take_ready(self) -> list[tuple[core.ObjectRef, list[_Made]]]:
        with self._lock:
            ready = [ref for ref in self._waiting if self._arena.is_ready(ref)]
            return [(ref, self._waiting.pop(ref)) for ref in ready]

    def _complete(self, ref: core.ObjectRef, futures: list[_Made]) -> None:
        for future, read in futures:
            try:
                value = read(ref)
            except BaseException as error:
                # With its traceback it would lead back to the future, and be freed late.
                _settle(future.set_exception, error.with_traceback(None))
            else:
                _settle(future.set_result, value)


def _read_nothing(ref: core.ObjectRef) -> None:
    pass


def _settle(tell: Callable[[Any], None], outcome: Any) -> None:
    """Tell a future its outcome. What its callbacks raise ends as at the end of a thread:
    SystemExit is ignored, the rest shown. (Of an Exception concurrent.futures sees to that.)"""
    try:
        tell(outcome)
    except BaseException:
        threading.excepthook(threading.ExceptHookArgs((*sys.exc_info(), None)))
