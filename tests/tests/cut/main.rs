//! The client is gone while its request is under way, over real sockets: what began ends once, and is there for the retry.

mod http1;
mod http2;
mod server;
mod support;
