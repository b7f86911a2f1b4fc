"""The XML API of the fake of Google Cloud Storage."""

import re
import time
import uuid
from xml.sax.saxutils import escape

from tests.remote.serving import Reply

DECLARED = (
    "Content-Type",
    "Content-Encoding",
    "Cache-Control",
    "Content-Disposition",
    "Content-Language",
)


class XmlApi:
    """What the server does with a request for ``/bucket/key``; it has `objects`, `_uploads`, `_media`."""

    def _xml(self, request, bucket, key):
        query = request.query
        if not key:
            return self._list_xml(bucket, query) if request.method == "GET" else _missing()
        if request.method in ("GET", "HEAD"):
            found = self.objects.get(bucket, key)
            if found is None:
                return _missing("NoSuchKey")
            return self._media(request, found)
        if request.method == "DELETE":
            if "uploadId" in query:
                self._uploads.pop(query["uploadId"], None)
                return Reply(204)
            gone = self.objects.delete(bucket, key)
            return Reply(204) if gone else _missing("NoSuchKey")
        if "uploads" in query:
            upload = uuid.uuid4().hex
            self._uploads[upload] = (_declared(request), {})
            body = f"<Bucket>{bucket}</Bucket><Key>{escape(key)}</Key><UploadId>{upload}</UploadId>"
            return _xml_reply("InitiateMultipartUploadResult", body)
        if "uploadId" in query:
            return self._part(request, bucket, key, query)
        stored = self.objects.put(
            bucket, key, request.body, _declared(request), _xml_expected(request)
        )
        return Reply(200, b"", {"ETag": stored.etag, "x-goog-generation": stored.generation})

    def _part(self, request, bucket, key, query):
        if query["uploadId"] not in self._uploads:
            return _missing("NoSuchUpload")
        headers, parts = self._uploads[query["uploadId"]]
        if "partNumber" in query:
            parts[int(query["partNumber"])] = request.body
            return Reply(200, b"", {"ETag": f'"{uuid.uuid4().hex}"'})
        numbers = [int(each) for each in re.findall(rb"<PartNumber>(\d+)", request.body)]
        data = b"".join(parts[number] for number in numbers)
        stored = self.objects.put(bucket, key, data, headers, _xml_expected(request))
        del self._uploads[query["uploadId"]]
        reply = _xml_reply(
            "CompleteMultipartUploadResult",
            f"<Bucket>{bucket}</Bucket><Key>{escape(key)}</Key><ETag>{escape(stored.etag)}</ETag>",
        )
        reply.headers["x-goog-generation"] = stored.generation
        return reply

    def _list_xml(self, bucket, query):
        limit = min(self.page_size, int(query.get("max-keys") or 1000))
        after = max(query.get("continuation-token", ""), query.get("start-after", ""))
        prefix, delimiter = query.get("prefix", ""), query.get("delimiter", "")
        keys, folders, token = self.objects.page(bucket, prefix, delimiter, after, limit)
        entries = []
        for key in keys:
            if stored := self.objects.get(bucket, key):
                now = time.strftime("%Y-%m-%dT%H:%M:%S.000Z", time.gmtime())
                entries.append(
                    f"<Contents><Key>{escape(key)}</Key><Generation>{stored.generation}</Generation>"
                    f"<LastModified>{now}</LastModified><ETag>{escape(stored.etag)}</ETag>"
                    f"<Size>{len(stored.data)}</Size></Contents>"
                )
        entries += [
            f"<CommonPrefixes><Prefix>{escape(each)}</Prefix></CommonPrefixes>" for each in folders
        ]
        more = f"<NextContinuationToken>{escape(token)}</NextContinuationToken>" if token else ""
        name = f"<Name>{bucket}</Name><Prefix>{escape(prefix)}</Prefix>"
        cut = f"<IsTruncated>{'true' if token else 'false'}</IsTruncated>"
        return _xml_reply("ListBucketResult", name + cut + more + "".join(entries))


def _missing(code="NoSuchKey"):
    return Reply.error(404, code)


def _xml_reply(root, body):
    namespace = "http://doc.s3.amazonaws.com/2006-03-01"
    text = f"<?xml version='1.0' encoding='UTF-8'?><{root} xmlns='{namespace}'>{body}</{root}>"
    return Reply(200, text.encode(), {"Content-Type": "application/xml"})


def _declared(request):
    return {h: request.headers[h] for h in DECLARED if h in request.headers}


def _xml_expected(request):
    wanted = request.headers.get("x-goog-if-generation-match")
    return lambda found: wanted is None or int(wanted) == (found.generation if found else 0)
