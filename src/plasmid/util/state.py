"""`ray.util.state`: what the session has and does, as lists of records.

Everything is read from the session's shared memory by this process: there is no server to ask, so
`address`, `timeout`, `raise_on_missing_output` and `explain` change nothing, and nothing is cut but
by `limit`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import wraps
from typing import Any, TypeAlias

from plasmid.engine import current

__all__ = [
    "StateRecord",
    "get_job",
    "get_node",
    "get_objects",
    "get_task",
    "get_worker",
    "list_actors",
    "list_jobs",
    "list_nodes",
    "list_objects",
    "list_tasks",
    "list_workers",
    "summarize_actors",
    "summarize_objects",
    "summarize_tasks",
]

Filters: TypeAlias = Iterable[tuple[str, str, Any]] | None
"""(key, "=" or "!=", value): the records of which all hold."""

_ALL = 1 << 62


class StateRecord(Mapping[str, Any]):
    """One task, object, process or node: its values as attributes and as items."""

    def __init__(self, values: dict[str, Any]) -> None:
        self.__dict__.update(values)

    def __getitem__(self, key: str) -> Any:
        return self.__dict__[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self.__dict__)

    def __len__(self) -> int:
        return len(self.__dict__)

    def __getattr__(self, name: str) -> Any:
        raise AttributeError(f"this record has no {name!r}; it has {', '.join(self)}")

    def __repr__(self) -> str:
        return f"StateRecord({self.__dict__!r})"


def _listing(
    records: Callable[[bool], Iterable[dict[str, Any]]],
) -> Callable[..., list[StateRecord]]:
    """Ray's signature for a function that gives all records, with `detail` or without."""

    @wraps(records)
    def listing(
        address: str | None = None,
        filters: Filters = None,
        limit: int = 100,
        timeout: float = 30,
        detail: bool = False,
        raise_on_missing_output: bool = True,
        explain: bool = False,
    ) -> list[StateRecord]:
        if limit < 1:
            raise ValueError(f"{records.__name__}: limit must be positive, not {limit}")
        checks = [_check(each) for each in filters or ()]
        found = (each for each in records(detail) if all(check(each) for check in checks))
        return [StateRecord(each) for each, _ in zip(found, range(limit), strict=False)]

    return listing


def _check(given: Any) -> Callable[[dict[str, Any]], bool]:
    try:
        key, relation, value = given
    except (TypeError, ValueError):
        raise ValueError(f"a filter is (key, '=' or '!=', value), not {given!r}") from None
    if relation not in ("=", "!="):
        raise ValueError(f"a filter compares by '=' or '!=', not {relation!r}")

    def holds(record: dict[str, Any]) -> bool:
        if key not in record:
            raise ValueError(f"no record has {key!r} to filter by; they have {', '.join(record)}")
        is_equal = str(record[key]).lower() == str(value).lower()
        return is_equal == (str(relation) == "=")

    return holds


@_listing
def list_tasks(detail: bool) -> Iterable[dict[str, Any]]:
    """The tasks that have not ended and the latest attempts that have, in the order of submission.

    task_id, name, func_or_class_name, type ("NORMAL_TASK", "ACTOR_TASK", "ACTOR_CREATION_TASK": the
    actor itself, which runs as long as it lives), actor_id, state, attempt_number, parent_task_id,
    job_id, node_id, worker_id, worker_pid, error_type; with `detail` also error_message,
    creation_time_ms, start_time_ms, end_time_ms, and of what waits `waiting` (arguments that are
    not there) and `waits_for` (the first of them: object_id, task_id and name of the task that will
    make it).
    ValueError for a bad filter.
    """
    engine = current.engine
    place = _place()
    workers = {each["pid"]: each["worker_id"] for each in engine.processes()}
    for task in engine.tasks():
        record = {
            "task_id": task["task_id"],
            "attempt_number": task["attempt_number"],
            "name": task["name"],
            "state": task["state"],
            **place,
            "type": task["type"],
            "actor_id": task["actor_id"],
            "func_or_class_name": task["name"],
            "parent_task_id": task["parent_task_id"],
            "worker_id": workers.get(task["worker_pid"]),
            "worker_pid": task["worker_pid"],
            "error_type": task["error_type"],
        }
        if detail:
            record["error_message"] = task["error"] or None
            record["creation_time_ms"] = _ms(task["submitted"])
            record["start_time_ms"] = _ms(task["started"])
            record["end_time_ms"] = _ms(task["ended"])
            record["waiting"] = task["waiting"]
            record["waits_for"] = task["waits_for"]
        yield record


@_listing
def list_objects(detail: bool) -> Iterable[dict[str, Any]]:
    """The objects of the store, the largest first: object_id, object_size in bytes, state, type,
    call_site (where recorded), held_by (a list of texts), contains (a number), job_id, node_id."""
    for each in current.engine.objects():
        yield {
            "object_id": each["id"],
            "object_size": each["size"],
            "state": each["state"],
            "type": each["type"],
            "call_site": each["site"],
            "held_by": each["held_by"],
            "contains": each["contains"],
            **_place(),
        }


@_listing
def list_workers(detail: bool) -> Iterable[dict[str, Any]]:
    """The processes of the session: worker_id, pid, worker_type ("DRIVER", "WORKER", "GUEST", the
    programs that joined, "KEEPER"), is_alive, node_id, ip."""
    for each in current.engine.processes():
        yield {**each, "is_alive": True, "ip": "127.0.0.1", "node_id": _place()["node_id"]}


@_listing
def list_nodes(detail: bool) -> Iterable[dict[str, Any]]:
    """The one machine: node_id, node_ip, node_name, is_head_node, state, resources_total,
    labels."""
    for node in current.engine.nodes():
        yield {
            "node_id": node["NodeID"],
            "node_ip": node["NodeManagerAddress"],
            "is_head_node": True,
            "state": "ALIVE",
            "node_name": node["NodeName"],
            "resources_total": node["Resources"],
            "labels": node["Labels"],
        }


@_listing
def list_jobs(detail: bool) -> Iterable[dict[str, Any]]:
    """The session, which is one job: job_id, type, status, driver_info."""
    job = _place()["job_id"]
    drivers = (each for each in current.engine.processes() if each["worker_type"] == "DRIVER")
    info = {"id": job, "pid": str(next(drivers)["pid"])}
    yield {"job_id": job, "type": "DRIVER", "status": "RUNNING", "driver_info": info}


@_listing
def list_actors(detail: bool) -> Iterable[dict[str, Any]]:
    """The actors that live, oldest first: actor_id, class_name, state ("ALIVE", "PENDING_CREATION",
    "RESTARTING"), name, ray_namespace, pid, job_id, node_id; with `detail` also num_restarts,
    is_detached and pending_calls."""
    for each in current.engine.actors():
        record = {
            "actor_id": each["actor_id"],
            "class_name": each["class_name"],
            "state": each["state"],
            "name": each["name"],
            "ray_namespace": each["namespace"],
            "pid": each["pid"],
            **_place(),
        }
        if detail:
            record["num_restarts"] = each["restarts"]
            record["is_detached"] = each["is_detached"]
            record["pending_calls"] = each["calls"]
        yield record


def get_task(id: Any, address: str | None = None, timeout: float = 30) -> Any:
    """The task with this id (hex, or a reference to its result); None if it is not known, a list if
    it had several attempts."""
    task_id = id if isinstance(id, str) else id.task_id().hex()
    found = list_tasks(filters=[("task_id", "=", task_id)], limit=_ALL, detail=True)
    return found if len(found) > 1 else next(iter(found), None)


def get_objects(id: str, address: str | None = None, timeout: float = 30) -> list[StateRecord]:
    """The object with this id (hex), as a list of one; an empty list if there is none."""
    return list_objects(filters=[("object_id", "=", id)], limit=_ALL)


def get_worker(id: str, address: str | None = None, timeout: float = 30) -> StateRecord | None:
    """The process with this worker_id, or None."""
    return next(iter(list_workers(filters=[("worker_id", "=", id)])), None)


def get_node(id: str, address: str | None = None, timeout: float = 30) -> StateRecord | None:
    """The node with this id, or None."""
    return next(iter(list_nodes(filters=[("node_id", "=", id)])), None)


def get_job(id: str, address: str | None = None, timeout: float = 30) -> StateRecord | None:
    """The job with this id, or None."""
    return next(iter(list_jobs(filters=[("job_id", "=", id)])), None)


def summarize_tasks(address: str | None = None, timeout: float = 30) -> dict[str, Any]:
    """How many tasks of each function are in each state."""
    summary: dict[str, Any] = {}
    tasks = current.engine.tasks()
    for task in tasks:
        about = {"func_or_class_name": task["name"], "type": task["type"], "state_counts": {}}
        counts = summary.setdefault(task["name"], about)["state_counts"]
        counts[task["state"]] = counts.get(task["state"], 0) + 1
    types = Counter(task["type"] for task in tasks)
    totals = {
        "total_tasks": types["NORMAL_TASK"],
        "total_actor_tasks": types["ACTOR_TASK"],
        "total_actor_scheduled": types["ACTOR_CREATION_TASK"],
    }
    return {"cluster": {"summary": summary, **totals, "summary_by": "func_name"}}


def summarize_objects(address: str | None = None, timeout: float = 30) -> dict[str, Any]:
    """How many objects each line of the program made, and of what size."""
    summary: dict[str, Any] = {}
    objects = list_objects(limit=_ALL)
    for each in objects:
        about = {"total_objects": 0, "total_size_mb": 0.0, "state_counts": Counter()}
        counts = summary.setdefault(each.call_site or "disabled", about)
        counts["total_objects"] += 1
        counts["total_size_mb"] += each.object_size / 1e6
        counts["state_counts"][each.state] += 1
    size = sum(each.object_size for each in objects) / 1e6
    totals = {"total_objects": len(objects), "total_size_mb": size}
    return {"cluster": {"summary": summary, **totals, "summary_by": "callsite"}}


def summarize_actors(address: str | None = None, timeout: float = 30) -> dict[str, Any]:
    """How many actors of each class are in each state."""
    summary: dict[str, Any] = {}
    actors = list_actors(limit=_ALL)
    for each in actors:
        about = {"class_name": each.class_name, "state_counts": {}}
        counts = summary.setdefault(each.class_name, about)["state_counts"]
        counts[each.state] = counts.get(each.state, 0) + 1
    return {"cluster": {"summary": summary, "total_actors": len(actors), "summary_by": "class"}}


def _place() -> dict[str, str]:
    context = current.engine.runtime_context()
    return {"job_id": context["job_id"].hex(), "node_id": context["node_id"].hex()}


def _ms(seconds: float | None) -> int | None:
    return None if seconds is None else int(seconds * 1000)
