//! Source declarations: `sources.toml` and the Avro schemas beside it.
//!
//! ```toml
//! [sources.tweets]              # the table name in a view's FROM
//! topic = "tweet_feed"
//! schema = "tweet"              # events/tweet.avsc, beside this file
//! event_time = "timestamp"      # a timestamp-millis or timestamp-micros field
//! key = "userid"                # the field whose value decides the partition; without it, partitions take turns
//! partitions = 4
//! format = "json"               # what records are: avro (the default), json or json_schema
//! lateness = "10 seconds"
//! future_tolerance = "10 minutes"
//! retention = "7 days"           # overrides the setting log_retention_ms for this topic
//! ```

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use crate::text::time::Unit;

/// How a record's bytes say which schema wrote them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Framing {
    /// A zero byte, the schema's id as four bytes, big endian, then the body.
    #[default]
    Confluent,
    /// `C3 01`, the schema's CRC-64-AVRO fingerprint as eight bytes, little endian, then the body.
    SingleObject,
    /// The body alone, written with the declared schema.
    Bare,
    /// No Avro: the record is a JSON object of the schema's fields.
    #[serde(skip)]
    Json,
    /// The same behind a zero byte and four bytes of an id, as writers with a JSON Schema of a registry have it.
    #[serde(skip)]
    JsonSchema,
}

/// What the records of a source are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Format {
    /// Avro, with a framing.
    #[default]
    Avro,
    /// JSON objects.
    Json,
    /// JSON objects behind the id of a JSON Schema.
    JsonSchema,
}

/// How much of its topic the embedded log keeps, where a source says so itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Retention {
    /// Records older than this are removed, milliseconds; 0: none is for its age. `None`: as the log's settings say.
    pub ms: Option<u64>,
    /// A partition larger than this, as stored, loses its oldest records, bytes; 0: none for its size. `None`: as the log's settings say.
    pub bytes: Option<u64>,
}

impl Retention {
    /// The limits in milliseconds and in bytes, with the log's own where the source says nothing; `None`: no limit.
    pub fn over(self, ms: Option<u64>, bytes: Option<u64>) -> (Option<u64>, Option<u64>) {
        (self.ms.or(ms).filter(|ms| *ms > 0), self.bytes.or(bytes).filter(|bytes| *bytes > 0))
    }
}

/// One declared source of events.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Source {
    /// The name in a view's FROM and in `/v1/sources/{source}`.
    pub name: String,
    /// The topic of the log.
    pub topic: String,
    /// The name of the Avro schema file, without `.avsc`.
    pub schema_name: String,
    /// The Avro schema (the reader's), as JSON text.
    pub schema_json: String,
    /// The field that holds the event time.
    pub event_time: String,
    /// The field whose value decides the partition.
    pub key: Option<String>,
    /// How many partitions the topic is created with.
    pub partitions: u32,
    /// The framing of records.
    pub framing: Framing,
    /// What numbers in the event-time field of JSON records are in; without it, in the unit of the schema.
    pub event_time_unit: Option<Unit>,
    /// How far behind the largest event time of its partition a watermark is, unless the view says otherwise; microseconds.
    pub lateness_us: i64,
    /// How far an event time may be ahead of the record time; microseconds.
    pub future_tolerance_us: i64,
    /// The largest record accepted, in bytes.
    pub max_record_bytes: usize,
    /// How much of its topic is kept.
    pub retention: Retention,
}

/// All declared sources, by name.
pub type Sources = BTreeMap<String, Source>;

/// Why declarations could not be read.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    /// A file could not be read.
    #[error("cannot read {path}: {error}")]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system says.
        error: std::io::Error,
    },
    /// A file is not valid.
    #[error("{path}: {message}")]
    Invalid {
        /// The file.
        path: PathBuf,
        /// What is wrong, where, and what to write instead.
        message: String,
    },
}

/// The keys of [`SourcesFile`] and of [`SourceEntry`], for the hint at a misspelt one.
const FILE_KEYS: [&str; 3] = ["sources", "mappings", "streams"];
const SOURCE_KEYS: [&str; 14] = [
    "topic",
    "schema",
    "event_time",
    "key",
    "partitions",
    "framing",
    "lateness",
    "future_tolerance",
    "max_record_bytes",
    "retention",
    "retention_bytes",
    "collect",
    "format",
    "event_time_unit",
];
/// A retention without end.
const FOREVER: &str = "forever";

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct SourcesFile {
    sources: BTreeMap<String, SourceEntry>,
    /// How input of other shapes becomes events: the collector's to read.
    #[serde(default, rename = "mappings")]
    _mappings: Option<serde::de::IgnoredAny>,
    /// Streams of a network: the collector's to read.
    #[serde(default, rename = "streams")]
    _streams: Option<serde::de::IgnoredAny>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct SourceEntry {
    topic: String,
    schema: String,
    event_time: String,
    key: Option<String>,
    #[serde(default = "default_partitions")]
    partitions: u32,
    #[serde(default)]
    format: Format,
    framing: Option<Framing>,
    event_time_unit: Option<Unit>,
    #[serde(default = "default_lateness")]
    lateness: String,
    #[serde(default = "default_future_tolerance")]
    future_tolerance: String,
    #[serde(default = "default_max_record_bytes")]
    max_record_bytes: usize,
    retention: Option<String>,
    retention_bytes: Option<u64>,
    /// What is collected into it where nothing else is said: the collector's to read.
    #[serde(default, rename = "collect")]
    _collect: Option<serde::de::IgnoredAny>,
}

fn default_partitions() -> u32 {
    4
}

fn default_lateness() -> String {
    "10 seconds".into()
}

fn default_future_tolerance() -> String {
    "10 minutes".into()
}

fn default_max_record_bytes() -> usize {
    1 << 20
}

/// Reads `sources.toml` in `folder` and the schemas that it names.
pub fn load_sources(folder: &Path) -> Result<Sources, SourceError> {
    let path = folder.join("sources.toml");
    let invalid = |message: String| SourceError::Invalid { path: path.clone(), message };
    let text = read(&path)?;
    let table: toml::Table = toml::from_str(&text).map_err(|error| invalid(error.to_string().trim_end().to_owned()))?;
    check_keys(&table).map_err(invalid)?;
    let file: SourcesFile = toml::from_str(&text).map_err(|error| invalid(error.to_string().trim_end().to_owned()))?;
    let mut sources = Sources::new();
    for (name, entry) in file.sources {
        let schema_json = read(&folder.join("events").join(format!("{}.avsc", entry.schema)))?;
        let duration = |field: &str, text: &str| {
            parse_duration_us(text)
                .ok_or_else(|| invalid(format!("sources.{name}.{field}: {text:?} is not a duration; write for instance \"10 seconds\"")))
        };
        if entry.partitions == 0 {
            return Err(invalid(format!("sources.{name}.partitions must be at least 1")));
        }
        let retention_ms = entry.retention.as_deref().map(|text| {
            parse_retention_ms(text).ok_or_else(|| {
                invalid(format!("sources.{name}.retention: {text:?} is not a duration; write for instance \"7 days\", or {FOREVER:?}"))
            })
        });
        let source = Source {
            retention: Retention { ms: retention_ms.transpose()?, bytes: entry.retention_bytes },
            lateness_us: duration("lateness", &entry.lateness)?,
            future_tolerance_us: duration("future_tolerance", &entry.future_tolerance)?,
            topic: entry.topic,
            schema_name: entry.schema,
            schema_json,
            event_time: entry.event_time,
            key: entry.key,
            partitions: entry.partitions,
            framing: framing(entry.format, entry.framing).map_err(|why| invalid(format!("sources.{name}.framing {why}")))?,
            event_time_unit: match (entry.event_time_unit, entry.format) {
                (Some(_), Format::Avro) => {
                    return Err(invalid(format!("sources.{name}.event_time_unit is for format = \"json\": Avro's types say their unit")));
                }
                (unit, _) => unit,
            },
            max_record_bytes: entry.max_record_bytes,
            name: name.clone(),
        };
        sources.insert(name, source);
    }
    check_retention(&sources).map_err(invalid)?;
    Ok(sources)
}

fn framing(format: Format, framing: Option<Framing>) -> Result<Framing, String> {
    match (format, framing) {
        (Format::Avro, framing) => Ok(framing.unwrap_or_default()),
        (Format::Json, None) => Ok(Framing::Json),
        (Format::JsonSchema, None) => Ok(Framing::JsonSchema),
        (_, Some(_)) => Err("is for format = \"avro\"; leave it out".to_owned()),
    }
}

/// A topic is kept for one time, however many sources read it.
fn check_retention(sources: &Sources) -> Result<(), String> {
    let mut by_topic: BTreeMap<&str, &Source> = BTreeMap::new();
    for source in sources.values() {
        let first = by_topic.entry(&source.topic).or_insert(source);
        if first.retention != source.retention {
            let (first, second, topic) = (&first.name, &source.name, &source.topic);
            return Err(format!("sources.{first} and sources.{second} are both of topic {topic}, so their retention must be the same"));
        }
    }
    Ok(())
}

fn parse_retention_ms(text: &str) -> Option<u64> {
    if text.trim() == FOREVER {
        return Some(0);
    }
    let ms = parse_duration_us(text)? / 1000;
    u64::try_from(ms).ok().filter(|ms| *ms > 0)
}

/// Refuses keys that mean nothing, with the nearest one that does.
fn check_keys(file: &toml::Table) -> Result<(), String> {
    for key in file.keys() {
        check_key("", key, &FILE_KEYS)?;
    }
    for (name, source) in file.get("sources").and_then(toml::Value::as_table).into_iter().flatten() {
        for key in source.as_table().into_iter().flat_map(toml::Table::keys) {
            check_key(&format!("sources.{name}."), key, &SOURCE_KEYS)?;
        }
    }
    Ok(())
}

fn check_key(path: &str, key: &str, known: &[&str]) -> Result<(), String> {
    if known.contains(&key) {
        return Ok(());
    }
    let nearest = known.iter().map(|known| (strsim::damerau_levenshtein(known, key), known)).min();
    Err(match nearest.filter(|(distance, _)| *distance <= 3) {
        Some((_, nearest)) => format!("{path}{key} is not known; did you mean {nearest}?"),
        None => format!("{path}{key} is not known; known are {}", known.join(", ")),
    })
}

fn read(path: &Path) -> Result<String, SourceError> {
    std::fs::read_to_string(path).map_err(|error| SourceError::Read { path: path.to_path_buf(), error })
}

/// Reads a duration such as `10 seconds`, `1 day` or `5m` as microseconds.
pub fn parse_duration_us(text: &str) -> Option<i64> {
    let duration = humantime::parse_duration(text.trim()).ok()?;
    i64::try_from(duration.as_micros()).ok()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]

    use super::*;

    fn load(declarations: &str) -> Result<Sources, String> {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("events")).unwrap();
        std::fs::write(folder.path().join("events/tweet.avsc"), "\"int\"").unwrap();
        std::fs::write(folder.path().join("sources.toml"), declarations).unwrap();
        load_sources(folder.path()).map_err(|error| error.to_string().replace(&folder.path().display().to_string(), "."))
    }

    const SHORT: &str = "[sources.tweets]\ntopic = \"tweet_feed\"\nschema = \"tweet\"\nevent_time = \"timestamp\"\n";

    #[test]
    fn what_is_not_declared_has_its_default() {
        let expected = Source {
            name: "tweets".into(),
            topic: "tweet_feed".into(),
            schema_name: "tweet".into(),
            schema_json: "\"int\"".into(),
            event_time: "timestamp".into(),
            key: None,
            partitions: 4,
            framing: Framing::Confluent,
            event_time_unit: None,
            lateness_us: 10_000_000,
            future_tolerance_us: 600_000_000,
            max_record_bytes: 1 << 20,
            retention: Retention::default(),
        };
        assert_eq!(load(SHORT).unwrap()["tweets"], expected);
    }

    #[test]
    fn everything_can_be_declared() {
        let declarations = format!(
            "{SHORT}key = \"userid\"\npartitions = 9\nframing = \"single_object\"\nlateness = \"1m 30s\"\n\
             future_tolerance = \"2 days\"\nmax_record_bytes = 100\nretention = \"7 days\"\nretention_bytes = 1000\n[mappings.posts]\nanything = \"the collector's\"\n"
        );
        let source = load(&declarations).unwrap().remove("tweets").unwrap();
        assert_eq!((source.key.as_deref(), source.partitions, source.framing), (Some("userid"), 9, Framing::SingleObject));
        assert_eq!((source.lateness_us, source.future_tolerance_us), (90_000_000, 172_800_000_000));
        assert_eq!(source.max_record_bytes, 100);
        assert_eq!(source.retention, Retention { ms: Some(7 * 86_400_000), bytes: Some(1_000) });
    }

    #[test]
    fn mistakes_are_named_with_the_way_out() {
        for (declarations, complaint) in [
            (
                format!("{SHORT}lateness = \"ten\""),
                "./sources.toml: sources.tweets.lateness: \"ten\" is not a duration; write for instance",
            ),
            (format!("{SHORT}partitions = 0"), "sources.tweets.partitions must be at least 1"),
            (format!("{SHORT}latenes = \"1s\""), "./sources.toml: sources.tweets.latenes is not known; did you mean lateness?"),
            (SHORT.replace("topic", "tpoic"), "sources.tweets.tpoic is not known; did you mean topic?"),
            (format!("{SHORT}replication = 3"), "sources.tweets.replication is not known; known are topic, schema, event_time"),
            (
                format!("{SHORT}retention = \"a week\""),
                "sources.tweets.retention: \"a week\" is not a duration; write for instance \"7 days\"",
            ),
            (format!("{SHORT}retention = \"0s\""), "sources.tweets.retention: \"0s\" is not a duration"),
            (
                format!("{SHORT}retention = \"1 day\"\n{}", SHORT.replace("tweets", "posts")),
                "sources.posts and sources.tweets are both of topic tweet_feed, so their retention must be the same",
            ),
            (SHORT.replace("[sources", "[source"), "source is not known; did you mean sources?"),
            (SHORT.replace("topic = \"tweet_feed\"", ""), "missing field `topic`"),
            (format!("{SHORT}framing = \"avro\""), "unknown variant `avro`"),
            (SHORT.replace("= \"tweet\"", "= \"twit\""), "cannot read ./events/twit.avsc"),
            ("[sources".into(), "./sources.toml: TOML parse error at line 1"),
        ] {
            let error = load(&declarations).unwrap_err();
            assert!(error.contains(complaint), "{error}");
        }
    }

    #[test]
    fn a_source_says_more_of_its_retention_than_the_log() {
        let retention = |lines: &str| load(&format!("{SHORT}{lines}")).unwrap()["tweets"].retention;
        assert_eq!(retention("").over(Some(5), Some(6)), (Some(5), Some(6)));
        assert_eq!(retention("").over(None, None), (None, None));
        assert_eq!(retention("retention = \"2s\"").over(Some(5), Some(6)), (Some(2_000), Some(6)));
        assert_eq!(retention("retention = \"forever\"\nretention_bytes = 0").over(Some(5), Some(6)), (None, None));
        assert_eq!(retention("retention_bytes = 7").over(None, None), (None, Some(7)));
    }

    #[test]
    fn durations_are_read_in_microseconds() {
        for (text, expected) in
            [("10 seconds", Some(10_000_000)), (" 5m ", Some(300_000_000)), ("1us", Some(1)), ("", None), ("-1s", None), ("5", None)]
        {
            assert_eq!(parse_duration_us(text), expected, "{text:?}");
        }
        assert_eq!(parse_duration_us("1000000 years"), None, "more microseconds than 64 bits hold");
    }
}
