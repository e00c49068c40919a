//! What a view costs: nanoseconds per tweet from events in columns to partial aggregates, and from partials to merged state.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, missing_docs)]

use std::collections::BTreeMap;
use std::hint::black_box;
use std::sync::Arc;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use datafusion::arrow::array::{ArrayRef, Int64Array, RecordBatch, StringArray, TimestampMillisecondArray};
use datafusion::arrow::datatypes::{DataType, Field, Schema, TimeUnit};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use refold_processor::view::View;

const TWEETS: usize = 1_000_000;
const BATCH: usize = 16 << 10;

const COUNTS: &str = "
CREATE MATERIALIZED VIEW hashtag_counts
WITH (partition_key = 'hashtag', clustering = 'slot DESC', accept_late = '1 day') AS
SELECT hashtag, tumble(timestamp, INTERVAL '5 minutes') AS slot, count(*) AS occurrences
FROM (SELECT unnest(hashtags(tweet)) AS hashtag, timestamp FROM tweets)
GROUP BY hashtag, slot";

const TRENDS: &str = "
CREATE MATERIALIZED VIEW hashtag_trends
WITH (partition_key = 'slot', clustering = 'rank', accept_late = '1 minute', keep = '1 day') AS
SELECT slot, hashtag, count(*) AS occurrences, row_number() OVER (PARTITION BY slot ORDER BY count(*) DESC, hashtag) AS rank
FROM (SELECT slot, unnest(hashtags(tweet)) AS hashtag
      FROM (SELECT unnest(hop(timestamp, INTERVAL '10 seconds', INTERVAL '10 minutes')) AS slot, tweet FROM tweets))
GROUP BY slot, hashtag
QUALIFY rank <= 20";

/// Tweets of 127 characters with 0.6 hashtags each, 20 milliseconds apart; a few hashtags are in most of them.
fn tweets() -> Vec<RecordBatch> {
    let time = DataType::Timestamp(TimeUnit::Millisecond, Some("+00:00".into()));
    let schema = Arc::new(Schema::new(vec![
        Field::new("userid", DataType::Int64, false),
        Field::new("timestamp", time, false),
        Field::new("tweet", DataType::Utf8, false),
    ]));
    let mut rng = ChaCha8Rng::seed_from_u64(1);
    let mut text = String::new();
    (0..TWEETS)
        .step_by(BATCH)
        .map(|from| {
            let rows = from..(from + BATCH).min(TWEETS);
            let texts: StringArray = rows
                .clone()
                .map(|_| {
                    text.clear();
                    for _ in 0..[0, 0, 0, 1, 1, 1, 1, 2, 0, 0][rng.random_range(0..10)] {
                        let rank = (rng.random_range(0.0_f64..1.0).powi(4) * 20_000.0) as u32;
                        text.push_str(&format!("#tag{rank} "));
                    }
                    while text.len() < 127 {
                        text.push_str(["and ", "words ", "of a ", "post, ", "nothing more "][rng.random_range(0..5)]);
                    }
                    text.truncate(127);
                    Some(text.clone())
                })
                .collect();
            let users: ArrayRef = Arc::new(Int64Array::from_iter_values(rows.clone().map(|row| row as i64)));
            let times =
                TimestampMillisecondArray::from_iter_values(rows.map(|row| 1_700_000_000_000 + 20 * row as i64)).with_timezone("+00:00");
            RecordBatch::try_new(Arc::clone(&schema), vec![users, Arc::new(times), Arc::new(texts)]).unwrap()
        })
        .collect()
}

fn view(criterion: &mut Criterion) {
    let batches = tweets();
    let sources = BTreeMap::from([("tweets".to_owned(), batches[0].schema())]);
    let mut group = criterion.benchmark_group("view");
    group.sample_size(10).throughput(Throughput::Elements(TWEETS as u64));
    for (name, sql) in [("map counts", COUNTS), ("map trends", TRENDS)] {
        let view = View::plan(sql, "bench.sql", &sources).unwrap();
        let mut mapper = view.mapper().unwrap();
        group.bench_function(name, |bencher| {
            bencher.iter(|| {
                batches.iter().filter_map(|events| mapper.map(events).unwrap()).map(|partial| partial.groups[0].len()).sum::<usize>()
            })
        });
    }

    let view = View::plan(COUNTS, "bench.sql", &sources).unwrap();
    let mut mapper = view.mapper().unwrap();
    let partials: Vec<_> = batches.iter().filter_map(|events| mapper.map(events).unwrap()).collect();
    group.bench_function("merge counts", |bencher| {
        bencher.iter(|| {
            let mut merger = view.merger().unwrap();
            let mut total = 0;
            for partial in &partials {
                let places: Vec<usize> = (total..total + partial.groups[0].len()).collect();
                total += places.len();
                merger.merge(&partial.states, &places, total).unwrap();
            }
            black_box(merger.take().unwrap())
        })
    });
    group.finish();
}

criterion_group!(benches, view);
criterion_main!(benches);
