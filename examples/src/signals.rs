//! How a process is told to stop.

use std::io;

/// SIGTERM or SIGINT, from now on: the number of the one that came.
#[cfg(unix)]
pub(crate) fn stop() -> io::Result<impl Future<Output = u8> + Send + 'static> {
    use tokio::signal::unix::{SignalKind, signal};

    let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    Ok(async move {
        tokio::select! {
            _ = terminate.recv() => 15,
            _ = interrupt.recv() => 2,
        }
    })
}

/// Ctrl-C, from now on, by the number that it has elsewhere.
#[cfg(windows)]
pub(crate) fn stop() -> io::Result<impl Future<Output = u8> + Send + 'static> {
    let mut interrupt = tokio::signal::windows::ctrl_c()?;
    Ok(async move {
        interrupt.recv().await;
        2
    })
}
