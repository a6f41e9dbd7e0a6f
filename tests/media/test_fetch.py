"""Addresses are fetched when asked for, from public hosts only, within bounds. The servers of these tests are local."""

from __future__ import annotations

import io
import shutil
import ssl
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from PIL import Image

from q_align.errors import MediaError
from q_align.media import Limits, open_image, url_fetch

OPEN = Limits(allow_urls=True, url_seconds=1.0, max_bytes=100_000)


def png() -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (8, 6), "red").save(buffer, "PNG")
    return buffer.getvalue()


class Server(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        kind, _, rest = self.path.lstrip("/").partition("/")
        if kind == "redirect":
            self.send_response(302)
            self.send_header("Location", rest if "//" in rest else f"/{rest}")
            self.end_headers()
            return
        body = png()
        if kind == "dribble":  # a header that never ends
            self.wfile.write(b"HTTP/1.1 200 OK\r\nX: ")
            for _ in range(60):
                self.wfile.write(b"x")
                time.sleep(0.1)
        self.send_response(404 if kind == "missing" else 200)
        if kind != "endless":
            self.send_header("Content-Length", str(len(body) + (10 if kind == "short" else 0)))
        self.end_headers()
        if kind == "slow":
            for byte in body:
                self.wfile.write(bytes([byte]))
                time.sleep(0.2)
        elif kind == "endless":
            for _ in range(100):
                self.wfile.write(bytes(10_000))
        else:
            self.wfile.write(body)

    def finish(self) -> None:
        with suppress(ConnectionError):
            super().finish()

    def handle(self) -> None:
        with suppress(ConnectionError):  # the client hangs up on us
            super().handle()

    def log_message(self, *args: object) -> None:
        pass


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A local server, and the check of addresses opened for it alone."""
    http = ThreadingHTTPServer(("127.0.0.1", 0), Server)
    threading.Thread(target=http.serve_forever, daemon=True).start()
    check = url_fetch.public_address

    def pretend(host: str, port: int, seconds: float) -> str:
        return "127.0.0.1" if host == "pictures.test" else check(host, port, seconds)

    monkeypatch.setattr(url_fetch, "public_address", pretend)
    yield f"http://pictures.test:{http.server_port}"
    http.shutdown()


@pytest.fixture
def secure(server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The same server behind TLS, with a certificate of its own that is trusted for the moment."""
    if not shutil.which("openssl"):
        pytest.skip("no openssl to make a certificate with")
    key, certificate = tmp_path / "key.pem", tmp_path / "cert.pem"
    words = ["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", str(key), "-out", str(certificate)]
    extra = ["-days", "1", "-subj", "/CN=pictures.test", "-addext", "subjectAltName=DNS:pictures.test"]
    subprocess.run(["openssl", *words, *extra], check=True, capture_output=True)
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    http = ThreadingHTTPServer(("127.0.0.1", 0), Server)
    http.socket = context.wrap_socket(http.socket, server_side=True)
    threading.Thread(target=http.serve_forever, daemon=True).start()
    yield f"https://pictures.test:{http.server_port}"
    http.shutdown()


def test_time_runs_out_over_tls_too(secure: str) -> None:
    assert open_image(f"{secure}/a.png", limits=OPEN).size == (8, 6)
    begun = time.monotonic()
    with pytest.raises(MediaError, match="no answer within"):
        open_image(f"{secure}/dribble/a.png", limits=OPEN)
    assert time.monotonic() - begun < 3


def test_a_picture_comes_over_the_wire(server: str) -> None:
    assert open_image(f"{server}/a.png", limits=OPEN).size == (8, 6)
    assert open_image(f"{server}/redirect/b.png", limits=OPEN).size == (8, 6)


def test_not_unless_asked_for(server: str) -> None:
    with pytest.raises(MediaError, match="allow-urls"):
        open_image(f"{server}/a.png")


@pytest.mark.parametrize(
    ("path", "reason"),
    [
        ("missing/a.png", "404"),
        ("short/a.png", "ended after"),
        ("slow/a.png", "within 1 s"),
        ("dribble/a.png", "within 1 s"),
        ("endless/a.png", "max_bytes|ended after"),
        ("redirect/redirect/redirect/redirect/redirect/redirect/redirect/a.png", "redirects"),
        ("redirect/http://127.0.0.1/a.png", "not a public address"),
        ("redirect/file:///etc/passwd", "only http"),
    ],
)
def test_a_bad_answer_is_an_error(server: str, path: str, reason: str) -> None:
    begun = time.monotonic()
    with pytest.raises(MediaError, match=reason):
        open_image(f"{server}/{path}", limits=OPEN)
    assert time.monotonic() - begun < 5


@pytest.mark.parametrize(
    "host",
    [
        *(
            "127.0.0.1",
            "localhost",
            "10.1.2.3",
            "192.168.0.1",
            "172.16.5.5",
            "169.254.169.254",
            "0.0.0.0",
            "100.64.0.1",
        ),
        *("[::1]", "[fe80::1]", "[fd00::1]", "[::ffff:127.0.0.1]", "[::ffff:10.0.0.1]", "[2002:7f00:1::]", "224.0.0.1"),
        *("[64:ff9b::7f00:1]", "[64:ff9b::a00:1]", "[::7f00:1]"),
        *("2130706433", "0x7f000001"),
    ],
)
def test_private_hosts_are_refused(host: str) -> None:
    with pytest.raises(MediaError, match="not a public address"):
        open_image(f"http://{host}:9/a.png", limits=OPEN)


def test_a_name_with_one_private_address_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    both = [(2, 1, 6, "", ("93.184.216.34", 80)), (2, 1, 6, "", ("127.0.0.1", 80))]
    monkeypatch.setattr("socket.getaddrinfo", lambda *a, **k: both)
    with pytest.raises(MediaError, match=r"127\.0\.0\.1"):
        open_image("http://two.test/a.png", limits=OPEN)


def test_time_runs_out_while_a_name_is_looked_up(monkeypatch: pytest.MonkeyPatch) -> None:
    answered = threading.Event()
    monkeypatch.setattr(url_fetch.socket, "getaddrinfo", lambda *_, **__: answered.wait(30))
    begun = time.monotonic()
    with pytest.raises(MediaError, match="no answer within"):
        open_image("http://slow.test/a.png", limits=Limits(allow_urls=True, url_seconds=0.3))
    answered.set()
    assert time.monotonic() - begun < 3
