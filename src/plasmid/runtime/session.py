"""The driver's side of a session: what `init()` starts and `shutdown()` ends."""

from __future__ import annotations

import os
import pickle
import select
import signal
import subprocess
import sys
from contextlib import ExitStack, suppress
from pathlib import Path

import plasmid
from plasmid._core import core
from plasmid.exceptions import ResourceLimitError
from plasmid.runtime import aliases, breakpoints, handover, memory_watch, resources, trimming
from plasmid.runtime.huge_pages import huge_pages
from plasmid.runtime.imports import import_path, python_version
from plasmid.runtime.keeper import start_time
from plasmid.runtime.lifeline import Lifeline
from plasmid.runtime.logs import Follower
from plasmid.runtime.spilling import SpillFile, spill_file

_HEAVY = ("numpy", "pyarrow", "pandas")


class Session:
    """An arena with its processes, started by this process.

    The constructor returns as soon as the arena exists; keeper, nursery and first worker come up
    behind it. ResourceLimitError if the memory cannot be had, SpillFolderError if there can be no
    file in `spill_folder`.

    Processes and threads: one per driver process. `close` may be called by any thread, once; it
    waits until the session's processes are gone and what they printed has been shown. If the driver
    dies instead, by `kill -9` too, all of them end by themselves and nothing is left. A forked
    child has nothing to close.
    """

    def __init__(
        self,
        *,
        num_cpus: int | None = None,
        num_gpus: int | None = None,
        memory: int | None = None,
        custom: dict[str, float] | None = None,
        object_store_memory: int | None = None,
        log_to_driver: bool = True,
        name: str | None = None,
        namespace: str | None = None,
        labels: dict[str, str] | None = None,
        spill_folder: str | None = None,
    ) -> None:
        self.num_cpus = resources.usable_cpus() if num_cpus is None else num_cpus
        self.num_gpus = resources.usable_gpus() if num_gpus is None else num_gpus
        self.memory = resources.memory().bytes if memory is None else memory
        self.object_store_memory = resources.object_store_bytes(object_store_memory)
        self.import_path = import_path()
        """Where the session's workers look for modules."""
        self.aliases = aliases.names()
        """Other names of plasmid that they know."""
        self.name = name or handover.new_name()
        """What other programs of this user join it by."""
        with ExitStack() as undo:
            others = totals(self.num_gpus, self.memory, custom or {})
            spill = spill_file(spill_folder)
            self.arena = create(self.object_store_memory, self.num_cpus, others, spill)
            undo.callback(self.arena.leave)
            if huge_pages():
                self.arena.use_huge_pages()
            bell = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
            undo.callback(os.close, bell)
            self.arena.set_bell(bell)
            driver = os.pidfd_open(os.getpid())
            undo.callback(os.close, driver)
            self._life = Lifeline()
            undo.callback(self._life.cut)
            listener = undo.enter_context(handover.listen(self.name))
            log_name = ""
            if log_to_driver:
                logs = Follower()
                undo.callback(logs.drain)
                log_name = logs.name
            told = {
                "address": self.name,
                "aliases": self.aliases,
                "namespace": namespace,
                "spill_folder": spill.folder if spill else None,
            }
            self.arena.set_boot(pickle.dumps({**boot(log_name, labels or {}), **told}))
            self._guard = core.Guard(
                self.arena,
                [os.fsencode(part) for part in keeper_command(log_name)],
                [name + b"=" + value for name, value in os.environb.items()],
                [self.arena.fd, bell, driver, self._life.read_end, listener.fileno()],
            )
            undo.callback(self._end_processes)
            self._undo = undo.pop_all()

    def close(self) -> None:
        """End all processes of the session, show the rest of their output, and leave the arena."""
        self._undo.close()

    def _end_processes(self) -> None:
        self.arena.end()  # from here on nobody can attach, so nobody is missed
        pidfds = self._processes()
        for pidfd in pidfds:
            with suppress(ProcessLookupError):
                signal.pidfd_send_signal(pidfd, signal.SIGKILL)
        self._life.cut()  # whoever has escaped that is killed now
        self._guard.stop()
        for pidfd in pidfds:
            _await_end(pidfd)

    def _processes(self) -> list[int]:
        """A pidfd of each worker, of the nursery, and of the workers that have not attached yet."""
        found: dict[int, int | None] = {}
        for client in self.arena.clients():
            if client.kind == core.WORKER:
                found[client.pid] = _open_pidfd(client.pid, client.start_time)
        keeper = self._guard.pid
        with suppress(OSError):
            children = Path(f"/proc/{keeper}/task/{keeper}/children").read_text().split()
            for pid in map(int, children):
                command = Path(f"/proc/{pid}/cmdline").read_bytes()
                if pid not in found and b"plasmid.runtime.nursery" in command:
                    found[pid] = _open_pidfd(pid, start_time(pid))
        return [pidfd for pidfd in found.values() if pidfd is not None]


NODE_RESOURCES = ("node:127.0.0.1", "node:__internal_head__")
"""What Ray programs ask a little of to be on this machine."""


def totals(gpus: int, memory: int, custom: dict[str, float]) -> list[tuple[bytes, int]]:
    """What tasks may use beside CPUs, as `core.Arena.create` takes it. ResourceLimitError if the
    core cannot count so many."""
    room = core.KINDS - 3 - len(NODE_RESOURCES)
    if gpus > core.DEVICES:
        raise ResourceLimitError(f"init: num_gpus={gpus}, but there can be {core.DEVICES} at most")
    if len(custom) > room:
        raise ResourceLimitError(
            f"init: resources names {len(custom)} kinds, but there can be {room} at most"
        )
    named = {**dict.fromkeys(NODE_RESOURCES, 1.0), **custom}
    for name in custom:
        if len(name.encode()) > core.KIND_NAME_BYTES:
            raise ResourceLimitError(
                f"init: a resource's name may have {core.KIND_NAME_BYTES} bytes, not {name!r}"
            )
    return [
        (b"GPU", gpus * core.UNITS),
        (b"memory", memory),
        *((name.encode(), round(amount * core.UNITS)) for name, amount in named.items()),
    ]


def create(
    heap_bytes: int,
    cpus: int,
    others: list[tuple[bytes, int]],
    spill: SpillFile | None = None,
) -> core.Arena:
    """A session's arena. Closes `spill`, of which it keeps a descriptor of its own."""
    try:
        arena = core.Arena.create(
            heap_bytes, cpus * core.UNITS, others, spill.bytes if spill else 0
        )
        if spill:
            arena.use_disk(spill.fd)
    except OSError as error:
        raise resources.why_no_arena(error, heap_bytes) from error
    finally:
        if spill:
            spill.close()
    return arena


def _open_pidfd(pid: int, started: int) -> int | None:
    try:
        pidfd = os.pidfd_open(pid)
    except OSError:  # it is gone, or no descriptor is left
        return None
    if start_time(pid) == started:
        return pidfd
    os.close(pidfd)  # the number belongs to another process now
    return None


def _await_end(pidfd: int, patience: float = 5.0) -> None:
    """Wait until a process is gone. Reap it if its parents' deaths made it ours, as they do where
    this program is the first process of a container."""
    ending = select.poll()
    ending.register(pidfd, select.POLLIN)
    ending.poll(patience * 1000)
    with suppress(ChildProcessError):
        os.waitid(os.P_PIDFD, pidfd, os.WEXITED | os.WNOHANG)
    os.close(pidfd)


def boot(log_name: str, labels: dict[str, str]) -> dict[str, object]:
    """The configuration that nursery and workers read: what makes them see the program's
    modules."""
    return {
        "python": python_version(),
        "sys_path": import_path(),
        "argv": list(sys.argv),
        "main_path": getattr(sys.modules.get("__main__"), "__file__", None),
        "preload": ["cloudpickle", *(name for name in _HEAVY if name in sys.modules)],
        "log_name": log_name,
        "terminal": breakpoints.terminal(),
        "labels": labels,
    }


def keeper_command(log_name: str) -> list[str]:
    """Command line of the keeper. It must be light: no site module, and `plasmid` is an empty
    package whose submodules are found where ours are, so that plasmid/__init__.py does not run."""
    program = (
        "import sys; p = sys.modules['plasmid'] = type(sys)('plasmid'); "
        f"p.__path__ = {list(plasmid.__path__)!a}; "
        "from plasmid.runtime.keeper import main; main(sys.argv[1:])"
    )
    kills = resources.oom_counter()
    trimming.warm_seconds()  # which the keeper reads: it is refused here
    memory = memory_watch.Settings.of_environment(resources.memory_sources()).encode()
    return [python(), "-I", "-S", "-c", program, log_name, kills, memory, *nursery_command()]


def nursery_command() -> list[str]:
    """Command line of the nursery: the program's own interpreter and flags, and its sys.path."""
    program = (
        f"import sys; sys.path[:] = {import_path()!a}; "
        "from plasmid.runtime.nursery import main; main(sys.argv[1:])"
    )
    flags: list[str] = subprocess._args_from_interpreter_flags()  # type: ignore[attr-defined]
    return [python(), *flags, "-c", program]


def python() -> str:
    """The interpreter that runs this program."""
    if not sys.executable or not os.access(sys.executable, os.X_OK):
        raise RuntimeError(
            f"sys.executable is {sys.executable!r}: set it to the Python interpreter for workers"
        )
    return sys.executable
