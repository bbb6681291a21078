//! One server as the store uses it: a shared connection, and one more where replicas are waited for.

use std::{mem, time::Duration};

use redis::Value;
use tokio::time::Instant;

use super::{
    fault::Fault,
    link::{Line, Link, Target, Terms, Word},
    replicas::{Quorum, Replicas},
    script::{Commands, Kind, Step},
};

/// What every server of a store has in common.
#[derive(Debug, Clone, Copy)]
pub(super) struct Options {
    pub(super) connect_timeout: Duration,
    pub(super) command_timeout: Duration,
    pub(super) quorum: Option<Quorum>,
    /// Whether a server that evicts records may be given claims.
    pub(super) allow_eviction: bool,
}

/// A server, or whichever server is the master.
#[derive(Debug)]
pub(super) struct Node {
    pub(super) link: Link,
    replicas: Option<Replicas>,
}

/// A reply, and what is known about how it came.
#[derive(Debug)]
pub(super) struct Reply {
    pub(super) value: Value,
    /// The step may have been taken twice: the first time its reply was lost.
    pub(super) repeated: bool,
    /// So old that the server may have stood still since, and another one may be the master now.
    pub(super) late: bool,
}

/// A reply older than this is asked for again where a failover is possible. Far below any time-out after which
/// replicas elect a new master.
const LATE: Duration = Duration::from_millis(250);

impl Node {
    pub(super) fn new(target: &Target, options: Options) -> Self {
        let Options { connect_timeout, command_timeout, quorum, allow_eviction } = options;
        // Half, for a step's time is also that of a new connection and of a second attempt: no command is given all of
        // it.
        let fair = command_timeout / 2;
        let link =
            |silence| Link::new(target.clone(), Terms { connect: connect_timeout, silence, keeps: !allow_eviction });
        // A server that waits for its replicas is silent.
        let replicas = quorum.map(|quorum| Replicas::new(link(quorum.timeout + fair), quorum, command_timeout));
        Self { link: link(fair), replicas }
    }

    /// The next step looks for the master anew.
    pub(super) fn replace(&self) {
        if let Some(replicas) = &self.replicas {
            replicas.link().replace();
        }
        self.link.replace();
    }

    /// Lets go of a server that is no longer the master, by the word of the Sentinels.
    pub(super) async fn verify(&self, deadline: Instant) -> Word {
        self.link.verify(self.replicas.as_ref().map(Replicas::link), deadline).await
    }

    /// Whether the claim of a key that has no record needs a script, for the sake of the replicas.
    pub(super) fn waits_for_replicas(&self) -> bool {
        self.replicas.is_some()
    }

    /// Takes the step, over a new connection if the first one breaks.
    pub(super) async fn ask(&self, step: &Step, deadline: Instant) -> Result<Reply, Fault> {
        if let (Some(replicas), Kind::Complete | Kind::Enlist) = (&self.replicas, step.kind) {
            // What an owner did must survive its server, or the next one does it again.
            return Box::pin(replicated(replicas, step, deadline)).await;
        }
        let mut repeated = false;
        loop {
            let sent = Instant::now();
            let fault = match self.send(step, deadline).await {
                Ok(value) => match &self.replicas {
                    Some(replicas) if step.kind == Kind::Claim && is_won(&value) => {
                        // Asked again where it is waited for: the claim is re-entrant, and only a write is waited for.
                        return Box::pin(replicated(replicas, step, deadline)).await;
                    }
                    _ => return Ok(Reply { value, repeated, late: sent.elapsed() > LATE }),
                },
                Err(fault) => fault,
            };
            match fault {
                Fault::Broken(_) if !repeated && step.is_repeatable() => repeated = true,
                fault if repeated => return Err(fault.behind_a_lost_reply()),
                fault => return Err(fault),
            }
        }
    }

    /// Takes a step for a slot that is on its way to this server.
    pub(super) async fn ask_while_moving(&self, step: &Step, deadline: Instant) -> Result<Reply, Fault> {
        if let (Some(replicas), Kind::Claim | Kind::Complete | Kind::Enlist) = (&self.replicas, step.kind) {
            if step.kind.claims() {
                self.line(step, deadline).await?;
            }
            let asked = Box::pin(replicas.ask_while_moving(step.with_source(), deadline)).await;
            return Ok(Reply { value: asked?, repeated: false, late: false });
        }
        let mut line = self.line(step, deadline).await?;
        let sent = Instant::now();
        let mut commands = redis::pipe();
        // With its source: a script that is unknown here would cost another `ASKING`.
        commands.add_command(redis::cmd("ASKING")).add_command(step.with_source());
        let replies = line.send_all(&commands, deadline).await?;
        let value = replies.into_iter().nth(1).unwrap_or(Value::Nil).extract_error()?;
        Ok(Reply { value, repeated: false, late: sent.elapsed() > LATE })
    }

    /// A connection that this step may be sent over.
    async fn line(&self, step: &Step, deadline: Instant) -> Result<Line<'_>, Fault> {
        let mut line = self.link.line(deadline).await?;
        if step.kind.claims() && line.may_evict() {
            Box::pin(line.require_keeping(deadline)).await?;
        }
        Ok(line)
    }

    async fn send(&self, step: &Step, deadline: Instant) -> Result<Value, Fault> {
        let mut line = self.line(step, deadline).await?;
        let command = match &step.commands {
            Commands::One(command) => command,
            Commands::WithQuestion(commands) => {
                let mut replies = line.send_all(commands, deadline).await?;
                if let Some(reply) = replies.first_mut() {
                    *reply = mem::replace(reply, Value::Nil).extract_error()?;
                }
                return Ok(Value::Array(replies));
            }
        };
        match line.send(command, deadline).await {
            Err(fault) if fault.is("NOSCRIPT") => Box::pin(line.send(&step.with_source(), deadline)).await,
            sent => sent,
        }
    }
}

async fn replicated(replicas: &Replicas, step: &Step, deadline: Instant) -> Result<Reply, Fault> {
    let asked = match replicas.ask(step.command(), deadline).await {
        Err(fault) if fault.is("NOSCRIPT") => replicas.ask(step.with_source(), deadline).await,
        Err(Fault::Broken(_)) => replicas.ask(step.command(), deadline).await,
        asked => asked,
    };
    // Replicas follow one master only: a reply that they confirmed is not that of a former one.
    Ok(Reply { value: asked?, repeated: false, late: false })
}

fn is_won(value: &Value) -> bool {
    match value {
        Value::Int(fence) => *fence > 0,
        Value::Array(parts) => matches!(parts.first(), Some(Value::Int(1))),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use redis::RedisConnectionInfo;

    use super::*;
    use crate::store::redis::{
        fake::{Fake, OK, list},
        sentinel::Sentinels,
    };

    const FAR: Duration = Duration::from_secs(60);

    #[tokio::test]
    async fn the_sentinels_are_asked_once_for_both_connections() {
        let master =
            Fake::start(|command| async move { if command == "ROLE" { list(&["master"]) } else { OK.to_owned() } })
                .await;
        let port = master.port().to_string();
        let sentinel = Fake::start(move |command| {
            let named = list(&["ip", "127.0.0.1", "port", &port, "config-epoch", "1"]);
            async move { if command.starts_with("SENTINEL") { named } else { OK.to_owned() } }
        })
        .await;
        let sentinels = Sentinels::new(vec![sentinel.info()], "main", RedisConnectionInfo::default(), FAR);
        let options = Options {
            connect_timeout: FAR,
            command_timeout: FAR,
            quorum: Some(Quorum { replicas: 1, timeout: FAR }),
            allow_eviction: true,
        };
        let node = Node::new(&Target::Master(Arc::new(sentinels)), options);
        let links = [&node.link, node.replicas.as_ref().expect("replicas to wait for").link()];
        for link in links {
            link.send(&redis::cmd("PING"), Instant::now() + FAR).await.expect("a reply");
        }
        let asked = sentinel.count("SENTINEL");
        assert_eq!(node.verify(Instant::now() + FAR).await, Word::Stays);
        assert_eq!(sentinel.count("SENTINEL"), asked + 1);
        assert_eq!(master.connections(), links.len());
    }
}
