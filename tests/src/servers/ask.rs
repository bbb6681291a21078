//! One command to a Redis server, over a connection of its own.
//!
//! Not by the client's blocking connection: that takes a read which the system breaks off (`EINTR`) for a failure, and
//! a read with a time-out is broken off whenever the process is stopped and continued, as it is on a machine that
//! stands still for a moment (signal(7), "Interruption of system calls by stop signals").

use std::{
    io::{ErrorKind, Read, Result, Write},
    net::{SocketAddr, TcpStream},
    time::Duration,
};

use redis::{Cmd, FromRedisValue, Parser, RedisResult};

const CONNECT: Duration = Duration::from_secs(2);
const REPLY: Duration = Duration::from_secs(5);

pub(super) fn ask<T: FromRedisValue>(port: u16, password: Option<&str>, command: &[&str]) -> RedisResult<T> {
    let stream = TcpStream::connect_timeout(&SocketAddr::from(([127, 0, 0, 1], port)), CONNECT)?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(REPLY))?;
    let mut server = Patient(stream);
    if let Some(password) = password {
        server.reply_to(&["AUTH", password])?.extract_error()?;
    }
    Ok(redis::from_redis_value(server.reply_to(command)?.extract_error()?)?)
}

/// A connection that reads on where a read is broken off.
struct Patient(TcpStream);

impl Patient {
    fn reply_to(&mut self, command: &[&str]) -> RedisResult<redis::Value> {
        let mut packed = Cmd::new();
        for part in command {
            packed.arg(part);
        }
        self.0.write_all(&packed.get_packed_command())?;
        Parser::new().parse_value(self)
    }
}

impl Read for Patient {
    fn read(&mut self, buffer: &mut [u8]) -> Result<usize> {
        loop {
            match self.0.read(buffer) {
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                read => return read,
            }
        }
    }
}
