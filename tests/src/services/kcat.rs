//! kcat: a Kafka client that shares no code of ours, for records that ours would not write and for reading what ours wrote.

use std::io::Write;
use std::process::{Command, Output, Stdio};

use serde_json::Value;

/// Between key and value of a record that is given on stdin: no text has it.
const SEPARATOR: &str = "\u{1e}";

/// kcat for one cluster.
pub struct Kcat {
    brokers: String,
}

/// A record as kcat reads it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// Its partition.
    pub partition: u32,
    /// Its offset.
    pub offset: u64,
    /// Its key.
    pub key: String,
    /// Its value; `None`: a tombstone.
    pub value: Option<String>,
    /// Its headers, name and value in turn.
    pub headers: Vec<String>,
}

impl Kcat {
    /// kcat for the cluster of these brokers.
    pub fn new(brokers: &str) -> Kcat {
        Kcat { brokers: brokers.to_owned() }
    }

    /// Writes records with these values into a partition, in order.
    pub fn write(&self, topic: &str, partition: u32, values: &[Vec<u8>]) {
        let folder = tempfile::tempdir().unwrap();
        // A file is a record, whatever is in it; a few hundred names are far from what a command line takes.
        for (chunk, values) in values.chunks(500).enumerate() {
            let files: Vec<_> = (0..values.len()).map(|number| folder.path().join(format!("{chunk}-{number}"))).collect();
            for (file, value) in files.iter().zip(values) {
                assert!(!value.is_empty(), "kcat passes over empty files");
                std::fs::write(file, value).unwrap();
            }
            done(self.producing(topic, partition).args(files).stdin(Stdio::null()).output().unwrap());
        }
    }

    /// Writes a record whose value has no bytes.
    pub fn write_empty(&self, topic: &str, partition: u32) {
        self.write_line(topic, partition, &[]);
    }

    /// Writes a record that has no value.
    pub fn write_tombstone(&self, topic: &str, partition: u32) {
        self.write_line(topic, partition, &["-Z"]);
    }

    /// Writes a key with nothing behind it.
    fn write_line(&self, topic: &str, partition: u32, arguments: &[&str]) {
        let mut command = self.producing(topic, partition);
        let mut child = command.args(["-K", SEPARATOR]).args(arguments).stdin(Stdio::piped()).spawn().unwrap();
        child.stdin.take().unwrap().write_all(format!("key{SEPARATOR}\n").as_bytes()).unwrap();
        done(child.wait_with_output().unwrap());
    }

    fn producing(&self, topic: &str, partition: u32) -> Command {
        let mut command = Command::new("kcat");
        command.args(["-P", "-b", &self.brokers, "-t", topic, "-p", &partition.to_string(), "-X", "enable.idempotence=true"]);
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    /// All records of a topic, partition by partition.
    pub fn read(&self, topic: &str) -> Vec<Found> {
        let output =
            Command::new("kcat").args(["-C", "-b", &self.brokers, "-t", topic, "-o", "beginning", "-e", "-q", "-J"]).output().unwrap();
        let output = done(output);
        let mut found: Vec<Found> = output
            .lines()
            .map(|line| {
                let record: Value = serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"));
                let text = |value: &Value| value.as_str().map(str::to_owned);
                Found {
                    partition: record["partition"].as_u64().unwrap() as u32,
                    offset: record["offset"].as_u64().unwrap(),
                    key: text(&record["key"]).unwrap_or_default(),
                    value: text(&record["payload"]),
                    headers: record["headers"].as_array().into_iter().flatten().filter_map(text).collect(),
                }
            })
            .collect();
        found.sort_by_key(|found| (found.partition, found.offset));
        found
    }
}

#[track_caller]
fn done(output: Output) -> String {
    assert!(output.status.success(), "kcat: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}
