# SPDX-License-Identifier: Apache-2.0
"""Every ``[migcheck]`` option, once.

An unknown value stops the service at its start, with oslo.config's own error: :func:`register` reads each option.
"""

from __future__ import annotations

import ipaddress
from types import SimpleNamespace
from typing import Any

from oslo_config import cfg, types

from nova_migcheck.policies import IGNORE, REJECT, WARN

GROUP = 'migcheck'


class _Policy(types.ConfigType):
    """``reject``, or ``reject,clock:warn``: a policy for every check and exceptions by the check's name."""

    def __init__(self) -> None:
        super().__init__(type_name='policy value')
        self._choice = types.String(choices=[REJECT, WARN, IGNORE])

    def __call__(self, value: Any) -> dict[str, str]:
        if isinstance(value, dict):
            return {check: self._choice(policy) for check, policy in value.items()}
        policies: dict[str, str] = {}
        for part in str(value).split(','):
            check, colon, policy = part.strip().rpartition(':')
            if bool(colon) != bool(check.strip()):
                raise ValueError(f'{part.strip()!r} is neither a policy nor CHECK:POLICY')
            if check.strip() in policies:
                raise ValueError(f'{check.strip() or "the policy of all checks"} is set twice')
            policies[check.strip()] = self._choice(policy.strip())
        return policies

    def __repr__(self) -> str:
        return 'Policy of reject, warn or ignore, with exceptions CHECK:POLICY'

    def _formatter(self, value: Any) -> str:
        return ','.join(f'{check}:{policy}' if check else policy for check, policy in self(value).items())


class _Network(types.ConfigType):
    """An IPv4 or IPv6 network in CIDR notation."""

    def __init__(self) -> None:
        super().__init__(type_name='network value')

    def __call__(self, value: Any) -> str:
        return str(ipaddress.ip_network(str(value).strip(), strict=False))

    def __repr__(self) -> str:
        return 'Network'

    def _formatter(self, value: Any) -> str:
        return str(value)


OPTS = [
    cfg.StrOpt(
        'mode',
        default='enforce',
        choices=[
            ('enforce', 'An unsafe target is rejected.'),
            ('report', 'Everything runs; what would have been rejected is logged, and the migration goes on.'),
            ('off', 'Nothing runs: Nova behaves as if the package were not installed.'),
        ],
        help="""
Whether an unsafe target is rejected.

Begin with ``report`` when you enable it in a cloud that already runs, read the log for a week, then ``enforce``. It is read by
nova-scheduler and by nova-compute, each from its own nova.conf: set it alike on all of them.
"""),
    cfg.ListOpt(
        'checks',
        default=['address', 'cpu', 'endpoint', 'storage', 'tls', 'transport'],
        help="""
The checks that run, by the names of their ``nova_migcheck.checks`` entry points. One that cannot be loaded is a finding, and
blocks nothing by itself.

Related options:

* ``on_failure``, ``on_unknown``: what the findings of each mean.
"""),
    cfg.Opt(
        'on_failure',
        type=_Policy(),
        default='reject',
        sample_default='reject',
        help="""
What a failed check of the target means: ``reject``, ``warn`` or ``ignore``, for all checks, with exceptions behind it:
``reject,endpoint:warn``. The default is what the package is for: a target known to be bad is not used.
"""),
    cfg.Opt(
        'on_unknown',
        type=_Policy(),
        default='warn',
        sample_default='warn',
        help="""
What it means when a check could not tell, in the same form as ``on_failure``. The default is not to block a migration for it:
"could not tell" is not "bad".
"""),
    cfg.Opt(
        'on_missing',
        type=_Policy(),
        default='warn',
        sample_default='warn',
        help="""
What it means, per enabled check, that the target has published no report, in the same form as ``on_failure``; the strictest
policy among the enabled checks holds. The default lets half-rolled-out clouds migrate.
"""),
    cfg.Opt(
        'on_stale',
        type=_Policy(),
        default='warn',
        sample_default='warn',
        help="""
What it means, per enabled check, that the target's report is older than ``stale_after``, in the same form as ``on_failure``; the strictest
policy among the enabled checks holds. What a stale report says is not believed. nova-compute on the target checks again in any case.
"""),
    cfg.StrOpt(
        'on_error',
        default='accept',
        choices=[
            ('accept', 'A bug of this package lets the migration go on, with one ERROR line in the log.'),
            ('reject', 'It refuses the target.'),
        ],
        help="""
What an error inside this package means for a migration. The default does no harm.
"""),
    cfg.IntOpt(
        'check_interval',
        default=60,
        min=10,
        help="""
Seconds between two rounds of checks on a compute host. The default follows nova-compute's own resource audit
(``update_resources_interval``, 60 s), which carries the report to the scheduler: a shorter one is not seen earlier.
"""),
    cfg.FloatOpt(
        'probe_timeout',
        default=5.0,
        min=0.1,
        max=60,
        help="""
Seconds that one network answer may take: a name, a connection, a reply. All are waited for at once. The default is long for a local
network and short for a person.

Related options:

* ``round_deadline`` must be longer.
"""),
    cfg.FloatOpt(
        'round_deadline',
        default=15.0,
        min=1,
        max=300,
        help="""
Seconds after which a round of checks is killed; the check that had not finished is then reported as ``unknown``. It is also the longest
time that the checks can add to one decision of nova-compute. The default allows for a first resolver timeout of 5 s and one of
``probe_timeout``.

Related options:

* ``probe_timeout``
"""),
    cfg.IntOpt(
        'recheck_after',
        default=10,
        min=0,
        help="""
Seconds. When a migration is decided on the target and its own report is older than this, or something was mounted or unmounted
since, the checks run again first. A round takes 0.3 s where all is well; what does not answer costs ``probe_timeout``. Decisions that
come together share one round. The default bounds what can have changed since the last look: with 90 s, a share that had been
unmounted a moment ago was missed, and Nova deleted the disk on it. 0 always runs the checks again.
"""),
    cfg.IntOpt(
        'stale_after',
        default=300,
        min=30,
        help="""
Seconds after which nova-scheduler no longer believes a report. The default is five times the default ``check_interval``: Nova writes a
report once in ``update_resources_interval``. On a compute host it is also how long a failure counts that a check had found and then, killed
at ``round_deadline`` or broken, could not look at again.

Related options:

* ``on_stale``
"""),
    cfg.ListOpt(
        'also_for',
        item_type=types.String(choices=['migration', 'resize', 'evacuation']),
        default=[],
        help="""
Other operations, besides live migration, whose targets nova-scheduler judges by the target's own report: ``migration`` (cold),
``resize``, ``evacuation``. The CPU of the running guest plays no part there: the guest is started anew.
"""),
    cfg.ListOpt(
        'migration_networks',
        item_type=_Network(),
        default=[],
        help="""
The networks over which live migrations are meant to go, in CIDR notation, IPv4 or IPv6. An address outside of them is refused. When it is
empty, ``migration_interface`` says what is meant; when that is empty too, the interface that holds ``[libvirt]
live_migration_inbound_addr`` if it is an address, else the one of ``[DEFAULT] my_ip``.
"""),
    cfg.StrOpt(
        'migration_interface',
        help="""
The interface over which live migrations are meant to go, e.g. ``bond1.200``. Used where ``migration_networks`` is empty.
"""),
    cfg.BoolOpt(
        'events',
        default=True,
        help="""
Whether a refused target is also written as an instance action event of its own (``migcheck_refused_<digest>``), which an administrator
reads with ``openstack server event show``. Nova itself mixes the reasons up when two hosts are refused.
"""),
    cfg.IntOpt(
        'max_logged_hosts',
        default=3,
        min=0,
        help="""
Rejected hosts of which nova-scheduler logs the reason for one request, but at least of one per check that rejects; 0 for none. There is one
line per check, where hosts with the same reason stand together. The others are named behind them when they are at most 40, else counted.
The default keeps a log readable in which a thousand hosts are rejected, each for a reason of its own; ``nova-migcheck explain`` tells all
of them.
"""),
    cfg.StrOpt(
        'nova_cpu_check',
        default='keep',
        choices=[
            ('keep', "Nova's own comparison runs as Nova is configured; when it rejects what this package found compatible, the log "
                     'and the event of the refusal say so.'),
            ('replace', "Where this package found the guest's own CPU compatible, Nova's comparison of the two hosts is skipped for "
                        'that one call.'),
        ],
        help="""
What happens to Nova's own comparison of CPUs on the target, which rejects identical hosts for a host-model guest (LP#2039803).

Related options:

* ``[workarounds] skip_cpu_compare_on_dest``
"""),
    cfg.StrOpt(
        'instances_shared',
        default='auto',
        choices=[
            ('auto', 'What the source of a migration has decides: disks on a shared file system go only to a host that has the same one; '
                     'local disks may go anywhere, as a block migration.'),
            ('yes', 'It must be on a shared file system: a host where it is not is no target, wherever the server comes from.'),
            ('no', 'It is not compared with that of other hosts.'),
        ],
        help="""
Whether the instances directory of this host is on a file system that it shares with other hosts. It plays no part for servers whose disks
are all volumes, nor with ``[libvirt] images_type = rbd``.

The default catches a share that was not mounted after a reboot: stock Nova takes that host for one with local disks, copies the disks into
its own directory and deletes them from the share. Set ``no`` on a host to which servers are moved off the share on purpose. A request for a
block migration is not taken for such a wish, since with one Nova refuses every host but those that lack the share.

Related options:

* ``[DEFAULT] instances_path``
* ``[libvirt] images_type``
"""),
    cfg.ListOpt(
        'extra_endpoints',
        default=[],
        help="""
More that the target should reach: ``http://``, ``https://``, ``tcp://HOST:PORT``, ``ntp://``. A dead one warns.

Related options:

* ``required_services``: add ``extra`` to it and a dead one rejects.
"""),
    cfg.ListOpt(
        'required_services',
        item_type=types.String(
            regex=r'^(identity|placement|network|message-queue|block-storage|key-manager|image|notifications|memcached'
                  r'|extra)(:(volumes|encryption))?$'),
        default=['identity', 'placement', 'network', 'message-queue', 'block-storage:volumes',
                 'key-manager:encryption'],
        help="""
The services without which a target is not fit for a live migration: ``identity``, ``placement``, ``network``,
``message-queue``, ``block-storage``, ``key-manager``, ``image``, ``notifications``, ``memcached``, ``extra`` (see
``extra_endpoints``). With ``:volumes`` or ``:encryption`` behind it, only for servers that have volumes, or encrypted
ones. One that is not listed warns when it is dead. The default is what Nova itself asks during a live migration; of
several hosts of one message queue, one that answers is enough.
"""),
    cfg.IntOpt(
        'catalog_interval',
        default=600,
        min=0,
        help="""
Seconds for which keystone's service catalog is used again before a compute host logs in anew to fetch it. What it
lists is asked in every round, and when one of that is dead the catalog is fetched at once. The default spares keystone
a login per minute, host and user, each of which costs it some 0.1 s of CPU. 0 logs in every round.
"""),
    cfg.FloatOpt(
        'clock_skew_limit',
        default=5.0,
        min=1,
        help="""
Seconds by which a host's clock may differ from those of the services that it talks to. They say their time in whole
seconds; the default leaves room for that and for a slow answer. Its findings have the check's name ``clock``.
"""),
]


def list_opts() -> list[tuple[str, list[cfg.Opt]]]:
    """What ``oslo-config-generator --namespace nova_migcheck`` prints."""
    return [(GROUP, OPTS)]


def register(conf: cfg.ConfigOpts) -> SimpleNamespace:
    """Make ``conf.migcheck`` known, and read each option so that a wrong value is refused now.

    :returns: what each of them says: none is changed while a service runs, and each answer of oslo.config costs as much as a dozen hosts
    :raises oslo_config.cfg.ConfigFileValueError: for a value that its option does not take
    """
    conf.register_opts(OPTS, group=GROUP)
    return SimpleNamespace(**{opt.dest: getattr(conf[GROUP], opt.dest) for opt in OPTS})
