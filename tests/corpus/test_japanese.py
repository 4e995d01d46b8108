"""Japanese texts in which several encodings meet, or that have characters which Python's codecs lack."""

from __future__ import annotations

import pytest

from nanogpt.corpus import ENCODINGS, read
from nanogpt.corpus.decoding import NotText, decode
from nanogpt.corpus.pieces import joined

EAST = ["cp932", "euc-jp"]
HIGH = bytes(byte | 0x80 for byte in range(256))
SEVEN = bytes(byte & 0x7F for byte in range(256))
MARKS = "①今日は㈱髙島屋でラーメンを食べた。\n"  # ① and ㈱ are in row 13 of Windows, 髙 is in its row 92


def lines_of(count: int) -> list[str]:
    """Return lines, no two alike."""
    kinds = ("吾輩は猫である。名前はまだ無い。どこで生れたか", "コンピュータの時代に")
    return [f"{i}: {kinds[i % 2]}いる。\n" for i in range(count)]


def in_euc(text: str) -> bytes:
    """Encode a text in EUC-JP with the rows of Windows, whose first byte in Shift-JIS stands for two rows."""

    def one(ch: str) -> bytes:
        try:
            return ch.encode("euc-jp")
        except UnicodeEncodeError:
            lead, trail = ch.encode("cp932")
            row = 2 * (lead - (0x70 if lead < 0xA0 else 0xB0)) - (trail < 0x9F)
            return bytes([row, trail - 0x7E if trail >= 0x9F else trail - 0x1F - (trail > 0x7F)]).translate(HIGH)

    return b"".join(map(one, text))


def in_mail(text: str) -> bytes:
    """Encode a text in ISO-2022-JP with the rows of Windows and half-width kana."""
    begin = {1: b"\x1b(B", 2: b"\x1b$B", 3: b"\x1b(I"}
    written, now = b"", 1
    for ch in text:
        code = in_euc(ch)
        kind = 3 if code[0] == 0x8E else len(code)
        written += (begin[kind] if kind != now else b"") + code[kind == 3 :].translate(SEVEN)
        now = kind
    return written


@pytest.mark.parametrize("codec", EAST)
@pytest.mark.parametrize("text", ["".join(lines_of(20)), "短い行です\n"])
def test_lines_in_an_older_encoding_are_read_in_it(codec, text):
    start = "".join(lines_of(100))
    found = decode(start.encode() + text.encode(codec) + start.encode(), "a.txt")
    assert (found.text, found.codec, found.broken) == (start + text + start, "utf-8", 0)
    assert (found.others, found.other) == (text.count("\n"), ENCODINGS[codec])


@pytest.mark.parametrize("codec", EAST)
@pytest.mark.parametrize("earlier", [None, "found"])
def test_lines_in_utf8_are_read_as_that_if_they_are_fewer(tmp_path, codec, earlier):
    start, end = "ﾃｱ, ｱｲｳ\n" + "".join(lines_of(100)), "".join(lines_of(90))
    data = start.encode(codec) + end.encode()
    found = decode(data, "a.txt", earlier=earlier and codec)
    assert (found.text, found.codec, found.others) == (start + end, codec, 90)
    (tmp_path / "a.txt").write_bytes(data)
    said = f"a.txt is {ENCODINGS[codec]}, except for 90 lines, which we read as UTF-8."
    assert said in read([tmp_path / "a.txt"]).notes


@pytest.mark.parametrize("language", ["Japanese", "Chinese", "Russian"])
def test_damaged_letters_are_not_taken_for_another_encoding(language):
    line = dict(Japanese=lines_of(1)[0], Chinese="话说天下大势，分久必合。\n", Russian="Все счастливые семьи.\n")[
        language
    ]
    found = decode(line.encode() * 50 + (line.encode()[:-5] + b"\n") * 9, "a.txt")
    assert (found.codec, found.others, found.broken) == ("utf-8", 0, 9)


@pytest.mark.parametrize("codec", ["utf-8", "utf-8-sig", *EAST, "cp1252"])
def test_mail_joined_with_other_text_is_read(tmp_path, codec):
    start = "Schöne Grüße aus München.\n" * 50 if codec == "cp1252" else "".join(lines_of(50))
    mails = "".join(lines_of(30))
    (tmp_path / "a.txt").write_bytes(start.encode(codec) + in_mail(mails) + start.encode(codec))
    reading = read([tmp_path / "a.txt"])
    assert reading.text == start + mails + start if codec != "utf-8-sig" else mails in reading.text
    others = ENCODINGS[codec.removesuffix("-sig")]
    assert reading.encoding == f"{others}, Japanese (ISO-2022-JP)"
    assert reading.notes[0].startswith(f"a.txt is {others} in some parts and Japanese (ISO-2022-JP) in others")


def test_mail_is_named_wherever_in_a_large_file_it_is():
    one, other = decode("é".encode(), "a.txt"), decode("é".encode() + in_mail("あ"), "a.txt")
    assert joined(one, other).encoding == joined(other, one).encoding == "UTF-8, Japanese (ISO-2022-JP)"


@pytest.mark.parametrize("written", [in_euc, in_mail])
@pytest.mark.parametrize("text", [MARKS * 20, "①はこれ、②はそれ、③と④は㈱など。\n" * 20, "ﾗｰﾒﾝはこれです①\n" * 20])
def test_characters_that_windows_adds_are_read(written, text):
    found = decode(written(text), "a.txt")
    assert (found.text, found.broken) == (text, 0)


def test_an_undefined_pair_is_one_broken_place():
    text = "".join(lines_of(20))
    assert decode(text.encode("euc-jp") + b"\xa9\xa9\xad\xa1\n", "a.txt", "euc-jp").text == text + "\ufffd\ufffd①\n"


def test_a_file_of_switches_without_letters_is_read_in_one_pass():
    """Each switch to Japanese was once followed to the end of the line, which took hours for a megabyte."""
    data = b"\x1b$B!!" * 40_000 + " é\n".encode()
    assert len(decode(data, "a.txt").text) < len(data)


def test_letters_in_a_western_encoding_are_no_pairs():
    with pytest.raises(NotText):
        decode("über die Brücke für Jürgen\n".encode("cp1252") * 20, "a.txt", "euc-jp")


def test_mail_in_the_output_of_a_program_is_read():
    log, mails = "\x1b[32mINFO\x1b[0m ok done\n" * 5, "".join(lines_of(30))
    found = decode(log.encode() + in_mail(mails), "a.txt")
    assert (found.text, found.encoding) == (log + mails, "UTF-8, Japanese (ISO-2022-JP)")


def test_a_line_in_two_western_encodings_is_not_vietnamese():
    lines = "Die größte Brücke über die schöne Spree.\n"
    found = decode(lines.encode() * 200 + b"Gr\xc3\xb6\xc3\x9fe, gr\xf6\xdfte Br\xc3\xbccke\n", "a.txt")
    assert (found.codec, found.others, found.broken) == ("utf-8", 0, 2)
