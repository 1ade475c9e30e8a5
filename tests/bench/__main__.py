# SPDX-License-Identifier: Apache-2.0
# ruff: noqa: E402
"""``python -m tests.bench [HOSTS...]``: what the package costs, as a table of ratios, and whether that is within the promised limits."""

import logging
import os
import sys
import tempfile

os.environ.setdefault('OS_NOVA_DISABLE_EVENTLET_PATCHING', 'true')

from nova import monkey_patch

monkey_patch.patch()

from tests.bench import filtering, page, publishing
from tests.bench.arguments import PARTS, parser
from tests.bench.measure import of_a_process, table


def main() -> int:
    told = parser().parse_args()
    # A child begins with the pages of the process that started it, so the one that measures a round is a small one.
    parts = {'rounds': lambda: of_a_process('tests.bench.rounds'), 'publishing': publishing.rows,
             'hooks': lambda: of_a_process('tests.bench.hooks') + of_a_process('tests.bench.decision'),
             'page': page.rows, 'filter': lambda: filtering.rows(told.hosts)}
    found = []
    with tempfile.NamedTemporaryFile(suffix='.log') as log:
        # To a file, as an operator's scheduler logs: what the filter logs is part of what it costs.
        logging.basicConfig(filename=log.name, level=logging.INFO)
        for part in told.only or PARTS:
            for row in parts[part]():
                found.append(row)
                print(row.what, file=sys.stderr, flush=True)
    print(table(found))
    failed = [row.what for row in found if not row.passed]
    print(f'\n{len(failed)} gates failed' if failed else '\nall gates passed')
    return 1 if failed else 0


if __name__ == '__main__':
    sys.exit(main())
