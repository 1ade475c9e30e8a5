# SPDX-License-Identifier: Apache-2.0
"""A host that becomes unfit, or fit again, is heard by whoever listens to Nova's notifications."""

from __future__ import annotations

import dataclasses
import threading
import time
from typing import Any, Callable

from nova_migcheck.finding import Finding, Outcome
from tests.functional.conftest import STANDARD

CODED = Finding(
    'endpoint',
    Outcome.FAILURE,
    'http://192.0.2.5:8780',
    'connection refused',
    'catalog: placement',
    'see whether placement-api runs',
    code='endpoint-refused',
)


def heard(cloud: Any, host: str) -> list[Any]:
    """The notifications of a host, oldest first."""
    return [
        one
        for one in cloud.notifier.versioned_notifications
        if one['event_type'] == 'migration_target.update'
        and one['publisher_id'] == f'nova-compute:{host}'
    ]


def wait_for(reached: Callable[[], Any]) -> None:
    end = time.monotonic() + 30
    while not reached():
        assert time.monotonic() < end
        time.sleep(0.02)


def settled(cloud: Any, host: str) -> None:
    """What was on its way has been sent."""
    cloud.hosts[host].check()
    sending = cloud.hosts[host].driver._migcheck.reporter._notify.__self__._sending
    if sending is not None:
        sending.wait(30)


class TestOn:
    CLOUD = {
        **STANDARD,
        'conf': {
            'migcheck': {
                'checks': 'cpu,scripted,scripted_path',
                'check_interval': '3600',
                'notify_changes': 'true',
            },
            'notifications': {'notification_format': 'versioned'},
        },
    }

    def say(self, cloud: Any, *findings: Finding) -> list[Any]:
        """What is heard when compute2 has these findings."""
        settled(cloud, 'compute2')
        cloud.notifier.reset()
        cloud.say('compute2', *findings)
        settled(cloud, 'compute2')
        return heard(cloud, 'compute2')

    def test_unfit_and_fit_again(self, cloud):
        [told] = self.say(cloud, CODED)
        assert told['priority'] == 'ERROR'
        assert told['payload']['nova_object.name'] == 'MigrationTargetPayload'
        data = told['payload']['nova_object.data']
        assert (data['host'], data['fit']) == ('compute2', False)
        [finding] = data['findings']
        assert (finding['code'], finding['subject'], finding['remedy']) == (
            'endpoint-refused',
            CODED.subject,
            CODED.remedy,
        )
        assert self.say(cloud, CODED) == []
        [told] = self.say(cloud)
        assert told['priority'] == 'INFO'
        assert told['payload']['nova_object.data'] == {
            'host': 'compute2',
            'fit': True,
            'findings': [],
        }

    def test_what_rejects_nothing_is_not_told(self, cloud):
        assert self.say(cloud, dataclasses.replace(CODED, outcome=Outcome.WARNING)) == []
        assert self.say(cloud, dataclasses.replace(CODED, outcome=Outcome.UNKNOWN)) == []

    def test_other_words_of_the_same_fault_are_not_told(self, cloud):
        assert len(self.say(cloud, CODED)) == 1
        assert self.say(cloud, dataclasses.replace(CODED, detail='no answer for 5 s')) == []
        assert len(self.say(cloud, dataclasses.replace(CODED, code='endpoint-silent'))) == 1

    def test_a_bus_that_hangs_holds_up_nobody(self, cloud, monkeypatch):
        """And what happened meanwhile is told when it answers again."""
        settled(cloud, 'compute2')
        released, sending = threading.Event(), threading.Event()

        def hang(*_args: Any, **_how: Any) -> None:
            sending.set()
            released.wait(60)

        monkeypatch.setattr('nova.notifications.objects.base.NotificationBase._emit', hang)
        cloud.say('compute2', CODED)
        cloud.hosts['compute2'].check()
        assert sending.wait(30)
        cloud.say('compute2')
        begun = time.monotonic()
        cloud.hosts['compute2'].check()
        assert (
            cloud.hosts['compute2'].driver._migcheck.reporter.report.findings == ()
            and time.monotonic() - begun < 20
        )
        monkeypatch.undo()
        cloud.notifier.reset()
        released.set()
        wait_for(
            lambda: (
                cloud.hosts['compute2'].driver._migcheck.reporter._notify.__self__._sending.ended
            )
        )
        settled(cloud, 'compute2')
        [told] = heard(cloud, 'compute2')
        assert told['payload']['nova_object.data']['fit'] is True

    def test_a_bus_that_is_away_is_one_warning(self, cloud, monkeypatch):
        def away(*_args: Any, **_how: Any) -> None:
            raise ConnectionError('no bus')

        monkeypatch.setattr('nova.notifications.objects.base.NotificationBase._emit', away)
        assert self.say(cloud, CODED) == []
        assert (
            len(
                cloud.log.lines(
                    'WARNING', 'unfit as a migration target could not be sent', 'no bus'
                )
            )
            == 1
        )

    def test_the_migration_itself_is_as_always(self, cloud):
        cloud.say('compute2', CODED)
        server = cloud.boot('compute1')
        settled(cloud, 'compute2')
        cloud.publish('compute2')
        assert cloud.live_migrate(server).host == 'compute3'


class TestOff:
    def test_nothing_is_sent(self, cloud, unreachable):
        cloud.notifier.reset()
        cloud.say('compute2', unreachable)
        cloud.hosts['compute2'].check()
        assert heard(cloud, 'compute2') == []

    def test_nova_s_list_of_notifications_is_nova_s(self, no_cloud):
        import subprocess
        import sys

        code = (
            'import nova_migcheck.compute.driver, nova_migcheck.compute.lifecycle; from nova.objects import base; '
            'assert "MigrationTargetPayload" not in base.NovaObjectRegistry.notification_classes.__str__()'
        )
        subprocess.run([sys.executable, '-W', 'ignore', '-c', code], check=True, timeout=120)
