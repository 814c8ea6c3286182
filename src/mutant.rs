//! Faults that tests put in to see that the simulation finds them: each is one line at the place
//! it breaks. A build without tests has none of them: [`active`] is `false` there, at compile time.

/// One way to break a promise.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(not(test), allow(dead_code))]
pub(crate) enum Mutant {
    /// The writer answers before it syncs.
    AckBeforeSync,
    /// Frames of a recycled segment's earlier use verify.
    NoSalt,
    /// A failed sync is tried again, and believed.
    RetrySync,
    /// The cursor passes what is planned and not stored.
    CursorBeforeUpload,
    /// Segments are recycled before the commit that makes their records unneeded.
    RecycleBeforeCommit,
    /// A log goes on in the segment of an earlier process, with the positions that come next.
    AppendInOldSegment,
    /// Frames follow each other without a gap, so that blocks are written twice.
    UnalignedFrames,
    /// Recovery takes the first bad frame for the end.
    StopAtFirstBadFrame,
    /// Message ids count as seen with the plan, not with the commit.
    DedupInsertEarly,
    /// Plans of an earlier process are forgotten, and their events planned again.
    ReplanAfterCrash,
}

/// Whether the code behaves as this mutant does.
#[cfg(not(test))]
#[inline(always)]
pub(crate) const fn active(_: Mutant) -> bool {
    false
}

#[cfg(test)]
thread_local! {
    static ACTIVE: std::cell::Cell<Option<Mutant>> = const { std::cell::Cell::new(None) };
}

/// Whether the code behaves as this mutant does, on this thread.
#[cfg(test)]
pub(crate) fn active(mutant: Mutant) -> bool {
    ACTIVE.get() == Some(mutant)
}

/// Breaks this thread's code that way, or mends it.
#[cfg(test)]
pub(crate) fn set(mutant: Option<Mutant>) {
    ACTIVE.set(mutant);
}
