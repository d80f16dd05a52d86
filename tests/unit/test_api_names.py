"""What the package offers, and what importing it costs."""

from __future__ import annotations

import importlib
import subprocess
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path

import pytest

import plasmid
from plasmid import _platform
from plasmid.exceptions import NotSupportedError, PlasmidError, UnsupportedPlatformError

ROOT = Path(__file__).resolve().parent.parent.parent

NAMES = [
    "RESTORE_WORKER_MODE",
    "SCRIPT_MODE",
    "SPILL_WORKER_MODE",
    "WORKER_MODE",
    "ActorClassID",
    "ActorID",
    "ClientBuilder",
    "ClusterID",
    "DynamicObjectRefGenerator",
    "FunctionID",
    "JobID",
    "Language",
    "LoggingConfig",
    "NodeID",
    "ObjectID",
    "ObjectRef",
    "ObjectRefGenerator",
    "PlacementGroupID",
    "TaskID",
    "UniqueID",
    "WorkerID",
    "__version__",
    "actor",
    "available_resources",
    "cancel",
    "client",
    "cloudpickle",
    "cluster_resources",
    "cpp_function",
    "create",
    "delete_object",
    "empty",
    "empty_like",
    "exceptions",
    "experimental",
    "explain",
    "free",
    "get",
    "get_actor",
    "get_buffer",
    "get_gpu_ids",
    "get_object",
    "get_runtime_context",
    "ids",
    "init",
    "internal",
    "is_initialized",
    "java_actor_class",
    "java_function",
    "job_config",
    "kill",
    "list_named_objects",
    "method",
    "nodes",
    "put",
    "remote",
    "remote_function",
    "runtime_context",
    "runtime_env",
    "seal",
    "shutdown",
    "timeline",
    "types",
    "util",
    "wait",
]

# Constants, and what is documented elsewhere.
WITHOUT_TEXT = {"SCRIPT_MODE", "WORKER_MODE", "SPILL_WORKER_MODE", "RESTORE_WORKER_MODE"}


def run(program: str) -> str:
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_all_is_what_the_package_offers() -> None:
    assert plasmid.__all__ == NAMES
    public = {name for name in vars(plasmid) if not name.startswith("_")}
    submodules = {
        *("api", "buffers", "engine", "generator", "groups", "options", "session", "strategies"),
        *("actor_methods", "actor_options", "absent", "annotations", "TYPE_CHECKING"),
    }
    assert public - submodules - set(NAMES) <= {"serialize", "runtime", "cli", "demo", "sessions"}


@pytest.mark.parametrize("name", sorted(set(NAMES) - WITHOUT_TEXT))
def test_what_is_offered_has_a_docstring(name: str) -> None:
    assert getattr(plasmid, name).__doc__


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no_such_name"):
        _ = plasmid.no_such_name


def test_rays_submodules_are_attributes_after_import() -> None:
    run(
        "import plasmid as ray\n"
        "ray.exceptions.GetTimeoutError, ray.util, ray.experimental, ray._private.internal_api\n"
        "from plasmid._private import internal_api\n"
        "from plasmid.exceptions import RayError"
    )


DOCUMENTED = (ROOT / "docs" / "ray_api.md").read_text()


def cells(row: str) -> list[str]:
    return [cell.strip() for cell in row.strip("|").split("|")]


def documented(verdict: str) -> list[str]:
    rows = [cells(row) for row in DOCUMENTED.splitlines() if row.startswith("| `")]
    return [name for row in rows if row[1] == verdict for name in row[0].strip("`").split()]


@pytest.mark.parametrize("name", documented("here") + documented("refused"))
def test_what_the_table_of_rays_names_says_is_here_is(name: str) -> None:
    assert name in plasmid.__all__
    assert getattr(plasmid, name) is getattr(plasmid, name)
    assert name in dir(plasmid)


@pytest.mark.parametrize("name", documented("absent"))
def test_what_the_table_says_is_absent_is(name: str) -> None:
    assert not hasattr(plasmid, name)


def test_the_table_has_all_that_a_ray_program_could_ask_for() -> None:
    """Ray's own names, as of 2.60; modules that it happens to show are left out."""
    rays = """ActorClassID ActorID ClientBuilder FunctionID JobID Language LoggingConfig NodeID
        ObjectID
        ObjectRef PlacementGroupID SCRIPT_MODE TaskID UniqueID WORKER_MODE WorkerID actor autoscaler
        available_resources client cluster_resources cpp_function data exceptions get get_actor
        get_runtime_context init internal is_initialized java_actor_class java_function kill method
        nodes put remote shutdown util wait widgets workflow"""
    table = documented("here") + documented("refused") + documented("absent")
    assert set(rays.split()) <= set(table)
    assert len(table) == len(set(table))


def modules() -> list[tuple[str, str]]:
    rows = [cells(row) for row in DOCUMENTED.splitlines() if row.startswith("| `ray.")]
    return [(row[0].strip("`"), name) for row in rows for name in row[1].strip("`").split()]


@pytest.mark.parametrize(("module", "name"), modules())
def test_modules_have_what_the_table_says(module: str, name: str) -> None:
    found = importlib.import_module(module.replace("ray", "plasmid", 1))
    assert callable(getattr(found, name))
    parent, _, last = found.__name__.rpartition(".")
    assert getattr(sys.modules[parent], last) is found


@pytest.mark.parametrize(
    "use",
    [
        lambda: plasmid.client("ray://host:1"),
        lambda: plasmid.ClientBuilder("ray://host:1"),
        lambda: plasmid.java_function("a.B", "c"),
        lambda: plasmid.java_actor_class("a.B"),
        lambda: plasmid.cpp_function("f"),
        lambda: plasmid.LoggingConfig(encoding="JSON"),
    ],
)
def test_what_is_refused_says_so_when_it_is_used(use: Callable[[], object]) -> None:
    with pytest.raises(NotSupportedError):
        use()


def test_a_library_of_rays_is_named_in_the_error() -> None:
    with pytest.raises(AttributeError, match="Ray's data is no part of plasmid"):
        _ = plasmid.data


def test_lazy_modules_are_there_without_an_import_of_their_own() -> None:
    run(
        "import plasmid as ray\n"
        "ray.util.annotations.PublicAPI, ray.util.debug.log_once, ray.actor.ActorHandle\n"
        "ray.runtime_context.RuntimeContext, ray.job_config.JobConfig, ray.cloudpickle.dumps\n"
        "from plasmid.util import annotations\n"
        "annotations.PublicAPI\n"
        "from plasmid import TaskID, ObjectRef, types\n"
        "assert types.ObjectRef is ObjectRef is ray.ObjectID"
    )


def test_importing_loads_nothing_heavy() -> None:
    heavy = [
        "numpy",
        "pyarrow",
        "pandas",
        "cloudpickle",
        "pickle",
        "asyncio",
        "logging",
        "concurrent.futures",
        "inspect",
        "typing",
        "dataclasses",
        "re",
        "threading",
        "collections",
        "functools",
        "enum",
    ]
    loaded = run(
        "import sys; before = set(sys.modules); import plasmid; print(*(set(sys.modules) - before))"
    )
    assert not set(loaded.split()) & set(heavy)


def test_the_version_is_that_of_the_package() -> None:
    metadata = tomllib.loads((ROOT / "pyproject.toml").read_text())
    assert plasmid.__version__ == metadata["project"]["version"]


def test_platforms_are_accepted_or_refused_in_words() -> None:
    assert _platform.objection("linux", 64, "little", "cpython") is None
    for machine in (
        ("darwin", 64, "little", "cpython"),
        ("linux", 32, "little", "cpython"),
        ("linux", 64, "big", "cpython"),
        ("linux", 64, "little", "pypy"),
    ):
        message = _platform.objection(*machine)
        assert message is not None
        assert "64-bit little-endian Linux" in message
        assert machine[0] in message


def test_importing_on_another_platform_is_an_import_error() -> None:
    assert issubclass(UnsupportedPlatformError, ImportError)
    assert issubclass(UnsupportedPlatformError, PlasmidError)
    output = run(
        "import sys; sys.platform = 'win32'\n"
        "try:\n    import plasmid\nexcept ImportError as error:\n    print(error)"
    )
    assert "plasmid runs on" in output
    assert "win32" in output
