"""References that other libraries read without a copy."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

import plasmid

pytestmark = pytest.mark.usefixtures("session")


@pytest.fixture
def table() -> Any:
    numbers = np.random.default_rng(1).random(100_000)
    return pa.table({"x": numbers, "s": [str(i) for i in range(100_000)]})


def test_polars_reads_a_stored_table_where_it_is(table: Any) -> None:
    polars = pytest.importorskip("polars")
    ref = plasmid.put(table)
    frame = polars.DataFrame(ref)
    stored = plasmid.get(ref)["x"].chunk(0).buffers()[1]
    assert frame["x"].to_numpy().__array_interface__["data"][0] == stored.address
    assert frame["s"][99] == "99"
    del ref
    assert frame["x"].sum() == pytest.approx(table["x"].to_numpy().sum())


def test_duckdb_reads_a_stored_table(table: Any) -> None:
    duckdb = pytest.importorskip("duckdb")
    stored = plasmid.put(table)  # noqa: F841, the query names it
    with duckdb.connect() as connection:
        found = connection.execute("select count(*) from stored").fetchall()
    assert found == [(100_000,)]


def test_pyarrow_reads_stored_tables_frames_and_arrays(table: Any) -> None:
    ref = plasmid.put(table)
    again = pa.table(ref)
    assert again.equals(table)
    stored = plasmid.get(ref)["x"].chunk(0).buffers()[1]
    assert again["x"].chunk(0).buffers()[1].address == stored.address
    assert pa.schema(ref) == table.schema
    frame = pd.DataFrame({"a": np.arange(5.0)})
    assert pa.table(plasmid.put(frame)).to_pandas().equals(frame)
    assert pa.array(plasmid.put(pa.array([1, 2]))).to_pylist() == [1, 2]
    assert pa.chunked_array(plasmid.put(pa.array([1, 2]))).to_pylist() == [1, 2]
    assert pa.record_batch(plasmid.put(table.to_batches()[0])).num_rows == 100_000
    array = plasmid.put(np.arange(1000))
    column = pa.array(array)
    assert column.buffers()[1].address == plasmid.get(array).__array_interface__["data"][0]


def test_numpy_reads_a_stored_array_by_dlpack() -> None:
    ref = plasmid.put(np.arange(100_000))
    array = np.from_dlpack(ref)
    assert np.shares_memory(array, plasmid.get(ref))
    assert not array.flags.writeable


def test_other_values_are_refused() -> None:
    ref = plasmid.put({"a": 1})
    for read in (pa.table, np.from_dlpack, lambda ref: ref.__arrow_c_array__()):
        with pytest.raises(TypeError, match="dict"):
            read(ref)
    with pytest.raises(TypeError, match="dict"):
        ref.__arrow_c_schema__()
