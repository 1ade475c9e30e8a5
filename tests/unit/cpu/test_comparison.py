# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

import dataclasses
import json
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from nova_migcheck.cpu import COMPATIBLE, INCOMPATIBLE, UNKNOWN, Comparison, Cpu, compare
from nova_migcheck.cpu import names as cpunames
from nova_migcheck.cpu.releases import RELEASES

ON_A_BUSY_MACHINE = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
HOST = Cpu('x86_64', 'kvm', 'Intel', 'Skylake-Server', frozenset({'fpu', 'sse2', 'avx', 'avx512f', 'avx512dq', 'invtsc'}),
           tsc_hz=2_500_000_000, tsc_scaling=False, libvirt=9_000_000)
GUEST = Cpu('x86_64', 'kvm', 'Intel', 'Skylake-Server', frozenset({'fpu', 'sse2', 'avx', 'avx512f', 'avx512dq'}),
            libvirt=9_000_000)


def less(cpu: Cpu, *names: str) -> Cpu:
    return dataclasses.replace(cpu, features=cpu.features - set(names))


def more(cpu: Cpu, *names: str) -> Cpu:
    return dataclasses.replace(cpu, features=cpu.features | set(names))


def test_missing_features_are_named_and_the_way_back_works() -> None:  # C1, K3
    poor = less(HOST, 'avx512f', 'avx512dq')
    assert compare(GUEST, poor) == Comparison(INCOMPATIBLE, ('avx512dq', 'avx512f'),
                                              'lacks avx512dq, avx512f that the guest uses')
    assert compare(less(GUEST, 'avx512f', 'avx512dq'), HOST).compatible


def test_identical_and_larger_hosts() -> None:  # K1, K2
    assert compare(GUEST, HOST) == Comparison(COMPATIBLE)
    assert compare(GUEST, more(HOST, 'sha-ni')).compatible


def test_vendor() -> None:  # C2
    found = compare(GUEST, dataclasses.replace(less(HOST, 'avx'), vendor='AMD'))
    assert found == Comparison(INCOMPATIBLE, (), 'has a CPU of vendor AMD, the guest needs Intel')
    assert compare(dataclasses.replace(GUEST, vendor=None), dataclasses.replace(HOST, vendor='AMD')).compatible
    # As libvirt: a host whose vendor it cannot name is none that it can name.
    assert compare(GUEST, dataclasses.replace(HOST, vendor=None)).outcome == INCOMPATIBLE


def test_architecture_and_type() -> None:  # C6
    found = compare(GUEST, dataclasses.replace(HOST, arch='aarch64'))
    assert found.outcome == INCOMPATIBLE and 'aarch64' in found.reason and 'x86_64' in found.reason
    found = compare(GUEST, dataclasses.replace(HOST, virt='qemu'))
    assert found.outcome == INCOMPATIBLE and 'qemu' in found.reason and 'kvm' in found.reason
    assert compare(dataclasses.replace(GUEST, arch='i686'), HOST).compatible
    assert not compare(GUEST, dataclasses.replace(HOST, arch='i686')).compatible


@pytest.mark.parametrize(('hz', 'scaling', 'outcome'), [
    (2_500_000_000, False, COMPATIBLE),
    (2_500_625_000, False, COMPATIBLE),  # 250 ppm
    (2_500_625_001, False, INCOMPATIBLE),
    (2_499_375_000, False, COMPATIBLE),
    (2_499_374_999, False, INCOMPATIBLE),
    (3_000_000_000, True, COMPATIBLE),  # K11
    (3_000_000_000, None, UNKNOWN),
])
def test_tsc(hz: int, scaling: Any, outcome: str) -> None:  # C7
    guest = dataclasses.replace(more(GUEST, 'invtsc'), tsc_hz=hz)
    host = dataclasses.replace(HOST, tsc_scaling=scaling)
    found = compare(guest, host)
    assert found.outcome == outcome
    if outcome != COMPATIBLE:
        assert str(hz) in found.reason and '2500000000' in found.reason
        assert '250 ppm apart' not in found.reason
    assert compare(dataclasses.replace(guest, tsc_hz=None), host).compatible  # K11


def test_tsc_of_a_host_that_does_not_tell() -> None:
    guest = dataclasses.replace(GUEST, tsc_hz=2_500_000_000)
    assert compare(guest, dataclasses.replace(HOST, tsc_hz=None, tsc_scaling=None)).outcome == UNKNOWN


@pytest.mark.parametrize(('old', 'new'), sorted(cpunames.ALIASES.items()))
def test_names_that_changed_do_not_reject(old: str, new: str) -> None:  # K12
    assert compare(more(GUEST, old), more(HOST, new)).compatible
    assert compare(more(GUEST, new), more(HOST, old)).compatible
    assert compare(more(GUEST, old), HOST).missing == (new,)


def test_names_that_the_targets_libvirt_does_not_know() -> None:  # K12
    newer = dataclasses.replace(more(GUEST, 'vmx', 'vmx-ept'), libvirt=10_002_000)
    host = more(HOST, 'vmx')
    found = compare(newer, host)
    assert found == Comparison(
        UNKNOWN, (), 'may lack vmx-ept: its libvirt 9.0.0 does not know such a CPU feature')
    # A libvirt that knows the name and does not give it lacks the feature.
    assert compare(newer, dataclasses.replace(host, libvirt=9_010_000)).missing == ('vmx-ept',)
    # What is certainly missing decides.
    assert compare(newer, less(host, 'avx')) == Comparison(INCOMPATIBLE, ('avx',), 'lacks avx that the guest uses')
    # A name that came after this was written: known to any libvirt as new as the one that said it.
    newest = dataclasses.replace(more(GUEST, 'brand-new'), libvirt=13_000_000)
    assert compare(newest, host).outcome == UNKNOWN
    assert compare(newest, dataclasses.replace(host, libvirt=13_000_000)).missing == ('brand-new',)


# What Debian 12 has, and Debian 13.
OLD = dataclasses.replace(HOST, libvirt=9_000_000, cpu_map='d5d1ca76fa15')
NEW = dataclasses.replace(HOST, libvirt=11_003_000, cpu_map='ac47ffaab720')


def spelling(*names: str, model: str = 'Skylake-Server', libvirt: Any = 11_003_000) -> Cpu:
    return dataclasses.replace(GUEST, spelled=frozenset(names), model=model, libvirt=libvirt)


def test_a_name_that_the_targets_libvirt_does_not_know_is_refused_by_it_under_any_policy() -> None:
    found = compare(spelling('EPYC-v4', model='EPYC-v4'), OLD)
    assert (found.outcome, found.missing) == (INCOMPATIBLE, ())
    assert (
        found.reason
        == 'has libvirt 9.0.0, which does not know CPU model EPYC-v4 of the guest (libvirt 11.3.0)'
    )
    assert found.remedy.startswith('choose a target whose libvirt knows it')
    found = compare(spelling('cmpccxadd'), OLD)
    assert (
        found.reason
        == 'has libvirt 9.0.0, which does not know CPU feature cmpccxadd of the guest (libvirt 11.3.0)'
    )
    found = compare(
        spelling(
            'EPYC-v4', 'vmx-ept', *'fred lam sm3 sm4 sha512'.split(), model='EPYC-v4', libvirt=None
        ),
        OLD,
    )
    assert found.reason == (
        'has libvirt 9.0.0, which does not know CPU model EPYC-v4 and CPU features '
        'fred, lam, sha512, sm3, sm4 and 1 more '
        'of the guest (libvirt of unknown version)'
    )
    # A name that is newer than the table is certainly not one of those that are in it.
    assert compare(spelling('brand-new', libvirt=13_000_000), OLD).outcome == INCOMPATIBLE
    # The vendor is what a wrong vendor is reported for.
    assert 'vendor AMD' in compare(spelling('fred'), dataclasses.replace(OLD, vendor='AMD')).reason


def test_names_that_both_libvirts_know() -> None:
    assert compare(spelling('EPYC-v4', 'cmpccxadd', model='EPYC-v4'), NEW).compatible
    assert compare(
        spelling('xfd', 'EPYC-Milan', model='EPYC-Milan', libvirt=9_000_000), OLD
    ).compatible
    assert compare(spelling('xfd', libvirt=9_000_000), NEW).compatible
    # Names that were changed: the older is known by the newer.
    assert compare(spelling('vmx-invept-single-context-noglobals'), NEW).compatible


def test_a_libvirt_of_which_only_the_version_is_known() -> None:
    """A distribution may have taken a name from a later release: nothing is certain."""
    for host in (
        dataclasses.replace(OLD, cpu_map=None),
        dataclasses.replace(OLD, cpu_map='0123456789ab'),
        dataclasses.replace(OLD, cpu_map=None, libvirt=10_000_000),
        # The files of a release that is installed and does not run yet.
        dataclasses.replace(OLD, cpu_map=NEW.cpu_map),
    ):
        version = cpunames.version_text(host.libvirt)
        assert compare(spelling('fred', 'EPYC-v4', model='EPYC-v4'), host) == Comparison(
            UNKNOWN,
            reason=f'does not report whether its libvirt {version} knows CPU model EPYC-v4 and CPU feature fred',
        )
        assert compare(spelling('EPYC-Milan', model='EPYC-Milan'), host).compatible
        # What it names itself it knows.
        assert compare(
            spelling('fred'), dataclasses.replace(host, spelled=frozenset({'fred'}))
        ).compatible
        assert compare(spelling('fred'), more(host, 'fred')).compatible
    assert compare(spelling('fred'), dataclasses.replace(OLD, libvirt=None)).outcome == UNKNOWN
    assert (
        compare(spelling('fred', libvirt=None), dataclasses.replace(OLD, cpu_map=None)).outcome
        == UNKNOWN
    )
    # Something is missing for certain.
    assert compare(
        more(spelling('fred'), 'hle'), dataclasses.replace(OLD, cpu_map=None)
    ).missing == ('hle',)


def test_where_the_table_ends() -> None:
    """A target that is newer than the table: silent about what the table does not have."""
    newest = dataclasses.replace(HOST, libvirt=13_000_000, cpu_map='0123456789ab')
    for libvirt in (None, 12_900_000, 13_000_000, 13_001_000):
        assert compare(
            spelling('brand-new', 'Newest', model='Newest', libvirt=libvirt), newest
        ).compatible
        assert compare(
            spelling('fred', 'EPYC-v4', model='EPYC-v4', libvirt=libvirt), newest
        ).compatible


def test_the_table() -> None:
    table = {name for release in RELEASES for names in release[2:] for name in names.split()}

    def known(libvirt: int, cpu_map: Any) -> set[str]:
        return {name for name in table if cpunames.knows(libvirt, cpu_map, name, None)}

    assert [release[0] for release in RELEASES][:3] == [7_000_000, 9_000_000, 11_003_000]
    assert [release[0] for release in RELEASES] == sorted(release[0] for release in RELEASES)
    models, features = set[str](), set[str]()
    for version, digest, more_models, more_features in RELEASES:
        assert not models & set(more_models.split()) and not features & set(more_features.split())
        models |= set(more_models.split())
        features |= set(more_features.split())
        assert digest == cpunames.digest(models, features) and not models & features
        assert known(version, digest) == models | features
        # By the version alone; and releases that are not in the table know as much.
        assert known(version, None) == models | features <= known(version + 1000, None)
    assert not cpunames.beyond(['486', 'EPYC', 'avx512f', 'arch-facilities', 'cqm'])
    assert cpunames.beyond(['EPYC-v4', 'avx', 'fred']) == {'EPYC-v4', 'fred'}


def test_releases_that_may_have_offered_these_models() -> None:
    every_qemu = ['486', 'qemu64', 'EPYC', 'EPYC-Milan']
    assert list(cpunames.known_with(every_qemu)) == [9_000_000]
    assert list(
        cpunames.known_with([*every_qemu, '486-v1', 'qemu64-v1', 'EPYC-v1', 'EPYC-Milan-v1'])
    ) == [11_003_000, 12_008_000]
    assert (
        list(cpunames.known_with([*every_qemu, 'SapphireRapids'])) == []
    )  # of a release between the two
    assert list(cpunames.known_with(['486', 'qemu64'])) == list(cpunames.known_with([])) == []


def test_names_that_no_libvirt_known_here_knows() -> None:
    host = dataclasses.replace(HOST, libvirt=None)
    assert compare(more(GUEST, 'nosuch'), host).missing == ('nosuch',)
    assert (
        compare(more(GUEST, 'nosuch'), host, known=lambda name: name != 'nosuch').outcome == UNKNOWN
    )


def test_what_qemu_hides() -> None:
    host = dataclasses.replace(HOST, hidden=frozenset({'arch-capabilities', 'mds-no'}))
    found = compare(more(GUEST, 'mds-no'), host)
    assert found.outcome == UNKNOWN and 'mds-no' in found.reason
    assert compare(more(GUEST, 'mds-no'), HOST).outcome == INCOMPATIBLE


def test_forbidden_and_strict() -> None:
    assert compare(dataclasses.replace(GUEST, forbids=frozenset({'sha-ni'})), HOST).compatible
    found = compare(dataclasses.replace(GUEST, forbids=frozenset({'invtsc'})), HOST)
    assert found == Comparison(INCOMPATIBLE, (), 'has invtsc that the guest forbids')
    assert compare(dataclasses.replace(GUEST, at_most=HOST.features), HOST).compatible
    found = compare(dataclasses.replace(GUEST, at_most=GUEST.features), HOST)
    assert found.outcome == INCOMPATIBLE and 'invtsc' in found.reason


@pytest.mark.parametrize('arch', ['aarch64', 's390x', 'ppc64le', 'riscv64'])
def test_other_architectures_know_equality_only(arch: str) -> None:
    host = Cpu(arch, 'kvm', 'ARM', 'Neoverse-N1', frozenset({'sve'}))
    assert compare(host, host).compatible
    assert compare(dataclasses.replace(host, model='cortex-a57'), host).outcome == UNKNOWN
    assert compare(more(host, 'pmu'), host).outcome == UNKNOWN
    assert (
        compare(
            dataclasses.replace(host, model=None), dataclasses.replace(host, model=None)
        ).outcome
        == UNKNOWN
    )


def test_json() -> None:
    full = dataclasses.replace(
        HOST,
        hidden=frozenset({'mds-no'}),
        forbids=frozenset({'hle'}),
        at_most=frozenset({'avx'}),
        spelled=frozenset({'EPYC-v4', 'fred'}),
        cpu_map='ac47ffaab720',
    )
    for cpu in (HOST, GUEST, full, Cpu('s390x', 'kvm')):
        assert Cpu.from_dict(json.loads(json.dumps(cpu.to_dict()))) == cpu
    with pytest.raises(ValueError, match='features'):
        Cpu.from_dict({'arch': 'x86_64', 'virt': 'kvm'})  # not a CPU that uses nothing


def test_reasons_to_the_word() -> None:
    tsc = dataclasses.replace(GUEST, tsc_hz=3_000_000_000)
    arm = Cpu('aarch64', 'kvm', None, 'a57', frozenset({'sve'}))
    for guest, host, outcome, reason in (
        (
            GUEST,
            dataclasses.replace(HOST, arch='aarch64'),
            INCOMPATIBLE,
            'has architecture aarch64, the guest needs x86_64',
        ),
        (
            GUEST,
            dataclasses.replace(HOST, virt='qemu'),
            INCOMPATIBLE,
            'runs guests with qemu, the guest needs kvm',
        ),
        (
            GUEST,
            dataclasses.replace(HOST, vendor=None),
            INCOMPATIBLE,
            'has a CPU of vendor unknown to its libvirt, the guest needs Intel',
        ),
        (
            dataclasses.replace(GUEST, forbids=frozenset({'fpu', 'avx'})),
            HOST,
            INCOMPATIBLE,
            'has avx, fpu that the guest forbids',
        ),
        (
            dataclasses.replace(GUEST, at_most=GUEST.features - {'avx'}),
            HOST,
            INCOMPATIBLE,
            'also has avx, invtsc, but the guest requires a strict match',
        ),
        (
            tsc,
            HOST,
            INCOMPATIBLE,
            'has a TSC of 2500000000 Hz, the guest needs 3000000000 Hz (200000 ppm apart, limit 250 ppm), '
            'and the host cannot scale',
        ),
        (
            tsc,
            dataclasses.replace(HOST, tsc_scaling=None),
            UNKNOWN,
            'has a TSC of 2500000000 Hz, the guest needs 3000000000 Hz '
            '(200000 ppm apart, limit 250 ppm), and the host does not report whether it can scale',
        ),
        (
            tsc,
            dataclasses.replace(HOST, tsc_hz=None),
            UNKNOWN,
            'does not report its TSC frequency, the guest needs 3000000000 Hz',
        ),
        (
            more(GUEST, 'mds-no', 'hle'),
            dataclasses.replace(HOST, hidden=frozenset({'mds-no', 'hle'})),
            UNKNOWN,
            'does not report hle, mds-no, which its QEMU hides on this CPU and may still give to a guest '
            'that has it',
        ),
        (
            arm,
            dataclasses.replace(arm, model='n1'),
            UNKNOWN,
            'has a aarch64 CPU n1, the guest a57: on aarch64 only equal CPUs are known to be compatible',
        ),
        (
            more(dataclasses.replace(arm, model=None), 'pmu', 'aes'),
            dataclasses.replace(arm, model=None),
            UNKNOWN,
            'has a aarch64 CPU unnamed, the guest unnamed; the guest also has aes, pmu: on aarch64 only equal CPUs are known to '
            'be compatible',
        ),
    ):
        assert compare(guest, host) == Comparison(outcome, (), reason)


def test_what_is_no_cpu_says_which_key() -> None:
    good = {'arch': 'x86_64', 'virt': 'kvm', 'features': 'fpu'}
    for key, values, said in (
        ('arch', (None, 7, 'a b', 'x' * 65), 'arch of a CPU is a name'),
        ('vendor', (7, ''), 'vendor of a CPU is a name'),
        ('features', (None, ['fpu'], 'x ' * 65_001), 'features of a CPU is a string of names'),
        (
            'features',
            ('fpu -', 'a ' * 2001, 'x' * 65),
            'features of a CPU contains something that is not a name',
        ),
        ('tsc_hz', (0, True, 1.5, 10**12 + 1), 'tsc_hz of a CPU is a number above 0'),
        ('libvirt', (10**9 + 1, '9'), 'libvirt of a CPU is a number above 0'),
        ('spelled', (7, ['fpu']), 'spelled of a CPU is a string of names'),
        ('cpu_map', (7, 'a b'), 'cpu_map of a CPU is a name'),
        ('tsc_scaling', (0, 'no'), 'tsc_scaling of a CPU is true or false'),
    ):
        for value in values:
            with pytest.raises(ValueError) as raised:
                Cpu.from_dict({**good, key: value})
            assert str(raised.value) == said
    with pytest.raises(ValueError) as raised:
        Cpu.from_dict(7)
    assert str(raised.value) == 'a CPU is a JSON object'
    most = Cpu.from_dict(
        {
            **good,
            'features': ' '.join(f'f{n}' for n in range(2000)),
            'tsc_hz': 10**12,
            'libvirt': 10**9,
        }
    )
    assert (len(most.features), most.tsc_hz, most.libvirt) == (2000, 10**12, 10**9)


def test_edges_of_the_json() -> None:
    old, new = sorted(cpunames.ALIASES.items())[0]
    many = dataclasses.replace(HOST, hidden=frozenset({'a', 'b'}), at_most=frozenset({old, 'c'}))
    assert many.at_most == {new, 'c'}
    assert (many.to_dict()['hidden'], many.to_dict()['at_most']) == (
        'a b',
        ' '.join(sorted((new, 'c'))),
    )
    longest = ''.join(f'{n:064d} ' for n in range(2000))
    assert (
        len(
            Cpu.from_dict(
                {'arch': 'x86_64', 'virt': 'kvm', 'features': longest, 'tsc_hz': 1}
            ).features
        )
        == 2000
    )


def test_names_that_a_libvirt_of_no_version_does_not_know() -> None:
    found = compare(
        more(GUEST, 'nosuch', 'neither'),
        dataclasses.replace(HOST, libvirt=None),
        known=lambda name: False,
    )
    assert (
        found.reason
        == 'may lack neither, nosuch: its libvirt does not know such a CPU feature'
    )


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=10), inner, max_size=3)
    ),
)


@ON_A_BUSY_MACHINE
@given(
    st.dictionaries(
        st.sampled_from(
            [
                'arch',
                'virt',
                'vendor',
                'model',
                'features',
                'tsc_hz',
                'tsc_scaling',
                'libvirt',
                'hidden',
                'forbids',
                'at_most',
                'spelled',
                'cpu_map',
                'other',
            ]
        ),
        JSON | st.sampled_from(['x86_64', 'kvm', 'fpu sse2', 9_000_000]),
        max_size=12,
    )
    | JSON
)
def test_hostile_json(value: Any) -> None:
    try:
        cpu = Cpu.from_dict(value)
    except ValueError:
        return
    assert compare(cpu, HOST).outcome in (COMPATIBLE, INCOMPATIBLE, UNKNOWN)
    assert Cpu.from_dict(cpu.to_dict()) == cpu


NAMES = st.frozensets(st.sampled_from(sorted(HOST.features | {'sha-ni', 'sse4.1', 'vmx-ept'})))


@ON_A_BUSY_MACHINE
@given(NAMES, NAMES)
def test_compatible_exactly_when_nothing_is_missing(
    guest: frozenset[str], host: frozenset[str]
) -> None:
    found = compare(
        dataclasses.replace(GUEST, features=guest, libvirt=None),
        dataclasses.replace(HOST, features=host, libvirt=None),
    )
    assert found.compatible == (guest <= host)
    assert found.missing == tuple(sorted(guest - host))
