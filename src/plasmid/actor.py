"""Actors: classes whose instances live in processes of their own, and handles to call them.

ActorClass   ->  the class, its methods as callers see them, and its options, checked
ActorHandle  ->  a reference to an actor's mailbox, and its methods
ActorMethod  ->  one of them, with options: .remote() is a call
"""

from __future__ import annotations

import os

from plasmid.actor_methods import Methods, as_call
from plasmid.actor_options import actor_options, check_call_options, check_options
from plasmid.engine import current
from plasmid.exceptions import ActorExit, NotSupportedError, UsageError
from plasmid.generator import ObjectRefGenerator
from plasmid.options import with_paths

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from types import GenericAlias, SimpleNamespace
    from typing import Any, NoReturn

    from plasmid._core.core import ObjectRef
    from plasmid.engine.base import Engine, FunctionHandle

__all__ = [
    "ActorClass",
    "ActorHandle",
    "ActorProxy",
    "exit_actor",
    "get_actor",
    "kill",
    "method",
]

_METHOD_OPTIONS = (
    "num_returns",
    "concurrency_group",
    "max_task_retries",
    "retry_exceptions",
    "enable_task_events",
    "tensor_transport",
    "_generator_backpressure_num_objects",
    "_num_objects_per_yield",
)


class ActorClassInheritanceException(TypeError):
    """A class was derived from an actor class, rather than from the class that it was made of."""


class ActorClass:
    """A class that `remote` was applied to: `A.remote(...)` makes an instance in a process of its
    own, and returns a handle.

    Attributes of the class can be read on it. Processes and threads: safe from any thread. Pickled
    with its class and options, it is the same in every process that gets it.
    """

    def __init__(self, *args: object, **kwargs: object) -> None:
        raise UsageError(f"{type(self).__name__} is made by @remote on a class, not by hand")

    def __class_getitem__(cls, kind: Any) -> GenericAlias:
        from types import GenericAlias

        return GenericAlias(cls, kind)

    _body: _Body
    _given: dict[str, Any]

    @classmethod
    def _of(cls, body: _Body, given: dict[str, Any]) -> ActorClass:
        check_options(given)
        named = type(f"ActorClass({body.name})", (ActorClass,), {})
        made: ActorClass = object.__new__(named)
        made.__dict__.update(_body=body, _given=with_paths(given), __doc__=body.cls.__doc__)
        made.__dict__.update(__name__=body.name, __qualname__=body.cls.__qualname__)
        made.__dict__["__module__"] = body.cls.__module__
        return made

    def remote(self, /, *args: Any, **kwargs: Any) -> Any:
        """Have an instance made in a process of its own; a handle to it.

        It lives until nobody has a handle and all calls have ended, it is killed, ends itself
        (`exit_actor`), or its process dies and max_restarts is used up. What its constructor raises
        every call raises, as the cause of an ActorDiedError. TypeError if the arguments do not fit
        or cannot be pickled, ValueError if the name is taken. Does not block.
        """
        body = self._body
        engine, handle = body.exported
        if engine is not current.engine:
            engine, handle = body.export()
        methods = body.methods
        methods.constructor.check(args, kwargs)
        options, card = actor_options(self._given, methods)
        if self._given.get("get_if_exists"):
            found = engine.find_actor(options.name, options.namespace)
            if found is not None:
                return ActorHandle._of(*found)
            try:
                mailbox = engine.create_actor(handle, args, kwargs, options, card)
            except ValueError:  # it exists by now
                found = engine.find_actor(options.name, options.namespace)
                if found is None:
                    raise
                return ActorHandle._of(*found)
        else:
            mailbox = engine.create_actor(handle, args, kwargs, options, card)
        return ActorHandle._of(mailbox, card)

    def options(self, /, **given: Any) -> ActorClass:
        """The same class with these options changed. ValueError for concurrency_groups, as in Ray:
        they are of the class."""
        if "concurrency_groups" in given:
            raise ValueError(
                "Setting 'concurrency_groups' is not supported in '.options()': it is for @remote"
            )
        return ActorClass._of(self._body, {**self._given, **given})

    def _remote(
        self,
        args: tuple[Any, ...] | list[Any] | None = None,
        kwargs: dict[str, Any] | None = None,
        **options: Any,
    ) -> Any:
        """`options(**options).remote(*args, **kwargs)`, as Ray programs write it."""
        chosen = self.options(**options) if options else self
        return chosen.remote(*(args or ()), **(kwargs or {}))

    def bind(self, /, *args: Any, **kwargs: Any) -> NoReturn:
        """NotSupportedError: there are no graphs of calls that are run later."""
        raise NotSupportedError(f"{self._body.name}.bind(): call .remote(), which runs at once")

    @property
    def __ray_metadata__(self) -> SimpleNamespace:
        """The class, for libraries that look for it."""
        from types import SimpleNamespace

        return SimpleNamespace(modified_class=self._body.cls, class_name=self._body.name)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.__dict__["_body"].cls, name)

    def __call__(self, /, *args: Any, **kwargs: Any) -> NoReturn:
        name = self._body.name
        raise TypeError(
            f"Actors cannot be instantiated directly. Instead of '{name}()', use '{name}.remote()'."
        )

    def __mro_entries__(self, bases: tuple[Any, ...]) -> NoReturn:
        raise ActorClassInheritanceException(
            f"Inheriting from actor classes, here {self._body.name!r}, is not possible: derive "
            "from the class that it was made of, and apply @remote to what comes of it"
        )

    def __repr__(self) -> str:
        return f"ActorClass({self._body.name})"

    def __reduce__(self) -> tuple[Callable[..., ActorClass], tuple[Any, ...]]:
        return _restore_class, (self._body.cls, self._body.key, self._given)


class _Body:
    """A class, and what the session of this process knows it as."""

    def __init__(self, cls: type, key: bytes) -> None:
        self.cls = cls
        self.key = key
        # One tuple, so that a thread never sees one engine's handle with another engine.
        self.exported: tuple[Engine | None, FunctionHandle] = (None, None)
        self._methods: Methods | None = None

    @property
    def name(self) -> str:
        return str(self.cls.__name__)

    @property
    def methods(self) -> Methods:
        """As callers see them. Made when first needed: a class that refers to itself is unpickled
        with its ActorClass made first."""
        if self._methods is None:
            self._methods = Methods.of(self.cls)
        return self._methods

    def export(self) -> tuple[Engine, FunctionHandle]:
        """Tell the engine of now. Two threads may both do so; they get the same handle."""
        engine = current.get_engine()
        handle = engine.export(self.cls, self.name, self.key)
        self.exported = engine, handle
        return engine, handle


def make_class(cls: type, given: dict[str, Any]) -> ActorClass:
    """What `remote` makes of a class."""
    return ActorClass._of(_Body(cls, os.urandom(16)), given)


def _restore_class(cls: type, key: bytes, given: dict[str, Any]) -> ActorClass:
    return ActorClass._of(_Body(cls, key), given)


class ActorHandle:
    """An actor, for whoever calls it: `handle.method.remote(...)`.

    It can be passed to tasks and actors, stored in objects and pickled: whoever has one keeps the
    actor alive. Equal handles are of one actor. Processes and threads: safe from any thread; calls
    of one process run in the order in which they were made, unless the actor is asynchronous, has
    several threads or allow_out_of_order_execution.
    """

    _ref: ObjectRef
    _methods: Methods

    def __init__(self, *args: object, **kwargs: object) -> None:
        raise UsageError("an ActorHandle is what ActorClass.remote() returns, not made by hand")

    def __class_getitem__(cls, kind: Any) -> GenericAlias:
        from types import GenericAlias

        return GenericAlias(cls, kind)

    @classmethod
    def _of(cls, mailbox: ObjectRef, card: dict[str, Any]) -> ActorHandle:
        return _restore_handle(mailbox, card["methods"])

    @property
    def _actor_id(self) -> Any:
        return current.get_engine().actor_id(self._ref)

    @property
    def _ray_actor_id(self) -> Any:
        return self._actor_id

    def __getattr__(self, name: str) -> ActorMethod:
        found = self.__dict__["_methods"].find(name)
        if found is None:
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")
        return ActorMethod(self, name, found)

    def __dir__(self) -> list[str]:
        return self._methods.names()

    def __eq__(self, other: object) -> bool:
        return isinstance(other, ActorHandle) and self._ref == other._ref

    def __hash__(self) -> int:
        return hash(self._ref)

    def __repr__(self) -> str:
        return f"Actor({self._methods.class_name}, {self._actor_id.hex()})"

    def __reduce__(self) -> tuple[Callable[..., ActorHandle], tuple[Any, ...]]:
        return _restore_handle, (self._ref, self._methods.packed)


def _restore_handle(mailbox: ObjectRef, packed: bytes) -> ActorHandle:
    made: ActorHandle = object.__new__(ActorHandle)
    made.__dict__.update(_ref=mailbox, _methods=Methods.unpacked(packed))
    return made


class ActorProxy(ActorHandle):
    """To annotate handles with, for type checkers: `ActorProxy[Class]`."""


class ActorMethod:
    """A method of an actor. Keeps the actor alive, as its handle does."""

    __slots__ = ("_call", "_handle", "_name")

    def __init__(self, handle: ActorHandle, name: str, call: Any) -> None:
        self._handle = handle
        self._name = name
        self._call = call

    def remote(self, /, *args: Any, **kwargs: Any) -> Any:
        """Call it, and return a reference to the result.

        With num_returns > 1 it is a list of references, with 0 None; of a generator function, an
        `ObjectRefGenerator`. References directly among the arguments arrive as their values.
        TypeError if the arguments do not fit or cannot be pickled, PendingCallsLimitExceeded. If
        the actor is dead, the result is an ActorDiedError. Does not block.
        """
        method, options = self._call
        if kwargs or not method.fewest <= len(args) <= method.most:
            method.check(args, kwargs)
        refs = current.engine.call(self._handle._ref, args, kwargs, options)
        returns = options.num_returns
        if returns == 1:
            return refs[0]
        if returns == "streaming":
            return ObjectRefGenerator._of(*refs)
        return refs or None

    def options(self, /, **given: Any) -> ActorMethod:
        """The same method with these options changed: num_returns, name, concurrency_group,
        max_task_retries, retry_exceptions, enable_task_events."""
        check_call_options(given)
        methods = self._handle._methods
        method = self._call[0]
        return ActorMethod(self._handle, self._name, (method, as_call(methods, method, given)))

    def _remote(
        self,
        args: tuple[Any, ...] | list[Any] | None = None,
        kwargs: dict[str, Any] | None = None,
        **options: Any,
    ) -> Any:
        """`options(**options).remote(*args, **kwargs)`, as Ray programs write it."""
        chosen = self.options(**options) if options else self
        return chosen.remote(*(args or ()), **(kwargs or {}))

    def bind(self, /, *args: Any, **kwargs: Any) -> NoReturn:
        """NotSupportedError: there are no graphs of calls that are run later."""
        raise NotSupportedError(f"{self._name}.bind(): call .remote(), which runs at once")

    def __call__(self, /, *args: Any, **kwargs: Any) -> NoReturn:
        raise TypeError(
            f"Actor methods cannot be called directly. Instead of running 'object.{self._name}()', "
            f"try 'object.{self._name}.remote()'."
        )

    def __repr__(self) -> str:
        return f"<method {self._name} of {self._handle!r}>"

    def __reduce__(self) -> tuple[Callable[..., ActorMethod], tuple[Any, ...]]:
        return ActorMethod, (self._handle, self._name, self._call)


def method(*args: Any, **options: Any) -> Any:
    """Options of one method of an actor: @method(num_returns=2), or @method without any.

    They stay on the function, as `__ray_num_returns__` and so on. UsageError for others than Ray's.
    """
    unknown = sorted(options.keys() - set(_METHOD_OPTIONS))
    if unknown or len(args) > 1 or (args and options):
        what = ", ".join(unknown) or "positional arguments beside options"
        raise UsageError(f"method: {what}; valid options are {', '.join(_METHOD_OPTIONS)}")
    if args:
        if not callable(args[0]):
            raise UsageError(f"method: {args[0]!r} is no method")
        return args[0]
    check_call_options(options)

    def mark(function: Callable[..., Any]) -> Callable[..., Any]:
        for name, value in options.items():
            setattr(function, f"__ray_{name.lstrip('_')}__", value)
        return function

    return mark


def get_actor(name: str, namespace: str | None = None) -> ActorHandle:
    """The living actor of that name. ValueError if there is none. Its handle keeps it alive, as any
    does."""
    if namespace is not None and not isinstance(namespace, str):
        raise TypeError(f"get_actor: namespace must be a string or None, not {namespace!r}")
    if namespace == "":
        raise ValueError('get_actor: "" is not a valid namespace')
    if not name:
        raise ValueError("get_actor: the name must not be empty")
    if not isinstance(name, str):
        raise TypeError(f"get_actor: the name must be a string, not {name!r}")
    found = current.get_engine().find_actor(name, namespace or "")
    if found is None:
        where = f" in the namespace {namespace!r}" if namespace else ""
        raise ValueError(
            f"Failed to look up actor with name {name!r}{where}: there is none that lives. Actors "
            "end with their last handle, unless they were made with lifetime='detached'"
        )
    return ActorHandle._of(*found)


def list_named_actors(all_namespaces: bool = False) -> list[Any]:
    """The names of all named actors that live in this program's namespace; of all namespaces as
    dicts with "name" and "namespace"."""
    engine = current.get_engine()
    named = [each for each in engine.actors() if each["name"]]
    if all_namespaces:
        return [{"name": each["name"], "namespace": each["namespace"]} for each in named]
    here = engine.runtime_context()["namespace"]
    return [each["name"] for each in named if each["namespace"] == here]


def kill(actor: Any, *, no_restart: bool = True) -> None:
    """End an actor at once: its process is killed, its calls fail with ActorDiedError. With
    no_restart=False it is started again, if max_restarts allows. No effect on a dead one.

    ValueError for what is no actor. Does not wait for the process to end.
    """
    if not isinstance(actor, ActorHandle):
        raise ValueError(
            "ray.kill() only supported for actors. For tasks, try ray.cancel(). This is "
            f"{type(actor).__name__}"
        )
    current.get_engine().kill_actor(actor._ref, bool(no_restart))


def exit_actor() -> NoReturn:
    """End the actor that calls it, when `__ray_shutdown__` and what is registered with atexit has
    run. It is not started again; this call and later ones fail with ActorDiedError. UsageError, a
    TypeError, elsewhere."""
    if not current.is_started() or "actor" not in current.engine.runtime_context():
        raise UsageError("exit_actor API is called on a non-actor worker")
    raise ActorExit("it has ended: exit_actor() was called")
