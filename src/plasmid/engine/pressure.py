"""A full store: how long to wait for room, and what to tell when there has been none."""

from __future__ import annotations

import errno
import os
import pickle
import threading
from collections import Counter

from plasmid._core import core
from plasmid.engine import memory
from plasmid.exceptions import ObjectStoreFullError
from plasmid.runtime.spilling import BYTES, FOLDER

DEFAULT_SECONDS = 10.0
SETTING = "PLASMID_STORE_FULL_SECONDS"
_SHOWN = 3


def patience(arena: core.Arena, nbytes: int) -> float:
    """Seconds to wait until there is room for that many bytes: those of the setting, 0 if nobody
    else could make any: no task, no other program, no other thread of this one."""
    stats = arena.stats()
    if nbytes > stats["heap_capacity"]:
        return 0.0
    others = (
        stats["tasks"] or _programs(arena) > 1 or any(map(_is_of_program, threading.enumerate()))
    )
    return _seconds() if others else 0.0


def full(arena: core.Arena, nbytes: int, waited: float) -> ObjectStoreFullError:
    """The error: what is in the way, and what would help."""
    capacity = arena.stats()["heap_capacity"]
    waiting = f", nor did it in {waited:g} seconds" if waited else ""
    if nbytes > capacity:
        return ObjectStoreFullError(
            f"an object of {nbytes} bytes does not fit into the object store of {capacity} "
            "bytes, even if all others go. Give init() a larger object_store_memory, or put it in "
            "parts."
        )
    return ObjectStoreFullError(
        f"an object of {nbytes} bytes does not fit into the object store of {capacity} bytes "
        f"as it is filled now{waiting}. {_in_the_way(arena)}{_why_not_spilled(arena)}Drop "
        "references (and arrays that are views of objects), or give init() a larger "
        "object_store_memory."
    )


def tell_of_spilling(arena: core.Arena) -> None:
    """A line for the user: from now on the disk's speed counts."""
    import logging

    capacity = arena.stats()["heap_capacity"]
    logging.getLogger("plasmid").warning(
        "The object store of %d bytes is full: objects that were used least recently are spilled "
        "to %s, and come back when they are asked for. `plasmid memory` shows what holds them.",
        capacity,
        _folder(arena),
    )


def _folder(arena: core.Arena) -> str | None:
    folder: str | None = pickle.loads(arena.boot()).get("spill_folder")
    return folder


def _why_not_spilled(arena: core.Arena) -> str:
    """Why what nobody looks at has not gone to the disk, as a sentence; nothing if it has."""
    stats = arena.stats()
    if not stats["disk_capacity"]:
        return f"Nothing can be spilled: see {FOLDER} and {BYTES}. "
    if stats["disk_errno"]:
        why = errno.errorcode.get(stats["disk_errno"], "?")
        text = os.strerror(stats["disk_errno"])
        return f"Spilling to {_folder(arena)} has failed: {text} ({why}). "
    if stats["disk_used"] > 0.9 * stats["disk_capacity"]:
        return f"{stats['disk_used']} bytes have been spilled, more may not: see {BYTES}. "
    return ""


def _in_the_way(arena: core.Arena) -> str:
    """Who holds the most, as a sentence; nothing if the store is empty."""
    held, viewed = Counter[str](), Counter[str]()
    for each in arena.objects():
        held.update({memory.process_of(by): each.bytes for by in each.holders})
        viewed.update({memory.process_of(by): each.bytes for by in each.holders if by.pins})
        if not each.holders:
            held["tasks, names and other objects"] += each.bytes
    most = [(name, size) for name, size in held.most_common(_SHOWN) if size]
    if not most:
        return ""
    told = [f"{name}: {size} bytes, of which {viewed[name]} by views" for name, size in most]
    return f"Held by {'; '.join(told)}. "


def _programs(arena: core.Arena) -> int:
    return sum(each.kind in (core.DRIVER, core.GUEST) for each in arena.clients())


def _is_of_program(thread: threading.Thread) -> bool:
    return thread is not threading.current_thread() and not thread.name.startswith("plasmid")


def _seconds() -> float:
    try:
        return max(0.0, float(os.environ.get(SETTING, DEFAULT_SECONDS)))
    except ValueError:
        return DEFAULT_SECONDS
