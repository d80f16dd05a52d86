"""What is in the store, and who keeps it there."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from typing import Any

import numpy as np
import pytest
from support import Gate, arena, run_program, until

import plasmid
from plasmid import _tables
from plasmid._private.internal_api import memory_summary
from plasmid.engine import current, memory

pytestmark = pytest.mark.usefixtures("session")

MB = 1 << 20


def find(report: dict[str, Any], ref: Any) -> dict[str, Any]:
    (found,) = [each for each in report["objects"] if each["id"] == ref.hex()]
    return found  # type: ignore[no-any-return]


def test_an_object_is_listed_with_who_holds_and_pins_it(gate: Gate) -> None:
    @plasmid.remote
    def look(array: Any, gate: Gate) -> int:
        gate.wait()
        return os.getpid()

    ref = plasmid.put(np.arange(MB))
    view = plasmid.get(ref)
    box = plasmid.put([ref])
    task = look.remote(ref, gate)
    gate.await_arrivals(1)
    report = memory.survey(arena())
    found = find(report, ref)
    assert found["state"] == "sealed"
    assert found["where"] == "heap"
    assert found["type"] == "numpy array"
    assert found["bytes"] >= found["size"] >= view.nbytes
    held = "; ".join(found["held_by"])
    assert f"driver {os.getpid()}, 1 views" in held
    assert "worker" in held
    assert f"contained in {box.hex()}" in held
    assert "tasks" in held
    assert os.getpid() in found["pinned_by"]
    assert find(report, task)["state"] == "pending look()"
    gate.open()
    plasmid.get(task)


def test_totals_add_up() -> None:
    kept = [plasmid.put(np.arange(size)) for size in (5, 500, 50_000)]
    until(lambda: arena().stats()["tasks"] == 0, "tasks are left")
    totals = memory.survey(arena())["totals"]
    assert totals["object_bytes"] == totals["used_bytes"]
    assert totals["task_table_bytes"] == 0
    assert 0 <= totals["fragmentation"] <= 1
    parts = totals["used_bytes"], totals["spare_bytes"], totals["free_bytes"]
    assert sum(parts) == totals["store_bytes"]
    assert min(parts) > 0
    assert totals["largest_free_block"] <= totals["free_bytes"]
    del kept


def test_a_reference_contained_twice_is_no_task() -> None:
    ref = plasmid.put(np.arange(MB))
    boxes = [plasmid.put([ref, [ref]]), plasmid.put((ref,))]
    held = find(memory.survey(arena()), ref)["held_by"]
    assert sorted(held[1:]) == sorted(f"contained in {box.hex()}" for box in boxes)


def test_ten_thousand_objects_are_a_short_table() -> None:
    kept = [plasmid.put(i) for i in range(9_000)]
    kept += [plasmid.put(np.arange(30 + i)) for i in range(1_000)]
    report = memory.survey(arena())
    text = memory.as_text(report, 10)
    assert text.count("\n") < 20
    assert f"... and {len(report['objects']) - 10:,} more objects" in text
    largest = memory.table(report, 10)[1]
    nbytes = [int(row[1].replace(",", "")) for row in largest]
    assert nbytes == sorted(nbytes, reverse=True)
    assert "numpy array" in {row[4] for row in largest}
    by_type = memory.table(report, 9_990, "type")[1]
    assert [row[4] for row in by_type] == sorted(row[4] for row in by_type)
    counted = {row[0]: int(row[1].replace(",", "")) for row in memory.groups(report, 9, "type")[1]}
    assert counted["small value"] >= 9_000
    assert counted["numpy array"] >= 1_000
    assert sum(counted.values()) == len(report["objects"])
    ((holder, *_), *_) = memory.groups(report, 1, "holder")[1]
    assert holder == f"driver {os.getpid()}"
    del kept


def test_names_and_freed_objects_show() -> None:
    ref = plasmid.put([1, 2], name="numbers")
    freed = plasmid.put(np.zeros(MB))
    view = plasmid.get(freed)
    plasmid.free(freed)
    report = memory.survey(arena())
    assert "name 'numbers'" in find(report, ref)["held_by"]
    assert find(report, freed)["state"] == "freed"
    assert find(report, freed)["where"] == "heap"
    del view
    assert find(memory.survey(arena()), freed)["where"] == "gone"
    plasmid.delete_object("numbers")


def test_cycles_are_found() -> None:
    a, b, c, d = (bytes([i]) for i in range(4))
    assert memory._cycles({a: [b], b: [c, d], c: [a], d: []}) == [[a, b, c]]
    assert memory._cycles({a: [b, c], b: [c], c: [d]}) == []
    chain = {i.to_bytes(3, "big"): [(i + 1).to_bytes(3, "big")] for i in range(100_000)}
    assert memory._cycles(chain) == []


def test_the_summary_is_text() -> None:
    ref = plasmid.put(np.arange(MB))
    text = memory_summary()
    assert ref.hex()[32:] in text
    assert "numpy array" in text
    assert "fragmentation" in text
    stats = memory_summary(stats_only=True)
    assert "fragmentation" in stats
    assert ref.hex()[32:] not in stats


def test_only_the_objects_that_are_shown_are_looked_into(monkeypatch) -> None:
    refs = [plasmid.put(np.zeros(20_000)) for _ in range(50)]
    outer = plasmid.put([refs, np.zeros(50_000)])
    looked_into: list[object] = []
    look = memory._type_of
    monkeypatch.setattr(memory, "_type_of", lambda *of: looked_into.append(of) or look(*of))
    report = memory.survey(arena(), 3)
    assert len(looked_into) == len(report["objects"]) == 3
    assert report["objects"][0]["id"] == outer.hex()
    assert f"contained in {outer.hex()}" in report["objects"][1]["held_by"]
    assert report["totals"]["objects"] >= 51
    assert f"... and {report['totals']['objects'] - 3} more objects" in memory.as_text(report, 3)


def test_a_shell_shows_it_too() -> None:
    ref = plasmid.put(np.arange(MB), name="numbers")
    address = current.get_engine().address_info()["address"]
    command = [sys.executable, "-m", "plasmid", "memory", "--address", address]
    shown = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert "name 'numbers'" in shown
    found = json.loads(subprocess.check_output([*command, "--json"]))
    assert find(found, ref)["type"] == "numpy array"
    grouped = subprocess.check_output([*command, "--group-by", "state"], text=True)
    assert re.search(r"^sealed +[0-9]", grouped, re.MULTILINE)
    plasmid.delete_object("numbers")


@pytest.mark.parametrize("has_rich", [False, True])
def test_a_terminal_shows_it_too(has_rich: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """By rich where it is installed."""
    shown: list[Any] = []
    if has_rich:
        pytest.importorskip("rich")
        monkeypatch.setattr("rich.console.Console.print", lambda _, table: shown.append(table))
    else:
        monkeypatch.setitem(sys.modules, "rich", None)
        monkeypatch.setitem(sys.modules, "rich.text", None)
        monkeypatch.setattr("builtins.print", shown.append)
    monkeypatch.setattr("sys.stdout.isatty", lambda: True, raising=False)
    _tables.show(["name", ">bytes"], [["[bold]x", "1,000"], ["y", "2"]])
    (table,) = shown
    if has_rich:
        assert table.row_count == 2
        assert [str(cell) for cell in table.columns[0].cells] == ["[bold]x", "y"]
    else:
        assert table == "name     bytes\n[bold]x  1,000\ny            2"


def test_call_sites_are_recorded_on_request() -> None:
    run_program(
        """
        import os
        os.environ["PLASMID_RECORD_CALL_SITES"] = "1"
        import plasmid
        from plasmid.engine import current, memory
        plasmid.init(address="local", num_cpus=1, object_store_memory=50_000_000)

        def store():
            return plasmid.put(5), plasmid.put(bytes(1000))

        @plasmid.remote
        def make():
            return bytes(1000)

        refs = [*store(), make.remote()]
        assert plasmid.get(refs) == [5, bytes(1000), bytes(1000)]
        report = memory.survey(current.engine._arena)
        sites = {each["id"]: each["site"] for each in report["objects"]}
        for ref in refs[:2]:
            assert sites[ref.hex()] == "<string>:9 store", sites
        assert sites[refs[2].hex()] == "result of make()"
        assert "<string>:9 store" in memory.as_text(report)
        """
    )
