"""Functions that carry large values with them: said once, and refused beyond a bound, as in Ray."""

from __future__ import annotations

import os

WARN_BYTES = 10**7
"""Pickled functions larger than this are warned about."""

ERROR_BYTES = 10**8
"""Those of this size are refused; FUNCTION_SIZE_ERROR_THRESHOLD in the environment says otherwise,
in bytes."""

_MIB = 1 << 20


def look_at(size: int, module: str | None, name: str) -> None:
    """Warn of a pickled function of so many bytes, or raise ValueError. Called once a function and
    session, below export() below remote()."""
    if size <= WARN_BYTES:
        return
    most = int(os.environ.get("FUNCTION_SIZE_ERROR_THRESHOLD", ERROR_BYTES))
    advice = (
        "Check that its definition is not implicitly capturing a large array or other object in "
        "scope. Tip: use put() to put large objects in the object store."
    )
    which = f"The remote function {module}.{name}"
    if size >= most:
        raise ValueError(
            f"{which} is too large ({size // _MIB} MiB > FUNCTION_SIZE_ERROR_THRESHOLD="
            f"{most // _MIB} MiB). {advice}"
        )
    import warnings

    warnings.warn(f"{which} is very large ({size // _MIB} MiB). {advice}", stacklevel=5)
