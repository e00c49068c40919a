//! A small application over ports in memory: what the tests of routes share.

use super::*;

pub(super) const COUNTS: &str = "CREATE MATERIALIZED VIEW counts
WITH (partition_key = 'username', clustering = 'slot DESC', accept_late = '1 day') AS
SELECT username, tumble(timestamp, INTERVAL '5 minutes') AS slot, count(*) AS posts FROM tweets GROUP BY username, slot";

pub(super) const KEPT: &str = "CREATE MATERIALIZED VIEW counts
WITH (partition_key = 'username', clustering = 'slot DESC', accept_late = '1 minute', keep = '1 hour') AS
SELECT username, tumble(timestamp, INTERVAL '5 minutes') AS slot, count(*) AS posts FROM tweets GROUP BY username, slot";

pub(super) const MINUTE_MS: i64 = 60_000;
pub(super) const LEASE_MS: i64 = 10_000;

#[derive(Default)]
pub(super) struct Told {
    pub(super) statuses: Mutex<Vec<RunStatus>>,
    pub(super) quarantine: MemoryState,
    pub(super) looks: AtomicUsize,
}

impl Running for Told {
    fn status(&self) -> Vec<RunStatus> {
        self.statuses.lock().clone()
    }

    fn look(&self) {
        self.looks.fetch_add(1, Ordering::SeqCst);
    }

    fn quarantined(&self, view: &str, version: Version, wanted: &Wanted) -> Result<Option<Page>, EngineError> {
        let is_running = self.statuses.lock().iter().any(|status| status.view == view && status.version == Some(version));
        is_running.then(|| quarantined::read(&self.quarantine, wanted)).transpose()
    }
}

pub(super) struct Declared;

impl Definitions for Declared {
    fn of(&self, view: &str) -> Result<Option<(String, String)>, String> {
        Ok((view == "counts").then(|| ("views/counts.sql".into(), COUNTS.into())))
    }
}

pub(super) struct World {
    pub(super) router: Router,
    pub(super) catalogue: Catalogue,
    pub(super) store: Arc<MemoryStore>,
    pub(super) log: Arc<MemoryLog>,
    pub(super) told: Arc<Told>,
    pub(super) changes: Arc<LocalFeed>,
    pub(super) collected: Arc<Collected>,
    pub(super) state: ApiState,
    pub(super) planner: Planner,
    pub(super) clock: Arc<ManualClock>,
}

pub(super) fn owner(name: &str) -> Owner {
    Owner { name: name.into(), incarnation: Incarnation { id: name.into(), replaces: None } }
}

pub(super) fn tweets() -> Source {
    Source {
        name: "tweets".into(),
        topic: "tweet_feed".into(),
        schema_name: "tweet".into(),
        schema_json: r#"{"type": "record", "name": "tweet", "fields": [
            {"name": "username", "type": "string"},
            {"name": "timestamp", "type": {"type": "long", "logicalType": "timestamp-millis"}}]}"#
            .into(),
        event_time: "timestamp".into(),
        key: Some("username".into()),
        partitions: 2,
        framing: Framing::Confluent,
        event_time_unit: None,
        lateness_us: 0,
        future_tolerance_us: 0,
        max_record_bytes: 16 << 10,
        retention: Default::default(),
    }
}

pub(super) fn world(settings: ApiSettings) -> World {
    world_with(settings, |_| {})
}

/// The same over other ports.
pub(super) fn world_with(settings: ApiSettings, change: impl FnOnce(&mut Ports)) -> World {
    let clock = Arc::new(ManualClock::at(0));
    let store = Arc::new(MemoryStore::new());
    let log = Arc::new(MemoryLog::new(clock.clone()));
    log.create_topic("tweet_feed", 2).unwrap();
    let catalogue = Catalogue::new(store.clone(), clock.clone());
    let sources: Sources = [("tweets".to_owned(), tweets())].into();
    let mut schemas = StaticSchemas::default();
    schemas.add_with_id(1, &tweets().schema_json).unwrap();
    let told = Arc::new(Told::default());
    let changes = Arc::new(LocalFeed::default());
    let planner = Planner::new(&sources).unwrap();
    let collected = Arc::new(Collected::new("generate:1", "tweets"));
    collected.note_end();
    let mut ports = Ports {
        catalogue: catalogue.clone(),
        rows: store.clone(),
        changes: changes.clone(),
        log: log.clone(),
        schemas: Arc::new(schemas),
        sources,
        schema_ids: [("tweets".to_owned(), 1)].into(),
        running: told.clone(),
        collected: Some(collected.clone()),
        definitions: Arc::new(Declared),
        clock: clock.clone(),
    };
    change(&mut ports);
    let mut state = ApiState::new(ports, settings).unwrap();
    // Whether one was built or not.
    state.dashboard = crate::routes::assets::Dashboard::of(&[]);
    World { router: router(state.clone()), catalogue, store, log, clock, told, changes, collected, state, planner }
}

/// A listener that only this machine reaches, without a token.
pub(super) fn local() -> AccessSettings {
    AccessSettings { is_local: true, ..AccessSettings::default() }
}

/// The same with the token `secret`.
pub(super) fn with_token() -> AccessSettings {
    AccessSettings { token: Some("secret".into()), ..local() }
}

pub(super) fn open() -> ApiSettings {
    ApiSettings { access: local(), rows_default: 2, rows_max: 5, max_body_bytes: 4 << 10, ..ApiSettings::default() }
}

impl World {
    /// What is answered to a JSON body.
    pub(super) async fn ask(&self, path: &str, body: Value) -> (StatusCode, Value) {
        self.post(path, "application/json", body.to_string()).await
    }

    /// A version of `sql` with rows of one user, one a slot of five minutes.
    pub(super) fn version(&self, sql: &str, user: &str, posts: &[i64], progress: &Progress) -> Version {
        let view = self.planner.plan(sql, "test").unwrap();
        let record = register(&self.catalogue, &view, None, "test").unwrap();
        let table = Table { view: view.name.clone(), version: record.version, shape: view.shape.clone() };
        self.store.create_table(&table).unwrap();
        let slots = (0..posts.len() as i64).map(|slot| slot * 5 * MINUTE_MS);
        let columns: [ArrayRef; 3] = [
            Arc::new(StringArray::from(vec![user; posts.len()])),
            Arc::new(TimestampMillisecondArray::from_iter_values(slots).with_timezone("+00:00")),
            Arc::new(Int64Array::from(posts.to_vec())),
        ];
        let fields = view.shape.columns.fields();
        let columns = columns.iter().zip(fields).map(|(column, field)| cast(column, field.data_type()).unwrap()).collect();
        let rows = RecordBatch::try_new(view.shape.columns.clone(), columns).unwrap();
        let batch = RowBatch { written_at: vec![1; posts.len()], deleted: vec![false; posts.len()], rows };
        self.store.write(&table, &batch).unwrap();
        self.store.tell(&table, Epoch(1), progress).unwrap();
        self.take(record.version, "worker", LEASE_MS);
        record.version
    }

    /// Has a worker take a version, with a lease of this length from now on.
    pub(super) fn take(&self, version: Version, name: &str, lease_ms: i64) {
        self.catalogue.renew(&owner(name), lease_ms, None).unwrap();
        self.catalogue.take("counts", version, &owner(name), None).unwrap();
    }

    pub(super) fn serve(&self, version: Version) {
        self.catalogue.set_state("counts", version, &[VersionState::Building], VersionState::CaughtUp, "test").unwrap();
        let active = self.catalogue.active("counts").unwrap().map(|active| active.version);
        self.catalogue.switch("counts", active, version, "test", None).unwrap();
    }

    pub(super) async fn answer(&self, request: Request<Body>) -> (StatusCode, HeaderMap, Value) {
        let response = self.router.clone().oneshot(request).await.unwrap();
        let (parts, body) = response.into_parts();
        let body = to_bytes(body, usize::MAX).await.unwrap();
        let document = serde_json::from_slice(&body).unwrap_or_else(|_| Value::String(String::from_utf8_lossy(&body).into_owned()));
        (parts.status, parts.headers, document)
    }

    pub(super) async fn get(&self, path: &str) -> (StatusCode, Value) {
        let (status, _, document) = self.answer(Request::get(path).body(Body::empty()).unwrap()).await;
        (status, document)
    }

    pub(super) async fn post(&self, path: &str, content_type: &str, body: impl Into<Body>) -> (StatusCode, Value) {
        let request = Request::post(path).header(header::CONTENT_TYPE, content_type).body(body.into()).unwrap();
        let (status, _, document) = self.answer(request).await;
        (status, document)
    }
}

impl World {
    pub(super) fn table(&self, sql: &str, version: Version) -> Table {
        let view = self.planner.plan(sql, "test").unwrap();
        Table { view: view.name.clone(), version, shape: view.shape.clone() }
    }

    /// Writes rows as the owner of a version does: into the store, and then to those who follow; `posts` of `None` deletes.
    pub(super) fn put(&self, table: &Table, rows: &[(&str, i64, Option<i64>)], progress: &Progress) {
        let columns: [ArrayRef; 3] = [
            Arc::new(StringArray::from_iter_values(rows.iter().map(|row| row.0))),
            Arc::new(TimestampMillisecondArray::from_iter_values(rows.iter().map(|row| row.1)).with_timezone("+00:00")),
            Arc::new(Int64Array::from_iter(rows.iter().map(|row| row.2))),
        ];
        self.put_columns(table, &columns, &rows.iter().map(|row| row.2.is_none()).collect::<Vec<_>>(), progress);
    }

    pub(super) fn put_columns(&self, table: &Table, columns: &[ArrayRef], deleted: &[bool], progress: &Progress) {
        let fields = table.shape.columns.fields();
        let columns = columns.iter().zip(fields).map(|(column, field)| cast(column, field.data_type()).unwrap()).collect();
        let rows = RecordBatch::try_new(table.shape.columns.clone(), columns).unwrap();
        let written_at = vec![(1 << 47) + progress.visible.sum() as i64; deleted.len()];
        let batch = RowBatch { rows, written_at, deleted: deleted.to_vec() };
        self.store.write(table, &batch).unwrap();
        self.store.tell(table, Epoch(1), progress).unwrap();
        self.changes.publish(table, &[batch], progress).unwrap();
    }
}

pub(super) fn at(offsets: [u64; 2]) -> Progress {
    let cut: Cut = [(Partition(0), Offset(offsets[0])), (Partition(1), Offset(offsets[1]))].into_iter().collect();
    Progress { visible: cut.clone(), writing: cut, watermark_us: Some(90 * 60 * 1_000_000), ..Progress::default() }
}
