//! Tests.

pub mod servers;
