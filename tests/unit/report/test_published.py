# SPDX-License-Identifier: Apache-2.0
"""The report's strings: round trip, limits, and whatever else may stand in that field."""
import base64
import dataclasses
import json
import random
import zlib

import hypothesis
import pytest
from hypothesis import strategies as st

from nova_migcheck.cpu import Cpu
from nova_migcheck.cpu.dictionary import NAMES_1
from nova_migcheck.cpu.population import GuestCpus, guest_by_default
from nova_migcheck.finding import Finding, Outcome
from nova_migcheck.report import past, published, report
from nova_migcheck.report.past import Past
from nova_migcheck.report.report import Group, Report
from tests import FUZZ
from tests.facts import BUILT_IN, facts

NAMES = NAMES_1.decode().split()
HOST = Cpu('x86_64', 'kvm', 'Intel', 'Icelake-Server', frozenset(random.Random(1).sample(NAMES, 150)), 2_400_000_000, True, 9_000_000)
SMALLER = dataclasses.replace(HOST, features=HOST.features - set(sorted(HOST.features)[:5]) | {'a-new-one'}, tsc_hz=None)
UUID = '2f0f1c4e-5a4e-4a6e-9d7e-0123456789ab'
FULL = Report(
    1_764_000_000,
    (
        Finding(
            'endpoint',
            Outcome.FAILURE,
            'http://10.0.0.5:8780',
            'refused',
            'keystone catalog',
            'start it',
            'volumes',
        ),
    ),
    HOST,
    dataclasses.replace(HOST, tsc_hz=None),
    (Group(SMALLER, (report.shorten(UUID),)),),
    **facts(
        migration={'host': 'compute1', 'networks': ['10.77.0.0/24'], 'mtu': 9000},
        storage={'type': 'nfs4', 'source': 'nas:/x', 'free_bytes': 7},
    ),
    migrations=tuple(
        Past(
            1_764_000_000 + n,
            'in',
            report.shorten(UUID),
            'compute1.example.org',
            'completed',
            3700,
            63,
            268_435_456,
            'bond1.200',
        )
        for n in range(past.PUBLISHED)
    ),
    rehearsals=(
        Past(
            1_764_000_009,
            'out',
            report.shorten(UUID),
            'compute2.example.org',
            'completed',
            812,
            7,
            447_258,
            'bond1.200',
            rate=118 << 20,
            rehearsal=True,
        ),
    ),
)


def kind(texts):
    return texts[published.MAIN][published.KIND]


def packed(common, names=NAMES_1):
    deflate = zlib.compressobj(9, zdict=names)
    return base64.b64encode(deflate.compress(common) + deflate.flush()).decode()


def of(common, own='{}', summary='-'):
    """Anything, under the right digest."""
    return {published.MAIN: f'1 1764000000 {published._kind(summary, common)}:{summary} {common} {own}'}


def test_round_trip():
    assert published.read(published.write(FULL)) == FULL


def test_a_real_host_s_report_is_small():
    texts = published.write(FULL)
    assert sum(len(k) + len(v) for k, v in texts.items()) <= 1536
    assert all(text.isascii() for text in texts.values())


def test_hosts_of_a_kind_have_the_same_cpu_and_site():
    other = dataclasses.replace(FULL, time=1, findings=(), cpu=dataclasses.replace(HOST, tsc_hz=2_400_001_000),
                                own={'migration': {'host': 'compute2'}, 'storage': {'free_bytes': 9}})
    one, two = published.write(FULL), published.write(other)
    assert published.common(one) == published.common(two)
    assert kind(one) != kind(two), 'one has a finding'
    assert kind(two) == kind(published.write(dataclasses.replace(FULL, findings=())))
    assert published.read(two).cpu.tsc_hz == 2_400_001_000


@pytest.mark.parametrize('changes', [
    {'cpu': None}, {'cpu': SMALLER}, {'common': {}}, {'common': {'migration': {'mtu': 1500}}}, {'findings': ()},
    {'findings': (dataclasses.replace(FULL.findings[0], scope=''),)},
])
def test_the_kind_is_all_that_a_decision_rests_on(changes):
    texts, other = published.write(FULL), published.write(dataclasses.replace(FULL, **changes))
    assert kind(texts) != kind(other)
    main = texts[published.MAIN]
    with pytest.raises(published.Unreadable, match='kind'):
        published.read({published.MAIN: main.replace(kind(texts), kind(other))})
    with pytest.raises(published.Unreadable, match='kind'):
        published.read_common(main.replace(kind(texts), kind(other)))


def test_what_a_kind_has_in_common():
    report, site = published.read_common(published.write(FULL)[published.MAIN])
    assert [(f.check, f.outcome, f.scope) for f in report.findings] == [('endpoint', Outcome.FAILURE, 'volumes')]
    assert all(published.is_bare(f) for f in report.findings)
    assert report.cpu == dataclasses.replace(HOST, tsc_hz=None)
    assert report.fact('migration') == {'networks': ['10.77.0.0/24'], 'mtu': 9000}
    assert site == published.site(FULL)
    assert published.read_findings(published.write(FULL)[published.MAIN]) == FULL.findings


@pytest.mark.parametrize('hz', [None, 2_400_000_000])
def test_the_frequency_is_found_without_reading_the_rest(hz):
    """Whatever the findings say: what looks like it in a text is none."""
    texts = ("'tsc_hz':1,", '"tsc_hz":2}', ",'tsc_hz':3,", '\\"tsc_hz\\":4,')
    findings = tuple(dataclasses.replace(FULL.findings[0], subject=text, detail='{' + text) for text in texts)
    report = dataclasses.replace(FULL, findings=findings, cpu=dataclasses.replace(HOST, tsc_hz=hz))
    assert published.tsc_hz(published.write(report)[published.MAIN]) == hz
    assert published.tsc_hz('1 1764000000 nothing') is None


def test_almost_no_quote_has_to_be_escaped_in_the_column():
    texts = published.write(FULL)
    assert len(json.dumps(texts)) <= sum(len(k) + len(v) for k, v in texts.items()) + 8
    quoted = dataclasses.replace(FULL, findings=(dataclasses.replace(FULL.findings[0], detail='it\'s "so"\\\0'),))
    assert published.read(published.write(quoted)).findings[0].detail == 'it\'s "so"\\ '


def test_past_migrations_are_the_first_to_go():
    much = dataclasses.replace(FULL, findings=tuple(Finding('x', Outcome.FAILURE, f'{n}', 'd' * 575) for n in range(11)))
    back = published.read(published.write(much))
    assert (
        back.dropped == ('migrations',)
        and back.migrations == ()
        and back.rehearsals == ()
        and back.findings == much.findings
    )


def test_past_migrations_of_a_later_version_are_read_as_far_as_they_make_sense():
    texts = published.write(FULL)
    main = texts[published.MAIN].replace("'bond1.200','']", "'bond1.200','','more']", 1).replace("'completed'", "'beamed'", 1)
    back = published.read({**texts, published.MAIN: main})
    assert len(back.migrations) == len(FULL.migrations) - 1 and back.findings == FULL.findings


def test_no_report_is_none():
    assert published.read(None) is None
    assert published.read({}) is None
    assert published.read({'uptime': 'up 3 days'}) is None


@pytest.mark.parametrize('stats', [
    {'migcheck': 3}, {'migcheck': ''}, {'migcheck': '2 1764000000 - {}'}, {'migcheck': '1 17640000 - {}'}, {'migcheck': '1 1764000000 - {'},
    of('-', '[]'), of('-', "{'f': 3}"), of('-', "{'f': [{}]}"), of('-', "{'f': []}", 'endpoint=failure'),
    of('-', "{'guests': [[{'arch': 'x', 'virt': 'y', '+': '', '-': ''}, 'a']]}"), of('-', "{'default': 7}"), of('-', "{'counted': 'x'}"),
    {'migcheck': of('-')['migcheck'].replace('1764000000', '١٧٦٤٠٠٠٠٠٠')}, {'migcheck': of('-')['migcheck'].replace('0 ', '0x', 1)},
    of('!!!'), of('AAAA'), of(packed(b'')), of(packed(b'\xff\n{}')), of(packed(b'\n[1]')), of(packed(b'\n{"migration": 3}')),
    of(packed(b'{"arch": 3}\n{}')), of('-', '[' * 8000), {'migcheck': 'x' * 10_000_000},
])
def test_what_cannot_be_read_says_so(stats):
    with pytest.raises(published.Unreadable):
        published.read(stats)


def test_a_cpu_that_inflates_without_end_is_refused():
    bomb = packed(b' ' * 5_000_000)
    assert len(bomb) < published.MAX_BYTES
    with pytest.raises(published.Unreadable, match='larger than'):
        published.read(of(bomb))


def test_another_dictionary_is_refused_not_misread():
    """The dictionary of format 1 is frozen: this is the text that the first release wrote."""
    assert zlib.crc32(NAMES_1) == 52146861
    common = json.dumps(HOST.to_dict()).encode() + b'\n{}'
    assert published.read(of(packed(common))).cpu == HOST
    with pytest.raises(published.Unreadable, match='zdict'):
        published.read(of(packed(common, NAMES_1[:-1])))


COMMON = published.common(published.write(FULL))
json_values = st.recursive(st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=30),
                           lambda c: st.lists(c, max_size=4) | st.dictionaries(st.text(max_size=8), c, max_size=4), max_leaves=12)
texts = st.one_of(
    st.text(max_size=200), st.none(), st.integers(), st.binary(max_size=50), json_values,
    st.builds(lambda head, rest: f'1 1764000000 {head} {json.dumps(rest)}', st.text(max_size=10), json_values),
    st.builds(lambda key, rest: of(COMMON, published._exchange_quotes(json.dumps({key: rest})))[published.MAIN],
              st.sampled_from(['f', 'guests', 'default', 'migration', 'storage', 'dropped', 'tsc_hz', 'past']), json_values),
    st.builds(lambda cpu, rest: of(packed(f'{json.dumps(cpu)}\n{json.dumps(rest)}'.encode()))[published.MAIN], json_values, json_values),
    st.builds(lambda summary: of(COMMON, summary=summary)[published.MAIN], st.text(max_size=20)),
    st.sampled_from(list(published.write(FULL).values())).flatmap(
        lambda text: st.integers(0, len(text)).map(lambda cut: text[:cut])),
    st.sampled_from(list(published.write(FULL).values())).flatmap(
        lambda text: st.tuples(st.integers(0, len(text) - 1), st.characters()).map(lambda x: text[:x[0]] + x[1] + text[x[0] + 1:])),
    st.just('1 1764000000 ' + 'x' * 3_000_000))


@hypothesis.settings(max_examples=300 * FUZZ, deadline=None)
@hypothesis.given(st.fixed_dictionaries({}, optional=dict.fromkeys(published.KEYS, texts)) | json_values)
def test_a_reader_survives_anything(stats):
    try:
        read = published.read(stats)
    except published.Unreadable:
        return
    assert read is None or isinstance(read, Report)
    if read is not None:
        assert sum(len(k) + len(v) for k, v in published.write(read).items()) <= published.MAX_BYTES
        published.read_common(stats[published.MAIN])
        published.read_findings(stats[published.MAIN])


findings = st.lists(st.builds(Finding, check=st.text(min_size=1, max_size=40), outcome=st.sampled_from(Outcome),
                              subject=st.text(max_size=2000), detail=st.text(max_size=2000), origin=st.text(max_size=2000),
                              remedy=st.text(max_size=2000),
                              scope=st.text(max_size=20)), max_size=30)


@hypothesis.settings(max_examples=150 * FUZZ, deadline=None)
@hypothesis.given(findings, json_values, json_values)
def test_whatever_checks_yield_fits_and_reads_back(found, fact, other):
    built = report.build(1_764_000_000, found, {'cpu': fact, 'guests': other, 'migration': {'x': fact}, 'storage': other}, BUILT_IN)
    texts = published.write(built)
    assert sum(len(k) + len(v.encode()) for k, v in texts.items()) <= published.MAX_BYTES
    back = published.read(texts)
    assert back.summary == built.summary or 'all' in back.dropped or 'summary' in back.dropped
    assert published.read_findings(texts[published.MAIN]) == back.findings


@pytest.mark.parametrize('values', [{}, {'groups': FULL.groups}, {'common': FULL.common}, {'own': FULL.own}, {'cpu': HOST},
                                   {'migrations': FULL.migrations}, {'dropped': ('texts',), 'counted': 1, 'default_guest': SMALLER}])
def test_findings_are_found_without_reading_the_rest(values):
    """Whatever stands beside them, and whatever they say: what looks like an end in a text is none."""
    says = ("],'guests':", '],"guests":', "'f':[{", '"f":[{', "],'tsc_hz':1}", '}]}', "\\'],\"past\":", '\\')
    for found in ((), tuple(Finding('cpu', Outcome.FAILURE, text, '{' + text) for text in says)):
        found += tuple(Finding('cpu', Outcome.WARNING, 'x', 'y', scope=text) for text in ("'f':[{", "],'past':"))
        main = published.write(Report(1_764_000_000, found, **values))[published.MAIN]
        assert published.read_findings(main) == published.read({published.MAIN: main}).findings == found


def test_ten_thousand_findings_keep_the_decision():
    many = [Finding(f'check{n % 7}', Outcome.FAILURE, f'thing {n}', 'd' * 900, 'o' * 900, 'r' * 900) for n in range(10_000)]
    built = report.build(1_764_000_000, many, {'cpu': HOST.to_dict()}, BUILT_IN)
    texts = published.write(built)
    assert sum(len(k) + len(v) for k, v in texts.items()) <= published.MAX_BYTES
    back = published.read(texts)
    assert {f.check for f in back.findings if f.outcome is Outcome.FAILURE} == {f'check{n}' for n in range(7)}
    assert back.cpu == HOST


def test_guests_that_do_not_fit_are_unknown_not_default():
    groups = tuple(Group(dataclasses.replace(SMALLER, features=SMALLER.features - {name}), tuple(f'{n:012x}' for n in range(40)))
                   for name in sorted(SMALLER.features)[:40])
    back = published.read(published.write(dataclasses.replace(FULL, groups=groups)))
    assert 'guests' in back.dropped
    assert back.guest(UUID) is None


def test_guest():
    assert FULL.guest(UUID) == SMALLER
    assert FULL.guest('aaaaaaaa-0000-0000-0000-000000000000') == FULL.default_guest
    assert dataclasses.replace(FULL, default_guest=None).guest('aaaaaaaa-0000-0000-0000-000000000000') == guest_by_default(HOST)
    assert dataclasses.replace(FULL, cpu=None, default_guest=None).guest('aaaaaaaa-0000-0000-0000-000000000000') is None


SPELLING = dataclasses.replace(HOST, spelled=frozenset({'EPYC-v4', 'fred'}), cpu_map='ac47ffaab720')


def test_the_names_in_a_guest_s_definition_cost_nothing_where_they_are_the_host_s():
    alike = guest_by_default(SPELLING)
    less = dataclasses.replace(alike, features=alike.features - {'avx'})
    groups = {
        'same names': less,
        'none': dataclasses.replace(less, spelled=frozenset()),
        'others': dataclasses.replace(less, spelled=frozenset({'lam'})),
    }
    written = {}
    for name, cpu in groups.items():
        said = dataclasses.replace(
            FULL, cpu=SPELLING, default_guest=None, groups=(Group(cpu, (report.shorten(UUID),)),)
        )
        written[name] = published.write(said)[published.MAIN]
        assert published.read({published.MAIN: written[name]}) == said
        assert published.read({published.MAIN: written[name]}).guest(UUID) == cpu
    assert 'spelled' not in written['same names']
    assert len(written['others']) - len(written['same names']) == len(",'spelled':'lam'")
    # All hosts whose libvirt knows the same, and whose CPUs are alike, are of one kind.
    assert kind({published.MAIN: written['none']}) == kind({published.MAIN: written['others']})
    assert kind(published.write(dataclasses.replace(FULL, cpu=SPELLING))) != kind(
        published.write(
            dataclasses.replace(FULL, cpu=dataclasses.replace(SPELLING, cpu_map='d5d1ca76fa15'))
        )
    )


def test_a_report_of_the_version_before_knows_no_names():
    """Nor has its reader to: what it does not know in a CPU it passes over."""
    texts = published.write(FULL)
    assert (
        'spelled' not in texts[published.MAIN]
        and published.read(texts).guest(UUID).spelled == frozenset()
    )
    assert published.read(texts).cpu.cpu_map is None
    more = published.write(
        dataclasses.replace(
            FULL,
            groups=(
                Group(
                    dataclasses.replace(SMALLER, spelled=frozenset({'lam'})),
                    (report.shorten(UUID),),
                ),
            ),
        )
    )
    newer = more[published.MAIN].replace("'spelled':'lam'", "'a-new-key':['lam']")
    assert newer != more[published.MAIN]
    assert published.read({published.MAIN: newer}).guest(UUID) == SMALLER


def test_the_guests_of_the_cpu_check():
    other = dataclasses.replace(SMALLER, model='Haswell')
    gathered = GuestCpus.gather(
        HOST,
        {
            UUID: other,
            UUID.replace('2f', '3f'): None,
            UUID.replace('2f', '4f'): guest_by_default(HOST),
        },
    )
    built = report.build(
        1_764_000_000, [], {'cpu': HOST.to_dict(), 'guests': gathered.to_dict(HOST)}, BUILT_IN
    )
    back = published.read(published.write(built))
    assert back.guest(UUID) == other
    assert back.guest(UUID.replace('2f', '3f')) is None
    assert back.guest(UUID.replace('2f', '4f')) == guest_by_default(HOST)
    assert back.findings == ()


@pytest.mark.parametrize(
    'broken',
    [
        lambda main: main.replace('endpoint/volumes=failure', '-'),
        lambda main: main.replace("'f':[{", "'f':[{'check':'cpu','outcome':'failure'},{"),
    ],
)
def test_a_host_that_does_not_say_what_its_kind_says_is_not_believed(broken):
    texts = published.write(FULL)
    assert broken(texts[published.MAIN]) != texts[published.MAIN]
    with pytest.raises(published.Unreadable):
        published.read({**texts, published.MAIN: broken(texts[published.MAIN])})


def test_what_is_compared_is_taken_from_the_part_that_the_kind_is_made_of():
    texts = published.write(FULL)
    lying = texts[published.MAIN].replace("'migration':{", "'migration':{'mtu':576,")
    assert lying != texts[published.MAIN]
    assert published.read({**texts, published.MAIN: lying}).fact('migration')['mtu'] == 9000


def test_where_the_time_and_the_kind_are():
    text = published.write(FULL)[published.MAIN]
    assert published.is_dated(text) and int(text[2:12]) == FULL.time and text[published.SPACE] == ' '
    assert len(text[published.KIND]) == 16 and set(text[published.KIND]) <= set('0123456789abcdef')
    assert text[29] == ':'
    assert not published.is_dated('2' + text[1:]) and not published.is_dated(text[:12] + 'x' + text[13:])


def test_of_too_many_rehearsals_the_bad_ones_are_published():
    """The last of each way; a migration is no rehearsal."""
    def rehearsal(number, **values):
        return Past(
            number, 'out', 'a', f'compute{number % 20}', 'completed', rehearsal=True, **values
        )

    bad = dataclasses.replace(rehearsal(2), ended='failed')
    pasts = [*map(rehearsal, (0, 1)), bad, *map(rehearsal, range(3, 12)),
             Past(12, 'in', 'a', 'compute1', 'completed'), rehearsal(21)]
    kept = past.rehearsals_to_publish(pasts)
    assert [one.time for one in kept] == [2, 8, 9, 10, 11, 21] and kept[0] is bad
    assert [one.time for one in past.to_publish(pasts)] == [12]


def test_a_rehearsal_counts_beside_migrations_and_says_so():
    """Three that failed are a warning, and one that arrives takes it away."""
    failed = [Past(1000 + n, 'out', 'a', 'compute2', 'failed', rehearsal=bool(n)) for n in range(3)]
    [warning] = past.warn(failed, past.OUT, 'compute2', 1010)
    assert 'rehearsal to compute2 failed' in warning.detail
    arrived = Past(1003, 'out', 'a', 'compute2', 'completed', rehearsal=True)
    assert past.warn([*failed, arrived], past.OUT, 'compute2', 1010) == []
