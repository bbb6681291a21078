//! HTTP around the engine.

pub(crate) mod header;
