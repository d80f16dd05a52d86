"""`inspect_serializability`: which part of a value cannot be sent to another process."""

from __future__ import annotations

import inspect

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

__all__ = ["FailureTuple", "inspect_serializability"]


class FailureTuple:
    """A part that cannot be pickled.

    obj     itself
    path    the names that lead to it from the value
    parent  what it was found in, None for the value itself
    """

    def __init__(self, obj: Any, path: tuple[str, ...], parent: Any) -> None:
        self.obj = obj
        self.path = path
        self.parent = parent

    def __repr__(self) -> str:
        return f"FailureTuple({' -> '.join(self.path)}: {self.obj!r}, in {self.parent!r})"


def inspect_serializability(
    base_obj: Any, name: str | None = None, depth: int = 3, print_file: Any = None
) -> tuple[bool, set[FailureTuple]]:
    """Whether `base_obj` can be pickled, and the innermost parts that cannot, `depth` levels down.

    Looks at what functions refer to, at attributes, and at items of lists, tuples and dicts.
    Prints what it finds to `print_file`, by default stdout. Costs a pickling of each part that it
    looks at.
    """
    found: set[FailureTuple] = set()
    label = name or getattr(base_obj, "__qualname__", None) or type(base_obj).__name__
    _search(base_obj, (label,), None, depth, found, {id(base_obj)})
    print(f"{label} can{'not' if found else ''} be serialized", file=print_file)
    for failure in found:
        print(f"    {' -> '.join(failure.path)}: {_why(failure.obj)}", file=print_file)
    return not found, found


def _search(
    obj: Any,
    path: tuple[str, ...],
    parent: Any,
    depth: int,
    found: set[FailureTuple],
    seen: set[int],
) -> bool:
    """Whether `obj` failed; what is to blame is then in `found`."""
    if _why(obj) is None:
        return False
    deeper = False
    for name, part in _parts(obj) if depth > 0 else ():
        if id(part) not in seen:
            seen.add(id(part))
            deeper |= _search(part, (*path, name), obj, depth - 1, found, seen)
    if not deeper:
        found.add(FailureTuple(obj, path, parent))
    return True


def _parts(obj: Any) -> Iterator[tuple[str, Any]]:
    from plasmid.remote import RemoteFunction

    if isinstance(obj, RemoteFunction):
        obj = obj._function
    if inspect.isfunction(obj):
        closure = inspect.getclosurevars(obj)
        yield from closure.globals.items()
        yield from closure.nonlocals.items()
    elif isinstance(obj, dict):
        yield from ((repr(key), value) for key, value in obj.items())
    elif isinstance(obj, (list, tuple, set, frozenset)):
        yield from ((f"[{index}]", item) for index, item in enumerate(obj))
    else:
        own = {**vars(obj)} if hasattr(obj, "__dict__") else {}
        yield from ((key, value) for key, value in own.items() if not _is_dunder(key))


def _is_dunder(name: str) -> bool:
    return name.startswith("__") and name.endswith("__")


def _why(obj: Any) -> str | None:
    """Why it cannot be pickled; None if it can."""
    import cloudpickle

    try:
        cloudpickle.dumps(obj)
    except Exception as error:
        return str(error) or type(error).__name__
    return None
