"""The methods of an actor's class, as those see them who only have a handle."""

from __future__ import annotations

from plasmid.engine.base import CallOptions
from plasmid.exceptions import UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from inspect import Signature
    from typing import Any, ClassVar

__all__ = ["Method", "Methods", "as_call"]

_MARKS = (
    "num_returns",
    "concurrency_group",
    "max_task_retries",
    "retry_exceptions",
    "enable_task_events",
    "generator_backpressure_num_objects",
)

_ANY_NUMBER = 2**31


class Method:
    """One method: its options as @method gave them, and the arguments that it takes.

    fewest, most  positional arguments that need no closer look
    """

    __slots__ = ("_signature", "fewest", "is_generator", "marks", "most", "name", "parameters")

    def __init__(
        self,
        name: str,
        marks: dict[str, Any],
        parameters: list[tuple[str, int, bool]] | None,
        is_generator: bool,
    ) -> None:
        self.name = name
        self.marks = marks
        self.parameters = parameters  # (name, kind, has a default), None if not known
        self.is_generator = is_generator
        self.fewest, self.most = _bounds(parameters)
        self._signature: Signature | None = None

    def packed(self) -> tuple[Any, ...]:
        return self.name, self.marks, self.parameters, self.is_generator

    def check(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """TypeError here, rather than in the actor, for arguments that do not fit."""
        if self.parameters is None:
            return
        if self._signature is None:
            self._signature = _signature_of(self.parameters)
        try:
            self._signature.bind(*args, **kwargs)
        except TypeError as error:
            raise TypeError(f"{self.name}(): {error}") from None


class Methods:
    """All of a class. One object in a process for the same content: what is derived for one handle
    serves the others.

    packed  the content, as bytes: what handles are pickled with
    """

    _known: ClassVar[dict[bytes, Methods]] = {}
    _MOST_KNOWN: ClassVar[int] = 1000

    def __init__(self, packed: bytes, content: dict[str, Any]) -> None:
        self.packed = packed
        self.class_name: str = content["class_name"]
        self.module: str = content["module"]
        self.is_async: bool = content["is_async"]
        self.max_task_retries: int = content["max_task_retries"]
        self.groups: dict[str, int] = content["groups"]
        self.by_name = {each[0]: Method(*each) for each in content["methods"]}
        self.constructor = Method("__init__", {}, content["constructor"], False)
        self._content = content
        self._calls: dict[str, tuple[Method, CallOptions]] = {}

    @classmethod
    def of(cls, kind: type) -> Methods:
        """Of a class, with no options of its actors."""
        import inspect

        found = {name: _function_of(kind, name) for name in dir(kind)}
        functions = {name: each for name, each in found.items() if each is not None}
        is_async = any(
            inspect.iscoroutinefunction(each) or inspect.isasyncgenfunction(each)
            for each, _ in functions.values()
        )
        constructor = functions.get("__init__")
        return cls._made(
            {
                "class_name": kind.__name__,
                "module": kind.__module__,
                "is_async": is_async,
                "max_task_retries": 0,
                "groups": {},
                "constructor": _parameters(*constructor) if constructor else _plain_new(kind),
                "methods": [_described(name, *each).packed() for name, each in functions.items()],
            }
        )

    def with_options(self, max_task_retries: int, groups: dict[str, int]) -> Methods:
        """The same of actors with these options."""
        if max_task_retries == self.max_task_retries and groups == self.groups:
            return self
        return Methods._made(
            {**self._content, "max_task_retries": max_task_retries, "groups": groups}
        )

    @classmethod
    def _made(cls, content: dict[str, Any]) -> Methods:
        import cloudpickle  # exceptions to retry upon may be of the program itself

        packed: bytes = cloudpickle.dumps(content)
        return cls(packed, content)

    @classmethod
    def unpacked(cls, packed: bytes) -> Methods:
        found = cls._known.get(packed)
        if found is None:
            import pickle

            found = cls(packed, pickle.loads(packed))
            if len(cls._known) >= cls._MOST_KNOWN:
                cls._known.clear()
            cls._known[packed] = found
        return found

    def find(self, name: str) -> tuple[Method, CallOptions] | None:
        """A method, and how it is called without further options."""
        found = self._calls.get(name)
        if found is None:
            method = self.by_name.get(name) or _SPECIAL.get(name)
            if method is None:
                return None
            found = self._calls[name] = (method, as_call(self, method, {}))
        return found

    def names(self) -> list[str]:
        return sorted({*self.by_name, *_SPECIAL})


def as_call(methods: Methods, method: Method, given: dict[str, Any]) -> CallOptions:
    """What the checked options `given`, and those of the method, say.

    ValueError if they ask for the items of what is no generator; UsageError for a group that was
    not declared.
    """

    def value(name: str, default: Any) -> Any:
        found = given.get(name, method.marks.get(name.lstrip("_")))
        return default if found is None else found

    name = value("name", f"{methods.class_name}.{method.name}")
    returns = value("num_returns", "streaming" if method.is_generator else 1)
    if isinstance(returns, str) and not method.is_generator:
        raise ValueError(
            f"num_returns={returns!r} is for generator methods: {name}() does not yield"
        )
    if returns == "dynamic":
        returns = "streaming"
    group = value("concurrency_group", None)
    if group is not None and group not in methods.groups:
        raise UsageError(
            f"{name}(): the concurrency group {group!r} was not declared by @remote("
            f"concurrency_groups=...), which has {', '.join(methods.groups) or 'none'}"
        )
    retry = value("retry_exceptions", False)
    retry = retry if isinstance(retry, bool) else tuple(retry)
    return CallOptions(
        name.encode(errors="replace"),
        (method.name, retry, group) if retry or group else method.name,
        is_plain=isinstance(retry, bool),
        num_returns=returns,
        backpressure=max(0, value("_generator_backpressure_num_objects", 0)),
        max_retries=value("max_task_retries", methods.max_task_retries),
        events=value("enable_task_events", True),
    )


def _function_of(kind: type, name: str) -> tuple[Any, bool] | None:
    """The function of a method, and whether it takes an instance or class first; None if the
    attribute is none, or every object has it."""
    import inspect

    found = inspect.getattr_static(kind, name)
    if found is inspect.getattr_static(object, name, None) or isinstance(found, type):
        return None
    if isinstance(found, staticmethod):
        return found.__func__, False
    if isinstance(found, classmethod):
        return found.__func__, True
    if isinstance(found, property) or not callable(found):
        return None
    return found, inspect.isroutine(found)


def _described(name: str, function: Any, is_bound: bool) -> Method:
    import inspect

    marks = {
        mark: getattr(function, f"__ray_{mark}__")
        for mark in _MARKS
        if hasattr(function, f"__ray_{mark}__")
    }
    yields = inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function)
    return Method(name, marks, _parameters(function, is_bound), yields)


def _parameters(function: Any, is_bound: bool) -> list[tuple[str, int, bool]] | None:
    import inspect

    try:
        # Of the function that will be called, which a decorator may have given other arguments.
        signature = inspect.signature(function, follow_wrapped=False)
    except (TypeError, ValueError):
        return None
    found = [
        (each.name, int(each.kind), each.default is not each.empty)
        for each in signature.parameters.values()
    ]
    first_is_instance = is_bound and found and found[0][1] <= 1
    return found[1:] if first_is_instance else found


def _plain_new(kind: type) -> list[tuple[str, int, bool]] | None:
    """Of a class without __init__: with a __new__ of its own anything may fit."""
    new: Any = kind.__new__
    return [] if new is object.__new__ else None


def _bounds(parameters: list[tuple[str, int, bool]] | None) -> tuple[int, int]:
    """How many positional arguments always fit."""
    if parameters is None:
        return 0, _ANY_NUMBER
    fewest = most = 0
    for _, kind, has_default in parameters:
        if kind <= 1:
            most += 1
            fewest += not has_default
        elif kind == 2:
            most = _ANY_NUMBER
        elif kind == 3 and not has_default:
            return 1, 0  # every call gets the closer look
    return fewest, most


def _signature_of(parameters: list[tuple[str, int, bool]]) -> Signature:
    import inspect

    kinds: list[Any] = list(inspect._ParameterKind)
    return inspect.Signature(
        [
            inspect.Parameter(
                name, kinds[kind], default=None if has_default else inspect.Parameter.empty
            )
            for name, kind, has_default in parameters
        ]
    )


_SPECIAL: dict[str, Method] = {
    "__ray_ready__": Method("__ray_ready__", {}, [], False),
    "__ray_terminate__": Method("__ray_terminate__", {}, [], False),
    "__ray_call__": Method("__ray_call__", {}, None, False),
}
"""Methods that every actor has."""
