# SPDX-License-Identifier: Apache-2.0
"""Tests in an in-process Nova: its real API, conductor, scheduler, placement and compute managers on a fake libvirt.

Native threads by default, as Nova 34 itself; ``OS_NOVA_DISABLE_EVENTLET_PATCHING=false`` runs them under eventlet. Nova
wants to patch, or to forbid patching, before anything else of it is imported: so it stands here.
"""

from tests.functional import nova_release

nova_release.patch()
