# SPDX-License-Identifier: Apache-2.0
"""Whether Nova on this host, the target, can copy a file from the source: it runs scp or rsync."""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
from typing import Sequence

# [libvirt] remote_filesystem_transport -> what Nova runs, and what that runs.
_PROGRAMS = {'ssh': ('scp', 'ssh'), 'rsync': ('rsync', 'ssh')}
# ssh's own exit status for each of its errors.
_SSH_ERROR = 255
_LONGEST = 300


def user() -> str:
    """Return the name of the user that would copy, which is that of nova-compute."""
    number = os.geteuid()
    try:
        return pwd.getpwuid(number).pw_name
    except KeyError:
        return str(number)


def refused(host: str, transport: str, seconds: float) -> str:
    """Return why nothing can be copied from a host, '' if the login works. It copies nothing.

    :param host: its name in Nova, by which Nova copies
    :param transport: ``[libvirt] remote_filesystem_transport``
    """
    lacking = [name for name in _PROGRAMS.get(transport, ()) if shutil.which(name) is None]
    if lacking:
        return f'{lacking[0]} is not installed here'
    command = ['ssh', '-T', '-o', 'BatchMode=yes', '-o', f'ConnectTimeout={max(1, int(seconds))}',
               '--', host, 'true']
    try:
        done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True,
                              errors='replace', timeout=seconds, check=False)
    except subprocess.TimeoutExpired:
        return f'ssh has not answered within {seconds:g} s'
    # With another status the login has worked; that account may only copy.
    return _words(done.stderr.splitlines()) if done.returncode == _SSH_ERROR else ''


def _words(lines: Sequence[str]) -> str:
    """Return ssh's last words, which give the reason; before them it may print a banner."""
    said = [line.strip() for line in lines if line.strip()]
    return '; '.join(said[-2:])[-_LONGEST:] or 'ssh fails without a word'
