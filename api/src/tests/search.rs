//! Events that may be in the log already, when it is slow, or far ahead.

use std::sync::mpsc::{Receiver, Sender, channel};

use refold_processor::log::{Bounds, LogError, LogReader, Records};

use super::*;

/// A log each of whose reads waits until it is let go.
struct SlowLog {
    log: Arc<MemoryLog>,
    reads: Arc<AtomicUsize>,
    let_go: Arc<Mutex<Receiver<()>>>,
}

struct SlowReader {
    reader: Box<dyn LogReader>,
    reads: Arc<AtomicUsize>,
    let_go: Arc<Mutex<Receiver<()>>>,
}

impl LogReader for SlowReader {
    fn read(&mut self, max_bytes: usize, wait: Duration) -> Result<Option<Records>, LogError> {
        self.reads.fetch_add(1, Ordering::SeqCst);
        let _ = self.let_go.lock().recv();
        self.reader.read(max_bytes, wait)
    }
}

impl Log for SlowLog {
    fn id(&self) -> Result<String, LogError> {
        self.log.id()
    }

    fn create_topic(&self, topic: &str, partitions: u32) -> Result<(), LogError> {
        self.log.create_topic(topic, partitions)
    }

    fn topics(&self) -> Result<Vec<String>, LogError> {
        self.log.topics()
    }

    fn partitions(&self, topic: &str) -> Result<Vec<Partition>, LogError> {
        self.log.partitions(topic)
    }

    fn bounds(&self, topic: &str, partition: Partition) -> Result<Bounds, LogError> {
        self.log.bounds(topic, partition)
    }

    fn append(&self, topic: &str, records: Vec<NewRecord>) -> Result<Vec<(Partition, Offset)>, LogError> {
        self.log.append(topic, records)
    }

    fn reader(&self, topic: &str, from: &Cut) -> Result<Box<dyn LogReader>, LogError> {
        let reader = self.log.reader(topic, from)?;
        Ok(Box::new(SlowReader { reader, reads: self.reads.clone(), let_go: self.let_go.clone() }))
    }
}

/// A world over a slow log with three MiB of records of one author, how often it was read, and what lets a read go.
fn slow_world(limits: Limits) -> (World, Arc<AtomicUsize>, Sender<()>) {
    let (sender, receiver) = channel();
    let reads: Arc<AtomicUsize> = Arc::default();
    let slow = reads.clone();
    let world = world_with(ApiSettings { limits, ingest_requests: 1, ..open() }, |ports| {
        let log = Arc::new(MemoryLog::new(Arc::new(ManualClock::at(0))));
        log.create_topic("tweet_feed", 2).unwrap();
        let record = NewRecord { key: Some("ann".into()), value: vec![0; 16 << 10].into() };
        log.append("tweet_feed", vec![record; 3 << 6]).unwrap();
        ports.log = Arc::new(SlowLog { log, reads: slow, let_go: Arc::new(Mutex::new(receiver)) });
    });
    (world, reads, sender)
}

const EVENTS: &str = "/v1/sources/tweets/events";
const POST: &str = "{\"username\":\"ann\",\"timestamp\":0}";

/// The ends of the log, as a client names them.
async fn ends(world: &World) -> String {
    let (_, source) = world.get("/v1/sources/tweets").await;
    let partitions = source["partitions"].as_object().unwrap();
    partitions.iter().map(|(partition, bounds)| format!("{partition}:{}", bounds["end"])).collect::<Vec<_>>().join(",")
}

async fn until(condition: impl Fn() -> bool) {
    tokio::time::timeout(Duration::from_secs(20), async {
        while !condition() {
            tokio::task::yield_now().await;
        }
    })
    .await
    .expect("it did not come to that");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_search_from_the_start_of_a_log_holds_up_no_post_and_ends_with_its_client() {
    let (world, reads, let_go) = slow_world(Limits { wait: Duration::from_millis(50), ..Limits::default() });
    let request = Request::post(format!("{EVENTS}?since=0:0,1:0")).body(Body::from(POST)).unwrap();
    let searching = tokio::spawn(world.router.clone().oneshot(request));
    until(|| reads.load(Ordering::SeqCst) == 1).await;
    let (status, answer) = world.post(EVENTS, "application/x-ndjson", POST).await;
    assert_eq!((status, &answer["written"]), (StatusCode::OK, &json!(1)), "the one place is free: {answer}");
    let right = format!("{EVENTS}?since={}", ends(&world).await);
    let (status, busy) = world.post(&right, "application/x-ndjson", POST).await;
    assert_eq!((status, &busy["type"]), (StatusCode::SERVICE_UNAVAILABLE, &json!("urn:refold:problem:busy")), "{busy}");

    searching.abort();
    let _ = searching.await;
    let_go.send(()).unwrap();
    until(|| world.state.intakes.get("tweets").unwrap().retries.try_lock().is_ok()).await;
    assert_eq!(reads.load(Ordering::SeqCst), 1, "nobody waits for what is left of three MiB");
    let (status, answer) = world.post(&right, "application/x-ndjson", POST).await;
    assert_eq!((status, &answer["written"]), (StatusCode::OK, &json!(1)), "{answer}");
}

#[tokio::test]
async fn a_log_that_reaches_too_far_past_since_is_not_searched() {
    let (world, reads, let_go) = slow_world(Limits { search_bytes: 1 << 20, ..Limits::default() });
    (0..9).for_each(|_| let_go.send(()).unwrap());
    for since in ["0:0,1:0", "0:0", "1:0"] {
        let (status, refused) = world.post(&format!("{EVENTS}?since={since}"), "application/x-ndjson", POST).await;
        assert_eq!((status, &refused["type"]), (StatusCode::CONFLICT, &json!("urn:refold:problem:since")), "{since}: {refused}");
        assert!(refused["detail"].as_str().unwrap().contains("ask for the ends"), "{refused}");
    }
    assert!(reads.load(Ordering::SeqCst) <= 6, "two reads each");
    let (status, answer) = world.post(&format!("{EVENTS}?since={}", ends(&world).await), "application/x-ndjson", POST).await;
    assert_eq!((status, &answer["written"]), (StatusCode::OK, &json!(1)), "{answer}");
}
