# SPDX-License-Identifier: Apache-2.0
"""The tests of Nova's that fail only with the plugin, or in which it logs an error, and why."""

from __future__ import annotations

from typing import NamedTuple


class Explained(NamedTuple):
    """A test, and why it is here.

    :ivar test: its name below ``nova.tests``
    :ivar releases: those of Nova for which it is true, all when there are none
    """

    test: str
    reason: str
    releases: tuple[str, ...] = ()

    def concerns(self, release: str, test: str) -> bool:
        """Tell whether this is about that test of that release."""
        return test == f'nova.tests.{self.test}' and (
            not self.releases or release in self.releases)


_DRIVER = 'unit.virt.libvirt.test_driver.LibvirtConnTestCase.'
_TWO_FIELDS = (
    'It compares the whole answer to the source. The plugin has set target_connect_addr and '
    'instance_relative_path in it: so the source learns where the target is reached.')
_NO_UUID = (
    'Its instance has no uuid, so the plugin cannot note the migration. It logs that, and Nova '
    'goes on.')

EXPLAINED = (
    *(Explained(_DRIVER + test, _TWO_FIELDS) for test in (
        'test_check_can_live_migrate_dest_all_pass_no_block_migration',
        'test_check_can_live_migrate_dest_all_pass_with_block_migration',
        'test_check_can_live_migrate_dest_all_pass_with_over_commit',
        'test_check_can_live_migrate_dest_no_instance_cpu_info',
        'test_check_can_live_migrate_guest_cpu_none_model',
    )),
    *(Explained(_DRIVER + test, _NO_UUID) for test in (
        'test_post_live_migration_at_destination',
        'test_rollback_live_migration_at_dest_not_shared',
        'test_rollback_live_migration_at_dest_shared',
    )),
)
