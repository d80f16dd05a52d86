"""Futures over references: one thread for all of them, which survives what callbacks do."""

from __future__ import annotations

import sys
import threading
import time
import weakref
from typing import Any

import pytest

from plasmid.engine.futures import Futures
from plasmid.exceptions import SessionError


class Ref:
    pass


class Arena:
    """Objects in a dict. `broken`: what waiting raises."""

    def __init__(self) -> None:
        self.values: dict[Ref, Any] = {}
        self.change = threading.Condition()
        self.broken: BaseException | None = None

    def is_ready(self, ref: Ref) -> bool:
        return ref in self.values

    def linger(self, ref: Ref, seconds: float) -> bool:
        return self.is_ready(ref)

    def create_object(self, nbytes: int, refs: Any) -> Any:
        return Bell(self)

    def read(self, ref: Ref) -> Any:
        return self.values[ref]

    def wait(self, refs: list[Ref], need: int, timeout: float | None) -> bool:
        with self.change:
            while self.broken is None and not any(map(self.is_ready, refs)):
                self.change.wait()
            if self.broken is not None:
                raise self.broken
            return True

    def set(self, ref: Ref, value: Any) -> None:
        with self.change:
            self.values[ref] = value
            self.change.notify_all()

    def stop(self, error: BaseException | None) -> None:
        with self.change:
            self.broken = error
            self.change.notify_all()


class Bell:
    def __init__(self, arena: Arena) -> None:
        self.arena, self.ref = arena, Ref()

    def seal(self) -> None:
        self.arena.set(self.ref, None)


@pytest.fixture
def arena() -> Arena:
    return Arena()


@pytest.fixture
def futures(arena: Arena) -> Any:
    made: Any = Futures(arena, arena.read, arena.wait)  # type: ignore[arg-type]
    yield made
    arena.stop(SessionError("the end"))
    made.close()
    assert made._thread is None


def test_futures_get_values_in_any_order(arena: Arena, futures: Any) -> None:
    refs = [Ref() for _ in range(3)]
    made = [futures.future(ref) for ref in refs]
    for number in (1, 0, 2):
        arena.set(refs[number], number)
        assert made[number].result() == number


@pytest.mark.parametrize("error", [SystemExit(3), KeyboardInterrupt()])
def test_a_callback_that_ends_threads_does_not_end_that_of_the_futures(
    arena: Arena, futures: Any, error: BaseException, monkeypatch: pytest.MonkeyPatch
) -> None:
    def callback(done: Any) -> None:
        raise error

    shown: list[Any] = []
    monkeypatch.setattr(threading, "excepthook", lambda args: shown.append(args.exc_value))
    first, second, third = Ref(), Ref(), Ref()
    made = [futures.future(ref) for ref in (first, first, second)]
    made[0].add_done_callback(callback)
    arena.set(first, 1)
    assert made[1].result() == 1
    arena.set(second, 2)
    assert made[2].result() == 2
    later = futures.future(third)
    arena.set(third, 3)
    assert later.result() == 3
    assert shown == [error]


def test_sys_exit_in_a_callback_is_silent_as_in_any_thread(
    arena: Arena,
    futures: Any,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(threading, "excepthook", threading.__excepthook__)  # not pytest's
    ref, other = Ref(), Ref()
    futures.future(ref).add_done_callback(lambda done: sys.exit("words"))
    made = futures.future(other)
    arena.set(ref, 1)
    arena.set(other, 2)
    assert made.result() == 2
    assert capsys.readouterr().err == ""


def test_a_future_that_was_given_a_result_by_others_harms_no_other(
    arena: Arena, futures: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(threading, "excepthook", lambda args: None)
    ref, other = Ref(), Ref()
    futures.future(ref).set_result("mine")
    made = [futures.future(ref), futures.future(other)]
    arena.set(ref, 1)
    arena.set(other, 2)
    assert [future.result() for future in made] == [1, 2]


@pytest.mark.parametrize("error", [SessionError("gone"), MemoryError(), SystemExit()])
def test_whatever_ends_the_thread_goes_to_all_futures_and_the_next_starts_another(
    arena: Arena, futures: Any, error: BaseException
) -> None:
    ref = Ref()
    made = [futures.future(ref), futures.future(Ref())]
    arena.stop(error)
    for future in made:
        assert future.exception() is error
    arena.stop(None)
    again = futures.future(ref)
    arena.set(ref, 1)
    assert again.result() == 1


def test_a_thread_that_cannot_be_started_is_tried_again(
    arena: Arena, futures: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    ref = Ref()
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", refuse)
        with pytest.raises(RuntimeError, match="start new thread"):
            futures.future(ref)
    made = futures.future(ref)
    arena.set(ref, 1)
    assert made.result() == 1


def test_an_event_completes_when_its_reference_is_ready_and_reads_nothing(
    arena: Arena, futures: Any
) -> None:
    ref = Ref()
    event, value = futures.event(ref), futures.future(ref)
    arena.set(ref, "value")
    assert event.result() is None
    assert value.result() == "value"
    assert futures.event(ref).result() is None


def test_a_forgotten_future_keeps_no_reference(arena: Arena, futures: Any) -> None:
    ref, other = Ref(), Ref()
    kept = futures.future(other)
    gone = weakref.ref(ref)
    first, second = futures.event(ref), futures.event(ref)
    futures.forget(ref, first)
    assert gone() is not None
    futures.forget(ref, second)
    futures.forget(ref, second)  # no harm
    del ref
    while gone() is not None:  # until the thread has listed again what it waits for
        time.sleep(0.001)
    arena.set(other, 1)
    assert kept.result() == 1
