//! From tokens to the [`Service`]: takes our attributes off, tells context, arguments and result
//! apart by their form. Whether what was found can be served is asked by
//! [`validate`](crate::validate).

use proc_macro2::{Span, TokenStream};
use syn::{
    Attribute, FnArg, GenericArgument, Ident, Item, ItemTrait, LitStr, Meta, Pat, PatType, Path,
    PathArguments, ReturnType, Token, TraitItem, TraitItemFn, Type, ext::IdentExt, parse_quote,
    punctuated::Punctuated, spanned::Spanned,
};

use crate::{
    attr::{MethodOptions, ServiceOptions},
    model::{self, Arg, Method, Service},
    problems::Problems,
};

/// The version of a service that states none.
const DEFAULT_VERSION: &str = "1.0";

/// The trait that the attribute stands on; `None` if it stands on something else.
pub(crate) fn trait_item(tokens: TokenStream, problems: &mut Problems) -> Option<ItemTrait> {
    let (what, span) = match syn::parse2::<Item>(tokens) {
        Ok(Item::Trait(item)) => return Some(item),
        Ok(Item::TraitAlias(item)) => (", not on a trait alias", item.trait_token.span),
        Ok(Item::Struct(item)) => (", not on a struct", item.struct_token.span),
        Ok(Item::Enum(item)) => (", not on an enum", item.enum_token.span),
        Ok(Item::Impl(item)) => (", not on an `impl`", item.impl_token.span),
        Ok(Item::Fn(item)) => (", not on a function", item.sig.fn_token.span),
        Ok(Item::Mod(item)) => (", not on a module", item.mod_token.span),
        Ok(_) | Err(_) => ("", Span::call_site()),
    };
    problems.at_span(span, format!("`#[krpc::service]` belongs on a trait{what}"));
    None
}

/// The model of `item`.
pub(crate) fn service(
    options: ServiceOptions,
    mut item: ItemTrait,
    problems: &mut Problems,
) -> Service {
    trait_attributes(&mut item.attrs, problems);
    let mut methods = Vec::new();
    let idents: Vec<Ident> = item
        .items
        .iter()
        .filter_map(|item| match item {
            TraitItem::Fn(function) => Some(function.sig.ident.clone()),
            _ => None,
        })
        .collect();
    let mut names = model::names(&item.ident, idents.iter());
    for item in &mut item.items {
        if let TraitItem::Fn(function) = item {
            let names = names.next().expect("there is a name for each function");
            methods.push(method(function, names, problems));
        }
    }
    drop(names);
    let default_name = || LitStr::new(&item.ident.unraw().to_string(), item.ident.span());
    Service {
        name: options.name.unwrap_or_else(default_name),
        version: options.version.map_or(DEFAULT_VERSION.to_owned(), |version| version.value()),
        krpc: options.krpc.unwrap_or_else(|| parse_quote!(::krpc)),
        methods,
        item,
    }
}

/// Refuses attributes that cannot stand beside ours, and takes them off: each would only cause
/// more errors.
fn trait_attributes(attrs: &mut Vec<Attribute>, problems: &mut Problems) {
    attrs.retain(|attr| {
        let path = attr.path();
        let ends_in = |name| path.segments.last().is_some_and(|last| last.ident == name);
        let message = if path.is_ident("rpc") {
            "`#[rpc]` belongs on a method; a service's options are written \
             `#[krpc::service(name = .., version = ..)]`"
        } else if ends_in("service") && path.segments[0].ident == "krpc" {
            "`#[krpc::service]` is given twice"
        } else if ends_in("async_trait") {
            "`async_trait` is not needed: `#[krpc::service]` makes `async fn` work in this trait"
        } else {
            return true;
        };
        problems.at(attr, message);
        false
    });
}

fn method(function: &mut TraitItemFn, names: model::Names, problems: &mut Problems) -> Method {
    let before = problems.count();
    let options = MethodOptions::take(&mut function.attrs, problems);
    conditional(&mut function.attrs, problems);
    let (context, args) = arguments(&mut function.sig.inputs, problems);
    let before_result = problems.count();
    let (output, error) = result(&function.sig.output, problems);
    let ident = function.sig.ident.clone();
    let default_name = || LitStr::new(&ident.unraw().to_string(), ident.span());
    Method {
        wire: options.name.unwrap_or_else(default_name),
        attrs: function.attrs.clone(),
        context,
        args,
        output,
        error,
        timeout: options.timeout,
        idempotent: options.idempotent,
        delivery: options.delivery,
        names,
        flawed: problems.count() > before,
        flawed_result: problems.since(before_result),
        ident,
    }
}

/// What `cfg_attr` hides from us would be missing on the client or the server.
fn conditional(attrs: &mut Vec<Attribute>, problems: &mut Problems) {
    attrs.retain(|attr| {
        let metas = match &attr.meta {
            Meta::List(list) if list.path.is_ident("cfg_attr") => {
                list.parse_args_with(Punctuated::<Meta, Token![,]>::parse_terminated)
            }
            _ => return true,
        };
        let before = problems.count();
        for meta in metas.iter().flatten().skip(1) {
            if meta.path().is_ident("rpc") {
                problems.at(meta, "`rpc` options cannot depend on `cfg_attr`");
            } else if meta.path().is_ident("cfg") {
                problems.at(meta, "write `#[cfg(any(..))]` instead of a `cfg` in `cfg_attr`");
            }
        }
        problems.count() == before
    });
}

/// Tells the context from what travels. Takes `#[serde]` off, for the arguments' struct.
fn arguments(
    inputs: &mut Punctuated<FnArg, Token![,]>,
    problems: &mut Problems,
) -> (Option<Type>, Vec<Arg>) {
    let mut context = None;
    let mut args = Vec::new();
    let mut first = true;
    for input in inputs {
        let input = match input {
            FnArg::Typed(input) => input,
            FnArg::Receiver(receiver) => {
                for attr in &receiver.attrs {
                    problems.at(attr, "`self` takes no attributes here");
                }
                continue;
            }
        };
        let serde = serde_attributes(&mut input.attrs, problems);
        let ident = plain(&input.pat, problems);
        match Position::of(&input.ty) {
            Position::Argument => args.extend(ident.map(|ident| Arg {
                wire: wire_name(&ident, &serde),
                ident,
                ty: (*input.ty).clone(),
                serde,
            })),
            Position::Context if first => {
                for attr in serde {
                    problems.at(attr, "the context does not travel: `serde` has no say in it");
                }
                context = Some((*input.ty).clone());
            }
            Position::Context if context.is_some() => {
                problems.at(input, "a method has one context: take this one away");
            }
            Position::Context => {
                problems.at(input, "the context comes first, right after `&self`");
            }
            Position::NearlyContext => {
                let message = "the context is taken as `cx: &Context`; a type of your own that is \
                               called `Context` must be given another name to travel";
                problems.at(&input.ty, message);
            }
        }
        first = false;
    }
    (context, args)
}

/// What a parameter is, by the form of its type.
enum Position {
    Argument,
    Context,
    /// `Context`, `&mut Context`, `&'a Context`.
    NearlyContext,
}

impl Position {
    fn of(ty: &Type) -> Self {
        match bare(ty) {
            Type::Path(path) if is_context(&path.path) => Self::NearlyContext,
            Type::Reference(reference) => match bare(&reference.elem) {
                Type::Path(path) if is_context(&path.path) => {
                    let named = reference.lifetime.as_ref().is_some_and(|name| name.ident != "_");
                    if named || reference.mutability.is_some() {
                        Self::NearlyContext
                    } else {
                        Self::Context
                    }
                }
                _ => Self::Argument,
            },
            _ => Self::Argument,
        }
    }
}

fn is_context(path: &Path) -> bool {
    path.segments.last().is_some_and(|last| last.ident == "Context" && last.arguments.is_none())
}

/// A type without the parentheses and invisible groups around it.
pub(crate) fn bare(mut ty: &Type) -> &Type {
    loop {
        ty = match ty {
            Type::Group(group) => &group.elem,
            Type::Paren(paren) => &paren.elem,
            ty => return ty,
        }
    }
}

fn serde_attributes(attrs: &mut Vec<Attribute>, problems: &mut Problems) -> Vec<Attribute> {
    let serde = attrs.extract_if(.., |attr| attr.path().is_ident("serde")).collect();
    for attr in attrs.drain(..) {
        let message = match attr.path().get_ident().map(ToString::to_string).as_deref() {
            Some("cfg" | "cfg_attr") => {
                "an argument cannot depend on `cfg`, since both sides must agree on it: \
                 put `#[cfg]` on the method"
            }
            Some("rpc") => "`#[rpc]` belongs on a method",
            Some("doc") => "an argument has no documentation of its own: describe it at the method",
            _ => "an argument takes no attribute but `#[serde(..)]`",
        };
        problems.at(attr, message);
    }
    serde
}

/// The name of an argument, which is its field on the wire.
fn plain(pat: &Pat, problems: &mut Problems) -> Option<Ident> {
    match pat {
        Pat::Ident(name)
            if name.by_ref.is_none() && name.mutability.is_none() && name.subpat.is_none() =>
        {
            return Some(name.ident.clone());
        }
        Pat::Ident(name) => {
            let message = format!("an argument is a plain name here: write `{}`", name.ident);
            problems.at(pat, message);
        }
        Pat::Wild(_) => problems.at(pat, "an argument needs a name: it is its field on the wire"),
        _ => problems.at(pat, "an argument is one plain name: take it apart in the implementation"),
    }
    None
}

/// The field's name on the wire: what `#[serde(rename = "..")]` says, or the argument's own.
fn wire_name(ident: &Ident, serde: &[Attribute]) -> String {
    let mut name = ident.unraw().to_string();
    for attr in serde {
        let metas = attr.parse_args_with(Punctuated::<Meta, Token![,]>::parse_terminated);
        for meta in metas.into_iter().flatten() {
            if let Meta::NameValue(meta) = meta
                && meta.path.is_ident("rename")
                && let syn::Expr::Lit(syn::ExprLit { lit: syn::Lit::Str(text), .. }) = meta.value
            {
                name = text.value();
            }
        }
    }
    name
}

/// `T` and perhaps `E`, recognised by form: a path that ends in `Result<T, E>`.
fn result(output: &ReturnType, problems: &mut Problems) -> (Type, Option<Type>) {
    let unit = |span: Span| {
        Type::Tuple(syn::TypeTuple {
            paren_token: syn::token::Paren(span),
            elems: Punctuated::new(),
        })
    };
    let ReturnType::Type(_, ty) = output else { return (unit(Span::call_site()), None) };
    let Type::Path(path) = bare(ty) else { return ((**ty).clone(), None) };
    let Some(last) = path.path.segments.last().filter(|last| last.ident == "Result") else {
        return ((**ty).clone(), None);
    };
    let types: Vec<&Type> = match &last.arguments {
        PathArguments::AngleBracketed(list) => list
            .args
            .iter()
            .filter_map(|arg| match arg {
                GenericArgument::Type(ty) => Some(ty),
                _ => None,
            })
            .collect(),
        _ => Vec::new(),
    };
    if let [value, error] = types[..] {
        return (value.clone(), Some(error.clone()));
    }
    problems.at(ty, "the error type travels too: spell it out, as in `Result<T, E>`");
    (types.first().map_or_else(|| unit(ty.span()), |ty| (*ty).clone()), None)
}

/// Whether a parameter is a context or was meant as one: it does not travel.
pub(crate) fn is_context_argument(input: &PatType) -> bool {
    !matches!(Position::of(&input.ty), Position::Argument)
}
