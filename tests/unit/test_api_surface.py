"""The smaller modules that programs import: actor names, annotations, log_once, job_config,
inspect_serializability, helpers for tests; and get_runtime_context without a session."""

from __future__ import annotations

import asyncio
import io
import subprocess
import sys
import threading
import warnings
from collections.abc import Iterator
from typing import Any

import pytest
from fake_engine import FakeEngine, fake_sessions

import plasmid
from plasmid._common import test_utils
from plasmid.exceptions import NotSupportedError, SessionError, UsageError
from plasmid.job_config import JobConfig
from plasmid.util import annotations, debug


@pytest.fixture
def engines(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[FakeEngine]]:
    yield from fake_sessions(monkeypatch)


# -- actors ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "kind", "words"),
    [
        (("nobody",), ValueError, "name 'nobody'"),
        (("",), ValueError, "empty"),
        ((None,), ValueError, "empty"),
        ((3,), TypeError, "string"),
        (("a", ""), ValueError, "namespace"),
        (("a", 3), TypeError, "namespace"),
    ],
)
def test_get_actor_finds_none(
    engines: list[FakeEngine], arguments: Any, kind: type[Exception], words: str
) -> None:
    with pytest.raises(kind, match=words):
        plasmid.get_actor(*arguments)


def test_only_actors_can_be_killed() -> None:
    with pytest.raises(ValueError, match=r"only supported for actors.*cancel.*int"):
        plasmid.kill(3)


def test_actor_classes_annotate() -> None:
    assert repr(plasmid.actor.ActorHandle[int]).endswith("ActorHandle[int]")
    assert plasmid.actor.ActorClass[int].__origin__ is plasmid.actor.ActorClass
    with pytest.raises(UsageError, match="by hand"):
        plasmid.actor.ActorHandle()
    with pytest.raises(TypeError, match="actor"):
        plasmid.actor.exit_actor()


def test_method_notes_its_options_on_the_function() -> None:
    @plasmid.method(num_returns=2, concurrency_group="io")
    def two(self: object) -> None: ...

    @plasmid.method
    def plain(self: object) -> None: ...

    assert vars(two) == {"__ray_num_returns__": 2, "__ray_concurrency_group__": "io"}
    assert vars(plain) == {}
    for misuse in (
        lambda: plasmid.method(num_return=1),
        lambda: plasmid.method(plain, num_returns=1),
    ):
        with pytest.raises(AssertionError, match="num_returns"):
            misuse()
    with pytest.raises(TypeError, match="no method"):
        plasmid.method(3)


# -- annotations and logging ----------------------------------------------------------------------


def test_annotations_mark_and_keep_what_they_are_applied_to() -> None:
    @annotations.PublicAPI
    def public() -> int:
        """Text."""
        return 1

    @annotations.PublicAPI(stability="alpha", api_group="mine")
    def early() -> int:
        """Text."""
        return 2

    @annotations.DeveloperAPI()
    class Inner:
        pass

    assert (public(), early(), public.__doc__) == (1, 2, "Text.")
    assert "alpha" in early.__doc__
    assert early._annotated_api_group == "mine"
    assert public._annotated_type is annotations.AnnotationType.PUBLIC_API
    assert Inner._annotated_type is annotations.AnnotationType.DEVELOPER_API
    with pytest.raises(ValueError, match="stability"):
        annotations.PublicAPI(stability="fine")


def test_deprecated_warns_only_if_asked_to() -> None:
    @annotations.Deprecated
    def quiet() -> int:
        return 1

    @annotations.Deprecated(message="use g", warning=True)
    def loud(x: int) -> int:
        """Text."""
        return x

    @annotations.Deprecated(warning=True)
    class Old:
        def __init__(self, x: int) -> None:
            self.x = x

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert quiet() == 1
    with pytest.warns(annotations.RayDeprecationWarning, match="loud: .*use g") as caught:
        assert loud(3) == 3
    assert caught[0].filename == __file__
    with pytest.warns(DeprecationWarning, match="Old"):
        assert Old(4).x == 4
    assert isinstance(Old, type)
    assert "use g" in loud.__doc__


def test_log_once_is_once_a_key() -> None:
    program = """
from plasmid.util import debug, log_once, disable_log_once_globally, enable_periodic_logging
print(log_once("a"), log_once("a"), log_once("b"))
debug.reset_log_once("a"); print(log_once("a"), log_once("b"))
debug.reset_log_once(); print(log_once("b"))
enable_periodic_logging(); print(log_once("b"))
debug._State.seen["b"] -= 61; print(log_once("b"))
disable_log_once_globally(); print(log_once("c"))
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.stdout.split("\n")[:-1] == [
        "True False True",
        "True False",
        "True",
        "False",
        "True",
        "False",
    ], done.stderr
    assert debug.log_once is plasmid.util.log_once


# -- what cannot be pickled ------------------------------------------------------------------------


def test_inspect_serializability_names_the_culprit() -> None:
    lock = threading.Lock()

    class Holder:
        def __init__(self) -> None:
            self.fine = 1
            self.parts = {"lock": lock}

    holder = Holder()

    def function() -> object:
        return holder

    printed = io.StringIO()
    for value in (function, plasmid.remote(function)):
        fine, failures = plasmid.util.inspect_serializability(
            value, name="f", depth=4, print_file=printed
        )
        assert not fine
        (failure,) = failures
        assert (failure.obj, failure.path) == (lock, ("f", "holder", "parts", "'lock'"))
        assert failure.parent is holder.parts
    assert "f -> holder -> parts -> 'lock': " in printed.getvalue()


def test_inspect_serializability_goes_no_deeper_than_it_is_told() -> None:
    nested = [[[threading.Lock()]]]
    _, failures = plasmid.util.inspect_serializability(nested, depth=1, print_file=io.StringIO())
    assert [failure.obj for failure in failures] == [nested[0]]
    assert plasmid.util.inspect_serializability([1], print_file=io.StringIO()) == (True, set())


# -- helpers for tests -----------------------------------------------------------------------------


def test_wait_for_condition_returns_when_it_holds() -> None:
    calls = iter([False, 0, "yes"])
    test_utils.wait_for_condition(lambda: next(calls), retry_interval_ms=1)
    assert list(calls) == []


def test_wait_for_condition_tells_why_it_gave_up() -> None:
    def never(what: str) -> None:
        raise KeyError(what)

    with pytest.raises(RuntimeError, match=r"never has not become true in 0 .*KeyError") as caught:
        test_utils.wait_for_condition(never, timeout=0, retry_interval_ms=1, what="x")
    assert isinstance(caught.value.__cause__, KeyError)
    with pytest.raises(KeyError):
        test_utils.wait_for_condition(never, raise_exceptions=True, what="x")
    with pytest.raises(RuntimeError, match="KeyError"):
        asyncio.run(test_utils.async_wait_for_condition(never, 0, 1, what="x"))


def test_async_wait_for_condition_takes_coroutines_too() -> None:
    calls = iter([False, True])

    async def condition() -> bool:
        return next(calls)

    asyncio.run(test_utils.async_wait_for_condition(condition, retry_interval_ms=1))
    asyncio.run(test_utils.async_wait_for_condition(lambda: True))


def test_run_string_as_driver_returns_what_was_printed() -> None:
    assert test_utils.run_string_as_driver("print('hello')") == "hello\n"
    with pytest.raises(subprocess.CalledProcessError, match="status 3"):
        test_utils.run_string_as_driver("raise SystemExit(3)")


# -- job_config ------------------------------------------------------------------------------------


def test_init_takes_a_job_config(engines: list[FakeEngine]) -> None:
    plasmid.init(job_config=JobConfig(ray_namespace="theirs"))
    assert engines[0].config.namespace == "theirs"
    plasmid.shutdown()
    plasmid.init(job_config=JobConfig(ray_namespace="theirs"), namespace="mine")
    assert engines[1].config.namespace == "mine"


def test_a_job_config_cannot_ask_for_what_init_refuses(engines: list[FakeEngine]) -> None:
    with pytest.raises(NotSupportedError, match="runtime_env"):
        plasmid.init(job_config=JobConfig(runtime_env={"pip": ["x"]}))
    with pytest.raises(TypeError, match="job_config"):
        plasmid.init(job_config={"ray_namespace": "x"})  # type: ignore[arg-type]


def test_a_job_config_adds_folders_to_the_path(
    engines: list[FakeEngine], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "path", [*sys.path])
    there = JobConfig(code_search_path=["/no/such/folder"])
    with pytest.raises(ValueError, match="num_cpus"):
        plasmid.init(job_config=there, num_cpus=-1)
    assert "/no/such/folder" not in sys.path
    plasmid.init(job_config=there)
    plasmid.init(job_config=there, ignore_reinit_error=True)
    assert sys.path[0] == "/no/such/folder" != sys.path[1]


def test_a_job_config_is_made_step_by_step_or_from_json() -> None:
    config = JobConfig.from_json({"metadata": {"a": "b"}, "ray_namespace": "n"})
    config.set_metadata("c", "d")
    config.set_ray_namespace("m")
    config.set_default_actor_lifetime("detached")
    config.set_runtime_env({"env_vars": {}})
    assert config.metadata == {"a": "b", "c": "d"}
    assert (config.ray_namespace, config.default_actor_lifetime) == ("m", "detached")
    for bad in (
        lambda: JobConfig(default_actor_lifetime="long"),
        lambda: JobConfig(runtime_env="x"),  # type: ignore[arg-type]
        lambda: JobConfig(code_search_path="x"),  # type: ignore[arg-type]
    ):
        with pytest.raises((ValueError, TypeError), match="JobConfig"):
            bad()


# -- get_runtime_context without a session ---------------------------------------------------------


def test_the_runtime_context_needs_no_session_to_be_asked_for() -> None:
    context = plasmid.get_runtime_context()
    assert context is plasmid.get_runtime_context()
    assert not plasmid.is_initialized()
    for ask in (context.get_job_id, context.get_node_id, context.get_worker_id):
        with pytest.raises(RuntimeError, match="init") as caught:
            ask()
        assert isinstance(caught.value, SessionError)


# -- wrong calls, as Ray's programs expect them ----------------------------------------------------


@pytest.mark.parametrize("arguments", [(), (1, 2), (3,), ("f",), (None,)])
def test_wrong_uses_of_remote_are_assertion_errors_as_in_ray(arguments: Any) -> None:
    with pytest.raises(AssertionError):
        plasmid.remote(*arguments)


def test_what_is_remote_already_says_so() -> None:
    @plasmid.remote
    def f() -> None: ...

    for again in (lambda: plasmid.remote(f), lambda: plasmid.remote(num_cpus=1)(f)):
        with pytest.raises(TypeError, match=r"remote already; \.options\(\)"):
            again()


def test_an_unknown_argument_of_init_is_a_runtime_error_as_in_ray() -> None:
    with pytest.raises(RuntimeError, match="'num_cpu'; did you mean num_cpus"):
        plasmid.init(num_cpu=1)


def test_remote_functions_take_arguments_as_ray_s_own_code_passes_them(
    engines: list[FakeEngine],
) -> None:
    @plasmid.remote
    def add(a: int, b: int = 0) -> int:
        return a + b

    assert plasmid.get(add._remote(args=(1,), kwargs={"b": 2})) == 3
    assert plasmid.get(add._remote([1])) == 1
    first, second = add.options(name="x")._remote((1,), num_returns=1), add._remote((1,), name="y")
    assert plasmid.get([first, second]) == [1, 1]
    assert [options.name for options in engines[0].submitted] == ["add", "add", "x", "y"]
    with pytest.raises(ValueError, match="num_return"):
        add._remote((1,), num_return=1)
    with pytest.raises(NotSupportedError, match=r"bind\(\): call \.remote"):
        add.bind(1)


def test_static_methods_can_be_remote(engines: list[FakeEngine]) -> None:
    class Tools:
        @staticmethod
        @plasmid.remote
        def twice(x: int) -> int:
            return 2 * x

        @staticmethod
        def thrice(x: int) -> int:
            return 3 * x

    assert plasmid.get(Tools.twice.remote(2)) == 4
    assert plasmid.get(plasmid.remote(Tools.thrice).remote(2)) == 6
