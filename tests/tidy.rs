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

/// The rooms of the engine, `src/log/`, lowest line first. A room imports only from lines above its own in this list.
const ENGINE: [&[&str]; 9] = [
    &["types"],
    &["format"],
    &["sys"],
    &["segment", "manifest"],
    &["recovery"],
    &["shard"],
    &["topology"],
    &["reshard", "retention"],
    &["stream"],
];

/// Rooms that see the engine only as a user does: by the names at the root of the crate. A room sees those before it, too.
const LAYERS: [&str; 14] = [
    "producer",
    "consumer",
    "subscription",
    "processor",
    "queue",
    "scaling",
    "store",
    "delivery",
    "query",
    "video",
    "gateway",
    "relay",
    "metrics",
    "prelude",
];

/// Files that are no rooms: the tables of contents, and the door for fuzzing, which is compiled for nothing else.
const NO_ROOMS: [&str; 3] = ["lib.rs", "log/mod.rs", "log/fuzzing.rs"];

const CODE_LINES_MAX: usize = 400;

/// What may stand only in some files: the tokens, the files (or the rooms, with a slash at the end), and why.
const PLACES: [(&str, &[&str], &str); 5] = [
    (
        "unsafe",
        &["log/sys/map.rs", "log/sys/process.rs", "log/sys/processor.rs"],
        "they state the invariants that unsafe code leans on",
    ),
    ("fs", &["log/sys/"], "all of the file system goes through one room, where faults can be injected"),
    ("to_le_bytes", &["log/format/"], "one room knows the bytes on disk"),
    ("from_le_bytes", &["log/format/"], "one room knows the bytes on disk"),
    ("SystemTime :: now", &["log/sys/clock.rs"], "time comes from the stream's clock"),
];

/// Macros that finished code does not have.
const UNFINISHED: [&str; 4] = ["todo", "unimplemented", "dbg", "println"];

/// Where the names at the root of the crate come from: `Stream` from `stream`.
type RootNames = BTreeMap<String, String>;

/// One complaint: where, and what the matter is.
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

/// The room that a path from the root of the crate leads into.
fn room_of(segments: &[String]) -> String {
    match segments {
        [first, second, ..] if first == "log" => format!("log/{second}"),
        [first, ..] => first.clone(),
        [] => "self".to_owned(),
    }
}

fn check_room(source: &Source) -> Vec<String> {
    let room = source.room();
    let is_known =
        NO_ROOMS.contains(&&*source.path) || engine_line(&room).is_some() || layer(&room).is_some();
    if is_known { vec![] } else { vec![complaint(source, 1, format!("no room is called {room}: list it"))] }
}

fn check_imports(source: &Source, roots: &RootNames) -> Vec<String> {
    let room = source.room();
    if NO_ROOMS.contains(&&*source.path) {
        return vec![];
    }
    let paths = source.crate_paths().into_iter();
    let wrong = paths.filter_map(|path| {
        let root_room = path.segments.first().and_then(|first| roots.get(first));
        let target = root_room.cloned().unwrap_or_else(|| room_of(&path.segments));
        let is_allowed = if target == room {
            true
        } else if let Some(own) = layer(&room) {
            // By names at the root only: of the engine, and of the layers before this one.
            root_room.is_some() && layer(&target).is_none_or(|target| target < own)
        } else {
            engine_line(&target).zip(engine_line(&room)).is_some_and(|(target, own)| target < own)
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
        let names_one = words.into_iter().any(|word| ["I1", "I2", "I3", "I4", "I5", "I6"].contains(&word));
        !(names_one && comment.iter().any(|line| line.contains("SAFETY:")))
    });
    let what = "`unsafe` needs a `SAFETY:` comment above it that names one of I1 to I6";
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
        let path: Vec<String> =
            item.iter().filter(|token| token.text != "::").map(|token| token.text.clone()).collect();
        let room = room_of(&path);
        // The last name of a path, or each name in the braces.
        let named = item.iter().enumerate().filter(|&(at, token)| {
            let is_name = token.text.starts_with(|c: char| c.is_alphabetic()) && token.text != "as";
            is_name && item.get(at + 1).is_none_or(|next| next.text != "::" && next.text != "as")
        });
        names.extend(named.map(|(_, token)| (token.text.clone(), room.clone())));
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
    all.retain(|source| {
        !tests
            .iter()
            .any(|test| source.path == *test || (test.ends_with('/') && source.path.starts_with(test)))
    });
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
    let lib = "pub use log::stream::Stream;\npub use log::types::record::{Receipt, Record as R};\npub use consumer::Worker;";
    let roots = root_names(&Source::parse("lib.rs", lib));
    lines_of(&check_imports(&Source::parse(path, text), &roots))
}

#[test]
fn the_names_at_the_root_are_known_by_their_room() {
    let lib = "mod a;\npub use a::b::C;\npub use d::{E, f::G, H as I};\npub use log::types::limits;";
    let names: Vec<_> = root_names(&Source::parse("lib.rs", lib)).into_iter().collect();
    let expected = [("C", "a"), ("E", "d"), ("G", "d"), ("I", "d"), ("limits", "log/types")];
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
    assert_eq!(bad_imports("log/sys/mod.rs", "use super::shard::Shard;"), [1]);
    assert_eq!(
        bad_imports("log/sys/mod.rs", "mod inner {\n    use super::dir;\n}\nuse super::{types, shard};"),
        [4]
    );
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
    assert_eq!(
        Source::parse("log/sys/mod.rs", "#[cfg(test)]\nmod faults;").test_files()[0],
        "log/sys/faults.rs"
    );
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
    assert_eq!(count("use a;\n//! What the system gives."), 1);
    assert_eq!(count("//! What the system gives"), 1);
    assert_eq!(count("//! One. Two."), 1);
    assert_eq!(count(""), 1);
}

#[test]
fn a_word_out_of_its_place_is_caught() {
    let lines = |path: &str, text: &str| lines_of(&check_places(&Source::parse(path, text)));
    assert_eq!(lines("log/sys/dir.rs", "unsafe { f() }"), [1]);
    assert_eq!(lines("log/sys/map.rs", "#![allow(unsafe_code)]\nunsafe { f() }"), []);
    assert_eq!(lines("log/shard/a.rs", "use std::fs;"), [1]);
    assert_eq!(lines("log/shard/a.rs", "use std::{io,\nfs::File};"), [2]);
    assert_eq!(lines("log/sys/dir.rs", "use std::fs;"), []);
    assert_eq!(lines("log/shard/a.rs", "a.to_le_bytes();\nu32::from_le_bytes(a);"), [1, 2]);
    assert_eq!(lines("log/format/a.rs", "a.to_le_bytes();"), []);
    assert_eq!(lines("log/shard/a.rs", "let now =\nSystemTime::now();"), [2]);
    assert_eq!(lines("log/sys/clock.rs", "SystemTime::now();"), []);
    let hidden = "// unsafe\n/* unsafe /* fs */ unsafe */ const A: &str = \"un\\\"safe fs\"; \
                  let (b, c) = (r#\"\"fs\"#, '\"'); fn f<'fs>() {\nfs }";
    assert_eq!(
        check_places(&Source::parse("log/shard/a.rs", hidden)),
        [
            "src/log/shard/a.rs:3: `fs` may stand only in log/sys/: all of the file system goes through one room, where faults can \
         be injected"
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
    assert_eq!(lines("// SAFETY: by I3 it\n// is so.\nlet a = unsafe { f() };"), []);
    assert_eq!(lines("// SAFETY: trust me.\nlet a = unsafe { f() };"), [2]);
    assert_eq!(lines("// By I3.\nunsafe { f() }"), [2]);
    assert_eq!(lines("// SAFETY: I7 and I33.\nunsafe { f() }"), [2]);
    assert_eq!(lines("// SAFETY: I1.\nlet a = 1;\nunsafe { f() }"), [3]);
}
