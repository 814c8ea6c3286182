-- An event that its client has sent again is recognised in memory (src/errors/known.rs): message
-- ids have no order, and each new letter dirtied another page of their index.
DROP INDEX letters_message;
-- From here on a small payload's row has no preview of its own: it is the payload's beginning, and
-- `crc` covers it as before.
