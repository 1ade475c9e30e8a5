# SPDX-License-Identifier: Apache-2.0
"""The process in which checks run, so that whatever they do is done to it and not to nova-compute.

One process is started for a round. It imports the checks' modules and no nova (0.03 s of CPU instead of 2 s), and forks one more process
for each check: a check that hangs, dies, or eats memory costs itself only. It ends at its deadline with every process that its checks
left behind.

What it is told stands in the file on standard input, as JSON; each check writes what it yields, a JSON object a line, into a file of
its own that :mod:`nova_migcheck.rounds.runner` holds too. All of them are memory files: nothing blocks, nothing is on disk or in argv.
"""

from __future__ import annotations

import ctypes
import gc
import importlib
import json
import math
import os
import resource
import signal
import sys
import threading
import time
import traceback
from typing import Any, Iterable, Mapping, NoReturn

from nova_migcheck.checks.base import Fact, Keep, Settings
from nova_migcheck.finding import Finding
from nova_migcheck.processes import start_time

# Most that one check may yield, in lines and bytes. A host with more than this to say is not read by anybody.
MAX_LINES = 1000
MAX_BYTES = 512 * 1024
# Memory of one check, in bytes: its data, which counts a thread's whole stack. A healthy round with keystoneauth1 has 40 MiB.
MAX_MEMORY = 512 * 1024 * 1024
# Bytes of a thread's stack, instead of 8 MiB: a check may have a hundred threads that wait.
STACK = 1024 * 1024
# Seconds given to a killed process to be gone. One in uninterruptible sleep never is, and must not be waited for.
REAP = 0.5

_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36


class _TooMuch(Exception):
    pass


def main() -> NoReturn:
    """Run what standard input says, write how each check ended, and end with all descendants."""
    _prctl(_PR_SET_CHILD_SUBREAPER, 1)
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGCHLD})
    # The signal comes with the death of the thread that started us, which waits for us.
    _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    told = json.load(sys.stdin)
    deadline = time.monotonic() + told['deadline']
    # If the deadline below should ever fail us: SIGALRM's default action ends the process.
    signal.alarm(math.ceil(told['deadline'] + 2 * REAP) + 1)
    _import_once(check['entry'].partition(':')[0] for check in told['checks'].values())
    _share()
    running: dict[int, str] = {}
    for name, check in told['checks'].items():
        pid = os.fork()
        if pid == 0:
            _alone(name, told)
            _run(check)
        running[pid] = name
    ended: dict[str, Any] = {}
    _wait(running, ended, deadline)
    for name in running.values():
        ended[name] = {'how': 'deadline'}
    _kill_descendants()
    _wait(running, {}, time.monotonic() + REAP)
    for pid, name in running.items():
        ended[name] = {'how': 'deadline', 'stuck': pid, 'since': start_time(pid)}
    _reap_orphans()
    _write(told['status'], json.dumps(ended))
    os._exit(0)


def _alone(name: str, told: Mapping[str, Any]) -> None:
    """Close the other checks' output files and the status file."""
    for fd in (told['status'], *(other['out'] for check, other in told['checks'].items() if check != name)):
        os.close(fd)


def _import_once(modules: Iterable[str]) -> None:
    """Import the checks' modules once, before forking.

    A check imports what is heavy when it runs. A module that breaks here does so again in the
    process of its check, which reports it.
    """
    for module in modules:
        try:
            importlib.import_module(module)
        except BaseException:
            continue


def _share() -> None:
    """Keep the garbage collector of forked processes from touching, and so copying, our pages."""
    gc.freeze()


def _wait(running: dict[int, str], ended: dict[str, Any], deadline: float) -> None:
    """Reap until nothing of ``running`` is left or the time is over."""
    while running:
        # Orphans of a check become our children too (subreaper), so any child may be the one that ended.
        pid, status = os.waitpid(-1, os.WNOHANG)
        if pid:
            name = running.pop(pid, None)
            if name is not None:
                ended[name] = {'how': 'signal', 'signal': os.WTERMSIG(status)} if os.WIFSIGNALED(status) else {
                    'how': 'exit', 'status': os.WEXITSTATUS(status)}
            continue
        left = deadline - time.monotonic()
        if left <= 0:
            return
        signal.sigtimedwait({signal.SIGCHLD}, left)


def _kill_descendants() -> None:
    """Kill until no child is left that can be killed: each death may hand us the orphans of the dead."""
    end = time.monotonic() + REAP
    while time.monotonic() < end:
        with open(f'/proc/self/task/{os.getpid()}/children') as children:
            pids = [int(pid) for pid in children.read().split()]
        alive = False
        for pid in pids:
            try:
                os.kill(pid, signal.SIGKILL)
                # WNOWAIT: who of them was a check is told apart later.
                alive |= os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None
            except (ProcessLookupError, ChildProcessError):
                continue
        if not alive:
            return
        signal.sigtimedwait({signal.SIGCHLD}, 0.02)


def _reap_orphans() -> None:
    """Reap remaining orphans, which would otherwise be reparented to PID 1.

    In a container that may be nova-compute itself.
    """
    try:
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
    except ChildProcessError:
        pass


def _run(check: Mapping[str, Any]) -> NoReturn:
    """Run one check, in its own process."""
    status = 1
    try:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGCHLD})
        signal.alarm(0)
        _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        resource.setrlimit(resource.RLIMIT_DATA, (MAX_MEMORY, MAX_MEMORY))
        threading.stack_size(STACK)
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        # A check, or a library below it, that prints must not be able to fill anything.
        nowhere = os.open(os.devnull, os.O_RDWR)
        for stream in (0, 1, 2):
            os.dup2(nowhere, stream)
        _stream(check)
        status = 0
    finally:
        os._exit(status)


def _stream(check: Mapping[str, Any]) -> None:
    out = check['out']
    written = lines = 0
    try:
        module, _, attribute = check['entry'].partition(':')
        checker = getattr(importlib.import_module(module), attribute)()
        for result in checker.run(Settings(**check['settings'])):
            line = _line(result)
            written += len(line)
            lines += 1
            if lines > MAX_LINES or written > MAX_BYTES:
                raise _TooMuch(f'it found more than {MAX_LINES} things or {MAX_BYTES} bytes; the rest is dropped')
            _write(out, line)
    except _TooMuch as e:
        _write(out, json.dumps({'raised': str(e)}) + '\n')
    except BaseException as e:
        # Also SystemExit and KeyboardInterrupt: a check has no say over anything but its own findings.
        where = traceback.format_exc(limit=-5)
        _write(out, json.dumps({'raised': f'{type(e).__name__}: {e}'[:500], 'traceback': where[-2000:]}) + '\n')
    else:
        _write(out, json.dumps({'end': round(_cpu_seconds(), 4)}) + '\n')


def _cpu_seconds() -> float:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


def _line(result: Any) -> str:
    if isinstance(result, Finding):
        return json.dumps({'finding': result.to_dict()}) + '\n'
    if isinstance(result, Fact):
        return json.dumps({'fact': [result.name, result.value]}) + '\n'
    if isinstance(result, Keep):
        return json.dumps({'keep': result.value}) + '\n'
    raise TypeError(f'it yielded {type(result).__name__}, not a Finding, Fact or Keep')


def _write(fd: int, text: str) -> None:
    left = text.encode()
    while left:
        left = left[os.write(fd, left):]


def _prctl(option: int, value: int) -> None:
    # The C library that is already loaded; a musl or a sandbox without prctl only loses this second line of defence.
    try:
        ctypes.CDLL(None).prctl(option, int(value), 0, 0, 0)
    except (OSError, AttributeError):
        pass


if __name__ == '__main__':
    main()
