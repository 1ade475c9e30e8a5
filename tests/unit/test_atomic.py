# SPDX-License-Identifier: Apache-2.0
import os

import pytest

from nova_migcheck import atomic


def test_a_new_file_has_the_permissions_that_are_asked_for(tmp_path):
    atomic.write(str(tmp_path / 'a'), 'one')
    atomic.write(str(tmp_path / 'b'), 'two', durable=True, mode=0o600)
    assert [((tmp_path / name).read_text(), (tmp_path / name).stat().st_mode & 0o777) for name in 'ab'] == [('one', 0o644), ('two', 0o600)]


def test_one_that_is_replaced_keeps_its_own(tmp_path):
    path = tmp_path / 'a'
    path.write_text('old')
    path.chmod(0o640)
    if os.geteuid() == 0:
        os.chown(path, 1, 65534)
    before = path.stat()
    atomic.write(str(path), 'new')
    after = path.stat()
    assert path.read_text() == 'new' and after.st_ino != before.st_ino
    assert (after.st_mode, after.st_uid, after.st_gid) == (before.st_mode, before.st_uid, before.st_gid)


@pytest.mark.parametrize('name, error', [('no/such', FileNotFoundError), ('directory', IsADirectoryError), ('', FileNotFoundError)])
def test_an_error_names_the_file_and_leaves_nothing(tmp_path, monkeypatch, name, error):
    monkeypatch.chdir(tmp_path)
    (tmp_path / 'directory').mkdir()
    with pytest.raises(error) as raised:
        atomic.write(name, 'x')
    assert raised.value.filename == name and [path.name for path in tmp_path.iterdir()] == ['directory']
