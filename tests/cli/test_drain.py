# SPDX-License-Identifier: Apache-2.0
"""``drain`` as a process, where placement cannot be asked. What it decides where it can:
tests/functional/test_scheduling.py.
"""

import csv
import io

import pytest
import yaml

from tests.cli import fleet_files
from tests.cli.commands import on_terminal, piped
from tests.cli.databases import away, conf
from tests.cli.schemas import valid

pytestmark = pytest.mark.nova


def test_without_credentials_all_is_unknown(three, tmp_path):
    ran = piped(tmp_path, 'drain', 'compute1', conf(three), '-f', 'json')
    plan = valid('drain', ran.json)
    assert ran.code == 2 and (plan['can'], plan['cannot'], plan['unknown']) == (0, 0, 2)
    assert {move['server'] for move in plan['moves']} == {
        fleet_files.UUIDS['web1'],
        fleet_files.UUIDS['old1'],
    }
    reason = plan['moves'][0]['reasons'][0]
    assert reason['by'] == 'nova' and '[placement] auth_type is not set' in reason['text']
    assert 'Traceback' not in ran.err and plan == yaml.safe_load(
        piped(tmp_path, 'drain', 'compute1', conf(three), '-f', 'yaml').out
    )


def test_as_a_list(three, tmp_path):
    ran = piped(tmp_path, 'drain', 'compute1', conf(three), '-f', 'csv')
    rows = list(csv.DictReader(io.StringIO(ran.out)))
    assert (
        ran.code == 2
        and [row['to'] for row in rows] == ['(unknown)'] * 2
        and 'auth_type' in rows[0]['reasons']
    )
    assert '0 of 2 servers can go' in ran.err
    shown = on_terminal('drain', 'compute1', conf(three), columns=160)
    assert shown.code == 2 and '0 of 2 servers can go; 2 unknown: old1, web1.' in shown.text


def test_a_page(three, tmp_path):
    ran = piped(
        tmp_path,
        'drain',
        'compute1',
        conf(three),
        '--html',
        str(tmp_path / 'plan.html'),
        '--report-only',
    )
    assert ran.code == 2 and ran.out == '' and 'plan.html: 2 servers.' in ran.err
    page = (tmp_path / 'plan.html').read_text()
    assert (
        '0 of 2 servers can go' in page
        and 'Assumed: no finding rejects a host.' in page
        and '[placement] auth_type' in page
    )


def test_a_host_with_no_server(three, tmp_path):
    ran = piped(tmp_path, 'drain', 'compute2', conf(three))
    assert ran.code == 0 and 'No server is left: the host is empty.' in ran.err
    assert (
        valid('drain', piped(tmp_path, 'drain', 'compute2', conf(three), '-f', 'json').json)[
            'moves'
        ]
        == []
    )
    assert piped(tmp_path, 'drain', 'compute2', conf(three), '--commands').out == ''


@pytest.mark.parametrize(
    ('words', 'says'),
    [
        (['compute77'], "there is no compute host 'compute77'"),
        (['compute1', '--without', 'compute77'], "there is no compute host 'compute77'"),
        (
            ['compute1', '--to', 'compute1', 'compute2'],
            'compute1 cannot be emptied and be a target',
        ),
        (
            ['compute1', '--exclude-check', 'endpoints'],
            'endpoints is no installed check; these are: address, ',
        ),
        (['compute1', '--at-once', '0'], "invalid count value: '0'"),
    ],
)
def test_what_cannot_be_planned_is_one_sentence(three, tmp_path, words, says):
    ran = piped(tmp_path, 'drain', *words, conf(three))
    assert ran.code == 255 and says in ran.err and 'Traceback' not in ran.err


def test_without_access_to_the_databases(tmp_path):
    (tmp_path / 'nova.conf').write_text('[DEFAULT]\n')
    ran = piped(tmp_path, 'drain', 'compute1', f'--config-file={tmp_path / "nova.conf"}')
    assert (
        ran.code == 255
        and '[api_database] connection is not set' in ran.err
        and len(ran.err.splitlines()) == 1
    )


def test_a_cell_that_is_down(three, tmp_path):
    """It may be where an unknown host is, and does not matter to a host of another cell."""
    config = away(three, tmp_path, 'cell2', f'sqlite:///{tmp_path}/no/such.sqlite')
    ran = piped(tmp_path, 'drain', 'compute101', config)
    assert (
        ran.code == 255
        and "there is no compute host 'compute101' (but cell cell2 cannot be read" in ran.err
    )
    ran = piped(tmp_path, 'drain', 'compute2', config, '-f', 'json')
    assert ran.code == 0 and ran.json['notes'][0].startswith('cell cell2 cannot be read')
