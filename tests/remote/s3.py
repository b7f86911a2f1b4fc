"""A fake S3: moto behind a server of our own, which logs, denies and fails on demand."""

import io
import itertools
import json
import threading
import uuid
from urllib.parse import unquote, urlsplit

import pytest

from tests.remote.serving import BY_HAND, Reply, Server

boto3 = pytest.importorskip("boto3")
config = pytest.importorskip("botocore.config")
moto = pytest.importorskip("moto.moto_server.werkzeug_app")

KEY, SECRET, REGION = "AKIAFAKEFAKEFAKEFAKE", "fake/secret+of/nobody", "us-east-1"
_application = moto.DomainDispatcherApplication(moto.create_backend_app)
_names = itertools.count()
#: moto loses its way where one part of an upload comes twice at once, as after a broken
#: connection, and looks at conditions before it writes.
_alone = threading.Lock()


class S3Server(Server):
    """moto's S3, in this process. All servers of a process share its buckets.

    Attributes
    ----------
    hides_missing : bool
        A missing key is 403 and no 404: what S3 says to those who may not list.
    key, secret, region : str
        What a client may sign with; moto does not look at it.
    """

    key, secret, region = KEY, SECRET, REGION

    def __init__(self):
        super().__init__()
        self.hides_missing = False

    def __enter__(self):
        super().__enter__()
        self.client = boto3.client(
            "s3",
            endpoint_url=self.url,
            region_name=REGION,
            aws_access_key_id=KEY,
            aws_secret_access_key=SECRET,
            config=config.Config(retries={"max_attempts": 1}, s3={"addressing_style": "path"}),
        )
        self.client.meta.events.register(
            "before-sign.s3", lambda request, **_: request.headers.add_header(BY_HAND, "1")
        )
        return self

    def __exit__(self, *exc):
        self.client.close()
        super().__exit__(*exc)

    def answer(self, request):
        try:
            with _alone:
                reply = _call(request)
        except KeyError:
            if "uploadId" not in request.query:
                raise
            reply = Reply.error(404, "NoSuchUpload")  # a late part of an upload that was given up
        hidden = self.hides_missing and BY_HAND not in request.headers
        if reply.status == 404 and hidden and request.method in ("GET", "HEAD"):
            return Reply.error(403, "AccessDenied")
        return reply

    def make_bucket(self, name=None, public=True):
        """A new bucket; anyone may do all in a public one, and nothing in another."""
        name = name or f"bucket-{next(_names)}-{uuid.uuid4().hex[:8]}"
        self.client.create_bucket(Bucket=name)
        if public:
            statement = {
                "Effect": "Allow", "Principal": "*", "Action": "s3:*",
                "Resource": [f"arn:aws:s3:::{name}", f"arn:aws:s3:::{name}/*"],
            }  # fmt: skip
            policy = json.dumps({"Version": "2012-10-17", "Statement": [statement]})
            self.client.put_bucket_policy(Bucket=name, Policy=policy)
        return name

    def put(self, bucket, key, data, encoding=None, **arguments):
        if encoding is not None:
            arguments["ContentEncoding"] = encoding
        self.client.put_object(Bucket=bucket, Key=key, Body=data, **arguments)

    def get(self, bucket, key):
        """The stored bytes and headers, names of headers in lower case; None if missing."""
        try:
            found = self.client.get_object(Bucket=bucket, Key=key)
        except self.client.exceptions.NoSuchKey:
            return None
        headers = found["ResponseMetadata"]["HTTPHeaders"]
        return found["Body"].read(), {name.lower(): value for name, value in headers.items()}

    def names(self, bucket, prefix=""):
        pages = self.client.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix)
        return sorted(each["Key"] for page in pages for each in page.get("Contents", []))

    def delete(self, bucket, key):
        self.client.delete_object(Bucket=bucket, Key=key)


def _call(request):
    """Ask moto."""
    parts = urlsplit(request.target)
    environ = {
        "REQUEST_METHOD": request.method,
        "SCRIPT_NAME": "",
        "PATH_INFO": unquote(parts.path, "latin-1"),
        "QUERY_STRING": parts.query,
        "RAW_URI": request.target,
        "REQUEST_URI": request.target,
        "SERVER_NAME": "127.0.0.1",
        "SERVER_PORT": "80",
        "SERVER_PROTOCOL": "HTTP/1.1",
        "REMOTE_ADDR": "127.0.0.1",
        "CONTENT_LENGTH": str(len(request.body)),
        "wsgi.version": (1, 0),
        "wsgi.url_scheme": "http",
        "wsgi.input": io.BytesIO(request.body),
        "wsgi.input_terminated": True,
        "wsgi.errors": io.StringIO(),
        "wsgi.multithread": True,
        "wsgi.multiprocess": False,
        "wsgi.run_once": False,
    }
    for name, value in request.headers.items():
        name = name.upper().replace("-", "_")
        if name == "CONTENT_TYPE":
            environ[name] = value
        elif name not in ("CONTENT_LENGTH", "TRANSFER_ENCODING"):
            environ[f"HTTP_{name}"] = value
    begun = []
    chunks = _application(environ, lambda status, headers, *_: begun.append((status, headers)))
    try:
        body = b"".join(chunks)
    finally:
        if hasattr(chunks, "close"):
            chunks.close()
    status, pairs = begun[0]
    headers = {}
    length = None
    for name, value in pairs:
        if name.lower() == "content-length":
            length = int(value) if request.method == "HEAD" else None
        elif name.lower() not in ("connection", "date", "transfer-encoding"):
            headers[name] = value
    return Reply(int(status.split()[0]), body, headers, length=length)
