"""numpy arrays: every dtype and layout, views on read, one copy on write."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from serialize_store import lies_in, round_trip, stored

from plasmid import serialize
from plasmid.serialize.layout import Stream

structured = np.dtype([("a", "<i4"), ("b", ">f8"), ("c", "S3"), ("d", "<f4", (2,))], align=True)
titled = np.dtype({"names": ["x"], "formats": ["f8"], "titles": ["the x"], "offsets": [8]})


def same(back: Any, value: Any) -> None:
    """Equal in everything but writeability; NaN payloads included."""
    assert type(back) is type(value)
    assert back.dtype == value.dtype
    assert back.dtype.str == value.dtype.str
    assert (back.dtype.metadata or None) == (value.dtype.metadata or None)
    assert back.dtype.isalignedstruct == value.dtype.isalignedstruct
    assert back.shape == value.shape
    if value.flags.forc:
        assert back.flags.c_contiguous == value.flags.c_contiguous
        assert back.flags.f_contiguous == value.flags.f_contiguous
    if value.dtype.hasobject:
        assert back.tolist() == value.tolist()
    else:
        assert back.tobytes() == value.tobytes()


def check(value: Any) -> None:
    """Alone, and inside another value."""
    buffer, refs = stored(value)
    alone = serialize.load(buffer, refs)
    same(alone, value)
    same(round_trip({"k": [value]})["k"][0], value)
    if not value.dtype.hasobject and type(value) is np.ndarray:
        assert not alone.flags.writeable
        assert not value.nbytes or lies_in(alone, buffer)
        assert alone.flags.aligned


dtypes = (
    hnp.scalar_dtypes()
    | hnp.array_dtypes()
    | hnp.nested_dtypes()
    | st.sampled_from([structured, titled, np.dtype("V7"), np.dtype("longdouble")])
)


@given(st.data())
def test_every_dtype_and_shape(data: st.DataObject) -> None:
    dtype = data.draw(dtypes)
    shape = data.draw(hnp.array_shapes(min_dims=0, max_dims=5, min_side=0, max_side=4))
    value = np.zeros(shape, dtype)
    if not value.dtype.hasobject:
        raw = data.draw(st.binary(min_size=value.nbytes, max_size=value.nbytes))
        value = (
            np.frombuffer(raw, np.uint8).view(value.dtype).reshape(value.shape).copy()
            if value.nbytes
            else value
        )
    check(value)


@given(st.data())
def test_every_layout(data: st.DataObject) -> None:
    base = (
        np.arange(np.prod(shape := (6, 4, 3, 2)))
        .reshape(shape)
        .astype(data.draw(st.sampled_from(["<f8", ">i2", "M8[ns]", "c16", "U3", "S5"])))
    )
    view = base[data.draw(hnp.basic_indices(shape, allow_ellipsis=True, allow_newaxis=True))]
    if not isinstance(view, np.ndarray):
        return
    axes = data.draw(st.permutations(range(view.ndim)))
    check(view.transpose(axes))


@pytest.mark.parametrize("nbytes", [8, 256, 257 * 8, 4096, 4104, 100_000])
@pytest.mark.parametrize(
    "layout",
    [
        lambda a: a,
        lambda a: a[::-1],
        lambda a: a[::2],
        lambda a: a.reshape(1, -1).T,
        lambda a: np.asfortranarray(np.stack([a, a])),
        lambda a: np.stack([a, a])[:, ::3],
        lambda a: np.stack([np.stack([a, a])] * 3).transpose(1, 2, 0),
        lambda a: np.broadcast_to(a, (3, *a.shape)),
    ],
    ids=["plain", "reversed", "steps", "column", "fortran", "gaps", "permuted", "broadcast"],
)
def test_layouts_at_the_sizes_where_the_path_changes(nbytes: int, layout: Any) -> None:
    check(layout(np.arange(nbytes // 8)))


@pytest.mark.parametrize(
    "value",
    [
        np.array(3.5),
        np.zeros((0, 3)),
        np.zeros((3, 0, 2), order="F"),
        np.array([], "U5"),
        np.zeros(3, "V0"),
        np.array(["2020-01-01", "NaT"], "M8[D]"),
        np.array([1, 2], "m8[25s]"),
        np.array([True, False]),
        np.arange(4, dtype=">u2"),
        np.array([1 + 2j], ">c8"),
        np.float16([1.5, np.inf]),
        np.array(["a" * 400] * 30),
        np.zeros(4, np.dtype("f8", metadata={"unit": "m"})),
        np.zeros(50, np.dtype("i8", metadata={"unit": "m"})),
        np.array([0x7FF8000000000123, 0xFFF0000000000001], np.uint64).view("f8"),
        np.array([[1, "two"], [None, [3]]], dtype=object),
        np.zeros(5, [("o", object), ("n", int)]),
        np.zeros((1,) * 10),
        np.zeros(3, structured),
        np.zeros(3, titled),
    ],
    ids=lambda value: f"{value.dtype.str}-{value.shape}",
)
def test_particular_arrays(value: Any) -> None:
    check(value)


@pytest.mark.filterwarnings("ignore::PendingDeprecationWarning")
def test_subclasses_keep_their_class_by_pickle() -> None:
    masked = np.ma.masked_array([1.0, 2.0], [True, False], fill_value=7)
    back = round_trip(masked)
    assert type(back) is np.ma.MaskedArray
    assert back.mask.tolist() == [True, False]
    assert back.fill_value == 7
    assert type(round_trip(np.matrix([[1, 2]]))) is np.matrix
    record = np.rec.array([(1, 2.0)], dtype=[("a", "i4"), ("b", "f8")])
    assert type(round_trip(record)) is np.recarray


@pytest.mark.skipif(not hasattr(np.dtypes, "StringDType"), reason="numpy before 2.0")
def test_variable_width_strings_are_not_mistaken_for_fixed_size_items() -> None:
    value = np.array(["short", "long" * 30], dtype=np.dtypes.StringDType())
    assert round_trip(value).tolist() == value.tolist()
    assert round_trip([value])[0].tolist() == value.tolist()


def test_scalars_keep_their_type() -> None:
    for scalar in (np.float32(1.5), np.int8(3), np.datetime64("2020-01-01"), np.str_("x")):
        back = round_trip(scalar)
        assert type(back) is type(scalar)
        assert back == scalar


@pytest.mark.parametrize(
    "array",
    [
        np.ones((200, 300)),
        np.asfortranarray(np.ones((200, 300))),
        np.ones((20, 30, 40)).transpose(2, 0, 1),
        np.zeros(50_000, "M8[us]"),
        np.zeros(50_000, structured),
    ],
    ids=["C", "F", "permuted", "datetime", "structured"],
)
@pytest.mark.parametrize("wrap", [lambda a: a, lambda a: {"k": a}], ids=["alone", "inside"])
def test_memory_is_written_from_where_it_lies_and_read_where_it_is_stored(
    array: Any, wrap: Any
) -> None:
    plan = serialize.plan(wrap(array))
    piece = np.frombuffer(plan.pieces[-1][1], np.uint8)
    assert np.shares_memory(piece, array)
    assert piece.nbytes == array.nbytes
    assert plan.pieces[-1][0] % 64 == 0
    buffer, refs = stored(wrap(array))
    back = serialize.load(buffer, refs)
    assert lies_in(back["k"] if isinstance(back, dict) else back, buffer)


def test_array_with_gaps_is_copied_a_chunk_at_a_time() -> None:
    array = np.ones((2, 100_000))[:, ::2]
    stream = serialize.plan(array).pieces[-1][1]
    assert type(stream) is Stream
    assert max(part.nbytes for _, part in stream.pieces) <= 1 << 18


def test_view_of_a_large_array_is_stored_at_its_own_size() -> None:
    assert serialize.plan(np.zeros(1_000_000)[5:10]).nbytes < 200
    assert serialize.plan([np.zeros(1_000_000)[5:10]]).nbytes < 400


def test_array_keeps_the_stored_bytes_alive() -> None:
    buffer, refs = stored(np.arange(1000))
    back = serialize.load(buffer, refs)
    inside = serialize.load(*stored([np.arange(1000)]))[0]
    del buffer
    assert back.sum() == inside.sum() == 499_500


def test_arrays_that_are_the_same_stay_the_same() -> None:
    array = np.arange(1000)
    first, second = round_trip([array, array])
    assert first is second
