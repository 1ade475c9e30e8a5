# SPDX-License-Identifier: Apache-2.0
"""Reject an unsafe live migration target before the migration starts.

The rooms, from the ground up. A room imports only those that stand above it here.

``finding``, ``codes``, ``policies``, ``checksettings``, ``deadline``, ``atomic``, ``hostranges``,
``processes``, ``certificates``, ``optiontypes``, ``wording``
    The ground: values and tools that know nothing of the rest.
``cpu``, ``machine``, ``network``, ``storage``, ``endpoints``, ``libvirtd``, ``volumes``
    The subjects. They know no check and no Nova.
``checks``
    What looks at a host, a path or a server, one module for each check. ``checks.base`` is the
    contract.
``rounds``
    Runs checks in processes of their own.
``report``
    What one host says, and how it travels.
``judging``
    Whether a guest may go from one host to another. Pure.
``planning``
    Where the servers of a host can go together. Pure.
``novadb``
    All that is read through Nova's objects.
``aftermath``
    What became of migrations.
``rehearsal``
    A guest of its own that proves the way to a target.
``compute``, ``scheduler``, ``cli``
    The doors: nova-compute, nova-scheduler, and the command line. ``conf`` has their options.

From a finding to a rejected host: ``doc/source/internals.rst``.
"""
