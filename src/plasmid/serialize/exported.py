"""Values that cannot be pickled, but offer their data through Arrow's PyCapsule interface: stored
as pyarrow objects, and read as those. The last resort, when pickling has failed: a duckdb relation,
for instance, or a reader of record batches, which is read to its end.
"""

from __future__ import annotations

from typing import Any

from . import failure


def reduce_exported(value: Any) -> Any:
    """Such a value as a pyarrow object; NotImplemented for all others."""
    if not is_exporter(type(value)) or failure.can_be_pickled(value):
        return NotImplemented
    return _imported, (import_arrow(value),)


def is_exporter(cls: type) -> bool:
    """Whether instances have one of the interface's two methods."""
    return hasattr(cls, "__arrow_c_stream__") or hasattr(cls, "__arrow_c_array__")


def import_arrow(value: Any) -> Any:
    """A pyarrow object over the memory of an exporter's data: a Table if it has columns, else a
    ChunkedArray or Array. Raises what the exporter and pyarrow raise."""
    import pyarrow as pa

    if not hasattr(value, "__arrow_c_stream__"):
        return pa.array(value)
    try:
        return pa.table(value)
    except pa.ArrowInvalid:  # one column, not a table
        return pa.chunked_array(value)


def _imported(value: Any) -> Any:
    return value
