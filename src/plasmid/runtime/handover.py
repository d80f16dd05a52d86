"""Unix sockets in the abstract namespace that hand descriptors to processes of the same user.

An abstract socket has no file, so nothing is left of it when the last process is gone. It has no
file permissions either: both sides compare the other's uid (SO_PEERCRED) with their own, root
included, and a name carries 16 random bytes, so nobody can sit on it beforehand. Whether both live
in one pid namespace is for `Arena.attach` to see.
"""

from __future__ import annotations

import os
import socket
import struct

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

BACKLOG = 4096
"""Connections that may wait for a listener that is stopped; the kernel caps it at
net.core.somaxconn."""

_KIND = socket.SOCK_SEQPACKET | socket.SOCK_CLOEXEC
_CREDENTIALS = struct.Struct("3i")
_FD = struct.Struct("i")
_JOINED = b"plasmid session"
_LISTENING = "00010000"  # the flags of a listener in /proc/net/unix


def new_name(kind: str = "session") -> str:
    """A name for a listener that no other process can guess. kind: "session" of a program,
    "started" for one that outlives its starter, or what else it is."""
    return f"plasmid-{os.getuid()}-{kind}-{os.urandom(16).hex()}"


def is_started(name: str) -> bool:
    """Whether that session was started to outlive its starter."""
    return "-started-" in name


def find() -> list[str]:
    """The names of this user's sessions: started ones first, then those of programs, the youngest
    first. The kernel's list of sockets tells; some may be about to end.

    Any user may choose such a name, so it is asked who listens there.
    """
    found = []
    mine = tuple(f"@plasmid-{os.getuid()}-{kind}-" for kind in ("started", "session"))
    with open("/proc/net/unix") as sockets:
        for line in sockets:
            fields = line.split()
            if len(fields) == 8 and fields[7].startswith(mine) and fields[3] == _LISTENING:
                started = fields[7].startswith(mine[0])
                found.append((started, int(fields[6]), fields[7][1:]))
    names = [name for _, _, name in sorted(found, reverse=True)]  # inodes are numbered upwards
    return list(filter(_is_ours, names))


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
    BlockingIOError if it should not wait and too many others do.
    """
    link = socket.socket(socket.AF_UNIX, _KIND)
    try:
        link.settimeout(timeout)
        link.connect("\0" + name)
        _check_peer(link)
    except BaseException:
        link.close()
        raise
    return link


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
        connect(name).close()
    except OSError:
        return False
    return True


def _check_peer(link: socket.socket) -> None:
    raw = link.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
    _, uid, _ = _CREDENTIALS.unpack(raw)
    if uid != os.getuid():
        raise PermissionError(f"the other end belongs to uid {uid}, this process to {os.getuid()}")
