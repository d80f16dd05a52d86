"""What tasks do and did: as plain values, as a table, as a trace for chrome://tracing or Perfetto.

Live tasks are read from the table of tasks, what has ended from the ring of events: the latest
16,384 attempts.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

from plasmid import ids
from plasmid._core import core

_STATES = {
    "building": "PENDING_NODE_ASSIGNMENT",
    "waiting": "PENDING_ARGS_AVAIL",
    "ready": "PENDING_NODE_ASSIGNMENT",
    "running": "RUNNING",
    "blocked": "RUNNING_IN_RAY_GET",
    "finished": "FINISHED",
}
"""Ray's names for what is not a failure."""

_ERRORS = {
    "failed": "TASK_EXECUTION_EXCEPTION",
    "retried": "TASK_EXECUTION_EXCEPTION",
    "crashed": "WORKER_DIED",
    "cancelled": "TASK_CANCELLED",
}


def tasks(arena: core.Arena) -> list[dict[str, Any]]:
    """All that is known, by the task's number and attempt; as plain values that JSON can carry.

    "task_id" and "parent_task_id" (hex), "attempt_number" (from 0), "name", "actor_id" (hex; of an
    actor, which is a task that runs as long as it lives, and of its calls; else None), "type" and
    "state" (Ray's names), "outcome" (ours: "waiting", "ready", "running", "blocked", "finished",
    "failed", "crashed", "cancelled", "retried"), "worker_pid" (None before it runs), "error" (a
    line), times in seconds since 1970 or None ("submitted", "started", "began", "returned",
    "ended"), and of what waits "waiting" (a number of arguments) and "waits_for" (of the first
    four: "object_id", and "task_id" and "name" of the task that will make it, None if there is
    none).
    """
    ended, _ = core.ended_tasks(arena)
    live = [each for each in core.live_tasks(arena) if each.state != "abandoned"]
    over = {(each.serial, each.attempt) for each in ended if each.state != "retried"}
    # A task may end between the two readings, and then is in both.
    records = ended + [each for each in live if (each.serial, each.attempt) not in over]
    clock = time.time() - time.monotonic_ns() / 1e9
    found = [_describe(arena.session, each, clock) for each in sorted(records, key=_order)]
    return found


def summary(records: Sequence[dict[str, Any]]) -> str:
    """A line: how many are in each state."""
    totals = Counter(each["outcome"] for each in records)
    counts = (f"{count:,} {outcome}" for outcome, count in totals.most_common())
    return ", ".join(counts) or "no tasks"


def table(records: Iterable[dict[str, Any]], limit: int) -> tuple[list[str], list[list[str]]]:
    """Columns and at most `limit` rows: what has not ended, then the latest that has."""
    shown = sorted(records, key=lambda each: each["ended"] or float("inf"), reverse=True)
    columns = [">task", "name", "state", ">pid", ">waited", ">ran", "about"]
    return columns, [_row(each) for each in shown[:limit]]


def timeline(arena: core.Arena) -> list[dict[str, Any]]:
    """Events in Chrome's trace format, of every attempt that is known.

    On the row of each worker: the task, and in it "task:deserialize_arguments", "task:execute" and
    "task:store_outputs"; from its submission to its start an event "wait" of its own.
    """
    trace: list[dict[str, Any]] = []
    pids = set()
    for each in tasks(arena):
        about = {
            key: each[key]
            for key in (
                "task_id",
                "actor_id",
                "parent_task_id",
                "attempt_number",
                "outcome",
                "error",
            )
        }
        wait = {"cat": "task", "name": f"wait {each['name']}", "id": each["task_id"]}
        place = {"pid": "plasmid", "tid": f"worker {each['worker_pid']}"}
        now = time.time()
        if each["submitted"] and each["attempt_number"] == 0:
            trace.append({**wait, "ph": "b", "ts": each["submitted"] * 1e6, "pid": "waiting"})
            until = each["started"] or now
            trace.append({**wait, "ph": "e", "ts": until * 1e6, "pid": "waiting"})
        if not each["started"]:
            continue
        pids.add(place["tid"])
        end = each["ended"] or now
        trace.append(_span(f"task::{each['name']}", each["started"], end, place, about))
        if each["began"] and each["returned"] and each["ended"]:
            steps = (each["started"], each["began"], each["returned"], each["ended"])
            parts = ("task:deserialize_arguments", "task:execute", "task:store_outputs")
            for name, start, stop in zip(parts, steps, steps[1:], strict=False):
                trace.append(_span(name, start, stop, place, {}))
    return trace


def _span(
    name: str, start: float, end: float, place: dict[str, str], about: dict[str, Any]
) -> dict[str, Any]:
    return {
        "cat": name,
        "name": name,
        "ph": "X",
        "ts": start * 1e6,
        "dur": max(0.0, end - start) * 1e6,
        **place,
        "args": about,
    }


def _order(record: core.TaskRecord) -> tuple[int, int]:
    return record.serial, record.attempt


def _describe(session: bytes, each: core.TaskRecord, clock: float) -> dict[str, Any]:
    def moment(ns: int) -> float | None:
        return ns / 1e9 + clock if ns else None

    def task_id(serial: int) -> str | None:
        return ids.of_task(session, serial).hex() if serial else None

    return {
        "task_id": task_id(each.serial),
        "number": each.serial,
        "parent_task_id": task_id(each.parent),
        "attempt_number": max(0, each.attempt - 1),
        "name": each.name,
        "actor_id": ids.of_actor(session, each.actor).hex() if each.actor else None,
        "type": _type(each),
        "state": _STATES.get(each.state, "FAILED"),
        "outcome": each.state,
        "error_type": _ERRORS.get(each.state),
        "error": each.error,
        "worker_pid": each.pid or None,
        "submitted": moment(each.submitted),
        "started": moment(each.started),
        "began": moment(each.began),
        "returned": moment(each.returned),
        "ended": moment(each.ended),
        "waiting": each.waiting if each.state == "waiting" else 0,
        "waits_for": [
            {"object_id": dep.id.hex(), "task_id": task_id(dep.serial), "name": dep.name or None}
            for dep in each.waits_for
        ],
    }


def _type(each: core.TaskRecord) -> str:
    if not each.actor:
        return "NORMAL_TASK"
    return "ACTOR_CREATION_TASK" if each.actor == each.serial else "ACTOR_TASK"


def _row(each: dict[str, Any]) -> list[str]:
    now = time.time()
    waited = _duration(each["submitted"], each["started"] or each["ended"] or now)
    ran = _duration(each["started"], each["ended"] or now)
    pid = str(each["worker_pid"] or "-")
    return [str(each["number"]), each["name"], each["outcome"], pid, waited, ran, _about(each)]


def _about(each: dict[str, Any]) -> str:
    if not each["waiting"]:
        return str(each["error"])
    makers = [
        f"{dep['name']}()" if dep["name"] else f"object ...{dep['object_id'][32:]}"
        for dep in each["waits_for"]
    ]
    more = each["waiting"] - len(makers)
    return f"waits for {', '.join(makers)}{f' and {more:,} more' if more > 0 else ''}"


def _duration(start: float | None, end: float) -> str:
    if start is None:
        return "-"
    seconds = max(0.0, end - start)
    return f"{seconds:.3f} s" if seconds >= 1 else f"{seconds * 1000:.3f} ms"
