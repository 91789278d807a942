//! The files of `src/`, parsed by syn, for the tests that check the code itself.

use std::fs;
use std::path::Path;

use proc_macro2::TokenStream;
use quote::ToTokens;
use syn::parse::{ParseStream, Parser};
use syn::spanned::Spanned;
use syn::{Attribute, File, Item, ItemMod, UseTree};

const SRC: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/src");

/// A file of `src/`.
pub(crate) struct Source {
    /// Within `src/`, such as `log/sys/map.rs`.
    pub(crate) path: String,
    pub(crate) text: String,
    /// The file without its tests.
    pub(crate) code: File,
    /// The items under `#[cfg(test)]`.
    pub(crate) tests: Vec<Item>,
}

impl Source {
    pub(crate) fn parse(path: &str, text: &str) -> Self {
        let mut code = syn::parse_file(text)
            .unwrap_or_else(|error| panic!("src/{path}:{}: {error}", error.span().start().line));
        let mut tests = vec![];
        take_tests(&mut code.items, &mut tests);
        Self { path: path.to_owned(), text: text.to_owned(), code, tests }
    }

    /// The module in the file: `["log", "sys", "map"]`.
    pub(crate) fn module(&self) -> Vec<String> {
        let path = self.path.trim_end_matches(".rs").split('/').map(str::to_owned);
        path.filter(|name| name != "mod" && name != "lib").collect()
    }

    /// The modules under `#[cfg(test)]` that have files of their own.
    pub(crate) fn test_modules(&self) -> impl Iterator<Item = Vec<String>> {
        self.tests.iter().filter_map(|item| match item {
            Item::Mod(ItemMod { content: None, ident, .. }) => {
                Some([self.module(), vec![ident.to_string()]].concat())
            }
            _ => None,
        })
    }
}

/// All files of `src/`, by path, except those that hold only tests.
pub(crate) fn sources() -> Vec<Source> {
    let mut all = vec![];
    read(Path::new(SRC), &mut all);
    all.sort_by(|a, b| a.path.cmp(&b.path));
    let tests: Vec<_> = all.iter().flat_map(Source::test_modules).collect();
    all.retain(|source| !tests.iter().any(|test| source.module().starts_with(test)));
    all
}

fn read(dir: &Path, found: &mut Vec<Source>) {
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            read(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let name = path.strip_prefix(SRC).unwrap().to_str().unwrap();
            found.push(Source::parse(name, &fs::read_to_string(&path).unwrap()));
        }
    }
}

/// Moves the items under `#[cfg(test)]` from `items` to `tests`.
fn take_tests(items: &mut Vec<Item>, tests: &mut Vec<Item>) {
    tests.extend(items.extract_if(.., |item| is_test(item)));
    for item in items {
        match item {
            Item::Mod(ItemMod { content: Some((_, items)), .. }) => take_tests(items, tests),
            Item::Impl(item) => {
                let members = item.items.extract_if(.., |member| is_test(member));
                tests.extend(members.map(|member| Item::Verbatim(member.into_token_stream())));
            }
            _ => {}
        }
    }
}

fn is_test(item: &impl ToTokens) -> bool {
    let attributes = |input: ParseStream| {
        let attributes = input.call(Attribute::parse_outer)?;
        input.parse::<TokenStream>().map(|_| attributes)
    };
    let attributes = attributes.parse2(item.to_token_stream()).unwrap();
    let mut texts = attributes.iter().filter_map(|attribute| attribute.span().source_text());
    texts.any(|text| text == "#[cfg(test)]" || text.starts_with("#[cfg(all(test,"))
}

/// A name that a `use` brings into scope, and the full path behind it. A glob has the name `*`.
pub(crate) struct Import {
    pub(crate) path: Vec<String>,
    /// From 1.
    pub(crate) line: usize,
    pub(crate) name: String,
}

pub(crate) fn imports(tree: &UseTree) -> Vec<Import> {
    let (last, name) = match tree {
        UseTree::Path(path) => {
            let mut found = imports(&path.tree);
            found.iter_mut().for_each(|import| import.path.insert(0, path.ident.to_string()));
            return found;
        }
        UseTree::Group(group) => return group.items.iter().flat_map(imports).collect(),
        UseTree::Name(name) => (name.ident.to_string(), name.ident.to_string()),
        UseTree::Rename(name) => (name.ident.to_string(), name.rename.to_string()),
        UseTree::Glob(_) => ("*".to_owned(), "*".to_owned()),
    };
    vec![Import { path: vec![last], line: tree.span().start().line, name }]
}
