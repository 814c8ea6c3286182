"""The stand-ins behave as the services do, in what the other tests rely on."""

import subprocess

import pytest
import requests

import emulators

ONLY_NEW = {"x-goog-if-generation-match": "0"}
OWNER = {"Authorization": "Bearer owner"}


def test_cloud_storage_creates_an_object_once(gcs):
    url = f"{gcs.endpoint}/{gcs.bucket}/a/b"
    assert requests.put(url, b"one", headers=ONLY_NEW, timeout=10).status_code == 200
    again = requests.put(url, b"two", headers=ONLY_NEW, timeout=10)
    assert again.status_code == 412 and "<Code>PreconditionFailed</Code>" in again.text
    assert (gcs.directory / "a/b").read_bytes() == b"one"
    assert requests.get(url, headers={"Range": "bytes=1-"}, timeout=10).content == b"ne"


def test_cloud_storage_loses_a_reply_when_it_is_told_to(gcs):
    gcs.fault(method="PUT", path="lost", action="drop-reply")
    with pytest.raises(requests.ConnectionError):
        requests.put(f"{gcs.endpoint}/{gcs.bucket}/lost", b"x", timeout=10)
    assert (gcs.directory / "lost").exists()
    assert [rule["hits"] for rule in gcs.heal()] == [1]


def test_s3_serves_what_was_put(s3, tmp_path):
    requests.get(s3.endpoint, timeout=10)
    s3.download(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_bigquery_refuses_a_job_id_that_it_knows(bigquery):
    project = f"{bigquery.endpoint}/bigquery/v2/projects/{bigquery.project}"
    dataset = {"datasetReference": {"projectId": bigquery.project, "datasetId": "d"}}
    assert requests.post(f"{project}/datasets", json=dataset, timeout=30).status_code == 200
    job = {
        "jobReference": {"projectId": bigquery.project, "jobId": "one", "location": "US"},
        "configuration": {"query": {"query": "select 1", "useLegacySql": False}},
    }
    assert requests.post(f"{project}/jobs", json=job, timeout=30).status_code == 200
    again = requests.post(f"{project}/jobs", json=job, timeout=30)
    assert again.status_code == 409
    assert again.json()["error"]["errors"][0]["reason"] == "duplicate"


def test_firestore_keeps_a_document(firestore):
    documents = f"projects/{firestore.project}/databases/(default)/documents"
    write = {"update": {"name": f"{documents}/c/one", "fields": {"a": {"stringValue": "x"}}}}
    url = f"http://{firestore.host}/v1/{documents}"
    answer = requests.post(f"{url}:batchWrite", json={"writes": [write]}, headers=OWNER, timeout=30)
    assert answer.json()["status"] == [{}]
    found = requests.get(f"{url}/c/one", headers=OWNER, timeout=30).json()
    assert found["fields"] == {"a": {"stringValue": "x"}}


def test_pubsub_has_topics(pubsub):
    url = f"http://{pubsub.host}/v1/projects/{pubsub.project}/topics/events"
    assert requests.put(url, json={}, timeout=30).status_code == 200
    assert requests.put(url, json={}, timeout=30).status_code == 409


# A call of gRPC with Google's own library, which is not among the tests' packages: the bytes are
# a ListTopicsRequest.
CALL = """
import grpc, sys
host, project = sys.argv[1:]
call = grpc.insecure_channel(host).unary_unary("/google.pubsub.v1.Publisher/ListTopics")
name = f"projects/{project}".encode()
try:
    print(call(bytes([10, len(name)]) + name, timeout=20))
except grpc.RpcError as error:
    print(error.code().name)
"""


def list_topics(pubsub):
    python = emulators.VENV / "bin/python"
    done = subprocess.run([python, "-c", CALL, pubsub.host, pubsub.project], capture_output=True,
                          text=True, timeout=60, check=True)
    return done.stdout.strip()


def test_a_call_of_grpc_fails_as_it_is_told_to(pubsub):
    url = f"http://{pubsub.host}/v1/projects/{pubsub.project}/topics/called"
    assert requests.put(url, json={}, timeout=30).status_code == 200
    assert "topics/called" in list_topics(pubsub)
    pubsub.fault(method="ListTopics", action="status", code="RESOURCE_EXHAUSTED")
    assert list_topics(pubsub) == "RESOURCE_EXHAUSTED"
    assert [rule["hits"] for rule in pubsub.heal()] == [1]
    assert "topics/called" in list_topics(pubsub)
    pubsub.connections("refuse")
    assert list_topics(pubsub) == "UNAVAILABLE"
    pubsub.connections("pass")
    assert "topics/called" in list_topics(pubsub)
    assert pubsub.asked()["/google.pubsub.v1.Publisher/ListTopics"]["count"] == 4
