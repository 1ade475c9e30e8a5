# SPDX-License-Identifier: Apache-2.0
"""Write a file that others read: they see the old one or the new one, never half of one."""

from __future__ import annotations

import os
import tempfile


def write(path: str, text: str, durable: bool = False) -> None:
    """Replace ``path`` in one step.

    :param durable: wait until the disk has it
    :raises OSError: when it cannot be written
    """
    # A hidden name, which no reader of a directory takes, and on the same file system.
    fd, temporary = tempfile.mkstemp(prefix='.nova-migcheck-', dir=os.path.dirname(path) or '.')
    try:
        with os.fdopen(fd, 'w', encoding='utf-8') as file:
            file.write(text)
            os.fchmod(fd, 0o644)
            file.flush()
            if durable:
                os.fsync(fd)
        os.replace(temporary, path)
    except BaseException:
        os.unlink(temporary)
        raise
