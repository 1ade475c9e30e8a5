# SPDX-License-Identifier: Apache-2.0
"""What this host must reach: is it there, does it answer, and is the time it says ours?"""

from __future__ import annotations

from typing import Iterator

from nova_migcheck.checks.base import Check, Keep, Result, Settings
from nova_migcheck.endpoints import sources

#: The default of ``[migcheck] required_services``.
REQUIRED = ('identity', 'placement', 'network', 'message-queue', 'block-storage:volumes', 'key-manager:encryption')


class EndpointCheck(Check):
    """Everything at once, and all under one deadline of ``settings.timeout`` seconds.

    It also yields findings of the name ``clock``: the same answers say what time it is.
    """

    NAME = 'endpoint'
    WHEN = 'host'
    OPTIONS = sources.OPTIONS
    AUTH_GROUPS = sources.AUTH_GROUPS

    def run(self, settings: Settings) -> Iterator[Result]:
        from nova_migcheck.endpoints import clock, diagnosis, survey
        asked = survey.Survey(settings)
        picture = asked.run()
        needed = diagnosis.required(settings.get('migcheck', 'required_services', REQUIRED))
        yield from diagnosis.diagnose(picture, needed, settings.origin)
        yield from clock.look(picture.skews(), settings.get('migcheck', 'clock_skew_limit', 5.0),
                              clock.kernel_synchronised())
        yield Keep(asked.memory())
