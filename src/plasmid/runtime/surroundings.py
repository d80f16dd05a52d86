"""Entering an environment: what `runtime_env` says becomes true in a worker, for the rest of its
life.

Programs that tasks start inherit all of it: variables, the working folder, and PYTHONPATH for what
the tasks can import. What a library or the interpreter has read when it was loaded does not change:
of numpy, pyarrow and pandas, which workers are forked with if the program had imported them before
init, that is OMP_NUM_THREADS, for example.
"""

from __future__ import annotations

import os
import re
import sys

from plasmid.exceptions import RuntimeEnvSetupError
from plasmid.runtime.environment import ThreadLimit, devices
from plasmid.runtime_env import import_paths

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_PYTHONPATH = "PYTHONPATH"


def enter(fields: dict[str, Any], threads: ThreadLimit) -> list[str]:
    """Enter a checked environment; what is first on sys.path now. RuntimeEnvSetupError, with
    nothing changed, if a folder or file that it names is gone."""
    paths = import_paths(fields)
    folder = fields.get("working_dir")
    for path in [*paths, *fields.get("py_modules", ())]:
        if not os.path.exists(path):
            raise RuntimeEnvSetupError(f"runtime_env: there is no {path!r} any more")
    if folder is not None:
        try:
            os.chdir(folder)
        except OSError as error:
            raise RuntimeEnvSetupError(
                f"runtime_env: the task cannot work in {folder!r}: {error}"
            ) from error
    variables = fields.get("env_vars", {})
    for name, value in variables.items():
        os.environ[name] = _expanded(value)
    threads.leave_to(variables)
    devices.leave_to(variables)
    asked = os.environ[_PYTHONPATH].split(os.pathsep) if _PYTHONPATH in variables else []
    paths += [path for path in asked if path and path not in paths]
    sys.path[:0] = paths
    if paths:
        inherited = os.environ.get(_PYTHONPATH, "").split(os.pathsep)
        others = [path for path in inherited if path and path not in paths]
        os.environ[_PYTHONPATH] = os.pathsep.join([*paths, *others])
    return paths


def _expanded(value: str) -> str:
    """With the values of variables in it, as in Ray: $NAME and ${NAME}; of those that are not set
    ${NAME} is nothing."""
    return re.sub(r"\$\{[A-Z0-9_]+\}", "", os.path.expandvars(value))
