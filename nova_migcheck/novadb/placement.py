# SPDX-License-Identifier: Apache-2.0
"""Ask placement for what Nova's scheduler asks it. Only GET: nothing is claimed."""

from __future__ import annotations

import collections
import dataclasses
from typing import Any, Mapping, Sequence

import nova.conf
from keystoneauth1 import exceptions
from nova import utils

from nova_migcheck.deadline import Call
from nova_migcheck.finding import without_credentials
from nova_migcheck.novadb.fleet import Unavailable

CONF = nova.conf.CONF

# Nova's scheduler asks in this version since 2020.1 (SAME_SUBTREE_VERSION of its report client).
_VERSION = '1.36'


@dataclasses.dataclass(frozen=True)
class Candidates:
    """What placement names for one request.

    :param count: of the allocations that could be claimed, each for one host
    :param by_provider: UUID of a resource provider -> those of them that take from it
    :param summaries: UUID of a resource provider -> its ``resources``, each with ``capacity`` (with
        the ratio, without what is reserved) and ``used``
    """

    count: int
    by_provider: Mapping[str, Sequence[Mapping[str, Any]]]
    summaries: Mapping[str, Mapping[str, Any]]

    @classmethod
    def of(cls, body: Mapping[str, Any]) -> Candidates:
        """Return what stands in an answer of placement."""
        by_provider: dict[str, list[Any]] = collections.defaultdict(list)
        for each in body['allocation_requests']:
            for provider in each['allocations']:
                by_provider[provider].append(each)
        return cls(len(body['allocation_requests']), by_provider, body['provider_summaries'])

    def with_more(self, more: Candidates) -> Candidates:
        """Return these, and after them those of another request."""
        providers = [*self.by_provider, *more.by_provider]
        return Candidates(
            self.count + more.count,
            {provider: [*self.by_provider.get(provider, ()), *more.by_provider.get(provider, ())]
             for provider in providers},
            {**self.summaries, **more.summaries})


class Placement:
    """Placement's API, by the credentials in ``[placement]`` of nova.conf.

    :param timeout: seconds for each request
    :raises Unavailable: when there are none
    """

    def __init__(self, timeout: float) -> None:
        if not CONF.placement.auth_type:
            raise Unavailable('placement cannot be asked: [placement] auth_type is not set; run '
                              'this where nova-scheduler runs, or give its nova.conf with '
                              '--config-file')
        self._timeout = timeout
        self._adapter: Any = None
        self._broken = ''
        # Servers of one flavor and image ask the same.
        self._answers: dict[str, Candidates] = {}

    def candidates(self, query: str) -> Candidates:
        """Return the candidates for a query, as ``ResourceRequest.to_querystring()`` writes it.

        :raises Unavailable: when placement does not tell
        """
        if query not in self._answers:
            body = self._get(f'/allocation_candidates?{query}')
            self._answers[query] = Candidates.of(body)
        return self._answers[query]

    def allocations(self, consumer: str) -> Mapping[str, Mapping[str, int]]:
        """Return what a server holds now: UUID of a provider -> resource class -> amount.

        :raises Unavailable: when placement does not tell
        """
        body = self._get(f'/allocations/{consumer}')
        return {provider: each['resources'] for provider, each in body['allocations'].items()}

    def _get(self, path: str) -> Any:
        if self._broken:
            # Nobody waits again for each of a hundred servers.
            raise Unavailable(self._broken)
        try:
            answer = Call(self._ask, path).wait(self._timeout)
        except (exceptions.ClientException, TimeoutError) as e:
            self._broken = f'placement cannot be asked: {in_one_line(e)}'
            raise Unavailable(self._broken) from e
        if answer.status_code != 200:
            raise Unavailable(f'placement answers {answer.status_code}: {in_one_line(answer.text)}')
        return answer.json()

    def _ask(self, path: str) -> Any:
        if self._adapter is None:
            self._adapter = utils.get_ksa_adapter('placement')
        return self._adapter.get(path, microversion=_VERSION, raise_exc=False,
                                 headers={'accept': 'application/json'})


def in_one_line(said: object) -> str:
    """Return what a service says, without credentials."""
    return ' '.join(without_credentials(str(said)).split())[:300]
