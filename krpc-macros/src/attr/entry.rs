//! One option, `key`, `key = value` or `key(list)`, and what its value may be.
//!
//! A list is cut at its commas before anything is parsed, so that one bad option does not hide the
//! mistakes in the others.

use std::time::Duration;

use proc_macro2::{Delimiter, Group, Ident, TokenStream, TokenTree};
use syn::{
    Expr, LitStr, Path, Token,
    parse::{Parse, Parser},
    spanned::Spanned,
};

use super::duration::duration;

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

    /// Its value, if it is one of the kind that `message` asks for.
    pub(super) fn value<T: Parse>(&self, message: &str) -> syn::Result<T> {
        match &self.value {
            Value::Assigned(value) => {
                syn::parse2(value.clone()).map_err(|_| syn::Error::new_spanned(value, message))
            }
            Value::List(list) => Err(syn::Error::new(list.span(), message)),
            Value::None => Err(self.error(message)),
        }
    }

    pub(super) fn string(&self, example: &str) -> syn::Result<LitStr> {
        self.value(&format!("`{0}` expects a string literal: `{0} = {example}`", self.key))
    }

    /// What stands in its parentheses.
    pub(super) fn list(&self, example: &str) -> syn::Result<TokenStream> {
        let message = format!("`{0}` expects options in parentheses: `{0}({example})`", self.key);
        match &self.value {
            Value::List(list) => Ok(list.stream()),
            Value::Assigned(value) => Err(syn::Error::new_spanned(value, message)),
            Value::None => Err(self.error(message)),
        }
    }

    /// An expression that has something of the arguments in it.
    pub(super) fn expression(&self) -> syn::Result<Expr> {
        let message = format!(
            "`{0}` expects an argument, or what is made of some: \
                               `{0} = account`, `{0} = format!(\"{{tenant}}/{{account}}\")`",
            self.key
        );
        match self.value(&message)? {
            Expr::Lit(literal) => Err(syn::Error::new_spanned(literal, message)),
            expression => Ok(expression),
        }
    }

    pub(super) fn version(&self) -> syn::Result<LitStr> {
        let version = self.string("\"1.2\"")?;
        // At most nine digits: a number that any language's parser takes.
        let number = |part: &str| {
            (1..=9).contains(&part.len()) && part.bytes().all(|byte| byte.is_ascii_digit())
        };
        let text = version.value();
        if text.split('.').all(number) && text.split('.').count() <= 3 {
            return Ok(version);
        }
        let message = "a version is one to three whole numbers with points between: \"1.2\"";
        Err(syn::Error::new(version.span(), message))
    }

    /// A duration, which is called `what` in messages.
    pub(super) fn duration(&self, what: &str, example: &str) -> syn::Result<Duration> {
        duration(what, &self.string(example)?)
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
