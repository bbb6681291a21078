//! The requests of a pull consumer.

use std::{
    fmt,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use async_nats::{
    HeaderMap, HeaderName, Subject,
    connection::State,
    jetstream::{
        AckKind, Context,
        consumer::{self, AckPolicy, PullConsumer, pull},
        context::{GetStreamByNameErrorKind, GetStreamErrorKind, PublishErrorKind},
        message::PublishMessage,
        stream::{ConsumerErrorKind, Stream},
    },
};
use futures_util::StreamExt as _;
use tokio::time::{Instant, timeout_at};

use super::EVENT_ID;
use crate::consumer::{
    BrokerError, Event, ParkedReason,
    worker::{Broker, Fetched, Settlement},
};

/// A durable consumer of a stream.
pub(super) struct Durable {
    context: Context,
    ready: Mutex<Option<Ready>>,
    stream: String,
    pub(super) name: String,
    pub(super) filter: Option<String>,
    pub(super) publish_to: Option<String>,
    pub(super) id_header: String,
    pub(super) ack_wait: Duration,
    pub(super) max_ack_pending: u32,
    pub(super) dead_letters: Option<String>,
}

/// What the server said of it.
#[derive(Clone)]
struct Ready {
    consumer: PullConsumer,
    id_header: HeaderName,
    /// How soon a message that nobody speaks for is delivered again.
    patience: Duration,
    /// How many messages one pull request may ask for, and for how long.
    most: usize,
    wait: Duration,
}

/// How long the server keeps a pull request that finds nothing. A worker that is told to stop waits for it.
const WAIT: Duration = Duration::from_millis(500);

/// How long beyond that its answer may be on the way.
const LATE: Duration = Duration::from_secs(2);

/// Why a parked event is parked, in its dead letter.
const PARKED: &str = "Idem-Parked";
/// How many bytes a dead letter is without.
const PAYLOAD_LEFT_OUT: &str = "Idem-Payload-Left-Out";

impl Durable {
    pub(super) fn new(context: Context, stream: String) -> Self {
        Self {
            context,
            ready: Mutex::new(None),
            stream,
            name: "idem".to_owned(),
            filter: None,
            publish_to: None,
            id_header: async_nats::header::NATS_MESSAGE_ID.to_string(),
            ack_wait: Duration::from_secs(30),
            max_ack_pending: 20_000,
            dead_letters: None,
        }
    }

    async fn stream(&self) -> Result<Stream, BrokerError> {
        self.context.get_stream(&self.stream).await.map_err(|error| match error.kind() {
            GetStreamErrorKind::EmptyName | GetStreamErrorKind::InvalidStreamName => {
                BrokerError::misconfigured(format!("`{}` is not the name of a stream", self.stream))
            }
            GetStreamErrorKind::JetStream(refusal) if refusal.code() == 404 => BrokerError::misconfigured(format!(
                "there is no stream `{}`; create it before its workers start",
                self.stream
            )),
            GetStreamErrorKind::JetStream(refusal) => refused(&refusal),
            GetStreamErrorKind::Request => BrokerError::unavailable("the stream could not be looked up"),
        })
    }

    /// A dead letter that nobody keeps is never acknowledged, and one that `reader` reads comes back as an event.
    async fn confirms(&self, subject: &str, reader: &consumer::Config) -> Result<(), BrokerError> {
        match self.context.stream_by_subject(subject).await {
            Ok(stream) if stream == self.stream && reads(reader, subject) => Err(BrokerError::misconfigured(
                "the subject of `dead_letters` is among those that are read: each letter would come back as an event",
            )),
            Ok(_) => Ok(()),
            Err(error) if matches!(error.kind(), GetStreamByNameErrorKind::Request) => {
                Err(BrokerError::unavailable("the stream of `dead_letters` could not be looked up"))
            }
            Err(_) => Err(BrokerError::misconfigured("the subject of `dead_letters` belongs to no stream")),
        }
    }

    fn config(&self) -> pull::Config {
        pull::Config {
            durable_name: Some(self.name.clone()),
            ack_policy: AckPolicy::Explicit,
            ack_wait: self.ack_wait,
            max_deliver: -1,
            max_ack_pending: i64::from(self.max_ack_pending),
            filter_subject: self.filter.clone().unwrap_or_default(),
            ..pull::Config::default()
        }
    }

    fn ready(&self) -> Result<Ready, BrokerError> {
        let ready = self.lock().clone();
        ready.ok_or_else(|| BrokerError::unavailable("the durable consumer is not known yet"))
    }

    fn lock(&self) -> MutexGuard<'_, Option<Ready>> {
        self.ready.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// An answer to a message. The client sends it when it can: also after it has connected again.
    async fn answer(&self, message: &Subject, kind: AckKind) -> Result<(), BrokerError> {
        let sent = self.context.client().publish(message.clone(), kind.into()).await;
        sent.map_err(|_| BrokerError::unavailable("the client is closed"))
    }

    async fn publish_to(&self, subject: &str, event: &Event, reason: Option<&str>) -> Result<(), BrokerError> {
        let mut message = PublishMessage::build();
        if let Some(id) = event.id() {
            message = message.header(EVENT_ID, header_value(id)?);
        }
        if let Some(reason) = reason {
            message = message.header(PARKED, reason);
        }
        let whole = message.clone().payload(event.payload().clone());
        match self.confirmed(subject, whole).await {
            // With its headers it is larger than the server takes, and always will be. A letter may say so.
            Err(PublishErrorKind::MaxPayloadExceeded) if reason.is_some() => {
                let without = message.header(PAYLOAD_LEFT_OUT, event.payload().len().to_string());
                self.confirmed(subject, without).await
            }
            published => published,
        }
        .map_err(|kind| match kind {
            PublishErrorKind::MaxPayloadExceeded => {
                BrokerError::misconfigured("the event and its id are larger than the server's `max_payload`")
            }
            _ => BrokerError::unavailable(format!("no stream confirmed what was published to `{subject}`")),
        })
    }

    async fn confirmed(&self, subject: &str, message: PublishMessage) -> Result<(), PublishErrorKind> {
        let sent = self.context.send_publish(subject.to_owned(), message).await;
        sent.map_err(|error| error.kind())?.await.map(drop).map_err(|error| error.kind())
    }

    /// Where events are published again.
    async fn subject(&self) -> Result<String, BrokerError> {
        let is_plain = |subject: &&String| !subject.split('.').any(|part| part == "*" || part == ">");
        if let Some(subject) = self.publish_to.as_ref().or(self.filter.as_ref()).filter(is_plain) {
            return Ok(subject.clone());
        }
        let stream = self.stream().await?;
        match &stream.cached_info().config.subjects[..] {
            [subject] if self.filter.is_none() && is_plain(&subject) => Ok(subject.clone()),
            _ => Err(BrokerError::misconfigured("no subject to publish to: write `.publish_to(..)`")),
        }
    }
}

impl Broker for Durable {
    /// Where the answer to a message goes.
    type Receipt = Subject;

    async fn prepare(&self) -> Result<(), BrokerError> {
        let id_header = self.id_header.parse::<HeaderName>();
        let id_header = id_header.map_err(|_| BrokerError::misconfigured("`id_header` is not the name of a header"))?;
        let stream = self.stream().await?;
        let consumer = stream.get_or_create_consumer(&self.name, self.config()).await;
        let consumer: PullConsumer = consumer.map_err(|error| match error.kind() {
            ConsumerErrorKind::JetStream(refusal) => refused(&refusal),
            ConsumerErrorKind::InvalidConsumerType | ConsumerErrorKind::InvalidName => {
                BrokerError::misconfigured(format!("`{}` is not a durable pull consumer", self.name))
            }
            _ => BrokerError::unavailable("the durable consumer could not be made"),
        })?;
        let config = &consumer.cached_info().config;
        if config.ack_policy != AckPolicy::Explicit {
            return Err(BrokerError::misconfigured(format!("`{}` must acknowledge explicitly", self.name)));
        }
        if let Some(subject) = &self.dead_letters {
            self.confirms(subject, config).await?;
        }
        let patience = config.backoff.iter().copied().min().unwrap_or(config.ack_wait);
        // The server refuses what asks for more. Zero: for as much as one likes.
        let most = usize::try_from(config.max_batch).ok().filter(|most| *most > 0).unwrap_or(usize::MAX);
        let wait = Some(config.max_expires).filter(|wait| !wait.is_zero()).map_or(WAIT, |wait| wait.min(WAIT));
        *self.lock() = Some(Ready { consumer, id_header, patience, most, wait });
        Ok(())
    }

    async fn fetch(&self, room: usize) -> Result<Vec<Fetched<Subject>>, BrokerError> {
        if self.context.client().connection_state() != State::Connected {
            return Err(BrokerError::unavailable("there is no connection"));
        }
        let Ready { consumer, id_header, most, wait, .. } = self.ready()?;
        // With both, the server answers at once if it has anything, else as soon as it has.
        let request = consumer.fetch().max_messages(room.min(most)).expires(wait).messages().await;
        let mut messages = request.map_err(|_| BrokerError::unavailable("the pull request could not be sent"))?;
        let deadline = Instant::now() + wait + LATE;
        let mut fetched = Vec::new();
        loop {
            match timeout_at(deadline, messages.next()).await {
                Ok(Some(Ok(message))) => {
                    let again = message.info().is_ok_and(|info| info.delivered > 1);
                    let event = event(message.message.headers.as_ref(), &id_header, message.message.payload);
                    // What has no reply is no delivery of JetStream's.
                    if let Some(receipt) = message.message.reply {
                        fetched.push(Fetched { event, receipt, again });
                    }
                }
                Ok(None) => return Ok(fetched),
                // What came before the fault is ours all the same.
                Ok(Some(Err(_))) | Err(_) if !fetched.is_empty() => return Ok(fetched),
                Ok(Some(Err(error))) => return Err(BrokerError::unavailable(error.to_string())),
                Err(_) => return Err(BrokerError::unavailable("no answer to a pull request")),
            }
        }
    }

    fn writes_dead_letters(&self) -> bool {
        self.dead_letters.is_some()
    }

    async fn bury(&self, event: &Event, reason: ParkedReason) -> Result<(), BrokerError> {
        let Some(subject) = &self.dead_letters else { return Ok(()) };
        self.publish_to(subject, event, Some(&reason.to_string())).await
    }

    async fn settle(&self, settlements: &[Settlement<Subject>]) -> Result<(), BrokerError> {
        for settlement in settlements {
            match settlement {
                Settlement::Done { receipt } => {
                    self.answer(receipt, AckKind::Ack).await?;
                }
                Settlement::Again { receipt, after } => {
                    let delay = (!after.is_zero()).then_some(*after);
                    self.answer(receipt, AckKind::Nak(delay)).await?;
                }
            }
        }
        // Written before the client is dropped with the worker.
        self.context.client().flush().await.map_err(|_| BrokerError::unavailable("the client is closed"))
    }

    async fn renew(&self, held: &[Subject]) -> Result<(), BrokerError> {
        for message in held {
            self.answer(message, AckKind::Progress).await?;
        }
        Ok(())
    }

    fn renew_every(&self) -> Duration {
        self.ready().map_or(self.ack_wait, |ready| ready.patience) / 3
    }

    async fn may_publish(&self, event: &Event) -> Result<(), BrokerError> {
        event.id().map(header_value).transpose()?;
        self.subject().await.map(drop)
    }

    async fn publish(&self, event: &Event) -> Result<(), BrokerError> {
        let subject = self.subject().await?;
        self.publish_to(&subject, event, None).await
    }
}

impl fmt::Debug for Durable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Durable")
            .field("stream", &self.stream)
            .field("name", &self.name)
            .field("filter", &self.filter)
            .finish_non_exhaustive()
    }
}

fn event(headers: Option<&HeaderMap>, id_header: &HeaderName, payload: bytes::Bytes) -> Event {
    let id = headers.and_then(|headers| headers.get(EVENT_ID).or_else(|| headers.get(id_header.clone())));
    match id {
        Some(id) => Event::new(id.as_str(), payload),
        None => Event::without_id(payload),
    }
}

/// Whether a consumer gets messages of this subject, if their stream has them.
fn reads(consumer: &consumer::Config, subject: &str) -> bool {
    let filters =
        || consumer.filter_subjects.iter().chain(Some(&consumer.filter_subject)).filter(|one| !one.is_empty());
    filters().next().is_none() || filters().any(|filter| covers(filter, subject))
}

/// `*` stands for one token, `>` for all that follow.
fn covers(filter: &str, subject: &str) -> bool {
    let (mut filter, mut subject) = (filter.split('.'), subject.split('.'));
    loop {
        match (filter.next(), subject.next()) {
            (Some(">"), Some(_)) | (None, None) => return true,
            (Some("*"), Some(_)) => {}
            (Some(one), Some(other)) if one == other => {}
            _ => return false,
        }
    }
}

/// A header is one line.
fn header_value(id: &str) -> Result<async_nats::HeaderValue, BrokerError> {
    id.parse().map_err(|_| BrokerError::misconfigured("the event's id cannot be a header: it holds a line break"))
}

/// What JetStream refuses with. Its text names streams and consumers, never what is in them.
fn refused(refusal: &async_nats::jetstream::Error) -> BrokerError {
    // 503: no leader yet, or JetStream is not up again.
    if refusal.code() == 503 {
        BrokerError::unavailable(refusal.to_string())
    } else {
        BrokerError::misconfigured(refusal.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_durable_reads_is_up_to_its_filters() {
        let reading = |filters: &[&str]| consumer::Config {
            filter_subjects: filters.iter().map(|&filter| filter.to_owned()).collect(),
            ..consumer::Config::default()
        };
        for (filters, subject, reads_it) in [
            (&[][..], "orders.dead", true),
            (&["orders.>"], "orders.dead", true),
            (&["orders.>"], "orders", false),
            (&["orders.*"], "orders.dead", true),
            (&["orders.*"], "orders.dead.eu", false),
            (&["*.new", "orders.new.*"], "orders.dead", false),
            (&["*.new", "*.dead"], "orders.dead", true),
            (&["orders.dead"], "orders.dead", true),
            (&["orders"], "orders.dead", false),
        ] {
            assert_eq!(reads(&reading(filters), subject), reads_it, "{filters:?} {subject}");
        }
        let one = consumer::Config { filter_subject: "orders.new".to_owned(), ..consumer::Config::default() };
        assert!(!reads(&one, "orders.dead") && reads(&one, "orders.new"));
    }
}
