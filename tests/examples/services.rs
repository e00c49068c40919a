//! `make services`: a Kafka and a Cassandra to try Refold over, empty at each start, for as long as this runs.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "tells who started it where they are")]

use std::net::TcpListener;

use refold_tests::program::free_port;
use refold_tests::services::cassandra::{Cassandra, Options};
use refold_tests::services::kafka::Kafka;
use tokio::signal::unix::{SignalKind, signal};

#[tokio::main(flavor = "current_thread")]
async fn main() -> std::io::Result<()> {
    // From the beginning on: whoever is interrupted ends what it has started.
    let (mut interrupt, mut terminate) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
    eprintln!("starting Kafka and Cassandra, which takes about half a minute");
    let started = tokio::task::spawn_blocking(|| (Kafka::start_at(usual(9_092)), Cassandra::start_at(usual(9_042), Options::default())));
    let (kafka, cassandra) = started.await?;
    let (brokers, node) = (kafka.brokers(), format!("127.0.0.1:{}", cassandra.port));
    // State of other services than these would not fit them.
    let data = tempfile::Builder::new().prefix("refold-data-").tempdir()?;
    println!("Kafka is at {brokers}, Cassandra at {node}, until Ctrl-C; nothing in them is kept. In another terminal:\n");
    println!("target/refold up --source generate:100 --kafka {brokers} --cassandra {node} --data {}", data.path().display());
    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
    }
    Ok(())
}

/// The port that everybody knows, where it is free.
fn usual(port: u16) -> u16 {
    TcpListener::bind(("127.0.0.1", port)).map_or_else(|_| free_port(), |_| port)
}
