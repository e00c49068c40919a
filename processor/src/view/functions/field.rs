//! `record['field']` and `map['key']`, so that what lies below a NULL is NULL.
//!
//! DataFusion answers with the field's column as it is, whatever the record's says. Arrow permits any value there: the kernel of `CASE WHEN … THEN record
//! END`, for one, clears the record's bit and leaves its fields as they were. So the function is replaced wherever a plan calls it.

use std::sync::Arc;

use datafusion::arrow::array::{Array, ArrayRef};
use datafusion::arrow::compute::{is_null, kernels::nullif::nullif};
use datafusion::arrow::datatypes::{DataType, FieldRef};
use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::Transformed;
use datafusion::common::{DFSchema, Result};
use datafusion::functions::core::getfield::GetFieldFunc;
use datafusion::logical_expr::expr::ScalarFunction;
use datafusion::logical_expr::expr_rewriter::FunctionRewrite;
use datafusion::logical_expr::{ColumnarValue, Expr, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature};

/// DataFusion's `get_field`, with NULL for whatever lies below a NULL.
#[derive(Debug, Default, PartialEq, Eq, Hash)]
struct MaskedField {
    inner: GetFieldFunc,
}

impl ScalarUDFImpl for MaskedField {
    fn name(&self) -> &str {
        self.inner.name()
    }

    fn schema_name(&self, args: &[Expr]) -> Result<String> {
        self.inner.schema_name(args)
    }

    fn signature(&self) -> &Signature {
        self.inner.signature()
    }

    fn coerce_types(&self, arg_types: &[DataType]) -> Result<Vec<DataType>> {
        self.inner.coerce_types(arg_types)
    }

    fn return_type(&self, arg_types: &[DataType]) -> Result<DataType> {
        self.inner.return_type(arg_types)
    }

    fn return_field_from_args(&self, args: ReturnFieldArgs) -> Result<FieldRef> {
        self.inner.return_field_from_args(args)
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let Some((base, names)) = args.args.split_first() else { return self.inner.invoke_with_args(args) };
        let mut value = base.clone();
        // Step by step: a record in between may be NULL as well.
        for name in names {
            let above = match &value {
                ColumnarValue::Array(array) => Arc::clone(array),
                ColumnarValue::Scalar(scalar) => scalar.to_array()?,
            };
            let step = ScalarFunctionArgs { args: vec![value, name.clone()], ..args.clone() };
            value = masked(self.inner.invoke_with_args(step)?, &above)?;
        }
        Ok(value)
    }
}

fn masked(value: ColumnarValue, above: &ArrayRef) -> Result<ColumnarValue> {
    match value {
        ColumnarValue::Array(array) if above.null_count() > 0 && array.len() == above.len() => {
            Ok(ColumnarValue::Array(nullif(&array, &is_null(above)?)?))
        }
        value => Ok(value),
    }
}

/// Puts [`MaskedField`] in the place of DataFusion's function.
#[derive(Debug)]
pub struct MaskFields(Arc<ScalarUDF>);

impl Default for MaskFields {
    fn default() -> Self {
        MaskFields(Arc::new(ScalarUDF::new_from_impl(MaskedField::default())))
    }
}

impl FunctionRewrite for MaskFields {
    fn name(&self) -> &str {
        "mask_fields"
    }

    fn rewrite(&self, expr: Expr, _schema: &DFSchema, _config: &ConfigOptions) -> Result<Transformed<Expr>> {
        match expr {
            Expr::ScalarFunction(call) if call.func.inner().is::<GetFieldFunc>() => {
                Ok(Transformed::yes(Expr::ScalarFunction(ScalarFunction::new_udf(Arc::clone(&self.0), call.args))))
            }
            expr => Ok(Transformed::no(expr)),
        }
    }
}
