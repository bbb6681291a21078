//! One connection to one server: its socket, and the task that writes and reads for all who share it.

use std::{
    future::Future,
    pin::Pin,
    sync::atomic::AtomicU64,
    task::{Context, Poll},
    time::Duration,
};

use futures_util::future::select_ok;
use pin_project_lite::pin_project;
use redis::{
    AsyncConnectionConfig, ConnectionAddr, ConnectionInfo, RedisError, RedisResult,
    aio::MultiplexedConnection,
    io::tcp::socket2::{SockRef, TcpKeepalive},
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpStream, lookup_host},
    task::AbortHandle,
};

use super::fault::Cause;

/// What those who share a connection know of it.
#[derive(Debug)]
pub(super) struct Wire {
    pub(super) address: Box<str>,
    /// How many replies came over it, to tell a slow command from a silent connection.
    pub(super) heard: AtomicU64,
    _task: Option<Task>,
}

/// Ended with the last who could ask it for something: one that waits for a silent server would stay.
#[derive(Debug)]
struct Task(AbortHandle);

pin_project! {
    /// Lets all who are ready hand over their commands before it writes, so that what is asked for at one moment leaves in one
    /// write, and is answered in one. On its own the driver's task runs as soon as the first of them has spoken.
    struct Gathering<F> {
        #[pin]
        driver: F,
        waited: bool,
    }
}

/// How long sent bytes may stay unacknowledged before the kernel gives the connection up.
#[cfg(any(target_os = "android", target_os = "fuchsia", target_os = "linux"))]
const USER_TIMEOUT: Duration = Duration::from_secs(5);

/// How long an idle connection goes unprobed, and how often it is probed then.
const KEEPALIVE: (Duration, Duration) = (Duration::from_secs(15), Duration::from_secs(5));

/// How many commands may wait for the connection's task before senders wait as well.
const QUEUE: usize = 1024;

impl Wire {
    /// Opens a connection for many, which notices when its peer is gone.
    pub(super) async fn open(info: ConnectionInfo, timeout: Duration) -> Result<(MultiplexedConnection, Self), Cause> {
        let address = info.addr().to_string();
        let (connection, task) = connect(info, timeout).await.map_err(|error| cannot_connect(&address, &error))?;
        Ok((connection, Self { address: address.into(), heard: AtomicU64::new(0), _task: task }))
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

async fn connect(info: ConnectionInfo, timeout: Duration) -> RedisResult<(MultiplexedConnection, Option<Task>)> {
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
) -> RedisResult<(MultiplexedConnection, Option<Task>)>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (connection, driver) =
        MultiplexedConnection::new_with_config(info.redis_settings(), stream, config(timeout)).await?;
    let task = tokio::spawn(Gathering { driver, waited: false });
    Ok((connection, Some(Task(task.abort_handle()))))
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

impl Drop for Task {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl<F: Future<Output = ()>> Future for Gathering<F> {
    type Output = ();

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let this = self.project();
        *this.waited = !*this.waited;
        if *this.waited {
            // A task that wakes itself goes behind all that are ready.
            context.waker().wake_by_ref();
            return Poll::Pending;
        }
        this.driver.poll(context)
    }
}

#[cfg(test)]
mod tests {
    use tokio::sync::{mpsc, oneshot};

    use super::*;

    /// One worker, where a task that is woken comes before those that are ready.
    #[tokio::test(flavor = "multi_thread", worker_threads = 1)]
    async fn what_is_asked_for_at_one_moment_is_gathered() {
        let (ask, mut asked) = mpsc::unbounded_channel();
        let (saw, seen) = oneshot::channel();
        let (begin, begun) = oneshot::channel();
        let driver = async move {
            let mut commands = Vec::new();
            // On the one worker: nobody asks before the driver waits to be asked.
            let _ = begin.send(());
            asked.recv_many(&mut commands, usize::MAX).await;
            let _ = saw.send(commands.len());
        };
        let waits = tokio::spawn(Gathering { driver, waited: false });
        begun.await.expect("the driver begins");
        tokio::spawn(async move {
            for command in 0..10 {
                let ask = ask.clone();
                tokio::spawn(async move { ask.send(command) });
            }
        });
        assert_eq!(seen.await, Ok(10));
        waits.await.expect("the driver ends");
    }
}
