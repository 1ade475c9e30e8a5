# SPDX-License-Identifier: Apache-2.0
"""Run a round of checks in a child process, under one deadline, and never wait longer.

The two processes communicate by memory files instead of pipes, so neither can block the other.
Polling works on native threads and under eventlet, whose patched ``communicate`` leaks a child that
times out. What a check wrote before it hung is not lost.
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

# Maximum seconds between two polls of the child while its progress is shown.
POLL = 0.05

# Called with a check's name and each of its findings when it comes, and with None at its end.
Progress = Callable[[str, Optional[Finding]], None]


@dataclasses.dataclass
class CheckOutput:
    """Hold what one check yielded in one round.

    :ivar ended: whether it finished; if not, earlier results that it did not update still hold
    """

    findings: list[Finding] = dataclasses.field(default_factory=list)
    facts: dict[str, Any] = dataclasses.field(default_factory=dict)
    ended: bool = False


@dataclasses.dataclass
class Round:
    """Hold the results of one run of the checks.

    :ivar started: in seconds since the epoch
    :ivar seconds: how long it took
    :ivar findings: of all checks, including those that are ok, in the order of the checks
    :ivar facts: name -> value, as the checks published them
    :ivar outputs: check -> what it yielded itself, without the findings about how it failed
    :ivar memory: check -> the value that it gets again in the next round
    :ivar cpu_seconds: check -> the CPU time that it used, if it finished
    """

    started: float
    seconds: float = 0.0
    findings: list[Finding] = dataclasses.field(default_factory=list)
    facts: dict[str, Any] = dataclasses.field(default_factory=dict)
    outputs: dict[str, CheckOutput] = dataclasses.field(default_factory=dict)
    memory: dict[str, Any] = dataclasses.field(default_factory=dict)
    cpu_seconds: dict[str, float] = dataclasses.field(default_factory=dict)


class Runner:
    """Run rounds of checks. The caller must not run two at the same time."""

    def __init__(self, checks: Mapping[str, Loaded]) -> None:
        self.checks = checks
        # check -> (pid, start time) of a process that could not be killed. The check does not run
        # again while it exists.
        self._stuck: dict[str, tuple[int, Optional[str]]] = {}
        self._process: Optional[Process] = None
        self._stopped = False

    def run(self, settings: Mapping[str, Settings], deadline: float,
            progress: Optional[Progress] = None) -> Round:
        """Run the checks that ``settings`` names.

        :param settings: check -> its settings
        :param deadline: seconds after which a check that still runs is killed
        :param progress: see :data:`Progress`
        :returns: always a :class:`Round`; a check that failed has a finding about that
        """
        outcome = Round(started=time.time())
        begun = time.monotonic()
        runnable = {}
        for name, values in settings.items():
            loaded = self.checks[name]
            outcome.outputs[name] = CheckOutput()
            if loaded.error:
                outcome.findings.append(_trouble(
                    'check-not-run', name, f'the check cannot be loaded: {loaded.error}',
                    'install what it needs, or remove it from the option', '[migcheck] checks'))
            elif self._still_stuck(name):
                outcome.findings.append(_trouble(
                    'check-not-run', name,
                    f'the check was not started: its process {self._stuck[name][0]} of an '
                    'earlier round still hangs in the kernel',
                    'find what it waits for: ls -l /proc/PID/fd, cat /proc/PID/stack'))
            else:
                runnable[name] = values
        if runnable and not self._stopped:
            self._run(Process(runnable), runnable, deadline, outcome, progress)
        order = {name: position for position, name in enumerate(settings)}
        outcome.findings.sort(key=lambda finding: order.get(finding.check, len(order)))
        outcome.seconds = time.monotonic() - begun
        return outcome

    def stop(self) -> None:
        """Kill a running round, and start no other. Safe from any thread."""
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

    def _run(self, process: Process, settings: Mapping[str, Settings], deadline: float,
             outcome: Round, progress: Optional[Progress]) -> None:
        try:
            outputs = {name: _Output(name, process.files[name], progress) for name in settings}
            self._process = process
            process.begin({name: self.checks[name].entry for name in settings}, settings, deadline)
            try:
                # The child keeps the deadline itself. It is killed from here only if it does not.
                self._watch(process, time.monotonic() + deadline + GRACE,
                            outputs.values() if progress else ())
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
        """Wait until the process ends or the time is over, and read the outputs meanwhile."""
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

    def _account(self, output: _Output, ended: Mapping[str, Any], deadline: float,
                 outcome: Round) -> None:
        """Add the results of one check to the round, and a finding if it did not finish."""
        name, finished = output.name, output.cpu_seconds is not None and not output.raised
        outcome.findings.extend(output.findings)
        outcome.facts.update(output.facts)
        outcome.outputs[name] = CheckOutput(output.findings, output.facts, finished)
        if output.kept is not None:
            outcome.memory[name] = output.kept
        if output.cpu_seconds is not None:
            outcome.cpu_seconds[name] = output.cpu_seconds
        if finished:
            return
        if output.raised:
            LOG.warning('The check %s broke: %s\n%s', name, output.raised, output.traceback)
            detail = f'the check broke: {output.raised}'
        elif ended.get('how') == 'signal':
            detail = f'the check died of signal {ended.get("signal")}'
        elif ended.get('how') == 'exit':
            detail = f'the check exited with status {ended.get("status")}'
        else:
            if isinstance(ended.get('stuck'), int):
                self._stuck[name] = (ended['stuck'], ended.get('since'))
            outcome.findings.append(_trouble(
                'check-silent', name,
                f'the check was killed: it had not finished after {deadline:g} s',
                'something that it contacts does not answer: see its other findings, or run '
                f'"nova-migcheck check --only {name}" on this host', '[migcheck] round_deadline'))
            return
        outcome.findings.append(_trouble(
            'check-broken', name, detail, "this is a bug in the check; see nova-compute's log"))


class _Output:
    """Read what one check writes."""

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
        """Read the lines since the last call, and return whether there were any."""
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
            self.raised = f'it wrote a malformed result: {e}'


def _trouble(code: str, check: str, detail: str, remedy: str, origin: str = '') -> Finding:
    return Finding(check, Outcome.UNKNOWN, check, detail, origin, remedy, code=code)


def _json_object(text: bytes) -> Mapping[str, Any]:
    """Return a JSON object, or an empty one if the text is none, as a broken check may write."""
    try:
        value = json.loads(text)
    except ValueError:
        return {}
    return value if isinstance(value, dict) else {}
