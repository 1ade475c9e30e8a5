# SPDX-License-Identifier: Apache-2.0
"""A check that is not nova-migcheck's own: are there huge pages for the guests that come?"""

from nova_migcheck.checks.base import Check, Fact, Offer

COUNT = '/proc/sys/vm/nr_hugepages'


def between(source, target):
    """Warn where the source has huge pages and the target has none."""
    if source.get('reserved') and target.get('reserved') is False:
        yield HugePagesCheck().warning('huge pages', 'the source reserves some, the target none',
                                      code='hugepages-differ')


class HugePagesCheck(Check):
    """Run on every compute host, in each round."""

    NAME = 'hugepages'
    WHEN = 'host'
    OPTIONS = {'DEFAULT': ('reserved_huge_pages',)}  # all that it is given of nova.conf
    CODES = {'hugepages-differ': 'The source reserves huge pages, the target does not.',
             'hugepages-missing': 'The target has no huge pages for a guest that uses them.',
             'hugepages-none': 'This host reserves no huge pages.'}
    OFFERS = (Offer('hugepages', per_host=('count',), between=between),)

    def run(self, settings):
        """Look at this host, and publish what it offers."""
        with open(COUNT) as pages:
            count = int(pages.read())
        yield Fact('hugepages', {'reserved': count > 0, 'count': count})
        if count:
            yield self.ok('huge pages', f'{count} are reserved', COUNT)
        else:
            yield self.failure('huge pages', 'none are reserved', COUNT,
                               'sysctl vm.nr_hugepages=1024', code='hugepages-none')

    @staticmethod
    def needs(domain):
        """Return what a guest needs, read on its host when it has started."""
        return domain.find('memoryBacking/hugepages') is not None or None

    @staticmethod
    def compare(needs, target):
        """Compare what a guest needs with what a target offers."""
        if target.get('hugepages', {}).get('reserved') is False:
            yield HugePagesCheck().failure('huge pages', 'the guest has huge pages, the target none',
                                           COUNT, 'reserve some there: sysctl vm.nr_hugepages=1024',
                                           code='hugepages-missing')
