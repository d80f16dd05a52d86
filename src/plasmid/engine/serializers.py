"""The session's registry of custom serializers: an object kept in the arena, and a count of its
changes, which a worker looks at before each task."""

from __future__ import annotations

from collections.abc import Callable

from plasmid._core import core
from plasmid.serialize import custom

_KEY = b"custom serializers".ljust(core.KEY_BYTES, b"\0")


class Serializers:
    """This process's copy of the registry.

    Processes and threads: any thread of any process may change the registry; the change is seen by
    tasks that begin after it.
    """

    def __init__(self, arena: core.Arena) -> None:
        self._arena = arena
        self._seen = 0
        if custom.is_any():
            self.change(lambda: None)
        else:
            self.update()

    def update(self) -> None:
        """Take over what others changed. Costs one load if nothing was."""
        if self._arena.serializers != self._seen:
            self._take(self._arena.find(_KEY))

    def change(self, change: Callable[[], None]) -> None:
        """Make a change to the registry, here and for everybody. TypeError if it cannot be
        pickled."""
        mine = custom.export_all() if self._seen == 0 else None
        while True:
            old = self._arena.find(_KEY)
            if old is not None:
                self._take(old)
            if mine is not None:  # registered before the session began
                custom.add_all(mine)
            change()
            new = self._arena.put_bytes(custom.export_all())
            if old is not None and not self._arena.unkeep(old, _KEY):
                continue  # another process was faster: its change is to be kept, too
            if self._arena.keep(new, _KEY):
                self._arena.count_serializers()
                self._seen = self._arena.serializers
                return

    def _take(self, stored: core.ObjectRef | None) -> None:
        seen = self._arena.serializers
        if stored is not None:
            custom.replace_all(bytes(self._arena.open(stored, 0, self._arena.size_of(stored) or 0)))
            self._seen = seen
