# SPDX-License-Identifier: Apache-2.0
"""The decision, as a table."""
import dataclasses
from types import SimpleNamespace

import pytest

from nova_migcheck import cpu as cpus
from nova_migcheck.cpu import Cpu
from nova_migcheck.finding import Finding, Outcome
from nova_migcheck.judging.verdict import Guest, judge, judge_fresh
from nova_migcheck.policies import Policies
from nova_migcheck.report.report import Report
from tests.facts import facts

NOW = 1_764_000_000
HOST = Cpu('x86_64', 'kvm', 'Intel', 'Skylake', frozenset({'fpu', 'sse2', 'avx', 'avx2'}))
GUEST = dataclasses.replace(HOST, features=frozenset({'fpu', 'sse2', 'avx'}))
RICHER = dataclasses.replace(HOST, features=HOST.features | {'avx512f', 'avx512dq'})
ALL = ('address', 'cpu', 'endpoint', 'storage')


def policies(**changes):
    return Policies(checks=ALL, stale_after=300, **changes)


def report(*findings, age=10, cpu=HOST, **values):
    return Report(NOW - age, tuple(findings), cpu, **facts(**values))


def finding(check, outcome, scope=''):
    return Finding(check, outcome, 'thing', 'found', 'origin', 'remedy', scope)


def names(verdict):
    return [f.check for f in verdict.rejections], [f.check for f in verdict.warnings]


@pytest.mark.parametrize('target, expected', [
    (report(), ([], [])),
    (report(finding('endpoint', 'failure')), (['endpoint'], [])),
    (report(finding('endpoint', 'unknown')), ([], ['endpoint'])),
    (report(finding('endpoint', 'warning')), ([], ['endpoint'])),
    (report(finding('endpoint', 'ok')), ([], [])),
    (report(finding('endpoint', 'failure', 'volumes')), ([], [])),
    (report(finding('endpoint', 'failure'), finding('address', 'failure')), (['endpoint', 'address'], [])),
    (report(age=301), ([], ['report'])),
    (report(age=300), ([], [])),
    (report(age=-301), ([], ['report'])),
    (report(finding('endpoint', 'failure'), age=301), ([], ['report'])),
    (None, ([], ['report'])),
    (report(cpu=None), ([], [])),
    (report(cpu=dataclasses.replace(HOST, features=frozenset({'fpu'}))), (['cpu'], [])),
    (report(cpu=dataclasses.replace(HOST, vendor='AMD')), (['cpu'], [])),
    (report(cpu=RICHER), ([], [])),
])
def test_with_the_default_policies(target, expected):
    assert names(judge(Guest(GUEST), None, target, NOW, policies())) == expected


@pytest.mark.parametrize('changes, target, expected', [
    ({'on_failure': {'': 'warn'}}, report(finding('endpoint', 'failure')), ([], ['endpoint'])),
    ({'on_failure': {'': 'ignore'}}, report(finding('endpoint', 'failure')), ([], [])),
    ({'on_failure': {'': 'reject', 'endpoint': 'warn'}}, report(finding('endpoint', 'failure')), ([], ['endpoint'])),
    ({'on_failure': {'endpoint': 'warn'}}, report(finding('address', 'failure')), (['address'], [])),
    ({'on_unknown': {'': 'reject'}}, report(finding('endpoint', 'unknown')), (['endpoint'], [])),
    ({'on_unknown': {'': 'reject'}}, report(finding('endpoint', 'warning')), ([], ['endpoint'])),
    ({'on_missing': {'': 'reject'}}, None, (['report'], [])),
    ({'on_missing': {'cpu': 'reject'}}, None, (['report'], [])),
    ({'on_missing': {'clock': 'reject'}}, None, ([], ['report'])),
    ({'on_missing': {'': 'ignore'}}, None, ([], [])),
    ({'on_stale': {'': 'reject'}}, report(age=301), (['report'], [])),
    ({'on_stale': {'': 'ignore', 'cpu': 'warn'}}, report(age=301), ([], ['report'])),
])
def test_policies(changes, target, expected):
    assert names(judge(Guest(GUEST), None, target, NOW, policies(**changes))) == expected


def test_a_volume_service_matters_to_a_server_with_volumes():
    target = report(finding('endpoint', 'failure', 'volumes'))
    assert not judge(Guest(GUEST, frozenset({'volumes'})), None, target, NOW, policies()).accepted
    assert judge(Guest(GUEST, frozenset({'encryption'})), None, target, NOW, policies()).accepted


def test_every_missing_feature_is_named_and_the_target_too():
    verdict = judge(Guest(RICHER), None, report(), NOW, policies(), name='compute2')
    assert str(verdict.rejections[0]).startswith('cpu: target compute2 lacks avx512dq, avx512f that the guest uses')
    assert judge(Guest(HOST), None, report(cpu=RICHER), NOW, policies()).accepted


def test_the_age_of_a_stale_report_is_named():
    verdict = judge(Guest(), None, report(age=4000), NOW, policies())
    assert '4000 s old' in verdict.warnings[0].detail and '300 s' in verdict.warnings[0].detail
    verdict = judge(Guest(), None, report(age=-4000), NOW, policies())
    assert '4000 s in the future' in verdict.warnings[0].detail


def test_libvirt_has_the_last_word():
    yes, no = cpus.Comparison(cpus.COMPATIBLE), cpus.Comparison(cpus.INCOMPATIBLE, ('hle',), 'lacks hle that the guest uses')
    assert judge(Guest(RICHER), None, report(), NOW, policies(), yes).accepted
    assert not judge(Guest(GUEST), None, report(), NOW, policies(), no).accepted
    # Also of a target that has no report yet.
    assert names(judge(Guest(GUEST), None, None, NOW, policies(), no)) == (['cpu'], ['report'])


def test_a_guest_whose_cpu_is_not_known_is_not_refused_for_it():
    assert judge(Guest(None), None, report(cpu=dataclasses.replace(HOST, features=frozenset())), NOW, policies()).accepted


def test_a_guest_that_starts_anew_is_not_compared():
    assert judge(Guest(RICHER, running=False), None, report(), NOW, policies()).accepted
    assert not judge(Guest(RICHER, running=False), None, report(finding('endpoint', 'failure')), NOW, policies()).accepted


def test_without_the_cpu_check_no_cpu_is_compared():
    assert judge(Guest(RICHER), None, report(), NOW, Policies(checks=('address',))).accepted


def test_could_not_compare_is_unknown():
    other = Cpu('aarch64', 'kvm', model='a')
    target = report(cpu=dataclasses.replace(other, model='b'))
    verdict = judge(Guest(other), None, target, NOW, policies())
    assert names(verdict) == ([], ['cpu']) and verdict.warnings[0].outcome is Outcome.UNKNOWN
    assert not judge(Guest(other), None, target, NOW, policies(on_unknown={'': 'reject'})).accepted


def test_what_is_said_to_the_word():
    missing, stale, cpu = (judge(Guest(GUEST), None, target, NOW, policies(), name=name) for target, name in (
        (None, 'c2'), (report(age=301), 'c2'), (report(cpu=dataclasses.replace(HOST, features=frozenset({'fpu', 'sse2'}))), 'c2')))
    assert missing.warnings == (Finding('report', Outcome.UNKNOWN, 'report', 'it has published no report', 'ComputeNode.stats',
                                        'install and enable nova-migcheck there, and see its nova-compute log', code='report-missing'),)
    assert stale.warnings == (Finding('report', Outcome.UNKNOWN, 'report', 'its report is 301 s old (limit 300 s) and is not believed',
                                      'ComputeNode.stats', 'see that nova-compute runs there, and its clock', code='report-stale'),)
    assert cpu.rejections == (Finding('cpu', Outcome.FAILURE, 'target c2', 'target c2 lacks avx that the guest uses',
                                      'libvirt domain capabilities', 'choose another target, or give all hosts one CPU: '
                                      'nova-migcheck baseline', code='cpu-features-missing'),)
    for verdict in (judge(Guest(RICHER), None, report(), NOW, policies()), judge_fresh(Guest(RICHER), None, report(), policies())):
        nameless = verdict.rejections[0]
        assert (nameless.subject, nameless.detail) == ('target', 'target lacks avx512dq, avx512f that the guest uses')


def test_libvirt_has_the_last_word_about_a_stale_host_by_its_name():
    no = cpus.Comparison(cpus.INCOMPATIBLE, ('hle',), 'lacks hle that the guest uses')
    for target in (None, report(age=301)):
        verdict = judge(Guest(GUEST), None, target, NOW, policies(on_failure={'': 'reject', 'cpu': 'warn'}), no, 'c2')
        assert names(verdict) == ([], ['report', 'cpu']) and verdict.warnings[1].subject == 'target c2'


def test_two_reports_are_compared_for_a_guest_that_runs():
    network = {'networks': ['10.77.0.0/24'], 'intended_by': 'migration_networks', 'host': 'named-by-nobody'}
    source, target = (report(migration={**network, 'mtu': mtu}) for mtu in (9000, 1500))
    verdict = judge(Guest(GUEST), source, target, NOW, policies())
    assert names(verdict) == (['address'], []) and 'MTU 9000' in verdict.rejections[0].detail
    # What differs on every host takes no part.
    assert 'named-by-nobody' not in verdict.rejections[0].detail
    assert judge(Guest(GUEST, running=False), source, target, NOW, policies()).accepted
    assert judge(Guest(GUEST), source, source, NOW, policies()).accepted
    assert judge(Guest(GUEST), None, target, NOW, policies()).accepted


def test_two_storages_are_compared_for_a_server_with_local_disks():
    local = {'images': 'path', 'shared': False, 'path': '/i', 'type': 'ext4', 'mount': '/', 'expect': 'auto'}
    shared = {**local, 'shared': True, 'type': 'nfs4', 'mount': '/i', 'family': 'nfs', 'source': 's:/e', 'servers': ['s'], 'export': '/e'}
    source, target = report(storage=shared), report(storage=local)
    assert names(judge(Guest(GUEST, frozenset({'local-disk'})), source, target, NOW, policies())) == (['storage'], [])
    assert judge(Guest(GUEST, frozenset({'volumes'})), source, target, NOW, policies()).accepted


def test_policies_come_from_the_options():
    group = SimpleNamespace(checks=['cpu'], stale_after=9, on_failure={'': 'warn'}, on_unknown={'': 'reject'},
                            on_missing={'': 'ignore'}, on_stale={'cpu': 'reject'})
    assert Policies.from_conf(group) == Policies(('cpu',), 9, {'': 'warn'}, {'': 'reject'}, {'': 'ignore'}, {'cpu': 'reject'})


def test_policies_without_a_general_word():
    assert Policies(on_failure={}).of(finding('cpu', 'failure')) == 'reject'
    assert Policies(on_unknown={}).of(finding('cpu', 'unknown')) == 'warn'
    # No check enabled: what holds for all.
    assert Policies().strictest({'': 'reject', 'cpu': 'ignore'}) == 'reject'
    assert Policies(checks=('cpu', 'address')).strictest({'': 'ignore', 'address': 'reject'}) == 'reject'
    assert Policies(checks=('cpu',)).strictest({'': 'reject', 'cpu': 'ignore'}) == 'ignore'
    assert Policies(checks=('cpu',)).strictest({}) == 'warn'


def test_a_check_of_its_own_policy_that_cannot_tell():
    assert Policies(on_unknown={'': 'warn', 'cpu': 'reject'}).of(finding('cpu', 'unknown')) == 'reject'


def test_what_one_host_and_two_hosts_say_both_count():
    network = {'networks': ['10.77.0.0/24'], 'intended_by': 'migration_networks'}
    source, target = report(migration={**network, 'mtu': 9000}), report(finding('endpoint', 'failure'), migration={**network, 'mtu': 1500})
    assert names(judge(Guest(GUEST), source, target, NOW, policies())) == (['endpoint', 'address'], [])
    # Compared before, by whoever judges many.
    assert names(judge(Guest(GUEST), source, target, NOW, policies(), together=[])) == (['endpoint'], [])


def test_a_report_of_the_future_to_the_word():
    assert judge(Guest(), None, report(age=-4000), NOW, policies()).warnings[0].detail == (
        'its report is 4000 s in the future (limit 300 s) and is not believed')
