//! The list of columns of a schema, as SQL writes it.

use std::collections::HashSet;

use datafusion::sql::sqlparser::ast::{
    ArrayElemTypeDef, CharacterLength, ColumnOption, DataType, ExactNumberInfo, Ident, StructField,
};
use datafusion::sql::sqlparser::dialect::GenericDialect;
use datafusion::sql::sqlparser::keywords::Keyword;
use datafusion::sql::sqlparser::parser::{Parser, ParserError};
use datafusion::sql::sqlparser::tokenizer::{Token, TokenWithSpan, Tokenizer};

use super::types::{Column, DEPTH_MAX, SqlType};

/// The most columns of a schema, with the fields of structs.
const COLUMNS_MAX: usize = 1_000;
/// The longest list of columns.
const TEXT_BYTES_MAX: usize = 256 << 10;
/// The digits of a decimal whose type does not say how many.
const DECIMAL_DEFAULT: (u8, u8) = (38, 10);
const DECIMAL_DIGITS_MAX: u64 = 38;

/// Reads a list of columns, such as `page VARCHAR, ms DOUBLE NOT NULL`. The error is a sentence for the caller.
pub(super) fn read(text: &str) -> Result<Vec<Column>, String> {
    if text.len() > TEXT_BYTES_MAX {
        return Err(format!("the columns have {} bytes: they may have {TEXT_BYTES_MAX}", text.len()));
    }
    let dialect = GenericDialect {};
    let tokens = Tokenizer::new(&dialect, text).tokenize_with_location();
    let mut tokens = single_brackets(tokens.map_err(|error| error.to_string())?);
    check_nesting(&tokens)?;
    name_structs(&mut tokens);
    let mut parser = Parser::new(&dialect).with_tokens_with_locations(tokens);
    let mut columns = vec![];
    loop {
        let definition = parser.parse_column_def().map_err(|error| message(&error))?;
        let mut is_required = false;
        for option in definition.options {
            match option.option {
                ColumnOption::NotNull => is_required = true,
                ColumnOption::Null => is_required = false,
                other => return Err(format!("a column of a stream has no {other}")),
            }
        }
        let name = name(&definition.name);
        let of = sql_type(&name, &definition.data_type, 1)?;
        columns.push(Column { name, of, is_required });
        if !parser.consume_token(&Token::Comma) {
            break;
        }
    }
    let rest = parser.peek_token();
    if rest.token != Token::EOF {
        return Err(format!("expected a comma or the end, found: {}{}", rest.token, rest.span.start));
    }
    check(&columns)?;
    Ok(columns)
}

/// Checks the columns of a schema, wherever they are from.
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

/// The parser descends into types without a bound of its own.
fn check_nesting(tokens: &[TokenWithSpan]) -> Result<(), String> {
    let (mut depth, mut list_depth) = (0_usize, 0);
    for token in tokens {
        match token.token {
            Token::Lt | Token::LParen => depth += 1,
            Token::Gt | Token::RParen => depth = depth.saturating_sub(1),
            Token::LBracket => list_depth += 1,
            Token::Comma => list_depth = 0,
            _ => {}
        }
        // A length in round brackets is one more.
        if depth > DEPTH_MAX + 1 || list_depth > DEPTH_MAX * DEPTH_MAX {
            return Err(too_deep());
        }
    }
    Ok(())
}

fn too_deep() -> String {
    format!("types are nested deeper than {DEPTH_MAX} levels")
}

/// Leaves blanks out, and makes two tokens of `>>`, behind which the parser takes the `[]` of an outer type for that of the inner one.
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

fn message(error: &ParserError) -> String {
    match error {
        ParserError::TokenizerError(message) | ParserError::ParserError(message) => message.clone(),
        ParserError::RecursionLimitExceeded => too_deep(),
    }
}

/// Returns what a type is called here. `column` is where it is.
fn sql_type(column: &str, of: &DataType, depth: usize) -> Result<SqlType, String> {
    if depth > DEPTH_MAX {
        return Err(too_deep());
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
        other => return Err(format!("column {column}: the type {other} is unknown here{}", hint(other))),
    })
}

/// Returns what to write instead of a type that is not known.
fn hint(of: &DataType) -> &'static str {
    match of {
        DataType::JSON | DataType::JSONB => ": take VARCHAR, which keeps a value as JSON, or a STRUCT",
        DataType::Map(..) => ": take VARCHAR, which keeps an object as JSON, or a STRUCT",
        DataType::Uuid => ": take VARCHAR",
        _ => "",
    }
}

fn struct_field(column: &str, field: &StructField, depth: usize) -> Result<(String, SqlType), String> {
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
