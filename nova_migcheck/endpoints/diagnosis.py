# SPDX-License-Identifier: Apache-2.0
"""Turn the answers of a round into findings: one per dead address, or one per common cause."""

from __future__ import annotations

import dataclasses
import ipaddress
from typing import Iterable, Iterator, Mapping, NamedTuple, Sequence

from nova_migcheck import wording
from nova_migcheck.endpoints import logins, remedies
from nova_migcheck.endpoints.logins import NAME, OriginOf
from nova_migcheck.endpoints.observations import Picture
from nova_migcheck.endpoints.values import (
    IDENTITY,
    MESSAGING,
    Answer,
    Endpoint,
    Fault,
    Target,
    is_address,
)
from nova_migcheck.endpoints.weights import Weight, weigh
from nova_migcheck.finding import WORST_FIRST, Finding, Outcome

# Faults detected by timeout.
_TIMED = (Fault.SILENT, Fault.NO_ANSWER, Fault.RESOLVER)

# What one lost packet must not come to: connections that had to send again, and segments.
_LOSSY, _AGAIN, _AGAIN_OF_SENT = 2, 3, 0.05

# URLs and addresses that a text lists before it counts the rest.
_LISTED = 10

# Whether the URL has a name, and whether a proxy is asked -> what is wrong with one URL.
_SINGLE = {
    (False, False): '{url} {reason}',
    (True, False): '{url} {reason} at {address}',
    (False, True): '{url} {reason} through the proxy {proxy} from the environment',
    (True, True): '{url} {reason} at {address} through the proxy {proxy} from the environment',
}


class Trouble(NamedTuple):
    """Hold what is wrong with one target at one of its addresses."""

    target: Target
    answer: Answer
    endpoints: Sequence[Endpoint]
    weight: Weight


def _weight(endpoint: Endpoint, needed: Mapping[str, str]) -> Weight:
    """Return the severity of a dead endpoint.

    An identity URL is as severe as the service for which one logs in there, if identity is
    required at all.
    """
    if endpoint.service == IDENTITY and IDENTITY not in needed:
        return Weight()
    return weigh(endpoint.needed_for, needed)


def diagnose(picture: Picture, needed: Mapping[str, str], origin_of: OriginOf) -> Iterator[Finding]:
    """Yield all findings of a round, the worst first.

    :param needed: the result of :func:`required`
    :param origin_of: group, option -> where the option comes from
    """
    used = {target: endpoints for target, endpoints in picture.endpoints.items() if endpoints}
    troubles = [trouble for target in used for trouble in _troubles(picture, target, needed)]
    found: list[Finding] = []
    for fold in (_resolver, _cut_off, _losses, _message_queue, _addresses):
        findings, troubles = fold(picture, troubles)
        found += findings
    found += logins.diagnose(picture, needed, origin_of)
    found += [logins.missing_service(missing, needed) for missing in picture.missing]
    yield from sorted(found, key=lambda f: WORST_FIRST.index(f.outcome))
    for target, endpoints in used.items():
        answers = picture.answers.get(target, {}).values()
        well = [f'{answer.address}: {answer.detail}' for answer in answers if answer.fault is None]
        if well:
            yield Finding(NAME, Outcome.OK, target.url, ', '.join(well), _origins(endpoints))


def _troubles(picture: Picture, target: Target, needed: Mapping[str, str]) -> Iterator[Trouble]:
    endpoints = picture.endpoints[target]
    answers = picture.answers.get(target, {})
    partly = picture.is_well(target)
    for answer in answers.values():
        if answer.fault is None:
            continue
        if partly and answer.fault is Fault.UNREACHABLE:
            # On a host without IPv6, a client tries the next address of the name at once.
            continue
        if picture.starved and answer.fault in _TIMED:
            answer = dataclasses.replace(answer, detail=f'{answer.detail}, but this host was too '
                                                        'busy for the result to be reliable')
            yield Trouble(target, answer, endpoints, Weight())
            continue
        weights = [Weight() if partly or _replaced(picture, endpoint) else _weight(endpoint, needed)
                   for endpoint in endpoints]
        yield Trouble(target, answer, endpoints, max(weights))


def _replaced(picture: Picture, endpoint: Endpoint) -> bool:
    """Return whether another endpoint of the same group answers."""
    return bool(endpoint.group) and any(
        picture.is_well(target) and any(e.group == endpoint.group for e in endpoints)
        for target, endpoints in picture.endpoints.items())


Folded = tuple[list[Finding], list[Trouble]]


def _common(code: str, troubles: list[Trouble], mine: list[Trouble], subject: str, detail: str,
            remedy: str, origin: str = '') -> Folded:
    """Return one finding for ``mine``, and the other troubles."""
    weight = max(t.weight for t in mine)
    origins = '; '.join(filter(None, [origin, _origins(e for t in mine for e in t.endpoints)]))
    return ([Finding(NAME, weight.outcome, subject, detail, origins, remedy, weight.scope,
                     _several(mine), code)],
            [t for t in troubles if t not in mine])


def _resolver(picture: Picture, troubles: list[Trouble]) -> Folded:
    """Report that the resolver does not answer, or that it resolves none of several names."""
    mine = [t for t in troubles if t.answer.fault in (Fault.NAME, Fault.RESOLVER)]
    hosts = list(dict.fromkeys(t.answer.address for t in mine))
    names = {t.host for t, endpoints in picture.endpoints.items()
             if endpoints and t.host and not is_address(t.host)}
    silent = [t for t in mine if t.answer.fault is Fault.RESOLVER]
    if not hosts or not (silent or len(hosts) > 1) or any(n for n in names if n not in hosts):
        return [], troubles
    detail = (f'no name resolves: {_some(hosts)} ({(silent or mine)[0].answer.detail}); '
              f'{len(_targets(mine))} endpoints depend on them')
    return _common('endpoint-resolver', troubles, mine, 'resolver', detail, remedies.RESOLVER,
                   remedies.nameservers())


def _cut_off(picture: Picture, troubles: list[Trouble]) -> Folded:
    """Report that none of several addresses outside this host answers."""
    answers = [a for target, endpoints in picture.endpoints.items() if endpoints
               for a in picture.answers.get(target, {}).values()
               if is_address(a.address) and not _is_loopback(a.address)]
    addresses = {a.address for a in answers}
    if len(addresses) < 2 or not all(a.fault in (Fault.SILENT, Fault.UNREACHABLE) for a in answers):
        return [], troubles
    mine = [t for t in troubles if t.answer in answers]
    if not mine:
        return [], troubles
    faults = [f'{t.answer.address} {t.answer.fault.value}' for t in _one_each(mine)
              if t.answer.fault]
    detail = (f'this host is cut off: none of the {len(addresses)} addresses that it needs '
              f'answers: {_some(faults)}; affected: {_some(_targets(mine))}')
    return _common('endpoint-cut-off', troubles, mine, 'this host', detail, remedies.CUT_OFF)


def _losses(picture: Picture, troubles: list[Trouble]) -> Folded:
    """Report that packets are lost, with what got no answer in time for that reason.

    A service that hangs acknowledges what it gets, and an address that nobody has sends nothing.
    """
    answers = [answer for target, endpoints in picture.endpoints.items() if endpoints
               for answer in picture.answers.get(target, {}).values()]
    lossy = [answer for answer in answers if answer.losses]
    again = sum(answer.losses.again for answer in lossy)
    sent = sum(answer.losses.sent for answer in answers)
    if len(lossy) < _LOSSY or again < _AGAIN or again < sent * _AGAIN_OF_SENT:
        return [], troubles
    addresses = list(dict.fromkeys(answer.address for answer in lossy))
    detail = (f'packets are lost between this host and {_some(addresses)}: {again} of {sent} '
              f'segments of {len(answers)} connections had to be sent again')
    mine = [t for t in troubles if t.answer.fault in _TIMED and t.answer.address in addresses]
    code = 'endpoint-packet-loss'
    if not mine:
        return [Finding(NAME, Outcome.WARNING, 'this host', detail, '', remedies.LOSSES,
                        code=code)], troubles
    return _common(code, troubles, mine, 'this host', f'{detail}; no answer in time from '
                   f'{_some(_targets(mine))}', remedies.LOSSES)


def _message_queue(picture: Picture, troubles: list[Trouble]) -> Folded:
    """Report that none of several message queue hosts answers."""
    mine = [t for t in troubles
            if any(e.group == MESSAGING and not _replaced(picture, e) for e in t.endpoints)]
    hosts = _targets(mine)
    if len(hosts) < 2:
        return [], troubles
    answers = [f'{t.target.url.partition("://")[2]} {_reason(t.answer)}' for t in mine]
    detail = f'none of the {len(hosts)} message queue hosts answers: {_some(answers)}'
    return _common('endpoint-message-queue', troubles, mine, 'message queue', detail,
                   remedies.of(mine[0].answer, MESSAGING))


def _addresses(picture: Picture, troubles: list[Trouble]) -> Folded:
    by_address: dict[str, list[Trouble]] = {}
    for trouble in troubles:
        by_address.setdefault(trouble.answer.address, []).append(trouble)
    return [finding for address, mine in by_address.items()
            for finding in _address(picture, address, mine)], []


def _address(picture: Picture, address: str, troubles: list[Trouble]) -> Iterator[Finding]:
    """Yield one finding, or one per scope if only some servers need the address."""
    worst = max(t.weight for t in troubles)
    scopes = {worst.scope}
    if worst.failure and not worst.everywhere:
        scopes = {t.weight.scope for t in troubles if t.weight.failure}
    for scope in sorted(scopes):
        mine = [t for t in troubles
                if t.weight.scope == scope or not t.weight.failure or worst.everywhere]
        first = max(mine, key=lambda t: t.weight)
        assert first.answer.fault is not None
        targets = _targets(mine)
        remarks = [_reasons(address, mine) if len(targets) > 1 else _single(address, first)]
        elsewhere = next((picture.elsewhere[t.target] for t in mine
                          if t.target in picture.elsewhere), None)
        if elsewhere is not None:
            remarks.append(f'the same service answers at {elsewhere.url}, an address that is also '
                           'in nova.conf')
        others = sum(picture.is_well(t) for t, endpoints in picture.endpoints.items() if endpoints)
        if others and len(targets) > 1:
            remarks.append(wording.counted(
                others, '{} other endpoint answers', '{} other endpoints answer'))
        yield Finding(NAME, first.weight.outcome, targets[0] if len(targets) == 1 else address,
                      '; '.join(remarks), _origins(e for t in mine for e in t.endpoints),
                      remedies.of(first.answer, _services(first.endpoints),
                                  first.endpoints[0].from_catalog, elsewhere is not None),
                      scope, _several(mine), first.answer.fault.code)


def _reason(answer: Answer) -> str:
    assert answer.fault is not None
    # These two say it all. The others need the dates, the status or the seconds.
    if answer.fault in (Fault.REFUSED, Fault.CLOSED):
        return str(answer.fault.value)
    return f'{answer.fault.value} ({answer.detail})'


def _single(address: str, trouble: Trouble) -> str:
    resolved = address != trouble.target.host and is_address(address)
    return _SINGLE[resolved, bool(trouble.answer.proxy)].format(
        url=trouble.target.url, reason=_reason(trouble.answer), address=address,
        proxy=trouble.answer.proxy)


def _reasons(address: str, troubles: Sequence[Trouble]) -> str:
    """Return ``10.0.0.5 refuses connections: URL (service), URL (service)``, for each fault."""
    by_reason: dict[str, list[str]] = {}
    for trouble in troubles:
        urls = by_reason.setdefault(_reason(trouble.answer), [])
        text = f'{trouble.target.url} ({_services(trouble.endpoints)})'
        if text not in urls:
            urls.append(text)
    reasons = '; '.join(f'{reason}: {_some(urls)}' for reason, urls in by_reason.items())
    return f'{address} {reasons}'


def _is_loopback(address: str) -> bool:
    return ipaddress.ip_address(address.partition('%')[0]).is_loopback


def _one_each(troubles: Iterable[Trouble]) -> list[Trouble]:
    return list({t.answer.address: t for t in troubles}.values())


def _targets(troubles: Iterable[Trouble]) -> list[str]:
    """Return each URL once, the most severe first."""
    return list(dict.fromkeys(
        t.target.url for t in sorted(troubles, key=lambda t: t.weight, reverse=True)))


def _several(troubles: Iterable[Trouble]) -> tuple[str, ...]:
    """Return each URL if there are more than one."""
    urls = tuple(_targets(troubles))
    return urls if len(urls) > 1 else ()


def _services(endpoints: Iterable[Endpoint]) -> str:
    return ', '.join(dict.fromkeys(e.service for e in endpoints))


def _origins(endpoints: Iterable[Endpoint]) -> str:
    return '; '.join(dict.fromkeys(e.origin for e in endpoints))


def _some(texts: Sequence[str]) -> str:
    return wording.some(texts, _LISTED)
