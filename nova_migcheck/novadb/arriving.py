# SPDX-License-Identifier: Apache-2.0
"""What Nova knows of a server that is about to come, and does for it on its target."""

from __future__ import annotations

import posixpath
import time
from typing import Any, Optional

from nova.virt.libvirt import driver

from nova_migcheck.checks.base import Arrival
from nova_migcheck.report.report import Report


def of_instance(conf: Any, instance: Any, source: Optional[Report], here: Optional[Report]
                ) -> Arrival:
    """Return a server as the checks of this host, its target, see it.

    :param conf: ``nova.conf.CONF``
    :param source: the report of the host that it is on
    :param here: the report of this host
    """
    return Arrival(
        instance.uuid, instance.name, posixpath.join(conf.instances_path, instance.uuid),
        instance.host or '', _copies(conf), source.common if source else {},
        here.common if here else {})


def _copies(conf: Any) -> bool:
    """Return whether Nova copies a config drive itself, by ssh or rsync, from the source.

    It does until 2024.1, in ``pre_live_migration`` (LP#1246201).
    """
    code = getattr(driver.LibvirtDriver.pre_live_migration, '__code__', None)
    return '_remotefs' in getattr(code, 'co_names', ()) and conf.config_drive_format == 'iso9660'


def requirements(instance: Any, source: Optional[Report], migcheck: Any) -> str:
    """Return what the guest needs besides its CPU, '' when that is not known.

    :param source: the report of the host that it is on
    :param migcheck: ``CONF.migcheck``
    """
    known = source is not None and source.knows(0, time.time(), migcheck)
    return source.needs.of(instance.uuid) if source is not None and known else ''


def scopes(instance: Any, mappings: Any) -> frozenset[str]:
    """Return which of the findings with a scope concern a server.

    :param mappings: Nova's BlockDeviceMappingList
    """
    found = set()
    if any(bdm.is_volume for bdm in mappings):
        found.add('volumes')
    if any('encrypted' in bdm and bdm.encrypted for bdm in mappings) or _has_vtpm(instance):
        found.add('encryption')
    if any(bdm.is_local for bdm in mappings) or instance.config_drive:
        found.add('local-disk')
    return frozenset(found)


def _has_vtpm(instance: Any) -> bool:
    flavor = instance.flavor
    specs = flavor.extra_specs if flavor and 'extra_specs' in flavor else {}
    properties = instance.image_meta.properties
    return bool(specs.get('hw:tpm_version') or properties.get('hw_tpm_version'))
