# SPDX-License-Identifier: Apache-2.0
"""``nova-migcheck check`` as a process: in a pipe, on a terminal, with --watch, for Prometheus."""

import json
import os
import pathlib
import signal
import subprocess
import sys
import threading

import pytest
from prometheus_client.parser import text_string_to_metric_families

from nova_migcheck.aftermath.tally import Tally
from tests.cli.commands import ESCAPE, Piped, Terminal, on_terminal, piped
from tests.cli.databases import ROOT
from tests.cli.schemas import valid

pytestmark = pytest.mark.nova

SPINNER = set('⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏')
DEAD = {'check': 'endpoint', 'outcome': 'failure', 'subject': 'http://10.0.0.5:8780',
        'detail': 'connection refused', 'origin': 'keystone catalog', 'remedy': 'start placement'}
SKEWED = {'check': 'clock', 'outcome': 'warning', 'subject': 'clock', 'detail': '+3 s'}
UNKNOWN = {'check': 'cpu', 'outcome': 'unknown', 'subject': 'qemu:///system',
           'detail': 'libvirtd does not answer'}
WELL = {'check': 'storage', 'outcome': 'ok', 'subject': '/var/lib/nova/instances', 'detail': 'nfs4'}


def script(directory, findings, path=None):
    """Have the checks of ``nova_conf`` say this. In one step, since one may be reading."""
    for name, said in (('compute1', {'findings': findings}), ('compute1.path', path or {})):
        (directory / 'new').write_text(json.dumps(said))
        (directory / 'new').replace(directory / f'{name}.json')
    return {'MIGCHECK_TEST_SCRIPT': str(directory)}


@pytest.mark.parametrize('findings, code', [
    ([WELL], 0), ([], 0), ([WELL, SKEWED], 2), ([UNKNOWN, SKEWED], 2), ([UNKNOWN, DEAD, WELL], 1)])
def test_json_and_exit_codes(tmp_path, nova_conf, findings, code):
    ran = piped(tmp_path, 'check', nova_conf, '-f', 'json', **script(tmp_path, findings))
    assert ran.code == code and ran.err == ''
    found = valid('check', ran.json)
    keys = 'check', 'outcome', 'detail'
    assert [[f[key] for key in keys] for f in found] == [
        [f[key] for key in keys] for f in findings]


def test_in_a_pipe(tmp_path, nova_conf):
    ran = piped(tmp_path, 'check', '--only', 'address', nova_conf)
    assert ran.code in (0, 1, 2) and not ESCAPE.search(ran.out + ran.err)
    assert ran.out.splitlines()[1].split()[1::2] == [
        'outcome', 'check', 'subject', 'detail', 'origin', 'remedy']


@pytest.mark.parametrize('form', ['csv', 'value', 'yaml'])
def test_other_formats(tmp_path, nova_conf, form):
    ran = piped(tmp_path, 'check', nova_conf, '-f', form, **script(tmp_path, [DEAD]))
    assert ran.code == 1 and 'http://10.0.0.5:8780' in ran.out and not set('{}') & set(ran.out)


def test_a_check_that_is_missing_is_said(tmp_path, nova_conf):
    path = pathlib.Path(nova_conf.partition('=')[2])
    text = path.read_text()
    path.write_text(text.replace('scripted, scripted_path', 'scripted, raises, nowhere'))
    ran = piped(tmp_path, 'check', nova_conf, '-f', 'json', **script(tmp_path, [WELL]))
    found = {finding['check']: finding for finding in ran.json}
    assert {name: found[name]['outcome'] for name in ('storage', 'nowhere', 'raises')} == {
        'storage': 'ok', 'nowhere': 'unknown', 'raises': 'unknown'}


# The way to a target.

def test_the_path_is_looked_at_when_a_target_is_given(tmp_path, nova_conf):
    away = {**DEAD, 'check': 'transport', 'subject': 'compute2', 'detail': 'does not resolve'}
    said = script(tmp_path, [WELL], {'compute2': [away], 'compute3': []})
    options = {'': [], 'compute2': ['--target', 'compute2'], 'compute3': ['--target', 'compute3']}
    found = {target: piped(tmp_path, 'check', nova_conf, '-f', 'json', *argv, **said)
             for target, argv in options.items()}
    codes = {target: ran.code for target, ran in found.items()}
    assert codes == {'': 0, 'compute2': 1, 'compute3': 0}
    subjects = [f['subject'] for f in valid('check', found['compute2'].json)]
    assert subjects == ['/var/lib/nova/instances', 'compute2']
    ran = piped(tmp_path, 'check', nova_conf, '--target', 'compute2', '--only', 'scripted_path',
                '-f', 'value', '-c', 'detail', **said)
    assert ran.out == 'does not resolve\n'


def test_the_real_path_is_that_of_the_address_that_is_given(tmp_path, nova_conf):
    argv = ['check', '--only', 'transport', '--target', 'compute2.invalid', nova_conf, '-f', 'json']
    found = {f['subject']: f for f in valid('check', piped(tmp_path, *argv).json)}
    assert 'does not resolve on this host' in found['compute2.invalid']['detail']
    # The nearest one of which the name plays no part.
    ran = piped(tmp_path, *argv, '--connect', '127.0.0.1')
    assert ran.code == 1 and [f['subject'] for f in ran.json] == ['127.0.0.1']
    assert 'loopback' in ran.json[0]['detail']


# On a terminal.

@pytest.mark.parametrize('columns', [40, 80, 200])
def test_on_a_terminal(tmp_path, nova_conf, columns):
    terminal = Terminal('check', nova_conf, columns=columns,
                        **script(tmp_path, [WELL, SKEWED, DEAD]))
    ran = terminal.end()
    assert ran.code == 1
    seen = '\n'.join(terminal.lines)
    for words in ('✗ failure', '! warning', '✓ ok', 'connection refused', 'from keystone catalog',
                  '→ start placement', 'no findings: scripted',
                  '1 failure, 1 warning, 1 ok on compute1'):
        assert words in seen or (columns == 40 and set(words.split()) <= set(seen.split())), words
    # All that stood there while it ran has gone, and the cursor is back, at the begin of a line.
    assert not SPINNER & set(seen)
    assert not terminal.screen.cursor.hidden and terminal.screen.cursor.x == 0


def test_what_is_running_has_a_line_that_is_gone_when_it_is_interrupted(tmp_path, nova_conf):
    terminal = Terminal('check', '--only', 'scripted,hangs', nova_conf, columns=60,
                        **script(tmp_path, [{**DEAD, 'detail': 'x' * 90}]))
    terminal.wait_for('✗ scripted')
    assert any(SPINNER & set(line) and 'hangs' in line for line in terminal.lines)
    terminal.type('\x03')
    assert terminal.end().code == 130
    assert {line for line in terminal.lines if line} <= {'^C'}
    assert not terminal.screen.cursor.hidden


def test_no_colours_where_none_are_wanted(tmp_path, nova_conf):
    plain = on_terminal('check', nova_conf, NO_COLOR='1', **script(tmp_path, [DEAD]))
    assert '✗ failure' in plain.text and '\x1b[31m' not in plain.out
    assert '\x1b[1;31m' not in plain.out
    assert '\x1b[1;31m' in on_terminal('check', nova_conf, **script(tmp_path, [DEAD])).out


# Again and again.

def test_watch_on_a_terminal(tmp_path, nova_conf):
    """It shows what is gone and what is new. Ctrl-C ends it with the last round's exit code."""
    terminal = Terminal('check', '--watch', '0.2', nova_conf, columns=80,
                        **script(tmp_path, [DEAD, SKEWED]))
    terminal.wait_for('1 failure, 1 warning on compute1')
    script(tmp_path, [SKEWED, UNKNOWN])
    terminal.wait_for('gone since')
    assert any('http://10.0.0.5:8780: connection refused' in line for line in terminal.lines)
    terminal.type('\x03')
    ran = terminal.end()
    assert ran.code == 2 and 'Traceback' not in ran.text
    assert 'new since' in ran.text and 'libvirtd does not answer' in ran.text
    shown = [line for line in terminal.lines if line]
    assert not any(SPINNER & set(line) for line in shown) and shown[-1] != '^C' * 2
    screen = terminal.screen
    assert not screen.cursor.hidden and screen.cursor.attrs.fg == 'default'
    assert not screen.cursor.attrs.bold
    assert '\x1b[?1049' not in ran.out  # what was found stays on the screen


def test_watch_interrupted_in_the_first_round(tmp_path, nova_conf):
    terminal = Terminal('check', '--watch', '5', '--only', 'hangs', nova_conf)
    terminal.wait_for('hangs')
    terminal.type('\x03')
    assert terminal.end().code == 130 and {line for line in terminal.lines if line} <= {'^C'}


def test_watch_in_a_pipe(tmp_path, nova_conf):
    """Each round is a document by itself, the same as without --watch."""
    running = Piped(tmp_path, 'check', '--watch', '0.1', nova_conf, '-f', 'json',
                    **script(tmp_path, [DEAD]))
    running.wait_for(lambda: (tmp_path / 'stdout').read_text().count('\n]') > 1)
    running.signal(signal.SIGINT)
    ran = running.end()
    assert ran.code == 1 and 'Traceback' not in ran.err and not ESCAPE.search(ran.out + ran.err)
    decoder, rest, rounds = json.JSONDecoder(), ran.out.strip(), 0
    while rest:
        found, end = decoder.raw_decode(rest)
        assert valid('check', found)[0]['subject'] == DEAD['subject']
        rest, rounds = rest[end:].strip(), rounds + 1
    assert rounds > 1 and ran.err.count('took') in (rounds, rounds - 1)


# For node_exporter.

def test_metrics(tmp_path, nova_conf):
    metrics = tmp_path / 'x.prom'
    counted = Tally(1_764_000_000.0, stray=4711)
    counted.write(str(tmp_path))  # as nova-compute leaves it
    piped(tmp_path, 'check', '--only', 'address', '--prometheus', str(metrics), nova_conf)
    text = metrics.read_text()
    families = {family.name: family for family in text_string_to_metric_families(text)}
    samples = families['nova_migcheck_check'].samples
    assert {sample.labels['check'] for sample in samples} == {'address'}
    assert 'nova_migcheck_check{check="address",outcome="' in text
    assert 'nova_migcheck_round_timestamp_seconds' in text
    assert sum(sample.value for sample in samples) == 1
    assert 'nova_migcheck_migration_stray_bytes_total 4711.0' in text.splitlines()
    assert metrics.stat().st_mode & 0o777 == 0o644


def test_metrics_are_replaced_while_they_are_read(tmp_path, nova_conf):
    """A reader sees one round or the next. The file keeps its owner and permissions."""
    metrics = tmp_path / 'metrics' / 'x.prom'
    metrics.parent.mkdir()
    metrics.write_text('nova_migcheck_round_seconds 1\n')
    metrics.chmod(0o640)
    os.chown(metrics, -1, 65534) if os.geteuid() == 0 else None
    before = metrics.stat()
    running = Piped(tmp_path, 'check', '--watch', '0.001', '--prometheus', str(metrics), nova_conf,
                    **script(tmp_path, [{**DEAD, 'check': f'check{n}'} for n in range(150)]))
    seen, done = set(), threading.Event()

    def read():
        while not done.is_set():
            seen.add(metrics.read_text())

    readers = [threading.Thread(target=read) for _ in range(2)]
    for reader in readers:
        reader.start()
    try:
        running.wait_for(lambda: len(seen) > 4)
    finally:
        done.set()
        running.signal(signal.SIGINT)
        running.end()
    for reader in readers:
        reader.join(60)
    for text in seen:
        assert text.splitlines()[-1].startswith((
            'nova_migcheck_round_timestamp_seconds', 'nova_migcheck_round_seconds'))
        assert list(text_string_to_metric_families(text))
        assert len(text) < 100 or text.count('outcome="failure"') == 2 * 151
    after = metrics.stat()
    for name in ('st_mode', 'st_uid', 'st_gid'):
        assert getattr(after, name) == getattr(before, name)
    # What it writes on the way has a name that node_exporter does not take, and is not left.
    assert [path.name for path in metrics.parent.iterdir()] == ['x.prom']


def test_without_nova(tmp_path, nova_conf):
    """As a process in which nova cannot be imported."""
    program = ('import sys; sys.modules["nova"] = None; sys.modules["nova.conf"] = None; '
               'import importlib.util; real = importlib.util.find_spec; '
               'importlib.util.find_spec = lambda name, *a: '
               'None if name.startswith("nova.") else real(name, *a); '
               'from nova_migcheck.cli.main import main; sys.exit(main(sys.argv[1:]))')
    ran = subprocess.run(
        [sys.executable, '-c', program, 'check', '--only', 'address', nova_conf, '-f', 'json'],
        capture_output=True, text=True, timeout=120, env={**os.environ, 'PYTHONPATH': str(ROOT)})
    assert ran.returncode in (0, 1, 2), ran.stderr
    assert 'Nova is not installed here' in ran.stderr
    valid('check', json.loads(ran.stdout))
