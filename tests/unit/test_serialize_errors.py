"""What cannot be pickled says where it is; exceptions arrive whatever they carry."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import gc
import pickle
import threading
import time
import types
import weakref
from typing import Any

import pytest
from serialize_store import round_trip

from plasmid import exceptions, serialize


@dataclasses.dataclass
class Holder:
    config: Any


class Slotted:
    __slots__ = ("lock",)


class Refuses:
    def __reduce__(self) -> Any:
        raise ValueError("I will not")


class Custom:
    def __init__(self, lock: Any) -> None:
        self.lock = lock

    def __getstate__(self) -> Any:
        return [self.lock]

    def __setstate__(self, state: Any) -> None:
        (self.lock,) = state


def capturing(lock: Any) -> Any:
    def inner() -> Any:
        return lock

    return inner


def defaulting(lock: Any) -> Any:
    def inner(a: Any = 1, b: Any = lock, *, c: Any = 2) -> None:
        pass

    return inner


def slotted(lock: Any) -> Slotted:
    made = Slotted()
    made.lock = lock
    return made


LOCK = threading.Lock()
PATHS = {
    "": lambda lock: lock,
    '.config["lock"]': lambda lock: Holder({"a": 1, "lock": lock}),
    "[2].config[0]": lambda lock: [1, 2, Holder((lock,))],
    ".lock": slotted,
    "[1].lock": lambda lock: [[], slotted(lock)],
    '.__closure__["lock"]': capturing,
    ".__defaults__[1]": defaulting,
    ".args[1]": lambda lock: ValueError(1, lock),
    ".__self__.config": lambda lock: types.MethodType(capturing(1), Holder(lock)),
    ".__getstate__()[0]": Custom,
    "[999]": lambda lock: [*map(str, range(999)), lock],
    "[<tuple>]": lambda lock: {(1, 2): lock},
}


@pytest.mark.parametrize("path", PATHS)
def test_error_names_the_attribute_path(path: str) -> None:
    with pytest.raises(TypeError) as caught:
        serialize.plan(PATHS[path](LOCK))
    assert str(caught.value) == f"obj{path}: cannot pickle '_thread.lock' object"


def test_path_through_partial_and_keywords() -> None:
    with pytest.raises(TypeError, match=r'^obj\.keywords\["file"\]: cannot pickle'):
        serialize.plan(functools.partial(print, file=LOCK))


def test_path_through_globals_of_a_function() -> None:
    space: dict[str, Any] = {"lock": LOCK, "__name__": "__main__"}
    exec("def f():\n    return lock\n", space)
    for attempt in (serialize.plan, serialize.dumps_function):
        with pytest.raises(TypeError, match=r'^obj\.__globals__\["lock"\]: cannot pickle'):
            attempt(space["f"])


def test_path_into_a_key_and_a_set() -> None:
    class Key:
        def __init__(self) -> None:
            self.lock = LOCK

    with pytest.raises(TypeError, match=r"^obj\.keys\(\)\[<.*Key>\]\.lock: cannot pickle"):
        serialize.plan({Key(): 1})
    with pytest.raises(TypeError, match=r"^obj\{<.*Key>\}\.lock: cannot pickle"):
        serialize.plan({Key()})


def test_error_of_a_users_own_reducer_is_told_and_chained() -> None:
    with pytest.raises(
        TypeError, match=r"obj\[0\]: cannot pickle 'Refuses'.*ValueError: I will not"
    ):
        serialize.plan([Refuses()])


def test_open_file_is_refused_and_not_turned_into_its_text(tmp_path: Any) -> None:
    with (tmp_path / "x").open("w") as file, pytest.raises(TypeError, match=r"^obj\[0\]: .*TextIO"):
        serialize.plan([file])


def test_cycles_do_not_trap_the_search() -> None:
    a, b = Holder(None), Holder(LOCK)
    a.config = [a, b, a]
    b.config = {"back": a, "lock": LOCK}
    with pytest.raises(TypeError, match=r'^obj\.config\[1\]\.config\["lock"\]: '):
        serialize.plan(a)


def test_search_in_a_large_value_is_bounded() -> None:
    value = [{"n": i, "x": [i]} for i in range(50_000)]
    value[40_000]["x"] = LOCK
    before = time.monotonic()
    with pytest.raises(TypeError, match=r'^obj\[40000\]\["x"\]: '):
        serialize.plan(value)
    assert time.monotonic() - before < 60, "a watchdog, not a figure"


def test_too_deep_a_value_is_an_error_not_a_crash() -> None:
    value: list[Any] = []
    for _ in range(100_000):
        value = [value]
    with pytest.raises(TypeError, match="nested too deeply"):
        serialize.plan(value)


def test_a_failed_plan_leaves_no_trace_in_the_next() -> None:
    for _ in range(3):
        with pytest.raises(TypeError):
            serialize.plan([b"x" * 100_000, memoryview(b"abc"), LOCK])
        plan = serialize.plan([1])
        assert len(plan.pieces) == 1
        assert not plan.refs


def test_a_failed_plan_lets_the_value_go_with_its_error() -> None:
    holder = Holder(LOCK)
    gone = weakref.ref(holder)
    gc.disable()
    try:
        with contextlib.suppress(TypeError):
            serialize.plan([holder])
        del holder
        assert gone() is None
    finally:
        gc.enable()


class NeedsTwo(Exception):
    def __init__(self, a: Any, b: Any) -> None:
        super().__init__(f"{a} and {b}")
        self.a = a
        self.b = b


class SaysTwice(Exception):
    def __init__(self, code: Any) -> None:
        super().__init__(f"code {code}")


class Reduces(Exception):
    def __init__(self, path: str) -> None:
        super().__init__(f"no {path}")
        self.path = path

    def __reduce__(self) -> Any:
        return Reduces, (self.path,)


def make_local() -> type[Exception]:
    class LocalError(Exception):
        def __init__(self, number: int) -> None:
            super().__init__("other", "arguments")
            self.number = number

    return LocalError


LocalError = make_local()


class WithSlots(Exception):
    __slots__ = ("detail",)


class BadText(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no text")


class KeywordOnly(OSError):
    def __init__(self, *, host: str) -> None:
        super().__init__(111, f"no {host}")
        self.host = host


def trip(error: BaseException) -> BaseException:
    back: BaseException = round_trip(error)
    return back


@pytest.mark.parametrize(
    "error",
    [
        ValueError("x", 1),
        KeyError("k"),
        NeedsTwo(1, "b"),
        SaysTwice(5),
        Reduces("/x"),
        KeywordOnly(host="h"),
        FileNotFoundError(2, "No such file", "/x"),
        ImportError("m", name="n", path="p"),
        UnicodeDecodeError("utf-8", b"\xff", 0, 1, "bad"),
        SyntaxError("bad", ("f.py", 1, 2, "text", 1, 3)),
        StopIteration(7),
        SystemExit(3),
        KeyboardInterrupt(),
        exceptions.ObjectLostError("ab" * 28),
        exceptions.ObjectStoreFullError("put: no room"),
        pickle.PicklingError("x"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_exception_arrives_as_it_was(error: BaseException) -> None:
    back = trip(error)
    assert type(back) is type(error)
    assert back.args == error.args
    assert str(back) == str(error)
    assert vars(back) == vars(error)
    for name in ("filename", "errno", "name", "path", "reason", "text", "lineno", "value", "code"):
        assert getattr(back, name, None) == getattr(error, name, None)


def test_exceptions_inside_a_value_come_back_as_they_were() -> None:
    """Plain pickle of the first fails on arrival, of the second says 'code code 5'."""
    for error in (NeedsTwo(1, "b"), SaysTwice(5), LocalError(2)):
        back = round_trip({"error": [error]})["error"][0]
        assert type(back) is type(error)
        assert back.args == error.args
        assert vars(back) == vars(error)
    holding = ValueError("x")
    holding.lock = LOCK
    with pytest.raises(TypeError, match=r"^obj\[0\]\.lock: cannot pickle"):
        serialize.plan([holding])


def test_class_of_a_function_arrives_by_value() -> None:
    class Local(Exception):
        pass

    assert type(trip(Local("x"))) is Local


def test_exception_without_text_and_a_very_long_chain_arrive() -> None:
    assert type(trip(BadText("x"))) is BadText
    error = ValueError(0)
    for i in range(5000):
        following = ValueError(i)
        following.__context__ = error
        error = following
    assert str(trip(error)) == "4999"
