"""Texts are decoded correctly or refused with a clear message; repairs are reported, and each text is stored once."""

from __future__ import annotations

import codecs
import contextlib
import errno
import hashlib
import http.server
import io
import itertools
import json
import os
import shutil
import socket
import subprocess
import sys
import threading
import time
import unicodedata
import zipfile

import numpy as np
import pytest

from nanogpt import corpus, disk
from nanogpt.config import NanoGPTError
from nanogpt.corpus import builtin as texts, kinds, repairs, store
from nanogpt.corpus.decoding import decode
from nanogpt.corpus.encoding import ENCODINGS, codec_of
from nanogpt.corpus.reading import Reading, read
from nanogpt.corpus.report import Report
from nanogpt.corpus.store import keep
from nanogpt.data import split
from nanogpt.holdout import epochs
from nanogpt.tokenizer import CharTokenizer

PARAGRAPHS = {
    "English": "“It’s a truth universally acknowledged,” she said — “that a single man in possession of a good fortune "
    "must be in want of a wife.” He didn’t answer; the café was closed… and the naïve waiter had gone home.",
    "German": "Die schöne Müllerin ging früh am Morgen über die Brücke, um Äpfel und Öl für die Küche zu kaufen. „Grüß "
    "Gott“, sagte der Bäcker, „heute gibt es süße Brötchen – drei für zwei.“ Größe, Höhe und Länge waren ihr gleich.",
    "French": "L'été dernier, nous étions allés à la mer où les élèves chantaient près du château. Le garçon, déçu, "
    "s'était assis à côté de sa mère : « Où êtes-vous allés ? » Çà et là, des pêcheurs tiraient leurs filets.",
    "Spanish": "El niño corrió detrás de la cigüeña mientras su mamá gritaba: ¡No vayas tan rápido! ¿Qué dirá tu papá "
    "mañana? En un lugar de la Mancha, de cuyo nombre no quiero acordarme, no ha mucho tiempo que vivía un hidalgo.",
    "Portuguese": "Não há coração que não se emocione com a canção da manhã; às vezes, porém, a solidão é a única "
    "companhia. Três irmãos viviam além das montanhas, e a avó lhes contava histórias de pão, maçã e limão.",
    "Swedish": "Där är ån, sade den gamle mannen och pekade över ängen. Hösten hade kommit tidigt det året, och på "
    "åkrarna låg dimman tät över säden. Många människor hade redan gått hem för att äta.",
    "Danish": "Der var engang en gammel mand, som boede på en ø langt ude i havet. Hver dag gik han "
    "ned til stranden for "
    "at se på bølgerne og høre på mågerne, og når aftenen kom, tændte han lyset og læste for sine børn.",
    "Polish": "Był piękny, słoneczny dzień; rzeka płynęła wolno między łąkami, gdzie pasły się krowy i źrebięta. "
    "Wieczorem wszyscy wrócili do domu, żeby zjeść kolację, a babcia opowiadała dzieciom stare baśnie.",
    "Czech": "Na kopci stál starý dům, ve kterém bydlela babička se svými vnoučaty. Každé ráno vařila čaj a vyprávěla "
    "jim příběhy o kouzelných lesích a řekách. Žluťoučký kůň se pásl za plotem a tiše poslouchal.",
    "Hungarian": "Egyszer volt, hol nem volt, az Óperenciás-tengeren is túl, volt egyszer egy "
    "szegény ember, akinek három "
    "fia volt. A legidősebb elindult világgá, hogy szerencsét próbáljon. Az öreg szülők sírtak, és "
    "őrizték a tűzhelyet.",
    "Turkish": "Bir varmış bir yokmuş, evvel zaman içinde kalbur saman içinde, çok uzak bir ülkede yaşlı bir padişah "
    "yaşarmış. Padişahın üç oğlu varmış; en küçüğü çok akıllı ve güzelmiş. Günlerden bir gün şehre bir adam gelmiş.",
    "Lithuanian": "Seniai seniai gyveno karalius, kuris turėjo tris sūnus. Vyriausias išjojo į pasaulį ieškoti laimės, "
    "bet negrįžo. Jauniausias brolis pasiėmė žirgą, atsisveikino su tėvu ir išvyko per ąžuolų mišką.",
    "Russian": "Все счастливые семьи похожи друг на друга, каждая несчастливая семья несчастлива "
    "по-своему. Всё смешалось "
    "в доме. Жена узнала, что муж был в связи с бывшею в их доме гувернанткой, и объявила, что уезжает.",
    "Ukrainian": "Реве та стогне Дніпр широкий, сердитий вітер завива, додолу верби гне високі, "
    "горами хвилю підійма. І "
    "блідий місяць на ту пору із хмари де-де виглядав, неначе човен в синім морі, то виринав, то потопав.",
    "Greek": "Μια φορά κι έναν καιρό ζούσε σε ένα μικρό χωριό ένας φτωχός ψαράς. Κάθε πρωί έβγαινε "
    "στη θάλασσα με τη βάρκα "
    "του και γύριζε το βράδυ με λίγα ψάρια. Η γυναίκα του τον περίμενε στο σπίτι με τα παιδιά τους.",
    "Hebrew": "בראשית ברא אלהים את השמים ואת הארץ. והארץ היתה תהו ובהו וחשך על פני תהום ורוח אלהים מרחפת על פני המים. "
    "ויאמר אלהים יהי אור ויהי אור. וירא אלהים את האור כי טוב ויבדל אלהים בין האור ובין החשך.",
    "Arabic": "كان يا ما كان في قديم الزمان ملك عادل يحكم بلادا واسعة، وكان له ثلاثة أبناء. وفي يوم "
    "من الأيام قال لهم: من "
    "يأتيني بماء الحياة فله نصف المملكة. فخرج الأبناء الثلاثة في طريق طويل عبر الصحراء.",
    "Thai": "กาลครั้งหนึ่งนานมาแล้ว มีชายชราคนหนึ่งอาศัยอยู่ในหมู่บ้านเล็ก ๆ ริมแม่น้ำ ทุกเช้าเขาจะออกไปจับปลา "
    "แล้วกลับมาบ้านในตอนเย็น ภรรยาของเขาทำอาหารรออยู่เสมอ",
    "Japanese": "吾輩は猫である。名前はまだ無い。どこで生れたかとんと見当がつかぬ。何でも薄暗いじめじめした所で"
    "ニャーニャー泣いていた事だけは記憶している。吾輩はここで始めて人間というものを見た。",
    "Chinese": "话说天下大势，分久必合，合久必分。周末七国分争，并入于秦；及秦灭之后，楚、汉分争，又并入于汉。"
    "汉朝自高祖斩白蛇而起义，一统天下，后来光武中兴，传至献帝，遂分为三国。",
    "Taiwanese": "話說天下大勢，分久必合，合久必分。周末七國分爭，并入於秦；及秦滅之後，楚、漢分爭，又并入於漢。"
    "漢朝自高祖斬白蛇而起義，一統天下，後來光武中興，傳至獻帝，遂分為三國。",
    "Korean": "옛날 옛적에 어느 마을에 마음씨 착한 흥부와 욕심 많은 놀부 형제가 살았습니다. 어느 날 흥부는 다리를 다친 "
    "제비를 발견하고 정성껏 돌보아 주었습니다. 이듬해 봄에 제비는 박씨 하나를 물고 돌아왔습니다.",
}
LEGACY = {
    "English": "cp1252 mac-roman",
    "German": "cp1252 mac-roman",
    "French": "cp1252 latin-1 mac-roman cp850",
    "Spanish": "cp1252 latin-1",
    "Portuguese": "cp1252 latin-1",
    "Swedish": "cp1252 latin-1 cp850",
    "Danish": "cp1252 latin-1",
    "Polish": "cp1250 iso8859-2",
    "Czech": "cp1250 iso8859-2",
    "Hungarian": "cp1250 iso8859-2",
    "Turkish": "cp1254",
    "Lithuanian": "cp1257",
    "Russian": "cp1251 koi8-r cp866 iso8859-5 mac-cyrillic",
    "Ukrainian": "cp1251 koi8-u",
    "Greek": "cp1253 iso8859-7",
    "Hebrew": "cp1255",
    "Arabic": "cp1256",
    "Thai": "tis-620",
    "Japanese": "shift_jis cp932 euc-jp iso2022-jp",
    "Chinese": "gb18030 gbk",
    "Taiwanese": "big5 cp950",
    "Korean": "euc-kr cp949",
}
CASES = [(language, codec) for language, names in LEGACY.items() for codec in names.split()]
UNICODE = ["utf-8", "utf-8-sig", "utf-16", "utf-32"]  # the last two write a byte-order mark in native byte order
HOSTILE = (
    "中文和日本語とคนไทย, العربية من اليمين, עברית\n"
    "👩‍👩‍👧‍👦 🏳️‍🌈 🇩🇪 ❤️ 𝔘𝔫𝔦𝔠𝔬𝔡𝔢 \U0010fffd\n"
    "e\u0301 is not é, Å is not Å, ﬁ ﬀ ① ½ Ⅷ, tab\there, nbsp\u00a0here, zwnj\u200chere\n"
    "separators \x85 \u2028 \u2029 stay, bidi \u202eoverride\u202c too\n"
)


def text_of(language: str = "English", lines: int = 12) -> str:
    """Return a text of numbered lines, no two alike."""
    return "".join(f"{i}. {PARAGRAPHS[language]}\n" for i in range(lines))


def write(folder, name: str, content: str | bytes):
    path = folder / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode("utf-8"))
    return path


def done(prepared: Reading) -> dict[str, int]:
    return {one.key: one.count for one in prepared.repairs if one.applied}


# --- encodings -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("language", "codec"), CASES)
def test_a_paragraph_in_an_old_encoding_is_read_rightly(language, codec):
    found = decode(PARAGRAPHS[language].encode(codec), "a.txt")
    assert found.text == PARAGRAPHS[language]
    assert found.encoding in ENCODINGS.values()
    assert found.broken == 0


@pytest.mark.parametrize(("language", "codec"), CASES)
def test_so_is_a_file_of_it_and_the_guess_is_said(tmp_path, language, codec):
    text = "Chapter one, in plain letters.\n" * 40 + text_of(language)
    prepared = read([write(tmp_path, "a.txt", text.encode(codec))])
    assert prepared.text == text
    if codec != "iso2022-jp":  # ISO-2022-JP identifies itself, so it isn't a guess
        assert "guess" in prepared.notes[0]
    assert prepared.encoding in prepared.notes[0]


@pytest.mark.parametrize("codec", [*UNICODE, "utf-16-le", "utf-16-be"])
@pytest.mark.parametrize("language", ["English", "Russian", "Japanese"])
def test_unicode_is_never_a_guess(tmp_path, language, codec):
    text = text_of(language, 40)
    mark = "\ufeff" if codec.endswith("e") and language != "English" else ""  # the -le and -be codecs don't write one
    prepared = read([write(tmp_path, "a.txt", (mark + text).encode(codec))])
    assert prepared.text == text
    assert "guess" not in " ".join(prepared.notes)
    assert prepared.encoding == codec.removesuffix("-sig").removesuffix("-le").removesuffix("-be").upper()


@pytest.mark.parametrize("bom", [codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE, codecs.BOM_UTF32_LE, codecs.BOM_UTF32_BE])
def test_both_byte_orders(bom):
    codec = {b"\xff\xfe": "utf-16-le", b"\xfe\xff": "utf-16-be", b"\xff\xfe\0\0": "utf-32-le"}.get(bom, "utf-32-be")
    for asked in (None, "utf-16" if "16" in codec else "utf-32"):
        assert decode(bom + HOSTILE.encode(codec), "a.txt", asked).text == "\ufeff" + HOSTILE


def test_several_western_languages_in_one_text():
    text = "\n".join(PARAGRAPHS[name] for name in ("German", "French", "Spanish", "Danish", "Swedish", "Portuguese"))
    assert decode(text.encode("cp1252"), "a.txt").text == text


@pytest.mark.parametrize(
    ("text", "codec"),
    [
        ("He came — too late—and said nothing… She paid £5 for 30° at the café.\n", "cp1252"),
        ("Copyright © 1999 Somebody. All rights reserved ®.\n", "cp1252"),
        ("‘It’s what they’d say,’ she said; “don’t you think?”\n", "cp1252"),
        ("DIE SCHÖNE MÜLLERIN UND DER BÄCKER. ÜBER GRÖSSE\n", "cp1252"),
        ("ГЛАВА ПЕРВАЯ. НАЧАЛО ПУТИ\n", "koi8-r"),
        ("「おはよう」と彼女は言った。「いい天気ですね。」\n", "cp932"),
        ("こんにちは、世界。\n", "euc-jp"),
        ("The word мир means peace.\n" + PARAGRAPHS["Russian"], "cp1251"),
    ],
)
def test_sparse_and_unusual_letters(text, codec):
    assert decode((text * 20).encode(codec), "a.txt").text == text * 20


def test_another_encoding_can_be_chosen(tmp_path):
    path = write(tmp_path, "a.txt", text_of("Russian").encode("koi8-r"))
    assert read([path], encoding="koi8-r").text == text_of("Russian")
    assert read([path], encoding="koi8-r").notes == ("a.txt was read as Russian (KOI8-R).",)
    assert read([path], encoding="cp1251").text != text_of("Russian")
    for chosen in ENCODINGS:
        assert codec_of(ENCODINGS[chosen]) == codec_of(chosen) == chosen
        codecs.lookup(chosen)
    assert [codec_of(name) for name in ("Windows-1252", "SHIFT_JIS", "gbk", "utf8")] == [
        "cp1252",
        "cp932",
        "gb18030",
        "utf-8",
    ]
    for wrong in ("klingon", "hex", "utf-7", "idna", "a\0b", ""):
        with pytest.raises(NanoGPTError, match="must be one of"):
            codec_of(wrong)


def test_an_encoding_that_does_not_fit_is_refused(tmp_path):
    path = write(tmp_path, "a.txt", text_of("German").encode("cp1252"))
    with pytest.raises(NanoGPTError, match=r"^a\.txt can't be read as UTF-8\. Choose another encoding"):
        read([path], encoding="utf-8")


def test_a_file_cut_off_in_the_middle_of_a_letter_is_still_read(tmp_path):
    cut = read([write(tmp_path, "a.txt", (text_of("Russian") + "я").encode()[:-1])])
    assert cut.text == text_of("Russian") + "\ufffd"
    assert cut.notes == ("a.txt has 1 place that can't be read as UTF-8, shown as �.",)
    assert not done(cut)
    assert read([tmp_path / "a.txt"], accept=["broken"]).text == text_of("Russian")


def test_one_broken_byte_for_five_letters_is_read_and_one_more_is_not():
    text = "\n".join(["dix œufs à la crème très frais"] * 20)  # four non-ASCII letters per line
    assert sum(not ch.isascii() for ch in text) == 80
    for broken in (15, 16):
        found = decode(text.encode() + b" \xff" * broken, "a.txt", "utf-8")
        assert (found.codec, found.broken) == ("utf-8", broken)
        assert decode(text.encode() + b" \xff" * broken, "a.txt").codec == "utf-8"
    with pytest.raises(NanoGPTError, match=r"^a\.txt can't be read as UTF-8"):
        decode(text.encode() + b" \xff" * 17, "a.txt", "utf-8")
    assert decode(text.encode() + b" \xff" * 17, "a.txt").codec != "utf-8"


@pytest.mark.parametrize(("language", "codec"), [("Japanese", "cp932"), ("Chinese", "gb18030"), ("Korean", "euc-kr")])
def test_a_few_broken_bytes_do_not_change_the_guess(language, codec):
    lines = text_of(language, 30).split("\n")
    lines[7] += "!"
    damaged = "\n".join(lines).encode(codec).replace(b"!", b"\xff\xff")
    found = decode(damaged, "a.txt")
    assert 1 <= found.broken <= 2 or codec == "cp932"  # in cp932 a lone FF is a valid character
    assert found.text.split("\n")[8:] == lines[8:]


# --- rejected files ------------------------------------------------------------------------------------------------


def archive(member: str) -> bytes:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", zipfile.ZIP_DEFLATED) as made:
        made.writestr("[Content_Types].xml", "<Types/>")
        made.writestr(member, "<a/>" * 500)
    return content.getvalue()


REFUSED = {
    "nothing": (b"", "is empty. Paste some text"),
    "spaces": (b" \r\n\t" * 999, "is empty. Paste some text"),
    "short": (b"Once upon a time.", "has only 17 characters. Add more: at least 1,000 are needed"),
    "zip": (archive("a.txt"), r"^f is a zip archive, not a text file; unpack it"),
    "docx": (archive("word/document.xml"), r"Word document \(docx\), not a text file; .* save it as plain text"),
    "odt": (archive("mimetypeapplication/vnd.oasis"), r"OpenDocument file \(odt\)"),
    "pdf": (b"%PDF-1.7\n%\xe2\xe3\xcf\xd3\n1 0 obj" + b"x" * 2000, r"is a PDF, .* copy the text and paste"),
    "doc": (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(2000), "old Office document"),
    "rtf": (b"{\\rtf1\\ansi " + b"words " * 400, "rich-text document"),
    "png": (b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR" + bytes(2000), r"is an image \(PNG\)"),
    "jpeg": (b"\xff\xd8\xff\xe0\0\x10JFIF" + bytes(2000), r"is an image \(JPEG\)"),
    "wav": (b"RIFF\x24\0\0\0WAVE" + bytes(2000), "audio, video"),
    "gzip": (b"\x1f\x8b\x08\0" + bytes(range(256)) * 9, "gzip archive"),
    "noise": (np.random.default_rng(1).bytes(5000), "not plain text"),
    "zeros": (bytes(5000), "not plain text"),
    "zero-filled": (text_of().encode() + bytes(500), "not plain text"),
    "numbers": (np.arange(2000, dtype="<f8").tobytes(), "not plain text"),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_what_is_no_text_is_refused_in_one_sentence(tmp_path, kind):
    content, sentence = REFUSED[kind]
    with pytest.raises(NanoGPTError, match=sentence) as error:
        read([write(tmp_path, "f", content)])
    assert "\n" not in str(error.value)
    assert len(str(error.value)) < 250


def test_texts_that_only_begin_like_something_else_are_texts(tmp_path):
    for begin in ("RIFFRAFF", "ID3 tags", "GIF8 or not", "Rar! said", "BZh", "PK", "MZ"):
        assert read([write(tmp_path, "a.txt", begin + text_of())]).text == begin + text_of()


@pytest.mark.parametrize("points", [[0xD800], [0xDFFF], [0xDE00, 0xD83D]])
def test_half_a_character_is_refused(home, points):
    broken = "".join(map(chr, points))
    for attempt in (read, corpus.add):
        with pytest.raises(NanoGPTError, match=r"an unpaired surrogate \(U\+D[0-9A-F]{3}\) at position"):
            attempt(text_of() + broken)
    for codec in ("utf-8", "utf-16"):
        path = write(home, "a.txt", ((broken + " ") * 999 + text_of()).encode(codec, "surrogatepass"))
        with pytest.raises(NanoGPTError, match="a.txt can't be read as UTF"):
            read([path], encoding=codec)


def test_nulls_are_refused_when_pasted(home):
    with pytest.raises(NanoGPTError, match="null characters"):
        read(text_of() + "\0" * 500, decline=["control-characters"])
    with pytest.raises(NanoGPTError, match="null characters"):
        corpus.add(text_of() + "\0" * 500, decline=["control-characters"])


@pytest.mark.parametrize("mixed", ["{}" + "\0" * 300, "\0{}" + "\0" * 50, "{}" + "\1" * 300])
def test_a_pasted_text_goes_through_the_same_door_as_a_file(home, mixed):
    text = mixed.format(text_of())
    with pytest.raises(NanoGPTError):
        corpus.add(text.encode())
    with pytest.raises(NanoGPTError, match="null characters|not plain text"):
        corpus.add(text)
    assert corpus.add(text_of() + "\0").characters == len(text_of())  # a single null is removed, pasted or uploaded


def test_too_much_is_refused_before_it_is_read(tmp_path, monkeypatch):
    path = write(tmp_path, "a.txt", text_of())
    with path.open("r+b") as file:
        file.truncate(20_000_001)  # a sparse file: large, but takes no disk space
    with pytest.raises(NanoGPTError, match=r"is 20\.0 MB; at most 20\.0 MB"):
        read([path])
    monkeypatch.setenv("NANOGPT_MAX_BYTES", "5000")
    assert corpus.max_bytes() == 5000
    small = [write(tmp_path, name, text_of(lines=12)) for name in "ab"]
    assert read(small[:1]).text == text_of(lines=12)
    for attempt in (lambda: read(small), lambda: read("é" * 2501), lambda: corpus.add("é" * 2501)):
        with pytest.raises(NanoGPTError, match="at most 0.0 MB is allowed"):
            attempt()
    monkeypatch.setenv("NANOGPT_MAX_BYTES", "many")
    with pytest.raises(NanoGPTError, match="NANOGPT_MAX_BYTES was 'many'"):
        read(small)


def test_files_that_cannot_be_read(tmp_path):
    with pytest.raises(NanoGPTError, match=r"none\.txt can't be read \(.+\)\. Choose a text file"):
        read([tmp_path / "none.txt"])
    (tmp_path / "empty").mkdir()
    with pytest.raises(NanoGPTError, match=r"empty has no files in it\. Choose a folder with text files"):
        read([write(tmp_path, "a.txt", text_of()), tmp_path / "empty"])
    with pytest.raises(NanoGPTError, match="No file was given"):
        read([])


# --- several files, and repairs ------------------------------------------------------------------------------------


def test_several_files_are_joined_in_the_given_order(tmp_path):
    one, two = text_of("German"), text_of("Russian")
    b = write(tmp_path, "b.txt", one.rstrip("\n").encode("cp1252"))
    a = write(tmp_path, "a.txt", two.encode())
    empty = write(tmp_path, "empty.txt", b"")
    prepared = read([b, empty, str(a)])
    assert prepared.text == one + two
    assert prepared.name == "b + 2 more files"
    assert prepared.source == "files: b.txt, empty.txt, a.txt"
    assert prepared.encoding == "Western European (Windows-1252), UTF-8"
    assert [note.split(" ")[0] for note in prepared.notes] == ["b.txt", "empty.txt"]


BOOK = """The Project Gutenberg eBook of A Small Book

*** START OF THE PROJECT GUTENBERG EBOOK A SMALL
BOOK ***


{text}


End of the Project Gutenberg EBook of A Small Book, by Nobody

*** END OF THE PROJECT GUTENBERG EBOOK A SMALL BOOK ***

Updated editions will replace the previous one.
"""
BODY = text_of().strip("\n")
FLAWED = {  # repair -> flawed text, repaired text, count
    "line-endings": (BODY.replace("\n", "\r\n") + "\rlast\r\n", BODY + "\nlast\n", BODY.count("\n") + 2),
    "mojibake": (
        BODY.encode().decode("cp1252", "replace").replace("\ufffd", "\x9d"),
        BODY,
        sum(not ch.isascii() for ch in BODY),
    ),
    "byte-order-marks": ("\ufeff" + BODY[:500] + "\ufeff" + BODY[500:], BODY, 2),
    "gutenberg": (BOOK.format(text=BODY), BODY + "\n", len(BOOK) - len("{text}") - 1),
    "control-characters": (BODY[:99] + "\x1a\x00\x7f" + BODY[99:] + "\fend", BODY + "\nend", 4),
    "terminal-codes": (
        "\x1b]0;title\x1b\\\x1b[1;31m"
        + BODY[:99]
        + "\x1b[0m\x1b(B\x1b]8;;http://x.org\x1b\\"
        + BODY[99:]
        + "_\bend\x9b2J",
        BODY + "end",
        7,
    ),
    "subtitle-times": (
        "".join(f"{i}\n00:0{i}:00,100 --> 00:0{i}:02,000 X1:0\n{BODY}\n\n" for i in range(3)),
        f"{BODY}\n\n" * 3,
        3,
    ),
    "broken": (BODY[:99] + "\ufffd" + BODY[99:], BODY, 1),
    "invisible": ("\u200e" + BODY[:99] + "\xad\u200b\u2060\u2066" + BODY[99:] + "\u202e", BODY, 6),
    "separators": (BODY + "\u2028two\u2029three\x85", BODY + "\ntwo\nthree\n", 3),
    "no-break-spaces": (BODY.replace(" ", "\xa0") + "\u202f", BODY + " ", BODY.count(" ") + 1),
    "accents": (unicodedata.normalize("NFD", BODY), BODY, len(unicodedata.normalize("NFD", BODY)) - len(BODY)),
    "trailing-spaces": (BODY.replace("\n", " \t\n") + "  ", BODY, 2 * BODY.count("\n") + 2),
}


def test_every_repair_is_tried_here():
    assert FLAWED.keys() == corpus.REPAIRS.keys()


@pytest.mark.parametrize("key", FLAWED)
@pytest.mark.parametrize("as_file", [True, False])
def test_a_repair_is_named_counted_and_can_be_declined(tmp_path, key, as_file):
    flawed, right, count = FLAWED[key]
    source = [write(tmp_path, "a.txt", flawed)] if as_file else flawed
    by_default = corpus.REPAIRS[key].default
    repaired = read(source, accept=[] if by_default else [key])
    assert repaired.text == right
    assert done(repaired) == {key: count}
    assert f"{count:,}" in repaired.done[0]
    assert repaired.report().repairs == repaired.done

    untouched = read(source, decline=[key] if by_default else [])
    assert untouched.text == flawed
    assert untouched.done == ()
    assert {one.key: one.count for one in untouched.repairs} == {key: count}  # still offered
    offered, applied = untouched.repairs[0].label, repaired.repairs[0].label
    assert [label.split()[0] for label in (offered, applied)] in (
        ["Convert", "Converted"], ["Fix", "Fixed"], ["Join", "Joined"], ["Remove", "Removed"], ["Replace", "Replaced"],
    )  # fmt: skip


def test_unknown_repairs_are_refused():
    with pytest.raises(NanoGPTError, match="no clean-up 'spelling'; choose from line-endings"):
        read(text_of(), decline=["spelling"])


def test_a_clean_text_is_not_touched(tmp_path):
    text = HOSTILE * 8
    assert read(text).text == text
    prepared = read([write(tmp_path, "a.txt", text)])
    assert (prepared.text, prepared.notes, prepared.done) == (text, (), ())


def test_gutenberg_frames_of_all_ages():
    old = "Small print!\n*END*THE SMALL PRINT! FOR PUBLIC DOMAIN ETEXTS*Ver.04.29.93*END*\n\n{}\n\nEnd of Project"
    two = BOOK.format(text=BODY) + old.format(BODY) + " Gutenberg Etext\n"
    assert read(two).text == f"{BODY}\n\n\n{BODY}\n"
    only_footer = BODY + "\n\n***END OF THE PROJECT GUTENBERG EBOOK A SMALL BOOK***\nlicence\n"
    assert read(only_footer).text == BODY + "\n"
    windows = read(BOOK.format(text=BODY).replace("\n", "\r\n"), decline=["line-endings"])
    assert windows.text.strip() == BODY.replace("\n", "\r\n")
    nothing_inside = BOOK.format(text="") + "x" * 1000
    assert read(nothing_inside).text == nothing_inside
    assert read(BODY + "\nProject Gutenberg is a library.\n").repairs == ()


def test_letters_that_were_meant_are_not_taken_for_mojibake():
    for text in ("«LE CAFÉ» et «NOËL», MANHÔ\n" * 50, "Ã é Â â€“ \n" * 200, text_of("Portuguese").upper()):
        assert read(text).text == text


# --- the report ----------------------------------------------------------------------------------------------------


def test_the_report_counts_what_is_there(tmp_path):
    text = "The quick brown fox.\n" * 2000 + "Zoë…\t"
    report = read([write(tmp_path, "a.txt", text)]).report()
    assert (report.characters, report.lines, report.distinct) == (len(text), 2001, len(set(text)))
    assert report.chars == "".join(sorted(set(text)))
    assert [(one.ch, one.count, one.name) for one in report.rare] == [
        ("\t", 1, "tab"),
        ("Z", 1, "latin capital letter z"),
        ("ë", 1, "latin small letter e with diaeresis"),
        ("…", 1, "horizontal ellipsis"),
    ]
    train, val = split(np.zeros(len(text), dtype=np.uint8))
    assert (report.train_characters, report.val_characters) == (len(train), len(val))
    assert report.first_lines == "\n".join(text.split("\n")[:20])
    assert len(Report.of("x" * 5000).first_lines) == 1000
    assert epochs(10 * 50 * 76, report.characters) == pytest.approx(38000 / len(train))


def test_rare_characters_that_cannot_be_seen_have_names():
    named = {one.ch: one.name for one in Report.of("a" * 50 + "\n\x07\ue000 \u200d👍").rare}
    assert named == {
        "\n": "newline", "\x07": "U+0007", "\ue000": "U+E000", " ": "space", "\u200d": "zero width joiner",
        "👍": "thumbs up sign",
    }  # fmt: skip


ADVICE = {
    "5,000 characters is very little": text_of()[:999] + "".join(f"{i:05}" for i in range(4001 // 5 + 1))[:4001],
    r"98% of the text is one character \(latin small letter a\)": "a" * 49_000 + "bcdefghijk" * 100,
    "only 3 distinct characters": "abc" * 10_000,
    "has 2,501 distinct characters": "\n".join(chr(0x4E00 + i * 7 % 2500) * 9 for i in range(5000)),
    "control codes, unassigned or unreadable": text_of("German", 200).encode("cp1252").decode("latin-1"),
    "The text has Project Gutenberg's header or footer": BOOK.format(text=text_of(lines=150)),
    "a web page with HTML tags": "<!DOCTYPE html>\n<p>" + text_of(lines=150),
    "a web page with HTML tags, and": "".join(f"<p class='x'>{line}</p>\n" for line in text_of(lines=150).splitlines()),
    "151 lines are times of subtitles": "".join(
        f"{i}\n00:{i // 60:02}:{i % 60:02}.000 --> 01:00:00.000\n{line}\n\n"
        for i, line in enumerate(text_of(lines=151).splitlines())
    ),
    "150 lines have the date or time of a message": "".join(
        f"31.12.20, 21:{i % 60:02} - Olga: {line}\n" for i, line in enumerate(text_of(lines=150).splitlines())
    ),
    "a table with 4 columns divided by commas": "".join(f"{i},{i * 7 % 13},{i * i},name {i}\n" for i in range(2000)),
    "a table with 3 columns divided by tabs": "".join(f"{i}\t{i * 7 % 13}\tname, {i}\n" for i in range(2000)),
    "a list of short lines, such as names": "".join(
        f"{a}{b}{c}\n"
        for a in "ABCDEFGHKLMN"
        for b in ["an", "eo", "ili", "uma", "or"]
        for c in ["a", "in", "us", "ette", "y", "el"] * 9
    ),
    "100% of the validation set also appears in the training set": (text_of(lines=15)) * 10,
}


MESSAGES = [
    "31.12.20, 21:{:02} - Olga: ", "\u200e[31/12/20, 9:{:02}:11\u202fPM] Olga: ", "[21:{:02}] <olga> ",
    "21:{:02}:11 <olga> ", "2020-12-31T21:{:02}Z INFO ", "2020-12-31 21:{:02},123 INFO ",
    "olga — 12/31/2020 9:{:02} PM\n", "[31-Dec-20 09:{:02} PM] olga#12\n", "Olga  9:{:02} PM\n",
    "Dec 31 21:{:02}:11 host app[12]: ", "::1 - - [31/Dec/2020:21:{:02}:11 +0000] GET ",
]  # fmt: skip


@pytest.mark.parametrize("message", MESSAGES)
def test_chats_and_logs_of_many_programs_are_recognized(message):
    text = "".join(message.format(i % 60) + line + "\n" for i, line in enumerate(text_of(lines=150).splitlines()))
    assert kinds.sentence(text).startswith("150 lines have the date or time of a message")


RECORDS = {
    "The text has tags such as </word>": "<word id='{i}'>{line}</word>\n",
    "The text is JSON": '{{"id": {i}, "text": "{line}"}}\n',
    "The text is a table with 3 columns divided by commas": '{i},Olga,"{line}, and{more},\n ""{i}"""\n',
    "The text is JSON, as": 'window.YTD.part0 = [{{"id": {i}, "text": "{line}"}},\n',
    "The text is a table with 2 columns divided by bars": "{i}|{line}\n",
    "The text is e-mail": "From: Olga{i} <o@x.org>\nDate: 31 Dec 2020\nSubject: {i}\n\n{line}\n\n",
    "The text has letters written as codes such as =C3": "{i}. gr=C3=B6=C3=9Fer, {line}\n",
    "The text has letters written as codes such as &quot;": "{i}. &quot;{line}&quot;\n",
}


@pytest.mark.parametrize("sentence", RECORDS)
def test_records_of_many_programs_are_recognized(sentence):
    lines = enumerate(text_of(lines=150).splitlines())
    text = "".join(RECORDS[sentence].format(i=i, line=line, more=", more" * (i % 3)) for i, line in lines)
    assert kinds.sentence(text).startswith(sentence)


def test_times_in_prose_are_no_messages():
    assert kinds.sentence("At 9:15 he came, on 31.12.20, 21:00 at last.\n[1] A note.\n12 < 13 > 2\n" * 50) == ""


SUBTITLES = {
    "WEBVTT - a title\n\nNOTE by Olga\n\n": "cue-{i}\n00:{i:02}.000 --> 00:{i:02}.900 align:start\n{line}\n\n",
    "[Script Info]\nTitle: x\n\n[Events]\nFormat: Layer, Start\n": (
        "Dialogue: 0,0:00:{i:02}.00,0:00:{i:02}.90,x,,0,0,0,,{line}\n"
    ),
    "{0}{0}23.976\n": "{{{i}}}{{{i}}}{line}\n",
    "": "[00:{i:02}.50]{line}\n",
    "\n": "0:00:{i:02}.000,0:00:{i:02}.900\n{line}\n\n",
}


@pytest.mark.parametrize("heading", SUBTITLES)
def test_subtitles_of_many_programs_lose_their_times(heading):
    lines = [line + ", she said." for line in text_of(lines=60).splitlines()]
    text = heading + "".join(SUBTITLES[heading].format(i=i, line=line) for i, line in enumerate(lines))
    assert "lines are times of subtitles" in kinds.sentence(text)
    cleaned = [line for line in read(text, accept=["subtitle-times"]).text.split("\n") if line]
    assert cleaned == ["23.976", *lines] if "23.976" in heading else lines


@pytest.mark.parametrize(
    ("subtitles", "speech"),
    [
        ("1\n00:00:01,000 --> 00:00:02,000\n<i>So <b>old</b></i>\n", "So old\n"),
        ("WEBVTT\n\n00:01.000 --> 00:02.000\n<v Olga>the<00:01.200><c.red> old</c>\n", "the old\n"),
        (
            "[Script Info]\nTitle: x\n\nDialogue: 0,0:00:01.00,0:00:02.00,x,,0,0,0,,{\\i1}So{\\i0}\\Nold {you}\n",
            "So\nold {you}\n",
        ),
        ("{1}{25}So|old\n", "So\nold\n"),
    ],
)
def test_subtitles_lose_their_formatting_too(subtitles, speech):
    assert repairs.REPAIRS["subtitle-times"].fix(subtitles) == (speech, 1)
    plain = "<i>if</i> a|b {\\i1}\n"
    assert repairs.REPAIRS["subtitle-times"].fix(plain) == (plain, 0)


@pytest.mark.parametrize("mark", [",", ";", "\t", "|"])
@pytest.mark.parametrize("by_excel", [False, True])
def test_a_column_is_taken_whatever_divides_a_table(tmp_path, mark, by_excel):
    lines = text_of().splitlines()
    rows = "".join(mark.join([str(i), f'"{line}"', "x"]) + "\r\n" for i, line in enumerate(lines))
    head = (f"sep={mark}\r\n" if by_excel else "") + mark.join(["No", "Text", "Other"]) + "\r\n"
    assert corpus.fields_in(head + rows, "a.csv") == ["No", "Text", "Other"]
    assert read([write(tmp_path, "a.csv", head + rows)], field="Text").text == text_of()


def test_a_table_may_have_the_line_endings_of_old_macs(tmp_path):
    lines = [f'"{line}"' for line in text_of().splitlines() if '"' not in line]
    for first in ("", "sep=;\r"):
        rows = first + "\r".join(["id;text", *(f"1;{line}" for line in lines)]) + '\r2;"and\r\nmore"\r'
        path = write(tmp_path, "a.csv", rows)
        assert corpus.add([path], field="text").text() == "\n".join(line[1:-1] for line in lines) + "\nand\nmore\n"
        assert corpus.fields_in(rows, "a.csv") == ["id", "text"]


def test_joiners_and_accents_of_other_scripts_stay():
    text = text_of() + "می\u200cخواهم 👩\u200d💻 שָׁלוֹם q\u0301 हिन्दी\n"
    assert read(text, accept=["invisible", "accents"]).text == text


@pytest.mark.parametrize("sentence", ADVICE)
def test_advice(sentence):
    advice = Report.of(ADVICE[sentence]).advice
    with pytest.raises(NanoGPTError, match=sentence):
        raise NanoGPTError(" ".join(advice))
    assert len(advice) == 1


def test_a_good_text_needs_no_advice():
    assert Report.of(text_of("German", 150)).advice == ()


# --- on disk -------------------------------------------------------------------------------------------------------


def test_a_text_comes_back_as_it_was(home):
    text = HOSTILE * 9 + "\r\n kept \r as it is \n"
    kept = keep(Reading(text, "A name", "somewhere", "Unicode"), "  My\ttext\n\u202e ")
    assert kept.folder == home / "corpora" / kept.sha256[:16]
    assert (kept.name, kept.source, kept.characters) == ("My text", "somewhere", len(text))
    assert kept.text() == text
    assert (kept.folder / "text.txt").read_bytes() == text.encode()
    assert corpus.load(kept.id) == kept
    assert kept.chars == "".join(sorted(set(text)))
    assert corpus.size_on_disk(kept) == sum(file.stat().st_size for file in kept.folder.iterdir())
    assert sorted(file.name for file in kept.folder.iterdir()) == ["corpus.json", "text.txt", "tokens.npy"]
    assert kept.report().chars == kept.chars


def test_a_text_that_cannot_be_deleted_says_why(home, monkeypatch):
    kept = corpus.add(text_of())

    def fail(folder):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(folder))

    monkeypatch.setattr(disk, "delete_folder", fail)
    with pytest.raises(NanoGPTError, match=f"The text {kept.id} can't be deleted. You don't have permission to use"):
        corpus.delete(kept.id)
    monkeypatch.setenv("NANOGPT_PUBLIC", "1")
    with pytest.raises(
        NanoGPTError, match="can't be deleted. The server can't read or write its files .* Try again"
    ) as error:
        corpus.delete(kept.id)
    assert str(home) not in str(error.value)


def test_tokens_are_mapped_not_read(home):
    for text, kind in ((text_of(), np.uint8), ("".join(map(chr, range(0x4E00, 0x5200))) * 2, np.uint16)):
        kept = corpus.add(text)
        tokens = kept.tokens()
        assert isinstance(tokens, np.memmap)
        assert tokens.dtype == kind
        assert tokens.tolist() == CharTokenizer(kept.chars).encode(text)


def test_a_file_becomes_a_corpus(home):
    path = write(home, "Mein Märchen.txt", text_of("German").replace("\n", "\r\n").encode("cp1252"))
    kept = corpus.add([str(path)])
    assert (kept.name, kept.source) == ("Mein Märchen", "files: Mein Märchen.txt")
    assert kept.encoding == "Western European (Windows-1252)"
    assert kept.repairs == ("Converted 12 Windows or old Mac line endings.",)
    assert kept.text() == corpus.read_start([path])[0] == text_of("German")
    assert corpus.load(kept.id) == kept
    declined = corpus.add([path], "Other", encoding="cp1252", decline=["line-endings"])
    assert declined.id != kept.id
    assert (declined.name, declined.text()) == ("Other", text_of("German").replace("\n", "\r\n"))


def test_one_call_takes_a_text_in_and_tells_all_about_it(home):
    """One call accepts raw bytes, a file or pasted text, and decodes, repairs, reports and stores it."""
    data = ("Chapter one.\n" * 40 + text_of("Russian")).replace("\n", "\r\n").encode("cp1251")
    path = write(home, "a.txt", data)
    for source, name in ((data, "text"), ([path], "a")):
        kept = corpus.add(source, "Наш текст")
        assert (kept.name, kept.reading.name, kept.encoding) == ("Наш текст", name, "Cyrillic (Windows-1251)")
        assert kept.notes == (*kept.reading.notes, "Converted 52 Windows or old Mac line endings.")
        assert kept.notes[0].startswith(
            f"{'a.txt' if name == 'a' else 'text'} is not UTF-8. Our best guess is Cyrillic"
        )
        assert kept.report() == read(source).report()
        assert kept.text() == data.decode("cp1251").replace("\r", "")
    as_it_is = corpus.add(data.decode("cp1251"), decline=["line-endings"])
    assert as_it_is.text() == data.decode("cp1251")
    assert [(one.key, one.applied) for one in as_it_is.reading.repairs] == [("line-endings", False)]
    later = corpus.load(kept.id)
    assert later == kept
    assert later.reading is None
    assert later.notes == (*later.report().notes, *kept.repairs)  # stored with the text, as it was first added
    assert later.notes[0].startswith("text is not UTF-8. Our best guess is Cyrillic")
    with pytest.raises(NanoGPTError, match="is a PDF"):
        corpus.add(b"%PDF-1.7" + data)


def test_a_text_read_again_is_reported_as_it_was_read_now(home):
    first = corpus.add(text_of().encode("utf-8"))
    again = corpus.add(text_of().encode("utf-16"))
    assert again.id == first.id
    assert (first.report().encoding, again.report().encoding) == ("UTF-8", "UTF-16")
    assert corpus.load(first.id).report().encoding == "UTF-8"


def test_a_text_to_measure_may_be_short_but_not_empty(tmp_path):
    assert corpus.read_start([write(tmp_path, "a.txt", "Hé\r\n".encode("utf-16"))]) == ("Hé\n", True)
    with pytest.raises(NanoGPTError, match="b is empty"):
        corpus.read_start([write(tmp_path, "b.txt", "")])


def test_the_same_text_is_kept_once(home):
    first = corpus.add(text_of(), "First")
    again = keep(read(text_of()), "Second")
    assert (again.id, again.created, again.name) == (first.id, first.created, "Second")
    assert corpus.listed() == [again]
    (again.folder / "tokens.npy").write_bytes(b"")  # as left by a full disk
    assert corpus.listed() == []
    mended = corpus.add(text_of(), "Third")
    assert mended.id == first.id
    assert mended.tokens().tolist() == CharTokenizer(mended.chars).encode(text_of())


def test_a_text_that_is_added_again_is_used_again(home, tmp_path):
    path = write(tmp_path, "a.txt", text_of())
    first = corpus.add([path])
    for file in first.folder.iterdir():
        os.utime(file, (1000, 1000))
    corpus.add([path])
    assert time.time() - (first.folder / "corpus.json").stat().st_mtime < 60


def test_a_text_has_no_name_until_it_is_complete(home, monkeypatch):
    """If its writer is killed or the disk fills up, at any point, no text is left and it can be added again."""
    for number in (1, 2, 3):
        left = itertools.count(number, -1)

        def fsync(handle, left=left):
            assert corpus.listed() == []
            assert all(disk.is_temporary(path.name) for path in (home / "corpora").iterdir())
            if next(left) == 1:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

        with monkeypatch.context() as patch:
            patch.setattr(os, "fsync", fsync)
            with pytest.raises(OSError, match="No space"):
                corpus.add(text_of())
        assert list((home / "corpora").iterdir()) == []
    one = corpus.add(text_of())
    assert corpus.listed() == [one]


@pytest.mark.parametrize("left", [["text.txt"], ["text.txt", "tokens.npy"], ["corpus.json"]])
def test_half_a_text_of_an_earlier_version_is_replaced(home, left):
    whole = corpus.add(text_of())
    for path in whole.folder.iterdir():
        if path.name in left:
            path.write_bytes(b"half")
        else:
            path.unlink()
    again = corpus.add(text_of())
    assert again.id == whole.id
    assert corpus.load(again.id).text() == text_of()
    assert {path.name for path in again.folder.iterdir()} == {"text.txt", "tokens.npy", "corpus.json"}


def test_two_processes_may_add_the_same_text_at_once(home, monkeypatch):
    rename = disk.rename_folder

    def after_another(folder, path):
        monkeypatch.setattr(disk, "rename_folder", rename)
        corpus.add(text_of(), "The first")
        rename(folder, path)

    monkeypatch.setattr(disk, "rename_folder", after_another)
    second = corpus.add(text_of(), "The second")
    assert corpus.listed() == [second]
    assert (second.name, second.text()) == ("The second", text_of())


def test_a_text_deleted_while_it_is_renamed_does_not_come_back(home, monkeypatch):
    one = corpus.add(text_of(), "One")
    with monkeypatch.context() as patch:
        patch.setattr(store, "load", lambda id: shutil.rmtree(one.folder) or one)
        with pytest.raises(NanoGPTError, match="There is no text"):
            corpus.rename(one.id, "Two")
    assert list((home / "corpora").iterdir()) == []


def test_temporary_files_do_not_count(home):
    one = corpus.add(text_of())
    size = corpus.size_on_disk(one)
    (one.folder / f".corpus.json.{'1' * 16}").write_text("half")
    assert corpus.size_on_disk(one) == size


def test_list_rename_delete(home):
    assert corpus.listed() == []
    kept = [corpus.add(text_of(language), language) for language in ("German", "French", "Greek")]
    assert [one.name for one in corpus.listed()] == ["Greek", "French", "German"]
    assert corpus.rename(kept[0].id, "Deutsch\n").name == "Deutsch"
    assert corpus.load(kept[0].id).created == kept[0].created
    with pytest.raises(NanoGPTError, match="The name is empty"):
        corpus.rename(kept[0].id, " \u200b")
    corpus.delete(kept[1].id)
    assert not kept[1].folder.exists()
    assert [one.name for one in corpus.listed()] == ["Greek", "Deutsch"]
    for act in (corpus.load, corpus.delete, lambda id: corpus.rename(id, "x")):
        with pytest.raises(NanoGPTError, match="There is no text"):
            act(kept[1].id)
    with pytest.raises(NanoGPTError, match="is damaged on disk"):
        kept[1].text()
    with pytest.raises(NanoGPTError, match="is damaged on disk"):
        kept[1].tokens()


@pytest.mark.parametrize(
    "id", ["", "../../etc", "0" * 15, "0" * 17, "A" * 16, "0" * 15 + "/", "0" * 16 + "\n", None, 7]
)
def test_only_ids_become_paths(home, id):
    with pytest.raises(NanoGPTError, match="is not the id of a text" if id else "^No text is chosen"):
        corpus.load(id)


def test_broken_folders_do_not_count(home):
    good = corpus.add(text_of())
    about = json.loads((good.folder / "corpus.json").read_text(encoding="utf-8"))
    broken = {
        "no json": None, "not json": "{", "a list": "[]", "other keys": '{"repairs": []}', "no number": "7",
        "another text": json.dumps({**about, "sha256": "f" * 64}), "no hash": json.dumps({**about, "sha256": 7}),
        "longer": json.dumps({**about, "characters": 10**9}),
    }  # fmt: skip
    for i, content in enumerate(broken.values()):
        folder = home / "corpora" / f"{i:016x}"
        folder.mkdir()
        for name in ("text.txt", "tokens.npy"):
            (folder / name).write_bytes((good.folder / name).read_bytes())
        if content is not None:
            (folder / "corpus.json").write_text(content, encoding="utf-8")
        with pytest.raises(NanoGPTError, match=r"is damaged|There is no text"):
            corpus.load(folder.name)
    (home / "corpora" / "notes.txt").write_text("not ours")
    assert corpus.listed() == [good]


@contextlib.contextmanager
def counted_calls():
    """Count the calls of functions, those in C too, as the first item of the list that this yields."""
    calls = [0]

    def count(*event) -> None:
        calls[0] += 1

    sys.setprofile(count)
    try:
        yield calls
    finally:
        sys.setprofile(None)


# --- built-in texts ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("key", ["python-reference", "python-stdlib"])
def test_what_comes_with_python(home, key):
    kept = corpus.find(key)
    assert kept.name == corpus.BUILTINS[key][0]
    assert 300_000 < kept.characters <= texts.STDLIB_CHARACTERS
    before = {path: path.stat().st_mtime_ns for path in (home / "corpora").rglob("*")}
    with counted_calls() as calls:
        assert corpus.find(key) == kept
    assert calls[0] < 5000  # nothing is read or repaired again
    assert {path: path.stat().st_mtime_ns for path in (home / "corpora").rglob("*")} == before
    assert kept.text() == kept.text().replace("\r", "")
    renamed = corpus.add(kept.text(), "Mine", decline=corpus.REPAIRS)
    assert renamed == kept, "a built-in text is everybody's and keeps its name"


def test_another_python_has_another_reference(home, monkeypatch):
    with monkeypatch.context() as before:
        before.setattr("platform.python_version", lambda: "3.10.0")
        corpus.find("python-reference")
    remembered = home / "corpora" / "built-in.json"
    corpus.find("python-reference")
    assert len(json.loads(remembered.read_text())) == 2
    kept = corpus.find("python-reference")
    corpus.delete(kept.id)
    assert corpus.find("python-reference").text() == kept.text()
    remembered.write_text("[")
    assert corpus.find("python-reference").id == kept.id


def test_the_reference_is_not_bound_by_the_limit_for_visitors(home, monkeypatch):
    monkeypatch.setenv("NANOGPT_MAX_BYTES", "5000")
    assert corpus.find("python-reference").characters > 300_000


def test_an_unknown_built_in_text(home):
    with pytest.raises(NanoGPTError, match="choose one of python-reference, python-stdlib, shakespeare"):
        texts.load_builtin("bible")


@pytest.fixture
def site():
    """Start a web server on the loopback address; set `.content` to its answer, or to None for an error."""

    class Answer(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            server.asked += 1
            self.send_response(200 if server.content is not None else 404)
            self.send_header("Content-Length", str(len(server.content or b"") + server.missing))
            self.end_headers()
            self.wfile.write(server.content or b"")

        def log_message(self, *_):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Answer)
    server.content, server.missing, server.asked = None, 0, 0
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def elsewhere(monkeypatch, site):
    """Make Tiny Shakespeare available only from `site`, neither on this machine nor on the internet."""
    monkeypatch.delenv("NANOGPT_TINYSHAKESPEARE", raising=False)
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.setattr(texts, "SHAKESPEARE_URL", f"http://127.0.0.1:{site.server_port}/input.txt")
    return site


def test_shakespeare_is_downloaded_once(home, shakespeare, elsewhere):
    elsewhere.content = shakespeare.encode()
    kept = corpus.find("shakespeare")
    assert (kept.name, kept.sha256, kept.characters) == ("Tiny Shakespeare", texts.SHAKESPEARE_SHA256, 1_115_394)
    assert corpus.find("shakespeare") == kept
    assert elsewhere.asked == 1


def test_a_download_is_kept_where_its_hash_is_right(home, elsewhere, monkeypatch):
    elsewhere.content = BODY.encode("ascii", "ignore")
    monkeypatch.setattr(texts, "SHAKESPEARE_SHA256", hashlib.sha256(elsewhere.content).hexdigest())
    kept = corpus.find("shakespeare")
    assert kept.text() == elsewhere.content.decode()
    assert corpus.find("shakespeare") == kept
    assert elsewhere.asked == 1


def test_shakespeare_from_a_file(home, shakespeare, elsewhere, monkeypatch):
    path = write(home, "input.txt", shakespeare)
    monkeypatch.setenv("NANOGPT_TINYSHAKESPEARE", str(path))
    assert corpus.find("shakespeare").text() == shakespeare
    assert elsewhere.asked == 0


def test_another_text_is_not_shakespeare(home, elsewhere, monkeypatch):
    elsewhere.content = text_of().encode()
    with pytest.raises(NanoGPTError, match="The downloaded file is not Tiny Shakespeare"):
        corpus.find("shakespeare")
    monkeypatch.setenv("NANOGPT_TINYSHAKESPEARE", str(write(home, "input.txt", text_of())))
    with pytest.raises(NanoGPTError, match="NANOGPT_TINYSHAKESPEARE is not Tiny Shakespeare"):
        corpus.find("shakespeare")
    monkeypatch.setenv("NANOGPT_TINYSHAKESPEARE", str(home / "none.txt"))
    with pytest.raises(NanoGPTError, match="can't be read"):
        corpus.find("shakespeare")
    assert corpus.listed() == []


def test_no_network_is_said_in_a_sentence(home, elsewhere, monkeypatch):
    sentence = "Couldn't download Tiny Shakespeare. Check your internet connection, or choose another text"
    with pytest.raises(NanoGPTError, match=sentence):  # 404
        corpus.find("shakespeare")
    elsewhere.content, elsewhere.missing = b"First Citizen:", 100  # the download is cut off
    with pytest.raises(NanoGPTError, match="Couldn't download|is not Tiny Shakespeare"):
        corpus.find("shakespeare")
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        monkeypatch.setattr(texts, "SHAKESPEARE_URL", f"http://127.0.0.1:{closed.getsockname()[1]}/input.txt")
        with pytest.raises(NanoGPTError, match=sentence):
            corpus.find("shakespeare")
    assert corpus.listed() == []


# --- end to end: a large text, and the command line ----------------------------------------------------------------


@pytest.mark.slow
def test_no_python_loop_goes_through_twenty_megabytes(home):
    words = np.array(text_of("Russian").split(" "))
    picked = np.random.default_rng(1).choice(words, 3_500_000)
    path = write(home, "large.txt", " ".join(picked).encode("cp1251")[:19_990_000])
    with counted_calls() as calls:
        kept = corpus.add([path])
        report = kept.report()
    assert calls[0] < kept.characters / 2
    assert kept.characters == report.characters == len(kept.tokens()) == 19_990_000


@pytest.mark.slow
def test_importing_it_is_for_free():
    heavy = (
        "import sys, nanogpt.corpus; print([m for m in ('torch', 'gradio', 'charset_normalizer') if m in sys.modules])"
    )
    assert subprocess.run([sys.executable, "-c", heavy], capture_output=True, text=True, check=True).stdout == "[]\n"


EAST = [("Japanese", "utf-16-le"), ("Japanese", "utf-16-be"), ("Chinese", "utf-16-le"), ("Korean", "utf-16-be")]


@pytest.mark.parametrize(("language", "codec"), EAST)
def test_eastern_utf16_without_a_mark_is_recognized(language, codec):
    [text] = [PARAGRAPHS[name] for name in PARAGRAPHS if name.startswith(language)][:1]
    found = decode((text + "\n").encode(codec), "a.txt")
    assert (found.text, found.encoding) == (text + "\n", "UTF-16")


@pytest.mark.parametrize("codec", ["utf-16", "utf-16-le", "utf-32"])
def test_the_cut_end_of_a_wide_encoding_is_left_out(tmp_path, codec):
    whole = text_of("German")
    for missing in range(1, 4 if "32" in codec else 2):
        cut = whole.encode(codec)[:-missing]
        kept = read([write(tmp_path, "a.txt", cut)])
        assert kept.text == whole[:-1]
        assert "a.txt ends in the middle of a character, which was left out." in kept.notes


@pytest.mark.parametrize(("language", "codec"), [("German", "cp1252"), ("Czech", "cp1250"), ("Russian", "cp1251")])
def test_lines_in_an_older_encoding_are_read_one_by_one(tmp_path, language, codec):
    lines = text_of(language, 60).splitlines(keepends=True)
    data = b"".join(line.encode(codec if i % 5 == 4 else "utf-8") for i, line in enumerate(lines))
    mixed = read([write(tmp_path, "a.txt", data)])
    assert mixed.text == "".join(lines)
    odd = sum(not line.isascii() for line in lines[4::5])
    assert mixed.notes == (f"a.txt is UTF-8, except for {odd} lines, which we read as {ENCODINGS[codec]}.",)


def test_damaged_lines_are_not_taken_for_another_encoding(tmp_path):
    damaged = text_of("German").replace("ü", "ü\udcff", 3).encode("utf-8", "surrogateescape")
    assert read([write(tmp_path, "a.txt", damaged)]).text.count("\ufffd") == 3


def misread(text: str, codec: str) -> str:
    """Decode a text's UTF-8 in an older encoding. Bytes that have no letter there become control characters."""
    return "".join(bytes([byte]).decode(codec, "ignore") or chr(byte) for byte in text.encode())


@pytest.mark.parametrize("times", [1, 2, 3])
@pytest.mark.parametrize("codec", ["latin-1", *repairs.MISREAD])
@pytest.mark.parametrize("language", ["German", "Czech", "Russian"])
def test_mojibake_is_repaired_to_the_end(times, codec, language):
    text = flawed = text_of(language)
    for _ in range(times):
        flawed = misread(flawed, codec)
    assert read(flawed).text == text


@pytest.mark.parametrize("codec", repairs.MISREAD)
def test_mojibake_is_repaired_line_by_line(codec):
    lines = text_of("Russian").splitlines(keepends=True)
    mixed = read("".join(misread(line, codec) if i % 3 == 0 else line for i, line in enumerate(lines)))
    assert mixed.text == "".join(lines)
    assert [one.key for one in mixed.repairs] == ["mojibake"]


@pytest.mark.parametrize("text", [
    "“CAFÉ” dit l’école. À «Noël»\n", "l’école\n", "CAFÉ\xa0!\nÀ…\nSOIRÉ…\n", "IRMÃO, NÃO! Â\n", "Слово «Рё» и С… №\n",
    "Γειά σου, ΓÇα\n", "Šťastný Ĺ Ä Ă\n", "√2 – ∞ ≥ œuvre\n", "‚Ärger‘, ‚Ähre‘\n", "├ ┤ ╨ ░\n",
    "on (–∞, 3) and [–π, 0]\n2/√π\n", "–él dijo\n–Él, –última\n", "├░ one\n",
])  # fmt: skip
def test_letters_like_those_of_mojibake_stay(text):
    assert read(text * 200).text == text * 200


TERMINAL = {  # what a program writes -> what is left of it
    "\x1b]8;;file://h/a/b.txt\x07b.txt\x1b]8;;\x07\n": "b.txt\n",
    "\x1b]0;me@h: ~\x07\x1b[01;32mme@h\x1b[0m$ ls -l\n": "me@h$ ls -l\n",
    "\x1b[31mred\x1b[m\x0f and \x1b(0q\x0e\x1b(B\n": "red and q\n",
    "\x9d0;title\x9cmore \x9b31mred\x9bm\n": "more red\n",
    "\x1bPq#0\x1b\\sixel \x1b_app\x1b\\ \x1b^pm\x1b\\end\n": "sixel  end\n",
    "\x1b]0;cut off\nnext line\n": "\nnext line\n",
}


@pytest.mark.parametrize("output", TERMINAL)
@pytest.mark.parametrize("as_file", [True, False])
def test_what_programs_write_to_terminals_is_text(tmp_path, output, as_file):
    source = [write(tmp_path, "a.txt", output * 300)] if as_file else output * 300
    assert read(source).text == TERMINAL[output] * 300
    assert read(source, decline=["terminal-codes", "control-characters"]).text == output * 300


def test_an_unfinished_code_takes_no_text_with_it():
    prose = text_of("German").replace("\n", " ")
    for code in ("\x1b]", "\x1bP", "\x9d", "\x90"):
        assert prose in read(code + prose).text
    quotes = "â\x80\x9dGrÃ¼Ã\x9fe und Å\x9bwiat aus Å\x81Ã³dÅº, ganz falsch\n" * 50 + "é\n"
    assert read(quotes, decline=["mojibake"]).text == quotes


def test_a_wide_encoding_that_lost_its_first_byte_is_read_without_the_first_letter(tmp_path):
    whole = "„Grüße“ – it’s “fine”…\n" * 100
    for codec in ("utf-16-le", "utf-16-be"):
        for end in (0, 1):
            data = whole.encode(codec)[1:]
            found = read([write(tmp_path, "a.txt", data[: len(data) - end])])
            assert found.text == whole[1 : len(whole) - end]
            assert "a.txt begins in the middle of a character, which was left out." in found.notes


def test_manual_pages_lose_their_overstrikes(tmp_path):
    page = "".join(f"{ch}\b{ch}" if ch != "\n" else ch for ch in text_of("English"))
    assert read([write(tmp_path, "a.txt", page)]).text == text_of("English")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes in folders here")
def test_a_pipe_is_refused_and_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "pipe.txt")
    with pytest.raises(NanoGPTError, match=r"pipe\.txt isn't a regular file"):
        read([tmp_path / "pipe.txt"])


@pytest.mark.skipif(sys.platform != "linux", reason="names of files are always Unicode here")
def test_a_name_that_is_not_utf8_is_cleaned_wherever_it_is_stored(home, tmp_path):
    path = write(tmp_path, os.fsdecode(b"caf\xe9.txt"), text_of())
    added = corpus.add([path])
    assert added.name == "caf\ufffd"
    assert corpus.load(added.id).source == "files: caf\ufffd.txt"
    with pytest.raises(NanoGPTError, match="caf\ufffd.txt is not plain text"):
        read([write(tmp_path, os.fsdecode(b"caf\xe9.txt"), "\0" * 2000)])
