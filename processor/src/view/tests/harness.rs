//! What an engine does with a view, in its simplest form: map batches, merge by group, put windows together from panes.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use datafusion::arrow::array::{ArrayRef, Int64Array, RecordBatch, StringArray, TimestampMillisecondArray, UInt32Array};
use datafusion::arrow::compute::{cast, concat_batches, filter_record_batch, take};
use datafusion::arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};
use datafusion::arrow::util::display::{ArrayFormatter, FormatOptions};
use datafusion::scalar::ScalarValue;
use rand::seq::SliceRandom;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::view::{Partial, View};

pub const HASHTAG_COUNTS: &str = "
CREATE MATERIALIZED VIEW hashtag_counts
WITH (partition_key = 'hashtag', clustering = 'slot DESC', accept_late = '1 day') AS
SELECT hashtag, tumble(timestamp, INTERVAL '5 minutes') AS slot, count(*) AS occurrences
FROM (SELECT unnest(hashtags(tweet)) AS hashtag, timestamp FROM tweets)
GROUP BY hashtag, slot
";

pub const HASHTAG_TRENDS: &str = "
CREATE MATERIALIZED VIEW hashtag_trends
WITH (partition_key = 'slot', clustering = 'rank', accept_late = '1 minute', keep = '1 day') AS
SELECT slot, hashtag, count(*) AS occurrences,
       row_number() OVER (PARTITION BY slot ORDER BY count(*) DESC, hashtag) AS rank
FROM (SELECT slot, unnest(hashtags(tweet)) AS hashtag
      FROM (SELECT unnest(hop(timestamp, INTERVAL '10 seconds', INTERVAL '10 minutes')) AS slot, tweet FROM tweets))
GROUP BY slot, hashtag
QUALIFY rank <= 20
";

pub fn time_type() -> DataType {
    DataType::Timestamp(TimeUnit::Millisecond, Some("+00:00".into()))
}

pub fn sources() -> BTreeMap<String, SchemaRef> {
    let tweets = Schema::new(vec![
        Field::new("tweetid", DataType::Int64, false),
        Field::new("userid", DataType::Int64, false),
        Field::new("timestamp", time_type(), false),
        Field::new("tweet", DataType::Utf8, false),
    ]);
    let orders = Schema::new(vec![
        Field::new("id", DataType::Int64, false),
        Field::new("shop", DataType::Utf8, true),
        Field::new("country", DataType::Utf8, true),
        Field::new("amount", DataType::Decimal128(12, 2), true),
        Field::new("pieces", DataType::Int32, true),
        Field::new("weight", DataType::Float64, true),
        Field::new("customer", DataType::Utf8, true),
        Field::new("express", DataType::Boolean, true),
        Field::new("ordered_at", time_type(), false),
    ]);
    BTreeMap::from([("tweets".to_owned(), Arc::new(tweets)), ("orders".to_owned(), Arc::new(orders))])
}

pub fn planned(sql: &str) -> View {
    View::plan(sql, "v.sql", &sources()).unwrap_or_else(|error| panic!("{error}"))
}

/// Tweets of about twenty minutes, with few and many hashtags.
pub fn tweets(rng: &mut ChaCha8Rng, count: usize) -> RecordBatch {
    let schema = sources()["tweets"].clone();
    let texts = (0..count).map(|_| {
        let tags = rng.random_range(0..4);
        let mut text = "words".to_owned();
        for _ in 0..tags {
            let tag: u32 = (rng.random_range(0.0_f64..1.0).powi(3) * 40.0) as u32;
            text.push_str(&format!(" #Tag{tag}"));
        }
        text
    });
    let texts = StringArray::from_iter_values(texts);
    let times = TimestampMillisecondArray::from_iter_values((0..count).map(|_| 1_700_000_000_000 + rng.random_range(0..1_200_000)))
        .with_timezone("+00:00");
    let ids = Arc::new(Int64Array::from_iter_values(0..count as i64)) as ArrayRef;
    RecordBatch::try_new(schema, vec![ids.clone(), ids, Arc::new(times), Arc::new(texts)]).unwrap()
}

/// Orders of about three hours, with nulls everywhere they may be.
pub fn orders(rng: &mut ChaCha8Rng, count: usize) -> RecordBatch {
    let schema = sources()["orders"].clone();
    let mut column = |field: &Field, make: &mut dyn FnMut(&mut ChaCha8Rng) -> ScalarValue| -> ArrayRef {
        let values = (0..count).map(|_| {
            let null = field.is_nullable() && rng.random_bool(0.1);
            if null { ScalarValue::try_from(field.data_type()).unwrap() } else { make(rng) }
        });
        let values: Vec<ScalarValue> = values.collect();
        if values.is_empty() {
            return datafusion::arrow::array::new_empty_array(field.data_type());
        }
        cast(&ScalarValue::iter_to_array(values).unwrap(), field.data_type()).unwrap()
    };
    let mut id = 0;
    let mut columns = Vec::new();
    for field in schema.fields() {
        columns.push(match field.name().as_str() {
            "id" => column(field, &mut |_| {
                id += 1;
                ScalarValue::Int64(Some(id))
            }),
            "shop" => column(field, &mut |rng| ScalarValue::Utf8(Some(format!("shop {}", rng.random_range(0..3))))),
            "country" => column(field, &mut |rng| ScalarValue::Utf8(Some(["at", "ch", "de"][rng.random_range(0..3)].into()))),
            "amount" => column(field, &mut |rng| ScalarValue::Decimal128(Some(rng.random_range(-1_000..1_000_000)), 12, 2)),
            "pieces" => column(field, &mut |rng| ScalarValue::Int32(Some(rng.random_range(1..5)))),
            "weight" => {
                column(field, &mut |rng| ScalarValue::Float64(Some(rng.random_range(-1e3..1e3) * 10f64.powi(rng.random_range(-12..12)))))
            }
            "customer" => column(field, &mut |rng| ScalarValue::Utf8(Some(format!("c{}", rng.random_range(0..200))))),
            "express" => column(field, &mut |rng| ScalarValue::Boolean(Some(rng.random_bool(0.3)))),
            _ => column(field, &mut |rng| {
                ScalarValue::TimestampMillisecond(Some(1_700_000_000_000 + rng.random_range(0..10_800_000)), Some("+00:00".into()))
            }),
        });
    }
    RecordBatch::try_new(schema, columns).unwrap()
}

pub fn rng(seed: u64) -> ChaCha8Rng {
    ChaCha8Rng::seed_from_u64(seed)
}

type Key = Vec<ScalarValue>;

/// State by group, as an engine keeps it.
pub struct Engine<'a> {
    view: &'a View,
    groups: HashMap<Key, usize>,
    partials: Vec<Partial>,
    places: Vec<Vec<usize>>,
}

impl<'a> Engine<'a> {
    pub fn new(view: &'a View) -> Self {
        Engine { view, groups: HashMap::new(), partials: Vec::new(), places: Vec::new() }
    }

    fn add(&mut self, partial: Partial) {
        let count = partial.groups[0].len();
        for (column, field) in partial.groups.iter().zip(self.view.groups.fields()) {
            assert_eq!(column.data_type(), field.data_type(), "{}", field.name());
            assert_eq!(column.len(), count);
        }
        for (column, field) in partial.states.iter().zip(self.view.states.fields()) {
            assert_eq!(column.data_type(), field.data_type(), "{}", field.name());
            assert_eq!(column.len(), count);
        }
        let places = (0..count)
            .map(|row| {
                let key = key_at(&partial.groups, row);
                let next = self.groups.len();
                *self.groups.entry(key).or_insert(next)
            })
            .collect();
        self.places.push(places);
        self.partials.push(partial);
    }

    /// The merged state of every group, by pane.
    fn merged(&self) -> (Vec<Key>, Vec<ArrayRef>) {
        let mut merger = self.view.merger().unwrap();
        for (partial, places) in self.partials.iter().zip(&self.places) {
            merger.merge(&partial.states, places, self.groups.len()).unwrap();
        }
        let mut keys = vec![Vec::new(); self.groups.len()];
        for (key, place) in &self.groups {
            keys[*place] = key.clone();
        }
        (keys, merger.take().unwrap())
    }

    /// The merged state of every group, by window.
    pub fn windows(&self) -> (Vec<Key>, Vec<ArrayRef>) {
        let (keys, states) = self.merged();
        let Some(window) = self.view.window else { return (keys, states) };
        let mut windows: HashMap<Key, usize> = HashMap::new();
        let (mut from, mut to) = (Vec::new(), Vec::new());
        for (row, key) in keys.iter().enumerate() {
            let ScalarValue::TimestampMillisecond(pane, zone) = &key[0] else { panic!("{key:?}") };
            let Some(pane) = pane else {
                continue;
            };
            let (pane, slide, size) = (*pane, window.slide_us / 1000, window.size_us / 1000);
            let mut start = pane.div_euclid(slide) * slide;
            while start + size > pane {
                let mut windowed = key.clone();
                windowed[0] = ScalarValue::TimestampMillisecond(Some(start), zone.clone());
                let next = windows.len();
                from.push(row as u32);
                to.push(*windows.entry(windowed).or_insert(next));
                start -= slide;
            }
        }
        let mut merger = self.view.merger().unwrap();
        let rows = UInt32Array::from(from);
        let spread: Vec<ArrayRef> = states.iter().map(|column| take(column, &rows, None).unwrap()).collect();
        merger.merge(&spread, &to, windows.len()).unwrap();
        let mut keys = vec![Vec::new(); windows.len()];
        for (key, place) in windows {
            keys[place] = key;
        }
        (keys, merger.take().unwrap())
    }

    /// All rows of the view.
    pub fn rows(&self) -> RecordBatch {
        let (keys, states) = self.windows();
        let columns = self.view.shape.columns.clone();
        if keys.is_empty() {
            return RecordBatch::new_empty(columns);
        }
        let groups = columns_of(&keys, self.view);
        if self.view.ranking.is_none() {
            let rows = self.view.rows(&groups, &states).unwrap();
            assert_eq!(rows.rows.num_rows(), keys.len());
            return filter_record_batch(&rows.rows, &rows.kept).unwrap();
        }
        let mut by_window: BTreeMap<String, Vec<u32>> = BTreeMap::new();
        for (row, key) in keys.iter().enumerate() {
            by_window.entry(key[0].to_string()).or_default().push(row as u32);
        }
        let ranked: Vec<RecordBatch> = by_window
            .into_values()
            .map(|rows| {
                let of = |rows: &[u32], columns: &[ArrayRef]| {
                    let rows = UInt32Array::from(rows.to_vec());
                    columns.iter().map(|column| take(column, &rows, None).unwrap()).collect::<Vec<_>>()
                };
                let ranked = self.view.rank(&of(&rows, &groups), &of(&rows, &states)).unwrap();
                // In three parts it is the same.
                let first = |possible: bool| {
                    let of_part = |part: usize| {
                        let part: Vec<u32> = rows.iter().copied().skip(part).step_by(3).collect();
                        let needed = self.view.first_groups(&of(&part, &groups), &of(&part, &states), possible).unwrap();
                        needed.values().iter().map(|place| part[*place as usize]).collect::<Vec<u32>>()
                    };
                    (0..3).flat_map(of_part).collect::<Vec<u32>>()
                };
                for first in [first(false), first(true)] {
                    assert_eq!(self.view.rank(&of(&first, &groups), &of(&first, &states)).unwrap(), ranked);
                }
                let possible = |rows: &[u32]| self.view.possible_ranks(&of(rows, &groups), &of(rows, &states)).unwrap().num_rows();
                assert_eq!(possible(&first(true)), possible(&rows));
                ranked
            })
            .collect();
        concat_batches(&columns, &ranked).unwrap()
    }
}

fn key_at(columns: &[ArrayRef], row: usize) -> Key {
    columns.iter().map(|column| ScalarValue::try_from_array(column, row).unwrap()).collect()
}

pub fn columns_of(keys: &[Key], view: &View) -> Vec<ArrayRef> {
    let columns = (0..view.groups.fields().len()).map(|column| {
        let values = ScalarValue::iter_to_array(keys.iter().map(|key| key[column].clone())).unwrap();
        assert_eq!(values.data_type(), view.groups.field(column).data_type());
        values
    });
    columns.collect()
}

/// Runs a view over events as an engine might: cut at random, mapped by several mappers, merged in any order.
pub fn run(view: &View, events: &RecordBatch, rng: &mut ChaCha8Rng) -> RecordBatch {
    let mut engine = Engine::new(view);
    let mut mappers: Vec<_> = (0..3).map(|_| view.mapper().unwrap()).collect();
    let mut shuffled: Vec<u32> = (0..events.num_rows() as u32).collect();
    shuffled.shuffle(rng);
    let columns = events.columns().iter().map(|column| take(column, &UInt32Array::from(shuffled.clone()), None).unwrap());
    let events = RecordBatch::try_new(events.schema(), columns.collect()).unwrap();
    let mut from = 0;
    let mut partials = Vec::new();
    while from < events.num_rows() {
        let length = rng.random_range(0..=(events.num_rows() - from).min(1 + events.num_rows() / 3));
        let mapper = rng.random_range(0..mappers.len());
        partials.extend(mappers[mapper].map(&events.slice(from, length)).unwrap());
        from += length;
    }
    partials.shuffle(rng);
    for partial in partials {
        engine.add(partial);
    }
    engine.rows()
}

/// Rows as text, in an order of their own.
pub fn text_of(batches: &[RecordBatch]) -> Vec<String> {
    let options = FormatOptions::default().with_null("NULL");
    let mut rows = Vec::new();
    for batch in batches {
        let formatters: Vec<_> = batch.columns().iter().map(|column| ArrayFormatter::try_new(column.as_ref(), &options).unwrap()).collect();
        rows.extend((0..batch.num_rows()).map(|row| {
            let cells = batch.columns().iter().zip(&formatters).map(|(column, formatter)| {
                match ScalarValue::try_from_array(column, row).unwrap() {
                    // In full, since equality to the last bit is what is tested.
                    ScalarValue::Float64(Some(value)) => format!("{value:?}"),
                    _ => formatter.value(row).to_string(),
                }
            });
            cells.collect::<Vec<_>>().join(" | ")
        }));
    }
    rows.sort();
    rows
}
