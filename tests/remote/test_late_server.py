"""The server of the benchmarks: nothing may come early, or every figure of it is too good."""

import re
import socket
import time
import urllib.error
import urllib.request
from contextlib import ExitStack

import pytest

from benchmarks.serving import serving

DATA = bytes(range(256)) * 256
LATENCY_S = 0.02


@pytest.fixture(scope="module")
def server():
    with serving({"/bucket/a": DATA, "/bucket/empty": b""}, LATENCY_S) as server:
        yield server


def ask(server, path, method="GET", **headers):
    request = urllib.request.Request(server.url + path, headers=headers, method=method)
    with urllib.request.urlopen(request) as answer:
        return answer.status, answer.headers, answer.read()


def body_of(connection):
    """One answer, as it comes."""
    came = b""
    while b"\r\n\r\n" not in came:
        came += connection.recv(1 << 20)
    head, _, body = came.partition(b"\r\n\r\n")
    wanted = int(re.search(rb"Content-Length: (\d+)", head)[1])
    while len(body) < wanted:
        body += connection.recv(1 << 20)
    assert len(body) == wanted
    return body


def test_no_answer_comes_before_its_time(server):
    request = b"GET /bucket/a HTTP/1.1\r\nHost: here\r\n\r\n"
    with ExitStack() as opened:
        many = [
            opened.enter_context(socket.create_connection(("127.0.0.1", server.port)))
            for _ in range(20)
        ]
        for _ in range(5):
            began = []
            for each in many:
                began.append(time.monotonic())
                each.sendall(request)
                time.sleep(0.001)  # so that each is due at a time of its own
            for each, sent in zip(many, began, strict=True):
                each.recv(1, socket.MSG_PEEK)
                assert time.monotonic() - sent >= LATENCY_S
                assert body_of(each) == DATA


def test_it_answers_as_a_bucket_does(server):
    server.count()
    status, headers, data = ask(server, "/bucket/a?x-id=GetObject")
    assert (status, data, headers["Accept-Ranges"]) == (200, DATA, "bytes")
    tag = headers["ETag"]
    status, headers, data = ask(server, "/bucket/a", Range="bytes=10-19")
    assert (status, data, headers["ETag"]) == (206, DATA[10:20], tag)
    assert headers["Content-Range"] == "bytes 10-19/65536"
    status, headers, data = ask(server, "/bucket/a", Range="bytes=65530-70000")
    assert (data, headers["Content-Range"]) == (DATA[65530:], "bytes 65530-65535/65536")
    status, headers, data = ask(server, "/bucket/a", "HEAD")
    assert (status, data, headers["Content-Length"], headers["ETag"]) == (200, b"", "65536", tag)
    assert ask(server, "/bucket/empty")[2] == b""
    with pytest.raises(urllib.error.HTTPError, match="404") as caught:
        ask(server, "/bucket/b")
    assert b"NoSuchKey" in caught.value.read()
    caught.value.close()
    assert server.count() == 6
    assert server.count() == 0


def test_requests_in_pieces_and_several_at_once_are_answered_in_order(server):
    with socket.create_connection(("127.0.0.1", server.port)) as connection:
        connection.sendall(b"GET /bucket/empty HTTP/1.1\r\n\r\nGET /bucket/a HTT")
        assert body_of(connection) == b""
        connection.sendall(b"P/1.1\r\n\r\n")
        assert body_of(connection) == DATA


def test_without_a_latency_it_answers_at_once():
    with serving({"/a": DATA}) as server:
        assert ask(server, "/a")[2] == DATA
