//! The rows that the replay wrote, written again by the driver alone, in the order that costs Cassandra least.

use datafusion::arrow::array::{AsArray, RecordBatch};
use datafusion::arrow::datatypes::{Int64Type, TimestampMillisecondType};
use futures::StreamExt;
use refold_cassandra::CassandraStore;
use refold_processor::store::RowReader;
use refold_processor::table::{Table, Version};
use scylla::client::session::Session;
use scylla::client::session_builder::SessionBuilder;
use scylla::statement::batch::{Batch, BatchStatement, BatchType};
use scylla::value::CqlTimestamp;

use crate::figures::Figures;
use crate::replay::cassandra_settings;
use crate::{Site, setting};

const BATCH_ROWS: usize = 50;

type Row = (String, CqlTimestamp, i64, i64);

pub fn run(site: &Site) {
    let rows = rows(site);
    let batches = batches(&rows);
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).thread_name("driver").enable_all().build().unwrap();
    runtime.block_on(async {
        let session = connect(site).await;
        let keyspace = "CREATE KEYSPACE plain WITH replication = {'class': 'SimpleStrategy', 'replication_factor': 1}";
        let table = "CREATE TABLE plain.counts (hashtag text, slot timestamp, occurrences bigint, PRIMARY KEY (hashtag, slot)) \
                     WITH CLUSTERING ORDER BY (slot DESC) AND compaction = {'class': 'UnifiedCompactionStrategy'}";
        for define in [keyspace, table] {
            session.query_unpaged(define, ()).await.unwrap();
        }
        let insert = "INSERT INTO plain.counts (hashtag, slot, occurrences) VALUES (?, ?, ?) USING TIMESTAMP ?";
        let insert = session.prepare(insert).await.unwrap();
        let figures = Figures::start(site);
        let write = |rows: &[Row]| {
            let statements = rows.iter().map(|_| BatchStatement::PreparedStatement(insert.clone())).collect();
            let batch = Batch::new_with_statements(BatchType::Unlogged, statements);
            let (session, rows) = (&session, rows.to_vec());
            async move { session.batch(&batch, rows).await.map(drop).unwrap() }
        };
        let in_flight = setting("PLAIN_IN_FLIGHT", 64) as usize;
        futures::stream::iter(batches).map(write).buffer_unordered(in_flight).for_each(|()| async {}).await;
        figures.print("plain driver, best order", 0, rows.len() as u64);
    });
}

pub async fn connect(site: &Site) -> Session {
    SessionBuilder::new().known_node(format!("127.0.0.1:{}", site.cassandra_port)).build().await.unwrap()
}

/// The rows of the first replay, by hashtag. The live part has not touched it.
fn rows(site: &Site) -> Vec<Row> {
    let view = &site.application.views[0];
    let store = CassandraStore::connect(&cassandra_settings(site, "first")).unwrap();
    let table = Table { view: view.name.clone(), version: Version(1), shape: view.shape.clone() };
    let mut rows: Vec<Row> = store.scan(&table).unwrap().iter().flat_map(rows_of).collect();
    rows.sort_by(|a, b| (&a.0, b.1.0).cmp(&(&b.0, a.1.0)));
    rows
}

fn rows_of(batch: &RecordBatch) -> Vec<Row> {
    let hashtags = datafusion::arrow::compute::cast(&batch.columns()[0], &datafusion::arrow::datatypes::DataType::Utf8).unwrap();
    let hashtags = hashtags.as_string::<i32>();
    let slots = batch.columns()[1].as_primitive::<TimestampMillisecondType>();
    let occurrences = batch.columns()[2].as_primitive::<Int64Type>();
    (0..batch.num_rows())
        .map(|row| (hashtags.value(row).to_owned(), CqlTimestamp(slots.value(row)), occurrences.value(row), 1 << 47))
        .collect()
}

/// Whole partitions, up to so many rows together.
fn batches(rows: &[Row]) -> Vec<&[Row]> {
    let (mut batches, mut start, mut end) = (Vec::new(), 0, 0);
    for partition in rows.chunk_by(|a, b| a.0 == b.0) {
        if end > start && end - start + partition.len() > BATCH_ROWS {
            batches.extend(rows[start..end].chunks(BATCH_ROWS));
            start = end;
        }
        end += partition.len();
    }
    batches.extend(rows[start..end].chunks(BATCH_ROWS));
    batches
}
