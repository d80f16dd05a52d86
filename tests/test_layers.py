"""Files call only downwards: the layers of the C core and of the Python package, as two tables."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
CSRC = ROOT / "csrc"
SRC = ROOT / "src"

# A file of csrc includes headers that stand before its own name, and its own header.
C_LAYERS = [
    "err atomic off crash",
    "os",
    "lock",
    "heap layout arena warm copy disk window client",
    "pool directory resource queue mailbox events lineage",
    "settle reserve object recipe wait spill prefetch trim room relay stream task load actor "
    "cancel group",
    "recover check dump survey guard",
    "plasmid",
]
C_ORDER = " ".join(C_LAYERS).split()

# Importer (a module or everything under a package; the longest name counts) -> what it may import:
# names under plasmid, each with all below it; "." is the package's own face, `import plasmid`.
# Imports for type checkers only are free.
PYTHON_LAYERS = {
    "exceptions": "",
    "_platform": "exceptions",
    "_core": "_core exceptions ids",
    "ids": "",
    "serialize": "serialize exceptions",
    "engine.base": "",
    "runtime": "runtime _core exceptions .",
    "runtime.stream": "_core engine exceptions",
    "runtime.worker": "runtime _core engine exceptions",
    "runtime.performer": "runtime _core engine serialize exceptions",
    "runtime.host": "runtime _core engine exceptions",
    "runtime.lanes": "runtime _core engine",
    "runtime.surroundings": "runtime runtime_env exceptions",
    "runtime_env": "exceptions",
    "engine.running": "_core",
    "engine.actors": "engine.base engine.packing engine.placing engine.roster engine.running _core "
    "exceptions",
    "engine.futures": "_core exceptions",
    "engine.inplace": "engine.base _core serialize",
    "engine.sites": "",
    "engine.oversized": "",
    "engine.packing": "_core serialize engine.inplace engine.sites exceptions",
    "engine.serializers": "_core serialize",
    "engine.capsules": "serialize",
    "engine.dynamic": "",
    "engine.history": "ids _core",
    "engine.roster": "ids _core serialize exceptions",
    "engine.memory": "_core runtime serialize _tables exceptions",
    "engine.pressure": "engine.memory runtime.spilling _core exceptions",
    "engine.lineage": "_core exceptions",
    "engine.placing": "engine.running ids strategies _core exceptions",
    "engine.environments": "engine.packing _core runtime_env",
    "engine.local": "engine.base engine.environments engine.running engine.futures engine.inplace "
    "engine.packing engine.serializers engine.capsules engine.memory engine.sites engine.placing "
    "engine.history engine.oversized engine.pressure engine.lineage engine.actors engine.roster "
    "ids _core serialize runtime exceptions",
    "engine.current": "engine.base engine.local serialize exceptions",
    "engine": "engine.base engine.current",
    "strategies": "",
    "options": "engine.base strategies groups runtime_env exceptions",
    "groups": "engine.current ids strategies remote",
    "_later": "",
    "absent": "exceptions",
    "actor": "actor_methods actor_options engine.base engine.current generator options exceptions",
    "actor_methods": "engine.base exceptions",
    "actor_options": "engine.base options exceptions",
    "cloudpickle": "",
    "types": "_core",
    "job_config": "",
    "remote_function": "remote",
    "generator": "engine.current engine.dynamic exceptions",
    "_raylet": "generator",
    "runtime_context": "actor engine.current util.annotations runtime_env exceptions",
    "internal": "_private",
    "_common": "",
    "api": "engine.base engine.current generator exceptions",
    "buffers": "api engine.base engine.current exceptions",
    "remote": "actor actor_options engine.base engine.current generator options exceptions",
    "session": "engine.base engine.current options job_config runtime_env exceptions .",
    "experimental.tqdm_ray": "runtime.bars runtime.board",
    "util.annotations": "",
    "util": "util _later actor api engine.current groups remote session strategies exceptions .",
    "experimental": "experimental engine.base engine.current api remote session exceptions .",
    "_private": "_private _common engine.base engine.current api remote session exceptions .",
    ".": "_core _later _platform _private absent actor api buffers cloudpickle exceptions "
    "experimental generator ids internal job_config remote remote_function runtime_context "
    "runtime_env session types util",
    "sessions": "engine.history engine.memory engine.roster runtime _core exceptions",
    "_progress": "",
    "_tables": "",
    "demo": "_progress exceptions .",
    "cli": "demo options sessions engine.history engine.memory engine.roster _tables exceptions .",
    "__main__": "cli",
}


def c_includes(file: Path) -> list[str]:
    return re.findall(r'^\s*#\s*include\s*["<]([^">]+)[">]', file.read_text(), re.MULTILINE)


@pytest.mark.parametrize("file", sorted(CSRC.glob("*.[ch]")), ids=lambda p: p.name)
def test_a_c_file_includes_only_what_is_below_it(file: Path) -> None:
    assert file.stem in C_ORDER, f"{file.name} has no place in C_LAYERS"
    place = C_ORDER.index(file.stem)
    for name in c_includes(file):
        assert name != "Python.h", f"{file.name} knows Python"
        if not (CSRC / name).exists():
            continue  # the system's
        below = Path(name).stem in C_ORDER[:place]
        own = file.suffix == ".c" and name == file.stem + ".h"
        assert below or own, f"{file.name} includes {name}, which is not below it"


def test_cython_includes_the_public_header_only() -> None:
    for file in sorted((SRC / "plasmid" / "_core").glob("*.p[xy][dxi]")):
        for name in re.findall(r'extern\s+from\s+["\'](\w+\.h)["\']', file.read_text()):
            assert name == "plasmid.h" or not (CSRC / name).exists(), f"{file.name}: {name}"


def module_name(file: Path) -> str:
    """The dotted name below plasmid; "." for plasmid itself."""
    parts = file.relative_to(SRC / "plasmid").with_suffix("").parts
    return ".".join(p for p in parts if p != "__init__") or "."


def modules() -> dict[str, Path]:
    return {module_name(p): p for p in sorted((SRC / "plasmid").rglob("*.py"))}


def executed(node: ast.AST) -> Iterator[ast.AST]:
    """All nodes below, but those that only a type checker sees."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test):
            yield from (n for other in child.orelse for n in [other, *executed(other)])
        else:
            yield child
            yield from executed(child)


def ours(program: ast.AST, package: tuple[str, ...]) -> Iterator[str]:
    """What a module of `package` imports of plasmid, at any depth, as names below plasmid."""
    for node in executed(program):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            start = package[: len(package) - node.level + 1] if node.level else ()
            base = ".".join([*start, *filter(None, [node.module])])
            # `from a import b`: b is a module of a, or something that a defines.
            names = [full if is_module(full := f"{base}.{a.name}") else base for a in node.names]
        else:
            continue
        for name in names:
            if name.split(".")[0] == "plasmid":
                yield name.partition(".")[2] or "."


def is_module(name: str) -> bool:
    path = SRC.joinpath(*name.split("."))
    return any(p.exists() for p in (path, path.with_suffix(".py"), path.with_suffix(".pyx")))


def is_under(name: str, tops: list[str]) -> bool:
    return any(name == top or name.startswith(top + ".") for top in tops)


def check_imports(importer: str, imported: Iterator[str]) -> None:
    rows = [row for row in PYTHON_LAYERS if is_under(importer, [row])]
    assert rows, f"plasmid.{importer} has no row in PYTHON_LAYERS"
    allowed = PYTHON_LAYERS[max(rows, key=len)].split()
    for name in imported:
        assert is_under(name, allowed), f"plasmid.{importer} imports plasmid.{name}"


@pytest.mark.parametrize("module", modules())
def test_a_module_imports_only_what_is_below_it(module: str) -> None:
    file = modules()[module]
    check_imports(module, ours(ast.parse(file.read_text()), file.relative_to(SRC).parent.parts))


@pytest.mark.parametrize(
    "file", sorted((SRC / "plasmid" / "_core").glob("*.p[xy][xi]")), ids=lambda p: p.name
)
def test_cython_imports_only_what_is_below_it(file: Path) -> None:
    lines = re.findall(r"^\s*((?:from|import)\s+plasmid\b.*)", file.read_text(), re.MULTILINE)
    python = "\n".join(line.replace(" cimport ", " import ") for line in lines)
    check_imports("_core", ours(ast.parse(python), ("plasmid", "_core")))
