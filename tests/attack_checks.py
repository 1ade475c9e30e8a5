# SPDX-License-Identifier: Apache-2.0
"""Checks that are broken on purpose, in a module that imports no nova: the child process imports it."""
import os
import socket
import threading
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


class Rubbish(Check):
    NAME = 'rubbish'

    def run(self, settings):
        for fd in range(3, 64):
            try:
                os.write(fd, b'{"finding": 3}\n\xff\xfe{"fact": []}\nnull\n[]\n{"end": "x"}\n')
            except OSError:
                pass
        yield {'this': 'is no finding'}


class Eats(Check):
    NAME = 'eats'

    def run(self, settings):
        kept = []
        while True:
            kept.append(bytearray(1 << 24))
        yield


class Prints(Check):
    NAME = 'prints'

    def run(self, settings):
        for _ in range(1000):
            os.write(1, b'x' * 1_000_000)
        yield self.ok('printed', 'a gigabyte')


class Forks(Check):
    """Leaves a process behind, and another one in a session of its own whose parent is gone."""

    NAME = 'forks'

    def run(self, settings):
        if os.fork() == 0:
            time.sleep(600)
        middle = os.fork()
        if middle == 0:
            os.setsid()
            if os.fork() == 0:
                time.sleep(600)
            os._exit(0)
        os.waitpid(middle, 0)
        yield self.ok('forked')


class Opens(Check):
    """Leaves open files and threads behind."""

    NAME = 'opens'

    def run(self, settings):
        self.kept = [os.pipe() for _ in range(50)]
        for _ in range(20):
            threading.Thread(target=time.sleep, args=(600,)).start()
        yield self.ok('opened')


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


class Touches(Check):
    """Looks at a path that may never answer, carelessly."""

    NAME = 'touches'

    def run(self, settings):
        yield self.ok('touched', str(os.stat(settings.get('DEFAULT', 'instances_path', '/')).st_ino))


class Resolves(Check):
    NAME = 'resolves'

    def run(self, settings):
        socket.getaddrinfo('compute2.example.org', 16509)
        yield self.ok('compute2.example.org')


ALL = (Well, Raises, Rubbish, Dies, Eats, Prints, Forks, Opens, Many, Hangs, Touches, Resolves)
# Those that come to no end by themselves where a share and a resolver never answer.
ENDLESS = ('hangs', 'touches', 'resolves')
