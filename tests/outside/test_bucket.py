"""The lake in a bucket: exactly once through kills and whatever a storage answers, and one clear
sentence where it can't be used."""

import itertools
import json
import os
import random
import shutil
import subprocess
import time
from collections import Counter
from pathlib import Path
from urllib.parse import unquote

import pytest
import requests

from emulators import decks, never_met
from load import Load, check, check_once, check_order
from service import assert_readme_says, free_port, lake_files, query, read_lake, until

EVENTS = int(os.environ.get("EVENTKIT_BUCKET_EVENTS") or 22_000)
KILLS = 12
# Small batches, so that a kill or a fault meets every step from plan to commit.
SMALL = '[load]\nevents_max = 150\nage_max = "100ms"\n'


def answer(code, message, details=""):
    """XML as Google's storage answers it."""
    details = f"<Details>{details}</Details>" if details else ""
    head = "<?xml version='1.0' encoding='UTF-8'?>"
    return f"{head}<Error><Code>{code}</Code><Message>{message}</Message>{details}</Error>"


HELD = "At least one of the pre-conditions you specified did not hold."
# What a storage does in bad moments; `count` and `skip` are diced.
FAULTS = [
    {"method": "PUT", "action": "drop-reply"},
    {"method": "PUT", "action": "drop-before"},
    {"method": "PUT", "action": "late-reply", "seconds": 0.5},
    {"method": "PUT", "action": "stall", "seconds": 0.5},
    {"method": "PUT", "action": "status", "status": 503},
    {"method": "PUT", "action": "status", "status": 500},
    {"method": "PUT", "action": "status", "status": 429, "reply": answer("SlowDown", "Slow down.")},
    {"method": "PUT", "action": "status", "status": 412,
     "reply": answer("PreconditionFailed", HELD)},
    {"method": "PUT", "action": "status", "status": 408},
    {"method": "PUT", "action": "status", "status": 409},
    {"method": "HEAD|GET", "action": "drop-before"},
    {"method": "HEAD|GET", "action": "status", "status": 503},
    {"method": "GET", "action": "cut-reply"},
]


@pytest.fixture
def in_gcs(service, gcs, request):
    """A service whose lake is in Cloud Storage, below a prefix of its own."""
    gcs.heal()
    in_bucket(service, f"gs://{gcs.bucket}", gcs.endpoint, request.node.name)
    service.lake = gcs.directory / service.prefix
    service.configure(service.settings)
    yield service
    gcs.heal()


def in_bucket(service, bucket, endpoint, prefix):
    service.prefix = prefix.translate(str.maketrans("[", "-", "]"))
    service.settings = (
        f'[store]\nbucket = "{bucket}"\nendpoint = "{endpoint}"\nprefix = "{service.prefix}"\n'
    )


def send(service, count, stream="events", first=0, **more):
    events = [
        {"type": "track", "event": "e", "userId": "u", "messageId": f"{stream}{n}", **more}
        for n in range(first, first + count)
    ]
    service.collect(events, stream)


def landed(service):
    return sorted(row["message_id"] for row in read_lake(service.lake).to_pylist())


def ids(stream, count):
    return sorted(f"{stream}{n}" for n in range(count))


def crash(service, storage, load, dice, events):
    """Kills at random moments under faults, until so many events were acknowledged."""
    faults = decks(FAULTS, dice)
    for kill in range(KILLS):
        for rule in itertools.islice(faults, 3):
            storage.fault(**rule, count=dice.randrange(1, 6), skip=dice.randrange(4))
        service.spawn()
        wanted = events * (kill + 1) // KILLS
        until("enough is acknowledged", lambda n=wanted: len(load.acknowledged()) >= n, 180)
        time.sleep(dice.random() / 2)  # no wait: the moment of the kill
        assert service.process.poll() is None, service.log()[-3000:]
        service.kill()


def judge(service, load):
    rows, letters = read_lake(service.lake).to_pylist(), service.letters()
    found, dead = check(load, rows, letters)
    check_once(found, dead)
    check_order(rows)
    files = lake_files(service.lake)
    assert query(files, "select count(*), count(distinct message_id) from lake") == [
        (len(rows), len(rows))
    ]
    return len(found), len(files)


def test_kills_and_bad_answers_leave_every_event_once_in_cloud_storage(in_gcs, gcs, dice, tell):
    in_gcs.configure(SMALL + in_gcs.settings)
    with Load(in_gcs, dice) as load:
        crash(in_gcs, gcs, load, dice, EVENTS)
    rules = gcs.heal()
    in_gcs.start().flush()
    rows, files = judge(in_gcs, load)
    hits = Counter(rule["action"] for rule in rules for _ in range(rule["hits"]))
    assert never_met(FAULTS, rules) == []
    tell(f"{rows} rows in {files} objects, {KILLS} kills, faults met: {dict(hits)}")


def test_kills_and_bad_answers_leave_every_event_once_in_s3(service, s3, dice, tell, tmp_path):
    in_bucket(service, f"s3://{s3.bucket}", s3.endpoint, "crashes")
    service.environment = s3.keys
    service.configure(SMALL + service.settings)
    with Load(service, dice) as load:
        crash(service, s3, load, dice, EVENTS)
    rules = s3.heal()
    service.start().flush()
    s3.download(tmp_path / "all")
    service.lake = tmp_path / "all/crashes"
    rows, files = judge(service, load)
    hits = Counter(rule["action"] for rule in rules for _ in range(rule["hits"]))
    assert never_met(FAULTS, rules) == []
    tell(f"{rows} rows in {files} objects, {KILLS} kills, faults met: {dict(hits)}")


def test_a_batch_that_was_put_before_the_kill_is_not_put_again(in_gcs, gcs):
    in_gcs.configure(SMALL + in_gcs.settings)
    in_gcs.start()
    gcs.fault(method="PUT", path="parquet", action="late-reply", seconds=60, count=-1)
    send(in_gcs, 100)
    until("the object is there", lambda: lake_files(in_gcs.lake))
    in_gcs.kill()
    gcs.heal()
    gcs.forget()
    in_gcs.start().flush()
    assert landed(in_gcs) == ids("events", 100)
    assert [line for line in gcs.last() if "PUT" in line and "parquet" in line] == []


@pytest.mark.parametrize("action", ["drop-reply", "drop-before", "late-reply"])
def test_a_lost_answer_to_a_put_is_cleared_up_by_asking(in_gcs, gcs, action):
    in_gcs.start()
    gcs.fault(method="PUT", path="parquet", action=action, seconds=1)
    send(in_gcs, 100)
    in_gcs.flush()
    assert [rule["hits"] for rule in gcs.heal()] == [1]
    assert landed(in_gcs) == ids("events", 100)
    assert len(lake_files(in_gcs.lake)) == 1


def test_a_ledger_that_was_deleted_doubles_nothing(in_gcs):
    in_gcs.configure(SMALL + in_gcs.settings)
    in_gcs.start()
    for stream in "ab":
        send(in_gcs, 400, stream)
    in_gcs.flush()
    files = lake_files(in_gcs.lake)
    assert len(files) >= 4
    in_gcs.kill()
    for file in in_gcs.data.glob("ledger.db*"):
        file.unlink()
    in_gcs.start()
    send(in_gcs, 10, "a", first=400)
    in_gcs.flush()
    assert landed(in_gcs) == sorted(ids("a", 410) + ids("b", 400))
    assert set(files) < set(lake_files(in_gcs.lake))


def large_events(seed):
    """Some 20 MB that nothing makes smaller."""
    noise = random.Random(seed)
    return [
        {"type": "track", "event": "e", "userId": "u", "messageId": f"large{n}",
         "properties": {"noise": noise.randbytes(300_000).hex()}}
        for n in range(60)
    ]


LARGE = '[load]\nage_max = "10m"\nbytes_max = "128 MiB"\nmemory_bytes_max = "256 MiB"\n'


def test_a_large_file_goes_to_cloud_storage_in_parts_through_lost_answers(in_gcs, gcs):
    in_gcs.configure(LARGE + in_gcs.settings)
    in_gcs.start()
    gcs.forget()
    for event in large_events(1):
        in_gcs.collect(event, "large")
    lost = [("PUT", "partNumber=2"), ("POST", r"[?]uploadId="), ("PUT", "stream.*parquet$")]
    for method, path in lost:
        gcs.fault(method=method, path=path, action="drop-reply")
    in_gcs.flush()
    assert [rule["hits"] for rule in gcs.heal()] == [1, 1, 1]
    assert landed(in_gcs) == ids("large", 60)
    [file] = lake_files(in_gcs.lake)
    assert file.stat().st_size > 16 << 20
    asked = gcs.asked()
    parts = -(-file.stat().st_size // (8 << 20))
    assert asked["A part"]["count"] == parts + 1, f"no more than was lost is sent again: {asked}"
    assert asked["A copy"]["count"] >= 2, asked
    assert list(gcs.directory.glob("_eventkit/staged/*")) == []


def test_a_large_file_goes_to_s3_in_parts(service, s3, tmp_path):
    in_bucket(service, f"s3://{s3.bucket}", s3.endpoint, "large")
    service.environment = s3.keys
    service.configure(LARGE + service.settings)
    service.start()
    for event in large_events(2):
        service.collect(event, "large")
    service.flush()
    s3.download(tmp_path / "all")
    service.lake = tmp_path / "all/large"
    assert landed(service) == ids("large", 60)
    [file] = lake_files(service.lake)
    assert file.stat().st_size > 16 << 20
    assert list((tmp_path / "all").glob("_eventkit/staged/*")) == []


# What can't be used, and what is said of it everywhere.

DENIED = answer(
    "AccessDenied", "Access denied.",
    "e@p.iam.gserviceaccount.com does not have storage.objects.create access to the Google Cloud"
    " Storage object. Permission &apos;storage.objects.create&apos; denied on resource (or it may"
    " not exist).",
)
WRONG = {
    "forbidden": (
        {"action": "status", "status": 403, "reply": DENIED},
        "no permission for {place}: Access denied. e@p.iam.gserviceaccount.com does not have"
        " storage.objects.create access to the Google Cloud Storage object. Permission"
        " 'storage.objects.create' denied on resource (or it may not exist).",
    ),
    "not enabled": (
        {"action": "status", "status": 403, "reply": answer(
            "AccessDenied", "Access denied.", "Cloud Storage JSON API has not been used in project"
            " 12 before or it is disabled. Enable it by visiting https://example.com")},
        "the Cloud Storage API is not enabled in project 12: `gcloud services enable"
        " storage.googleapis.com --project 12`",
    ),
    "unauthenticated": (
        {"action": "status", "status": 401,
         "reply": answer("AuthenticationRequired", "Authentication required.")},
        "{place} refuses the credentials: Authentication required.",
    ),
    "failing": (
        {"action": "status", "status": 503},
        "{place} answered: 503 Service Unavailable",
    ),
    "no bucket": (None, "there is no bucket {place}"),
    "nobody there": (None, "{place} can't be reached: Connection refused (os error 111)"),
}


@pytest.mark.parametrize("wrong", WRONG)
def test_a_bucket_that_can_not_be_used_is_told_in_one_sentence_everywhere(service, gcs, wrong):
    gcs.heal()
    rule, sentence = WRONG[wrong]
    name = "no-such-bucket" if wrong == "no bucket" else gcs.bucket
    bucket = f"gs://{name}"
    endpoint = gcs.endpoint
    if wrong == "nobody there":
        endpoint = f"http://127.0.0.1:{free_port()}"
    sentence = sentence.format(place=f"{bucket} at {endpoint}")
    if rule:
        gcs.fault(path="", **rule, count=-1)
    in_bucket(service, bucket, endpoint, wrong)
    service.configure(SMALL + service.settings)
    checked = service.run("check")
    assert checked.returncode == 74
    assert f"finding: {sentence}\n" in checked.stdout
    service.spawn()
    until("it answers", lambda: reachable(service))
    send(service, 10)
    detail = until("/ready says it", lambda: not_ready(service), every=0.2)
    assert detail == sentence
    finding = until("a finding says it", lambda: store_finding(service), every=0.2)
    assert sentence in finding
    assert sentence in service.log()
    gcs.heal()
    if wrong == "nobody there":
        return
    # Once it can be used, all goes on by itself.
    requests.put(f"{gcs.endpoint}/{name}", timeout=10)
    service.flush()
    service.lake = gcs.root / name / service.prefix
    assert landed(service) == ids("events", 10)
    until("/ready says so", service.is_ready)
    assert until("no finding is left", lambda: store_finding(service) is None)


def test_a_permission_that_is_taken_away_is_named_in_ready_too(in_gcs, gcs):
    in_gcs.start()
    rule, sentence = WRONG["forbidden"]
    gcs.fault(path="", **rule, count=-1)
    detail = until("/ready says it", lambda: None if in_gcs.is_ready() else not_ready(in_gcs))
    place = f"gs://{gcs.bucket} at {gcs.endpoint}"
    assert detail == sentence.format(place=place)
    gcs.heal()


def reachable(service):
    assert service.process.poll() is None, service.log()
    try:
        return requests.get(f"{service.url}/health", timeout=5).status_code == 200
    except requests.ConnectionError:
        return False


def not_ready(service):
    """What /ready says of the store, once that was asked."""
    answered = requests.get(f"{service.url}/ready", timeout=5)
    assert answered.status_code == 503
    [store] = [d for d in answered.json()["dependencies"] if d["name"] == "lake"]
    return None if store["detail"] == "not asked yet" else store["detail"]


def store_finding(service):
    return next((f["text"] for f in service.status()["findings"] if f["stream"] == "events"), None)


def test_what_can_not_be_a_bucket_keeps_the_service_from_starting(service):
    key = service.home / "key.json"
    service.home.mkdir(exist_ok=True)
    key.write_text("{")
    for text, sentence in {
        '[store]\nbucket = "http://b"\n': 'store.bucket: "http://b" is not a bucket such as'
        ' "gs://events" or "s3://events"',
        f'[store]\nbucket = "gs://b"\n[google]\ncredentials = "{key}"\n': f"{key}, named by"
        f" google.credentials at {service.home}/eventkit.toml:4:15, can't be used as Google"
        " credentials: it is not JSON: EOF while parsing an object at line 1 column 1",
    }.items():
        service.configure(text)
        for command in ("check", "run"):
            done = service.run(command)
            assert done.returncode == 78
            assert sentence in done.stdout + done.stderr, (done.stdout, done.stderr)


def test_a_machine_without_credentials_is_told_so(service):
    service.environment = {"HOME": str(service.home)}
    service.configure('[store]\nbucket = "gs://b"\n')
    checked = service.run("check")
    assert checked.returncode == 74
    [finding] = [line for line in checked.stdout.splitlines() if line.startswith("finding: ")]
    assert "no Google credentials were found: name a key file by" in finding, finding


@pytest.mark.needs("openssl")
def test_a_key_file_signs_its_own_tokens(service, tmp_path):
    made = subprocess.run(
        ["openssl", "genpkey", "-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048"],
        capture_output=True, text=True, check=True, timeout=60,
    )
    key = Path(tmp_path / "key.json")
    key.write_text(json.dumps({
        "type": "service_account", "project_id": "p", "private_key_id": "1",
        "private_key": made.stdout, "client_email": "e@p.iam.gserviceaccount.com",
        "token_uri": "https://127.0.0.1:9/token",
    }))
    endpoint = f"https://127.0.0.1:{free_port()}"
    service.configure(
        f'[store]\nbucket = "gs://b"\nendpoint = "{endpoint}"\n'
        f'[google]\ncredentials = "{key}"\n'
    )
    checked = service.run("check")
    assert (checked.returncode, checked.stdout) == (
        74,
        f"finding: gs://b at {endpoint} can't be reached: Connection refused (os error 111)\n",
    )


# What it costs.

COST_EVENTS = 100_000
AGENT = "Mozilla/5.0 (X11; Linux x86_64; rv:145.0) Gecko/20100101 Firefox/145.0"


def traffic(noise, numbers):
    """Events such as a shop sends, some 600 bytes each, with their stream."""
    for n in numbers:
        kind, stream = noise.choice([("track", "events")] * 7 + [("page", "pages")] * 3)
        yield stream, {
            "type": kind, "event": "Product Viewed", "name": "Product",
            "messageId": f"{noise.getrandbits(128):032x}",
            "userId": f"user-{noise.randrange(5000)}",
            "timestamp": f"2026-11-23T10:{n // 60 % 60:02}:{n % 60:02}.{noise.randrange(1000):03}Z",
            "context": {
                "ip": f"10.{noise.randrange(256)}.{noise.randrange(256)}.1", "locale": "de-DE",
                "library": {"name": "analytics.js", "version": "2.1.0"},
                "page": {
                    "path": f"/product/{noise.randrange(900)}", "referrer": "https://a.example",
                },
                "userAgent": AGENT,
            },
            "properties": {
                "product_id": noise.randrange(900), "price": noise.randrange(10_000) / 100,
                "currency": "EUR", "session": f"{noise.getrandbits(64):016x}",
            },
        }


def send_traffic(service, events):
    """The bytes that were sent."""
    waiting, sent = {}, 0
    for stream, event in events:
        waiting.setdefault(stream, []).append(event)
        if len(waiting[stream]) == 500:
            sent += len(json.dumps(waiting[stream]))
            service.collect(waiting.pop(stream), stream)
    for stream, rest in waiting.items():
        sent += len(json.dumps(rest))
        service.collect(rest, stream)
    return sent


def test_what_a_million_events_cost_is_what_the_readme_says(in_gcs, gcs, tell):
    in_gcs.start()
    noise = random.Random(1)
    send_traffic(in_gcs, traffic(noise, range(100)))
    in_gcs.flush()  # what is asked once, when a stream is new, is not counted
    gcs.forget()
    sent = send_traffic(in_gcs, traffic(noise, range(COST_EVENTS)))
    in_gcs.flush()
    asked, last = gcs.counted()
    total = 1_000_000 / COST_EVENTS
    writes = sum(kind["count"] for name, kind in asked.items() if name.startswith("A "))
    up = sum(kind["bytes_in"] for kind in asked.values())
    # The probe looks at the bucket as time goes by, not as events come.
    probes = sum("GET" in line and "_eventkit/check" in unquote(line) for line in last)
    reads = sum(kind["count"] for name, kind in asked.items() if name.startswith("B ")) - probes
    found = {
        "sent to eventkit": round(sent * total / 1e6),
        "class A operations": round(writes * total),
        "class B operations": round(reads * total),
        "written to the bucket": round(up * total / 1e6),
    }
    tell(f"per million events: {found}, and {probes} probes; {asked}")
    assert_readme_says(found, __file__)


def test_positions_of_another_life_count_only_for_what_that_life_received(in_gcs, gcs, tmp_path):
    """A restored copy uses positions anew; of two batches that are on their way at a kill, the later
    lands, and the ledger is lost: the earlier is not in what the lost life had stored there."""
    in_gcs.environment |= {"EVENTKIT_LOAD_EVENTS_MAX": "100", "EVENTKIT_LOAD_AGE_MAX": "60s"}
    in_gcs.start()
    send(in_gcs, 10)
    in_gcs.flush()
    in_gcs.terminate()
    shutil.copytree(in_gcs.data, tmp_path / "copy", symlinks=True)
    in_gcs.start()
    send(in_gcs, 300, first=1000)
    in_gcs.flush()
    in_gcs.terminate()
    shutil.rmtree(in_gcs.data)
    shutil.copytree(tmp_path / "copy", in_gcs.data, symlinks=True)
    in_gcs.start()
    objects = lambda: set((gcs.directory / in_gcs.prefix).rglob("*.parquet"))  # noqa: E731
    before = objects()
    gcs.fault(method="PUT", path="parquet", action="stall", seconds=300)
    send(in_gcs, 100, first=5000)
    until("the first is on its way", gcs.hit)
    send(in_gcs, 100, first=6000)
    until("the second is there", lambda: objects() - before)
    in_gcs.kill()
    for file in in_gcs.data.glob("ledger.db*"):
        file.unlink()
    in_gcs.start()
    in_gcs.flush()
    sent = [*range(10), *range(1000, 1300), *range(5000, 5100), *range(6000, 6100)]
    assert Counter(landed(in_gcs)) == Counter(f"events{n}" for n in sent)


def test_dead_letters_are_exported_to_the_bucket(in_gcs):
    in_gcs.start()
    in_gcs.post("/v1/batch", {"batch": [{"messageId": f"bad{n}"} for n in range(7)]})
    until("they are dead letters", lambda: len(in_gcs.letters()) == 7)
    exported = in_gcs.json("dlq", "export")
    assert exported["letters"] == 7
    (name,) = exported["objects"]
    assert name.startswith(f"{in_gcs.prefix}/errors/exported=")
    rows = query([in_gcs.lake.parent / name], "select message_id from lake order by 1")
    assert rows == [(f"bad{n}",) for n in range(7)]
