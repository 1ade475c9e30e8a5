# SPDX-License-Identifier: Apache-2.0
"""The commands as processes, on a terminal and in a pipe, on databases that Nova's own code wrote."""

import json
import os
import pathlib
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import jsonschema
import pytest
from prometheus_client.parser import text_string_to_metric_families

from nova_migcheck.aftermath.tally import Tally
from tests.cli import fleet_files
from tests.cli.commands import ESCAPE, on_terminal, piped

pytestmark = pytest.mark.nova

ROOT = pathlib.Path(__file__).parents[2]
SCHEMAS = ROOT / 'doc/source/schemas'


def valid(name, document):
    jsonschema.Draft202012Validator(json.loads((SCHEMAS / f'{name}.json').read_text())).validate(document)
    return document


def _fleet(tmp_path_factory, count):
    directory = tmp_path_factory.mktemp(f'fleet{count}')
    subprocess.run([sys.executable, '-W', 'ignore', '-m', 'tests.cli.fleet_files', str(directory), str(count)], check=True, cwd=ROOT,
                   timeout=300, env={**os.environ, 'PYTHONPATH': f'{ROOT}:{os.environ.get("PYTHONPATH", "")}'})
    directory.chmod(0o755)
    directory.parent.chmod(0o755)
    return directory


@pytest.fixture(scope='session')
def three(tmp_path_factory):
    return _fleet(tmp_path_factory, 3)


@pytest.fixture(scope='session')
def thousand(tmp_path_factory):
    return _fleet(tmp_path_factory, 1000)


def away(fleet, tmp_path, cell, url):
    """A copy of the fleet's configuration in which a cell's database is elsewhere."""
    for path in fleet.iterdir():
        if path.name in ('api.sqlite', 'nova.conf'):
            shutil.copy(path, tmp_path)
    conf = tmp_path / 'nova.conf'
    conf.write_text(conf.read_text().replace(str(fleet / 'api.sqlite'), str(tmp_path / 'api.sqlite')))
    with sqlite3.connect(tmp_path / 'api.sqlite') as connection:
        connection.execute('UPDATE cell_mappings SET database_connection = ? WHERE name = ?', (url, cell))
    return f'--config-file={conf}'


def conf(fleet):
    return f'--config-file={fleet / "nova.conf"}'


# hosts

def test_hosts_in_a_pipe(three, tmp_path):
    ran = piped(tmp_path, 'hosts', conf(three))
    assert ran.code == 1  # compute3 has a failure
    assert not ESCAPE.search(ran.out) and ran.err == ''
    line = next(line for line in ran.out.splitlines() if 'compute3' in line)
    assert 'cell1' in line and 'up' in line and 'fresh' in line and 'failure' in line and '1 completed, 1 failed' in line


def test_hosts_on_a_terminal(three):
    ran = on_terminal('hosts', conf(three))
    assert ran.code == 1 and ESCAPE.search(ran.out)
    assert 'compute101' in ran.text and max(map(len, ran.text.splitlines())) <= 100
    assert not ESCAPE.search(on_terminal('hosts', conf(three), '-f', 'json').out)


def test_hosts_that_are_well_exit_with_0(three, tmp_path):
    assert piped(tmp_path, 'hosts', conf(three), 'compute1', 'compute2').code == 0


def test_a_thousand_hosts(thousand, tmp_path):
    hosts = valid('hosts', piped(tmp_path, 'hosts', conf(thousand), '-f', 'json').json)
    assert len(hosts) == 1000
    assert [h['host'] for h in hosts[:3]] == ['compute1', 'compute2', 'compute3']
    assert {h['cell'] for h in hosts} == {'cell1', 'cell2'}
    by_number = {int(h['host'][7:]): h for h in hosts}
    assert by_number[8]['report'] == 'missing' and by_number[8]['checks'] == {} and by_number[8]['age'] is None
    assert by_number[9]['report'] == 'stale' and by_number[9]['service'] == 'down'
    assert by_number[7]['service'] == 'disabled'
    assert by_number[3]['checks']['endpoint'] == 'failure' and by_number[3]['findings'][0]['subject'] == 'http://10.0.0.5:8780'
    assert [(m['ended'], m['downtime'], m['text']) for m in by_number[3]['migrations']] == [
        ('completed', 63, ''), ('failed', None, ' [31mNo route to host')]


def test_a_cell_that_is_away_is_said_and_the_rest_shown(thousand, tmp_path):
    ran = piped(tmp_path, 'hosts', away(thousand, tmp_path, 'cell2', f'sqlite:///{tmp_path}/no/such.sqlite'), '-f', 'json')
    assert len(ran.json) == 500 and ran.code == 1
    assert 'cell cell2 cannot be read: unable to open database file; its hosts are not shown.' in ran.err
    assert 'Traceback' not in ran.err and len(ran.err.splitlines()) == 1


def test_a_cell_that_is_away_is_a_warning_when_all_others_are_well(three, tmp_path):
    ran = piped(tmp_path, 'explain', 'old1', '--host', 'compute2', away(three, tmp_path, 'cell2', f'sqlite:///{tmp_path}/no/such.sqlite'))
    assert ran.code == 2 and 'cell cell2' in ran.err


# explain

def test_explain(three, tmp_path):
    rows = valid('explain', piped(tmp_path, 'explain', 'web1', conf(three), '-f', 'json').json)
    assert [(row['host'], row['verdict']) for row in rows] == [
        ('compute1', 'source'), ('compute2', 'rejected'), ('compute3', 'rejected')]
    assert rows[1]['rejections'][0]['check'] == 'cpu' and 'avx512f' in rows[1]['rejections'][0]['detail']
    assert rows[2]['rejections'][0]['check'] == 'endpoint'


def test_explain_looks_at_the_servers_own_cpu(three, tmp_path):
    """old1 was started on a Haswell: its way back is open, where that of web1 is not."""
    ran = piped(tmp_path, 'explain', fleet_files.UUIDS['old1'], '--host', 'compute2', conf(three), '-f', 'json')
    assert ran.code == 0 and ran.json[0]['verdict'] == 'accepted'
    assert piped(tmp_path, 'explain', 'web1', '--host', 'compute2', conf(three)).code == 1


def test_explain_on_a_terminal(three):
    ran = on_terminal('explain', 'web1', conf(three))
    assert ran.code == 1 and 'Not looked at' in ran.text and 'connection refused' in ran.text


# matrix

def test_matrix_of_three(three, tmp_path):
    rows = valid('matrix', piped(tmp_path, 'matrix', conf(three), '-f', 'json').json)
    found = {(source, target): row['verdict'] for row in rows for source in row['sources'] for target in row['targets'] if source != target}
    assert found == {
        ('compute1', 'compute2'): 'rejected', ('compute1', 'compute3'): 'rejected', ('compute2', 'compute1'): 'accepted',
        ('compute2', 'compute3'): 'rejected', ('compute3', 'compute1'): 'accepted', ('compute3', 'compute2'): 'rejected'}


def test_matrix_with_the_cpus_of_servers(three, tmp_path):
    rows = valid('matrix', piped(tmp_path, 'matrix', '--server-cpu', conf(three), '-f', 'json').json)
    own = [row for row in rows if row['servers']]
    assert {(tuple(row['targets']), row['verdict']) for row in own} >= {(('compute2',), 'accepted')}


def test_matrix_folds_a_thousand(thousand, tmp_path):
    ran = piped(tmp_path, 'matrix', conf(thousand), '-f', 'json')
    rows = valid('matrix', ran.json)
    assert ran.code == 1 and len(rows) < 100
    assert sum(len(row['sources']) * len(row['targets']) for row in rows) == 2 * 500 ** 2


def test_matrix_on_a_terminal(three, thousand):
    small = on_terminal('matrix', conf(three))
    assert small.code == 1 and '✗' in small.text and 'compute101' in small.text and 'connection refused' in small.text
    large = on_terminal('matrix', conf(thousand), columns=80)
    assert 'hosts' in large.text and len(large.text.splitlines()) < 120
    assert max(map(len, large.text.splitlines())) <= 80
    assert '\x1b[31mtries' not in large.out  # what a host says does not command the terminal


# baseline

MODELS = '''<cpus><arch name='x86'><vendor name='Intel' string='GenuineIntel'/>%s
<model name='Small'><feature name='sse'/><feature name='sse2'/></model>
<model name='Large'><model name='Small'/><feature name='avx'/></model></arch></cpus>'''


@pytest.fixture
def cpu_map(tmp_path):
    (tmp_path / 'map').mkdir()
    names = {name for host in (fleet_files.SKYLAKE, fleet_files.HASWELL) for name in host.features}
    (tmp_path / 'map/index.xml').write_text(MODELS % ''.join(f"<feature name='{name}'/>" for name in sorted(names)))
    return f'--cpu-map={tmp_path / "map"}'


def test_baseline_of_what_is_published(three, tmp_path, cpu_map):
    ran = piped(tmp_path, 'baseline', 'compute1', 'compute2', conf(three), cpu_map)
    assert ran.code == 0, ran
    lines = ran.out.splitlines()
    assert lines[:3] == ['[libvirt]', 'cpu_mode = custom', 'cpu_models = Large'] and 'fma' in lines[3]
    assert '# compute1 loses avx512bw, avx512cd, avx512dq, avx512f, avx512vl' in lines and '# compute2 loses nothing' in lines
    assert 'extra_flags' not in piped(tmp_path, 'baseline', '--model-only', 'compute1', conf(three), cpu_map).out


def test_baseline_of_hosts_that_have_none_in_common(thousand, tmp_path, cpu_map):
    ran = piped(tmp_path, 'baseline', conf(thousand), cpu_map)
    assert ran.code == 1 and 'vendor' in ran.out and 'AMD' in ran.out
    assert 'nothing is known of the CPU of compute[8,18' in ran.err


# check

@pytest.fixture
def nova_conf(tmp_path):
    path = tmp_path / 'nova.conf'
    path.write_text(f'[DEFAULT]\nhost = compute1\nmy_ip = 127.0.0.1\nstate_path = {tmp_path}\n'
                    '[migcheck]\nchecks = fine, failing, crashing\nround_deadline = 20\n')
    return f'--config-file={path}'


def test_check_in_a_pipe(tmp_path, nova_conf):
    ran = piped(tmp_path, 'check', '--only', 'address', nova_conf)
    assert ran.code in (0, 1, 2) and not ESCAPE.search(ran.out + ran.err)
    assert ran.out.splitlines()[1].split()[1::2] == ['outcome', 'check', 'subject', 'detail', 'origin', 'remedy']


def test_check_json_and_exit_codes(tmp_path, nova_conf):
    ran = piped(tmp_path, 'check', '--only', 'address', nova_conf, '-f', 'json')
    found = {finding['outcome'] for finding in valid('check', ran.json)}
    assert ran.code == (1 if 'failure' in found else 2 if found - {'ok'} else 0)


def test_check_says_a_check_that_is_missing(tmp_path, nova_conf):
    ran = piped(tmp_path, 'check', nova_conf, '-f', 'json')
    assert {finding['check'] for finding in ran.json} == {'fine', 'failing', 'crashing'}


def test_check_on_a_terminal(nova_conf):
    ran = on_terminal('check', '--only', 'address', nova_conf)
    assert '✗ failure' in ran.text or '! warning' in ran.text or '✓ ok' in ran.text
    assert max(map(len, ran.text.splitlines()[-3:])) <= 100


def test_check_writes_metrics(tmp_path, nova_conf):
    metrics = tmp_path / 'x.prom'
    metrics.write_text('old')
    counted = Tally(1_764_000_000.0, stray=4711)
    counted.write(str(tmp_path))  # as nova-compute leaves it
    piped(tmp_path, 'check', '--only', 'address', '--prometheus', str(metrics), nova_conf)
    text = metrics.read_text()
    families = {family.name: family for family in text_string_to_metric_families(text)}
    assert {sample.labels['check'] for sample in families['nova_migcheck_check'].samples} == {'address'}
    assert 'nova_migcheck_check{check="address",outcome="' in text and 'nova_migcheck_round_timestamp_seconds' in text
    assert sum(int(line[-1]) for line in text.splitlines() if line.startswith('nova_migcheck_check{check="address"')) == 1
    assert 'nova_migcheck_migration_stray_bytes_total 4711' in text.splitlines()
    assert metrics.stat().st_mode & 0o777 == 0o644
    assert sorted(path.name for path in tmp_path.iterdir() if path.name.startswith('.')) == []


def test_check_again_and_again_until_interrupted(tmp_path, nova_conf):
    with subprocess.Popen([sys.executable, '-m', 'nova_migcheck.cli.main', 'check', '--only', 'address', '--watch', '0.1', nova_conf],
                          stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                          env={**os.environ, 'PYTHONPATH': str(ROOT)}) as process:
        seen = 0
        for line in process.stdout:
            seen += 'remedy' in line.split()
            if seen == 2:
                break
        process.send_signal(signal.SIGINT)
        _out, err = process.communicate(timeout=60)
    assert seen == 2 and process.returncode in (0, 1, 2) and 'Traceback' not in err


def test_check_without_nova(tmp_path, nova_conf):
    """As a process in which nova cannot be imported."""
    program = ('import sys; sys.modules["nova"] = None; sys.modules["nova.conf"] = None; '
               'import importlib.util; real = importlib.util.find_spec; '
               'importlib.util.find_spec = lambda name, *a: None if name.startswith("nova.") else real(name, *a); '
               'from nova_migcheck.cli.main import main; sys.exit(main(sys.argv[1:]))')
    ran = subprocess.run([sys.executable, '-c', program, 'check', '--only', 'address', nova_conf, '-f', 'json'], capture_output=True,
                         text=True, timeout=120, env={**os.environ, 'PYTHONPATH': str(ROOT)})
    assert ran.returncode in (0, 1, 2), ran.stderr
    assert 'Nova is not installed here' in ran.stderr
    valid('check', json.loads(ran.stdout))


# Bad input: a sentence, 255, no traceback.

@pytest.mark.parametrize('argv, said', [
    (['explain', 'nobody'], "no server is called 'nobody'"),
    (['explain', '00000000-0000-0000-0000-000000000000'], 'no server has the UUID 00000000-0000-0000-0000-000000000000'),
    (['explain', 'web1', '--host', 'nowhere'], "no compute host is called 'nowhere'"),
    (['explain', 'web1', '--host', 'compute101'], 'Nova does not live-migrate between cells'),
    (['hosts', 'nowhere'], "no compute host is called 'nowhere'"),
    (['check', '--only', 'nonsense'], 'nonsense'),
    (['check', '--only', 'transport'], '--target'),
    (['check', '--watch', 'often'], 'often'),
    (['matrix', '--html', '/no/such/directory/x.html'], '/no/such/directory'),
    (['nonsense'], 'nonsense'),
    (['hosts', '--no-such-option'], 'no-such-option'),
])
def test_bad_input(three, tmp_path, argv, said):
    ran = piped(tmp_path, *argv, *([] if argv == ['nonsense'] else [conf(three)]))
    assert ran.code == 255
    assert said in ran.err and 'Traceback' not in ran.err + ran.out
    assert ran.out == ''


def test_configuration_that_cannot_be_read(three, tmp_path):
    ran = piped(tmp_path, 'hosts', '--config-file', '/no/such/nova.conf')
    assert ran.code == 255 and '/no/such/nova.conf' in ran.err and 'Traceback' not in ran.err
    broken = tmp_path / 'broken.conf'
    broken.write_text('[migcheck]\non_failure = perhaps\n')
    ran = piped(tmp_path, 'hosts', '--config-file', str(broken))
    assert ran.code == 255 and 'on_failure' in ran.err and 'Traceback' not in ran.err


@pytest.mark.skipif(os.geteuid() != 0, reason='only root can give a file away')
def test_no_permission(three, tmp_path):
    secret = tmp_path / 'nova.conf'
    secret.write_text('[DEFAULT]\n')
    secret.chmod(0o600)
    os.chown(secret, 65534, 65534)
    ran = piped(tmp_path, 'hosts', '--config-file', str(secret), powerless=True)
    assert ran.code == 255 and 'ermission denied' in ran.err and 'Traceback' not in ran.err


def test_database_away(three, tmp_path):
    path = tmp_path / 'nova.conf'
    path.write_text('[api_database]\nconnection = sqlite:////no/such/directory/api.sqlite\n')
    ran = piped(tmp_path, 'hosts', '--config-file', str(path))
    assert ran.code == 255 and 'the database of [api_database] cannot be read: unable to open database file' in ran.err
    assert 'Traceback' not in ran.err and len(ran.err.splitlines()) == 1
    path.write_text('[DEFAULT]\n')
    ran = piped(tmp_path, 'hosts', '--config-file', str(path))
    assert ran.code == 255 and '[api_database] connection is not set' in ran.err


def test_the_debug_option_shows_the_traceback(three, tmp_path):
    ran = piped(tmp_path, '--debug', 'explain', 'nobody', conf(three))
    assert ran.code == 255 and 'Traceback' in ran.err


def test_nothing_is_written(three, tmp_path):
    before = {path.name: path.read_bytes() for path in three.glob('*.sqlite')}
    for argv in (['hosts'], ['explain', 'web1'], ['matrix']):
        piped(tmp_path, *argv, conf(three))
    assert {path.name: path.read_bytes() for path in three.glob('*.sqlite')} == before


@pytest.mark.parametrize('command', ['check', 'hosts', 'explain', 'matrix', 'baseline', 'compare'])
def test_help_has_an_example(tmp_path, command):
    ran = piped(tmp_path, command, '--help')
    assert ran.code == 0 and f'\n    nova-migcheck {command}' in ran.out and 'Exit code' in ran.out


def test_the_console_script_itself(three):
    ran = subprocess.run([sys.executable, '-m', 'nova_migcheck.cli.main', 'hosts', conf(three)], capture_output=True, text=True,
                         timeout=120, env={**os.environ, 'PYTHONPATH': str(ROOT)})
    assert ran.returncode == 1 and 'compute3' in ran.stdout and ran.stderr == ''


# A database that accepts a connection and never says a word.

@pytest.fixture
def silent():
    """host:port of a listener that answers nothing, as a database server that hangs."""
    with socket.create_server(('127.0.0.1', 0)) as server:
        yield f'127.0.0.1:{server.getsockname()[1]}'


def test_a_cell_that_never_answers_is_waited_for_once_and_the_rest_shown(three, tmp_path, silent):
    config = away(three, tmp_path, 'cell2', f'mysql+pymysql://nova:secret@{silent}/nova')
    said = 'cell cell2 cannot be read: its database has not answered within 10 s; its hosts are not shown.'
    argvs = [['hosts', '-f', 'json'], ['explain', 'old1', '--host', 'compute2', '-f', 'json'], ['explain', fleet_files.UUIDS['cell2-web']]]
    for number in range(3):
        (tmp_path / str(number)).mkdir()
    with ThreadPoolExecutor() as pool:
        hosts, explained, lost = pool.map(lambda number: piped(tmp_path / str(number), *argvs[number], config, '--cell-timeout', '10'),
                                          range(3))
    ran = hosts
    assert [host['host'] for host in ran.json] == ['compute1', 'compute2', 'compute3']
    assert ran.code == 1 and ran.err == said + '\n'
    ran = explained
    assert ran.code == 2 and ran.json[0]['verdict'] == 'accepted' and ran.err == said + '\n'
    ran = lost
    assert ran.code == 255 and 'is in a cell that cannot be read: cell2' in ran.err and ran.out == ''


def test_a_global_database_that_never_answers(tmp_path, silent):
    path = tmp_path / 'nova.conf'
    path.write_text(f'[api_database]\nconnection = mysql+pymysql://nova:secret@{silent}/nova_api\n')
    ran = piped(tmp_path, 'hosts', '--config-file', str(path), '--cell-timeout', '1')
    assert ran.code == 255 and ran.err.splitlines() == [
        'the database of [api_database] cannot be read: it has not answered within 1 s']


@pytest.mark.parametrize('argv', [['hosts'], ['explain', 'web1'], ['matrix']])
@pytest.mark.parametrize('form', ['csv', 'value'])
def test_flat_formats_hold_no_python(three, tmp_path, argv, form):
    ran = piped(tmp_path, *argv, conf(three), '-f', form)
    assert ran.code == 1 and 'compute3' in ran.out and not set('{}') & set(ran.out)


def test_completion_in_a_real_bash(tmp_path):
    """What "complete" prints, sourced by bash; asked as bash asks when one presses the tab key."""
    script = tmp_path / 'completion'
    script.write_text(piped(tmp_path, 'complete', '--name', 'nova-migcheck').out)
    # Of the package bash-completion, which is not everywhere: the same words, without its care for colons.
    words = ('_get_comp_words_by_ref() { words=("${COMP_WORDS[@]}"); cword=$COMP_CWORD; cur=${words[cword]}; prev=${words[cword-1]}; }; '
             'COMP_WORDS=(nova-migcheck "$@"); COMP_CWORD=$#; . "$SCRIPT"; '
             'function=$(complete -p nova-migcheck | sed "s/.*-F //; s/ .*//"); $function; echo "${COMPREPLY[@]}"')

    def completions(*typed):
        ran = subprocess.run(['bash', '-c', words, 'bash', *typed], env={**os.environ, 'SCRIPT': str(script)}, capture_output=True,
                             text=True, timeout=60)
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
    assert ran.out.splitlines()[:3] == ['"field","value"', '"cpu_mode","custom"', '"cpu_models","Large"']
    assert 'compute2: nothing' in ran.out and not set('{}[]') & set(ran.out)
    for form in ('yaml', 'value', 'shell'):
        assert 'Large' in piped(tmp_path, *argv, '-f', form).out
