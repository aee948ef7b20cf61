//! The option `retry(max = 5, backoff = "100ms..10s", then = drop)`.

use std::time::Duration;

use proc_macro2::TokenStream;
use syn::{Ident, LitInt};

use super::{
    duration::pauses,
    entry::{Entry, entries},
    unknown,
};
use crate::model::{Retry, Then};

/// What it can be told.
pub(super) const OPTIONS: &[&str] = &["max", "backoff", "then"];

/// Executions in all: more of them is a queue that never ends.
const MAX: u32 = 100;

/// What it says, as far as that could be understood, and every mistake in it.
pub(super) fn parse(entry: &Entry) -> (Retry, syn::Result<()>) {
    let mut retry = Retry {
        place: entry.key.span(),
        max: 1,
        first: Duration::from_millis(100),
        most: Duration::from_secs(10),
        then: Then::DeadLetter,
    };
    let outcome = entry.list("max = 5").and_then(|list| options(&mut retry, entry, list));
    (retry, outcome)
}

fn options(retry: &mut Retry, of: &Entry, list: TokenStream) -> syn::Result<()> {
    let mut bounded = false;
    let mut mistakes: Vec<syn::Error> = Vec::new();
    for entry in entries(list) {
        let taken = entry.and_then(|entry| {
            bounded |= entry.key == "max";
            option(retry, &entry)
        });
        mistakes.extend(taken.err());
    }
    if !bounded {
        mistakes.push(of.error("`retry` needs the number of executions in all: `retry(max = 5)`"));
    }
    let all = mistakes.into_iter().reduce(|mut all, next| {
        all.combine(next);
        all
    });
    all.map_or(Ok(()), Err)
}

fn option(retry: &mut Retry, entry: &Entry) -> syn::Result<()> {
    match entry.key.to_string().as_str() {
        "max" => retry.max = executions(entry)?,
        "backoff" => (retry.first, retry.most) = pauses(&entry.string("\"100ms..10s\"")?)?,
        "then" => retry.then = then(entry)?,
        other => return Err(entry.error(unknown("`retry`", other, OPTIONS))),
    }
    Ok(())
}

fn executions(entry: &Entry) -> syn::Result<u32> {
    let message = format!("`max` is the number of executions in all, from 1 to {MAX}: `max = 5`");
    let number: LitInt = entry.value(&message)?;
    let max = number.base10_parse().ok().filter(|max| (1..=MAX).contains(max));
    max.ok_or_else(|| syn::Error::new(number.span(), message))
}

fn then(entry: &Entry) -> syn::Result<Then> {
    let message = "`then` expects `dead_letter`, which keeps the call, or `drop`";
    let word: Ident = entry.value(message)?;
    match word.to_string().as_str() {
        "dead_letter" => Ok(Then::DeadLetter),
        "drop" => Ok(Then::Drop),
        _ => Err(syn::Error::new(word.span(), message)),
    }
}
