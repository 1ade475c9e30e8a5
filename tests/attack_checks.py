# SPDX-License-Identifier: Apache-2.0
"""Checks that are broken on purpose, in a module that imports no nova: the child process imports it."""
import os
import time

from nova_migcheck.checks.base import Check


class Well(Check):
    NAME = 'well'

    def run(self, settings):
        yield self.ok('thing')


class Raises(Check):
    NAME = 'raises'

    def run(self, settings):
        raise RuntimeError('on purpose')
        yield


class Dies(Check):
    NAME = 'dies'

    def run(self, settings):
        os.abort()
        yield


class Forks(Check):
    NAME = 'forks'

    def run(self, settings):
        if os.fork() == 0:
            os.setsid()
            time.sleep(600)
        yield self.ok('forked')


class Hangs(Check):
    NAME = 'hangs'

    def run(self, settings):
        while True:
            time.sleep(600)
        yield


class Many(Check):
    NAME = 'many'

    def run(self, settings):
        for n in range(10_000):
            yield self.failure(f'thing {n}', 'x' * 20)


ALL = (Well, Raises, Dies, Forks, Hangs, Many)
