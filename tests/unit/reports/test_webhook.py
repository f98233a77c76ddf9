"""A webhook hears what it should, and can do no harm."""

import pytest

from fabfile.errors import BadInput
from fabfile.reports import webhook
from tests.unit.reports.hook import Hook


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
