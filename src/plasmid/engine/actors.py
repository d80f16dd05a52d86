"""Actors on the arena: made, named, found, called, killed.

An actor is a task; what its handles refer to is its mailbox (csrc/mailbox.h). Its card is an object
that the task keeps as its last argument: what its process, and who finds it by name, are to know.
"""

from __future__ import annotations

from hashlib import blake2b
from typing import Any

from plasmid._core import core
from plasmid.engine import packing, roster
from plasmid.engine.base import ActorOptions, CallOptions
from plasmid.engine.placing import Placing
from plasmid.engine.running import current_task, process
from plasmid.exceptions import (
    ActorAlreadyExistsError,
    ActorUnschedulableError,
    TaskUnschedulableError,
)


class Actors:
    """Of one session, as one process sees it.

    Processes and threads: any thread may call anything.
    """

    def __init__(self, arena: core.Arena, placing: Placing) -> None:
        self._arena = arena
        self._placing = placing

    def create(
        self,
        function: core.ObjectRef,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        options: ActorOptions,
        card: dict[str, Any],
        environment: core.ObjectRef | None,
    ) -> core.ObjectRef:
        """Its mailbox. ActorAlreadyExistsError, and what submit() raises."""
        arena, task = self._arena, options.task
        if options.name and self.find(options.name, options.namespace) is not None:
            raise _taken(options)
        try:
            placed = self._placing.place(task)
        except TaskUnschedulableError as error:
            raise ActorUnschedulableError(f"The actor is not schedulable: {error}") from None
        packed = packing.pack_arguments(
            arena, args, kwargs, (False, task.num_cpus, placed.captures, False, 0)
        )
        refs = [*packed.refs, packing.put(arena, card)]
        mailbox, _ = core.submit(
            arena,
            function,
            task.name.encode(errors="replace"),
            packed.payload,
            packed.stored,
            refs,
            packed.waits,
            2,
            placed.cpu,
            options.max_restarts,
            placed.more,
            placed.group,
            placed.bundle,
            -1,
            not task.events,
            environment,
            True,
            hosted=True,
            unordered=options.is_unordered,
            most_calls=options.most_calls,
        )
        if options.name and not self._give_name(mailbox, options):
            core.cancel(arena, mailbox, True, False)
            raise _taken(options)
        if options.is_detached and not options.name:
            arena.keep(mailbox, _key(mailbox.hex(), ""))
        return mailbox

    def _give_name(self, mailbox: core.ObjectRef, options: ActorOptions) -> bool:
        give = self._arena.keep if options.is_detached else self._arena.name
        return bool(give(mailbox, _key(options.name, options.namespace)))

    def call(
        self,
        mailbox: core.ObjectRef,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        options: CallOptions,
    ) -> list[core.ObjectRef]:
        arena, returns = self._arena, options.num_returns
        packed = packing.pack_arguments(arena, args, kwargs, options.extra, options.is_plain)
        return core.submit(
            arena,
            mailbox,
            options.name,
            packed.payload,
            packed.stored,
            packed.refs,
            packed.waits,
            returns if isinstance(returns, int) else 1,
            0,
            options.max_retries,
            (),
            0,
            -1,
            options.backpressure if returns == "streaming" else -1,
            not options.events,
            None,
            False,
            on_behalf(),
        )

    def find(self, name: str, namespace: str) -> tuple[core.ObjectRef, dict[str, Any]] | None:
        """Mailbox and card of the actor of that name, if it lives."""
        mailbox = self._arena.find(_key(name, namespace))
        if mailbox is None:
            return None
        card = roster.card_of(self._arena, mailbox)
        return None if card is None else (mailbox, card)

    def kill(self, mailbox: core.ObjectRef, no_restart: bool) -> None:
        if not no_restart:
            core.restart_actor(self._arena, mailbox)
            return
        core.cancel(self._arena, mailbox, True, False)


def on_behalf() -> int:
    """Number of the task that this thread or coroutine submits for, where the core cannot know
    which it is: in an actor that runs several calls at a time. Else 0."""
    if not process.hosts:
        return 0
    task = current_task()
    return task.core.serial if task is not None else 0


def _taken(options: ActorOptions) -> ActorAlreadyExistsError:
    return ActorAlreadyExistsError(
        f"The name {options.name} (namespace={options.namespace}) is already taken by a living "
        "actor: get_actor() finds it, get_if_exists=True makes one only if there is none"
    )


def _key(name: str, namespace: str) -> bytes:
    text = f"actor {len(namespace)} {namespace} {name}"
    return blake2b(text.encode(errors="surrogatepass"), digest_size=core.KEY_BYTES).digest()
