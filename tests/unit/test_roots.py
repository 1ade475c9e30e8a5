# SPDX-License-Identifier: Apache-2.0
"""Another release of Debian in a directory, as far as that needs no mirror; the rest is
``./run test --on`` itself."""

from __future__ import annotations

import os
import pathlib
import subprocess
import uuid

import pytest

from tests import roots

# The machine itself stands for the other release. That it is another root shows in /tmp, which is
# empty there.
STAND_IN = 'mount --rbind / {root}; "$@"'
INSIDE = '''
sleep 100 &
setsid sh -c "sleep 100; : $0" &
nsenter --target $! --mount ls -A /tmp
ls -A /tmp
exit 3
'''


@pytest.fixture
def root(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> roots.Root:
    checkout = tmp_path / 'checkout'
    checkout.mkdir()
    monkeypatch.setattr(roots, 'CHECKOUT', checkout)
    made = roots.Root('debian-13')
    made.path.mkdir()
    return made


def git(directory: pathlib.Path, *words: str) -> str:
    command = ['git', '-C', str(directory), '-c', 'user.name=a', '-c', 'user.email=a@localhost']
    return subprocess.check_output([*command, *words], text=True)


def test_the_checkout_is_taken_as_it_is(root: roots.Root) -> None:
    checkout, taken = roots.CHECKOUT, root.path / roots.PLACE.lstrip('/')
    git(checkout, 'init', '-q')
    (checkout / 'deep').mkdir()
    for name in ('kept', 'changed', 'gone', 'deep/er'):
        (checkout / name).write_text('old')
    (checkout / '.gitignore').write_text('.venv/\n')
    git(checkout, 'add', '.')
    git(checkout, 'commit', '-qm', 'first')
    root.take_checkout()

    for name in ('changed', 'new'):
        (checkout / name).write_text('new')
    (checkout / 'gone').unlink()
    for where in (checkout, taken):
        (where / '.venv').mkdir()
        (where / '.venv/of').write_text(str(where))
    root.take_checkout()
    found = {str(path.relative_to(taken)): path.read_text() for path in taken.rglob('*')
             if path.is_file() and '.git' not in path.parts}
    assert found == {'kept': 'old', 'changed': 'new', 'new': 'new', 'deep/er': 'old',
                     '.gitignore': '.venv/\n', '.venv/of': str(taken)}
    assert git(taken, 'status', '--porcelain') == ''


@pytest.mark.root
@pytest.mark.skipif(os.geteuid() != 0, reason='not root')
def test_nothing_leaves_a_root_and_nothing_stays(root: roots.Root) -> None:
    mark = uuid.uuid4().hex
    (root.path.parent / mark).write_text('')  # in the machine's /tmp
    ran = subprocess.run(['unshare', '--mount', '--propagation', 'private', 'sh', '-c',
                          STAND_IN.format(root=root.path), 'sh',
                          *root.inside('sh', '-c', INSIDE, mark, directory='/tmp')],
                         stdout=subprocess.PIPE, text=True, timeout=60)
    assert (ran.stdout, ran.returncode) == ('', 3)
    assert not [path for path in pathlib.Path('/proc').glob('[0-9]*/cmdline') if mark in read(path)]


def read(path: pathlib.Path) -> str:
    try:
        return path.read_text()
    except OSError:  # it has ended meanwhile
        return ''


def test_what_leads_to_an_index_is_passed_on(monkeypatch: pytest.MonkeyPatch,
                                             tmp_path: pathlib.Path) -> None:
    index, wheels, bundle = tmp_path / 'index/simple', tmp_path / 'wheels', tmp_path / 'bundle.pem'
    index.mkdir(parents=True)
    wheels.mkdir()
    bundle.write_text('')
    for name in list(os.environ):
        monkeypatch.delenv(name)
    for name, value in {'PIP_EXTRA_INDEX_URL': f'file://{index}/ https://192.0.2.1{tmp_path}',
                        'PIP_FIND_LINKS': str(wheels), 'PIP_CERT': str(bundle), 'A_SECRET': '1',
                        'https_proxy': 'http://192.0.2.2:3128', 'HOME': str(tmp_path)}.items():
        monkeypatch.setenv(name, value)
    assert {'https_proxy', 'PIP_CERT', 'PATH'} < roots.passed_on().keys()
    assert 'A_SECRET' not in roots.passed_on()
    # The last part of another host's URL is no directory of this one.
    directories = roots._named(os.path.isdir)
    assert {str(index.parent), str(wheels)} <= set(directories)
    assert str(tmp_path) not in directories
    assert str(bundle) in roots._named(os.path.isfile)
