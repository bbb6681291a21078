//! What the tests are written with.

pub mod backend;
pub mod broken;
pub mod client;
pub mod servers;
pub mod service;
