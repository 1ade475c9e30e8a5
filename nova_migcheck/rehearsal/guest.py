# SPDX-License-Identifier: Apache-2.0
"""The guest of a rehearsal: no disk, no network, no kernel; it ends by itself.

SeaBIOS finds nothing to boot, waits for ``rebootTimeout``, and reboots, which destroys the guest.
So nothing remains if the command is killed, on whichever host the guest is then. It is transient,
and its metadata mark it.
"""

from __future__ import annotations

import contextlib
import struct
import time
import uuid
from typing import Any
from xml.sax.saxutils import quoteattr

from nova_migcheck.cpu import xml as cpuxml

#: Namespace of the element in its metadata.
MARK = 'https://docs.openstack.org/nova-migcheck/rehearsal/1'
#: Longest life in seconds: rebootTimeout is at most 65535 ms.
LONGEST = 60
_NAME = 'migcheck-rehearsal-'
#: Smallest memory in MiB.
SMALLEST = 16

# 32-bit code at 0x7c00. It fills the memory from 1 MiB up to TOP with pseudo-random numbers, so
# that no page compresses to nothing. Then it counts seconds by the real-time clock, and resets by a
# triple fault after LIMIT of them. It needs no file, which the target would have to open, too.
#
#   start: cli; xor ax,ax; mov ds,ax; in al,0x92; or al,2; out 0x92,al      ; gate A20
#          lgdt gdt; mov eax,cr0; or eax,1; mov cr0,eax; ljmp 8:pm          ; protected mode
#   pm:    mov ds,16; mov ebx,0x12345678; xor esi,esi; xor ebp,ebp; mov edi,0x100000
#   fill:  imul ebx,ebx,1664525; add ebx,1013904223; mov [edi],ebx
#          add edi,4; cmp edi,TOP; jb fill
#   clock: xor eax,eax; out 0x70,al; in al,0x71; cmp ebp,eax; je wait
#          mov ebp,eax; inc esi; cmp esi,LIMIT; jae die; mov dx,0x3f8; mov al,'.'; out dx,al
#   wait:  mov ecx,200000; l: pause; loop l; jmp clock
#   die:   lidt null; int3
_CODE = bytes.fromhex(
    'fa31c08ed8e4920c02e692660f0116947c0f20c06683c8010f22c0ea207c080066b810008ed8bb78563412'
    '31f631edbf0000100069db0d66190081c35ff36e3c891f83c70481ff{top}72e731c0e670e47139c57412'
    '89c54681fe{limit}731266baf803b02eeeb9400d0300f390e2fcebd90f011d9a7c0000cc'
    '0000000000000000ffff0000009acf00ffff00000092cf0017007c7c0000000000000000'
    .format(top='00' * 4, limit='00' * 4))
_TOP, _LIMIT = 71, 92

_XML = """<domain type={virt} xmlns:qemu='http://libvirt.org/schemas/domain/qemu/1.0'>
<name>{name}</name><uuid>{uuid}</uuid>
<metadata><migcheck:rehearsal xmlns:migcheck={mark} until='{until}'/></metadata>
<memory unit='MiB'>{memory}</memory><vcpu>1</vcpu>
<os><type arch='x86_64' machine='pc'>hvm</type><bios rebootTimeout='{milliseconds}'/></os>
<on_poweroff>destroy</on_poweroff><on_reboot>destroy</on_reboot><on_crash>destroy</on_crash>
<devices><controller type='usb' model='none'/><memballoon model='none'/></devices>
{arguments}</domain>"""


def definition(virt: str, memory: int, seconds: int, fill: bool) -> tuple[str, str]:
    """Return the UUID and the XML of a new guest.

    :param virt: ``kvm`` or ``qemu``
    :param memory: in MiB
    :param seconds: of its life, at most :data:`LONGEST`
    :param fill: whether its memory is full of random pages
    """
    identity = str(uuid.uuid4())
    return identity, _XML.format(
        virt=quoteattr(virt), name=_NAME + identity[:8], uuid=identity,
        mark=quoteattr(MARK), until=int(time.time()) + seconds, memory=max(SMALLEST, memory),
        milliseconds=seconds * 1000,
        arguments=_arguments(max(SMALLEST, memory), seconds) if fill else '')


def _arguments(memory: int, seconds: int) -> str:
    """Return arguments of QEMU that put the code into the memory, and start it.

    Every PC BIOS has an IRET at F000:FF53. It takes IP, CS and FLAGS from address 0.
    """
    code = bytearray(_CODE)
    # The BIOS has its tables at the end of the memory.
    code[_TOP:_TOP + 4] = struct.pack('<I', (memory - 1) * 1024 * 1024)
    code[_LIMIT:_LIMIT + 4] = struct.pack('<I', seconds)
    pieces = [(0, struct.pack('<HHHH', 0x7c00, 0, 2, 0))]
    pieces += [(0x7c00 + at, bytes(code[at:at + 8])) for at in range(0, len(code), 8)]
    values = [f'loader,addr={at:#x},data={int.from_bytes(data, "little"):#x},data-len=8'
              for at, data in pieces] + ['loader,addr=0xff53,cpu-num=0']
    devices = ''.join(f"<qemu:arg value='-device'/><qemu:arg value='{value}'/>" for value in values)
    return f'<qemu:commandline>{devices}</qemu:commandline>'


def filled(domain: Any, memory: int, seconds: float) -> bool:
    """Wait until the memory of a guest is full; return whether it is.

    :param domain: ``libvirt.virDomain``
    :param memory: in MiB
    """
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if domain.memoryStats().get('rss', 0) > (memory - 2) * 1024:
            return True
        time.sleep(0.1)
    return False


def sweep(connection: Any) -> list[str]:
    """Destroy what rehearsals have left behind; return its names.

    The clock of a guest stands while a migration of it hangs, so it may not have ended by itself.

    :param connection: ``libvirt.virConnect``
    :raises libvirt.libvirtError: if libvirt does not answer
    """
    import libvirt
    swept = []
    for domain in connection.listAllDomains(0):
        name = domain.name()
        if not name.startswith(_NAME):
            continue
        # Somebody else's guest of such a name has no mark; one that has ended is no concern.
        with contextlib.suppress(libvirt.libvirtError, ValueError):
            if _is_over(domain.metadata(libvirt.VIR_DOMAIN_METADATA_ELEMENT, MARK)):
                domain.destroy()
                swept.append(name)
    return swept


def _is_over(element: str) -> bool:
    """Return whether the life of a marked guest is over."""
    until = cpuxml.parse(element).get('until', '')
    return until.isdigit() and int(until) < time.time()
