"""pandas: its own pickling, except where that copies.

Why pandas is pickled and not turned into Arrow stands in pickled.py.
"""

from __future__ import annotations

import copyreg
from collections.abc import Iterator
from typing import Any

import pandas as pd
from pandas.arrays import ArrowExtensionArray, ArrowStringArray

from . import reducers


def reduce_arrow_column(column: Any) -> Any:
    """As pandas does, but without joining the column's chunks, which copies even a single one."""
    chunks = column._pa_array
    if chunks.num_chunks == 0:  # only the joined array knows the type then
        return column.__reduce_ex__(5)
    state = {**vars(column), "_pa_array": chunks.chunks, "_cache": {}}
    return copyreg.__newobj__, (type(column),), state  # type: ignore[attr-defined]


def reduce_block(block: Any) -> Any:
    """As pandas does for protocols up to 4: for 5 it copies columns that have gaps, as those of a
    slice of a frame do. Here arrays with gaps are shared if they are stored already, and otherwise
    copied straight to their place."""
    return block.__reduce__()


def _block_types() -> set[type]:
    block: Any = type(pd.DataFrame({"a": [1]})._mgr.blocks[0])
    base = next(cls for cls in block.__mro__[::-1] if hasattr(cls, "mgr_locs"))
    return set(_below(base))


def _below(cls: Any) -> Iterator[type]:
    yield cls
    for child in cls.__subclasses__():
        yield from _below(child)


PLANNERS: dict[type, Any] = {}
LOADERS: dict[int, Any] = {}
for _cls in (ArrowExtensionArray, ArrowStringArray):
    reducers.register_reducer(_cls, reduce_arrow_column)
for _cls in _block_types():
    reducers.register_reducer(_cls, reduce_block)
