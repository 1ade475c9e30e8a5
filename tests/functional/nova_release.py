# SPDX-License-Identifier: Apache-2.0
"""What of Nova's own test base and fakes differs from release to release: the tests themselves know nothing of it."""

from __future__ import annotations

import os

import fixtures


def patch() -> None:
    """Native threads, or eventlet in all of the process, as the environment wants it and the release has it.

    Before anything else of Nova is imported: it wants to patch, or to forbid patching, first.
    """
    # Before 2026.1, whose compute service can do without it, there is nothing but eventlet for all of Nova.
    os.environ.setdefault('OS_NOVA_DISABLE_EVENTLET_PATCHING', 'true')
    from nova import monkey_patch
    if hasattr(monkey_patch, 'patch'):
        monkey_patch.patch()
    _keep_executors()


def _keep_executors() -> None:
    """A nova-compute of 2026.2 that stops ends the executors of its process for good, in a thread that may come late. Here they are
    those of all services, and of the clouds to come; Nova's fixture ends them with each cloud."""
    try:
        from nova import thread_pool_factory
    except ImportError:
        return
    thread_pool_factory.shutdown_all_executors = lambda: None


def is_eventlet() -> bool:
    """Whether Nova runs on eventlet in this process."""
    from nova import monkey_patch
    return not hasattr(monkey_patch, 'patch') or monkey_patch.is_patched()


class Differences(fixtures.Fixture):
    """Makes the release's own fixtures do what 2026.2's do."""

    def _setUp(self) -> None:
        from nova.tests.fixtures import notifications
        if is_eventlet():
            return
        # Before 2026.2 it looks for the running test in greenlets, native threads or not.
        self.useFixture(fixtures.MockPatchObject(
            notifications.FakeVersionedNotifier, '_get_sender_test_case_id', lambda notifier: notifier.test_case_id))
