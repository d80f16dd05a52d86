"""Unix sockets in the abstract namespace that hand descriptors to processes of the same user.

An abstract socket has no file, so nothing is left of it when the last process is gone. It has no
file permissions either: both sides compare the other's uid (SO_PEERCRED) with their own, root
included, and a name carries 16 random bytes, so nobody can sit on it beforehand. Whether both live
in one pid namespace is for `Arena.attach` to see.
"""

from __future__ import annotations

import errno
import os
import socket
import struct
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

BACKLOG = 4096
"""Connections that may wait for a listener that is stopped; the kernel caps it at
net.core.somaxconn."""

_KIND = socket.SOCK_SEQPACKET | socket.SOCK_CLOEXEC
_CREDENTIALS = struct.Struct("3i")
_FD = struct.Struct("i")
_TIMEVAL = struct.Struct("ll")
_BUSY_SECONDS = 1.0
_JOINED = b"plasmid session"
_LISTENING = "00010000"  # the flags of a listener in /proc/net/unix


SCOPE = "PLASMID_SCOPE"
"""Environment variable: sessions are found by programs in whose environment it is the same."""


def new_name(kind: str = "session") -> str:
    """A name for a listener that no other process can guess, greater than those made before of its
    kind. kind: "session" of a program, "started" for one that outlives its starter, or what else it
    is."""
    # The clock is the same for all processes, and starts anew only when all sockets are gone, too.
    return f"{_prefix(kind)}{time.monotonic_ns():016x}-{os.urandom(16).hex()}"


def _prefix(kind: str) -> str:
    scope = os.environ.get(SCOPE, "")
    if scope:
        from hashlib import blake2b

        scope = blake2b(scope.encode(errors="surrogateescape"), digest_size=6).hexdigest() + "-"
    return f"plasmid-{os.getuid()}-{scope}{kind}-"


def is_started(name: str) -> bool:
    """Whether that session was started to outlive its starter."""
    return "-started-" in name


def find() -> list[str]:
    """The names of this user's sessions in this scope: started ones first, then those of programs,
    the youngest first. The kernel's list of sockets tells; some may be about to end.

    Any user may choose such a name, so it is asked who listens there.
    """
    found = []
    mine = ("@" + _prefix("started"), "@" + _prefix("session"))
    with open("/proc/net/unix", errors="replace") as sockets:
        for line in sockets:
            fields = line.split()
            if len(fields) == 8 and fields[7].startswith(mine) and fields[3] == _LISTENING:
                found.append(fields[7][1:])
    # "started" > "session", and a name goes on with the time.
    return list(filter(_is_ours, sorted(found, reverse=True)))


def listen(name: str) -> socket.socket:
    """A listener, not inherited, that never blocks."""
    listener = socket.socket(socket.AF_UNIX, _KIND | socket.SOCK_NONBLOCK)
    try:
        listener.bind("\0" + name)
        listener.listen(BACKLOG)
    except BaseException:
        listener.close()
        raise
    return listener


def connect(name: str, timeout: float = 0.0) -> socket.socket:
    """A connection to the listener `name`, waiting at most `timeout` seconds for what is sent over
    it.

    PermissionError if another user listens there, ConnectionRefusedError if nobody does,
    BlockingIOError if too many others wait there already, with a timeout TimeoutError if they do
    so until then.
    """
    link = socket.socket(socket.AF_UNIX, _KIND)
    try:
        _connect(link, "\0" + name, timeout)
        link.settimeout(timeout)
        _check_peer(link)
    except BaseException:
        link.close()
        raise
    return link


def _connect(link: socket.socket, address: str, timeout: float) -> None:
    if not timeout:
        link.setblocking(False)
        link.connect(address)
        return
    # Blocking, with the kernel's own limit: a socket of Python's that has a timeout would not wait
    # until the listener has room, as when a hundred programs join at once.
    seconds, rest = divmod(timeout, 1)
    link.setsockopt(
        socket.SOL_SOCKET, socket.SO_SNDTIMEO, _TIMEVAL.pack(int(seconds), int(rest * 1e6) or 1)
    )
    while True:
        try:
            link.connect(address)
            link.getpeername()  # connect() takes an interruption by a signal for success
        except BlockingIOError as error:
            raise TimeoutError("too many others wait for its keeper") from error
        except OSError as error:
            if error.errno != errno.ENOTCONN:
                raise
        else:
            return


def accept(listener: socket.socket) -> Iterator[socket.socket]:
    """Every waiting connection of a process of this user; others are closed at once.

    OSError (EMFILE, ENFILE) if there is no descriptor left for one; it goes on waiting.
    """
    while True:
        try:
            link, _ = listener.accept()
        except BlockingIOError:
            return
        except ConnectionError:  # it hung up while it waited
            continue
        link.setblocking(False)
        try:
            _check_peer(link)
        except PermissionError:
            link.close()
            continue
        yield link


def send(link: socket.socket, data: bytes, fds: Sequence[int]) -> None:
    """One message with descriptors. What is sent stays readable when the sender has hung up or
    died."""
    socket.send_fds(link, [data], fds)


def receive(link: socket.socket, count: int) -> tuple[bytes, list[int]]:
    """One message and its descriptors, at most `count`, none of them inherited by programs started
    later.

    Fewer descriptors than were sent arrive if this process has no room for them.
    """
    # Not socket.recv_fds(): it drops the flag, and the descriptors would be inherited.
    space = socket.CMSG_SPACE(count * _FD.size)
    data, ancillary, _, _ = link.recvmsg(4096, space, socket.MSG_CMSG_CLOEXEC)
    fds: list[int] = []
    for level, kind, raw in ancillary:
        if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
            whole = raw[: len(raw) // _FD.size * _FD.size]
            fds += [fd for (fd,) in _FD.iter_unpack(whole)]
    return data, fds


def serve(listener: socket.socket, fds: Sequence[int]) -> None:
    """Give `fds` to everyone who waits at `listener`. Never blocks: the message fits into an empty
    socket."""
    for link in accept(listener):
        with link:
            try:
                send(link, _JOINED, fds)
            except OSError:
                continue  # it hung up


def join(name: str, timeout: float = 10.0) -> tuple[int, int, int]:
    """The session's descriptors: arena, bell, driver pidfd.

    TimeoutError if its keeper does not answer in time; else the errors of `connect`.
    """
    with connect(name, timeout) as link:
        data, fds = receive(link, 3)
    if data != _JOINED or len(fds) != 3:
        for fd in fds:
            os.close(fd)
        raise ConnectionError(f"session {name} did not hand over its arena (are descriptors left?)")
    return fds[0], fds[1], fds[2]


def _is_ours(name: str) -> bool:
    try:
        connect(name, _BUSY_SECONDS).close()
    except OSError:
        return False
    return True


def _check_peer(link: socket.socket) -> None:
    raw = link.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
    _, uid, _ = _CREDENTIALS.unpack(raw)
    if uid != os.getuid():
        raise PermissionError(f"the other end belongs to uid {uid}, this process to {os.getuid()}")
