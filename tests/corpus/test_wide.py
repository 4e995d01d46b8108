"""UTF-16 is recognized without a byte-order mark, and where files in different encodings were joined."""

from __future__ import annotations

import codecs
import itertools
from pathlib import Path

import pytest
from corpus.test_corpus import PARAGRAPHS, text_of

from nanogpt import corpus
from nanogpt.config import NanoGPTError
from nanogpt.corpus import cutting, pieces, reading, storing
from nanogpt.corpus.decoding import NotText, decode
from nanogpt.corpus.reading import read
from nanogpt.corpus.wide import orders, parts_of, unmarked_utf16

MARKED = {
    "utf-8": b"", "utf-8-sig": b"", "utf-16-le": codecs.BOM_UTF16_LE, "utf-16-be": codecs.BOM_UTF16_BE,
}  # fmt: skip
JOINS = [(one, other) for one, other in itertools.permutations(MARKED, 2) if not (one[:5] == other[:5] == "utf-8")]


def marked(text: str, codec: str) -> bytes:
    return MARKED[codec] + text.encode(codec)


def write(folder: Path, *contents: bytes) -> Path:
    path = folder / "a.txt"
    path.write_bytes(b"".join(contents))
    return path


@pytest.mark.parametrize("codec", ["utf-16-le", "utf-16-be"])
@pytest.mark.parametrize("language", PARAGRAPHS)
def test_utf16_without_a_mark_is_recognized_in_every_script(language, codec):
    text = PARAGRAPHS[language] + "\n"
    assert unmarked_utf16(text.encode(codec)) == codec
    assert decode(text.encode(codec), "a.txt").text == text
    assert unmarked_utf16(text.encode()) == unmarked_utf16(b"\0" + text.encode()) == ""


@pytest.mark.parametrize(("one", "other"), JOINS)
@pytest.mark.parametrize("language", PARAGRAPHS)
def test_joined_files_are_decoded_part_by_part(language, one, other):
    first, second = PARAGRAPHS[language] + "\n", PARAGRAPHS["Russian" if language == "Greek" else "Greek"] + "\n"
    for ends in ((), (marked(first, one),)):
        found = decode(b"".join([marked(first, one), marked(second, other), *ends]), "a.txt")
        assert found.text.replace("\ufeff", "") == first + second + first * len(ends)
        assert not found.cut
        assert found.broken == 0
        assert not found.guessed


@pytest.mark.parametrize(("first", "second"), [("cp1252", "utf-16"), ("utf-16", "cp1252"), ("utf-16", "cp1251")])
def test_an_older_encoding_may_be_joined_with_utf16(tmp_path, first, second):
    """As "ANSI" and "Unicode" files of Notepad are."""
    texts = [text_of("Russian" if codec == "cp1251" else "German") for codec in (first, second)]
    found = read([write(tmp_path, texts[0].encode(first), texts[1].encode(second))])
    assert found.text == "".join(texts)
    assert any("is not UTF-8. Our best guess is" in note for note in found.notes)


def test_what_was_joined_is_said(tmp_path):
    text = text_of("English")
    added = read([write(tmp_path, marked(text, "utf-8"), marked(text, "utf-16-le"))])
    assert added.text == text * 2
    assert added.encoding == "UTF-8, UTF-16"
    assert added.notes == (
        "a.txt is UTF-8 in some parts and UTF-16 in others, as when files are joined. Each part was read in its own "
        "encoding.",
    )
    assert added.done == ("Removed 1 invisible byte-order mark (U+FEFF).",)


def test_lines_appended_by_powershell_are_read():
    """Its >> appends UTF-16 without a mark to any file."""
    before = "".join(f"{i}. The log of a program in ASCII.\r\n" for i in range(40))
    line = "C:\\Users\\Zoë> “done” – 3 files\r\n"
    assert decode(before.encode() + 3 * line.encode("utf-16-le"), "a.txt").text == before + 3 * line


@pytest.mark.parametrize("sign", "═…─█你")
def test_a_line_of_signs_in_utf16_is_no_other_encoding(sign):
    text = f"A heading\n{sign * 300}\nand a text\n" * 3
    for codec in ("utf-16-le", "utf-16-be"):
        assert len(parts_of(marked(text, codec))) == 1
        assert decode(marked(text, codec), "a.txt").text == "\ufeff" + text


def test_a_program_with_text_in_it_is_still_refused():
    data = (b"\x90\0\x03" + b"A sentence of the program, for a person to read." + b"\0\0\x01\xff\0\0\x7f") * 40
    with pytest.raises(NotText, match="is not plain text"):
        decode(data, "a.bin")


def test_the_byte_order_may_change_any_number_of_times():
    marks = b"\xff\xfe" + b"\xfe\xff\xff\xfe" * 1000
    assert orders(marks, "utf-16-le") == [b"\xff\xfe", *[b"\xfe\xff", b"\xff\xfe"] * 1000]
    assert orders(b"a\xfe\xffb" + marks[2:4], "utf-16-le") == [b"a\xfe\xffb", b"\xfe\xff"]  # only whole characters
    assert len(parts_of(marks + b"\0")) > 1000
    assert decode(marks + "é".encode("utf-16-le"), "a.txt").text.strip("\ufeff") == "é"


# --- large files --------------------------------------------------------------------------------------------------


@pytest.fixture
def small_pieces(home, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let texts of more than 5,000 bytes count as large, and be read in pieces of 1,000 bytes."""
    for module in (cutting, pieces, reading, storing):
        monkeypatch.setattr(module, "WHOLE", 5_000)
    monkeypatch.setattr(cutting, "PIECE", 1_000)


@pytest.mark.parametrize("codec", ["utf-16-le", "utf-16-be"])
@pytest.mark.parametrize("language", PARAGRAPHS)
def test_a_large_file_without_a_mark_is_read(small_pieces, tmp_path, language, codec):
    text = (PARAGRAPHS[language] + "\n") * 40
    assert corpus.add([write(tmp_path, text.encode(codec))]).text() == text


@pytest.mark.parametrize("codec", ["utf-16-le", "utf-16-be"])
def test_a_large_file_may_begin_in_the_middle_of_a_character(small_pieces, tmp_path, codec):
    text = text_of("English") * 20
    added = corpus.add([write(tmp_path, text.encode(codec)[1:])])
    assert added.text() == text[1:]
    assert "a.txt begins in the middle of a character, which was left out." in added.notes


@pytest.mark.parametrize(("one", "other"), JOINS)
@pytest.mark.parametrize("language", ["English", "Russian", "Chinese"])
def test_a_large_file_of_joined_ones_is_refused(small_pieces, tmp_path, language, one, other):
    text = (PARAGRAPHS[language] + "\n") * 40
    with pytest.raises(NanoGPTError, match=r"a\.txt mixes UTF-16 with another encoding, or two byte orders of it\. A "):
        corpus.add([write(tmp_path, marked(text, one), marked(text, other))])
