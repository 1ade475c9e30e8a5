# SPDX-License-Identifier: Apache-2.0
"""Run checks in a process of their own, so that they cannot harm nova-compute.

One process is started for a round. It imports the checks' modules and no nova (0.03 s of CPU
instead of 2 s), and forks one more process for each check. A check that hangs, dies, or uses up
memory harms only itself. At the deadline the process ends, with all processes of its checks.

Its task is in the file on standard input, as JSON. Each check writes what it yields, one JSON
object a line, to its own file, which :mod:`nova_migcheck.rounds.runner` has open, too. All of them
are memory files: they never block, and nothing is on disk or in the command line.
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

# Maximum that one check may yield, in lines and bytes. Nobody reads more than that.
MAX_LINES = 1000
MAX_BYTES = 512 * 1024
# Maximum data of one check in bytes, including the whole stack of each thread. A healthy round with
# keystoneauth1 uses 40 MiB.
MAX_MEMORY = 512 * 1024 * 1024
# Stack of a thread in bytes, instead of 8 MiB: a check may have a hundred waiting threads.
STACK = 1024 * 1024
# Seconds to wait for killed processes. One in uninterruptible sleep may never end.
REAP = 0.5

_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36


class _TooMuch(Exception):
    pass


def main() -> NoReturn:
    """Run the checks given on standard input, and write how each ended."""
    _prctl(_PR_SET_CHILD_SUBREAPER, 1)
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGCHLD})
    # The signal comes when the thread that started this process ends. It waits for this process.
    _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    task = json.load(sys.stdin)
    deadline = time.monotonic() + task['deadline']
    # In case the deadline below fails: SIGALRM's default action ends the process.
    signal.alarm(math.ceil(task['deadline'] + 2 * REAP) + 1)
    _import_once(check['entry'].partition(':')[0] for check in task['checks'].values())
    _share()
    running: dict[int, str] = {}
    for name, check in task['checks'].items():
        pid = os.fork()
        if pid == 0:
            _alone(name, task)
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
    _write(task['status'], json.dumps(ended))
    os._exit(0)


def _alone(name: str, task: Mapping[str, Any]) -> None:
    """Close the other checks' output files and the status file."""
    others = (check['out'] for other, check in task['checks'].items() if other != name)
    for fd in (task['status'], *others):
        os.close(fd)


def _import_once(modules: Iterable[str]) -> None:
    """Import the checks' modules once, before forking.

    A check imports heavy modules only when it runs. A module that cannot be imported here fails
    again in the process of its check, which reports it.
    """
    for module in modules:
        try:
            importlib.import_module(module)
        except BaseException:
            continue


def _share() -> None:
    """Keep the garbage collector of forked processes from copying this process's pages."""
    gc.freeze()


def _wait(running: dict[int, str], ended: dict[str, Any], deadline: float) -> None:
    """Reap until ``running`` is empty or the deadline is over."""
    while running:
        # This process is a subreaper: orphans of a check become its children, too.
        pid, status = os.waitpid(-1, os.WNOHANG)
        if pid:
            name = running.pop(pid, None)
            if name is not None:
                ended[name] = _ending(status)
            continue
        left = deadline - time.monotonic()
        if left <= 0:
            return
        signal.sigtimedwait({signal.SIGCHLD}, left)


def _ending(status: int) -> dict[str, Any]:
    if os.WIFSIGNALED(status):
        return {'how': 'signal', 'signal': os.WTERMSIG(status)}
    return {'how': 'exit', 'status': os.WEXITSTATUS(status)}


def _kill_descendants() -> None:
    """Kill all descendants.

    When a child dies, its own children become children of this process, so repeat until none is
    left that can be killed.
    """
    end = time.monotonic() + REAP
    while time.monotonic() < end:
        with open(f'/proc/self/task/{os.getpid()}/children') as children:
            pids = [int(pid) for pid in children.read().split()]
        alive = False
        for pid in pids:
            try:
                os.kill(pid, signal.SIGKILL)
                # WNOWAIT leaves them to _wait(), which tells the checks from the others.
                flags = os.WEXITED | os.WNOHANG | os.WNOWAIT
                alive |= os.waitid(os.P_PID, pid, flags) is None
            except (ProcessLookupError, ChildProcessError):
                continue
        if not alive:
            return
        signal.sigtimedwait({signal.SIGCHLD}, 0.02)


def _reap_orphans() -> None:
    """Reap remaining orphans, which would otherwise be reparented to PID 1.

    In a container, PID 1 may be nova-compute itself.
    """
    try:
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
    except ChildProcessError:
        pass


def _run(check: Mapping[str, Any]) -> NoReturn:
    """Run one check in its own process."""
    status = 1
    try:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGCHLD})
        signal.alarm(0)
        _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        resource.setrlimit(resource.RLIMIT_DATA, (MAX_MEMORY, MAX_MEMORY))
        threading.stack_size(STACK)
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        # A check or a library that prints must not fill anything.
        null = os.open(os.devnull, os.O_RDWR)
        for stream in (0, 1, 2):
            os.dup2(null, stream)
        _stream(check)
        status = 0
    finally:
        os._exit(status)


def _stream(check: Mapping[str, Any]) -> None:
    """Run a check, and write each result when it comes."""
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
                raise _TooMuch(f'it yielded more than {MAX_LINES} results or {MAX_BYTES} bytes; '
                               'the rest is dropped')
            _write(out, line)
    except _TooMuch as e:
        _write(out, json.dumps({'raised': str(e)}) + '\n')
    except BaseException as e:
        # Also SystemExit and KeyboardInterrupt, since a check must not affect anything else.
        raised = {'raised': f'{type(e).__name__}: {e}'[:500],
                  'traceback': traceback.format_exc(limit=-5)[-2000:]}
        _write(out, json.dumps(raised) + '\n')
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
    # This is only a second line of defence, so a C library or a sandbox without prctl is no error.
    try:
        ctypes.CDLL(None).prctl(option, int(value), 0, 0, 0)
    except (OSError, AttributeError):
        pass


if __name__ == '__main__':
    main()
