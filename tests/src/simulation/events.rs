//! Random events of the simulated source: few keys, so that they meet; times that jump, lag and run ahead; and records that do not decode.

use bytes::Bytes;
use rand::Rng;
use rand_chacha::ChaCha8Rng;
use refold_processor::log::NewRecord;
use refold_processor::source::{Framing, Source};

const SCHEMA: &str = r#"{"type": "record", "name": "event", "fields": [
    {"name": "at", "type": ["null", {"type": "long", "logicalType": "timestamp-millis"}]},
    {"name": "key", "type": "string"},
    {"name": "amount", "type": "long"}]}"#;

/// The simulated source.
pub fn source(partitions: u32) -> Source {
    Source {
        name: "events".into(),
        topic: "events".into(),
        schema_name: "event".into(),
        schema_json: SCHEMA.into(),
        event_time: "at".into(),
        key: None,
        partitions,
        framing: Framing::Bare,
        event_time_unit: None,
        lateness_us: 1_000_000,
        future_tolerance_us: 20_000_000,
        max_record_bytes: 1_000,
        retention: Default::default(),
    }
}

/// A random record; about one in twelve is bad in some way.
pub fn random(rng: &mut ChaCha8Rng, now_ms: i64) -> NewRecord {
    let ago_ms = match rng.random_range(0..10) {
        0 => rng.random_range(0..120_000),
        1 => -rng.random_range(0..40_000),
        _ => rng.random_range(0..15_000),
    };
    let at_ms = (rng.random_range(0..40) > 0).then_some(now_ms - ago_ms);
    let key = ["a", "b", "c", "d", "e", "é", ""][rng.random_range(0..7)];
    let mut value = event(at_ms, key, rng.random_range(-5..20));
    match rng.random_range(0..40) {
        0 => value.truncate(value.len() / 2),
        1 => value.push(7),
        _ => {}
    }
    let partition_key = rng.random_range(0..8u8);
    NewRecord { key: Some(Bytes::copy_from_slice(&[partition_key])), value: value.into() }
}

/// An event, encoded.
pub fn event(at_ms: Option<i64>, key: &str, amount: i64) -> Vec<u8> {
    let mut value = Vec::new();
    match at_ms {
        None => long(&mut value, 0),
        Some(at_ms) => {
            long(&mut value, 1);
            long(&mut value, at_ms);
        }
    }
    long(&mut value, key.len() as i64);
    value.extend_from_slice(key.as_bytes());
    long(&mut value, amount);
    value
}

/// An Avro long: zigzag, then seven bits a byte.
fn long(out: &mut Vec<u8>, value: i64) {
    let mut bits = ((value << 1) ^ (value >> 63)) as u64;
    while bits >= 0x80 {
        out.push(bits as u8 | 0x80);
        bits >>= 7;
    }
    out.push(bits as u8);
}
