/* err.h - every error the C core can return, once.
 *
 * X(code, name, python, text): adding a line adds the enum value, the text and (in
 * _core/errors.pxi, which reads pm_err_class()) the Python class, a name in plasmid.exceptions
 * or a builtin.
 */
#ifndef PM_ERR_H
#define PM_ERR_H

#define PM_ERR_MAP(X)                                                                              \
    X(-1, FULL, ObjectStoreFullError, "the object store has no free block this large")             \
    X(-2, EXISTS, ObjectExistsError, "an entry with this key exists")                              \
    X(-3, NOTFOUND, ObjectLostError,                                                               \
      "no such object in this session: it was freed, or never here")                               \
    X(-4, CORRUPT, StoreCorruptError, "an invariant of the arena does not hold; stop using it")    \
    X(-5, SYS, OSError, "a system call failed")                                                    \
    X(-6, AGAIN, StoreLockedError, "the arena's lock is busy")                                     \
    X(-7, TIMEOUT, GetTimeoutError, "timed out")                                                   \
    X(-8, INTR, InterruptedError, "interrupted by a signal")                                       \
    X(-9, INVAL, ValueError, "invalid argument")                                                   \
    X(-10, TABLE, TableFullError, "a table of the arena is full")                                  \
    X(-11, STOPPED, StoreLockedError, "the process that holds the arena's lock is stopped")        \
    X(-12, LAYOUT, SessionError, "the arena was made by another build of plasmid")                 \
    X(-13, NAMESPACE, SessionError, "the session lives in another pid namespace")                  \
    X(-14, CYCLE, ValueError, "an object may not contain a reference to itself")                   \
    X(-15, GONE, SessionError, "the session is over: its driver has ended, or has shut it down")   \
    X(-16, FORKED, SessionError, "this process is a fork of a client; it must attach for itself")  \
    X(-17, ALIVE, ValueError, "this client is alive")                                              \
    X(-18, STATE, ValueError, "the object is not in a state that allows this")                     \
    X(-19, FAILED, SessionError, "the session cannot run tasks")                                   \
    X(-20, WORK, PlasmidError, "a task that is waited for may be queued")                          \
    X(-21, FREED, ObjectFreedError, "the object was freed")                                        \
    X(-22, LEASED, SealTimeoutError, "other processes can still write it")                         \
    X(-23, LEFT, SessionError, "this program has left the session: it called shutdown()")          \
    X(-24, CANCELLED, TaskCancelledError, "the task was cancelled, and its process is to end")     \
    X(-25, REMOVED, TaskPlacementGroupRemoved, "the placement group was removed")                  \
    X(-26, END, ObjectRefStreamEndOfStreamError, "the generator has ended")                        \
    X(-27, DROPPED, PlasmidError, "nobody waits for what the task yields")                         \
    X(-28, CROWDED, PendingCallsLimitExceeded,                                                     \
      "as many calls of the actor are pending as its max_pending_calls allows")                    \
    X(-29, SPILLED, PlasmidError, "the object is on disk")                                         \
    X(-30, LOST, ObjectLostError, "its copy on disk is damaged, or cannot be read any more")

enum {
    PM_OK = 0,
#define X(code, name, py, text) PM_E##name = code,
    PM_ERR_MAP(X)
#undef X
};

#endif
