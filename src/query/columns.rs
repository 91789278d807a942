//! The list of columns of a schema, as SQL writes it.

use std::collections::HashSet;

use datafusion::sql::sqlparser::ast::{
    ArrayElemTypeDef, CharacterLength, ColumnOption, DataType, ExactNumberInfo, Ident, StructField,
};
use datafusion::sql::sqlparser::dialect::GenericDialect;
use datafusion::sql::sqlparser::keywords::Keyword;
use datafusion::sql::sqlparser::parser::Parser;
use datafusion::sql::sqlparser::tokenizer::{Span, Token, TokenWithSpan, Tokenizer};

use super::ask::fault;
use super::error::{Place, StatementError};
use super::types::{Column, SqlType};
use crate::TYPE_DEPTH_MAX;

/// The most columns of a schema, with the fields of structs.
const COLUMNS_MAX: usize = 1_000;
/// The longest list of columns.
const TEXT_BYTES_MAX: usize = 256 << 10;
/// The digits of a decimal whose type does not specify them.
const DECIMAL_DEFAULT: (u8, u8) = (38, 10);
const DECIMAL_DIGITS_MAX: u64 = 38;

/// Reads a list of columns, such as `page VARCHAR, ms DOUBLE NOT NULL`.
pub(super) fn read(text: &str) -> Result<Vec<Column>, StatementError> {
    let wrong = |place, message: String| StatementError::new(text, place, message);
    if text.len() > TEXT_BYTES_MAX {
        let message = format!("the columns have {} bytes, and may have {TEXT_BYTES_MAX}", text.len());
        return Err(StatementError::new("", None, message));
    }
    let dialect = GenericDialect {};
    let tokens = Tokenizer::new(&dialect, text).tokenize_with_location();
    let tokens = tokens.map_err(|error| wrong(Place::at(error.location), error.message))?;
    let mut tokens = single_brackets(tokens);
    check_nesting(&tokens).map_err(|span| wrong(Place::of(span), too_deep()))?;
    name_structs(&mut tokens);
    let known = tokens.clone();
    let mut parser = Parser::new(&dialect).with_tokens_with_locations(tokens);
    let mut columns = vec![];
    loop {
        let definition = parser.parse_column_def().map_err(|error| fault(text, &known, error))?;
        let here = Place::of(definition.name.span);
        let mut is_required = false;
        for option in definition.options {
            match option.option {
                ColumnOption::NotNull => is_required = true,
                ColumnOption::Null => is_required = false,
                other => return Err(wrong(here, format!("a column of a stream has no {other}"))),
            }
        }
        let name = name(&definition.name);
        let of = sql_type(&name, &definition.data_type, 1).map_err(|unknown| {
            let error = wrong(here, unknown.message);
            unknown.hint.into_iter().fold(error, StatementError::hint)
        })?;
        columns.push(Column { name, of, is_required });
        if !parser.consume_token(&Token::Comma) {
            break;
        }
    }
    let rest = parser.peek_token();
    if rest.token != Token::EOF {
        return Err(wrong(
            Place::of(rest.span),
            format!("expected a comma or the end, found {}", rest.token),
        ));
    }
    check(&columns).map_err(|message| wrong(None, message))?;
    Ok(columns)
}

/// A type that no column can have.
struct Unknown {
    message: String,
    hint: Option<&'static str>,
}

impl From<String> for Unknown {
    fn from(message: String) -> Self {
        Self { message, hint: None }
    }
}

/// Checks the columns of a schema, whatever their source.
pub(super) fn check(columns: &[Column]) -> Result<(), String> {
    let count: usize = columns.iter().map(|column| column.of.column_count()).sum();
    if count > COLUMNS_MAX {
        return Err(format!(
            "there are {count} columns with those within structs: there may be {COLUMNS_MAX}"
        ));
    }
    check_names(columns.iter().map(|column| &*column.name))?;
    columns.iter().try_for_each(|column| check_type(&column.of))
}

fn check_type(of: &SqlType) -> Result<(), String> {
    match of {
        SqlType::Array(items) => check_type(items),
        SqlType::Struct(fields) => {
            check_names(fields.iter().map(|(name, _)| &**name))?;
            fields.iter().try_for_each(|(_, of)| check_type(of))
        }
        _ => Ok(()),
    }
}

fn check_names<'a>(names: impl Iterator<Item = &'a str>) -> Result<(), String> {
    let mut known = HashSet::new();
    for name in names {
        if name.is_empty() {
            return Err("a column has no name".into());
        }
        if !known.insert(name) {
            return Err(format!("the column {name:?} is there twice"));
        }
    }
    if known.is_empty() { Err("there are no columns".into()) } else { Ok(()) }
}

/// A name without quotes is in lower case, as in the statements.
fn name(ident: &Ident) -> String {
    match ident.quote_style {
        Some(_) => ident.value.clone(),
        None => ident.value.to_ascii_lowercase(),
    }
}

/// Checks how deep types are nested: the parser itself has no limit. Returns where it is too deep.
fn check_nesting(tokens: &[TokenWithSpan]) -> Result<(), Span> {
    let (mut depth, mut list_depth) = (0_usize, 0);
    for token in tokens {
        match token.token {
            Token::Lt | Token::LParen => depth += 1,
            Token::Gt | Token::RParen => depth = depth.saturating_sub(1),
            Token::LBracket => list_depth += 1,
            Token::Comma => list_depth = 0,
            _ => {}
        }
        // A length in parentheses adds one level.
        if depth > TYPE_DEPTH_MAX + 1 || list_depth > TYPE_DEPTH_MAX * TYPE_DEPTH_MAX {
            return Err(token.span);
        }
    }
    Ok(())
}

fn too_deep() -> String {
    format!("types are nested deeper than {TYPE_DEPTH_MAX} levels")
}

/// Drops blanks, and splits `>>` into two tokens: otherwise the parser applies the `[]` of an outer type to the inner one.
fn single_brackets(tokens: Vec<TokenWithSpan>) -> Vec<TokenWithSpan> {
    let brackets = |token: TokenWithSpan| match token.token {
        Token::Whitespace(_) => vec![],
        Token::ShiftRight => vec![
            TokenWithSpan { token: Token::Gt, ..token.clone() },
            TokenWithSpan { token: Token::Gt, ..token },
        ],
        _ => vec![token],
    };
    tokens.into_iter().flat_map(brackets).collect()
}

/// Flink's `ROW<…>` is a struct.
fn name_structs(tokens: &mut [TokenWithSpan]) {
    for index in 1..tokens.len() {
        let (before, rest) = tokens.split_at_mut(index);
        if let (Token::Word(word), Token::Lt) = (&mut before[index - 1].token, &rest[0].token)
            && word.keyword == Keyword::ROW
        {
            word.keyword = Keyword::STRUCT;
            word.value = "STRUCT".into();
        }
    }
}

/// Returns our type for a parsed type. `column` is its place.
fn sql_type(column: &str, of: &DataType, depth: usize) -> Result<SqlType, Unknown> {
    if depth > TYPE_DEPTH_MAX {
        return Err(too_deep().into());
    }
    Ok(match of {
        DataType::Boolean | DataType::Bool => SqlType::Boolean,
        DataType::TinyInt(_) => SqlType::TinyInt,
        DataType::SmallInt(_) | DataType::Int2(_) | DataType::Int16 => SqlType::SmallInt,
        DataType::Int(_) | DataType::Integer(_) | DataType::Int4(_) | DataType::Int32 => SqlType::Integer,
        DataType::BigInt(_) | DataType::Int8(_) | DataType::Int64 => SqlType::BigInt,
        DataType::Real | DataType::Float4 | DataType::Float32 => SqlType::Real,
        // As in Flink and Hive.
        DataType::Float(ExactNumberInfo::None) => SqlType::Real,
        DataType::Double(_) | DataType::DoublePrecision | DataType::Float8 | DataType::Float64 => {
            SqlType::Double
        }
        DataType::Decimal(info) | DataType::Numeric(info) | DataType::Dec(info) => decimal(column, info)?,
        DataType::Varchar(length)
        | DataType::Nvarchar(length)
        | DataType::CharacterVarying(length)
        | DataType::CharVarying(length)
        | DataType::Char(length)
        | DataType::Character(length) => varchar(column, length)?,
        DataType::Text | DataType::String(_) => SqlType::Varchar(None),
        DataType::Varbinary(_)
        | DataType::Binary(_)
        | DataType::Bytes(_)
        | DataType::Blob(_)
        | DataType::Bytea => SqlType::Varbinary,
        DataType::Date | DataType::Date32 => SqlType::Date,
        DataType::Time(..) => SqlType::Time,
        DataType::Timestamp(..) | DataType::TimestampNtz(_) | DataType::Datetime(_) => SqlType::Timestamp,
        DataType::Custom(name, _) if name.to_string().eq_ignore_ascii_case("timestamp_ltz") => {
            SqlType::Timestamp
        }
        DataType::Array(
            ArrayElemTypeDef::AngleBracket(items)
            | ArrayElemTypeDef::SquareBracket(items, _)
            | ArrayElemTypeDef::Parenthesis(items),
        ) => SqlType::Array(Box::new(sql_type(&format!("{column}[]"), items, depth + 1)?)),
        DataType::Struct(fields, _) => {
            let fields = fields.iter().map(|field| struct_field(column, field, depth + 1));
            SqlType::Struct(fields.collect::<Result<_, _>>()?)
        }
        other => {
            let message = format!("column {column}: the type {other} is unknown here");
            return Err(Unknown { message, hint: hint(other) });
        }
    })
}

/// Returns what to write instead of a type that is not known.
fn hint(of: &DataType) -> Option<&'static str> {
    match of {
        DataType::JSON | DataType::JSONB => Some("take VARCHAR, which keeps a value as JSON, or a STRUCT"),
        DataType::Map(..) => Some("take VARCHAR, which keeps an object as JSON, or a STRUCT"),
        DataType::Uuid => Some("take VARCHAR"),
        _ => None,
    }
}

fn struct_field(column: &str, field: &StructField, depth: usize) -> Result<(String, SqlType), Unknown> {
    let ident = field.field_name.as_ref();
    let name = name(ident.ok_or_else(|| format!("column {column}: a field of its struct has no name"))?);
    let of = sql_type(&format!("{column}.{name}"), &field.field_type, depth)?;
    Ok((name, of))
}

fn varchar(column: &str, length: &Option<CharacterLength>) -> Result<SqlType, String> {
    Ok(SqlType::Varchar(match length {
        None | Some(CharacterLength::Max) => None,
        Some(CharacterLength::IntegerLength { length, .. }) => match u32::try_from(*length) {
            Ok(length @ 1..) => Some(length),
            _ => return Err(format!("column {column}: a text has 1 to {} characters", u32::MAX)),
        },
    }))
}

fn decimal(column: &str, info: &ExactNumberInfo) -> Result<SqlType, String> {
    let (precision, scale) = match *info {
        ExactNumberInfo::None => return Ok(SqlType::Decimal(DECIMAL_DEFAULT.0, DECIMAL_DEFAULT.1)),
        ExactNumberInfo::Precision(precision) => (precision, 0),
        ExactNumberInfo::PrecisionAndScale(precision, scale) => (precision, scale),
    };
    match u64::try_from(scale) {
        Ok(scale) if (1..=DECIMAL_DIGITS_MAX).contains(&precision) && scale <= precision => {
            Ok(SqlType::Decimal(precision as u8, scale as u8))
        }
        _ => Err(format!(
            "column {column}: a DECIMAL has 1 to {DECIMAL_DIGITS_MAX} digits, and no more of them behind the point"
        )),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn shown(columns: &[Column]) -> String {
        columns.iter().map(Column::to_string).collect::<Vec<_>>().join(", ")
    }

    #[test]
    fn the_spellings_of_other_systems_are_known() {
        for (spelling, name) in [
            ("BOOL", "BOOLEAN"),
            ("int2", "SMALLINT"),
            ("INT", "INTEGER"),
            ("int4", "INTEGER"),
            ("INT8", "BIGINT"),
            ("FLOAT", "REAL"),
            ("FLOAT4", "REAL"),
            ("DOUBLE PRECISION", "DOUBLE"),
            ("FLOAT8", "DOUBLE"),
            ("NUMERIC(10)", "DECIMAL(10, 0)"),
            ("DECIMAL", "DECIMAL(38, 10)"),
            ("DEC(4, 2)", "DECIMAL(4, 2)"),
            ("STRING", "VARCHAR"),
            ("TEXT", "VARCHAR"),
            ("CHARACTER VARYING(7)", "VARCHAR(7)"),
            ("CHAR(2)", "VARCHAR(2)"),
            ("VARCHAR(2147483647)", "VARCHAR(2147483647)"),
            ("BYTES", "VARBINARY"),
            ("BYTEA", "VARBINARY"),
            ("VARBINARY(10)", "VARBINARY"),
            ("TIMESTAMP(3)", "TIMESTAMP"),
            ("TIMESTAMPTZ", "TIMESTAMP"),
            ("TIMESTAMP(3) WITH TIME ZONE", "TIMESTAMP"),
            ("TIMESTAMP WITHOUT TIME ZONE", "TIMESTAMP"),
            ("TIMESTAMP_LTZ(3)", "TIMESTAMP"),
            ("TIME(0)", "TIME"),
            ("ARRAY<STRING>", "VARCHAR[]"),
            ("INT[][]", "INTEGER[][]"),
            ("INT[3]", "INTEGER[]"),
            ("STRUCT<id: BIGINT, name: STRING>", "STRUCT<id BIGINT, name VARCHAR>"),
            ("ROW<id BIGINT, tags ARRAY<ROW<x INT>>>", "STRUCT<id BIGINT, tags STRUCT<x INTEGER>[]>"),
            ("STRUCT<a STRUCT<b INT>>[]", "STRUCT<a STRUCT<b INTEGER>>[]"),
            ("BIGINT NULL", "BIGINT"),
        ] {
            let columns = read(&format!("a {spelling}")).unwrap();
            assert_eq!(shown(&columns), format!("a {name}"), "{spelling}");
        }
        let columns =
            read("Page varchar Not Null,\n\"userId\" BIGINT, \"a \"\"b\"\"\" DATE, \"ü\" TIME -- the end")
                .unwrap();
        assert_eq!(
            shown(&columns),
            "page VARCHAR NOT NULL, \"userId\" BIGINT, \"a \"\"b\"\"\" DATE, \"ü\" TIME"
        );
    }

    #[test]
    fn what_is_wrong_is_said() {
        let many: Vec<_> = (0..1_001).map(|index| format!("c{index} INT")).collect();
        let wide = format!("a STRUCT<{}>[]", many[..999].join(","));
        for (text, reason) in [
            ("", "expected identifier, but the statement ends"),
            ("page", "expected a data type name, but the statement ends"),
            ("page VARCHAR,", "expected identifier, but the statement ends"),
            ("page \"VARCHAR", "\n1 | page \"VARCHAR\n  |      ^"),
            (
                "page VARCHAR ms DOUBLE",
                "expected a comma or the end, found ms\n1 | page VARCHAR ms DOUBLE\n  |              ^^",
            ),
            (
                "page VARCHAR\n, ms DOUBLE)",
                "expected a comma or the end, found )\n2 | , ms DOUBLE)\n  |            ^",
            ),
            (
                "a INT, b NUMBER",
                "column b: the type NUMBER is unknown here\n1 | a INT, b NUMBER\n  |        ^",
            ),
            ("a STRUCT<b UUID[]>", "column a.b[]: the type UUID is unknown here: take VARCHAR"),
            (
                "a JSON",
                "column a: the type JSON is unknown here: take VARCHAR, which keeps a value as JSON, or a STRUCT",
            ),
            ("a STRUCT<BIGINT>", "column a: a field of its struct has no name"),
            ("a STRUCT", "there are no columns"),
            ("a DECIMAL(39)", "column a: a DECIMAL has 1 to 38 digits, and no more of them behind the point"),
            (
                "a DECIMAL(3, 4)",
                "column a: a DECIMAL has 1 to 38 digits, and no more of them behind the point",
            ),
            ("a VARCHAR(0)", "column a: a text has 1 to 4294967295 characters"),
            ("a INT, A INT", "the column \"a\" is there twice"),
            ("a STRUCT<b INT, b INT>", "the column \"b\" is there twice"),
            ("\"\" INT", "a column has no name"),
            ("a INT PRIMARY KEY", "a column of a stream has no PRIMARY KEY"),
            ("a INT DEFAULT 7", "a column of a stream has no DEFAULT 7"),
            (&many.join(","), "there are 1001 columns with those within structs: there may be 1000"),
            (&wide, "there are 1001 columns with those within structs: there may be 1000"),
        ] {
            let error = read(text).unwrap_err().to_string();
            assert!(error.contains(reason), "{text}: {error}");
        }
    }

    #[test]
    fn l6_types_are_nested_so_deep_and_no_deeper() {
        for (depth, fits) in [(10, true), (11, false), (100_000, false)] {
            let lists = depth - 1;
            for text in [
                format!("a {}INT{}", "ARRAY<".repeat(lists), ">".repeat(lists)),
                format!("a INT{}", "[]".repeat(lists)),
                format!("a {}INT{}", "STRUCT<b ".repeat(lists), ">".repeat(lists)),
            ] {
                let columns = read(&text);
                assert_eq!(columns.is_ok(), fits, "{depth}: {columns:?}");
            }
        }
        for hostile in ["a DEFAULT (", "a INT DEFAULT -", "a NULLABLE(", "a INT CHECK (NOT ", "a MAP<", "("] {
            assert!(read(&hostile.repeat(5_000)).is_err());
        }
    }

    fn types() -> impl Strategy<Value = SqlType> {
        let scalars = vec![
            SqlType::Boolean,
            SqlType::TinyInt,
            SqlType::SmallInt,
            SqlType::Integer,
            SqlType::BigInt,
            SqlType::Real,
            SqlType::Double,
            SqlType::Decimal(38, 38),
            SqlType::Varchar(None),
            SqlType::Varchar(Some(u32::MAX)),
            SqlType::Varbinary,
            SqlType::Date,
            SqlType::Time,
            SqlType::Timestamp,
        ];
        prop::sample::select(scalars).prop_recursive(5, 20, 4, |inner| {
            let fields = prop::collection::btree_map(names(), inner.clone(), 1..4);
            prop_oneof![
                inner.prop_map(|of| SqlType::Array(Box::new(of))),
                fields.prop_map(|fields| SqlType::Struct(fields.into_iter().collect())),
            ]
        })
    }

    fn names() -> impl Strategy<Value = String> {
        prop_oneof![
            "[a-z_][a-z0-9_]{0,8}",
            "[^\\x00]{1,5}",
            prop::sample::select(vec![
                "not",
                "null",
                "order",
                "select",
                "row",
                "struct",
                "array",
                "timestamp",
                "constraint",
                "values"
            ])
            .prop_map(str::to_owned),
        ]
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(300))]

        #[test]
        fn what_is_written_is_read(columns in prop::collection::btree_map(names(), (types(), any::<bool>()), 1..5)) {
            let columns: Vec<_> = columns
                .into_iter()
                .map(|(name, (of, is_required))| Column { name, of, is_required })
                .collect();
            prop_assert_eq!(read(&shown(&columns)), Ok(columns));
        }

        #[test]
        fn l6_any_text_is_a_list_of_columns_or_none(text in "([a-z]{1,3} |INT|VARCHAR|STRUCT|ARRAY|ROW|MAP|[<>()\\[\\],:\"'-]|NOT NULL|DEFAULT ){0,30}") {
            let _ = read(&text);
        }
    }
}
