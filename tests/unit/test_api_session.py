"""init, shutdown, is_initialized, and which engine is the current one."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from fake_engine import FakeEngine, fake_sessions

import plasmid
from plasmid.engine import SessionConfig, current, get_engine, set_engine
from plasmid.exceptions import NotSupportedError, SessionError


@pytest.fixture
def engines(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[FakeEngine]]:
    yield from fake_sessions(monkeypatch)


# What Ray 2.60 takes, with a value that asks for nothing.
RAYS: dict[str, Any] = {
    "address": "local",
    "num_cpus": 2,
    "num_gpus": 0,
    "resources": {},
    "labels": {"a": "b"},
    "object_store_memory": 10**9,
    "local_mode": False,
    "ignore_reinit_error": True,
    "include_dashboard": True,
    "dashboard_host": "0.0.0.0",
    "dashboard_port": 8265,
    "job_config": None,
    "configure_logging": True,
    "logging_level": "warning",
    "logging_format": "%(message)s",
    "logging_config": None,
    "log_to_driver": False,
    "namespace": "mine",
    "runtime_env": None,
    "enable_resource_isolation": False,
    "cgroup_path": None,
    "system_reserved_cpu": None,
    "system_reserved_memory": None,
    "proxy_server_url": None,
    "_temp_dir": "/tmp/x",
    "_system_config": {"a": 1},
    "_node_ip_address": "1.2.3.4",
    "_metrics_export_port": 1,
    "_memory": 1,
    "_plasma_directory": "/tmp",
    "object_spilling_directory": "/tmp",
}


def test_all_of_rays_arguments_are_taken(engines: list[FakeEngine]) -> None:
    plasmid.init(**RAYS)
    assert engines[0].config == SessionConfig(
        address="local",
        num_cpus=2,
        num_gpus=0,
        memory=1,
        object_store_memory=10**9,
        namespace="mine",
        labels={"a": "b"},
        logging_level="warning",
        log_to_driver=False,
        spill_folder="/tmp",
    )


@pytest.mark.parametrize(
    ("arguments", "kind", "words"),
    [
        ({"num_cpu": 1}, TypeError, "'num_cpu'; did you mean num_cpus"),
        ({"_nothing_like_it": 1}, TypeError, "'_nothing_like_it'"),
        ({"num_cpus": -1}, ValueError, "negative"),
        ({"num_cpus": 1.5}, ValueError, "whole"),
        ({"num_cpus": float("nan")}, ValueError, "finite"),
        ({"num_cpus": "2"}, TypeError, "num_cpus must be a number"),
        ({"num_cpus": True}, TypeError, "num_cpus must be a number"),
        ({"object_store_memory": 0}, ValueError, "positive"),
        ({"object_store_memory": -5}, ValueError, "positive"),
        ({"object_store_memory": float("nan")}, ValueError, "finite"),
        ({"object_store_memory": float("inf")}, ValueError, "finite"),
        ({"object_store_memory": 1000}, ValueError, "1000 bytes, but must be at least 1048576"),
        ({"object_store_memory": "1GB"}, TypeError, "object_store_memory must be a number"),
        ({"object_store_memory": False}, TypeError, "object_store_memory must be a number"),
        ({"namespace": 3}, TypeError, "namespace"),
        ({"namespace": ""}, ValueError, "namespace"),
        ({"labels": {"a": 1}}, TypeError, "labels"),
        ({"labels": []}, TypeError, "labels"),
        ({"logging_level": None}, TypeError, "logging_level"),
        ({"object_spilling_directory": 5}, TypeError, "must be a path"),
        ({"_system_config": {"object_spilling_config": "{"}}, ValueError, "must be JSON"),
        (
            {"_system_config": {"object_spilling_config": '{"type": "smart_open", "params": {}}'}},
            NotSupportedError,
            "smart_open",
        ),
        ({"address": "ray://host:10001"}, NotSupportedError, "remote"),
        ({"address": 5}, TypeError, "address"),
        ({"address": "auto", "num_cpus": 1, "labels": {}}, ValueError, "num_cpus and labels"),
        ({"num_gpus": -1}, ValueError, "num_gpus must not be negative"),
        ({"num_gpus": 0.5}, ValueError, "num_gpus must be a whole number"),
        ({"_memory": -1}, ValueError, "_memory must not be negative"),
        ({"resources": [1]}, TypeError, "resources"),
        ({"resources": {"x": "1"}}, TypeError, "'x' must be a number"),
        ({"resources": {"x": -1}}, ValueError, "'x' must be from 0"),
        ({"resources": {"CPU": 1}}, ValueError, "use the 'num_cpus' keyword"),
        ({"resources": {"node:127.0.0.1": 1}}, ValueError, "of plasmid's own"),
        ({"local_mode": True}, NotSupportedError, "local_mode"),
        ({"runtime_env": {"pip": []}}, NotSupportedError, "runtime_env"),
    ],
)
def test_init_refuses(
    engines: list[FakeEngine], arguments: dict[str, Any], kind: type[Exception], words: str
) -> None:
    with pytest.raises(kind, match=words):
        plasmid.init(**arguments)
    assert not engines
    assert not plasmid.is_initialized()


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ({"num_cpus": 0}, SessionConfig(address="local", num_cpus=0)),
        ({"num_cpus": 2.0}, SessionConfig(address="local", num_cpus=2)),
        ({"object_store_memory": 1e9}, SessionConfig(address="local", object_store_memory=10**9)),
        (
            {"object_store_memory": 1 << 20},
            SessionConfig(address="local", object_store_memory=1 << 20),
        ),
        ({}, SessionConfig()),
    ],
)
def test_init_hands_down(
    engines: list[FakeEngine], arguments: dict[str, Any], expected: SessionConfig
) -> None:
    plasmid.init(**arguments)
    assert engines[0].config == expected


def test_a_second_init_is_an_error_unless_ignored(engines: list[FakeEngine]) -> None:
    plasmid.init()
    with pytest.raises(RuntimeError, match="ignore_reinit_error"):
        plasmid.init()
    context = plasmid.init(num_cpus=1, ignore_reinit_error=True)
    assert context["node_id"] == "0"
    assert len(engines) == 1


def test_a_session_can_follow_another(engines: list[FakeEngine]) -> None:
    plasmid.init()
    plasmid.shutdown()
    assert engines[0].is_shut_down
    assert not plasmid.is_initialized()
    plasmid.shutdown()
    plasmid.init()
    assert len(engines) == 2
    assert not engines[1].is_shut_down


def test_shutdown_takes_rays_arguments(engines: list[FakeEngine]) -> None:
    plasmid.shutdown(wait_for_processes=True, _exiting_interpreter=True)


def test_the_context_is_a_mapping_and_ends_the_session(engines: list[FakeEngine]) -> None:
    with plasmid.init() as context:
        assert context.address_info == {"address": "local", "node_id": "0"}
        assert context["address"] == "local"
        assert context.get("nothing") is None
        assert list(context.keys()) == ["address", "node_id"]
        assert context.dashboard_url == ""
        assert plasmid.__version__ in repr(context)
    assert engines[0].is_shut_down
    context.disconnect()


def test_a_failed_start_leaves_nothing_behind(
    engines: list[FakeEngine], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(config: SessionConfig) -> Any:
        raise SessionError("no memfd")

    with monkeypatch.context() as patch:
        patch.setattr(current, "starter", fail)
        with pytest.raises(SessionError, match="no memfd"):
            plasmid.init()
        assert not plasmid.is_initialized()
    plasmid.init()


@pytest.mark.parametrize("ask", ["cluster_resources", "available_resources", "nodes"])
def test_questions_about_a_session_do_not_start_one(engines: list[FakeEngine], ask: str) -> None:
    with pytest.raises(SessionError, match=r"init\(\)"):
        getattr(plasmid, ask)()
    assert not engines
    plasmid.init()
    assert getattr(plasmid, ask)()


def test_threads_that_come_first_together_start_one_session(engines: list[FakeEngine]) -> None:
    together = threading.Barrier(8)

    def first_use() -> None:
        together.wait()
        plasmid.get(plasmid.put(1))

    threads = [threading.Thread(target=first_use) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(engines) == 1


def test_in_a_worker_shutdown_has_no_effect(engines: list[FakeEngine]) -> None:
    mine = FakeEngine(SessionConfig())
    mine.is_program = False
    set_engine(mine)
    plasmid.shutdown()
    with plasmid.init(ignore_reinit_error=True):
        pass
    assert get_engine() is mine
    assert not mine.is_shut_down
    mine.is_program = True


class Slow(FakeEngine):
    """Does something while it is shut down."""

    meanwhile: Callable[[], object]

    def shutdown(self) -> None:
        self.meanwhile()
        super().shutdown()


def test_while_a_session_is_shut_down_no_other_is_started(engines: list[FakeEngine]) -> None:
    """The thread of the futures, in a callback that puts, waited for the lock that shutdown held
    while it waited for the thread."""
    found: list[str] = []

    def use() -> None:
        try:
            plasmid.put(1)
        except SessionError as error:
            found.append(str(error))

    def in_a_thread() -> None:
        thread = threading.Thread(target=use)
        thread.start()
        thread.join()

    slow = Slow(SessionConfig())
    slow.meanwhile = in_a_thread
    set_engine(slow)
    plasmid.shutdown()
    assert found == ["no session can be started here: the session is being shut down"]
    assert not engines
    plasmid.put(1)
    assert len(engines) == 1


def test_a_shutdown_that_is_interrupted_ends_the_session_all_the_same(
    engines: list[FakeEngine],
) -> None:
    def interrupt() -> None:
        plasmid.shutdown()  # as a signal's handler may
        raise KeyboardInterrupt

    slow = Slow(SessionConfig())
    slow.meanwhile = interrupt
    set_engine(slow)
    with pytest.raises(KeyboardInterrupt):
        plasmid.shutdown()
    assert not plasmid.is_initialized()
    plasmid.put(1)
    assert len(engines) == 1


def test_a_session_that_a_handler_starts_during_shutdown_is_kept(
    engines: list[FakeEngine],
) -> None:
    slow = Slow(SessionConfig())
    slow.meanwhile = plasmid.init
    set_engine(slow)
    plasmid.shutdown()
    assert get_engine() is engines[0]


def test_a_fork_during_shutdown_is_one_of_a_process_with_a_session(
    engines: list[FakeEngine],
) -> None:
    def fork() -> None:
        pid = os.fork()
        if pid == 0:
            code = 1
            try:
                with pytest.raises(SessionError, match="forked"):
                    plasmid.put(1)
                plasmid.init()
                code = 0
            finally:
                os._exit(code)
        assert os.waitpid(pid, 0)[1] == 0

    slow = Slow(SessionConfig())
    slow.meanwhile = fork
    set_engine(slow)
    plasmid.shutdown()


def test_shutdown_does_not_undo_why_no_session_may_start(engines: list[FakeEngine]) -> None:
    current.stop("the end")
    plasmid.shutdown()
    with pytest.raises(SessionError, match="the end"):
        plasmid.put(1)
    plasmid.init()


def test_an_engine_that_was_set_is_used(engines: list[FakeEngine]) -> None:
    mine = FakeEngine(SessionConfig())
    set_engine(mine)
    assert get_engine() is mine
    plasmid.put(1)
    assert len(mine.futures) == 1
    assert not engines


def test_a_fork_does_not_use_its_parents_session_and_may_have_its_own(
    engines: list[FakeEngine],
) -> None:
    plasmid.init()
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            assert not plasmid.is_initialized()
            with pytest.raises(SessionError, match="forked"):
                plasmid.put(1)
            plasmid.shutdown()
            assert not engines[0].is_shut_down
            plasmid.init()
            plasmid.put(1)
            code = 0
        finally:
            os._exit(code)
    assert os.waitpid(pid, 0)[1] == 0
    assert plasmid.is_initialized()


def test_a_fork_while_another_thread_starts_a_session_does_not_hang(
    engines: list[FakeEngine],
) -> None:
    """The fork copied a lock that was held by a thread which the child does not have."""
    held, release = threading.Event(), threading.Event()

    def hold() -> None:
        with current.lock:
            held.set()
            release.wait()

    thread = threading.Thread(target=hold)
    thread.start()
    held.wait()
    pid = os.fork()
    if pid == 0:
        plasmid.init()
        os._exit(0)
    release.set()
    thread.join()
    assert os.waitpid(pid, 0)[1] == 0


def test_no_session_is_started_while_the_interpreter_exits() -> None:
    """A handler that runs after plasmid's own would start processes that nobody ends."""
    program = """
import atexit
@atexit.register
def late():
    try:
        plasmid.put(1)
    except plasmid.exceptions.SessionError as error:
        print(error)
import plasmid
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert "interpreter is exiting" in done.stdout, done.stderr
