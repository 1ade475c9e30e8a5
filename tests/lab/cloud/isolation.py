# SPDX-License-Identifier: Apache-2.0
"""Run something in namespaces of its own, of which nothing stays, however it ends.

The work is done by a child in a pid namespace. When its first process goes the kernel kills all that was ever started in there, daemons
too, and that process goes with us, also when we are killed. The mounts, bridges and addresses go with the last process.
"""

from __future__ import annotations

import itertools
import os
import pathlib
import signal
import subprocess
import sys
import traceback
import types
from typing import Callable, Mapping, Optional, Sequence

from tests.lab.cloud import STATE

_INSIDE = 'MIGCHECK_LAB_INSIDE'


def isolated(module: str, arguments: Sequence[Sequence[str]], work: Callable[[], int], terminal: bool = False,
             descriptors: Sequence[Mapping[str, int]] = ()) -> int:
    """Run ``work`` isolated, and return its exit status: the module is started once more, inside, with these arguments.

    :param arguments: for several sets of arguments it is started as often, side by side; then the first exit status that is not 0 counts
    :param terminal: whether somebody will type in there; then an interrupt reaches everything at once
    :param descriptors: for each of them, variables of its environment and the file descriptors whose numbers these are to be; it inherits
        them, and they are closed here
    """
    if os.environ.get(_INSIDE):
        return _reaping(work)
    for program in ('setpriv', 'unshare'):
        if not _has(program):
            print(f'{program} is needed (util-linux)', file=sys.stderr)
            return 1
    if os.geteuid() != 0:
        print('the lab needs root: it makes namespaces', file=sys.stderr)
        return 1
    command = ['setpriv', '--pdeathsig', 'KILL', 'unshare', '--net', '--mount', '--uts', '--ipc', '--pid', '--fork', '--kill-child',
               '--mount-proc', '--propagation', 'private', sys.executable, '-m', module]
    processes = []
    for one, handed in itertools.zip_longest(arguments, descriptors, fillvalue={}):
        variables = {name: str(number) for name, number in handed.items()}
        processes.append(subprocess.Popen([*command, *one], env={**os.environ, _INSIDE: '1', **variables}, pass_fds=tuple(handed.values()),
                                          start_new_session=not terminal))
    for handed in descriptors:
        for number in handed.values():
            os.close(number)

    def forward(number: int, _frame: Optional[types.FrameType]) -> None:
        for process in processes:
            if process.poll() is None:
                children = pathlib.Path(f'/proc/{process.pid}/task/{process.pid}/children').read_text().split()
                for child in children:
                    os.kill(int(child), number)

    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, forward)
    ended = [process.wait() for process in processes]
    return next((status for status in ended if status), 0)


def _has(program: str) -> bool:
    return any(os.access(os.path.join(directory, program), os.X_OK) for directory in os.get_exec_path())


def _reaping(work: Callable[[], int]) -> int:
    """Be process 1: collect every orphan (libvirtd waits for its QEMU to be gone, which a zombie is not), and hand signals on."""
    worker = os.fork()
    if worker == 0:
        # What a shell starts in the background is started with interrupts ignored.
        signal.signal(signal.SIGINT, signal.default_int_handler)
        signal.signal(signal.SIGTERM, _end)
        signal.signal(signal.SIGHUP, _end)
        _prepare()
        status = 1
        try:
            status = work()
        except KeyboardInterrupt:
            print('interrupted', file=sys.stderr)
            status = 130
        except SystemExit as e:
            status = e.code if isinstance(e.code, int) else 1
            if not isinstance(e.code, int) and e.code:
                print(e.code, file=sys.stderr)
        except BaseException:
            # The next line ends the process, and nobody else would say it.
            traceback.print_exc()
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(status)
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda number, _frame: os.kill(worker, number))
    while True:
        pid, status = os.wait()
        if pid == worker:
            return os.waitstatus_to_exitcode(status) & 0xff


def _end(number: int, _frame: Optional[types.FrameType]) -> None:
    # Not KeyboardInterrupt, which an interactive Python takes for a line that was given up.
    raise SystemExit(128 + number)


def _prepare() -> None:
    """An empty STATE, a loopback, and no proxy to talk to."""
    subprocess.run(['mount', '-t', 'tmpfs', 'lab', str(STATE)], check=True)
    subprocess.run(['ip', 'link', 'set', 'lo', 'up'], check=True)
    subprocess.run(['hostname', 'control'], check=True)
    for directory in ('tmp', 'log'):
        (STATE / directory).mkdir()
    os.environ['TMPDIR'] = str(STATE / 'tmp')
    for name in list(os.environ):
        if name.lower().endswith('_proxy') or name.startswith('OS_') or name == 'PYTHONPATH':
            del os.environ[name]
