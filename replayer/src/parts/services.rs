//! Kafka, its schema registry and Cassandra, as the settings describe them.

use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, Result, anyhow};
use refold_cassandra::{CassandraSettings, CassandraStore};
use refold_kafka::{Compression, KafkaLog, KafkaSettings, Registry, RegistrySettings};
use refold_processor::decode::SchemaLookup;
use refold_processor::recovery::Recovery;

use crate::settings::Settings;

/// About the memory that one reader fetches ahead into, of all memory: there is a reader for each thread of each feed.
const READER_SHARE: usize = 16;
const LEAST_READER_BYTES: usize = 8 << 20;
const MOST_READER_BYTES: usize = 64 << 20;

/// The log on Kafka.
pub fn kafka(brokers: &str, settings: &Settings) -> Result<KafkaLog> {
    let compression = match settings.kafka_compression.as_str() {
        "none" => Compression::None,
        "lz4" => Compression::Lz4,
        "zstd" => Compression::Zstd,
        other => return Err(anyhow!("kafka_compression is {other:?}; use none, lz4 or zstd")),
    };
    let properties = match &settings.kafka_config {
        Some(file) => properties(&read(file)?).map_err(|error| anyhow!("{}: {error}", file.display()))?,
        None => Default::default(),
    };
    let reader_memory_bytes = (settings.memory_bytes / READER_SHARE).clamp(LEAST_READER_BYTES, MOST_READER_BYTES);
    let log = KafkaLog::open(KafkaSettings {
        brokers: brokers.to_owned(),
        properties,
        // Versions of another keyspace are others, and so are their changes.
        deployment: settings.cassandra_keyspace.clone(),
        compression,
        replication_factor: settings.kafka_replication,
        group_offsets: settings.kafka_group_offsets,
        reader_memory_bytes,
        ..KafkaSettings::default()
    });
    match &settings.kafka_config {
        Some(file) => log.map_err(|error| anyhow!("{}: {error}", file.display())),
        None => Ok(log?),
    }
}

/// Lines of `name=value`; those that are empty or begin with `#` say nothing.
fn properties(text: &str) -> Result<std::collections::BTreeMap<String, String>, String> {
    let lines = text.lines().enumerate().map(|(number, line)| (number + 1, line.trim()));
    lines
        .filter(|(_, line)| !line.is_empty() && !line.starts_with('#'))
        .map(|(number, line)| match line.split_once('=') {
            Some((name, value)) => Ok((name.trim().to_owned(), value.trim().to_owned())),
            // The line may hold a password.
            None => Err(format!("line {number} is not NAME=VALUE")),
        })
        .collect()
}

/// The schema registry; what it cannot know is asked of `declared`.
pub fn registry(url: &str, settings: &Settings, declared: Arc<dyn SchemaLookup>) -> Result<Registry> {
    let (username, password) = settings.registry_auth.clone().unzip();
    let registry = Registry::new(&RegistrySettings { url: url.to_owned(), username, password, ..RegistrySettings::default() })?;
    Ok(registry.with_declared(declared))
}

/// The view store on Cassandra.
pub fn cassandra(settings: &Settings) -> Result<CassandraStore> {
    let further = match &settings.cassandra_config {
        Some(file) => {
            let text = read(file)?;
            let wrong = |error: toml::de::Error| {
                // What is shown of a line may be secret: its number is enough.
                let line = error.span().and_then(|span| text.get(..span.start)).map(|before| before.matches('\n').count() + 1);
                let at = line.map(|line| format!(" line {line}:")).unwrap_or_default();
                anyhow!("{}:{at} {}", file.display(), without_values(error.message()))
            };
            let table: toml::Table = text.parse().map_err(wrong)?;
            for (key, instead) in [("contact_points", "cassandra"), ("keyspace", "cassandra_keyspace")] {
                if table.contains_key(key) {
                    return Err(anyhow!("{}: {key} has no effect here; use the setting {instead}", file.display()));
                }
            }
            toml::from_str(&text).map_err(wrong)?
        }
        None => CassandraSettings::default(),
    };
    let described =
        CassandraSettings { contact_points: settings.cassandra.clone(), keyspace: settings.cassandra_keyspace.clone(), ..further };
    CassandraStore::connect(&described).map_err(|error| {
        if error.recovery() != Recovery::Transient {
            return error.into();
        }
        let text = error.to_string();
        // A node that asks for what it is not given mostly just hangs up.
        let hint = match text.contains("refused") {
            true => "",
            false => "; nodes that ask for a password or TLS want user, password and [tls] in the file of the setting cassandra_config",
        };
        anyhow!("cannot reach cassandra at {}: {text}{hint}", settings.cassandra.join(","))
    })
}

/// What the TOML reader says, without values: they may be secret. Names of settings are not.
fn without_values(message: &str) -> String {
    let shows_value = message.starts_with("invalid") || message.starts_with("unknown variant");
    match message.rsplit_once("expected ") {
        Some((_, expected)) if shows_value => format!("what stands there cannot be read; expected {expected}"),
        None if shows_value => "what stands there cannot be read".to_owned(),
        _ => message.to_owned(),
    }
}

fn read(file: &Path) -> Result<String> {
    std::fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_said_of_a_mistake_has_no_value_in_it() {
        for secret in ["integer `7123`", "string \"7123\"", "string \"a`7123`b, expected 7123, expected \""] {
            let shown = without_values(&format!("invalid type: {secret}, expected a map"));
            assert_eq!(shown, "what stands there cannot be read; expected a map");
        }
        let shown = without_values("unknown variant `7123`, expected `one` or `two`");
        assert_eq!(shown, "what stands there cannot be read; expected `one` or `two`");
        let name = "unknown field `usrname`, expected `user`";
        assert_eq!(without_values(name), name);
    }

    #[test]
    fn properties_are_lines_of_names_and_values() {
        let text = "# how to get in\n\nsecurity.protocol = SASL_SSL\nsasl.password=a=b\n";
        let wanted = [("security.protocol", "SASL_SSL"), ("sasl.password", "a=b")];
        let wanted = wanted.map(|(name, value)| (name.to_owned(), value.to_owned())).into();
        assert_eq!(properties(text), Ok(wanted));
        assert_eq!(properties("a=b\nsecret"), Err("line 2 is not NAME=VALUE".to_owned()), "what it says may be secret");
    }
}
