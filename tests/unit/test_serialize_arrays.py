"""numpy arrays: every dtype and layout, views on read, one copy on write."""

from __future__ import annotations

import threading
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


class Noted(np.ndarray[Any, Any]):
    """A class as numpy's documentation makes them: an attribute, and nothing about pickling."""

    note: Any

    def __array_finalize__(self, other: Any) -> None:
        self.note = getattr(other, "note", None)


class Quantity(np.ndarray[Any, Any]):
    """A class that says itself how it is pickled, as astropy's does."""

    unit: str

    def __reduce__(self) -> Any:
        make, arguments, state = super().__reduce__()
        return make, arguments, (state, self.unit)

    def __setstate__(self, state: Any) -> None:
        super().__setstate__(state[0])
        self.unit = state[1]


def derived(array: np.ndarray[Any, Any], cls: type) -> Any:
    """The array as an instance of a class derived from numpy's, over the same memory."""
    if cls is np.ma.MaskedArray:
        made = np.ma.MaskedArray(array, array != array.flat[0] if array.size else False)
        made.fill_value = array.dtype.type(7)
        made.harden_mask()
        return made
    made = array.view(cls)
    if cls is Noted:
        made.note = {"from": "a test"}
    return made


CLASSES = [np.matrix, np.recarray, np.ma.MaskedArray, np.memmap, Noted]


@pytest.mark.filterwarnings("ignore::PendingDeprecationWarning")
@pytest.mark.parametrize("cls", CLASSES)
@given(data=st.data())
def test_derived_classes_keep_class_attributes_layout_and_are_views(
    cls: type, data: st.DataObject
) -> None:
    shape = data.draw(hnp.array_shapes(min_dims=2, max_dims=2, min_side=0, max_side=20))
    plain = np.arange(np.prod(shape), dtype=data.draw(st.sampled_from(["<f8", ">i2", "c16"])))
    plain = np.asarray(plain.reshape(shape), order=data.draw(st.sampled_from("CF")))
    value = derived(plain[:: data.draw(st.sampled_from([1, 2, -1]))], cls)
    for whole in (value, {"k": value}):
        buffer, refs = stored(whole)
        back = serialize.load(buffer, refs)
        back = back["k"] if isinstance(whole, dict) else back
        same(np.ndarray.view(back, np.ndarray), np.ndarray.view(value, np.ndarray))
        assert type(back) is cls
        assert getattr(back, "note", None) == getattr(value, "note", None)
        if cls is np.ma.MaskedArray:
            same(np.asarray(back.mask), np.asarray(value.mask))
            assert back.fill_value == 7
            assert back.hardmask
        if value.nbytes > 256:
            assert lies_in(np.ndarray.view(back, np.ndarray), buffer)


def test_a_masked_array_without_a_mask_comes_back_without_one() -> None:
    back = round_trip(np.ma.masked_array(np.arange(1000.0)))
    assert back.mask is np.ma.nomask
    assert round_trip([np.ma.masked])[0] is np.ma.masked


def test_records_come_back_as_records() -> None:
    value = np.rec.array([(i, 2.0) for i in range(100)], dtype=[("a", "i4"), ("b", "f8")])
    buffer, refs = stored(value)
    back = serialize.load(buffer, refs)
    assert type(back) is np.recarray
    assert back.dtype == value.dtype
    assert back.a.tolist() == list(range(100))
    assert type(back[0]) is np.record
    assert lies_in(back.view(np.ndarray), buffer)


def test_a_mapped_file_is_stored_by_its_content(tmp_path: Any) -> None:
    mapped = np.memmap(tmp_path / "file", "f8", "w+", shape=(1000,))
    mapped[:] = 3
    back = round_trip({"m": mapped})["m"]
    assert type(back) is np.memmap
    assert (back == 3).all()
    assert back.filename is None


def test_a_class_that_says_how_it_is_pickled_is_pickled_so() -> None:
    value = np.arange(1000.0).view(Quantity)
    value.unit = "m"
    back = round_trip([value])[0]
    assert type(back) is Quantity
    assert back.unit == "m"
    assert np.array_equal(back, value)


def test_what_cannot_be_pickled_in_a_derived_array_is_named() -> None:
    value = np.zeros(3).view(Noted)
    value.note = threading.Lock()
    with pytest.raises(TypeError, match=r'obj\["k"\].note: cannot pickle .*lock'):
        serialize.plan({"k": value})


def test_derived_arrays_of_objects_come_back() -> None:
    value = np.array([[1, "two"], [None, [3]]], dtype=object).view(Noted)
    assert round_trip(value).tolist() == value.tolist()


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
