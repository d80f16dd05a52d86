"""Arrays made in place, memory shared by reference, writable views, and what explain says."""

from __future__ import annotations

import os
import signal
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support import Gate, arena, run_program, until

import plasmid
from plasmid.exceptions import ObjectCorruptedError, ObjectStoreFullError, SealTimeoutError

pytestmark = pytest.mark.usefixtures("session")

MB = 1 << 20
COPIES_ON_WRITE = pytest.mark.skipif(pd.__version__ < "3", reason="pandas 2 copies what it takes")


def address(array: Any) -> int:
    return int(np.asarray(array).__array_interface__["data"][0])


class Noted(np.ndarray[Any, Any]):
    """A class that says nothing about how it is pickled."""


class SelfPickled(np.ndarray[Any, Any]):
    """One that does."""

    def __reduce__(self) -> Any:
        return super().__reduce__()


# Made in place -----------------------------------------------------------------------------------


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize(
    "dtype", ["f8", ">i4", "U3", "M8[ns]", "?", [("a", "i4"), ("b", "f8", (2,))]]
)
@pytest.mark.parametrize("shape", [(), 0, 5, (3, 4), (2, 3, 4), (2, 1, 3, 2)])
def test_an_array_made_in_place_is_got_as_it_was(shape: Any, dtype: Any, order: Any) -> None:
    made = plasmid.empty(shape, dtype, order)
    assert made.flags.writeable
    assert made.dtype == np.dtype(dtype)
    assert made.flags.f_contiguous if order == "F" else made.flags.c_contiguous
    made[...] = np.zeros((), dtype)
    expected = made.copy(order="K")
    got = plasmid.get(plasmid.put(made))
    assert got.dtype == expected.dtype
    assert got.shape == expected.shape
    assert (got.flags.f_contiguous, got.flags.c_contiguous) == (
        made.flags.f_contiguous,
        made.flags.c_contiguous,
    )
    np.testing.assert_array_equal(got, expected)
    assert not got.flags.writeable


def test_a_seal_copies_nothing() -> None:
    made = plasmid.empty(8 * MB, np.uint8)
    made[:] = 7
    used = arena().stats()["heap_used"]
    ref = plasmid.put(made)
    assert arena().stats()["heap_used"] == used
    explained = plasmid.explain(ref)
    assert explained.copied == 0
    assert "in place" in str(explained)
    assert not made.flags.writeable
    with pytest.raises(ValueError, match="read-only"):
        made[0] = 1


def test_older_slices_of_a_sealed_array_change_only_themselves() -> None:
    made = plasmid.empty(4 * MB, np.uint8)
    made[:] = 7
    slice_ = made[10:]
    ref = plasmid.seal(made)
    slice_[:] = 9
    assert slice_[0] == made[10] == 9
    assert (plasmid.get(ref) == 7).all()
    del made, slice_
    assert (plasmid.get(ref) == 7).all()


def test_workers_fill_slices_of_one_array() -> None:
    made = plasmid.empty((4, MB // 4), np.int64)

    @plasmid.remote
    def fill(part: np.ndarray[Any, Any], value: int) -> tuple[bool, int]:
        part[:] = value
        return part.flags.writeable, os.getpid()

    filled = plasmid.get([fill.remote(made[i], i) for i in range(4)])
    assert all(writeable and pid != os.getpid() for writeable, pid in filled)
    assert [set(row) for row in made] == [{0}, {1}, {2}, {3}]
    stored = plasmid.get(plasmid.put(made))
    assert [set(row) for row in stored] == [{0}, {1}, {2}, {3}]


def test_small_arrays_in_place_are_shared_too_inside_of_arguments() -> None:
    made = plasmid.empty(3)

    @plasmid.remote
    def fill(box: dict[str, Any]) -> None:
        box["x"][:] = 5.0

    plasmid.get(fill.remote({"x": made}))
    assert list(made) == [5.0] * 3


def test_a_worker_seals_what_it_returns(gate: Gate) -> None:
    @plasmid.remote
    def make() -> tuple[np.ndarray[Any, Any], list[Any]]:
        whole = plasmid.empty(MB, np.uint8)
        whole[:] = 3
        part = plasmid.empty(MB, np.uint8)
        part[:] = 4
        return whole, [part[1:]]

    whole, (part,) = plasmid.get(make.remote())
    assert (whole == 3).all()
    assert (part == 4).all()
    assert part.size == MB - 1
    assert not part.flags.writeable


def test_other_values_are_stored_as_ever_beside_an_array_in_place() -> None:
    made = plasmid.empty(10)
    for value in (np.zeros((0, 3)), np.zeros(5), np.arange(10)[::-2], {"x": np.zeros(0)}, [made]):
        got = plasmid.get(plasmid.put(value))
        assert type(got) is type(value)
    np.testing.assert_array_equal(plasmid.get(plasmid.put(np.arange(10)[::-2])), [9, 7, 5, 3, 1])


@pytest.mark.filterwarnings("ignore::PendingDeprecationWarning")
@pytest.mark.parametrize("size", [4, 1 << 14])
@pytest.mark.parametrize(
    "view",
    [
        lambda made: made.view(np.matrix),
        lambda made: made.view(np.ma.MaskedArray),
        lambda made: made.view(Noted),
        lambda made: made[:, ::2],
        lambda made: made[::-1].T,
        lambda made: memoryview(made),
        lambda made: memoryview(made)[::2],
        lambda made: memoryview(made.T),
        lambda made: pd.DataFrame(made, copy=False),
        lambda made: pd.DataFrame(made, copy=False).iloc[1:],
        lambda made: pd.Series(made[1], copy=False),
    ],
    ids=[
        "matrix",
        "masked",
        "class",
        "steps",
        "reversed",
        "memory",
        "strided",
        "transposed",
        "frame",
        "rows",
        "series",
    ],
)
def test_what_a_task_writes_to_any_view_is_written(view: Any, size: int) -> None:
    made = plasmid.empty((4, size))
    made[:] = 0

    @plasmid.remote
    def fill(box: Any) -> str:
        part = box[0]
        if isinstance(part, memoryview):
            np.asarray(part)[:] = 5
        elif isinstance(part, (pd.DataFrame, pd.Series)):
            part.iloc[:] = 5.0
        else:
            part[...] = 5
        return type(part).__name__

    part = view(made)
    assert plasmid.get(fill.remote([part])) == type(part).__name__
    expected = np.zeros(made.shape)
    shown = view(expected)
    if isinstance(shown, (pd.DataFrame, pd.Series)):
        shown = shown.to_numpy(copy=False)
        shown.flags.writeable = True
    np.asarray(shown)[...] = 5
    assert expected.any()
    np.testing.assert_array_equal(made, expected)
    again = np.asarray(plasmid.get(plasmid.put(part)))
    assert (again == 5).all()


def test_what_a_task_writes_to_fields_and_records_is_written() -> None:
    made = plasmid.empty(100, [("a", "i4"), ("b", "f8", (2,))])
    made[...] = 0

    @plasmid.remote
    def fill(box: Any) -> str:
        box["records"].a[1:] = 3
        box["field"][:] = 4
        return type(box["records"]).__name__

    box = {"records": made.view(np.recarray), "field": made["b"][::2, 1]}
    assert plasmid.get(fill.remote(box)) == "recarray"
    assert made["a"].tolist() == [0] + [3] * 99
    assert made["b"][:, 1].tolist() == [4, 0] * 50
    assert not made["b"][:, 0].any()


def test_a_view_that_would_be_pickled_as_a_copy_is_refused() -> None:
    made = plasmid.empty(100)
    made[:] = 1
    view = made.view(SelfPickled)

    @plasmid.remote
    def look(array: Any) -> float:
        return float(array.sum())

    with pytest.raises(TypeError, match=r"SelfPickled.*made in place.*numpy.asarray"):
        look.remote(view)
    assert plasmid.get(look.remote(np.asarray(view))) == 100
    with pytest.raises(TypeError, match="SelfPickled"):
        plasmid.put(view)
    plasmid.seal(made)
    assert type(plasmid.get(plasmid.put(view))) is SelfPickled
    assert plasmid.get(look.remote(view)) == 100


@pytest.mark.parametrize(
    "view",
    [
        lambda made: made[1:],
        lambda made: made[::-2],
        lambda made: made.view("u2"),
        lambda made: made.view(Noted),
        lambda made: np.ma.masked_array(made),
        lambda made: memoryview(made)[5:],
        lambda made: memoryview(made)[::2],
    ],
    ids=["part", "steps", "dtype", "class", "masked", "memory", "strided"],
)
@pytest.mark.parametrize("seal", [plasmid.put, plasmid.seal])
def test_any_view_is_sealed_without_a_copy(view: Any, seal: Any) -> None:
    made = plasmid.empty(MB, np.uint8)
    made[:] = 7
    part = view(made)
    ref = seal(part)
    assert plasmid.explain(ref).copied < 1000
    got = plasmid.get(ref)
    assert type(got) is type(part)
    assert np.array_equal(np.asarray(got), np.asarray(part))
    made[:] = 8  # private by now
    assert (np.asarray(got) != np.asarray(part)).all()


def test_put_of_a_container_seals_the_arrays_inside() -> None:
    made = plasmid.empty(MB, np.uint8)
    made[:] = 1
    ref = plasmid.put({"a": made, "b": made[5:]})
    assert plasmid.explain(ref).copied < 1000
    made[0] = 2  # private by now
    got = plasmid.get(ref)
    assert got["a"][0] == 1
    assert np.shares_memory(got["a"], got["b"])


def test_a_seal_waits_for_the_writers_and_names_them(gate: Gate) -> None:
    made = plasmid.empty(MB, np.uint8)
    made[:] = 0

    @plasmid.remote
    def write(array: np.ndarray[Any, Any], gate: Gate) -> int:
        gate.wait()
        array[:] = 8
        return os.getpid()

    writer = write.remote(made, gate)
    gate.await_arrivals(1)
    with pytest.raises(SealTimeoutError, match=r"process \d+ can still write"):
        plasmid.seal(made, timeout=0.05)
    made[0] = 5  # still writable, in both processes
    gate.open()
    ref = plasmid.seal(made)
    assert (plasmid.get(ref) == 8).all()
    plasmid.get(writer)


def test_a_writer_that_dies_gives_its_lease_back(gate: Gate) -> None:
    made = plasmid.empty(MB, np.uint8)
    made[:] = 1

    @plasmid.remote(max_retries=0)
    def write(array: np.ndarray[Any, Any], gate: Gate) -> None:
        array[0] = 2
        gate.wait()
        os.kill(os.getpid(), signal.SIGKILL)

    dead = write.remote(made, gate)
    gate.await_arrivals(1)
    gate.open()
    got = plasmid.get(plasmid.seal(made))
    assert got[0] == 2
    assert (got[1:] == 1).all()
    with pytest.raises(plasmid.exceptions.WorkerCrashedError):
        plasmid.get(dead)


def test_nothing_that_a_thread_writes_is_lost_to_a_seal(tmp_path: Path) -> None:
    # Another thread computes without the GIL while the lock is busy: each page that it writes is
    # in the object and here, or here only.
    @plasmid.remote
    def keep_the_lock_busy(ended: Path) -> None:
        while not ended.exists():
            arena().dump(300)

    source = np.arange(1.0, 2 * MB + 1)
    expected = np.cbrt(source)
    ended = tmp_path / "ended"
    many = [plasmid.put([i]) for i in range(300)]
    busy = [keep_the_lock_busy.remote(ended) for _ in range(2)]

    def seal_beside_a_writer() -> None:
        made = plasmid.empty(source.shape, source.dtype)
        made[:] = 0
        writer = threading.Thread(target=np.cbrt, args=(source, made))
        writer.start()
        until(lambda: made[0])
        stored = plasmid.get(plasmid.seal(made))
        writer.join()
        np.testing.assert_array_equal(made, expected)
        assert stored[: np.count_nonzero(stored)].all()

    for _ in range(30):
        seal_beside_a_writer()
    ended.touch()
    plasmid.get(busy)
    del many


def test_what_is_dropped_unsealed_is_given_back() -> None:
    used = arena().stats()["heap_used"]
    made = plasmid.empty(8 * MB, np.uint8)
    view = made[3:]
    del made
    assert arena().stats()["heap_used"] > used
    del view
    assert arena().stats()["heap_used"] == used


def test_a_buffer_is_read_as_a_memoryview() -> None:
    made = plasmid.create(100)
    made[:5] = b"hello"
    ref = plasmid.seal(made)
    got = plasmid.get(ref)
    assert isinstance(got, memoryview)
    assert got.readonly
    assert got.nbytes == 100
    assert bytes(got[:5]) == b"hello"
    assert plasmid.get(plasmid.seal(plasmid.create(0))).nbytes == 0


def test_empty_like_takes_after_its_prototype() -> None:
    like = plasmid.empty_like(np.zeros((3, 4), "f4", "F"))
    assert like.shape == (3, 4)
    assert like.dtype == "f4"
    assert like.flags.f_contiguous
    other = plasmid.empty_like([[1, 2]], dtype="i2", shape=(5,))
    assert other.shape == (5,)
    assert other.dtype == "i2"


@pytest.mark.parametrize(
    ("shape", "dtype", "error"),
    [
        (-1, float, ValueError),
        ("a", float, TypeError),
        ((2, "a"), float, TypeError),
        (2.5, float, TypeError),
        (1 << 62, float, ValueError),
        ((1 << 40, 1 << 40), float, ValueError),
        (3, "nonsense", TypeError),
    ],
)
def test_the_error_of_a_bad_shape_or_dtype_says_where(shape, dtype, error) -> None:
    with pytest.raises(error, match=r"^empty: "):
        plasmid.empty(shape, dtype)


def test_no_number_of_bytes_is_too_large_for_a_clear_error() -> None:
    for nbytes in (1 << 59, 1 << 63, 1 << 64, 10**30):
        with pytest.raises(ObjectStoreFullError):
            plasmid.create(nbytes)


def test_bad_input_is_refused() -> None:
    with pytest.raises(TypeError, match="Python objects"):
        plasmid.empty(3, object)
    with pytest.raises(ValueError, match="order"):
        plasmid.empty(3, order="K")
    with pytest.raises(ValueError, match="negative"):
        plasmid.empty(-1)
    with pytest.raises(ValueError, match="negative"):
        plasmid.create(-1)
    with pytest.raises(TypeError, match="whole number"):
        plasmid.create(1.5)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="put"):
        plasmid.seal(np.zeros(3))
    with pytest.raises(plasmid.exceptions.ObjectStoreFullError):
        plasmid.empty(1 << 40, np.uint8)
    made = plasmid.empty(3)
    plasmid.seal(made)
    with pytest.raises(ValueError, match="still being written"):
        plasmid.seal(made)


# Shared by reference -----------------------------------------------------------------------------


def test_an_array_that_is_put_again_is_not_copied() -> None:
    ref = plasmid.put(np.arange(MB))
    array = plasmid.get(ref)
    for part in (array, array[100:-100], array[::-3], array.reshape(1024, -1).T):
        again = plasmid.put(part)
        assert plasmid.explain(again).copied < 500
        got = plasmid.get(again)
        np.testing.assert_array_equal(got, part)
        assert address(got) == address(part)
        assert got.strides == part.strides


def test_shared_memory_lives_as_long_as_anything_that_shares_it() -> None:
    used = arena().stats()["heap_used"]
    again = plasmid.put({"x": plasmid.get(plasmid.put(np.arange(MB)))[10:]})
    got = plasmid.get(again)
    del again
    assert got["x"][0] == 10
    del got
    assert arena().stats()["heap_used"] == used


def test_a_tasks_large_result_is_shared_when_it_is_put_again() -> None:
    @plasmid.remote
    def make() -> np.ndarray[Any, Any]:
        return np.arange(MB)

    array = plasmid.get(make.remote())
    assert address(plasmid.get(plasmid.put([array]))[0]) == address(array)


@COPIES_ON_WRITE
def test_a_frame_shares_the_columns_that_did_not_change() -> None:
    frame = pd.DataFrame({f"c{i}": np.random.default_rng(i).random(MB // 8) for i in range(4)})
    frame["s"] = [f"value {i}" for i in range(len(frame))]
    got = plasmid.get(plasmid.put(frame))
    more = got.assign(new=1.5)
    ref = plasmid.put(more)
    explained = plasmid.explain(ref)
    assert explained.copied < 1.2 * MB < 5 * MB < explained.shared
    pd.testing.assert_frame_equal(plasmid.get(ref), more)


FRAME = pd.DataFrame(
    {f"c{i}": np.random.default_rng(i).random(MB // 16) for i in range(4)}
    | {"t": pd.date_range("2024", periods=MB // 16, freq="s"), "i": np.arange(MB // 16)}
    | {"s": pd.array([f"value {i}" for i in range(MB // 16)], dtype="string[pyarrow]")}
)


@COPIES_ON_WRITE
@settings(max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_rows_and_columns_of_a_stored_frame_are_shared(data: st.DataObject) -> None:
    end = st.none() | st.integers(0, len(FRAME))
    rows = data.draw(st.builds(slice, end, end, st.sampled_from([None, 1, 2, 3, 5, -1, -2, -5])))
    columns = data.draw(st.lists(st.sampled_from(list(FRAME.columns)), unique=True, min_size=1))
    got = plasmid.get(plasmid.put(FRAME))
    dense = rows.indices(len(FRAME))[2] == 1
    names = [name for name in columns if dense or name != "s"]  # of which pyarrow makes a new one
    part = got[names].iloc[rows]
    ref = plasmid.put(part)
    again = plasmid.get(ref)
    pd.testing.assert_frame_equal(again, part, check_freq=True)
    if len(part) * 8 < 1 << 16:
        return
    copied = 0
    for name in set(names) - {"s"}:
        stored, put, shared = (np.asarray(f[name].array._ndarray) for f in (got, part, again))
        assert not shared.flags.writeable
        if np.may_share_memory(stored, put):
            assert address(shared) == address(put)
            assert shared.strides == put.strides
        else:  # columns without a common step are new memory when pandas chooses them
            copied += put.nbytes
    assert plasmid.explain(ref).copied < copied + 6000


def test_what_is_changed_in_a_shared_frame_is_changed_there_only() -> None:
    got = plasmid.get(plasmid.put(FRAME[["c0", "c1", "c2"]]))
    again = plasmid.get(plasmid.put(got.iloc[::2]))
    before = got.iloc[0, 0]
    with pytest.raises(ValueError, match="read-only"):
        again.to_numpy(copy=False)[0, 0] = 5
    mine = again.copy()
    mine.iloc[0, 0] = 5
    assert again.iloc[0, 0] == got.iloc[0, 0] == before


def test_views_of_any_class_are_shared_when_they_are_put_again() -> None:
    got = plasmid.get(plasmid.put(np.arange(MB).reshape(1024, -1)))
    for part in (got.view(Noted)[::2], np.ma.masked_array(got[:, 5:]), memoryview(got)[::3]):
        ref = plasmid.put(part)
        assert plasmid.explain(ref).copied < 1000
        again = plasmid.get(ref)
        assert type(again) is type(part)
        assert address(again) == address(part)
        np.testing.assert_array_equal(np.asarray(again), np.asarray(part))


def test_a_table_shares_the_columns_that_did_not_change() -> None:
    table = pa.table({"a": np.arange(MB // 4), "b": [str(i) for i in range(MB // 4)]})
    got = plasmid.get(plasmid.put(table))
    for more in (
        got,
        got.slice(1000, 100_000),
        got.append_column("c", got["a"]),
        got.select(["b"]),
    ):
        ref = plasmid.put(more)
        assert plasmid.explain(ref).copied < 2000
        assert plasmid.get(ref).equals(more)


def test_the_memory_of_a_freed_object_is_not_shared() -> None:
    ref = plasmid.put(np.arange(MB))
    array = plasmid.get(ref)
    arena().free(ref)
    again = plasmid.put(array)
    assert plasmid.explain(again).shared == 0
    np.testing.assert_array_equal(plasmid.get(again), array)


# Writable views ----------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [10, MB])
def test_a_writable_view_is_private(size: int) -> None:
    ref = plasmid.put(np.zeros(size))
    mine, other = plasmid.get([ref, ref], writable=True)
    mine[0] = 1
    assert other[0] == 0
    assert plasmid.get(ref)[0] == 0
    assert mine.flags.writeable
    del ref
    mine[-1] = 2
    assert other[-1] == 0


def test_everything_inside_is_writable() -> None:
    readonly = np.zeros(MB // 8)
    readonly.flags.writeable = False
    value = {"a": np.zeros(MB // 8), "r": readonly, "b": bytearray(b"x" * MB), "s": np.zeros(3)}
    shared = plasmid.get(plasmid.put(np.zeros(MB // 8)))
    frame = pd.DataFrame({"a": np.zeros(MB // 8), "b": np.zeros(MB // 8, "i4")})
    ref = plasmid.put([value, shared, frame])
    got, again, columns = plasmid.get(ref, writable=True)
    for array in (got["a"], got["r"], got["s"], again):
        array[0] = 9
    got["b"][0] = 9
    columns.iloc[0, 0] = 9
    before, shared_before, columns_before = plasmid.get(ref)
    assert not any(before[name][0] == 9 for name in "arbs")
    assert shared_before[0] == 0
    assert columns_before.iloc[0, 0] == 0


# Stored bytes, and how a value is stored ---------------------------------------------------------


def test_stored_bytes_are_seen_without_a_copy() -> None:
    array = np.arange(MB)
    ref = plasmid.put(array)
    buffer = plasmid.get_buffer(ref)
    assert buffer.readonly
    assert buffer.nbytes == array.nbytes
    assert np.shares_memory(np.frombuffer(buffer, array.dtype), plasmid.get(ref))
    assert bytes(plasmid.get_buffer(plasmid.put(b"abc" * 1000))) == b"abc" * 1000
    assert bytes(plasmid.get_buffer(plasmid.put("abc"))) == b"abc"
    table = pa.table({"a": [1, 2, 3]})
    with pa.ipc.open_stream(plasmid.get_buffer(plasmid.put(table))) as stream:
        assert stream.read_all().equals(table)
    with pytest.raises(TypeError, match="ObjectRef"):
        plasmid.get_buffer([ref])  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "value", [None, 5, "text", b"x" * 500, [1, 2, 3], np.zeros(5), pa.table({"a": [1]}), {"a": 1}]
)
def test_anything_can_be_explained(value: object) -> None:
    explained = plasmid.explain(plasmid.put(value))
    assert explained.copied <= explained.nbytes
    assert explained.shared == 0
    assert str(explained).startswith(explained.kind)


def test_what_is_no_stored_memory_cannot_be_opened() -> None:
    ref = plasmid.put(np.arange(100))
    size = arena().size_of(ref)
    for offset, nbytes in ((0, size + 1), (size, 1), (1 << 63, 1), (1, 1 << 63)):
        with pytest.raises(ObjectCorruptedError):
            arena().open(ref, offset, nbytes)


def test_a_write_by_c_code_kills_that_process_only(tmp_path: Path) -> None:
    run_program(
        """
        import ctypes, os, signal, numpy as np, plasmid
        plasmid.init(num_cpus=1)
        ref = plasmid.put(np.zeros(1000000))

        @plasmid.remote(max_retries=0)
        def scribble(array):
            ctypes.memset(array.ctypes.data, 1, 100)

        try:
            plasmid.get(scribble.remote(ref))
        except plasmid.exceptions.WorkerCrashedError as error:
            assert "11" in str(error), error
        else:
            raise SystemExit("it could write")
        assert not plasmid.get(ref).any()
        """
    )
