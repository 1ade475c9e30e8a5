# SPDX-License-Identifier: Apache-2.0
"""Hosts without a database."""

from __future__ import annotations

import dataclasses
from typing import Any

from oslo_config import cfg

from nova_migcheck import conf as confs
from nova_migcheck.judging import matrix

NOW = 1_764_000_000


def _migcheck() -> Any:
    conf = cfg.ConfigOpts()
    conf([], project='nova', default_config_files=[])
    confs.register(conf)
    return conf.migcheck


MIGCHECK = _migcheck()


@dataclasses.dataclass(frozen=True)
class Host(matrix.Host):
    """A host of the only cell."""

    cell: str = 'cell1'
