"""polars frames and series: their columns as Arrow arrays, whose memory goes beside the pickle.

polars' own pickling joins all columns in one bytes object. Enums, which Arrow would bring back as
categoricals, go as their codes and the dtype. Categoricals are no views, since polars finds codes
of its own for them. Either inside of a list or struct takes polars' way still, since polars 1.32
crashes on what it makes of them, and so does what Arrow does not bring back with the same dtype;
columns of Python objects, which polars cannot pickle, go as lists.
"""

from __future__ import annotations

from typing import Any

import polars as pl
import pyarrow as pa

from . import reducers

# Strings as polars has them, not copied to another form: from polars 1.4 and pyarrow 16 on.
_AS_IT_IS: dict[str, Any] = {}
if hasattr(pl, "CompatLevel") and hasattr(pa, "string_view"):
    _AS_IT_IS = {"compat_level": pl.CompatLevel.newest()}


def reduce_series(series: pl.Series) -> Any:
    """A Series as (name, Arrow array)."""
    if series.dtype == pl.Object:
        return pl.Series, (series.name, series.to_list(), pl.Object)
    if isinstance(series.dtype, pl.Enum):
        return _enum, (series.to_physical(), series.dtype)
    empty = series.clear().to_arrow(**_AS_IT_IS)
    same = _from_arrow(series.name, empty).dtype == series.dtype
    if not same or any(map(_has_categories, _parts(series.dtype))):
        return series.__reduce_ex__(5)
    return _from_arrow, (series.name, series.to_arrow(**_AS_IT_IS))


def reduce_frame(frame: pl.DataFrame) -> Any:
    """A DataFrame as its columns."""
    return _from_columns, (frame.get_columns(), frame.height)


def _parts(dtype: Any) -> list[Any]:
    """The dtypes inside of a nested one."""
    if isinstance(dtype, pl.Struct):
        return [field.dtype for field in dtype.fields]
    return [dtype.inner] if isinstance(dtype, pl.List | pl.Array) else []


def _has_categories(dtype: Any) -> bool:
    return isinstance(dtype, pl.Categorical | pl.Enum) or any(map(_has_categories, _parts(dtype)))


def _from_arrow(name: str, array: Any) -> pl.Series:
    made = pl.from_arrow(array)
    assert isinstance(made, pl.Series)
    return made.alias(name)


def _enum(codes: pl.Series, dtype: Any) -> pl.Series:
    to = getattr(codes.cat, "to", None)  # from polars 1.31 on; before, a cast does it
    return codes.cast(dtype) if to is None else to(dtype)


def _from_columns(columns: list[pl.Series], height: int) -> pl.DataFrame:
    if columns or not height:
        return pl.DataFrame(columns)
    return pl.DataFrame(height=height)


PLANNERS: dict[type, Any] = {}
LOADERS: dict[int, Any] = {}
reducers.register_reducer(pl.Series, reduce_series)
reducers.register_reducer(pl.DataFrame, reduce_frame)
