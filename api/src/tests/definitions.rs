//! Mistakes in the schemas folder: said as what they are, never as a defect.

use refold_processor::store::RowReader;

use super::*;

const RENAMED: &str = "CREATE MATERIALIZED VIEW counts
WITH (partition_key = 'username', clustering = 'slot DESC', accept_late = '1 day') AS
SELECT username, tumble(timestamp, INTERVAL '5 minutes') AS slot, count(*) AS posts FROM posts GROUP BY username, slot";

#[tokio::test]
async fn a_version_of_a_source_that_is_not_declared_any_more_is_no_defect_of_the_server() {
    let world = world(open());
    let sources: Sources = [("posts".to_owned(), Source { name: "posts".into(), ..tweets() })].into();
    let view = Planner::new(&sources).unwrap().plan(RENAMED, "test").unwrap();
    let record = register(&world.catalogue, &view, None, "test").unwrap();
    world.serve(record.version);
    for path in ["/v1/views/counts/rows?username=ann", "/v1/views/counts/live?username=ann"] {
        let (status, refused) = world.get(path).await;
        assert_eq!((status, &refused["type"]), (StatusCode::CONFLICT, &json!("urn:refold:problem:definition")), "{path}: {refused}");
        let detail = refused["detail"].as_str().unwrap();
        assert!(
            detail.contains("version v1 of view counts") && detail.contains("posts") && detail.contains("refold replay counts"),
            "{detail}"
        );
    }
    for path in ["/v1/views", "/v1/views/counts", "/v1/admin/status", "/metrics", "/", "/v1/sources", "/v1/admin/history"] {
        let (status, answer) = world.get(path).await;
        assert_eq!(status, StatusCode::OK, "{path}: {answer}");
    }
    for path in ["/readyz", "/v1/views/counts/quarantine"] {
        let (status, answer) = world.get(path).await;
        assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE, "{path}: {answer}");
    }
}

#[tokio::test]
async fn a_version_whose_table_has_another_shape_than_the_schema_now_gives_is_no_defect_of_the_server() {
    let world = world(open());
    let view = world.planner.plan(COUNTS, "test").unwrap();
    let record = register(&world.catalogue, &view, None, "test").unwrap();
    let mut shape = view.shape.clone();
    shape.clustering.clear();
    world.store.create_table(&Table { view: "counts".into(), version: record.version, shape }).unwrap();
    world.serve(record.version);
    let table = Table { view: "counts".into(), version: record.version, shape: view.shape.clone() };
    assert!(world.store.progress(&table).is_err());
    let (status, refused) = world.get("/v1/views/counts/rows?username=ann").await;
    assert_eq!((status, &refused["type"]), (StatusCode::CONFLICT, &json!("urn:refold:problem:definition")), "{refused}");
    for path in ["/v1/views/counts", "/v1/admin/status"] {
        let (status, answer) = world.get(path).await;
        assert_eq!(status, StatusCode::OK, "one version does not hide the others: {path}: {answer}");
    }
}

struct Unreadable;

impl Definitions for Unreadable {
    fn of(&self, _: &str) -> Result<Option<(String, String)>, String> {
        Err("views/counts.sql:3: the file is not UTF-8; save it in that encoding".into())
    }
}

#[tokio::test]
async fn a_view_file_that_cannot_be_read_is_named_to_who_asks_for_a_replay() {
    let world = world_with(open(), |ports| ports.definitions = Arc::new(Unreadable));
    let (status, refused) = world.post("/v1/admin/views/counts/replay", "application/json", "{}").await;
    assert_eq!((status, &refused["type"]), (StatusCode::UNPROCESSABLE_ENTITY, &json!("urn:refold:problem:view")), "{refused}");
    assert!(refused["detail"].as_str().unwrap().starts_with("views/counts.sql:3"), "{refused}");
}

#[tokio::test]
async fn a_page_whose_name_was_made_to_point_here_reads_and_posts_nothing() {
    let world = world(ApiSettings { own_names: Some(vec!["refold.local".into()]), ..open() });
    let version = world.version(COUNTS, "ann", &[10], &at([1, 1]));
    world.serve(version);
    let get = |path: &str, host: &str| Request::get(path).header(header::HOST, host).body(Body::empty()).unwrap();
    for path in ["/v1/views/counts/rows?username=ann", "/v1/views", "/v1/admin/status", "/", "/readyz"] {
        let (status, _, refused) = world.answer(get(path, "evil.example:7070")).await;
        assert_eq!((status, &refused["type"]), (StatusCode::FORBIDDEN, &json!("urn:refold:problem:host")), "{path}: {refused}");
        for own in ["localhost:7070", "127.0.0.1:7070", "refold.local:7070"] {
            assert_eq!(world.answer(get(path, own)).await.0, StatusCode::OK, "{path} of {own}");
        }
    }
    let request =
        Request::post("/v1/sources/tweets/events").header(header::HOST, "evil.example").header(header::ORIGIN, "http://evil.example");
    let (status, ..) = world.answer(request.body(Body::from("{\"username\":\"ann\",\"timestamp\":0}")).unwrap()).await;
    assert_eq!(status, StatusCode::FORBIDDEN);
    assert_eq!(
        world.log.bounds("tweet_feed", Partition(0)).unwrap().end.0 + world.log.bounds("tweet_feed", Partition(1)).unwrap().end.0,
        0
    );
}
