"""Environments of tasks: `runtime_env`; and workers that end after some calls: `max_calls`."""

from __future__ import annotations

import os
import random
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from support import STORE, Gate, arena, run_program, until

import plasmid
from plasmid._core import core
from plasmid.exceptions import NotSupportedError, ObjectStoreFullError, RuntimeEnvSetupError
from plasmid.job_config import JobConfig
from plasmid.runtime_env import RuntimeEnv


@pytest.fixture(autouse=True)
def session() -> Iterator[None]:
    with plasmid.init(num_cpus=2, object_store_memory=STORE):
        yield


@pytest.fixture
def anew() -> None:
    """For tests that start a session of their own."""
    plasmid.shutdown()


@plasmid.remote
def look(*names: str) -> list[str | None]:
    return [os.environ.get(name) for name in names]


@plasmid.remote
def pid() -> int:
    return os.getpid()


@plasmid.remote
def environment() -> dict[str, Any]:
    return dict(plasmid.get_runtime_context().runtime_env)


def variables(**values: str) -> dict[str, Any]:
    return {"runtime_env": {"env_vars": values}}


# Variables ---------------------------------------------------------------------------------------


def test_a_task_sees_its_variables_and_others_do_not() -> None:
    red, blue = look.options(**variables(COLOR="red")), look.options(**variables(COLOR="blue"))
    refs = [each.remote("COLOR") for each in (red, blue, look) * 10]
    assert plasmid.get(refs) == [["red"], ["blue"], [None]] * 10
    assert "COLOR" not in os.environ


def test_programs_that_a_task_starts_see_them_too() -> None:
    @plasmid.remote(**variables(COLOR="red"))
    def ask() -> str:
        code = "import os; print(os.environ['COLOR'])"
        return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout

    assert plasmid.get(ask.remote()) == "red\n"


def test_tasks_of_one_environment_share_workers_and_those_of_others_do_not() -> None:
    red = pid.options(**variables(COLOR="red"))
    again = pid.options(**variables(COLOR="red"))
    ours = {plasmid.get(each.remote()) for each in (red, again, red)}
    assert len(ours) == 1
    assert ours.isdisjoint({plasmid.get(pid.remote())})


def test_a_value_may_name_variables_that_are_there() -> None:
    os_path = os.environ["PATH"]
    task = look.options(**variables(PATH="/opt/mine:${PATH}", EMPTY="<${NOT_SET_ANYWHERE}>"))
    assert plasmid.get(task.remote("PATH", "EMPTY")) == [f"/opt/mine:{os_path}", "<>"]


def test_what_it_says_about_threads_counts() -> None:
    task = look.options(num_cpus=2, **variables(OMP_NUM_THREADS="7"))
    assert plasmid.get(task.remote("OMP_NUM_THREADS")) == ["7"]
    assert plasmid.get(task.options(num_cpus=1).remote("OMP_NUM_THREADS")) == ["7"]


# Inheritance -------------------------------------------------------------------------------------


@plasmid.remote
def nested(depth: int) -> list[Any]:
    if depth == 0:
        return [os.environ.get("A"), os.environ.get("B")]
    return plasmid.get(nested.remote(depth - 1))


@plasmid.remote
def from_inside(value: Any) -> Any:
    return plasmid.get(look.options(runtime_env=value).remote("A", "B"))


def test_nested_tasks_inherit_the_environment() -> None:
    task = nested.options(**variables(A="1", B="2"))
    assert plasmid.get([task.remote(n) for n in range(4)]) == [["1", "2"]] * 4
    assert plasmid.get(nested.remote(2)) == [None, None]


def test_a_nested_tasks_own_variables_are_merged_into_its_parents() -> None:
    task = from_inside.options(**variables(A="1", B="2"))
    assert plasmid.get(task.remote({"env_vars": {"B": "3"}})) == ["1", "3"]
    assert plasmid.get(task.remote({})) == ["1", "2"]
    assert plasmid.get(task.remote(None)) == ["1", "2"]


def test_a_tasks_environment_is_merged_into_the_jobs(anew: None, tmp_path: Path) -> None:
    job = {"env_vars": {"A": "1", "B": "2"}, "working_dir": str(tmp_path)}
    with plasmid.init(num_cpus=2, object_store_memory=STORE, runtime_env=job):
        assert plasmid.get(look.remote("A", "B")) == ["1", "2"]
        assert plasmid.get(look.options(**variables(B="3")).remote("A", "B")) == ["1", "3"]
        assert plasmid.get(environment.options(**variables(B="3")).remote()) == {
            "env_vars": {"A": "1", "B": "3"},
            "working_dir": str(tmp_path),
        }
        assert plasmid.get_runtime_context().runtime_env == job
        assert "A" not in os.environ
        assert os.getcwd() != str(tmp_path)


def test_a_job_config_has_one(anew: None) -> None:
    config = JobConfig(runtime_env={"env_vars": {"A": "1"}})
    with plasmid.init(num_cpus=1, object_store_memory=STORE, job_config=config):
        assert plasmid.get(look.remote("A")) == ["1"]


def test_the_context_tells_it() -> None:
    task = environment.options(runtime_env=RuntimeEnv(env_vars={"A": "1"}))
    assert plasmid.get(task.remote()) == {"env_vars": {"A": "1"}}
    assert plasmid.get(environment.remote()) == {}
    assert plasmid.get_runtime_context().get_runtime_env_string() == "{}"


# Folders and modules -----------------------------------------------------------------------------


def test_a_task_works_in_its_folder_and_imports_from_there(tmp_path: Path) -> None:
    (tmp_path / "data.txt").write_text("here")
    (tmp_path / "of_the_folder.py").write_text("VALUE = 42")

    @plasmid.remote(runtime_env={"working_dir": str(tmp_path)})
    def work() -> tuple[str, int, str]:
        import of_the_folder  # type: ignore[import-not-found]

        code = "import of_the_folder; print(of_the_folder.VALUE)"
        out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout
        return Path("data.txt").read_text(), of_the_folder.VALUE, out

    assert plasmid.get(work.remote()) == ("here", 42, "42\n")


def test_two_versions_of_a_module_are_used_at_once(tmp_path: Path) -> None:
    for version in ("old", "new"):
        (tmp_path / version).mkdir()
        (tmp_path / version / "versioned.py").write_text(f"VERSION = {version!r}")

    @plasmid.remote
    def version_of() -> str:
        import versioned  # type: ignore[import-not-found]

        return str(versioned.VERSION)

    tasks = [
        version_of.options(runtime_env={"working_dir": str(tmp_path / name)})
        for name in ("old", "new", "old", "new")
    ]
    assert plasmid.get([task.remote() for task in tasks]) == ["old", "new", "old", "new"]


def test_a_relative_folder_is_that_of_who_says_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "project").mkdir()
    monkeypatch.chdir(tmp_path)

    @plasmid.remote(runtime_env={"working_dir": "project"})
    def where() -> str:
        return os.getcwd()

    monkeypatch.chdir("/")
    assert plasmid.get(where.remote()) == str(tmp_path / "project")

    @plasmid.remote
    def call(task: Any) -> Any:
        return plasmid.get(task.remote())

    assert plasmid.get(call.remote(where)) == str(tmp_path / "project")


def test_modules_are_imported_from_folders_files_and_archives(tmp_path: Path) -> None:
    package = tmp_path / "a" / "my_package"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("from .part import VALUE")
    (package / "part.py").write_text("VALUE = 1")
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "my_module.py").write_text("VALUE = 2")
    with zipfile.ZipFile(tmp_path / "c.zip", "w") as archive:
        archive.writestr("my_zipped.py", "VALUE = 3")

    @plasmid.remote
    def values() -> list[int]:
        import my_module  # type: ignore[import-not-found]
        import my_package  # type: ignore[import-not-found]
        import my_zipped  # type: ignore[import-not-found]

        return [my_package.VALUE, my_module.VALUE, my_zipped.VALUE]

    with pytest.raises(ImportError):
        plasmid.get(values.remote())
    modules = [str(package), str(tmp_path / "b" / "my_module.py"), str(tmp_path / "c.zip")]
    assert plasmid.get(values.options(runtime_env={"py_modules": modules}).remote()) == [1, 2, 3]


def test_arguments_and_functions_may_be_of_its_modules(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The environment is entered before anything of the task is unpickled."""
    (tmp_path / "hidden_away.py").write_text(
        "class Thing:\n    value = 5\ndef of(thing):\n    return thing.value\n"
    )
    plasmid.get(pid.remote())  # the session knows of no such folder
    monkeypatch.syspath_prepend(tmp_path)
    import hidden_away  # type: ignore[import-not-found]

    # but the function would bring it: take it away again
    monkeypatch.setattr(sys, "path", [path for path in sys.path if path != str(tmp_path)])
    task = plasmid.remote(hidden_away.of)
    by_module = task.options(runtime_env={"py_modules": [hidden_away]})
    assert plasmid.get(by_module.remote(hidden_away.Thing())) == 5


# What cannot be ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("env", "kind", "match"),
    [
        ({"pip": ["x"]}, NotSupportedError, "'pip'"),
        ({"working_dir": "gs://x/y.zip"}, NotSupportedError, "working_dir"),
        ({"working_dir": "/no/such"}, ValueError, "/no/such"),
        ({"env_vars": {"A": 1}}, TypeError, "env_vars"),
        ({"env_varz": {}}, ValueError, "Did you mean env_vars"),
    ],
)
def test_a_bad_environment_is_refused_where_it_is_said(
    env: Any, kind: type[Exception], match: str, anew: None
) -> None:
    with pytest.raises(kind, match=match):
        plasmid.remote(runtime_env=env)(pid._function)
    with pytest.raises(kind, match=match):
        pid.options(runtime_env=env)
    with pytest.raises(kind, match=match):
        plasmid.init(runtime_env=env)
    assert not plasmid.is_initialized()


def test_an_environment_that_is_gone_fails_its_tasks_until_it_is_back(tmp_path: Path) -> None:
    folder = tmp_path / "project"
    folder.mkdir()
    task = pid.options(runtime_env={"working_dir": str(folder)})
    folder.rmdir()
    for _ in range(3):
        with pytest.raises(RuntimeEnvSetupError, match="project"):
            plasmid.get(task.remote())
    folder.mkdir()
    assert plasmid.get(task.remote()) > 0
    assert plasmid.get(pid.remote()) > 0


# Many of them ------------------------------------------------------------------------------------


def test_more_environments_than_there_may_be_workers() -> None:
    """The cap is 16 with two CPUs: workers of old ones make room."""
    tasks = [look.options(**variables(NUMBER=str(number))) for number in range(40)]
    assert plasmid.get([task.remote("NUMBER") for task in tasks]) == [
        [str(number)] for number in range(40)
    ]
    until(lambda: arena().stats()["workers"] <= 16)
    assert plasmid.get(look.remote("NUMBER")) == [None]
    assert plasmid.get(tasks[0].remote("NUMBER")) == ["0"]


@plasmid.remote
def ping_pong(depth: int) -> int:
    """Each level in the environment that the one above it is not in."""
    if depth == 0:
        return 0
    other = "pong" if os.environ.get("SIDE") == "ping" else "ping"
    task = ping_pong.options(max_retries=-1, **variables(SIDE=other))
    return 1 + int(plasmid.get(task.remote(depth - 1)))


def test_tasks_of_two_environments_wait_for_each_other_deeper_than_there_are_workers() -> None:
    assert plasmid.get(ping_pong.remote(30)) == 30


def test_a_wide_fan_of_tasks_that_wait_for_others_environments_neither_hangs_nor_forks_many() -> (
    None
):
    refs = [ping_pong.remote(2) for _ in range(200)]
    most = 0
    while refs:
        _, refs = plasmid.wait(refs, num_returns=min(20, len(refs)))
        most = max(most, arena().stats()["workers"])
    assert most <= 60
    arena().check()


def test_a_worker_that_is_killed_has_its_task_run_again_in_its_environment(tmp_path: Path) -> None:
    gate = Gate(tmp_path)

    @plasmid.remote(**variables(COLOR="red"))
    def fragile(path: str) -> list[str | None]:
        if not os.path.exists(path):
            Path(path).touch()
            gate.wait()
        return [os.environ.get("COLOR"), str(os.getpid())]

    ref = fragile.remote(str(tmp_path / "seen"))
    gate.await_arrivals(1)
    workers = [client.pid for client in arena().clients() if client.kind == core.WORKER]
    (worker,) = [each for each in workers if _is_at(each, gate)]
    os.kill(worker, 9)
    gate.open()
    color, process = plasmid.get(ref)
    assert color == "red"
    assert int(process) != worker
    arena().check()


def test_random_deaths_under_tasks_that_wait_for_those_of_other_environments() -> None:
    rng = random.Random(7)
    refs = [ping_pong.options(max_retries=-1).remote(3) for _ in range(60)]
    kills = 0
    while refs:
        done, refs = plasmid.wait(refs, timeout=0.02)
        assert plasmid.get(done) == [3] * len(done)
        workers = [client.pid for client in arena().clients() if client.kind == core.WORKER]
        if workers and kills < 25:
            kills += 1
            with suppress(ProcessLookupError):
                os.kill(rng.choice(workers), 9)
    assert kills > 5
    arena().check()


def test_an_environment_that_does_not_fit_into_the_store_begins_no_session(anew: None) -> None:
    with pytest.raises(ObjectStoreFullError):
        plasmid.init(
            num_cpus=1,
            object_store_memory=1 << 20,
            runtime_env={"env_vars": {"A": "x" * (2 << 20)}},
        )
    assert not plasmid.is_initialized()


def _is_at(process: int, gate: Gate) -> bool:
    folder = Path(f"/proc/{process}/fd")
    return any(os.readlink(fd) == gate.path for fd in folder.iterdir())


def test_a_program_that_joins_has_an_environment_of_its_own() -> None:
    address = plasmid.get_runtime_context().gcs_address
    out, _ = run_program(
        """
        import os, sys, plasmid

        def color():
            return os.environ.get("COLOR")

        env = {"env_vars": {"COLOR": "red"}}
        plasmid.init(sys.argv[1], runtime_env=env)
        print(plasmid.get(plasmid.remote(color).remote()))
        """,
        address,
    )
    assert out == "red\n"
    assert plasmid.get(look.remote("COLOR")) == [None]


# max_calls ---------------------------------------------------------------------------------------


def test_a_worker_ends_after_max_calls() -> None:
    task = plasmid.remote(max_calls=3)(pid._function)
    seen = [plasmid.get(task.remote()) for _ in range(9)]
    assert seen[0] == seen[1] == seen[2]
    assert len(set(seen)) == 3
    until(lambda: not any(os.path.exists(f"/proc/{process}") for process in seen[:6]))
    arena().check()


def test_many_calls_in_workers_of_one_call_each() -> None:
    task = plasmid.remote(max_calls=1)(pid._function)
    seen = plasmid.get([task.remote() for _ in range(60)])
    assert len(set(seen)) == 60


def test_calls_of_other_functions_do_not_count() -> None:
    task = plasmid.remote(max_calls=2)(pid._function)
    first = plasmid.get(task.remote())
    plasmid.get([look.remote("A") for _ in range(20)])
    assert os.path.exists(f"/proc/{first}")


def test_calls_that_raise_count_too() -> None:
    @plasmid.remote(max_calls=1)
    def fail() -> None:
        raise ValueError(str(os.getpid()))

    seen = set()
    for _ in range(3):
        with pytest.raises(ValueError, match=r"\d+") as caught:
            plasmid.get(fail.remote())
        seen.add(str(caught.value.args[0]))
    assert len(seen) == 3


@plasmid.remote(max_calls=1)
def lone(depth: int) -> int:
    return 0 if depth == 0 else 1 + int(plasmid.get(lone.remote(depth - 1)))


@plasmid.remote
def family() -> tuple[int, int]:
    return os.getpid(), plasmid.get(plasmid.remote(max_calls=1)(pid._function).remote())


def test_such_a_call_does_not_run_in_the_process_of_who_waits_for_it() -> None:
    for _ in range(5):
        mine, other = plasmid.get(family.remote())
        assert mine != other


def test_such_calls_nest_deeper_than_there_may_be_workers() -> None:
    assert plasmid.get(lone.remote(25)) == 25


def test_the_default_is_1_for_tasks_with_gpus_and_else_none(anew: None) -> None:
    with plasmid.init(num_cpus=2, num_gpus=1, object_store_memory=STORE):
        task = pid.options(num_gpus=1)
        assert len({plasmid.get(task.remote()) for _ in range(3)}) == 3
        kept = plasmid.remote(num_gpus=0.5, max_calls=0)(pid._function)
        assert len({plasmid.get(kept.remote()) for _ in range(3)}) == 1


def test_max_calls_is_no_option_of_a_call() -> None:
    with pytest.raises(ValueError, match="max_calls"):
        pid.options(max_calls=1)
