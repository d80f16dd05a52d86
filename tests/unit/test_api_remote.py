"""The remote decorator and remote functions, over an engine that is a fake."""

from __future__ import annotations

import functools
import pickle
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import cloudpickle
import pytest
from fake_engine import FakeEngine, Ref, fake_sessions

import plasmid


@pytest.fixture
def engines(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[FakeEngine]]:
    yield from fake_sessions(monkeypatch)


@plasmid.remote
def double(x: Any, factor: int = 2, *more: int, **named: int) -> Any:
    """Twice as much."""
    return x * factor


@plasmid.remote(num_returns=2, num_cpus=0.5)
def two(x: int) -> tuple[int, int]:
    return x, x + 1


@plasmid.remote
def plain(a: int, b: int = 2, /, c: int = 3) -> tuple[int, int, int]:
    return a, b, c


@plasmid.remote
def factorial(n: int) -> int:
    return 1 if n == 0 else n * plasmid.get(factorial.remote(n - 1))


def test_runs_and_starts_a_session_at_first_use(engines: list[FakeEngine]) -> None:
    assert plasmid.get(double.remote(4)) == 8
    assert plasmid.get(double.remote(plasmid.put("ab"), factor=3)) == "ababab"
    assert len(engines) == 1


def test_keeps_the_functions_names_and_text() -> None:
    assert (double.__name__, double.__module__) == ("double", __name__)
    assert double.__doc__ == "Twice as much."
    assert double._function is double.__wrapped__
    assert double._function(3) == 6
    assert "double" in repr(double)


def test_cannot_be_called_directly() -> None:
    for function in (double, double.options(num_cpus=2)):
        with pytest.raises(TypeError, match=r"double\.remote\(\) instead"):
            function(1)


@pytest.mark.parametrize(
    "apply", [plasmid.remote, plasmid.remote(num_cpus=1), plasmid.remote(name="x")]
)
def test_can_be_applied_as_a_function(engines: list[FakeEngine], apply: Any) -> None:
    assert plasmid.get(apply(lambda x: x + 1).remote(1)) == 2


@pytest.mark.parametrize("what", [3, len, functools.partial(print), [].append, "f", None])
def test_is_for_python_functions_only(what: Any) -> None:
    with pytest.raises(TypeError, match="for functions"):
        plasmid.remote(what)


def test_wrong_uses_of_the_decorator_are_explained() -> None:
    for arguments, options in (((), {}), ((test_is_for_python_functions_only,), {"num_cpus": 1})):
        with pytest.raises(TypeError, match="parentheses"):
            plasmid.remote(*arguments, **options)


def test_a_class_becomes_an_actor_class() -> None:
    @plasmid.remote
    class Actor:
        limit = 3

    assert isinstance(Actor, plasmid.actor.ActorClass)
    assert Actor.limit == 3
    with pytest.raises(TypeError, match="cannot be instantiated directly"):
        Actor()
    with pytest.raises(TypeError, match="remote already"):
        plasmid.remote(Actor)


def test_a_generator_function_streams(engines: list[FakeEngine]) -> None:
    @plasmid.remote
    def numbers() -> Iterator[int]:
        yield from (1, 2)

    generator = numbers.remote()
    assert type(generator) is plasmid.ObjectRefGenerator
    assert (generator.next_ready(), generator.is_finished()) == (True, False)
    assert [plasmid.get(ref) for ref in generator] == [1, 2]
    assert (generator.next_ready(), generator.is_finished()) == (False, True)
    assert plasmid.get(generator.completed()) is None
    assert engines[0].submitted[0].num_returns == "streaming"


def test_bad_options_are_refused_when_given() -> None:
    with pytest.raises(ValueError, match="num_cpu"):
        plasmid.remote(num_cpu=1)
    with pytest.raises(ValueError, match="from 0 to 1000000"):
        double.options(num_returns=-1)


def test_a_generator_with_a_number_of_results_runs(engines: list[FakeEngine]) -> None:
    @plasmid.remote(num_returns=3)
    def numbers() -> Iterator[int]:
        yield from (1, 2, 3)

    assert plasmid.get(numbers.remote()) == [1, 2, 3]


def test_num_returns_decides_what_remote_returns(engines: list[FakeEngine]) -> None:
    assert type(double.remote(1)) is Ref
    assert plasmid.get(two.remote(1)) == [1, 2]
    assert len(two.options(num_returns=2).remote(1)) == 2
    assert double.options(num_returns=0).remote([]) is None


def test_options_are_merged_and_do_not_change_the_original(engines: list[FakeEngine]) -> None:
    other = two.options(num_cpus=2, name="other").options(max_retries=0, num_cpus=3)
    other.remote(1)
    two.remote(1)
    first, second = engines[0].submitted
    assert (first.name, first.num_returns, first.num_cpus, first.max_retries) == (
        "other",
        2,
        3.0,
        0,
    )
    assert (second.name, second.num_returns, second.num_cpus, second.max_retries) == (
        "two",
        2,
        0.5,
        3,
    )


def test_is_exported_once_for_all_calls_and_options(engines: list[FakeEngine]) -> None:
    for _ in range(3):
        double.remote(1)
        double.options(num_cpus=2).remote(1)
    assert len(engines[0].exports) == 1


def test_is_exported_again_to_a_new_session(engines: list[FakeEngine]) -> None:
    double.remote(1)
    plasmid.shutdown()
    double.remote(1)
    assert engines[0].exports == engines[1].exports


@pytest.mark.parametrize(
    ("args", "kwargs", "words"),
    [
        ((), {}, "missing a required argument: 'a'"),
        ((1, 2, 3, 4), {}, "too many positional"),
        ((1,), {"d": 1}, "unexpected keyword argument 'd'"),
        ((1, 2, 3), {"c": 1}, "multiple values"),
    ],
)
def test_arguments_that_do_not_fit_are_refused_at_the_call(
    engines: list[FakeEngine], args: Any, kwargs: Any, words: str
) -> None:
    with pytest.raises(TypeError, match=rf"plain\(\): .*{words}"):
        plain.remote(*args, **kwargs)
    assert not engines[0].submitted


def test_required_keywords_are_checked_too(engines: list[FakeEngine]) -> None:
    @plasmid.remote
    def keyword_only(*, a: int) -> int:
        return a

    assert plasmid.get(keyword_only.remote(a=1)) == 1
    with pytest.raises(TypeError, match="'a'"):
        keyword_only.remote()


def test_a_wrapped_function_is_judged_by_its_wrapper(engines: list[FakeEngine]) -> None:
    def with_context(function: Any) -> Any:
        @functools.wraps(function)
        def wrapper(*args: Any) -> Any:
            return function("context", *args)

        return wrapper

    @plasmid.remote
    @with_context
    def task(context: str, x: int) -> tuple[str, int]:
        return context, x

    assert plasmid.get(task.remote(1)) == ("context", 1)


def test_arguments_that_fit_are_all_accepted(engines: list[FakeEngine]) -> None:
    assert plasmid.get(plain.remote(1)) == (1, 2, 3)
    assert plasmid.get(plain.remote(1, 5, 6)) == (1, 5, 6)
    assert plasmid.get(plain.remote(1, c=6)) == (1, 2, 6)
    assert plasmid.get(double.remote(1, 2, 3, 4, five=5)) == 2


# -- pickling --


@pytest.mark.parametrize("dumps", [cloudpickle.dumps, lambda f: cloudpickle.dumps((f, f))[:]])
def test_pickled_it_is_the_same_function_with_the_same_options(
    engines: list[FakeEngine], dumps: Any
) -> None:
    arrived = pickle.loads(dumps(two))
    if isinstance(arrived, tuple):
        assert arrived[0] is arrived[1]
        arrived = arrived[0]
    assert plasmid.get(arrived.remote(1)) == [1, 2]
    assert arrived.__name__ == "two"
    two.remote(1)
    assert len(set(engines[0].exports)) == 1
    assert engines[0].submitted[0] == engines[0].submitted[1]


def test_a_function_that_calls_itself_remotely_can_be_sent(engines: list[FakeEngine]) -> None:
    """Its globals hold its RemoteFunction, rebuilt when the function has no defaults yet."""
    program = """
import pickle, sys
import cloudpickle, plasmid

@plasmid.remote
def down(n, step=1):
    return n if n <= 0 else down.remote(n - step)

sys.stdout.buffer.write(cloudpickle.dumps((down, down._function)))
"""
    sent = subprocess.run([sys.executable, "-c", program], stdout=subprocess.PIPE, check=True)
    down, function = pickle.loads(sent.stdout)
    assert down._function is function
    inner = plasmid.get(down.remote(1))
    assert plasmid.get(inner) == 0
    with pytest.raises(TypeError, match="too many"):
        down.remote(1, 2, 3)
    assert plasmid.get(factorial.remote(5)) == 120


def test_arguments_may_be_named_self(engines: list[FakeEngine]) -> None:
    @plasmid.remote
    def method(self: int, function: int = 0) -> int:
        return self + function

    assert plasmid.get(method.remote(self=2, function=3)) == 5
    with pytest.raises(ValueError, match="'self' is not an option"):
        method.options(self=1)
    with pytest.raises(TypeError, match="cannot be called directly"):
        method(self=1)
