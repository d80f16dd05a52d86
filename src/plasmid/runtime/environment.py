"""How many threads numeric libraries start in a worker: Ray's rule.

As many as the task's `num_cpus`, or one, unless the user's environment says something else. One
variable does it: OpenMP, OpenBLAS, MKL, BLIS, numexpr and pyarrow all look at OMP_NUM_THREADS when
they are loaded, each after a variable of its own, so what the user set for one of them still
counts.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import MutableMapping

_VARIABLE = "OMP_NUM_THREADS"


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
