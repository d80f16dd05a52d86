"""A program that has joined a session which somebody else started."""

from __future__ import annotations

import os
import pickle
from contextlib import suppress

from plasmid._core import core
from plasmid.exceptions import AuthenticationError, SessionError, SessionNotFoundError
from plasmid.runtime import handover, names
from plasmid.runtime.imports import python_version

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

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
        boot = pickle.loads(self.arena.boot())
        self.python: str = boot["python"]
        """What runs the session's tasks."""
        self.import_path: list[str] = boot["sys_path"]
        """Where the session's workers look for modules."""
        self.aliases: tuple[str, ...] = boot["aliases"]
        """Other names of plasmid that they know."""

    def check_python(self) -> None:
        """SessionError, and leave, if the workers could not run this program's functions."""
        if self.python != python_version():
            self.close()
            raise SessionError(
                f"init: the workers of session {self.name} run {self.python}, this program "
                f"{python_version()}, and functions are not the same in both; init("
                'address="local") starts a session of this program\'s own'
            )

    def close(self) -> None:
        """Leave. Views stay valid, and their objects in the store, as long as they live."""
        with suppress(Exception):  # the session may be over
            names.clear_mine(self.arena)
        self.arena.retire()


def join_started() -> Guest | None:
    """Join a session that `plasmid start` started, if there is one: the youngest."""
    return _first(filter(handover.is_started, handover.find()))


def join(address: str) -> Guest:
    """Join the session at `address`; "auto": any of this user's, a started one first, then the
    youngest. Of several it logs which."""
    if address != "auto":
        return Guest(address)
    found = handover.find()
    guest = _first(iter(found))
    if guest is None:
        raise SessionNotFoundError(
            "init: this user has no running session; start one with `plasmid start`, or by init() "
            "without an address in another program"
        )
    if len(found) > 1:
        import logging

        logging.getLogger("plasmid").warning(
            "init: %d sessions are running; joined %s", len(found), guest.name
        )
    return guest


def _first(found: Iterator[str]) -> Guest | None:
    """The first that can be joined. The error of one that cannot, if none can."""
    refused = None
    for name in found:
        try:
            return Guest(name)
        except SessionNotFoundError:  # it has just ended
            continue
        except SessionError as error:  # it is ending, of another build, or in another container
            refused = refused or error
    if refused:
        raise refused
    return None
