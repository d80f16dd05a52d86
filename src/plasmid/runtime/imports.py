"""What makes pickled functions mean the same in two processes: the Python, and where it looks for
modules."""

from __future__ import annotations

import os
import sys


def python_version() -> str:
    """Pickled functions are for this Python only."""
    return f"{sys.implementation.name} {sys.version_info[0]}.{sys.version_info[1]}"


def import_path() -> list[str]:
    """sys.path, without what is no path. Folders are absolute: other processes may work in another
    one."""
    return [_absolute(os.fspath(e)) for e in sys.path if isinstance(e, (str, os.PathLike))]


def _absolute(entry: str) -> str:
    """Only what exists is a folder or an archive; others are the names of import hooks."""
    try:
        path = os.path.abspath(entry)
    except FileNotFoundError:  # this process's working folder has been removed
        return entry
    return path if os.path.exists(path) else entry
