"""Build the one extension module `plasmid._core.core`: core.pyx and the whole C core.

The metadata is in pyproject.toml; here are sources and flags. Two environment variables matter:

    PLASMID_BUILD   release (default), debug, asan, tsan, or crash: with crash and pause points
    PLASMID_WERROR  1: a warning in the C core is an error

The C core is compiled as a static library, so that its warning flags are not those of Cython's
generated C, and linked into the extension with its symbols hidden.
"""

from __future__ import annotations

import os
import sys
from glob import glob

from setuptools import Extension, setup

if not sys.platform.startswith("linux") or sys.maxsize < 2**32 or sys.byteorder != "little":
    raise SystemExit(
        "plasmid needs 64-bit little-endian Linux (x86-64 or ARM64): it is built on memfd, futex "
        f"and pidfd. This is {sys.platform}, {sys.maxsize.bit_length() + 1}-bit, "
        f"{sys.byteorder}-endian."
    )

from Cython.Build import cythonize

TEST = ["-O1", "-g", "-fno-omit-frame-pointer", "-UNDEBUG", "-DPM_DEBUG=1"]
MODES = {
    "release": ["-O2"],
    "debug": [*TEST, "-O0"],
    "asan": [*TEST, "-fsanitize=address,undefined", "-fno-sanitize-recover=all"],
    "tsan": [*TEST, "-fsanitize=thread"],
    "crash": [*TEST, "-DPM_CRASH_POINTS=1"],
}
MODE = os.environ.get("PLASMID_BUILD") or "release"
if MODE not in MODES:
    raise SystemExit(f"PLASMID_BUILD={MODE}: not one of {', '.join(MODES)}")

COMMON = ["-std=c11", "-D_GNU_SOURCE", "-fvisibility=hidden", "-pthread", *MODES[MODE]]
WARNINGS = ["-Wall", "-Wextra", "-Wconversion", "-Wno-sign-conversion"]
if os.environ.get("PLASMID_WERROR") == "1":
    WARNINGS.append("-Werror")
SANITIZERS = [flag for flag in MODES[MODE] if flag.startswith("-fsanitize")]
HEADERS = sorted(glob("csrc/*.h"))

core_library = (
    "plasmid_core",
    {
        "sources": sorted(glob("csrc/*.c")),
        "obj_deps": {"": HEADERS},
        "cflags": COMMON + WARNINGS,
    },
)
extension = Extension(
    "plasmid._core.core",
    ["src/plasmid/_core/core.pyx"],
    include_dirs=["csrc"],
    depends=HEADERS + sorted(glob("csrc/*.c")),
    extra_compile_args=COMMON,
    extra_link_args=["-pthread", *SANITIZERS],
)

# Each mode has a folder of its own: an object compiled for one is never linked into another.
BUILD = f"build/{MODE}"

setup(
    libraries=[core_library],
    ext_modules=cythonize([extension], build_dir=f"{BUILD}/cython"),
    options={"build": {"build_base": BUILD}},
)
