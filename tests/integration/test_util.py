"""plasmid.util: custom serializers, results as they come."""

from __future__ import annotations

import copyreg
import threading
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from support import Gate, run_program

import plasmid
from plasmid import util
from plasmid.exceptions import GetTimeoutError

pytestmark = pytest.mark.usefixtures("session")


class Locked:
    """Cannot be pickled."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.lock = threading.Lock()


@pytest.fixture
def registered() -> Any:
    util.register_serializer(
        Locked, serializer=lambda locked: locked.number, deserializer=lambda n: Locked(n + 100)
    )
    yield
    util.deregister_serializer(Locked)


def test_a_serializer_serves_its_class(registered: None) -> None:
    got = plasmid.get(plasmid.put([Locked(1), {"x": Locked(2)}]))
    assert [got[0].number, got[1]["x"].number] == [101, 102]


def test_a_serializer_serves_tasks_too(registered: None) -> None:
    @plasmid.remote
    def make(given: Any) -> Any:
        return Locked(given.number + 1)

    assert plasmid.get(make.remote(Locked(1))).number == 202


def test_a_serializer_is_forgotten_everywhere() -> None:
    util.register_serializer(Locked, serializer=vars, deserializer=dict)

    @plasmid.remote
    def make() -> Any:
        return Locked(1)

    util.deregister_serializer(Locked)
    util.deregister_serializer(Locked)
    with pytest.raises(TypeError, match="lock"):
        plasmid.put(Locked(1))
    with pytest.raises(TypeError, match="lock"):
        plasmid.get(make.remote())


def test_a_worker_may_register(registered: None) -> None:
    class Mine:
        pass

    @plasmid.remote
    def register() -> None:
        util.register_serializer(Mine, serializer=id, deserializer=str)

    @plasmid.remote
    def make() -> Any:
        return [Mine(), Locked(1)]

    plasmid.get(register.remote())
    text, locked = plasmid.get(make.remote())
    assert text.isdigit()
    assert locked.number == 101
    util.deregister_serializer(Mine)


def test_serializers_of_before_the_session_are_taken_along() -> None:
    run_program(
        """
        import plasmid
        class A: __reduce__ = None
        plasmid.util.register_serializer(A, serializer=lambda a: 5, deserializer=lambda five: five)
        plasmid.init(num_cpus=1, object_store_memory=50_000_000)
        @plasmid.remote
        def make(): return A()
        assert plasmid.get(make.remote()) == 5
        """
    )


def test_what_is_no_serializer_is_refused() -> None:
    with pytest.raises(TypeError, match="class"):
        util.register_serializer(5, serializer=id, deserializer=id)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="deserializer must be callable"):
        util.register_serializer(Locked, serializer=id, deserializer=5)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="class"):
        util.deregister_serializer(5)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "cls", [type(None), bool, int, str, bytes, bytearray, list, dict, type, plasmid.ObjectRef]
)
def test_a_class_of_which_no_pickler_asks_how_is_refused(cls: type) -> None:
    with pytest.raises(TypeError, match="in its own way"):
        util.register_serializer(cls, serializer=id, deserializer=id)
    assert plasmid.get(plasmid.put([1, None, True])) == [1, None, True]


@pytest.mark.parametrize(
    "value",
    [np.ones(3), pa.table({"a": [1]}), pd.DataFrame({"a": [1]}), memoryview(b"x"), KeyError("k")],
    ids=lambda value: type(value).__name__,
)
def test_a_users_serializer_goes_before_ours_and_ours_comes_back(value: Any) -> None:
    cls = type(value)
    kind = plasmid.explain(plasmid.put(value)).kind
    util.register_serializer(cls, serializer=lambda _: "theirs", deserializer=lambda it: (it,))
    try:
        assert plasmid.get(plasmid.put(value)) == ("theirs",)
        assert plasmid.get(plasmid.put([value])) == [("theirs",)]
    finally:
        util.deregister_serializer(cls)
    assert type(plasmid.get(plasmid.put(value))) is cls
    assert plasmid.explain(plasmid.put(value)).kind == kind
    assert type(plasmid.get(plasmid.put([value]))[0]) is cls


class Refused(Exception):
    def __init__(self, what: str, lock: Any) -> None:
        super().__init__(what)
        self.lock = lock


def test_an_exception_with_a_serializer_is_raised_as_that_made_it() -> None:
    util.register_serializer(
        Refused, serializer=lambda error: error.args[0], deserializer=lambda it: Refused(it, "new")
    )

    @plasmid.remote
    def refuse() -> None:
        raise Refused("no", threading.Lock())

    try:
        assert plasmid.get(plasmid.put(Refused("no", 1))).lock == "new"
        with pytest.raises(Refused) as caught:
            plasmid.get(refuse.remote())
        assert caught.value.cause.lock == "new"  # type: ignore[attr-defined]
    finally:
        util.deregister_serializer(Refused)


def test_a_copyreg_entry_of_an_exception_is_used() -> None:
    copyreg.pickle(Refused, lambda error: (Refused, (error.args[0], "copyreg")))
    try:
        assert plasmid.get(plasmid.put([Refused("no", 1)]))[0].lock == "copyreg"
    finally:
        del copyreg.dispatch_table[Refused]


def test_results_come_as_they_are_ready(gate: Gate) -> None:
    @plasmid.remote
    def last(gate: Gate) -> str:
        gate.wait()
        return "last"

    @plasmid.remote
    def first(i: int) -> int:
        return i

    refs = [last.remote(gate), *(first.remote(i) for i in range(5))]
    values = util.as_completed(refs)
    assert sorted(next(values) for _ in range(5)) == [0, 1, 2, 3, 4]
    with pytest.raises(GetTimeoutError):
        list(util.as_completed(refs[:1], timeout=0.01))
    gate.open()
    assert list(values) == ["last"]
    assert set(util.as_completed(refs, yield_obj_refs=True, chunk_size=2)) == set(refs)
    with pytest.raises(ValueError, match="chunk_size"):
        util.as_completed(refs, chunk_size=0)


def test_a_function_is_mapped_over_items_with_a_bound() -> None:
    @plasmid.remote
    def double(i: int) -> int:
        return 2 * i

    read: list[int] = []

    def items() -> Any:
        for i in range(100):
            read.append(i)
            yield i

    results = util.map_unordered(double, items(), backpressure_size=10)
    found = [next(results)]
    assert len(read) == 10
    found += results
    assert sorted(found) == [2 * i for i in range(100)]
    assert list(util.map_unordered(double, [])) == []
    with pytest.raises(ValueError, match="backpressure_size"):
        util.map_unordered(double, [1], backpressure_size=1)


def test_bad_sizes_and_functions_are_refused_before_anything_runs() -> None:
    @plasmid.remote
    def same(i: int) -> int:
        return i

    for size, error in ((0, ValueError), (2.5, TypeError), ("3", TypeError), (True, TypeError)):
        with pytest.raises(error, match="chunk_size"):
            util.as_completed([], chunk_size=size)  # type: ignore[arg-type]
        with pytest.raises(error, match="chunk_size"):
            util.map_unordered(same, [1], chunk_size=size)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="remote function"):
        util.map_unordered(abs, [1])
