"""Project Gutenberg's headers and licenses, as they were written over the years, next to texts of one's own."""

from __future__ import annotations

import itertools

import pytest

from nanogpt import corpus
from nanogpt.cli.main import main
from nanogpt.corpus import books
from nanogpt.corpus.reading import read

BOOK = "CHAPTER I.\n\n" + "Alice was beginning to get very tired of sitting by her sister.\n" * 50
OWN = "My own chapter.\n\nIt has a foundation, a copyright and a license of its own.\n\nThe end of it.\n"
TODAY = """The Project Gutenberg eBook of Alice's Adventures in Wonderland
    
This ebook is for the use of anyone anywhere in the United States and
most other parts of the world at no cost.

Title: Alice's Adventures in Wonderland

Author: Lewis Carroll

Release date: June 27, 2008 [eBook #11]
                Most recently updated: February 4, 2024

Credits: Arthur DiBianca and David Widger


*** START OF THE PROJECT GUTENBERG EBOOK ALICE'S ADVENTURES IN WONDERLAND ***
"""
THEN = """Project Gutenberg's Alice's Adventures in Wonderland, by Lewis Carroll

This eBook is for the use of anyone anywhere at no cost.

Produced by Arthur DiBianca

*** START OF THIS PROJECT GUTENBERG EBOOK ALICE IN WONDERLAND ***
"""
NINETIES = """**The Project Gutenberg Etext of Alice in Wonderland**

Copyright laws are changing all over the world, be sure to check
the laws for your country before redistributing these files!!!

Dr. Somebody will be pleased to hear from you.

***START**THE SMALL PRINT!**FOR PUBLIC DOMAIN ETEXTS**START***
Why is this "Small Print!" statement here?  You know: lawyers.

But for the "Right of Replacement or Refund" described below,
[1] the Project disclaims all liability to you for damages.

*END*THE SMALL PRINT! FOR PUBLIC DOMAIN ETEXTS*Ver.04.29.93*END*
"""
CARNEGIE = NINETIES.replace("**The", "This is the 100th Etext file presented by the", 1)
HEADERS = {"today": TODAY, "then": THEN, "nineties": NINETIES, "presented by": CARNEGIE}
LICENSE = """

*** END OF THE PROJECT GUTENBERG EBOOK ALICE'S ADVENTURES IN WONDERLAND ***

Updated editions will replace the previous one—the old editions will
be renamed.

START: FULL LICENSE

PLEASE READ THIS BEFORE YOU DISTRIBUTE OR USE THIS WORK

1.F.4. Except for the limited right of replacement or refund set forth
in paragraph 1.F.3, this work is provided to you ‘AS-IS’.

This website includes information about Project Gutenberg™,
including how to help produce our new eBooks, and how to
subscribe to our email newsletter to hear about new eBooks.


"""
LICENSES = {
    "today": LICENSE,
    "cut short": LICENSE.partition("START:")[0],
    "a line": "\n\nEnd of Project Gutenberg's Alice's Adventures in Wonderland, by Lewis Carroll\n\n",
    "two lines": "\n\nEnd of the Project Gutenberg Etext of Alice\n\n*** END OF THIS PROJECT GUTENBERG EBOOK A ***\n\n",
}
AROUND = list(itertools.product(HEADERS, LICENSES))


@pytest.mark.parametrize(("header", "license"), AROUND)
def test_a_book_alone_loses_its_header_and_license(header, license):
    text = HEADERS[header] + "\n\n" + BOOK + LICENSES[license]
    assert books.without_frames(text) == (BOOK, len(text) - len(BOOK))


@pytest.mark.parametrize(("header", "license"), [one for one in AROUND if one[0] != "presented by"])
def test_a_chapter_of_one_s_own_is_kept_next_to_a_book(header, license):
    book = HEADERS[header] + "\n\n" + BOOK + LICENSES[license]
    for parts in ([OWN, book], [book, OWN], [OWN, book, OWN], [OWN, book, OWN, book, OWN]):
        body, gone = books.without_frames("\n\n".join(parts))
        assert body.split() == "".join(BOOK if part == book else part for part in parts).split()
        assert gone == len("\n\n".join(parts)) - len(body)


def test_a_header_without_its_first_line_begins_where_it_is_spoken_of():
    without_line = TODAY.partition("\n\nTitle")[2]
    body, _ = books.without_frames(OWN + "\nTitle" + without_line + BOOK + LICENSE)
    assert body.split() == (OWN + BOOK).split()


def test_a_line_about_project_gutenberg_is_no_footer():
    text = BOOK + "End of Project Gutenberg, a poem\n" + OWN
    assert books.without_frames(text) == (text, 0)


def test_what_was_removed_is_shown_and_can_be_kept(tmp_path, home, capfd):
    """The command says it, too, and --keep keeps it."""
    text = OWN + TODAY + BOOK + LICENSE
    found = read(text)
    [removed] = [one for one in found.repairs if one.key == "gutenberg"]
    assert removed.count == len(text) - len(found.text)
    said = f"Removed Project Gutenberg's header and footer ({removed.count:,} characters), beginning with “The Project"
    assert found.done[0].startswith(said)
    assert read(text, decline=["gutenberg"]).text == text
    file = tmp_path / "joined.txt"
    file.write_text(text, encoding="utf-8")
    sizes = ["--max-iters", "1", "--n-layer", "1", "--n-embd", "8", "--n-head", "1", "--block-size", "8"]
    assert main(["train", str(file), "--name", "joined", *sizes]) == 0
    assert said in capfd.readouterr().err
    assert main(["train", str(file), "--name", "kept", "--keep", "gutenberg", *sizes]) == 0
    assert [one.characters for one in corpus.listed()] == [len(text), len(found.text)]
