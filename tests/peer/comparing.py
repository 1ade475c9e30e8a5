# SPDX-License-Identifier: Apache-2.0
"""What Nova's own tests say with the plugin that they do not say without it."""

from __future__ import annotations

import dataclasses
from typing import Iterable, Iterator, Optional

from tests.peer.explained import Explained
from tests.peer.running import Nova, Ran, Test, run
from tests.peer.suites import Suite


@dataclasses.dataclass
class Pair:
    """The same tests without the plugin and with it.

    :ivar again: the suspects, each run once more and alone, without the plugin and with it
    """

    nova: Nova
    suite: Suite
    stock: Ran
    plugin: Ran
    again: dict[str, tuple[Optional[Test], Optional[Test]]] = dataclasses.field(
        default_factory=dict)

    @property
    def suspects(self) -> list[str]:
        """The tests that seem to fail only with the plugin."""
        return [name for name, stock in self.stock.tests.items()
                if fails_only_with_it(stock, self.plugin.tests.get(name))]

    @property
    def flakes(self) -> list[str]:
        """The suspects that do not, once they run alone."""
        return [name for name, (stock, plugin) in self.again.items()
                if stock is not None and not fails_only_with_it(stock, plugin)]

    @property
    def findings(self) -> dict[str, str]:
        """What has to be explained, by the name of the test.

        It fails only with the plugin, or the plugin logs an error in it.
        """
        found = {name: '\n'.join(test.errors)
                 for name, test in self.plugin.tests.items() if test.errors}
        for name in self.suspects:
            if name not in self.flakes:
                test = self.again.get(name, (None, None))[1] or self.plugin.tests.get(name)
                found[name] = test.why.strip() if test is not None else 'it is not run'
        return found

    def repeat(self, entries: Iterable[Explained]) -> None:
        """Run alone the suspects that no entry explains."""
        known = list(entries)
        for name in self.suspects:
            if not any(entry.concerns(self.nova.release, name) for entry in known):
                alone = self.suite._replace(names=(name,), only='')
                self.again[name] = (run(self.nova, alone, False).tests.get(name),
                                    run(self.nova, alone, True).tests.get(name))


def fails_only_with_it(stock: Test, plugin: Optional[Test]) -> bool:
    """Tell whether a test comes to something worse with the plugin than without it."""
    if stock.bad:
        return False
    return plugin is None or plugin.bad or (stock.outcome, plugin.outcome) == ('passed', 'skipped')


def unexplained(pairs: Iterable[Pair],
                entries: Iterable[Explained]) -> Iterator[tuple[str, str, str]]:
    """Give the findings that no entry explains: release, test, and what it says."""
    known = list(entries)
    for pair in pairs:
        for name, why in pair.findings.items():
            if not any(entry.concerns(pair.nova.release, name) for entry in known):
                yield pair.nova.release, name, why


def no_longer_true(pairs: Iterable[Pair],
                   entries: Iterable[Explained]) -> Iterator[tuple[str, Explained]]:
    """Give the entries that explain what is not so, and the release.

    Those whose test was not run are left out.
    """
    for pair in pairs:
        release = pair.nova.release
        for entry in entries:
            concerned = [name for name in pair.plugin.tests if entry.concerns(release, name)]
            if concerned and not set(concerned) & pair.findings.keys():
                yield release, entry
