# SPDX-License-Identifier: Apache-2.0
"""Call what Nova itself decides with, where that differs between its releases 2024.1 to 2026.2.

Nova refuses a live migration in three places before any host is asked: the decorators of its API,
the task of its conductor, and the request filters of its scheduler. All are called here as they
are, on a server that has been read. None of them writes.
"""

from __future__ import annotations

import types
from typing import Any, Callable, Sequence

import nova.conf
from nova import exception, objects, servicegroup
from nova.compute import api, instance_actions, vm_states
from nova.compute import utils as compute_utils
from nova.conductor.tasks import live_migrate
from nova.network import neutron

CONF = nova.conf.CONF

_LIVE = instance_actions.LIVE_MIGRATION

#: What a server must be read with.
INSTANCE = ('flavor', 'info_cache', 'metadata', 'numa_topology', 'pci_requests', 'resources',
            'system_metadata')


def _decorators(ports: bool) -> Sequence[Callable[..., Any]]:
    """Return the decorators of ``API.live_migrate``, the innermost first.

    Without the one of locked servers, which Nova moves for an administrator.

    :param ports: whether the server has any, and neutron is to be asked
    """
    found: list[Callable[..., Any]] = [
        api.check_instance_state(vm_state=[vm_states.ACTIVE, vm_states.PAUSED])]
    # "SEV" became any memory encryption in 2026.2.
    found.append((getattr(api, 'reject_mem_enc_instances', None)
                  or api.reject_sev_instances)(_LIVE))
    # A TPM's secret can be on the host since 2026.1.
    legacy = getattr(api, 'reject_legacy_vtpm_live_migration', None)
    found.append(legacy or api.reject_vtpm_instances(_LIVE))
    found.append(api.block_accelerators())
    if ports:
        found += [
            api.reject_vdpa_instances(_LIVE, until=api.MIN_COMPUTE_VDPA_HOTPLUG_LIVE_MIGRATION),
            api.block_port_accelerators(), api.block_extended_resource_request]
    if hasattr(api, 'block_shares_not_supported'):  # since 2025.1
        found.append(api.block_shares_not_supported())
    return found


class Task:
    """One live migration as Nova's API and conductor would begin it.

    :param context: in the server's cell
    :param instance: read with :data:`INSTANCE`
    :param spec: its RequestSpec, which is changed but never saved
    :param network: for all servers; it remembers the extensions of neutron
    :ivar has_ports: else neutron is not asked
    """

    def __init__(self, context: Any, instance: Any, spec: Any, network: neutron.API) -> None:
        self._context, self._instance = context, instance
        self.has_ports = bool(instance.get_network_info())
        if 'is_bfv' not in spec:
            # Nova would save what it finds here.
            spec.is_bfv = compute_utils.is_volume_backed_instance(context, instance)
        self._task = live_migrate.LiveMigrationTask(
            context, instance, None, None, None, None, None, servicegroup.API(), None, None, spec)
        # neutron is asked for each server, which takes longer than all else.
        self._task.network_api = network if self.has_ports else _WithoutPorts()

    def refusal(self) -> str:
        """Return why Nova would not live-migrate this server anywhere, '' if it would."""
        def passed(*_args: Any) -> None:
            self._task._check_instance_is_active()
            self._task._check_instance_has_no_numa()
            self._task._check_host_is_up(self._instance.host)
            self._task._check_can_migrate_specific_resources()
            self._check_devices()
        # check_instance_state() names the function in its error.
        passed.__name__ = 'live_migrate'
        for decorator in _decorators(self.has_ports):
            passed = decorator(passed)
        try:
            passed(types.SimpleNamespace(network_api=self._task.network_api), self._context,
                   self._instance)
        except exception.NovaException as e:
            return str(e.format_message())
        return ''

    def _check_devices(self) -> None:
        """Raise what the conductor would for devices that no host can take over.

        It is asked for the source as target, and so says only what is true of every host.
        """
        self._task._check_can_migrate_pci(self._instance.host, self._instance.host)

    def spec(self) -> Any:
        """Return the request that the conductor would send to the scheduler."""
        spec = self._task._get_request_spec_for_select_destinations()
        spec.ignore_hosts = [self._instance.host]
        spec.instance_uuid = self._instance.uuid
        spec.obj_reset_changes(['instance_uuid'])
        return spec

    @staticmethod
    def refuses(source: Any, target: Any) -> str:
        """Return why the conductor would skip a target that the scheduler chose, '' if it takes it.

        As ``_check_compatible_with_source_hypervisor``, of two HostStates.
        """
        if source.hypervisor_type != target.hypervisor_type:
            return f'its hypervisor is {target.hypervisor_type}, not {source.hypervisor_type}'
        if (source.hypervisor_version > target.hypervisor_version
                and not CONF.workarounds.skip_hypervisor_version_check_on_lm):
            return (f'its hypervisor ({target.hypervisor_version}) is older than the source\'s '
                    f'({source.hypervisor_version})')
        return ''


class _WithoutPorts(neutron.API):
    """Neutron for a server without ports: there is nothing to ask."""

    def get_requested_resource_for_instance(self, *_args: Any) -> Any:
        return [], objects.RequestLevelParams()
