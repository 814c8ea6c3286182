//! Google Cloud Pub/Sub: the topic that events are published into, and its subscription.
//!
//! Both are made where they are missing, by whoever comes first, and nothing is published before
//! both are there: what a topic takes that has no subscription is nobody's. Nothing here ends a
//! service: while the topic can't be reached, events wait in the logs, and what was answered last
//! is one sentence in `/ready`.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use google_cloud_auth::credentials::{self, anonymous};
use google_cloud_gax::error::rpc::Code;
use google_cloud_gax::options::RequestOptionsBuilder as _;
use google_cloud_gax::retry_policy::{Aip194Strict, NeverRetry, RetryPolicyExt as _};
use google_cloud_pubsub::Error;
use google_cloud_pubsub::client::{Publisher, Subscriber, SubscriptionAdmin, TopicAdmin};
use google_cloud_pubsub::error::PublishError;
use google_cloud_pubsub::model::{ExpirationPolicy, Message as Wire, Subscription};
use tokio::sync::OnceCell;

use super::answers::{Answers, code, is_missing};
use super::{Credentials, CredentialsError, is_emulator};
use crate::config::Config;
use crate::queue::{Message, Published, Topic};
use crate::store::{Batch, EventStore, Plan, StoreError, Stored};

/// The service's own address.
const ENDPOINT: &str = "https://pubsub.googleapis.com";
/// A request holds at most 10 MB and 1,000 messages
/// (<https://cloud.google.com/pubsub/quotas#resource_limits>).
const REQUEST: (u32, u32) = (9_000_000, 1_000);
/// For so long a request is repeated before it counts as failed.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long a message is an instance's after it was last heard of.
pub(super) const LEASE: Duration = Duration::from_secs(15);
/// How long the service keeps what nobody has acknowledged: the longest there is.
const RETENTION: Duration = Duration::from_secs(31 * 24 * 60 * 60);
/// Topic and subscription are looked at this often: a project has 6,000 such questions a minute.
const LOOK_EVERY: Duration = Duration::from_secs(30);
/// What went wrong is told for so long, where nothing says that it is over.
const TOLD_FOR: Duration = Duration::from_secs(30);

/// The topic of a subscription whose own is gone
/// (<https://cloud.google.com/pubsub/docs/reference/rest/v1/projects.subscriptions>).
const DELETED: &str = "_deleted-topic_";

/// A topic and its subscription.
pub struct PubSub {
    topic: String,
    subscription: String,
    credentials: credentials::Credentials,
    answers: Answers,
    publisher: OnceCell<Publisher>,
    admins: OnceCell<(TopicAdmin, SubscriptionAdmin)>,
    state: Mutex<State>,
}

/// What is known of it.
#[derive(Default)]
struct State {
    /// When topic and subscription were there.
    found_at: Option<Instant>,
    /// What went wrong last, and when, for those who publish and those who pull.
    publishing: Option<(Instant, String)>,
    pulling: Option<(Instant, String)>,
}

impl PubSub {
    /// What is configured; nothing is asked yet.
    ///
    /// # Errors
    /// The credentials can't be used.
    pub fn new(config: &Config) -> Result<Self, CredentialsError> {
        let endpoint = config.queue.endpoint.clone().unwrap_or_else(|| ENDPOINT.to_owned());
        let shown = match is_emulator(&endpoint) {
            true => None,
            false => Some(Credentials::find(&config.google)?),
        };
        let credentials = match &shown {
            Some(shown) => shown.tokens().into(),
            None => anonymous::Builder::new().build(),
        };
        let project = config.google.project.clone().unwrap_or_default();
        Ok(Self {
            topic: format!("projects/{project}/topics/{}", config.queue.topic),
            subscription: format!("projects/{project}/subscriptions/{}", config.queue.subscription),
            answers: Answers { project, endpoint, credentials: shown },
            credentials,
            publisher: OnceCell::new(),
            admins: OnceCell::new(),
            state: Mutex::default(),
        })
    }

    /// The subscription's full name.
    #[must_use]
    pub fn subscription(&self) -> &str {
        &self.subscription
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What stands in the way, if anything: of publishing and pulling, or that topic and
    /// subscription are not there and can't be made.
    ///
    /// # Errors
    /// One sentence.
    pub async fn check(&self) -> Result<(), String> {
        let is_recent = |at: &Instant| at.elapsed() < LOOK_EVERY;
        if !self.state().found_at.as_ref().is_some_and(is_recent) {
            self.look().await?;
        }
        let state = self.state();
        let told = [&state.publishing, &state.pulling].into_iter().flatten();
        let mut told = told.filter(|(at, _)| at.elapsed() < TOLD_FOR);
        told.next().map_or(Ok(()), |(_, error)| Err(error.clone()))
    }

    /// Something that was pulled, or was to be, could not be taken.
    pub(super) fn pulling_fails(&self, error: String) {
        self.state().pulling = Some((Instant::now(), error));
    }

    /// Whether nothing is known against pulling.
    pub(super) fn is_pulled(&self) -> bool {
        self.state().pulling.is_none()
    }

    /// Something was pulled and could be taken.
    pub(super) fn pulling_works(&self) {
        self.state().pulling = None;
    }

    /// Whether topic and subscription are there; makes them if not.
    ///
    /// # Errors
    /// One sentence.
    pub async fn look(&self) -> Result<(), String> {
        let looked = self.patiently(self.find(true)).await;
        self.state().found_at = looked.is_ok().then(Instant::now);
        looked
    }

    /// Whether topic and subscription could be used, or made; makes nothing.
    ///
    /// # Errors
    /// One sentence.
    pub async fn could_be_used(&self) -> Result<(), String> {
        self.patiently(self.find(false)).await
    }

    async fn patiently(
        &self,
        looking: impl Future<Output = Result<(), String>>,
    ) -> Result<(), String> {
        let slow = || Err(self.answers.silent("it is too slow"));
        tokio::time::timeout(PATIENCE, looking).await.unwrap_or_else(|_| slow())
    }

    /// The subscription first: where that is one of another topic, or of one that was deleted, to
    /// make the topic would give events a place where nobody pulls them.
    async fn find(&self, makes: bool) -> Result<(), String> {
        let (topics, subscriptions) = self.admins.get_or_try_init(|| self.connect()).await?;
        let look = subscriptions.get_subscription().set_subscription(&self.subscription);
        let is_there = match look.with_retry_policy(NeverRetry).send().await {
            Ok(found) => self.fits(&found).map(|()| true)?,
            Err(error) if is_missing(&error) => false,
            Err(error) => return Err(self.answers.sentence(&self.subscription, &error)),
        };
        let look = topics.get_topic().set_topic(&self.topic).with_retry_policy(NeverRetry);
        match look.send().await {
            Err(error) if is_missing(&error) => {
                if !makes {
                    return Ok(());
                }
                let make = topics.create_topic().set_name(&self.topic);
                self.made(make.with_retry_policy(NeverRetry).send().await, &self.topic)?;
            }
            other => drop(other.map_err(|error| self.answers.sentence(&self.topic, &error))?),
        }
        if is_there || !makes {
            return Ok(());
        }
        let make = subscriptions.create_subscription().with_request(self.wanted());
        let made = make.with_retry_policy(NeverRetry).send().await;
        self.made(made, &self.subscription)
    }

    /// The subscription that is made. It outlives weeks in which nobody pulls, and delivers
    /// nothing again that was acknowledged: without exactly-once delivery all that was published
    /// under a key behind a message comes again with it
    /// (<https://cloud.google.com/pubsub/docs/ordering>).
    fn wanted(&self) -> Subscription {
        let mut wanted = Subscription::new()
            .set_name(&self.subscription)
            .set_topic(&self.topic)
            .set_enable_message_ordering(true)
            .set_enable_exactly_once_delivery(true)
            .set_ack_deadline_seconds(LEASE.as_secs() as i32)
            .set_expiration_policy(ExpirationPolicy::new());
        // The emulator knows a week at most, which is what it does unasked.
        if !is_emulator(&self.answers.endpoint) {
            wanted.message_retention_duration = RETENTION.try_into().ok();
        }
        wanted
    }

    /// Whether events can be pulled from one that was there: each of them, and in order.
    fn fits(&self, found: &Subscription) -> Result<(), String> {
        let name = &self.subscription;
        let other = "name another subscription, which is made as it has to be";
        if !found.enable_message_ordering {
            return Err(format!(
                "{name} has no message ordering, and a user's events would be stored in any \
                 order: {other}"
            ));
        }
        if found.topic == DELETED {
            return Err(format!(
                "{name} is one of a topic that was deleted, and gets nothing any more: delete it, \
                 and it is made again"
            ));
        }
        if found.topic != self.topic {
            return Err(format!("{name} is one of {}, and not of {}", found.topic, self.topic));
        }
        if !found.filter.is_empty() {
            return Err(format!(
                "{name} has a filter, and what it leaves out would be lost: {other}"
            ));
        }
        if found.push_config.as_ref().is_some_and(|push| !push.push_endpoint.is_empty()) {
            return Err(format!("{name} pushes, and nothing can be pulled from it: {other}"));
        }
        Ok(())
    }

    /// Somebody else may have made it at the same time.
    fn made<T>(&self, made: Result<T, Error>, what: &str) -> Result<(), String> {
        match made {
            Ok(_) => {
                tracing::info!(what, "made");
                Ok(())
            }
            Err(error) if code(&error) == Some(Code::AlreadyExists) => Ok(()),
            Err(error) => Err(self.answers.sentence(what, &error)),
        }
    }

    async fn connect(&self) -> Result<(TopicAdmin, SubscriptionAdmin), String> {
        let unusable = |error: &dyn std::fmt::Display| self.answers.silent(&error.to_string());
        let topics = TopicAdmin::builder()
            .with_endpoint(&self.answers.endpoint)
            .with_credentials(self.credentials.clone());
        let subscriptions = SubscriptionAdmin::builder()
            .with_endpoint(&self.answers.endpoint)
            .with_credentials(self.credentials.clone());
        let topics = topics.build().await.map_err(|error| unusable(&error))?;
        Ok((topics, subscriptions.build().await.map_err(|error| unusable(&error))?))
    }

    /// Where topic and subscription were there when they were looked at last: nothing is published
    /// into a topic whose subscription is not.
    async fn publisher(&self) -> Result<&Publisher, String> {
        if self.state().found_at.is_none() {
            self.look().await?;
        }
        let make = || async {
            let publisher = Publisher::builder(&self.topic)
                .with_endpoint(&self.answers.endpoint)
                .with_credentials(self.credentials.clone())
                .set_byte_threshold(REQUEST.0)
                .set_message_count_threshold(REQUEST.1)
                .with_retry_policy(Aip194Strict.with_time_limit(PATIENCE));
            publisher.build().await.map_err(|error| self.answers.silent(&error.to_string()))
        };
        self.publisher.get_or_try_init(make).await
    }

    /// A client that pulls.
    pub(super) async fn subscriber(&self) -> Result<Subscriber, String> {
        let subscriber = Subscriber::builder()
            .with_endpoint(&self.answers.endpoint)
            .with_credentials(self.credentials.clone());
        subscriber.build().await.map_err(|error| self.answers.silent(&error.to_string()))
    }

    async fn send(&self, messages: &[Message]) -> Vec<Result<(), String>> {
        let publisher = match self.publisher().await {
            Ok(publisher) => publisher,
            Err(error) => {
                self.state().publishing = Some((Instant::now(), error.clone()));
                return messages.iter().map(|_| Err(error.clone())).collect();
            }
        };
        let on_their_way: Vec<_> =
            messages.iter().map(|message| publisher.publish(wire(message))).collect();
        publisher.flush().await;
        let mut answers = Vec::with_capacity(messages.len());
        for (message, answer) in messages.iter().zip(on_their_way) {
            answers.push(answer.await.map(drop).map_err(|error| {
                // What follows under the key was refused with it; the next call begins with this.
                publisher.resume_publish(message.ordering_key());
                match error {
                    PublishError::Rpc(error) => {
                        if is_missing(&error) {
                            self.state().found_at = None;
                        }
                        self.answers.sentence(&self.topic, &error)
                    }
                    other => other.to_string(),
                }
            }));
        }
        let failed = answers.iter().find_map(|answer: &Result<(), String>| answer.clone().err());
        self.state().publishing = failed.map(|error| (Instant::now(), error));
        answers
    }

    /// What was answered to those who pull.
    pub(super) fn sentence(&self, error: &Error) -> String {
        self.answers.sentence(&self.subscription, error)
    }
}

fn wire(message: &Message) -> Wire {
    Wire::new()
        .set_data(message.records.bytes().to_vec())
        .set_attributes(message.attributes())
        .set_ordering_key(message.ordering_key())
}

impl Topic for PubSub {
    fn publish<'a>(&'a self, messages: &'a [Message]) -> Published<'a> {
        Box::pin(self.send(messages))
    }
}

/// Where an instance that only collects has its events go: it makes no batches.
pub struct TopicAsStore(pub Arc<PubSub>);

impl EventStore for TopicAsStore {
    fn name(&self) -> &str {
        "pubsub"
    }

    fn object(&self, batch: &Batch) -> String {
        batch.id.to_string()
    }

    async fn put(&self, _batch: &Arc<Batch>) -> Result<Stored, StoreError> {
        let message = "an instance that collects stores nothing".to_owned();
        Err(StoreError::Unavailable { message, after: None })
    }

    /// Whether another store has it is unknown here, and to publish it would be to store it twice.
    async fn find(&self, plan: &Plan) -> Result<Option<Stored>, StoreError> {
        let message = format!(
            "{} was planned here for another store and is unfinished: start once without \
             --role collect, as it was then, and let `eventkit flush` return",
            plan.object
        );
        Err(StoreError::Unavailable { message, after: None })
    }

    async fn check(&self) -> Result<(), StoreError> {
        let checked = self.0.check().await;
        checked.map_err(|message| StoreError::Unavailable { message, after: None })
    }
}
