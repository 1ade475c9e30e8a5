# SPDX-License-Identifier: Apache-2.0
"""What is really wrong: answers folded into one finding per dead address, or into the one cause that they share."""

from __future__ import annotations

import dataclasses
import ipaddress
from typing import Any, Callable, Iterable, Iterator, Mapping, NamedTuple, Sequence

from nova_migcheck.endpoints import remedies
from nova_migcheck.endpoints.observations import Picture
from nova_migcheck.endpoints.sources import SECTIONS
from nova_migcheck.endpoints.values import (
    IDENTITY,
    MESSAGING,
    Answer,
    Endpoint,
    Fault,
    Target,
    is_address,
)
from nova_migcheck.finding import Finding, Outcome

NAME = 'endpoint'

# What is seen by the time that passed.
_TIMED = (Fault.SILENT, Fault.NO_ANSWER, Fault.RESOLVER)

_WORST_FIRST = (Outcome.FAILURE, Outcome.UNKNOWN, Outcome.WARNING, Outcome.OK)

# URLs and addresses that a text lists before it counts the rest.
_LISTED = 10


class Weight(NamedTuple):
    """How much it matters. The larger is the worse."""

    failure: bool = False
    everywhere: bool = False
    scope: str = ''

    @property
    def outcome(self) -> Outcome:
        return Outcome.FAILURE if self.failure else Outcome.WARNING


class Trouble(NamedTuple):
    """One target, at one of its addresses."""

    target: Target
    answer: Answer
    endpoints: Sequence[Endpoint]
    weight: Weight


def required(services: Iterable[str]) -> dict[str, str]:
    """``[migcheck] required_services``: service type -> scope, empty for every migration."""
    split = (service.strip().partition(':') for service in services)
    return {service: scope for service, _colon, scope in split}


def weigh(service: str, needed: Mapping[str, str]) -> Weight:
    """What a dead service of this type means."""
    scope = needed.get(service)
    return Weight() if scope is None else Weight(True, not scope, scope)


def _weight(endpoint: Endpoint, needed: Mapping[str, str]) -> Weight:
    """An identity URL matters as much as what one logs in to by it, if identity matters at all."""
    if endpoint.service == IDENTITY and IDENTITY not in needed:
        return Weight()
    return weigh(endpoint.needed_for, needed)


def diagnose(picture: Picture, needed: Mapping[str, str], origin_of: Callable[[str, str], str]) -> Iterator[Finding]:
    """All findings of a round, the worst first.

    :param needed: as :func:`required` gives
    :param origin_of: group, option -> where the option comes from
    """
    asked = {target: found for target, found in picture.endpoints.items() if found}
    troubles = [trouble for target in asked for trouble in _troubles(picture, target, needed)]
    found: list[Finding] = []
    for fold in (_resolver, _cut_off, _message_queue, _addresses):
        findings, troubles = fold(picture, troubles)
        found += findings
    found += _logins(picture, needed, origin_of)
    found += [_missing(gone, needed) for gone in picture.missing]
    yield from sorted(found, key=lambda f: _WORST_FIRST.index(f.outcome))
    for target, endpoints in asked.items():
        well = [answer for answer in picture.answers.get(target, {}).values() if answer.fault is None]
        if well:
            where = ', '.join(f'{answer.address}: {answer.detail}' for answer in well)
            yield Finding(NAME, Outcome.OK, target.url, where, _origins(endpoints))


def _troubles(picture: Picture, target: Target, needed: Mapping[str, str]) -> Iterator[Trouble]:
    endpoints = picture.endpoints[target]
    answers = picture.answers.get(target, {})
    partly = picture.is_well(target)
    for answer in answers.values():
        if answer.fault is None:
            continue
        if partly and answer.fault is Fault.UNREACHABLE:
            # A host without IPv6 and a name that has both: a client goes on to the next address at once.
            continue
        if picture.starved and answer.fault in _TIMED:
            answer = dataclasses.replace(answer, detail=f'{answer.detail}, but this host was too busy to tell')
            yield Trouble(target, answer, endpoints, Weight())
            continue
        weights = [Weight() if partly or _replaced(picture, endpoint) else _weight(endpoint, needed)
                   for endpoint in endpoints]
        yield Trouble(target, answer, endpoints, max(weights))


def _replaced(picture: Picture, endpoint: Endpoint) -> bool:
    """Whether another of the same group answers."""
    return bool(endpoint.group) and any(
        picture.is_well(target) and any(e.group == endpoint.group for e in endpoints)
        for target, endpoints in picture.endpoints.items())


Folded = tuple[list[Finding], list[Trouble]]


def _resolver(picture: Picture, troubles: list[Trouble]) -> Folded:
    """No name at all resolves, or the resolver is silent: that is one thing, and not the endpoints' fault."""
    unresolved = [t for t in troubles if t.answer.fault in (Fault.NAME, Fault.RESOLVER)]
    hosts = list(dict.fromkeys(t.answer.address for t in unresolved))
    names = {t.host for t, endpoints in picture.endpoints.items() if endpoints and t.host and not is_address(t.host)}
    silent = [t for t in unresolved if t.answer.fault is Fault.RESOLVER]
    if not hosts or not (silent or len(hosts) > 1) or any(n for n in names if n not in hosts):
        return [], troubles
    about = silent[0] if silent else unresolved[0]
    weight = max(t.weight for t in unresolved)
    detail = (f'no name resolves: {_some(hosts)} ({about.answer.detail}); '
              f'{len(_targets(unresolved))} endpoints hang on them')
    origin = '; '.join(filter(None, [remedies.nameservers(), _origins(e for t in unresolved for e in t.endpoints)]))
    return ([Finding(NAME, weight.outcome, 'resolver', detail, origin, remedies.RESOLVER, weight.scope, _several(unresolved))],
            [t for t in troubles if t not in unresolved])


def _cut_off(picture: Picture, troubles: list[Trouble]) -> Folded:
    """Nothing beyond this host answers, at several addresses: look at this host first."""
    answers = [a for target, endpoints in picture.endpoints.items() if endpoints
               for a in picture.answers.get(target, {}).values()
               if is_address(a.address) and not _is_loopback(a.address)]
    addresses = list(dict.fromkeys(a.address for a in answers))
    if len(addresses) < 2 or not all(a.fault in (Fault.SILENT, Fault.UNREACHABLE) for a in answers):
        return [], troubles
    mine = [t for t in troubles if t.answer in answers]
    if not mine:
        return [], troubles
    weight = max(t.weight for t in mine)
    detail = (f'this host is cut off: none of the {len(addresses)} addresses that it needs answers: '
              + _some([f'{t.answer.address} {t.answer.fault.value}' for t in _one_each(mine) if t.answer.fault])
              + f'; on them hang {_some(_targets(mine))}')
    return ([Finding(NAME, weight.outcome, 'this host', detail, _origins(e for t in mine for e in t.endpoints),
                     remedies.CUT_OFF, weight.scope, _several(mine))], [t for t in troubles if t not in mine])


def _message_queue(picture: Picture, troubles: list[Trouble]) -> Folded:
    """None of the message queue's hosts answers: one finding, each host named."""
    mine = [t for t in troubles if any(e.group == MESSAGING and not _replaced(picture, e) for e in t.endpoints)]
    hosts = _targets(mine)
    if len(hosts) < 2:
        return [], troubles
    weight = max(t.weight for t in mine)
    detail = f'none of the {len(hosts)} message queue hosts answers: ' + _some(
        [f'{t.target.url.partition("://")[2]} {_reason(t.answer)}' for t in mine])
    return ([Finding(NAME, weight.outcome, 'message queue', detail, _origins(e for t in mine for e in t.endpoints),
                     remedies.of(mine[0].answer, MESSAGING), weight.scope, _several(mine))], [t for t in troubles if t not in mine])


def _addresses(picture: Picture, troubles: list[Trouble]) -> Folded:
    by_address: dict[str, list[Trouble]] = {}
    for trouble in troubles:
        by_address.setdefault(trouble.answer.address, []).append(trouble)
    return [finding for address, here in by_address.items() for finding in _address(picture, address, here)], []


def _address(picture: Picture, address: str, troubles: list[Trouble]) -> Iterator[Finding]:
    """One finding; one more for each scope where only servers with volumes, or encrypted ones, are concerned."""
    worst = max(t.weight for t in troubles)
    scopes = {worst.scope}
    if worst.failure and not worst.everywhere:
        scopes = {t.weight.scope for t in troubles if t.weight.failure}
    for scope in sorted(scopes):
        mine = [t for t in troubles if t.weight.scope == scope or not t.weight.failure or worst.everywhere]
        weight = max(t.weight for t in mine)
        first = max(mine, key=lambda t: t.weight)
        targets = _targets(mine)
        detail = _reasons(address, mine) if len(targets) > 1 else _single(address, first)
        elsewhere = next((picture.elsewhere[t.target] for t in mine if t.target in picture.elsewhere), None)
        if elsewhere is not None:
            detail += f'; the same service answers at {elsewhere.url}, an address that nova.conf names too'
        others = sum(picture.is_well(t) for t, endpoints in picture.endpoints.items() if endpoints)
        if others and len(targets) > 1:
            detail += f'; {others} other endpoint{"s answer" if others > 1 else " answers"}'
        yield Finding(NAME, weight.outcome, targets[0] if len(targets) == 1 else address, detail,
                      _origins(e for t in mine for e in t.endpoints),
                      remedies.of(first.answer, _services(first.endpoints), first.endpoints[0].from_catalog,
                                  elsewhere is not None), scope, _several(mine))


def _reason(answer: Answer) -> str:
    assert answer.fault is not None
    # A refusal says all there is; of the others, the dates, the status, the seconds are wanted.
    detail = '' if answer.fault in (Fault.REFUSED, Fault.CLOSED) else f' ({answer.detail})'
    return f'{answer.fault.value}{detail}'


def _single(address: str, trouble: Trouble) -> str:
    text = _reason(trouble.answer)
    if address != trouble.target.host and is_address(address):
        text += f' at {address}'
    if trouble.answer.proxy:
        text += f' through the proxy {trouble.answer.proxy} of the environment'
    return f'{trouble.target.url} {text}'


def _reasons(address: str, troubles: Sequence[Trouble]) -> str:
    """``10.0.0.5 refuses connections: URL (service), URL (service)``, with more where not all have the same fault."""
    by_reason: dict[str, list[str]] = {}
    for trouble in troubles:
        what = by_reason.setdefault(_reason(trouble.answer), [])
        text = f'{trouble.target.url} ({_services(trouble.endpoints)})'
        if text not in what:
            what.append(text)
    return f'{address} ' + '; '.join(f'{reason}: {_some(urls)}' for reason, urls in by_reason.items())


def _logins(picture: Picture, needed: Mapping[str, str], origin_of: Callable[[str, str], str]) -> Iterator[Finding]:
    """What keystone said to each login; one finding for all that could not be asked."""
    unasked: dict[str, list[str]] = {}
    for leader, result in picture.logins.items():
        groups = [group for group, by in picture.shared_login.items() if by == leader]
        origin = ', '.join(origin_of(group, 'auth_url') for group in groups)
        named = ', '.join(f'[{group}]' for group in groups)
        if not isinstance(result, Exception):
            yield Finding(NAME, Outcome.OK, f'login of {named}', 'keystone accepts it', origin)
            continue
        verdict = remedies.login_verdict(result, _identity_is_well(picture, groups, origin_of))
        if verdict is None:
            unasked.setdefault(_why(result, picture), []).extend(groups)
            continue
        weight = max(weigh(_NEEDED_FOR[group], needed) for group in groups)
        yield Finding(NAME, weight.outcome, f'login of {named}', f'{named}: {verdict.text}', origin, verdict.remedy,
                      weight.scope)
    for why, groups in unasked.items():
        named = ', '.join(f'[{group}]' for group in groups)
        ages = [picture.remembered[by] for by in {picture.shared_login[g] for g in groups} if by in picture.remembered]
        used = (f'the last known one, {max(ages):.0f} s old, was used' if ages
                else 'what only it knows was not asked')
        yield Finding(NAME, Outcome.WARNING if ages else Outcome.UNKNOWN, 'keystone catalog',
                      f'the service catalog could not be fetched for {named}: {why}; {used}',
                      ', '.join(dict.fromkeys(origin_of(group, 'auth_url') for group in groups)), remedies.CATALOG)


_NEEDED_FOR = {section.group: section.needed_for for section in SECTIONS}


def _why(error: Any, picture: Picture) -> str:
    return remedies.login_wait(error, picture.seconds)


def _identity_is_well(picture: Picture, groups: Sequence[str], origin_of: Callable[[str, str], str]) -> bool:
    origins = {origin_of(group, 'auth_url') for group in groups}
    return any(picture.is_well(target) for target, endpoints in picture.endpoints.items()
               if any(e.service == IDENTITY and e.origin in origins for e in endpoints))


def _missing(gone: Any, needed: Mapping[str, str]) -> Finding:
    weight = weigh(gone.needed_for, needed)
    return Finding(NAME, weight.outcome, f'{gone.service} in the service catalog', gone.text,
                   f'keystone catalog, as [{gone.group}] sees it', gone.remedy, weight.scope)


def _is_loopback(address: str) -> bool:
    return ipaddress.ip_address(address.partition('%')[0]).is_loopback


def _one_each(troubles: Iterable[Trouble]) -> list[Trouble]:
    return list({t.answer.address: t for t in troubles}.values())


def _targets(troubles: Iterable[Trouble]) -> list[str]:
    """URLs, what matters most first."""
    return list(dict.fromkeys(t.target.url for t in sorted(troubles, key=lambda t: t.weight, reverse=True)))


def _several(troubles: Iterable[Trouble]) -> tuple[str, ...]:
    """Each URL, where there are more than one."""
    urls = tuple(_targets(troubles))
    return urls if len(urls) > 1 else ()


def _services(endpoints: Iterable[Endpoint]) -> str:
    return ', '.join(dict.fromkeys(e.service for e in endpoints))


def _origins(endpoints: Iterable[Endpoint]) -> str:
    return '; '.join(dict.fromkeys(e.origin for e in endpoints))


def _some(texts: Sequence[str]) -> str:
    more = f' and {len(texts) - _LISTED} more' if len(texts) > _LISTED else ''
    return ', '.join(texts[:_LISTED]) + more
