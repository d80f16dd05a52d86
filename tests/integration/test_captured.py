"""Functions that carry large values with them."""

from __future__ import annotations

import re
import warnings
from typing import Any

import numpy as np
import pytest
from support import run_program

import plasmid

pytestmark = pytest.mark.usefixtures("session")


def carrying(nbytes: int) -> Any:
    data = np.ones(nbytes, dtype=np.uint8)

    @plasmid.remote
    def large() -> int:
        return len(data)

    return large


def test_a_large_captured_value_is_warned_about_once_where_the_task_is_submitted() -> None:
    large = carrying(10_100_000)
    message = "The remote function test_captured.large is very large (9 MiB). Check that its"
    with pytest.warns(UserWarning, match=re.escape(message)) as told:
        assert plasmid.get(large.remote()) == 10_100_000
    assert told[0].filename == __file__
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert plasmid.get(large.remote()) == 10_100_000
        assert plasmid.get(carrying(9_900_000).remote()) == 9_900_000


def test_a_very_large_captured_value_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ValueError, match=r"too large \(95 MiB > FUNCTION_SIZE_ERROR_THRESHOLD=95 "):
        carrying(100_100_000).remote()
    monkeypatch.setenv("FUNCTION_SIZE_ERROR_THRESHOLD", "15000000")
    with pytest.raises(ValueError, match=r"too large \(15 MiB > FUNCTION_SIZE_ERROR_THRESHOLD=14 "):
        carrying(16_000_000).remote()


def test_what_a_task_captures_is_told_where_the_driver_prints_what_tasks_say() -> None:
    _, err = run_program(
        """
        import plasmid
        plasmid.init(num_cpus=1, object_store_memory=64 << 20)

        @plasmid.remote
        def outer():
            data = bytes(11_000_000)
            return plasmid.get(plasmid.remote(lambda: len(data)).remote())

        assert plasmid.get(outer.remote()) == 11_000_000
        plasmid.shutdown()
        """
    )
    assert err.count("is very large (10 MiB)") == 1
