# SPDX-License-Identifier: Apache-2.0
"""The matrix comes to the same as judging each pair by itself."""

import dataclasses

import pytest

from nova_migcheck.cpu import Cpu
from nova_migcheck.finding import Finding, Outcome
from nova_migcheck.judging import matrix as matrices
from nova_migcheck.judging import targets
from nova_migcheck.judging.matrix import State
from nova_migcheck.policies import Policies
from nova_migcheck.report import published
from nova_migcheck.report.report import Report
from tests.cli import fleet_files
from tests.cli.hosts import MIGCHECK, NOW, Host
from tests.facts import facts

POLICIES = Policies.from_conf(MIGCHECK)


def fleet():
    hosts = [
        Host(f"compute{n}", "cell1" if n < 20 else "cell2", fleet_files.report_of(n, NOW))
        for n in range(1, 31)
    ]
    hosts.append(Host("unreadable", "cell1", {published.MAIN: "9 what"}))
    return hosts


def texts(findings):
    # The age of a stale report is the one thing that the matrix leaves out.
    return {
        (f.check, f.outcome, f.subject, "" if f.check == "report" else f.detail) for f in findings
    }


def test_each_pair_is_what_the_filter_comes_to():
    hosts = fleet()
    matrix = matrices.build(hosts, POLICIES, MIGCHECK, NOW)
    for row in matrix.rows:
        source = hosts[row.host].report
        guest = targets.guest("ffffffff-ffff-ffff-ffff-ffffffffffff", source, 0, NOW, MIGCHECK)
        judge = targets.Judge(POLICIES, guest, source, NOW)
        for number, host in enumerate(hosts):
            verdict, expected = matrix.verdict(row, number), judge.in_full(host.stats)
            assert texts(verdict.rejections) == texts(expected.rejections), (row, host.name)
            assert texts(verdict.warnings) == texts(expected.warnings), (row, host.name)


def test_the_groups_hold_each_host_once_and_their_verdicts_are_those_of_each_member():
    matrix = matrices.build(fleet(), POLICIES, MIGCHECK, NOW)
    assert sorted(row.host for group in matrix.source_groups() for row in group) == list(range(31))
    assert sorted(host for group in matrix.target_groups() for host in group) == list(range(31))
    assert len(matrix.target_groups()) < 16
    for sources, hosts, state, verdict in matrix.folded():
        for row in sources:
            for host in hosts:
                assert matrix.verdict(row, host) == verdict
                assert row.host == host or matrix.state([row], [host]) is state


def test_states():
    matrix = matrices.build(fleet(), POLICIES, MIGCHECK, NOW)
    found = [matrix.state([matrix.rows[0]], [host]) for host in range(10)]
    assert [str(state) for state in found] == [
        "same",
        "rejected",
        "rejected",
        "accepted",
        "rejected",
        "warned",
        "accepted",
        "warned",
        "warned",
        "accepted",
    ]
    assert matrix.state([matrix.rows[0]], [25]) is State.APART


def test_servers_with_a_cpu_of_their_own_get_a_row():
    matrix = matrices.build(fleet(), POLICIES, MIGCHECK, NOW, servers=True)
    own = [row for row in matrix.rows if row.who]
    assert [(row.host, row.who) for row in own] == [
        (0, (fleet_files.UUIDS["old1"].replace("-", "")[:12],))
    ]
    # A Haswell of ten years ago may go where a guest that uses all of a Skylake may not.
    assert (
        matrix.state([own[0]], [1]) is State.ACCEPTED
        and matrix.state([matrix.rows[0]], [1]) is State.REJECTED
    )


def test_what_concerns_some_servers_only_is_a_warning_with_its_scope():
    scoped = Finding("endpoint", Outcome.FAILURE, "http://cinder", "refused", scope="volumes")
    hosts = [
        Host("a", stats=published.write(Report(NOW))),
        Host("b", stats=published.write(Report(NOW, (scoped,)))),
    ]
    matrix = matrices.build(hosts, POLICIES, MIGCHECK, NOW)
    verdict = matrix.verdict(matrix.rows[0], 1)
    assert verdict.accepted and [f.scope for f in verdict.warnings] == ["volumes"]


@pytest.mark.parametrize("scaling, expected", [(False, State.REJECTED), (True, State.ACCEPTED)])
def test_a_tsc_that_differs_is_seen_although_it_stands_apart_from_the_cpu(scaling, expected):
    features = frozenset({"fpu", "invtsc"})
    host = Cpu(
        "x86_64", "kvm", "Intel", "Skylake", features, tsc_hz=2_000_000_000, tsc_scaling=scaling
    )
    guest = dataclasses.replace(host, tsc_scaling=None)
    source = Report(NOW, cpu=host, default_guest=guest)
    hosts = [
        Host("a", stats=published.write(source)),
        Host("same", stats=published.write(source)),
        Host(
            "other",
            stats=published.write(Report(NOW, cpu=dataclasses.replace(host, tsc_hz=2_400_000_000))),
        ),
    ]
    matrix = matrices.build(hosts, POLICIES, MIGCHECK, NOW)
    assert matrix.state([matrix.rows[0]], [1]) is State.ACCEPTED
    assert matrix.state([matrix.rows[0]], [2]) is expected


def test_what_is_too_old_is_stale_whether_or_not_it_can_be_read():
    texts = published.write(Report(NOW - 40_000, (), fleet_files.SKYLAKE))
    cut = {published.MAIN: texts[published.MAIN][:60]}
    policies = dataclasses.replace(POLICIES, on_missing={"": "reject"}, on_stale={"": "ignore"})
    fresh = published.write(Report(NOW, (), fleet_files.SKYLAKE))
    hosts = [
        Host("good", stats=published.write(Report(NOW))),
        Host("old", stats=texts),
        Host("old and cut", stats=cut),
        Host("cut", stats={published.MAIN: fresh[published.MAIN][:60]}),
        Host("silent"),
    ]
    matrix = matrices.build(hosts, policies, MIGCHECK, NOW)
    states = [str(matrix.state([matrix.rows[0]], [number])) for number in range(5)]
    assert states == ["same", "accepted", "accepted", "rejected", "rejected"]
    judge = targets.Judge(
        policies,
        targets.guest("ffffffff-ffff-ffff-ffff-ffffffffffff", hosts[0].report, 0, NOW, MIGCHECK),
        None,
        NOW,
    )
    assert [judge.verdict(host.stats).accepted for host in hosts[1:]] == [True, True, False, False]


def test_two_hosts_with_one_uuid_are_no_targets_for_each_other():
    """They are of one kind otherwise, and so are the hosts that have each its own."""
    cpu = Cpu("x86_64", "kvm", "Intel", "Skylake", frozenset({"fpu"}))
    uuids = [f"0a6de5b1-0000-4000-8000-00000000000{n}" for n in (1, 1, 2, 3)]
    hosts = [
        Host(
            f"compute{number}",
            "cell1",
            published.write(
                Report(NOW, cpu=cpu, **facts(machine={"qemu": "7.2.22", "uuid": uuid}))
            ),
        )
        for number, uuid in enumerate(uuids)
    ]
    matrix = matrices.build(hosts, POLICIES, MIGCHECK, NOW)
    for row in matrix.rows:
        for number in range(4):
            rejected = [f.code for f in matrix.verdict(row, number).rejections]
            twins = {row.host, number} <= {0, 1}
            assert rejected == (["machine-same-uuid"] if twins else []), (row, number)
    assert len(matrix.target_groups()) == 2
    assert str(matrix.state([matrix.rows[0]], [1])) == "rejected"
    assert str(matrix.state([matrix.rows[0]], [0])) == "same"
