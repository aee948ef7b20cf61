//! `SumClient`: each method of the trait as a call that can be awaited.
//!
//! from: the user's `sum.add(1, 2)`
//! to: `krpc::rt::Client::call`, the call's builder

use proc_macro2::{Group, Span, TokenStream, TokenTree};
use quote::{ToTokens, quote, quote_spanned};
use syn::{Expr, Ident, Path, spanned::Spanned};

use super::{cfgs, docs, notices, quiet};
use crate::{
    model::{Arg, Method, Service, ours},
    text,
};

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
    let tickets = tickets(service);
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
            #tickets
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

/// What a ticket of a call is good for.
fn tickets(service: &Service) -> TokenStream {
    let (krpc, vis) = (&service.krpc, &service.item.vis);
    quote! {
        /// The answer of a call that was made with `enqueue`, by this client or in another process.
        ///
        /// A ticket that was read from somewhere has the types that the reader says.
        #vis fn attach<T, E, M>(&self, ticket: &#krpc::Ticket<T, E>) -> #krpc::Attach<T, E>
        where
            E: #krpc::rt::TicketError<M>,
        {
            self.inner.attach(ticket)
        }

        /// How far a call is that was made with `enqueue`.
        ///
        /// # Errors
        ///
        /// When the ticket is of another service, or the broker does not answer.
        #vis async fn status<T, E>(
            &self,
            ticket: &#krpc::Ticket<T, E>,
        ) -> ::core::result::Result<#krpc::TicketStatus, #krpc::Error> {
            self.inner.status(ticket).await
        }

        /// Cancels a call that was made with `enqueue`; returns once the broker has the cancel.
        ///
        /// # Errors
        ///
        /// When the ticket is of another service, or the broker does not take it.
        #vis async fn cancel<T, E>(
            &self,
            ticket: &#krpc::Ticket<T, E>,
        ) -> ::core::result::Result<(), #krpc::Error> {
            self.inner.cancel(ticket).await
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
    let call = quote!(self.inner.#call(&#module::#descriptor, &#args { #(#names),* }));
    let body = match &method.delivery.key {
        None => call,
        Some(key) => keyed(&service.krpc, method, key, &call),
    };
    quote!(#head { #body })
}

/// Makes the key before the arguments are moved to where they travel.
fn keyed(krpc: &Path, method: &Method, key: &Expr, call: &TokenStream) -> TokenStream {
    // Never an argument's name, even if one is spelled so.
    let name = Ident::new("__key", Span::mixed_site());
    let tokens = over_arguments(method, key.to_token_stream());
    // At the user's expression, so that what cannot be a key is found there.
    let key = quote_spanned!(ours(key.span())=> &(#tokens));
    quote! {
        let #name = #krpc::rt::key_of(#key);
        #call.key(#name)
    }
}

/// The same tokens, in which the names of arguments mean those of the client's method, also where a
/// `macro_rules!` of the user's wrote one of the two. A text may name arguments: `"{account}"`.
fn over_arguments(method: &Method, tokens: TokenStream) -> TokenStream {
    let is_argument = |ident: &Ident| method.args.iter().any(|arg| arg.ident == *ident);
    let same = |token| match token {
        TokenTree::Group(group) => {
            let inner = over_arguments(method, group.stream());
            let mut same = Group::new(group.delimiter(), inner);
            same.set_span(group.span());
            same.into()
        }
        mut token @ (TokenTree::Ident(_) | TokenTree::Literal(_)) => {
            if !matches!(&token, TokenTree::Ident(ident) if !is_argument(ident)) {
                token.set_span(ours(token.span()));
            }
            token
        }
        token => token,
    };
    tokens.into_iter().map(same).collect()
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
    docs.extend(promises(method));
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

/// What a caller is promised, as a section of the documentation.
fn promises(method: &Method) -> impl Iterator<Item = TokenStream> {
    let delivery = &method.delivery;
    let key = delivery.key.as_ref().map(|key| {
        let key = text::of(key);
        format!(" By key, `{key}`: its calls are executed one at a time, in order.")
    });
    let one_way = delivery.one_way.map(|_| {
        " One way: it ends once the broker has the call; nobody waits for its result.".to_owned()
    });
    let at_most_once = delivery.at_most_once.map(|_| {
        " At most once: it is never executed again, so its outcome may stay unknown.".to_owned()
    });
    let promises: Vec<_> = [key, one_way, at_most_once].into_iter().flatten().collect();
    let heading = (!promises.is_empty()).then(|| " # Delivery".to_owned());
    let lines = heading.into_iter().chain(promises);
    lines.map(|line| quote!(#[doc = ""] #[doc = #line]))
}
