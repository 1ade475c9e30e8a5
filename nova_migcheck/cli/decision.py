# SPDX-License-Identifier: Apache-2.0
"""Say what Nova's own scheduler would decide for one server, as findings beside ours."""

from __future__ import annotations

import dataclasses
from typing import Mapping

from nova_migcheck import wording
from nova_migcheck.finding import Finding, Outcome, printable
from nova_migcheck.novadb import fleet, requests, scheduling

# What takes a host out -> what it says, where that stands, what to do.
_WORDS = {
    requests.PLACEMENT: ('placement: {text}', 'placement, GET /allocation_candidates',
                           'see its inventory, traits and aggregates: openstack resource provider '
                           'inventory list'),
    requests.CONDUCTOR: ('{text}', 'nova-conductor, which skips such a target',
                           'upgrade the target, or choose another one'),
}
_FILTER = ("Nova's {by} rejects it", 'nova.conf [filter_scheduler] enabled_filters',
           'see the documentation of this filter')


@dataclasses.dataclass(frozen=True)
class Said:
    """What Nova would decide.

    :param findings: host -> why Nova does not take it, if so
    :param ranks: host -> 1 for the host that Nova takes first, and so on
    :param text: for people, in one sentence
    :param known: whether Nova's decision could be repeated
    """

    findings: Mapping[str, Finding]
    ranks: Mapping[str, int]
    text: str
    known: bool = True


def ask(server: fleet.Server, hosts: Mapping[str, bool], timeout: float) -> Said:
    """Return what Nova would decide for a server.

    :param hosts: the hosts of its cell -> whether our own filter rejects them
    :param timeout: seconds for each query
    """
    try:
        nova = scheduling.Scheduling(timeout)
        request = nova.request(server.uuid)
        if request.refusal:
            finding = _refusal('live migration', request.refusal, "Nova's API and conductor",
                               'bring the server into a state in which Nova moves it')
            return Said(dict.fromkeys(hosts, finding), {},
                        f'Nova would not live-migrate it to any host: {request.refusal}')
        decided = nova.decide(request, {}, lambda state: hosts.get(state.host, False))
    except fleet.Unavailable as e:
        return Said({}, {}, f"{e}. So Nova's own filters are not considered.", known=False)
    findings = {host: _of(by, text) for host, (by, text) in decided.out.items()
                if by != requests.OURS}
    return Said(findings, {host: number for number, host in enumerate(decided.ranked, 1)},
                _sentence(decided, request, nova))


def _of(by: str, text: str) -> Finding:
    words, origin, remedy = _WORDS.get(by, _FILTER)
    return _refusal(by, words.format(by=by, text=text), origin, remedy)


def _refusal(subject: str, detail: str, origin: str, remedy: str) -> Finding:
    return Finding('nova', Outcome.FAILURE, subject, detail, origin, remedy, code='nova-refuses')


def _sentence(decided: requests.Decision, request: requests.Request,
              nova: scheduling.Scheduling) -> str:
    text = 'Nova would find no valid host.'
    if decided.ranked:
        names = wording.ordered(printable(host) for host in decided.ranked[:3])
        text = f'Nova would send it to {names}.'
    return ' '.join([text, *nova.remarks([request])])
