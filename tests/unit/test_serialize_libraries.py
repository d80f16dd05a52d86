"""Values of further libraries: polars, PIL, scipy, and Arrow's views and slices."""

from __future__ import annotations

import datetime
import decimal
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from serialize_store import lies_in, round_trip, stored

from plasmid import serialize

MANY = 100_000


# polars ------------------------------------------------------------------------------------------


def polars_values() -> dict[str, Any]:
    pl = pytest.importorskip("polars")
    day = datetime.date(2024, 1, 1)
    return {
        "numbers": pl.DataFrame({"a": [1, None, 3], "b": [1.5, float("nan"), None]}),
        "strings": pl.DataFrame({"s": ["x", None, "longer than twelve bytes"]}),
        "nested": pl.DataFrame({"l": [[1], None, [2, 3]], "s": [{"a": 1}, {"a": None}, None]}),
        "days": pl.DataFrame({"d": [day], "t": [datetime.timedelta(1)], "b": [b"bytes"]}),
        "decimals": pl.Series("d", [decimal.Decimal("1.50"), None], dtype=pl.Decimal(10, 2)),
        "categorical": pl.Series("c", ["a", "b", "a"], dtype=pl.Categorical),
        "enum": pl.Series("e", ["a", None], dtype=pl.Enum(["b", "a"])),
        "empty enum": pl.Series("e", [], dtype=pl.Enum(["b", "a"])),
        "zoned": pl.Series("z", [datetime.datetime(2024, 1, 1)]).dt.replace_time_zone("UTC"),
        "fixed": pl.Series("f", [[1, 2]], dtype=pl.Array(pl.Int8, 2)),
        "booleans": pl.Series("b", [True, None, False]),
        "nothing": pl.Series("n", [None, None]),
        "empty series": pl.Series("e", [], dtype=pl.Int16),
        "empty": pl.DataFrame(),
        "no rows": pl.DataFrame(schema={"a": pl.Int8, "b": pl.String}),
        "chunks": pl.concat([pl.DataFrame({"a": [1]}), pl.DataFrame({"a": [2]})], rechunk=False),
    }


@pytest.mark.parametrize("name", polars_values() if pytest.importorskip("polars") else ())
def test_polars_values_come_back_equal(name: str) -> None:
    value = polars_values()[name]
    for got in (round_trip(value), round_trip({"in": value})["in"]):
        assert type(got) is type(value)
        assert got.equals(value, null_equal=True)
        assert getattr(got, "schema", None) == getattr(value, "schema", None)
        assert getattr(got, "dtype", None) == getattr(value, "dtype", None)
        assert getattr(got, "name", None) == getattr(value, "name", None)


def test_polars_enums_inside_of_lists_come_back() -> None:
    pl = pytest.importorskip("polars")
    value = pl.Series("l", [["a"], None], dtype=pl.List(pl.Enum(["b", "a"])))
    got = round_trip(value)
    assert got.dtype == value.dtype
    assert got.to_list() == value.to_list()


def test_polars_columns_of_objects_come_back() -> None:
    pl = pytest.importorskip("polars")
    got = round_trip(
        pl.DataFrame({"o": pl.Series([{1}, None, "x"], dtype=pl.Object), "a": [1, 2, 3]})
    )
    assert got["o"].to_list() == [{1}, None, "x"]
    assert got["a"].to_list() == [1, 2, 3]


def test_polars_columns_are_views() -> None:
    pl = pytest.importorskip("polars")
    buffer, refs = stored(pl.DataFrame({"x": np.arange(MANY), "s": [str(i) for i in range(MANY)]}))
    got = serialize.load(buffer, refs)
    assert lies_in(got["x"].to_numpy(), buffer)
    part = pl.DataFrame({"x": np.arange(MANY)})[500:510]
    assert serialize.plan(part).nbytes < 10_000
    assert round_trip(part).equals(part)


def test_the_codes_of_enums_are_views() -> None:
    pl = pytest.importorskip("polars")
    words = [f"word {i % 1000}" for i in range(MANY)]
    value = pl.Series("c", words, dtype=pl.Enum(sorted(set(words))))
    buffer, refs = stored([value])
    got = serialize.load(buffer, refs)[0]
    assert got.dtype == value.dtype
    assert got.to_list() == words
    assert lies_in(got.to_physical().to_numpy(), buffer)


def test_a_lazy_frame_comes_back() -> None:
    pl = pytest.importorskip("polars")
    lazy = pl.DataFrame({"a": [1, 2]}).lazy().filter(pl.col("a") > 1)
    assert round_trip(lazy).collect()["a"].to_list() == [2]


# PIL ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "mode", ["1", "L", "P", "RGB", "RGBA", "CMYK", "LA", "F", "I", "I;16", "HSV"]
)
def test_images_come_back_equal(mode: str) -> None:
    image_module = pytest.importorskip("PIL.Image")
    pixels = np.arange(90 * 70 * 3, dtype=np.uint32).astype(np.uint8).reshape(70, 90, 3)
    if mode == "I;16":
        image = image_module.fromarray(np.arange(6300, dtype=np.uint16).reshape(70, 90))
    else:
        image = image_module.fromarray(pixels).convert(mode)
    image.info["dpi"] = (72, 72)
    for got in (round_trip(image), round_trip([image])[0]):
        assert (got.mode, got.size, got.info) == (image.mode, image.size, image.info)
        assert got.getpalette() == image.getpalette()
        assert np.array_equal(np.asarray(got), np.asarray(image))


def test_pixels_are_read_where_they_are() -> None:
    image_module = pytest.importorskip("PIL.Image")
    image = image_module.fromarray(
        np.arange(10**6, dtype=np.uint32).astype(np.uint8).reshape(1000, 1000)
    )
    explained = serialize.describe(*stored(image))
    assert max(part.nbytes for part in explained.parts if part.zero_copy) == 10**6
    assert round_trip(image_module.new("L", (0, 5))).size == (0, 5)


# scipy -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", ["csr", "csc", "bsr", "dia", "dok", "lil", "coo"])
@pytest.mark.parametrize("kind", ["matrix", "array"])
def test_sparse_matrices_come_back_equal(form: str, kind: str) -> None:
    sparse = pytest.importorskip("scipy.sparse")
    value = sparse.random(100, 80, 0.1, form, random_state=1)
    if kind == "array":
        value = getattr(sparse, f"{form}_array")(value)
    got = round_trip(value)
    assert type(got) is type(value)
    assert (got != value).nnz == 0
    assert got.dtype == value.dtype


def test_sparse_matrices_are_views() -> None:
    sparse = pytest.importorskip("scipy.sparse")
    buffer, refs = stored(sparse.random(1000, 1000, 0.1, "csr"))
    got = serialize.load(buffer, refs)
    assert all(lies_in(part, buffer) for part in (got.data, got.indices, got.indptr))


# Arrow slices ------------------------------------------------------------------------------------


def slices() -> dict[str, Any]:
    texts = [f"a string of some length, number {i}" for i in range(MANY)]
    numbers = pa.array(range(MANY))
    views = {}
    release = int(pa.__version__.split(".")[0])
    if release >= 26:  # some release after 20 learned how much of these a slice shows
        lists = pa.array([[i] for i in range(MANY)], pa.list_view(pa.int64()))
        views["list views"] = lists.slice(5, 3)
    if release >= 18:  # which can convert views to what can be cut
        short = pa.array(texts, pa.string_view())
        views |= {
            "string views": short.slice(5, 3),
            "binary views": pa.array([t.encode() for t in texts], pa.binary_view()).slice(5, 3),
            "table of views": pa.table({"a": numbers, "t": short}).slice(7, 9),
        }
    return {
        **views,
        "numbers": numbers.slice(5, 10),
        "strings": pa.array(texts).slice(5, 3),
        "lists": pa.array([[i] for i in range(MANY)]).slice(5, 3),
        "structs": pa.array([{"a": [i]} for i in range(MANY)]).slice(5, 3),
        "indices": pa.array(["a", "b"] * MANY).dictionary_encode().slice(5, 3),
        "runs": pa.RunEndEncodedArray.from_arrays(range(1, MANY + 1), numbers).slice(5, 3),
        "chunks": pa.chunked_array([numbers, numbers]).slice(MANY - 2, 5),
        "table": pa.table({"a": numbers, "t": texts}).slice(7, 9),
    }


@pytest.mark.parametrize("name", slices())
def test_a_slice_is_stored_at_its_size(name: str) -> None:
    value = slices()[name]
    for whole in (value, {"in": value}):
        plan = serialize.plan(whole)
        assert plan.nbytes < 20_000
        got = round_trip(whole)
        got = got["in"] if isinstance(whole, dict) else got
        got.validate(full=True)
        assert got.equals(value)


@pytest.mark.skipif(not hasattr(pa, "string_view"), reason="pyarrow before 16")
def test_string_views_that_are_not_cut_stay_as_they_are() -> None:
    value = pa.array(
        [f"a string of some length, number {i}" for i in range(MANY)], pa.string_view()
    )
    buffer, refs = stored(value)
    got = serialize.load(buffer, refs)
    assert got.equals(value)
    assert lies_in(got.buffers()[1], buffer)


# Arrow's interface --------------------------------------------------------------------------------


class Exporter:
    """Of a library that offers its data to Arrow, and cannot be pickled."""

    def __init__(self, data: Any) -> None:
        self.data = data

    def __reduce__(self) -> Any:
        raise TypeError("cannot pickle 'Exporter' object")


class StreamExporter(Exporter):
    def __arrow_c_stream__(self, requested_schema: object = None) -> object:
        return self.data.__arrow_c_stream__(requested_schema)


class ArrayExporter(Exporter):
    def __arrow_c_array__(self, requested_schema: object = None) -> object:
        return self.data.__arrow_c_array__(requested_schema)


class PicklableExporter(StreamExporter):
    def __reduce__(self) -> Any:
        return PicklableExporter, (self.data,)


def test_what_cannot_be_pickled_goes_as_arrow_if_it_can() -> None:
    table = pa.table({"a": np.arange(MANY)})
    for wrap in (lambda value: value, lambda value: [value, lambda: 1]):
        buffer, refs = stored(wrap(StreamExporter(table)))
        back = serialize.load(buffer, refs)
        back = back[0] if isinstance(back, list) else back
        assert type(back) is pa.Table
        assert back.equals(table)
        assert lies_in(back["a"].chunk(0).buffers()[1], buffer)
    array = pa.array([1, 2])
    assert round_trip({"k": ArrayExporter(array)})["k"].equals(array)
    if hasattr(pa, "string_view"):  # from pyarrow 16 on
        assert round_trip(StreamExporter(pa.chunked_array([array]))).to_pylist() == [1, 2]
    assert type(round_trip([PicklableExporter(table)])[0]) is PicklableExporter


def test_what_cannot_be_pickled_beside_it_is_named_as_ever() -> None:
    value = {"table": StreamExporter(pa.table({"a": [1]})), "bad": (i for i in "ab")}
    with pytest.raises(TypeError, match=r'obj\["bad"\]: cannot pickle .generator.'):
        serialize.plan(value)


def test_a_duckdb_relation_is_stored_as_its_table() -> None:
    duckdb = pytest.importorskip("duckdb")
    with duckdb.connect() as connection:
        back = round_trip({"r": connection.sql("select 1 as a, 'x' as b")})["r"]
    assert back.to_pylist() == [{"a": 1, "b": "x"}]
