-- The error store. A letter's first columns change while it is mended; everything from `stream`
-- on is written once and covered by `crc` (the payload by `payload_crc`). The payload stands
-- last, so that no list has to walk its pages.
CREATE TABLE letters (
    -- Never reused: replayed events in the log name their letter by it.
    id            INTEGER PRIMARY KEY AUTOINCREMENT,
    group_id      INTEGER NOT NULL,
    -- 0 open, 1 replaying, 2 resolved, 3 discarded
    status        INTEGER NOT NULL,
    attempts      INTEGER NOT NULL,
    -- The last replay that claimed it, and the log position where that replay failed.
    replay        INTEGER,
    replay_seq    INTEGER,
    -- The rejections of the last failed replay (JSON), with a checksum of their own.
    latest        TEXT,
    latest_at     INTEGER,
    latest_crc    INTEGER,

    stream        TEXT NOT NULL,
    seq           INTEGER,
    -- 0 a log record, 1 no log record, 2 a body in the malformed ring
    kind          INTEGER NOT NULL,
    received_at   INTEGER NOT NULL,
    rejected_at   INTEGER NOT NULL,
    message_id    TEXT,
    library       TEXT,
    library_version TEXT,
    rejections    TEXT NOT NULL,
    receipt       TEXT NOT NULL,
    payload_bytes INTEGER NOT NULL,
    payload_crc   INTEGER NOT NULL,
    preview       BLOB NOT NULL,
    crc           INTEGER NOT NULL,
    payload       BLOB NOT NULL
) STRICT;

-- Writing a position again after a crash finds the letter that is there already.
CREATE UNIQUE INDEX letters_position ON letters (stream, seq) WHERE seq IS NOT NULL;
-- An event that its client has sent again finds its letter.
CREATE INDEX letters_message ON letters (stream, message_id) WHERE message_id IS NOT NULL;
-- Lists and counts, whatever the filter: one seek per matching (group, status).
CREATE INDEX letters_by_group ON letters (group_id, status, id, received_at);
-- What can be claimed, in the order in which it is claimed.
CREATE INDEX letters_claimable ON letters (stream, seq, id, group_id, received_at, replay)
    WHERE status = 0 AND kind = 0;
-- What was claimed; at a restart the log is asked about these.
CREATE INDEX letters_replaying ON letters (id, stream) WHERE status = 1;
-- The ring of malformed bodies, oldest first.
CREATE INDEX letters_ring ON letters (id, payload_bytes) WHERE status = 0 AND kind = 2;

-- One row per fingerprint, its counts kept by every transaction. No library is ''.
CREATE TABLE groups (
    id            INTEGER PRIMARY KEY,
    stream        TEXT NOT NULL,
    phase         TEXT NOT NULL,
    reason        TEXT NOT NULL,
    path          TEXT NOT NULL,
    library       TEXT NOT NULL,
    open          INTEGER NOT NULL DEFAULT 0,
    replaying     INTEGER NOT NULL DEFAULT 0,
    resolved      INTEGER NOT NULL DEFAULT 0,
    discarded     INTEGER NOT NULL DEFAULT 0,
    payload_bytes INTEGER NOT NULL DEFAULT 0,
    first_at      INTEGER NOT NULL,
    last_at       INTEGER NOT NULL,
    UNIQUE (stream, phase, reason, path, library)
) STRICT;

-- Every log position at which a replayed letter was rejected again.
CREATE TABLE failures (
    stream TEXT NOT NULL,
    seq    INTEGER NOT NULL,
    letter INTEGER NOT NULL,
    PRIMARY KEY (stream, seq, letter)
) STRICT, WITHOUT ROWID;

-- What happened to a letter after its first rejection, which is in its own columns.
CREATE TABLE history (
    id     INTEGER PRIMARY KEY,
    letter INTEGER NOT NULL,
    at     INTEGER NOT NULL,
    what   TEXT NOT NULL,
    by     TEXT,
    detail TEXT NOT NULL
) STRICT;
CREATE INDEX history_by_letter ON history (letter);

-- Every command that changed letters.
CREATE TABLE audit (
    id          INTEGER PRIMARY KEY AUTOINCREMENT,
    at          INTEGER NOT NULL,
    what        TEXT NOT NULL,
    by          TEXT NOT NULL,
    filter      TEXT NOT NULL,
    note        TEXT,
    letters     INTEGER NOT NULL,
    finished_at INTEGER,
    replayed    INTEGER,
    refused     INTEGER
) STRICT;

CREATE TABLE totals (
    name  TEXT PRIMARY KEY,
    value INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
INSERT INTO totals VALUES ('malformed_dropped', 0);
