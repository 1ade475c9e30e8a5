# SPDX-License-Identifier: Apache-2.0
"""What is true of all tests."""

from __future__ import annotations

import os
from typing import Any, Generator

import pytest

# What a machine may lack that nothing installs.
MAY_LACK = ('no usable /dev/kvm', 'libvirt does not tell the TSC frequency')


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: Any) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Where all that the tests need was installed (``./run test``), one that is skipped because something is missing is a failure."""
    report = yield
    if report.skipped and not hasattr(report, 'wasxfail') and os.environ.get('MIGCHECK_SKIPS_FAIL'):
        reason = str(report.longrepr[2] if isinstance(report.longrepr, tuple) else report.longrepr)
        if not any(lacked in reason for lacked in MAY_LACK):
            report.outcome, report.longrepr = 'failed', f'{item.nodeid} was not run: {reason}'
    return report
