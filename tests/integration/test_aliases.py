"""`import ray` inside of tasks, in programs that have given plasmid that name one way or another.

Each is a program of its own. The functions are of a module, and say `import ray` themselves, so
that nothing of the name travels with them.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from support import run_program

MODULE = """
def use_ray():
    import ray
    import ray.exceptions
    import ray.util.annotations as annotations
    import ray.util.iter
    from ray.util import ActorPool, inspect_serializability
    from ray.util.actor_group import ActorGroup
    from ray.util.queue import Queue, Empty
    from ray.exceptions import RayTaskError
    import plasmid, sys
    assert ray is plasmid and sys.modules["ray"] is plasmid
    assert ray.exceptions is plasmid.exceptions
    assert annotations is plasmid.util.annotations
    assert ray.util.iter is plasmid.util.iter and ActorPool is plasmid.util.ActorPool
    assert ActorGroup is plasmid.util.ActorGroup and Empty is plasmid.util.queue.Empty
    assert plasmid.__spec__.name == "plasmid"
    assert annotations.__spec__.name == "plasmid.util.annotations"
    assert ray.get(ray.put(1)) == 1
    return RayTaskError is plasmid.exceptions.RayTaskError

def nested():
    import ray
    return ray.get(ray.remote(use_ray).remote())

class Value:
    "A value whose module has to be imported before any function is there."
    def __init__(self):
        import ray
        self.ref_type = ray.ObjectRef

def of_value(value):
    import ray
    return value.ref_type is ray.ObjectRef
"""

BODY = """
assert ray.get(ray.remote(theirs.use_ray).remote())
assert ray.get(ray.remote(theirs.nested).remote())
assert ray.get(ray.remote(theirs.of_value).remote(theirs.Value()))
print("fine")
"""

HOOK = """
import importlib, sys
from importlib.machinery import ModuleSpec

class Hook:
    def find_spec(self, name, path=None, target=None):
        return ModuleSpec(name, self) if name.split(".")[0] == "ray" else None

    def create_module(self, spec):
        module = importlib.import_module("plasmid" + spec.name[3:])
        self.spec = module.__spec__
        return module

    def exec_module(self, module):
        module.__spec__ = self.spec

sys.meta_path.insert(0, Hook())
"""

IMPORT = "import ray, theirs\nray.init(num_cpus=2, object_store_memory=1 << 26)\n"
BY_MODULES = "import sys, plasmid\nsys.modules['ray'] = plasmid\n"


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    (tmp_path / "theirs.py").write_text(MODULE)
    return os.environ | {"PYTHONPATH": str(tmp_path)}


@pytest.mark.parametrize("way", [BY_MODULES, HOOK], ids=["sys.modules", "hook"])
def test_a_name_given_in_the_program_holds_in_workers(
    environment: dict[str, str], way: str
) -> None:
    assert run_program(way + IMPORT + BODY, env=environment)[0] == "fine\n"


def test_a_hook_of_the_environment_works_in_workers(
    environment: dict[str, str], tmp_path: Path
) -> None:
    (tmp_path / "sitecustomize.py").write_text(HOOK)
    assert run_program(IMPORT + BODY, env=environment)[0] == "fine\n"


def test_the_name_goes_before_a_package_of_that_name(
    environment: dict[str, str], tmp_path: Path
) -> None:
    (tmp_path / "ray.py").write_text("raise ImportError('the wrong one')")
    assert run_program(BY_MODULES + IMPORT + BODY, env=environment)[0] == "fine\n"


def test_other_names_are_not_touched(environment: dict[str, str]) -> None:
    program = """
        import sys, plasmid
        sys.modules["ray"] = plasmid
        plasmid.init(num_cpus=1, object_store_memory=1 << 26)
        @plasmid.remote
        def missing(name):
            try:
                __import__(name)
            except ModuleNotFoundError as error:
                return str(error)
        print(plasmid.get([missing.remote(name) for name in ("rays", "ray.no", "ra")]))
    """
    printed = run_program(program, env=environment)[0]
    assert printed.count("No module named") == 3
    assert "'rays'" in printed
    assert "'plasmid.no'" in printed


def test_a_name_given_after_init_goes_with_the_functions(environment: dict[str, str]) -> None:
    late = "import sys, plasmid\nplasmid.init(num_cpus=2, object_store_memory=1 << 26)\n"
    late += BY_MODULES + "import ray, theirs\n"
    assert run_program(late + BODY, env=environment)[0] == "fine\n"


def test_a_program_that_joins_a_session_brings_its_names(environment: dict[str, str]) -> None:
    program = f"""
        import subprocess, sys, plasmid
        context = plasmid.init(num_cpus=2, object_store_memory=1 << 26)
        guest = '''{BY_MODULES}
import ray, theirs
ray.init(address=sys.argv[1])
{BODY}'''
        done = subprocess.run([sys.executable, "-c", guest, context.address_info["address"]])
        assert done.returncode == 0
    """
    assert "fine" in run_program(program.replace("\n        ", "\n"), env=environment)[0]


LIBRARY = """
import ray

def helper(x):
    return x + 1

@ray.remote
def once(x):
    return helper(x)

@ray.remote(num_cpus=0.5)
def down(n):
    return 0 if n == 0 else 1 + ray.get(down.remote(n - 1))

class Value:
    def __init__(self, x):
        self.x = x

    @staticmethod
    @ray.remote
    def make(x):
        return Value(x)
"""


def test_a_module_s_functions_may_be_remote_when_it_is_imported(
    environment: dict[str, str], tmp_path: Path
) -> None:
    """Their names in the module are those of the remote functions, so they travel by value; what
    they refer to does not, and the module's classes are the same in both processes."""
    (tmp_path / "library.py").write_text(LIBRARY)
    program = """
        import json, sys, textwrap, plasmid
        sys.modules["ray"] = plasmid
        import library
        assert not plasmid.is_initialized()
        plasmid.init(num_cpus=1, object_store_memory=1 << 26)
        assert plasmid.get(library.once.remote(1)) == 2
        assert plasmid.get(library.down.remote(5)) == 5
        assert type(plasmid.get(library.Value.make.remote(3))) is library.Value
        assert plasmid.get(plasmid.remote(library.helper).remote(1)) == 2
        assert plasmid.get(plasmid.remote(json.dumps).remote([1], indent=None)) == "[1]"
        assert plasmid.get(plasmid.remote(textwrap.dedent).remote("  a")) == "a"
        print(plasmid.remote(library.Value))
    """
    assert run_program(program, env=environment)[0] == "ActorClass(Value)\n"
