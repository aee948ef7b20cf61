//! What descriptors say of a signature: types and documentation as text, and the fingerprint.
//!
//! The text must not depend on the compiler that ran the macro, since two programs compare their
//! fingerprints: so tokens are spaced here, by a rule of our own, rather than by `to_string`.

use proc_macro2::{Delimiter, Spacing, TokenStream, TokenTree};
use quote::ToTokens;
use syn::{Attribute, Expr, Lit, Meta};

/// Tokens in one line, spaced as a person would write a type: `HashMap<String, [u8; 4]>`.
pub(crate) fn of(tokens: impl ToTokens) -> String {
    let mut text = Text::default();
    text.stream(tokens.into_token_stream());
    text.out
}

#[derive(Default)]
struct Text {
    out: String,
    /// The last token, where it decides whether a space follows.
    last: Last,
}

#[derive(Default, PartialEq, Clone, Copy)]
enum Last {
    #[default]
    Tight,
    Word,
    /// A word that never touches what follows it: `dyn`, `mut`.
    Keyword,
    /// A closing bracket, which a word does not touch: `for<'a> fn()`.
    Close,
    /// A mark that is followed by a space: a comma.
    Spaced,
}

impl Text {
    fn stream(&mut self, tokens: TokenStream) {
        let mut tokens = tokens.into_iter().peekable();
        while let Some(token) = tokens.next() {
            match token {
                TokenTree::Group(group) => {
                    let (open, close) = match group.delimiter() {
                        Delimiter::Parenthesis => ("(", ")"),
                        Delimiter::Bracket => ("[", "]"),
                        Delimiter::Brace => ("{", "}"),
                        // What a `macro_rules!` fragment is wrapped in: not written by anyone.
                        Delimiter::None => {
                            self.stream(group.stream());
                            continue;
                        }
                    };
                    self.mark(open, Last::Tight);
                    self.stream(group.stream());
                    self.last = Last::Tight;
                    self.mark(close, Last::Close);
                }
                TokenTree::Ident(ident) => self.word(&ident.to_string()),
                TokenTree::Literal(literal) => self.word(&literal.to_string()),
                TokenTree::Punct(punct) => {
                    let next = match tokens.peek() {
                        Some(TokenTree::Punct(next)) if punct.spacing() == Spacing::Joint => {
                            Some(next.as_char())
                        }
                        _ => None,
                    };
                    match (punct.as_char(), next) {
                        ('-', Some('>')) => {
                            tokens.next();
                            self.infix("->");
                        }
                        (mark @ ('=' | '+'), _) => self.infix(mark.encode_utf8(&mut [0; 4])),
                        (mark @ (',' | ';'), _) => {
                            self.last = Last::Tight;
                            self.mark(mark.encode_utf8(&mut [0; 4]), Last::Spaced);
                        }
                        ('>', _) => {
                            self.last = Last::Tight;
                            self.mark(">", Last::Close);
                        }
                        ('\'', _) => {
                            let name = tokens.next().map(|name| name.to_string());
                            self.word(&format!("'{}", name.unwrap_or_default()));
                        }
                        (mark, _) => self.mark(mark.encode_utf8(&mut [0; 4]), Last::Tight),
                    }
                }
            }
        }
    }

    fn word(&mut self, word: &str) {
        if self.last != Last::Tight {
            self.out.push(' ');
        }
        self.out.push_str(word);
        self.last = match word {
            "dyn" | "mut" | "const" | "impl" | "as" => Last::Keyword,
            _ => Last::Word,
        };
    }

    fn mark(&mut self, mark: &str, then: Last) {
        if matches!(self.last, Last::Keyword | Last::Spaced) {
            self.out.push(' ');
        }
        self.out.push_str(mark);
        self.last = then;
    }

    fn infix(&mut self, mark: &str) {
        self.out.push(' ');
        self.out.push_str(mark);
        self.last = Last::Spaced;
    }
}

/// The documentation that stands in `attrs` as text; what a macro would compute is left out.
pub(crate) fn doc(attrs: &[Attribute]) -> String {
    let mut out = String::new();
    for attr in attrs.iter().filter(|attr| attr.path().is_ident("doc")) {
        let Meta::NameValue(meta) = &attr.meta else { continue };
        let Expr::Lit(value) = &meta.value else { continue };
        let Lit::Str(text) = &value.lit else { continue };
        for line in text.value().split('\n') {
            out.push_str(line.strip_prefix(' ').unwrap_or(line).trim_end());
            out.push('\n');
        }
    }
    out.trim().to_owned()
}

/// FNV-1a, 32 bits: a hash that anyone can compute again from the descriptor's texts.
pub(crate) fn fnv1a(text: &str) -> u32 {
    text.bytes().fold(0x811c_9dc5, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn types_are_spaced_as_a_person_writes_them() {
        for text in [
            "i64",
            "()",
            "(u8, String)",
            "Vec<u8>",
            "HashMap<String, Vec<[u8; 4]>>",
            "::std::collections::BTreeMap<r#type, Option<()>>",
            "Box<dyn Fn(u8, u8) -> u8 + Send>",
            "<A as B>::C",
            "impl Stream<Item = Event>",
            "&'a mut str",
            "*const u8",
            "for<'a> fn(&'a str) -> bool",
            "Array<{N}>",
            "Either<Either<u8, u16>, -1>",
        ] {
            let tokens: TokenStream = text.parse().unwrap();
            assert_eq!(of(tokens), text);
        }
    }

    #[test]
    fn text_does_not_depend_on_the_spacing_in_the_source() {
        let tokens: TokenStream = "HashMap < String ,\n [ u8 ;4 ] >".parse().unwrap();
        assert_eq!(of(tokens), "HashMap<String, [u8; 4]>");
    }

    #[test]
    fn fragments_of_macro_rules_leave_no_trace() {
        let inner: TokenStream = "Vec<u8>".parse().unwrap();
        let group = proc_macro2::Group::new(Delimiter::None, inner);
        assert_eq!(of(quote::quote!(Option<#group>)), "Option<Vec<u8>>");
    }

    #[test]
    fn documentation_loses_its_margin_and_keeps_its_lines() {
        let item: syn::ItemStruct = syn::parse_quote! {
            /// One.
            ///
            ///     code
            #[doc = include_str!("x")]
            /// Two.
            struct X;
        };
        assert_eq!(doc(&item.attrs), "One.\n\n    code\nTwo.");
    }

    #[test]
    fn fnv1a_agrees_with_its_published_vectors() {
        assert_eq!(fnv1a(""), 0x811c_9dc5);
        assert_eq!(fnv1a("a"), 0xe40c_292c);
        assert_eq!(fnv1a("foobar"), 0xbf9c_f968);
    }
}
