# SPDX-License-Identifier: Apache-2.0
"""Another release of Debian on this machine: a directory with all of it, and commands that have it
as ``/``.

debootstrap makes the directory from the machine's own mirror, once. A command has process and mount
namespaces of its own, so that nothing of it stays; the network is the machine's. Only the standard
library is imported: ``./run`` needs this module before there is an environment.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import pathlib
import re
import shlex
import shutil
import subprocess
from typing import Callable, Iterator, Sequence

CHECKOUT = pathlib.Path(__file__).parents[1]
CODENAMES = {'debian-12': 'bookworm', 'debian-13': 'trixie'}
#: What README.rst says a machine must have.
PACKAGES = ('python3', 'git', 'ca-certificates')
#: What a libvirtd and its guests need.
LIBVIRT = ('libvirt-daemon-system', 'libvirt-daemon-driver-qemu', 'qemu-system-x86')
#: Where the checkout lies in it: every user may go there.
PLACE = '/srv/nova-migcheck'

_KEYRING = '/usr/share/keyrings/debian-archive-keyring.gpg'
_CERTIFICATES = '/etc/ssl/certs/ca-certificates.crt'
_PIP_CONFIGURATION = ('/etc/pip.conf', '~/.config/pip/pip.conf', '~/.pip/pip.conf')
# Of the environment, what says how to reach package indexes, and what to test.
_PASSED_ON = re.compile(r'(https?|all|no)_proxy|(HTTPS?|ALL|NO)_PROXY|PIP_\w+|SSL_CERT_\w+|'
                        r'\w+_CA_BUNDLE|MIGCHECK_\w+|TERM|LANG|HOME')
_PATH = re.compile(r'(?:file://|(?<![\w:/.~-]))(/[^\s\'",]+)')
# Of apt's configuration, what says how to fetch; nothing that runs a program of the machine.
_FETCHING = re.compile(r'Acquire::(https?(?!::Proxy-Auto)|Check-\w+|Retries|Languages|ForceIPv\d)'
                       r'\b.*(?<!"");')

# By pivot_root: from a chroot, "nsenter --mount" leads out to the machine's own root.
_ENTER = """
set -eu
{mount}
mount -t proc proc proc
mount --rbind /sys sys
mount --rbind /dev dev
mount -t tmpfs -o mode=1777 tmpfs tmp
mount -t tmpfs -o mode=755 tmpfs run
mkdir -p run/lock
{binds}
pivot_root . mnt
cd {directory}
umount -l /mnt
"""
_AS_IT_IS = """
mount --bind {root} {root}
cd {root}
"""
# What is written goes to memory, and is gone with the last process.
_SCRATCH = """
mkdir -p {root}.scratch
mount -t tmpfs tmpfs {root}.scratch
cd {root}.scratch
mkdir upper work root
mount -t overlay -o lowerdir={root},upperdir=upper,workdir=work overlay root
cd root
"""
# Not by exec: the shell stays process 1, and reaps what others leave behind.
_RUN = '"$@"\nexit $?\n'
_INSTALL = 'apt-get update -qq && apt-get install -y -qq --no-install-recommends "$@" >/dev/null'


class CannotMake(Exception):
    """This machine cannot make that root. The text says why."""


class Root:
    """All of a Debian release, in a directory of the checkout.

    :param release: a key of :data:`CODENAMES`
    :param purpose: '' for the root of ``./run --on``; another has other packages
    """

    def __init__(self, release: str, purpose: str = '') -> None:
        self.release = release
        self.path = CHECKOUT / f'.root-{release}{purpose and "-"}{purpose}'

    def make(self) -> None:
        """Make it, unless the same command has made it before; tell it how to reach mirrors and
        indexes in any case.

        :raises CannotMake: when this machine cannot
        """
        sources = list(_sources(CODENAMES[self.release]))
        mirror = sources[0].split()[2]
        command = ['debootstrap', '--variant=minbase', f'--include={",".join(PACKAGES)}',
                   CODENAMES[self.release], str(self.path), mirror]
        made = self.path / 'made'
        with self._locked():
            if not made.exists() or made.read_text() != shlex.join(command):
                if self.path.exists():
                    shutil.rmtree(self.path)
                if subprocess.call(command, stdout=subprocess.DEVNULL):
                    raise CannotMake(f'{shlex.join(command)} failed; its log is in '
                                     f'{self.path}/debootstrap/debootstrap.log')
                made.write_text(shlex.join(command))
            self._configure(sources)

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        with open(f'{self.path}.lock', 'w') as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield

    def _configure(self, sources: Sequence[str]) -> None:
        fetching = filter(_FETCHING.fullmatch, _output('apt-config', 'dump').splitlines())
        self._write('/etc/apt/sources.list', *sources)
        self._write('/etc/apt/apt.conf.d/00machine', *fetching)
        # No daemon starts by itself.
        self._write('/usr/sbin/policy-rc.d', '#!/bin/sh', 'exit 101').chmod(0o755)
        self._at(os.path.expanduser('~/.')).mkdir(parents=True, exist_ok=True)
        for name in ('/etc/hosts', '/etc/resolv.conf', _CERTIFICATES, *_PIP_CONFIGURATION,
                     *_named(os.path.isfile)):
            if os.path.exists(os.path.expanduser(name)):
                content = pathlib.Path(name).expanduser().read_bytes()
                self._file(os.path.expanduser(name)).write_bytes(content)

    def _write(self, name: str, *lines: str) -> pathlib.Path:
        path = self._file(name)
        path.write_text(''.join(f'{line}\n' for line in lines))
        return path

    def _file(self, name: str) -> pathlib.Path:
        """Where a file can be written. A link there would lead to a file of the machine."""
        path = self._at(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.unlink(missing_ok=True)
        return path

    def _at(self, name: str) -> pathlib.Path:
        return self.path / name.lstrip('/')

    def take_checkout(self) -> None:
        """Copy the files of the checkout as they are now to :data:`PLACE`, as a repository with
        all of them committed. What is ignored stays: the environments made there are."""
        place = self._at(PLACE)
        place.mkdir(parents=True, exist_ok=True)
        here, there = (('git', '-C', str(path), '-c', f'safe.directory={path}')
                       for path in (CHECKOUT, place))
        listed = _output(*here, 'ls-files', '-z', '--cached', '--others', '--exclude-standard')
        wanted = {name for name in listed.split('\0') if name and (CHECKOUT / name).is_file()}
        if not (place / '.git').exists():
            subprocess.run([*there, 'init', '-q', '-b', 'main'], check=True)
        for name in {*_output(*there, 'ls-files', '-z').split('\0')} - wanted - {''}:
            (place / name).unlink(missing_ok=True)
        for name in wanted:
            (place / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(CHECKOUT / name, place / name)
        subprocess.run([*there, 'add', '--all'], check=True)
        subprocess.run([*there, '-c', 'user.name=run', '-c', 'user.email=run@localhost', 'commit',
                        '-q', '--allow-empty', '-m', 'As it is in the checkout'], check=True)

    def install(self, *packages: str) -> None:
        """Install packages that it does not have.

        :raises CannotMake: when that fails
        """
        with self._locked():
            said = subprocess.run(['dpkg-query', f'--admindir={self._at("/var/lib/dpkg")}', '-W',
                                   '-f', '${Package} ${db:Status-Status}\n', *packages],
                                  stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
            there = [line.split()[0] for line in said.stdout.splitlines()
                     if line.endswith(' installed')]
            missing = [name for name in packages if name not in there]
            if missing and self.run('sh', '-c', _INSTALL, 'sh', *missing):
                raise CannotMake(f'{" ".join(missing)} cannot be installed on {self.release}')

    def run(self, *words: str, directory: str = '/') -> int:
        """The exit status of a command that has this root."""
        environment = {**passed_on(), 'DEBIAN_FRONTEND': 'noninteractive'}
        return subprocess.call(self.inside(*words, directory=directory), env=environment)

    def inside(self, *words: str, directory: str = '/', scratch: bool = False) -> list[str]:
        """The command line that runs ``words`` in it. All that they start ends with them, and they
        end with this process.

        :param scratch: whether what they write is gone after them
        """
        return ['setpriv', '--pdeathsig', 'KILL', 'unshare', '--mount', '--pid', '--fork',
                '--kill-child', '--propagation', 'private',
                'sh', '-c', self.enter(directory, scratch=scratch) + _RUN, 'sh', *words]

    def enter(self, directory: str = '/', binds: Sequence[str] = (), scratch: bool = False) -> str:
        """The lines of a shell, in a mount namespace of its own, that make this its root.

        :param binds: files and directories of the machine that are seen in it at the same place,
            besides those that pip is told of
        :param scratch: see :meth:`inside`
        """
        lines = []
        for name in _named(os.path.isdir):
            there = self._at(name)
            if not there.exists() or not any(there.iterdir()):  # never over what is Debian's
                quoted = shlex.quote(name)
                lines.append(f'mkdir -p .{quoted}; mount --bind -o ro {quoted} .{quoted}')
        for name in binds:
            make = 'mkdir -p' if os.path.isdir(name) else 'touch'
            lines.append(f'{make} .{name}; mount --bind {name} .{name}')
        mount = (_SCRATCH if scratch else _AS_IT_IS).format(root=shlex.quote(str(self.path)))
        return _ENTER.format(mount=mount, binds='\n'.join(lines), directory=directory)


def this_machine() -> str:
    """The release of the machine, or of the root that this runs in; '' when it is no Debian."""
    system = _os_release()
    return f'debian-{system.get("VERSION_ID")}' if system.get('ID') == 'debian' else ''


def another() -> str:
    """The release that this machine does not have."""
    return next(release for release in reversed(CODENAMES) if release != this_machine())


def passed_on() -> dict[str, str]:
    """What of the environment a command in a root gets."""
    return {'PATH': '/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin',
            **{name: value for name, value in os.environ.items() if _PASSED_ON.fullmatch(name)}}


def _sources(codename: str) -> Iterator[str]:
    """The lines of sources.list for that release: the machine's own mirrors, the archive first.

    :raises CannotMake: when the machine has none
    """
    own = _os_release().get('VERSION_CODENAME', '')
    releases = (own, f'{own}-security', f'{own}-updates')
    targets = _output('apt-get', 'indextargets', '--format',
                      '$(ORIGIN)|$(COMPONENT)|$(RELEASE)|$(REPO_URI)', 'Created-By: Packages')
    found = sorted((release, url) for origin, component, release, url in
                   (line.split('|') for line in set(targets.splitlines()))
                   if (origin, component) == ('Debian', 'main') and release in releases)
    if not found or found[0][0] != own:
        raise CannotMake(f'apt of this machine knows no mirror of Debian {own}: is it a Debian, '
                         'and has "apt-get update" been run?')
    for release, url in found:
        yield f'deb [signed-by={_KEYRING}] {url} {release.replace(own, codename)} main'


def _named(kind: Callable[[str], bool]) -> list[str]:
    """Paths in pip's configuration and in what is passed on of the environment. An index in files
    has these beside it."""
    texts = [value for name, value in passed_on().items() if name not in ('PATH', 'HOME')]
    for path in map(os.path.expanduser, _PIP_CONFIGURATION):
        if os.path.exists(path):
            texts.append(pathlib.Path(path).read_text())
    paths = [path.rstrip('/') for text in texts for path in _PATH.findall(text)]
    paths = [os.path.dirname(path) if path.endswith('/simple') else path for path in paths]
    return sorted({path for path in paths if path and kind(path)})


def _os_release() -> dict[str, str]:
    with open('/etc/os-release') as file:
        return dict(word.split('=', 1) for word in shlex.split(file.read(), comments=True))


def _output(*words: str) -> str:
    return subprocess.run(words, check=True, stdout=subprocess.PIPE, text=True).stdout
