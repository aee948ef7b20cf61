//! The rules that kRPC prints are exactly those that are needed: all of them together are enough,
//! and without each single one it is told which is missing.

use std::{
    io,
    sync::{Arc, OnceLock},
    time::{Duration, Instant},
};

use krpc_core::{
    error::SetupError,
    ids::PartitionId,
    status::{Code, Status},
    transport::{ClientTransport, CommitPoint, Endpoint, Producer, ServerTransport, Target, Topic},
};
use krpc_testkit::Door;
use krpc_transport_kafka::{
    KafkaEndpoint,
    acl::{self, Operation, Resource, Rule, Rules},
};
use parking_lot::Mutex;
use rdkafka::{
    ClientConfig,
    admin::{AdminClient, AdminOptions, NewTopic, TopicReplication},
    client::DefaultClientContext,
};

use crate::{
    secure::{as_user, endpoint, kafka},
    support::{Driver, PATIENCE, config, service},
};

const LAZY: [Topic; 3] = [Topic::Results, Topic::Cancels, Topic::Dead];

/// Why something did not go on.
#[derive(Debug)]
enum Told {
    Setup(SetupError),
    Status(Status),
}

impl From<SetupError> for Told {
    fn from(error: SetupError) -> Self {
        Self::Setup(error)
    }
}

impl From<Status> for Told {
    fn from(status: Status) -> Self {
        Self::Status(status)
    }
}

/// What was logged as a warning, by anybody.
fn log() -> &'static Mutex<Vec<u8>> {
    struct Log;
    impl io::Write for Log {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            TEXT.lock().extend(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    static TEXT: Mutex<Vec<u8>> = Mutex::new(Vec::new());
    static BEGUN: OnceLock<()> = OnceLock::new();
    BEGUN.get_or_init(|| {
        let log = tracing_subscriber::fmt().with_ansi(false).with_writer(|| Log);
        log.with_max_level(tracing_subscriber::filter::LevelFilter::WARN).init();
    });
    &TEXT
}

async fn logged(text: &str) {
    let begin = Instant::now();
    while !String::from_utf8_lossy(&log().lock()).contains(text) {
        assert!(begin.elapsed() < PATIENCE, "{text} was not logged");
        tokio::task::yield_now().await;
    }
}

/// Sends one record and waits for its fate.
async fn write(
    driver: &Driver,
    producer: &dyn Producer,
    topic: Topic,
    token: u64,
) -> Result<(), Told> {
    let target = Target { service: 0, topic, partition: 0, exact: false };
    producer.send(target, topic.suffix().as_bytes(), token).unwrap();
    driver.until("reported", |seen| seen.reported as u64 == token).await;
    let failed = driver.seen.lock().failed.pop();
    failed.map_or(Ok(()), |(_, status, _)| Err(status.into()))
}

/// Waits for what was written to the topic, or else to be told that `unseen` is missing.
async fn read(driver: &Driver, name: &str, topic: Topic, unseen: Option<&Rule>) {
    let full = config().topic(name, topic);
    match unseen.is_some_and(|rule| rule.resource == Resource::Topic(full.clone())) {
        true => logged(&format!("not authorized to read {full}")).await,
        false => {
            let text = topic.suffix().to_owned();
            driver.until("read", |seen| seen.texts().contains(&text)).await;
        }
    }
}

/// Does all that a client ever does.
async fn call(endpoint: &KafkaEndpoint, name: &str, unseen: Option<&Rule>) -> Result<(), Told> {
    let driver = Arc::new(Driver::default());
    let client = endpoint.client(driver.clone())?;
    let done = call_with(&driver, &*client, name, unseen).await;
    client.close().await;
    done
}

async fn call_with(
    driver: &Driver,
    client: &dyn ClientTransport,
    name: &str,
    unseen: Option<&Rule>,
) -> Result<(), Told> {
    client.open(0, name, 0).await?;
    write(driver, client, Topic::Calls, 1).await?;
    for topic in LAZY {
        client.open_topic(0, topic).await?;
    }
    client.follow(0, Topic::Results, 0, 0).await?;
    write(driver, client, Topic::Cancels, 2).await?;
    client.committed(0, 0).await?;
    client.follow(0, Topic::Dead, 0, 0).await?;
    write(driver, client, Topic::Dead, 3).await?;
    read(driver, name, Topic::Dead, unseen).await;
    Ok(())
}

/// Does all that a server ever does.
async fn answer(endpoint: &KafkaEndpoint, name: &str, unseen: Option<&Rule>) -> Result<(), Told> {
    let driver = Arc::new(Driver::default());
    let server = endpoint.server(driver.clone())?;
    let done = answer_with(&driver, &*server, name, unseen).await;
    server.close().await;
    done
}

async fn answer_with(
    driver: &Driver,
    server: &dyn ServerTransport,
    name: &str,
    unseen: Option<&Rule>,
) -> Result<(), Told> {
    server.open(0, name).await?;
    server.join().await?;
    driver.until("owns", |seen| seen.owned.len() == 4).await;
    server.has_topic(0, Topic::Delayed).await?;
    for topic in LAZY.into_iter().chain([Topic::Delayed]) {
        server.open_topic(0, topic).await?;
    }
    server.follow(0, Topic::Cancels, 0, 0).await?;
    server.follow(0, Topic::Delayed, 0, 0).await?;
    let written = [Topic::Replies, Topic::Results, Topic::Dead, Topic::Delayed, Topic::Calls];
    for (topic, token) in written.into_iter().zip(1..) {
        write(driver, server, topic, token).await?;
    }
    for topic in [Topic::Delayed, Topic::Calls] {
        read(driver, name, topic, unseen).await;
    }
    if unseen.is_some() {
        // Who may not read calls may not commit them either.
        return Ok(());
    }
    let partition = PartitionId { service: 0, partition: 0 };
    let point = CommitPoint { partition, offset: 0, metadata: String::new() };
    let committed = server.commit(vec![point]).await;
    committed.into_iter().for_each(|one| one.unwrap());
    Ok(())
}

fn is_client(rules: &Rules) -> bool {
    rules.list().iter().any(|rule| rule.principal == "User:caller")
}

async fn work(rules: &Rules, name: &str, missing: Option<&Rule>) -> Result<(), Told> {
    let unseen = missing.filter(|rule| is_unseen_read(rule));
    if is_client(rules) {
        call(&endpoint(Door::SaslTls, as_user("caller"))?, name, unseen).await
    } else {
        answer(&endpoint(Door::SaslTls, as_user("answerer"))?, name, unseen).await
    }
}

/// Whoever may write to a topic sees it: only reading it shows that he may not.
fn is_unseen_read(rule: &Rule) -> bool {
    let Resource::Topic(name) = &rule.resource else { return false };
    let written: &[_] = match rule.principal.as_str() {
        "User:caller" => &[".dead"],
        _ => &[".delayed", ".calls"],
    };
    rule.operation == Operation::Read && written.iter().any(|suffix| name.ends_with(suffix))
}

fn rules_of(name: &str) -> [Rules; 2] {
    let config = config();
    [acl::client(&config, name, "caller"), acl::server(&config, name, "answerer")]
        .map(|rules| rules.tickets().delays().dead_letters())
}

/// The topics that a client uses, or a server.
fn topics(index: usize) -> impl Iterator<Item = Topic> {
    let held = (index == 1).then_some(Topic::Delayed);
    [Topic::Calls, Topic::Replies].into_iter().chain(LAZY).chain(held)
}

/// Makes topics, as the super user, in one request.
async fn make(topics: &[(String, Topic)]) {
    let config = config();
    let bytes = (config.max_packet_bytes + 1024).to_string();
    let new: Vec<_> = topics
        .iter()
        .map(|(name, topic)| {
            let partitions = i32::try_from(config.partitions(*topic)).unwrap();
            NewTopic::new(name, partitions, TopicReplication::Fixed(1))
                .set("max.message.bytes", &bytes)
        })
        .collect();
    let admin = ClientConfig::new().set("bootstrap.servers", kafka().bootstrap()).clone();
    let admin: AdminClient<DefaultClientContext> = admin.create().unwrap();
    let options = AdminOptions::new().operation_timeout(Some(PATIENCE));
    for made in admin.create_topics(&new, &options).await.unwrap() {
        made.unwrap();
    }
}

/// Waits until all rules that were made before now hold.
async fn settle() {
    let name = service("settled");
    let [rules, _] = rules_of(&name);
    kafka().add_rules(&rules.to_string()).unwrap();
    let begin = Instant::now();
    while let Err(told) = work(&rules, &name, None).await {
        assert!(begin.elapsed() < PATIENCE, "{told:?}");
    }
}

#[tokio::test]
async fn the_printed_rules_are_enough() {
    // By either side alone: whoever comes first makes the topics.
    for index in 0..2 {
        let name = service("enough");
        let rules = &rules_of(&name)[index];
        kafka().add_rules(&rules.to_string()).unwrap();
        settle().await;
        work(rules, &name, None).await.unwrap();
    }
}

/// The right and the resource that are missing, as told.
fn lacks(told: Told) -> (String, String) {
    match told {
        Told::Setup(SetupError::Unauthorized { action, resource, .. }) => (action, resource),
        // What fails later says it in words.
        Told::Status(status) if status.code() == Code::PermissionDenied => {
            let text = status.message().split("not authorized to ").nth(1).unwrap();
            let text = text.split(": ").next().unwrap();
            let (action, resource) = text.split_once(' ').unwrap();
            (action.to_owned(), resource.to_owned())
        }
        other => panic!("{other:?}"),
    }
}

async fn is_needed(rules: Rules, missing: Rule, name: String) {
    let (Resource::Topic(resource) | Resource::Group(resource)) = &missing.resource else {
        unreachable!("there is no other kind")
    };
    let done = tokio::time::timeout(Duration::from_secs(40), work(&rules, &name, Some(&missing)));
    let done = done.await.unwrap_or_else(|_| panic!("without {missing} nothing was told"));
    if missing.operation == Operation::DescribeConfigs {
        done.unwrap_or_else(|told| panic!("without {missing}: {told:?}"));
        return logged(&format!("not authorized to describe_configs {resource}")).await;
    }
    if is_unseen_read(&missing) {
        // It was logged while that side was there.
        return done.unwrap_or_else(|told| panic!("without {missing}: {told:?}"));
    }
    let action = match (&missing.resource, missing.operation) {
        (Resource::Group(_), Operation::Read) => "join".to_owned(),
        (_, operation) => operation.to_string().to_lowercase(),
    };
    let told = done.map_or_else(lacks, |()| panic!("{missing} is not needed"));
    let resource = match missing.operation {
        Operation::Describe => format!("group {resource}"),
        _ => resource.clone(),
    };
    assert_eq!(told, (action, resource), "without {missing}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn without_each_single_rule_it_is_told_which() {
    drop(log().lock());
    let (mut cases, mut there) = (Vec::new(), Vec::new());
    for index in 0..2 {
        for at in 0..rules_of("x")[index].list().len() {
            let name = service("needed");
            let [client, server] = rules_of(&name);
            let rules = if index == 0 { client } else { server };
            let missing = rules.list().swap_remove(at);
            let others = rules.to_string().replace(&format!("{missing}\n"), "");
            kafka().add_rules(&others).unwrap();
            if missing.operation != Operation::Create {
                there.extend(topics(index).map(|it| (config().topic(&name, it), it)));
            }
            cases.push((rules, missing, name));
        }
    }
    make(&there).await;
    settle().await;
    assert_eq!(cases.len(), 38);
    while !cases.is_empty() {
        let mut some = tokio::task::JoinSet::new();
        for (rules, missing, name) in cases.drain(cases.len().saturating_sub(8)..) {
            some.spawn(is_needed(rules, missing, name));
        }
        some.join_all().await;
    }
}
