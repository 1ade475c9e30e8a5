# SPDX-License-Identifier: Apache-2.0
"""Replace a file so that a reader sees the old content or the new, never half of it."""

from __future__ import annotations

import contextlib
import os
import tempfile


def write(path: str, text: str, durable: bool = False, mode: int = 0o644) -> None:
    """Replace ``path`` in one step. The new file keeps the owner and permissions of the old one.

    :param durable: wait until the data is on the disk
    :param mode: permissions if there was no such file
    :raises OSError: when it cannot be written; its ``filename`` is ``path``
    """
    try:
        _write(path, text, durable, mode)
    except OSError as e:
        raise OSError(e.errno, e.strerror, path) from e


def _write(path: str, text: str, durable: bool, mode: int) -> None:
    # Hidden, so that a reader of the directory ignores it, and on the same file system.
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
    """Give an open file the owner and the permissions of the file at ``path``."""
    try:
        old = os.stat(path)
    except FileNotFoundError:
        os.fchmod(fd, mode)
        return
    with contextlib.suppress(PermissionError):  # only root can change the owner
        os.fchown(fd, old.st_uid, old.st_gid)
    # After the owner, because changing the owner clears some permission bits.
    os.fchmod(fd, old.st_mode & 0o777)
