//! Rules of who may do what, from command lines of Kafka's own tool: one CreateAcls or DeleteAcls
//! request, version 1, written by hand. The tool itself would start a JVM for each.
//!
//! ```text
//! request  i32 length | i16 key | i16 version 1 | i32 correlation | i16 -1 (no client id)
//!          | i32 1 (one rule) | rule
//! rule     i8 resource | string name | i8 3 (literal) | string principal | string host
//!          | i8 operation | i8 3 (allow)
//! response i32 length | i32 correlation | i32 throttle | i32 1 | result
//! result   CreateAcls: i16 error | string? message
//!          DeleteAcls: i16 error | string? message | i32 n | n x rule that matched
//! ```

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use crate::Error;
use crate::error::During;

const CREATE: i16 = 30;
const DELETE: i16 = 31;
const LITERAL: u8 = 3;
const ALLOW: u8 = 3;

/// How long the broker may take to answer.
const LIMIT: Duration = Duration::from_secs(10);

/// More than this is not the answer to one rule.
const MAX_RESPONSE_BYTES: u32 = 1 << 16;

const OPERATIONS: [(&str, u8); 10] = [
    ("Read", 3),
    ("Write", 4),
    ("Create", 5),
    ("Delete", 6),
    ("Alter", 7),
    ("Describe", 8),
    ("ClusterAction", 9),
    ("DescribeConfigs", 10),
    ("AlterConfigs", 11),
    ("IdempotentWrite", 12),
];

/// One rule, as a command line says it.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Rule {
    resource: u8,
    name: String,
    principal: String,
    operation: u8,
}

impl Rule {
    /// Reads `kafka-acls.sh --bootstrap-server … --add --allow-principal P --operation O` and one
    /// of `--topic T`, `--group G` and `--cluster`; single quotes as in a shell. Nothing else.
    pub(crate) fn parse(line: &str) -> Result<Self, Error> {
        let refused = |why: &str| Error::Invalid(format!("{why}: {line}"));
        let words = words(line).ok_or_else(|| refused("a quote is open"))?;
        let mut words = words.into_iter();
        if words.next().as_deref() != Some("kafka-acls.sh") {
            return Err(refused("the command is kafka-acls.sh"));
        }
        let (mut adds, mut principal, mut operation, mut on) = (false, None, None, None);
        while let Some(option) = words.next() {
            let mut value = || words.next().ok_or_else(|| refused("an option lacks its value"));
            match option.as_str() {
                "--add" => adds = true,
                "--bootstrap-server" => drop(value()?),
                "--allow-principal" => principal = Some(value()?),
                "--operation" => {
                    let name = value()?;
                    let known = OPERATIONS.iter().find(|(known, _)| *known == name);
                    let (_, code) = known.ok_or_else(|| refused("there is no such operation"))?;
                    operation = Some(*code);
                }
                "--topic" => on = Some((2, value()?)),
                "--group" => on = Some((3, value()?)),
                "--cluster" => on = Some((4, "kafka-cluster".to_owned())),
                _ => return Err(refused("there is no such option")),
            }
        }
        match (adds, principal, operation, on) {
            (true, Some(principal), Some(operation), Some((resource, name))) => {
                Ok(Self { resource, name, principal, operation })
            }
            _ => Err(refused("--add, a principal, an operation and a resource are needed")),
        }
    }

    /// Adds the rule at the broker at `address`, whose super user everybody is there.
    pub(crate) fn add(&self, address: &str) -> Result<(), Error> {
        self.send(address, CREATE).map(drop)
    }

    /// Takes the rule away again.
    pub(crate) fn take(&self, address: &str) -> Result<(), Error> {
        let matched = self.send(address, DELETE)?;
        match matched {
            [0, 0, 0, 1] => Ok(()),
            _ => Err(Error::Invalid(format!("there was no such rule, but {matched:?}: {self:?}"))),
        }
    }

    /// What follows a result's message, of a result that is no error.
    fn send(&self, address: &str, key: i16) -> Result<[u8; 4], Error> {
        let answer = ask(address, &self.request(key)).during(|| "could not send a rule".into())?;
        // Correlation, throttle, the count, no error; then the message, which may be null.
        let good = [&[0; 8][..], &[0, 0, 0, 1, 0, 0]].concat();
        let rest = answer.strip_prefix(&good[..]).and_then(|rest| {
            let (length, rest) = rest.split_first_chunk()?;
            rest.get(usize::try_from(i16::from_be_bytes(*length)).unwrap_or(0)..)
        });
        match rest {
            Some(rest) => Ok(rest.first_chunk().copied().unwrap_or_default()),
            None => Err(Error::Invalid(format!("the broker refused a rule: {answer:?}"))),
        }
    }

    fn request(&self, key: i16) -> Vec<u8> {
        let mut body = Vec::new();
        body.extend(key.to_be_bytes());
        body.extend([0, 1, 0, 0, 0, 0, 0xff, 0xff, 0, 0, 0, 1, self.resource]);
        let string = |body: &mut Vec<u8>, text: &str| {
            body.extend(u16::try_from(text.len()).unwrap_or(u16::MAX).to_be_bytes());
            body.extend(text.as_bytes());
        };
        string(&mut body, &self.name);
        body.push(LITERAL);
        string(&mut body, &self.principal);
        string(&mut body, "*");
        body.extend([self.operation, ALLOW]);
        body
    }
}

fn ask(address: &str, body: &[u8]) -> io::Result<Vec<u8>> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(LIMIT))?;
    stream.set_write_timeout(Some(LIMIT))?;
    stream.write_all(&u32::try_from(body.len()).map_err(io::Error::other)?.to_be_bytes())?;
    stream.write_all(body)?;
    let mut length = [0; 4];
    stream.read_exact(&mut length)?;
    let length = u32::from_be_bytes(length).min(MAX_RESPONSE_BYTES);
    let mut answer = vec![0; usize::try_from(length).map_err(io::Error::other)?];
    stream.read_exact(&mut answer)?;
    Ok(answer)
}

/// The words of a shell's line, without any expansion; `None` if a quote stays open.
fn words(line: &str) -> Option<Vec<String>> {
    let (mut words, mut word, mut quote) = (Vec::new(), None::<String>, None);
    for c in line.chars() {
        match (quote, c) {
            (Some(open), _) if c == open => quote = None,
            (None, '\'' | '"') => {
                quote = Some(c);
                word.get_or_insert_default();
            }
            (None, ' ') => words.extend(word.take()),
            _ => word.get_or_insert_default().push(c),
        }
    }
    words.extend(word);
    quote.is_none().then_some(words)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn a_command_line_is_read_and_nothing_beside_it() {
        let line = "kafka-acls.sh --bootstrap-server \"$B\" --add --allow-principal 'User:a b' \
                    --operation Write --topic 'x.y'";
        let rule = Rule::parse(line).unwrap();
        let expected = (2, "x.y", "User:a b", 4);
        let Rule { resource, name, principal, operation } = &rule;
        assert_eq!((*resource, name.as_str(), principal.as_str(), *operation), expected);
        for wrong in [
            line.replace("--add", "--remove"),
            line.replace("--add ", ""),
            line.replace("Write", "Scribble"),
            line.replace(" --topic 'x.y'", ""),
            line.replace("'x.y'", "'x.y"),
            line.replace("kafka-acls.sh", "kafka-configs.sh"),
        ] {
            assert!(matches!(Rule::parse(&wrong), Err(Error::Invalid(_))), "{wrong}");
        }
    }
}
