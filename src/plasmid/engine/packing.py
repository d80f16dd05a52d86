"""Arguments and results between Python and the arena: what is stored for them, and back.

Arguments of a task are stored as `(args, kwargs, where, extra)`. References directly among them
have left a None behind, and `where` says where each belongs (an index of args or a name of kwargs);
`extra` is (retry_exceptions, num_cpus, captures, is_dynamic, max_calls), or None for the defaults;
of a call of an actor the method's name, or (name, retry_exceptions, concurrency group).
A call with plain values only is one C pickle; the rest goes through the serializer.
"""

from __future__ import annotations

import hashlib
import pickle
from collections.abc import Sequence
from typing import Any, TypeAlias

from plasmid import serialize
from plasmid._core import core
from plasmid.engine import inplace, sites

Arguments: TypeAlias = tuple[tuple[Any, ...], dict[str, Any], tuple[int | str, ...], Any]

_NOTHING = pickle.dumps(((), {}, (), None), 5)
"""The arguments of a task that has none."""


class _Gather:
    """A Writer whose bytes are kept here."""

    def __init__(self, nbytes: int) -> None:
        self.raw = bytearray(nbytes)

    def write(self, offset: int, data: Any) -> None:
        view = memoryview(data).cast("B")
        self.raw[offset : offset + view.nbytes] = view


def put(arena: core.Arena, value: Any) -> core.ObjectRef:
    """`value` as a sealed object. What is planned as one short piece of bytes takes no lock."""
    plan = serialize.plan(value)
    if plan.nbytes <= core.INLINE_BYTES and not plan.refs and not sites.ENABLED:
        _, data = plan.pieces[0]
        if type(data) is bytes and len(data) == plan.nbytes:
            return arena.put_bytes(data)
    return _stored(arena, plan).seal()


def store(arena: core.Arena, value: Any) -> core.Pending:
    """`value` as a pending object, written and not yet sealed."""
    return _stored(arena, serialize.plan(value))


def _stored(arena: core.Arena, plan: serialize.Plan) -> core.Pending:
    """Arrays inside that were being made in place are sealed."""
    if plan.refs:
        inplace.seal_parts(arena, plan.refs)
    return _written(arena, plan, sites.here() if sites.ENABLED else b"")


def seal(arena: core.Arena, lease: core.Lease, value: Any, timeout: float | None) -> core.ObjectRef:
    """Seal the object whose memory `value` is, or is a part of; a reference to `value`.

    SealTimeoutError as inplace.seal, TypeError for a class that would pickle a copy.
    """
    # Planned before the seal: from then on the memory is private, and would be copied. What
    # empty() returned needs no plan.
    plan = None if getattr(value, "base", None) is lease else serialize.plan(value)
    ref: core.ObjectRef | None = inplace.seal(arena, lease, value, timeout)
    if ref is None:
        plan = plan or serialize.plan(value)
        ref = _written(arena, plan, sites.here() if sites.ENABLED else b"").seal()
    return ref


def _written(arena: core.Arena, plan: serialize.Plan, site: bytes = b"") -> core.Pending:
    room = max(plan.nbytes, core.INLINE_BYTES + 1) if site else plan.nbytes
    pending = arena.create_object(room, plan.refs)
    plan.write(pending)
    if site:
        pending.label(site)
    return pending


def pack_result(arena: core.Arena, value: Any, task: str = "") -> bytes | core.Pending:
    """What `Running.finish` takes: stored bytes if they are few, else a pending object."""
    small = core.encode(value)
    if small is not None:
        return small
    plan = serialize.plan(value)
    if plan.refs:
        inplace.seal_parts(arena, plan.refs)
    if plan.refs or plan.nbytes > core.INLINE_BYTES:
        return _written(arena, plan, f"result of {task}()".encode() if sites.ENABLED else b"")
    gathered = _Gather(plan.nbytes)
    plan.write(gathered)
    return bytes(gathered.raw)


def publish(arena: core.Arena, content: bytes, value: Any) -> core.ObjectRef:
    """The session's object for this content, with that value: stored once, and found by all."""
    key = hashlib.blake2b(content, digest_size=core.KEY_BYTES).digest()
    while True:
        ref = arena.find(key)
        if ref is not None:
            return ref
        ref = store(arena, value).seal()
        if arena.name(ref, key):
            return ref


class Packed:
    """Arguments ready for `core.submit`: payload or stored object, the references to keep, and how
    many of these the task waits for."""

    __slots__ = ("payload", "refs", "stored", "waits")

    def __init__(
        self,
        payload: bytes | None,
        stored: core.ObjectRef | None,
        refs: Sequence[core.ObjectRef],
        waits: int,
    ) -> None:
        self.payload = payload
        self.stored = stored
        self.refs = refs
        self.waits = waits


_PACKED_NOTHING = Packed(_NOTHING, None, (), 0)


def pack_arguments(
    arena: core.Arena,
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    extra: Any,
    is_plain: bool = False,
) -> Packed:
    """`is_plain`: `extra` is made of values that pickle alike in every process. Raises TypeError
    naming what cannot be pickled, ObjectStoreFullError."""
    if extra is None and not args and not kwargs:
        return _PACKED_NOTHING
    refs, where, plain = core.gather(args, kwargs)
    if refs:
        args = tuple(None if type(value) is core.ObjectRef else value for value in args)
        kwargs = {k: None if type(v) is core.ObjectRef else v for k, v in kwargs.items()}
    whole = (args, kwargs, tuple(where), extra)
    if plain and (is_plain or extra is None):
        payload = pickle.dumps(whole, 5)
        if len(payload) <= core.TASK_INLINE_BYTES:
            return Packed(payload, None, refs, len(refs))
    return _pack_any(arena, whole, refs)


def _pack_any(arena: core.Arena, whole: Arguments, refs: list[core.ObjectRef]) -> Packed:
    plan = _plan_arguments(whole)
    if plan.nbytes > core.TASK_INLINE_BYTES:
        return Packed(None, _written(arena, plan).seal(), refs, len(refs))
    gathered = _Gather(plan.nbytes)
    plan.write(gathered)
    return Packed(bytes(gathered.raw), None, [*refs, *plan.refs], len(refs))


def _plan_arguments(whole: Arguments) -> serialize.Plan:
    try:
        return serialize.plan(whole)
    except TypeError as error:
        args, kwargs, *_ = whole
        for label, value in [*enumerate(args), *kwargs.items()]:
            try:
                serialize.plan(value)
            except TypeError as inner:
                which = f"argument {label + 1}" if isinstance(label, int) else f"argument {label}"
                raise TypeError(f"{which}: {inner}") from error
        raise


def unpack_arguments(task: core.Running) -> Arguments:
    """What `pack_arguments` packed, references not yet filled in."""
    packed = task.packed()
    if packed == _NOTHING:
        return (), {}, (), None
    if not isinstance(packed, bytes):
        return packed  # type: ignore[no-any-return]
    if packed.startswith(b"\x80"):
        return pickle.loads(packed)  # type: ignore[no-any-return]
    return serialize.load(packed, task.kept_refs())  # type: ignore[no-any-return]
