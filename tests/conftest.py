# SPDX-License-Identifier: Apache-2.0
"""What is true of all tests."""

from __future__ import annotations

import gc
import os
from typing import Any, Generator

import pytest

# What a machine may lack that nothing installs.
MAY_LACK = ('no usable /dev/kvm', 'libvirt does not tell the TSC frequency', 'no Python of Debian', "is not this Python's version")

# What takes long by itself begins first, so that at the end nobody waits for it; pytest-xdist hands out tests in their order.
LONGEST = (
    'truth/test_truth.py', 'functional/test_cpu_rows.py', 'functional/test_eventlet.py', 'functional/test_attacks.py',
    'functional/test_install.py', 'functional/test_migration_path.py', 'lab/test_modular.py',
    'lab/test_attacks.py', 'lab/test_transport.py', 'lab/test_endpoint.py', 'lab/test_libvirt_cpu.py', 'lab/test_address.py',
    'lab/test_stopped_libvirtd.py', 'cli/test_page.py', 'cli/test_commands.py', 'cli/test_bad_input.py', 'cli/test_check.py',
    'unit/rounds/test_runner.py', 'lab/test_migration_path.py', 'lab/test_storage_mounts.py',
    'lab/test_aftermath.py', 'cli/test_agreement.py',
    'lab/test_tls.py', 'unit/test_aftermath.py')


def _place(item: pytest.Item) -> tuple[int, bool]:
    """Behind those, tests that share the one cloud (tests/functional/conftest.py), and then those with one of their own."""
    alone = hasattr(getattr(item, 'cls', None), 'CLOUD') or 'no_cloud' in getattr(item, 'fixturenames', ())
    return next((n for n, path in enumerate(LONGEST) if f'tests/{path}' in item.nodeid), len(LONGEST)), alone


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items.sort(key=_place)


def pytest_collection_finish() -> None:
    """Half a million objects of modules will never be garbage: looking through them each time took a tenth of all CPU time."""
    gc.freeze()


# Not wrapper=True: the pluggy of Debian 12 does not know it.
@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: Any) -> Generator[None, Any, None]:
    """Where all that the tests need was installed (``./run test``), one that is skipped because something is missing is a failure."""
    outcome = yield
    report = outcome.get_result()
    if report.skipped and not hasattr(report, 'wasxfail') and os.environ.get('MIGCHECK_SKIPS_FAIL'):
        reason = str(report.longrepr[2] if isinstance(report.longrepr, tuple) else report.longrepr)
        if not any(lacked in reason for lacked in MAY_LACK):
            report.outcome, report.longrepr = 'failed', f'{item.nodeid} was not run: {reason}'
