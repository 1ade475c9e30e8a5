# SPDX-License-Identifier: Apache-2.0
"""What counts as failing only with the plugin, and when an explanation is no longer true."""

import pathlib

from tests.peer import comparing, table
from tests.peer.comparing import Pair
from tests.peer.explained import Explained
from tests.peer.running import Nova, Ran, Test
from tests.peer.suites import Suite

NOVA = Nova('2026.2', pathlib.Path('/nowhere'))
PASSED, SKIPPED, FAILED, HUNG = (Test(outcome) for outcome in (
    'passed', 'skipped', 'failed', 'hung'))
BUG = Test('passed', errors=('this is a bug',), work={'errors': 1, 'as source': 2})


def pair(again=None, **sides):
    """Each test is given as how it ended without the plugin and with it."""
    stock, plugin = ({f'nova.tests.{name}': ends[side] for name, ends in sides.items()
                      if ends[side] is not None} for side in (0, 1))
    return Pair(NOVA, Suite('unit', True, ()), Ran(stock, 1.0, 1.0), Ran(plugin, 2.0, 2.0),
                {f'nova.tests.{name}': ends for name, ends in (again or {}).items()})


def names(found):
    return {name for _release, name, _why in found}


def test_only_with_the_plugin():
    one = pair(same=(PASSED, PASSED), both=(FAILED, FAILED), better=(HUNG, PASSED),
               worse=(PASSED, FAILED), hangs=(PASSED, HUNG), skips=(PASSED, SKIPPED),
               gone=(PASSED, None), not_skipped=(SKIPPED, FAILED), still=(SKIPPED, PASSED))
    assert one.suspects == [f'nova.tests.{name}' for name in (
        'worse', 'hangs', 'skips', 'gone', 'not_skipped')]
    assert names(comparing.unexplained([one], [])) == set(one.suspects)


def test_what_alone_is_the_same_is_a_flake():
    one = pair({'once': (PASSED, PASSED), 'of_nova': (FAILED, FAILED), 'always': (PASSED, FAILED),
                'lost': (None, None)},
               **dict.fromkeys(('once', 'of_nova', 'always', 'lost'), (PASSED, FAILED)))
    assert one.flakes == ['nova.tests.once', 'nova.tests.of_nova']
    assert names(comparing.unexplained([one], [])) == {'nova.tests.always', 'nova.tests.lost'}


def test_an_error_of_ours_counts_though_the_test_passes():
    one = pair(bug=(PASSED, BUG))
    assert list(comparing.unexplained([one], [])) == [('2026.2', 'nova.tests.bug', 'this is a bug')]


def test_the_explained_do_not_count():
    one = pair(worse=(PASSED, FAILED), bug=(PASSED, BUG))
    entries = [Explained('worse', ''), Explained('bug', '', ('2026.2',))]
    assert not list(comparing.unexplained([one], entries))
    assert not list(comparing.no_longer_true([one], entries))


def test_explained_for_another_release():
    one = pair(worse=(PASSED, FAILED))
    assert names(comparing.unexplained([one], [Explained('worse', '', ('2024.1',))])) == {
        'nova.tests.worse'}


def test_no_longer_true():
    entries = [Explained('passes', ''), Explained('fails_on_both', ''), Explained('not_run', '')]
    one = pair(passes=(PASSED, PASSED), fails_on_both=(FAILED, FAILED))
    assert list(comparing.no_longer_true([one], entries)) == [
        ('2026.2', entries[0]), ('2026.2', entries[1])]


def test_the_tables():
    one = pair(worse=(PASSED, HUNG), skips=(SKIPPED, SKIPPED), bug=(PASSED, BUG))
    assert '2026.2  unit  2 / 0 / 1 1       1 / 1 / 1 2' in table.outcomes([one])
    row = table.work([one]).splitlines()[3]
    assert row.split() == ['2026.2', 'unit', '0', '0', '2', '0', '0', '1']
