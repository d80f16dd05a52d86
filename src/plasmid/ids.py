"""Ids of tasks, workers, nodes and so on: Ray's classes, sizes and nesting.

    JobID             4
    ActorID          16 = 12 of its own + JobID
    TaskID           24 =  8 of its own + ActorID, nil but for its job if the task is no actor's
    PlacementGroupID 18 = 14 of its own + JobID
    UniqueID         28   NodeID, WorkerID, FunctionID, ActorClassID, ClusterID

The nil id is all 0xff. A reference's id (`ObjectRef.binary()`, 28 bytes, too) leads to the object
in its session and contains none of these; `ObjectRef.task_id()` asks the store.

A session is one job. The id of a task is made of its number in the session, and back:

    8 bytes = number XOR the session's first 8 bytes
"""

from __future__ import annotations

import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, ClassVar, Self, TypeAlias, TypeVar

    _Id = TypeVar("_Id", bound="BaseID")
    _Number: TypeAlias = int  # a method of JobID has the other name

__all__ = [
    "ActorClassID",
    "ActorID",
    "BaseID",
    "ClusterID",
    "FunctionID",
    "JobID",
    "NodeID",
    "PlacementGroupID",
    "TaskID",
    "UniqueID",
    "WorkerID",
]


class BaseID:
    """Bytes of a fixed length; equal to those of the same class with the same bytes.

    TypeError for what is no bytes, ValueError for another length. Immutable, and pickled as its
    bytes.
    """

    __slots__ = ("_binary",)

    SIZE: ClassVar[int] = 0

    def __init__(self, id: bytes) -> None:
        if not isinstance(id, bytes):
            raise TypeError(f"{type(self).__name__}: expected bytes, got {type(id).__name__}")
        if len(id) != self.SIZE:
            raise ValueError(f"{type(self).__name__}: expected {self.SIZE} bytes, got {len(id)}")
        self._binary = id

    @classmethod
    def from_binary(cls, id_bytes: bytes) -> Self:
        """The id with these bytes."""
        return cls(id_bytes)

    @classmethod
    def from_hex(cls, hex_id: str | bytes) -> Self:
        """The id with these hexadecimal digits. ValueError for others, also where Ray returns the
        nil id."""
        text = hex_id.decode("ascii") if isinstance(hex_id, bytes) else hex_id
        return cls(bytes.fromhex(text))

    @classmethod
    def nil(cls) -> Self:
        """The id of nothing."""
        return cls(b"\xff" * cls.SIZE)

    @classmethod
    def size(cls) -> int:
        """Length in bytes."""
        return cls.SIZE

    def is_nil(self) -> bool:
        """Whether it is the id of nothing."""
        return self._binary == b"\xff" * self.SIZE

    def binary(self) -> bytes:
        """The bytes."""
        return self._binary

    def hex(self) -> str:
        """The bytes as hexadecimal digits."""
        return self._binary.hex()

    def __eq__(self, other: object) -> bool:
        if type(other) is not type(self):
            return NotImplemented
        return self._binary == other._binary

    def __hash__(self) -> int:
        return hash(self._binary)

    def __bytes__(self) -> bytes:
        return self._binary

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.hex()})"

    def __reduce__(self) -> tuple[Callable[..., BaseID], tuple[bytes]]:
        return type(self), (self._binary,)


class UniqueID(BaseID):
    """Any 28 bytes."""

    __slots__ = ()

    SIZE = 28

    @classmethod
    def from_random(cls) -> Self:
        """A new one."""
        return cls(os.urandom(cls.SIZE))


class NodeID(UniqueID):
    """A machine of a session."""

    __slots__ = ()


class WorkerID(UniqueID):
    """A process that is or was in a session."""

    __slots__ = ()


class FunctionID(UniqueID):
    """A remote function."""

    __slots__ = ()


class ActorClassID(UniqueID):
    """A remote class."""

    __slots__ = ()


class ClusterID(UniqueID):
    """A session."""

    __slots__ = ()


class JobID(BaseID):
    """The programs of a session; in Ray, one program."""

    __slots__ = ()

    SIZE = 4

    @classmethod
    def from_int(cls, value: _Number) -> Self:
        """The job with that number, from 0."""
        return cls(value.to_bytes(cls.SIZE, "little"))

    def int(self) -> _Number:
        """Its number."""
        return _number(self._binary)


class _OfAJob(BaseID):
    """Ends with the id of the job that it belongs to."""

    __slots__ = ()

    @classmethod
    def of(cls, job_id: JobID, *_: Any) -> Self:
        """A new one of that job."""
        return cls(os.urandom(cls.SIZE - JobID.SIZE) + _checked(job_id, JobID).binary())

    @classmethod
    def from_random(cls) -> Self:
        """A new one of no job in particular."""
        return cls(os.urandom(cls.SIZE))

    def job_id(self) -> JobID:
        """The job that it belongs to."""
        return JobID(self._binary[-JobID.SIZE :])


class ActorID(_OfAJob):
    """An actor."""

    __slots__ = ()

    SIZE = 16


class PlacementGroupID(_OfAJob):
    """A placement group."""

    __slots__ = ()

    SIZE = 18


class TaskID(BaseID):
    """A task: of a job, and of an actor if it is a call of one's method."""

    __slots__ = ()

    SIZE = 24

    @classmethod
    def for_fake_task(cls, job_id: JobID) -> Self:
        """A new one of that job, which no task has."""
        tail = b"\xff" * (ActorID.SIZE - JobID.SIZE) + _checked(job_id, JobID).binary()
        return cls(os.urandom(cls.SIZE - ActorID.SIZE) + tail)

    @classmethod
    def for_driver_task(cls, job_id: JobID) -> Self:
        """What stands for a program itself."""
        return cls(b"\xff" * (cls.SIZE - JobID.SIZE) + _checked(job_id, JobID).binary())

    @classmethod
    def for_actor_creation_task(cls, actor_id: ActorID) -> Self:
        """The call of that actor's constructor."""
        own = b"\xff" * (cls.SIZE - ActorID.SIZE)
        return cls(own + _checked(actor_id, ActorID).binary())

    def actor_id(self) -> ActorID:
        """The actor whose method it is; nil but for the job if it is none's."""
        return ActorID(self._binary[-ActorID.SIZE :])

    def job_id(self) -> JobID:
        """The job that it belongs to."""
        return JobID(self._binary[-JobID.SIZE :])


JOB = JobID.from_int(1)


def of_group(session: bytes, number: int) -> PlacementGroupID:
    """Of the placement group with this number in the session."""
    mixed = number ^ int.from_bytes(session[:8], "little")
    return PlacementGroupID(mixed.to_bytes(8, "little") + session[8:14] + JOB.binary())


def number_of_group(session: bytes, group_id: PlacementGroupID) -> int:
    """The number of a placement group in the session; of another session's a number that no group
    has."""
    binary = group_id.binary()
    if binary[8:14] != session[8:14]:
        return 2**64 - 1
    return int.from_bytes(binary[:8], "little") ^ int.from_bytes(session[:8], "little")


def of_task(session: bytes, serial: int) -> TaskID:
    """The id of a session's task with that number; of number 0, which none has, the nil id."""
    if serial == 0:
        return TaskID.nil()
    own = (serial ^ _number(session[:8])).to_bytes(8, "little")
    return TaskID(own + TaskID.for_driver_task(JOB).binary()[8:])


def of_actor(session: bytes, serial: int) -> ActorID:
    """The id of the actor that is a session's task with that number."""
    own = (serial ^ _number(session[:8])).to_bytes(8, "little")
    return ActorID(own + session[8:12] + JOB.binary())


def serial_of(session: bytes, task: TaskID) -> int:
    """The number in the session of the task with that id. One of another session gives a number
    that no task has."""
    return 0 if task.is_nil() else _number(task.binary()[:8]) ^ _number(session[:8])


def of_worker(session: bytes, slot: int, epoch: int) -> WorkerID:
    """The id of the process that is the client `slot` of a session for the `epoch`-th time."""
    return WorkerID(_digest(session + slot.to_bytes(8, "little") + epoch.to_bytes(8, "little")))


def of_node(session: bytes) -> NodeID:
    """The id of a session's machine."""
    return NodeID(_digest(session))


def _digest(text: bytes) -> bytes:
    import hashlib

    return hashlib.blake2b(text, digest_size=UniqueID.SIZE).digest()


def _number(raw: bytes) -> int:
    return int.from_bytes(raw, "little")


def _checked(id: _Id, kind: type[_Id]) -> _Id:
    if type(id) is not kind:
        raise TypeError(f"expected a {kind.__name__}, got {id!r}")
    return id
