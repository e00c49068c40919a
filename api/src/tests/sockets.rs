//! WebSockets over a real listener: what a client is told adds up to the rows, without gap or repeat, whatever happens meanwhile.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use futures::SinkExt;
use openssl::sha::sha256;
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::{Error, Message};
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, connect_async};

use super::limits::listening;
use super::reads::{rank, ranking, up_to};
use super::*;

const SOON: Duration = Duration::from_secs(20);

/// A client that keeps the rows of its subscriptions as it is told.
struct Client {
    socket: WebSocketStream<MaybeTlsStream<TcpStream>>,
    /// By subscription, the rows by their keys.
    rows: BTreeMap<String, BTreeMap<String, Value>>,
    /// By subscription, the last message with positions.
    last: BTreeMap<String, Value>,
}

async fn connect(address: SocketAddr, path: &str, headers: &[(&str, &str)]) -> Result<Client, Error> {
    let mut request = format!("ws://{address}{path}").into_client_request().unwrap();
    for (name, value) in headers {
        let name: axum::http::HeaderName = name.parse().unwrap();
        request.headers_mut().insert(name, value.parse().unwrap());
    }
    let (socket, _) = connect_async(request).await?;
    Ok(Client { socket, rows: BTreeMap::new(), last: BTreeMap::new() })
}

/// The status that a handshake was refused with.
async fn refused(address: SocketAddr, path: &str, headers: &[(&str, &str)]) -> u16 {
    match connect(address, path, headers).await {
        Err(Error::Http(response)) => response.status().as_u16(),
        Err(other) => panic!("{other}"),
        Ok(_) => panic!("it is let in"),
    }
}

/// A ranking names a row by its place, counts by the user.
fn key_of(row: &Value) -> String {
    let names = if row.get("rank").is_some() { ["slot", "rank"] } else { ["username", "slot"] };
    names.map(|name| row[name].to_string()).join(" ")
}

fn sum(message: &Value) -> u64 {
    message["positions"].as_object().unwrap().values().map(|offset| offset.as_u64().unwrap()).sum()
}

impl Client {
    async fn send(&mut self, message: Value) {
        self.socket.send(Message::text(message.to_string())).await.unwrap();
    }

    async fn subscribe(&mut self, id: &str, view: &str, key: Value) {
        self.send(json!({ "op": "subscribe", "id": id, "view": view, "key": key })).await;
    }

    /// The next message; what it says of rows is carried out, and what it says of positions checked.
    async fn next(&mut self) -> Value {
        loop {
            let message = tokio::time::timeout(SOON, self.socket.next()).await.expect("no message").expect("the end").unwrap();
            match message {
                Message::Text(text) => {
                    let message: Value = serde_json::from_str(&text).unwrap();
                    self.take(&message);
                    return message;
                }
                Message::Ping(_) | Message::Pong(_) => {}
                other => panic!("{other}"),
            }
        }
    }

    fn take(&mut self, message: &Value) {
        let (kind, id) = (message["type"].as_str().unwrap(), message["id"].as_str().unwrap_or_default().to_owned());
        let rows = self.rows.entry(id.clone()).or_default();
        match kind {
            "snapshot" | "skipped" | "moved" => {
                *rows = message["rows"].as_array().unwrap().iter().map(|row| (key_of(row), row.clone())).collect();
            }
            "changes" | "switched" => {
                for key in message["deleted"].as_array().unwrap() {
                    rows.retain(|_, row| key.as_object().unwrap().iter().any(|(name, value)| row[name] != *value));
                }
                rows.extend(message["changed"].as_array().unwrap().iter().map(|row| (key_of(row), row.clone())));
            }
            _ => {}
        }
        if kind == "changes"
            && let Some(before) = self.last.get(&id)
        {
            assert_eq!(message["version"], before["version"], "a switch is told as such");
            assert!(sum(message) > sum(before), "positions go on: {before} and then {message}");
        }
        if message.get("positions").is_some() {
            self.last.insert(id, message.clone());
        }
    }

    /// What a subscription has of a column, in no particular order.
    fn column(&self, id: &str, name: &str) -> Vec<i64> {
        let mut values: Vec<i64> = self.rows[id].values().map(|row| row[name].as_i64().unwrap()).collect();
        values.sort_unstable();
        values
    }

    /// The code that the server closes with.
    async fn closed(&mut self) -> CloseCode {
        loop {
            match tokio::time::timeout(SOON, self.socket.next()).await.expect("it is not closed") {
                Some(Ok(Message::Close(frame))) => return frame.unwrap().code,
                Some(Ok(_)) => {}
                other => panic!("it ends without a word: {other:?}"),
            }
        }
    }
}

/// A world in service with rows of ann, whose changes can be followed.
fn followed(settings: ApiSettings) -> (World, Table) {
    let world = world(settings);
    let version = world.version(COUNTS, "ann", &[10, 20, 30], &at([5, 7]));
    world.serve(version);
    let table = world.table(COUNTS, version);
    world.changes.create(&table, None).unwrap();
    (world, table)
}

fn roomy() -> ApiSettings {
    ApiSettings { rows_default: 100, rows_max: 10_000, ..open() }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_snapshot_and_then_its_changes_add_up_to_the_rows() {
    let (world, table) = followed(roomy());
    let (address, _stop, _served) = listening(&world).await;
    let mut client = connect(address, "/v1/live", &[]).await.unwrap();
    client.subscribe("a", "counts", json!({ "username": "ann" })).await;
    let snapshot = client.next().await;
    let expected = json!({
        "type": "snapshot", "id": "a", "view": "counts", "key": { "username": "ann" }, "version": 1, "epoch": 1,
        "positions": { "0": 5, "1": 7 }, "watermark": "1970-01-01T01:30:00Z", "rows": snapshot["rows"],
    });
    assert_eq!(snapshot, expected);
    assert_eq!(client.column("a", "posts"), [10, 20, 30]);

    world.put(&table, &[("ann", 0, Some(11)), ("bob", 0, Some(1))], &at([6, 7]));
    let changes = client.next().await;
    let row = json!({ "username": "ann", "slot": "1970-01-01T00:00:00Z", "posts": 11 });
    assert_eq!((&changes["type"], &changes["changed"], &changes["deleted"]), (&json!("changes"), &json!([row]), &json!([])));
    assert_eq!((&changes["positions"], &changes["version"]), (&json!({ "0": 6, "1": 7 }), &json!(1)));
    // Within a quarter of a second: told as one.
    let begun = std::time::Instant::now();
    for offset in 7..=30 {
        world.put(&table, &[("ann", 5 * MINUTE_MS, Some(offset as i64))], &at([offset, 7]));
    }
    world.put(&table, &[("ann", 0, None), ("ann", 15 * MINUTE_MS, Some(40))], &at([31, 7]));
    let is_slow_machine = begun.elapsed() > Duration::from_millis(200);
    let merged = client.next().await;
    assert!(is_slow_machine || merged["positions"]["0"] == 31, "changes in between are merged: {merged}");
    while client.last["a"]["positions"]["0"] != 31 {
        client.next().await;
    }
    assert_eq!(client.column("a", "posts"), [30, 30, 40]);
    let (_, rows) = world.get("/v1/views/counts/rows?username=ann").await;
    assert_eq!(client.rows["a"].len(), rows["rows"].as_array().unwrap().len());
    for row in rows["rows"].as_array().unwrap() {
        assert_eq!(client.rows["a"][&key_of(row)], *row);
    }
    client.send(json!({ "op": "ping" })).await;
    assert_eq!(client.next().await, json!({ "type": "pong" }));
}

#[tokio::test(flavor = "multi_thread")]
async fn many_partitions_are_followed_on_one_connection_until_they_are_let_go() {
    let (world, table) = followed(roomy());
    let (address, _stop, _served) = listening(&world).await;
    let mut client = connect(address, "/v1/live", &[]).await.unwrap();
    for user in ["ann", "bob", "eve"] {
        client.subscribe(user, "counts", json!({ "username": user })).await;
    }
    for _ in 0..3 {
        assert_eq!(client.next().await["type"], "snapshot");
    }
    world.put(&table, &[("bob", 0, Some(1)), ("eve", 0, Some(2))], &at([6, 7]));
    let mut told = vec![client.next().await["id"].clone(), client.next().await["id"].clone()];
    told.sort_by_key(Value::to_string);
    assert_eq!(told, ["bob", "eve"]);
    client.send(json!({ "op": "unsubscribe", "id": "bob" })).await;
    client.send(json!({ "op": "ping" })).await;
    assert_eq!(client.next().await["type"], "pong");
    world.put(&table, &[("bob", 0, Some(3)), ("eve", 0, Some(4))], &at([7, 7]));
    assert_eq!(client.next().await["id"], "eve");
    // The name is free again; what the snapshot does not show yet comes with the next message.
    client.subscribe("bob", "counts", json!({ "username": "bob" })).await;
    assert_eq!(client.next().await["type"], "snapshot");
    while client.column("bob", "posts") != [3] {
        assert_eq!(client.next().await["type"], "changes");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_returns_gets_what_it_missed_and_nothing_twice() {
    let (world, table) = followed(roomy());
    let (address, _stop, _served) = listening(&world).await;
    let mut first = connect(address, "/v1/live", &[]).await.unwrap();
    first.subscribe("a", "counts", json!({ "username": "ann" })).await;
    first.next().await;
    world.put(&table, &[("ann", 0, Some(11))], &at([6, 7]));
    first.next().await;
    let (rows, last) = (first.rows.clone(), first.last["a"].clone());
    drop(first);
    // Another sees to it that each of them is told by itself.
    let mut other = connect(address, "/v1/views/counts/live?username=ann", &[]).await.unwrap();
    other.next().await;
    for offset in 7..=9 {
        world.put(&table, &[("ann", 0, Some(offset as i64))], &at([offset, 7]));
        assert_eq!(other.next().await["positions"]["0"], offset);
    }
    let again = async |after: Value| {
        let mut client = connect(address, "/v1/live", &[]).await.unwrap();
        client.send(json!({ "op": "subscribe", "id": "a", "view": "counts", "key": { "username": "ann" }, "after": after })).await;
        client
    };
    let after = json!({ "version": 1, "positions": last["positions"], "epoch": last["epoch"] });
    let mut client = again(after.clone()).await;
    client.rows = rows;
    let resumed = client.next().await;
    assert_eq!(resumed, json!({ "type": "resumed", "id": "a", "version": 1, "positions": { "0": 6, "1": 7 } }));
    let mut offsets = Vec::new();
    while client.last["a"]["positions"]["0"] != 9 {
        let changes = client.next().await;
        assert_eq!(changes["type"], "changes", "{changes}");
        offsets.push(changes["positions"]["0"].as_u64().unwrap());
    }
    assert_eq!(offsets, [7, 8, 9], "each once, in order");
    assert_eq!(client.column("a", "posts"), [9, 20, 30]);

    // Nothing was missed.
    let mut client = again(json!({ "version": 1, "positions": { "0": 9, "1": 7 } })).await;
    assert_eq!(client.next().await["type"], "resumed");
    client.send(json!({ "op": "ping" })).await;
    assert_eq!(client.next().await["type"], "pong");
    for unknown in [
        json!({ "version": 1, "positions": { "0": 2, "1": 7 } }),
        json!({ "version": 1, "positions": { "0": 99, "1": 99 } }),
        json!({ "version": 1, "positions": { "0": 8, "1": 9 } }),
        json!({ "version": 2, "positions": { "0": 6, "1": 7 } }),
        json!({ "version": 1, "positions": { "0": 6, "1": 7 }, "epoch": 9 }),
    ] {
        let mut client = again(unknown.clone()).await;
        assert_eq!(client.next().await["type"], "snapshot", "{unknown}");
        assert_eq!(client.column("a", "posts"), [9, 20, 30]);
    }
    let mut client = again(json!({ "version": "one" })).await;
    let refused = client.next().await;
    assert_eq!((&refused["type"], &refused["status"]), (&json!("error"), &json!(400)), "{refused}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_switch_and_a_rollback_are_messages_with_the_difference() {
    let (world, first) = followed(roomy());
    let (address, _stop, _served) = listening(&world).await;
    let mut client = connect(address, "/v1/views/counts/live", &[]).await.unwrap();
    client.send(json!({ "op": "subscribe", "id": "a", "key": { "username": "ann" } })).await;
    assert_eq!(client.next().await["type"], "snapshot");
    let second = world.version(KEPT, "ann", &[10, 21], &at([6, 7]));
    world.changes.create(&world.table(KEPT, second), None).unwrap();
    world.serve(second);
    let switched = client.next().await;
    let row = |minute: i64, posts: Option<i64>| {
        let mut row = json!({ "username": "ann", "slot": format!("1970-01-01T00:{minute:02}:00Z") });
        posts.iter().for_each(|posts| row["posts"] = json!(posts));
        row
    };
    let expected = json!({
        "type": "switched", "id": "a", "from": 1, "to": 2, "key": { "username": "ann" }, "version": 2, "epoch": 1,
        "positions": { "0": 6, "1": 7 }, "watermark": "1970-01-01T01:30:00Z",
        "changed": [row(5, Some(21))], "deleted": [row(10, None)],
    });
    assert_eq!(switched, expected);
    assert_eq!(client.column("a", "posts"), [10, 21]);
    world.put(&first, &[("ann", 0, Some(99))], &at([8, 7]));
    world.put(&world.table(KEPT, second), &[("ann", 0, Some(12))], &at([7, 7]));
    let changes = client.next().await;
    assert_eq!((&changes["version"], &changes["changed"]), (&json!(2), &json!([row(0, Some(12))])), "of the version in service alone");
    world.catalogue.switch("counts", Some(second), first.version, "test", None).unwrap();
    let back = client.next().await;
    assert_eq!((&back["type"], &back["from"], &back["to"]), (&json!("switched"), &json!(2), &json!(1)));
    assert_eq!(client.column("a", "posts"), [20, 30, 99]);
    world.put(&first, &[("ann", 0, Some(100))], &at([9, 7]));
    client.next().await;
    assert_eq!(client.column("a", "posts"), [20, 30, 100]);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_newest_window_moves_on() {
    let world = world(roomy());
    let table = ranking(&world, 30);
    let (address, _stop, _served) = listening(&world).await;
    let mut client = connect(address, "/v1/views/top/live?slot=latest&limit=2", &[]).await.unwrap();
    let none = client.next().await;
    assert_eq!((&none["type"], &none["id"]), (&json!("unavailable"), &json!("top")), "{none}");
    assert!(none["detail"].as_str().unwrap().contains("no window of view top has rows yet"));
    rank(&world, &table, 21, &[("ann", 5), ("bob", 3), ("eve", 1)], &up_to(30, 31));
    let snapshot = client.next().await;
    assert_eq!((&snapshot["type"], &snapshot["key"]), (&json!("snapshot"), &json!({ "slot": "1970-01-01T00:21:00Z" })));
    assert_eq!(client.column("top", "posts"), [3, 5], "the first two");
    rank(&world, &table, 21, &[("bob", 6), ("ann", 5)], &up_to(30, 32));
    assert_eq!(client.next().await["type"], "changes");
    assert_eq!(client.column("top", "posts"), [5, 6]);
    rank(&world, &table, 22, &[("eve", 9)], &up_to(31, 33));
    let moved = client.next().await;
    assert_eq!((&moved["type"], &moved["key"]), (&json!("moved"), &json!({ "slot": "1970-01-01T00:22:00Z" })));
    assert_eq!((&moved["positions"], client.column("top", "posts")), (&json!({ "0": 33, "1": 33 }), vec![9]));
    rank(&world, &table, 21, &[("ann", 50)], &up_to(31, 34));
    rank(&world, &table, 22, &[("eve", 10)], &up_to(31, 35));
    let changes = client.next().await;
    assert_eq!((&changes["type"], client.column("top", "posts")), (&json!("changes"), vec![10]), "of the newest window alone: {changes}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_lost_by_the_feed_is_read_again_and_told_as_changes() {
    let (world, table) = followed(roomy());
    let (address, _stop, _served) = listening(&world).await;
    let mut client = connect(address, "/v1/views/counts/live?username=ann", &[]).await.unwrap();
    assert_eq!(client.next().await["type"], "snapshot");
    // Written, but never published.
    let changes = Arc::new(LocalFeed::default());
    let unheard = World { changes: changes.clone(), router: world.router.clone(), ..listless(&world) };
    unheard.put(&table, &[("ann", 0, Some(77))], &at([8, 7]));
    world.changes.begin_anew(&table, &at([8, 7])).unwrap();
    let told = client.next().await;
    assert_eq!((&told["type"], &told["positions"]), (&json!("changes"), &json!({ "0": 8, "1": 7 })), "{told}");
    assert_eq!(client.column("counts", "posts"), [20, 30, 77]);
    // The feed of the table is no more, and comes back.
    world.changes.remove(&table).unwrap();
    let unavailable = client.next().await;
    assert_eq!(unavailable["type"], "unavailable", "{unavailable}");
    unheard.put(&table, &[("ann", 0, Some(78))], &at([9, 7]));
    world.changes.create(&table, None).unwrap();
    let back = client.next().await;
    assert_eq!((&back["type"], client.column("counts", "posts")), (&json!("changes"), vec![20, 30, 78]), "{back}");
}

/// The parts of a world that can be shared.
fn listless(world: &World) -> World {
    World {
        router: world.router.clone(),
        catalogue: world.catalogue.clone(),
        store: world.store.clone(),
        log: world.log.clone(),
        told: world.told.clone(),
        changes: world.changes.clone(),
        collected: world.collected.clone(),
        state: world.state.clone(),
        planner: Planner::new(&[("tweets".to_owned(), tweets())].into()).unwrap(),
        clock: world.clock.clone(),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_view_that_is_being_built_is_followed_as_soon_as_it_can_be() {
    let world = world(roomy());
    let version = world.version(COUNTS, "ann", &[10], &at([5, 7]));
    world.changes.create(&world.table(COUNTS, version), None).unwrap();
    let (address, _stop, _served) = listening(&world).await;
    let mut client = connect(address, "/v1/views/counts/live?username=ann", &[]).await.unwrap();
    let building = client.next().await;
    assert_eq!(building["type"], "unavailable");
    assert!(building["detail"].as_str().unwrap().contains("no version of view counts is in service yet"), "{building}");
    world.serve(version);
    assert_eq!(client.next().await["type"], "snapshot");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_followed_is_refused_and_the_connection_goes_on() {
    let (world, _) = followed(roomy());
    let (address, _stop, _served) = listening(&world).await;
    let mut client = connect(address, "/v1/live", &[]).await.unwrap();
    for (message, status, in_detail) in [
        (json!({ "op": "subscribe", "id": "a", "view": "nothing", "key": {} }), 404, "there are: counts"),
        (json!({ "op": "subscribe", "id": "a", "view": "counts", "key": {} }), 400, "parameter username is missing"),
        (json!({ "op": "subscribe", "id": "a", "view": "counts", "key": { "user": "ann" } }), 400, "there is no parameter user"),
        (json!({ "op": "subscribe", "id": "a", "key": { "username": "ann" } }), 400, "view is missing"),
        (json!({ "op": "subscribe", "id": "a", "view": "counts", "key": { "username": "ann" }, "limit": 1_001 }), 400, "more than 1000"),
        (json!({ "op": "subscribe", "view": "counts" }), 400, "missing field `id`"),
        (json!({ "op": "dance", "id": "a" }), 400, "unknown variant `dance`"),
    ] {
        client.send(message.clone()).await;
        let refused = client.next().await;
        assert_eq!((&refused["type"], &refused["status"]), (&json!("error"), &json!(status)), "{message}: {refused}");
        assert!(refused["detail"].as_str().unwrap().contains(in_detail), "{message}: {refused}");
        assert_eq!(refused.get("id"), message.get("id"), "{refused}");
    }
    client.subscribe("a", "counts", json!({ "username": "ann" })).await;
    assert_eq!(client.next().await["type"], "snapshot");
    client.subscribe("a", "counts", json!({ "username": "bob" })).await;
    assert!(client.next().await["detail"].as_str().unwrap().contains("subscribed already"));
    let mut one = connect(address, "/v1/views/counts/live", &[]).await.unwrap();
    one.subscribe("b", "top", json!({ "slot": "latest" })).await;
    assert!(one.next().await["detail"].as_str().unwrap().contains("connect to /v1/live"));
}

#[tokio::test(flavor = "multi_thread")]
async fn garbage_is_answered_a_few_times_and_then_not_served_any_more() {
    let (world, table) = followed(roomy());
    let (address, _stop, _served) = listening(&world).await;
    let mut other = connect(address, "/v1/views/counts/live?username=ann", &[]).await.unwrap();
    other.next().await;
    let mut client = connect(address, "/v1/live", &[]).await.unwrap();
    for _ in 0..11 {
        client.socket.send(Message::text("\u{1}not json")).await.unwrap();
    }
    assert_eq!(client.closed().await, CloseCode::Policy);
    let mut client = connect(address, "/v1/live", &[]).await.unwrap();
    client.socket.send(Message::binary(vec![0_u8; 9])).await.unwrap();
    assert_eq!(client.closed().await, CloseCode::Unsupported);
    let mut client = connect(address, "/v1/live", &[]).await.unwrap();
    let _ = client.socket.send(Message::text("x".repeat(1 << 20))).await;
    assert!(tokio::time::timeout(SOON, async { while let Some(Ok(_)) = client.socket.next().await {} }).await.is_ok(), "it is ended");
    // Those that open and close as fast as they can.
    for _ in 0..200 {
        drop(connect(address, "/v1/views/counts/live?username=ann", &[]).await.unwrap());
    }
    world.put(&table, &[("ann", 0, Some(11))], &at([6, 7]));
    assert_eq!(other.next().await["type"], "changes", "nobody else has noticed");
    drop(other);
    let open = async || world.get("/metrics").await.1.as_str().unwrap().contains("refold_http_live_streams 0");
    tokio::time::timeout(SOON, async {
        while !open().await {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    })
    .await
    .expect("places are not given back");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_never_reads_is_given_up_and_others_do_not_notice() {
    let limits = Limits { stream_for: Duration::from_millis(200), ..Limits::default() };
    let (world, table) = followed(ApiSettings { limits, ..roomy() });
    let many: Vec<(&str, i64, Option<i64>)> = (0..1_000).map(|slot| ("eve", slot * 5 * MINUTE_MS, Some(slot))).collect();
    world.put(&table, &many, &at([6, 7]));
    let (address, _stop, _served) = listening(&world).await;
    let mut reader = connect(address, "/v1/views/counts/live?username=ann", &[]).await.unwrap();
    reader.next().await;
    let mut stuck = connect(address, "/v1/live", &[]).await.unwrap();
    for number in 0..90 {
        // More than the sockets between them hold.
        let request =
            json!({ "op": "subscribe", "id": format!("{number}"), "view": "counts", "key": { "username": "eve" }, "limit": 1_000 });
        if stuck.socket.send(Message::text(request.to_string())).await.is_err() {
            break;
        }
    }
    let streams = async || {
        let metrics = world.get("/metrics").await.1.as_str().unwrap().to_owned();
        let line = metrics.lines().find(|line| line.starts_with("refold_http_live_streams ")).unwrap().to_owned();
        line.ends_with(" 1")
    };
    tokio::time::timeout(SOON, async {
        while !streams().await {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    })
    .await
    .expect("it is served for ever");
    world.put(&table, &[("ann", 0, Some(11))], &at([7, 7]));
    assert_eq!(reader.next().await["type"], "changes");
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_too_slow_is_skipped_forward_and_told_so() {
    let (world, table) = followed(roomy());
    let wake = Arc::new(tokio::sync::Notify::new());
    let parameters = [("username".to_owned(), "ann".to_owned())];
    let begin = || crate::live::Subscription::begin(&world.state.live, "a".into(), ("counts", &parameters), None, &wake);
    let (mut slow, mut quick) = (begin(), begin());
    let due = |subscription: &mut crate::live::Subscription| match subscription.due() {
        crate::live::Due::Message(message) => Some(serde_json::from_str::<Value>(&message).unwrap()),
        _ => None,
    };
    let wait = async |subscription: &mut crate::live::Subscription| loop {
        match due(subscription) {
            Some(message) => return message,
            None => tokio::time::sleep(Duration::from_millis(5)).await,
        }
    };
    assert_eq!(wait(&mut slow).await["type"], "snapshot");
    assert_eq!(wait(&mut quick).await["type"], "snapshot");
    for offset in 6..=15 {
        world.put(&table, &[("ann", 0, Some(offset as i64))], &at([offset, 7]));
        assert_eq!(wait(&mut quick).await["positions"]["0"], offset);
    }
    let skipped = wait(&mut slow).await;
    assert_eq!((&skipped["type"], &skipped["positions"]["0"], &skipped["rows"][2]["posts"]), (&json!("skipped"), &json!(15), &json!(15)));
    assert!(due(&mut slow).is_none(), "and nothing of what was before");
    world.put(&table, &[("ann", 0, Some(16))], &at([16, 7]));
    assert_eq!(wait(&mut slow).await["type"], "changes");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_page_of_another_origin_and_who_has_no_token_are_not_let_in() {
    let digest: String = sha256(b"ann's").iter().map(|byte| format!("{byte:02x}")).collect();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("tokens.toml");
    std::fs::write(&file, format!("[[token]]\nname = \"ann\"\nrole = \"read\"\nsha256 = \"{digest}\"\n")).unwrap();
    let origins = vec!["https://friend.example".to_owned()];
    let access = AccessSettings { tokens_file: Some(file), origins, ..AccessSettings::default() };
    let (world, _) = followed(ApiSettings { access, ..roomy() });
    let (address, _stop, _served) = listening(&world).await;
    let own = format!("http://{address}");
    let token = ("authorization", "Bearer ann's");
    for path in ["/v1/live", "/v1/views/counts/live?username=ann"] {
        assert_eq!(refused(address, path, &[]).await, 401);
        assert_eq!(refused(address, path, &[("authorization", "Bearer guess")]).await, 401);
        assert_eq!(refused(address, path, &[token, ("origin", "https://evil.example")]).await, 403);
        assert_eq!(refused(address, path, &[token, ("origin", "null")]).await, 403);
        for origin in [own.as_str(), "https://friend.example"] {
            assert!(connect(address, path, &[token, ("origin", origin)]).await.is_ok(), "{origin}");
        }
    }
    let cookie = world.state.access.log_in("ann's").unwrap();
    let cookie = cookie.split(';').next().unwrap();
    let mut client = connect(address, "/v1/views/counts/live?username=ann", &[("cookie", cookie), ("origin", &own)]).await.unwrap();
    assert_eq!(client.next().await["type"], "snapshot");
    for query in ["from=1970-01-01", "version=1", "limit=1001"] {
        assert_eq!(refused(address, &format!("/v1/views/counts/live?username=ann&{query}"), &[token]).await, 400, "{query}");
    }
    let mut both = connect(address, "/v1/views/counts/live?username=ann&username=bob", &[token]).await.unwrap();
    assert!(both.next().await["detail"].as_str().unwrap().contains("subscribe to each"));
    let plain = world.answer(Request::get("/v1/live").header("authorization", "Bearer ann's").body(Body::empty()).unwrap()).await;
    assert_eq!((plain.0, plain.2["detail"].as_str().unwrap().contains("upgrade: websocket")), (StatusCode::BAD_REQUEST, true));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_stops_says_so_and_waits_for_nobody() {
    let (world, _) = followed(ApiSettings { live_streams: 1, ..roomy() });
    let (address, stop, served) = listening(&world).await;
    let mut client = connect(address, "/v1/views/counts/live?username=ann", &[]).await.unwrap();
    client.next().await;
    assert_eq!(refused(address, "/v1/live", &[]).await, 503, "one may be open");
    drop(stop);
    assert_eq!(client.closed().await, CloseCode::Away);
    drop(client);
    tokio::time::timeout(SOON, served).await.expect("it is not stopped").unwrap().unwrap();
}
