# SPDX-License-Identifier: Apache-2.0
"""What somebody at the API does with a server, and what can be read there afterwards."""

from __future__ import annotations

import dataclasses
import datetime
import itertools
import time
from typing import Any, Optional

from tests.lab.cloud.backends import PASSWORD
from tests.lab.cloud.cloud import Cloud
from tests.lab.cloud.configuration import AUTH_URL
from tests.lab.cloud.service import until

#: Of the environment of whoever uses the openstack client in the lab.
ADMINISTRATOR = {
    'OS_AUTH_URL': AUTH_URL,
    'OS_USERNAME': 'admin',
    'OS_PASSWORD': PASSWORD,
    'OS_PROJECT_NAME': 'admin',
    'OS_USER_DOMAIN_ID': 'default',
    'OS_PROJECT_DOMAIN_ID': 'default',
    'OS_INTERFACE': 'internal',
    'OS_COMPUTE_API_VERSION': '2.96',
    'OS_PLACEMENT_API_VERSION': '1.39',
}
# Nova says ACTIVE for about a second before it settles in ERROR.
SETTLE = 2.0
_UNDER_WAY = ('accepted', 'queued', 'preparing', 'running', 'running (post-copy)', 'pre-migrating')
_names = (f'server{number}' for number in itertools.count(1))


@dataclasses.dataclass(frozen=True)
class Migration:
    """One request for a live migration, and what came of it.

    :ivar source: host
    :ivar target: the host that the user named, '' for none
    :ivar begun: the hosts on which ``pre_live_migration`` ran, by Nova's events
    :ivar seconds: until Nova had done with it
    :ivar state: status of the server, and its task state if there is one left
    :ivar record: status of Nova's migration record
    :ivar host: where Nova says the server is
    :ivar running: where the guest really is: host -> libvirt's state of the domain
    :ivar accepted: seconds until ``pre_live_migration`` began on the last of :attr:`begun`, at most: Nova's events tell whole ones
    :ivar texts: what the administrator reads: (event, host, details) of each failed event
    """

    source: str
    target: str
    begun: tuple[str, ...]
    seconds: float
    state: str
    record: str
    host: str
    running: dict[str, str]
    texts: tuple[tuple[str, str, str], ...]
    request: str
    accepted: float = 0.0

    @property
    def completed(self) -> bool:
        return self.record == 'completed'

    @property
    def read(self) -> str:
        """What the user reads, in one line."""
        return ' | '.join(f'{event}: {details}' for event, _host, details in self.texts)


def _seconds(told: str) -> float:
    """Seconds since the epoch, of a time as Nova's API tells it."""
    return datetime.datetime.fromisoformat(told).replace(tzinfo=datetime.timezone.utc).timestamp()


class Server:
    """A server of the cloud, and its guest.

    :param host: where it is started
    :param flavor: name of the flavor
    """

    def __init__(self, cloud: Cloud, host: str, flavor: str = 'tiny', image: str = 'empty') -> None:
        self.cloud, self.api = cloud, cloud.control.connection.compute
        self.name, self.flavor = next(_names), flavor
        # A nova-compute that has been started again and is busy may not have said yet that it is there.
        until(120, f'{host} counts as up', lambda: cloud.up(host), 0.3)
        image_id = cloud.control.connection.image.find_image(image).id
        made = self._call('post', '/servers', {'server': {
            'name': self.name, 'imageRef': image_id, 'flavorRef': self.api.find_flavor(flavor).id, 'networks': 'none', 'host': host}})
        self.id = made['server']['id']
        until(300, f'{self.name} is built', lambda: self.show()['status'] != 'BUILD', 0.3)
        shown = self.show()
        if shown['status'] != 'ACTIVE':
            raise RuntimeError(f'{self.name} is {shown["status"]}: {shown.get("fault")}')

    def _call(self, method: str, path: str, body: Optional[dict[str, Any]] = None, microversion: str = '2.96') -> Any:
        answer = getattr(self.api, method)(path, **({'json': body} if body is not None else {}), microversion=microversion)
        if not answer.ok:
            raise RuntimeError(f'{method} {path}: {answer.status_code} {answer.text}')
        return answer.json() if answer.content else None

    def show(self) -> dict[str, Any]:
        """The server as the API shows it."""
        shown: dict[str, Any] = self._call('get', f'/servers/{self.id}')['server']
        return shown

    @property
    def host(self) -> str:
        """Where Nova says that it is."""
        return str(self.show()['OS-EXT-SRV-ATTR:host'])

    def running(self) -> dict[str, str]:
        """Where the guest really is: host -> libvirt's state of the domain."""
        found = {}
        for name, node in self.cloud.nodes.items():
            state = node.libvirtd.domains().get(self.id)
            if state:
                found[name] = state
        return found

    def migrate(self, target: str = '', seconds: float = 150, force: bool = False) -> Migration:
        """Ask for a live migration, and wait for its end.

        :param target: the host that the user names; '' lets the scheduler choose
        :param seconds: after which we look at what is there, ended or not
        :param force: past the scheduler, as only an old microversion can
        """
        source = self.host
        began, asked = time.monotonic(), time.time()
        body: dict[str, Any] = {'host': target or None, 'block_migration': 'auto'}
        if force:
            self._call('post', f'/servers/{self.id}/action', {'os-migrateLive': {**body, 'force': True}}, microversion='2.67')
        else:
            self._call('post', f'/servers/{self.id}/action', {'os-migrateLive': body})

        def ended() -> bool:
            shown, record = self.show(), self._record()
            return shown['OS-EXT-STS:task_state'] is None and record.get('status') not in _UNDER_WAY

        try:
            until(seconds, 'the migration ends', ended, 0.15)
        except TimeoutError:
            pass
        took = time.monotonic() - began
        record = self._record()
        if record.get('status') != 'completed':
            time.sleep(SETTLE)
        shown = self.show()
        state = shown['status'] + (f' ({shown["OS-EXT-STS:task_state"]})' if shown['OS-EXT-STS:task_state'] else '')
        action = self._action()
        failed = tuple((event['event'], event.get('host') or '', event.get('details') or '') for event in action['events'][::-1]
                       if event['result'] == 'Error')
        prepared = [event for event in action['events'][::-1] if event['event'] == 'compute_pre_live_migration']
        begun = tuple(event.get('host') or '' for event in prepared)
        accepted = max((_seconds(event['start_time']) + 1 - asked for event in prepared), default=0.0)
        return Migration(source, target, begun, took, state, str(record.get('status')), str(shown['OS-EXT-SRV-ATTR:host']),
                         self.running(), failed, action['request_id'], accepted)

    def _record(self) -> dict[str, Any]:
        found = self._call('get', f'/os-migrations?instance_uuid={self.id}')['migrations']
        return found[0] if found else {}

    def _action(self) -> dict[str, Any]:
        actions = self._call('get', f'/servers/{self.id}/os-instance-actions')['instanceActions']
        newest = next(action for action in actions if action['action'] == 'live-migration')
        found: dict[str, Any] = self._call('get', f'/servers/{self.id}/os-instance-actions/{newest["request_id"]}')['instanceAction']
        return found

    def delete(self) -> None:
        """Take it away, whatever state a failed migration has left it in, on every host."""
        if self.show()['status'] == 'ERROR' or self.show()['OS-EXT-STS:task_state']:
            self._call('post', f'/servers/{self.id}/action', {'os-resetState': {'state': 'active'}})
        self.api.delete(f'/servers/{self.id}')
        try:
            until(120, f'{self.name} is gone', lambda: self.api.get(f'/servers/{self.id}').status_code == 404, 0.3)
        finally:
            for node in self.cloud.nodes.values():
                node.libvirtd.destroy(self.id)
