# SPDX-License-Identifier: Apache-2.0
"""Define the types of the ``[migcheck]`` options that oslo.config does not have."""

from __future__ import annotations

import ipaddress
from typing import Any

from oslo_config import types

from nova_migcheck.policies import IGNORE, REJECT, WARN


class Policy(types.ConfigType):
    """A policy for all checks, and exceptions by name of check: ``reject,clock:warn``."""

    def __init__(self) -> None:
        super().__init__(type_name='policy value')
        self._choice = types.String(choices=[REJECT, WARN, IGNORE])

    def __call__(self, value: Any) -> dict[str, str]:
        if isinstance(value, dict):
            return {check: self._choice(policy) for check, policy in value.items()}
        policies: dict[str, str] = {}
        for part in str(value).split(','):
            check, colon, policy = part.strip().rpartition(':')
            if bool(colon) != bool(check.strip()):
                raise ValueError(f'{part.strip()!r} is neither a policy nor CHECK:POLICY')
            if check.strip() in policies:
                raise ValueError(f'{check.strip() or "the policy of all checks"} is set twice')
            policies[check.strip()] = self._choice(policy.strip())
        return policies

    def __repr__(self) -> str:
        return 'Policy of reject, warn or ignore, with exceptions CHECK:POLICY'

    def _formatter(self, value: Any) -> str:
        return ','.join(f'{check}:{policy}' if check else policy
                        for check, policy in self(value).items())


class Network(types.ConfigType):
    """An IPv4 or IPv6 network in CIDR notation."""

    def __init__(self) -> None:
        super().__init__(type_name='network value')

    def __call__(self, value: Any) -> str:
        return str(ipaddress.ip_network(str(value).strip(), strict=False))

    def __repr__(self) -> str:
        return 'Network'

    def _formatter(self, value: Any) -> str:
        return str(value)
