"""Sessions that outlive their starter: start, stop, list. What the shell commands call."""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from plasmid.exceptions import AuthenticationError, SessionError, SessionNotFoundError
from plasmid.runtime import handover
from plasmid.runtime.guest import Guest, join

if TYPE_CHECKING:
    from plasmid._core import core

STOP_SECONDS = 20.0


@dataclass(frozen=True)
class Status:
    """What one session has and does."""

    address: str
    started: bool
    pid: int
    cpus: float
    workers: int
    programs: int
    objects: int
    store_bytes: int
    used_bytes: int


def start(
    num_cpus: int | None,
    object_store_memory: int | None,
    log: Path | None,
    num_gpus: int | None = None,
    resources: dict[str, float] | None = None,
) -> str:
    """Start a session that lives until `stop`; its address. SessionError says why it cannot."""
    options = {
        "num_cpus": num_cpus,
        "num_gpus": num_gpus,
        "custom": resources,
        "object_store_memory": object_store_memory,
        "log_to_driver": log is not None,
    }
    try:
        output = os.open(log or os.devnull, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    except OSError as error:
        raise SessionError(f"start: the log cannot be written: {error}") from error
    read, write = os.pipe()
    command = [sys.executable, "-m", "plasmid.runtime.root", str(write), json.dumps(options)]
    with open(read, "rb") as pipe:
        try:
            subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                pass_fds=[write],
                start_new_session=True,
            )
        finally:
            os.close(write)
            os.close(output)
        answer = pipe.read().decode()
    if not answer or answer.startswith("!"):
        raise SessionError(f"start: {answer[1:] or 'the session ended while it was starting'}")
    Guest(answer).close()  # it can be joined
    return answer


def stop(address: str | None) -> list[str]:
    """End the started session at `address`, or all of this user's; the addresses of those ended.

    Blocks until they are gone. SessionNotFoundError if there is none at that address. A session of
    a program ends with that. SessionError about those that have not ended, after all others have.
    """
    found = [address] if address else list(filter(handover.is_started, handover.find()))
    if address and not handover.is_started(address):
        raise SessionNotFoundError(f"stop: {address!r} is not what `plasmid start` printed")
    stopped, failed = [], []
    for name in found:
        try:
            _stop(name)
            stopped.append(name)
        except SessionNotFoundError:
            if address:
                raise
            # it has just ended
        except SessionError as error:
            failed.append(str(error))
    if failed:
        raise SessionError("; ".join(failed))
    return stopped


def _stop(name: str) -> None:
    try:
        fds = handover.join(name)
    except ConnectionError as error:
        raise SessionNotFoundError(f"stop: no session answers at {name!r}") from error
    except TimeoutError as error:
        raise SessionError(
            f"stop: the keeper of session {name} does not answer; killing the process "
            "plasmid-root ends it, too"
        ) from error
    except PermissionError as error:
        raise AuthenticationError(f"stop: session {name} is another user's") from error
    try:
        _end(fds[2], name)
    finally:
        for fd in fds:
            os.close(fd)


def status() -> list[Status]:
    """All sessions of this user: started ones, and those of programs."""
    found = []
    for name in handover.find():
        with suppress(SessionError):
            found.append(_status(name))
    return found


@contextmanager
def _arena(address: str) -> Iterator[core.Arena]:
    guest = join(address)
    try:
        yield guest.arena
    finally:
        guest.close()


def memory(address: str) -> dict[str, Any]:
    """What is in the store of the session at `address` ("auto": any): engine.memory.survey()."""
    from plasmid.engine import memory

    with _arena(address) as arena:
        return memory.survey(arena)


def stacks(address: str, patience: float) -> str:
    """The Python stacks of all workers of the session at `address` ("auto": any), as text."""
    from plasmid._core import core
    from plasmid.runtime import stacks

    with _arena(address) as arena:
        workers = [each.pid for each in arena.clients() if each.kind == core.WORKER]
        found = stacks.read(workers, patience)
    return "\n\n".join(f"worker {pid}\n{text}" for pid, text in found.items()) or "no workers"


def tasks(address: str) -> list[dict[str, Any]]:
    """What the tasks of the session at `address` ("auto": any) do and did, as
    engine.history.tasks() has it."""
    from plasmid.engine import history

    with _arena(address) as arena:
        return history.tasks(arena)


def actors(address: str) -> list[dict[str, Any]]:
    """The actors that live in the session at `address` ("auto": any): engine.roster.actors()."""
    from plasmid.engine import roster

    with _arena(address) as arena:
        return roster.actors(arena)


def timeline(address: str) -> list[dict[str, Any]]:
    """The same as tasks(), as events in Chrome's trace format."""
    from plasmid.engine import history

    with _arena(address) as arena:
        return history.timeline(arena)


def _status(name: str) -> Status:
    from plasmid._core import core

    guest = Guest(name)
    try:
        clients, stats = guest.arena.clients(), guest.arena.stats()
        return Status(
            name,
            handover.is_started(name),
            next((client.pid for client in clients if client.kind == core.DRIVER), 0),
            guest.arena.cpu_total,
            stats["workers"],
            sum(client.kind == core.GUEST for client in clients) - 1,
            stats["entries"],
            stats["heap_capacity"],
            stats["heap_used"],
        )
    finally:
        guest.close()


def _end(pidfd: int, name: str) -> None:
    with suppress(ProcessLookupError):
        signal.pidfd_send_signal(pidfd, signal.SIGTERM)
    ended = select.poll()
    ended.register(pidfd, select.POLLIN)
    if not ended.poll(STOP_SECONDS * 1000):
        raise SessionError(f"stop: session {name} has not ended after {STOP_SECONDS:g} seconds")
