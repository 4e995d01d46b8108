"""A large text is stored piece by piece, and is the same text as if it had been read at once."""

from __future__ import annotations

import codecs
import contextlib
import errno
import hashlib
import json
import os
import random
import shutil
import struct
import tracemalloc
import zipfile
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from safetensors.torch import load

from nanogpt import corpus, data
from nanogpt.cli.progress import with_progress
from nanogpt.config import NanoGPTError
from nanogpt.corpus import books, cutting, fields, files, large, pieces, reading, store, storing
from nanogpt.holdout import train_length
from nanogpt.launch import prepare
from nanogpt.tokenizer import CharTokenizer
from nanogpt.train import train

TEXT = "".join(f"{i}. Größe, naïve café — “щука”, 猫です。\n" for i in range(900))
WESTERN = "".join(f"{i}. Größe, naïve café.\n" for i in range(1500))


@pytest.fixture(autouse=True)
def sizes(home, monkeypatch: pytest.MonkeyPatch):
    """Let texts of more than 5,000 bytes count as large, and be read in pieces of 1,000 bytes."""
    for module in (cutting, pieces, reading, storing):
        monkeypatch.setattr(module, "WHOLE", 5_000)
    for module in (cutting, large):
        monkeypatch.setattr(module, "PIECE", 1_000)


def read_whole_up_to(size: int, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (cutting, pieces, reading, storing):
        monkeypatch.setattr(module, "WHOLE", size)


def write(folder: Path, content: bytes, name: str = "a.txt") -> Path:
    path = folder / name
    path.write_bytes(content)
    return path


CONTENTS = {
    "UTF-8": (TEXT.encode(), TEXT),
    "with a byte-order mark": (codecs.BOM_UTF8 + TEXT.encode(), TEXT),
    "no newline at the end": (TEXT[:-1].encode(), TEXT[:-1]),
    "no newline at all": (TEXT.replace("\n", "—").encode(), TEXT.replace("\n", "—")),
    "Windows line endings": (TEXT.replace("\n", "\r\n").encode(), TEXT),
    "UTF-16": (codecs.BOM_UTF16_LE + TEXT.encode("utf-16-le"), TEXT),
    "UTF-16 without a mark": (WESTERN.encode("utf-16-be"), WESTERN),
    "UTF-16 without newlines": (codecs.BOM_UTF16_BE + ("x😀y😀" * 4000).encode("utf-16-be"), "x😀y😀" * 4000),
    "UTF-32": (codecs.BOM_UTF32_BE + TEXT.encode("utf-32-be"), TEXT),
    "Windows-1252": (WESTERN.encode("cp1252"), WESTERN),
    "Windows-1252 after much ASCII": (b"plain\n" * 900 + WESTERN.encode("cp1252"), "plain\n" * 900 + WESTERN),
    "Shift-JIS": (
        ("吾輩は猫である。名前はまだ無い。\n" * 300).encode("cp932"),
        "吾輩は猫である。名前はまだ無い。\n" * 300,
    ),
}


@pytest.mark.parametrize("kind", CONTENTS)
def test_pieces_make_the_same_text_alphabet_and_ids(tmp_path, kind):
    content, text = CONTENTS[kind]
    shares = []
    steps = corpus.adding([write(tmp_path, content)])
    while True:
        try:
            shares.append(next(steps))
        except StopIteration as end:
            added = end.value
            break
    assert added.large
    assert added.text() == text
    assert added.characters == len(text)
    assert added.sha256 == hashlib.sha256(text.encode()).hexdigest()
    assert added.chars == "".join(sorted(set(text)))
    ids = CharTokenizer(text).encode_array(text)
    assert added.tokens().dtype == ids.dtype
    assert np.array_equal(added.tokens(), ids)
    assert len(shares) > 10
    assert shares == sorted(shares)
    assert shares[-1] == 1


def test_the_same_text_is_stored_once_however_it_was_read(tmp_path, monkeypatch):
    first = corpus.add([write(tmp_path, TEXT.encode())], "One")
    read_whole_up_to(10**6, monkeypatch)
    again = corpus.add([write(tmp_path, TEXT.encode("utf-16"))], "Two")
    assert (again.id, again.name, again.created) == (first.id, "Two", first.created)
    assert [one.id for one in corpus.listed()] == [first.id]


def test_the_report_counts_all_and_says_that_it_looked_at_a_sample(tmp_path, monkeypatch):
    monkeypatch.setattr(large, "SAMPLE", 10_000)
    monkeypatch.setattr(large, "AT_LEAST", 10)
    added = corpus.add([write(tmp_path, (TEXT + "×").encode())])
    text = added.text()
    for report in (added.report(), corpus.load(added.id).report()):
        assert (report.characters, report.lines) == (len(text), text.count("\n") + 1)
        assert report.train_characters == train_length(len(text))
        assert report.chars == added.chars
        assert [(one.ch, one.count) for one in report.rare] == [("×", 1)]
        assert report.first_lines.startswith("0. Größe")
        [note] = report.notes
        size = int(note.split("a sample of ")[1].split()[0].replace(",", ""))
        assert 0.5 * 10_000 < size < 1.5 * 10_000
        assert f"of the {len(text):,} characters" in note


def test_a_part_is_taken_from_around_the_split(tmp_path):
    added = corpus.add([write(tmp_path, TEXT.encode())])
    cut = train_length(len(TEXT))
    assert added.part(len(TEXT)) == (TEXT[:cut], TEXT[cut:])
    assert added.part(1000) == (TEXT[cut - 900 : cut], TEXT[cut : cut + 100])
    for start, stop in ((0, 10), (5_003, 9_001), (len(TEXT) - 5, len(TEXT) + 5), (7, 7)):
        assert added.between(start, stop) == TEXT[start:stop]
    small = corpus.add(WESTERN[:4000])
    assert small.part(1000) == (WESTERN[2700:3600], WESTERN[3600:3700])


def test_stopping_leaves_nothing_behind(tmp_path, capsys):
    path = write(tmp_path, TEXT.encode())
    steps = corpus.adding([path])
    assert 0 < next(steps) < 0.1
    [folder] = store.corpora().iterdir()
    assert (folder / "text.txt").exists()
    steps.close()
    assert list(store.corpora().iterdir()) == []

    def interrupted():
        yield from steps_of
        raise AssertionError("it went on")

    steps_of = corpus.adding([path])
    interrupting = interrupted()
    next(interrupting)
    with pytest.raises(KeyboardInterrupt):
        interrupting.throw(KeyboardInterrupt)
    assert list(store.corpora().iterdir()) == []
    assert with_progress(corpus.adding([path])).large


def free_bytes(free: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=free))


def test_a_full_disk_is_noticed_early(tmp_path, monkeypatch):
    folder = tmp_path / "texts"
    folder.mkdir()
    write(folder, TEXT.encode())
    free_bytes(1_500, monkeypatch)
    shares: list[float] = []
    with pytest.raises(OSError, match=r"takes at least .* more, but this disk has only 1\.5 kB free"):
        shares.extend(corpus.adding([folder]))
    assert max(shares) < 0.2
    assert list(store.corpora().iterdir()) == []


def test_a_text_that_cannot_fit_is_refused_before_it_is_read(tmp_path, monkeypatch):
    path = write(tmp_path, TEXT.encode())
    free_bytes(path.stat().st_size // 2 - 1, monkeypatch)
    with pytest.raises(OSError, match="this disk has only"):
        next(corpus.adding([path]))
    assert list(store.corpora().iterdir()) == []


@pytest.mark.parametrize(("distinct", "refused"), [(200, False), (300, True)])
def test_the_tokens_of_a_large_alphabet_take_two_bytes(tmp_path, monkeypatch, distinct, refused):
    text = "plain text\n" * 1_000 + "".join(map(chr, range(0x4E00, 0x4E00 + distinct)))
    free_bytes(round(1.5 * len(text)), monkeypatch)  # once the text has been written
    path = write(tmp_path, text.encode())
    with pytest.raises(OSError, match="this disk has only") if refused else contextlib.nullcontext():
        corpus.add([path])
    assert len(list(store.corpora().iterdir())) == (not refused)


def test_what_is_left_out_of_a_folder_needs_no_room(tmp_path, monkeypatch):
    folder = tmp_path / "notes"
    folder.mkdir()
    write(folder, bytes(range(256)) * 400, "a video.mp4")
    write(folder, WESTERN[:4_000].encode())
    free_bytes(10_000, monkeypatch)
    assert corpus.add([folder]).text() == WESTERN[:4_000]


def test_the_sample_of_many_short_files_is_no_longer_than_that_of_a_long_one(tmp_path, monkeypatch):
    monkeypatch.setattr(large, "SAMPLE", 10_000)
    folder = tmp_path / "mails"
    folder.mkdir()
    for i in range(300):
        write(folder, (f"{i:03}" + "x" * 995 + "\r\n").encode(), f"{i:03}.txt")
    found = pieces.Pieces(files.in_folder(folder))
    written = large.finished(large.write_text(tmp_path / "text.txt", found, 300_000))
    assert 5_000 < len(written.sample) < 20_000
    sampled = [int(line[:3]) for line in written.sample.split()]
    assert sampled == list(range(0, 300, sampled[1]))  # all over the text
    assert [(one.key, one.count) for one in found.repairs] == [("line-endings", 300)]
    assert written.counts["x"] == 300 * 995


HEADER = "The Project Gutenberg eBook of A\n\n*** START OF THE PROJECT GUTENBERG EBOOK A ***\n"
FOOTER = "*** END OF THE PROJECT GUTENBERG EBOOK A ***\nlicense\n" + "This eBook is for the use of anyone.\n" * 500


def test_the_frames_of_books_in_a_large_file_are_removed(tmp_path):
    text = 3 * (HEADER + TEXT + FOOTER)
    added = corpus.add([write(tmp_path, text.encode())])
    assert added.text().split() == (3 * TEXT).split()
    [removed] = [one for one in added.reading.repairs if one.key == "gutenberg"]
    assert (removed.applied, removed.count) == (True, len(text) - len(added.text()))
    kept = corpus.add([write(tmp_path, text.encode())], decline=["gutenberg"])
    assert kept.text() == text
    assert any("Turn on the clean-up that removes it" in advice for advice in kept.report().advice)


@pytest.mark.parametrize("whole", [5_000, 10**6])
def test_a_file_keeps_what_stands_before_a_header_in_its_middle(tmp_path, monkeypatch, whole):
    read_whole_up_to(whole, monkeypatch)
    before, after = "Before it.\n" * 4000, "After it.\n" * 600
    added = corpus.add([write(tmp_path, (before + HEADER + after).encode())])
    assert added.text().split() == (before + after).split()


@pytest.mark.parametrize("whole", [5_000, 10**6])
def test_a_file_keeps_what_no_license_would_be(tmp_path, monkeypatch, whole):
    read_whole_up_to(whole, monkeypatch)
    text, line = "More and more.\n" * 4000, "End of the Project Gutenberg EBook of a poem\n\n"
    added = corpus.add([write(tmp_path, (TEXT + line + text).encode())])
    assert added.text().split() == (TEXT + text).split()
    assert not any("Turn on the clean-up" in advice for advice in added.report().advice)


def test_a_diary_joined_with_a_book_is_kept_to_the_letter():
    diary, book = "Dear diary, nothing happened.\n" * 2000, HEADER + TEXT + FOOTER
    for joined in (diary + book, book + diary, book + diary + book):
        body, gone = books.without_frames(joined)
        assert body.count(diary.strip()) == 1
        assert body.count(TEXT.strip()) == joined.count(TEXT)
        assert gone == len(joined) - len(body)
    untouched = "A poem.\nEnd of Project Gutenberg, a poem\n" + diary
    assert books.without_frames(untouched) == books.Books().fix(untouched) == (untouched, 0)


@pytest.mark.parametrize("seed", range(20))
def test_books_in_pieces_are_those_of_the_whole_file(seed):
    draw, own = random.Random(seed), ["A line of the book.\n" * 30 + "\n", "Another.\n\n"]
    parts = [HEADER + "\n", FOOTER[:500] + "\n\n", "End of the Project Gutenberg EBook of A\n\n", *own]
    drawn = draw.choices(parts, weights=[1, 1, 1, 5, 5], k=30)
    text, remover = HEADER + "A line.\n\n" + "".join(drawn), books.Books()
    lines, cut = text.splitlines(keepends=True), []
    while lines:
        size = draw.randint(1, 300)
        cut.append("".join(lines[:size]))
        del lines[:size]
    fixed = [remover.fix(piece) for piece in books.uncut(cut)]
    body = "".join(piece for piece, _ in fixed)
    expected = "A line.\n" + "".join(part for part in drawn if part in own)
    assert body.split() == books.without_frames(text)[0].split() == expected.split()
    assert sum(count for _, count in fixed) == len(text) - len(body)


def test_a_damaged_text_says_so(tmp_path):
    added = corpus.add([write(tmp_path, TEXT.encode())])
    (added.folder / "report.json").write_text("{}")
    with pytest.raises(NanoGPTError, match="is damaged on disk"):
        added.report()
    (added.folder / "text.txt").write_bytes(b"\xff" * 40_000)
    with pytest.raises(NanoGPTError, match="is damaged on disk"):
        added.between(0, 10)


def test_the_start_of_a_large_text_can_be_read_alone(tmp_path):
    start, is_all = corpus.read_start([write(tmp_path, TEXT.encode())])
    assert 5_000 <= len(start) < 6_100
    assert TEXT.startswith(start)
    assert not is_all


def test_a_text_of_more_bytes_than_characters_is_read_to_its_end(tmp_path):
    text = "Я помню чудное мгновенье\n" * 150  # 3,750 characters, 7,000 bytes
    assert corpus.read_start([write(tmp_path, text.encode())]) == (text, True)


@pytest.mark.parametrize("size", [100, 9_000])
def test_a_text_to_measure_must_have_text_in_it(tmp_path, size):
    folder = tmp_path / "pictures"
    folder.mkdir()
    write(folder, b"\x89PNG\r\n\x1a\n" + bytes(size), "a.png")
    with pytest.raises(NanoGPTError, match=r"None of the files is text: a\.png"):
        corpus.read_start([folder])


def test_many_short_files_are_read_to_their_end(tmp_path):
    folder = tmp_path / "lines"
    folder.mkdir()
    for i in range(100):
        write(folder, b"x" * 50, f"{i:03}.txt")  # with the line ends between them, more than may be read at once
    assert corpus.read_start([folder]) == ("\n".join(["x" * 50] * 100), True)


def test_what_reads_a_text_at_once_says_that_others_may_be_longer(tmp_path, monkeypatch):
    path = write(tmp_path, TEXT.encode())
    for read_it in (lambda: corpus.read([path]), lambda: corpus.read(TEXT)):
        with pytest.raises(NanoGPTError, match=r"can be read at once here\. .* or add it as a file, to train on\."):
            read_it()
    monkeypatch.setenv("NANOGPT_MAX_BYTES", "4000")
    with pytest.raises(NanoGPTError, match=r"at most 0\.0 MB is allowed"):
        corpus.read([path])


def test_a_text_without_letters_is_refused_as_a_small_one_is(tmp_path):
    with pytest.raises(NanoGPTError, match="is empty"):
        corpus.add([write(tmp_path, b" \n" * 4000)])
    with pytest.raises(NanoGPTError, match="not plain text"):
        corpus.add([write(tmp_path, TEXT.encode() + bytes(range(32)) * 100)])
    assert list(store.corpora().iterdir()) == []


# --- training on it --------------------------------------------------------------------------------------------------


def test_a_run_on_mapped_tokens_is_the_one_on_a_copy_to_the_bit(tmp_path, monkeypatch):
    added = corpus.add([write(tmp_path, TEXT.encode())])
    shape = dict(n_layer=1, n_head=2, n_embd=16, block_size=16, batch_size=4, max_iters=30, eval_interval=10)
    weights = []
    for name, most in (("copied", 10**9), ("mapped", 0)):
        monkeypatch.setattr(data, "IN_MEMORY", most)
        run = prepare.new_run(name, corpus.load(added.id), **shape)
        train(run)
        weights.append(load((run.folder / "model.safetensors").read_bytes()))
    assert weights[0].keys() == weights[1].keys()
    assert all(torch.equal(weights[0][key], weights[1][key]) for key in weights[0])


# --- folders and archives -------------------------------------------------------------------------------------------


def test_an_archive_is_read_like_its_files_and_a_folder_by_name(tmp_path):
    folder = tmp_path / "notes"
    (folder / "sub").mkdir(parents=True)
    write(folder, WESTERN[:3000].encode(), "b.txt")
    write(folder, b"\x89PNG\r\n\x1a\n" + bytes(500), "a.png")
    write(folder, b"secret\n" * 300, ".hidden.txt")
    write(folder / "sub", WESTERN[3000:9000].encode("cp1252"), "a.txt")
    shutil.make_archive(str(tmp_path / "packed"), "zip", folder)
    text = WESTERN[:3000] + "\n" * (WESTERN[2999] != "\n") + WESTERN[3000:9000]
    for source in (folder, tmp_path / "packed.zip"):
        added = corpus.add([source])
        assert added.text() == text
        assert added.name in ("notes", "packed")
        assert "1 file is not text and was left out: a.png." in added.notes
        assert any("a.txt is not UTF-8" in note for note in added.notes)


def test_archives_that_cannot_be_read(tmp_path, monkeypatch):
    folder = tmp_path / "inside"
    folder.mkdir()
    write(folder, TEXT.encode())
    packed = Path(shutil.make_archive(str(tmp_path / "packed"), "zip", folder))
    content = packed.read_bytes()
    middle = len(content) // 2
    with pytest.raises(NanoGPTError, match="archive is damaged"):
        corpus.add([write(tmp_path, content[:middle] + bytes(40) + content[middle + 40 :], "damaged.zip")])
    flagged = bytearray(content)
    flagged[content.rindex(b"PK\x01\x02", 0, content.rindex(b"a.txt")) + 8] |= 1
    with pytest.raises(NanoGPTError, match="is encrypted"):
        corpus.add([write(tmp_path, bytes(flagged), "secret.zip")])
    (folder / "a.txt").unlink()
    write(folder, bytes(3000), "a.bin")
    with pytest.raises(NanoGPTError, match=r"None of the files is text: a\.bin"):
        corpus.add([folder])
    monkeypatch.setenv("NANOGPT_MAX_FILES", "1")
    write(folder, TEXT.encode())
    with pytest.raises(NanoGPTError, match="has 2 files; this server takes at most 1"):
        files.in_zip(Path(shutil.make_archive(str(tmp_path / "two"), "zip", folder)))
    monkeypatch.setenv("NANOGPT_MAX_BYTES", "4000")
    with pytest.raises(NanoGPTError, match=r"at most 0\.0 MB is allowed"):  # unpacked; packed it is smaller
        corpus.add([packed])


@pytest.mark.parametrize("how", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_archives_that_are_compressed_unusually_are_refused_unread(tmp_path, how):
    with zipfile.ZipFile(tmp_path / "odd.zip", "w", how) as made:
        made.writestr("a.txt", TEXT)
    with pytest.raises(NanoGPTError, match=r"odd\.zip is compressed by an unusual method\. Unpack it"):
        files.files_at([tmp_path / "odd.zip"])


def test_no_more_of_a_member_is_unpacked_than_a_small_file_may_have(tmp_path):
    """The directory says 4,000 bytes, but there are 30 million."""
    with zipfile.ZipFile(tmp_path / "small.zip", "w", zipfile.ZIP_DEFLATED) as made:
        made.writestr("a.txt", b"\n" * 30_000_000)
    data = bytearray((tmp_path / "small.zip").read_bytes())
    at = data.rindex(b"PK\1\2")
    data[at + 24 : at + 28] = struct.pack("<I", 4000)
    path = write(tmp_path, bytes(data), "small.zip")
    tracemalloc.start()
    try:
        with pytest.raises(NanoGPTError, match="archive is damaged"):
            corpus.read_start([path])
        assert tracemalloc.get_traced_memory()[1] < 1_000_000
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("most", ["100", ""])
def test_archives_of_too_many_files_are_refused_before_they_are_listed(tmp_path, monkeypatch, most):
    monkeypatch.setenv("NANOGPT_MAX_FILES", most)
    monkeypatch.setattr(files, "FILES", 10)
    with zipfile.ZipFile(tmp_path / "many.zip", "w") as made:
        for i in range(100 * int(most or 10)):
            made.writestr(f"{i:0100}/", b"")
    monkeypatch.setattr(zipfile, "ZipInfo", None)  # there would be one per file in memory
    with pytest.raises(NanoGPTError, match=r"many\.zip has too many files\. Join them into fewer"):
        files.files_at([tmp_path / "many.zip"])


def test_no_damaged_byte_of_an_archive_gets_further_than_a_sentence(tmp_path):
    """Any exception except NanoGPTError fails this test; a flipped bit that doesn't matter may be accepted."""
    with zipfile.ZipFile(tmp_path / "a.zip", "w", zipfile.ZIP_DEFLATED) as made:
        made.writestr("ä.txt", TEXT[:60])
    data = (tmp_path / "a.zip").read_bytes()
    for at in range(len(data)):
        for bit in (1, 4, 0x80):
            path = write(tmp_path, data[:at] + bytes([data[at] ^ bit]) + data[at + 1 :], "a.zip")
            with contextlib.suppress(NanoGPTError):
                corpus.read_start([path])


def test_folders_that_are_not_read_are_named(tmp_path, monkeypatch):
    folder, linked = tmp_path / "notes", tmp_path / "elsewhere"
    (folder / "sub").mkdir(parents=True)
    linked.mkdir()
    write(folder, TEXT.encode())
    write(folder / "sub", TEXT.encode(), "b.txt")
    write(linked, TEXT.encode(), "c.txt")
    (folder / "link").symlink_to(linked)
    added = corpus.add([folder])
    assert added.text() == 2 * TEXT
    assert added.notes == ("1 file is not text and was left out: link.",)

    def scandir(path, scan=os.scandir):
        if Path(path).name == "sub":
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return scan(path)

    monkeypatch.setattr(os, "scandir", scandir)
    for path in (folder, folder / "sub"):
        with pytest.raises(NanoGPTError, match=r"^sub can't be read \(Permission denied\)"):
            corpus.add([path])


# --- fields ---------------------------------------------------------------------------------------------------------

DOCUMENTS = [f'{i}: Größe; “quoted”, "and\n\nlonger", 😀' for i in range(400)]
TOGETHER = "".join(one + "\n" for one in DOCUMENTS)


def table(mark: str) -> str:
    quoted = [one.replace('"', '""') for one in DOCUMENTS]
    return f"id{mark}body\n" + "".join(f'{i}{mark}"{one}"\n' for i, one in enumerate(quoted))


RECORDS = {
    "a.jsonl": "".join(json.dumps(dict(id=i, body=one)) + "\n" for i, one in enumerate(DOCUMENTS)) + '\n{"id": 9}\n',
    "a.csv": "\ufeff" + table(","),
    "b.csv": table(";"),
    "a.tsv": table("\t"),
}


@pytest.mark.parametrize("name", RECORDS)
@pytest.mark.parametrize("whole", [5_000, 10**6])
def test_a_field_of_records_is_read_in_pieces_or_at_once(tmp_path, monkeypatch, name, whole):
    read_whole_up_to(whole, monkeypatch)
    path = write(tmp_path, RECORDS[name].encode(), name)
    added = corpus.add([path], field="body")
    assert added.text() == TOGETHER
    assert added.source == f"files: {name}, field body"
    assert corpus.fields_in(RECORDS[name], name)[-1] == "body"
    with pytest.raises(NanoGPTError, match=r"has no text in a field 'nope'\. Choose one of its fields: id, body\."):
        corpus.add([path], field="nope")


def test_the_columns_that_a_row_lacks_are_not_filled_up():
    """A small table can have a million columns and a million rows."""
    rows = fields._records(["a" + "," * 1_000 + "\n" + "x\n\n" * 3], "a.csv")
    assert list(rows) == [{"a": "x"}] * 3


def test_of_columns_of_the_same_name_the_last_one_counts(tmp_path):
    rows = "".join(f"no,{i},{line}\nshort,{i}\nlong,{i},{line},more\n" for i, line in enumerate(["some words"] * 90))
    path = write(tmp_path, f"body,id,body\n{rows}".encode(), "a.csv")
    assert corpus.add([path], field="body").text() == "some words\n" * 180


def test_only_so_many_fields_are_offered_and_none_with_a_long_name(tmp_path):
    table = ",".join(f"field {i}" for i in range(10_000))
    offered = corpus.fields_in(f"{table}\n{table}\n", "a.csv")
    assert offered == [f"field {i}" for i in range(fields.OFFERED)]
    record = json.dumps({"x" * 100_000: "a", "": "b", "body": TEXT}) + "\n"
    assert corpus.fields_in(record, "a.jsonl") == ["body"]
    with pytest.raises(NanoGPTError, match="Choose one of its fields: x{40}, body") as error:
        corpus.add([write(tmp_path, record.encode(), "a.jsonl")], field="nope")
    assert len(str(error.value)) < 200


def test_only_files_with_records_are_taken_from_a_folder(tmp_path):
    folder = tmp_path / "data"
    folder.mkdir()
    write(folder, RECORDS["a.jsonl"].encode(), "a.jsonl")
    write(folder, RECORDS["b.csv"].encode(), "b.csv")
    write(folder, b"About these files.\n", "README.txt")
    added = corpus.add([folder], field="body")
    assert added.text() == 2 * TOGETHER
    assert added.notes == ("1 file has no text in a field 'body' and was left out: README.txt.",)


@pytest.mark.parametrize("whole", [5_000, 10**6])
def test_files_of_a_folder_without_the_field_are_left_out(tmp_path, monkeypatch, whole):
    read_whole_up_to(whole, monkeypatch)
    folder = tmp_path / "data"
    folder.mkdir()
    write(folder, "id,título\n1,uno\n".encode("cp1252"), "a.csv")  # the first file, and in another encoding
    write(folder, RECORDS["a.jsonl"].encode(), "b.jsonl")
    write(folder, b"", "empty.csv")
    shutil.make_archive(str(tmp_path / "packed"), "zip", folder)
    for source in (folder, tmp_path / "packed.zip"):
        added = corpus.add([source], field="body")
        assert added.text() == TOGETHER
        assert (added.source, added.encoding) == ("files: b.jsonl, field body", "UTF-8")
        [note] = added.notes
        assert note.startswith("2 files have no text in a field 'body' and were left out: ")
    with pytest.raises(NanoGPTError, match=r"a\.csv has no text in a field 'nope'\. Choose one of its fields: id"):
        corpus.add([folder], field="nope")


def test_records_that_cannot_be_read(tmp_path):
    for content, sentence in (("{}\n[1]\n", "Line 2 of a.jsonl is not"), ('{"a": 1\n', "Line 1 of a.jsonl is not")):
        with pytest.raises(NanoGPTError, match=sentence):
            corpus.add([write(tmp_path, content.encode(), "a.jsonl")], field="body")
    with pytest.raises(NanoGPTError, match="has no fields, because it is not a .jsonl or .csv file"):
        corpus.add([write(tmp_path, TEXT.encode())], field="body")
    lone = json.dumps(dict(body="\ud83d" + TEXT[:2000]))  # half of a pair, which has no UTF-8 form
    assert corpus.add([write(tmp_path, lone.encode(), "a.jsonl")], field="body").text() == "�" + TEXT[:2000] + "\n" * 1
