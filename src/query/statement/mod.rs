//! Plans the text of statements for pumps.

mod buckets;
mod checks;
mod dialect;
mod duration;
pub(super) mod fields;
mod functions;
mod inline;
mod items;
mod join;
mod output;
mod over;
mod parse;
pub(super) mod plan;
mod planner;
pub(super) mod problem;
mod relations;
mod scope;
mod stage;
pub(super) mod tables;
mod tokens;
mod tree;
mod windows;

use std::collections::BTreeMap;

use parse::Parsed;
use plan::{DeclaredStream, Program};
use problem::{Problem, Result};
use tables::{Names, Tables};

/// Plans all statements of a text. Streams that it declares can be named before and after.
///
/// # Errors
///
/// The first problem, with its place in the text.
pub(super) fn plan(text: &str, tables: &dyn Tables) -> Result<Program> {
    let statements = tokens::statements(text)?;
    let parsed = statements.iter().map(|words| parse::statement(words)).collect::<Result<Vec<_>>>()?;
    let mut names = Names { tables, declared: BTreeMap::new() };
    let mut program = Program { streams: vec![], pumps: vec![] };
    let mut pumps = vec![];
    for one in parsed {
        match one {
            Parsed::Stream(stream) => {
                let name = parse::name(&stream.name);
                let columns = stream.columns.iter().map(parse::name).collect();
                let is_twice = names.declared.insert(name.clone(), columns).is_some();
                if is_twice || !stream.replace && tables.table(&name).is_some() {
                    let problem =
                        Problem::new(&stream.name, format!("there is a stream {} already", stream.name));
                    return Err(problem.hint("choose another name"));
                }
                program.streams.push(DeclaredStream { name, columns: stream.text, replace: stream.replace });
            }
            Parsed::Pump(pump) => pumps.push(*pump),
        }
    }
    for pump in pumps {
        let named = pump.name.clone();
        let mut planned = output::plan(pump, &names)?;
        let is_taken = |name: &str| program.pumps.iter().any(|other| other.name == name);
        if is_taken(&planned.name) {
            if let Some(name) = named {
                let problem = Problem::new(&name, format!("there is a pump {name} already"));
                return Err(problem.hint("choose another name"));
            }
            let numbered =
                (2..).map(|number| format!("{}-{number}", planned.name)).find(|name| !is_taken(name));
            planned.name = numbered.expect("there are more numbers than pumps");
        }
        program.pumps.push(planned);
    }
    Ok(program)
}

#[cfg(test)]
mod tests;
