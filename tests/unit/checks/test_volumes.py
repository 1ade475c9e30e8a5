# SPDX-License-Identifier: Apache-2.0
"""The checks of volumes: what each finding says, and that the nearest healthy case has none (V1 to
V4).
"""

from __future__ import annotations

import contextlib
import json
import pathlib
import socket
import xml.etree.ElementTree as ElementTree
from typing import Any, Iterator

import pytest

from nova_migcheck.checks.attachments import AttachmentsCheck
from nova_migcheck.checks.base import Arrival, Check, Settings
from nova_migcheck.checks.registry import Registry
from nova_migcheck.checks.volumes import VolumesCheck
from nova_migcheck.finding import Outcome
from nova_migcheck.volumes import attached, connector

REGISTRY = Registry([VolumesCheck, AttachmentsCheck])
SECRET, VOLUME = '5c1f8a2e-0000-4000-8000-000000000001', '0a6de5b2-0000-4000-8000-00000000000a'
GUEST = f"""<domain><devices>
<disk type='network'><auth username='cinder'><secret type='ceph' uuid='{SECRET}'/></auth>
<source protocol='rbd' name='volumes/x'/><target dev='vda'/><serial>{VOLUME}</serial></disk></devices></domain>"""
PLAIN = "<domain><devices><disk type='file'><target dev='vda'/><serial>mine</serial></disk></devices></domain>"


def needs(xml: str) -> str:
    return REGISTRY.needs(ElementTree.fromstring(xml))


def test_needs() -> None:
    assert json.loads(needs(GUEST)) == {'attachments': 1, 'volumes': {f'UUID {SECRET}': 'vda'}}
    assert json.loads(needs(PLAIN)) == {}


@pytest.mark.parametrize(
    'offered, words',
    [
        ({'set': [], 'empty': []}, ('is not defined', 'volumes-secret-missing')),
        ({'set': [], 'empty': [f'UUID {SECRET}']}, ('has no value', 'volumes-secret-empty')),
    ],
)
def test_v1(offered: dict[str, Any], words: tuple[str, str]) -> None:
    (found,) = REGISTRY.compare(needs(GUEST), {'secrets': offered})
    assert found.outcome is Outcome.FAILURE and found.code == words[1] and found.remedy
    assert SECRET in found.detail and 'vda' in found.detail and words[0] in found.detail


@pytest.mark.parametrize('target', [{'secrets': {'set': [f'UUID {SECRET}'], 'empty': []}}, {}])
def test_v1_that_fits_or_is_not_told(target: dict[str, Any]) -> None:
    assert REGISTRY.compare(needs(GUEST), target) == []


def test_v1_that_the_source_lacks_too() -> None:
    """Nova will write another, as Cinder names it now; where the source has it, the target lacks
    it.
    """
    nothing: dict[str, Any] = {'secrets': {'set': [], 'empty': []}}
    here = {'secrets': {'set': [f'UUID {SECRET}'], 'empty': []}}
    assert REGISTRY.compare(needs(GUEST), nothing, nothing) == []
    assert len(REGISTRY.compare(needs(GUEST), nothing, here)) == 1


def test_a_secret_of_chap_is_nova_s_own() -> None:
    assert json.loads(needs(GUEST.replace("type='ceph'", "type='iscsi'"))) == {'attachments': 1}


def test_v1_hostile_facts_are_unknown() -> None:
    (found,) = REGISTRY.compare(needs(GUEST), {'secrets': {'set': 7}})
    assert found.outcome is Outcome.UNKNOWN


class Nothing:
    """A libvirt without a domain."""

    def lookupByUUIDString(self, uuid: str) -> Any:
        error = RuntimeError('Domain not found')
        error.get_error_code = lambda: 42  # type: ignore[attr-defined]
        raise error

    lookupByName = lookupByUUIDString


def test_v4(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from nova_migcheck.storage import mounts

    monkeypatch.setattr(mounts, 'read', lambda: [mounts.Mount(1, 1, '/', '/', 'xfs', 'x')])
    monkeypatch.setattr(mounts, 'serves_nfs', lambda: False)
    server = Arrival(VOLUME, 'instance-0000002a', str(tmp_path / VOLUME))
    assert REGISTRY.arrives(server, Nothing()) == []
    (tmp_path / VOLUME).mkdir()
    (found,) = REGISTRY.arrives(server, Nothing())
    assert (found.outcome, found.code) == (Outcome.FAILURE, 'volumes-directory-left')
    assert str(tmp_path / VOLUME) in found.detail and found.remedy


def test_a_libvirt_that_breaks_is_unknown() -> None:
    (found,) = REGISTRY.arrives(Arrival(VOLUME, 'x', '/nowhere'), object())
    assert (found.outcome, found.code) == (Outcome.UNKNOWN, 'comparison-broken')


def test_only_checks_that_look_are_asked() -> None:
    class Other(Check):
        NAME = 'other'

        def run(self, settings: Settings) -> Iterator[Any]:
            return iter(())

    assert Registry([Other]).arriving == {}


@contextlib.contextmanager
def portal() -> Iterator[str]:
    with socket.socket() as server:
        server.bind(('127.0.0.1', 0))
        server.listen()
        yield f'127.0.0.1:{server.getsockname()[1]}'


def look(*portals: str, driver: str = 'iscsi', info: str = '') -> list[Any]:
    text = info or json.dumps(
        {
            'driver_volume_type': driver,
            'data': {'target_portals': portals, 'auth_password': 'MARKED'},
        }
    )
    settings = Settings(timeout=2, volumes=[attached.read(VOLUME, text).to_json()])
    assert 'MARKED' not in str(settings)
    return list(AttachmentsCheck().run(settings))


@pytest.fixture
def initiator(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> pathlib.Path:
    path = tmp_path / 'initiatorname.iscsi'
    path.touch()
    monkeypatch.setattr(connector, 'INITIATOR', str(path))
    return path


def test_v2(initiator: pathlib.Path) -> None:
    with portal() as dead:
        pass
    (found,) = look(dead)
    assert (found.outcome, found.code, found.subject) == (
        Outcome.FAILURE,
        'attachments-unreachable',
        VOLUME,
    )
    assert VOLUME in found.detail and dead in found.detail and 'connection refused' in found.detail


def test_v2_one_of_two_is_a_warning(initiator: pathlib.Path) -> None:
    with portal() as dead:
        pass
    with portal() as alive:
        (found,) = look(alive, dead)
    assert (found.outcome, found.code) == (Outcome.WARNING, 'attachments-some-unreachable')
    assert dead in found.detail and alive not in found.detail


def test_v2_all_answer(initiator: pathlib.Path) -> None:
    with portal() as one, portal() as two:
        (found,) = look(one, two)
    assert found.outcome is Outcome.OK


@pytest.mark.parametrize(
    'info', ['not JSON MARKED', '{"driver_volume_type": "scaleio", "data": {"x": "MARKED"}}']
)
def test_v2_what_cannot_be_read_is_unknown(info: str) -> None:
    (found,) = look(info=info)
    assert (found.outcome, found.code) == (Outcome.UNKNOWN, 'attachments-unknown')
    assert 'MARKED' not in str(found.to_dict())


def test_v3(initiator: pathlib.Path) -> None:
    with portal() as alive:
        assert [found.code for found in look(alive)] == ['']
        initiator.unlink()
        lack, found = look(alive)
    assert (lack.outcome, lack.code) == (
        Outcome.FAILURE,
        'attachments-connector',
    ) and found.outcome is Outcome.OK
    assert lack.subject.endswith('initiatorname.iscsi') and VOLUME in lack.detail
