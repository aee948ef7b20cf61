//! One option, `key`, `key = value` or `key(list)`, and what its value may be.
//!
//! A list is cut at its commas before anything is parsed, so that one bad option does not hide the
//! mistakes in the others.

use std::time::Duration;

use proc_macro2::{Delimiter, Group, Ident, TokenStream, TokenTree};
use syn::{LitStr, Path, Token, parse::Parser, spanned::Spanned};

/// The longest timeout: longer ones are mistakes, and the sum with any date stays in range.
const MAX_TIMEOUT: Duration = Duration::from_secs(366 * 24 * 60 * 60);

/// One option: `key`, `key = value` or `key(list)`.
pub(super) struct Entry {
    pub(super) key: Ident,
    value: Value,
}

enum Value {
    None,
    Assigned(TokenStream),
    List(Group),
}

impl Entry {
    fn parse(tokens: TokenStream) -> syn::Result<Self> {
        let span = tokens.span();
        let mut tokens = tokens.into_iter();
        let Some(TokenTree::Ident(key)) = tokens.next() else {
            return Err(syn::Error::new(span, "an option begins with its name: `name = \"..\"`"));
        };
        let value = match (tokens.next(), tokens.next()) {
            (None, _) => Value::None,
            (Some(TokenTree::Punct(equals)), Some(first)) if equals.as_char() == '=' => {
                Value::Assigned(std::iter::once(first).chain(tokens).collect())
            }
            (Some(TokenTree::Group(list)), None) if list.delimiter() == Delimiter::Parenthesis => {
                Value::List(list)
            }
            _ => {
                let message = format!("an option is written `{key}` or `{key} = value`");
                return Err(syn::Error::new(span, message));
            }
        };
        Ok(Self { key, value })
    }

    pub(super) fn error(&self, message: impl std::fmt::Display) -> syn::Error {
        syn::Error::new(self.key.span(), message)
    }

    pub(super) fn flag(&self) -> syn::Result<()> {
        let span = match &self.value {
            Value::None => return Ok(()),
            Value::Assigned(value) => value.span(),
            Value::List(list) => list.span(),
        };
        let message = format!("`{0}` takes no value: write `{0}` alone, or leave it out", self.key);
        Err(syn::Error::new(span, message))
    }

    pub(super) fn string(&self, example: &str) -> syn::Result<LitStr> {
        let message = format!("`{0}` expects a string literal: `{0} = {example}`", self.key);
        match &self.value {
            Value::Assigned(value) => syn::parse2::<LitStr>(value.clone())
                .map_err(|_| syn::Error::new_spanned(value, message)),
            Value::List(list) => Err(syn::Error::new(list.span(), message)),
            Value::None => Err(self.error(message)),
        }
    }

    pub(super) fn version(&self) -> syn::Result<LitStr> {
        let version = self.string("\"1.2\"")?;
        // At most nine digits: a number that any language's parser takes.
        let number = |part: &str| (1..=9).contains(&part.len()) && digits(part) == part.len();
        let text = version.value();
        if text.split('.').all(number) && text.split('.').count() <= 3 {
            return Ok(version);
        }
        let message = "a version is one to three whole numbers with points between: \"1.2\"";
        Err(syn::Error::new(version.span(), message))
    }

    pub(super) fn timeout(&self) -> syn::Result<Duration> {
        let text = self.string("\"2s\"")?;
        duration(&text.value()).map_err(|message| syn::Error::new(text.span(), message))
    }

    /// A crate's name or a path from one, as a string or bare; `crate::..` for a re-export.
    pub(super) fn path(&self) -> syn::Result<Path> {
        let message = "`crate` expects the name or path of krpc: `crate = \"renamed_krpc\"`";
        let Value::Assigned(value) = &self.value else { return Err(self.error(message)) };
        let bare = || Path::parse_mod_style.parse2(value.clone());
        let path = match syn::parse2::<LitStr>(value.clone()) {
            Ok(text) => text.parse_with(Path::parse_mod_style),
            Err(_) => bare(),
        };
        let mut path = path.map_err(|_| syn::Error::new_spanned(value, message))?;
        let first = path.segments.first().map(|first| first.ident.to_string());
        match first.as_deref() {
            Some("self" | "super" | "Self" | "$crate") => Err(syn::Error::new_spanned(
                value,
                "`crate` is used in several modules: begin with a crate's name or with `crate::`",
            )),
            Some("crate") => Ok(path),
            _ => {
                path.leading_colon = Some(Token![::](path.span()));
                Ok(path)
            }
        }
    }
}

/// Cuts a list of options at its commas; a key that comes twice is a mistake.
pub(super) fn entries(tokens: TokenStream) -> Vec<syn::Result<Entry>> {
    let mut seen: Vec<Ident> = Vec::new();
    let tokens: Vec<TokenTree> = tokens.into_iter().collect();
    let comma = |token: &TokenTree| matches!(token, TokenTree::Punct(p) if p.as_char() == ',');
    let parts = tokens.split(comma).filter(|part| !part.is_empty());
    let parsed = parts.map(|part| {
        let entry = Entry::parse(part.iter().cloned().collect())?;
        if seen.contains(&entry.key) {
            return Err(entry.error(format!("`{}` is given twice", entry.key)));
        }
        seen.push(entry.key.clone());
        Ok(entry)
    });
    parsed.collect()
}

/// How many bytes at the start of `text` are decimal digits.
fn digits(text: &str) -> usize {
    text.bytes().take_while(u8::is_ascii_digit).count()
}

/// `500ms`, `2s`, `5m`, `1h`.
fn duration(text: &str) -> Result<Duration, &'static str> {
    const FORM: &str = "a timeout is a whole number and `ms`, `s`, `m` or `h`: \"500ms\", \"2s\"";
    const LONG: &str = "a timeout is at most 366 days";
    let (number, unit) = text.split_at(digits(text));
    let millis: u64 = match unit {
        "ms" => 1,
        "s" => 1_000,
        "m" => 60_000,
        "h" => 3_600_000,
        _ => return Err(FORM),
    };
    if number.is_empty() {
        return Err(FORM);
    }
    // Only digits, so what does not fit is too long.
    let number: u64 = number.parse().map_err(|_| LONG)?;
    let timeout = Duration::from_millis(number.checked_mul(millis).ok_or(LONG)?);
    match timeout {
        Duration::ZERO => Err("a timeout is longer than zero"),
        timeout if timeout > MAX_TIMEOUT => Err(LONG),
        timeout => Ok(timeout),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations() {
        assert_eq!(duration("500ms"), Ok(Duration::from_millis(500)));
        assert_eq!(duration("2s"), Ok(Duration::from_secs(2)));
        assert_eq!(duration("5m"), Ok(Duration::from_secs(300)));
        assert_eq!(duration("8784h"), Ok(MAX_TIMEOUT));
        for bad in [
            "",
            "s",
            "2",
            "2 s",
            " 2s",
            "2s ",
            "-2s",
            "+2s",
            "1.5s",
            "2ns",
            "2S",
            "0s",
            "8785h",
            "99999999999999999999s",
            "18446744073709551615h",
            "2s3",
        ] {
            assert!(duration(bad).is_err(), "{bad:?}");
        }
    }
}
