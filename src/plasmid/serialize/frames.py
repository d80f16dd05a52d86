"""pandas: its own pickling, except where that copies.

Why pandas is pickled and not turned into Arrow stands in pickled.py.
"""

from __future__ import annotations

import copyreg
from typing import Any

from pandas.arrays import ArrowExtensionArray, ArrowStringArray

from . import reducers


def reduce_arrow_column(column: Any) -> Any:
    """As pandas does, but without joining the column's chunks, which copies even a single one."""
    chunks = column._pa_array
    if chunks.num_chunks == 0:  # only the joined array knows the type then
        return column.__reduce_ex__(5)
    state = {**vars(column), "_pa_array": chunks.chunks, "_cache": {}}
    return copyreg.__newobj__, (type(column),), state  # type: ignore[attr-defined]


PLANNERS: dict[type, Any] = {}
LOADERS: dict[int, Any] = {}
for _cls in (ArrowExtensionArray, ArrowStringArray):
    reducers.register_reducer(_cls, reduce_arrow_column)
