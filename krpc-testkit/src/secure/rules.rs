//! Rules of who may do what, from command lines of Kafka's own tool: a CreateAcls or DeleteAcls
//! request, version 1, written by hand. The tool itself would start a JVM for each.
//!
//! ```text
//! request  i32 length | i16 key | i16 version 1 | i32 correlation | i16 -1 (no client id)
//!          | i32 n | n x rule
//! rule     i8 resource | string name | i8 3 (literal) | string principal | string host
//!          | i8 operation | i8 3 (allow)
//! response i32 length | i32 correlation | i32 throttle | i32 n | n x result
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

/// More than this is not the answer to rules.
const MAX_RESPONSE_BYTES: u32 = 1 << 20;

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

    /// Takes the rule away again, at the broker at `address`.
    pub(crate) fn take(&self, address: &str) -> Result<(), Error> {
        let answer = send(address, DELETE, std::slice::from_ref(self))?;
        match results(&answer, 1) {
            Some([0, 0, 0, 1, ..]) => Ok(()),
            _ => Err(Error::Invalid(format!("there was no such rule: {self:?}"))),
        }
    }

    fn write(&self, body: &mut Vec<u8>) {
        let string = |body: &mut Vec<u8>, text: &str| {
            body.extend(u16::try_from(text.len()).unwrap_or(u16::MAX).to_be_bytes());
            body.extend(text.as_bytes());
        };
        body.push(self.resource);
        string(body, &self.name);
        body.push(LITERAL);
        string(body, &self.principal);
        string(body, "*");
        body.extend([self.operation, ALLOW]);
    }
}

/// Adds rules in one request at the broker at `address`, where everybody is the super user.
pub(crate) fn add(rules: &[Rule], address: &str) -> Result<(), Error> {
    let answer = send(address, CREATE, rules)?;
    match results(&answer, rules.len()) {
        Some([]) => Ok(()),
        _ => Err(Error::Invalid(format!("the broker refused rules: {answer:?}"))),
    }
}

fn send(address: &str, key: i16, rules: &[Rule]) -> Result<Vec<u8>, Error> {
    let mut body = Vec::new();
    body.extend(key.to_be_bytes());
    body.extend([0, 1, 0, 0, 0, 0, 0xff, 0xff]);
    body.extend(u32::try_from(rules.len()).unwrap_or(u32::MAX).to_be_bytes());
    rules.iter().for_each(|rule| rule.write(&mut body));
    ask(address, &body).during(|| "could not send rules".into())
}

/// What follows the results for so many rules, if none is an error.
fn results(answer: &[u8], count: usize) -> Option<&[u8]> {
    // Correlation and throttle are 0.
    let rest = answer.strip_prefix(&[0; 8])?;
    let (told, mut rest) = rest.split_first_chunk()?;
    if usize::try_from(u32::from_be_bytes(*told)) != Ok(count) {
        return None;
    }
    for _ in 0..count {
        // No error; then a message, which may be null.
        let (length, text) = rest.strip_prefix(&[0; 2])?.split_first_chunk()?;
        rest = text.get(usize::try_from(i16::from_be_bytes(*length)).unwrap_or(0)..)?;
    }
    Some(rest)
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

    #[test]
    fn results_are_read_to_their_end() {
        let two = [&[0; 8][..], &[0, 0, 0, 2], &[0, 0, 0xff, 0xff], &[0, 0, 0, 1, b'x']].concat();
        assert_eq!(results(&two, 2), Some(&[][..]));
        assert_eq!(results(&two, 1), None);
        for length in 0..two.len() {
            assert_eq!(results(&two[..length], 2), None, "{length}");
        }
        let refused = [&[0; 8][..], &[0, 0, 0, 1], &[0, 31, 0xff, 0xff]].concat();
        assert_eq!(results(&refused, 1), None);
    }
}
