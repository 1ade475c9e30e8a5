# SPDX-License-Identifier: Apache-2.0
"""Each line with nova-migcheck of the documentation, and each example of a command's help: typed as it stands there, on the fleet or on
the compute host of a test."""

import pathlib
import re
import shlex
import signal

import pytest

from nova_migcheck.cli import baseline, check, codes, compare, drain, explain, hosts, ledger, matrix, rehearse
from tests import documentation
from tests.cli import test_check
from tests.cli.commands import Piped
from tests.cli.databases import conf
from tests.cli.fleet_files import UUIDS

pytestmark = pytest.mark.nova

COMMANDS = (baseline.Baseline, check.Check, codes.Codes, compare.Compare, drain.Drain, explain.Explain, hosts.Hosts,
            ledger.Ledger, matrix.Matrix, rehearse.Rehearse)
LINES = dict.fromkeys([*documentation.of('nova-migcheck'),
                       *(f'nova-migcheck {line}' for command in COMMANDS for line, _purpose in command.EXAMPLES)])
# What a person would have instead: the server's name, and its UUID.
INSTEAD = {'SERVER': 'web1', '2f0f1c4e-8a4b-4d0e-9b5e-0c6f5d3d2a11': UUIDS['web1']}
DOMAIN = ("<domain type='kvm'><os><type arch='x86_64' machine='pc-q35-9.2'>hvm</type></os>"
          "<cpu mode='custom' match='exact' check='full'>"
          "<model>Large</model><vendor>Intel</vendor></cpu></domain>")
HOST = ("<domainCapabilities><domain>kvm</domain><machine>pc-q35-9.2</machine><arch>x86_64</arch>"
        "<cpu><mode name='host-model' supported='yes'><model>Large</model>"
        "<vendor>Intel</vendor></mode></cpu></domainCapabilities>")
CAPABILITIES = "<capabilities><guest><arch name='x86_64'><machine>pc-q35-9.2</machine></arch></guest></capabilities>"
XML = {'guest': DOMAIN, 'capabilities': CAPABILITIES}
# Exit code and a word of what it says: of the fleet, whose compute3 has a failure, or of a compute host, of which the test says so.
SAYS = {'baseline': (0, 'cpu_mode = custom'), 'check': (1, 'endpoint'), 'codes': (0, 'address-wrong-interface'),
        'compare': (0, 'compatible'), 'complete': (0, 'complete'), 'drain': (2, 'web1'),
        'explain': (1, 'compute3'), 'hosts': (1, 'compute3'), 'ledger': (0, ''), 'matrix': (1, 'compute3'),
        # There is no libvirt here: tests/lab/test_rehearse.py has one.
        'rehearse': (255, 'nova-compute has not been started on this host yet')}
# Those that ask about hosts that are well, and the real checks.
SAYS_OF = {'check --only address,transport --target compute2': (1, 'compute2'),
           'check --only transport --target compute2 --connect compute2-mig': (1, 'compute2-mig'),
           # There is no nova-conductor here: tests/functional/test_disk_files.py has one.
           'check --server web1': (255, 'nova-conductor cannot be asked about the server'),
           'check --only endpoint': (1, 'http://127.0.0.1:9 refuses connections'), 'check --only storage': (1, 'instances'),
           'drain compute1 --commands': (2, ''),  # nothing can go where placement cannot be asked
           'explain web1 --host compute2': (1, 'avx512f'), 'hosts compute1': (0, 'compute1'), 'hosts -f json compute1': (0, 'compute1')}


@pytest.mark.parametrize('line', LINES)
def test_line(line, three, nova_conf, tmp_path, cpu_map):
    typed, _, written = line.partition(' > ')
    words = [INSTEAD.get(word, word) for word in shlex.split(typed)[1:]]
    # Files are the test's own.
    files = {word: tmp_path / pathlib.Path(word).name for word in words if word == 'FILE' or re.search(r'\.[a-z]+$', word)}
    for path in files.values():
        if path.suffix == '.xml':
            path.write_text(XML.get(path.stem, HOST))
        if path.suffix == '.jsonl':
            path.write_text('')
    words = [str(files.get(word, word)) for word in words]
    name = words[0]
    if name in ('baseline', 'compare'):
        words.append(cpu_map)
    if name == 'check':
        with open(nova_conf.partition('=')[2], 'a') as file:
            file.write('[neutron]\nendpoint_override = http://127.0.0.1:9\n')
        words.append(nova_conf)
    elif name == 'rehearse':
        words.append(nova_conf)
    elif not (files and name in ('baseline', 'compare')) and name != 'complete':
        words.append(conf(three))
    running = Piped(tmp_path, *words, **test_check.script(tmp_path, [test_check.DEAD], {'compute2': []}))
    if '--watch' in words:
        running.wait_for(lambda: 'refused' in (tmp_path / 'stdout').read_text())
        running.signal(signal.SIGINT)
    ran = running.end()
    key = ' '.join('web1' if word == UUIDS['web1'] else word for word in words if not word.startswith('--config'))
    code, says = SAYS_OF.get(key, SAYS[name])
    out = [
        path.read_text() for word, path in files.items() if path.suffix != '.xml' and path.exists()
    ] or [ran.out or ran.err]
    assert (ran.code, says in out[0]) == (code, True), (ran, out)
    assert 'Traceback' not in ran.err
    assert not written or name == 'complete'
