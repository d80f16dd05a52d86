"""Which actors live: as plain values, and as a table."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

from plasmid import ids, serialize
from plasmid._core import core
from plasmid.exceptions import ObjectLostError


def card_of(arena: core.Arena, mailbox: core.ObjectRef) -> dict[str, Any] | None:
    """What an actor is called, and so on (actors.py), of plain types; None if it is dead."""
    _, card = core.actor(arena, mailbox)
    if card is None:
        return None
    found: dict[str, Any] = serialize.load(arena.open(card, 0, arena.size_of(card) or 0))
    return found


def actors(arena: core.Arena) -> list[dict[str, Any]]:
    """Those that live, oldest first; as plain values that JSON can carry.

    "actor_id" (hex), "class_name", "name", "namespace", "is_detached", "is_async",
    "max_concurrency", "state" (Ray's names), "pid" (None without a process), "restarts", "calls"
    (that have not ended), "task_id" (hex).
    """
    found = []
    for task in core.live_tasks(arena):
        if task.mailbox is None:
            continue
        try:
            card = card_of(arena, arena.ref_from_id(task.mailbox))
        except ObjectLostError:  # it has ended meanwhile
            continue
        if card is not None:
            found.append((task, card))
    found.sort(key=lambda each: each[0].serial)
    return [_describe(arena.session, task, card) for task, card in found]


def summary(records: Sequence[dict[str, Any]]) -> str:
    """A line: how many are in each state."""
    totals = Counter(each["state"] for each in records)
    counts = (f"{count:,} {state.lower()}" for state, count in totals.most_common())
    return ", ".join(counts) or "no actors"


def table(records: Iterable[dict[str, Any]], limit: int) -> tuple[list[str], list[list[str]]]:
    """Columns and at most `limit` rows: those with the most calls first."""
    shown = sorted(records, key=lambda each: each["calls"], reverse=True)
    columns = ["actor", "class", "name", "state", ">pid", ">calls", ">restarts"]
    return columns, [_row(each) for each in shown[:limit]]


def _row(each: dict[str, Any]) -> list[str]:
    name = each["name"] or "-"
    detached = " (detached)" if each["is_detached"] else ""
    pid, calls, restarts = str(each["pid"] or "-"), f"{each['calls']:,}", str(each["restarts"])
    return [
        each["actor_id"],
        each["class_name"],
        name + detached,
        each["state"],
        pid,
        calls,
        restarts,
    ]


def _describe(session: bytes, task: core.TaskRecord, card: dict[str, Any]) -> dict[str, Any]:
    waiting = "RESTARTING" if task.attempt else "PENDING_CREATION"
    return {
        "actor_id": ids.of_actor(session, task.serial).hex(),
        "class_name": card["class_name"],
        "name": card["name"],
        "namespace": card["namespace"],
        "is_detached": card["is_detached"],
        "is_async": card["is_async"],
        "max_concurrency": card["max_concurrency"],
        "state": "ALIVE" if task.state in ("running", "blocked") else waiting,
        "pid": task.pid or None,
        "restarts": max(0, task.attempt - 1),
        "calls": task.calls,
        "task_id": ids.of_task(session, task.serial).hex(),
    }
