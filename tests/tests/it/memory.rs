//! State ten times the memory that the process may take: it is folded within that memory, and the rows are right.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use datafusion::arrow::array::{AsArray, RecordBatch};
use datafusion::arrow::datatypes::{Int64Type, UInt64Type};
use datafusion::arrow::util::display::array_value_to_string;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use refold_collector::Encoder;
use refold_processor::clock::SystemClock;
use refold_processor::log::Log;
use refold_processor::log::embedded::{EmbeddedLog, EmbeddedLogSettings};
use refold_processor::source::Source;
use refold_processor::store::RowReader;
use refold_processor::store::embedded::{EmbeddedStore, EmbeddedStoreSettings};
use refold_processor::table::{Table, Version};
use refold_tests::deployment::copy;
use refold_tests::program::{Program, free_port, get, root};
use refold_tests::scale;
use refold_tests::simulation::replay::Application;
use serde_json::Value;

const FIRST_CLICK_MS: i64 = 1_793_577_600_000;

/// The sessions of a run: every one is clicked in once, then the other clicks fall on sessions at random.
struct Clicks {
    sessions: u64,
    clicks: u64,
    name_length: usize,
}

impl Clicks {
    fn count(&self) -> u64 {
        self.clicks
    }

    /// A name that no compression makes much shorter, from its number alone; names of adjacent numbers are far apart.
    fn name(&self, session: u64) -> String {
        const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
        let mut rng = ChaCha8Rng::seed_from_u64(session);
        let mut bytes = vec![0u8; self.name_length];
        rng.fill(bytes.as_mut_slice());
        bytes.iter().map(|byte| LETTERS[usize::from(*byte) % 64] as char).collect()
    }

    fn took_ms(click: u64) -> u64 {
        click % 1_009
    }

    /// Writes all clicks into a fresh log.
    fn fill(&self, data: &Path, source: &Source) {
        let settings = EmbeddedLogSettings { sync: false, ..EmbeddedLogSettings::default() };
        let log = EmbeddedLog::open(&data.join("log"), settings, Arc::new(SystemClock)).unwrap();
        log.create_topic(&source.topic, source.partitions).unwrap();
        let encoder = Encoder::new(source, None).unwrap();
        let mut rng = ChaCha8Rng::seed_from_u64(7);
        let mut records = Vec::new();
        for click in 0..self.count() {
            let session = if click < self.sessions { click } else { rng.random_range(0..self.sessions) };
            let event = serde_json::json!({
                "session": self.name(session), "page": click % 97, "took_ms": Self::took_ms(click), "clicked_at": FIRST_CLICK_MS + click as i64,
            });
            records.push(encoder.encode(&event).unwrap());
            if records.len() == 10_000 || click + 1 == self.count() {
                log.append(&source.topic, std::mem::take(&mut records)).unwrap();
            }
        }
    }
}

/// Folds the clicks with `memory_mb`; answers the most memory that the process had, in MiB.
fn fold(clicks: &Clicks, memory_mb: u64, data: &Path, schemas: &Path) -> u64 {
    clicks.fill(data, &Application::load(schemas, "clicks").source);
    let memory = memory_mb.to_string();
    let mut program = Program::start_over(schemas, data, free_port(), &["--memory-mb", &memory, "--threads", "1", "--shards", "1"]);
    assert!(program.wait_until_up());
    let deadline = Instant::now() + Duration::from_secs(900);
    let is_done = |status: &Value| {
        let views = status["views"].as_array().into_iter().flatten();
        let versions: Vec<_> = views.map(|view| &view["versions"][0]).collect();
        let is_current = |version: &&Value| version["state"] == "active" && version["applied"] == clicks.count() && version["lag"] == 0;
        !versions.is_empty() && versions.iter().all(is_current)
    };
    loop {
        let status = get(&format!("{}/v1/admin/status", program.url)).unwrap_or_default();
        if is_done(&status) {
            break;
        }
        assert!(Instant::now() < deadline && !program.has_ended(), "the clicks are not folded: {status}");
        std::thread::sleep(Duration::from_millis(100));
    }
    let peak_mb = program.peak_memory_mb();
    assert!(program.stop(), "a stop is clean");
    peak_mb
}

fn size_mb(folder: &Path) -> u64 {
    let size = |entry: std::fs::DirEntry| match entry.file_type().unwrap().is_dir() {
        true => size_mb(&entry.path()) << 20,
        false => entry.metadata().map_or(0, |metadata| metadata.len()),
    };
    std::fs::read_dir(folder).unwrap().map(|entry| size(entry.unwrap())).sum::<u64>() >> 20
}

fn total(rows: &[RecordBatch], column: &str) -> i64 {
    rows.iter().flat_map(|rows| rows.column_by_name(column).unwrap().as_primitive::<Int64Type>().values().iter().copied()).sum()
}

fn rows_of(store: &EmbeddedStore, schemas: &Path, view: &str) -> Vec<RecordBatch> {
    let application = Application::load(schemas, "clicks");
    let view = application.views.iter().find(|planned| planned.name == view).unwrap();
    store.scan(&Table { view: view.name.clone(), version: Version(1), shape: view.shape.clone() }).unwrap()
}

#[test]
fn state_many_times_the_memory_is_folded_within_it() {
    let schemas = root().join("tests/applications/sessions");
    let memory_mb = 220;
    let (sessions, name_length, times) = scale::pick((1_750_000, 300, 3), (5_000_000, 360, 10));
    // The same work with hardly any state tells what reading and decoding take.
    let few = Clicks { sessions: 1_000, clicks: 300_000, name_length };
    let few_data = tempfile::tempdir().unwrap();
    let base_mb = fold(&few, memory_mb, few_data.path(), &schemas);

    let many = Clicks { sessions, clicks: sessions / 2 * 3, name_length };
    let data = tempfile::tempdir().unwrap();
    let started = Instant::now();
    let peak_mb = fold(&many, memory_mb, data.path(), &schemas);
    let state_mb = size_mb(&data.path().join("state"));
    println!(
        "{} sessions, {state_mb} MiB of state with {memory_mb} MiB of memory: the process had {peak_mb} MiB at most, {base_mb} MiB with hardly \
         any state; filled and folded in {:.0} s",
        many.sessions,
        started.elapsed().as_secs_f64()
    );
    assert!(state_mb >= times * memory_mb, "{state_mb} MiB is not {times} times {memory_mb} MiB");
    assert!(peak_mb <= memory_mb, "{peak_mb} MiB at most, where {memory_mb} MiB were granted");

    let store = EmbeddedStore::open(&data.path().join("store"), &EmbeddedStoreSettings::default()).unwrap();
    let rows = rows_of(&store, &schemas, "sessions");
    assert_eq!(rows.iter().map(RecordBatch::num_rows).sum::<usize>() as u64, many.sessions);
    assert_eq!(total(&rows, "clicks") as u64, many.count());
    assert_eq!(total(&rows, "took_ms") as u64, (0..many.count()).map(Clicks::took_ms).sum::<u64>());
}

const LONGEST: &str = "CREATE MATERIALIZED VIEW longest WITH (partition_key = 'day', clustering = 'place') AS
SELECT tumble(clicked_at, INTERVAL '1 day') AS day, CAST(session AS VARCHAR) AS name, sum(took_ms) AS took_ms,
       row_number() OVER (PARTITION BY tumble(clicked_at, INTERVAL '1 day') ORDER BY sum(took_ms) DESC, CAST(session AS VARCHAR)) AS place
FROM clicks GROUP BY day, name QUALIFY place <= 100";

const HOURLY: &str = "CREATE MATERIALIZED VIEW hourly WITH (partition_key = 'hour', clustering = 'session') AS
SELECT hour, session, sum(took_ms) AS took_ms
FROM (SELECT unnest(hop(clicked_at, INTERVAL '30 minutes', INTERVAL '1 hour')) AS hour, session, took_ms FROM clicks)
GROUP BY hour, session";

/// A ranking (of texts that are views into buffers, as `CAST` makes them), and windows that overlap: both have to see every session that was ever clicked in, in one window.
#[test]
fn windows_of_more_groups_than_fit_into_memory_are_worked_out_within_it() {
    let schemas = tempfile::tempdir().unwrap();
    copy(&root().join("tests/applications/sessions"), schemas.path());
    std::fs::remove_file(schemas.path().join("views/sessions.sql")).unwrap();
    std::fs::write(schemas.path().join("views/longest.sql"), LONGEST).unwrap();
    std::fs::write(schemas.path().join("views/hourly.sql"), HOURLY).unwrap();
    let memory_mb = 220;
    let sessions = scale::pick(400_000, 1_200_000);
    let clicks = Clicks { sessions, clicks: sessions, name_length: 300 };
    let data = tempfile::tempdir().unwrap();
    let peak_mb = fold(&clicks, memory_mb, data.path(), schemas.path());
    println!("{sessions} sessions in a window: the process had {peak_mb} MiB at most");
    assert!(peak_mb <= memory_mb, "{peak_mb} MiB at most, where {memory_mb} MiB were granted");

    let store = EmbeddedStore::open(&data.path().join("store"), &EmbeddedStoreSettings::default()).unwrap();
    let mut wanted: Vec<(i64, String)> = (0..sessions).map(|click| (-(Clicks::took_ms(click) as i64), clicks.name(click))).collect();
    wanted.sort_unstable();
    wanted.truncate(100);
    let ranked = rows_of(&store, schemas.path(), "longest");
    let mut found: Vec<(u64, i64, String)> = Vec::new();
    for rows in &ranked {
        let places = rows.column_by_name("place").unwrap().as_primitive::<UInt64Type>();
        let took_ms = rows.column_by_name("took_ms").unwrap().as_primitive::<Int64Type>();
        let names = rows.column_by_name("name").unwrap();
        let name = |row: usize| array_value_to_string(names, row).unwrap();
        found.extend((0..rows.num_rows()).map(|row| (places.value(row), -took_ms.value(row), name(row))));
    }
    found.sort_unstable();
    assert!(found.iter().map(|(place, ..)| *place).eq(1..=100), "{found:?}");
    assert_eq!(found.into_iter().map(|(_, took_ms, name)| (took_ms, name)).collect::<Vec<_>>(), wanted);
    // Of windows that overlap, the one that ends next is there.
    let hourly = rows_of(&store, schemas.path(), "hourly");
    assert_eq!(hourly.iter().map(RecordBatch::num_rows).sum::<usize>() as u64, sessions);
    assert_eq!(total(&hourly, "took_ms") as u64, (0..sessions).map(Clicks::took_ms).sum::<u64>());
}
