//! Real processes on a real Redis, killed and stopped in the middle.

mod process;
mod redis;
mod support;
mod torture;
