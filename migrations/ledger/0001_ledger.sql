-- What was planned, stored and replayed.

-- Everything below next_seq of that log is stored or dead-lettered.
CREATE TABLE cursors (
    stream   TEXT PRIMARY KEY,
    log_uuid BLOB NOT NULL,
    next_seq INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE batches (
    id                BLOB PRIMARY KEY,   -- uuid v7
    stream            TEXT NOT NULL,
    log_uuid          BLOB NOT NULL,
    partition         INTEGER NOT NULL,
    state             TEXT NOT NULL CHECK (state IN ('planned', 'stored', 'replaced')),
    object            TEXT NOT NULL,      -- where it goes, or went
    rows              INTEGER NOT NULL,
    first_seq         INTEGER NOT NULL,
    last_seq          INTEGER NOT NULL,
    -- The exact positions (a serialized roaring treemap), until the cursor has passed them.
    seqs              BLOB,
    -- The hashes of its message ids, 16 bytes each, while the deduplication window needs them.
    ids               BLOB,
    digest            BLOB NOT NULL,      -- xxh3-128 of positions and payloads
    first_received_at INTEGER NOT NULL,   -- microseconds since the epoch, UTC
    last_received_at  INTEGER NOT NULL,
    planned_at        INTEGER NOT NULL,
    stored_at         INTEGER,
    bytes             INTEGER
) STRICT, WITHOUT ROWID;

CREATE INDEX batches_open ON batches (stream) WHERE state = 'planned';
CREATE INDEX batches_last ON batches (stream, last_seq);
CREATE INDEX batches_above ON batches (stream, last_seq) WHERE seqs IS NOT NULL;

-- Dead letters whose event is stored: an entry stands from the batch's commit on, so that a
-- letter can be closed after a crash and is never replayed twice.
CREATE TABLE replayed (
    letter INTEGER PRIMARY KEY,
    batch  BLOB NOT NULL
) STRICT;

CREATE INDEX batches_ids ON batches (stream, stored_at) WHERE ids IS NOT NULL;

-- The secret that message ids are hashed with.
CREATE TABLE secrets (
    name  TEXT PRIMARY KEY,
    value BLOB NOT NULL
) STRICT, WITHOUT ROWID;
INSERT INTO secrets (name, value) VALUES ('ids', randomblob(16));
