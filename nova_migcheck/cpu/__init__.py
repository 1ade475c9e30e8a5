# SPDX-License-Identifier: Apache-2.0
"""CPUs: what a host's hypervisor provides, what a guest uses, and whether one runs on the other.

``comparison`` is the rule, and knows neither libvirt nor XML. ``xml`` reads what libvirt prints,
``definition`` and ``population`` make feature sets of it with ``models`` and ``names``,
``hypervisor`` asks a libvirt connection.
"""

from nova_migcheck.cpu.comparison import (
    COMPATIBLE,
    INCOMPATIBLE,
    UNKNOWN,
    X86,
    Comparison,
    Cpu,
    compare,
    compare_tsc,
    hides,
    lacks,
    naming,
    unreadable,
)

__all__ = ['COMPATIBLE', 'INCOMPATIBLE', 'UNKNOWN', 'X86', 'Comparison', 'Cpu', 'compare',
           'compare_tsc', 'hides', 'lacks', 'naming', 'unreadable']
