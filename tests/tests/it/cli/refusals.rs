//! What cannot be started, each with a message that names the thing and the way out.

use std::net::TcpListener;
use std::path::Path;

use refold_tests::command::{Said, refold, text};
use refold_tests::program::free_port;

use super::schemas;
use crate::http::up;

/// `refold up`, which cannot be started: nothing is said on stdout.
#[track_caller]
fn refused(schemas: &Path, data: &Path) -> Said {
    let listen = format!("127.0.0.1:{}", free_port());
    let said = refold(&["up", "--source", "none", "--listen", &listen, "--data", text(data), "--schemas", text(schemas)]).ends(1);
    assert_eq!(said.out, "");
    assert!(said.err.starts_with("error: ") && !said.err.contains("panicked"), "{said:#?}");
    said
}

#[test]
fn a_second_process_on_a_data_folder_is_told_of_the_first() {
    let (data, schemas) = (tempfile::tempdir().unwrap(), schemas());
    let mut program = up(data.path(), &[]);
    refused(schemas.path(), data.path()).complains(text(data.path())).complains("in use by another process").complains("--data");
    let file = data.path().join("posts.jsonl");
    std::fs::write(&file, "").unwrap();
    let said = refold(&["collect", &format!("jsonl:{}", file.display()), "--data", text(data.path())]).ends(1);
    said.complains("in use by another process").complains("--data");
    assert!(program.stop(), "the first one is unharmed");
}

#[test]
fn a_port_that_is_taken_is_named() {
    let (data, port) = (tempfile::tempdir().unwrap(), free_port());
    let _listener = TcpListener::bind(("127.0.0.1", port)).unwrap();
    let listen = format!("127.0.0.1:{port}");
    let said = refold(&["up", "--source", "none", "--listen", &listen, "--data", text(data.path())]).ends(1);
    said.complains(&format!("cannot listen on {listen}")).complains("--listen");
    assert_eq!(std::fs::read_dir(data.path()).unwrap().count(), 0, "nothing was begun");
}

#[test]
fn a_file_in_the_place_of_the_data_folder_is_named() {
    let (folder, schemas) = (tempfile::tempdir().unwrap(), schemas());
    let file = folder.path().join("data");
    std::fs::write(&file, "mine").unwrap();
    refused(schemas.path(), &file).complains(text(&file)).complains("--data");
    refused(schemas.path(), &file.join("below")).complains(text(&file)).complains("--data");
    assert_eq!(std::fs::read_to_string(&file).unwrap(), "mine");
    let data = folder.path().join("other");
    std::fs::create_dir(&data).unwrap();
    std::fs::write(data.join("log"), "mine").unwrap();
    let said = refused(schemas.path(), &data).complains(text(&data.join("log"))).complains("File exists");
    assert!(!said.err.contains("Os {"), "in words: {said:#?}");
}

#[test]
fn mistakes_in_the_files_about_services_are_named_with_their_place() {
    let (folder, schemas) = (tempfile::tempdir().unwrap(), schemas());
    let (kafka, cassandra) = (folder.path().join("kafka.properties"), folder.path().join("cassandra.toml"));
    let refused = |kafka_says: &str, cassandra_says: &str| {
        std::fs::write(&kafka, kafka_says).unwrap();
        std::fs::write(&cassandra, cassandra_says).unwrap();
        let services = ["process", "--kafka", "127.0.0.1:1", "--cassandra", "127.0.0.1:1", "--schemas", text(schemas.path())];
        let files = ["--kafka-config", text(&kafka), "--cassandra-config", text(&cassandra), "--data", text(folder.path())];
        refold(&[&services[..], &files].concat()).ends(1)
    };
    let said = refused("acks=1\n", "");
    said.complains(&format!("{}: kafka property acks cannot be set: records are acknowledged by all replicas", kafka.display()));
    let said = refused("sasl.username=me\nhunter2\n", "");
    assert!(!said.err.contains("hunter2"), "it may be a secret: {said:#?}");
    said.complains(&format!("{}: line 2 is not NAME=VALUE", kafka.display()));
    refused("", "# one\n\nusrname = \"me\"\n").complains(&format!("{}: line 3: unknown field `usrname`", cassandra.display()));
}

#[test]
fn missing_and_broken_declarations_are_named_with_their_place() {
    let data = tempfile::tempdir().unwrap();
    let none = data.path().join("none");
    refused(&none, data.path()).complains(text(&none.join("sources.toml"))).complains("--schemas");
    refold(&["check", "--schemas", text(&none)]).ends(1).complains("--schemas");
    let change = |name: &str, from: &str, to: &str| {
        let folder = schemas();
        let path = folder.path().join(name);
        let before = std::fs::read_to_string(&path).unwrap();
        assert!(before.contains(from), "{name}");
        std::fs::write(&path, before.replace(from, to)).unwrap();
        folder
    };
    let complaints = |name: &str, from: &str, to: &str, wanted: &[&str]| {
        let folder = change(name, from, to);
        let said = refused(folder.path(), &data.path().join("data"));
        for wanted in wanted {
            assert!(said.err.contains(wanted), "{wanted:?} is not in {said:#?}");
        }
        let checked = refold(&["check", "--schemas", text(folder.path())]).ends(1);
        assert!(wanted.iter().all(|wanted| checked.err.contains(wanted)), "{checked:#?}");
    };
    complaints("sources.toml", "[sources.tweets]", "[sources.tweets", &["sources.toml: TOML parse error at line "]);
    complaints("sources.toml", "lateness =", "latenes =", &["sources.tweets.latenes is not known; did you mean lateness?"]);
    complaints("sources.toml", "\"10 seconds\"", "\"ten seconds\"", &["sources.tweets.lateness", "is not a duration"]);
    complaints(
        "sources.toml",
        "event_time = \"timestamp\"",
        "event_time = \"time\"",
        &["source tweets", "no field of schema tweet", "timestamp"],
    );
    complaints("sources.toml", "schema = \"tweet\"", "schema = \"twet\"", &["events/twet.avsc"]);
    // What only a writer of events cannot do, the check refuses too.
    complaints("sources.toml", "key = \"userid\"", "key = \"user\"", &["source tweets: its key, user, is not a field of schema tweet"]);
    // Nothing but collecting needs a mapping.
    let folder = change("sources.toml", "unit = \"us\"", "unit = \"years\"");
    refold(&["check", "--schemas", text(folder.path())]).ends(1).complains("sources.toml").complains("years");
    complaints("events/tweet.avsc", "\"long\"", "\"lnog\"", &["tweet", "lnog"]);
    complaints("events/tweet.avsc", "{", "[", &["tweet"]);
    complaints("views/hashtag_trends.sql", "QUALIFY", "QUALIFI", &["views/hashtag_trends.sql:", ":"]);
    complaints("views/hashtag_counts.sql", "FROM tweets", "FROM twets", &["views/hashtag_counts.sql:", "twets", "tweets"]);
}
