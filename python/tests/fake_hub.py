"""A hub of a few lines on a socket, for the tests of outpost_sdk."""

import json
import os
import sys
import threading
import unittest
import uuid
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), ".."))
sys.dont_write_bytecode = True

try:
    import globus_sdk
    from outpost_sdk import Client
except ImportError as missing:
    raise unittest.SkipTest("needs globus-compute-sdk") from missing

ENDPOINT, OTHER = str(uuid.uuid4()), str(uuid.uuid4())
FUNCTION, ANOTHER = str(uuid.uuid4()), str(uuid.uuid4())
VERSION = {"api": "1", "min_sdk_version": "1.0.0", "min_ep_version": "1.0.0"}


class FakeHub:
    """Answers by a table, and remembers what it was asked."""

    def __init__(self, answers):
        self.answers = {"GET /v2/version": VERSION, **answers}
        self.requests = []
        hub = self

        class Handler(BaseHTTPRequestHandler):
            def answer(self):
                body = self.rfile.read(int(self.headers.get("Content-Length", 0))).decode()
                hub.requests.append((self.command, self.path, dict(self.headers), body))
                found = hub.answers.get(f"{self.command} {self.path.split('?')[0]}")
                status, document = (404, {"code": "NONE", "detail": self.path}) if found is None else (200, found)
                text = json.dumps(document(body) if callable(document) else document).encode()
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(text)))
                self.end_headers()
                self.wfile.write(text)

            do_GET = do_POST = do_DELETE = answer

            def log_message(self, *args):
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        self.thread = threading.Thread(target=self.server.serve_forever, args=(0.01,))
        self.thread.start()

    def asked(self, route):
        return [
            (headers, body)
            for method, path, headers, body in self.requests
            if f"{method} {path.split('?')[0]}" == route
        ]

    def stop(self):
        self.server.shutdown()
        self.server.server_close()
        self.thread.join()


class WithHub(unittest.TestCase):
    def hub(self, answers=None):
        hub = FakeHub(answers or {})
        self.addCleanup(hub.stop)
        return hub

    def client(self, hub, **options):
        return Client(hub_url=hub.url, **{"authorizer": globus_sdk.AccessTokenAuthorizer("t"), **options})
