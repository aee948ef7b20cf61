//! The trait as the user wrote it, with one change: `async fn f() -> T` says that its future is
//! `Send`, which a server needs and `async fn` in a trait does not promise. It is still
//! implemented with plain `async fn`. A program that only calls the service never uses the trait,
//! which must not be held against it.

use proc_macro2::TokenStream;
use quote::{ToTokens, quote_spanned};
use syn::{ReturnType, Signature, TraitItem, Type, parse_quote, parse_quote_spanned};

use crate::model::{Service, ours};

/// The trait.
pub(super) fn expand(service: &Service) -> TokenStream {
    let mut item = service.item.clone();
    for item in &mut item.items {
        if let TraitItem::Fn(function) = item {
            promise_send(&mut function.sig);
        }
    }
    item.attrs.push(parse_quote!(#[allow(dead_code)]));
    item.into_token_stream()
}

/// `async fn f() -> T` → `fn f() -> impl Future<Output = T> + Send`.
pub(crate) fn promise_send(sig: &mut Signature) {
    let Some(token) = sig.asyncness.take() else { return };
    let span = ours(token.span);
    let output: Type = match &sig.output {
        ReturnType::Default => parse_quote_spanned!(span=> ()),
        ReturnType::Type(_, ty) => (**ty).clone(),
    };
    let future = quote_spanned! {span=>
        -> impl ::core::future::Future<Output = #output> + ::core::marker::Send
    };
    sig.output = parse_quote!(#future);
}
