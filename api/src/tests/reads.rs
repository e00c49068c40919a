//! Keys, newest windows, several partitions, what may be kept of answers, and how views are drawn.

use super::*;

const TOP: &str = "CREATE MATERIALIZED VIEW top
WITH (partition_key = 'slot', clustering = 'rank', accept_late = '1 minute', dashboard_title = 'Busy', dashboard_series = 'counts') AS
SELECT slot, username, count(*) AS posts, row_number() OVER (PARTITION BY slot ORDER BY count(*) DESC, username) AS rank
FROM (SELECT unnest(hop(timestamp, INTERVAL '1 minute', INTERVAL '10 minutes')) AS slot, username FROM tweets)
GROUP BY slot, username QUALIFY rank <= 3";

/// A ranking in service whose table says that events came up to `minute`.
pub fn ranking(world: &World, minute: i64) -> Table {
    let view = world.planner.plan(TOP, "test").unwrap();
    let record = register(&world.catalogue, &view, None, "test").unwrap();
    let table = world.table(TOP, record.version);
    world.store.create_table(&table).unwrap();
    world.changes.create(&table, None).unwrap();
    world.store.tell(&table, Epoch(1), &up_to(minute, minute as u64)).unwrap();
    world.catalogue.renew(&owner("worker"), LEASE_MS, None).unwrap();
    world.catalogue.take("top", record.version, &owner("worker"), None).unwrap();
    world.catalogue.set_state("top", record.version, &[VersionState::Building], VersionState::CaughtUp, "test").unwrap();
    world.catalogue.switch("top", None, record.version, "test", None).unwrap();
    table
}

/// Events came up to a minute.
pub fn up_to(minute: i64, offset: u64) -> Progress {
    Progress { watermark_us: Some(minute * 60_000_000), event_time_us: Some(minute * 60_000_000), ..at([offset, offset]) }
}

/// The ranking of the window that begins at `minute`.
pub fn rank(world: &World, table: &Table, minute: i64, ranked: &[(&str, i64)], progress: &Progress) {
    let columns: [ArrayRef; 4] = [
        Arc::new(TimestampMillisecondArray::from(vec![minute * MINUTE_MS; ranked.len()]).with_timezone("+00:00")),
        Arc::new(StringArray::from_iter_values(ranked.iter().map(|row| row.0))),
        Arc::new(Int64Array::from_iter_values(ranked.iter().map(|row| row.1))),
        Arc::new(Int64Array::from_iter_values(1..=ranked.len() as i64)),
    ];
    world.put_columns(table, &columns, &vec![false; ranked.len()], progress);
}

#[tokio::test]
async fn keys_are_listed_by_what_they_begin_with() {
    let world = world(open());
    let version = world.version(COUNTS, "ann", &[1], &at([1, 1]));
    world.serve(version);
    let table = world.table(COUNTS, version);
    world.put(&table, &[("anna", 0, Some(1)), ("bob", 0, Some(1)), ("Ann", 0, Some(1)), ("an", 0, Some(1))], &at([2, 1]));
    let (status, all) = world.get("/v1/views/counts/keys?prefix=an").await;
    let named = |names: &[&str]| json!(names.iter().map(|name| json!({ "username": name })).collect::<Vec<_>>());
    let expected = json!({ "view": "counts", "version": 1, "keys": named(&["an", "ann", "anna"]), "complete": true });
    assert_eq!((status, all), (StatusCode::OK, expected));
    let (_, first) = world.get("/v1/views/counts/keys?limit=2").await;
    assert_eq!((&first["keys"], &first["complete"]), (&named(&["Ann", "an"]), &json!(false)));
    assert_eq!(world.get("/v1/views/counts/keys?prefix=%C3%A9&version=v1").await.1["keys"], json!([]));
    for (query, status, in_detail) in [
        ("limit=0", 400, "from 1 to 1000"),
        ("limit=1001", 400, "from 1 to 1000"),
        ("pefix=a", 400, "there are: prefix, limit, version"),
        ("version=new", 400, "such as 2"),
        ("version=9", 404, "no version v9"),
    ] {
        let (answered, refused) = world.get(&format!("/v1/views/counts/keys?{query}")).await;
        assert_eq!(answered.as_u16(), status, "{query}: {refused}");
        assert!(refused["detail"].as_str().unwrap().contains(in_detail), "{query}: {refused}");
    }
    assert_eq!(world.get("/v1/views/nothing/keys").await.0, StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn the_newest_window_is_read_without_its_name() {
    let world = world(open());
    let table = ranking(&world, 30);
    let (status, none) = world.get("/v1/views/top/rows?slot=latest").await;
    assert_eq!((status, none["detail"].as_str().unwrap().contains("no window of view top has rows yet")), (StatusCode::NOT_FOUND, true));
    rank(&world, &table, 20, &[("ann", 5), ("bob", 3)], &up_to(30, 31));
    rank(&world, &table, 19, &[("eve", 9)], &up_to(30, 32));
    let (status, latest) = world.get("/v1/views/top/rows?slot=latest").await;
    assert_eq!(status, StatusCode::OK, "{latest}");
    assert_eq!((&latest["key"], &latest["rows"][0]["username"]), (&json!({ "slot": "1970-01-01T00:20:00Z" }), &json!("ann")));
    // The one that ends next has no rows yet: a quiet minute.
    world.store.tell(&table, Epoch(1), &up_to(33, 40)).unwrap();
    let (_, before) = world.get("/v1/views/top/rows?slot=latest").await;
    assert_eq!(before["key"]["slot"], "1970-01-01T00:20:00Z");
    // A silence longer than what is looked at.
    world.store.tell(&table, Epoch(1), &up_to(3_000, 50)).unwrap();
    let (_, long_ago) = world.get("/v1/views/top/rows?slot=latest").await;
    assert_eq!(long_ago["key"]["slot"], "1970-01-01T00:20:00Z");
    let (status, refused) = world.get("/v1/views/top/rows?slot=newest").await;
    assert_eq!((status, refused["detail"].as_str().unwrap().contains("2026-11-23T13:30:00Z")), (StatusCode::BAD_REQUEST, true));
}

#[tokio::test]
async fn several_partitions_are_one_answer() {
    let world = world(open());
    let version = world.version(COUNTS, "ann", &[10, 20, 30], &at([5, 7]));
    world.serve(version);
    world.put(&world.table(COUNTS, version), &[("bob", 0, Some(7))], &at([6, 7]));
    let (status, both) = world.get("/v1/views/counts/rows?username=ann&username=bob&limit=1").await;
    let cursor = both["partitions"][0]["next_cursor"].clone();
    let expected = json!({
        "view": "counts",
        "version": 1,
        "positions": { "0": 6, "1": 7 },
        "watermark": "1970-01-01T01:30:00Z",
        "partitions": [
            {
                "key": { "username": "ann" },
                "rows": [{ "username": "ann", "slot": "1970-01-01T00:10:00Z", "posts": 30 }],
                "next_cursor": cursor,
            },
            { "key": { "username": "bob" }, "rows": [{ "username": "bob", "slot": "1970-01-01T00:00:00Z", "posts": 7 }], "next_cursor": null },
        ],
    });
    assert_eq!((status, both.to_string()), (StatusCode::OK, expected.to_string()));
    let path = format!("/v1/views/counts/rows?username=ann&cursor={}", cursor.as_str().unwrap());
    assert_eq!(world.get(&path).await.1["rows"][0]["posts"], 20, "each is read on by itself");
    let many = "username=ann&".repeat(21);
    let (status, refused) = world.get(&format!("/v1/views/counts/rows?{many}")).await;
    assert_eq!((status, refused["detail"].as_str().unwrap().contains("at most 20")), (StatusCode::BAD_REQUEST, true));
}

#[tokio::test]
async fn who_has_an_answer_already_is_told_so_until_it_changes() {
    let world = world(open());
    let version = world.version(COUNTS, "ann", &[10], &at([5, 7]));
    world.serve(version);
    let ask = |etag: Option<&str>| {
        let request = Request::get("/v1/views/counts/rows?username=ann");
        let request = etag.map_or(Request::get("/v1/views/counts/rows?username=ann"), |etag| request.header(header::IF_NONE_MATCH, etag));
        request.body(Body::empty()).unwrap()
    };
    let (status, headers, _) = world.answer(ask(None)).await;
    assert_eq!((status, &headers[header::CACHE_CONTROL]), (StatusCode::OK, &"no-cache".parse().unwrap()));
    let etag = headers[header::ETAG].to_str().unwrap().to_owned();
    for known in [etag.as_str(), etag.trim_start_matches("W/"), &format!("\"other\", {etag}"), "*"] {
        let (status, headers, body) = world.answer(ask(Some(known))).await;
        assert_eq!((status, body), (StatusCode::NOT_MODIFIED, json!("")), "{known}");
        assert_eq!(headers[header::ETAG].to_str().unwrap(), etag);
    }
    assert_eq!(world.answer(ask(Some("\"other\""))).await.0, StatusCode::OK);
    world.put(&world.table(COUNTS, version), &[("ann", 0, Some(11))], &at([6, 7]));
    let (status, headers, _) = world.answer(ask(Some(&etag))).await;
    assert_eq!((status, headers[header::ETAG] == etag.as_str()), (StatusCode::OK, false));
    let refused = Request::get("/v1/views/counts/rows").body(Body::empty()).unwrap();
    assert!(!world.answer(refused).await.1.contains_key(header::ETAG), "a problem is not kept");
}

#[tokio::test]
async fn answers_are_compressed_for_who_takes_that_and_streams_are_not() {
    let world = world(ApiSettings { rows_default: 100, rows_max: 100, ..open() });
    let version = world.version(COUNTS, "ann", &(0..100).collect::<Vec<_>>(), &at([5, 7]));
    world.serve(version);
    world.changes.create(&world.table(COUNTS, version), None).unwrap();
    let ask = |path: &str, encoding: &str| Request::get(path).header(header::ACCEPT_ENCODING, encoding).body(Body::empty()).unwrap();
    let rows = "/v1/views/counts/rows?username=ann";
    let plain = to_bytes(world.router.clone().oneshot(ask(rows, "identity")).await.unwrap().into_body(), usize::MAX).await.unwrap();
    for encoding in ["gzip", "zstd"] {
        let response = world.router.clone().oneshot(ask(rows, encoding)).await.unwrap();
        assert_eq!(response.headers()[header::CONTENT_ENCODING], encoding);
        let body = to_bytes(response.into_body(), usize::MAX).await.unwrap();
        assert!(body.len() * 3 < plain.len(), "{} of {} bytes", body.len(), plain.len());
    }
    let refused = world.router.clone().oneshot(ask("/v1/views/%FF", "gzip")).await.unwrap();
    assert_eq!((refused.status(), &refused.headers()[header::CONTENT_TYPE]), (StatusCode::BAD_REQUEST, &PROBLEM_JSON.parse().unwrap()));
    let stream = world.router.clone().oneshot(ask("/v1/views/counts/live?username=ann", "gzip")).await.unwrap();
    assert!(!stream.headers().contains_key(header::CONTENT_ENCODING));
}

struct Redrawn;

impl Definitions for Redrawn {
    fn of(&self, view: &str) -> Result<Option<(String, String)>, String> {
        let sql = match view {
            "top" => TOP.replace("'Busy'", "'Very busy'"),
            _ => COUNTS.replace("WITH (", "WITH (dashboard_title = 'Never', keep = '1 hour', "),
        };
        Ok(Some((format!("{view}.sql"), sql)))
    }
}

#[tokio::test]
async fn a_view_says_how_it_is_drawn() {
    let world = world_with(open(), |ports| ports.definitions = Arc::new(Redrawn));
    let version = world.version(COUNTS, "ann", &[1], &at([1, 1]));
    world.serve(version);
    ranking(&world, 30);
    let (_, top) = world.get("/v1/views/top").await;
    let drawn = json!({
        "kind": "ranking", "title": "Very busy", "label": "username", "value": "posts", "rank": "rank", "time": "slot",
        "series_label": "username", "series": "counts",
    });
    assert_eq!(top["dashboard"], drawn, "a title counts at once: it makes no other version");
    assert_eq!(top["definition"], TOP);
    let roles: Vec<&Value> = top["columns"].as_array().unwrap().iter().map(|column| &column["role"]).collect();
    assert_eq!(roles, ["partition_key", "value", "value", "clustering_key"]);
    assert_eq!(top["order"], json!([{ "column": "rank", "order": "asc" }]));
    let (_, counts) = world.get("/v1/views/counts").await;
    let drawn = json!({
        "kind": "series", "title": "Counts", "label": "username", "value": "posts", "rank": null, "time": "slot",
        "series_label": null, "series": null,
    });
    assert_eq!(counts["dashboard"], drawn, "the file has another definition than readers get");
}

#[tokio::test]
async fn a_ranking_that_does_not_say_finds_the_history_of_what_it_ranks() {
    let world = world(open());
    let version = world.version(COUNTS, "ann", &[1], &at([1, 1]));
    world.serve(version);
    let undrawn = TOP.replace(", dashboard_title = 'Busy', dashboard_series = 'counts'", "");
    let view = world.planner.plan(&undrawn, "test").unwrap();
    let record = register(&world.catalogue, &view, None, "test").unwrap();
    assert_eq!(record.version, Version(1));
    let (_, top) = world.get("/v1/views/top").await;
    assert_eq!((&top["dashboard"]["series"], &top["dashboard"]["title"]), (&json!("counts"), &json!("Top")));
}
