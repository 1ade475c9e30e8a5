# SPDX-License-Identifier: Apache-2.0
"""The commands about all hosts as processes, on a terminal and in a pipe.

Nova's own code wrote the databases.
"""

import os
import re
import subprocess
import sys

import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.cli import fleet_files
from tests.cli.commands import ESCAPE, Terminal, on_terminal, piped
from tests.cli.databases import ROOT, away, conf
from tests.cli.schemas import valid

pytestmark = pytest.mark.nova


def _lines(*argv, columns=100):
    terminal = Terminal(*argv, columns=columns)
    terminal.end()
    return [line for line in terminal.lines if line]


# hosts

def test_hosts_in_a_pipe(three, tmp_path):
    ran = piped(tmp_path, 'hosts', conf(three))
    assert ran.code == 1  # compute3 has a failure
    assert not ESCAPE.search(ran.out) and ran.err == ''
    line = next(line for line in ran.out.splitlines() if 'compute3' in line)
    assert 'cell1' in line and 'up' in line and 'fresh' in line and 'failure' in line
    assert '1 completed, 1 failed' in line


def test_hosts_on_a_terminal(three):
    ran = on_terminal('hosts', conf(three))
    assert ran.code == 1 and ESCAPE.search(ran.out)
    assert 'compute101' in ran.text and max(map(len, ran.text.splitlines())) <= 100
    assert not ESCAPE.search(on_terminal('hosts', conf(three), '-f', 'json').out)


def test_columns_that_are_asked_for_are_a_table_on_a_terminal(three):
    """Each finding is a paragraph, and what a line is about is not broken."""
    argv = 'explain', 'web1', conf(three), '-c', 'host', '-c', 'verdict', '-c', 'reasons'
    lines = [line.strip() for line in _lines(*argv, columns=58)]
    assert ['host', 'verdict', 'reasons'] in [line.split() for line in lines]
    refused = next(number for number, line in enumerate(lines) if line.startswith('compute3'))
    assert lines[refused].split()[:3] == ['compute3', 'rejected', 'endpoint:']
    assert any('→ start placement' in line for line in lines[refused:])
    assert max(map(len, lines)) <= 58
    one_column = [line.strip() for line in _lines('hosts', 'compute1', conf(three), '-c', 'host')]
    assert one_column[::2] == ['host', 'compute1']
    # What cliff itself offers holds as well.
    lines = _lines('hosts', conf(three), '-c', 'host', '--fit-width')
    assert any(line.startswith('| compute1') for line in lines)


@pytest.mark.parametrize('columns', [60, 200])
def test_hosts_fit_the_terminal_and_end_with_their_sum(thousand, columns):
    """Names are not broken. If the columns of the checks do not fit, there is one column."""
    ran = on_terminal('hosts', conf(thousand), columns=columns)
    assert ran.code == 1
    lines = [line.rstrip() for line in ran.text.splitlines() if line.strip()]
    assert max(map(len, lines)) <= columns
    names = [line.split()[0] for line in lines if re.match(r' compute\d+ ', line)]
    assert names == [f'compute{n}' for n in range(1, 1001)]
    third = next(line for line in lines if line.startswith(' compute3 '))
    assert third.split()[:4] == ['compute3', 'cell1', 'up', 'fresh']
    assert ('endpoint' in lines[0]) is (columns == 200)
    assert third.split().count('ok') == (9 if columns == 200 else 0)
    assert lines[-1] == '1000 hosts: 500 well'
    words = [line for line in lines if re.match('[a-z]+ [a-z]+ +100 ', line.replace('-', ''))]
    assert [line.split(' 100 ')[0].strip() for line in words] == [
        'endpoint failure', 'report missing', 'report stale', 'address warning',
        'nova-compute disabled', 'nova-compute down']
    assert 'compute[3,13,23,' in words[0]


def test_hosts_by_name_show_what_exactly_was_found(three):
    seen = '\n'.join(_lines('hosts', 'compute3', conf(three)))
    assert 'http://10.0.0.5:8780: connection refused' in seen and '→ start placement' in seen
    assert '1 host: 0 well' in seen
    assert 'connection refused' not in '\n'.join(_lines('hosts', conf(three)))


def test_hosts_of_which_all_are_well_end_with_that(three):
    assert _lines('hosts', '--only-bad', 'compute1', 'compute2', conf(three)) == ['2 hosts: 2 well']


def test_hosts_that_are_well_exit_with_0(three, tmp_path):
    assert piped(tmp_path, 'hosts', conf(three), 'compute1', 'compute2').code == 0


def test_a_thousand_hosts(thousand, tmp_path):
    hosts = valid('hosts', piped(tmp_path, 'hosts', conf(thousand), '-f', 'json').json)
    assert len(hosts) == 1000
    assert [h['host'] for h in hosts[:3]] == ['compute1', 'compute2', 'compute3']
    assert {h['cell'] for h in hosts} == {'cell1', 'cell2'}
    by_number = {int(h['host'][7:]): h for h in hosts}
    assert by_number[8]['report'] == 'missing' and by_number[8]['checks'] == {}
    assert by_number[8]['age'] is None
    assert by_number[9]['report'] == 'stale' and by_number[9]['service'] == 'down'
    assert by_number[7]['service'] == 'disabled'
    assert by_number[3]['checks']['endpoint'] == 'failure'
    assert by_number[3]['findings'][0]['subject'] == 'http://10.0.0.5:8780'
    assert [(m['ended'], m['downtime'], m['text']) for m in by_number[3]['migrations']] == [
        ('completed', 63, ''), ('failed', None, ' [31mNo route to host')]


def test_a_cell_that_is_away_is_said_and_the_rest_shown(thousand, tmp_path):
    config = away(thousand, tmp_path, 'cell2', f'sqlite:///{tmp_path}/no/such.sqlite')
    ran = piped(tmp_path, 'hosts', config, '-f', 'json')
    assert len(ran.json) == 500 and ran.code == 1
    assert ('cell cell2 cannot be read: unable to open database file; its hosts are not shown.'
            in ran.err)
    assert 'Traceback' not in ran.err and len(ran.err.splitlines()) == 1


def test_a_cell_that_is_away_is_a_warning_when_all_others_are_well(three, tmp_path):
    config = away(three, tmp_path, 'cell2', f'sqlite:///{tmp_path}/no/such.sqlite')
    ran = piped(tmp_path, 'explain', 'old1', '--host', 'compute2', config)
    assert ran.code == 2 and 'cell cell2' in ran.err


# explain

def test_explain(three, tmp_path):
    rows = valid('explain', piped(tmp_path, 'explain', 'web1', conf(three), '-f', 'json').json)
    assert [(row['host'], row['verdict']) for row in rows] == [
        ('compute1', 'source'), ('compute2', 'rejected'), ('compute3', 'rejected')]
    assert rows[1]['rejections'][0]['check'] == 'cpu'
    assert 'avx512f' in rows[1]['rejections'][0]['detail']
    assert rows[2]['rejections'][0]['check'] == 'endpoint'


def test_explain_looks_at_the_servers_own_cpu(three, tmp_path):
    """old1 was started on a Haswell: its way back is open, where that of web1 is not."""
    ran = piped(tmp_path, 'explain', fleet_files.UUIDS['old1'], '--host', 'compute2', conf(three),
                '-f', 'json')
    assert ran.code == 0 and ran.json[0]['verdict'] == 'accepted'
    assert piped(tmp_path, 'explain', 'web1', '--host', 'compute2', conf(three)).code == 1


def test_explain_on_a_terminal(three):
    ran = on_terminal('explain', 'web1', conf(three))
    assert ran.code == 1 and 'Not considered' in ran.text and 'connection refused' in ran.text
    last = _lines('explain', 'web1', '--host', 'compute1', conf(three))[-1]
    assert last == 'The server is already on that host.'
    shown = _lines('explain', 'old1', conf(three))
    assert shown.index('✓ accepted') + 1 == shown.index('  compute2')
    assert shown[-1] == '1 accepted, 1 rejected'


def test_explain_of_a_thousand_says_once_what_is_alike(thousand):
    """Where it can go is named wholly, the rest in short."""
    ran = on_terminal('explain', 'web1', conf(thousand), columns=80)
    assert ran.code == 1
    lines = [line.rstrip() for line in ran.text.splitlines()]
    assert len([line for line in lines if line]) < 90 and max(map(len, lines)) <= 80
    seen = ' '.join(line.strip() for line in lines)
    begin = seen.index('✓ accepted: 149 hosts')
    end = seen.index('✓ accepted: 50 hosts, nova-compute disabled')
    accepted = seen[begin:end].replace(', ', ',')
    assert accepted.count(',') == 99 and accepted.rstrip().endswith('494,500]')
    assert '…' not in accepted
    for words in ('connection refused', 'vendor AMD', 'older than 3600 s'):
        assert seen.count(words) == 1
    assert '199 accepted, 150 accepted with a warning, 150 rejected' in seen
    assert '100 of the accepted hosts' in seen


# matrix

def test_matrix_of_three(three, tmp_path):
    rows = valid('matrix', piped(tmp_path, 'matrix', conf(three), '-f', 'json').json)
    found = {(source, target): row['verdict'] for row in rows for source in row['sources']
             for target in row['targets'] if source != target}
    assert found == {
        ('compute1', 'compute2'): 'rejected', ('compute1', 'compute3'): 'rejected',
        ('compute2', 'compute1'): 'accepted', ('compute2', 'compute3'): 'rejected',
        ('compute3', 'compute1'): 'accepted', ('compute3', 'compute2'): 'rejected'}


def test_matrix_with_the_cpus_of_servers(three, tmp_path):
    ran = piped(tmp_path, 'matrix', '--server-cpu', conf(three), '-f', 'json')
    rows = valid('matrix', ran.json)
    own = [row for row in rows if row['servers']]
    assert {(tuple(row['targets']), row['verdict']) for row in own} >= {(('compute2',), 'accepted')}


def test_matrix_folds_a_thousand(thousand, tmp_path):
    ran = piped(tmp_path, 'matrix', conf(thousand), '-f', 'json')
    rows = valid('matrix', ran.json)
    assert ran.code == 1 and len(rows) < 100
    assert sum(len(row['sources']) * len(row['targets']) for row in rows) == 2 * 500 ** 2


def test_matrix_on_a_terminal(three, thousand):
    small = on_terminal('matrix', conf(three))
    assert small.code == 1 and '✗' in small.text and 'compute101' in small.text
    assert 'connection refused' in small.text
    assert 'Of 6 pairs of hosts: 2 accepted, 4 rejected.' in small.text
    assert 'blank another cell' in small.text
    large = on_terminal('matrix', conf(thousand), columns=80)
    assert 'hosts' in large.text and len(large.text.splitlines()) < 120
    assert max(map(len, large.text.splitlines())) <= 80
    # How many they are is told also where their names do not fit.
    assert re.search(r'^compute\[1,.*…\] \(300 hosts\) +✓ +✗ ', large.text, re.MULTILINE)
    assert '\x1b[31mtries' not in large.out  # what a host says does not command the terminal


# baseline

def test_baseline_of_what_is_published(three, tmp_path, cpu_map):
    ran = piped(tmp_path, 'baseline', 'compute1', 'compute2', conf(three), cpu_map)
    assert ran.code == 0, ran
    lines = ran.out.splitlines()
    assert lines[:3] == ['[libvirt]', 'cpu_mode = custom', 'cpu_models = Large']
    assert 'fma' in lines[3]
    assert '# compute1 loses avx512bw, avx512cd, avx512dq, avx512f, avx512vl' in lines
    assert '# compute2 loses nothing' in lines
    ran = piped(tmp_path, 'baseline', '--model-only', 'compute1', conf(three), cpu_map)
    assert 'extra_flags' not in ran.out


def test_baseline_of_hosts_that_have_none_in_common(thousand, tmp_path, cpu_map):
    ran = piped(tmp_path, 'baseline', conf(thousand), cpu_map)
    assert ran.code == 1 and 'vendor' in ran.out and 'AMD' in ran.out
    assert 'there is no published CPU of compute[8,18' in ran.err
    in_json = piped(tmp_path, 'baseline', conf(thousand), cpu_map, '-f', 'json').json
    assert valid('baseline', in_json)['reason'] in ran.out
    shown = _lines('baseline', conf(thousand), cpu_map, columns=80)
    assert 'There is no common CPU: guests cannot move between all of them' in shown[-4]
    assert 'AMD: ' in ' '.join(shown)
    # No name is broken.
    assert all(line.endswith((',', '…]')) or ' ' in line for line in shown)


def test_nothing_is_written(three, tmp_path):
    before = {path.name: path.read_bytes() for path in three.glob('*.sqlite')}
    for argv in (['hosts'], ['explain', 'web1'], ['matrix'], ['drain', 'compute1']):
        piped(tmp_path, *argv, conf(three))
    assert {path.name: path.read_bytes() for path in three.glob('*.sqlite')} == before


@pytest.mark.parametrize('command', ['check', 'hosts', 'explain', 'matrix', 'baseline', 'compare', 'drain'])
def test_help_has_an_example(tmp_path, command):
    ran = piped(tmp_path, command, '--help')
    assert ran.code == 0 and f'\n    nova-migcheck {command}' in ran.out and 'Exit code' in ran.out


def test_the_console_script_itself(three):
    ran = subprocess.run([sys.executable, '-m', 'nova_migcheck.cli.main', 'hosts', conf(three)],
                         capture_output=True, text=True, timeout=120,
                         env={**os.environ, 'PYTHONPATH': str(ROOT)})
    assert ran.returncode == 1 and 'compute3' in ran.stdout and ran.stderr == ''


@pytest.mark.parametrize('argv', [['hosts'], ['explain', 'web1'], ['matrix']])
@pytest.mark.parametrize('form', ['csv', 'value'])
def test_flat_formats_hold_no_python(three, tmp_path, argv, form):
    ran = piped(tmp_path, *argv, conf(three), '-f', form)
    assert ran.code == 1 and 'compute3' in ran.out and not set('{}') & set(ran.out)


def test_codes(tmp_path):
    found = valid('codes', piped(tmp_path, 'codes', '-f', 'json').json)
    by_code = {one['code']: one for one in found}
    assert by_code['address-wrong-interface']['check'] == 'address'
    assert by_code['report-missing']['check'] == ''
    assert by_code['hugepages-none']['meaning'] == 'This host reserves no huge pages.'
    assert (by_code['address-wrong-interface']['page'], by_code['hugepages-none']['page']) == ('runbooks/address-wrong-interface', '')
    one = piped(tmp_path, 'codes', 'address-mtu', '-f', 'value')
    assert one.code == 0 and one.out.startswith('address-mtu address The source')


def test_a_code_that_is_none(tmp_path):
    ran = piped(tmp_path, 'codes', 'address-nonsense')
    assert ran.code == 255 and 'address-nonsense: no installed check has such a code' in ran.err


def test_completion_in_a_real_bash(tmp_path):
    """What "complete" prints, sourced by bash; asked as bash asks when one presses the tab key."""
    script = tmp_path / 'completion'
    script.write_text(piped(tmp_path, 'complete', '--name', 'nova-migcheck').out)
    # The package bash-completion may be missing. This does the same, except for colons.
    words = ('_get_comp_words_by_ref() { words=("${COMP_WORDS[@]}"); cword=$COMP_CWORD; '
             'cur=${words[cword]}; prev=${words[cword-1]}; }; '
             'COMP_WORDS=(nova-migcheck "$@"); COMP_CWORD=$#; . "$SCRIPT"; '
             'function=$(complete -p nova-migcheck | sed "s/.*-F //; s/ .*//"); $function; '
             'echo "${COMPREPLY[@]}"')

    def completions(*typed):
        ran = subprocess.run(['bash', '-c', words, 'bash', *typed], capture_output=True, text=True,
                             timeout=60, env={**os.environ, 'SCRIPT': str(script)})
        assert ran.returncode == 0 and ran.stderr == ''
        return set(ran.stdout.split())

    assert completions('') >= {'baseline', 'check', 'compare', 'explain', 'hosts', 'matrix'}
    assert completions('ex') == {'explain'}
    assert completions('check', '--pro') == {'--prometheus'}
    assert completions('matrix', '--') >= {'--html', '--server-cpu', '--config-file'}


def test_one_thing_in_every_format(three, tmp_path, cpu_map):
    argv = ['baseline', 'compute1', 'compute2', conf(three), cpu_map]
    found = valid('baseline', piped(tmp_path, *argv, '-f', 'json').json)
    assert found['lost']['compute2'] == [] and 'avx512f' in found['lost']['compute1']
    ran = piped(tmp_path, *argv, '-f', 'csv')
    assert ran.out.splitlines()[:3] == [
        '"field","value"', '"cpu_mode","custom"', '"cpu_models","Large"']
    assert 'compute2: nothing' in ran.out and not set('{}[]') & set(ran.out)
    for form in ('yaml', 'value', 'shell'):
        assert 'Large' in piped(tmp_path, *argv, '-f', form).out


def test_metrics_of_all_hosts(thousand, tmp_path):
    """What they say is what the other commands show."""
    path = tmp_path / 'fleet.prom'
    assert piped(tmp_path, 'hosts', conf(thousand), '--prometheus', str(path)).out == ''
    samples = {(sample.name.removeprefix('nova_migcheck_'), *sorted(sample.labels.items())): sample.value
               for family in text_string_to_metric_families(path.read_text()) for sample in family.samples}
    hosts = piped(tmp_path, 'hosts', conf(thousand), '-f', 'json').json
    fresh = [host for host in hosts if host['report'] == 'fresh']
    for word in ('fresh', 'stale', 'missing', 'unreadable'):
        assert samples['hosts', ('report', word)] == sum(host['report'] == word for host in hosts)
    assert samples['hosts_by_outcome', ('check', 'endpoint'), ('outcome', 'failure')] == sum(
        host['checks'].get('endpoint') == 'failure' for host in fresh)
    for (name, *labels), value in samples.items():
        if name == 'hosts_by_code':
            found = dict(labels)
            assert value == sum(any(all(f.get(key, '') == text for key, text in found.items()) for f in host['findings'])
                                for host in fresh) > 0
    pairs: dict = {}
    for group in piped(tmp_path, 'matrix', conf(thousand), '-f', 'json').json:
        same = len(set(group['sources']) & set(group['targets']))
        pairs[group['verdict']] = pairs.get(group['verdict'], 0) + len(group['sources']) * len(group['targets']) - same
    assert {dict(labels)['state']: value for (name, *labels), value in samples.items() if name == 'pairs' and value} == pairs
    assert len([name for name, *_labels in samples if name == 'report_age_seconds']) == sum(
        host['age'] is not None for host in hosts)


def test_what_was_rehearsed(three, tmp_path):
    """By the server's host, to each target."""
    hosts = valid('hosts', piped(tmp_path, 'hosts', conf(three), '-f', 'json').json)
    tried = {
        one['host']: [(past['peer'], past['ended'], past['rate']) for past in one['rehearsals']]
        for one in hosts
    }
    assert tried.pop('compute1') == [
        ('compute2', 'completed', 117 << 20),
        ('compute3', 'failed', None),
    ]
    assert not any(tried.values())
    listed = piped(tmp_path, 'hosts', conf(three)).out
    assert 'rehearsed: 1 completed, 1 failed' in listed
    explained = valid('explain', piped(tmp_path, 'explain', 'web1', conf(three), '-f', 'json').json)
    assert {one['host']: [past['ended'] for past in one['rehearsals']] for one in explained} == {
        'compute1': [], 'compute2': ['completed'], 'compute3': ['failed']}
    said = piped(tmp_path, 'explain', 'web1', conf(three)).err
    assert 'rehearsal to compute2 completed' in said
    assert 'rehearsal to compute3 failed: No worthy mechs' in said

