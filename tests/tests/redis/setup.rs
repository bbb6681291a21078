//! How the store connects, and what it refuses to connect to.

use std::{
    convert::Infallible,
    time::{Duration, Instant},
};

use idem_runtime::{
    ExecuteError, Idempotency, Operation, Policy, Principal, RedisStore, Refusal, Store,
    store::{
        Complete, Outcome, Ownership, Parked, Resolve, Resolved, StoreError, StoreErrorKind, Verdict,
        redis::{ConnectionProvider, RedisStoreBuilder, driver as redis},
    },
};
use tests::claims::{DAY, answer, claim, complete, key, token, win};
use tests::servers::{RedisCluster, RedisServer, SentinelTrio, eventually_async};

fn misconfigured(connected: Result<RedisStore, StoreError>, says: &str) {
    let error = connected.expect_err("a refusal");
    assert_eq!(error.kind(), StoreErrorKind::Misconfigured, "{error}");
    let text = format!("{error} {error:?}");
    assert!(text.contains(says), "{text}");
    assert!(!text.contains("hunter2"), "{text}");
}

#[tokio::test]
async fn a_wrong_url_is_told_without_its_password() {
    for (url, says) in [
        ("not a url", "does not parse"),
        ("http://:hunter2@localhost", "does not parse"),
        ("redis://:hunter2/@localhost:1", "does not parse"),
        ("redis://:hunter2@localhost/database", "wrong"),
        ("redis://:hunter2@localhost#x?protocol=9", "PASSWORD"),
        ("redis://:hunter2@0.0.0.0", "wrong"),
    ] {
        match RedisStore::connect(url).await {
            Err(error) if error.kind() == StoreErrorKind::Unavailable => {
                assert!(!format!("{error} {error:?}").contains("hunter2"), "{url}");
            }
            connected => misconfigured(connected, says),
        }
        misconfigured(RedisStore::cluster(["http://:hunter2@localhost"]).await, "redis://");
        misconfigured(RedisStore::sentinel(["http://:hunter2@localhost"], "main").await, "redis://");
    }
    misconfigured(RedisStore::cluster::<&str>([]).await, "at least one URL");
    misconfigured(RedisStore::sentinel::<&str>([], "main").await, "at least one URL");
    misconfigured(RedisStore::builder().prefix("a{b").connect("redis://localhost").await, "brace");
}

#[tokio::test]
async fn a_login_is_needed_and_never_shown() {
    let server = RedisServer::on(tests::servers::free_port(), &[], Some("hunter2"));
    let store = RedisStore::connect(&server.url()).await.unwrap();
    win(&store, claim(1, 1)).await;
    assert!(!format!("{store:?}").contains("hunter2"), "{store:?}");

    let without = format!("redis://127.0.0.1:{}", server.port());
    misconfigured(RedisStore::connect(&without).await, "NOAUTH");
    let wrong = format!("redis://:hunter2wrong@127.0.0.1:{}", server.port());
    misconfigured(RedisStore::connect(&wrong).await, "");
}

#[tokio::test]
async fn a_time_of_nothing_or_without_end_is_told_before_anything_is_connected() {
    type Set = fn(RedisStoreBuilder, Duration) -> RedisStoreBuilder;
    let hour = Duration::from_secs(60 * 60);
    let times: [(&str, Set); 3] = [
        ("command_timeout", RedisStoreBuilder::command_timeout),
        ("connect_timeout", RedisStoreBuilder::connect_timeout),
        ("wait_replicas", |builder, timeout| builder.wait_replicas(1, timeout)),
    ];
    let url = "redis://app:hunter2@127.0.0.1:1";
    for (option, set) in times {
        for wrong in [Duration::ZERO, Duration::from_micros(999), hour + Duration::from_nanos(1), Duration::MAX] {
            let builder = || set(RedisStore::builder(), wrong);
            let says = format!("`{option}` is not between 1 ms and 1 hour");
            misconfigured(builder().connect(url).await, &says);
            misconfigured(builder().cluster([url]).await, &says);
            misconfigured(builder().sentinel([url], "main").await, &says);
        }
        for right in [Duration::from_millis(1), hour] {
            let connected = set(RedisStore::builder(), right).connect(url).await;
            assert_ne!(connected.unwrap_err().kind(), StoreErrorKind::Misconfigured, "{option} of {right:?}");
        }
    }
    // Without replicas there is nothing to wait for.
    let connected = RedisStore::builder().wait_replicas(0, Duration::ZERO).connect(url).await;
    assert_ne!(connected.unwrap_err().kind(), StoreErrorKind::Misconfigured);
}

#[tokio::test]
async fn who_may_not_do_what_the_scripts_do_is_told() {
    let server = RedisServer::start();
    let rights = "on >hunter2 ~idem:* +@connection +info +get +pexpiretime";
    server.run::<()>(&[&["ACL", "SETUSER", "app"][..], &rights.split(' ').collect::<Vec<_>>()].concat());
    let url = format!("redis://app:hunter2@127.0.0.1:{}", server.port());
    let store = RedisStore::connect(&url).await.unwrap();
    let error = store.claim(claim(1, 1)).await.unwrap_err();
    assert_eq!(error.kind(), StoreErrorKind::Misconfigured, "{error}");

    // The script itself may run, and not all that it calls.
    server.run::<()>(&["ACL", "SETUSER", "app", "+evalsha", "+eval", "+time"]);
    let error = store.claim(claim(1, 1)).await.unwrap_err();
    assert_eq!(error.kind(), StoreErrorKind::Misconfigured, "{error}");
    assert_eq!(server.run::<u32>(&["DBSIZE"]), 0);

    // What the documentation says is enough.
    for rule in ["+evalsha +eval +time +pexpiretime +get +set +setrange +del +zadd +zrem +zrangebylex", "+script|load"]
    {
        let mut command = vec!["ACL", "SETUSER", "app"];
        command.extend(rule.split(' '));
        server.run::<()>(&command);
        win(&store, claim(1, 1)).await;
        assert_eq!(store.complete(&complete(1, 1, "answer")).await.unwrap(), Ownership::Held);
        win(&store, claim(2, 1)).await;
        let parked = Complete::new(key(2), token(1), Outcome::Parked(answer("why")), DAY);
        for _ in 0..2 {
            assert_eq!(store.complete(&parked.clone()).await.unwrap(), Ownership::Held);
        }
        assert_eq!(store.parked(Parked::first(10)).await.unwrap().len(), 1);
        assert_eq!(store.resolve(&Resolve::new(key(2), Verdict::NotExecuted)).await.unwrap(), Resolved::Applied);
        assert_eq!(store.parked(Parked::first(10)).await.unwrap(), []);
        RedisStore::connect(&url).await.unwrap();
        server.run::<()>(&["FLUSHALL"]);
    }
}

/// Found when the first claim comes, it would leave a record that nobody owns.
#[tokio::test]
async fn who_may_not_do_what_a_claim_does_is_told_when_the_store_connects() {
    let allow_all_but = |server: &RedisServer, command: &str| {
        server.run::<()>(&["ACL", "SETUSER", "app", "on", ">hunter2", "~*", "+@all", &format!("-{command}")]);
    };
    let with_login = |url: &str| url.replace("redis://", "redis://app:hunter2@");
    let one = RedisServer::start();
    for command in ["pexpiretime", "get"] {
        allow_all_but(&one, command);
        let url = with_login(&one.url());
        misconfigured(RedisStore::connect(&url).await, &format!("'{command}'"));
        let client = redis::Client::open(url).unwrap();
        let provider = Mine(client.get_multiplexed_async_connection().await.unwrap());
        misconfigured(RedisStore::builder().provider(provider).await, &format!("'{command}'"));
    }

    let trio = SentinelTrio::start();
    allow_all_but(&trio.master, "pexpiretime");
    let builder = RedisStore::builder().login("app", "hunter2");
    misconfigured(builder.sentinel(trio.urls(), SentinelTrio::NAME).await, "'pexpiretime'");

    // Each node of a Cluster has a list of its own.
    let cluster = RedisCluster::start();
    let seeds: Vec<_> = cluster.seeds().iter().map(|seed| with_login(seed)).collect();
    (0..3).for_each(|node| allow_all_but(cluster.server(node), "flushall"));
    RedisStore::cluster(&seeds).await.unwrap();
    for node in 0..3 {
        allow_all_but(cluster.server(node), "pexpiretime");
        let store = RedisStore::cluster(&seeds).await;
        misconfigured(store, &format!("127.0.0.1:{}", cluster.server(node).port()));
        cluster.server(node).run::<()>(&["ACL", "SETUSER", "app", "+pexpiretime"]);
    }
}

/// The record is there by then, and nobody owns it.
#[tokio::test]
async fn a_claim_whose_date_may_not_be_asked_for_is_given_back_once_it_may_be() {
    const CHARGES: Policy = Policy::new("charges").financial().validate_for_events();
    let server = RedisServer::start();
    server.run::<()>(&["ACL", "SETUSER", "app", "on", ">hunter2", "~*", "+@all"]);
    let url = format!("redis://app:hunter2@127.0.0.1:{}", server.port());
    let store = RedisStore::connect(&url).await.unwrap();
    store.ping().await.unwrap();
    let serve = |store: RedisStore| Idempotency::builder(store).shared().build();
    let charge = async |idempotency: &Idempotency, key: &str| {
        let operation = Operation::new(CHARGES, Principal::SHARED, key).any_input();
        idempotency.execute(operation, async |attempt| Ok::<_, Infallible>(attempt.number())).await
    };

    let cut_off = serve(store.clone());
    server.run::<()>(&["ACL", "SETUSER", "app", "-pexpiretime"]);
    let error = store.ping().await.unwrap_err();
    assert_eq!(error.kind(), StoreErrorKind::Misconfigured, "{error}");
    assert!(error.to_string().contains("'pexpiretime'"), "{error}");
    let error = store.claim(claim(1, 1)).await.unwrap_err();
    assert_eq!(error.kind(), StoreErrorKind::Unavailable, "{error}");
    for key in ["key-1", "key-2"] {
        let refused = charge(&cut_off, key).await.unwrap_err();
        assert!(matches!(refused, ExecuteError::Refused(Refusal::Unavailable { .. })), "{refused:?}");
    }

    server.run::<()>(&["ACL", "SETUSER", "app", "+pexpiretime"]);
    let elsewhere = serve(RedisStore::connect(&url).await.unwrap());
    for key in ["key-1", "key-2"] {
        // Long before its lease is over.
        let charged = eventually_async("it is given back", Duration::from_secs(5), async || {
            match charge(&elsewhere, key).await {
                Ok(charged) => Some(charged),
                Err(ExecuteError::Refused(Refusal::InFlight { .. })) => None,
                Err(other) => panic!("nothing ran: {other:?}"),
            }
        })
        .await;
        assert_eq!((charged.value, charged.replayed), (1, false));
    }
}

#[tokio::test]
async fn a_server_that_evicts_is_refused_unless_that_is_allowed() {
    let server = RedisServer::start();
    for policy in ["allkeys-lru", "allkeys-lfu", "allkeys-random", "volatile-lru", "volatile-lfu", "volatile-ttl"] {
        server.run::<()>(&["CONFIG", "SET", "maxmemory-policy", policy]);
        misconfigured(RedisStore::connect(&server.url()).await, policy);
        let store = RedisStore::builder().allow_eviction().connect(&server.url()).await.unwrap();
        store.claim(claim(1, 1)).await.unwrap();
    }
    // A managed service that takes CONFIG away still tells by INFO.
    let renamed = RedisServer::with(&["--maxmemory-policy", "allkeys-lru", "--rename-command", "CONFIG", ""]);
    misconfigured(RedisStore::connect(&renamed.url()).await, "allow_eviction");
}

#[tokio::test]
async fn what_is_no_master_of_its_own_is_refused() {
    let node =
        RedisServer::with(&["--cluster-enabled", "yes", "--cluster-port", &tests::servers::free_port().to_string()]);
    misconfigured(RedisStore::connect(&node.url()).await, "RedisStore::cluster");

    let master = RedisServer::start();
    misconfigured(RedisStore::cluster([master.url()]).await, "cluster support disabled");
    misconfigured(RedisStore::sentinel([master.url()], "main").await, "not a sentinel");

    let replica = RedisServer::with(&["--replicaof", &format!("127.0.0.1 {}", master.port())]);
    misconfigured(RedisStore::connect(&replica.url()).await, "replica");
}

#[tokio::test]
async fn a_server_that_is_down_at_the_start_is_told_at_once() {
    let mut server = RedisServer::start();
    server.kill();
    let begun = Instant::now();
    let error = RedisStore::connect(&server.url()).await.unwrap_err();
    assert_eq!(error.kind(), StoreErrorKind::Unavailable);
    assert!(begun.elapsed() < Duration::from_millis(500), "{:?}", begun.elapsed());
    let error = RedisStore::cluster([server.url()]).await.unwrap_err();
    assert_eq!(error.kind(), StoreErrorKind::Unavailable);
    let error = RedisStore::sentinel([server.url()], "main").await.unwrap_err();
    assert_eq!(error.kind(), StoreErrorKind::Unavailable);

    // A server that is there and says nothing.
    server.restart();
    server.pause();
    let begun = Instant::now();
    let limit = Duration::from_millis(400);
    let error = RedisStore::builder().connect_timeout(limit).connect(&server.url()).await.unwrap_err();
    assert_eq!(error.kind(), StoreErrorKind::Unavailable);
    assert!(begun.elapsed() < limit + Duration::from_millis(300), "{:?}", begun.elapsed());
}

#[derive(Debug)]
struct Mine(redis::aio::MultiplexedConnection);

#[async_trait::async_trait]
impl ConnectionProvider for Mine {
    async fn send(&self, command: &redis::Cmd) -> redis::RedisResult<redis::Value> {
        self.0.clone().send_packed_command(command).await
    }
}

#[tokio::test]
async fn connections_of_ones_own() {
    let server = RedisServer::start();
    let provider = async || {
        let client = redis::Client::open(server.url()).unwrap();
        Mine(client.get_multiplexed_async_connection().await.unwrap())
    };
    let store = RedisStore::builder().prefix("mine").provider(provider().await).await.unwrap();
    win(&store, claim(1, 1)).await;
    assert_eq!(store.complete(&complete(1, 1, "answer")).await.unwrap(), Ownership::Held);
    assert_eq!(server.run::<Vec<String>>(&["KEYS", "*"]), [tests::claims::redis_key(1).replace("idem:", "mine:")]);
    win(&store, claim(2, 1)).await;
    let parked = Complete::new(key(2), token(1), Outcome::Parked(answer("why")), DAY);
    assert_eq!(store.complete(&parked).await.unwrap(), Ownership::Held);
    assert_eq!(store.parked(Parked::first(10)).await.unwrap().len(), 1);
    assert_eq!(server.run::<usize>(&["ZCARD", "mine:parked"]), 1);

    let waiting = RedisStore::builder().wait_replicas(1, Duration::from_millis(10)).provider(provider().await).await;
    misconfigured(waiting, "wait_replicas");
    server.run::<()>(&["CONFIG", "SET", "maxmemory-policy", "allkeys-lru"]);
    misconfigured(RedisStore::builder().provider(provider().await).await, "allow_eviction");
}

#[tokio::test]
async fn over_tls_with_an_authority_of_ones_own() {
    let server = RedisServer::with_tls();
    let tls = server.tls().unwrap();
    let url = format!("rediss://localhost:{}", tls.port);
    let store = RedisStore::builder().root_certificates(tls.authority.as_str()).connect(&url).await.unwrap();
    win(&store, claim(1, 1)).await;

    // Nobody in the world vouches for it.
    let error = RedisStore::connect(&url).await.unwrap_err();
    assert!(error.to_string().to_lowercase().contains("certificate"), "{error}");
    misconfigured(RedisStore::builder().root_certificates("no certificate").connect(&url).await, "PEM");
}
