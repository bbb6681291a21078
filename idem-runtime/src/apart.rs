//! What two cores write by turns goes from one to the other and back, and takes along what lies beside it.

/// On cache lines of its own.
#[derive(Debug, Default)]
#[repr(align(128))]
pub(crate) struct Apart<T>(pub(crate) T);
