//! Any text as a view: it is planned, or refused with its place; what is planned can be explained and makes a mapper and a merger.
#![no_main]

use std::collections::BTreeMap;
use std::sync::{Arc, LazyLock};

use datafusion::arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};
use libfuzzer_sys::fuzz_target;
use refold_processor::view::View;

static SOURCES: LazyLock<BTreeMap<String, SchemaRef>> = LazyLock::new(|| {
    let columns = vec![
        Field::new("userid", DataType::Int64, false),
        Field::new("timestamp", DataType::Timestamp(TimeUnit::Millisecond, Some("+00:00".into())), false),
        Field::new("tweet", DataType::Utf8, false),
        Field::new("ratio", DataType::Float64, true),
    ];
    BTreeMap::from([("tweets".to_string(), Arc::new(Schema::new(columns)))])
});

fuzz_target!(|bytes: &[u8]| {
    let text = String::from_utf8_lossy(bytes);
    match View::plan(&text, "fuzz.sql", &SOURCES) {
        Ok(view) => {
            assert!(!view.explain().is_empty());
            view.mapper().expect("a planned view maps");
            view.merger().expect("a planned view merges");
        }
        Err(refusal) => assert!(refusal.to_string().contains("fuzz.sql"), "{refusal} does not say where"),
    }
});
