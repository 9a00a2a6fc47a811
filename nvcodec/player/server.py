"""A small web server that shows one file: the page, its facts, and any frame on demand.

Only these few paths exist, and none of them reaches the file system. A name in the Host header must
be one of this machine's, so that no page from elsewhere can read frames through DNS rebinding.
"""

from __future__ import annotations

import ipaddress
import json
import re
import socket
import threading
from contextlib import suppress
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib import resources
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from nvcodec.codec.inspect import describe_file
from nvcodec.ending import failure
from nvcodec.errors import ResourceError
from nvcodec.player.comparison import Comparison
from nvcodec.player.frames import FrameStore
from nvcodec.player.upright import shown_size, upright_info

MAX_CONNECTIONS = 32
_TIMEOUT_S = 30
_PAGE = {
    "/": ("page.html", "text/html; charset=utf-8"),
    "/page.css": ("page.css", "text/css; charset=utf-8"),
    "/page.js": ("page.js", "text/javascript; charset=utf-8"),
}
_FRAME = re.compile(r"/frame/(\d{1,10})\.(png|jpg)")
_IMAGE_TYPES = {"png": "image/png", "jpg": "image/jpeg"}
_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
_LOOPBACK = ("localhost", "127.0.0.1", "::1")


def is_loopback(host: str) -> bool:
    """Tell whether only this machine reaches an address."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def describe_page(path: str | Path, store: FrameStore) -> dict[str, Any]:
    """Return what the page shows beside the frames."""
    video = store.video
    facts = describe_file(path)
    shown = upright_info(video.info)
    timing = video.timing
    tensors = [
        {key: tensor[key] for key in ("name", "shape", "bytes", "bits_per_weight")}
        for segment in facts["segments"]
        for tensor in segment["tensors"]
    ]
    return {
        "file": Path(path).name,
        "frames": len(video),
        "width": shown.width,
        "height": shown.height,
        "shown_size": shown_size(video.info),
        "frame_rate": float(video.info.frame_rate),
        "times_s": [float(timing.seconds(i)) for i in range(len(video) + 1)],
        "bytes": facts["bytes"],
        "bpp": facts["bpp"],
        "arch": ", ".join(dict.fromkeys(segment["arch"] for segment in facts["segments"])),
        "parameters": sum(segment["parameters"] for segment in facts["segments"]),
        "tracks": len(facts["tracks"]),
        "parts": facts["parts"],
        "tensors": sorted(tensors, key=lambda tensor: -tensor["bytes"]),
    }


class PlayerServer(ThreadingHTTPServer):
    """Serves one file until `shutdown`; a context manager."""

    daemon_threads = True
    request_queue_size = MAX_CONNECTIONS

    def __init__(
        self,
        host: str,
        port: int,
        store: FrameStore,
        facts: dict[str, Any],
        comparison: Comparison | None = None,
    ) -> None:
        """Listen, on a free port where `port` is 0; raise ResourceError where that fails."""
        self.store = store
        self.facts = json.dumps(facts | {"compared": comparison is not None}).encode()
        self.comparison = comparison
        self._host = host
        self._free = threading.BoundedSemaphore(MAX_CONNECTIONS)
        self._connections: set[socket.socket] = set()
        files = resources.files(__package__)
        self.files = {
            path: (files.joinpath(name).read_bytes(), kind) for path, (name, kind) in _PAGE.items()
        }
        if ":" in host:
            self.address_family = socket.AF_INET6
        try:
            super().__init__((host, port), _Handler)
        except (OSError, UnicodeError) as error:
            reason = getattr(error, "strerror", None) or str(error)
            raise ResourceError(f"{host} port {port} cannot be used: {reason.lower()}") from error

    def server_bind(self) -> None:
        """Bind without the look-up of a name, which can take seconds."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.socket.bind(self.server_address)
        self.server_address = self.socket.getsockname()
        self.server_name, self.server_port = self._host, self.server_address[1]

    @property
    def url(self) -> str:
        """Where the page is."""
        host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(self._host, self._host)
        return f"http://{f'[{host}]' if ':' in host else host}:{self.server_port}/"

    def knows(self, host: str | None) -> bool:
        """Tell whether a Host header names this server."""
        try:
            parts = urlsplit(f"//{host or ''}")
            name, port = parts.hostname or "", parts.port or 80
        except ValueError:
            return False
        if port != self.server_port or parts.path or parts.username is not None:
            return False
        if name == self._host.lower() or (is_loopback(self._host) and name in _LOOPBACK):
            return True
        if self._host not in ("0.0.0.0", "::"):
            return False
        try:
            ipaddress.ip_address(name)
        except ValueError:
            return name == "localhost"
        return True

    def process_request(self, request: Any, client_address: Any) -> None:
        """Answer in a thread, or close the connection where too many are open."""
        if not self._free.acquire(blocking=False):
            self.shutdown_request(request)
            return
        try:
            super().process_request(request, client_address)
        except BaseException:
            self._free.release()
            raise

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        """Answer one connection."""
        self._connections.add(request)
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._connections.discard(request)
            self._free.release()

    def server_close(self) -> None:
        """Stop listening, and end connections that browsers keep open."""
        super().server_close()
        for request in list(self._connections):
            with suppress(OSError):
                request.shutdown(socket.SHUT_RDWR)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing of connections that browsers drop."""


class _Handler(BaseHTTPRequestHandler):
    server: PlayerServer
    protocol_version = "HTTP/1.1"
    server_version, sys_version = "nvcodec", ""
    timeout = _TIMEOUT_S

    def do_GET(self) -> None:
        if not self.server.knows(self.headers.get("Host")):
            self._send(HTTPStatus.MISDIRECTED_REQUEST, b"this server does not have that name\n")
            return
        path = self.path.partition("?")[0]
        if path in self.server.files:
            self._send(HTTPStatus.OK, *self.server.files[path])
        elif path == "/video.json":
            self._send(HTTPStatus.OK, self.server.facts, "application/json")
        elif path == "/psnr.json" and self.server.comparison is not None:
            state = json.dumps(self.server.comparison.state()).encode()
            self._send(HTTPStatus.OK, state, "application/json")
        elif match := _FRAME.fullmatch(path):
            self._send_frame(int(match[1]), match[2])
        else:
            self._send(HTTPStatus.NOT_FOUND, b"there is nothing here\n")

    do_HEAD = do_GET

    def _send_frame(self, index: int, kind: str) -> None:
        n_frames = len(self.server.store.video)
        if index >= n_frames:
            words = f"frame {index} was asked for, but the file has {n_frames} frames\n"
            self._send(HTTPStatus.NOT_FOUND, words.encode())
            return
        try:
            data = self.server.store.picture(index, kind)
        except Exception as error:
            words = f"frame {index} cannot be drawn: {failure(error)[1]}\n"
            self._send(HTTPStatus.INTERNAL_SERVER_ERROR, words.encode())
            return
        self._send(HTTPStatus.OK, data, _IMAGE_TYPES[kind])

    def _send(
        self, status: HTTPStatus, data: bytes, kind: str = "text/plain; charset=utf-8"
    ) -> None:
        self.send_response(status)
        for name, value in (
            ("Content-Type", kind),
            ("Content-Length", str(len(data))),
            ("Cache-Control", "no-store"),
            ("Content-Security-Policy", _POLICY),
            ("X-Content-Type-Options", "nosniff"),
            ("Cross-Origin-Resource-Policy", "same-origin"),
            ("Referrer-Policy", "no-referrer"),
        ):
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            with suppress(ConnectionError):
                self.wfile.write(data)

    def log_message(self, format: str, *args: Any) -> None:
        """Keep requests off the terminal."""
