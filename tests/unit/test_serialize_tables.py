"""pandas and pyarrow: lossless, slices at slice size, views on read, one copy on write."""

from __future__ import annotations

import datetime
import decimal
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import pandas as hpd
from pandas.testing import assert_frame_equal, assert_index_equal, assert_series_equal
from serialize_store import lies_in, round_trip, stored

from plasmid import serialize
from plasmid.exceptions import ObjectCorruptedError

DAYS = pd.date_range("2024-01-01", periods=4, freq="D", tz="Europe/Berlin", name="day")
INDEXES = {
    "range": pd.RangeIndex(2, 10, 2, name="r"),
    "ints": pd.Index([3, 1, 2, 2]),
    "str": pd.Index(["a", "b", None, "d"], name="s"),
    "object": pd.Index([1, "x", None, (2,)], dtype=object),
    "multi": pd.MultiIndex.from_product([["a", "b"], [1, 2]], names=["x", None]),
    "categorical": pd.CategoricalIndex(list("abca"), categories=list("cba"), ordered=True),
    "days": DAYS,
    "deltas": pd.timedelta_range("1h", periods=4, freq="h"),
    "periods": pd.period_range("2024-01", periods=4, freq="M"),
    "intervals": pd.interval_range(0, 4, closed="left"),
    "nullable": pd.Index([1, None, 3, 4], dtype="Int64"),
    "empty": pd.Index([]),
}
STR = "str" if pd.__version__ >= "3" else "string[pyarrow]"
COLUMNS: dict[str, Any] = {
    "floats": [1.0, np.nan, -0.0, np.inf],
    "ints": np.array([1, 2, 3, 4], ">i2").astype("i2"),
    "bools": [True, False, True, True],
    "strings": pd.array(["a", None, "ccc", ""], dtype=STR),
    "python_strings": pd.array(["a", None, "ccc", ""], dtype="string[python]"),
    "arrow_strings": pd.array(["a", None, "ccc", ""], dtype="string[pyarrow]"),
    "arrow_ints": pd.array([1, None, 3, 4], dtype="int32[pyarrow]"),
    "arrow_lists": pd.array([[1], None, [], [2, 3]], dtype=pd.ArrowDtype(pa.list_(pa.int8()))),
    "nullable": pd.array([1, None, 3, 4], dtype="Int8"),
    "nullable_bool": pd.array([True, None, False, True], dtype="boolean"),
    "objects": [1, "x", None, [2]],
    "dates": [datetime.date(2024, 1, 1)] * 4,
    "decimals": [decimal.Decimal("1.50")] * 4,
    "categories": pd.Categorical(list("abca"), categories=list("cba"), ordered=True),
    "times": DAYS,
    "seconds": DAYS.tz_localize(None).as_unit("s"),
    "deltas": pd.timedelta_range("1h", periods=4),
    "periods": pd.period_range("2024-01", periods=4, freq="Q"),
    "intervals": pd.interval_range(0, 4),
    "sparse": pd.arrays.SparseArray([0.0, 0.0, 1.0, 0.0]),
    "complex": [1j, 2, 3, 4],
}
FRAME = pd.DataFrame(COLUMNS)


def exact(back: Any, value: Any) -> None:
    """Equal in types, dtypes, index, freq, names, flags and attrs."""
    assert type(back) is type(value)
    if isinstance(value, pd.Index):
        assert_index_equal(back, value, exact=True)
        assert getattr(back, "freq", None) == getattr(value, "freq", None)
        return
    check = assert_frame_equal if isinstance(value, pd.DataFrame) else assert_series_equal
    check(back, value, check_exact=True, check_freq=True, check_flags=True)
    exact(back.index, value.index)
    assert back.attrs == value.attrs


@pytest.mark.parametrize("name", INDEXES)
def test_index_of_every_kind(name: str) -> None:
    index = INDEXES[name]
    exact(round_trip(index), index)
    exact(
        round_trip(pd.Series(range(len(index)), index=index, name="n")),
        pd.Series(range(len(index)), index=index, name="n"),
    )


@pytest.mark.parametrize("name", COLUMNS)
def test_column_of_every_kind_whole_and_sliced(name: str) -> None:
    series = FRAME[name]
    exact(round_trip(series), series)
    exact(round_trip(series.iloc[1:3]), series.iloc[1:3])
    exact(round_trip(series.iloc[::-1]), series.iloc[::-1])
    exact(round_trip(series.iloc[:0]), series.iloc[:0])


def test_frames_as_a_whole() -> None:
    frame = FRAME.copy()
    frame.attrs["source"] = {"file": "x"}
    frame.index = DAYS
    exact(round_trip(frame), frame)
    doubled = pd.DataFrame(np.arange(6.0).reshape(2, 3), columns=["a", "b", "a"])
    exact(round_trip(doubled), doubled)
    mixed = pd.DataFrame([[1, 2]], columns=["a", 3])
    exact(round_trip(mixed), mixed)
    levels = pd.DataFrame([[1, 2]], columns=pd.MultiIndex.from_tuples([("a", 1), ("a", 2)]))
    exact(round_trip(levels), levels)
    strict = frame.set_flags(allows_duplicate_labels=False)
    assert not round_trip(strict).flags.allows_duplicate_labels
    for empty in (pd.DataFrame(), pd.DataFrame(index=[1, 2]), FRAME.iloc[:0], pd.Series([])):
        exact(round_trip(empty), empty)


def test_nan_stays_nan_to_the_last_bit() -> None:
    payload = np.array([0x7FF8000000000123], np.uint64).view("f8")
    assert round_trip(pd.DataFrame({"x": payload}))["x"].to_numpy().tobytes() == payload.tobytes()


class Sub(pd.DataFrame):
    _metadata = ["unit"]  # noqa: RUF012 (pandas asks for a list)

    @property
    def _constructor(self) -> type:
        return Sub


def test_subclass_of_a_frame_keeps_its_class_and_metadata() -> None:
    frame = Sub({"a": [1]})
    object.__setattr__(frame, "unit", "m")
    back = round_trip(frame)
    assert type(back) is Sub
    assert back.unit == "m"


columns = st.lists(
    st.sampled_from(["f8", "i8", "u1", "bool", "M8[ns]", "m8[ns]", "c16", "f4"]).map(
        lambda dtype: hpd.column(dtype=dtype)
    ),
    max_size=4,
).map(lambda found: [hpd.column(f"c{i}", dtype=c.dtype) for i, c in enumerate(found)])


@settings(max_examples=50)
@given(st.data())
def test_drawn_frames_and_their_slices(data: st.DataObject) -> None:
    frame = data.draw(columns.flatmap(lambda found: hpd.data_frames(found)))
    exact(round_trip(frame), frame)
    part = frame.iloc[data.draw(st.slices(len(frame)))]
    exact(round_trip(part), part)


def memory_of(frame: Any) -> list[np.ndarray[Any, Any]]:
    """Every buffer that the columns of a frame use."""
    found = []
    for name in frame.columns:
        column = frame[name].array
        if hasattr(column, "_pa_array"):
            chunks = column._pa_array.chunks
            buffers = [b for chunk in chunks for b in chunk.buffers() if b is not None]
            found += [np.frombuffer(b, np.uint8) for b in buffers]
        else:
            found.append(np.asarray(getattr(column, "_ndarray", column)).view("u1"))
    return found


LARGE = pd.DataFrame(
    {
        "f": np.arange(10_000.0),
        "g": np.arange(10_000.0),
        "i": np.arange(10_000),
        "t": pd.date_range("2024", periods=10_000, freq="s"),
        "s": pd.array([f"text {i}" for i in range(10_000)], dtype=STR),
        "n": pd.array([f"text {i}" if i % 3 else None for i in range(10_000)], dtype=STR),
        "a": pd.array(range(10_000), dtype="int64[pyarrow]"),
    }
)


def test_frame_is_read_as_views_and_written_from_its_own_memory() -> None:
    buffer, refs = stored(LARGE)
    back = serialize.load(buffer, refs)
    exact(back, LARGE)
    assert all(lies_in(part, buffer) for part in memory_of(back))
    pieces = [np.frombuffer(data, np.uint8) for _, data in serialize.plan(LARGE).pieces]
    for part in memory_of(LARGE):
        assert any(np.shares_memory(piece, part) for piece in pieces)


def test_string_column_in_chunks_is_not_joined_in_memory() -> None:
    frame = pd.concat([LARGE[["s"]], LARGE[["s"]]], ignore_index=True)
    chunks = frame["s"].array._pa_array
    assert chunks.num_chunks == 2
    pieces = [np.frombuffer(data, np.uint8) for _, data in serialize.plan(frame).pieces]
    for chunk in chunks.chunks:
        data = np.frombuffer(chunk.buffers()[2], np.uint8)
        assert any(np.shares_memory(piece, data) for piece in pieces)
    exact(round_trip(frame), frame)


def test_slice_of_a_frame_is_stored_at_slice_size() -> None:
    assert serialize.plan(LARGE.iloc[10:20]).nbytes < 8000
    exact(round_trip(LARGE.iloc[10:20]), LARGE.iloc[10:20])


TABLE = pa.table(
    {
        "i": pa.array([1, None, 3, 4]),
        "s": ["a", None, "ccc", ""],
        "l": [[1], None, [], [2, 3]],
        "d": pa.array(["x", "y", "x", None]).dictionary_encode(),
        "st": [{"a": 1}, None, {"a": None}, {"a": 4}],
        "b": [True, False, None, True],
        "h": pa.array(np.float16([1, 2, 3, 4])),
        "dec": [decimal.Decimal("1.5")] * 4,
        "t": pa.array([1, 2, 3, 4], pa.timestamp("us", "UTC")),
        "null": pa.nulls(4),
        "fixed": pa.array([b"ab", None, b"cd", b"ef"], pa.binary(2)),
        "m": pa.array([[("k", 1)], None, [], [("z", 2)]], pa.map_(pa.string(), pa.int8())),
        "run": pa.RunEndEncodedArray.from_arrays([1, 4], ["r", None]),
        "fl": pa.array([[1, 2], None, [3, 4], [5, 6]], pa.list_(pa.int8(), 2)),
        "u": pa.UnionArray.from_sparse(
            pa.array([0, 1, 0, 1], pa.int8()), [pa.array([1, 2, 3, 4]), pa.array(list("abcd"))]
        ),
    }
).replace_schema_metadata({"who": "me"})
if hasattr(pa, "string_view"):  # from pyarrow 16 on
    VIEWS = pa.array(["a" * 30, None, "b", ""], pa.string_view())
    TABLE = TABLE.append_column("view", VIEWS)


@pytest.mark.parametrize("name", TABLE.column_names)
@pytest.mark.parametrize("cut", [slice(0, 4), slice(1, 3), slice(3, 4), slice(2, 2)], ids=str)
def test_arrow_array_of_every_type_alone_and_inside(name: str, cut: slice) -> None:
    chunked = TABLE[name]
    array = chunked.chunk(0)[cut]
    assert array.offset == cut.start
    for value in (array, chunked[cut], TABLE.select([name])[cut]):
        for back in (round_trip(value), round_trip([value])[0]):
            assert type(back) is type(value)
            back.validate(full=True)
            assert back.equals(value)
            assert getattr(back, "type", None) == getattr(value, "type", None)


def test_tables_batches_and_metadata() -> None:
    batch = TABLE.to_batches()[0]
    for value in (TABLE, batch, TABLE.slice(1, 2), batch.slice(1, 2), TABLE[:0], batch[:0]):
        back = round_trip(value)
        assert type(back) is type(value)
        assert back.equals(value, check_metadata=True)
    for value in (
        pa.table({}),
        pa.table({"a": pa.chunked_array([], pa.int8())}),
        pa.chunked_array([[1], [], [2, 3]]),
        pa.chunked_array([], pa.string()),
        pa.table({"a": pa.chunked_array([[1, 2], [3]]), "b": pa.chunked_array([[1], [2, 3]])}),
    ):
        assert round_trip(value).equals(value)
    field = pa.field("a", pa.int8(), nullable=False, metadata={"k": "v"})
    strict = pa.table([pa.array([1], pa.int8())], schema=pa.schema([field]))
    assert round_trip(strict).schema.equals(strict.schema, check_metadata=True)


def test_dictionaries_that_differ_between_chunks() -> None:
    one, two = pa.array(["a", "b"]).dictionary_encode(), pa.array(["c"]).dictionary_encode()
    value = pa.chunked_array([one, two])
    assert round_trip(value).equals(value)
    nested = pa.chunked_array(
        [pa.ListArray.from_arrays([0, len(part)], part) for part in (one, two)]
    )
    assert round_trip(nested).equals(nested)


class Celsius(pa.ExtensionType):
    def __init__(self) -> None:
        super().__init__(pa.float64(), "plasmid.celsius")

    def __arrow_ext_serialize__(self) -> bytes:
        return b""

    @classmethod
    def __arrow_ext_deserialize__(cls, storage_type: Any, serialized: bytes) -> Celsius:
        return cls()


def test_extension_type_of_python_is_kept_though_nobody_registered_it() -> None:
    storage = pa.array([1.0, 2.0, 3.0])
    array = pa.ExtensionArray.from_storage(Celsius(), storage)
    for value in (array, array[1:2], pa.table({"c": array})):
        back = round_trip(value)
        assert back.equals(value)
    assert type(round_trip(array).type) is Celsius


def buffers_of(array: Any) -> list[np.ndarray[Any, Any]]:
    return [np.frombuffer(b, np.uint8) for b in array.buffers() if b is not None and b.size]


@pytest.mark.parametrize("wrap", [lambda v: v, lambda v: [v]], ids=["alone", "inside"])
def test_arrow_data_is_written_from_where_it_lies_and_read_where_it_is_stored(wrap: Any) -> None:
    table = pa.table({"f": np.arange(10_000.0), "s": [f"text {i}" for i in range(10_000)]})
    plan = serialize.plan(wrap(table))
    stretch = plan.pieces[-1][1]
    pieces = getattr(stretch, "pieces", plan.pieces)
    parts = [np.frombuffer(data, np.uint8) for _, data in pieces if len(data)]
    for column in table.columns:
        for memory in buffers_of(column.chunk(0)):
            assert any(np.shares_memory(part, memory) for part in parts)
    buffer, refs = stored(wrap(table))
    back = serialize.load(buffer, refs)
    back = back[0] if isinstance(back, list) else back
    assert back.equals(table)
    for column in back.columns:
        assert all(lies_in(memory, buffer) for memory in buffers_of(column.chunk(0)))


@pytest.mark.parametrize("wrap", [lambda v: v, lambda v: {"k": v}], ids=["alone", "inside"])
def test_slices_are_stored_at_slice_size(wrap: Any) -> None:
    """Arrow's own pickling of a slice carries all that it was cut from."""
    array = pa.array([f"text {i}" for i in range(100_000)])
    lists = pa.array([[i, i] for i in range(100_000)])
    table = pa.table({"a": array, "l": lists})
    for value in (array[7:17], lists[7:17], table[7:17], table.to_batches()[0][7:17]):
        assert serialize.plan(wrap(value)).nbytes < 4000
    assert round_trip(wrap(array[7:17])) == wrap(array[7:17])


def test_loaded_arrow_data_outlives_every_other_reference() -> None:
    back = serialize.load(*stored(pa.table({"a": np.arange(10_000)})))
    assert pa.compute.sum(back["a"]).as_py() == 49_995_000


@settings(max_examples=200)
@given(st.data())
def test_damaged_arrow_stream_is_refused_or_valid(data: st.DataObject) -> None:
    whole = bytes(stored(pa.table({"a": [1, None, 3], "s": ["x", "y", None]}))[0])
    place = data.draw(st.integers(64, len(whole) - 1))
    value = data.draw(st.integers(0, 255))
    damaged = whole[:place] + bytes([value]) + whole[place + 1 :]
    try:
        back = serialize.load(damaged)
    except ObjectCorruptedError:
        return
    back.validate()


def test_truncated_arrow_stream_is_refused() -> None:
    whole = bytearray(stored(pa.table({"a": list(range(100))}))[0])
    for size in range(64, len(whole) - 8, 5):  # the last 8 bytes only mark the end
        whole[8:16] = size.to_bytes(8, "little")
        with pytest.raises(ObjectCorruptedError):
            serialize.load(bytes(whole[:size]))
