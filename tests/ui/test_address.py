"""The addresses that the page can be served at, with what is in the way there."""

from __future__ import annotations

import errno
import os
import socket
import tempfile
import urllib.request

import pytest
from conftest import Server, free_port

from nanogpt import ui
from nanogpt.cli.main import main
from nanogpt.config import NanoGPTError
from nanogpt.ui import address


def test_hosts_are_given_to_gradio_as_it_takes_them():
    assert address.check("127.0.0.1", None) == "127.0.0.1"
    assert address.check("localhost", None) in ("localhost", "[localhost]")
    assert address.check("0.0.0.0", free_port(21_000)) == "0.0.0.0"


@pytest.mark.parametrize("port", [-1, 0, 65536, 99999])
def test_impossible_ports_are_refused(port):
    with pytest.raises(NanoGPTError, match=f"--port was {port}; it must be between 1 and 65535"):
        address.check("127.0.0.1", port)


@pytest.mark.parametrize("host", ["not.a.host.invalid", "999.1.1.1", "a" * 70, "203.0.113.7", "ü" * 64])
def test_addresses_of_others_are_refused(host):
    with pytest.raises(NanoGPTError, match="this machine doesn't have that address"):
        address.check(host, None)


def test_a_port_in_use_or_not_ours_is_named():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(NanoGPTError, match=f"Port {port} is in use"):
            address.check("127.0.0.1", port)
    assert "those below 1024" in address.why_not("127.0.0.1", 80, OSError(errno.EACCES, "Permission denied"))


def test_proxies_do_not_stand_between_the_server_and_itself(monkeypatch):
    monkeypatch.setenv("no_proxy", "example.org")
    monkeypatch.delenv("NO_PROXY", raising=False)
    address.without_proxy("[fe80::1]")
    address.without_proxy("0.0.0.0")

    assert os.environ["no_proxy"] == "example.org,127.0.0.1,localhost,::1,fe80::1"
    assert os.environ["NO_PROXY"] == "127.0.0.1,localhost,::1,fe80::1"


@pytest.mark.parametrize(("name", "value"), [("ALL_PROXY", "foo://bar"), ("GRADIO_SERVER_PORT", "abc")])
def test_what_gradio_cannot_use_is_said_before_it_is_imported(home, monkeypatch, capsys, name, value):
    monkeypatch.setenv(name, value)
    assert main(["serve", "--port", str(free_port(21_100))]) == 2
    said = capsys.readouterr().err
    assert said.startswith(f"nanogpt: The environment variable {name}")
    assert said.count("\n") == 1


def test_a_limit_of_zero_is_said_before_the_server_starts(home, monkeypatch, capsys):
    monkeypatch.setenv("NANOGPT_EXPIRE_HOURS", "0")
    monkeypatch.setattr(address, "check", lambda *_: pytest.fail("it starts"))
    assert main(["serve"]) == 2
    said = capsys.readouterr().err
    assert said == "nanogpt: NANOGPT_EXPIRE_HOURS was '0'; it must be a whole number of hours, at least 1.\n"


def test_no_temporary_folder_is_a_sentence(monkeypatch):
    def none() -> str:
        raise FileNotFoundError(errno.ENOENT, "No usable temporary directory found in ['/tmp', '/var/tmp', '/usr/tmp']")

    monkeypatch.setattr(tempfile, "gettempdir", none)
    with pytest.raises(NanoGPTError, match="Set TMPDIR to a folder of your own"):
        ui._own_folder()


NOWHERE = "127.0.0.1:9"  # nothing listens on this port
PROXIES = [
    dict(http_proxy=f"http://{NOWHERE}", HTTPS_PROXY=f"http://{NOWHERE}"), dict(ALL_PROXY=f"socks5://{NOWHERE}")
]  # fmt: skip


@pytest.mark.slow
@pytest.mark.usefixtures("real_process")
@pytest.mark.parametrize("proxies", PROXIES, ids=["http", "socks"])
def test_the_page_is_served_beside_a_proxy_that_is_down(home, proxies):
    served = Server(home, **proxies)
    try:
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        assert opener.open(served.url, timeout=30).status == 200
    finally:
        served.stop()


@pytest.mark.slow
@pytest.mark.usefixtures("real_process")
def test_the_page_is_served_over_ipv6(home):
    if not socket.has_ipv6:
        pytest.skip("no IPv6 here")
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError:
        pytest.skip("no IPv6 address here")
    served = Server(home, "--host", "::1", says=r"http://\[::1\]:\d+")
    try:
        assert urllib.request.urlopen(served.url, timeout=30).status == 200
    finally:
        served.stop()
