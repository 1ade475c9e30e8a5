# SPDX-License-Identifier: Apache-2.0
"""Load checks by the names of their entry points."""

from __future__ import annotations

import dataclasses
import functools
from typing import Any, Mapping, Optional, Sequence

from stevedore import extension, named

from nova_migcheck.checks.base import Check, Offer
from nova_migcheck.checks.registry import Registry

NAMESPACE = 'nova_migcheck.checks'


@dataclasses.dataclass(frozen=True)
class Loaded:
    """A check as its entry point gave it. ``error`` says why there is none."""

    name: str
    check: Optional[type[Check]] = None
    entry: str = ''
    error: str = ''


def load(names: Sequence[str]) -> dict[str, Loaded]:
    """Return the checks of these names, in this order.

    One that is missing or broken is in the answer too, with its error.
    """
    failed: dict[str, str] = {}

    def note(_manager: Any, entry_point: Any, error: Exception) -> None:
        failed[entry_point.name] = f'{type(error).__name__}: {error}'

    manager = named.NamedExtensionManager(
        NAMESPACE, list(names), on_load_failure_callback=note,
        on_missing_entrypoints_callback=lambda _names: None)
    found = {extension.name: extension for extension in manager}
    loaded = {}
    for name in names:
        if name not in found:
            absent = f'no package installed here declares it in {NAMESPACE}'
            loaded[name] = Loaded(name, error=failed.get(name, absent))
            continue
        check, error = found[name].plugin, _flaw(found[name].plugin)
        loaded[name] = Loaded(name, error=error) if error else Loaded(
            name, check, found[name].entry_point.value)
    return loaded


def installed() -> list[type[Check]]:
    """Return all checks that are installed, enabled or not; one that is broken is left out."""
    manager = extension.ExtensionManager(
        NAMESPACE, on_load_failure_callback=lambda _manager, _entry, _error: None)
    return [one.check for one in load(sorted(manager.names())).values() if one.check is not None]


def _flaw(check: Any) -> str:
    """Return why a plugin is no check that nova-compute can use, '' when it is one.

    nova-compute itself reads these attributes, so a wrong one must not get that far.
    """
    if not (isinstance(check, type) and issubclass(check, Check)):
        return 'its entry point is not a nova_migcheck.checks.base.Check'
    if check.WHEN not in ('host', 'path', 'server'):
        return f'WHEN is {check.WHEN!r}, neither "host" nor "path" nor "server"'
    if not isinstance(check.OPTIONS, Mapping):
        return f'OPTIONS is {check.OPTIONS!r}, and not a mapping'
    if not isinstance(check.CODES, Mapping) or not all(
            isinstance(word, str) for pair in check.CODES.items() for word in pair):
        return f'CODES is {check.CODES!r}, and not a mapping of codes to their meaning'
    lists: dict[str, Any] = {'AUTH_GROUPS': check.AUTH_GROUPS, 'TRANSIENT': check.TRANSIENT,
                             'OF_SERVICES': check.OF_SERVICES}
    lists.update((f'OPTIONS of [{group}]', names) for group, names in check.OPTIONS.items())
    for name, value in lists.items():
        if not isinstance(value, (list, tuple)) or not all(isinstance(one, str) for one in value):
            return f'{name} is {value!r}, and not a list of names'
    if not isinstance(check.OFFERS, (list, tuple)) or not all(
            isinstance(one, Offer) for one in check.OFFERS):
        return f'OFFERS is {check.OFFERS!r}, and not a list of Offer'
    return ''


@functools.lru_cache(maxsize=16)
def of(names: tuple[str, ...]) -> Registry:
    """Return the registry of the checks of these names; one that cannot be loaded is left out."""
    return Registry([one.check for one in load(names).values() if one.check is not None])
