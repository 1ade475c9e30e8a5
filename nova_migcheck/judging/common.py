# SPDX-License-Identifier: Apache-2.0
"""Tell a fault of a service, which many hosts see, from a fault of one host."""

from __future__ import annotations

import collections
from typing import Iterable, Optional, Sequence

from nova_migcheck import wording
from nova_migcheck.checks import loading
from nova_migcheck.finding import Finding
from nova_migcheck.policies import Policies
from nova_migcheck.report.report import Report


def shared(rejections: Iterable[Sequence[Finding]], source: Optional[Report],
           policies: Policies) -> str:
    """Return where else the finding is that most rejected targets have, '' if it is nowhere else.

    Only findings about a service count (``Check.OF_SERVICES``). Two are the same if they have the
    same check and the same subject, such as a URL. If the source or more than half of the targets
    have it as well, its cause is not on the target.

    :param rejections: for each rejected target, the findings that reject it, with their texts
    :param source: the source's report, None if there is none
    """
    of_services = loading.of(policies.checks).of_services
    targets = [{(f.check, f.subject) for f in findings if f.check in of_services}
               for findings in rejections]
    counts = collections.Counter(fault for faults in targets for fault in faults)
    if not counts:
        return ''
    fault = max(counts, key=lambda one: (counts[one], one))
    places = []
    if source is not None and fault in {(f.check, f.subject) for f in source.findings}:
        places.append('on the source')
    if counts[fault] > 1 and counts[fault] * 2 > len(targets):
        places.append(f'on {counts[fault]} of {len(targets)} targets')
    if not places:
        return ''
    return f'{fault[0]}: the same {wording.both(places)}: this is the service, not the host'
