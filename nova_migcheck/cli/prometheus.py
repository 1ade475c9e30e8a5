# SPDX-License-Identifier: Apache-2.0
"""Write a round of checks in Prometheus' text format, for node_exporter's textfile collector."""

from __future__ import annotations

from typing import Iterable, Iterator, Mapping, Optional, Sequence

from prometheus_client import CollectorRegistry, core, generate_latest
from prometheus_client.registry import Collector

from nova_migcheck.aftermath.tally import Tally
from nova_migcheck.cli.listing import write as write_file
from nova_migcheck.finding import Outcome, worst
from nova_migcheck.rounds.runner import Round

Samples = Iterable[tuple[Mapping[str, str], float]]


def write(path: str, outcome: Round, checks: Sequence[str], tally: Optional[Tally] = None) -> None:
    """Replace ``path`` in one step, so that no reader sees half of it.

    :param checks: the checks that ran, also those without a finding
    :param tally: nova-compute's counters, None if there are none
    :raises ValueError: when the file cannot be written
    """
    write_file(path, text(outcome, checks, tally), durable=True)


def text(outcome: Round, checks: Sequence[str], tally: Optional[Tally] = None) -> str:
    """Return the metrics.

    The age of the last round is ``time() - nova_migcheck_round_timestamp_seconds``.
    """
    return exposed([*_checks(outcome, checks), *(_migrations(tally) if tally is not None else ())])


def exposed(metrics: Sequence[core.Metric]) -> str:
    """Return metrics in Prometheus' text format."""
    class Made(Collector):
        def collect(self) -> Iterable[core.Metric]:
            return metrics
    registry = CollectorRegistry()
    registry.register(Made())
    return str(generate_latest(registry), 'utf-8')


def gauge(name: str, meaning: str, samples: Samples) -> core.Metric:
    """Return a metric whose values go up and down.

    :param name: without the prefix ``nova_migcheck_``
    :param samples: the labels and the value of each
    """
    return _filled(core.GaugeMetricFamily(f'nova_migcheck_{name}', meaning), '', samples)


def _counter(name: str, meaning: str, samples: Samples) -> core.Metric:
    metric = core.CounterMetricFamily(f'nova_migcheck_{name}', meaning)
    return _filled(metric, '_total', samples)


def _filled(metric: core.Metric, suffix: str, samples: Samples) -> core.Metric:
    for labels, value in samples:
        # A report of a host may have half of a surrogate pair, which no UTF-8 has.
        encodable = {key: text.encode(errors='replace').decode() for key, text in labels.items()}
        metric.add_sample(metric.name + suffix, encodable, value)
    return metric


def _checks(outcome: Round, checks: Sequence[str]) -> Iterator[core.Metric]:
    outcomes: dict[str, list[Outcome]] = {check: [] for check in checks}
    # A check may report under a second name: the endpoint check also reports the clock.
    for finding in outcome.findings:
        outcomes.setdefault(finding.check, []).append(finding.outcome)
    each = [(check, of_check, {'check': check, 'outcome': str(one)}, one)
            for check, of_check in outcomes.items() for one in Outcome]
    yield gauge('check', 'Whether the check has this outcome now (1) or not (0).',
                [(labels, one is worst(of_check)) for _, of_check, labels, one in each])
    yield gauge('findings', 'Number of findings of the check, by outcome.',
                [(labels, of_check.count(one)) for _, of_check, labels, one in each])
    yield gauge('check_cpu_seconds', 'CPU time of each check that finished.',
                [({'check': check}, seconds) for check, seconds in outcome.cpu_seconds.items()])
    yield gauge('round_seconds', 'Duration of the last round of checks.',
                [({}, round(outcome.seconds, 3))])
    yield gauge('round_timestamp_seconds', 'When the last round of checks began.',
                [({}, round(outcome.started, 3))])


def _migrations(tally: Tally) -> Iterator[core.Metric]:
    ended = {tuple(key.split()): count for key, count in sorted(tally.ended.items())}
    yield _counter('migrations', 'Live migrations that ended, since nova-compute started.', [
        ({'direction': direction, 'result': end}, count)
        for (direction, end), count in ended.items()])
    for suffix, meaning, count, total in (
            ('seconds', 'Duration of incoming live migrations, according to libvirt.',
             tally.timed, tally.seconds),
            ('downtime_seconds', 'Downtime of their guests, according to libvirt.',
             tally.stopped, tally.downtime)):
        yield core.SummaryMetricFamily(f'nova_migcheck_migration_{suffix}', meaning,
                                       count_value=count, sum_value=round(total, 3))
    for suffix, meaning, value in (
            ('bytes', 'Bytes of incoming live migrations, according to libvirt.', tally.data),
            ('stray_bytes', 'Minimum of these that arrived on an interface that was not intended.',
             tally.stray),
            ('strayed', 'Incoming live migrations of which a large part did.', tally.strayed)):
        yield _counter(f'migration_{suffix}', meaning, [({}, value)])
    yield gauge('migrations_since_timestamp_seconds', 'When nova-compute began to count.',
                [({}, round(tally.since))])
