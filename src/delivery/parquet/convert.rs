//! Converts JSON into values of columns with the coercions of the OpenX JSON SerDe, or says why a value does not fit.

use std::borrow::Cow;
use std::collections::HashMap;

use serde_json::value::RawValue;

use super::schema::{ParquetSchema, ParquetType};
use crate::delivery::json;
use crate::{Written, moment, scalar, shorten};

/// Which member of an object belongs to which column.
#[derive(Debug, Clone)]
pub(super) struct Keys {
    pub(super) is_case_insensitive: bool,
    pub(super) dots_to_underscores: bool,
    /// The keys of columns that have another name.
    pub(super) by_column: HashMap<String, String>,
}

impl Keys {
    pub(super) fn folded<'a>(&self, key: &'a str) -> Cow<'a, str> {
        let key = match self.dots_to_underscores && key.contains('.') {
            true => Cow::Owned(key.replace('.', "_")),
            false => Cow::Borrowed(key),
        };
        match self.is_case_insensitive
            && key.bytes().any(|byte| byte.is_ascii_uppercase() || !byte.is_ascii())
        {
            true => Cow::Owned(key.to_lowercase()),
            false => key,
        }
    }

    /// Returns the key that a column has after folding.
    pub(super) fn of_column(&self, column: &str) -> String {
        let key = self.by_column.get(column).map_or(column, String::as_str);
        self.folded(key).into_owned()
    }

    /// Returns the keys of the fields of structs, which are not mapped.
    fn of_struct(&self) -> Self {
        Self { by_column: HashMap::new(), ..self.clone() }
    }
}

/// The columns of an object, or the fields of a struct in it.
#[derive(Debug)]
pub(super) struct Shape {
    keys: Keys,
    fields: Vec<Field>,
    by_key: HashMap<String, usize>,
    /// For each column its key, if no other name and no other column has it.
    in_order: Vec<Option<String>>,
}

#[derive(Debug)]
struct Field {
    /// The names on the path to it, joined by dots.
    path: String,
    of: ParquetType,
    inner: Inner,
    is_required: bool,
}

#[derive(Debug)]
enum Inner {
    None,
    Items(Box<Field>),
    Fields(Shape),
}

/// A value of a column.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Cell<'a> {
    Null,
    Bool(bool),
    Int32(i32),
    Int64(i64),
    Float(f32),
    Double(f64),
    Decimal(i128),
    Text(Cow<'a, str>),
    Bytes(Vec<u8>),
    List(Vec<Cell<'a>>),
    Struct(Vec<Cell<'a>>),
}

impl Shape {
    pub(super) fn new(schema: &ParquetSchema, keys: Keys) -> Self {
        Self::within("", schema, keys)
    }

    fn within(prefix: &str, schema: &ParquetSchema, keys: Keys) -> Self {
        let columns = schema.columns.iter();
        let by_key = columns.clone().zip(0..).map(|(column, index)| (keys.of_column(&column.name), index));
        let field = |column: &super::schema::Column| {
            Field::new(format!("{prefix}{}", column.name), &column.of, column.is_required, &keys)
        };
        let by_key: HashMap<_, _> = by_key.collect();
        // A name that differs from its key matches no column before folding.
        let in_order = columns.clone().zip(0..).map(|(column, index)| {
            let key = keys.of_column(&column.name);
            (by_key[&key] == index && keys.folded(&key) == key).then_some(key)
        });
        let in_order = in_order.collect();
        Self { by_key, in_order, fields: columns.map(field).collect(), keys }
    }

    /// Returns the column that a member goes into. `likely` is tried first: most records have their members in the order of the columns.
    fn column(&self, key: &str, likely: usize) -> Option<usize> {
        match self.in_order.get(likely) {
            Some(Some(of_likely)) if of_likely == key => Some(likely),
            _ => self.by_key.get(&*self.keys.folded(key)).copied(),
        }
    }

    /// Returns the values of the columns in an object. The error says which column does not fit.
    pub(super) fn cells<'a>(&self, data: &'a [u8]) -> Result<Vec<Cell<'a>>, String> {
        let mut values = vec![None; self.fields.len()];
        let mut likely = 0;
        json::find_members(data, |key, value| {
            if let Some(column) = self.column(key, likely) {
                values[column] = Some(value);
                likely = column + 1;
            }
        })?;
        self.fields.iter().zip(values).map(|(field, value)| field.cell(value)).collect()
    }
}

impl Field {
    fn new(path: String, of: &ParquetType, is_required: bool, keys: &Keys) -> Self {
        let inner = match of {
            ParquetType::List(items) => {
                Inner::Items(Box::new(Self::new(format!("{path}[]"), items, false, keys)))
            }
            ParquetType::Struct(fields) => {
                Inner::Fields(Shape::within(&format!("{path}."), fields, keys.of_struct()))
            }
            _ => Inner::None,
        };
        Self { path, of: of.clone(), inner, is_required }
    }

    fn cell<'a>(&self, value: Option<Written<'a>>) -> Result<Cell<'a>, String> {
        let Some(value) = value.filter(|value| !value.is_null()) else {
            let found = if value.is_some() { "null" } else { "nothing" };
            return if self.is_required { Err(self.refused(found)) } else { Ok(Cell::Null) };
        };
        match &self.inner {
            Inner::None => self.scalar(value).ok_or_else(|| self.refused(value.text)),
            Inner::Items(items) => {
                let values: Vec<&RawValue> =
                    serde_json::from_str(value.text).map_err(|_| self.refused(value.text))?;
                let cells = values.into_iter().map(|value| items.cell(Some(json::written(value))));
                cells.collect::<Result<_, _>>().map(Cell::List)
            }
            Inner::Fields(_) if !value.text.starts_with('{') => Err(self.refused(value.text)),
            Inner::Fields(fields) => fields.cells(value.text.as_bytes()).map(Cell::Struct),
        }
    }

    fn refused(&self, found: &str) -> String {
        let (found, rest) = shorten(found);
        format!("column {}: expected {}, found {found}{rest}", self.path, self.of)
    }

    fn scalar<'a>(&self, value: Written<'a>) -> Option<Cell<'a>> {
        let text = value.decode().ok()?;
        let trimmed = text.trim();
        Some(match self.of {
            ParquetType::String => Cell::Text(text),
            ParquetType::Bytes if value.is_text() => Cell::Bytes(scalar::base64(&text)?),
            ParquetType::Bytes => return None,
            ParquetType::Bool => Cell::Bool(scalar::boolean(trimmed)?),
            ParquetType::Int32 => Cell::Int32(scalar::whole(trimmed)?.try_into().ok()?),
            ParquetType::Int64 => Cell::Int64(scalar::whole(trimmed)?),
            ParquetType::Float => Cell::Float(scalar::real(trimmed)?),
            ParquetType::Double => Cell::Double(scalar::double(trimmed)?),
            ParquetType::Timestamp => Cell::Int64(moment::timestamp(trimmed)?),
            ParquetType::Decimal { precision, scale } => {
                Cell::Decimal(scalar::decimal(trimmed, precision, scale)?)
            }
            ParquetType::List(_) | ParquetType::Struct(_) => return None,
        })
    }
}
