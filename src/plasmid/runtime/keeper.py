"""The keeper: the small process of a session that notices deaths, repairs, and sees that there are
workers.

Everything it knows is in the arena or comes from the kernel, so killing it loses nothing: its
successor opens pidfds from the client table, sweeps the dead, wakes all sleepers. What died with it
is the exit status of processes that it had adopted; their `cause` is then unknown.

One thread, one poll loop, no timer unless an attempt has failed and waits for the next, tasks run
that may come to need more memory than there is, or memory waits to be made or given back. It is on
nobody's path: put, get and tasks on existing workers go on while it is stopped or dead.

    bell       eventfd in the arena's care: workers are wanted, a client has come, a death was seen,
               a large put has met memory that does not exist
    listener   programs that join the session
    SIGCHLD    a worker or the nursery has ended or was stopped. Workers are forked twice, so the
               kernel gives them to the nearest subreaper, this process, which alone can learn how
               they ended
    pidfds     clients that are not its children: programs that joined, workers of an old keeper
    lifelines  pipes that hang up when a program that joined leaves, or becomes another (exec)
    nursery    one message for each worker it was asked for
    pressure   processes wait for memory (memory_watch.py)

When the driver is gone, the kernel kills keeper, nursery and workers by its lifeline, stopped ones
too; the C thread that `Arena.attach` starts does the same by the driver's pidfd. The nursery also
ends with its keeper.

It starts as `python -I -S` and imports only what it needs: 20 ms after the spawn it is in its loop.
"""

from __future__ import annotations

import os
import resource
import select
import signal
import socket
import sys
import time
from contextlib import suppress

from plasmid._core import core
from plasmid.runtime import handover, lifeline, names, output
from plasmid.runtime.limits import most_workers, utmost_workers
from plasmid.runtime.memory_watch import MemoryWatch, Settings
from plasmid.runtime.oom import NOT_KNOWN, OomKills, memory_use
from plasmid.runtime.trimming import Trimmer
from plasmid.runtime.warming import Warmer

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import NoReturn

ARENA, BELL, DRIVER, LIFE, LISTENER = range(3, 8)
"""Descriptors from the keeper's start on: arena, bell, the driver's pidfd and its lifeline, which
nursery and workers have under the same numbers; and the listener."""

REPORT_AFTER = 8
"""Failed starts in a row, 4 seconds, until the driver is told. Attempts go on."""

PATIENCE = 15
"""Failed starts in a row, some 10 seconds, after which attempts become rare."""

STALL_SECONDS = 0.25
"""More than what a worker that could run another task on its stack leaves to others."""

LONGEST_SLEEP = 86400.0
"""Seconds; poll() takes no more than 24 days, and a name may be given for years."""

_LAST_WORDS = 800
_WATCHED = (core.KEEPER, core.WORKER, core.GUEST)


def main(argv: Sequence[str]) -> None:
    """Serve until the session ends. argv: name of the driver's log socket ("" = none), the file
    that counts processes killed for want of memory, what memory to look at, then the nursery's
    command."""
    log_name, oom_kills, memory, *command = argv
    settle()
    if log_name:
        log = output.open_file()
        output.tell_driver(log_name, "keeper", os.getpid(), [log])
        os.dup2(log, 2)
        os.close(log)
    core.adopt_orphans()
    arena = core.Arena.attach(ARENA, core.KEEPER, DRIVER, BELL)
    settings = NurserySettings(command, log_name, raise_file_limit())
    listener = socket.socket(fileno=LISTENER)
    Keeper(arena, listener, settings, OomKills(oom_kills), Settings.decode(memory)).run()


def settle() -> None:
    """Keep nothing of the user's program but what was handed over: it may have open files that
    programs it starts inherit, and Ctrl-C is meant for it alone. End with it."""
    lifeline.tie_myself(LIFE)
    for fd in [int(name) for name in os.listdir("/proc/self/fd")]:
        if fd > LISTENER:
            with suppress(OSError):  # the descriptor that listed the folder
                os.close(fd)
    os.set_inheritable(LISTENER, False)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    set_title("plasmid-keeper")


def set_title(title: str) -> None:
    """The name that ps and top show."""
    with open("/proc/self/comm", "w") as comm:
        comm.write(title)


def raise_file_limit() -> int:
    """Allow as many descriptors as this user may have: a pidfd for each client. Returns the limit
    it was."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return soft


class Keeper:
    """The poll loop and what it knows.

    Processes and threads: one per session and one thread; beside it only the C watcher thread of
    its arena.
    """

    def __init__(
        self,
        arena: core.Arena,
        listener: socket.socket,
        settings: NurserySettings,
        oom_kills: OomKills,
        memory: Settings,
    ) -> None:
        self._arena = arena
        self._listener = listener
        self._settings = settings
        self._most_workers = most_workers(arena.cpu_total)
        self._utmost_workers = utmost_workers(arena.cpu_total)
        self._stall = Stall()
        self._has_told_stall = False
        self._nursery: _Nursery | None = None
        self._bare = False  # the next nursery preloads nothing
        self._asked = 0  # workers that the nursery was asked for and has not answered about
        self._children: dict[int, bool] = {}  # pid of a worker forked for us -> it has attached
        self._watched: dict[tuple[int, int], _Watch] = {}  # slot, epoch of clients not our children
        self._trouble = Trouble()
        self._oom_kills = oom_kills
        self._trimmer = Trimmer(arena)
        self._memory = MemoryWatch(arena, memory, lambda runner: self._kill(*runner[:3]))
        self._warmer = Warmer(arena, self._memory.left)
        self._timed = (self._stall, self._memory, self._trimmer, self._warmer)
        self._poll = select.poll()
        self._handlers: dict[int, Callable[[], None]] = {}

    def run(self) -> None:
        self._listen_to_signals()
        self._on(self._arena.bell, self._ring)
        self._on(self._listener.fileno(), self._admit)
        self._watch_pressure()
        self._start_nursery()
        self._meet_clients()
        self._arena.wake_all()  # whoever should have woken them may have died before it could
        if self._arena.failure():
            self._arena.set_failure(b"")  # of keepers before us; whether it lasts will be seen
        names.clear(self._arena)
        self._end_removed()
        while True:
            self._hire()
            self._expire()
            self._memory.look()
            self._trimmer.look()
            self._warmer.look()
            for fd, _ in self._poll.poll(self._timeout()):
                handler = self._handlers.get(fd)
                if handler:  # an earlier one of this round may have closed it
                    handler()

    # What can happen ----------------------------------------------------------------------------

    def _ring(self) -> None:
        with suppress(BlockingIOError):
            os.eventfd_read(self._arena.bell)
        self._meet_clients()
        self._see_to_guests()
        self._end_removed()

    def _admit(self) -> None:
        try:
            handover.serve(self._listener, (ARENA, BELL, DRIVER))
        except OSError:  # no descriptor left: the joining program waits; the loop must not spin
            time.sleep(0.01)

    def _child_changed(self) -> None:
        """SIGCHLD, or a pidfd of a worker that we did not know to be our child."""
        while True:
            try:
                pid, status, usage = os.wait4(-1, os.WUNTRACED | os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            if os.WIFSTOPPED(status):
                self._stopped(pid)
            else:
                self._ended(pid, os.waitstatus_to_exitcode(status), usage.ru_maxrss * 1024)

    def _stopped(self, pid: int) -> None:
        if self._nursery and pid == self._nursery.pid:
            os.kill(pid, signal.SIGKILL)
            return
        self._hear_nursery()  # we are told of a worker before the kernel gives it to us
        # Not only those we were told of: a nursery may have died before its last message.
        workers = [c for c in self._arena.clients() if c.pid == pid and c.kind == core.WORKER]
        for worker in workers:
            self._arena.set_aside(worker.slot, worker.epoch)
        if workers:  # it may hold the only wake for a queued task, and looks when it goes on
            self._arena.wake_all()
        elif pid in self._children:
            os.kill(pid, signal.SIGKILL)  # still starting: it has nothing, and is waited for

    def _ended(self, pid: int, cause: int, peak: int) -> None:
        """A child is reaped: nursery, worker, or an orphan that a task had started. `peak`: bytes
        that it had used at most."""
        if self._nursery and pid == self._nursery.pid:
            self._nursery_ended(self._nursery, cause)
            return
        self._hear_nursery()  # we are told of a worker before the kernel gives it to us
        was_client = self._sweep_process(pid, cause, peak)
        if self._children.pop(pid, True) is False and not was_client:
            self._failed(f"a worker {describe(cause)} while it was starting")

    def _nursery_ended(self, nursery: _Nursery, cause: int) -> None:
        self._hear_nursery()  # its last messages
        self._bare = not nursery.preloaded
        self._nursery = None
        self._asked = 0
        self._off(nursery.control.fileno())
        if nursery.preloaded:
            self._trouble.over()  # a process that had run well and was killed: no crash loop
        self._failed(f"the process that forks workers {describe(cause)}", nursery)
        nursery.close()

    def _nursery_spoke(self) -> None:
        if self._nursery and not self._hear_nursery():
            self._off(self._nursery.control.fileno())
            os.kill(self._nursery.pid, signal.SIGKILL)  # of no use any more, if not dead already

    def _hear_nursery(self) -> bool:
        """Read what the nursery has sent; False if it has hung up."""
        while self._nursery:
            try:
                message = self._nursery.control.recv(4096)
            except BlockingIOError:
                return True
            except ConnectionError:
                return False
            verb, _, rest = message.partition(b" ")
            if verb == b"preloaded":
                self._nursery.preloaded = True
            elif verb == b"worker":
                self._asked -= 1
                self._children[int(rest)] = False
                self._forget(int(rest))
                self._meet_clients()  # it may have attached before we heard of it
            elif verb == b"failed":
                self._asked -= 1
                self._failed(f"no worker could be forked: {rest.decode(errors='replace')}")
            else:
                return False
        return True

    # Clients ------------------------------------------------------------------------------------

    def _meet_clients(self) -> None:
        """Watch every client of the table, and sweep those that died before they could be
        watched."""
        for client in self._arena.clients():
            if client.kind not in _WATCHED or client.pid == os.getpid():
                continue
            if client.pid in self._children:
                if not self._children[client.pid]:
                    self._children[client.pid] = True
                    self._recovered()
            elif (client.slot, client.epoch) not in self._watched:
                self._watch(client)

    def _see_to_guests(self) -> None:
        """Sweep guests that left or became another program without a lifeline that tells of it:
        their life locks do."""
        for key, watch in list(self._watched.items()):
            if watch.kind == core.GUEST and watch.lifeline < 0:
                self._sweep_guest(key)

    def _sweep_guest(self, key: tuple[int, int]) -> bool:
        """False if it is a client still."""
        if not self._sweep(*key, core.GUEST):
            return False
        self._close(self._watched.pop(key))
        return True

    def _sweep(
        self,
        slot: int,
        epoch: int,
        kind: int,
        cause: int = core.CAUSE_UNKNOWN,
        memory: tuple[int, int, int, int, int] = NOT_KNOWN,
    ) -> bool:
        """Repair after a death. False if there was none, or others have done it."""
        ours = self._memory.explain(slot, epoch)
        if ours and cause in (-signal.SIGKILL, core.CAUSE_UNKNOWN):
            cause, (used, peak, limit, group_used, group_peak) = ours
            memory = (used, max(peak, memory[1]), limit, group_used, group_peak)
        swept = self._arena.sweep(slot, epoch, cause, memory)
        if swept and kind == core.GUEST:
            names.clear(self._arena)  # those that went with it
        return swept

    def _end_removed(self) -> None:
        """Kill the workers that run tasks of removed placement groups; their sweep says so."""
        for runner in core.group_runners(self._arena):
            self._kill(*runner)

    def _kill(self, slot: int, epoch: int, pid: int) -> None:
        """End a worker; its sweep comes when its death is told."""
        watch = self._watched.get((slot, epoch))
        with suppress(ProcessLookupError):
            if watch:
                signal.pidfd_send_signal(watch.pidfd, signal.SIGKILL)
            elif pid in self._children:  # not reaped yet, so the number is its own
                os.kill(pid, signal.SIGKILL)

    def _watch(self, client: core.Client) -> None:
        """Open a pidfd, or sweep.

        Without a descriptor for it the client's life lock still tells the truth to `sweep`: here,
        each time the bell rings, and to everybody else.
        """
        try:
            pidfd = os.pidfd_open(client.pid)
        except OSError:  # no such process, or no descriptor left
            self._sweep(client.slot, client.epoch, client.kind)
            return
        if start_time(client.pid) != client.start_time:
            os.close(pidfd)  # asked after the open: the pid was used again
            self._sweep(client.slot, client.epoch, client.kind)
            return
        key = client.slot, client.epoch
        watch = self._watched[key] = _Watch(pidfd, client.pid, client.kind)
        self._on(pidfd, lambda: self._stranger_ended(key))
        if client.kind == core.GUEST:
            watch.lifeline = _open_lifeline(client)
            # Looked at after the open: if it has died before, nothing will hang up.
            if not self._sweep_guest(key) and watch.lifeline >= 0:
                self._on(watch.lifeline, lambda: self._lifeline_cut(key))

    def _lifeline_cut(self, key: tuple[int, int]) -> None:
        watch = self._watched.get(key)
        if watch is None or not _has_ended(watch.lifeline):  # as below
            return
        if not self._sweep_guest(key):  # it has closed all its descriptors, as daemons do
            self._drop_lifeline(watch)

    def _stranger_ended(self, key: tuple[int, int]) -> None:
        self._child_changed()  # if it is our child after all, this tells how it ended
        watch = self._watched.get(key)
        if watch is None or not _has_ended(watch.pidfd):
            return  # the event was of a descriptor of that number before
        self._close(self._watched.pop(key))
        self._sweep(*key, watch.kind)

    def _forget(self, pid: int) -> None:
        """Watch no pidfd of a process that turned out to be our child."""
        for key, watch in list(self._watched.items()):
            if watch.pid == pid:
                self._close(self._watched.pop(key))

    def _close(self, watch: _Watch) -> None:
        self._drop_lifeline(watch)
        self._off(watch.pidfd)
        os.close(watch.pidfd)

    def _drop_lifeline(self, watch: _Watch) -> None:
        if watch.lifeline >= 0:
            self._off(watch.lifeline)
            os.close(watch.lifeline)
            watch.lifeline = -1

    def _sweep_process(self, pid: int, cause: int, peak: int) -> bool:
        """Repair after a reaped child; False if it was no client."""
        clients = [client for client in self._arena.clients() if client.pid == pid]
        memory = (0, peak, 0, 0, 0)
        if clients and cause == -signal.SIGKILL and self._oom_kills.take():
            cause, memory = core.CAUSE_MEMORY, (0, peak, *memory_use())
        swept = False
        for client in clients:
            swept |= self._sweep(client.slot, client.epoch, client.kind, cause, memory)
        return swept

    # Workers ------------------------------------------------------------------------------------

    def _hire(self) -> None:
        """Ask for the workers that are wanted and not on their way; start a nursery if there is
        none."""
        if self._trouble.pause() > 0:
            return
        self._trouble.waiting = False
        if self._arena.closing:
            return
        if self._nursery is None:
            self._start_nursery()
        starting = sum(not attached for attached in self._children.values())
        coming = starting + self._asked
        count = self._arena.workers_wanted(self._most_workers) - coming
        have = self._arena.stats()["workers"] + coming
        at_the_end = have >= self._utmost_workers and self._has_told_stall
        if have < self._most_workers or at_the_end:
            self._stall.lasts(None)
        elif self._stall.lasts(self._arena.stall()):
            count = min(have // 4, self._utmost_workers - have)
            if count == 0:
                self._tell_stall(have)
        if count > 0 and self._nursery:
            try:
                self._nursery.control.send(b"%d" % count)
                self._asked += count
            except OSError:
                pass  # busy, and will answer; or dead, and SIGCHLD comes: both bring us back here

    def _tell_stall(self, have: int) -> None:
        """Once a session: it goes on only if a wait ends by its time limit, or is cancelled."""
        self._has_told_stall = True
        print(
            f"plasmid: all {have} workers, as many as {self._arena.cpu_total:g} CPUs may have, "
            "wait for queued tasks that none of them can run, as it waits below an event loop, in "
            "a thread, or with an alarm set: nothing goes on by itself. More CPUs raise the bound "
            "(init(num_cpus=)); tasks that wait in get() run what they wait for themselves, to any "
            "depth; cancel() ends a task that waits.",
            file=sys.stderr,
            flush=True,
        )

    def _start_nursery(self) -> None:
        try:
            self._nursery = _Nursery(self._settings, self._arena.boot(), self._bare)
        except OSError as error:
            self._failed(f"the process that forks workers cannot be started: {error}")
        else:
            self._on(self._nursery.control.fileno(), self._nursery_spoke)

    def _failed(self, what: str, nursery: _Nursery | None = None) -> None:
        """Something that should have become a worker did not: wait a little longer each time, then
        say so."""
        self._trouble.add()
        if self._trouble.count >= REPORT_AFTER and not self._any_worker():
            nursery = nursery or self._nursery
            words = nursery.last_words() if nursery else ""
            text = f"{what}, {self._trouble.count} failures in a row"
            self._arena.set_failure("\n".join(filter(None, (text, words))).encode())

    def _recovered(self) -> None:
        if self._trouble.count >= REPORT_AFTER:
            self._arena.set_failure(b"")
        self._trouble.over()

    def _any_worker(self) -> bool:
        strangers = (watch.kind == core.WORKER for watch in self._watched.values())
        return any(self._children.values()) or any(strangers)

    # The loop -----------------------------------------------------------------------------------

    def _on(self, fd: int, handler: Callable[[], None], events: int = select.POLLIN) -> None:
        self._handlers[fd] = handler
        self._poll.register(fd, events)

    def _off(self, fd: int) -> None:
        if self._handlers.pop(fd, None):
            self._poll.unregister(fd)

    def _timeout(self) -> int | None:
        """Milliseconds to the next attempt after a failure, or to the moment when a named object
        expires; None, for ever, if there is neither."""
        # What came due since the loop looked is a pause of 0, not none: nobody would wake us.
        pauses = [self._trouble.pause()] if self._trouble.waiting else []
        pauses += [pause for timed in self._timed for pause in timed.pauses()]
        if self._arena.expiry:
            pauses.append(max(0, self._arena.expiry - time.monotonic_ns()) / 1e9)
        pause = min(pauses, default=None)
        return None if pause is None else int(min(pause, LONGEST_SLEEP) * 1000) + 1

    def _watch_pressure(self) -> None:
        fd = self._memory.open_pressure()
        if fd >= 0:
            self._on(fd, self._memory.hurry, select.POLLPRI)

    def _expire(self) -> None:
        if 0 < self._arena.expiry <= time.monotonic_ns():
            names.clear(self._arena)

    def _listen_to_signals(self) -> None:
        ours, theirs = socket.socketpair()
        for end in (ours, theirs):
            end.setblocking(False)
        # Without a handler in Python nothing is written to the socket.
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.set_wakeup_fd(theirs.fileno(), warn_on_full_buffer=False)

        def changed() -> None:
            ours.recv(4096)
            self._child_changed()

        self._wakeup = theirs
        self._on(ours.fileno(), changed)


class _Watch:
    __slots__ = ("kind", "lifeline", "pid", "pidfd")

    def __init__(self, pidfd: int, pid: int, kind: int) -> None:
        self.lifeline = -1
        self.pidfd = pidfd
        self.pid = pid
        self.kind = kind


class Trouble:
    """Failed attempts in a row, and how long to wait before the next: 0.05 s, twice as long each
    time, but at most a second, so that what is killed is back within one; 30 s after many.

    So a worker that cannot start costs no more than a few processes a minute.
    """

    def __init__(self) -> None:
        self.count = 0
        self.waiting = False  # no attempt since the last failure
        self._until = 0.0

    def add(self) -> None:
        pause = min(1.0, 0.05 * 2**self.count) if self.count < PATIENCE else 30.0
        self._until = time.monotonic() + pause
        self.count += 1
        self.waiting = True

    def over(self) -> None:
        self.count = 0
        self.waiting = False
        self._until = 0.0

    def pause(self) -> float:
        """Seconds still to wait."""
        return max(0.0, self._until - time.monotonic()) if self.count else 0.0


class Stall:
    """Whether all workers wait, as many as there usually may be, and have for a moment: who of them
    can run on its stack what it waits for has done so by then.
    """

    def __init__(self) -> None:
        self._moved: int | None = None
        self._until = 0.0

    def lasts(self, moved: int | None) -> bool:
        """moved: what Arena.stall() says now. True once for each STALL_SECONDS of it."""
        now = time.monotonic()
        lasted = moved is not None and moved == self._moved
        if lasted and now < self._until:
            return False
        self._moved = moved
        self._until = now + STALL_SECONDS
        return lasted

    def pauses(self) -> list[float]:
        """Seconds until it is to be looked at again, if it is."""
        return [] if self._moved is None else [max(0.0, self._until - time.monotonic())]


class NurserySettings:
    """What every nursery of this keeper gets."""

    def __init__(self, command: list[str], log_name: str, file_limit: int) -> None:
        self.command = command
        self.log_name = log_name
        self.file_limit = file_limit  # for workers: what the user's program had


class _Nursery:
    """A running nursery process, as its parent sees it.

    Its stdin is a file with the session's configuration. It has a lifeline of the keeper's, and so
    ends with it from its first instruction on.
    """

    def __init__(self, settings: NurserySettings, boot: bytes, bare: bool) -> None:
        self.preloaded = False
        self._log = output.open_file()
        life, self._life = os.pipe()
        self.control, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.control.setblocking(False)
        config = os.memfd_create("plasmid boot")
        os.pwrite(config, boot, 0)
        for fd in (theirs.fileno(), life):  # arena, bell and the driver's pidfd are inherited, too
            os.set_inheritable(fd, True)
        numbers = map(str, (theirs.fileno(), life, settings.file_limit, int(bare)))
        try:
            # No posix_spawn(): its vfork() would keep us as long as somebody has the child stopped.
            self.pid = os.fork()
            if self.pid == 0:
                _become([*settings.command, *numbers], (config, self._log, self._log))
            lifeline.tie(life, self.pid)
        except OSError:
            self.close()
            raise
        finally:
            os.close(config)
            os.close(life)
            theirs.close()
        if settings.log_name:
            output.tell_driver(settings.log_name, "nursery", self.pid, [self._log])

    def last_words(self) -> str:
        """The end of what it wrote to stderr."""
        with open(f"/proc/self/fd/{self._log}", "rb") as log:
            log.seek(max(0, os.fstat(log.fileno()).st_size - _LAST_WORDS))
            return log.read().decode(errors="replace").strip()

    def close(self) -> None:
        self.control.close()
        os.close(self._life)
        os.close(self._log)


def _become(command: list[str], standard: Sequence[int]) -> NoReturn:
    """In a fork: run this program, with these descriptors as stdin, stdout and stderr."""
    try:
        for target, source in enumerate(standard):
            os.dup2(source, target)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        os.execv(command[0], command)
    except BaseException as error:
        os.write(2, f"{command[0]}: {error}\n".encode())
    finally:
        os._exit(127)


def _open_lifeline(client: core.Client) -> int:
    """Our end of a guest's lifeline; -1 if it has none, or has closed it, or we cannot have it."""
    end = f"/proc/{client.pid}/fd/{client.lifeline}"
    try:
        if os.readlink(end) == f"pipe:[{client.pipe}]":  # no other that has its number by now
            return os.open(end, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        pass
    return -1


def _has_ended(pidfd: int) -> bool:
    ended = select.poll()
    ended.register(pidfd, select.POLLIN)
    return bool(ended.poll(0))


def start_time(pid: int) -> int:
    """When a process was started, in clock ticks since boot; 0 if there is none."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as stat:
            return int(stat.read().rpartition(b")")[2].split()[19])
    except OSError:
        return 0


def describe(cause: int) -> str:
    """`exited with status 1`, `was killed by signal 9 (Killed)`."""
    if cause >= 0:
        return f"exited with status {cause}"
    return f"was killed by signal {-cause} ({signal.strsignal(-cause) or 'unknown'})"


if __name__ == "__main__":
    main(sys.argv[1:])
