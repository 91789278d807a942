//! The house style as a test: what the code in `src/` may use where, how long a file may be, and how it begins.
//!
//! The rules are those of the list of rooms in `CONTRIBUTING.md`. Each is a function over one file. The tests below also break each rule,
//! to see that it is enforced.

use std::collections::BTreeMap;

use proc_macro2::{TokenStream, TokenTree};
use quote::ToTokens;
use syn::spanned::Spanned;
use syn::visit::{self, Visit};
use syn::{Item, ItemMod, ItemUse, Visibility};

mod source;

use source::{Source, imports, sources};

/// The rooms of the engine, `src/log/`, lowest line first. A room imports only from lines above its own in this list.
const ENGINE: [&[&str]; 10] = [
    &["types"],
    &["format"],
    &["sys"],
    &["keys"],
    &["segment", "manifest", "live"],
    &["recovery", "archive"],
    &["shard"],
    &["topology"],
    &["reshard", "retention", "snapshot", "follow"],
    &["stream"],
];

/// Rooms that use the engine, and the layers before them in this list, only through the names at the root of the crate.
const LAYERS: [&str; 19] = [
    "journal",
    "aggregate",
    "filter",
    "replay",
    "producer",
    "consumer",
    "subscription",
    "processor",
    "queue",
    "scaling",
    "store",
    "values",
    "delivery",
    "query",
    "video",
    "gateway",
    "relay",
    "metrics",
    "prelude",
];

/// Files outside of the rooms: tables of contents, and the entry for fuzzing, which nothing else compiles.
const NO_ROOMS: [&str; 3] = ["lib.rs", "log/mod.rs", "log/fuzzing.rs"];

const CODE_LINES_MAX: usize = 400;

/// Words that only some files may use: the words, the files (or rooms, with a slash at the end), and why.
const PLACES: [(&[&str], &[&str], &str); 5] = [
    (
        &["unsafe"],
        &[
            "log/sys/map.rs",
            "log/sys/process.rs",
            "log/sys/processor.rs",
            "log/sys/wipe.rs",
            "log/sys/words.rs",
        ],
        "they state the invariants that unsafe code relies on",
    ),
    (
        &["fs"],
        &["log/sys/", "gateway/files.rs", "delivery/directory.rs"],
        "all access to files of streams goes through one room, where tests inject faults, all to settings of the operator \
         (certificates, credentials, secrets) through one file, and all to delivered files through one",
    ),
    (
        &["to_le_bytes"],
        &["log/format/", "aggregate/md5.rs"],
        "one room knows the bytes on disk, and MD5 its words",
    ),
    (
        &["from_le_bytes"],
        &["log/format/", "aggregate/md5.rs", "filter/skip.rs"],
        "one room knows the bytes on disk, and MD5 and the parser their words",
    ),
    (&["SystemTime", "::", "now"], &["log/sys/clock.rs"], "time comes from the stream's clock"),
];

/// Macros that must not remain in finished code.
const UNFINISHED: [&str; 4] = ["todo", "unimplemented", "dbg", "println"];

/// Which room the names at the root of the crate come from: `Stream` from `log/stream`.
type RootNames = BTreeMap<String, String>;

fn complaint(source: &Source, line: usize, what: impl std::fmt::Display) -> String {
    format!("src/{}:{line}: {what}", source.path)
}

/// The line of a room in the engine, from its path, such as `log/shard`.
fn engine_line(room: &str) -> Option<usize> {
    let room = room.strip_prefix("log/")?;
    ENGINE.iter().position(|rooms| rooms.contains(&room))
}

/// The place of a layer above the engine.
fn layer(room: &str) -> Option<usize> {
    LAYERS.iter().position(|layer| *layer == room)
}

/// The room of a module or a path: `log/sys`, `consumer`, `prelude`.
fn room_of(path: &[String]) -> String {
    match path {
        [first, second, ..] if first == "log" => format!("log/{second}"),
        [first, ..] => first.clone(),
        [] => "the root".to_owned(),
    }
}

fn check_room(source: &Source) -> Vec<String> {
    let room = room_of(&source.module());
    if NO_ROOMS.contains(&&*source.path) || engine_line(&room).is_some() || layer(&room).is_some() {
        return vec![];
    }
    let what = format!(
        "{room} is not a room: move the file to one, or add it to the lists of rooms in tests/tidy.rs and CONTRIBUTING.md"
    );
    vec![complaint(source, 1, what)]
}

/// Collects the paths that begin with `crate`, `self` or `super`, in imports, code and macros.
struct CratePaths {
    /// The module around the current place.
    module: Vec<String>,
    /// Each path from the root of the crate on, with its line.
    found: Vec<(Vec<String>, usize)>,
}

impl CratePaths {
    fn add(&mut self, path: &[String], line: usize) {
        let mut absolute = match path {
            [] | [_] => return, // A name, `self`, or the `crate` of `pub(crate)`.
            [first, ..] if first == "crate" => vec![],
            [first, ..] if first == "self" || first == "super" => self.module.clone(),
            _ => return,
        };
        for segment in path {
            match segment.as_str() {
                "crate" | "self" => {}
                "super" => drop(absolute.pop()),
                name => absolute.push(name.to_owned()),
            }
        }
        self.found.push((absolute, line));
    }
}

impl<'ast> Visit<'ast> for CratePaths {
    fn visit_item_mod(&mut self, item: &'ast ItemMod) {
        self.module.push(item.ident.to_string());
        visit::visit_item_mod(self, item);
        self.module.pop();
    }

    fn visit_item_use(&mut self, item: &'ast ItemUse) {
        imports(&item.tree).iter().for_each(|import| self.add(&import.path, import.line));
    }

    fn visit_path(&mut self, path: &'ast syn::Path) {
        let segments: Vec<_> = path.segments.iter().map(|segment| segment.ident.to_string()).collect();
        self.add(&segments, path.span().start().line);
        visit::visit_path(self, path);
    }

    /// syn leaves the inside of macros and attributes as tokens.
    fn visit_token_stream(&mut self, tokens: &'ast TokenStream) {
        for path in words(tokens.clone()).chunk_by(|a, b| a.text == "::" || b.text == "::") {
            let segments = path.iter().map(|word| word.text.clone()).filter(|text| text != "::");
            self.add(&segments.collect::<Vec<_>>(), path[0].line);
        }
    }
}

fn check_imports(source: &Source, roots: &RootNames) -> Vec<String> {
    let room = room_of(&source.module());
    if NO_ROOMS.contains(&&*source.path) {
        return vec![];
    }
    let mut paths = CratePaths { module: source.module(), found: vec![] };
    paths.visit_file(&source.code);
    let wrong = paths.found.into_iter().filter_map(|(path, line)| {
        let root_room = path.first().and_then(|first| roots.get(first));
        let target = root_room.cloned().unwrap_or_else(|| room_of(&path));
        let path = path.join("::");
        let (is_allowed, remedy) = if let Some(own) = layer(&room) {
            let is_before = root_room.is_some() && layer(&target).is_none_or(|target| target < own);
            (is_before, "use only what src/lib.rs exports, from the engine and from layers before this one")
        } else {
            let is_below =
                engine_line(&target).zip(engine_line(&room)).is_some_and(|(target, own)| target < own);
            (is_below, "use only rooms above it in the list of rooms in CONTRIBUTING.md, or move the code")
        };
        let what = format!("{room} may not use {path} of {target}: {remedy}");
        (target != room && !is_allowed).then(|| complaint(source, line, what))
    });
    wrong.collect()
}

fn check_first_sentence(source: &Source) -> Vec<String> {
    let paragraph = source.text.lines().map_while(|line| line.strip_prefix("//! "));
    let sentence = paragraph.collect::<Vec<_>>().join(" ");
    if sentence.ends_with('.') && !sentence.contains(". ") {
        return vec![];
    }
    vec![complaint(source, 1, "begin the file with one `//!` sentence that says what is in it")]
}

/// A word or a sign in the code.
struct Word {
    text: String,
    line: usize,
}

/// All words and signs in order. A `::` or a lifetime is one word, and every bracket is a round one.
fn words(tokens: TokenStream) -> Vec<Word> {
    let mut found: Vec<Word> = vec![];
    for tree in tokens {
        let line = tree.span().start().line;
        if let TokenTree::Group(group) = tree {
            found.push(Word { text: "(".to_owned(), line });
            found.extend(words(group.stream()));
            found.push(Word { text: ")".to_owned(), line: group.span_close().start().line });
            continue;
        }
        let text = tree.to_string();
        match found.last_mut() {
            Some(last) if last.text == "'" || last.text == ":" && text == ":" => last.text += &text,
            _ => found.push(Word { text, line }),
        }
    }
    found
}

/// The lines in which `wanted` stands, one word after the other.
fn lines_with(words: &[Word], wanted: &[&str]) -> Vec<usize> {
    let runs = words.windows(wanted.len());
    runs.filter(|run| run.iter().map(|word| &word.text).eq(wanted)).map(|run| run[0].line).collect()
}

fn check_places(source: &Source) -> Vec<String> {
    let words = words(source.code.to_token_stream());
    let mut found = vec![];
    for (wanted, places, why) in PLACES {
        let is_in = |place: &&str| {
            source.path == **place || (place.ends_with('/') && source.path.starts_with(*place))
        };
        if places.iter().any(is_in) {
            continue;
        }
        let what = format!("move `{}` to {}: {why}", wanted.concat(), places.join(" or "));
        found.extend(lines_with(&words, wanted).into_iter().map(|line| complaint(source, line, &what)));
    }
    found
}

fn check_unfinished(source: &Source) -> Vec<String> {
    let words = words(source.text.parse().unwrap());
    let lines = |name| lines_with(&words, &[name, "!"]).into_iter();
    let complaints = |name| lines(name).map(move |line| complaint(source, line, format!("remove `{name}!`")));
    UNFINISHED.into_iter().flat_map(complaints).collect()
}

/// The lines outside of tests, without doc comments: examples do not count towards a file's length.
fn code_line_count(source: &Source) -> usize {
    let tests: Vec<_> = source.tests.iter().map(|test| test.span()).collect();
    let is_code = |&(line, text): &(usize, &str)| {
        !text.trim_start().starts_with("///")
            && !tests.iter().any(|test| (test.start().line..=test.end().line).contains(&line))
    };
    (1..).zip(source.text.lines()).filter(is_code).count()
}

fn check_size(source: &Source) -> Vec<String> {
    let lines = code_line_count(source);
    let what =
        format!("split the file: it has {lines} lines without tests and docs, and may have {CODE_LINES_MAX}");
    if lines <= CODE_LINES_MAX { vec![] } else { vec![complaint(source, 1, what)] }
}

fn check_safety(source: &Source) -> Vec<String> {
    let lines: Vec<_> = source.text.lines().map(str::trim_start).collect();
    let is_bare = |line: &usize| {
        let above = lines[..line - 1].iter().rev().take_while(|line| line.starts_with("//"));
        let comment: Vec<&str> = above.copied().collect();
        let mut words = comment.iter().flat_map(|line| line.split(|c: char| !c.is_alphanumeric()));
        let names_one =
            words.any(|word| ["I1", "I2", "I3", "I4", "I5", "I6", "I7", "I8", "I9", "I10"].contains(&word));
        !(names_one && comment.iter().any(|line| line.contains("SAFETY:")))
    };
    let what = "write a `SAFETY:` comment above `unsafe` that names one of I1 to I10";
    let blocks = lines_with(&words(source.text.parse().unwrap()), &["unsafe"]).into_iter();
    blocks.filter(is_bare).map(|line| complaint(source, line, what)).collect()
}

fn root_names(lib: &Source) -> RootNames {
    let mut names = RootNames::new();
    for item in &lib.code.items {
        match item {
            Item::Use(item) => {
                names.extend(
                    imports(&item.tree).into_iter().map(|import| (import.name, room_of(&import.path))),
                );
            }
            // A layer that offers its names in a module of its own.
            Item::Mod(ItemMod { vis: Visibility::Public(_), ident, .. }) => {
                names.insert(ident.to_string(), ident.to_string());
            }
            _ => {}
        }
    }
    names
}

/// All rules in one test, because reading the files is what takes the time.
#[test]
fn every_file_keeps_the_rules() {
    let roots = root_names(&Source::parse("lib.rs", include_str!("../src/lib.rs")));
    let complaints_of = |source: &Source| {
        [
            check_room(source),
            check_imports(source, &roots),
            check_first_sentence(source),
            check_places(source),
            check_unfinished(source),
            check_size(source),
            check_safety(source),
        ]
        .concat()
    };
    let complaints: Vec<_> = sources().iter().flat_map(complaints_of).collect();
    assert!(complaints.is_empty(), "\n{}\n", complaints.join("\n"));
}

/// The lines that complaints point at.
fn lines_of(complaints: &[String]) -> Vec<usize> {
    complaints.iter().map(|text| text.split(':').nth(1).unwrap().parse().unwrap()).collect()
}

/// The lines with a bad import, at a root that offers `Stream` and `Receipt`.
fn bad_imports(path: &str, text: &str) -> Vec<usize> {
    let lib = "pub use log::stream::Stream;\npub use log::types::record::{Receipt, Record as R};\npub use consumer::Worker;";
    let roots = root_names(&Source::parse("lib.rs", lib));
    lines_of(&check_imports(&Source::parse(path, text), &roots))
}

#[test]
fn the_names_at_the_root_are_known_by_their_room() {
    let lib =
        "mod a;\npub mod m;\npub use a::b::C;\npub use d::{E, f::G, H as I};\npub use log::types::limits;";
    let names: Vec<_> = root_names(&Source::parse("lib.rs", lib)).into_iter().collect();
    let expected = [("C", "a"), ("E", "d"), ("G", "d"), ("I", "d"), ("limits", "log/types"), ("m", "m")];
    assert_eq!(names, expected.map(|(name, room)| (name.to_owned(), room.to_owned())));
}

#[test]
fn an_import_from_above_is_caught() {
    assert_eq!(bad_imports("log/sys/file.rs", "use crate::log::types::error::Error;"), []);
    assert_eq!(bad_imports("log/sys/file.rs", "\nuse crate::log::segment::active::Active;"), [2]);
    assert_eq!(bad_imports("log/types/error.rs", "fn f() -> crate::Stream { g() }"), [1]);
    assert_eq!(bad_imports("log/types/error.rs", "fn f() -> crate::Receipt { g() }"), []);
    assert_eq!(
        bad_imports(
            "log/types/error.rs",
            "/// See [`x`](crate::Stream).\nconst S: &str = \"crate::Stream\";"
        ),
        []
    );
    assert_eq!(
        bad_imports("log/sys/file.rs", "use crate::log::{types::{error::Error, time},\n shard::Shard};"),
        [2]
    );
    assert_eq!(bad_imports("log/sys/file.rs", "use crate::*;"), [1]);
    assert_eq!(bad_imports("log/sys/file.rs", "pub(crate) fn f() {}"), []);
}

#[test]
fn an_import_from_the_same_line_is_caught() {
    assert_eq!(bad_imports("log/segment/active.rs", "use crate::log::manifest::Manifest;"), [1]);
    assert_eq!(bad_imports("log/manifest/mod.rs", "use crate::log::segment::path_in;"), [1]);
    assert_eq!(bad_imports("log/reshard/split.rs", "use crate::log::retention::policy;"), [1]);
    assert_eq!(bad_imports("log/segment/active.rs", "use crate::log::segment::window::Window;"), []);
}

#[test]
fn an_import_by_way_of_super_is_caught() {
    assert_eq!(bad_imports("log/sys/file.rs", "use super::dir;\nuse super::super::shard::Shard;"), [2]);
    assert_eq!(bad_imports("log/sys/file.rs", "use self::super::super::shard::Shard;"), [1]);
    assert_eq!(bad_imports("log/sys/mod.rs", "use super::shard::Shard;"), [1]);
    assert_eq!(
        bad_imports("log/sys/mod.rs", "mod inner {\n    use super::dir;\n}\nuse super::{types, shard};"),
        [4]
    );
}

#[test]
fn an_import_within_a_macro_or_an_attribute_is_caught() {
    assert_eq!(bad_imports("log/sys/file.rs", "fn f() { assert!(g(\ncrate::log::shard::h())); }"), [2]);
    assert_eq!(bad_imports("log/sys/file.rs", "fn f() { assert!(crate::log::types::g()); }"), []);
    assert_eq!(bad_imports("log/sys/file.rs", "macro_rules! m { () => { pub(crate) $crate::Stream } }"), [1]);
    assert_eq!(bad_imports("log/sys/file.rs", "macro_rules! m { () => { use crate::{Stream}; } }"), [1]);
    assert_eq!(bad_imports("log/sys/file.rs", "#[derive(crate::log::shard::Derive)]\nstruct A;"), [1]);
}

#[test]
fn a_feature_that_reaches_into_the_core_is_caught() {
    assert_eq!(bad_imports("consumer/worker.rs", "use crate::{Stream, Receipt};\nuse super::lease;"), []);
    assert_eq!(bad_imports("consumer/worker.rs", "use crate::log::types::record::Receipt;"), [1]);
    assert_eq!(bad_imports("log/stream/mod.rs", "use crate::consumer::Worker;"), [1]);
    assert_eq!(
        bad_imports(
            "prelude.rs",
            "pub use crate::{Stream, Worker};\nuse crate::log::types::record::Receipt;"
        ),
        [2]
    );
}

#[test]
fn a_layer_that_uses_one_behind_it_is_caught() {
    assert_eq!(bad_imports("processor/mod.rs", "use crate::{Stream, Worker};"), []);
    assert_eq!(bad_imports("producer/mod.rs", "use crate::Worker;"), [1]);
}

#[test]
fn tests_within_a_room_may_import_from_anywhere() {
    let text = "#[cfg(test)]\nmod tests {\n    use crate::Stream;\n}\nuse crate::Stream;";
    assert_eq!(bad_imports("log/sys/file.rs", text), [5]);
    let source = Source::parse("log/sys/mod.rs", "#[cfg(all(test, unix))]\nmod faults;");
    assert_eq!(source.test_modules().collect::<Vec<_>>(), [["log", "sys", "faults"]]);
}

#[test]
fn an_unknown_room_is_caught() {
    assert_eq!(check_room(&Source::parse("utils/mod.rs", "")).len(), 1);
    assert_eq!(check_room(&Source::parse("helpers.rs", "")).len(), 1);
    assert_eq!(check_room(&Source::parse("shard/mod.rs", "")).len(), 1, "it is a room of the engine");
    assert_eq!(check_room(&Source::parse("log/retention/policy.rs", "")).len(), 0);
}

#[test]
fn a_missing_sentence_is_caught() {
    let count = |text: &str| check_first_sentence(&Source::parse("log/sys/a.rs", text)).len();
    assert_eq!(count("//! What the\n//! system gives.\n//!\n//! 1. First. Then.\nuse a;"), 0);
    assert_eq!(count("#![no_std]\n//! What the system gives."), 1);
    assert_eq!(count("//! What the system gives"), 1);
    assert_eq!(count("//! One. Two."), 1);
    assert_eq!(count(""), 1);
}

#[test]
fn a_word_out_of_its_place_is_caught() {
    let lines = |path: &str, text: &str| lines_of(&check_places(&Source::parse(path, text)));
    assert_eq!(lines("log/sys/dir.rs", "fn f() { unsafe { g() } }"), [1]);
    assert_eq!(lines("log/sys/map.rs", "#![allow(unsafe_code)]\nfn f() { unsafe { g() } }"), []);
    assert_eq!(lines("log/shard/a.rs", "use std::fs;"), [1]);
    assert_eq!(lines("log/shard/a.rs", "use std::{io,\nfs::File};"), [2]);
    assert_eq!(lines("log/sys/dir.rs", "use std::fs;"), []);
    assert_eq!(lines("log/shard/a.rs", "fn f() { a.to_le_bytes();\nu32::from_le_bytes(a); }"), [1, 2]);
    assert_eq!(lines("log/format/a.rs", "fn f() { a.to_le_bytes(); }"), []);
    assert_eq!(lines("log/shard/a.rs", "const NOW: T =\nSystemTime::now();"), [2]);
    assert_eq!(lines("log/sys/clock.rs", "const NOW: T = SystemTime::now();"), []);
    let hidden = "// unsafe\n/* unsafe /* fs */ unsafe */ const A: &str = \"un\\\"safe fs\"; \
                  const B: (&str, char) = (r#\"\"fs\"#, '\"'); fn f<'fs>() {\nfs }";
    assert_eq!(
        check_places(&Source::parse("log/shard/a.rs", hidden)),
        [
            "src/log/shard/a.rs:3: move `fs` to log/sys/ or gateway/files.rs or delivery/directory.rs: all access to files of streams goes \
             through one room, where tests inject faults, all to settings of the operator (certificates, credentials, secrets) through one \
             file, and all to delivered files through one"
        ]
    );
}

#[test]
fn what_is_unfinished_is_caught() {
    let count = |text: &str| check_unfinished(&Source::parse("log/shard/a.rs", text)).len();
    assert_eq!(count("fn f() { todo!() }\n#[cfg(test)]\nmod tests { fn g() { dbg!(1); println!(); } }"), 3);
    assert_eq!(count("//! println!(\nfn todo() { todo() }"), 0);
}

#[test]
fn a_long_file_is_caught() {
    let long = "fn f() {}\n".repeat(CODE_LINES_MAX);
    let tests = format!("#[cfg(test)]\nmod tests {{\n{long}}}\n");
    assert_eq!(
        check_size(&Source::parse("log/shard/a.rs", &format!("{long}    /// Doc.\n{tests}"))).len(),
        0
    );
    assert_eq!(check_size(&Source::parse("log/shard/a.rs", &format!("{long}fn g() {{}}\n{tests}"))).len(), 1);
}

#[test]
fn an_unsafe_without_its_invariant_is_caught() {
    let lines = |text: &str| lines_of(&check_safety(&Source::parse("log/sys/map.rs", text)));
    assert_eq!(lines("// SAFETY: by I3 it\n// is so.\nconst A: B = unsafe { f() };"), []);
    assert_eq!(lines("// SAFETY: trust me.\nconst A: B = unsafe { f() };"), [2]);
    assert_eq!(lines("// By I3.\nconst A: B = unsafe { f() };"), [2]);
    assert_eq!(lines("// SAFETY: I70 and I33.\nconst A: B = unsafe { f() };"), [2]);
    assert_eq!(lines("// SAFETY: I1.\nconst B: u8 = 1;\nconst A: B = unsafe { f() };"), [3]);
}
