# SPDX-License-Identifier: Apache-2.0
"""What a round asks for, and what it makes of the answers. Nothing is asked here; tests/lab does."""

from __future__ import annotations

import socket
import time
import types
from typing import Any, Optional

import pytest

from nova_migcheck.checksettings import Settings
from nova_migcheck.endpoints import catalog, probe, survey, web
from nova_migcheck.endpoints.catalog import Catalog, Missing
from nova_migcheck.endpoints.values import Answer, Endpoint, Fault, Target, Tls

PLACEMENT = {"placement": {"endpoint_override": "http://10.0.0.5:8780"}}
WEB = Target("http://10.0.0.5:8780")
NOW = 1000.0
LOGIN = {
    "auth_type": "password",
    "auth_url": "http://10.0.0.6:5000",
    "username": "u",
    "password": "p",
}
LISTED = Catalog(
    0.0,
    [
        {
            "type": "placement",
            "name": "placement",
            "endpoints": [
                {"interface": "internal", "region_id": "One", "url": "http://10.0.0.7:8780"}
            ],
        }
    ],
)


class Asked(survey.Survey):
    """A survey that starts no threads, and keeps what it would have started."""

    def __init__(self, options: Optional[dict] = None, **settings: Any) -> None:
        self.spawned: list[tuple] = []
        super().__init__(Settings(options=options or {}, **settings))

    def _spawn(self, key: tuple, function: Any, *args: Any) -> None:
        self._pending.add(key)
        self.spawned.append((key, function, *args))

    def kinds(self) -> list[str]:
        return [key[0] for key, *_rest in self.spawned]


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(web, "proxy_for", lambda url: "")


@pytest.fixture(autouse=True)
def clock(monkeypatch: pytest.MonkeyPatch) -> None:
    """The clock of the deadlines stands still; that of the calendar goes on."""
    monkeypatch.setattr(
        survey, "time", types.SimpleNamespace(monotonic=lambda: NOW, time=time.time)
    )


def well(address: str = "10.0.0.5") -> Answer:
    return Answer(address, None, "HTTP 200")


# The bounds.


def test_how_long_one_waits() -> None:
    """An operator waits for it: these are promised in the documentation of probe_timeout."""
    for timeout, suspect, margin in (
        (5.0, 1.2, 0.5),
        (3.0, 1.0, 0.3),
        (60.0, 1.2, 6.0),
        (0.6, 0.2, 0.2),
    ):
        one = Asked(timeout=timeout)
        assert one._suspect_after == pytest.approx(suspect) and one._margin == pytest.approx(margin)
        assert (
            one._deadline - one._start == pytest.approx(timeout) and one.picture.seconds == timeout
        )


def test_each_wait_ends_before_the_deadline(monkeypatch: pytest.MonkeyPatch) -> None:
    """A login, a probe and the wait for a target that is suspected."""
    one = Asked({"placement": LOGIN}, timeout=4.0)
    one._log_in()
    ((key, function, _settings, leader, timeout),) = one.spawned
    assert (key, function, leader) == (
        ("login", "placement"),
        catalog.login,
        "placement",
    ) and timeout == pytest.approx(3.6)
    one.spawned.clear()
    one._probe(WEB)
    ((_key, function, target, address, deadline, seconds, _proxy, greet),) = one.spawned
    assert (function, target, address, seconds, greet) == (probe.ask, WEB, "10.0.0.5", 4.0, True)
    assert deadline == pytest.approx(one._deadline - 0.4)
    one._deadline = NOW - 5
    one._start_login("placement")
    assert one.spawned[-1][-1] == 0.1


def test_a_round_looks_again_while_something_is_pending(monkeypatch: pytest.MonkeyPatch) -> None:
    waits = []

    class Waiting(Asked):
        def _wait(self, until: float) -> None:
            waits.append(until - NOW)
            if len(waits) == 3:
                self._pending.clear()

    one = Waiting(PLACEMENT, timeout=100.0)
    picture = one.run()
    assert waits == pytest.approx([1.2, 0.25, 0.25])
    assert list(picture.endpoints) == [WEB]
    waits.clear()
    late = Waiting(PLACEMENT, timeout=100.0)
    late._deadline = NOW - 1
    late.run()
    assert len(waits) == 1


def test_whatever_has_not_answered_is_given_up() -> None:
    one = Asked(
        {**PLACEMENT, "neutron": {"endpoint_override": "http://neutron:9696", **LOGIN}}, timeout=2.0
    )
    for target in (WEB, Target("http://neutron:9696")):
        one._probe(target)
    one._log_in()
    one._give_up()
    waited = "no answer within the deadline of 2 s"
    assert one.picture.answers == {
        WEB: {"10.0.0.5": Answer("10.0.0.5", Fault.NO_ANSWER, waited)},
        Target("http://neutron:9696"): {"neutron": Answer("neutron", Fault.RESOLVER, waited)},
    }
    assert (
        isinstance(one.picture.logins["neutron"], TimeoutError)
        and str(one.picture.logins["neutron"]) == waited
    )


def test_what_is_pending_at_an_address_that_drops_packets_is_dropped_too() -> None:
    one = Asked(PLACEMENT, timeout=2.0)
    other = Target("http://10.0.0.5:9292")
    one._probe(WEB)
    waited = "no answer within the deadline of 2 s"
    one.picture.answers[other] = {"10.0.0.5": Answer("10.0.0.5", Fault.SILENT, waited)}
    one._give_up()
    assert one.picture.answers[WEB] == {"10.0.0.5": Answer("10.0.0.5", Fault.SILENT, waited)}


# Names and addresses.


def test_a_name_is_resolved_once() -> None:
    one = Asked()
    for port in (1, 2):
        one._probe(Target(f"http://api:{port}"))
    one._probe(Target("http://api:1"))
    assert one.spawned == [(("name", "api"), probe.resolve, "api")]
    one._handle(("name", "api"), ["10.0.0.1", "10.0.0.2"])
    assert [(key[1].port, key[2]) for key, *_rest in one.spawned[1:]] == [
        (1, "10.0.0.1"),
        (1, "10.0.0.2"),
        (2, "10.0.0.1"),
        (2, "10.0.0.2"),
    ]
    one._probe(Target("http://api:3"))
    assert one.kinds().count("name") == 1 and one.spawned[-1][3] == "10.0.0.2"


@pytest.mark.parametrize(
    "error, fault, detail",
    [
        (socket.gaierror(socket.EAI_NONAME, "unknown"), Fault.NAME, "unknown"),
        (socket.gaierror(socket.EAI_NODATA, "no data"), Fault.NAME, "no data"),
        (socket.gaierror(socket.EAI_AGAIN, "again"), Fault.RESOLVER, "again"),
        (OSError("odd"), Fault.RESOLVER, "odd"),
        (UnicodeError("odd"), Fault.RESOLVER, "odd"),
    ],
)
def test_names_that_do_not_resolve(error: Exception, fault: Fault, detail: str) -> None:
    one, target = Asked(), Target("http://api:1")
    one._probe(target)
    one._handle(("name", "api"), error)
    assert one.picture.answers == {target: {"api": Answer("api", fault, detail)}}


@pytest.mark.parametrize(
    "proxy, name", [("http://proxy:3128", "proxy"), ("proxy:3128", "proxy"), ("", "api")]
)
def test_the_name_of_a_proxy(monkeypatch: pytest.MonkeyPatch, proxy: str, name: str) -> None:
    monkeypatch.setattr(web, "proxy_for", lambda url: proxy)
    one = Asked()
    one._probe(Target("http://api:1"))
    one._handle(("name", name), ["10.0.0.9"])
    assert (
        one.spawned[0][0] == ("name", name)
        and one.spawned[1][3] == "10.0.0.9"
        and one.spawned[1][6] == proxy
    )
    one = Asked()
    one._probe(Target("tcp://api:1"))
    assert one.spawned[0][0] == ("name", "api")


@pytest.mark.parametrize("url", ["tcp://:1", "http://10.0.0.1:x", "tcp://10.0.0.1", "x"])
def test_a_url_that_cannot_be_probed(url: str) -> None:
    one, target = Asked(), Target(url)
    one._probe(target)
    assert not one.spawned and [
        answer.fault for answer in one.picture.answers[target].values()
    ] == [Fault.INVALID]


def test_a_bug_of_a_probe_is_not_a_fault_of_the_service() -> None:
    with pytest.raises(ZeroDivisionError):
        Asked()._handle(("ask", WEB, "10.0.0.5"), ZeroDivisionError())
    one = Asked()
    one._handle(("ask", WEB, "10.0.0.5"), well())
    assert one.picture.answers == {WEB: {"10.0.0.5": well()}}


# What is remembered.

AMQP = Target("amqp://10.0.0.5:5672")


@pytest.mark.parametrize(
    "ago, interval, greets",
    [(1, 600, False), (580, 600, False), (601, 600, True), (-60, 600, True), (1, 0, True)],
)
def test_a_broker_is_greeted_again_after_the_interval(
    ago: float, interval: int, greets: bool
) -> None:
    one = Asked(
        {"migcheck": {"catalog_interval": interval}},
        memory={"greeted": {"amqp://10.0.0.5:5672 10.0.0.5": time.time() - ago}},
    )
    one._probe(AMQP)
    assert one.spawned[0][-1] is greets
    for scheme in ("memcached", "http"):
        one._probe(Target(f"{scheme}://10.0.0.5:5672"))
        assert one.spawned[-1][-1] is True


def test_when_a_broker_has_greeted() -> None:
    one = Asked(memory={"greeted": {"amqp://10.0.0.5:5672 10.0.0.5": time.time() - 9, "bad": "x"}})
    before = time.time()
    one.picture.answers = {
        AMQP: {
            "10.0.0.5": well(),
            "10.0.0.6": well("10.0.0.6"),
            "10.0.0.7": Answer("10.0.0.7", Fault.REFUSED),
        },
        Target("amqps://10.0.0.8:5671"): {"10.0.0.8": well("10.0.0.8")},
        WEB: {"10.0.0.5": well()},
    }
    greeted = one.memory()["greeted"]
    assert set(greeted) == {
        "amqp://10.0.0.5:5672 10.0.0.5",
        "amqp://10.0.0.5:5672 10.0.0.6",
        "amqps://10.0.0.8:5671 10.0.0.8",
    }
    assert (
        greeted["amqp://10.0.0.5:5672 10.0.0.5"] < before - 8
        and greeted["amqp://10.0.0.5:5672 10.0.0.6"] >= before
    )


@pytest.mark.parametrize(
    "thorough, due, asks", [(False, 60, False), (False, -1, True), (True, 60, True)]
)
def test_what_was_well_is_not_asked_until_it_is_due(thorough: bool, due: float, asks: bool) -> None:
    memory = {"well": {repr(WEB): {"due": time.time() + due, "answers": [well().well_to_json()]}}}
    one = Asked(memory=memory, thorough=thorough)
    one._probe(WEB)
    assert bool(one.spawned) is asks
    if not asks:
        assert one.picture.is_well(WEB) and list(one.picture.answers[WEB]) == ["10.0.0.5"]
        assert one.memory()["well"] == memory["well"]  # due as before


@pytest.mark.parametrize(
    "options, interval", [({}, 300), ({"migcheck": {"probe_interval": 1000}}, 1000)]
)
def test_when_what_is_well_is_due(options: dict, interval: int) -> None:
    one, due = Asked(options), []
    for _ in range(50):
        one.picture.answers = {
            WEB: {"a": well("a"), "b": well("b")},
            AMQP: {"a": well("a"), "b": Answer("b", Fault.REFUSED)},
        }
        kept = one.memory()["well"]
        assert (
            list(kept) == [repr(WEB)]
            and [
                value["address"] if isinstance(value, dict) else value
                for value in kept[repr(WEB)]["answers"]
            ]
            and len(kept[repr(WEB)]["answers"]) == 2
        )
        due.append((kept[repr(WEB)]["due"] - time.time()) / interval)
    assert 0.79 < min(due) < 0.95 and 1.05 < max(due) < 1.21


@pytest.mark.parametrize(
    "memory",
    [None, 7, [], {"catalogs": 7, "greeted": 7, "well": 7}, {"catalogs": {"placement": 7}}],
)
def test_a_memory_that_makes_no_sense(memory: Any) -> None:
    one = Asked(memory=memory, thorough=False)
    assert one.memory() == {"catalogs": {}, "greeted": {}, "well": {}, "logins": {}}


# Catalogs.


def cached(age: float) -> dict:
    return {"catalogs": {"placement": {**LISTED.to_json(), "fetched": time.time() - age}}}


@pytest.mark.parametrize("age, logs_in", [(1, False), (580, False), (601, True), (-60, True)])
def test_a_catalog_is_used_for_its_interval(age: float, logs_in: bool) -> None:
    one = Asked({"placement": LOGIN}, memory=cached(age))
    one._log_in()
    assert ("login" in one.kinds()) is logs_in
    assert [
        endpoint.target.url
        for endpoints in one.picture.endpoints.values()
        for endpoint in endpoints
    ] == ([] if logs_in else ["http://10.0.0.7:8780"])


def test_sections_with_the_same_login_log_in_once() -> None:
    one = Asked(
        {
            "placement": LOGIN,
            "neutron": {**LOGIN, "region_name": "Two", "valid_interfaces": ["admin"]},
            "cinder": {**LOGIN, "username": "x"},
            "glance": {"api_servers": ["http://g"]},
        }
    )
    one._log_in()
    assert one.picture.shared_login == {
        "placement": "placement",
        "neutron": "placement",
        "cinder": "cinder",
    }
    assert [key for key, *_rest in one.spawned] == [("login", "placement"), ("login", "cinder")]


@pytest.mark.parametrize("option", sorted(survey._NOT_LOGIN - {"auth_section"}))
def test_options_that_make_no_other_login(option: str) -> None:
    one = Asked({"placement": LOGIN, "neutron": {**LOGIN, option: "other"}})
    one._log_in()
    assert one.picture.shared_login["neutron"] == "placement"


def test_a_new_catalog_takes_the_place_of_the_old_one() -> None:
    one = Asked({"placement": LOGIN, "neutron": LOGIN}, memory=cached(1))
    one._log_in()
    old = Target("http://10.0.0.7:8780")
    assert [missing.group for missing in one.picture.missing] == ["neutron"] and len(
        one.picture.endpoints[old]
    ) == 1
    one.picture.cached["placement"] = 5.0
    new = Catalog(
        9.0,
        [
            {
                "type": kind,
                "name": kind,
                "endpoints": [
                    {"interface": "internal", "region_id": "One", "url": f"http://10.0.0.8:{port}"}
                ],
            }
            for kind, port in (("placement", 1), ("network", 2))
        ],
    )
    one._handle(("login", "placement"), new)
    assert (
        one.picture.missing == [] and one.picture.endpoints[old] == [] and one.picture.cached == {}
    )
    assert {target.url for target, endpoints in one.picture.endpoints.items() if endpoints} == {
        "http://10.0.0.8:1",
        "http://10.0.0.8:2",
    }
    assert one.memory()["catalogs"] == {"placement": new.to_json()}


def test_a_login_that_fails_leaves_the_old_catalog() -> None:
    one = Asked({"placement": LOGIN}, memory=cached(700))
    one._log_in()
    one._handle(("login", "placement"), OSError("gone"))
    one._suspect()
    assert 690 < one.picture.cached["placement"] < 720 and [
        target.url for target in one.picture.endpoints
    ] == ["http://10.0.0.7:8780"]
    before = len(one.spawned)
    one._suspect()
    assert len(one.spawned) == before and isinstance(one.picture.logins["placement"], OSError)


@pytest.mark.parametrize(
    "answer, logs_in", [(well("10.0.0.7"), False), (Answer("10.0.0.7", Fault.REFUSED), True)]
)
def test_a_cached_catalog_whose_endpoints_are_dead_is_fetched_again(
    answer: Answer, logs_in: bool
) -> None:
    one = Asked({"placement": LOGIN}, memory=cached(1))
    one._log_in()
    one._handle(("ask", Target("http://10.0.0.7:8780"), "10.0.0.7"), answer)
    for _ in range(2):
        one._suspect()
    assert one.kinds().count("login") == logs_in


def test_a_cached_catalog_that_lacks_a_service_is_fetched_again() -> None:
    assert Asked()._is_doubtful(
        [], [Missing("network", "neutron", "", "")]
    ) and not Asked()._is_doubtful([], [])


# Elsewhere.


def dead_and_live(
    url: str = "http://10.0.0.5:8780",
    fault: Optional[Fault] = Fault.SILENT,
    live: tuple = ("10.0.0.1",),
) -> tuple[Asked, Target]:
    one, dead = Asked(timeout=60.0), Target(url)
    one._need(Endpoint(dead, "placement", "nova.conf", "placement"))
    for host in live:
        target = Target(f"http://{host}:9696")
        one._need(Endpoint(target, "network", "nova.conf", "network"))
        one.picture.answers[target] = {host: well(host)}
    one.picture.answers[dead] = {"10.0.0.5": Answer("10.0.0.5", fault)}
    one.spawned.clear()
    return one, dead


@pytest.mark.parametrize(
    "fault, looked_for",
    [
        (Fault.SILENT, True),
        (Fault.UNREACHABLE, True),
        (Fault.NAME, True),
        (Fault.RESOLVER, True),
        (Fault.STATUS, False),
        (Fault.TLS, False),
        (None, False),
    ],
)
def test_what_is_dead_is_looked_for_elsewhere(fault: Optional[Fault], looked_for: bool) -> None:
    one, dead = dead_and_live(fault=fault)
    one._suspect()
    others = [args[1].url for key, *args in one.spawned if key[0] == "ask"]
    assert others == (["http://10.0.0.1:8780"] if looked_for else [])
    one._suspect()
    assert len(one.spawned) == len(others)
    if looked_for:
        other = Target("http://10.0.0.1:8780")
        one._find_elsewhere()
        assert one.picture.elsewhere == {}
        one.picture.answers[other] = {"10.0.0.1": well("10.0.0.1")}
        one._find_elsewhere()
        assert one.picture.elsewhere == {dead: other}
        one.picture.answers[dead]["10.0.0.6"] = well("10.0.0.6")
        one.picture.elsewhere.clear()
        one._find_elsewhere()
        assert one.picture.elsewhere == {}


@pytest.mark.parametrize(
    "url, tls", [("https://vip:8780/x", Tls(insecure=True)), ("http://vip:8780/x", Tls())]
)
def test_the_certificate_may_be_for_another_name(url: str, tls: Tls) -> None:
    one, _dead = dead_and_live(url, live=("10.0.0.1", "10.0.0.2", "10.0.0.3", "10.0.0.4"))
    one._suspect()
    assert [args[1] for key, *args in one.spawned] == [
        Target(url.replace("vip", f"10.0.0.{n}"), tls) for n in (1, 2, 3)
    ]


def test_not_at_the_same_host_nor_for_other_protocols() -> None:
    one, _dead = dead_and_live(live=("10.0.0.5",))
    one._suspect()
    other, _dead = dead_and_live("tcp://10.0.0.5:1")
    other._suspect()
    nowhere, _dead = dead_and_live(live=())
    nowhere._suspect()
    assert one.spawned == other.spawned == nowhere.spawned == []


@pytest.mark.parametrize("ago, dead", [(1.3, True)])
def test_a_target_that_is_silent_for_a_while_is_suspected(ago: float, dead: bool) -> None:
    one, target = dead_and_live()
    del one.picture.answers[target]
    one._asked[target] = NOW - ago
    assert one._is_dead(target) is dead


def test_one_address_that_was_reached_is_enough() -> None:
    one, target = dead_and_live()
    one.picture.answers[target]["10.0.0.6"] = Answer("10.0.0.6", Fault.STATUS)
    assert not one._is_dead(target)


def test_threads_that_run_late() -> None:
    one = Asked(timeout=60.0)
    one._notice(NOW + 50)
    assert not one.picture.starved
    one._notice(NOW - 6.0)
    assert not one.picture.starved
    one._notice(NOW - 6.1)
    assert one.picture.starved
