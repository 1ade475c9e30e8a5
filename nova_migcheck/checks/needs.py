# SPDX-License-Identifier: Apache-2.0
"""What the running guests of one host need of the host that they go to."""

from __future__ import annotations

import collections
import dataclasses
import json
from typing import Any, Mapping

from nova_migcheck.checks.registry import text_of

# Groups of guests that are read of a published report.
_MAX_GROUPS = 1000


def shorten(instance_uuid: str) -> str:
    """Return what of an instance's UUID a report holds: 48 bits tell one host's guests apart."""
    return instance_uuid.replace('-', '')[:12].lower()


@dataclasses.dataclass(frozen=True)
class Needs:
    """The needs of every guest of a host, as JSON objects: check -> what ``Check.needs`` returned.

    :param usual: of each guest that is not named; '' when nothing is known
    :param others: (needs, first digits of the UUIDs of the guests that have them)
    """

    usual: str = ''
    others: tuple[tuple[str, tuple[str, ...]], ...] = ()

    @classmethod
    def gather(cls, guests: Mapping[str, str]) -> Needs:
        """Find the needs that most guests have.

        :param guests: UUID -> its needs, '' where they are not known
        """
        counts = collections.Counter(guests.values())
        # Break ties deterministically.
        usual = min(counts, key=lambda text: (-counts[text], text), default='')
        who: dict[str, list[str]] = {}
        for uuid, text in sorted(guests.items()):
            if text != usual:
                who.setdefault(text, []).append(shorten(uuid))
        return cls(usual, tuple((text, tuple(uuids)) for text, uuids in who.items()))

    def of(self, instance_uuid: str) -> str:
        """Return the needs of one guest, '' when they are not known."""
        short = shorten(instance_uuid)
        return next((text for text, who in self.others if short in who), self.usual)

    def to_json(self) -> list[Any]:
        """Return ``[usual, [[needs, "WHO WHO"], …]]``, null for needs that are not known."""
        return [_value(self.usual), [[_value(text), ' '.join(who)] for text, who in self.others]]

    @classmethod
    def from_json(cls, value: Any) -> Needs:
        """Read what :meth:`to_json` returned; whatever else it is, nothing is known."""
        try:
            usual, others = value
            return cls(_text(usual), tuple(
                (_text(needs), tuple(who.split())) for needs, who in others[:_MAX_GROUPS]))
        except (TypeError, ValueError, AttributeError):
            return cls()


def _value(text: str) -> Any:
    return json.loads(text) if text else None


def _text(value: Any) -> str:
    return text_of(value) if isinstance(value, dict) else ''
