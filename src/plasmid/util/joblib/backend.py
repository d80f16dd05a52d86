"""joblib's backend interface: each batch of calls is a task."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future
from copy import copy
from typing import Any
from weakref import ref

import numpy as np
from joblib.parallel import AutoBatchingMixin, ParallelBackendBase

from plasmid import api, session
from plasmid.engine import current
from plasmid.remote import remote

SHARED_BYTES = 100_000
"""Arrays of so many bytes are stored once, however many calls they are arguments of."""


class TaskBackend(AutoBatchingMixin, ParallelBackendBase):  # type: ignore[misc]
    """Batches of calls as tasks, which any worker takes.

    ray_remote_args  options of the tasks

    Large arrays among the arguments are stored once for all calls of a `Parallel`, as they are
    when they are first seen, and arrive as read-only views; until the array goes or the `Parallel`
    ends. An error cancels what is left. Calls
    may use joblib themselves: in threads, as with joblib's own processes.

    Processes and threads: belongs to the thread that calls `Parallel`; results come in a thread of
    plasmid's.
    """

    supports_retrieve_callback = True
    uses_threads = False
    supports_sharedmem = False

    def __init__(self, ray_remote_args: dict[str, Any] | None = None, **options: Any) -> None:
        super().__init__(**options)
        self._options = ray_remote_args or {}
        self._start()

    def _start(self) -> None:
        self._task = remote(_run).options(**self._options)
        self._arrays: dict[int, tuple[ref[np.ndarray[Any, Any]], Any]] = {}  # by id, where stored
        self._left: dict[Future[Any], Any] = {}  # futures without a value: their references

    def configure(
        self,
        n_jobs: int | None = 1,
        parallel: Any = None,
        prefer: Any = None,
        require: Any = None,
        ray_remote_args: dict[str, Any] | None = None,
        **options: Any,
    ) -> int:
        """How many batches may run at a time. Starts a session if there is none."""
        if ray_remote_args is not None:
            self._options = ray_remote_args
        self._start()
        self.parallel = parallel
        return self.effective_n_jobs(n_jobs)

    def effective_n_jobs(self, n_jobs: int | None) -> int:
        """As in joblib: -1 is all CPUs of the session, None is 1. ValueError for 0."""
        if n_jobs == 0:
            raise ValueError("n_jobs == 0 in Parallel has no meaning")
        if n_jobs is None:
            return 1
        if n_jobs > 0:
            return n_jobs
        if not current.is_started():
            session.init()
        return max(int(api.cluster_resources()["CPU"]) + 1 + n_jobs, 1)

    def submit(self, func: Any, callback: Callable[[Any], object] | None = None) -> Future[Any]:
        try:
            future = self._begin(func)
        except Exception as error:
            # Not raised here: this may be joblib's callback of another batch, which drops errors.
            future = Future()
            future.set_exception(error)
        if callback is not None:
            future.add_done_callback(callback)
        return future

    def _begin(self, func: Any) -> Future[Any]:
        calls = [self._shared(call) for call in func.items]
        batch = copy(func)
        batch.items = []
        result = self._task.remote(batch, calls)
        future: Future[Any] = result.future()
        self._left[future] = result
        future.add_done_callback(self._left.pop)
        return future

    def retrieve_result_callback(self, out: Future[Any]) -> Any:
        return out.result()

    def abort_everything(self, ensure_ready: bool = True) -> None:
        for result in list(self._left.values()):
            api.cancel(result)
        self.terminate()

    def terminate(self) -> None:
        self._arrays.clear()
        self.reset_batch_stats()

    def _shared(self, call: tuple[Any, Any, Any]) -> tuple[Any, list[Any], dict[str, Any]]:
        function, args, kwargs = call
        given = {name: self._share(value) for name, value in kwargs.items()}
        return function, [self._share(value) for value in args], given

    def _share(self, value: Any) -> Any:
        if type(value) is not np.ndarray or value.nbytes < SHARED_BYTES or value.dtype.hasobject:
            return value
        key, arrays = id(value), self._arrays
        found = arrays.get(key)
        if found is None:
            # The id is no other's until the array goes, and its entry with it.
            gone = ref(value, lambda _: arrays.pop(key, None))
            found = arrays[key] = gone, api.put(value)
        return _Stored(found[1])


class _Stored:
    """In place of an array: where it is stored."""

    def __init__(self, ref: Any) -> None:
        self.ref = ref


def _run(batch: Any, calls: list[tuple[Any, list[Any], dict[str, Any]]]) -> Any:
    """Run joblib's batch on these calls."""
    batch.items = [
        (function, tuple(map(_read, args)), {name: _read(value) for name, value in kwargs.items()})
        for function, args, kwargs in calls
    ]
    return batch()


def _read(value: Any) -> Any:
    return api.get(value.ref) if type(value) is _Stored else value
