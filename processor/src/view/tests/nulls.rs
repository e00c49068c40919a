//! What lies below a NULL is NULL, wherever a view looks: random records, lists and maps that may be NULL, in one another, against a straight evaluation.

use std::collections::BTreeMap;
use std::sync::Arc;

use apache_avro::types::Value as Avro;
use datafusion::arrow::array::RecordBatch;
use rand::Rng;
use rand_chacha::ChaCha8Rng;
use serde_json::{Value as Json, json};

use super::harness::{rng, run};
use crate::decode::{Decoder, StaticSchemas, arrow_schema};
use crate::json::rows;
use crate::log::{RecordSpan, Records};
use crate::position::{Offset, Partition};
use crate::source::{Framing, Source};
use crate::view::View;

/// A type, as Avro declares it.
#[derive(Debug)]
enum Kind {
    Long,
    Text,
    /// The number that makes its name unique, and its fields `f0`, `f1`, …
    Record(u32, Vec<Kind>),
    List(Box<Kind>),
    Map(Box<Kind>),
    Nullable(Box<Kind>),
}

/// A value. A map has the keys `k0`, `k1`, …
#[derive(Clone, Debug, PartialEq)]
enum Value {
    Null,
    Long(i64),
    Text(&'static str),
    Record(Vec<Value>),
    List(Vec<Value>),
    Map(Vec<Value>),
}

#[derive(Clone, Copy, Debug)]
enum Step {
    Field(usize),
    Item(usize),
    Key(usize),
}

fn kind(random: &mut ChaCha8Rng, depth: u32, names: &mut u32) -> Kind {
    *names += 1;
    let name = *names;
    let inner = |random: &mut ChaCha8Rng, names: &mut u32| Box::new(kind(random, depth - 1, names));
    let of = match random.random_range(0..if depth == 0 { 2 } else { 10 }) {
        0 => Kind::Long,
        1 => Kind::Text,
        2 | 3 => Kind::List(inner(random, names)),
        4 | 5 => Kind::Map(inner(random, names)),
        _ => Kind::Record(name, (0..random.random_range(1..4)).map(|_| kind(random, depth - 1, names)).collect()),
    };
    if random.random_bool(0.4) { Kind::Nullable(Box::new(of)) } else { of }
}

fn schema(of: &Kind) -> Json {
    match of {
        Kind::Long => json!("long"),
        Kind::Text => json!("string"),
        Kind::List(items) => json!({"type": "array", "items": schema(items)}),
        Kind::Map(values) => json!({"type": "map", "values": schema(values)}),
        Kind::Nullable(of) => json!(["null", schema(of)]),
        Kind::Record(name, fields) => {
            let fields: Vec<Json> =
                fields.iter().enumerate().map(|(index, of)| json!({"name": format!("f{index}"), "type": schema(of)})).collect();
            json!({"type": "record", "name": format!("r{name}"), "fields": fields})
        }
    }
}

fn value(random: &mut ChaCha8Rng, of: &Kind) -> Value {
    let several = |random: &mut ChaCha8Rng, of: &Kind| (0..random.random_range(0..3)).map(|_| value(random, of)).collect();
    match of {
        Kind::Nullable(_) if random.random_bool(0.4) => Value::Null,
        Kind::Nullable(of) => value(random, of),
        // What a filler would be is a value too.
        Kind::Long => Value::Long(random.random_range(-2..3)),
        Kind::Text => Value::Text(["", "a", "b"][random.random_range(0..3)]),
        Kind::List(items) => Value::List(several(random, items)),
        Kind::Map(values) => Value::Map(several(random, values)),
        Kind::Record(_, fields) => Value::Record(fields.iter().map(|of| value(random, of)).collect()),
    }
}

fn avro(of: &Kind, value: &Value) -> Avro {
    match (of, value) {
        (Kind::Nullable(_), Value::Null) => Avro::Union(0, Box::new(Avro::Null)),
        (Kind::Nullable(of), value) => Avro::Union(1, Box::new(avro(of, value))),
        (Kind::Long, Value::Long(number)) => Avro::Long(*number),
        (Kind::Text, Value::Text(text)) => Avro::String((*text).into()),
        (Kind::List(of), Value::List(items)) => Avro::Array(items.iter().map(|item| avro(of, item)).collect()),
        (Kind::Map(of), Value::Map(values)) => {
            Avro::Map(values.iter().enumerate().map(|(index, value)| (format!("k{index}"), avro(of, value))).collect())
        }
        (Kind::Record(_, fields), Value::Record(values)) => {
            let fields = fields.iter().zip(values).enumerate();
            Avro::Record(fields.map(|(index, (of, value))| (format!("f{index}"), avro(of, value))).collect())
        }
        (of, value) => panic!("{value:?} is no {of:?}"),
    }
}

/// A way down to a number or a text.
fn path<'k>(random: &mut ChaCha8Rng, of: &'k Kind) -> (Vec<Step>, &'k Kind) {
    let (step, below) = match of {
        Kind::Nullable(of) => return path(random, of),
        Kind::Long | Kind::Text => return (Vec::new(), of),
        Kind::List(items) => (Step::Item(random.random_range(0..2)), items.as_ref()),
        Kind::Map(values) => (Step::Key(random.random_range(0..2)), values.as_ref()),
        Kind::Record(_, fields) => {
            let index = random.random_range(0..fields.len());
            (Step::Field(index), &fields[index])
        }
    };
    let (mut steps, leaf) = path(random, below);
    steps.insert(0, step);
    (steps, leaf)
}

fn sql(steps: &[Step]) -> String {
    let step = |step: &Step| match step {
        Step::Field(index) => format!("['f{index}']"),
        Step::Key(index) => format!("['k{index}']"),
        Step::Item(index) => format!("[{}]", index + 1),
    };
    steps.iter().map(step).collect()
}

fn at<'v>(value: &'v Value, steps: &[Step]) -> &'v Value {
    let Some((step, rest)) = steps.split_first() else { return value };
    let below = match (value, step) {
        (Value::Null, _) => None,
        (Value::Record(values), Step::Field(index)) | (Value::List(values), Step::Item(index)) | (Value::Map(values), Step::Key(index)) => {
            values.get(*index)
        }
        (value, step) => panic!("{value:?} has no {step:?}"),
    };
    below.map_or(&Value::Null, |below| at(below, rest))
}

/// Events as the log has them: a time, two groups, whether to look, and the value.
fn decoded(of: &Kind, values: &[Value]) -> (Source, RecordBatch) {
    let time = json!({"type": "long", "logicalType": "timestamp-millis"});
    let fields = [
        json!({"name": "t", "type": time}),
        json!({"name": "k", "type": "int"}),
        json!({"name": "look", "type": "boolean"}),
        json!({"name": "c", "type": schema(of)}),
    ];
    let schema_json = json!({"type": "record", "name": "event", "fields": fields}).to_string();
    let parsed = apache_avro::Schema::parse_str(&schema_json).unwrap();
    let (mut payload, mut spans) = (Vec::new(), Vec::new());
    for (index, value) in values.iter().enumerate() {
        let fields = [
            ("t", Avro::TimestampMillis(index as i64)),
            ("k", Avro::Int(index as i32 % 2)),
            ("look", Avro::Boolean(index % 3 > 0)),
            ("c", avro(of, value)),
        ];
        let record = Avro::Record(fields.map(|(name, value)| (name.to_owned(), value)).into());
        #[allow(deprecated)]
        let bytes = apache_avro::to_avro_datum(&parsed, record).unwrap();
        let (start, len) = (payload.len() as u32, Some(bytes.len() as u32));
        spans.push(RecordSpan { offset: Offset(index as u64), record_time_ms: 0, start, len });
        payload.extend(bytes);
    }
    let next = Offset(values.len() as u64);
    let records = Records { partition: Partition(0), spans, payload: payload.into(), next, end: next };
    let source = Source {
        name: "events".into(),
        topic: "events".into(),
        schema_name: "event".into(),
        schema_json,
        event_time: "t".into(),
        key: None,
        partitions: 1,
        framing: Framing::Bare,
        event_time_unit: None,
        lateness_us: 0,
        future_tolerance_us: 0,
        max_record_bytes: 1 << 20,
        retention: Default::default(),
    };
    let columns = [0, 1, 2, 3];
    let decoded = Decoder::new(&source, &columns, Arc::new(StaticSchemas::default())).unwrap().decode(&records).unwrap();
    assert_eq!(decoded.rejected, []);
    (source, decoded.events)
}

/// The rows of a view over the events, as the engine makes them, by their first column.
fn rows_of(select: &str, source: &Source, events: &RecordBatch, random: &mut ChaCha8Rng) -> BTreeMap<String, Json> {
    let sources = BTreeMap::from([("events".to_owned(), arrow_schema(&source.schema_json).unwrap())]);
    let text = format!("CREATE MATERIALIZED VIEW v WITH (partition_key = 'k', unbounded = true) AS {select}");
    let view = View::plan(&text, "v.sql", &sources).unwrap_or_else(|error| panic!("{text}: {error}"));
    let found = rows(&run(&view, events, random));
    found.into_iter().map(|row| (row["k"].to_string(), row)).collect()
}

fn json_of(value: &Value) -> Json {
    match value {
        Value::Long(number) => json!(number),
        Value::Text(text) => json!(text),
        _ => Json::Null,
    }
}

/// A row of the straight evaluation, over these values and whether to look at each.
fn expected(k: Json, values: &[(&Value, bool)], is_number: bool) -> Json {
    let there: Vec<&Value> = values.iter().map(|(value, _)| *value).filter(|value| **value != Value::Null).collect();
    let numbers: Vec<i64> = there.iter().filter_map(|value| if let Value::Long(number) = value { Some(*number) } else { None }).collect();
    let texts: Vec<&str> = there.iter().filter_map(|value| if let Value::Text(text) = value { Some(*text) } else { None }).collect();
    let filler = if is_number { Value::Long(0) } else { Value::Text("") };
    let least = if is_number { numbers.iter().min().map(|number| json!(number)) } else { texts.iter().min().map(|text| json!(text)) };
    let mut row = json!({
        "k": k,
        "present": there.len(),
        "absent": values.len() - there.len(),
        "fillers": there.iter().filter(|value| ***value == filler).count(),
        "least": least,
        "looked": values.iter().filter(|(value, look)| *look && **value != Value::Null).count(),
    });
    if is_number {
        row["total"] = if numbers.is_empty() { Json::Null } else { json!(numbers.iter().sum::<i64>()) };
    }
    row
}

#[test]
fn what_lies_below_a_null_is_null_to_every_view() {
    let mut looked_below = 0;
    for seed in 0..60 {
        let mut random = rng(seed);
        let of = loop {
            let of = kind(&mut random, 4, &mut 0);
            if !matches!(of, Kind::Long | Kind::Text) {
                break of;
            }
        };
        let values: Vec<Value> = (0..40).map(|_| value(&mut random, &of)).collect();
        let (source, events) = decoded(&of, &values);
        for _ in 0..3 {
            let (steps, leaf) = path(&mut random, &of);
            let is_number = matches!(leaf, Kind::Long);
            let below = sql(&steps);
            looked_below += usize::from(steps.len() > 1);
            let found: Vec<&Value> = values.iter().map(|value| at(value, &steps)).collect();

            let (filler, total) = if is_number { ("0", format!(", sum(c{below}) AS total")) } else { ("''", String::new()) };
            let select = format!(
                "SELECT k, count(c{below}) AS present, count(*) FILTER (WHERE c{below} IS NULL) AS absent,
                        count(*) FILTER (WHERE c{below} = {filler}) AS fillers, min(c{below}) AS least,
                        count((CASE WHEN look THEN c END){below}) AS looked {total}
                 FROM events GROUP BY k"
            );
            let mut by_group: BTreeMap<String, Vec<(&Value, bool)>> = BTreeMap::new();
            for (index, value) in found.iter().enumerate() {
                by_group.entry((index % 2).to_string()).or_default().push((value, index % 3 > 0));
            }
            let wanted: BTreeMap<String, Json> =
                by_group.iter().map(|(k, values)| (k.clone(), expected(serde_json::from_str(k).unwrap(), values, is_number))).collect();
            assert_eq!(rows_of(&select, &source, &events, &mut random), wanted, "seed {seed}: {select} of {}", schema(&of));

            // As a group, and in a condition.
            let select = format!("SELECT c{below} AS k, count(*) AS n FROM events WHERE c{below} <= c{below} GROUP BY c{below}");
            let mut counts: BTreeMap<String, (Json, usize)> = BTreeMap::new();
            for value in found.iter().filter(|value| ***value != Value::Null) {
                let k = json_of(value);
                counts.entry(k.to_string()).or_insert((k, 0)).1 += 1;
            }
            let wanted: BTreeMap<String, Json> = counts.into_iter().map(|(key, (k, n))| (key, json!({"k": k, "n": n}))).collect();
            assert_eq!(rows_of(&select, &source, &events, &mut random), wanted, "seed {seed}: {select} of {}", schema(&of));
        }
    }
    assert!(looked_below > 60, "only {looked_below} ways lead through more than one step");
}

/// The case that was seen: a record's fields read as 0 and '' where it was NULL.
#[test]
fn a_field_of_a_record_that_is_null_is_not_the_zero_of_its_type() {
    let of = Kind::Nullable(Box::new(Kind::Record(
        1,
        vec![Kind::Long, Kind::Text, Kind::Nullable(Box::new(Kind::Long)), Kind::Record(2, vec![Kind::Long])],
    )));
    let whole = Value::Record(vec![Value::Long(10), Value::Text("yy"), Value::Long(1), Value::Record(vec![Value::Long(2)])]);
    let (source, events) = decoded(&of, &[whole.clone(), Value::Null, Value::Null, Value::Null]);
    let select = "SELECT k, count(*) AS c, count(c['f0']) AS x, count(c['f1']) AS y, count(c['f2']) AS n, count(c['f3']['f0']) AS z,
                         min(c['f0']) AS mn, avg(c['f0']) AS av, min(coalesce(c['f1'], 'none')) AS co, count(*) FILTER (WHERE c IS NULL) AS r
                  FROM events GROUP BY k";
    let found = rows_of(select, &source, &events, &mut rng(1));
    let some = json!({"k": 0, "c": 2, "x": 1, "y": 1, "n": 1, "z": 1, "mn": 10, "av": 10.0, "co": "none", "r": 1});
    let none = json!({"k": 1, "c": 2, "x": 0, "y": 0, "n": 0, "z": 0, "mn": null, "av": null, "co": "none", "r": 2});
    assert_eq!(found, BTreeMap::from([("0".to_owned(), some), ("1".to_owned(), none)]));
}
