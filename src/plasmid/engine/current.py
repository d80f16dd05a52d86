"""The engine in use: `current.engine`, read on every call and replaced only under the lock.

Before `init`, after `shutdown` and in a fork it is a stand-in for which nothing is a ref and whose
`put` starts a session, so the calls that follow pay nothing for the check whether there is one.

A worker calls `set_engine` before it runs its first task.
"""

from __future__ import annotations

import os
from _thread import RLock

from plasmid.engine.base import (
    ActorOptions,
    CallOptions,
    Engine,
    FunctionHandle,
    SessionConfig,
    TaskOptions,
)
from plasmid.exceptions import SessionError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from concurrent.futures import Future
    from typing import Any

    from plasmid._core.core import ObjectRef

__all__ = ["engine", "get_engine", "is_started", "lock", "set_engine", "start", "stop"]


def _start_local(config: SessionConfig) -> Engine:
    from plasmid.engine.local import start

    return start(config)


# Makes the engine of a new session. Tests put their own here.
starter: Callable[[SessionConfig], Engine] = _start_local

# Held while an engine is made, replaced or shut down. Re-entrant: a finalizer or a signal's handler
# may run inside.
lock = RLock()


def is_started() -> bool:
    """Whether this process has a session."""
    return type(engine) is not _NotStarted


def get_engine() -> Engine:
    """The engine; of a new session if there is none. Blocks while a thread starts one.

    While a thread shuts one down it raises SessionError at once: shutdown, which holds the lock,
    may wait for us.
    """
    found = engine
    if type(found) is not _NotStarted:
        return found
    found.check()
    with lock:
        if type(engine) is not _NotStarted:
            return engine
        engine.check()
        return start(SessionConfig())


def set_engine(new: Engine) -> None:
    """Use `new` from now on. The one before is not shut down."""
    global engine
    with lock:
        engine = new


def start(config: SessionConfig) -> Engine:
    """Start a session and use it."""
    with lock:
        new = starter(config)
        set_engine(new)
        return new


def stop(refusal: str = "") -> None:
    """Shut the session down, or leave it, if this process is a program; else do nothing. Returns
    when it is gone, whoever began that.

    `refusal`: why the next call must not start a new session, if so.
    """
    with lock:
        old = engine
        if old.is_program:
            meanwhile = _NotStarted("the session is being shut down", former=old)
            set_engine(meanwhile)
            try:
                old.shutdown()
            finally:
                if engine is meanwhile:  # a signal's handler may have started a session
                    set_engine(_NotStarted(refusal))
        elif refusal and type(old) is _NotStarted:
            set_engine(_NotStarted(refusal, old.former))


class _NoRef:
    """Refs belong to a session: without one, nothing is a ref."""


class _NotStarted(Engine):
    """No session. `put` starts one; other calls, for which nothing is a ref now, do so above.

    `refusal` says why none is to be started, if so. `former` is an engine that this process had:
    one that is being shut down, or in a fork the parent's, kept so that it is never finalized here.
    """

    ref_type = _NoRef
    is_program = False

    def __init__(self, refusal: str = "", former: Engine | None = None) -> None:
        self.refusal = refusal
        self.former = former

    def check(self) -> None:
        """Raise SessionError if no session is to be started."""
        if self.refusal:
            raise self.error()

    def error(self) -> SessionError:
        """What to raise for calls that need a session."""
        if self.refusal:
            return SessionError(f"no session can be started here: {self.refusal}")
        return SessionError("plasmid has not been started: call plasmid.init() first")

    def put(self, value: Any) -> ObjectRef:
        new = get_engine()
        if type(value) is new.ref_type:
            raise TypeError(f"put: {value!r} is a reference of an earlier session")
        return new.put(value)

    def give_name(self, ref: ObjectRef, name: str, lifetime: float | str) -> None:
        raise self.error()

    def get_named(self, name: str) -> ObjectRef:
        raise self.error()

    def delete_named(self, name: str) -> None:
        raise self.error()

    def names(self) -> list[str]:
        raise self.error()

    def register_serializer(
        self,
        cls: type,
        serializer: Callable[[Any], Any],
        deserializer: Callable[[Any], Any],
    ) -> None:
        from plasmid.serialize import custom

        custom.register(cls, serializer, deserializer)  # the next session will take it along

    def deregister_serializer(self, cls: type) -> None:
        from plasmid.serialize import custom

        custom.deregister(cls)

    def free(self, refs: list[ObjectRef]) -> None:
        raise self.error()

    def is_failed(self, ref: ObjectRef) -> bool:
        raise self.error()

    def is_awaited(self) -> bool:
        raise self.error()

    def get_one(self, ref: ObjectRef, timeout: float | None, writable: bool = False) -> Any:
        raise self.error()

    def get(
        self, refs: list[ObjectRef], timeout: float | None, writable: bool = False
    ) -> list[Any]:
        raise self.error()

    def get_buffer(self, ref: ObjectRef, timeout: float | None) -> memoryview:
        raise self.error()

    def explain(self, ref: ObjectRef, timeout: float | None) -> Any:
        raise self.error()

    def empty(self, shape: Any, dtype: Any, order: str) -> Any:
        return get_engine().empty(shape, dtype, order)

    def create(self, nbytes: int) -> memoryview:
        return get_engine().create(nbytes)

    def seal(self, value: Any, timeout: float | None) -> ObjectRef:
        raise self.error()

    def wait(
        self, refs: list[ObjectRef], num_returns: int, timeout: float | None
    ) -> tuple[list[ObjectRef], list[ObjectRef]]:
        raise self.error()

    def export(self, function: Callable[..., Any], name: str, key: bytes) -> FunctionHandle:
        raise self.error()

    def submit(
        self,
        handle: FunctionHandle,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        options: TaskOptions,
    ) -> list[ObjectRef]:
        raise self.error()

    def create_actor(
        self,
        handle: FunctionHandle,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        options: ActorOptions,
        card: dict[str, Any],
    ) -> ObjectRef:
        raise self.error()

    def call(
        self,
        mailbox: ObjectRef,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        options: CallOptions,
    ) -> list[ObjectRef]:
        raise self.error()

    def find_actor(self, name: str, namespace: str) -> tuple[ObjectRef, dict[str, Any]] | None:
        raise self.error()

    def actors(self) -> list[dict[str, Any]]:
        raise self.error()

    def actor_id(self, mailbox: ObjectRef) -> Any:
        raise self.error()

    def kill_actor(self, mailbox: ObjectRef, no_restart: bool) -> None:
        raise self.error()

    def cancel(self, ref: ObjectRef, force: bool, recursive: bool) -> None:
        raise self.error()

    def is_resolved_argument(self, value: Any) -> bool:
        return False

    def cluster_resources(self) -> dict[str, float]:
        raise self.error()

    def available_resources(self) -> dict[str, float]:
        raise self.error()

    def nodes(self) -> list[dict[str, Any]]:
        raise self.error()

    def gpu_ids(self) -> list[int] | list[str]:
        raise self.error()

    @property
    def session_mark(self) -> bytes:
        raise self.error()

    def create_group(
        self,
        bundles: list[dict[str, float]],
        *,
        strategy: int,
        name: str,
        detached: bool,
        selectors: list[dict[str, str]],
    ) -> int:
        raise self.error()

    def remove_group(self, serial: int) -> None:
        raise self.error()

    def groups(self) -> list[Any]:
        raise self.error()

    def group_bundles(self, serial: int) -> list[dict[str, float]]:
        raise self.error()

    def current_group(self) -> int:
        raise self.error()

    def locate(self, refs: list[ObjectRef]) -> dict[ObjectRef, dict[str, Any]]:
        raise self.error()

    def memory_summary(self, limit: int) -> str:
        raise self.error()

    def objects(self) -> list[dict[str, Any]]:
        raise self.error()

    def processes(self) -> list[dict[str, Any]]:
        raise self.error()

    def tasks(self) -> list[dict[str, Any]]:
        raise self.error()

    def timeline(self) -> list[dict[str, Any]]:
        raise self.error()

    def address_info(self) -> dict[str, Any]:
        raise self.error()

    def runtime_context(self) -> dict[str, Any]:
        raise self.error()

    def future(self, ref: ObjectRef) -> Future[Any]:
        raise self.error()

    def next_item(
        self, gate: ObjectRef, completed: ObjectRef, timeout: float | None
    ) -> ObjectRef | None:
        raise self.error()

    def look_at_stream(self, gate: ObjectRef) -> tuple[int, bool]:
        raise self.error()

    def item_future(self, gate: ObjectRef) -> Future[None]:
        raise self.error()

    def forget_future(self, gate: ObjectRef, future: Future[None]) -> None:
        pass

    def shutdown(self) -> None:
        pass


def _after_fork() -> None:
    # The only thread of a new process: the lock may be held by a thread that does not exist here.
    global engine, lock
    lock = RLock()
    if type(engine) is not _NotStarted or engine.former is not None:
        engine = _NotStarted(
            "this process was forked from one that has a session, and cannot share it. Start "
            "processes by spawn, use remote functions, or call plasmid.init() for a new session",
            former=engine,
        )


engine: Engine = _NotStarted()
os.register_at_fork(after_in_child=_after_fork)
