"""A fake of Azure's Blob Storage: what the clients need that read and write Precomputed."""

import base64
import re
import time
from email.utils import formatdate
from urllib.parse import unquote, urlsplit
from xml.sax.saxutils import escape, unescape

from tests.remote.serving import Reply, Server, is_signed, with_range
from tests.remote.stored import ByHand, Objects, PreconditionError

#: What a PUT declares, and the header of a GET that it becomes.
DECLARED = {
    "x-ms-blob-content-type": "Content-Type",
    "x-ms-blob-content-encoding": "Content-Encoding",
    "x-ms-blob-cache-control": "Cache-Control",
    "x-ms-blob-content-disposition": "Content-Disposition",
    "x-ms-blob-content-language": "Content-Language",
}


class AzureServer(ByHand, Server):
    """Containers in memory, at ``/container/blob`` and ``/account/container/blob``.

    Attributes
    ----------
    needs_signature : set of str
        Containers that want a signature, of any kind: it is not looked at.
    hides_missing : bool
        A missing blob is 403 and no 404.
    page_size : int
        Entries of a page of a list at most.
    account, key : str
        What a client may sign with.
    """

    account = "fakeaccount"
    key = base64.b64encode(b"a key that is nobody's" * 3).decode()

    def __init__(self):
        super().__init__()
        self.objects = Objects()
        self.needs_signature = set()
        self.hides_missing, self.page_size = False, 1000
        self._blocks = {}

    # ---- by hand

    def make_bucket(self, name="container", public=True):
        self.objects.make(name)
        if not public:
            self.needs_signature.add(name)
        return name

    # ---- the protocol

    def answer(self, request):
        container, key = self._place(request)
        if container not in self.objects.buckets:
            return _error(404, "ContainerNotFound")
        if container in self.needs_signature and not is_signed(request):
            return _error(403, "AuthorizationFailure")
        try:
            reply = self._blob(request, container, key) if key else self._of(request, container)
        except PreconditionError:
            exists = request.headers.get("If-None-Match") == "*"
            return _error(409, "BlobAlreadyExists") if exists else _error(412, "ConditionNotMet")
        hidden = reply.status == 404 and self.hides_missing and request.method in ("GET", "HEAD")
        return _error(403, "AuthorizationPermissionMismatch") if hidden else reply

    def _place(self, request):
        first, _, rest = urlsplit(request.target).path.lstrip("/").partition("/")
        if first not in self.objects.buckets and rest:
            first, _, rest = rest.partition("/")
        return first, unquote(rest)

    def _of(self, request, container):
        """The container itself: a list, or a batch of deletes."""
        query = request.query
        if request.method == "GET" and query.get("comp") == "list":
            return self._list(container, query)
        if request.method == "POST" and query.get("comp") == "batch":
            return self._batch(request, container)
        return _error(400, "InvalidQueryParameterValue")

    def _blob(self, request, container, key):
        query = request.query
        if request.method in ("GET", "HEAD"):
            found = self.objects.get(container, key)
            return _error(404, "BlobNotFound") if found is None else _sent(request, found)
        if request.method == "DELETE":
            gone = self.objects.delete(container, key)
            return Reply(202) if gone else _error(404, "BlobNotFound")
        if request.method != "PUT":
            return _error(405, "UnsupportedHttpVerb")
        if query.get("comp") == "block":
            self._blocks[container, key, query["blockid"]] = request.body
            return Reply(201)
        data = request.body
        if query.get("comp") == "blocklist":
            names = re.findall(rb"<(?:Latest|Uncommitted)>([^<]*)<", request.body)
            found = [self._blocks.get((container, key, unescape(n.decode()))) for n in names]
            if None in found:
                return _error(400, "InvalidBlockList")
            data = b"".join(found)
        elif request.headers.get("x-ms-blob-type") != "BlockBlob":
            return _error(400, "MissingRequiredHeader")
        headers = {
            to: request.headers[name] for name, to in DECLARED.items() if name in request.headers
        }
        if query.get("comp") != "blocklist" and "Content-Type" in request.headers:
            headers.setdefault("Content-Type", request.headers["Content-Type"])
        stored = self.objects.put(container, key, data, headers, _expected(request))
        return Reply(201, b"", {"ETag": stored.etag, "Last-Modified": stored.modified})

    def _batch(self, request, container):
        """Deletes in a multipart body, each with an answer of its own."""
        boundary = re.search(r"boundary=([^;\s]+)", request.headers["Content-Type"])[1]
        parts = []
        for number, match in enumerate(re.finditer(rb"DELETE (\S+) HTTP/1.1", request.body)):
            path = unquote(urlsplit(match[1].decode()).path)
            gone = self.objects.delete(container, path.split(f"{container}/", 1)[1])
            status = "202 Accepted" if gone else "404 The specified blob does not exist."
            code = "" if gone else "x-ms-error-code: BlobNotFound\r\n"
            parts.append(
                f"--{boundary}\r\nContent-Type: application/http\r\nContent-ID: {number}\r\n\r\n"
                f"HTTP/1.1 {status}\r\n{code}Content-Length: 0\r\n\r\n"
            )
        body = "".join(parts) + f"--{boundary}--\r\n"
        return Reply(202, body.encode(), {"Content-Type": f"multipart/mixed; boundary={boundary}"})

    def _list(self, container, query):
        limit = min(self.page_size, int(query.get("maxresults") or 5000))
        prefix, delimiter = query.get("prefix", ""), query.get("delimiter", "")
        after = query.get("marker", "")
        keys, folders, token = self.objects.page(container, prefix, delimiter, after, limit)
        entries = []
        for key in keys:
            if stored := self.objects.get(container, key):
                now = time.strftime("%a, %d %b %Y %H:%M:%S GMT", time.gmtime())
                entries.append(
                    f"<Blob><Name>{escape(key)}</Name><Properties>"
                    f"<Last-Modified>{now}</Last-Modified><Etag>{escape(stored.etag)}</Etag>"
                    f"<Content-Length>{len(stored.data)}</Content-Length>"
                    "<Content-Type>application/octet-stream</Content-Type>"
                    "<BlobType>BlockBlob</BlobType></Properties></Blob>"
                )
        entries += [f"<BlobPrefix><Name>{escape(each)}</Name></BlobPrefix>" for each in folders]
        text = (
            '<?xml version="1.0" encoding="utf-8"?>'
            f'<EnumerationResults ServiceEndpoint="{self.url}" ContainerName="{container}">'
            f"<Prefix>{escape(prefix)}</Prefix><Blobs>{''.join(entries)}</Blobs>"
            f"<NextMarker>{escape(token)}</NextMarker></EnumerationResults>"
        )
        return Reply(200, text.encode(), {"Content-Type": "application/xml"})


def _sent(request, stored):
    headers = {
        "Content-Type": "application/octet-stream",
        **stored.headers,
        "ETag": stored.etag,
        "Last-Modified": stored.modified,
        "x-ms-blob-type": "BlockBlob",
        "x-ms-version": request.headers.get("x-ms-version", "2021-12-02"),
        "Accept-Ranges": "bytes",
    }
    return with_range(request, Reply(200, stored.data, headers))


def _expected(request):
    create = request.headers.get("If-None-Match") == "*"
    wanted = request.headers.get("If-Match")

    def holds(found):
        if create and found is not None:
            return False
        return wanted is None or (found is not None and found.etag == wanted)

    return holds


def _error(status, code):
    reply = Reply.error(status, code)
    reply.headers |= {"x-ms-error-code": code, "Date": formatdate(usegmt=True)}
    return reply
