# SPDX-License-Identifier: Apache-2.0
"""Bad input: one sentence with the reason, exit code 255, nothing on stdout.

A traceback needs --debug.
"""

import os
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.cli import fleet_files
from tests.cli.commands import piped
from tests.cli.databases import away, conf, refusing, silent

pytestmark = pytest.mark.nova

# What needs Nova's configuration, and what needs its databases.
FLEET = {'hosts': ['hosts'], 'explain': ['explain', 'web1'], 'matrix': ['matrix'],
         'baseline': ['baseline']}
CONFIGURED = {**FLEET, 'check': ['check']}


def refused(ran):
    """The sentence of a command that could not do what it was told."""
    assert ran.code == 255 and ran.out == '' and 'Traceback' not in ran.err, ran
    lines = ran.err.splitlines()
    assert len(lines) == 1, ran.err
    return lines[0]


def each(tmp_path, argvs, *more, **how):
    """Run several at once. command -> how it ended"""
    def run(name):
        directory = tmp_path / f'of-{name}'
        directory.mkdir(exist_ok=True)
        return piped(directory, *argvs[name], *more, **how)

    with ThreadPoolExecutor(3) as pool:
        return dict(zip(argvs, pool.map(run, argvs)))


@pytest.mark.parametrize('argv, said', [
    (['explain', 'nobody'], "there is no server 'nobody'"),
    (['explain', '00000000-0000-0000-0000-000000000000'],
     'there is no server with the UUID 00000000-0000-0000-0000-000000000000'),
    (['explain', 'web1', '--host', 'nowhere'], "there is no compute host 'nowhere'"),
    (['explain', 'web1', '--host', 'compute101'], 'Nova does not live-migrate between cells'),
    (['hosts', 'nowhere'], "there is no compute host 'nowhere'"),
    (['baseline', 'compute1', 'nowhere'], "there is no compute host 'nowhere'"),
    (['baseline', '/no/such.xml'], '/no/such.xml cannot be read: No such file or directory'),
    (['check', '--only', 'nonsense'], 'nonsense'),
    (['check', '--only', 'transport'], '--target'),
    (['check', '--only', 'attachments'], 'give its UUID with --server'),
    (['check', '--connect', '10.0.0.1'], '--target'),
    (['check', '--only', 'storage', '--prometheus', '/no/such/directory/x.prom'],
     '/no/such/directory/x.prom cannot be written: No such file or directory'),
    (['check', '--only', 'storage', '--prometheus', '/tmp'],
     '/tmp cannot be written: Is a directory'),
    (['matrix', '--html', '/no/such/directory/x.html'],
     '/no/such/directory/x.html cannot be written: No such file or directory'),
    (['matrix', '--html', ''], 'cannot be written'),
])
def test_what_does_not_exist(three, tmp_path, argv, said):
    assert said in refused(piped(tmp_path, *argv, conf(three)))


@pytest.mark.parametrize('argv, said', [
    (['nonsense'], 'nonsense'), (['hosts', '--no-such-option'], 'no-such-option'),
    (['check', '--server', 'web1'], "invalid UUID value: 'web1'"),
    (['check', '--watch', 'often'], 'often'), (['check', '--watch', '0'], "'0'"),
    (['matrix', '--cell-timeout', '-1'], "'-1'"), (['explain'], 'SERVER'),
    (['compare'], '--guest')])
def test_what_is_not_understood(tmp_path, argv, said):
    ran = piped(tmp_path, *argv)
    assert ran.code == 255 and ran.out == '' and 'Traceback' not in ran.err
    assert said in ran.err.splitlines()[-1]


@pytest.mark.parametrize('content, said', [
    (None, 'nova.conf cannot be read: No such file or directory'), (b'nonsense\n', 'nova.conf:1'),
    (b'\xff\xfe[DEFAULT]\n', 'nova.conf cannot be read: it is not UTF-8 text'),
    (b'[migcheck]\non_failure = perhaps\n', 'on_failure from ')])
def test_a_configuration_that_cannot_be_read(tmp_path, content, said):
    path = tmp_path / 'nova.conf'
    if content is not None:
        path.write_bytes(content)
    for name, ran in each(tmp_path, CONFIGURED, f'--config-file={path}').items():
        sentence = refused(ran)
        assert said in sentence and str(path) in sentence and 'LocationInfo' not in sentence, name


def test_a_directory_of_configuration_that_is_not_there(tmp_path):
    for ran in each(tmp_path, CONFIGURED, f'--config-dir={tmp_path}/none').values():
        assert refused(ran) == f'{tmp_path}/none cannot be read: No such file or directory'


@pytest.mark.skipif(os.geteuid() != 0, reason='only root can give a file away')
def test_no_permission(tmp_path):
    secret = tmp_path / 'nova.conf'
    secret.write_text('[DEFAULT]\n')
    secret.chmod(0o600)
    os.chown(secret, 65534, 65534)
    for ran in each(tmp_path, CONFIGURED, f'--config-file={secret}', powerless=True).values():
        assert refused(ran) == f'{secret} cannot be read: Permission denied'
    documents = {'compare': ['compare', '--guest', str(secret), '--host', str(secret)],
                 'baseline': ['baseline', str(secret)]}
    for ran in each(tmp_path, documents, powerless=True).values():
        assert refused(ran) == f'{secret} cannot be read: Permission denied'


@pytest.mark.skipif(os.geteuid() != 0, reason='only root can give a directory away')
def test_no_permission_to_write(three, tmp_path):
    directory = tmp_path / 'theirs'
    directory.mkdir(mode=0o755)
    os.chown(directory, 65534, 65534)
    argvs = {'check': ['check', '--only', 'storage', '--prometheus', f'{directory}/x'],
             'matrix': ['matrix', '--html', f'{directory}/x']}
    for ran in each(tmp_path, argvs, conf(three), powerless=True).values():
        assert refused(ran) == f'{directory}/x cannot be written: Permission denied'
    assert list(directory.iterdir()) == []


def test_no_database_is_configured(tmp_path):
    path = tmp_path / 'nova.conf'
    path.write_text('[DEFAULT]\n')
    for ran in each(tmp_path, FLEET, f'--config-file={path}').values():
        assert f'[api_database] connection is not set ({path})' in refused(ran)


def test_the_database_is_away(tmp_path):
    """The global database refuses, does not respond, or is a missing file."""
    with refusing() as port, silent() as hung:
        for name, url, said in (
                ('refused', f'mysql+pymysql://nova:secret@{port}/nova_api',
                 "Can't connect to MySQL server on '127.0.0.1'"),
                ('silent', f'mysql+pymysql://nova:secret@{hung}/nova_api',
                 'no response within 1 s'),
                ('file', f'sqlite:///{tmp_path}/no/such.sqlite', 'unable to open database file')):
            path = tmp_path / f'{name}.conf'
            path.write_text(f'[api_database]\nconnection = {url}\n')
            limit = '1' if name == 'silent' else '60'
            options = f'--config-file={path}', '--cell-timeout', limit
            for ran in each(tmp_path, FLEET, *options).values():
                sentence = refused(ran)
                assert sentence.startswith('the database of [api_database] cannot be read: ')
                assert said in sentence
                assert 'secret' not in sentence


def test_a_cell_that_refuses_or_never_answers_is_said_and_the_rest_shown(three, tmp_path):
    """A silent one is waited for once, though a command asks it more than once."""
    argvs = {'hosts': ['hosts', '-f', 'json'],
             'explained': ['explain', 'old1', '--host', 'compute2', '-f', 'json'],
             'lost': ['explain', fleet_files.UUIDS['cell2-web']],
             'matrix': ['matrix', '-f', 'json'],
             'baseline': ['baseline', 'compute1', '-f', 'json', '--cpu-map', '/nowhere']}
    with refusing() as port, silent() as hung:
        for url, limit, why in (
                (port, '60', "Can't connect to MySQL server on '127.0.0.1' "
                             '([Errno 111] Connection refused)'),
                (hung, '6', 'no response within 6 s')):
            config = away(three, tmp_path, 'cell2', f'mysql+pymysql://nova:secret@{url}/nova')
            ran = each(tmp_path, argvs, config, '--cell-timeout', limit)
            said = f'cell cell2 cannot be read: {why}'
            hosts = [host['host'] for host in ran['hosts'].json]
            assert hosts == ['compute1', 'compute2', 'compute3']
            assert ran['hosts'].code == 1
            assert ran['hosts'].err == f'{said}; its hosts are not shown.\n'
            assert ran['explained'].code == 2 and ran['explained'].json[0]['verdict'] == 'accepted'
            assert ran['explained'].err == f'{said}; its hosts are not shown.\n'
            assert ran['matrix'].code == 1
            assert {row['cell'] for row in ran['matrix'].json} == {'cell1'}
            assert ran['baseline'].err.splitlines()[0] == f'{said}.'
            last = ran['lost'].err.splitlines()[-1]
            assert f'is in a cell that cannot be read: cell2: {why}' in last
            assert ran['lost'].code == 255 and ran['lost'].out == ''
            assert not any('secret' in one.err or 'Traceback' in one.err for one in ran.values())


@pytest.mark.parametrize('argv', [['explain', 'nobody'], ['hosts', 'nowhere']])
def test_the_debug_option_shows_the_traceback(three, tmp_path, argv):
    ran = piped(tmp_path, '--debug', *argv, conf(three))
    assert ran.code == 255 and 'Traceback' in ran.err

