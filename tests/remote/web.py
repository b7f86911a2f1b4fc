"""Plain file servers: one of our own with all the habits that the wild has, and nginx."""

import gzip
import os
import shutil
import socket
import subprocess
import time
import urllib.error
import urllib.request
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import quote

from tests.remote.serving import Reply, Server, with_range


class WebServer(Server):
    """Files of a folder over HTTP/1.1.

    Attributes
    ----------
    root : Path
    twins : str
        What ``X.gz`` beside no ``X`` is for a request of ``X``: "raw", the compressed bytes with
        ``Content-Encoding: gzip``; "undone", the same header and plain bytes, as proxies do that
        decompress and forget; "silent", compressed bytes and no header; "plain", decompressed
        and no header; "none", not known.
    ranges : str
        "yes"; "ignored", a 200 with the whole; "denied", a 416 for any.
    missing : int
        The status of what is not there.
    etag : bool
    chunked : bool
        Without Content-Length.
    redirects : int
        How many hops lie before each file.
    """

    def __init__(self, root):
        super().__init__()
        self.root = Path(root)
        self.twins, self.ranges, self.missing = "raw", "yes", 404
        self.etag, self.chunked, self.redirects = True, False, 0

    def answer(self, request):
        if request.method not in ("GET", "HEAD"):
            return Reply.error(405, "MethodNotAllowed")
        hop = request.query.get("hop", "0")
        if int(hop) < self.redirects:
            onward = f"{self.url}{quote(request.path)}?hop={int(hop) + 1}"
            return Reply(302, b"", {"Location": onward})
        path = (self.root / request.path.lstrip("/")).resolve()
        if not path.is_relative_to(self.root.resolve()):
            return Reply.error(403, "Forbidden")
        reply = self._file(path)
        if reply is None:
            return Reply(self.missing, b"<html>Nothing here</html>", {"Content-Type": "text/html"})
        if request.range and self.ranges == "denied":
            return Reply(416, b"", {"Content-Range": f"bytes */{len(reply.body)}"})
        if self.ranges == "yes" and not (self.chunked or "Content-Encoding" in reply.headers):
            reply.headers["Accept-Ranges"] = "bytes"
            return with_range(request, reply)
        reply.chunked = self.chunked
        return reply

    def _file(self, path):
        headers = {"Content-Type": "application/octet-stream"}
        twin = path.with_name(path.name + ".gz")
        if path.is_file():
            body = path.read_bytes()
        elif twin.is_file() and self.twins != "none":
            path, body = twin, twin.read_bytes()
            if self.twins in ("undone", "plain"):
                body = gzip.decompress(body)
            if self.twins in ("raw", "undone"):
                headers["Content-Encoding"] = "gzip"
        else:
            return None
        if self.etag:
            found = path.stat()
            headers["ETag"] = f'"{found.st_mtime_ns:x}-{found.st_size:x}"'
        return Reply(200, body, headers)


NGINX = """
daemon off; master_process off; worker_processes 1; error_log {tmp}/error.log crit; pid {tmp}/pid;
events {{ worker_connections 512; }}
http {{
  access_log off; default_type application/octet-stream; tcp_nodelay on;
  client_body_temp_path {tmp}/b; proxy_temp_path {tmp}/p; fastcgi_temp_path {tmp}/f;
  uwsgi_temp_path {tmp}/u; scgi_temp_path {tmp}/s; keepalive_requests 100000;
  server {{ listen 127.0.0.1:{port}; root {root}; {lines} }}
}}
"""
#: Lines of configuration, by habit.
HABITS = {
    "twins": "gzip_static always;",
    "no ranges": "max_ranges 0;",
    "403 for missing": "error_page 404 =403 /__403; location = /__403 { internal; return 403; }",
    "compresses": "gzip on; gzip_min_length 1; gzip_types *;",
}


def has_nginx():
    return shutil.which("nginx", path=f"{os.environ.get('PATH', '')}:/usr/sbin") is not None


@contextmanager
def nginx(root, tmp, *habits):
    """The URL of an nginx that serves a folder, with `HABITS`."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    Path(tmp).mkdir(parents=True, exist_ok=True)
    lines = " ".join(HABITS[each] for each in habits)
    config = Path(tmp) / "nginx.conf"
    config.write_text(NGINX.format(tmp=tmp, port=port, root=root, lines=lines))
    program = shutil.which("nginx", path=f"{os.environ.get('PATH', '')}:/usr/sbin")
    process = subprocess.Popen(
        [program, "-e", f"{tmp}/early.log", "-c", str(config)], stderr=subprocess.DEVNULL
    )
    try:
        url = f"http://127.0.0.1:{port}"
        _wait_for(url, process)
        yield url
    finally:
        process.terminate()
        process.wait(10)


def _wait_for(url, process):
    until = time.monotonic() + 10
    while True:
        try:
            urllib.request.urlopen(f"{url}/", timeout=1).close()
            return
        except urllib.error.HTTPError as error:
            error.close()
            return
        except OSError:
            assert process.poll() is None, "nginx did not start"
            assert time.monotonic() < until, "nginx does not answer"
            time.sleep(0.02)
