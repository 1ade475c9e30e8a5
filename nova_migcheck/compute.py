# SPDX-License-Identifier: Apache-2.0
"""The compute-side hook: Nova's own libvirt driver, which publishes what this host can take and refuses what it cannot."""

from __future__ import annotations

from typing import Any, Optional

import nova.conf
from nova import exception
from nova.virt.libvirt import driver
from oslo_log import log as logging

from nova_migcheck import conf as confs
from nova_migcheck.aftermath import past
from nova_migcheck.aftermath.watch import Departure
from nova_migcheck.hook import Compared, Hook

LOG = logging.getLogger(__name__)
CONF = nova.conf.CONF


class LibvirtDriver(driver.LibvirtDriver):
    """``[DEFAULT] compute_driver = migcheck.LibvirtDriver``. Each entry from Nova is fenced; none waits without a deadline."""

    _migcheck: Optional[Hook] = None

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        # Here, and not fenced: a wrong option must stop the service at its start.
        try:
            confs.register(CONF)
        except ValueError as e:
            # Nova, which loads this class, would take it for a driver of a wrong type, and say only that.
            LOG.error('%s', e)
            raise SystemExit(1)
        # instance uuid -> what our own comparison of its CPU said, for the length of one check
        self._migcheck_compared: dict[str, Optional[Compared]] = {}
        # instance uuid -> its live migration from here, while it is under way
        self._migcheck_departures: dict[str, Departure] = {}

    def init_host(self, host: str) -> None:
        super().init_host(host)
        if CONF.migcheck.mode == 'off':
            return
        hook = Hook(CONF, self._host)
        with hook.fenced('starting'):
            hook.start()
            self._migcheck = hook

    def cleanup_host(self, host: str) -> None:
        if self._migcheck is not None:
            with self._migcheck.fenced('stopping'):
                self._migcheck.stop()
        super().cleanup_host(host)

    def get_available_resource(self, nodename: str) -> Any:
        data = super().get_available_resource(nodename)
        if self._migcheck is not None:
            with self._migcheck.fenced('publishing the report'):
                # Merge: nova puts the uptime there, and others may put more.
                data['stats'] = {**(data.get('stats') or {}), **self._migcheck.reporter.texts()}
                self._migcheck.watch.look_after()
        return data

    def check_can_live_migrate_destination(self, context: Any, instance: Any, src_compute_info: Any, dst_compute_info: Any,
                                           block_migration: Any = False, disk_over_commit: Any = False) -> Any:
        if self._migcheck is None:
            return super().check_can_live_migrate_destination(
                context, instance, src_compute_info, dst_compute_info, block_migration, disk_over_commit)
        compared = None
        with self._migcheck.fenced('checking this host as a destination', instance):
            compared = self._migcheck.as_destination(context, instance, src_compute_info)
        self._migcheck_compared[instance.uuid] = compared
        try:
            data = super().check_can_live_migrate_destination(
                context, instance, src_compute_info, dst_compute_info, block_migration, disk_over_commit)
        finally:
            self._migcheck_compared.pop(instance.uuid, None)
        with self._migcheck.fenced('telling the source where this host is reached'):
            self._migcheck.tell_source(data, compared)
        return data

    def _compare_cpu(self, guest_cpu: Any, host_cpu_str: Any, instance: Any) -> None:
        """Nova's comparison of two hosts, where ``[migcheck] nova_cpu_check`` leaves it in force."""
        compared = self._migcheck_compared.get(instance.uuid)
        if compared is None or not compared.comparison.compatible:
            super()._compare_cpu(guest_cpu, host_cpu_str, instance)
            return
        if CONF.migcheck.nova_cpu_check == 'replace':
            LOG.info('Nova\'s comparison of the two hosts\' CPUs is skipped: this host provides all that the guest uses '
                     '([migcheck] nova_cpu_check = replace)', instance=instance)
            return
        try:
            super()._compare_cpu(guest_cpu, host_cpu_str, instance)
        except exception.InvalidCPUInfo as e:
            assert self._migcheck is not None
            raise self._migcheck.nova_disagrees(compared, instance, e)

    def check_can_live_migrate_source(self, context: Any, instance: Any, dest_check_data: Any, block_device_info: Any = None) -> Any:
        if self._migcheck is None:
            return super().check_can_live_migrate_source(context, instance, dest_check_data, block_device_info)
        decide = None
        with self._migcheck.fenced('beginning to check the path to the target', instance):
            decide = self._migcheck.as_source(context, instance, dest_check_data)
        try:
            return super().check_can_live_migrate_source(context, instance, dest_check_data, block_device_info)
        finally:
            # Also when Nova's own check refuses: our reason is a named one.
            if decide is not None:
                with self._migcheck.fenced('checking the path to the target', instance):
                    decide()

    # What becomes of a migration: only looked at. Other arguments are passed on as they come, whatever Nova's release calls them.

    def pre_live_migration(self, context: Any, instance: Any, *args: Any, **kwargs: Any) -> Any:
        try:
            data = super().pre_live_migration(context, instance, *args, **kwargs)
        except Exception as e:
            if self._migcheck is not None:
                with self._migcheck.fenced('noting a migration that could not be prepared'):
                    self._migcheck.watch.not_prepared(instance, e)
            raise
        if self._migcheck is not None:
            with self._migcheck.fenced('noting a migration to here'):
                self._migcheck.watch.arriving(context, instance)
        return data

    def post_live_migration_at_destination(self, context: Any, instance: Any, *args: Any, **kwargs: Any) -> Any:
        if self._migcheck is not None:
            with self._migcheck.fenced('noting the end of a migration to here'):
                self._migcheck.watch.arrived(instance)
        return super().post_live_migration_at_destination(context, instance, *args, **kwargs)

    def rollback_live_migration_at_destination(self, context: Any, instance: Any, *args: Any, **kwargs: Any) -> Any:
        if self._migcheck is not None:
            with self._migcheck.fenced('noting the failure of a migration to here'):
                self._migcheck.watch.turned_back(instance)
        return super().rollback_live_migration_at_destination(context, instance, *args, **kwargs)

    def live_migration(self, context: Any, instance: Any, dest: Any, post_method: Any, recover_method: Any, *args: Any,
                       **kwargs: Any) -> Any:
        if self._migcheck is None:
            return super().live_migration(context, instance, dest, post_method, recover_method, *args, **kwargs)
        departure = Departure(instance, dest)
        error: Optional[BaseException] = None
        self._migcheck_departures[instance.uuid] = departure
        try:
            return super().live_migration(context, instance, dest, departure.noting(past.COMPLETED, post_method),
                                          departure.noting(past.FAILED, recover_method), *args, **kwargs)
        except Exception as e:
            error = e
            raise
        finally:
            self._migcheck_departures.pop(instance.uuid, None)
            with self._migcheck.fenced('noting the end of a migration from here'):
                self._migcheck.watch.left(departure, error)

    def _live_migration_operation(self, context: Any, instance: Any, *args: Any, **kwargs: Any) -> Any:
        try:
            return super()._live_migration_operation(context, instance, *args, **kwargs)
        except Exception as e:
            # Before 2025.2 what libvirt said ends here, with the thread; live_migration() raises nothing.
            departure = self._migcheck_departures.get(instance.uuid)
            if departure is not None:
                departure.error = e
            raise
