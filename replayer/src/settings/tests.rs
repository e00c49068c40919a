#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]

use super::table::{Kind, SETTINGS};
use super::*;

fn environment(variables: &[(&str, &str)]) -> std::vec::IntoIter<(String, String)> {
    variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect::<Vec<_>>().into_iter()
}

fn settings(flags: &[(&'static str, &str)], variables: &[(&str, &str)], file: &str) -> Result<Settings, String> {
    let flags: Vec<(&'static str, String)> = flags.iter().map(|(flag, value)| (*flag, (*value).to_owned())).collect();
    Settings::validate(&Said::resolve(&flags, environment(variables), Some(("refold.toml", file)))?)
}

#[test]
fn a_flag_counts_before_the_environment_before_the_file_before_the_default() {
    let file = "commit_interval_ms = 1\nlisten = \"127.0.0.1:1\"\nmemory_mb = 220";
    let variables = [("REFOLD_COMMIT_INTERVAL_MS", "2"), ("REFOLD_LISTEN", "127.0.0.1:2"), ("HOME", "/")];
    let settings = settings(&[("commit-interval-ms", "3")], &variables, file).unwrap();
    assert_eq!(settings.commit_interval_ms, 3, "flag");
    assert_eq!(settings.listen.port(), 2, "environment");
    assert_eq!(settings.memory_bytes, 64 << 20, "file");
    assert_eq!(settings.building_commit_interval_ms, 1_000, "default");
}

#[test]
fn unknown_keys_are_refused_with_the_nearest_known_one() {
    let refused = settings(&[], &[], "comit_interval_ms = 1").unwrap_err();
    assert_eq!(refused, "refold.toml: key comit_interval_ms is not known; did you mean commit_interval_ms?");
    let refused = settings(&[], &[("REFOLD_MEMORY", "1")], "").unwrap_err();
    assert_eq!(refused, "environment variable REFOLD_MEMORY is not known; did you mean REFOLD_MEMORY_MB?");
    let services =
        [("REFOLD_SERVICE_HOST", "10.0.0.1"), ("REFOLD_PORT", "tcp://10.0.0.1:7070"), ("REFOLD_API_PORT_7070_TCP_ADDR", "10.0.0.1")];
    settings(&[], &services, "").expect("what Kubernetes tells of services is not a setting");
    settings(&[], &[("REFOLD_TOOLS", "/tools"), ("REFOLD_PROVE_SCALE", "full")], "").expect("the scripts' own variables are not settings");
    assert!(settings(&[], &[], "completely_different_thing = 1").unwrap_err().contains("--help"));
}

#[test]
fn a_value_that_is_not_valid_is_refused_with_where_it_was_said() {
    assert_eq!(settings(&[("memory-mb", "lots")], &[], "").unwrap_err(), "--memory-mb: \"lots\" is not a whole number from 192 to 1048576");
    assert!(settings(&[], &[("REFOLD_LISTEN", "7070")], "").unwrap_err().starts_with("REFOLD_LISTEN: \"7070\" is not an address"));
    assert!(settings(&[], &[], "log_sync = \"maybe\"").unwrap_err().starts_with("log_sync in refold.toml"));
    assert!(settings(&[], &[], "log_sync = [true]").unwrap_err().contains("not array"));
    assert!(settings(&[], &[], "data = ").unwrap_err().starts_with("refold.toml: TOML parse error at line 1"));
    assert!(settings(&[("server", "localhost")], &[], "").unwrap_err().contains("http://HOST:PORT"));
}

#[test]
fn settings_that_do_not_go_together_are_refused() {
    assert!(settings(&[("lease-ms", "1000"), ("reconcile-interval-ms", "500")], &[], "").unwrap_err().contains("lease"));
    assert!(settings(&[("rows-default", "20"), ("rows-max", "10")], &[], "").unwrap_err().contains("rows_max"));
}

#[test]
fn a_secret_is_read_from_a_file_and_not_visible_in_a_list_of_processes() {
    let folder = tempfile::tempdir().unwrap();
    let (path, empty) = (folder.path().join("token"), folder.path().join("empty"));
    std::fs::write(&path, "ann:s3cret\n").unwrap();
    std::fs::write(&empty, "\n").unwrap();
    let (path, empty) = (path.to_str().unwrap(), empty.to_str().unwrap());
    assert_eq!(settings(&[("token-file", path)], &[], "").unwrap().token.as_deref(), Some("ann:s3cret"));
    let auth = settings(&[], &[("REFOLD_REGISTRY_AUTH_FILE", path)], "").unwrap().registry_auth;
    assert_eq!(auth, Some(("ann".to_owned(), "s3cret".to_owned())));
    let twice = settings(&[("token-file", path)], &[("REFOLD_TOKEN", "other")], "").unwrap_err();
    assert_eq!(twice, "REFOLD_TOKEN and --token-file set the same value; remove one of the two");
    assert!(settings(&[("token-file", empty)], &[], "").unwrap_err().ends_with("is empty"));
    assert!(settings(&[("token-file", "/nowhere/token")], &[], "").unwrap_err().starts_with("--token-file: cannot read /nowhere/token"));
    for flag in ["token", "registry-auth"] {
        let meaning = SETTINGS.iter().find(|setting| setting.flag == flag).unwrap().meaning;
        assert!(meaning.contains("visible in ps"), "{flag}: {meaning}");
    }
}

#[test]
fn over_kafka_nothing_is_generated_unless_it_is_asked_for() {
    assert!(settings(&[], &[], "").unwrap().source.starts_with("generate:"));
    assert_eq!(settings(&[("kafka", "broker:9092")], &[], "").unwrap().source, "none");
    assert_eq!(settings(&[("kafka", "broker:9092"), ("source", "generate:1")], &[], "").unwrap().source, "generate:1");
}

#[test]
fn every_default_is_valid_and_every_number_of_time_or_size_has_its_unit_in_its_name() {
    settings(&[], &[], "").unwrap();
    let counts = [
        "threads",
        "shards",
        "sweep-windows",
        "caught-up-lag-events",
        "queued-rows",
        "rows-per-write",
        "kafka-replication",
        "ingest-requests",
        "live-streams",
        "rows-default",
        "rows-max",
    ];
    for setting in SETTINGS.iter().filter(|setting| matches!(setting.kind, Kind::Number(..))) {
        let has_unit = ["-ms", "-mb", "-kb", "-percent"].iter().any(|unit| setting.flag.ends_with(unit));
        assert!(has_unit || counts.contains(&setting.flag), "{}", setting.flag);
    }
}
