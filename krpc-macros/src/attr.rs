//! Options: of `#[krpc::service(..)]`, and of `#[rpc(..)]` on its methods.

mod duration;
mod entry;
mod retry;

use std::time::Duration;

use proc_macro2::TokenStream;
use quote::ToTokens;
use syn::{Attribute, LitStr, Meta, Path, Token, ext::IdentExt};

use self::entry::{Entry, entries};
use crate::{model::Delivery, problems::Problems};

/// What a service can be told.
const SERVICE: &[&str] = &["name", "version", "crate"];

/// What a method can be told.
const METHOD: &[&str] =
    &["timeout", "idempotent", "name", "key", "one_way", "at_most_once", "retry", "retention"];

/// Options of a service, where they were given.
#[derive(Default)]
pub(crate) struct ServiceOptions {
    pub(crate) name: Option<LitStr>,
    pub(crate) version: Option<LitStr>,
    pub(crate) krpc: Option<Path>,
}

/// Options of a method, where they were given.
#[derive(Default)]
pub(crate) struct MethodOptions {
    pub(crate) name: Option<LitStr>,
    pub(crate) timeout: Option<Duration>,
    pub(crate) idempotent: bool,
    pub(crate) delivery: Delivery,
}

impl ServiceOptions {
    /// Of `#[krpc::service(tokens)]`.
    pub(crate) fn parse(tokens: TokenStream, problems: &mut Problems) -> Self {
        let mut options = Self::default();
        for entry in entries(tokens) {
            let taken = entry.and_then(|entry| options.take_entry(&entry));
            taken.unwrap_or_else(|error| problems.push(error));
        }
        options
    }

    fn take_entry(&mut self, entry: &Entry) -> syn::Result<()> {
        match entry.key.unraw().to_string().as_str() {
            "name" => self.name = Some(entry.string("\"acme.Sum\"")?),
            "version" => self.version = Some(entry.version()?),
            "crate" => self.krpc = Some(entry.path()?),
            other if METHOD.contains(&other) => {
                return Err(entry.error(format!(
                    "`{other}` is an option of a method: write `#[rpc({other} ..)]` above it"
                )));
            }
            other => return Err(entry.error(unknown("a service", other, SERVICE))),
        }
        Ok(())
    }
}

impl MethodOptions {
    /// Takes every `#[rpc(..)]` off `attrs`.
    pub(crate) fn take(attrs: &mut Vec<Attribute>, problems: &mut Problems) -> Self {
        let mut lists = TokenStream::new();
        for attr in attrs.extract_if(.., |attr| attr.path().is_ident("rpc")) {
            match attr.meta {
                Meta::List(list) => {
                    lists.extend(list.tokens);
                    lists.extend(<Token![,]>::default().into_token_stream());
                }
                Meta::Path(_) | Meta::NameValue(_) => problems
                    .at(&attr.meta, "`rpc` expects options in parentheses: `#[rpc(idempotent)]`"),
            }
        }
        let mut options = Self::default();
        for entry in entries(lists) {
            let taken = entry.and_then(|entry| options.take_entry(&entry));
            taken.unwrap_or_else(|error| problems.push(error));
        }
        options
    }

    fn take_entry(&mut self, entry: &Entry) -> syn::Result<()> {
        match entry.key.unraw().to_string().as_str() {
            "name" => self.name = Some(entry.string("\"add\"")?),
            "timeout" => self.timeout = Some(entry.duration("a timeout", "\"2s\"")?),
            "idempotent" => {
                entry.flag()?;
                self.idempotent = true;
            }
            "key" => self.delivery.key = Some(entry.expression()?),
            "one_way" => {
                entry.flag()?;
                self.delivery.one_way = Some(entry.key.span());
            }
            "at_most_once" => {
                entry.flag()?;
                self.delivery.at_most_once = Some(entry.key.span());
            }
            "retry" => {
                let (retry, outcome) = retry::parse(entry);
                self.delivery.retry = Some(retry);
                outcome?;
            }
            "retention" => {
                let retention = entry.duration("a retention", "\"24h\"")?;
                self.delivery.retention = Some((entry.key.span(), retention));
            }
            other if retry::OPTIONS.contains(&other) => {
                return Err(entry.error(format!(
                    "`{other}` is an option of `retry`: write `retry(max = .., {other} = ..)`"
                )));
            }
            other if SERVICE.contains(&other) => {
                return Err(entry.error(format!(
                    "`{other}` is an option of the service: write `#[krpc::service({other} = ..)]`"
                )));
            }
            other => return Err(entry.error(unknown("a method", other, METHOD))),
        }
        Ok(())
    }
}

/// `key` is not among `known`: names them, and the one that was probably meant.
fn unknown(of: &str, key: &str, known: &[&str]) -> String {
    let hint = meant(key, known.iter().copied());
    let list: Vec<_> = known.iter().map(|name| format!("`{name}`")).collect();
    format!("unknown option `{key}` of {of}: there are {}{hint}", list.join(", "))
}

/// The one of `known` that was probably meant by `given`, as the end of a message.
pub(crate) fn meant<'a>(given: &str, known: impl Iterator<Item = &'a str>) -> String {
    let nearest = known.map(|name| (distance(given, name), name)).min();
    let nearest = nearest.filter(|(distance, name)| *distance <= name.len() / 2);
    nearest.map_or(String::new(), |(_, name)| format!("; did you mean `{name}`?"))
}

/// How many letters must be added, taken away or changed to make `b` of `a`.
fn distance(a: &str, b: &str) -> usize {
    let mut row: Vec<usize> = (0..=b.chars().count()).collect();
    for (i, from) in a.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, to) in b.chars().enumerate() {
            let change = diagonal + usize::from(from != to);
            diagonal = row[j + 1];
            row[j + 1] = change.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.chars().count()]
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use quote::quote;
    use syn::parse_quote;

    use super::*;
    use crate::model::Then;

    fn service(tokens: TokenStream) -> (ServiceOptions, Vec<String>) {
        let mut problems = Problems::default();
        let options = ServiceOptions::parse(tokens, &mut problems);
        (options, problems.messages())
    }

    fn method(mut attrs: Vec<Attribute>) -> (MethodOptions, Vec<String>) {
        let mut problems = Problems::default();
        let options = MethodOptions::take(&mut attrs, &mut problems);
        assert!(attrs.iter().all(|attr| !attr.path().is_ident("rpc")));
        (options, problems.messages())
    }

    #[test]
    fn all_options_of_a_service() {
        let (options, problems) = service(quote!(name = "acme.Sum", version = "1.2", crate = k));
        assert!(problems.is_empty());
        assert_eq!(options.name.unwrap().value(), "acme.Sum");
        assert_eq!(options.version.unwrap().value(), "1.2");
        assert_eq!(crate::text::of(options.krpc.unwrap()), "::k");
    }

    #[test]
    fn the_crate_is_a_name_or_a_path() {
        for (given, meant) in [
            (quote!("k"), "::k"),
            (quote!(k), "::k"),
            (quote!(::k), "::k"),
            (quote!("a::b"), "::a::b"),
            (quote!(a::b), "::a::b"),
            (quote!(crate), "crate"),
            (quote!(crate::a), "crate::a"),
            (quote!("crate::a"), "crate::a"),
        ] {
            let (options, _) = service(quote!(crate = #given));
            assert_eq!(crate::text::of(options.krpc.unwrap()), meant);
        }
        for given in [quote!(self::a), quote!("super::a"), quote!(1), quote!("a b"), quote!("")] {
            let (options, problems) = service(quote!(crate = #given));
            assert!(options.krpc.is_none());
            assert_eq!(problems.len(), 1, "{given}");
        }
    }

    #[test]
    fn one_bad_option_does_not_hide_the_others() {
        let (options, problems) = service(quote!(nmae = "x", "y", name = 1, version = "1.2.3"));
        assert_eq!(problems.len(), 3);
        assert!(problems[0].contains("did you mean `name`?"));
        assert!(options.version.is_some());
    }

    #[test]
    fn versions() {
        for good in ["0", "1.2", "10.20.30"] {
            assert!(service(quote!(version = #good)).1.is_empty(), "{good}");
        }
        for bad in ["", ".", "1.", "v1", "1.2.3.4", "1.2-rc", "-1", "1234567890"] {
            assert_eq!(service(quote!(version = #bad)).1.len(), 1, "{bad}");
        }
    }

    #[test]
    fn options_of_a_method_may_stand_in_several_attributes() {
        let (options, problems) = method(vec![
            parse_quote!(#[rpc(timeout = "2s")]),
            parse_quote!(#[doc = "kept"]),
            parse_quote!(#[rpc(idempotent, name = "plus",)]),
        ]);
        assert!(problems.is_empty());
        assert_eq!(options.timeout, Some(Duration::from_secs(2)));
        assert!(options.idempotent);
        assert_eq!(options.name.unwrap().value(), "plus");
    }

    #[test]
    fn an_option_given_twice_is_found_across_attributes() {
        let (_, problems) =
            method(vec![parse_quote!(#[rpc(idempotent)]), parse_quote!(#[rpc(idempotent)])]);
        assert_eq!(problems.len(), 1);
    }

    #[test]
    fn all_options_of_delivery() {
        let (options, problems) = method(vec![parse_quote! {
            #[rpc(
                key = format!("{a}/{b}"), one_way, at_most_once, retention = "7d",
                retry(max = 5, backoff = "1s..2s", then = drop),
            )]
        }]);
        assert_eq!(problems, [] as [&str; 0]);
        let delivery = options.delivery;
        assert!(matches!(delivery.key, Some(syn::Expr::Macro(_))));
        assert!(delivery.one_way.is_some() && delivery.at_most_once.is_some());
        let retry = delivery.retry.unwrap();
        assert_eq!((retry.max, retry.first.as_secs(), retry.most.as_secs()), (5, 1, 2));
        assert!(matches!(retry.then, Then::Drop));
        assert_eq!(delivery.retention.unwrap().1.as_secs(), 7 * 86_400);
    }

    #[test]
    fn a_retry_has_defaults() {
        let (options, problems) = method(vec![parse_quote!(#[rpc(retry(max = 100))])]);
        assert_eq!(problems, [] as [&str; 0]);
        let retry = options.delivery.retry.unwrap();
        assert_eq!((retry.max, retry.first.as_millis(), retry.most.as_secs()), (100, 100, 10));
        assert!(matches!(retry.then, Then::DeadLetter));
    }

    #[test]
    fn a_bad_retry_is_a_retry_nevertheless() {
        for bad in [
            quote!(retry),
            quote!(retry = 5),
            quote!(retry()),
            quote!(retry(max)),
            quote!(retry(max = 0)),
            quote!(retry(max = 101)),
            quote!(retry(max = "5")),
            quote!(retry(max = 5, most = 2)),
            quote!(retry(max = 5, then = "drop")),
            quote!(retry(max = 5, then = later)),
        ] {
            let (options, problems) = method(vec![parse_quote!(#[rpc(#bad)])]);
            assert_eq!(problems.len(), 1, "{bad}: {problems:?}");
            assert!(options.delivery.retry.is_some(), "{bad}");
        }
    }

    #[test]
    fn distances() {
        assert_eq!(distance("timeout", "timeout"), 0);
        assert_eq!(distance("timout", "timeout"), 1);
        assert_eq!(distance("", "abc"), 3);
        assert_eq!(distance("kitten", "sitting"), 3);
    }
}
