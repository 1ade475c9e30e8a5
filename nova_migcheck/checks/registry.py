# SPDX-License-Identifier: Apache-2.0
"""What a set of checks declares: facts of hosts, and needs of guests.

It is imported in the processes of the checks too, so it imports little.
"""

from __future__ import annotations

import importlib
import json
import logging
import xml.etree.ElementTree as ElementTree
from typing import Any, Mapping, Sequence

from nova_migcheck.checks.base import Check
from nova_migcheck.finding import Finding, Outcome

LOG = logging.getLogger(__name__)

def text_of(needs: Any) -> str:
    """Return needs as JSON; equal needs are equal texts."""
    return json.dumps(needs, separators=(',', ':'), sort_keys=True)


Facts = Mapping[str, Mapping[str, Any]]


class Registry:
    """What a set of checks declares about facts.

    :ivar offers: name of a fact -> its declaration
    :ivar needing: name of a check that reads the needs of guests -> the check
    :ivar of_services: check names of findings about a service that many hosts use
    :ivar transient: check names of findings whose cause may be gone a moment later
    """

    def __init__(self, checks: Sequence[type[Check]]) -> None:
        self.needing = {check.NAME: check for check in checks if check.needs is not Check.needs}
        self.of_services = frozenset(name for check in checks for name in check.OF_SERVICES)
        self.transient = frozenset(name for check in checks for name in check.TRANSIENT)
        self._check_of = {offer.name: check.NAME for check in checks for offer in check.OFFERS}
        self.offers = {offer.name: offer for check in checks for offer in check.OFFERS}

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

    def compare(self, needs: str, target: Facts) -> list[Finding]:
        """Compare the needs of a guest with what a target offers.

        What a comparison raises is an ``unknown`` finding.

        :param needs: what :meth:`needs` returned on the source; '' when they are not known
        """
        found: list[Finding] = []
        for name, value in (json.loads(needs) if needs else {}).items():
            check = self.needing.get(name)
            if check is None:
                continue
            try:
                found += check.compare(value, target)
            except Exception as e:  # a boundary to a plugin
                found.append(Finding(
                    name, Outcome.UNKNOWN, name, f'what the guest needs cannot be compared with '
                    f'the target: {type(e).__name__}: {e}', '', 'this is a bug in the check',
                    code='comparison-broken'))
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
