# SPDX-License-Identifier: Apache-2.0
"""The facts of the built-in checks, for reports that a test makes up."""

from __future__ import annotations

from typing import Any

from nova_migcheck.checks.address import AddressCheck
from nova_migcheck.checks.machine import MachineCheck
from nova_migcheck.checks.registry import Registry
from nova_migcheck.checks.storage import StorageCheck

BUILT_IN = Registry([AddressCheck, MachineCheck, StorageCheck])


def facts(**values: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Return ``common`` and ``own`` of a Report with these facts."""
    parts: dict[str, dict[str, Any]] = {'common': {}, 'own': {}}
    for name, value in values.items():
        for part, fact in zip(parts.values(), BUILT_IN.split(name, value)):
            if fact:
                part[name] = fact
    return parts
