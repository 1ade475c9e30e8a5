# SPDX-License-Identifier: Apache-2.0
"""Check that this host reaches the services that it needs, and that its clock is right."""

from __future__ import annotations

from typing import Iterator

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
    WHEN = 'host'
    OPTIONS = sources.OPTIONS
    AUTH_GROUPS = sources.AUTH_GROUPS

    def run(self, settings: Settings) -> Iterator[Result]:
        """Yield the findings, then what the next round needs."""
        from nova_migcheck.endpoints import clock, diagnosis, survey
        surveyed = survey.Survey(settings)
        picture = surveyed.run()
        needed = diagnosis.required(settings.get('migcheck', 'required_services', REQUIRED))
        yield from diagnosis.diagnose(picture, needed, settings.origin)
        yield from clock.look(picture.skews(), settings.get('migcheck', 'clock_skew_limit', 5.0),
                              clock.kernel_synchronised())
        yield Keep(surveyed.memory())
