# SPDX-License-Identifier: Apache-2.0
"""Check and filter of somebody else's package load as doc/source/writing-a-check.rst says; a broken one keeps nobody from starting."""

import os
import subprocess
import sys

import pytest
from oslo_config import cfg

from nova_migcheck import conf as confs
from nova_migcheck.finding import Finding, Outcome
from nova_migcheck.policies import Policies
from nova_migcheck.rounds import runner
from nova_migcheck.rounds.reader import Reader

EXAMPLE = os.path.join(os.path.dirname(__file__), '..', 'plugins', 'hugepages')


@pytest.fixture
def conf():
    conf = cfg.ConfigOpts()
    conf([], default_config_files=[os.path.join(EXAMPLE, 'nova.conf')], default_config_dirs=[])
    conf.register_opts([cfg.StrOpt('host', default='here')])
    confs.register(conf)
    return conf


def test_the_check_of_the_documentation_runs_and_its_policy_holds(conf):
    loaded = runner.load(conf.migcheck.checks)['hugepages']
    found = runner.Runner({'hugepages': loaded}).run({'hugepages': Reader(conf).read(loaded.check)}, 30)
    with open('/proc/sys/vm/nr_hugepages') as pages:
        count = int(pages.read())
    origin = '/proc/sys/vm/nr_hugepages'
    failure = Finding('hugepages', Outcome.FAILURE, 'huge pages', 'none are reserved', origin, 'sysctl vm.nr_hugepages=1024',
                      code='hugepages-none')
    assert found.findings == [Finding('hugepages', Outcome.OK, 'huge pages', f'{count} are reserved', origin) if count else failure]
    assert Policies.from_conf(conf.migcheck).of(failure) == 'warn'


def test_a_broken_check_is_a_finding_and_the_others_run(conf):
    checks = runner.load(['hugepages', 'broken', 'no_check', 'nosuch'])
    reader = Reader(conf)
    found = runner.Runner(checks).run(
        {name: reader.read(one.check) if one.check else reader.nothing() for name, one in checks.items()}, 30)
    said = {finding.check: finding for finding in found.findings}
    assert sorted(said) == ['broken', 'hugepages', 'no_check', 'nosuch']
    assert all(said[name].outcome is Outcome.UNKNOWN for name in ('broken', 'no_check', 'nosuch'))
    assert 'libmissing.so.1' in said['broken'].detail and 'no package installed here declares it' in said['nosuch'].detail
    assert 'is not a nova_migcheck.checks.base.Check' in said['no_check'].detail


def test_a_filter_beside_a_broken_one(tmp_path):
    """In a process of its own: what is on the path when a process starts is what it finds."""
    declared = tmp_path / 'broken_filter-1.0.dist-info'
    declared.mkdir()
    (declared / 'METADATA').write_text('Metadata-Version: 2.1\nName: broken-filter\nVersion: 1.0\n')
    (declared / 'entry_points.txt').write_text('[nova_migcheck.scheduler_filters]\nBrokenFilter = no_such_module:BrokenFilter\n')
    script = ('import logging; logging.basicConfig(level=logging.ERROR)\n'
              'from nova_migcheck import scheduler\n'
              'print(sorted(found.__name__ for found in scheduler.all_filters()))')
    path = os.pathsep.join(filter(None, [str(tmp_path), os.environ.get('PYTHONPATH')]))
    ran = subprocess.run([sys.executable, '-W', 'ignore', '-c', script], env={**os.environ, 'PYTHONPATH': path}, cwd='/',
                         capture_output=True, text=True, timeout=100)
    assert ran.stdout.strip() == "['MigrationTargetFilter', 'NotOnSundaysFilter']", ran.stderr
    assert 'The filter BrokenFilter of nova_migcheck.scheduler_filters cannot be loaded' in ran.stderr
