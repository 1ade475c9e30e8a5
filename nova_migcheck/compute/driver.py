# SPDX-License-Identifier: Apache-2.0
"""Nova's own libvirt driver, which also publishes what this host offers and refuses what it lacks.

Each method calls Nova's own and, inside a fence, ours.
Whatever ours does, Nova's own behaviour remains.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Optional

import nova.conf
from nova import exception
from nova.virt.libvirt import driver
from oslo_log import log as logging

from nova_migcheck import conf as confs
from nova_migcheck.compute.fence import fenced

if TYPE_CHECKING:
    from nova_migcheck.compute.destination import Compared
    from nova_migcheck.compute.lifecycle import Lifecycle

LOG = logging.getLogger(__name__)
CONF = nova.conf.CONF


class LibvirtDriver(driver.LibvirtDriver):
    """The driver of ``[DEFAULT] compute_driver = migcheck.LibvirtDriver``."""

    _migcheck: Optional[Lifecycle] = None

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        # instance uuid -> our comparison of its CPU, for the length of one check
        self._migcheck_compared: dict[str, Optional[Compared]] = {}
        # instance uuid -> its live migration from here, while it is under way
        self._migcheck_departures: dict[str, Any] = {}
        super().__init__(*args, **kwargs)
        try:
            confs.register(CONF)
        except ValueError as e:
            # A wrong option must stop the service at its start. Nova, which loads this class,
            # would take the error for a driver of a wrong type, and say only that.
            LOG.error('%s', e)
            raise SystemExit(1)

    def init_host(self, host: str) -> None:
        super().init_host(host)
        with fenced('starting'):
            if CONF.migcheck.mode == 'off':
                return
            # Imported here: a package that is missing must not keep nova-compute from starting.
            from nova_migcheck.compute.lifecycle import Lifecycle
            self._migcheck = Lifecycle.started(CONF, self._host, self.virtapi)

    def cleanup_host(self, host: str) -> None:
        if self._migcheck is not None:
            with fenced('stopping'):
                self._migcheck.stop()
        super().cleanup_host(host)

    def get_available_resource(self, nodename: str) -> Any:
        data = super().get_available_resource(nodename)
        if self._migcheck is not None:
            with fenced('publishing the report'):
                # Merge: Nova puts the uptime there, and others may put more.
                texts = self._migcheck.reporter.texts()
                data['stats'] = {**(data.get('stats') or {}), **texts}
            with fenced('looking after migrations to here'):
                self._migcheck.watch.look_after()
        return data

    def check_can_live_migrate_destination(
            self, context: Any, instance: Any, src_compute_info: Any, dst_compute_info: Any,
            block_migration: Any = False, disk_over_commit: Any = False) -> Any:
        if self._migcheck is None:
            return super().check_can_live_migrate_destination(
                context, instance, src_compute_info, dst_compute_info,
                block_migration, disk_over_commit)
        compared = None
        with fenced('checking this host as a destination', instance):
            compared = self._migcheck.destination.decide(context, instance, src_compute_info)
            if compared is not None:
                self._migcheck_compared[instance.uuid] = compared
        try:
            data = super().check_can_live_migrate_destination(
                context, instance, src_compute_info, dst_compute_info,
                block_migration, disk_over_commit)
        finally:
            if compared is not None:
                self._migcheck_compared.pop(instance.uuid, None)
        with fenced('telling the source where this host is reached'):
            self._migcheck.destination.tell_source(data, compared)
        return data

    def _compare_cpu(self, guest_cpu: Any, host_cpu_str: Any, instance: Any) -> Any:
        """Compare CPUs as Nova does, where ``[migcheck] nova_cpu_check`` leaves that in force.

        :param instance: None at the start of nova-compute, when Nova compares
            ``[libvirt] cpu_models`` with this host
        """
        compared = None
        if self._migcheck_compared and instance is not None:
            compared = self._migcheck_compared.get(instance.uuid)
        if compared is None or not compared.comparison.compatible:
            return super()._compare_cpu(guest_cpu, host_cpu_str, instance)
        if CONF.migcheck.nova_cpu_check == 'replace':
            LOG.info('Nova\'s comparison of the two hosts\' CPUs is skipped: this host provides '
                     'all that the guest uses ([migcheck] nova_cpu_check = replace)',
                     instance=instance)
            return None
        try:
            return super()._compare_cpu(guest_cpu, host_cpu_str, instance)
        except exception.InvalidCPUInfo as e:
            with fenced("explaining that Nova's own check refuses this host", instance):
                assert self._migcheck is not None
                self._migcheck.destination.refuse_as_nova(compared, instance, e)
            raise

    def check_can_live_migrate_source(
            self, context: Any, instance: Any, dest_check_data: Any,
            block_device_info: Any = None) -> Any:
        decide = None
        if self._migcheck is not None:
            with fenced('beginning to check the path to the target', instance):
                decide = self._migcheck.source.begin(
                    context, instance, dest_check_data, block_device_info)
        try:
            return super().check_can_live_migrate_source(
                context, instance, dest_check_data, block_device_info)
        finally:
            # Also when Nova's own check refuses: our reason names the cause.
            if decide is not None:
                with fenced('checking the path to the target', instance):
                    decide()

    # A guest that gets or loses a volume needs another thing of a target.

    # Nova's own tests hold the arguments to those of its base class.
    def attach_volume(self, context: Any, connection_info: Any, instance: Any, mountpoint: Any,
                      disk_bus: Any = None, device_type: Any = None, encryption: Any = None) -> Any:
        try:
            return super().attach_volume(context, connection_info, instance, mountpoint,
                                         disk_bus=disk_bus, device_type=device_type,
                                         encryption=encryption)
        finally:
            self._migcheck_disks_changed(instance)

    def detach_volume(self, context: Any, connection_info: Any, instance: Any, mountpoint: Any,
                      encryption: Any = None) -> Any:
        try:
            return super().detach_volume(context, connection_info, instance, mountpoint,
                                         encryption=encryption)
        finally:
            self._migcheck_disks_changed(instance)

    def _migcheck_disks_changed(self, instance: Any) -> None:
        if self._migcheck is not None:
            with fenced('noting that a guest has other disks'):
                self._migcheck.reporter.disks_changed(instance.uuid)

    # What becomes of a migration is only watched.

    def pre_live_migration(
            self, context: Any, instance: Any, block_device_info: Any, network_info: Any,
            disk_info: Any, migrate_data: Any) -> Any:
        try:
            data = super().pre_live_migration(
                context, instance, block_device_info, network_info, disk_info, migrate_data)
        except Exception as e:
            if self._migcheck is not None:
                with fenced('noting a migration that could not be prepared'):
                    self._migcheck.watch.not_prepared(instance, e)
            raise
        if self._migcheck is not None:
            with fenced('noting a migration to here'):
                self._migcheck.watch.arriving(context, instance)
        return data

    def post_live_migration_at_destination(
            self, context: Any, instance: Any, network_info: Any, block_migration: Any = False,
            block_device_info: Any = None) -> Any:
        if self._migcheck is not None:
            with fenced('noting the end of a migration to here'):
                self._migcheck.watch.arrived(instance)
        return super().post_live_migration_at_destination(
            context, instance, network_info, block_migration, block_device_info)

    def rollback_live_migration_at_destination(
            self, context: Any, instance: Any, network_info: Any, block_device_info: Any,
            destroy_disks: Any = True, migrate_data: Any = None) -> Any:
        if self._migcheck is not None:
            with fenced('noting the failure of a migration to here'):
                self._migcheck.watch.turned_back(instance)
        return super().rollback_live_migration_at_destination(
            context, instance, network_info, block_device_info, destroy_disks, migrate_data)

    def live_migration(
            self, context: Any, instance: Any, dest: Any, post_method: Any, recover_method: Any,
            block_migration: Any = False, migrate_data: Any = None) -> Any:
        departure, callbacks = None, (post_method, recover_method)
        if self._migcheck is not None:
            with fenced('noting a migration from here'):
                begun = self._migcheck.watch.departing(instance, dest)
                callbacks = begun.noting(post_method, recover_method)
                departure = self._migcheck_departures[instance.uuid] = begun
        error: Optional[BaseException] = None
        try:
            return super().live_migration(
                context, instance, dest, *callbacks, block_migration, migrate_data)
        except Exception as e:
            error = e
            raise
        finally:
            if self._migcheck is not None and departure is not None:
                with fenced('noting the end of a migration from here'):
                    self._migcheck_departures.pop(instance.uuid, None)
                    self._migcheck.watch.left(departure, error)

    def _live_migration_operation(self, context: Any, instance: Any, *args: Any,
                                  **kwargs: Any) -> Any:
        try:
            return super()._live_migration_operation(context, instance, *args, **kwargs)
        except Exception as e:
            # Before 2025.2 what libvirt said ends here, with the thread; live_migration()
            # raises nothing.
            with fenced('noting what libvirt said'):
                departure = self._migcheck_departures.get(instance.uuid)
                if departure is not None:
                    departure.error = e
            raise
