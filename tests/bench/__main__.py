# SPDX-License-Identifier: Apache-2.0
"""``python -m tests.bench [HOSTS...]``: what the package costs, as a table of ratios, and whether that is within the promised limits."""

import sys

from tests.bench.arguments import PARTS, parser
from tests.bench.measure import of_a_process, table


def main() -> int:
    told = parser().parse_args()
    parts = {
        'rounds': lambda: of_a_process('tests.bench.rounds'),
        'publishing': lambda: of_a_process('tests.bench.with_nova', 'publishing'),
        'hooks': lambda: of_a_process('tests.bench.hooks') + of_a_process('tests.bench.decision'),
        'path': lambda: of_a_process('tests.bench.path'),
        'requests': lambda: of_a_process('tests.bench.requests'),
        'page': lambda: of_a_process('tests.bench.with_nova', 'page'),
        'drain': lambda: of_a_process('tests.bench.with_nova', 'drain'),
        'filter': lambda: [row for count in told.hosts for row in of_a_process('tests.bench.with_nova', 'filtering', str(count))]}
    found = []
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
