//! The records as they lie in Redis: their bytes, their expiry, and what becomes of bytes that are no record.

use std::time::Duration;

use idem_runtime::{
    RedisStore, Store,
    store::{
        Abandoned, Claim, Claimed, Complete, Fence, Forgotten, Outcome, Ownership, Release, Renew, Resolve, Resolved,
        Verdict,
    },
};
use redis::Value;
use tests::claims::{DAY, LEASE, answer, claim, complete, fingerprint, key, redis_key, token, win};
use tests::servers::{RedisServer, eventually_async};

pub(super) async fn start() -> (RedisServer, RedisStore) {
    let server = RedisServer::start();
    let store = RedisStore::connect(&server.url()).await.unwrap();
    (server, store)
}

pub(super) fn bytes(server: &RedisServer, at: u32) -> Vec<u8> {
    server.run(&["GET", &redis_key(at)])
}

fn expiry(server: &RedisServer, at: u32) -> i64 {
    server.run(&["PTTL", &redis_key(at)])
}

fn number(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0, |number, byte| (number << 8) | u64::from(*byte))
}

/// Microseconds since the Unix epoch by the server's clock.
pub(super) fn clock(server: &RedisServer) -> u64 {
    let (seconds, micros): (u64, u64) = server.run(&["TIME"]);
    seconds * 1_000_000 + micros
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap()
}

/// Puts any bytes where a record lies.
pub(super) fn put(server: &RedisServer, at: u32, bytes: &[u8]) {
    let mut connection = redis::Client::open(server.url()).unwrap().get_connection().unwrap();
    redis::cmd("SET").arg(redis_key(at)).arg(bytes).exec(&mut connection).unwrap();
}

fn put_for_a_day(server: &RedisServer, at: u32, bytes: &[u8]) {
    put(server, at, bytes);
    server.run::<()>(&["PEXPIRE", &redis_key(at), &millis(DAY).to_string()]);
}

#[tokio::test]
async fn the_bytes_of_a_record_are_frozen() {
    let (server, store) = start().await;

    // A first claim is dated by when its key expires.
    let kept = LEASE + DAY;
    let before = clock(&server);
    let (fence, _) = win(&store, claim(1, 7).retention(Some(DAY))).await;
    let after = clock(&server);
    let expires: u64 = server.run(&["PEXPIRETIME", &redis_key(1)]);
    assert_eq!(fence.get(), (expires - millis(kept)) * 1000 + 999, "the end of its millisecond");
    assert!((before..=after + 999).contains(&fence.get()), "{before} {fence} {after}");
    let lease_micros = u64::try_from(LEASE.as_micros()).unwrap();
    let in_flight = [
        &[3, 1][..],
        &[1; 32],
        &[7; 16],
        &millis(kept).to_be_bytes(),
        &[0, 0, 0, 1],
        &lease_micros.to_be_bytes(),
        &[0, 0, 0, 0],
    ]
    .concat();
    assert_eq!(bytes(&server, 1), in_flight);
    assert_eq!(in_flight.len(), 74);

    // Renewed it says for itself what the expiry told.
    let before = clock(&server);
    assert_eq!(store.renew(Renew::of(&claim(1, 7))).await.unwrap(), Ownership::Held);
    let after = clock(&server);
    let renewed = bytes(&server, 1);
    let head = [&[1, 1][..], &[1; 32], &[7; 16], &fence.get().to_be_bytes(), &[0, 0, 0, 1]].concat();
    assert_eq!(renewed[..62], head);
    assert!((before..=after).contains(&(number(&renewed[62..70]) - lease_micros)));
    assert_eq!(renewed[70..], [0; 4]);

    let kept = Complete::new(key(1), token(7), Outcome::Answer(answer("body")), DAY).remember(2 * DAY);
    let before = clock(&server);
    assert_eq!(store.complete(&kept).await.unwrap(), Ownership::Held);
    let after = clock(&server);
    let completed = bytes(&server, 1);
    assert_eq!(completed[..2], [1, 2]);
    assert_eq!(completed[2..62], head[2..]);
    let until = number(&completed[62..70]) - u64::try_from(DAY.as_micros()).unwrap();
    assert!((before..=after).contains(&until));
    assert_eq!(completed[70..], *b"\0\0\0\x04body");

    // An answer that is kept as long as its record has no time of its own.
    win(&store, claim(2, 7)).await;
    assert_eq!(store.complete(&complete(2, 7, "body")).await.unwrap(), Ownership::Held);
    assert_eq!(bytes(&server, 2)[62..], *b"\0\0\0\0\0\0\0\0\0\0\0\x04body");
    // Nor is it asked for its fence, which nothing but the expiry of the claim told.
    assert_eq!(bytes(&server, 2)[50..62], *b"\0\0\0\0\0\0\0\0\0\0\0\x01");

    win(&store, claim(3, 7)).await;
    let tombstone = Complete::new(key(3), token(7), Outcome::Tombstone, DAY);
    assert_eq!(store.complete(&tombstone).await.unwrap(), Ownership::Held);
    assert_eq!((bytes(&server, 3)[..2].to_vec(), bytes(&server, 3).len()), (vec![1, 3], 74));

    win(&store, claim(4, 7)).await;
    let unknown = Complete::new(key(4), token(7), Outcome::Unknown, DAY);
    assert_eq!(store.complete(&unknown).await.unwrap(), Ownership::Held);
    assert_eq!((bytes(&server, 4)[..2].to_vec(), bytes(&server, 4).len()), (vec![1, 4], 74));
    let verdict = Verdict::Completed { answer: Some(answer("late")), ttl: DAY, remember: DAY };
    assert_eq!(store.resolve(&Resolve::new(key(4), verdict)).await.unwrap(), Resolved::Applied);
    let resolved = bytes(&server, 4);
    assert_eq!((&resolved[..2], &resolved[34..50]), (&[1, 2][..], &[0; 16][..]));
    assert_eq!(resolved[70..], *b"\0\0\0\x04late");
    // The owner's own word comes too late, and changes nothing.
    assert_eq!(store.complete(&complete(4, 7, "mine")).await.unwrap(), Ownership::Lost);
    assert_eq!(bytes(&server, 4), resolved);
}

#[tokio::test]
async fn records_of_layout_1_are_read() {
    let (server, store) = start().await;
    let header = |state: u8, time: u64, length: u32| {
        [
            &[1, state][..],
            &[1; 32],
            &[9; 16],
            &1_767_225_600_000_000_u64.to_be_bytes(),
            &3_u32.to_be_bytes(),
            &time.to_be_bytes(),
            &length.to_be_bytes(),
        ]
        .concat()
    };
    let fence = Fence::new(1_767_225_600_000_000);
    let far = 4_000_000_000_000_000;

    put(&server, 1, &[header(2, 0, 4), b"body".to_vec()].concat());
    assert_eq!(store.claim(claim(1, 1)).await.unwrap(), Claimed::Completed { answer: Some(answer("body")) });
    put(&server, 1, &[header(2, far, 4), b"body".to_vec()].concat());
    assert_eq!(store.claim(claim(1, 1)).await.unwrap(), Claimed::Completed { answer: Some(answer("body")) });
    put(&server, 1, &[header(2, 1, 4), b"body".to_vec()].concat());
    assert_eq!(store.claim(claim(1, 1)).await.unwrap(), Claimed::Completed { answer: None });
    put(&server, 1, &header(2, 0, 0));
    assert_eq!(store.claim(claim(1, 1)).await.unwrap(), Claimed::Completed { answer: Some(answer("")) });
    put(&server, 1, &header(3, 0, 0));
    assert_eq!(store.claim(claim(1, 1)).await.unwrap(), Claimed::Completed { answer: None });
    put(&server, 1, &header(4, 1, 0));
    assert_eq!(store.claim(claim(1, 1)).await.unwrap(), Claimed::Unknown { fence, attempt: 3 });
    put(&server, 1, &header(1, far, 0));
    let busy = store.claim(claim(1, 1)).await.unwrap();
    assert!(matches!(busy, Claimed::Busy { retry_after } if retry_after > DAY), "{busy:?}");
    assert_eq!(store.claim(claim(1, 9)).await.unwrap(), Claimed::Won { fence, attempt: 3 });
    put(&server, 1, &header(1, 1, 0));
    assert_eq!(store.claim(claim(1, 1)).await.unwrap(), Claimed::Unknown { fence, attempt: 3 }, "it has no end");
    put_for_a_day(&server, 1, &header(1, 1, 0));
    let (taken, attempt) = win(&store, claim(1, 1)).await;
    assert!(taken > fence && attempt == 4, "{taken} {attempt}");

    // A fence from a clock that was ahead: the next is one more, to the last digit.
    let ahead = 9_007_199_254_740_990_u64;
    let abandoned = [&[1, 1][..], &[1; 32], &[9; 16], &ahead.to_be_bytes(), &[0, 0, 0, 1], &[0; 12]].concat();
    put_for_a_day(&server, 2, &abandoned);
    assert_eq!(win(&store, claim(2, 1)).await, (Fence::new(ahead + 1), 2));
    assert_eq!(bytes(&server, 2)[50..58], (ahead + 1).to_be_bytes());
    let unknown = Complete::new(key(2), token(1), Outcome::Unknown, DAY);
    assert_eq!(store.complete(&unknown).await.unwrap(), Ownership::Held);
    for (fence, resolved) in [(ahead, Resolved::NotUnknown), (ahead + 1, Resolved::Applied)] {
        let verdict = Resolve::new(key(2), Verdict::Parked(answer("why"))).fence(Fence::new(fence));
        assert_eq!(store.resolve(&verdict).await.unwrap(), resolved);
    }
    assert_eq!(bytes(&server, 2)[50..58], (ahead + 1).to_be_bytes());
}

/// A first claim by token 9 with fingerprint 1 and a lease of a minute, as it lies there so long after it was made.
fn put_first_claim(server: &RedisServer, at: u32, ago: Duration) {
    let lease = 60_000_000_u64.to_be_bytes();
    let kept = millis(DAY);
    let record = [&[3, 1][..], &[1; 32], &[9; 16], &kept.to_be_bytes(), &[0, 0, 0, 1], &lease, &[0; 4]].concat();
    put(server, at, &record);
    server.run::<()>(&["PEXPIRE", &redis_key(at), &(kept - millis(ago)).to_string()]);
}

#[tokio::test]
async fn records_of_layout_3_are_read() {
    let (server, store) = start().await;
    let (young, old) = (Duration::from_secs(10), Duration::from_secs(61));
    let claimed_at = |at: u32| {
        let expires: u64 = server.run(&["PEXPIRETIME", &redis_key(at)]);
        Fence::new((expires - millis(DAY)) * 1000 + 999)
    };

    put_first_claim(&server, 1, young);
    let busy = store.claim(claim(1, 1)).await.unwrap();
    let left = Duration::from_secs(45)..Duration::from_secs(51);
    assert!(matches!(busy, Claimed::Busy { retry_after } if left.contains(&retry_after)), "{busy:?}");
    // Within the millisecond of the claim, which is still to end, and so is dated ahead.
    server.run::<()>(&["PEXPIRE", &redis_key(1), &(millis(DAY) + 1000).to_string()]);
    let busy = Claimed::Busy { retry_after: Duration::from_secs(60) };
    assert_eq!(store.claim(claim(1, 1)).await.unwrap(), busy, "no more than the lease");
    put_first_claim(&server, 1, young);
    assert_eq!(store.claim(Claim::new(key(1), token(1), fingerprint(2), LEASE)).await.unwrap(), Claimed::Mismatch);
    let fence = claimed_at(1);
    assert_eq!(store.claim(claim(1, 9)).await.unwrap(), Claimed::Won { fence, attempt: 1 }, "its own claim again");
    assert_eq!(bytes(&server, 1)[50..58], fence.get().to_be_bytes());

    put_first_claim(&server, 2, old);
    let first = claimed_at(2);
    let (fence, attempt) = win(&store, claim(2, 1)).await;
    assert!(fence > first && attempt == 2, "{first} {fence} {attempt}");
    assert_eq!(store.complete(&complete(2, 9, "late")).await.unwrap(), Ownership::Lost);

    put_first_claim(&server, 3, old);
    let fence = claimed_at(3);
    let unknown = Claimed::Unknown { fence, attempt: 1 };
    assert_eq!(store.claim(claim(3, 1).abandoned(Abandoned::MarkUnknown)).await.unwrap(), unknown);
    assert_eq!(store.claim(claim(3, 9)).await.unwrap(), unknown);

    put_first_claim(&server, 4, young);
    let fence = claimed_at(4);
    let outcome = Complete::new(key(4), token(9), Outcome::Unknown, DAY);
    assert_eq!(store.complete(&outcome).await.unwrap(), Ownership::Held);
    assert_eq!(store.claim(claim(4, 1)).await.unwrap(), Claimed::Unknown { fence, attempt: 1 });
    let other = Resolve::new(key(4), Verdict::NotExecuted).fence(Fence::new(fence.get() - 1));
    assert_eq!(store.resolve(&other).await.unwrap(), Resolved::NotUnknown);
    let this = Resolve::new(key(4), Verdict::NotExecuted).fence(fence);
    assert_eq!(store.resolve(&this).await.unwrap(), Resolved::Applied);
}

/// Somebody took its expiry away, by `PERSIST` or in a copy of the data: nobody knows when it was claimed.
#[tokio::test]
async fn a_first_claim_without_an_expiry_is_unreadable_to_all_but_who_made_it() {
    let (server, store) = start().await;
    win(&store, claim(1, 7)).await;
    server.run::<()>(&["PERSIST", &redis_key(1)]);
    for by in [7, 8] {
        assert_eq!(store.claim(claim(1, by)).await.unwrap(), Claimed::Unreadable);
    }
    assert_eq!(store.renew(Renew::of(&claim(1, 7))).await.unwrap(), Ownership::Lost);
    assert_eq!(store.release(Release::new(key(1), token(7))).await.unwrap(), Ownership::Lost);
    assert_eq!(store.complete(&complete(1, 8, "other")).await.unwrap(), Ownership::Lost);
    assert_eq!(store.complete(&complete(1, 7, "mine")).await.unwrap(), Ownership::Held, "what happened is recorded");
    assert_eq!(store.claim(claim(1, 8)).await.unwrap(), Claimed::Completed { answer: Some(answer("mine")) });

    // Nor does anybody know its fence: it is none, and no other number that looks like one.
    let (fence, attempt) = (Fence::new(0), 1);
    for (at, outcome, claimed) in [
        (2, Outcome::Unknown, Claimed::Unknown { fence, attempt }),
        (3, Outcome::Parked(answer("why")), Claimed::Parked { note: answer("why"), fence, attempt }),
    ] {
        win(&store, claim(at, 7)).await;
        server.run::<()>(&["PERSIST", &redis_key(at)]);
        let verdict = Complete::new(key(at), token(7), outcome, DAY);
        assert_eq!(store.complete(&verdict).await.unwrap(), Ownership::Held);
        assert_eq!(store.claim(claim(at, 8)).await.unwrap(), claimed);
        let absent = Resolve::new(key(at), Verdict::NotExecuted).fence(fence);
        assert_eq!(store.resolve(&absent).await.unwrap(), Resolved::Applied);
        win(&store, claim(at, 8)).await;
    }
}

#[tokio::test]
async fn a_first_claim_is_the_same_after_a_restart() {
    let mut server = RedisServer::with(&["--appendonly", "yes", "--appendfsync", "always"]);
    let store = RedisStore::connect(&server.url()).await.unwrap();
    let won = win(&store, claim(1, 7)).await;
    server.restart();
    let again = eventually_async("the store connects anew", Duration::from_secs(5), async || {
        store.claim(claim(1, 7)).await.ok()
    })
    .await;
    assert_eq!(again, Claimed::Won { fence: won.0, attempt: 1 });
}

/// A record of layout 2 with fingerprint 1, in bytes.
fn layout_2(state: u8, token: u8, note: &[u8]) -> Vec<u8> {
    let length = u32::try_from(note.len()).unwrap();
    let fence = 1_767_225_600_000_000_u64;
    [&[2, state][..], &[1; 32], &[token; 16], &fence.to_be_bytes(), &[0, 0, 0, 3], &[0; 8], &length.to_be_bytes(), note]
        .concat()
}

#[tokio::test]
async fn records_of_layout_2_are_read() {
    let (server, store) = start().await;
    let fence = Fence::new(1_767_225_600_000_000);
    let parked = |note| Claimed::Parked { note: answer(note), fence, attempt: 3 };

    // By its owner, and by a verdict.
    for token in [9, 0] {
        put(&server, 1, &layout_2(5, token, b"why"));
        assert_eq!(store.claim(claim(1, 1)).await.unwrap(), parked("why"));
        assert_eq!(store.claim(claim(1, 9)).await.unwrap(), parked("why"));
        let other = Claim::new(key(1), tests::claims::token(9), fingerprint(2), LEASE);
        assert_eq!(store.claim(other).await.unwrap(), Claimed::Mismatch);
    }
    put(&server, 1, &layout_2(5, 9, b""));
    assert_eq!(store.claim(claim(1, 1)).await.unwrap(), parked(""));

    // Released with its attempt remembered: the next claim is the next attempt, whatever becomes of what is abandoned.
    for rule in [Abandoned::TakeOver, Abandoned::MarkUnknown] {
        put(&server, 2, &layout_2(1, 0, b""));
        let (next, attempt) = win(&store, claim(2, 1).abandoned(rule)).await;
        assert!(next > fence && attempt == 4, "{next} {attempt}");
        assert_eq!(bytes(&server, 2)[..2], [1, 1], "it has an owner again, and so is layout 1");
    }
    put(&server, 2, &layout_2(1, 0, b""));
    let released = Release::new(key(2), token(9));
    assert_eq!(store.release(released).await.unwrap(), Ownership::Lost);
    assert_eq!(store.renew(Renew::of(&claim(2, 9))).await.unwrap(), Ownership::Lost);
    assert_eq!(store.complete(&complete(2, 9, "late")).await.unwrap(), Ownership::Lost);
    // Not even a token of zeros owns it.
    assert_eq!(store.complete(&complete(2, 0, "forged")).await.unwrap(), Ownership::Lost);
    assert_eq!(store.renew(Renew::of(&claim(2, 0))).await.unwrap(), Ownership::Lost);
    assert_eq!(bytes(&server, 2), layout_2(1, 0, b""));
}

#[tokio::test]
async fn the_bytes_of_what_layout_2_added_are_frozen() {
    let (server, store) = start().await;
    let written = |head: [u8; 2], token: u8, fence: &[u8], time: &[u8], note: &[u8]| {
        let length = u32::try_from(note.len()).unwrap();
        [&head[..], &[1; 32], &[token; 16], fence, &[0, 0, 0, 1], time, &length.to_be_bytes(), note].concat()
    };
    let parked_since = |at: u32, before: u64| {
        let since = bytes(&server, at)[62..70].to_vec();
        assert!((before..=clock(&server)).contains(&number(&since)));
        since
    };

    let fence = win(&store, claim(1, 7)).await.0.get().to_be_bytes();
    let before = clock(&server);
    let parked = Complete::new(key(1), token(7), Outcome::Parked(answer("why")), DAY);
    assert_eq!(store.complete(&parked).await.unwrap(), Ownership::Held);
    assert_eq!(bytes(&server, 1), written([2, 5], 7, &fence, &parked_since(1, before), b"why"));
    assert_eq!(expiry(&server, 1), -1);
    let before = clock(&server);
    let verdict = Resolve::new(key(1), Verdict::Parked(answer("still")));
    assert_eq!(store.resolve(&verdict).await.unwrap(), Resolved::Applied);
    assert_eq!(bytes(&server, 1), written([2, 5], 0, &fence, &parked_since(1, before), b"still"));
    assert_eq!(expiry(&server, 1), -1);

    let fence = win(&store, claim(2, 7)).await.0.get().to_be_bytes();
    let released = Release::new(key(2), token(7)).remember(DAY);
    assert_eq!(store.release(released).await.unwrap(), Ownership::Held);
    assert_eq!(bytes(&server, 2), written([2, 1], 0, &fence, &[0; 8], b""));
    let left = expiry(&server, 2);
    assert!((86_395_000..=86_400_000).contains(&left), "{left}");
}

#[tokio::test]
async fn what_is_no_record_is_never_taken_for_absent_or_overwritten() {
    let (server, store) = start().await;
    win(&store, claim(1, 7)).await;
    let in_flight = bytes(&server, 1);
    assert_eq!(store.complete(&complete(1, 7, "body")).await.unwrap(), Ownership::Held);
    let completed = bytes(&server, 1);
    let with = |at: usize, byte: u8| {
        let mut changed = in_flight.clone();
        changed[at] = byte;
        changed
    };
    let fence_of_all_ones = [&in_flight[..50], &[0xff; 8], &in_flight[58..]].concat();

    for (what, damaged) in [
        ("a newer version", with(0, 4)),
        ("version 0", with(0, 0)),
        ("state 0", with(1, 0)),
        ("parked in layout 1", with(1, 5)),
        ("in flight with an owner in layout 2", with(0, 2)),
        ("a tombstone in layout 2", [&[2, 3], &in_flight[2..]].concat()),
        ("unknown in layout 2", [&[2, 4], &in_flight[2..]].concat()),
        ("a parked record without its note", [&[2, 5], &completed[2..completed.len() - 1]].concat()),
        ("a state that layout 2 does not have", [&[2, 6], &in_flight[2..]].concat()),
        ("a parked record in layout 3", [&[3, 5], &completed[2..]].concat()),
        ("an answer in layout 3", [&[3, 2], &completed[2..]].concat()),
        ("nothing at all", vec![]),
        ("one byte", vec![1]),
        ("a header cut off", in_flight[..73].to_vec()),
        ("an answer cut off", completed[..completed.len() - 1].to_vec()),
        ("bytes behind the answer", [&completed[..], b"!"].concat()),
        ("bytes behind the header", [&in_flight[..], b"!"].concat()),
        ("a fence no number of Lua holds", fence_of_all_ones),
        ("text", b"somebody else's value".to_vec()),
    ] {
        put(&server, 1, &damaged);
        nobody_touches(&store, what).await;
        assert_eq!(bytes(&server, 1), damaged, "{what}");
    }

    server.run::<()>(&["DEL", &redis_key(1)]);
    server.run::<()>(&["RPUSH", &redis_key(1), "a", "b"]);
    nobody_touches(&store, "a list").await;
    assert_eq!(server.run::<Vec<String>>(&["LRANGE", &redis_key(1), "0", "-1"]), ["a", "b"]);

    // But an operator may.
    assert_eq!(store.forget(key(1)).await.unwrap(), Forgotten::Done);
    win(&store, claim(1, 1)).await;
}

async fn nobody_touches(store: &RedisStore, what: &str) {
    for by in [7, 8] {
        assert_eq!(store.claim(claim(1, by)).await.unwrap(), Claimed::Unreadable, "{what}");
        let other = Claim::new(key(1), token(by), fingerprint(2), LEASE);
        assert_eq!(store.claim(other).await.unwrap(), Claimed::Unreadable, "{what}");
    }
    assert_eq!(store.renew(Renew::of(&claim(1, 7))).await.unwrap(), Ownership::Lost, "{what}");
    let resolve = Resolve::new(key(1), Verdict::NotExecuted);
    assert_eq!(store.resolve(&resolve).await.unwrap(), Resolved::NotUnknown, "{what}");
    assert_eq!(store.complete(&complete(1, 7, "mine")).await.unwrap(), Ownership::Lost, "{what}");
    assert_eq!(store.release(Release::new(key(1), token(7))).await.unwrap(), Ownership::Lost, "{what}");
}

#[tokio::test]
async fn a_record_expires_only_when_nothing_can_be_lost_with_it() {
    let (server, store) = start().await;
    let second = Duration::from_secs(1);
    let near = |millis: i64, of: Duration| {
        let of = i64::try_from(of.as_millis()).unwrap();
        assert!((of - 5_000..=of).contains(&millis), "{millis} is not about {of}");
    };

    let taken_over = claim(1, 1).retention(Some(10 * second));
    win(&store, taken_over).await;
    near(expiry(&server, 1), LEASE + 10 * second);
    assert_eq!(store.renew(Renew::of(&taken_over.retention(Some(DAY)))).await.unwrap(), Ownership::Held);
    near(expiry(&server, 1), LEASE + DAY);
    let never = claim(2, 1).abandoned(Abandoned::MarkUnknown);
    win(&store, never).await;
    // A hundred years: without an expiry nobody could tell when it was claimed.
    assert!(expiry(&server, 2) > 3_000_000_000_000);
    assert_eq!(store.renew(Renew::of(&never)).await.unwrap(), Ownership::Held);
    assert_eq!(expiry(&server, 2), -1);

    let end = Complete::new(key(1), token(1), Outcome::Answer(answer("body")), second).remember(DAY);
    assert_eq!(store.complete(&end).await.unwrap(), Ownership::Held);
    near(expiry(&server, 1), DAY);
    let unknown = Complete::new(key(2), token(1), Outcome::Unknown, second);
    assert_eq!(store.complete(&unknown).await.unwrap(), Ownership::Held);
    assert_eq!(expiry(&server, 2), -1);
    let verdict = Verdict::Completed { answer: None, ttl: second, remember: DAY };
    assert_eq!(store.resolve(&Resolve::new(key(2), verdict)).await.unwrap(), Resolved::Applied);
    near(expiry(&server, 2), DAY);

    // An abandoned record that becomes unknown loses its expiry.
    let short = Claim::new(key(3), token(1), fingerprint(1), Duration::from_millis(1));
    win(&store, short).await;
    assert!(expiry(&server, 3) > 0);
    let other = claim(3, 2).abandoned(Abandoned::MarkUnknown);
    eventually_async("the lease runs out", 5 * second, async || {
        matches!(store.claim(other).await.unwrap(), Claimed::Unknown { attempt: 1, .. }).then_some(())
    })
    .await;
    assert_eq!(expiry(&server, 3), -1);

    // The longest durations there are, and the shortest.
    let ever = Claim::new(key(4), token(1), fingerprint(1), Duration::MAX).retention(Some(Duration::MAX));
    win(&store, ever).await;
    assert!(expiry(&server, 4) > 3_000_000_000_000);
    assert!(matches!(store.claim(claim(4, 2)).await.unwrap(), Claimed::Busy { .. }));
    let end = Complete::new(key(4), token(1), Outcome::Tombstone, Duration::MAX);
    assert_eq!(store.complete(&end).await.unwrap(), Ownership::Held);
    assert!(expiry(&server, 4) > 3_000_000_000_000);
    win(&store, claim(5, 1)).await;
    let end = Complete::new(key(5), token(1), Outcome::Tombstone, Duration::ZERO);
    assert_eq!(store.complete(&end).await.unwrap(), Ownership::Held);
    eventually_async("it is forgotten", 5 * second, async || {
        matches!(store.claim(claim(5, 2)).await.unwrap(), Claimed::Won { attempt: 1, .. }).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_big_binary_answer_comes_back_byte_for_byte() {
    let (_server, store) = start().await;
    let body: Vec<u8> = (0..3_000_000_u32).map(|at| (at * 31 % 251) as u8).collect();
    let body = idem_runtime::Answer::from_bytes(body.into());
    win(&store, claim(1, 1)).await;
    let end = Complete::new(key(1), token(1), Outcome::Answer(body.clone()), DAY);
    assert_eq!(store.complete(&end).await.unwrap(), Ownership::Held);
    assert_eq!(store.claim(claim(1, 2)).await.unwrap(), Claimed::Completed { answer: Some(body) });
}

#[tokio::test]
async fn the_newer_protocol_says_the_same() {
    let (server, _) = start().await;
    let store = RedisStore::connect(&format!("{}/?protocol=resp3", server.url())).await.unwrap();
    let (fence, _) = win(&store, claim(1, 1)).await;
    assert_eq!(win(&store, claim(1, 1)).await, (fence, 1));
    assert!(matches!(store.claim(claim(1, 2)).await.unwrap(), Claimed::Busy { .. }));
    assert_eq!(store.complete(&complete(1, 1, "body")).await.unwrap(), Ownership::Held);
    assert_eq!(store.claim(claim(1, 2)).await.unwrap(), Claimed::Completed { answer: Some(answer("body")) });
    assert_eq!(server.run::<Value>(&["EXISTS", &redis_key(1)]), Value::Int(1));
}
