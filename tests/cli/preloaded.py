# SPDX-License-Identifier: Apache-2.0
"""What a command imports, imported once, in the process from which those of the tests are forked.

Whatever is imported late in a real process is so on purpose (its start must be quick); one test starts a real one.
"""

from cliff.formatters import commaseparated, json_format, table, value, yaml_format  # noqa: F401
from nova import objects
from nova.db.api import models as api_models  # noqa: F401
from nova.db.main import models  # noqa: F401
from sqlalchemy import orm

from nova_migcheck.cli import (  # noqa: F401
    baseline,
    check,
    codes,
    compare,
    decision,
    drain,
    drainpage,
    explain,
    grid,
    hosts,
    ledger,
    main,
    matrix,
    matrixpage,
    overview,
    progress,
    roundview,
)
from nova_migcheck.rounds import runner  # noqa: F401
from tests.cli import fleet_files  # noqa: F401

objects.register_all()
orm.configure_mappers()
