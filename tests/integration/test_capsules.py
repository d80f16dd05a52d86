"""References that other libraries read without a copy."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from support import Gate

import plasmid

pytestmark = pytest.mark.usefixtures("session")


NUMPY = np.lib.NumpyVersion(np.__version__)


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
    if hasattr(pa, "string_view"):  # from pyarrow 16 on
        assert pa.chunked_array(plasmid.put(pa.array([1, 2]))).to_pylist() == [1, 2]
    assert pa.record_batch(plasmid.put(table.to_batches()[0])).num_rows == 100_000
    array = plasmid.put(np.arange(1000))
    column = pa.array(array)
    assert column.buffers()[1].address == plasmid.get(array).__array_interface__["data"][0]


def frames_of_each_library(table: Any) -> dict[str, Any]:
    polars = pytest.importorskip("polars")
    return {
        "table": table,
        "chunks": pa.concat_tables([table, table, table.slice(7)]),
        "batch": table.to_batches()[0],
        "pandas": table.to_pandas(),
        "polars": polars.DataFrame(table),
        "polars in chunks": polars.concat([polars.DataFrame(table)] * 2, rechunk=False),
    }


@pytest.mark.parametrize("kind", frames_of_each_library(pa.table({"x": [1]})))
def test_one_stored_table_is_a_frame_for_each_library_without_a_copy(kind: str, table: Any) -> None:
    import duckdb
    import polars

    value = frames_of_each_library(table)[kind]
    ref = plasmid.put(value)
    stored = [chunk.buffers()[1].address for chunk in pa.table(ref)["x"].chunks]
    stretch = plasmid.get_buffer(ref)
    start = np.frombuffer(stretch, np.uint8).ctypes.data
    assert all(start <= address < start + stretch.nbytes for address in stored)

    frame = polars.DataFrame(ref)
    assert frame.shape == (len(pa.table(ref)), 2)
    assert [part.to_numpy().ctypes.data for part in frame["x"].get_chunks()] == stored
    found = polars.from_arrow(ref)
    if isinstance(found, polars.Series):  # as polars 2 reads whatever is not pyarrow's own
        found = found.struct.unnest()
    assert [part.to_numpy().ctypes.data for part in found["x"].get_chunks()] == stored
    if len(stored) == 1:
        assert pa.record_batch(ref)["x"].buffers()[1].address == stored[0]
    else:
        assert not hasattr(ref, "__arrow_c_array__")
    if hasattr(pd.DataFrame, "from_arrow"):
        assert pd.DataFrame.from_arrow(ref)["x"].equals(pa.table(ref)["x"].to_pandas())
    with duckdb.connect() as connection:
        found = connection.execute("select sum(x) from ref").fetchall()
    assert found[0][0] == pytest.approx(pa.compute.sum(pa.table(ref)["x"]).as_py())


def test_asking_a_reference_for_its_methods_does_not_wait_for_its_value(gate: Gate) -> None:
    @plasmid.remote
    def make(gate: Gate) -> Any:
        gate.wait()
        return pa.chunked_array([[1], [2]])

    ref = make.remote(gate)
    method = ref.__arrow_c_array__
    gate.open()
    plasmid.wait([ref])
    assert not hasattr(ref, "__arrow_c_array__")
    assert len(method()) == 2


@pytest.mark.skipif(NUMPY < "2.1.0", reason="DLPack of read-only arrays came with numpy 2.1")
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
