//! A least service for everyone: slow senders, slow readers and half-open connections keep nobody else waiting.

use std::net::SocketAddr;

use refold_processor::store::{Keys, KeysRead, PartitionRead, RowReader, StoreError};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::oneshot;

use super::*;

const ROWS: &str = "/v1/views/counts/rows?username=ann";

/// What answers within this is not waiting for anybody: those who hold something up here hold it for minutes.
const SOON: Duration = Duration::from_secs(20);

/// A store whose rows are not read until it is let go.
struct SlowRows {
    rows: Arc<dyn RowReader>,
    reading: AtomicUsize,
    is_let_go: Mutex<bool>,
    let_go: parking_lot::Condvar,
}

impl SlowRows {
    fn let_go(&self) {
        *self.is_let_go.lock() = true;
        self.let_go.notify_all();
    }
}

impl RowReader for SlowRows {
    fn read(&self, table: &Table, read: &PartitionRead) -> Result<refold_processor::store::Page, StoreError> {
        self.reading.fetch_add(1, Ordering::SeqCst);
        let mut is_let_go = self.is_let_go.lock();
        while !*is_let_go {
            self.let_go.wait(&mut is_let_go);
        }
        self.rows.read(table, read)
    }

    fn scan_each(&self, table: &Table, each: &mut dyn FnMut(RecordBatch) -> Result<(), StoreError>) -> Result<(), StoreError> {
        self.rows.scan_each(table, each)
    }

    fn keys(&self, table: &Table, read: &KeysRead) -> Result<Keys, StoreError> {
        self.rows.keys(table, read)
    }

    fn progress(&self, table: &Table) -> Result<Option<Progress>, StoreError> {
        self.rows.progress(table)
    }
}

/// A world in service whose rows are slow.
fn slow_rows(limits: Limits) -> (World, Arc<SlowRows>) {
    let mut slow = None;
    let world = world_with(ApiSettings { limits, ..open() }, |ports| {
        let rows = ports.rows.clone();
        let rows =
            Arc::new(SlowRows { rows, reading: AtomicUsize::new(0), is_let_go: Mutex::default(), let_go: parking_lot::Condvar::new() });
        slow = Some(rows.clone());
        ports.rows = rows;
    });
    let version = world.version(COUNTS, "ann", &[10], &at([1, 1]));
    world.serve(version);
    (world, slow.unwrap())
}

async fn until(condition: impl Fn() -> bool) {
    tokio::time::timeout(SOON, async {
        while !condition() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    })
    .await
    .expect("it did not come to that");
}

/// Serves over a real listener until the sender is dropped.
pub async fn listening(world: &World) -> (SocketAddr, oneshot::Sender<()>, tokio::task::JoinHandle<io::Result<()>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (stop, stopped) = oneshot::channel();
    let served = tokio::spawn(serve(world.state.clone(), listener, None, async move {
        let _ = stopped.await;
    }));
    (address, stop, served)
}

/// The whole answer to a request over a connection of its own.
pub async fn ask(address: SocketAddr, request: &str) -> String {
    let asked = async {
        let mut stream = TcpStream::connect(address).await.unwrap();
        let _ = stream.write_all(request.as_bytes()).await;
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer).await;
        String::from_utf8(answer).unwrap()
    };
    tokio::time::timeout(SOON, asked).await.expect("it waits for others")
}

pub fn get(path: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n")
}

fn post(body: &str, length: usize) -> String {
    format!("POST /v1/sources/tweets/events HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\ncontent-length: {length}\r\n\r\n{body}")
}

#[tokio::test(flavor = "multi_thread")]
async fn sixty_four_slow_senders_keep_no_post_no_read_and_no_readiness_waiting() {
    let limits = Limits { body_grace: Duration::from_secs(600), ingest_wait: Duration::from_millis(200), ..Limits::default() };
    let world = world(ApiSettings { limits, ingest_requests: 1, max_body_bytes: 1 << 20, ..open() });
    let version = world.version(COUNTS, "ann", &[10], &at([1, 1]));
    world.serve(version);
    let (address, stop, served) = listening(&world).await;
    let mut senders = Vec::new();
    for sender in 0..64 {
        let mut stream = TcpStream::connect(address).await.unwrap();
        // Half of them have sent more than is taken without room.
        let sent = if sender % 2 == 0 { "{".to_owned() } else { "x".repeat(100 << 10) };
        stream.write_all(post(&sent, 900 << 10).as_bytes()).await.unwrap();
        senders.push(stream);
    }
    until(|| world.state.places.bodies.free() < 300).await;
    let event = "{\"username\":\"ann\",\"timestamp\":0}";
    let taken = ask(address, &post(event, event.len())).await;
    assert!(taken.starts_with("HTTP/1.1 200") && taken.contains("\"written\":1"), "{taken}");
    for path in [ROWS, "/readyz", "/metrics", "/v1/admin/status"] {
        let answer = ask(address, &get(path)).await;
        assert!(answer.starts_with("HTTP/1.1 200"), "{path}: {answer}");
    }
    drop(senders);
    until(|| world.state.places.bodies.free() == 1 << 10).await;
    drop(stop);
    tokio::time::timeout(SOON, served).await.expect("it is not stopped").unwrap().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn sixty_four_slow_reads_keep_no_post_and_no_readiness_waiting_and_further_ones_are_refused() {
    let (world, slow) = slow_rows(Limits { reads: 64, wait: Duration::from_millis(50), ..Limits::default() });
    let request = || Request::get(ROWS).body(Body::empty()).unwrap();
    let reads: Vec<_> = (0..64).map(|_| tokio::spawn(world.router.clone().oneshot(request()))).collect();
    until(|| slow.reading.load(Ordering::SeqCst) == 64).await;
    let others = async {
        assert_eq!(world.get("/readyz").await.0, StatusCode::OK);
        assert_eq!(world.get("/v1/admin/status").await.0, StatusCode::OK);
        let (status, taken) =
            world.post("/v1/sources/tweets/events", "application/x-ndjson", "{\"username\":\"ann\",\"timestamp\":0}").await;
        assert_eq!(status, StatusCode::OK, "{taken}");
        let (status, headers, refused) = world.answer(request()).await;
        assert_eq!((status, &refused["type"]), (StatusCode::SERVICE_UNAVAILABLE, &json!("urn:refold:problem:busy")), "{refused}");
        assert_eq!((&refused["class"], &headers[header::RETRY_AFTER]), (&json!("reads"), &"1".parse().unwrap()));
        let (_, metrics) = world.get("/metrics").await;
        assert!(metrics.as_str().unwrap().contains("refold_http_shed_total{class=\"reads\"} 1"), "{metrics}");
    };
    tokio::time::timeout(SOON, others).await.expect("they wait for slow reads");

    // Clients that hang up free no thread: their places are taken until the store has answered.
    for read in reads {
        read.abort();
        let _ = read.await;
    }
    assert_eq!(world.answer(request()).await.0, StatusCode::SERVICE_UNAVAILABLE);
    slow.let_go();
    until(|| world.state.places.free_of(Class::Reads) == 64).await;
    assert_eq!(world.answer(request()).await.0, StatusCode::OK);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_whose_head_never_ends_and_a_connection_that_is_idle_are_closed() {
    let world = world(ApiSettings { limits: Limits { head_for: Duration::from_millis(100), ..Limits::default() }, ..open() });
    let (address, _stop, _served) = listening(&world).await;
    for half in ["", "GET /healthz HTTP/1.1\r\nhost: local"] {
        let answer = ask(address, half).await;
        assert!(!answer.contains("200 OK"), "{answer}");
    }
    let kept_alive = ask(address, "GET /healthz HTTP/1.1\r\nhost: localhost\r\n\r\n").await;
    assert!(kept_alive.starts_with("HTTP/1.1 200"), "{kept_alive}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_that_is_one_too_many_is_told_so() {
    let world = world(ApiSettings { limits: Limits { connections: 2, ..Limits::default() }, ..open() });
    let (address, _stop, _served) = listening(&world).await;
    let mut idle = vec![TcpStream::connect(address).await.unwrap(), TcpStream::connect(address).await.unwrap()];
    for stream in &mut idle {
        stream.write_all(b"GET /healthz HTTP/1.1\r\nhost: localhost\r\n\r\n").await.unwrap();
        let mut begun = [0; 12];
        stream.read_exact(&mut begun).await.unwrap();
        assert_eq!(&begun, b"HTTP/1.1 200");
    }
    let refused = ask(address, "").await;
    assert!(refused.starts_with("HTTP/1.1 503") && refused.contains("retry-after: 1"), "{refused}");
    drop(idle);
    let mut answer = String::new();
    while !answer.starts_with("HTTP/1.1 200") {
        answer = ask(address, &get("/healthz")).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_below_the_least_rate_is_refused() {
    let limits = Limits { body_grace: Duration::from_millis(100), body_bytes_per_s: 1 << 20, ..Limits::default() };
    let world = world(ApiSettings { limits, ..open() });
    let (address, _stop, _served) = listening(&world).await;
    let answer = ask(address, &post("{", 1_000)).await;
    assert!(answer.starts_with("HTTP/1.1 408") && answer.contains("send it in parts"), "{answer}");
}
