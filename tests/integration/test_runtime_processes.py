"""A session's processes: what workers see, and what happens when one is killed, stopped or cannot
start.

Each test runs a program of its own. `pids` in it tells what processes its session has.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest

PRELUDE = """
import json, os, signal, sys, threading, time
import plasmid

def pids(title):
    me, found = os.getpid(), []
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            comm = open(f"/proc/{pid}/comm").read().strip()
            env = open(f"/proc/{pid}/environ").read()
            state = open(f"/proc/{pid}/stat").read().rpartition(")")[2].split()[0]
        except OSError:
            continue
        if comm == f"plasmid-{title}" and f"PLASMID_TEST={me};" in env and state not in "ZX":
            found.append(int(pid))
    return found

def until(true):
    while not true():
        time.sleep(0.01)

os.environ["PLASMID_TEST"] = f"{os.getpid()};"

@plasmid.remote
def square(x):
    return x * x

@plasmid.remote
def facts():
    import random, resource
    fds = {}
    for fd in os.listdir("/proc/self/fd"):
        try:
            fds[fd] = os.readlink(f"/proc/self/fd/{fd}")
        except OSError:
            pass
    return {
        "pid": os.getpid(), "path": sys.path, "argv": sys.argv, "fds": fds,
        "random": random.random(), "omp": os.environ.get("OMP_NUM_THREADS"),
        "sigint": signal.getsignal(signal.SIGINT) is signal.default_int_handler,
        "blocked": [int(n) for n in signal.pthread_sigmask(signal.SIG_BLOCK, ())],
        "files": resource.getrlimit(resource.RLIMIT_NOFILE)[0],
        "modules": [name for name in ("numpy", "pandas") if name in sys.modules],
    }
"""


class Program:
    """A driver and what it has said."""

    def __init__(self, code: str, **options: object) -> None:
        text = PRELUDE + textwrap.dedent(code)
        self.process = subprocess.Popen(
            [sys.executable, "-c", text],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            **options,  # type: ignore[call-overload]
        )

    def end(self, status: int = 0) -> str:
        out, self.err = self.process.communicate(timeout=60)
        assert self.process.returncode == status, out + self.err
        return out


def run(code: str, **options: object) -> str:
    """The program's stdout, once it has ended well."""
    return Program(code, **options).end()


def gone(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] in "ZX"
    except OSError:
        return True


def until_gone(found: list[int]) -> None:
    assert found
    while not all(map(gone, found)):
        time.sleep(0.01)


@pytest.fixture
def modules(tmp_path: Path) -> Path:
    """A folder on the PYTHONPATH of programs."""
    folder = tmp_path / "modules"
    folder.mkdir()
    return folder


def with_path(folder: Path) -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": f"{folder}:{os.environ.get('PYTHONPATH', '')}"}


# What a worker sees ------------------------------------------------------------------------------


def test_workers_see_path_arguments_and_folder_of_the_program(tmp_path: Path) -> None:
    found = json.loads(
        run(
            """
            sys.path.insert(0, "/somewhere/else")
            sys.argv = ["program", "--flag"]
            plasmid.init(num_cpus=1)
            seen = plasmid.get(facts.remote())
            seen["same path"] = seen["path"] == [os.path.abspath(entry) for entry in sys.path]
            seen["cwd"] = plasmid.get(plasmid.remote(lambda: os.getcwd()).remote())
            print(json.dumps(seen))
            """,
            cwd=tmp_path,
        )
    )
    assert found["same path"]
    assert found["argv"] == ["program", "--flag"]
    assert found["cwd"] == str(tmp_path)
    assert found["omp"] == "1"
    assert found["sigint"]
    assert found["blocked"] == []


def test_workers_inherit_no_open_files_and_no_raised_limits() -> None:
    found = json.loads(
        run(
            """
            import resource
            hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
            resource.setrlimit(resource.RLIMIT_NOFILE, (200, hard))
            os.set_inheritable(os.pipe()[0], True)
            os.set_inheritable(os.open("/etc/passwd", os.O_RDONLY), True)
            plasmid.init(num_cpus=1)
            print(json.dumps(plasmid.get(facts.remote())))
            """
        )
    )
    held = sorted(found["fds"].values())
    assert not [name for name in held if name.startswith(("/etc/", "socket:"))], held
    pipes = [name for name in held if name.startswith("pipe:")]
    assert len(pipes) == 3, held  # the lifeline; both ends of the one that tells of stacks
    assert len(set(pipes)) == 2, held
    assert found["files"] == 200


def test_workers_do_not_draw_the_same_random_numbers() -> None:
    out = run(
        """
        import numpy
        @plasmid.remote
        def draw(folder):
            import numpy, random
            open(f"{folder}/{os.getpid()}", "w").close()
            until(lambda: len(os.listdir(folder)) == 3)
            return random.random(), numpy.random.random(), os.getpid()
        import tempfile
        with tempfile.TemporaryDirectory() as folder:
            plasmid.init(num_cpus=3)
            drawn = plasmid.get([draw.remote(folder) for _ in range(3)])
        print([len(set(column)) for column in zip(*drawn)])
        """
    )
    assert out.splitlines()[-1] == "[3, 3, 3]"


def test_the_users_thread_count_stands() -> None:
    out = run(
        """
        plasmid.init(num_cpus=1)
        print(plasmid.get(facts.remote())["omp"])
        """,
        env={**os.environ, "OMP_NUM_THREADS": "3"},
    )
    assert out == "3\n"


def test_ctrl_c_does_not_reach_the_workers() -> None:
    out = run(
        """
        plasmid.init(num_cpus=2)
        before = plasmid.get(facts.remote())["pid"]
        signal.signal(signal.SIGINT, lambda *_: None)
        os.killpg(os.getpgid(0), signal.SIGINT)
        time.sleep(0.2)
        print(before in pids("worker"), plasmid.get(square.remote(3)))
        """,
        start_new_session=True,
    )
    assert out == "True 9\n"


# Death and restart -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("title", "sign"),
    [
        ("keeper", "SIGKILL"),
        ("keeper", "SIGSTOP"),
        ("nursery", "SIGKILL"),
        ("nursery", "SIGSTOP"),
        ("worker", "SIGKILL"),
    ],
)
def test_a_killed_or_stopped_process_is_replaced(title: str, sign: str) -> None:
    out = run(
        f"""
        plasmid.init(num_cpus=2)
        plasmid.get(square.remote(1))
        until(lambda: len(pids("worker")) == 2 and pids("nursery"))
        (old, *_) = pids("{title}")
        os.kill(old, signal.{sign})
        print(plasmid.get([square.remote(x) for x in range(20)]) == [x * x for x in range(20)])
        until(lambda: old not in pids("{title}") and pids("{title}"))
        for _ in range(2):  # those that are left may be of use no more
            (worker, *_) = pids("worker")
            os.kill(worker, signal.SIGKILL)
            until(lambda: worker not in pids("worker") and len(pids("worker")) == 2)
        print(plasmid.get(square.remote(3)))
        """
    )
    assert out == "True\n9\n"


def test_tasks_go_on_beside_a_stopped_worker() -> None:
    out = run(
        """
        plasmid.init(num_cpus=2)
        plasmid.get(square.remote(1))
        until(lambda: len(pids("worker")) == 2)
        os.kill(pids("worker")[0], signal.SIGSTOP)
        print(sum(plasmid.get([square.remote(1) for _ in range(100)])))
        """
    )
    assert out == "100\n"


@pytest.mark.parametrize("stopped", ["nobody", "keeper", "nursery", "worker"])
def test_nothing_is_left_when_the_driver_is_killed(stopped: str) -> None:
    program = Program(
        f"""
        plasmid.init(num_cpus=2)
        plasmid.get(square.remote(1))
        until(lambda: len(pids("worker")) == 2)
        found = sum((pids(title) for title in ("keeper", "nursery", "worker")), [])
        for pid in pids("{stopped}"):
            os.kill(pid, signal.SIGSTOP)
        print(json.dumps(found), flush=True)
        os.kill(os.getpid(), signal.SIGKILL)
        """
    )
    until_gone(json.loads(program.end(-signal.SIGKILL)))


def test_nothing_is_left_after_shutdown_and_a_second_session_works() -> None:
    out = run(
        """
        counts = []
        for _ in range(3):
            plasmid.init(num_cpus=2)
            assert plasmid.get(square.remote(3)) == 9
            plasmid.shutdown()
            assert not any(pids(title) for title in ("keeper", "nursery", "worker"))
            counts.append(len(os.listdir("/proc/self/fd")))
        print(counts)
        """
    )
    assert len(set(json.loads(out))) == 1, out


def test_programs_left_over_by_tasks_do_not_become_zombies() -> None:
    out = run(
        """
        import subprocess
        plasmid.init(num_cpus=1)
        @plasmid.remote
        def leave():
            return subprocess.Popen(["sh", "-c", "sleep 0.1 & echo $!"],
                stdout=subprocess.PIPE).stdout.readline()
        orphan = int(plasmid.get(leave.remote()))
        until(lambda: not os.path.exists(f"/proc/{orphan}"))
        print("gone")
        """
    )
    assert out == "gone\n"


def test_a_segmentation_fault_shows_where_it_was() -> None:
    program = Program(
        """
        import ctypes
        plasmid.init(num_cpus=1)
        @plasmid.remote(max_retries=0)
        def fall():
            ctypes.string_at(0)
        try:
            plasmid.get(fall.remote())
        except plasmid.exceptions.WorkerCrashedError as error:
            print(error)
        """
    )
    assert "signal 11" in program.end()
    assert "Segmentation fault" in program.err
    assert " in fall" in program.err


# Trouble at the start ----------------------------------------------------------------------------


def test_a_site_module_that_fails_is_reported(modules: Path) -> None:
    (modules / "sitecustomize.py").write_text(
        "import os, sys\n"
        "if 'plasmid.runtime.nursery' in ' '.join(sys.orig_argv):\n"
        "    print('bad site', file=sys.stderr)\n"
        "    os._exit(5)\n"
    )
    out = run(
        """
        plasmid.init(num_cpus=1)
        try:
            plasmid.get(square.remote(1))
        except plasmid.exceptions.SessionError as error:
            print(error)
        """,
        env=with_path(modules),
    )
    assert "exited with status 5" in out
    assert "bad site" in out


@pytest.mark.parametrize("fault", ["raise SystemExit", "import os; os.abort()"])
def test_a_module_that_cannot_be_preloaded_is_left_to_the_tasks(modules: Path, fault: str) -> None:
    (modules / "pandas.py").write_text(fault)
    out = run(
        """
        sys.modules["pandas"] = json  # as if the program had one that works
        plasmid.init(num_cpus=2)
        del sys.modules["pandas"]
        plasmid.get(square.remote(3))
        until(lambda: len(pids("worker")) == 2)
        print(plasmid.get([square.remote(3) for _ in range(10)])[-1])
        """,
        env=with_path(modules),
    )
    assert out == "9\n"


def test_workers_that_die_at_their_start_are_reported_and_do_not_spin(modules: Path) -> None:
    (modules / "sitecustomize.py").write_text(
        "import os, sys\n"
        "if 'plasmid.runtime.nursery' in ' '.join(sys.orig_argv):\n"
        "    nursery = os.getpid()\n"
        "    def worker():\n"
        "        if os.getppid() != nursery:\n"
        "            os._exit(6)\n"
        "    os.register_at_fork(after_in_child=worker)\n"
    )
    out = run(
        """
        plasmid.init(num_cpus=2)
        try:
            plasmid.get(square.remote(1))
        except plasmid.exceptions.SessionError as error:
            print(error)
        """,
        env=with_path(modules),
    )
    assert "a worker exited with status 6 while it was starting" in out


# Odd surroundings --------------------------------------------------------------------------------

SIMPLE = """
plasmid.init(num_cpus=2)
print(plasmid.get([square.remote(x) for x in range(10)])[-1])
"""


def test_64_descriptors_are_enough() -> None:
    command = ["sh", "-c", 'ulimit -n 64; exec "$@"', "sh", sys.executable, "-c", PRELUDE + SIMPLE]
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout == "81\n"


@pytest.mark.skipif(os.getuid() != 0, reason="needs to mount")
@pytest.mark.parametrize("options", ["size=64k", "ro"])
def test_a_tiny_or_read_only_dev_shm_does_not_matter(options: str) -> None:
    script = f'mount -t tmpfs -o {options} tmpfs /dev/shm; exec "$@"'
    command = ["unshare", "-m", "sh", "-c", script, "sh", sys.executable, "-c", PRELUDE + SIMPLE]
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout == "81\n"


def test_a_deleted_folder_can_be_worked_in(tmp_path: Path) -> None:
    folder = tmp_path / "deleted"
    folder.mkdir()
    assert run(f'os.chdir("{folder}"); os.rmdir("{folder}")\n{SIMPLE}') == "81\n"


def test_a_session_can_be_started_from_a_thread() -> None:
    out = run(
        f"""
        def work():
            exec({SIMPLE!r}, globals())
        thread = threading.Thread(target=work)
        thread.start()
        thread.join()
        print(plasmid.get(square.remote(2)))
        """
    )
    assert out == "81\n4\n"


def test_the_main_module_needs_no_guard(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(PRELUDE + 'print("main")\n' + SIMPLE)
    out = subprocess.run([sys.executable, script], capture_output=True, text=True, check=True)
    assert out.stdout == "main\n81\n"


def test_a_program_that_ignores_its_children_is_served() -> None:
    """SIG_IGN for SIGCHLD is inherited by programs, and then the kernel keeps no exit status."""
    assert run(f"signal.signal(signal.SIGCHLD, signal.SIG_IGN)\n{SIMPLE}") == "81\n"


def test_a_program_without_standard_streams_is_served(tmp_path: Path) -> None:
    result = tmp_path / "result"
    code = f"{PRELUDE}{SIMPLE}".replace("print(", "print >> sys.stderr, (").replace(
        "print >> sys.stderr, (", f"open({str(result)!r}, 'w').write(str("
    )
    code = code.rstrip()[: code.rstrip().rindex(")")] + "))"
    command = ["sh", "-c", 'exec "$@" 0<&- 1>&- 2>&-', "sh", sys.executable, "-c", code]
    assert subprocess.run(command).returncode == 0
    assert result.read_text() == "81"


def test_output_is_not_shown_if_it_is_not_wanted() -> None:
    out = run(
        """
        plasmid.init(num_cpus=1, log_to_driver=False)
        plasmid.get(plasmid.remote(lambda: print("x")).remote())
        """
    )
    assert out == ""


def test_everything_printed_is_shown_before_the_program_ends() -> None:
    program = Program(
        """
        plasmid.init(num_cpus=2)
        @plasmid.remote
        def say(n):
            print("line", n)
            print("unfinished", n, end="")
            print("error", n, file=sys.stderr)
        plasmid.get([say.remote(n) for n in range(50)])
        """
    )
    out = program.end()
    for n in range(50):
        assert f") line {n}\n" in out
        assert f") unfinished {n}\n" in out
        assert f") error {n}\n" in program.err
    assert all(line.startswith("(say pid=") for line in out.splitlines())


def test_idle_processes_use_no_cpu() -> None:
    out = run(
        """
        plasmid.init(num_cpus=2)
        plasmid.get([square.remote(x) for x in range(10)])
        # The nursery forks twice for each worker: wait until those between are gone, too.
        until(lambda: len(pids("worker")) == 2 and len(pids("nursery")) == 1)
        everyone = [os.getpid()] + sum((pids(t) for t in ("keeper", "nursery", "worker")), [])
        def cpu():
            fields = [open(f"/proc/{pid}/schedstat").read().split() for pid in everyone]
            return [int(f[2]) for f in fields[1:]]  # times each was given a CPU
        time.sleep(0.5)
        before = cpu()
        time.sleep(1)
        print([b - a for a, b in zip(before, cpu())])
        """
    )
    assert out == "[0, 0, 0, 0]\n"
