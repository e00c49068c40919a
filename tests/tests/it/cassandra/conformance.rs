//! The port's own suite, on each release. The checks share a keyspace, as their tables differ; each has a catalogue of its own.

use std::sync::atomic::{AtomicUsize, Ordering};

use refold_cassandra::{CassandraSettings, CassandraStore};
use refold_processor::store::Store;
use refold_processor::store::conformance::Harness;

use refold_tests::services::cassandra::Cassandra;

struct OnCassandra {
    settings: CassandraSettings,
    store: Option<CassandraStore>,
}

impl OnCassandra {
    fn new(node: &Cassandra) -> Self {
        static NEXT: AtomicUsize = AtomicUsize::new(0);
        let catalogue = format!("catalogue {}", NEXT.fetch_add(1, Ordering::Relaxed));
        let settings = CassandraSettings { catalogue, ..node.settings("conformance") };
        let store = CassandraStore::connect(&settings).unwrap();
        OnCassandra { settings, store: Some(store) }
    }
}

impl Harness for OnCassandra {
    fn store(&self) -> &dyn Store {
        self.store.as_ref().unwrap()
    }

    fn reopen(&mut self) -> bool {
        self.store = None;
        self.store = Some(CassandraStore::connect(&self.settings).unwrap());
        true
    }
}

mod release_5_0 {
    use super::OnCassandra;
    use crate::cassandra::node;

    refold_processor::store_conformance!(OnCassandra::new(node()));
}

mod release_4_1 {
    use std::sync::OnceLock;

    use refold_tests::services::cassandra::{Cassandra, Options, Release};

    use super::OnCassandra;

    fn node() -> &'static Cassandra {
        static NODE: OnceLock<Cassandra> = OnceLock::new();
        NODE.get_or_init(|| Cassandra::start_with(Options { release: Release::V4_1, ..Options::default() }))
    }

    refold_processor::store_conformance!(OnCassandra::new(node()));
}
