"""Memory of the store is made ahead of large objects, and of huge pages if that is asked for."""

from __future__ import annotations

import os
import warnings

import numpy as np
import pytest
from support import backed, until

import plasmid

MB = 1 << 20
STORE = 512 * MB


@pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="there is one CPU: nothing is made")
def test_memory_is_made_ahead_and_goes_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PLASMID_WARM_SECONDS", "0.5")
    plasmid.init(num_cpus=1, object_store_memory=STORE)
    had = backed()
    ref = plasmid.put(np.full(32 * MB, 7, np.uint8))
    until(lambda: backed() >= had + 150 * MB, lambda: f"{(backed() - had) / MB} MB more")
    until(lambda: backed() < had + 110 * MB, lambda: f"{(backed() - had) / MB} MB more")
    assert (plasmid.get(ref) == 7).all()


def test_a_session_that_puts_nothing_large_has_nothing_made() -> None:
    plasmid.init(num_cpus=1, object_store_memory=STORE)
    had = backed()
    refs = [plasmid.put(np.full(MB, n, np.uint8)) for n in range(10)]
    assert backed() <= had + 12 * MB
    assert [int(plasmid.get(ref)[-1]) for ref in refs] == list(range(10))


@pytest.mark.parametrize("ends", ["shutdown", "trim"])
def test_huge_pages(monkeypatch: pytest.MonkeyPatch, ends: str) -> None:
    """Where the machine has none, a warning says so, and all works as without."""

    @plasmid.remote
    def total(array: np.ndarray) -> int:  # type: ignore[type-arg]
        return int(array.sum())

    @plasmid.remote
    def made(n: int) -> np.ndarray:  # type: ignore[type-arg]
        return np.full(20 * MB, n, np.uint8)

    monkeypatch.setenv("PLASMID_HUGE_PAGES", "1")
    monkeypatch.setenv("PLASMID_WARM_SECONDS", "0.3" if ends == "trim" else "60")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        plasmid.init(num_cpus=2, object_store_memory=STORE)
    refs = [plasmid.put(np.full(20 * MB, n, np.uint8)) for n in range(5)]
    assert plasmid.get([total.remote(ref) for ref in refs]) == [20 * MB * n for n in range(5)]
    results = [made.remote(n) for n in range(5)]
    assert [int(plasmid.get(ref).sum()) for ref in results] == [20 * MB * n for n in range(5)]
    kept = refs[3]
    del refs, results
    if ends == "trim":
        until(lambda: backed() < 150 * MB, lambda: f"{backed() / MB} MB are left")
    again = plasmid.put(np.full(50 * MB, 9, np.uint8))
    assert (plasmid.get(kept) == 3).all()
    assert (plasmid.get(again) == 9).all()
