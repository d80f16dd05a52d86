"""The engine interface: all that the API layer knows about what is beneath it.

    api, remote, session  ->  Engine  <-  engine.local (the C core), remote engines later

The API layer checks what the user passed; an engine gets arguments that are of the right type and
in range. Written without dataclasses and typing: importing either costs as much as everything else
in `import plasmid`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from concurrent.futures import Future
    from typing import Any, ClassVar, TypeAlias

    from plasmid._core.core import ObjectRef

    # Whatever an engine likes to give out for an exported function; the API layer only hands it
    # back.
    FunctionHandle: TypeAlias = Any
else:
    FunctionHandle = object

__all__ = [
    "ActorOptions",
    "CallOptions",
    "Engine",
    "FunctionHandle",
    "SessionConfig",
    "TaskOptions",
]


SEAL_SECONDS = 10.0
"""So long `put`, and the results of tasks, wait until no other process can write an array that is
being made in place."""


class _Record:
    """Named values, compared and shown by value. Threads share them: never changed."""

    __slots__: ClassVar[tuple[str, ...]] = ()

    def __eq__(self, other: object) -> bool:
        if type(self) is not type(other):
            return NotImplemented
        return all(getattr(self, name) == getattr(other, name) for name in self.__slots__)

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        values = ", ".join(f"{name}={getattr(self, name)!r}" for name in self.__slots__)
        return f"{type(self).__name__}({values})"


class SessionConfig(_Record):
    """What `init` was asked for, checked. None: the engine decides from what the machine has.

    num_cpus             whole number >= 0: how many CPUs tasks may use at once
    num_gpus             whole number >= 0 of GPUs
    memory               bytes that tasks may ask for, a number that is only counted
    resources            name -> amount of what else they may ask for
    address              of the session to join; "auto": any of this user's; "local": a new one;
                         None: as the environment says, else one that `plasmid start` started,
                         else a new one
    object_store_memory  bytes, >= MINIMUM_STORE; whether the machine has them the engine says
    namespace            for names of actors; None: an anonymous one of this session's own
    labels               shown in `nodes()`
    runtime_env          the environment of this program's tasks, as runtime_env.checked() gives it
    logging_level        as the logging module takes it: a number or a level's name
    log_to_driver        whether what tasks print appears in the driver
    spill_folder         where objects go that do not fit into memory; None: the engine decides
    """

    __slots__ = (
        "address",
        "labels",
        "log_to_driver",
        "logging_level",
        "memory",
        "namespace",
        "num_cpus",
        "num_gpus",
        "object_store_memory",
        "resources",
        "runtime_env",
        "spill_folder",
    )

    MINIMUM_STORE: ClassVar[int] = 1 << 20

    def __init__(
        self,
        *,
        address: str | None = None,
        num_cpus: int | None = None,
        num_gpus: int | None = None,
        memory: int | None = None,
        resources: dict[str, float] | None = None,
        object_store_memory: int | None = None,
        namespace: str | None = None,
        labels: dict[str, str] | None = None,
        runtime_env: dict[str, Any] | None = None,
        logging_level: int | str = "info",
        log_to_driver: bool = True,
        spill_folder: str | None = None,
    ) -> None:
        self.address = address
        self.num_cpus = num_cpus
        self.num_gpus = num_gpus
        self.memory = memory
        self.resources = resources or {}
        self.object_store_memory = object_store_memory
        self.namespace = namespace
        self.labels = labels or {}
        self.runtime_env = runtime_env or {}
        self.logging_level = logging_level
        self.log_to_driver = log_to_driver
        self.spill_folder = spill_folder


class TaskOptions(_Record):
    """How one task is to be run, checked.

    name              shown in errors and before what the task prints
    num_returns       how many refs `submit` gives, >= 0; "streaming": two, the gate of a stream
                      and one that is ready when the task has ended; "dynamic": one, to a
                      DynamicObjectRefGenerator
    backpressure      of a stream: the task pauses while so many items are not taken; 0: never
    num_cpus          >= 0, a multiple of 0.0001
    resources         name -> amount of what it needs beside CPU: "GPU", "memory" in bytes, ...
    strategy          None, "DEFAULT", "SPREAD" or an object of plasmid.strategies
    selectors         label selectors, one of which must fit; none: any node will do
    is_plain          it asks for CPU only, and goes where it may
    max_retries       after a worker's death: how many times more, -1 for ever
    retry_exceptions  whether raising is retried, too: always, never, or for these classes
    events            whether `tasks` and `timeline` tell what became of it
    runtime_env       the environment that it asks for, as JSON; "": none but its submitter's
    max_calls         its worker ends after so many calls of the function; 0: it does not
    """

    __slots__ = (
        "backpressure",
        "events",
        "is_plain",
        "max_calls",
        "max_retries",
        "name",
        "num_cpus",
        "num_returns",
        "resources",
        "retry_exceptions",
        "runtime_env",
        "selectors",
        "strategy",
    )

    def __init__(
        self,
        name: str,
        *,
        num_returns: int | str = 1,
        backpressure: int = 0,
        num_cpus: float = 1.0,
        resources: dict[str, float] | None = None,
        strategy: Any = None,
        selectors: tuple[dict[str, Any], ...] = (),
        max_retries: int = 3,
        retry_exceptions: bool | tuple[type[BaseException], ...] = False,
        events: bool = True,
        runtime_env: str = "",
        max_calls: int = 0,
    ) -> None:
        self.name = name
        self.num_returns = num_returns
        self.backpressure = backpressure
        self.num_cpus = num_cpus
        self.resources = resources or {}
        self.strategy = strategy
        self.selectors = selectors
        self.is_plain = not self.resources and strategy is None and not selectors
        self.max_retries = max_retries
        self.retry_exceptions = retry_exceptions
        self.events = events
        self.runtime_env = runtime_env
        self.max_calls = max_calls


class ActorOptions(_Record):
    """How an actor is to live, checked.

    task             what it needs and where: as of the task that makes it; name: of its class
    name, namespace  by which it can be found; "": it cannot; namespace "": the program's
    is_detached      it lives until it is killed, whoever refers to it
    max_restarts     after deaths of its process, -1 for ever
    most_calls       that may be pending; 0: any number
    is_unordered     calls run as their arguments come
    """

    __slots__ = (
        "is_detached",
        "is_unordered",
        "max_restarts",
        "most_calls",
        "name",
        "namespace",
        "task",
    )

    def __init__(
        self,
        task: TaskOptions,
        *,
        name: str = "",
        namespace: str = "",
        is_detached: bool = False,
        max_restarts: int = 0,
        most_calls: int = 0,
        is_unordered: bool = False,
    ) -> None:
        self.task = task
        self.name = name
        self.namespace = namespace
        self.is_detached = is_detached
        self.max_restarts = max_restarts
        self.most_calls = most_calls
        self.is_unordered = is_unordered


class CallOptions(_Record):
    """How a method of an actor is to be called, checked.

    name          shown in errors, as bytes
    extra         what the actor's process is to know: see engine.packing; is_plain: it is made of
                  strings and the like
    num_returns, backpressure, max_retries, events: as of tasks
    """

    __slots__ = (
        "backpressure",
        "events",
        "extra",
        "is_plain",
        "max_retries",
        "name",
        "num_returns",
    )

    def __init__(
        self,
        name: bytes,
        extra: Any,
        *,
        is_plain: bool = True,
        num_returns: int | str = 1,
        backpressure: int = 0,
        max_retries: int = 0,
        events: bool = True,
    ) -> None:
        self.name = name
        self.extra = extra
        self.is_plain = is_plain
        self.num_returns = num_returns
        self.backpressure = backpressure
        self.max_retries = max_retries
        self.events = events


class Engine(ABC):
    """One session, as one process of it sees it.

    Costs are those of the local engine. Every method may raise SessionError (the session has ended,
    this process is a fork of the one that joined), StoreLockedError and StoreCorruptError.

    After `shutdown` an engine holds no memory and no file descriptors, and each method raises
    SessionError.

    Processes and threads: any thread may call anything at any time. What may block is said below; a
    blocking call releases the GIL and can be interrupted by a signal's handler. The death of
    another process never blocks one.
    """

    # The class of refs. `type(x) is engine.ref_type` is how the API layer tells a ref: no
    # subclasses.
    ref_type: type[Any]

    @property
    @abstractmethod
    def is_program(self) -> bool:
        """Whether this process is a program, which `shutdown` takes out of the session: the driver,
        which ends it, or one that joined. A worker is none."""

    @property
    def is_over(self) -> bool:
        """Whether the session has ended without this process, so that it may begin another."""
        return False

    @abstractmethod
    def put(self, value: Any) -> ObjectRef:
        """Store `value`, which is no ref. One copy of its buffers, none of those that lie in the
        store already.

        Waits for the lock, and in a full store for room. ObjectStoreFullError; TypeError names the
        attribute path that cannot be pickled.
        """

    @abstractmethod
    def give_name(self, ref: ObjectRef, name: str, lifetime: float | str) -> None:
        """Keep the object under that name: "detached", for ever; "session", as long as the program
        that this process is is in the session; else for so many seconds > 0.

        ObjectExistsError if the name is taken.
        """

    @abstractmethod
    def get_named(self, name: str) -> ObjectRef:
        """The object of that name. ObjectLostError. Does not block."""

    @abstractmethod
    def delete_named(self, name: str) -> None:
        """Forget a name. ObjectLostError."""

    @abstractmethod
    def names(self) -> list[str]:
        """All names, sorted."""

    @abstractmethod
    def register_serializer(
        self,
        cls: type,
        serializer: Callable[[Any], Any],
        deserializer: Callable[[Any], Any],
    ) -> None:
        """Store values of exactly `cls` as deserializer(serializer(value)), in every process of the
        session, in tasks that begin from now on. TypeError if one of the three cannot be
        pickled."""

    @abstractmethod
    def deregister_serializer(self, cls: type) -> None:
        """Undo that; no effect if there is nothing to undo."""

    @abstractmethod
    def free(self, refs: list[ObjectRef]) -> None:
        """Give up the objects' bytes, whoever has references: `get` raises ObjectFreedError. What
        is pending is freed as it comes; what is freed stays so."""

    @abstractmethod
    def is_failed(self, ref: ObjectRef) -> bool:
        """Whether what is there is an error. Does not block."""

    @abstractmethod
    def is_awaited(self) -> bool:
        """Whether anybody has a reference to a result of the task, or call, that this is asked in.
        Does not block."""

    @abstractmethod
    def get_one(self, ref: ObjectRef, timeout: float | None, writable: bool = False) -> Any:
        """The value of `ref`: `get([ref], timeout)[0]`, faster. Arrays are views of the store;
        `writable`: private copy-on-write views.

        `ref` is of `ref_type`; it may be another session's (ObjectLostError). `timeout`: seconds >=
        0, None: for ever. Blocks until the object is there. GetTimeoutError, ObjectLostError,
        ObjectCorruptedError, or what the task raised: a RayTaskError `as_instanceof_cause()`,
        WorkerCrashedError, ...
        """

    @abstractmethod
    def get(
        self, refs: list[ObjectRef], timeout: float | None, writable: bool = False
    ) -> list[Any]:
        """The values of `refs`, which may repeat, in their order, after one wait for all.

        Raises the error of the first in the list that failed; otherwise as `get_one`.
        """

    @abstractmethod
    def get_buffer(self, ref: ObjectRef, timeout: float | None) -> memoryview:
        """The stored bytes of the value itself, read-only. Blocks and raises as `get_one`, but does
        not raise an exception that is the value."""

    @abstractmethod
    def explain(self, ref: ObjectRef, timeout: float | None) -> Any:
        """How the object is stored; see `plasmid.explain`."""

    @abstractmethod
    def empty(self, shape: Any, dtype: Any, order: str) -> Any:
        """A writable numpy array in the store, which `put` and `seal` do not copy."""

    @abstractmethod
    def create(self, nbytes: int) -> memoryview:
        """The same for bytes."""

    @abstractmethod
    def seal(self, value: Any, timeout: float | None) -> ObjectRef:
        """Make what `empty` or `create` returned, or a view of it, immutable: its reference.

        Waits until no other process can write it: SealTimeoutError. ValueError for other values.
        """

    @abstractmethod
    def wait(
        self, refs: list[ObjectRef], num_returns: int, timeout: float | None
    ) -> tuple[list[ObjectRef], list[ObjectRef]]:
        """Block until `num_returns` of `refs` are there or failed, or the time is up.

        1 <= num_returns <= len(refs). Returns (ready, others), both in the order of `refs`: at most
        `num_returns` ready ones, fewer if the time is up. Reads no values. TypeError if an item is
        no ref, ValueError if two are equal.
        """

    @abstractmethod
    def export(self, function: Callable[..., Any], name: str, key: bytes) -> FunctionHandle:
        """Make `function` known to the session's workers.

        `key` (16 bytes) names this function object, here and in every process it was sent to: for a
        key that it has exported before, an engine answers without pickling. The same bytes under
        another key are stored once. Milliseconds the first time. TypeError if it cannot be pickled;
        ObjectStoreFullError.
        """

    @abstractmethod
    def submit(
        self,
        handle: FunctionHandle,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        options: TaskOptions,
    ) -> list[ObjectRef]:
        """Queue a call; the refs of its results, as `options.num_returns` says.

        `args` and `kwargs` fit the function. Refs directly among them arrive as their values, those
        inside other values as refs. At the bound of pending tasks a driver waits; a worker gets
        PendingCallsLimitExceeded. TypeError as in `put`; ObjectStoreFullError;
        TaskUnschedulableError if it can never run here.
        """

    @abstractmethod
    def create_actor(
        self,
        handle: FunctionHandle,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        options: ActorOptions,
        card: dict[str, Any],
    ) -> ObjectRef:
        """Have an actor made of the class that was exported; its mailbox, a reference that stands
        for it: it lives while there is one, or calls are left.

        `card`: what its process and `find_actor` are to know of it. ActorAlreadyExistsError;
        otherwise as `submit`.
        """

    @abstractmethod
    def call(
        self,
        mailbox: ObjectRef,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        options: CallOptions,
    ) -> list[ObjectRef]:
        """Call a method: the refs of its results. Calls of one process run in their order. As
        `submit`; PendingCallsLimitExceeded."""

    @abstractmethod
    def find_actor(self, name: str, namespace: str) -> tuple[ObjectRef, dict[str, Any]] | None:
        """Mailbox and card of the actor of that name, if it lives."""

    @abstractmethod
    def actors(self) -> list[dict[str, Any]]:
        """The actors that live; see engine.roster.actors."""

    @abstractmethod
    def actor_id(self, mailbox: ObjectRef) -> Any:
        """The ActorID of an actor, dead or alive."""

    @abstractmethod
    def kill_actor(self, mailbox: ObjectRef, no_restart: bool) -> None:
        """End an actor at once, its calls with it; or have it started again, if it may be. Waits
        only for the lock."""

    @abstractmethod
    def cancel(self, ref: ObjectRef, force: bool, recursive: bool) -> None:
        """Cancel the task that is to produce `ref`; see `plasmid.cancel`. Waits only for the lock,
        not for a running task to end."""

    @abstractmethod
    def is_resolved_argument(self, value: Any) -> bool:
        """Whether `value` is the very object that a ref among the task's arguments arrived as."""

    @abstractmethod
    def cluster_resources(self) -> dict[str, float]:
        """What the session has: "CPU", "object_store_memory" and "memory" (bytes), ..."""

    @abstractmethod
    def available_resources(self) -> dict[str, float]:
        """What of it no running task holds. Of resources used up there is no key, as in Ray."""

    @abstractmethod
    def nodes(self) -> list[dict[str, Any]]:
        """One dict a machine, with Ray's keys: "NodeID", "Alive", "Resources", "Labels", ..."""

    @abstractmethod
    def gpu_ids(self) -> list[int] | list[str]:
        """The GPUs that the calling task holds: names of CUDA_VISIBLE_DEVICES, or numbers."""

    @property
    @abstractmethod
    def session_mark(self) -> bytes:
        """At least ten bytes that no other session has."""

    @abstractmethod
    def create_group(
        self,
        bundles: list[dict[str, float]],
        *,
        strategy: int,
        name: str,
        detached: bool,
        selectors: list[dict[str, str]],
    ) -> int:
        """Have a placement group reserved; its number. `strategy`: index of `groups.STRATEGIES`.
        ValueError if the name is taken, TableFullError."""

    @abstractmethod
    def remove_group(self, serial: int) -> None:
        """Give it back, and end what runs in it. No harm if it is gone."""

    @abstractmethod
    def groups(self) -> list[Any]:
        """Each with serial, state ("pending", "ready", "removed"), how (strategy), name."""

    @abstractmethod
    def group_bundles(self, serial: int) -> list[dict[str, float]]:
        """What each bundle of it has. TaskPlacementGroupRemoved."""

    @abstractmethod
    def current_group(self) -> int:
        """The number of the group that the calling task runs in; 0 for none."""

    @abstractmethod
    def locate(self, refs: list[ObjectRef]) -> dict[ObjectRef, dict[str, Any]]:
        """Of each ref: "node_ids" (empty while it is not there), "object_size" in bytes (None
        then), "did_spill"."""

    @abstractmethod
    def memory_summary(self, limit: int) -> str:
        """What is in the store and who keeps it there, as text for people; at most `limit` objects,
        the largest."""

    @abstractmethod
    def objects(self) -> list[dict[str, Any]]:
        """The objects of the store, the largest first; see engine.memory.survey."""

    @abstractmethod
    def processes(self) -> list[dict[str, Any]]:
        """The processes of the session: "worker_id" (hex), "pid", "worker_type"."""

    @abstractmethod
    def tasks(self) -> list[dict[str, Any]]:
        """The tasks that have not ended and the latest that have; see engine.history.tasks."""

    @abstractmethod
    def timeline(self) -> list[dict[str, Any]]:
        """The same as events in Chrome's trace format."""

    @abstractmethod
    def address_info(self) -> dict[str, Any]:
        """Where the session is, by those of Ray's keys that mean something: "node_id", ..."""

    @abstractmethod
    def runtime_context(self) -> dict[str, Any]:
        """What runs here: "job_id", "node_id", "worker_id" (as in plasmid.ids), "session_name",
        "address", "namespace", "labels", "runtime_env", "accelerators" (kind: ids),
        "placement_group_id", "captures_child_tasks", "is_canceled"; in a task, and in threads that
        it started, also "task_id", "task_name", "function_name" and "resources", what it was
        given; in an actor also "actor_id", "actor_name", "actor" (its mailbox and its card) and
        "was_restarted"."""

    @abstractmethod
    def future(self, ref: ObjectRef) -> Future[Any]:
        """A future that gets the value of `ref`, or its error. Does not block."""

    @abstractmethod
    def next_item(
        self, gate: ObjectRef, completed: ObjectRef, timeout: float | None
    ) -> ObjectRef | None:
        """The oldest ref of a stream that was not taken yet, which is ready; None if there is none
        when the time is up. If the task has failed, `completed` once, in its place.

        Each ref is given to one caller. Blocks until there is one.
        ObjectRefStreamEndOfStreamError: there are no more.
        """

    @abstractmethod
    def look_at_stream(self, gate: ObjectRef) -> tuple[int, bool]:
        """(how many refs `next_item` has at this moment, whether there will be no more)."""

    @abstractmethod
    def item_future(self, gate: ObjectRef) -> Future[None]:
        """A future that completes when `next_item` need not wait. Does not block."""

    @abstractmethod
    def forget_future(self, gate: ObjectRef, future: Future[None]) -> None:
        """Nobody waits for this `item_future` any more: it does not keep the stream alive."""

    @abstractmethod
    def shutdown(self) -> None:
        """Leave the session, and end it if this process started it. Once; then nothing.

        The driver blocks until its processes are gone and what they printed is shown.
        """
