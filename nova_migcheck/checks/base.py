# SPDX-License-Identifier: Apache-2.0
"""The contract of a check. The built-in checks are declared exactly as somebody else's would be."""

from __future__ import annotations

import abc
import dataclasses
import xml.etree.ElementTree as ElementTree
from typing import Any, Callable, ClassVar, Iterable, Iterator, Mapping, Optional, Sequence, Union

from nova_migcheck.checksettings import Settings
from nova_migcheck.finding import Finding, Outcome

__all__ = ['Arrival', 'Check', 'Fact', 'Keep', 'Offer', 'Result', 'Server', 'Settings']


@dataclasses.dataclass(frozen=True)
class Offer:
    """Declares a fact that a check publishes about its host.

    :param name: of the fact, unique among all checks
    :param per_host: its keys that differ on every host. They are not compared: what is alike on
        many hosts is judged once for all of them
    :param keep: when a report is too large, the fact with the smallest number leaves it first
    :param between: compares the facts of the source and of the target, without the keys of
        ``per_host``, and returns findings about the target; none when they fit. Either may be
        anything, since it comes from another host. Pure: it runs in nova-scheduler
    :param distinct: a key of ``per_host`` with a text that no two hosts may share, at least 16
        characters long
    :param same: returns the finding for two hosts that share it
    """

    name: str
    per_host: tuple[str, ...] = ()
    keep: int = 0
    between: Optional[Callable[[Mapping[str, Any], Mapping[str, Any]], Iterable[Finding]]] = None
    distinct: str = ''
    same: Optional[Callable[[str], Finding]] = None


@dataclasses.dataclass(frozen=True)
class Server:
    """What Nova knows of a server that is about to leave, and will write into its XML.

    :param extra_specs: of its flavor
    :param mtus: MAC in lower case -> MTU of the network, as Nova knows it now
    """

    extra_specs: Mapping[str, str] = dataclasses.field(default_factory=dict)
    mtus: Mapping[str, int] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class Arrival:
    """A server that is about to come.

    :param uuid: its UUID, which is that of its domain, too
    :param name: of its domain in libvirt, e.g. ``instance-0000002a``; '' if it is not known
    :param directory: where its files will be, on this host
    :param host: where it is now
    :param copies: whether this host's Nova copies a config drive from there before the migration
    :param source: the facts of that host, without those that differ on every host
    :param here: the same of this host
    """

    uuid: str
    name: str
    directory: str
    host: str = ''
    copies: bool = False
    source: Mapping[str, Mapping[str, Any]] = dataclasses.field(default_factory=dict)
    here: Mapping[str, Mapping[str, Any]] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class Fact:
    """The value of an :class:`Offer`, a JSON object."""

    name: str
    value: Any


@dataclasses.dataclass(frozen=True)
class Keep:
    """What this check gets back, as ``settings.memory``, in its next round; it must be JSON.

    It lives in nova-compute's memory only: never on disk, never in the report.
    """

    value: Any


Result = Union[Finding, Fact, Keep]


class Check(abc.ABC):
    """One thing that must be true of a host, or of the path between two.

    A subclass is loaded by its entry point in ``nova_migcheck.checks``. nova-compute and
    nova-scheduler import its module too, so what is heavy must be imported inside :meth:`run`.
    """

    #: Name in the configuration, the findings and the policies; the same as the entry point's.
    NAME: ClassVar[str] = ''
    #: ``host``: run each ``[migcheck] check_interval`` on every compute host, about that host.
    #: ``path``: run on the source when a migration is decided, about the path to the target.
    #: ``server``: run on the target when a migration is decided, about the server that is to come
    #: there, if :meth:`concerns` says that there is something to look at.
    WHEN: ClassVar[str] = 'host'
    #: Whether a check of a server is given ``settings.volumes``, which costs a query. It does not
    #: run for a server that has none.
    READS_VOLUMES: ClassVar[bool] = False
    #: The options of nova.conf that it reads, by group. Nothing else is handed to it.
    OPTIONS: ClassVar[Mapping[str, Sequence[str]]] = {}
    #: Whether its rounds read the running guests; the one that does is given ``settings.guests``.
    READS_GUESTS: ClassVar[bool] = False
    #: The code of each kind of finding that is not ``ok``, and what it means in a few words. A code
    #: begins with the name of the check, and never gets another meaning.
    CODES: ClassVar[Mapping[str, str]] = {}
    #: The check names of those of its findings whose cause may be gone a moment later, when nobody
    #: has restarted a guest or libvirt: an address, a mount, an endpoint.
    TRANSIENT: ClassVar[Sequence[str]] = ()
    #: The check names of those of its findings whose subject is a service that many hosts use, such
    #: as a URL or a share. If many hosts have the same one, the service is the cause.
    OF_SERVICES: ClassVar[Sequence[str]] = ()
    #: The facts that it publishes.
    OFFERS: ClassVar[Sequence[Offer]] = ()
    #: Whether a guest may run on a host that does not offer what the guest needs. Then what the
    #: source lacks, too, is no fault of a target.
    SOURCE_MAY_LACK: ClassVar[bool] = False
    #: Groups whose keystoneauth options it needs to log in. Their values never leave the process.
    AUTH_GROUPS: ClassVar[Sequence[str]] = ()

    @abc.abstractmethod
    def run(self, settings: Settings) -> Iterator[Result]:
        """Look, and yield what was found as soon as it is known.

        It is a bug to raise in order to say "bad": yield a :class:`Finding`. What is raised becomes
        one ``unknown`` finding that names this check. It runs in a process of its own, which is
        killed at the round's deadline.
        """

    @staticmethod
    def needs(domain: ElementTree.Element) -> Any:
        """Return what a running guest needs of a target, as JSON; None when it needs nothing.

        It is called on the source, once for each start of a guest.

        :param domain: the guest's live XML, as ``virsh dumpxml`` prints it
        """
        return None

    @staticmethod
    def compare(needs: Any, target: Mapping[str, Mapping[str, Any]]) -> Iterable[Finding]:
        """Compare the needs of a guest with what a target offers; yield nothing when it fits.

        It is pure, and runs in nova-scheduler, in nova-compute and in the command line.

        :param needs: what :meth:`needs` returned; it comes from another host
        :param target: fact -> what of it is alike on many hosts
        """
        return ()

    @staticmethod
    def leaves(domain: ElementTree.Element, server: Server,
               target: Mapping[str, Mapping[str, Any]]) -> Iterable[Finding]:
        """Look at a running guest that is about to leave, on the source; yield what prevents it.

        :param domain: its live XML, as it is now
        :param target: fact -> what of it is alike on many hosts
        """
        return ()

    @classmethod
    def concerns(cls, server: Arrival, needs: Optional[Mapping[str, Any]]) -> bool:
        """Return whether a check of a server has something to look at on its target.

        It is pure, and runs in nova-compute. By default it has, unless its :meth:`needs` returned
        None for the guest.

        :param needs: check -> what its :meth:`needs` returned; None when they are not known
        """
        return needs is None or cls.NAME in needs or cls.needs is Check.needs

    @staticmethod
    def arrives(server: Arrival, connection: Any) -> Iterable[Finding]:
        """Look on the target for what is in the way of a server that is about to come.

        It runs in nova-compute, so it touches nothing that may hang but the connection.

        :param connection: to this host's libvirt
        """
        return ()

    def found(self, outcome: Outcome, subject: str, detail: str = '', origin: str = '',
              remedy: str = '', scope: str = '', code: str = '') -> Finding:
        """Return a finding of this check."""
        return Finding(self.NAME, outcome, subject, detail, origin, remedy, scope, code=code)

    def ok(self, subject: str, detail: str = '', origin: str = '') -> Finding:
        return self.found(Outcome.OK, subject, detail, origin)

    def failure(self, subject: str, detail: str, origin: str = '', remedy: str = '',
                scope: str = '', code: str = '') -> Finding:
        return self.found(Outcome.FAILURE, subject, detail, origin, remedy, scope, code)

    def warning(self, subject: str, detail: str, origin: str = '', remedy: str = '',
                scope: str = '', code: str = '') -> Finding:
        return self.found(Outcome.WARNING, subject, detail, origin, remedy, scope, code)

    def unknown(self, subject: str, detail: str, origin: str = '', remedy: str = '',
                scope: str = '', code: str = '') -> Finding:
        return self.found(Outcome.UNKNOWN, subject, detail, origin, remedy, scope, code)
