//! From the beginning of an append to Kafka until the row can be read by CQL, at an even rate, with everything on the same machine.
//!
//! Broker and database compile themselves for about half a minute under this load, with as much of the two cores as they then work with. What is measured
//! comes after that.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use refold_collector::Encoder;
use refold_processor::log::NewRecord;
use tokio::sync::mpsc::UnboundedSender;

use crate::figures::Figures;
use crate::plain::connect;
use crate::replay::Running;
use crate::{Site, TOPIC, setting};

/// Appends a second.
const BATCHES: u64 = 200;
/// An append waits for its acknowledgement: this many threads take turns.
const APPENDERS: u64 = 4;
/// Of so many appends, one is waited for.
const SAMPLED: u64 = 7;
/// Rows that are waited for are asked for in turn, one each time: a database that is slow does not get more questions to answer.
const POLL: Duration = Duration::from_millis(2);

pub fn run(site: &Site, running: &Running, rate: u64) {
    let (warm, measured) = (setting("LIVE_WARM_SECONDS", 30), setting("LIVE_SECONDS", 15));
    let seconds = warm + measured;
    let (tell, mut told) = tokio::sync::mpsc::unbounded_channel::<(String, Instant)>();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).thread_name("poll").enable_all().build().unwrap();
    let session = runtime.block_on(connect(site));
    let select = "SELECT occurrences FROM second.hashtag_counts__v1 WHERE hashtag = ? LIMIT 1";
    let select = runtime.block_on(session.prepare(select)).unwrap();
    let waiting = runtime.spawn(async move {
        let (mut waits, mut latencies) = (VecDeque::new(), Vec::new());
        let mut ticks = tokio::time::interval(POLL);
        while !told.is_closed() || !told.is_empty() || !waits.is_empty() {
            ticks.tick().await;
            while let Ok(next) = told.try_recv() {
                waits.push_back(next);
            }
            let Some((hashtag, appended)) = waits.pop_front() else { continue };
            let answer = session.execute_unpaged(&select, (&hashtag,)).await.unwrap();
            if answer.into_rows_result().unwrap().rows_num() > 0 {
                latencies.push(appended.elapsed());
            } else {
                waits.push_back((hashtag, appended));
            }
        }
        latencies
    });
    let figures = Figures::start(site);
    let steps = running.steps();
    let started = Instant::now();
    std::thread::scope(|scope| {
        for appender in 0..APPENDERS {
            let tell = tell.clone();
            let encoder = Encoder::new(site.source(), Some(1)).unwrap();
            let appender =
                Appender { running, encoder, tell, started, first: appender, rate, warm: BATCHES * warm, batches: BATCHES * seconds };
            std::thread::Builder::new().name("append".into()).spawn_scoped(scope, move || appender.run()).unwrap();
        }
    });
    let took = started.elapsed().as_secs_f64();
    drop(tell);
    let mut latencies = runtime.block_on(waiting).unwrap();
    latencies.sort();
    let at = |share: f64| latencies[((latencies.len() - 1) as f64 * share) as usize].as_secs_f64() * 1e3;
    println!(
        "  live at {rate}/s (reached {:.0}/s), append begun to row readable, {} samples: p50 {:.1} ms, p99 {:.1} ms, most {:.1} ms",
        (BATCHES * seconds * (rate / BATCHES)) as f64 / took,
        latencies.len(),
        at(0.5),
        at(0.99),
        at(1.0)
    );
    print!("    steps of commits:");
    for ((step, count, seconds), (_, count_before, seconds_before)) in running.steps().into_iter().zip(steps) {
        let count = count - count_before;
        print!(" {step} {count} of {:.1} ms,", (seconds - seconds_before) * 1e3 / count.max(1) as f64);
    }
    println!(" since the load began");
    figures.print("the live part, with its appends and polls", BATCHES * seconds * (rate / BATCHES), 0);
}

struct Appender<'a> {
    running: &'a Running,
    encoder: Encoder,
    tell: UnboundedSender<(String, Instant)>,
    started: Instant,
    first: u64,
    rate: u64,
    /// Of so many batches at the beginning, none is waited for.
    warm: u64,
    batches: u64,
}

impl Appender<'_> {
    fn run(&self) {
        for number in (self.first..self.batches).step_by(APPENDERS as usize) {
            let due = self.started + Duration::from_secs(1) * number as u32 / BATCHES as u32;
            std::thread::sleep(due.saturating_duration_since(Instant::now()));
            let hashtag = format!("marker{}x{number}", self.rate);
            let posts = self.posts(number, &hashtag);
            let appending = Instant::now();
            if number > self.warm && number % SAMPLED == 0 {
                self.tell.send((hashtag, appending)).unwrap();
            }
            self.running.log.append(TOPIC, posts).unwrap();
        }
    }

    /// Posts of this moment; the first has a hashtag that no other has.
    fn posts(&self, number: u64, marker: &str) -> Vec<NewRecord> {
        let now_ms = chrono::Utc::now().timestamp_millis();
        let posts = self.rate / BATCHES;
        (0..posts)
            .map(|post| {
                let hashtag = if post == 0 { marker.to_owned() } else { format!("tag{}", (number * posts + post) % 5_000) };
                let tweet =
                    format!("a post of about a hundred and twenty characters, as most of them are, and then it ends with a #{hashtag}");
                let userid = number * posts + post;
                let post = serde_json::json!({"userid": userid, "username": "u", "timestamp": now_ms, "tweetid": number, "tweet": tweet});
                self.encoder.encode(&post).unwrap()
            })
            .collect()
    }
}
