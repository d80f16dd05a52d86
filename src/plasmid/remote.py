"""`remote`: functions that run in other processes.

    RemoteFunction  ->  _Body: the function, and the engine's handle for it once it was exported
                    ->  TaskOptions, checked when it was made

Functions made by `.options()` share the body, so the function is pickled once for all of them.
"""

from __future__ import annotations

import os
from types import FunctionType

from plasmid.engine import current
from plasmid.exceptions import NotSupportedError, UsageError
from plasmid.generator import ObjectRefGenerator
from plasmid.options import check_options, task_options, with_paths

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from inspect import Signature
    from typing import Any, NoReturn

    from plasmid.engine.base import Engine, FunctionHandle

__all__ = ["RemoteFunction", "remote"]

# Bits of a code object's co_flags, as in the module inspect, which is too slow to import here.
_VARARGS, _GENERATOR, _ASYNC_GENERATOR = 0x04, 0x20, 0x200

_ABOUT = ("__name__", "__qualname__", "__module__", "__doc__")


def remote(*args: Any, **kwargs: Any) -> Any:
    """Make a function remote: `f.remote(...)` runs it in another process.

        @remote                    or    @remote(num_returns=2)    or    remote(f)
        def f(x): ...

    Options, here or in `.options()`: num_returns (default 1), num_cpus (1), num_gpus (0), memory
    (bytes), resources ({name: amount}), scheduling_strategy, label_selector, max_retries after a
    worker's death (3; -1: for ever), retry_exceptions (False; True or a list of classes: retried
    when it raises, too), name, runtime_env (its environment: env_vars, working_dir, py_modules; see
    plasmid.runtime_env), max_calls (its worker ends after so many calls; 0: never; default 1 for
    tasks with GPUs, whose memory libraries keep, else 0). A generator function, async or not, has
    num_returns "streaming": its call returns an `ObjectRefGenerator`, and
    _generator_backpressure_num_objects says how many items it may be ahead of who takes them (-1:
    any number). Or "dynamic": one reference, to a `DynamicObjectRefGenerator` of all items. Ray's
    other options are accepted with values that ask for nothing. What the session can never give
    raises TaskUnschedulableError when the task is submitted.

    Works before `init` and while a module is imported. Raises TypeError for what is no function,
    ValueError for an unknown option, NotSupportedError for what plasmid does not have yet, classes
    among it.

    Processes and threads: a remote function can be called from any thread and any task, and be
    passed to tasks.
    """
    if kwargs and not args:
        _check_any(kwargs)
        return lambda function: _make(function, kwargs)
    if len(args) == 1 and not kwargs:
        return _make(args[0], {})
    raise UsageError(
        "use @remote without parentheses, or with options by name: @remote(num_returns=2)"
    )


def _check_any(given: dict[str, Any]) -> None:
    """Options of what is not known yet: a function or a class."""
    try:
        check_options(given)
    except (TypeError, ValueError, NotSupportedError):
        from plasmid import actor_options

        actor_options.check_options(given)


def _make(function: Any, given: dict[str, Any]) -> Any:
    if isinstance(function, type):
        from plasmid.actor import make_class

        return make_class(function, given)
    if "__ray_metadata__" in dir(type(function)):
        raise UsageError(f"{function!r} is remote already; .options() gives it other options")
    if isinstance(function, RemoteFunction):
        raise TypeError(f"{function!r} is remote already; .options() gives it other options")
    if not _is_function(function):
        kind = TypeError if callable(function) else UsageError
        raise kind(f"@remote is for functions written in Python, not for {function!r}")
    about = {name: getattr(function, name, None) for name in _ABOUT}
    return RemoteFunction(_Body(function, about, os.urandom(16)), given)


def _is_function(thing: object) -> bool:
    return isinstance(thing, FunctionType) or type(thing).__name__ == "cython_function_or_method"


class RemoteFunction:
    """A function whose calls run in other processes; see `remote`.

    Processes and threads: safe from any thread. Pickled with its function and options, it is the
    same function in every process that gets it, and each process exports it to the session at most
    once.
    """

    def __init__(self, body: _Body, given: dict[str, Any]) -> None:
        check_options(given)
        given = with_paths(given)
        self._body = body
        self._given = given
        self._task = task_options(given, body.about["__name__"], is_generator=body.is_generator)
        self.__dict__.update(body.about)

    @property
    def _function(self) -> Callable[..., Any]:
        return self._body.function

    @property
    def __wrapped__(self) -> Callable[..., Any]:
        return self._body.function

    def remote(self, /, *args: Any, **kwargs: Any) -> Any:
        """Run the function in another process, and return a reference to its result.

        With num_returns > 1 it is a list of references, with 0 None; of a generator function, an
        `ObjectRefGenerator`.

        References directly among the arguments arrive as their values, and the task starts when all
        are there; inside a list or other value they stay references. TypeError if the arguments do
        not fit the function or cannot be pickled. A function that carries more than 10 MB of values
        with it is warned about at its first call, one with 100 MB a ValueError. Does not block, but
        for the bound on pending tasks.
        """
        body = self._body
        engine, handle = body.exported
        if engine is not current.engine:
            engine, handle = body.export()
        if kwargs or not body.fewest <= len(args) <= body.most:
            body.check(args, kwargs)
        task = self._task
        refs = engine.submit(handle, args, kwargs, task)
        if task.num_returns == 1:
            return refs[0]
        if task.num_returns == "streaming":
            return ObjectRefGenerator._of(*refs)
        return refs[0] if task.num_returns == "dynamic" else refs or None

    def options(self, /, **given: Any) -> RemoteFunction:
        """The same function with these options changed. ValueError for max_calls, as in Ray: it is
        of the function."""
        if "max_calls" in given:
            raise ValueError(f"{self._body.name}.options(): max_calls is for @remote only")
        return RemoteFunction(self._body, {**self._given, **given})

    def _remote(
        self,
        args: tuple[Any, ...] | list[Any] | None = None,
        kwargs: dict[str, Any] | None = None,
        **options: Any,
    ) -> Any:
        """`options(**options).remote(*args, **kwargs)`, as Ray programs write it."""
        function = self.options(**options) if options else self
        return function.remote(*(args or ()), **(kwargs or {}))

    def bind(self, /, *args: Any, **kwargs: Any) -> NoReturn:
        """NotSupportedError: there are no graphs of calls that are run later."""
        raise NotSupportedError(f"{self._body.name}.bind(): call .remote(), which runs at once")

    def __call__(self, /, *args: Any, **kwargs: Any) -> Any:
        name = self._body.name
        raise TypeError(
            f"a remote function cannot be called directly: use {name}.remote() instead of {name}()"
        )

    def __repr__(self) -> str:
        return f"<remote function {self._body.name}>"

    def __reduce__(self) -> tuple[Callable[..., RemoteFunction], tuple[Any, ...]]:
        body = self._body
        return _restore, (body.function, body.about, body.key, self._given)


class _Body:
    """A function, and what the session of this process knows it as.

    `about` is kept beside the function, and what is derived from the function is derived at its
    first export: a function that refers to itself is unpickled with its RemoteFunction made first,
    when it has no name or defaults yet.
    """

    # How many positional arguments do without a closer look. Read only after export() has set them.
    fewest = 0
    most = 0
    _signature: Signature | None = None

    def __init__(self, function: Callable[..., Any], about: dict[str, Any], key: bytes) -> None:
        self.function = function
        self.about = about
        self.key = key
        # One tuple, so that a thread never sees one engine's handle with another engine.
        self.exported: tuple[Engine | None, FunctionHandle] = (None, None)

    @property
    def name(self) -> str:
        return f"{self.about['__module__']}.{self.about['__qualname__']}"

    @property
    def is_generator(self) -> bool:
        code = getattr(self.function, "__code__", None)
        return code is not None and bool(code.co_flags & (_GENERATOR | _ASYNC_GENERATOR))

    def export(self) -> tuple[Engine, FunctionHandle]:
        """Tell the engine of now. Two threads may both do so; they get the same handle."""
        engine = current.get_engine()
        handle = engine.export(self.function, self.about["__name__"], self.key)
        self._count_arguments()
        self.exported = engine, handle
        return engine, handle

    def _count_arguments(self) -> None:
        function = self.function
        code = getattr(function, "__code__", None)
        defaults = getattr(function, "__defaults__", None) or ()
        keyword_defaults = getattr(function, "__kwdefaults__", None) or {}
        if code is None or code.co_kwonlyargcount > len(keyword_defaults):
            self.fewest, self.most = 1, 0  # Every call gets the closer look.
            return
        self.fewest = code.co_argcount - len(defaults)
        self.most = 2**31 if code.co_flags & _VARARGS else code.co_argcount

    def check(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """Raise TypeError here, rather than in the task, for arguments that do not fit."""
        if self._signature is None:
            import inspect

            # Of the function that will be called, which a decorator may have given other arguments.
            self._signature = inspect.signature(self.function, follow_wrapped=False)
        try:
            self._signature.bind(*args, **kwargs)
        except TypeError as error:
            raise TypeError(f"{self.name}(): {error}") from None


def _restore(
    function: Callable[..., Any], about: dict[str, Any], key: bytes, given: dict[str, Any]
) -> RemoteFunction:
    return RemoteFunction(_Body(function, about, key), given)
