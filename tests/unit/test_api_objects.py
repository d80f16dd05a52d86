"""put, get and wait over an engine that is a fake: argument checks, and what reaches the engine."""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from typing import Any

import pytest
from fake_engine import FakeEngine, Ref, fake_sessions

import plasmid
from plasmid.exceptions import GetTimeoutError, NotSupportedError, RayTaskError, SessionError


@pytest.fixture
def engine(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeEngine]:
    for engines in fake_sessions(monkeypatch):
        plasmid.init()
        yield engines[0]


@pytest.fixture
def engines(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[FakeEngine]]:
    yield from fake_sessions(monkeypatch)


# -- put --


def test_put_refuses_a_ref(engine: FakeEngine) -> None:
    ref = plasmid.put(1)
    with pytest.raises(TypeError, match="list"):
        plasmid.put(ref)
    assert plasmid.get(plasmid.put([ref])) == [ref]


def test_put_starts_a_session_once(engines: list[FakeEngine]) -> None:
    assert not plasmid.is_initialized()
    assert plasmid.get(plasmid.put(value=3)) == 3
    plasmid.put(4)
    assert plasmid.is_initialized()
    assert len(engines) == 1


def test_put_refuses_a_ref_of_an_earlier_session_too(engines: list[FakeEngine]) -> None:
    ref = plasmid.put(1)
    plasmid.shutdown()
    with pytest.raises(TypeError, match="earlier session"):
        plasmid.put(ref)


def test_put_refuses_options_that_it_does_not_have(engine: FakeEngine) -> None:
    plasmid.put(1, _owner=None, _tensor_transport="object_store")
    with pytest.raises(NotSupportedError, match="_owner"):
        plasmid.put(1, _owner=3)
    with pytest.raises(NotSupportedError, match="_tensor_transport"):
        plasmid.put(1, _tensor_transport="nccl")


# -- get --


def test_get_of_one_a_list_and_a_dict(engine: FakeEngine) -> None:
    a, b = plasmid.put(1), plasmid.put(2)
    assert plasmid.get(a) == 1
    assert plasmid.get([a, b, a]) == [1, 2, 1]
    assert plasmid.get({"x": b, 3: a}) == {"x": 2, 3: 1}
    assert plasmid.get([]) == []
    assert plasmid.get({}) == {}


def test_get_of_a_ref_of_an_earlier_session_reaches_the_new_engine(
    engines: list[FakeEngine],
) -> None:
    ref = plasmid.put(1)
    plasmid.shutdown()
    with pytest.raises(SessionError, match="another session"):
        plasmid.get(ref)


@pytest.mark.parametrize("what", [3, None, "x", (1,), {1}, iter([])])
def test_get_of_anything_else_is_a_value_error(engine: FakeEngine, what: Any) -> None:
    with pytest.raises(ValueError, match="neither an ObjectRef"):
        plasmid.get(what)


@pytest.mark.parametrize(
    "wrap", [lambda ref: [ref, 3], lambda ref: {"a": ref, "b": 3}, lambda ref: [3]]
)
def test_get_of_a_container_with_another_value_is_a_type_error(
    engine: FakeEngine, wrap: Any
) -> None:
    with pytest.raises(TypeError, match=r"3 \(int\) is not an ObjectRef"):
        plasmid.get(wrap(plasmid.put(1)))


@pytest.mark.parametrize(
    ("timeout", "seconds"),
    [
        (None, None),
        (-1, None),
        (0, 0.0),
        (2, 2.0),
        (10**400, None),
        (Fraction(1, 2), 0.5),
        (float("inf"), None),
    ],
)
def test_get_hands_the_timeout_down_in_seconds(
    engine: FakeEngine, timeout: Any, seconds: float | None
) -> None:
    plasmid.get(plasmid.put(1), timeout=timeout)
    plasmid.get([plasmid.put(1)], timeout=timeout)
    assert engine.timeouts == [seconds, seconds]


@pytest.mark.parametrize(
    ("timeout", "kind"),
    [
        (-0.5, ValueError),
        (-2, ValueError),
        (-(10**400), ValueError),
        (float("nan"), ValueError),
        ("1", TypeError),
        ([], TypeError),
    ],
)
def test_get_refuses_a_timeout_that_is_none(
    engine: FakeEngine, timeout: Any, kind: type[Exception]
) -> None:
    with pytest.raises(kind, match="get: timeout"):
        plasmid.get(plasmid.put(1), timeout=timeout)


class Mute:
    def __repr__(self) -> str:
        raise RuntimeError("mute")


def test_what_cannot_be_shown_is_refused_like_anything_else(engine: FakeEngine) -> None:
    with pytest.raises(ValueError, match="Mute"):
        plasmid.get(Mute())
    with pytest.raises(TypeError, match="Mute"):
        plasmid.get([Mute()])


def test_get_takes_the_timeout_by_name_only(engine: FakeEngine) -> None:
    with pytest.raises(TypeError):
        plasmid.get(plasmid.put(1), 1)  # type: ignore[misc]


def test_get_times_out(engine: FakeEngine) -> None:
    with pytest.raises(GetTimeoutError):
        plasmid.get(engine.pending(), timeout=0)


def test_get_raises_what_the_task_raised(engine: FakeEngine) -> None:
    @plasmid.remote
    def fails() -> None:
        raise KeyError("k")

    with pytest.raises(KeyError) as caught:
        plasmid.get([plasmid.put(1), fails.remote()])
    assert isinstance(caught.value, RayTaskError)
    assert caught.value.function_name == "fails"


# -- get of an argument that has arrived as its value --


@pytest.mark.parametrize("value", [[1, 2], {"a": 1}, 7, "text", [], {}, None])
def test_get_of_a_resolved_argument_is_that_argument(engine: FakeEngine, value: Any) -> None:
    @plasmid.remote
    def task(argument: Any) -> bool:
        found = plasmid.get(argument)
        return found is argument or not found

    assert plasmid.get(task.remote(plasmid.put(value)))


def test_get_of_a_resolved_list_of_refs_gets_the_refs_as_ray_does(engine: FakeEngine) -> None:
    @plasmid.remote
    def task(refs: list[Ref]) -> Any:
        return plasmid.get(refs)

    assert plasmid.get(task.remote(plasmid.put([plasmid.put(1), plasmid.put(2)]))) == [1, 2]


def test_get_of_an_equal_value_that_is_no_argument_is_an_error(engine: FakeEngine) -> None:
    @plasmid.remote
    def task(argument: list[int]) -> Any:
        return plasmid.get(list(argument))

    with pytest.raises(TypeError, match="not an ObjectRef"):
        plasmid.get(task.remote(plasmid.put([1, 2])))


# -- wait --


def test_wait_divides_the_list_and_keeps_its_order(engine: FakeEngine) -> None:
    a, b, c = plasmid.put(1), engine.pending(), plasmid.put(3)
    assert plasmid.wait([c, b, a], num_returns=2) == ([c, a], [b])
    assert plasmid.wait([c, b, a]) == ([c], [b, a])
    assert plasmid.wait([]) == ([], [])


@pytest.mark.parametrize("options", [{"num_returns": 1}, {"timeout": None}, {"fetch_local": False}])
def test_wait_takes_its_options_by_name(engine: FakeEngine, options: dict[str, Any]) -> None:
    ref = plasmid.put(1)
    assert plasmid.wait([ref], **options) == ([ref], [])


@pytest.mark.parametrize(
    ("change", "kind", "words"),
    [
        (lambda ref: {"ray_waitables": ref}, TypeError, "list of ObjectRefs, got Ref"),
        (lambda ref: {"ray_waitables": (ref,)}, TypeError, "list of ObjectRefs, got tuple"),
        (lambda ref: {"num_returns": 0}, ValueError, "num_returns"),
        (lambda ref: {"num_returns": 2}, ValueError, "num_returns"),
        (lambda ref: {"num_returns": "1"}, TypeError, "num_returns"),
        (lambda ref: {"num_returns": 1.0}, TypeError, "num_returns"),
        (lambda ref: {"num_returns": True}, TypeError, "num_returns"),
        (lambda ref: {"timeout": -1}, ValueError, "timeout"),
        (lambda ref: {"timeout": float("nan")}, ValueError, "timeout"),
        (lambda ref: {"timeout": "1"}, TypeError, "timeout"),
    ],
)
def test_wait_refuses(engine: FakeEngine, change: Any, kind: type[Exception], words: str) -> None:
    ref = plasmid.put(1)
    with pytest.raises(kind, match=words):
        plasmid.wait(**{"ray_waitables": [ref], **change(ref)})
