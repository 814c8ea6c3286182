"""The design that eventkit started from, as a Python engineer writes it today.

    python seed.py PORT DIR NORMAL|FULL

FastAPI takes the requests. A SQLite table is the ring buffer, in WAL mode with that
`synchronous`: whatever waits is inserted in one transaction, and the answer comes after its
commit. A worker in the same process, as the design has it, reads the ring in order, validates
and types each event (pydantic, compiled), chooses its partition by the hash of its user, and
writes each partition's batches as Parquet (pyarrow), by eventkit's own limits. What was written
leaves the ring; what is invalid goes to a table of errors. On SIGTERM it stores all it has.
"""

import asyncio
import contextlib
import sqlite3
import sys
import threading
import time
import uuid
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

import orjson
import pyarrow as pa
import pyarrow.parquet as pq
import uvicorn
import xxhash
from fastapi import FastAPI, Request, Response
from pydantic import BaseModel, ConfigDict, ValidationError, model_validator

PARTITIONS = 16
BATCH_EVENTS = 10_000
BATCH_SECONDS = 30.0
RING_EVENTS_MAX = 5_000_000
READ_EVENTS = 5_000
STREAMS = {"track": "events", "page": "pages", "screen": "pages"}
SUCCESS = b'{"success":true}'

TEXTS = ["message_id", "type", "event", "name", "user_id", "anonymous_id", "group_id", "previous_id"]
JSONS = ["context", "properties", "traits", "integrations", "extra"]
SCHEMA = pa.schema(
    [(name, pa.string()) for name in TEXTS]
    + [(name, pa.timestamp("us", tz="UTC")) for name in ("timestamp", "received_at")]
    + [("log_seq", pa.uint64())]
    + [(name, pa.string()) for name in JSONS]
)
REPEATING = ["type", "event", "name"]


class TypedEvent(BaseModel):
    """An event whose known fields have their types; what else came stays beside them."""

    model_config = ConfigDict(extra="allow")

    type: Literal["identify", "track", "page", "screen", "group", "alias"]
    messageId: str
    event: str | None = None
    name: str | None = None
    userId: str | None = None
    anonymousId: str | None = None
    groupId: str | None = None
    previousId: str | None = None
    timestamp: datetime | None = None
    context: dict[str, Any] | None = None
    properties: dict[str, Any] | None = None
    traits: dict[str, Any] | None = None
    integrations: dict[str, Any] | None = None

    @model_validator(mode="after")
    def is_somebodys(self) -> "TypedEvent":
        if not (self.userId or self.anonymousId):
            raise ValueError("none of userId, anonymousId is there")
        return self

    def row(self, seq: int, received_at: int) -> tuple:
        """In the order of the schema."""
        text = [self.messageId, self.type, self.event, self.name]
        text += [self.userId, self.anonymousId, self.groupId, self.previousId]
        json = [self.context, self.properties, self.traits, self.integrations, self.model_extra]
        received = datetime.fromtimestamp(received_at / 1e6, UTC)
        times = (self.timestamp or received, received, seq)
        return (*text, *times, *(orjson.dumps(value).decode() if value else None for value in json))


class Ring:
    """The ring buffer: one thread writes, whoever waits meanwhile shares the next transaction."""

    def __init__(self, path: Path, synchronous: str):
        self.path, self.synchronous = path, synchronous
        self.waiting: list[tuple[list[tuple], asyncio.Future]] = []
        self.wake = asyncio.Event()
        self.writer = ThreadPoolExecutor(1, initializer=self.open)
        self.events = 0

    def connect(self) -> sqlite3.Connection:
        db = sqlite3.connect(self.path, isolation_level=None, timeout=30)
        db.execute("pragma journal_mode = wal")
        db.execute(f"pragma synchronous = {self.synchronous}")
        return db

    def open(self):
        self.db = self.connect()
        self.db.execute(
            "create table if not exists ring"
            " (seq integer primary key autoincrement, stream text, received_at integer, payload blob)"
        )
        self.db.execute("create table if not exists errors (seq integer, payload blob, reason text)")

    async def append(self, rows: list[tuple]):
        """Returns after the commit."""
        done = asyncio.get_running_loop().create_future()
        self.waiting.append((rows, done))
        self.wake.set()
        await done

    async def run(self):
        loop = asyncio.get_running_loop()
        while True:
            await self.wake.wait()
            self.wake.clear()
            taken, self.waiting = self.waiting, []
            rows = [row for rows, _ in taken for row in rows]
            await loop.run_in_executor(self.writer, self.insert, rows)
            for _, done in taken:
                if not done.cancelled():
                    done.set_result(None)

    def insert(self, rows: list[tuple]):
        self.db.execute("begin immediate")
        self.db.executemany("insert into ring (stream, received_at, payload) values (?, ?, ?)", rows)
        self.db.execute("commit")
        self.events += len(rows)

    def remove(self, below: int, errors: list[tuple]):
        """Gives back what is stored, and keeps what was wrong."""
        self.db.execute("begin immediate")
        self.db.executemany("insert into errors values (?, ?, ?)", errors)
        removed = self.db.execute("delete from ring where seq < ?", (below,)).rowcount
        self.db.execute("commit")
        self.events -= removed


class Worker(threading.Thread):
    """From the ring to Parquet."""

    def __init__(self, ring: Ring, lake: Path):
        super().__init__(name="worker")
        self.ring, self.lake = ring, lake
        self.ends = threading.Event()
        self.batches: dict[tuple[str, int], list[tuple]] = {}
        self.since: dict[tuple[str, int], float] = {}
        self.errors: list[tuple] = []

    def run(self):
        db, seq = self.ring.connect(), 0
        while True:
            ends = self.ends.is_set()
            rows = db.execute(
                "select seq, stream, received_at, payload from ring where seq > ? order by seq limit ?",
                (seq, READ_EVENTS),
            ).fetchall()
            for seq, stream, received_at, payload in rows:
                self.take(seq, stream, received_at, payload)
            self.store(seq, all=ends and not rows)
            if not rows:
                if ends:
                    return
                self.ends.wait(0.02)

    def take(self, seq: int, stream: str, received_at: int, payload: bytes):
        try:
            event = TypedEvent.model_validate_json(payload)
        except ValidationError as error:
            self.errors.append((seq, payload, str(error)))
            return
        user = (event.userId or event.anonymousId).encode()
        key = stream, xxhash.xxh3_64_intdigest(user) % PARTITIONS
        batch = self.batches.setdefault(key, [])
        if not batch:
            self.since[key] = time.monotonic()
        batch.append(event.row(seq, received_at))

    def store(self, seq: int, all: bool):
        """Writes the batches that are full or old, and removes what no batch holds any more."""
        old = time.monotonic() - BATCH_SECONDS
        due = [
            key
            for key, batch in self.batches.items()
            if batch and (all or len(batch) >= BATCH_EVENTS or self.since[key] < old)
        ]
        for key in due:
            self.write(key, self.batches.pop(key))
        if due or self.errors:
            at = SCHEMA.get_field_index("log_seq")
            held = min((batch[0][at] for batch in self.batches.values()), default=seq + 1)
            errors, self.errors = self.errors, []
            self.ring.writer.submit(self.ring.remove, held, errors).result()

    def write(self, key: tuple[str, int], rows: list[tuple]):
        columns = [pa.array(c, f.type) for c, f in zip(zip(*rows, strict=True), SCHEMA, strict=True)]
        table = pa.Table.from_arrays(columns, schema=SCHEMA)
        path = self.lake / f"stream={key[0]}" / f"p{key[1]}-{uuid.uuid4().hex}.parquet"
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_suffix(".part")
        pq.write_table(table, part, compression="zstd", compression_level=1, use_dictionary=REPEATING)
        part.rename(path)


def service(directory: Path, synchronous: str) -> FastAPI:
    @contextlib.asynccontextmanager
    async def lifespan(app: FastAPI):
        app.ring = Ring(directory / "ring.db", synchronous)
        await asyncio.wrap_future(app.ring.writer.submit(lambda: None))
        writing = asyncio.create_task(app.ring.run())
        worker = Worker(app.ring, directory / "lake")
        worker.start()
        yield
        worker.ends.set()
        await asyncio.to_thread(worker.join)
        writing.cancel()

    app = FastAPI(lifespan=lifespan, openapi_url=None)

    async def take(request: Request, split) -> Response:
        if app.ring.events > RING_EVENTS_MAX:
            return Response(b'{"code":"overloaded"}', 503, {"Retry-After": "1"})
        try:
            rows = split(await request.body(), time.time_ns() // 1000)
        except (orjson.JSONDecodeError, TypeError, KeyError, AttributeError):
            return Response(b'{"code":"invalid_json"}', 400)
        await app.ring.append(rows)
        return Response(SUCCESS, media_type="application/json")

    def single(kind: str):
        stream = STREAMS.get(kind, "users")

        def split(body: bytes, now: int) -> list[tuple]:
            event = orjson.loads(body)
            if "messageId" not in event or "type" not in event:
                body = orjson.dumps({"messageId": str(uuid.uuid4()), "type": kind} | event)
            return [(stream, now, body)]

        async def endpoint(request: Request) -> Response:
            return await take(request, split)

        return endpoint

    def split_batch(body: bytes, now: int) -> list[tuple]:
        request, rows = orjson.loads(body), []
        shared = {key: request[key] for key in ("context", "integrations") if key in request}
        for event in request["batch"]:
            if "messageId" not in event:
                event["messageId"] = str(uuid.uuid4())
            stream = STREAMS.get(event.get("type"), "users")
            rows.append((stream, now, orjson.dumps(shared | event if shared else event)))
        return rows

    async def batch(request: Request) -> Response:
        return await take(request, split_batch)

    for kind in ("identify", "track", "page", "screen", "group", "alias"):
        app.add_api_route(f"/v1/{kind}", single(kind), methods=["POST"])
    app.add_api_route("/v1/batch", batch, methods=["POST"])
    app.add_api_route("/ready", lambda: {"status": "ready"}, methods=["GET"])
    return app


if __name__ == "__main__":
    port, directory, synchronous = int(sys.argv[1]), Path(sys.argv[2]), sys.argv[3]
    uvicorn.run(service(directory, synchronous), port=port, log_level="warning", access_log=False)
