# SPDX-License-Identifier: Apache-2.0
"""Guests between hosts whose CPUs differ: what must be refused, by the filter and by the destination, and what must be accepted.

The names C1 to C7, K1 to K4, K11 and K12 are those of the project's table of faults, which says in words:

C1 the target lacks features · C2 another vendor · C3 a host-passthrough guest would lose features silently · C4 the guest holds what
its own host has since lost · C5 the target cannot say · C6 another architecture or virt type · C7 another TSC frequency
K1 identical hosts · K2 a target with more · K3 back to the lesser host where the guest came from · K4 disabled features that the target
lacks · K11 another TSC frequency that does not matter · K12 a feature that got another name
"""

from __future__ import annotations

import time
from unittest import mock

import pytest
from nova import exception

from nova_migcheck import published
from tests.functional.hypervisor import Cpu

GHZ = 10 ** 9
HASWELL = Cpu(tsc=(25 * GHZ // 10, False))
NO_TSX = Cpu('Haswell-noTSX', tsc=(25 * GHZ // 10, False))
LACKS_TSX = 'lacks hle, rtm that the guest uses'
KVM_IS_AWAY = "KVM is not supported by '/usr/bin/qemu-system-x86_64' on this host"

# Of some hosts, what their guests are: all others give them host-model.
PASSTHROUGH = {'libvirt': {'cpu_mode': 'host-passthrough'}}
INVTSC = {'libvirt': {'cpu_model_extra_flags': 'invtsc'}}
EMULATES = {'libvirt': {'virt_type': 'qemu'}}
# Reports hold for as long as the tests last, on the slowest machine.
LASTING = {'stale_after': '86400', 'recheck_after': '86400', 'round_deadline': '60'}


def report(cloud, host):
    return published.read(cloud.stats(host))


class TestRows:
    CLOUD = {
        'cpus': {
            'haswell': HASWELL, 'passing': HASWELL, 'fixed': HASWELL,
            'notsx': NO_TSX, 'lesser': HASWELL.without('hle', 'rtm'), 'greater': Cpu('Skylake-Server', tsc=(21 * GHZ // 10, True)),
            'amd': Cpu('EPYC'), 'drifting': Cpu(tsc=(26 * GHZ // 10, False)), 'near': Cpu(tsc=(2_500_100_000, False)),
            'arm': Cpu(arch='aarch64'), 'emulating': HASWELL, 'mute': Cpu(kvm=False),
        },
        'conf': {'migcheck': LASTING},
        'host_conf': {'passing': PASSTHROUGH, 'fixed': INVTSC, 'emulating': EMULATES},
    }

    REFUSED = {
        'C1': ('haswell', 'notsx', [LACKS_TSX]),
        'C2': ('haswell', 'amd', ['AMD', 'Intel']),
        'C3': ('passing', 'notsx', [LACKS_TSX]),
        'C6 architecture': ('haswell', 'arm', ['has architecture aarch64, the guest needs x86_64']),
        'C6 virt type': ('haswell', 'emulating', ['runs guests with qemu, the guest needs kvm']),
        'C7': ('fixed', 'drifting', ['has a TSC of 2600000000 Hz, the guest needs 2500000000 Hz', 'cannot scale']),
    }
    ACCEPTED = {
        'K1': ('haswell', 'passing'),
        'K1 passthrough': ('passing', 'haswell'),
        'K2': ('haswell', 'greater'),
        'K2 passthrough': ('passing', 'greater'),
        'K4': ('lesser', 'notsx'),
        'K11 no invtsc': ('haswell', 'drifting'),
        'K11 the target scales': ('fixed', 'greater'),
        'K11 near enough': ('fixed', 'near'),
    }

    @staticmethod
    def _server(cloud, host):
        """On ``host``, and in its report where it is not like the host's others."""
        server = cloud.server(host)
        if host == 'fixed':
            cloud.check(host)
        return server

    @staticmethod
    def _refused_by_the_filter(cloud, server, source, target, words):
        migration = cloud.live_migrate(server, target)
        assert (migration.status, migration.host, migration.state) == ('error', source, 'ACTIVE')
        assert migration.message == 'No valid host was found. migcheck rejected 1 host (cpu: 1)'
        assert not cloud.hosts[target].was_asked()
        line, = cloud.log.lines('INFO [nova_migcheck.scheduler]', f'Host {target} is rejected', server)
        for word in ['cpu: target', *words]:
            assert word in line

    @staticmethod
    def _refused_by_the_destination(cloud, server, source, target, words):
        migration = cloud.live_migrate(server, target, force=True)
        assert (migration.status, migration.host, migration.state) == ('error', source, 'ACTIVE')
        assert 'check_can_live_migrate_source' not in cloud.hosts[source].calls
        assert 'pre_live_migration' not in cloud.hosts[target].calls
        reason = migration.refusals[target]
        assert reason.startswith(f'cpu: target {target} ')
        for word in words:
            assert word in reason
        assert cloud.log.lines('WARNING [nova_migcheck.hook]', f'Live migration to {target} is refused', *words)
        assert not cloud.log.lines('nova_migcheck', 'disagree')

    @staticmethod
    def _accepted(cloud, server, target, force=False):
        """By the filter (unless it is forced), by the destination and by the source; without a word."""
        source = cloud.host_of(server)
        cloud.forget_calls()
        migration = cloud.live_migrate(server, target, force)
        assert (migration.status, migration.host, migration.state) == ('completed', target, 'ACTIVE'), migration.texts
        assert migration.refusals == {}
        assert 'check_can_live_migrate_destination' in cloud.hosts[target].calls
        assert 'check_can_live_migrate_source' in cloud.hosts[source].calls
        assert bool(cloud.scheduler_queries) is not force
        assert not cloud.log.lines('WARNING [nova_migcheck') and not cloud.log.lines('ERROR [nova_migcheck')

    @pytest.mark.parametrize('row', REFUSED)
    def test_refused_by_the_filter(self, cloud, row):
        source, target, words = self.REFUSED[row]
        self._refused_by_the_filter(cloud, self._server(cloud, source), source, target, words)

    @pytest.mark.parametrize('row', REFUSED)
    def test_refused_by_the_destination(self, cloud, row):
        source, target, words = self.REFUSED[row]
        self._refused_by_the_destination(cloud, self._server(cloud, source), source, target, words)

    @pytest.mark.parametrize('row', ACCEPTED)
    def test_accepted_by_both(self, cloud, row):
        source, target = self.ACCEPTED[row]
        self._accepted(cloud, self._server(cloud, source), target)

    @pytest.mark.parametrize('source', ['haswell', 'passing'])
    def test_c4_a_guest_holds_what_its_own_host_has_lost(self, cloud, source):
        """Microcode took TSX away from a running host: its guests still have it, host-model and host-passthrough alike."""
        server = cloud.server(source)
        cloud.check(source)
        cloud.hosts[source].hypervisor.cpu = HASWELL.without('hle', 'rtm')
        cloud.check(source)
        assert not {'hle', 'rtm'} & report(cloud, source).cpu.features
        self._refused_by_the_filter(cloud, server, source, 'notsx', [LACKS_TSX])
        self._refused_by_the_destination(cloud, server, source, 'notsx', [LACKS_TSX])

    def test_c5_a_target_that_cannot_say_is_no_failure(self, cloud):
        server = cloud.server('haswell')
        assert report(cloud, 'mute').cpu is None
        migration = cloud.live_migrate(server, 'mute')
        assert (migration.status, migration.host) == ('completed', 'mute'), migration.texts
        assert cloud.log.lines('WARNING [nova_migcheck.hook]', 'Live migration to mute', KVM_IS_AWAY)

    def test_k3_back_to_the_lesser_host_where_the_guest_came_from(self, cloud):
        """By what the greater host has reported of the guest."""
        server = cloud.boot('notsx')
        self._accepted(cloud, server, 'greater')
        cloud.check('greater')
        # Long enough after the guest came for the report to be believed of it.
        stats = cloud.stats('greater')
        main = stats[published.MAIN]
        stats[published.MAIN] = main.replace(main.split()[1], f'{int(time.time()) + 120:010d}', 1)
        cloud.set_stats('greater', stats)
        assert report(cloud, 'greater').guest(server).features == report(cloud, 'notsx').guest('').features
        self._accepted(cloud, server, 'notsx')

    @pytest.mark.parametrize('force', [False, True], ids=['filter', 'forced'])
    def test_k3_back_before_the_greater_host_has_reported_the_guest(self, cloud, force):
        """By the report it would be like that host's own guests, and refused."""
        server = cloud.boot('notsx')
        self._accepted(cloud, server, 'greater')
        assert 'avx512f' in report(cloud, 'greater').guest(server).features
        self._accepted(cloud, server, 'notsx', force)

    def test_the_source_catches_what_its_report_did_not_tell(self, cloud):
        """All the guests of a host came from a lesser one, so that is what its report says of them. Then it starts one of its own."""
        came = cloud.boot('notsx')
        self._accepted(cloud, came, 'near')
        cloud.check('near')
        own = cloud.boot('near')
        assert 'hle' not in report(cloud, 'near').guest(own).features
        cloud.forget_calls()
        migration = cloud.live_migrate(own, 'notsx')
        assert (migration.status, migration.host, migration.state) == ('error', 'near', 'ACTIVE')
        assert 'check_can_live_migrate_source' in cloud.hosts['near'].calls
        assert 'pre_live_migration' not in cloud.hosts['notsx'].calls
        assert migration.refusals['notsx'].startswith(f'cpu: target notsx {LACKS_TSX}')

    @pytest.mark.parametrize(('old', 'new'), [('arch-facilities', 'arch-capabilities'), ('arch-capabilities', 'arch-facilities')])
    def test_k12_a_feature_whose_name_changed(self, cloud, old, new):
        cloud.hosts['near'].hypervisor.cpu = Cpu().having(old)
        cloud.hosts['drifting'].hypervisor.cpu = Cpu().having(new)
        cloud.check('near', 'drifting')
        self._accepted(cloud, cloud.boot('near'), 'drifting')

    def test_a_feature_that_was_not_renamed_but_is_missing(self, cloud):
        """The nearest fault to K12."""
        cloud.hosts['near'].hypervisor.cpu = Cpu().having('arch-facilities')
        cloud.check('near')
        server = cloud.boot('near')
        words = ['lacks arch-capabilities that the guest uses']
        self._refused_by_the_filter(cloud, server, 'near', 'drifting', words)
        self._refused_by_the_destination(cloud, server, 'near', 'drifting', words)

    def test_libvirt_has_the_last_word_when_it_refuses(self, cloud):
        server = cloud.server('haswell')
        cloud.hosts['drifting'].hypervisor.cpu = Cpu().without('hle', 'rtm')  # after its report
        migration = cloud.live_migrate(server, 'drifting')
        assert (migration.status, migration.host, migration.state) == ('error', 'haswell', 'ACTIVE')
        assert migration.refusals['drifting'].startswith(f'cpu: target drifting {LACKS_TSX}')
        line, = cloud.log.lines('WARNING [nova_migcheck.hook]', 'disagree')
        assert f'libvirt: {LACKS_TSX}. Features: compatible' in line

    def test_libvirt_has_the_last_word_when_it_accepts(self, cloud):
        server = cloud.server('haswell')
        cloud.hosts['notsx'].hypervisor.cpu = HASWELL  # after its report
        migration = cloud.live_migrate(server, 'notsx', force=True)
        assert (migration.status, migration.host) == ('completed', 'notsx'), migration.texts
        line, = cloud.log.lines('WARNING [nova_migcheck')
        assert f'libvirt: compatible. Features: {LACKS_TSX}' in line

    # LP#2039803: Nova compares the source's raw CPU with what the target gives to guests, and rejects identical hosts.

    @pytest.fixture
    def compares(self, cloud):
        """A host on which Nova's own comparison is on, as it is by default."""
        cloud.hosts['near'].set('workarounds', 'skip_cpu_compare_on_dest', 'false')
        return cloud.hosts['near']

    def test_k1_nova_s_comparison_is_kept(self, cloud, compares):
        server = cloud.server('haswell')
        migration = cloud.live_migrate(server, compares.name)
        assert (migration.status, migration.host, migration.state) == ('error', 'haswell', 'ACTIVE')
        novas = next(event['details'] for event in migration.action['events']
                     if event['event'] == 'compute_check_can_live_migrate_destination')
        for text in (novas, migration.refusals[compares.name]):
            assert text.startswith("cpu: Nova's own comparison refuses this host, which provides all that the guest uses (LP#2039803)")
            assert '[workarounds] skip_cpu_compare_on_dest' in text and '[migcheck] nova_cpu_check' in text
            assert len(text.encode()) <= 255
        line, = cloud.log.lines('WARNING [nova_migcheck')
        for word in ('skip_cpu_compare_on_dest', 'nova_cpu_check', 'Unacceptable CPU info', compares.name):
            assert word in line

    def test_k1_nova_s_comparison_is_replaced(self, cloud, compares):
        compares.set('migcheck', 'nova_cpu_check', 'replace')
        self._accepted(cloud, cloud.server('haswell'), compares.name)
        line, = cloud.log.lines('INFO [nova_migcheck.compute]')
        assert 'comparison of the two hosts\' CPUs is skipped' in line and 'nova_cpu_check = replace' in line

    def test_k1_replaced_a_lesser_cpu_is_refused_all_the_same(self, cloud, compares):
        server = cloud.server('haswell')
        compares.set('migcheck', 'nova_cpu_check', 'replace')
        compares.hypervisor.cpu = NO_TSX
        cloud.check(compares.name)
        self._refused_by_the_destination(cloud, server, 'haswell', compares.name, [LACKS_TSX])
        assert not cloud.log.lines('is skipped')

    def test_k1_without_a_verdict_of_ours_nova_s_comparison_is_never_replaced(self, cloud, compares):
        server = cloud.server('haswell')
        compares.set('migcheck', 'nova_cpu_check', 'replace')
        stats = cloud.stats('haswell')
        cloud.set_stats('haswell', {key: text for key, text in stats.items() if not key.startswith('migcheck')})
        migration = cloud.live_migrate(server, compares.name)
        assert (migration.status, migration.host, migration.state) == ('error', 'haswell', 'ACTIVE')
        assert 'Unacceptable CPU info' in migration.texts
        assert not cloud.log.lines('is skipped')


class TestUnknownRejects:
    """C5 where the operator wants no risk."""

    CLOUD = {'cpus': {'haswell': Cpu(), 'mute': Cpu(kvm=False), 'away': Cpu()},
             'conf': {'migcheck': {**LASTING, 'on_unknown': 'warn,cpu:reject'}},
             'host_conf': {'away': {'libvirt': {'connection_uri': 'qemu:///system?state=/nonexistent'}}}}
    WHY = {'mute': KVM_IS_AWAY, 'away': 'libvirtd does not answer'}

    @pytest.mark.parametrize('target', WHY)
    def test_c5_by_the_filter(self, cloud, target):
        TestRows._refused_by_the_filter(cloud, cloud.server('haswell'), 'haswell', target, ())

    @pytest.mark.parametrize('target', WHY)
    def test_c5_by_the_destination(self, cloud, target):
        server, host = cloud.server('haswell'), cloud.hosts[target]
        away = mock.patch.object(host.driver._host, 'get_connection', side_effect=exception.HypervisorUnavailable())
        with away if target == 'away' else mock.patch.object(host, 'name', host.name):
            migration = cloud.live_migrate(server, target, force=True)
        assert (migration.status, migration.host, migration.state) == ('error', 'haswell', 'ACTIVE')
        assert 'pre_live_migration' not in host.calls
        assert migration.refusals[target].startswith('cpu: ')
        assert self.WHY[target] in migration.refusals[target]
        assert not cloud.log.lines('this is a bug')

    def test_a_target_that_says_it(self, cloud):
        """Nothing else on a well host is unknown."""
        host = cloud.hosts['away']
        host.set('libvirt', 'connection_uri', host.hypervisor.uri)
        cloud.check('away')
        assert cloud.live_migrate(cloud.server('haswell'), 'away').status == 'completed'
