//! The plan of a pump, made from its statement and run by the runner of continuous queries.
//!
//! A plan cuts a statement in two. The runner does what SQL cannot: it keeps rows until time has passed them. DataFusion does the rest, over existing
//! rows. Each text of SQL in a plan is complete: the runner registers the tables that its documentation names, and runs it.
//!
//! Columns that begin with `_` belong to plans. Statements can read the system columns `_shard`, `_sequence`, `_arrival`, `_key`, `_data` and
//! `_headers`; all others below are invisible to them.
//!
//! | column | in | type | what |
//! |---|---|---|---|
//! | `_time` | results of `prepare` | `Timestamp(Microsecond, "UTC")` | the time that windows go by: arrival or event time |
//! | `window_start`, `window_end` | rows that windows release | `Timestamp(Microsecond, "UTC")` | the window, without its end |
//! | `_is_new` | rows of `Over` and `Join` | `Boolean` | false for rows that are there only to be looked back at |
//! | `_place_shard`, `_place_sequence` | results of `Each`, `Over` | those of `_shard`, `_sequence` | the input row that an output row comes from |
//! | `_left_shard`, `_left_sequence`, `_right_shard`, `_right_sequence` | results of `Join` | the same | the pair that an output row comes from |
//! | `_kept` | results of an outer `Join` | `Boolean` | whether `WHERE` lets the pair through |

use std::time::Duration;

/// The declarations of a text of statements: streams and pumps, in their order.
#[derive(Clone, Debug, PartialEq)]
pub(in crate::query) struct Program {
    /// Streams between pumps.
    pub(in crate::query) streams: Vec<DeclaredStream>,
    /// The continuous queries. No two have the same name.
    pub(in crate::query) pumps: Vec<Plan>,
}

/// `CREATE STREAM`: a name with columns, which pumps insert into and select from.
///
/// Starting a program creates a stream for each, with a JSON schema from `columns`, and adds it to the catalog before it starts the pumps. Its
/// `ROWTIME` is the time when a pump puts a row into it.
#[derive(Clone, Debug, PartialEq)]
pub(in crate::query) struct DeclaredStream {
    /// The name, as statements find it.
    pub(in crate::query) name: String,
    /// Its columns with types of SQL, as `Schema::json` takes them: `"page" VARCHAR, "ms" DOUBLE NOT NULL`.
    pub(in crate::query) columns: String,
    /// Whether a stream of the name may be there already (`CREATE OR REPLACE`).
    pub(in crate::query) replace: bool,
}

/// A continuous query.
#[derive(Clone, Debug, PartialEq)]
pub(in crate::query) struct Plan {
    /// The pump's name, under which its state is stored. For a plain `INSERT`, it is the name of the target, with `-2`, `-3` and so on for further
    /// ones of the same program.
    pub(in crate::query) name: String,
    /// The statement with single spaces, without comments, and unquoted words in lower case. Two statements with equal texts do the same.
    pub(in crate::query) text: String,
    /// Where rows go: `INSERT INTO` this.
    pub(in crate::query) target: String,
    /// The output's columns: as `INSERT INTO target (…)` lists them, or as the declared target has them, or as the query calls them.
    pub(in crate::query) columns: Vec<String>,
    /// Whether the pump waits to be started by hand (`CREATE PUMP p STOPPED AS …`).
    pub(in crate::query) stopped: bool,
    /// What is read: one stream for `Each` and `Over`, left and right for `Join`, one or more for `Windows`. No stream occurs twice, except in a
    /// `Join` of a stream with itself.
    pub(in crate::query) inputs: Vec<Input>,
    /// What happens with the rows.
    pub(in crate::query) shape: Shape,
}

/// A stream that a pump reads.
#[derive(Clone, Debug, PartialEq)]
pub(in crate::query) struct Input {
    /// Its table in the catalog, or a stream that the program declares.
    pub(in crate::query) stream: String,
    /// The name of the table that the later SQL reads: `_rows_1`, `_rows_2`.
    pub(in crate::query) alias: String,
    /// SQL over the table `input`, which is a micro-batch with all columns of the stream. The result has the rows that the statement's
    /// conditions let through, with the columns that it needs, and always `_shard`, `_sequence`, `_arrival` and `_time`.
    pub(in crate::query) prepare: String,
    /// Whether `_time` is the event time of the schema, whose watermark has lateness. Otherwise it is `_arrival`.
    pub(in crate::query) by_event_time: bool,
}

/// What happens between the input rows and the output rows.
///
/// Results have the output columns in their order, named as the output names them. After them come columns that the runner takes off, as the
/// table at the top of this file lists them.
#[derive(Clone, Debug, PartialEq)]
pub(in crate::query) enum Shape {
    /// Rows go out immediately. The result has `_place_shard` and `_place_sequence` at its end, in ascending order within a shard if the input is.
    Each {
        /// Reads the input's alias, and other tables of the catalog if the statement joins them.
        sql: String,
    },
    /// Rows are kept until the windows that they belong to have ended.
    Windows {
        /// Which windows a row belongs to.
        kind: Window,
        /// Reads the alias of each input: released rows, with `window_start` and `window_end` added. A row that belongs to several windows occurs
        /// once for each. All inputs have the same windows: those that end release the rows of all inputs, possibly none, together.
        sql: String,
        /// Whether `sql` must see the rows of one window (one `window_start` with one `window_end`) at a time, as `LIMIT` and subqueries require.
        /// Otherwise it may get the rows of many windows at the same time. The result is in the order of `window_end` unless the statement has
        /// subqueries. Several inputs are always separate.
        separately: bool,
    },
    /// Each row goes out with the earlier rows that it looks back at.
    ///
    /// Rows must come in the order of `_time`, and rows with the same `_time` must be there together, so that results do not depend on the division
    /// into micro-batches: a row is new once the watermark has passed its `_time`.
    Over {
        /// How far rows look back. Rows that none of these needs may be dropped.
        keep: Vec<Lookback>,
        /// Reads the input's alias: rows to be looked back at and new rows, with `_is_new` added. The result has a row for each new row, with
        /// `_place_shard` and `_place_sequence` at its end.
        sql: String,
    },
    /// Each row meets the rows of the other side that are near in time.
    Join {
        /// How long after its `_time` a left row can still meet right rows: it is kept until the watermark has passed that time.
        keep_left: Duration,
        /// The same for right rows.
        keep_right: Duration,
        /// Which rows go out alone when they have met none.
        kind: JoinKind,
        /// Reads the aliases of both inputs: rows that are kept and new rows, with `_is_new` added. The result has all pairs of which at least one
        /// row is new, each with `_left_shard`, `_left_sequence`, `_right_shard` and `_right_sequence` at its end. Unless `kind` is `Inner`, `_kept`
        /// follows: a pair for which it is false has met, but does not go out.
        sql: String,
        /// For rows that are dropped and have met none: reads the same aliases, one of them with these rows, the other one empty, and its
        /// result has the output columns alone. `Some` unless `kind` is `Inner`.
        alone: Option<String>,
    },
}

/// Which windows a row belongs to. Times are multiples of 1 ms; windows are aligned to 1970 in UTC, moved by `offset`, which is less than
/// `size` (or `slide`).
#[derive(Clone, Debug, PartialEq)]
pub(in crate::query) enum Window {
    /// One after the other.
    Tumble { size: Duration, offset: Duration },
    /// A window of `size` begins at each `slide`. Gaps between them are possible.
    Hop { size: Duration, slide: Duration, offset: Duration },
    /// Within each `max`, windows of one, two, three … `step`s that begin where it begins. `max` is a multiple of `step`.
    Cumulate { max: Duration, step: Duration },
    /// From the first row of a key to `gap` after the last one that came at most `gap` after the one before. `keys` are columns of `prepare`'s
    /// result.
    Session { gap: Duration, keys: Vec<String> },
    /// From the first row of a key, for `size`: the next row of the key begins a new one. By arrival. `keys` are columns of `prepare`'s result.
    Stagger { size: Duration, keys: Vec<String> },
}

/// Which rows a new row sees.
#[derive(Clone, Debug, PartialEq)]
pub(in crate::query) enum Lookback {
    /// The `count` rows before it that have equal values in the columns `per` of `prepare`'s result.
    Rows { per: Vec<String>, count: u64 },
    /// The rows whose `_time` is at most this much before its own.
    Range(Duration),
}

/// Which rows of a join go out alone when they have met none of the other side.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::query) enum JoinKind {
    Inner,
    Left,
    Right,
    Full,
}
