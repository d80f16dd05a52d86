"""Programs that join a session of another one, and sessions that outlive their starter."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import textwrap
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support import arena, run_program, sleeps, until

import plasmid
from plasmid._core import core
from plasmid.engine import current
from plasmid.exceptions import SessionError
from plasmid.runtime import handover

pytestmark = pytest.mark.usefixtures("session")


@pytest.fixture
def address() -> str:
    return str(current.get_engine().address_info()["address"])


@pytest.fixture(autouse=True)
def alone(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("PLASMID_ADDRESS", "RAY_ADDRESS"):
        monkeypatch.delenv(name, raising=False)


def program(code: str, *args: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(code), *args],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


class Driver:
    """A program with a session of its own, which ends when the test wants it to."""

    def __init__(self) -> None:
        self.program = program(
            """
            import sys, plasmid
            context = plasmid.init(address="local", num_cpus=1, object_store_memory=64 << 20)
            print(context.address_info["address"], flush=True)
            sys.stdin.readline()
            plasmid.shutdown()
            print("down", flush=True)
            sys.stdin.read()
            """
        )
        assert self.program.stdin
        assert self.program.stdout
        self._in, self._out = self.program.stdin, self.program.stdout
        self.address = self._out.readline().strip()

    def shut_down(self) -> None:
        """The process lives on."""
        print(file=self._in, flush=True)
        assert self._out.readline() == "down\n"

    def end(self) -> None:
        self.program.communicate()


@contextmanager
def driver() -> Iterator[Driver]:
    found = Driver()
    try:
        yield found
    finally:
        found.program.kill()
        found.program.communicate()


def guests() -> int:
    return sum(client.kind == core.GUEST for client in arena().clients())


def test_two_programs_share_objects_and_tasks(address: str) -> None:
    ref = plasmid.put(np.arange(100_000), name="numbers")
    out, _ = run_program(
        """
        import sys, plasmid
        with plasmid.init(address=sys.argv[1]) as context:
            assert context.address_info["address"] == sys.argv[1]
            numbers = plasmid.get_object("numbers")

            @plasmid.remote
            def total(array):
                return array.sum()

            plasmid.put(plasmid.get(total.remote(numbers)), name="total", lifetime="detached")
            plasmid.put("gone with me", name="mine")
            print(plasmid.get(numbers)[7], plasmid.cluster_resources()["CPU"])
        assert not plasmid.is_initialized()
        """,
        address,
    )
    assert out.split() == ["7", "2.0"]
    assert plasmid.get(plasmid.get_object("total")) == 4999950000
    until(lambda: guests() == 0, "the guest is still there")
    assert plasmid.list_named_objects() == ["numbers", "total"]
    for name in ("numbers", "total"):
        plasmid.delete_object(name)
    del ref


@pytest.mark.parametrize("variable", ["PLASMID_ADDRESS", "RAY_ADDRESS"])
def test_the_environment_may_name_the_session(
    address: str, variable: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(variable, address)
    code = "import plasmid; plasmid.put(1, name='x', lifetime='detached')"
    run_program(code)
    plasmid.delete_object("x")
    run_program(f"import plasmid; plasmid.init(address='local'); {code}")
    assert plasmid.list_named_objects() == []


JOIN_ANY = 'import plasmid; print(plasmid.init(address="auto").address_info["address"])'


def test_auto_finds_the_youngest_session(address: str) -> None:
    assert run_program(JOIN_ANY)[0].strip() == address
    with driver() as second, driver() as third:
        assert run_program(JOIN_ANY)[0].strip() == third.address
        third.end()
        assert run_program(JOIN_ANY)[0].strip() == second.address
    assert run_program(JOIN_ANY)[0].strip() == address


def test_sessions_of_another_scope_are_not_found(
    address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(handover.SCOPE, "another")
    _, err = run_program(JOIN_ANY, status=1)
    assert "SessionNotFoundError" in err
    assert shell("status") == ""
    run_program(JOIN_ANY.replace('"auto"', repr(address)))


def test_addresses_that_lead_nowhere(no_session: None) -> None:
    for address in ("plasmid-0-session-none", "auto"):
        with pytest.raises(ConnectionError, match="session"):
            plasmid.init(address=address)
    with pytest.raises(ValueError, match="num_cpus"):
        plasmid.init(address="auto", num_cpus=2)
    assert not plasmid.is_initialized()


def test_a_dead_guest_gives_back_what_it_held(address: str) -> None:
    mine = plasmid.put(np.zeros(100_000))
    entries = arena().stats()["entries"]
    guest = program(
        """
        import sys, numpy as np, plasmid
        plasmid.init(address=sys.argv[1])
        ref = plasmid.put([np.zeros(100000)], name="with the guest")
        views = [plasmid.get(ref), plasmid.empty(100000), plasmid.get(ref, writable=True)]
        plasmid.put(5, name="without it", lifetime="detached")
        print("ready", flush=True)
        sys.stdin.read()
        """,
        address,
    )
    assert guest.stdout
    assert guest.stdout.readline() == "ready\n"
    assert plasmid.list_named_objects() == ["with the guest", "without it"]
    held = plasmid.get_object("with the guest")
    guest.send_signal(signal.SIGKILL)
    guest.communicate()
    until(lambda: plasmid.list_named_objects() == ["without it"], "its name is still there")
    assert len(plasmid.get(held)[0]) == 100_000
    plasmid.delete_object("without it")
    del held
    until(lambda: arena().stats()["entries"] <= entries, arena().dump())
    del mine


def test_the_names_of_a_guest_that_died_unseen_go(address: str) -> None:
    """The keeper meets it only when it is dead."""
    guest = program(
        """
        import os, signal, sys
        import plasmid
        from plasmid._core import core
        from plasmid.engine import current
        from plasmid.engine.local import LocalEngine
        from plasmid.runtime import handover
        fd, bell, driver = handover.join(sys.argv[1])
        arena = core.Arena.attach(fd, core.GUEST, driver)  # which does not ring
        current.set_engine(LocalEngine(arena, is_guest=True))
        plasmid.put(1, name="mine")
        os.kill(os.getpid(), signal.SIGKILL)
        """,
        address,
    )
    guest.communicate()
    assert plasmid.list_named_objects() == ["mine"]
    os.eventfd_write(arena().bell, 1)
    until(lambda: plasmid.list_named_objects() == [], "its name stays")
    assert guests() == 0


def test_views_of_a_guest_outlive_its_stay(address: str) -> None:
    used = arena().stats()["heap_used"]
    guest = program(
        """
        import sys, numpy as np, plasmid
        plasmid.init(address=sys.argv[1])
        ref, other = plasmid.put(np.arange(100000)), plasmid.put(np.zeros(100000))
        view = plasmid.get(ref)[5:]
        private = plasmid.get(ref, writable=True)
        plasmid.shutdown()
        print("left", flush=True)
        sys.stdin.readline()
        assert view[0] == 5 and private[5] == 5
        try:
            plasmid.get(ref)
        except plasmid.exceptions.ObjectLostError:
            pass
        del view
        del private
        print("dropped", flush=True)
        sys.stdin.readline()
        """,
        address,
    )
    assert guest.stdout
    assert guest.stdin
    assert guest.stdout.readline() == "left\n"
    until(lambda: arena().stats()["heap_used"] < used + 900_000, "the other is still there")
    fill = [plasmid.put(np.ones(100_000)) for _ in range(20)]
    print(file=guest.stdin, flush=True)
    assert guest.stdout.readline() == "dropped\n"
    del fill
    until(lambda: arena().stats()["heap_used"] == used, arena().dump())
    guest.communicate("\n")
    assert guest.returncode == 0


def test_a_guest_is_told_that_its_session_is_over(no_session: None) -> None:
    other = Driver()
    plasmid.init(address=other.address)
    view = plasmid.get(plasmid.put(np.arange(100_000)))

    @plasmid.remote
    def sleep() -> None:
        import time

        time.sleep(1000)

    sleeping = sleep.remote()
    errors: list[BaseException] = []

    def wait() -> None:
        try:
            plasmid.get(sleeping)
        except BaseException as error:
            errors.append(error)

    waiter = threading.Thread(target=wait)
    waiter.start()
    other.program.kill()
    other.end()
    waiter.join(30)
    assert isinstance(errors[0], SessionError)
    assert "its driver has ended" in str(errors[0])
    with pytest.raises(SessionError):
        plasmid.put(1)
    assert view[99] == 99
    plasmid.shutdown()
    assert view[99] == 99


def test_every_call_fails_after_a_session_was_shut_down_by_a_program_that_lives_on(
    no_session: None,
) -> None:
    @plasmid.remote
    def one() -> int:
        return 1

    with driver() as other:
        plasmid.init(address=other.address)
        small, view = plasmid.put(1), plasmid.get(plasmid.put(np.arange(100_000)))
        made, running = plasmid.empty(100_000), one.remote()
        assert plasmid.get(running) == 1
        other.shut_down()
        calls: list[Callable[[], object]] = [
            lambda: plasmid.put(1),
            lambda: plasmid.put("text"),
            lambda: plasmid.put(np.arange(100_000)),
            lambda: plasmid.put(made),
            lambda: plasmid.put(1, name="x"),
            lambda: plasmid.empty(10),
            lambda: plasmid.get(small),
            lambda: plasmid.get([small, running]),
            lambda: plasmid.get(small, timeout=0),
            lambda: plasmid.wait([small]),
            lambda: plasmid.free(small),
            lambda: plasmid.explain(small),
            lambda: plasmid.get_object("x"),
            lambda: plasmid.list_named_objects(),
            lambda: plasmid.cluster_resources(),
            lambda: one.remote(),
            lambda: small.future().result(),
        ]
        for call in calls:
            with pytest.raises(SessionError, match="has ended, or has shut it down; init"):
                call()
        made[5] = 7.0
        assert view[99] == 99
        with driver() as third:  # without shutdown() before
            plasmid.init(address=third.address)
            assert plasmid.get(plasmid.put(5)) == 5
            assert view[99] == 99
            plasmid.shutdown()


def test_a_thread_that_waits_while_its_program_leaves_is_told_so(no_session: None) -> None:
    @plasmid.remote
    def sleep() -> None:
        import time

        time.sleep(1000)

    errors: list[str] = []

    def wait(how: Callable[[], object]) -> None:
        try:
            how()
        except SessionError as error:
            errors.append(str(error))

    with driver() as other:
        plasmid.init(address=other.address)
        refs = [sleep.remote(), sleep.remote()]
        ways: list[Callable[[], object]] = [
            lambda: plasmid.get(refs),
            lambda: plasmid.wait(refs),
            lambda: refs[0].future().result(),
        ]
        waiting = [threading.Thread(target=wait, args=(way,)) for way in ways]
        for thread in waiting:
            thread.start()
        until(lambda: all(map(sleeps, waiting)), "they do not wait")
        plasmid.shutdown()
        for thread in waiting:
            thread.join()
        assert [error.partition(":")[0] for error in errors] == [
            "this program has left the session"
        ] * len(ways)


@pytest.mark.timeout(100)
def test_a_hundred_programs_join_at_once(address: str) -> None:
    ref = plasmid.put(np.arange(1000), name="numbers")
    out, _ = run_program(
        """
        import os, sys, traceback
        import numpy, plasmid, plasmid.engine.local, plasmid.runtime.guest

        gate, open_gate = os.pipe()
        children = []
        for n in range(100):
            pid = os.fork()
            if pid:
                children.append(pid)
                continue
            status = 1
            try:
                os.close(open_gate)
                os.read(gate, 1)
                plasmid.init(address=sys.argv[1])
                numbers = plasmid.get(plasmid.get_object("numbers"))
                status = plasmid.get(plasmid.put(0)) + numbers[n] - n
                plasmid.shutdown()
            except BaseException:
                traceback.print_exc()
            os._exit(status)
        os.close(open_gate)
        print([os.waitpid(pid, 0)[1] for pid in children])
        """,
        address,
    )
    assert json.loads(out) == [0] * 100
    until(lambda: guests() == 0, "guests are left")
    plasmid.delete_object("numbers")
    del ref


@pytest.mark.parametrize("closed", [False, True])
def test_a_program_that_becomes_another_gives_back_what_it_held(address: str, closed: bool) -> None:
    """Its process lives on, so nothing but its lifeline tells the keeper; and not even that if it
    had closed it."""
    used = arena().stats()["heap_used"]
    guest = program(
        """
        import os, sys, numpy as np, plasmid
        plasmid.init(address=sys.argv[1])
        kept = plasmid.put(np.zeros(100000), name="with it")
        if sys.argv[2] == "True":
            os.closerange(3, 1000)
            assert plasmid.get(kept)[5] == 0
        print("ready", flush=True)
        sys.stdin.readline()
        os.execv("/bin/sh", ["sh", "-c", "echo another; read line"])
        """,
        address,
        str(closed),
    )
    assert guest.stdin
    assert guest.stdout
    assert guest.stdout.readline() == "ready\n"
    assert guests() == 1
    print(file=guest.stdin, flush=True)
    assert guest.stdout.readline() == "another\n"
    if closed:
        os.eventfd_write(arena().bell, 1)  # as anything else would that happens in the session
    until(lambda: guests() == 0, "it is still a client")
    until(lambda: arena().stats()["heap_used"] == used, "it is still there")
    assert plasmid.list_named_objects() == []
    assert guest.poll() is None
    guest.communicate()


@pytest.mark.skipif(os.getuid() != 0, reason="only root can become another user")
def test_another_user_is_refused(address: str) -> None:
    code = f"""
        import os, sys
        sys.path[:] = {sys.path!r}
        import plasmid, plasmid.runtime.guest, plasmid.engine.local  # while it may read them
        import plasmid.job_config
        os.setgid(65534)
        os.setuid(65534)
        try:
            plasmid.init(address={address!r})
        except plasmid.exceptions.AuthenticationError as error:
            assert isinstance(error, PermissionError)
        else:
            sys.exit("it could join")
        try:
            plasmid.init(address="auto")
        except ConnectionError:
            pass
        else:
            sys.exit("it found the session")
        """
    run_program(code)
    assert guests() == 0


def use_by_threads(seed: int) -> None:
    """Put, get, drop, wait and run tasks from eight threads at once."""
    errors: list[BaseException] = []

    @plasmid.remote
    def double(value: Any) -> Any:
        return value * 2

    def work(me: int) -> None:
        try:
            shared = plasmid.put(np.full(10_000, me))
            for i in range(60):
                refs = [plasmid.put(i), plasmid.put([shared, i]), plasmid.put(bytes(200))]
                result = double.remote(refs[0])
                assert plasmid.get(refs[0]) == i
                assert plasmid.get(plasmid.get(refs[1])[0])[5] == me
                assert plasmid.wait([result, *refs], num_returns=4)[1] == []
                assert plasmid.get(result) == 2 * i
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=work, args=(seed + me,)) for me in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]


def test_eight_threads_of_a_driver_and_of_a_guest(address: str) -> None:
    here = str(Path(__file__).parent)
    guest = program(
        f"""
        import sys; sys.path.insert(0, {here!r})
        import plasmid
        plasmid.init(address=sys.argv[1])
        from test_guests import use_by_threads
        use_by_threads(100)
        """,
        address,
    )
    use_by_threads(0)
    guest.communicate()
    assert guest.returncode == 0
    until(lambda: guests() == 0, "the guest is still there")


# Started sessions --------------------------------------------------------------------------------


def shell(*args: str, status: int = 0) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "plasmid", *args], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == status, done.stdout + done.stderr
    return done.stdout


@pytest.fixture
def started(no_session: None) -> Iterator[str]:
    address = shell("start", "--num-cpus", "1", "--object-store-memory", str(64 << 20)).strip()
    yield address
    shell("stop", "--address", address)


def test_a_detached_actor_serves_one_program_after_the_other(started: str) -> None:
    """Whatever becomes of them, and of its own process."""
    make = """
        import os, signal, sys, plasmid
        plasmid.init(address=sys.argv[1], namespace="jobs")

        @plasmid.remote(num_cpus=0, max_restarts=-1)
        class Count:
            n = 0
            def add(self):
                self.n += 1
                return self.n, os.getpid()

        count = Count.options(name="count", lifetime="detached").remote()
        assert plasmid.get(count.add.remote())[0] == 1
        os.kill(os.getpid(), signal.SIGKILL)
        """
    use = """
        import os, signal, sys, plasmid
        plasmid.init(address=sys.argv[1], namespace="jobs")
        assert plasmid.util.list_named_actors() == ["count"]
        count = plasmid.get_actor("count")
        n, pid = plasmid.get(count.add.remote())
        os.kill(pid, signal.SIGKILL)
        print(n)
        """
    end = """
        import sys, plasmid
        plasmid.init(address=sys.argv[1])
        count = plasmid.get_actor("count", namespace="jobs")
        print(plasmid.get(count.add.remote())[0])
        plasmid.kill(count)
        print(plasmid.util.list_named_actors(all_namespaces=True))
        """
    run_program(make, started, status=-9)
    assert run_program(use, started)[0] == "2\n"
    assert "count" in shell("actors", "--address", started)
    assert run_program(end, started)[0] == "1\n[]\n"


def test_a_started_session_has_the_resources_it_was_given(no_session: None) -> None:
    given = ("--num-cpus", "1", "--num-gpus", "2", "--resources", '{"license": 1.5}')
    address = shell("start", *given, "--object-store-memory", str(64 << 20)).strip()
    code = "import plasmid; plasmid.init(address='auto'); print(plasmid.cluster_resources())"
    try:
        out, _ = run_program(code)
    finally:
        shell("stop", "--address", address)
    assert "'GPU': 2.0" in out
    assert "'license': 1.5" in out
    shell("start", "--resources", '{"CPU": 1}', status=2)
    shell("start", "--resources", "license", status=2)


def test_a_started_session_outlives_its_programs(started: str) -> None:
    run_program(
        """
        import plasmid
        plasmid.put([1, 2], name="kept", lifetime="detached")
        plasmid.put(1, name="x")
        """
    )
    out, _ = run_program("import plasmid; print(plasmid.get(plasmid.get_object('kept')))")
    assert out == "[1, 2]\n"
    assert started in shell("status")
    assert plasmid.init().address_info["address"] == started
    until(lambda: plasmid.list_named_objects() == ["kept"], "the name of the first program stays")

    @plasmid.remote
    def double(x: int) -> int:
        return 2 * x

    assert plasmid.get([double.remote(i) for i in range(5)]) == [0, 2, 4, 6, 8]
    plasmid.delete_object("kept")
    plasmid.shutdown()


def test_arguments_for_a_new_session_start_one(started: str) -> None:
    with plasmid.init(num_cpus=1) as context:
        assert context.address_info["address"] != started
    with plasmid.init(address="local") as context:
        assert context.address_info["address"] != started


def test_the_shell_says_what_is_wrong(tmp_path: Path, no_session: None) -> None:
    log = str(tmp_path / "no folder" / "log")
    for args, what in (
        (["start", "--log", log], "the log cannot be written"),
        (["start", "--num-cpus", "two"], "'two' is not a positive whole number"),
        (["memory"], "no running session"),
        (["memory", "--address", "plasmid-0-none"], "no session answers"),
    ):
        done = subprocess.run(
            [sys.executable, "-m", "plasmid", *args], capture_output=True, text=True, timeout=60
        )
        assert done.returncode == (2 if "two" in args else 1)
        assert what in done.stderr
        assert "Traceback" not in done.stderr
    assert shell("status") == ""


def test_stop_ends_all_started_sessions_of_this_scope_and_nothing_else(no_session: None) -> None:
    with driver() as other:
        size = ("--num-cpus", "1", "--object-store-memory", str(64 << 20))
        started = [shell("start", *size).strip() for _ in range(2)]
        assert handover.find() == [*reversed(started), other.address]
        assert shell("stop") == "".join(f"stopped {name}\n" for name in reversed(started))
        assert handover.find() == [other.address]


def test_stop_without_a_session_is_status_1(no_session: None) -> None:
    assert shell("stop", status=1) == ""
    shell("stop", "--address", "plasmid-0-started-none", status=1)


def test_a_killed_root_leaves_nothing(no_session: None) -> None:
    address = shell("start", "--num-cpus", "1", "--object-store-memory", str(64 << 20)).strip()
    run_program("import plasmid; plasmid.put(bytes(10**6), name='x', lifetime='detached')")
    (found,) = json.loads(shell("status", "--json"))
    assert found["address"] == address
    assert found["started"]
    os.kill(found["pid"], signal.SIGKILL)
    until(lambda: shell("status") == "", "the session is still there")
