"""Where a program finds itself: `get_runtime_context()`."""

from __future__ import annotations

from plasmid.engine import current
from plasmid.exceptions import UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, NoReturn

    from plasmid.ids import ActorID, JobID, NodeID, PlacementGroupID, TaskID
    from plasmid.runtime_env import RuntimeEnv

__all__ = ["RuntimeContext", "get_runtime_context"]

# What Ray calls the kinds of accelerators that it knows.
_ACCELERATORS = ["GPU", "TPU", "HPU", "NPU", "neuron_cores", "FURIOSA", "RBLN", "TTNPU", "MBLT"]


class RuntimeContext:
    """The session, and the task that the calling thread runs. Ids are hexadecimal strings.

    Asked anew at each call: one object serves all threads and sessions of a process. What is of a
    task is that of the calling thread; in threads that a task started, of the task that its worker
    runs. Where there is no task it is None, as in Ray, unless said otherwise. SessionError, a
    RuntimeError, without a session. Nothing blocks.
    """

    __slots__ = ()

    def get_job_id(self) -> str:
        """Of the session's programs, which are one job."""
        return str(_here("job_id").hex())

    def get_node_id(self) -> str:
        """Of this machine in the session."""
        return str(_here("node_id").hex())

    def get_worker_id(self) -> str:
        """Of this process in the session, a program or a worker."""
        return str(_here("worker_id").hex())

    def get_session_name(self) -> str:
        """A name that no other session has."""
        return str(_here("session_name"))

    def get_temp_dir(self) -> str:
        """Where this process may make temporary files. A session makes none."""
        import tempfile

        return tempfile.gettempdir()

    def get_node_labels(self) -> dict[str, str]:
        """The labels of this machine."""
        return dict(_here("labels"))

    def get_task_id(self) -> str | None:
        """Of the task: a retry has the same."""
        task_id = _task("task_id")
        return None if task_id is None else task_id.hex()

    def get_task_name(self) -> str | None:
        """What the option `name` says, else the function's name."""
        name: str | None = _task("task_name")
        return name

    def get_task_function_name(self) -> str | None:
        """Module and name of the task's function."""
        name: str | None = _task("function_name")
        return name

    def get_assigned_resources(self) -> dict[str, float]:
        """What the task was given: {"CPU": 1.0} by default. UsageError where there is no task."""
        resources = _task("resources")
        if resources is None:
            _refuse("get_assigned_resources", "a task")
        return dict(resources)

    def get_accelerator_ids(self) -> dict[str, list[str]]:
        """The accelerators that the task was given, by kind."""
        given = _here("accelerators")
        return {kind: list(given.get(kind, ())) for kind in _ACCELERATORS}

    def get_actor_id(self) -> str | None:
        """Of the actor whose method or constructor runs."""
        actor_id = _task("actor_id")
        return None if actor_id is None else actor_id.hex()

    def get_actor_name(self) -> str | None:
        """Of that actor; "" if it has none."""
        name: str | None = _task("actor_name")
        return name

    def get_placement_group_id(self) -> str | None:
        """Of the placement group that the task runs in."""
        group = _here("placement_group_id")
        return None if group.is_nil() else str(group.hex())

    def get_runtime_env_string(self) -> str:
        """The environment of the task or program, as JSON."""
        return self.runtime_env.serialize()

    @property
    def runtime_env(self) -> RuntimeEnv:
        """The environment that the task is in; in a program, that of its tasks."""
        from plasmid.runtime_env import RuntimeEnv

        return RuntimeEnv(_validate=False, **_here("runtime_env"))

    @property
    def namespace(self) -> str:
        """In which this program's actors have names."""
        return str(_here("namespace"))

    @property
    def gcs_address(self) -> str:
        """The session's address, by which other programs join it."""
        return str(_here("address"))

    @property
    def should_capture_child_tasks_in_placement_group(self) -> bool:
        """Whether tasks that this one submits run in its placement group."""
        return bool(_here("captures_child_tasks"))

    def is_canceled(self) -> bool:
        """Whether the task that calls it was cancelled; the exception for it may be on its way."""
        return bool(_here("is_canceled"))

    @property
    def was_current_actor_reconstructed(self) -> bool:
        """Whether this actor was started again after its process had died. UsageError where there
        is no actor."""
        restarted = _task("was_restarted")
        if restarted is None:
            _refuse("was_current_actor_reconstructed", "an actor")
        return bool(restarted)

    @property
    def current_actor(self) -> Any:
        """This actor's handle. UsageError where there is no actor."""
        found = _task("actor")
        if found is None:
            _refuse("current_actor", "an actor")
        from plasmid.actor import ActorHandle

        return ActorHandle._of(*found)

    # -- deprecated in Ray --

    def get(self) -> dict[str, Any]:
        """Deprecated: job_id, node_id, namespace, and in a task task_id, as id objects."""
        _deprecated("get()", "get_job_id() and the like")
        found = {name: _here(name) for name in ("job_id", "node_id", "namespace")}
        task_id = _task("task_id")
        return found if task_id is None else {**found, "task_id": task_id}

    @property
    def job_id(self) -> JobID:
        """Deprecated: as an id object."""
        _deprecated("job_id", "get_job_id()")
        found: JobID = _here("job_id")
        return found

    @property
    def node_id(self) -> NodeID:
        """Deprecated: as an id object."""
        _deprecated("node_id", "get_node_id()")
        found: NodeID = _here("node_id")
        return found

    @property
    def task_id(self) -> TaskID:
        """Deprecated: as an id object. UsageError where there is no task."""
        _deprecated("task_id", "get_task_id()")
        found: TaskID | None = _task("task_id")
        if found is None:
            _refuse("task_id", "a task")
        return found

    @property
    def actor_id(self) -> ActorID | None:
        """Deprecated. UsageError where there is no task."""
        _deprecated("actor_id", "get_actor_id()")
        if _task("task_id") is None:
            _refuse("actor_id", "a task")
        found: ActorID | None = _task("actor_id")
        return found

    @property
    def current_placement_group_id(self) -> PlacementGroupID:
        """Deprecated: as an id object."""
        _deprecated("current_placement_group_id", "get_placement_group_id()")
        found: PlacementGroupID = _here("placement_group_id")
        return found

    def get_resource_ids(self) -> dict[str, list[str]]:
        """Deprecated: get_accelerator_ids()."""
        _deprecated("get_resource_ids()", "get_accelerator_ids()")
        return self.get_accelerator_ids()


def get_runtime_context() -> RuntimeContext:
    """Where this code runs: ids of job, machine, process and task, what the task was given, and so
    on. Needs no session; most of what can be asked does."""
    return _context


_context = RuntimeContext()


def _here(name: str) -> Any:
    return current.engine.runtime_context()[name]


def _task(name: str) -> Any:
    return current.engine.runtime_context().get(name)


def _refuse(what: str, where: str) -> NoReturn:
    raise UsageError(f"get_runtime_context().{what}: this is not called in {where}")


def _deprecated(what: str, instead: str) -> None:
    import warnings

    from plasmid.util.annotations import RayDeprecationWarning

    warnings.warn(
        f"get_runtime_context().{what} is deprecated: use {instead}",
        RayDeprecationWarning,
        stacklevel=3,
    )
