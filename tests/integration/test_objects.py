"""put and get: what comes back, what is shared, and when memory is given back."""

from __future__ import annotations

import copy
import datetime
import decimal
import enum
import gc
import pickle
import threading
import weakref
from collections import OrderedDict, namedtuple
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from support import STORE, arena, run_program

import plasmid
from plasmid.exceptions import GetTimeoutError, ObjectLostError, ObjectStoreFullError

pytestmark = pytest.mark.usefixtures("session")

Point = namedtuple("Point", "x y")


class Colour(enum.Enum):
    RED = 1


@dataclass
class Box:
    content: Any
    label: str = "box"


def address(array: np.ndarray) -> int:
    return array.__array_interface__["data"][0]


def used() -> int:
    gc.collect()
    return arena().stats()["heap_used"]


# What comes back ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "value",
    [
        None,
        True,
        0,
        -1,
        2**63 - 1,
        -(2**63),
        2**63,
        10**100,
        1.5,
        float("-inf"),
        -0.0,
        3 + 4j,
        "",
        "snow ☃ and \0 and \U0001f600",
        "lone \ud800 surrogate",
        b"",
        b"\0" * 1000,
        bytearray(b"abc"),
        (),
        (1, (2, (3,))),
        [],
        [1, "a", None, [2.5]],
        {},
        {"a": 1, 2: {"b": [3]}, None: ()},
        {1, 2},
        frozenset({"x"}),
        range(3, 10, 2),
        slice(1, None, 2),
        Ellipsis,
        decimal.Decimal("1.10"),
        datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC),
        OrderedDict(b=1, a=2),
        Point(1, [2]),
        Colour.RED,
        Box({"k": 1}),
        Path("/a/b"),
        int,
        len,
        Box,
        ValueError("x", 1),
        NotImplemented,
    ],
    ids=lambda value: f"{type(value).__name__}:{repr(value)[:20]!a}",
)
def test_a_value_comes_back_with_its_type(value: Any) -> None:
    found = plasmid.get(plasmid.put(value))
    assert type(found) is type(value)
    assert repr(found) == repr(value)


def test_nan_and_singletons_stay_what_they_are() -> None:
    found = plasmid.get(plasmid.put([float("nan"), None, True, ..., Colour.RED]))
    assert found[0] != found[0]
    assert all(a is b for a, b in zip(found[1:], [None, True, ..., Colour.RED], strict=True))


@pytest.mark.parametrize("kind", [bytes, str])
def test_every_length_around_the_inline_limit_comes_back(kind: type) -> None:
    values = [(b"x" if kind is bytes else "x") * n for n in [*range(300), 511, 512, 4095, 4096]]
    assert plasmid.get([plasmid.put(value) for value in values]) == values


@pytest.mark.parametrize(
    "array",
    [
        np.arange(12).reshape(3, 4),
        np.asfortranarray(np.arange(12.0).reshape(3, 4)),
        np.arange(100)[::-7],
        np.array(5),
        np.zeros((0, 3)),
        np.array(["a", None, {"b": 1}], dtype=object),
        np.array([(1, 2.5)], dtype=[("a", "i4"), ("b", "f8")]),
        np.array(["2026-01-01"], dtype="datetime64[D]"),
        np.array(["ab", "c"]),
        np.array([True, False]),
        np.ma.masked_array([1, 2], mask=[0, 1]),
        np.float32(1.5),
    ],
    ids=lambda array: f"{array.dtype}-{array.shape}",
)
def test_an_array_comes_back_with_dtype_and_shape(array: np.ndarray) -> None:
    found = plasmid.get(plasmid.put(array))
    assert type(found) is type(array)
    assert (found.dtype, found.shape) == (array.dtype, array.shape)
    np.testing.assert_array_equal(found, array)


def test_tables_come_back_with_index_names_and_schema() -> None:
    frame = pd.DataFrame(
        {"a": [1.5, None], "b": ["x", "y"], "c": pd.Categorical(["u", "v"])},
        index=pd.Index([10, 20], name="i"),
    )
    frame.attrs["source"] = "here"
    table = pa.table({"n": [1, None, 3], "s": ["a", "b", None]}).replace_schema_metadata({"k": "v"})
    found, series, arrow = plasmid.get([plasmid.put(x) for x in (frame, frame["a"], table)])
    pd.testing.assert_frame_equal(found, frame)
    assert found.attrs == {"source": "here"}
    pd.testing.assert_series_equal(series, frame["a"])
    assert arrow.equals(table, check_metadata=True)


def test_shared_parts_of_a_value_stay_shared_and_cycles_closed() -> None:
    part = [1]
    loop: list[Any] = [part, part]
    loop.append(loop)
    found = plasmid.get(plasmid.put(loop))
    assert found[0] is found[1]
    assert found[2] is found


def test_objects_of_local_classes_come_back_as_the_same_class() -> None:
    class Local:
        def __init__(self, x: int) -> None:
            self.x = x

    found = plasmid.get(plasmid.put(Local(3)))
    assert found.x == 3
    assert type(found) is Local


@dataclass
class Base:
    a: int = 0


def slotted() -> list[Any]:
    """Objects of classes that no other process can import."""

    class Plain:
        __slots__ = ("a",)

    class OneName:
        __slots__ = "a"

    class Derived(Plain):
        __slots__ = ("b",)

    class Weak:
        __slots__ = ("__weakref__", "a")

    class Open:
        __slots__ = ("__dict__", "a")

    class BesideADict(Base):
        __slots__ = ("b",)

    @dataclass(slots=True)
    class Data:
        a: int

    @dataclass(slots=True, frozen=True)
    class Frozen:
        a: int = 1

    kinds: list[Any] = [Plain, OneName, Derived, Weak, Open, BesideADict]
    made = [kind() for kind in kinds]
    for each in made:
        each.a = 1
    return [*made, Data(1), Frozen(1)]


@pytest.mark.parametrize("value", slotted(), ids=lambda value: type(value).__name__)
def test_an_object_with_slots_comes_back_from_a_task(value: Any) -> None:
    @plasmid.remote
    def same(value: Any) -> Any:
        assert hasattr(value, "__dict__") is has_dict
        return value

    has_dict = hasattr(value, "__dict__")
    found = plasmid.get(same.remote(value))
    assert type(found) is type(value)
    assert found.a == 1


def test_functions_and_lambdas_can_be_put() -> None:
    step = 3
    assert plasmid.get(plasmid.put(lambda x: x + step))(1) == 4


def test_classes_of_main_can_be_put_and_sent() -> None:
    out, _ = run_program("""
        import plasmid
        class Pair:
            def __init__(self, a, b): self.a, self.b = a, b
            def __eq__(self, other): return (self.a, self.b) == (other.a, other.b)
        @plasmid.remote
        def swap(pair): return Pair(pair.b, pair.a)
        plasmid.init(num_cpus=1, object_store_memory=4 << 20)
        found = plasmid.get(swap.remote(plasmid.put(Pair(1, 2))))
        print(found == Pair(2, 1), type(found) is Pair, isinstance(found, Pair))
        """)
    assert out == "True True True\n"


def test_changing_the_original_or_a_copy_changes_nothing_stored() -> None:
    original = {"list": [1], "array": np.zeros(1000)}
    ref = plasmid.put(original)
    original["list"].append(2)
    original["array"][:] = 1
    first = plasmid.get(ref)
    first["list"].append(3)
    second = plasmid.get(ref)
    assert second["list"] == [1]
    assert second["array"].sum() == 0


# Lists and dicts of references -------------------------------------------------------------------


def test_get_of_a_list_keeps_order_and_repetitions() -> None:
    a, b = plasmid.put("a"), plasmid.put("b")
    assert plasmid.get([b, a, b, b]) == ["b", "a", "b", "b"]


def test_get_of_a_dict_keeps_its_keys_in_order() -> None:
    refs = {n: plasmid.put(n * n) for n in (3, 1, 2)}
    found = plasmid.get({**refs, "again": refs[1]})
    assert list(found.items()) == [(3, 9), (1, 1), (2, 4), ("again", 1)]


def test_a_list_of_a_class_derived_from_list_is_a_list() -> None:
    class Refs(list[Any]):
        pass

    refs = Refs(plasmid.put(i) for i in range(3))
    assert plasmid.get(refs) == [0, 1, 2]
    assert plasmid.wait(refs, num_returns=3) == (list(refs), [])


def test_get_of_nothing_is_nothing() -> None:
    assert plasmid.get([]) == []
    assert plasmid.get({}) == {}
    assert plasmid.get([], timeout=0) == []


@pytest.mark.parametrize("what", [1, None, "x", (), {1}, object()])
def test_get_of_what_is_no_reference_is_a_value_error(what: object) -> None:
    with pytest.raises(ValueError, match="neither an ObjectRef"):
        plasmid.get(what)


def test_get_of_a_list_with_something_else_in_it_is_a_type_error() -> None:
    with pytest.raises(TypeError, match="is not an ObjectRef"):
        plasmid.get([plasmid.put(1), 2])
    with pytest.raises(TypeError, match="is not an ObjectRef"):
        plasmid.get({"a": plasmid.put(1), "b": [plasmid.put(2)]})


def test_timeout_zero_gets_what_is_there() -> None:
    ref = plasmid.put(1)
    assert plasmid.get(ref, timeout=0) == 1
    assert plasmid.get([ref, ref], timeout=0) == [1, 1]


@plasmid.remote
def wait_at(gate: Any) -> str:
    gate.wait()
    return "open"


@pytest.mark.parametrize("timeout", [0, 0.02])
def test_get_of_what_is_not_there_times_out_and_can_be_tried_again(gate, timeout) -> None:
    ref = wait_at.remote(gate)
    with pytest.raises(GetTimeoutError, match=r"1 of 1 .*ObjectRef\("):
        plasmid.get(ref, timeout=timeout)
    with pytest.raises(TimeoutError, match="1 of 3"):
        plasmid.get([plasmid.put(1), ref, plasmid.put(2)], timeout=timeout)
    gate.open()
    assert plasmid.get(ref, timeout=-1) == "open"


# Sharing -----------------------------------------------------------------------------------------


def test_arrays_are_read_only_views_of_the_same_memory() -> None:
    ref = plasmid.put(np.arange(1000))
    one, two = plasmid.get([ref, ref])
    assert address(one) == address(two)
    assert address(one) % 64 == 0
    with pytest.raises(ValueError, match="read-only"):
        one[0] = 1
    with pytest.raises(ValueError, match="WRITEABLE"):
        one.flags.writeable = True
    two = two.copy()
    two[0] = 1


def test_arrays_inside_other_values_are_views_too() -> None:
    ref = plasmid.put({"box": Box([np.zeros(10_000)])})
    one, two = (plasmid.get(ref)["box"].content[0] for _ in range(2))
    assert address(one) == address(two)
    assert not one.flags.writeable


@plasmid.remote
def where(array: np.ndarray, outer: list[Any]) -> tuple[bool, float]:
    inner = plasmid.get(outer[0])
    return np.shares_memory(array, inner), float(array.sum())


def test_a_task_sees_one_copy_by_whatever_way_it_got_the_reference() -> None:
    ref = plasmid.put(np.ones(100_000))
    assert plasmid.get(where.remote(ref, [ref])) == (True, 100_000.0)


def test_a_view_outlives_its_reference_and_gives_the_memory_back() -> None:
    before = used()
    view = plasmid.get(plasmid.put(np.arange(1_000_000)))[500_000:500_010]
    for _ in range(5):  # would take the memory if it were free
        plasmid.put(np.zeros(1_000_000))
    np.testing.assert_array_equal(view, np.arange(500_000, 500_010))
    assert used() >= before + 8_000_000
    del view
    assert used() == before


@pytest.mark.parametrize("wrap", [memoryview, np.asarray, lambda v: pa.py_buffer(v)])
def test_what_others_make_of_a_view_keeps_the_memory(wrap: Any) -> None:
    before = used()
    other = wrap(plasmid.get(plasmid.put(np.arange(10_000))))
    plasmid.put(np.zeros(10_000))
    assert bytes(other)[8:16] == (1).to_bytes(8, "little")
    assert used() > before
    del other
    assert used() == before


def test_a_dropped_object_is_gone_at_once() -> None:
    before = used()
    for _ in range(100):
        plasmid.put(b"x" * (STORE // 3))
    assert used() == before


def test_a_view_put_again_is_a_copy_of_its_own() -> None:
    first = plasmid.put(np.arange(1000))
    second = plasmid.put(plasmid.get(first)[10:20])
    del first
    np.testing.assert_array_equal(plasmid.get(second), np.arange(10, 20))


# References inside of objects --------------------------------------------------------------------


def test_a_reference_is_not_stored_by_itself_but_in_a_list() -> None:
    ref = plasmid.put(1)
    with pytest.raises(TypeError, match="list"):
        plasmid.put(ref)
    assert plasmid.get(plasmid.put([ref, {"a": (ref,)}])) == [ref, {"a": (ref,)}]


def test_an_object_keeps_what_its_references_refer_to() -> None:
    before = used()
    outer = plasmid.put({"deep": [plasmid.put(np.arange(100_000))]})
    inner = plasmid.get(outer)["deep"][0]
    del outer
    assert plasmid.get(inner)[-1] == 99_999
    del inner
    assert used() == before


def test_a_long_chain_of_objects_goes_with_its_head() -> None:
    before = used()
    ref = plasmid.put(b"x" * 500)
    for _ in range(5000):
        ref = plasmid.put([ref])
    assert used() > before
    del ref
    assert used() == before


def test_many_references_in_one_object_in_order_and_with_repetitions() -> None:
    refs = [plasmid.put(n) for n in range(3000)]
    outer = plasmid.put(refs + refs[:10])
    expected = [*range(3000), *range(10)]
    del refs
    assert plasmid.get(plasmid.get(outer)) == expected


def test_a_reference_as_key_or_in_a_set_is_found_again() -> None:
    a, b = plasmid.put(1), plasmid.put(2)
    found = plasmid.get(plasmid.put(({a: "a"}, {b}, Box(a))))
    assert found == ({a: "a"}, {b}, Box(a))
    assert found[0][a] == "a"


# ObjectRef ---------------------------------------------------------------------------------------


def test_a_reference_shows_its_id() -> None:
    ref = plasmid.put(1)
    assert isinstance(ref, plasmid.ObjectRef)
    assert repr(ref) == str(ref) == f"ObjectRef({ref.hex()})"
    assert bytes.fromhex(ref.hex()) == ref.binary()
    assert len(ref.binary()) == 28


def test_references_are_equal_by_id() -> None:
    a, b = plasmid.put(1), plasmid.put(1)
    (again,) = plasmid.get(plasmid.put([a]))
    assert again == a
    assert again is not a
    assert hash(again) == hash(a)
    assert a != b
    assert a != a.binary()
    assert len({a, b, again}) == 2


def test_an_id_is_never_used_twice() -> None:
    assert len({plasmid.put(1).hex() for _ in range(2000)}) == 2000


def test_a_reference_cannot_be_made_by_hand() -> None:
    with pytest.raises(TypeError, match="put"):
        plasmid.ObjectRef(b"\0" * 28)


def test_a_reference_can_be_copied_and_weakly_referred_to() -> None:
    ref = plasmid.put([1])
    assert copy.copy(ref) == copy.deepcopy([ref])[0] == ref
    weak = weakref.ref(ref)
    assert weak() is ref
    del ref
    assert weak() is None


def test_a_reference_pickled_by_the_user_is_read_back_while_the_object_lives() -> None:
    ref = plasmid.put("value")
    data = pickle.dumps({"ref": ref})
    assert plasmid.get(pickle.loads(data)["ref"]) == "value"
    del ref
    with pytest.raises(ObjectLostError):
        pickle.loads(data)


def test_an_id_is_made_a_reference_while_the_object_lives() -> None:
    ref = plasmid.put("value")
    binary, text = ref.binary(), ref.hex()
    again = plasmid.ObjectRef.from_binary(binary)
    assert again == ref == plasmid.ObjectRef.from_hex(text)
    del ref
    assert plasmid.get(again) == "value"
    del again
    with pytest.raises(ObjectLostError, match=text):
        plasmid.ObjectRef.from_binary(binary)
    with pytest.raises(ObjectLostError, match="another session"):
        plasmid.ObjectRef.from_binary(bytes(28))
    for bad, error in ((text, TypeError), (None, TypeError), (b"short", ValueError)):
        with pytest.raises(error):
            plasmid.ObjectRef.from_binary(bad)  # type: ignore[arg-type]
    for bad, error in ((binary, TypeError), ("xyz", ValueError), ("00", ValueError)):
        with pytest.raises(error):
            plasmid.ObjectRef.from_hex(bad)  # type: ignore[arg-type]


def test_references_are_annotated_with_what_they_refer_to() -> None:
    assert plasmid.ObjectRef[int].__args__ == (int,)  # type: ignore[attr-defined]


@plasmid.remote
def get_pickled(data: bytes) -> Any:
    return plasmid.get(pickle.loads(data))


def test_a_reference_pickled_by_the_user_is_read_back_in_a_task() -> None:
    ref = plasmid.put("value")
    assert plasmid.get(get_pickled.remote(pickle.dumps(ref))) == "value"


# No room, and no way -----------------------------------------------------------------------------


def test_an_object_larger_than_the_store_is_refused_with_both_sizes() -> None:
    with pytest.raises(
        ObjectStoreFullError, match=rf"{STORE + 64} bytes.* of {STORE} bytes"
    ) as full:
        plasmid.put(b"x" * STORE)
    assert isinstance(full.value, MemoryError)
    assert plasmid.get(plasmid.put(b"x" * (STORE // 2))) == b"x" * (STORE // 2)


def test_what_cannot_be_pickled_is_named_by_its_path() -> None:
    before = used()
    value = {"boxes": [Box(1), Box({"lock": threading.Lock()})]}
    with pytest.raises(TypeError, match=r"\[\"boxes\"\]\[1\]\.content\[\"lock\"\].*lock"):
        plasmid.put(value)
    assert used() == before


class Stubborn:
    """Pickles well, and refuses to be made again."""

    def __reduce__(self) -> Any:
        return _refuse, ()


def _refuse() -> None:
    raise RuntimeError("not here")


def test_an_error_while_a_value_is_rebuilt_reaches_get_and_leaks_nothing() -> None:
    before = used()
    ref = plasmid.put([Stubborn(), np.zeros(10_000)])
    for _ in range(3):
        with pytest.raises(RuntimeError, match="not here"):
            plasmid.get(ref)
    del ref
    assert used() == before


# Threads and numbers -----------------------------------------------------------------------------


def test_eight_threads_put_and_get_at_once() -> None:
    wrong: list[Any] = []

    def work(seed: int) -> None:
        kept: list[tuple[Any, np.ndarray]] = []
        for n in range(150):
            value = np.full((n * 37) % 5000, seed * 1000 + n)
            kept.append((plasmid.put(value), value))
            if len(kept) > 10:
                del kept[n % 10]
            ref, expected = kept[n % len(kept)]
            if not np.array_equal(plasmid.get(ref), expected):
                wrong.append((seed, n))

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_one_reference_used_and_dropped_by_many_threads() -> None:
    before = used()
    ref = plasmid.put(np.arange(10_000))
    sums: list[int] = []

    def work(mine: Any) -> None:
        again = (plasmid.get(plasmid.get(plasmid.put([mine]))[0]) for _ in range(200))
        sums.extend(int(array[-1]) for array in again)

    threads = [threading.Thread(target=work, args=(ref,)) for _ in range(8)]
    for thread in threads:
        thread.start()
    del ref
    for thread in threads:
        thread.join()
    assert sums == [9_999] * 1600
    del threads, thread
    assert used() == before


def test_a_hundred_thousand_small_objects_come_and_go() -> None:
    before = used()
    refs = [plasmid.put(n) for n in range(100_000)]
    assert plasmid.get(refs) == list(range(100_000))
    refs.reverse()
    del refs[::2]
    assert plasmid.get(refs[:3]) == [99_998, 99_996, 99_994]
    refs.clear()
    assert used() == before
