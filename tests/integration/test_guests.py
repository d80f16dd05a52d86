"""Programs that join a session of another one, and sessions that outlive their starter."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support import arena, run_program, until

import plasmid
from plasmid._core import core
from plasmid.engine import current
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


def test_auto_finds_a_running_session() -> None:
    if len(handover.find()) > 1:
        pytest.skip("this user has other sessions, too")
    out, _ = run_program(
        """
        import plasmid
        print(plasmid.init(address="auto").address_info["session_name"])
        """
    )
    assert out.strip() == current.get_engine().address_info()["session_name"]


def test_addresses_that_lead_nowhere(no_session: None) -> None:
    nowhere = ["plasmid-0-session-none"]
    if not handover.find():  # this user may have other sessions
        nowhere.append("auto")
    for address in nowhere:
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
    driver = program(
        """
        import sys, plasmid
        print(plasmid.init(address="local").address_info["address"], flush=True)
        sys.stdin.read()
        """
    )
    assert driver.stdout
    address = driver.stdout.readline().strip()
    plasmid.init(address=address)
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
    driver.kill()
    driver.communicate()
    waiter.join(30)
    assert isinstance(errors[0], plasmid.exceptions.SessionError)
    with pytest.raises(plasmid.exceptions.SessionError):
        plasmid.put(1)
    assert view[99] == 99
    plasmid.shutdown()
    assert view[99] == 99


@pytest.mark.skipif(os.getuid() != 0, reason="only root can become another user")
def test_another_user_is_refused(address: str) -> None:
    code = f"""
        import os, sys
        sys.path[:] = {sys.path!r}
        import plasmid, plasmid.runtime.guest, plasmid.engine.local  # while it may read them
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


def test_stop_without_a_session_is_status_1(no_session: None) -> None:
    if not any(map(handover.is_started, handover.find())):  # the user may have some
        assert shell("stop", status=1) == ""
    shell("stop", "--address", "plasmid-0-started-none", status=1)


def test_a_killed_root_leaves_nothing(no_session: None) -> None:
    import json

    address = shell("start", "--num-cpus", "1", "--object-store-memory", str(64 << 20)).strip()
    run_program("import plasmid; plasmid.put(bytes(10**6), name='x', lifetime='detached')")
    listed = json.loads(shell("status", "--json"))
    (found,) = [each for each in listed if each["address"] == address]
    assert found["address"] == address
    assert found["started"]
    os.kill(found["pid"], signal.SIGKILL)
    until(lambda: address not in shell("status"), "the session is still there")
