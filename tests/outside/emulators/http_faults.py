"""A reverse proxy for HTTP/1.1 that fails on demand (see faults.py for how it is told to).

    http_faults.py --port P --to http://127.0.0.1:Q [--bigquery]

With --bigquery a job id that was taken is refused with 409, as BigQuery does and its emulator does
not; an id whose insert was refused stays free, also as there. Standard library only.
"""

import argparse
import http.client
import json
import re
import socket
import threading
from urllib.parse import parse_qsl, urlencode, urlsplit

from faults import Handler, Server

PATIENCE_S = 600
# What belongs to a connection and not to the request.
HOP_BY_HOP = ("connection", "transfer-encoding", "date", "server")
REPLACED = ("host", "connection", "transfer-encoding", "content-length", "accept-encoding")
JSON = {"Content-Type": "application/json; charset=UTF-8"}


class Proxy(Handler):
    to = ""
    bigquery = False
    jobs, jobs_lock = set(), threading.Lock()
    local = threading.local()

    def kind(self, method, path):
        names = r"(jobs|tables|datasets|projects|queries|documents|topics|subscriptions)/[^/?:]+"
        return f"{method} " + re.sub(names, r"\1/*", path.split("?")[0])

    def answer(self, method, path, body):
        is_jobs = self.bigquery and path.split("?")[0].endswith("/jobs")
        if is_jobs and method == "POST":
            return self.insert_job(path, body)
        if is_jobs and method == "GET":
            return self.list_jobs(path)
        return self.send(method, path, body)

    def list_jobs(self, path):
        """A page of those that are young enough: the emulator cuts a list, never says that there is
        more, and lists jobs of any age."""
        bare, _, query = path.partition("?")
        asked = dict(parse_qsl(query))
        size, start = int(asked.pop("maxResults", 50)), int(asked.pop("pageToken", 0))
        whole = urlencode(asked | {"maxResults": 10_000})
        status, headers, out = self.send("GET", f"{bare}?{whole}", b"")
        if status != 200:
            return status, headers, out
        listed = json.loads(out)
        since = int(asked.get("minCreationTime", 0))
        jobs = [job for job in listed.get("jobs", [])
                if int(job["statistics"]["creationTime"]) >= since]
        page = listed | {"jobs": jobs[start:start + size]}
        page.pop("nextPageToken", None)
        if start + size < len(jobs):
            page["nextPageToken"] = str(start + size)
        return 200, JSON, json.dumps(page).encode()

    def insert_job(self, path, body):
        try:
            reference = json.loads(body).get("jobReference") or {}
        except ValueError:
            reference = {}
        if not reference.get("jobId"):
            return self.send("POST", path, body)
        project = path.split("/projects/")[1].split("/")[0]
        job = (project, reference.get("location", "US"), reference["jobId"])
        with self.jobs_lock:
            known = job in self.jobs
            self.jobs.add(job)
        if known:
            return 409, JSON, duplicate(*job)
        status, headers, out = self.send("POST", path, body)
        if status >= 300:
            with self.jobs_lock:
                self.jobs.discard(job)
        return status, headers, out

    def send(self, method, path, body):
        """One request to the service, over this thread's connection or, where that has been
        closed meanwhile, over a new one."""
        headers = {k: v for k, v in self.headers.items() if k.lower() not in REPLACED}
        headers["Content-Length"] = str(len(body))
        for fresh in (False, True):
            kept = None if fresh else getattr(self.local, "connection", None)
            self.local.connection = None
            try:
                connection = kept or self.connect()
                connection.request(method, path, body or None, headers)
                answer = connection.getresponse()
                out = answer.read()
            except (http.client.HTTPException, OSError) as error:
                if kept:
                    continue
                return 502, {"Content-Type": "text/plain"}, f"the proxy: {error!r}".encode()
            self.local.connection = connection
            kept_headers = {k: v for k, v in answer.getheaders() if k.lower() not in HOP_BY_HOP}
            return answer.status, kept_headers, out
        raise AssertionError("a new connection answers or fails")

    def connect(self):
        connection = http.client.HTTPConnection(urlsplit(self.to).netloc, timeout=PATIENCE_S)
        connection.connect()
        connection.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return connection


def duplicate(project, location, job):
    """BigQuery's answer to a job id that it knows."""
    message = f"Already Exists: Job {project}:{location}.{job}"
    error = {"message": message, "domain": "global", "reason": "duplicate"}
    whole = {"code": 409, "message": message, "status": "ALREADY_EXISTS", "errors": [error]}
    return json.dumps({"error": whole}).encode()


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--to", required=True)
    parser.add_argument("--bigquery", action="store_true")
    options = parser.parse_args()
    Proxy.to, Proxy.bigquery = options.to, options.bigquery
    Server(options.port, Proxy).serve_forever()


if __name__ == "__main__":
    main()
