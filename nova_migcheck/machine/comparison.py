# SPDX-License-Identifier: Apache-2.0
"""Compare the machine of a guest with what a target offers. Pure."""

from __future__ import annotations

from typing import Any, Iterator, Mapping, NamedTuple

from nova_migcheck.machine.guest import PKU_KERNEL, USO_KERNEL, family, unfold, version

# QEMU since 10.0 says of a guest with several CPUs in a package that it has ``ht``, which libvirt
# before 11.10 does not expect of a guest that comes from an older QEMU (libvirt's NEWS, 11.10.0).
_HT_QEMU, _HT_LIBVIRT = (10,), (11, 10)
# "Constrain guest-supported xfeatures only at KVM_GET_XSAVE" takes the state of pku again. It is
# in 6.1.61, too, and Debian's kernel 6.1 does not name the number behind.
_PKU_MENDED, _PKU_MENDED_TOO = (6, 6), (6, 1)
# libvirt 9 never migrates virtiofs. Later releases do if virtiofsd can.
_VIRTIOFS = (10,)
# cpu.weight of cgroup v2 goes to 10,000; cpu.shares of v1 to 262,144.
MAX_SHARES = 10_000

# How a device is called, where its short name does not say it.
_NAMES = {'bus': 'disk bus', 'tpm': 'TPM', 'tpm-backend': 'TPM backend',
          'tpm-version': 'TPM version', 'secure': 'secure boot'}

CODES: Mapping[str, str] = {
    'machine-type-missing': "The target's QEMU does not have the guest's machine type.",
    'machine-emulator-missing': "The target does not have the guest's emulator.",
    'machine-device-missing': "The target's QEMU does not offer a device of the guest.",
    'machine-ht': "The target's libvirt would refuse the CPU feature ht.",
    'machine-not-told': 'The files given to compare do not tell something.',
    'machine-offload': "The target's kernel lacks an offload that the guest's NIC may use.",
    'machine-pku': "The target's kernel refuses the state of pku, which the guest does not have.",
    'machine-fixed': 'The guest has a device that cannot be migrated.',
    'machine-block-job': 'A block job is active on a disk of the guest.',
    'machine-mtu': "The MTU of the guest's NIC is not that of its network.",
    'machine-shares': 'The CPU shares of the guest are out of range on the target.',
    'machine-post-copy': "The target's QEMU cannot do post-copy, which the source permits.",
    'machine-same-uuid': 'The libvirtd of two hosts have the same host UUID.'}


class Misfit(NamedTuple):
    """What does not fit."""

    code: str
    subject: str
    detail: str
    origin: str
    remedy: str
    warning: bool = False


def compare(needs: Mapping[str, Any], offers: Mapping[str, Any]) -> Iterator[Misfit]:
    """Yield what of a guest does not fit on a host. What the host does not tell, fits.

    :param needs: of :func:`nova_migcheck.machine.guest.needs`
    :param offers: of :func:`nova_migcheck.machine.offered.fact`
    """
    qemu = ' '.join(filter(None, ('QEMU', offers.get('qemu'), 'of the target')))
    listed = offers.get('machine_types', {}).get(needs['arch'])
    if listed and needs['type'] not in unfold(listed):
        yield Misfit(
            'machine-type-missing', 'machine type', f'the guest has machine type {needs["type"]}, '
            f'which {qemu} does not have', 'libvirt capabilities', 'choose a target whose QEMU has '
            'it, or stop the server and give it a type that all hosts have: nova-manage libvirt '
            'update_machine_type --force')
    emulator = needs.get('emulator')
    if emulator and emulator in offers.get('no_emulators', '').split():
        there = offers.get('emulators', '').replace(' ', ', ') or 'none that is usual'
        yield Misfit(
            'machine-emulator-missing', 'emulator', f'the emulator of the guest is {emulator}, '
            f'which the target does not have; it has {there}', 'libvirt domain capabilities',
            f'choose another target, or make {emulator} a symbolic link to its QEMU')
    yield from _devices(needs, offers, qemu)
    yield from _ht(needs, offers)
    yield from _offload(needs, offers)
    yield from _pku(needs, offers)
    yield from _bound(needs, offers)
    for device in needs.get('fixed', ()):
        yield Misfit(
            'machine-fixed', 'guest', f'{device} is a vhost-user device, and the memory of the '
            'guest is not shared: QEMU cannot migrate it', "the guest's live XML",
            'resize the server to a flavor with hw:mem_page_size')


def _devices(needs: Mapping[str, Any], offers: Mapping[str, Any], qemu: str) -> Iterator[Misfit]:
    lists = offers.get('devices', {}).get(family(needs['type']), {})
    missing = []
    for device in needs.get('devices', '').split():
        name, _equals, value = device.partition('=')
        if name in lists and value not in lists[name].split():
            missing.append(f'{_NAMES.get(name, name)} {value}')
    if missing:
        yield Misfit(
            'machine-device-missing', 'devices', f'the guest has {", ".join(missing)}, which '
            f'{qemu} does not offer', 'libvirt domain capabilities', 'choose another target, '
            'install what is missing there (swtpm, OVMF, the QEMU module of the device), or give '
            'the image another device and rebuild the server')


def _ht(needs: Mapping[str, Any], offers: Mapping[str, Any]) -> Iterator[Misfit]:
    qemu, libvirt = offers.get('qemu', ''), offers.get('libvirt', '')
    if not needs.get('cores') or not libvirt or version(qemu) < _HT_QEMU \
            or version(libvirt) >= _HT_LIBVIRT or needs['arch'] not in ('x86_64', 'i686'):
        return
    yield Misfit(
        'machine-ht', 'ht', f'the guest has {needs["cores"]} CPUs in a package and was started '
        f'without the CPU feature ht, which QEMU {qemu} of the target adds and libvirt {libvirt} '
        'there refuses', 'libvirt 11.10.0, NEWS', 'upgrade libvirt on the target to 11.10 or '
        'later, or choose a target with QEMU before 10.0')


def _offload(needs: Mapping[str, Any], offers: Mapping[str, Any]) -> Iterator[Misfit]:
    source, target = needs.get('uso', ''), offers.get('kernel', '')
    if source and target and version(target) < USO_KERNEL:
        yield Misfit(
            'machine-offload', 'NIC', f'the NIC of the guest may use USO offloads of kernel '
            f'{source}, which kernel {target} of the target does not have: the migration fails '
            'when all memory is copied', 'machine type and kernels', 'choose a target with kernel '
            f'{".".join(map(str, USO_KERNEL))} or later', warning=True)


def _pku(needs: Mapping[str, Any], offers: Mapping[str, Any]) -> Iterator[Misfit]:
    source, kernel = needs.get('pku', ''), offers.get('kernel', '')
    target = version(kernel)
    if source and PKU_KERNEL <= target < _PKU_MENDED and target[:2] != _PKU_MENDED_TOO:
        yield Misfit(
            'machine-pku', 'pku', f'the guest has no CPU feature pku, but the CPU of the source '
            f'has it, and kernel {source} there sends its state, which kernel {kernel} of the '
            'target refuses: the guest may be damaged when all memory is copied',
            "the guest's live XML, and the kernels", 'choose a target with the kernel of the '
            f'source or with {".".join(map(str, _PKU_MENDED))} or later (or one that your '
            'distribution has mended), or restart the server with pku in [libvirt] '
            'cpu_model_extra_flags', warning=True)


def _bound(needs: Mapping[str, Any], offers: Mapping[str, Any]) -> Iterator[Misfit]:
    libvirt = version(offers.get('libvirt', ''))
    for device in needs.get('bound', ()):
        why, warning = {
            'hostdev scsi_host': ('QEMU cannot migrate vhost-scsi', False),
            'filesystem virtiofs': (
                'libvirt before 10 cannot migrate virtiofs, and a later one only if virtiofsd can',
                not libvirt or libvirt >= _VIRTIOFS),
            'filesystem 9p': ('QEMU cannot migrate 9p while the guest has it mounted', True),
        }.get(device, ('', True))
        if why:
            yield Misfit('machine-fixed', 'guest', f'the guest has the device {device}: {why}',
                         "the guest's live XML", 'take it off the guest, or stop the server to '
                         'move it', warning=warning)


def between(source: Mapping[str, Any], target: Mapping[str, Any]) -> Iterator[Misfit]:
    """Yield why no guest goes from a host to another, whatever it is."""
    if source.get('post_copy') and target.get('no_userfaultfd'):
        yield Misfit(
            'machine-post-copy', 'post-copy', 'the source permits post-copy '
            '([libvirt] live_migration_permit_post_copy), for which QEMU of the target needs '
            f'userfaultfd: {target["no_userfaultfd"]}', '/proc/sys/vm/unprivileged_userfaultfd',
            'sysctl -w vm.unprivileged_userfaultfd=1 on the target, or set '
            'live_migration_permit_post_copy = False on the source')


def leaves(jobs: Mapping[str, str], mtus: Mapping[str, int], networks: Mapping[str, int],
           shares: int, offers: Mapping[str, Any]) -> Iterator[Misfit]:
    """Yield what keeps a guest from leaving, as it is now and as Nova would send it.

    :param jobs: disk -> kind of the block job on it
    :param mtus: MAC -> MTU, as the guest was started
    :param networks: MAC -> MTU of its network, as Nova knows it now and puts it into the XML
    :param shares: CPU shares that Nova would send, 0 for none
    :param offers: of the target
    """
    for disk, kind in jobs.items():
        yield Misfit('machine-block-job', disk, f'a block job ({kind}) is active on disk {disk}',
                     "the guest's live XML", 'wait until it ends, or see "virsh blockjob"')
    for mac, mtu in mtus.items():
        if networks.get(mac, mtu) != mtu:
            yield Misfit(
                'machine-mtu', mac, f'the NIC {mac} of the guest has MTU {mtu}, but its network '
                f'has {networks[mac]} now: libvirt refuses the change',
                "the guest's live XML, and Neutron", 'restart the server (hard reboot), or set the '
                'MTU of the network back')
    if shares > MAX_SHARES and offers.get('cgroup') == 2:
        yield Misfit(
            'machine-shares', 'CPU shares', f'the guest has {shares} CPU shares, and the target '
            f'has cgroup v2, where {MAX_SHARES} is the limit', 'quota:cpu_shares of the flavor',
            'resize the server to a flavor with less, or choose a target with cgroup v1')
