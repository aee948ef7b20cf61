//! `SumServer<S>`: finds the method that a call names and runs the user's implementation of it.
//!
//! from: `krpc-core`'s `server/driver`, with an `Incoming`
//! to: the user's `impl Sum`

use proc_macro2::TokenStream;
use quote::{quote, quote_spanned};
use syn::spanned::Spanned;

use super::{cfgs, notices, quiet};
use crate::model::{Arg, Method, Service, ours};

/// The struct and what it implements.
pub(super) fn expand(service: &Service) -> TokenStream {
    let (vis, name, server) = (&service.item.vis, &service.item.ident, service.server());
    let cfgs: Vec<_> = cfgs(&service.item.attrs).collect();
    let notices = notices(&service.item.attrs);
    let implementor = service.implementor();
    let doc = format!(" Serves an implementation of [`{name}`]: `Server::builder(..).serve(..)`.");
    let debug = server.to_string();
    let bound = quote!(#name + ::core::marker::Send + ::core::marker::Sync + 'static);
    let dispatch = dispatch(service, &bound);
    let quiet = quiet();
    quote! {
        #[doc = #doc]
        #(#notices)*
        #[allow(dead_code)]
        #vis struct #server<#implementor> {
            service: ::std::sync::Arc<#implementor>,
        }

        #(#cfgs)*
        #quiet
        impl<#implementor: #bound> #server<#implementor> {
            /// Serves `service`.
            #[must_use]
            #vis fn new(service: #implementor) -> Self {
                Self { service: ::std::sync::Arc::new(service) }
            }
        }

        #(#cfgs)*
        #[allow(deprecated)]
        impl<#implementor: #bound> ::core::convert::From<::std::sync::Arc<#implementor>>
            for #server<#implementor>
        {
            fn from(service: ::std::sync::Arc<#implementor>) -> Self {
                Self { service }
            }
        }

        #(#cfgs)*
        #[allow(deprecated)]
        impl<#implementor> ::core::clone::Clone for #server<#implementor> {
            fn clone(&self) -> Self {
                Self { service: ::core::clone::Clone::clone(&self.service) }
            }
        }

        #(#cfgs)*
        #[allow(deprecated)]
        impl<#implementor> ::core::fmt::Debug for #server<#implementor> {
            fn fmt(&self, f: &mut ::core::fmt::Formatter<'_>) -> ::core::fmt::Result {
                f.debug_struct(#debug).finish_non_exhaustive()
            }
        }

        #(#cfgs)*
        #[allow(deprecated)]
        #dispatch
    }
}

fn dispatch(service: &Service, bound: &TokenStream) -> TokenStream {
    let (krpc, server, module) = (&service.krpc, service.server(), service.module());
    let implementor = service.implementor();
    let arms = service.methods.iter().map(|method| arm(service, method));
    quote! {
        impl<#implementor: #bound> #krpc::rt::Service for #server<#implementor> {
            fn descriptor(&self) -> &'static #krpc::rt::ServiceDescriptor {
                &#module::SERVICE
            }

            fn dispatch(&self, call: #krpc::rt::Incoming) {
                match call.method() {
                    #(#arms)*
                    _ => call.unimplemented(),
                }
            }
        }
    }
}

fn arm(service: &Service, method: &Method) -> TokenStream {
    let cfgs = cfgs(&method.attrs);
    let (wire, name) = (method.wire.value(), method.name());
    let (module, descriptor) = (service.module(), &method.names.descriptor);
    let (trait_name, implementor) = (&service.item.ident, service.implementor());
    let struct_name = &method.names.args;
    let fields = method.args.iter().map(Arg::name);
    let args = if method.args.is_empty() { quote!(_args) } else { quote!(args) };
    let (cx, given) = match &method.context {
        // At the user's type, so that a `Context` of someone else's is found there.
        Some(ty) => {
            let span = ours(ty.span());
            (quote!(cx), quote_spanned!(span=> &cx,))
        }
        None => (quote!(_cx), TokenStream::new()),
    };
    // At the user's result, so that one that cannot be sent is found there.
    let span = ours(method.output_span());
    let run = match method.error {
        Some(_) => quote_spanned!(span=> try_run),
        None => quote_spanned!(span=> run),
    };
    quote! {
        #(#cfgs)*
        #wire => {
            let service = ::core::clone::Clone::clone(&self.service);
            call.#run(&#module::#descriptor, move |#cx, #args: #struct_name| async move {
                <#implementor as #trait_name>::#name(&service, #given #(args.#fields),*).await
            });
        }
    }
}
