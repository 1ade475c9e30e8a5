# SPDX-License-Identifier: Apache-2.0
"""What Nova's own tests say with the plugin that they do not say without it."""

from __future__ import annotations

import collections
import dataclasses
from typing import Iterable, Iterator, Mapping, Optional

from tests.peer.explained import Explained
from tests.peer.running import Ran, Test

#: What is counted with the plugin: how often each part of it was at work, and what it logged as an error.
PARTS = ('hook started', 'as destination', 'as source', 'filter judged', 'events written', 'errors')


@dataclasses.dataclass
class Pair:
    """The same tests, without the plugin and with it."""

    release: str
    suite: str
    stock: Ran
    plugin: Ran
    #: Of those that fail only with the plugin, run once more and alone: the test without the plugin, and with it.
    again: dict[str, tuple[Optional[Test], Optional[Test]]] = dataclasses.field(default_factory=dict)

    @property
    def suspects(self) -> list[str]:
        """The tests that fail with the plugin and do not without it, or that are run only without it."""
        return [name for name, stock in self.stock.tests.items() if fails_only_with_it(stock, self.plugin.tests.get(name))]

    @property
    def flakes(self) -> list[str]:
        """The suspects that alone are the same with the plugin as without it."""
        return [name for name, (stock, plugin) in self.again.items() if stock is not None and not fails_only_with_it(stock, plugin)]

    @property
    def findings(self) -> dict[str, str]:
        """What has to be explained, by the test's name: it fails only with the plugin, or the plugin logs an error in it."""
        found = {name: '; '.join(test.errors) for name, test in self.plugin.tests.items() if test.errors}
        for name in self.suspects:
            if name not in self.flakes:
                test = (self.again.get(name, (None, None))[1] or self.plugin.tests.get(name))
                found[name] = test.why.strip() or test.outcome if test is not None else 'it is not run'
        return found


def fails_only_with_it(stock: Test, plugin: Optional[Test]) -> bool:
    """Whether it passes or is skipped without the plugin, and comes to something worse with it."""
    if stock.bad:
        return False
    return plugin is None or plugin.bad or (stock.outcome == 'passed' and plugin.outcome != 'passed')


def unexplained(pairs: Iterable[Pair], entries: Iterable[Explained]) -> Iterator[tuple[Pair, str, str]]:
    """The findings that no entry explains: where, the test's name, what it says."""
    known = list(entries)
    for pair in pairs:
        for name, why in pair.findings.items():
            if not any(entry.concerns(pair.release, name) for entry in known):
                yield pair, name, why


def no_longer_true(pairs: Iterable[Pair], entries: Iterable[Explained]) -> Iterator[tuple[str, Explained]]:
    """The entries that explain what is not so, though their tests were run: of which release."""
    of_release = collections.defaultdict(list)
    for pair in pairs:
        of_release[pair.release].append(pair)
    for entry in entries:
        for release, those in of_release.items():
            ran = [pair for pair in those if any(entry.concerns(release, name) for name in pair.plugin.tests)]
            if ran and not any(entry.concerns(release, name) for pair in ran for name in pair.findings):
                yield release, entry


def table(pairs: Iterable[Pair]) -> str:
    """For a person, and for doc/source/releases.rst: of each suite what passed, failed and was skipped, and the plugin's work."""
    rows = [('release', 'suite', 'without', 's', 'with', 's')]
    for pair in pairs:
        rows.append((pair.release, pair.suite, counts(pair.stock.tests), f'{pair.stock.seconds:.0f}',
                     counts(pair.plugin.tests), f'{pair.plugin.seconds:.0f}'))
    return _rst(rows)


def work(pairs: Iterable[Pair]) -> str:
    """How often each part of the plugin was at work."""
    rows: list[tuple[str, ...]] = [('release', 'suite', *PARTS)]
    for pair in pairs:
        total: collections.Counter[str] = collections.Counter()
        for test in pair.plugin.tests.values():
            total.update(test.work)
        rows.append((pair.release, pair.suite, *(str(total[part]) for part in PARTS)))
    return _rst(rows)


def counts(tests: Mapping[str, Test]) -> str:
    """Passed, failed (hung and died among them) and skipped."""
    outcomes = collections.Counter('failed' if test.bad else test.outcome for test in tests.values())
    return ' / '.join(str(outcomes[outcome]) for outcome in ('passed', 'failed', 'skipped'))


def _rst(rows: list[tuple[str, ...]]) -> str:
    widths = [max(map(len, column)) for column in zip(*rows)]
    line = ' '.join('=' * width for width in widths)
    head, *body = [' '.join(word.ljust(width) for word, width in zip(row, widths)).rstrip() for row in rows]
    return '\n'.join([line, head, line, *body, line])
