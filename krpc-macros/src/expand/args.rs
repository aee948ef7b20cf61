//! The structs that carry the arguments of a call, one for each method.

use proc_macro2::TokenStream;
use quote::quote;

use super::cfgs;
use crate::{
    model::{Method, Service},
    text,
};

/// All of them.
pub(super) fn expand(service: &Service) -> TokenStream {
    service.methods.iter().map(|method| arguments(service, method)).collect()
}

fn arguments(service: &Service, method: &Method) -> TokenStream {
    let krpc = &service.krpc;
    let serde = text::of(quote!(#krpc::rt::serde));
    let (outer, inner) = (cfgs(&service.item.attrs), cfgs(&method.attrs));
    let doc = format!(" The arguments of `{}::{}`.", service.item.ident, method.ident);
    let name = &method.names.args;
    let fields = method.args.iter().map(|arg| {
        let (attrs, name, ty) = (&arg.serde, arg.name(), &arg.ty);
        quote!(#(#attrs)* #name: #ty)
    });
    quote! {
        #(#outer)*
        #(#inner)*
        #[doc = #doc]
        #[doc(hidden)]
        #[allow(non_camel_case_types, non_snake_case)]
        #[derive(#krpc::rt::serde::Serialize, #krpc::rt::serde::Deserialize)]
        #[serde(crate = #serde)]
        struct #name { #(#fields,)* }
    }
}
