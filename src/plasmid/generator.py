"""`ObjectRefGenerator`: the results of a remote generator function, while it runs.

f.remote() ─► ObjectRefGenerator ─► next(): the engine's next_item() ─► ObjectRef, ready
                    ├─ gate         a reference whose readiness means: next() need not wait
                    └─ completed()  a reference that is ready when the task has ended
"""

from __future__ import annotations

from plasmid.engine import current
from plasmid.engine.dynamic import DynamicObjectRefGenerator
from plasmid.exceptions import ObjectRefStreamEndOfStreamError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, NoReturn

    from plasmid._core.core import ObjectRef

__all__ = ["DynamicObjectRefGenerator", "ObjectRefGenerator", "StreamingObjectRefGenerator"]


class ObjectRefGenerator:
    """References to what a remote generator function yields, in its order, as it yields them.

        for ref in f.remote(): ...          async for ref in f.remote(): ...

    Each reference is ready when it comes. What the function raises is the last one: its `get`
    raises; so is the death of its worker, when no retry is left. A retry goes on with the first
    item that was not yielded before.

    Dropping it ends the function: as a generator that goes out of scope, it is closed at its next
    yield, and not run at all if it has not begun. A reference from `completed()` keeps it running
    to its end.

    `wait` takes it beside references: it is ready when `next` need not wait. It cannot be pickled:
    give a task its references instead.

    Processes and threads: belongs to the process that made the call; there any thread may use it,
    and each reference comes out once. `next` blocks without the GIL, `async for` does not block. A
    task that waits here lends its CPU.
    """

    __slots__ = ("__weakref__", "_gate", "_generator_ref")

    _gate: ObjectRef
    _generator_ref: ObjectRef

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        raise TypeError("an ObjectRefGenerator comes from calling a remote generator function")

    @classmethod
    def _of(cls, gate: ObjectRef, completed: ObjectRef) -> ObjectRefGenerator:
        made = cls.__new__(cls)
        made._gate = gate
        made._generator_ref = completed
        return made

    def __del__(self) -> None:
        # First of the two: a task goes on without a taker as long as somebody holds its end.
        if hasattr(self, "_generator_ref"):  # __init__ may have refused
            del self._generator_ref

    def __iter__(self) -> ObjectRefGenerator:
        return self

    def __next__(self) -> ObjectRef:
        """The next reference. Blocks until there is one; StopIteration when there is none left."""
        return self._next_sync()

    def __aiter__(self) -> ObjectRefGenerator:
        return self

    async def __anext__(self) -> ObjectRef:
        """The same in any asyncio loop; StopAsyncIteration."""
        return await self._next_async()

    def _next_sync(self, timeout_s: float | None = None) -> ObjectRef:
        """The next reference; `ObjectRef.nil()` if there is none after so many seconds. None or a
        negative number: without a limit."""
        timeout = None if timeout_s is None or timeout_s < 0 else float(timeout_s)
        engine = current.engine
        try:
            ref = engine.next_item(self._gate, self._generator_ref, timeout)
        except ObjectRefStreamEndOfStreamError:
            raise StopIteration from None
        return engine.ref_type.nil() if ref is None else ref

    async def _next_async(self, timeout_s: float | None = None) -> ObjectRef:
        """The same in any asyncio loop."""
        import asyncio
        from time import monotonic

        timeout = None if timeout_s is None or timeout_s < 0 else float(timeout_s)
        deadline = None if timeout is None else monotonic() + timeout
        engine = current.engine
        while True:
            try:
                ref = engine.next_item(self._gate, self._generator_ref, 0.0)
            except ObjectRefStreamEndOfStreamError:
                raise StopAsyncIteration from None
            if ref is not None:
                return ref
            left = None if deadline is None else deadline - monotonic()
            if left is not None and left <= 0:
                return engine.ref_type.nil()  # type: ignore[no-any-return]
            event = engine.item_future(self._gate)
            try:
                await asyncio.wait([asyncio.wrap_future(event)], timeout=left)
            finally:
                if not event.done():
                    engine.forget_future(self._gate, event)
            if event.done():
                event.result()  # the session may have ended

    def completed(self) -> ObjectRef:
        """A reference that is ready when the task has ended: its value is None. `get` of it raises
        if the task failed otherwise than by raising in the generator: its worker died, an argument
        failed. Does not block."""
        return self._generator_ref

    def next_ready(self) -> bool:
        """Whether `next` would return at once. False at the end. Does not block."""
        return current.engine.look_at_stream(self._gate)[0] > 0

    def is_finished(self) -> bool:
        """Whether the task has ended and all was taken. Does not block."""
        return current.engine.look_at_stream(self._gate)[1]

    def send(self, value: object) -> NoReturn:
        raise NotImplementedError("gen.send() is not supported: the generator runs elsewhere")

    def throw(self, value: object) -> NoReturn:
        raise NotImplementedError("gen.throw() is not supported: the generator runs elsewhere")

    def close(self) -> NoReturn:
        raise NotImplementedError(
            "gen.close() is not supported: drop the generator, or cancel() its task"
        )

    async def asend(self, value: object) -> NoReturn:
        raise NotImplementedError("gen.asend() is not supported: the generator runs elsewhere")

    async def athrow(self, value: object) -> NoReturn:
        raise NotImplementedError("gen.athrow() is not supported: the generator runs elsewhere")

    async def aclose(self) -> NoReturn:
        raise NotImplementedError(
            "gen.aclose() is not supported: drop the generator, or cancel() its task"
        )

    def __reduce__(self) -> NoReturn:
        raise TypeError(
            "an ObjectRefGenerator cannot be pickled: it cannot be put, returned, or passed to a "
            "task. Pass the references that it gives"
        )

    def __repr__(self) -> str:
        return f"ObjectRefGenerator({self._generator_ref.hex()})"


StreamingObjectRefGenerator = ObjectRefGenerator
"""Its name in earlier releases of Ray."""
