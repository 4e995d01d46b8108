"""Push, pull and deploy with the real client, against a stand-in for the Hub on the loopback address."""

from __future__ import annotations

import contextlib
import copy
import errno
import io
import json
import math
import os
import pickle
import re
import socket
import ssl
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import yaml
from conftest import ROOT
from fake_hub import MAYA, OLGA, READER, Refusal, Repo
from huggingface_hub import HfApi, constants
from huggingface_hub.errors import OfflineModeIsEnabled
from PIL import Image
from safetensors.torch import load, save

import nanogpt
from nanogpt import corpus, disk, paths
from nanogpt.cli.main import main
from nanogpt.config import NanoGPTError
from nanogpt.explain.baselines import baselines
from nanogpt.formats import load_model, read_config
from nanogpt.jobs import parcel, refusals
from nanogpt.launch import prepare, trainer
from nanogpt.paths import slug
from nanogpt.publish import account, card, curve, deploy, hub_client, hub_errors, page_export, pull, push as ours
from nanogpt.publish.upload import Pushed
from nanogpt.runs import Run, archive, kept_step
from nanogpt.tokenizer import CharTokenizer

TINY = dict(n_layer=1, n_head=2, n_embd=16, block_size=16, batch_size=4, learning_rate=1e-2, eval_interval=3)
PUBLIC = {
    ".gitattributes", "README.md", "config.json", "generation_config.json", "tokenizer.json", "tokenizer_config.json",
    "model.safetensors", "run.json", "metrics.jsonl", "loss.png",
}  # fmt: skip


@pytest.fixture(scope="module")
def trained(tmp_path_factory, tiny_text) -> dict[str, bytes]:
    """Return the files of two trained runs, one per layout."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("NANOGPT_HOME", str(tmp_path_factory.mktemp("home")))
        text = corpus.add(tiny_text, "A ``play`` | <b>of</b> millers\n--- ")
        for layout in ("classic", "modern"):
            run = prepare.new_run(layout, text, max_iters=6, layout=layout, **TINY)
            assert trainer.main(run.name) == 0
            (run.folder / "log.txt").write_text("secret of the log", encoding="utf-8")
        home = run.folder.parent.parent
        return {str(path.relative_to(home)): path.read_bytes() for path in home.rglob("*") if path.is_file()}


@pytest.fixture
def run(home, trained, monkeypatch) -> Run:
    """Return the classic run, in a home folder used by this test only, with Maya signed in on this machine."""
    for name, content in trained.items():
        (home / name).parent.mkdir(parents=True, exist_ok=True)
        (home / name).write_bytes(content)
    monkeypatch.setenv("HF_TOKEN", MAYA)
    return Run("classic")


def logits(model) -> torch.Tensor:
    ids = torch.arange(12)[None] % model.config.vocab_size
    with torch.no_grad():
        out = model(ids)
        return out.logits if hasattr(out, "logits") else out[0]


def refused(said: str, *command: str) -> None:
    """Check that the command fails with a one-line message that contains no token."""
    with pytest.raises(NanoGPTError, match=said) as error:
        {"push": push, "pull": lambda repo: pull.pull(repo, MAYA)}[command[0]](*command[1:])
    assert "\n" not in str(error.value)
    assert "hf_" not in str(error.value)


def push(name: str = "classic", repo: str = "maya/play", token: str | None = MAYA, **wish) -> Pushed:
    return ours.push(Run(name), repo, token, **wish)


# --- round trip ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("layout", ["classic", "modern"])
@pytest.mark.parametrize("large", [False, True], ids=["plain", "lfs"])
def test_a_run_goes_there_and_comes_back_to_the_bit(hub, run, layout, large, capsys):
    hub.large = large
    assert main(["push", layout, "maya/play", "--license", "mit"]) == 0
    assert capsys.readouterr().out == f"Published to {hub.url}/maya/play.\n"
    repo = hub.repos["models/maya/play"]
    assert set(repo.files) == PUBLIC
    assert len(repo.commits) == 2  # the Hub's initial commit, and ours
    assert bool(hub.lfs) == large
    assert main(["pull", "maya/play"]) == 0
    back, source = Run(f"{layout}-2"), Run(layout)
    assert torch.equal(logits(load_model(back.folder)), logits(load_model(source.folder)))
    for name in ours.MODEL:
        assert (back.folder / name).read_bytes() == (source.folder / name).read_bytes() == repo.files[name]
    assert back.status().state == "finished"
    assert back.history().best == source.history().best
    assert main(["sample", back.name, "--length", "5"]) == 0


def test_a_dry_run_shows_exactly_what_is_then_sent(hub, run, capsys):
    assert main(["push", "classic", "maya/play", "--dry-run", "--license", "cc0-1.0", "--quote"]) == 0
    listed, _, card = capsys.readouterr().out.partition("nothing was uploaded\n\n")
    assert hub.requests == []
    push(license="cc0-1.0", quote=True)
    sent = hub.repos["models/maya/play"].files
    assert card == sent["README.md"].decode() + "\n"
    lines = [line.split() for line in listed.splitlines()[:-1]]
    assert {name: int(count.replace(",", "")) for count, name in lines} == {
        name: len(content) for name, content in sent.items() if name != ".gitattributes"
    }


def test_nothing_private_is_sent(hub, run, tiny_text):
    (run.folder / "snapshots").mkdir(exist_ok=True)  # training keeps some
    (run.folder / "diary.txt").write_text("secret", encoding="utf-8")
    run.change(owner="olga", plan="measured on Olga's machine", parent="secret-run")
    run.event("failed", step=run.status().step, message="Traceback in /srv/olga/secret.py")
    push()
    sent = b"".join(hub.repos["models/maya/play"].files.values())
    for secret in (b"secret", b"olga", b"Olga", tiny_text[:200].encode(), b"last.safetensors", b"system"):
        assert secret not in sent
    assert json.loads(hub.repos["models/maya/play"].files["run.json"])["corpus"]["sha256"] == corpus.listed()[0].sha256
    again = pull.pull("maya/play", MAYA)
    assert again.status().state == "stopped"
    assert again.settings()["owner"] is None


def test_a_finished_run_is_pushed_with_its_result_although_more_training_was_canceled(run):
    finished = ours.public_facts(run.settings(), run.history())
    run.event("stopped", message="Canceled before training resumed.")
    assert ours.public_facts(run.settings(), run.history()) == finished


def test_pushed_again_only_what_changed_makes_a_commit(hub, run, capsys):
    first = push(license="mit")
    assert first.commit
    again = push(license="mit")
    assert again.commit == ""
    assert "is already up to date; nothing was sent" in str(again)
    repo = hub.repos["models/maya/play"]
    assert len(repo.commits) == 2
    before = repo.files
    changed = push(license="cc0-1.0")
    assert changed.commit
    assert len(repo.commits) == 3
    assert {name for name in before if before[name] != repo.files[name]} == {"README.md"}
    hub.large = True  # as if the Hub stored the weights in LFS, which identifies them by SHA-256
    assert push(license="cc0-1.0").commit == ""


def test_a_run_of_an_older_version_is_published_with_the_inputs_of_its_model(run):
    path = run.folder / "tokenizer_config.json"
    path.write_text('{"tokenizer_class": "PreTrainedTokenizerFast", "model_max_length": 16}', encoding="utf-8")
    sent = json.loads(ours.offered(run, "maya/play")["tokenizer_config.json"])
    assert sent["model_input_names"] == ["input_ids", "attention_mask"]  # transformers 4 would add token_type_ids


def test_a_card_that_was_changed_by_hand_stays(hub, run):
    push()
    repo = hub.repos["models/maya/play"]
    repo.commits.append({**repo.files, "README.md": b"---\nlicense: mit\n---\nmy own words\n"})
    run.sample(6, "another text")
    assert "edited by hand, so it stays as it is, except for the settings at its top" in str(push())
    assert repo.files["README.md"].endswith(b"my own words\n")
    said = str(push())
    assert "nothing was sent" in said
    assert said.endswith("Its README was edited by hand, so it stays as it is.")
    repo.commits.append({**repo.files, "README.md": b""})  # emptied by its owner
    push()
    assert front_matter(repo.files["README.md"].decode()).keys() == {"model-index"}


def test_an_edited_card_gets_the_new_loss_and_license_and_keeps_its_own_settings(hub, run):
    push(license="mit")
    repo = hub.repos["models/maya/play"]
    about = front_matter(repo.files["README.md"].decode())
    theirs = b"---\nlanguage: en\nlicense: mit\nlibrary_name: mine\nmodel-index: []\n---\nmy own words\n"
    repo.commits.append({**repo.files, "README.md": theirs})
    push()
    assert front_matter(repo.files["README.md"].decode()) == {
        "language": "en", "license": "mit", "library_name": "mine", "model-index": about["model-index"],
    }  # fmt: skip
    assert push().commit == ""
    push(license="cc0-1.0")
    text = repo.files["README.md"].decode()
    assert front_matter(text)["license"] == "cc0-1.0"
    assert text.endswith("---\nmy own words\n")
    repo.commits.append({**repo.files, "README.md": b"only words\n"})
    push()
    assert front_matter(repo.files["README.md"].decode()) == {"model-index": about["model-index"]}
    repo.commits.append({**repo.files, "README.md": b"---\na: [\n---\n"})
    refused("can't be read now", "push")


def test_a_card_that_was_deleted_by_hand_is_written_again(hub, run):
    push()
    repo = hub.repos["models/maya/play"]
    repo.commits.append({name: content for name, content in repo.files.items() if name != "README.md"})
    assert push().commit
    assert set(repo.files) == PUBLIC


def test_a_file_that_is_no_longer_part_of_it_goes(hub, run):
    push()
    repo = hub.repos["models/maya/play"]
    (run.folder / "metrics.jsonl").write_text("", encoding="utf-8")
    push()
    assert set(repo.files) == PUBLIC - {"loss.png"}


def test_a_commit_is_whole_or_not_at_all(hub, run):
    hub.refuse = lambda request: Refusal(500, "", "oops") if "/commit/" in request else None
    refused("having problems.* maya/play exists now, but is still empty; publish again to fill it", "push")
    assert len(hub.repos["models/maya/play"].commits) == 1
    hub.refuse = lambda request: None
    assert push().commit
    assert set(hub.repos["models/maya/play"].files) == PUBLIC
    hub.refuse = at("/commit/", 500)
    with pytest.raises(NanoGPTError, match=r"Try again later\.$"):
        push(license="mit")


def test_what_somebody_else_pushed_meanwhile_is_not_overwritten(hub, run):
    push()
    repo = hub.repos["models/maya/play"]

    def meanwhile(request):
        if "/preupload/" in request:
            repo.commits.append({**repo.files, "theirs.txt": b"x"})

    hub.refuse = meanwhile
    with pytest.raises(NanoGPTError, match="changed by another upload"):
        push(license="mit")
    assert "theirs.txt" in repo.files
    assert b"license: mit" not in repo.files["README.md"]


# --- errors, each one line -----------------------------------------------------------------------------------------


def at(part: str, status: int, said: str = "no"):
    return lambda request: Refusal(status, "", said) if part in request else None


@pytest.mark.parametrize(
    ("token", "repo", "refuse", "said"),
    [
        (None, "maya/play", None, "not signed in"),
        ("", "maya/play", None, "not signed in"),
        ("hf_" + "x" * 34, "maya/play", None, "rejected this token"),
        (READER, "maya/play", None, "is read-only"),
        (MAYA, "olga/play", None, "permission to write to olga/play"),
        (MAYA, "nobody/play", None, "doesn't exist or isn't yours"),
        (MAYA, "maya/a b", None, "'maya/a b' is not a valid repository. Use the form user/name"),
        (MAYA, "maya/x/y", None, "Use the form user/name"),
        (MAYA, "../play", None, "Use the form user/name"),
        (MAYA, "", None, "Use the form user/name"),
        (MAYA, "https://example.org/maya/play", None, "Use the form user/name"),
        (MAYA, "https://huggingface.co/spaces/maya/play", None, "a Space or a dataset"),
        (MAYA, "maya/play", at("whoami", 429), "Wait a few minutes"),
        (MAYA, "maya/play", at("whoami", 503), "having problems .503."),
        (MAYA, "maya/play", at("create", 409), "is taken"),
        (MAYA, "maya/play", at("create", 402), "requires payment"),
        (MAYA, "maya/play", at("create", 401), "lacks permission"),
        (MAYA, "maya/play", at("auth-check", 403), "don't have permission to write"),
        (MAYA, "maya/play", at("validate-yaml", 400, "bad card"), "rejected the model card"),
        (MAYA, "maya/play", at("/commit/main", 413), "too large"),
        (MAYA, "maya/play", at("/commit/main", 418, "no {room} for {}"), "refused the request .418: no .room. for"),
        (MAYA, "myhf.co/maya/play", None, "Use the form user/name"),
        (MAYA, "maya/play", at("/commit/main", 418, f"a teapot {MAYA}"), "refused the request .418: a teapot hf_…"),
    ],
    ids=lambda value: value if isinstance(value, str) and not value.startswith("hf_") else "",
)
def test_each_refusal_is_a_sentence(hub, run, token, repo, refuse, said):
    hub.refuse = refuse or hub.refuse
    before = {path: path.read_bytes() for path in run.folder.rglob("*") if path.is_file()}
    with pytest.raises(NanoGPTError, match=said) as error:
        push(repo=repo, token=token)
    sentence = str(error.value)
    assert "\n" not in sentence
    assert len(sentence) < 400
    assert MAYA not in sentence
    assert error.value.__cause__ is None  # the client's own error holds the request, and with it the token
    assert error.value.__context__ is None or error.value.__suppress_context__
    assert {path: path.read_bytes() for path in run.folder.rglob("*") if path.is_file()} == before
    assert all(len(found.commits) == 1 for found in hub.repos.values())


def test_an_upload_that_fails_is_a_sentence_too(hub, run):
    hub.large = True
    hub.refuse = at("PUT /lfs", 403)
    refused("don't have permission to write", "push")


def test_a_taken_name_is_left_alone(hub, run):
    theirs = Repo()
    theirs.commits.append({"README.md": b"mine", "pytorch_model.bin": b"x"})
    hub.repos["models/maya/play"] = theirs
    refused("was not made with nanogpt. Choose another name", "push")
    assert len(theirs.commits) == 2
    hub.repos["models/maya/new"] = Repo()  # created on the Hub's page, still empty
    assert push(repo="maya/new").commit


MINE = [
    {"pytorch_model.bin": b"x"}, {"nanogpt/mine.py": b"x"}, {"checkpoints/mine.pt": b"x"},
    {"run.json": b'{"distance": 42.2}'}, {"run.json": b"{"}, {"index.html": b"<h1>My page</h1>"},
]  # fmt: skip


@pytest.mark.parametrize("more", MINE, ids=lambda more: next(iter(more)))
@pytest.mark.parametrize("kind", ["model", "space", "static"])
def test_one_commit_is_no_sign_that_a_repository_is_empty(hub, run, kind, more):
    """A repository whose history was squashed has one, and so does a Space that was duplicated."""
    theirs = Repo(commits=[{".gitattributes": b"", "README.md": b"---\nlicense: mit\n---\n", **more}])
    hub.repos["models/maya/play" if kind == "model" else "spaces/maya/play"] = theirs
    with pytest.raises(NanoGPTError, match="maya/play already exists and was not made with nanogpt"):
        push() if kind == "model" else deploy.deploy(run, "play", MAYA, static=kind == "static")
    assert len(theirs.commits) == 1


LINE = "Check out the configuration reference at https://huggingface.co/docs/hub/spaces-config-reference"
FIRST_PAGE = b"<html><body><h1>Welcome to your static Space!</h1></body></html>"


def test_what_the_hub_puts_into_a_new_repository_is_replaced(hub, run):
    """However often that was committed."""
    hub.repos["models/maya/play"] = Repo(commits=[{"README.md": b"---\r\nlicense: mit\r\n---\r\n"}, Repo().files] * 2)
    assert "edited by hand" not in str(push())
    assert set(hub.repos["models/maya/play"].files) == PUBLIC
    first = {".gitattributes": b"", "README.md": f"---\nsdk: static\n---\n\n{LINE}\n".encode()}
    space = hub.repos["spaces/maya/page"] = Repo(commits=[{**first, "index.html": FIRST_PAGE, "style.css": b""}])
    assert "edited by hand" not in str(deploy.deploy(run, "page", MAYA, static=True))
    assert space.files["index.html"].decode() == page_export.html(run)
    assert LINE.encode() not in space.files["README.md"]


@pytest.mark.parametrize("above", ["", "---\nlicense: mit\n---\n", f"{LINE}\n"])
def test_a_readme_written_into_an_empty_repository_stays(hub, run, above):
    theirs = f"{above}my own words\n".encode()
    repo = hub.repos["models/maya/play"] = Repo(commits=[{**Repo().files, "README.md": theirs}])
    assert "Its README was edited by hand, so it stays as it is" in str(push())
    assert repo.files["README.md"].endswith(b"my own words\n")
    assert "model-index" in front_matter(repo.files["README.md"].decode())
    assert set(repo.files) == PUBLIC


def test_a_private_push_never_lands_in_a_public_repository(hub, run):
    push()
    with pytest.raises(NanoGPTError, match="and is public, so nothing was sent"):
        push(private=True, license="mit")
    push(repo="maya/secret", private=True)
    assert hub.repos["models/maya/secret"].private
    assert "It is private" in str(push(repo="maya/secret", license="mit"))
    with pytest.raises(NanoGPTError, match="no repository maya/secret"):
        pull.pull("maya/secret", OLGA)
    with pytest.raises(NanoGPTError, match="no repository maya/secret"):
        pull.pull("maya/secret", None)
    assert pull.pull("maya/secret", MAYA).name == "classic-2"


def full(*_, **__):
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@pytest.mark.parametrize("at", ["nanogpt.disk.sync", "nanogpt.publish.pull.rewrite"])
def test_a_full_disk_is_named_while_a_model_is_downloaded_and_while_it_is_stored(
    hub, run, home, monkeypatch, capsys, at
):
    push()
    monkeypatch.setattr(at, full)
    assert main(["pull", "maya/play"]) == 2
    assert capsys.readouterr().err.splitlines()[-1] == (
        f"nanogpt: There is no space left in {home}. Free some, or set NANOGPT_HOME to a folder on another disk."
    )
    assert not Run("classic-2").exists()


def test_a_full_disk_elsewhere_is_named_too(hub, run, monkeypatch):
    push()
    monkeypatch.setattr(HfApi, "hf_hub_download", full)
    monkeypatch.setattr(HfApi, "snapshot_download", full)
    with pytest.raises(OSError, match="No space") as error:
        push(license="mit")
    assert error.value.filename.startswith(tempfile.gettempdir())
    with pytest.raises(OSError, match="No space") as error:
        nanogpt.GPT.from_pretrained("maya/play")
    assert error.value.filename == constants.HF_HUB_CACHE


@pytest.mark.parametrize("door", [hub_errors.spoken, refusals.asked])
def test_an_error_of_the_disk_is_none_of_the_hub(door):
    def wrapped():
        try:
            full()
        except OSError as error:  # as the Hub client does
            raise RuntimeError("Error while uploading 'x' to the Hub.") from error

    for fails in (full, wrapped):
        with pytest.raises(OSError, match="No space"), door():
            fails()
    for error in (ConnectionResetError(104, "reset"), ssl.SSLError(1, "no certificate"), OSError("Consistency check")):
        with pytest.raises(NanoGPTError, match="Couldn't reach the Hub|That failed"), door():
            raise error


def test_an_upload_goes_on_if_its_progress_cannot_be_printed(hub, run):
    theirs, ours = os.pipe()
    os.close(theirs)  # as in `2>&1 | true`
    with os.fdopen(ours, "w") as unread, contextlib.redirect_stderr(unread):
        assert main(["push", "classic", "maya/play"]) == 0
    assert set(hub.repos["models/maya/play"].files) == PUBLIC


def test_without_a_hub_it_says_so(run, monkeypatch):
    refused("Couldn't reach the Hub", "push")
    refused("Couldn't reach the Hub", "pull", "maya/play")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    refused("Couldn't reach the Hub|in offline mode", "push")


@pytest.mark.parametrize("ask", [HfApi.whoami, lambda api: api.model_info("maya/play")])  # the latter sets no limit
def test_a_hub_that_never_answers_is_not_waited_for(monkeypatch, ask):
    monkeypatch.setattr(hub_client, "SECONDS", 0.05)
    api = hub_client.client(MAYA)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        api.endpoint = f"http://127.0.0.1:{silent.getsockname()[1]}"
        with pytest.raises(NanoGPTError, match="Couldn't reach the Hub"), hub_errors.spoken():
            ask(api)


def test_the_hub_client_that_a_program_has_set_is_kept(monkeypatch):
    theirs, set_now = object(), []
    monkeypatch.setattr(hub_client, "set_client_factory", set_now.append)
    for before, after in ((hub_client.default_client_factory, [hub_client._session]), (theirs, [])):
        set_now.clear()
        monkeypatch.setattr(hub_client._http, "_GLOBAL_CLIENT_FACTORY", before)
        hub_client._limit_waiting.__wrapped__()
        assert set_now == after


def test_a_limit_that_a_request_has_is_kept():
    request = SimpleNamespace(extensions=dict(timeout=dict(connect=None, read=120)))
    hub_client._limit(request)
    assert request.extensions["timeout"] == dict(connect=hub_client.SECONDS, read=120)


def test_every_client_of_the_hub_has_the_limit():
    own = re.compile(r"HfApi\(|import .*_download\b|\bhub\.\w*_download")  # a client, or a function that makes one
    makes = [path.name for path in (ROOT / "nanogpt").rglob("*.py") if own.search(path.read_text(encoding="utf-8"))]
    assert sorted(makes) == ["hub_client.py", "parcel.py"]
    assert len(own.findall(parcel.SCRIPT)) == 1  # fetches the code with the client; this function has limits


def test_a_program_does_not_wait_for_a_silent_hub_either(run, monkeypatch):
    asked = []
    monkeypatch.setattr(hub_client, "HfApi", lambda token: asked.append(token) or HfApi("http://127.0.0.1:9", token))
    with pytest.raises(NanoGPTError, match="Couldn't reach the Hub"):
        nanogpt.GPT.from_pretrained("maya/play")
    with pytest.raises(NanoGPTError, match="Couldn't reach the Hub"):
        nanogpt.GPT.from_pretrained("maya/play", token=OLGA)
    assert asked == [MAYA, OLGA]


def test_a_refusal_that_is_about_no_repository_names_none():
    for status in hub_errors.BY_STATUS:
        assert "  " not in hub_errors.refusal(status, "Job not found", "")
    assert hub_errors.refusal(404, "Job not found", "") == "The Hub refused the request (404: Job not found)."


def test_a_proxy_that_cannot_be_used_is_no_refusal_of_the_card(monkeypatch):
    monkeypatch.setenv("ALL_PROXY", "foo://bar")
    with pytest.raises(NanoGPTError, match="ALL_PROXY isn't the address of a proxy"), hub_errors.spoken():
        raise ValueError("Unknown scheme for proxy URL")


def test_a_page_in_place_of_an_answer_is_no_hub():
    with pytest.raises(NanoGPTError, match="Couldn't reach the Hub"), hub_errors.spoken():
        json.loads("<html>Sign in to this network first</html>")


def test_a_run_without_weights_and_an_unknown_licence(hub, run, tiny_text):
    with pytest.raises(NanoGPTError, match="Unknown license"):
        push(license="wtf")
    (run.folder / "model.safetensors").unlink()
    refused("no weights yet", "push")
    with pytest.raises(NanoGPTError, match="no run named gone"):
        push("gone")
    assert not hub.asked("create")


@pytest.mark.parametrize(
    ("typed", "repo"),
    [
        ("maya/play", "maya/play"),
        (" maya/play ", "maya/play"),
        ("play", "maya/play"),
        ("https://huggingface.co/maya/play", "maya/play"),
        ("huggingface.co/maya/play/tree/main?x=1#y", "maya/play"),
        ("https://hf.co/maya/play/", "maya/play"),
    ],
)
def test_a_repository_is_given_in_several_ways(typed, repo):
    assert account.repository(typed, "maya") == repo


# --- tokens --------------------------------------------------------------------------------------------------------


def test_a_token_goes_nowhere_but_to_the_hub(hub, run, home, capsys, caplog):
    hub.large = True
    with caplog.at_level("DEBUG"):
        assert main(["push", "classic", "maya/play"]) == 0
        assert main(["pull", "maya/play"]) == 0
        assert main(["deploy", "classic", "maya/space", "--static"]) == 0
        assert main(["push", "classic", "olga/play"]) == 2
    out = capsys.readouterr()
    assert MAYA not in out.out + out.err + caplog.text
    assert all(MAYA.encode() not in body for body in hub.bodies)
    assert all(MAYA.encode() not in path.read_bytes() for path in home.rglob("*") if path.is_file())


def test_visitors_are_not_told_to_change_the_hub_client(monkeypatch):
    error = OfflineModeIsEnabled("offline")
    assert "Unset HF_HUB_OFFLINE" in hub_errors.sentence(error)
    monkeypatch.setenv("NANOGPT_PUBLIC", "1")
    assert hub_errors.sentence(error) == hub_errors.OFFLINE


def test_what_looks_like_a_token_is_taken_out_of_a_sentence():
    said = hub_errors.redacted(f"x {MAYA}, hf_oauth_eyJhbGciOi.J9.e30-x_y; hf_hub stays")
    assert said == "x hf_…, hf_…; hf_hub stays"


# --- the card ------------------------------------------------------------------------------------------------------


def front_matter(card: str) -> dict:
    return yaml.safe_load(card.removeprefix("---\n").split("\n---\n")[0])


def test_the_card_says_what_a_stranger_needs(hub, run):
    text = corpus.listed()[0]
    card = ours.offered(run, "maya/play", "mit")["README.md"].decode()
    about = front_matter(card)
    loss = run.history().events[-1]["val_loss"]
    assert about["license"] == "mit"
    assert about["library_name"] == "transformers"
    metrics = about["model-index"][0]["results"][0]["metrics"]
    assert [metric["value"] for metric in metrics] == [round(loss, 4), round(loss / math.log(2), 4)]
    for said in (
        text.sha256,
        ": 1 layer, 2 heads, width 16, a context length of 16 characters and a vocabulary of ",
        f"{text.characters:,} characters",
        f"{loss:.4f}",
        "![",
        "loss.png",
        "max_new_tokens",
        "MIT",
    ):
        assert said in card
    assert f"{baselines(text.tokens(), len(text.chars))['bigram']:.4f}" in card
    assert run.history().samples[-1]["text"].strip() in card
    assert f"python -m nanogpt train {slug(text.name)}.txt" in card


def test_of_a_run_that_became_worse_the_card_and_a_space_show_what_the_saved_weights_wrote(run):
    best = kept_step(run.history())
    text = run.history().samples[-1]["text"].strip()
    run.log(step=9, seconds=1.0, tokens=576, val_loss=9.0)
    run.sample(9, "of weights that were not saved")
    run.event("finished", step=9, best_val_loss=3.0, last_val_loss=9.0)
    files = ours.offered(run, "maya/play")
    said = files["README.md"].decode()
    assert text in said
    assert f"9 steps, 1.0 seconds of training. The weights are those of step {best}." in said
    assert f"9 steps in 1 second; the weights are those of step {best}" in page_export.html(run)
    sent = deploy.offered(run, "maya/space")
    rows = [json.loads(line) for line in sent["checkpoints/classic/samples.jsonl"].splitlines()]
    assert [row["step"] for row in rows] == [step for step in (0, 3, 6) if step <= best]
    assert not [name for name, content in (files | sent).items() if b"that were not saved" in content]


@pytest.mark.parametrize("checkpoint", [True, False])
def test_what_is_published_of_a_run_that_trains_belongs_to_the_weights(run, monkeypatch, checkpoint):
    history = run.history()
    kept, count = history.best["val_loss"], len(history.rows)
    run.event("started", step=6)
    if checkpoint:
        run.log(step=7, seconds=1.0, tokens=448, val_loss=0.2)  # evaluated since the last save
    else:
        (run.folder / "last.safetensors").unlink()

    def late(source):
        run.log(step=9, seconds=1.0, tokens=576, val_loss=0.1)
        run.history()  # as the page does each second
        return card.judged(source)

    monkeypatch.setattr(ours, "judged", late)
    files = ours.offered(run, "maya/play")
    rows = [json.loads(line) for line in files["metrics.jsonl"].splitlines()]
    assert rows.pop() == dict(event="stopped", step=6)
    assert len(rows) == count
    assert min(row["val_loss"] for row in rows if "val_loss" in row) == kept
    results = front_matter(files["README.md"].decode())["model-index"][0]["results"]
    assert results[0]["metrics"][0]["value"] == round(kept, 4)


def test_the_card_says_on_how_much_of_the_validation_set_the_loss_is(run):
    said = lambda: ours.offered(run, "maya/play")["README.md"].decode()
    assert "Loss on the validation set, the last 10% of the text. Lower is better." in said()
    run.event("finished", step=9, val_loss=2.0, val_characters=run.settings()["corpus"]["characters"] // 100)
    assert re.search(r"the last 10% of the text; this model's is on (9|10)% of that\. Lower is better\.", said())


def test_the_baselines_on_the_card_are_counted_once_and_of_a_long_text_on_a_part(run, monkeypatch):
    monkeypatch.setattr("nanogpt.explain.baselines.MOST", 500)
    said = ours.offered(run, "maya/play")["README.md"].decode()
    characters = corpus.listed()[0].characters
    assert f"The others were counted on 500 of the text's {characters:,} characters." in said
    monkeypatch.setattr("nanogpt.explain.baselines.counted", None)  # they are kept
    assert ours.offered(run, "maya/play")["README.md"].decode() == said


def test_the_settings_on_the_card_are_those_in_effect(run):
    run.change(train={**run.settings()["train"], "weight_decay": -1.0, "budget": 180.0})
    said = ours.offered(run, "maya/play")["README.md"].decode()
    assert "| max_iters | set by the time budget |\n| budget | 3m |" in said
    assert re.search(r"\| weight_decay \| [01]\.\d+ \|", said)
    run.change(train={**run.settings()["train"], "budget": 0.0})
    assert "| max_iters | 6 |\n| budget | no limit |" in ours.offered(run, "maya/play")["README.md"].decode()


def test_the_card_says_that_the_modern_architecture_needs_transformers_5(run):
    said = {name: ours.offered(Run(name), "maya/play")["README.md"].decode() for name in ("classic", "modern")}
    assert "which needs transformers 5 or newer" in said["modern"]
    assert "transformers 5" not in said["classic"]


def test_a_license_of_the_owners_own_says_whom_to_ask(run):
    assert "the owner's own terms; ask the owner" in ours.offered(run, "maya/play", "other")["README.md"].decode()


def test_the_text_is_quoted_only_where_its_owner_wants_that(run, tiny_text):
    start = tiny_text[:400]
    assert start not in ours.offered(run, "maya/play")["README.md"].decode()
    assert start in ours.offered(run, "maya/play", quote=True)["README.md"].decode()
    assert tiny_text[:600] not in ours.offered(run, "maya/play", quote=True)["README.md"].decode()
    corpus.delete(corpus.listed()[0].id)
    assert "| Uniform: knows only the alphabet |" in ours.offered(run, "maya/play")["README.md"].decode()
    with pytest.raises(NanoGPTError, match="There is no text"):
        ours.offered(run, "maya/play", quote=True)


HOSTILE = "<script>alert(1)</script>\n```\n---\n# Not a heading\n````` \u202e [x](javascript:y) | `"


def test_names_and_samples_cannot_become_markup(run):
    run.change(corpus={**run.settings()["corpus"], "name": HOSTILE}, versions={"torch": HOSTILE, "python": ["3"]})
    run.sample(kept_step(run.history()), HOSTILE)
    card = ours.offered(run, "maya/play")["README.md"].decode()
    assert front_matter(card)["model-index"][0]["results"][0]["dataset"]["name"].startswith("<script>")
    body = card.split("\n---\n", 1)[1]
    inside, outside, fence = [], [], ""
    for row in body.splitlines():  # as in Markdown, a block ends at a fence at least as long as the opening one
        found = re.match(r"(`{3,})(.*)$", row)
        if not fence and found and "`" not in found[2]:
            fence = found[1]
        elif fence and found and len(found[1]) >= len(fence) and not found[2].strip():
            fence = ""
        else:
            (inside if fence else outside).append(row)
    assert fence == ""
    assert "<script>alert(1)</script>" in inside
    assert "\u202e" not in card
    spans = re.sub(r"(`+)(?!`)(.*?)(?<!`)\1(?!`)", "", "\n".join(outside))  # without inline code
    assert "<script>" not in spans
    assert "javascript:" not in spans


def test_the_baselines_are_those_counted_by_hand():
    tokens = np.array([0, 1, 0, 1, 2, 0, 1, 0, 0, 1] * 3, dtype=np.uint8)
    n = int(0.9 * len(tokens))
    known, held = tokens[:n].tolist(), tokens[n:].tolist()
    frequent = [(known.count(i) + 1) / (n + 4) for i in range(4)]
    pairs = list(zip(known, known[1:]))
    losses = {"unigram": [], "bigram": []}
    for a, b in zip(held, held[1:]):
        losses["unigram"].append(-math.log(frequent[b]))
        likely = (pairs.count((a, b)) + frequent[b]) / (known[:-1].count(a) + 1)
        losses["bigram"].append(-math.log(likely))
    expected = {"uniform": math.log(4), **{key: sum(some) / len(some) for key, some in losses.items()}}
    assert baselines(tokens, 4) == pytest.approx(expected, rel=1e-12)


def test_the_curve_is_a_picture():
    rows = [dict(step=step, train_loss=4 / (1 + step), val_loss=4 - step / 10) for step in range(20)]
    picture = Image.open(io.BytesIO(curve.png(rows, 2.5)))
    assert (picture.format, picture.size) == ("PNG", (curve.WIDTH, curve.HEIGHT))
    colors = {color for _, color in picture.convert("RGB").getcolors(100_000)}
    blue = tuple(bytes.fromhex(curve.COLORS["val_loss"][1:]))
    assert any(max(abs(a - b) for a, b in zip(color, blue)) < 24 for color in colors)
    assert curve.png(rows, 2.5) == curve.png(rows, 2.5)
    assert curve.png(rows[:1]) == curve.png([]) == b""


@pytest.mark.parametrize("loss", [0.0, 2.5, 1e17])
def test_a_loss_that_stays_the_same_is_drawn(loss):
    assert curve.png([dict(step=step, train_loss=loss) for step in (0, 10)])


@pytest.mark.parametrize(("low", "high", "marks"), [(0, 5000, 6), (1.8, 4.2, 6), (2.0, 2.0, 1), (0.001, 0.0015, 6)])
def test_the_marks_of_an_axis_are_round(low, high, marks):
    found = curve.ticks(low, high)
    assert found[0] <= low
    assert found[-1] <= high + 1e-9
    assert len(found) == marks <= 9


# --- loaded with transformers --------------------------------------------------------------------------------------


def snippets(card: str) -> list[str]:
    return re.findall(r"^```python\n(.*?)^```", card, re.M | re.S)


@pytest.mark.parametrize("layout", ["classic", "modern"])
def test_transformers_loads_what_was_pushed_and_the_code_on_the_card_works(hub, run, layout, monkeypatch, capsys):
    from transformers import AutoModelForCausalLM, AutoTokenizer

    monkeypatch.delenv("HF_TOKEN")
    hub.large = layout == "modern"
    repo = f"maya/{layout}"
    push(layout, repo)
    model = AutoModelForCausalLM.from_pretrained(repo)
    source = load_model(Run(layout).folder)
    assert torch.allclose(logits(model), logits(source), atol=1e-6, rtol=0)
    assert dict(AutoTokenizer.from_pretrained(repo)("The old")) == {
        "input_ids": source_ids(layout, "The old"), "attention_mask": [1] * 7,
    }  # fmt: skip
    with_transformers, with_ours = snippets(hub.repos[f"models/{repo}"].files["README.md"].decode())
    exec(with_transformers, {})
    assert len(capsys.readouterr().out) > 5
    exec(with_ours, {})
    assert len(capsys.readouterr().out) > 500


def source_ids(name: str, text: str) -> list[int]:
    return CharTokenizer.load(Run(name).folder).encode(text)


@pytest.mark.parametrize("where", ["repo", "folder", "name"])
def test_a_program_loads_it_with_its_alphabet(hub, run, where, capsys):
    push()
    model = nanogpt.GPT.from_pretrained({"repo": "maya/play", "folder": run.folder, "name": "classic"}[where])
    assert torch.equal(logits(model), logits(load_model(run.folder)))
    assert main(["sample", "classic", "--prompt", "Thé ", "--length", "40"]) == 0
    assert capsys.readouterr().out == model.write("Thé ", length=40) + "\n"


def test_a_program_loads_the_model_that_ships_and_a_typo_is_a_sentence(hub, run, monkeypatch):
    monkeypatch.delenv("NANOGPT_SHIPPED")
    assert nanogpt.GPT.from_pretrained("shakespeare").config.vocab_size == 65
    for name, said in (
        ("shakespear", "^There is no run named shakespear; did you mean shakespeare"),
        ("checkpoints/nothere", "^There is no such folder on this machine. There is no repository checkpoints/nothere"),
        ("./Not here", "^There is no such folder on this machine. './Not here' is not a valid repository"),
    ):
        with pytest.raises(NanoGPTError, match=said):
            nanogpt.GPT.from_pretrained(name)


def test_a_program_writes_with_weights_prepared_once_and_again_after_they_changed(run):
    model = nanogpt.GPT.from_pretrained("classic")
    first = model.write("The", length=20)
    ready = model.ready
    assert "".join(model.stream("The", length=20)) == first
    assert model.ready is ready
    with torch.no_grad():
        model.lm_head.weight.neg_()
    changed = model.write("The", length=20)
    assert changed != first
    assert model.ready is not ready
    for p in model.parameters():
        p.data += 0.1 * torch.randn(p.shape)  # as the lecture updates weights, which torch doesn't count as a change
    changed = model.write("The", length=20)
    with torch.no_grad():  # each sum of weights stays the same
        model.lm_head.weight.copy_(model.lm_head.weight.flip(0))
    assert model.write("The", length=20) != changed
    assert model.train().ready is None
    with torch.inference_mode():  # whose tensors don't say whether they have changed
        assert nanogpt.GPT.from_pretrained("classic").write("The", length=20) == first


def test_a_model_that_has_written_can_be_copied_and_pickled(run):
    model = nanogpt.GPT.from_pretrained("classic")
    first = model.write("The", length=20)
    assert pickle.dumps(model)
    another = copy.deepcopy(model)
    assert another.ready is None
    assert another.write("The", length=20) == first
    assert another.ready is not None
    with torch.no_grad():
        another.lm_head.weight.neg_()
    assert another.write("The", length=20) != first
    assert model.write("The", length=20) == first


def test_nothing_is_prepared_off_the_cpu(run, monkeypatch):
    """Reading the weights would take time on a GPU, and their sum in float64 failed on an Apple one."""
    model = nanogpt.GPT.from_pretrained("classic").to("meta")
    monkeypatch.setattr("nanogpt.publish.pretrained.stream", lambda *given: iter("y"))
    assert model.write("The") == "They"
    assert model.ready is None


def test_a_program_gets_one_text_piece_by_piece_and_is_refused_several(run):
    model = nanogpt.GPT.from_pretrained("classic")
    pieces = list(model.stream("The", length=20))
    assert pieces[:3] == ["T", "h", "e"]
    assert len(pieces) == 23
    for method in (model.write, model.stream):
        with pytest.raises(NanoGPTError, match="num_samples must be 1"):
            method("The", num_samples=3)


def test_the_package_lists_what_it_exports():
    assert {"GPT", "NanoGPTError", "__version__"} <= set(dir(nanogpt))
    assert nanogpt.NanoGPTError is NanoGPTError


def test_a_program_s_mistakes_are_named(run):
    model = nanogpt.GPT.from_pretrained("classic")
    for setting, said in (
        ("max_new_tokens", r"There is no setting 'max_new_tokens'\. Choose one of length, num_samples, seed, "),
        ("temp", r"There is no setting 'temp'; did you mean temperature\?"),
    ):
        with pytest.raises(NanoGPTError, match=said):
            model.write("The", **{setting: 10})
    with pytest.raises(
        NanoGPTError, match=r"has no tokenizer\. Load one with from_pretrained, or set model\.tokenizer"
    ):
        nanogpt.GPT(model.config).write("The")


@pytest.mark.slow
def test_importing_the_package_does_not_import_torch():
    script = "import sys, nanogpt; assert 'torch' not in sys.modules; nanogpt.GPT; assert 'torch' in sys.modules"
    script += "\ntry: nanogpt.nothing\nexcept AttributeError as error: print(error)"
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, encoding="utf-8")
    assert (done.returncode, done.stdout, done.stderr) == (0, "module 'nanogpt' has no attribute 'nothing'\n", "")


# --- other people's repositories -----------------------------------------------------------------------------------


@pytest.mark.parametrize("layout", ["classic", "modern"])
def test_a_model_of_the_same_form_made_by_others_can_be_pulled(hub, run, layout, tmp_path):
    """The model was saved by transformers itself, without any of nanogpt's own files."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    push(layout, "maya/play")
    theirs = tmp_path / "theirs"
    AutoModelForCausalLM.from_pretrained("maya/play").save_pretrained(theirs)
    AutoTokenizer.from_pretrained("maya/play").save_pretrained(theirs)
    hub.repos["models/olga/other"] = Repo(commits=[{}, {path.name: path.read_bytes() for path in theirs.iterdir()}])
    pulled = pull.pull("https://huggingface.co/olga/other", MAYA)
    assert pulled.name == "other"
    assert torch.equal(logits(load_model(pulled.folder)), logits(load_model(Run(layout).folder)))
    assert pulled.settings()["pulled"]["repo"] == "olga/other"
    assert main(["sample", "other", "--length", "5"]) == 0
    assert main(["runs"]) == 0


def hostile(hub, files: dict[str, bytes | None]) -> None:
    """Add a repository with the pushed files, some of them replaced, or removed if None."""
    pushed = hub.repos["models/maya/play"].files
    changed = {name: content for name, content in {**pushed, **files}.items() if content is not None}
    hub.repos["models/evil/model"] = Repo(commits=[{}, changed])


def config_with(files: dict[str, bytes], **changes) -> bytes:
    return json.dumps({**json.loads(files["config.json"]), **changes}).encode()


@pytest.mark.parametrize(
    ("name", "make", "said"),
    [
        ("model.safetensors", lambda f: None, "no model.safetensors"),
        ("tokenizer.json", lambda f: None, "no tokenizer.json"),
        ("config.json", lambda f: b"{", "cannot be read"),
        ("config.json", lambda f: b"[" * 100_000, "cannot be read"),
        ("config.json", lambda f: config_with(f, n_layer=10**9), "n_layer"),
        ("config.json", lambda f: config_with(f, n_layer=2), "doesn't match its config.json"),
        ("config.json", lambda f: config_with(f, model_type="llama"), "can't be loaded here"),
        ("config.json", lambda f: config_with(f, activation_function="gelu_new"), "can't be loaded here"),
        ("config.json", lambda f: config_with(f, scale_attn_weights=False), "scale_attn_weights=False; expected True"),
        ("config.json", lambda f: config_with(f, scale_attn_by_inverse_layer_idx=True), "layer_idx=True; expected Fal"),
        ("config.json", lambda f: b" " * 2_000_000, "at most 1.0 MB"),
        ("tokenizer.json", lambda f: b'{"model":{"vocab":' * 50_000, "no readable tokenizer.json"),
        ("tokenizer.json", lambda f: b'{"model":{"vocab":{"ab":0}}}', "single characters"),
        ("tokenizer.json", lambda f: b'{"model":{"vocab":{"\\ud800":0}}}', "no readable tokenizer.json"),
        ("model.safetensors", lambda f: b"\x80\x04.", "cannot be read"),
        ("model.safetensors", lambda f: b"\xff" * 100, "cannot be read"),
        ("model.safetensors", lambda f: f["model.safetensors"][:-10], "cannot be read"),
        ("model.safetensors", lambda f: with_nan(f["model.safetensors"]), "contain NaN or infinity"),
        ("run.json", lambda f: b'{"name":5}', "run.json"),
        ("run.json", lambda f: b'{"corpus":[],"train":7,"versions":"x"}', "run.json"),
        ("metrics.jsonl", lambda f: b'{"event":"<b>"}\n', "metrics.jsonl"),
    ],
)
def test_a_hostile_repository_gets_a_sentence_and_leaves_nothing(hub, run, home, name, make, said):
    push()
    hostile(hub, {name: make(hub.repos["models/maya/play"].files)})
    there = lambda: sorted(path for path in home.rglob("*") if path != home / "checkpoints" / ".writers")
    before = there()
    with pytest.raises(NanoGPTError, match=said) as error:
        pull.pull("evil/model", None)
    assert "\n" not in str(error.value)
    assert len(str(error.value)) <= 300
    assert str(home) not in str(error.value)
    assert there() == before


def with_nan(weights: bytes) -> bytes:
    tensors = load(weights)
    tensors["lm_head.weight"][0, 0] = float("nan")
    return save(tensors, {"format": "pt"})


def test_only_what_is_wanted_is_fetched(hub, run, home):
    push()
    hostile(
        hub, {"model.py": b"import os", "pytorch_model.bin": b"\x80", "last.safetensors": b"x", "samples.jsonl": b"x"}
    )
    hub.repos["models/evil/model"].files["run.json"] = json.dumps(
        {**json.loads(hub.repos["models/maya/play"].files["run.json"]), "owner": "x", "public": True, "evil": "x"}
    ).encode()
    hub.requests.clear()
    pulled = pull.pull("evil/model", None)
    fetched = {request.split("/")[-1] for request in hub.asked("^GET .*/resolve/")}
    assert fetched == set(pull.WANTED)
    assert {path.name for path in pulled.folder.iterdir()} == {*ours.MODEL, "run.json", "metrics.jsonl"}
    assert "public" not in pulled.settings()
    assert "evil" not in pulled.settings()


def test_no_name_of_a_repository_gets_in_the_way_of_its_download(hub, run):
    push(repo="maya/fetched")
    pulled = pull.pull("maya/fetched", MAYA)
    assert {path.name for path in pulled.folder.iterdir()} == {*ours.MODEL, "run.json", "metrics.jsonl"}


def test_a_model_too_large_is_refused_before_it_is_fetched(hub, run, monkeypatch):
    push()
    monkeypatch.setitem(archive.FILES, "model.safetensors", 10_000)
    hub.requests.clear()
    refused("at most 10.0 kB is allowed", "pull", "maya/play")
    assert not hub.asked("/resolve/")
    monkeypatch.setitem(archive.FILES, "model.safetensors", 10**9)
    monkeypatch.setenv("NANOGPT_MAX_PARAMETERS", "100")
    monkeypatch.setattr("nanogpt.publish.pull.load_model", None)
    refused("this server allows 100", "pull", "maya/play")


def test_a_model_without_room_for_it_is_refused_before_it_is_fetched(hub, run):
    push()
    asked: list[int] = []

    def check_room(size: int) -> None:
        asked.append(size)
        raise NanoGPTError("There is no room.")

    hub.requests.clear()
    with pytest.raises(NanoGPTError, match="There is no room"):
        pull.pull("maya/play", MAYA, check_room=check_room)
    files = hub.repos["models/maya/play"].files
    assert asked == [sum(len(files[name]) for name in pull.WANTED)]
    assert not hub.asked("/resolve/")


def test_a_pulled_run_has_the_name_that_was_asked_for(hub, run, capsys):
    push()
    assert main(["pull", "maya/play", "--name", "mine"]) == 0
    assert Run("mine").settings()["name"] == "mine"
    assert main(["pull", "maya/play", "--name", "mine"]) == 2
    assert main(["pull", "maya/play", "--name", "../mine"]) == 2
    assert main(["pull", "maya/play", "--name", "con"]) == 2  # a device on Windows
    assert not Run("con").exists()
    assert main(["pull", "maya/gone"]) == 2
    assert "no repository maya/gone" in capsys.readouterr().err


# --- Spaces --------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_space_has_the_program_and_the_model_and_nothing_else(hub, run, home, tmp_path, capsys):
    (home / ".env").write_text("secret", encoding="utf-8")
    assert main(["deploy", "classic", "maya/space"]) == 0
    space = hub.repos["spaces/maya/space"]
    assert space.facts["sdk"] == "gradio"
    assert space.facts["hardware"] == "zero-a10g"
    assert len(space.commits) == 2
    inside = [name for name in space.files if name.startswith("checkpoints/")]
    files = (*ours.MODEL, "run.json", "metrics.jsonl", "samples.jsonl")
    assert set(inside) == {f"checkpoints/classic/{name}" for name in files}
    rest = set(space.files) - set(inside)
    allowed = re.compile(
        r"(nanogpt/[\w/]+\.(py|typed|js|css|html|svg|txt|wasm|wat)|app\.py|(pre-)?requirements\.txt|LICENSE|README\.md|\.gitattributes)"
    )
    assert {name for name in rest if not allowed.fullmatch(name)} == set()
    assert {"app.py", "nanogpt/ui/page.py", "nanogpt/ui/page.css", "nanogpt/train.py", "requirements.txt"} <= rest
    assert space.files["pre-requirements.txt"] == (ROOT / "pre-requirements.txt").read_bytes()  # the torch for ZeroGPU
    made_by_tools = {".pyc", ".pyi"}
    package = {path for path in (ROOT / "nanogpt").rglob("*") if path.is_file() and path.suffix not in made_by_tools}
    assert {path.relative_to(ROOT).as_posix() for path in package} <= rest
    about = front_matter(space.files["README.md"].decode())
    assert (about["title"], about["sdk"], about["app_file"]) == ("space", "gradio", "app.py")
    for name, content in space.files.items():  # as on the Space: the run is found there, and every visitor can see it
        (tmp_path / "space" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "space" / name).write_bytes(content)
    there = tmp_path / "space" / "checkpoints" / "classic"
    assert torch.equal(logits(load_model(there)), logits(load_model(run.folder)))
    environment = {key: value for key, value in os.environ.items() if key != "NANOGPT_HOME"} | {
        "SPACE_ID": "maya/space"
    }
    script = "from nanogpt.launch.visitors import Visitor; print([run.name for run in Visitor('somebody').runs()])"
    command = [sys.executable, "-c", script]
    done = subprocess.run(command, cwd=tmp_path / "space", env=environment, capture_output=True, encoding="utf-8")
    assert (done.stdout, done.stderr) == ("['classic']\n", "")
    assert main(["deploy", "classic", "maya/space"]) == 0
    assert "nothing was sent" in capsys.readouterr().out


def test_a_file_of_yours_in_the_package_is_not_deployed(run, tmp_path, monkeypatch):
    project = tmp_path / "project"
    for name in (
        "nanogpt/__init__.py",
        "nanogpt/py.typed",
        "nanogpt/ui/page.css",
        "nanogpt/publish/exported/train.txt",
    ):
        (project / name).parent.mkdir(parents=True, exist_ok=True)
        (project / name).touch()
    for name in (*deploy.FILES, "README.md"):
        (project / name).write_text("", encoding="utf-8")
    package = {
        f"nanogpt/{path.relative_to(project / 'nanogpt').as_posix()}" for path in project.rglob("nanogpt/**/*.*")
    }
    for name in ("diary.txt", "ui/page.html", "publish/notes.txt"):
        (project / "nanogpt" / name).write_text("private", encoding="utf-8")
    monkeypatch.setattr(paths, "CHECKOUT", project)
    files = deploy.offered(run, "maya/space")
    assert {name for name in files if name.startswith("nanogpt/")} == package


def test_an_installed_package_deploys_the_project_that_it_was_started_in(run, tmp_path, monkeypatch):
    monkeypatch.setattr(paths, "CHECKOUT", None)
    monkeypatch.chdir(ROOT)
    files = deploy.offered(run, "maya/space")
    assert {"app.py", "nanogpt/model.py", f"checkpoints/{run.name}/model.safetensors"} <= files.keys()
    monkeypatch.chdir(tmp_path)
    for name in ("app.py", "requirements.txt"):  # of another project
        (tmp_path / name).touch()
    with pytest.raises(NanoGPTError, match="in the folder that you cloned, or create a static Space"):
        deploy.offered(run, "maya/space")


def test_another_run_replaces_the_model_of_a_space(hub, run):
    deploy.deploy(run, "space", MAYA)
    space = hub.repos["spaces/maya/space"]
    space.commits.append({**space.files, "nanogpt/old.py": b"# of an earlier version", "notes.txt": b"the owner's"})
    said = str(deploy.deploy(Run("modern"), "space", MAYA))
    assert said.endswith("It no longer has the model classic.")
    assert {name.split("/")[1] for name in space.files if name.startswith("checkpoints/")} == {"modern"}
    assert "nanogpt/old.py" not in space.files
    assert space.files["notes.txt"] == b"the owner's"
    deploy.deploy(run, "space", MAYA, static=True)
    assert not [name for name in space.files if name.startswith(("checkpoints/", "nanogpt/"))]
    deploy.deploy(run, "space", MAYA)
    assert not {"index.html", "run.json"} & set(space.files)


def test_a_space_whose_readme_was_edited_still_starts_as_what_it_is(hub, run):
    edit = lambda: space.commits.append(
        {**space.files, "README.md": space.files["README.md"].replace(b"colorFrom: blue", b"colorFrom: red")}
    )
    deploy.deploy(run, "space", MAYA, static=True)
    space = hub.repos["spaces/maya/space"]
    edit()
    deploy.deploy(run, "space", MAYA)
    about, wanted = (
        front_matter(text.decode()) for text in (space.files["README.md"], (ROOT / "README.md").read_bytes())
    )
    assert about["colorFrom"] == "red"
    for key in ("sdk", "sdk_version", "python_version", "app_file", "hf_oauth", "hf_oauth_scopes"):
        assert about[key] == wanted[key]
    deploy.deploy(run, "space", MAYA, static=True)
    about = front_matter(space.files["README.md"].decode())
    assert about["sdk"] == "static"
    assert not {"sdk_version", "app_file", "hf_oauth"} & about.keys()


@pytest.mark.parametrize("license", ["cc-by-nc-4.0", None])
def test_a_space_has_the_license_of_its_model(run, license):
    text = deploy.offered(run, "maya/space", license=license)["README.md"].decode()
    assert front_matter(text).get("license") == license  # and not that of the project's README
    assert f"Of the model: {card.in_words(license)}" in text
    assert "Of the app: MIT, see LICENSE." in text


def test_a_static_space_is_the_page_alone(hub, run, capsys):
    assert main(["deploy", "modern", "maya/page", "--static", "--private", "--license", "mit"]) == 0
    space = hub.repos["spaces/maya/page"]
    assert (space.facts["sdk"], space.private) == ("static", True)
    assert "hardware" not in space.facts
    assert set(space.files) == {".gitattributes", "README.md", "index.html", "run.json"}
    assert space.files["index.html"].decode() == page_export.html(Run("modern"))
    assert front_matter(space.files["README.md"].decode())["sdk"] == "static"
    assert main(["deploy", "modern", "maya/page", "--static", "--dry-run"]) == 0
    assert "index.html" in capsys.readouterr().out


def test_a_static_space_rounds_a_model_that_would_be_too_large(run, monkeypatch):
    whole, rounded = (page_export.size(read_config(run.folder), int8)[1] for int8 in (False, True))
    monkeypatch.setattr(page_export, "MAX_MB", (whole + rounded) / 2)
    with pytest.raises(NanoGPTError, match=r"Round its weights to 8 bits: --int8, or Small web page on the page\."):
        page_export.html(run)
    sent = deploy.offered(run, "maya/page", static=True)
    assert sent["index.html"].decode() == page_export.html(run, int8=True)
    monkeypatch.setattr(page_export, "MAX_MB", rounded / 2)
    with pytest.raises(NanoGPTError, match="Publish the model instead"):
        deploy.offered(run, "maya/page", static=True)


@pytest.mark.parametrize("static", [True, False])
@pytest.mark.parametrize("layout", ["classic", "modern"])
def test_a_space_reads_a_run_once(run, monkeypatch, layout, static):
    folder, opened = Run(layout).folder, Counter()
    real = io.open

    def counting(path, *rest, **named):
        if Path(path).parent == folder:
            opened[Path(path).name] += 1
        return real(path, *rest, **named)

    monkeypatch.setattr(io, "open", counting)  # called by pathlib
    monkeypatch.setattr(disk, "open", counting, raising=False)
    files = deploy.offered(Run(layout), "maya/space", static)
    assert {"run.json", "config.json", "tokenizer.json", "model.safetensors", "metrics.jsonl"} <= opened.keys()
    assert set(opened.values()) == {1}
    assert "README.md" in files


def test_a_space_on_a_cpu_wants_a_paid_account(hub, run, capsys):
    assert main(["deploy", "classic", "maya/space", "--hardware", "cpu-basic"]) == 2
    said = capsys.readouterr().err.splitlines()[-1]
    assert "payment" in said
    assert "--static" in said
    assert "zero-a10g" in said
    assert hub.repos == {}


@pytest.mark.parametrize("typed", ["hf_abcdefghijklmnopqrstuvwxyz012345", "me/hf_abcdefghijklmnopqrstuvwxyz012345"])
def test_a_token_in_the_wrong_box_is_neither_sent_nor_repeated(typed):
    with pytest.raises(NanoGPTError, match="looks like a token") as refused:
        account.repository(typed, "me")
    assert "hf_" not in str(refused.value)
