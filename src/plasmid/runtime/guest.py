"""A program that has joined a session which somebody else started."""

from __future__ import annotations

import os
import pickle
from contextlib import suppress

from plasmid._core import core
from plasmid.exceptions import AuthenticationError, SessionNotFoundError
from plasmid.runtime import handover, names

JOIN_SECONDS = 10.0


class Guest:
    """This process's membership of a running session.

    `name` is the session's address. SessionNotFoundError if there is none, AuthenticationError if
    it is another user's.

    Processes and threads: one per process. When the session's driver ends, every further call
    raises SessionError, and views stay valid; this process goes on.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        fds: tuple[int, ...] = ()
        try:
            fds = handover.join(name, JOIN_SECONDS)
            arena_fd, bell, driver = fds
            self.arena = core.Arena.attach(arena_fd, core.GUEST, driver, bell)
        except PermissionError as error:
            raise AuthenticationError(f"init: session {name} is another user's: {error}") from error
        except (ConnectionError, TimeoutError) as error:
            raise SessionNotFoundError(
                f"init: no session answers at address {name!r} ({error}); `plasmid status` lists "
                "those of this user"
            ) from error
        finally:
            for fd in fds:
                os.close(fd)
        boot: dict[str, list[str]] = pickle.loads(self.arena.boot())
        self.import_path = boot["sys_path"]
        """Where the session's workers look for modules."""

    def close(self) -> None:
        """Leave. Views stay valid, and their objects in the store, as long as they live."""
        with suppress(Exception):  # the session may be over
            names.clear_mine(self.arena)
        self.arena.retire()


def join_started() -> Guest | None:
    """Join a session that `plasmid start` started, if there is one."""
    name = next(filter(handover.is_started, handover.find()), None)
    return None if name is None else Guest(name)


def join(address: str) -> Guest:
    """Join the session at `address`; "auto": any of this user's, a started one first, then the
    youngest."""
    if address != "auto":
        return Guest(address)
    failed: Exception | None = None
    for name in handover.find():
        try:
            return Guest(name)
        except SessionNotFoundError as error:  # it has just ended
            failed = error
    raise SessionNotFoundError(
        "init: this user has no running session; start one with `plasmid start`, or by init() "
        "without an address in another program"
    ) from failed
