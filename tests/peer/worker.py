# SPDX-License-Identifier: Apache-2.0
"""Run some of Nova's own tests in this process, and write how each ended.

``python -m tests.peer.worker FILE MODE NAME ...``: MODE is ``stock``, ``plugin``, or ``hooked`` for drivers that have their hook without
``init_host()``; NAME is a module, a class or a test. FILE gets a JSON object a line, before and after each test. Tests that it tells of
already are left out, so that a worker which had to be killed is followed by one that goes on.

Not pytest: it sets attributes of a test that Nova's base class takes away. Nova's own runner is unittest, too.
"""

from __future__ import annotations

import gc
import importlib
import json
import os
import sys
import time
import traceback
import unittest
from typing import Any, Iterator, TextIO


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
        """A line of the file."""
        self._file.write(json.dumps(what) + '\n')
        self._file.flush()

    def startTest(self, test: Any) -> None:
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
        self.write(test=test.id(), outcome=outcome, why=why, seconds=time.monotonic() - self._begun, **work)

    def addError(self, test: Any, err: Any) -> None:
        why = ''.join(traceback.format_exception(*err))
        if type(test).__name__ == '_ErrorHolder':  # setUpClass() or setUpModule() failed: no test of it runs
            self.write(test=test.id(), outcome='failed', why=why, seconds=0.0)
        self._outcome = ('failed', why)

    addFailure = addError

    def addSkip(self, test: Any, reason: str) -> None:
        self._outcome = ('skipped', reason)

    def addExpectedFailure(self, test: Any, err: Any) -> None:
        self._outcome = ('skipped', 'it is expected to fail')

    def addUnexpectedSuccess(self, test: Any) -> None:
        self._outcome = ('failed', 'it is expected to fail, and passed')


def tests_of(suite: Any) -> Iterator[Any]:
    """The single tests in a suite, in its order."""
    for one in suite:
        if isinstance(one, unittest.TestSuite):
            yield from tests_of(one)
        else:
            yield one


def done(path: str) -> set[str]:
    """The tests whose end the file tells of."""
    with open(path) as file:
        return {line['test'] for line in map(json.loads, file) if 'test' in line}


def read_policies_faster() -> None:
    """Let libyaml parse them: Nova's fixture has the same file read twice for each test, which took two thirds of the time of a small one."""
    import yaml
    yaml.safe_load = lambda text: yaml.load(text, Loader=yaml.CSafeLoader)


def main() -> None:
    path, mode, *names = sys.argv[1:]
    # As the tests themselves begin: it patches all of the process, or nothing. Their base class must be there before what it tests.
    importlib.import_module('.'.join(names[0].split('.')[:3]))
    importlib.import_module('nova.test')
    read_policies_faster()
    swap = None
    if mode != 'stock':
        from tests.peer import swap
        swap.install(without_init_host=mode == 'hooked')
    before = done(path)
    suite = unittest.TestSuite(
        test for test in tests_of(unittest.defaultTestLoader.loadTestsFromNames(names)) if test.id() not in before)
    gc.freeze()  # as in tests/conftest.py
    with open(path, 'a') as file:
        result = Result(file, swap)
        suite.run(result)
        result.write(ended=time.process_time())
    # Threads that Nova's tests leave are not waited for.
    os._exit(0)


if __name__ == '__main__':
    main()
