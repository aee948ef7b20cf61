//! A service's topics: found, created, adopted, or refused with what would be enough.
//!
//! Whoever comes first creates them, client or server; all of this runs on blocking threads.

use std::{
    future::Future,
    sync::Arc,
    time::{Duration, Instant},
};

use krpc_core::{
    error::SetupError,
    transport::{Topic, Topology},
};
use rdkafka::{
    admin::{AdminClient, AdminOptions, NewTopic, TopicReplication},
    error::{KafkaError, KafkaResult},
    metadata::{Metadata, MetadataTopic},
    types::RDKafkaErrorCode,
};

use crate::{
    config::{RECORD_OVERHEAD, Settings},
    embedded::MockHost,
    events::{Reporter, is_unauthorized},
    producer::KafkaProducer,
    validate,
    wait::{Cancel, Signal, block_on},
};

mod ask;

/// The longest name of a topic that Kafka takes.
const MAX_NAME: usize = 249;

/// How long one request may take before the next look at deadline and cancel.
const SLICE: Duration = Duration::from_secs(1);

/// Between two looks at something that is about to change on the broker.
const PAUSE: Duration = Duration::from_millis(20);

/// Makes one service's topics usable within the connect timeout.
#[derive(Debug)]
pub(crate) struct Setup<'a> {
    /// The endpoint's settings.
    pub(crate) settings: &'a Settings,
    /// The endpoint as users write it.
    pub(crate) endpoint: &'a str,
    /// Asks the brokers, so that its connections are warm for the first send.
    pub(crate) producer: &'a KafkaProducer,
    /// The mock cluster of an `embedded:` endpoint, which has no admin requests.
    pub(crate) mock: Option<&'a MockHost>,
    /// Who wants the topics.
    pub(crate) role: Role,
    /// Ends the work when nobody waits for it.
    pub(crate) cancel: &'a Cancel,
    /// When it began.
    pub(crate) started: Instant,
}

/// Which side wants a service's topics.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Role {
    /// It calls.
    Client,
    /// It answers.
    Server,
}

impl Role {
    /// What this side does with a topic, and needs the right to.
    pub(crate) const fn right_to(self, topic: Topic) -> &'static str {
        match (self, topic) {
            (Self::Client, Topic::Calls | Topic::Cancels)
            | (Self::Server, Topic::Replies | Topic::Results | Topic::Dead) => "write",
            (Self::Client, Topic::Replies | Topic::Results | Topic::Dead)
            | (Self::Server, Topic::Calls | Topic::Cancels)
            // A server writes it too; a client has nothing to do with it.
            | (_, Topic::Delayed) => "read",
        }
    }
}

/// A topic as the brokers describe it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Found {
    /// How many partitions it has.
    pub(crate) partitions: u32,
    /// Every partition has a leader.
    pub(crate) ready: bool,
}

/// A topic that this service needs.
#[derive(Debug)]
pub(crate) struct Wanted {
    /// Which one.
    pub(crate) topic: Topic,
    /// Its name.
    pub(crate) name: String,
    /// How many partitions it gets, or at least has.
    pub(crate) partitions: u32,
    retention: Duration,
    /// What is there.
    pub(crate) found: Option<Found>,
    /// Whether it was created just now, and so has the right settings.
    pub(crate) created: bool,
}

impl Wanted {
    fn count(&self) -> u32 {
        self.found.map_or(0, |found| found.partitions)
    }
}

impl Setup<'_> {
    /// Finds, creates or refuses a service's two eager topics, as [`Self::prepare`] does.
    pub(crate) fn prepare_service(&self, service: &str) -> Result<Topology, SetupError> {
        let mut wanted =
            [self.wanted(service, Topic::Calls)?, self.wanted(service, Topic::Replies)?];
        self.prepare_all(&mut wanted)?;
        let [calls, replies] = wanted.map(|topic| topic.count());
        Ok(Topology { call_partitions: calls, reply_partitions: replies })
    }

    /// Finds, creates or refuses a topic; returns how many partitions it has, when each has a
    /// leader.
    pub(crate) fn prepare(&self, service: &str, topic: Topic) -> Result<u32, SetupError> {
        let mut wanted = [self.wanted(service, topic)?];
        self.prepare_all(&mut wanted)?;
        Ok(wanted[0].count())
    }

    /// Whether the topic exists.
    pub(crate) fn is_there(&self, service: &str, topic: Topic) -> Result<bool, SetupError> {
        let name = self.settings.config.topic(service, topic);
        self.find(&name, self.role.right_to(topic)).map(|found| found.is_some())
    }

    fn prepare_all(&self, wanted: &mut [Wanted]) -> Result<(), SetupError> {
        for topic in &mut *wanted {
            topic.found = self.find(&topic.name, self.role.right_to(topic.topic))?;
        }
        if wanted.iter().any(|topic| topic.found.is_none()) {
            self.create(wanted)?;
        }
        for topic in &mut *wanted {
            topic.found = Some(self.ready(topic)?);
        }
        self.check_partitions(wanted)?;
        self.check_configs(wanted)
    }

    fn wanted(&self, service: &str, topic: Topic) -> Result<Wanted, SetupError> {
        let config = &self.settings.config;
        let name = config.topic(service, topic);
        let bad = |reason: String| SetupError::InvalidService { name: service.to_owned(), reason };
        if service.is_empty() || !validate::is_name(service) {
            return Err(bad("letters, digits, '.', '_' and '-' are valid".to_owned()));
        }
        if name.len() > MAX_NAME {
            return Err(bad(format!("topic {name} is longer than {MAX_NAME} characters")));
        }
        let (partitions, retention) = (config.partitions(topic), config.retention(topic));
        Ok(Wanted { topic, name, partitions, retention, found: None, created: false })
    }

    /// The topic as the brokers know it; `None` if it does not exist. It is not shown to whoever
    /// lacks the right that it is wanted for.
    fn find(&self, name: &str, right: &str) -> Result<Option<Found>, SetupError> {
        loop {
            let left = self.left()?;
            let began = Instant::now();
            let cause = match self.metadata(name, left.min(SLICE)) {
                Ok(metadata) => match metadata.topics().iter().find(|topic| topic.name() == name) {
                    Some(topic) => match topic.error().map(RDKafkaErrorCode::from) {
                        None | Some(RDKafkaErrorCode::LeaderNotAvailable) => {
                            return Ok(Some(found(topic)));
                        }
                        Some(
                            RDKafkaErrorCode::UnknownTopicOrPartition
                            | RDKafkaErrorCode::UnknownTopic,
                        ) => return Ok(None),
                        Some(code) if is_unauthorized(code) => {
                            return Err(unauthorized(right, name, code));
                        }
                        Some(code) => code.to_string(),
                    },
                    None => return Ok(None),
                },
                Err(error) => error.to_string(),
            };
            self.retry("METADATA", &cause, began)?;
        }
    }

    fn metadata(&self, name: &str, timeout: Duration) -> KafkaResult<Metadata> {
        let native = self.producer.native().ok_or(KafkaError::Canceled)?;
        let client = rdkafka::producer::Producer::client(native.as_ref());
        let metadata = client.fetch_metadata(Some(name), timeout)?;
        self.producer.reporter().answered();
        Ok(metadata)
    }

    /// Creates what is missing, in one request.
    fn create(&self, wanted: &mut [Wanted]) -> Result<(), SetupError> {
        let missing = || wanted.iter().filter(|topic| topic.found.is_none());
        if let (false, Some(topic)) = (self.settings.config.create_topics, missing().next()) {
            return Err(SetupError::MissingTopic {
                topic: topic.name.clone(),
                reason: "creating topics is switched off (create_topics)".to_owned(),
            });
        }
        if let Some(mock) = self.mock {
            return missing().try_for_each(|topic| mock.create(&topic.name, topic.partitions));
        }
        let admin = self.admin()?;
        loop {
            let left = self.left()?;
            let began = Instant::now();
            match self.create_once(&admin, wanted, left)? {
                None => return Ok(()),
                Some(cause) => self.retry("CREATE", &cause, began)?,
            }
        }
    }

    /// One try; a cause means that another may succeed.
    fn create_once(
        &self,
        admin: &Admin,
        wanted: &mut [Wanted],
        left: Duration,
    ) -> Result<Option<String>, SetupError> {
        let config = &self.settings.config;
        let replication = config.replication.map_or(-1, i32::from);
        let bytes = (config.max_packet_bytes + RECORD_OVERHEAD).to_string();
        let missing: Vec<_> = wanted.iter().filter(|topic| topic.found.is_none()).collect();
        let retentions: Vec<_> =
            missing.iter().map(|topic| topic.retention.as_millis().to_string()).collect();
        let new: Vec<_> = missing
            .iter()
            .zip(&retentions)
            .map(|(topic, retention)| {
                let partitions = i32::try_from(topic.partitions).unwrap_or(i32::MAX);
                NewTopic::new(&topic.name, partitions, TopicReplication::Fixed(replication))
                    .set("message.timestamp.type", "LogAppendTime")
                    .set("retention.ms", retention)
                    .set("cleanup.policy", "delete")
                    .set("max.message.bytes", &bytes)
            })
            .collect();
        let timeout = left.min(SLICE * 5);
        let options =
            AdminOptions::new().request_timeout(Some(timeout)).operation_timeout(Some(timeout));
        let results = match self.block(admin.create_topics(&new, &options)) {
            Some(Ok(results)) => results,
            Some(Err(error)) => return admin_cause(error).map(Some),
            None => return Ok(Some("no answer to the request to create topics".to_owned())),
        };
        let mut again = None;
        for result in results {
            match result {
                Ok(name) => {
                    for topic in wanted.iter_mut().filter(|topic| topic.name == name) {
                        topic.created = true;
                    }
                }
                // Somebody else was faster: adopted, if it fits.
                Err((_, RDKafkaErrorCode::TopicAlreadyExists)) => (),
                Err((name, code)) => again = Some(self.not_created(name, code)?),
            }
        }
        Ok(again)
    }

    /// Why a topic was not created: an error, or the cause if another try may succeed.
    fn not_created(&self, name: String, code: RDKafkaErrorCode) -> Result<String, SetupError> {
        match code {
            code if is_unauthorized(code) => Err(unauthorized("create", &name, code)),
            RDKafkaErrorCode::InvalidReplicationFactor => {
                let given = self.settings.config.replication;
                let given = given.map_or("the broker's default".to_owned(), |n| n.to_string());
                let reason = format!("the cluster has too few brokers for topic {name}: {code}");
                Err(validate::invalid("replication", &given, &reason))
            }
            RDKafkaErrorCode::InvalidTopic
            | RDKafkaErrorCode::InvalidPartitions
            | RDKafkaErrorCode::InvalidConfig
            | RDKafkaErrorCode::PolicyViolation => {
                Err(SetupError::MissingTopic { topic: name, reason: code.to_string() })
            }
            code => Ok(format!("topic {name} could not be created: {code}")),
        }
    }

    /// Waits until the topic is known with a leader for each partition.
    fn ready(&self, topic: &Wanted) -> Result<Found, SetupError> {
        if let Some(found) = topic.found.filter(|found| found.ready) {
            return Ok(found);
        }
        loop {
            match self.find(&topic.name, self.role.right_to(topic.topic))? {
                Some(found) if found.ready => return Ok(found),
                _ => {
                    let cause = format!("topic {} has partitions without a leader", topic.name);
                    self.retry("LEADERS", &cause, Instant::now())?;
                    self.left()?;
                }
            }
        }
    }

    /// A client for admin requests.
    pub(crate) fn admin(&self) -> Result<Admin, SetupError> {
        let reporter = self.settings.reporter("admin");
        let client: AdminClient<_> = self.settings.create(&self.settings.admin(), reporter)?;
        // Nobody polls where librdkafka would ask for one.
        let given = self.settings.give_token(client.inner());
        let admin = Admin(Some(client));
        let endpoint = self.endpoint.to_owned();
        given.map_err(|cause| SetupError::Authentication { endpoint, cause })?;
        Ok(admin)
    }

    /// Waits for an admin request.
    pub(crate) fn block<T>(&self, future: impl Future<Output = T> + Send) -> Option<T> {
        // The request has its own timeout, after which librdkafka answers in the broker's stead.
        let stop = || self.cancel.is_cancelled() || self.producer.is_closed();
        block_on(Box::pin(future), &Arc::new(Signal::default()), None, stop)
    }

    /// What is left of the connect timeout.
    pub(crate) fn left(&self) -> Result<Duration, SetupError> {
        if self.cancel.is_cancelled() || self.producer.is_closed() {
            return Err(SetupError::Closed);
        }
        let config = &self.settings.config;
        let waited = self.started.elapsed();
        match config.connect_timeout.checked_sub(waited).filter(|left| !left.is_zero()) {
            Some(left) => Ok(left),
            None if config.keep_trying => Ok(SLICE),
            None => Err(SetupError::Unreachable {
                endpoint: self.endpoint.to_owned(),
                waited,
                cause: self.producer.reporter().cause().unwrap_or_else(|| "no answer".to_owned()),
            }),
        }
    }

    /// Notes why something is tried again, and keeps a busy broker from being asked too often.
    ///
    /// # Errors
    /// No further try would do better, and whoever waits does not want to wait for ever.
    pub(crate) fn retry(&self, kind: &str, cause: &str, began: Instant) -> Result<(), SetupError> {
        let reporter = self.producer.reporter();
        reporter.note(kind, cause);
        match reporter.fault() {
            Some(fault) if !self.settings.config.keep_trying => {
                Err(fault.into_error(self.endpoint, &self.settings.admin()))
            }
            _ => {
                self.cancel.pause(PAUSE.saturating_sub(began.elapsed()));
                Ok(())
            }
        }
    }
}

/// The admin client; its drop waits for its thread's next tick of 100 ms, so that is done aside.
pub(crate) struct Admin(Option<AdminClient<Reporter>>);

impl std::ops::Deref for Admin {
    type Target = AdminClient<Reporter>;

    fn deref(&self) -> &Self::Target {
        self.0.as_ref().expect("only the destructor takes it")
    }
}

impl Drop for Admin {
    fn drop(&mut self) {
        crate::aside(self.0.take());
    }
}

fn found(topic: &MetadataTopic) -> Found {
    let partitions = topic.partitions();
    Found {
        partitions: u32::try_from(partitions.len()).unwrap_or(u32::MAX),
        ready: !partitions.is_empty() && partitions.iter().all(|partition| partition.leader() >= 0),
    }
}

fn unauthorized(action: &str, resource: &str, code: RDKafkaErrorCode) -> SetupError {
    SetupError::Unauthorized {
        action: action.to_owned(),
        resource: resource.to_owned(),
        cause: code.to_string(),
    }
}

/// A failed admin request: an error, or the cause if another try may succeed.
fn admin_cause(error: KafkaError) -> Result<String, SetupError> {
    match error {
        KafkaError::AdminOp(code) if is_unauthorized(code) => {
            Err(unauthorized("create", "topics", code))
        }
        KafkaError::AdminOpCreation(reason) => Err(SetupError::Transport(reason)),
        other => Ok(other.to_string()),
    }
}
