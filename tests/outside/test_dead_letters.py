"""What is invalid is kept with its reason, and comes back once the rules or the data are mended."""

import base64
import datetime
import json

import pytest

from service import query, read_files, until

STRICT = '[streams.events.validate]\ntypes = { "properties.price" = "number" }\n'
RELAXED = "[streams.events.validate]\nrequired = []\ntypes = {}\n"
ALL, WITHOUT_USER, WITH_TEXT_PRICE = 1000, range(95, 1000, 150), range(50, 800, 250)
EPOCH = datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC)


def event(n):
    event = {
        "type": "track", "event": "Bought", "messageId": f"m{n}", "userId": f"u{n % 7}",
        "properties": {"price": n}, "context": {"library": {"name": "shop.js", "version": "1.2"}},
    }
    if n in WITHOUT_USER:
        del event["userId"]
    if n in WITH_TEXT_PRICE:
        event["properties"]["price"] = "9,90 €"
    return event


def micros(time):
    return (time - EPOCH) // datetime.timedelta(microseconds=1)


@pytest.fixture
def mixed(service):
    """A service that has taken a batch of 1,000 of which 10 are bad."""
    assert len(WITHOUT_USER) + len(WITH_TEXT_PRICE) == 10
    service.configure(STRICT)
    service.start()
    answer = service.post("/v1/batch", {"batch": [event(n) for n in range(ALL)]})
    assert (answer.status_code, answer.json()) == (200, {"success": True})
    service.flush()
    return service


def resolved(service, count):
    return lambda: len(service.letters("--status", "resolved")) == count


def test_of_1000_events_with_10_bad_ones_990_land_and_10_are_dead_letters(mixed):
    ids = [row["message_id"] for row in mixed.rows()]
    assert len(ids) == len(set(ids)) == 990
    letters = mixed.letters()
    assert len(letters) == 10
    assert sorted({l["message_id"] for l in letters} | set(ids)) == sorted(f"m{n}" for n in range(ALL))
    by_id = {letter["message_id"]: letter for letter in letters}
    for n in WITHOUT_USER:
        letter = by_id[f"m{n}"]
        assert (letter["phase"], letter["reason"], letter["path"]) == (
            "validate", "missing_field", "/userId")
    for n in WITH_TEXT_PRICE:
        letter = by_id[f"m{n}"]
        assert (letter["phase"], letter["reason"], letter["path"]) == (
            "validate", "wrong_type", "/properties/price")
    assert {l["status"] for l in letters} == {"open"} and {l["stream"] for l in letters} == {"events"}
    assert {l["library"] for l in letters} == {"shop.js"}


def test_a_letter_shows_what_was_sent_and_every_reason(mixed):
    n = WITH_TEXT_PRICE[0]
    [summary] = [l for l in mixed.letters() if l["message_id"] == f"m{n}"]
    letter = mixed.json("dlq", "show", summary["id"])
    assert json.loads(letter["payload"]) == event(n)
    assert [r["path"] for r in letter["rejections"]] == ["/properties/price"]
    assert letter["rejections"][0]["message"]
    assert letter["library_version"] == "1.2"
    assert [attempt["what"] for attempt in letter["history"]] == ["rejected"]
    assert f"m{n}" in mixed.cli("dlq", "show", summary["id"])


def test_filters_choose_letters(mixed):
    missing = mixed.letters("--reason", "missing_field")
    assert len(missing) == len(WITHOUT_USER)
    assert len(mixed.letters("--path", "/properties/price")) == len(WITH_TEXT_PRICE)
    assert len(mixed.letters("--stream", "events", "--phase", "validate", "--status", "open")) == 10
    assert len(mixed.letters("--library", "shop.js")) == 10
    assert mixed.letters("--stream", "users") == []
    page = mixed.json("dlq", "list", "--limit", 3)
    assert (len(page["letters"]), page["total"]) == (3, 10)
    rest = mixed.json("dlq", "list", "--before", page["next_before"])
    assert len(rest["letters"]) == 7 and rest["next_before"] is None


def test_after_the_rule_is_relaxed_replay_by_id_and_by_filter_makes_it_1000(mixed):
    letters = {letter["id"]: letter for letter in mixed.letters()}
    mixed.configure(RELAXED)
    mixed.restart()
    assert len(mixed.letters("--status", "open")) == 10, "they wait for an operator"

    chosen = [i for i, letter in letters.items() if letter["reason"] == "wrong_type"][:2]
    replayed = mixed.json("dlq", "replay", *chosen, "--note", "price may be text")
    assert (replayed["replayed"], replayed["refused"]) == (2, 0)
    mixed.flush()
    until("2 letters are resolved", resolved(mixed, 2))
    assert len(mixed.rows()) == 992
    replayed = mixed.json("dlq", "replay", "--reason", "missing_field")
    assert replayed["replayed"] == len(WITHOUT_USER)
    replayed = mixed.json("dlq", "replay", "--stream", "events", "--phase", "validate")
    assert replayed["replayed"] == 10 - 2 - len(WITHOUT_USER)
    mixed.flush()
    until("10 letters are resolved", resolved(mixed, 10))

    rows = mixed.rows()
    assert sorted(row["message_id"] for row in rows) == sorted(f"m{n}" for n in range(ALL))
    again = [row for row in rows if row["dead_letter_id"] is not None]
    assert {row["dead_letter_id"] for row in again} == set(letters)
    for row in again:
        letter = letters[row["dead_letter_id"]]
        assert row["message_id"] == letter["message_id"]
        assert micros(row["received_at"]) == letter["received_at"], "the original receipt is kept"
        assert row["replayed_at"] > row["received_at"]
    assert all(row["replayed_at"] is None for row in rows if row["dead_letter_id"] is None)

    nothing_more(mixed, letters)


def nothing_more(service, letters):
    """Replaying again, by id or by filter, changes nothing."""
    before = sorted((row["message_id"], row["log_seq"]) for row in service.rows())
    for arguments in ([*letters], ["--stream", "events"]):
        done = service.run("dlq", "replay", *arguments, "--json")
        assert json.loads(done.stdout or '{"replayed": 0}')["replayed"] == 0, done
    service.flush()
    assert sorted((row["message_id"], row["log_seq"]) for row in service.rows()) == before
    assert len(service.letters("--status", "resolved")) == len(letters)


def test_under_the_same_rules_a_replayed_letter_comes_back_open_and_lands_nothing(mixed):
    [first, *_] = mixed.letters()
    assert mixed.json("dlq", "replay", first["id"])["replayed"] == 1
    mixed.flush()
    letter = until("it is open again", lambda: next(
        (l for l in mixed.letters("--status", "open") if l["attempts"] == 1), None))
    assert letter["id"] == first["id"], "it is the same letter, not a new one"
    assert len(mixed.letters()) == 10 and len(mixed.rows()) == 990
    history = mixed.json("dlq", "show", first["id"])["history"]
    assert [attempt["what"] for attempt in history] == ["rejected", "replayed", "failed_again"]


def test_a_replay_without_a_filter_is_refused(mixed):
    done = mixed.run("dlq", "replay")
    assert done.returncode == 64, done
    assert len(mixed.letters("--status", "open")) == 10


def test_a_number_that_no_letter_has_is_told_and_nothing_is_replayed(mixed):
    first = mixed.letters()[0]["id"]
    for command in (("show", 9999), ("replay", 9999), ("replay", first, 9999, 9998, "--json")):
        done = mixed.run("dlq", *command)
        assert (done.returncode, done.stdout) == (1, ""), done
        assert "there is no dead letter 9999" in done.stderr
    assert len(mixed.letters("--status", "open")) == 10


def test_dead_letters_survive_kill_9(mixed):
    before = mixed.letters()
    mixed.kill()
    mixed.start()
    assert mixed.letters() == before and len(mixed.rows()) == 990


def test_exported_letters_are_rows_that_say_what_the_letters_say(mixed, tmp_path):
    not_text = b'{"a": "\xff"'
    assert mixed.post("/collect", not_text).status_code == 400
    letters = {letter["id"]: letter for letter in mixed.letters()}
    assert len(letters) == 11
    exported = mixed.json("dlq", "export")
    assert exported["letters"] == 11
    files = [mixed.lake / name for name in exported["objects"]]
    assert [file.relative_to(mixed.lake).parts[0] for file in files] == ["errors"]
    rows = read_files(files).to_pylist()
    found = query(files, "select id, payload, received_at from lake order by id")
    assert found == [(row["id"], row["payload"], row["received_at"]) for row in rows]
    assert [row["id"] for row in rows] == sorted(letters)
    for row in rows:
        letter = letters[row["id"]]
        for name in ("stream", "phase", "reason", "path", "status", "attempts", "message_id"):
            assert row[name] == letter[name], (name, row)
        assert micros(row["received_at"]) == letter["received_at"]
        shown = mixed.json("dlq", "show", row["id"])
        assert row["payload"] == shown["payload"]
        assert json.loads(row["rejections"]) == shown["rejections"]
    (malformed,) = [row for row in rows if row["payload"] is None]
    assert base64.b64decode(malformed["payload_base64"]) == not_text
    # The streams' files are found without those of the letters; a narrower export goes elsewhere.
    assert query([f"{mixed.lake}/stream=*/**/*.parquet"], "select count(*) from lake") == [(990,)]
    narrow = mixed.json("dlq", "export", "--reason", "missing_field", "--to", tmp_path / "out")
    (name,) = narrow["objects"]
    assert len(read_files([tmp_path / "out" / name])) == len(WITHOUT_USER)
    assert mixed.cli("dlq", "export", "--reason", "none").strip() == "no dead letters match"
    assert len(mixed.letters()) == 11, "they stay"
