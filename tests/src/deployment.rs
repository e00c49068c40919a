//! Refold as separate processes over a real Kafka and a real Cassandra.

use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use datafusion::arrow::array::{BooleanArray, RecordBatch};
use datafusion::arrow::compute::filter_record_batch;
use refold_processor::decode::{SchemaLookup, StaticSchemas};
use refold_processor::engine::codec::as_micros;
use refold_processor::engine::map::Rules;
use refold_processor::log::Log;
use refold_processor::store::{Progress, RowReader};
use refold_processor::table::{Table, Version};
use refold_processor::view::View;
use serde_json::Value;
use tempfile::TempDir;

use crate::command::{Said, command, ended_within, run, signal};
use crate::program::{Program, free_port, get, root};
use crate::services::cassandra::Cassandra;
use crate::services::kafka::Kafka;
use crate::simulation::oracle::{accepted, lines};
use crate::simulation::replay::Application;

/// What a test that waits in vain has to know of a version.
const TOLD: [&str; 13] = [
    "state",
    "owner",
    "live",
    "lag",
    "read",
    "stalled_s",
    "queued_rows",
    "error",
    "unable",
    "waits_for",
    "source_error",
    "store_error",
    "feed_error",
];

/// The same, on one line.
fn short(version: &Value) -> String {
    let told: Vec<String> =
        TOLD.iter().filter(|name| !version[**name].is_null()).map(|name| format!("{name} {}", version[*name])).collect();
    format!("{}: {}", version["digest"].as_str().unwrap_or_default(), told.join(", "))
}

/// The sample application with a topic and a keyspace of its own.
pub struct Deployment {
    brokers: String,
    nodes: String,
    keyspace: String,
    folder: TempDir,
    /// What it declares.
    pub application: Application,
}

impl Deployment {
    /// The sample application under this name.
    pub fn new(kafka: &Kafka, cassandra: &Cassandra, name: &str) -> Deployment {
        Deployment::with(kafka, cassandra, name, |_| {})
    }

    /// The sample application under this name, with its declarations changed.
    pub fn with(kafka: &Kafka, cassandra: &Cassandra, name: &str, change: impl FnOnce(&Path)) -> Deployment {
        let folder = tempfile::tempdir().unwrap();
        let schemas = folder.path().join("schemas");
        copy(&root().join("schemas"), &schemas);
        change(&schemas);
        let declared = std::fs::read_to_string(schemas.join("sources.toml")).unwrap();
        std::fs::write(schemas.join("sources.toml"), declared.replace("\"tweet_feed\"", &format!("\"tweet_feed_{name}\""))).unwrap();
        let application = Application::load(&schemas, "tweets");
        assert_eq!(application.source.topic, format!("tweet_feed_{name}"));
        let nodes = format!("127.0.0.1:{}", cassandra.port);
        Deployment { brokers: kafka.brokers(), nodes, keyspace: name.to_owned(), folder, application }
    }

    /// Its keyspace.
    pub fn keyspace(&self) -> &str {
        &self.keyspace
    }

    /// Processes that are started from now on reach Cassandra by this port.
    pub fn reach_cassandra_by(&mut self, port: u16) {
        self.nodes = format!("127.0.0.1:{port}");
    }

    /// The folder of its declarations.
    pub fn schemas(&self) -> PathBuf {
        self.folder.path().join("schemas")
    }

    /// The data folder of a process of this name.
    pub fn data(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Collects a source to its end.
    pub fn collect(&self, spec: &str, arguments: &[&str]) -> Said {
        run(command(&self.collect_arguments(spec)).args(arguments))
    }

    /// Starts to collect a source.
    pub fn start_collecting(&self, spec: &str) -> Collector {
        let child = command(&self.collect_arguments(spec)).arg("--json").stderr(Stdio::null()).spawn().unwrap();
        Collector(Some(child))
    }

    fn collect_arguments<'a>(&'a self, spec: &'a str) -> Vec<&'a str> {
        let path = |path: &Path| -> &'a str { path.to_str().unwrap().to_owned().leak() };
        let (data, schemas) = (path(&self.folder.path().join("collector")), path(&self.schemas()));
        vec!["collect", spec, "--kafka", &self.brokers, "--data", data, "--schemas", schemas]
    }

    /// Starts a worker over a state folder of this name.
    pub fn process(&self, name: &str, arguments: &[&str]) -> Program {
        self.start("process", name, arguments)
    }

    /// Starts everything in one process, over a state folder of this name.
    pub fn up(&self, name: &str, arguments: &[&str]) -> Program {
        self.start("up", name, arguments)
    }

    fn start(&self, verb: &str, name: &str, arguments: &[&str]) -> Program {
        let data = self.data(name);
        let mut all = vec![verb, "--data", data.to_str().unwrap(), "--kafka", &self.brokers, "--cassandra", &self.nodes];
        all.extend(["--cassandra-keyspace", &self.keyspace]);
        all.extend(arguments);
        Program::start_verb(&all, &self.schemas(), free_port(), &self.said(name))
    }

    /// Starts an API.
    pub fn serve(&self, arguments: &[&str]) -> Program {
        let mut all = vec!["serve", "--kafka", &self.brokers, "--cassandra", &self.nodes, "--cassandra-keyspace", &self.keyspace];
        all.extend(arguments);
        Program::start_verb(&all, &self.schemas(), free_port(), &self.said("serve"))
    }

    fn said(&self, name: &str) -> PathBuf {
        self.folder.path().join(format!("{name}.log"))
    }

    /// The last lines that a process of this name said.
    pub fn last_words(&self, name: &str) -> String {
        let said = std::fs::read_to_string(self.said(name)).unwrap_or_default();
        let lines: Vec<&str> = said.lines().collect();
        lines[lines.len().saturating_sub(15)..].join("\n")
    }

    /// Waits until a condition holds of what `program` answers about all versions.
    #[track_caller]
    pub fn wait(&self, what: &str, program: &mut Program, holds: impl Fn(&[Value]) -> bool) {
        let deadline = Instant::now() + Duration::from_secs(240);
        let mut last = Vec::new();
        while Instant::now() < deadline {
            if let Some(status) = get(&format!("{}/v1/admin/status", program.url)) {
                let views = status["views"].as_array().cloned().unwrap_or_default();
                last = views.iter().flat_map(|view| view["versions"].as_array().cloned().unwrap_or_default()).collect();
                if !last.is_empty() && holds(&last) {
                    return;
                }
            }
            assert!(!program.has_ended(), "ended before {what}: {}", self.last_words("worker"));
            std::thread::sleep(Duration::from_millis(50));
        }
        let told: Vec<String> = last.iter().map(short).collect();
        panic!("not {what}, of {} versions:\n{}\n{}", last.len(), told.join("\n"), self.last_words("worker"));
    }

    /// Waits until every version has folded the whole log and readers have all its rows.
    #[track_caller]
    pub fn wait_until_current(&self, kafka: &Kafka, cassandra: &Cassandra, program: &mut Program) {
        self.wait("live at the end of the log", program, |versions| {
            versions.iter().all(|version| version["live"] == true && version["lag"] == 0)
        });
        let (log, store) = (kafka.log(), cassandra.store(&self.keyspace));
        let topic = &self.application.source.topic;
        let deadline = Instant::now() + Duration::from_secs(240);
        // Services that were unavailable may not answer yet.
        let is_told = |view: &Arc<View>| {
            let progress = match store.progress(&table(view)) {
                Ok(progress) => progress,
                Err(error) if error.is_retryable() => return false,
                Err(error) => panic!("{error}"),
            };
            let (Some(progress), Ok(partitions)) = (progress, log.partitions(topic)) else { return false };
            let is_visible =
                |partition| log.bounds(topic, partition).is_ok_and(|bounds| progress.visible.position(partition) >= bounds.end);
            partitions.into_iter().all(is_visible)
        };
        while !self.application.views.iter().all(is_told) {
            assert!(Instant::now() < deadline, "readers are not told of the end of the log: {}", self.last_words("worker"));
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// Compares the rows of all views with the batch over the log, and the counts with what was read. Answers the progress of the first view.
    #[track_caller]
    pub fn compare(&self, kafka: &Kafka, cassandra: &Cassandra) -> Progress {
        let mut schemas = StaticSchemas::default();
        schemas.add(&self.application.source.schema_json).unwrap();
        self.compare_with(kafka, cassandra, Arc::new(schemas))
    }

    /// The same, where writers' schemas are found elsewhere.
    #[track_caller]
    pub fn compare_with(&self, kafka: &Kafka, cassandra: &Cassandra, schemas: Arc<dyn SchemaLookup>) -> Progress {
        compare(&self.application, &kafka.log(), &cassandra.store(&self.keyspace), &schemas)
    }
}

/// Compares the rows of all views of an application with the batch over the log, and the counts with what was read. Answers the progress of the first
/// view.
#[track_caller]
pub fn compare(application: &Application, log: &dyn Log, store: &dyn RowReader, schemas: &Arc<dyn SchemaLookup>) -> Progress {
    let mut first = None;
    for view in &application.views {
        let rules = Rules::new(view, &application.source);
        let (events, quarantined) = accepted(log, &application.source, schemas.clone(), rules.accept_late_us);
        let progress = store.progress(&table(view)).unwrap().unwrap();
        let applied: u64 = events.iter().map(|events| events.num_rows() as u64).sum();
        let counted: u64 = progress.quarantined.values().sum();
        assert_eq!((progress.applied, counted), (applied, quarantined), "counts of {}", view.name);
        assert_eq!(progress.read, applied + quarantined, "counts of {}", view.name);
        let shown = |rows: &[RecordBatch]| lines(&rows.iter().map(|rows| shown(view, rows, &progress)).collect::<Vec<_>>());
        let (wanted, found) = (shown(&view.batch(events).unwrap()), shown(&store.scan(&table(view)).unwrap()));
        let missing: Vec<_> = wanted.difference(&found).take(5).collect();
        let extra: Vec<_> = found.difference(&wanted).take(5).collect();
        assert!(wanted == found, "{}: missing {missing:?}, extra {extra:?}", view.name);
        assert!(!wanted.is_empty(), "{} has no rows", view.name);
        first.get_or_insert(progress);
    }
    first.unwrap()
}

/// A running collector, ended with this value.
pub struct Collector(Option<Child>);

impl Collector {
    /// Asks it to stop, which it does cleanly. Answers how many events it says to have written.
    #[track_caller]
    pub fn stop(mut self, within: Duration) -> u64 {
        let child = self.0.take().unwrap();
        signal(&child, "-TERM");
        let said = ended_within(child, within).ends(0);
        said.objects().last().and_then(|totals| totals["written"].as_u64()).unwrap_or_else(|| panic!("{said:#?}"))
    }
}

impl Drop for Collector {
    fn drop(&mut self) {
        if let Some(mut child) = self.0.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// The table of a view's first version.
pub fn table(view: &View) -> Table {
    Table { view: view.name.clone(), version: Version(1), shape: view.shape.clone() }
}

/// The rows that readers must see: of overlapping windows those that have closed, and none that is past `keep`.
fn shown(view: &View, rows: &RecordBatch, progress: &Progress) -> RecordBatch {
    let Some(window) = view.window else { return rows.clone() };
    let starts = as_micros(rows.column(window.column)).unwrap();
    let overlaps = window.size_us != window.slide_us;
    let mask: BooleanArray = starts
        .iter()
        .map(|start| {
            let start_us = start.unwrap();
            let is_closed = progress.watermark_us.is_some_and(|watermark_us| start_us + window.size_us <= watermark_us);
            let is_kept = progress.horizon_us.is_none_or(|horizon_us| start_us >= horizon_us);
            Some((!overlaps || is_closed) && is_kept)
        })
        .collect();
    filter_record_batch(rows, &mask).unwrap()
}

/// Copies a folder with all that is in it.
pub fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        match entry.file_type().unwrap().is_dir() {
            true => copy(&entry.path(), &target),
            false => drop(std::fs::copy(entry.path(), target).unwrap()),
        }
    }
}
