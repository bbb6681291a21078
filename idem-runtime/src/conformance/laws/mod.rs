//! The laws, each with what it asks and why.

pub mod at_once;
pub mod claim;
pub mod complete;
pub mod damage;
pub mod forget;
pub mod lease;
pub mod listed;
pub mod many;
pub mod parked;
pub mod release;
pub mod remembered;
pub mod restart;
pub mod together;
pub mod unknown;
