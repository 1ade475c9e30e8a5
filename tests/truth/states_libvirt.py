# SPDX-License-Identifier: Apache-2.0
"""States of libvirt, QEMU and the guest."""

from __future__ import annotations

import os

from tests.truth.plan import NAMES, SOURCE, TARGET, Plan
from tests.truth.states import fault, state

_KVM = f'+{os.stat("/dev/kvm").st_gid}' if os.path.exists('/dev/kvm') else 'kvm'


@state('listen=all')
def _(plan: Plan) -> None:
    pass


@state('listen=migration')
def _(plan: Plan) -> None:
    plan.target.libvirtd['listen_addr'] = plan.address(TARGET, 'mig0')


@fault('listen=management')
def _(plan: Plan) -> None:
    plan.target.libvirtd['listen_addr'] = plan.address(TARGET, 'mgmt0')


@fault('listen=loopback')
def _(plan: Plan) -> None:
    plan.target.libvirtd['listen_addr'] = '127.0.0.1' if plan.family == 4 else '::1'


@fault('listen=other-port')
def _(plan: Plan) -> None:
    plan.target.libvirtd.update(tcp_port='16510', tls_port='16515')


@fault('listen=not')
def _(plan: Plan) -> None:
    plan.target.libvirtd.update(listen_tcp=0, listen_tls=0)


@fault('listen=hangs')
def _(plan: Plan) -> None:
    # Last, since nobody can ask it for anything then.
    plan.last.append(lambda stage: stage.hang())


@state('qemu-listens=all')
def _(plan: Plan) -> None:
    pass


@state('qemu-listens=migration')
def _(plan: Plan) -> None:
    """qemu.conf on the target names the address at which QEMU waits for a migration."""
    plan.target.qemu['migration_address'] = plan.address(TARGET, 'mig0')


@fault('qemu-listens=management')
def _(plan: Plan) -> None:
    plan.target.qemu['migration_address'] = plan.address(TARGET, 'mgmt0')


@fault('qemu-listens=nobody')
def _(plan: Plan) -> None:
    plan.target.qemu['migration_address'] = plan.nobody()


# The login: whether Nova's transport is TCP or TLS belongs to it.


@state('login=none')
def _(plan: Plan) -> None:
    pass


def _sasl(plan: Plan, mechanism: str = 'digest-md5', password: str = 'right') -> None:
    for host in plan.hosts.values():
        host.libvirtd.update(auth_tcp='sasl')
        host.files['sasl2/libvirt.conf'] = (
            f'mech_list: {mechanism}\nsasldb_path: /etc/libvirt/passwd.db\n'
        )
        if password:
            host.files['libvirt/auth.conf'] = (
                f'[credentials-all]\nauthname=nova\npassword={password}\n[auth-libvirt-default]\ncredentials=all\n'
            )
    plan.first.append(lambda stage: stage.sasl_user('nova', 'right'))


@state('login=sasl')
def _(plan: Plan) -> None:
    _sasl(plan)


@fault('login=sasl-wrong-password')
def _(plan: Plan) -> None:
    _sasl(plan, password='wrong')


@fault('login=sasl-no-password')
def _(plan: Plan) -> None:
    _sasl(plan, password='')


@fault('login=sasl-no-mechanism')
def _(plan: Plan) -> None:
    _sasl(plan, 'gssapi')


def _tls(plan: Plan) -> None:
    """Certificates on both hosts, as they should be."""
    for host in plan.hosts.values():
        names = (
            host.name,
            f'{host.name}-mig',
            plan.address(host.name, 'mgmt0'),
            plan.address(host.name, 'mig0'),
        )
        for end in ('server', 'client'):
            plan.certificates(host, end, names)


def _tls_libvirt(plan: Plan) -> None:
    _tls(plan)
    plan.everywhere(live_migration_scheme='tls')
    for host in plan.hosts.values():
        host.libvirtd.update(listen_tls=1, listen_tcp=0)


def _tls_native(plan: Plan) -> None:
    _tls(plan)
    plan.everywhere(live_migration_with_native_tls=True)
    plan.flags.append('VIR_MIGRATE_TLS')
    for host in plan.hosts.values():
        host.qemu['default_tls_x509_verify'] = 1


for _word, _healthy in (('tls', _tls_libvirt), ('native-tls', _tls_native)):
    state(f'login={_word}')(_healthy)

    @fault(f'login={_word}-expired')
    def _(plan: Plan, healthy=_healthy) -> None:
        healthy(plan)
        plan.certificates(
            plan.target,
            'server',
            (TARGET, f'{TARGET}-mig', plan.address(TARGET, 'mig0'), plan.address(TARGET, 'mgmt0')),
            days=-3,
        )
        # It was good when libvirtd started, which looks at it only then.
        plan.target.libvirtd['tls_no_sanity_certificate'] = 1

    @fault(f'login={_word}-other-name')
    def _(plan: Plan, healthy=_healthy) -> None:
        healthy(plan)
        plan.certificates(plan.target, 'server', ('node9.example.org',))

    @fault(f'login={_word}-no-server')
    def _(plan: Plan, healthy=_healthy) -> None:
        healthy(plan)
        # libvirtd itself would not start without its own.
        for path in ('pki/qemu/server-cert.pem', 'pki/qemu/server-key.pem'):
            plan.target.files.pop(path)

    @fault(f'login={_word}-no-client')
    def _(plan: Plan, healthy=_healthy) -> None:
        healthy(plan)
        for path in (
            'pki/libvirt/clientcert.pem',
            'pki/libvirt/private/clientkey.pem',
            'pki/qemu/client-cert.pem',
            'pki/qemu/client-key.pem',
        ):
            plan.source.files.pop(path)

    @fault(f'login={_word}-client-expired')
    def _(plan: Plan, healthy=_healthy) -> None:
        healthy(plan)
        plan.certificates(plan.source, 'client', (SOURCE,), days=-3)

    @fault(f'login={_word}-client-of-others')
    def _(plan: Plan, healthy=_healthy) -> None:
        healthy(plan)
        plan.certificates(plan.source, 'client', (SOURCE,), own=False)


@state('login=tls-no-verify')
def _(plan: Plan) -> None:
    """The target asks for no certificate, and the source has none."""
    _tls_libvirt(plan)
    plan.target.libvirtd['tls_no_verify_certificate'] = 1
    for path in ('pki/libvirt/clientcert.pem', 'pki/libvirt/private/clientkey.pem'):
        plan.source.files.pop(path)


@fault('login=tls-not-allowed')
def _(plan: Plan) -> None:
    _tls_libvirt(plan)
    plan.target.libvirtd['tls_allowed_dn_list'] = ['CN=other']


# Host, machine and CPU.


@state('uuid=different')
def _(plan: Plan) -> None:
    pass


@fault('uuid=same')
def _(plan: Plan) -> None:
    plan.target.uuid = plan.source.uuid


@state('machine=pc')
def _(plan: Plan) -> None:
    pass


@state('machine=q35')
def _(plan: Plan) -> None:
    plan.machine = 'q35'


@state('machine=older')
def _(plan: Plan) -> None:
    plan.machine = 'pc-i440fx-6.2'


@state('machine=other-gone-from-target')
def _(plan: Plan) -> None:
    plan.target.types_gone = ('pc-i440fx-6.1', 'pc-q35-6.1')


@fault('machine=gone-from-target')
def _(plan: Plan) -> None:
    plan.machine, plan.target.types_gone = 'pc-i440fx-6.2', ('pc-i440fx-6.2',)


@state('cpu=qemu64')
def _(plan: Plan) -> None:
    pass


def _model(plan: Plan, name: str) -> None:
    plan.cpu = f"<cpu mode='custom' match='exact'><model fallback='forbid'>{name}</model></cpu>"


@state('cpu=Nehalem')
def _(plan: Plan) -> None:
    _model(plan, 'Nehalem')


@state('cpu=host-model')
def _(plan: Plan) -> None:
    plan.cpu = "<cpu mode='host-model'/>"


@fault('cpu=Westmere-without-aes-on-target')
def _(plan: Plan) -> None:
    _model(plan, 'Westmere')
    plan.target.lacks = ('aes',)


@state('cpu=Nehalem-without-aes-on-target')
def _(plan: Plan) -> None:
    _model(plan, 'Nehalem')
    plan.target.lacks = ('aes',)


@fault('cpu=host-model-without-aes-on-target')
def _(plan: Plan) -> None:
    plan.cpu = "<cpu mode='host-model'/>"
    plan.target.lacks = ('aes',)


@state('cpu=host-model-without-aes-on-source')
def _(plan: Plan) -> None:
    plan.cpu = "<cpu mode='host-model'/>"
    plan.source.lacks = ('aes',)


@fault('cpu=maximum-without-aes-on-target')
def _(plan: Plan) -> None:
    plan.cpu = "<cpu mode='maximum'/>"
    plan.target.lacks = ('aes',)


# What is left on the target.


@state('left=nothing')
def _(plan: Plan) -> None:
    pass


@state('left=defined')
def _(plan: Plan) -> None:
    plan.late.append(lambda stage: stage.leave('same', 'same'))


@fault('left=defined-with-other-name')
def _(plan: Plan) -> None:
    plan.late.append(lambda stage: stage.leave('same', 'other'))


@fault('left=defined-with-other-uuid')
def _(plan: Plan) -> None:
    plan.late.append(lambda stage: stage.leave('other', 'same'))


@fault('left=running')
def _(plan: Plan) -> None:
    plan.late.append(lambda stage: stage.leave('same', 'same', running=True))


@state('post-copy=off')
def _(plan: Plan) -> None:
    pass


def _post_copy(plan: Plan) -> None:
    plan.everywhere(live_migration_permit_post_copy=True)
    plan.flags.append('VIR_MIGRATE_POSTCOPY')


@state('post-copy=root')
def _(plan: Plan) -> None:
    _post_copy(plan)


@fault('post-copy=other-user')
def _(plan: Plan) -> None:
    """Where vm.unprivileged_userfaultfd is 0, as by default, only root's QEMU may use it."""
    _post_copy(plan)
    for name in NAMES:
        # In the group of /dev/kvm: else libvirt asks QEMU anew for each question.
        plan.hosts[name].qemu.update(user='libvirt-qemu', group=_KVM)
