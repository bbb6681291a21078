//! A server that says what a test tells it to, when the test tells it to.

use std::{
    future::Future,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
};

use redis::{ConnectionInfo, IntoConnectionInfo};
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    net::{TcpListener, TcpStream},
    task::JoinHandle,
};

/// Listens for as long as the test has it.
pub(super) struct Fake {
    port: u16,
    shared: Arc<Shared>,
    accepting: JoinHandle<()>,
}

#[derive(Default)]
struct Shared {
    connections: AtomicUsize,
    heard: Mutex<Vec<String>>,
}

impl Fake {
    /// A server that is asked with each command, its words between spaces, what it answers. Until it is told, its
    /// connection stands still.
    pub(super) async fn start<A, F>(answer: A) -> Self
    where
        A: Fn(String) -> F + Clone + Send + 'static,
        F: Future<Output = String> + Send + 'static,
    {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let port = listener.local_addr().expect("an address").port();
        let shared = Arc::new(Shared::default());
        let accepting = tokio::spawn({
            let shared = shared.clone();
            async move {
                while let Ok((client, _)) = listener.accept().await {
                    shared.connections.fetch_add(1, Ordering::SeqCst);
                    let (shared, answer) = (shared.clone(), answer.clone());
                    tokio::spawn(async move { serve(client, &shared, answer).await });
                }
            }
        });
        Self { port, shared, accepting }
    }

    /// How it is reached.
    pub(super) fn info(&self) -> ConnectionInfo {
        format!("redis://127.0.0.1:{}", self.port).into_connection_info().expect("a URL of Redis")
    }

    /// Where it listens, on 127.0.0.1.
    pub(super) fn port(&self) -> u16 {
        self.port
    }

    /// How many connections were made so far.
    pub(super) fn connections(&self) -> usize {
        self.shared.connections.load(Ordering::SeqCst)
    }

    /// How many of the commands so far begin with these words.
    pub(super) fn count(&self, words: &str) -> usize {
        let heard = self.shared.heard.lock().expect("no test has panicked");
        heard.iter().filter(|command| command.starts_with(words)).count()
    }
}

impl Drop for Fake {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

/// What a server says that has nothing to say.
pub(super) const OK: &str = "+OK\r\n";

/// Texts as a server says them.
pub(super) fn list(texts: &[&str]) -> String {
    let all: String = texts.iter().map(|text| format!("${}\r\n{text}\r\n", text.len())).collect();
    format!("*{}\r\n{all}", texts.len())
}

async fn serve<F: Future<Output = String>>(client: TcpStream, shared: &Shared, answer: impl Fn(String) -> F) {
    let (read, mut write) = client.into_split();
    let mut read = BufReader::new(read);
    while let Some(command) = next(&mut read).await {
        shared.heard.lock().expect("no test has panicked").push(command.clone());
        if write.write_all(answer(command).await.as_bytes()).await.is_err() {
            return;
        }
    }
}

/// `*2 $3 GET $1 k`, each on a line of its own.
async fn next(read: &mut (impl AsyncBufReadExt + Unpin)) -> Option<String> {
    let words = length(read).await?;
    let mut command = Vec::new();
    for _ in 0..words {
        let mut word = vec![0; length(read).await? + 2];
        read.read_exact(&mut word).await.ok()?;
        word.truncate(word.len() - 2);
        command.push(String::from_utf8_lossy(&word).into_owned());
    }
    Some(command.join(" "))
}

async fn length(read: &mut (impl AsyncBufReadExt + Unpin)) -> Option<usize> {
    let mut line = String::new();
    read.read_line(&mut line).await.ok()?;
    line.get(1..)?.trim_end().parse().ok()
}
