# SPDX-License-Identifier: Apache-2.0
"""CPU definitions: read, and what they mean."""

from __future__ import annotations

import dataclasses

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from nova_migcheck.cpu import Cpu
from nova_migcheck.cpu import definition as cpuguest
from nova_migcheck.cpu import xml as cpuxml
from nova_migcheck.cpu.models import CpuMap
from nova_migcheck.cpu.population import GuestCpus, guest_by_default

ON_A_BUSY_MACHINE = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
MODELS = {'486': {'fpu', 'vme', 'pse'}, 'Haswell': {'fpu', 'avx2', 'hle', 'rtm'}}


def expand(model: str, arch: str) -> frozenset[str]:
    try:
        return frozenset(MODELS[model])
    except KeyError:
        raise cpuguest.UnknownModel(f'no model {model}') from None


def features(*policies: str) -> str:
    return ''.join('<feature policy="{}" name="{}"/>'.format(*text.split()) for text in policies)


def domain(cpu: str, virt: str = 'kvm', clock: str = '') -> str:
    return f"<domain type='{virt}'><os><type arch='x86_64'>hvm</type></os>{clock}{cpu}</domain>"


HOST = Cpu('x86_64', 'kvm', 'Intel', 'Haswell', frozenset({'fpu', 'avx2', 'sse2', 'invtsc'}), tsc_hz=2_400_000_000,
           tsc_scaling=False, libvirt=9_000_000)


def guest(xml: str, own_host: Cpu | None = HOST) -> Cpu:
    return cpuguest.guest(cpuxml.parse_definition(xml), expand, own_host)


def test_a_custom_guest() -> None:
    found = guest(domain('<cpu mode="custom" match="exact" check="full"><model>Haswell</model><vendor>Intel</vendor>' + features(
        'disable hle', 'optional rtm', 'require aes', 'force svm', 'forbid vme') + '</cpu>'))
    assert found.features == {'fpu', 'avx2', 'aes'}  # K4: what is disabled is not needed
    assert (found.arch, found.virt, found.vendor, found.model, found.tsc_hz) == ('x86_64', 'kvm', 'Intel', 'Haswell', None)


def test_a_running_guest_has_not_what_it_forbids() -> None:
    """And a target may have it: libvirt looks at that when a guest starts, not when it comes."""
    cpu = '<cpu mode="custom" match="strict"><model>Haswell</model>' + features('forbid hle') + '</cpu>'
    found = guest(domain(cpu))
    assert 'hle' not in found.features
    assert (found.forbids, found.at_most) == (frozenset(), None)
    found = guest(cpu)
    assert 'hle' in found.features  # as libvirt compares it: never satisfied
    assert found.forbids == {'hle'}
    assert found.at_most is not None and found.features <= found.at_most


def test_a_host_passthrough_guest() -> None:
    assert guest(domain('<cpu mode="host-passthrough" check="none" migratable="on"/>')).features == {'fpu', 'avx2', 'sse2'}
    assert guest(domain('<cpu mode="maximum"/>')).vendor == 'Intel'
    found = guest(domain('<cpu mode="host-passthrough">' + features('disable sse2', 'require invtsc') + '</cpu>'))
    assert found.features == {'fpu', 'avx2', 'invtsc'}
    assert found.tsc_hz == HOST.tsc_hz
    assert 'invtsc' in guest(domain('<cpu mode="host-passthrough" migratable="off"/>')).features
    for mode in ('host-passthrough', 'maximum', 'host-model'):
        with pytest.raises(cpuxml.Undefined, match=mode):
            guest(domain(f'<cpu mode="{mode}"/>'), None)


def test_a_fixed_tsc_frequency() -> None:
    clock = "<clock><timer name='rtc'/><timer name='tsc' frequency='2000000000'/></clock>"
    assert guest(domain('<cpu><model>486</model></cpu>', clock=clock)).tsc_hz == 2_000_000_000
    assert guest(domain('<cpu><model>486</model></cpu>', 'qemu', clock)).tsc_hz is None
    assert guest(domain('<cpu><model>486</model></cpu>')).tsc_hz is None


def test_a_guest_that_libvirt_did_not_verify() -> None:
    """cpu_mode=none with an older libvirt: QEMU left out what the host lacks, and the XML does not tell."""
    assert guest(domain('<cpu check="none"><model>Haswell</model></cpu>')).features == {'fpu', 'avx2'}
    assert guest(domain('<cpu check="full"><model>Haswell</model></cpu>')).features == {'fpu', 'avx2', 'hle', 'rtm'}


def test_topoext_comes_with_kvm() -> None:
    """An EPYC guest's live XML requires it, and no domain capabilities list it."""
    cpu = '<cpu><model>486</model>' + features('require topoext') + '</cpu>'
    assert 'topoext' not in guest(domain(cpu)).features
    assert 'topoext' in guest(domain(cpu, 'qemu')).features


def spelled(cpu: str, added: object = None, asked: object = None) -> set[str]:
    definition = cpuxml.parse_definition(domain(cpu))
    return set(cpuguest.spelled(definition, expand, added, asked))  # type: ignore[arg-type]


def test_the_names_in_a_definition() -> None:
    """What not every libvirt knows of its model and of features, whatever is said of them."""
    every = (
        '<cpu mode="custom"><model>{}</model>'
        + features(*(f'{policy} {policy}-new' for policy in cpuxml.POLICIES), 'require avx')
        + '</cpu>'
    )
    assert spelled(every.format('486')) == {f'{policy}-new' for policy in cpuxml.POLICIES}
    assert guest(domain(every.format('486'))).spelled == spelled(every.format('486'))
    assert (
        spelled(
            '<cpu mode="custom"><model>Haswell</model>'
            + features('disable arch-facilities', 'require cqm')
            + '</cpu>'
        )
        == set()
    )
    # Of a host-passthrough guest too; it names no model of its own.
    assert spelled(
        '<cpu mode="host-passthrough">' + features('disable fred', 'disable avx') + '</cpu>'
    ) == {'fred'}
    assert guest(domain('<cpu mode="host-passthrough"/>')).spelled == set()
    # What belongs to the model, whoever knows that knows; of one that nobody can expand all counts.
    MODELS['Newer'] = {'fpu', 'fred', 'lam'}
    assert spelled(
        '<cpu mode="custom"><model>Newer</model>'
        + features('disable fred', 'disable sm3')
        + '</cpu>'
    ) == {'Newer', 'sm3'}
    assert spelled(
        '<cpu mode="custom"><model>Unheard</model>' + features('disable fred') + '</cpu>'
    ) == {'Unheard', 'fred'}
    assert (
        guest(
            f"<domain type='kvm'><os><type arch='aarch64'/></os>{every.format('486')}</domain>"
        ).spelled
        == set()
    )


def test_what_libvirt_leaves_out_of_what_it_sends() -> None:
    """Features that were added to a model later, unless the guest was asked for with them."""
    cpu = (
        '<cpu mode="custom"><model>{}</model>'
        + features('disable vmx-ept', 'require vmx-vpid', 'disable fred')
        + '</cpu>'
    )
    asked: list[str] = []

    def ask() -> frozenset[str]:
        asked.append('')
        return frozenset({'vmx-vpid'})

    added = {'Haswell': frozenset({'vmx-ept', 'vmx-vpid'}), '486': frozenset[str]()}.get
    assert spelled(cpu.format('Haswell'), added) == {'fred'}
    assert spelled(cpu.format('486'), added) == {'fred', 'vmx-ept', 'vmx-vpid'}
    assert spelled(cpu.format('486'), added, ask) and not asked
    assert spelled(cpu.format('Haswell'), added, ask) == {'fred', 'vmx-vpid'} and asked
    # Where the files are not there: all of VMX, but of a model with a version.
    assert (
        spelled(cpu.format('Haswell'))
        == spelled(cpu.format('Haswell'), lambda model: None)
        == {'fred'}
    )
    assert spelled(cpu.format('Haswell-v2')) == {'Haswell-v2', 'fred', 'vmx-ept', 'vmx-vpid'}


def test_a_host() -> None:
    xml = (
        '<domainCapabilities><domain>kvm</domain><arch>x86_64</arch><cpu><mode name="host-passthrough" supported="yes"/>'
        '<mode name="host-model" supported="yes"><model>Haswell</model><vendor>Intel</vendor>'
        + features('require invtsc', 'disable hle')
        + '</mode></cpu></domainCapabilities>'
    )
    definition = cpuxml.parse_definition(xml)
    found = cpuguest.host(definition, expand)
    assert found.features == {'fpu', 'avx2', 'rtm', 'invtsc'}
    assert (found.arch, found.virt, found.vendor) == ('x86_64', 'kvm', 'Intel')
    # As a guest: what one has there that takes the host's CPU.
    assert cpuguest.guest(definition, expand).features == {'fpu', 'avx2', 'rtm'}
    with pytest.raises(cpuxml.Undefined, match='host-model'):
        cpuxml.parse_definition(xml.replace('supported="yes"><model', 'supported="no"><model'))


def test_capabilities() -> None:
    xml = (
        "<capabilities><host><cpu><arch>x86_64</arch><model>486</model><vendor>AMD</vendor>"
        "<counter name='tsc' frequency='2445406000' scaling='{}'/><feature name='avx2'/></cpu></host></capabilities>"
    )
    found = cpuguest.host(cpuxml.parse_definition(xml.format('yes')), expand)
    assert (found.tsc_hz, found.tsc_scaling) == (2445406000, True)
    assert found.features == {'fpu', 'vme', 'pse', 'avx2'}
    assert cpuxml.parse_definition(xml.format('')).tsc_scaling is None


@pytest.mark.parametrize(
    ('xml', 'why'),
    [
        ('hello', 'not XML'),
        ('', 'not XML'),
        ('<a/>', '<a> is none of'),
        ('<cpu><feature/></cpu>', 'no name'),
        ('<cpu><feature name="avx" policy="maybe"/></cpu>', 'policy'),
        ('<cpu><feature name="avx"/><feature name="avx"/></cpu>', 'twice'),
        ('<cpu mode="what"/>', 'mode'),
        ('<cpu match="what"/>', 'match'),
        ('<!DOCTYPE cpu [<!ENTITY a "b">]><cpu/>', 'entities'),
        ('<capabilities/>', 'no <cpu>'),
        ('<domain><clock><timer name="tsc" frequency="fast"/></clock></domain>', 'TSC'),
        ('<cpu>' + ' ' * cpuxml.MAX_XML + '</cpu>', 'larger'),
    ],
)
def test_unreadable(xml: str, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        cpuxml.parse_definition(xml)


@ON_A_BUSY_MACHINE
@given(
    st.text(alphabet='<>/="\' abcpumodelfrq&;![]-\x00é', max_size=200)
    | st.builds(
        lambda *parts: ''.join(parts),
        *[
            st.sampled_from(
                [
                    '<cpu>',
                    '</cpu>',
                    '<domain type="kvm">',
                    '</domain>',
                    '<model>486</model>',
                    '<feature name="avx"/>',
                    '<os>',
                    '</os>',
                    "<type arch='x'/>",
                    '<vendor/>',
                    '<cpu mode="custom"/>',
                    '<!DOCTYPE x>',
                    '&#0;',
                    '<mode name="host-model" supported="yes"/>',
                    '<domainCapabilities>',
                    '</domainCapabilities>',
                    '<capabilities><host>',
                    '</host></capabilities>',
                ]
            )
        ]
        * 6,
    )
)
def test_hostile_xml(xml: str) -> None:
    try:
        definition = cpuxml.parse_definition(xml)
        cpuguest.guest(definition, expand, HOST)
        cpuguest.host(definition, expand)
    except (ValueError, LookupError):
        pass


@ON_A_BUSY_MACHINE
@given(
    st.frozensets(st.sampled_from(['fpu', 'vme', 'pse', 'avx2', 'sse4.1', 'a&b', 'c"d'])),
    st.sampled_from([None, 'Intel', 'A<M']),
)
def test_guest_to_xml_is_read_back(names: frozenset[str], vendor: str | None) -> None:
    cpu = Cpu('x86_64', 'kvm', vendor, None, names)
    back = guest(cpuxml.guest_to_xml(cpu), None)
    assert (back.features, back.vendor) == (cpu.features, cpu.vendor)


def test_what_most_guests_have() -> None:
    default = guest_by_default(HOST)
    assert default.features == HOST.features - {'invtsc'}
    assert default.tsc_hz is None
    older = dataclasses.replace(default, features=default.features | {'hle'})
    custom = dataclasses.replace(default, vendor=None, features=frozenset({'fpu'}))
    assert GuestCpus.gather(HOST, {}) == GuestCpus(default)
    found = GuestCpus.gather(HOST, {'a': default, 'b': older, 'c': older, 'd': None})
    assert found == GuestCpus(default, {'b': older, 'c': older, 'd': None})
    assert found.to_dict(HOST) == {
        'groups': [{'cpu': older.to_dict(), 'who': ['b', 'c']}],
        'unsaid': ['d'],
    }
    assert GuestCpus.from_dict(found.to_dict(HOST), HOST) == found
    # Configured to have a model of their own, or nobody as foretold: what most have.
    assert GuestCpus.gather(
        HOST, {'a': custom, 'b': custom, 'c': default}, from_host=False
    ) == GuestCpus(custom, {'c': default})
    assert GuestCpus(custom).to_dict(HOST) == {'default': custom.to_dict()}
    assert GuestCpus.from_dict({'default': custom.to_dict()}, HOST) == GuestCpus(custom)
    assert GuestCpus.gather(HOST, {'a': custom, 'b': custom, 'c': older}).default == custom
    # Configured to have a model of their own, and none is there yet: whoever comes next is not foretold to have what the host gives.
    nothing = GuestCpus.gather(HOST, {'d': None}, from_host=False)
    assert nothing == GuestCpus(None, {'d': None})
    assert nothing.to_dict(HOST) == {'default': None, 'unsaid': ['d']}
    assert GuestCpus.from_dict(nothing.to_dict(HOST), HOST) == nothing
    # A guest of another type says nothing of what guests here have.
    assert (
        GuestCpus.gather(HOST, {'a': dataclasses.replace(custom, virt='qemu')}).default == default
    )
    # A guest that differs only in the names in its definition counts as foretold.
    spelling = dataclasses.replace(default, spelled=frozenset({'fred'}))
    assert GuestCpus.gather(HOST, {'a': spelling, 'b': older, 'c': older}) == GuestCpus(
        spelling, {'b': older, 'c': older}
    )
    assert (
        GuestCpus.gather(HOST, {'a': spelling, 'b': older, 'c': older, 'd': default}).default
        == default
    )
    assert (
        GuestCpus.gather(HOST, {'a': spelling, 'b': older, 'c': older}, from_host=False).default
        == older
    )
    # Who described it, and the model's name, make no other CPU.
    assert (
        GuestCpus.gather(HOST, {'a': dataclasses.replace(default, model='x', libvirt=1)}).named
        == {}
    )


@pytest.mark.parametrize(
    'value',
    [
        None,
        [],
        {'default': 1},
        {'groups': 1},
        {'groups': [1]},
        {'groups': [{'who': ['a']}]},
        {'groups': [{'cpu': HOST.to_dict(), 'who': [1]}]},
        {'unsaid': 'a'},
    ],
)
def test_what_is_no_guests(value: object) -> None:
    with pytest.raises(ValueError):
        GuestCpus.from_dict(value, HOST)


def test_the_files_of_libvirt(tmp_path: object) -> None:
    import pathlib

    directory = pathlib.Path(str(tmp_path))
    (directory / 'index.xml').write_text(
        "<cpus><arch name='x86'><include filename='f.xml'/><group name='g'><include filename='m.xml'/></group>"
        "<include filename='n.xml'/></arch></cpus>"
    )
    (directory / 'f.xml').write_text(
        "<cpus><feature name='fpu'/><feature name='pni'><alias name='sse3'/></feature></cpus>"
    )
    (directory / 'm.xml').write_text(
        "<cpus><model name='older'><feature name='fpu'/><feature name='mpx'/></model>"
        "<model name='old'><model name='older'/><feature name='mpx' removed='yes'/></model></cpus>"
    )
    (directory / 'n.xml').write_text(
        "<cpus><model name='new'><model name='old'/><vendor name='Intel'/>"
        "<feature name='pni'/><feature name='hle' removed='yes'/>"
        "<feature name='vmx-ept' added='yes'/></model></cpus>"
    )
    cpu_map = CpuMap(directory)
    assert cpu_map.models('x86_64') == ['older', 'old', 'new']
    assert cpu_map.expand('new', 'x86_64') == {'fpu', 'pni'}
    assert cpu_map.names('i686') == {'fpu', 'pni', 'sse3'}
    with pytest.raises(OSError):
        cpu_map.features()
    (directory / 'x86_features.xml').write_text((directory / 'f.xml').read_text())
    (directory / 'x86_new.xml').write_text((directory / 'n.xml').read_text())
    assert cpu_map.features() == {'fpu', 'pni'}
    assert (cpu_map.added('new'), cpu_map.added('old'), cpu_map.added('../x86_new')) == (
        {'vmx-ept'},
        None,
        None,
    )
    assert (cpu_map.vendor('new', 'x86_64'), cpu_map.vendor('old', 'x86_64')) == ('Intel', None)
    with pytest.raises(cpuguest.UnknownModel, match='does not know the x86_64 CPU model Skylake'):
        cpu_map.expand('Skylake', 'x86_64')
    # Up to libvirt 10.9 all models are compared by these files, since then those that are marked.
    assert [cpu_map.decides(name, 'x86_64') for name in ('old', 'new', 'unknown')] == [
        True,
        True,
        False,
    ]
    (directory / 'n.xml').write_text(
        (directory / 'n.xml').read_text().replace("<vendor", "<check partial='compat'/><vendor")
    )
    marked = CpuMap(directory)
    assert [marked.decides(name, 'x86_64') for name in ('old', 'new', 'unknown')] == [
        False,
        True,
        False,
    ]
    absent = CpuMap(directory / 'absent')
    assert not absent.decides('486', 'x86_64')
    assert absent.names('x86_64') == frozenset()
    with pytest.raises(cpuguest.UnknownModel, match='no CPU models of libvirt at'):
        absent.expand('486', 'x86_64')
    (directory / 'index.xml').write_text('<broken')
    with pytest.raises(cpuguest.UnknownModel, match='not readable'):
        CpuMap(directory).expand('486', 'x86_64')
