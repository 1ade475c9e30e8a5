# SPDX-License-Identifier: Apache-2.0
"""Define the ``[migcheck]`` options.

A wrong value stops the service when it starts, with oslo.config's own error, because
:func:`register` reads each option.
"""

from __future__ import annotations

from types import SimpleNamespace

from oslo_config import cfg, types

from nova_migcheck import optiontypes

GROUP = 'migcheck'

OPTS = [
    cfg.StrOpt(
        'mode',
        default='enforce',
        choices=[
            ('enforce', 'Reject an unsafe target.'),
            ('report', 'Run everything and log what would be rejected, but do not reject it.'),
            ('off', 'Run nothing: Nova behaves as if the package were not installed.'),
        ],
        help="""
Whether to reject an unsafe target.

Start with ``report`` when you enable the package in a cloud that is in use. Read the log for a
week, then set ``enforce``. nova-scheduler and nova-compute each read this option from their own
nova.conf: set the same value for all of them.
"""),
    cfg.ListOpt(
        'checks',
        default=['address', 'attachments', 'cpu', 'endpoint', 'files', 'machine', 'storage', 'tls',
                 'transport', 'volumes'],
        help="""
The checks to run, by the names of their ``nova_migcheck.checks`` entry points. A check that
cannot be loaded is reported as a finding and does not reject anything by itself.

Related options:

* ``on_failure`` and ``on_unknown`` set the policy for each check.
"""),
    cfg.Opt(
        'on_failure',
        type=optiontypes.Policy(),
        default='reject',
        sample_default='reject',
        help="""
What to do when a check of the target failed: ``reject``, ``warn`` or ``ignore``. The policy holds
for all checks and can be followed by exceptions: ``reject,endpoint:warn``. The default is the
purpose of the package: a target with a known fault is not used.
"""),
    cfg.Opt(
        'on_unknown',
        type=optiontypes.Policy(),
        default='warn',
        sample_default='warn',
        help="""
What to do when a check could not determine its result, in the same form as ``on_failure``. The
default does not reject the target, because an unknown result is not a fault.
"""),
    cfg.Opt(
        'on_missing',
        type=optiontypes.Policy(),
        default='warn',
        sample_default='warn',
        help="""
What to do when the target has published no report, in the same form as ``on_failure``. The
strictest policy among the enabled checks applies. The default allows a gradual roll-out.
"""),
    cfg.Opt(
        'on_stale',
        type=optiontypes.Policy(),
        default='warn',
        sample_default='warn',
        help="""
What to do when the target's report is older than ``stale_after``, in the same form as
``on_failure``. The strictest policy among the enabled checks applies. The content of a stale
report is not used. nova-compute on the target runs its checks again in any case.
"""),
    cfg.StrOpt(
        'on_error',
        default='accept',
        choices=[
            ('accept', 'Let the migration continue, with one ERROR line in the log.'),
            ('reject', 'Reject the target.'),
        ],
        help="""
What to do when this package itself fails because of a bug. The default blocks no migration.
"""),
    cfg.IntOpt(
        'check_interval', default=60, min=10,
        help="""
Seconds between two rounds of checks on a compute host. The default matches nova-compute's
resource audit (``update_resources_interval``, 60 s), which sends the report to the scheduler. A
shorter interval does not reach the scheduler any earlier.
"""),
    cfg.FloatOpt(
        'probe_timeout', default=5.0, min=0.1, max=60,
        help="""
Seconds to wait for one network answer: a name lookup, a connection, a reply. The checks wait for
all of them at the same time. The default is long enough for any local network and short enough
for an operator who waits for the result.

Related options:

* ``round_deadline`` must be longer.
"""),
    cfg.FloatOpt(
        'round_deadline',
        default=15.0,
        min=1,
        max=300,
        help="""
Seconds after which a round of checks is killed. A check that had not finished is then reported as
``unknown``. This is also the longest time that the checks can add to one decision of
nova-compute. The default allows for a first resolver timeout of 5 s and one ``probe_timeout``.

Related options:

* ``probe_timeout``
"""),
    cfg.IntOpt(
        'recheck_after',
        default=10,
        min=0,
        help="""
Seconds. The target runs its checks again before it decides about a migration if its own report is
older than this, or if something was mounted or unmounted since. A round takes 0.3 s if all is
well; a service that does not answer costs ``probe_timeout``. Decisions at the same time share one
round. The default limits what can change unnoticed: with 90 s, a share that had just been
unmounted was missed, and Nova deleted the disk on it. 0 always runs the checks again.
"""),
    cfg.IntOpt(
        'stale_after',
        default=300,
        min=30,
        help="""
Seconds after which nova-scheduler no longer uses a report. The default is five times the default
``check_interval``, because Nova stores a report only once per ``update_resources_interval``. On a
compute host it also limits how long the failures of a check still count after the check was
killed at ``round_deadline`` or broke.

Related options:

* ``on_stale``
"""),
    cfg.ListOpt(
        'also_for',
        item_type=types.String(choices=['migration', 'resize', 'evacuation']),
        default=[],
        help="""
Other operations, besides live migration, for which nova-scheduler judges targets by their
reports: ``migration`` (cold), ``resize``, ``evacuation``. The CPU of the running guest is not
compared for them, because the guest is started again.
"""),
    cfg.ListOpt(
        'migration_networks',
        item_type=optiontypes.Network(),
        default=[],
        help="""
The networks for live migrations, in CIDR notation, IPv4 or IPv6. A migration address outside of
them is rejected. If it is empty, the interface is expected to be ``migration_interface``; if that
is empty too, the interface with the address ``[libvirt] live_migration_inbound_addr`` if that is
an address, else the one with ``[DEFAULT] my_ip``.
"""),
    cfg.StrOpt(
        'migration_interface',
        help="""
The interface for live migrations, e.g. ``bond1.200``. Used if ``migration_networks`` is empty.
"""),
    cfg.StrOpt(
        'ask_target',
        default='auto',
        choices=[('auto', 'log in to the libvirt of the target, as the migration will'),
                 ('never', 'only see that its port answers')],
        help="""
Whether the ``transport`` check, when a migration is decided, logs in to the libvirt of the target
with the URI of the migration, and lets it check the guest: a dry run that starts nothing and takes
some 10 ms. A login that fails is a failure only if nova-compute runs as root beside libvirtd, and
so with the credentials of the migration.
"""),
    cfg.BoolOpt(
        'events', default=True,
        help="""
Whether to record a target that nova-compute refused as an instance action event of its own
(``migcheck_refused_<digest>``). An administrator reads it with ``openstack server event show``.
Without it, Nova mixes up the reasons if two hosts refuse.
"""),
    cfg.IntOpt(
        'max_logged_hosts', default=3, min=0,
        help="""
Maximum number of rejected hosts whose reason nova-scheduler logs per request, but at least one
for each check that rejects hosts; 0 for none. There is one log line per check, in which hosts
with the same reason are listed together. The other hosts are named without a reason if there are
at most 40 of them, else counted. The default keeps the log readable when a thousand hosts are
rejected for different reasons. ``nova-migcheck explain`` lists all of them.
"""),
    cfg.IntOpt(
        'last_resort_hosts',
        default=3,
        min=0,
        help="""
Maximum number of hosts that nova-scheduler lets through for one live migration although their
reports reject them, if no other host is left. Only hosts are let through whose faults may have been
repaired since the report (address, storage, endpoint, certificate, clock), but not if their CPU
or machine types do not fit. Their own nova-compute runs the checks again, and accepts the server
or refuses it with its own reason. So a host is a target as soon as it is repaired, and a request
for one host ends with the reason of that host. 0 lets none through.
"""),
    cfg.StrOpt(
        'nova_cpu_check',
        default='keep',
        choices=[
            ('keep', "Run Nova's own comparison as Nova is configured. The log and the event of a "
                     'refusal say when it rejects a CPU that this package found compatible.'),
            ('replace', "Skip Nova's comparison of the two hosts for one call if this package "
                        "found the guest's own CPU compatible."),
        ],
        help="""
What to do about Nova's own comparison of CPUs on the target, which rejects identical hosts for a
host-model guest (LP#2039803).

Related options:

* ``[workarounds] skip_cpu_compare_on_dest``
"""),
    cfg.StrOpt(
        'instances_shared',
        default='auto',
        choices=[
            ('auto', 'Decide by the source of a migration: disks on a shared file system only go '
                     'to a host with the same one; local disks may go anywhere, as a block '
                     'migration.'),
            ('yes', 'It must be on a shared file system. A host where it is not is no target, '
                    'wherever the server comes from.'),
            ('no', 'Do not compare it with that of other hosts.'),
        ],
        help="""
Whether the instances directory of this host is on a file system that it shares with other hosts.
It does not matter for servers whose disks are all volumes, nor if ``images_type`` is ``rbd``.

The default detects a share that was not mounted after a reboot: stock Nova treats such a host as
one with local disks, copies the disks into its own directory and deletes them from the share. Set
``no`` on a host to which servers are moved off the share on purpose. Requesting a block migration
does not have that effect, because with block migration Nova itself refuses every host that has
the share.

Related options:

* ``[DEFAULT] instances_path``
* ``[libvirt] images_type``
"""),
    cfg.ListOpt(
        'extra_endpoints',
        default=[],
        help="""
Further endpoints that the target should reach: ``http://``, ``https://``, ``tcp://HOST:PORT``,
``ntp://``. An unreachable one is a warning.

Related options:

* ``required_services``: with ``extra`` in it, an unreachable one is a failure.
"""),
    cfg.ListOpt(
        'required_services',
        item_type=types.String(
            regex=r'^(identity|placement|network|message-queue|block-storage|key-manager|image'
                  r'|notifications|memcached|extra)(:(volumes|encryption))?$'),
        default=['identity', 'placement', 'network', 'message-queue', 'block-storage:volumes',
                 'key-manager:encryption'],
        help="""
The services that a target must reach for a live migration: ``identity``, ``placement``,
``network``, ``message-queue``, ``block-storage``, ``key-manager``, ``image``, ``notifications``,
``memcached``, ``extra`` (see ``extra_endpoints``). With ``:volumes`` or ``:encryption`` appended,
a service is required only for servers that have volumes, or encrypted ones. A service that is not
listed is a warning if it is unreachable. The default is what Nova itself uses during a live
migration. If a message queue has several hosts, one that answers is enough.
"""),
    cfg.IntOpt(
        'catalog_interval',
        default=600,
        min=0,
        help="""
Seconds for which a compute host reuses keystone's service catalog before it logs in again to
fetch it. If an endpoint in the catalog is unreachable, the catalog is fetched at once. If it still
is, or if the login failed, the next login waits for 60 s, then for twice as long each time, up to
this interval; the target of a migration logs in before it decides in any case. The default saves
keystone a login per minute, host and user, each of which takes about 0.1 s of its CPU. 0 logs in
every round.
"""),
    cfg.IntOpt(
        'probe_interval',
        default=300,
        min=0,
        help="""
Seconds for which a round of checks relies on an earlier one for each endpoint that was well. Each
endpoint is due at its own time. One that was not well is checked in every round, and the target of
a migration checks all of them again before it decides. After nova-compute was started, a host
checks them and logs in to keystone for the first time at random within this interval, so that hosts
that are restarted together do not ask together. The default keeps 1,000 hosts from sending 100
requests a second. 0 checks all endpoints in every round.

Related options:

* ``recheck_after``
"""),
    cfg.IntOpt(
        'ledger_size', default=16, min=0, max=1024, help="""
Maximum MiB of the ledger, a file in ``[DEFAULT] state_path`` of what was decided about migrations
and what became of them. Then the older half is dropped. The default holds 50,000 lines; 0 none.
"""),
    cfg.IntOpt(
        'ledger_days', default=90, min=1, help="""
Days after which a line of the ledger is dropped. The default outlasts a roll-out.
"""),
    cfg.FloatOpt(
        'clock_skew_limit', default=5.0, min=1,
        help="""
Maximum difference in seconds between a host's clock and those of the services that it talks to.
They give their time in whole seconds. The default allows for that and for a slow answer. The
findings have the check name ``clock``.
"""),
    cfg.BoolOpt(
        'notify_changes', default=False,
        help="""
Whether to send a versioned notification when a host becomes unfit as a target, or fit again. The
default sends none. ``[notifications] notification_format`` must be ``versioned`` or ``both``, too.
"""),
]


def list_opts() -> list[tuple[str, list[cfg.Opt]]]:
    """Return the options for ``oslo-config-generator --namespace nova_migcheck``."""
    return [(GROUP, OPTS)]


def register(conf: cfg.ConfigOpts) -> SimpleNamespace:
    """Register the options, and read each one so that a wrong value is an error now.

    :returns: the values. They do not change while a service runs, and one lookup by oslo.config
        takes as long as judging a dozen hosts.
    :raises oslo_config.cfg.ConfigFileValueError: for a value that its option does not accept
    """
    conf.register_opts(OPTS, group=GROUP)
    return SimpleNamespace(**{opt.dest: getattr(conf[GROUP], opt.dest) for opt in OPTS})
