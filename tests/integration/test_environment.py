"""Odd surroundings: small or read-only file systems, few descriptors, closed streams, limits,
signal handlers, forks."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from processes import PRELUDE, Program, run

USE = """
plasmid.init(num_cpus=2)
everything()
print(plasmid.get([square.remote(x) for x in range(10)])[-1])
array = plasmid.put(bytes(5_000_000))
print(len(plasmid.get(plasmid.remote(lambda data: bytes(data)).remote(array))))
"""
USED = "81\n5000000\n"


def script(folder: Path, code: str) -> Path:
    path = folder / "script.py"
    path.write_text(PRELUDE + textwrap.dedent(code))
    return path


# File systems ------------------------------------------------------------------------------------


def in_namespace(mounts: str, code: str = USE, **options: object) -> str:
    """Run in a mount namespace of its own, where these commands were run before."""
    mount = ["unshare", "-m", "mount", "-t", "tmpfs", "tmpfs", "/mnt"]
    probe = subprocess.run(mount, capture_output=True)
    if probe.returncode:
        pytest.skip("mount namespaces cannot be made here")
    prefix = ["unshare", "-m", "sh", "-c", f'{mounts}; exec "$@"', "sh"]
    return run(code, prefix=prefix, **options)


@pytest.mark.parametrize("options", ["size=64m", "size=64k", "ro"])
def test_a_small_or_read_only_dev_shm(options: str) -> None:
    assert in_namespace(f"mount -t tmpfs -o {options} tmpfs /dev/shm") == USED


def test_the_store_may_be_larger_than_dev_shm() -> None:
    out = in_namespace(
        "mount -t tmpfs -o size=64m tmpfs /dev/shm",
        """
        plasmid.init(num_cpus=1, object_store_memory=400_000_000)
        print(len(plasmid.get(plasmid.put(bytes(300_000_000)))))
        """,
    )
    assert out == "300000000\n"


def read_only(*folders: str) -> str:
    """Commands that keep what is in the folders (this package, perhaps), and forbid to write."""
    return "; ".join(f"mount --bind {f} {f}; mount -o remount,bind,ro {f}" for f in folders)


def test_a_read_only_tmp() -> None:
    assert in_namespace(read_only("/tmp", "/var/tmp")) == USED


SHOWN = USE + "plasmid.get(plasmid.remote(lambda: print('shown')).remote())\n"


def test_nowhere_to_write_at_all() -> None:
    """What tasks print goes to memory then, and is shown all the same."""
    out = in_namespace(read_only("/tmp", "/var/tmp", "/dev/shm"), SHOWN)
    assert ") shown\n" in out


def test_a_full_tmp(tmp_path: Path) -> None:
    """Output that finds no room is dropped; the task does not fail."""
    mounts = f"mount -t tmpfs -o size=4k tmpfs {tmp_path}; head -c 8k /dev/zero > {tmp_path}/full"
    env = {**os.environ, "TMPDIR": str(tmp_path)}
    assert in_namespace(f"({mounts}) 2>/dev/null", SHOWN, env=env).startswith(USED)


# Where the program is ----------------------------------------------------------------------------


def test_a_deleted_working_directory(tmp_path: Path) -> None:
    folder = tmp_path / "deleted"
    folder.mkdir()
    assert run(f"os.chdir({str(folder)!r}); os.rmdir({str(folder)!r})\n{USE}") == USED


def test_a_working_directory_that_cannot_be_written(tmp_path: Path) -> None:
    assert run(f"os.chdir('/proc')\n{USE}") == USED


def test_started_from_a_thread() -> None:
    """The session outlives the thread, and other threads use it."""
    out = run(
        f"""
        def work():
            exec({USE!r}, globals())
        for target in (work, lambda: print(plasmid.get(square.remote(3)))):
            thread = threading.Thread(target=target)
            thread.start()
            thread.join()
        print(plasmid.get(square.remote(2)))
        """
    )
    assert out == f"{USED}9\n4\n"


def test_ended_from_a_thread() -> None:
    assert run(f"{USE}\nt = threading.Thread(target=plasmid.shutdown); t.start(); t.join()") == USED


def test_main_without_a_guard(tmp_path: Path) -> None:
    path = script(tmp_path, f"print('main')\n{textwrap.dedent(USE)}")
    assert run("", arguments=[sys.executable, str(path)]) == f"main\n{USED}"


def test_a_script_on_stdin(tmp_path: Path) -> None:
    with script(tmp_path, USE).open() as stdin:
        assert run("", arguments=[sys.executable], stdin=stdin) == USED
    with script(tmp_path, USE).open() as stdin:
        assert run("", arguments=[sys.executable, "-"], stdin=stdin) == USED


def test_a_module_run_by_name(tmp_path: Path) -> None:
    (tmp_path / "package").mkdir()
    (tmp_path / "package" / "__init__.py").write_text("")
    (tmp_path / "package" / "__main__.py").write_text(PRELUDE + "from . import part\n" + USE)
    (tmp_path / "package" / "part.py").write_text("")
    assert run("", arguments=[sys.executable, "-m", "package"], cwd=tmp_path) == USED


def test_modules_of_the_pythonpath_and_of_the_scripts_folder(tmp_path: Path) -> None:
    for name in ("near", "far"):
        (tmp_path / name).mkdir()
    (tmp_path / "far" / "from_path.py").write_text("def value():\n    return 'from path'\n")
    (tmp_path / "near" / "beside.py").write_text("def value():\n    return 'beside'\n")
    path = script(
        tmp_path / "near",
        """
        import beside, from_path
        plasmid.init(num_cpus=1)
        for module in (beside, from_path):
            print(plasmid.get(plasmid.remote(module.value).remote()))
        """,
    )
    env = {**os.environ, "PYTHONPATH": f"{tmp_path / 'far'}:{os.environ.get('PYTHONPATH', '')}"}
    out = run("", arguments=[sys.executable, str(path)], env=env, cwd="/")
    assert out == "beside\nfrom path\n"


@pytest.mark.parametrize(
    "flags", [["-O"], ["-OO"], ["-X", "utf8"], ["-W", "error"], ["-u"], ["-B"], ["-E", "-s"]]
)
def test_the_interpreters_flags(tmp_path: Path, flags: list[str]) -> None:
    code = (
        f"import sys; sys.path[:] = {sys.path!r}\n"
        + PRELUDE
        + textwrap.dedent(
            """
        plasmid.init(num_cpus=1)
        seen = plasmid.remote(lambda: (__debug__, sys.flags.optimize, sys.flags.utf8_mode)).remote()
        assert plasmid.get(seen) == (__debug__, sys.flags.optimize, sys.flags.utf8_mode)
        print(plasmid.get(square.remote(3)))
        """
        )
    )
    assert run("", arguments=[sys.executable, *flags, "-c", code]) == "9\n"


@pytest.mark.parametrize("value", ["None", "''", "'/nowhere/python'", "'/etc/passwd'"])
def test_an_unusual_sys_executable(value: str) -> None:
    """Embedded interpreters have none, or the program's own."""
    out = run(
        f"""
        real, sys.executable = sys.executable, {value}
        try:
            plasmid.init(num_cpus=1)
        except RuntimeError as error:
            print("sys.executable" in str(error))
        sys.executable = real
        plasmid.init(num_cpus=1)
        print(plasmid.get(square.remote(3)))
        """
    )
    assert out == "True\n9\n"


def test_a_link_to_the_interpreter(tmp_path: Path) -> None:
    link = tmp_path / "my python"
    link.symlink_to(sys.executable)
    code = f"import sys; sys.path[:] = {sys.path!r}\n{PRELUDE}{USE}"
    assert run("", arguments=[str(link), "-c", code]) == USED


@pytest.mark.parametrize("name", ["nohup", "setsid"])
def test_run_by(name: str) -> None:
    command = [name, *(["--wait"] if name == "setsid" else [])]
    assert run(USE, prefix=command).endswith(USED)


def test_nohup_survives_the_hang_up() -> None:
    out = run(f"os.kill(os.getpid(), signal.SIGHUP)\n{USE}", prefix=["nohup"])
    assert out.endswith(USED)


# Streams and descriptors -------------------------------------------------------------------------


@pytest.mark.parametrize("closed", ["0<&-", "1>&-", "2>&-", "0<&- 1>&- 2>&-"])
def test_closed_standard_streams(tmp_path: Path, closed: str) -> None:
    result = tmp_path / "result"
    code = f"""
        plasmid.init(num_cpus=1)
        plasmid.get(plasmid.remote(lambda: print("unseen")).remote())
        with open({str(result)!r}, "w") as file:
            file.write(str(plasmid.get(square.remote(9))))
        """
    Program(code, prefix=["sh", "-c", f'exec "$@" {closed}', "sh"]).end()
    assert result.read_text() == "81"


def test_sys_stdout_none_or_broken() -> None:
    run(
        """
        class Broken:
            def write(self, text):
                raise OSError("broken")
            def flush(self):
                raise ValueError("broken")
        plasmid.init(num_cpus=1)
        for sys.stdout in (None, Broken()):
            plasmid.get(plasmid.remote(lambda: print("unseen")).remote())
        plasmid.shutdown()
        sys.stdout = sys.__stdout__
        """
    )


def test_stdout_closed_by_its_reader() -> None:
    """`program | head -1`: no error of ours, no hang."""
    program = Program(
        """
        plasmid.init(num_cpus=2)
        @plasmid.remote
        def talk(n):
            for i in range(n):
                print("line", i)
        plasmid.get([talk.remote(20_000) for _ in range(4)])
        os._exit(0)
        """
    )
    program.line()
    assert program.process.stdout
    program.process.stdout.close()
    assert program.process.wait(60) == 0
    program.gone()


def test_64_descriptors() -> None:
    assert run(USE, prefix=["sh", "-c", 'ulimit -n 64; exec "$@"', "sh"]) == USED


def test_64_descriptors_and_more_workers_than_that() -> None:
    """The driver follows the output of as many as leave some for the program; the keeper raises
    its limit."""
    out = run(
        """
        plasmid.init(num_cpus=40)
        @plasmid.remote
        def meet(folder):
            open(f"{folder}/{os.getpid()}", "w").close()
            while len(os.listdir(folder)) < 40:
                time.sleep(0.01)
            return 1
        import tempfile
        with tempfile.TemporaryDirectory() as folder:
            print(sum(plasmid.get([meet.remote(folder) for _ in range(40)])))
        """,
        prefix=["sh", "-c", 'ulimit -Sn 64; exec "$@"', "sh"],
    )
    assert out.splitlines()[-1] == "40"


def test_no_descriptor_left() -> None:
    """A named error, and a session when there are some again."""
    out = run(
        """
        import resource
        resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))
        files = []
        try:
            while True:
                files.append(open("/dev/null"))
        except OSError:
            pass
        for free in range(64):
            try:
                plasmid.init(num_cpus=1)
                break
            except OSError as error:
                assert error.errno == 24, error
                files.pop().close()
        files.clear()
        print(plasmid.get(square.remote(3)))
        """
    )
    assert out == "9\n"


# Memory ------------------------------------------------------------------------------------------


def test_a_store_larger_than_the_machine() -> None:
    out = run(
        """
        for size in (10**15, 2**62):
            try:
                plasmid.init(object_store_memory=size)
            except ValueError as error:
                print(str(size) in str(error), isinstance(error, plasmid.exceptions.PlasmidError))
        print(plasmid.is_initialized())
        """
    )
    assert out == "True True\n" * 2 + "False\n"


@pytest.mark.parametrize(
    "size", ["0", "-1", "float('nan')", "float('inf')", "'1GB'", "True", "[]", "1000"]
)
def test_a_size_that_is_none(size: str) -> None:
    out = run(
        f"""
        try:
            plasmid.init(object_store_memory={size})
        except (ValueError, TypeError) as error:
            print("object_store_memory" in str(error))
        """
    )
    assert out == "True\n"


def test_a_store_too_small_for_an_object() -> None:
    out = run(
        """
        plasmid.init(num_cpus=1, object_store_memory=20_000_000)
        for make in (lambda: plasmid.put(bytes(30_000_000)),
                     lambda: plasmid.get(plasmid.remote(lambda: bytes(30_000_000)).remote())):
            try:
                make()
            except MemoryError as error:
                print(isinstance(error, plasmid.exceptions.ObjectStoreFullError))
                print("30000" in str(error), "object_store_memory" in str(error))
        print(plasmid.get(plasmid.put(7)))
        """
    )
    assert out == "True\nTrue True\n" * 2 + "7\n"


@pytest.mark.parametrize("megabytes", [600, 16_000])
def test_a_limited_address_space(megabytes: int) -> None:
    """`ulimit -v`: either the session fits in, or a named error says what is in the way."""
    out = run(
        """
        try:
            plasmid.init(num_cpus=1)
            print(plasmid.get(square.remote(9)))
        except plasmid.exceptions.PlasmidError as error:
            print("ulimit -v" in str(error))
        """,
        prefix=["sh", "-c", f'ulimit -v {megabytes * 1024}; exec "$@"', "sh"],
    )
    assert out == ("True\n" if megabytes < 1000 else "81\n")


def test_a_limited_file_size() -> None:
    """`ulimit -f` counts for memory files, too."""
    out = run(
        """
        try:
            plasmid.init(num_cpus=1, object_store_memory=100_000_000)
        except (OSError, ValueError) as error:
            print("limit" in str(error) or "large" in str(error))
        """,
        prefix=["sh", "-c", 'ulimit -f 20000; exec "$@"', "sh"],
    )
    assert out == "True\n"


# Signals and children of the program -------------------------------------------------------------


def test_the_program_reaps_all_children() -> None:
    """A SIGCHLD handler that waits for anybody takes the keeper's end from us."""
    out = run(
        """
        reaped = []
        def reap(*_):
            try:
                while True:
                    pid, status = os.waitpid(-1, os.WNOHANG)
                    if pid == 0:
                        return
                    reaped.append(pid)
            except ChildProcessError:
                pass
        signal.signal(signal.SIGCHLD, reap)
        plasmid.init(num_cpus=2)
        from plasmid.engine import current
        guard = current.engine._session._guard
        signs = [signal.SIGSTOP, signal.SIGKILL]
        while signs or not reaped:  # the session's own thread may be faster
            sign = signs.pop() if signs else signal.SIGKILL
            assert plasmid.get(square.remote(3)) == 9
            old = guard.pid
            os.kill(old, sign)
            while guard.pid == old:
                time.sleep(0.01)
            assert plasmid.get(square.remote(3)) == 9
        plasmid.shutdown()
        plasmid.init(num_cpus=1)
        print(plasmid.get(square.remote(3)))
        """
    )
    assert out == "9\n"


def test_the_program_waits_for_its_own_child_only() -> None:
    out = run(
        f"{USE}\nchild = subprocess.Popen(['sleep', '0.1'])\nprint(os.waitpid(child.pid, 0)[1])"
    )
    assert out == USED + "0\n"


@pytest.mark.parametrize("handler", ["SIG_IGN", "SIG_DFL"])
def test_children_are_ignored(handler: str) -> None:
    """With SIG_IGN the kernel keeps no exit status of children."""
    assert run(f"signal.signal(signal.SIGCHLD, signal.{handler})\n{USE}") == USED


def test_all_signals_blocked() -> None:
    """A mask is inherited by threads and programs; tasks run without it."""
    out = run(
        f"""
        signal.pthread_sigmask(signal.SIG_SETMASK, range(1, 65))
        {USE.strip().replace(chr(10), chr(10) + "        ")}
        mask = plasmid.remote(lambda: len(signal.pthread_sigmask(signal.SIG_BLOCK, ())))
        print(plasmid.get(mask.remote()))
        """
    )
    assert out == f"{USED}0\n"


def test_a_timer_interrupts_everything() -> None:
    out = run(
        """
        ticks = []
        signal.signal(signal.SIGALRM, lambda *_: ticks.append(1))
        signal.setitimer(signal.ITIMER_REAL, 0.001, 0.001)
        plasmid.init(num_cpus=2)
        for _ in range(300):
            assert plasmid.get([square.remote(x) for x in range(5)]) == [0, 1, 4, 9, 16]
        plasmid.shutdown()
        signal.setitimer(signal.ITIMER_REAL, 0)
        print(len(ticks) > 10)
        """
    )
    assert out == "True\n"


# fork --------------------------------------------------------------------------------------------


def test_a_forked_child_is_refused_and_can_have_a_session_of_its_own() -> None:
    out = run(
        """
        plasmid.init(num_cpus=1)
        ref = plasmid.put("parent's")
        task = square.remote(3)
        child = os.fork()
        if child == 0:
            for use in (lambda: plasmid.get(ref), lambda: plasmid.wait([ref]),
                        lambda: square.remote(ref), plasmid.available_resources):
                try:
                    use()
                except plasmid.exceptions.SessionError as error:
                    assert "fork" in str(error), error
                else:
                    assert False, use
            del ref, task
            plasmid.init(num_cpus=1)
            say(plasmid.get(square.remote(5)))
            plasmid.shutdown()
            sys.exit(0)
        assert os.waitpid(child, 0)[1] == 0
        say(plasmid.get(ref), plasmid.get(task), plasmid.get(square.remote(4)))
        """
    )
    assert out == "25\nparent's 9 16\n"


def test_a_forked_child_ends_without_harm_however_it_ends() -> None:
    """Finalizers of references, exit handlers and threads' leftovers are the parent's business."""
    out = run(
        """
        import gc
        plasmid.init(num_cpus=1)
        refs = [plasmid.put([n]) for n in range(100)]
        def forget():
            refs.clear()
            gc.collect()
        for how in (sys.exit, lambda: os._exit(0), forget, plasmid.shutdown):
            child = os.fork()
            if child == 0:
                how()
                sys.exit(0)
            assert os.waitpid(child, 0)[1] == 0
        print(plasmid.get(refs) == [[n] for n in range(100)])
        """
    )
    assert out == "True\n"


def test_multiprocessing_in_the_program() -> None:
    """A pool of forks beside the session; its children know nothing of it."""
    out = run(
        """
        import multiprocessing
        plasmid.init(num_cpus=2)
        data = plasmid.put(list(range(10)))
        with multiprocessing.get_context("fork").Pool(2) as pool:
            print(pool.map(abs, range(-5, 0)))
        print(plasmid.get(square.remote(3)), plasmid.get(data)[-1])
        """
    )
    assert out == "[5, 4, 3, 2, 1]\n9 9\n"


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_multiprocessing_in_a_task(method: str) -> None:
    out = run(
        f"""
        plasmid.init(num_cpus=1)
        @plasmid.remote
        def work():
            import multiprocessing
            with multiprocessing.get_context({method!r}).Pool(2) as pool:
                return pool.map(abs, range(-5, 0))
        print(plasmid.get([work.remote() for _ in range(2)]))
        print(plasmid.get(square.remote(3)))
        """
    )
    assert out == "[[5, 4, 3, 2, 1], [5, 4, 3, 2, 1]]\n9\n"


def test_programs_and_forks_in_a_task() -> None:
    out = run(
        """
        plasmid.init(num_cpus=1)
        @plasmid.remote
        def work(ref):
            found = [subprocess.run(["echo", "hello"], capture_output=True, text=True).stdout]
            child = os.fork()
            if child == 0:
                try:
                    plasmid.get(ref)
                except plasmid.exceptions.SessionError:
                    os._exit(7)
                os._exit(8)
            found.append(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
            return found
        print(plasmid.get(work.remote([plasmid.put(1)])))
        """
    )
    assert "hello" in out


def test_a_program_started_by_a_task_outlives_it_and_prints() -> None:
    out = run(
        """
        plasmid.init(num_cpus=1)
        @plasmid.remote
        def start():
            subprocess.Popen(["sh", "-c", "echo from a program"]).wait()
        plasmid.get(start.remote())
        """
    )
    assert ") from a program\n" in out


def test_subprocess_sessions_are_sessions_of_their_own(tmp_path: Path) -> None:
    """A task that runs another Python program that uses plasmid."""
    path = script(tmp_path, "plasmid.init(num_cpus=1)\nprint(plasmid.get(square.remote(6)))")
    out = run(
        f"""
        plasmid.init(num_cpus=1)
        @plasmid.remote
        def nest():
            return subprocess.check_output([sys.executable, {str(path)!r}], text=True)
        print(plasmid.get(nest.remote()))
        """
    )
    assert "36" in out


def test_what_a_task_opens_in_the_place_of_our_descriptors_is_left_alone(tmp_path: Path) -> None:
    """By a worker whose store and bells were under those numbers, and which goes on."""
    out = run(
        PRELUDE
        + f"""
import numpy as np
plasmid.init(num_cpus=1, object_store_memory=1 << 28)

@plasmid.remote
def close_and_open():
    os.closerange(3, 1000)
    sys.files = files = []  # they stay open
    files += [open({str(tmp_path)!r} + f"/{{n}}", "w+b", 0) for n in range(200)]
    for file in files:
        file.write(b"mine" * 10_000)
    return os.getpid()

@plasmid.remote
def full(n):
    return np.full(2_000_000, n, dtype=np.int64)

@plasmid.remote
def look():
    for file in sys.files:
        file.seek(0)
        assert file.read() == b"mine" * 10_000, file.name
    return os.getpid()

pid = plasmid.get(close_and_open.remote())
kept = [full.remote(n) for n in range(10)]  # into fresh memory
for n, ref in enumerate(kept):
    assert plasmid.get(ref).sum() == 2_000_000 * n
assert plasmid.get(look.remote()) == pid
plasmid.shutdown()
say("well")
"""
    )
    assert out == "well\n"


def test_a_task_that_closes_all_descriptors_ends_neither_the_session_nor_its_worker() -> None:
    out = run(
        PRELUDE
        + """
plasmid.init(num_cpus=1, object_store_memory=4 << 20)
from plasmid.engine import current

def keepers():
    return [c.pid for c in current.engine._arena.clients() if c.kind == 2]

@plasmid.remote
def close_all():
    os.closerange(3, 1000)
    return os.getpid()

@plasmid.remote
def pid():
    return os.getpid()

plasmid.get(pid.remote())
before = keepers()
first = plasmid.get(close_all.remote())
assert all(plasmid.get(pid.remote()) == first for _ in range(100))
assert keepers() == before
plasmid.shutdown()
say("well")
"""
    )
    assert out == "well\n"
