//! Who may come in.

use refold_cassandra::{CassandraSettings, CassandraStore};
use refold_processor::store::{Registers, StoreError};
use refold_tests::services::cassandra::{Cassandra, Options};

/// A wrong password is no reason to try again.
#[test]
fn a_password_is_given_and_a_wrong_one_is_refused_for_good() {
    let node = Cassandra::start_with(Options { passwords: true, ..Options::default() });
    let settings = node.settings("access");
    // The first user is made a moment after the node has begun to listen.
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(60);
    let store = loop {
        match CassandraStore::connect(&settings) {
            Ok(store) => break store,
            Err(error) => assert!(std::time::Instant::now() < deadline, "{error}"),
        }
        std::thread::sleep(std::time::Duration::from_millis(200));
    };
    store.compare_and_set("key", None, Some("value")).unwrap();
    let wrong = CassandraSettings { password: Some("wrong".into()), ..settings.clone() };
    let error = CassandraStore::connect(&wrong).err().unwrap();
    assert!(matches!(error, StoreError::Broken(_)), "{error}");
    assert!(!error.to_string().contains("wrong") && !format!("{wrong:?}").contains("wrong"), "{error}");
    let nobody = CassandraSettings { user: None, password: None, ..settings };
    assert!(matches!(CassandraStore::connect(&nobody), Err(StoreError::Broken(_))));
}

/// Before anything is sent.
#[test]
fn settings_that_cannot_work_are_refused_by_name() {
    let good = CassandraSettings::default();
    let cases = [
        (CassandraSettings { contact_points: vec![], ..good.clone() }, "contact_points"),
        (CassandraSettings { keyspace: "with space".into(), ..good.clone() }, "keyspace"),
        (CassandraSettings { batch_rows: 0, ..good.clone() }, "batch_rows"),
        (CassandraSettings { user: Some("me".into()), ..good.clone() }, "password"),
        (CassandraSettings { batches_in_flight: 0, ..good }, "batches_in_flight"),
    ];
    for (settings, named) in cases {
        let error = CassandraStore::connect(&settings).err().unwrap();
        assert!(matches!(&error, StoreError::Broken(text) if text.contains(named)), "{error}");
    }
}
