-- What was loaded into the warehouse, and with which job.

-- A load of batches into one table. Written before its job is submitted, with the job's attempt.
CREATE TABLE loads (
    id         BLOB PRIMARY KEY,   -- xxh3-128 of the table and its batches' ids
    dataset    TEXT NOT NULL,
    tab        TEXT NOT NULL,
    attempt    INTEGER NOT NULL,
    state      TEXT NOT NULL CHECK (state IN ('open', 'loaded', 'split', 'failed')),
    objects    INTEGER NOT NULL,
    rows       INTEGER NOT NULL,
    bytes      INTEGER NOT NULL,
    object     TEXT NOT NULL,      -- the first of its objects
    error      TEXT,
    parent     BLOB,               -- the load that it is a part of
    planned_at INTEGER NOT NULL,   -- microseconds since the epoch, UTC
    changed_at INTEGER NOT NULL,
    crc        INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX loads_state ON loads (state, changed_at);

-- A batch's load, with a checksum behind it; 16 zeros where an earlier process, or a ledger that
-- was lost, may have loaded it; nothing where it waits for one.
ALTER TABLE batches ADD COLUMN load BLOB;
CREATE INDEX batches_load ON batches (substr(load, 1, 16)) WHERE load IS NOT NULL;
CREATE INDEX batches_unloaded ON batches (stream, last_seq) WHERE state = 'stored' AND load IS NULL;
