"""Programs as a reader of Ray's documentation on actors would write them, with `import ray` meaning
plasmid by a hook of the environment. Each is a process of its own, and judges itself.

They run unchanged with Ray 2.60, too.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from support import run_program
from test_aliases import HOOK

PROGRAMS: dict[str, str] = {}

# -- actors ---------------------------------------------------------------------------------------

PROGRAMS["a counter"] = """
import ray

@ray.remote
class Counter:
    "Counts."
    step = 1

    def __init__(self, value=0):
        self.value = value

    def increment(self, by=None):
        self.value += self.step if by is None else by
        return self.value

    def get(self):
        return self.value

assert Counter.step == 1
counter = Counter.remote()
assert ray.get(counter.increment.remote()) == 1
assert ray.get([counter.increment.remote() for _ in range(5)]) == [2, 3, 4, 5, 6]
assert ray.get(counter.increment.remote(by=10)) == 16

several = [Counter.remote(value=i) for i in range(3)]
for _ in range(3):
    for one in several:
        one.increment.remote(2)
assert ray.get([one.get.remote() for one in several]) == [6, 7, 8]
assert ray.get(counter.get.remote()) == 16
"""

PROGRAMS["decorated before init, created after"] = """
import ray

@ray.remote(num_cpus=0.5, max_restarts=1)
class Early:
    def where(self):
        return ray.get_runtime_context().get_assigned_resources()

Late = ray.remote(type("Late", (), {"answer": lambda self: 42}))
assert not ray.is_initialized()
ray.init(num_cpus=2)
early = Early.remote()
assert ray.get(early.where.remote()) == {"CPU": 0.5}
assert ray.get(Early.options(num_cpus=1).remote().where.remote()) == {"CPU": 1}
assert ray.get(Late.remote().answer.remote()) == 42
"""

PROGRAMS["what an actor holds while it lives"] = """
import ray

ray.init(num_cpus=2, resources={"seat": 1})

@ray.remote
class Holder:
    def given(self):
        return ray.get_runtime_context().get_assigned_resources()

many = [Holder.remote() for _ in range(4)]
assert ray.get([one.given.remote() for one in many]) == [{}] * 4

seated = Holder.options(resources={"seat": 1}).remote()
assert ray.get(seated.given.remote()) == {"seat": 1}
standing = Holder.options(resources={"seat": 1}).remote()
waiting = standing.given.remote()
assert ray.wait([waiting], timeout=0.2) == ([], [waiting])
ray.kill(seated)
assert ray.get(waiting, timeout=50) == {"seat": 1}
"""

PROGRAMS["a handle in tasks"] = """
import ray

@ray.remote
class Counter:
    def __init__(self):
        self.value = 0
    def increment(self):
        self.value += 1
    def get(self):
        return self.value

@ray.remote
def work(counter, times):
    ray.get([counter.increment.remote() for _ in range(times)])

@ray.remote
def work_nested(handles):
    ray.get(handles["counters"][0].increment.remote())

counter = Counter.remote()
ray.get([work.remote(counter, 10) for _ in range(3)])
assert ray.get(counter.get.remote()) == 30
ray.get(work_nested.remote({"counters": [counter]}))
stored = ray.put((counter, "label"))
assert ray.get(stored)[0] == counter
ray.get(work.remote(ray.get(stored)[0], 4))
assert ray.get(counter.get.remote()) == 35

@ray.remote
def captured():
    return ray.get(counter.get.remote())

assert ray.get(captured.remote()) == 35

@ray.remote
def call(method):
    return ray.get(method.remote())

assert ray.get(call.remote(counter.get)) == 35
"""

PROGRAMS["a handle comes back from the task that made the actor"] = """
import ray

@ray.remote
class Keeper:
    def __init__(self, value):
        self.value = value
    def get(self):
        return self.value

@ray.remote
def make(value):
    return Keeper.remote(value)

keepers = ray.get([make.remote(i) for i in range(3)])
assert ray.get([keeper.get.remote() for keeper in keepers]) == [0, 1, 2]

@ray.remote
class Parent:
    def __init__(self):
        self.children = [Keeper.remote(i) for i in range(2)]
    def child(self, i):
        return self.children[i]
    def total(self):
        return sum(ray.get([child.get.remote() for child in self.children]))

parent = Parent.remote()
assert ray.get(parent.total.remote()) == 1
assert ray.get(ray.get(parent.child.remote(1)).get.remote()) == 1
"""

PROGRAMS["references as arguments of actors"] = """
import ray

@ray.remote
class Sum:
    def __init__(self, start, *, scale):
        assert (start, scale) == (1, 10)
        self.total = start * scale
    def add(self, *values, **named):
        assert all(isinstance(value, int) for value in (*values, *named.values()))
        self.total += sum(values) + sum(named.values())
        return self.total
    def listed(self, refs):
        assert all(isinstance(ref, ray.ObjectRef) for ref in refs)
        return sum(ray.get(refs))

@ray.remote
def one():
    return 1

adder = Sum.remote(one.remote(), scale=ray.put(10))
assert ray.get(adder.add.remote(one.remote(), ray.put(5), last=one.remote())) == 17
assert ray.get(adder.add.remote(adder.add.remote(1))) == 36
assert ray.get(adder.listed.remote([one.remote(), ray.put(2)])) == 3
"""

PROGRAMS["several results, or none"] = """
import ray

@ray.remote
class Maker:
    @ray.method(num_returns=2)
    def pair(self):
        return "a", "b"

    @ray.method(num_returns=0)
    def none(self):
        self.called = True

    def was_called(self):
        return self.called

    @ray.method
    def three(self):
        return 1, 2, 3

maker = Maker.remote()
a, b = maker.pair.remote()
assert ray.get([a, b]) == ["a", "b"]
assert maker.none.remote() is None
assert ray.get(maker.was_called.remote()) is True
assert ray.get(maker.three.options(num_returns=3).remote()) == [1, 2, 3]
assert ray.get(maker.three.remote()) == (1, 2, 3)
assert ray.get(maker.pair.options(num_returns=1).remote()) == ("a", "b")
for ref in maker.three.options(num_returns=2).remote():
    try:
        ray.get(ref)
    except ValueError:
        continue
    raise SystemExit("three are not two")
"""

PROGRAMS["inheritance"] = """
import abc
from typing import Generic, TypeVar
import ray

T = TypeVar("T")

class Shape(abc.ABC):
    def __init__(self, side):
        self.side = side
    @abc.abstractmethod
    def area(self): ...
    def describe(self):
        return f"{type(self).__name__} of {self.area()}"
    @ray.method(num_returns=2)
    def both(self):
        return self.side, self.area()

class Box(Generic[T]):
    def kind(self):
        return "box"

@ray.remote
class Square(Shape, Box[int]):
    def area(self):
        return self.side**2
    def describe(self):
        return "a " + super().describe()
    @staticmethod
    def double(x):
        return 2 * x
    @classmethod
    def name(cls):
        return cls.__name__

square = Square.remote(3)
assert ray.get(square.describe.remote()) == "a Square of 9"
assert ray.get(list(square.both.remote())) == [3, 9]
assert ray.get([square.kind.remote(), square.double.remote(4), square.name.remote()]) == [
    "box", 8, "Square",
]
try:
    class Cube(Square):
        pass
except TypeError as error:
    assert "Inheriting from actor classes" in str(error)
else:
    raise SystemExit("an actor class was inherited from")
"""

PROGRAMS["typed actors"] = """
from __future__ import annotations
import ray
from ray.actor import ActorClass, ActorHandle, ActorProxy

class Plain:
    def __init__(self, factor: int) -> None:
        self.factor = factor

    @ray.method
    def times(self, x: int) -> int:
        return self.factor * x

Actor: ActorClass[Plain] = ray.remote(Plain)
assert isinstance(Actor, ActorClass)
handle: ActorProxy[Plain] = Actor.remote(3)
assert isinstance(handle, ActorHandle)
assert ray.get(handle.times.remote(x=14)) == 42
for generic in (ActorClass[Plain], ActorHandle[Plain], ActorProxy[Plain]):
    assert generic is not None
assert Plain(2).times(4) == 8
"""

PROGRAMS["what every actor has"] = """
import ray
from ray.exceptions import ActorDiedError

ray.init(num_cpus=2)

@ray.remote
class Plain:
    def __init__(self):
        self.value = 5

plain = Plain.remote()
assert ray.get(plain.__ray_ready__.remote()) is True
assert ray.get(plain.__ray_call__.remote(lambda self: self.value)) == 5
three = plain.__ray_call__.remote(lambda self, x, y: (self.value, x, y), 1, y=2)
assert ray.get(three) == (5, 1, 2)
before = plain.__ray_call__.remote(lambda self: self.value + 1)
ended = plain.__ray_terminate__.remote()
after = plain.__ray_ready__.remote()
assert ray.get(before) == 6
for ref in (ended, after):
    try:
        ray.get(ref, timeout=60)
    except ActorDiedError as error:
        assert "exit_actor" in str(error)
    else:
        raise SystemExit("it goes on")
"""

PROGRAMS["wait for actors"] = """
import ray

ray.init(num_cpus=2)

@ray.remote(num_cpus=0)
class Node:
    def __init__(self, i):
        self.i = i
    def get(self):
        return self.i

nodes = [Node.remote(i) for i in range(4)]
pending, seen = [node.get.remote() for node in nodes], []
while pending:
    (ready,), pending = ray.wait(pending, num_returns=1, timeout=60)
    seen.append(ray.get(ready))
assert sorted(seen) == [0, 1, 2, 3]
ready, late = ray.wait([node.__ray_ready__.remote() for node in nodes], num_returns=4, timeout=60)
assert (len(ready), late) == (4, [])
"""

# -- named actors ---------------------------------------------------------------------------------

PROGRAMS["a name"] = """
import ray
from ray.exceptions import ActorAlreadyExistsError

ray.init(num_cpus=2, namespace="here")

@ray.remote
class Board:
    def __init__(self):
        self.notes = []
    def pin(self, note):
        self.notes.append(note)
    def all(self):
        return self.notes

board = Board.options(name="board").remote()
assert ray.get_actor("board") == board
assert ray.get_actor("board", namespace="here") == board

@ray.remote
def pin(note):
    ray.get(ray.get_actor("board").pin.remote(note))

ray.get([pin.remote(i) for i in range(4)])
assert sorted(ray.get(board.all.remote())) == [0, 1, 2, 3]

try:
    Board.options(name="board").remote()
except ActorAlreadyExistsError as error:
    assert isinstance(error, ValueError) and "board" in str(error)
else:
    raise SystemExit("two of a name")
for name, namespace in (("nobody", None), ("board", "there")):
    try:
        ray.get_actor(name, namespace=namespace)
    except ValueError as error:
        assert name in str(error)
    else:
        raise SystemExit(f"{name} of {namespace} was found")

ray.kill(board)
try:
    ray.get_actor("board")
except ValueError:
    pass
else:
    raise SystemExit("the dead was found")
again = Board.options(name="board").remote()
assert ray.get(again.all.remote()) == []
"""

PROGRAMS["get or create"] = """
import ray

ray.init(num_cpus=2)

@ray.remote
class Config:
    def __init__(self, value):
        self.value = value
    def get(self):
        return self.value

first = Config.options(name="config", get_if_exists=True).remote("old")
second = Config.options(name="config", get_if_exists=True).remote("new")
assert first == second
assert ray.get(second.get.remote()) == "old"

@ray.remote
def contend(i):
    config = Config.options(
        name="race", get_if_exists=True, lifetime="detached").remote(i)
    return ray.get(config.get.remote())

assert len(set(ray.get([contend.remote(i) for i in range(6)]))) == 1
ray.kill(ray.get_actor("race"))
"""

PROGRAMS["namespaces"] = """
import ray
from ray.util import list_named_actors

ray.init(num_cpus=2, namespace="red")

@ray.remote
class Who:
    def where(self):
        context = ray.get_runtime_context()
        return context.namespace, context.get_actor_name()

red = Who.options(name="one").remote()
blue = Who.options(name="one", namespace="blue").remote()
assert red != blue
assert ray.get([red.where.remote(), blue.where.remote()])[0] == ("red", "one")
assert ray.get_actor("one") == red
assert ray.get_actor("one", namespace="blue") == blue
assert list_named_actors() == ["one"]
named = list_named_actors(all_namespaces=True)
assert {"name": "one", "namespace": "blue"} in named
assert {"name": "one", "namespace": "red"} in named
ray.kill(red)
assert list_named_actors() == []
"""

PROGRAMS["detached actors outlive their makers"] = """
import ray

ray.init(num_cpus=2, namespace="detached")

@ray.remote
class Cache:
    def __init__(self):
        self.data = {}
    def set(self, key, value):
        self.data[key] = value
    def get(self, key):
        return self.data.get(key)

@ray.remote
def make():
    cache = Cache.options(name="cache", lifetime="detached").remote()
    ray.get(cache.set.remote("a", 1))

@ray.remote
def make_passing():
    passing = Cache.options(name="passing").remote()
    ray.get(passing.set.remote("a", 1))
    return ray.get(passing.__ray_call__.remote(lambda self: __import__("os").getpid()))

pid = ray.get(make_passing.remote())
ray.get(make.remote())
cache = ray.get_actor("cache")
assert ray.get(cache.get.remote("a")) == 1
del cache

from ray._common.test_utils import wait_for_condition

def gone():
    try:
        ray.get_actor("passing")
    except ValueError:
        return True

wait_for_condition(gone, timeout=60)
assert ray.get(ray.get_actor("cache").get.remote("a")) == 1
ray.kill(ray.get_actor("cache"))
"""

# -- the end of actors ----------------------------------------------------------------------------

PROGRAMS["no handle is left"] = """
import os
import ray
from ray._common.test_utils import wait_for_condition

ray.init(num_cpus=2)

@ray.remote
class Passing:
    def pid(self):
        return os.getpid()
    def work(self, gate):
        while not os.path.exists(gate):
            pass
        return "worked"

def gone(pid):
    return lambda: not os.path.exists(f"/proc/{pid}")

passing = Passing.remote()
pid = ray.get(passing.pid.remote())
other = passing
del passing
assert ray.get(other.pid.remote()) == pid
del other
wait_for_condition(gone(pid), timeout=60)

# What was called before is done first.
import tempfile
gate = os.path.join(tempfile.mkdtemp(), "gate")
passing = Passing.remote()
refs = [passing.pid.remote(), passing.work.remote(gate), passing.pid.remote()]
del passing
open(gate, "w").close()
first, worked, last = ray.get(refs)
assert worked == "worked" and first == last
wait_for_condition(gone(first), timeout=60)

# A method keeps the actor, too.
method = Passing.remote().pid
assert ray.get(method.remote()) == ray.get(method.remote())
assert ray.get(Passing.remote().pid.remote()) > 0
"""

PROGRAMS["kill"] = """
import os, time
import ray
from ray.exceptions import ActorDiedError, RayActorError

ray.init(num_cpus=2)

@ray.remote
class Victim:
    def pid(self):
        return os.getpid()
    def loop(self):
        while True:
            time.sleep(0.01)

victim = Victim.remote()
ready = victim.pid.remote()
pid = ray.get(ready)
refs = [victim.loop.remote(), victim.pid.remote()]
ray.kill(victim)
refs.append(victim.pid.remote())
for ref in refs:
    try:
        ray.get(ref, timeout=60)
    except ActorDiedError as error:
        assert isinstance(error, RayActorError)
        assert error.actor_id == victim._actor_id.hex()
        assert "ray.kill" in str(error)
    else:
        raise SystemExit("it lives")
assert ray.get(ready) == pid
ray.kill(victim)

unborn = Victim.remote()
ref = unborn.pid.remote()
ray.kill(unborn)
try:
    ray.get(ref, timeout=60)
except ActorDiedError:
    pass
"""

PROGRAMS["an actor ends itself"] = """
import os, tempfile
import ray
from ray.exceptions import ActorDiedError
from ray._common.test_utils import wait_for_condition

ray.init(num_cpus=2)
path = os.path.join(tempfile.mkdtemp(), "ends")

@ray.remote(max_restarts=-1)
class Leaver:
    def __init__(self):
        import atexit
        atexit.register(self.note)
    def note(self):
        with open(path, "a") as file:
            file.write("atexit ")
    def f(self):
        return 1
    def leave(self):
        ray.actor.exit_actor()
        raise RuntimeError("never here")

leaver = Leaver.remote()
before, left, after = leaver.f.remote(), leaver.leave.remote(), leaver.f.remote()
assert ray.get(before) == 1
for ref in (left, after):
    try:
        ray.get(ref, timeout=60)
    except ActorDiedError as error:
        assert "exit_actor" in str(error)
    else:
        raise SystemExit("it stayed, or came again")
wait_for_condition(lambda: os.path.exists(path) and open(path).read() == "atexit ", timeout=60)
"""

PROGRAMS["last words"] = """
import os, tempfile
import ray
from ray._common.test_utils import wait_for_condition

ray.init(num_cpus=2)
folder = tempfile.mkdtemp()

@ray.remote
class Speaker:
    def __init__(self, name):
        self.path = os.path.join(folder, name)
        import atexit
        atexit.register(self.say, "atexit")
    def say(self, word):
        with open(self.path, "a") as file:
            file.write(word + " ")
    def __ray_shutdown__(self):
        self.say("shutdown")

def said(name):
    path = os.path.join(folder, name)
    return open(path).read() if os.path.exists(path) else ""

dropped, left, killed = Speaker.remote("dropped"), Speaker.remote("left"), Speaker.remote("killed")
ray.get([one.__ray_ready__.remote() for one in (dropped, left, killed)])
pid = ray.get(killed.__ray_call__.remote(lambda self: os.getpid()))
left.__ray_terminate__.remote()
ray.kill(killed)
del dropped
for name in ("dropped", "left"):
    wait_for_condition(lambda: said(name) == "shutdown atexit ", timeout=60)
wait_for_condition(lambda: not os.path.exists(f"/proc/{pid}"), timeout=60)
assert said("killed") == ""
"""

# -- failure --------------------------------------------------------------------------------------

PROGRAMS["what a method raises"] = """
import ray
from ray.exceptions import RayTaskError

@ray.remote
class Divider:
    calls = 0
    def divide(self, a, b):
        self.calls += 1
        return a / b
    def seen(self, *args):
        return self.calls

divider = Divider.remote()
failed = divider.divide.remote(1, 0)
try:
    ray.get(failed)
except ZeroDivisionError as error:
    assert isinstance(error, RayTaskError)
    assert "divide" in str(error)
else:
    raise SystemExit("it was divided")
assert ray.get(divider.divide.remote(1, 2)) == 0.5
dependent = divider.seen.remote(failed)
assert ray.get(divider.seen.remote()) == 2
try:
    ray.get(dependent)
except ZeroDivisionError:
    pass
else:
    raise SystemExit("it had its argument")
"""

PROGRAMS["a constructor that fails"] = """
import ray
from ray.exceptions import ActorDiedError, RayActorError

@ray.remote
class Broken:
    def __init__(self, value):
        raise RuntimeError(f"no {value}")
    def f(self):
        return 1

broken = Broken.remote("luck")
for _ in range(2):
    try:
        ray.get(broken.f.remote(), timeout=60)
    except ActorDiedError as error:
        assert isinstance(error, RayActorError) and not isinstance(error, RuntimeError)
        assert error.actor_init_failed
        assert error.actor_id == broken._actor_id.hex()
        assert "RuntimeError: no luck" in str(error) and "__init__" in str(error)
    else:
        raise SystemExit("it was made")

@ray.remote
def fails():
    raise KeyError("argument")

try:
    ray.get(Broken.remote(fails.remote()).f.remote(), timeout=60)
except ActorDiedError as error:
    assert "argument" in str(error)
else:
    raise SystemExit("it was made")
"""

PROGRAMS["a process that dies"] = """
import os, signal
import ray
from ray.exceptions import ActorDiedError

ray.init(num_cpus=2)

@ray.remote
class Fragile:
    def __init__(self, early=False):
        if early:
            os._exit(1)
    def exit(self):
        os._exit(3)
    def sys_exit(self):
        raise SystemExit(5)
    def segv(self):
        os.kill(os.getpid(), signal.SIGKILL)
    def f(self):
        return 1

for method in ("exit", "sys_exit", "segv"):
    fragile = Fragile.remote()
    assert ray.get(fragile.f.remote()) == 1
    for ref in (getattr(fragile, method).remote(), fragile.f.remote(), fragile.f.remote()):
        try:
            ray.get(ref, timeout=60)
        except ActorDiedError as error:
            assert not error.actor_init_failed
            assert error.actor_id == fragile._actor_id.hex()
            assert "Fragile" in str(error)
        else:
            raise SystemExit(f"{method} did no harm")

early = Fragile.remote(early=True)
try:
    ray.get(early.f.remote(), timeout=60)
except ActorDiedError as error:
    assert not error.actor_init_failed
else:
    raise SystemExit("it was made")
"""

PROGRAMS["restarts, and calls that are made again"] = """
import os, tempfile
import ray
from ray.exceptions import ActorDiedError, RayActorError

ray.init(num_cpus=2)
folder = tempfile.mkdtemp()

@ray.remote(max_restarts=2, max_task_retries=-1)
class Phoenix:
    def __init__(self, name):
        self.path = os.path.join(folder, name)
        self.value = 0
    def increment(self):
        self.value += 1
        return self.value
    def crash(self, times):
        with open(self.path, "a") as file:
            file.write(".")
        if os.path.getsize(self.path) <= times:
            os._exit(1)
        return os.path.getsize(self.path)
    def reborn(self):
        return ray.get_runtime_context().was_current_actor_reconstructed

phoenix = Phoenix.remote("a")
assert ray.get([phoenix.increment.remote() for _ in range(3)]) == [1, 2, 3]
assert ray.get(phoenix.reborn.remote()) is False
assert ray.get(phoenix.crash.remote(2)) == 3
assert ray.get(phoenix.increment.remote()) == 1
assert ray.get(phoenix.reborn.remote()) is True
queued = [phoenix.crash.remote(99), phoenix.increment.remote()]
for ref in queued:
    try:
        ray.get(ref, timeout=60)
    except ActorDiedError:
        continue
    raise SystemExit("restarted too often")
"""

PROGRAMS["restarts without retries"] = """
import os
import ray
from ray.exceptions import ActorUnavailableError, ActorDiedError, RayActorError

ray.init(num_cpus=2)

@ray.remote(max_restarts=1)
class Phoenix:
    def __init__(self):
        self.value = 0
    def increment(self):
        self.value += 1
        return self.value
    def crash(self):
        os._exit(1)
    def pid(self):
        return os.getpid()

def patiently(method):
    while True:
        try:
            return ray.get(method.remote(), timeout=60)
        except ActorUnavailableError:
            continue

phoenix = Phoenix.remote()
assert ray.get([phoenix.increment.remote(), phoenix.increment.remote()]) == [1, 2]
pid = ray.get(phoenix.pid.remote())
try:
    ray.get(phoenix.crash.remote(), timeout=60)
except ActorUnavailableError as error:
    assert isinstance(error, RayActorError) and not isinstance(error, ActorDiedError)
    assert error.actor_id == phoenix._actor_id.hex()
    assert error.actor_id in str(error)
else:
    raise SystemExit("no crash")
assert patiently(phoenix.increment) == 1
assert patiently(phoenix.pid) != pid
try:
    ray.get(phoenix.crash.remote(), timeout=60)
except ActorDiedError:
    pass
else:
    raise SystemExit("no crash")
"""

PROGRAMS["kill, but restart"] = """
import os
import ray
from ray.exceptions import ActorDiedError, ActorUnavailableError

ray.init(num_cpus=2)

@ray.remote(max_restarts=3, max_task_retries=5)
class Phoenix:
    def pid(self):
        return os.getpid()

phoenix = Phoenix.options(name="phoenix").remote()
before = ray.get(phoenix.pid.remote())
ray.kill(phoenix, no_restart=False)
from ray._common.test_utils import wait_for_condition
wait_for_condition(lambda: ray.get(phoenix.pid.remote()) != before, timeout=60)
assert ray.get_actor("phoenix") == phoenix
ray.kill(phoenix)
try:
    ray.get(phoenix.pid.remote(), timeout=60)
except ActorDiedError:
    pass
else:
    raise SystemExit("it came again")
"""

PROGRAMS["exceptions that are tried again"] = """
import ray

ray.init(num_cpus=2)

class Passing(Exception):
    pass

class Lasting(Exception):
    pass

@ray.remote(max_task_retries=3)
class Service:
    def __init__(self):
        self.calls = 0
    def plain(self, kind, times):
        self.calls += 1
        if self.calls <= times:
            raise kind(self.calls)
        return self.calls
    @ray.method(retry_exceptions=[Passing])
    def some(self, kind, times):
        return self.plain(kind, times)
    @ray.method(retry_exceptions=True, max_task_retries=1)
    def once(self, kind, times):
        return self.plain(kind, times)

def outcome(name, kind, times, **options):
    method = getattr(Service.remote(), name)
    try:
        return ray.get(method.options(**options).remote(kind, times))
    except (Passing, Lasting) as error:
        return error.cause.args[0]

assert outcome("plain", Passing, 1) == 1
assert outcome("some", Passing, 2) == 3
assert outcome("some", Lasting, 2) == 1
assert outcome("once", Lasting, 9) == 2
assert outcome("plain", Passing, 9, retry_exceptions=True, max_task_retries=2) == 3
"""

PROGRAMS["an actor that no node can have"] = """
import ray
from ray.exceptions import ActorUnschedulableError, GetTimeoutError, RayActorError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

ray.init(num_cpus=2)

@ray.remote
class Anywhere:
    def f(self):
        return 1

nowhere = NodeAffinitySchedulingStrategy(ray.NodeID.from_random().hex(), soft=False)
try:
    ray.get(Anywhere.options(scheduling_strategy=nowhere).remote().f.remote(), timeout=60)
except ActorUnschedulableError as error:
    assert not isinstance(error, RayActorError)
    assert "not schedulable" in str(error)
else:
    raise SystemExit("it was scheduled")

here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
assert ray.get(Anywhere.options(scheduling_strategy=here).remote().f.remote()) == 1
"""

PROGRAMS["no more calls than agreed"] = """
import os, tempfile, time
import ray
from ray.exceptions import PendingCallsLimitExceeded, RayError

ray.init(num_cpus=2)
gate = os.path.join(tempfile.mkdtemp(), "gate")

@ray.remote(max_pending_calls=3)
class Slow:
    def wait(self):
        while not os.path.exists(gate):
            time.sleep(0.005)
        return "done"

slow, accepted = Slow.remote(), []
try:
    for _ in range(100):
        accepted.append(slow.wait.remote())
except PendingCallsLimitExceeded as error:
    assert isinstance(error, RayError) and "max_pending_calls" in str(error)
else:
    raise SystemExit("there is no limit")
assert 3 <= len(accepted) <= 4
open(gate, "w").close()
assert ray.get(accepted) == ["done"] * len(accepted)
assert ray.get(slow.wait.remote()) == "done"
"""

# -- asyncio and threads --------------------------------------------------------------------------

PROGRAMS["an async actor"] = """
import asyncio
import ray

@ray.remote
class Gathering:
    def __init__(self, size):
        self.size, self.here, self.all = size, 0, asyncio.Event()
    async def come(self):
        self.here += 1
        if self.here == self.size:
            self.all.set()
        await self.all.wait()
        return self.here
    async def value(self, refs):
        return await refs[0], await asyncio.gather(*refs)
    def plain(self):
        return asyncio.get_running_loop().is_running()
    async def boom(self):
        raise KeyError("async")

@ray.remote
def one():
    return 1

gathering = Gathering.remote(50)
assert ray.get([gathering.come.remote() for _ in range(50)]) == [50] * 50
assert ray.get(gathering.value.remote([one.remote(), one.remote()])) == (1, [1, 1])
assert ray.get(gathering.plain.remote()) is True
try:
    ray.get(gathering.boom.remote())
except KeyError:
    pass
else:
    raise SystemExit("nothing was raised")

async def main():
    few = Gathering.remote(3)
    assert await asyncio.gather(*[few.come.remote() for _ in range(3)]) == [3, 3, 3]
    done, _ = await asyncio.wait([asyncio.ensure_future(awaited(few.plain.remote()))])
    return [task.result() for task in done]

async def awaited(ref):
    return await ref

assert asyncio.run(main()) == [True]
"""

PROGRAMS["no more at a time in an async actor"] = """
import asyncio
import ray

ray.init(num_cpus=2)

@ray.remote(max_concurrency=3)
class Limited:
    def __init__(self):
        self.now = self.most = 0
    async def work(self):
        self.now += 1
        self.most = max(self.most, self.now)
        for _ in range(5):
            await asyncio.sleep(0.002)
        self.now -= 1
    async def peak(self):
        return self.most

limited = Limited.remote()
ray.get([limited.work.remote() for _ in range(20)])
assert ray.get(limited.peak.remote()) == 3
one = Limited.options(max_concurrency=1).remote()
ray.get([one.work.remote() for _ in range(5)])
assert ray.get(one.peak.remote()) == 1
"""

PROGRAMS["threads of an actor"] = """
import threading
import ray

@ray.remote
class Meeting:
    def __init__(self, size):
        self.barrier = threading.Barrier(size)
    def meet(self):
        self.barrier.wait(60)
        return threading.get_ident()
    def main(self):
        return threading.current_thread() is threading.main_thread()

meeting = Meeting.options(max_concurrency=4).remote(4)
assert len(set(ray.get([meeting.meet.remote() for _ in range(4)]))) == 4
alone = Meeting.remote(1)
assert ray.get(alone.main.remote()) is True
assert len({*ray.get([alone.meet.remote() for _ in range(4)])}) == 1
"""

PROGRAMS["concurrency groups"] = """
import asyncio, threading
import ray

@ray.remote(concurrency_groups={"io": 2, "compute": 4})
class Grouped:
    def __init__(self):
        self.now = {"io": 0, "compute": 0, "default": 0}
        self.most = dict(self.now)

    async def count(self, group):
        self.now[group] += 1
        self.most[group] = max(self.most[group], self.now[group])
        for _ in range(5):
            await asyncio.sleep(0.002)
        self.now[group] -= 1
        return threading.current_thread().name

    @ray.method(concurrency_group="io")
    async def io(self):
        return await self.count("io")

    @ray.method(concurrency_group="compute")
    async def compute(self):
        return await self.count("compute")

    async def default(self, group="default"):
        return await self.count(group)

    async def peaks(self):
        return self.most

grouped = Grouped.remote()
names = ray.get([
    *[grouped.io.remote() for _ in range(8)],
    *[grouped.compute.remote() for _ in range(12)],
    *[grouped.default.remote() for _ in range(6)],
])
assert ray.get(grouped.peaks.remote()) == {"io": 2, "compute": 4, "default": 6}
assert len({names[0], names[8], names[-1]}) == 3, "each group has a loop of its own"

moved = Grouped.remote()
refs = [moved.default.options(concurrency_group="io").remote("io") for _ in range(6)]
assert set(ray.get(refs)) == set(names[:8])
assert ray.get(moved.peaks.remote())["io"] == 2
"""

PROGRAMS["groups of threads"] = """
import threading
import ray

@ray.remote(concurrency_groups={"control": 1})
class Worker:
    def __init__(self):
        self.stop = threading.Event()
    def run(self):
        return self.stop.wait(60)
    @ray.method(concurrency_group="control")
    def halt(self):
        self.stop.set()
        return threading.get_ident()
    def thread(self):
        return threading.get_ident()

worker = Worker.remote()
running = worker.run.remote()
control = ray.get(worker.halt.remote())
assert ray.get(running) is True
assert ray.get(worker.thread.remote()) != control
assert ray.get(worker.thread.options(concurrency_group="control").remote()) == control
"""

PROGRAMS["an async actor that leaves"] = """
import asyncio
import ray
from ray.exceptions import RayActorError

ray.init(num_cpus=2)

@ray.remote
class Leaver:
    def __init__(self):
        self.started = asyncio.Event()
        self.leaving = asyncio.Event()
    async def work(self):
        self.started.set()
        await self.leaving.wait()
        await asyncio.sleep(0.05)
        return "finished"
    async def leave(self):
        await self.started.wait()
        self.leaving.set()
        ray.actor.exit_actor()

leaver = Leaver.remote()
work = leaver.work.remote()
left = leaver.leave.remote()
assert ray.get(work, timeout=60) == "finished"
try:
    ray.get(left, timeout=60)
except RayActorError as error:
    assert "exit_actor" in str(error)
else:
    raise SystemExit("it stays")
"""

PROGRAMS["cancelled calls"] = """
import asyncio, os, tempfile
import ray
from ray.exceptions import TaskCancelledError

ray.init(num_cpus=2)

@ray.remote
class Async:
    def __init__(self):
        self.log, self.started = [], asyncio.Event()
    async def forever(self):
        self.started.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            self.log.append("cancelled")
            raise
    async def running(self):
        await self.started.wait()
    async def get(self):
        return self.log

def cancelled(ref):
    try:
        ray.get(ref, timeout=60)
    except TaskCancelledError:
        return True

actor = Async.remote()
ref = actor.forever.remote()
ray.get(actor.running.remote())
ray.cancel(ref)
assert cancelled(ref)
assert ray.get(actor.get.remote()) == ["cancelled"]
try:
    ray.cancel(actor.forever.remote(), force=True)
except ValueError as error:
    assert "force" in str(error)
else:
    raise SystemExit("actors' calls cannot be forced")

gate = os.path.join(tempfile.mkdtemp(), "gate")

@ray.remote
def late():
    while not os.path.exists(gate):
        pass

@ray.remote
class Plain:
    def __init__(self):
        self.log = []
    def note(self, x, *after):
        self.log.append(x)
        return x
    def get(self):
        return self.log

plain, never = Plain.remote(), late.remote()
assert ray.get(plain.note.remote(0)) == 0
waiting = plain.note.remote(1, never)
behind = plain.note.remote(2)
ray.cancel(waiting)
assert cancelled(waiting)
assert ray.get(behind, timeout=60) == 2
assert ray.get(plain.get.remote()) == [0, 2]
done = plain.note.remote(3)
assert ray.get(done) == 3
ray.cancel(done)
assert ray.get(done) == 3
open(gate, "w").close()
"""

PROGRAMS["a long call that asks whether it is cancelled"] = """
import os, tempfile, time
import ray
from ray.exceptions import TaskCancelledError

ray.init(num_cpus=2)
path = os.path.join(tempfile.mkdtemp(), "started")

@ray.remote
class Patient:
    def __init__(self):
        self.saw = False
    def loop(self):
        open(path, "w").close()
        while not ray.get_runtime_context().is_canceled():
            time.sleep(0.005)
        self.saw = True
    def seen(self):
        return self.saw, ray.get_runtime_context().is_canceled()

patient = Patient.remote()
ref = patient.loop.remote()
while not os.path.exists(path):
    time.sleep(0.005)
ray.cancel(ref)
try:
    ray.get(ref, timeout=60)
except TaskCancelledError:
    pass
else:
    raise SystemExit("it was not cancelled")
assert ray.get(patient.seen.remote()) == (True, False)
"""

# -- generators -----------------------------------------------------------------------------------

PROGRAMS["methods that yield"] = """
import asyncio
import ray

@ray.remote
class Source:
    def numbers(self, n):
        for i in range(n):
            yield i
    @ray.method(num_returns=3)
    def three(self):
        yield from "abc"
    @ray.method(num_returns="streaming")
    def fails(self, n):
        yield from range(n)
        raise ValueError(n)
    def plain(self):
        return "plain"

@ray.remote
class AsyncSource:
    async def numbers(self, n):
        for i in range(n):
            await asyncio.sleep(0)
            yield i

for source in (Source.remote(), AsyncSource.remote()):
    stream = source.numbers.remote(4)
    assert isinstance(stream, ray.ObjectRefGenerator)
    assert [ray.get(ref) for ref in stream] == [0, 1, 2, 3]
    try:
        next(stream)
    except StopIteration:
        pass
    else:
        raise SystemExit("there were more")

async def main():
    return [await ref async for ref in AsyncSource.remote().numbers.remote(3)]

assert asyncio.run(main()) == [0, 1, 2]

source = Source.remote()
assert ray.get(list(source.three.remote())) == ["a", "b", "c"]
values = []
for ref in source.fails.remote(2):
    try:
        values.append(ray.get(ref))
    except ValueError as error:
        values.append(type(error.cause))
assert values == [0, 1, ValueError]
assert ray.get(source.plain.remote()) == "plain"
"""

PROGRAMS["a stream between actors"] = """
import ray

ray.init(num_cpus=2)

@ray.remote
class Reader:
    def batches(self, n):
        for i in range(n):
            yield list(range(i))

@ray.remote
class Scorer:
    def score(self, batch):
        return sum(batch)

@ray.remote
def drive(stream, scorer):
    return ray.get([scorer.score.remote(ref) for ref in stream])

reader, scorer = Reader.remote(), Scorer.remote()
assert ray.get([scorer.score.remote(ref) for ref in reader.batches.remote(6)]) == [
    0, 0, 1, 3, 6, 10,
]
"""

# -- patterns -------------------------------------------------------------------------------------

PROGRAMS["a tree of actors"] = """
import ray

ray.init(num_cpus=2)

@ray.remote(num_cpus=0)
class Trainer:
    def __init__(self, rate):
        self.rate = rate
    def train(self, data):
        return self.rate * sum(data)

@ray.remote(num_cpus=0)
class Supervisor:
    def __init__(self, rates):
        self.trainers = [Trainer.remote(rate) for rate in rates]
    def train(self, data):
        return ray.get([trainer.train.remote(data) for trainer in self.trainers])

data = ray.put([1, 2, 3])
supervisors = [Supervisor.remote([1, 10]), Supervisor.remote([100])]
assert ray.get([one.train.remote(data) for one in supervisors]) == [[6, 60], [600]]
"""

PROGRAMS["a supervisor that replaces the dead"] = """
import os
import ray
from ray.exceptions import RayActorError

ray.init(num_cpus=2)

@ray.remote
class Worker:
    def work(self, item):
        if item < 0:
            os._exit(1)
        return item * 2

@ray.remote
class Supervisor:
    def __init__(self):
        self.worker, self.replaced = Worker.remote(), 0
    def work(self, items):
        results = []
        for item in items:
            try:
                results.append(ray.get(self.worker.work.remote(item)))
            except RayActorError:
                self.worker, self.replaced = Worker.remote(), self.replaced + 1
        return results, self.replaced

assert ray.get(Supervisor.remote().work.remote([1, -1, 2, -1, 3])) == ([2, 4, 6], 2)
"""

PROGRAMS["the next piece is fetched while this one is worked on"] = """
import ray

ray.init(num_cpus=2)

@ray.remote
class Queue:
    def __init__(self, n):
        self.items = list(range(n))
    def next(self):
        return self.items.pop() if self.items else None

@ray.remote
class Worker:
    def __init__(self, queue):
        self.queue = queue
    def run(self):
        done, coming = [], self.queue.next.remote()
        while (item := ray.get(coming)) is not None:
            coming = self.queue.next.remote()
            done.append(item * item)
        return done

queue = Queue.remote(20)
workers = [Worker.remote(queue) for _ in range(2)]
done = sum(ray.get([worker.run.remote() for worker in workers]), [])
assert sorted(done) == [i * i for i in range(20)]
"""

PROGRAMS["a signal between tasks"] = """
import asyncio
import ray

ray.init(num_cpus=2)

@ray.remote(num_cpus=0)
class Signal:
    def __init__(self):
        self.event, self.waiters = asyncio.Event(), 0
    def send(self, clear=False):
        self.event.set()
        if clear:
            self.event.clear()
    async def wait(self, should_wait=True):
        self.waiters += 1
        if should_wait:
            await self.event.wait()
        self.waiters -= 1
    async def number(self):
        return self.waiters

@ray.remote(num_cpus=0)
def wait_and_go(signal, i):
    ray.get(signal.wait.remote())
    return i

signal = Signal.remote()
tasks = [wait_and_go.remote(signal, i) for i in range(3)]
while ray.get(signal.number.remote()) < 3:
    assert ray.wait(tasks, timeout=0.01)[0] == []
ray.get(signal.send.remote())
assert ray.get(tasks) == [0, 1, 2]
"""

PROGRAMS["a barrier, a semaphore, a progress counter"] = """
import asyncio
import ray

ray.init(num_cpus=4)

@ray.remote
class Barrier:
    def __init__(self, size):
        self.barrier = asyncio.Barrier(size)
    async def wait(self):
        await self.barrier.wait()

@ray.remote
class Semaphore:
    def __init__(self, value):
        self.semaphore, self.now, self.most = asyncio.Semaphore(value), 0, 0
    async def acquire(self):
        await self.semaphore.acquire()
        self.now += 1
        self.most = max(self.most, self.now)
    async def release(self):
        self.now -= 1
        self.semaphore.release()
    async def peak(self):
        return self.most

@ray.remote
class Progress:
    def __init__(self):
        self.done = {}
    def report(self, i, share):
        self.done[i] = share
    def total(self):
        return sum(self.done.values())

@ray.remote(num_cpus=0.5)
def work(i, barrier, semaphore, progress):
    ray.get(barrier.wait.remote())
    ray.get(semaphore.acquire.remote())
    progress.report.remote(i, 0.5)
    ray.get(progress.report.remote(i, 1))
    ray.get(semaphore.release.remote())

barrier, semaphore, progress = Barrier.remote(4), Semaphore.remote(2), Progress.remote()
ray.get([work.remote(i, barrier, semaphore, progress) for i in range(4)])
assert ray.get(progress.total.remote()) == 4
assert 1 <= ray.get(semaphore.peak.remote()) <= 2
"""

PROGRAMS["a parameter server"] = """
import numpy as np
import ray

ray.init(num_cpus=2)

@ray.remote
class Server:
    def __init__(self, size):
        self.weights = np.zeros(size)
    def push(self, gradient):
        assert not gradient.flags.writeable
        self.weights += gradient
        return self.weights
    def pull(self):
        return self.weights

@ray.remote
def worker(server, rounds):
    for _ in range(rounds):
        weights = ray.get(server.pull.remote())
        ray.get(server.push.remote(np.ones_like(weights)))

server = Server.remote(100_000)
first = server.pull.remote()
ray.get([worker.remote(server, 5) for _ in range(2)])
weights = ray.get(server.pull.remote())
assert weights.sum() == 1_000_000
assert not weights.flags.writeable
assert ray.get(first).sum() == 0, "a result is what it was when it was returned"
"""

PROGRAMS["an environment with state"] = """
import random
import ray

ray.init(num_cpus=2)

@ray.remote
class Game:
    def __init__(self, seed):
        self.random, self.state = random.Random(seed), 0
    def step(self, action):
        self.state += action
        return self.state, self.random.random(), self.state >= 5

def play(game):
    rewards, done = [], False
    while not done:
        _, reward, done = ray.get(game.step.remote(1))
        rewards.append(reward)
    return rewards

one, same = play(Game.remote(7)), play(Game.remote(7))
assert one == same and len(one) == 5
"""

PROGRAMS["batches to a pool by hand"] = """
import ray

ray.init(num_cpus=2)

@ray.remote
class Doubler:
    def double(self, x):
        return 2 * x

actors = [Doubler.remote() for _ in range(2)]
items, results, busy = list(range(20)), {}, {}
free = list(actors)
while items or busy:
    while items and free:
        actor, item = free.pop(), items.pop()
        busy[actor.double.remote(item)] = actor, item
    (ready,), _ = ray.wait(list(busy), num_returns=1)
    actor, item = busy.pop(ready)
    results[item] = ray.get(ready)
    free.append(actor)
assert results == {i: 2 * i for i in range(20)}
"""

PROGRAMS["a pool of actors"] = """
import ray
from ray.util import ActorPool

ray.init(num_cpus=2)

@ray.remote
class Doubler:
    def double(self, x):
        return 2 * x

pool = ActorPool([Doubler.remote(), Doubler.remote()])
double = lambda actor, x: actor.double.remote(x)
assert list(pool.map(double, range(8))) == [2 * i for i in range(8)]
assert sorted(pool.map_unordered(double, range(8))) == [2 * i for i in range(8)]
assert not pool.has_next() and pool.has_free()
for i in range(3):
    pool.submit(double, i)
assert [pool.get_next() for _ in range(3)] == [0, 2, 4]
idle = pool.pop_idle()
assert idle is not None
pool.push(idle)
try:
    pool.get_next()
except StopIteration:
    pass
else:
    raise SystemExit("there was no next")
"""

PROGRAMS["a queue between tasks"] = """
import ray
from ray.util.queue import Empty, Full, Queue

ray.init(num_cpus=2)
queue = Queue(maxsize=2)
queue.put("a")
queue.put_nowait("b")
assert queue.full() and queue.qsize() == len(queue) == 2
for call in (lambda: queue.put_nowait("c"), lambda: queue.put("c", timeout=0.01)):
    try:
        call()
    except Full:
        continue
    raise SystemExit("it was full")
assert [queue.get(), queue.get_nowait()] == ["a", "b"]
try:
    queue.get(block=False)
except Empty:
    pass
else:
    raise SystemExit("it was empty")

@ray.remote
def produce(queue, n):
    for i in range(n):
        queue.put(i)

@ray.remote
def consume(queue, n):
    return [queue.get() for _ in range(n)]

produce.remote(queue, 10)
assert ray.get(consume.remote(queue, 10)) == list(range(10))
queue.put_nowait_batch([1, 2])
assert queue.get_nowait_batch(2) == [1, 2]
queue.shutdown()
"""

PROGRAMS["calls of one caller run in their order"] = """
import os, tempfile, time
import ray

ray.init(num_cpus=2)
gate = os.path.join(tempfile.mkdtemp(), "gate")

@ray.remote
class Log:
    def __init__(self):
        self.log = []
    def add(self, x):
        self.log.append(x)
    def get(self):
        return self.log

@ray.remote
def late():
    while not os.path.exists(gate):
        time.sleep(0.005)
    return "late"

@ray.remote
def add_many(log, who):
    for i in range(20):
        log.add.remote((who, i))
    return ray.get(log.get.remote())[-1]

log = Log.remote()
ray.get([add_many.remote(log, who) for who in range(3)])
entries = ray.get(log.get.remote())
for who in range(3):
    assert [i for by, i in entries if by == who] == list(range(20))

ordered = Log.remote()
free = Log.options(allow_out_of_order_execution=True).remote()
ray.get([ordered.get.remote(), free.get.remote()])
refs = [ordered.add.remote(late.remote()), ordered.add.remote(1), free.add.remote(late.remote())]
ray.get([free.add.remote(1), free.add.remote(2)])
assert ray.get(free.get.remote()) == [1, 2]
assert ray.wait(refs, num_returns=1, timeout=0.1)[0] == []
open(gate, "w").close()
ray.get(refs)
assert ray.get(ordered.get.remote()) == ["late", 1]
assert ray.get(free.get.remote()) == [1, 2, "late"]
"""

# -- the context of an actor, and handles out of band ---------------------------------------------

PROGRAMS["where an actor runs"] = """
import ray

ray.init(num_cpus=2, namespace="mine")

@ray.remote(num_cpus=1)
class Who:
    def __init__(self):
        self.made_as = ray.get_runtime_context().get_actor_id()
    def about(self):
        context = ray.get_runtime_context()
        return {
            "actor": context.get_actor_id(), "name": context.get_actor_name(),
            "task": context.get_task_id(), "task name": context.get_task_name(),
            "namespace": context.namespace, "given": context.get_assigned_resources(),
            "again": context.was_current_actor_reconstructed, "job": context.get_job_id(),
        }
    def me(self):
        return ray.get_runtime_context().current_actor
    def made(self):
        return self.made_as

who = Who.options(name="who").remote()
ref = who.about.remote()
about = ray.get(ref)
assert about["actor"] == who._actor_id.hex() == ray.get(who.made.remote())
assert about["task"] == ref.task_id().hex()
assert about["job"] == ray.get_runtime_context().get_job_id()
assert (about["name"], about["namespace"], about["task name"]) == ("who", "mine", "Who.about")
assert (about["given"], about["again"]) == ({"CPU": 1}, False)
assert ray.get(who.about.options(name="task").remote())["task name"] == "task"
assert ray.get(who.me.remote()) == who
assert ray.ActorID.from_hex(about["actor"]) == who._actor_id

@ray.remote
def in_a_task():
    return ray.get_runtime_context().get_actor_id()

assert ray.get(in_a_task.remote()) is None
assert ray.get_runtime_context().get_actor_id() is None
assert ray.get_runtime_context().get_actor_name() is None
"""

PROGRAMS["handles that travel by hand"] = """
import copy, pickle
import ray

ray.init(num_cpus=2)

@ray.remote
class Value:
    def __init__(self, value):
        self.value = value
    def get(self):
        return self.value

a, b = Value.remote(1), Value.remote(2)
for other in (
    pickle.loads(pickle.dumps(a)), ray.cloudpickle.loads(ray.cloudpickle.dumps(a)),
    copy.copy(a), copy.deepcopy(a), ray.get(ray.put(a)),
):
    assert other == a and hash(other) == hash(a) and other != b
    assert ray.get(other.get.remote()) == 1
assert repr(a) == f"Actor(Value, {a._actor_id.hex()})"
assert {a: "a", b: "b"}[pickle.loads(pickle.dumps(b))] == "b"

@ray.remote
def use(data):
    return ray.get(pickle.loads(data).get.remote())

assert ray.get(use.remote(pickle.dumps(b))) == 2
"""

PROGRAMS["an actor calls itself"] = """
import ray
from ray.exceptions import GetTimeoutError

ray.init(num_cpus=2)

@ray.remote
class Self:
    def __init__(self):
        self.me = ray.get_runtime_context().current_actor
        self.seen = []
    def later(self, n):
        self.seen.append(n)
        if n:
            return self.me.later.remote(n - 1)
    def wait(self, timeout):
        return ray.get(self.me.answer.remote(), timeout=timeout)
    def answer(self):
        return 42
    def get(self):
        return self.seen

actor = Self.remote()
ref = actor.later.remote(3)
while ref is not None:
    ref = ray.get(ref)
assert ray.get(actor.get.remote()) == [3, 2, 1, 0]
try:
    ray.get(actor.wait.remote(0.1))
except GetTimeoutError:
    pass
else:
    raise SystemExit("it was in two calls at a time")
assert ray.get(Self.options(max_concurrency=2).remote().wait.remote(60)) == 42
"""


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    folder: Path = tmp_path_factory.mktemp("hook")
    (folder / "sitecustomize.py").write_text(HOOK)
    return os.environ | {"PYTHONPATH": str(folder)}


@pytest.mark.parametrize("name", PROGRAMS)
def test_a_documented_program_runs(environment: dict[str, str], tmp_path: Path, name: str) -> None:
    program = PROGRAMS[name] + "\nprint('to the end')\n"
    printed = run_program(program, env=environment | {"TMPDIR": str(tmp_path)})[0]
    assert printed == "to the end\n"
