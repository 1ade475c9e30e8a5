# SPDX-License-Identifier: Apache-2.0
"""What a terminal shows, its colours included: each stretch of text with its style."""

from __future__ import annotations

import io
import re
from typing import Any

import pytest
from rich import text

from nova_migcheck.cli import columns, terminal
from nova_migcheck.finding import Finding, Outcome
from nova_migcheck.judging.matrix import State

FULL = Finding(
    'endpoint',
    Outcome.FAILURE,
    'http://a',
    'connection refused',
    'keystone catalog',
    'start it',
    'volumes',
    code='endpoint-refused',
)


def stretches(shown: text.Text) -> list[tuple[str, str]]:
    """Return each styled stretch."""
    return [(shown.plain[span.start : span.end], str(span.style)) for span in shown.spans]


def test_the_style_of_each_word() -> None:
    assert terminal.STYLES == {
        'failure': 'bold red',
        'rejected': 'bold red',
        'unknown': 'magenta',
        'warning': 'yellow',
        'warned': 'yellow',
        'ok': 'green',
        'accepted': 'green',
        'down': 'red',
        'stale': 'magenta',
        'missing': 'magenta',
        'unreadable': 'magenta',
        'disabled': 'yellow',
        'source': 'dim',
        'same': 'dim',
    }
    assert {outcome.value for outcome in Outcome} <= set(terminal.STYLES)
    for word in (*terminal.STYLES, '[red]odd'):
        assert terminal.styled(word) == text.Text(word, terminal.STYLES.get(word, ''))


def test_the_parts_of_a_finding() -> None:
    shown = terminal.paragraphs(FULL)
    assert shown.plain == (
        'http://a: connection refused (matters to servers with volumes)\n'
        'from keystone catalog\n→ start it (runbooks/endpoint-refused)'
    )
    assert stretches(shown) == [
        ('http://a', 'bold'),
        ('\nfrom keystone catalog', 'dim'),
        ('\n→ start it (runbooks/endpoint-refused)', 'cyan'),
    ]
    theirs = terminal.paragraphs(Finding('a', Outcome.FAILURE, 'x', remedy='do it', code='hugepages-none'))
    assert theirs.plain == 'x [hugepages-none]\n→ do it'
    within = terminal.paragraphs(Finding('a', Outcome.WARNING, 'mig0', 'over mig0, which is down'))
    assert within.plain == 'over mig0, which is down' and stretches(within) == [('mig0', 'bold')]
    for outcome in Outcome:
        shown = terminal.paragraphs(Finding('a', outcome, 'x', remedy='do it'))
        assert ('do it' in shown.plain) is (outcome is not Outcome.OK)


@pytest.mark.parametrize(
    'outcome, sign, style',
    [
        (Outcome.OK, '✓', 'green'),
        (Outcome.WARNING, '!', 'yellow'),
        (Outcome.FAILURE, '✗', 'bold red'),
        (Outcome.UNKNOWN, '?', 'magenta'),
    ],
)
def test_marks(outcome: Outcome, sign: str, style: str) -> None:
    assert terminal.mark(outcome) == text.Text(sign, style)


@pytest.mark.parametrize(
    'state, style',
    [
        (State.ACCEPTED, 'green'),
        (State.WARNED, 'yellow'),
        (State.REJECTED, 'bold red'),
        (State.SAME, 'dim'),
        (State.APART, ''),
    ],
)
def test_signs(state: State, style: str) -> None:
    assert terminal.sign(state) == text.Text(state.sign, style)


def test_reasons() -> None:
    shown = terminal.reason(Finding('cpu', Outcome.FAILURE, '', 'lacks avx'))
    assert shown.plain == 'cpu: lacks avx' and stretches(shown) == [('cpu: ', 'bold red')]


def test_totals() -> None:
    rows = [
        Finding('a', outcome)
        for outcome in (Outcome.OK, Outcome.WARNING, Outcome.OK, Outcome.FAILURE)
    ]
    shown = terminal.total(rows)
    assert shown.plain == '1 failure, 1 warning, 2 ok'
    assert [one for one in stretches(shown) if one[1]] == [
        ('1 failure', 'bold red'),
        ('1 warning', 'yellow'),
        ('2 ok', 'green'),
    ]
    assert terminal.total([]).plain == ''


@pytest.mark.parametrize(
    'folded, width, lines',
    [
        ('', 5, ['']),
        ('abc', 2, ['abc']),
        ('a,b,c', 5, ['a,b,c']),
        ('a,b,c', 4, ['a,b,', 'c']),
        ('ab cd', 5, ['ab cd']),
        ('ab cd', 4, ['ab', 'cd']),
        ('aa,bb', 3, ['aa,', 'bb']),
        ('aa, bb', 6, ['aa, bb']),
        ('aa, bb', 5, ['aa,', 'bb']),
        (', a', 9, [', a']),
        ('a  b', 2, ['a', 'b']),
    ],
)
def test_lines_are_broken_after_commas(folded: str, width: int, lines: list) -> None:
    assert terminal.wrapped(folded, width).split('\n') == lines


def test_names() -> None:
    hosts = [f'a{n}' for n in (1, 2, 3, 5, 7, 9)]
    assert terminal.names(hosts, 80) == 'a[1-3,5,7,9]'
    assert terminal.names(hosts, 8) == 'a[1-3,5,\n7,9]'
    assert '…' in terminal.names(hosts, 80, 2) and 'hosts' not in terminal.names(hosts, 80, 2)
    assert '\x1b' not in terminal.names(['a\x1b[31m'], 80)


def printed(
    monkeypatch: pytest.MonkeyPatch,
    columns_: Any,
    rows: Any,
    width: int = 60,
    colours: bool = False,
) -> str:
    monkeypatch.setenv('COLUMNS', str(width))
    monkeypatch.setenv('TERM', 'xterm')
    monkeypatch.delenv('NO_COLOR', raising=False)
    if colours:
        monkeypatch.setenv('FORCE_COLOR', '1')
    else:
        monkeypatch.delenv('FORCE_COLOR', raising=False)
    out = io.StringIO()
    terminal.Table().emit_list(columns_, rows, out, None)
    return out.getvalue()


def test_empty_columns_are_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    shown = printed(monkeypatch, ('host', 'state', 'note'), [('a', '', None), ('b', '', 'x')])
    assert shown.split()[:2] == ['host', 'note'] and 'None' not in shown
    assert printed(monkeypatch, ('host', 'state'), []).split()[:2] == ['host', 'state']


@pytest.mark.parametrize('length, kept', [(30, 30), (31, 30)])
def test_the_first_column_is_not_broken_up_to_thirty_characters(
    monkeypatch: pytest.MonkeyPatch, length: int, kept: int
) -> None:
    shown = printed(monkeypatch, ('host', 'reason'), [('h' * length, 'word ' * 60)], 40)
    assert max(len(part) for part in re.findall('h+', shown.split('reason')[1])) == kept


def test_words_and_findings_in_a_cell(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [
        ('a', 'failure', columns.Findings([FULL, Finding('clock', Outcome.WARNING, '', '+3 s')])),
        ('[red]b', 'plain', 7),
    ]
    shown = printed(monkeypatch, ('host', 'state', 'why'), rows, 90, colours=True)
    plain = re.sub('\x1b\\[[0-9;]*m', '', shown)
    for look in (
        '\x1b[1mhost',
        '\x1b[1;31mfailure',
        '\x1b[1;31mendpoint: ',
        '\x1b[1mhttp://a',
        '\x1b[33mclock: ',
    ):
        assert look in shown, look
    assert (
        '[red]b' in plain
        and 'endpoint: http://a: connection refused' in plain
        and 'clock: +3 s' in plain
    )
    assert plain.index('start it') < plain.index('clock: ')


def test_a_table_of_findings(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv('COLUMNS', '100')
    out = io.StringIO()
    terminal.console_for(out).print(terminal.findings([FULL, Finding('clock', Outcome.OK, 'all')]))
    lines = [line.rstrip() for line in out.getvalue().splitlines() if line.strip()]
    assert re.split('  +', lines[0].strip()) == [
        'outcome',
        'check',
        'what was found, where it comes from, what to do',
    ]
    assert re.split('  +', lines[2].strip())[:3] == [
        '✗ failure',
        'endpoint',
        'http://a: connection refused (matters to servers with volumes)',
    ]
    assert re.split('  +', lines[-1].strip()) == ['✓ ok', 'clock', 'all']
    assert [str(column.no_wrap) for column in terminal.findings([]).columns] == [
        'True',
        'True',
        'False',
    ]
