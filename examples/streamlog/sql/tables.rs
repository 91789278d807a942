//! The tables that the command line names: streams with their schemas, and files.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use streamlog::query::{Catalog, FoundSchema, QueryError, Schema};
use streamlog::{StreamOptions, StreamReader};

use super::{SqlArgs, is_statement};
use crate::failure::{Failure, Outcome, tell};
use crate::{archive, keys, report};

/// What statements may name. The readers stay open as long as this lives.
#[derive(Debug)]
pub(crate) struct Opened {
    pub(crate) catalog: Catalog,
}

/// A table as the command line names it.
struct Named<'a> {
    name: String,
    path: &'a str,
}

/// The schemas from the command line: by table name, or for the only stream.
#[derive(Default)]
struct Given {
    by_name: BTreeMap<String, Schema>,
    of_the_only_one: Option<(&'static str, Schema)>,
}

impl Opened {
    /// Opens everything named on the command line.
    pub(crate) fn open(
        args: &SqlArgs,
        tables: &[String],
        key_file: Option<&Path>,
        archive: Option<&str>,
    ) -> Result<Self, Failure> {
        let named: Vec<_> = tables.iter().map(|table| Named::parse(table)).collect::<Result<_, _>>()?;
        let (files, streams): (Vec<_>, Vec<_>) =
            named.into_iter().partition(|named| Path::new(named.path).is_file());
        let names: Vec<_> = streams.iter().chain(&files).map(|named| &named.name).collect();
        if let Some(twice) = names.iter().enumerate().find(|(at, name)| names[..*at].contains(name)) {
            return Err(Failure::Told(format!(
                "two tables are named {}: give one another name, NAME=PATH",
                twice.1
            )));
        }
        if archive.is_some() && streams.len() > 1 {
            return Err(Failure::Told("an archive is that of one stream, and these are several".to_owned()));
        }
        let mut given = Given::read(args)?;
        given.give_to(&streams)?;
        let memory = usize::try_from(args.memory).unwrap_or(usize::MAX);
        let is_only = streams.len() == 1;
        let mut catalog = Catalog::new().memory_limit(memory);
        for Named { name, path } in streams {
            let options = keys::with_keys(StreamOptions::new(), key_file)?;
            let reader = archive::with_archive(options, archive)?.open_reader(path)?;
            report::warn_of_permissions(Path::new(path));
            let schema = match given.by_name.remove(&name) {
                Some(schema) => schema,
                None if args.raw => Schema::raw(),
                None => inferred(&reader, &name, is_only)?,
            };
            catalog = catalog.stream(&name, &reader, schema).map_err(told)?;
        }
        for Named { name, path } in files {
            catalog = catalog.file(&name, path).map_err(told)?;
        }
        Ok(Self { catalog })
    }
}

fn told(error: QueryError) -> Failure {
    Failure::Told(error.to_string())
}

/// Returns what is wrong with columns that the caller has given as a schema.
fn reason(error: &QueryError) -> String {
    let text = error.to_string();
    text.strip_prefix("the schema is wrong: ").unwrap_or(&text).to_owned()
}

impl<'a> Named<'a> {
    fn parse(text: &'a str) -> Result<Self, Failure> {
        // A path may also contain `=`.
        if let Some((name, path)) = text.split_once('=')
            && is_plain(name)
            && !Path::new(text).exists()
        {
            return Ok(Self { name: name.to_owned(), path });
        }
        if is_statement(text) {
            return Err(Failure::Told(format!("the statement goes behind the tables: {text}")));
        }
        let path = Path::new(text);
        let whole = || path.canonicalize().unwrap_or_else(|_| PathBuf::from("stream"));
        let last = if path.is_file() { path.file_stem() } else { path.file_name() };
        let last =
            last.map_or_else(|| whole().file_name().unwrap_or_default().into(), |last| last.to_owned());
        Ok(Self { name: plain(&last.to_string_lossy()), path: text })
    }
}

fn is_plain(name: &str) -> bool {
    let is_letter = |letter: char| letter.is_ascii_alphanumeric() || letter == '_';
    name.starts_with(|first: char| is_letter(first) && !first.is_ascii_digit()) && name.chars().all(is_letter)
}

/// Makes a name that statements need not quote.
fn plain(text: &str) -> String {
    let letters = text.chars().map(|letter| if letter.is_ascii_alphanumeric() { letter } else { '_' });
    let name: String = letters.collect();
    if is_plain(&name) { name } else { format!("_{name}") }
}

impl Given {
    fn read(args: &SqlArgs) -> Result<Self, Failure> {
        let mut given = Self::default();
        for text in &args.schema {
            given.add("--schema", text, &|columns| Schema::json(columns))?;
        }
        let delimiter = u8::try_from(args.csv_delimiter)
            .map_err(|_| Failure::Told("--csv-delimiter is an ASCII character".to_owned()))?;
        for text in &args.csv_columns {
            given.add("--csv-columns", text, &|columns| Schema::csv(columns)?.delimiter(delimiter))?;
        }
        Ok(given)
    }

    fn add(
        &mut self,
        option: &'static str,
        text: &str,
        read: &dyn Fn(&str) -> Result<Schema, QueryError>,
    ) -> Outcome {
        let (name, columns) = match text.split_once('=') {
            Some((name, columns)) if is_plain(name) => (Some(name), columns),
            _ => (None, text),
        };
        let schema = read(columns).map_err(|error| Failure::Told(format!("{option}: {}", reason(&error))))?;
        let is_second = match name {
            Some(name) => self.by_name.insert(name.to_owned(), schema).is_some(),
            None => self.of_the_only_one.replace((option, schema)).is_some(),
        };
        if is_second {
            return Err(Failure::Told(format!("{option}: a stream has its columns twice: {text}")));
        }
        Ok(())
    }

    /// Finds the stream that a schema without a name applies to, and refuses names of unknown streams.
    fn give_to(&mut self, streams: &[Named<'_>]) -> Outcome {
        if let Some((option, schema)) = self.of_the_only_one.take() {
            let [only] = streams else {
                let names: Vec<_> =
                    streams.iter().map(|named| format!("{option} {}='...'", named.name)).collect();
                let how =
                    if names.is_empty() { "there is no stream".to_owned() } else { names.join(", or ") };
                return Err(Failure::Told(format!("{option}: say for which stream: {how}")));
            };
            if self.by_name.insert(only.name.clone(), schema).is_some() {
                return Err(Failure::Told(format!("{option}: {} has its columns twice", only.name)));
            }
        }
        match self.by_name.keys().find(|name| streams.iter().all(|named| named.name != **name)) {
            Some(name) => {
                Err(Failure::Told(format!("there are columns for {name}, which is no stream here")))
            }
            None => Ok(()),
        }
    }
}

/// Infers the columns from the first records, and prints them.
fn inferred(reader: &StreamReader, name: &str, is_only: bool) -> Result<Schema, Failure> {
    let found = Schema::find(reader)?;
    match &found {
        FoundSchema::Columns(schema) => {
            let columns = schema.to_string().replace('\'', r"'\''");
            let of = if is_only { String::new() } else { format!("{name}=") };
            tell(&format!("the columns of {name} are those of its first records: --schema {of}'{columns}'"));
        }
        FoundSchema::Other(reason) => {
            let how = "CAST(_data AS VARCHAR)";
            tell(&format!(
                "note: {name} has its data as _data only, such as {how}: {reason}; see --csv-columns, --raw"
            ));
        }
        _ => tell(&format!(
            "note: {name} has no records yet: give their columns with --schema or --csv-columns"
        )),
    }
    Ok(found.into_schema())
}
