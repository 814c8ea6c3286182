"""What a machine left in the lake that is gone with its disk lands in BigQuery too, once."""

import shutil
import subprocess
import time

from service import BINARY, clean_environment, until
from test_bigquery import loader, send, warehouse  # noqa: F401 - fixtures

DAY_S = 86_400


def command(*more):
    """Of all that was received, whatever the hour."""
    since = f"{time.time() - DAY_S:.0f}"
    return ["ledger", "load-orphans", "--since", since, "--until", "2100-01-01T00:00:00Z", *more]


def test_what_a_lost_disk_had_not_loaded_yet_is_loaded_once(loader, warehouse, bigquery):  # noqa: F811
    warehouse.create()
    loader.start()
    send(loader, 0, 300)
    loader.flush()
    until("the first are loaded", lambda: warehouse.counts() == (300, 300), every=0.2)
    bigquery.fault(method="POST", path="/jobs", action="status", status=503, count=-1)
    send(loader, 300, 500)
    send(loader, 0, 200, stream="pages")
    loader.flush()
    loader.kill()
    shutil.rmtree(loader.data)
    bigquery.heal()
    listed = loader.json(*command())
    rows = {log["stream"]: log["rows"] for log in listed["orphans"]}
    assert rows == {"events": 500, "pages": 200} and listed["loads"] == []
    assert warehouse.counts() == (300, 300), "to list is not to load"

    # A command that is killed leaves jobs that the next one knows.
    bigquery.fault(method="POST", path="/jobs", action="late-reply", seconds=60)
    words = [BINARY, *loader.options(), *command("--load")]
    killed = subprocess.Popen(words, env=clean_environment())
    until("a job is there", bigquery.hit)
    killed.kill()
    killed.wait()
    bigquery.heal()
    loaded = loader.json(*command("--load"))
    assert {load["state"] for load in loaded["loads"]} <= {"loaded"}
    assert warehouse.counts() == (800, 800) and warehouse.counts("pages") == (200, 200)
    assert loader.json(*command("--load"))["orphans"] == []
    assert not loader.data.exists(), "it needs no data directory"


def test_where_no_job_of_any_object_is_seen_nothing_is_loaded_unasked(loader, warehouse, bigquery):  # noqa: F811
    warehouse.create()
    bigquery.fault(method="POST", path="/jobs", action="status", status=503, count=-1)
    loader.start()
    send(loader, 0, 10)
    loader.flush()
    loader.kill()
    bigquery.heal()
    refused = loader.run(*command("--load"))
    assert refused.returncode == 1
    assert "no job has any of the 1 objects of that time" in refused.stderr
    assert warehouse.counts() == (0, 0)
    loader.json(*command("--load", "--even-all"))
    assert warehouse.counts() == (10, 10)


def test_a_dataset_that_is_not_there_is_told_at_once(loader, warehouse):  # noqa: F811
    for more in ([], ["--load"]):
        refused = loader.run(*command(*more))
        assert refused.returncode == 74
        assert f"there is no dataset {warehouse.name}" in refused.stderr
