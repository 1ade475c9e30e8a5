# SPDX-License-Identifier: Apache-2.0
"""Each code has a metric, beside its page and its test: tests/unit/test_runbooks.py has those."""

from prometheus_client.parser import text_string_to_metric_families

from nova_migcheck.cli import fleetmetrics
from nova_migcheck.cli.shown import status
from nova_migcheck.finding import Finding, Outcome
from nova_migcheck.judging import matrix
from nova_migcheck.report import published, report
from tests.facts import BUILT_IN
from tests.unit.judging.test_matrix import MIGCHECK, POLICIES
from tests.unit.test_codes import DECLARED

NOW = 1_700_000_000


def test_each_code_has_one():
    """As a host publishes a finding, and as Prometheus reads it."""
    statuses = []
    for number, code in enumerate(DECLARED):
        finding = Finding(code.partition('-')[0], Outcome.FAILURE, 'a', 'b', code=code)
        stats = published.write(report.build(NOW, [finding], {}, BUILT_IN))
        host = matrix.Host(f'compute{number}', 'cell1', stats)
        statuses.append(status(host, (finding.check,), NOW, 300))
    nobody = matrix.build([], POLICIES, MIGCHECK, NOW)
    text = fleetmetrics.text(statuses, (), nobody, NOW)
    counted = {
        sample.labels['code']: sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if sample.name == 'nova_migcheck_hosts_by_code'
    }
    assert counted == dict.fromkeys(DECLARED, 1)
