"""The engine of one machine: the API's calls, done on the arena.

api ─► LocalEngine ─► _core (arena)          put, get, wait, submit
          │
          ├─ packing    arguments and results <-> stored bytes
          ├─ pressure   a full store
          ├─ lineage    lost objects are made again
          ├─ running    the task that this thread runs, if it is a worker's
          └─ futures    concurrent.futures over references
"""

from __future__ import annotations

import os
import pickle
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from functools import cached_property
from typing import TYPE_CHECKING, Any, NoReturn
from weakref import WeakValueDictionary

from plasmid import ids, serialize
from plasmid._core import core
from plasmid.engine import (
    capsules,
    history,
    inplace,
    lineage,
    memory,
    oversized,
    packing,
    pressure,
    roster,
    sites,
)
from plasmid.engine.actors import Actors, on_behalf
from plasmid.engine.base import (
    SEAL_SECONDS,
    ActorOptions,
    CallOptions,
    Engine,
    SessionConfig,
    TaskOptions,
)
from plasmid.engine.environments import Environments
from plasmid.engine.futures import Futures
from plasmid.engine.placing import Placing, amount
from plasmid.engine.running import (
    RunningTask,
    can_run_inside,
    current_task,
    die,
    holder,
    is_stack_low,
    process,
    running,
    shielded,
)
from plasmid.engine.serializers import Serializers
from plasmid.exceptions import (
    ActorUnavailableError,
    GetTimeoutError,
    ObjectStoreFullError,
    RayTaskError,
    SessionError,
)
from plasmid.runtime import aliases, names, surroundings
from plasmid.runtime.environment import ThreadLimit, devices
from plasmid.runtime.imports import import_path
from plasmid.runtime.limits import most_workers
from plasmid.serialize import custom

if TYPE_CHECKING:
    from plasmid.runtime.guest import Guest
    from plasmid.runtime.session import Session

CROWDED_SECONDS = 0.1
"""How long a task that could run another on its stack leaves it to a new worker."""

INLINE_DEPTH = 32
"""So many tasks may run inside each other on one worker's stack before more workers are
preferred."""

serialize.register_ref_type(core.ObjectRef)

_WORKER_TYPES = {
    core.DRIVER: "DRIVER",
    core.KEEPER: "KEEPER",
    core.WORKER: "WORKER",
    core.GUEST: "GUEST",
}


class Exported:
    """A function that the session knows: it does as long as somebody here has this, or its session
    ends."""

    __slots__ = ("__weakref__", "name", "ref")

    def __init__(self, ref: core.ObjectRef, name: bytes) -> None:
        self.ref: core.ObjectRef | None = ref
        self.name = name


class _Ended:
    """What an engine has for an arena once it has shut its session down, or left it: every use
    raises."""

    def __init__(self, is_guest: bool) -> None:
        self._why = core.LEFT if is_guest else core.SHUT_DOWN

    def __getattr__(self, name: str) -> NoReturn:
        raise SessionError(self._why)


def _is_in_event_loop() -> bool:
    asyncio = sys.modules.get("asyncio")
    return asyncio is not None and asyncio._get_running_loop() is not None


def start(config: SessionConfig) -> LocalEngine:
    """A new session, with this process as its driver; or this process's part in another."""
    guest = _join(
        config.address or os.environ.get("PLASMID_ADDRESS") or os.environ.get("RAY_ADDRESS")
    )
    if guest is not None:
        return _begin(guest, config, is_guest=True)
    from plasmid.runtime.session import Session

    session = Session(
        num_cpus=config.num_cpus,
        num_gpus=config.num_gpus,
        memory=config.memory,
        custom=config.resources,
        object_store_memory=config.object_store_memory,
        log_to_driver=config.log_to_driver,
        namespace=config.namespace,
        labels=config.labels,
        spill_folder=config.spill_folder,
    )
    return _begin(session, config)


def _begin(
    session: Session | Guest, config: SessionConfig, *, is_guest: bool = False
) -> LocalEngine:
    try:
        return LocalEngine(session.arena, session, config, is_guest=is_guest)
    except BaseException:  # its environment is larger than the store, for example
        session.close()
        raise


def _join(address: str | None) -> Guest | None:
    """The session that is asked for by address, or one that runs for all programs; None: a new
    one."""
    if address == "local":
        return None
    from plasmid.runtime import guest

    if address:
        found = guest.join(address)
        found.check_python()
        return found
    try:
        started = guest.join_started()
        if started is not None:
            started.check_python()
    except (SessionError, OSError):  # not asked for, so no reason to fail
        return None
    return started


def _left(deadline: float | None) -> float | None:
    """Seconds until then, None for ever."""
    return None if deadline is None else max(0.0, deadline - time.monotonic())


class LocalEngine(Engine):
    """This process's part in a session of one machine.

    Processes and threads: one per process. Any thread may call anything. In a worker,
    `running.task` tells which task the calling thread runs.
    """

    ref_type = core.ObjectRef

    def __init__(
        self,
        arena: core.Arena,
        session: Session | Guest | None = None,
        config: SessionConfig | None = None,
        *,
        is_guest: bool = False,
    ) -> None:
        self._arena = arena
        self._session = session
        self._config = config or SessionConfig()
        # Before anything knows this engine: there may be no room for the job's.
        self.environments = Environments(arena, self._config.runtime_env)
        self._handles: WeakValueDictionary[bytes, Exported] = WeakValueDictionary()
        self._import_path = set(session.import_path if session else import_path())
        self._aliases = set(session.aliases if session else aliases.names())
        self._futures = Futures(arena, arena.read, self._await)
        self._is_guest = is_guest
        self._placing = Placing(arena)
        self._actors = Actors(arena, self._placing)
        arena.hooks = self
        core.set_current(arena)
        serialize.use_store(arena)
        self.serializers = Serializers(arena)

    # ---- what the core calls

    load = staticmethod(serialize.load)
    capsules = capsules

    def failed(self, error: Any) -> NoReturn:
        """Raise a stored exception."""
        if isinstance(error, RayTaskError):
            raise error.as_instanceof_cause()
        if isinstance(error, ActorUnavailableError) and error.actor_id is None:
            error.name_actor(ids.of_actor(self._arena.session, error.number).hex())
        if isinstance(error, BaseException):
            raise error
        raise SessionError(f"a result is marked as an exception, but is {error!r}")

    def patience(self, nbytes: int) -> float:
        """Seconds to wait for room in the store."""
        return pressure.patience(self._arena, nbytes)

    def full(self, nbytes: int, waited: float) -> ObjectStoreFullError:
        """The error when there has been none."""
        return pressure.full(self._arena, nbytes, waited)

    def remake(self, ref: core.ObjectRef) -> core.ObjectRef:
        """A lost object, made again by its task."""
        made = lineage.run_again(self._arena, ref)
        self._await_all([made], None)
        return lineage.made_again(self._arena, ref, made)

    def spilling(self) -> None:
        """Objects go to the disk, for the first time in the session."""
        pressure.tell_of_spilling(self._arena)

    # ---- objects

    def put(self, value: Any) -> core.ObjectRef:
        arena = self._arena
        ref = None if sites.ENABLED else arena.put_small(value)
        if ref is None and arena.in_place():
            lease = inplace.lease_of(value)
            if lease is not None:
                ref = packing.seal(arena, lease, value, SEAL_SECONDS)
        return packing.put(arena, value) if ref is None else ref

    def give_name(self, ref: core.ObjectRef, name: str, lifetime: float | str) -> None:
        seconds = None if isinstance(lifetime, str) else lifetime
        mine = lifetime == "session" and self._is_guest
        names.give(self._arena, ref, name, seconds, goes_with_me=mine)

    def get_named(self, name: str) -> core.ObjectRef:
        return names.find(self._arena, name)

    def delete_named(self, name: str) -> None:
        names.delete(self._arena, name)

    def names(self) -> list[str]:
        return names.live(self._arena)

    def register_serializer(
        self,
        cls: type,
        serializer: Callable[[Any], Any],
        deserializer: Callable[[Any], Any],
    ) -> None:
        self.serializers.change(lambda: custom.register(cls, serializer, deserializer))

    def deregister_serializer(self, cls: type) -> None:
        self.serializers.change(lambda: custom.deregister(cls))

    def free(self, refs: list[core.ObjectRef]) -> None:
        for ref in refs:
            self._arena.free(ref)

    def is_failed(self, ref: core.ObjectRef) -> bool:
        return self._arena.is_failed(ref)

    def is_awaited(self) -> bool:
        task = current_task()
        return task is not None and task.core.is_awaited

    def get_one(self, ref: core.ObjectRef, timeout: float | None, writable: bool = False) -> Any:
        value = self._arena.read(ref, writable)
        if value is core.UNSEALED:
            self._await_all([ref], timeout)
            value = self._arena.read(ref, writable)
        return value

    def get(
        self, refs: list[core.ObjectRef], timeout: float | None, writable: bool = False
    ) -> list[Any]:
        self._await_all(refs, timeout)
        read = self._arena.read
        return [read(ref, writable) for ref in refs]

    def get_buffer(self, ref: core.ObjectRef, timeout: float | None) -> memoryview:
        self._await_all([ref], timeout)
        small = self._arena.small_bytes(ref)
        if small is not None:
            return memoryview(small)
        start, nbytes = serialize.body(self._stored(ref))
        return self._arena.open(ref, start, nbytes)

    def explain(self, ref: core.ObjectRef, timeout: float | None) -> serialize.Explanation:
        self._await_all([ref], timeout)
        small = self._arena.small_bytes(ref)
        if small is not None:
            return serialize.explain_small(self._arena.read(ref), len(small))
        return serialize.describe(self._stored(ref), self._arena.contained(ref))

    def _stored(self, ref: core.ObjectRef) -> memoryview:
        return self._arena.open(ref, 0, self._arena.size_of(ref) or 0)

    def empty(self, shape: Any, dtype: Any, order: str) -> Any:
        return inplace.empty(self._arena, shape, dtype, order)

    def create(self, nbytes: int) -> memoryview:
        return inplace.create(self._arena, nbytes)

    def seal(self, value: Any, timeout: float | None) -> core.ObjectRef:
        lease = inplace.lease_of(value)
        if lease is None:
            raise ValueError(
                "seal: this is no array of empty() or create() that is still being written; put() "
                "stores any value"
            )
        return packing.seal(self._arena, lease, value, timeout)

    def wait(
        self, refs: list[core.ObjectRef], num_returns: int, timeout: float | None
    ) -> tuple[list[core.ObjectRef], list[core.ObjectRef]]:
        arena = self._arena
        ready, others = arena.partition(refs, num_returns)
        # A task that only looks lends its CPU all the same: what it looks for may need it.
        if len(ready) < num_returns and (timeout != 0 or process.task):
            self._await(refs, num_returns, timeout)
            ready, others = arena.partition(refs, num_returns, checked=True)
        return ready, others

    def future(self, ref: core.ObjectRef) -> Future[Any]:
        return self._futures.future(ref)

    def next_item(
        self, gate: core.ObjectRef, completed: core.ObjectRef, timeout: float | None
    ) -> core.ObjectRef | None:
        deadline = None if timeout is None else time.monotonic() + timeout
        while True:
            ref = self._arena.next_item(gate, completed)
            if ref is not None:
                return ref
            left = None if deadline is None else max(0.0, deadline - time.monotonic())
            if not self._await([gate], 1, left):
                return None

    def look_at_stream(self, gate: core.ObjectRef) -> tuple[int, bool]:
        return self._arena.look_at_stream(gate)

    def item_future(self, gate: core.ObjectRef) -> Future[None]:
        return self._futures.event(gate)

    def forget_future(self, gate: core.ObjectRef, future: Future[None]) -> None:
        self._futures.forget(gate, future)

    def _await_all(self, refs: list[core.ObjectRef], timeout: float | None) -> None:
        pending = self._arena.pending(refs)
        if pending and not self._await(pending, len(pending), timeout):
            missing = self._arena.pending(pending) or pending
            raise GetTimeoutError(
                f"get: {len(missing)} of {len(refs)} objects not ready after {timeout} s, "
                f"the first of them {missing[0]!r}"
            )

    def _await(self, refs: list[core.ObjectRef], need: int, timeout: float | None) -> bool:
        """Sleep until `need` of refs, no two equal, have values; False when the time is up."""
        task = running.task
        lender = task or process.task
        if lender is None:
            return bool(self._arena.wait(refs, need, timeout))
        if self._arena.count_ready(refs) >= need:
            return True
        # A cancel interrupts the sleep, and not the work around it.
        exposed = task if task is not None and task.shield() else None
        lender.lend()
        try:
            if task is not None and not process.hosts:
                return self._help(task, exposed, refs, need, timeout)
            core.hurry(self._arena, self._pending(refs))
            return bool(self._sleep(exposed, refs, need, timeout))
        finally:
            lender.take_back()
            if exposed is not None:
                exposed.expose()

    def _sleep(
        self,
        exposed: RunningTask | None,
        refs: list[core.ObjectRef],
        need: int,
        timeout: float | None,
        working: bool = False,
    ) -> bool | None:
        """arena.wait(), with a task that a cancel may interrupt here."""
        if exposed is None:
            return self._arena.wait(refs, need, timeout, working)
        deadline = None if timeout is None else time.monotonic() + timeout
        while True:
            exposed.expose()
            try:
                found = self._arena.wait(refs, need, _left(deadline), working, in_task=True)
            finally:
                exposed.shield()
            if found is not None or working:
                return found

    def _help(
        self,
        task: RunningTask,
        exposed: RunningTask | None,
        refs: list[core.ObjectRef],
        need: int,
        timeout: float | None,
    ) -> bool:
        """Wait inside a task: run queued tasks that are waited for on this stack.

        When all of refs are needed they are run at once, so nesting needs neither further workers
        nor the keeper. When only some are, or this stack is high already, other workers come first:
        only when there can be no more of them is a task run here, which may be one that was not the
        first to finish. A task that yields is run here only then, too: until it ends nobody takes
        what it yields.

        So it is with a timeout, too, since a task that is run here may outlast it: only if all
        workers there may be are at tasks, and CPU is left. Else all of them might wait for tasks
        that nobody takes.
        """
        deadline = None if timeout is None else time.monotonic() + timeout
        able = can_run_inside()
        eager = able and timeout is None and need == len(refs)
        eager = eager and task.depth < INLINE_DEPTH and is_stack_low()
        if not eager or self._arena.is_mixed:  # not all of them may be for this process to run
            core.hurry(self._arena, self._pending(refs))
        told = False
        while True:
            ran = eager and self._run_awaited(task, refs, need, deadline, streams=False)
            if told and not ran:
                # A task that we wait for is queued, and all workers are busy. If it is not for us
                # to run, the keeper has been told, and we look again soon whether it could help.
                left = _left(deadline)
                soon = CROWDED_SECONDS if left is None else min(left, CROWDED_SECONDS)
                found = self._sleep(exposed, refs, need, soon, working=eager)
                if found:
                    return True
                if found is None:
                    continue
            if not ran and (told or not eager) and able and self._is_crowded(timeout):
                self._run_awaited(task, refs, need, deadline, streams=True)
            found = self._sleep(exposed, refs, need, _left(deadline), working=True)
            if found:
                return True
            told = found is None
            if deadline is not None and time.monotonic() >= deadline:
                return False

    def _run_awaited(
        self,
        task: RunningTask,
        refs: list[core.ObjectRef],
        need: int,
        deadline: float | None,
        *,
        streams: bool,
    ) -> bool:
        """Run queued tasks that refs need until `need` are there, none is queued or the time is up.
        Whether any was."""
        ran = False
        try:
            while self._arena.count_ready(refs) < need:
                inner = core.take_awaited(self._arena, self._pending(refs), streams)
                if inner is None:
                    break
                task.run_inside(inner)
                ran = True
                if deadline is not None and time.monotonic() >= deadline:
                    break
        except BaseException:
            # Raised by a signal's handler. If that was between taking a task and running it, only
            # the end of this process lets others know that it has to be run again.
            if not task.core.is_innermost:
                die()
            raise
        return ran

    def _pending(self, refs: list[core.ObjectRef]) -> list[core.ObjectRef]:
        return self._arena.pending(refs)

    def _is_crowded(self, timeout: float | None) -> bool:
        """Whether the session has as many workers as it may have; with a timeout, whether nothing
        but a worker is missing, too."""
        if timeout is not None and not self._arena.is_short_of_workers:
            return False
        return self._arena.stats()["workers"] >= most_workers(self._arena.cpu_total)

    # ---- tasks

    def enter(self, ref: core.ObjectRef, threads: ThreadLimit) -> None:
        """This process, a worker, enters an environment for good; what it submits is in it, too.
        RuntimeEnvSetupError."""
        fields = self.environments.read(ref)
        self._import_path.update(surroundings.enter(fields, threads))
        self.environments.adopt(ref, fields)

    def export(self, function: Callable[..., Any], name: str, key: bytes) -> Exported:
        handle = self._handles.get(key)
        if handle is None:
            with shielded():
                stored = self._packed(function)
                module = getattr(function, "__module__", None)
                oversized.look_at(len(stored[0]), module, name)
                content = repr(stored[1]).encode() + stored[0]  # the same bytes are stored once
                ref = packing.publish(self._arena, content, stored)
            handle = Exported(ref, name.encode(errors="replace"))
            self._handles[key] = handle
        return handle

    def _packed(
        self, function: Callable[..., Any]
    ) -> tuple[bytes, tuple[tuple[str, ...], tuple[str, ...]], Sequence[core.ObjectRef]]:
        """The function, where to look for its modules and what else they are called, and what its
        closure refers to: that lives as long as the stored function does."""
        more_path = tuple(entry for entry in import_path() if entry not in self._import_path)
        more_names = tuple(name for name in aliases.names() if name not in self._aliases)
        refs = serialize.plan(function).refs
        return serialize.dumps_function(function), (more_path, more_names), refs

    def submit(
        self,
        handle: Exported,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        options: TaskOptions,
    ) -> list[core.ObjectRef]:
        placed = self._placing.place(options)
        extra = None
        returns, calls = options.num_returns, options.max_calls
        is_dynamic = returns == "dynamic"
        plain = not (options.retry_exceptions or placed.captures or is_dynamic or calls)
        if not plain or placed.cpu != core.UNITS:
            extra = (
                options.retry_exceptions,
                options.num_cpus,
                placed.captures,
                is_dynamic,
                calls,
            )
        arena, function = (
            self._arena,
            handle.ref,
        )  # in this order: shutdown() takes them in the other
        if function is None:
            raise SessionError(core.LEFT if self._is_guest else core.SHUT_DOWN)
        environment = self._environment_of(options)
        packed = packing.pack_arguments(arena, args, kwargs, extra)
        return core.submit(
            arena,
            function,
            options.name.encode(errors="replace"),
            packed.payload,
            packed.stored,
            packed.refs,
            packed.waits,
            returns if isinstance(returns, int) else 1,
            placed.cpu,
            options.max_retries,
            placed.more,
            placed.group,
            placed.bundle,
            options.backpressure if returns == "streaming" else -1,
            not options.events,
            environment,
            calls > 0,
            on_behalf(),
        )

    def _environment_of(self, options: TaskOptions) -> core.ObjectRef | None:
        asked = options.runtime_env
        return self.environments.of(asked) if asked else self.environments.own

    def create_actor(
        self,
        handle: Exported,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        options: ActorOptions,
        card: dict[str, Any],
    ) -> core.ObjectRef:
        actors, function = self._actors, handle.ref
        if function is None:
            raise SessionError(core.LEFT if self._is_guest else core.SHUT_DOWN)
        if not options.namespace:
            options.namespace = self._namespace
        card = {
            **card,
            "name": options.name,
            "namespace": options.namespace,
            "is_detached": options.is_detached,
        }
        environment = self._environment_of(options.task)
        return actors.create(function, args, kwargs, options, card, environment)

    def call(
        self,
        mailbox: core.ObjectRef,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        options: CallOptions,
    ) -> list[core.ObjectRef]:
        return self._actors.call(mailbox, args, kwargs, options)

    def find_actor(self, name: str, namespace: str) -> tuple[core.ObjectRef, dict[str, Any]] | None:
        return self._actors.find(name, namespace or self._namespace)

    def actors(self) -> list[dict[str, Any]]:
        return roster.actors(self._arena)

    def actor_id(self, mailbox: core.ObjectRef) -> ids.ActorID:
        return ids.of_actor(self._arena.session, mailbox.producer)

    def kill_actor(self, mailbox: core.ObjectRef, no_restart: bool) -> None:
        self._actors.kill(mailbox, no_restart)

    def cancel(self, ref: core.ObjectRef, force: bool, recursive: bool) -> None:
        core.cancel(self._arena, ref, force, recursive)

    def is_resolved_argument(self, value: Any) -> bool:
        task = current_task()
        return task is not None and any(value is argument for argument in task.resolved)

    # ---- the session

    def cluster_resources(self) -> dict[str, float]:
        have = {name: amount(name, total) for name, (total, _) in self._arena.resources().items()}
        have = {name: total for name, total in have.items() if total or name == "CPU"}
        return {**have, "object_store_memory": float(self._arena.heap_bytes)}

    def available_resources(self) -> dict[str, float]:
        have = {name: amount(name, free) for name, (_, free) in self._arena.resources().items()}
        have["object_store_memory"] = float(self._arena.stats()["heap_free"])
        return {name: free for name, free in have.items() if free > 0}

    def gpu_ids(self) -> list[int] | list[str]:
        task = holder()
        return devices.ids(task.core.devices) if task is not None else []

    @property
    def session_mark(self) -> bytes:
        return bytes(self._arena.session)

    def create_group(
        self,
        bundles: list[dict[str, float]],
        *,
        strategy: int,
        name: str,
        detached: bool,
        selectors: list[dict[str, str]],
    ) -> int:
        mine = self._is_guest and not detached
        return self._placing.create_group(bundles, strategy, name, selectors, mine)

    def remove_group(self, serial: int) -> None:
        core.remove_group(self._arena, serial)

    def groups(self) -> list[core.Group]:
        return core.groups(self._arena)

    def group_bundles(self, serial: int) -> list[dict[str, float]]:
        return self._placing.bundles(serial)

    def current_group(self) -> int:
        task = holder()
        return task.core.group if task is not None else 0

    def nodes(self) -> list[dict[str, Any]]:
        import socket

        return [
            {
                "NodeID": self._node_id,
                "Alive": True,
                "NodeManagerAddress": "127.0.0.1",
                "NodeManagerHostname": socket.gethostname(),
                "NodeName": "127.0.0.1",
                "NodeManagerPort": 0,
                "ObjectManagerPort": 0,
                "ObjectStoreSocketName": "",
                "RayletSocketName": "",
                "MetricsExportPort": 0,
                "RuntimeEnvAgentPort": 0,
                "DeathReason": 0,
                "DeathReasonMessage": "",
                "alive": True,
                "Resources": self.cluster_resources(),
                "Labels": self._placing.labels,
            }
        ]

    def locate(self, refs: list[core.ObjectRef]) -> dict[core.ObjectRef, dict[str, Any]]:
        sizes = {ref: self._arena.size_of(ref) for ref in refs}
        return {
            ref: {
                "node_ids": [] if size is None else [self._node_id],
                "object_size": size,
                "did_spill": False,
            }
            for ref, size in sizes.items()
        }

    def memory_summary(self, limit: int) -> str:
        return memory.as_text(memory.survey(self._arena, limit), limit)

    def objects(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = memory.survey(self._arena)["objects"]
        return found

    def processes(self) -> list[dict[str, Any]]:
        session = self._arena.session
        return [
            {
                "worker_id": ids.of_worker(session, client.slot, client.epoch).hex(),
                "pid": client.pid,
                "worker_type": _WORKER_TYPES[client.kind],
            }
            for client in self._arena.clients()
        ]

    def tasks(self) -> list[dict[str, Any]]:
        return history.tasks(self._arena)

    def timeline(self) -> list[dict[str, Any]]:
        return history.timeline(self._arena)

    def address_info(self) -> dict[str, Any]:
        return {
            "address": self._session.name if self._session else "",
            "node_ip_address": "127.0.0.1",
            "node_id": self._node_id,
            "gcs_address": self._session.name if self._session else "",
            "session_name": self._session_name,
            "webui_url": "",
        }

    def runtime_context(self) -> dict[str, Any]:
        arena, task = self._arena, current_task()
        session = arena.session
        context = {
            "job_id": ids.JOB,
            "node_id": ids.of_node(session),
            "worker_id": ids.of_worker(session, arena.slot, arena.epoch),
            "session_name": self._session_name,
            "address": self._session.name if self._session else self._boot["address"],
            "namespace": self._namespace,
            "labels": self._placing.labels,
            "runtime_env": self.environments.fields,
            "accelerators": {"GPU": [str(device) for device in self.gpu_ids()]},
            "placement_group_id": ids.PlacementGroupID.nil(),
            "captures_child_tasks": False,
            "is_canceled": False,
        }
        if task is not None:
            context["task_id"] = ids.of_task(session, task.core.serial)
            context["task_name"] = task.core.name
            context["function_name"] = task.function_name
            context["is_canceled"] = task.is_cancelled
        has = holder()
        if has is not None:
            context["resources"] = self._placing.by_name(has.core.needs)
            context["captures_child_tasks"] = has.captures
            if has.core.group:
                context["placement_group_id"] = ids.of_group(session, has.core.group)
        if has is not None and process.card is not None:
            mailbox = has.core.mailbox()
            context["actor_id"] = self.actor_id(mailbox)
            context["actor_name"] = process.card["name"]
            context["actor"] = mailbox, process.card
            context["was_restarted"] = has.core.attempt > 1
        return context

    @cached_property
    def _boot(self) -> dict[str, Any]:
        found: dict[str, Any] = pickle.loads(self._arena.boot())
        return found

    @property
    def _namespace(self) -> str:
        """What this program asked for, else what the session's did; else one of the session's
        own."""
        asked: str | None = self._config.namespace or self._boot["namespace"]
        return asked or self._arena.session.hex()

    @property
    def _node_id(self) -> str:
        return ids.of_node(self._arena.session).hex()

    @property
    def _session_name(self) -> str:
        return f"session_{self._arena.session.hex()}"

    @property
    def is_program(self) -> bool:
        return self._session is not None

    @property
    def is_over(self) -> bool:
        return self._is_guest and bool(self._arena.is_over)

    def shutdown(self) -> None:
        session, self._session = self._session, None
        if session is None:
            return
        core.set_current(None)
        serialize.use_store(None)
        futures = self._futures
        try:
            session.close()
        finally:
            # Remote functions and references of this session may live on; the shared memory must
            # not, for their sake.
            for handle in self._handles.values():
                handle.ref = None
            ended: Any = _Ended(self._is_guest)
            self._arena.hooks = ended
            self._arena = self._futures = self.serializers = self._placing = ended
            self._actors = ended
            self.environments = ended
            futures.close()
