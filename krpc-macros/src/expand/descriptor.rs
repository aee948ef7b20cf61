//! The hidden module: what the service and its methods are, as data.

use std::time::Duration;

use proc_macro2::TokenStream;
use quote::quote;
use syn::Path;

use super::cfgs;
use crate::{
    model::{Delivery, Method, Service, Then},
    text,
};

/// `mod __krpc_sum`.
pub(super) fn expand(service: &Service) -> TokenStream {
    let krpc = &service.krpc;
    let outer = cfgs(&service.item.attrs);
    let module = service.module();
    let summary = format!(" What `{}` is, as data.", service.item.ident);
    let (name, version) = (&service.name, &service.version);
    let doc = text::doc(&service.item.attrs);
    let methods = service.methods.iter().map(|method| {
        let (cfgs, name) = (cfgs(&method.attrs), &method.names.descriptor);
        quote!(#(#cfgs)* &#name)
    });
    let descriptors = service.methods.iter().map(|method| descriptor(service, method));
    quote! {
        #(#outer)*
        #[doc = #summary]
        #[doc(hidden)]
        mod #module {
            pub(super) static SERVICE: #krpc::rt::ServiceDescriptor = #krpc::rt::ServiceDescriptor {
                name: #name,
                version: #version,
                doc: #doc,
                methods: &[#(#methods),*],
            };
            #(#descriptors)*
        }
    }
}

fn descriptor(service: &Service, method: &Method) -> TokenStream {
    let krpc = &service.krpc;
    let cfgs = cfgs(&method.attrs);
    let descriptor = &method.names.descriptor;
    let name = method.wire.value();
    let path = format!("{}/{name}", service.name.value());
    let doc = text::doc(&method.attrs);
    let args = method.args.iter().map(|arg| {
        let (name, ty) = (&arg.wire, text::of(&arg.ty));
        quote!(#krpc::rt::ArgDescriptor { name: #name, ty: #ty })
    });
    let output = text::of(&method.output);
    let error = option(method.error.as_ref().map(|error| {
        let error = text::of(error);
        quote!(#error)
    }));
    let timeout = option(method.timeout.map(duration));
    let idempotent = method.idempotent;
    let policy = policy(krpc, &method.delivery);
    let fingerprint = method.fingerprint();
    quote! {
        #(#cfgs)*
        pub(super) static #descriptor: #krpc::rt::MethodDescriptor = #krpc::rt::MethodDescriptor {
            name: #name,
            path: #path,
            doc: #doc,
            args: &[#(#args),*],
            output: #output,
            error: #error,
            timeout: #timeout,
            idempotent: #idempotent,
            policy: &#policy,
            fingerprint: #fingerprint,
        };
    }
}

fn policy(krpc: &Path, delivery: &Delivery) -> TokenStream {
    let plain = quote!(#krpc::rt::Policy::PLAIN);
    let retry = delivery.retry.as_ref().map(|retry| {
        let (max, first, most) = (retry.max, duration(retry.first), duration(retry.most));
        let then = match retry.then {
            Then::DeadLetter => quote!(DeadLetter),
            Then::Drop => quote!(Drop),
        };
        let then = quote!(#krpc::rt::Then::#then);
        let retry =
            quote!(#krpc::rt::ServerRetry { max: #max, first: #first, most: #most, then: #then });
        let retry = option(Some(retry));
        quote!(retry: #retry)
    });
    let retention = delivery.retention.map(|(_, retention)| {
        let retention = option(Some(duration(retention)));
        quote!(retention: #retention)
    });
    let stated: Vec<TokenStream> = [
        delivery.key.as_ref().map(|_| quote!(keyed: true)),
        delivery.one_way.map(|_| quote!(one_way: true)),
        delivery.at_most_once.map(|_| quote!(at_most_once: true)),
        retry,
        retention,
    ]
    .into_iter()
    .flatten()
    .collect();
    match stated[..] {
        [] => plain,
        _ => quote!(#krpc::rt::Policy { #(#stated,)* ..#plain }),
    }
}

fn duration(duration: Duration) -> TokenStream {
    let (seconds, millis) = (duration.as_secs(), duration.subsec_millis());
    if millis == 0 {
        return quote!(::core::time::Duration::from_secs(#seconds));
    }
    let millis = seconds * 1_000 + u64::from(millis);
    quote!(::core::time::Duration::from_millis(#millis))
}

fn option(value: Option<TokenStream>) -> TokenStream {
    match value {
        Some(value) => quote!(::core::option::Option::Some(#value)),
        None => quote!(::core::option::Option::None),
    }
}
