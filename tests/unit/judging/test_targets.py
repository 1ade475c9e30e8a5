# SPDX-License-Identifier: Apache-2.0
"""A fleet of hosts at once: versions side by side, ten thousand findings, and what is kept between requests."""

import dataclasses
import itertools
import time
import types

import hypothesis
import pytest
from hypothesis import strategies as st

from nova_migcheck.cpu import Cpu
from nova_migcheck.finding import Finding, Outcome
from nova_migcheck.judging import targets, verdict
from nova_migcheck.judging.verdict import Guest
from nova_migcheck.policies import Policies
from nova_migcheck.report import published
from nova_migcheck.report.report import Report
from tests.facts import facts

NOW = 1_764_000_000
CPU = Cpu('x86_64', 'kvm', 'Intel', 'Skylake', frozenset({'fpu', 'sse2', 'avx'}))
POOR = dataclasses.replace(CPU, features=frozenset({'fpu'}))
DEAD = Finding(
    'endpoint',
    Outcome.FAILURE,
    'http://10.0.0.5:8780',
    'connection refused',
    'keystone catalog',
    'start it',
)
POLICIES = Policies(checks=('cpu', 'endpoint', 'machine', 'storage'))
NFS = {
    'images': 'path',
    'expect': 'auto',
    'path': '/i',
    'mount': '/i',
    'type': 'nfs4',
    'family': 'nfs',
    'shared': True,
    'source': 's:/e',
    'servers': ['s'],
    'export': '/e',
    'free_bytes': 1,
}
LOCAL = {
    'images': 'path',
    'expect': 'auto',
    'path': '/i',
    'mount': '/',
    'type': 'ext4',
    'shared': False,
    'free_bytes': 2,
}


def stats(cpu=CPU, findings=(), age=10, groups=(), **values):
    return published.write(
        Report(NOW - age, tuple(findings), cpu, groups=groups, **facts(**values))
    )


def newer(texts):
    return {key: '2' + text[1:] for key, text in texts.items()}


def judge(source=None, guest=None, memory=None, policies=POLICIES):
    return targets.Judge(
        policies, guest or Guest(CPU, frozenset({'local-disk'})), source, NOW, memory
    )


def checks(verdict):
    return [f.check for f in verdict.rejections], [f.check for f in verdict.warnings]


MACHINE = {'uuid': '0a6de5b1-0000-4000-8000-000000000001'}
GOOD = stats()
HOSTS = {
    'good': (GOOD, ([], [])),
    'poor CPU': (stats(POOR), (['cpu'], [])),
    'dead endpoint': (stats(findings=[DEAD]), (['endpoint'], [])),
    'both': (stats(POOR, [DEAD]), (['endpoint', 'cpu'], [])),
    'matters to volumes only': (
        stats(findings=[dataclasses.replace(DEAD, scope='volumes')]),
        ([], []),
    ),
    'stale': (stats(findings=[DEAD], age=3600), ([], ['report'])),
    'from the future': (stats(findings=[DEAD], age=-3600), ([], ['report'])),
    'no report': ({'num_instances': '3'}, ([], ['report'])),
    'nothing at all': ({}, ([], ['report'])),
    'no stats': (None, ([], ['report'])),
    'newer version': (newer(stats(POOR, [DEAD])), ([], ['report'])),
    'older version': ({'migcheck': '0 {"time": 1}'}, ([], ['report'])),
    'no mapping': ([1], ([], ['report'])),
    'a number': (7, ([], ['report'])),
    'not a string': ({'migcheck': {'a': 1}}, ([], ['report'])),
    'a lying word': (
        {
            **GOOD,
            'migcheck': GOOD['migcheck']
            .replace(':- ', ':a=b=c ')
            .replace(GOOD['migcheck'][13:29], '0' * 16),
        },
        ([], ['report']),
    ),
    'more keys than we know': (
        {'migcheck': stats(POOR)['migcheck'].replace('{}', "{'new':[1]}")},
        (['cpu'], []),
    ),
    'no end of the time': (
        {**GOOD, 'migcheck': '1 1000000000' + GOOD['migcheck'][13:]},
        ([], ['report']),
    ),
    'no words': ({'migcheck': GOOD['migcheck'][:12]}, ([], ['report'])),
    'bytes': ({'migcheck': GOOD['migcheck'].encode()}, ([], ['report'])),
    'another disk': (stats(storage=LOCAL), (['storage'], [])),
    'the same disk': (stats(storage={**NFS, 'free_bytes': 7}), ([], [])),
    'the same host UUID': (stats(machine=MACHINE), (['machine'], [])),
    'another host UUID': (stats(machine={'uuid': MACHINE['uuid'].replace('1', '2')}), ([], [])),
    'the same UUID elsewhere': (
        stats(findings=[dataclasses.replace(DEAD, subject=MACHINE['uuid'])]),
        (['endpoint'], []),
    ),
}


@pytest.mark.parametrize('order', [list(HOSTS), list(reversed(HOSTS))])
def test_hosts_of_all_versions_side_by_side(order):
    """Two schedulers with what they remember, one request after the other, in any order of hosts: always the same."""
    memory = targets.Memory()
    source = published.read(stats(storage=NFS, machine=MACHINE))
    for _ in range(2):
        one = judge(source, memory=memory)
        for name in order:
            assert checks(one.verdict(HOSTS[name][0])) == HOSTS[name][1], name
        hosts = [types.SimpleNamespace(host=name, stats=HOSTS[name][0]) for name in order]
        accepted, rejected = one.sift([*hosts, types.SimpleNamespace(host='without stats')])
        assert [host.host for host in accepted] == [
            name for name in order if not HOSTS[name][1][0]
        ] + ['without stats']
        assert {host.host: check for check, those in rejected.items() for host in those} == {
            name: HOSTS[name][1][0][0] for name in order if HOSTS[name][1][0]
        }


def test_what_is_logged_says_the_same_with_the_host_s_own_words():
    one = judge(published.read(stats(storage=NFS, machine=MACHINE)))
    for name, (host, expected) in HOSTS.items():
        if name != 'a lying word':
            assert checks(one.in_full(host)) == expected, name
    assert one.in_full(HOSTS['dead endpoint'][0]).rejections[0].subject == DEAD.subject
    assert '3600 s old' in one.in_full(HOSTS['stale'][0]).warnings[0].detail


@pytest.mark.parametrize(
    'changes',
    [
        lambda main: main.replace(':- ', ':endpoint=failure '),
        lambda main: main.replace(published.common(GOOD), published.common(stats(POOR))),
        lambda main: main.replace(published.common(GOOD), '-'),
        lambda main: main[:80],
        lambda main: main[:29],
    ],
)
def test_a_host_that_passes_for_another_kind_says_nothing_about_that_kind(changes):
    """It may lie about itself: that it could as well in its texts."""
    memory = targets.Memory()
    one = judge(memory=memory)
    assert checks(one.verdict({published.MAIN: changes(GOOD[published.MAIN])})) == ([], ['report'])
    assert checks(one.verdict(GOOD)) == ([], [])
    assert checks(judge(memory=memory).verdict(GOOD)) == ([], [])


def test_ten_thousand_findings_become_a_small_report_that_still_rejects():
    many = [
        dataclasses.replace(DEAD, subject=f'http://10.0.0.5:{n}', detail='x' * 900)
        for n in range(10_000)
    ]
    begun = time.process_time()
    texts = stats(findings=many)
    assert time.process_time() - begun < 5
    assert sum(len(key) + len(text) for key, text in texts.items()) <= published.MAX_BYTES
    assert checks(judge().verdict(texts))[0] == ['endpoint']
    assert judge().in_full(texts).rejections


def test_a_guest_that_needs_a_frequency_is_compared_with_each_host_by_itself():
    guest = Guest(dataclasses.replace(CPU, tsc_hz=2_000_000_000))
    near, far = (
        stats(dataclasses.replace(CPU, tsc_hz=hz, tsc_scaling=False))
        for hz in (2_000_000_100, 3_000_000_000)
    )
    assert published.common(near) == published.common(far)
    one = judge(guest=guest)
    assert [one.verdict(host).accepted for host in (near, far, near, HOSTS['stale'][0])] == [
        True,
        False,
        True,
        True,
    ]
    hosts = [
        types.SimpleNamespace(host=name, stats=host)
        for name, host in (('near', near), ('far', far), ('as near', near))
    ]
    for those in hosts, hosts[::-1]:
        accepted, rejected = judge(guest=guest).sift(those)
        assert [host.host for host in accepted] == [
            host.host for host in those if host.host != 'far'
        ]
        assert [host.host for host in rejected['cpu']] == ['far']


def test_what_is_kept_between_requests_is_bounded_and_belongs_to_no_host(monkeypatch):
    monkeypatch.setattr(targets.Memory, 'GUESTS', 3)
    monkeypatch.setattr(targets.Memory, 'KINDS', 5)
    memory = targets.Memory()
    for n in range(20):
        one = judge(guest=Guest(dataclasses.replace(CPU, model=f'model{n}')), memory=memory)
        for kind in range(10):
            verdict = one.verdict(
                stats(
                    dataclasses.replace(CPU, model=f'kind{kind}'),
                    findings=[dataclasses.replace(DEAD, subject=f'http://{kind}')],
                )
            )
            assert checks(verdict)[0] == ['endpoint'] and not verdict.rejections[0].subject
    assert (
        len(memory._of) == 3
        and len(memory._kinds) <= 5
        and all(len(known.verdicts) <= 5 for known in memory._of.values())
    )
    # Those that are full are begun anew.
    assert not memory.of(one._guest, None).verdicts
    # A thousand hosts of one kind are one entry.
    memory = targets.Memory()
    one = judge(memory=memory)
    for n in range(1000):
        one.verdict(
            {**GOOD, 'migcheck': GOOD['migcheck'].replace(str(NOW - 10), str(NOW - n % 300))}
        )
    assert [len(known.verdicts) for known in memory._of.values()] == [1]


def test_a_verdict_of_one_guest_is_not_another_one_s():
    memory = targets.Memory()
    assert not judge(guest=Guest(CPU), memory=memory).verdict(stats(POOR)).accepted
    assert judge(guest=Guest(POOR), memory=memory).verdict(stats(POOR)).accepted
    assert judge(guest=Guest(CPU, running=False), memory=memory).verdict(stats(POOR)).accepted
    nfs = published.read(stats(storage=NFS))
    assert not judge(nfs, memory=memory).verdict(stats(storage=LOCAL)).accepted
    assert (
        judge(published.read(stats(storage=LOCAL)), memory=memory)
        .verdict(stats(storage=LOCAL))
        .accepted
    )
    assert (
        judge(nfs, Guest(CPU, frozenset({'volumes'})), memory)
        .verdict(stats(storage=LOCAL))
        .accepted
    )


def test_a_host_that_passes_for_another_kind_is_put_where_only_it_belongs():
    """Whatever is said of it, hosts that are of that kind are judged by what they say; in either order."""
    liar = {
        'migcheck': GOOD['migcheck'].replace(
            GOOD['migcheck'][13:29], stats(POOR)['migcheck'][13:29]
        )
    }
    for name, texts in (('first', [liar, stats(POOR)]), ('last', [stats(POOR), liar])):
        hosts = [
            types.SimpleNamespace(host='poor' if text is not liar else 'liar', stats=text)
            for text in texts
        ]
        _accepted, rejected = judge().sift(hosts)
        assert 'poor' in [host.host for host in rejected['cpu']], name


STRICT = dataclasses.replace(POLICIES, on_missing={'': 'reject'}, on_stale={'': 'reject'})


@pytest.mark.parametrize(
    'policies',
    [
        POLICIES,
        STRICT,
        dataclasses.replace(STRICT, on_missing={'': 'warn'}),
        dataclasses.replace(STRICT, on_stale={'': 'warn'}),
    ],
)
def test_hosts_are_sifted_together_as_each_is_judged_alone(policies):
    """Whichever stand side by side: there are short ways where all are fresh, and where all are stale."""
    for those in itertools.chain(
        ([],), itertools.product(HOSTS), itertools.product(HOSTS, repeat=2), [tuple(HOSTS) * 2]
    ):
        _sifted_as_alone(those, policies)


def _sifted_as_alone(those, policies):
    source, memory = published.read(stats(storage=NFS)), targets.Memory()
    hosts = [
        types.SimpleNamespace(host=number, name=name, stats=HOSTS[name][0])
        for number, name in enumerate(those)
    ]
    alone = {}
    for host in hosts:
        rejections = judge(source, policies=policies).verdict(host.stats).rejections
        alone.setdefault(rejections[0].check if rejections else '', []).append(host.host)
    for _ in range(2):
        accepted, rejected = judge(source, memory=memory, policies=policies).sift(hosts)
        assert [host.host for host in accepted] == alone.get('', []), those
        assert {check: [host.host for host in found] for check, found in rejected.items()} == {
            check: found for check, found in alone.items() if check
        }, those


names = st.frozensets(
    st.sampled_from(['fpu', 'sse2', 'avx', 'avx2', 'vmx', 'arch-capabilities', 'of-no-libvirt'])
)
spelled = st.sampled_from(
    [
        frozenset(),
        frozenset(),
        frozenset({'EPYC-v4'}),
        frozenset({'xfd', 'fred'}),
        frozenset({'of-no-libvirt'}),
    ]
)
maps = st.sampled_from([None, 'd5d1ca76fa15', 'ac47ffaab720', '0123456789ab'])
cpus = st.builds(
    Cpu,
    st.sampled_from(['x86_64', 'x86_64', 'i686', 'aarch64']),
    st.sampled_from(['kvm', 'kvm', 'qemu']),
    st.sampled_from([None, 'Intel', 'AMD']),
    st.sampled_from(['one', 'other']),
    names,
    st.sampled_from([None, None, 2_000_000_000, 2_000_100_000, 3_000_000_000]),
    st.sampled_from([None, True, False]),
    st.sampled_from([None, 6_000_000, 9_000_000, 9_000_000, 11_003_000]),
    hidden=names,
    forbids=st.just(frozenset()) | names,
    at_most=st.none() | names,
    spelled=spelled,
    cpu_map=maps,
)


@hypothesis.settings(deadline=None)
@hypothesis.given(st.lists(cpus, min_size=1, max_size=3), st.lists(cpus, min_size=1, max_size=4))
def test_the_short_ways_to_a_verdict_end_where_the_long_one_does(guests, given):
    memory = targets.Memory()
    hosts = [
        types.SimpleNamespace(host=number, stats=stats(cpu))
        for number, cpu in enumerate([*given, *given])
    ]
    for cpu in guests:
        guest = Guest(cpu)
        one = judge(guest=guest, memory=memory)
        long = {
            host.host: verdict.judge(guest, None, published.read(host.stats), NOW, POLICIES)
            for host in hosts
        }
        accepted, _rejected = one.sift(hosts)
        assert [host.host for host in accepted] == [
            number for number, found in long.items() if found.accepted
        ]
        assert [one.verdict(host.stats) for host in hosts] == list(long.values())
        assert [one.in_full(host.stats) for host in hosts] == list(long.values())


def test_a_guest_with_names_that_a_host_does_not_know():
    old, new = (
        dataclasses.replace(CPU, libvirt=libvirt, cpu_map=cpu_map)
        for libvirt, cpu_map in ((9_000_000, 'd5d1ca76fa15'), (11_003_000, 'ac47ffaab720'))
    )
    guest = Guest(
        dataclasses.replace(
            CPU, model='EPYC-v4', spelled=frozenset({'EPYC-v4'}), libvirt=11_003_000
        )
    )
    memory = targets.Memory()
    for _ in range(2):
        one = judge(guest=guest, memory=memory)
        assert checks(one.verdict(stats(new))) == ([], [])
        refused = one.verdict(stats(old))
        assert checks(refused) == (['cpu'], [])
        assert 'does not know CPU model EPYC-v4' in refused.rejections[0].detail
        assert 'choose a target whose libvirt knows it' in refused.rejections[0].remedy
        assert checks(one.verdict(stats())) == ([], ['cpu'])  # a report of the version before


def request(**values):
    """Return a RequestSpec as Nova has it: ``is_bfv`` may not be set."""

    class Spec(types.SimpleNamespace):
        def __contains__(self, name):
            return name in vars(self)

    return Spec(
        flavor=types.SimpleNamespace(
            ephemeral_gb=values.pop('ephemeral_gb', 0), swap=values.pop('swap', 0)
        ),
        **values,
    )


@pytest.mark.parametrize(
    'values, expected',
    [
        ({}, {'local-disk'}),
        ({'is_bfv': False}, {'local-disk'}),
        ({'is_bfv': True}, {'volumes'}),
        ({'is_bfv': True, 'swap': 1}, {'volumes', 'local-disk'}),
        ({'is_bfv': True, 'ephemeral_gb': 1}, {'volumes', 'local-disk'}),
        ({'swap': 1}, {'local-disk'}),
    ],
)
def test_which_findings_concern_a_server(values, expected):
    assert targets.needs(request(**values)) == expected


def test_a_guest_that_the_source_knows():
    conf = types.SimpleNamespace(check_interval=60, round_deadline=20.0, stale_after=300)
    source = published.read(stats())
    found = targets.guest(
        'ffffffff-ffff-ffff-ffff-ffffffffffff', source, 0, NOW, conf, frozenset({'volumes'})
    )
    assert found.cpu is not None and found.needs == {'volumes'} and found.running
    for unknown in (
        targets.guest('x', None, 0, NOW, conf),
        targets.guest('x', source, 0, NOW, conf, running=False),
        targets.guest('x', source, NOW, NOW, conf),
    ):
        assert unknown.cpu is None
    assert not targets.guest('x', source, 0, NOW, conf, running=False).running


def test_the_guests_used_last_are_kept(monkeypatch):
    monkeypatch.setattr(targets.Memory, 'GUESTS', 2)
    memory = targets.Memory()
    guests = [Guest(dataclasses.replace(CPU, model=f'model{n}')) for n in range(3)]
    first = memory.of(guests[0], None)
    memory.of(guests[1], None)
    assert memory.of(guests[0], None) is first
    memory.of(guests[2], None)
    assert memory.of(guests[0], None) is first and len(memory._of) == 2
    assert memory.of(guests[0], 'a site') is not first


def test_a_memory_that_is_full_keeps_what_it_has(monkeypatch):
    monkeypatch.setattr(targets.Memory, 'KINDS', 2)
    cache = targets.GuestCache(Guest(CPU))
    for kind in 'abc':
        assert cache.add(kind, verdict.Verdict()) == verdict.Verdict()
    assert list(cache.verdicts) == ['a', 'b']
    memory = targets.Memory()
    assert memory.of(Guest(CPU), None) is memory.of(Guest(CPU), None)


def test_how_many_guests_and_kinds_are_kept():
    """Enough for a host that is emptied, and for a cloud of a thousand hosts whose kinds all differ."""
    assert 16 <= targets.Memory.GUESTS <= 64 and 1000 <= targets.Memory.KINDS <= 2048


@pytest.mark.parametrize(
    'cpu, scales',
    [
        (None, True),
        (CPU, False),
        (dataclasses.replace(CPU, tsc_scaling=True), True),
        (dataclasses.replace(CPU, tsc_scaling=False), False),
    ],
)
def test_whether_a_kind_scales(cpu, scales):
    text = stats(cpu)[published.MAIN]
    assert targets.Memory().kind(text[published.KIND], text).scales is scales


def test_how_many_hosts_each_check_rejects():
    hosts = [
        types.SimpleNamespace(stats=HOSTS[name][0])
        for name in ('good', 'poor CPU', 'both', 'dead endpoint')
    ]
    assert list(judge().counts(hosts).items()) == [('cpu', 2), ('endpoint', 2)]


@pytest.mark.parametrize(
    'name, repaired', [('dead endpoint', True), ('poor CPU', False), ('both', False)]
)
def test_what_may_have_been_repaired(name, repaired):
    assert judge().may_be_repaired(types.SimpleNamespace(stats=HOSTS[name][0])) is repaired


def test_a_stale_report_may_have_been_repaired():
    strict = judge(policies=STRICT)
    assert strict.may_be_repaired(types.SimpleNamespace(stats=HOSTS['stale'][0]))
    assert not strict.may_be_repaired(types.SimpleNamespace(stats=HOSTS['nothing at all'][0]))


@pytest.mark.parametrize(
    'age, fresh',
    [(299, True), (300, True), (301, False), (-299, True), (-300, True), (-301, False)],
)
def test_when_a_report_is_stale(age, fresh):
    assert POLICIES.stale_after == 300
    assert (judge().verdict(stats(age=age)).warnings == ()) is fresh
