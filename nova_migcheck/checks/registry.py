# SPDX-License-Identifier: Apache-2.0
"""What a set of checks declares: facts of hosts, and needs of guests.

It is imported in the processes of the checks too, so it imports little.
"""

from __future__ import annotations

import importlib
import json
import logging
import xml.etree.ElementTree as ElementTree
from typing import Any, Callable, Iterable, Mapping, Optional, Sequence

from nova_migcheck.checks.base import Arrival, Check, Server
from nova_migcheck.finding import Finding, Outcome

LOG = logging.getLogger(__name__)

# Characters of a text that no two hosts may share: a shorter one would be found in any report.
_DISTINCT = 16


def text_of(needs: Any) -> str:
    """Return needs as JSON; equal needs are equal texts."""
    return json.dumps(needs, separators=(',', ':'), sort_keys=True)


Facts = Mapping[str, Mapping[str, Any]]


class Registry:
    """What a set of checks declares about facts.

    :ivar offers: name of a fact -> its declaration
    :ivar needing: name of a check that reads the needs of guests -> the check
    :ivar leaving: name of a check that looks at a guest which leaves -> the check
    :ivar arriving: name of a check that looks for what is in the way of a server -> the check
    :ivar of_servers: name of a check of ``WHEN = 'server'`` -> the check
    :ivar of_services: check names of findings about a service that many hosts use
    :ivar transient: check names of findings whose cause may be gone a moment later
    """

    def __init__(self, checks: Sequence[type[Check]]) -> None:
        self.needing = {check.NAME: check for check in checks if check.needs is not Check.needs}
        self.leaving = {check.NAME: check for check in checks if check.leaves is not Check.leaves}
        self.of_services = frozenset(name for check in checks for name in check.OF_SERVICES)
        self.transient = frozenset(name for check in checks for name in check.TRANSIENT)
        self._check_of = {offer.name: check.NAME for check in checks for offer in check.OFFERS}
        self.offers = {offer.name: offer for check in checks for offer in check.OFFERS}
        self.arriving = {
            check.NAME: check for check in checks if check.arrives is not Check.arrives}
        self.of_servers = {check.NAME: check for check in checks if check.WHEN == 'server'}

    @property
    def order(self) -> tuple[str, ...]:
        """The facts in the order in which they leave a report that is too large."""
        return tuple(sorted(self.offers, key=lambda name: (self.offers[name].keep, name)))

    def split(self, name: str, fact: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
        """Return what of a fact is alike on many hosts, and what differs on every host."""
        own = self.offers[name].per_host
        return ({key: value for key, value in fact.items() if key not in own},
                {key: value for key, value in fact.items() if key in own})

    def needs(self, domain: ElementTree.Element) -> str:
        """Return what a guest needs, as JSON: check -> its needs.

        A check that breaks over a guest has no needs of it, and the log says so.
        """
        found = {}
        for name, check in self.needing.items():
            try:
                needs = check.needs(domain)
            except Exception as e:  # a boundary to a plugin
                LOG.warning('The check %s cannot read the needs of a guest: %s: %s', name,
                            type(e).__name__, e)
                continue
            if needs is not None:
                found[name] = needs
        return text_of(found)

    def compare(self, needs: str, target: Facts, source: Optional[Facts] = None) -> list[Finding]:
        """Compare the needs of a guest with what a target offers.

        What a comparison raises is an ``unknown`` finding.

        :param needs: what :meth:`needs` returned on the source; '' when they are not known
        :param source: what the source itself offers; None when it is not known
        """
        found: list[Finding] = []
        for name, value in (json.loads(needs) if needs else {}).items():
            check = self.needing.get(name)
            if check is None:
                continue
            lacking = _compared(name, check.compare, value, target)
            if lacking and check.SOURCE_MAY_LACK and source is not None:
                here = {finding.subject for finding in check.compare(value, source)}
                lacking = [finding for finding in lacking if finding.subject not in here]
            found += lacking
        return found

    def leaves(self, domain: ElementTree.Element, server: Server, target: Facts) -> list[Finding]:
        """Return what prevents a guest from leaving for a target. It is called on the source."""
        return [finding for name, check in self.leaving.items()
                for finding in _compared(name, check.leaves, domain, server, target)]

    def arrives(self, server: Arrival, connection: Any) -> list[Finding]:
        """Return what is in the way of a server on this host, its target."""
        return [finding for name, check in self.arriving.items()
                for finding in _compared(name, check.arrives, server, connection)]

    def concerned(self, server: Arrival, needs: str) -> dict[str, Any]:
        """Return the checks of a server that have something to look at, with its needs of them.

        :param needs: what :meth:`needs` returned on the source; '' when they are not known
        """
        known = json.loads(needs) if needs else None
        found = {}
        for name, check in self.of_servers.items():
            try:
                if check.concerns(server, known):
                    found[name] = (known or {}).get(name)
            except Exception as e:  # a boundary to a plugin
                LOG.warning('The check %s does not say whether a server concerns it: %s: %s', name,
                            type(e).__name__, e)
        return found

    def distinct(self, own: Facts) -> list[str]:
        """Return the texts that no other host may share.

        :param own: fact -> what of it differs on every host
        """
        values = [own.get(name, {}).get(offer.distinct) for name, offer in self.offers.items()
                  if offer.distinct]
        return [value for value in values if isinstance(value, str) and len(value) >= _DISTINCT]

    def same(self, source: Facts, target: Facts) -> list[Finding]:
        """Return the findings for texts that two hosts share, and must not.

        :param source: fact -> what of it differs on every host
        """
        found = []
        for name, offer in self.offers.items():
            value = source.get(name, {}).get(offer.distinct)
            if offer.same is not None and value and value in self.distinct(target):
                found.append(offer.same(value))
        return found

    def between(self, source: Facts, target: Facts) -> list[Finding]:
        """Compare the facts of two hosts. What a comparison raises is an ``unknown`` finding.

        :param source: fact -> what of it is alike on many hosts
        """
        found: list[Finding] = []
        for name, offer in self.offers.items():
            if offer.between is None:
                continue
            try:
                found += offer.between(source.get(name, {}), target.get(name, {}))
            except Exception as e:  # a boundary to a plugin
                LOG.debug('The facts %s of two hosts cannot be compared', name, exc_info=True)
                found.append(Finding(
                    self._check_of[name], Outcome.UNKNOWN, name,
                    f'what the source and the target say of it cannot be compared: '
                    f'{type(e).__name__}: {e}', 'ComputeNode.stats', 'this is a bug in the check',
                    code='comparison-broken'))
        return found


def _compared(name: str, compare: Callable[..., Iterable[Finding]], *values: Any) -> list[Finding]:
    """Return what a check's comparison yields, or one finding for what it raises."""
    try:
        return list(compare(*values))
    except Exception as e:  # a boundary to a plugin
        LOG.debug('The check %s cannot compare a guest with a target', name, exc_info=True)
        return [Finding(
            name, Outcome.UNKNOWN, name, f'what the guest needs cannot be compared with the '
            f'target: {type(e).__name__}: {e}', '', 'this is a bug in the check',
            code='comparison-broken')]


def of_entries(entries: Mapping[str, str]) -> Registry:
    """Return the registry of checks by their entry points, without a look at what is installed.

    One that breaks is left out: nova-compute, which loaded it before, has reported that.
    """
    checks = []
    for entry in entries.values():
        module, _, attribute = entry.partition(':')
        try:
            checks.append(getattr(importlib.import_module(module), attribute))
        except Exception as e:  # a boundary to a plugin
            LOG.warning('The check %s cannot be imported: %s', entry, e)
    return Registry(checks)
