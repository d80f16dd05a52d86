"""A stored value as a capsule that other libraries read without a copy: Arrow's C data interface
and DLPack. The capsule owns the view, and so the pin."""

from __future__ import annotations

from typing import Any


def arrow_stream(value: Any, requested_schema: object) -> object:
    """`__arrow_c_stream__` of a table, frame, series or Arrow array."""
    if hasattr(value, "__arrow_c_stream__"):
        return value.__arrow_c_stream__(requested_schema)
    if hasattr(value, "__arrow_c_array__"):
        import pyarrow as pa

        return pa.chunked_array([pa.array(value)]).__arrow_c_stream__(requested_schema)
    raise _refusal(value, "__arrow_c_stream__")


def arrow_array(value: Any, requested_schema: object) -> object:
    """`__arrow_c_array__` of a record batch, an Arrow array, a numpy array of one dimension.

    Of a table, too, since readers that know both methods may try this one first; one that is in one
    chunk, as stored ones are, is not copied.
    """
    if hasattr(value, "__arrow_c_array__"):
        return value.__arrow_c_array__(requested_schema)
    if hasattr(value, "__arrow_c_stream__"):
        import pyarrow as pa

        table = pa.RecordBatchReader.from_stream(value).read_all().combine_chunks()
        batches = table.to_batches() or [pa.RecordBatch.from_pylist([], table.schema)]
        if len(batches) == 1:
            return batches[0].__arrow_c_array__(requested_schema)
    if type(value).__module__ == "numpy" and getattr(value, "ndim", 0) == 1:
        import pyarrow as pa

        return pa.array(value).__arrow_c_array__(requested_schema)
    raise _refusal(value, "__arrow_c_array__")


def arrow_schema(value: Any) -> object:
    """`__arrow_c_schema__` of a table, batch or Arrow array."""
    schema = getattr(value, "schema", None)
    if not hasattr(schema, "__arrow_c_schema__"):
        schema = getattr(value, "type", None)
    if not hasattr(schema, "__arrow_c_schema__"):
        raise _refusal(value, "__arrow_c_schema__")
    return schema.__arrow_c_schema__()  # type: ignore[union-attr]


def dlpack(value: Any, options: dict[str, Any]) -> object:
    """`__dlpack__` of an array or tensor."""
    if not hasattr(value, "__dlpack__"):
        raise _refusal(value, "__dlpack__")
    return value.__dlpack__(**options)


def dlpack_device(value: Any) -> tuple[int, int]:
    """`__dlpack_device__` of an array or tensor."""
    if not hasattr(value, "__dlpack_device__"):
        raise _refusal(value, "__dlpack_device__")
    kind, number = value.__dlpack_device__()
    return int(kind), int(number)


def _refusal(value: Any, method: str) -> TypeError:
    kind = f"{type(value).__module__}.{type(value).__qualname__}"
    return TypeError(f"ObjectRef.{method}: the object is of type {kind}, which has none; get() it")
