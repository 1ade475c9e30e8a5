# SPDX-License-Identifier: Apache-2.0
"""Checks with which the tests put a host into any state, and checks that are broken in each way that a check can be."""

from __future__ import annotations

import json
import os
import signal
import time
import xml.etree.ElementTree as ElementTree
from typing import Any, Iterator, Mapping

from nova_migcheck.checks.address import AddressCheck
from nova_migcheck.checks.base import Check, Fact, Offer, Result, Settings
from nova_migcheck.checks.endpoint import EndpointCheck
from nova_migcheck.checks.storage import StorageCheck
from nova_migcheck.finding import Finding

# The directory with a file for each host.
ENVIRONMENT = 'MIGCHECK_TEST_SCRIPT'


def _script(name: str) -> Any:
    directory = os.environ.get(ENVIRONMENT)
    path = os.path.join(directory, f'{name}.json') if directory else ''
    if not os.path.exists(path):
        return {}
    with open(path, encoding='utf-8') as file:
        return json.load(file)


class Scripted(Check):
    """Says of a host what ``HOST.json`` says: ``findings`` (of any check's name) and ``facts``."""

    NAME = 'scripted'
    OF_SERVICES = EndpointCheck.OF_SERVICES
    TRANSIENT = (*AddressCheck.TRANSIENT, *EndpointCheck.TRANSIENT, *StorageCheck.TRANSIENT)
    OFFERS = (*AddressCheck.OFFERS, *StorageCheck.OFFERS, Offer('scripted'))

    @staticmethod
    def needs(domain: ElementTree.Element) -> dict[str, Any]:
        return {'os': domain.findtext('os/type')}

    @staticmethod
    def compare(needs: Any, target: Mapping[str, Mapping[str, Any]]) -> Iterator[Finding]:
        if needs['os'] == target.get('scripted', {}).get('refuses'):
            yield Scripted().failure('os', f'the target has nothing for a guest with {needs["os"]}')

    def run(self, settings: Settings) -> Iterator[Result]:
        said = _script(settings.host)
        for finding in said.get('findings', ()):
            yield Finding.from_dict(finding)
        for name, value in said.get('facts', {}).items():
            yield Fact(name, value)


class ScriptedPath(Check):
    """Says of the way from a host to a target what ``HOST.path.json`` says under the target's name, and what it is told of it."""

    NAME = 'scripted_path'
    WHEN = 'path'

    def run(self, settings: Settings) -> Iterator[Result]:
        for finding in _script(f'{settings.host}.path').get(settings.target.get('host'), ()):
            yield Finding.from_dict(finding)
        if settings.target.get('migration'):
            yield self.warning('told', f'this is told of the target: {json.dumps(settings.target["migration"])}')


class Raises(Check):
    NAME = 'raises'

    def run(self, settings: Settings) -> Iterator[Result]:
        yield self.ok('so far', 'what it had found before it broke is kept')
        raise ZeroDivisionError('division by zero, on purpose')


class Hangs(Check):
    """Deaf to every signal that can be ignored."""

    NAME = 'hangs'

    def run(self, settings: Settings) -> Iterator[Result]:
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGALRM, signal.SIGHUP):
            signal.signal(number, signal.SIG_IGN)
        yield self.ok('so far', 'what it had found before it hung is kept')
        while True:
            time.sleep(3600)


class Rubbish(Check):
    NAME = 'rubbish'

    def run(self, settings: Settings) -> Iterator[Result]:
        yield {'this': 'is no finding'}  # type: ignore[misc]


class Floods(Check):
    NAME = 'floods'

    def run(self, settings: Settings) -> Iterator[Result]:
        while True:
            yield self.warning('flood', 'x' * 1000)


class Dies(Check):
    NAME = 'dies'

    def run(self, settings: Settings) -> Iterator[Result]:
        yield self.ok('so far', 'what it had found before it died is kept')
        os.kill(os.getpid(), signal.SIGKILL)


class Evil(Check):
    """Declared wrongly: nova-compute itself reads this."""

    NAME = 'evil'
    WHEN = 'path'
    AUTH_GROUPS = None  # type: ignore[assignment]
    OPTIONS = {'libvirt': None}  # type: ignore[dict-item]

    def run(self, settings: Settings) -> Iterator[Result]:
        yield self.ok('nothing')


class NoCheck:
    """Loads, but is not a check."""
