//! The laws, each with what it asks and why.

pub mod claim;
pub mod complete;
pub mod damage;
pub mod lease;
pub mod release;
pub mod restart;
pub mod together;
pub mod unknown;
