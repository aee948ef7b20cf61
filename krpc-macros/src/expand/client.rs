//! `SumClient`: each method of the trait as a call that can be awaited.
//!
//! from: the user's `sum.add(1, 2)`
//! to: `krpc::rt::Client::call`, the call's builder

use proc_macro2::TokenStream;
use quote::{quote, quote_spanned};
use syn::spanned::Spanned;

use super::{cfgs, docs, notices, quiet};
use crate::model::{Arg, Method, Service, ours};

/// The struct and its methods.
pub(super) fn expand(service: &Service) -> TokenStream {
    let (krpc, vis, client) = (&service.krpc, &service.item.vis, service.client());
    let cfgs: Vec<_> = cfgs(&service.item.attrs).collect();
    let notices = notices(&service.item.attrs);
    let doc = format!(
        " A client of [`{}`]: its methods are calls, which travel once they are awaited.",
        service.item.ident
    );
    let constructors = constructors(service);
    let methods = service.methods.iter().map(|method| call(service, method));
    let quiet = quiet();
    quote! {
        #[doc = #doc]
        #[doc = ""]
        #[doc = " Cheap to clone; clones share their connection."]
        #(#notices)*
        #[allow(dead_code)]
        #[derive(::core::clone::Clone, ::core::fmt::Debug)]
        #vis struct #client {
            inner: #krpc::rt::Client,
        }

        #(#cfgs)*
        #quiet
        impl #client {
            #constructors
            #(#methods)*
        }
    }
}

fn constructors(service: &Service) -> TokenStream {
    let (krpc, vis, module) = (&service.krpc, &service.item.vis, service.module());
    let (name, server) = (&service.item.ident, service.server());
    let implementor = service.implementor();
    quote! {
        /// Connects to `endpoint`: Kafka's bootstrap servers, or `memory:` or `embedded:`.
        ///
        /// For several services over one connection, use `new`.
        ///
        /// # Errors
        ///
        /// When the endpoint cannot be reached, or does not fit the service; the error says why.
        #vis async fn connect(
            endpoint: impl ::core::convert::AsRef<str>,
        ) -> ::core::result::Result<Self, #krpc::SetupError> {
            let endpoint = ::core::convert::AsRef::as_ref(&endpoint);
            let inner = #krpc::rt::Client::connect(endpoint, &#module::SERVICE).await?;
            ::core::result::Result::Ok(Self { inner })
        }

        /// A client over `channel`, which other clients may use as well.
        #[must_use]
        #vis fn new(channel: &#krpc::Channel) -> Self {
            Self { inner: #krpc::rt::Client::new(channel, &#module::SERVICE) }
        }

        /// A client of `service` in this process, without a network.
        ///
        /// # Panics
        ///
        /// Outside a Tokio runtime, which runs the service.
        #[must_use]
        #vis fn local<#implementor>(service: #implementor) -> Self
        where
            #implementor: #name + ::core::marker::Send + ::core::marker::Sync + 'static,
        {
            Self { inner: #krpc::rt::Client::local(#server::new(service)) }
        }
    }
}

fn call(service: &Service, method: &Method) -> TokenStream {
    let (module, descriptor) = (service.module(), &method.names.descriptor);
    let (args, names) = (&method.names.args, method.args.iter().map(Arg::name));
    let head = head(service, method);
    let call = match &method.error {
        // At the user's error, so that one that cannot be decoded is found there.
        Some(error) => quote_spanned!(ours(error.span())=> try_call),
        None => quote!(call),
    };
    quote! {
        #head {
            self.inner.#call(&#module::#descriptor, &#args { #(#names),* })
        }
    }
}

/// Everything of a client's method but its body.
pub(crate) fn head(service: &Service, method: &Method) -> TokenStream {
    let (krpc, vis, name) = (&service.krpc, &service.item.vis, method.name());
    let notices = notices(&method.attrs);
    let mut docs: Vec<TokenStream> = docs(&method.attrs).map(|doc| quote!(#doc)).collect();
    if docs.is_empty() {
        let doc = format!(" Calls `{}/{}`.", service.name.value(), method.wire.value());
        docs.push(quote!(#[doc = #doc]));
    }
    let args = method.args.iter().map(|arg| {
        let (name, ty) = (arg.name(), &arg.ty);
        quote!(#name: #ty)
    });
    let output = std::iter::once(&method.output).chain(&method.error);
    quote! {
        #(#docs)*
        #(#notices)*
        #vis fn #name(&self, #(#args),*) -> #krpc::Call<#(#output),*>
    }
}
