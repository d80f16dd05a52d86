"""What is in the store and who keeps it there: a table for people, and for programs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import Any

from plasmid import _tables, serialize
from plasmid._core import core
from plasmid.exceptions import ObjectCorruptedError, ObjectFreedError, ObjectLostError
from plasmid.runtime import names

_KINDS = {
    core.DRIVER: "driver",
    core.KEEPER: "keeper",
    core.WORKER: "worker",
    core.GUEST: "program",
}
_CYCLES_SHOWN = 10


def survey(arena: core.Arena, limit: int | None = None) -> dict[str, Any]:
    """The objects, largest first, at most `limit`, and totals of all; as plain values that JSON can
    carry.

    "objects": for each "id", "state", "size" (bytes of the value), "bytes" (of its block), "where",
    "type", "site" (where it was made, if recorded), "held_by" (a list of texts), "pinned_by"
    (pids), "contains" (a number). "cycles": lists of ids of objects that contain each other.
    "totals": `store_bytes` = `used_bytes` + `spare_bytes` (room beside small blocks, for others of
    their size) + `free_bytes`, and `used_bytes` = `object_bytes` + `task_table_bytes` (arguments of
    tasks); `largest_free_block`, and `fragmentation`, the share of free memory that is not in it.
    `spilled_objects` and their `spilled_bytes` are on disk alone; `disk_used_bytes` of `disk_bytes`
    are taken by these and by copies of objects that are back; `spills`, `restores` and their bytes
    count from the beginning of the session, as do `waits`, how often somebody had to wait for room.
    Objects are spilled ahead of need while less than `watermark_bytes` are free, or what the next
    of a size takes; 0: there is no disk.

    Takes the lock for a bounded time again and again: what changes meanwhile may be missing.
    """
    named = _names(arena)
    stats = arena.stats()
    found = arena.objects()
    inside = _contained(arena, found)
    found.sort(key=lambda each: (-each.bytes, -each.size))
    shown = found if limit is None else found[:limit]  # to look at one takes longer than the rest
    holders: dict[bytes, list[str]] = {each.id: [] for each in shown}
    for outer, ids in inside.items():
        for inner in holders.keys() & ids:
            holders[inner].append(f"contained in {outer.hex()}")
    objects = [_describe(arena, each, named, holders[each.id]) for each in shown]
    in_objects = sum(each.bytes for each in found)
    free = stats["heap_free"]
    return {
        "objects": objects,
        "cycles": [[each.hex() for each in cycle] for cycle in _cycles(inside)],
        "totals": {
            "store_bytes": stats["heap_capacity"],
            "used_bytes": stats["heap_used"],
            "spare_bytes": stats["heap_capacity"] - stats["heap_used"] - free,
            "free_bytes": free,
            "largest_free_block": stats["heap_largest"],
            "fragmentation": 1 - stats["heap_largest"] / free if free else 0.0,
            "object_bytes": in_objects,
            "task_table_bytes": max(0, stats["heap_used"] - in_objects),
            "objects": len(found),
            "spilled_objects": sum(each.state == "spilled" for each in found),
            "spilled_bytes": sum(each.size for each in found if each.state == "spilled"),
            "disk_bytes": stats["disk_capacity"],
            "disk_used_bytes": stats["disk_used"],
            "spills": stats["spills"],
            "spilled_bytes_ever": stats["spilled_bytes"],
            "restores": stats["restores"],
            "restored_bytes_ever": stats["restored_bytes"],
            "watermark_bytes": stats["watermark"],
            "waits": stats["waits"],
            "pending_tasks": stats["tasks"],
            "clients": stats["clients"],
        },
    }


SORTED: dict[str, Callable[[dict[str, Any]], Any]] = {
    "size": lambda each: (-each["bytes"], -each["size"]),
    "type": lambda each: each["type"],
    "state": lambda each: each["state"],
    "site": lambda each: each["site"],
    "holder": lambda each: each["held_by"][:1],
}
"""What objects can be sorted and, but for the size, grouped by."""


def summary(report: dict[str, Any]) -> str:
    """The totals in a line."""
    totals = report["totals"]
    spilled = (
        f"; on disk {totals['spilled_objects']:,} objects of {totals['spilled_bytes']:,} bytes, "
        f"{totals['spilled_bytes_ever']:,} bytes spilled and {totals['restored_bytes_ever']:,} "
        f"restored so far; objects go there while less than {totals['watermark_bytes']:,} bytes "
        "are free"
    )
    waits = f"; {totals['waits']:,} times something had to wait for room"
    return (
        f"{totals['used_bytes']:,} of {totals['store_bytes']:,} bytes used: "
        f"{totals['object_bytes']:,} by {totals['objects']:,} objects, "
        f"{totals['task_table_bytes']:,} by tables of {totals['pending_tasks']:,} tasks; "
        f"{totals['spare_bytes']:,} spare beside small blocks; {totals['free_bytes']:,} free, the "
        f"largest block {totals['largest_free_block']:,}, fragmentation "
        f"{totals['fragmentation']:.0%}{spilled if totals['spills'] else ''}"
        f"{waits if totals['waits'] else ''}"
    )


def table(
    report: dict[str, Any], limit: int, sort_by: str = "size"
) -> tuple[list[str], list[list[str]]]:
    """Columns and rows, for _tables, of at most `limit` objects. Sorting is stable: among equals
    the largest come first."""
    objects = sorted(report["objects"], key=SORTED[sort_by])
    columns = ["object", ">bytes", "state", "where", "type", "held by", "made at"]
    return columns, [
        [
            f"...{each['id'][32:]}",
            f"{each['bytes'] or each['size']:,}",
            each["state"],
            each["where"],
            each["type"],
            "; ".join(each["held_by"]),
            each["site"],
        ]
        for each in objects[:limit]
    ]


def groups(report: dict[str, Any], limit: int, group_by: str) -> tuple[list[str], list[list[str]]]:
    """The same of objects that have something in common, the groups with most bytes first."""
    key, number, nbytes = SORTED[group_by], Counter[str](), Counter[str]()
    for each in report["objects"]:
        name = key(each)
        name = "; ".join(name) if isinstance(name, list) else name
        number[name] += 1
        nbytes[name] += each["bytes"]
    largest = sorted(number, key=lambda name: (-nbytes[name], -number[name], name))
    return [group_by, ">objects", ">bytes"], [
        [name or "-", f"{number[name]:,}", f"{nbytes[name]:,}"] for name in largest[:limit]
    ]


def notes(report: dict[str, Any], limit: int) -> list[str]:
    """What is to be said after a table of at most `limit` objects."""
    rest = report["totals"]["objects"] - limit
    found = [f"... and {rest:,} more objects"] if rest > 0 else []
    return found + [
        f"these objects keep each other alive: {', '.join(cycle)}; free() of one breaks it"
        for cycle in report["cycles"]
    ]


def as_text(report: dict[str, Any], limit: int = 100) -> str:
    """The survey as plain text, at most `limit` objects; the totals are the first line."""
    shown = _tables.as_text(*table(report, limit))
    return "\n".join([summary(report), "", shown, *notes(report, limit)])


def process_of(holder: core.Holder) -> str:
    """The process as a text."""
    return f"{_KINDS.get(holder.kind, 'process')} {holder.pid}"


def _describe(
    arena: core.Arena, each: core.StoredObject, named: dict[bytes, str], containers: list[str]
) -> dict[str, Any]:
    held = []
    for holder in each.holders:
        pins = f", {holder.pins} views" if holder.pins else ""
        held.append(f"{process_of(holder)}{pins}")
    if each.holder_count > len(each.holders):
        held.append(f"{each.holder_count - len(each.holders)} more processes")
    held += containers
    if each.id in named:
        held.append(f"name {named[each.id]!r}")
    if each.kept:
        held.append("the session" if each.kept == "session" else "a name's record")
    others = each.refs - each.holder_count - len(containers) - bool(each.kept)
    if others > 0:
        held.append(f"{others} tasks")
    return {
        "id": each.id.hex(),
        "state": f"pending {each.task}()" if each.task else each.state,
        "size": each.size,
        "bytes": each.bytes,
        "where": _place_of(each),
        "type": _type_of(arena, each),
        "site": each.site,
        "held_by": held,
        "pinned_by": [holder.pid for holder in each.holders if holder.pins],
        "contains": each.contained,
    }


def _place_of(each: core.StoredObject) -> str:
    if each.state == "spilled":
        return "disk"
    return "table" if each.is_inline else "gone" if each.stripped else "heap"


def _type_of(arena: core.Arena, each: core.StoredObject) -> str:
    if each.state not in ("sealed", "exception"):
        return "in place" if each.state == "pending" and not each.task else ""
    with suppress(ObjectLostError, ObjectFreedError, ObjectCorruptedError):
        ref = arena.ref_from_id(each.id)
        small = arena.small_bytes(ref)
        if small is not None:
            return "small value"
        return serialize.describe(arena.open(ref, 0, each.size), arena.contained(ref)).kind[:21]
    return "record"


def _names(arena: core.Arena) -> dict[bytes, str]:
    """Of named objects, their names."""
    found = {}
    for record in names.all_of(arena):
        with suppress(ObjectLostError, ObjectFreedError):
            found[arena.contained(record.ref)[0].binary()] = record.name
    return found


def _contained(arena: core.Arena, found: Iterable[core.StoredObject]) -> dict[bytes, list[bytes]]:
    """Of each sealed object, what it contains."""
    inside = {}
    for each in found:
        if each.contained and each.state in ("sealed", "exception"):
            with suppress(ObjectLostError, ObjectFreedError):
                refs = arena.contained(arena.ref_from_id(each.id))
                inside[each.id] = [ref.binary() for ref in refs]
    return inside


def _cycles(inside: dict[bytes, list[bytes]]) -> list[list[bytes]]:
    """Objects that contain each other, a few; by a walk in depth without recursion."""
    found: list[list[bytes]] = []
    done: set[bytes] = set()
    for start in inside:
        path: list[bytes] = []
        place: dict[bytes, int] = {}
        todo: list[tuple[bytes, bool]] = [(start, False)]
        while todo and len(found) < _CYCLES_SHOWN:
            here, leaving = todo.pop()
            if leaving:
                done.add(here)
                del place[path.pop()]
            elif here in place:
                found.append(path[place[here] :])
            elif here not in done and here in inside:
                place[here] = len(path)
                path.append(here)
                todo.append((here, True))
                todo += [(inner, False) for inner in inside[here]]
    return found
