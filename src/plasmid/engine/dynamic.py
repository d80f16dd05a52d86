"""The value of a task with num_returns="dynamic"."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from plasmid._core.core import ObjectRef

__all__ = ["DynamicObjectRefGenerator"]


class DynamicObjectRefGenerator:
    """References to what a generator yielded, in its order. Iterating takes them out, as in Ray: so
    each object goes as soon as its reference does.

    Processes and threads: can be sent to any process of the session. Threads may share one; each
    reference comes out once.
    """

    __slots__ = ("_refs",)

    def __init__(self, refs: Iterable[ObjectRef]) -> None:
        self._refs = list(refs)[::-1]

    def __iter__(self) -> Iterator[ObjectRef]:
        while self._refs:
            yield self._refs.pop()

    def __len__(self) -> int:
        return len(self._refs)

    def __reduce__(self) -> tuple[type, tuple[list[ObjectRef]]]:
        return DynamicObjectRefGenerator, (self._refs[::-1],)

    def __repr__(self) -> str:
        return f"DynamicObjectRefGenerator({len(self._refs)} references)"
