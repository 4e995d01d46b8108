"""Project Gutenberg's headers and licenses, as they were written over the years, next to texts of one's own."""

from __future__ import annotations

import itertools
import re

import pytest

from nanogpt import corpus
from nanogpt.cli.main import main
from nanogpt.corpus import books
from nanogpt.corpus.books import uncut
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
CARNEGIE = NINETIES.replace("**The", "This is the 100th Etext file presented by", 1)
WELCOME = """**Welcome To The World of Free Plain Vanilla Electronic Texts**

**Etexts Readable By Both Humans and By Computers, Since 1971**

*These Etexts Prepared By Hundreds of Volunteers and Donations*

Information on contacting Project Gutenberg to get Etexts, and
further information is included below.  We need your donations.


Alice's Adventures in Wonderland

March, 1994  [Etext #11]


*****The Project Gutenberg Etext of Alice In Wonderland*****
******This file should be named alice30.txt or alice30.zip******

"""
BARE = """We are now trying to release all our books one month in advance
of the official release dates, for time for better editing.

Information about Project Gutenberg (one page)

For these and other matters, please mail to:

Project Gutenberg
P. O. Box  2782

When all other email fails try our Michael S. Hart, Executive
Director:

We would prefer to send you this information by email
(Internet, Bitnet, Compuserve, ATTMAIL or MCImail).

**Information prepared by the Project Gutenberg legal advisor**

Some states do not allow disclaimers of implied warranties or
the exclusion or limitation of consequential damages.

*END*THE SMALL PRINT! FOR PUBLIC DOMAIN ETEXTS*Ver.04.29.93*END*
"""
HEADERS = {
    "today": TODAY,
    "then": THEN,
    "nineties": NINETIES,
    "presented by": CARNEGIE,
    "welcome": WELCOME + BARE,
    "without a first line": BARE,
}
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
UNTIL_2006 = """EBooks posted prior to November 2003, with eBook numbers BELOW #10000,
are filed in directories based on their release date.

http://www.ibiblio.org/gutenberg/etext06

    (Or /etext 05, 04, 03, 02, 01, 00, 99,
     98, 97, 96, 95, 94, 93, 92, 92, 91 or 90)

The path is based on the number, which is identical to the filename.
It is made up of single digits.  For example, 10234 would be found at:

http://www.gutenberg.net/1/0/2/3/10234

or filename 24689 would be found at:
http://www.gutenberg.net/2/4/6/8/24689

*** END: FULL LICENSE ***
"""
SMALL_PRINT = """

*** END OF THE PROJECT GUTENBERG EBOOK, ALICE IN WONDERLAND ***

This file should be named alice12h.htm or alice12h.zip
Corrected EDITIONS of our eBooks get a new NUMBER, alice13h.txt

Here is the briefest record of our progress (* means estimated):

 1  1971 July
10  1991 January

Prof. Hart will answer or forward your message.

*END THE SMALL PRINT! FOR PUBLIC DOMAIN EBOOKS*Ver.02/11/02*END*

"""
LICENSES = {
    "today": LICENSE,
    "until 2006": LICENSE.rstrip() + "\n\n" + UNTIL_2006,
    "small print": SMALL_PRINT,
    "cut short": LICENSE.partition("START:")[0],
    "a line": "\n\nEnd of Project Gutenberg's Alice's Adventures in Wonderland, by Lewis Carroll\n\n",
    "two lines": "\n\nEnd of the Project Gutenberg Etext of Alice\n\n*** END OF THIS PROJECT GUTENBERG EBOOK A ***\n\n",
}
AROUND = list(itertools.product(HEADERS, LICENSES))


@pytest.mark.parametrize(("header", "license"), AROUND)
def test_a_book_alone_loses_its_header_and_license(header, license):
    text = HEADERS[header] + "\n\n" + BOOK + LICENSES[license]
    assert books.without_frames(text) == (BOOK, len(text) - len(BOOK))


@pytest.mark.parametrize(("header", "license"), AROUND)
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


FIRST_LINES = [
    "The Project Gutenberg ebook of Alice is what I write about.",
    "Title: My diary",
    "Produced by my own hand, a story.",
    "I like ebooks.",
]


@pytest.mark.parametrize("first", FIRST_LINES)
@pytest.mark.parametrize("header", HEADERS)
def test_a_diary_is_kept_before_a_header_whatever_its_first_line_is(header, first):
    for days in (4, 300):  # a shorter one is lost after the first of these lines, before a header without its own
        diary = first + "\n\n" + "My own chapter.\n\nDear diary, nothing happened.\n\nIt rained.\n\n" * days
        body, _ = books.without_frames(diary + HEADERS[header] + "\n\n" + BOOK)
        assert body.split() == (diary + BOOK).split()


def test_an_essay_on_gutenberg_is_kept_after_a_license_from_the_first_paragraph_without_his_name():
    about, other = "Gutenberg printed books in Mainz. " * 4 + "\n\n", "I went there by train, in rain. " * 4 + "\n\n"
    essay = 1000 * (about + other)
    assert len(essay) > 250_000
    for license in LICENSES.values():
        book = TODAY + BOOK + license
        assert books.without_frames(book + "\n\n" + other + essay)[0].split() == (BOOK + other + essay).split()
        body = books.without_frames(book + "\n\n" + essay)[0]
        assert body.split() in [(BOOK + essay[len(about) :]).split(), (BOOK + essay).split()]
    for size in (10_000, 1_000_000):  # of a piece
        text = BOOK + LICENSES["a line"] + 3000 * about
        body = in_pieces([text[at : at + size] for at in range(0, len(text), size)])
        assert 0 < len(text) - len(body) <= books.LONGEST


def in_pieces(pieces):
    remover = books.Books()
    return "".join(remover.fix(piece)[0] for piece in uncut(pieces))


@pytest.mark.parametrize(("header", "license"), AROUND)
def test_a_header_or_license_that_is_cut_in_two_is_removed(header, license):
    """Of a header that begins without Project Gutenberg's name, lines before that may stay."""
    text = HEADERS[header] + "\n\n" + BOOK + LICENSES[license] + "\n\n" + OWN
    unnamed = text[: text.index("Information about")].split() if header == "without a first line" else []
    ends = [found.end() for found in re.finditer("\n", text)]
    for cut in [*ends[:60], *ends[-60:]]:
        stays, chapter, rest = in_pieces([text[:cut], text[cut:]]).partition("CHAPTER")
        assert (chapter + rest).split() == (BOOK + OWN).split()
        assert stays.split() == unnamed[: len(stays.split())]


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
