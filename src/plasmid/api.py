"""`put`, `get`, `wait` and what the session has: what a program calls on objects.

Here arguments are checked, in Ray's order and with Ray's exception classes; the work is the
engine's. `put` and `get` of one ref are the hot path: one global, one type test and one call of the
engine.
"""

from __future__ import annotations

from plasmid.engine import current
from plasmid.exceptions import NotSupportedError
from plasmid.generator import ObjectRefGenerator

TYPE_CHECKING = False
if TYPE_CHECKING:
    from datetime import timedelta
    from typing import Any, NoReturn

    from plasmid._core.core import ObjectRef
    from plasmid.engine.base import Engine

__all__ = [
    "available_resources",
    "cancel",
    "cluster_resources",
    "delete_object",
    "free",
    "get",
    "get_gpu_ids",
    "get_object",
    "list_named_objects",
    "nodes",
    "put",
    "timeline",
    "wait",
]


def put(
    value: Any,
    *,
    name: str | None = None,
    lifetime: float | str | timedelta = "session",
    _owner: object = None,
    _tensor_transport: str | None = None,
) -> ObjectRef:
    """Store `value` and return a reference to it, which any task can be given.

    The value is copied once, into shared memory; changing the original later does not change what
    is stored. Memory that lies in the store already (arrays from `get` or `empty`) is not copied.
    It lives as long as there is a reference to it.

    With a `name` it is also kept for whoever asks `get_object(name)`, without any reference:
    `lifetime` "session" until the program that put it leaves its session (what a task puts, until
    the session ends), "detached" until `delete_object` or the session's end, or a number of seconds
    or a timedelta. ObjectExistsError if the name is taken.

    TypeError if `value` is an ObjectRef, or cannot be pickled: the message names the attribute at
    fault. ObjectStoreFullError if there is no room, and nobody makes any in the seconds that the
    environment variable PLASMID_STORE_FULL_SECONDS says (10).

    Processes and threads: safe from any thread of any process of the session; starts a session if
    there is none.
    """
    engine = current.engine
    if type(value) is engine.ref_type:
        raise TypeError(
            f"put: {value!r} is a reference already; to store the reference, put it in a list"
        )
    if _owner is not None or _tensor_transport not in (None, "object_store"):
        _refuse_put_option(_owner)
    if name is None:
        if lifetime != "session":
            raise ValueError(
                "put: lifetime is that of a name; without one an object lives as long as there is "
                "a reference to it"
            )
        return engine.put(value)
    return _put_named(value, name, lifetime)


def get_object(name: str) -> ObjectRef:
    """The reference to the object that was put under this name, by any program of the session.

    ObjectLostError, a LookupError, if there is none or its time is over. Does not block.
    """
    return current.get_engine().get_named(_name("get_object", name))


def delete_object(name: str) -> None:
    """Forget a name. The object goes if nothing else holds it. ObjectLostError if there is none."""
    current.get_engine().delete_named(_name("delete_object", name))


def list_named_objects() -> list[str]:
    """The names of all named objects of the session, sorted."""
    return current.get_engine().names()


def free(object_refs: ObjectRef | list[ObjectRef]) -> None:
    """Give up objects before their last reference goes: their memory is back when no view of them
    is left.

    From now on `get` of them raises ObjectFreedError, in every process, and tasks that take one
    fail with it. The result of a task that has not finished is freed as it comes. What they contain
    loses that reference, so objects that keep each other alive can be freed. Freeing again does
    nothing.

    TypeError for what is no reference, or no list of references.
    """
    engine = current.get_engine()
    refs: Any = [object_refs] if type(object_refs) is engine.ref_type else object_refs
    if not isinstance(refs, (list, tuple)):
        raise TypeError(f"free: expected an ObjectRef or a list of them, got {_brief(object_refs)}")
    for ref in refs:
        if type(ref) is not engine.ref_type:
            raise TypeError(f"free: {_brief(ref)} is not an ObjectRef")
    engine.free(list(refs))


def get(
    object_refs: Any,
    *,
    timeout: float | None = None,
    writable: bool = False,
    _use_object_store: bool = False,
) -> Any:
    """The value of a reference; for a list or a dict of references, that of each of them.

    A list gives a list, a dict whose values are references a dict with the same keys.

    Waits until all are there. Arrays, tables and other large buffers are read-only views of shared
    memory: nothing is copied, and the memory stays as long as the view. With `writable` they are
    private: pages are copied as they are written, and nobody else sees the change.

    If the task that was to make it raised, `get` raises that error: a RayTaskError that is also an
    instance of the class that the task raised. GetTimeoutError after `timeout` seconds; 0: only
    what is there now. -1 is None, as in Ray.

    Inside a task, an argument that was passed as a reference has arrived as its value; `get` of
    exactly that value returns it. Anything else that is not a reference raises ValueError, in a
    list or dict TypeError.

    Processes and threads: safe from any thread of any process of the session. Blocks without the
    GIL, and Ctrl-C interrupts it. A worker that waits here lends its CPU to other tasks, or runs
    what it waits for itself, where no other worker can: then the timeout is looked at when that
    task has ended.
    """
    if timeout is not None:
        timeout = None if timeout == -1 else seconds("get", timeout)
    engine = current.engine
    if type(object_refs) is engine.ref_type:
        return engine.get_one(object_refs, timeout, writable)
    return _get_others(object_refs, timeout, writable)


def wait(
    ray_waitables: list[Any],
    *,
    num_returns: int = 1,
    timeout: float | None = None,
    fetch_local: bool = True,
) -> tuple[list[Any], list[Any]]:
    """Wait until `num_returns` of the references are ready, or for `timeout` seconds.

    Returns (ready, not ready).

    Both lists keep the order given; at most `num_returns` are in the first. Ready is also what
    failed: the error comes with `get`. `fetch_local` has no effect on one machine. An
    `ObjectRefGenerator` among them is ready when its `next` need not wait: there is a reference, or
    it has ended.

    Processes and threads: as for `get`.
    """
    engine = current.get_engine()
    ref_type = engine.ref_type
    if not isinstance(ray_waitables, list):
        what = (
            repr(ray_waitables) if type(ray_waitables) is ref_type else type(ray_waitables).__name__
        )
        raise TypeError(f"wait: expected a list of ObjectRefs, got {what}")
    if timeout is not None:
        timeout = seconds("wait", timeout)
    if not ray_waitables:
        return [], []
    if isinstance(num_returns, bool) or not hasattr(num_returns, "__index__"):
        raise TypeError(f"wait: num_returns must be a whole number, not {num_returns!r}")
    if not 1 <= num_returns <= len(ray_waitables):
        raise ValueError(
            f"wait: num_returns must be from 1 to the number of refs, {len(ray_waitables)}, "
            f"but is {num_returns}"
        )
    try:
        return engine.wait(_plain(ray_waitables), int(num_returns), timeout)
    except TypeError:  # of an item that is no reference
        if ObjectRefGenerator not in map(type, ray_waitables):
            raise
    return _wait_for_items(ray_waitables, int(num_returns), timeout)


def _wait_for_items(
    waitables: list[Any], num_returns: int, timeout: float | None
) -> tuple[list[Any], list[Any]]:
    """`wait` with generators in the list: their gates stand for them."""
    refs = [each._gate if type(each) is ObjectRefGenerator else each for each in waitables]
    while True:
        ready, others = wait(refs, num_returns=num_returns, timeout=timeout)
        # Another thread may take what made a generator ready.
        if timeout is not None or len(ready) == num_returns:
            break
    named = dict(zip(refs, waitables, strict=True))
    return [named[ref] for ref in ready], [named[ref] for ref in others]


def cancel(ray_waitable: Any, *, force: bool = False, recursive: bool = True) -> None:
    """Cancel the task that is to produce a reference.

    A queued task, or one that waits for its arguments, does not run any more: its results raise
    TaskCancelledError at once. A running one is interrupted by a KeyboardInterrupt in its main
    thread, also out of `time.sleep` and `get`; an async function gets asyncio's CancelledError
    where it awaits. What the task makes of it counts, as in Ray: if the exception ends it, its
    results raise TaskCancelledError, if it returns, or raises another, they have that. While code
    in C runs that looks at no signals, or another task on top of it on the same worker, it goes on.

    With `force` the process that runs it is killed, whatever the task does; other tasks on that
    process's stack are run again as after any death. A task that has ended, and a reference of
    `put`, are left alone. Cancelled tasks are not retried, and tasks that depend on their results
    fail with the same error.

    With `recursive` all this is done with the tasks that it has submitted too, and those that
    they have, as long as the tasks between have not ended. What a task submits once it was
    interrupted is left to run.

    TypeError for what is no reference.

    Processes and threads: safe from any thread of any process of the session; the task may be
    anybody's. Does not wait until a running task has ended: `get` does.
    """
    engine = current.get_engine()
    # A generator of references stands for the task that makes them.
    ref = getattr(ray_waitable, "_generator_ref", ray_waitable)
    if type(ref) is not engine.ref_type:
        raise TypeError(f"cancel: expected an ObjectRef, got {_brief(ray_waitable)}")
    engine.cancel(ref, bool(force), bool(recursive))


def cluster_resources() -> dict[str, float]:
    """What the session has: "CPU", "memory" and "object_store_memory" (bytes), ...

    SessionError if there is none.
    """
    return current.engine.cluster_resources()


def available_resources() -> dict[str, float]:
    """What of `cluster_resources()` no running task holds; what is used up is left out."""
    return current.engine.available_resources()


def get_gpu_ids() -> list[int] | list[str]:
    """The GPUs that this task holds, whole or a part of one: what it finds in CUDA_VISIBLE_DEVICES.

    Numbers from 0, or the names in the CUDA_VISIBLE_DEVICES that the session was started with, if
    it was set. Empty in a program, and in a task that asked for none.
    """
    return current.get_engine().gpu_ids()


def nodes() -> list[dict[str, Any]]:
    """The session's machine, as a list of one dict with Ray's keys."""
    return current.engine.nodes()


def timeline(filename: str | None = None) -> list[dict[str, Any]] | None:
    """When the latest tasks were submitted, waited, ran and stored their results: as events in
    Chrome's trace format, for chrome://tracing or ui.perfetto.dev.

    Returned as a list, or with a `filename` written to that file as JSON. The latest 16,384
    attempts of tasks are remembered, and all that have not ended. Does not block.
    """
    events = current.engine.timeline()
    if filename is None:
        return events
    import json

    with open(filename, "w") as file:
        json.dump(events, file)
    return None


def _get_others(what: Any, timeout: float | None, writable: bool) -> Any:
    """`get` of anything but a ref known at once."""
    engine = current.get_engine()
    if type(what) is engine.ref_type:
        return engine.get_one(what, timeout, writable)
    # A list or dict of refs is what it says, even if it is a resolved argument: Ray gets those,
    # too.
    if isinstance(what, list):
        if _all_refs(what, engine):
            return engine.get(_plain(what), timeout, writable)
    elif isinstance(what, dict) and _all_refs(what.values(), engine):
        return dict(zip(what, engine.get(list(what.values()), timeout, writable), strict=True))
    if engine.is_resolved_argument(what) or type(what) is ObjectRefGenerator:
        return what  # of a generator so in Ray, too
    if isinstance(what, (list, dict)):
        _refuse_element(what if isinstance(what, list) else what.values(), engine)
    raise ValueError(
        f"get: {_brief(what)} is neither an ObjectRef nor a list of ObjectRefs nor a dict with "
        "ObjectRefs as values"
    )


def _put_named(value: Any, name: str, lifetime: Any) -> ObjectRef:
    _name("put", name)
    if hasattr(lifetime, "total_seconds"):
        lifetime = lifetime.total_seconds()
    if isinstance(lifetime, str):
        if lifetime not in ("session", "detached"):
            raise ValueError(
                f"put: lifetime is 'session', 'detached' or a number of seconds, not {lifetime!r}"
            )
    elif isinstance(lifetime, bool) or not hasattr(lifetime, "__float__"):
        raise TypeError(
            f"put: lifetime is 'session', 'detached' or a number of seconds, not {_brief(lifetime)}"
        )
    elif not 0 < float(lifetime) < float("inf"):
        raise ValueError(f"put: a lifetime in seconds must be positive and finite, not {lifetime}")
    else:
        lifetime = min(float(lifetime), 1e9)  # 30 years in ns fit the record, longer ones may not
    engine = current.get_engine()
    ref = engine.put(value)
    engine.give_name(ref, name, lifetime)
    return ref


def _name(operation: str, name: Any) -> str:
    if not isinstance(name, str):
        raise TypeError(f"{operation}: a name must be a string, not {_brief(name)}")
    if not name:
        raise ValueError(f"{operation}: a name must not be empty")
    return name


def get_one_ref(operation: str, what: Any, timeout: float | None) -> tuple[ObjectRef, float | None]:
    """Check what a call that takes exactly one reference was given."""
    if type(what) is not current.get_engine().ref_type:
        raise TypeError(f"{operation}: expected an ObjectRef, got {_brief(what)}")
    return what, None if timeout is None else seconds(operation, timeout)


def _all_refs(values: Any, engine: Engine) -> bool:
    # Stops at the first stranger: a resolved argument may be a list of millions.
    ref_type = engine.ref_type
    return all(type(value) is ref_type for value in values)


def _plain(refs: list[ObjectRef]) -> list[ObjectRef]:
    # The core takes lists only, no classes derived from it: those may do anything on access.
    return refs if type(refs) is list else list(refs)


def _refuse_element(values: Any, engine: Engine) -> NoReturn:
    stranger = next(value for value in values if type(value) is not engine.ref_type)
    raise TypeError(f"get: {_brief(stranger)} is not an ObjectRef")


def _refuse_put_option(owner: object) -> NoReturn:
    if owner is not None:
        raise NotSupportedError("put: _owner is not supported: objects belong to the session")
    raise NotSupportedError("put: the only _tensor_transport is 'object_store'")


def seconds(operation: str, timeout: Any) -> float | None:
    """`timeout` as the engine takes it."""
    if isinstance(timeout, str) or not hasattr(timeout, "__float__"):
        raise TypeError(
            f"{operation}: timeout must be a number of seconds or None, not {_brief(timeout)}"
        )
    try:
        seconds = float(timeout)
    except OverflowError:  # an int beyond all floats
        seconds = float("inf") if timeout > 0 else -1.0
    if not seconds >= 0:
        raise ValueError(f"{operation}: timeout must not be negative or NaN, got {timeout!r}")
    return None if seconds == float("inf") else seconds


def _brief(value: object) -> str:
    import reprlib

    # Of a list or dict it shows the beginning, whatever its length, and it survives any __repr__.
    shown = reprlib.Repr()
    shown.maxother = shown.maxstring = shown.maxlong = 200
    text = shown.repr(value)
    return f"{text if len(text) <= 60 else text[:57] + '...'} ({type(value).__name__})"
