//! One connection to one server: its socket, and the task that writes and reads for all who share it.

use std::{
    future::{Future, poll_fn},
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
    },
    task::{Context, Poll, Wake, Waker},
    time::Duration,
};

use futures_util::{future::select_ok, task::AtomicWaker};
use pin_project_lite::pin_project;
use redis::{
    AsyncConnectionConfig, ConnectionAddr, ConnectionInfo, RedisError, RedisResult,
    aio::MultiplexedConnection,
    io::tcp::socket2::{SockRef, TcpKeepalive},
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpStream, lookup_host},
    sync::Notify,
    task::AbortHandle,
};

use super::fault::Cause;

/// What those who share a connection know of it.
#[derive(Debug)]
pub(super) struct Wire {
    pub(super) address: Box<str>,
    /// How many replies came over it, to tell a slow command from a silent connection.
    pub(super) heard: AtomicU64,
    /// Whether its server evicts records, for all that is known: it is asked before it is given a claim.
    pub(super) may_evict: AtomicBool,
    /// Whether the log says that it does.
    pub(super) is_told: AtomicBool,
    /// `None`: the driver decides when it writes.
    gathering: Option<Gathering>,
}

/// Its tasks are ended with the last who could ask: one that waits for a silent server would stay.
#[derive(Debug)]
struct Gathering {
    round: Arc<Round>,
    tasks: [AbortHandle; 2],
}

/// Lets all who are ready hand over their commands before any is written, so that what is asked for at one moment leaves in
/// one write and is answered in one: on its own the driver's task runs as soon as the first has spoken. But no more than
/// [`BATCH`] of them: the server is to begin while the others are still at it.
#[derive(Debug, Default)]
struct Round {
    begun: Notify,
    /// How many have spoken since the driver ran.
    asked: AtomicUsize,
    driver: AtomicWaker,
}

pin_project! {
    /// The driver's task, which only a round wakes.
    struct Driving<F> {
        #[pin]
        driver: F,
        round: Arc<Round>,
        begin: Waker,
    }
}

/// How long sent bytes may stay unacknowledged before the kernel gives the connection up.
#[cfg(any(target_os = "android", target_os = "fuchsia", target_os = "linux"))]
const USER_TIMEOUT: Duration = Duration::from_secs(5);

/// How long an idle connection goes unprobed, and how often it is probed then.
const KEEPALIVE: (Duration, Duration) = (Duration::from_secs(15), Duration::from_secs(5));

/// How many commands may wait for the connection's task before senders wait as well.
const QUEUE: usize = 1024;

/// How many commands are gathered at most.
const BATCH: usize = 8;

impl Wire {
    /// Opens a connection for many, which notices when its peer is gone.
    pub(super) async fn open(info: ConnectionInfo, timeout: Duration) -> Result<(MultiplexedConnection, Self), Cause> {
        let address = info.addr().to_string();
        let (connection, gathering) = connect(info, timeout).await.map_err(|error| cannot_connect(&address, &error))?;
        let wire = Self {
            address: address.into(),
            heard: AtomicU64::new(0),
            may_evict: AtomicBool::new(false),
            is_told: AtomicBool::new(false),
            gathering,
        };
        Ok((connection, wire))
    }

    /// To be told before something is asked.
    pub(super) fn announce(&self) {
        if let Some(gathering) = &self.gathering {
            gathering.round.announce();
        }
    }
}

/// Opens a connection for one, which notices when its peer is gone.
pub(crate) async fn open(info: ConnectionInfo, timeout: Duration) -> Result<MultiplexedConnection, Cause> {
    let address = info.addr().to_string();
    by_driver(info, timeout).await.map_err(|error| cannot_connect(&address, &error))
}

fn cannot_connect(address: &str, error: &RedisError) -> Cause {
    let cause = Cause::of(error);
    Cause::new(cause.kind, format!("cannot connect to `{address}`: {}", cause.context))
}

async fn connect(info: ConnectionInfo, timeout: Duration) -> RedisResult<(MultiplexedConnection, Option<Gathering>)> {
    match info.addr() {
        ConnectionAddr::Tcp(host, port) => gathering(tcp(host, *port).await?, &info, timeout).await,
        #[cfg(unix)]
        ConnectionAddr::Unix(path) => gathering(tokio::net::UnixStream::connect(path).await?, &info, timeout).await,
        // TLS is the driver's, and so is the task behind it.
        _ => Ok((by_driver(info, timeout).await?, None)),
    }
}

async fn gathering<S>(
    stream: S,
    info: &ConnectionInfo,
    timeout: Duration,
) -> RedisResult<(MultiplexedConnection, Option<Gathering>)>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (connection, driver) =
        MultiplexedConnection::new_with_config(info.redis_settings(), stream, config(timeout)).await?;
    let round = Arc::new(Round::default());
    let tasks = [tokio::spawn(round.clone().drive(driver)), tokio::spawn(round.clone().run())];
    Ok((connection, Some(Gathering { round, tasks: tasks.map(|task| task.abort_handle()) })))
}

/// To whichever address of the host answers first.
async fn tcp(host: &str, port: u16) -> RedisResult<TcpStream> {
    let addresses: Vec<_> = lookup_host((host, port)).await?.collect();
    if addresses.is_empty() {
        return Err(std::io::Error::new(std::io::ErrorKind::NotFound, "the host has no address").into());
    }
    let (stream, _) = select_ok(addresses.into_iter().map(|address| Box::pin(TcpStream::connect(address)))).await?;
    stream.set_nodelay(true)?;
    let socket = SockRef::from(&stream);
    socket.set_tcp_keepalive(&keepalive())?;
    #[cfg(any(target_os = "android", target_os = "fuchsia", target_os = "linux"))]
    socket.set_tcp_user_timeout(Some(USER_TIMEOUT))?;
    Ok(stream)
}

async fn by_driver(info: ConnectionInfo, timeout: Duration) -> RedisResult<MultiplexedConnection> {
    let tcp = info.tcp_settings().clone().set_nodelay(true).set_keepalive(keepalive());
    #[cfg(any(target_os = "android", target_os = "fuchsia", target_os = "linux"))]
    let tcp = tcp.set_user_timeout(USER_TIMEOUT);
    let client = redis::Client::open(info.set_tcp_settings(tcp))?;
    client.get_multiplexed_async_connection_with_config(&config(timeout)).await
}

/// Without a time-out for replies: commands carry deadlines of their own.
fn config(timeout: Duration) -> AsyncConnectionConfig {
    AsyncConnectionConfig::new()
        .set_connection_timeout(Some(timeout))
        .set_response_timeout(None)
        .set_pipeline_buffer_size(QUEUE)
}

fn keepalive() -> TcpKeepalive {
    TcpKeepalive::new().with_time(KEEPALIVE.0).with_interval(KEEPALIVE.1)
}

impl Drop for Gathering {
    fn drop(&mut self) {
        for task in &self.tasks {
            task.abort();
        }
    }
}

impl Round {
    fn announce(&self) {
        if self.asked.fetch_add(1, Ordering::Relaxed) + 1 == BATCH {
            self.driver.wake();
        }
    }

    /// Ends each round once all who were ready when it began have run.
    async fn run(self: Arc<Self>) {
        loop {
            self.begun.notified().await;
            let mut has_waited = false;
            poll_fn(|context| {
                if has_waited {
                    return Poll::Ready(());
                }
                has_waited = true;
                // A task that wakes itself goes behind all that are ready.
                context.waker().wake_by_ref();
                Poll::Pending
            })
            .await;
            self.driver.wake();
        }
    }

    fn drive<F: Future<Output = ()>>(self: Arc<Self>, driver: F) -> Driving<F> {
        Driving { driver, begin: self.clone().into(), round: self }
    }
}

/// What wakes the driver, a command or a reply, begins a round.
impl Wake for Round {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.begun.notify_one();
    }
}

impl<F: Future<Output = ()>> Future for Driving<F> {
    type Output = ();

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let this = self.project();
        this.round.driver.register(context.waker());
        this.round.asked.store(0, Ordering::Relaxed);
        this.driver.poll(&mut Context::from_waker(this.begin))
    }
}

#[cfg(test)]
mod tests {
    use tokio::sync::mpsc::unbounded_channel;

    use super::*;

    /// On one worker, where a task that is woken comes before those that are ready.
    #[tokio::test(flavor = "multi_thread", worker_threads = 1)]
    async fn what_is_asked_for_at_one_moment_is_gathered_up_to_a_batch() {
        for (ready, gathered) in [(1, vec![1]), (5, vec![5]), (BATCH + 3, vec![BATCH, 3])] {
            let (ask, mut asked) = unbounded_channel();
            let (saw, mut seen) = unbounded_channel();
            let driver = async move {
                let mut commands = Vec::new();
                while asked.recv_many(&mut commands, usize::MAX).await > 0 {
                    saw.send(commands.len()).expect("somebody looks");
                    commands.clear();
                }
            };
            let round = Arc::new(Round::default());
            let driving = tokio::spawn(round.clone().drive(driver));
            let rounds = tokio::spawn(round.clone().run());
            tokio::spawn(async move {
                // The driver waits to be asked by now: it was spawned before.
                for command in 0..ready {
                    let (round, ask) = (round.clone(), ask.clone());
                    tokio::spawn(async move {
                        round.announce();
                        ask.send(command)
                    });
                }
            });
            for batch in gathered {
                assert_eq!(seen.recv().await, Some(batch), "{ready} are ready");
            }
            driving.await.expect("the driver ends");
            rounds.abort();
        }
    }
}
