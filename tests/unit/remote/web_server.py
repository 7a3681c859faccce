"""A real HTTP server with parts, checksums and, on request, faults."""

from __future__ import annotations

import re
import ssl
import threading
import zlib
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Self


class WebServer:
    """Serves what is in `files`; what it does wrong is in its attributes.

    Attributes
    ----------
    ranges
        Whether it gives parts of files.
    digest
        The Digest header to give: right, "wrong" or none.
    answers
        Status codes to give to the next GET requests instead of the file.
    cut
        How many bytes of the next bodies are sent before the connection is dropped.
    headers
        Headers of all requests, in their order.
    """

    def __init__(self, context: ssl.SSLContext | None = None) -> None:
        self.files: dict[str, bytes] = {}
        self.ranges = True
        self.digest = "right"
        self.head = True
        self.answers: list[int] = []
        self.cut: list[int] = []
        self.redirect = ""
        self.requests: list[tuple[str, str | None]] = []
        self.headers: list[dict[str, str]] = []
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *_: object) -> None:
                pass

            def do_HEAD(self) -> None:
                outer.answer(self, body=False)

            def do_GET(self) -> None:
                outer.answer(self, body=True)

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        scheme = "http"
        if context is not None:
            self._server.socket = context.wrap_socket(self._server.socket, server_side=True)
            scheme = "https"
        self.url = f"{scheme}://localhost:{self._server.server_address[1]}/"
        self._thread = threading.Thread(target=self._server.serve_forever)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def answer(self, request: BaseHTTPRequestHandler, *, body: bool) -> None:
        self.headers.append(dict(request.headers))
        self.requests.append((request.command, request.headers.get("Range")))
        content = self.files.get(request.path.lstrip("/"))
        status = 200 if content is not None else 404
        if not body and not self.head:
            status = 405
        if body and self.answers:
            status = self.answers.pop(0)
        extra = {}
        if self.redirect and status == 200:
            status, extra = 307, {"Location": self.redirect}
        if status != 200 or content is None:
            request.send_response(status)
            for name, value in ({"Content-Length": "0"} | extra).items():
                request.send_header(name, value)
            request.end_headers()
            return
        part = re.fullmatch(r"bytes=(\d+)-(\d*)", request.headers.get("Range", ""))
        begin, end = 0, len(content)
        if part and self.ranges:
            status, begin = 206, int(part[1])
            end = min(int(part[2]) + 1, end) if part[2] else end
        request.send_response(status)
        if status == 206:
            request.send_header("Content-Range", f"bytes {begin}-{end - 1}/{len(content)}")
        request.send_header("Content-Length", str(end - begin))
        request.send_header("ETag", f'"{zlib.crc32(content):x}"')
        request.send_header("Last-Modified", "Thu, 26 Nov 2026 06:00:00 GMT")
        if self.digest:
            checksum = zlib.adler32(content) ^ (self.digest == "wrong")
            request.send_header("Digest", f"adler32={checksum:08x}")
        request.end_headers()
        if body:
            sent = content[begin:end]
            if self.cut:
                sent = sent[: self.cut.pop(0)]
                request.close_connection = True
            request.wfile.write(sent)
