# SPDX-License-Identifier: Apache-2.0
"""Whatever stands where a report should: it raises nothing, in the scheduler nor on a compute, and harms its own host only."""

from __future__ import annotations

import base64
import functools
import time
import types
import zlib

import hypothesis
import pytest
from hypothesis import strategies as st
from nova import exception, objects

from nova_migcheck.cpu.dictionary import NAMES_1
from nova_migcheck.finding import Finding, Outcome
from nova_migcheck.report import published, report
from nova_migcheck.scheduler import MigrationTargetFilter
from tests.facts import BUILT_IN
from tests.functional.conftest import HOSTS
from tests.functional.hypervisor import Cpu

SETTINGS = hypothesis.settings(
    max_examples=150, deadline=None, derandomize=True, database=None,
    suppress_health_check=[hypothesis.HealthCheck.function_scoped_fixture, hypothesis.HealthCheck.too_slow])

CPU = {'arch': 'x86_64', 'virt': 'kvm', 'vendor': 'Intel', 'model': 'Haswell', 'features': ' '.join(sorted(Cpu().features))}
WELL = published.write(report.build(1_700_000_000, [], {'cpu': CPU, 'migration': {'networks': ['10.77.0.0/24'], 'mtu': 9000}}, BUILT_IN))
FAILED = published.write(report.build(1_700_000_000, [Finding('endpoint', Outcome.FAILURE, 'x', 'refused')], {'cpu': CPU}, BUILT_IN))


def dated(texts, when):
    main = texts[published.MAIN]
    return {**texts, published.MAIN: f'{main[:2]}{int(when):010d}{main[12:]}'}


def deflated(data):
    deflate = zlib.compressobj(9, zdict=NAMES_1)
    return base64.b64encode(deflate.compress(data) + deflate.flush()).decode()


def of(own, common='-', summary='-'):
    """Anything, as new as a report can be and under the right digest: it is read to its end."""
    return f'1 {int(time.time()):010d} {published._kind(summary, common)}:{summary} {common} {own}'


# Values that the column can give back: strings and nothing else; and values that only a hostile driver could hand over.
BOMB = deflated(b'{"arch":"' + b'x' * 5_000_000 + b'"}\n{}')
NASTY = [
    '', ' ', '1', '1 ', '2 1764000000 - {}', '1 1764000000', '1 1764000000 - ', '1 1764000000 - []', '1 1764000000 - null',
    '1 1764000000 - {"f": 1}', '1 1764000000 - {"f": [1]}', '1 1764000000 - {"f": [{"check": {}, "outcome": []}]}',
    '1 1764000000 - {"f": {"a": "b"}}', '1 1764000000 - {"default": 7}', '1 1764000000 - {"guests": [[{}, ""]]}',
    '1 1764000000 - {"migration": 5}', '1 1764000000 - {"tsc_hz": 1e400}', '1 1764000000 - {"tsc_hz": NaN}',
    '1 1764000000 - ' + '[' * 5000, '1 ٠١٢٣٤٥٦٧٨٩ - {}', '1 9999999999 - {}', '1 0000000000 - {}', '1 -000000001 - {}',
    '1 1764000000 endpoint=failure {}', 'x' * 1_000_000, '1 1764000000 - {"a":"' + 'x' * 1_000_000 + '"}', '\x00', '\ud800',
    '1 1764000000 - {"dropped": [["guests"]]}', of('{}', BOMB), of('{}', 'AAAA'), of('{}', '!'), of('{}', 'A' * 8000),
    of('{}', deflated(b'7')), of('{}', deflated(b'\n[]')), of('{}', deflated(b'{}\n{}')),
    of('{}', deflated(b'\n{"migration": 5, "storage": [1]}')), of('['),
    of('[]'), of('null'), of('[' * 5000), of("{'f': 1}"), of("{'f': [{'check': {}, 'outcome': []}]}"), of("{'default': 7}"),
    of("{'guests': [[{}, '']]}"),
    of("{'migration': 5}"), of("{'tsc_hz': 1e400}"), of("{'dropped': 3}"), of('{}', summary='endpoint=failure'), of('{}', summary='=,=/'),
]
TEXTS = st.one_of(
    st.none(), st.sampled_from(NASTY), st.text(max_size=300),
    # A true report, cut or with something changed in it.
    st.builds(lambda text, at: text[:at], st.sampled_from([*WELL.values(), *FAILED.values()]), st.integers(0, 400)),
    st.builds(lambda text, at, put: text[:at] + put + text[at + len(put):], st.sampled_from([*WELL.values(), *FAILED.values()]),
              st.integers(0, 400), st.text(max_size=5)))
ODD = st.one_of(st.integers(), st.binary(max_size=20), st.lists(st.integers(), max_size=3),
                st.dictionaries(st.text(), st.text(), max_size=2))
HOSTILE = st.one_of(
    st.fixed_dictionaries({}, optional={key: st.one_of(TEXTS, ODD) for key in published.KEYS}), st.none(), ODD,
    # Right in one key, wrong in another.
    st.builds(lambda key, text: {**WELL, key: text}, st.sampled_from(published.KEYS), TEXTS))


@pytest.fixture(scope='class')
def server(shared_cloud):
    return shared_cloud.boot('compute1')


@pytest.fixture(scope='class')
def request_spec(shared_cloud, server):
    """As the conductor asks for a live migration of ``server``."""
    with shared_cloud.cell() as context:
        instance = shared_cloud.instance(server)
        objects.Migration(context, instance_uuid=server, source_compute='compute1', source_node='compute1', status='accepted',
                          migration_type='live-migration', old_instance_type_id=instance.instance_type_id,
                          new_instance_type_id=instance.instance_type_id).create()
        spec = objects.RequestSpec.get_by_instance_uuid(context, server)
    spec.ignore_hosts = ['compute1']
    spec.requested_destination = objects.Destination(cell=shared_cloud.nova.cell_mappings['cell1'])
    return spec


@pytest.fixture(scope='class')
def passed(request_spec):
    """The names of the hosts that the filter lets pass, given name -> stats."""
    target_filter = MigrationTargetFilter()

    def passed(hosts):
        states = [types.SimpleNamespace(host=name, nodename=name, stats=stats) for name, stats in hosts.items()]
        try:
            return {state.host for state in target_filter.filter_all(states, request_spec)}
        except exception.NoValidHost:
            return set()
    return passed


class TestHostileReports:
    def test_the_filter_tells_a_well_host_from_a_failed_one(self, passed):
        now = time.time()
        assert passed({'well': dated(WELL, now), 'failed': dated(FAILED, now)}) == {'well'}

    @SETTINGS
    @hypothesis.given(stats=HOSTILE, first=st.booleans())
    def test_the_filter(self, passed, stats, first):
        now = time.time()
        others = {'well': dated(WELL, now), 'failed': dated(FAILED, now)}
        hosts = {'hostile': stats, **others} if first else {**others, 'hostile': stats}
        # Nothing of it tells on the others, and what cannot be read counts as no report, which rejects nothing.
        assert passed(hosts) - {'hostile'} == {'well'}

    def test_the_filter_logs_no_error_of_its_own(self, shared_cloud):
        """After all that: each example was judged, not given up on."""
        assert not shared_cloud.log.lines('ERROR', 'nova_migcheck')

    @SETTINGS
    @hypothesis.given(stats=HOSTILE)
    def test_the_hook_on_the_destination(self, shared_cloud, server, stats):
        instance = self._instance(shared_cloud, server)
        node = {'stats': stats, 'cpu_info': '', 'free_disk_gb': 100, 'disk_available_least': 100}
        with shared_cloud.cell() as context:
            answer = self._hook(shared_cloud, 'compute2').destination.decide(context, instance, node)
        assert answer is None or answer.compatible

    @SETTINGS
    @hypothesis.given(node=ODD)
    def test_the_hook_on_the_destination_without_a_node(self, shared_cloud, server, node):
        with shared_cloud.cell() as context:
            assert self._hook(shared_cloud, 'compute2').destination.decide(context, self._instance(shared_cloud, server), node) is None

    @SETTINGS
    @hypothesis.given(texts=st.fixed_dictionaries({}, optional=dict.fromkeys(published.KEYS, TEXTS)))
    def test_the_hook_on_the_source(self, shared_cloud, server, texts):
        """It reads the target's report from the database, where it can only be strings."""
        node = objects.ComputeNode(host='compute2', stats=texts)
        hook = self._hook(shared_cloud, 'compute1')
        data = objects.LibvirtLiveMigrateData()
        self._hook(shared_cloud, 'compute2').destination.tell_source(data)
        with shared_cloud.cell() as context, pytest.MonkeyPatch.context() as patched:
            patched.setattr(objects.ComputeNode, 'get_first_node_by_host_for_old_compat', lambda *args, **kwargs: node)
            patched.setattr(hook.source, '_check_path', lambda *args: [])
            decide = hook.source.begin(context, self._instance(shared_cloud, server), data)
            assert decide is not None
            decide()

    def test_a_whole_live_migration(self, shared_cloud):
        texts = ['1 1764000000 - {', 'x' * 60_000, '9 {}', '\x00', '1 1764000000 -:- {}']
        for host, text in zip(HOSTS, texts):
            shared_cloud.set_stats(host, dict.fromkeys(published.KEYS, text))
        server = shared_cloud.boot('compute1')
        assert shared_cloud.live_migrate(server).status == 'completed'

    @staticmethod
    def _hook(cloud, host):
        return cloud.hosts[host].driver._migcheck

    @staticmethod
    @functools.lru_cache(maxsize=1)
    def _instance(cloud, server):
        with cloud.cell() as context:
            return objects.Instance.get_by_uuid(context, server, expected_attrs=['flavor', 'system_metadata'])
