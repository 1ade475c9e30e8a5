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

from nova_migcheck.checks.base import Settings
from nova_migcheck.checks.loading import Loaded, load
from nova_migcheck.finding import Finding, Outcome
from nova_migcheck.processes import start_time
from nova_migcheck.rounds import child
from nova_migcheck.rounds.process import GRACE, Process

__all__ = ['CheckOutput', 'Loaded', 'Round', 'Runner', 'load']

LOG = logging.getLogger(__name__)

# Longest pause between two looks at the child, in seconds, while somebody watches its progress.
POLL = 0.05

# Called with a check's name and each of its findings as they come, and with None at its end.
Progress = Callable[[str, Optional[Finding]], None]


@dataclasses.dataclass
class CheckOutput:
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
    told: dict[str, CheckOutput] = dataclasses.field(default_factory=dict)
    memory: dict[str, Any] = dataclasses.field(default_factory=dict)
    cpu_seconds: dict[str, float] = dataclasses.field(default_factory=dict)


class Runner:
    """Runs rounds of checks. Not for several threads at once: the caller serialises."""

    def __init__(self, checks: Mapping[str, Loaded]) -> None:
        self.checks = checks
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
            outcome.told[name] = CheckOutput()
            if loaded.error:
                outcome.findings.append(_trouble(name, f'the check cannot be loaded: {loaded.error}',
                                                 'install what it needs, or take it out of the option', '[migcheck] checks'))
            elif self._still_stuck(name):
                outcome.findings.append(_trouble(
                    name, f'process {self._stuck[name][0]} of an earlier round still hangs in the kernel; it is not started again',
                    'find what it waits for: ls -l /proc/PID/fd, cat /proc/PID/stack'))
            else:
                runnable[name] = told
        if runnable and not self._stopped:
            self._run(Process(runnable), runnable, deadline, outcome, progress)
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
        if pid and start_time(pid) == since and since is not None:
            return True
        self._stuck.pop(name, None)
        return False

    def _run(self, process: Process, settings: Mapping[str, Settings], deadline: float, outcome: Round,
             progress: Optional[Progress]) -> None:
        try:
            outputs = {name: _Output(name, process.files[name], progress) for name in settings}
            self._process = process
            process.begin({name: self.checks[name].entry for name in settings}, settings, deadline)
            try:
                # The child keeps the deadline by itself; after that, it is killed from here.
                self._watch(process, time.monotonic() + deadline + GRACE, outputs.values() if progress else ())
            finally:
                process.kill()
                self._process = None
            ended = _json_object(process.ended)
            for output in outputs.values():
                while output.read():
                    pass
        finally:
            process.close()
        for name, output in outputs.items():
            self._account(output, ended.get(name) or {}, deadline, outcome)

    def _watch(self, process: Process, until: float, outputs: Collection[_Output]) -> None:
        """Wait until the process ends or the time is over, and read outputs as they come."""
        begun = time.monotonic()
        least = pause = POLL / 64
        while process.runs and time.monotonic() < until and not self._stopped:
            time.sleep(pause)
            # Back off: poll at most at a fraction of the elapsed time.
            now = time.monotonic()
            longest = POLL if outputs else max(least, min((now - begun) / 8, until - now))
            pause = min(2 * pause, longest)
            for output in outputs:
                output.read()

    def _account(self, output: _Output, ended: Mapping[str, Any], deadline: float, outcome: Round) -> None:
        """What one check did, into the round: what it said, and how it came to its end."""
        name = output.name
        outcome.findings.extend(output.findings)
        outcome.facts.update(output.facts)
        outcome.told[name] = CheckOutput(output.findings, output.facts, output.cpu_seconds is not None and not output.raised)
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
