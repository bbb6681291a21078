//! A way to a server that a test can cut.

use std::sync::{
    Arc,
    atomic::{AtomicU16, AtomicUsize, Ordering::SeqCst},
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{
        TcpListener, TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    task::JoinHandle,
};

/// A TCP proxy in front of a port of 127.0.0.1.
#[derive(Debug)]
pub struct Proxy {
    port: u16,
    shared: Arc<Shared>,
    accepting: JoinHandle<()>,
}

#[derive(Debug, Default)]
struct Shared {
    /// Where new connections lead to.
    server: AtomicU16,
    connections: AtomicUsize,
    replies: AtomicUsize,
    /// So many of the first connections are black holes.
    swallowed: AtomicUsize,
    /// So many replies come through before some are lost.
    replies_to_pass: AtomicUsize,
    /// So many replies are still to be lost.
    replies_to_lose: AtomicUsize,
}

impl Proxy {
    /// A proxy in front of `port`.
    ///
    /// # Panics
    ///
    /// If it cannot listen.
    pub async fn start(port: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let own = listener.local_addr().expect("an address").port();
        let shared = Arc::new(Shared { server: AtomicU16::new(port), ..Shared::default() });
        let accepting = tokio::spawn(accept(listener, shared.clone()));
        Self { port: own, shared, accepting }
    }

    /// How the server is reached through it.
    #[must_use]
    pub fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    /// Where it listens, on 127.0.0.1.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// New connections lead to another port, as a name does whose address has changed.
    pub fn lead_to(&self, port: u16) {
        self.shared.server.store(port, SeqCst);
    }

    /// The reply behind the next `passed` ones is not passed on, as with [`lose_replies`](Self::lose_replies).
    pub fn lose_reply_after(&self, passed: usize) {
        self.shared.replies_to_pass.store(passed, SeqCst);
        self.shared.replies_to_lose.store(1, SeqCst);
    }

    /// The next `replies` are not passed on: the server has done its work, the connection breaks instead.
    pub fn lose_replies(&self, replies: usize) {
        self.shared.replies_to_lose.store(replies, SeqCst);
    }

    /// Nothing comes through the connections that are open now any more, in either direction, and nothing closes them.
    /// New ones work.
    pub fn swallow(&self) {
        self.shared.swallowed.store(self.connections(), SeqCst);
    }

    /// How many connections were made so far.
    #[must_use]
    pub fn connections(&self) -> usize {
        self.shared.connections.load(SeqCst)
    }

    /// How often the server has said something so far. To clients that ask one thing at a time, each is a round trip, if it is
    /// short.
    #[must_use]
    pub fn replies(&self) -> usize {
        self.shared.replies.load(SeqCst)
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

async fn accept(listener: TcpListener, shared: Arc<Shared>) {
    while let Ok((client, _)) = listener.accept().await {
        let number = shared.connections.fetch_add(1, SeqCst);
        let Ok(server) = TcpStream::connect(("127.0.0.1", shared.server.load(SeqCst))).await else { continue };
        client.set_nodelay(true).expect("no delay");
        server.set_nodelay(true).expect("no delay");
        let shared = shared.clone();
        tokio::spawn(async move {
            let (from_client, to_client) = client.into_split();
            let (from_server, to_server) = server.into_split();
            tokio::select! {
                () = requests(from_client, to_server, number, &shared) => {}
                () = replies(from_server, to_client, number, &shared) => {}
            }
        });
    }
}

async fn requests(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, number: usize, shared: &Shared) {
    let mut buffer = vec![0; 64 * 1024];
    while let Ok(read @ 1..) = from.read(&mut buffer).await {
        if number < shared.swallowed.load(SeqCst) {
            continue;
        }
        if to.write_all(&buffer[..read]).await.is_err() {
            break;
        }
    }
}

async fn replies(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, number: usize, shared: &Shared) {
    let mut buffer = vec![0; 64 * 1024];
    while let Ok(read @ 1..) = from.read(&mut buffer).await {
        if number < shared.swallowed.load(SeqCst) {
            continue;
        }
        shared.replies.fetch_add(1, SeqCst);
        let passes = shared.replies_to_pass.fetch_update(SeqCst, SeqCst, |left| left.checked_sub(1)).is_ok();
        if !passes && shared.replies_to_lose.fetch_update(SeqCst, SeqCst, |left| left.checked_sub(1)).is_ok() {
            break;
        }
        if to.write_all(&buffer[..read]).await.is_err() {
            break;
        }
    }
}
