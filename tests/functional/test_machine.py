# SPDX-License-Identifier: Apache-2.0
"""A guest whose machine type the target's QEMU lacks goes to a host that has it (row M1)."""

from __future__ import annotations

from tests.functional.hypervisor import Cpu


class TestMachineTypes:
    CLOUD = {'cpus': dict.fromkeys(('compute1', 'compute2', 'compute3'), Cpu()),
             'memory_used': {'compute2': 1024, 'compute3': 2048},
             'conf': {'migcheck': {'checks': 'cpu,machine,scripted,scripted_path'}}}

    def test_it_is_refused_in_the_filter_and_by_the_destination(self, cloud, monkeypatch):
        server = cloud.boot('compute1')
        cloud.check('compute1')
        hypervisor = cloud.hosts['compute2'].hypervisor
        capabilities = hypervisor.getCapabilities()
        machine = cloud.hosts['compute1'].hypervisor.lookupByUUIDString(server).XMLDesc(0)
        name = machine.partition("machine='")[2].partition("'")[0]
        assert name and f'>{name}<' in capabilities
        monkeypatch.setattr(hypervisor, 'getCapabilities',
                            lambda: capabilities.replace(f'>{name}<', '>another<'))
        hypervisor.tell()
        cloud.check('compute2')
        try:
            migration = cloud.live_migrate(server, 'compute2', force=True)
            assert (migration.host, migration.state) == ('compute1', 'ACTIVE')
            assert name in migration.refusals['compute2']
            migration = cloud.live_migrate(server)
            assert (migration.status, migration.host) == ('completed', 'compute3'), migration.texts
            assert cloud.log.lines('nova_migcheck.scheduler', 'compute2', name)
        finally:
            monkeypatch.undo()
            hypervisor.tell()
