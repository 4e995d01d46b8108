"""Archives of runs: a bitwise-exact round trip, and a clear refusal of anything that isn't a valid archive."""

from __future__ import annotations

import contextlib
import errno
import io
import json
import math
import os
import secrets
import stat
import struct
import warnings
import zipfile
from pathlib import Path

import pytest
import safetensors.torch
import torch
from safetensors.torch import load, save

from nanogpt import corpus, disk, train
from nanogpt.config import NanoGPTError
from nanogpt.formats import load_model, weights_bytes
from nanogpt.launch import prepare
from nanogpt.runs import Run, all_runs, archive, checks, kept_loss, queue
from nanogpt.runs.archive import pack, unpack

TINY = dict(n_layer=1, n_head=2, n_embd=16, block_size=16, batch_size=4, warmup_iters=0, device="cpu")


@pytest.fixture(scope="module")
def trained(tmp_path_factory, tiny_text) -> bytes:
    """Return the archive of a run that stopped at step 6, built once per module."""
    home = tmp_path_factory.mktemp("trained")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("NANOGPT_HOME", str(home))
        run = prepare.new_run("a-play", corpus.add(tiny_text, "A play"), max_iters=6, eval_interval=3, **TINY)
        train.train(run)
        (run.folder / "log.txt").write_text("step 0\nstep 6\n", encoding="utf-8")
        (run.folder / "stop").touch()
        pack(run, home / "run.zip", to_continue=True)
        return (home / "run.zip").read_bytes()


@pytest.fixture
def file(home) -> Path:
    """Return a path for the test's archive, outside checkpoints/, which may contain only runs when the test ends."""
    (home / "in").mkdir()
    return home / "in" / "run.zip"


def contents(data: bytes) -> dict[str, bytes]:
    with zipfile.ZipFile(io.BytesIO(data)) as found:
        return {name: found.read(name) for name in found.namelist()}


def zipped(parts, how=zipfile.ZIP_DEFLATED) -> bytes:
    """Return a .zip of (name or ZipInfo, content) pairs, valid or not."""
    out = io.BytesIO()
    with warnings.catch_warnings(), zipfile.ZipFile(out, "w", how) as made:
        warnings.simplefilter("ignore")  # zipfile warns about duplicate names
        for name, content in parts:
            made.writestr(name, content)
    return out.getvalue()


def changed(trained: bytes, **parts) -> bytes:
    """Return the archive with some files replaced, or removed if None; `__` in a keyword stands for a dot."""
    found = {**contents(trained), **{name.replace("__", "."): part for name, part in parts.items()}}
    return zipped((name, part) for name, part in found.items() if part is not None)


def refused(file: Path, data: bytes, match: str | None = None) -> None:
    """Check that unpacking fails with a one-line message and leaves no files behind."""
    file.write_bytes(data)
    before = sorted(path for path in file.parent.parent.rglob("*") if path.is_file())
    with pytest.raises(NanoGPTError, match=match) as error:
        unpack(file)
    sentence = str(error.value)
    assert len(sentence) <= 300
    assert "\n" not in sentence
    assert str(file.parent.parent) not in sentence
    assert sorted(path for path in file.parent.parent.rglob("*") if path.is_file()) == before
    assert list((file.parent.parent / "checkpoints").glob("[!.]*")) == []
    assert list((file.parent.parent / "checkpoints").glob(".import*")) == []
    assert all_runs() == []


# --- round trip ----------------------------------------------------------------------------------------------------


def test_a_run_comes_back_to_the_bit(file, trained, tmp_path):
    file.write_bytes(trained)
    run = unpack(file)
    assert run.name == "a-play"
    assert {path.name: path.read_bytes() for path in run.folder.iterdir()} == contents(trained)
    assert set(contents(trained)) == set(archive.FILES)  # neither the lock nor the stop file
    again = tmp_path / "again.zip"
    pack(run, again, to_continue=True)
    assert again.read_bytes() == trained
    assert (run.status().state, run.history().step) == ("finished", 6)
    assert len(run.history().samples) == 3


def test_it_can_be_continued_where_its_text_is_and_only_with_its_save(file, trained, tiny_text):
    file.write_bytes(trained)
    whole, light = unpack(file), None
    pack(whole, file)
    light = unpack(file)
    assert light.name == "a-play-2"
    assert not (light.folder / "last.safetensors").exists()
    corpus.add(tiny_text, "A play")
    with pytest.raises(NanoGPTError, match="a-play-2 has no checkpoint, so it can't be resumed"):
        prepare.to_continue(light, 8)
    prepare.to_continue(whole, 8)
    train.train(whole)
    assert [row["step"] for row in whole.history().rows] == sorted({row["step"] for row in whole.history().rows})
    assert whole.status().step == 8


def test_a_run_packed_without_its_save_while_it_began_is_not_started_over(file, trained, tiny_text):
    """Its log looks like that of a run killed here during its first save, which would start from step 0."""
    begun = b"".join(contents(trained)["metrics.jsonl"].splitlines(keepends=True)[:2])
    file.write_bytes(changed(trained, last__safetensors=None, metrics__jsonl=begun))
    run = unpack(file)
    corpus.add(tiny_text, "A play")
    assert [event["event"] for event in run.history().events] == ["started"]
    with pytest.raises(NanoGPTError, match="has no checkpoint"):
        prepare.to_continue(run)
    run.change(checkpoint=True)  # as if it had been started here
    prepare.to_continue(run)


def test_an_import_that_is_killed_leaves_nothing_that_has_a_name(file, trained, monkeypatch):
    file.write_bytes(trained)
    with monkeypatch.context() as patch:
        patch.setattr(disk, "_delete", lambda path: None)  # simulate a kill: no cleanup
        patch.setattr(Run, "take", lambda run, folder: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            unpack(file)
    [left] = [path for path in (file.parent.parent / "checkpoints").iterdir() if path.name != ".writers"]
    assert disk.is_temporary(left.name)
    assert all_runs() == []
    assert unpack(file).name == "a-play"
    assert not left.exists()


def test_a_name_that_is_taken_gets_a_number(file, trained):
    file.write_bytes(trained)
    names = [unpack(file).name for _ in range(3)]
    assert names == ["a-play", "a-play-2", "a-play-3"]
    assert [Run(name).settings()["name"] for name in names] == names


@pytest.mark.parametrize(("name", "becomes"), [("../../x", "x"), ("", "run"), ("A Play!", "a-play"), ("ü" * 99, None)])
def test_a_hostile_name_of_the_run_becomes_a_name(file, trained, name, becomes):
    settings = json.loads(contents(trained)["run.json"])
    file.write_bytes(changed(trained, run__json=json.dumps({**settings, "name": name, "owner": "somebody"})))
    run = unpack(file)
    assert run.name == (becomes or run.name)
    assert run.settings()["owner"] is None
    assert run.folder.parent == file.parent.parent / "checkpoints"


@pytest.mark.parametrize(("name", "becomes"), [("\x1b]0;x\x07a\nplay\x9b2J", "]0;x a play 2J"), ("\x1b", "Untitled")])
def test_the_name_of_its_text_reaches_no_terminal_as_a_code(file, trained, name, becomes):
    settings = json.loads(contents(trained)["run.json"])
    settings["corpus"]["name"] = name
    file.write_bytes(changed(trained, run__json=json.dumps(settings)))
    assert unpack(file).settings()["corpus"]["name"] == becomes


def test_a_run_is_packed_while_it_is_written_to(file, trained):
    file.write_bytes(trained)
    run = unpack(file)
    with (run.folder / "metrics.jsonl").open("ab") as metrics:
        metrics.write(b'{"step":7,"sec')
    with queue.turn(run.name, "cpu"), run.held():
        pack(run, file)
    assert contents(file.read_bytes())["metrics.jsonl"] == contents(trained)["metrics.jsonl"]


@pytest.mark.parametrize("public", [None, {}])
def test_without_its_checkpoint_a_run_that_trains_is_packed_as_of_its_last_save(file, trained, public):
    *logged, _finished = contents(trained)["metrics.jsonl"].splitlines(keepends=True)
    file.write_bytes(changed(trained, metrics__jsonl=b"".join(logged)))
    run = unpack(file)
    saved = kept_loss(run.history())
    run.log(step=7, seconds=9.0, tokens=448, val_loss=saved / 2)  # better, but its weights aren't on disk yet
    run.sample(7, "newer")
    pack(run, file, public=public)
    history = unpack(file).history()
    assert (history.step, history.samples[-1]["step"], kept_loss(history)) == (6, 6, saved)
    pack(run, file, to_continue=True)
    assert unpack(file).history().step == 7  # resuming cuts it back


def test_a_run_without_weights_is_not_packed(home, tiny_text):
    run = prepare.new_run("one", corpus.add(tiny_text), max_iters=6, **TINY)
    with pytest.raises(NanoGPTError, match="no weights yet"):
        pack(run, home / "run.zip")
    with pytest.raises(NanoGPTError, match="no run named two"):
        pack(Run("two"), home / "run.zip")
    assert not (home / "run.zip").exists()


def full(*_):
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_on_a_full_disk_nothing_is_left_of_an_archive(file, trained, monkeypatch):
    file.write_bytes(trained)
    run = unpack(file)
    (file.parent / "folder").mkdir()
    with pytest.raises(OSError, match="directory|denied"):  # which isn't deleted
        pack(run, file.parent / "folder")
    monkeypatch.setattr(archive.shutil, "copyfileobj", full)
    with pytest.raises(OSError, match="No space"):
        pack(run, file.parent / "new.zip")
    assert {path.name for path in file.parent.iterdir()} == {"run.zip", "folder"}


def test_a_full_disk_stays_an_error_of_the_disk_in_an_import(file, trained, monkeypatch):
    file.write_bytes(trained)
    monkeypatch.setattr(archive.shutil, "copyfileobj", full)
    with pytest.raises(OSError, match="No space"):
        unpack(file)
    assert [path.name for path in (file.parent.parent / "checkpoints").iterdir()] == [".writers"]


def test_an_archive_that_points_to_before_its_beginning_is_damaged(file, trained, monkeypatch):
    def misled(*_):
        raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))  # as by a seek to there

    monkeypatch.setattr(archive, "_entries", misled)
    refused(file, trained, "damaged")


def test_for_others_a_run_is_packed_without_its_log_and_with_what_is_public(file, trained):
    file.write_bytes(trained)
    public = {"run.json": b'{"name":"x"}', "metrics.jsonl": b""}
    pack(unpack(file), file, public=public)
    expected = {
        name: content for name, content in contents(trained).items() if name not in ("log.txt", "last.safetensors")
    }
    assert contents(file.read_bytes()) == {**expected, **public}


def test_what_is_too_large_is_not_packed(file, trained, monkeypatch):
    file.write_bytes(trained)
    run = unpack(file)
    monkeypatch.setattr(archive, "MAX_BYTES", 1000)
    with pytest.raises(NanoGPTError, match=r"can hold at most 0 MB\.$"):
        pack(run, file)
    with pytest.raises(NanoGPTError, match=r"can hold at most 0 MB\. Leave out the checkpoint\.$"):
        pack(run, file, to_continue=True)
    with pytest.raises(NanoGPTError, match="at most"):
        unpack(file)


def test_an_archive_that_was_unpacked_and_compressed_again_comes_back(file, trained):
    """As macOS does: in a folder, with an entry for that, and one of attributes for each file."""
    inside = {f"a play/{name}": content for name, content in contents(trained).items()}
    added = [("a play/", b""), ("a play/.DS_Store", b"x"), ("__MACOSX/", b""), ("__MACOSX/._a play", b"x")]
    folders = ("__MACOSX/a play", "a play")  # the latter as `zip` puts them on a disk that can't store them
    attributes = [(f"{folder}/._{name}", b"x") for name in contents(trained) for folder in folders]
    file.write_bytes(zipped([*added, *inside.items(), *attributes]))
    assert {path.name: path.read_bytes() for path in unpack(file).folder.iterdir()} == contents(trained)


@pytest.mark.parametrize("name", ["a/x.py", "a/b/run.json", "b/log.txt", "log.txt", "a/run.json/", "a/run.json"])
def test_what_no_run_has_is_refused_in_a_folder_too(file, trained, name):
    inside = [(f"a/{each}", content) for each, content in contents(changed(trained, log__txt=None)).items()]
    refused(file, zipped([*inside, (name, b"x")]), "part of a run|same file twice")


# --- invalid archives ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("data", [b"", b"PK", b"hello" * 1000, b"PK\5\6" + b"\0" * 18, b"\x80\x04.", b"%PDF-1.7"])
def test_what_is_no_zip_is_refused(file, data):
    refused(file, data, "damaged or not a .zip|has no run.json")


@pytest.mark.parametrize("share", [0.01, 0.3, 0.9, 0.999])
def test_a_part_of_an_archive_is_refused(file, trained, share):
    refused(file, trained[: int(share * len(trained))], "damaged")


def test_no_single_damaged_byte_gets_further_than_a_sentence(file, trained):
    """Any exception except NanoGPTError fails this test; a flipped byte that doesn't matter may be accepted."""
    for at in range(0, len(trained), max(1, len(trained) // 150)):
        damaged = bytearray(trained)
        damaged[at] ^= 0xFF
        file.write_bytes(damaged)
        with contextlib.suppress(NanoGPTError):
            unpack(file).delete()
        assert all_runs() == []


# --- hostile names -------------------------------------------------------------------------------------------------

NAMES = [
    "../run.json",
    "../../evil.txt",
    "/etc/evil",
    "C:\\evil",
    "..\\evil",
    "run.json/",
    "./run.json",
    "x/run.json",
    "checkpoints/x/run.json",
    "evil.py",
    "model.pkl",
    "pytorch_model.bin",
    "last.pt",
    "stop",
    ".lock",
    "RUN.JSON",
    "run.json ",
    "con",
    "\u202egnp.exe",
    "a" * 5000,
]


@pytest.mark.parametrize("name", NAMES, ids=lambda name: ascii(name)[:20])
def test_a_file_that_no_run_has_is_refused(file, trained, name):
    parts = contents(trained)
    parts.pop("log.txt")  # stay within the limit on the number of files
    refused(file, zipped([*parts.items(), (name, b"x")]), "part of a run|contains more than")


def test_a_name_cut_short_by_a_zero_is_refused(file, trained):
    data = zipped([*contents(changed(trained, log__txt=None)).items(), ("log.txtX.py", b"x")])
    refused(file, data.replace(b"log.txtX.py", b"log.txt\0.py"), "part of a run|damaged")


def test_a_name_that_is_there_twice_is_refused(file, trained):
    parts = contents(changed(trained, log__txt=None))
    refused(file, zipped([*parts.items(), ("run.json", b"{}")]), "same file twice")


@pytest.mark.parametrize("kind", [stat.S_IFLNK, stat.S_IFIFO, stat.S_IFCHR, stat.S_IFDIR])
def test_a_link_is_refused(file, trained, kind):
    link = zipfile.ZipInfo("log.txt")
    link.external_attr = (kind | 0o777) << 16
    parts = contents(changed(trained, log__txt=None))
    refused(file, zipped([*parts.items(), (link, b"/etc/passwd")]), "not a regular file")


@pytest.mark.parametrize("name", archive.NEEDED)
def test_a_needed_file_must_be_there(file, trained, name):
    refused(file, changed(trained, **{name.replace(".", "__"): None}), f"has no {name}")


# --- bombs ---------------------------------------------------------------------------------------------------------


def test_a_bomb_is_refused_unread(file, trained):
    bomb = changed(trained, metrics__jsonl=b"\n" * 40_000_000)
    assert len(bomb) < len(trained) + 100_000
    refused(file, bomb, "too large: 40,000,000 bytes when unpacked")
    refused(file, changed(trained, run__json=b"{" + b" " * 2_000_000 + b"}"), "too large: [0-9,]+ bytes when unpacked")


def test_a_size_that_is_a_lie_is_not_believed(file, trained):
    """The directory says 100 bytes but the data is 2 MB; at most 100 bytes are ever written."""
    data = bytearray(changed(trained, log__txt=b"\n" * 2_000_000))
    at = data.rindex(b"log.txt") - 46
    assert data[at : at + 4] == b"PK\1\2"
    data[at + 24 : at + 28] = struct.pack("<I", 100)
    refused(file, bytes(data), "damaged")


def test_thousands_of_files_are_refused_before_they_are_listed(file, trained, monkeypatch):
    many = zipped([(f"{i}.txt", b"") for i in range(70_000)], zipfile.ZIP_STORED)
    monkeypatch.setattr(zipfile, "ZipInfo", None)  # there would be one per file in memory
    refused(file, many, "contains more than")


def test_a_lie_about_their_number_does_not_help(file, monkeypatch):
    data = bytearray(zipped([(f"{i}.txt", b"") for i in range(1000)], zipfile.ZIP_STORED))
    data[-22 + 8 : -22 + 12] = struct.pack("<HH", 1, 1)
    monkeypatch.setattr(zipfile, "ZipInfo", None)
    refused(file, bytes(data), "contains more than")


def test_a_long_directory_of_zip64_is_refused(file, monkeypatch):
    data = zipped([(f"{i}.txt", b"") for i in range(1000)], zipfile.ZIP_STORED)
    size, start = struct.unpack("<LL", data[-10:-2])
    record = b"PK\6\6" + struct.pack("<QHHLLQQQQ", 44, 45, 45, 0, 0, 1000, 1000, size, start)
    locator = b"PK\6\7" + struct.pack("<LQL", 0, start + size, 1)
    end = b"PK\5\6" + struct.pack("<HHHHLLH", 0, 0, 1, 1, 47, 0, 0)  # says that it is short
    monkeypatch.setattr(zipfile, "ZipInfo", None)
    refused(file, data[:-22] + record + locator + end, "contains more than")


def test_entries_that_share_their_bytes_are_refused(file, trained):
    """Zip bombs do this: all of their entries point to the same compressed bytes."""
    data = bytearray(trained)
    first = data.index(b"PK\1\2")
    second = data.index(b"PK\1\2", first + 4)
    data[second + 42 : second + 46] = data[first + 42 : first + 46]
    refused(file, bytes(data))


@pytest.mark.parametrize("how", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_an_unusual_compression_is_refused(file, trained, how):
    refused(file, zipped(contents(trained).items(), how), "unsupported method")


def test_an_encrypted_archive_is_refused(file, trained):
    data = bytearray(trained)
    at = data.index(b"PK\1\2")
    data[at + 8] |= 1
    refused(file, bytes(data), "encrypted")


# --- contents ------------------------------------------------------------------------------------------------------


class Evil:
    def __reduce__(self):
        return (pytest.fail, ("a pickle was opened",))


def test_a_pickle_under_the_name_of_weights_is_refused_unopened(file, trained):
    out = io.BytesIO()
    torch.save({"x": Evil()}, out)
    refused(file, changed(trained, model__safetensors=out.getvalue()), "cannot be read")
    refused(file, changed(trained, last__safetensors=out.getvalue()), "cannot be read")


def test_weights_of_another_shape_are_refused(file, trained):
    config = json.loads(contents(trained)["config.json"])
    for key, value in (("n_layer", 2), ("n_embd", 32), ("n_positions", 8)):
        refused(file, changed(trained, config__json=json.dumps({**config, key: value})), "wrong shape|is missing")
    refused(file, changed(trained, config__json=json.dumps({**config, "vocab_size": 7})), "tokenizer does not match")
    refused(file, changed(trained, config__json=json.dumps({**config, "n_layer": 10**9})), "n_layer")
    tensors = load(contents(trained)["model.safetensors"])
    tensors["lm_head.weight"][0, 0] = float("nan")
    refused(file, changed(trained, model__safetensors=save(tensors, {"format": "pt"})), "contain NaN or infinity")


def test_a_model_over_the_limit_is_refused_before_it_is_loaded(file, trained, monkeypatch):
    monkeypatch.setenv("NANOGPT_MAX_PARAMETERS", "100")
    monkeypatch.setattr(checks, "load_model", None)
    refused(file, trained, "this server allows 100")


def test_an_archive_that_unpacks_to_more_than_the_largest_model_needs_is_refused(file, trained, monkeypatch):
    monkeypatch.setenv("NANOGPT_MAX_PARAMETERS", "100000")
    sample = json.dumps(dict(step=1, text=secrets.token_hex(6_100_000)))  # 12.2 MB
    refused(file, changed(trained, samples__jsonl=sample), "unpack to more than is allowed")


def test_a_save_of_another_model_is_refused(file, trained):
    tensors = load(contents(trained)["last.safetensors"])
    progress = {"progress": json.dumps(dict(step=3))}
    for metadata in (None, {"progress": "{"}, {"progress": "[]"}, {"progress": '{"step":-1}'}):
        refused(file, changed(trained, last__safetensors=save(tensors, metadata)), "not a checkpoint of this model")
    tensors["model.lm_head.weight"] = tensors["model.lm_head.weight"][1:].clone()
    refused(file, changed(trained, last__safetensors=save(tensors, progress)), "not a checkpoint of this model")


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("step", "3"), ("step", True), ("step", 1.5), ("step", 10**30), ("seconds", None), ("best_val_loss", "z"),
        ("best_step", None), ("evaluated_step", "q"), ("worse", []), ("loss_sum", {}), ("loss_count", -5),
        ("judged_loss", "a"), ("windows", -1), ("evaluated_seconds", "a"),
        ("best_val_loss", math.nan), ("best_regular_loss", "z"),
    ],
)  # fmt: skip
def test_a_save_whose_progress_is_of_another_type_is_refused(file, trained, key, value):
    tensors = load(contents(trained)["last.safetensors"])
    progress = json.dumps({"step": 3, key: value})
    broken = save(tensors, {"progress": progress})
    refused(file, changed(trained, last__safetensors=broken), "not a checkpoint of this model")


def test_a_save_whose_progress_is_nested_too_deeply_is_refused(file, trained):
    broken = save(load(contents(trained)["last.safetensors"]), {"progress": "[" * 100_000})
    refused(file, changed(trained, last__safetensors=broken), "not a checkpoint of this model")


@pytest.mark.parametrize("name", ["random.torch", "random.batches"])
@pytest.mark.parametrize(
    "change", [None, lambda state: state[:3], torch.zeros_like, lambda state: state.float(), lambda state: state | 255]
)
def test_a_save_with_random_states_that_are_none_is_refused(file, trained, name, change):
    tensors = load(contents(trained)["last.safetensors"])
    state = tensors.pop(name)
    if change:
        tensors[name] = change(state).contiguous()
    broken = save(tensors, {"progress": json.dumps(dict(step=3))})
    refused(file, changed(trained, last__safetensors=broken), "not a checkpoint of this model")


@pytest.mark.parametrize("name", ["model__safetensors", "last__safetensors"])
def test_a_list_of_too_many_tensors_is_refused_unread(file, trained, name, monkeypatch):
    empty = dict(dtype="F32", shape=[0], data_offsets=[0, 0])
    header = json.dumps({str(i): empty for i in range(40_000)}).encode()
    data = changed(trained, **{name: len(header).to_bytes(8, "little") + header})
    read = []
    monkeypatch.setattr(safetensors.torch, "load", lambda data: read.append("model") or load(data))
    monkeypatch.setattr(checks, "safe_open", lambda *_: pytest.fail("it was opened"))
    refused(file, data, "header is too large")
    assert read == ["model"] * (name == "last__safetensors")


def test_an_alphabet_larger_than_any_is_refused_unread(file, trained, monkeypatch):
    tokenizer = json.loads(contents(trained)["tokenizer.json"])
    tokenizer["model"]["vocab"] = {chr(0x10000 + i): i for i in range(600_000)}
    monkeypatch.setattr(checks, "load_tokenizer", lambda folder: pytest.fail("it was read"))
    refused(file, changed(trained, tokenizer__json=json.dumps(tokenizer)), "tokenizer.json in the archive is too large")


def test_a_size_that_is_true_is_no_number(file, trained):
    config = json.loads(contents(trained)["config.json"])
    refused(file, changed(trained, config__json=json.dumps({**config, "vocab_size": True})), "vocab_size=True")


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{}",
        b"[]",
        b"null",
        b"5",
        b"\xff",
        b"[" * 100_000,
        b'{"a":' * 100_000,
        b'{"name":"x"}',
        b'{"train":{},"corpus":{}}',
    ],
    ids=lambda c: ascii(c)[:20],
)
@pytest.mark.parametrize("name", ["run.json", "config.json", "tokenizer.json", "metrics.jsonl", "samples.jsonl"])
def test_json_of_something_else_is_refused(file, trained, name, content):
    if content == b"" and name.endswith(".jsonl"):
        pytest.skip("a run that has logged nothing")
    refused(file, changed(trained, **{name.replace(".", "__"): content}))


@pytest.mark.parametrize(
    "change",
    [
        dict(train=None),
        dict(train={"max_iters": -1}),
        dict(train={"max_iters": "9" * 5000}),
        dict(corpus=None),
        dict(corpus={}),
        dict(corpus=dict(id="../../etc/passwd!", name="x", characters=5000)),
        dict(corpus=dict(id="0" * 16, name="x", characters=0)),
        dict(corpus=dict(id="0" * 16, name=["x"], characters=5000)),
        dict(corpus=dict(id="0" * 16, name="x", characters=True)),
        dict(name=5),
        dict(created=None),
        dict(preset=[]),
        dict(name="x" * 100_000),
    ],
    ids=lambda c: str(c)[:40],
)
def test_run_json_with_a_wrong_entry_is_refused(file, trained, change):
    settings = json.loads(contents(trained)["run.json"])
    refused(file, changed(trained, run__json=json.dumps({**settings, **change})))


@pytest.mark.parametrize(
    "row",
    [
        "{}",
        '{"step":1}',
        '{"step":"1","seconds":1,"tokens":1}',
        '{"step":-1,"seconds":1,"tokens":1}',
        '{"step":NaN,"seconds":1,"tokens":1}',
        '{"step":1,"seconds":1,"tokens":1,"val_loss":NaN}',
        '{"step":1,"seconds":1,"tokens":1,"val_loss":true}',
        '{"step":1e400,"seconds":1,"tokens":1}',
        '{"step":1' + "0" * 400 + ',"seconds":1,"tokens":1}',
        '{"event":5}',
        '{"event":"started"}',
        '{"event":"<b>","message":"x"}',
        '{"event":"failed","message":["x"]}',
        '{"event":"finished","val_loss":"low"}',
        '{"event":"finished","best_val_loss":"low"}',
        '{"event":"finished","last_val_loss":null}',
        '{"event":"finished","val_characters":[1]}',
        '"text"',
        "{",
    ],
    ids=lambda row: row[:40],
)
def test_a_line_that_no_trainer_wrote_is_refused(file, trained, row):
    metrics = contents(trained)["metrics.jsonl"] + row.encode() + b"\n"
    refused(file, changed(trained, metrics__jsonl=metrics), "metrics.jsonl")


def test_a_note_may_be_the_last_thing_that_was_logged(file, trained):
    metrics = contents(trained)["metrics.jsonl"] + b'{"event":"note","time":"","step":6,"message":"x"}\n'
    file.write_bytes(changed(trained, metrics__jsonl=metrics))
    run = unpack(file)
    assert run.status().state == "finished"
    assert run.history().notes == ["x"]


@pytest.mark.parametrize("name", ["metrics__jsonl", "samples__jsonl"])
@pytest.mark.parametrize(
    "row",
    ['{"event":"failed"}\n', '{"event":"failed"}\r', '{"event":"failed","x":[%s0]}\n' % ("0," * 2000)],
    ids=["rows", "other line ends", "values"],
)
def test_more_rows_than_a_run_logs_are_refused_unread(file, trained, monkeypatch, name, row):
    monkeypatch.setattr(checks, "MOST_ROWS", 10_000)
    monkeypatch.setattr(checks, "MOST_VALUES", 100_000)
    monkeypatch.setattr(checks, "check_facts", None)  # which would parse them
    many = row.encode() * (10_001 if len(row) < 100 else 100)
    file.write_bytes(zipped({**contents(trained), name.replace("__", "."): many}.items(), zipfile.ZIP_STORED))
    refused(file, file.read_bytes(), name.replace("__", ".") + " is too long: at most 10,000 rows and ")


@pytest.mark.parametrize(
    ("name", "row"),
    [
        ("metrics__jsonl", dict(event="finished", message="x" * 60_000)),
        ("metrics__jsonl", dict(event="finished", more={"x" * 60_000: 1})),
        ("samples__jsonl", dict(step=6, text="x" * 60_000)),
    ],
    ids=["a message", "a key", "a sample"],
)
def test_a_row_longer_than_any_is_refused_unread(file, trained, monkeypatch, name, row):
    monkeypatch.setattr(checks, "check_facts", None)  # which would parse it
    data = changed(trained, **{name: json.dumps(row) + "\n"})
    refused(file, data, name.replace("__", r"\.") + " has a row of more than 50,000 bytes")


@pytest.mark.parametrize("ensure_ascii", [False, True])
def test_the_longest_sample_is_imported_however_it_is_written(file, trained, ensure_ascii):
    row = dict(step=6, text="😀" * 300)
    file.write_bytes(changed(trained, samples__jsonl=json.dumps(row, ensure_ascii=ensure_ascii) + "\n"))
    assert unpack(file).history().samples == [row]


def test_a_run_with_a_row_for_each_of_many_steps_is_imported(file, trained):
    steps = range(7, 100_000)
    row = (
        '{"step":%d,"seconds":1.5,"tokens":100,"train_loss":1.5,"learning_rate":0.01,"grad_norm":1.5,"val_loss":1.5}\n'
    )
    metrics = contents(trained)["metrics.jsonl"] + "".join(row % step for step in steps).encode()
    parts = {**contents(trained), "metrics.jsonl": metrics}
    file.write_bytes(zipped(parts.items(), zipfile.ZIP_STORED))
    assert unpack(file).history().step == 99_999


@pytest.mark.parametrize(
    ("more", "kept"),
    [
        (dict(planning=1.5, costs=dict(sample=0.1, save=2.0), promise=1.9), ...),
        (dict(plan="3 layers", promise=None, pulled=dict(repo="a/b", commit="c"), owner=None), ...),
        (dict(planning="x", costs="x", promise=[1.9], pulled=["x"], versions=7, format=1, evil="x"), dict(format=1)),
        (dict(planning=math.nan, costs=dict(sample="x", save=1, evil=1), promise=True), dict(costs=dict(save=1))),
    ],
)
def test_what_is_not_known_of_run_json_is_left_out(file, trained, more, kept):
    settings = json.loads(contents(trained)["run.json"])
    evil = {part: {**settings[part], "evil": "x"} for part in ("corpus", "train")}
    file.write_bytes(changed(trained, run__json=json.dumps({**settings, **evil, **more})))
    expected = {key: value for key, value in settings.items() if key not in more} | (more if kept is ... else kept)
    assert unpack(file).settings() == expected


@pytest.mark.parametrize("row", ["{}", '{"step":1}', '{"step":1,"text":5}', '{"step":"1","text":"x"}'])
def test_a_sample_that_is_none_is_refused(file, trained, row):
    refused(file, changed(trained, samples__jsonl=row + "\n"), "samples.jsonl")


def test_an_import_is_on_the_disk_before_it_has_its_name(file, trained, home, monkeypatch):
    synced, sync = [], os.fsync

    def note(handle):
        if not (home / "checkpoints" / "one").exists():
            synced.append(os.fstat(handle).st_ino)
        sync(handle)

    monkeypatch.setattr(os, "fsync", note)
    file.write_bytes(trained)
    files = list(unpack(file, named=lambda _: "one").folder.iterdir())
    assert len(files) >= len(archive.NEEDED)
    assert {path.stat().st_ino for path in files} <= set(synced)


def test_what_was_imported_can_write(file, trained):
    file.write_bytes(trained)
    assert weights_bytes(load_model(unpack(file).folder)) == contents(trained)["model.safetensors"]
