//! Which way a step goes to its server.

use std::{fmt, sync::Arc};

use redis::{Cmd, Value};
use tokio::time::{Instant, timeout_at};

use super::{
    ConnectionProvider,
    cluster::Cluster,
    fault::Fault,
    link::Word,
    node::{Node, Reply},
    script::Step,
};

pub(super) enum Route {
    /// One server.
    Server(Node),
    /// The master that Sentinels name.
    Master(Arc<Node>),
    Cluster(Cluster),
    Provider(Box<dyn ConnectionProvider>),
}

impl Route {
    /// Whether commands that leave together are one round trip, and nothing else follows a claim.
    pub(super) fn takes_questions(&self) -> bool {
        match self {
            Self::Server(node) => !node.waits_for_replicas(),
            Self::Master(node) => !node.waits_for_replicas(),
            Self::Cluster(cluster) => !cluster.waits_for_replicas(),
            Self::Provider(_) => false,
        }
    }

    pub(super) async fn ask(&self, step: &Step, deadline: Instant) -> Result<Reply, Fault> {
        match self {
            Self::Server(node) => node.ask(step, deadline).await,
            // Boxes: a step on one server is not to carry the room of the others.
            Self::Master(node) => Box::pin(ask_master(node, step, deadline)).await,
            Self::Cluster(cluster) => Box::pin(cluster.ask(step, deadline)).await,
            Self::Provider(provider) => Box::pin(ask_provider(&**provider, step, deadline)).await,
        }
    }
}

impl fmt::Debug for Route {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Server(node) => f.debug_tuple("Server").field(node).finish(),
            Self::Master(node) => f.debug_tuple("Master").field(node).finish(),
            Self::Cluster(cluster) => f.debug_tuple("Cluster").field(cluster).finish(),
            Self::Provider(_) => f.write_str("Provider(..)"),
        }
    }
}

async fn ask_master(node: &Arc<Node>, step: &Step, deadline: Instant) -> Result<Reply, Fault> {
    if node.link.is_quiet() {
        // A server that stood still and was replaced grants what it is asked as soon as it goes on, and is quick about it.
        node.verify(deadline.min(Instant::now() + LOOK)).await;
    }
    match node.ask(step, deadline).await {
        // The Sentinels know whether it stood still for so long that it was replaced. It is asked again, and if it is
        // slow once more, they are.
        Ok(reply) if reply.late && step.is_repeatable() => {
            if node.verify(deadline).await == Word::Unheard {
                return Err(Fault::Silent);
            }
            let again = node.ask(step, deadline).await.map_err(Fault::behind_a_lost_reply)?;
            if again.late && node.verify(deadline).await != Word::Stays {
                return Err(Fault::Silent);
            }
            Ok(Reply { repeated: true, ..again })
        }
        // What cannot be asked again is not believed either.
        Ok(reply) if reply.late => match node.verify(deadline).await {
            Word::Stays => Ok(reply),
            Word::Moved | Word::Unheard => Err(Fault::Silent),
        },
        Err(fault) if fault.is("READONLY") || fault.is("MASTERDOWN") => {
            // Demoted, and it refused: nothing was done there.
            node.replace();
            node.ask(step, deadline).await
        }
        Err(fault @ (Fault::Silent | Fault::NotReplicated)) => {
            let node = node.clone();
            tokio::spawn(async move { node.verify(Instant::now() + VERIFY).await });
            Err(fault)
        }
        asked => asked,
    }
}

/// How long a request waits for the Sentinels before it goes on as if they had not been asked.
const LOOK: std::time::Duration = std::time::Duration::from_millis(100);

/// How long the Sentinels are listened to when no request waits for it.
const VERIFY: std::time::Duration = std::time::Duration::from_secs(1);

async fn ask_provider(provider: &dyn ConnectionProvider, step: &Step, deadline: Instant) -> Result<Reply, Fault> {
    let value = match provided(provider, &step.command(), deadline).await {
        Err(fault) if fault.is("NOSCRIPT") => provided(provider, &step.with_source(), deadline).await?,
        sent => sent?,
    };
    // A pool may well send a command again when its connection broke.
    Ok(Reply { value, repeated: true, late: false })
}

pub(super) async fn provided(
    provider: &dyn ConnectionProvider,
    command: &Cmd,
    deadline: Instant,
) -> Result<Value, Fault> {
    if Instant::now() >= deadline {
        // It would be sent all the same: a future is polled before its time-out is.
        return Err(Fault::Silent);
    }
    match timeout_at(deadline, provider.send(command)).await {
        Ok(reply) => Ok(reply.and_then(Value::extract_error)?),
        Err(_) => Err(Fault::Silent),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use async_trait::async_trait;
    use redis::RedisResult;

    use super::*;

    /// Counts what it is to send.
    #[derive(Debug, Default)]
    struct Counting(AtomicUsize);

    #[async_trait]
    impl ConnectionProvider for Counting {
        async fn send(&self, _: &Cmd) -> RedisResult<Value> {
            self.0.fetch_add(1, Ordering::Relaxed);
            Ok(Value::Nil)
        }
    }

    #[tokio::test]
    async fn what_nobody_waits_for_is_not_sent_over_a_connection_of_ones_own() {
        let counting = Counting::default();
        let late = provided(&counting, &redis::cmd("PING"), Instant::now()).await;
        assert!(matches!(late, Err(Fault::Silent)), "{late:?}");
        assert_eq!(counting.0.load(Ordering::Relaxed), 0);
    }
}
