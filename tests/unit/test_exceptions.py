"""What may be caught as what, and that every error survives the trip between processes."""

from __future__ import annotations

import inspect
import pickle
import threading
from typing import Any

import cloudpickle
import pytest

from plasmid import exceptions
from plasmid.exceptions import (
    ObjectLostError,
    PlasmidError,
    RayTaskError,
    TaskCancelledError,
    UnserializableException,
    WorkerCrashedError,
)

ALL = [getattr(exceptions, name) for name in exceptions.__all__]

# The public classes of ray.exceptions in Ray 2.60.
RAYS = [
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
    "NodeDiedError",
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
    "RayActorError",
    "RayCgraphCapacityExceeded",
    "RayChannelError",
    "RayChannelTimeoutError",
    "RayDirectTransportError",
    "RayError",
    "RaySystemError",
    "RayTaskError",
    "ReferenceCountingAssertionError",
    "RpcError",
    "RuntimeEnvSetupError",
    "StreamingGeneratorReplayInconsistentError",
    "TaskCancelledError",
    "TaskPlacementGroupRemoved",
    "TaskUnschedulableError",
    "UnserializableException",
    "UserCodeException",
    "WorkerCrashedError",
]


def example(kind: type[PlasmidError]) -> PlasmidError:
    if kind is RayTaskError:
        text = "Traceback ...\nValueError: no\n"
        return RayTaskError("f", text, ValueError("no"), "proctitle", 7, "10.0.0.1")
    return kind("some words")


def fields(error: BaseException) -> tuple[Any, ...]:
    cause = error.__dict__.get("cause")
    shown = {name: value for name, value in error.__dict__.items() if name != "cause"}
    return type(error).__mro__[1:], repr(error), str(error), shown, repr(cause)


def travel(error: BaseException) -> Any:
    return pickle.loads(cloudpickle.dumps(error))


def test_all_of_rays_names_are_there() -> None:
    assert set(RAYS) <= set(exceptions.__all__)


def test_all_names_every_class_and_nothing_else() -> None:
    defined = {
        name
        for name, value in vars(exceptions).items()
        if inspect.isclass(value) and issubclass(value, PlasmidError)
    }
    assert set(exceptions.__all__) == defined
    assert exceptions.__all__ == sorted(exceptions.__all__)


def test_the_root_has_rays_name_too() -> None:
    assert exceptions.RayError is PlasmidError


@pytest.mark.parametrize("kind", ALL, ids=lambda kind: kind.__name__)
def test_is_in_the_tree_drawn_on_top_with_its_builtin(kind: type[PlasmidError]) -> None:
    assert issubclass(kind, PlasmidError)
    assert exceptions.__doc__ is not None
    assert kind.__name__ in exceptions.__doc__
    for base in kind.__bases__:
        assert base.__name__ in exceptions.__doc__ or base is Exception


@pytest.mark.parametrize("kind", ALL, ids=lambda kind: kind.__name__)
def test_says_what_it_was_given_and_survives_pickling(kind: type[PlasmidError]) -> None:
    error = example(kind)
    if kind not in (RayTaskError, exceptions.TaskCancelledError, exceptions.RayActorError):
        assert "some words" in str(error)
    assert fields(travel(error)) == fields(error)


def test_builtin_that_a_user_would_catch() -> None:
    with pytest.raises(TimeoutError):
        raise exceptions.GetTimeoutError("late")
    with pytest.raises(MemoryError):
        raise exceptions.TableFullError("full")
    with pytest.raises(LookupError):
        raise exceptions.ObjectFreedError("ab")
    with pytest.raises(NotImplementedError):
        raise exceptions.NotSupportedError("not yet")


def test_object_lost_is_made_from_an_id_or_from_a_message() -> None:
    assert str(ObjectLostError("abcd")).startswith("object abcd: ")
    assert str(exceptions.OwnerDiedError("abcd", None, "")).startswith("object abcd: the process")
    assert str(ObjectLostError("get: no such object")) == "get: no such object"


class Stubborn(PlasmidError):
    def __init__(self, *, first: int, second: int) -> None:
        super().__init__(f"{first} {second}")
        self.first = first


def test_a_subclass_with_required_keywords_survives_pickling() -> None:
    error = travel(Stubborn(first=1, second=2))
    assert (type(error), str(error), error.first) == (Stubborn, "1 2", 1)


@pytest.mark.parametrize(
    ("status", "words", "exit_code", "signal"),
    [
        (-9, "killed by signal 9 (SIGKILL)", None, 9),
        (3, "exited with code 3", 3, None),
        (None, "not known", None, None),
        (-300, "killed by signal 300", None, 300),
    ],
)
def test_worker_crashed_names_task_process_and_signal(
    status: int | None, words: str, exit_code: int | None, signal: int | None
) -> None:
    error = WorkerCrashedError.died("f", 123, status)
    assert words in str(error)
    assert "f()" in str(error)
    assert "123" in str(error)
    assert (error.pid, error.exit_code, error.signal) == (123, exit_code, signal)
    assert fields(travel(error)) == fields(error)


# -- RayTaskError --


class Odd(Exception):
    """Passes fewer arguments on than its constructor needs, as many real ones do."""

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(f"{code}: {reason}")
        self.code = code

    def doubled(self) -> int:
        return self.code * 2


class Slotted(Exception):
    __slots__ = ("place",)


class Unloadable(Exception):
    def __reduce__(self) -> Any:
        return refuse_to_load, ()


def refuse_to_load() -> None:
    raise RuntimeError("this process does not have it")


class Final(Exception):
    def __init_subclass__(cls) -> None:
        raise TypeError("no subclasses")


class BadStr(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no text")


def captured(error: BaseException, name: str = "f") -> RayTaskError:
    try:
        raise error
    except BaseException as raised:
        return RayTaskError.capture(name, raised, skip=0)


def slotted(place: str) -> Slotted:
    error = Slotted("somewhere")
    error.place = place
    return error


@pytest.mark.parametrize(
    "cause",
    [
        ValueError("bad", 3),
        KeyError("key"),
        Odd(5, "why"),
        slotted("here"),
        FileNotFoundError(2, "No such file", "/nowhere"),
        UnicodeDecodeError("utf-8", b"\xff", 0, 1, "invalid"),
        ExceptionGroup("several", [ValueError(1), KeyError(2)]),
        ImportError("no module", name="m", path="p"),
        exceptions.ObjectLostError("abcd"),
        exceptions.GetTimeoutError("late"),
    ],
    ids=lambda cause: type(cause).__name__,
)
def test_is_an_instance_of_its_cause_with_its_args_and_fields(cause: Exception) -> None:
    for error in (
        captured(cause).as_instanceof_cause(),
        travel(captured(cause)).as_instanceof_cause(),
    ):
        assert isinstance(error, RayTaskError)
        assert isinstance(error, type(cause))
        assert type(error).__name__ == f"RayTaskError({type(cause).__name__})"
        assert repr(error.args) == repr(cause.args)
        assert error.function_name == "f"
        for name in (
            "code",
            "place",
            "errno",
            "filename",
            "reason",
            "name",
            "object_ref_hex",
        ):
            if hasattr(cause, name):
                assert getattr(error, name) == getattr(cause, name)
        assert fields(travel(error)) == fields(error)


def test_text_has_type_message_function_pid_and_remote_traceback_in_that_order() -> None:
    error = captured(ValueError("Intentional error"), "failing_task").as_instanceof_cause()
    text = str(error)
    places = [
        text.index(part)
        for part in (
            "ValueError: Intentional error",
            "failing_task()",
            str(error.pid),
            "Traceback",
            "raise error",
        )
    ]
    assert places == sorted(places)


def test_text_of_a_key_error_is_not_quoted() -> None:
    assert str(captured(KeyError("k")).as_instanceof_cause()).startswith("KeyError: 'k'\n")


def test_methods_of_the_causes_class_work() -> None:
    error: Any = captured(Odd(5, "why")).as_instanceof_cause()
    assert error.doubled() == 10
    with pytest.raises(AttributeError, match="nothing"):
        _ = error.nothing


def test_cause_of_a_nested_task_is_the_innermost() -> None:
    inner = captured(KeyError("k"), "inner").as_instanceof_cause()
    outer = captured(inner, "outer").as_instanceof_cause()
    assert type(outer.cause) is KeyError
    assert isinstance(outer, KeyError)
    assert "inner()" in str(outer)
    assert "outer()" in str(outer)


class Exhausted(StopIteration):
    pass


@pytest.mark.parametrize(
    "cause",
    [
        Final("x"),
        Exception("plain"),
        StopIteration(4),
        StopAsyncIteration(),
        Exhausted(5),
    ],
)
def test_stays_a_plain_task_error_where_it_cannot_or_must_not_be_both(cause: BaseException) -> None:
    error = captured(cause).as_instanceof_cause()
    assert type(error) is RayTaskError
    assert type(error.cause) is type(cause)


@pytest.mark.parametrize(
    ("cause", "kind"),
    [(SystemExit(3), WorkerCrashedError), (KeyboardInterrupt(), TaskCancelledError)],
)
def test_what_would_end_the_program_becomes_the_class_that_ray_gives_it(
    cause: BaseException, kind: type[PlasmidError]
) -> None:
    error = captured(cause).as_instanceof_cause()
    assert isinstance(error, kind)
    assert isinstance(error, RayTaskError)
    assert not isinstance(error, type(cause))
    assert error.cause is cause
    assert str(error).startswith(type(cause).__name__)


def test_without_a_cause_it_shows_the_traceback() -> None:
    error = RayTaskError("f", "what happened", None)
    assert "what happened" in str(error.as_instanceof_cause())


def test_parts_that_cannot_be_pickled_are_left_out() -> None:
    cause = Odd(5, "why")
    cause.lock = threading.Lock()  # type: ignore[attr-defined]
    cause.args = ("text", threading.Lock())
    error = travel(captured(cause)).as_instanceof_cause()
    assert isinstance(error, Odd)
    assert error.code == 5
    assert error.args[0] == "text"
    assert "lock" in error.args[1]
    with pytest.raises(AttributeError):
        _ = error.lock


def test_a_cause_whose_own_pickling_fails_is_rebuilt_from_its_parts() -> None:
    error = travel(captured(Unloadable("still here"))).as_instanceof_cause()
    assert isinstance(error, Unloadable)
    assert error.args == ("still here",)


def test_a_cause_that_does_not_exist_in_this_process_leaves_the_text() -> None:
    error = captured(Odd(5, "why"))
    packed = pickle.dumps(error).replace(b"Odd", b"Gon")
    arrived = pickle.loads(packed).as_instanceof_cause()
    assert isinstance(arrived, UnserializableException)
    assert "Odd: 5: why" in str(arrived) or "Gon: 5: why" in str(arrived)


class Leaving(BaseException):
    """What no `except Exception` catches."""


class Hostile(Exception):
    def __reduce__(self) -> Any:
        raise Leaving

    def __str__(self) -> str:
        raise Leaving

    __repr__ = __str__


class Trap(Exception):
    """Springs where it is loaded, if it is not disarmed."""

    armed = False

    def __reduce__(self) -> Any:
        return spring, ()


def spring() -> Any:
    if Trap.armed:
        raise SystemExit(3)
    return Trap("rebuilt")


def test_a_cause_whose_code_ends_processes_ends_none(monkeypatch: pytest.MonkeyPatch) -> None:
    error = travel(captured(ValueError("text", threading.Lock(), Hostile())))
    assert error.cause.args[0] == "text"
    assert "Hostile" in str(travel(captured(Hostile())))
    packed = pickle.dumps(captured(Trap()))
    assert type(pickle.loads(packed).cause) is Trap
    monkeypatch.setattr(Trap, "armed", True)
    assert isinstance(pickle.loads(packed).cause, UnserializableException)
    with pytest.raises(KeyboardInterrupt):
        travel(captured(Interrupted()))


class Interrupted(Exception):
    def __reduce__(self) -> Any:
        raise KeyboardInterrupt


def test_a_cause_whose_str_raises_is_reported_all_the_same() -> None:
    assert "BadStr" in str(travel(captured(BadStr())).as_instanceof_cause())


def test_outermost_frames_are_dropped() -> None:
    def worker_loop() -> None:
        task()

    def task() -> None:
        raise ValueError

    try:
        worker_loop()
    except ValueError as error:
        text = RayTaskError.capture("task", error, skip=2).traceback_str
    assert "in task" in text
    assert "in worker_loop" not in text
