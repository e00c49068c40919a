//! What someone sees who reads the tables with plain CQL, without Refold.

use std::sync::Arc;

use datafusion::arrow::array::*;
use datafusion::arrow::datatypes::{DataType, Field, Schema};
use refold_processor::store::{RowBatch, RowReader, RowWriter};
use refold_processor::table::{Order, Table, TableShape, Version};
use refold_tests::services::cassandra::Cassandra;
use scylla::client::session::Session;
use scylla::client::session_builder::SessionBuilder;
use scylla::value::{CqlDate, CqlTimestamp, CqlValue, Row};

use super::node;

/// A session of one's own.
pub struct Plain {
    runtime: tokio::runtime::Runtime,
    session: Session,
}

impl Plain {
    pub fn connect() -> Plain {
        Plain::to(node())
    }

    pub fn to(node: &Cassandra) -> Plain {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let address = format!("127.0.0.1:{}", node.port);
        let session = runtime.block_on(SessionBuilder::new().known_node(address).build()).unwrap();
        Plain { runtime, session }
    }

    pub fn run(&self, cql: &str) {
        self.runtime.block_on(self.session.query_unpaged(cql, ())).unwrap();
    }

    pub fn rows(&self, cql: &str) -> Vec<Vec<Option<CqlValue>>> {
        let result = self.runtime.block_on(self.session.query_unpaged(cql, ())).unwrap().into_rows_result().unwrap();
        result.rows::<Row>().unwrap().map(|row| row.unwrap().columns).collect()
    }

    pub fn numbers(&self, cql: &str) -> Vec<i64> {
        self.rows(cql).into_iter().map(|row| row[0].as_ref().unwrap().as_bigint().unwrap()).collect()
    }

    pub fn texts(&self, cql: &str) -> Vec<String> {
        self.rows(cql).into_iter().map(|row| row[0].as_ref().unwrap().as_text().unwrap().clone()).collect()
    }

    pub fn table_id(&self, keyspace: &str, table: &str) -> String {
        let cql = format!("SELECT id FROM system_schema.tables WHERE keyspace_name = '{keyspace}' AND table_name = '{table}'");
        self.rows(&cql)[0][0].as_ref().unwrap().as_uuid().unwrap().to_string()
    }
}

/// A view called by a reserved word, with columns of names that need quotes.
#[test]
fn rows_have_the_types_that_a_cql_user_expects() {
    let store = node().store("plain");
    let columns = Schema::new(vec![
        Field::new("order", DataType::Utf8, false),
        Field::new("Day of \"it\"", DataType::Date32, false),
        Field::new("seen", DataType::Timestamp(datafusion::arrow::datatypes::TimeUnit::Millisecond, Some("+00:00".into())), true),
        Field::new("total", DataType::UInt64, true),
        Field::new("price", DataType::Decimal128(10, 2), true),
        Field::new("share", DataType::Float64, true),
        Field::new("open", DataType::Boolean, true),
    ]);
    let shape = TableShape { columns: Arc::new(columns), partition_key: vec![0], clustering: vec![(1, Order::Desc)] };
    let table = Table { view: "view".into(), version: Version(3), shape };
    store.create_table(&table).unwrap();
    let columns: Vec<ArrayRef> = vec![
        Arc::new(StringArray::from(vec!["a", "a", "b"])),
        Arc::new(Date32Array::from(vec![20_000, 20_001, -1])),
        Arc::new(TimestampMillisecondArray::from(vec![Some(1_700_000_000_123), None, Some(-1)]).with_timezone("+00:00")),
        Arc::new(UInt64Array::from(vec![Some(u64::MAX), Some(5), None])),
        Arc::new(Decimal128Array::from(vec![Some(-12_345), Some(100), None]).with_precision_and_scale(10, 2).unwrap()),
        Arc::new(Float64Array::from(vec![Some(f64::INFINITY), Some(0.25), None])),
        Arc::new(BooleanArray::from(vec![Some(true), None, Some(false)])),
    ];
    let rows = RecordBatch::try_new(table.shape.columns.clone(), columns).unwrap();
    store.write(&table, &RowBatch { rows, written_at: vec![7; 3], deleted: vec![false; 3] }).unwrap();

    let plain = Plain::connect();
    let found = plain
        .rows("SELECT \"Day of \"\"it\"\"\", seen, total, price, share, open, writetime(open) FROM plain.view__v3 WHERE \"order\" = 'a'");
    let day = |days: u32| Some(CqlValue::Date(CqlDate((1 << 31) + days)));
    assert_eq!(found.len(), 2);
    assert_eq!(found[0][0], day(20_001), "the latest first, as declared");
    assert_eq!((&found[0][1], &found[0][5]), (&None, &None));
    assert_eq!(found[1][0], day(20_000));
    assert_eq!(found[1][1], Some(CqlValue::Timestamp(CqlTimestamp(1_700_000_000_123))));
    assert_eq!(found[1][4], Some(CqlValue::Double(f64::INFINITY)));
    assert_eq!(found[1][5], Some(CqlValue::Boolean(true)));
    assert_eq!(found[1][6], Some(CqlValue::BigInt(7)), "the write time is the engine's");
    let json = plain.texts("SELECT JSON total, price FROM plain.view__v3 WHERE \"order\" = 'a'");
    assert_eq!(json, [r#"{"total": 5, "price": 1.00}"#, r#"{"total": 18446744073709551615, "price": -123.45}"#]);
    let types = plain.rows("SELECT column_name, type FROM system_schema.columns WHERE keyspace_name = 'plain' AND table_name = 'view__v3'");
    let types: Vec<(String, String)> = types
        .into_iter()
        .map(|row| (row[0].as_ref().unwrap().as_text().unwrap().clone(), row[1].as_ref().unwrap().as_text().unwrap().clone()))
        .collect();
    let expected = [
        ("Day of \"it\"", "date"),
        ("open", "boolean"),
        ("order", "text"),
        ("price", "decimal"),
        ("seen", "timestamp"),
        ("share", "double"),
        ("total", "varint"),
    ];
    assert_eq!(types, expected.map(|(name, of)| (name.to_owned(), of.to_owned())));
    let compaction = plain.rows("SELECT compaction FROM system_schema.tables WHERE keyspace_name = 'plain' AND table_name = 'view__v3'");
    assert!(format!("{compaction:?}").contains("UnifiedCompactionStrategy"));
    assert_eq!(store.scan(&table).unwrap().iter().map(RecordBatch::num_rows).sum::<usize>(), 3);
}

/// A table of someone else's is neither written to nor dropped.
#[test]
fn a_table_that_is_not_ours_is_left_alone() {
    let store = node().store("plain");
    let plain = Plain::connect();
    plain.run("CREATE TABLE plain.foreign__v1 (hashtag text PRIMARY KEY)");
    let table = super::counts("foreign");
    let error = store.create_table(&table).unwrap_err();
    assert!(error.to_string().contains("not made by Refold"), "{error}");
    assert!(store.read(&table, &super::whole("rust")).is_err());
    assert!(store.drop_table(&table).unwrap_err().to_string().contains("not made by Refold"));
    plain.table_id("plain", "foreign__v1");
    let long = super::counts("a_name_that_is_too_long_for_cassandra_by_a_few_letters");
    let error = store.create_table(&long).unwrap_err();
    assert!(error.to_string().contains("rename view"), "{error}");
}
