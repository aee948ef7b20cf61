//! From the [`Service`] to code: the trait, its client, its server, and what both need.
//!
//! Where each part lives, and why there:
//!
//! - The structs that carry the **arguments** stand beside the trait, private, so that the types
//!   in them mean what they mean in the trait. In a module of their own those types would have to
//!   be found through `use super::*`, which fails for a trait inside a function, for paths that
//!   begin with `self`, and for a type of the user's that has the name of one of ours.
//! - The **descriptors** need only text, so they stand in one hidden module, where a `static` of
//!   ours cannot be confused with one of the user's.
//! - Everything else is named by a path that begins with `::`: whatever the user calls `Result`,
//!   `Future` or `Arc`, the generated code does not see it.

mod args;
pub(crate) mod client;
mod descriptor;
mod server;
pub(crate) mod service_trait;

use proc_macro2::TokenStream;
use quote::quote;
use syn::{Attribute, Meta, Path, Token, punctuated::Punctuated};

use crate::{attr::ServiceOptions, fallback, model::Service, parse, problems::Problems, validate};

/// What `#[krpc::service(options)] item` becomes.
pub(crate) fn service(options: TokenStream, tokens: TokenStream) -> TokenStream {
    let mut problems = Problems::default();
    let options = ServiceOptions::parse(options, &mut problems);
    let Some(item) = parse::trait_item(tokens.clone(), &mut problems) else {
        let errors = problems.compile_errors();
        return quote!(#errors #tokens);
    };
    let mut service = parse::service(options, item, &mut problems);
    validate::service(&mut service, &mut problems);
    match problems.compile_errors() {
        None => expand(&service),
        Some(errors) => {
            let quiet = fallback::expand(&service);
            quote!(#errors #quiet)
        }
    }
}

fn expand(service: &Service) -> TokenStream {
    let service_trait = service_trait::expand(service);
    let client = client::expand(service);
    let server = server::expand(service);
    let args = args::expand(service);
    let descriptors = descriptor::expand(service);
    quote! {
        #service_trait
        #client
        #server
        #args
        #descriptors
    }
}

/// The attributes among `attrs` that decide whether an item exists: everything that is generated
/// for it bears them too.
pub(crate) fn cfgs(attrs: &[Attribute]) -> impl Iterator<Item = &Attribute> {
    attrs.iter().filter(|attr| attr.path().is_ident("cfg"))
}

/// What callers are told about an item beside its documentation, and whether it exists. Other
/// attributes are about the trait, as a mock's is; under `cfg_attr` too.
pub(crate) fn notices(attrs: &[Attribute]) -> impl Iterator<Item = &Attribute> {
    let passed_on = |path: &Path, names: &[&str]| names.iter().any(|name| path.is_ident(name));
    attrs.iter().filter(move |attr| match &attr.meta {
        Meta::List(list) if list.path.is_ident("cfg_attr") => list
            .parse_args_with(Punctuated::<Meta, Token![,]>::parse_terminated)
            .is_ok_and(|metas| {
                let mut given = metas.iter().skip(1);
                given.all(|meta| passed_on(meta.path(), &["doc", "deprecated", "must_use"]))
            }),
        meta => passed_on(meta.path(), &["cfg", "deprecated", "must_use"]),
    })
}

/// An item's documentation as it was written.
pub(crate) fn docs(attrs: &[Attribute]) -> impl Iterator<Item = &Attribute> {
    attrs.iter().filter(|attr| attr.path().is_ident("doc"))
}

/// The lints that generated code is exempt from: it names what is deprecated without using it,
/// a program is often client only or server only, and clippy's taste is for what people write.
pub(crate) fn quiet() -> TokenStream {
    quote!(#[allow(dead_code, deprecated, clippy::all, clippy::pedantic, clippy::nursery)])
}
