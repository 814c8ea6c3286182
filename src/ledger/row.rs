//! The ledger's rows: what is written of them, and what is believed when they are read.
//!
//! Every row has a CRC32C of what it says. The positions and ids of a batch, which are dropped
//! when they are not needed any more, end with one of their own, bound to their batch.

use roaring::RoaringTreemap;
use rusqlite::{CachedStatement, Connection, OptionalExtension, Row, params};

use crate::event::Micros;
use crate::sequence::PartitionId;
use crate::sqlite::{Checksum, damaged};
use crate::store::{BatchId, Digest, Plan};

/// What [`BatchRow::read`] reads, in this order; behind it stand `seqs` and `ids`.
pub(super) const BATCH: &str = "id, stream, log_uuid, partition, last_partition, state, object, rows, first_seq, \
     last_seq, digest, first_received_at, last_received_at, planned_at, stored_at, bytes, parent, \
     ledger_tx, crc";

/// The columns behind [`BATCH`].
pub(super) const SEQS: usize = 19;
pub(super) const IDS: usize = 20;

/// What has become of a plan.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    Planned,
    Stored,
    Replaced,
}

impl State {
    const ALL: [(Self, &'static str); 3] =
        [(Self::Planned, "planned"), (Self::Stored, "stored"), (Self::Replaced, "replaced")];

    pub(super) fn as_str(self) -> &'static str {
        Self::ALL.iter().find(|(state, _)| *state == self).map_or("", |(_, name)| name)
    }

    fn from_name(name: &str) -> Option<Self> {
        Self::ALL.iter().find(|(_, n)| *n == name).map(|(state, _)| *state)
    }
}

/// A batch's row without its positions and ids.
#[derive(Clone, Debug)]
pub(super) struct BatchRow {
    pub id: BatchId,
    pub stream: String,
    pub log_uuid: u128,
    pub partitions: (PartitionId, PartitionId),
    pub state: State,
    pub object: String,
    pub rows: i64,
    pub first_seq: i64,
    pub last_seq: i64,
    pub digest: Digest,
    pub received: (Micros, Micros),
    pub planned_at: Micros,
    pub stored_at: Option<Micros>,
    pub bytes: Option<i64>,
    pub parent: Option<BatchId>,
    pub ledger_tx: i64,
}

impl BatchRow {
    pub(super) fn of_plan(plan: &Plan, parent: Option<BatchId>, ledger_tx: u64) -> Self {
        Self {
            id: plan.id,
            stream: plan.stream.as_str().to_owned(),
            log_uuid: plan.log_uuid,
            partitions: plan.partitions,
            state: State::Planned,
            object: plan.object.clone(),
            rows: plan.seqs.len() as i64,
            first_seq: plan.seqs.min().unwrap_or(0) as i64,
            last_seq: plan.seqs.max().unwrap_or(0) as i64,
            digest: plan.digest,
            received: plan.received,
            planned_at: crate::time::now(),
            stored_at: None,
            bytes: None,
            parent,
            ledger_tx: ledger_tx as i64,
        }
    }

    fn crc(&self) -> u32 {
        let number = |value: Option<i64>| value.map(i64::to_le_bytes);
        let (first, last) = self.partitions;
        // Rows of before a batch had several partitions keep the checksum that they have.
        let last = i64::from(last - first) << 16;
        Checksum::default()
            .bytes(Some(self.id.as_bytes()))
            .text(Some(&self.stream))
            .bytes(Some(&self.log_uuid.to_be_bytes()))
            .number(i64::from(first) | last)
            .text(Some(self.state.as_str()))
            .text(Some(&self.object))
            .number(self.rows)
            .number(self.first_seq)
            .number(self.last_seq)
            .bytes(Some(&self.digest.to_be_bytes()))
            .number(self.received.0)
            .number(self.received.1)
            .number(self.planned_at)
            .bytes(number(self.stored_at).as_ref().map(<[u8; 8]>::as_slice))
            .bytes(number(self.bytes).as_ref().map(<[u8; 8]>::as_slice))
            .bytes(self.parent.as_ref().map(|id| id.as_bytes().as_slice()))
            .number(self.ledger_tx)
            .value()
    }

    /// The row without its checksum; `None` where a column is not even of its kind.
    fn columns(row: &Row<'_>) -> Option<Self> {
        Some(Self {
            id: BatchId::from_bytes(row.get(0).ok()?),
            stream: row.get(1).ok()?,
            log_uuid: u128::from_be_bytes(row.get(2).ok()?),
            partitions: (row.get(3).ok()?, row.get(4).ok()?),
            state: State::from_name(row.get_ref(5).ok()?.as_str().ok()?)?,
            object: row.get(6).ok()?,
            rows: row.get(7).ok()?,
            first_seq: row.get(8).ok()?,
            last_seq: row.get(9).ok()?,
            digest: Digest::from_be_bytes(row.get(10).ok()?),
            received: (row.get(11).ok()?, row.get(12).ok()?),
            planned_at: row.get(13).ok()?,
            stored_at: row.get(14).ok()?,
            bytes: row.get(15).ok()?,
            parent: row.get::<_, Option<[u8; 16]>>(16).ok()?.map(BatchId::from_bytes),
            ledger_tx: row.get(17).ok()?,
        })
    }

    /// The checksum of a row that has none yet.
    pub(super) fn crc_of(row: &Row<'_>) -> rusqlite::Result<u32> {
        Self::columns(row).map(|read| read.crc()).ok_or_else(|| damaged("a batch's row"))
    }

    /// The row, where it is what was written.
    pub(super) fn read(row: &Row<'_>) -> rusqlite::Result<Self> {
        Self::columns(row)
            .filter(|read| row.get::<_, i64>(18).is_ok_and(|crc| crc == i64::from(read.crc())))
            .ok_or_else(|| damaged("a batch's row"))
    }

    pub(super) fn find(c: &Connection, id: BatchId) -> rusqlite::Result<Option<Self>> {
        c.prepare_cached(&format!("SELECT {BATCH} FROM batches WHERE id = ?1"))?
            .query_row([id.as_bytes()], Self::read)
            .optional()
    }

    /// Writes the row with its positions and ids, in the place of one of the same identity that
    /// is there.
    pub(super) fn insert(
        &self,
        c: &Connection,
        seqs: &RoaringTreemap,
        ids: &[u128],
        over: bool,
    ) -> rusqlite::Result<()> {
        let sql = if over { "INSERT OR REPLACE" } else { "INSERT" };
        let mut insert = c.prepare_cached(&format!(
            "{sql} INTO batches ({BATCH}, seqs, ids) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, \
             ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17, ?18, ?19, ?20, ?21)"
        ))?;
        let mut bytes = Vec::with_capacity(seqs.serialized_size() + 4);
        seqs.serialize_into(&mut bytes)
            .map_err(|e| rusqlite::Error::ToSqlConversionFailure(Box::new(e)))?;
        let ids: Vec<u8> = ids.iter().flat_map(|id| id.to_le_bytes()).collect();
        self.execute(&mut insert, seal(self.id, bytes), seal(self.id, ids))
    }

    fn execute(
        &self,
        insert: &mut CachedStatement<'_>,
        seqs: Vec<u8>,
        ids: Vec<u8>,
    ) -> rusqlite::Result<()> {
        insert
            .execute(params![
                self.id.as_bytes(),
                self.stream,
                self.log_uuid.to_be_bytes(),
                self.partitions.0,
                self.partitions.1,
                self.state.as_str(),
                self.object,
                self.rows,
                self.first_seq,
                self.last_seq,
                self.digest.to_be_bytes(),
                self.received.0,
                self.received.1,
                self.planned_at,
                self.stored_at,
                self.bytes,
                self.parent.as_ref().map(|id| id.as_bytes()),
                self.ledger_tx,
                self.crc(),
                seqs,
                ids,
            ])
            .map(drop)
    }

    /// Writes what may change in a row; positions and ids stay.
    pub(super) fn update(&self, c: &Connection) -> rusqlite::Result<()> {
        c.prepare_cached(
            "UPDATE batches SET state = ?2, object = ?3, bytes = ?4, stored_at = ?5, crc = ?6
             WHERE id = ?1",
        )?
        .execute(params![
            self.id.as_bytes(),
            self.state.as_str(),
            self.object,
            self.bytes,
            self.stored_at,
            self.crc(),
        ])
        .map(drop)
    }

    /// The positions in a row's column; none where they were dropped.
    pub(super) fn seqs(&self, row: &Row<'_>, column: usize) -> rusqlite::Result<RoaringTreemap> {
        let Some(bytes) = row.get_ref(column)?.as_blob_or_null().unwrap_or_default() else {
            return Ok(RoaringTreemap::new());
        };
        let bytes = unseal(self.id, bytes)?;
        RoaringTreemap::deserialize_from(bytes).map_err(|_| damaged("a batch's positions"))
    }
}

/// Bytes with their checksum behind them, bound to their batch.
pub(super) fn seal(id: BatchId, mut bytes: Vec<u8>) -> Vec<u8> {
    let crc = Checksum::default().bytes(Some(id.as_bytes())).bytes(Some(&bytes)).value();
    bytes.extend_from_slice(&crc.to_le_bytes());
    bytes
}

/// The bytes before their checksum, where they are what was written.
pub(super) fn unseal(id: BatchId, sealed: &[u8]) -> rusqlite::Result<&[u8]> {
    let fail = || damaged("a batch's positions or ids");
    let (bytes, crc) = sealed.split_last_chunk::<4>().ok_or_else(fail)?;
    let found = Checksum::default().bytes(Some(id.as_bytes())).bytes(Some(bytes)).value();
    if found == u32::from_le_bytes(*crc) { Ok(bytes) } else { Err(fail()) }
}

/// The checksum of a named value.
pub(super) fn named_crc(name: &str, value: &[u8]) -> u32 {
    Checksum::default().text(Some(name)).bytes(Some(value)).value()
}

/// The checksum of a letter that is stored.
pub(super) fn replayed_crc(letter: i64, batch: &[u8]) -> u32 {
    Checksum::default().number(letter).bytes(Some(batch)).value()
}

/// The checksum of a letter that waits.
pub(super) fn letter_crc(stream: &str, seq: i64, letter: i64, log_uuid: &[u8]) -> u32 {
    Checksum::default().text(Some(stream)).number(seq).number(letter).bytes(Some(log_uuid)).value()
}
