# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

import json
import logging
import pathlib
import re
from typing import Any, Callable

import pytest

from nova_migcheck.cli import main
from tests.cli.schemas import valid

FEATURES = ('fpu', 'vme', 'pse', 'sse2', 'pni', 'avx', 'avx512f', 'invtsc', 'arch-capabilities', 'osxsave')
MODELS = {'486': ('', 'fpu vme pse'), 'qemu64': ('', 'fpu sse2'), 'Small': ('', 'fpu sse2'),
          'Big': ('Intel', 'fpu sse2 pni avx'),
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
        found = valid('compare', json.loads(capsys.readouterr().out))
        del found['findings']  # tests/cli/test_compare.py
        return code, found
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


DOCUMENTS = pathlib.Path(__file__).parent / 'documents'


@pytest.mark.parametrize(
    ('guest', 'target', 'reason'),
    [
        # What real migrations from libvirt 11.3 to 9.0 were refused for.
        (
            'model',
            'libvirt-9.0-kvm',
            'does not offer CPU model EPYC-v4: its libvirt or its QEMU does not know it',
        ),
        (
            'disabled-name',
            'libvirt-9.0-tcg',
            'has a libvirt that does not know CPU feature cmpccxadd of the guest: the CPU models that it offers are '
            'those of libvirt 9.0.0',
        ),
        (
            'required-name',
            'libvirt-9.0-tcg',
            'has a libvirt that does not know CPU feature cmpccxadd of the guest: the CPU models that it offers are '
            'those of libvirt 9.0.0',
        ),
    ],
)
def test_names_that_the_targets_libvirt_does_not_know(
    compare: Any, guest: str, target: str, reason: str
) -> None:
    found = compare(
        (DOCUMENTS / f'{guest}.xml').read_text(), (DOCUMENTS / f'{target}.xml').read_text()
    )
    assert found == (1, {'outcome': 'incompatible', 'missing': [], 'reason': reason})
    # The libvirt of this target knows them, so features count, which the models here do not tell.
    _code, found = compare(
        (DOCUMENTS / f'{guest}.xml').read_text(),
        (DOCUMENTS / 'libvirt-11.3-epyc-rome.xml').read_text(),
    )
    assert guest == 'model' or 'does not know the x86_64 CPU model' in found['reason']


def offering(*models: str, features: str = '') -> str:
    """Domain capabilities with usable models, and with ``MODEL=blocker,...`` which are not."""
    custom = ''
    for model, _, blockers in (word.partition('=') for word in models):
        custom += f"<model usable='{'no' if blockers else 'yes'}' vendor='unknown'>{model}</model>"
        if blockers:
            custom += (
                f"<blockers model='{model}'>"
                + ''.join(f"<feature name='{name}'/>" for name in blockers.split(','))
                + '</blockers>'
            )
    return host(features).replace(
        '</mode>', f"</mode><mode name='custom' supported='yes'>{custom}</mode>"
    )


def bare(model: str, *features: str, fallback: str = 'forbid', attributes: str = '') -> str:
    return (
        f"<cpu mode='custom' match='exact' {attributes}><model fallback='{fallback}'>{model}</model>"
        + ''.join(feature(*reversed(text.split())) for text in features)
        + '</cpu>'
    )


def test_names_of_a_target_of_which_its_models_tell_the_release(compare: Any) -> None:
    old, new = ('486', 'EPYC-Milan', 'qemu64'), ('486-v1', 'EPYC-Milan-v1', 'qemu64-v1')
    live = DOMAIN.replace('Big', 'qemu64').replace('<vendor>Intel</vendor>', '')
    for name, target, outcome in (
        ('xfd', old, 'compatible'),
        ('its-no', old, 'incompatible'),
        ('nosuch', (*old, *new), 'incompatible'),
        ('fred', (*old, *new), 'compatible'),
        ('its-no', (*old, *new), 'unknown'),
        # Of releases that are not in the table the models here decide, as ever.
        ('avx', (*old, 'SapphireRapids'), 'compatible'),
    ):
        found = compare(live.format(feature(name, 'disable')), offering(*target))[1]
        assert (name, found['outcome']) == (name, outcome)
        assert name in found['reason'] or outcome == 'compatible'
    # What the target names itself it knows; and what belongs to the model need not be known.
    assert (
        compare(
            live.format(feature('its-no', 'disable')),
            offering(*old, features=feature('its-no', 'disable')),
        )[0]
        == 0
    )
    # libvirt does not send what was added to a model, unless the guest was asked for with it.
    assert compare(live.format(feature('vmx-ept', 'disable')), offering(*old))[0] == 0
    assert compare(bare('qemu64', 'disable vmx-ept'), offering(*old))[0] == 1
    assert compare(bare('qemu64', 'disable vmx-ept'), offering(*old, *new))[0] == 0


def test_a_model_that_is_not_offered(compare: Any) -> None:
    assert compare(DOMAIN.format(''), offering('Small'))[1]['reason'].startswith(
        'does not offer CPU model Big'
    )
    assert compare(DOMAIN.format(''), offering('Small', 'Big'))[0] == 0
    assert compare(bare('Big'), offering('Small'))[0] == 1
    assert compare(bare('Big', fallback='allow'), offering('Small'))[0] == 0  # it gets another one
    assert (
        compare(bare('Big', fallback='allow', attributes="check='full'"), offering('Small'))[0] == 1
    )  # it has this one


def test_a_definition_is_judged_by_what_the_domain_capabilities_say(compare: Any) -> None:
    rome, genoa = (
        (DOCUMENTS / f'libvirt-11.3-epyc-{name}.xml').read_text() for name in ('rome', 'genoa')
    )
    assert compare(bare('EPYC-Rome-v1'), rome) == (
        1,
        {
            'outcome': 'incompatible',
            'missing': ['xsaves'],
            'reason': (
                'lacks xsaves that the guest uses, according to its domain capabilities for CPU model '
                'EPYC-Rome-v1'
            ),
        },
    )
    assert compare(bare('EPYC-Rome-v1', 'disable xsaves'), rome)[0] == 0
    assert compare(bare('EPYC-Rome-v2', 'disable xsaves'), rome)[1]['missing'] == ['ibrs']
    assert compare(bare('Skylake-Server-v4'), genoa) == (
        0,
        {
            'outcome': 'compatible',
            'missing': [],
            'reason': 'its domain capabilities call CPU model Skylake-Server-v4 usable',
        },
    )
    assert compare(bare('Skylake-Server-v4', 'disable avx'), genoa)[0] == 0
    assert compare(bare('Skylake-Server-v2'), genoa)[1]['missing'] == ['hle', 'rtm']
    assert compare(bare('Skylake-Server-v2', 'disable hle', 'disable avx'), genoa)[1][
        'missing'
    ] == ['rtm']


def test_a_definition_that_requires_more_than_its_model(compare: Any) -> None:
    """Small is usable, or blocked; the map knows and decides about it. Newer-v1 is not in it."""
    for word in ('Small', 'Newer-v1'):
        model = word.partition('=')[0]
        assert compare(bare(model, 'require avx512f'), offering('Small', 'Newer-v1'))[1][
            'missing'
        ] == ['avx512f']
        assert (
            compare(bare(model, 'require avx', 'disable avx512f'), offering('Small', 'Newer-v1'))[0]
            == 0
        )
        assert compare(
            bare(model, 'require avx'),
            offering('Small', 'Newer-v1=pcid', features=feature('avx', 'disable')),
        )[1]['missing'] == (['avx'] if model == 'Small' else ['avx', 'pcid'])
    # Only of Newer-v1 what blocks it counts: with the map's Small libvirt compares as ever.
    assert compare(bare('Small', 'optional avx'), offering('Small=pcid', 'Newer-v1'))[0] == 0
    assert compare(bare('Newer-v1', 'optional avx'), offering('Small', 'Newer-v1=pcid'))[0] == 1
    # What a running guest has, its live XML says itself.
    live = (
        DOMAIN.replace('Big', 'Small').replace('<vendor>Intel</vendor>', '').format(feature('avx'))
    )
    assert compare(live, offering('Small', features=feature('avx', 'disable')))[0] == 1
    assert (
        compare(
            live.replace("check='full'", "check='none'").replace('<domain ', "<domain id='7' "),
            offering('Small', features=feature('sse2', 'disable')),
        )[0]
        == 1
    )
    missing = offering('Small', features=feature('sse2', 'disable'))
    running = DOMAIN.replace('Big', 'Small').replace('<vendor>Intel</vendor>', '').format('')
    assert (compare(bare('Small'), missing)[0], compare(running, missing)[0]) == (0, 1)
    # Not usable, and libvirt does not say why: the map, where it knows it.
    unsaid = offering('Small', 'Newer-v1').replace("usable='yes'", "usable='no'")
    assert (
        compare(bare('Small'), unsaid)[0] == 0
        and compare(bare('Newer-v1'), unsaid)[1]['outcome'] == 'unknown'
    )


@pytest.mark.parametrize(
    'content',
    ['hello', '', '<html/>', '<!DOCTYPE x [<!ENTITY a "b">]><cpu>&a;</cpu>', '<cpu mode="x"/>'],
)
def test_unreadable(
    content: str, tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / 'bad.xml').write_text(content)
    (tmp_path / 'host.xml').write_text(host())
    for guest, target in (('bad', 'host'), ('host', 'bad'), ('absent', 'host')):
        assert (
            command(
                'compare',
                '--guest',
                f'{tmp_path}/{guest}.xml',
                '--host',
                f'{tmp_path}/{target}.xml',
            )
            == 255
        )
        shown = capsys.readouterr()
        assert shown.out == ''
        assert len(shown.err.splitlines()) == 1
        assert ('absent.xml' if guest == 'absent' else 'bad.xml') in shown.err


def test_bytes_that_are_no_text(tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / 'bad.xml').write_bytes(b'\xff\xfe<\x00')
    assert (
        command('compare', '--guest', f'{tmp_path}/bad.xml', '--host', f'{tmp_path}/bad.xml') == 255
    )
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


def test_a_command_that_cannot_be_imported(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: pathlib.Path
) -> None:
    import importlib.metadata

    monkeypatch.setattr(
        main.Commands,
        'load_commands',
        lambda self, namespace: self.commands.update(
            broken=importlib.metadata.EntryPoint(
                'broken', 'nova_migcheck.cli.broken:Broken', 'nova_migcheck.cli'
            ),
            compare=importlib.metadata.EntryPoint(
                'compare', 'nova_migcheck.cli.compare:Compare', 'nova_migcheck.cli'
            ),
        ),
    )
    assert command('broken') == 255
    assert 'Traceback' not in capsys.readouterr().err
    (tmp_path / 'host.xml').write_text(host())
    assert (
        command('compare', '--guest', f'{tmp_path}/host.xml', '--host', f'{tmp_path}/host.xml') == 0
    )


def write(tmp_path: pathlib.Path, **documents: str) -> list[str]:
    for name, text in documents.items():
        (tmp_path / f'{name}.xml').write_text(text)
    return [f'{tmp_path}/{name}.xml' for name in documents]


def test_baseline(tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]) -> None:
    files = write(
        tmp_path,
        a=host(feature('avx512f') + feature('invtsc') + feature('arch-capabilities')),
        b=host(feature('arch-capabilities') + feature('osxsave')),
    )
    assert command('baseline', *files) == 0
    assert capsys.readouterr().out.splitlines() == [
        '[libvirt]',
        'cpu_mode = custom',
        'cpu_models = Big',
        'cpu_model_extra_flags = arch-capabilities',
        f'# {files[0]} loses avx512f',
        f'# {files[1]} loses nothing',
    ]
    assert command('baseline', '-f', 'json', *files) == 0
    assert valid('baseline', json.loads(capsys.readouterr().out)) == {
        'cpu_mode': 'custom',
        'cpu_models': 'Big',
        'cpu_model_extra_flags': ['arch-capabilities'],
        'lost': {files[0]: ['avx512f'], files[1]: []},
        # Files have no machine types: tests/unit/cli/test_machinetypes.py.
        'hw_machine_type': '',
        'machine_types': [],
    }


def test_baseline_takes_a_model_that_every_host_has_wholly(
    tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
    files = write(tmp_path, a=host(), b=host(feature('avx', 'disable')))
    assert command('baseline', *files) == 0
    lines = capsys.readouterr().out.splitlines()
    assert 'cpu_models = Small' in lines
    assert 'cpu_model_extra_flags = pni' in lines


def test_no_baseline(tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert command('baseline', '-f', 'json', *write(tmp_path, a=host(), b=host(vendor='AMD'))) == 1
    reason = valid('baseline', json.loads(capsys.readouterr().out))['reason']
    assert re.search('Intel: .*a.xml; AMD: .*b.xml', reason)
    assert command('baseline', *write(tmp_path, a=host(), b=host(virt='qemu'))) == 1
    assert command('baseline', *write(tmp_path, a=host(feature('fpu', 'disable')))) == 1
    capsys.readouterr()
    for text in ('hello', host().replace('Big', 'Huge'), "<cpu mode='host-passthrough'/>"):
        assert command('baseline', *write(tmp_path, a=host(), bad=text)) == 255
        assert 'bad.xml' in capsys.readouterr().err
