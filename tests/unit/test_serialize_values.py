"""Plain values, classes, functions, references: what comes back is what went in."""

from __future__ import annotations

import array
import collections
import dataclasses
import datetime
import decimal
import enum
import gc
import json
import pickle
import subprocess
import sys
import threading
import types
import weakref
from typing import Any, NamedTuple

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from serialize_store import lies_in, round_trip, stored

from plasmid import serialize
from plasmid.exceptions import ObjectCorruptedError, RayTaskError
from plasmid.serialize import custom
from plasmid.serialize.layout import Stream


class Colour(enum.Enum):
    RED = 1


class Point(NamedTuple):
    x: int
    y: int


@dataclasses.dataclass
class Record:
    name: str
    data: Any = None


class Slotted:
    __slots__ = ("a", "b")

    def __init__(self, a: Any) -> None:
        self.a = a

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Slotted) and other.a == self.a

    __hash__ = None  # type: ignore[assignment]


class Ref:
    """Stands for an object reference."""

    def __init__(self, name: str) -> None:
        self.name = name

    def __reduce__(self) -> Any:
        raise TypeError("a reference is never pickled by its own reducer here")


serialize.register_ref_type(Ref)

scalars = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False)
    | st.complex_numbers(allow_nan=False)
    | st.text()
    | st.binary()
    | st.dates()
    | st.decimals(allow_nan=False)
)
values = st.recursive(
    scalars,
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner) | st.tuples(inner, inner),
    max_leaves=20,
)


@given(values)
def test_plain_values_come_back_equal(value: Any) -> None:
    back = round_trip(value)
    assert back == value
    assert type(back) is type(value)


@pytest.mark.parametrize(
    "value",
    [
        b"",
        b"x" * 100_000,
        "\ud800 lone surrogate",
        "é" * 200_000,
        bytearray(b"abc"),
        {"in": b"y" * 200_000, "and": bytearray(200_000), "then": list(range(50_000))},
        {1, 2},
        frozenset("ab"),
        collections.deque([1, 2], maxlen=3),
        collections.OrderedDict(b=1, a=2),
        collections.Counter("aab"),
        range(3, 9, 2),
        slice(1, None),
        array.array("d", [1.0, 2.0]),
        Point(1, 2),
        Record("n", [1]),
        Slotted(3),
        Colour.RED,
        decimal.Decimal("1.10"),
        datetime.datetime(2024, 1, 2, tzinfo=datetime.UTC),
        int,
        json.dumps,
        "__main__",
    ],
    ids=lambda value: type(value).__name__,
)
def test_value_keeps_its_type(value: Any) -> None:
    back = round_trip(value)
    assert back == value
    assert type(back) is type(value)


def test_bytes_come_back_as_bytes_and_bytearrays_are_writable() -> None:
    assert type(round_trip(b"x" * 5000)) is bytes
    back = round_trip(bytearray(5000))
    back[0] = 1


def test_subclass_of_bytes_keeps_its_class() -> None:
    class Blob(bytes):
        pass

    assert type(round_trip(Blob(b"x"))) is Blob


@pytest.mark.parametrize(
    "view",
    [
        memoryview(b"abcdef"),
        memoryview(b"abcdef")[::2],
        memoryview(array.array("d", [1.0, 2.0])),
        memoryview(np.arange(6.0).reshape(2, 3)),
        memoryview(b""),
    ],
    ids=["bytes", "strided", "doubles", "matrix", "empty"],
)
def test_memoryview_is_a_view_of_the_store_with_format_and_shape(view: memoryview) -> None:
    buffer, refs = stored(view)
    back = serialize.load(buffer, refs)
    assert back == view
    assert (back.format, back.shape, back.readonly) == (view.format, view.shape, True)
    assert not view.nbytes or lies_in(back.cast("B"), buffer)


@pytest.mark.parametrize("code", "bBhHiIlLqQfdu")
def test_arrays_of_the_standard_library_come_back_with_their_code(code: str) -> None:
    items = "héllo" if code == "u" else [0, 1, 2, 127]
    for value in (array.array(code, items), array.array(code)):
        back = round_trip({"a": value})["a"]
        assert type(back) is array.array
        assert back.typecode == code
        assert back == value
        back.extend(value)  # it owns its memory


def test_large_arrays_of_the_standard_library_are_written_from_where_they_are() -> None:
    value = array.array("d", bytes(800_000))
    plan = serialize.plan([value])
    stream = plan.pieces[-1][1]
    assert type(stream) is Stream
    assert stream.whole.obj is value
    assert any("array.array" in note for note in serialize.describe(*stored([value])).reasons)


@given(st.binary(max_size=100))
def test_a_bytearray_alone_comes_back_as_one(data: bytes) -> None:
    value = bytearray(data)
    buffer, refs = stored(value)
    back = serialize.load(buffer, refs)
    assert type(back) is bytearray
    assert back == value
    back.append(1)
    start, length = serialize.body(buffer)
    assert buffer[start : start + length] == data
    explained = serialize.describe(buffer, refs)
    assert explained.kind == "bytearray"
    assert any("copies" in note for note in explained.reasons)


def test_large_bytes_inside_a_value_are_written_from_where_they_are() -> None:
    data = b"z" * 300_000
    plan = serialize.plan({"k": data})
    assert any(piece.obj is data for _, piece in plan.pieces[1:])


def test_bytearray_cannot_be_resized_between_plan_and_write() -> None:
    data = bytearray(300_000)
    plan = serialize.plan([data])
    with pytest.raises(BufferError):
        data.append(1)
    assert plan.nbytes > 300_000


def test_identity_and_cycles_inside_one_object_are_kept() -> None:
    shared, cycle = [1], {}
    cycle["self"] = cycle
    first, second, loop = round_trip([shared, shared, cycle])
    assert first is second
    assert loop["self"] is loop


def test_the_value_is_let_go_when_it_has_been_planned() -> None:
    record = Record("n", bytearray(1000))
    gone = weakref.ref(record)
    gc.disable()
    try:
        for wrapped in (record, [record, np.zeros(1000)], [record, lambda: 1]):
            serialize.plan(wrapped)
        del record, wrapped
        assert gone() is None
    finally:
        gc.enable()


def test_garbage_with_a_memoryview_in_it_can_be_collected() -> None:
    """CPython crashes if a memoryview and a PickleBuffer over it are garbage of one cycle."""
    view = memoryview(b"abc" * 100)
    gc.collect()
    cycle: list[Any] = [serialize.plan([view]), view]
    cycle.append(cycle)
    del view, cycle
    gc.collect()


def test_references_are_collected_in_order_and_given_back_by_position() -> None:
    a, b = Ref("a"), Ref("b")
    value = {"one": a, "deep": [(b, a)], "array": np.arange(1000), "main": lambda: b}
    buffer, refs = stored(value)
    assert refs == [a, b]
    back = serialize.load(buffer, refs)
    assert back["one"] is a
    assert back["deep"][0] == (b, a)
    assert back["main"]() is b


def test_a_reference_alone_and_many_of_them() -> None:
    assert stored(Ref("x"))[1][0].name == "x"
    many = [Ref(str(i)) for i in range(5000)]
    assert round_trip(many) == many


def test_load_refuses_another_number_of_references() -> None:
    buffer, refs = stored([Ref("a"), Ref("b")])
    with pytest.raises(ObjectCorruptedError, match="2 references"):
        serialize.load(buffer, refs[:1])


class LoadsInside:
    """Loads another object with other references while it is being loaded."""

    def __setstate__(self, state: dict[str, Any]) -> None:
        inner = Ref("inner")
        assert round_trip([inner]) == [inner]
        self.__dict__.update(state)


def test_a_load_inside_a_load_does_not_mix_up_references() -> None:
    made = LoadsInside()
    made.x = 1  # type: ignore[attr-defined]
    a, b = Ref("a"), Ref("b")
    assert round_trip([a, made, b])[2] is b


def test_threads_do_not_mix_up_what_they_collect() -> None:
    failures: list[Any] = []

    def work(number: int) -> None:
        for i in range(300):
            refs = [Ref(f"{number}.{i}.{k}") for k in range(3)]
            value = {"refs": refs, "n": [number] * i}
            if round_trip(value) != value:
                failures.append(value)

    threads = [threading.Thread(target=work, args=(n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures


def test_lambda_closure_and_local_class_go_by_value() -> None:
    y = 5

    class Local:
        z = 2

        def get(self) -> int:
            return self.z + y

    assert round_trip(lambda x: x + y)(1) == 6
    assert round_trip([Local()])[0].get() == 7
    assert type(round_trip(Local())) is Local, "in its own process a class stays the same"


def test_copyreg_registrations_are_honoured_also_later_ones() -> None:
    import copyreg

    class Odd:
        pass

    round_trip([1])
    copyreg.pickle(Odd, lambda value: (complex, (1, 2)))
    try:
        assert round_trip([Odd()]) == [complex(1, 2)]
    finally:
        del copyreg.dispatch_table[Odd]


def test_registered_reducer_is_used() -> None:
    custom.register(threading.Event, lambda value: "an event", str)
    try:
        assert round_trip({"e": threading.Event()}) == {"e": "an event"}
    finally:
        custom.deregister(threading.Event)
    with pytest.raises(TypeError, match="lock"):
        round_trip({"e": threading.Event()})


def test_code_keeps_the_name_of_its_file() -> None:
    """cloudpickle 3.1.2 took it away: tracebacks of tasks showed no lines."""
    local = lambda: 1  # noqa: E731
    loaded = serialize.loads_function(serialize.dumps_function(local))
    assert loaded.__code__.co_filename == __file__
    assert round_trip([local])[0].__code__.co_filename == __file__


def test_module_registered_with_cloudpickle_goes_by_value() -> None:
    import cloudpickle

    module = types.ModuleType("plasmid_test_module")
    exec("class C:\n    pass\n", module.__dict__)
    sys.modules[module.__name__] = module
    cloudpickle.register_pickle_by_value(module)
    try:
        buffer, _ = stored([module.C()])
        assert b"_make_skeleton_class" in bytes(buffer)
    finally:
        cloudpickle.unregister_pickle_by_value(module)
        del sys.modules[module.__name__]
    assert type(serialize.load(buffer)[0]).__name__ == "C"


def run(program: str, *args: str) -> str:
    command = [sys.executable, "-c", program, *args]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_classes_and_functions_of_main_arrive_in_another_main(tmp_path: Any) -> None:
    """C pickle stores them by name without complaint; only the other process would fail."""
    program = """
import sys, dataclasses
from plasmid import serialize
@dataclasses.dataclass
class Thing:
    x: int
    def double(self): return self.x * 2
def call(thing): return thing.double()
plan = serialize.plan({"thing": Thing(4), "call": call, "cls": Thing})
data = bytearray(plan.nbytes)
class Writer:
    def write(self, offset, piece): data[offset:offset + len(piece)] = piece
plan.write(Writer())
open(sys.argv[1], "wb").write(data)
"""
    run(program, str(tmp_path / "stored"))
    back = serialize.load((tmp_path / "stored").read_bytes())
    assert back["call"](back["thing"]) == 8
    assert type(back["thing"]) is back["cls"]


def test_import_loads_no_heavy_library_and_plain_values_need_none() -> None:
    program = """
import sys
from plasmid import serialize
plan = serialize.plan({"a": [1, "x", b"y"]})
data = bytearray(plan.nbytes)
for offset, piece in plan.pieces: data[offset:offset + len(piece)] = piece
assert serialize.load(bytes(data)) == {"a": [1, "x", b"y"]}
print([name for name in ("numpy", "pyarrow", "pandas", "cloudpickle") if name in sys.modules])
"""
    assert run(program).strip() == "[]"


def test_array_is_loaded_by_a_process_that_has_not_imported_numpy(tmp_path: Any) -> None:
    buffer, _ = stored(np.arange(5))
    (tmp_path / "stored").write_bytes(buffer)
    program = """
import sys
from plasmid import serialize
assert "numpy" not in sys.modules
print(serialize.load(open(sys.argv[1], "rb").read()).tolist())
"""
    assert run(program, str(tmp_path / "stored")).strip() == "[0, 1, 2, 3, 4]"


def make_adder(y: int) -> Any:
    return lambda x: x + y


def test_functions_make_the_trip_and_the_same_one_gives_the_same_bytes() -> None:
    add = make_adder(5)
    data = serialize.dumps_function(add)
    assert serialize.loads_function(data)(1) == 6
    add(3)
    assert serialize.dumps_function(add) == data
    assert serialize.dumps_function(make_adder(5)) == data
    assert serialize.dumps_function(make_adder(6)) != data
    assert serialize.loads_function(serialize.dumps_function(json.dumps)) is json.dumps


def test_function_gives_the_same_bytes_in_another_process() -> None:
    program = """
import hashlib
from plasmid import serialize
limit, names = 3, {"b": 1, "a": 2}
def work(x, *, scale=2.0):
    def inner(z): return z in names
    return [inner(x) for x in range(limit)], scale
print(hashlib.sha256(serialize.dumps_function(work)).hexdigest())
"""
    assert run(program) == run(program)


def test_unimportable_class_is_an_import_error_of_its_own_name() -> None:
    module = types.ModuleType("plasmid_gone")
    exec("class C:\n    pass\n", module.__dict__)
    sys.modules[module.__name__] = module
    buffer, _ = stored([module.C()])
    del sys.modules[module.__name__]
    with pytest.raises(ModuleNotFoundError, match="plasmid_gone"):
        serialize.load(buffer)


@given(st.binary(max_size=200))
def test_any_bytes_are_refused(data: bytes) -> None:
    with pytest.raises(ObjectCorruptedError):
        serialize.load(data)


def test_other_version_is_refused_by_its_number() -> None:
    data = bytearray(stored([1])[0])
    data[4] = 9
    with pytest.raises(ObjectCorruptedError, match="version 9"):
        serialize.load(bytes(data))


samples = [
    b"x" * 300,
    bytearray(300),
    [1, "two", {"three": 3.0}],
    {"array": np.arange(1000.0), "more": np.ones((20, 30))},
    np.arange(100.0),
    np.ones((2, 2, 2, 2)),
]


@pytest.mark.parametrize(
    "value", samples, ids=["raw", "mutable", "pickle", "buffers", "tensor", "extended"]
)
def test_truncated_bytes_are_refused(value: Any) -> None:
    data = bytes(stored(value)[0])
    for length in range(0, len(data), 7):
        with pytest.raises(ObjectCorruptedError):
            serialize.load(data[:length])


@pytest.mark.parametrize(
    "value", samples, ids=["raw", "mutable", "pickle", "buffers", "tensor", "extended"]
)
@given(st.data())
def test_damaged_header_never_reaches_outside(value: Any, data: st.DataObject) -> None:
    stored_bytes = bytes(stored(value)[0])
    place = data.draw(st.integers(0, 95))
    word = data.draw(st.binary(min_size=1, max_size=8))
    damaged = stored_bytes[:place] + word + stored_bytes[place + len(word) :]
    frame = damaged + b"\xee" * 100
    try:
        back = serialize.load(memoryview(frame)[: len(damaged)])
    except (ObjectCorruptedError, pickle.PickleError, ValueError, TypeError, KeyError):
        return
    except (ImportError, AttributeError, IndexError, MemoryError, OverflowError):
        return
    if isinstance(back, np.ndarray):
        assert lies_in(back, memoryview(damaged)) or lies_in(back, memoryview(frame))


def test_damaged_dtype_cannot_make_pointers_of_bytes() -> None:
    data = bytearray(stored(np.arange(10))[0])
    for code in (b"|O\0", b"|T16", b"O8\0"):
        data[24 : 24 + len(code)] = code
        with pytest.raises(ObjectCorruptedError):
            serialize.load(bytes(data))


class Reduced(Exception):
    """Says itself how it is pickled."""

    def __reduce__(self) -> Any:
        return Reduced, self.args


@pytest.mark.parametrize("kind", [ValueError, Reduced])
def test_references_in_what_a_task_raised_are_found(kind: type[Exception]) -> None:
    """The error did not say that it holds them, and their objects were gone when it arrived."""
    refs = [Ref(name) for name in "abcd"]
    cause = kind("text", refs[0], [refs[1], refs[0]])
    cause.__cause__ = KeyError(refs[2], threading.Lock())  # which travels in parts
    inner = RayTaskError("g", "Traceback ...", ValueError(refs[3]))
    cause.__cause__.__context__ = ExceptionGroup("several", [inner])
    error = RayTaskError("f", "Traceback ...", cause)
    for value in (error, error.as_instanceof_cause()):
        _, found = stored([value])
        assert set(found) == set(refs)
        back = round_trip([value])[0].cause
        assert back.args == cause.args
        assert back.__cause__.args[0] is refs[2]
        assert back.__cause__.__context__.exceptions[0].cause.args == (refs[3],)
