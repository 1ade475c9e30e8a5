# SPDX-License-Identifier: Apache-2.0
"""``python -m tests.covered``: lines and branches of the package that the suite has run, each by itself, and whether that is enough.

coverage's own ``--fail-under`` knows only the sum of both.
"""

import json
import os
import sys
import tempfile

import coverage

ENOUGH = 95.0  # per cent


def main() -> int:
    measured = coverage.Coverage()
    measured.load()
    with tempfile.TemporaryDirectory() as directory:
        path = os.path.join(directory, 'coverage.json')
        measured.json_report(outfile=path)
        with open(path) as file:
            totals = json.load(file)['totals']
    status = 0
    for what, covered, there in (('lines', 'covered_lines', 'num_statements'), ('branches', 'covered_branches', 'num_branches')):
        share = 100.0 * totals[covered] / totals[there]
        print(f'{what}: {totals[covered]} of {totals[there]}, {share:.2f} %' + ('' if share >= ENOUGH else f', not {ENOUGH:g}'))
        status |= share < ENOUGH
    return status


if __name__ == '__main__':
    sys.exit(main())
