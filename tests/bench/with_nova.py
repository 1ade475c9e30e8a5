# SPDX-License-Identifier: Apache-2.0
# ruff: noqa: E402
"""``python -m tests.bench.with_nova MODULE [HOSTS...]``: the rows of one module, in a process that has imported what a service of Nova has
and nothing else, since what lies in memory beside it is part of how fast it is."""

import importlib
import logging
import os
import sys
import tempfile

os.environ.setdefault('OS_NOVA_DISABLE_EVENTLET_PATCHING', 'true')

from nova import monkey_patch

monkey_patch.patch()

from tests.bench.measure import tell


def main(module: str, *hosts: str) -> None:
    with tempfile.NamedTemporaryFile(suffix='.log') as log:
        # To a file, as an operator's scheduler logs: what the filter logs is part of what it costs.
        logging.basicConfig(filename=log.name, level=logging.INFO)
        rows = importlib.import_module(f'tests.bench.{module}').rows
        tell(rows([int(count) for count in hosts]) if hosts else rows())


if __name__ == '__main__':
    main(*sys.argv[1:])
