"""What `nanogpt serve` prints, and what it compresses."""

from __future__ import annotations

import asyncio
import re
import subprocess
import sys

import gradio as gr
import httpx
import pytest
from conftest import ROOT

from nanogpt.fast.packed import has_onednn
from nanogpt.ui import server
from nanogpt.ui.web import guard


@pytest.fixture
def printed(home, monkeypatch, capsys):
    """Return a function that serves a page, and returns what was printed, with PORT for the port."""
    with gr.Blocks(analytics_enabled=False) as page:
        gr.Markdown("a page")
    monkeypatch.setattr(server, "build_app", lambda: page)
    monkeypatch.setattr(server, "launch_options", lambda host: dict(inbrowser=False))
    monkeypatch.setattr(page, "block_thread", lambda: None)
    monkeypatch.setattr(server.disk, "sweep_home", lambda: None)
    monkeypatch.setattr(server.counting, "start", lambda: None)  # its thread would count the texts of later tests
    monkeypatch.setattr(server, "import_torch", lambda: None)
    # what concerns the whole process
    for name in ("share_the_interpreter", "keep_few_products", "allow_open_files", "give_memory_back", "tidy"):
        monkeypatch.setattr(server, name, lambda: None)

    def serve() -> str:
        server.serve("127.0.0.1", None)
        port = page.server_port
        page.close()
        out, err = capsys.readouterr()
        assert err == ""
        return re.sub(r"Closing server running on port: \d+\n", "", out).replace(f":{port}", ":PORT")

    return serve


def test_it_says_where_the_page_is_and_nothing_of_gradio_s_own_parameters(printed):
    assert printed() == "nanogpt is running at http://127.0.0.1:PORT. Press Ctrl-C to stop it.\n"


@pytest.mark.parametrize("public", [False, True])
def test_it_says_what_others_can_do_who_can_open_it(printed, monkeypatch, public):
    monkeypatch.setenv("NANOGPT_PUBLIC", "1" if public else "")
    monkeypatch.setattr(guard, "from_outside", lambda host: ["192.168.1.20"])
    warning = " They can change and delete everything; --public gives each visitor their own runs and texts."
    said = "Others on your network can open it at http://192.168.1.20:PORT."
    assert printed().splitlines()[1] == said + ("" if public else warning)


def test_it_says_so_at_a_single_address_of_the_network_too(printed, monkeypatch):
    monkeypatch.setattr(server.address, "ALONE", ())  # as if the test's own address were one
    assert printed().splitlines()[1].startswith("Others on your network can open it, too. They can change and delete")


def no_network(*kind):
    raise OSError("no network")


@pytest.mark.parametrize(
    ("host", "here", "outside"),  # the host as address.check returns it
    [("0.0.0.0", "127.0.1.1", "192.168.1.20"), ("[::]", "::1", "2001:db8::20")],
)
def test_a_server_for_the_network_knows_and_names_its_addresses(host, here, outside, monkeypatch):
    known = lambda name, port, family: [(family, 0, 0, "", (address, 0)) for address in (here, outside)]
    monkeypatch.setattr(guard.socket, "getaddrinfo", known)
    monkeypatch.setattr(guard.socket, "getfqdn", lambda: "here")
    monkeypatch.setattr(guard.socket, "socket", no_network)
    monkeypatch.delenv("SPACE_HOST", raising=False)
    shown = f"[{outside}]" if ":" in outside else outside
    assert guard.from_outside(host) == [shown]
    assert shown in guard.middleware(host)[0].kwargs["allowed_hosts"]
    assert guard.from_outside("127.0.0.1") == []
    assert shown not in guard.middleware("127.0.0.1")[0].kwargs["allowed_hosts"]
    monkeypatch.setenv("SPACE_HOST", "user-space.hf.space")
    assert guard.from_outside(host) == []


@pytest.mark.parametrize("installed", [None, object()])
def test_threads_take_turns_often_and_matplotlib_is_not_searched_for_in_vain(installed, monkeypatch):
    interval = sys.getswitchinterval()
    monkeypatch.delitem(sys.modules, "matplotlib", raising=False)
    monkeypatch.setattr(server, "find_spec", lambda name: installed)
    try:
        server.share_the_interpreter()
        assert sys.getswitchinterval() == pytest.approx(0.0005)
        assert ("matplotlib" in sys.modules) == (installed is None)
    finally:
        sys.setswitchinterval(interval)
        sys.modules.pop("matplotlib", None)


PRODUCTS = """
import sys
from nanogpt.ui import server
if sys.argv[1] == "few":
    server.keep_few_products()
import torch
from nanogpt.fast.packed import Packed
linear = torch.nn.Linear(128, 512)
layer = Packed(linear.weight, linear.bias)
memory = lambda: int(next(line for line in open("/proc/self/status") if line.startswith("VmRSS")).split()[1]) / 1000
with torch.inference_mode():
    for rows in range(1, 401):
        layer(torch.ones(rows, 128))
        if rows == 150:
            before = memory()
print(memory() - before)
"""


@pytest.mark.slow
@pytest.mark.skipif(not sys.platform.startswith("linux") or not has_onednn(), reason="needs /proc and oneDNN")
def test_products_of_ever_new_sizes_take_little_memory():
    """The last 250 take 160 MB if all are kept, and 30 to 57 MB otherwise, because larger ones replace small ones."""

    def grown(kept: str) -> float:
        command = [sys.executable, "-c", PRODUCTS, kept]
        return float(subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout)

    assert grown("few") < 0.6 * grown("all")


@pytest.mark.parametrize(
    ("path", "accepted", "encoding"), [("/", "gzip", "gzip"), ("/", "", None), ("/x", "gzip", None)]
)
def test_only_the_page_itself_is_compressed(path, accepted, encoding):
    page = b"<p>the same again</p>" * 10_000

    async def gradio_(scope, receive, send):
        await send(dict(type="http.response.start", status=200, headers=[(b"content-type", b"text/html")]))
        await send(dict(type="http.response.body", body=page))

    async def ask() -> httpx.Response:
        transport = httpx.ASGITransport(guard.Compressed(gradio_))
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
            return await client.get(path, headers={"Accept-Encoding": accepted})

    answer = asyncio.run(ask())
    assert answer.headers.get("content-encoding") == encoding
    assert answer.content == page
    assert guard.Compressed in [one.cls for one in guard.middleware("127.0.0.1")]


@pytest.mark.slow
def test_the_page_is_drawn_and_opened_without_torch(home):
    """Importing it takes 1.7 s, which the server spends after it answers."""
    script = "import sys\nfrom nanogpt.ui import page, server\nfrom nanogpt.ui.page import build_app\n"
    script += "parts = page.Page\npage.Page = lambda *a: made.append(parts(*a)) or made[0]\nmade = []\nbuild_app()\n"
    script += "page.open_page(made[0], None)\nprint('torch' in sys.modules)\n"
    script += "server.import_torch()\nprint('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "True"]
