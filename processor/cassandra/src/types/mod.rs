//! Columns as CQL types. Every value comes back as it was, and is what a CQL user expects where CQL has a word for it.
//!
//! | column | CQL | value |
//! |---|---|---|
//! | boolean, text, binary, float, double | `boolean`, `text`, `blob`, `float`, `double` | as it is |
//! | int8, int16, int32, int64 | `tinyint`, `smallint`, `int`, `bigint` | as it is |
//! | uint8, uint16, uint32 | `smallint`, `int`, `bigint` | as it is |
//! | uint64 | `varint` | as it is |
//! | decimal | `decimal` | as it is, with the column's scale |
//! | timestamp in seconds or milliseconds, date64 | `timestamp` | as it is |
//! | timestamp in microseconds or nanoseconds | `bigint` | that number since the Unix epoch: CQL's `timestamp` has milliseconds only |
//! | date32 | `date` | as it is |
//! | time | `time` | as it is |
//! | duration | `bigint` | the number of its units |
//! | interval of months | `int` | months |
//! | other intervals | `blob` | their parts, big endian with the sign bit flipped: CQL's `duration` has no order |
//! | list | `frozen<list<frozen<tuple<…>>>>` | each item in a tuple of one, since CQL's lists have no NULL in them |
//! | struct | `frozen<tuple<…>>` | the fields in order |
//!
//! Two things are special in keys. Cassandra refuses an empty partition key of one column, so there a text or blob that is empty or begins with a
//! zero byte has another zero byte put before it. And not-a-number is one value in a key, whatever its bits.

mod decode;
mod encode;
mod numbers;

use datafusion::arrow::datatypes::{DataType, IntervalUnit, TimeUnit};

pub(crate) use self::decode::{Decoder, decoder};
pub(crate) use self::encode::{Encoder, encoder};

/// What a column is in its table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    /// Not part of the key.
    Value,
    /// Part of the key.
    Key,
    /// The whole partition key.
    WholePartitionKey,
}

/// The CQL type of a column.
pub(crate) fn cql_type(data_type: &DataType) -> String {
    let simple = match data_type {
        DataType::Boolean => "boolean",
        DataType::Int8 => "tinyint",
        DataType::Int16 | DataType::UInt8 => "smallint",
        DataType::Int32 | DataType::UInt16 | DataType::Interval(IntervalUnit::YearMonth) => "int",
        DataType::Int64 | DataType::UInt32 | DataType::Duration(_) => "bigint",
        DataType::UInt64 => "varint",
        DataType::Float32 => "float",
        DataType::Float64 => "double",
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => "text",
        DataType::Timestamp(TimeUnit::Second | TimeUnit::Millisecond, _) | DataType::Date64 => "timestamp",
        DataType::Timestamp(TimeUnit::Microsecond | TimeUnit::Nanosecond, _) => "bigint",
        DataType::Date32 => "date",
        DataType::Time32(_) | DataType::Time64(_) => "time",
        DataType::Decimal128(_, _) | DataType::Decimal256(_, _) => "decimal",
        DataType::List(item) | DataType::LargeList(item) => {
            return format!("frozen<list<frozen<tuple<{}>>>>", cql_type(item.data_type()));
        }
        DataType::Struct(fields) => {
            let fields: Vec<String> = fields.iter().map(|field| cql_type(field.data_type())).collect();
            return format!("frozen<tuple<{}>>", fields.join(", "));
        }
        // Binary, and the intervals of more than one part. No other type is kept in a view store.
        _ => "blob",
    };
    simple.to_owned()
}

/// The days between the least `date` of CQL and the Unix epoch.
const DATE_OFFSET: u32 = 1 << 31;

/// Nanoseconds in a unit of time.
fn nanoseconds(unit: TimeUnit) -> i64 {
    match unit {
        TimeUnit::Second => 1_000_000_000,
        TimeUnit::Millisecond => 1_000_000,
        TimeUnit::Microsecond => 1_000,
        TimeUnit::Nanosecond => 1,
    }
}

const NANOSECONDS_A_DAY: i64 = 86_400_000_000_000;

#[cfg(test)]
mod extremes;
#[cfg(test)]
mod tests;
