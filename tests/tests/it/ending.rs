//! The end of versions over a real Kafka and a real Cassandra: nothing of them is left, whoever removes it, and the others are as they were.

use refold_processor::log::Log;
use refold_tests::command::refold;
use refold_tests::deployment::Deployment;
use refold_tests::http::wait_until;
use refold_tests::program::{Program, get};
use refold_tests::services::cassandra::Cassandra;
use refold_tests::services::kafka::Kafka;
use serde_json::Value;

/// What there is of a version of the counts.
#[derive(Debug, PartialEq, Eq)]
struct Parts {
    table: bool,
    progress: bool,
    topic: bool,
    group: bool,
}

const ALL: Parts = Parts { table: true, progress: true, topic: true, group: true };
const NONE: Parts = Parts { table: false, progress: false, topic: false, group: false };

fn parts(kafka: &Kafka, cassandra: &Cassandra, version: u32) -> Parts {
    let table = format!("hashtag_counts__v{version}");
    let names = |cql: &str| -> Vec<String> {
        let answer = cassandra.ask(cql);
        answer.rows::<(String,)>().unwrap().map(|row| row.unwrap().0).collect()
    };
    Parts {
        table: names("SELECT table_name FROM system_schema.tables WHERE keyspace_name = 'ended'").contains(&table),
        progress: names("SELECT name FROM ended.progress").contains(&table),
        topic: kafka.log().topics().unwrap().contains(&format!("ended.changes.hashtag_counts.v{version}")),
        group: kafka.groups().contains(&format!("ended.hashtag_counts.v{version}")),
    }
}

fn version_of(program: &Program, number: usize) -> Value {
    let view = get(&format!("{}/v1/views/hashtag_counts", program.url)).unwrap_or_default();
    view["versions"][number - 1].clone()
}

fn replayed(deployment: &Deployment, serve: &mut Program, number: u64) {
    refold(&["replay", "hashtag_counts", "--server", &serve.url]).ends(0);
    deployment.wait("caught up", serve, |versions| {
        versions.iter().any(|version| version["version"] == number && version["state"] == "caught_up")
    });
}

#[test]
fn nothing_is_left_of_a_dropped_version_whoever_removes_it() {
    let (kafka, cassandra) = (Kafka::start(), Cassandra::start());
    let deployment = Deployment::new(&kafka, &cassandra, "ended");
    deployment.collect("generate:1?seed=11&backlog=1h&backlog_rate=10&count=10000", &[]).ends(0);
    let mut serve = deployment.serve(&[]);
    let mut worker = deployment.process("worker", &[]);
    assert!(serve.wait_until_up() && worker.wait_until_up(), "{}", deployment.last_words("worker"));
    deployment.wait_until_current(&kafka, &cassandra, &mut serve);
    replayed(&deployment, &mut serve, 2);
    // A gate may refuse it until all know how far the version is.
    wait_until("readers are switched", || refold(&["switch", "hashtag_counts", "2", "--server", &serve.url]).status == Some(0));
    wait_until("positions of both are published", || parts(&kafka, &cassandra, 1) == ALL && parts(&kafka, &cassandra, 2) == ALL);
    let state = |name: &str, version: u32| deployment.data(name).join(format!("state/hashtag_counts/v{version}")).exists();
    assert!(state("worker", 1) && state("worker", 2));

    // By the worker that runs it.
    refold(&["drop", "hashtag_counts", "1", "--server", &serve.url]).ends(3).complains("drop_grace_ms");
    refold(&["drop", "hashtag_counts", "1", "--force", "--reason", "done with", "--server", &serve.url]).ends(0);
    wait_until("version 1 is removed", || version_of(&serve, 1)["removed"] == true);
    wait_until("brokers have heard of it", || parts(&kafka, &cassandra, 1) == NONE);
    assert_eq!((parts(&kafka, &cassandra, 2), state("worker", 1), state("worker", 2)), (ALL, false, true));

    // By another one, while the worker that ran it is away.
    replayed(&deployment, &mut serve, 3);
    wait_until("positions are published", || parts(&kafka, &cassandra, 3) == ALL);
    worker.kill();
    refold(&["drop", "hashtag_counts", "3", "--server", &serve.url]).ends(0).says("a worker removes its table");
    assert_eq!(parts(&kafka, &cassandra, 3), ALL, "nobody is there to remove it");
    let mut other = deployment.process("other", &[]);
    assert!(other.wait_until_up(), "{}", deployment.last_words("other"));
    wait_until("version 3 is removed", || version_of(&serve, 3)["removed"] == true);
    wait_until("brokers have heard of it", || parts(&kafka, &cassandra, 3) == NONE);
    assert!(state("worker", 3), "nobody else has its folder");
    let mut worker = deployment.process("worker", &[]);
    assert!(worker.wait_until_up(), "{}", deployment.last_words("worker"));
    wait_until("its state is removed", || !state("worker", 3));
    assert!(state("worker", 2));

    // The one in service is as it was, and goes on.
    deployment.collect("generate:1?seed=12&backlog=1h&backlog_rate=10&count=2000", &[]).ends(0);
    deployment.wait("version 2 has read on", &mut serve, |versions| {
        versions.iter().any(|version| version["version"] == 2 && version["state"] == "active" && version["read"] == 12_000)
    });
    assert_eq!(parts(&kafka, &cassandra, 2), ALL);
    assert!(worker.stop() && other.stop() && serve.stop(), "{} {}", deployment.last_words("worker"), deployment.last_words("other"));
}
