//! How many messages a second come through one live source: from a server on this machine through the spool to records of the sample, without a log.
//!
//! `cargo bench --bench live`; the network, the spool and the encoder share the processors.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic, clippy::print_stdout, missing_docs)]

use std::sync::Arc;
use std::time::{Duration, Instant};

use refold_collector::{Encoder, Opening, Pull, Spec, Stop, SystemTimer};
use refold_processor::source::load_sources;
use refold_tests::live_server::LiveServer;
use refold_tests::program::root;
use serde_json::json;

const MESSAGES: usize = 200_000;

fn main() {
    let schemas = root().join("schemas");
    let server = LiveServer::start(|_, stream| {
        let mut socket = tungstenite::accept(stream).unwrap();
        for number in 0..MESSAGES {
            let text = "a post of about a hundred characters, as most are, with a #hashtag and another one: #refold";
            let record = json!({ "$type": "app.bsky.feed.post", "text": text, "langs": ["en"], "createdAt": "2026-11-30T12:00:00.000Z" });
            let commit = json!({ "rev": "3l", "operation": "create", "collection": "app.bsky.feed.post", "rkey": number.to_string(), "record": record, "cid": "bafyreib2rxk3rh6kzwq" });
            let message = json!({ "did": "did:plc:abcdefghijklmnop", "time_us": 1_700_000_000_000_000_u64 + number as u64, "kind": "commit", "commit": commit });
            if socket.send(tungstenite::Message::text(message.to_string())).is_err() {
                return;
            }
        }
        while socket.read().is_ok() {}
    });
    let encoder = Encoder::new(&load_sources(&schemas).unwrap()["tweets"], Some(1)).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let timer = Arc::new(SystemTimer::new(Stop::new()));
    let spec = Spec::parse(&format!("bluesky?url={}/subscribe", server.url("ws"))).unwrap();
    let mut source = spec.open(encoder, &Opening::new(&schemas, folder.path(), timer)).unwrap();
    let began = Instant::now();
    let mut events = 0;
    while events < MESSAGES {
        match source.next(8192, Duration::from_millis(200)).unwrap() {
            Pull::Events { records, resume, .. } => {
                events += records.len();
                source.acknowledged(&resume).unwrap();
            }
            Pull::Idle => assert!(began.elapsed() < Duration::from_secs(120), "{events} events"),
            Pull::End => break,
        }
    }
    let seconds = began.elapsed().as_secs_f64();
    println!("{events} messages in {seconds:.2} s: {:.0} a second", events as f64 / seconds);
}
