//! What open streams keep in memory, and what they cost who publishes.

use super::*;

/// Rows that make a snapshot of several pieces.
const MANY: i64 = 3_000;

async fn open_stream(world: &World, user: &str) -> BodyDataStream {
    let request = Request::get(format!("/v1/views/counts/live?username={user}&limit={MANY}")).body(Body::empty()).unwrap();
    let response = world.router.clone().oneshot(request).await.unwrap();
    assert_eq!(response.status(), StatusCode::OK);
    response.into_body().into_data_stream()
}

fn streaming(limits: Limits) -> (World, Table) {
    let world = world(ApiSettings { rows_max: 10_000, limits, ..open() });
    let posts: Vec<i64> = (0..MANY).collect();
    let version = world.version(COUNTS, "ann", &posts, &at([5, 7]));
    world.serve(version);
    let shape = world.planner.plan(COUNTS, "test").unwrap().shape;
    let table = Table { view: "counts".into(), version, shape };
    world.changes.create(&table, None).unwrap();
    (world, table)
}

fn room(world: &World) -> usize {
    world.state.places.stream_room.free()
}

#[tokio::test]
async fn an_open_stream_keeps_nothing_of_a_snapshot_that_was_sent() {
    let (world, _) = streaming(Limits::default());
    let all = room(&world);
    let mut streams = Vec::new();
    for _ in 0..20 {
        let mut stream = open_stream(&world, "ann").await;
        assert!(room(&world) < all - 100, "the snapshot has more than 100 KiB");
        let mut snapshot = Vec::new();
        while !snapshot.ends_with(b"\n\n") {
            let piece = stream.next().await.unwrap().unwrap();
            assert!(piece.len() <= 16 << 10, "in pieces");
            snapshot.extend_from_slice(&piece);
        }
        let data = snapshot.strip_prefix(b"event: snapshot\ndata: ").unwrap();
        let snapshot: Value = serde_json::from_slice(data).unwrap();
        assert_eq!(snapshot["rows"].as_array().unwrap().len(), MANY as usize);
        streams.push(stream);
        assert_eq!(room(&world), all, "{} streams are open", streams.len());
    }
}

#[tokio::test]
async fn a_stream_that_nobody_reads_is_ended_and_gives_back_its_room() {
    let (world, _) = streaming(Limits { stream_for: Duration::from_millis(10), ..Limits::default() });
    let all = room(&world);
    let mut stream = open_stream(&world, "ann").await;
    stream.next().await.unwrap().unwrap();
    while room(&world) < all {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert!(stream.next().await.unwrap().is_err(), "and is not told that the snapshot was whole");
}

#[tokio::test]
async fn streams_find_no_room_rather_than_take_more_memory() {
    let limits = Limits { stream_bytes: 300 << 10, wait: Duration::from_millis(50), ..Limits::default() };
    let (world, _) = streaming(limits);
    let _first = open_stream(&world, "ann").await;
    let request = Request::get(format!("/v1/views/counts/live?username=ann&limit={MANY}")).body(Body::empty()).unwrap();
    let (status, headers, refused) = world.answer(request).await;
    assert_eq!(
        (status, &refused["class"], &headers[header::RETRY_AFTER]),
        (StatusCode::SERVICE_UNAVAILABLE, &json!("streams"), &"1".parse().unwrap())
    );
}

#[tokio::test]
async fn a_change_reaches_those_who_follow_its_partition_and_is_made_for_them_alone() {
    let (world, table) = streaming(Limits::default());
    let mut ann = open_stream(&world, "ann").await;
    let mut bob = open_stream(&world, "bob").await;
    while !ann.next().await.unwrap().unwrap().ends_with(b"\n\n") {}
    assert_eq!(event(&mut bob).await.0, "snapshot");
    let publish = |users: &[&str], offsets: [u64; 2]| {
        let columns: [ArrayRef; 3] = [
            Arc::new(StringArray::from(users.to_vec())),
            Arc::new(TimestampMillisecondArray::from(vec![0; users.len()]).with_timezone("+00:00")),
            Arc::new(Int64Array::from(vec![1; users.len()])),
        ];
        let columns = columns.iter().zip(table.shape.columns.fields()).map(|(column, field)| cast(column, field.data_type()).unwrap());
        let rows = RecordBatch::try_new(table.shape.columns.clone(), columns.collect()).unwrap();
        let batch = RowBatch { rows, written_at: vec![(1 << 47) + 1; users.len()], deleted: vec![false; users.len()] };
        world.changes.publish(&table, &[batch], &at(offsets)).unwrap();
    };
    let mut all = world.changes.subscribe(&table).unwrap();
    publish(&["eve", "bob", "mallory"], [6, 7]);
    assert_eq!(all.recv().await.unwrap().rows.len(), 3, "who follows all gets all");
    drop(all);
    let (name, change) = event(&mut bob).await;
    assert_eq!((name.as_str(), &change["rows"][0]["username"], change["rows"].as_array().unwrap().len()), ("change", &json!("bob"), 1));
    publish(&["ann", "eve"], [7, 7]);
    let (_, change) = event(&mut ann).await;
    assert_eq!((&change["rows"][0]["username"], &change["positions"]), (&json!("ann"), &json!({ "0": 7, "1": 7 })));
    drop((ann, bob));
    // When the last one has gone, nothing is made for anybody.
    while world.changes.is_followed(&table) {
        tokio::task::yield_now().await;
    }
}
