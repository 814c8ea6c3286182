//! A whole eventkit in one thread, in a world that follows from a seed.
//!
//! Real: the log, the worker with its adapter, deduplication, loader and deliveries, the ledger
//! and the error store with their SQL, the runtime that drives the deliveries. Simulated: the
//! disk below the log ([`SimDisk`](disk::SimDisk)), the store ([`SimStore`](store::SimStore)),
//! time, identities and chance ([`ambient`](crate::ambient)), and who takes the next step
//! ([`Life`](life::Life)). Not simulated: HTTP, several streams at once, and SQLite's own files;
//! its databases are in memory, outlive every process, and each COMMIT happens or not, as one
//! operation.
//!
//! A run is many short lives of a process on one disk. Each ends at some operation (a write, a
//! sync, a name, a commit, a put): before it, within it or after it; by a kill, which leaves what
//! the system believes to be in its files, or by a loss of power, after which each unsynced
//! sector is old, new or garbage. Meanwhile writes are short or find no space, syncs fail and
//! drop what they should have synced, the store is slow, refuses rows, loses its answers or takes
//! a request whose sender is dead. [`Client`](client::Client) knows what was acknowledged and
//! says at the end what is missing, doubled or made up.
//!
//! `EVENTKIT_SIM_SEED=n` repeats a seed; `EVENTKIT_SIM_SEEDS` and `EVENTKIT_SIM_SECONDS` say how
//! far the long run goes (`tests/run`).

mod chance;
mod client;
mod disk;
mod file;
mod life;
mod machine;
mod store;
mod sweep;
#[cfg(test)]
mod tests;
mod world;

pub(crate) use chance::Chance;
pub(crate) use machine::Machine;
