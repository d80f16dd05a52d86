"""How many threads numeric libraries start in a worker: Ray's rule.

As many as the task's `num_cpus`, or one, unless the user's environment says something else. One
variable does it: OpenMP, OpenBLAS, MKL, BLIS, numexpr and pyarrow all look at OMP_NUM_THREADS when
they are loaded, each after a variable of its own, so what the user set for one of them still
counts.
"""

from __future__ import annotations

import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, MutableMapping

_VARIABLE = "OMP_NUM_THREADS"
_DEVICES = "CUDA_VISIBLE_DEVICES"


class ThreadLimit:
    """The variable in one process's environment. Leaves it alone for ever if the user had set it.

    Processes and threads: one per process, made before numeric libraries are loaded; called by the
    thread that runs tasks. Libraries read the variable when they are loaded: a later `set` counts
    for those that are not, and for programs that a task starts.
    """

    def __init__(self, environ: MutableMapping[str, str]) -> None:
        self._environ = environ
        self._ours = _VARIABLE not in environ
        self._cpus = 0.0
        self.set(1)

    def set(self, num_cpus: float) -> None:
        """Before a task that asked for `num_cpus`; costs nothing if the last one asked for the
        same."""
        if num_cpus != self._cpus and self._ours:
            self._cpus = num_cpus
            self._environ[_VARIABLE] = str(max(1, int(num_cpus)))

    def leave_to(self, variables: Mapping[str, str]) -> None:
        """Leave it alone from now on, if it is one of these, which the user has set."""
        self._ours = self._ours and _VARIABLE not in variables


class VisibleDevices:
    """CUDA_VISIBLE_DEVICES of a process that runs tasks: the GPUs that the task holds.

    A task without GPUs finds what the session was started with, as in Ray, or nothing with
    RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO=1. RAY_EXPERIMENTAL_NOSET_CUDA_VISIBLE_DEVICES=1: the
    variable is left alone.

    Processes and threads: made while the environment is still the session's; `set` is called by the
    thread that runs tasks.
    """

    def __init__(self, environ: MutableMapping[str, str]) -> None:
        self._environ = environ
        self._given = environ.get(_DEVICES)
        self._names = None if self._given is None else self._given.split(",")
        self._hides = environ.get("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "") in ("1", "true")
        self._sets = environ.get("RAY_EXPERIMENTAL_NOSET_CUDA_VISIBLE_DEVICES", "") in ("", "0")

    def ids(self, mask: int) -> list[int] | list[str]:
        """Of the devices in `mask`: their names where the variable was set, else their numbers."""
        numbers = [number for number in range(mask.bit_length()) if mask >> number & 1]
        if self._names is None:
            return numbers
        return [self._names[number] for number in numbers]

    def leave_to(self, variables: Mapping[str, str]) -> None:
        """A task without GPUs finds what these say from now on, which the user has set."""
        self._given = variables.get(_DEVICES, self._given)
        self._hides = self._hides and _DEVICES not in variables

    def set(self, mask: int) -> None:
        """Before a task that holds these devices."""
        if not self._sets:
            return
        if mask or self._hides:
            self._environ[_DEVICES] = ",".join(map(str, self.ids(mask)))
        elif self._given is None:
            self._environ.pop(_DEVICES, None)
        else:
            self._environ[_DEVICES] = self._given


devices = VisibleDevices(os.environ)
"""Of this process; a worker is forked with that of the session."""
