"""Free memory of the store goes back to the machine when nobody has used it for a while."""

from __future__ import annotations

import time

import numpy as np
import pytest
from support import backed, until

import plasmid

MB = 1 << 20
STORE = 512 * MB


@plasmid.remote
def twice(array: np.ndarray) -> np.ndarray:  # type: ignore[type-arg]
    return array * 2


def test_it_goes_and_comes_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PLASMID_WARM_SECONDS", "0.3")
    plasmid.init(num_cpus=1, object_store_memory=STORE)
    kept = plasmid.put(np.arange(4 * MB))
    for _ in range(3):  # also where processes had mapped what went
        refs = [twice.remote(plasmid.put(np.full(4 * MB, n))) for n in range(4)]
        assert [int(plasmid.get(ref)[-1]) for ref in refs] == [0, 2, 4, 6]
        assert backed() > 150 * MB
        del refs
        until(lambda: backed() < 150 * MB, lambda: f"{backed() / MB} MB are left")
        assert int(plasmid.get(kept)[-1]) == 4 * MB - 1
    assert (plasmid.get(kept) == np.arange(4 * MB)).all()


def test_not_while_objects_are_made(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PLASMID_WARM_SECONDS", "1")
    plasmid.init(num_cpus=1, object_store_memory=STORE)
    plasmid.put(np.zeros(200 * MB, dtype=np.uint8))
    had = backed()
    until_when = time.monotonic() + 2.5
    while time.monotonic() < until_when:
        plasmid.put(bytes(1000))
        time.sleep(0.05)
    assert backed() >= had


def test_never(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PLASMID_WARM_SECONDS", "inf")
    plasmid.init(num_cpus=1, object_store_memory=STORE)
    plasmid.put(np.zeros(200 * MB, dtype=np.uint8))
    had = backed()
    time.sleep(0.5)
    assert backed() >= had


@pytest.mark.parametrize("value", ["soon", "-1", "nan"])
def test_a_wrong_setting_is_refused(monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    monkeypatch.setenv("PLASMID_WARM_SECONDS", value)
    with pytest.raises(ValueError, match=f"PLASMID_WARM_SECONDS is '{value}'"):
        plasmid.init(num_cpus=1, object_store_memory=STORE)
    assert not plasmid.is_initialized()
