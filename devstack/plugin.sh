# SPDX-License-Identifier: Apache-2.0
# Sourced by devstack's stack.sh and unstack.sh with the phase in $1 and $2.

MIGCHECK_DIR=$(dirname "$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")")

if [[ "$1" == "stack" && "$2" == "install" ]]; then
    # Not editable (setup_develop): nova/virt/migcheck must lie in the nova package of the same
    # environment.
    pip_install "$MIGCHECK_DIR"
elif [[ "$1" == "stack" && "$2" == "post-config" ]]; then
    # nova-compute's own file is copied from this one later.
    iniset_multiline "$NOVA_CONF" filter_scheduler available_filters \
        nova.scheduler.filters.all_filters nova_migcheck.scheduler.all_filters
    iniset "$NOVA_CONF" filter_scheduler enabled_filters "$NOVA_FILTERS,MigrationTargetFilter"
    iniset "$NOVA_CONF" DEFAULT compute_driver migcheck.LibvirtDriver
    iniset "$NOVA_CONF" migcheck mode "$MIGCHECK_MODE"
    if [[ -n "$MIGCHECK_MIGRATION_NETWORKS" ]]; then
        iniset "$NOVA_CONF" migcheck migration_networks "$MIGCHECK_MIGRATION_NETWORKS"
    fi
fi

if [[ "$1" == "clean" ]]; then
    pip_uninstall nova-migcheck || true
fi
