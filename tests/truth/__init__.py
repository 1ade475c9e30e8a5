# SPDX-License-Identifier: Apache-2.0
"""What the checks say of random states of two real hosts, against what a real migration does there.

``world`` draws a state of two hosts, and makes a smaller one of it. ``plan`` is what a world comes
to: ``states`` change it. ``stage``
builds it of namespaces, libvirtd and QEMU. ``ours`` is our verdict, as nova-compute makes it; ``reality`` migrates a guest as Nova does.
``trial`` does both, and ``table`` counts.
"""
