# SPDX-License-Identifier: Apache-2.0
"""Tests in an in-process Nova: its real API, conductor, scheduler, placement and compute managers on a fake libvirt.

Native threads by default, as Nova 34 itself; ``OS_NOVA_DISABLE_EVENTLET_PATCHING=false`` runs them under eventlet. Nova
wants to patch, or to forbid patching, before anything else of it is imported: so it stands here.
"""

import os

os.environ.setdefault('OS_NOVA_DISABLE_EVENTLET_PATCHING', 'true')

from nova import monkey_patch

monkey_patch.patch()
