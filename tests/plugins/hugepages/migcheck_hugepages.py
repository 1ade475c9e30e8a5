# SPDX-License-Identifier: Apache-2.0
"""A check that is not nova-migcheck's own: are there huge pages for the guests that come?"""

from nova_migcheck.checks.base import Check

COUNT = '/proc/sys/vm/nr_hugepages'


class HugePagesCheck(Check):
    """Run on every compute host, in each round."""

    NAME = 'hugepages'
    WHEN = 'host'
    OPTIONS = {'DEFAULT': ('reserved_huge_pages',)}  # what it reads from nova.conf; it is told nothing else

    def run(self, settings):
        with open(COUNT) as pages:
            count = int(pages.read())
        if count:
            yield self.ok('huge pages', f'{count} are reserved', COUNT)
        else:
            yield self.failure('huge pages', 'none are reserved', COUNT, 'sysctl vm.nr_hugepages=1024')
