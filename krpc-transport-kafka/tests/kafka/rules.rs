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

/// Does all that a client ever does. `reads_letters` as long as it may.
async fn call(endpoint: &KafkaEndpoint, name: &str, reads_letters: bool) -> Result<(), Told> {
    let driver = Arc::new(Driver::default());
    let client = endpoint.client(driver.clone())?;
    let done = call_with(&driver, &*client, name, reads_letters).await;
    client.close().await;
    done
}

async fn call_with(
    driver: &Driver,
    client: &dyn ClientTransport,
    name: &str,
    reads_letters: bool,
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
    match reads_letters {
        true => driver.until("a letter", |seen| seen.texts().contains(&"dead".to_owned())).await,
        false => logged(&format!("not authorized to read krpc.{name}.dead")).await,
    }
    Ok(())
}

/// Does all that a server ever does.
async fn answer(endpoint: &KafkaEndpoint, name: &str) -> Result<(), Told> {
    let driver = Arc::new(Driver::default());
    let server = endpoint.server(driver.clone())?;
    let done = answer_with(&driver, &*server, name).await;
    server.close().await;
    done
}

async fn answer_with(
    driver: &Driver,
    server: &dyn ServerTransport,
    name: &str,
) -> Result<(), Told> {
    server.open(0, name).await?;
    server.join().await?;
    driver.until("owns", |seen| seen.owned.len() == 4).await;
    for topic in LAZY {
        server.open_topic(0, topic).await?;
    }
    server.follow(0, Topic::Cancels, 0, 0).await?;
    for (topic, token) in [(Topic::Replies, 1), (Topic::Results, 2), (Topic::Dead, 3)] {
        write(driver, server, topic, token).await?;
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
    if is_client(rules) {
        let reads_letters = missing.is_none_or(|rule| !is_dead_read(rule));
        call(&endpoint(Door::SaslTls, as_user("caller"))?, name, reads_letters).await
    } else {
        answer(&endpoint(Door::SaslTls, as_user("answerer"))?, name).await
    }
}

/// Whoever may write letters sees the topic: only reading it shows that he may not.
fn is_dead_read(rule: &Rule) -> bool {
    let is_dead = matches!(&rule.resource, Resource::Topic(name) if name.ends_with(".dead"));
    is_dead && rule.operation == Operation::Read && rule.principal == "User:caller"
}

fn rules_of(name: &str) -> [Rules; 2] {
    let config = config();
    [acl::client(&config, name, "caller"), acl::server(&config, name, "answerer")]
        .map(|rules| rules.tickets().dead_letters())
}

/// Makes the topics of services, as the super user, in one request.
async fn make(names: &[String]) {
    let config = config();
    let bytes = (config.max_packet_bytes + 1024).to_string();
    let topics = [Topic::Calls, Topic::Replies].into_iter().chain(LAZY);
    let topics = topics.flat_map(|topic| names.iter().map(move |name| (name, topic)));
    let topics: Vec<_> = topics.map(|(name, it)| (config.topic(name, it), it)).collect();
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
    if is_dead_read(&missing) {
        // It was logged while the client was there.
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
                there.push(name.clone());
            }
            cases.push((rules, missing, name));
        }
    }
    make(&there).await;
    settle().await;
    assert_eq!(cases.len(), 33);
    while !cases.is_empty() {
        let mut some = tokio::task::JoinSet::new();
        for (rules, missing, name) in cases.drain(cases.len().saturating_sub(8)..) {
            some.spawn(is_needed(rules, missing, name));
        }
        some.join_all().await;
    }
}
