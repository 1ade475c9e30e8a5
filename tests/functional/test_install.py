# SPDX-License-Identifier: Apache-2.0
"""The wheel: what is in it, that Nova finds it, and that Nova is whole when it is gone."""
import email
import pathlib
import shutil
import site
import subprocess
import sys
import zipfile

import pytest

pytestmark = pytest.mark.nova

ROOT = pathlib.Path(__file__).parents[2]
OUR_DOOR = 'nova/virt/migcheck/__init__.py'
LOAD = 'from nova.virt import driver; import nova.virt.libvirt.driver; from oslo_utils import importutils; '
LOAD_OURS = LOAD + ('c = importutils.import_class("nova.virt.migcheck.LibvirtDriver"); '
                    'assert issubclass(c, nova.virt.libvirt.driver.LibvirtDriver)')


def run(*words, **how):
    done = subprocess.run([str(word) for word in words], capture_output=True, text=True, timeout=170, check=False, **how)
    assert done.returncode == 0, done.stdout + done.stderr
    return done


@pytest.fixture(scope='module')
def wheel(tmp_path_factory):
    directory = tmp_path_factory.mktemp('wheel')
    # A copy: the build writes into its source.
    source = directory / 'source'
    run('git', '-c', f'safe.directory={ROOT}/.git', 'clone', '-q', '--no-hardlinks', ROOT, source)
    run(sys.executable, '-m', 'pip', 'wheel', '-q', '--no-deps', '--no-build-isolation', '-w', directory, source)
    built, = directory.glob('*.whl')
    return built


@pytest.fixture
def environment(tmp_path):
    """A virtual environment with a Nova of its own; all that Nova needs comes from this one."""
    run(sys.executable, '-m', 'venv', '--without-pip', tmp_path / 'venv')
    packages, = (tmp_path / 'venv').glob('lib/python*/site-packages')
    ours = next(pathlib.Path(path) for path in site.getsitepackages() if (pathlib.Path(path) / 'nova/version.py').exists())
    shutil.copytree(ours / 'nova', packages / 'nova', ignore=shutil.ignore_patterns('tests', 'migcheck', 'locale', '__pycache__'))
    (packages / 'others.pth').write_text(f'{ours}\n')
    return packages


def python(packages, *words):
    return run(packages.parents[2] / 'bin/python', '-W', 'ignore', *words, cwd='/')


def pip(packages, *words):
    return run(sys.executable, '-m', 'pip', '--python', packages.parents[2] / 'bin/python', '-q', *words)


def test_the_wheel_ships_the_door_and_no_other_file_of_nova(wheel):
    with zipfile.ZipFile(wheel) as content:
        names = content.namelist()
        metadata = email.message_from_bytes(content.read(next(name for name in names if name.endswith('METADATA'))))
    assert [name for name in names if name.startswith('nova/')] == [OUR_DOOR]
    assert 'nova_migcheck/py.typed' in names
    assert any(name.startswith('nova_migcheck/cli/') and name.endswith('.html') for name in names) or any(
        name.endswith(('.j2', '.css', '.js')) for name in names)
    needed = [line for line in metadata.get_all('Requires-Dist') if 'extra ==' not in line]
    assert not [line for line in needed if line.lower().startswith(('nova', 'libvirt'))]
    assert {'nova', 'libvirt'} <= set(metadata.get_all('Provides-Extra'))


def test_it_lands_in_nova_and_leaves_it_whole(wheel, environment):
    before = {path.relative_to(environment) for path in (environment / 'nova').rglob('*.py')}
    python(environment, '-c', LOAD)
    # The outer environment, which is on the path too, has one already: it must neither count nor be touched.
    pip(environment, 'install', '--ignore-installed', '--no-deps', wheel)
    assert (environment / OUR_DOOR).exists()
    python(environment, '-c', LOAD_OURS)
    pip(environment, 'uninstall', '-y', 'nova-migcheck')
    assert not (environment / OUR_DOOR).exists()
    assert {path.relative_to(environment) for path in (environment / 'nova').rglob('*.py')} == before
    python(environment, '-c', LOAD)
