"""What a developer tries first, with the real curl."""

import gzip
import json
import subprocess

import duckdb
from pyarrow import parquet


def curl(*arguments, stdin=b""):
    """curl's output and the answer's status."""
    done = subprocess.run(
        ["curl", "--silent", "--show-error", "--noproxy", "*", "--write-out", "\n%{http_code}",
         *arguments],
        input=stdin, capture_output=True, timeout=60, check=True,
    )
    body, _, status = done.stdout.decode().rpartition("\n")
    return int(status), json.loads(body)


def in_order(rows):
    return [json.loads(row["extra"] or "{}").get("n") for row in sorted(rows, key=lambda r: r["log_seq"])]


def test_an_object_an_array_lines_and_gzip_all_land(running):
    accepted = (202, {"status": "accepted"})
    collect = f"{running.url}/collect"
    as_json = ("-H", "content-type: application/json")
    assert curl("-d", '{"userId":"u","n":1}', *as_json, collect) == accepted
    assert curl("-d", '[{"userId":"u","n":2},{"userId":"u","n":3}]', *as_json, collect) == accepted
    lines = b'{"userId":"u","n":4}\n{"userId":"u","n":5}\n'
    assert curl("--data-binary", "@-", "-H", "content-type: application/x-ndjson", collect,
                stdin=lines) == accepted
    packed = gzip.compress(b'[{"userId":"u","n":6},{"userId":"u","n":7}]')
    assert curl("--data-binary", "@-", "-H", "content-encoding: gzip", *as_json, collect,
                stdin=packed) == accepted
    running.flush()
    rows = running.rows()
    assert in_order(rows) == [1, 2, 3, 4, 5, 6, 7]
    assert {row["stream"] for row in rows} == {"default"}
    assert {row["user_id"] for row in rows} == {"u"}
    assert len({row["message_id"] for row in rows}) == 7


def test_curls_own_content_type_is_not_believed(running):
    status, _ = curl("-d", '{"userId":"u","n":1}', f"{running.url}/collect/clicks")
    assert status == 202
    running.flush()
    assert [row["stream"] for row in running.rows()] == ["clicks"]


def test_a_segment_call_is_answered_200_and_gets_its_type_from_the_path(running):
    event = '{"userId":"u","event":"Order Completed","properties":{"price":9.5}}'
    assert curl("-d", event, f"{running.url}/v1/track") == (200, {"success": True})
    running.flush()
    [row] = running.rows()
    assert (row["stream"], row["type"], row["event"]) == ("events", "track", "Order Completed")
    assert json.loads(row["properties"]) == {"price": 9.5}


def test_a_body_that_is_not_json_is_refused_with_its_place_and_kept(running):
    status, answer = curl("-d", '{"userId":\n tru}', f"{running.url}/collect")
    assert (status, answer["code"]) == (400, "invalid_json")
    assert "line 2" in answer["message"]
    [letter] = running.letters()
    assert (letter["phase"], letter["reason"]) == ("parse", "malformed_json")
    assert running.json("dlq", "show", letter["id"])["payload"] == '{"userId":\n tru}'
    assert running.rows() == []


def test_duckdb_and_pyarrow_read_the_lake_as_a_whole_directory(running):
    for stream in ("a", "b"):
        running.collect([{"userId": "u", "n": 1}, {"userId": "v", "n": 2}], stream)
    running.flush()
    with duckdb.connect() as database:
        sql = f"select stream, count(*) from read_parquet('{running.lake}/**/*.parquet') group by 1"
        assert sorted(database.execute(sql).fetchall()) == [("a", 2), ("b", 2)]
    table = parquet.read_table(running.lake)
    assert table.num_rows == 4
    assert sorted(map(str, table["stream"].to_pylist())) == ["a", "a", "b", "b"]
