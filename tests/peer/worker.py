# SPDX-License-Identifier: Apache-2.0
"""Run some of Nova's own tests in this process, and write how each ended.

``python -m tests.peer.worker FILE MODE ONLY NAME ...``.
MODE is ``stock``, ``plugin``, or ``hooked`` for drivers that have their hook without
``init_host()``. NAME is a module, a class or a test; of these, the tests whose names match the
expression ONLY are run.
FILE gets a JSON object a line, before and after each test. Tests whose end it already tells are
left out, so that after a worker that had to be killed another one can go on.

SIGUSR1 lets it write where each of its threads is.

The tests run under unittest, as Nova's own runner does it.
pytest sets attributes of a test that Nova's base class takes away.
"""

from __future__ import annotations

import faulthandler
import gc
import importlib
import json
import os
import re
import signal
import sys
import time
import traceback
import unittest
from typing import Any, Iterator, TextIO

# New objects after which the garbage collector looks at the young ones. Nova makes so many that
# with Python's own 700 a tenth of all CPU time goes there.
_YOUNG = 100_000
# Tests after which it looks at all. Garbage holds files open, seven a test.
_TESTS = 20


class Result(unittest.TestResult):
    """Writes what happens as it happens.

    :param swap: the module that has put the plugin in place, None without it
    """

    def __init__(self, file: TextIO, swap: Any) -> None:
        super().__init__()
        self._file = file
        self._swap = swap
        self._begun = 0.0
        self._outcome = ('passed', '')

    def write(self, **what: Any) -> None:
        """Write a line."""
        self._file.write(json.dumps(what) + '\n')
        self._file.flush()

    def startTest(self, test: Any) -> None:
        super().startTest(test)
        self._begun, self._outcome = time.monotonic(), ('passed', '')
        self.write(begun=test.id())

    def stopTest(self, test: Any) -> None:
        work: dict[str, Any] = {}
        if self._swap is not None:
            self._swap.end_of_test()
            work = {'work': dict(self._swap.WORK), 'errors': list(self._swap.ERRORS)}
            self._swap.WORK.clear()
            self._swap.ERRORS.clear()
        outcome, why = self._outcome
        self.write(test=test.id(), outcome=outcome, why=why,
                   seconds=time.monotonic() - self._begun, **work)
        if self.testsRun % _TESTS == 0:
            gc.collect()

    def addError(self, test: Any, err: Any) -> None:
        self._outcome = ('failed', ''.join(traceback.format_exception(*err)))
        if not isinstance(test, unittest.TestCase):
            # unittest stands for setUpClass() or setUpModule() so: no test of these is run.
            outcome, why = self._outcome
            self.write(test=test.id(), outcome=outcome, why=why, seconds=0.0)

    addFailure = addError

    def addSkip(self, test: Any, reason: str) -> None:
        self._outcome = ('skipped', reason)

    def addExpectedFailure(self, test: Any, err: Any) -> None:
        self._outcome = ('skipped', 'it is expected to fail')

    def addUnexpectedSuccess(self, test: Any) -> None:
        self._outcome = ('failed', 'it is expected to fail, and passed')


def tests_of(suite: Any) -> Iterator[Any]:
    """Give the single tests in a suite, in its order."""
    for one in suite:
        if isinstance(one, unittest.TestSuite):
            yield from tests_of(one)
        else:
            yield one


def done(path: str) -> set[str]:
    """Read the names of the tests whose end the file tells."""
    with open(path) as file:
        return {line['test'] for line in map(json.loads, file) if 'test' in line}


def hurry() -> None:
    """Do faster what Nova's fixtures do anew for each test; without it all takes twice as long."""
    import sqlalchemy
    import yaml

    class Pool(sqlalchemy.pool.QueuePool):
        """Keeps connections to the files of SQLite open, which oslo.db does not."""

        def __init__(self, creator: Any, **kwargs: Any) -> None:
            super().__init__(creator, **{
                **kwargs, 'pool_size': 10, 'max_overflow': -1, 'pre_ping': False})
    sqlalchemy.pool.NullPool = Pool
    # Each test reads the same policies twice.
    yaml.safe_load = lambda text: yaml.load(text, Loader=yaml.CSafeLoader)
    gc.set_threshold(_YOUNG, 20, 100)
    gc.freeze()


def main() -> None:
    path, mode, only, *names = sys.argv[1:]
    faulthandler.register(signal.SIGUSR1, all_threads=True)
    # The package of the tests patches the whole process, or forbids that: before anything else of
    # Nova is imported. The second changes functions of Nova before anything uses them.
    functional = any(name.startswith('nova.tests.functional') for name in names)
    importlib.import_module('nova.tests.functional' if functional else 'nova.tests.unit')
    importlib.import_module('nova.test')
    swap = None
    if mode != 'stock':
        from tests.peer import swap
        swap.install(without_init_host=mode == 'hooked')
    before = done(path)
    loader = unittest.defaultTestLoader
    loaded = loader.loadTestsFromNames(names)
    if loader.errors:
        sys.exit('\n'.join(loader.errors))
    hurry()
    with open(path, 'a') as file:
        result = Result(file, swap)
        unittest.TestSuite(test for test in tests_of(loaded) if test.id() not in before
                           and re.search(only, test.id())).run(result)
        result.write(ended=time.process_time())
    # Threads that Nova's tests leave are not waited for.
    os._exit(0)


if __name__ == '__main__':
    main()
