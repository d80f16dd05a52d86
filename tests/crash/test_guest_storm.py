"""Thousands of programs that join one session, use it in every way, and are killed at random.

Each puts, gets, frees, nests references, makes arrays in place, looks at views and names objects,
and verifies the checksum of everything that it reads, until SIGKILL ends it some milliseconds
later. At the end nothing is left: no client, object, hold, name or byte. 20,000 kills by

    pytest --slow tests/crash/test_guest_storm.py

and fewer without --slow.
"""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

import plasmid
from plasmid._core import core
from plasmid.engine import current
from plasmid.runtime import names
from processes import Processes, until

BREEDER = '''
import json, os, random, signal, sys, time, zlib
import numpy as np
from contextlib import suppress
from plasmid._core import core
from plasmid.engine import current, packing
from plasmid.engine.local import LocalEngine
from plasmid.exceptions import ObjectExistsError, ObjectLostError, ObjectStoreFullError
from plasmid.runtime import handover, names
import plasmid

address, seed, kills = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
arena_fd, bell, driver = handover.join(address)
rng = random.Random(seed)


def stamped(rng, nbytes):
    data = np.frombuffer(rng.randbytes(nbytes), np.uint8)
    return [data, zlib.crc32(data)]


def verify(stamp):
    data, crc = stamp
    assert zlib.crc32(data) == crc, "wrong bytes"


def size(rng):
    return rng.choice((10, 150, 1000, 20_000, 70_000, 300_000))


def step(rng, held):
    """One use of the session; `held` is what this process keeps."""
    kind = rng.randrange(9)
    if kind == 0:
        held.append(plasmid.put(stamped(rng, size(rng))))
    elif kind == 1 and held:
        held.append(plasmid.put([stamped(rng, size(rng)), rng.sample(held, min(3, len(held)))]))
    elif kind == 2:
        made = plasmid.empty(size(rng), np.uint8)
        made[:] = np.frombuffer(rng.randbytes(made.size), np.uint8)
        crc = zlib.crc32(made)
        held.append(plasmid.put([made, crc]))
    elif kind == 3:
        name = f"name {rng.randrange(8)}"
        lifetime = rng.choice(("session", "detached", 0.01))
        plasmid.put(stamped(rng, size(rng)), name=name, lifetime=lifetime)
    elif kind == 4:
        ref = plasmid.get_object(f"name {rng.randrange(8)}")
        held += [ref, plasmid.get(ref, writable=rng.random() < 0.3)]
    elif kind == 5:
        plasmid.delete_object(f"name {rng.randrange(8)}")
    elif kind == 6 and held:
        del held[rng.randrange(len(held))]
    elif kind == 7 and held:
        chosen = rng.choice(held)
        if isinstance(chosen, plasmid.ObjectRef):
            plasmid.free(chosen)
    elif held:
        look(rng.choice(held), held)
    del held[: max(0, len(held) - 30)]


def look(chosen, held):
    value = plasmid.get(chosen) if isinstance(chosen, plasmid.ObjectRef) else chosen
    first, second = value
    if isinstance(second, list):
        verify(first)
        for inner in second:
            if isinstance(inner, plasmid.ObjectRef):
                held.append(inner)
    else:
        verify(value)
        held.append(value)
        held.append(plasmid.put(value))


def live(seed):
    """What one program does until it is killed."""
    rng, held = random.Random(seed), []
    try:
        arena = core.Arena.attach(arena_fd, core.GUEST, driver, bell)
        current.set_engine(LocalEngine(arena, is_guest=True))
        while True:
            with suppress(ObjectExistsError, ObjectLostError, ObjectStoreFullError):
                step(rng, held)
    except BaseException:
        import traceback

        traceback.print_exc()
        os._exit(1)


started = time.monotonic()
for n in range(kills):
    pid = os.fork()
    if pid == 0:
        live(seed * 1_000_000 + n)
    time.sleep(rng.choice((0.0, 0.001, 0.002, 0.004, 0.008, 0.02)))
    os.kill(pid, signal.SIGKILL)
    _, status = os.waitpid(pid, 0)
    if os.waitstatus_to_exitcode(status) != -signal.SIGKILL:
        sys.exit(f"program {seed * 1_000_000 + n} failed")
print(json.dumps({"kills": kills, "seconds": time.monotonic() - started}))
'''


def guests(session: Processes) -> list[core.Client]:
    return [client for client in session.arena.clients() if client.kind == core.GUEST]


def storm(session: Processes, kills: int) -> None:
    arena = session.arena
    address = current.get_engine().address_info()["address"]
    before = arena.stats()
    breeders = [
        subprocess.Popen(
            [sys.executable, "-c", BREEDER, address, str(seed), str(kills // 3)],
            stdout=subprocess.PIPE,
            text=True,
        )
        for seed in range(3)
    ]
    told = []
    for breeder in breeders:
        out, _ = breeder.communicate()
        assert breeder.returncode == 0
        told.append(json.loads(out))
    killed = sum(each["kills"] for each in told)
    seconds = max(each["seconds"] for each in told)
    print(f"{killed} kills in {seconds:.0f} s, {killed / seconds:.0f} a second")
    assert killed >= kills // 3 * 3
    until(lambda: not guests(session), lambda: f"guests are left: {guests(session)}", 20)
    for name in names.live(arena):
        plasmid.delete_object(name)
    names.clear(arena)
    arena.check()
    until(lambda: arena.stats()["entries"] <= before["entries"], arena.dump)
    after = arena.stats()
    for what in ("entries", "holds", "keys", "tasks", "heap_used"):
        assert after[what] <= before[what], f"{what}: {before[what]} before, {after[what]} after"


@pytest.mark.timeout(300)
def test_programs_are_killed_at_random(session: Processes) -> None:
    storm(session, 300)


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_twenty_thousand_programs_are_killed_at_random(session: Processes) -> None:
    storm(session, 20_100)
