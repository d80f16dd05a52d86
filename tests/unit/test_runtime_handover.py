"""Descriptors change hands between processes of one user only."""

from __future__ import annotations

import os
import signal
import threading
import time

import pytest

from plasmid.runtime import handover


def test_who_joins_gets_the_same_files() -> None:
    name = handover.new_name()
    pairs = [os.pipe() for _ in range(3)]
    with handover.listen(name) as listener:
        joined: list[tuple[int, int, int]] = []
        thread = threading.Thread(target=lambda: joined.append(handover.join(name)))
        thread.start()
        while thread.is_alive():
            handover.serve(listener, [write for _, write in pairs])
            thread.join(0.01)
    for fd, (read, write) in zip(joined[0], pairs, strict=True):
        assert not os.get_inheritable(fd)
        os.write(fd, b"x")
        assert os.read(read, 1) == b"x"
        for number in (fd, read, write):
            os.close(number)


def test_connections_wait_for_a_listener_that_is_busy() -> None:
    name = handover.new_name()
    with handover.listen(name) as listener:
        link = handover.connect(name)
        handover.send(link, b"hello", [0])
        link.close()
        (other,) = handover.accept(listener)
        with other:
            data, (fd,) = handover.receive(other, 1)
            assert data == b"hello"
            assert os.path.sameopenfile(fd, 0)
            os.close(fd)


@pytest.mark.skipif(os.getuid() != 0, reason="needs two users")
@pytest.mark.parametrize(("here", "there"), [(0, 65534), (65534, 0)])
def test_another_user_is_refused_on_both_sides(here: int, there: int) -> None:
    """Root, too: it does not join somebody else's session by accident."""
    name = handover.new_name()
    done, finish = os.pipe()
    listening = os.fork()
    if listening == 0:
        os.close(finish)
        os.setuid(here)
        listener = handover.listen(name)
        os.read(done, 1)  # until the other end is closed
        os._exit(len(list(handover.accept(listener))))
    joining = os.fork()
    if joining == 0:
        os.setuid(there)
        while True:
            try:
                handover.join(name)
            except ConnectionRefusedError:
                continue  # nobody listens yet
            except PermissionError:
                os._exit(0)
            os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(joining, 0)[1]) == 0
    os.close(finish)
    assert os.waitstatus_to_exitcode(os.waitpid(listening, 0)[1]) == 0
    os.close(done)


def test_nobody_listens() -> None:
    with pytest.raises(ConnectionRefusedError):
        handover.join(handover.new_name())


def test_a_keeper_that_does_not_answer_is_a_timeout() -> None:
    name = handover.new_name()
    with handover.listen(name), pytest.raises(TimeoutError):
        handover.join(name, timeout=0.01)


def test_names_tell_the_user_and_cannot_be_guessed() -> None:
    first, second = handover.new_name(), handover.new_name()
    assert first.startswith(f"plasmid-{os.getuid()}-")
    assert first != second


def test_a_guest_that_hung_up_does_not_disturb() -> None:
    name = handover.new_name()
    with handover.listen(name) as listener:
        handover.connect(name).close()
        handover.serve(listener, [0])


@pytest.fixture
def scope(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody else's sessions."""
    monkeypatch.setenv(handover.SCOPE, os.urandom(8).hex())


@pytest.mark.usefixtures("scope")
def test_sessions_are_found_by_age_started_ones_first() -> None:
    names = [handover.new_name(kind) for kind in ("started", "session") * 20]
    mixed = sorted(names, key=lambda name: name[::-1])  # by the random end
    listeners = [handover.listen(name) for name in mixed]
    handover.listen(handover.new_name("log")).close()
    try:
        assert handover.find() == names[-2::-2] + names[-1::-2]
    finally:
        for listener in listeners:
            listener.close()
    assert handover.find() == []


@pytest.mark.usefixtures("scope")
def test_who_joins_waits_until_the_listener_has_room() -> None:
    name = handover.new_name()
    with handover.listen(name) as listener:
        listener.listen(0)  # one at a time
        first = handover.connect(name)
        with pytest.raises(BlockingIOError):
            handover.connect(name)
        with pytest.raises(TimeoutError, match="too many"):
            handover.connect(name, 0.05)
        joined: list[tuple[int, int, int]] = []
        threads = [
            threading.Thread(target=lambda: joined.append(handover.join(name))) for _ in range(20)
        ]
        for thread in threads:
            thread.start()
        while any(thread.is_alive() for thread in threads):
            handover.serve(listener, (0, 1, 2))
            threads[0].join(0.001)
        first.close()
    assert len(joined) == 20
    for fds in joined:
        for fd in fds:
            os.close(fd)


@pytest.mark.usefixtures("scope")
def test_a_signal_does_not_end_the_wait_for_room() -> None:
    name = handover.new_name()
    seen: list[int] = []
    before = signal.signal(signal.SIGALRM, lambda number, _: seen.append(number))
    try:
        with handover.listen(name) as listener:
            listener.listen(0)
            handover.connect(name).close()

            def admit() -> None:
                while not seen:
                    time.sleep(0.001)
                list(handover.accept(listener))

            thread = threading.Thread(target=admit)
            thread.start()
            signal.setitimer(signal.ITIMER_REAL, 0.05)
            handover.connect(name, 60.0).close()
            thread.join()
    finally:
        signal.signal(signal.SIGALRM, before)
    assert seen == [signal.SIGALRM]
