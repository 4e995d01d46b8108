"""A folder on the page: its text files become one text, without hidden ones, and none leads out of its place."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from conftest import last_of

from nanogpt import corpus
from nanogpt.ui import choosing, chosen_text
from nanogpt.ui.choosing import SLASH

LINE = "On that day we walked along the river.\n"


def uploaded(folder: Path, *names: str) -> list[str]:
    """Write files as Gradio keeps uploads, each in a folder of its own, and return their paths."""
    paths = []
    for number, name in enumerate(names):
        path = folder / str(number) / name.replace("/", SLASH)
        path.parent.mkdir()
        path.write_text(f"{name}\n" + 20 * LINE, encoding="utf-8")
        paths.append(str(path))
    return paths


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("diary/a.txt", ["diary", "a.txt"]),
        ("diary/2020/a.txt", ["diary", "2020", "a.txt"]),
        ("a.txt", ["Folder", "a.txt"]),
        ("diary/../../../a.txt", ["diary", "a.txt"]),
        ("../a.txt", ["Folder", "a.txt"]),
        ("./ /..", ["Folder", "file"]),
        ("C:/a\\..\\b", ["C_", "a_.._b"]),
    ],
)
def test_no_name_leads_out_of_the_folder(name, expected):
    assert choosing.parts_of(name.replace("/", SLASH)) == expected


@pytest.mark.parametrize("links", [True, False])
def test_a_folder_becomes_one_text_by_the_names_of_its_files(home, tmp_path, monkeypatch, links):
    if not links:
        monkeypatch.setattr(os, "link", lambda *_: (_ for _ in ()).throw(OSError("another disk")))
    paths = uploaded(tmp_path, "diary/b.txt", "diary/2020/a.txt", "diary/a.txt", "diary/picture.png")
    Path(paths[-1]).write_bytes(bytes(range(256)))
    chosen = last_of(chosen_text.take_folder(None, paths))
    text = corpus.load(chosen["corpus_id"])
    assert text.name == "diary"
    assert [line for line in text.text().splitlines() if line.endswith(".txt")] == [
        "diary/a.txt",
        "diary/b.txt",
        "diary/2020/a.txt",
    ]
    assert any("1 file is not text and was left out: picture.png." in one["text"] for one in chosen["report"]["notes"])
    again = last_of(chosen_text.take_again(None, chosen["given"], "cp1252"))
    assert corpus.load(again["corpus_id"]).text() == text.text()


def test_files_of_one_name_are_all_kept(home, tmp_path):
    paths = uploaded(tmp_path, "diary/a.txt", "diary/a.txt", "b.txt", "diary/a.txt")
    for number, path in enumerate(paths):
        Path(path).write_text(f"number {number}\n" + 20 * LINE, encoding="utf-8")
    chosen = last_of(chosen_text.take_folder(None, [paths[0], paths[1], paths[3]]))
    lines = corpus.load(chosen["corpus_id"]).text().splitlines()
    assert sorted(line for line in lines if line.startswith("number")) == ["number 0", "number 1", "number 3"]
    assert [Path(path).read_text(encoding="utf-8")[:8] for path in paths] == [f"number {i}" for i in range(4)]


@pytest.mark.parametrize("files", [[], None])
def test_a_folder_without_files_is_refused(home, files):
    refused = last_of(chosen_text.take_folder(None, files))
    assert "The folder has no files in it" in refused["report"]["notes"][0]["text"]


@pytest.mark.slow
def test_hidden_files_of_a_folder_are_not_even_sent(standing_page, tmp_path):
    folder = tmp_path / "journal"
    for name in ("a.txt", "2020/b.txt", ".git/config", "2020/.c.txt"):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{name}\n" + 200 * LINE, encoding="utf-8")
    with standing_page.expect_file_chooser() as chooser:
        standing_page.locator("#corpus-folder").click()
    is_upload = lambda request: "/upload" in request.url and request.method == "POST"
    with standing_page.expect_request(is_upload) as sent:
        chooser.value.set_files(folder)
    standing_page.wait_for_selector("#corpus-report h3:has-text('journal')")
    [text] = [one for one in corpus.listed() if one.name == "journal"]
    assert text.text() == "".join(f"{name}\n" + 200 * LINE for name in ("a.txt", "2020/b.txt"))
    assert b"config" not in (sent.value.post_data_buffer or b"")


@pytest.mark.slow
def test_a_folder_of_hidden_files_is_refused_with_the_reason(standing_page, tmp_path):
    path = tmp_path / "journal" / ".git" / "config"
    path.parent.mkdir(parents=True)
    path.write_text(20 * LINE, encoding="utf-8")
    uploads = []
    standing_page.on("request", lambda request: uploads.append(request.url) if "/upload" in request.url else None)
    with standing_page.expect_file_chooser() as chooser:
        standing_page.locator("#corpus-folder").click()
    chooser.value.set_files(tmp_path / "journal")
    standing_page.wait_for_selector("#corpus-report .note-error:has-text('The folder has no files in it')")
    assert uploads == []
    assert standing_page.locator("#corpus-next").is_enabled()  # the text before is still chosen
