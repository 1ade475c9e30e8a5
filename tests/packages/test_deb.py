# SPDX-License-Identifier: Apache-2.0
"""The Debian package on Debian 12 and 13: built as README.rst says, installed beside Debian's Nova,
loaded by its services, and purged.
"""

from __future__ import annotations

import json
import pathlib
import shlex
import shutil
from typing import Iterator

import pytest

from tests import documentation, roots
from tests.packages import node
from tests.packages.scratch import Scratch, scratch

PACKAGE = 'python3-nova-migcheck'
DOOR = '/usr/lib/python3/dist-packages/nova/virt/migcheck/__init__.py'
INSTALLED = (
    DOOR,
    '/usr/bin/nova-migcheck',
    '/usr/lib/python3/dist-packages/nova_migcheck/py.typed',
    '/usr/lib/python3/dist-packages/nova_migcheck/cli/templates/matrix.html',
    '/usr/share/bash-completion/completions/nova-migcheck',
    '/usr/share/man/man1/nova-migcheck.1.gz',
    '/usr/share/nova-migcheck/nova-migcheck.conf.sample',
    '/usr/share/nova-migcheck/migcheck.rules.yml',
    '/usr/share/nova-migcheck/migcheck.json',
)
# What nova-compute says once it has libvirt.
CONNECTED = "Connection event '1'"
# As a builder of another time, place and taste has it.
OTHERWISE = {
    'TZ': 'Pacific/Kiritimati',
    'LC_ALL': 'C',
    'PYTHONHASHSEED': '7',
    'DEB_BUILD_OPTIONS': 'parallel=2',
}
# What Nova and the packages need while they run, and what says that a package was once there.
# stevedore remembers for each user which entry points there were.
STATE = (
    '/proc',
    '/sys',
    '/dev',
    '/run',
    '/tmp',
    '/srv',
    '/var/lib/dpkg',
    '/var/lib/apt',
    '/var/cache',
    '/var/log',
    '/var/lib/nova',
    '/var/lib/rabbitmq',
    '/var/lib/libvirt',
    '/root/.cache',
)


@pytest.fixture(scope='module', params=sorted(roots.CODENAMES))
def release(request: pytest.FixtureRequest) -> str:
    return request.param


def line(text: str) -> str:
    """A line of the documentation, for a shell that cannot be asked."""
    words = documentation.typed(text)
    if words[0] == 'apt-get':
        words[1:1] = ['-y', '-qq']
    return ' '.join(word if '*' in word else shlex.quote(word) for word in words)


def build(there: Scratch, directory: str, **environment: str) -> bytes:
    """The package, built of a copy of the checkout there."""
    there.shell(
        f'mkdir -p {directory}; umask 027; cp -r --no-preserve=all {roots.PLACE} {directory}; '
        f'chmod +x {directory}/nova-migcheck/debian/rules; cd {directory}/nova-migcheck; '
        f'{line("dpkg-buildpackage -b -us -uc")}',
        **environment,
    )
    (built,) = (there.path / directory.lstrip('/')).glob('*.deb')
    return built.read_bytes()


@pytest.fixture(scope='module')
def deb(release: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[pathlib.Path]:
    """Built twice, equal to the bit, on a Debian that has nothing."""
    root = roots.Root(release, 'bare')
    root.make()
    root.take_checkout()
    with scratch(root) as there:
        there.shell('apt-get update -qq')
        there.shell(f'cd {roots.PLACE}; {line("apt-get build-dep ./")}')
        # The second one has no git, as a source package has none, and files of another time.
        built = build(there, '/srv/one')
        there.shell(
            f'rm -rf {roots.PLACE}/.git; find {roots.PLACE} -exec touch -d 2001-01-01 {{}} +'
        )
        assert build(there, '/srv/somewhere/else', **OTHERWISE) == built
    path = tmp_path_factory.mktemp(release) / f'{PACKAGE}_0_all.deb'
    path.write_bytes(built)
    yield path


def files(there: Scratch) -> dict[str, str]:
    """All files that are not the state of a service: name -> size, mode, owner, link, and time of
    the last change of the content.
    """
    pruned = ' -o '.join(f'-path {path}' for path in STATE)
    listed = there.shell(
        f"find / \\( {pruned} \\) -prune -o ! -type d -printf '%p\\t%s %m %u %l %T@\\n' -o -printf '%p\\t%m %u\\n'"
    )
    return dict(one.split('\t', 1) for one in listed.splitlines())


def test_it_comes_to_debian_s_nova_and_goes(release: str, deb: pathlib.Path) -> None:
    with scratch(node.root(release)) as there:
        there.shell('apt-get update -qq; mkdir -p /srv/built/checkout')
        # What it needs comes first, as these stay when it is purged.
        shutil.copy(deb, there.path / 'srv/built')
        needed = there.shell(f'dpkg-deb -f /srv/built/{deb.name} Depends')
        assert {
            'python3-nova',
            'python3-cliff',
            'python3-prometheus-client',
            'python3-pyroute2',
        } <= {word.strip(' ,') for word in needed.split()}
        names = ' '.join(word.split()[0] for word in needed.split(','))
        there.shell(f'apt-get install -y -qq --no-install-recommends {names}')
        with node.up(there) as one:
            before = files(there)
            there.shell(
                f'cd /srv/built/checkout; {line("apt-get install ../python3-nova-migcheck_*_all.deb")}'
            )
            for name in INSTALLED:
                assert (there.path / name.lstrip('/')).is_file(), name
            assert there.shell(f'dpkg -S {DOOR}').startswith(f'{PACKAGE}:')

            one.configure(node.ENABLED)
            for service in ('nova-scheduler', 'nova-compute'):
                one.begin(service)
            one.wait_until_said('nova-scheduler', 'Starting scheduler node')
            said = one.wait_until_said(
                'nova-compute', "Loading compute driver 'migcheck.LibvirtDriver'", CONNECTED
            )
            assert 'nova-migcheck failed' not in said
            report = published(one)
            assert (report['host'], report['report'], report['service']) == ('node1', 'fresh', 'up')
            assert (
                there.run('zcat', '/usr/share/man/man1/nova-migcheck.1.gz')
                == (documentation.ROOT / 'doc/man/nova-migcheck.1').read_text()
            )
            for service in ('nova-scheduler', 'nova-compute'):
                one.end(service)

            there.shell(line('apt-get purge python3-nova-migcheck'))
            after = files(there)
            changed = {
                name: (before.get(name), after.get(name))
                for name in before.keys() | after.keys()
                if before.get(name) != after.get(name) and not name.startswith('/etc/nova/')
            }
            assert changed == {}, changed
            assert there.shell('dpkg --verify python3-nova nova-common') == ''
            # What nova.conf still says now keeps both from starting, as README.rst warns.
            for service, module in (
                ('nova-scheduler', 'nova_migcheck'),
                ('nova-compute', 'nova.virt.migcheck'),
            ):
                one.begin(service)
                one.wait_until_said(service, f"No module named '{module}'")
                one.end(service)
            one.configure(node.PLAIN)
            for service, word in (
                ('nova-scheduler', 'Starting scheduler node'),
                ('nova-compute', CONNECTED),
            ):
                one.begin(service)
                one.wait_until_said(service, word)


def published(one: node.Node) -> dict[str, str]:
    """What the host has published, once it has."""
    for _ in range(60):
        listed = json.loads(one.run('nova-migcheck hosts -f json 2>/dev/null || true') or '[]')
        if listed and listed[0]['report'] == 'fresh':
            return listed[0]
        one.run('sleep 2')
    raise AssertionError(f'{listed}\n{one.said("nova-compute")[-6000:]}')
