# SPDX-License-Identifier: Apache-2.0
"""Where the databases of a fleet are, and how they go away."""

from __future__ import annotations

import contextlib
import pathlib
import shutil
import socket
import sqlite3
from typing import Any, Iterator

ROOT = pathlib.Path(__file__).parents[2]


def conf(fleet: Any) -> str:
    """The option that names the configuration of a fleet."""
    return f'--config-file={fleet / "nova.conf"}'


def away(fleet: Any, tmp_path: Any, cell: str, url: str) -> str:
    """A copy of the fleet's configuration in which a cell's database is elsewhere."""
    for path in fleet.iterdir():
        if path.name in ('api.sqlite', 'nova.conf'):
            shutil.copy(path, tmp_path)
    conf = tmp_path / 'nova.conf'
    conf.write_text(conf.read_text().replace(str(fleet / 'api.sqlite'), str(tmp_path / 'api.sqlite')))
    with sqlite3.connect(tmp_path / 'api.sqlite') as connection:
        connection.execute('UPDATE cell_mappings SET database_connection = ? WHERE name = ?', (url, cell))
    return f'--config-file={conf}'


@contextlib.contextmanager
def silent() -> Iterator[str]:
    """host:port of a listener that answers nothing, as a database server that hangs."""
    with socket.create_server(('127.0.0.1', 0)) as server:
        yield f'127.0.0.1:{server.getsockname()[1]}'


@contextlib.contextmanager
def refusing() -> Iterator[str]:
    """host:port at which nobody listens, nor will while this is held."""
    with socket.socket() as bound:
        bound.bind(('127.0.0.1', 0))
        yield f'127.0.0.1:{bound.getsockname()[1]}'
