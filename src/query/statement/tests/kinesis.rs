//! The examples of AWS' documentation of Kinesis Data Analytics for SQL.

use super::super::plan::{Plan, Shape};
use super::program;

fn show(plan: &Plan) -> String {
    let mut text = format!(
        "{} -> {} {:?}{}\n",
        plan.name,
        plan.target,
        plan.columns,
        if plan.stopped { " stopped" } else { "" }
    );
    for input in &plan.inputs {
        text +=
            &format!("  {} {} {}\n    {}\n", input.stream, input.alias, input.by_event_time, input.prepare);
    }
    match &plan.shape {
        Shape::Each { sql } => text += &format!("  each\n    {sql}\n"),
        Shape::Windows { kind, sql, separately } => {
            text += &format!("  {kind:?} separately={separately}\n    {sql}\n")
        }
        Shape::Over { keep, sql } => text += &format!("  over {keep:?}\n    {sql}\n"),
        Shape::Join { keep_left, keep_right, kind, sql, alone } => {
            text += &format!("  join {keep_left:?} {keep_right:?} {kind:?}\n    {sql}\n    {alone:?}\n");
        }
    }
    text
}

#[test]
fn look() {
    let texts = std::fs::read_to_string("/tmp/h3_texts.sql").unwrap();
    for text in texts.split("\n\n") {
        println!("=== {text}");
        match super::super::plan(text, &super::Catalog) {
            Ok(program) => {
                for plan in &program.pumps {
                    println!("{}", show(plan));
                }
                let judged = std::panic::catch_unwind(|| program_of(text));
                if judged.is_err() {
                    println!("!!! FAILED");
                }
            }
            Err(problem) => println!("PROBLEM {}\n", super::shown(text, &problem)),
        }
    }
}

fn program_of(text: &str) {
    program(text);
}

pub(super) fn all_statements() -> Vec<&'static str> {
    static T: std::sync::OnceLock<String> = std::sync::OnceLock::new();
    T.get_or_init(|| std::fs::read_to_string("/tmp/h3_ok.sql").unwrap()).split("\n\n").collect()
}
