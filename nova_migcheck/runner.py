# SPDX-License-Identifier: Apache-2.0
"""Run a round of checks in a child process, under one deadline, and never wait longer.

Files in memory stand between the two processes instead of pipes: the child can not block on them, the parent can not block on it, and a
poll works alike on native threads and under eventlet (whose patched ``communicate`` leaks a child that times out). What a check wrote
before it hung is there all the same.
"""

from __future__ import annotations

import dataclasses
import json
import os
import time
from typing import Any, Callable, Collection, Mapping, Optional

from oslo_log import log as logging
from stevedore import named

from nova_migcheck import child
from nova_migcheck.checks.base import Check, Settings
from nova_migcheck.finding import Finding, Outcome
from nova_migcheck.process import GRACE, Process

LOG = logging.getLogger(__name__)

NAMESPACE = 'nova_migcheck.checks'

# Longest pause between two looks at the child, in seconds, while somebody watches its progress.
POLL = 0.05

# Called with a check's name and each of its findings as they come, and with None at its end.
Progress = Callable[[str, Optional[Finding]], None]


@dataclasses.dataclass(frozen=True)
class Loaded:
    """A check as its entry point gave it. ``error`` says why there is none."""

    name: str
    check: Optional[type[Check]] = None
    entry: str = ''
    error: str = ''


@dataclasses.dataclass
class Told:
    """What one check said in one round.

    :ivar ended: whether it came to its end; if not, what it did not say is as it was before
    """

    findings: list[Finding] = dataclasses.field(default_factory=list)
    facts: dict[str, Any] = dataclasses.field(default_factory=dict)
    ended: bool = False


@dataclasses.dataclass
class Round:
    """What one run of the checks found.

    :ivar started: seconds since the epoch
    :ivar seconds: how long it took
    :ivar findings: of all checks, those that are ok included, in the order of the checks
    :ivar facts: name -> value, as the checks published them
    :ivar told: check -> what of that is its own, without what is said here about how it broke
    :ivar memory: check -> what it wants to be handed back
    :ivar cpu_seconds: check -> CPU it used, of those that came to their end
    """

    started: float
    seconds: float = 0.0
    findings: list[Finding] = dataclasses.field(default_factory=list)
    facts: dict[str, Any] = dataclasses.field(default_factory=dict)
    told: dict[str, Told] = dataclasses.field(default_factory=dict)
    memory: dict[str, Any] = dataclasses.field(default_factory=dict)
    cpu_seconds: dict[str, float] = dataclasses.field(default_factory=dict)


def load(names: list[str]) -> dict[str, Loaded]:
    """The checks of these names, in this order. One that is missing or broken is in the answer too, with its error."""
    failed: dict[str, str] = {}

    def note(_manager: Any, entry_point: Any, error: Exception) -> None:
        failed[entry_point.name] = f'{type(error).__name__}: {error}'

    manager = named.NamedExtensionManager(NAMESPACE, names, on_load_failure_callback=note,
                                         on_missing_entrypoints_callback=lambda _names: None)
    found = {extension.name: extension for extension in manager}
    loaded = {}
    for name in names:
        if name in found:
            check = found[name].plugin
            error = _flaw(check)
            loaded[name] = Loaded(name, error=error) if error else Loaded(
                name, check, found[name].entry_point.value)
        else:
            loaded[name] = Loaded(name, error=failed.get(name, f'no package installed here declares it in {NAMESPACE}'))
    return loaded


def _flaw(check: Any) -> str:
    """Return why a plugin is no check that nova-compute can use, '' when it is one.

    nova-compute itself reads these attributes, so a wrong one must not get that far.
    """
    if not (isinstance(check, type) and issubclass(check, Check)):
        return 'its entry point is not a nova_migcheck.checks.base.Check'
    if check.WHEN not in ('host', 'path'):
        return f'WHEN is {check.WHEN!r}, neither "host" nor "path"'
    lists = {'HEAVY': check.HEAVY, 'AUTH_GROUPS': check.AUTH_GROUPS}
    if not isinstance(check.OPTIONS, Mapping):
        return f'OPTIONS is {check.OPTIONS!r}, and not a mapping'
    lists.update((f'OPTIONS of [{group}]', names) for group, names in check.OPTIONS.items())
    for name, value in lists.items():
        if not isinstance(value, (list, tuple)) or not all(isinstance(one, str) for one in value):
            return f'{name} is {value!r}, and not a list of names'
    return ''


class Runner:
    """Runs rounds of checks. Not for several threads at once: the caller serialises.

    :param waiting: a process that waits for its turn, for the first round; it is then ours
    :param hurry: whether a migration waits: what has been told counts, and that the process ends is seen to afterwards
    """

    def __init__(self, checks: Mapping[str, Loaded], waiting: Optional[Process] = None, hurry: bool = False) -> None:
        self.checks = checks
        self._waiting = waiting
        self._hurry = hurry
        # check -> (pid, start time) of a process that could not be killed. No new one is started beside it.
        self._stuck: dict[str, tuple[int, Optional[str]]] = {}
        self._process: Optional[Process] = None
        self._stopped = False

    def run(self, settings: Mapping[str, Settings], deadline: float,
            progress: Optional[Progress] = None) -> Round:
        """Run the checks that ``settings`` names.

        :param settings: check -> what it is told
        :param deadline: seconds after which what still runs is killed
        :param progress: see :data:`Progress`
        :returns: always a :class:`Round`; what went wrong with a check is a finding of that check
        """
        outcome = Round(started=time.time())
        begun = time.monotonic()
        runnable = {}
        for name, told in settings.items():
            loaded = self.checks[name]
            outcome.told[name] = Told()
            if loaded.error:
                outcome.findings.append(_trouble(name, f'the check cannot be loaded: {loaded.error}',
                                                 'install what it needs, or take it out of the option', '[migcheck] checks'))
            elif self._still_stuck(name):
                outcome.findings.append(_trouble(
                    name, f'process {self._stuck[name][0]} of an earlier round still hangs in the kernel; it is not started again',
                    'find what it waits for: ls -l /proc/PID/fd, cat /proc/PID/stack'))
            else:
                runnable[name] = told
        process, self._waiting = self._waiting, None
        if process is not None and not (runnable and not self._stopped and process.names.issuperset(runnable)):
            process.close()
            process = None
        if runnable and not self._stopped:
            self._run(process or Process(runnable), runnable, deadline, outcome, progress)
        order = list(settings)
        outcome.findings.sort(key=lambda f: order.index(f.check) if f.check in order else len(order))
        outcome.seconds = time.monotonic() - begun
        return outcome

    def stop(self) -> None:
        """Kill the round that runs, if one does, and start no other. Safe from any thread."""
        self._stopped = True
        process = self._process
        if process is not None:
            process.kill()

    def _still_stuck(self, name: str) -> bool:
        pid, since = self._stuck.get(name, (0, None))
        if pid and child.start_time(pid) == since and since is not None:
            return True
        self._stuck.pop(name, None)
        return False

    def _run(self, process: Process, settings: Mapping[str, Settings], deadline: float, outcome: Round,
             progress: Optional[Progress]) -> None:
        told_all = False
        try:
            outputs = {name: _Output(name, process.files[name], progress) for name in settings}
            self._process = process
            process.begin({name: self.checks[name].entry for name in settings}, settings, deadline)
            try:
                # The child keeps the deadline by itself; after that, it is killed from here.
                told_all = self._watch(process, time.monotonic() + deadline + GRACE, outputs.values() if progress or self._hurry else ())
            finally:
                if not told_all:
                    process.kill()
                self._process = None
            ended = _json_object(process.ended)
            for output in outputs.values():
                while output.read():
                    pass
        finally:
            if told_all:
                process.leave()
            else:
                process.close()
        for name, output in outputs.items():
            self._account(output, ended.get(name) or {}, deadline, outcome)

    def _watch(self, process: Process, until: float, outputs: Collection[_Output]) -> bool:
        """Until it ends. Whether we do not wait for that, as all is told."""
        begun = time.monotonic()
        least = pause = POLL / 64
        while process.runs and time.monotonic() < until and not self._stopped:
            time.sleep(pause)
            # A round that hangs is not looked at a thousand times: the end of any is noticed within a part of its length.
            part = (time.monotonic() - begun) / (10 if self._hurry else 4)
            pause = min(2 * pause, POLL if outputs and not self._hurry else max(least, min(part, until - time.monotonic())))
            for output in outputs:
                output.read()
            if self._hurry and all(output.cpu_seconds is not None for output in outputs):
                return True
        return False

    def _account(self, output: _Output, ended: Mapping[str, Any], deadline: float, outcome: Round) -> None:
        """What one check did, into the round: what it said, and how it came to its end."""
        name = output.name
        outcome.findings.extend(output.findings)
        outcome.facts.update(output.facts)
        outcome.told[name] = Told(output.findings, output.facts, output.cpu_seconds is not None and not output.raised)
        if output.kept is not None:
            outcome.memory[name] = output.kept
        if output.cpu_seconds is not None:
            outcome.cpu_seconds[name] = output.cpu_seconds
            if not output.raised:
                return
        remedy = 'this is a bug of the check; nova-compute\'s log has it'
        if output.raised:
            LOG.warning('The check %s broke: %s\n%s', name, output.raised, output.traceback)
            outcome.findings.append(_trouble(name, f'the check broke: {output.raised}', remedy))
        elif ended.get('how') == 'signal':
            outcome.findings.append(_trouble(name, f'the check died of signal {ended.get("signal")}', remedy))
        elif ended.get('how') == 'exit':
            outcome.findings.append(_trouble(name, f'the check ended by itself with status {ended.get("status")}', remedy))
        else:
            if isinstance(ended.get('stuck'), int):
                self._stuck[name] = (ended['stuck'], ended.get('since'))
            outcome.findings.append(_trouble(
                name, f'the check had not finished after {deadline:g} s and was killed',
                'what it looks at does not answer: see its other findings, or run "nova-migcheck check --only '
                f'{name}" on this host', '[migcheck] round_deadline'))


class _Output:
    """What one check has written so far."""

    def __init__(self, name: str, fd: int, progress: Optional[Progress]) -> None:
        self.name = name
        self.findings: list[Finding] = []
        self.facts: dict[str, Any] = {}
        self.kept: Any = None
        self.raised = ''
        self.traceback = ''
        self.cpu_seconds: Optional[float] = None
        self._fd = fd
        self._progress = progress
        self._rest = b''
        self._offset = 0

    def read(self) -> bool:
        """Take in the lines that came since the last call. Whether there was anything."""
        data = os.pread(self._fd, child.MAX_BYTES, self._offset)
        self._offset += len(data)
        *lines, self._rest = (self._rest + data).split(b'\n')
        for line in lines:
            self._take(_json_object(line))
        return bool(data)

    def _take(self, line: Mapping[str, Any]) -> None:
        try:
            if 'finding' in line:
                finding = Finding.from_dict(line['finding'])
                self.findings.append(finding)
                if self._progress:
                    self._progress(self.name, finding)
            elif 'fact' in line:
                name, value = line['fact']
                self.facts[str(name)] = value
            elif 'keep' in line:
                self.kept = line['keep']
            elif 'raised' in line:
                self.raised, self.traceback = str(line['raised']), str(line.get('traceback', ''))
            elif 'end' in line:
                self.cpu_seconds = float(line['end'])
                if self._progress:
                    self._progress(self.name, None)
        except (ValueError, TypeError) as e:
            self.raised = f'it wrote what is no finding: {e}'


def _trouble(check: str, detail: str, remedy: str, origin: str = '') -> Finding:
    return Finding(check, Outcome.UNKNOWN, check, detail, origin, remedy)


def _json_object(text: bytes) -> Mapping[str, Any]:
    """A JSON object, or an empty one: what a broken check wrote is not trusted to be any."""
    try:
        value = json.loads(text)
    except ValueError:
        return {}
    return value if isinstance(value, dict) else {}
