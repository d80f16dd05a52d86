"""Lost objects: their tasks are run again, if what they took is still there."""

from __future__ import annotations

import logging

from plasmid._core import core
from plasmid.exceptions import ObjectLostError, ObjectReconstructionFailedError


def run_again(arena: core.Arena, ref: core.ObjectRef) -> core.ObjectRef:
    """What will have the value of a lost object: a result of its task, which is queued again.
    ObjectLostError if it was put, its task may not be retried, or has taken what is gone."""
    recipe = arena.recipe(ref)
    if recipe is None:
        raise ObjectLostError(
            f"get: {ref!r} is lost: its copy on disk is damaged, or cannot be read, and it "
            "cannot be made again: it was put, its task has no retries, or an argument is gone"
        )
    index, spec = recipe
    name = spec[1].decode(errors="replace")
    logging.getLogger("plasmid").warning(
        "%s is lost: its copy on disk is damaged. %s() is run again to make it.", repr(ref), name
    )
    made: core.ObjectRef = core.submit(arena, *spec)[index]
    return made


def made_again(arena: core.Arena, ref: core.ObjectRef, made: core.ObjectRef) -> core.ObjectRef:
    """`made`, if its task has not failed; else ObjectReconstructionFailedError."""
    if arena.is_failed(made):
        try:
            arena.read(made)
        except Exception as error:
            raise ObjectReconstructionFailedError(
                f"get: {ref!r} was lost, and running its task again failed: {error}"
            ) from error
    return made
