# SPDX-License-Identifier: Apache-2.0
"""Each field of a definition, from each of the documents that have it."""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree

import pytest

from nova_migcheck.cpu import Cpu
from nova_migcheck.cpu import xml as cpuxml
from nova_migcheck.cpu.xml import Definition, Model

CAPABILITIES = """<domainCapabilities><domain>kvm</domain><arch>x86_64</arch><cpu>
  <mode name="host-passthrough" supported="yes"/>
  <mode name="host-model" supported="{host_model}"><model>Haswell</model></mode>
  <mode name="custom" supported="{custom}">
    <model usable="yes"> 486 </model><model usable="no">Haswell</model><model>odd</model>
    <blockers model="Haswell"><feature name="hle"/><feature name="rtm"/></blockers>
  </mode></cpu></domainCapabilities>"""


def read(xml: str, **values: str) -> Definition:
    return cpuxml.parse_definition(xml.format(**values) if values else xml)


def test_a_cpu_of_which_little_is_said() -> None:
    assert read('<cpu/>') == Definition('cpu')
    found = Definition('cpu')
    assert (found.mode, found.match, found.check) == ('custom', 'exact', '')
    assert found.migratable and found.fallback and not found.live and found.models == ()


@pytest.mark.parametrize(
    'xml, field, value',
    [
        ('<cpu><arch>i686</arch></cpu>', 'arch', 'i686'),
        ('<cpu><arch>  </arch></cpu>', 'arch', None),
        ('<cpu mode="host-model"/>', 'mode', 'host-model'),
        ('<cpu mode="maximum"/>', 'mode', 'maximum'),
        ('<cpu mode="host-passthrough"/>', 'mode', 'host-passthrough'),
        ('<cpu mode="custom"/>', 'mode', 'custom'),
        ('<cpu match="minimum"/>', 'match', 'minimum'),
        ('<cpu match="strict"/>', 'match', 'strict'),
        ('<cpu match="exact"/>', 'match', 'exact'),
        ('<cpu check="partial"/>', 'check', 'partial'),
        ('<cpu check="partial"/>', 'live', False),
        ('<cpu check="full"/>', 'live', True),
        ('<cpu migratable="off"/>', 'migratable', False),
        ('<cpu migratable="on"/>', 'migratable', True),
        ('<cpu><model fallback="forbid">486</model></cpu>', 'fallback', False),
        ('<cpu><model fallback="allow">486</model></cpu>', 'fallback', True),
        ('<cpu><model> 486 </model></cpu>', 'model', '486'),
        ('<cpu><vendor>AMD</vendor></cpu>', 'vendor', 'AMD'),
        ('<cpu><feature name="avx"/></cpu>', 'features', (('avx', 'require'),)),
        ('<cpu><feature name="avx" policy="force"/></cpu>', 'features', (('avx', 'force'),)),
        ("<cpu><counter name='tsc' frequency='1' scaling='no'/></cpu>", 'tsc_scaling', False),
        ("<cpu><counter name='tsc' frequency='1' scaling='yes'/></cpu>", 'tsc_scaling', True),
        ("<cpu><counter name='tsc' frequency='1'/></cpu>", 'tsc_scaling', None),
        ("<cpu><counter name='tsc' frequency='999999999999'/></cpu>", 'tsc_hz', 999999999999),
        ("<cpu><counter name='hpet' frequency='1'/></cpu>", 'tsc_hz', None),
        ("<cpu><counter name='tsc'/></cpu>", 'tsc_hz', None),
        ('<domain/>', 'live', False),
        ('<domain id="0"/>', 'live', True),
        ('<domain><cpu check="full"/></domain>', 'live', True),
        ('<domain type="qemu"/>', 'virt', 'qemu'),
        ('<domain/>', 'virt', None),
        ('<domain><os><type arch="aarch64"/></os></domain>', 'arch', 'aarch64'),
        ('<domain><os><type/></os><cpu><arch>i686</arch></cpu></domain>', 'arch', 'i686'),
        ('<domain><cpu><arch>i686</arch></cpu></domain>', 'arch', 'i686'),
        (
            "<domain><cpu><counter name='tsc' frequency='1' scaling='yes'/></cpu></domain>",
            'tsc_hz',
            None,
        ),
        (
            "<domain><cpu><counter name='tsc' frequency='1' scaling='yes'/></cpu></domain>",
            'tsc_scaling',
            None,
        ),
        ("<domain><clock><timer name='tsc' frequency='7'/></clock></domain>", 'tsc_hz', 7),
        ("<domain><clock><timer name='rtc' frequency='7'/></clock></domain>", 'tsc_hz', None),
        ('<capabilities><host><cpu><model>486</model></cpu></host></capabilities>', 'model', '486'),
    ],
)
def test_a_field(xml: str, field: str, value: object) -> None:
    found = read(xml)
    assert getattr(found, field) == value
    assert xml.startswith(f'<{found.document}')


@pytest.mark.parametrize('hertz', ['0', '000', '1234567890123', '-1', '1.5', ' 1', 'x'])
def test_what_is_no_frequency(hertz: str) -> None:
    with pytest.raises(ValueError, match='TSC frequency'):
        read(f"<domain><clock><timer name='tsc' frequency='{hertz}'/></clock></domain>")


def test_domain_capabilities() -> None:
    found = read(CAPABILITIES, host_model='yes', custom='yes')
    assert (found.document, found.arch, found.virt, found.model) == (
        'domainCapabilities',
        'x86_64',
        'kvm',
        'Haswell',
    )
    assert found.models == (
        Model('486', 'yes', frozenset()),
        Model('Haswell', 'no', frozenset({'hle', 'rtm'})),
        Model('odd', 'unknown', frozenset()),
    )
    assert read(CAPABILITIES, host_model='yes', custom='no').models == ()
    assert (
        read(
            '<domainCapabilities><cpu><mode name="host-model" supported="yes"/></cpu>'
            '</domainCapabilities>'
        ).models
        == ()
    )


@pytest.mark.parametrize(
    'xml',
    [
        '<domainCapabilities/>',
        CAPABILITIES.format(host_model='no', custom='yes'),
        '<domainCapabilities><cpu><mode name="host-model"/></cpu></domainCapabilities>',
    ],
)
def test_domain_capabilities_without_the_host_s_cpu(xml: str) -> None:
    with pytest.raises(cpuxml.Undefined):
        read(xml)


@pytest.mark.parametrize(
    'xml, takes',
    [
        ('<cpu mode="host-passthrough"/>', True),
        ('<domain><cpu mode="host-model"/></domain>', True),
        ('<cpu/>', False),
        ('<domain/>', False),
        ('<capabilities><host><cpu mode="host-model"/></host></capabilities>', False),
    ],
)
def test_who_takes_the_cpu_of_the_host(xml: str, takes: bool) -> None:
    assert read(xml).takes_hosts_cpu is takes


def test_features_by_policy() -> None:
    found = Definition('cpu', features=tuple((f'f{one}', one) for one in cpuxml.POLICIES))
    assert found.all_named == {f'f{one}' for one in cpuxml.POLICIES}
    assert set(cpuxml.POLICIES) == {'force', 'require', 'optional', 'disable', 'forbid'}
    assert (
        found.named('require', 'force') == {'frequire', 'fforce'} and found.named() == frozenset()
    )


def test_a_document_of_the_largest_size() -> None:
    assert 2**20 < cpuxml.MAX_XML < 2**24
    xml = '<cpu>' + ' ' * (cpuxml.MAX_XML - len('<cpu></cpu>')) + '</cpu>'
    assert read(xml).document == 'cpu'
    with pytest.raises(ValueError, match='larger'):
        read(xml + ' ')


@pytest.mark.parametrize('declared', ['<!DOCTYPE a>', '<! doctype a>', '<!ENTITY a "b">'])
def test_declarations_are_not_read(declared: str) -> None:
    with pytest.raises(ValueError, match='entities'):
        cpuxml.parse(f'{declared}<cpu/>')


def written(xml: str) -> tuple[dict, dict]:
    """Return what a written <cpu> says: its attributes with model, and its features."""
    root = ElementTree.fromstring(xml)
    model = root.find('model')
    said = {**root.attrib, 'vendor': root.findtext('vendor'), 'arch': root.findtext('arch')}
    if model is not None:
        said.update(model=model.text, **model.attrib)
    return said, {one.get('name'): one.get('policy') for one in root.findall('feature')}


def test_a_guest_is_written_from_the_smallest_model() -> None:
    cpu = Cpu(
        'x86_64',
        'kvm',
        'A<M',
        'Haswell',
        frozenset({'fpu', 'a&b'}),
        forbids=frozenset({'svm'}),
        at_most=frozenset({'fpu', 'a&b', 'avx', 'vme'}),
    )
    said, features = written(cpuxml.guest_to_xml(cpu))
    assert said == {
        'mode': 'custom',
        'match': 'strict',
        'vendor': 'A<M',
        'arch': None,
        'model': '486',
        'fallback': 'forbid',
    }
    assert features == {
        'a&b': 'require',
        'fpu': 'require',
        'avx': 'optional',
        'vme': 'disable',
        'pse': 'disable',
        'svm': 'forbid',
    }
    said, features = written(
        cpuxml.guest_to_xml(Cpu('x86_64', 'kvm', None, None, frozenset({'pse'})))
    )
    assert said['match'] == 'exact' and said['vendor'] is None
    assert features == {'fpu': 'disable', 'vme': 'disable', 'pse': 'require'}


def test_a_guest_of_another_architecture_has_its_model() -> None:
    said, features = written(cpuxml.guest_to_xml(Cpu('aarch64', 'kvm', None, 'a<57', frozenset())))
    assert said['model'] == 'a<57' and features == {}
    assert (
        written(cpuxml.guest_to_xml(Cpu('aarch64', 'kvm', None, None, frozenset())))[0]['model']
        is None
    )


def test_what_only_names_features() -> None:
    said, features = written(cpuxml.naming(None, ['a"b', 'avx']))
    assert (said['mode'], said['match'], said['model'], said['fallback']) == (
        'custom',
        'exact',
        '486',
        'forbid',
    )
    assert features == {'a"b': 'optional', 'avx': 'optional'}
    assert written(cpuxml.naming('Has&well', []))[0]['model'] == 'Has&well'


def test_a_host_with_only_a_model() -> None:
    assert (
        cpuxml.host_to_xml('x86_64', 'a>b') == '<cpu><arch>x86_64</arch><model>a&gt;b</model></cpu>'
    )


def test_a_host_s_definition_as_a_guest_s() -> None:
    said, features = written(
        cpuxml.as_custom(
            Definition(
                'cpu',
                mode='host-model',
                model='Haswell',
                vendor='Intel',
                features=(('avx', 'disable'),),
            )
        )
    )
    assert said == {
        'mode': 'custom',
        'match': 'exact',
        'vendor': 'Intel',
        'arch': None,
        'model': 'Haswell',
        'fallback': 'forbid',
    }
    assert features == {'avx': 'disable'}
    assert cpuxml.as_custom(Definition('cpu')) == '<cpu mode="custom" match="exact"></cpu>'
