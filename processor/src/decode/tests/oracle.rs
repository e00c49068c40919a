//! Random schemas, their evolution and values. What `apache-avro` reads is what is decoded here; where it gives up (it resolves no record inside of a
//! union), the rules of the specification say what is read.

use proptest::prelude::*;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::*;

/// A type as its writer and its reader know it.
#[derive(Clone, Debug)]
enum Kind {
    Null,
    Boolean,
    Int,
    Long,
    Float,
    Double,
    Text,
    Bytes,
    Date,
    TimeMicros,
    Millis,
    Micros,
    LocalMillis,
    /// Read as a wider type: the names of both.
    Widened(&'static str, &'static str),
    /// The number that makes its name unique; how many symbols it has to the writer and to the reader, who has a default.
    Enum(u32, usize, usize),
    Fixed(u32, usize),
    Decimal,
    /// Nullable to the writer, and to the reader.
    Nullable(Box<Kind>, bool, bool),
    Array(Box<Kind>),
    Map(Box<Kind>),
    Record(u32, Vec<(String, Kind, Presence)>),
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Presence {
    Both,
    /// The reader has forgotten the field.
    Dropped,
    /// The reader has an `int` besides, with the default 42, before this field.
    BesidesAdded,
}

fn kind(random: &mut ChaCha8Rng, depth: u32, names: &mut u32) -> Kind {
    let simple = [
        Kind::Null,
        Kind::Boolean,
        Kind::Int,
        Kind::Long,
        Kind::Float,
        Kind::Double,
        Kind::Text,
        Kind::Bytes,
        Kind::Date,
        Kind::TimeMicros,
        Kind::Millis,
        Kind::Micros,
        Kind::LocalMillis,
        Kind::Decimal,
        Kind::Widened("int", "long"),
        Kind::Widened("int", "double"),
        Kind::Widened("long", "float"),
        Kind::Widened("long", "double"),
        Kind::Widened("float", "double"),
    ];
    *names += 1;
    match random.random_range(0..if depth == 0 { 12 } else { 24 }) {
        0..=8 => simple[random.random_range(0..simple.len())].clone(),
        9 | 10 => Kind::Enum(*names, random.random_range(1..4), random.random_range(1..4)),
        11 => Kind::Fixed(*names, random.random_range(1..9)),
        12..=15 => match kind(random, depth - 1, names) {
            inner @ (Kind::Null | Kind::Nullable(..)) => inner,
            // A type that becomes nullable is written plainly.
            inner => Kind::Nullable(Box::new(inner), random.random(), true),
        },
        16..=18 => Kind::Array(Box::new(kind(random, depth - 1, names))),
        19 | 20 => Kind::Map(Box::new(kind(random, depth - 1, names))),
        _ => fields(random, depth - 1, names),
    }
}

fn fields(random: &mut ChaCha8Rng, depth: u32, names: &mut u32) -> Kind {
    *names += 1;
    let number = *names;
    let count = random.random_range(1..6);
    let field = |index| {
        let presence = match random.random_range(0..6) {
            0 => Presence::Dropped,
            1 => Presence::BesidesAdded,
            _ => Presence::Both,
        };
        (format!("f{index}"), kind(random, depth, names), if index == 0 { Presence::Both } else { presence })
    };
    Kind::Record(number, (0..count).map(field).collect())
}

/// The schema of the writer, or of the reader.
fn schema(of: &Kind, reader: bool) -> Json {
    let logical = |of: &str, name: &str| json!({"type": of, "logicalType": name});
    match of {
        Kind::Null => json!("null"),
        Kind::Boolean => json!("boolean"),
        Kind::Int => json!("int"),
        Kind::Long => json!("long"),
        Kind::Float => json!("float"),
        Kind::Double => json!("double"),
        Kind::Text => json!("string"),
        Kind::Bytes => json!("bytes"),
        Kind::Date => logical("int", "date"),
        Kind::TimeMicros => logical("long", "time-micros"),
        Kind::Millis => logical("long", "timestamp-millis"),
        Kind::Micros => logical("long", "timestamp-micros"),
        Kind::LocalMillis => logical("long", "local-timestamp-millis"),
        Kind::Decimal => json!({"type": "bytes", "logicalType": "decimal", "precision": 18, "scale": 0}),
        Kind::Widened(from, to) => json!(if reader { to } else { from }),
        Kind::Enum(number, written, read) => {
            let symbols: Vec<String> = (0..if reader { *read } else { *written }).map(|symbol| format!("S{symbol}")).collect();
            json!({"type": "enum", "name": format!("e{number}"), "symbols": symbols, "default": "S0"})
        }
        Kind::Fixed(number, size) => json!({"type": "fixed", "name": format!("x{number}"), "size": size}),
        Kind::Nullable(inner, written, read) => {
            let inner = schema(inner, reader);
            if if reader { *read } else { *written } { json!(["null", inner]) } else { inner }
        }
        Kind::Array(items) => json!({"type": "array", "items": schema(items, reader)}),
        Kind::Map(values) => json!({"type": "map", "values": schema(values, reader)}),
        Kind::Record(number, fields) => {
            let mut list = Vec::new();
            for (name, of, presence) in fields {
                if reader && *presence == Presence::BesidesAdded {
                    list.push(json!({"name": format!("{name}_added"), "type": "int", "default": 42}));
                }
                if !reader || *presence != Presence::Dropped {
                    list.push(json!({"name": name, "type": schema(of, reader)}));
                }
            }
            if reader {
                list.reverse();
            }
            json!({"type": "record", "name": format!("r{number}"), "fields": list})
        }
    }
}

fn written(random: &mut ChaCha8Rng, of: &Kind) -> Avro {
    // Small numbers and large ones, of all lengths.
    let long = |random: &mut ChaCha8Rng| random.random::<i64>() >> random.random_range(0..64);
    let int = |random: &mut ChaCha8Rng| random.random::<i32>() >> random.random_range(0..32);
    match of {
        Kind::Null => Avro::Null,
        Kind::Boolean => Avro::Boolean(random.random()),
        Kind::Int | Kind::Widened("int", _) => Avro::Int(int(random)),
        Kind::Long | Kind::Widened("long", _) => Avro::Long(long(random)),
        Kind::Float | Kind::Widened(..) => Avro::Float(random.random()),
        Kind::Double => Avro::Double(random.random()),
        Kind::Text => Avro::String((0..random.random_range(0..40)).map(|_| random.random::<char>()).collect()),
        Kind::Bytes => Avro::Bytes((0..random.random_range(0..20)).map(|_| random.random()).collect()),
        Kind::Date => Avro::Date(int(random)),
        Kind::TimeMicros => Avro::TimeMicros(random.random_range(0..86_400_000_000)),
        Kind::Millis => Avro::TimestampMillis(long(random)),
        Kind::Micros => Avro::TimestampMicros(long(random)),
        Kind::LocalMillis => Avro::LocalTimestampMillis(long(random)),
        Kind::Decimal => Avro::Decimal((long(random) >> 4).to_be_bytes().to_vec().into()),
        Kind::Enum(_, symbols, _) => {
            let symbol = random.random_range(0..*symbols);
            Avro::Enum(symbol as u32, format!("S{symbol}"))
        }
        Kind::Fixed(_, size) => Avro::Fixed(*size, (0..*size).map(|_| random.random()).collect()),
        Kind::Nullable(inner, true, _) => match random.random() {
            true => Avro::Union(0, Box::new(Avro::Null)),
            false => Avro::Union(1, Box::new(written(random, inner))),
        },
        Kind::Nullable(inner, false, _) => written(random, inner),
        Kind::Array(items) => Avro::Array((0..random.random_range(0..4)).map(|_| written(random, items)).collect()),
        Kind::Map(values) => Avro::Map((0..random.random_range(0..4)).map(|key| (format!("k{key}"), written(random, values))).collect()),
        Kind::Record(_, fields) => Avro::Record(fields.iter().map(|(name, of, _)| (name.clone(), written(random, of))).collect()),
    }
}

/// What the reader makes of a value, by the rules.
fn expected(of: &Kind, value: &Avro) -> Json {
    match (of, value) {
        (Kind::Widened(_, "double"), Avro::Int(value)) => told(&Avro::Double(f64::from(*value))),
        (Kind::Widened(_, "double"), Avro::Long(value)) => told(&Avro::Double(*value as f64)),
        (Kind::Widened(_, "double"), Avro::Float(value)) => told(&Avro::Double(f64::from(*value))),
        (Kind::Widened(_, "float"), Avro::Long(value)) => told(&Avro::Float(*value as f32)),
        (Kind::Enum(_, _, known), Avro::Enum(symbol, text)) => json!(if (*symbol as usize) < *known { text } else { "S0" }),
        (Kind::Nullable(inner, ..), Avro::Union(1, value)) => expected(inner, value),
        (Kind::Nullable(inner, ..), value) if !matches!(value, Avro::Union(..)) => expected(inner, value),
        (Kind::Array(of), Avro::Array(items)) => items.iter().map(|item| expected(of, item)).collect(),
        (Kind::Map(of), Avro::Map(entries)) => {
            let mut entries: Vec<_> = entries.iter().map(|(key, value)| (key, expected(of, value))).collect();
            entries.sort_by(|a, b| a.0.cmp(b.0));
            json!({"map": entries})
        }
        (Kind::Record(_, fields), Avro::Record(values)) => {
            let mut record = serde_json::Map::new();
            for ((name, of, presence), (_, value)) in fields.iter().zip(values) {
                if *presence != Presence::Dropped {
                    record.insert(name.clone(), expected(of, value));
                }
                if *presence == Presence::BesidesAdded {
                    record.insert(format!("{name}_added"), json!(42));
                }
            }
            Json::Object(record)
        }
        (_, value) => told(value),
    }
}

/// A value of `apache-avro`, as [`rows`] tells values.
fn told(of: &Avro) -> Json {
    match of {
        Avro::Null => Json::Null,
        Avro::Boolean(value) => json!(value),
        Avro::Int(value) | Avro::Date(value) | Avro::TimeMillis(value) => json!(value),
        Avro::Long(value) | Avro::TimeMicros(value) | Avro::TimestampMillis(value) => json!(value),
        Avro::TimestampMicros(value) | Avro::LocalTimestampMillis(value) => json!(value),
        Avro::Float(value) => json!({"f32": value.to_bits()}),
        Avro::Double(value) => json!({"f64": value.to_bits()}),
        Avro::String(value) | Avro::Enum(_, value) => json!(value),
        Avro::Bytes(value) | Avro::Fixed(_, value) => json!(hex(value)),
        Avro::Decimal(value) => json!(i64::from_be_bytes(Vec::<u8>::try_from(value).unwrap().try_into().unwrap()).to_string()),
        Avro::Union(_, value) => told(value),
        Avro::Array(items) => items.iter().map(told).collect(),
        Avro::Map(entries) => {
            let mut entries: Vec<_> = entries.iter().map(|(key, value)| (key.clone(), told(value))).collect();
            entries.sort_by(|a, b| a.0.cmp(&b.0));
            json!({"map": entries})
        }
        Avro::Record(fields) => Json::Object(fields.iter().map(|(name, value)| (name.clone(), told(value))).collect()),
        other => panic!("no test has {other:?}"),
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn values_are_those_that_another_implementation_reads(seed in any::<u64>()) {
        let mut random = ChaCha8Rng::seed_from_u64(seed);
        let of = fields(&mut random, 3, &mut 0);
        let (writer, reader) = (schema(&of, false).to_string(), schema(&of, true).to_string());
        let values: Vec<Avro> = (0..20).map(|_| written(&mut random, &of)).collect();
        let parsed = apache_avro::Schema::parse_str(&writer).unwrap();
        let parsed_reader = apache_avro::Schema::parse_str(&reader).unwrap();
        let bodies: Vec<Vec<u8>> = values.iter().map(|value| apache_avro::to_avro_datum(&parsed, value.clone()).unwrap()).collect();
        let run = records(&bodies.iter().map(|body| Some(confluent(1, body))).collect::<Vec<_>>());
        let mut decoder = evolved(&writer, &reader, &all_columns(&reader));
        let decoded = decoder.decode(&run).unwrap();
        prop_assert_eq!(&decoded.rejected, &vec![], "{} as {}", writer, reader);
        prop_assert_eq!(decoded.events.num_rows(), values.len());
        for ((found, value), body) in rows(&decoded.events).iter().zip(&values).zip(&bodies) {
            prop_assert_eq!(found, &expected(&of, value), "{} as {}", writer, reader);
            if let Ok(read) = apache_avro::from_avro_datum(&parsed, &mut body.as_slice(), Some(&parsed_reader)) {
                prop_assert_eq!(found, &told(&read), "{} as {}", writer, reader);
            }
        }
        // Without evolution there is no excuse.
        let run = records(&bodies.iter().cloned().map(Some).collect::<Vec<_>>());
        let source = Source { max_record_bytes: 1 << 20, ..source(&writer, Framing::Bare) };
        let decoded = Decoder::new(&source, &all_columns(&writer), Arc::new(StaticSchemas::default())).unwrap().decode(&run).unwrap();
        let read = bodies.iter().map(|body| told(&apache_avro::from_avro_datum(&parsed, &mut body.as_slice(), None).unwrap()));
        prop_assert_eq!(rows(&decoded.events), read.collect::<Vec<_>>(), "{}", writer);
    }
}
