# SPDX-License-Identifier: Apache-2.0

import pytest

from tests.cli import fleet_files
from tests.cli.commands import in_nova

MODELS = '''<cpus><arch name='x86'><vendor name='Intel' string='GenuineIntel'/>%s
<model name='Small'><feature name='sse'/><feature name='sse2'/></model>
<model name='Large'><model name='Small'/><feature name='avx'/></model></arch></cpus>'''


def _fleet(tmp_path_factory, count):
    directory = tmp_path_factory.mktemp(f'fleet{count}')
    in_nova(fleet_files.main, str(directory), count)
    directory.chmod(0o755)
    directory.parent.chmod(0o755)
    return directory


@pytest.fixture(scope='session')
def three(tmp_path_factory):
    return _fleet(tmp_path_factory, 3)


@pytest.fixture(scope='session')
def thousand(tmp_path_factory):
    return _fleet(tmp_path_factory, 1000)


@pytest.fixture(scope='module')
def driver():
    """A browser."""
    from tests.cli.browser import chromium
    with chromium() as driver:
        yield driver


@pytest.fixture
def nova_conf(tmp_path):
    """A compute host's, whose checks say what ``compute1.json`` says, and ``compute1.path.json`` of the way to a target."""
    path = tmp_path / 'nova.conf'
    path.write_text(f'[DEFAULT]\nhost = compute1\nmy_ip = 127.0.0.1\nstate_path = {tmp_path}\n'
                    '[migcheck]\nchecks = scripted, scripted_path\nround_deadline = 20\n')
    return f'--config-file={path}'


@pytest.fixture
def cpu_map(tmp_path):
    """The option for libvirt's CPU models, of which there are two here."""
    (tmp_path / 'map').mkdir()
    names = {name for host in (fleet_files.SKYLAKE, fleet_files.HASWELL) for name in host.features}
    (tmp_path / 'map/index.xml').write_text(MODELS % ''.join(f"<feature name='{name}'/>" for name in sorted(names)))
    return f'--cpu-map={tmp_path / "map"}'
