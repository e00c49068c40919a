//! The views that simulations run: every way in which the engine brings rows to readers.

use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock};

use refold_processor::decode::arrow_schema;
use refold_processor::view::View;

use super::events;

const VIEWS: [&str; 9] = [
    "CREATE MATERIALIZED VIEW counts WITH (partition_key = 'key', clustering = 'slot DESC') AS
     SELECT key, tumble(at, INTERVAL '10 seconds') AS slot, count(*) AS n, sum(amount) AS total FROM events GROUP BY key, slot",
    "CREATE MATERIALIZED VIEW counts_on_time WITH (partition_key = 'key', clustering = 'slot', accept_late = '12 seconds') AS
     SELECT key, tumble(at, INTERVAL '5 seconds') AS slot, count(*) AS n FROM events GROUP BY key, slot",
    "CREATE MATERIALIZED VIEW often WITH (partition_key = 'slot', clustering = 'key', accept_late = '30 seconds') AS
     SELECT key, tumble(at, INTERVAL '10 seconds') AS slot, sum(amount) AS total, max(amount) AS most
     FROM events WHERE amount <> 3 GROUP BY key, slot HAVING sum(amount) > 10",
    "CREATE MATERIALIZED VIEW top WITH (partition_key = 'slot', clustering = 'rank', accept_late = '20 seconds') AS
     SELECT slot, key, sum(amount) AS total, row_number() OVER (PARTITION BY slot ORDER BY sum(amount) DESC, key) AS rank
     FROM (SELECT unnest(hop(at, INTERVAL '5 seconds', INTERVAL '20 seconds')) AS slot, key, amount FROM events)
     GROUP BY slot, key QUALIFY rank <= 3",
    "CREATE MATERIALIZED VIEW sliding WITH (partition_key = 'key', clustering = 'slot', accept_late = '20 seconds') AS
     SELECT slot, key, count(*) AS n, min(amount) AS least, max(amount) AS most
     FROM (SELECT unnest(hop(at, INTERVAL '4 seconds', INTERVAL '10 seconds')) AS slot, key, amount FROM events) GROUP BY slot, key",
    "CREATE MATERIALIZED VIEW seldom WITH (partition_key = 'key', clustering = 'slot', accept_late = '20 seconds') AS
     SELECT slot, key, count(*) AS n
     FROM (SELECT unnest(hop(at, INTERVAL '4 seconds', INTERVAL '10 seconds')) AS slot, key, amount FROM events)
     GROUP BY slot, key HAVING count(*) <= 2",
    "CREATE MATERIALIZED VIEW totals WITH (partition_key = 'key', unbounded = true) AS
     SELECT key, count(*) AS n, sum(amount) AS total FROM events GROUP BY key",
    "CREATE MATERIALIZED VIEW top_slots WITH (partition_key = 'slot', clustering = 'rank', accept_late = '1 minute') AS
     SELECT slot, key, sum(amount) AS total, row_number() OVER (PARTITION BY slot ORDER BY sum(amount), key) AS rank
     FROM (SELECT tumble(at, INTERVAL '10 seconds') AS slot, key, amount FROM events) GROUP BY slot, key QUALIFY rank <= 2",
    "CREATE MATERIALIZED VIEW top_seldom WITH (partition_key = 'slot', clustering = 'rank', accept_late = '20 seconds') AS
     SELECT slot, key, count(*) AS n, row_number() OVER (PARTITION BY slot ORDER BY count(*) DESC, key) AS rank
     FROM (SELECT tumble(at, INTERVAL '10 seconds') AS slot, key, amount FROM events)
     GROUP BY slot, key HAVING count(*) <= 2 QUALIFY rank <= 4",
];

/// All views, planned once.
pub fn all() -> &'static [Arc<View>] {
    static PLANNED: OnceLock<Vec<Arc<View>>> = OnceLock::new();
    PLANNED.get_or_init(|| {
        let schema = arrow_schema(&events::source(1).schema_json).unwrap();
        let sources = BTreeMap::from([("events".to_owned(), schema)]);
        VIEWS.iter().map(|sql| Arc::new(View::plan(sql, "simulation", &sources).unwrap())).collect()
    })
}

/// Whether a row's count can only grow while events arrive.
pub fn is_monotonic(view: &View) -> bool {
    view.name.starts_with("counts") || view.name == "totals"
}
