# SPDX-License-Identifier: Apache-2.0
"""CPU features as the bits of an integer: whether a guest runs on a host is then one operation, however many features there are.

It says yes, never why not: :func:`nova_migcheck.cpu.compare` names what is missing.
"""

from __future__ import annotations

import itertools
from typing import NamedTuple, Optional

from nova_migcheck.cpu.comparison import X86, Cpu


class Masked(NamedTuple):
    """What of a CPU decides, in brief.

    :ivar kind: architecture and virt type
    :ivar vendor: a host's vendor; for a guest the one that it requires, None for any
    :ivar mask: the features; and for a guest the names that the host's libvirt must know, for a host those that it knows
    """

    kind: tuple[str, str]
    vendor: Optional[str]
    mask: int

    def runs_on(self, host: Masked) -> bool:
        """Whether this guest certainly runs on ``host``, as far as it needs no TSC frequency."""
        return (not self.mask & ~host.mask and self.kind == host.kind
                and (self.vendor is None or self.vendor == host.vendor))


class Interner:
    """Gives each name of a feature its bit. Masks of one interner can be compared with each other only."""

    #: Names that get a bit. All libvirt releases together know 700; a compromised host could publish new ones for ever.
    MOST = 4096

    def __init__(self) -> None:
        self._bits: dict[str, int] = {}
        # Two threads that meet the same new name: one of the two numbers stays unused. A name never gets two, nor two names one.
        self._next = itertools.count()

    def __call__(self, cpu: Optional[Cpu], knows: frozenset[str] = frozenset()) -> Optional[Masked]:
        """None for a CPU that features alone do not decide about, and when there are too many names.

        :param knows: of a host, the names that its libvirt knows
        """
        if cpu is None or cpu.arch not in X86 or cpu.forbids or cpu.at_most is not None:
            return None
        mask = 0
        # No feature has a space in its name: what a host provides is one thing, what its libvirt knows another.
        for name in (*cpu.features, *(f'{name} ' for name in cpu.spelled | knows)):
            bit = self._bits.get(name)
            if bit is None:
                if len(self._bits) >= self.MOST:
                    return None
                bit = self._bits.setdefault(name, 1 << next(self._next))
            mask |= bit
        return Masked((cpu.arch, cpu.virt), cpu.vendor or None, mask)
