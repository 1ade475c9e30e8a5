# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

import json
import logging
import pathlib
from typing import Any, Callable

import pytest

from nova_migcheck.cli import main
from tests.cli.schemas import valid

FEATURES = ('fpu', 'vme', 'pse', 'sse2', 'pni', 'avx', 'avx512f', 'invtsc', 'arch-capabilities', 'osxsave')
MODELS = {'486': ('', 'fpu vme pse'), 'Small': ('', 'fpu sse2'), 'Big': ('Intel', 'fpu sse2 pni avx'),
          'Other': ('AMD', 'fpu sse2 pni avx avx512f')}
DOMAIN = ("<domain type='kvm'><os><type arch='x86_64'>hvm</type></os><cpu mode='custom' match='exact' check='full'>"
          "<model>Big</model><vendor>Intel</vendor>{}</cpu></domain>")
CAPABILITIES = ("<domainCapabilities><domain>{virt}</domain><arch>x86_64</arch><cpu><mode name='host-model' supported='yes'>"
                "<model>Big</model><vendor>{vendor}</vendor>{features}</mode></cpu></domainCapabilities>")


def feature(name: str, policy: str = 'require') -> str:
    return f"<feature policy='{policy}' name='{name}'/>"


def host(features: str = '', vendor: str = 'Intel', virt: str = 'kvm') -> str:
    return CAPABILITIES.format(features=features, vendor=vendor, virt=virt)


@pytest.fixture(autouse=True)
def cpu_map(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> pathlib.Path:
    directory = tmp_path / 'cpu_map'
    directory.mkdir()
    models = ''.join(f"<model name='{name}'>" + (f"<vendor name='{vendor}'/>" if vendor else '')
                     + ''.join(f"<feature name='{f}'/>" for f in features.split()) + '</model>'
                     for name, (vendor, features) in MODELS.items())
    names = ''.join(f"<feature name='{name}'/>" for name in FEATURES)
    (directory / 'index.xml').write_text("<cpus><arch name='x86'><include filename='all.xml'/></arch></cpus>")
    (directory / 'all.xml').write_text(f'<cpus>{names}{models}</cpus>')
    monkeypatch.setenv('NOVA_MIGCHECK_CPU_MAP', str(directory))
    return directory


def command(*arguments: str) -> int:
    """Run the command, and leave logging as it was: cliff gives the root logger one more handler each time."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    try:
        return main.main(arguments)
    finally:
        root.handlers[:] = handlers
        root.setLevel(level)


@pytest.fixture
def compare(tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, dict[str, Any]]]:
    def run(guest: str, target: str) -> tuple[int, dict[str, Any]]:
        (tmp_path / 'guest.xml').write_text(guest)
        (tmp_path / 'host.xml').write_text(target)
        code = command('compare', '--guest', str(tmp_path / 'guest.xml'), '--host', str(tmp_path / 'host.xml'),
                          '-f', 'json')
        return code, valid('compare', json.loads(capsys.readouterr().out))
    return run


def test_compatible(compare: Any) -> None:
    assert compare(DOMAIN.format(''), host()) == (0, {'outcome': 'compatible', 'missing': [], 'reason': ''})
    assert compare(DOMAIN.format(feature('pni', 'disable')), host(feature('pni', 'disable')))[0] == 0  # K4
    assert compare(DOMAIN.format(feature('arch-facilities')), host(feature('arch-capabilities')))[0] == 0  # K12


def test_incompatible(compare: Any) -> None:
    assert compare(DOMAIN.format(feature('avx512f')), host(feature('pni', 'disable'))) == (1, {
        'outcome': 'incompatible', 'missing': ['avx512f', 'pni'], 'reason': 'lacks avx512f, pni that the guest uses'})
    code, found = compare(DOMAIN.format(''), host(vendor='AMD'))
    assert (code, found['outcome'], found['missing']) == (1, 'incompatible', [])
    assert 'AMD' in found['reason'] and 'Intel' in found['reason']
    assert compare(DOMAIN.format(''), host(virt='qemu'))[0] == 1


@pytest.mark.parametrize(('guest', 'target', 'words'), [
    (DOMAIN.format(feature('nosuch')), host(), 'nosuch'),
    (DOMAIN.format(feature('nosuch', 'disable')), host(), 'nosuch'),
    (DOMAIN.replace('Big', 'Huge').format(''), host(), 'Huge'),
    (DOMAIN.format(''), host().replace('Big', 'Huge'), 'Huge'),
    ("<cpu mode='host-passthrough'/>", host(), 'host-passthrough'),
    (DOMAIN.format(''), host().replace("supported='yes'", "supported='no'"), 'host-model'),
    ('<domain/>', host(), 'names no model'),
])
def test_unknown(compare: Any, guest: str, target: str, words: str) -> None:
    code, found = compare(guest, target)
    assert (code, found['outcome'], found['missing']) == (2, 'unknown', [])
    assert words in found['reason']


def test_a_name_that_only_the_hosts_libvirt_knows(compare: Any) -> None:
    assert compare(DOMAIN.format(feature('newest')), host(feature('newest')))[0] == 0
    assert compare(DOMAIN.format(feature('newest')), host(feature('newest', 'disable')))[1]['missing'] == ['newest']
    assert compare(DOMAIN.format(feature('avx512f') + feature('newest')), host())[1]['missing'] == ['avx512f']


def test_every_kind_of_document(compare: Any) -> None:
    element = "<cpu mode='custom' match='exact'><model>Big</model></cpu>"
    raw = ('<capabilities><host><cpu><arch>x86_64</arch><model>Big</model><vendor>Intel</vendor></cpu></host>'
           '</capabilities>')
    documents = {'cpu': element, 'domain': DOMAIN.format(''), 'domainCapabilities': host(), 'capabilities': raw}
    for guest_kind, guest in documents.items():
        for host_kind, target in documents.items():
            code, found = compare(guest, target)
            vendors = host_kind == 'cpu' and guest_kind != 'cpu'
            assert (guest_kind, host_kind, code) == (guest_kind, host_kind, 1 if vendors else 0)
            assert ('raw CPU' in found['reason']) == (host_kind == 'capabilities')
    # A guest that takes the host's CPU does not get invtsc, though the domain capabilities list it.
    assert compare(host(feature('invtsc')), host())[0] == 0
    assert compare(DOMAIN.format(feature('invtsc')), host())[0] == 1


@pytest.mark.parametrize('content', ['hello', '', '<html/>', '<!DOCTYPE x [<!ENTITY a "b">]><cpu>&a;</cpu>', '<cpu mode="x"/>'])
def test_unreadable(content: str, tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / 'bad.xml').write_text(content)
    (tmp_path / 'host.xml').write_text(host())
    for guest, target in (('bad', 'host'), ('host', 'bad'), ('absent', 'host')):
        assert command('compare', '--guest', f'{tmp_path}/{guest}.xml', '--host', f'{tmp_path}/{target}.xml') == 255
        shown = capsys.readouterr()
        assert shown.out == ''
        assert len(shown.err.splitlines()) == 1
        assert ('absent.xml' if guest == 'absent' else 'bad.xml') in shown.err


def test_bytes_that_are_no_text(tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / 'bad.xml').write_bytes(b'\xff\xfe<\x00')
    assert command('compare', '--guest', f'{tmp_path}/bad.xml', '--host', f'{tmp_path}/bad.xml') == 255
    assert 'Traceback' not in capsys.readouterr().err


def test_without_models_of_libvirt(compare: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv('NOVA_MIGCHECK_CPU_MAP', '/nowhere')
    code, found = compare(DOMAIN.format(''), host())
    assert (code, found['outcome']) == (2, 'unknown')
    assert '/nowhere' in found['reason']


def test_what_the_command_line_does_not_understand(capsys: pytest.CaptureFixture[str]) -> None:
    for arguments in (['compare'], ['nosuch'], ['compare', '--what'], ['--what']):
        assert command(*arguments) == 255
    assert command('--help') == 0
    assert command('compare', '--help') == 0


def test_a_command_that_cannot_be_imported(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
                                           tmp_path: pathlib.Path) -> None:
    import importlib.metadata

    monkeypatch.setattr(main.Commands, 'load_commands', lambda self, namespace: self.commands.update(
        broken=importlib.metadata.EntryPoint('broken', 'nova_migcheck.cli.broken:Broken', 'nova_migcheck.cli'),
        compare=importlib.metadata.EntryPoint('compare', 'nova_migcheck.cli.compare:Compare', 'nova_migcheck.cli')))
    assert command('broken') == 255
    assert 'Traceback' not in capsys.readouterr().err
    (tmp_path / 'host.xml').write_text(host())
    assert command('compare', '--guest', f'{tmp_path}/host.xml', '--host', f'{tmp_path}/host.xml') == 0


def write(tmp_path: pathlib.Path, **documents: str) -> list[str]:
    for name, text in documents.items():
        (tmp_path / f'{name}.xml').write_text(text)
    return [f'{tmp_path}/{name}.xml' for name in documents]


def test_baseline(tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]) -> None:
    files = write(tmp_path, a=host(feature('avx512f') + feature('invtsc') + feature('arch-capabilities')),
                  b=host(feature('arch-capabilities') + feature('osxsave')))
    assert command('baseline', *files) == 0
    assert capsys.readouterr().out.splitlines() == [
        '[libvirt]', 'cpu_mode = custom', 'cpu_models = Big', 'cpu_model_extra_flags = arch-capabilities',
        f'# {files[0]} loses avx512f', f'# {files[1]} loses nothing']
    assert command('baseline', '-f', 'json', *files) == 0
    assert valid('baseline', json.loads(capsys.readouterr().out)) == {
        'cpu_mode': 'custom', 'cpu_models': 'Big', 'cpu_model_extra_flags': ['arch-capabilities'],
        'lost': {files[0]: ['avx512f'], files[1]: []}}


def test_baseline_takes_a_model_that_every_host_has_wholly(tmp_path: pathlib.Path,
                                                           capsys: pytest.CaptureFixture[str]) -> None:
    files = write(tmp_path, a=host(), b=host(feature('avx', 'disable')))
    assert command('baseline', *files) == 0
    lines = capsys.readouterr().out.splitlines()
    assert 'cpu_models = Small' in lines
    assert 'cpu_model_extra_flags = pni' in lines


def test_no_baseline(tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert command('baseline', '-f', 'json', *write(tmp_path, a=host(), b=host(vendor='AMD'))) == 1
    reason = valid('baseline', json.loads(capsys.readouterr().out))['reason']
    assert 'a.xml has Intel' in reason and 'b.xml has AMD' in reason
    assert command('baseline', *write(tmp_path, a=host(), b=host(virt='qemu'))) == 1
    assert command('baseline', *write(tmp_path, a=host(feature('fpu', 'disable')))) == 1
    capsys.readouterr()
    for text in ('hello', host().replace('Big', 'Huge'), "<cpu mode='host-passthrough'/>"):
        assert command('baseline', *write(tmp_path, a=host(), bad=text)) == 255
        assert 'bad.xml' in capsys.readouterr().err
