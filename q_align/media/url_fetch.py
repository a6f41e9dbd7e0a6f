"""Downloads of images and videos from addresses that are not trusted: public hosts only, bounded in size and time.

The host's name is resolved once, every address it has is checked, and the connection goes to the address that was
checked, so that a name cannot point elsewhere a moment later. Redirects are followed here under the same rules. No
proxies, no cookies, no credentials.
"""

from __future__ import annotations

import http.client
import socket
import ssl
import threading
import time
from concurrent.futures import Future
from contextlib import suppress
from urllib.parse import urljoin, urlsplit

from q_align.errors import MediaError
from q_align.media.limits import Limits
from q_align.media.public_address import is_public

MAX_REDIRECTS = 5
REDIRECTS = (301, 302, 303, 307, 308)
PIECE = 1 << 16


def download_media(url: str, limits: Limits) -> bytes:
    """The bytes behind an http or https address.

    Raises:
        MediaError: when addresses are not allowed, the host is not a public one, the server refuses, or the answer is
            larger or slower than the limits.
    """
    if not limits.allow_urls:
        raise MediaError(f"{url}: addresses are fetched only when asked for (--allow-urls, Limits.allow_urls)")
    deadline = time.monotonic() + limits.url_seconds
    at = url
    for _ in range(MAX_REDIRECTS + 1):
        try:
            answer = _get(at, deadline, limits)
            if time.monotonic() >= deadline:  # cut short by the alarm
                raise TimeoutError
        except (OSError, http.client.HTTPException, ValueError) as error:
            if time.monotonic() >= deadline:
                raise MediaError(f"{url}: no answer within {limits.url_seconds:g} s (Limits.url_seconds)") from error
            if isinstance(error, MediaError):
                raise
            raise MediaError(f"{url}: cannot be fetched ({' '.join(str(error).split())})") from error
        if isinstance(answer, bytes):
            return answer
        at = urljoin(at, answer)
    raise MediaError(f"{url}: more than {MAX_REDIRECTS} redirects")


def public_address(host: str, port: int, seconds: float) -> str:
    """An address of a host, all of whose addresses are public.

    Raises:
        MediaError: when one of them is private, local, reserved or otherwise not on the public internet.
        TimeoutError: when the name is not found within so many seconds.
    """
    addresses = _resolve(host, port, seconds)
    for text in addresses:
        if not is_public(text):
            raise MediaError(f"{host} is at {text}, which is not a public address")
    return addresses[0]


def _resolve(host: str, port: int, seconds: float) -> list[str]:
    """All addresses of a name; the system's look-up has no time limit of its own, and cannot be broken off."""
    found: Future[list[str]] = Future()

    def look_up() -> None:
        try:
            entries = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
            found.set_result([str(entry[4][0]) for entry in entries])
        except BaseException as error:
            found.set_exception(error)

    threading.Thread(target=look_up, daemon=True).start()  # no pool: those are waited for at the end of the process
    return found.result(seconds)


def _get(url: str, deadline: float, limits: Limits) -> bytes | str:
    """One request: the body, or where the server sends us."""
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise MediaError(f"{url}: only http and https addresses are fetched")
    port = parts.port or (443 if parts.scheme == "https" else 80)
    connection = _Pinned(parts.hostname, port, secure=parts.scheme == "https", deadline=deadline)
    try:
        target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        connection.request("GET", target, headers={"User-Agent": "q_align", "Accept": "image/*, video/*"})
        response = connection.getresponse()
        if response.status in REDIRECTS:
            return response.getheader("Location") or ""
        if response.status != 200:
            raise MediaError(f"{url}: the server answers {response.status} {response.reason}")
        return _body(response, url, deadline, limits)
    finally:
        connection.close()


def _body(response: http.client.HTTPResponse, url: str, deadline: float, limits: Limits) -> bytes:
    data = bytearray()
    while True:
        piece = response.read1(PIECE)
        if not piece:
            break
        data += piece
        if time.monotonic() >= deadline:
            raise TimeoutError
        if len(data) > limits.max_bytes:
            raise MediaError(f"{url}: more than {limits.max_bytes} bytes (Limits.max_bytes)")
    wanted = response.getheader("Content-Length")
    if wanted and wanted.isdigit() and len(data) < int(wanted):
        raise MediaError(f"{url}: the connection ended after {len(data)} of {wanted} bytes")
    return bytes(data)


class _Pinned(http.client.HTTPConnection):
    """A connection to the address that was checked, under the name that was asked for."""

    def __init__(self, host: str, port: int, *, secure: bool, deadline: float) -> None:
        super().__init__(host, port)
        self.secure, self.deadline = secure, deadline
        self.alarm: threading.Timer | None = None

    def connect(self) -> None:
        address = public_address(self.host, self.port, self._left())
        self.sock = socket.create_connection((address, self.port), self._left())
        if self.secure:
            context = ssl.create_default_context()
            # the handshake waits for the alarm: wrapping takes the plain socket's place
            self.sock = context.wrap_socket(self.sock, server_hostname=self.host, do_handshake_on_connect=False)
        # A server that sends one byte now and then never exceeds the time of a single read.
        self.alarm = threading.Timer(self._left(), self._hang_up, [self.sock])
        self.alarm.daemon = True
        self.alarm.start()
        if isinstance(self.sock, ssl.SSLSocket):
            self.sock.do_handshake()

    def close(self) -> None:
        if self.alarm is not None:
            self.alarm.cancel()
        super().close()

    @staticmethod
    def _hang_up(open_socket: socket.socket) -> None:
        with suppress(OSError):  # it may be closed already
            socket.socket.shutdown(open_socket, socket.SHUT_RDWR)  # below TLS, whose state another thread is using

    def _left(self) -> float:
        left = self.deadline - time.monotonic()
        if left <= 0:
            raise TimeoutError
        return left
