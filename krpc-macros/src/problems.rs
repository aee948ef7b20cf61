//! Mistakes gathered on the way, so that all of them are reported at once.

use std::fmt::Display;

use proc_macro2::{Span, TokenStream};
use quote::ToTokens;

/// Every mistake found so far, each with its place in the user's source.
#[derive(Default)]
pub(crate) struct Problems {
    errors: Vec<syn::Error>,
}

impl Problems {
    /// A mistake that spans `tokens`.
    pub(crate) fn at(&mut self, tokens: impl ToTokens, message: impl Display) {
        self.errors.push(syn::Error::new_spanned(tokens, message));
    }

    /// A mistake at `span`.
    pub(crate) fn at_span(&mut self, span: Span, message: impl Display) {
        self.errors.push(syn::Error::new(span, message));
    }

    /// A mistake that a parser found.
    pub(crate) fn push(&mut self, error: syn::Error) {
        self.errors.push(error);
    }

    /// How many there are, to tell whether a step added any.
    pub(crate) fn count(&self) -> usize {
        self.errors.len()
    }

    /// The first that was found since there were `count`.
    pub(crate) fn since(&self, count: usize) -> Option<syn::Error> {
        self.errors.get(count).cloned()
    }

    /// One `compile_error!` for each, or `None` if there is no mistake.
    pub(crate) fn compile_errors(self) -> Option<TokenStream> {
        let all = self.errors.into_iter().reduce(|mut all, next| {
            all.combine(next);
            all
        });
        all.map(|all| all.to_compile_error())
    }

    /// The messages alone, in the order they were found.
    #[cfg(test)]
    pub(crate) fn messages(&self) -> Vec<String> {
        self.errors.iter().map(ToString::to_string).collect()
    }
}
