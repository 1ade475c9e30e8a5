# SPDX-License-Identifier: Apache-2.0
"""Disagreements that are known, and why they stand. ``doc/source/truth.rst`` has the same list for
people.
"""

from __future__ import annotations

from tests.truth.trial import Trial

_LEFT = 'the check volumes looks for domains that were left on the target, and the worlds do not run it yet'
# Kind, a state of the smallest world that shows it -> why.
EXPLAINED: dict[tuple[str, str], str] = {
    **{
        ('missed', f'left={name}'): _LEFT
        for name in ('defined-with-other-name', 'defined-with-other-uuid', 'running')
    },
    (
        'missed',
        'firewall=qemu-reset',
    ): 'a firewall that answers for the host like a closed port cannot be told from a closed port, '
    'and nothing listens there before a migration',
    (
        'missed',
        'firewall=qemu-low-dropped',
    ): 'the lowest ports are not knocked at: a QEMU that waits for its migration there would take '
    'that for its source',
}

# Code of a finding that rejects by a rule of the fault table -> what is the matter, and why it may
# work all the same.
BY_RULE = {
    'transport-hosts-conflict': 'A3: the hosts file has two addresses for one name; the first that answers is used, and nobody has said '
    'which is meant',
    'address-shared-subnet': 'A8: two interfaces in one subnet; which one answers is chance',
    'address-mtu': 'A10: two MTUs in one subnet; TCP agrees on the smaller, other traffic is lost',
    'transport-names-apart': 'A11: one name for libvirt and another for QEMU, in two networks; both work',
}


def why(trial: Trial) -> str:
    """Return why a disagreement is no surprise, '' if it is one."""
    if trial.kind == 'wrong':
        return '; '.join(BY_RULE[code] for code in trial.said.codes if code in BY_RULE)
    words = str(trial.world).split()
    return next(
        (
            reason
            for (kind, state), reason in EXPLAINED.items()
            if kind == trial.kind and state in words
        ),
        '',
    )
