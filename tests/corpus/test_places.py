"""The report shows what each clean-up does, at the first place that it changes."""

from __future__ import annotations

import pytest

from nanogpt.corpus.places import AROUND, LONGEST, Place, first_place
from nanogpt.corpus.reading import read

PROSE = "".join(f"{i}. A sentence that is like no other one.\n" for i in range(3000))  # longer than a block


@pytest.mark.parametrize(
    ("old", "new", "shown"),  # before, old, new, after
    [
        ("one\r\ntwo", "one\ntwo", ("one", "[CR]", "", "↵two")),
        ("\x1b[1mbold", "bold", ("", "[ESC][1m", "", "bold")),
        ("end  \n", "end\n", ("end", "··", "", "↵")),
        ("end ", "end", ("end", "·", "", "")),
        ("cafÃ© au lait", "café au lait", ("caf", "Ã©", "é", " au lait")),
        ("a\u202eb\ufeffc\td", "a\u202ebc\td", ("a[U+202E]b", "[U+FEFF]", "", "c⇥d")),
        ("a\x07b", "ab", ("a", "[U+0007]", "", "b")),
        ("page\ftwo", "page\ntwo", ("page", "[U+000C]", "↵", "two")),
    ],
)
def test_a_place_says_what_was_there_and_what_is(old, new, shown):
    place = Place(*shown[:2], shown[3], shown[2], shown[3])
    assert first_place(old, new) == place
    there = first_place(PROSE + old + PROSE, PROSE + new + PROSE)
    assert (there.old, there.new) == (place.old, place.new)
    assert there.before.endswith(place.before)
    assert there.old_after.startswith(place.old_after)


def test_a_place_is_short_however_much_is_removed():
    header = "A header with the names of many people, and so on.\n" * 40
    there = first_place("Title\n" + header + PROSE, "Title\n" + PROSE)
    assert there.before == "Title↵"
    assert there.old.startswith("A·header")
    assert len(there.old) == LONGEST + 1
    for part in vars(first_place(PROSE + "\r" * 5000 + PROSE, PROSE * 2)).values():
        assert len(part) <= max(AROUND, 4 * LONGEST + 1)


def test_every_clean_up_that_was_found_has_its_place(home, tmp_path):
    text = PROSE + "a \x1b[1mbold\x1b[0m word, a bell\x07 and a \ufeffspace \n" + "dÃ©jÃ\xa0 vu cafÃ© Ã¼ber\n" * 3
    (tmp_path / "a.txt").write_bytes(text.replace("\n", "\r\n").encode())
    found = {one.key: one for one in read([tmp_path / "a.txt"]).repairs}
    assert {key: (one.applied, one.place.old) for key, one in found.items()} == {
        "line-endings": (True, "[CR]"),
        "mojibake": (True, "Ã©jÃ[U+00A0]"),
        "byte-order-marks": (True, "[U+FEFF]"),
        "terminal-codes": (True, "[ESC][1mbold[ESC][0m"),
        "control-characters": (True, "[U+0007]"),
        "trailing-spaces": (False, "·"),
    }


def test_the_place_of_several_files_is_in_the_first_that_has_one(tmp_path):
    for name, text in (("a.txt", PROSE), ("b.txt", PROSE + "b\x07"), ("c.txt", PROSE + "c\x07")):
        (tmp_path / name).write_text(text)
    [found] = read([tmp_path / name for name in ("a.txt", "b.txt", "c.txt")]).repairs
    assert (found.count, found.place.old, found.place.before[-1]) == (2, "[U+0007]", "b")


def test_the_text_after_a_place_is_cleaned_up_on_its_own_side():
    there = first_place("a\r\nmany words\r\nb", "a\nmany words\nb")
    assert (there.old_after, there.new_after) == ("↵many words[CR]↵b", "↵many words↵b")
