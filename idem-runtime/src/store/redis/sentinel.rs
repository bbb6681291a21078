//! Which server is the master, by the word of the Sentinels.

use std::{sync::Arc, time::Duration};

use redis::{ConnectionAddr, ConnectionInfo, RedisConnectionInfo, Value};
use tokio::{task::JoinSet, time::timeout};

use super::{fault::Cause, wire};

/// The Sentinels of one master.
#[derive(Debug)]
pub(super) struct Sentinels {
    servers: Vec<ConnectionInfo>,
    master_name: Arc<str>,
    /// How one logs in to the master.
    login: RedisConnectionInfo,
    timeout: Duration,
}

/// What one Sentinel says.
struct Master {
    host: String,
    port: u16,
    epoch: u64,
}

impl Sentinels {
    pub(super) fn new(
        servers: Vec<ConnectionInfo>,
        master_name: &str,
        login: RedisConnectionInfo,
        timeout: Duration,
    ) -> Self {
        Self { servers, master_name: master_name.into(), login, timeout }
    }

    /// Where the master is. A Sentinel that was cut off may still name the old one, so a majority is listened to and the latest
    /// failover believed; where the others are silent, what is heard has to do.
    pub(super) async fn master(&self) -> Result<ConnectionInfo, Cause> {
        self.named().await.map(|(master, _)| master)
    }

    /// Where the master is, by the word of a majority.
    pub(super) async fn agreed(&self) -> Result<ConnectionInfo, Cause> {
        match self.named().await? {
            (master, true) => Ok(master),
            _ => Err(Cause::unavailable("most sentinels are silent")),
        }
    }

    /// And whether a majority was heard.
    async fn named(&self) -> Result<(ConnectionInfo, bool), Cause> {
        let mut asked = JoinSet::new();
        for server in &self.servers {
            let (server, name, limit) = (server.clone(), self.master_name.clone(), self.timeout);
            asked.spawn(async move {
                let address = server.addr().to_string();
                timeout(limit, ask(server, &name, limit))
                    .await
                    .unwrap_or_else(|_| Err(Cause::unavailable(format!("the sentinel `{address}` is silent"))))
            });
        }
        let majority = self.servers.len() / 2 + 1;
        let (mut heard, mut best, mut fault) = (0, None::<Master>, None);
        while let Some(answer) = asked.join_next().await {
            match answer {
                Ok(Ok(master)) => {
                    heard += 1;
                    if best.as_ref().is_none_or(|best| best.epoch < master.epoch) {
                        best = Some(master);
                    }
                    if heard >= majority {
                        break;
                    }
                }
                Ok(Err(cause)) => fault = Some(cause),
                Err(_) => {}
            }
        }
        let Some(master) = best else {
            return Err(fault.unwrap_or_else(|| Cause::unavailable("no sentinel answered")));
        };
        let Some(sentinel) = self.servers.first() else {
            return Err(Cause::misconfigured("no sentinel is named: write at least one URL"));
        };
        let master = sentinel
            .clone()
            .set_addr(at(sentinel.addr(), master.host, master.port))
            .set_redis_settings(self.login.clone());
        Ok((master, heard >= majority))
    }
}

/// The same kind of address, TLS or not, of another server.
pub(super) fn at(like: &ConnectionAddr, host: String, port: u16) -> ConnectionAddr {
    match like {
        ConnectionAddr::TcpTls { insecure, tls_params, .. } => {
            ConnectionAddr::TcpTls { host, port, insecure: *insecure, tls_params: tls_params.clone() }
        }
        _ => ConnectionAddr::Tcp(host, port),
    }
}

async fn ask(server: ConnectionInfo, name: &str, limit: Duration) -> Result<Master, Cause> {
    let address = server.addr().to_string();
    let mut connection = wire::open(server, limit).await?;
    let mut command = redis::cmd("SENTINEL");
    command.arg("MASTER").arg(name);
    let reply = connection.send_packed_command(&command).await.and_then(Value::extract_error);
    let reply = reply.map_err(|error| match error.detail() {
        Some(detail) if detail.contains("No such master") => {
            Cause::misconfigured(format!("the sentinel `{address}` knows no master of that name"))
        }
        Some(detail) if detail.contains("unknown command") => {
            Cause::misconfigured(format!("`{address}` is not a sentinel"))
        }
        _ => Cause::of(&error),
    })?;
    parse(&reply).ok_or_else(|| Cause::unavailable(format!("the sentinel `{address}` knows no address of the master")))
}

fn parse(reply: &Value) -> Option<Master> {
    let field = |name: &str| -> Option<String> { redis::from_redis_value_ref(value_of(reply, name)?).ok() };
    Some(Master { host: field("ip")?, port: field("port")?.parse().ok()?, epoch: field("config-epoch")?.parse().ok()? })
}

fn value_of<'a>(reply: &'a Value, name: &str) -> Option<&'a Value> {
    let is = |key: &Value| match key {
        Value::BulkString(key) => key == name.as_bytes(),
        Value::SimpleString(key) => key == name,
        _ => false,
    };
    match reply {
        Value::Array(parts) => parts.chunks_exact(2).find_map(|pair| if is(&pair[0]) { Some(&pair[1]) } else { None }),
        Value::Map(pairs) => pairs.iter().find_map(|(key, value)| is(key).then_some(value)),
        _ => None,
    }
}
