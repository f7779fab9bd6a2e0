"""A receiver for the demonstration: what an application does with a job that qfleet posts.

It checks the signature over the raw body before anything else, prints one line a job, and answers by the path and the
job's data: most jobs are done, some ask for another try, some will never work.
"""

import base64
import hashlib
import hmac
import json
import os
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

SECRET = base64.b64decode(os.environ["RECEIVER_SECRET"].removeprefix("whsec_"))
OLDEST_SECONDS = 300
seen = {}
lock = threading.Lock()


def is_genuine(headers, body):
    signed = b".".join([headers["webhook-id"].encode(), headers["webhook-timestamp"].encode(), body])
    mine = "v1," + base64.b64encode(hmac.new(SECRET, signed, hashlib.sha256).digest()).decode()
    fresh = abs(time.time() - int(headers["webhook-timestamp"])) <= OLDEST_SECONDS
    return fresh and any(hmac.compare_digest(mine, part) for part in headers["webhook-signature"].split())


def verdict(data, deliveries):
    """Status, extra headers and body for one job."""
    kind = data.get("kind") if isinstance(data, dict) else None
    if kind == "flaky" and deliveries < 3:
        return 500, {}, {"title": "the mail server hung up"}
    if kind == "busy" and deliveries < 2:
        return 409, {"Retry-After": "2"}, {}
    if kind == "refused":
        return 422, {}, {"type": "/errors/no_such_customer", "title": "no such customer"}
    return 200, {}, {"ok": True}


class Receiver(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if not is_genuine(self.headers, body):
            return self.answer(401, {}, {"title": "the signature does not match"})
        identity = self.headers["webhook-id"]
        with lock:
            seen[identity] = seen.get(identity, 0) + 1
            deliveries = seen[identity]
        status, headers, reply = verdict(json.loads(body).get("data"), deliveries)
        print(
            f"{self.headers['Job-Queue']:<15} {self.headers['Job-Name']:<28} "
            f"attempt {self.headers['Job-Attempt']} -> {status}",
            flush=True,
        )
        return self.answer(status, headers, reply)

    def answer(self, status, headers, reply):
        body = json.dumps(reply).encode()
        self.send_response(status)
        kind = "application/json" if status < 400 else "application/problem+json"
        for name, value in {"Content-Type": kind, "Content-Length": str(len(body)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        """One line a job is enough."""


class Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128


Server(("127.0.0.1", int(sys.argv[1])), Receiver).serve_forever()
