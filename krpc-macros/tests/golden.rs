//! Expansions as a person reads them: `tests/golden/*.rs`, each of the trait that stands under the
//! same name in `tests/golden/input`. Part of the crate's unit tests, since a crate of macros
//! exports nothing else. `KRPC_BLESS=1` writes them anew.

#![allow(clippy::unwrap_used)]

use std::{env, fs, path::Path};

use quote::ToTokens;
use syn::{Item, Meta};

use crate::expand;

#[test]
fn expansions() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden");
    let mut names: Vec<_> = fs::read_dir(folder.join("input"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name())
        .collect();
    names.sort();
    assert!(names.len() >= 6, "the goldens are gone");
    let mut stale = Vec::new();
    for name in &names {
        let input = fs::read_to_string(folder.join("input").join(name)).unwrap();
        let name = name.to_str().unwrap();
        let fresh = format!("// What tests/golden/input/{name} becomes.\n\n{}", expansion(&input));
        let golden = folder.join(name);
        if env::var_os("KRPC_BLESS").is_some_and(|bless| bless == "1") {
            fs::write(&golden, fresh).unwrap();
        } else if fs::read_to_string(&golden).unwrap_or_default() != fresh {
            stale.push(name);
        }
    }
    let goldens = fs::read_dir(&folder).unwrap().count() - 1;
    assert_eq!(goldens, names.len(), "a golden without an input, or the reverse");
    assert!(stale.is_empty(), "the expansion of {stale:?} changed; KRPC_BLESS=1 accepts it");
}

/// The file with each `#[krpc::service]` expanded.
fn expansion(input: &str) -> String {
    let file = syn::parse_file(input).unwrap();
    let mut items = Vec::new();
    for item in file.items {
        let Item::Trait(mut item) = item else { continue };
        let at = item.attrs.iter().position(|attr| {
            attr.path().segments.last().is_some_and(|last| last.ident == "service")
        });
        let attr = item.attrs.remove(at.unwrap());
        let options = match attr.meta {
            Meta::List(list) => list.tokens,
            _ => proc_macro2::TokenStream::new(),
        };
        let expanded = expand::service(options, item.to_token_stream());
        items.extend(syn::parse2::<syn::File>(expanded).unwrap().items);
    }
    prettyplease::unparse(&syn::File { shebang: None, attrs: Vec::new(), items })
}
