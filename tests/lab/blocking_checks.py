# SPDX-License-Identifier: Apache-2.0
"""Checks that do carelessly what may never come back."""
import os
import socket

from nova_migcheck.checks.base import Check


class Stats(Check):
    """Touches the instances directory in its own process."""

    NAME = 'stats'

    def run(self, settings):
        os.stat(settings.get('DEFAULT', 'instances_path'))
        yield self.ok('instances')


class Resolves(Check):
    NAME = 'resolves'

    def run(self, settings):
        socket.getaddrinfo('compute2.example.org', 16509)
        yield self.ok('compute2.example.org')


class Well(Check):
    NAME = 'well'

    def run(self, settings):
        yield self.ok('thing')
