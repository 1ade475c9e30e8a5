# SPDX-License-Identifier: Apache-2.0
"""The ledger: a real file, and all that can happen to one."""

from __future__ import annotations

import json
import os
import pathlib
import signal
import subprocess
import sys
import types

import pytest

from nova_migcheck.aftermath import ledger
from nova_migcheck.aftermath.job import Job
from nova_migcheck.aftermath.ledger import Ledger
from nova_migcheck.aftermath.result import Result
from nova_migcheck.aftermath.traffic import Carried
from nova_migcheck.finding import Finding, Outcome
from nova_migcheck.judging.verdict import Verdict

UUID = '2f0f1c4e-8a4b-4d0e-9b5e-0c6f5d3d2a11'
MIB = 1 << 20
INSTANCE = types.SimpleNamespace(uuid=UUID, host='compute1', display_name='payroll')
FAILURE = Finding(
    'address',
    Outcome.FAILURE,
    'mgmt0',
    'the password is secret',
    'payroll',
    code='address-wrong-interface',
)
UNKNOWN = Finding('storage', Outcome.UNKNOWN, '/var/lib/nova', code='storage-silent')


NOTHING = Verdict()


def decision(number: int = 0, verdict: Verdict = NOTHING) -> dict:
    return {
        **ledger.decision('compute2', INSTANCE, 'compute2', verdict, 'enforce', '0123456789ab'),
        'number': number,
    }


def result(**values: object) -> Result:
    return Result(
        **{
            'instance': UUID,
            'direction': 'in',
            'peer': 'compute1',
            'time': 1_764_000_000.0,
            **values,
        }
    )


@pytest.fixture
def path(tmp_path: pathlib.Path) -> pathlib.Path:
    return tmp_path / ledger.NAME


def made(path: pathlib.Path, size: int = MIB, days: int = 90) -> Ledger:
    return Ledger(str(path.parent), size, days)


def numbers(path: pathlib.Path) -> list[int]:
    return [entry['number'] for entry in ledger.read(str(path), 64 * MIB)]


def test_a_decision_has_codes_and_uuids_and_no_text() -> None:
    entry = decision(verdict=Verdict((FAILURE,), (UNKNOWN,)))
    assert (entry['verdict'], entry['rejections'], entry['warnings']) == (
        'rejected',
        ['address address-wrong-interface'],
        ['storage storage-silent'],
    )
    assert (
        entry['instance'],
        entry['source'],
        entry['target'],
        entry['host'],
        entry['mode'],
        entry['needs'],
    ) == (UUID, 'compute1', 'compute2', 'compute2', 'enforce', '0123456789ab')
    assert 'secret' not in str(entry) and 'payroll' not in str(entry) and 'mgmt0' not in str(entry)
    assert decision(verdict=Verdict((), (UNKNOWN,)))['verdict'] == 'unknown'
    assert decision()['verdict'] == 'accepted'


def test_an_outcome_has_libvirt_s_words_the_downtime_and_the_bytes_by_interface() -> None:
    carried = Carried(100, ('mig0',), by_intended=60, strayed=40, other='mgmt0', by_other=50)
    entry = ledger.outcome(
        result(job=Job(3.7, downtime=63, data=100), carried=carried, seconds=4.0), 'compute2'
    )
    assert (
        entry['source'],
        entry['target'],
        entry['ended'],
        entry['downtime'],
        entry['milliseconds'],
        entry['bytes'],
    ) == ('compute1', 'compute2', 'completed', 63, 3700, 100)
    assert entry['interfaces'] == {'mig0': 60, 'mgmt0': 50}
    failed = ledger.outcome(
        result(direction='out', peer='compute3', ended='failed', error='No route to host'),
        'compute2',
    )
    assert (failed['source'], failed['target'], failed['error'], failed['interfaces']) == (
        'compute2',
        'compute3',
        'No route to host',
        {},
    )


def test_what_has_ended_is_known_after_a_restart(path: pathlib.Path) -> None:
    before = result(job=Job(3.7, downtime=63, data=100), ended='completed')
    first = made(path)
    first.append(decision())
    first.append(ledger.outcome(before, 'compute2'))
    first.append(ledger.outcome(before, 'another'))
    assert made(path).pasts('compute2') == [before.to_past()]
    assert made(path.parent / 'nowhere' / 'x').pasts('compute2') == []


def test_ten_thousand_decisions_stay_under_the_size(path: pathlib.Path) -> None:
    small = made(path, MIB)
    for number in range(10_000):
        small.append(decision(number))
        assert path.stat().st_size <= MIB
    kept = numbers(path)
    assert kept == list(range(kept[0], 10_000)) and len(kept) > 1000
    # By default they are all there.
    assert 10_000 * len(json.dumps(decision(10_000, Verdict((FAILURE,) * 20)))) < 16 * MIB


def test_lines_go_when_they_are_old(path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now = 1_764_000_000.0
    monkeypatch.setattr(ledger.time, 'time', lambda: now)
    one = made(path, days=2)
    one.append(decision(1))
    now += 86400
    one.append(decision(2))
    now += 86400 + 1
    made(path, days=2).append(decision(3))  # as after a restart, when it looks
    assert numbers(path) == [2, 3]
    made(path, days=2).append(decision(4))
    assert numbers(path) == [2, 3, 4]


def test_a_clock_that_is_set_back(path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made(path).append(decision(1))
    monkeypatch.setattr(ledger.time, 'time', lambda: 1_000_000.0)
    one = made(path, size=4096)
    for number in range(2, 30):
        one.append(decision(number))
    kept = numbers(path)
    assert kept[-1] == 29 and kept == sorted(kept) and path.stat().st_size <= 4096


@pytest.mark.parametrize(
    'garbage',
    [
        b'',
        b'\0' * 5000,
        b'[' * 100_000,
        b'{"kind":"decision"',
        b'null\n7\n{}\n"x"\n',
        b'\xff\xfe\n' * 1000,
        b'x' * 3 * MIB,
        b'{"kind":"decision","time":1e999,"host":"a","instance":"b","source":"c","target":"d"}\n',
        b'{"kind":"outcome","time":true}\n{"kind":"outcome","time":1,"host":1}\n',
    ],
)
def test_a_file_that_somebody_filled_with_garbage(path: pathlib.Path, garbage: bytes) -> None:
    path.write_bytes(garbage)
    one = made(path)
    one.append(decision(1))
    one.append(decision(2))
    assert numbers(path) == [1, 2] and one.pasts('compute2') == []
    assert path.stat().st_size <= MIB


def test_a_line_that_was_cut_costs_no_other(path: pathlib.Path) -> None:
    one = made(path)
    for number in range(3):
        one.append(decision(number))
    os.truncate(path, path.stat().st_size - 10)
    one.append(decision(3))
    assert numbers(path) == [0, 1, 3]


@pytest.mark.parametrize('instead', ['directory', 'fifo', 'link', 'nowhere'])
def test_what_is_no_file_is_left_alone(
    path: pathlib.Path, instead: str, caplog: pytest.LogCaptureFixture
) -> None:
    """A FIFO would block whoever opens it."""
    if instead == 'directory':
        path.mkdir()
    elif instead == 'fifo':
        os.mkfifo(path)
    elif instead == 'link':
        path.symlink_to(path.parent / 'elsewhere')
    one = made(path if instead != 'nowhere' else path.parent / 'nowhere' / 'x')
    one.append(decision())
    one.append(decision())
    assert list(ledger.read(str(path), MIB)) == [] and not (path.parent / 'elsewhere').exists()
    assert len([record for record in caplog.records if record.levelname == 'WARNING']) == 1


def test_no_file_at_all(path: pathlib.Path) -> None:
    made(path, size=0).append(decision())
    assert not path.exists()


def test_only_its_owner_and_group_may_read_it(path: pathlib.Path) -> None:
    made(path, size=2048).append(decision())
    assert path.stat().st_mode & 0o777 == 0o640
    for _ in range(20):
        made(path, size=2048).append(decision())
    assert path.stat().st_mode & 0o777 == 0o640


WRITES = """
import itertools, sys
from nova_migcheck.aftermath import ledger
one = ledger.Ledger(sys.argv[1], int(sys.argv[3]), 100_000)
numbers = range(int(sys.argv[4])) if len(sys.argv) > 4 else itertools.count()
for number in numbers:
    one.append({'kind': 'decision', 'time': 1764000000, 'host': sys.argv[2], 'instance': 'i', 'source': 's', 'target': 't',
                'number': number, 'filled': 'x' * 300})
    if len(sys.argv) <= 4:
        print(number, flush=True)
"""


def writer(path: pathlib.Path, *words: object) -> subprocess.Popen:
    return subprocess.Popen(
        [sys.executable, '-c', WRITES, str(path.parent), *map(str, words)],
        stdout=subprocess.PIPE,
        cwd=pathlib.Path(__file__).parents[3],
    )


@pytest.mark.parametrize('size', [MIB, 16 * 1024])
def test_two_nova_computes_with_one_state_path(path: pathlib.Path, size: int) -> None:
    days = {host: writer(path, host, size, 400) for host in ('compute1', 'compute2')}
    assert [one.wait(60) for one in days.values()] == [0, 0]
    lines = path.read_bytes().splitlines()
    entries = [json.loads(line) for line in lines]
    assert path.stat().st_size <= size
    for host in days:
        found = [entry['number'] for entry in entries if entry['host'] == host]
        assert found == sorted(found)
        if size == MIB:
            assert found == list(range(400))
    assert entries[-1]['number'] == 399


def test_a_kill_costs_no_more_than_the_last_line(path: pathlib.Path) -> None:
    for round_ in range(5):
        process = writer(path, f'compute{round_}', MIB)
        assert process.stdout is not None
        for _ in range(20):
            process.stdout.readline()
        process.send_signal(signal.SIGKILL)
        told = [int(line) for line in process.stdout.read().splitlines() if line]
        process.wait(10)
        process.stdout.close()
        found = [
            entry['number']
            for entry in ledger.read(str(path), MIB)
            if entry['host'] == f'compute{round_}'
        ]
        assert found[:20] == list(range(20)) and len(found) >= max(told, default=19)


FULL = """
import resource, sys
from nova_migcheck.aftermath import ledger
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
one = ledger.Ledger(sys.argv[1], 1 << 20, 90)
for number in range(20):
    one.append({'kind': 'decision', 'time': 1764000000, 'host': 'h', 'instance': 'i', 'source': 's', 'target': 't', 'number': number,
                'filled': 'x' * 100})
"""


def test_a_line_of_which_only_a_part_can_be_written_leaves_nothing(path: pathlib.Path) -> None:
    """The kernel writes what fits, and then nothing."""
    done = subprocess.run(
        [sys.executable, '-c', FULL, str(path.parent)],
        cwd=pathlib.Path(__file__).parents[3],
        timeout=60,
    )
    assert done.returncode == 0
    assert len(numbers(path)) == 4 and path.read_bytes().endswith(b'}\n')
    assert [one.name for one in path.parent.iterdir()] == [path.name]


def test_a_rehearsal_of_another_process_is_read_once(path: pathlib.Path) -> None:
    one = made(path)
    assert one.rehearsals('compute1') is None
    line = {
        **ledger.outcome(result(direction='out', ended='failed', error='no'), 'compute1'),
        'kind': 'rehearsal',
        'target': 'compute2',
        'rate': 120 * MIB,
    }
    other = made(path)
    assert other.append(line) and other.append({**line, 'host': 'another'})
    [found] = one.rehearsals('compute1') or []
    assert (found.rehearsal, found.peer, found.ended, found.rate) == (
        True,
        'compute2',
        'failed',
        120 * MIB,
    )
    assert one.rehearsals('compute1') is None and one.pasts('compute1') == []
    other.append(decision())
    assert one.rehearsals('compute1') == [found]
    assert made(path, size=0).rehearsals('compute1') is None
    assert not made(path.parent / 'nowhere' / 'x').append(line)


@pytest.mark.root
def test_a_file_that_root_begins_belongs_to_nova(path: pathlib.Path) -> None:
    """nova-compute has to go on with it."""
    os.chown(path.parent, 4242, 4243)
    made(path).append(decision())
    assert (path.stat().st_uid, path.stat().st_gid) == (4242, 4243)
    for _ in range(20):
        made(path, size=2048).append(decision())
    assert (path.stat().st_uid, path.stat().st_gid) == (4242, 4243)
