"""Before memory runs out, a task gives way: which one, and what is told of it. What memory there is
stands in a file that the tests write."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest
from support import STORE

import plasmid
from plasmid.exceptions import ActorDiedError, ActorUnavailableError, OutOfMemoryError
from plasmid.runtime import resources

MB = 1 << 20
MACHINE = 4 << 30


class Machine:
    """What the session takes for the machine's memory."""

    def __init__(self, file: Path) -> None:
        self.file = file
        self.has(MACHINE // 2)

    def has(self, available: int) -> None:
        """So much is left. At once, as the keeper may read it at any time."""
        new = self.file.with_name("new")
        new.write_text(f"MemTotal: {MACHINE >> 10} kB\nMemAvailable: {available >> 10} kB\n")
        new.rename(self.file)


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Machine:
    file = tmp_path / "meminfo"
    monkeypatch.setattr(resources, "memory_sources", lambda: [str(file)])
    return Machine(file)


@pytest.fixture
def session(machine: Machine) -> Machine:
    plasmid.init(num_cpus=3, object_store_memory=STORE)
    return machine


def record(folder: Path, name: str) -> int:
    """One more run of that name. How many there were before."""
    file = folder / name
    with file.open("a") as runs:
        runs.write(".")
    return file.stat().st_size - 1


@plasmid.remote
def use(folder: Path, name: str, nbytes: int, machine: Machine, then: str = "stay") -> str:
    """Have so much in use, until killed; "hog": and then there is no more in the machine. A second
    run finds that there is."""
    if record(folder, name):
        machine.has(MACHINE // 2)
        return "ran again"
    held = bytearray(os.urandom(1)) * nbytes
    (folder / f"{name} is there").touch()
    if then == "hog":
        for other in ("older", "younger", "small"):
            while (folder / other).exists() and not (folder / f"{other} is there").exists():
                time.sleep(0.01)
        machine.has(MACHINE // 100)
    while True:
        time.sleep(0.01)
        if (folder / "go").exists():
            return f"stayed with {len(held)}"


def begin(folder: Path, name: str, nbytes: int, machine: Machine, **options: object) -> object:
    """A task that has so much in use."""
    ref = use.options(**options).remote(folder, name, nbytes, machine)
    while not (folder / f"{name} is there").exists():
        time.sleep(0.01)
    return ref


def test_without_a_retry_it_is_an_error_that_tells_how_much(
    session: Machine, tmp_path: Path
) -> None:
    ref = use.options(max_retries=0).remote(tmp_path, "hog", 100 * MB, session, "hog")
    with pytest.raises(OutOfMemoryError, match="before memory ran out") as caught:
        plasmid.get(ref)
    error = caught.value
    assert isinstance(error, MemoryError)
    assert error.used
    assert 100 * MB < error.used < 200 * MB
    assert error.peak
    assert error.peak >= error.used
    assert error.limit == MACHINE
    assert error.group_used == MACHINE - MACHINE // 100 // 1024 * 1024
    assert f"worker process {error.pid} " in str(error)
    assert "PLASMID_MEMORY_THRESHOLD" in str(error)


def test_it_is_run_again_when_it_may_be(session: Machine, tmp_path: Path) -> None:
    assert (
        plasmid.get(use.remote(tmp_path, "hog", 100 * MB, session, "hog"), timeout=60)
        == "ran again"
    )


def test_first_go_those_that_may_be_run_again_and_never_the_small(
    session: Machine, tmp_path: Path
) -> None:
    small = begin(tmp_path, "small", MB, session)
    older = begin(tmp_path, "older", 60 * MB, session)
    hog = use.options(max_retries=0).remote(tmp_path, "hog", 150 * MB, session, "hog")
    assert plasmid.get(older, timeout=60) == "ran again"
    (tmp_path / "go").touch()
    assert plasmid.get(hog) == f"stayed with {150 * MB}"
    assert plasmid.get(small) == f"stayed with {MB}"


def test_among_equals_the_latest_goes(session: Machine, tmp_path: Path) -> None:
    older = begin(tmp_path, "older", 60 * MB, session)
    younger = begin(tmp_path, "younger", 60 * MB, session)
    session.has(MACHINE // 100)
    assert plasmid.get(younger, timeout=60) == "ran again"
    (tmp_path / "go").touch()
    assert plasmid.get(older) == f"stayed with {60 * MB}"


def test_who_uses_more_than_it_asked_for_goes_first(session: Machine, tmp_path: Path) -> None:
    older = begin(tmp_path, "older", 60 * MB, session, memory=20 * MB, max_retries=0)
    younger = begin(tmp_path, "younger", 60 * MB, session, memory=500 * MB)
    session.has(MACHINE // 100)
    with pytest.raises(OutOfMemoryError, match="before memory ran out"):
        plasmid.get(older, timeout=60)
    session.has(MACHINE // 2)
    (tmp_path / "go").touch()
    assert plasmid.get(younger) == f"stayed with {60 * MB}"


@plasmid.remote
class Hoarder:
    def hoard(self, nbytes: int) -> int:
        self.held = bytearray(os.urandom(1)) * nbytes
        return os.getpid()

    def wait(self) -> None:
        time.sleep(60)

    def pid(self) -> int:
        return os.getpid()


def test_actors_go_after_tasks(session: Machine, tmp_path: Path) -> None:
    actor = Hoarder.options(max_restarts=1).remote()
    pid = plasmid.get(actor.hoard.remote(60 * MB))
    task = begin(tmp_path, "younger", 60 * MB, session)
    session.has(MACHINE // 100)
    assert plasmid.get(task, timeout=60) == "ran again"
    assert plasmid.get(actor.pid.remote()) == pid
    plasmid.kill(actor)


@pytest.mark.parametrize("restarts", [0, 1])
def test_an_actor_that_goes_says_why(session: Machine, restarts: int) -> None:
    actor = Hoarder.options(max_restarts=restarts).remote()
    plasmid.get(actor.hoard.remote(100 * MB))
    waits = actor.wait.remote()
    session.has(MACHINE // 100)
    kind = ActorUnavailableError if restarts else ActorDiedError
    with pytest.raises(kind, match="before memory ran out"):
        plasmid.get(waits, timeout=60)
    session.has(MACHINE // 2)
    if restarts:
        assert plasmid.get(actor.pid.remote())
        plasmid.kill(actor)


def test_when_no_task_uses_much_none_is_killed(
    session: Machine, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    small = begin(tmp_path, "small", MB, session)
    session.has(MACHINE // 100)
    said = ""
    while "no task uses much" not in said:
        time.sleep(0.01)
        said += capfd.readouterr().err
    (tmp_path / "go").touch()
    assert plasmid.get(small) == f"stayed with {MB}"


def test_limits_are_kept_when_they_are_to_be(
    machine: Machine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PLASMID_MEMORY_LIMITS", "1")
    plasmid.init(num_cpus=2, object_store_memory=STORE)
    within = begin(tmp_path, "older", 60 * MB, machine, memory=500 * MB)
    beyond = use.options(memory=100 * MB, max_retries=0).remote(
        tmp_path, "younger", 200 * MB, machine
    )
    with pytest.raises(OutOfMemoryError, match="more than the task's memory=") as caught:
        plasmid.get(beyond, timeout=60)
    assert caught.value.limit == 100 * MB
    assert caught.value.used
    assert caught.value.used > 100 * MB
    (tmp_path / "go").touch()
    assert plasmid.get(within) == f"stayed with {60 * MB}"


@pytest.mark.parametrize(
    ("name", "value"), [("PLASMID_MEMORY_THRESHOLD", "1"), ("RAY_memory_monitor_refresh_ms", "0")]
)
def test_it_can_be_left_to_the_kernel(
    machine: Machine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    monkeypatch.setenv(name, value)
    plasmid.init(num_cpus=1, object_store_memory=STORE)
    machine.has(0)
    hog = begin(tmp_path, "older", 60 * MB, machine, max_retries=0)
    time.sleep(0.3)  # several looks, if there were any
    (tmp_path / "go").touch()
    assert plasmid.get(hog) == f"stayed with {60 * MB}"


@pytest.mark.parametrize("value", ["much", "0", "1.5", "-1"])
def test_a_wrong_share_is_refused(monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    monkeypatch.setenv("PLASMID_MEMORY_THRESHOLD", value)
    with pytest.raises(ValueError, match=f"PLASMID_MEMORY_THRESHOLD is '{value}'"):
        plasmid.init(num_cpus=1, object_store_memory=STORE)
    assert not plasmid.is_initialized()


def test_an_idle_session_looks_at_nothing(session: Machine, tmp_path: Path) -> None:
    """And a task that comes later is seen."""
    plasmid.get(plasmid.remote(lambda: 1).remote())
    time.sleep(1)
    session.file.rename(tmp_path / "gone")
    os.mkfifo(session.file)  # whoever opens it to read stays there until somebody writes
    time.sleep(1)
    with pytest.raises(OSError, match="No such device"):
        os.close(os.open(session.file, os.O_WRONLY | os.O_NONBLOCK))
    (tmp_path / "gone").rename(session.file)
    assert (
        plasmid.get(use.remote(tmp_path, "hog", 100 * MB, session, "hog"), timeout=60)
        == "ran again"
    )
