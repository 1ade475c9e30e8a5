# SPDX-License-Identifier: Apache-2.0
"""Write a file that others read: they see the old one or the new one, never half of one."""

from __future__ import annotations

import contextlib
import os
import tempfile


def write(path: str, text: str, durable: bool = False, mode: int = 0o644) -> None:
    """Replace ``path`` in one step. Who may read the old file may read the new one.

    :param durable: wait until the disk has it
    :param mode: permissions, where there was no such file
    :raises OSError: when it cannot be written; its ``filename`` is ``path``
    """
    try:
        _write(path, text, durable, mode)
    except OSError as e:
        raise OSError(e.errno, e.strerror, path) from e


def _write(path: str, text: str, durable: bool, mode: int) -> None:
    # A hidden name, which no reader of a directory takes, and on the same file system.
    fd, temporary = tempfile.mkstemp(prefix='.nova-migcheck-', dir=os.path.dirname(path) or '.')
    try:
        with os.fdopen(fd, 'w', encoding='utf-8') as file:
            file.write(text)
            _permit(fd, path, mode)
            file.flush()
            if durable:
                os.fsync(fd)
        os.replace(temporary, path)
    except BaseException:
        os.unlink(temporary)
        raise


def _permit(fd: int, path: str, mode: int) -> None:
    """Give an open file the owner and the permissions of the one at ``path``."""
    try:
        old = os.stat(path)
    except FileNotFoundError:
        os.fchmod(fd, mode)
        return
    with contextlib.suppress(PermissionError):  # only root can give a file away
        os.fchown(fd, old.st_uid, old.st_gid)
    # Behind the owner, whose change clears some of them.
    os.fchmod(fd, old.st_mode & 0o777)
