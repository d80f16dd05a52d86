"""Results in the order in which they come."""

from __future__ import annotations

from plasmid import api

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from typing import Any

    from plasmid._core.core import ObjectRef

__all__ = ["as_completed", "map_unordered"]


def as_completed(
    refs: Sequence[ObjectRef],
    *,
    chunk_size: int = 10,
    yield_obj_refs: bool = False,
    timeout: float | None = None,
    fetch_local: bool = True,
) -> Iterator[Any]:
    """The values of `refs` as they become available; with `yield_obj_refs` the references.

    At most `chunk_size` are taken at a time. Ray waits until as many are ready; here the first
    that is ready is yielded at once, with what else is ready by then. Blocks between values;
    GetTimeoutError if none becomes ready for `timeout` seconds. A failed task's error is raised
    when its turn comes.
    """
    _check_size("as_completed", "chunk_size", chunk_size)
    return _in_chunks(list(refs), chunk_size, yield_obj_refs, timeout, fetch_local)


def _in_chunks(
    refs: list[ObjectRef],
    chunk_size: int,
    yield_obj_refs: bool,
    timeout: float | None,
    fetch_local: bool,
) -> Iterator[Any]:
    while refs:
        ready, _ = api.wait(refs, timeout=timeout, fetch_local=fetch_local)
        if not ready:
            api.get(refs[0], timeout=0)  # raises that it is not there
        most = min(chunk_size, len(refs))
        ready, refs = api.wait(refs, num_returns=most, timeout=0)
        yield from ready if yield_obj_refs else map(api.get, ready)


def map_unordered(
    fn: Any,
    items: Iterable[Any],
    *,
    backpressure_size: int | None = 100,
    chunk_size: int = 10,
    yield_obj_refs: bool = False,
    timeout: float | None = None,
    fetch_local: bool = True,
) -> Iterator[Any]:
    """Call the remote function `fn` on each of `items`, and yield the results as they come.

    At most `backpressure_size` calls are under way (None: no limit), and `items` is not read
    further. Otherwise as `as_completed`.
    """
    if not hasattr(fn, "remote"):
        raise TypeError(f"map_unordered: expected a remote function, not {fn!r}")
    _check_size("map_unordered", "chunk_size", chunk_size)
    if backpressure_size is None:
        backpressure_size = 1 << 62
    _check_size("map_unordered", "backpressure_size", backpressure_size)
    if backpressure_size < chunk_size:
        raise ValueError(
            f"map_unordered: backpressure_size ({backpressure_size}) must be at least chunk_size "
            f"({chunk_size})"
        )
    return _map(fn, iter(items), backpressure_size, chunk_size, yield_obj_refs, timeout)


def _check_size(operation: str, name: str, size: Any) -> None:
    if isinstance(size, bool) or not hasattr(size, "__index__"):
        raise TypeError(f"{operation}: {name} must be a whole number, not {size!r}")
    if size < 1:
        raise ValueError(f"{operation}: {name} must be at least 1, not {size}")


def _map(
    fn: Any,
    items: Iterator[Any],
    most: int,
    chunk_size: int,
    yield_obj_refs: bool,
    timeout: float | None,
) -> Iterator[Any]:
    refs: list[ObjectRef] = []
    more = True
    while more or refs:
        while more and len(refs) < most:
            try:
                refs.append(fn.remote(next(items)))
            except StopIteration:
                more = False
        if not refs:
            return
        ready, _ = api.wait(refs, timeout=timeout)
        if not ready:
            api.get(refs[0], timeout=0)  # raises that it is not there
        ready, refs = api.wait(refs, num_returns=min(chunk_size, len(refs)), timeout=0)
        yield from ready if yield_obj_refs else map(api.get, ready)
