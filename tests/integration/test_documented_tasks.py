"""Programs as a reader of Ray's documentation on tasks would write them, with `import ray` meaning
plasmid by a hook of the environment. Each is a process of its own, and judges itself.

They run unchanged with Ray 2.60, too.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from support import run_program

import plasmid

HOOK = """
import importlib, sys
from importlib.machinery import ModuleSpec

class Hook:
    def find_spec(self, name, path=None, target=None):
        return ModuleSpec(name, self) if name.split(".")[0] == "ray" else None

    def create_module(self, spec):
        module = importlib.import_module("plasmid" + spec.name[3:])
        self.spec = module.__spec__
        return module

    def exec_module(self, module):
        module.__spec__ = self.spec

sys.meta_path.insert(0, Hook())
"""

PROGRAMS: dict[str, str] = {}

# -- tasks ----------------------------------------------------------------------------------------

PROGRAMS["a function in the background"] = """
import ray

@ray.remote
def answer(a, b=40):
    return a + b

ref = answer.remote(2)
assert ray.get(ref) == 42
assert ray.get([answer.remote(i, b=i) for i in range(20)]) == [2 * i for i in range(20)]
"""

PROGRAMS["decorated before init, called after"] = """
import ray
from math import prod

multiply = ray.remote(lambda *numbers: prod(numbers))

@ray.remote(num_cpus=0.5, max_retries=1)
def square(x):
    "The square."
    return x * x

assert not ray.is_initialized()
ray.init(num_cpus=2)
assert ray.is_initialized()
assert ray.get(multiply.remote(2, 3, 7)) == 42
assert ray.get(square.options(name="mine", num_cpus=1).remote(6)) == 36
try:
    square(6)
except TypeError as error:
    assert "remote" in str(error)
else:
    raise SystemExit("it could be called")
ray.shutdown()
assert not ray.is_initialized()
ray.shutdown()
ray.init(num_cpus=1)
assert ray.get(square.remote(3)) == 9
"""

PROGRAMS["references as arguments"] = """
import ray

@ray.remote
def produce(x):
    return x

@ray.remote
def add(a, b, *more, scale=1):
    assert all(isinstance(value, int) for value in (a, b, *more, scale))
    return (a + b + sum(more)) * scale

first, second = produce.remote(1), produce.remote(2)
total = add.remote(first, second, ray.put(3), scale=produce.remote(10))
assert ray.get(total) == 60
assert ray.get(add.remote(total, total)) == 120
"""

PROGRAMS["references inside of values stay references"] = """
import ray

@ray.remote
def kinds(direct, listed, named):
    assert isinstance(direct, str)
    assert isinstance(listed[0], ray.ObjectRef)
    assert isinstance(named["ref"], ray.ObjectRef)
    return ray.get(listed[0]) + ray.get(named["ref"])

a, b = ray.put("a"), ray.put("b")
assert ray.get(kinds.remote(a, [a], named={"ref": b})) == "ab"

@ray.remote
def made_inside():
    return [ray.put(i) for i in range(3)]

assert ray.get(ray.get(made_inside.remote())) == [0, 1, 2]
"""

PROGRAMS["several results"] = """
import ray

@ray.remote(num_returns=3)
def three():
    return 1, [2], {"three": 3}

a, b, c = three.remote()
assert ray.get([a, b, c]) == [1, [2], {"three": 3}]

@ray.remote(num_returns=2)
def parts():
    for i in range(2):
        yield i * 10

assert ray.get(parts.remote()) == [0, 10]

@ray.remote(num_returns=0)
def nothing():
    pass

assert nothing.remote() is None

@ray.remote(num_returns=2)
def too_few():
    return (1,)

refs = too_few.remote()
for ref in refs:
    try:
        ray.get(ref)
    except ValueError:
        continue
    raise SystemExit("a result is missing, and nobody noticed")
"""

PROGRAMS["results as they come"] = """
import random, time
import ray

ray.init(num_cpus=2)

@ray.remote
def work(i):
    time.sleep(random.random() / 100)
    return i

pending, seen = [work.remote(i) for i in range(30)], []
while pending:
    ready, pending = ray.wait(pending, num_returns=min(4, len(pending)), timeout=60)
    seen += ray.get(ready)
assert sorted(seen) == list(range(30))

@ray.remote
def slow():
    time.sleep(60)

stuck, done = slow.remote(), work.remote(1)
ready, rest = ray.wait([stuck, done], timeout=50)
assert (ready, rest) == ([done], [stuck])
assert ray.wait([stuck], timeout=0) == ([], [stuck])
try:
    ray.get(stuck, timeout=0.1)
except ray.exceptions.GetTimeoutError as error:
    assert isinstance(error, TimeoutError)
else:
    raise SystemExit("it did not take its time")
"""

PROGRAMS["one object for many tasks"] = """
import numpy as np
import ray

@ray.remote
def total(array, part):
    assert not array.flags.writeable
    return float(array[part::4].sum())

ref = ray.put(np.ones(400_000))
assert sum(ray.get([total.remote(ref, i) for i in range(4)])) == 400_000

@ray.remote
def spoil(array):
    array[0] = 2

try:
    ray.get(spoil.remote(ref))
except ValueError as error:
    assert "read-only" in str(error)
else:
    raise SystemExit("what was put could be changed")
"""

PROGRAMS["asyncio and concurrent.futures"] = """
import asyncio, concurrent.futures
import ray

@ray.remote
def double(x):
    if x < 0:
        raise ValueError(x)
    return 2 * x

async def main():
    assert await double.remote(1) == 2
    assert await asyncio.gather(*[double.remote(i) for i in range(5)]) == [0, 2, 4, 6, 8]
    done, late = await asyncio.wait([asyncio.wrap_future(double.remote(3).future())])
    assert [task.result() for task in done] == [6] and not late
    try:
        await double.remote(-1)
    except ValueError:
        return "raised"

assert asyncio.run(main()) == "raised"
futures = [double.remote(i).future() for i in range(4)]
assert sorted(f.result() for f in concurrent.futures.as_completed(futures)) == [0, 2, 4, 6]
"""

# -- tasks in tasks -------------------------------------------------------------------------------

PROGRAMS["tasks that submit tasks"] = """
import ray

ray.init(num_cpus=2)

@ray.remote
def leaf(x):
    return x + 1

@ray.remote
def refs_of_leaves(n):
    return [leaf.remote(i) for i in range(n)]

@ray.remote
def sum_of_leaves(n):
    return sum(ray.get([leaf.remote(i) for i in range(n)]))

inner = ray.get(refs_of_leaves.remote(4))
assert all(isinstance(ref, ray.ObjectRef) for ref in inner)
assert ray.get(inner) == [1, 2, 3, 4]
assert ray.get([sum_of_leaves.remote(4) for _ in range(6)]) == [10] * 6
"""

PROGRAMS["a blocked task lends its CPU, at any depth"] = """
import ray

ray.init(num_cpus=1)

@ray.remote
def depth(n):
    return 0 if n == 0 else 1 + ray.get(depth.remote(n - 1))

@ray.remote(num_cpus=1)
def all_at_once(n):
    ready, _ = ray.wait([depth.remote(1) for _ in range(n)], num_returns=n)
    return sum(ray.get(ready))

assert ray.get(depth.remote(12)) == 12
assert ray.get(all_at_once.remote(5)) == 5
"""

PROGRAMS["quicksort as a tree of tasks"] = """
import random
import ray

ray.init(num_cpus=2)

def partition(items):
    pivot, rest = items[0], items[1:]
    return [i for i in rest if i < pivot], pivot, [i for i in rest if i >= pivot]

def sort(items):
    if len(items) < 2:
        return items
    low, pivot, high = partition(items)
    return sort(low) + [pivot] + sort(high)

@ray.remote
def sort_in_parallel(items, least):
    if len(items) <= least:
        return sort(items)
    low, pivot, high = partition(items)
    low, high = sort_in_parallel.remote(low, least), sort_in_parallel.remote(high, least)
    return ray.get(low) + [pivot] + ray.get(high)

items = random.Random(1).sample(range(20_000), 20_000)
assert ray.get(sort_in_parallel.remote(items, 1000)) == sorted(items)
"""

PROGRAMS["reducing by pairs"] = """
import ray

@ray.remote
def load(i):
    return i

@ray.remote
def merge(a, b):
    return a + b

parts = [load.remote(i) for i in range(33)]
while len(parts) > 1:
    parts = parts[2:] + [merge.remote(parts[0], parts[1])]
assert ray.get(parts[0]) == sum(range(33))
"""

PROGRAMS["map and reduce over words"] = """
import collections
import ray

TEXT = "the cat and the dog and the bird".split() * 50

@ray.remote
def count(words, reducers):
    tables = [collections.Counter() for _ in range(reducers)]
    for word in words:
        tables[len(word) % reducers][word] += 1
    return tables if reducers > 1 else tables[0]

@ray.remote
def combine(*tables):
    return sum(tables, collections.Counter())

mapped = [count.options(num_returns=2).remote(TEXT[i::5], 2) for i in range(5)]
reduced = [combine.remote(*column) for column in zip(*mapped)]
assert sum(ray.get(reduced), collections.Counter()) == collections.Counter(TEXT)
"""

# -- patterns -------------------------------------------------------------------------------------

PROGRAMS["no more than so many tasks at a time"] = """
import ray

ray.init(num_cpus=2)

@ray.remote
def work(i):
    return i

MOST, pending, results = 8, [], []
for i in range(100):
    if len(pending) >= MOST:
        ready, pending = ray.wait(pending, num_returns=1)
        results += ray.get(ready)
    pending.append(work.remote(i))
    assert len(pending) <= MOST
results += ray.get(pending)
assert sorted(results) == list(range(100))
"""

PROGRAMS["the next batch is made while this one is used"] = """
import ray

ray.init(num_cpus=2)

@ray.remote
def make(i):
    return list(range(i * 10, i * 10 + 10))

@ray.remote
def use(batch):
    return sum(batch)

coming, totals = make.remote(0), []
for i in range(1, 11):
    batch, coming = coming, make.remote(i)
    totals.append(use.remote(batch))
assert sum(ray.get(totals)) == sum(range(100))
"""

PROGRAMS["batches instead of tiny tasks"] = """
import ray

@ray.remote
def squares(numbers):
    return [n * n for n in numbers]

batches = ray.get([squares.remote(range(i, i + 1000)) for i in range(0, 10_000, 1000)])
assert [n for batch in batches for n in batch] == [n * n for n in range(10_000)]
"""

PROGRAMS["globals and closures are copies"] = """
import ray

setting = {"value": 1}

@ray.remote
def read():
    return setting["value"]

@ray.remote
def change():
    setting["value"] += 1
    return setting["value"]

assert ray.get(read.remote()) == 1
assert ray.get(change.remote()) >= 2
assert setting == {"value": 1}

def outer(x):
    @ray.remote
    def inner(y):
        return x + y
    return inner

assert ray.get([outer(i).remote(1) for i in range(5)]) == [1, 2, 3, 4, 5]

big = ray.put(list(range(1000)))

@ray.remote
def captures():
    return len(ray.get(big))

assert ray.get(captures.remote()) == 1000
"""

PROGRAMS["as_completed and map_unordered"] = """
import ray
from ray.util import as_completed, map_unordered

@ray.remote
def square(x):
    return x * x

assert sorted(as_completed([square.remote(i) for i in range(10)])) == [i * i for i in range(10)]
assert sorted(map_unordered(square, range(25))) == [i * i for i in range(25)]
"""

PROGRAMS["where a task runs"] = """
import ray

ray.init(num_cpus=2, namespace="mine")

@ray.remote(num_cpus=0.5)
def where():
    context = ray.get_runtime_context()
    return {
        "job": context.get_job_id(), "task": context.get_task_id(), "node": context.get_node_id(),
        "worker": context.get_worker_id(), "given": context.get_assigned_resources(),
        "namespace": context.namespace, "name": context.get_task_name(),
    }

context = ray.get_runtime_context()
ref = where.options(name="who").remote()
found = ray.get(ref)
assert found["job"] == context.get_job_id() == ref.job_id().hex()
assert found["task"] == ref.task_id().hex()
assert found["node"] == context.get_node_id() == ray.nodes()[0]["NodeID"]
assert found["worker"] != context.get_worker_id()
assert found["given"] == {"CPU": 0.5}
assert (found["namespace"], found["name"]) == ("mine", "who")
assert ray.TaskID.from_hex(found["task"]) == ref.task_id()
assert ray.cluster_resources()["CPU"] == 2
assert context.get_actor_id() is None
"""

# -- failure --------------------------------------------------------------------------------------

PROGRAMS["what a task raises"] = """
import ray
from ray.exceptions import RayError, RayTaskError

class Odd(Exception):
    def __init__(self, code, text):
        super().__init__(code, text)
        self.code = code

@ray.remote
def fail():
    raise Odd(7, "seven")

@ray.remote
def depends(x):
    raise SystemExit("this never runs")

failed = fail.remote()
for ref in (failed, depends.remote(failed), depends.remote(depends.remote(failed))):
    try:
        ray.get(ref)
    except Odd as error:
        assert isinstance(error, RayTaskError) and isinstance(error, RayError)
        assert error.cause.code == 7
        assert "seven" in str(error)
    else:
        raise SystemExit("nothing was raised")

@ray.remote
def divide(a, b):
    return a / b

try:
    ray.get([divide.remote(1, 1), divide.remote(1, 0)])
except ZeroDivisionError as error:
    assert "divide" in str(error)
assert ray.get(divide.remote(1, 2)) == 0.5
"""

PROGRAMS["retries after a crash"] = """
import os, sys, tempfile
import ray

ray.init(num_cpus=2)
path = os.path.join(tempfile.mkdtemp(), "runs")

@ray.remote(max_retries=2)
def crashes_twice():
    with open(path, "a") as file:
        file.write(".")
    if os.path.getsize(path) < 3:
        os._exit(1)
    return os.path.getsize(path)

assert ray.get(crashes_twice.remote()) == 3

@ray.remote(max_retries=0)
def crashes():
    os._exit(1)

try:
    ray.get(crashes.remote())
except ray.exceptions.WorkerCrashedError:
    pass
else:
    raise SystemExit("the crash went unseen")
"""

PROGRAMS["retries after exceptions, of some classes"] = """
import os, tempfile
import ray

ray.init(num_cpus=1)
folder = tempfile.mkdtemp()

class Passing(Exception):
    pass

class Lasting(Exception):
    pass

@ray.remote(max_retries=3, retry_exceptions=[Passing])
def attempt(name, kind, times):
    path = os.path.join(folder, name)
    with open(path, "a") as file:
        file.write(".")
    runs = os.path.getsize(path)
    if runs <= times:
        raise kind(name)
    return runs

assert ray.get(attempt.remote("a", Passing, 2)) == 3
for name, kind, runs in (("b", Lasting, 1), ("c", Passing, 4)):
    try:
        ray.get(attempt.remote(name, kind, 9))
    except kind:
        assert os.path.getsize(os.path.join(folder, name)) == runs
    else:
        raise SystemExit(f"{name} did not fail")
twice = attempt.options(retry_exceptions=True, max_retries=1).remote("d", Lasting, 1)
assert ray.get(twice) == 2
"""

PROGRAMS["what cannot be pickled"] = """
import io, threading
import ray
from ray.util import inspect_serializability

ray.init(num_cpus=1)
lock = threading.Lock()

@ray.remote
def uses_lock():
    with lock:
        return 1

try:
    uses_lock.remote()
except TypeError as error:
    assert "lock" in str(error)
else:
    raise SystemExit("a lock has travelled")
fine, failures = inspect_serializability(uses_lock._function, name="f", print_file=io.StringIO())
assert not fine and [failure.obj for failure in failures] == [lock]

class Link:
    def __init__(self, path):
        self.path, self.file = path, open(path)
    def __reduce__(self):
        return Link, (self.path,)

link = Link("/proc/self/status")
assert ray.get(ray.put(link)).path == link.path
"""

PROGRAMS["misuse is told apart by its class"] = """
import functools
import ray
from ray.exceptions import RayTaskError

ray.init(num_cpus=1)
ref = ray.put(1)

@ray.remote
def f(a):
    return a

def raises(kind, call):
    try:
        call()
    except kind:
        return
    raise SystemExit(f"{kind.__name__} expected")

raises(ValueError, lambda: ray.get(3))
raises(ValueError, lambda: ray.get((ref, ref)))
raises(TypeError, lambda: ray.get([ref, 3]))
raises(TypeError, lambda: ray.put(ref))
raises(TypeError, lambda: ray.wait(ref))
raises(TypeError, lambda: ray.wait([3]))
raises(ValueError, lambda: ray.wait([ref, ref]))
raises(ValueError, lambda: ray.wait([ref], num_returns=2))
raises(ValueError, lambda: ray.wait([ref], num_returns=0))
raises(ValueError, lambda: ray.wait([ref], timeout=-1))
raises(TypeError, lambda: ray.remote(functools.partial(print)))
raises(TypeError, lambda: ray.remote(len))
raises(TypeError, lambda: ray.remote(f))
raises(AssertionError, lambda: ray.remote())
raises(AssertionError, lambda: ray.remote(lambda: 1, num_cpus=1))
raises(ValueError, lambda: f.options(num_cpu=1))
raises(ValueError, lambda: f.options(num_returns=-1))
raises(TypeError, lambda: f.options(num_cpus="1"))
raises(ValueError, lambda: f.options(max_retries=-2))
raises(TypeError, lambda: f.options(name=1))
raises(TypeError, lambda: f.remote())
raises(TypeError, lambda: f.remote(1, b=2))
raises(RuntimeError, lambda: ray.init())
raises(RuntimeError, lambda: ray.init(no_such_argument=1))
raises(ValueError, lambda: ray.get_actor("nobody"))
raises(ValueError, lambda: ray.kill(ref))
ray.init(ignore_reinit_error=True)
assert ray.get(ref) == 1
"""

PROGRAMS["a helper of Ray's tests"] = """
import os, tempfile
import ray
from ray._common.test_utils import wait_for_condition
from ray.exceptions import GetTimeoutError

ray.init("local", num_cpus=1, _system_config={}, log_to_driver=False)
path = os.path.join(tempfile.mkdtemp(), "here")

@ray.remote
def touch():
    open(path, "w").close()

touch.remote()
wait_for_condition(lambda: os.path.exists(path), timeout=60, retry_interval_ms=5)
try:
    wait_for_condition(lambda: False, timeout=0.01, retry_interval_ms=1)
except RuntimeError:
    pass
else:
    raise SystemExit("it came true")
"""


# -- what further names are needed for -----------------------------------------------------------

NEEDS: dict[str, str] = {}
"""Programs that cannot run before plasmid has this name."""

NEEDS["a generator's results while it runs"] = "ObjectRefGenerator"
PROGRAMS["a generator's results while it runs"] = """
import os, tempfile, time
import ray

ray.init(num_cpus=2)
gate = os.path.join(tempfile.mkdtemp(), "gate")

@ray.remote
def count(n):
    for i in range(n):
        if i == 2:
            while not os.path.exists(gate):
                time.sleep(0.005)
        yield i * 100

stream = count.remote(4)
assert isinstance(stream, ray.ObjectRefGenerator)
first, second = next(stream), next(stream)
assert ray.get([first, second]) == [0, 100]
assert ray.wait([stream], timeout=0.1) == ([], [stream])
open(gate, "w").close()
assert [ray.get(ref) for ref in stream] == [200, 300]
try:
    next(stream)
except StopIteration:
    pass
else:
    raise SystemExit("there were more")

@ray.remote
def total(x):
    return x + 1

assert [ray.get(total.remote(ref)) for ref in count.remote(3)] == [1, 101, 201]
"""

NEEDS["a generator that fails half-way"] = "ObjectRefGenerator"
PROGRAMS["a generator that fails half-way"] = """
import asyncio
import ray

ray.init(num_cpus=2)

@ray.remote
def fails_at(n):
    for i in range(n):
        yield i
    raise ValueError(n)

values, error = [], None
for ref in fails_at.remote(3):
    try:
        values.append(ray.get(ref))
    except ValueError as raised:
        error = raised
assert values == [0, 1, 2]
assert isinstance(error, ray.exceptions.RayTaskError)

async def main():
    return [await ref async for ref in fails_at.options(num_returns="streaming").remote(0)]

try:
    asyncio.run(main())
except ValueError:
    pass
else:
    raise SystemExit("nothing was raised")
"""

NEEDS["as many results as the task finds"] = "DynamicObjectRefGenerator"
PROGRAMS["as many results as the task finds"] = """
import ray

ray.init(num_cpus=2)

@ray.remote(num_returns="dynamic")
def split(items, size):
    for i in range(0, len(items), size):
        yield items[i : i + size]

@ray.remote
def count(parts):
    return sum(len(ray.get(part)) for part in parts)

ref = split.remote(list(range(10)), 3)
assert isinstance(ref, ray.ObjectRef)
assert [ray.get(part) for part in ray.get(ref)] == [[0, 1, 2], [3, 4, 5], [6, 7, 8], [9]]
assert ray.get(count.remote(ref)) == 10
"""

NEEDS["a cancelled task"] = "cancel"
PROGRAMS["a cancelled task"] = """
import os, tempfile, time
import ray
from ray.exceptions import RayError, TaskCancelledError

ray.init(num_cpus=1)
folder = tempfile.mkdtemp()

@ray.remote
def loop(name):
    open(os.path.join(folder, name), "w").close()
    while True:
        time.sleep(0.01)

def started(name):
    while not os.path.exists(os.path.join(folder, name)):
        time.sleep(0.005)

running, queued = loop.remote("running"), loop.remote("queued")
started("running")
ray.cancel(queued)
ray.cancel(running)
for ref in (queued, running):
    try:
        ray.get(ref, timeout=60)
    except TaskCancelledError as error:
        assert isinstance(error, RayError)
    else:
        raise SystemExit("it was not cancelled")
assert not os.path.exists(os.path.join(folder, "queued"))

forced = loop.options(max_retries=0).remote("forced")
started("forced")
ray.cancel(forced, force=True)
try:
    ray.get(forced, timeout=60)
except (TaskCancelledError, ray.exceptions.WorkerCrashedError):
    pass
else:
    raise SystemExit("it was not cancelled")

@ray.remote
def done():
    return 1

ref = done.remote()
assert ray.get(ref) == 1
ray.cancel(ref)
assert ray.get(ref) == 1
"""

NEEDS["no more at a time than a resource allows"] = "get_gpu_ids"
PROGRAMS["no more at a time than a resource allows"] = """
import os, tempfile, time
import ray

ray.init(num_cpus=4, resources={"licence": 2})
folder = tempfile.mkdtemp()

@ray.remote(num_cpus=0, resources={"licence": 1})
def licensed(i):
    mine = os.path.join(folder, str(i))
    open(mine, "w").close()
    together = len(os.listdir(folder))
    time.sleep(0.01)
    os.unlink(mine)
    return together

assert max(ray.get([licensed.remote(i) for i in range(12)])) <= 2
assert ray.cluster_resources()["licence"] == 2
assert ray.get_gpu_ids() == []

@ray.remote(num_cpus=1, resources={"licence": 0.5})
def given():
    return ray.get_runtime_context().get_assigned_resources()

assert ray.get(given.remote()) == {"CPU": 1.0, "licence": 0.5}
"""


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    folder: Path = tmp_path_factory.mktemp("hook")
    (folder / "sitecustomize.py").write_text(HOOK)
    return os.environ | {"PYTHONPATH": str(folder)}


@pytest.mark.parametrize("name", PROGRAMS)
def test_a_documented_program_runs(environment: dict[str, str], tmp_path: Path, name: str) -> None:
    if not hasattr(plasmid, NEEDS.get(name, "init")):
        pytest.skip(f"plasmid has no {NEEDS[name]} yet")
    program = PROGRAMS[name] + "\nprint('to the end')\n"
    printed = run_program(program, env=environment | {"TMPDIR": str(tmp_path)})[0]
    assert printed == "to the end\n"
