#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]

mod conformance;
mod reference;
mod sql;
mod windows;
mod words;

use std::sync::Arc;

use datafusion::arrow::array::AsArray;
use datafusion::arrow::datatypes::DataType;
use datafusion::logical_expr::{ColumnarValue, ScalarUDF, Volatility, create_udf};

/// `panics_on_boom(text)`: the text, unless it is `boom`. Kernels do panic now and then.
pub fn panics_on_boom() -> ScalarUDF {
    let evaluate = |arguments: &[ColumnarValue]| {
        let texts = arguments[0].to_array(1)?;
        if texts.as_string::<i32>().iter().flatten().any(|text| text == "boom") {
            panic!("boom");
        }
        Ok(ColumnarValue::Array(texts))
    };
    create_udf("panics_on_boom", vec![DataType::Utf8], DataType::Utf8, Volatility::Immutable, Arc::new(evaluate))
}
