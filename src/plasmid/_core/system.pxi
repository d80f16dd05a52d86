# System calls that Python's os module does not have. All raise OSError.


def adopt_orphans():
    """Make this process the parent of its descendants whose own parent has ended, so that it learns
    how they end."""
    _system(_c.prctl(_c.PR_SET_CHILD_SUBREAPER, 1), "prctl(PR_SET_CHILD_SUBREAPER)")


def line_buffer_stdout():
    """Have C's stdout, of this process, write each line at once, so that it is seen at once."""
    _system(-(_c.setvbuf(_c.stdout, NULL, _c._IOLBF, 0) != 0), "setvbuf")


def mark_on_signal(int signum, int file, int bell):
    """Have the signal write a byte 0 to `file`, then one to `bell`, and do nothing else; in C,
    whatever Python does."""
    _system(_c.pm__os_mark_on_signal(signum, file, bell), "sigaction")


def inotify():
    """A non-blocking inotify descriptor, close-on-exec."""
    return _system(_c.inotify_init1(_c.IN_CLOEXEC | _c.IN_NONBLOCK), "inotify_init1")


def inotify_add(int fd, str path, uint32_t mask):
    """The number of the watch on path."""
    raw = path.encode()
    return _system(_c.inotify_add_watch(fd, PyBytes_AS_STRING(raw), mask), "inotify_add_watch")


def inotify_remove(int fd, int watch):
    _system(_c.inotify_rm_watch(fd, watch), "inotify_rm_watch")


def punch(int fd, int64_t offset, int64_t length):
    """Give back the space of a part of a file, which then reads as zeros."""
    cdef int rc
    with nogil:
        rc = _c.fallocate(fd, _c.FALLOC_FL_PUNCH_HOLE | _c.FALLOC_FL_KEEP_SIZE, offset, length)
    _system(rc, "fallocate(PUNCH_HOLE)")


cdef int _system(int rc, str call) except? -1:
    if rc < 0:
        raise OSError(errno, f"{call}: {_strerror(errno)}")
    return rc
