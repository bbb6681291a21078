//! What is asked of a server before anything is entrusted to it.

use redis::{Cmd, Value};

use super::fault::{Cause, Fault};
use crate::store::StoreErrorKind;

/// What a server may be without being refused.
#[derive(Debug, Clone, Copy)]
pub(super) struct Allowed {
    pub(super) eviction: bool,
    pub(super) cluster: bool,
}

/// The first version whose scripts can be allowed to write at the memory limit.
const OLDEST: u32 = 7;

/// What `INFO` is asked for. Read-only managed services rename `CONFIG` away, never this.
pub(super) fn command() -> Cmd {
    redis::cmd("INFO")
}

/// Judges the reply of `INFO`.
pub(super) fn judge(server: &str, info: &Value, allowed: Allowed) -> Result<(), Cause> {
    let text = read(server, info)?;
    let field = |name: &str| field(&text, name);

    let version = field("redis_version");
    let major = version.split('.').next().and_then(|major| major.parse::<u32>().ok());
    if field("valkey_version").is_empty() && major.is_some_and(|major| major < OLDEST) {
        return Err(Cause::misconfigured(format!(
            "`{server}` is Redis {version}: use Redis {OLDEST} or later, or Valkey"
        )));
    }
    if field("redis_mode") == "sentinel" {
        return Err(Cause::misconfigured(format!("`{server}` is a Sentinel: write `RedisStore::sentinel`")));
    }
    if field("cluster_enabled") == "1" && !allowed.cluster {
        return Err(Cause::misconfigured(format!("`{server}` is a node of a Cluster: write `RedisStore::cluster`")));
    }
    if field("role") == "slave" {
        return Err(Cause::misconfigured(format!("`{server}` is a replica: name its master")));
    }

    let policy = field("maxmemory_policy");
    if !allowed.eviction {
        keeps(server, policy)?;
    }
    if policy.is_empty() {
        tracing::warn!(server, "redis does not tell its `maxmemory-policy`; an evicted operation runs a second time");
    }
    if field("aof_enabled") == "0" {
        tracing::warn!(
            server,
            "redis keeps no append-only file: a restart forgets records, and they run a second time"
        );
    }
    Ok(())
}

/// Judges the reply to a part of a claim: whose access list lacks it is told so before the first claim is left half-way.
///
/// Another refusal passes: a node of a Cluster looks at the list first, and then at whose key it is by now.
pub(super) fn judge_right(server: &str, asked: Result<Value, Fault>) -> Result<(), Cause> {
    match asked {
        Err(Fault::Refused(error)) if Cause::of(&error).kind != StoreErrorKind::Misconfigured => Ok(()),
        Err(fault) => {
            let Cause { kind, context } = fault.into_cause();
            Err(Cause::new(kind, format!("`{server}` is asked what a claim asks: {context}")))
        }
        Ok(_) => Ok(()),
    }
}

/// Refuses a server that evicts records, by its reply of `INFO`: what holds at the start holds for whoever takes over.
pub(super) fn judge_eviction(server: &str, info: &Value) -> Result<(), Cause> {
    keeps(server, field(&read(server, info)?, "maxmemory_policy"))
}

fn keeps(server: &str, policy: &str) -> Result<(), Cause> {
    match policy {
        "noeviction" | "" => Ok(()),
        _ => Err(Cause::misconfigured(format!(
            "`{server}` evicts records (`maxmemory-policy {policy}`), and an evicted operation runs a second time: \
             set `maxmemory-policy noeviction`, or write `allow_eviction`"
        ))),
    }
}

fn read(server: &str, info: &Value) -> Result<String, Cause> {
    redis::from_redis_value_ref(info)
        .map_err(|_| Cause::unavailable(format!("`{server}` answered `INFO` with no text")))
}

/// A field of `INFO`, empty if there is none.
fn field<'a>(info: &'a str, name: &str) -> &'a str {
    info.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':')).map(str::trim).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    const STRICT: Allowed = Allowed { eviction: false, cluster: false };

    fn info(changed: &[(&str, &str)]) -> Value {
        let mut fields = vec![
            ("redis_version", "7.0.15"),
            ("redis_mode", "standalone"),
            ("role", "master"),
            ("maxmemory_policy", "noeviction"),
            ("aof_enabled", "1"),
            ("cluster_enabled", "0"),
        ];
        fields.retain(|(name, _)| !changed.iter().any(|(other, _)| name == other));
        fields.extend(changed);
        let lines: Vec<String> = fields.iter().map(|(name, value)| format!("{name}:{value}\r\n")).collect();
        Value::BulkString(format!("# Server\r\n{}", lines.concat()).into_bytes())
    }

    fn refusal(changed: &[(&str, &str)], allowed: Allowed) -> Option<String> {
        let cause = judge("host:1", &info(changed), allowed).err()?;
        assert_eq!(cause.kind, StoreErrorKind::Misconfigured);
        Some(cause.context.to_string())
    }

    #[test]
    fn a_server_that_can_be_trusted() {
        assert_eq!(refusal(&[], STRICT), None);
        assert_eq!(refusal(&[("redis_version", "8.2.0")], STRICT), None);
        assert_eq!(refusal(&[("redis_version", "6.2.4"), ("valkey_version", "8.0.1")], STRICT), None);
        assert_eq!(refusal(&[("maxmemory_policy", "allkeys-lru")], Allowed { eviction: true, ..STRICT }), None);
        assert_eq!(refusal(&[("cluster_enabled", "1")], Allowed { cluster: true, ..STRICT }), None);
    }

    #[test]
    fn servers_that_are_refused() {
        for (changed, says) in [
            (("redis_version", "6.2.14"), "use Redis 7"),
            (("redis_mode", "sentinel"), "RedisStore::sentinel"),
            (("cluster_enabled", "1"), "RedisStore::cluster"),
            (("role", "slave"), "replica"),
            (("maxmemory_policy", "volatile-ttl"), "allow_eviction"),
            (("maxmemory_policy", "allkeys-lfu"), "noeviction"),
        ] {
            let refusal = refusal(&[changed], STRICT).unwrap_or_default();
            assert!(refusal.contains(says), "{changed:?}: {refusal}");
        }
    }
}
