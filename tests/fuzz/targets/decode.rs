//! Any bytes as records: each is an event or rejected, and none harms its neighbours.
//!
//! The first byte chooses framing, schema and columns; each record is a length and as many bytes.
#![no_main]

use std::cell::RefCell;
use std::collections::HashMap;
use std::sync::{Arc, LazyLock};

use libfuzzer_sys::fuzz_target;
use refold_processor::decode::{Decoder, StaticSchemas, rabin_fingerprint};
use refold_processor::log::{RecordSpan, Records};
use refold_processor::position::{Offset, Partition};
use refold_processor::source::{Framing, Source};

const READER: &str = r#"{"type":"record","name":"e","fields":[
    {"name":"at","type":{"type":"long","logicalType":"timestamp-millis"}},
    {"name":"text","type":"string"},
    {"name":"n","type":["null","int"],"default":null},
    {"name":"ratio","type":"double","default":0.5},
    {"name":"kind","type":{"type":"enum","name":"k","symbols":["a","b"],"default":"a"},"default":"a"}]}"#;
/// What writers wrote: as declared, and with fields that are gone, reordered, narrower, nested.
const WRITERS: [&str; 4] = [
    READER,
    r#"{"type":"record","name":"e","fields":[
    {"name":"gone","type":{"type":"array","items":{"type":"map","values":["null","string","long"]}}},
    {"name":"n","type":"int"},
    {"name":"tree","type":{"type":"record","name":"t","fields":[{"name":"left","type":["null","t"]},{"name":"id","type":{"type":"fixed","name":"f","size":4}}]}},
    {"name":"text","type":"string"},
    {"name":"ratio","type":"int"},
    {"name":"at","type":{"type":"long","logicalType":"timestamp-millis"}}]}"#,
    r#"{"type":"record","name":"e","fields":[
    {"name":"kind","type":{"type":"enum","name":"k","symbols":["z","b","a"]}},
    {"name":"text","type":"bytes"},
    {"name":"at","type":{"type":"long","logicalType":"timestamp-millis"}},
    {"name":"flag","type":"boolean"},
    {"name":"ratio","type":"float"}]}"#,
    r#"{"type":"record","name":"e","fields":[{"name":"text","type":"string"},{"name":"at","type":"long"}]}"#,
];
static FINGERPRINTS: LazyLock<[u64; 4]> = LazyLock::new(|| WRITERS.map(|schema| rabin_fingerprint(schema).expect("the schemas are valid")));

fuzz_target!(|bytes: &[u8]| {
    let Some((choice, mut rest)) = bytes.split_first() else { return };
    let writer = usize::from(choice >> 4 & 3);
    let (framing, header) = match choice & 3 {
        0 => (Framing::Confluent, vec![0, 0, 0, 0, writer as u8]),
        1 => (Framing::SingleObject, [&[0xc3, 0x01][..], &FINGERPRINTS[writer].to_le_bytes()].concat()),
        _ => (Framing::Bare, Vec::new()),
    };
    // Some inputs bring headers of their own.
    let header = if choice & 4 == 0 { header } else { Vec::new() };
    let columns: &[usize] = if choice & 8 == 0 { &[0, 1, 2, 3, 4] } else { &[1] };
    let mut payload = Vec::new();
    let mut spans = Vec::new();
    while let Some((length, after)) = rest.split_first() {
        let (record, after) = after.split_at(after.len().min(usize::from(*length)));
        rest = after;
        let start = payload.len();
        payload.extend_from_slice(&header);
        payload.extend_from_slice(record);
        // A length of 255 is a tombstone.
        let len = (*length != u8::MAX).then_some((payload.len() - start) as u32);
        spans.push(RecordSpan { offset: Offset(spans.len() as u64), record_time_ms: 0, start: start as u32, len });
    }
    let all = decoded(framing, columns, &spans, &payload);
    assert_eq!(all.0 + all.1, spans.len(), "every record is an event or rejected");
    let mut apart = (0, 0);
    for span in &spans {
        let alone = decoded(framing, columns, std::slice::from_ref(span), &payload);
        apart = (apart.0 + alone.0, apart.1 + alone.1);
    }
    assert_eq!(all, apart, "a record is judged alone as among others");
});

thread_local! {
    /// Decoders live as long as a process: what one input leaves behind must not matter to the next.
    static DECODERS: RefCell<HashMap<(u8, usize), Decoder>> = RefCell::default();
}

/// How many records are events, and how many are rejected.
fn decoded(framing: Framing, columns: &[usize], spans: &[RecordSpan], payload: &[u8]) -> (usize, usize) {
    let next = Offset(spans.last().map_or(0, |span| span.offset.0 + 1));
    let records = Records { partition: Partition(0), spans: spans.to_vec(), payload: payload.to_vec().into(), next, end: next };
    DECODERS.with_borrow_mut(|decoders| {
        let decoder = decoders.entry((framing as u8, columns.len())).or_insert_with(|| decoder(framing, columns));
        let decoded = decoder.decode(&records).expect("every schema is there");
        assert_eq!(decoded.events.num_rows(), decoded.origins.len());
        (decoded.events.num_rows(), decoded.rejected.len())
    })
}

fn decoder(framing: Framing, columns: &[usize]) -> Decoder {
    let mut schemas = StaticSchemas::default();
    for (id, schema) in WRITERS.iter().enumerate() {
        schemas.add_with_id(id as u32, schema).expect("the schemas are valid");
    }
    let source = Source {
        name: "events".into(),
        topic: "events".into(),
        schema_name: "event".into(),
        schema_json: READER.into(),
        event_time: "at".into(),
        key: None,
        partitions: 1,
        framing,
        event_time_unit: None,
        lateness_us: 0,
        future_tolerance_us: 0,
        max_record_bytes: 1 << 20,
        retention: Default::default(),
    };
    Decoder::new(&source, columns, Arc::new(schemas)).expect("the source is valid")
}
