"""util.joblib: joblib's Parallel, and what scikit-learn does with it, on tasks."""

from __future__ import annotations

import multiprocessing
import os
import threading
import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from support import STORE, Gate, run_program

from plasmid.exceptions import ObjectStoreFullError
from plasmid.util.joblib import register, register_ray

joblib = pytest.importorskip("joblib")
Parallel, delayed = joblib.Parallel, joblib.delayed

pytestmark = pytest.mark.usefixtures("session")


@pytest.fixture(autouse=True, params=["plasmid", "ray"])
def backend(request: pytest.FixtureRequest) -> Iterator[None]:
    register()
    with joblib.parallel_config(backend=request.param, n_jobs=-1):
        yield


def square(x: int) -> int:
    return x * x


def pid_of(x: int) -> int:
    time.sleep(0.05)
    return os.getpid()


def test_calls_are_tasks() -> None:
    assert Parallel()(delayed(square)(x) for x in range(200)) == [x * x for x in range(200)]
    assert Parallel()(delayed(lambda x: x + 1)(x) for x in range(3)) == [1, 2, 3]
    assert Parallel()([]) == []
    pids = set(Parallel()(delayed(pid_of)(x) for x in range(8)))
    assert os.getpid() not in pids
    assert len(pids) == 2


def test_how_many_at_a_time() -> None:
    assert joblib.effective_n_jobs(-1) == 2
    assert joblib.effective_n_jobs(-5) == 1
    assert joblib.effective_n_jobs(5) == 5
    with pytest.raises(ValueError, match="no meaning"):
        joblib.effective_n_jobs(0)


def test_as_a_generator() -> None:
    found = Parallel(return_as="generator")(delayed(square)(x) for x in range(50))
    assert next(found) == 0
    assert list(found) == [x * x for x in range(1, 50)]
    unordered = Parallel(return_as="generator_unordered")(delayed(square)(x) for x in range(50))
    assert sorted(unordered) == [x * x for x in range(50)]


def test_an_error_ends_the_rest(gate: Gate) -> None:
    def step(x: int) -> None:
        if x == 1:
            raise KeyError("one")
        gate.wait()

    with pytest.raises(KeyError, match="one"):
        Parallel(batch_size=1, pre_dispatch="all")(delayed(step)(x) for x in range(20))
    assert Parallel()(delayed(square)(x) for x in range(3)) == [0, 1, 4]


def test_a_timeout_is_kept(gate: Gate) -> None:
    with pytest.raises(multiprocessing.TimeoutError):
        Parallel(timeout=0.2)(delayed(gate.wait)() for _ in range(2))


def test_what_cannot_be_pickled_is_told() -> None:
    with pytest.raises(TypeError, match="cannot pickle"):
        Parallel()(delayed(square)(threading.Lock()) for _ in range(2))


def test_a_large_array_is_stored_once() -> None:
    array = np.arange(1_000_000)

    def look(given: np.ndarray[Any, Any], *, again: np.ndarray[Any, Any]) -> tuple[Any, ...]:
        assert np.shares_memory(given, again)
        assert not given.flags.writeable
        assert given[-1] == 999_999
        return os.getpid(), given.ctypes.data

    found = Parallel(batch_size=1, pre_dispatch="all")(
        delayed(look)(array, again=array) for _ in range(20)
    )
    assert len(set(found)) == len({pid for pid, _ in found})


def test_calls_that_use_it_themselves() -> None:
    def nested(x: int) -> int:
        return sum(Parallel(n_jobs=2)(delayed(square)(y) for y in range(x)))

    assert Parallel()(delayed(nested)(x) for x in range(6)) == [0, 0, 1, 5, 14, 30]


def test_options_of_the_tasks() -> None:
    with joblib.parallel_config(backend="plasmid", n_jobs=2, ray_remote_args={"num_cpus": 2}):
        began = time.monotonic()
        Parallel(batch_size=1)(delayed(time.sleep)(0.1) for _ in range(4))
        assert time.monotonic() - began >= 0.4  # one at a time


def test_a_search_of_scikit_learn() -> None:
    datasets = pytest.importorskip("sklearn.datasets")
    from sklearn.model_selection import GridSearchCV
    from sklearn.svm import SVC

    x, y = datasets.load_iris(return_X_y=True)
    grid = {"C": [0.1, 1, 10], "gamma": [0.1, 1]}
    search = GridSearchCV(SVC(), grid, cv=3).fit(x, y)
    with joblib.parallel_config(backend="sequential"):
        alone = GridSearchCV(SVC(), grid, cv=3).fit(x, y)
    assert search.best_params_ == alone.best_params_
    assert search.best_score_ == alone.best_score_


def test_it_starts_a_session(no_session: None) -> None:
    out, _ = run_program(
        """
        import joblib
        from plasmid.util.joblib import register_ray
        register_ray()
        with joblib.parallel_backend("ray"):
            print(joblib.Parallel(n_jobs=2)(joblib.delayed(abs)(x) for x in (-1, -2)))
        """
    )
    assert out == "[1, 2]\n"
    assert register_ray is register


def test_stored_arrays_go_with_their_originals() -> None:
    items, calls = STORE // 100 // 8, 300  # three times the store
    found = Parallel(batch_size=1)(delayed(np.sum)(np.full(items, n)) for n in range(calls))
    assert found == [items * n for n in range(calls)]


def test_what_does_not_fit_into_the_store_is_raised_wherever_it_is_met() -> None:
    """Among the first batches, or in the thread that tells of one that has ended."""
    for last in (1, 50):
        sizes = [1000] * last + [STORE // 8]
        with pytest.raises(ObjectStoreFullError):
            Parallel(batch_size=1)(delayed(len)(np.ones(size)) for size in sizes)
    assert Parallel()(delayed(square)(x) for x in range(3)) == [0, 1, 4]
