"""Cloud Storage's XML API over a directory, which bqemulator reads too.

    gcs.py --port P --root DIR [--create BUCKET ...] [--min-part BYTES]

An object is the file DIR/BUCKET/NAME; what is known of it, and unfinished uploads, are below
DIR.meta. PUT, GET (ranges, If-Match, If-None-Match), HEAD, DELETE, lists, copies and uploads in
parts; x-goog-if-generation-match; x-goog-meta-*. No precondition goes with an upload in parts:
that is `400 NotImplemented`, as Google documents. PUT /BUCKET makes a bucket. Faults and counts:
faults.py. Standard library only.
"""

import argparse
import base64
import email.utils
import hashlib
import json
import os
import re
import shutil
import threading
import time
import uuid
import xml.etree.ElementTree as ET
from pathlib import Path
from urllib.parse import parse_qs, quote, unquote, urlsplit
from xml.sax.saxutils import escape

from faults import Handler, Server

KEPT = (
    "content-type", "cache-control", "content-disposition", "content-encoding",
    "content-language", "x-goog-storage-class",
)
XML = {"Content-Type": "application/xml; charset=UTF-8"}
PROLOGUE = "<?xml version='1.0' encoding='UTF-8'?>"
NAMESPACE = "xmlns='http://doc.s3.amazonaws.com/2006-03-01'"
PARTS_MAX = 10_000
NAME_BYTES_MAX = 1024
REFUSALS = {
    "NoSuchBucket": (404, "The specified bucket does not exist."),
    "NoSuchKey": (404, "The specified key does not exist."),
    "NoSuchUpload": (404, "The requested upload was not found."),
    "PreconditionFailed": (
        412, "At least one of the pre-conditions you specified did not hold.",
    ),
    "InvalidPart": (400, "One or more of the specified parts could not be found."),
    "EntityTooSmall": (
        400, "Your proposed upload is smaller than the minimum object size specified in your"
        " request.",
    ),
    "InvalidArgument": (400, "Invalid argument."),
    "InvalidRange": (416, "The requested range cannot be satisfied."),
    "NotImplemented": (400, "A header you provided implies functionality that is not implemented."),
    "MethodNotAllowed": (405, "The specified method is not allowed against this resource."),
    "InvalidObjectName": (400, "The specified object name is not valid."),
    "BadDigest": (400, "The Content-MD5 you specified did not match what we received."),
}
# How Google bills an operation: A writes and lists, B reads; what is not here is free.
CLASSES = {
    "list": "A", "copy": "A", "part": "A", "initiate": "A", "complete": "A", "put": "A",
    "get": "B", "head": "B",
}


class Refused(Exception):
    """An answer that is no success."""


def refuse(code, details=""):
    status, message = REFUSALS[code]
    details = f"<Details>{escape(details)}</Details>" if details else ""
    text = f"{PROLOGUE}<Error><Code>{code}</Code><Message>{message}</Message>{details}</Error>"
    raise Refused(status, text.encode())


def quoted(digest):
    return f'"{digest}"'


def iso(seconds):
    whole = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds))
    return f"{whole}.{int(seconds % 1 * 1000):03d}Z"


class Buckets:
    """Objects as files, and what is known of each as JSON."""

    def __init__(self, root, min_part_bytes):
        self.root, self.meta = root, root.with_name(root.name + ".meta")
        self.min_part_bytes = min_part_bytes
        self.lock = threading.RLock()
        self.last_generation = 0
        for directory in (self.root, self.meta / "new", self.meta / "uploads"):
            directory.mkdir(parents=True, exist_ok=True)

    def bucket(self, bucket):
        if "/" in bucket or not (self.root / bucket).is_dir():
            refuse("NoSuchBucket")
        return self.root / bucket

    def object(self, bucket, key):
        """Its file, and the file of what is known of it."""
        here = self.bucket(bucket)
        parts = key.split("/")
        if any(p in ("", ".", "..") for p in parts) or len(key.encode()) > NAME_BYTES_MAX:
            refuse("InvalidObjectName", key)  # the service takes some of them, a file system not
        name = hashlib.sha1(key.encode()).hexdigest()
        return here / key, self.meta / "objects" / bucket / name

    def known(self, bucket, key):
        """None, or what is known of the object; another program may have put it there."""
        file, meta = self.object(bucket, key)
        try:
            stat = file.stat()
        except (FileNotFoundError, NotADirectoryError):
            return None
        if not file.is_file():
            return None
        try:
            known = json.loads(meta.read_text())
            if known["size"] == stat.st_size:
                return known
        except (FileNotFoundError, ValueError):
            pass
        generation = int(stat.st_mtime * 1e6)
        return {
            "size": stat.st_size, "generation": generation, "etag": quoted(f"{generation:x}"),
            "mtime": stat.st_mtime, "headers": {}, "md5": None,
        }

    def check(self, bucket, key, conditions):
        """The same, if the request's preconditions hold."""
        known = self.known(bucket, key)
        generation = conditions.get("x-goog-if-generation-match")
        if generation is not None and int(generation) != (known["generation"] if known else 0):
            refuse("PreconditionFailed", "x-goog-if-generation-match")
        meta = conditions.get("x-goog-if-metageneration-match")
        if meta is not None and int(meta) != (1 if known else 0):
            refuse("PreconditionFailed", "x-goog-if-metageneration-match")
        return known

    def write(self, bucket, key, content, headers, conditions, etag=None):
        file, meta = self.object(bucket, key)
        digest = hashlib.md5(content)
        new = self.meta / "new" / uuid.uuid4().hex
        new.write_bytes(content)
        with self.lock:
            try:
                self.check(bucket, key, conditions)
            except Refused:
                new.unlink()
                raise
            self.last_generation = max(self.last_generation + 1, int(time.time() * 1e6))
            known = {
                "key": key, "size": len(content), "generation": self.last_generation,
                "mtime": time.time(), "md5": base64.b64encode(digest.digest()).decode(),
                "etag": etag or quoted(digest.hexdigest()), "headers": headers,
            }
            file.parent.mkdir(parents=True, exist_ok=True)
            meta.parent.mkdir(parents=True, exist_ok=True)
            new_meta = new.with_suffix(".json")
            new_meta.write_text(json.dumps(known))
            new.replace(file)
            new_meta.replace(meta)
            return known

    def delete(self, bucket, key, conditions):
        file, meta = self.object(bucket, key)
        with self.lock:
            if not self.check(bucket, key, conditions):
                refuse("NoSuchKey")
            file.unlink()
            meta.unlink(missing_ok=True)
            for directory in file.parents:
                if directory == self.root / bucket or any(directory.iterdir()):
                    break
                directory.rmdir()

    def keys(self, bucket, prefix):
        top = self.bucket(bucket)
        keys = []
        for directory, _, files in os.walk(top / os.path.dirname(prefix)):
            below = os.path.relpath(directory, top)
            keys += [name if below == "." else f"{below}/{name}" for name in files]
        return sorted(key for key in keys if key.startswith(prefix))


class Front(Handler):
    buckets = None

    def kind(self, method, path):
        url = urlsplit(path)
        if method == "GET" and "/" not in url.path.strip("/"):
            what = "list"
        elif self.headers.get("x-goog-copy-source"):
            what = "copy"
        elif "partNumber" in url.query:
            what = "part"
        elif "uploads" in url.query and method == "POST":
            what = "initiate"
        elif "uploadId" in url.query:
            what = "complete" if method == "POST" else "abort"
        else:
            what = method.lower()
        return f"{CLASSES.get(what, 'free')} {what}"

    def answer(self, method, path, body):
        try:
            return self.do(method, path, body)
        except Refused as refused:
            status, text = refused.args
            return status, XML, text

    def do(self, method, path, body):
        url = urlsplit(path)
        query = {k: v[0] for k, v in parse_qs(url.query, keep_blank_values=True).items()}
        bucket, _, key = url.path.lstrip("/").partition("/")
        bucket, key = unquote(bucket), unquote(key)
        headers = {k.lower(): v for k, v in self.headers.items()}
        conditions = {k: v for k, v in headers.items() if k.startswith("x-goog-if-")}
        kept = {
            k: v for k, v in headers.items() if k in KEPT or k.startswith("x-goog-meta-")
        }
        if not key:
            return self.do_bucket(method, bucket, query)
        if ("uploads" in query or "uploadId" in query) and conditions:
            refuse("NotImplemented", ", ".join(conditions))
        if method == "POST" and "uploads" in query:
            return self.initiate(bucket, key, kept)
        if "uploadId" in query:
            return self.upload(method, bucket, key, query, body)
        if method == "PUT" and "x-goog-copy-source" in headers:
            return self.copy(bucket, key, headers, kept, conditions)
        if method == "PUT":
            md5 = base64.b64encode(hashlib.md5(body).digest()).decode()
            if headers.get("content-md5", md5) != md5:
                refuse("BadDigest")
            known = self.buckets.write(bucket, key, body, kept, conditions)
            return 200, identity(known) | {"x-goog-hash": f"md5={known['md5']}"}, b""
        if method == "DELETE":
            self.buckets.delete(bucket, key, conditions)
            return 204, {}, b""
        if method in ("GET", "HEAD"):
            return self.read(method, bucket, key, query, headers, conditions)
        return refuse("MethodNotAllowed")

    def do_bucket(self, method, bucket, query):
        if method == "PUT":
            (self.buckets.root / bucket).mkdir(exist_ok=True)
            return 200, {}, b""
        self.buckets.bucket(bucket)
        if method == "GET":
            return self.list(bucket, query)
        return (200, {}, b"") if method == "HEAD" else refuse("MethodNotAllowed")

    def copy(self, bucket, key, headers, kept, conditions):
        source = unquote(headers["x-goog-copy-source"]).lstrip("/").partition("/")
        with self.buckets.lock:
            known = self.buckets.known(source[0], source[2]) or refuse("NoSuchKey")
            content = self.buckets.object(source[0], source[2])[0].read_bytes()
        replaces = headers.get("x-goog-metadata-directive") == "REPLACE"
        attributes = kept if replaces else known["headers"]
        new = self.buckets.write(bucket, key, content, attributes, conditions, known["etag"])
        text = (
            f"{PROLOGUE}<CopyObjectResult {NAMESPACE}><LastModified>{iso(new['mtime'])}"
            f"</LastModified><ETag>{escape(new['etag'])}</ETag></CopyObjectResult>"
        )
        return 200, XML | {"x-goog-generation": str(new["generation"])}, text.encode()

    def read(self, method, bucket, key, query, headers, conditions):
        with self.buckets.lock:
            known = self.buckets.check(bucket, key, conditions) or refuse("NoSuchKey")
            file = self.buckets.object(bucket, key)[0].open("rb")
        with file:
            if int(query.get("generation", known["generation"])) != known["generation"]:
                refuse("NoSuchKey")
            size, etag = known["size"], known["etag"]
            out = {
                "content-type": "application/octet-stream", **known["headers"], **identity(known),
                "Accept-Ranges": "bytes", "x-goog-stored-content-length": str(size),
                "Last-Modified": email.utils.formatdate(known["mtime"], usegmt=True),
            }
            if headers.get("if-match", etag) not in ("*", etag):
                refuse("PreconditionFailed", "If-Match")
            if headers.get("if-none-match") in ("*", etag):
                return 304, out | {"Content-Length": None}, b""
            if method == "HEAD":
                return 200, out | {"Content-Length": str(size)}, b""
            asked = re.fullmatch(r"bytes=(\d*)-(\d*)", headers.get("range", ""))
            if not asked:
                return 200, out, file.read()
            first, last = asked.groups()
            if first:
                first, last = int(first), min(int(last or size), size - 1)
            else:
                first, last = max(0, size - int(last)), size - 1
            if first >= size:
                refuse("InvalidRange")
            file.seek(first)
            out["Content-Range"] = f"bytes {first}-{last}/{size}"
            return 206, out, file.read(last - first + 1)

    def initiate(self, bucket, key, kept):
        self.buckets.object(bucket, key)
        upload = "AB" + uuid.uuid4().hex
        parts = self.buckets.meta / "uploads" / upload
        parts.mkdir()
        about = {"bucket": bucket, "key": key, "headers": kept}
        (parts / "about").write_text(json.dumps(about))
        text = (
            f"{PROLOGUE}<InitiateMultipartUploadResult {NAMESPACE}><Bucket>{bucket}</Bucket>"
            f"<Key>{escape(key)}</Key><UploadId>{upload}</UploadId>"
            "</InitiateMultipartUploadResult>"
        )
        return 200, XML, text.encode()

    def upload(self, method, bucket, key, query, body):
        parts = self.buckets.meta / "uploads" / os.path.basename(query["uploadId"])
        with self.buckets.lock:
            try:
                about = json.loads((parts / "about").read_text())
            except FileNotFoundError:
                refuse("NoSuchUpload")
            if (about["bucket"], about["key"]) != (bucket, key):
                refuse("NoSuchUpload")
            if method == "DELETE":
                shutil.rmtree(parts)
                return 204, {}, b""
            if method == "POST":
                return self.complete(bucket, key, parts, about, body)
        if method != "PUT":
            refuse("MethodNotAllowed")
        number = int(query["partNumber"])
        if not 1 <= number <= PARTS_MAX:
            refuse("InvalidArgument", "partNumber")
        part = parts / str(number)
        part.with_suffix(".new").write_bytes(body)
        part.with_suffix(".new").replace(part)
        return 200, {"ETag": quoted(hashlib.md5(body).hexdigest())}, b""

    def complete(self, bucket, key, parts, about, body):
        wanted = [{c.tag.rpartition("}")[2]: c.text for c in part} for part in ET.fromstring(body)]
        contents, digests = [], b""
        for number, part in enumerate(wanted, 1):
            try:
                contents.append((parts / str(int(part["PartNumber"]))).read_bytes())
            except FileNotFoundError:
                refuse("InvalidPart", part["PartNumber"])
            digest = hashlib.md5(contents[-1])
            if part["ETag"].strip('"') != digest.hexdigest():
                refuse("InvalidPart", part["ETag"])
            if number < len(wanted) and len(contents[-1]) < self.buckets.min_part_bytes:
                refuse("EntityTooSmall", part["PartNumber"])
            digests += digest.digest()
        etag = quoted(f"{hashlib.md5(digests).hexdigest()}-{len(wanted)}")
        known = self.buckets.write(bucket, key, b"".join(contents), about["headers"], {}, etag)
        shutil.rmtree(parts)
        text = (
            f"{PROLOGUE}<CompleteMultipartUploadResult {NAMESPACE}>"
            f"<Location>/{bucket}/{escape(quote(key))}</Location><Bucket>{bucket}</Bucket>"
            f"<Key>{escape(key)}</Key><ETag>{escape(etag)}</ETag></CompleteMultipartUploadResult>"
        )
        return 200, XML | {"x-goog-generation": str(known["generation"])}, text.encode()

    def list(self, bucket, query):
        if "uploads" in query:
            return 200, XML, b"<ListMultipartUploadsResult/>"
        prefix, delimiter = query.get("prefix", ""), query.get("delimiter", "")
        after = unquote(query.get("continuation-token", "")) or query.get("start-after", "")
        entries, last, more = [], "", False
        for key in self.buckets.keys(bucket, prefix):
            cut = key.find(delimiter, len(prefix)) if delimiter else -1
            name = key[: cut + len(delimiter)] if cut >= 0 else key
            if name <= after or name == last:
                continue
            if len(entries) >= int(query.get("max-keys", 1000)):
                more = True
                break
            last = name
            if cut >= 0:
                entries.append(
                    f"<CommonPrefixes><Prefix>{escape(name)}</Prefix></CommonPrefixes>"
                )
            elif known := self.buckets.known(bucket, key):
                entries.append(
                    f"<Contents><Key>{escape(key)}</Key>"
                    f"<LastModified>{iso(known['mtime'])}</LastModified>"
                    f"<ETag>{escape(known['etag'])}</ETag><Size>{known['size']}</Size></Contents>"
                )
        token = quote(last, safe="")
        token = f"<NextContinuationToken>{token}</NextContinuationToken>" if more else ""
        text = (
            f"{PROLOGUE}<ListBucketResult {NAMESPACE}><Name>{bucket}</Name>"
            f"<Prefix>{escape(prefix)}</Prefix><KeyCount>{len(entries)}</KeyCount>"
            f"<IsTruncated>{str(more).lower()}</IsTruncated>{token}{''.join(entries)}"
            "</ListBucketResult>"
        )
        return 200, XML, text.encode()


def identity(known):
    return {
        "ETag": known["etag"], "x-goog-generation": str(known["generation"]),
        "x-goog-metageneration": "1",
    }


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--root", type=Path, required=True)
    parser.add_argument("--create", action="append", default=[])
    parser.add_argument("--min-part", type=int, default=5 << 20)
    options = parser.parse_args()
    Front.buckets = Buckets(options.root.absolute(), options.min_part)
    for bucket in options.create:
        (options.root / bucket).mkdir(exist_ok=True)
    Server(options.port, Front).serve_forever()


if __name__ == "__main__":
    main()
