"""A progress bar on stderr: rich's or tqdm's where one is installed, else a plain one.

Nothing at all is written when stderr is not a terminal.
"""

from __future__ import annotations

import importlib
import shutil
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext

Advance = Callable[[int], object]
"""Called with how much was done since the last call."""


def progress(label: str, total: int) -> AbstractContextManager[Advance]:
    """Show how far some work of `total` units is: `with progress("copy", 10) as advance: ...`."""
    if not sys.stderr.isatty():
        return nullcontext(lambda _: None)
    for bar in (_rich, _tqdm):
        try:
            return bar(label, total)
        except ImportError:
            continue
    return _plain(label, total)


def _rich(label: str, total: int) -> AbstractContextManager[Advance]:
    rich = importlib.import_module("rich.progress")
    console = importlib.import_module("rich.console").Console(stderr=True)

    @contextmanager
    def bar() -> Iterator[Advance]:
        with rich.Progress(console=console) as shown:
            task = shown.add_task(label, total=total)
            yield lambda done: shown.advance(task, done)

    return bar()


def _tqdm(label: str, total: int) -> AbstractContextManager[Advance]:
    tqdm = importlib.import_module("tqdm").tqdm

    @contextmanager
    def bar() -> Iterator[Advance]:
        with tqdm(desc=label, total=total, unit_scale=True) as shown:
            yield shown.update

    return bar()


@contextmanager
def _plain(label: str, total: int) -> Iterator[Advance]:
    width = max(10, min(40, shutil.get_terminal_size().columns - len(label) - 10))
    done = 0

    def advance(by: int) -> None:
        nonlocal done
        done += by
        share = min(done / total, 1.0) if total else 1.0
        bar = "#" * int(share * width)
        sys.stderr.write(f"\r{label} [{bar:<{width}}] {share:4.0%}")
        sys.stderr.flush()

    advance(0)
    try:
        yield advance
    finally:
        sys.stderr.write("\n")
