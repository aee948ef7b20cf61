//! Promises of delivery that cannot be kept, or that exclude each other.

use proc_macro2::{TokenStream, TokenTree};
use quote::ToTokens;
use syn::{Expr, FnArg, Ident, Pat, TraitItemFn, Type, ext::IdentExt};

use crate::{
    attr,
    model::{Arg, Method},
    parse,
    problems::Problems,
};

/// Finds every mistake in what `method` promises.
pub(super) fn check(function: &TraitItemFn, method: &Method, problems: &mut Problems) {
    let delivery = &method.delivery;
    if let Some(key) = &delivery.key {
        self::key(key, function, method, problems);
    }
    if delivery.one_way.is_some() && !is_unit(&method.output) {
        let message = "a one-way call ends before its method does, so nothing comes back: return \
                       nothing, or `Result<(), E>`, whose error asks for a retry";
        problems.at(&method.output, message);
    }
    if let Some(span) = delivery.at_most_once {
        if method.idempotent {
            let message = "`at_most_once` forbids what `idempotent` allows, to execute a call \
                           twice: take one of them away";
            problems.at_span(span, message);
        }
        if let Some(retry) = &delivery.retry {
            let message = "`retry` executes a call again, which `at_most_once` forbids";
            problems.at_span(retry.place, message);
        }
        if let Some((span, _)) = delivery.retention {
            let message = "`retention` is for calls with an idempotency key, which \
                           `at_most_once` calls do not have";
            problems.at_span(span, message);
        }
    }
}

fn is_unit(ty: &Type) -> bool {
    matches!(parse::bare(ty), Type::Tuple(tuple) if tuple.elems.is_empty())
}

/// A key is made by the client, of the arguments. What else is wrong with it the compiler finds, at
/// its own place.
fn key(key: &Expr, function: &TraitItemFn, method: &Method, problems: &mut Problems) {
    let inputs = function.sig.inputs.iter().filter_map(|input| match input {
        FnArg::Typed(input) => Some(input),
        FnArg::Receiver(_) => None,
    });
    let (contexts, args): (Vec<_>, Vec<_>) =
        inputs.partition(|input| parse::is_context_argument(input));
    let context = contexts.first().and_then(|input| match &*input.pat {
        Pat::Ident(pat) => Some(&pat.ident),
        _ => None,
    });
    let before = problems.count();
    servers(key.to_token_stream(), context, problems);
    // An argument with a mistake in it has no name here, and that mistake was reported.
    if problems.count() == before && args.len() == method.args.len() {
        unknown(key, &method.args, problems);
    }
}

/// A name alone is an argument; or a constant, by its spelling.
fn unknown(key: &Expr, args: &[Arg], problems: &mut Problems) {
    let Some(name) = name(key) else { return };
    let text = name.unraw().to_string();
    if !text.contains(char::is_lowercase) || args.iter().any(|arg| arg.ident == *name) {
        return;
    }
    let args: Vec<String> = args.iter().map(|arg| arg.ident.unraw().to_string()).collect();
    let hint = attr::meant(&text, args.iter().map(String::as_str));
    problems.at(name, format!("this method has no argument `{text}` to be its key{hint}"));
}

/// The one name that `key` is.
fn name(key: &Expr) -> Option<&Ident> {
    match key {
        Expr::Path(path) if path.qself.is_none() => path.path.get_ident(),
        Expr::Group(group) => name(&group.expr),
        Expr::Paren(paren) => name(&paren.expr),
        _ => None,
    }
}

/// What only a server has. The tokens are searched, since a macro's arguments are nothing else.
fn servers(key: TokenStream, context: Option<&Ident>, problems: &mut Problems) {
    let mut is_field = false;
    for token in key {
        match &token {
            TokenTree::Group(group) => servers(group.stream(), context, problems),
            TokenTree::Ident(ident) if *ident == "self" => {
                let message = "a key is made by the client, which has no `self` of the service: \
                               make it of the arguments";
                problems.at_span(ident.span(), message);
            }
            TokenTree::Ident(ident) if Some(ident) == context && !is_field => {
                let message = "a key is made by the client, which has no context: make it of the \
                               arguments";
                problems.at_span(ident.span(), message);
            }
            _ => {}
        }
        is_field = matches!(&token, TokenTree::Punct(punct) if punct.as_char() == '.');
    }
}
