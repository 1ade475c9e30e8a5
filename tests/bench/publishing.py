# SPDX-License-Identifier: Apache-2.0
"""What a report costs on its way: its bytes, and Nova's decoding of the ComputeNode that carries it."""

from __future__ import annotations

import datetime
import json
import statistics
from typing import Any, Iterator

from nova import context as nova_context
from nova import objects

from nova_migcheck.report import published
from tests.bench import fleet
from tests.bench.measure import Row, in_turns

# ComputeNodes that are decoded in one turn: few, so that the turns are close to each other.
DECODED = 40


def _row(stats: dict[str, str]) -> dict[str, Any]:
    """A row of compute_nodes as the database gives it."""
    now = datetime.datetime(2026, 1, 1)
    return {
        'id': 1, 'uuid': '2f0f1c4e-0000-4000-8000-000000000001', 'service_id': None, 'host': 'compute1', 'hypervisor_hostname': 'compute1',
        'vcpus': 64, 'memory_mb': 262144, 'local_gb': 1000, 'vcpus_used': 20, 'memory_mb_used': 40960, 'local_gb_used': 200,
        'hypervisor_type': 'QEMU', 'hypervisor_version': 7002000, 'free_ram_mb': 221184, 'free_disk_gb': 800, 'current_workload': 0,
        'running_vms': 20, 'cpu_info': json.dumps({'arch': 'x86_64', 'model': 'Cascadelake-Server', 'features': fleet.FEATURES}),
        'disk_available_least': 700, 'metrics': '[]', 'extra_resources': None, 'stats': json.dumps(stats), 'numa_topology': None,
        'host_ip': '10.0.0.11', 'supported_instances': json.dumps([['x86_64', 'kvm', 'hvm'], ['i686', 'kvm', 'hvm']]),
        'pci_stats': None, 'cpu_allocation_ratio': 4.0, 'ram_allocation_ratio': 1.0, 'disk_allocation_ratio': 1.0, 'mapped': 1,
        'created_at': now, 'updated_at': now, 'deleted_at': None, 'deleted': 0}


def rows() -> Iterator[Row]:
    for name, report in (
            ('a healthy host', fleet.report(1)), ('with 3 failures', fleet.report(1, findings=[fleet.failure(n) for n in range(3)])),
            *((f'with {guests} guests of another CPU each', fleet.report(1, groups=guests)) for guests in (1, 20, 100, 500)),
            ('with 500 failures', fleet.report(1, findings=[fleet.failure(n) for n in range(500)]))):
        texts = published.write(report)
        size = sum(len(key) + len(text) for key, text in texts.items())
        yield Row(f'report, {name}', size, 'bytes', 2048 if name.startswith('a ') else published.MAX_BYTES)
    objects.register_all()
    context = nova_context.get_admin_context()
    plain, carrying = _row(fleet.nova_stats(1)), _row(fleet.stats(1))

    def decode(row: dict[str, Any]) -> None:
        for _ in range(DECODED):
            objects.ComputeNode._from_db_object(context, objects.ComputeNode(), row)
    without, with_report = in_turns(lambda: decode(plain), lambda: decode(carrying), times=101)
    # Half of each, the quicker ones: what else the machine does can only add, and the difference that is looked for is smaller than that.
    quick, quick_too = (statistics.mean(sorted(taken)[:len(taken) // 2]) for taken in (without, with_report))
    yield Row('decoding a ComputeNode with / without the report', quick_too / quick, '', 1.05,
              f'{quick_too / DECODED * 1e6:.1f} and {quick / DECODED * 1e6:.1f} µs')
