# SPDX-License-Identifier: Apache-2.0
"""Turn the results of the logins to keystone, and what its catalog lacks, into findings."""

from __future__ import annotations

from typing import Callable, Iterable, Iterator, Mapping, Sequence

from nova_migcheck.endpoints import remedies
from nova_migcheck.endpoints.catalog import Missing
from nova_migcheck.endpoints.observations import Picture
from nova_migcheck.endpoints.sources import SECTIONS
from nova_migcheck.endpoints.values import IDENTITY
from nova_migcheck.endpoints.weights import weigh
from nova_migcheck.finding import Finding, Outcome

NAME = 'endpoint'

# group, option -> where the option comes from
OriginOf = Callable[[str, str], str]


def diagnose(picture: Picture, needed: Mapping[str, str], origin_of: OriginOf) -> Iterator[Finding]:
    """Yield the result of each login, and one finding for each reason that prevented any."""
    unreached: dict[str, list[str]] = {}
    for leader, result in picture.logins.items():
        groups = [group for group, by in picture.shared_login.items() if by == leader]
        origin = ', '.join(origin_of(group, 'auth_url') for group in groups)
        names = _bracketed(groups)
        if not isinstance(result, Exception):
            yield Finding(NAME, Outcome.OK, f'login of {names}', 'keystone accepts it', origin)
            continue
        diagnosed = remedies.diagnose_login(result, identity_is_well(picture, groups, origin_of))
        if diagnosed is None:
            unreached.setdefault(remedies.unreachable(result, picture.seconds), []).extend(groups)
            continue
        weight = max(weigh(_NEEDED_FOR[group], needed) for group in groups)
        yield Finding(NAME, weight.outcome, f'login of {names}', f'{names}: {diagnosed.text}',
                      origin, diagnosed.remedy, weight.scope, code='endpoint-login')
    for reason, groups in unreached.items():
        leaders = {picture.shared_login[group] for group in groups}
        ages = [picture.cached[leader] for leader in leaders if leader in picture.cached]
        used = (f'the cached catalog, {max(ages):.0f} s old, was used' if ages
                else 'the endpoints that only the catalog lists were not checked')
        yield Finding(NAME, Outcome.WARNING if ages else Outcome.UNKNOWN, 'keystone catalog',
                      'the service catalog could not be fetched for '
                      f'{_bracketed(groups)}: {reason}; {used}',
                      ', '.join(dict.fromkeys(origin_of(group, 'auth_url') for group in groups)),
                      remedies.CATALOG, code='endpoint-catalog')


_NEEDED_FOR = {section.group: section.needed_for for section in SECTIONS}


def _bracketed(groups: Iterable[str]) -> str:
    return ', '.join(f'[{group}]' for group in groups)


def identity_is_well(picture: Picture, groups: Sequence[str], origin_of: OriginOf) -> bool:
    """Return whether an auth_url of these sections answers without fault."""
    origins = {origin_of(group, 'auth_url') for group in groups}
    return any(picture.is_well(target) for target, endpoints in picture.endpoints.items()
               if any(e.service == IDENTITY and e.origin in origins for e in endpoints))


def missing_service(missing: Missing, needed: Mapping[str, str]) -> Finding:
    weight = weigh(missing.needed_for, needed)
    return Finding(NAME, weight.outcome, f'{missing.needed_for} in the service catalog',
                   missing.text, f'keystone catalog, as [{missing.group}] sees it', missing.remedy,
                   weight.scope, code='endpoint-not-in-catalog')
