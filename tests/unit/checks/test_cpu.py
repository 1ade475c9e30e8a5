# SPDX-License-Identifier: Apache-2.0
"""The check of CPUs against a libvirt that is not there. tests/lab has the real one."""

from __future__ import annotations

import dataclasses
import json
import pathlib
import sys
import threading
import types
from typing import Any, Callable, Optional

import pytest

from nova_migcheck import cpu
from nova_migcheck.checks.base import Fact, Keep, Settings
from nova_migcheck.checks.cpu import CpuCheck
from nova_migcheck.cpu import hypervisor, names
from nova_migcheck.cpu import xml as cpuxml
from nova_migcheck.finding import Finding, Outcome

MODELS = {'Haswell': ['fpu', 'sse2', 'avx2'], '486': ['fpu', 'vme', 'pse']}


class LibvirtError(Exception):
    def __init__(self, code: int, message: str) -> None:
        super().__init__(message)
        self.code, self.message = code, message

    def get_error_code(self) -> int:
        return self.code

    def get_error_message(self) -> str:
        return self.message

    def get_str2(self) -> str:
        return self.message


class Domain:
    def __init__(self, number: int, cpu_xml: str, asked: str = '') -> None:
        self.number, self.cpu_xml, self.asked, self.read = number, cpu_xml, asked, 0
        self.uuid = f'00000000-0000-4000-8000-{number:012}'

    def ID(self) -> int:
        return self.number

    def UUIDString(self) -> str:
        return self.uuid

    def XMLDesc(self, flags: int) -> str:
        self.read += 1
        cpu_xml = {0: self.cpu_xml, 8: self.asked}[flags]
        return f"<domain type='kvm'><os><type arch='x86_64'>hvm</type></os>{cpu_xml}</domain>"


class Connection:
    """Answers as libvirt does; ``answers`` overrides a method, an exception is raised."""

    def __init__(self, **answers: Any) -> None:
        self.answers = answers
        self.domains: list[Domain] = []
        self.calls: list[str] = []

    def _answer(self, name: str, otherwise: Callable[[], Any]) -> Any:
        self.calls.append(name)
        answer = self.answers.get(name)
        if isinstance(answer, Exception):
            raise answer
        return otherwise() if answer is None else answer

    def getCapabilities(self) -> Any:
        return self._answer('getCapabilities', lambda: (
            "<capabilities><host><cpu><arch>x86_64</arch><model>486</model><vendor>Intel</vendor>"
            "<counter name='tsc' frequency='2400000000' scaling='no'/></cpu></host></capabilities>"))

    def getLibVersion(self) -> Any:
        return self._answer('getLibVersion', lambda: 9_000_000)

    def getVersion(self) -> Any:
        return self._answer('getVersion', lambda: 7_002_000)

    def getDomainCapabilities(self, emulator: Any, arch: str, machine: Any, virt: str, flags: int) -> Any:
        return self._answer('getDomainCapabilities', lambda: (
            f"<domainCapabilities><domain>{virt}</domain><arch>{arch}</arch><cpu><mode name='host-model' supported='yes'>"
            "<model>Haswell</model><vendor>Intel</vendor><feature policy='require' name='invtsc'/></mode></cpu>"
            '</domainCapabilities>'))

    def baselineHypervisorCPU(self, emulator: Any, arch: str, machine: Any, virt: str, xml: list[str], flags: int) -> Any:
        return self._answer('baselineHypervisorCPU', lambda: (
            "<cpu mode='custom'><model>Haswell</model><feature policy='require' name='fpu'/>"
            "<feature policy='require' name='sse2'/><feature policy='require' name='avx2'/>"
            "<feature policy='require' name='invtsc'/><feature policy='disable' name='hle'/></cpu>"))

    def baselineCPU(self, xml: list[str], flags: int) -> Any:
        model = xml[0].partition('<model>')[2].partition('<')[0]
        if model not in MODELS:
            raise LibvirtError(1, f'internal error: Unknown CPU model {model}')
        features = ''.join(f"<feature policy='require' name='{name}'/>" for name in MODELS[model])
        return self._answer('baselineCPU', lambda: f'<cpu><model>{model}</model>{features}</cpu>')

    def compareHypervisorCPU(self, *args: Any) -> Any:
        return self._answer('compareHypervisorCPU', lambda: 2)

    def compareCPU(self, xml: str, flags: int) -> Any:
        return self._answer('compareCPU', lambda: 2)

    def getCPUModelNames(self, arch: str) -> Any:
        assert arch == 'x86_64'
        return self._answer('getCPUModelNames', lambda: list(MODELS))

    def listAllDomains(self, flags: int) -> Any:
        return self._answer('listAllDomains', lambda: list(self.domains))

    def close(self) -> None:
        self.calls.append('close')


@pytest.fixture(autouse=True)
def cpu_map(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> pathlib.Path:
    """The files of libvirt, which nothing is installed for here."""
    monkeypatch.setenv('NOVA_MIGCHECK_CPU_MAP', str(tmp_path))
    return tmp_path


@pytest.fixture
def connection(monkeypatch: pytest.MonkeyPatch) -> Connection:
    conn = Connection()
    library = types.ModuleType('libvirt')
    library.__dict__.update(
        libvirtError=LibvirtError,
        VIR_ERR_NO_DOMAIN=42,
        openAuth=lambda uri, auth, flags: conn,
        registerErrorHandler=lambda handler, context: None,
    )
    monkeypatch.setitem(sys.modules, 'libvirt', library)
    return conn


def run(
    memory: Any = None, timeout: float = 60, **libvirt: Any
) -> tuple[dict[str, Any], list[Finding], Any]:
    results = list(
        CpuCheck().run(
            Settings(host='h', options={'libvirt': libvirt}, memory=memory, timeout=timeout)
        )
    )
    json.dumps([r.value for r in results if isinstance(r, (Fact, Keep))])
    kept = [r.value for r in results if isinstance(r, Keep)]
    return (
        {r.name: r.value for r in results if isinstance(r, Fact)},
        [r for r in results if isinstance(r, Finding)],
        kept[0] if kept else None,
    )


HOST_MODEL = "<cpu mode='custom' match='exact' check='full'><model>Haswell</model><vendor>Intel</vendor></cpu>"
PASSTHROUGH = "<cpu mode='host-passthrough' check='none' migratable='on'/>"
CUSTOM = "<cpu mode='custom' check='full'><model>486</model></cpu>"


def test_facts(connection: Connection) -> None:
    connection.domains = [Domain(1, HOST_MODEL), Domain(2, PASSTHROUGH), Domain(3, CUSTOM)]
    facts, (finding,), _ = run()
    host = cpu.Cpu.from_dict(facts['cpu'])
    assert host == cpu.Cpu(
        'x86_64',
        'kvm',
        'Intel',
        'Haswell',
        frozenset({'fpu', 'sse2', 'avx2', 'invtsc'}),
        tsc_hz=2_400_000_000,
        tsc_scaling=False,
        libvirt=9_000_000,
    )
    assert 'default' not in facts['guests']
    (group,) = facts['guests']['groups']
    assert group['who'] == [connection.domains[2].uuid]
    assert cpu.Cpu.from_dict(group['cpu']).features == {'fpu', 'vme', 'pse'}
    assert finding.outcome is Outcome.OK
    assert connection.calls[-1] == 'close'


@pytest.mark.parametrize(
    'xml, why',
    [
        (CUSTOM + ' ' * 2**23, 'larger'),
        (CUSTOM + '<!ENTITY a "aaaa">', 'entities'),
        (CUSTOM + '<name>\x1b[31m</name>', 'not XML'),
        (CUSTOM + '<devices>', 'not XML'),
    ],
    ids=['megabytes', 'entities', 'an escape', 'half'],
)
def test_a_hostile_guest_is_unknown_in_one_line(
    connection: Connection, caplog: pytest.LogCaptureFixture, xml: str, why: str
) -> None:
    """Neither its CPU nor its needs are known; the other guest's are."""
    connection.domains = [Domain(1, HOST_MODEL), Domain(2, xml)]
    _facts, findings, memory = run()
    (finding,) = [one for one in findings if one.outcome is not Outcome.OK]
    assert (finding.outcome, finding.code) == (Outcome.UNKNOWN, 'cpu-guest-unknown')
    assert finding.subject == connection.domains[1].uuid
    assert why in finding.detail and finding.detail.isprintable() and len(finding.detail) < 200
    (line,) = [record.getMessage() for record in caplog.records if record.levelname == 'WARNING']
    assert connection.domains[1].uuid in line and line.isprintable()
    # It is not read again in each round.
    assert run(memory)[2] == memory and connection.domains[1].read == 1


def test_200_guests_are_not_felt(connection: Connection) -> None:
    connection.domains = [
        Domain(number, HOST_MODEL if number % 10 else CUSTOM) for number in range(1, 201)
    ]
    facts, _, memory = run()
    assert sum(domain.read for domain in connection.domains) == 200
    assert connection.calls.count('baselineCPU') == 2  # each model once
    assert len(json.dumps(memory)) < 200 * 60
    connection.calls.clear()
    again, _, memory = run(json.loads(json.dumps(memory)))
    assert again == facts
    assert sum(domain.read for domain in connection.domains) == 200
    assert connection.calls.count('listAllDomains') == 1
    assert len(connection.calls) < 10  # nothing for each guest
    # One guest is started anew, one ends: one more is read, and the other is forgotten.
    connection.domains[0].number = 999
    del connection.domains[1]
    _, _, memory = run(memory)
    assert sum(domain.read for domain in connection.domains) == 200
    assert len(memory['guests']) == 199


def test_the_hosts_cpu_is_asked_anew_and_a_guests_is_kept(connection: Connection) -> None:
    """C4: the host has lost a feature that the guest holds."""
    connection.domains = [Domain(1, PASSTHROUGH)]
    facts, _, memory = run()
    assert 'groups' not in facts['guests']
    connection.answers['baselineHypervisorCPU'] = (
        "<cpu><feature policy='require' name='fpu'/></cpu>"
    )
    facts, _, memory = run(memory)
    assert facts['cpu']['features'] == 'fpu'
    assert (
        facts['guests']['default']['features'] == 'avx2 fpu sse2'
    )  # nobody has what the host gives today


@pytest.mark.parametrize(
    'memory',
    [
        None,
        7,
        {},
        {'cpus': []},
        {'cpus': [{}], 'guests': {}},
        {'cpus': [], 'guests': {'00000000-0000-4000-8000-000000000001': [1, 0]}},
        {'cpus': [], 'guests': {'a': 'b'}},
        {'cpus': [], 'guests': [1]},
    ],
)
def test_memory_of_another_version(connection: Connection, memory: Any) -> None:
    connection.domains = [Domain(1, CUSTOM)]
    _, (finding,), _ = run(memory)
    assert finding.outcome is Outcome.OK
    assert connection.domains[0].read == 1


def test_a_guest_whose_disks_changed_is_read_again_and_keeps_its_cpu(
    connection: Connection,
) -> None:
    connection.domains = [Domain(1, HOST_MODEL), Domain(2, CUSTOM)]
    facts, _, memory = run()
    connection.domains[1].cpu_xml = HOST_MODEL
    settings = Settings(memory=memory, changed=[connection.domains[1].uuid])
    again = {one.name: one.value for one in CpuCheck().run(settings) if isinstance(one, Fact)}
    assert again == facts
    assert [domain.read for domain in connection.domains] == [1, 2]


def test_a_guest_that_cannot_be_told_is_named_and_not_taken_for_the_default(
    connection: Connection,
) -> None:
    connection.domains = [Domain(1, CUSTOM.replace('486', 'NoSuch')), Domain(2, HOST_MODEL)]
    facts, findings, memory = run()
    assert facts['guests']['unsaid'] == [connection.domains[0].uuid]
    assert [f.outcome for f in findings] == [Outcome.UNKNOWN, Outcome.OK]
    assert 'NoSuch' in findings[0].detail and connection.domains[0].uuid in findings[0].subject
    again, _, _ = run(memory)
    assert again == facts
    assert connection.domains[0].read == 1


def test_a_guest_that_ends_meanwhile(
    connection: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    connection.domains = [Domain(1, CUSTOM)]

    def gone(flags: int) -> str:
        raise LibvirtError(42, 'Domain not found')

    monkeypatch.setattr(connection.domains[0], 'XMLDesc', gone)
    facts, (finding,), _ = run()
    assert finding.outcome is Outcome.OK
    assert facts['guests'] == {}


@pytest.mark.parametrize(
    ('method', 'error', 'words'),
    [
        (
            'getDomainCapabilities',
            LibvirtError(8, "the accel 'kvm' is not supported on this host"),
            "accel 'kvm'",
        ),
        (
            'getCapabilities',
            LibvirtError(38, 'Cannot recv data: Connection reset by peer'),
            'reset by peer',
        ),
        ('baselineHypervisorCPU', LibvirtError(1, 'boom'), 'boom'),
    ],
)
def test_what_libvirt_cannot_say_is_unknown(
    connection: Connection, method: str, error: Exception, words: str
) -> None:
    connection.answers[method] = error  # C5
    facts, (finding,), _ = run()
    assert facts == {}
    assert finding.outcome is Outcome.UNKNOWN
    assert words in finding.detail
    assert finding.remedy


def test_libvirtd_breaks_off(connection: Connection) -> None:
    connection.answers['listAllDomains'] = LibvirtError(38, 'Connection reset by peer')
    facts, (finding,), _ = run()
    assert set(facts) == {'cpu'}
    assert finding.outcome is Outcome.UNKNOWN


def test_a_hanging_libvirtd(connection: Connection, monkeypatch: pytest.MonkeyPatch) -> None:
    release = threading.Event()
    monkeypatch.setattr(connection, 'getCapabilities', lambda: release.wait(30))
    facts, (finding,), _ = run(timeout=0.2)
    release.set()
    assert facts == {}
    assert finding.outcome is Outcome.UNKNOWN
    assert '0.2 s' in finding.detail


def test_a_bug_is_raised(connection: Connection) -> None:
    connection.answers['getLibVersion'] = ZeroDivisionError('bug')
    with pytest.raises(ZeroDivisionError):
        run()


def test_other_types_of_virtualization(connection: Connection) -> None:
    facts, (finding,), _ = run(virt_type='lxc')
    assert facts == {}
    assert finding.outcome is Outcome.OK
    assert connection.calls == []


def test_without_libvirt_python(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, 'libvirt', None)
    _, (finding,), _ = run()
    assert finding.outcome is Outcome.UNKNOWN
    assert 'libvirt-python' in finding.remedy


FEATURES = "<cpus><feature name='fpu'/><feature name='fred'><alias name='FRED'/></feature></cpus>"


def test_what_this_libvirt_knows(connection: Connection, cpu_map: pathlib.Path) -> None:
    """The models by its word, the features by the files that came with it."""
    assert 'cpu_map' not in run()[0]['cpu']  # no files
    (cpu_map / 'x86_features.xml').write_text(FEATURES)
    assert run()[0]['cpu']['cpu_map'] == names.digest(MODELS, ['fpu', 'fred'])
    assert 'cpu_map' not in run()[0]['guests']
    for unreadable in ('<broken', ''):
        (cpu_map / 'x86_features.xml').write_text(unreadable)
        assert 'cpu_map' not in run()[0]['cpu']
    (cpu_map / 'x86_features.xml').write_text(FEATURES)
    connection.answers['getCPUModelNames'] = LibvirtError(3, 'not supported')
    facts, (finding,), _ = run()
    assert 'cpu_map' not in facts['cpu'] and finding.outcome is Outcome.OK
    connection.answers['getCPUModelNames'] = ['another', *MODELS]
    assert run()[0]['cpu']['cpu_map'] == names.digest(['another', *MODELS], ['fpu', 'fred'])
    connection.answers['getCPUModelNames'] = ZeroDivisionError('bug')
    with pytest.raises(ZeroDivisionError):
        run()


def test_the_names_in_the_guests_definitions(connection: Connection, cpu_map: pathlib.Path) -> None:
    feature = "<feature policy='{}' name='{}'/>".format
    connection.answers['getDomainCapabilities'] = (
        "<domainCapabilities><arch>x86_64</arch><cpu><mode name='host-model' supported='yes'>"
        '<model>Haswell</model><vendor>Intel</vendor>'
        + feature('disable', 'fred')
        + feature('require', 'avx')
        + '</mode></cpu></domainCapabilities>'
    )
    as_the_host = HOST_MODEL.replace('</cpu>', feature('disable', 'fred') + '</cpu>')
    asked = CUSTOM.replace('</cpu>', feature('disable', 'vmx-ept') + '</cpu>')
    more = feature('disable', 'lam') + feature('disable', 'vmx-vpid') + '</cpu>'
    connection.domains = [
        Domain(1, as_the_host),
        Domain(2, HOST_MODEL),
        Domain(3, as_the_host),
        Domain(4, asked.replace('</cpu>', more), asked),
    ]
    facts, _, memory = run()
    assert facts['cpu']['spelled'] == 'fred'
    # The usual guest is like the host: nothing is said of it.
    assert 'default' not in facts['guests']
    assert {
        group['who'][0][-1]: group['cpu'].get('spelled') for group in facts['guests']['groups']
    } == {'2': None, '4': 'lam vmx-ept'}
    assert run(memory)[0] == facts
    # It was asked for with what was added to its model: of the others that was not looked at.
    assert [domain.read for domain in connection.domains] == [1, 1, 1, 2]


GUEST = cpu.Cpu('x86_64', 'kvm', 'Intel', 'Haswell', frozenset({'fpu', 'hle', 'rtm'}))


def asked(guest: Any = GUEST, version: int = 7_002_000, **answers: Any) -> cpu.Comparison:
    return hypervisor.ask_hypervisor(
        Connection(getVersion=version, **answers), guest, 'kvm', 'x86_64'
    )


@pytest.mark.parametrize(
    ('message', 'missing'),
    [
        ('Host CPU does not provide required features: hle, rtm', ('hle', 'rtm')),
        (
            "Host CPU does not provide required features: rtm, hle; try using 'Haswell-noTSX' CPU model",
            ('hle', 'rtm'),
        ),
        (
            'Der CPU des Hosts fehlen Funktionen: hle',
            ('hle',),
        ),  # libvirtd speaks the language of its system
        ('host CPU vendor does not match required CPU vendor AMD', ()),
        ('Host CPU provides forbidden features: vme', ()),
        ('Host CPU does not strictly match guest CPU: Extra features: avx, sse4.1', ()),
        ('', ()),
    ],
)
def test_libvirts_messages(message: str, missing: tuple[str, ...]) -> None:
    found = asked(compareHypervisorCPU=LibvirtError(91, message))
    assert (found.outcome, found.missing) == (cpu.INCOMPATIBLE, missing)
    assert (
        message in found.reason
        if not missing
        else found.reason == f'lacks {", ".join(missing)} that the guest uses'
    )


@pytest.mark.parametrize(
    ('answer', 'outcome'),
    [(0, cpu.INCOMPATIBLE), (1, cpu.COMPATIBLE), (2, cpu.COMPATIBLE), (-1, cpu.UNKNOWN)],
)
def test_libvirts_answers(answer: int, outcome: str) -> None:
    assert asked(compareHypervisorCPU=answer).outcome == outcome


def test_the_raw_cpu_only_where_the_hypervisor_cannot_be_compared() -> None:
    unsupported = LibvirtError(3, 'not supported')
    found = asked(compareHypervisorCPU=unsupported, compareCPU=2)
    assert found.compatible and 'raw CPU' in found.reason
    found = asked(compareHypervisorCPU=unsupported, compareCPU=LibvirtError(91, 'x: hle'))
    assert found.missing == ('hle',) and 'raw CPU' in found.reason
    found = asked(compareHypervisorCPU=unsupported, compareCPU=unsupported)
    assert found.outcome == cpu.UNKNOWN
    assert (
        asked(compareHypervisorCPU=LibvirtError(1, 'Unknown CPU model'), compareCPU=2).outcome
        == cpu.UNKNOWN
    )
    with pytest.raises(KeyError):
        asked(compareHypervisorCPU=KeyError('bug'))


def test_what_qemu_10_1_hides_on_amd() -> None:
    message = LibvirtError(
        91, 'Host CPU does not provide required features: arch-capabilities, mds-no'
    )
    amd = cpu.Cpu('x86_64', 'kvm', 'AMD', None, frozenset({'arch-capabilities', 'mds-no'}))
    assert asked(amd, 10_001_000, compareHypervisorCPU=message).outcome == cpu.UNKNOWN
    assert asked(amd, 10_000_000, compareHypervisorCPU=message).outcome == cpu.INCOMPATIBLE
    intel = cpu.Cpu('x86_64', 'kvm', 'Intel', None, amd.features)
    assert asked(intel, 10_001_000, compareHypervisorCPU=message).outcome == cpu.INCOMPATIBLE
    more = LibvirtError(91, 'Host CPU does not provide required features: mds-no, avx2')
    assert asked(amd, 10_001_000, compareHypervisorCPU=more).missing == ('avx2', 'mds-no')


class Reading(Connection):
    """A libvirt that knows these names only; asked, it stops at the first that it does not know."""

    KNOWN = frozenset({'486', 'Haswell', 'fpu', 'vme', 'pse', 'hle', 'rtm'})

    def compareHypervisorCPU(
        self, emulator: Any, arch: str, machine: Any, virt: str, xml: str, flags: int
    ) -> Any:
        assert (arch, virt) == ('x86_64', 'kvm')
        definition = cpuxml.parse_definition(xml)
        for name in [definition.model, *(name for name, _ in definition.features)]:
            if name not in self.KNOWN:
                raise LibvirtError(
                    1, f'Das CPU-Merkmal {name} ist unbekannt'
                )  # it speaks the language of its system
        return super().compareHypervisorCPU()


def test_a_libvirt_names_what_it_does_not_know_one_at_a_time() -> None:
    spelling = dataclasses.replace(
        GUEST, spelled=frozenset({'Haswell', 'fred', 'lam', 'hle'}), libvirt=11_003_000
    )
    conn = Reading()
    found = hypervisor.ask_hypervisor(conn, spelling)
    assert found == cpu.unreadable({'fred', 'lam'}, spelling, 9_000_000)
    assert (
        found.reason
        == 'has libvirt 9.0.0, which does not know CPU features fred, lam of the guest (libvirt 11.3.0)'
    )
    assert hypervisor.unknown_names(
        conn, dataclasses.replace(spelling, model='Newer', spelled=frozenset({'Newer', 'lam'}))
    ) == {'Newer', 'lam'}
    assert hypervisor.unknown_names(
        conn, dataclasses.replace(spelling, arch='i686', spelled=frozenset({'lam'}))
    ) == {'lam'}
    many = frozenset(f'f{number}' for number in range(100))
    assert len(hypervisor.unknown_names(conn, dataclasses.replace(spelling, spelled=many))) == 8
    # It knows all: then features count.
    conn.calls.clear()
    assert hypervisor.ask_hypervisor(
        conn, dataclasses.replace(spelling, spelled=frozenset({'hle'}))
    ).compatible
    assert conn.calls.count('compareHypervisorCPU') == 2
    # Nothing to ask about.
    conn.calls.clear()
    assert hypervisor.ask_hypervisor(conn, GUEST).compatible
    assert conn.calls == ['compareHypervisorCPU']


@pytest.mark.parametrize(
    'error',
    [
        LibvirtError(38, 'Connection reset by peer'),
        LibvirtError(3, 'not supported fred'),
        LibvirtError(1, 'no'),
    ],
)
def test_a_libvirt_that_does_not_say_what_it_does_not_know(error: Exception) -> None:
    spelling = dataclasses.replace(GUEST, spelled=frozenset({'fred', 'no-such'}))
    assert hypervisor.unknown_names(Connection(compareHypervisorCPU=error), spelling) == frozenset()
    with pytest.raises(KeyError):
        hypervisor.unknown_names(Connection(compareHypervisorCPU=KeyError('bug')), spelling)


@pytest.mark.parametrize(
    ('libvirt', 'published', 'outcome'),
    [
        (11_003_000, {'fpu'}, cpu.INCOMPATIBLE),
        (10_010_000, {'fpu'}, cpu.INCOMPATIBLE),
        (10_009_000, {'fpu'}, cpu.COMPATIBLE),  # it compares as we do
        (
            11_003_000,
            {'fpu', 'hle', 'rtm'},
            cpu.COMPATIBLE,
        ),  # nothing speaks against it, and nothing more is asked
        (11_003_000, None, cpu.COMPATIBLE),
    ],
)
def test_a_yes_that_is_not_believed(libvirt: int, published: Any, outcome: str) -> None:
    """libvirt accepts; its hypervisor gives fpu, sse2 and avx2."""
    conn = Connection(getLibVersion=libvirt)
    provided = dataclasses.replace(GUEST, features=frozenset(published)) if published else None
    found = hypervisor.ask_and_count(
        conn, dataclasses.replace(GUEST, spelled=frozenset({'hle'})), provided
    )
    assert found.outcome == outcome
    assert found.missing == (('hle', 'rtm') if outcome == cpu.INCOMPATIBLE else ())
    assert ('baselineHypervisorCPU' in conn.calls) == (outcome == cpu.INCOMPATIBLE)


def test_a_yes_is_believed_when_the_hypervisor_gives_more_by_now_or_does_not_say() -> None:
    provided = dataclasses.replace(GUEST, features=frozenset({'fpu'}))
    less = dataclasses.replace(GUEST, features=frozenset({'fpu', 'avx2'}))
    # A feature of which this libvirt cannot tell whether the host has it.
    nameless = dataclasses.replace(
        GUEST, features=frozenset({'fpu', 'brand-new'}), libvirt=99_000_000
    )
    for answers, guest in (
        ({}, less),
        ({}, nameless),
        ({'getDomainCapabilities': LibvirtError(38, 'gone')}, GUEST),
    ):
        assert hypervisor.ask_and_count(
            Connection(getLibVersion=11_003_000, **answers), guest, provided
        ).compatible


ARM = (
    "<capabilities><host><cpu><arch>aarch64</arch><model>Neoverse-N1</model><vendor>ARM</vendor><feature name='sha2'/>"
    '</cpu></host></capabilities>'
)
NO_HOST_MODEL = (
    "<domainCapabilities><domain>kvm</domain><arch>{}</arch><cpu><mode name='host-model' supported='no'/></cpu>"
    '</domainCapabilities>'
)


def test_arm_and_a_hypervisor_that_says_nothing() -> None:
    conn = Connection(getCapabilities=ARM, getDomainCapabilities=NO_HOST_MODEL.format('aarch64'))
    host = hypervisor.host_cpu(conn, 'kvm')
    assert (host.arch, host.model, host.features) == ('aarch64', 'Neoverse-N1', {'sha2'})
    xml: Optional[str] = (
        "<domain type='kvm'><os><type arch='aarch64'/></os><cpu mode='host-passthrough'/></domain>"
    )
    guest = hypervisor.guest_cpu(conn, str(xml), host)
    assert cpu.compare(guest, host).compatible
    xml = "<domain type='kvm'><os><type arch='aarch64'/></os><cpu mode='custom'><model>cortex-a57</model></cpu></domain>"
    assert cpu.compare(hypervisor.guest_cpu(conn, xml, host), host).outcome == cpu.UNKNOWN
    with pytest.raises(hypervisor.CannotSay, match='host-model'):
        hypervisor.host_cpu(Connection(getDomainCapabilities=NO_HOST_MODEL.format('x86_64')), 'kvm')


def test_a_hypervisor_without_a_baseline() -> None:
    conn = Connection(baselineHypervisorCPU=LibvirtError(3, 'not supported'))
    assert hypervisor.host_cpu(conn, 'kvm').features == {'fpu', 'sse2', 'avx2', 'invtsc'}
