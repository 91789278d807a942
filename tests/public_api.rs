//! The public API as a list, so that no change goes unnoticed: compares `docs/public-api.txt` with the sources.
//!
//! After an intended change, update the list, check the diff, and record the change in `CHANGELOG.md`:
//!
//! ```sh
//! STREAMLOG_UPDATE=1 cargo test --test public_api
//! git diff docs/public-api.txt
//! ```
//!
//! A removed or changed line breaks callers and takes a new major version (0.x: minor). A new line takes a new minor version (0.x: patch).
//! The list covers the exports of `src/lib.rs`, without private fields, bodies and documentation. This test reads the sources with syn, because
//! `cargo public-api` and rustdoc's JSON need nightly Rust. The sources do not say which types are `Send` and `Sync`: the compiler checks
//! that at the end of this file.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use quote::{ToTokens, quote};
use syn::spanned::Spanned;
use syn::{
    Attribute, Field, Fields, ImplItem, ImplItemConst, ImplItemType, Item, ItemEnum, ItemImpl, ItemMod,
    ItemStruct, ItemTrait, TraitItem, TraitItemConst, TraitItemType, Type, Variant, Visibility,
};

#[allow(dead_code)] // `tests/tidy.rs` uses the rest.
mod source;

use source::{Import, Source, imports, sources};

const ROOT: &str = env!("CARGO_MANIFEST_DIR");

/// The source text from the first to the last of the tokens, on one line and without the `;` or `,` at its end.
fn text(tokens: impl ToTokens) -> String {
    let source = tokens.span().source_text().unwrap_or_default();
    let mut text = String::new();
    for line in source.lines().map(str::trim) {
        if line.starts_with([')', ']', '>', '}']) && text.ends_with(',') {
            text.pop();
        }
        let is_joined = text.ends_with(['(', '[', '<']) || line.starts_with([')', ']', '>', '.']);
        if !text.is_empty() && !is_joined {
            text.push(' ');
        }
        text.push_str(line);
    }
    text.trim_end_matches([';', ',']).to_owned()
}

/// The same with a space in front, unless it is empty.
fn spaced(tokens: impl ToTokens) -> String {
    let text = text(tokens);
    if text.is_empty() { text } else { format!(" {text}") }
}

/// The attributes that matter to callers.
fn attributes(all: &[Attribute]) -> String {
    let names = ["cfg", "cfg_attr", "derive", "must_use", "non_exhaustive"];
    let listed = all.iter().filter(|attribute| names.iter().any(|name| attribute.path().is_ident(name)));
    listed.map(spaced).collect()
}

fn is_hidden(all: &[Attribute]) -> bool {
    all.iter().any(|attribute| text(attribute) == "#[doc(hidden)]")
}

fn is_public(visibility: &Visibility) -> bool {
    matches!(visibility, Visibility::Public(_))
}

fn public_name(item: &Item) -> Option<String> {
    let (visibility, name) = match item {
        Item::Const(item) => (&item.vis, &item.ident),
        Item::Enum(item) => (&item.vis, &item.ident),
        Item::Fn(item) => (&item.vis, &item.sig.ident),
        Item::Mod(item) => (&item.vis, &item.ident),
        Item::Struct(item) => (&item.vis, &item.ident),
        Item::Trait(item) => (&item.vis, &item.ident),
        Item::Type(item) => (&item.vis, &item.ident),
        _ => return None,
    };
    is_public(visibility).then(|| name.to_string())
}

/// The name of a struct, an enum or a trait, public or not.
fn type_name(item: &Item) -> Option<String> {
    match item {
        Item::Enum(ItemEnum { ident, .. })
        | Item::Struct(ItemStruct { ident, .. })
        | Item::Trait(ItemTrait { ident, .. }) => Some(ident.to_string()),
        _ => None,
    }
}

fn field(Field { ident, colon_token, ty, .. }: &Field) -> String {
    text(quote!(#ident #colon_token #ty))
}

fn variant(variant: &Variant) -> String {
    let fields = variant.fields.iter().map(field).collect::<Vec<_>>().join(", ");
    let fields = match variant.fields {
        Fields::Named(_) => format!(" {{ {fields} }}"),
        Fields::Unnamed(_) => format!("({fields})"),
        Fields::Unit => String::new(),
    };
    let value = variant.discriminant.as_ref().map(|(equals, value)| spaced(quote!(#equals #value)));
    let is_default = variant.attrs.iter().any(|attribute| attribute.path().is_ident("default"));
    let default = if is_default { " (default)" } else { "" };
    format!("{}{fields}{}{default}", variant.ident, value.unwrap_or_default())
}

fn trait_member(item: &TraitItem) -> String {
    match item {
        TraitItem::Const(TraitItemConst { const_token, semi_token, .. }) => {
            text(quote!(#const_token #semi_token))
        }
        TraitItem::Fn(item) => text(&item.sig),
        TraitItem::Type(TraitItemType { type_token, semi_token, .. }) => {
            text(quote!(#type_token #semi_token))
        }
        other => text(other),
    }
}

/// The lines for an item: its head, then its public fields, its variants, or the members of a trait.
fn definition(path: &str, item: &Item) -> Vec<String> {
    let mut members = vec![];
    let (head, attrs) = match item {
        Item::Struct(ItemStruct { attrs, generics, fields, .. }) => {
            let public = fields.iter().filter(|field| is_public(&field.vis));
            members.extend(public.map(|public| format!("{path}.{}", field(public))));
            let rest = if members.len() < fields.len() { " (and private fields)" } else { "" };
            (format!("struct {path}{}{}{rest}", text(generics), spaced(&generics.where_clause)), attrs)
        }
        Item::Enum(ItemEnum { attrs, generics, variants, .. }) => {
            members.extend(variants.iter().map(|item| format!("{path}::{}", variant(item))));
            (format!("enum {path}{}{}", text(generics), spaced(&generics.where_clause)), attrs)
        }
        Item::Trait(ItemTrait {
            attrs,
            unsafety,
            trait_token,
            generics,
            colon_token,
            supertraits,
            items,
            ..
        }) => {
            members.extend(items.iter().map(|item| format!("{path}::{}", trait_member(item))));
            let keyword = text(quote!(#unsafety #trait_token));
            let bounds = text(quote!(#colon_token #supertraits)) + &spaced(&generics.where_clause);
            (format!("{keyword} {path}{}{bounds}", text(generics)), attrs)
        }
        Item::Fn(item) => {
            let name = format!("fn {}", item.sig.ident);
            (text(&item.sig).replacen(&name, &format!("fn {path}"), 1), &item.attrs)
        }
        Item::Const(item) => {
            let (colon, end) = (&item.colon_token, &item.semi_token);
            (format!("const {path}{}", text(quote!(#colon #end))), &item.attrs)
        }
        Item::Type(item) => {
            let (equals, end) = (&item.eq_token, &item.semi_token);
            (format!("type {path}{}{}", text(&item.generics), spaced(quote!(#equals #end))), &item.attrs)
        }
        Item::Mod(item) => (format!("mod {path}"), &item.attrs),
        _ => unreachable!("it has a public name"),
    };
    [vec![head + &attributes(attrs)], members].concat()
}

/// The lines for an `impl` block that names one of the `named` types and none of the `hidden` ones.
fn implementation(item: &ItemImpl, named: &BTreeSet<String>, hidden: &BTreeSet<String>) -> Vec<String> {
    let ItemImpl { attrs, unsafety, impl_token, trait_, self_ty, generics, items, .. } = item;
    let where_clause = &generics.where_clause;
    let head = text(quote!(#unsafety #impl_token #self_ty #where_clause));
    let mentions = |names: &BTreeSet<String>| {
        head.split(|c: char| !c.is_alphanumeric() && c != '_').any(|word| names.contains(word))
    };
    if mentions(hidden) || !mentions(named) {
        return vec![];
    }
    if trait_.is_some() {
        let types = items.iter().filter_map(|item| match item {
            ImplItem::Type(ImplItemType { type_token, ty, .. }) => {
                Some(spaced(quote!(#type_token #ty)) + ";")
            }
            _ => None,
        });
        return vec![head.clone() + &types.collect::<String>() + &attributes(attrs)];
    }
    let name = match &**self_ty {
        Type::Path(own) => own.path.segments[0].ident.to_string(),
        _ => return vec![],
    };
    let members = items.iter().filter_map(|item| match item {
        ImplItem::Const(ImplItemConst { attrs, vis, const_token, semi_token, .. }) => {
            Some((vis, attrs, text(quote!(#const_token #semi_token))))
        }
        ImplItem::Fn(item) => Some((&item.vis, &item.attrs, text(&item.sig))),
        _ => None,
    });
    let public = members.filter(|(visibility, ..)| is_public(visibility));
    public.map(|(_, attrs, text)| format!("{name}::{text}{}", attributes(attrs))).collect()
}

/// What a file exports with `pub use`.
fn exports(source: &Source) -> Vec<Import> {
    let trees = source.code.items.iter().filter_map(|item| match item {
        Item::Use(item) if is_public(&item.vis) && !is_hidden(&item.attrs) => Some(&item.tree),
        _ => None,
    });
    trees.flat_map(imports).collect()
}

/// The lines for a module: what it exports and what it defines.
fn module(name: &str, source: &Source) -> Vec<String> {
    let exported = exports(source).into_iter().map(|import| format!("{name}::{}", import.name));
    let items = source.code.items.iter();
    let defined = items.filter_map(|item| Some(definition(&format!("{name}::{}", public_name(item)?), item)));
    exported.chain(defined.flatten()).collect()
}

/// The whole surface, one line for each item, sorted.
fn surface() -> String {
    let sources = sources();
    let file = |path: &[String]| sources.iter().find(|source| source.module() == path).unwrap();
    let items = || sources.iter().flat_map(|source| &source.code.items);
    let root = file(&[]);
    let mut lines = BTreeSet::new();
    let mut named = BTreeSet::new();
    for Import { path, name, .. } in exports(root) {
        let room = sources.iter().filter(|source| source.module().first() == path.first());
        let room = room.flat_map(|source| &source.code.items);
        let found: Vec<_> = room.filter(|item| public_name(item).as_ref() == Some(&name)).collect();
        let [item] = found[..] else {
            panic!(
                "src/lib.rs exports {name}, but src/{} defines {} public items of that name: define one, and export it without `as`",
                path[0],
                found.len()
            )
        };
        if let Item::Mod(_) = item {
            let items = file(&path).code.items.iter();
            named.extend(items.filter(|item| public_name(item).is_some()).filter_map(type_name));
            lines.extend(module(&name, file(&path)));
        } else {
            lines.extend(definition(&name, item));
        }
        named.insert(name);
    }
    let modules: Vec<_> = root.code.items.iter().filter_map(public_module).collect();
    // A layer that offers its names in a module: `pub use` of the files beside it.
    for layer in &modules {
        let name = layer.ident.to_string();
        for import in exports(file(std::slice::from_ref(&name))) {
            let mut path = [vec![name.clone()], import.path].concat();
            path.retain(|segment| segment != "self");
            let Some((item, file_path)) = path.split_last() else { continue };
            let Some(source) = sources.iter().find(|source| source.module() == file_path) else { continue };
            let defined =
                source.code.items.iter().filter(|defined| public_name(defined).as_ref() == Some(item));
            lines.extend(defined.flat_map(|defined| definition(&format!("{name}::{item}"), defined)));
            named.insert(import.name);
        }
    }
    let hidden = items().filter_map(type_name).filter(|name| !named.contains(name)).collect();
    for item in items() {
        if let Item::Impl(item) = item {
            lines.extend(implementation(item, &named, &hidden));
        }
    }
    for item in modules {
        let name = item.ident.to_string();
        lines.insert(format!("mod {name}{}", attributes(&item.attrs)));
        lines.extend(module(&name, file(std::slice::from_ref(&name))));
    }
    lines.extend(features());
    lines.into_iter().map(|line| line + "\n").collect()
}

fn public_module(item: &Item) -> Option<&ItemMod> {
    match item {
        Item::Mod(item) if is_public(&item.vis) && !is_hidden(&item.attrs) => Some(item),
        _ => None,
    }
}

fn features() -> Vec<String> {
    let manifest = fs::read_to_string(Path::new(ROOT).join("Cargo.toml")).unwrap();
    let section = manifest.lines().skip_while(|line| *line != "[features]").skip(1);
    let features = section.take_while(|line| !line.starts_with('[')).filter(|line| line.contains('='));
    features.map(|feature| format!("feature {feature}")).collect()
}

#[test]
fn the_public_surface_matches_the_list() {
    let found = surface();
    let list = Path::new(ROOT).join("docs/public-api.txt");
    if std::env::var_os("STREAMLOG_UPDATE").is_some() {
        fs::write(&list, &found).unwrap();
    }
    let listed = fs::read_to_string(&list).unwrap_or_default();
    let (was, is): (BTreeSet<&str>, BTreeSet<&str>) = (listed.lines().collect(), found.lines().collect());
    let removed = was.difference(&is).map(|line| format!("- {line}"));
    let added = is.difference(&was).map(|line| format!("+ {line}"));
    let changes: Vec<_> = removed.chain(added).collect();
    assert!(
        changes.is_empty(),
        "\nthe public surface has changed:\n{}\nif you mean this, run STREAMLOG_UPDATE=1 cargo test --test public_api; \
         otherwise, undo it\n",
        changes.join("\n")
    );
}

/// The lines for the items of a file in which `A` is public and `Hidden` is not.
fn lines(code: &str) -> Vec<String> {
    let (named, hidden) = (BTreeSet::from(["A".to_owned()]), BTreeSet::from(["Hidden".to_owned()]));
    let source = Source::parse("a.rs", code);
    let lines = source.code.items.iter().map(|item| match item {
        Item::Impl(item) => implementation(item, &named, &hidden),
        item => definition(&public_name(item).unwrap(), item),
    });
    lines.collect::<Vec<_>>().concat()
}

#[test]
fn line_breaks_make_no_difference() {
    let a = "fn f<'a, K: AsRef<[u8]> + ?Sized>(&self, k: &'a K, g: impl Fn(u8) -> bool) -> Result<(), E>";
    let b = "pub fn f<\n    'a,\n    K: AsRef<[u8]> + ?Sized,\n>(\n    &self,\n    k: &'a K,\n    g: impl Fn(u8) -> bool,\n) -> Result<(), E>\n{ g() }";
    assert_eq!(lines(&format!("pub {a} {{}}")), [a]);
    assert_eq!(lines(b), [a]);
    assert_eq!(
        lines("pub const B: C = C {\n    d: e\n        .f(),\n    g,\n};"),
        ["const B: C = C { d: e.f(), g }"]
    );
}

#[test]
fn a_change_of_any_kind_shows() {
    assert_eq!(
        lines("#[derive(Clone)]\npub struct A { pub a: u8, b: u8 }"),
        ["struct A (and private fields) #[derive(Clone)]", "A.a: u8"]
    );
    assert_eq!(
        lines(
            "pub struct A<T>(T) where T: B; pub unsafe trait C<T>: D + E where T: B { type F; /** g */ fn g(); }"
        ),
        [
            "struct A<T> where T: B (and private fields)",
            "unsafe trait C<T>: D + E where T: B",
            "C::type F",
            "C::fn g()"
        ]
    );
    assert_eq!(
        lines(
            "#[non_exhaustive] pub enum A { #[error(\"x\")] B(#[from] C), #[default] D, E { /** e */ f: Box<[u8]>, g: h }, I = 1 }"
        ),
        ["enum A #[non_exhaustive]", "A::B(C)", "A::D (default)", "A::E { f: Box<[u8]>, g: h }", "A::I = 1"]
    );
    assert_eq!(
        lines(
            "impl A { pub const B: u8 = 1; #[must_use] pub fn c(self) -> Self { self } pub(crate) fn d() {} fn e() {} }"
        ),
        ["A::const B: u8 = 1", "A::fn c(self) -> Self #[must_use]"]
    );
    assert_eq!(
        lines("impl<'a> Iterator for A<'a> { type Item = u8; }"),
        ["impl<'a> Iterator for A<'a> type Item = u8;"]
    );
    assert_eq!(
        lines("impl From<A> for u64 {} impl From<B> for u64 {} impl From<Hidden> for A {}"),
        ["impl From<A> for u64"]
    );
    assert_eq!(
        lines("pub const unsafe fn f() {} #[cfg(feature = \"a\")] pub type B<T = C> = D<T>;"),
        ["const unsafe fn f()", "type B<T = C> = D<T> #[cfg(feature = \"a\")]"]
    );
}

#[test]
fn exports_are_found_in_groups() {
    let code = "pub use a::b::{C, D}; use x::Y; pub(crate) use z::Z; pub use e::F; #[doc(hidden)] pub use i::I; pub use crate::{G, H as J};";
    let exports = exports(&Source::parse("a.rs", code)).into_iter();
    let exports: Vec<_> =
        exports.map(|import| format!("{} {}", import.path.join("::"), import.name)).collect();
    assert_eq!(exports, ["a::b::C C", "a::b::D D", "e::F F", "crate::G G", "crate::H J"]);
}

/// Users move these to other threads, and share them.
#[test]
fn public_types_stay_send_and_sync() {
    use streamlog::*;
    fn holds<T: Send + Sync>() {}
    holds::<Stream>();
    holds::<StreamOptions>();
    holds::<ShardIterator>();
    holds::<LineageIterator>();
    holds::<OwnedRecords<'_>>();
    holds::<Batch>();
    holds::<Records<'_>>();
    holds::<Record<'_>>();
    holds::<OwnedRecord>();
    holds::<PutRecord<'_>>();
    holds::<Receipt>();
    holds::<Error>();
    holds::<RecoveryReport>();
    holds::<StreamDescription>();
    holds::<StreamStats>();
    holds::<Verification>();
    holds::<WorkerOptions>();
    holds::<Scaling>();
    holds::<ScalingDecision>();
    holds::<Worker>();
    holds::<NextBatch<'_>>();
    holds::<Readable<'_>>();
    holds::<AnyReadable<'_>>();
    holds::<extend::Waiting>();
    holds::<PendingReceipt>();
    #[cfg(feature = "futures")]
    {
        holds::<Batches<ShardIterator>>();
        holds::<Batches<LineageIterator>>();
        holds::<WorkerBatches>();
    }
    holds::<GroupDescription>();
    holds::<Handled>();
    holds::<aggregate::Aggregator>();
    holds::<aggregate::UserRecords<'_>>();
}
