//! `sql`: querying streams and files with SQL, in one statement or in a shell.

use clap::ValueEnum;
use streamlog::Position;

use crate::parse::{parse_beginning, parse_bytes};

#[cfg(feature = "sql")]
mod complete;
#[cfg(feature = "sql")]
mod lines;
#[cfg(feature = "sql")]
mod print;
#[cfg(feature = "sql")]
mod script;
#[cfg(feature = "sql")]
mod shell;
#[cfg(feature = "sql")]
mod split;
#[cfg(feature = "sql")]
mod tables;
#[cfg(feature = "sql")]
mod watch;

const EXAMPLES: &str = "\
Examples:
  streamlog sql clicks 'SELECT page, count(*) FROM clicks GROUP BY page'
  streamlog sql clicks users=/data/users.csv 'SELECT name, page FROM clicks JOIN users ON id = _key'
  streamlog sql clicks --schema 'page VARCHAR, ms DOUBLE, at TIMESTAMP' --format csv 'SELECT * FROM clicks'
  streamlog sql access --raw \"SELECT w3c_log_parse(CAST(_data AS VARCHAR), 'COMMON') FROM access LIMIT 3\"
  streamlog sql clicks users=/data/users.csv          (opens a shell; \\? lists its commands)
  streamlog sql clicks < report.sql";

/// Query streams and files with SQL, as they are when the query begins.
///
/// Each directory is a stream, and each file (.csv, .tsv, .json, .jsonl, .ndjson, .parquet) is a table. Its name is the last part of its path:
/// letters, digits and underscores, without the extension. NAME=PATH sets another name. Programs may have the streams open at the same time.
///
/// A stream has the columns _shard, _sequence, _arrival, _key, _data and _headers, and the columns of its data. Without --schema or --csv-columns,
/// the columns of the data are taken from the first records, if those are JSON objects. Records that do not fit are skipped, and their number is
/// printed on standard error.
///
/// Statements are SELECT, EXPLAIN SELECT, SHOW TABLES, SHOW FUNCTIONS and DESCRIBE. Separate statements with semicolons. Without a statement on the
/// command line, statements are read from standard input; at a terminal, a shell opens. The command stops at the first statement that fails.
///
/// Needs a build with --features sql.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES, after_long_help = EXAMPLES)]
pub(crate) struct SqlArgs {
    /// Stream directories and files, followed by the statement
    #[arg(value_name = "[NAME=]PATH… [STATEMENT]", required = true)]
    pub(crate) tables: Vec<String>,
    /// The columns of JSON data, such as: page VARCHAR, ms DOUBLE NOT NULL, at TIMESTAMP, user STRUCT<id BIGINT>, tags VARCHAR[]. With several streams,
    /// name the stream and repeat the option for each: --schema NAME='...'
    #[arg(long, value_name = "[NAME=]COLUMNS")]
    pub(crate) schema: Vec<String>,
    /// The columns of CSV data (one line per record), in order; otherwise like --schema
    #[arg(long, value_name = "[NAME=]COLUMNS")]
    pub(crate) csv_columns: Vec<String>,
    /// The separator between CSV fields
    #[arg(long, value_name = "CHARACTER", default_value_t = ',', requires = "csv_columns")]
    pub(crate) csv_delimiter: char,
    /// Do not derive columns for streams without --schema or --csv-columns: read their data as _data
    #[arg(long)]
    pub(crate) raw: bool,
    /// How rows are printed: as a table, as one line per column (also used for a table that is too wide for the terminal), as CSV with a header
    /// line, or as one JSON object per line
    #[arg(long, value_enum, default_value_t = RowFormat::Table)]
    pub(crate) format: RowFormat,
    /// The maximum number of rows in the formats table and lines. CSV and JSON have all rows
    #[arg(long, value_name = "N", default_value_t = 1_000)]
    pub(crate) max_rows: usize,
    /// Run the statement until Ctrl-C, and print each row as it arrives: rows of records that are put from now on, or of windows as they end
    /// (SELECT page, count(*) FROM TABLE(TUMBLE(TABLE clicks, DESCRIPTOR(_arrival), INTERVAL '1' MINUTE)) GROUP BY page, window_start, window_end).
    /// The stream's directory must be writable: the query stores its progress there. A SELECT removes it when it ends. INSERT INTO
    /// NAME SELECT … continues from there, and prints the last rows again if it was killed
    #[arg(long)]
    pub(crate) watch: bool,
    /// Where --watch starts: horizon (the oldest record), latest (the end), or a time as for cat --from
    #[arg(long, value_name = "PLACE", default_value = "latest", value_parser = parse_beginning, requires = "watch")]
    pub(crate) from: Position,
    /// How much memory a query may use to sort, group and join; beyond that, it writes temporary files
    #[arg(long, value_name = "SIZE", default_value = "1G", value_parser = parse_bytes)]
    pub(crate) memory: u64,
}

impl SqlArgs {
    /// Returns the tables, and the statement after them if there is one.
    #[cfg(feature = "sql")]
    fn split(&self) -> (&[String], Option<&str>) {
        match self.tables.split_last() {
            Some((last, tables)) if is_statement(last) => (tables, Some(last)),
            _ => (&self.tables, None),
        }
    }
}

/// Statements contain blanks. Few paths do, and those exist.
#[cfg(feature = "sql")]
fn is_statement(text: &str) -> bool {
    let is_there = |path: &str| std::path::Path::new(path).exists();
    let is_table = || is_there(text) || text.split_once('=').is_some_and(|(_, path)| is_there(path));
    text.starts_with('\\') || text.contains([' ', '\t', '\n', ';']) && !is_table()
}

/// How rows are printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum RowFormat {
    Table,
    Lines,
    Csv,
    Json,
}

#[cfg(not(feature = "sql"))]
pub(crate) fn sql(_: &SqlArgs, _: Option<&std::path::Path>, _: Option<&str>) -> crate::failure::Outcome {
    let how = "this tool was built without SQL: build it with --features sql";
    Err(crate::failure::Failure::Told(how.to_owned()))
}

#[cfg(feature = "sql")]
pub(crate) use with_sql::sql;

#[cfg(feature = "sql")]
mod with_sql {
    use std::io::IsTerminal;
    use std::path::Path;

    use super::print::Screen;
    use super::tables::Opened;
    use super::{SqlArgs, script, shell, watch};
    use crate::failure::{Failure, Outcome};
    use crate::standard;

    /// Runs the statements from the command line, standard input or a terminal.
    pub(crate) fn sql(args: &SqlArgs, key_file: Option<&Path>, archive: Option<&str>) -> Outcome {
        let (tables, statement) = args.split();
        let opened = Opened::open(args, tables, key_file, archive)?;
        if args.watch {
            let how = "--watch needs one statement on the command line";
            let statement = statement.ok_or_else(|| Failure::Told(how.to_owned()))?;
            return watch::watch(args, &opened.catalog, statement);
        }
        let mut screen = Screen::new(args.format, args.max_rows)?;
        if let Some(text) = statement {
            return script::all(text, &opened, &mut screen).map(|_| ());
        }
        let input = standard::input().map_err(|error| Failure::input(script::INPUT, &error))?;
        if input.is_terminal() && screen.is_terminal {
            return shell::run(&opened, screen);
        }
        script::run(input, &opened, &mut screen)
    }
}
