"""Numbers in files of the kernel: /proc and control groups. Light enough for the keeper."""

from __future__ import annotations


def read_number(path: str) -> int:
    """The number that a file consists of; 0 if it is another, or there is none."""
    try:
        with open(path, "rb") as file:
            return int(file.read())
    except (OSError, ValueError):
        return 0


def read_values(path: str, *names: bytes) -> list[int]:
    """The numbers behind these words at the beginnings of a file's lines, 0 where there is none."""
    found = dict.fromkeys(names, 0)
    try:
        with open(path, "rb") as file:
            for line in file:
                name, *rest = line.split(None, 2)
                if name in found:
                    found[name] = int(rest[0])
    except (OSError, ValueError, IndexError):
        pass
    return list(found.values())
