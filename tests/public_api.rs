//! The public surface as a list, so that no change of it goes unnoticed: `docs/public-api.txt` is compared with what `src/` says.
//!
//! Where a change is meant, write the list anew, look at the difference, and say it in `CHANGELOG.md`:
//!
//! ```sh
//! STREAMLOG_UPDATE=1 cargo test --test public_api
//! git diff docs/public-api.txt
//! ```
//!
//! A line that is gone or different breaks callers, and takes a new major version (0.x: minor); a new line takes a new minor one (0.x: patch).
//! The list is read from the sources by the names that `src/lib.rs` exports: private fields, bodies and documentation are no part
//! of it. Which types may go to other threads is not written in the sources: the compiler holds that, at the end of this file.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

#[path = "tidy/source.rs"]
#[allow(dead_code)] // `tests/tidy.rs` uses the rest.
mod source;

use source::{Source, Token};

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn read_sources(dir: &Path, prefix: &str, found: &mut Vec<Source>) {
    for entry in fs::read_dir(dir).unwrap().map(|entry| entry.unwrap()) {
        let path = format!("{prefix}{}", entry.file_name().into_string().unwrap());
        if entry.file_type().unwrap().is_dir() {
            read_sources(&entry.path(), &format!("{path}/"), found);
        } else if path.ends_with(".rs") {
            found.push(Source::parse(&path, &fs::read_to_string(entry.path()).unwrap()));
        }
    }
}

/// The code of each file of `src/`, by path, without tests.
fn sources() -> BTreeMap<String, Vec<String>> {
    let mut all = vec![];
    read_sources(&root().join("src"), "", &mut all);
    let tests: BTreeSet<String> = all.iter().flat_map(Source::test_files).collect();
    all.retain(|source| {
        !tests
            .iter()
            .any(|test| source.path == *test || (test.ends_with('/') && source.path.starts_with(test)))
    });
    let code =
        |source: &Source| source.code().map(|(_, token): (usize, &Token)| token.text.clone()).collect();
    all.iter().map(|source| (source.path.clone(), code(source))).collect()
}

/// The paths that a `pub use` names, groups in braces taken apart.
fn used_paths(item: &[String]) -> Vec<Vec<String>> {
    let (mut paths, mut stack, mut path) = (vec![], vec![], vec![]);
    for token in item {
        match token.as_str() {
            "::" => {}
            "{" => stack.push(path.clone()),
            "," | "}" => {
                if path.len() > stack.last().map_or(0, Vec::len) {
                    paths.push(path);
                }
                path = if token == "," { stack.last().cloned() } else { stack.pop() }.unwrap_or_default();
            }
            word => path.push(word.to_owned()),
        }
    }
    if stack.is_empty() && !path.is_empty() && item.last().is_some_and(|token| token != "}") {
        paths.push(path);
    }
    paths
}

/// The paths of all `pub use` of a file.
fn exports(code: &[String]) -> Vec<Vec<String>> {
    let starts = code.windows(2).enumerate().filter(|(_, pair)| pair[0] == "pub" && pair[1] == "use");
    let items = starts.map(|(at, _)| {
        let len = code[at..].iter().position(|token| token == ";").unwrap();
        &code[at + 2..at + len]
    });
    items.flat_map(used_paths).collect()
}

/// Where the bracket that opens at a place closes.
fn closing(code: &[String], at: usize) -> usize {
    let mut depth = 0;
    let end = code[at..].iter().position(|token| {
        depth += match token.as_str() {
            "{" | "(" | "[" => 1,
            "}" | ")" | "]" => -1,
            _ => 0,
        };
        depth == 0
    });
    at + end.expect("brackets are closed")
}

/// The items of a block, or of a file: each from its attributes to its body or semicolon.
fn items(code: &[String]) -> Vec<&[String]> {
    let (mut found, mut from, mut at) = (vec![], 0, 0);
    while at < code.len() {
        match code[at].as_str() {
            "{" => {
                at = closing(code, at);
                // What stands in braces within a `use` or a `const` ends with a semicolon.
                if code.get(at + 1).is_none_or(|token| token != ";") {
                    found.push(&code[from..=at]);
                    from = at + 1;
                }
            }
            "(" | "[" => at = closing(code, at),
            ";" => {
                found.push(&code[from..=at]);
                from = at + 1;
            }
            _ => {}
        }
        at += 1;
    }
    found
}

/// The parts of a list, each with its attributes and without its comma.
fn listed(code: &[String]) -> Vec<&[String]> {
    let (mut found, mut from, mut at, mut angles) = (vec![], 0, 0, 0);
    while at <= code.len() {
        match code.get(at).map(String::as_str) {
            Some("{" | "(" | "[") => at = closing(code, at),
            Some("<") => angles += 1,
            Some(">") => angles -= 1,
            Some(",") if angles > 0 => {}
            Some(",") | None => {
                found.extend(Some(&code[from..at]).filter(|part| !part.is_empty()));
                from = at + 1;
            }
            _ => {}
        }
        at += 1;
    }
    found
}

/// The attributes in front of an item, and the rest.
fn attributes(mut code: &[String]) -> (Vec<String>, &[String]) {
    let mut found = vec![];
    while code.first().is_some_and(|token| token == "#") {
        let end = closing(code, 1);
        found.push(spell(&code[..=end]));
        code = &code[end + 1..];
    }
    (found, code)
}

/// Those attributes that callers can tell: what is derived, what may grow, and what depends on a feature.
fn told(attributes: &[String]) -> String {
    let starts = ["#[derive", "#[non_exhaustive", "#[cfg", "#[must_use"];
    let told = attributes.iter().filter(|text| starts.iter().any(|start| text.starts_with(start)));
    told.map(|text| format!(" {text}")).collect()
}

/// Writes tokens as one would, however they were broken into lines.
fn spell(code: &[String]) -> String {
    let mut text = String::new();
    for (at, token) in code.iter().enumerate() {
        let next = code.get(at + 1).map_or("", String::as_str);
        // The comma after the last of a list that has a line for each.
        if token == "," && [")", ">", "}", "]", "", "{"].contains(&next) {
            continue;
        }
        let sticks_left = [")", "]", ">", ",", ";", "::", ".", "(", "[", "<", ":", "!"].contains(&&**token);
        let before = text.chars().last().unwrap_or(' ');
        let sticks_right = " ([<&.?#!".contains(before) || text.ends_with("::");
        let is_arrow = token == ">" && "-=".contains(before);
        // A type in parentheses or brackets, and not what a name is called with.
        let opens = ["(", "[", "<", "::"].contains(&&**token);
        let is_behind_word = at > 0 && (code[at - 1].starts_with('\'') || code[at - 1] == "mut");
        let begins =
            opens && (",:=+".contains(before) || text.ends_with("->") || is_behind_word && token != ">");
        if !(sticks_right || is_arrow || sticks_left && !begins) {
            text.push(' ');
        }
        text.push_str(token);
    }
    text
}

/// What stands in the braces or parentheses that open at a place.
fn body(code: &[String], at: usize) -> &[String] {
    &code[at + 1..closing(code, at)]
}

fn is_public(code: &[String]) -> bool {
    code.first().is_some_and(|token| token == "pub") && code.get(1).is_some_and(|token| token != "(")
}

/// What an item is called, if it is one that has a name: `struct`, `fn` and so on, and the name.
fn name_of(code: &[String]) -> Option<(&str, &str)> {
    let kinds = ["struct", "enum", "trait", "fn", "type", "const", "mod", "macro"];
    let at = code.iter().position(|token| kinds.contains(&&**token))?;
    // `const fn` is a function.
    let at = if code.get(at + 1).is_some_and(|token| token == "fn") { at + 1 } else { at };
    Some((&code[at], code.get(at + 1)?))
}

/// The lines for the item itself: its head, its public fields, its variants, what it asks of those who implement it.
fn definition(path: &str, code: &[String]) -> Vec<String> {
    let (attributes, item) = attributes(code);
    let (kind, name) = name_of(item).unwrap();
    let told = told(&attributes);
    let opening = |sign: &str| item.iter().position(|token| token == sign);
    let mut lines: Vec<String> = match kind {
        "struct" => {
            let head = opening("{").or(opening("(")).unwrap_or(item.len() - 1);
            let fields = if head + 1 < item.len() { listed(body(item, head)) } else { vec![] };
            let fields: Vec<_> = fields.into_iter().map(|field| self::attributes(field).1).collect();
            let public: Vec<_> = fields.iter().filter(|field| is_public(field)).collect();
            let rest = if public.len() < fields.len() { " (and private fields)" } else { "" };
            let head = format!("{}{rest}{told}", spell(&item[..head]));
            std::iter::once(head)
                .chain(public.iter().map(|field| format!("{path}.{}", spell(&field[1..]))))
                .collect()
        }
        "enum" => {
            let head = opening("{").unwrap();
            let variants = listed(body(item, head)).into_iter().map(|variant| {
                let (attributes, variant) = self::attributes(variant);
                let fields = variant.iter().position(|token| token == "{");
                let text = match fields {
                    Some(at) => {
                        let fields = listed(body(variant, at))
                            .into_iter()
                            .map(|field| spell(self::attributes(field).1));
                        format!("{} {{ {} }}", variant[0], fields.collect::<Vec<_>>().join(", "))
                    }
                    None => spell(variant),
                };
                let is_default = attributes.iter().any(|text| text == "#[default]");
                format!("{path}::{text}{}", if is_default { " (default)" } else { "" })
            });
            std::iter::once(format!("{}{told}", spell(&item[..head]))).chain(variants).collect()
        }
        "trait" => {
            let head = opening("{").unwrap();
            let asked = items(body(item, head)).into_iter().map(|asked| {
                let (_, asked) = self::attributes(asked);
                format!("{path}::{}", signature(asked))
            });
            std::iter::once(format!("{}{told}", spell(&item[..head]))).chain(asked).collect()
        }
        "fn" => vec![format!("{}{told}", signature(item))],
        _ => vec![format!("{}{told}", spell(&item[..item.len() - 1]))],
    };
    // An item of a module is listed by its path.
    lines[0] = lines[0].replacen(&format!("{kind} {name}"), &format!("{kind} {path}"), 1);
    lines
}

/// A function without its body.
fn signature(code: &[String]) -> String {
    let end = code.iter().position(|token| token == "{" || token == ";").unwrap_or(code.len());
    let text = spell(&code[..end]);
    text.strip_prefix("pub ").unwrap_or(&text).to_owned()
}

/// The lines for an `impl` block, if it is for one of the names, or makes something of one, and needs nothing that is hidden.
fn implemented(item: &[String], names: &BTreeSet<String>, hidden: &BTreeSet<String>) -> Vec<String> {
    let (attributes, item) = attributes(item);
    if item.first().is_none_or(|token| token != "impl") {
        return vec![];
    }
    let open = item.iter().position(|token| token == "{").unwrap();
    let (head, members) = (&item[..open], items(body(item, open)));
    if head.iter().any(|token| hidden.contains(token)) {
        return vec![];
    }
    if head.iter().any(|token| token == "for") {
        let types = members.iter().filter(|member| member[0] == "type");
        let types: String = types.map(|member| format!(" {}", spell(member))).collect();
        let is_ours = head.iter().any(|token| names.contains(token));
        return if is_ours { vec![format!("{}{types}{}", spell(head), told(&attributes))] } else { vec![] };
    }
    let Some(path) = head.get(behind_generics(head)).filter(|&token| names.contains(token)) else {
        return vec![];
    };
    let members = members.into_iter().filter_map(|member| {
        let (attributes, member) = self::attributes(member);
        let is_const = matches!(name_of(member), Some(("const", _)));
        is_public(member).then(|| {
            let text = if is_const { spell(&member[1..member.len() - 1]) } else { signature(member) };
            format!("{path}::{text}{}", told(&attributes))
        })
    });
    members.collect()
}

/// The place behind `impl<…>`.
fn behind_generics(head: &[String]) -> usize {
    let mut depth = 0;
    let behind = head[1..].iter().position(|token| {
        depth += match token.as_str() {
            "<" => 1,
            ">" => -1,
            _ => 0,
        };
        depth == 0 && token != ">"
    });
    1 + behind.unwrap_or(0)
}

/// The whole surface, a line for each item, in an order that does not depend on where things stand.
fn surface() -> String {
    let sources = sources();
    // The door for fuzz targets is compiled for nothing else.
    let is_for_users = |path: &Vec<String>| path.last().is_some_and(|name| name != "fuzzing");
    let exports_of =
        |file: &str| exports(&sources[file]).into_iter().filter(is_for_users).collect::<Vec<_>>();
    let in_modules = exports_of("lib.rs").into_iter().filter_map(|path| sources.get(&file_of(&path)));
    let in_modules =
        in_modules.flat_map(|code| public_items(code)).filter_map(|item| name_of(attributes(item).1));
    let in_modules = in_modules.filter(|(kind, _)| *kind == "struct").map(|(_, name)| name.to_owned());
    let named: BTreeSet<String> =
        exports_of("lib.rs").iter().map(|path| path.last().unwrap().clone()).chain(in_modules).collect();
    let mut lines = vec![];
    for path in exports_of("lib.rs") {
        let (room, name) = (&path[0], path.last().unwrap());
        let files = sources.iter().filter(|(file, _)| file.split(['/', '.']).next() == Some(room));
        let definitions: Vec<Vec<String>> = files
            .flat_map(|(_, code)| items(code))
            .filter(|item| {
                let item = attributes(item).1;
                is_public(item) && name_of(item).is_some_and(|(_, found)| found == name)
            })
            .map(|item| match name_of(attributes(item).1) {
                Some(("mod", module)) => module_items(&sources[&file_of(&path)], module),
                _ => definition(name, item),
            })
            .collect();
        assert_eq!(
            definitions.len(),
            1,
            "{name} is exported, and defined {} times in {room}",
            definitions.len()
        );
        lines.extend(definitions.concat());
    }
    let all = || sources.values().flat_map(|code| items(code));
    let defined = all().filter_map(|item| match name_of(attributes(item).1)? {
        ("struct" | "enum" | "trait", name) => Some(name.to_owned()),
        _ => None,
    });
    let hidden = defined.filter(|name| !named.contains(name)).collect();
    lines.extend(all().flat_map(|item| implemented(item, &named, &hidden)));
    let root_items = items(&sources["lib.rs"]);
    for (attributes, item) in root_items.into_iter().map(attributes) {
        let is_hidden = attributes.iter().any(|text| text == "#[doc(hidden)]");
        if let Some(("mod", name)) = name_of(item).filter(|_| is_public(item) && !is_hidden) {
            lines.push(format!("mod {name}{}", told(&attributes)));
            lines.extend(module(&sources, name));
        }
    }
    lines.extend(features().map(|feature| format!("feature {feature}")));
    let lines: BTreeSet<String> = lines.iter().map(|line| line.replacen("pub ", "", 1) + "\n").collect();
    lines.into_iter().collect()
}

/// What a public module at the root of the crate has.
fn module(sources: &BTreeMap<String, Vec<String>>, name: &str) -> Vec<String> {
    let code = &sources.get(&format!("{name}.rs")).unwrap_or_else(|| &sources[&format!("{name}/mod.rs")]);
    let exported = exports(code).into_iter().map(|path| format!("{name}::{}", path.last().unwrap()));
    exported.chain(module_items(code, name)).collect()
}

/// The public items of a module, without what it exports from elsewhere.
fn module_items(code: &[String], name: &str) -> Vec<String> {
    let defined = public_items(code).into_iter().filter_map(|item| {
        let (_, defined) = name_of(attributes(item).1)?;
        Some(definition(&format!("{name}::{defined}"), item))
    });
    defined.flatten().collect()
}

fn public_items(code: &[String]) -> Vec<&[String]> {
    let is_ours = |item: &&[String]| is_public(attributes(item).1) && attributes(item).1[1] != "use";
    items(code).into_iter().filter(is_ours).collect()
}

/// The file of a module that is exported by its path.
fn file_of(path: &[String]) -> String {
    format!("{}.rs", path.join("/"))
}

/// The cargo features, and the oldest Rust.
fn features() -> impl Iterator<Item = String> {
    let text = fs::read_to_string(root().join("Cargo.toml")).unwrap();
    let lines: Vec<String> = text.lines().map(str::to_owned).collect();
    let of_section = lines.into_iter().skip_while(|line| line != "[features]").skip(1);
    of_section.take_while(|line| !line.starts_with('[')).filter(|line| line.contains('='))
}

fn list_path() -> PathBuf {
    root().join("docs/public-api.txt")
}

#[test]
fn the_public_surface_is_as_it_is_listed() {
    let found = surface();
    if std::env::var_os("STREAMLOG_UPDATE").is_some() {
        fs::write(list_path(), &found).unwrap();
    }
    let listed = fs::read_to_string(list_path()).unwrap_or_default();
    let (was, is): (BTreeSet<&str>, BTreeSet<&str>) = (listed.lines().collect(), found.lines().collect());
    let gone = was.difference(&is).map(|line| format!("- {line}"));
    let new = is.difference(&was).map(|line| format!("+ {line}"));
    let changes: Vec<_> = gone.chain(new).collect();
    assert!(
        changes.is_empty(),
        "\nthe public surface has changed:\n{}\nif that is meant: STREAMLOG_UPDATE=1 cargo test --test public_api\n",
        changes.join("\n")
    );
}

fn tokens(text: &str) -> Vec<String> {
    Source::parse("a.rs", text).tokens.into_iter().map(|token| token.text).collect()
}

#[test]
fn how_code_is_broken_into_lines_makes_no_difference() {
    let a =
        "pub fn f<'a, K: AsRef<[u8]> + ?Sized>(&self, k: &'a K, g: impl Fn(u8) -> bool) -> Result<(), E>;";
    let b = "pub fn f<\n    'a,\n    K: AsRef<[u8]> + ?Sized,\n>(\n    &self,\n    k: &'a K,\n    g: impl Fn(u8) -> bool,\n) -> Result<(), E>\n{ g() }";
    assert_eq!(signature(&tokens(a)), signature(&tokens(b)));
    assert_eq!(signature(&tokens(a)), a.trim_start_matches("pub ").trim_end_matches(';'));
}

#[test]
fn a_change_of_any_kind_shows() {
    let names = BTreeSet::from(["A".to_owned()]);
    let lines = |text: &str| -> Vec<String> {
        let code = tokens(text);
        let found = items(&code).into_iter().flat_map(|item| match name_of(attributes(item).1) {
            Some((_, "A")) if !item.contains(&"impl".to_owned()) => definition("A", item),
            _ => implemented(item, &names, &BTreeSet::from(["Hidden".to_owned()])),
        });
        found.collect()
    };
    assert_eq!(
        lines("#[derive(Clone)]\npub struct A { pub a: u8, b: u8 }"),
        ["pub struct A (and private fields) #[derive(Clone)]", "A.a: u8"]
    );
    assert_eq!(
        lines(
            "#[non_exhaustive] pub enum A { #[error(\"x\")] B(C), #[default] D, E { /** e */ f: Box<[u8]>, g: h } }"
        ),
        ["pub enum A #[non_exhaustive]", "A::B(C)", "A::D (default)", "A::E { f: Box<[u8]>, g: h }"]
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
}

#[test]
fn groups_of_exports_are_taken_apart() {
    let code =
        tokens("pub use a::b::{C, D}; use x::Y; pub(crate) use z::Z; pub use e::F; pub use crate::{G, H};");
    let paths: Vec<_> = exports(&code).iter().map(|path| path.join("::")).collect();
    assert_eq!(paths, ["a::b::C", "a::b::D", "e::F", "crate::G", "crate::H"]);
}

/// These go to other threads, and may be shared by them.
#[test]
fn what_is_send_and_sync_stays_so() {
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
    holds::<Worker>();
    holds::<GroupDescription>();
}
