# SPDX-License-Identifier: Apache-2.0
import hypothesis
import pytest
from hypothesis import strategies as st

from nova_migcheck.finding import MAX_FIELD, MAX_SUBJECTS, Finding, Outcome, without_credentials, worst


def test_dict_and_back():
    finding = Finding('endpoint', Outcome.FAILURE, 'http://a', 'refused', 'nova.conf [placement] auth_url', 'start it', 'volumes')
    assert Finding.from_dict(finding.to_dict()) == finding


def test_json_has_the_contract_s_keys():
    assert list(Finding('a', Outcome.OK).to_dict()) == ['check', 'outcome', 'subject', 'detail', 'origin', 'remedy']


@pytest.mark.parametrize('value', [None, [], 'x', {}, {'check': ''}, {'check': 'a'}, {'check': 'a', 'outcome': 'bad'},
                                   {'check': 'a', 'outcome': 'ok', 'detail': 3}])
def test_what_is_no_finding_is_refused(value):
    with pytest.raises(ValueError):
        Finding.from_dict(value)


def test_a_field_is_bounded_and_printable():
    finding = Finding('a', Outcome.OK, detail='x\x1b[31m\x00y' + 'z' * 5000)
    assert len(finding.detail) == MAX_FIELD
    assert finding.detail.startswith('x [31m y')


@pytest.mark.parametrize('text, clean', [
    ('rabbit://nova:s3cret@10.0.0.1:5672,nova:s3cret@10.0.0.2:5672//', 'rabbit://10.0.0.1:5672,10.0.0.2:5672//'),
    ('http://user:p@ss@host/path', 'http://host/path'),
    ('see https://u:pw@h:1/ and http://v:pw@i', 'see https://h:1/ and http://i'),
    ('http://host/a@b', 'http://host/a@b'),
    ('mail me@example.org', 'mail me@example.org'),
])
def test_urls_lose_their_userinfo(text, clean):
    assert without_credentials(text) == clean
    assert Finding('a', Outcome.OK, subject=text).subject == clean


@hypothesis.given(st.text(alphabet=st.characters(exclude_characters='/?#@, \t\n\r', exclude_categories=('Cs', 'Z', 'C')), min_size=8),
                  st.integers(1, 4))
def test_no_password_survives(password, hosts):
    url = 'rabbit://' + ','.join(f'nova:{password}@10.0.0.{n}:5672' for n in range(hosts)) + '//'
    assert without_credentials(url) == 'rabbit://' + ','.join(f'10.0.0.{n}:5672' for n in range(hosts)) + '//'


def test_worst():
    assert worst([]) is Outcome.OK
    assert worst([Outcome.WARNING, Outcome.UNKNOWN, Outcome.OK]) is Outcome.UNKNOWN
    assert worst([Outcome.UNKNOWN, Outcome.FAILURE]) is Outcome.FAILURE


def test_one_line_names_check_thing_origin_and_remedy():
    text = str(Finding('endpoint', Outcome.FAILURE, 'http://10.0.0.5:8780', 'connection refused', 'keystone catalog', 'start haproxy'))
    assert text == 'endpoint: http://10.0.0.5:8780: connection refused (keystone catalog); start haproxy'


def test_the_list_of_subjects_is_bounded_and_without_credentials() -> None:
    found = Finding('endpoint', Outcome.FAILURE, subjects=tuple(f'http://user:secret@10.0.0.{n % 250}/' + 'x' * 2000 for n in range(500)))
    assert len(found.subjects) == MAX_SUBJECTS and max(map(len, found.subjects)) <= MAX_FIELD and 'secret' not in str(found.to_dict())
    with pytest.raises(ValueError, match='subjects'):
        Finding.from_dict({**found.to_dict(), 'subjects': [{}]})
