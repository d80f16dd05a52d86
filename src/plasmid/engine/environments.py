"""In which environments tasks run: those that this process submits, and those that it runs itself.

An environment is a line of JSON, stored once as an object under its content. The core binds a
worker to the object of its first task, and the worker enters it before it runs that. It then holds
the object, which so stays the same one for everybody as long as such a worker lives.
"""

from __future__ import annotations

import json
from typing import Any

from plasmid._core import core
from plasmid.engine import packing
from plasmid.runtime_env import merged

MOST_KNOWN = 1000
"""So many environments a process keeps at hand."""


class Environments:
    """`own`: what tasks get that ask for nothing. Of a program that of its job, of a worker the one
    that it is in.

    Processes and threads: safe from any thread; `adopt` belongs to the thread that runs tasks.
    """

    def __init__(self, arena: core.Arena, job: dict[str, Any]) -> None:
        self._arena = arena
        self._known: dict[str, core.ObjectRef] = {}
        self.fields = job
        self.own = self._stored(job) if job else None

    def of(self, asked: str) -> core.ObjectRef:
        """The object of the environment that a task gets which asks for this one, as JSON.
        ObjectStoreFullError."""
        found = self._known.get(asked)
        if found is None:
            found = self._stored(merged(self.fields, json.loads(asked)))
            if len(self._known) >= MOST_KNOWN:
                self._known.clear()
            self._known[asked] = found
        return found

    def _stored(self, fields: dict[str, Any]) -> core.ObjectRef:
        text = json.dumps(fields, sort_keys=True)
        return packing.publish(self._arena, b"environment " + text.encode(), text)

    def read(self, ref: core.ObjectRef) -> dict[str, Any]:
        """What such an object tells."""
        fields: dict[str, Any] = json.loads(self._arena.read(ref))
        return fields

    def adopt(self, ref: core.ObjectRef, fields: dict[str, Any]) -> None:
        """This process, a worker, is in that environment from now on."""
        self._known.clear()
        self.own, self.fields = ref, fields
