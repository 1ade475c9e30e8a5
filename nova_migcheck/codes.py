# SPDX-License-Identifier: Apache-2.0
"""The codes of findings that no single check makes, and the page of each code."""

from __future__ import annotations

import re

#: Code -> what it means.
COMMON = {
    'check-broken': 'A check raised an error, ended before its time, or wrote no result.',
    'check-not-run': 'A check did not run in this round.',
    'check-silent': 'A check had not finished at the deadline of its round.',
    'comparison-broken': 'A check cannot compare the source with the target.',
    'fact-malformed': 'A check publishes something that it does not declare.',
    'guest-unknown': 'What the guest needs of a target cannot be read.',
    'hosts-file-unreadable': 'The hosts file cannot be read.',
    'libvirt-bindings': 'libvirt-python cannot be imported.',
    'libvirt-closed': 'The libvirt of this host ended the connection.',
    'libvirt-silent': 'The libvirt of this host did not answer within the timeout.',
    'libvirt-unreachable': 'The libvirt of this host cannot be connected to.',
    'migrations-failing': 'The last live migrations to a host failed or strayed.',
    'network-namespace': "nova-compute does not run in the host's network namespace.",
    'nova-refuses': 'Nova itself would not live-migrate the server to this target.',
    'report-missing': 'The target has published no report.',
    'report-stale': "The target's report is too old, or from the future.",
}

# What the codes of our own checks begin with. Each has a page in doc/source/runbooks/.
_OURS = re.compile(
    '(address|attachments|clock|cpu|endpoint|files|machine|storage|tls|transport|volumes)-')


def page(code: str) -> str:
    """Return the page of the documentation about a code, '' for a code of another package."""
    return f'runbooks/{code}' if code in COMMON or _OURS.match(code) else ''


def advice(remedy: str, code: str) -> str:
    """Return what a person reads of a remedy: what to do, and the page that says more."""
    where = page(code)
    return ' '.join(filter(None, (remedy, where and f'({where})')))
