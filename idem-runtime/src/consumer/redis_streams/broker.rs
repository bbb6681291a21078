//! The commands of a consumer group.

use std::{
    cmp::Reverse,
    collections::BinaryHeap,
    fmt,
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use bytes::Bytes;
use redis::{Client, Cmd, Value};
use tokio::time::Instant;

use super::{
    reply::{self, Autoclaimed, Entry, Unexpected},
    wire::{Wire, fault},
};
use crate::consumer::{
    BrokerError, Event, ParkedReason,
    worker::{Broker, Fetched, Settlement},
};

/// A stream, read as one member of a group.
pub(super) struct Stream {
    /// Only for `XREADGROUP`, which waits.
    reading: Wire,
    /// For everything else.
    asking: Wire,
    reclaim: Mutex<Reclaim>,
    pub(super) stream: String,
    pub(super) group: String,
    pub(super) name: String,
    pub(super) id_field: String,
    pub(super) payload_field: String,
    pub(super) reclaim_after: Duration,
    pub(super) command_timeout: Duration,
    pub(super) dead_letters: Option<String>,
}

/// The id of an entry.
pub(super) type EntryId = Vec<u8>;

/// When to look for idle entries next, and where.
#[derive(Debug)]
struct Reclaim {
    /// For what dead workers leave.
    round: Instant,
    /// For what this worker set to come again.
    expected: BinaryHeap<Reverse<Instant>>,
    cursor: EntryId,
}

/// How long `XREADGROUP` waits for a first entry. A worker that is told to stop waits for it.
const WAIT: Duration = Duration::from_millis(500);

/// Redis counts idle time in whole milliseconds.
const TICK: Duration = Duration::from_millis(2);

/// Where a look through the pending entries begins, and what says that it is over.
const START: &[u8] = b"0-0";

impl Stream {
    pub(super) fn new(client: Client, stream: String) -> Self {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Self {
            reading: Wire::new(client.clone()),
            asking: Wire::new(client),
            reclaim: Mutex::new(Reclaim { round: Instant::now(), expected: BinaryHeap::new(), cursor: START.into() }),
            stream,
            group: "idem".to_owned(),
            name: format!("worker-{}-{}", std::process::id(), now.as_nanos()),
            id_field: "id".to_owned(),
            payload_field: "payload".to_owned(),
            reclaim_after: Duration::from_secs(60),
            command_timeout: Duration::from_secs(2),
            dead_letters: None,
        }
    }

    /// Entries whose worker is gone, or whose time to come again has come.
    async fn reclaim(&self, room: usize) -> Result<Vec<Entry>, BrokerError> {
        let cursor = self.reclaiming().begin();
        let mut claim = redis::cmd("XAUTOCLAIM");
        claim.arg(&self.stream).arg(&self.group).arg(&self.name).arg(millis(self.reclaim_after));
        claim.arg(&cursor).arg("COUNT").arg(room);
        let reply = self.asking.send(&claim, self.command_timeout).await?;
        let Autoclaimed { next, claimed, vanished } =
            reply::autoclaimed(reply).map_err(|Unexpected| unexpected("XAUTOCLAIM"))?;
        if vanished > 0 {
            tracing::warn!(vanished, "entries were deleted from the stream before they were handled");
        }
        let mut reclaim = self.reclaiming();
        if next == START {
            // Often enough to find what a dead worker left soon after it may be taken.
            reclaim.round = Instant::now() + (self.reclaim_after / 4).min(Duration::from_secs(5));
        }
        reclaim.cursor = next;
        Ok(claimed)
    }

    async fn read(&self, room: usize, wait: Duration) -> Result<Vec<Entry>, BrokerError> {
        let mut read = redis::cmd("XREADGROUP");
        read.arg("GROUP").arg(&self.group).arg(&self.name).arg("COUNT").arg(room);
        read.arg("BLOCK").arg(millis(wait)).arg("STREAMS").arg(&self.stream).arg(">");
        let reply = self.reading.send(&read, wait + self.command_timeout).await?;
        reply::read(reply).map_err(|Unexpected| unexpected("XREADGROUP"))
    }

    fn fetched(&self, entry: Entry, again: bool) -> Fetched<EntryId> {
        let payload = Bytes::copy_from_slice(entry.field(&self.payload_field).unwrap_or_default());
        let event = match entry.field(&self.id_field).map(str::from_utf8) {
            Some(Ok(id)) => Event::new(id, payload),
            // An id that is no text is none.
            Some(Err(_)) | None => Event::without_id(payload),
        };
        Fetched { event, receipt: entry.id, again }
    }

    /// Makes entries ours, idle for as long as they are said to be. Their count of deliveries stays.
    fn hold(&self, ids: &[EntryId], idle: Duration) -> Cmd {
        let mut claim = redis::cmd("XCLAIM");
        claim.arg(&self.stream).arg(&self.group).arg(&self.name).arg(0).arg(ids);
        claim.arg("IDLE").arg(millis(idle)).arg("JUSTID");
        claim
    }

    fn add(&self, stream: &str, event: &Event) -> Cmd {
        let mut add = redis::cmd("XADD");
        add.arg(stream).arg("*");
        if let Some(id) = event.id() {
            add.arg(&self.id_field).arg(id);
        }
        add.arg(&self.payload_field).arg(&event.payload()[..]);
        add
    }

    fn reclaiming(&self) -> MutexGuard<'_, Reclaim> {
        self.reclaim.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Reclaim {
    fn due(&self) -> Instant {
        self.expected.peek().map_or(self.round, |Reverse(expected)| self.round.min(*expected))
    }

    /// Where to begin, or to go on.
    fn begin(&mut self) -> EntryId {
        let now = Instant::now();
        while self.expected.peek().is_some_and(|Reverse(expected)| *expected <= now) {
            self.expected.pop();
            // Until this look is over.
            self.round = now;
        }
        self.cursor.clone()
    }
}

impl Broker for Stream {
    type Receipt = EntryId;

    async fn prepare(&self) -> Result<(), BrokerError> {
        let mut create = redis::cmd("XGROUP");
        create.arg("CREATE").arg(&self.stream).arg(&self.group).arg("0").arg("MKSTREAM");
        let mut created = redis::pipe();
        created.add_command(create);
        all_but(&["BUSYGROUP"], self.asking.send_all(&created, self.command_timeout).await?)?;
        let Some(dead_letters) = &self.dead_letters else { return Ok(()) };
        if *dead_letters == self.stream {
            return Err(BrokerError::misconfigured(
                "`dead_letters` is the stream that is read: each letter would come back as an event",
            ));
        }
        // Later it would hold up every acknowledgement.
        let kind = self.asking.send(redis::cmd("TYPE").arg(dead_letters), self.command_timeout).await?;
        match kind {
            Value::SimpleString(kind) if kind == "none" || kind == "stream" => Ok(()),
            _ => Err(BrokerError::misconfigured("the key of `dead_letters` holds something else than a stream")),
        }
    }

    async fn fetch(&self, room: usize) -> Result<Vec<Fetched<EntryId>>, BrokerError> {
        if self.reclaiming().due() <= Instant::now() {
            let claimed = self.reclaim(room).await?;
            if !claimed.is_empty() {
                return Ok(claimed.into_iter().map(|entry| self.fetched(entry, true)).collect());
            }
        }
        let due = self.reclaiming().due().saturating_duration_since(Instant::now());
        // `BLOCK 0` would wait for ever.
        let entries = self.read(room, due.clamp(Duration::from_millis(1), WAIT)).await?;
        Ok(entries.into_iter().map(|entry| self.fetched(entry, false)).collect())
    }

    fn writes_dead_letters(&self) -> bool {
        self.dead_letters.is_some()
    }

    async fn bury(&self, event: &Event, reason: ParkedReason) -> Result<(), BrokerError> {
        let Some(stream) = &self.dead_letters else { return Ok(()) };
        let mut letter = self.add(stream, event);
        letter.arg("reason").arg(reason.to_string());
        self.asking.send(&letter, self.command_timeout).await.map(drop)
    }

    async fn settle(&self, settlements: &[Settlement<EntryId>]) -> Result<(), BrokerError> {
        let mut commands = redis::pipe();
        let (mut done, mut expected) = (Vec::new(), Vec::new());
        for settlement in settlements {
            match settlement {
                Settlement::Done { receipt } => done.push(receipt),
                Settlement::Again { receipt, after } => {
                    let after = (*after).min(self.reclaim_after);
                    commands.add_command(self.hold(std::slice::from_ref(receipt), self.reclaim_after - after));
                    expected.push(after + TICK);
                }
            }
        }
        if !done.is_empty() {
            let mut acknowledge = redis::cmd("XACK");
            acknowledge.arg(&self.stream).arg(&self.group).arg(done);
            commands.add_command(acknowledge);
        }
        let replies = self.asking.send_all(&commands, self.command_timeout).await?;
        let now = Instant::now();
        self.reclaiming().expected.extend(expected.into_iter().map(|after| Reverse(now + after)));
        // A group that is gone has nothing that waits to be acknowledged.
        all_but(&["NOGROUP"], replies)
    }

    async fn renew(&self, held: &[EntryId]) -> Result<(), BrokerError> {
        self.asking.send(&self.hold(held, Duration::ZERO), self.command_timeout).await.map(drop)
    }

    fn renew_every(&self) -> Duration {
        self.reclaim_after / 3
    }

    async fn may_publish(&self, _: &Event) -> Result<(), BrokerError> {
        Ok(())
    }

    async fn publish(&self, event: &Event) -> Result<(), BrokerError> {
        self.asking.send(&self.add(&self.stream, event), self.command_timeout).await.map(drop)
    }
}

impl fmt::Debug for Stream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Stream")
            .field("stream", &self.stream)
            .field("group", &self.group)
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}

/// The first error among the replies that is not one of these.
fn all_but(codes: &[&str], replies: Vec<Value>) -> Result<(), BrokerError> {
    for reply in replies {
        match reply.extract_error() {
            Err(error) if error.code().is_none_or(|code| !codes.contains(&code)) => return Err(fault(&error)),
            _ => {}
        }
    }
    Ok(())
}

fn unexpected(command: &str) -> BrokerError {
    BrokerError::misconfigured(format!("`{command}` was not answered as Redis 7 does"))
}

/// As Redis counts time.
fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
