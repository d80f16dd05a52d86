"""Every error that plasmid raises, under Ray's names.

    PlasmidError = RayError
     ├─ RayTaskError                        the task raised; also an instance of what it raised
     ├─ TaskCancelledError
     ├─ WorkerCrashedError                  the process died: signal and pid are in the message
     ├─ NodeDiedError · LocalRayletDiedError
     ├─ RayActorError
     │   ├─ ActorDiedError
     │   └─ ActorUnavailableError
     ├─ ObjectLostError (LookupError)
     │   ├─ ObjectFreedError · OwnerDiedError · ObjectFetchTimedOutError
     │   ├─ ObjectReconstructionFailedError
     │   └─ ReferenceCountingAssertionError (AssertionError)
     ├─ ObjectExistsError (ValueError)
     ├─ ObjectCorruptedError (ValueError)   the stored bytes of one object are damaged
     ├─ ObjectStoreFullError (MemoryError)
     │   └─ TableFullError                  a table is full, though bytes are free
     ├─ OutOfMemoryError (MemoryError)      killed because memory ran out, or was about to
     ├─ OutOfDiskError (OSError)
     ├─ SpillFolderError (OSError)          there can be no file for objects that are spilled
     ├─ GetTimeoutError (TimeoutError)
     ├─ SealTimeoutError (TimeoutError)     other processes can still write the array
     ├─ ResourceLimitError (ValueError)              init was asked for more than the machine has
     ├─ StoreLockedError (TimeoutError)     a stopped process holds the store's lock
     ├─ StoreCorruptError (RuntimeError)    the store itself is damaged and refuses use
     ├─ TaskUnschedulableError · ActorUnschedulableError
     ├─ TaskPlacementGroupRemoved · ActorPlacementGroupRemoved
     ├─ RuntimeEnvSetupError · PendingCallsLimitExceeded
     ├─ NoActorLeftError (RuntimeError)     of a pool, while work waits
     ├─ PoolTerminatedError (RuntimeError)  before the call began
     ├─ ActorAlreadyExistsError · ActorHandleNotFoundError (both ValueError)
     ├─ RaySystemError
     │   ├─ SessionError (RuntimeError)     no session: not started, ended, or not ours to join
     │   │   └─ SessionNotFoundError (ConnectionError)   none at the address
     │   ├─ RayChannelError
     │   │   └─ RayChannelTimeoutError (TimeoutError)
     │   ├─ RayCgraphCapacityExceeded · RayDirectTransportError
     │   └─ StreamingGeneratorReplayInconsistentError
     ├─ NotSupportedError (NotImplementedError)   what plasmid does not have of Ray
     ├─ UsageError (TypeError, RuntimeError, AssertionError)   a call that makes no sense
     ├─ UnsupportedPlatformError (ImportError)
     ├─ RpcError (ConnectionError) · AuthenticationError (PermissionError)
     ├─ UserCodeException · UnserializableException · CrossLanguageError
     ├─ AsyncioActorExit · PlasmaObjectNotAvailable · ObjectRefStreamEndOfStreamError
     └─ OufOfBandObjectRefSerializationException (TypeError)

In brackets the builtin that a program may catch instead. Every one of them can be pickled and comes
back equal, subclasses with constructors of their own included: they are rebuilt from their state,
never by calling __init__.
"""

from __future__ import annotations

import os
from types import (
    BuiltinFunctionType,
    GetSetDescriptorType,
    MemberDescriptorType,
    MethodDescriptorType,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Any

__all__ = [
    "ActorAlreadyExistsError",
    "ActorDiedError",
    "ActorHandleNotFoundError",
    "ActorPlacementGroupRemoved",
    "ActorUnavailableError",
    "ActorUnschedulableError",
    "AsyncioActorExit",
    "AuthenticationError",
    "CrossLanguageError",
    "GetTimeoutError",
    "LocalRayletDiedError",
    "NoActorLeftError",
    "NodeDiedError",
    "NotSupportedError",
    "ObjectCorruptedError",
    "ObjectExistsError",
    "ObjectFetchTimedOutError",
    "ObjectFreedError",
    "ObjectLostError",
    "ObjectReconstructionFailedError",
    "ObjectRefStreamEndOfStreamError",
    "ObjectStoreFullError",
    "OufOfBandObjectRefSerializationException",
    "OutOfDiskError",
    "OutOfMemoryError",
    "OwnerDiedError",
    "PendingCallsLimitExceeded",
    "PlasmaObjectNotAvailable",
    "PlasmidError",
    "PoolTerminatedError",
    "RayActorError",
    "RayCgraphCapacityExceeded",
    "RayChannelError",
    "RayChannelTimeoutError",
    "RayDirectTransportError",
    "RayError",
    "RaySystemError",
    "RayTaskError",
    "ReferenceCountingAssertionError",
    "ResourceLimitError",
    "RpcError",
    "RuntimeEnvSetupError",
    "SealTimeoutError",
    "SessionError",
    "SessionNotFoundError",
    "SpillFolderError",
    "StoreCorruptError",
    "StoreLockedError",
    "StreamingGeneratorReplayInconsistentError",
    "TableFullError",
    "TaskCancelledError",
    "TaskPlacementGroupRemoved",
    "TaskUnschedulableError",
    "UnserializableException",
    "UnsupportedPlatformError",
    "UsageError",
    "UserCodeException",
    "WorkerCrashedError",
]

ref_types: set[type] = set()
"""Classes of references. A RayTaskError pickles those in its cause beside it, so that whoever
stores the error sees what it refers to."""

user_reducers: dict[type, Callable[[Any], Any]] = {}
"""How the user wants instances of exactly these classes pickled, errors among them."""

_CHAIN = 50
"""So many errors of a chain of causes and contexts travel; the text has all."""


class PlasmidError(Exception):
    """The root: whatever plasmid raises on its own account is one of these."""

    def __reduce__(self) -> tuple[Callable[..., BaseException], tuple[Any, ...]]:
        return _restore, (type(self), self.args, _members(self), dict(self.__dict__))


RayError = PlasmidError


# -- tasks and the processes that run them --


class RayTaskError(PlasmidError):
    """A task raised. `get` raises an instance that is also one of the class the task raised.

    It pickles whatever the cause is: parts of the cause that cannot be carried to another process
    are left out, and a cause that cannot be rebuilt there becomes an UnserializableException. The
    text always arrives, and references that the cause holds stay valid.

    Attributes: function_name, pid, traceback_str (made where the task ran), cause (what the task
    raised; if that was itself the error of a nested task, the innermost cause), proctitle, ip.
    """

    def __init__(
        self,
        function_name: str,
        traceback_str: str,
        cause: BaseException | None,
        proctitle: str | None = None,
        pid: int | None = None,
        ip: str | None = None,
    ) -> None:
        if isinstance(cause, RayTaskError):
            cause = cause.cause or cause
        # Not what __new__ made of the arguments, which keeps the nested error and all its frames.
        self.args = (function_name, traceback_str, cause)
        self.function_name = function_name
        self.traceback_str = traceback_str
        self.cause: BaseException | None = cause
        self.proctitle = proctitle or f"plasmid::{function_name}()"
        self.pid = os.getpid() if pid is None else pid
        self.ip = ip or "127.0.0.1"

    @classmethod
    def capture(cls, function_name: str, error: BaseException, *, skip: int = 1) -> RayTaskError:
        """The error that ended a task in this process.

        Its traceback is without the `skip` outermost frames, the worker's own.
        """
        import traceback

        trace = error.__traceback__
        while trace is not None and skip > 0:
            trace, skip = trace.tb_next, skip - 1
        return cls(
            function_name, "".join(traceback.format_exception(type(error), error, trace)), error
        )

    def as_instanceof_cause(self) -> RayTaskError:
        """This error as an instance of its cause's class, too: `except ValueError` catches it.

        It has the cause's args and attributes. The error itself is returned where that cannot be:
        no cause, a class that refuses to be inherited from, or StopIteration and its like, which
        end the generator or coroutine that they pass through as if it had returned. So it is with
        SystemExit and KeyboardInterrupt, which would end this process; they become the class that
        programs for Ray look for.
        """
        cause = self.cause
        if isinstance(cause, SystemExit):
            cause = WorkerCrashedError(f"the task ended its process: {summary(cause)}")
        elif isinstance(cause, KeyboardInterrupt):
            cause = TaskCancelledError(None, "the task raised KeyboardInterrupt itself")
        if not isinstance(cause, Exception) or isinstance(self, type(cause)):
            return self
        if isinstance(cause, (StopIteration, StopAsyncIteration)):
            return self
        kind = type(cause)
        name = f"{RayTaskError.__name__}({kind.__name__})"
        try:
            both = type(name, (RayTaskError, kind), {"__module__": __name__})
            error = _bare(both, cause.args, _members(cause))
        except Exception:
            return self
        error.__dict__.update(self.__dict__)
        assert isinstance(error, RayTaskError)
        return error

    def __getattr__(self, name: str) -> Any:
        cause = self.__dict__.get("cause")
        if cause is None or name.startswith("__"):
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")
        return getattr(cause, name)

    def __str__(self) -> str:
        where = f"{self.function_name}() in process {self.pid}"
        if self.cause is None:
            return f"{where} failed:\n{self.traceback_str}"
        return f"{summary(self.cause)}\n\nRaised by {where}:\n{self.traceback_str}"

    def __reduce__(self) -> tuple[Callable[..., BaseException], tuple[Any, ...]]:
        text = (self.function_name, self.traceback_str, self.proctitle, self.pid, self.ip)
        packed = [(*_pack(error), is_cause) for error, is_cause in _chain(self.cause)]
        return _load_task_error, (text, packed, type(self) is not RayTaskError)


class TaskCancelledError(PlasmidError):
    """The task was cancelled before it finished.

    Attributes, None where unknown: task_id (the task's number in the session), error_message.
    """

    def __init__(self, task_id: object = None, error_message: str | None = None) -> None:
        self.task_id = task_id
        self.error_message = error_message

    @classmethod
    def of(cls, function_name: str, task_id: object, was_started: bool) -> TaskCancelledError:
        """Of a task that has ended without a word of its own: `was_started` or still queued."""
        how = (
            "cancelled, and its worker process ended" if was_started else "cancelled before it ran"
        )
        return cls(task_id, f"{function_name}() was {how}")

    def __str__(self) -> str:
        return self.error_message or "the task was cancelled"


class WorkerCrashedError(PlasmidError):
    """The process died in the middle of the task, and no retry was left.

    Attributes, None where unknown: pid, exit_code, signal.
    """

    pid: int | None = None
    exit_code: int | None = None
    signal: int | None = None

    def __init__(self, message: str = "the worker process died while it ran the task") -> None:
        self.args = (message,)

    @classmethod
    def died(cls, function_name: str, pid: int, status: int | None) -> WorkerCrashedError:
        """`status`: the exit code, minus the signal's number, or None if nobody could tell."""
        if status is None:
            how = "died; how is not known"
        elif status >= 0:
            how = f"exited with code {status}"
        else:
            how = f"was killed by {_signal_name(-status)}"
        error = cls(f"{function_name}(): worker process {pid} {how} while it ran the task")
        error.pid = pid
        if status is not None:
            error.exit_code, error.signal = (status, None) if status >= 0 else (None, -status)
        return error


class NodeDiedError(PlasmidError):
    """A machine of the session is gone."""


class LocalRayletDiedError(PlasmidError):
    """A machine's scheduler is gone. plasmid has none: for programs that catch Ray's name."""


class TaskUnschedulableError(PlasmidError):
    """The task asks for more than the session has."""


class TaskPlacementGroupRemoved(PlasmidError):
    """The placement group the task was to run in was removed."""


class RuntimeEnvSetupError(PlasmidError):
    """The environment that a task or actor asked for could not be set up."""


class PendingCallsLimitExceeded(PlasmidError):
    """No more calls can be queued before some are done."""


class ObjectRefStreamEndOfStreamError(PlasmidError):
    """A streaming task has no further results."""


# -- actors --


class RayActorError(PlasmidError):
    """The actor could not run the call."""

    def __init__(
        self,
        actor_id: str | None = None,
        error_msg: str = "the actor failed before it finished the call",
        actor_init_failed: bool = False,
        preempted: bool = False,
    ) -> None:
        self.actor_id = actor_id
        self.error_msg = error_msg
        self.actor_init_failed = actor_init_failed
        self.preempted = preempted

    def __str__(self) -> str:
        return self.error_msg


class ActorDiedError(RayActorError):
    """The actor is dead for good. `cause`: the error of its constructor, or how it died."""

    def __init__(
        self, cause: RayTaskError | str | None = None, actor_id: str | None = None
    ) -> None:
        failed = isinstance(cause, RayTaskError)
        message = (
            f"The actor died because of an error raised in its creation task, {cause}"
            if failed
            else str(cause or "The actor died")
        )
        super().__init__(actor_id, message, failed)

    @classmethod
    def of(cls, call: str, actor_id: str, obituary: object) -> ActorDiedError:
        """Of a call of an actor of which `obituary` is what became of it: what its constructor
        raised, how its process died, that it was killed; or a text."""
        if isinstance(obituary, RayTaskError):
            return cls(obituary, actor_id)
        if isinstance(obituary, TaskCancelledError):
            why = "it was killed by `ray.kill`"
        elif isinstance(obituary, BaseException):
            why = f"it died unexpectedly: {summary(obituary)}"
        else:
            why = str(obituary)
        return cls(f"The actor {actor_id} cannot run {call}(): {why}", actor_id)


class ActorUnavailableError(RayActorError):
    """The actor cannot be reached at this moment; the call may or may not have run."""

    number = 0

    def __init__(self, error_message: str, actor_id: str | None = None) -> None:
        super().__init__(actor_id, error_message)

    @classmethod
    def interrupted(cls, actor: int, death: BaseException) -> ActorUnavailableError:
        """Of a call that ran when its actor's process died, which is started again. `actor`: its
        number in the session, of which the id is made for `name_actor`."""
        error = cls(f"is unavailable: it is being restarted. {summary(death)}")
        error.number = actor
        return error

    def name_actor(self, actor_id: str) -> None:
        """Say which actor it is."""
        self.actor_id = actor_id
        self.error_msg = f"The actor {actor_id} {self.error_msg}"


class ActorUnschedulableError(PlasmidError):
    """The actor asks for more than the session has."""


class ActorPlacementGroupRemoved(PlasmidError):
    """The placement group the actor was to live in was removed."""


class NoActorLeftError(PlasmidError, RuntimeError):
    """All actors of a pool have died, or were taken out, while work waits for one."""


class PoolTerminatedError(PlasmidError, RuntimeError):
    """The pool of processes that was to run the call was terminated."""


class ActorAlreadyExistsError(PlasmidError, ValueError):
    """An actor with this name exists in the namespace."""


class ActorHandleNotFoundError(PlasmidError, ValueError):
    """There is no such actor any more."""


class AsyncioActorExit(PlasmidError):
    """Raised inside an async actor to end it."""


class ActorExit(SystemExit):
    """Raised in a method of an actor to end the actor, which is not started again; `code` says why.
    Not for programs to catch: `exit_actor` raises it."""


# -- objects and the store --


class ObjectLostError(PlasmidError, LookupError):
    """The object is gone. Made from the object's id in hex, as in Ray, or from a whole message."""

    _why = "it was freed, or never was in this session"

    def __init__(
        self, object_ref_hex: str, owner_address: object = None, call_site: str = ""
    ) -> None:
        self.object_ref_hex = object_ref_hex
        self.owner_address = owner_address
        self.call_site = call_site

    def __str__(self) -> str:
        return (
            self.object_ref_hex
            if " " in self.object_ref_hex
            else f"object {self.object_ref_hex}: {self._why}"
        )


class ObjectFreedError(ObjectLostError):
    """The object was freed by an explicit call while there were references to it."""

    _why = "it was freed explicitly"


class OwnerDiedError(ObjectLostError):
    """The process that was to produce the object is gone."""

    _why = "the process that was to make it died"


class ObjectReconstructionFailedError(ObjectLostError):
    """The object was lost, and running its task again failed."""

    _why = "it was lost and could not be made again"


class ObjectFetchTimedOutError(ObjectLostError):
    """The object did not arrive from another machine in time."""

    _why = "it did not arrive in time"


class ReferenceCountingAssertionError(ObjectLostError, AssertionError):
    """An object was deleted while it was referenced: a defect of the store."""

    _why = "it was deleted while references to it existed"


class ObjectExistsError(PlasmidError, ValueError):
    """An object with this id exists."""


class ObjectCorruptedError(PlasmidError, ValueError):
    """The stored bytes of this object are damaged. Other objects are not concerned."""


class ObjectStoreFullError(PlasmidError, MemoryError):
    """No room for the object, nor did anybody make any in the time that was to be waited."""


class TableFullError(ObjectStoreFullError):
    """No free entry in one of the store's tables, whatever the free bytes."""


class OutOfMemoryError(PlasmidError, MemoryError):
    """The task's process was killed because memory ran out, or was about to, or because it used
    more than the task's `memory`; and no retry was left.

    Attributes, None where unknown: pid; and in bytes, used: what this process had in use when it
    was killed, beside the object store; peak: the most that it ever had, with what it had looked at
    of the store; limit: what the control group may use, or the machine has, or of the third kind
    the task; group_used: what the group uses without the process (killed by the kernel) or with it;
    group_peak: the most that it ever used.
    """

    pid: int | None = None
    used: int | None = None
    peak: int | None = None
    limit: int | None = None
    group_used: int | None = None
    group_peak: int | None = None

    def __init__(self, message: str = "the machine was running out of memory") -> None:
        self.args = (message,)

    @classmethod
    def killed(cls, by: str, function_name: str, pid: int, *sizes: int) -> OutOfMemoryError:
        """by: a key of _KILLED. Sizes: used, peak, limit, group_used and group_peak in bytes, 0
        where nobody could tell."""
        why, hint = _KILLED[by]
        known = "; ".join(
            text.format(f"{size / 1e6:,.1f} MB")
            for text, size in zip(_SIZES, sizes, strict=True)
            if size
        )
        error = cls(
            f"{function_name}(): worker process {pid} was killed {why}"
            f"{f' ({known})' if known else ''}. {hint}"
        )
        error.pid = pid
        error.used, error.peak, error.limit, error.group_used, error.group_peak = (
            size or None for size in sizes
        )
        return error


_USE_LESS = (
    "Use less in the task, or let fewer tasks run at a time (num_cpus, memory), or raise the limit"
)
_KILLED = {
    "kernel": ("by the kernel, because memory ran out, while it ran the task", _USE_LESS),
    "session": (
        "while it ran the task, before memory ran out: of those that use much it was the one that "
        "costs least to run again",
        f"{_USE_LESS}. PLASMID_MEMORY_THRESHOLD is the share that may be in use (0.95; 1: the "
        "kernel decides)",
    ),
    "limit": (
        "while it ran the task: it used more than the task's memory=",
        "Use less in the task, or ask for more (PLASMID_MEMORY_LIMITS=1 is set, so memory= is a "
        "limit)",
    ),
}
"""Who killed a task's process for its memory: what is said of it, and what to do."""
_SIZES = (
    "this process used {} beside the store",
    "it had used up to {}",
    "the limit is {}",
    "{} are used in all",
    "the most that was ever used is {}",
)


class OutOfDiskError(PlasmidError, OSError):
    """No room on the disk that objects are spilled to."""


class SpillFolderError(PlasmidError, OSError):
    """There can be no file where objects are to be spilled to."""


class GetTimeoutError(PlasmidError, TimeoutError):
    """`get(timeout=...)` ran out of time."""


class SealTimeoutError(PlasmidError, TimeoutError):
    """`seal()` ran out of time: another process can still write the array. Its pid is named."""


class ResourceLimitError(PlasmidError, ValueError):
    """`init()` was asked for more than this machine, its control group or the process's limits
    have."""


class StoreLockedError(PlasmidError, TimeoutError):
    """A stopped process (SIGSTOP, a debugger) holds the store's lock: its pid is named."""


class StoreCorruptError(PlasmidError, RuntimeError):
    """The store's own records contradict each other. The session refuses further use."""


class PlasmaObjectNotAvailable(PlasmidError):
    """The object is not in this machine's store."""


# -- the session and the platform --


class RaySystemError(PlasmidError):
    """The system, not the user's code, failed."""

    def __init__(self, client_exc: object, traceback_str: str | None = None) -> None:
        self.client_exc = client_exc
        self.traceback_str = traceback_str

    def __str__(self) -> str:
        return (
            f"{self.client_exc}\n{self.traceback_str}"
            if self.traceback_str
            else str(self.client_exc)
        )


class SessionError(RaySystemError, RuntimeError):
    """There is no session to use: not started, ended, or it cannot be joined from here."""


class SessionNotFoundError(SessionError, ConnectionError):
    """No running session of this user is at the address."""


class RayChannelError(RaySystemError):
    """A channel between processes failed."""


class RayChannelTimeoutError(RayChannelError, TimeoutError):
    """A channel between processes was not ready in time."""


class RayCgraphCapacityExceeded(RaySystemError):
    """A compiled graph has too many executions in flight."""


class RayDirectTransportError(RaySystemError):
    """A direct transport between devices failed."""


class StreamingGeneratorReplayInconsistentError(RaySystemError):
    """A streaming task that was run again produced another number of results."""


class NotSupportedError(PlasmidError, NotImplementedError):
    """What plasmid does not have of Ray's API, where ignoring it would change the program."""


class UsageError(PlasmidError, TypeError, RuntimeError, AssertionError):
    """A call that makes no sense, or not here. Of these builtins Ray raises one or the other."""


class UnsupportedPlatformError(PlasmidError, ImportError):
    """plasmid cannot run on this operating system, machine or interpreter."""


class AuthenticationError(PlasmidError, PermissionError):
    """The other side refused these credentials."""


class RpcError(PlasmidError, ConnectionError):
    """A call to another machine failed."""

    def __init__(self, message: str, rpc_code: int | None = None) -> None:
        self.args = (message,)
        self.rpc_code = rpc_code

    def __str__(self) -> str:
        return str(self.args[0])


# -- code and errors that do not travel --


class UserCodeException(PlasmidError):
    """Code of the user that plasmid called, other than a task, raised."""


class UnserializableException(PlasmidError):
    """An error could not be rebuilt in this process; the message says what it was and why."""


class CrossLanguageError(PlasmidError):
    """A task in another language failed."""


class OufOfBandObjectRefSerializationException(PlasmidError, TypeError):
    """A ref was pickled where nobody would count it. (The name is spelled as in Ray.)"""


# -- rebuilding errors without calling their constructors --


def _bare(
    kind: type[BaseException], args: tuple[Any, ...], members: dict[str, Any]
) -> BaseException:
    """An instance of `kind` made without any __new__ or __init__ of the user's.

    The builtin class to make it is found by __base__, not in the __mro__: that is the one whose
    layout the instance has, and the only one whose __new__ agrees to make it.
    """
    base: Any = kind
    while type(vars(base).get("__new__")) is not BuiltinFunctionType:
        base = base.__base__
    error: BaseException = base.__new__(kind, *args)
    error.args = args
    for name, value in members.items():
        try:
            object.__setattr__(error, name, value)
        except (AttributeError, TypeError):
            continue  # Read-only: `new` got it among the args, as with ExceptionGroup.
    return error


def _restore(
    kind: type[BaseException],
    args: tuple[Any, ...],
    members: dict[str, Any],
    attributes: dict[str, Any],
) -> BaseException:
    error = _bare(kind, args, members)
    error.__dict__.update(attributes)
    return error


def _members(error: BaseException) -> dict[str, Any]:
    """What `error` keeps outside its __dict__: an OSError's errno and filename, __slots__."""
    found: dict[str, Any] = {}
    for base in type(error).__mro__:
        if base is BaseException:
            break
        for name, member in vars(base).items():
            if (
                isinstance(member, (MemberDescriptorType, GetSetDescriptorType))
                and name[:2] != "__"
            ):
                try:
                    value = member.__get__(error)
                except AttributeError:
                    continue
                if value is not None:
                    found.setdefault(name, value)
    return found


def _chain(error: BaseException | None) -> Iterator[tuple[BaseException, bool]]:
    """`error` and what a traceback shows before it, link by link; whether each is the __cause__ of
    the one before, rather than its __context__."""
    is_cause, seen = False, set[int]()
    while error is not None and id(error) not in seen and len(seen) < _CHAIN:
        yield error, is_cause
        seen.add(id(error))
        is_cause = error.__cause__ is not None
        context = None if error.__suppress_context__ else error.__context__
        error = error.__cause__ if is_cause else context


def _pack(error: BaseException) -> tuple[bytes, list[Any]]:
    """`error` as bytes of their own, so that trouble in loading them cannot spoil what is around;
    and the references in it."""
    if _rebuilds_itself(type(error)):
        try:
            packed = _dumps(error)
            _loads(*packed)
        except Exception:
            pass
        else:
            return packed

    parts = (error.args, _members(error), dict(error.__dict__))
    if not _pickles(parts):
        args, members, attributes = parts
        parts = (
            tuple(value if _pickles(value) else _text_of(value, repr) for value in args),
            {name: value for name, value in members.items() if _pickles(value)},
            {name: value for name, value in attributes.items() if _pickles(value)},
        )
    try:
        return _dumps((_restore, (type(error), *parts)))
    except Exception as failure:
        return _dumps(_unserializable(summary(error), failure))


def _pickles(value: object) -> bool:
    try:
        _dumps(value)
    except Exception:
        return False
    return True


def _dumps(value: object) -> tuple[bytes, list[Any]]:
    """`value` pickled, and the references in it, for which the bytes have their positions."""
    import io

    import cloudpickle

    refs: list[Any] = []

    def position(part: object) -> int | None:
        if type(part) not in ref_types:
            return None
        refs.append(part)
        return len(refs) - 1

    file = io.BytesIO()
    kind = cloudpickle.Pickler
    if user_reducers:
        table = {**kind.dispatch_table, **user_reducers}
        kind = type(kind.__name__, (kind,), {"dispatch_table": table})
    pickler = kind(file)
    pickler.persistent_id = position
    _guarded(pickler.dump, value)
    return file.getvalue(), refs


def _loads(data: bytes, refs: list[Any]) -> Any:
    import io
    import pickle

    unpickler: Any = pickle.Unpickler(io.BytesIO(data))
    unpickler.persistent_load = refs.__getitem__
    return _guarded(unpickler.load)


def _guarded(call: Callable[..., Any], *args: Any) -> Any:
    """Call what runs code of the user's: whatever that raises is an Exception. A SystemExit would
    end the process that only meant to report an error. Ctrl-C passes."""
    try:
        return call(*args)
    except (Exception, KeyboardInterrupt):
        raise
    except BaseException as error:
        raise UserCodeException(f"it raised {type(error).__name__}") from error


def _rebuilds_itself(kind: type[BaseException]) -> bool:
    """Whether it is said how `kind` is pickled; else its constructor would be guessed at."""
    import copyreg

    return (
        kind in user_reducers
        or kind in copyreg.dispatch_table
        or type(kind.__reduce__) is not MethodDescriptorType
        or kind.__reduce_ex__ is not object.__reduce_ex__
        or kind.__setstate__ is not BaseException.__setstate__
        or getattr(kind, "__getstate__", None) is not getattr(BaseException, "__getstate__", None)
    )


def _load_task_error(
    text: tuple[str, str, str, int, str],
    packed: list[tuple[bytes, list[Any], bool]],
    as_cause: bool,
) -> RayTaskError:
    function_name, traceback_str, proctitle, pid, ip = text
    cause = last = None
    for data, refs, is_cause in packed:
        try:
            link = _unpack(data, refs)
        except Exception as failure:
            lines = traceback_str.strip().splitlines()
            link = _unserializable(lines[-1] if lines and not cause else "an error", failure)
        if last is None:
            cause = link
        elif is_cause:
            last.__cause__ = link
        else:
            last.__context__ = link
        last = link
    error = RayTaskError(function_name, traceback_str, cause, proctitle, pid, ip)
    return error.as_instanceof_cause() if as_cause else error


def _unpack(data: bytes, refs: list[Any]) -> BaseException:
    error = _loads(data, refs)
    if type(error) is tuple:
        restore, arguments = error
        error = _guarded(restore, *arguments)
    return error  # type: ignore[no-any-return]


def _unserializable(what: str, failure: Exception) -> UnserializableException:
    return UnserializableException(
        f"{what} (it could not be carried to this process: {summary(failure)})"
    )


def summary(error: BaseException) -> str:
    """`ValueError: what it says`, whatever its __str__ does."""
    text = _text_of(error, str)
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def _text_of(value: object, describe: Callable[[Any], str]) -> str:
    try:
        return str(_guarded(describe, value))
    except Exception as failure:
        return f"<{describe.__name__}() of it raised {type(failure).__name__}>"


def _signal_name(number: int) -> str:
    import signal

    try:
        return f"signal {number} ({signal.Signals(number).name})"
    except ValueError:
        return f"signal {number}"
