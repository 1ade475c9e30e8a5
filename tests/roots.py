# SPDX-License-Identifier: Apache-2.0
"""Another release of Debian on this machine: a directory with all of it, and commands that see it as ``/``.

The directory is made by debootstrap from the machine's own mirror, once. What a command starts there ends with it: it has process and
mount namespaces of its own. The network is the machine's. Only the standard library is imported: ``./run`` needs this before there is
an environment.
"""

from __future__ import annotations

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
# What README.rst says a machine must have.
PACKAGES = ('python3', 'git', 'ca-certificates')
# Where the checkout lies in it: every user may go there.
PLACE = '/srv/nova-migcheck'

_KEYRING = '/usr/share/keyrings/debian-archive-keyring.gpg'
_CERTIFICATES = '/etc/ssl/certs/ca-certificates.crt'
_PIP_CONFIGURATION = ('/etc/pip.conf', '~/.config/pip/pip.conf', '~/.pip/pip.conf')
# Of the environment, what says how to reach package indexes, and what to test.
_PASSED_ON = re.compile(r'(https?|all|no)_proxy|(HTTPS?|ALL|NO)_PROXY|PIP_\w+|SSL_CERT_\w+|\w+_CA_BUNDLE|MIGCHECK_\w+|TERM|LANG|HOME')
_PATH = re.compile(r'(?:file://|(?<![\w:/.~-]))(/[^\s\'",]+)')
# Lines of apt's configuration that say how to fetch, and nothing that would run a program of the machine.
_FETCHING = re.compile(r'Acquire::(https?(?!::Proxy-Auto)|Check-\w+|Retries|Languages|ForceIPv\d)\b.*(?<!"");')

# By pivot_root: from a chroot, "nsenter --mount" leads out to the machine's own root. Not by exec at the end: the shell is process 1,
# and reaps what others leave behind.
_ENTER = """
set -eu
mount --bind {root} {root}
cd {root}
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


class CannotMake(Exception):
    """This machine cannot make that root. The text says why."""


class Root:
    """All of a Debian release, in a directory of the checkout.

    :param release: a key of :data:`CODENAMES`
    """

    def __init__(self, release: str) -> None:
        self.release = release
        self.path = CHECKOUT / f'.root-{release}'

    def make(self) -> None:
        """Make it, unless it was made by the same command before, and hand it how this machine reaches mirrors and indexes.

        :raises CannotMake: when this machine cannot
        """
        self.path.mkdir(exist_ok=True)
        with open(self.path.with_name(self.path.name + '.lock'), 'w') as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            sources = list(_sources(CODENAMES[self.release]))
            command = ['debootstrap', '--variant=minbase', f'--include={",".join(PACKAGES)}', CODENAMES[self.release], str(self.path),
                       sources[0].split()[2]]
            made, said = self.path / 'made', shlex.join(command)
            if not made.exists() or made.read_text() != said:
                shutil.rmtree(self.path)
                subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
                made.write_text(said)
            self._configure(sources)

    def _configure(self, sources: Sequence[str]) -> None:
        fetching = filter(_FETCHING.fullmatch, _output('apt-config', 'dump').splitlines())
        self._write('/etc/apt/sources.list', *sources)
        self._write('/etc/apt/apt.conf.d/00machine', *fetching)
        self._write('/usr/sbin/policy-rc.d', '#!/bin/sh', 'exit 101  # no daemon starts by itself').chmod(0o755)
        (self.path / os.path.expanduser('~').lstrip('/')).mkdir(parents=True, exist_ok=True)
        for name in ('/etc/hosts', '/etc/resolv.conf', _CERTIFICATES, *_PIP_CONFIGURATION, *_named(os.path.isfile)):
            self._copy(os.path.expanduser(name))

    def _write(self, name: str, *lines: str) -> pathlib.Path:
        path = self._at(name)
        path.write_text(''.join(f'{line}\n' for line in lines))
        return path

    def _copy(self, name: str) -> None:
        """A file of the machine, if it has it."""
        if os.path.exists(name):
            self._at(name).write_bytes(pathlib.Path(name).read_bytes())

    def _at(self, name: str) -> pathlib.Path:
        """A place for a file, in a directory that is there."""
        path = self.path / name.lstrip('/')
        path.parent.mkdir(parents=True, exist_ok=True)
        path.unlink(missing_ok=True)  # a link would lead to a file of the machine
        return path

    def take_checkout(self) -> None:
        """Copy the files of the checkout, as they are now, to :data:`PLACE`, as a repository with one commit."""
        place = self.path / PLACE.lstrip('/')
        place.mkdir(parents=True, exist_ok=True)
        here, there = (('git', '-C', str(path), '-c', f'safe.directory={path}') for path in (CHECKOUT, place))
        names = _output(*here, 'ls-files', '-z', '--cached', '--others', '--exclude-standard').split('\0')
        wanted = {name for name in names if name and (CHECKOUT / name).is_file()}
        if not (place / '.git').exists():
            subprocess.run([*there, 'init', '-q', '-b', 'main'], check=True)
        for name in {*_output(*there, 'ls-files', '-z').split('\0')} - wanted - {''}:
            (place / name).unlink(missing_ok=True)
        for name in wanted:
            (place / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(CHECKOUT / name, place / name)
        subprocess.run([*there, 'add', '--all'], check=True)
        subprocess.run([*there, '-c', 'user.name=run', '-c', 'user.email=run@localhost', 'commit', '-q', '--allow-empty', '-m',
                        'As it is in the checkout'], check=True)

    def run(self, *words: str, directory: str = '/') -> int:
        """The status of a command that has this root."""
        return subprocess.call(self.inside(*words, directory=directory), env=passed_on())

    def inside(self, *words: str, directory: str = '/') -> list[str]:
        """The command line that runs ``words`` in it. What they leave behind ends with them, and they with this process."""
        script = self.enter(directory) + '"$@"\nexit $?\n'
        return ['setpriv', '--pdeathsig', 'KILL', 'unshare', '--mount', '--pid', '--fork', '--kill-child', '--propagation', 'private',
                'sh', '-c', script, 'sh', *words]

    def enter(self, directory: str = '/', binds: Sequence[str] = ()) -> str:
        """The lines of a shell, in a mount namespace of its own, that make this its root.

        :param binds: files and directories of the machine that are to be seen in it, besides those that pip is told of
        """
        lines = []
        for name in _named(os.path.isdir):
            there = self.path / name.lstrip('/')
            if not there.exists() or not any(there.iterdir()):  # never over what is Debian's
                lines.append(f'mkdir -p .{name}; mount --bind -o ro {shlex.quote(name)} .{shlex.quote(name)}')
        for name in binds:
            make = 'mkdir -p' if os.path.isdir(name) else 'touch'
            lines.append(f'{make} .{name}; mount --bind {name} .{name}')
        return _ENTER.format(root=shlex.quote(str(self.path)), binds='\n'.join(lines), directory=directory)


def this_machine() -> str:
    """The release of the machine, or of the root that this runs in; '' when it is no Debian."""
    system = _os_release()
    return f'debian-{system.get("VERSION_ID")}' if system.get('ID') == 'debian' else ''


def passed_on() -> dict[str, str]:
    """What of the environment a command in a root gets."""
    return {'PATH': '/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin',
            **{name: value for name, value in os.environ.items() if _PASSED_ON.fullmatch(name)}}


def _sources(codename: str) -> Iterator[str]:
    """Lines of a sources.list for that release: the machine's own mirrors of Debian, the archive itself first."""
    own = _os_release().get('VERSION_CODENAME', '')
    targets = _output('apt-get', 'indextargets', '--format', '$(ORIGIN) $(RELEASE) $(COMPONENT) $(REPO_URI)', 'Created-By: Packages')
    found = sorted({(release, url) for origin, release, component, url in map(str.split, targets.splitlines())
                    if (origin, component) == ('Debian', 'main') and release in (own, f'{own}-updates', f'{own}-security')})
    if not found or found[0][0] != own:
        raise CannotMake(f'apt of this machine knows no mirror of Debian {own}; is it a Debian, and has "apt-get update" been run?')
    for release, url in found:
        yield f'deb [signed-by={_KEYRING}] {url} {release.replace(own, codename)} main'


def _named(kind: Callable[[str], bool]) -> list[str]:
    """Paths in pip's configuration and in what is passed on of the environment. An index in files has these beside it."""
    texts = [value for name, value in passed_on().items() if name not in ('PATH', 'HOME')]
    for path in map(os.path.expanduser, _PIP_CONFIGURATION):
        if os.path.exists(path):
            texts.append(pathlib.Path(path).read_text())
    paths = {os.path.dirname(path) if path.endswith('/simple') else path
             for text in texts for path in (found.rstrip('/') for found in _PATH.findall(text))}
    return sorted(path for path in paths if path and kind(path))


def _os_release() -> dict[str, str]:
    with open('/etc/os-release') as file:
        return dict(word.split('=', 1) for word in shlex.split(file.read(), comments=True))


def _output(*words: str) -> str:
    return subprocess.run(words, check=True, stdout=subprocess.PIPE, text=True).stdout
