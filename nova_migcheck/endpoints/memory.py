# SPDX-License-Identifier: Apache-2.0
"""Remember from one round to the next, so that a thousand hosts are no load for the services.

A round that a decision waits for asks everything. The others rely on an earlier round for what was
well, and wait longer each time before they repeat a login that failed.
"""

from __future__ import annotations

import random
import time
from typing import Any, Iterable, Mapping, Optional

from nova_migcheck.checksettings import Settings
from nova_migcheck.endpoints import remedies
from nova_migcheck.endpoints.catalog import Catalog, LoginFailed
from nova_migcheck.endpoints.logins import identity_is_well
from nova_migcheck.endpoints.observations import Picture
from nova_migcheck.endpoints.values import Answer, Target

# After a broker has greeted, probes only connect to it until the interval has passed. RabbitMQ logs
# a warning for each client that leaves after the greeting, and nothing for one that only connects.
# Nova's own heartbeats notice a broker that stops answering.
GREETED_SELDOM = ('amqp', 'amqps')

# How much each interval varies, as a part of it, so that the hosts of a cloud do not ask together.
_VARIES = 0.2

# Seconds until a login that failed is tried again; the next time it is twice as long.
_LOGIN_AGAIN = 60.0


def later(settings: Settings) -> Optional[dict[str, Any]]:
    """Return what to keep if this host is not to ask yet, None if it is.

    Hosts that were restarted together ask for the first time at random within one interval.
    """
    if settings.thorough:
        return None
    now = time.time()
    begins = now + random.uniform(0, settings.get('migcheck', 'probe_interval', 300))
    if settings.memory is not None:
        begins = _as_mapping(settings.memory).get('begins', now)
    return {'begins': begins} if begins > now else None


class Memory:
    """What earlier rounds have left.

    :ivar catalogs: leader of a login -> the last catalog that keystone gave it
    """

    def __init__(self, settings: Settings) -> None:
        value = _as_mapping(settings.memory)
        self._settings = settings
        self._catalog_interval = settings.get('migcheck', 'catalog_interval', 600)
        catalogs = {group: Catalog.from_json(one)
                    for group, one in _as_mapping(value.get('catalogs')).items()}
        self.catalogs = {group: one for group, one in catalogs.items() if one is not None}
        self._greeted = {key: when for key, when in _as_mapping(value.get('greeted')).items()
                         if self._is_young(when)}
        well, logins = _as_mapping(value.get('well')), _as_mapping(value.get('logins'))
        self._logins = logins
        # A decision waits for neither, and asks all again.
        self._well, self._waits = ({}, {}) if settings.thorough else tuple(
            {key: one for key, one in them.items() if time.time() < one['due']}
            for them in (well, logins))

    def answers(self, target: Target) -> Optional[dict[str, Answer]]:
        """Return what a target that was well answered before, None if it is to be asked."""
        well = self._well.get(repr(target))
        if well is None:
            return None
        answers = [Answer.well_from_json(value) for value in well['answers']]
        return {answer.address: answer for answer in answers}

    def young_catalog(self, leader: str) -> Optional[Catalog]:
        """Return a catalog that need not be fetched again, if there is one."""
        cached = self.catalogs.get(leader)
        return cached if cached and self._is_young(cached.fetched) else None

    def has_greeted(self, target: Target, address: str) -> bool:
        """Return whether this broker has greeted within the interval."""
        return f'{target.url} {address}' in self._greeted

    def may_log_in(self, leader: str) -> bool:
        """Return whether a login that failed, or gave a doubtful catalog, is due again."""
        return leader not in self._waits

    def failed_login(self, leader: str) -> Optional[Exception]:
        """Return why a login failed that is not due again, None if it is, or was well."""
        wait = self._waits.get(leader)
        if not wait or not wait['text']:
            return None
        error = LoginFailed if wait['refused'] else remedies.Unreached
        return error(wait['text'], wait['remedy'])

    def to_json(self, picture: Picture, tried: Iterable[str], doubtful: Iterable[str]
                ) -> dict[str, Any]:
        """Return what the next round needs.

        :param tried: the leaders that have logged in, or tried to, in this round
        :param doubtful: the leaders whose catalog lists dead URLs or lacks services
        """
        fetched = {leader: result for leader, result in picture.logins.items()
                   if isinstance(result, Catalog)}
        greeted = {f'{target.url} {address}': self._greeted.get(f'{target.url} {address}',
                                                                time.time())
                   for target, answers in picture.answers.items()
                   for address, answer in answers.items()
                   if target.scheme in GREETED_SELDOM and answer.fault is None}
        return {'catalogs': {leader: one.to_json()
                             for leader, one in {**self.catalogs, **fetched}.items()},
                'greeted': greeted, 'well': self._remember_well(picture),
                'logins': self._remember_logins(picture, set(tried), set(doubtful))}

    def _remember_well(self, picture: Picture) -> dict[str, Any]:
        """Return the answers of the targets without any fault, and when each is due again."""
        interval = self._settings.get('migcheck', 'probe_interval', 300)
        return {repr(target): self._well.get(repr(target)) or {
                    'due': time.time() + _varied(interval),
                    'answers': [answer.well_to_json() for answer in answers.values()]}
                for target, answers in picture.answers.items()
                if not any(answer.fault for answer in answers.values())}

    def _remember_logins(self, picture: Picture, tried: set[str], doubtful: set[str]
                         ) -> dict[str, Any]:
        """Return what failed, how often, and when each is due again."""
        found = {}
        for leader in {*picture.shared_login.values()}:
            result = picture.logins.get(leader)
            failed = isinstance(result, Exception)
            if not failed and leader not in doubtful:
                continue
            before = self._logins.get(leader)
            if leader not in tried:
                if before:
                    found[leader] = before
                continue
            times = before['times'] + 1 if before else 1
            longest = min(self._catalog_interval, _LOGIN_AGAIN * 2 ** min(times - 1, 10))
            found[leader] = {'times': times, 'due': time.time() + _varied(longest),
                             **(self._reason(picture, leader, result) if failed else _NO_REASON)}
        return found

    def _reason(self, picture: Picture, leader: str, error: Any) -> dict[str, Any]:
        groups = [group for group, by in picture.shared_login.items() if by == leader]
        diagnosed = remedies.diagnose_login(
            error, identity_is_well(picture, groups, self._settings.origin))
        if diagnosed is not None:
            return {'refused': True, 'text': diagnosed.text, 'remedy': diagnosed.remedy}
        return {'refused': False, 'text': remedies.unreachable(error, picture.seconds),
                'remedy': ''}

    def _is_young(self, when: Any) -> bool:
        return (isinstance(when, (int, float))
                and 0 <= time.time() - when < self._catalog_interval)


_NO_REASON: Mapping[str, Any] = {'refused': False, 'text': '', 'remedy': ''}


def _varied(interval: float) -> float:
    return interval * random.uniform(1 - _VARIES, 1 + _VARIES)


def _as_mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}
