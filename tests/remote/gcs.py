"""A fake of Google Cloud Storage: the JSON API, the XML API, and tokens.

It does what the clients need that read and write Precomputed: whole objects and ranges, headers,
generations and their preconditions, lists in pages, all kinds of upload, decompressive transcoding.
"""

import base64
import gzip
import json
import re
import time
import uuid
from email import message_from_bytes
from urllib.parse import parse_qs, unquote, urlsplit

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa

from tests.remote.gcs_xml import XmlApi
from tests.remote.serving import Reply, Server, with_range
from tests.remote.stored import ByHand, Objects, PreconditionError

#: Members of the JSON resource and the headers of the XML API.
HEADERS = {
    "contentType": "Content-Type",
    "contentEncoding": "Content-Encoding",
    "cacheControl": "Cache-Control",
    "contentDisposition": "Content-Disposition",
    "contentLanguage": "Content-Language",
}
JSON_OBJECT = re.compile(r"(/download|/upload)?(?:/storage/v1|/resumable)?/b/([^/]+)/o(?:/(.*))?")


class GcsServer(ByHand, XmlApi, Server):
    """Buckets of Google Cloud Storage in memory.

    Attributes
    ----------
    objects : Objects
        What is stored, beside all protocols.
    needs_token : set of str
        Buckets that answer only to a bearer token that `issue_token` or the token endpoint gave,
        or that a key of `service_account` signed.
    hides_missing : bool
        A missing key is 403 and no 404, as for those who may not list.
    page_size : int
        Entries of a page of a list at most.
    """

    def __init__(self):
        super().__init__()
        self.objects = Objects()
        self.needs_token, self.tokens = set(), set()
        self.hides_missing, self.page_size = False, 1000
        self._keys, self._uploads = {}, {}

    # ---- by hand

    def make_bucket(self, name="bucket", public=True):
        self.objects.make(name)
        if not public:
            self.needs_token.add(name)
        return name

    # ---- who may

    def issue_token(self):
        """A new bearer token."""
        token = f"ya29.fake-{uuid.uuid4().hex}"
        self.tokens.add(token)
        return token

    def service_account(self, name="reader"):
        """The contents of a new key file, ``google-secret.json`` and the like."""
        private = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        email = f"{name}@fake.iam.gserviceaccount.com"
        self._keys[email] = private.public_key()
        pem = private.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
        return {
            "type": "service_account",
            "project_id": "fake",
            "private_key_id": uuid.uuid4().hex,
            "private_key": pem.decode(),
            "client_email": email,
            "client_id": "1",
            "token_uri": f"{self.url}/token",
        }

    def _signed_by(self, token):
        """The service account whose key signed this JWT, or None."""
        try:
            signed, _, signature = token.rpartition(".")
            email = json.loads(_base64(signed.split(".")[1]))["iss"]
            self._keys[email].verify(
                _base64(signature), signed.encode(), padding.PKCS1v15(), hashes.SHA256()
            )
        except (IndexError, ValueError, KeyError, InvalidSignature):
            return None
        return email

    def _denied(self, request, bucket):
        if bucket not in self.needs_token:
            return None
        sent = request.headers.get("Authorization", "")
        token = sent.removeprefix("Bearer ")
        if token in self.tokens or self._signed_by(token):
            return None
        return Reply.error(403 if sent else 401, "AccessDenied")

    def _token(self, request):
        assertion = parse_qs(request.body.decode()).get("assertion", [""])[0]
        if not self._signed_by(assertion):
            return _json({"error": "invalid_grant"}, 400)
        answer = {"access_token": self.issue_token(), "expires_in": 3600, "token_type": "Bearer"}
        return _json(answer)

    # ---- both protocols

    def answer(self, request):
        path = urlsplit(request.target).path.replace("%2D", "-")  # obstore writes so in buckets
        if path == "/token":
            return self._token(request)
        match = JSON_OBJECT.fullmatch(path)
        if match:
            kind, bucket, key = match.groups()
            key = unquote(key) if key else request.query.get("name")
        elif bucket := re.fullmatch(r"/storage/v1/b/([^/]+)(/.*)?", path):
            return self._bucket(request, bucket[1], bucket[2])
        else:
            bucket, _, key = path.lstrip("/").partition("/")
            key = unquote(key)
        denied = self._denied(request, bucket)
        if denied is not None:
            return denied
        if bucket not in self.objects.buckets:
            return _missing(match, "NoSuchBucket")
        try:
            if not match:
                reply = self._xml(request, bucket, key)
            elif kind == "/upload":
                reply = self._upload(request, bucket, key)
            else:
                reply = self._resource(request, bucket, key)
        except PreconditionError:
            return Reply.error(412, "PreconditionFailed")
        hidden = reply.status == 404 and self.hides_missing and request.method in ("GET", "HEAD")
        return Reply.error(403, "AccessDenied") if hidden else reply

    def _media(self, request, stored, *, length=False):
        """Stored bytes, undone on the way where the client did not ask for them compressed."""
        headers = {
            "Content-Type": "application/octet-stream",
            **stored.headers,
            "ETag": stored.etag,
            "Last-Modified": stored.modified,
            "x-goog-generation": stored.generation,
            "x-goog-metageneration": 1,
            "x-goog-stored-content-length": len(stored.data),
            "x-goog-stored-content-encoding": stored.headers.get("Content-Encoding", "identity"),
            "x-goog-hash": f"crc32c={stored.crc32c},md5={stored.md5}",
            "Accept-Ranges": "bytes",
        }
        undone = (
            stored.headers.get("Content-Encoding") == "gzip"
            and "gzip" not in request.headers.get("Accept-Encoding", "")
            and "no-transform" not in stored.headers.get("Cache-Control", "")
        )
        if not undone:
            return with_range(request, Reply(200, stored.data, headers))
        del headers["Content-Encoding"]
        headers["Warning"] = "214 UploadServer gunzipped"
        return Reply(200, gzip.decompress(stored.data), headers, chunked=True)

    # ---- JSON

    def _bucket(self, request, bucket, rest):
        denied = self._denied(request, bucket)
        if denied is not None:
            return denied
        if bucket not in self.objects.buckets or rest not in (None, "/storageLayout"):
            return _missing(True, "NoSuchBucket")
        return _json({"kind": "storage#bucket", "id": bucket, "name": bucket, "location": "US"})

    def _resource(self, request, bucket, key):
        query = request.query
        if key is None:
            return self._list_json(bucket, query)
        found = self.objects.get(bucket, key)
        if request.method == "DELETE":
            self.objects.delete(bucket, key, _expected(query))
            return Reply(204) if found else _missing(True)
        if found is None:
            return _missing(True)
        if request.method == "PATCH":
            changes = json.loads(request.body)
            headers = {**found.headers, **_headers(changes)}
            return _json(
                self._describe(bucket, key, self.objects.put(bucket, key, found.data, headers))
            )
        if not _expected(query)(found):
            raise PreconditionError(key)
        if query.get("ifGenerationNotMatch") == str(found.generation):
            return Reply(304)
        if query.get("alt") == "media":
            return self._media(request, found)
        return _json(self._describe(bucket, key, found))

    def _describe(self, bucket, key, stored):
        members = {
            name: stored.headers[header]
            for name, header in HEADERS.items()
            if header in stored.headers
        }
        now = time.strftime("%Y-%m-%dT%H:%M:%S.000Z", time.gmtime())
        return {
            "kind": "storage#object", "id": f"{bucket}/{key}/{stored.generation}",
            "bucket": bucket, "name": key, "size": str(len(stored.data)),
            "generation": str(stored.generation), "metageneration": "1",
            "etag": stored.etag.strip('"'), "md5Hash": stored.md5, "crc32c": stored.crc32c,
            "timeCreated": now, "updated": now, "storageClass": "STANDARD",
            "mediaLink": f"{self.url}/download/storage/v1/b/{bucket}/o/{key}?alt=media",
            "contentType": "application/octet-stream", **members,
        }  # fmt: skip

    def _list_json(self, bucket, query):
        limit = min(self.page_size, int(query.get("maxResults") or 1000))
        prefix, delimiter = query.get("prefix", ""), query.get("delimiter", "")
        page = self.objects.page(bucket, prefix, delimiter, query.get("pageToken", ""), limit)
        keys, folders, token = page
        items = [
            self._describe(bucket, key, stored)
            for key in keys
            if query.get("startOffset", "") <= key < query.get("endOffset", "\U0010ffff")
            and (stored := self.objects.get(bucket, key))
        ]
        answer = {"kind": "storage#objects"}
        if items:
            answer["items"] = items
        if folders:
            answer["prefixes"] = folders
        if token:
            answer["nextPageToken"] = token
        return _json(answer)

    def _upload(self, request, bucket, key):
        query = request.query
        kind = query.get("uploadType")
        if "upload_id" in query:  # by PUT, and by gcsfs with POST
            return self._resume(request, query["upload_id"])
        members, data = {}, request.body
        if kind == "multipart":
            head = f"Content-Type: {request.headers['Content-Type']}\r\n\r\n".encode()
            first, second = message_from_bytes(head + request.body).get_payload()
            members = json.loads(first.get_payload(decode=True))
            data = _second_part(request)
            members.setdefault("contentType", second.get_content_type())
        elif kind == "resumable":
            members = json.loads(request.body or b"{}")
        elif kind == "media":
            members = {"contentType": request.headers.get("Content-Type", "")}
            if "contentEncoding" in query:
                members["contentEncoding"] = query["contentEncoding"]
        key = key or members.get("name")
        if kind == "resumable":
            upload = uuid.uuid4().hex
            self._uploads[upload] = (bucket, key, members, _expected(query), [])
            place = (
                f"{self.url}/upload/storage/v1/b/{bucket}/o?uploadType=resumable&upload_id={upload}"
            )
            return Reply(200, b"", {"Location": place, "X-GUploader-UploadID": upload})
        stored = self.objects.put(bucket, key, data, _headers(members), _expected(query))
        return _json(self._describe(bucket, key, stored))

    def _resume(self, request, upload):
        if upload not in self._uploads:
            return _missing(True)
        bucket, key, members, expect, parts = self._uploads[upload]
        held = sum(map(len, parts))
        span = re.fullmatch(
            r"bytes (\*|(\d+)-(\d+))/(\*|\d+)", request.headers.get("Content-Range", "")
        )
        if span is None or span[2] is None or int(span[2]) == held:
            parts.append(request.body)
            held += len(request.body)
        if span is not None and (span[4] == "*" or int(span[4]) > held):
            return Reply(308, b"", {"Range": f"bytes=0-{held - 1}"} if held else {})
        del self._uploads[upload]
        stored = self.objects.put(bucket, key, b"".join(parts), _headers(members), expect)
        return _json(self._describe(bucket, key, stored))


def _base64(text):
    return base64.urlsafe_b64decode(text + "==")


def _json(value, status=200):
    return Reply(status, json.dumps(value).encode(), {"Content-Type": "application/json"})


def _missing(json_api, code="NoSuchKey"):
    if json_api:
        return _json(
            {"error": {"code": 404, "message": code, "errors": [{"reason": "notFound"}]}}, 404
        )
    return Reply.error(404, code)


def _second_part(request):
    """The bytes of the data of a multipart upload, which `email` would take for text."""
    boundary = re.search(r'boundary="?([^";]+)', request.headers["Content-Type"])[1].strip("'")
    part = request.body.split(f"--{boundary}".encode(), 2)[2]
    data = part[re.search(rb"\r?\n\r?\n", part).end() :]
    end = data.rindex(f"--{boundary}--".encode())
    return data[:end].removesuffix(b"\n").removesuffix(b"\r")


def _headers(members):
    return {header: members[name] for name, header in HEADERS.items() if members.get(name)}


def _expected(query):
    wanted = query.get("ifGenerationMatch")
    return lambda found: wanted is None or int(wanted) == (found.generation if found else 0)
