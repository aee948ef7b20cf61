//! What a client and a server of a service must be allowed to do, for brokers that allow nothing
//! else: the rules themselves, and the command lines of Kafka's own tool that make them.
//!
//! A right to read or write a topic includes the right to see it, and to write one topic includes
//! the producer id of exact sending (since Kafka 2.8): neither needs a rule of its own.

use std::fmt;

use krpc_core::transport::{Topic, TransportConfig};

use crate::topics::Role;

/// What may be done.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[non_exhaustive]
pub enum Operation {
    /// Read records; of a group, join it and commit.
    Read,
    /// Write records.
    Write,
    /// Create a topic.
    Create,
    /// Ask how far a group is.
    Describe,
    /// See a topic's settings. Without it a topic that others made is used unchecked, with a
    /// warning.
    DescribeConfigs,
}

/// What it may be done with, by its full name.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
#[non_exhaustive]
pub enum Resource {
    /// A topic.
    Topic(String),
    /// A consumer group.
    Group(String),
}

/// One right of one principal. Shown, it is the command line that gives it, with the brokers in
/// the variable `KRPC_ENDPOINT`.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Rule {
    /// Who may: `User:alice`.
    pub principal: String,
    /// What.
    pub operation: Operation,
    /// With what.
    pub resource: Resource,
}

/// The least that one side of a service must be allowed to do, beside nothing at all. Shown, it is
/// one command line for each [`Rule`].
#[derive(Clone, Debug)]
#[must_use = "rules say what to allow, and allow nothing by themselves"]
pub struct Rules {
    config: TransportConfig,
    role: Role,
    service: String,
    principal: String,
    tickets: bool,
    delays: bool,
    letters: bool,
}

/// What a client of a service needs, of these settings: prefix, group, and whether topics are
/// created. A principal without a kind is a `User:`.
pub fn client(config: &TransportConfig, service: &str, principal: &str) -> Rules {
    Rules::new(config, Role::Client, service, principal)
}

/// What a server of a service needs; as [`client`].
pub fn server(config: &TransportConfig, service: &str, principal: &str) -> Rules {
    Rules::new(config, Role::Server, service, principal)
}

impl Rules {
    fn new(config: &TransportConfig, role: Role, service: &str, principal: &str) -> Self {
        let principal = match principal.contains(':') {
            true => principal.to_owned(),
            false => format!("User:{principal}"),
        };
        let (config, service) = (config.clone(), service.to_owned());
        Self { config, role, service, principal, tickets: false, delays: false, letters: false }
    }

    /// Calls are also enqueued, with a ticket for each.
    pub fn tickets(mut self) -> Self {
        self.tickets = true;
        self
    }

    /// Calls are also delayed. A server then writes calls too: those that are due.
    pub fn delays(mut self) -> Self {
        self.delays = true;
        self
    }

    /// A client also lists dead letters, sends them once more and drops them. A server may write
    /// them in any case: each call can become one.
    pub fn dead_letters(mut self) -> Self {
        self.letters = true;
        self
    }

    /// The rules, one for each right.
    pub fn list(&self) -> Vec<Rule> {
        let mut rules = Vec::new();
        let mut allow = |operation, resource: Resource| {
            rules.push(Rule { principal: self.principal.clone(), operation, resource });
        };
        for topic in self.topics() {
            let name = self.config.topic(&self.service, topic);
            let creates = self.config.create_topics.then_some(Operation::Create);
            let others = creates.into_iter().chain([Operation::DescribeConfigs]);
            for operation in self.operations(topic).iter().copied().chain(others) {
                allow(operation, Resource::Topic(name.clone()));
            }
        }
        let group = Resource::Group(self.config.group(&self.service));
        match self.role {
            Role::Server => allow(Operation::Read, group),
            // The state of an enqueued call is seen in what its servers have committed.
            Role::Client if self.tickets => allow(Operation::Describe, group),
            Role::Client => {}
        }
        rules
    }

    /// What this side does with a topic's records.
    fn operations(&self, topic: Topic) -> &'static [Operation] {
        match (self.role, topic) {
            // Whoever handles letters also notes what became of them.
            (Role::Client, Topic::Dead) => &[Operation::Read, Operation::Write],
            // Whoever looks after delayed calls writes them anew until they are due, and then
            // among the calls.
            (Role::Server, Topic::Delayed) => &[Operation::Read, Operation::Write],
            (Role::Server, Topic::Calls) if self.delays => &[Operation::Read, Operation::Write],
            (role, topic) if role.right_to(topic) == "read" => &[Operation::Read],
            _ => &[Operation::Write],
        }
    }

    fn topics(&self) -> impl Iterator<Item = Topic> {
        let serves = self.role == Role::Server;
        [
            (Topic::Calls, true),
            (Topic::Replies, true),
            (Topic::Results, self.tickets),
            // A delayed call whose future is dropped is cancelled as one with a ticket is.
            (Topic::Cancels, self.tickets || self.delays),
            (Topic::Delayed, self.delays && serves),
            (Topic::Dead, self.letters || serves),
        ]
        .into_iter()
        .filter_map(|(topic, used)| used.then_some(topic))
    }
}

impl fmt::Display for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // As Kafka's tool wants them.
        fmt::Debug::fmt(self, f)
    }
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (kind, name) = match &self.resource {
            Resource::Topic(name) => ("--topic", name),
            Resource::Group(name) => ("--group", name),
        };
        write!(
            f,
            "kafka-acls.sh --bootstrap-server \"$KRPC_ENDPOINT\" --add --allow-principal {} \
             --operation {} {kind} {}",
            quoted(&self.principal),
            self.operation,
            quoted(name)
        )
    }
}

impl fmt::Display for Rules {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.list().iter().try_for_each(|rule| writeln!(f, "{rule}"))
    }
}

/// One word for a shell.
fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config() -> TransportConfig {
        let prefix = "dev".to_owned();
        TransportConfig { prefix, create_topics: false, ..TransportConfig::default() }
    }

    #[test]
    fn the_least_that_a_client_needs() {
        let rules = client(&config(), "acme.Sum", "web");
        let begin = "kafka-acls.sh --bootstrap-server \"$KRPC_ENDPOINT\" --add \
                     --allow-principal 'User:web' --operation ";
        let expected = [
            "Write --topic 'dev.krpc.acme.Sum.calls'",
            "DescribeConfigs --topic 'dev.krpc.acme.Sum.calls'",
            "Read --topic 'dev.krpc.acme.Sum.replies'",
            "DescribeConfigs --topic 'dev.krpc.acme.Sum.replies'",
        ];
        let expected = expected.map(|end| format!("{begin}{end}\n")).concat();
        assert_eq!(rules.to_string(), expected);
        let group = Resource::Group("dev.krpc.acme.Sum".to_owned());
        let has = |rules: &Rules, operation| {
            rules.list().iter().any(|it| it.resource == group && it.operation == operation)
        };
        assert!(has(&rules.tickets(), Operation::Describe));
        assert!(has(&server(&config(), "acme.Sum", "Group:x"), Operation::Read));
    }

    #[test]
    fn what_is_created_may_be_created() {
        let config = TransportConfig { create_topics: true, ..config() };
        for rules in [client(&config, "a", "b"), server(&config, "a", "b")] {
            for rules in [rules.clone(), rules.clone().tickets(), rules.delays().dead_letters()] {
                let list = rules.list();
                for rule in &list {
                    let Resource::Topic(_) = &rule.resource else { continue };
                    let create = Rule { operation: Operation::Create, ..rule.clone() };
                    assert_eq!(list.iter().filter(|it| **it == create).count(), 1, "{rule}");
                }
            }
        }
    }

    #[test]
    fn what_delays_need_beside_the_rest() {
        let more = |rules: Rules| {
            let without = rules.list();
            let with = rules.delays().list().into_iter().filter(|it| !without.contains(it));
            let of = |rule: Rule| match rule.resource {
                Resource::Topic(name) => {
                    format!("{} {}", rule.operation, name.trim_start_matches("dev.krpc.a."))
                }
                Resource::Group(name) => panic!("no right to group {name}"),
            };
            with.map(of).collect::<Vec<_>>()
        };
        let cancelled = ["Write cancels", "DescribeConfigs cancels"];
        assert_eq!(more(client(&config(), "a", "b")), cancelled);
        assert_eq!(more(client(&config(), "a", "b").tickets()), [""; 0]);
        let held = ["Read delayed", "Write delayed", "DescribeConfigs delayed"];
        let cancels = ["Read cancels", "DescribeConfigs cancels"];
        let due = ["Write calls"];
        let all = [&due[..], &cancels, &held].concat();
        assert_eq!(more(server(&config(), "a", "b")), all);
        assert_eq!(more(server(&config(), "a", "b").tickets()), [&due[..], &held].concat());
    }

    #[test]
    fn a_quote_stays_inside_of_its_word() {
        assert_eq!(quoted("it's"), r"'it'\''s'");
    }
}
