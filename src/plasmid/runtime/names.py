"""Named objects: small records that contain the reference to the object, kept in the arena by key.

A record is 40 bytes, then the name: b"NAME", 4 bytes of zeros, when it was made and when it expires
(monotonic ns, 0 = never), slot and epoch of the client it goes with (slot + 1; 0 = of none).
Whoever reads one looks at the time, so an expired name is not found from its moment on; the keeper
gives the memory back then, and what dead guests had named.

The keeper imports this: it needs the core and nothing else.
"""

from __future__ import annotations

import struct
import time

from plasmid._core import core
from plasmid.exceptions import ObjectExistsError, ObjectLostError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import NamedTuple

    class Record(NamedTuple):
        ref: core.ObjectRef
        name: str
        made: int
        expires: int
        owner: tuple[int, int] | None

else:
    from collections import namedtuple

    Record = namedtuple("Record", "ref name made expires owner")

_MAGIC = b"NAME\0\0\0\0"
_HEAD = struct.Struct("<8sQQQQ")


def give(
    arena: core.Arena, ref: core.ObjectRef, name: str, seconds: float | None, goes_with_me: bool
) -> None:
    """Name an object, for `seconds` from now (None: without end), and no longer than this process
    is in the session if `goes_with_me`. ObjectExistsError if the name is taken."""
    now = time.monotonic_ns()
    expires = 0 if seconds is None else now + max(1, int(seconds * 1e9))
    slot = arena.slot + 1 if goes_with_me else 0
    text = name.encode()
    raw = _HEAD.pack(_MAGIC, now, expires, slot, arena.epoch if slot else 0) + text
    pending = arena.create_object(len(raw), (ref,))
    pending.write(0, raw)
    record = pending.seal()
    while not arena.keep(record, _key(name)):
        other = _find(arena, name)
        if other is not None:
            raise ObjectExistsError(
                f"put: there is an object named {name!r} already; delete_object() it first, or "
                "choose another name"
            )
    if expires:
        arena.expire_by(expires)


def find(arena: core.Arena, name: str) -> core.ObjectRef:
    """The object of that name. ObjectLostError, which suggests names that are alike."""
    record = _find(arena, name)
    if record is None:
        raise ObjectLostError(_not_found("get_object", arena, name))
    return arena.contained(record.ref)[0]


def delete(arena: core.Arena, name: str) -> None:
    """Take the name away; its object goes if nothing else holds it. ObjectLostError."""
    record = _find(arena, name)
    if record is None or not arena.unkeep(record.ref, _key(name)):
        raise ObjectLostError(_not_found("delete_object", arena, name))


def all_of(arena: core.Arena) -> Iterator[Record]:
    """The records of all names, expired ones not yet cleared away included."""
    for ref in arena.kept():
        record = _read(arena, ref)
        if record is not None:
            yield record


def live(arena: core.Arena) -> list[str]:
    """All names, sorted."""
    return sorted(record.name for record in all_of(arena) if not _has_expired(record))


def clear(arena: core.Arena) -> None:
    """Give back what has expired, and what belonged to guests that are no more; say when to look
    again. The keeper's work."""
    arena.expect_no_expiry()  # first: a name given from here on will tell of itself
    records = list(all_of(arena))
    # Asked after it: who is not here now was here, and is gone. A program that joins meanwhile may
    # have given a name before we are done.
    present = {(client.slot, client.epoch) for client in arena.clients()}
    for record in records:
        orphan = record.owner is not None and record.owner not in present
        if orphan or _has_expired(record):
            arena.unkeep(record.ref, _key(record.name))
        elif record.expires:
            arena.expire_by(record.expires)


def clear_mine(arena: core.Arena) -> None:
    """Take away the names that go with this process."""
    for record in all_of(arena):
        if record.owner == (arena.slot, arena.epoch):
            arena.unkeep(record.ref, _key(record.name))


def _find(arena: core.Arena, name: str) -> Record | None:
    ref = arena.find(_key(name))
    record = None if ref is None else _read(arena, ref)
    if record is not None and _has_expired(record):
        arena.unkeep(record.ref, _key(name))
        return None
    return record


def _read(arena: core.Arena, ref: core.ObjectRef) -> Record | None:
    """The record; None if what is kept is none, but a detached actor's mailbox."""
    raw = bytes(arena.open(ref, 0, size)) if (size := arena.size_of(ref)) else b""
    if len(raw) < _HEAD.size or not raw.startswith(_MAGIC):
        return None
    _, made, expires, slot, epoch = _HEAD.unpack_from(raw)
    owner = (slot - 1, epoch) if slot else None
    return Record(ref, raw[_HEAD.size :].decode(), made, expires, owner)


def _has_expired(record: Record) -> bool:
    return 0 < record.expires <= time.monotonic_ns()


def _key(name: str) -> bytes:
    from hashlib import blake2b

    return blake2b(b"name " + name.encode(), digest_size=core.KEY_BYTES).digest()


def _not_found(operation: str, arena: core.Arena, name: str) -> str:
    import difflib

    close = difflib.get_close_matches(name, live(arena))
    hint = f"; did you mean {' or '.join(map(repr, close))}?" if close else ""
    return f"{operation}: no object is named {name!r}{hint}"
