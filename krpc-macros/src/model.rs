//! A service as it was written: what [`parse`](crate::parse) found and
//! [`expand`](crate::expand) needs.

use std::{collections::HashSet, time::Duration};

use proc_macro2::{Ident, Span};
use quote::format_ident;
use syn::{Attribute, Expr, ItemTrait, LitStr, Path, TraitItem, TraitItemFn, Type, ext::IdentExt};

use crate::text;

/// The trait, and what was said about it.
pub(crate) struct Service {
    /// The trait as the user gets it back, but for `async`: attributes of ours are taken off.
    pub(crate) item: ItemTrait,
    /// Its name in topics and paths, at the place where it was written.
    pub(crate) name: LitStr,
    pub(crate) version: String,
    /// Where the crate `krpc` is found; absolute, so that it holds in any module.
    pub(crate) krpc: Path,
    /// One for each `fn` of the trait, in its order.
    pub(crate) methods: Vec<Method>,
}

/// One method.
pub(crate) struct Method {
    pub(crate) ident: Ident,
    /// Its name on the wire, at the place where it was written.
    pub(crate) wire: LitStr,
    /// Its attributes, without ours.
    pub(crate) attrs: Vec<Attribute>,
    /// The type of `cx`, if the method asks for the context.
    pub(crate) context: Option<Type>,
    /// What travels.
    pub(crate) args: Vec<Arg>,
    /// `T`, of `T` or of `Result<T, E>`.
    pub(crate) output: Type,
    /// `E`, if the method returns a `Result<T, E>`.
    pub(crate) error: Option<Type>,
    pub(crate) timeout: Option<Duration>,
    pub(crate) idempotent: bool,
    pub(crate) delivery: Delivery,
    /// The names of what is generated for it, distinct among the methods of its trait.
    pub(crate) names: Names,
    /// Whether a mistake was found in it, so that its signature cannot be relied on.
    pub(crate) flawed: bool,
    /// The first mistake that was found in what it returns.
    pub(crate) flawed_result: Option<syn::Error>,
}

/// What a method promises of the delivery of its calls, and where it says so.
#[derive(Default)]
pub(crate) struct Delivery {
    /// An expression over the arguments.
    pub(crate) key: Option<Expr>,
    pub(crate) one_way: Option<Span>,
    pub(crate) at_most_once: Option<Span>,
    pub(crate) retry: Option<Retry>,
    pub(crate) retention: Option<(Span, Duration)>,
}

/// How often a server executes a call, and when.
pub(crate) struct Retry {
    pub(crate) place: Span,
    /// Executions in all.
    pub(crate) max: u32,
    /// The first pause.
    pub(crate) first: Duration,
    /// The longest pause.
    pub(crate) most: Duration,
    pub(crate) then: Then,
}

/// What follows the last failure.
pub(crate) enum Then {
    DeadLetter,
    Drop,
}

/// One argument that travels.
pub(crate) struct Arg {
    pub(crate) ident: Ident,
    pub(crate) ty: Type,
    /// `#[serde(..)]`, for the field that carries it.
    pub(crate) serde: Vec<Attribute>,
    /// Its field's name on the wire.
    pub(crate) wire: String,
}

/// Generated names of one method.
pub(crate) struct Names {
    /// The struct of its arguments, beside the trait: `__Sum_AddArgs`.
    pub(crate) args: Ident,
    /// Its descriptor, in the hidden module: `ADD`.
    pub(crate) descriptor: Ident,
}

impl Service {
    /// The syntax of each method beside its model.
    pub(crate) fn functions(&self) -> impl Iterator<Item = (&TraitItemFn, &Method)> {
        let functions = self.item.items.iter().filter_map(|item| match item {
            TraitItem::Fn(function) => Some(function),
            _ => None,
        });
        functions.zip(&self.methods)
    }

    pub(crate) fn client(&self) -> Ident {
        self.generated(&format!("{}Client", self.item.ident.unraw()))
    }

    pub(crate) fn server(&self) -> Ident {
        self.generated(&format!("{}Server", self.item.ident.unraw()))
    }

    /// The hidden module.
    pub(crate) fn module(&self) -> Ident {
        self.generated(&format!("__krpc_{}", snake(&self.item.ident.unraw().to_string())))
    }

    /// The parameter for the user's implementation, which must not hide the trait's own name.
    pub(crate) fn implementor(&self) -> Ident {
        format_ident!("{}", if self.item.ident == "S" { "T" } else { "S" })
    }

    fn generated(&self, name: &str) -> Ident {
        Ident::new(name, ours(self.item.ident.span()))
    }
}

impl Method {
    /// The method's name, at the user's place.
    pub(crate) fn name(&self) -> Ident {
        let mut name = self.ident.clone();
        name.set_span(ours(self.ident.span()));
        name
    }

    /// A hash of what both sides must agree on: names and types of the arguments, value, error.
    pub(crate) fn fingerprint(&self) -> u32 {
        let mut signature = String::new();
        for arg in &self.args {
            signature.push_str(&format!("{}: {}, ", arg.wire, text::of(&arg.ty)));
        }
        signature.push_str(&format!("-> {}", text::of(&self.output)));
        if let Some(error) = &self.error {
            signature.push_str(&format!(" ! {}", text::of(error)));
        }
        text::fnv1a(&signature)
    }

    /// Where its result was written, or else its name.
    pub(crate) fn output_span(&self) -> Span {
        match &self.output {
            Type::Tuple(unit) if unit.elems.is_empty() => self.ident.span(),
            output => syn::spanned::Spanned::span(output),
        }
    }
}

impl Arg {
    /// The argument's name, at the user's place.
    pub(crate) fn name(&self) -> Ident {
        let mut name = self.ident.clone();
        name.set_span(ours(self.ident.span()));
        name
    }
}

/// The same place in the source, but as code of the macro: tools still lead to what the user
/// wrote, and lints do not hold the user to what we wrote.
pub(crate) fn ours(span: Span) -> Span {
    span.resolved_at(Span::call_site())
}

/// Names for `methods`, in order. `get_x` and `getX` would share theirs: the second gets a number.
pub(crate) fn names<'a>(
    service: &Ident,
    methods: impl Iterator<Item = &'a Ident>,
) -> impl Iterator<Item = Names> {
    // The service's own descriptor.
    let mut taken = HashSet::from(["SERVICE".to_owned()]);
    let mut distinct = move |name: String| {
        let mut candidate = name.clone();
        let mut number = 2;
        while !taken.insert(candidate.clone()) {
            candidate = format!("{name}_{number}");
            number += 1;
        }
        candidate
    };
    methods.map(move |method| {
        let (name, span) = (method.unraw().to_string(), ours(method.span()));
        let args = distinct(format!("__{}_{}Args", service.unraw(), camel(&name)));
        let descriptor = distinct(name.to_uppercase());
        Names { args: Ident::new(&args, span), descriptor: Ident::new(&descriptor, span) }
    })
}

/// `get_x` → `GetX`.
fn camel(name: &str) -> String {
    let mut out = String::new();
    for part in name.split('_') {
        let mut chars = part.chars();
        out.extend(chars.next().into_iter().flat_map(char::to_uppercase));
        out.extend(chars);
    }
    out
}

/// `GetX` → `get_x`.
fn snake(name: &str) -> String {
    let mut out = String::new();
    for c in name.chars() {
        if c.is_uppercase() && !out.is_empty() {
            out.push('_');
        }
        out.extend(c.to_lowercase());
    }
    out
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn ident(name: &str) -> Ident {
        Ident::new(name, Span::call_site())
    }

    #[test]
    fn generated_names_are_distinct() {
        let methods = ["get_x", "getX", "GET_X", "service", "_get_x"].map(ident);
        let names: Vec<_> = names(&ident("Sum"), methods.iter()).collect();
        let all: HashSet<_> =
            names.iter().flat_map(|n| [n.args.to_string(), n.descriptor.to_string()]).collect();
        assert_eq!(all.len(), 10);
        assert!(!all.contains("SERVICE"));
        assert_eq!(names[0].args, "__Sum_GetXArgs");
        assert_eq!(names[0].descriptor, "GET_X");
    }

    #[test]
    fn a_method_and_a_longer_trait_do_not_share_a_name() {
        let first = names(&ident("Order"), [ident("item_add")].iter()).next().unwrap();
        let second = names(&ident("OrderItem"), [ident("add")].iter()).next().unwrap();
        assert_ne!(first.args, second.args);
    }

    #[test]
    fn snake_keeps_different_names_apart() {
        assert_eq!(snake("Sum"), "sum");
        assert_eq!(snake("KeyValue"), "key_value");
        assert_ne!(snake("SUM"), snake("Sum"));
    }
}
