//! Six redis-servers that are a Cluster.

use std::time::Duration;

use super::{RedisServer, eventually, process::free_port};

/// Three masters (0 to 2) and the replica of each (3 to 5).
#[derive(Debug)]
pub struct RedisCluster {
    servers: Vec<RedisServer>,
}

/// After so many milliseconds of silence a master is replaced.
const NODE_TIMEOUT: &str = "1000";
const FORMED: Duration = Duration::from_secs(60);

impl RedisCluster {
    /// A Cluster whose every slot is served and whose every replica is in step.
    #[must_use]
    pub fn start() -> Self {
        let servers: Vec<_> = (0..6)
            .map(|_| {
                let bus = free_port().to_string();
                RedisServer::with(&[
                    "--cluster-enabled",
                    "yes",
                    "--cluster-port",
                    &bus,
                    "--cluster-node-timeout",
                    NODE_TIMEOUT,
                    "--cluster-replica-validity-factor",
                    "0",
                    "--repl-diskless-sync-delay",
                    "0",
                ])
            })
            .collect();
        let cluster = Self { servers };
        cluster.form();
        cluster
    }

    /// The URLs of the first and the second master: enough to find the others.
    #[must_use]
    pub fn seeds(&self) -> Vec<String> {
        self.servers[..2].iter().map(RedisServer::url).collect()
    }

    /// A server by its number.
    #[must_use]
    pub fn server(&self, number: usize) -> &RedisServer {
        &self.servers[number]
    }

    /// Waits until the replica of master `number` has taken its place, as the other masters see it too.
    pub fn wait_for_failover(&self, number: usize) {
        let replica = &self.servers[number + 3];
        let port = format!(":{}@", replica.port());
        eventually("the replica takes over", FORMED, || {
            let is_master = replica.info("role") == "master";
            let seen = (0..3).filter(|&other| other != number).all(|other| {
                let nodes: String = self.servers[other].run(&["CLUSTER", "NODES"]);
                nodes.lines().any(|line| line.contains(&port) && line.contains("master") && line.contains('-'))
            });
            (is_master && seen && replica.info("cluster_enabled") == "1" && self.is_ok(number + 3)).then_some(())
        });
    }

    fn form(&self) {
        for (number, server) in self.servers.iter().enumerate() {
            server.run::<()>(&["CLUSTER", "SET-CONFIG-EPOCH", &(number + 1).to_string()]);
        }
        for (server, slots) in self.servers.iter().zip([("0", "5460"), ("5461", "10922"), ("10923", "16383")]) {
            server.run::<()>(&["CLUSTER", "ADDSLOTSRANGE", slots.0, slots.1]);
        }
        let first = &self.servers[0];
        for server in &self.servers[1..] {
            let bus = server.run::<Vec<String>>(&["CONFIG", "GET", "cluster-port"]).pop().unwrap_or_default();
            first.run::<()>(&["CLUSTER", "MEET", "127.0.0.1", &server.port().to_string(), &bus]);
        }
        for server in &self.servers {
            eventually("the nodes know each other", FORMED, || {
                let known = server.run::<String>(&["CLUSTER", "INFO"]).contains("cluster_known_nodes:6");
                known.then_some(())
            });
        }
        for (master, replica) in self.servers.iter().zip(&self.servers[3..]) {
            let id: String = master.run(&["CLUSTER", "MYID"]);
            eventually("the replica follows its master", FORMED, || {
                replica.try_run::<()>(&["CLUSTER", "REPLICATE", &id]).ok()
            });
        }
        for number in 0..6 {
            eventually("the Cluster is whole", FORMED, || {
                let in_step = number < 3 || self.servers[number].info("master_link_status") == "up";
                (in_step && self.is_ok(number)).then_some(())
            });
        }
    }

    fn is_ok(&self, number: usize) -> bool {
        self.servers[number].run::<String>(&["CLUSTER", "INFO"]).contains("cluster_state:ok")
    }
}
