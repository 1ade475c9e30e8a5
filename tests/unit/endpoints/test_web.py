# SPDX-License-Identifier: Apache-2.0
"""What an answer says of the server's clock, and what is advised where TLS fails."""

from __future__ import annotations

import email.utils
import ssl

import pytest
import requests

from nova_migcheck.endpoints import remedies, web


@pytest.mark.parametrize(
    'headers', [{}, {'Date': 'yesterday'}, {'Date': email.utils.formatdate(1000), 'Age': '30'}]
)
def test_an_answer_that_tells_no_time(headers) -> None:
    """What a cache has kept has the time of when it was made."""
    assert web._skew(headers, 1000.0) is None


def test_a_clock_that_is_ahead() -> None:
    # A Date is cut to whole seconds, and half a second is the middle of one.
    assert web._skew({'Date': email.utils.formatdate(1007)}, 1000.0) == pytest.approx(7.5)


def test_the_name_to_verify_is_that_of_the_server_where_one_is_given() -> None:
    context = ssl.create_default_context()
    for name, given in (('nova.example', {'server_hostname': 'nova.example'}), ('', {})):
        with web.session(context, name) as made:
            adapter = made.get_adapter('https://10.0.0.5:8774')
            assert isinstance(adapter, requests.adapters.HTTPAdapter)
            words = adapter.poolmanager.connection_pool_kw
        assert words['ssl_context'] is context
        assert {key: words[key] for key in words if key == 'server_hostname'} == given


def test_what_to_do_where_a_file_cannot_be_used() -> None:
    assert remedies._tls('cafile /etc/ssl/ca.pem cannot be used: no certificate').startswith(
        'correct cafile, certfile or keyfile'
    )


def test_without_a_resolver_s_file_no_nameserver_is_named(monkeypatch) -> None:
    def gone(*_args, **_words):
        raise FileNotFoundError
    monkeypatch.setattr('builtins.open', gone)
    assert remedies.nameservers() == ''
