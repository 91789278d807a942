//! Functions of times that Kinesis Data Analytics has.

use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::types::{Int64Type, TimestampMicrosecondType};
use arrow_array::{Array, PrimitiveArray};
use arrow_schema::{DataType, TimeUnit};
use datafusion::common::Result;
use datafusion::logical_expr::{
    ColumnarValue, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility,
};

pub(super) fn functions() -> Vec<ScalarUDF> {
    [("tsdiff", 2, Kind::Difference), ("unix_timestamp", 1, Kind::Seconds)]
        .map(|(name, count, kind)| ScalarUDF::from(TimeFunction { name, kind, signature: signature(count) }))
        .into()
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Kind {
    /// Milliseconds from one moment to another.
    Difference,
    /// Seconds since 1970.
    Seconds,
}

impl Kind {
    /// Returns the value for moments in microseconds since 1970.
    fn of(self, times: &[Option<i64>]) -> Option<i64> {
        match (self, times) {
            (Self::Difference, &[Some(start), Some(end)]) => Some(end.wrapping_sub(start).div_euclid(1_000)),
            (Self::Seconds, &[Some(time)]) => Some(time.div_euclid(1_000_000)),
            _ => None,
        }
    }
}

fn signature(count: usize) -> Signature {
    let moment = DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()));
    Signature::exact(vec![moment; count], Volatility::Immutable)
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct TimeFunction {
    name: &'static str,
    kind: Kind,
    signature: Signature,
}

impl ScalarUDFImpl for TimeFunction {
    fn name(&self) -> &str {
        self.name
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(DataType::Int64)
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let arrays =
            args.args.iter().map(|arg| arg.to_array(args.number_rows)).collect::<Result<Vec<_>>>()?;
        let times: Vec<_> =
            arrays.iter().map(|array| array.as_primitive::<TimestampMicrosecondType>()).collect();
        let of_row = |row: usize| {
            let of_row: Vec<_> =
                times.iter().map(|times| times.is_valid(row).then(|| times.value(row))).collect();
            self.kind.of(&of_row)
        };
        let values: PrimitiveArray<Int64Type> = (0..args.number_rows).map(of_row).collect();
        Ok(ColumnarValue::Array(Arc::new(values)))
    }
}
