"""The nursery: a Python process that has loaded what workers need and forks them, about 3 ms each.

It never maps the arena: a fork of it is a process that holds nothing. The first worker is forked
before anything is preloaded, so that the first task need not wait for pandas. Each worker is forked
twice: the process between tells the keeper the worker's pid and ends, and the kernel gives the
worker to the keeper, who learns how it ends.

The keeper asks with a number ("2") and gets an answer for each: "worker <pid>" or "failed <why>".
"preloaded" says that the modules are in. If the nursery dies before that, its successor is told to
preload nothing.
"""

from __future__ import annotations

import faulthandler
import gc
import importlib
import os
import pickle
import resource
import select
import signal
import socket
import sys
import traceback
import warnings
from collections.abc import Sequence
from contextlib import suppress
from typing import Any, NoReturn

from plasmid._core import core
from plasmid.runtime import aliases, breakpoints, lifeline, output, stacks, worker
from plasmid.runtime.environment import ThreadLimit
from plasmid.runtime.keeper import ARENA, BELL, DRIVER, LIFE, set_title
from plasmid.runtime.start import WorkerStart


def main(argv: Sequence[str]) -> None:
    """Fork workers until the keeper is gone. argv: descriptors of the control socket and of the
    life line, the user's limit of open files, 1 if nothing is to be preloaded; stdin: the session's
    configuration; the other descriptors are where the keeper has them."""
    control, life, file_limit, bare = (int(number) for number in argv)
    set_title("plasmid-nursery")
    lifeline.tie_myself(LIFE)
    for fd in (ARENA, BELL, DRIVER, LIFE, control, life):
        os.set_inheritable(fd, False)  # by programs that tasks start; forks have them
    boot = _read_boot()
    sys.argv[:] = boot["argv"]
    aliases.install(boot["aliases"])
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (file_limit, hard))
    threads = ThreadLimit(os.environ)  # before numeric libraries are loaded
    start = WorkerStart(ARENA, BELL, DRIVER, threads)
    stacks.ignore()
    Nursery(socket.socket(fileno=control), life, start, boot["log_name"], boot["terminal"]).run(
        () if bare else boot["preload"]
    )


class Nursery:
    """Answers the keeper.

    Processes and threads: one process, one thread. Every method but `run` may return in the nursery
    only: what is forked goes its own way.
    """

    def __init__(
        self, control: socket.socket, life: int, start: WorkerStart, log_name: str, terminal: str
    ) -> None:
        self._control = control
        self._life = life
        self._start = start
        self._log_name = log_name
        self._terminal = terminal

    def run(self, preload: Sequence[str]) -> None:
        waiting = 0
        if select.select([self._control], [], [], 0)[0]:
            waiting = self._hear()
            if waiting:
                self._fork()
                waiting -= 1
        _preload(preload)
        self._answer("preloaded")
        while True:
            gc.freeze()  # a worker's collector then leaves alone, and shared, what is here now
            for _ in range(waiting):
                self._fork()
            waiting = self._hear()

    def _hear(self) -> int:
        """The number of workers that the keeper asks for. Ends this process when the keeper has
        hung up."""
        try:
            message = self._control.recv(64)
        except ConnectionError:
            message = b""
        if not message:
            os._exit(0)
        return int(message)

    def _answer(self, message: str) -> None:
        try:
            self._control.send(message.encode())
        except ConnectionError:
            os._exit(0)  # the keeper is gone

    def _fork(self) -> None:
        """Fork a worker and answer the keeper, exactly once."""
        try:
            between = _quiet_fork()
        except OSError as error:
            self._answer(f"failed fork: {error}")
            return
        if between == 0:
            self._fork_again()
        _, status = os.waitpid(between, 0)
        code = os.waitstatus_to_exitcode(status)
        if code != 0:
            why = os.strerror(code) if code > 0 else f"killed by signal {-code}"
            self._answer(f"failed fork: {why}")

    def _fork_again(self) -> NoReturn:
        try:
            pid = _quiet_fork()
        except OSError as error:
            os._exit(error.errno or 1)
        if pid == 0:
            self._work()
        self._answer(f"worker {pid}")
        os._exit(0)

    def _work(self) -> NoReturn:
        """The life of a worker."""
        status = 1
        try:
            set_title("plasmid-worker")
            lifeline.tie_myself(LIFE)
            self._control.close()
            os.close(self._life)
            output.redirect(self._log_name)
            core.line_buffer_stdout()
            faulthandler.enable(file=2)
            stacks.prepare()
            breakpoints.prepare(self._terminal)
            signal.signal(signal.SIGINT, signal.default_int_handler)
            gc.enable()
            _part_from_siblings()
            worker.main(self._start)
            status = 0
        except BaseException:
            traceback.print_exc()
        finally:
            try:
                for stream in (sys.stdout, sys.stderr):  # or what a task has put in their place
                    with suppress(BaseException):
                        stream.flush()
            finally:
                os._exit(status)


def _read_boot() -> dict[str, Any]:
    """The configuration that the driver wrote; afterwards stdin is empty."""
    with open(0, "rb") as config:
        boot: dict[str, Any] = pickle.load(config)
    null = os.open(os.devnull, os.O_RDONLY)  # the lowest free descriptor: 0
    os.set_inheritable(null, True)
    return boot


def _preload(names: Sequence[str]) -> None:
    """Import what workers will need. What cannot be imported here says so in the task that needs
    it."""
    gc.disable()
    for name in names:
        try:
            importlib.import_module(name)
        except BaseException:
            continue


def _quiet_fork() -> int:
    """fork(), without the warning of newer Pythons about threads: those that libraries started when
    they were preloaded are idle, and the libraries are made to be forked."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return os.fork()


def _part_from_siblings() -> None:
    """Workers forked from one process must not draw the same random numbers. The module `random`
    sees to itself."""
    if "numpy.random" in sys.modules:
        sys.modules["numpy.random"].seed()
