# SPDX-License-Identifier: Apache-2.0
"""Another release of Debian in a directory, as far as that needs no mirror: ``./run test --on`` is the rest."""

from __future__ import annotations

import os
import pathlib
import subprocess
import uuid

import pytest

from tests import roots

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason='not root')


@pytest.fixture
def root(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> roots.Root:
    checkout = tmp_path / 'checkout'
    checkout.mkdir()
    monkeypatch.setattr(roots, 'CHECKOUT', checkout)
    made = roots.Root('debian-13')
    made.path.mkdir()
    return made


def git(*words: str) -> str:
    return subprocess.run(['git', '-C', str(roots.CHECKOUT), '-c', 'user.name=test', '-c', 'user.email=test@localhost', *words], check=True,
                          stdout=subprocess.PIPE, text=True).stdout


def test_the_checkout_is_taken_as_it_is(root: roots.Root) -> None:
    git('init', '-q')
    for name, text in {'kept': '1', 'changed': '1', 'gone': '1', '.gitignore': 'ignored/\n', 'deep/er': '1'}.items():
        path = roots.CHECKOUT / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
    git('add', '.')
    git('commit', '-qm', 'first')
    root.take_checkout()
    (roots.CHECKOUT / 'changed').write_text('2')
    (roots.CHECKOUT / 'gone').unlink()
    (roots.CHECKOUT / 'new').write_text('2')
    (roots.CHECKOUT / 'ignored').mkdir()
    (roots.CHECKOUT / 'ignored/file').write_text('2')
    there = root.path / roots.PLACE.lstrip('/')
    (there / 'ignored').mkdir()  # as what an environment is made of
    (there / 'ignored/environment').write_text('1')
    root.take_checkout()
    found = {str(path.relative_to(there)): path.read_text() for path in there.rglob('*') if path.is_file() and '.git/' not in str(path)}
    assert found == {'kept': '1', 'changed': '2', 'new': '2', '.gitignore': 'ignored/\n', 'deep/er': '1', 'ignored/environment': '1'}
    assert subprocess.check_output(['git', '-C', str(there), 'status', '--porcelain'], text=True) == ''


@needs_root
def test_what_is_in_it_cannot_leave_and_ends(root: roots.Root) -> None:
    """As a root, the machine's own, at another place. That it is another one shows in /tmp, which is empty in a root."""
    mark = uuid.uuid4().hex
    command = 'sleep 100 & setsid sh -c "sleep 100; : $0" & nsenter --target $! --mount ls -A /tmp; ls -A /tmp; echo $1; exit 3'
    inside = root.inside('sh', '-c', command, mark, 'said', directory='/tmp')
    ended = subprocess.run(['unshare', '--mount', '--propagation', 'private', 'sh', '-c', f'mount --rbind / {root.path}; "$@"', 'sh', *inside],
                           stdout=subprocess.PIPE, text=True, timeout=60)
    assert (ended.stdout, ended.returncode) == ('said\n', 3)
    assert not [path for path in pathlib.Path('/proc').glob('[0-9]*/cmdline') if mark in _read(path)]


def _read(path: pathlib.Path) -> str:
    try:
        return path.read_text()
    except OSError:
        return ''


def test_what_reaches_an_index_is_passed_on(monkeypatch: pytest.MonkeyPatch, tmp_path: pathlib.Path) -> None:
    index, wheels, bundle = tmp_path / 'index/simple', tmp_path / 'wheels', tmp_path / 'bundle.pem'
    for directory in (index, wheels):
        directory.mkdir(parents=True)
    bundle.write_text('')
    for name in list(os.environ):
        monkeypatch.delenv(name)
    for name, value in {'PIP_EXTRA_INDEX_URL': f'file://{index}/ https://192.0.2.1{tmp_path}', 'PIP_FIND_LINKS': str(wheels), 'PIP_CERT': str(bundle),
                        'https_proxy': 'http://192.0.2.2:3128', 'NO_PROXY': '192.0.2.3', 'HOME': str(tmp_path), 'SECRET': '1'}.items():
        monkeypatch.setenv(name, value)
    assert {'https_proxy', 'NO_PROXY', 'PIP_CERT', 'PATH'} < roots.passed_on().keys()
    assert 'SECRET' not in roots.passed_on()
    # What a URL of another host names is no directory of this one.
    assert set(roots._named(os.path.isdir)) >= {str(index.parent), str(wheels)}
    assert str(tmp_path) not in roots._named(os.path.isdir)
    assert str(bundle) in roots._named(os.path.isfile)
