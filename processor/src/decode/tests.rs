//! Specifications of the decoder. `apache-avro` is the second opinion: it writes what is decoded here.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic, deprecated)]

mod evolution;
mod fingerprints;
mod hostile;
mod oracle;
mod shapes;

use std::sync::Arc;

use apache_avro::types::Value as Avro;
use datafusion::arrow::array::{Array, ArrayRef, AsArray};
use datafusion::arrow::datatypes::*;
use serde_json::{Value as Json, json};

use super::*;
use crate::log::{RecordSpan, Records};
use crate::position::Partition;
use crate::source::Framing;

pub(super) const TWEET: &str = r#"{"type":"record","name":"tweet","namespace":"refold.sample","fields":[
    {"name":"userid","type":"long"},{"name":"username","type":"string"},
    {"name":"timestamp","type":{"type":"long","logicalType":"timestamp-millis"}},
    {"name":"tweetid","type":"long"},{"name":"tweet","type":"string"}]}"#;

/// One field of every kind, nested ones included.
pub(super) const NESTED: &str = r#"{"type":"record","name":"nested","fields":[
    {"name":"flag","type":["null","boolean"]},
    {"name":"tags","type":{"type":"array","items":["null","string"]}},
    {"name":"sizes","type":{"type":"map","values":{"type":"array","items":"long"}}},
    {"name":"kind","type":{"type":"enum","name":"kind","symbols":["SMALL","LARGE"]}},
    {"name":"digest","type":["null",{"type":"fixed","name":"digest","size":4}]},
    {"name":"price","type":{"type":"bytes","logicalType":"decimal","precision":9,"scale":2}},
    {"name":"parts","type":{"type":"array","items":{"type":"record","name":"part","fields":[
        {"name":"name","type":"string"},{"name":"weight","type":["null","double"]},{"name":"kind","type":"kind"}]}}}]}"#;

pub(super) fn source(schema: &str, framing: Framing) -> Source {
    Source {
        name: "s".into(),
        topic: "s".into(),
        schema_name: "s".into(),
        schema_json: schema.into(),
        event_time: "timestamp".into(),
        key: None,
        partitions: 1,
        framing,
        event_time_unit: None,
        lateness_us: 0,
        future_tolerance_us: 0,
        max_record_bytes: 4096,
        retention: Default::default(),
    }
}

/// Records from offset 100 on, with a gap of one offset after each.
pub(super) fn records(values: &[Option<Vec<u8>>]) -> Records {
    let mut payload = Vec::new();
    let mut spans = Vec::new();
    for (index, value) in values.iter().enumerate() {
        let start = u32::try_from(payload.len()).unwrap();
        payload.extend_from_slice(value.as_deref().unwrap_or_default());
        let len = value.as_ref().map(|value| u32::try_from(value.len()).unwrap());
        spans.push(RecordSpan { offset: Offset(100 + 2 * index as u64), record_time_ms: index as i64, start, len });
    }
    let next = Offset(100 + 2 * values.len() as u64);
    Records { partition: Partition(0), spans, payload: payload.into(), next, end: next }
}

pub(super) fn all_columns(schema: &str) -> Vec<usize> {
    (0..arrow_schema(schema).unwrap().fields().len()).collect()
}

pub(super) fn bare(schema: &str) -> Decoder {
    Decoder::new(&source(schema, Framing::Bare), &all_columns(schema), Arc::new(StaticSchemas::default())).unwrap()
}

/// A decoder of records that `writer` wrote, with the id 1.
pub(super) fn evolved(writer: &str, reader: &str, columns: &[usize]) -> Decoder {
    let mut schemas = StaticSchemas::default();
    schemas.add_with_id(1, writer).unwrap();
    let source = Source { max_record_bytes: 1 << 20, ..source(reader, Framing::Confluent) };
    Decoder::new(&source, columns, Arc::new(schemas)).unwrap()
}

pub(super) fn confluent(id: u32, body: &[u8]) -> Vec<u8> {
    [&[0], id.to_be_bytes().as_slice(), body].concat()
}

/// The encoding of a value by `apache-avro`.
pub(super) fn encode(schema: &str, value: Avro) -> Vec<u8> {
    let schema = apache_avro::Schema::parse_str(schema).unwrap();
    apache_avro::to_avro_datum(&schema, value).unwrap()
}

pub(super) fn record(fields: &[(&str, Avro)]) -> Avro {
    Avro::Record(fields.iter().map(|(name, value)| (name.to_string(), value.clone())).collect())
}

/// The rows of a batch.
pub(super) fn rows(batch: &RecordBatch) -> Vec<Json> {
    let row = |row: usize| {
        batch.schema().fields().iter().zip(batch.columns()).map(|(field, column)| (field.name().clone(), value(column, row))).collect()
    };
    (0..batch.num_rows()).map(|index| Json::Object(row(index))).collect()
}

/// A value, told from others by its content: floats by their bits, bytes in hexadecimal, maps in order of their keys.
fn value(array: &ArrayRef, row: usize) -> Json {
    if array.is_null(row) || array.data_type() == &DataType::Null {
        return Json::Null;
    }
    match array.data_type() {
        DataType::Boolean => json!(array.as_boolean().value(row)),
        DataType::Int32 => json!(array.as_primitive::<Int32Type>().value(row)),
        DataType::Int64 => json!(array.as_primitive::<Int64Type>().value(row)),
        DataType::Date32 => json!(array.as_primitive::<Date32Type>().value(row)),
        DataType::Time32(_) => json!(array.as_primitive::<Time32MillisecondType>().value(row)),
        DataType::Time64(_) => json!(array.as_primitive::<Time64MicrosecondType>().value(row)),
        DataType::Timestamp(TimeUnit::Millisecond, _) => json!(array.as_primitive::<TimestampMillisecondType>().value(row)),
        DataType::Timestamp(TimeUnit::Microsecond, _) => json!(array.as_primitive::<TimestampMicrosecondType>().value(row)),
        DataType::Timestamp(_, _) => json!(array.as_primitive::<TimestampNanosecondType>().value(row)),
        DataType::Float32 => json!({"f32": array.as_primitive::<Float32Type>().value(row).to_bits()}),
        DataType::Float64 => json!({"f64": array.as_primitive::<Float64Type>().value(row).to_bits()}),
        DataType::Decimal128(_, _) => json!(array.as_primitive::<Decimal128Type>().value_as_string(row)),
        DataType::Utf8 => json!(array.as_string::<i32>().value(row)),
        DataType::Binary => json!(hex(array.as_binary::<i32>().value(row))),
        DataType::FixedSizeBinary(_) => json!(hex(array.as_fixed_size_binary().value(row))),
        DataType::List(_) => {
            let items = array.as_list::<i32>().value(row);
            (0..items.len()).map(|item| value(&items, item)).collect()
        }
        DataType::Map(_, _) => {
            let entries = array.as_map().value(row);
            let (keys, values) = (entries.column(0), entries.column(1));
            let mut entries: Vec<_> =
                (0..keys.len()).map(|entry| (keys.as_string::<i32>().value(entry).to_string(), value(values, entry))).collect();
            entries.sort_by(|a, b| a.0.cmp(&b.0));
            json!({"map": entries})
        }
        DataType::Struct(fields) => {
            let columns = array.as_struct().columns();
            Json::Object(fields.iter().zip(columns).map(|(field, column)| (field.name().clone(), value(column, row))).collect())
        }
        other => panic!("no test has {other}"),
    }
}

pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

pub(super) fn tweet(number: i64, text: &str) -> Vec<u8> {
    let fields = [
        ("userid", Avro::Long(number)),
        ("username", Avro::String(format!("user{number}"))),
        ("timestamp", Avro::TimestampMillis(1_700_000_000_000 + number)),
        ("tweetid", Avro::Long(-number)),
        ("tweet", Avro::String(text.into())),
    ];
    encode(TWEET, record(&fields))
}

pub(super) fn nested(number: i64) -> Vec<u8> {
    let part = |name: &str, weight| {
        let kind = Avro::Enum(1, "LARGE".into());
        record(&[("name", Avro::String(name.into())), ("weight", weight), ("kind", kind)])
    };
    let optional = |value: Option<Avro>| match value {
        None => Avro::Union(0, Box::new(Avro::Null)),
        Some(value) => Avro::Union(1, Box::new(value)),
    };
    let sizes = [("a".to_string(), Avro::Array(vec![Avro::Long(number), Avro::Long(i64::MIN)]))];
    let fields = [
        ("flag", optional((number % 2 == 0).then_some(Avro::Boolean(true)))),
        ("tags", Avro::Array(vec![optional(Some(Avro::String("größe".into()))), optional(None)])),
        ("sizes", Avro::Map(sizes.into())),
        ("kind", Avro::Enum(0, "SMALL".into())),
        ("digest", optional((number % 3 == 0).then(|| Avro::Fixed(4, vec![1, 2, 3, 255])))),
        ("price", Avro::Decimal(vec![0xff, 0x9c].into())),
        ("parts", Avro::Array(vec![part("x", optional(None)), part("y", optional(Some(Avro::Double(0.5))))])),
    ];
    encode(NESTED, record(&fields))
}
