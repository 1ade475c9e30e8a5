# SPDX-License-Identifier: Apache-2.0
"""Keep what was decided about live migrations, and what became of them, in one file of this host.

Each line is one JSON object. The file is bounded in size and in age. Nothing waits for it, and no
error of it reaches anybody: what cannot be written is lost. It holds UUIDs, names of hosts and
interfaces, codes of findings, and what libvirt said; no other text of a finding, and nothing that a
user has named.
"""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import fcntl
import hashlib
import json
import os
import stat
import time
from typing import Any, Iterator, Mapping, Optional, Union

from oslo_log import log as logging

from nova_migcheck import atomic, wording
from nova_migcheck.aftermath.result import Result
from nova_migcheck.checks.needs import shorten
from nova_migcheck.cpu.population import fingerprint
from nova_migcheck.finding import Outcome
from nova_migcheck.judging.verdict import Verdict
from nova_migcheck.report import past
from nova_migcheck.report.past import Past
from nova_migcheck.report.report import Report

LOG = logging.getLogger(__name__)

NAME = 'nova-migcheck-ledger.jsonl'
VERSION = 1
DECISION, OUTCOME, REHEARSAL = 'decision', 'outcome', 'rehearsal'
_KINDS = (DECISION, OUTCOME, REHEARSAL)
# Verdicts. An accepted target about which something is not known is told apart.
ACCEPTED, UNKNOWN, REJECTED = 'accepted', 'unknown', 'rejected'

# Maximum bytes of one line, and findings in it.
_LINE, _FINDINGS = 4096, 20
# Bytes at the end of the file in which the last rehearsals are looked for.
_RECENT = 256 * 1024
# Seconds that one nova-compute waits for another to finish its line.
_LOCK, _PAUSE = 1.0, 0.01
_DAY = 86400.0


def decision(host: str, instance: Any, target: str, verdict: Verdict, mode: str,
             needs: str) -> dict[str, Any]:
    """Return the line of a decision.

    :param host: the host that decides, the target or the source
    :param instance: Nova's object
    :param mode: ``[migcheck] mode``
    :param needs: from :func:`of_guest`
    """
    findings = (*verdict.rejections, *verdict.warnings)
    unknown = any(finding.outcome is Outcome.UNKNOWN for finding in findings)
    word = REJECTED if verdict.rejections else UNKNOWN if unknown else ACCEPTED
    return {
        'v': VERSION, 'kind': DECISION, 'time': int(time.time()), 'host': host,
        'instance': instance.uuid, 'source': instance.host or '', 'target': target,
        'verdict': word, 'mode': mode, 'needs': needs,
        'rejections': sorted({f'{one.check} {one.code}' for one in verdict.rejections})[:_FINDINGS],
        'warnings': sorted({f'{one.check} {one.code}' for one in verdict.warnings})[:_FINDINGS]}


def outcome(result: Result, host: str) -> dict[str, Any]:
    """Return the line of a migration that has ended.

    :param host: this host
    """
    kept, carried = result.to_past(), result.carried
    interfaces: dict[str, int] = {}
    if carried is not None and not carried.unknown:
        interfaces = {name: count for name, count in (
            (wording.either(carried.intended), carried.by_intended),
            (carried.other, carried.by_other)) if name and count}
    arrives = result.direction == past.IN
    return {
        'v': VERSION, 'kind': OUTCOME, 'time': kept.time, 'host': host,
        'instance': result.instance, 'source': result.peer if arrives else host,
        'target': host if arrives else result.peer, 'direction': result.direction,
        'ended': kept.ended, 'milliseconds': kept.milliseconds, 'downtime': kept.downtime,
        'bytes': kept.data, 'interfaces': interfaces, 'interface': kept.interface,
        'error': result.error}


def of_guest(source: Optional[Report], instance_uuid: str) -> str:
    """Return a digest of all that a guest needs of a target, '' if nothing of that is known.

    :param source: the report of the host where it runs, None if there is none
    """
    if source is None:
        return ''
    cpu, requirements = source.guest(instance_uuid), source.needs.of(instance_uuid)
    if cpu is None and not requirements:
        return ''
    text = f'{fingerprint(cpu) if cpu else ""} {requirements}'
    return hashlib.sha256(text.encode(errors='surrogatepass')).hexdigest()[:12]


class Ledger:
    """The file of this host. Several processes may write it.

    :param state_path: ``[DEFAULT] state_path``
    :param size: its maximum size in bytes; 0 for no file
    :param days: after which a line is dropped
    """

    def __init__(self, state_path: str, size: int, days: int) -> None:
        self._path = os.path.join(state_path, NAME)
        self._size, self._days = size, days
        self._looked = -_DAY  # when lines were last looked at for their age, as by monotonic()
        self._failed = False
        self._seen: tuple[int, ...] = ()  # what the file was like when rehearsals were looked for

    def append(self, entry: Mapping[str, Any]) -> bool:
        """Add a line, and return whether it stands there. No error of the file is raised."""
        data = json.dumps(entry, separators=(',', ':')).encode() + b'\n'
        if not self._size or len(data) > _LINE:
            return False
        try:
            self._append(data)
            self._failed = False
            return True
        except OSError as e:
            log = LOG.debug if self._failed else LOG.warning
            log('What becomes of live migrations cannot be written to %s: %s', self._path,
                e.strerror or e)
            self._failed = True
            return False

    def pasts(self, host: str) -> list[Past]:
        """Return the migrations of a host that have ended, oldest first.

        :param host: with two nova-computes, each has its own
        """
        found = (_past(entry) for entry in read(self._path, self._size)
                 if entry.get('kind') == OUTCOME and entry.get('host') == host)
        return [one for one in found if one is not None]

    def rehearsals(self, host: str) -> Optional[list[Past]]:
        """Return the last rehearsals that a host has made, oldest first.

        :returns: None if nothing was written since the last call: another process rehearses
        """
        try:
            now = os.stat(self._path)
        except OSError:
            return None
        seen = (now.st_ino, now.st_size, now.st_mtime_ns)
        if not self._size or seen == self._seen:
            return None
        self._seen = seen
        found = (_past(entry) for entry in read(self._path, min(self._size, _RECENT))
                 if entry.get('kind') == REHEARSAL and entry.get('host') == host)
        return [dataclasses.replace(one, rehearsal=True) for one in found if one is not None]

    def _append(self, data: bytes) -> None:
        with _locked(self._path) as fd:
            too_large = os.fstat(fd).st_size + len(data) + 1 > self._size
            if too_large or self._has_old(fd):
                # Half of it goes, so that this is not done for each line. Whoever waits for the
                # lock will see that the file is another one now.
                kept = self._kept(fd, self._size // 2 if too_large else self._size - len(data))
                atomic.write(self._path, (kept + data).decode(errors='replace'), mode=0o640)
            else:
                _write(fd, data)

    def _has_old(self, fd: int) -> bool:
        """Return whether lines are too old, which is looked at once a day."""
        if time.monotonic() - self._looked < _DAY:
            return False
        self._looked = time.monotonic()
        first, _newline, _rest = os.pread(fd, _LINE, 0).partition(b'\n')
        return bool(first) and not self._is_young(first)

    def _kept(self, fd: int, most: int) -> bytes:
        """Return the newest lines that are young, of at most as many bytes."""
        kept: list[bytes] = []
        size = 0
        for line in reversed(_tail(fd, self._size).split(b'\n')):
            if not line or len(line) >= _LINE or not self._is_young(line):
                continue
            size += len(line) + 1
            if size > most:
                break
            kept.append(line + b'\n')
        return b''.join(reversed(kept))

    def _is_young(self, line: bytes) -> bool:
        # A line from the future stays: a clock was set back, and the size is bounded all the same.
        entry = _entry(line)
        return entry is not None and entry['time'] > time.time() - self._days * _DAY


def read(path: str, most: int) -> Iterator[dict[str, Any]]:
    """Yield the entries of a ledger, oldest first. What is no entry is left out.

    :param most: bytes that are read, from the end
    """
    try:
        fd = _open(path, os.O_RDONLY)
    except OSError:
        return
    try:
        data = _tail(fd, most)
    except OSError:
        return
    finally:
        os.close(fd)
    for line in data.split(b'\n'):
        entry = _entry(line)
        if entry is not None:
            yield entry


def _entry(line: bytes) -> Optional[dict[str, Any]]:
    """Return the entry in a line, with texts where there are to be texts; None if it is none."""
    try:
        entry = json.loads(line)
    except (ValueError, RecursionError):
        return None
    if not isinstance(entry, dict) or entry.get('kind') not in _KINDS:
        return None
    number: Union[int, float] = entry.get('time', 0)
    if isinstance(number, bool) or not isinstance(number, (int, float)) or not 0 < number < 1e12:
        return None
    words = ('host', 'instance', 'source', 'target')
    return entry if all(isinstance(entry.get(word), str) for word in words) else None


def _past(entry: Mapping[str, Any]) -> Optional[Past]:
    peer = 'source' if entry.get('direction') == past.IN else 'target'
    return Past.from_json([int(entry['time']), entry.get('direction'), shorten(entry['instance']),
                           entry[peer], *(entry.get(name) for name in (
                               'ended', 'milliseconds', 'downtime', 'bytes', 'interface',
                               'error', 'rate'))])


@contextlib.contextmanager
def _locked(path: str) -> Iterator[int]:
    """Open the file, and keep other processes from writing to it.

    :raises OSError: if that cannot be done within :data:`_LOCK` seconds
    """
    until = time.monotonic() + _LOCK
    while True:
        fd = _open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT)
        try:
            _give_away(fd, path)
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if os.path.samestat(os.fstat(fd), os.stat(path)):
                yield fd
                return
        except BlockingIOError:
            if time.monotonic() > until:
                raise
        finally:
            os.close(fd)
        time.sleep(_PAUSE)


def _open(path: str, flags: int) -> int:
    """Open a regular file; something else, which might block, is an error."""
    fd = os.open(path, flags | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOFOLLOW, 0o640)
    if not stat.S_ISREG(os.fstat(fd).st_mode):
        os.close(fd)
        raise OSError(errno.EINVAL, 'it is not a regular file', path)
    return fd


def _give_away(fd: int, path: str) -> None:
    """Let the file that root begins belong to nova-compute, as its directory does."""
    if os.geteuid() == 0 and not os.fstat(fd).st_size:
        owner = os.stat(os.path.dirname(path) or '.')
        with contextlib.suppress(PermissionError):  # a file system of another host's root
            os.fchown(fd, owner.st_uid, owner.st_gid)


def _tail(fd: int, most: int) -> bytes:
    """Return the last bytes, from the beginning of a line on."""
    size = os.fstat(fd).st_size
    begin = max(0, size - most)
    data = os.pread(fd, most, begin)
    return data.partition(b'\n')[2] if begin else data


def _write(fd: int, data: bytes) -> None:
    """Write a line, or nothing. What a process that was killed left of one gets its end."""
    end = os.fstat(fd).st_size
    if end and os.pread(fd, 1, end - 1) != b'\n':
        data = b'\n' + data
    try:
        written = os.write(fd, data)
    except OSError:
        os.ftruncate(fd, end)
        raise
    if written < len(data):
        os.ftruncate(fd, end)
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
