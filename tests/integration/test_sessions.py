"""Beginning and end of sessions: many in one process, and what one leaves to the next."""

from __future__ import annotations

import gc
import os
import threading
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support import (
    Gate,
    arena,
    descriptors,
    mappings,
    processes,
    run_program,
    sleeps,
    threads,
    until,
)

import plasmid
from plasmid.engine import current
from plasmid.exceptions import ObjectLostError, PlasmidError, SessionError
from plasmid.runtime.session import Session

SMALL = {"num_cpus": 1, "object_store_memory": 4 << 20}


@plasmid.remote
def identity(value: Any) -> Any:
    return value


def test_a_session_begins_and_ends() -> None:
    assert not plasmid.is_initialized()
    plasmid.init(**SMALL)
    assert plasmid.is_initialized()
    assert plasmid.get(identity.remote(1)) == 1
    plasmid.shutdown()
    assert not plasmid.is_initialized()


def test_many_sessions_one_after_the_other_leave_nothing() -> None:
    before = descriptors(), threads(), mappings()
    for n in range(10):
        plasmid.init(**SMALL)
        if n % 3:
            _work(n)
        plasmid.shutdown()
        assert processes() == set()
        assert (descriptors(), threads(), mappings()) == before


def _work(n: int) -> None:
    ref = identity.remote(np.full(1000, n))
    assert plasmid.get(ref)[0] == n
    assert ref.future().result()[0] == n


def test_a_remote_function_keeps_nothing_of_an_ended_session() -> None:
    plasmid.init(**SMALL)
    plasmid.get(identity.remote(1))
    plasmid.shutdown()
    assert mappings() == []


def test_shutdown_without_a_session_and_twice_does_nothing() -> None:
    plasmid.shutdown()
    plasmid.init(**SMALL)
    plasmid.shutdown()
    plasmid.shutdown()


def test_init_twice_is_an_error_unless_it_may_use_what_is_there() -> None:
    first = plasmid.init(**SMALL)
    ref = plasmid.put("kept")
    with pytest.raises(RuntimeError, match="ignore_reinit_error"):
        plasmid.init(**SMALL)
    second = plasmid.init(num_cpus=7, ignore_reinit_error=True)
    assert first.address_info == second.address_info
    assert plasmid.get(ref) == "kept"


def test_the_context_manager_ends_the_session() -> None:
    with plasmid.init(**SMALL) as context:
        assert context["address"] == context.address_info["address"]
        assert plasmid.is_initialized()
    assert not plasmid.is_initialized()
    with pytest.raises(KeyError), plasmid.init(**SMALL):
        raise KeyError
    assert not plasmid.is_initialized()


def test_two_sessions_have_different_names() -> None:
    with plasmid.init(**SMALL) as one:
        pass
    with plasmid.init(**SMALL) as two:
        pass
    assert one["session_name"] != two["session_name"]
    assert one["address"] != two["address"]


def test_a_session_begins_by_itself_with_the_first_use() -> None:
    out, _ = run_program("""
        import os, plasmid
        assert not plasmid.is_initialized()
        print(plasmid.get(plasmid.put(1)), plasmid.is_initialized())
        plasmid.shutdown()
        f = plasmid.remote(lambda x: x + 1)
        print(plasmid.get(f.remote(1)), plasmid.is_initialized())
        print(plasmid.cluster_resources()["CPU"] == len(os.sched_getaffinity(0)))
        """)
    assert out.splitlines()[:2] == ["1 True", "2 True"]


@pytest.mark.parametrize(
    "call",
    [plasmid.cluster_resources, plasmid.available_resources, plasmid.nodes],
    ids=lambda call: call.__name__,
)
def test_questions_about_a_session_need_one(call: Any) -> None:
    with pytest.raises(SessionError, match="init"):
        call()
    assert not plasmid.is_initialized()


# References and views of a session that has ended -------------------------------------------------


def test_references_of_an_earlier_session_are_refused_everywhere() -> None:
    plasmid.init(**SMALL)
    ref = plasmid.put("old")
    text, key = repr(ref), hash(ref)
    plasmid.shutdown()
    assert (repr(ref), hash(ref)) == (text, key)
    with pytest.raises(SessionError):
        ref.future()
    plasmid.init(**SMALL)
    new = plasmid.put("new")
    assert ref != new
    for use in (
        lambda: plasmid.get(ref),
        lambda: plasmid.get([new, ref]),
        lambda: plasmid.wait([new, ref], num_returns=2),
        lambda: plasmid.put([ref]),
        lambda: identity.remote(ref),
        lambda: identity.remote([ref]),
    ):
        with pytest.raises((ObjectLostError, SessionError), match="session"):
            use()
    with pytest.raises(TypeError, match="list"):
        plasmid.put(ref)
    assert plasmid.get(new) == "new"
    arena().check()


def test_without_a_session_a_reference_of_the_last_one_starts_none_for_nothing() -> None:
    plasmid.init(**SMALL)
    ref = plasmid.put("old")
    plasmid.shutdown()
    with pytest.raises(PlasmidError):
        plasmid.get(ref)


def test_views_outlive_their_session_and_the_next_one() -> None:
    plasmid.init(**SMALL)
    array = plasmid.get(plasmid.put(np.arange(10_000)))
    result = plasmid.get(identity.remote(np.arange(5_000)))
    plasmid.shutdown()
    plasmid.init(**SMALL)
    for _ in range(50):
        plasmid.put(np.zeros(10_000))
    np.testing.assert_array_equal(array, np.arange(10_000))
    np.testing.assert_array_equal(result, np.arange(5_000))
    assert len(mappings()) > len(_mappings_of_one_session())
    del array, result
    gc.collect()
    assert mappings() == _mappings_of_one_session()


def _mappings_of_one_session() -> list[str]:
    inode = os.fstat(arena().fd).st_ino
    return [line for line in mappings() if line.split()[4] == str(inode)]


def test_a_reference_dropped_after_its_session_harms_nothing() -> None:
    plasmid.init(**SMALL)
    refs = [plasmid.put(np.zeros(1000)) for _ in range(10)]
    pending = [identity.remote(n) for n in range(10)]
    plasmid.shutdown()
    plasmid.init(**SMALL)
    mine = [plasmid.put(n) for n in range(10)]
    del refs, pending
    gc.collect()
    arena().check()
    assert plasmid.get(mine) == list(range(10))


def test_a_remote_function_works_in_the_next_session() -> None:
    table = {"n": 5}

    @plasmid.remote
    def look() -> int:
        return table["n"]

    for _ in range(3):
        with plasmid.init(**SMALL):
            assert plasmid.get(look.remote()) == 5


# Ends in the middle of things ---------------------------------------------------------------------


def test_shutdown_ends_running_and_queued_tasks(tmp_path: Path) -> None:
    gate = Gate(tmp_path)

    @plasmid.remote
    def sit(gate: Gate) -> None:
        gate.wait()

    plasmid.init(**SMALL)
    refs = [sit.remote(gate) for _ in range(5)]
    gate.await_arrivals(1)
    plasmid.shutdown()
    assert processes() == set()
    gate.open()
    assert gate.arrived() == 1
    assert len(refs) == 5


def test_threads_that_wait_when_the_session_ends_get_a_session_error(tmp_path: Path) -> None:
    gate = Gate(tmp_path)

    @plasmid.remote(num_cpus=0)
    def sit(gate: Gate) -> None:
        gate.wait()

    plasmid.init(**SMALL)
    ref, found = sit.remote(gate), []

    def wait(how: Any) -> None:
        try:
            how()
        except SessionError as error:
            found.append(str(error))

    ways = [lambda: plasmid.get(ref), lambda: plasmid.wait([ref]), lambda: ref.future().result()]
    running = [threading.Thread(target=wait, args=(way,)) for way in ways * 2]
    for thread in running:
        thread.start()
    until(lambda: sum(map(sleeps, running)) == len(running))
    plasmid.shutdown()
    for thread in running:
        thread.join()
    assert found == ["the session has been shut down"] * 6
    gate.open()


def test_a_callback_of_a_future_starts_no_session_during_shutdown(tmp_path: Path) -> None:
    gate, found = Gate(tmp_path), []

    @plasmid.remote
    def sit(gate: Gate) -> None:
        gate.wait()

    def use(done: Any) -> None:
        try:
            plasmid.put(1)
        except SessionError as error:
            found.append(str(error))

    plasmid.init(**SMALL)
    sit.remote(gate).future().add_done_callback(use)
    gate.await_arrivals(1)
    plasmid.shutdown()
    assert found == ["no session can be started here: the session is being shut down"]
    assert not plasmid.is_initialized()
    gate.open()


def test_an_interrupted_shutdown_keeps_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    plasmid.init(**SMALL)
    plasmid.get(identity.remote(1))
    close = Session.close

    def interrupted(session: Session) -> None:
        close(session)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Session, "close", interrupted)
        with pytest.raises(KeyboardInterrupt):
            plasmid.shutdown()
    gc.collect()
    assert mappings() == []
    with plasmid.init(**SMALL):
        assert plasmid.get(identity.remote(2)) == 2


def test_a_session_started_by_a_thread_that_ends_is_the_programs() -> None:
    thread = threading.Thread(target=lambda: plasmid.init(**SMALL))
    thread.start()
    thread.join()
    assert plasmid.get(identity.remote(1)) == 1


def test_only_one_session_begins_when_many_threads_are_the_first_to_use_it() -> None:
    out, _ = run_program("""
        import threading, plasmid
        from plasmid.engine import current
        barrier, engines = threading.Barrier(6), set()
        def work():
            barrier.wait()
            plasmid.get(plasmid.put(1))
            engines.add(id(current.engine))
        threads = [threading.Thread(target=work) for _ in range(6)]
        for t in threads: t.start()
        for t in threads: t.join()
        print(len(engines))
        """)
    assert out == "1\n"


def test_a_program_that_ends_by_an_exception_or_exit_ends_its_session() -> None:
    for ending, status in (("raise KeyError", 1), ("sys.exit(7)", 7), ("pass", 0)):
        out, _ = run_program(
            f"""
            import os, sys, plasmid
            plasmid.init(num_cpus=1, object_store_memory=4 << 20)
            print(plasmid.get(plasmid.remote(os.getpid).remote()) if False else
                  plasmid.get(plasmid.remote(lambda: os.getpid()).remote()), flush=True)
            {ending}
            """,
            status=status,
        )
        until(partial(_is_gone, out.strip()))


def _is_gone(pid: str) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] in "ZX"
    except OSError:
        return True


def test_a_forked_child_has_no_session_and_ends_without_harming_its_parents() -> None:
    out, err = run_program("""
        import os, plasmid
        plasmid.init(num_cpus=1, object_store_memory=4 << 20)
        ref = plasmid.put("parent")
        view = plasmid.get(plasmid.put(b"x" * 100_000))
        child = os.fork()
        if child == 0:
            try:
                plasmid.get(ref)
            except plasmid.exceptions.SessionError as error:
                print("refused" if "fork" in str(error) else error, flush=True)
            raise SystemExit(5)
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
        print(plasmid.get(ref), plasmid.get(plasmid.remote(lambda: 1).remote()))
        """)
    assert (out, err) == ("refused\n5\nparent 1\n", "")


def test_a_task_finds_a_session_and_does_not_end_it() -> None:
    @plasmid.remote
    def look() -> tuple[bool, float]:
        return plasmid.is_initialized(), plasmid.cluster_resources()["CPU"]

    plasmid.init(**SMALL)
    assert plasmid.get(look.remote()) == (True, 1.0)
    assert plasmid.get(look.remote()) == (True, 1.0)


def test_shutdown_in_a_task_has_no_effect() -> None:
    @plasmid.remote
    def end() -> tuple[str, str, int]:
        before = current.engine.address_info()["session_name"]
        plasmid.shutdown()
        with plasmid.init(ignore_reinit_error=True) as context:
            pass
        return before, context["session_name"], plasmid.get(identity.remote(7))

    name = plasmid.init(**SMALL)["session_name"]
    for _ in range(2):
        assert plasmid.get(end.remote()) == (name, name, 7)
    assert plasmid.is_initialized()


def test_init_in_a_task_is_refused_or_uses_the_session() -> None:
    @plasmid.remote
    def start() -> str:
        plasmid.init(ignore_reinit_error=True)
        try:
            plasmid.init()
        except RuntimeError as error:
            return str(error)
        return "no error"

    plasmid.init(**SMALL)
    assert "session already" in plasmid.get(start.remote())


# Bad numbers --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"object_store_memory": 0}, ValueError, "positive"),
        ({"object_store_memory": -5}, ValueError, "positive"),
        ({"object_store_memory": "1GB"}, TypeError, "number"),
        ({"object_store_memory": 1000}, ValueError, "at least 1048576"),
        ({"object_store_memory": 1 << 60}, (ValueError, PlasmidError), r"\d{6,}"),
        ({"num_cpus": -1}, ValueError, "negative"),
        ({"num_cpus": 1.5}, ValueError, "whole"),
        ({"no_such_argument": 1}, TypeError, "no_such_argument"),
    ],
)
def test_a_session_that_cannot_be_is_refused_with_the_numbers(arguments, error, message) -> None:
    with pytest.raises(error, match=message):
        plasmid.init(**arguments)
    assert not plasmid.is_initialized()


def test_the_smallest_store_works() -> None:
    with plasmid.init(num_cpus=1, object_store_memory=1 << 20):
        assert plasmid.get(identity.remote(b"x" * 100_000)) == b"x" * 100_000


def test_a_session_without_cpus_runs_tasks_that_need_none() -> None:
    with plasmid.init(num_cpus=0, object_store_memory=1 << 20):
        assert plasmid.get(identity.options(num_cpus=0).remote(1)) == 1
        with pytest.raises(PlasmidError, match="num_cpus=1"):
            identity.remote(1)


def test_the_program_may_have_few_descriptors() -> None:
    out, _ = run_program("""
        import resource, plasmid
        resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))
        plasmid.init(num_cpus=2, object_store_memory=4 << 20)
        f = plasmid.remote(lambda x: x)
        print(sum(plasmid.get([f.remote(n) for n in range(100)])))
        """)
    assert out == "4950\n"


def test_from_a_folder_that_has_been_deleted(tmp_path: Path) -> None:
    out, _ = run_program(
        """
        import os, sys
        os.mkdir(sys.argv[1]); os.chdir(sys.argv[1]); os.rmdir(sys.argv[1])
        import plasmid
        print(plasmid.get(plasmid.remote(lambda: 1).remote()))
        """,
        str(tmp_path / "gone"),
    )
    assert out == "1\n"
