#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]

use std::collections::BTreeMap;

use bytes::Bytes;
use datafusion::arrow::array::{StringArray, TimestampMillisecondArray};
use datafusion::arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};

use super::*;
use crate::decode::Origin;

fn schema() -> SchemaRef {
    Arc::new(Schema::new(vec![
        Field::new("at", DataType::Timestamp(TimeUnit::Millisecond, Some("+00:00".into())), false),
        Field::new("k", DataType::Utf8, false),
    ]))
}

/// Events of one partition: event time and record time in milliseconds, and a key.
fn chunk(events: &[(i64, i64, &str)]) -> Arc<Chunk> {
    let origins: Vec<Origin> = (0..).zip(events).map(|(at, event)| Origin { offset: Offset(at), record_time_ms: event.1 }).collect();
    let spans =
        origins.iter().map(|origin| RecordSpan { offset: origin.offset, record_time_ms: origin.record_time_ms, start: 0, len: Some(0) });
    let columns: Vec<ArrayRef> = vec![
        Arc::new(TimestampMillisecondArray::from_iter_values(events.iter().map(|event| event.0)).with_timezone("+00:00")),
        Arc::new(StringArray::from_iter_values(events.iter().map(|event| event.2))),
    ];
    let end = Offset(events.len() as u64);
    Arc::new(Chunk {
        is_last: false,
        from: Offset(0),
        records: Records { partition: Partition(0), spans: spans.collect(), payload: Bytes::new(), next: end, end },
        decoded: Decoded { events: RecordBatch::try_new(schema(), columns).unwrap(), origins, rejected: Vec::new() },
    })
}

fn mapped(select: &str, events: &[(i64, i64, &str)]) -> Mapped {
    let sql = format!(
        "CREATE MATERIALIZED VIEW v WITH (partition_key = 'k', clustering = 'slot', accept_late = '1 minute') AS
         SELECT {select}, tumble(at, INTERVAL '1 minute') AS slot, count(*) AS c FROM events GROUP BY 1, 2"
    );
    let view = View::plan(&sql, "v.sql", &BTreeMap::from([("events".to_owned(), schema())])).unwrap();
    let rules =
        Rules { event_time: "at".into(), accept_late_us: view.options.accept_late_us, future_tolerance_us: 600_000_000, until_ms: None };
    let mut mapper = ChunkMapper::new(&Arc::new(view), rules, 1).unwrap();
    mapper.map(&chunk(events), Before::default()).unwrap()
}

#[test]
fn a_panic_over_one_event_quarantines_that_event_alone() {
    let events = ["a", "b", "boom", "c", "d", "boom", "e"].map(|key| (1_000, 1_000, key));
    let mapped = mapped("panics_on_boom(k) AS k", &events);
    assert_eq!(mapped.applied, 5);
    let rejected: Vec<_> = mapped.rejected.iter().map(|rejected| (rejected.offset.0, rejected.reason)).collect();
    assert_eq!(rejected, [(2, Reason::Evaluation), (5, Reason::Evaluation)]);
    assert!(mapped.rejected[0].detail.contains("panicked: boom"), "{}", mapped.rejected[0].detail);
    let groups: usize = mapped.shards.iter().map(|shard| shard.hashes.len()).sum();
    assert_eq!(groups, 5);
}

#[test]
fn one_producer_with_a_fast_clock_does_not_make_the_events_of_others_too_late() {
    let minute = 60_000;
    // The clock of the second one is nine minutes ahead, which the source tolerates.
    let mapped = mapped("k", &[(0, 0, "a"), (9 * minute, 1_000, "fast"), (2_000, 2_000, "a"), (3_000, 3_000, "b")]);
    assert_eq!((mapped.applied, mapped.rejected.len()), (4, 0));
    assert_eq!((mapped.time.max_us, mapped.time.latest_us()), (Some(3_000_000), Some(9 * 60_000_000)));
}

#[test]
fn an_event_that_is_late_by_the_log_s_own_time_is_too_late() {
    let minute = 60_000;
    let mapped = mapped("k", &[(5 * minute, 5 * minute, "a"), (4 * minute - 1, 5 * minute, "late"), (4 * minute, 5 * minute, "b")]);
    assert_eq!(mapped.rejected.iter().map(|rejected| (rejected.offset.0, rejected.reason)).collect::<Vec<_>>(), [(1, Reason::TooLate)]);
}

#[test]
fn a_version_ends_at_the_first_later_record_wherever_chunks_begin_and_end() {
    // Record times that producers set may go back: what comes behind the first later one is no part of it.
    let events = [(1, 10, "a"), (2, 20, "b"), (3, 31, "late"), (4, 25, "c")];
    let whole = chunk(&events);
    let ended = whole.up_to(30).unwrap();
    assert_eq!((ended.is_last, ended.records.next, ended.records.end, ended.records.spans.len()), (true, Offset(2), Offset(2), 2));
    assert_eq!((ended.decoded.events.num_rows(), ended.decoded.origins.len()), (2, 2));
    assert!(whole.up_to(31).is_none() && whole.up_to(i64::MAX).is_none());
    let at_once = whole.up_to(9).unwrap();
    assert_eq!((at_once.records.next, at_once.decoded.events.num_rows()), (Offset(0), 0), "nothing of it");
    // It is the same place where the chunk begins with that record, and again for what is cut already.
    let (schema, columns) = (whole.decoded.events.schema(), whole.decoded.events.slice(2, 2).columns().to_vec());
    let records = Records { spans: whole.records.spans[2..].to_vec(), ..whole.records.clone() };
    let origins = whole.decoded.origins[2..].to_vec();
    let decoded = Decoded { events: RecordBatch::try_new(schema, columns).unwrap(), origins, rejected: Vec::new() };
    assert_eq!(Chunk::new(Offset(2), records, decoded).up_to(30).unwrap().records.next, Offset(2));
    assert!(ended.up_to(30).is_none());
}
