//! Statements and their plans: tables to plan against, and DataFusion to judge the SQL of plans.

mod errors;
mod flink;
mod joins;
mod kinesis;
mod random;
mod refused;
mod results;
mod rows;

use std::sync::Arc;

use arrow_schema::{DataType, Field, Fields, Schema, TimeUnit};
use datafusion::datasource::MemTable;
use datafusion::prelude::{SessionConfig, SessionContext};

use super::plan::{JoinKind, Plan, Program, Shape};
use super::problem::Problem;
use super::tables::{SYSTEM, Table, TableKind, Tables};

pub(super) const STOCKS: &str = "SOURCE_SQL_STREAM_001";

fn time() -> DataType {
    DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()))
}

/// A table's name, the column of its event time, and its columns.
type TestTable = (&'static str, Option<&'static str>, Vec<(&'static str, DataType)>);

/// The columns of the tables of the tests, without those of the system, and which of them are event times.
fn tables() -> Vec<TestTable> {
    use DataType::{Float64, Int64, Utf8View};
    let user = DataType::Struct(Fields::from(vec![
        Field::new("id", Int64, true),
        Field::new("name", Utf8View, true),
    ]));
    vec![
        (
            STOCKS,
            Some("event_time"),
            vec![
                ("ticker_symbol", Utf8View),
                ("sector", Utf8View),
                ("change", Float64),
                ("price", Float64),
                ("event_time", time()),
            ],
        ),
        (
            "clicks",
            Some("at"),
            vec![
                ("page", Utf8View),
                ("ms", Float64),
                ("at", time()),
                ("seen", time()),
                ("visitor", user),
                ("user", Utf8View),
                ("order", Int64),
            ],
        ),
        (
            "bid",
            Some("bidtime"),
            vec![("item", Utf8View), ("price", Float64), ("supplier_id", Utf8View), ("bidtime", time())],
        ),
        (
            "orders",
            Some("order_time"),
            vec![("id", Int64), ("product", Utf8View), ("amount", Float64), ("order_time", time())],
        ),
        ("shipments", Some("ship_time"), vec![("id", Int64), ("order_id", Int64), ("ship_time", time())]),
        ("metrics", None, vec![("Name", Utf8View), ("VALUE", Float64), ("taken", time())]),
        ("raw", None, vec![]),
        ("pages", None, vec![("page", Utf8View), ("owner", Utf8View)]),
    ]
}

const FILES: [&str; 1] = ["pages"];

fn system() -> Vec<Field> {
    let entries = Fields::from(vec![
        Field::new("keys", DataType::Utf8, false),
        Field::new("values", DataType::Binary, true),
    ]);
    let entries = Arc::new(Field::new("entries", DataType::Struct(entries), false));
    let types = [
        DataType::UInt32,
        DataType::UInt64,
        time(),
        DataType::Utf8,
        DataType::Binary,
        DataType::Map(entries, false),
    ];
    SYSTEM.iter().zip(types).map(|(name, of)| Field::new(*name, of, false)).collect()
}

fn fields(name: &str) -> Option<Vec<Field>> {
    let (_, _, own) = tables().into_iter().find(|(other, _, _)| *other == name)?;
    let own = own.into_iter().map(|(name, of)| Field::new(name, of, true));
    Some(if FILES.contains(&name) { own.collect() } else { system().into_iter().chain(own).collect() })
}

pub(super) struct Catalog;

impl Tables for Catalog {
    fn table(&self, name: &str) -> Option<Table> {
        let (_, event_time, _) = tables().into_iter().find(|(other, _, _)| *other == name)?;
        let columns = fields(name)?.iter().map(|field| field.name().clone()).collect();
        let event_time = event_time.map(str::to_owned);
        let kind = if FILES.contains(&name) { TableKind::Fixed } else { TableKind::Stream { event_time } };
        Some(Table { columns, kind })
    }

    fn names(&self) -> Vec<String> {
        tables().into_iter().map(|(name, _, _)| name.to_owned()).collect()
    }
}

/// Plans a text, and has DataFusion plan all SQL of the result.
#[track_caller]
pub(super) fn program(text: &str) -> Program {
    let program = match super::plan(text, &Catalog) {
        Ok(program) => program,
        Err(problem) => panic!("{}\n{text}", shown(text, &problem)),
    };
    for plan in &program.pumps {
        if let Err(error) = judged(plan, &program) {
            panic!("{error}\n{text}");
        }
    }
    program
}

/// The plan of a text with one pump.
#[track_caller]
pub(super) fn plan(text: &str) -> Plan {
    let mut program = program(text);
    assert_eq!(program.pumps.len(), 1);
    program.pumps.remove(0)
}

/// A program as lines to compare.
pub(super) fn sketch(program: &Program) -> String {
    let mut lines = vec![];
    for stream in &program.streams {
        let replace = if stream.replace { " replace" } else { "" };
        lines.push(format!("stream {}{replace}: {}", stream.name, stream.columns));
    }
    for plan in &program.pumps {
        let stopped = if plan.stopped { " stopped" } else { "" };
        lines.push(format!("pump {}{stopped} -> {} ({})", plan.name, plan.target, plan.columns.join(", ")));
        for input in &plan.inputs {
            let time = if input.by_event_time { "event" } else { "arrival" };
            lines.push(format!("{} by {time}: {}", input.stream, input.prepare));
        }
        match &plan.shape {
            Shape::Each { sql } => lines.push(format!("each: {sql}")),
            Shape::Windows { kind, sql, separately } => {
                lines.push(format!("{kind:?}{}: {sql}", if *separately { " separately" } else { "" }));
            }
            Shape::Over { keep, sql } => lines.push(format!("{keep:?}: {sql}")),
            Shape::Join { keep_left, keep_right, kind, sql, alone } => {
                lines.push(format!("{kind:?} {keep_left:?} {keep_right:?}: {sql}"));
                lines.extend(alone.iter().map(|alone| format!("alone: {alone}")));
            }
        }
    }
    lines.join("\n")
}

/// Plans statements, and compares the sketches.
#[track_caller]
pub(super) fn compare(examples: &[(&str, &str)]) {
    for (text, expected) in examples {
        assert_eq!(sketch(&program(text)), *expected, "{text}");
    }
}

/// What is wrong with a text.
#[track_caller]
pub(super) fn problem_of(text: &str) -> Problem {
    super::plan(text, &Catalog).expect_err("the text is wrong")
}

/// A statement, what is wrong with it, what stands at the place, and the hint.
type Refused<'a> = (&'a str, &'a str, &'a str, &'a str);

/// Plans statements that are wrong, and compares the problems.
#[track_caller]
pub(super) fn refuse(statements: &[Refused<'_>]) {
    for &(text, message, at, hint) in statements {
        let problem = problem_of(text);
        assert_eq!(
            (&*problem.message, problem.hint.as_deref().unwrap_or_default()),
            (message, hint),
            "{text}"
        );
        assert!(text[problem.place(text)..].starts_with(at), "{}", shown(text, &problem));
    }
}

/// All statements of the examples.
pub(super) fn statements() -> Vec<&'static str> {
    let all = [kinesis::EXAMPLES, flink::EXAMPLES, rows::EXAMPLES, joins::EXAMPLES];
    all.into_iter().flatten().map(|(text, _)| *text).collect()
}

#[test]
fn a_problem_is_shown_under_its_line() {
    let text = "INSERT INTO out\nSELECT page,\n       pagee\nFROM clicks";
    let expected = "there is no column pagee\n       pagee\n       ^\nhint: did you mean page?";
    assert_eq!(shown(text, &problem_of(text)), expected);
}

/// A problem as a person reads it.
pub(super) fn shown(text: &str, problem: &Problem) -> String {
    let place = problem.place(text);
    let line = text.lines().nth(problem.line - 1).unwrap_or_default();
    let hint = problem.hint.as_ref().map(|hint| format!("\nhint: {hint}")).unwrap_or_default();
    assert!(text.is_char_boundary(place), "{problem:?}");
    format!("{}\n{line}\n{}^{hint}", problem.message, " ".repeat(problem.column - 1))
}

pub(super) fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().build().unwrap()
}

pub(super) fn session() -> SessionContext {
    SessionContext::new_with_config(SessionConfig::new().with_target_partitions(1))
}

fn register(session: &SessionContext, name: &str, fields: Vec<Field>) {
    let table = MemTable::try_new(Arc::new(Schema::new(fields)), vec![vec![]]).unwrap();
    session.register_table(format!("\"{name}\""), Arc::new(table)).unwrap();
}

/// The columns that a text of SQL results in, if it can be run.
fn planned(session: &SessionContext, sql: &str) -> Result<Vec<Field>, String> {
    runtime().block_on(async {
        let frame = session.sql(sql).await.map_err(|error| format!("{error}\n{sql}"))?;
        let fields = frame.schema().fields().iter().map(|field| field.as_ref().clone()).collect();
        frame.collect().await.map_err(|error| format!("{error}\n{sql}"))?;
        Ok(fields)
    })
}

fn names(fields: &[Field]) -> Vec<&str> {
    fields.iter().map(|field| field.name().as_str()).collect()
}

/// Has DataFusion plan and run all SQL of a plan over empty tables, and checks the columns of the results.
pub(super) fn judged(plan: &Plan, program: &Program) -> Result<(), String> {
    let session = session();
    register(&session, "pages", fields("pages").unwrap());
    for (number, input) in plan.inputs.iter().enumerate() {
        let declared = program.streams.iter().find(|stream| stream.name == input.stream);
        let of_input = match declared {
            Some(declared) => system().into_iter().chain(declared_fields(&declared.columns)?).collect(),
            None => fields(&input.stream).unwrap(),
        };
        let preparing = super::tests::session();
        register(&preparing, "input", of_input);
        let mut rows = planned(&preparing, &input.prepare)?;
        let last: Vec<_> = names(&rows).into_iter().rev().take(4).collect();
        assert_eq!(last, ["_time", "_arrival", "_sequence", "_shard"], "{}", input.prepare);
        let more = match plan.shape {
            Shape::Each { .. } => vec![],
            Shape::Windows { .. } => vec![("window_start", time()), ("window_end", time())],
            Shape::Over { .. } | Shape::Join { .. } => vec![("_is_new", DataType::Boolean)],
        };
        rows.extend(more.into_iter().map(|(name, of)| Field::new(name, of, false)));
        assert_eq!(input.alias, format!("_rows_{}", number + 1));
        register(&session, &input.alias, rows);
    }
    let mut columns: Vec<&str> = plan.columns.iter().map(String::as_str).collect();
    let sql = match &plan.shape {
        Shape::Each { sql } | Shape::Over { sql, .. } => {
            columns.extend(["_place_shard", "_place_sequence"]);
            sql
        }
        Shape::Windows { sql, .. } => sql,
        Shape::Join { sql, alone, kind, .. } => {
            if let Some(alone) = alone {
                assert_eq!(names(&planned(&session, alone)?), columns, "{alone}");
            }
            columns.extend(["_left_shard", "_left_sequence", "_right_shard", "_right_sequence"]);
            columns.extend((*kind != JoinKind::Inner).then_some("_kept"));
            sql
        }
    };
    assert_eq!(names(&planned(&session, sql)?), columns, "{sql}");
    Ok(())
}

fn declared_fields(columns: &str) -> Result<Vec<Field>, String> {
    let session = session();
    let create = format!("CREATE TABLE declared ({columns})");
    runtime().block_on(async {
        session.sql(&create).await.map_err(|error| format!("{error}\n{create}"))?;
        let table = session.table("declared").await.unwrap();
        Ok(table.schema().fields().iter().map(|field| field.as_ref().clone()).collect())
    })
}
