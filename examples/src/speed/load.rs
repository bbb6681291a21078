//! Load over plain keep-alive connections: each sends a request, reads the whole answer, and sends the next.

use std::{
    fmt,
    net::SocketAddr,
    sync::atomic::{AtomicU64, Ordering},
    time::{Duration, Instant},
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    task::JoinSet,
};

use super::Result;

/// Which keys the requests carry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Keys {
    /// Another one each: every request runs.
    New,
    /// One for each connection: every request but the first is a replay.
    Same,
}

/// What came of one load.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Load {
    pub(super) requests: u64,
    pub(super) time: Duration,
}

static NEXT: AtomicU64 = AtomicU64::new(0);

const BODY: &str = r#"{"amount":1999,"currency":"usd","source":"tok_visa"}"#;

impl Load {
    pub(super) fn per_second(&self) -> f64 {
        self.requests as f64 / self.time.as_secs_f64()
    }

    pub(super) fn add(&mut self, other: Self) {
        self.requests += other.requests;
        self.time += other.time;
    }
}

impl fmt::Display for Keys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::New => "new",
            Self::Same => "replay",
        })
    }
}

pub(super) async fn run(address: SocketAddr, keys: Keys, connections: usize, time: Duration) -> Result<Load> {
    let started = Instant::now();
    let mut tasks = JoinSet::new();
    for _ in 0..connections {
        tasks.spawn(connection(address, keys, started + time));
    }
    let mut requests = 0;
    while let Some(done) = tasks.join_next().await {
        requests += done??;
    }
    Ok(Load { requests, time: started.elapsed() })
}

async fn connection(address: SocketAddr, keys: Keys, until: Instant) -> Result<u64> {
    let mut stream = TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    let first = NEXT.fetch_add(1, Ordering::Relaxed);
    let (mut buffer, mut requests) = (vec![0; 4096], 0);
    while Instant::now() < until {
        let key = match keys {
            Keys::New => NEXT.fetch_add(1, Ordering::Relaxed),
            Keys::Same => first,
        };
        let request = format!(
            "POST /charge HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n\
             idempotency-key: 5f0c2a1e-{key:016}\r\ncontent-length: {}\r\n\r\n{BODY}",
            BODY.len(),
        );
        stream.write_all(request.as_bytes()).await?;
        answer(&mut stream, &mut buffer).await?;
        requests += 1;
    }
    Ok(requests)
}

/// Reads one answer, which must be a 201.
async fn answer(stream: &mut TcpStream, buffer: &mut [u8]) -> Result<()> {
    let mut read = 0;
    loop {
        let more = stream.read(&mut buffer[read..]).await?;
        if more == 0 {
            return Err("the server closed the connection".into());
        }
        read += more;
        let text = &buffer[..read];
        let Some(head) = text.windows(4).position(|end| end == b"\r\n\r\n") else { continue };
        let head_text = std::str::from_utf8(&text[..head])?;
        if !head_text.starts_with("HTTP/1.1 201") {
            return Err(format!("not 201: {}", String::from_utf8_lossy(text)).into());
        }
        let length = head_text
            .lines()
            .filter_map(|line| line.strip_prefix("content-length: "))
            .find_map(|length| length.parse::<usize>().ok())
            .ok_or("an answer without a length")?;
        if read >= head + 4 + length {
            return Ok(());
        }
    }
}
