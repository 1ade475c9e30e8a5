# SPDX-License-Identifier: Apache-2.0
"""The volumes and files of the server."""

from __future__ import annotations

import json
import socket
import subprocess
import uuid

from tests.lab.cloud import STATE
from tests.lab.cloud.compute_node import SHARE, ComputeNode
from tests.lab.cloud.configuration import CONTROL, NOVA
from tests.lab.cloud.faults import TARGET, Fault, firewall, open_firewall

_VOLUME = '0a6de5b2-0000-4000-8000-00000000000a'
_PORT = 3260
_DISK = f"""<disk type='file' device='disk'><driver name='qemu' type='raw'/><source file='{{path}}'/>
<target dev='vdz' bus='virtio'/><serial>{_VOLUME}</serial></disk>"""
_OTHER = """<domain type='qemu'><name>{name}</name><uuid>{uuid}</uuid>
<memory unit='MiB'>16</memory>
<os><type arch='x86_64' machine='pc'>hvm</type></os></domain>"""


def _virsh(node: ComputeNode, *words: str) -> str:
    ran = subprocess.run(['virsh', '-c', node.libvirtd.uri, *words], check=True,
                         capture_output=True, text=True, timeout=60)
    return ran.stdout.strip()


class V2(Fault):
    """The target cannot reach the iSCSI portal of a volume.

    There is no Cinder here, a fault of its own for a server with volumes: the target is told
    to ignore that. The volume is a row in Nova's database, the portal a plain listener, and the
    disk a file. So no host can take the server, and the user names the target.
    """

    names = (_VOLUME, f'{CONTROL}:{_PORT}', r'\d s')
    born_after = named = True
    noticed = ('source', 'target')
    restarted = ('target',)

    def set(self) -> None:
        if self.cloud.plugin:
            self.configure(self.target, {'migcheck': {'on_failure': 'reject,endpoint:ignore'}})
        self.target.host.write('/etc/iscsi/initiatorname.iscsi',
                               'InitiatorName=iqn.2010-10.org.openstack:compute2\n')
        self._listener = socket.create_server((CONTROL, _PORT), backlog=64)
        firewall(self.target.host, 'out', f'tcp dport {_PORT}')

    def ready(self) -> None:
        self._server, = self.source.libvirtd.domains()
        disk, xml = SHARE / 'volume', STATE / 'tmp/volume.xml'
        disk.write_bytes(bytes(2 ** 20))
        xml.write_text(_DISK.format(path=f'{NOVA}/instances/volume'))
        _virsh(self.source, 'attach-device', self._server, str(xml), '--live')
        info = json.dumps({'driver_volume_type': 'iscsi', 'data': {
            'target_portal': f'{CONTROL}:{_PORT}', 'target_lun': 1,
            'target_iqn': 'iqn.2010-10.org.openstack:volume'}})
        self.cloud.control.database.query(f"""insert into nova_cell1.block_device_mapping
            (created_at, uuid, instance_uuid, device_name, source_type, destination_type,
             device_type, volume_id, connection_info, deleted, delete_on_termination)
            values (utc_timestamp(), '{uuid.uuid4()}', '{self._server}', '/dev/vdz', 'volume',
             'volume', 'disk', '{_VOLUME}', '{info}', 0, 0)""")
        # nova-compute learns of a volume when it attaches it, or when it starts.
        self.cloud.restart_computes(self.source.name)
        if self.cloud.plugin:
            from tests.lab.cloud import story  # which plays rows itself
            story.sees(self.target, ['check', '--only', 'attachments', '--server', self._server],
                       f'{CONTROL}:{_PORT}', _VOLUME)

    def clear(self) -> None:
        self.cloud.control.database.query(
            f"delete from nova_cell1.block_device_mapping where volume_id='{_VOLUME}'")
        open_firewall(self.target.host)
        self.target.host.run('rm', '/etc/iscsi/initiatorname.iscsi')
        self.configure(self.target, {})
        self._listener.close()
        (SHARE / 'volume').unlink(missing_ok=True)


class V4(Fault):
    """Another domain on the target has the name of the guest."""

    names = (r'instance-\w+', 'UUID', TARGET)
    noticed = ()

    def set(self) -> None:
        server, = self.source.libvirtd.domains()
        xml = STATE / 'tmp/other.xml'
        self._other = str(uuid.uuid4())
        name = _virsh(self.source, 'domname', server)
        xml.write_text(_OTHER.format(name=name, uuid=self._other))
        _virsh(self.target, 'define', str(xml))

    def clear(self) -> None:
        _virsh(self.target, 'undefine', self._other)


class V5(Fault):
    """QEMU on the target is another user, who may not open the disks on the share."""

    names = ('user 64055', '/disk', 'Permission denied', 'dynamic_ownership = 0')

    def set(self) -> None:
        self.target.libvirtd.change_qemu_conf(user='"+64055"')

    def clear(self) -> None:
        self.target.libvirtd.change_qemu_conf(user='"root"')
