"""A webhook hears what it should, and can do no harm."""

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from fabfile.errors import BadInput
from fabfile.reports import webhook


class Hook:
    """A webhook on 127.0.0.1 that answers each request with the next of ``answers``."""

    def __init__(self):
        self.answers, self.heard, self.headers = [200], [], []
        hook = self
        self.go_on = threading.Event()

        class Answer(BaseHTTPRequestHandler):
            def do_POST(self):
                body = self.rfile.read(int(self.headers["Content-Length"]))
                hook.heard.append((self.path, json.loads(body)))
                hook.headers.append(dict(self.headers))
                answer = hook.answers.pop(0) if len(hook.answers) > 1 else hook.answers[0]
                if answer == "hang":
                    hook.go_on.wait(10)
                    return
                self.send_response(answer)
                self.send_header("Location", "/elsewhere")
                self.end_headers()

            def log_message(self, *_):
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Answer)
        self.server.daemon_threads = True
        threading.Thread(target=self.server.serve_forever, args=(0.01,), daemon=True).start()
        self.url = f"http://127.0.0.1:{self.server.server_port}/T0/secret?x=1"

    def close(self):
        self.go_on.set()
        self.server.shutdown()
        self.server.server_close()


@pytest.fixture
def hook():
    made = Hook()
    yield made
    made.close()


def post(hook):
    pauses = []
    why = webhook.post(hook.url, {"text": "CRITICAL: x"}, sleep=pauses.append)
    assert "secret" not in why
    assert "127.0.0.1" not in why
    return why


def test_a_message_is_posted_once_as_json(hook, monkeypatch):
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1/")
    assert post(hook) == ""
    assert hook.heard == [("/T0/secret?x=1", {"text": "CRITICAL: x"})]
    assert hook.headers[0]["Content-Type"] == "application/json"


def test_a_server_error_is_tried_once_more(hook):
    hook.answers = [500, 200]
    assert post(hook) == ""
    hook.answers = [503]
    assert post(hook) == "it answered 503"
    assert len(hook.heard) == 4


@pytest.mark.parametrize("status", [301, 400, 404, 410])
def test_a_refusal_is_final(hook, status):
    hook.answers = [status]
    assert post(hook) == f"it answered {status}"
    assert len(hook.heard) == 1


def test_a_webhook_that_hangs_is_given_up(hook, monkeypatch):
    monkeypatch.setattr(webhook, "DEADLINE", 0.2)
    hook.answers = ["hang"]
    assert post(hook) == "no answer within 0.2 s"


def test_a_webhook_that_is_not_there_is_one_word(hook):
    hook.close()
    assert post(hook) == "ConnectionRefusedError"


@pytest.mark.parametrize(
    "url", ["", "hooks.example/secret", "ftp://h/secret", "http://", "http://h:x/secret",
            "http://h/se cret", "http://h/secret\n", "http://[::1/secret"]
)  # fmt: skip
def test_what_is_no_url_is_refused_without_repeating_it(url):
    with pytest.raises(BadInput) as refused:
        webhook.url_of(url, "--notify")
    assert "secret" not in str(refused.value)


def test_a_url_may_stand_in_a_file(tmp_path):
    file = tmp_path / "hook"
    file.write_text("https://hooks.example/secret\n")
    assert webhook.url_of(f"@{file}", "--notify") == "https://hooks.example/secret"
    for text in ("", "secret\n"):
        file.write_text(text)
        with pytest.raises(BadInput) as refused:
            webhook.url_of(f"@{file}", "--notify")
        assert str(refused.value) == f"--notify: {file}: not an http:// or https:// URL"
    with pytest.raises(BadInput, match="No such file"):
        webhook.url_of(f"@{tmp_path}/none", "--notify")
