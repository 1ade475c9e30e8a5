# SPDX-License-Identifier: Apache-2.0
"""A filter that is not nova-migcheck's own, found by ``available_filters = nova_migcheck.scheduler.all_filters``."""

from nova.scheduler import filters


class NotOnSundaysFilter(filters.BaseHostFilter):
    """Lets every host through: it is here to be found."""

    def host_passes(self, host_state, spec_obj):
        return True
