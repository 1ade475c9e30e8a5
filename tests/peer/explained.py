# SPDX-License-Identifier: Apache-2.0
"""The tests of Nova's that fail only with the plugin, or in which it logs an error, and why."""

from __future__ import annotations

from typing import NamedTuple


class Explained(NamedTuple):
    """A test, and why it is here.

    :ivar name: the whole name of the test
    :ivar fails: whether it fails; if not, it passes, and the plugin logs an error in it
    :ivar releases: those of Nova for which it is true, all when there are none
    """

    name: str
    fails: bool
    reason: str
    releases: tuple[str, ...] = ()

    def is_for(self, release: str) -> bool:
        """Tell whether this is about that release."""
        return not self.releases or release in self.releases

    def explains(self, release: str, name: str, fails: bool) -> bool:
        """Tell whether this is why a test of that release fails, or logs an error."""
        return self.is_for(release) and (name, fails) == (self.name, self.fails)


_DRIVER = 'nova.tests.unit.virt.libvirt.test_driver.LibvirtConnTestCase.'
_TWO_FIELDS = (
    'It compares the whole answer to the source. The plugin has set target_connect_addr and '
    'instance_relative_path in it: so the source learns where the target is reached.')
_NO_UUID = (
    'Its instance is a dict or has no uuid, so the plugin cannot note the migration. It logs that, '
    'and Nova goes on.')

EXPLAINED = (
    *(Explained(_DRIVER + test, True, _TWO_FIELDS) for test in (
        'test_check_can_live_migrate_dest_all_pass_no_block_migration',
        'test_check_can_live_migrate_dest_all_pass_with_block_migration',
        'test_check_can_live_migrate_dest_all_pass_with_over_commit',
        'test_check_can_live_migrate_dest_no_instance_cpu_info',
        'test_check_can_live_migrate_guest_cpu_none_model',
    )),
    *(Explained(_DRIVER + test, False, _NO_UUID) for test in (
        'test_live_migration_hostname_invalid',
        'test_live_migration_hostname_valid',
        'test_post_live_migration_at_destination',
        'test_rollback_live_migration_at_dest_not_shared',
        'test_rollback_live_migration_at_dest_shared',
    )),
)
