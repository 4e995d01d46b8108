"""A public server's resources are divided among its visitors, and extra cookies don't get you more."""

from __future__ import annotations

import pytest

from nanogpt.ui.web import visit
from nanogpt.ui.web.shares import Sender, Share, sender_in


@pytest.fixture
def share(monkeypatch) -> Share:
    monkeypatch.setenv("NANOGPT_PUBLIC", "1")
    monkeypatch.setenv("NANOGPT_SERVER_EVENTS", "1000")
    monkeypatch.setenv("NANOGPT_MAX_EVENTS", "8")
    return Share("NANOGPT_SERVER_EVENTS")


@pytest.mark.parametrize("count", [1, 4, 20, 100, 240])
def test_greedy_addresses_end_up_with_equal_shares_and_something_stays_free(share, count):
    for turn in range(1001):
        for one in range(count):  # a new cookie every time
            share.take(Sender(f"{one} {turn}", f"10.0.0.{one}"))
    held = [share.held[f"10.0.0.{one}"] for one in range(count)]
    assert share.used == sum(held) < 1000
    assert max(held) - min(held) <= 1
    assert min(held) == pytest.approx(1000 / (count + 4), abs=1.5)
    assert share.take(Sender("honest", "10.0.9.9"))


def test_a_visitor_has_a_limit_of_their_own_and_gets_back_what_they_give_back(share):
    share.each = "NANOGPT_MAX_EVENTS"
    anna, otto = Sender("anna", "10.0.0.1"), Sender("otto", "10.0.0.1")
    assert [share.take(anna) for _ in range(9)] == [True] * 8 + [False]
    assert share.take(otto, 8)
    assert not share.take(otto)
    share.give(anna)
    assert share.take(anna)
    share.give(anna, 8)
    share.give(otto, 8)
    assert (share.used, share.held) == (0, {})  # visitors who hold nothing are forgotten


def test_on_one_s_own_machine_nothing_is_limited():
    share = Share("NANOGPT_SERVER_EVENTS", "NANOGPT_MAX_EVENTS")
    assert share.take(Sender(None, "127.0.0.1"), 10**9)


@pytest.mark.parametrize(
    ("client", "forwarded", "here", "on_a_space"),
    [
        ("203.0.113.7", "", "203.0.113.7", "203.0.113.7"),
        ("10.16.3.80", "8.8.4.4", "10.16.3.80", "8.8.4.4"),
        ("10.16.3.80", "1.1.1.1, 8.8.4.4", "10.16.3.80", "8.8.4.4"),  # the first one is forged
        ("10.16.3.80", "1.1.1.1, 8.8.4.4, 10.0.0.3", "10.16.3.80", "8.8.4.4"),
        ("10.16.3.80", "nonsense, ", "10.16.3.80", "10.16.3.80"),
        ("2600:1:2:3:4:5:6:7", "", "2600:1:2:3::/64", "2600:1:2:3::/64"),
        ("::ffff:8.8.4.4", "", "8.8.4.4", "8.8.4.4"),
        ("", "", "", ""),
    ],
)
def test_the_address_of_a_request(monkeypatch, client, forwarded, here, on_a_space):
    assert visit.address_of(client, forwarded) == here
    monkeypatch.setenv("SPACE_ID", "user/space")
    assert visit.address_of(client, forwarded) == on_a_space


def test_the_sender_of_a_request(monkeypatch):
    scope = dict(headers=[(b"cookie", b"nanogpt-visitor=" + b"a" * 32)], client=("192.0.2.1", 5))
    assert sender_in(scope) == Sender(None, "192.0.2.1")
    monkeypatch.setenv("NANOGPT_PUBLIC", "1")
    assert len(sender_in(scope).visitor or "") == 32
    assert sender_in(dict(headers=[], client=None)) == Sender("", "")
