# SPDX-License-Identifier: Apache-2.0
"""The storage check on real mounts, a hung one among them; FUSE stands for a network file system."""
import dataclasses
import json

import pytest

from nova_migcheck.finding import Finding
from nova_migcheck.judging.verdict import Guest, judge
from nova_migcheck.policies import Policies
from nova_migcheck.report.report import Report
from nova_migcheck.storage import comparison as storages
from tests.facts import facts
from tests.lab import SLACK, mount_namespace

pytestmark = [pytest.mark.root, pytest.mark.skipif(bool(mount_namespace.missing()), reason=mount_namespace.missing() or 'all there')]

RUN = '''
import json, subprocess, time
from nova_migcheck.checks.base import Fact, Keep, Settings
from nova_migcheck.checks.storage import StorageCheck

memory = None
for options in {rounds!r}:
    told = {{'DEFAULT': {{'instances_path': {path!r}}}, 'libvirt': {{'images_type': 'default'}},
            'migcheck': {{'instances_shared': 'auto'}}}}
    if 'first' in options:
        subprocess.run(options.pop('first'), shell=True, check=True)
    for group, values in options.items():
        told[group].update(values)
    begun = time.monotonic()
    said = {{'findings': [], 'fact': None, 'kept': None}}
    for result in StorageCheck().run(Settings(options=told, files={{'DEFAULT.instances_path': '/etc/nova/nova.conf'}}, timeout=1.0,
                                              memory=memory)):
        if isinstance(result, Fact):
            said['fact'] = result.value
        elif isinstance(result, Keep):
            memory = said['kept'] = result.value
        else:
            said['findings'].append(result.to_dict())
    said['seconds'] = time.monotonic() - begun
    print(json.dumps(said))
'''


@dataclasses.dataclass
class Said:
    findings: list
    fact: dict
    kept: dict
    seconds: float

    def __post_init__(self):
        self.findings = [Finding.from_dict(f) for f in self.findings]

    @property
    def outcomes(self):
        return [str(f.outcome) for f in self.findings]


@pytest.fixture(scope='module')
def work(tmp_path_factory):
    work = tmp_path_factory.mktemp('storage')
    for name in ('instances', 'other', '10.0.0.5:/export', '10.0.0.5:/export/nova'):
        (work / name).mkdir(exist_ok=True, parents=True)
    (work / 'link').symlink_to(work / 'instances')
    (work / 'file').write_text('')
    return work


@pytest.fixture(scope='module')
def look(work):
    """look(mounts, options of a round...) -> what the check said, once or in each round. What was seen once is not mounted again."""
    seen = {}

    def look(shell, *rounds, path='instances'):
        key = json.dumps([shell, rounds, path])
        if key not in seen:
            code = RUN.format(rounds=list(rounds) or [{}], path=str(work / path))
            seen[key] = [Said(**json.loads(line)) for line in mount_namespace.run(work, shell, code).splitlines()]
        return seen[key] if len(rounds) > 1 else seen[key][0]
    return look


SHARE = 'share 10.0.0.5:/export instances'


def verdict(source, target, needs=('local-disk',)):
    now = 1_764_000_000
    reports = [Report(now, tuple(said.findings), **facts(storage=said.fact or {})) for said in (source, target)]
    return judge(Guest(None, frozenset(needs)), *reports, now, Policies(('storage',)))


def test_s1_a_share_that_is_not_mounted_names_the_path_what_is_there_and_what_should_be(look, work):
    source, target = look(SHARE), look('mount -t tmpfs none instances')
    assert source.outcomes == target.outcomes == ['ok']
    refused = verdict(source, target)
    text = str(refused.rejections[0])
    for word in (f'{work}/instances is on tmpfs', 'a local file system', f'the source has it on fuse.glusterfs {work}/10.0.0.5:/export',
                 'mount it on the target'):
        assert word in text
    # Its healthy twin; and a server that has no disk there.
    assert verdict(source, source) == verdict(source, target, ()) == verdict(target, source)
    assert verdict(source, source).accepted and not verdict(source, source).warnings


def test_s1_nothing_mounted_at_all(look):
    refused = verdict(look(SHARE), look(''))
    assert 'a local file system' in refused.rejections[0].detail


def test_k10_local_disks_on_both_sides(look):
    accepted = verdict(look('mount -t tmpfs none instances'), look('mount --bind other instances'))
    assert accepted.accepted and not accepted.warnings


def test_where_sharing_is_expected_a_local_directory_is_no_target_for_anybody(look):
    wanted = {'migcheck': {'instances_shared': 'yes'}}
    local, shared = look('', wanted), look(SHARE, wanted)
    assert local.outcomes == ['failure'] and local.findings[0].scope == 'local-disk'
    assert '[migcheck] instances_shared' in str(local.findings[0])
    assert shared.outcomes == ['ok']


def test_a_host_whose_directory_is_local_on_purpose_is_not_compared(look):
    assert verdict(look(SHARE), look('', {'migcheck': {'instances_shared': 'no'}})).accepted


def test_s2_a_hung_mount_costs_one_deadline_and_names_the_path(look, work):
    hung, again = look(f'{SHARE}\nkill -STOP $server', {}, {})
    for said in (hung, again):
        assert said.outcomes == ['failure'] and said.fact is None
        assert said.seconds < 0.8 + SLACK
        assert f'{work}/instances (fuse.glusterfs {work}/10.0.0.5:/export, mounted at {work}/instances) did not answer within 0.8 s' in (
            said.findings[0].detail)
        assert said.findings[0].origin == '/etc/nova/nova.conf [DEFAULT] instances_path' and not said.findings[0].scope
    assert not verdict(look(SHARE), hung, ()).accepted


def test_s2_a_mount_that_answers_again_is_well_again(look):
    hung, well = look(f'{SHARE}\nkill -STOP $server', {}, {'first': 'kill -CONT $server'})
    assert (hung.outcomes, well.outcomes) == (['failure'], ['ok'])


def test_s2_a_mount_whose_server_died(look):
    dead = look(f'{SHARE}\nkill -KILL $server; wait $server || true')
    assert dead.outcomes == ['failure'] and 'not connected' in dead.findings[0].detail


@pytest.mark.parametrize('shell', [
    'mount -t tmpfs none instances; mount -o remount,ro instances',
    'mount -t tmpfs -o ro none instances',
    'mount --bind other instances; mount -o remount,bind,ro instances',
    'share 10.0.0.5:/export instances ro',
])
def test_s3_read_only(look, work, shell):
    said = look(shell)
    assert said.outcomes == ['failure'] and 'is mounted read-only' in said.findings[0].detail
    assert said.findings[0].subject == f'{work}/instances'
    assert not verdict(said, said, ()).accepted


def test_s3_a_share_below_a_read_only_mount_is_writable(look):
    said = look('mount --bind . .; mount -o remount,bind,ro .; cd .; mount -t tmpfs none instances')
    assert said.outcomes == ['ok']


def test_s4_another_export_names_both(look):
    source, target = look(SHARE), look('share 10.0.0.6:/scratch instances')
    refused = verdict(source, target)
    text = str(refused.rejections[0])
    assert '10.0.0.6:/scratch' in text and '10.0.0.5:/export' in text and 'another directory' in text


def test_s4_the_same_export_below_two_mount_points_is_the_same(look, work):
    here = look(SHARE, path='instances/nova')
    there = look('share 10.0.0.5:/export/nova instances')
    assert here.fact['export'] == there.fact['export'] == '/export/nova'
    assert verdict(here, there).accepted and not verdict(here, there).warnings


def test_s4_the_same_name_of_another_server_is_another_directory(look):
    refused = verdict(look(SHARE), look('mount --bind other 10.0.0.5:/export; ' + SHARE))
    assert 'inode' in refused.rejections[0].detail


def test_a_bind_mount_of_a_share_is_that_share(look):
    twice = look('mkdir -p mnt; share 10.0.0.5:/export mnt; mount --bind mnt instances')
    assert twice.fact['shared'] and verdict(look(SHARE), twice).accepted


def test_a_symbolic_link_is_followed(look, work):
    assert look(SHARE, path='link').fact['shared'] is True


def test_what_is_no_directory(look, work):
    assert 'No such file' in look('', path='nowhere').findings[0].detail
    assert 'not a directory' in look('', path='file').findings[0].detail


def test_full_is_a_warning(look):
    full = look('mount -t tmpfs -o size=64k none instances; head -c 65536 /dev/zero > instances/full')
    assert full.outcomes == ['warning'] and 'is full' in full.findings[0].detail
    assert verdict(full, full).accepted


def test_rbd_needs_no_shared_directory(look):
    rbd = {'libvirt': {'images_type': 'rbd', 'images_rbd_pool': 'vms'}}
    here, there = look(SHARE, rbd), look('', rbd)
    assert here.fact['pool'] == 'vms' and storages.compare(here.fact, there.fact) == []
    assert 'Ceph' in str(verdict(here, look('')).rejections[0])


@pytest.mark.parametrize('images', ['default', 'raw', 'flat', 'qcow2'])
def test_disks_in_files_are_looked_for_in_the_instances_directory(look, images):
    kind = {'libvirt': {'images_type': images}}
    source, local = look(SHARE, kind), look('', kind)
    assert source.fact['images'] == 'path' and source.outcomes == ['ok']
    assert not verdict(source, local).accepted and verdict(source, source).accepted


def test_lvm_needs_no_shared_directory(look):
    lvm = {'libvirt': {'images_type': 'lvm'}}
    here, there = look(SHARE, lvm), look('', lvm)
    assert verdict(here, there) == verdict(there, here) and verdict(here, there).accepted and not verdict(here, there).warnings
    # Nova copies the disks, block by block or file by file: worth a word, no reason to refuse.
    mixed = verdict(here, look(''))
    assert mixed.accepted and 'images_type' in str(mixed.warnings[0]) and 'LVM' in str(mixed.warnings[0])


def test_a_directory_that_is_dead_is_a_failure_where_the_disks_are_elsewhere_too(look):
    """Consoles, config drives and the guests' own files are there with every images_type."""
    for images in ('rbd', 'lvm'):
        kind = {'libvirt': {'images_type': images}}
        assert look(f'{SHARE}\nkill -KILL $server; wait $server || true', kind).outcomes == ['failure']
        assert look(SHARE, kind).outcomes == ['ok']


def test_free_space(look):
    said = look('mount -t tmpfs -o size=64m none instances; head -c 16777216 /dev/zero > instances/disk')
    assert (said.fact['total_bytes'], said.fact['free_bytes']) == (64 << 20, 48 << 20)


def test_s4_one_directory_under_two_names_is_not_refused_and_another_one_is(look):
    """What two names of a share do not tell, the numbers that its server gave to the directory and to Nova's own file in it do."""
    source = look(f'touch 10.0.0.5:/export/compute_nodes; {SHARE}')
    alias = look('touch 10.0.0.5:/export/compute_nodes; mkdir -p 10.0.0.6:/alias; mount --bind 10.0.0.5:/export 10.0.0.6:/alias\n'
                 'share 10.0.0.6:/alias instances')
    other = look('mkdir -p 10.0.0.6:/alias; touch 10.0.0.6:/alias/compute_nodes; share 10.0.0.6:/alias instances')
    assert source.fact['marker'] == alias.fact['marker'] != other.fact['marker']
    unsure = verdict(source, alias)
    assert unsure.accepted and 'cannot determine' in str(unsure.warnings[0])
    assert 'another directory' in str(verdict(source, other).rejections[0])
