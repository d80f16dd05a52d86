"""Where objects go for which there is no memory: the session's spill file.

The file has no name, so nothing is left of it when the session's last process is gone, whatever
ended them. Its space is taken as objects are spilled, and given back as they go.
"""

from __future__ import annotations

import errno
import os
from contextlib import suppress

from plasmid.exceptions import SpillFolderError

FOLDER = "PLASMID_SPILL_FOLDER"
"""Environment variable: where the file is made. Default: the folder for temporary files, or
/var/tmp, if that is none in memory."""

BYTES = "PLASMID_SPILL_BYTES"
"""Environment variable: how many bytes may be spilled. Default: 95 % of what the disk has free. 0:
none."""

MOST = 1 << 40
_SHARE = 0.95
_MEMORY = ("tmpfs", "ramfs")


class SpillFile:
    """The file: its descriptor `fd`, how many `bytes` may go there, and its `folder`."""

    def __init__(self, fd: int, nbytes: int, folder: str) -> None:
        self.fd = fd
        self.bytes = nbytes
        self.folder = folder

    def close(self) -> None:
        """Close the descriptor: the arena has one of its own by then."""
        os.close(self.fd)


def spill_file(folder: str | None = None) -> SpillFile | None:
    """A file in `folder`, or where the environment says. None if nothing is to be spilled, or none
    of the default folders is on a disk. SpillFolderError if there can be none where it was asked
    for."""
    limit = _limit()
    if limit == 0:
        return None
    asked = folder or os.environ.get(FOLDER)
    if asked:
        try:
            os.makedirs(asked, mode=0o700, exist_ok=True)
            return _made(asked, limit)
        except OSError as error:
            raise SpillFolderError(
                error.errno, f"init: objects cannot be spilled to {asked}: {error.strerror}"
            ) from error
    # As tempfile chooses, which takes longer to import than a session to start.
    told = [os.environ[name] for name in ("TMPDIR", "TEMP", "TMP") if os.environ.get(name)]
    for each in (*told, "/tmp", "/var/tmp"):
        if _type_of(each) not in _MEMORY:
            with suppress(OSError):
                return _made(each, limit)
    return None


def _limit() -> int | None:
    text = os.environ.get(BYTES)
    if not text:
        return None
    try:
        return max(0, int(float(text)))
    except (ValueError, OverflowError):
        raise ValueError(f"{BYTES} is {text!r} in the environment, not a number of bytes") from None


def _made(folder: str, limit: int | None) -> SpillFile:
    try:
        fd = os.open(folder, os.O_TMPFILE | os.O_RDWR | os.O_CLOEXEC, 0o600)
    except OSError as error:
        if error.errno not in (errno.EOPNOTSUPP, errno.EISDIR, errno.EINVAL):
            raise
        import tempfile  # not every file system can: then it has a name for a moment

        fd, path = tempfile.mkstemp(prefix="plasmid-spill-", dir=folder)
        os.unlink(path)
    found = os.fstatvfs(fd)
    free = int(found.f_bavail * found.f_frsize * _SHARE)
    return SpillFile(fd, min(free if limit is None else limit, MOST), folder)


def _type_of(folder: str) -> str:
    """The type of the file system that a folder is on, as the kernel lists it; "" if unknown."""
    best, kind = "", ""
    real = os.path.realpath(folder)
    with suppress(OSError), open("/proc/self/mounts", errors="replace") as mounts:
        for line in mounts:
            _, place, type_, *_ = line.split(" ")
            inside = real == place or real.startswith(place.rstrip("/") + "/")
            if inside and len(place) >= len(best):
                best, kind = place, type_
    return kind
