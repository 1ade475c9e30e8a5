# SPDX-License-Identifier: Apache-2.0
"""Check that this host reaches the services that it needs, and that its clock is right."""

from __future__ import annotations

from typing import ClassVar, Iterator, Mapping

from nova_migcheck.checks.base import Check, Keep, Result, Settings
from nova_migcheck.endpoints import sources

#: The default of ``[migcheck] required_services``.
REQUIRED = ('identity', 'placement', 'network', 'message-queue', 'block-storage:volumes',
            'key-manager:encryption')


class EndpointCheck(Check):
    """Probe all endpoints at once, under one deadline of ``settings.timeout`` seconds.

    It also yields findings with the name ``clock``, from the times in the same answers.
    """

    NAME = 'endpoint'
    TRANSIENT = ('endpoint', 'clock')
    OF_SERVICES = ('endpoint',)
    WHEN = 'host'
    CODES: ClassVar[Mapping[str, str]] = {
        'clock-no-server': 'No server reported its time.',
        'clock-off': "This host's clock is off.",
        'clock-servers-disagree': "Some servers' clocks are off, or this host's.",
        'clock-unsynchronised': 'The kernel reports that its clock is not synchronised.',
        'endpoint-catalog': 'The service catalog could not be fetched from keystone.',
        'endpoint-closed': 'An endpoint closes connections without an answer.',
        'endpoint-cut-off': 'None of the addresses that this host needs answers.',
        'endpoint-invalid': 'The URL of an endpoint cannot be checked.',
        'endpoint-login': 'keystone refuses the login of a section of nova.conf.',
        'endpoint-message-queue': 'None of the message queue hosts answers.',
        'endpoint-name': 'The name of an endpoint does not resolve.',
        'endpoint-no-answer': 'An endpoint accepts connections and never answers.',
        'endpoint-not-in-catalog': 'The service catalog lacks a service that this host needs.',
        'endpoint-packet-loss': 'Packets are lost between this host and its services.',
        'endpoint-protocol': 'An endpoint answers with another protocol.',
        'endpoint-refused': 'An endpoint refuses connections.',
        'endpoint-resolver': 'No name resolves, or no nameserver answers.',
        'endpoint-silent': 'An endpoint drops packets.',
        'endpoint-status': 'An endpoint answers with an error.',
        'endpoint-tls': 'A TLS connection to an endpoint fails.',
        'endpoint-unreachable': 'An endpoint is unreachable.'}
    OPTIONS = sources.OPTIONS
    AUTH_GROUPS = sources.AUTH_GROUPS

    def run(self, settings: Settings) -> Iterator[Result]:
        """Yield the findings, then what the next round needs."""
        from nova_migcheck.endpoints import clock, diagnosis, memory, survey, weights
        later = memory.later(settings)
        if later is not None:
            yield self.ok('endpoints', 'checked first within [migcheck] probe_interval')
            yield Keep(later)
            return
        surveyed = survey.Survey(settings)
        picture = surveyed.run()
        needed = weights.required(settings.get('migcheck', 'required_services', REQUIRED))
        yield from diagnosis.diagnose(picture, needed, settings.origin)
        yield from clock.look(picture.skews(), settings.get('migcheck', 'clock_skew_limit', 5.0),
                              clock.kernel_synchronised())
        yield Keep(surveyed.memory())
