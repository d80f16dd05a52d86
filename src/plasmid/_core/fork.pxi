# The pins of this process's views, and how a forked child gets pins of its own for those that it
# inherits. A child is a guest of the session then, for as long as it lives; its references, and all
# calls, stay refused.

import os as _os
import select as _select
import sys as _sys
from _thread import get_ident as _get_ident
from weakref import WeakSet, WeakValueDictionary

_HANDSHAKE_MS = 10_000
_arenas = WeakSet()
# Thread -> its forks under way, innermost last, None for one without views: the descriptors (read,
# write) of a pipe by which the child says that it has its pins; () if none could be had.
_handshakes = {}


cdef struct Pin:  # in a circular list, changed with the GIL
    Pin *next
    Pin *prev
    uint64_t slot
    uint64_t generation
    const _c.pm_window *window  # private mapping that a child inherits, too; or NULL


cdef void _count_pin(Arena arena, Pin *pin, uint64_t slot, const _c.pm_window *window):
    pin.slot = slot
    pin.generation = _c.pm_ref_of(arena._a, slot).generation
    pin.window = window
    pin.prev = &arena._pins
    pin.next = arena._pins.next
    pin.next.prev = pin
    arena._pins.next = pin


cdef void _unpin(Arena arena, Pin *pin):
    """The view that it stands for goes."""
    cdef _c.pm_arena *a = _pinner(arena)
    if pin.next == NULL:
        return  # it had not been pinned yet
    pin.next.prev = pin.prev
    pin.prev.next = pin.next
    if a != NULL:
        _c.pm_unpin(a, pin.slot)


cdef _c.pm_arena *_pinner(Arena arena):
    """The handle by which this process has its pins; NULL in a child that has none."""
    if arena._a != NULL and not _c.pm_is_inherited(arena._a):
        return arena._a
    if arena._heir != NULL and not _c.pm_is_inherited(arena._heir):
        return arena._heir
    return NULL


cdef int _check_mapped(Arena arena) except -1:
    if _pinner(arena) == NULL:
        raise BufferError("the store is not mapped in this forked child")
    return 0


cdef void _close(_c.pm_arena *a):
    if a == NULL:
        return
    if _c.pm_is_inherited(a):
        _c.pm_forget(a)
    else:
        _c.pm_close(a)


cdef list _with_views():
    return [arena for arena in _arenas if (<Arena>arena)._pins.next != &(<Arena>arena)._pins]


cdef void _let_inherit(Arena arena, bint inherit):
    cdef Pin *pin = arena._pins.next
    _c.pm_map_inherit(arena._a, inherit)
    while pin != &arena._pins:
        if pin.window != NULL:
            _c.pm_window_inherit(pin.window, inherit)
        pin = pin.next


def _before_fork():
    arenas = [arena for arena in _with_views() if _pinner(arena) != NULL]
    handshake = None
    if arenas:
        try:
            handshake = _os.pipe()
        except OSError:  # no descriptor is left
            handshake = ()
    _handshakes.setdefault(_get_ident(), []).append(handshake)
    for arena in arenas:
        _let_inherit(arena, True)


cdef object _handshake():
    """Of the fork that this thread has just done."""
    me = _get_ident()
    mine = _handshakes[me]
    handshake = mine.pop()
    if not mine:
        del _handshakes[me]
    return handshake


def _after_in_parent():
    # With the GIL held, so that no view of ours goes before the child has pinned it.
    handshake = _handshake()
    if handshake is None:
        return
    for arena in _with_views():
        _let_inherit(arena, False)
    if not handshake:
        return
    told, tell = handshake
    _os.close(tell)
    try:
        answer = _select.poll()
        answer.register(told, _select.POLLIN)
        answer.poll(_HANDSHAKE_MS)  # it hangs up if the child is no more, or never was
    finally:
        _os.close(told)


def _after_in_child():
    handshake = _handshake()
    for others in _handshakes.values():  # of threads that do not exist here
        for fd in [fd for pipe in others for fd in pipe or ()]:
            _os.close(fd)
    _handshakes.clear()
    if handshake is None:
        return
    for arena in _with_views():
        if not _inherit(arena):
            _c.pm_map_poison((<Arena>arena)._a)
            _os.write(
                2,
                b"plasmid: a forked process could not keep the arrays that it inherited; touching "
                b"one of them ends it\n",
            )
    if handshake:
        told, tell = handshake
        _os.write(tell, b".")
        _os.close(tell)
        _os.close(told)


cdef bint _inherit(Arena arena):
    """Attach as a guest, and pin what the parent had pinned."""
    cdef _c.pm_arena *mine = NULL
    cdef Pin *pin = arena._pins.next
    cdef _c.pm_ref ref
    cdef int rc, driver
    _let_inherit(arena, False)
    driver = _c.pm__driver_fd(arena._a)
    rc = _c.pm_open_fd(arena._a.fd, _c.PM_GUEST, driver, arena._a.bell, &mine)
    if rc == _c.PM_EGONE:
        return True  # the session is over: nobody writes there any more
    if rc != _c.PM_OK:
        return False
    _close(arena._heir)  # the parent's own, if that was a forked child, too
    arena._heir = mine
    while pin != &arena._pins:
        ref.slot, ref.generation = pin.slot, pin.generation
        rc = _c.PM_EAGAIN
        while rc == _c.PM_EAGAIN:
            rc = _c.pm_adopt(mine, _c.PM_WAIT, ref)
        if rc == _c.PM_EGONE:
            return True  # it ended meanwhile
        if rc != _c.PM_OK:
            return False
        pin = pin.next
    return True


_os.register_at_fork(
    before=_before_fork, after_in_parent=_after_in_parent, after_in_child=_after_in_child
)
