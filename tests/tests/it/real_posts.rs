//! Real posts, and orders of an application without any text, through the engine in every order of steps: the rows are those of the same SQL as one batch.

use std::sync::Arc;
use std::time::Duration;

use refold_collector::{Encoder, EventSource, Opening, Pull, Spec, Stop, SystemTimer, encode_ndjson};
use refold_processor::log::NewRecord;
use refold_processor::source::Framing;
use refold_processor::view::View;
use refold_tests::program::root;
use refold_tests::scale;
use refold_tests::shop;
use refold_tests::simulation::replay::{Application, Ran, run};

fn all_seeds(application: &Application, records: &[NewRecord], seeds: u64) -> Vec<usize> {
    let rows = |view: &Arc<View>| {
        let runs: Vec<Ran> =
            (0..seeds).map(|seed| run(application, view, records, seed).unwrap_or_else(|problem| panic!("{problem}"))).collect();
        assert!(runs.iter().any(|run| run.restarts > 0), "none of {seeds} runs of {} was started again", view.name);
        runs[0].rows
    };
    application.views.iter().map(rows).collect()
}

#[test]
fn real_posts_give_the_rows_of_the_batch() {
    let posts = root().join("../shared/data/posts-2024.jsonl.gz");
    if !posts.exists() {
        println!("skipped: {} is not there", posts.display());
        return;
    }
    let folder = root().join("schemas");
    let mut application = Application::load(&folder, "tweets");
    application.source.framing = Framing::SingleObject;
    let encoder = Encoder::new(&application.source, None).unwrap();
    let spec = Spec::parse(&format!("jsonl:{}?mapping=plain_posts", posts.display())).unwrap();
    let mut source = spec.open(encoder, &Opening::new(&folder, &folder, Arc::new(SystemTimer::new(Stop::new())))).unwrap();
    let records = read(source.as_mut());
    assert_eq!(records.len(), 12_463);
    let rows = all_seeds(&application, &records, scale::pick(4, 60));
    assert!(rows.iter().all(|rows| *rows > 1_000), "{rows:?}");
}

fn read(source: &mut dyn EventSource) -> Vec<NewRecord> {
    let mut all = Vec::new();
    loop {
        match source.next(1_000, Duration::ZERO).unwrap() {
            Pull::Events { records, bad, .. } => {
                assert_eq!(bad, []);
                all.extend(records);
            }
            Pull::Idle => {}
            Pull::End => return all,
        }
    }
}

#[test]
fn orders_of_a_shop_give_the_rows_of_the_batch() {
    let application = Application::load(&root().join("tests/applications/shop"), "orders");
    let encoder = Encoder::new(&application.source, None).unwrap();
    let body: String = shop::orders(7).take(5_000).map(|order| order + "\n").collect();
    let (records, bad) = encode_ndjson(&encoder, body.as_bytes());
    assert_eq!((records.len(), bad.len()), (5_000, 0));
    let rows = all_seeds(&application, &records, scale::pick(4, 60));
    assert_eq!(rows.len(), application.views.len());
    assert!(rows.iter().all(|rows| *rows > 10), "{rows:?}");
}
