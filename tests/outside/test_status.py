"""One truth: the snapshot, the metrics page, the lake and the dead letters say the same."""

import requests

from load import Load
from service import lake_files, query, until


def figures_of_status(service):
    return {
        s["name"]: (s["received_events"], s["stored_events"], s["rejected_events"])
        for s in service.status()["streams"] if s["received_events"]
    }


def figures_of_metrics(service):
    page = service.metrics()
    names = ("received", "stored", "failed")
    counters = [page[f"eventkit_events_{name}_total"] for name in names]
    streams = {labels for counter in counters for labels, value in counter.items() if value}
    return {
        labels.removeprefix('{stream="').removesuffix('"}'):
            tuple(counter[labels] for counter in counters)
        for labels in streams
    }


def figures_of_disk(service, load):
    counts = "select stream, count(*) from lake group by stream"
    landed = dict(query(lake_files(service.lake), counts))
    dead = {}
    for letter in service.letters():
        dead[letter["stream"]] = dead.get(letter["stream"], 0) + 1
    return {
        name: (landed.get(name, 0) + dead.get(name, 0), landed.get(name, 0), dead.get(name, 0))
        for name in landed.keys() | dead.keys()
    }


def test_status_metrics_lake_and_dead_letters_agree_after_a_flush(running, dice):
    with Load(running, dice) as load:
        until("there is load", lambda: len(load.acknowledged()) > 1000)
    running.flush()
    disk = figures_of_disk(running, load)
    assert sum(received for received, _, _ in disk.values()) == len(load.acknowledged())
    assert sum(dead for _, _, dead in disk.values()) > 0, "the load has bad events"
    # The snapshot is a second old at most.
    until(f"status says {disk}", lambda: figures_of_status(running) == disk, 10)
    until(f"the metrics say {disk}", lambda: figures_of_metrics(running) == disk, 10)
    status = running.status()
    assert status["dead_letters"]["open"] == sum(dead for _, _, dead in disk.values())
    assert all(s["pending_events"] == s["wal"]["lag_events"] == 0 for s in status["streams"])
    assert [s["name"] for s in status["sinks"]] == ["lake"]
    assert status["sinks"][0]["events"] == sum(stored for _, stored, _ in disk.values())
    metrics = running.metrics()
    assert metrics["eventkit_dead_letters"]['{status="open"}'] == status["dead_letters"]["open"]
    assert set(metrics["eventkit_queue_depth"].values()) == {0}
    assert metrics["eventkit_http_requests_total"][""] > 0


def test_status_for_people_names_streams_and_dead_letters(running):
    running.post("/v1/track", {"event": "nobody did it"})
    running.flush()
    def told():
        text = running.cli("status")
        return "events" in text and "dead letter" in text.lower()
    until("status tells it", told, 10)


def test_health_and_ready_answer_as_promised(running):
    health = requests.get(f"{running.url}/health", timeout=10)
    assert (health.status_code, health.json()) == (200, {"status": "ok"})
    ready = requests.get(f"{running.url}/ready", timeout=10)
    assert ready.status_code == 200
    body = ready.json()
    assert body["status"] == "ready"
    assert {d["name"]: d["ok"] for d in body["dependencies"]}.items() >= {
        "log": True, "lake": True}.items()


def test_ready_says_503_and_why_while_the_lake_cannot_be_written(service):
    service.start()
    service.lake.rename(service.home / "aside")
    service.lake.write_text("in the way")
    answer = until("it is not ready", lambda: unready(service))
    assert answer["status"] == "not_ready"
    [lake] = [d for d in answer["dependencies"] if d["name"] == "lake"]
    assert not lake["ok"] and lake["detail"]
    assert requests.get(f"{service.url}/health", timeout=10).status_code == 200
    service.collect({"userId": "u"})
    service.lake.unlink()
    (service.home / "aside").rename(service.lake)
    until("it is ready again", service.is_ready)
    service.flush()
    assert len(service.rows()) == 1


def unready(service):
    answer = requests.get(f"{service.url}/ready", timeout=10)
    return answer.json() if answer.status_code == 503 else None
