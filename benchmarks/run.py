"""Run the benchmarks and print one table: what, to be reached, measured, reached or not.

    python benchmarks/run.py [--only NAME] [--runs N] [--json FILE]

A run starts every contender once, each in a process of its own; contenders of one benchmark follow
each other, so that plasmid and what it is compared with meet the same machine. The table has the
medians over the runs. Status 1: a row could not be measured.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import platform
import statistics
import subprocess
import sys
from collections import defaultdict
from pathlib import Path

from rows import ROWS, Row

HERE = Path(__file__).parent


def main() -> int:
    parser = argparse.ArgumentParser(description="Measure plasmid and print one table.")
    parser.add_argument("--only", metavar="NAME", default="", help="rows with NAME in their name")
    parser.add_argument("--runs", type=int, default=3, help="how often (default: %(default)s)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="append every measurement here")
    args = parser.parse_args()
    rows = [row for row in ROWS if args.only in row.name]
    if not rows:
        names = ", ".join(row.name for row in ROWS)
        parser.error(f"no row has {args.only!r} in its name; there are {names}")

    where = machine()
    print(", ".join(f"{key} {value}" for key, value in where.items()), end="\n\n", flush=True)
    lines = measure(list(dict.fromkeys(row.bench for row in rows)), args.runs)
    if args.json:
        with args.json.open("a") as file:
            file.writelines(json.dumps({**line, **where}) + "\n" for line in lines)
    return print_tables(rows, lines)


def measure(benches: list[str], runs: int) -> list[dict]:
    """Run every contender of the benchmarks `runs` times; all lines they printed."""
    lines = []
    for run in range(runs):
        for bench in benches:
            script = HERE / f"bench_{bench}.py"
            for contender in importlib.import_module(script.stem).CONTENDERS:
                print(f"run {run + 1}/{runs}: {bench}, {contender}", file=sys.stderr)
                done = subprocess.run(
                    [sys.executable, script, contender], stdout=subprocess.PIPE, text=True
                )
                if done.returncode:
                    print(f"{bench}, {contender}: status {done.returncode}", file=sys.stderr)
                measured = [text for text in done.stdout.splitlines() if text.startswith("{")]
                lines += [{"run": run, "bench": bench, **json.loads(text)} for text in measured]
    return lines


def print_tables(rows: list[Row], lines: list[dict]) -> int:
    """Print both tables; 1 if a row could not be measured."""
    found = defaultdict(list)
    for line in lines:
        found[line["metric"], line["contender"]].append(line["value"])
    results = {key: statistics.median(values) for key, values in found.items()}

    status = 0
    print(f"{'':<26}{'what':<42}{'reach':>16}{'measured':>12}  reached")
    for row in rows:
        reach = f"{'≥' if row.at_least else '≤'} {figure(row.reach)} {row.unit}"
        try:
            score = row.score(results)
            measured, reached = figure(score), "yes" if row.reached(score) else "NO"
        except KeyError:
            measured, reached, status = "-", "not measured", 1
        print(f"{row.name:<26}{row.what:<42}{reach:>16}{measured:>12}  {reached}")

    units = {line["metric"]: line["unit"] for line in lines}
    print(f"\n{'measured':<26}{'contender':<16}{'median':>12}{'min':>12}{'max':>12}  of the runs")
    for (metric, contender), values in found.items():
        spread = "".join(f"{figure(f(values)):>12}" for f in (statistics.median, min, max))
        print(f"{metric:<26}{contender:<16}{spread}  {units[metric]}")
    return status


def figure(number: float) -> str:
    """Three figures, or all of a large number's."""
    return f"{number:,.0f}" if abs(number) >= 100 else f"{number:.3g}"


def machine() -> dict[str, str | int]:
    """What the figures depend on."""
    cpuinfo = Path("/proc/cpuinfo").read_text().splitlines()
    models = [line.partition(": ")[2] for line in cpuinfo if line.startswith("model name")]
    git = subprocess.run(
        ["git", "describe", "--always", "--dirty"], cwd=HERE, capture_output=True, text=True
    )
    return {
        "cpus": len(os.sched_getaffinity(0)),
        "of": models[0] if models else platform.machine(),
        "linux": platform.release(),
        "python": platform.python_version(),
        "commit": git.stdout.strip() or "unknown",
    }


if __name__ == "__main__":
    sys.exit(main())
