# SPDX-License-Identifier: Apache-2.0
"""Hosts without a database."""

from __future__ import annotations

import functools
from typing import Any, Mapping, Optional

from oslo_config import cfg

from nova_migcheck import conf as confs
from nova_migcheck.report import published
from nova_migcheck.report.report import Report

NOW = 1_764_000_000


def _migcheck() -> Any:
    conf = cfg.ConfigOpts()
    conf([], project='nova', default_config_files=[])
    confs.register(conf)
    return conf.migcheck


MIGCHECK = _migcheck()


class Host:
    """As :class:`nova_migcheck.novadb.fleet.Host`, which needs nova."""

    def __init__(self, name: str, cell: str = 'cell1', stats: Optional[Mapping[str, Any]] = None) -> None:
        self.name, self.cell, self.stats, self.service = name, cell, stats or {}, 'up'

    @functools.cached_property
    def report(self) -> Optional[Report]:
        try:
            return published.read(self.stats)
        except published.Unreadable:
            return None
