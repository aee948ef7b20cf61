//! Whether the values of a type can be sent: they own what they hold, and the type is one that both
//! sides know. What serde makes of it is asked by the compiler.

use syn::{GenericArgument, PathArguments, Type, TypeParamBound, TypeReference, visit::Visit};

use crate::{parse::bare, problems::Problems, text};

/// Where a type stands.
#[derive(Clone, Copy)]
pub(crate) enum Place {
    Argument,
    Result,
}

/// Whether a value of this type can be sent: it must own what it holds, and be one known type.
pub(crate) fn travels(ty: &Type, place: Place, problems: &mut Problems) {
    Travels { place, problems }.visit_type(ty);
}

struct Travels<'a> {
    place: Place,
    problems: &'a mut Problems,
}

impl Travels<'_> {
    fn borrowed(&mut self, tokens: impl quote::ToTokens, instead: Option<String>) {
        let instead = instead.map_or(String::new(), |owned| format!(": take `{owned}`"));
        let message = match self.place {
            Place::Argument => "an argument is decoded from a message, so it cannot be borrowed",
            Place::Result => "a result is sent in a message, so it cannot be borrowed",
        };
        let instead = match self.place {
            Place::Argument => instead,
            Place::Result => instead.replace("take", "return"),
        };
        self.problems.at(tokens, format!("{message}{instead}"));
    }
}

impl<'ast> Visit<'ast> for Travels<'_> {
    fn visit_type(&mut self, ty: &'ast Type) {
        match ty {
            // Reported once, whatever is inside.
            Type::Reference(reference) => self.borrowed(reference, owned(reference)),
            Type::ImplTrait(opaque) => {
                let streams = opaque.bounds.iter().any(|bound| match bound {
                    TypeParamBound::Trait(bound) => ends_in(&bound.path, "Stream"),
                    _ => false,
                });
                let message = if streams {
                    "streams are not supported in this version of krpc"
                } else {
                    "`impl` has no meaning here: the other side must know the type, so name it"
                };
                self.problems.at(opaque, message);
            }
            Type::Infer(_) => self.problems.at(ty, "the type is written out: it is sent"),
            Type::Path(path)
                if ends_in(&path.path, "Streaming")
                    && path.path.segments.last().is_some_and(|last| !last.arguments.is_none()) =>
            {
                self.problems.at(ty, "streams are not supported in this version of krpc");
            }
            _ => syn::visit::visit_type(self, ty),
        }
    }

    fn visit_lifetime(&mut self, lifetime: &'ast syn::Lifetime) {
        self.borrowed(lifetime, None);
    }

    fn visit_path(&mut self, path: &'ast syn::Path) {
        match path.segments.first() {
            Some(first) if path.leading_colon.is_none() && first.ident == "Self" => {
                self.problems.at(
                    path,
                    "`Self` is the service, which stays where it is: name the type that travels",
                );
            }
            _ => syn::visit::visit_path(self, path),
        }
    }
}

fn ends_in(path: &syn::Path, name: &str) -> bool {
    path.segments.last().is_some_and(|last| last.ident == name)
}

/// The owned type that stands for a borrowed one, if it is certain.
fn owned(reference: &TypeReference) -> Option<String> {
    let inner = bare(&reference.elem);
    match inner {
        Type::Slice(slice) => Some(format!("Vec<{}>", text::of(&slice.elem))),
        Type::Path(path) if path.path.is_ident("str") => Some("String".to_owned()),
        Type::Path(path) => {
            let last = path.path.segments.last()?;
            let lifetimes = match &last.arguments {
                PathArguments::AngleBracketed(list) => {
                    list.args.iter().any(|arg| matches!(arg, GenericArgument::Lifetime(_)))
                }
                _ => false,
            };
            (!lifetimes).then(|| text::of(inner))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn owned_of(text: &str) -> Option<String> {
        let Ok(Type::Reference(reference)) = syn::parse_str(text) else { panic!("a reference") };
        owned(&reference)
    }

    #[test]
    fn owned_types_are_proposed_where_they_are_certain() {
        assert_eq!(owned_of("&str").as_deref(), Some("String"));
        assert_eq!(owned_of("&'a [u8]").as_deref(), Some("Vec<u8>"));
        assert_eq!(owned_of("&mut Row").as_deref(), Some("Row"));
        assert_eq!(owned_of("&Cow<'a, str>"), None);
        assert_eq!(owned_of("&dyn Debug"), None);
    }
}
