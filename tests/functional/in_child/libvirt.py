# SPDX-License-Identifier: Apache-2.0
"""In place of libvirt-python in the process of the checks: the same host that Nova's fake libvirt is in nova-compute.

The URI names the file that :class:`tests.functional.hypervisor.Hypervisor` keeps up to date.
"""

from __future__ import annotations

import json
import urllib.parse
from typing import Any, Callable, Sequence

import cpu_rules

VIR_ERR_NO_DOMAIN = 42


class libvirtError(Exception):  # libvirt's names, here and below
    def __init__(self, text: str, code: int = 38, detail: str = '') -> None:
        super().__init__(text)
        self._code, self._detail = code, detail

    def get_error_code(self) -> int:
        return self._code

    def get_error_message(self) -> str:
        return str(self)

    def get_str2(self) -> str:
        return self._detail


def registerErrorHandler(handler: Any, context: Any) -> None:
    pass


def openAuth(uri: str, auth: Any, flags: int) -> virConnect:
    return virConnect(uri)


def openReadOnly(uri: str) -> virConnect:
    return virConnect(uri)


_open, open = open, openReadOnly


def _asked(question: Callable[..., Any], *words: Any) -> Any:
    try:
        return question(*words)
    except cpu_rules.Refused as e:
        raise libvirtError(str(e), e.code, e.detail) from None


class virConnect:
    def __init__(self, uri: str) -> None:
        path = urllib.parse.parse_qs(urllib.parse.urlsplit(uri).query).get('state', [''])[0]
        try:
            with _open(path, encoding='utf-8') as file:
                self._state = json.load(file)
        except OSError as e:
            raise libvirtError(f'Failed to connect socket: {e.strerror}') from None
        self._cpu = cpu_rules.Cpu.from_dict(self._state['cpu'])

    def getCapabilities(self) -> str:
        return self._state['capabilities']

    def getDomainCapabilities(self, emulator: Any, arch: str, machine: Any, virt_type: str, flags: int = 0) -> str:
        _asked(cpu_rules.serves, self._cpu, arch, virt_type)
        if emulator in self._state['lacks']:
            raise libvirtError(f'Cannot check QEMU binary {emulator}: No such file or directory')
        return self._state['domain_capabilities']

    def getHostname(self) -> str:
        return self._state['hostname']

    def getLibVersion(self) -> int:
        return self._state['libvirt_version']

    def getVersion(self) -> int:
        return self._state['qemu_version']

    def baselineCPU(self, xml_cpus: Sequence[str], flags: int = 0) -> str:
        return _asked(cpu_rules.baseline, xml_cpus, flags)

    def baselineHypervisorCPU(self, emulator: Any, arch: str, machine: Any, virt_type: str, xml_cpus: Sequence[str],
                              flags: int = 0) -> str:
        return _asked(cpu_rules.hypervisor_baseline, self._cpu, xml_cpus, flags)

    def compareHypervisorCPU(self, emulator: Any, arch: str, machine: Any, virt_type: str, xml: str, flags: int = 0) -> int:
        return _asked(cpu_rules.compare, self._cpu, arch, virt_type, xml, flags)

    def listAllDomains(self, flags: int = 0) -> list[virDomain]:
        return [virDomain(*said) for said in self._state['domains']]

    def listAllSecrets(self, flags: int = 0) -> list[virSecret]:
        return [virSecret(*said) for said in self._state['secrets']]

    def close(self) -> None:
        pass


class virSecret:
    def __init__(self, uuid: str, usage: str, value: str) -> None:
        self._uuid, self._usage, self._value = uuid, usage, value

    def UUIDString(self) -> str:
        return self._uuid

    def usageType(self) -> int:
        return 2

    def usageID(self) -> str:
        return self._usage

    def value(self, flags: int = 0) -> bytes:
        if not self._value:
            raise libvirtError(f"Secret not found: secret '{self._uuid}' does not have a value", 66)
        return self._value.encode()


class virDomain:
    def __init__(self, uuid: str, number: int, xml: str) -> None:
        self._uuid, self._id, self._xml = uuid, number, xml

    def UUIDString(self) -> str:
        return self._uuid

    def ID(self) -> int:
        return self._id

    def XMLDesc(self, flags: int) -> str:
        return self._xml
