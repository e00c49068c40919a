"""The processes of the test: each on a free port, over a folder of its own, ended with the test."""

import json
import os
import signal
import socket
import subprocess
import threading
import time
import urllib.error
import urllib.request
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def wait_for(what, found, seconds, pause=0.2):
    """Waits until `found` gives something, and gives that."""
    deadline = time.monotonic() + seconds
    while True:
        answer = found()
        if answer:
            return answer
        if time.monotonic() > deadline:
            raise TimeoutError(f"waited {seconds} s for this: {what}")
        time.sleep(pause)


def request(url, body=None, headers=None, timeout=10):
    """The status and the text of a response."""
    asked = urllib.request.Request(url, data=body, headers=headers or {})
    try:
        with urllib.request.urlopen(asked, timeout=timeout) as response:
            return response.status, response.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


def answers(url):
    try:
        return request(url)[0] == 200
    except OSError:
        return False


class Program:
    """A process that runs until `stop`."""

    def __init__(self, folder, name, command, **options):
        self.name, self.log = name, Path(folder) / f"{name}.log"
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, **options)

    def said(self):
        return self.log.read_text(errors="replace")

    def check(self):
        if self.process.poll() is not None:
            raise RuntimeError(f"{self.name} has ended:\n{self.said()[-3000:]}")

    def wait_for(self, url, seconds=120):
        def is_there():
            self.check()
            return answers(url)

        wait_for(f"{self.name} answers at {url}", is_there, seconds)

    def stop(self, seconds=30):
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(seconds)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()


def children(pid):
    """The processes that a process has started, and theirs."""
    parents = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                # The name, in parentheses, may have spaces in it.
                parents[int(entry.name)] = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
            except (OSError, IndexError):
                continue
    found, open_ends = [], [pid]
    while open_ends:
        parent = open_ends.pop()
        more = [child for child, its_parent in parents.items() if its_parent == parent]
        found += more
        open_ends += more
    return found


def running(pid, word):
    """The descendant of a process whose command line has a word in it."""
    for child in children(pid):
        try:
            words = Path(f"/proc/{child}/cmdline").read_bytes().split(b"\0")
        except OSError:
            continue
        if any(word in each.decode(errors="replace") for each in words) and words[0].endswith(b"java"):
            return child
    return None


class Webhook:
    """Takes what an Alertmanager sends, and notes when."""

    def __init__(self):
        self.received, self._lock = [], threading.Lock()
        webhook = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self):
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                with webhook._lock:
                    webhook.received += [(time.time(), alert) for alert in body["alerts"]]
                self.send_response(200)
                self.end_headers()

            def log_message(self, *_):
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def first(self, alert, status, after=0.0):
        """The first notification of an alert with this status, and when it came."""
        with self._lock:
            found = [(at, each) for at, each in self.received
                     if at >= after and each["labels"]["alertname"] == alert and each["status"] == status]
        return found[0] if found else None

    def stop(self):
        self.server.shutdown()


class Load:
    """Requests as clients send them, good ones and bad ones, until `stop`."""

    def __init__(self, url):
        self.url, self.ended = url, threading.Event()
        self.threads = [threading.Thread(target=each, daemon=True) for each in (self._reads, self._posts, self._stream)]
        for thread in self.threads:
            thread.start()

    def stop(self):
        self.ended.set()
        for thread in self.threads:
            thread.join(15)

    def _repeat(self, pause, step):
        number = 0
        while not self.ended.wait(pause):
            number += 1
            try:
                step(number)
            except OSError:
                # Slow or not there, which is what some of this test is about.
                pass

    def _reads(self):
        routes = ["/v1/views", "/v1/views/hashtag_counts", "/v1/views/hashtag_counts/rows?hashtag=refold&limit=5", "/v1/sources",
                  "/readyz", "/v1/views/none_such"]
        self._repeat(0.1, lambda number: request(self.url + routes[number % len(routes)]))

    def _posts(self):
        def post(number):
            now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
            times = [now, now, "2100-01-01T00:00:00Z"]
            lines = [json.dumps({"userid": 1, "username": "watch", "timestamp": at, "tweetid": number, "tweet": "#refold"}) for at in times]
            request(f"{self.url}/v1/sources/tweets/events", "\n".join([*lines, "no event"]).encode(),
                    {"content-type": "application/x-ndjson"})

        self._repeat(0.5, post)

    def _stream(self):
        def follow(_):
            with urllib.request.urlopen(f"{self.url}/v1/views/hashtag_counts/live?hashtag=refold", timeout=5) as stream:
                while not self.ended.is_set() and stream.readline():
                    pass

        self._repeat(0.5, follow)


def freeze(pid):
    os.kill(pid, signal.SIGSTOP)


def thaw(pid):
    os.kill(pid, signal.SIGCONT)
