# SPDX-License-Identifier: Apache-2.0
"""Debian's own Nova in a scratch root: RabbitMQ, libvirtd, nova-conductor, nova-scheduler and nova-compute, on SQLite.

It has a network of its own. Keystone is missing, and of placement there is only the document by
which Nova looks whether it is there:
Nova stores a host's record, with its report, before it tells placement of it.
"""

from __future__ import annotations

import contextlib
import time
from typing import Iterator

from tests import roots
from tests.packages.scratch import Scratch

#: What the root has besides: Debian's Nova.
PACKAGES = (
    'nova-compute-qemu',
    'nova-compute',
    'nova-scheduler',
    'nova-conductor',
    'rabbitmq-server',
    'iproute2',
)

_NOVA_CONF = """\
[DEFAULT]
transport_url = rabbit://guest:guest@127.0.0.1:5672/
my_ip = 127.0.0.1
state_path = /var/lib/nova
update_resources_interval = 10
[database]
connection = sqlite:////var/lib/nova/nova.sqlite
[api_database]
connection = sqlite:////var/lib/nova/nova_api.sqlite
[conductor]
workers = 1
[scheduler]
workers = 1
[filter_scheduler]
{filters}
[oslo_concurrency]
lock_path = /var/lib/nova/tmp
[placement]
auth_type = none
endpoint_override = http://127.0.0.1:8778
[migcheck]
check_interval = 10
"""
# Debian's nova-compute reads it after nova.conf, and Debian's sets the driver.
_COMPUTE_CONF = '[DEFAULT]\ncompute_driver = {driver}\n[libvirt]\nvirt_type = qemu\n'

#: nova.conf and nova-compute.conf, without the plugin and with it.
PLAIN = (
    _NOVA_CONF.format(filters='enabled_filters = ComputeFilter'),
    _COMPUTE_CONF.format(driver='libvirt.LibvirtDriver'),
)
ENABLED = (
    _NOVA_CONF.format(
        filters="""\
available_filters = nova.scheduler.filters.all_filters
available_filters = nova_migcheck.scheduler.all_filters
enabled_filters = ComputeFilter,MigrationTargetFilter"""
    ),
    _COMPUTE_CONF.format(driver='migcheck.LibvirtDriver'),
)

_UP = r"""
as_nova() { runuser -u nova -- "$@"; }
ip link set lo up
hostname node1
echo '127.0.0.1 localhost node1' >/etc/hosts
mkdir -p /run/libvirt /var/lib/nova/tmp
chown nova /var/lib/nova/tmp
# Debian's asks polkit, for which it needs systemd; who is in the group may connect by Debian's
# rule, too.
printf 'auth_unix_rw = "none"\nunix_sock_group = "libvirt"\nunix_sock_rw_perms = "0770"\n' >/srv/libvirtd.conf
libvirtd --daemon --config /srv/libvirtd.conf
virtlogd --daemon
runuser -u rabbitmq -- /usr/lib/rabbitmq/bin/rabbitmq-server -detached
as_nova nova-manage api_db sync
as_nova nova-manage cell_v2 map_cell0 --database_connection sqlite:////var/lib/nova/cell0.sqlite
as_nova nova-manage db sync
as_nova nova-manage cell_v2 create_cell --name cell1
until rabbitmqctl status >/dev/null 2>&1; do sleep 0.5; done
HOME=/var/lib/nova setpriv --reuid nova --regid nova --init-groups nova-conductor >/var/log/nova/conductor 2>&1 &
mkdir -p /srv/placement
echo '{"versions": [{"id": "v1.0", "status": "CURRENT", "min_version": "1.0", "max_version": "1.39",
       "links": [{"rel": "self", "href": ""}]}]}' >/srv/placement/index.html
python3 -m http.server --directory /srv/placement --bind 127.0.0.1 8778 >/dev/null 2>&1 &
echo up
exec sleep infinity
"""


class Node:
    """One node that is up, but for the two services that the tests begin."""

    def __init__(self, scratch: Scratch, pid: str) -> None:
        self._scratch = scratch
        self._pid = pid

    def run(self, script: str) -> str:
        """Run the lines of a shell on it."""
        return self._scratch.run(
            'nsenter', '--target', self._pid, '--net', '--uts', '--', 'sh', '-euc', script
        )

    def configure(self, files: tuple[str, str]) -> None:
        for name, text in zip(('nova.conf', 'nova-compute.conf'), files):
            self._scratch.write(f'/etc/nova/{name}', text)

    def begin(self, service: str) -> None:
        self.run(
            f'HOME=/var/lib/nova setpriv --reuid nova --regid nova --init-groups {service} '
            f'>/var/log/nova/{service}.out 2>&1 & echo $! >/run/{service}.pid'
        )

    def end(self, service: str) -> None:
        self.run(
            f'pid=$(cat /run/{service}.pid); kill -9 $pid || true; while [ -e /proc/$pid ]; do sleep 0.2; done'
        )

    def said(self, service: str) -> str:
        return (self._scratch.path / f'var/log/nova/{service}.out').read_text(errors='replace')

    def wait_until_said(self, service: str, *words: str, seconds: float = 300) -> str:
        """What the service has logged, once each of these words is in it."""
        end = time.monotonic() + seconds
        while not all(word in self.said(service) for word in words):
            assert time.monotonic() < end, (
                f'{service} did not say {words}:\n{self.said(service)[-6000:]}'
            )
            time.sleep(0.5)
        return self.said(service)


@contextlib.contextmanager
def up(scratch: Scratch) -> Iterator[Node]:
    """Bring it up, with Nova as Debian has it."""
    for name, text in zip(('nova.conf', 'nova-compute.conf'), PLAIN):
        scratch.write(f'/etc/nova/{name}', text)
    with scratch.begun('unshare', '--net', '--uts', 'sh', '-euc', _UP, until='up\n') as pid:
        yield Node(scratch, pid)


def root(release: str) -> roots.Root:
    """A root with Debian's Nova."""
    made = roots.Root(release, 'nova')
    made.make()
    made.install('adduser')  # which nova-common's configuration uses before it is installed
    made.install(*PACKAGES)
    return made
