"""What an operator gets wrong is one sentence that says what to do, with a stable exit code."""

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
import requests

from service import free_port, until

NOWHERE = {
    "GCE_METADATA_HOST": "127.0.0.1:9", "GCE_METADATA_ROOT": "127.0.0.1:9",
    "GCE_METADATA_IP": "127.0.0.1:9",
}
BACKENDS = {
    "pubsub": {"EVENTKIT_QUEUE_MODE": "pubsub"},
    "bucket": {"EVENTKIT_STORE_BUCKET": "gs://b"},
    "firestore": {"EVENTKIT_EVENT_STORE": "firestore"},
    "bigquery": {"EVENTKIT_STORE_BUCKET": "gs://b", "EVENTKIT_EVENT_STORE": "bigquery",
                 "GCP_BIGQUERY_DATASET": "d"},
}


@pytest.fixture(params=BACKENDS)
def google(request, service, tmp_path):
    """A service that uses one of Google's, on a machine that has no credentials."""
    service.data.mkdir()
    service.environment = NOWHERE | BACKENDS[request.param] | {
        "HOME": str(tmp_path), "GCP_PROJECT_ID": "p-1"}
    return service


def findings(service):
    done = service.run("check", "--json")
    found = json.loads(done.stdout)["findings"]
    # What its file system is, is not the matter.
    return done.returncode, [text for text in found if "credentials" in text]


@pytest.mark.parametrize("text, why", [
    (None, "No such file or directory (os error 2)"),
    ("{", "it is not JSON: EOF while parsing an object at line 1 column 1"),
    ('{"type": "key"}', "its type is \"key\", and not service_account, external_account, "
                        "impersonated_service_account or authorized_user"),
], ids=["missing", "not JSON", "no key"])
def test_a_bad_file_with_credentials_is_named_with_the_variable_and_exits_with_78(
    google, tmp_path, text, why
):
    key = tmp_path / "key.json"
    if text:
        key.write_text(text)
    google.environment["GOOGLE_APPLICATION_CREDENTIALS"] = str(key)
    sentence = (f"{key}, named by GOOGLE_APPLICATION_CREDENTIALS, can't be used as Google "
                f"credentials: {why}")
    assert findings(google) == (78, [sentence])
    done = google.run("run")
    assert done.returncode == 78 and f"eventkit: {sentence}\n" in done.stderr, done


def test_a_machine_without_credentials_is_told_the_ways_to_give_some(google):
    code, [found] = findings(google)
    assert code == 74
    assert found == (
        "no Google credentials were found: name a key file by google.credentials or "
        "GOOGLE_APPLICATION_CREDENTIALS, run `gcloud auth application-default login`, or give "
        "this machine a service account (this machine's metadata server: Connection refused "
        "(os error 111))")
    google.spawn()
    until("/ready says it", lambda: found in ready(google), every=0.2)


NAMES = {"pubsub": ("Cloud Pub/Sub", "pubsub"), "bucket": ("Cloud Storage", "storage"),
         "firestore": ("Cloud Firestore", "firestore"), "bigquery": ("BigQuery", "bigquery")}


class Disabled(BaseHTTPRequestHandler):
    """What Google answers where an API is not enabled, in any of its services."""

    def do_any(self):
        self.rfile.read(int(self.headers.get("content-length", 0)))
        text = ("The API has not been used in project p-1 before or it is disabled. Enable it by "
                "visiting https://console.developers.google.com/apis/api/ then retry." + " x" * 200)
        body = json.dumps({"error": {
            "code": 403, "message": text, "status": "PERMISSION_DENIED",
            "errors": [{"reason": "accessNotConfigured", "message": text}],
            "details": [{"@type": "type.googleapis.com/google.rpc.ErrorInfo",
                         "reason": "SERVICE_DISABLED", "domain": "googleapis.com"}]}}).encode()
        self.send_response(403)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    do_GET = do_PUT = do_POST = do_HEAD = do_any

    def log_message(self, *_):
        """The test says it."""


@pytest.mark.parametrize("backend", BACKENDS)
def test_an_api_that_is_not_enabled_is_told_with_the_command_for_it(service, backend):
    with ThreadingHTTPServer(("127.0.0.1", 0), Disabled) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        host = f"127.0.0.1:{server.server_port}"
        emulators = ("PUBSUB", "STORAGE", "FIRESTORE", "BIGQUERY")
        service.environment = NOWHERE | BACKENDS[backend] | {"GCP_PROJECT_ID": "p-1"} | {
            f"{name}_EMULATOR_HOST": host for name in emulators}
        title, name = NAMES[backend]
        sentence = (f"the {title} API is not enabled in project p-1: `gcloud services enable "
                    f"{name}.googleapis.com --project p-1`")
        checked = service.run("check")
        assert checked.returncode == 74 and f"finding: {sentence}\n" in checked.stdout, checked
        service.spawn()
        until("/ready says it", lambda: sentence in ready(service), every=0.2)
        server.shutdown()


def ready(service):
    """What /ready says; nothing while nobody listens."""
    assert service.process.poll() is None, service.log()
    try:
        return requests.get(f"{service.url}/ready", timeout=5).text
    except requests.ConnectionError:
        return ""


def test_check_and_config_know_the_role_as_run_does(service):
    service.configure('[google]\nproject = "p"\n[queue]\nmode = "pubsub"\n'
                      f'endpoint = "http://127.0.0.1:{free_port()}"\n'
                      '[warehouse]\nkind = "bigquery"\n')
    mistake = "warehouse.kind: it needs a warehouse.dataset"
    for role in ("process", "all"):
        for command in ("check", "config", "run"):
            done = service.run(command, "--role", role)
            assert done.returncode == 78 and mistake in done.stdout + done.stderr, (command, done)
    config = service.json("config", "--role", "collect")
    [role] = [line for line in config if line["key"] == "role"]
    assert (role["value"], role["origin"]) == ('"collect"', "--role")
    checked = service.run("check", "--role", "collect")
    assert checked.returncode == 74 and "emulator" in checked.stdout, checked


def test_who_only_collects_opens_no_store(service, tmp_path):
    # Neither is there, and neither is used.
    service.environment = {
        "EVENTKIT_ROLE": "collect", "EVENTKIT_QUEUE_MODE": "pubsub", "GCP_PROJECT_ID": "p",
        "EVENTKIT_STORE_BUCKET": "gs://b", "PUBSUB_EMULATOR_HOST": f"127.0.0.1:{free_port()}",
        "GOOGLE_APPLICATION_CREDENTIALS": str(tmp_path / "missing.json"),
    }
    service.spawn()
    until("it answers", lambda: "pubsub" in ready(service), every=0.1)
    service.collect({"userId": "u"})
    del service.environment["EVENTKIT_STORE_BUCKET"]
    service.kill()
    service.spawn()
    until("it answers", lambda: "pubsub" in ready(service), every=0.1)
    assert not service.lake.exists()


def test_a_mistake_elsewhere_keeps_nobody_from_looking_at_a_running_service(running):
    running.post("/v1/track", {"event": "no user"})
    running.configure('[warehouse]\nkind = "bigtable"\n[store]\nkid = "lake"\n')
    running.environment = {"GCP_PROJECT_ID": "not an id"}
    for command in (["flush"], ["status"], ["dlq", "list"], ["dlq", "show", 1], ["wal", "verify"],
                    ["wal", "inspect", "events"], ["wal", "damage"], ["ledger", "loads"],
                    ["dlq", "export", "--to", running.home / "letters"]):
        done = running.run(*command)
        if command[0] == "ledger":
            assert (done.returncode, "warehouse" in done.stderr) == (1, True), done
        else:
            assert done.returncode == 0, (command, done)
        assert 'warning: ' in done.stderr and '"bigtable" is not' in done.stderr, done
    for command in (["check"], ["config"], ["run"], ["dlq", "export"]):
        assert running.run(*command).returncode == 78, command
    running.configure("admin_socket = 3\n")
    done = running.run("status")
    assert done.returncode == 78 and "admin_socket: must be a path" in done.stderr, done


def test_what_can_not_be_replayed_is_told_with_the_reason(running):
    assert running.post("/collect", b"{no").status_code == 400
    running.post("/v1/track", {"event": "no user"})
    running.flush()
    [malformed] = running.letters("--reason", "malformed_json")
    done = running.run("dlq", "replay", malformed["id"])
    assert done.returncode == 1, done
    assert "0 in the log again, 1 refused: what is not JSON, too large, not ours or" in done.stdout
    assert "open as before: 1 of these letters" in done.stderr
    done = running.run("dlq", "list", "--phase", "parsing")
    known = "--phase \"parsing\" is none of parse, validate, adapt, dedupe, store, load"
    assert done.returncode == 64 and known in done.stderr, done
    both = running.run("dlq", "replay", "--since", "1h", "--json")
    replayed = json.loads(both.stdout)
    assert (replayed["replayed"], replayed["refused"], both.returncode) == (1, 1, 1), replayed
