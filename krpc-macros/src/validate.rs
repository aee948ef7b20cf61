//! What cannot be served, each with a message of its own at its own place.

mod delivery;

use std::collections::{HashMap, HashSet};

use syn::{
    Generics, ItemTrait, Receiver, Signature, TraitItem, TraitItemFn, ext::IdentExt,
    spanned::Spanned,
};

use crate::{
    model::{Method, Service},
    problems::Problems,
    types::{Place, travels},
};

/// Bytes of a service's name: with what is put around it, it is part of a topic's name.
const MAX_SERVICE_NAME: usize = 150;

/// Bytes of a method's name on the wire.
const MAX_METHOD_NAME: usize = 150;

/// Arguments of one method: beyond it a struct is clearer to everyone.
const MAX_ARGS: usize = 64;

/// What every client has of its own. `clone` is not inherent, but a method would hide it.
pub(crate) const CLIENT: &[&str] =
    &["connect", "new", "local", "clone", "attach", "status", "cancel"];

/// Finds every mistake in `service`, and marks the methods that have one.
pub(crate) fn service(service: &mut Service, problems: &mut Problems) {
    let generic = not_generic("a service", &service.item.generics, problems);
    trait_form(&service.item, problems);
    if let Err(reason) = service_name(&service.name.value()) {
        problems.at_span(service.name.span(), format!("{reason}: `name = \"acme.Sum\"`"));
    }
    let functions = service.item.items.iter().filter_map(|item| match item {
        TraitItem::Fn(function) => Some(function),
        _ => None,
    });
    for (function, method) in functions.zip(&mut service.methods) {
        self::method(function, method, problems);
        // A type may be named by a parameter, which only the trait knows.
        method.flawed_result = method.flawed_result.take().or_else(|| generic.clone());
        method.flawed |= method.flawed_result.is_some();
    }
    distinct(&mut service.methods, problems);
}

fn method(function: &TraitItemFn, method: &mut Method, problems: &mut Problems) {
    let before = problems.count();
    let generic = not_generic("a method", &function.sig.generics, problems);
    signature(&function.sig, problems);
    body(function, problems);
    method_name(method, problems);
    arguments(method, problems);
    let before_result = problems.count();
    travels(&method.output, Place::Result, problems);
    if let Some(error) = &method.error {
        travels(error, Place::Result, problems);
    }
    let result = problems.since(before_result);
    method.flawed_result = method.flawed_result.take().or(result).or(generic);
    method.flawed |= problems.count() > before;
    // No flaw of the signature, which stands as it is.
    delivery::check(function, method, problems);
}

fn trait_form(item: &ItemTrait, problems: &mut Problems) {
    if let Some(token) = &item.unsafety {
        problems.at(token, "a service is not `unsafe`");
    }
    if let Some(token) = &item.auto_token {
        problems.at(token, "a service is not an `auto` trait");
    }
    if let Some(clause) = &item.generics.where_clause {
        problems.at(clause, "a service has no `where`: bounds on `Self` are supertraits");
    }
    for item in &item.items {
        let (span, what) = match item {
            TraitItem::Fn(_) => continue,
            TraitItem::Type(item) => (item.type_token.span, "associated types"),
            TraitItem::Const(item) => (item.const_token.span, "associated constants"),
            TraitItem::Macro(item) => (item.mac.span(), "macro calls"),
            other => (other.span(), "anything like this"),
        };
        problems.at_span(span, format!("a service has `async fn`s, and not {what}"));
    }
}

fn not_generic(what: &str, generics: &Generics, problems: &mut Problems) -> Option<syn::Error> {
    let before = problems.count();
    if !generics.params.is_empty() {
        let message = format!(
            "{what} is not generic: what travels has one known type, for any caller and server"
        );
        problems.at(&generics.params, message);
    }
    problems.since(before)
}

fn signature(sig: &Signature, problems: &mut Problems) {
    if let Some(token) = &sig.constness {
        problems.at(token, "a method that is called from afar is not `const`");
    }
    if let Some(token) = &sig.unsafety {
        problems.at(token, "a method that is called from afar is not `unsafe`");
    }
    if let Some(abi) = &sig.abi {
        problems.at(abi, "a method that is called from afar has no ABI");
    }
    if sig.asyncness.is_none() {
        problems.at_span(sig.fn_token.span, "a method is asynchronous: write `async fn`");
    }
    if let Some(clause) = &sig.generics.where_clause {
        problems.at(clause, "a method has no `where`: its types are known");
    }
    if let Some(variadic) = &sig.variadic {
        problems.at(variadic, "a method has a fixed number of arguments: `...` has no meaning");
    }
    match sig.receiver() {
        None => {
            let message = "a method begins with `&self`, the service that is called";
            problems.at_span(sig.ident.span(), message);
        }
        Some(receiver) if !is_plain_reference(receiver) => {
            problems.at(receiver, "a service is shared by its calls: write `&self`");
        }
        Some(_) => {}
    }
}

fn is_plain_reference(receiver: &Receiver) -> bool {
    let unnamed = matches!(&receiver.reference, Some((_, None)));
    unnamed && receiver.mutability.is_none() && receiver.colon_token.is_none()
}

fn body(function: &TraitItemFn, problems: &mut Problems) {
    if let Some(block) = &function.default {
        let message = "a method has no body here: only a server answers it";
        problems.at_span(block.brace_token.span.join(), message);
    }
}

fn arguments(method: &Method, problems: &mut Problems) {
    let mut fields = HashSet::new();
    for arg in &method.args {
        travels(&arg.ty, Place::Argument, problems);
        if !fields.insert(&arg.wire) {
            let message = format!("two arguments of this method are called `{}`", arg.wire);
            problems.at_span(arg.ident.span(), message);
        }
    }
    if let Some(first_over) = method.args.get(MAX_ARGS) {
        let message = format!(
            "a method has at most {MAX_ARGS} arguments, and this one has {}: make a struct of them",
            method.args.len()
        );
        problems.at_span(first_over.ident.span(), message);
    }
}

fn method_name(method: &Method, problems: &mut Problems) {
    let wire = method.wire.value();
    let span = method.wire.span();
    if wire.starts_with('$') {
        problems.at_span(span, "names that begin with `$` are for methods that every server has");
    } else if let Err(reason) = characters("a method", &wire, MAX_METHOD_NAME) {
        problems.at_span(span, format!("{reason}: `#[rpc(name = \"add\")]`"));
    }
    let ident = method.ident.unraw().to_string();
    if CLIENT.contains(&ident.as_str()) {
        let message = format!(
            "a client has `{ident}` of its own: call the method otherwise, and keep its name on \
             the wire with `#[rpc(name = \"{ident}\")]`"
        );
        problems.at_span(method.ident.span(), message);
    }
}

/// Two methods of one name are a mistake, unless `#[cfg]` may choose between them.
fn distinct(methods: &mut [Method], problems: &mut Problems) {
    let mut seen: HashMap<String, (syn::Ident, bool)> = HashMap::new();
    for method in methods {
        let conditional = method.attrs.iter().any(|attr| attr.path().is_ident("cfg"));
        let wire = method.wire.value();
        match seen.get(&wire) {
            Some((_, true)) if conditional => {}
            Some((first, _)) => {
                let message =
                    format!("the method `{first}` has the name `{wire}` on the wire already");
                problems.at_span(method.wire.span(), message);
                method.flawed = true;
            }
            None => {
                seen.insert(wire, (method.ident.clone(), conditional));
            }
        }
    }
}

fn service_name(name: &str) -> Result<(), String> {
    characters("a service", name, MAX_SERVICE_NAME)?;
    if matches!(name, "." | "..") {
        return Err(format!("a service cannot be called `{name}`, since no topic can"));
    }
    Ok(())
}

fn characters(what: &str, name: &str, max: usize) -> Result<(), String> {
    let legal = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    if name.is_empty() {
        return Err(format!("the name of {what} is not empty"));
    }
    if let Some(other) = name.chars().find(|c| !legal(*c)) {
        return Err(format!(
            "the name of {what} is made of A-Z, a-z, 0-9, `.`, `_` and `-`, without {other:?}"
        ));
    }
    if name.len() > max {
        return Err(format!("the name of {what} has at most {max} bytes, not {}", name.len()));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use quote::quote;

    use super::*;
    use crate::{attr::ServiceOptions, parse};

    #[test]
    fn names_of_services_are_names_of_topics() {
        for good in ["Sum", "acme.Sum", "a-b_c.9", &"x".repeat(150)] {
            assert!(service_name(good).is_ok(), "{good}");
        }
        for bad in ["", ".", "..", "a b", "a/b", "Größe", "$x", &"x".repeat(151)] {
            assert!(service_name(bad).is_err(), "{bad}");
        }
    }

    fn mistakes(item: proc_macro2::TokenStream) -> Vec<String> {
        let mut problems = Problems::default();
        let item = parse::trait_item(item, &mut problems).unwrap();
        let mut parsed = parse::service(ServiceOptions::default(), item, &mut problems);
        service(&mut parsed, &mut problems);
        problems.messages()
    }

    #[test]
    fn what_a_compiler_refuses_by_itself_is_refused_here_too() {
        let found = mistakes(quote! {
            auto trait Sum {
                const fn f(&self) -> u8;
                async fn g(&self, x: u8, ...);
            }
        });
        let expected = ["not an `auto` trait", "not `const`", "write `async fn`", "`...`"];
        assert_eq!(found.len(), expected.len(), "{found:?}");
        assert!(found.iter().zip(expected).all(|(found, part)| found.contains(part)), "{found:?}");
    }

    #[test]
    fn each_mistake_in_a_type_is_found() {
        let found = mistakes(quote! {
            trait Sum {
                async fn f(&self, a: (&u8, Vec<impl X>), b: fn(&u8) -> Self) -> Cow<'static, u8>;
                async fn g(&self, a: Streaming<u8>, b: _) -> Result<impl Stream, &u8>;
            }
        });
        assert_eq!(found.len(), 9, "{found:?}");
    }

    #[test]
    fn ordinary_types_are_no_mistake() {
        let found = mistakes(quote! {
            trait Sum {
                async fn f(&self, a: HashMap<String, [u8; N]>, b: <A as B>::C, c: ::a::B);
                async fn g(&self, a: Streaming, b: Option<Box<dyn Any>>) -> (u8, Stream);
            }
        });
        assert_eq!(found, [] as [&str; 0]);
    }

    #[test]
    fn only_cfg_lets_two_methods_share_a_name() {
        let both = quote! {
            trait Sum {
                #[cfg(unix)] async fn f(&self);
                #[cfg(not(unix))] async fn f(&self);
            }
        };
        assert!(mistakes(both).is_empty());
        let one = quote! {
            trait Sum {
                async fn f(&self);
                #[cfg(unix)] #[rpc(name = "f")] async fn g(&self);
            }
        };
        assert_eq!(mistakes(one).len(), 1);
    }
}
