# SPDX-License-Identifier: Apache-2.0
"""A libvirtd in the namespaces of a host, listening for migrations."""

from __future__ import annotations

import os
import pathlib
import subprocess
import time
from typing import Mapping, Optional

from tests.lab.libvirtd import MOUNTS, Libvirtd
from tests.lab.namespaces import HOST_FILES, Namespace
from tests.roots import Root

_CONF = """
listen_tcp = 1
auth_tcp = "{auth}"
"""

# In a mount namespace below the host's, so that the host's hosts file is libvirtd's and
# QEMU's, too.
_START = MOUNTS + """
[ ! -e {root}/sasl ] || mount --bind {root}/sasl /etc/sasl2/libvirt.conf
exec taskset -c {core} /usr/sbin/libvirtd --listen --pid-file {root}/libvirtd.pid
"""

_GUEST = """
<domain type='qemu'>
  <name>{name}</name>
  <memory unit='MiB'>256</memory>
  <vcpu>1</vcpu>
  <os><type arch='x86_64' machine='pc'>hvm</type></os>
  <features><acpi/></features>
  <cpu mode='custom'><model>qemu64</model></cpu>
  <devices><emulator>/usr/bin/qemu-system-x86_64</emulator><memballoon model='none'/></devices>
</domain>
"""


class LibvirtHost(Libvirtd):
    """A libvirtd in a namespace.

    :param cache: as for :class:`Libvirtd`
    :param release: the release of Debian whose libvirtd and QEMU these are, None for the machine's own
    :param mechanisms: of SASL, with which a client must log in; '' for no login
    :param users: name -> password, of those who may log in
    :param conf: more lines of libvirtd.conf, before the others: libvirt takes the first
    """

    def __init__(self, host: Namespace, cache: Optional[pathlib.Path] = None, release: Optional[Root] = None,
                 mechanisms: str = '', users: Optional[Mapping[str, str]] = None, conf: str = '') -> None:
        super().__init__(host.name, cache=cache)
        self.mechanisms, self.users, self.conf = mechanisms, users or {}, conf
        self.host = host
        self.release = release

    def start(self) -> None:
        conf = self.root / 'etc/libvirtd.conf'
        conf.write_text(self.conf + conf.read_text() + _CONF.format(auth='sasl' if self.mechanisms else 'none'))
        if self.mechanisms:
            (self.root / 'sasl').write_text(f'mech_list: {self.mechanisms}\nsasldb_path: {self.root}/sasldb\n')
        for user, password in self.users.items():
            # As the target, whose name is the realm.
            subprocess.run(self.host.inside('saslpasswd2', '-p', '-c', '-a', 'libvirt', '-f', f'{self.root}/sasldb', user),
                           input=password, text=True, check=True)
        script = _START.format(root=self.root, core=min(os.sched_getaffinity(0)))
        if self.release is not None:
            script = self.release.enter(binds=[str(self.root), *HOST_FILES]) + script
        with open(self.root / 'libvirtd.err', 'wb') as errors:
            self.process = subprocess.Popen(self.host.inside('unshare', '--mount', '--propagation', 'private', 'sh', '-c', script),
                                            stdin=subprocess.DEVNULL, stdout=errors, stderr=errors)
        deadline = time.monotonic() + 60
        while not self._answers(self.root / 'run/libvirt-sock'):
            if self.process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f'libvirtd did not start: {(self.root / "libvirtd.err").read_text()}')
            time.sleep(0.05)

    def guest(self, name: str) -> None:
        """Start a diskless guest of 256 MiB that no hypervisor of the processor's is needed for."""
        self.connect().createXML(_GUEST.format(name=name))

    def migrate(self, name: str, to: str, scheme: str = 'tcp') -> None:
        """Do with a guest what Nova does when the target's ``live_migration_inbound_addr`` is ``to``.

        :raises libvirt.libvirtError: when it fails
        """
        import libvirt
        flags = (libvirt.VIR_MIGRATE_LIVE | libvirt.VIR_MIGRATE_PEER2PEER | libvirt.VIR_MIGRATE_UNDEFINE_SOURCE)
        self.connect().lookupByName(name).migrateToURI3(
            f'qemu+{scheme}://{to}/system', {libvirt.VIR_MIGRATE_PARAM_URI: f'tcp://{to}'}, flags)

    def guests(self) -> list[str]:
        """Names of the guests that run here."""
        return [domain.name() for domain in self.connect().listAllDomains()]
