//! Fences grow, though a first claim knows the clock to the millisecond only, and though the clock was set back.

use idem_runtime::store::{
    Claim, Complete, Fence, Outcome, Ownership, RedisStore, Release, Resolve, Resolved, Store, Verdict,
};
use tests::claims::{DAY, LEASE, claim, fingerprint, key, token, win};
use tests::servers::RedisServer;
use tokio::join;

use super::records::{bytes, clock, put, start};

/// A first claim knows the clock to the millisecond, and many fit into one.
#[tokio::test]
async fn fences_grow_though_a_key_is_claimed_again_within_the_millisecond() {
    let (server, store) = start().await;
    let release = async |at| {
        assert_eq!(store.release(Release::new(key(at), token(7))).await.unwrap(), Ownership::Held);
    };
    let settle = async |at| {
        let unknown = Complete::new(key(at), token(7), Outcome::Unknown, DAY);
        let absent = Resolve::new(key(at), Verdict::NotExecuted);
        let (completed, resolved) = join!(biased; store.complete(&unknown), store.resolve(&absent));
        assert_eq!((completed.unwrap(), resolved.unwrap()), (Ownership::Held, Resolved::Applied));
    };
    // How often each was seen within one. A slow server crosses into the next one now and then, and proves nothing by it.
    let (mut released, mut settled) = (0, 0);
    for at in 0..500 {
        released += u32::from(is_claimed_within_the_millisecond_of(&server, &store, 2 * at, release(2 * at)).await);
        settled +=
            u32::from(is_claimed_within_the_millisecond_of(&server, &store, 2 * at + 1, settle(2 * at + 1)).await);
        if released.min(settled) >= 10 {
            return;
        }
    }
    panic!("within a millisecond: {released} after a release, {settled} after a verdict, of 500 each");
}

/// Claims a key, frees it and claims it again. What is asked for at once leaves in one write and in this order.
async fn is_claimed_within_the_millisecond_of(
    server: &RedisServer,
    store: &RedisStore,
    at: u32,
    free: impl Future<Output = ()>,
) -> bool {
    // Another request altogether: what is left behind for the fence is nobody's.
    let other = Claim::new(key(at), token(8), fingerprint(2), LEASE);
    let ((first, _), (), (next, attempt)) = join!(biased; win(store, claim(at, 7)), free, win(store, other));
    assert!(next > first && attempt == 1, "{first} {next} {attempt}");
    // Its plain `SET` would be layout 3. It found what was left behind, which goes with the millisecond of the first claim.
    bytes(server, at)[0] == 1
}

/// By a clock that was set back all of a key's claims are, so to speak, within the millisecond.
#[tokio::test]
async fn fences_grow_while_the_clock_is_behind_them() {
    let (server, store) = start().await;
    let ahead = clock(&server) + 3_600_000_000;
    put(&server, 1, &[&[1, 1][..], &[1; 32], &[7; 16], &ahead.to_be_bytes(), &[0, 0, 0, 1], &[0; 12]].concat());
    for round in 1..=10 {
        if round % 2 == 0 {
            assert_eq!(store.release(Release::new(key(1), token(7))).await.unwrap(), Ownership::Held);
        } else {
            let unknown = Complete::new(key(1), token(7), Outcome::Unknown, DAY);
            assert_eq!(store.complete(&unknown).await.unwrap(), Ownership::Held);
            let absent = Resolve::new(key(1), Verdict::NotExecuted);
            assert_eq!(store.resolve(&absent).await.unwrap(), Resolved::Applied);
        }
        let other = Claim::new(key(1), token(7), fingerprint(round), LEASE);
        assert_eq!(win(&store, other).await, (Fence::new(ahead + u64::from(round)), 1));
    }
}
