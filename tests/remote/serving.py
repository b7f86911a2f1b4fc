"""The ground that the fake servers stand on: HTTP/1.1 with threads, a log, and faults on demand."""

import io
import re
import select
import socket
import struct
import sys
import threading
import time
import traceback
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from email.message import Message
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qsl, unquote, urlsplit

#: A request with this header is a test's own: it is not logged, guarded or made to fail.
BY_HAND = "X-By-Hand"
#: What is another in each run, so that faults must not depend on it.
UNIQUE = re.compile(r"(upload_?id|x-amz-[a-z]+)=[^&]*", re.IGNORECASE)


@dataclass(frozen=True)
class Request:
    method: str
    target: str  # path and query as they were sent
    headers: Message
    body: bytes = b""

    @property
    def path(self):
        return unquote(urlsplit(self.target).path)

    @property
    def query(self):
        return dict(parse_qsl(urlsplit(self.target).query, keep_blank_values=True))

    @property
    def range(self):
        return self.headers.get("Range", "")


@dataclass
class Reply:
    status: int = 200
    body: bytes = b""
    headers: dict = field(default_factory=dict)
    chunked: bool = False  # without Content-Length
    length: int | None = None  # of what is not sent: the answer to HEAD

    @classmethod
    def error(cls, status, code="Fault"):
        body = f'<?xml version="1.0"?><Error><Code>{code}</Code><Message>{code}</Message></Error>'
        return cls(status, body.encode(), {"Content-Type": "application/xml"})


class Server:
    """A server on the loopback for the time of a ``with`` block; `answer` is for subclasses.

    Attributes
    ----------
    url : str
    log : list of Request
        All that came in, also what a fault ate.
    guard : callable, optional
        Looks at each request first; a Reply that it returns is the answer.
    faults : FaultPlan or None
        One at a time, see `faulty`.
    """

    def __init__(self):
        self.log, self.errors = [], []
        self.guard = self.faults = None
        self.closing = threading.Event()

    def answer(self, request):
        raise NotImplementedError

    def __enter__(self):
        self._httpd = _Httpd(("127.0.0.1", 0), type("Handler", (_Handler,), {"owner": self}))
        self._httpd.owner = self
        self.port = self._httpd.server_port
        self.url = f"http://127.0.0.1:{self.port}"
        self._thread = threading.Thread(target=self._httpd.serve_forever, args=(0.02,), daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *exc):
        self.closing.set()
        self._httpd.shutdown()
        self._thread.join()
        self._httpd.break_connections()
        self._httpd.server_close()
        assert not self.errors, self.errors

    @contextmanager
    def faulty(self, plan):
        """Let requests go wrong; one plan at a time, so that nothing is counted twice."""
        assert self.faults is None, "this server has a fault plan already"
        self.faults = plan
        try:
            yield plan
        finally:
            self.faults = None

    @contextmanager
    def guarded(self, guard):
        """Let `guard` see each request before it is answered."""
        assert self.guard is None, "this server has a guard already"
        self.guard = guard
        try:
            yield self
        finally:
            self.guard = None

    @contextmanager
    def watching(self):
        """The requests of the block, in a list that grows."""
        first, seen = len(self.log), []
        try:
            yield seen
        finally:
            seen += self.log[first:]


class _Httpd(ThreadingHTTPServer):
    request_queue_size = 256
    daemon_threads = False
    block_on_close = True

    def __init__(self, *args):
        self._open, self._lock = set(), threading.Lock()
        super().__init__(*args)

    def get_request(self):
        connection, address = super().get_request()
        with self._lock:
            self._open.add(connection)
        return connection, address

    def close_request(self, request):
        with self._lock:
            self._open.discard(request)
        super().close_request(request)

    def break_connections(self):
        with self._lock:
            for connection in self._open:
                with suppress(OSError):
                    connection.shutdown(socket.SHUT_RDWR)

    def handle_error(self, request, client_address):
        error = sys.exception()
        if not isinstance(error, (ConnectionError, TimeoutError)):
            self.owner.errors.append("".join(traceback.format_exception(error)))


class _Handler(BaseHTTPRequestHandler):
    owner: Server
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    wbufsize = -1

    def log_message(self, *args):
        pass

    def handle_expect_100(self):
        super().handle_expect_100()
        self.wfile.flush()
        return True

    def _serve(self):
        request = Request(self.command, self.path, self.headers, self._body())
        owner, plan, kind = self.owner, self.owner.faults, None
        if BY_HAND in request.headers:
            return self._send(owner.answer(request))
        owner.log.append(request)
        if plan is not None:
            query = UNIQUE.sub(r"\1", urlsplit(self.path).query)
            kind = plan.draw(request.method, request.path, query, request.range)
            if plan.latency_s:
                time.sleep(plan.latency_s)
        if kind == "reset":
            return self._break()
        if kind == "stall":
            self._stall(plan)
            return self._break()
        if kind in ("503", "429"):
            return self._send(Reply.error(int(kind), "SlowDown"))
        reply = owner.guard(request) if owner.guard is not None else None
        reply = reply or owner.answer(request)
        cut = kind in ("truncate", "hang")
        if kind == "lost" or (cut and (not reply.body or request.method == "HEAD")):
            return self._break()
        self._send(reply, cut=cut)
        if cut:
            if kind == "hang":
                self._stall(plan)
            self.close_connection = True
        return None

    do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = do_PATCH = do_OPTIONS = _serve  # noqa: N815

    def _body(self):
        if self.headers.get("Transfer-Encoding", "").lower() != "chunked":
            return self._exactly(int(self.headers.get("Content-Length") or 0))
        parts = []
        while size := int(self._line().split(b";")[0], 16):
            parts.append(self._exactly(size))
            self._line()
        while self._line().strip():
            pass
        return b"".join(parts)

    def _exactly(self, size):
        data = self.rfile.read(size)
        if len(data) < size:  # half an upload is none
            raise ConnectionResetError
        return data

    def _line(self):
        line = self.rfile.readline()
        if not line:
            raise ConnectionResetError
        return line

    def _send(self, reply, cut=False):
        headers = {"Date": formatdate(usegmt=True), **reply.headers}
        body = reply.body
        if reply.chunked:
            headers["Transfer-Encoding"] = "chunked"
            body = b"%x\r\n%b\r\n" % (len(body), body) if body else b""
            body += b"0\r\n\r\n"
        elif reply.status not in (204, 304):
            headers["Content-Length"] = len(body) if reply.length is None else reply.length
        if self.command == "HEAD" or reply.status in (204, 304):
            body = b""
        self.send_response_only(reply.status)
        for name, value in headers.items():
            for each in value if isinstance(value, list) else [value]:
                self.send_header(name, str(each))
        self.end_headers()
        self.wfile.write(body[: len(body) // 2] if cut else body)
        self.wfile.flush()

    def _stall(self, plan):
        """Say nothing until the client has had enough, or the time of the plan is over."""
        until = time.monotonic() + plan.stall_s
        heard = select.poll()  # select itself knows few file descriptors
        heard.register(self.connection, select.POLLIN)
        while not self.owner.closing.is_set():
            if heard.poll(20):
                return
            if time.monotonic() > until:
                plan.outlasted += 1
                return

    def _break(self):
        """End the connection with a reset in place of a goodbye."""
        self.close_connection = True
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.rfile.close()
        self.wfile.close()
        self.connection.close()
        self.wfile = io.BytesIO()  # which http.server flushes


def with_range(request, reply):
    """The part of a whole reply that the request asks for: 206, or 416 past the end."""
    match = re.fullmatch(r"bytes=(\d*)-(\d*)", request.range)
    if reply.status != 200 or match is None or match.groups() == ("", ""):
        return reply
    first, last = match.groups()
    total = len(reply.body)
    if not first:
        start, stop = max(0, total - int(last)), total
    else:
        start, stop = int(first), min(total, int(last) + 1) if last else total
    if start >= total:
        return Reply(416, b"", {"Content-Range": f"bytes */{total}"})
    headers = {**reply.headers, "Content-Range": f"bytes {start}-{stop - 1}/{total}"}
    return Reply(206, reply.body[start:stop], headers)


# ---- guards, for `Server.guarded`


def denying(status=403, *, unless):
    """Refuse what `unless` does not hold for."""
    return lambda request: None if unless(request) else Reply.error(status, "AccessDenied")


def is_signed(request):
    """Whether a request carries a signature of any kind."""
    return bool(
        request.headers.get("Authorization")
        or {"X-Amz-Signature", "sig", "Signature"} & set(request.query)
    )


def bearer(token):
    """Whether a request carries this token, for `denying`."""
    return lambda request: request.headers.get("Authorization") == f"Bearer {token}"


def with_header(name, value):
    """Whether a request carries this header, for `denying`."""
    return lambda request: request.headers.get(name) == value


def with_query(name, value):
    """Whether a request carries this parameter, for `denying`."""
    return lambda request: request.query.get(name) == value
