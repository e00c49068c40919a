//! What it costs to decode a tweet, here and with `apache-avro`. Time per element is time per record.
#![allow(missing_docs, clippy::unwrap_used, clippy::indexing_slicing, deprecated)]

use std::hint::black_box;
use std::sync::Arc;

use apache_avro::Schema;
use apache_avro::types::Value;
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use refold_processor::decode::{Decoder, StaticSchemas};
use refold_processor::log::{RecordSpan, Records};
use refold_processor::position::{Offset, Partition};
use refold_processor::source::{Framing, Source};

const TWEET: &str = r#"{"type":"record","name":"tweet","namespace":"refold.sample","fields":[
    {"name":"userid","type":"long"},{"name":"username","type":"string"},
    {"name":"timestamp","type":{"type":"long","logicalType":"timestamp-millis"}},
    {"name":"tweetid","type":"long"},{"name":"tweet","type":"string"}]}"#;

const RECORDS: usize = 20_000;

/// Words of several scripts, as people write.
const WORDS: [&str; 16] = [
    "the",
    "of",
    "größer",
    "está",
    "#rust",
    "日本語の",
    "привет",
    "happened",
    "yesterday",
    "😀",
    "because",
    "#kafka",
    "naïve",
    "windows",
    "a",
    "replay",
];

fn tweets(ascii: bool) -> Vec<Vec<u8>> {
    let mut random = ChaCha8Rng::seed_from_u64(1);
    let schema = Schema::parse_str(TWEET).unwrap();
    let tweet = |_| {
        let mut text = String::new();
        while text.len() < 120 {
            let word = WORDS[random.random_range(0..WORDS.len())];
            if !ascii || word.is_ascii() {
                text.push_str(word);
                text.push(' ');
            }
        }
        let fields = [
            ("userid", Value::Long(random.random_range(0..1 << 50))),
            ("username", Value::String(format!("someone_{}", random.random_range(0..1_000_000)))),
            ("timestamp", Value::TimestampMillis(1_700_000_000_000 + random.random_range(0..100_000_000))),
            ("tweetid", Value::Long(random.random_range(0..1 << 60))),
            ("tweet", Value::String(text)),
        ];
        let record = Value::Record(fields.map(|(name, value)| (name.to_string(), value)).into());
        apache_avro::to_avro_datum(&schema, record).unwrap()
    };
    (0..RECORDS).map(tweet).collect()
}

/// The same tweets as JSON.
fn as_json(bodies: &[Vec<u8>]) -> Vec<Vec<u8>> {
    let schema = Schema::parse_str(TWEET).unwrap();
    let text = |body: &Vec<u8>| {
        let value = apache_avro::from_avro_datum(&schema, &mut body.as_slice(), None).unwrap();
        serde_json::Value::try_from(value).unwrap().to_string().into_bytes()
    };
    bodies.iter().map(text).collect()
}

fn run_of(bodies: &[Vec<u8>], header: &[u8]) -> Records {
    let mut payload = Vec::new();
    let mut spans = Vec::new();
    for (offset, body) in bodies.iter().enumerate() {
        let start = payload.len() as u32;
        payload.extend_from_slice(header);
        payload.extend_from_slice(body);
        spans.push(RecordSpan { offset: Offset(offset as u64), record_time_ms: 0, start, len: Some(payload.len() as u32 - start) });
    }
    let next = Offset(bodies.len() as u64);
    Records { partition: Partition(0), spans, payload: payload.into(), next, end: next }
}

fn decoder(columns: &[usize], framing: Framing) -> Decoder {
    let mut schemas = StaticSchemas::default();
    schemas.add_with_id(1, TWEET).unwrap();
    let source = Source {
        name: "tweets".into(),
        topic: "tweet_feed".into(),
        schema_name: "tweet".into(),
        schema_json: TWEET.into(),
        event_time: "timestamp".into(),
        key: None,
        partitions: 1,
        framing,
        event_time_unit: None,
        lateness_us: 0,
        future_tolerance_us: 0,
        max_record_bytes: 1 << 20,
        retention: Default::default(),
    };
    Decoder::new(&source, columns, Arc::new(schemas)).unwrap()
}

fn decode(criterion: &mut Criterion) {
    for (script, ascii) in [("ascii", true), ("mixed scripts", false)] {
        let bodies = tweets(ascii);
        let run = run_of(&bodies, &[0, 0, 0, 0, 1]);
        let bytes: usize = bodies.iter().map(Vec::len).sum();
        let mut group = criterion.benchmark_group(format!("tweet, {script}, {} bytes", bytes / RECORDS));
        group.throughput(Throughput::Elements(RECORDS as u64));
        for (name, columns) in [("timestamp and tweet", vec![2, 4]), ("all columns", vec![0, 1, 2, 3, 4]), ("no column", vec![])] {
            let mut decoder = decoder(&columns, Framing::Confluent);
            group.bench_function(BenchmarkId::new("refold", name), |bencher| {
                bencher.iter(|| black_box(decoder.decode(black_box(&run)).unwrap()).events.num_rows());
            });
        }
        let schema = Schema::parse_str(TWEET).unwrap();
        group.bench_function("apache-avro from_avro_datum", |bencher| {
            bencher.iter(|| {
                for body in &bodies {
                    black_box(apache_avro::from_avro_datum(&schema, &mut body.as_slice(), None).unwrap());
                }
            });
        });
        group.finish();

        let texts = as_json(&bodies);
        let run = run_of(&texts, &[]);
        let bytes: usize = texts.iter().map(Vec::len).sum();
        let mut group = criterion.benchmark_group(format!("tweet as JSON, {script}, {} bytes", bytes / RECORDS));
        group.throughput(Throughput::Bytes(bytes as u64));
        for (name, columns) in [("timestamp and tweet", vec![2, 4]), ("all columns", vec![0, 1, 2, 3, 4])] {
            let mut decoder = decoder(&columns, Framing::Json);
            group.bench_function(BenchmarkId::new("refold", name), |bencher| {
                bencher.iter(|| black_box(decoder.decode(black_box(&run)).unwrap()).events.num_rows());
            });
        }
        group.bench_function("serde_json to Value", |bencher| {
            bencher.iter(|| {
                for text in &texts {
                    black_box(serde_json::from_slice::<serde_json::Value>(text).unwrap());
                }
            });
        });
        group.finish();
    }
}

criterion_group!(benches, decode);
criterion_main!(benches);
