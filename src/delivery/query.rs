//! Queries for partition keys: the part of jq that dynamic partitioning needs, in time and memory that the record bounds.

use std::borrow::Cow;

use jiff::Timestamp as Moment;
use serde_json::Value;

/// The longest query, in bytes, and the deepest nesting of brackets.
const TEXT_MAX: usize = 1_024;
const DEPTH_MAX: usize = 32;

/// A query that was parsed: stages, each of which works on the value of the previous one.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Query(Vec<Alternatives>);

/// The first one with a value counts.
#[derive(Debug, Clone, PartialEq)]
struct Alternatives(Vec<Term>);

#[derive(Debug, Clone, PartialEq)]
enum Term {
    Path(Vec<Step>),
    Literal(Value),
    Function(Function),
    Group(Query),
}

#[derive(Debug, Clone, PartialEq)]
enum Step {
    Field(String),
    /// Counted from the end if it is below zero.
    Index(i64),
}

#[derive(Debug, Clone, PartialEq)]
enum Function {
    ToString,
    ToNumber,
    Downcase,
    Upcase,
    Floor,
    /// Seconds since 1970 to text, in UTC.
    Strftime(String),
}

impl Query {
    /// Parses a query. The error is a sentence for the caller.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        if text.len() > TEXT_MAX {
            return Err(format!("a query of {} bytes: it may have {TEXT_MAX}", text.len()));
        }
        let mut parser = Parser { text, rest: text, depth: 0 };
        let query = parser.query()?;
        match parser.skip_blanks() {
            "" => Ok(query),
            _ => Err(parser.unexpected()),
        }
    }

    /// Returns the text that a query finds in a document. The error says why there is none.
    pub(super) fn text(&self, document: &Value) -> Result<String, String> {
        match self.value(document)?.as_ref() {
            Value::Null => Err("it is null, or not there".into()),
            Value::String(text) if text.is_empty() => Err("it is an empty text".into()),
            Value::String(text) => Ok(text.clone()),
            value @ (Value::Number(_) | Value::Bool(_)) => Ok(value.to_string()),
            Value::Array(_) | Value::Object(_) => Err("it is a list or an object".into()),
        }
    }

    fn value<'v>(&self, document: &'v Value) -> Result<Cow<'v, Value>, String> {
        let mut value = Cow::Borrowed(document);
        for stage in &self.0 {
            value = match value {
                Cow::Borrowed(value) => stage.value(value)?,
                Cow::Owned(value) => Cow::Owned(stage.value(&value)?.into_owned()),
            };
        }
        Ok(value)
    }
}

impl Alternatives {
    fn value<'v>(&self, of: &'v Value) -> Result<Cow<'v, Value>, String> {
        let mut value = Ok(Cow::Borrowed(NULL));
        for term in &self.0 {
            value = term.value(of);
            // As in jq: an alternative follows an error, a null and a `false`.
            if matches!(&value, Ok(value) if !matches!(value.as_ref(), Value::Null | Value::Bool(false))) {
                break;
            }
        }
        value
    }
}

impl Term {
    fn value<'v>(&self, of: &'v Value) -> Result<Cow<'v, Value>, String> {
        match self {
            Self::Path(steps) => find(of, steps).map(Cow::Borrowed),
            Self::Literal(literal) => Ok(Cow::Owned(literal.clone())),
            Self::Function(function) => function.call(of).map(Cow::Owned),
            Self::Group(query) => query.value(of),
        }
    }
}

const NULL: &Value = &Value::Null;

fn find<'v>(value: &'v Value, steps: &[Step]) -> Result<&'v Value, String> {
    let mut value = value;
    for step in steps {
        value = match (step, value) {
            (_, Value::Null) => NULL,
            (Step::Field(name), Value::Object(object)) => object.get(name).unwrap_or(NULL),
            (Step::Index(index), Value::Array(list)) => {
                let at = if *index < 0 { index + list.len() as i64 } else { *index };
                usize::try_from(at).ok().and_then(|at| list.get(at)).unwrap_or(NULL)
            }
            (Step::Field(name), _) => return Err(format!("there is no object around {name:?}")),
            (Step::Index(index), _) => return Err(format!("there is no list around index {index}")),
        };
    }
    Ok(value)
}

impl Function {
    fn call(&self, of: &Value) -> Result<Value, String> {
        let made = match (self, of) {
            (Self::ToString, Value::String(_)) | (Self::ToNumber, Value::Number(_)) => of.clone(),
            (Self::ToString, other) => Value::String(other.to_string()),
            (Self::ToNumber, Value::String(text)) => {
                let number = text.trim().parse::<serde_json::Number>();
                Value::Number(number.map_err(|_| format!("{text:?} is no number"))?)
            }
            (Self::Downcase, Value::String(text)) => Value::String(text.to_ascii_lowercase()),
            (Self::Upcase, Value::String(text)) => Value::String(text.to_ascii_uppercase()),
            (Self::Floor, Value::Number(number)) => match number.as_f64() {
                Some(float) if float.abs() < 9e15 => Value::from(float.floor() as i64),
                _ => of.clone(),
            },
            (Self::Strftime(format), Value::Number(number)) => {
                let seconds = number.as_f64().filter(|seconds| seconds.is_finite()).unwrap_or_default();
                let moment = Moment::from_second(seconds.floor() as i64)
                    .map_err(|_| format!("{number} seconds are no time"))?;
                let text = jiff::fmt::strtime::format(format, moment);
                Value::String(text.map_err(|error| format!("strftime({format:?}): {error}"))?)
            }
            (function, other) => return Err(format!("{} does not take {}", function.name(), kind(other))),
        };
        Ok(made)
    }

    fn name(&self) -> &'static str {
        match self {
            Self::ToString => "tostring",
            Self::ToNumber => "tonumber",
            Self::Downcase => "ascii_downcase",
            Self::Upcase => "ascii_upcase",
            Self::Floor => "floor",
            Self::Strftime(_) => "strftime",
        }
    }
}

fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "true or false",
        Value::Number(_) => "a number",
        Value::String(_) => "a text",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}

struct Parser<'t> {
    text: &'t str,
    rest: &'t str,
    depth: usize,
}

impl<'t> Parser<'t> {
    fn skip_blanks(&mut self) -> &'t str {
        self.rest = self.rest.trim_start();
        self.rest
    }

    fn unexpected(&self) -> String {
        let (text, at) = (self.text, self.text.len() - self.rest.len());
        match self.rest.chars().next() {
            Some(char) => format!("{char:?} at byte {at} of the query {text:?} is not known here"),
            None => format!("the query {text:?} ends too early"),
        }
    }

    /// Skips this text, if it comes next.
    fn take(&mut self, sign: &str) -> bool {
        let rest = self.skip_blanks().strip_prefix(sign);
        rest.map(|rest| self.rest = rest).is_some()
    }

    fn query(&mut self) -> Result<Query, String> {
        let mut stages = vec![self.alternatives()?];
        while self.take("|") {
            stages.push(self.alternatives()?);
        }
        Ok(Query(stages))
    }

    fn alternatives(&mut self) -> Result<Alternatives, String> {
        let mut terms = vec![self.term()?];
        while self.take("//") {
            terms.push(self.term()?);
        }
        Ok(Alternatives(terms))
    }

    fn term(&mut self) -> Result<Term, String> {
        let rest = self.skip_blanks();
        match rest.chars().next() {
            Some('.') => self.path().map(Term::Path),
            Some('(') => {
                self.depth += 1;
                if self.depth > DEPTH_MAX {
                    return Err(format!("more than {DEPTH_MAX} brackets in the query {:?}", self.text));
                }
                self.rest = &rest[1..];
                let query = self.query()?;
                self.depth -= 1;
                if self.take(")") { Ok(Term::Group(query)) } else { Err(self.unexpected()) }
            }
            Some('"' | '-' | '0'..='9') => self.literal().map(Term::Literal),
            _ => self.named(),
        }
    }

    /// Reads a constant or a function.
    fn named(&mut self) -> Result<Term, String> {
        let before = self.skip_blanks();
        let term = match self.word() {
            "null" => Term::Literal(Value::Null),
            "true" => Term::Literal(Value::Bool(true)),
            "false" => Term::Literal(Value::Bool(false)),
            "tostring" => Term::Function(Function::ToString),
            "tonumber" => Term::Function(Function::ToNumber),
            "ascii_downcase" => Term::Function(Function::Downcase),
            "ascii_upcase" => Term::Function(Function::Upcase),
            "floor" => Term::Function(Function::Floor),
            "strftime" if self.take("(") => {
                self.skip_blanks();
                let Value::String(format) = self.literal()? else { return Err(self.unexpected()) };
                if !self.take(")") {
                    return Err(self.unexpected());
                }
                Term::Function(Function::Strftime(format))
            }
            _ => {
                self.rest = before;
                return Err(self.unexpected());
            }
        };
        Ok(term)
    }

    fn word(&mut self) -> &'t str {
        let rest = self.skip_blanks();
        let end = rest.find(|char: char| !char.is_ascii_alphanumeric() && char != '_').unwrap_or(rest.len());
        self.rest = &rest[end..];
        &rest[..end]
    }

    /// Reads a text or a number of JSON.
    fn literal(&mut self) -> Result<Value, String> {
        let mut values = serde_json::Deserializer::from_str(self.rest).into_iter::<Value>();
        match values.next() {
            Some(Ok(value)) => {
                self.rest = &self.rest[values.byte_offset()..];
                Ok(value)
            }
            _ => Err(self.unexpected()),
        }
    }

    fn path(&mut self) -> Result<Vec<Step>, String> {
        let mut steps = vec![];
        let mut is_first = true;
        loop {
            if let Some(rest) = self.rest.strip_prefix('.') {
                self.rest = rest;
                match rest.chars().next() {
                    Some('"') => match self.literal()? {
                        Value::String(name) => steps.push(Step::Field(name)),
                        _ => return Err(self.unexpected()),
                    },
                    Some(char) if char.is_ascii_alphabetic() || char == '_' => {
                        steps.push(Step::Field(self.word().to_owned()));
                    }
                    Some('[') => {}
                    // The document itself.
                    _ if is_first => return Ok(steps),
                    _ => return Err(self.unexpected()),
                }
            } else if let Some(rest) = self.rest.strip_prefix('[') {
                self.rest = rest.trim_start();
                match self.literal()? {
                    Value::String(name) => steps.push(Step::Field(name)),
                    Value::Number(index) => {
                        steps.push(Step::Index(index.as_i64().ok_or_else(|| self.unexpected())?));
                    }
                    _ => return Err(self.unexpected()),
                }
                if !self.take("]") {
                    return Err(self.unexpected());
                }
            } else {
                return Ok(steps);
            }
            is_first = false;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(query: &str, document: &str) -> Result<String, String> {
        Query::parse(query)?.text(&serde_json::from_str(document).unwrap())
    }

    #[test]
    fn queries_find_what_jq_finds() {
        let document = r#"{"a":{"b c":[1,{"d":"X"}]},"t":1707120543.9,"f":false,"n":null,"s":"17"}"#;
        for (query, expected) in [
            (".a[\"b c\"][1].d", "X"),
            (".a.\"b c\"[-1].d | ascii_downcase", "x"),
            (" . | .a | .[\"b c\"][0]", "1"),
            (".missing // .n // \"none\"", "none"),
            (".f // .s", "17"),
            (".s | tonumber", "17"),
            (".f", "false"),
            (".t | strftime(\"%Y/%m/%d\")", "2024/02/05"),
            (".t | floor | tostring", "1707120543"),
            (".missing // .t | floor", "1707120543"),
            (".missing // (.a | .[\"b c\"][1].d | ascii_downcase)", "x"),
            (".t.x // \"no object\"", "no object"),
        ] {
            assert_eq!(text(query, document).as_deref(), Ok(expected), "{query}");
        }
    }

    #[test]
    fn what_has_no_text_and_what_is_no_query_is_said() {
        for (query, reason) in [
            (".n", "null"),
            (".x.y", "null"),
            (".e", "empty"),
            (".a", "a list or an object"),
            (".a | ascii_upcase", "ascii_upcase does not take an object"),
            (".t[0]", "no list around index 0"),
            (".s | tonumber", "is no number"),
            (".a..b", "'.' at byte 3"),
            ("", "ends too early"),
            (".a | env", "'e' at byte 5"),
            ("input", "'i' at byte 0"),
            (".a[", "ends too early"),
            (".a[]", "']'"),
            ("range(1e9)", "'r' at byte 0"),
            (".a | strftime", "'s'"),
            ("(.a", "ends too early"),
        ] {
            let found = text(query, r#"{"a":{},"n":null,"e":"","t":5,"s":"seven"}"#).unwrap_err();
            assert!(found.contains(reason), "{query}: {found}");
        }
        assert!(Query::parse(&"(".repeat(40)).unwrap_err().contains("32 brackets"));
        assert!(Query::parse(&".a".repeat(600)).unwrap_err().contains("1024"));
    }

    proptest::proptest! {
        #[test]
        fn l6_no_text_is_a_query_that_panics(text in "[.\\[\\]\"|/()a-z0-9 _-]{0,40}", document in "[\\[\\]{}\":,a0-9.]{0,20}") {
            if let Ok(query) = Query::parse(&text) {
                let document = serde_json::from_str(&document).unwrap_or(Value::Null);
                let _ = query.text(&document);
            }
        }
    }
}
