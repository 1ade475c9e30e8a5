# SPDX-License-Identifier: Apache-2.0
"""Ask the libvirt of the target itself, over the connection that a migration will open.

libvirtd on the source opens that connection, with its own user's keys and credentials. This
process has them only if it is root beside libvirtd. Else a login that fails proves nothing.
"""

from __future__ import annotations

import contextlib
import os
import pwd
import urllib.parse
from typing import Any, Iterator

from nova_migcheck.checksettings import Settings
from nova_migcheck.cpu import xml as cpuxml
from nova_migcheck.deadline import Call
from nova_migcheck.finding import Finding, Outcome, printable
from nova_migcheck.libvirtd import configfiles, connection, dryrun
from nova_migcheck.libvirtd.uri import Destination
from nova_migcheck.machine import offered
from nova_migcheck.volumes import leftovers

CHECK = 'transport'
CODES = {
    'transport-guest-exists': 'The target has a domain of this name or UUID already.',
    'transport-guest-refused': "The target's libvirt refuses the guest.",
    'transport-login-refused': "The target's libvirt refuses the login of this host.",
    'transport-login-unknown': "Whether the target's libvirt lets libvirtd in is unknown.",
    'transport-not-asked': "The target's libvirt could not be asked about the guest.",
    'transport-same-uuid': "The target's libvirt has the host UUID of this host.",
}

_SSH = ('ssh', 'libssh', 'libssh2')


def ask(settings: Settings, to: Destination, name: str) -> Iterator[Finding]:
    """Log in to the target's libvirt, and let it check the guest that is about to go there.

    :param settings: ``server`` is the UUID of the guest; '' if there is none
    :param name: of the target
    """
    if connection.uri(settings) is None:
        return  # another hypervisor, with other XML
    try:
        yield from Call(_ask, settings, to, name).wait(settings.timeout)
    except TimeoutError:
        yield _finding(
            Outcome.UNKNOWN, name,
            f'libvirt on {name} has not answered within {settings.timeout:g} s, '
            'although its port answers', to.uri, f'try virsh -c {to.uri} version on this host',
            'transport-not-asked')


def _ask(settings: Settings, to: Destination, name: str) -> list[Finding]:
    try:
        import libvirt
    except ImportError:
        return []  # the checks of the host report it
    libvirt.registerErrorHandler(lambda context, error: None, None)  # or else it prints to stderr
    as_libvirtd = _become_like_libvirtd()
    try:
        target = connection.opened(_without_prompt(to))
    except libvirt.libvirtError as error:
        return [_refused(error, to, name, as_libvirtd)]
    with contextlib.closing(target):
        try:
            with contextlib.closing(connection.opened(str(connection.uri(settings)))) as source:
                return list(_answers(settings, to, name, source, target))
        except libvirt.libvirtError as error:
            return [_finding(Outcome.UNKNOWN, name, 'whether libvirt there accepts the guest is '
                             f'unknown: {error}', to.uri, 'see libvirtd on both hosts',
                             'transport-not-asked')]


def _answers(settings: Settings, to: Destination, name: str, source: Any, target: Any
             ) -> Iterator[Finding]:
    uuids = {offered.host_uuid(cpuxml.parse(one.getCapabilities())) for one in (source, target)}
    if len(uuids) == 1 and uuids != {''}:
        yield _finding(
            Outcome.FAILURE, name, f'libvirt at {to.connect} has the host UUID of this host, '
            f'{uuids.pop()}: libvirt refuses to migrate a guest to the same host', to.uri,
            f'see that {to.connect} leads to {name}; then set host_uuid (or host_uuid_source = '
            '"machine-id") in libvirtd.conf or virtqemud.conf of one of them',
            'transport-same-uuid')
        return
    if settings.server:
        guest = source.lookupByUUIDString(settings.server)
        left = list(leftovers.domains(target, settings.server, guest.name()))
        for one in left:
            yield _finding(
                Outcome.FAILURE, name, f'libvirt on {name} would refuse this guest: '
                f'{printable(one.detail)}', to.uri, f'see virsh dominfo {printable(one.subject)} '
                f'on {name}; if no server of Nova uses it there, virsh destroy and undefine it',
                'transport-guest-exists')
        if left:
            return
        import libvirt
        said = dryrun.refusal(target, source, dryrun.portable(
            guest.XMLDesc(libvirt.VIR_DOMAIN_XML_MIGRATABLE)))
        if said:
            yield _finding(
                Outcome.FAILURE, name, f'libvirt on {name} refuses this guest: {printable(said)}',
                'domainXMLToNative of its libvirt', 'provide on the target what libvirt misses '
                'there, or choose another target', 'transport-guest-refused')
            return
    version = offered.dotted(target.getLibVersion())
    yield _finding(
        Outcome.OK, name,
        f'libvirt {version} there lets this host in, and accepts the guest' if settings.server else
        f'libvirt {version} there lets this host in', to.uri)


def _become_like_libvirtd() -> bool:
    """Use the files of libvirtd's user, and return whether this process can read them.

    As libvirt does, ``virAuthGetConfigFilePath`` of src/util/virauth.c.
    """
    if os.geteuid() != 0 or not configfiles.are_libvirtd_s():
        return False
    for variable in ('LIBVIRT_AUTH_FILE', 'XDG_CONFIG_HOME'):
        os.environ.pop(variable, None)
    os.environ['HOME'] = pwd.getpwuid(0).pw_dir
    return True


def _without_prompt(to: Destination) -> str:
    """Return the URI, with an ssh that never asks at a terminal (BatchMode)."""
    if to.transport != 'ssh' or 'no_tty' in to.uri:
        return to.uri
    return to.uri + ('&' if urllib.parse.urlsplit(to.uri).query else '?') + 'no_tty=1'


def _refused(error: Any, to: Destination, name: str, as_libvirtd: bool) -> Finding:
    """Return the finding for a login that failed."""
    import libvirt
    user = _user()
    # The file in the URI is libvirtd's, too.
    own = 'authfile=' in to.uri and error.get_error_code() == libvirt.VIR_ERR_AUTH_FAILED
    detail = f'libvirt on {name} does not let {user} in: {printable(str(error))}'
    if as_libvirtd or own:
        return _finding(
            Outcome.FAILURE, name, detail, to.uri, _remedy(to), 'transport-login-refused')
    return _finding(
        Outcome.UNKNOWN, name, f'{detail}. Whether it lets the user of libvirtd in is unknown',
        to.uri, _remedy(to), 'transport-login-unknown')


def _user() -> str:
    try:
        return pwd.getpwuid(os.geteuid()).pw_name
    except KeyError:  # a container may have users without a name
        return f'user {os.geteuid()}'


def _remedy(to: Destination) -> str:
    if to.transport in _SSH:
        user = urllib.parse.urlsplit(to.uri).username
        where = f'{user}@{to.connect}' if user else to.connect
        return (f'as the user of libvirtd, run ssh -o BatchMode=yes {where} true, and mend '
                'known_hosts here or authorized_keys there')
    return (f'see [auth-libvirt-{to.connect}] in auth.conf of libvirtd on this host, and on the '
            'target its SASL users (sasldblistusers2) and the lists of allowed users or names in '
            'libvirtd.conf')


def _finding(outcome: Outcome, name: str, detail: str, origin: str = '', remedy: str = '',
             code: str = '') -> Finding:
    return Finding(CHECK, outcome, name, detail, origin, remedy, code=code)
