# SPDX-License-Identifier: Apache-2.0
"""Our verdict about a CPU is libvirt's, and so are the names: against a real libvirtd."""

from __future__ import annotations

import dataclasses
import pathlib
import random
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from typing import Any, Iterator

import pytest

from nova_migcheck import cpu
from nova_migcheck.checks.base import Fact, Keep, Settings
from nova_migcheck.checks.cpu import CpuCheck
from nova_migcheck.cpu import definition as cpuguest
from nova_migcheck.cpu import hypervisor, offered
from nova_migcheck.cpu import names as cpunames
from nova_migcheck.cpu import xml as cpuxml
from nova_migcheck.cpu.models import CpuMap
from nova_migcheck.cpu.population import guest_by_default
from nova_migcheck.cpu.releases import RELEASES
from nova_migcheck.finding import Finding, Outcome
from tests.lab import libvirtd

pytestmark = [pytest.mark.root, pytest.mark.libvirt,
              pytest.mark.skipif(bool(libvirtd.missing()), reason=libvirtd.missing() or '-')]

KVM = pytest.param('kvm', marks=pytest.mark.skipif(not libvirtd.has_kvm(), reason='no usable /dev/kvm'))
RANDOM_DEFINITIONS = 700  # for each virt type

GUEST = """<domain type='{virt}'><name>{name}</name><memory unit='MiB'>32</memory><vcpu>1</vcpu>
<os><type arch='x86_64' machine='pc'>hvm</type></os>{cpu}{clock}
<devices><emulator>/usr/bin/qemu-system-x86_64</emulator><controller type='usb' model='none'/>
<memballoon model='none'/></devices></domain>"""
# QEMU cannot start a guest with arch-capabilities under the nested KVM of some test machines.
NO_ARCH_CAPABILITIES = "<feature policy='disable' name='arch-capabilities'/>"


@pytest.fixture(scope='module')
def cache(tmp_path_factory: pytest.TempPathFactory) -> Any:
    return tmp_path_factory.mktemp('libvirt') / 'cache'


@pytest.fixture(scope='module')
def node(cache: Any) -> Iterator[libvirtd.Libvirtd]:
    with libvirtd.Libvirtd('node1', cache=cache) as daemon:
        yield daemon


@pytest.fixture(scope='module')
def conn(node: libvirtd.Libvirtd) -> Any:
    return node.connect()


@pytest.fixture(scope='module')
def lesser() -> Iterator[libvirtd.Libvirtd]:
    """A node whose QEMU lacks features that every QEMU has otherwise."""
    with libvirtd.Libvirtd('node2', without=['clflush', 'sse2']) as daemon:
        yield daemon


def start(conn: Any, virt: str, definition: str, name: str = 'guest', clock: str = '') -> Any:
    """Start a guest, paused: nothing of it is looked at but what libvirt says."""
    import libvirt
    return conn.createXML(GUEST.format(virt=virt, cpu=definition, name=name, clock=clock), libvirt.VIR_DOMAIN_START_PAUSED)


def custom(model: str) -> str:
    return f"<cpu mode='custom' match='exact'><model fallback='forbid'>{model}</model></cpu>"


def by_the_map(xml: str) -> str:
    """The definition, put so that libvirt compares it by its CPU map.

    Since 10.10 compareHypervisorCPU accepts a definition that requires no feature if QEMU calls its
    model usable, whatever else it says. So one is required, which every host has. (Models about which
    the map does not decide are compared by what blocks them: test_bare_models.)
    """
    element = ElementTree.fromstring(xml)
    said = {feature.get('name') for feature in element.findall('feature')}
    name = next(name for name in ('cx8', 'msr', 'tsc', 'pae') if name not in said)
    ElementTree.SubElement(element, 'feature', policy='require', name=name)
    return ElementTree.tostring(element, encoding='unicode')


def decided_by_the_map(conn: Any) -> list[str]:
    cpu_map = CpuMap()
    return [
        model for model in conn.getCPUModelNames('x86_64', 0) if cpu_map.decides(model, 'x86_64')
    ]


def ours(conn: Any, xml: str, virt: str, host: cpu.Cpu, expand: cpuguest.Expand) -> cpu.Comparison:
    definition = dataclasses.replace(cpuxml.parse_definition(xml), arch='x86_64', virt=virt)
    return cpu.compare(cpuguest.guest(definition, expand, libvirt=host.libvirt), host)


@pytest.mark.parametrize('virt', [KVM, 'qemu'])
def test_every_model(conn: Any, virt: str) -> None:
    host = hypervisor.host_cpu(conn, virt)
    cpu_map = CpuMap()
    models = decided_by_the_map(conn)
    outcomes = set()
    for expand in (hypervisor.expander(conn), cpu_map.expand):
        for model in models:
            xml = by_the_map(custom(model))
            theirs = hypervisor.ask_hypervisor(conn, xml, virt, 'x86_64')
            found = ours(conn, xml, virt, host, expand)
            assert (model, found.outcome, found.missing) == (model, theirs.outcome, theirs.missing)
            outcomes.add(found.outcome)
    assert len(models) > 50
    assert outcomes == {cpu.COMPATIBLE, cpu.INCOMPATIBLE}


@pytest.mark.parametrize('virt', [KVM, 'qemu'])
def test_random_definitions(conn: Any, virt: str) -> None:
    """Policies, vendors, matches and features at random, half of them near to the host's own CPU."""
    host = hypervisor.host_cpu(conn, virt)
    expand = hypervisor.expander(conn)
    chance = random.Random(f'nova-migcheck {virt}')
    count = {cpu.COMPATIBLE: 0, cpu.INCOMPATIBLE: 0}
    named = 0
    for definition in definitions(conn, virt, chance):
        theirs = hypervisor.ask_hypervisor(conn, definition, virt, 'x86_64')
        found = ours(conn, definition, virt, host, expand)
        assert (definition, found.outcome, found.missing) == (
            definition,
            theirs.outcome,
            theirs.missing,
        )
        count[found.outcome] += 1
        named += bool(found.missing)
    assert sum(count.values()) == RANDOM_DEFINITIONS
    assert count[cpu.COMPATIBLE] > RANDOM_DEFINITIONS // 10
    assert named > RANDOM_DEFINITIONS // 10


@pytest.mark.parametrize('virt', [KVM, 'qemu'])
def test_guest_to_xml_means_the_same_to_libvirt(conn: Any, virt: str) -> None:
    expand = hypervisor.expander(conn)
    chance = random.Random(f'as XML {virt}')
    asked = 0
    texts = [
        *definitions(conn, virt, chance),
        *(by_the_map(custom(model)) for model in decided_by_the_map(conn)),
    ]
    for text in texts:
        definition = dataclasses.replace(cpuxml.parse_definition(text), arch='x86_64', virt=virt)
        guest = cpuguest.guest(definition, expand)
        if guest.forbids & guest.features:
            continue  # forbids what its own model has: no guest ever ran so
        asked += 1
        real = hypervisor.ask_hypervisor(conn, text, virt, 'x86_64')
        again = hypervisor.ask_hypervisor(conn, guest)
        assert (text, again.outcome, again.missing) == (text, real.outcome, real.missing)
    assert asked > RANDOM_DEFINITIONS * 9 // 10


def definitions(conn: Any, virt: str, chance: random.Random) -> Iterator[str]:
    models = decided_by_the_map(conn)
    # No aliases: libvirt takes its own spelling only.
    names = sorted(cpunames.canonical(CpuMap().names('x86_64')))
    own = cpuxml.parse_definition(conn.getDomainCapabilities(None, 'x86_64', None, virt, 0))
    if own.model not in models:
        own = dataclasses.replace(own, model='qemu64')
    for number in range(RANDOM_DEFINITIONS):
        element = ElementTree.fromstring(
            cpuxml.as_custom(own) if number % 2 else custom(chance.choice(models))
        )
        element.set('match', chance.choices(['exact', 'minimum', 'strict'], [8, 1, 1])[0])
        features = {feature.get('name'): feature for feature in element.findall('feature')}
        for name in chance.sample(names, chance.choice([0, 0, 1, 3, 10])):
            policy = chance.choices(
                ['require', 'disable', 'optional', 'force', 'forbid'], [4, 4, 4, 4, 1]
            )[0]
            if name in features:
                features[name].set('policy', policy)
            else:
                ElementTree.SubElement(element, 'feature', policy=policy, name=name)
        if element.find('vendor') is None and chance.random() < 0.3:
            vendor = ElementTree.Element('vendor')
            vendor.text = chance.choice(['Intel', 'AMD', 'Hygon'])
            element.insert(1, vendor)
        yield by_the_map(ElementTree.tostring(element, encoding='unicode'))


@pytest.mark.parametrize('virt', [KVM, 'qemu'])
def test_bare_models(conn: Any, virt: str) -> None:
    """The domain capabilities say what becomes of a definition that no guest runs with yet.

    libvirt 11.3 says the same as we. libvirt 9.0 does not, and starts those that QEMU calls usable.
    """
    host = cpuxml.parse_definition(conn.getDomainCapabilities(None, 'x86_64', 'pc', virt, 0))
    by_usability = conn.getLibVersion() >= 10_010_000
    seen = set()
    for model in host.models:
        xml = custom(model.name)
        definition = dataclasses.replace(cpuxml.parse_definition(xml), arch='x86_64', virt=virt)
        found = offered.model(definition, host, CpuMap())
        if found is None:
            continue
        seen.add(found.outcome)
        if by_usability:
            theirs = hypervisor.ask_hypervisor(conn, xml, virt, 'x86_64')
            assert (model, found.outcome, found.missing) == (model, theirs.outcome, theirs.missing)
        elif not hypervisor.ask_hypervisor(conn, xml, virt, 'x86_64').compatible:
            assert (model.usable, found.outcome) == ('yes', cpu.COMPATIBLE)
            start(conn, virt, xml).destroy()
    assert seen == ({cpu.COMPATIBLE, cpu.INCOMPATIBLE} if by_usability else {cpu.COMPATIBLE})


def test_a_model_that_is_not_offered_does_not_start(conn: Any) -> None:
    import libvirt

    host = cpuxml.parse_definition(conn.getDomainCapabilities(None, 'x86_64', 'pc', 'qemu', 0))
    (model, *_) = set(CpuMap().models('x86_64')) - {one.name for one in host.models}
    found = offered.model(cpuxml.parse_definition(custom(model)), host, CpuMap())
    assert (
        found is not None
        and found.reason
        == f'does not offer CPU model {model}: its libvirt or its QEMU does not know it'
    )
    with pytest.raises(
        libvirt.libvirtError, match=f'CPU model {model} is not supported by hypervisor'
    ):
        start(conn, 'qemu', custom(model))
    allowed = custom(model).replace('forbid', 'allow')
    assert offered.model(cpuxml.parse_definition(allowed), host, CpuMap()) is None
    start(conn, 'qemu', allowed).destroy()


def test_what_this_libvirt_knows_is_in_the_table(conn: Any) -> None:
    """Exactly for the releases of the table, and nothing wrong for any other."""
    version = conn.getLibVersion()
    names = cpunames.beyond([*CpuMap().features(), *conn.getCPUModelNames('x86_64')])
    host = hypervisor.host_cpu(conn, 'qemu')
    assert host.cpu_map == cpunames.digest(CpuMap().models('x86_64'), CpuMap().features())
    table = cpunames.beyond(
        name for release in RELEASES for names in release[2:] for name in names.split())
    if version in [release[0] for release in RELEASES]:
        told = {name for name in table if cpunames.knows(version, host.cpu_map, name, None)}
        assert told == names
        assert cpunames.knows(version, host.cpu_map, 'nosuch', version + 1) is False
    assert {name for name in table if cpunames.knows(version, None, name, None)} <= names


def test_the_table_is_made_anew_as_it_is(conn: Any) -> None:
    version = cpunames.version_text(conn.getLibVersion())
    table = pathlib.Path(__file__).parents[2] / 'tools/cpu_names.py'
    if conn.getLibVersion() in [release[0] for release in RELEASES]:
        subprocess.run(
            [sys.executable, table, '--check', f'{version}={CpuMap().directory}'], check=True
        )
    absent = [sys.executable, table, '--check', '9.0.1=/nowhere']
    assert subprocess.run(absent, stderr=subprocess.DEVNULL).returncode == 1


def test_names_that_this_libvirt_does_not_know(conn: Any) -> None:
    """Also where libvirt 11.3 does not look at names: a usable model, and one with a version."""
    newer = frozenset({'nosuch', 'nor-this'})
    for model in ('qemu64', conn.getCPUModelNames('x86_64')[-1]):
        guest = cpu.Cpu(
            'x86_64',
            'qemu',
            model=model,
            features=frozenset({'fpu'}),
            spelled=newer | {model},
            libvirt=99_000_000,
        )
        assert hypervisor.unknown_names(conn, guest) == newer
        found = hypervisor.ask_hypervisor(conn, guest)
        version = cpunames.version_text(conn.getLibVersion())
        assert (
            found.reason
            == f'has libvirt {version}, which does not know CPU features nor-this, nosuch of the guest (libvirt 99.0.0)'
        )
        assert found.outcome == cpu.INCOMPATIBLE
    guest = dataclasses.replace(guest, model='NoSuch', spelled=frozenset({'NoSuch'}))
    assert hypervisor.ask_hypervisor(conn, guest).reason == (
        f'has libvirt {version}, which does not know CPU model NoSuch of the guest (libvirt 99.0.0)'
    )
    # All names that it knows, at once.
    known = frozenset([*CpuMap().features(), 'EPYC'])
    assert (
        hypervisor.unknown_names(conn, dataclasses.replace(guest, model='EPYC', spelled=known))
        == frozenset()
    )


def test_where_the_hook_does_not_believe_compare_hypervisor_cpu(conn: Any) -> None:
    """Since 10.10 libvirt accepts a usable model of any vendor, but not as the hook asks it."""
    foreign = 'Intel' if hypervisor.host_cpu(conn, 'qemu').vendor == 'AMD' else 'AMD'
    xml = custom('pentium3').replace('</model>', f'</model><vendor>{foreign}</vendor>')
    accepts = hypervisor.ask_hypervisor(conn, xml, 'qemu', 'x86_64').compatible
    assert accepts == (conn.getLibVersion() >= 10_010_000)
    definition = dataclasses.replace(cpuxml.parse_definition(xml), arch='x86_64', virt='qemu')
    guest = cpuguest.guest(definition, hypervisor.expander(conn))
    found = hypervisor.ask_hypervisor(conn, guest)
    assert found.outcome == cpu.INCOMPATIBLE and foreign in found.reason
    # A guest that requires nothing by name would be accepted: what is certain speaks against it.
    nothing = dataclasses.replace(guest, features=frozenset())
    assert hypervisor.ask_hypervisor(conn, nothing).compatible == accepts
    assert (
        hypervisor.ask_and_count(conn, nothing, hypervisor.host_cpu(conn, 'qemu')).outcome
        == cpu.INCOMPATIBLE
    )


def test_unknown_names_and_models(conn: Any) -> None:
    feature = custom('486').replace('</cpu>', "<feature policy='require' name='nosuch'/></cpu>")
    assert hypervisor.ask_hypervisor(conn, feature, 'qemu', 'x86_64') == cpu.Comparison(
        cpu.UNKNOWN, reason='libvirt cannot compare: internal error: Unknown CPU feature nosuch'
    )
    assert (
        hypervisor.ask_hypervisor(conn, custom('NoSuch'), 'qemu', 'x86_64').outcome == cpu.UNKNOWN
    )
    with pytest.raises(cpuguest.UnknownModel, match='NoSuch'):
        hypervisor.expander(conn)('NoSuch', 'x86_64')


def test_other_architectures_never_crash(conn: Any) -> None:
    for arch in ('aarch64', 's390x', 'ppc64le'):
        guest = cpu.Cpu(arch=arch, virt='qemu', model='host')
        assert hypervisor.ask_hypervisor(conn, guest).outcome == cpu.UNKNOWN


GUESTS = {
    'host-model': f"<cpu mode='host-model'>{NO_ARCH_CAPABILITIES}</cpu>",
    'none': '',
    'maximum': f"<cpu mode='maximum'>{NO_ARCH_CAPABILITIES}</cpu>",
    'custom': custom('pentium3'),
    'unchecked': custom('EPYC-Milan').replace('<cpu ', "<cpu check='none' "),
}


@pytest.mark.parametrize('virt', [KVM, 'qemu'])
@pytest.mark.parametrize('kind', list(GUESTS))
def test_a_running_guest_fits_its_own_host(conn: Any, virt: str, kind: str) -> None:
    """K1. Not so by libvirt's comparison of the live XML: an EPYC guest under KVM "lacks" topoext on its own host."""
    host = hypervisor.host_cpu(conn, virt)
    domain = start(conn, virt, GUESTS[kind])
    try:
        guest = hypervisor.guest_cpu(conn, domain.XMLDesc(0), host)
    finally:
        domain.destroy()
    assert cpu.compare(guest, host).outcome == cpu.COMPATIBLE
    assert hypervisor.ask_hypervisor(conn, guest).outcome == cpu.COMPATIBLE
    if kind in ('host-model', 'maximum'):
        # All of it but what was switched off above, and what belongs to it.
        assert guest_by_default(host).features - guest.features <= cpunames.ARCH_CAPABILITIES
        assert guest.vendor == host.vendor
    if kind == 'custom':
        assert {'mmx', 'sse'} <= guest.features < host.features
        assert guest.vendor is None


@pytest.mark.parametrize('virt', [KVM, 'qemu'])
def test_a_guest_that_takes_the_hosts_cpu_would_lose_features(
    conn: Any, lesser: libvirtd.Libvirtd, virt: str
) -> None:
    """C1, C3, and the twin: the way back works. libvirt itself calls host-passthrough compatible with anything."""
    other = lesser.connect()
    rich, poor = hypervisor.host_cpu(conn, virt), hypervisor.host_cpu(other, virt)
    mode = 'host-passthrough' if virt == 'kvm' else 'maximum'
    domain = start(conn, virt, f"<cpu mode='{mode}'>{NO_ARCH_CAPABILITIES}</cpu>")
    try:
        xml = domain.XMLDesc(0)
    finally:
        domain.destroy()
    element = ElementTree.tostring(ElementTree.fromstring(xml).find('cpu'), encoding='unicode')
    assert hypervisor.ask_hypervisor(other, element, virt, 'x86_64').outcome == cpu.COMPATIBLE
    guest = hypervisor.guest_cpu(conn, xml, rich)
    for found in (cpu.compare(guest, poor), hypervisor.ask_hypervisor(other, guest)):
        assert (found.outcome, found.missing) == (cpu.INCOMPATIBLE, ('clflush', 'sse2'))
        assert found.reason == 'lacks clflush, sse2 that the guest uses'
    back = hypervisor.guest_cpu(other, xml, poor)
    assert cpu.compare(back, rich).outcome == cpu.COMPATIBLE
    assert hypervisor.ask_hypervisor(conn, back).outcome == cpu.COMPATIBLE


@pytest.mark.skipif(not libvirtd.has_kvm(), reason='no usable /dev/kvm')
def test_a_guest_with_a_fixed_tsc(conn: Any) -> None:
    """C7, K11."""
    host = hypervisor.host_cpu(conn, 'kvm')
    if host.tsc_hz is None:
        pytest.skip('libvirt does not tell the TSC frequency of this machine')
    clock = f"<clock offset='utc'><timer name='tsc' frequency='{host.tsc_hz}'/></clock>"
    domain = start(conn, 'kvm', f"<cpu mode='host-model'>{NO_ARCH_CAPABILITIES}</cpu>", clock=clock)
    try:
        guest = hypervisor.guest_cpu(conn, domain.XMLDesc(0), host)
    finally:
        domain.destroy()
    assert guest.tsc_hz == host.tsc_hz
    assert cpu.compare(guest, host).outcome == cpu.COMPATIBLE


def run(uri: str, virt: str = 'qemu', **kwargs: Any) -> tuple[dict[str, Any], list[Finding], Any]:
    options = {'libvirt': {'virt_type': virt, 'connection_uri': uri}}
    results = list(CpuCheck().run(Settings(host='node1', options=options, timeout=20, **kwargs)))
    kept = [result.value for result in results if isinstance(result, Keep)]
    return (
        {result.name: result.value for result in results if isinstance(result, Fact)},
        [result for result in results if isinstance(result, Finding)],
        kept[-1] if kept else None,
    )


def test_the_check_reads_each_guest_once(
    node: libvirtd.Libvirtd, conn: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    import libvirt

    read = []
    xml_desc = libvirt.virDomain.XMLDesc
    monkeypatch.setattr(
        libvirt.virDomain,
        'XMLDesc',
        lambda domain, flags=0: read.append(domain.name()) or xml_desc(domain, flags),
    )
    one, two = (
        start(conn, 'qemu', "<cpu mode='host-model'/>", 'one'),
        start(conn, 'qemu', custom('pentium3'), 'two'),
    )
    try:
        facts, findings, memory = run(node.uri)
        assert [finding.outcome for finding in findings] == [Outcome.OK]
        assert sorted(read) == ['one', 'two']
        host = cpu.Cpu.from_dict(facts['cpu'])
        assert host == hypervisor.host_cpu(conn, 'qemu')
        # The host-model guest has the default; the other one is named.
        assert 'default' not in facts['guests']
        assert [group['who'] for group in facts['guests']['groups']] == [[two.UUIDString()]]
        again, _, memory = run(node.uri, memory=memory)
        assert again == facts
        assert len(read) == 2
        two.destroy()
        two = start(conn, 'qemu', custom('pentium2'), 'two')
        run(node.uri, memory=memory)
        assert read[2:] == ['two']
    finally:
        one.destroy()
        two.destroy()


def test_the_check_when_libvirtd_is_away_or_has_less(cache: Any) -> None:
    """C5; and the host's CPU is asked anew when libvirtd comes back."""
    with libvirtd.Libvirtd('node3', cache=cache) as daemon:
        facts, _, memory = run(daemon.uri)
        assert 'sse2' in facts['cpu']['features'].split()
        daemon.stop()
        facts, (finding,), _ = run(daemon.uri, memory=memory)
        assert facts == {}
        assert finding.outcome is Outcome.UNKNOWN
        assert 'libvirtd does not answer' in finding.detail
        assert finding.remedy
        daemon.lose(['sse2'])
        daemon.start()
        facts, _, _ = run(daemon.uri, memory=memory)
        assert 'sse2' not in facts['cpu']['features'].split()


def test_the_check_without_kvm(cache: Any) -> None:
    """C5: the healthy twin is every other test here."""
    with libvirtd.Libvirtd('node4', kvm=False) as daemon:
        facts, (finding,), _ = run(daemon.uri, 'kvm')
    assert facts == {}
    assert finding.outcome is Outcome.UNKNOWN
    assert 'kvm' in finding.detail
    assert '/dev/kvm' in finding.remedy
