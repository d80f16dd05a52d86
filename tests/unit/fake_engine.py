"""An engine in this process, for tests of the API: objects in a dict, tasks run at once."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from typing import Any

import pytest

from plasmid import ids
from plasmid.engine import Engine, SessionConfig, TaskOptions, current
from plasmid.exceptions import (
    GetTimeoutError,
    ObjectRefStreamEndOfStreamError,
    RayTaskError,
    SessionError,
)


class Ref:
    def __init__(self, number: int) -> None:
        self.number = number

    def __repr__(self) -> str:
        return f"Ref({self.number})"


class FakeEngine(Engine):
    ref_type = Ref
    is_program = True

    def __init__(self, config: SessionConfig) -> None:
        self.config = config
        self.futures: dict[Ref, Future[Any]] = {}
        self.exports: list[bytes] = []
        self.submitted: list[TaskOptions] = []
        self.resolved: list[Any] = []
        self.timeouts: list[float | None] = []
        self.is_shut_down = False
        self.named: dict[str, tuple[Ref, float | str]] = {}
        self.freed: list[Ref] = []
        self.cancelled: list[tuple[Ref, bool, bool]] = []
        self.serializers: dict[type, Any] = {}
        self.group_specs: list[Any] = []
        self.streams: dict[Ref, list[Ref]] = {}

    def pending(self) -> Ref:
        ref = Ref(len(self.futures))
        self.futures[ref] = Future()
        return ref

    def put(self, value: Any) -> Ref:
        assert not self.is_shut_down
        ref = self.pending()
        self.futures[ref].set_result(value)
        return ref

    def is_failed(self, ref: Ref) -> bool:
        return ref in self.futures and self.futures[ref].exception() is not None

    def is_awaited(self) -> bool:
        return False

    def get_one(self, ref: Ref, timeout: float | None, writable: bool = False) -> Any:
        self.timeouts.append(timeout)
        if ref not in self.futures:
            raise SessionError(f"get: {ref!r} is of another session")
        try:
            return self.futures[ref].result(timeout)
        except TimeoutError:
            raise GetTimeoutError(f"get: {ref!r} is not there after {timeout} s") from None
        except RayTaskError as error:
            raise error.as_instanceof_cause() from None

    def get(self, refs: list[Ref], timeout: float | None, writable: bool = False) -> list[Any]:
        return [self.get_one(ref, timeout, writable) for ref in refs]

    def give_name(self, ref: Ref, name: str, lifetime: float | str) -> None:
        self.named[name] = (ref, lifetime)

    def get_named(self, name: str) -> Ref:
        return self.named[name][0]

    def delete_named(self, name: str) -> None:
        del self.named[name]

    def names(self) -> list[str]:
        return sorted(self.named)

    def register_serializer(self, cls: type, serializer: Any, deserializer: Any) -> None:
        self.serializers[cls] = (serializer, deserializer)

    def deregister_serializer(self, cls: type) -> None:
        self.serializers.pop(cls, None)

    def free(self, refs: list[Ref]) -> None:
        self.freed += refs

    def get_buffer(self, ref: Ref, timeout: float | None) -> memoryview:
        return memoryview(self.get_one(ref, timeout))

    def explain(self, ref: Ref, timeout: float | None) -> Any:
        return repr(self.get_one(ref, timeout))

    def empty(self, shape: Any, dtype: Any, order: str) -> Any:
        return (shape, dtype, order)

    def create(self, nbytes: int) -> memoryview:
        return memoryview(bytearray(nbytes))

    def seal(self, value: Any, timeout: float | None) -> Any:
        self.timeouts.append(timeout)
        return self.put(value)

    def wait(
        self, refs: list[Ref], num_returns: int, timeout: float | None
    ) -> tuple[list[Ref], list[Ref]]:
        self.timeouts.append(timeout)
        ready = [ref for ref in refs if self.futures[ref].done()][:num_returns]
        return ready, [ref for ref in refs if ref not in ready]

    def export(self, function: Callable[..., Any], name: str, key: bytes) -> Any:
        self.exports.append(key)
        return function

    def create_actor(
        self,
        handle: Any,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        options: Any,
        card: dict[str, Any],
    ) -> Any:
        raise NotImplementedError

    def call(
        self, mailbox: Any, args: tuple[Any, ...], kwargs: dict[str, Any], options: Any
    ) -> list[Any]:
        raise NotImplementedError

    def find_actor(self, name: str, namespace: str) -> Any:
        return None

    def actors(self) -> list[dict[str, Any]]:
        return []

    def actor_id(self, mailbox: Any) -> Any:
        raise NotImplementedError

    def kill_actor(self, mailbox: Any, no_restart: bool) -> None:
        raise NotImplementedError

    def submit(
        self, handle: Any, args: tuple[Any, ...], kwargs: dict[str, Any], options: TaskOptions
    ) -> list[Ref]:
        self.submitted.append(options)
        count = {"streaming": 2, "dynamic": 1}.get(str(options.num_returns), options.num_returns)
        refs = [self.pending() for _ in range(int(count))]
        self.resolved = [self.get_one(a, None) for a in args if type(a) is Ref]
        args = tuple(self.get_one(a, None) if type(a) is Ref else a for a in args)
        try:
            result = handle(*args, **kwargs)
        except Exception as error:
            failure = RayTaskError.capture(options.name, error)
            for ref in refs:
                self.futures[ref].set_exception(failure)
        else:
            if options.num_returns == "streaming":
                self.streams[refs[0]] = [self.put(value) for value in result]
                result = (None, None)
            results = [result] if count == 1 else list(result or ())
            for ref, value in zip(refs, results, strict=True):
                self.futures[ref].set_result(value)
        self.resolved = []
        return refs

    def cancel(self, ref: Ref, force: bool, recursive: bool) -> None:
        self.cancelled.append((ref, force, recursive))

    def is_resolved_argument(self, value: Any) -> bool:
        return any(value is argument for argument in self.resolved)

    def cluster_resources(self) -> dict[str, float]:
        return {"CPU": 2.0}

    def available_resources(self) -> dict[str, float]:
        return {"CPU": 1.0}

    def nodes(self) -> list[dict[str, Any]]:
        return [{"NodeID": "0", "Alive": True}]

    session_mark = b"0123456789"

    def gpu_ids(self) -> list[int] | list[str]:
        return [0]

    def create_group(self, bundles: list[dict[str, float]], **how: Any) -> int:
        self.group_specs.append((bundles, how))
        return len(self.group_specs)

    def remove_group(self, serial: int) -> None:
        self.group_specs[serial - 1] = None

    def groups(self) -> list[Any]:
        return []

    def group_bundles(self, serial: int) -> list[dict[str, float]]:
        return self.group_specs[serial - 1][0]

    def current_group(self) -> int:
        return 0

    def locate(self, refs: list[Ref]) -> dict[Ref, dict[str, Any]]:
        return {ref: {"node_ids": ["0"], "object_size": 1, "did_spill": False} for ref in refs}

    def objects(self) -> list[dict[str, Any]]:
        return []

    def processes(self) -> list[dict[str, Any]]:
        return []

    def tasks(self) -> list[dict[str, Any]]:
        return []

    def timeline(self) -> list[dict[str, Any]]:
        return []

    def memory_summary(self, limit: int) -> str:
        return "0 bytes"

    def address_info(self) -> dict[str, Any]:
        return {"address": "local", "node_id": "0"}

    def runtime_context(self) -> dict[str, Any]:
        return {"namespace": self.config.namespace or "", "job_id": ids.JOB}

    def future(self, ref: Ref) -> Future[Any]:
        return self.futures[ref]

    def next_item(self, gate: Ref, completed: Ref, timeout: float | None) -> Ref:
        self.timeouts.append(timeout)
        if not self.streams[gate]:
            raise ObjectRefStreamEndOfStreamError("it has ended")
        return self.streams[gate].pop(0)

    def look_at_stream(self, gate: Ref) -> tuple[int, bool]:
        return len(self.streams[gate]), not self.streams[gate]

    def item_future(self, gate: Ref) -> Future[None]:
        return self.futures[gate]

    def forget_future(self, gate: Ref, future: Future[None]) -> None:
        pass

    def shutdown(self) -> None:
        self.is_shut_down = True


def fake_sessions(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[FakeEngine]]:
    """For a fixture: sessions are of FakeEngines, which are collected in the list."""
    engines: list[FakeEngine] = []
    guard = threading.Lock()

    def start(config: SessionConfig) -> FakeEngine:
        with guard:
            engines.append(FakeEngine(config))
            return engines[-1]

    monkeypatch.setattr(current, "starter", start)
    yield engines
    current.stop()
