"""polars frames and series: their columns as Arrow arrays, whose memory goes beside the pickle.

polars' own pickling joins all columns in one bytes object. What Arrow does not bring back with the
same dtype (categoricals, enums) takes that way still; columns of Python objects, which polars
cannot pickle, go as lists.
"""

from __future__ import annotations

from typing import Any

import polars as pl

from . import reducers

_NEWEST = pl.CompatLevel.newest()  # strings as polars has them, not copied to another form


def reduce_series(series: pl.Series) -> Any:
    """A Series as (name, Arrow array)."""
    if series.dtype == pl.Object:
        return pl.Series, (series.name, series.to_list(), pl.Object)
    empty = series.clear()
    if _from_arrow(series.name, empty.to_arrow(compat_level=_NEWEST)).dtype != series.dtype:
        return series.__reduce_ex__(5)
    return _from_arrow, (series.name, series.to_arrow(compat_level=_NEWEST))


def reduce_frame(frame: pl.DataFrame) -> Any:
    """A DataFrame as its columns."""
    return _from_columns, (frame.get_columns(), frame.height)


def _from_arrow(name: str, array: Any) -> pl.Series:
    made = pl.from_arrow(array)
    assert isinstance(made, pl.Series)
    return made.alias(name)


def _from_columns(columns: list[pl.Series], height: int) -> pl.DataFrame:
    return pl.DataFrame(columns) if columns else pl.DataFrame(height=height)


PLANNERS: dict[type, Any] = {}
LOADERS: dict[int, Any] = {}
reducers.register_reducer(pl.Series, reduce_series)
reducers.register_reducer(pl.DataFrame, reduce_frame)
