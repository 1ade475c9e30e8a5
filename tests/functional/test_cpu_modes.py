# SPDX-License-Identifier: Apache-2.0
"""nova-compute starts, publishes and is a target with each ``[libvirt] cpu_mode``.

At its start Nova compares the models of ``cpu_mode = custom`` with the host through the same method
by which it compares two hosts, without an instance.
"""

from __future__ import annotations

import configparser

import pytest
from nova import exception

from nova_migcheck.cli import baseline
from nova_migcheck.cpu.models import CpuMap
from nova_migcheck.report import published
from tests.functional.cloud import CONF, Cloud
from tests.functional.hypervisor import Cpu

MODES = {
    'one': {'cpu_mode': 'custom', 'cpu_models': 'Haswell-noTSX'},
    'several': {'cpu_mode': 'custom', 'cpu_models': 'Haswell-noTSX,Haswell'},
    'flags': {'cpu_mode': 'custom', 'cpu_models': 'Haswell-noTSX', 'cpu_model_extra_flags': 'hle,rtm'},
    'host-model': {'cpu_mode': 'host-model'},
    'host-passthrough': {'cpu_mode': 'host-passthrough'},
    'none': {'cpu_mode': 'none'},
}
HAS_WORKAROUND = hasattr(CONF.workarounds, 'skip_cpu_compare_at_startup')


def hosts() -> dict[str, dict[str, dict[str, str]]]:
    """Host -> what its nova.conf says besides: each mode, with and without the workarounds."""
    conf = {name: {'libvirt': mode, 'workarounds': {'skip_cpu_compare_on_dest': 'false'}}
            for name, mode in MODES.items()}
    for name, mode in MODES.items():
        workarounds = {'skip_cpu_compare_on_dest': 'true'}
        if HAS_WORKAROUND:
            workarounds['skip_cpu_compare_at_startup'] = 'true'
        conf[f'{name}-skips'] = {'libvirt': mode, 'workarounds': workarounds}
    return conf


class TestCpuModes:
    @pytest.mark.parametrize('mode', ['enforce', 'report', 'off'])
    def test_each_starts_publishes_and_is_a_target(self, no_cloud, mode):
        names = hosts()
        conf = {'migcheck': {'mode': mode, 'checks': 'cpu,scripted,scripted_path',
                             'check_interval': '3600'}}
        cloud = Cloud(dict.fromkeys(('first', *names), Cpu()), conf=conf, host_conf=names)
        cloud.setUp()
        try:
            cloud.check()
            for name in names:
                report = published.read(cloud.stats(name))
                if mode == 'off':
                    assert report is None
                else:
                    assert report.cpu is not None and report.findings == (), name
            # Where Nova's own comparison is in force it refuses by itself (LP#2039803).
            for name in [one for one in names if one.endswith('-skips')]:
                migration = cloud.live_migrate(cloud.boot('first'), name)
                assert (migration.status, migration.host) == ('completed', name), migration.texts
            assert not cloud.log.lines('ERROR', 'nova_migcheck')
        finally:
            cloud.cleanUp()

    def test_a_model_that_the_host_lacks_stops_it_as_in_nova(self, no_cloud):
        conf = {'libvirt': {'cpu_mode': 'custom', 'cpu_models': 'Skylake-Server'}}
        cloud = Cloud({'compute1': Cpu()}, conf=conf)
        with pytest.raises(Exception) as raised:
            cloud.setUp()
        (kind, error, _traceback), *_ = raised.value.args
        assert kind is exception.InvalidCPUInfo and 'Skylake-Server' in str(error)


class TestBaseline:
    @pytest.mark.parametrize('model_only', [False, True])
    def test_its_lines_start_a_compute_that_is_a_target(self, no_cloud, model_only):
        cpus = {'compute1': Cpu('Skylake-Server'), 'compute2': Cpu('Haswell')}
        cloud = Cloud(cpus)
        cloud.setUp()
        try:
            cloud.check()
            reported = {name: published.read(cloud.stats(name)).cpu for name in cpus}
        finally:
            cloud.cleanUp()
        lines = baseline.common(reported, CpuMap(), model_only).lines()
        parser = configparser.ConfigParser()
        parser.read_string('\n'.join(lines))
        conf = {'libvirt': dict(parser['libvirt'])}
        assert conf['libvirt']['cpu_mode'] == 'custom'
        cloud = Cloud(cpus, conf=conf)
        cloud.setUp()
        try:
            cloud.check()
            server = cloud.boot('compute1')
            for target in ('compute2', 'compute1'):
                migration = cloud.live_migrate(server, target)
                assert (migration.status, migration.host) == ('completed', target), migration.texts
        finally:
            cloud.cleanUp()
