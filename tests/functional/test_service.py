# SPDX-License-Identifier: Apache-2.0
"""How the services start with the plugin, and that nothing of it is left when they stop."""

from __future__ import annotations

import os
import threading
import time

import pytest
from nova.virt.libvirt import driver as libvirt_driver
from oslo_config import cfg

from nova_migcheck.compute.driver import LibvirtDriver
from nova_migcheck.report import published
from nova_migcheck.scheduler import MigrationTargetFilter
from tests.functional.cloud import Cloud
from tests.functional.hypervisor import Cpu

WRONG = [
    ('mode', 'enforced', 'mode'), ('on_failure', 'refuse', 'on_failure'), ('on_unknown', 'warn,cpu', 'on_unknown'),
    ('check_interval', 'often', 'check_interval'), ('check_interval', '1', 'check_interval'), ('probe_timeout', '-1', 'probe_timeout'),
    ('also_for', 'rebuild', 'also_for'), ('migration_networks', '10.77.0.0/99', 'migration_networks'), ('events', 'perhaps', 'events'),
]


def children():
    """Processes of the checks that this process started, and that are still there."""
    mine = str(os.getpid())
    found = []
    for pid in filter(str.isdecimal, os.listdir('/proc')):
        try:
            with open(f'/proc/{pid}/stat') as stat, open(f'/proc/{pid}/cmdline') as command:
                if stat.read().rpartition(')')[2].split()[1] == mine and 'nova_migcheck.rounds.child' in command.read():
                    found.append(pid)
        except OSError:
            continue
    return found


class TestService:
    def test_nova_loads_the_driver_and_the_filter_from_nova_conf(self, shared_cloud):
        driver = shared_cloud.hosts['compute1'].driver
        assert type(driver) is LibvirtDriver and isinstance(driver, libvirt_driver.LibvirtDriver)
        filters = [type(one) for one in shared_cloud.scheduler.manager.host_manager.enabled_filters]
        assert filters[-1] is MigrationTargetFilter

    @pytest.mark.parametrize('option, value, named', WRONG)
    def test_a_wrong_option_stops_a_service_with_oslo_config_s_own_error(self, shared_cloud, option, value, named):
        conf = cfg.ConfigOpts()
        path = os.path.join(shared_cloud.path, f'wrong-{option}.conf')
        with open(path, 'w') as file:
            file.write(f'[migcheck]\n{option} = {value}\n')
        conf([], default_config_files=[path])
        from nova_migcheck import conf as confs
        with pytest.raises(cfg.ConfigFileValueError, match=named):
            confs.register(conf)


class TestStart:
    WRONG = {'migcheck': {'on_stale': 'refuse'}}

    def test_a_wrong_option_stops_the_scheduler(self, no_cloud):
        with pytest.raises(Exception) as raised:
            Cloud({}, conf=self.WRONG).setUp()
        # What stopped the start, and behind it that the fixture did not come up.
        (kind, error, _traceback), *_ = raised.value.args
        assert kind is cfg.ConfigFileValueError
        assert 'on_stale' in str(error) and "found 'refuse'" in str(error)

    def test_a_wrong_option_stops_nova_compute(self, no_cloud):
        cloud = Cloud({'compute1': Cpu()}, conf={**self.WRONG, 'filter_scheduler': {'enabled_filters': 'ComputeFilter'}})
        with pytest.raises(SystemExit) as raised:
            cloud.setUp()
        assert raised.value.code == 1
        line, = cloud.log.lines('ERROR', 'nova_migcheck')
        assert 'Value for option on_stale' in line and "found 'refuse'" in line and 'nova.conf' in line

    def test_nothing_is_left_when_nova_compute_stops(self, no_cloud):
        cloud = Cloud({'compute1': Cpu()}, conf={'migcheck': {
            'checks': 'hangs,cpu', 'round_deadline': '300', 'check_interval': '10'}})
        cloud.setUp()
        try:
            deadline = time.monotonic() + 60
            while not children() and time.monotonic() < deadline:
                time.sleep(0.05)  # a process's birth is no event that another one can wait for
            assert children()
            # Not yet known is not known to be well: nothing is published before the first round has ended.
            assert not [key for key in cloud.stats('compute1') if key in published.KEYS]
            begun = time.monotonic()
            cloud.hosts['compute1'].driver.cleanup_host('compute1')
            assert time.monotonic() - begun < 30  # the round alone has 300 s
            assert children() == []
            assert not [thread for thread in threading.enumerate() if thread.name == 'migcheck']
        finally:
            cloud.cleanUp()
