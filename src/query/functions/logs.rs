//! Log parsers: a line becomes a struct.

use std::borrow::Cow;
use std::sync::Arc;

use arrow_array::builder::StringBuilder;
use arrow_array::cast::AsArray;
use arrow_array::{Array, ArrayRef, StringArray, StructArray};
use arrow_buffer::NullBufferBuilder;
use arrow_schema::{DataType, Field, FieldRef};
use datafusion::arrow::compute::cast;
use datafusion::common::{Result, internal_err, plan_err};
use datafusion::logical_expr::{
    ColumnarValue, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility,
};
use regex::Regex;

use super::columns::{Column, described, fields, literal, numbered, text_of};
use super::split::Delimited;
use super::w3c;

pub(super) fn functions() -> Vec<ScalarUDF> {
    let parsers = [
        ("regex_log_parse", Kind::Regex),
        ("fast_regex_log_parse", Kind::Regex),
        ("w3c_log_parse", Kind::W3c),
        ("fixed_column_log_parse", Kind::FixedColumns),
        ("variable_column_log_parse", Kind::VariableColumns),
        ("sys_log_parse", Kind::Syslog),
    ];
    let signature = || Signature::variadic_any(Volatility::Immutable);
    parsers.map(|(name, kind)| ScalarUDF::from(LogFunction { name, kind, signature: signature() })).into()
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Kind {
    Regex,
    W3c,
    FixedColumns,
    VariableColumns,
    Syslog,
}

impl Kind {
    /// Makes a parser from the arguments after the first. The error is a sentence for the caller.
    fn compile(self, arguments: &[Option<String>]) -> Result<Parser, String> {
        match self {
            Self::Regex => regex_log_parse(arguments),
            Self::W3c => w3c_log_parse(arguments),
            Self::FixedColumns => fixed_column_log_parse(arguments),
            Self::VariableColumns => variable_column_log_parse(arguments),
            Self::Syslog => sys_log_parse(arguments),
        }
    }
}

struct Parser {
    columns: Vec<Column>,
    how: How,
}

enum How {
    /// Each group is a column. A line that does not match is null.
    Groups(Regex),
    Delimited(Delimited),
    /// The columns say where they are.
    Fixed,
}

fn regex_log_parse(arguments: &[Option<String>]) -> Result<Parser, String> {
    let (pattern, names) = match arguments {
        [Some(pattern)] => (pattern, None),
        [Some(pattern), Some(names)] => (pattern, Some(names)),
        _ => {
            return Err(
                "it takes a text, a pattern, and the names of the columns if they are to have some".into()
            );
        }
    };
    let regex = compile(pattern)?;
    let group_count = regex.captures_len() - 1;
    let mut columns = numbered(group_count);
    if let Some(names) = names {
        let name_count = names.split(',').count();
        if name_count != group_count {
            return Err(format!("the pattern has {group_count} groups in brackets for {name_count} columns"));
        }
        for (column, name) in columns.iter_mut().zip(names.split(',')) {
            column.name = name.split_whitespace().next().unwrap_or_default().trim_matches('"').to_lowercase();
        }
    }
    match group_count {
        0 => Err("the pattern has no groups in brackets, which become columns".into()),
        _ => Ok(Parser { columns, how: How::Groups(regex) }),
    }
}

fn compile(pattern: &str) -> Result<Regex, String> {
    Regex::new(pattern).map_err(|error| format!("the pattern cannot be used: {error}"))
}

fn w3c_log_parse(arguments: &[Option<String>]) -> Result<Parser, String> {
    let [Some(format)] = arguments else {
        return Err("it takes a text and a format, such as 'COMMON' or '%h %t'".into());
    };
    let (pattern, columns) = w3c::pattern(format)?;
    Ok(Parser { columns, how: How::Groups(compile(&pattern)?) })
}

fn fixed_column_log_parse(arguments: &[Option<String>]) -> Result<Parser, String> {
    let [Some(columns)] = arguments else { return Err("it takes a text and the columns".into()) };
    let columns = described(columns)?;
    if let Some(column) = columns.iter().find(|column| column.start.is_none()) {
        return Err(format!("the column {:?} has no START", column.name));
    }
    Ok(Parser { columns, how: How::Fixed })
}

fn variable_column_log_parse(arguments: &[Option<String>]) -> Result<Parser, String> {
    let [Some(columns), Some(delimiter), more @ ..] = arguments else {
        return Err("it takes a text, the columns or their number, and a delimiter".into());
    };
    let (escape, quotes) = match more {
        [] => (None, None),
        [escape] => (escape.as_deref(), None),
        [escape, quotes] => (escape.as_deref(), quotes.as_deref()),
        _ => return Err("it takes no more than an escape and quotes behind the delimiter".into()),
    };
    let columns = described(columns)?;
    Ok(Parser { columns, how: How::Delimited(Delimited::new(delimiter, escape, quotes)?) })
}

/// As in Kinesis, the first column has the time and the second one the rest. The time stays a text here, since it has no year.
fn sys_log_parse(arguments: &[Option<String>]) -> Result<Parser, String> {
    let [] = arguments else { return Err("it takes a text".into()) };
    let pattern = r"^(?:<\d{1,3}>)?([A-Z][a-z]{2} [ \d]\d \d{2}:\d{2}:\d{2}) (.*?)\s*$";
    Ok(Parser { columns: numbered(2), how: How::Groups(compile(pattern)?) })
}

impl Parser {
    /// Returns the columns of a line, or `None` if it has another form.
    fn parse<'a>(&self, line: &'a str) -> Option<Vec<Option<Cow<'a, str>>>> {
        match &self.how {
            How::Groups(regex) => {
                let groups = regex.captures(line)?;
                Some(groups.iter().skip(1).map(|group| group.map(|group| group.as_str().into())).collect())
            }
            How::Delimited(delimited) => Some(delimited.fields(line).into_iter().map(Some).collect()),
            How::Fixed => {
                Some(self.columns.iter().map(|column| fixed(line, column).map(Cow::Borrowed)).collect())
            }
        }
    }

    fn parse_all(&self, lines: &ArrayRef) -> Result<StructArray> {
        let mut texts: Vec<_> = self.columns.iter().map(|_| StringBuilder::new()).collect();
        let mut validity = NullBufferBuilder::new(lines.len());
        for line in lines.as_string::<i32>() {
            let parsed = line.and_then(|line| self.parse(line));
            validity.append(parsed.is_some());
            let mut parsed = parsed.into_iter().flatten();
            texts.iter_mut().for_each(|texts| texts.append_option(parsed.next().flatten()));
        }
        let arrays = self.columns.iter().zip(&mut texts).map(|(column, texts)| match column.of {
            DataType::Utf8 => Ok(Arc::new(texts.finish()) as ArrayRef),
            // Text that cannot be parsed as the type is null.
            ref of => cast(&trimmed(&texts.finish()), of),
        });
        let arrays = arrays.collect::<Result<_, _>>()?;
        Ok(StructArray::try_new(fields(&self.columns), arrays, validity.finish())?)
    }
}

fn trimmed(texts: &StringArray) -> StringArray {
    texts.iter().map(|text| text.map(str::trim)).collect()
}

/// Returns a column that lies at fixed characters of a line.
fn fixed<'a>(line: &'a str, column: &Column) -> Option<&'a str> {
    let byte_of = |character: usize| line.char_indices().nth(character).map_or(line.len(), |(byte, _)| byte);
    let start = column.start?;
    let begin = byte_of(start);
    let end = column.length.map_or(line.len(), |length| byte_of(start.saturating_add(length)));
    (begin < line.len()).then(|| &line[begin..end])
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct LogFunction {
    name: &'static str,
    kind: Kind,
    signature: Signature,
}

impl LogFunction {
    fn compile(&self, arguments: &[Option<String>]) -> Result<Parser> {
        self.kind.compile(arguments).or_else(|reason| plan_err!("{}: {reason}", self.name))
    }
}

impl ScalarUDFImpl for LogFunction {
    fn name(&self) -> &str {
        self.name
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        internal_err!("the columns of {} follow from its arguments", self.name)
    }

    fn return_field_from_args(&self, args: ReturnFieldArgs<'_>) -> Result<FieldRef> {
        let constants = args.scalar_arguments.iter().skip(1).map(|argument| match argument {
            Some(scalar) => text_of(self.name, "argument", scalar),
            None => plan_err!("{}: all arguments but the first have to be constants", self.name),
        });
        let parser = self.compile(&constants.collect::<Result<Vec<_>>>()?)?;
        Ok(Arc::new(Field::new(self.name, DataType::Struct(fields(&parser.columns)), true)))
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let Some((line, constants)) = args.args.split_first() else {
            return plan_err!("{} takes a text", self.name);
        };
        let constants = constants.iter().map(|argument| literal(self.name, "argument", Some(argument)));
        let parser = self.compile(&constants.collect::<Result<Vec<_>>>()?)?;
        let lines = cast(&line.to_array(args.number_rows)?, &DataType::Utf8)?;
        Ok(ColumnarValue::Array(Arc::new(parser.parse_all(&lines)?)))
    }
}
