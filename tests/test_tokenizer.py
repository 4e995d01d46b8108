"""Test the tokenizer: encoding and decoding lose nothing, and Hugging Face's tokenizer gives the same ids."""

from __future__ import annotations

import json
import unicodedata

import numpy as np
import pytest

from nanogpt.config import NanoGPTError
from nanogpt.tokenizer import CharTokenizer, Fitted

HOSTILE = {
    "plain": "Hello,  World!\n\n  indented\ttab  \n",
    "line ends": "a\r\nb\rc\n\x0b\x0c\x85\u2028\u2029 ",
    "spaces": " \u00a0\u2009\u3000\u200b \u202f\ufeff  ",
    "chinese": "话说天下大势，分久必合，合久必分。",
    "japanese": "吾輩は猫である。ﾊﾝｶｸ",
    "korean": "옛날 옛적에 \u1112\u1161\u11ab",
    "arabic": "كان يا ما كان، في قديم الزمان",
    "hebrew": "בְּרֵאשִׁית בָּרָא",
    "devanagari": "क्षत्रिय की कहानी",
    "emoji": "👩‍👩‍👧‍👦 🏳️‍🌈 🇩🇪 ❤️ 👍🏽",
    "combining": "e\u0301 \u00e9 A\u030a \u00c5 \u212b Z\u0351\u036b\u0343\u036aa\u0302lgo",
    "compatibility": "ﬁ ﬀ ① ½ Ⅷ ＡＢＣ ª ſ ß İ ı",
    "astral": "𝔘𝔫𝔦 \U0010fffd \U000e0041",
    "bidi": "a\u202eb\u202cc\u2066d\u2069",
    "control": "\x00\x01\x1b[0m\x7f\x9f",
    "markup": "<s></s><unk><pad>[UNK][MASK]<|endoftext|>Ġ▁##\\\"'`",
    "noncharacters": "\ufffd\uffff\ufdd0",
}


def saved(folder, text: str):
    for name, content in CharTokenizer(text).files(model_max_length=64).items():
        (folder / name).write_text(content, encoding="utf-8", newline="\n")
    return folder


def test_the_lecture_s_example():
    tokenizer = CharTokenizer("hii there")
    assert tokenizer.chars == [" ", "e", "h", "i", "r", "t"]
    assert tokenizer.vocab_size == 6
    assert tokenizer.encode("hi there") == [2, 3, 0, 5, 2, 1, 4, 1]
    assert tokenizer.decode([2, 3, 0, 5, 2, 1, 4, 1]) == "hi there"
    assert tokenizer.decode(np.array([2, 3], dtype=np.uint8)) == "hi"
    assert all(tokenizer.itos[tokenizer.stoi[ch]] == ch for ch in tokenizer.chars)


@pytest.mark.parametrize("kind", HOSTILE)
def test_text_to_ids_and_back(kind):
    text = HOSTILE[kind]
    tokenizer = CharTokenizer(text)
    ids = tokenizer.encode(text)
    assert tokenizer.decode(ids) == text
    assert tokenizer.encode_array(text).tolist() == ids
    assert sorted(set(ids)) == list(range(tokenizer.vocab_size))


@pytest.mark.parametrize("kind", [*HOSTILE, "all of them"])
def test_through_tokenizer_json(tmp_path, kind):
    text = HOSTILE.get(kind) or "".join(HOSTILE.values())
    ours = CharTokenizer(text)
    loaded = CharTokenizer.load(saved(tmp_path, text))
    assert loaded.stoi == ours.stoi
    assert loaded.decode(loaded.encode(text)) == text


def test_transformers_gives_the_same_ids_and_text(tmp_path):
    transformers = pytest.importorskip("transformers")
    everything = "".join(HOSTILE.values())
    ours, theirs = CharTokenizer(everything), transformers.AutoTokenizer.from_pretrained(saved(tmp_path, everything))
    assert len(theirs) == theirs.vocab_size == ours.vocab_size
    for text in (*HOSTILE.values(), everything, everything[::-1], " ", "\n", ""):
        ids = theirs(text)["input_ids"]
        assert ids == ours.encode(text)
        assert theirs.decode(ids) == text
        assert theirs.decode(ids, skip_special_tokens=True) == text
    assert theirs.model_max_length == 64


@pytest.mark.parametrize(("size", "kind"), [(1, "u1"), (256, "u1"), (257, "u2"), (65536, "u2"), (65537, "u4")])
def test_ids_take_as_little_room_as_they_can(size, kind):
    chars = [chr(point) for point in range(0x10000, 0x10000 + size)]
    text = "".join(chars[::-1] + chars)
    ids = CharTokenizer(chars).encode_array(text)
    assert ids.dtype == np.dtype(kind)
    assert np.array_equal(ids, [*range(size - 1, -1, -1), *range(size)])


def test_an_array_longer_than_one_piece(tiny_text):
    text = tiny_text * 120
    tokenizer = CharTokenizer(text)
    assert len(text) > 2 * (1 << 18)
    assert tokenizer.encode_array(text).tolist() == tokenizer.encode(text)
    with pytest.raises(NanoGPTError, match="The character 猫 is not"):
        tokenizer.encode_array(text + "猫")


@pytest.mark.parametrize(
    ("ch", "shown"),
    [("z", "z"), ("\n", "newline"), ("\u200d", r"U\+200D"), ("\ud800", r"U\+D800"), (" ", "space"), ("😀", "😀")],
)
def test_an_unknown_character_is_named(ch, shown):
    tokenizer = CharTokenizer("abc")
    for encode in (tokenizer.encode, tokenizer.encode_array):
        with pytest.raises(NanoGPTError, match=f"^The character {shown} is not in this model's alphabet.$"):
            encode("ab" + ch)


def test_nothing_in_nothing():
    for chars in ("", "abc"):
        assert CharTokenizer(chars).encode("") == CharTokenizer(chars).encode_array("").tolist() == []
    with pytest.raises(NanoGPTError, match="not in this model's alphabet"):
        CharTokenizer("").encode_array("a")
    assert CharTokenizer("").fit("abc").text == ""


FIT = [  # alphabet, prompt, fitted prompt
    ("abcdefghijklmnopqrstuvwxyz ", "Hello World", "hello world"),
    ("ABCDEFGHIJKLMNOPQRSTUVWXYZ ", "Hello", "HELLO"),
    ("acefn .'\"-", "“café” — ‘naf’…", "\"cafe\" - 'naf'."),
    ("aeiou straße", "STRAẞE", "straße"),
    ("aerst ", "Straße É", "strasse e"),
    ("AERST ", "straße é", "STRASSE E"),
    ("fi2", "ﬁ²", "fi2"),
    ("abc", "a\u0301b👩‍👧c", "abc"),
    ("a b", "a\tb\u00a0a", "a b a"),
    ("é", "É", "é"),
    ("e", "É", "e"),
    ("абвё", "АБВЁ", "абвё"),
    ("猫", "犬猫", "猫"),
    ("abc", "abc", "abc"),
]


@pytest.mark.parametrize(("alphabet", "prompt", "written"), FIT)
def test_unknown_characters_become_the_nearest_or_are_left_out(alphabet, prompt, written):
    tokenizer = CharTokenizer(alphabet)
    fitted = tokenizer.fit(prompt)
    assert fitted.text == written
    assert set(fitted.text) <= set(tokenizer.chars)
    assert fitted.replaced.keys() == set(prompt) - set(alphabet)
    tokenizer.encode(fitted.text)


def test_accents_may_be_separate_from_their_letters():
    apart = unicodedata.normalize("NFD", "é ö 한a")
    assert CharTokenizer("aéö한 ").fit(apart) == Fitted("é ö 한a", {})
    assert CharTokenizer(apart).fit("é ö 한a").text == apart
    assert CharTokenizer("e\u0301é").fit("e\u0301☃").text == "e\u0301"  # known as it is


def test_what_was_changed_is_said():
    fitted = CharTokenizer("abc ").fit("Ab\u00a0ñ😀\n")
    assert str(fitted) == "Not in this model's alphabet: replaced A → a, U+00A0 → space; skipped ñ 😀 newline."
    chinese = "".join(map(chr, range(0x4E00, 0x4E00 + 3000)))
    assert str(CharTokenizer("abc").fit(chinese)).endswith("skipped 一 丁 丂 七 丄 丅 丆 万 丈 三 and 2,990 more.")
    assert str(CharTokenizer("abc").fit("abc")) == str(Fitted("abc", {})) == ""


@pytest.mark.parametrize(
    "content",
    [
        None,
        "",
        "{",
        "[]",
        "7",
        "{}",
        '{"model": {}}',
        '{"model": {"vocab": null}}',
        '{"model": {"vocab": 7}}',
        '{"model": {"vocab": [["a"]]}}',
        b"\xff",
    ],
)
def test_an_unreadable_tokenizer_json(tmp_path, content):
    if content is not None:
        (tmp_path / "tokenizer.json").write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(NanoGPTError, match="has no readable tokenizer.json"):
        CharTokenizer.load(tmp_path)


@pytest.mark.parametrize("vocab", [{"a": 1}, {"b": 0, "a": 1}, {"a": 0, "bc": 1}, {"": 0}, ["a"], "ab", {"a": "0"}])
def test_a_vocabulary_that_is_no_alphabet(tmp_path, vocab):
    (tmp_path / "tokenizer.json").write_text(json.dumps({"model": {"vocab": vocab}}))
    with pytest.raises(NanoGPTError, match="is not an alphabet of single characters"):
        CharTokenizer.load(tmp_path)
