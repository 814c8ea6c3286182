"""What is in the lake lands in BigQuery once: whatever crashes, is lost on the way, or is refused.

Against an emulator whose load jobs land whole or not at all, behind a proxy that refuses job ids
that it knows, as the service does (emulators/).
"""

import json
import os
import random
import re
import shutil
from pathlib import Path

import pytest
import requests

from service import assert_readme_says, until
from test_bucket import COST_EVENTS, send_traffic, traffic
from test_clock import Clock
from test_console import Terminal, console

BATCH = 1000
EVENTS = int(os.environ.get("EVENTKIT_WAREHOUSE_EVENTS") or 100_000)
ROUNDS = 3
README = (Path(__file__).parents[2] / "README.md").read_text()


class Warehouse:
    """A dataset of the test's own, and what is in it."""

    def __init__(self, bigquery, name):
        self.bigquery, self.name = bigquery, name
        self.url = f"{bigquery.endpoint}/bigquery/v2/projects/{bigquery.project}"

    def create(self):
        reference = {"projectId": self.bigquery.project, "datasetId": self.name}
        body = {"datasetReference": reference, "location": "US"}
        requests.post(f"{self.url}/datasets", json=body, timeout=60).raise_for_status()
        return self

    def query(self, sql):
        body = {"query": sql, "useLegacySql": False, "timeoutMs": 60000}
        answer = requests.post(f"{self.url}/queries", json=body, timeout=60).json()
        assert not answer.get("errors") and "error" not in answer, answer
        return [[cell["v"] for cell in row["f"]] for row in answer.get("rows", [])]

    def table(self, name="events"):
        # No fault of a service's calls, which have no such query, is meant for this one.
        url = f"{self.url}/datasets/{self.name}/tables/{name}?by=test"
        return requests.get(url, timeout=60).json()

    def job(self, load):
        """The job of a load's attempt; None where there is none."""
        job = f"eventkit_{self.name}_{load['id']}_a{load['attempt']}"
        answer = requests.get(f"{self.url}/jobs/{job}", timeout=60)
        return None if answer.status_code == 404 else answer.json()

    def counts(self, table="events"):
        """Rows, and different message ids."""
        if "schema" not in self.table(table):
            return 0, 0
        sql = f"select count(*), count(distinct message_id) from {self.name}.{table}"
        return tuple(int(count) for count in self.query(sql)[0])


@pytest.fixture
def warehouse(bigquery, gcs, request):
    gcs.heal()
    bigquery.heal()
    name = "d_" + re.sub(r"\W+", "_", request.node.name.removeprefix("test_"))[-60:]
    return Warehouse(bigquery, name)


@pytest.fixture
def loader(make_service, tmp_path, gcs, bigquery, warehouse):
    """A service that loads into the warehouse, not started."""
    service = make_service(tmp_path / "s")
    service.configure(
        f"""
        [google]
        project = "{bigquery.project}"
        [store]
        bucket = "gs://{gcs.bucket}"
        prefix = "{warehouse.name}"
        endpoint = "{gcs.endpoint}"
        [load]
        age_max = "200ms"
        [warehouse]
        kind = "bigquery"
        dataset = "{warehouse.name}"
        endpoint = "{bigquery.endpoint}"
        interval = "300ms"
        """
    )
    return service


def send(service, first, count, stream="events"):
    """Events with the ids of that range, until each is acknowledged."""
    for start in range(first, first + count, BATCH):
        ids = range(start, min(start + BATCH, first + count))
        events = [
            {"messageId": f"m{n}", "type": "track", "event": "Clicked", "userId": f"u{n % 97}",
             "properties": {"n": n}}
            for n in ids
        ]
        url = f"{service.url}/collect/{stream}"
        requests.post(url, json=events, timeout=60).raise_for_status()


def loads(service, *options):
    return service.json("ledger", "loads", *options)


def until_loaded(warehouse, count, seconds=120, table="events"):
    loaded = lambda: warehouse.counts(table)[0] >= count  # noqa: E731
    until(f"{count} rows in BigQuery's {table}", loaded, seconds, every=0.3)
    assert warehouse.counts(table) == (count, count)


def test_a_table_is_made_with_the_lakes_columns_and_widened(loader, warehouse):
    warehouse.create()
    table = {
        "tableReference": {
            "projectId": warehouse.bigquery.project, "datasetId": warehouse.name, "tableId": "pages",
        },
        "schema": {"fields": [{"name": "message_id", "type": "STRING"}, {"name": "own", "type": "DATE"}]},
    }
    made = requests.post(f"{warehouse.url}/datasets/{warehouse.name}/tables", json=table, timeout=60)
    made.raise_for_status()
    loader.start()
    send(loader, 0, 10)
    page = {"messageId": "p1", "type": "page", "name": "Home", "userId": "u1"}
    requests.post(f"{loader.url}/collect/pages", json=page, timeout=60).raise_for_status()
    until_loaded(warehouse, 10)
    until("the page in BigQuery", lambda: warehouse.counts("pages") == (1, 1))
    table = warehouse.table()
    assert table["timePartitioning"] == {"type": "DAY", "field": "received_at"}
    assert table["clustering"] == {"fields": ["user_id"]}
    types = {field["name"]: field["type"] for field in table["schema"]["fields"]}
    assert len(types) == 23 and types["timestamp"] == "TIMESTAMP" and types["extra"] == "STRING"
    widened = [field["name"] for field in warehouse.table("pages")["schema"]["fields"]]
    assert widened[:2] == ["message_id", "own"] and len(widened) == 24
    sql = f"select json_value(properties, '$.n') from {warehouse.name}.events where message_id = 'm7'"
    assert warehouse.query(sql) == [["7"]]
    view = README.split("```sql\ncreate view")[1].split("```")[0].replace("events.web", f"{warehouse.name}.events")
    warehouse.query(f"create view{view}")
    sql = f"select int64(properties.n) from {warehouse.name}.events_json where message_id = 'm7'"
    assert warehouse.query(sql) == [["7"]]
    status = requests.get(loader.metrics_url, timeout=10).text
    assert 'eventkit_loads_total{outcome="loaded"}' in status


STALL, DONE = {"action": "stall", "seconds": 2}, {"action": "late-reply", "seconds": 2}
PUT = ("gcs", {"method": "PUT", "path": "parquet"})
TABLE = ("bigquery", {"method": "GET", "path": "/tables/events"})
SUBMIT = ("bigquery", {"method": "POST", "path": "/jobs$"})
POLL = ("bigquery", {"method": "GET", "path": "/jobs/eventkit"})
RECALL = ("bigquery", {"method": "GET", "path": r"/jobs\?"})
POLL_AGAIN = {"skip": 1}
# Where the service is killed: the call for whose answer it waits, and whether that was done.
STEPS = {
    "planned, not put": [(*PUT, STALL)],
    "put, not committed": [(*PUT, DONE)],
    "committed, no table looked at": [(*TABLE, STALL)],
    "a load planned, not asked for": [(*POLL, STALL)],
    "a load not submitted": [(*SUBMIT, STALL)],
    "a load submitted, no answer": [(*SUBMIT, DONE)],
    "a load submitted, not polled": [(*POLL, STALL | POLL_AGAIN)],
    "a load polled, no answer": [(*POLL, DONE | POLL_AGAIN)],
    "in doubt after a crash, not asked for": [(*PUT, DONE), (*RECALL, STALL)],
}


def test_a_hundred_thousand_events_land_once_with_a_kill_between_any_two_steps(
    loader, warehouse, gcs, bigquery, dice, tell
):
    warehouse.create()
    services = {"gcs": gcs, "bigquery": bigquery}
    steps = [step for _ in range(ROUNDS) for step in dice.sample(list(STEPS), len(STEPS))]
    share = EVENTS // (len(steps) + 1)
    for n, step in enumerate(steps):
        for kill, (name, call, how) in enumerate(STEPS[step]):
            # Before the start: what it finds unfinished it does at once.
            services[name].fault(**call, **how)
            loader.start()
            if kill == 0:
                send(loader, n * share, share)
            until(step, services[name].hit)
            loader.kill()
            services[name].heal()
    loader.start()
    send(loader, len(steps) * share, EVENTS - len(steps) * share)
    until_loaded(warehouse, EVENTS)
    until("every load is known as loaded", lambda: all(l["state"] == "loaded" for l in loads(loader, "--limit", "1000")))
    found = loads(loader, "--limit", "1000")
    assert sum(load["rows"] for load in found) == EVENTS
    tell(f"{EVENTS} rows in {len(found)} loads, {len(steps)} kills")


def test_what_the_service_refuses_loses_or_forgets_to_answer_doubles_nothing(
    loader, warehouse, bigquery
):
    warehouse.create()
    error = {"error": {"code": 503, "message": "try again", "errors": [{"reason": "backendError"}]}}
    rate = {"error": {"code": 403, "message": "slow", "errors": [{"reason": "rateLimitExceeded"}]}}
    refusals = [(503, error), (429, {}), (403, rate), (500, {})]
    faults = [{"action": "status", "status": status, "reply": json.dumps(reply)}
              for status, reply in refusals]
    faults += [{"action": "drop-before"}, {"action": "drop-reply"}]
    # The service waits half a minute for an answer.
    faults += [{"action": "late-reply", "seconds": 32}]
    # A table for each, so that their waits pass at the same time.
    tables = {f"table_{n}": fault for n, fault in enumerate(faults)}
    for table, fault in tables.items():
        bigquery.fault(method="POST", path="/jobs$", body=table, **fault)
    loader.start()
    for n, table in enumerate(tables):
        send(loader, n * 500, 500, table)
    for table in tables:
        until_loaded(warehouse, 500, 240, table)
    assert all(rule["hits"] for rule in bigquery.heal()), "each was met"
    for n, table in enumerate(tables):
        send(loader, 10_000 + n * 100, 100, table)
    for table in tables:
        until_loaded(warehouse, 600, 240, table)
    done = lambda: all(load["state"] == "loaded" for load in loads(loader))  # noqa: E731
    until("every load is known as loaded", done)
    assert all(load["attempt"] == 1 for load in loads(loader)), "a refused id stays free"


def not_found(what):
    error = {"code": 404, "message": f"Not found: {what}", "errors": [{"reason": "notFound"}]}
    return {"action": "status", "status": 404, "reply": json.dumps({"error": error})}


def test_a_job_that_is_there_already_is_followed_and_not_loaded_again(loader, warehouse, bigquery):
    warehouse.create()
    bigquery.forget()
    # Its insertion is done and not answered, and whoever asks for it then is told too soon.
    bigquery.fault(method="POST", path="/jobs$", action="drop-reply")
    bigquery.fault(**POLL[1], **POLL_AGAIN, **not_found("Job"))
    loader.start()
    send(loader, 0, 500)
    until_loaded(warehouse, 500)
    until("it is known as loaded", lambda: [load["state"] for load in loads(loader)] == ["loaded"])
    assert [rule["hits"] for rule in bigquery.heal()] == [1, 1]
    [inserts] = [calls["status"] for kind, calls in bigquery.asked().items()
                 if kind.startswith("POST ") and kind.endswith("/jobs")]
    # What an earlier test's service had asked may be answered only now.
    assert inserts["409"] == 1
    assert loads(loader)[0]["attempt"] == 1 and warehouse.counts() == (500, 500)


def test_a_call_that_is_refused_for_now_is_made_again_and_doubles_nothing(
    loader, warehouse, bigquery
):
    warehouse.create()
    tables = []
    for n, status in enumerate((429, 500, 503)):
        made, narrow = f"made_{n}", f"narrow_{n}"
        tables += [made, narrow]
        reference = {"projectId": bigquery.project, "datasetId": warehouse.name, "tableId": narrow}
        schema = {"fields": [{"name": "message_id", "type": "STRING"}]}
        table = {"tableReference": reference, "schema": schema}
        url = f"{warehouse.url}/datasets/{warehouse.name}/tables"
        requests.post(url, json=table, timeout=60).raise_for_status()
        for call in (
            {"method": "POST", "path": "/tables$", "body": made},
            {"method": "PATCH", "path": f"/tables/{narrow}"},
            {"method": "GET", "path": f"/tables/{narrow}$"},
            {"method": "GET", "path": f"/tables/{made}$", "skip": 1},
            # Once before there is a job, once when there is.
            POLL[1],
            POLL[1] | {"skip": 6},
            RECALL[1],
        ):
            bigquery.fault(**call, action="status", status=status)
    loader.start()
    for n, table in enumerate(tables):
        send(loader, n * 500, 500, table)
    for table in tables:
        until_loaded(warehouse, 500, table=table)
    loader.kill()
    # Now it asks for all jobs.
    for file in loader.data.glob("ledger.db*"):
        file.unlink()
    loader.start()
    for n, table in enumerate(tables):
        send(loader, 10_000 + n * 100, 100, table)
    for table in tables:
        until_loaded(warehouse, 600, table=table)
    until("nothing waits", lambda: loader.status()["warehouse"]["waiting_objects"] == 0)
    for table in tables:
        assert warehouse.counts(table) == (600, 600)
    assert [rule for rule in bigquery.heal() if not rule["hits"]] == []
    assert all((load["state"], load["attempt"]) == ("loaded", 1) for load in loads(loader))


def test_one_corrupted_file_stands_alone_and_can_be_retried(loader, warehouse, gcs, bigquery):
    warehouse.create()
    bigquery.fault(method="POST", path="/jobs$", action="status", status=503, count=-1)
    loader.start()
    files = lambda: sorted((gcs.directory / warehouse.name).rglob("*.parquet"))  # noqa: E731
    for part in range(6):
        send(loader, part * 500, 500)
        until("another object", lambda part=part: len(files()) > part)
    bad = files()[3]
    whole = bad.read_bytes()
    bad.write_bytes(b"no Parquet at all")
    bigquery.heal()
    until("the rest in BigQuery", lambda: warehouse.counts()[0] >= 2500, 120, every=0.3)
    failed = until("a failed load", lambda: loads(loader, "--state", "failed"))
    assert warehouse.counts() == (2500, 2500)
    assert len(failed) == 1 and failed[0]["objects"] == 1 and failed[0]["rows"] == 500
    assert bad.name in failed[0]["object"] and failed[0]["error"]
    found = lambda: [f["text"] for f in loader.status()["findings"]]  # noqa: E731
    until("the finding", lambda: any("a load failed for good" in text for text in found()))
    again = loader.json("ledger", "retry-load", failed[0]["id"])
    assert again["attempt"] == 2
    until("it fails again", lambda: loads(loader, "--state", "failed"))
    bad.write_bytes(whole)
    retry_in_console(loader)
    until_loaded(warehouse, 3000)
    assert loads(loader, "--state", "failed") == []
    assert next(load["attempt"] for load in loads(loader) if load["id"] == failed[0]["id"]) == 3


def retry_in_console(service):
    """Of the load that failed, which stands first."""
    terminal = Terminal(120, 40)
    try:
        terminal.line(console(service))
        terminal.sees("6 Loads")
        terminal.keys("6")
        terminal.sees("Loads into bigquery")
        terminal.sees("1 failed")
        terminal.keys("R")
        terminal.sees("1 object into events")
        terminal.keys("Tab", "Enter")
        terminal.sees("is open again: attempt 3")
    finally:
        terminal.close()


def readiness(service):
    """The status of /ready, and its line of the warehouse."""
    answer = requests.get(f"{service.url}/ready", timeout=10)
    found = answer.json()["dependencies"]
    return answer.status_code, next(line for line in found if line["name"] == "bigquery")


def test_loads_whose_objects_were_deleted_are_dismissed_and_stay_so(
        loader, warehouse, gcs, bigquery):
    warehouse.create()
    bigquery.fault(method="POST", path="/jobs$", action="status", status=503, count=-1)
    loader.start()
    files = lambda: sorted((gcs.directory / warehouse.name).rglob("*.parquet"))  # noqa: E731
    for part in range(4):
        send(loader, part * 100, 100)
        until("another object", lambda part=part: len(files()) > part)
    deleted = files()[:2]
    [file.write_bytes(b"no Parquet at all") for file in deleted]
    bigquery.heal()
    failed = lambda: loads(loader, "--state", "failed")  # noqa: E731
    until("two failed loads", lambda: len(failed()) == 2, 120, every=0.3)
    until("/ready counts them", lambda: "2 loads failed for good" in readiness(loader)[1]["detail"])
    status, line = readiness(loader)
    assert (status, line["ok"]) == (200, True) and "ledger loads --state failed" in line["detail"]
    [file.unlink() for file in deleted]
    first, second = failed()
    done = loader.json("ledger", "dismiss-load", second["id"])
    assert (done["id"], done["state"]) == (second["id"], "dismissed")
    again = loader.run("ledger", "dismiss-load", second["id"])
    assert again.returncode == 1 and "no load" in again.stderr, again
    dismiss_in_console(loader, first)
    until("nothing has failed", lambda: failed() == [])
    gone = lambda: "failed" not in readiness(loader)[1]["detail"]  # noqa: E731
    until("/ready forgets them", gone)
    found = lambda: [f["text"] for f in loader.status()["findings"]]  # noqa: E731
    until("no finding is left", lambda: not any("for good" in text for text in found()))
    loader.kill()
    loader.start()
    until_loaded(warehouse, 200)
    send(loader, 400, 100)
    until_loaded(warehouse, 300)
    dismissed = loads(loader, "--state", "dismissed")
    assert {load["id"] for load in dismissed} == {first["id"], second["id"]}
    assert all(load["error"] and load["changed_at"] > load["planned_at"] for load in dismissed)


def dismiss_in_console(service, load):
    """Of two loads, one of which was dismissed, the other."""
    terminal = Terminal(80, 24)
    try:
        terminal.line(console(service))
        terminal.sees("6 Loads")
        terminal.keys("6")
        terminal.sees("1 failed")
        terminal.sees(load["id"])
        terminal.keys("D")
        terminal.sees("1 object into events")
        terminal.keys("Tab", "Enter")
        terminal.sees("is dismissed")
    finally:
        terminal.close()


def test_an_older_ledgers_retry_loads_nothing_twice(loader, warehouse, gcs, bigquery):
    """Attempt 1 fails and the ledger is copied; 2 is refused without a job, and 3 lands."""
    warehouse.create()
    bigquery.fault(method="POST", path="/jobs$", action="status", status=503, count=-1)
    loader.start()
    files = lambda: sorted((gcs.directory / warehouse.name).rglob("*.parquet"))  # noqa: E731
    for part in range(2):
        send(loader, part * 100, 100)
        until("another object", lambda part=part: len(files()) > part)
    bad = files()[0]
    whole = bad.read_bytes()
    bad.write_bytes(b"no Parquet at all")
    bigquery.heal()
    until_loaded(warehouse, 100)
    failed = until("a failed load", lambda: loads(loader, "--state", "failed"))[0]
    loader.terminate()
    copy = loader.data / "copy"
    copy.mkdir()
    ledger = lambda: list(loader.data.glob("ledger.db*"))  # noqa: E731
    [shutil.copy2(file, copy) for file in ledger()]
    loader.start()
    gone = f"Not found: URI gs://{gcs.bucket}/{failed['object']}"
    error = {"error": {"code": 404, "message": gone, "errors": [{"reason": "notFound"}]}}
    bigquery.fault(
        method="POST", path="/jobs$", action="status", status=404, reply=json.dumps(error))
    loader.json("ledger", "retry-load", failed["id"])
    refused = until("a refusal", lambda: [
        load for load in loads(loader, "--state", "failed") if load["attempt"] == 2])[0]
    assert warehouse.job(refused) is None, "its id is not used up"
    bad.write_bytes(whole)
    loader.json("ledger", "retry-load", failed["id"])
    until_loaded(warehouse, 200)
    until("it is known", lambda: loads(loader, "--state", "failed") == [])
    loader.terminate()
    [file.unlink() for file in ledger()]
    [shutil.copy2(file, loader.data) for file in copy.iterdir()]
    loader.start()
    loader.json("ledger", "retry-load", failed["id"])
    done = until("its end", lambda: [
        load for load in loads(loader) if load["id"] == failed["id"] and load["state"] == "loaded"])
    assert done[0]["attempt"] == 3 and warehouse.counts() == (200, 200)


def test_a_ledger_that_is_deleted_knows_again_which_loads_failed(loader, warehouse, gcs, bigquery):
    warehouse.create()
    bigquery.fault(method="POST", path="/jobs$", action="status", status=503, count=-1)
    loader.start()
    files = lambda: sorted((gcs.directory / warehouse.name).rglob("*.parquet"))  # noqa: E731
    for part in range(4):
        send(loader, part * 100, 100)
        until("another object", lambda part=part: len(files()) > part)
    bad = files()[1]
    whole = bad.read_bytes()
    # Its footer is whole: the lake counts it as stored.
    bad.write_bytes(whole[:4] + bytes(400) + whole[404:])
    bigquery.heal()
    until_loaded(warehouse, 300)
    until("a failed load", lambda: loads(loader, "--state", "failed"))
    loader.kill()
    [file.unlink() for file in loader.data.glob("ledger.db*")]
    loader.start()
    failed = until("it fails again", lambda: loads(loader, "--state", "failed"), 60)
    assert len(failed) == 1 and bad.name in failed[0]["object"]
    bad.write_bytes(whole)
    loader.json("ledger", "retry-load", failed[0]["id"])
    until_loaded(warehouse, 400)
    until("nothing waits", lambda: loader.status()["warehouse"]["waiting_objects"] == 0)
    assert warehouse.counts() == (400, 400)


def test_a_ledger_that_is_deleted_loads_nothing_twice(loader, warehouse):
    warehouse.create()
    loader.start()
    for first in range(0, 5000, 200):
        send(loader, first, 200)
        until_loaded(warehouse, first + 200)
    assert len(loads(loader)) > 20, "a listing of the jobs has several pages"
    loader.kill()
    for file in loader.data.glob("ledger.db*"):
        file.unlink()
    loader.start()
    send(loader, 5000, 2000)
    until_loaded(warehouse, 7000)
    until("nothing waits", lambda: loader.status()["warehouse"]["waiting_objects"] == 0)
    assert warehouse.counts() == (7000, 7000)


@pytest.mark.needs("faketime")
def test_what_came_under_a_clock_that_was_ahead_is_loaded_once_without_its_ledger(
        loader, warehouse):
    warehouse.create()
    environment = loader.environment
    clock = Clock(loader)
    loader.environment |= environment
    clock.set("+2y")
    loader.start()
    for first in range(0, 300, 100):
        send(loader, first, 100)
        until_loaded(warehouse, first + 100)
    until("each is known", lambda: [load["state"] for load in loads(loader)] == ["loaded"] * 3)
    loader.terminate()
    for file in loader.data.glob("ledger.db*"):
        file.unlink()
    clock.set("+0")
    loader.start()
    send(loader, 300, 100)
    until("all are loaded", lambda: warehouse.counts()[1] == 400)
    until("nothing waits", lambda: loader.status()["warehouse"]["waiting_objects"] == 0)
    assert warehouse.counts() == (400, 400)


def test_a_dataset_that_is_not_there_is_one_sentence_until_it_is(loader, warehouse, bigquery):
    loader.start()
    send(loader, 0, 10)
    sentence = f"there is no dataset {warehouse.name} in project {bigquery.project} (location US)"
    finding = lambda: [f["text"] for f in loader.status()["findings"] if sentence in f["text"]]  # noqa: E731
    until("the finding", finding)
    checked = loader.run("check")
    assert sentence in checked.stdout, checked
    status, said = readiness(loader)
    assert (status, said["ok"]) == (200, False) and sentence in said["detail"], said
    line = "warehouse bigquery: 0 events in 0 loads, 1 objects"
    until("what waits", lambda: line in loader.cli("status"))
    warehouse.create()
    until_loaded(warehouse, 10)
    until("nothing to find", lambda: not finding())


def refusal(status, reason, message):
    """An answer as the service gives it."""
    error = {"message": message, "domain": "global", "reason": reason}
    whole = {"error": {"code": status, "message": message, "errors": [error]}}
    return {"action": "status", "status": status, "reply": json.dumps(whole), "count": -1}


@pytest.mark.parametrize(
    "answer, sentence",
    [
        (
            refusal(403, "accessDenied", "Access Denied: Dataset p:d: Permission "
                    "bigquery.datasets.get denied on dataset p:d"),
            "the credentials have no permission for {project}.{name}: Access Denied",
        ),
        (
            refusal(403, "accessNotConfigured", "BigQuery API has not been used in project 12 "
                    "before or it is disabled."),
            "the BigQuery API is not enabled in project {project}: `gcloud services enable"
            " bigquery.googleapis.com --project {project}`",
        ),
        (refusal(404, "notFound", "Not found: Project p"), "there is no project {project}: Not"),
        (
            refusal(401, "authError", "Request had invalid authentication credentials."),
            "BigQuery does not accept the credentials: Request",
        ),
        (
            {"action": "status", "status": 200, "reply": '{"location": "EU"}', "count": -1},
            "dataset {name} of project {project} is in EU, and warehouse.location is US",
        ),
        ({"action": "status", "status": 502, "reply": "<html>\n</html>", "count": -1}, "BigQuery: <html>"),
        ({"action": "drop-before", "count": -1}, "no answer from BigQuery at http://127.0.0.1:"),
    ],
    ids=["permission", "api", "project", "credentials", "location", "gateway", "reset"],
)
def test_what_keeps_it_from_being_used_is_one_sentence_everywhere(
    loader, warehouse, bigquery, answer, sentence
):
    warehouse.create()
    bigquery.fault(method="GET", path=f"/datasets/{warehouse.name}$", **answer)
    sentence = sentence.format(project=bigquery.project, name=warehouse.name)
    checked = loader.run("check", "--json")
    found = json.loads(checked.stdout)["findings"]
    said = [text for text in found if sentence in text]
    assert len(said) == 1 and "\n" not in said[0] and checked.returncode, checked
    loader.start()
    until("the finding", lambda: any(sentence in f["text"] for f in loader.status()["findings"]))
    status, said = readiness(loader)
    assert (status, said["ok"]) == (200, False) and sentence in said["detail"], said
    bigquery.heal()


def test_what_a_million_events_cost_is_what_the_readme_says(loader, warehouse, bigquery, tell):
    warehouse.create()
    settings = loader.config.read_text()
    loader.configure(settings.replace('age_max = "200ms"', "").replace("300ms", "1s"))
    loader.start()
    noise = random.Random(1)
    send_traffic(loader, traffic(noise, range(100)))
    loader.flush()
    until("the first are loaded", lambda: counted(loader)["events"] == 100, every=0.2)
    # What is asked once, when a table is new, is not counted.
    bigquery.forget()
    before = counted(loader)
    send_traffic(loader, traffic(noise, range(COST_EVENTS)))
    loader.flush()
    total = COST_EVENTS + 100
    until("all are loaded", lambda: counted(loader)["events"] == total, 120, every=0.2)
    done = {name: value - before[name] for name, value in counted(loader).items()}
    calls = sum(call["count"] for kind, call in bigquery.asked().items() if "/jobs" in kind)
    million = 1_000_000 / COST_EVENTS
    found = {
        "files loaded": done["files"] * million,
        "bytes loaded": done["bytes"] * million / 1e6,
        "calls for each load": calls / done["loads"],
    }
    tell(f"per million events: {found}; {done}")
    assert_readme_says(found, __file__)


def counted(service):
    """The service's own counters."""
    found = service.metrics()
    return {
        "loads": found["eventkit_loads_total"]['{outcome="loaded"}'],
        "events": found["eventkit_loaded_events_total"][""],
        "bytes": found["eventkit_loaded_bytes_total"][""],
        "files": sum(load["objects"] for load in loads(service, "--limit", "1000")),
    }
