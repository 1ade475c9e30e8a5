# SPDX-License-Identifier: Apache-2.0
"""What Nova's own tests say with the plugin that they do not say without it."""

from __future__ import annotations

import dataclasses
import re
from typing import Iterable, Iterator, NamedTuple, Optional

from tests.peer.explained import Explained
from tests.peer.running import Nova, Ran, Test, run
from tests.peer.suites import Suite


class Finding(NamedTuple):
    """What a test says with the plugin only.

    :ivar fails: whether it fails; if not, it passes, and the plugin logs an error
    :ivar why: the traceback, or what is logged
    """

    fails: bool
    why: str


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
    def findings(self) -> dict[str, Finding]:
        """What has to be explained, by the name of the test."""
        found = {name: Finding(False, '\n'.join(test.errors))
                 for name, test in self.plugin.tests.items() if test.errors}
        for name in self.suspects:
            if name not in self.flakes:
                test = self.again.get(name, (None, None))[1] or self.plugin.tests.get(name)
                found[name] = Finding(True, test.why.strip() if test else 'it is not run')
        return found

    def repeat(self, entries: Iterable[Explained]) -> None:
        """Run alone the suspects that no entry explains."""
        known = list(entries)
        for name in self.suspects:
            if not any(entry.explains(self.nova.release, name, True) for entry in known):
                # By its class: unittest cannot load every decorated test by its own name.
                alone = self.suite._replace(names=(name.rpartition('.')[0],),
                                            only=f'^{re.escape(name)}$')
                self.again[name] = (run(self.nova, alone, False).tests.get(name),
                                    run(self.nova, alone, True).tests.get(name))


def fails_only_with_it(stock: Test, plugin: Optional[Test]) -> bool:
    """Tell whether a test comes to something worse with the plugin than without it."""
    if stock.bad:
        return False
    return plugin is None or plugin.bad or (stock.outcome, plugin.outcome) == ('passed', 'skipped')


def unexplained(pairs: Iterable[Pair],
                entries: Iterable[Explained]) -> Iterator[tuple[str, str, Finding]]:
    """Give the findings that no entry explains: release, test, and finding."""
    known = list(entries)
    for pair in pairs:
        for name, found in pair.findings.items():
            release = pair.nova.release
            if not any(entry.explains(release, name, found.fails) for entry in known):
                yield release, name, found


def no_longer_true(pairs: Iterable[Pair],
                   entries: Iterable[Explained]) -> Iterator[tuple[str, Explained]]:
    """Give the entries that explain what is not so, and the release.

    Those whose test was not run are left out.
    """
    for pair in pairs:
        release, findings = pair.nova.release, pair.findings
        for entry in entries:
            found = findings.get(entry.name)
            if entry.name in pair.plugin.tests and entry.is_for(release) and not (
                    found is not None and found.fails is entry.fails):
                yield release, entry
