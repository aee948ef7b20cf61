//! What is given back beside errors: enough for the rest of the program to be checked, so that
//! the user sees the mistakes and not their echo. None of it ever runs.

use std::collections::HashSet;

use proc_macro2::TokenStream;
use quote::{ToTokens, quote};
use syn::{
    FnArg, Pat, PatIdent, Signature, Token, TraitItem, TraitItemFn, Type, ext::IdentExt,
    parse_quote, visit_mut::VisitMut,
};

use crate::{
    expand::{cfgs, client, quiet, service_trait},
    model::{Method, Service},
    parse, validate,
};

/// The trait as written, and shells of its client and server.
pub(crate) fn expand(service: &Service) -> TokenStream {
    let (krpc, vis) = (&service.krpc, &service.item.vis);
    let (client, server) = (client_shell(service), service.server());
    let cfgs: Vec<_> = cfgs(&service.item.attrs).collect();
    let service_trait = service_trait(service);
    let quiet = quiet();
    quote! {
        #service_trait

        #client

        #(#cfgs)*
        #[derive(::core::clone::Clone, ::core::fmt::Debug)]
        #vis struct #server<S>(::core::marker::PhantomData<S>);

        #(#cfgs)*
        #quiet
        impl<S> #server<S> {
            #vis fn new(_: S) -> Self {
                ::core::unreachable!()
            }
        }

        #(#cfgs)*
        #quiet
        impl<S> ::core::convert::From<::std::sync::Arc<S>> for #server<S> {
            fn from(_: ::std::sync::Arc<S>) -> Self {
                ::core::unreachable!()
            }
        }

        #(#cfgs)*
        #quiet
        impl<S: ::core::marker::Send + ::core::marker::Sync + 'static> #krpc::rt::Service
            for #server<S>
        {
            fn descriptor(&self) -> &'static #krpc::rt::ServiceDescriptor {
                ::core::unreachable!()
            }
            fn dispatch(&self, _: #krpc::rt::Incoming) {
                ::core::unreachable!()
            }
        }
    }
}

fn client_shell(service: &Service) -> TokenStream {
    let (krpc, vis, client) = (&service.krpc, &service.item.vis, service.client());
    let cfgs: Vec<_> = cfgs(&service.item.attrs).collect();
    let (calls, quiet) = (calls(service), quiet());
    quote! {
        #(#cfgs)*
        #[derive(::core::clone::Clone, ::core::fmt::Debug)]
        #vis struct #client;

        #(#cfgs)*
        #quiet
        impl #client {
            #vis async fn connect(
                _: impl ::core::convert::AsRef<str>,
            ) -> ::core::result::Result<Self, #krpc::SetupError> {
                ::core::unreachable!()
            }
            #vis fn new(_: &#krpc::Channel) -> Self {
                ::core::unreachable!()
            }
            #vis fn local<S>(_: S) -> Self {
                ::core::unreachable!()
            }
            #vis fn attach<T, E>(&self, _: &#krpc::Ticket<T, E>) -> #krpc::Attach<T, E> {
                ::core::unreachable!()
            }
            #vis async fn status<T, E>(
                &self,
                _: &#krpc::Ticket<T, E>,
            ) -> ::core::result::Result<#krpc::TicketStatus, #krpc::Error> {
                ::core::unreachable!()
            }
            #vis async fn cancel<T, E>(
                &self,
                _: &#krpc::Ticket<T, E>,
            ) -> ::core::result::Result<(), #krpc::Error> {
                ::core::unreachable!()
            }
            #calls
        }
    }
}

/// The trait, without what a compiler would refuse once more.
fn service_trait(service: &Service) -> TokenStream {
    let mut item = service.item.clone();
    // `Self` was refused where it is not sized.
    item.supertraits.push(parse_quote!(::core::marker::Sized));
    item.items.retain(|item| !matches!(item, TraitItem::Verbatim(_)));
    for item in &mut item.items {
        let TraitItem::Fn(function) = item else { continue };
        WrittenOut.visit_signature_mut(&mut function.sig);
        if function.default.is_none() {
            service_trait::promise_send(&mut function.sig);
            plain_names(&mut function.sig);
        }
        for input in &mut function.sig.inputs {
            if let FnArg::Typed(input) = input {
                input.attrs.clear();
            }
        }
    }
    item.into_token_stream()
}

/// Replaces patterns, and names that come again, by `_`.
fn plain_names(sig: &mut Signature) {
    let mut names = HashSet::new();
    for input in &mut sig.inputs {
        let FnArg::Typed(input) = input else { continue };
        let plain = match &*input.pat {
            Pat::Ident(PatIdent {
                by_ref: None, mutability: None, subpat: None, ident, ..
            }) => names.insert(ident.unraw()),
            _ => false,
        };
        if !plain {
            let underscore_token = <Token![_]>::default();
            *input.pat = Pat::Wild(syn::PatWild { attrs: Vec::new(), underscore_token });
        }
    }
}

/// Replaces `_` in types.
struct WrittenOut;

impl VisitMut for WrittenOut {
    fn visit_type_mut(&mut self, ty: &mut Type) {
        match ty {
            Type::Infer(_) => *ty = parse_quote!(()),
            _ => syn::visit_mut::visit_type_mut(self, ty),
        }
    }
}

/// The methods of the client, but for those that nothing can be said of.
fn calls(service: &Service) -> TokenStream {
    let mut names: HashSet<String> = validate::CLIENT.iter().map(ToString::to_string).collect();
    let functions = service.functions();
    let distinct = functions.filter(|(_, method)| names.insert(method.ident.unraw().to_string()));
    distinct.map(|(function, method)| call(service, function, method)).collect()
}

/// A method of the client. Where the trait's signature is flawed it takes anything. Where its
/// result is, the mistake itself stands in the type: the compiler reports it once, and nothing that
/// follows from such a type. (As a type of its own `compile_error!` counts as `()`, hence the
/// array.)
fn call(service: &Service, function: &TraitItemFn, method: &Method) -> TokenStream {
    if !method.flawed {
        let head = client::head(service, method);
        return quote!(#head { ::core::unreachable!() });
    }
    let (krpc, vis, name) = (&service.krpc, &service.item.vis, &method.ident);
    let travelling = function.sig.inputs.iter().filter(|input| match input {
        FnArg::Typed(input) => !parse::is_context_argument(input),
        FnArg::Receiver(_) => false,
    });
    let args = travelling.map(|_| quote!(_: impl ::core::marker::Sized));
    let output = match &method.flawed_result {
        Some(error) => {
            let error = error.to_compile_error();
            quote!([(); #error], [(); #error])
        }
        None => {
            let types = std::iter::once(&method.output).chain(&method.error);
            quote!(#(#types),*)
        }
    };
    quote! {
        #vis fn #name(&self, #(#args),*) -> #krpc::Call<#output> {
            ::core::unreachable!()
        }
    }
}
