//! The Arrow schema of a source.

use std::sync::Arc;

use datafusion::arrow::datatypes::{DataType, Field, Fields, Schema as ArrowSchema, SchemaRef, TimeUnit};

use super::DecodeError;
use super::avro::{Body, Logical, NamedId, Schema, Type};
use super::defaults;

/// The most digits of a decimal.
const MAX_PRECISION: u32 = 38;

/// The columns of a record's Avro schema.
///
/// | Avro | Arrow |
/// |---|---|
/// | `int` `long` `float` `double` `boolean` `null` | `Int32` `Int64` `Float32` `Float64` `Boolean` `Null` |
/// | `string`, also with `uuid`; `enum` | `Utf8` |
/// | `bytes`; `fixed`, also with `uuid` or `duration` | `Binary`; `FixedSizeBinary` |
/// | `decimal` | `Decimal128` |
/// | `date`; `time-millis`, `time-micros` | `Date32`; `Time32(ms)`, `Time64(µs)` |
/// | `timestamp-millis`, `-micros`, `-nanos` | `Timestamp(ms, "+00:00")`, `(µs, …)`, `(ns, …)` |
/// | `local-timestamp-millis`, `-micros`, `-nanos` | `Timestamp(ms)`, `(µs)`, `(ns)` |
/// | `record`, `array`, `map` | `Struct`, `List`, `Map` with its entries in the order written |
/// | a union of `null` and one type | that type, nullable |
///
/// A field of a record that may be NULL is nullable too, whatever its own type says: where the record is NULL, so are its fields.
///
/// Logical types that are unknown, or do not fit their type, are ignored, as the Avro specification wants it.
///
/// # Errors
/// The text is not an Avro schema, its root is not a record, a default is not of its field's type, or a field has a type without a column: a union of several
/// types, a type that contains itself, a decimal of more than 38 digits.
pub fn arrow_schema(schema_json: &str) -> Result<SchemaRef, DecodeError> {
    let schema = Schema::parse(schema_json).map_err(|error| DecodeError::Schema(error.0))?;
    columns_of(&schema)
}

/// As [`arrow_schema`], of a parsed schema.
pub(super) fn columns_of(schema: &Schema) -> Result<SchemaRef, DecodeError> {
    let mut shape = Shape { schema, within: Vec::new() };
    let root = match &schema.root {
        Type::Named(id) => shape.named(*id, "", false).map_err(DecodeError::Schema)?,
        _ => DataType::Null,
    };
    match root {
        DataType::Struct(fields) => Ok(Arc::new(ArrowSchema::new(fields))),
        _ => Err(DecodeError::Schema("the schema of a source must be a record".into())),
    }
}

struct Shape<'a> {
    schema: &'a Schema,
    /// The records that the one at hand is in.
    within: Vec<NamedId>,
}

impl Shape<'_> {
    /// A field; `below_null`: of a record that may be NULL.
    fn field(&mut self, name: &str, of: &Type, path: &str, below_null: bool) -> Result<Field, String> {
        let (of, nullable) = match of {
            Type::Union(_) => nullable(of)
                .ok_or_else(|| format!("field {path:?} is a union of several types, which has no column; write [\"null\", one type]"))?,
            Type::Null => (of, true),
            _ => (of, false),
        };
        let nullable = nullable || below_null;
        Ok(Field::new(name, self.data_type(of, path, nullable)?, nullable))
    }

    fn data_type(&mut self, of: &Type, path: &str, nullable: bool) -> Result<DataType, String> {
        Ok(match of {
            Type::Null => DataType::Null,
            Type::Boolean => DataType::Boolean,
            Type::Int(logical) => logical.map_or(Ok(DataType::Int32), |logical| logical_type(logical, path))?,
            Type::Long(logical) => logical.map_or(Ok(DataType::Int64), |logical| logical_type(logical, path))?,
            Type::Float => DataType::Float32,
            Type::Double => DataType::Float64,
            Type::Bytes(None | Some(Logical::Uuid)) => DataType::Binary,
            Type::Bytes(Some(logical)) => logical_type(*logical, path)?,
            Type::String(_) => DataType::Utf8,
            // A list or a map that is NULL has no items.
            Type::Array(items) => DataType::List(Arc::new(self.field("item", items, path, false)?)),
            Type::Map(values) => {
                let entries = vec![Field::new("keys", DataType::Utf8, false), self.field("values", values, path, false)?];
                DataType::Map(Arc::new(Field::new("entries", DataType::Struct(entries.into()), false)), false)
            }
            Type::Named(id) => self.named(*id, path, nullable)?,
            Type::Union(_) => return Err(format!("field {path:?}: a union may not contain a union")),
        })
    }

    fn named(&mut self, id: NamedId, path: &str, nullable: bool) -> Result<DataType, String> {
        let schema = self.schema;
        let named = schema.named(id).ok_or_else(|| format!("field {path:?} has an undefined type"))?;
        match &named.body {
            Body::Enum { .. } => Ok(DataType::Utf8),
            Body::Fixed { size, logical: None | Some(Logical::Uuid) } => {
                i32::try_from(*size).map(DataType::FixedSizeBinary).map_err(|error| format!("field {path:?}: {error}"))
            }
            Body::Fixed { logical: Some(logical), .. } => logical_type(*logical, path),
            Body::Record(fields) => {
                if self.within.contains(&id) {
                    return Err(format!("field {path:?}: the type {:?} contains itself, which has no column", named.name));
                }
                self.within.push(id);
                let mut columns = Vec::with_capacity(fields.len());
                for field in fields {
                    defaults::default_of(schema, field)?;
                    let path = if path.is_empty() { field.name.clone() } else { format!("{path}.{}", field.name) };
                    columns.push(self.field(&field.name, &field.of, &path, nullable)?);
                }
                self.within.pop();
                Ok(DataType::Struct(Fields::from(columns)))
            }
        }
    }
}

/// The one type of a union besides `null`, and whether `null` is one; `None` if there are several.
pub(super) fn nullable(of: &Type) -> Option<(&Type, bool)> {
    let Type::Union(branches) = of else {
        return Some((of, matches!(of, Type::Null)));
    };
    match branches.as_slice() {
        [only] => Some((only, matches!(only, Type::Null))),
        [Type::Null, other] | [other, Type::Null] => Some((other, true)),
        _ => None,
    }
}

fn logical_type(logical: Logical, path: &str) -> Result<DataType, String> {
    let utc = || Some(Arc::from("+00:00"));
    Ok(match logical {
        Logical::Date => DataType::Date32,
        Logical::TimeMillis => DataType::Time32(TimeUnit::Millisecond),
        Logical::TimeMicros => DataType::Time64(TimeUnit::Microsecond),
        Logical::TimestampMillis => DataType::Timestamp(TimeUnit::Millisecond, utc()),
        Logical::TimestampMicros => DataType::Timestamp(TimeUnit::Microsecond, utc()),
        Logical::TimestampNanos => DataType::Timestamp(TimeUnit::Nanosecond, utc()),
        Logical::LocalTimestampMillis => DataType::Timestamp(TimeUnit::Millisecond, None),
        Logical::LocalTimestampMicros => DataType::Timestamp(TimeUnit::Microsecond, None),
        Logical::LocalTimestampNanos => DataType::Timestamp(TimeUnit::Nanosecond, None),
        Logical::Decimal { precision, scale } => match (u8::try_from(precision), i8::try_from(scale)) {
            (Ok(digits), Ok(scale)) if precision <= MAX_PRECISION => DataType::Decimal128(digits, scale),
            _ => return Err(format!("field {path:?} is a decimal of {precision} digits; a column holds up to {MAX_PRECISION}")),
        },
        // Text and bytes, which come here for no other reason than their logical types.
        Logical::Uuid => return Err(format!("field {path:?} is a UUID that is neither text nor bytes")),
    })
}
