"""What Gradio holds in memory for visitors: limited per visitor, served in turn, and dropped if never fetched."""

from __future__ import annotations

import asyncio
import secrets
import time
import tracemalloc
from types import SimpleNamespace

import gradio as gr
import httpx
import pytest
from conftest import ended_run, last_of, until
from gradio import routes, server_messages
from gradio.queueing import EventQueue
from gradio.state_holder import SessionState

from nanogpt import corpus
from nanogpt.config import NanoGPTError
from nanogpt.explain import readout
from nanogpt.launch import visitors
from nanogpt.ui import chosen_text
from nanogpt.ui.views import timemachine as view_timemachine
from nanogpt.ui.web.pending import FEW, MANY, Pending, Waiting
from nanogpt.ui.web.sessions import Session, Sessions, sender_now
from nanogpt.ui.web.shares import Sender


@pytest.fixture
def pending(public_demo) -> Pending:
    """Return that server's `Pending`, emptied."""
    found: Pending = public_demo._queue.push.__self__
    until(lambda: not public_demo._queue.event_ids_to_events)
    found.sweep(now=time.monotonic() + 10**6)
    found.sweep()
    assert (found.events, found.share.used) == ({}, 0)
    return found


def call(public_demo, name: str, *data, visitor: str = "a" * 32) -> httpx.Response:
    url = f"{public_demo.local_url}gradio_api/call/{name}"
    return httpx.post(url, json={"data": data}, headers={"cookie": f"nanogpt-visitor={visitor}"}, timeout=30)


def fetched(public_demo, name: str, id: str, visitor: str = "a" * 32) -> str:
    url = f"{public_demo.local_url}gradio_api/call/{name}/{id}"
    return httpx.get(url, headers={"cookie": f"nanogpt-visitor={visitor}"}, timeout=30).text


# --- events --------------------------------------------------------------------------------------------------------


def test_results_that_nobody_fetches_count_and_are_dropped(public_demo, pending):
    queue = public_demo._queue
    ids = [call(public_demo, "list_runs").json()["event_id"] for _ in range(8)]
    until(lambda: not queue.event_ids_to_events)
    refused = call(public_demo, "list_runs")
    assert refused.status_code == 429
    assert "too many requests in the queue" in refused.json()["detail"]
    assert call(public_demo, "list_runs", visitor="b" * 32).status_code == 200  # each visitor has a separate share
    assert "complete" in fetched(public_demo, "list_runs", ids[0])  # fetching one result frees room for one more
    assert call(public_demo, "list_runs").status_code == 200
    until(lambda: not queue.event_ids_to_events)
    pending.sweep(now=time.monotonic() + 59)
    assert len(pending.events) == 9
    pending.sweep(now=time.monotonic() + 61)
    pending.sweep()
    assert (pending.events, pending.share.used, pending.share.held) == ({}, 0, {})
    assert (queue.pending_messages_per_session, queue.pending_event_ids_session) == ({}, {})
    assert set(ids) & set(public_demo.app.state_holder.session_data) == set()  # their sessions are gone, too
    assert "no longer kept" in fetched(public_demo, "list_runs", ids[1])


def test_a_session_that_is_listened_to_is_not_dropped(public_demo, pending):
    id = call(public_demo, "list_runs").json()["event_id"]
    until(lambda: not public_demo._queue.event_ids_to_events)
    with pending.listener(id):
        pending.sweep(now=time.monotonic() + 1000)
    assert id in pending.events
    assert "complete" in fetched(public_demo, "list_runs", id)


def test_the_body_of_an_event_counts_until_it_is_over(public_demo, pending, monkeypatch):
    door = public_demo.app.middleware_stack
    while not hasattr(door, "memory"):
        door = door.app
    held: list[int] = []
    monkeypatch.setattr(corpus, "size_of", lambda source: held.append(door.memory.used) or len(source))
    id = call(public_demo, "add_corpus", "x" * 500_000).json()["event_id"]
    fetched(public_demo, "add_corpus", id)
    assert len(held) == 1
    assert min(held) >= 500_000  # the request has ended, but the event hasn't
    until(lambda: not public_demo._queue.event_ids_to_events)
    pending.sweep()
    assert door.memory.used == 0


def test_a_long_id_of_a_session_is_refused(public_demo):
    body = dict(data=[], fn_index=0, session_hash="s" * 65)
    assert httpx.post(f"{public_demo.local_url}gradio_api/queue/join", json=body).status_code == 400


def test_nobody_calls_a_queued_function_past_the_queue(public_demo):
    answer = httpx.post(f"{public_demo.local_url}gradio_api/run/add_corpus", json={"data": ["x" * 2000, "x"]})
    assert answer.status_code == 404


# --- the queue on its own ------------------------------------------------------------------------------------------


class Messages(list):
    qsize = list.__len__
    put_nowait = list.append


@pytest.fixture
def queue():
    """Return a stand-in for Gradio's queue with just the parts that `Pending` uses."""
    made = SimpleNamespace(
        pending_messages_per_session={}, pending_event_ids_session={}, event_ids_to_events={}, active_jobs=[],
        event_queue_per_concurrency_id={"all": EventQueue("all", 1)}, push=None, server_app=None,
    )  # fmt: skip
    made.send_message = lambda event, message: made.pending_messages_per_session[event.session_hash].append(message)
    return made


def put(pending: Pending, id: str, address: str) -> SimpleNamespace:
    event = SimpleNamespace(_id=id, session_hash=f"session-{id}", alive=True)
    pending.events[id] = Waiting(event.session_hash, Sender(address, address), None, time.monotonic())
    pending.queue.event_ids_to_events[id] = event
    pending.queue.pending_messages_per_session[event.session_hash] = Messages()
    pending.queue.event_queue_per_concurrency_id["all"].queue.append(event)
    return event


def test_addresses_take_turns_and_who_has_used_least_goes_first(queue):
    pending = Pending(queue)
    for number in range(4):
        put(pending, f"greedy {number}", "10.0.0.1")
    put(pending, "new", "10.0.0.2")
    put(pending, "busy", "10.0.0.3")
    put(pending, "new again", "10.0.0.2")
    pending.seconds |= {"10.0.0.1": 5.0, "10.0.0.3": 9.0}
    pending.order()
    order = [event._id for event in queue.event_queue_per_concurrency_id["all"].queue]
    assert order == ["new", "greedy 0", "busy", "new again", "greedy 1", "greedy 2", "greedy 3"]


def test_the_time_that_an_event_took_counts_for_its_address(queue):
    pending = Pending(queue)
    event = put(pending, "one", "10.0.0.1")
    pending.send_message(event, server_messages.ProcessStartsMessage(eta=None))
    pending.started["one"] -= 3.0
    pending.send_message(event, server_messages.ProcessCompletedMessage(output={}, success=True))
    assert pending.seconds["10.0.0.1"] == pytest.approx(3.0, abs=0.5)
    dropped = put(pending, "two", "10.0.0.2")
    pending.send_message(dropped, server_messages.ProcessStartsMessage(eta=None))
    pending.started["two"] -= 7.0
    pending.forget("two")
    assert pending.seconds["10.0.0.2"] == pytest.approx(7.0, abs=0.5)


def test_used_time_is_halved_every_minute_and_old_progress_is_forgotten(queue):
    pending = Pending(queue)
    pending.seconds |= {"10.0.0.1": 8.0, "10.0.0.2": 0.001}
    asyncio.run(pending.tick())
    assert pending.seconds["10.0.0.1"] == 8.0
    pending.halved -= 60
    known = routes.file_upload_statuses
    for number in range(300):
        known.track(f"upload {number}")
    asyncio.run(pending.tick())
    assert dict(pending.seconds) == {"10.0.0.1": 4.0}
    assert list(known._statuses) == list(known._signals) == [f"upload {number}" for number in range(100, 300)]


def test_results_that_pile_up_end_their_event_with_a_sentence(queue):
    pending = Pending(queue)
    event = put(pending, "one", "10.0.0.1")
    waiting = queue.pending_messages_per_session["session-one"]
    more = lambda: pending.send_message(event, server_messages.ProcessGeneratingMessage(output={}, success=True))
    guess = server_messages.EstimationMessage(queue_size=1, rank=0)
    for _ in range(FEW + 10):
        pending.send_message(event, guess)
    assert len(waiting) == FEW + 1  # further estimates are dropped
    for _ in range(MANY + 100):
        more()
    assert len(waiting) == MANY + 1
    assert waiting[-1].output["error"].startswith("Stopped")
    assert not event.alive


def test_an_event_that_goes_on_writing_for_nobody_is_stopped_soon(queue, monkeypatch):
    monkeypatch.setenv("NANOGPT_PUBLIC", "1")
    pending = Pending(queue)
    event, quiet = put(pending, "one", "10.0.0.1"), put(pending, "two", "10.0.0.2")
    queue.active_jobs = [[event], [quiet], None]
    queue.pending_messages_per_session["session-one"].extend(range(FEW + 1))
    pending.sweep(now=time.monotonic() + 4)
    assert (event.alive, quiet.alive) == (True, True)
    pending.sweep(now=time.monotonic() + 11)
    assert (event.alive, quiet.alive) == (False, True)
    assert list(queue.pending_messages_per_session) == ["session-two"]


# --- sessions ------------------------------------------------------------------------------------------------------


@pytest.fixture
def sessions(queue, monkeypatch) -> Sessions:
    from nanogpt.ui.page import build_app

    monkeypatch.setenv("NANOGPT_PUBLIC", "1")
    monkeypatch.setenv("NANOGPT_SERVER_SESSIONS", "50")
    made = Sessions(Pending(queue))
    made.set_blocks(build_app())
    return made


def test_an_address_with_many_sessions_loses_its_own_oldest(sessions):
    honest, greedy = Sender("honest", "10.0.0.1"), Sender("greedy", "10.0.0.2")
    token = sender_now.set(honest)
    sessions["honest"].state_data[1] = "kept"
    sender_now.set(greedy)
    for number in range(100):
        sessions[f"greedy {number}"]
    sender_now.reset(token)
    assert list(sessions.session_data)[-1] == "greedy 99"
    assert "greedy 0" not in sessions
    assert len(sessions.session_data) == len(sessions.senders) == len(sessions.time_last_used) == sessions.share.used
    assert len(sessions.session_data) <= 11  # 50 / 5, plus the honest one
    assert sessions["honest"].state_data[1] == "kept"


def answer(demo: gr.Blocks, number: int, data: list, session: str) -> str:
    """Return what the page of a session with a visitor's cookie receives for an event."""
    cookie = {"cookie": "nanogpt-visitor=" + "a" * 32}
    body = dict(data=data, fn_index=number, session_hash=session)
    httpx.post(f"{demo.local_url}gradio_api/queue/join", json=body, headers=cookie)
    return httpx.get(f"{demo.local_url}gradio_api/queue/data?session_hash={session}", headers=cookie, timeout=60).text


def number_of(demo: gr.Blocks, elem_id: str, event: str) -> int:
    """Return the number of a component's event."""
    [id] = [id for id, part in demo.blocks.items() if part.elem_id == elem_id]
    return next(number for number, one in demo.fns.items() if one.fn and (id, event) in one.targets)


def test_a_session_keeps_no_copy_of_what_was_sent(public_demo, pending):
    text = secrets.token_hex(2000)
    number = next(number for number, one in public_demo.fns.items() if one.api_name == "add_corpus")
    assert '"name":"a text"' in answer(public_demo, number, [text, "a text"], "kept")
    session = public_demo.app.state_holder.session_data["kept"]
    assert session.config_values == {}
    assert text not in repr(vars(session))


@pytest.mark.parametrize("view", ["readout", "units"])
def test_a_session_keeps_no_more_of_a_text_than_a_view_shows(public_demo, pending, tiny_text, monkeypatch, view):
    for size, value in dict(STEPS=1, FITTED_ON=64, JUDGED_BY=64).items():
        monkeypatch.setattr(readout, size, value)
    me = visitors.visitor_of("a" * 32)
    name = f"of-{view}"
    run = ended_run(me.add_text(tiny_text), name, n_layer=1, n_head=2, n_embd=16, block_size=16, max_iters=50)
    run.change(owner=me.id)
    text = tiny_text[:1000] + secrets.token_hex(2000)
    chosen = ["word-start"] if view == "units" else []
    said = answer(public_demo, number_of(public_demo, f"{view}-use", "click"), [name, *chosen, text], name)
    assert "process_completed" in said
    kept = [one for one in public_demo.app.state_holder.session_data[name].state_data.values() if isinstance(one, str)]
    assert tiny_text[:200] in kept[0]
    assert max(map(len, kept)) <= 400


def test_a_session_keeps_no_name_that_is_none(public_demo, pending):
    name, asked = secrets.token_hex(2000), dict(number=1, view="tour")
    number = number_of(public_demo, "understand-tour", "select")
    said = answer(public_demo, number, [asked, None, name], "unnamed")
    assert "A name has at most 64 characters." in said
    assert name not in repr(vars(public_demo.app.state_holder["unnamed"]))
    assert "There is no run named" in answer(public_demo, number, [asked, None, name[:64]], "named")


def test_a_public_server_offers_no_snapshots(public_demo, monkeypatch):
    [field] = [part for part in public_demo.blocks.values() if part.elem_id == "train-snapshots"]
    assert field.visible is False
    assert view_timemachine.no_snapshots().endswith("Runs on this server never keep them.")
    monkeypatch.setenv("NANOGPT_PUBLIC", "")
    assert view_timemachine.no_snapshots().endswith("set snapshots to “on” under Advanced for larger ones.")


def test_a_pasted_text_is_set_aside_in_a_file(home, tiny_text, monkeypatch):
    monkeypatch.setenv("NANOGPT_PUBLIC", "")
    given = last_of(chosen_text.take_new(None, tiny_text + "\r\n"))["given"]
    assert tiny_text not in repr(given)
    again = last_of(chosen_text.take_again(None, given, "", ["line-endings"]))
    assert corpus.load(again["corpus_id"]).text() == tiny_text + "\n"
    given.source.unlink()
    [note] = last_of(chosen_text.take_again(None, given, ""))["report"]["notes"]
    assert note["text"] == "The pasted text is no longer kept. Paste it again."


def test_names_that_are_no_text_are_refused(home, tiny_text):
    assert corpus.add(tiny_text, None).name == "Pasted text"
    for name in ({"a": 1}, ["a"], 5, True):
        with pytest.raises(NanoGPTError, match="must be a string"):
            corpus.add(tiny_text, name)


def test_a_session_has_what_gradios_own_has(public_demo):
    """It doesn't call the constructor of Gradio's, which may set more in another version."""
    assert vars(Session(public_demo)).keys() == vars(SessionState(public_demo)).keys()
    assert all(hasattr(SessionState, name) for name in vars(Session) if name.startswith("_update_"))


def test_sessions_share_what_they_have_not_changed(public_demo):
    one, other = (Session(public_demo) for _ in range(2))
    everyones = public_demo.default_config.blocks
    key, before = next((key, block) for key, block in everyones.items() if isinstance(block, gr.Textbox))
    one[key] = changed = gr.Textbox("changed", render=False)
    assert (one[key], other[key], everyones[key]) == (changed, before, before)
    assert key in one
    assert -1 not in one
    tracemalloc.start()
    try:
        many = [Session(public_demo) for _ in range(100)]
        assert tracemalloc.get_traced_memory()[0] / len(many) < 3000  # bytes; a list of all components has 10,000
    finally:
        tracemalloc.stop()
