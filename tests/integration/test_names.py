"""Named objects, and objects that are freed."""

from __future__ import annotations

import datetime
import gc
from typing import Any

import numpy as np
import pytest
from support import Gate, arena, until

import plasmid
from plasmid._core import core
from plasmid._private import internal_api
from plasmid.engine import memory
from plasmid.exceptions import ObjectExistsError, ObjectFreedError, ObjectLostError

pytestmark = pytest.mark.usefixtures("session")

MB = 1 << 20


@pytest.fixture(autouse=True)
def no_names_left() -> Any:
    yield
    for name in plasmid.list_named_objects():
        plasmid.delete_object(name)


# Names -------------------------------------------------------------------------------------------


def test_a_name_keeps_its_object() -> None:
    plasmid.put([1, 2], name="numbers")
    gc.collect()
    assert plasmid.get(plasmid.get_object("numbers")) == [1, 2]
    assert plasmid.list_named_objects() == ["numbers"]
    plasmid.delete_object("numbers")
    assert plasmid.list_named_objects() == []
    with pytest.raises(LookupError, match="'numbers'"):
        plasmid.get_object("numbers")
    with pytest.raises(ObjectLostError):
        plasmid.delete_object("numbers")


def test_names_are_the_sessions() -> None:
    plasmid.put(5, name="five", lifetime="detached")

    @plasmid.remote
    def double() -> Any:
        plasmid.put(2 * plasmid.get(plasmid.get_object("five")), name="ten")

    plasmid.get(double.remote())
    assert plasmid.get(plasmid.get_object("ten")) == 10
    assert plasmid.list_named_objects() == ["five", "ten"]


def test_a_name_is_given_once() -> None:
    ref = plasmid.put(1, name="one")
    with pytest.raises(ObjectExistsError, match="'one'"):
        plasmid.put(2, name="one")
    plasmid.delete_object("one")
    plasmid.put(3, name="one")
    assert plasmid.get(plasmid.get_object("one")) == 3
    assert plasmid.get(ref) == 1


def test_many_put_the_same_name_and_one_wins() -> None:
    @plasmid.remote
    def put(i: int) -> bool:
        try:
            plasmid.put(i, name="contested")
        except ObjectExistsError:
            return False
        return True

    won = plasmid.get([put.remote(i) for i in range(20)])
    assert sum(won) == 1
    assert plasmid.get(plasmid.get_object("contested")) == won.index(True)


@pytest.mark.parametrize("lifetime", [0.2, datetime.timedelta(milliseconds=200)])
def test_a_name_expires_and_its_memory_is_given_back(lifetime: Any) -> None:
    used = arena().stats()["heap_used"]
    plasmid.put(np.zeros(MB), name="short", lifetime=lifetime)
    view = plasmid.get(plasmid.get_object("short"))
    until(lambda: arena().kept() == [], "the name does not go")
    with pytest.raises(ObjectLostError):
        plasmid.get_object("short")
    assert not view.any()
    del view
    until(lambda: arena().stats()["heap_used"] == used, "the memory is not back")


def test_later_expiry_does_not_hide_an_earlier_one() -> None:
    plasmid.put(1, name="later", lifetime=100)
    plasmid.put(1, name="sooner", lifetime=0.1)
    until(lambda: len(arena().kept()) == 1, "the name does not go")
    assert plasmid.list_named_objects() == ["later"]
    plasmid.put(1, name="sooner")


def test_a_name_given_for_years_does_not_end_the_keeper() -> None:
    """Its poll() was given more milliseconds than an int holds."""
    (before,) = (each.pid for each in arena().clients() if each.kind == core.KEEPER)
    plasmid.put(1, name="later", lifetime=datetime.timedelta(days=10_000))
    plasmid.put(1, name="even later", lifetime=1e300)
    plasmid.put(1, name="sooner", lifetime=0.1)
    until(lambda: len(arena().kept()) == 2, "the name does not go")
    assert plasmid.list_named_objects() == ["even later", "later"]
    assert [each.pid for each in arena().clients() if each.kind == core.KEEPER] == [before]


@pytest.mark.parametrize("lifetime", ["detached", 5, None, "for ever"])
def test_a_lifetime_needs_a_name(lifetime: Any) -> None:
    with pytest.raises(ValueError, match="that of a name"):
        plasmid.put(1, lifetime=lifetime)


def test_a_close_name_is_suggested() -> None:
    plasmid.put(1, name="prices")
    with pytest.raises(ObjectLostError, match="did you mean 'prices'"):
        plasmid.get_object("price")


def test_bad_names_and_lifetimes_are_refused() -> None:
    for lifetime in ("for ever", 0, -1, float("nan"), float("inf")):
        with pytest.raises(ValueError, match="lifetime"):
            plasmid.put(1, name="x", lifetime=lifetime)
    for lifetime in (None, True, [1]):
        with pytest.raises(TypeError, match="lifetime"):
            plasmid.put(1, name="x", lifetime=lifetime)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="string"):
        plasmid.put(1, name=5)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="empty"):
        plasmid.get_object("")
    assert plasmid.list_named_objects() == []


# Freed -------------------------------------------------------------------------------------------


def test_a_freed_object_is_gone_for_everybody() -> None:
    used = arena().stats()["heap_used"]
    ref = plasmid.put(np.zeros(MB))
    plasmid.free(ref)
    assert arena().stats()["heap_used"] == used
    with pytest.raises(ObjectFreedError, match=ref.hex()):
        plasmid.get(ref)
    assert plasmid.wait([ref]) == ([ref], [])

    @plasmid.remote
    def look(array: Any) -> None:
        raise AssertionError("it ran")

    with pytest.raises(ObjectFreedError):
        plasmid.get(look.remote(ref))
    plasmid.free([ref, ref])
    with pytest.raises(ObjectFreedError):
        plasmid.get(plasmid.get(plasmid.put([ref]))[0])


def test_views_of_a_freed_object_stay() -> None:
    used = arena().stats()["heap_used"]
    ref = plasmid.put(np.arange(MB))
    view, part = plasmid.get(ref), plasmid.get(ref)[5:]
    plasmid.free(ref)
    other = plasmid.put(np.zeros(MB))
    assert view[7] == 7
    assert part[0] == 5
    del view, other
    assert arena().stats()["heap_used"] > used
    del part
    assert arena().stats()["heap_used"] == used


def test_small_objects_can_be_freed() -> None:
    for value in (None, 5, "text", b"bytes", [1, 2]):
        ref = plasmid.put(value)
        plasmid.free(ref)
        with pytest.raises(ObjectFreedError):
            plasmid.get(ref)


def test_a_result_is_freed_as_it_comes(gate: Gate) -> None:
    @plasmid.remote
    def make(gate: Gate) -> Any:
        gate.wait()
        return np.zeros(MB)

    used = arena().stats()["heap_used"]
    ref = make.remote(gate)
    future = ref.future()
    gate.await_arrivals(1)
    plasmid.free(ref)
    with pytest.raises(ObjectFreedError):
        plasmid.get(ref)
    with pytest.raises(ObjectFreedError):
        future.result(10)
    del future
    gate.open()
    until(lambda: arena().stats()["tasks"] == 0, "the task does not end")
    assert arena().stats()["heap_used"] < used + MB
    with pytest.raises(ObjectFreedError):
        plasmid.get(ref)


def test_who_waits_for_a_freed_argument_fails_with_it(gate: Gate) -> None:
    @plasmid.remote
    def make(gate: Gate) -> int:
        gate.wait()
        return 1

    @plasmid.remote
    def use(value: int) -> int:
        return value

    ref = make.remote(gate)
    used = use.remote(ref)
    gate.await_arrivals(1)
    plasmid.free(ref)
    with pytest.raises(ObjectFreedError):
        plasmid.get(used)
    gate.open()


def test_the_error_of_a_task_whose_argument_was_freed_names_it() -> None:
    ref = plasmid.put(np.zeros(MB))
    plasmid.free(ref)

    @plasmid.remote
    def use(array: Any) -> None:
        pass

    with pytest.raises(ObjectFreedError, match=ref.hex()):
        plasmid.get(use.remote(ref))


def test_objects_that_keep_each_other_are_freed(gate: Gate) -> None:
    @plasmid.remote
    def contain(gate: Gate, name: str) -> Any:
        gate.wait()
        (other,) = plasmid.get(plasmid.get_object(name))
        return [other, np.zeros(MB)]

    used = arena().stats()["heap_used"]
    first, second = contain.remote(gate, "second"), contain.remote(gate, "first")
    plasmid.put([first], name="first")
    plasmid.put([second], name="second")
    gate.open()
    plasmid.wait([first, second], num_returns=2)
    for name in ("first", "second"):
        plasmid.delete_object(name)
    assert plasmid.get(plasmid.get(first)[0])[0] == first
    until(lambda: arena().stats()["tasks"] == 0, "tasks are left")
    cycles = memory.survey(arena())["cycles"]
    assert sorted(cycles[0]) == sorted([first.hex(), second.hex()])
    plasmid.free(first)
    del first, second
    until(lambda: arena().stats()["heap_used"] < used + MB, arena().dump())


def test_only_references_can_be_freed() -> None:
    ref = plasmid.put(1)
    for what in (5, [ref, 5], "ref", None):
        with pytest.raises(TypeError, match="free"):
            plasmid.free(what)  # type: ignore[arg-type]
    assert plasmid.get(ref) == 1
    internal_api.free([ref])
    with pytest.raises(ObjectFreedError):
        plasmid.get(ref)
