# SPDX-License-Identifier: Apache-2.0
"""What may block for ever: a libvirtd that was stopped is one, seen from nova-compute."""
import os
import signal
import socket
import subprocess
import sys
import threading
import time

import pytest

from nova_migcheck.deadline import Bounded, is_exit


def until(reached):
    """Whether it becomes true within 20 s."""
    end = time.monotonic() + 20
    while not reached() and time.monotonic() < end:
        time.sleep(0.01)
    return reached()


@pytest.mark.parametrize('error, expected', [
    (SystemExit(), True), (KeyboardInterrupt(), True), (GeneratorExit(), True),
    (ValueError(), False), (BaseException(), False), (TimeoutError(), False)])
def test_is_exit(error, expected):
    assert is_exit(error) is expected


def test_it_returns_and_raises_what_the_function_does():
    bounded = Bounded()
    assert bounded.call(20, lambda a, b: a + b, 1, 2) == 3
    with pytest.raises(ZeroDivisionError):
        bounded.call(20, lambda: 1 // 0)
    with pytest.raises(SystemExit):
        bounded.call(20, sys.exit, 3)


def test_while_one_call_hangs_the_others_fail_at_once_and_no_thread_is_added():
    bounded, gate = Bounded(), threading.Event()
    with pytest.raises(TimeoutError, match=r'no answer within 0\.05 s'):
        bounded.call(0.05, gate.wait)
    threads = threading.active_count()
    for _ in range(50):
        begun = time.monotonic()
        with pytest.raises(TimeoutError, match='earlier call'):
            bounded.call(60, lambda: None)
        assert time.monotonic() - begun < 20
    assert threading.active_count() == threads
    gate.set()
    assert until(lambda: not bounded.hangs)
    assert bounded.call(20, lambda: 'again') == 'again'


def test_a_daemon_that_was_stopped_costs_one_deadline():
    """The daemon's process gets SIGSTOP: the kernel still takes connections for it, and nobody answers."""
    ours, theirs = socket.socketpair()
    code = 'import socket, sys; s = socket.socket(fileno=int(sys.argv[1]))\nwhile s.recv(1): s.send(b"x")'
    with ours, theirs, subprocess.Popen([sys.executable, '-c', code, str(theirs.fileno())], pass_fds=[theirs.fileno()]) as daemon:
        def ask():
            ours.send(b'?')
            return ours.recv(1)
        bounded = Bounded()
        try:
            assert bounded.call(30, ask) == b'x'
            os.kill(daemon.pid, signal.SIGSTOP)
            with pytest.raises(TimeoutError):
                bounded.call(0.1, ask)
            os.kill(daemon.pid, signal.SIGCONT)
            assert until(lambda: not bounded.hangs)
            assert bounded.call(30, ask) == b'x'
        finally:
            daemon.kill()
