//! `json_value` and `json_query`.

use std::sync::Arc;

use arrow_array::builder::StringBuilder;
use arrow_array::cast::AsArray;
use arrow_array::{Array, ArrayRef};
use arrow_schema::DataType;
use datafusion::common::{Result, plan_err};
use datafusion::logical_expr::{
    ColumnarValue, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, TypeSignature, Volatility,
};
use serde_json::value::RawValue;

use super::columns::literal;
use super::json_path::Path;

pub(super) fn functions() -> Vec<ScalarUDF> {
    [("json_value", Wanted::Scalar), ("json_query", Wanted::Composite)]
        .map(|(name, wanted)| ScalarUDF::from(Json { name, wanted, signature: signature() }))
        .into()
}

fn signature() -> Signature {
    let types = [DataType::Binary, DataType::BinaryView, DataType::Utf8, DataType::Utf8View];
    let exact = types.map(|json| TypeSignature::Exact(vec![json, DataType::Utf8]));
    Signature::one_of(exact.into(), Volatility::Immutable)
}

/// What a function returns; other values are null.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Wanted {
    /// Texts, numbers and booleans, as texts.
    Scalar,
    /// Objects and lists, as they are written.
    Composite,
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct Json {
    name: &'static str,
    wanted: Wanted,
    signature: Signature,
}

impl ScalarUDFImpl for Json {
    fn name(&self) -> &str {
        self.name
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(DataType::Utf8)
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let path = match literal(self.name, "path", args.args.get(1))? {
            Some(path) => Path::parse(&path).or_else(|reason| plan_err!("{}: {reason}", self.name))?,
            None => return plan_err!("{}: the path is null", self.name),
        };
        let json = args.args[0].to_array(args.number_rows)?;
        let mut texts = StringBuilder::new();
        for row in 0..json.len() {
            let value = bytes_of(&json, row).and_then(|json| path.find(json));
            texts.append_option(value.and_then(|value| self.text(value)));
        }
        Ok(ColumnarValue::Array(Arc::new(texts.finish())))
    }
}

impl Json {
    fn text(&self, value: &RawValue) -> Option<String> {
        let json = value.get();
        match (json.as_bytes()[0], self.wanted) {
            (b'{' | b'[', Wanted::Composite) => Some(json.to_owned()),
            (b'{' | b'[', Wanted::Scalar) | (b'n', _) | (_, Wanted::Composite) => None,
            // A text with a lone surrogate is none.
            (b'"', _) => serde_json::from_str(json).ok(),
            _ => Some(json.to_owned()),
        }
    }
}

fn bytes_of(array: &ArrayRef, row: usize) -> Option<&[u8]> {
    if array.is_null(row) {
        return None;
    }
    match array.data_type() {
        DataType::Binary => Some(array.as_binary::<i32>().value(row)),
        DataType::BinaryView => Some(array.as_binary_view().value(row)),
        DataType::Utf8 => Some(array.as_string::<i32>().value(row).as_bytes()),
        DataType::Utf8View => Some(array.as_string_view().value(row).as_bytes()),
        _ => None,
    }
}
