"""What the package offers, and what importing it costs."""

from __future__ import annotations

import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import plasmid
from plasmid import _platform
from plasmid.exceptions import PlasmidError, UnsupportedPlatformError

ROOT = Path(__file__).resolve().parent.parent.parent

NAMES = [
    "ObjectRef",
    "__version__",
    "available_resources",
    "cancel",
    "cluster_resources",
    "create",
    "delete_object",
    "empty",
    "empty_like",
    "exceptions",
    "experimental",
    "explain",
    "free",
    "get",
    "get_buffer",
    "get_object",
    "init",
    "is_initialized",
    "list_named_objects",
    "nodes",
    "put",
    "remote",
    "seal",
    "shutdown",
    "util",
    "wait",
]


def run(program: str) -> str:
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_all_is_what_the_package_offers() -> None:
    assert plasmid.__all__ == NAMES
    public = {name for name in vars(plasmid) if not name.startswith("_")}
    submodules = {"api", "buffers", "engine", "options", "session", "annotations", "TYPE_CHECKING"}
    assert public - submodules - set(NAMES) <= {"serialize", "runtime", "cli", "demo"}


@pytest.mark.parametrize("name", [name for name in NAMES if name != "ObjectRef"])
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
