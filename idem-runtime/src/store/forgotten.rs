//! What became of a record that somebody wants forgotten.

/// What [`Store::forget`](super::Store::forget) found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
#[must_use = "only `Done` and `Absent` say that there is no record"]
pub enum Forgotten {
    /// There was a record, and it is gone: the next claim of its key wins.
    Done,
    /// There was none.
    Absent,
    /// In flight, its lease alive, or out and to be taken over: nothing changed. Its owner ends it, or the next claim says what becomes of
    /// it.
    InFlight,
    /// Unknown or parked, or in flight without retention and past its lease, which is as good as unknown: nothing changed. It is
    /// for [`Store::resolve`](super::Store::resolve) to settle.
    Unknown,
}
