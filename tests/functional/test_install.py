# SPDX-License-Identifier: Apache-2.0
"""The sdist and the wheel: what is in them, that Nova finds it, and that Nova is whole when it is gone."""
import email
import os
import pathlib
import shutil
import site
import subprocess
import sys
import zipfile

import pytest

from tests import documentation
from tests.functional import nova_release

pytestmark = [pytest.mark.nova, pytest.mark.skipif(
    nova_release.is_the_distribution_s(), reason='Nova has not been installed by pip here')]

ROOT = pathlib.Path(__file__).parents[2]
OUR_DOOR = 'nova/virt/migcheck/__init__.py'
LOAD = 'from nova.virt import driver; import nova.virt.libvirt.driver; from oslo_utils import importutils; '
LOAD_OURS = LOAD + ('c = importutils.import_class("nova.virt.migcheck.LibvirtDriver"); '
                    'assert issubclass(c, nova.virt.libvirt.driver.LibvirtDriver); '
                    'import nova_migcheck.scheduler as s; assert "MigrationTargetFilter" in [f.__name__ for f in s.all_filters()]')
# The distribution's Python, for which it has python3-libvirt.
PYTHON = '/usr/bin/python3'
IMPORTS_LIBVIRT = 'import libvirt; print(libvirt.__file__)'


def run(*words, **how):
    done = subprocess.run([str(word) for word in words], capture_output=True, text=True, timeout=170, check=False, **how)
    assert done.returncode == 0, done.stdout + done.stderr
    return done


@pytest.fixture(scope='module')
def sdist(tmp_path_factory):
    directory = tmp_path_factory.mktemp('sdist')
    # A copy: the build writes into its source.
    source = directory / 'source'
    run('git', '-c', f'safe.directory={ROOT}/.git', 'clone', '-q', '--no-hardlinks', ROOT, source)
    build = 'import sys; from pbr import build; build.build_sdist(sys.argv[1])'
    run(sys.executable, '-W', 'ignore', '-c', build, directory, cwd=source)
    built, = directory.glob('*.tar.gz')
    return built


@pytest.fixture(scope='module')
def wheel(sdist, tmp_path_factory):
    """Built of the sdist, which holds all that is needed for it."""
    directory = tmp_path_factory.mktemp('wheel')
    run(sys.executable, '-m', 'pip', 'wheel', '-q', '--no-deps', '--no-build-isolation', '-w', directory, sdist)
    built, = directory.glob('*.whl')
    return built


@pytest.fixture(scope='module')
def needed(tmp_path_factory):
    """All that Nova needs and the wheel wants, from this environment: neither libvirt nor ourselves nor Nova."""
    ours = next(pathlib.Path(path) for path in site.getsitepackages() if (pathlib.Path(path) / 'nova/version.py').exists())
    directory = tmp_path_factory.mktemp('needed')
    for path in ours.iterdir():
        if not path.name.startswith(('libvirt', 'nova_migcheck')) and path.name != 'nova':
            (directory / path.name).symlink_to(path)
    return directory, ours / 'nova'


def link(source, target):
    try:
        os.link(source, target)
    except OSError:  # on another file system
        shutil.copy2(source, target)


def virtualenv(python, path, needed, *words):
    """A virtual environment with a Nova of its own; the place of its packages."""
    needed, nova = needed
    run(python, '-m', 'venv', '--without-pip', *words, path)
    packages, = path.glob('lib/python*/site-packages')
    # Links, as pip unlinks what it replaces: more than a thousand files need not be copied.
    shutil.copytree(nova, packages / 'nova', ignore=shutil.ignore_patterns('tests', 'migcheck', 'locale'), copy_function=link)
    (packages / 'needed.pth').write_text(f'{needed}\n')
    return packages


@pytest.fixture
def plain(tmp_path, needed):
    return virtualenv(sys.executable, tmp_path / 'venv', needed)


@pytest.fixture
def kolla(tmp_path, needed):
    """As kolla's on Debian: it sees the distribution's packages, from which it has libvirt's bindings."""
    version = run(PYTHON, '-c', 'import sys; print("%d.%d" % sys.version_info[:2])').stdout.strip()
    if version != '{}.{}'.format(*sys.version_info):
        pytest.skip(f"{version}, of {PYTHON}, is not this Python's version")
    found = subprocess.run([PYTHON, '-c', IMPORTS_LIBVIRT], capture_output=True, text=True, check=False).stdout
    if not found:
        pytest.skip('python3-libvirt is missing')
    packages = virtualenv(PYTHON, tmp_path / 'venv', needed, '--system-site-packages')
    assert python(packages, '-c', IMPORTS_LIBVIRT).stdout == found
    return packages


def python(packages, *words):
    return run(packages.parents[2] / 'bin/python', '-W', 'ignore', *words, cwd='/')


def pip(python, line, *more, archive=None, **environment):
    """Run a line of the documentation for that Python, with an archive instead of what it names last.

    :param more: words that a person has no need of: to fetch nothing that is here already, and not to ask
    """
    words = documentation.typed(line)
    if archive is not None:
        words[-1] = str(archive)
    place = next(number for number, word in enumerate(words) if word.rpartition('/')[2] == 'pip')
    assigned = dict(word.split('=', 1) for word in words[:place])
    return run(sys.executable, '-m', 'pip', '--python', python, '-q', *words[place + 1:], *more,
               env={**os.environ, **assigned, **environment})


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


@pytest.mark.parametrize('environment, archive, line', [('plain', 'wheel', '/opt/nova/bin/pip install dist/nova_migcheck-*.whl'),
                                                        ('kolla', 'sdist', '/opt/nova/bin/pip install ./nova-migcheck')])
def test_it_lands_in_nova_and_leaves_it_whole(environment, archive, line, request):
    environment, archive = request.getfixturevalue(environment), request.getfixturevalue(archive)
    interpreter = environment.parents[2] / 'bin/python'
    before = {path.relative_to(environment) for path in (environment / 'nova').rglob('*.py')}
    pip(interpreter, line, '--no-deps', '--no-build-isolation', archive=archive)
    assert (environment / OUR_DOOR).exists()
    python(environment, '-c', LOAD_OURS)
    assert 'check' in run(environment.parents[2] / 'bin/nova-migcheck', '--help', cwd='/').stdout
    pip(interpreter, 'pip uninstall nova-migcheck', '-y')
    assert not (environment / OUR_DOOR).exists()
    assert {path.relative_to(environment) for path in (environment / 'nova').rglob('*.py')} == before
    python(environment, '-c', LOAD)


@pytest.mark.skipif(not os.path.isdir('/usr/lib/python3/dist-packages'), reason='no Python of Debian')
def test_where_debian_s_nova_lies(wheel, tmp_path):
    """``--target`` would leave out the door, as nova/ is there already."""
    packages = tmp_path / 'usr/lib/python3/dist-packages'
    pip(PYTHON, 'DEB_PYTHON_INSTALL_LAYOUT=deb pip install --break-system-packages --no-deps nova-migcheck', '--root', tmp_path,
        archive=wheel)
    assert (packages / OUR_DOOR).exists() and (tmp_path / 'usr/bin/nova-migcheck').exists()
    pip(PYTHON, 'pip uninstall --break-system-packages nova-migcheck', '-y', DEB_PYTHON_INSTALL_LAYOUT='deb', PYTHONPATH=str(packages))
    assert not (packages / OUR_DOOR).exists() and not (packages / 'nova_migcheck').exists()
