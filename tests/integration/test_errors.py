"""What a task's failure looks like from outside, and that nothing else suffers from it."""

from __future__ import annotations

import asyncio
import os
import signal
import threading
import traceback
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support import STORE, Gate, arena, run_program, until

import plasmid
from plasmid.exceptions import (
    GetTimeoutError,
    ObjectStoreFullError,
    PlasmidError,
    RayTaskError,
    UnserializableException,
    WorkerCrashedError,
)

pytestmark = pytest.mark.usefixtures("session")


@plasmid.remote
def identity(value: Any = None) -> Any:
    return value


@plasmid.remote
def call(function: Any, *args: Any) -> Any:
    return function(*args)


class NeedsTwo(Exception):
    """Its constructor does not take what args holds."""

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(f"{code}: {reason}")
        self.code = code
        self.reason = reason


class HasLock(Exception):
    def __init__(self, text: str) -> None:
        super().__init__(text, threading.Lock())
        self.lock = threading.Lock()
        self.kept = "kept"


class Rude(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no text")

    __repr__ = __str__


class NotAgain(Exception):
    """Pickles, and fails to be made again."""

    def __reduce__(self) -> Any:
        return _refuse, ()


def _refuse() -> None:
    raise RuntimeError("not here")


@plasmid.remote
def raises(make: Any) -> None:
    raise make()


def error_of(ref: Any) -> RayTaskError:
    with pytest.raises(RayTaskError) as caught:
        plasmid.get(ref)
    return caught.value


def raised(make: Any) -> RayTaskError:
    """What comes out of a task that raises what `make` makes."""
    return error_of(raises.remote(make))


# An exception's class and contents ----------------------------------------------------------------


@pytest.mark.parametrize(
    "make",
    [
        lambda: ValueError("a", 1),
        lambda: KeyError("k"),
        ZeroDivisionError,
        lambda: FileNotFoundError(2, "none", "/x"),
        lambda: UnicodeDecodeError("utf-8", b"\xff", 0, 1, "bad"),
        AssertionError,
        lambda: NeedsTwo(3, "why"),
        lambda: np.linalg.LinAlgError("singular"),
    ],
    ids=lambda make: type(make()).__name__,
)
def test_what_get_raises_is_of_the_class_that_the_task_raised(make: Any) -> None:
    error = make()
    with pytest.raises(type(error)) as caught:
        plasmid.get(raises.remote(make))
    found = caught.value
    assert isinstance(found, RayTaskError)
    assert isinstance(found, PlasmidError)
    assert type(found.cause) is type(error)
    assert found.cause.args == error.args
    assert found.args == error.args


def test_stop_iteration_is_not_taken_for_a_result() -> None:
    """`await ref` returned 3: that is how a coroutine ends which such an exception leaves."""

    async def await_it(ref: Any) -> Any:
        return await ref

    ref = raises.remote(lambda: StopIteration(3))
    assert type(error_of(ref).cause) is StopIteration
    with pytest.raises(RayTaskError, match="StopIteration: 3"):
        asyncio.run(await_it(ref))


def test_references_in_an_error_arrive() -> None:
    @plasmid.remote
    def fails(array: bool) -> None:
        inner = plasmid.put(np.arange(10_000) if array else "small")
        raise ValueError("text", inner, [identity.remote(2)]) from KeyError(plasmid.put(3))

    @plasmid.remote
    def passes_on(ref: Any) -> None:
        plasmid.get(ref)

    for array in (True, False):
        ref = fails.remote(array)
        for failed in (ref, identity.remote(ref), passes_on.remote([ref]), passes_on.remote(ref)):
            cause = error_of(failed).cause
            value = plasmid.get(cause.args[1])
            assert value[-1] == (9_999 if array else "l")
            assert plasmid.get(cause.args[2]) == [2]
    cause = error_of(ref).cause
    assert plasmid.get(cause.__cause__.args[0]) == 3


def test_an_error_whose_code_ends_processes_ends_no_worker() -> None:
    @plasmid.remote(max_retries=0)
    def fails() -> None:
        class Hostile(Exception):
            def __reduce__(self) -> Any:
                raise SystemExit(3)

            def __str__(self) -> str:
                raise GeneratorExit

        raise Hostile

    assert "Hostile" in RayTaskError.__str__(error_of(fails.remote()))


def test_attributes_of_the_error_are_there() -> None:
    found = raised(lambda: NeedsTwo(404, "gone"))
    assert (found.code, found.reason) == (404, "gone")
    found = raised(lambda: FileNotFoundError(2, "none", "/x"))
    assert (found.errno, found.filename) == (2, "/x")


def test_the_text_tells_function_process_line_and_the_remote_traceback() -> None:
    @plasmid.remote
    def divide(a: int, b: int) -> tuple[int, float]:
        return inner(a, b)

    def inner(a: int, b: int) -> Any:
        return os.getpid(), a / b

    pid, _ = plasmid.get(divide.remote(1, 1))
    found = error_of(divide.options(num_cpus=2).remote(1, 0))
    assert found.function_name == "divide"
    assert found.pid != os.getpid()
    text = str(found)
    assert text.startswith("ZeroDivisionError: division by zero")
    assert f"Raised by divide() in process {found.pid}" in text
    assert "return os.getpid(), a / b" in text
    assert "in inner" in text
    assert found.traceback_str in text
    assert "worker.py" not in text, "frames of plasmid are left out"
    assert text in "".join(traceback.format_exception(found))
    assert pid != os.getpid()


def test_causes_contexts_and_notes_come_along() -> None:
    @plasmid.remote
    def chained() -> None:
        try:
            raise KeyError("first")
        except KeyError as error:
            problem = ValueError("second")
            problem.add_note("a note")
            raise problem from error

    found = error_of(chained.remote())
    assert isinstance(found.cause.__cause__, KeyError)
    assert found.cause.__cause__.args == ("first",)
    assert found.cause.__notes__ == ["a note"]
    assert "direct cause" in str(found)
    assert "first" in str(found)


def test_exception_groups_come_with_their_members() -> None:
    found = raised(
        lambda: ExceptionGroup("several", [ValueError(1), ExceptionGroup("in", [KeyError(2)])])
    )
    assert isinstance(found, ExceptionGroup)
    assert [type(error) for error in found.exceptions] == [ValueError, ExceptionGroup]
    caught: list[type] = []
    try:
        plasmid.get(raises.remote(lambda: ExceptionGroup("g", [ValueError(1), KeyError(2)])))
    except* ValueError:
        caught.append(ValueError)
    except* KeyError:
        caught.append(KeyError)
    assert caught == [ValueError, KeyError]


def test_what_of_an_error_cannot_be_pickled_is_left_out() -> None:
    found = raised(lambda: HasLock("text"))
    assert isinstance(found, HasLock)
    assert found.args[0] == "text"
    assert "lock" in found.args[1]
    assert found.cause.kept == "kept"


def test_an_error_without_a_text_is_still_an_error() -> None:
    found = raised(Rude)
    assert isinstance(found, Rude)
    assert "Rude" in RayTaskError.__str__(found)


def test_an_error_that_cannot_be_rebuilt_is_named() -> None:
    found = raised(lambda: NotAgain("x"))
    assert isinstance(found, UnserializableException) or type(found.cause) is NotAgain
    assert "NotAgain" in str(found)


def test_errors_of_local_classes_and_of_main() -> None:
    class Local(LookupError):
        pass

    with pytest.raises(Local):
        plasmid.get(raises.remote(lambda: Local("here")))
    out, _ = run_program("""
        import plasmid
        class Mine(Exception):
            def __init__(self, a, b): self.a, self.b = a, b
        @plasmid.remote
        def fails(): raise Mine(1, b=2)
        plasmid.init(num_cpus=1, object_store_memory=4 << 20)
        try:
            plasmid.get(fails.remote())
        except Mine as error:
            print(Mine in type(error).__mro__, error.a, error.b, error.function_name)
        """)
    assert out == "True 1 2 fails\n"


def test_an_error_given_as_a_value_is_a_value() -> None:
    assert isinstance(plasmid.get(identity.remote(ValueError("v"))), ValueError)
    assert isinstance(plasmid.get(plasmid.put(KeyError("v"))), KeyError)


def test_each_get_raises_the_error_anew() -> None:
    ref = raises.remote(lambda: ValueError("x"))
    errors = [error_of(ref) for _ in range(3)]
    assert len({id(error) for error in errors}) == 3
    assert len({len(traceback.extract_tb(error.__traceback__)) for error in errors}) == 1


def test_a_list_raises_the_first_error_in_the_order_of_the_list(gate) -> None:
    @plasmid.remote(num_cpus=0)
    def late(gate: Gate) -> None:
        gate.wait()
        raise KeyError("late")

    refs = [identity.remote(1), late.remote(gate), raises.remote(lambda: ValueError("early"))]
    plasmid.wait([refs[2]])
    gate.open()
    with pytest.raises(KeyError, match="late"):
        plasmid.get(refs)


# Errors on their way ------------------------------------------------------------------------------


def test_dependents_fail_with_the_first_cause_and_do_not_run(gate) -> None:
    ref = raises.remote(lambda: ValueError("first"))
    for _ in range(20):
        ref = identity.remote(ref)

    @plasmid.remote
    def never(gate: Gate, value: Any, *, other: Any) -> None:
        gate.wait()

    last = never.remote(gate, 1, other=ref)
    found = error_of(last)
    assert isinstance(found, ValueError)
    assert found.function_name == "raises"
    assert str(found).count("Raised by") == 1
    assert gate.arrived() == 0


def test_an_error_of_one_of_several_arguments_reaches_every_result() -> None:
    bad = raises.remote(lambda: KeyError("k"))
    for ref in identity.options(num_returns=2).remote(bad):
        with pytest.raises(KeyError):
            plasmid.get(ref)


def test_get_in_a_task_raises_what_the_inner_task_raised_and_it_can_be_caught_there() -> None:
    @plasmid.remote
    def outer(catch: bool) -> str:
        try:
            return plasmid.get(raises.remote(lambda: ValueError("inner")))
        except ValueError as error:
            if catch:
                return f"caught {type(error.cause).__name__} of {error.function_name}"
            raise

    assert plasmid.get(outer.remote(True)) == "caught ValueError of raises"
    found = error_of(outer.remote(False))
    assert isinstance(found, ValueError)
    assert type(found.cause) is ValueError
    assert found.function_name == "outer"
    assert "raises()" in str(found)


# What cannot be sent ------------------------------------------------------------------------------


def test_an_argument_that_cannot_be_pickled_is_named() -> None:
    with pytest.raises(TypeError, match=r"argument 2: obj\[\"lock\"\]: cannot pickle.*lock"):
        call.remote(print, {"lock": threading.Lock()})
    with pytest.raises(TypeError, match=r"argument value: .*lock"):
        identity.remote(value=[threading.Lock()])


def test_a_function_whose_closure_cannot_be_pickled_is_named() -> None:
    lock = threading.Lock()

    @plasmid.remote
    def locked() -> None:
        with lock:
            pass

    with pytest.raises(TypeError, match=r"__closure__\[\"lock\"\]: cannot pickle"):
        locked.remote()


def test_a_result_that_cannot_be_pickled_is_an_error_that_names_it() -> None:
    @plasmid.remote
    def locked() -> Any:
        return [1, {"lock": threading.Lock()}]

    found = error_of(locked.remote())
    assert isinstance(found, TypeError)
    assert found.function_name == "locked"
    assert str(found).startswith('TypeError: result of locked(): obj[1]["lock"]: cannot pickle')
    for ref in locked.options(num_returns=2).remote():
        with pytest.raises(TypeError, match=r"result 2 of 2 of locked\(\): obj\[\"lock\"\]"):
            plasmid.get(ref)


class Stubborn:
    """Pickles well, and refuses to be made again."""

    def __init__(self, where: int) -> None:
        self.where = where

    def __reduce__(self) -> Any:
        return _refuse_elsewhere, (self.where,)


def _refuse_elsewhere(where: int) -> Any:
    if os.getpid() != where:
        raise RuntimeError("only at home")
    return Stubborn(where)


def test_an_argument_that_cannot_be_rebuilt_fails_the_task() -> None:
    for argument in (Stubborn(os.getpid()), plasmid.put(Stubborn(os.getpid()))):
        found = error_of(identity.remote(argument))
        assert isinstance(found, RuntimeError)
        assert found.function_name == "identity"
        assert "only at home" in str(found)


def test_a_function_that_cannot_be_loaded_in_the_worker_is_an_error_of_its_tasks(tmp_path) -> None:
    out, _ = run_program(
        """
        import os, sys, types
        import plasmid
        module = types.ModuleType("only_here")
        exec("class Thing: pass\\ndef make(): return Thing()", module.__dict__)
        sys.modules["only_here"] = module
        plasmid.init(num_cpus=1, object_store_memory=4 << 20)
        @plasmid.remote
        def uses(): return only_here.make()
        import only_here
        from only_here import Thing
        @plasmid.remote
        def second(): return Thing
        for function in (uses, second):
            for _ in range(2):
                try:
                    print(plasmid.get(function.remote()))
                except ImportError as error:
                    print(type(error.cause).__name__, error.function_name, error.name)
        print(plasmid.get(plasmid.remote(lambda: "alive").remote()))
        """
    )
    assert out.splitlines() == [
        *["ModuleNotFoundError uses only_here"] * 2,
        *["ModuleNotFoundError second only_here"] * 2,
        "alive",
    ]


def test_an_import_that_fails_inside_a_task_is_its_error() -> None:
    @plasmid.remote
    def imports() -> None:
        import no_such_module_anywhere  # noqa: F401

    with pytest.raises(ModuleNotFoundError, match="no_such_module_anywhere") as caught:
        plasmid.get(imports.remote())
    assert caught.value.name == "no_such_module_anywhere"


# No room ------------------------------------------------------------------------------------------


def test_a_result_without_room_is_a_store_full_error_with_the_sizes() -> None:
    @plasmid.remote
    def large(nbytes: int) -> bytes:
        return b"x" * nbytes

    with pytest.raises(
        ObjectStoreFullError, match=rf"result of large\(\).* {STORE + 64} bytes"
    ) as full:
        plasmid.get(large.remote(STORE))
    assert isinstance(full.value, MemoryError)
    assert len(plasmid.get(large.remote(STORE // 2))) == STORE // 2


def test_a_full_store_at_an_argument_raises_in_the_caller() -> None:
    before = arena().stats()["heap_used"]
    with pytest.raises(ObjectStoreFullError, match=f"{STORE} bytes"):
        identity.remote(np.zeros(STORE // 8))
    assert arena().stats()["heap_used"] <= before + 10_000


# Ends of a worker ---------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [SystemExit, KeyboardInterrupt, GeneratorExit, StopIteration])
def test_errors_that_would_end_a_program_or_a_loop_fail_the_task_only(
    kind: type[BaseException],
) -> None:
    found = raised(lambda: kind("stop"))
    assert type(found.cause) is kind
    assert not isinstance(found, kind)
    assert f"{kind.__name__}: stop" in str(found)
    assert plasmid.get(identity.remote(1)) == 1


def test_sys_exit_in_a_task_leaves_the_worker_alive() -> None:
    import sys

    @plasmid.remote(num_cpus=2)
    def leave() -> None:
        sys.exit("bye")

    pid = error_of(leave.remote()).pid
    os.kill(pid, 0)


@pytest.mark.parametrize("status", [0, 3])
def test_os_exit_in_a_task_is_a_worker_crash_with_the_status(status: int) -> None:
    @plasmid.remote(max_retries=0)
    def leave() -> None:
        os._exit(status)

    with pytest.raises(
        WorkerCrashedError, match=rf"leave\(\).*process \d+ exited with code {status}"
    ) as caught:
        plasmid.get(leave.remote())
    assert caught.value.exit_code == status
    assert caught.value.signal is None
    assert plasmid.get(identity.remote(1)) == 1


def test_a_worker_killed_by_a_signal_is_a_crash_that_names_signal_and_pid(gate) -> None:
    @plasmid.remote(max_retries=0, num_cpus=0)
    def sit(gate: Gate, path: Path) -> None:
        path.write_text(str(os.getpid()))
        gate.wait()

    path = Path(gate.path + ".pid")
    ref, other = sit.remote(gate, path), identity.remote("other")
    gate.await_arrivals(1)
    pid = int(path.read_text())
    os.kill(pid, signal.SIGKILL)
    with pytest.raises(WorkerCrashedError, match=r"sit\(\).*signal 9 \(SIGKILL\)") as caught:
        plasmid.get(ref)
    assert (caught.value.pid, caught.value.signal) == (pid, 9)
    assert plasmid.get(other) == "other"


def attempts(path: Path) -> int:
    return len(path.read_text()) if path.exists() else 0


def note_attempt(path: Path) -> int:
    with path.open("a") as file:
        file.write(".")
    return attempts(path)


@pytest.mark.parametrize(("max_retries", "runs"), [(0, 1), (1, 2), (3, 4)])
def test_a_task_whose_worker_dies_is_run_again_so_often(tmp_path, max_retries, runs) -> None:
    @plasmid.remote(max_retries=max_retries)
    def dies(path: Path) -> None:
        note_attempt(path)
        os.kill(os.getpid(), signal.SIGKILL)

    with pytest.raises(WorkerCrashedError, match="SIGKILL"):
        plasmid.get(dies.remote(tmp_path / "log"))
    assert attempts(tmp_path / "log") == runs


def test_three_deaths_are_survived_by_default_and_more_with_minus_one(tmp_path) -> None:
    @plasmid.remote
    def dies(path: Path, times: int, array: np.ndarray) -> float:
        if note_attempt(path) <= times:
            os._exit(1)
        return float(array.sum())

    array = plasmid.put(np.ones(1000))
    assert plasmid.get(dies.remote(tmp_path / "a", 3, array)) == 1000
    assert plasmid.get(dies.options(max_retries=-1).remote(tmp_path / "b", 6, array)) == 1000


def test_a_crash_reaches_dependents() -> None:
    @plasmid.remote(max_retries=0)
    def dies() -> None:
        os._exit(7)

    with pytest.raises(WorkerCrashedError, match=r"dies\(\).*code 7"):
        plasmid.get(identity.remote(identity.remote(dies.remote())))


def test_exceptions_are_retried_only_if_asked_for(tmp_path) -> None:
    @plasmid.remote(max_retries=2)
    def fails(path: Path, good: int) -> int:
        number = note_attempt(path)
        if number < good:
            raise ValueError(f"attempt {number}")
        return number

    once, all_kinds = tmp_path / "once", tmp_path / "all"
    with pytest.raises(ValueError, match="attempt 1"):
        plasmid.get(fails.remote(once, 3))
    assert plasmid.get(fails.options(retry_exceptions=True).remote(all_kinds, 3)) == 3
    with pytest.raises(ValueError, match="attempt 3"):
        plasmid.get(fails.options(retry_exceptions=True).remote(tmp_path / "many", 9))
    assert attempts(tmp_path / "many") == 3


@pytest.mark.parametrize(
    ("kinds", "runs"), [([ValueError], 3), ([KeyError, OSError], 1), ([Exception], 3)]
)
def test_only_exceptions_of_the_given_classes_are_retried(tmp_path, kinds, runs) -> None:
    @plasmid.remote(max_retries=2, retry_exceptions=kinds)
    def fails(path: Path) -> None:
        note_attempt(path)
        raise ValueError("x")

    with pytest.raises(ValueError, match="x"):
        plasmid.get(fails.remote(tmp_path / "log"))
    assert attempts(tmp_path / "log") == runs


# Nothing is kept ----------------------------------------------------------------------------------


def test_a_failed_task_lets_go_what_its_frames_referred_to() -> None:
    @plasmid.remote
    def fails(array: np.ndarray) -> None:
        view = array[1:]
        error = ValueError(len(view))
        raise error  # a cycle: the frame holds the error, whose traceback holds the frame

    used = arena().stats()["heap_used"]
    ref = fails.remote(plasmid.put(np.zeros(100_000)))
    plasmid.wait([ref])
    until(lambda: arena().stats()["heap_used"] < used + 100_000, "the worker still has the array")


# Ctrl-C -------------------------------------------------------------------------------------------

INTERRUPTED = """
import os, signal, sys, threading
import plasmid
from support import Gate

plasmid.init(num_cpus=1, object_store_memory=4 << 20)
gate = Gate(__import__("pathlib").Path(sys.argv[1]))

@plasmid.remote
def wait_at(gate):
    gate.wait()
    return "done"

def interrupt_when_it_sleeps(ready):
    gate.await_arrivals(1)
    ready.wait()
    main = f"/proc/self/task/{os.getpid()}/syscall"
    while not open(main).read().startswith("202 "):  # futex
        pass
    os.kill(os.getpid(), signal.SIGINT)

ref = wait_at.remote(gate)
for wait in (
    lambda: plasmid.get(ref),
    lambda: plasmid.wait([ref], timeout=50),
    lambda: ref.future().result(),
):
    ready = threading.Event()
    thread = threading.Thread(target=interrupt_when_it_sleeps, args=(ready,))
    thread.start()
    try:
        ready.set()
        wait()
    except KeyboardInterrupt:
        print("interrupted")
    thread.join()
gate.open()
print(plasmid.get(ref), plasmid.get(plasmid.put(1)))
"""


def test_ctrl_c_ends_get_and_wait_and_leaves_all_usable(tmp_path) -> None:
    out, err = run_program(INTERRUPTED, str(tmp_path), cwd=Path(__file__).parent)
    assert out == "interrupted\n" * 3 + "done 1\n"
    assert err == ""


def test_a_timeout_is_no_task_error(gate) -> None:
    ref = call.options(num_cpus=0).remote(gate.wait)
    with pytest.raises(GetTimeoutError) as caught:
        plasmid.get(ref, timeout=0.01)
    assert not isinstance(caught.value, RayTaskError)
    gate.open()
    plasmid.get(ref)
