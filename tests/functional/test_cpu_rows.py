# SPDX-License-Identifier: Apache-2.0
"""Guests between hosts whose CPUs differ: what must be refused, by the filter and by the destination, and what must be accepted.

The names C1 to C7, K1 to K4, K11 and K12 are those of the project's table of faults, which says in words:

C1 the target lacks features · C2 another vendor · C3 a host-passthrough guest would lose features silently · C4 the guest holds what
its own host has since lost · C5 the target cannot say · C6 another architecture or virt type · C7 another TSC frequency
K1 identical hosts · K2 a target with more · K3 back to the lesser host where the guest came from · K4 disabled features that the target
lacks · K11 another TSC frequency that does not matter · K12 a feature that got another name
"""

from __future__ import annotations

import dataclasses
import time
from unittest import mock

import pytest
from nova import exception

from nova_migcheck.report import published
from tests.functional import nova_release
from tests.functional.hypervisor import Cpu

NOVA_COMPARES = pytest.mark.skipif(not nova_release.compares_hypervisor_cpus(), reason='LP#2039803 came with 2023.1')
GHZ = 10 ** 9
HASWELL = Cpu(tsc=(25 * GHZ // 10, False))
NO_TSX = Cpu('Haswell-noTSX', tsc=(25 * GHZ // 10, False))
LACKS_TSX = 'lacks hle, rtm that the guest uses'
KVM_IS_AWAY = "KVM is not supported by '/usr/bin/qemu-system-x86_64' on this host"

# Of some hosts, what their guests are: all others give them host-model.
PASSTHROUGH = {'libvirt': {'cpu_mode': 'host-passthrough'}}
INVTSC = {'libvirt': {'cpu_model_extra_flags': 'invtsc'}}
DISABLES = {'libvirt': {'cpu_model_extra_flags': '-hle,-rtm'}}
NO_LIBVIRTD = {'libvirt': {'connection_uri': 'qemu:///system?state=/nonexistent'}}
EMULATES = {'libvirt': {'virt_type': 'qemu'}}
MIGCHECK = {
    # Reports hold for as long as the tests last, on the slowest machine.
    'stale_after': '86400', 'recheck_after': '86400', 'round_deadline': '60',
    # So that what is accepted here is so because it is compatible, not because nobody could tell.
    'on_unknown': 'warn,cpu:reject',
}


def report(cloud, host):
    return published.read(cloud.stats(host))


class TestRows:
    CLOUD = {
        'cpus': {
            'haswell': HASWELL, 'passing': HASWELL, 'fixed': HASWELL, 'disabling': HASWELL,
            'notsx': NO_TSX, 'lesser': HASWELL.without('hle', 'rtm'), 'greater': Cpu('Skylake-Server', tsc=(21 * GHZ // 10, True)),
            'amd': Cpu('EPYC'), 'arm': Cpu(arch='aarch64'), 'emulating': HASWELL, 'mute': Cpu(kvm=False), 'away': HASWELL,
            # Its libvirt has the feature's first name; and its TSC is 40 ppm off.
            'near': Cpu(tsc=(2_500_100_000, False)).having('arch-facilities'),
            'drifting': Cpu(tsc=(26 * GHZ // 10, False)).having('arch-capabilities'),
            # Not every libvirt knows the model and the disabled feature in its guests' definitions.
            'genoa': Cpu('EPYC-Genoa', libvirt=11_003_000).without('fred'),
            'knowing': Cpu('EPYC', libvirt=11_003_000),
            'no-model': Cpu('EPYC', unknown=frozenset({'EPYC-Genoa'}), libvirt=10_000_000),
            'no-fred': Cpu('EPYC', unknown=frozenset({'fred'}), libvirt=10_000_000),
        },
        'conf': {'migcheck': MIGCHECK},
        'host_conf': {'passing': PASSTHROUGH, 'fixed': INVTSC, 'disabling': DISABLES, 'emulating': EMULATES, 'away': NO_LIBVIRTD},
    }

    REFUSED = {
        'C1': ('haswell', 'notsx', [LACKS_TSX]),
        'C2': ('haswell', 'amd', ['AMD', 'Intel']),
        'C3': ('passing', 'notsx', [LACKS_TSX]),
        'C5 no KVM': ('haswell', 'mute', [KVM_IS_AWAY]),
        'C6 architecture': ('haswell', 'arm', ['has architecture aarch64, the guest needs x86_64']),
        'C6 virt type': ('haswell', 'emulating', ['runs guests with qemu, the guest needs kvm']),
        'C7': ('fixed', 'drifting', ['has a TSC of 2600000000 Hz, the guest needs 2500000000 Hz', 'cannot scale']),
        'K12, but the target lacks it': ('near', 'fixed', ['lacks arch-capabilities that the guest uses']),
    }
    ACCEPTED = {
        'K1': ('haswell', 'passing'),
        'K2': ('haswell', 'greater'),
        'K2 host-passthrough': ('passing', 'greater'),
        'K4': ('lesser', 'notsx'),
        # Its first guest, which started after its report.
        'K4 by an option': ('disabling', 'notsx'),
        'K11 no invtsc': ('haswell', 'drifting'),
        'K11 the target scales': ('fixed', 'greater'),
        'K11 near enough': ('fixed', 'near'),
        'K12 the newer name on the target': ('near', 'drifting'),
        'K12 the older name on the target': ('drifting', 'near'),
    }

    @staticmethod
    def _server(cloud, host):
        """On ``host``, and in its report where its guests are not like what it provides."""
        server = cloud.server(host)
        said = report(cloud, host).guest(server)
        if host == 'fixed' and (said is None or said.tsc_hz is None):
            cloud.check(host)
        return server

    @staticmethod
    def _refused_by_the_filter(cloud, server, source, target, words):
        migration = cloud.live_migrate(server, target)
        assert (migration.status, migration.host, migration.state) == ('error', source, 'ACTIVE')
        assert migration.message == 'No valid host was found. migcheck rejected 1 host (cpu: 1)'
        assert not cloud.hosts[target].was_asked()
        line, = cloud.log.lines('INFO [nova_migcheck.scheduler]', f'Host {target} is rejected', server)
        for word in ['cpu: ', *words]:
            assert word in line

    @staticmethod
    def _refused_by_the_destination(cloud, server, source, target, words):
        migration = cloud.live_migrate(server, target, force=True)
        assert (migration.status, migration.host, migration.state) == ('error', source, 'ACTIVE')
        assert 'check_can_live_migrate_source' not in cloud.hosts[source].calls
        assert 'pre_live_migration' not in cloud.hosts[target].calls
        reason = migration.refusals[target]
        assert reason.startswith('cpu: ')
        for word in words:
            assert word in reason
        assert cloud.log.lines('WARNING [nova_migcheck.hook]', f'Live migration to {target} is refused', *words)
        assert not cloud.log.lines('nova_migcheck', 'disagree')

    @staticmethod
    def _accepted(cloud, server, target):
        """By the filter, by the destination and by the source; without a word."""
        source = cloud.host_of(server)
        cloud.forget_calls()
        migration = cloud.live_migrate(server, target)
        assert (migration.status, migration.host, migration.state) == ('completed', target, 'ACTIVE'), migration.texts
        assert migration.refusals == {}
        assert 'check_can_live_migrate_destination' in cloud.hosts[target].calls
        assert 'check_can_live_migrate_source' in cloud.hosts[source].calls
        assert cloud.scheduler_queries
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

    # A guest's definition travels with it, and the target's libvirt must know the names in it.

    @staticmethod
    def _publish(cloud, host, **changes):
        """What the scheduler reads of a host, as if its libvirt were another one."""
        said = report(cloud, host)
        cloud.set_stats(host, {**cloud.stats(host), **published.write(dataclasses.replace(
            said, cpu=dataclasses.replace(said.cpu, **changes)))})

    @pytest.mark.parametrize(('target', 'name'), [
        ('no-model', 'CPU model EPYC-Genoa'), ('no-fred', 'CPU feature fred')])
    def test_a_name_that_the_targets_libvirt_does_not_know(self, cloud, target, name):
        """The filter tells it by what the target published, and the destination asks its libvirt."""
        server = cloud.server('genoa')
        assert report(cloud, 'genoa').cpu.spelled == {'EPYC-Genoa', 'fred'}
        assert not report(cloud, 'genoa').groups
        words = [f'has libvirt 10.0.0, which does not know {name} of the guest (libvirt 11.3.0)']
        self._refused_by_the_destination(cloud, server, 'genoa', target, words)
        cloud.forget_calls()
        stats = cloud.stats(target)
        try:
            self._publish(cloud, target, libvirt=9_000_000, cpu_map='d5d1ca76fa15')
            self._refused_by_the_filter(cloud, server, 'genoa', target, [
                'has libvirt 9.0.0, which does not know CPU model EPYC-Genoa and CPU feature fred '
                'of the guest (libvirt 11.3.0)'])
        finally:
            cloud.set_stats(target, stats)

    def test_names_that_the_targets_libvirt_knows(self, cloud):
        self._accepted(cloud, cloud.server('genoa'), 'knowing')

    def test_libvirt_has_the_last_word_about_names_too(self, cloud):
        """It was upgraded after the report, and the report is still believed."""
        server, target = cloud.server('genoa'), cloud.hosts['knowing'].driver._migcheck
        old = dataclasses.replace(
            report(cloud, 'knowing').cpu, libvirt=9_000_000, cpu_map='d5d1ca76fa15')
        outdated = dataclasses.replace(report(cloud, 'knowing'), cpu=old)
        with mock.patch.object(type(target.reporter), 'fresh', return_value=outdated):
            migration = cloud.live_migrate(server, 'knowing', force=True)
        assert (migration.status, migration.host) == ('completed', 'knowing'), migration.texts
        assert not cloud.log.lines('WARNING [nova_migcheck')

    def test_c5_libvirtd_is_away(self, cloud):
        """From the checks, and from nova-compute."""
        server, host = cloud.server('haswell'), cloud.hosts['away']
        self._refused_by_the_filter(cloud, server, 'haswell', 'away', ['libvirtd does not answer'])
        with mock.patch.object(host.driver._host, 'get_connection', side_effect=exception.HypervisorUnavailable()):
            self._refused_by_the_destination(cloud, server, 'haswell', 'away', ['libvirtd does not answer'])
        assert not cloud.log.lines('this is a bug')

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

    def test_k3_back_before_the_greater_host_has_reported_the_guest(self, cloud):
        """By the report it would be like that host's own guests, and refused."""
        server = cloud.boot('notsx')
        self._accepted(cloud, server, 'greater')
        assert 'avx512f' in report(cloud, 'greater').guest(server).features
        self._accepted(cloud, server, 'notsx')

    def test_the_source_catches_what_its_report_did_not_tell(self, cloud):
        """All the guests of a host came from a lesser one, so that is what its report says of them. Then it starts one of its own."""
        came = cloud.boot('notsx')
        self._accepted(cloud, came, 'greater')
        cloud.check('greater')
        own = cloud.boot('greater')
        assert 'hle' not in report(cloud, 'greater').guest(own).features
        cloud.forget_calls()
        migration = cloud.live_migrate(own, 'notsx')
        assert (migration.status, migration.host, migration.state) == ('error', 'greater', 'ACTIVE')
        assert 'check_can_live_migrate_source' in cloud.hosts['greater'].calls
        assert 'pre_live_migration' not in cloud.hosts['notsx'].calls
        assert migration.refusals['notsx'].startswith('cpu: target notsx lacks 3dnowprefetch, abm, adx, arat, avx512bw')

    def test_libvirt_has_the_last_word_when_it_refuses(self, cloud):
        server = cloud.server('haswell')
        cloud.hosts['passing'].hypervisor.cpu = NO_TSX  # after its report
        migration = cloud.live_migrate(server, 'passing')
        assert (migration.status, migration.host, migration.state) == ('error', 'haswell', 'ACTIVE')
        assert migration.refusals['passing'].startswith(f'cpu: target passing {LACKS_TSX}')
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

    @NOVA_COMPARES
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
        line, = cloud.log.lines('INFO [nova_migcheck.compute.driver]')
        assert 'comparison of the two hosts\' CPUs is skipped' in line and 'nova_cpu_check = replace' in line

    def test_k1_replaced_a_lesser_cpu_is_refused_all_the_same(self, cloud, compares):
        server = cloud.server('haswell')
        compares.set('migcheck', 'nova_cpu_check', 'replace')
        compares.hypervisor.cpu = NO_TSX
        migration = cloud.live_migrate(server, compares.name)
        assert (migration.status, migration.host, migration.state) == ('error', 'haswell', 'ACTIVE')
        assert LACKS_TSX in migration.refusals[compares.name]
        assert not cloud.log.lines('is skipped')

    @NOVA_COMPARES
    def test_k1_without_a_verdict_of_ours_nova_s_comparison_is_never_replaced(self, cloud, compares):
        server = cloud.server('haswell')
        compares.set('migcheck', 'nova_cpu_check', 'replace')
        stats = cloud.stats('haswell')
        cloud.set_stats('haswell', {key: text for key, text in stats.items() if not key.startswith('migcheck')})
        migration = cloud.live_migrate(server, compares.name)
        assert (migration.status, migration.host, migration.state) == ('error', 'haswell', 'ACTIVE')
        assert 'Unacceptable CPU info' in migration.texts
        assert not cloud.log.lines('is skipped')
