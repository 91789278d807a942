//! The house style as a test: what may stand where in `src/`.
//!
//! The rules are those of the design's list of rooms; each is a function over one file, and is fed a violation below to see
//! that it bites.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

#[path = "tidy/source.rs"]
mod source;

use source::Source;

/// The rooms of the core, lowest line first. A room imports only from lines above its own in this list, those that are not
/// built yet included.
const CORE: [&[&str]; 10] = [
    &["words"],
    &["format"],
    &["sys"],
    &["segment", "manifest"],
    &["recovery"],
    &["shard"],
    &["topology"],
    &["reshard", "retention"],
    &["stream"],
    &["prelude"],
];

/// Rooms that see the core only as a user does: by the names at the root of the crate.
const FEATURES: [&str; 10] = [
    "producer",
    "consumer",
    "subscription",
    "processor",
    "delivery",
    "sql",
    "video",
    "codec",
    "metrics",
    "gateway",
];

/// Files that are no rooms: the table of contents, and the door for fuzzing, which is compiled for nothing else.
const NO_ROOMS: [&str; 2] = ["lib.rs", "fuzzing.rs"];

const CODE_LINES_MAX: usize = 400;

/// What may stand only in some files: the tokens, the files (or the rooms, with a slash at the end), and why.
const PLACES: [(&str, &[&str], &str); 5] = [
    ("unsafe", &["sys/map.rs", "sys/processor.rs"], "they state the invariants that unsafe code leans on"),
    ("fs", &["sys/"], "all of the file system goes through one room, where faults can be injected"),
    ("to_le_bytes", &["format/"], "one room knows the bytes on disk"),
    ("from_le_bytes", &["format/"], "one room knows the bytes on disk"),
    ("SystemTime :: now", &["sys/clock.rs"], "time comes from the stream's clock"),
];

/// Macros that finished code does not have.
const UNFINISHED: [&str; 4] = ["todo", "unimplemented", "dbg", "println"];

/// Where the names at the root of the crate come from: `Stream` from `stream`.
type RootNames = BTreeMap<String, String>;

/// One complaint: where, and what the matter is.
fn complaint(source: &Source, line: usize, what: impl std::fmt::Display) -> String {
    format!("src/{}:{line}: {what}", source.path)
}

/// The line of a room in the core.
fn layer(room: &str) -> Option<usize> {
    CORE.iter().position(|rooms| rooms.contains(&room))
}

fn check_room(source: &Source) -> Vec<String> {
    let room = source.room();
    let is_known = NO_ROOMS.contains(&&*source.path) || layer(room).is_some() || FEATURES.contains(&room);
    if is_known { vec![] } else { vec![complaint(source, 1, format!("no room is called {room}: list it"))] }
}

fn check_imports(source: &Source, roots: &RootNames) -> Vec<String> {
    let room = source.room();
    if NO_ROOMS.contains(&&*source.path) {
        return vec![];
    }
    let paths = source.crate_paths().into_iter();
    let wrong = paths.filter_map(|path| {
        let first = path.segments.first().map_or("self", String::as_str);
        let is_root_name = roots.contains_key(first);
        let target = roots.get(first).map_or(first, String::as_str);
        let is_allowed = if target == room {
            true
        } else if FEATURES.contains(&room) || room == "prelude" {
            // The prelude is what a user imports: names at the root, those of features too.
            is_root_name || first == "prelude"
        } else {
            layer(target).zip(layer(room)).is_some_and(|(target, own)| target < own)
        };
        let what = format!("{room} imports {} of {target}, which is not below it", path.segments.join("::"));
        (!is_allowed).then(|| complaint(source, path.line, what))
    });
    wrong.collect()
}

fn check_first_sentence(source: &Source) -> Vec<String> {
    let paragraph = source.lines.iter().map_while(|line| line.strip_prefix("//! "));
    let sentence = paragraph.collect::<Vec<_>>().join(" ");
    if sentence.ends_with('.') && !sentence.contains(". ") {
        return vec![];
    }
    vec![complaint(source, 1, "a file begins with one `//!` sentence that says what is in it")]
}

fn check_places(source: &Source) -> Vec<String> {
    let mut found = vec![];
    for (words, places, why) in PLACES {
        let is_in =
            |place: &str| source.path == place || (place.ends_with('/') && source.path.starts_with(place));
        let is_there = places.iter().any(|place| is_in(place));
        let hits = source.code().filter(|&(at, _)| !is_there && source.reads(at, words));
        let what = format!("`{}` may stand only in {}: {why}", words.replace(' ', ""), places.join(" and "));
        found.extend(hits.map(|(_, token)| complaint(source, token.line, &what)));
    }
    found
}

fn check_unfinished(source: &Source) -> Vec<String> {
    let hits = source
        .tokens
        .iter()
        .enumerate()
        .filter(|&(at, token)| UNFINISHED.contains(&&*token.text) && source.reads(at + 1, "!"));
    hits.map(|(_, token)| complaint(source, token.line, format!("`{}!` is left over", token.text))).collect()
}

fn check_size(source: &Source) -> Vec<String> {
    let lines = source.code_line_count();
    let what =
        format!("{lines} lines without tests and docs; a file of one idea has {CODE_LINES_MAX} at most");
    if lines <= CODE_LINES_MAX { vec![] } else { vec![complaint(source, 1, what)] }
}

fn check_safety(source: &Source) -> Vec<String> {
    let blocks = source.tokens.iter().filter(|token| token.text == "unsafe");
    let bare = blocks.filter(|token| {
        let above = source.lines[..token.line - 1].iter().rev().map(|line| line.trim_start());
        let comment: Vec<&str> = above.take_while(|line| line.starts_with("//")).collect();
        let words = comment.iter().flat_map(|line| line.split(|c: char| !c.is_alphanumeric()));
        let names_one = words.into_iter().any(|word| ["I1", "I2", "I3", "I4", "I5"].contains(&word));
        !(names_one && comment.iter().any(|line| line.contains("SAFETY:")))
    });
    let what = "`unsafe` needs a `SAFETY:` comment above it that names one of I1 to I5";
    bare.map(|token| complaint(source, token.line, what)).collect()
}

/// Which room each `pub use` of the root takes its names from.
fn root_names(lib: &Source) -> RootNames {
    let mut names = RootNames::new();
    let mut at = 0;
    while let Some(more) = lib.tokens[at..].iter().position(|token| token.text == "use") {
        let from = at + more + 1;
        let len = lib.tokens[from..].iter().position(|token| token.text == ";").unwrap_or(0);
        let item = &lib.tokens[from..from + len];
        let room = item.first().map_or("", |token| &token.text);
        // The last name of a path, or each name in the braces.
        let named = item.iter().enumerate().filter(|&(at, token)| {
            let is_name = token.text.starts_with(|c: char| c.is_alphabetic()) && token.text != "as";
            is_name && item.get(at + 1).is_none_or(|next| next.text != "::" && next.text != "as")
        });
        names.extend(named.map(|(_, token)| (token.text.clone(), room.to_owned())));
        at = from + len;
    }
    names
}

fn read_sources(dir: &Path, prefix: &str, found: &mut Vec<Source>) {
    let mut entries: Vec<_> = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap()).collect();
    entries.sort_by_key(|entry| entry.file_name());
    for entry in entries {
        let name = entry.file_name().into_string().unwrap();
        let path = format!("{prefix}{name}");
        if entry.file_type().unwrap().is_dir() {
            read_sources(&entry.path(), &format!("{path}/"), found);
        } else if name.ends_with(".rs") {
            found.push(Source::parse(&path, &fs::read_to_string(entry.path()).unwrap()));
        }
    }
}

/// The files of `src/` that are not test code from end to end, the root first asked for its names.
fn sources() -> (Vec<Source>, RootNames) {
    let mut all = vec![];
    read_sources(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"), "", &mut all);
    let tests: BTreeSet<String> = all.iter().flat_map(Source::test_files).collect();
    let roots = root_names(all.iter().find(|source| source.path == "lib.rs").unwrap());
    all.retain(|source| !tests.contains(&source.path));
    (all, roots)
}

#[track_caller]
fn hold(check: impl Fn(&Source) -> Vec<String>) {
    let complaints: Vec<_> = sources().0.iter().flat_map(check).collect();
    assert!(complaints.is_empty(), "\n{}\n", complaints.join("\n"));
}

#[test]
fn every_directory_is_a_room_of_the_design() {
    hold(check_room);
}

#[test]
fn rooms_import_only_from_rooms_below() {
    let (_, roots) = sources();
    hold(|source| check_imports(source, &roots));
}

#[test]
fn every_file_begins_with_one_sentence() {
    hold(check_first_sentence);
}

#[test]
fn what_has_its_place_stands_nowhere_else() {
    hold(check_places);
}

#[test]
fn nothing_unfinished_is_left() {
    hold(check_unfinished);
}

#[test]
fn no_file_is_too_long() {
    hold(check_size);
}

#[test]
fn every_unsafe_names_its_invariant() {
    hold(check_safety);
}

/// The lines that a check complains of in a text.
fn lines_of(complaints: &[String]) -> Vec<usize> {
    complaints.iter().map(|text| text.split(':').nth(1).unwrap().parse().unwrap()).collect()
}

/// The lines with a bad import, at a root that offers `Stream` and `Receipt`.
fn bad_imports(path: &str, text: &str) -> Vec<usize> {
    let lib = "pub use stream::Stream;\npub use words::record::{Receipt, Record as R};";
    let roots = root_names(&Source::parse("lib.rs", lib));
    lines_of(&check_imports(&Source::parse(path, text), &roots))
}

#[test]
fn the_names_at_the_root_are_known_by_their_room() {
    let lib = "mod a;\npub use a::b::C;\npub use d::{E, f::G, H as I};\npub use words::limits;";
    let names: Vec<_> = root_names(&Source::parse("lib.rs", lib)).into_iter().collect();
    let expected = [("C", "a"), ("E", "d"), ("G", "d"), ("I", "d"), ("limits", "words")];
    assert_eq!(names, expected.map(|(name, room)| (name.to_owned(), room.to_owned())));
}

#[test]
fn an_import_from_above_is_caught() {
    assert_eq!(bad_imports("sys/file.rs", "use crate::words::error::Error;"), []);
    assert_eq!(bad_imports("sys/file.rs", "\nuse crate::segment::active::Active;"), [2]);
    assert_eq!(bad_imports("words/error.rs", "fn f() -> crate::Stream { g() }"), [1]);
    assert_eq!(bad_imports("words/error.rs", "fn f() -> crate::Receipt { g() }"), []);
    assert_eq!(
        bad_imports("words/error.rs", "/// See [`x`](crate::Stream).\nconst S: &str = \"crate::Stream\";"),
        []
    );
    assert_eq!(bad_imports("sys/file.rs", "use crate::{words::{error::Error, time},\n shard::Shard};"), [2]);
    assert_eq!(bad_imports("sys/file.rs", "use crate::*;"), [1]);
    assert_eq!(bad_imports("sys/file.rs", "pub(crate) fn f() {}"), []);
}

#[test]
fn an_import_from_the_same_line_is_caught() {
    assert_eq!(bad_imports("segment/active.rs", "use crate::manifest::Manifest;"), [1]);
    assert_eq!(bad_imports("manifest/mod.rs", "use crate::segment::path_in;"), [1]);
    assert_eq!(bad_imports("reshard/split.rs", "use crate::retention::policy;"), [1]);
    assert_eq!(bad_imports("segment/active.rs", "use crate::segment::window::Window;"), []);
}

#[test]
fn an_import_by_way_of_super_is_caught() {
    assert_eq!(bad_imports("sys/file.rs", "use super::dir;\nuse super::super::shard::Shard;"), [2]);
    assert_eq!(bad_imports("sys/mod.rs", "use super::shard::Shard;"), [1]);
    assert_eq!(
        bad_imports("sys/mod.rs", "mod inner {\n    use super::dir;\n}\nuse super::{words, shard};"),
        [4]
    );
}

#[test]
fn a_feature_that_reaches_into_the_core_is_caught() {
    assert_eq!(bad_imports("consumer/worker.rs", "use crate::{Stream, Receipt};\nuse super::lease;"), []);
    assert_eq!(bad_imports("consumer/worker.rs", "use crate::words::record::Receipt;"), [1]);
    assert_eq!(bad_imports("stream/mod.rs", "use crate::consumer::Worker;"), [1]);
    assert_eq!(
        bad_imports("prelude.rs", "pub use crate::{Stream, Receipt};\nuse crate::words::record::Receipt;"),
        [2]
    );
}

#[test]
fn tests_within_a_room_may_import_from_anywhere() {
    let text = "#[cfg(test)]\nmod tests {\n    use crate::Stream;\n}\nuse crate::Stream;";
    assert_eq!(bad_imports("sys/file.rs", text), [5]);
    assert_eq!(Source::parse("sys/mod.rs", "#[cfg(test)]\nmod faults;").test_files()[0], "sys/faults.rs");
}

#[test]
fn an_unknown_room_is_caught() {
    assert_eq!(check_room(&Source::parse("utils/mod.rs", "")).len(), 1);
    assert_eq!(check_room(&Source::parse("helpers.rs", "")).len(), 1);
    assert_eq!(check_room(&Source::parse("retention/policy.rs", "")).len(), 0);
}

#[test]
fn a_missing_sentence_is_caught() {
    let count = |text: &str| check_first_sentence(&Source::parse("sys/a.rs", text)).len();
    assert_eq!(count("//! What the\n//! system gives.\n//!\n//! 1. First. Then.\nuse a;"), 0);
    assert_eq!(count("use a;\n//! What the system gives."), 1);
    assert_eq!(count("//! What the system gives"), 1);
    assert_eq!(count("//! One. Two."), 1);
    assert_eq!(count(""), 1);
}

#[test]
fn a_word_out_of_its_place_is_caught() {
    let lines = |path: &str, text: &str| lines_of(&check_places(&Source::parse(path, text)));
    assert_eq!(lines("sys/dir.rs", "unsafe { f() }"), [1]);
    assert_eq!(lines("sys/map.rs", "#![allow(unsafe_code)]\nunsafe { f() }"), []);
    assert_eq!(lines("shard/a.rs", "use std::fs;"), [1]);
    assert_eq!(lines("shard/a.rs", "use std::{io,\nfs::File};"), [2]);
    assert_eq!(lines("sys/dir.rs", "use std::fs;"), []);
    assert_eq!(lines("shard/a.rs", "a.to_le_bytes();\nu32::from_le_bytes(a);"), [1, 2]);
    assert_eq!(lines("format/a.rs", "a.to_le_bytes();"), []);
    assert_eq!(lines("shard/a.rs", "let now =\nSystemTime::now();"), [2]);
    assert_eq!(lines("sys/clock.rs", "SystemTime::now();"), []);
    let hidden = "// unsafe\n/* unsafe /* fs */ unsafe */ const A: &str = \"un\\\"safe fs\"; \
                  let (b, c) = (r#\"\"fs\"#, '\"'); fn f<'fs>() {\nfs }";
    assert_eq!(
        check_places(&Source::parse("shard/a.rs", hidden)),
        [
            "src/shard/a.rs:3: `fs` may stand only in sys/: all of the file system goes through one room, where faults can \
         be injected"
        ]
    );
}

#[test]
fn what_is_unfinished_is_caught() {
    let count = |text: &str| check_unfinished(&Source::parse("shard/a.rs", text)).len();
    assert_eq!(count("fn f() { todo!() }\n#[cfg(test)]\nmod tests { fn g() { dbg!(1); println!(); } }"), 3);
    assert_eq!(count("//! println!(\nfn todo() { todo() }"), 0);
}

#[test]
fn a_long_file_is_caught() {
    let long = "fn f() {}\n".repeat(CODE_LINES_MAX);
    let tests = format!("#[cfg(test)]\nmod tests {{\n{long}}}\n");
    assert_eq!(check_size(&Source::parse("shard/a.rs", &format!("{long}    /// Doc.\n{tests}"))).len(), 0);
    assert_eq!(check_size(&Source::parse("shard/a.rs", &format!("{long}fn g() {{}}\n{tests}"))).len(), 1);
}

#[test]
fn an_unsafe_without_its_invariant_is_caught() {
    let lines = |text: &str| lines_of(&check_safety(&Source::parse("sys/map.rs", text)));
    assert_eq!(lines("// SAFETY: by I3 it\n// is so.\nlet a = unsafe { f() };"), []);
    assert_eq!(lines("// SAFETY: trust me.\nlet a = unsafe { f() };"), [2]);
    assert_eq!(lines("// By I3.\nunsafe { f() }"), [2]);
    assert_eq!(lines("// SAFETY: I6 and I33.\nunsafe { f() }"), [2]);
    assert_eq!(lines("// SAFETY: I1.\nlet a = 1;\nunsafe { f() }"), [3]);
}
