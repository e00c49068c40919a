//! Records of every bad kind, written to Kafka by a client that is not ours, among good ones: each is in the quarantine with its documented
//! reason, what was read is what was applied and what was quarantined, and the good ones give the rows of the batch.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use refold_processor::decode::derived_id;
use refold_processor::store::RowReader;
use refold_tests::command::refold;
use refold_tests::deployment::{Deployment, table};
use refold_tests::program::{Program, get, root};
use refold_tests::services::cassandra::Cassandra;
use refold_tests::services::kafka::Kafka;
use refold_tests::services::kcat::Kcat;
use refold_tests::services::registry::SchemaRegistry;
use serde_json::Value;

const PARTITIONS: u32 = 4;
/// Of the declared source here; Kafka takes ten times as much.
const MAX_RECORD_BYTES: usize = 100_000;
const MINUTE_MS: i64 = 60_000;
const DAY_MS: i64 = 24 * 60 * MINUTE_MS;

/// A record of another kind that has no user number to read.
const OTHER: &str = r#"{"type":"record","name":"tweet","namespace":"refold.sample","fields":[{"name":"tweet","type":"string"}]}"#;

/// Divides by the user number, which is 0 in one post: the expression fails on that event alone.
const SHARES: &str = "CREATE MATERIALIZED VIEW shares WITH (partition_key = 'username', clustering = 'slot', accept_late = '1 day') AS
SELECT username, tumble(timestamp, INTERVAL '5 minutes') AS slot, sum(1000 / userid) AS share FROM tweets GROUP BY username, slot";

/// Declares that a post may come without a time, and a small limit; and a schema that no post can be read with.
fn declare(schemas: &Path) {
    let replace = |file: &str, from: &str, to: &str| {
        let path = schemas.join(file);
        let text = std::fs::read_to_string(&path).unwrap();
        assert!(text.contains(from), "{from} is not in {file}");
        std::fs::write(path, text.replace(from, to)).unwrap();
    };
    let time = r#"{"type": "long", "logicalType": "timestamp-millis"}"#;
    replace("events/tweet.avsc", time, &format!(r#"["null", {time}]"#));
    replace("sources.toml", "max_record_bytes = 1048576", &format!("max_record_bytes = {MAX_RECORD_BYTES}"));
    std::fs::write(schemas.join("events/other.avsc"), OTHER).unwrap();
}

/// Avro by hand: what the writer here knows of it is not what the reader knows.
#[derive(Default)]
struct Avro(Vec<u8>);

impl Avro {
    fn long(mut self, number: i64) -> Avro {
        let mut rest = ((number << 1) ^ (number >> 63)) as u64;
        while rest >= 0x80 {
            self.0.push(rest as u8 | 0x80);
            rest >>= 7;
        }
        self.0.push(rest as u8);
        self
    }

    fn bytes(self, bytes: &[u8]) -> Avro {
        let mut avro = self.long(bytes.len() as i64);
        avro.0.extend_from_slice(bytes);
        avro
    }

    /// Behind the header of Confluent's wire format.
    fn framed(self, id: u32) -> Vec<u8> {
        [&[0], &id.to_be_bytes()[..], &self.0].concat()
    }
}

fn post(userid: i64, time_ms: Option<i64>, text: &[u8]) -> Avro {
    post_by(b"kcat", userid, time_ms, text)
}

fn post_by(username: &[u8], userid: i64, time_ms: Option<i64>, text: &[u8]) -> Avro {
    let head = Avro::default().long(userid).bytes(username);
    let timed = match time_ms {
        Some(time_ms) => head.long(1).long(time_ms),
        None => head.long(0),
    };
    timed.long(userid + 7).bytes(text)
}

/// What kcat writes.
enum Sent {
    Value(Vec<u8>),
    Empty,
    Tombstone,
}

/// A record, and the reason for which each view refuses it.
struct Written {
    sent: Sent,
    counts: Option<&'static str>,
    trends: Option<&'static str>,
    shares: Option<&'static str>,
}

fn good(value: Vec<u8>) -> Written {
    Written { sent: Sent::Value(value), counts: None, trends: None, shares: None }
}

fn bad(sent: Sent, reason: &'static str) -> Written {
    Written { sent, counts: Some(reason), trends: Some(reason), shares: Some(reason) }
}

/// One record of each bad kind, as it may come after a post of the time `now_ms`.
fn bad_kinds(id: u32, other: u32, now_ms: i64) -> Vec<Written> {
    let at = |time_ms: i64| post(3, Some(time_ms), b"#never").framed(id);
    let whole = at(now_ms);
    let value = |value: Vec<u8>, reason| bad(Sent::Value(value), reason);
    let negative_length = Avro::default().long(3).bytes(b"kcat").long(1).long(now_ms).long(9).long(-5).framed(id);
    let late_for_trends = Written { trends: Some("too_late"), ..good(post(4, Some(now_ms - 5 * MINUTE_MS), b"#late").framed(id)) };
    // Longer than what Cassandra takes in a key.
    let long_key = post_by(&[b'u'; 70_000], 5, Some(now_ms), b"#long");
    let long_key = Written { shares: Some("key_too_long"), ..good(long_key.framed(id)) };
    let fails = Written { shares: Some("evaluation"), ..good(post(0, Some(now_ms), b"#zero").framed(id)) };
    vec![
        value(whole[..whole.len() - 3].to_vec(), "truncated"),
        value(whole[..4].to_vec(), "truncated"),
        bad(Sent::Empty, "truncated"),
        bad(Sent::Tombstone, "tombstone"),
        value([&whole[..], b"!"].concat(), "trailing_bytes"),
        value(post(3, Some(now_ms), b"#caf\xe9").framed(id), "invalid_utf8"),
        value(negative_length, "invalid_value"),
        value([&[7], &whole[1..]].concat(), "unknown_framing"),
        value(b"{\"userid\": 3, \"tweet\": \"#json\"}".to_vec(), "unknown_framing"),
        value(post(3, Some(now_ms), b"#never").framed(4711), "unknown_schema"),
        value(Avro::default().bytes(b"#never").framed(other), "unresolvable_schema"),
        value(post(3, Some(now_ms), &vec![b'#'; 5 * MAX_RECORD_BYTES]).framed(id), "too_large"),
        value(post(3, None, b"#never").framed(id), "no_event_time"),
        value(at(chrono::Utc::now().timestamp_millis() + 60 * MINUTE_MS), "from_the_future"),
        value(at(now_ms - 2 * DAY_MS), "too_late"),
        late_for_trends,
        fails,
        long_key,
    ]
}

/// Posts of half an hour for one partition, with one record of each bad kind between them.
fn among_good_ones(partition: u32, id: u32, other: u32) -> Vec<Written> {
    let begin_ms = chrono::Utc::now().timestamp_millis() - 30 * MINUTE_MS;
    let mut written = Vec::new();
    for number in 0..400 {
        let time_ms = begin_ms + number * 4_000;
        let text = format!("a #kcat post, #tag{} #p{partition}", number % 7);
        written.push(good(post(1 + number, Some(time_ms), text.as_bytes()).framed(id)));
        // Not before there are posts that one can be later than.
        if number >= 100 && number % 10 == 0 {
            written.extend(bad_kinds(id, other, time_ms).into_iter().nth(number as usize / 10 - 10));
        }
    }
    written
}

fn write(kcat: &Kcat, topic: &str, partition: u32, written: &[Written]) {
    let mut values = Vec::new();
    let flush = |values: &mut Vec<Vec<u8>>| {
        if !values.is_empty() {
            kcat.write(topic, partition, &std::mem::take(values));
        }
    };
    for record in written {
        match &record.sent {
            Sent::Value(value) => values.push(value.clone()),
            Sent::Empty => {
                flush(&mut values);
                kcat.write_empty(topic, partition);
            }
            Sent::Tombstone => {
                flush(&mut values);
                kcat.write_tombstone(topic, partition);
            }
        }
    }
    flush(&mut values);
}

/// Partition, offset, reason and length of a quarantined record.
type Refused = (u64, u64, String, Option<u64>);

/// What a version's quarantine must list, of what was written to each partition from offset 0 on.
fn refused(written: &BTreeMap<u32, Vec<Written>>, reason: impl Fn(&Written) -> Option<&'static str>) -> Vec<Refused> {
    let mut refused = Vec::new();
    for (partition, records) in written {
        for (offset, record) in records.iter().enumerate() {
            let Some(reason) = reason(record) else { continue };
            let bytes = match &record.sent {
                Sent::Value(value) => Some(value.len() as u64),
                Sent::Empty => Some(0),
                Sent::Tombstone => None,
            };
            refused.push((u64::from(*partition), offset as u64, reason.to_owned(), bytes));
        }
    }
    refused
}

fn listed(worker: &Program, view: &str, version: u32) -> Vec<Refused> {
    let url = format!("{}/v1/views/{view}/quarantine?limit=1000&version={version}", worker.url);
    let page = get(&url).unwrap_or_else(|| panic!("{url} does not answer"));
    assert_eq!(page["next_cursor"], Value::Null, "all on one page");
    let records = page["records"].as_array().unwrap().iter();
    records
        .map(|record| {
            let number = |name: &str| record[name].as_u64();
            (number("partition").unwrap(), number("offset").unwrap(), record["reason"].as_str().unwrap().to_owned(), number("bytes"))
        })
        .collect()
}

fn by_reason(refused: &[Refused]) -> BTreeMap<String, u64> {
    let mut counts = BTreeMap::new();
    for (_, _, reason, _) in refused {
        *counts.entry(reason.clone()).or_default() += 1;
    }
    counts
}

/// The counts by reason that a worker's metrics have.
fn measured(worker: &Program, view: &str, version: u32) -> BTreeMap<String, u64> {
    let text = ureq::get(format!("{}/metrics", worker.url)).call().unwrap().body_mut().read_to_string().unwrap();
    let labels = format!("\",version=\"{version}\",view=\"{view}\"}} ");
    let lines = text.lines().filter_map(|line| line.strip_prefix("refold_events_quarantined_total{reason=\""));
    lines.filter_map(|line| line.split_once(&labels)).map(|(reason, count)| (reason.to_owned(), count.parse().unwrap())).collect()
}

#[test]
fn every_bad_kind_is_quarantined_with_its_reason_and_harms_no_other_record() {
    let (kafka, cassandra) = (Kafka::start(), Cassandra::start());
    let deployment = Deployment::with(&kafka, &cassandra, "bad", declare);
    std::fs::write(deployment.schemas().join("views/shares.sql"), SHARES).unwrap();
    let topic = &deployment.application.source.topic;
    let id = derived_id(&deployment.application.source.schema_json).unwrap();
    let mut worker = deployment.process("worker", &[]);
    assert!(worker.wait_until_up(), "{}", deployment.last_words("worker"));

    let kcat = Kcat::new(&kafka.brokers());
    let mut written = BTreeMap::new();
    for partition in 0..PARTITIONS {
        let records = among_good_ones(partition, id, derived_id(OTHER).unwrap());
        write(&kcat, topic, partition, &records);
        written.insert(partition, records);
    }
    deployment.wait_until_current(&kafka, &cassandra, &mut worker);
    deployment.compare(&kafka, &cassandra);

    let all: u64 = written.values().map(|records| records.len() as u64).sum();
    // Of a view that is not the sample application's own, nothing above has waited for.
    deployment.wait("read to the end", &mut worker, |versions| versions.iter().all(|version| version["read"] == all));
    let store = cassandra.store("bad");
    for (view, reason) in [
        ("hashtag_counts", (|written: &Written| written.counts) as fn(&Written) -> Option<&'static str>),
        ("hashtag_trends", |written| written.trends),
        ("shares", |written| written.shares),
    ] {
        let wanted = refused(&written, reason);
        assert_eq!(listed(&worker, view, 1), wanted, "{view}");
        assert_eq!(measured(&worker, view, 1), by_reason(&wanted), "{view}");
        if let Some(view) = deployment.application.views.iter().find(|planned| planned.name == view) {
            let progress = store.progress(&table(view)).unwrap().unwrap();
            assert_eq!(progress.quarantined, by_reason(&wanted), "{}", view.name);
            assert_eq!((progress.read, progress.applied), (all, all - wanted.len() as u64), "{}", view.name);
        }
    }
    // Every reason that a record alone can have, and no other, is there and in the documentation.
    let seen: BTreeSet<String> = by_reason(&refused(&written, |written| written.shares)).into_keys().collect();
    let documentation = std::fs::read_to_string(root().join("docs/operations/quarantine.md")).unwrap();
    let table = documentation.split("| reason | the record |").nth(1).unwrap().split("\n\n").next().unwrap();
    let documented: BTreeSet<String> =
        table.lines().filter(|line| line.starts_with("| `")).flat_map(|line| names_in(line.split('|').nth(1).unwrap())).collect();
    // Of idle partitions, and of sources whose records are JSON.
    let of_others = BTreeSet::from(["late_after_idle", "not_json"].map(str::to_owned));
    assert_eq!(seen, documented.difference(&of_others).cloned().collect());

    // A version that reads the same log again, in other chunks, refuses the same.
    refold(&["replay", "hashtag_trends", "--server", &worker.url]).ends(0);
    deployment.wait("caught up", &mut worker, |versions| versions.iter().any(|version| version["version"] == 2 && version["read"] == all));
    assert_eq!(listed(&worker, "hashtag_trends", 2), refused(&written, |written| written.trends));
    assert!(worker.stop(), "{}", deployment.last_words("worker"));
}

/// What is between backticks.
fn names_in(text: &str) -> Vec<String> {
    text.split('`').skip(1).step_by(2).map(str::to_owned).collect()
}

#[test]
fn an_id_that_the_registry_does_not_know_is_quarantined_and_a_registry_that_is_unavailable_is_waited_for() {
    let (kafka, cassandra, registry) = (Kafka::start(), Cassandra::start(), SchemaRegistry::started());
    let deployment = Deployment::with(&kafka, &cassandra, "registered", declare);
    let source = &deployment.application.source;
    let newer =
        source.schema_json.replacen("\"fields\": [", "\"fields\": [{\"name\": \"language\", \"type\": \"string\", \"default\": \"\"},", 1);
    assert_ne!(newer, source.schema_json);
    let client = registry.client();
    let [id, other, newest] =
        [(&format!("{}-value", source.topic)[..], &source.schema_json[..]), ("others-value", OTHER), ("newer-value", &newer[..])]
            .map(|(subject, schema)| client.register(subject, schema).unwrap());
    let mut worker = deployment.process("worker", &["--registry", &registry.url()]);
    assert!(worker.wait_until_up(), "{}", deployment.last_words("worker"));

    let kcat = Kcat::new(&kafka.brokers());
    let time_ms = chrono::Utc::now().timestamp_millis() - 30 * MINUTE_MS;
    let some = |from: i64| {
        (from..from + 50).map(|number| post(number, Some(time_ms + number * 1_000), b"#registered").framed(id)).collect::<Vec<_>>()
    };
    let mut written = BTreeMap::new();
    let mut records: Vec<Written> = some(1).into_iter().map(good).collect();
    records.push(bad(Sent::Value(post(3, Some(time_ms), b"#never").framed(4711)), "unknown_schema"));
    records.push(bad(Sent::Value(Avro::default().bytes(b"#never").framed(other)), "unresolvable_schema"));
    records.extend(some(100).into_iter().map(good));
    write(&kcat, &source.topic, 0, &records);
    written.insert(0, records);
    let wanted = refused(&written, |written| written.counts);
    deployment.wait_until_current(&kafka, &cassandra, &mut worker);
    deployment.compare_with(&kafka, &cassandra, std::sync::Arc::new(registry.client()));
    assert_eq!(listed(&worker, "hashtag_counts", 1), wanted);

    // Frozen, not killed: one that is started anew has forgotten its schemas, and then they are unknown for a fact.
    registry.freeze();
    // One of a schema that the worker has not met yet: nobody can say what it is.
    let unmet = [Avro::default().bytes(b"en").0, post(5, Some(time_ms + 200_000), b"#registered").0].concat();
    kcat.write(&source.topic, 0, &[some(200), vec![Avro(unmet).framed(newest)], some(300)].concat());
    deployment.wait("waiting for the registry", &mut worker, |versions| {
        versions.iter().all(|version| version["source_error"].as_str().is_some_and(|error| error.contains(&registry.url())))
    });
    let ready = refold_tests::http::get(&format!("{}/readyz", worker.url)).is(503);
    assert!(ready.text.contains("schema registry"), "{}", ready.text);
    assert_eq!(listed(&worker, "hashtag_counts", 1), wanted, "nothing is refused for what is unavailable");

    registry.thaw();
    deployment.wait_until_current(&kafka, &cassandra, &mut worker);
    let progress = deployment.compare_with(&kafka, &cassandra, std::sync::Arc::new(registry.client()));
    assert_eq!((progress.applied, progress.read), (201, 203));
    assert_eq!(listed(&worker, "hashtag_counts", 1), wanted);
    assert!(worker.stop(), "{}", deployment.last_words("worker"));
}
