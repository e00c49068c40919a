//! What the functions of views cost on posts like those of a public stream: 127 characters, 0.6 hashtags.
#![allow(missing_docs, clippy::unwrap_used)]

use std::hint::black_box;
use std::sync::Arc;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use datafusion::arrow::array::{ArrayRef, StringArray, TimestampMillisecondArray};
use datafusion::arrow::datatypes::{DataType, Field};
use datafusion::common::ScalarValue;
use datafusion::common::config::ConfigOptions;
use datafusion::logical_expr::{ColumnarValue, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF};
use rand::seq::IndexedRandom;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use refold_processor::view::functions;

const ROWS: usize = 8192;

fn posts() -> ArrayRef {
    const WORDS: &[&str] =
        &["the", "stream", "of", "posts", "replayed", "counting", "again", "and", "then", "switch", "café", "so", "what", "happens"];
    let mut random = ChaCha8Rng::seed_from_u64(7);
    let texts = (0..ROWS).map(|_| {
        let mut text = String::new();
        while text.len() < 105 {
            text.push_str(WORDS.choose(&mut random).unwrap());
            text.push(' ');
        }
        if random.random_bool(0.4) {
            text.push_str(if random.random_bool(0.1) { "#東京オリンピック " } else { "#KappaStream " });
        }
        if random.random_bool(0.2) {
            text.push_str("#replay");
        }
        text
    });
    Arc::new(StringArray::from_iter_values(texts))
}

fn times() -> ArrayRef {
    let mut random = ChaCha8Rng::seed_from_u64(8);
    let times: Vec<i64> = (0..ROWS).map(|i| 1_700_000_000_000 + i as i64 * 10 + random.random_range(-2_000..2_000)).collect();
    Arc::new(TimestampMillisecondArray::from(times).with_timezone("+00:00"))
}

fn interval(seconds: i64) -> ScalarValue {
    ScalarValue::new_interval_mdn(0, 0, seconds * 1_000_000_000)
}

fn bench(c: &mut Criterion, name: &str, function: &ScalarUDF, column: &ArrayRef, constants: &[ScalarValue]) {
    let mut args = vec![ColumnarValue::Array(Arc::clone(column))];
    args.extend(constants.iter().cloned().map(ColumnarValue::Scalar));
    let arg_fields: Vec<_> = args.iter().map(|arg| Arc::new(Field::new("", arg.data_type(), true))).collect();
    let mut scalar_arguments: Vec<Option<&ScalarValue>> = vec![None];
    scalar_arguments.extend(constants.iter().map(Some));
    let return_field =
        function.return_field_from_args(ReturnFieldArgs { arg_fields: &arg_fields, scalar_arguments: &scalar_arguments }).unwrap();
    let config_options = Arc::new(ConfigOptions::new());
    let mut group = c.benchmark_group("functions");
    group.throughput(Throughput::Elements(ROWS as u64));
    group.bench_function(name, |b| {
        b.iter(|| {
            let args = ScalarFunctionArgs {
                args: black_box(args.clone()),
                arg_fields: arg_fields.clone(),
                number_rows: ROWS,
                return_field: Arc::clone(&return_field),
                config_options: Arc::clone(&config_options),
            };
            function.invoke_with_args(args).unwrap()
        });
    });
    group.finish();
}

fn all(c: &mut Criterion) {
    let (posts, times) = (posts(), times());
    assert!(matches!(posts.data_type(), DataType::Utf8));
    let named = |of: &[ScalarUDF], name: &str| of.iter().find(|function| function.name() == name).unwrap().clone();
    let (batch, panes) = (functions::all(), functions::for_panes());
    bench(c, "hashtags", &named(&batch, "hashtags"), &posts, &[]);
    bench(c, "mentions", &named(&batch, "mentions"), &posts, &[]);
    bench(c, "tumble", &named(&batch, "tumble"), &times, &[interval(300)]);
    bench(c, "hop, panes", &named(&panes, "hop"), &times, &[interval(10), interval(600)]);
    bench(c, "hop, windows", &named(&batch, "hop"), &times, &[interval(10), interval(600)]);
}

criterion_group!(benches, all);
criterion_main!(benches);
