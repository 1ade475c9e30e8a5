# SPDX-License-Identifier: Apache-2.0
"""The target's own libvirt is asked: what it refuses, a real migration fails at; rows L1, L2, M1,
M3, M4, V1, V4 and their healthy twins.
"""

from __future__ import annotations

import re
from typing import Any, Iterator, Optional

import pytest

from nova_migcheck.finding import Outcome
from nova_migcheck.libvirtd import dryrun
from tests.lab import libvirtd
from tests.lab.asked_pair import GUEST, NOBODY, SASL, Cloud, Sshd, assert_refused, password_of
from tests.lab.libvirt_host import LibvirtHost
from tests.lab.namespaces import Namespace
from tests.lab.two_hosts import TwoHosts

pytestmark = [
    pytest.mark.root,
    pytest.mark.libvirt,
    pytest.mark.skipif(bool(libvirtd.missing()), reason=libvirtd.missing() or '-'),
]

def test_a_pair_that_fits(cloud: Cloud) -> None:
    cloud.listen()
    cloud.start()
    (fine,) = cloud.ask()
    assert fine.outcome is Outcome.OK and fine.detail.endswith(
        'lets this host in, and accepts the guest'
    )
    assert not cloud.migrate()


def test_never(cloud: Cloud) -> None:
    cloud.listen(_without_type)
    cloud.start()
    assert not cloud.hosts.transport(
        '10.66.0.12', server=cloud.guest, connection_uri=cloud.source.uri
    ).text


def test_without_a_guest(cloud: Cloud) -> None:
    """``nova-migcheck check --target``."""
    cloud.listen(_without_type)
    (fine,) = cloud.ask()
    assert fine.outcome is Outcome.OK and fine.detail.endswith('lets this host in')


# M1, M3, M4: the guest.


def _without_type(text: str) -> str:
    """QEMU has neither the newest type of i440fx nor the alias that led to it."""
    name = re.search(r"name='(pc-i440fx-[\d.]+)'[^>]*alias='pc'", text)
    assert name, text[:2000]
    return re.sub(rf"\s*<machine [^>]*name='{re.escape(name[1])}'[^>]*/>", '', text)


def test_machine_type(cloud: Cloud) -> None:
    cloud.listen(_without_type)
    cloud.start()
    assert_refused(
        cloud.ask(),
        'transport-guest-refused',
        cloud.migrate(),
        'does not support machine type',
        'pc-i440fx-',
    )


def test_video(cloud: Cloud) -> None:
    cloud.listen(lambda text: re.sub(r"\s*<flag name='cirrus-vga'/>", '', text))
    cloud.start('cirrus')
    assert_refused(cloud.ask(), 'transport-guest-refused', cloud.migrate(), 'cirrus')


def test_a_device_is_missing_that_the_guest_has_not(cloud: Cloud) -> None:
    cloud.listen(lambda text: re.sub(r"\s*<flag name='cirrus-vga'/>", '', text))
    cloud.start()
    (fine,) = cloud.ask()
    assert fine.outcome is Outcome.OK and not cloud.migrate()


def test_host_uuid(cloud: Cloud) -> None:
    conf = (cloud.source.root / 'etc/libvirtd.conf').read_text()
    uuid = re.search(r'host_uuid = "([^"]+)"', conf)
    assert uuid
    cloud.listen(conf=f'host_uuid = "{uuid[1]}"\n')
    cloud.start()
    assert_refused(cloud.ask(), 'transport-same-uuid', cloud.migrate(), 'the same host', uuid[1])


# M4 again: the TPM. swtpm is no part of the lab, so a guest with one cannot run here; what libvirt
# asks a swtpm at its start is two lists of words.

WITH_TPM = GUEST.replace(
    '<memballoon', "<tpm model='tpm-crb'><backend type='emulator' version='2.0'/></tpm><memballoon"
).format(video='vga')
_SWTPM = """#!/bin/sh
echo '{ "type": "swtpm", "features": [ "tpm-1.2", "tpm-2.0", "cmdarg-pwd-fd" ], "version": "0.7.1" }'
"""


def _with_swtpm(host: Namespace) -> None:
    host.run('mount', '-t', 'tmpfs', 'none', '/usr/local/bin')
    for name in ('swtpm', 'swtpm_setup', 'swtpm_ioctl'):
        host.write(f'/usr/local/bin/{name}', _SWTPM, '755')


@pytest.mark.parametrize('there', [True, False])
def test_tpm(hosts: TwoHosts, there: bool) -> None:
    _with_swtpm(hosts.source)
    if there:
        _with_swtpm(hosts.target)
    with (
        LibvirtHost(hosts.source) as source,
        LibvirtHost(hosts.target, cache=source.root / 'cache') as target,
    ):
        xml = dryrun.portable(WITH_TPM)
        said = dryrun.refusal(target.connect(), source.connect(), xml)
    assert said == '' if there else "TPM version '2.0' is not supported" in said


# V4: a domain of the same name or UUID.

OTHER_UUID = '6d5c4b3a-0000-4000-8000-00000000000a'


@pytest.mark.parametrize(
    'name, same_uuid, active, said',
    [
        ('guest', True, False, ''),
        ('other', False, True, ''),
        ('guest', True, True, 'is already active'),
        ('other', True, False, 'is already defined with uuid'),
        ('other', True, True, 'is already defined with uuid'),
        ('guest', False, False, 'already exists with uuid'),
        ('guest', False, True, 'already exists with uuid'),
    ],
)
def test_a_domain_is_there_already(
    cloud: Cloud, name: str, same_uuid: bool, active: bool, said: str
) -> None:
    """What libvirt lets in is no fault: a definition of the same server that does not run."""
    target = cloud.listen()
    cloud.start()
    uuid = cloud.guest if same_uuid else OTHER_UUID
    there = target.connect().defineXML(
        GUEST.format(video='vga').replace(
            '<name>guest</name>', f'<name>{name}</name><uuid>{uuid}</uuid>'
        )
    )
    if active:
        there.create()
    (finding,) = cloud.ask()
    really = cloud.migrate()
    if not said:
        assert finding.outcome is Outcome.OK and not really
    else:
        assert (finding.outcome, finding.code) == (Outcome.FAILURE, 'transport-guest-exists')
        assert said in really and uuid in finding.detail and 'virsh' in finding.remedy


# V1: the secret of a root disk in rbd, which Nova does not write anew. A volume's comes with its
# own connection.

SECRET = 'b5b8c5f5-7a0a-4c0e-9b0a-5d5f0c0b0a09'
ON_RBD = GUEST.replace(
    '<memballoon',
    f"""<disk type='network' device='disk'><driver name='qemu' type='raw'/>
<auth username='nova'><secret type='ceph' uuid='{SECRET}'/></auth>
<source protocol='rbd' name='vms/disk'><host name='192.0.2.9' port='6789'/></source><target dev='vda' bus='virtio'/>{{serial}}</disk>
<memballoon""",
)


def _secret(node: LibvirtHost, value: bool = True) -> None:
    made = node.connect().secretDefineXML(
        f"<secret ephemeral='no' private='yes'><uuid>{SECRET}</uuid><usage type='ceph'><name>client.nova</name></usage></secret>"
    )
    if value:
        made.setValue(b'a marked value')


@pytest.mark.parametrize(
    'there, words',
    [(None, 'no secret with matching uuid'), (False, 'does not have a value'), (True, '')],
)
def test_secret_of_the_root_disk(cloud: Cloud, there: Optional[bool], words: str) -> None:
    target = cloud.listen()
    _secret(cloud.source)
    if there is not None:
        _secret(target, there)
    xml = ON_RBD.format(video='vga', serial='')
    said = dryrun.refusal(target.connect(), cloud.source.connect(), dryrun.portable(xml))
    assert (words in said) if words else said == ''
    assert 'marked' not in said


def test_secret_of_a_volume(cloud: Cloud) -> None:
    """Nova writes it as the target's own connection to the volume says."""
    target = cloud.listen()
    _secret(cloud.source)
    xml = ON_RBD.format(video='vga', serial='<serial>6d5c4b3a-0000-4000-8000-000000000001</serial>')
    assert dryrun.refusal(target.connect(), cloud.source.connect(), dryrun.portable(xml)) == ''


# What Nova writes anew for the target, which has none of it: no such processors, nodes, devices,
# bridges, files.

REWRITTEN = """<domain type='qemu'><name>instance-00000007</name><uuid>6d5c4b3a-0000-4000-8000-000000000007</uuid>
<metadata><nova:instance xmlns:nova='http://openstack.org/xmlns/libvirt/nova/1.1'><nova:name>web</nova:name></nova:instance></metadata>
<memory unit='MiB'>64</memory><vcpu placement='static' cpuset='900-901'>2</vcpu>
<cputune><shares>2048</shares><vcpupin vcpu='0' cpuset='900'/><vcpupin vcpu='1' cpuset='901'/><emulatorpin cpuset='900-901'/></cputune>
<numatune><memory mode='strict' nodeset='7'/><memnode cellid='0' mode='strict' nodeset='7'/></numatune>
<os><type arch='x86_64' machine='pc'>hvm</type></os>
<cpu mode='host-passthrough'><topology sockets='2' cores='1' threads='1'/><feature policy='require' name='amx-tile'/>
<numa><cell id='0' cpus='0-1' memory='65536' unit='KiB'/></numa></cpu>
<perf><event name='cmt' enabled='no'/></perf>
<devices><emulator>/usr/bin/qemu-system-x86_64</emulator>
<disk type='file' device='disk'><driver name='qemu' type='qcow2'/><source file='/nowhere/disk'/><target dev='vda' bus='virtio'/></disk>
<disk type='block' device='disk'><driver name='qemu' type='raw'/><source dev='/dev/nowhere'/><target dev='vdb' bus='virtio'/>
<serial>6d5c4b3a-0000-4000-8000-000000000008</serial>
<encryption format='luks'><secret type='passphrase' uuid='6d5c4b3a-0000-4000-8000-000000000009'/></encryption></disk>
<interface type='bridge'><mac address='fa:16:3e:00:00:01'/><source bridge='nowhere'/><model type='virtio'/></interface>
<interface type='hostdev' managed='yes'><mac address='fa:16:3e:00:00:02'/>
<source><address type='pci' domain='0x0000' bus='0x81' slot='0x10' function='0x1'/></source></interface>
<hostdev mode='subsystem' type='pci' managed='yes'>
<source><address domain='0x0000' bus='0x82' slot='0x00' function='0x0'/></source></hostdev>
<serial type='tcp'><source mode='bind' host='192.0.2.77' service='10000'/><log file='/nowhere/console.log' append='off'/></serial>
<graphics type='vnc' port='-1' autoport='yes' listen='192.0.2.77'/><video><model type='vga'/></video>
<memballoon model='virtio'/></devices>
<seclabel type='dynamic' model='selinux' relabel='yes'/></domain>"""


def test_what_nova_rewrites_is_left_out(cloud: Cloud) -> None:
    """As it is, libvirt 9.0 does not even survive it: see dryrun.py."""
    target = cloud.listen()
    xml = dryrun.portable(REWRITTEN)
    for gone in (
        'interface',
        'hostdev',
        'nodeset',
        'cpuset',
        'nova:',
        'encryption',
        '192.0.2.77:10000',
        'amx-tile',
    ):
        assert gone not in xml
    for _ in range(50):
        target.connect().domainXMLToNative('qemu-argv', xml)


def test_what_the_source_refuses_too_says_nothing(cloud: Cloud) -> None:
    target = cloud.listen()
    xml = ON_RBD.format(video='vga', serial='')
    assert dryrun.refusal(target.connect(), cloud.source.connect(), dryrun.portable(xml)) == ''


# L1: SASL.


def test_sasl(cloud: Cloud) -> None:
    cloud.listen(**SASL)
    cloud.start()
    password_of(cloud, 'good')
    (fine,) = cloud.ask()
    assert fine.outcome is Outcome.OK and 'accepts the guest' in fine.detail
    assert not cloud.migrate()


@pytest.mark.parametrize('password, section', [('wrong', '10.66.0.12'), ('good', 'node2')])
def test_sasl_refuses(cloud: Cloud, password: str, section: str) -> None:
    cloud.listen(**SASL)
    cloud.start()
    password_of(cloud, password, section)
    findings = cloud.ask()
    assert_refused(findings, 'transport-login-refused', cloud.migrate(), 'authentication failed')
    assert '[auth-libvirt-10.66.0.12]' in findings[0].remedy and password not in str(findings)


def test_sasl_does_not_know_the_user(cloud: Cloud) -> None:
    cloud.listen(**SASL, conf='sasl_allowed_username_list = ["somebody@else"]\n')
    cloud.start()
    password_of(cloud, 'good')
    assert_refused(cloud.ask(), 'transport-login-refused', cloud.migrate(), 'authentication failed')


def test_sasl_of_libvirtd_that_another_user_cannot_read(cloud: Cloud) -> None:
    cloud.listen(**SASL)
    cloud.start()
    password_of(cloud, 'good')
    (unknown,) = cloud.ask(user=NOBODY)
    assert (unknown.outcome, unknown.code) == (Outcome.UNKNOWN, 'transport-login-unknown')
    assert 'does not let nobody in' in unknown.detail
    assert not cloud.migrate()


# L2: ssh.


@pytest.fixture
def sshd(cloud: Cloud) -> Iterator[Sshd]:
    with Sshd(cloud, cloud.listen()) as started:
        yield started


SSH: Any = {'live_migration_scheme': 'ssh'}
SSH_URI = 'qemu+ssh://10.66.0.12/system'


@pytest.mark.parametrize('hashed', [False, True])
def test_ssh(cloud: Cloud, sshd: Sshd, hashed: bool) -> None:
    cloud.start()
    sshd.trust('host', hashed)
    (fine,) = cloud.ask(**SSH)
    assert fine.outcome is Outcome.OK and 'accepts the guest' in fine.detail
    assert not cloud.migrate(SSH_URI)


@pytest.mark.parametrize('key', ['', 'other'])
def test_ssh_host_key(cloud: Cloud, sshd: Sshd, key: str) -> None:
    """Unknown, or changed."""
    cloud.start()
    sshd.trust(key)
    assert_refused(
        cloud.ask(**SSH),
        'transport-login-refused',
        cloud.migrate(SSH_URI),
        'Host key verification failed',
    )


@pytest.mark.parametrize('key', ['', 'other'])
def test_ssh_host_key_that_the_uri_does_not_verify(cloud: Cloud, sshd: Sshd, key: str) -> None:
    cloud.start()
    sshd.trust(key)
    (fine,) = cloud.ask(live_migration_uri='qemu+ssh://%s/system?no_verify=1')
    assert fine.outcome is Outcome.OK and not cloud.migrate(f'{SSH_URI}?no_verify=1')


def test_ssh_key_refused(cloud: Cloud, sshd: Sshd) -> None:
    cloud.start()
    sshd.use('other')
    findings = cloud.ask(**SSH)
    assert_refused(findings, 'transport-login-refused', cloud.migrate(SSH_URI), 'Permission denied')
    assert 'ssh -o BatchMode=yes 10.66.0.12 true' in findings[0].remedy


def test_ssh_keys_of_another_user(cloud: Cloud, sshd: Sshd) -> None:
    cloud.start()
    (unknown,) = cloud.ask(user=NOBODY, **SSH)
    assert (unknown.outcome, unknown.code) == (Outcome.UNKNOWN, 'transport-login-unknown')
    assert not cloud.migrate(SSH_URI)


def test_guest_that_ended_meanwhile(cloud: Cloud) -> None:
    cloud.listen()
    cloud.guest = '6d5c4b3a-0000-4000-8000-000000000002'
    (unknown,) = cloud.ask()
    assert (unknown.outcome, unknown.code) == (Outcome.UNKNOWN, 'transport-not-asked')
