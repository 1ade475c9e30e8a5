# SPDX-License-Identifier: Apache-2.0
"""``nova-migcheck ledger`` as a process."""

import json

import pytest

from tests.cli.commands import piped
from tests.cli.databases import conf
from tests.cli.schemas import valid

pytestmark = pytest.mark.nova

UUID = '2f0f1c4e-8a4b-4d0e-9b5e-0c6f5d3d2a11'


def line(kind, host, **values):
    return (
        json.dumps(
            {
                'v': 1,
                'kind': kind,
                'time': 1764000000,
                'host': host,
                'instance': UUID,
                'source': 'compute1',
                'target': 'compute2',
                **values,
            }
        )
        + '\n'
    )


@pytest.fixture
def ledgers(tmp_path):
    """Of both hosts of a migration that the target would have rejected, and that failed; with
    garbage.
    """
    target, source = tmp_path / 'compute2.jsonl', tmp_path / 'compute1.jsonl'
    target.write_text(
        line(
            'decision',
            'compute2',
            verdict='rejected',
            mode='report',
            rejections=['address address-link-down'],
        )
        + '{"kind":'
        + '\n\0garbage\n'
        + line('outcome', 'compute2', ended='failed', error='rolled back')
    )
    source.write_text(
        line('decision', 'compute1', verdict='accepted', mode='report', rejections=[])
        + line('outcome', 'compute1', ended='failed', error='No route to host')
    )
    return [str(target), str(source)]


def test_how_often_each_check_was_right(tmp_path, ledgers):
    found = valid('ledger', piped(tmp_path, 'ledger', *ledgers, '-f', 'json').json)
    assert found == [
        {
            'check': 'address',
            'decided': 1,
            'not tried': 0,
            'worked': 0,
            'failed': 1,
            'words': {'No route to host': 1},
        }
    ]
    ran = piped(tmp_path, 'ledger', ledgers[1])
    assert ran.code == 0 and '(accepted)' in ran.out and '1 x No route to host' in ran.out


def test_each_migration(tmp_path, ledgers):
    ran = piped(tmp_path, 'ledger', *ledgers, '--migrations', '-f', 'json')
    assert ran.json == [
        {
            'time': 1764000000.0,
            'source': 'compute1',
            'target': 'compute2',
            'instance': UUID,
            'verdict': 'rejected',
            'rejections': ['address address-link-down'],
            'ended': 'failed',
            'error': 'No route to host',
        }
    ]
    for form in ('csv', 'value'):
        ran = piped(tmp_path, 'ledger', *ledgers, '--migrations', '-f', form)
        assert (
            ran.code == 0 and '2025-11-24 16:00:00Z' in ran.out and not set('[]{}') & set(ran.out)
        )


def test_this_host(tmp_path, nova_conf):
    ran = piped(tmp_path, 'ledger', nova_conf, '-f', 'json')
    assert ran.code == 0 and ran.json == [] and 'nova-migcheck-ledger.jsonl' in ran.err


def test_what_all_hosts_have_published(three, tmp_path):
    ran = piped(tmp_path, 'ledger', '--published', conf(three), '-f', 'json')
    assert ran.code == 0 and all(
        one['check'] == '(no decision)' for one in valid('ledger', ran.json)
    )


def test_a_file_that_is_not_there(tmp_path):
    ran = piped(tmp_path, 'ledger', str(tmp_path / 'nowhere'))
    assert ran.code == 255 and 'nowhere cannot be read: No such file or directory' in ran.err


@pytest.fixture
def rehearsed(tmp_path):
    """One that the checks had foreseen to fail, one that measured a rate; beside migrations."""
    path = tmp_path / 'compute1.jsonl'
    path.write_text(
        line('decision', 'compute1', verdict='accepted', mode='enforce', rejections=[])
        + line('rehearsal', 'compute1', verdict='rejected', ended='failed',
               rejections=['transport transport-login'], error='authentication failed')
        + line('rehearsal', 'compute1', verdict='accepted', ended='completed', rate=118 << 20,
               target='compute3')
    )
    return str(path)


def test_how_often_rehearsals_came_out_as_foreseen(tmp_path, rehearsed):
    found = valid('ledger', piped(tmp_path, 'ledger', '--rehearsals', rehearsed, '-f', 'json').json)
    assert [(one['check'], one['decided'], one['worked'], one['failed']) for one in found] == [
        ('(accepted)', 1, 1, 0),
        ('transport', 1, 0, 1),
    ]
    one = piped(tmp_path, 'ledger', rehearsed, '-f', 'json').json
    assert [(each['check'], each['decided']) for each in one] == [('(accepted)', 1)]
    listed = piped(tmp_path, 'ledger', '--rehearsals', '--migrations', rehearsed, '-f', 'json').json
    assert [(each['target'], each['ended'], each['mib_per_second']) for each in listed] == [
        ('compute2', 'failed', None),
        ('compute3', 'completed', 118.0),
    ]


def test_the_rates(tmp_path, rehearsed, three):
    ran = piped(tmp_path, 'ledger', '--rates', rehearsed, '-f', 'json')
    assert ran.json == [
        {'source': 'compute1', 'target': 'compute3', 'time': 1764000000.0, 'mib_per_second': 118.0}
    ]
    table = piped(tmp_path, 'ledger', '--rates', rehearsed).out
    assert 'compute3' in table and '118.0' in table
    [published] = piped(
        tmp_path, 'ledger', '--rates', '--published', conf(three), '-f', 'json'
    ).json
    assert (published['source'], published['target'], published['mib_per_second']) == (
        'compute1',
        'compute2',
        117.0,
    )
