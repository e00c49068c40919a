//! The one table of all settings.
//!
//! A setting is, in order of precedence: a flag (`--commit-interval-ms 20`), an environment variable (`REFOLD_COMMIT_INTERVAL_MS`), a line of `refold.toml`
//! (`commit_interval_ms = 20`), the default here.

/// A verb that has settings.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// `refold up`
    Up,
    /// `refold process`
    Process,
    /// `refold serve`
    Serve,
    /// `refold collect`
    Collect,
    /// `refold check`
    Check,
    /// Verbs that speak to a running process.
    Client,
    /// Verbs that compare the schemas folder with a running process.
    Plan,
}

/// What a value may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Any text.
    Text,
    /// A folder.
    Folder,
    /// A file.
    File,
    /// An address to listen on, `HOST:PORT`.
    Address,
    /// `http://HOST:PORT`.
    Url,
    /// A whole number within bounds.
    Number(u64, u64),
    /// `true` or `false`.
    Switch,
}

/// One setting.
#[derive(Clone, Copy, Debug)]
pub struct Setting {
    /// Its flag, without the dashes; with underscores it is the key in `refold.toml`.
    pub flag: &'static str,
    /// What a value may be.
    pub kind: Kind,
    /// The value when nobody says one; empty: none.
    pub default: &'static str,
    /// The verbs that have it.
    pub scopes: &'static [Scope],
    /// Whether most people never need it: it is left out of `-h`.
    pub tuning: bool,
    /// What it means.
    pub meaning: &'static str,
}

impl Setting {
    /// The key in `refold.toml`.
    pub fn key(&self) -> String {
        self.flag.replace('-', "_")
    }

    /// The environment variable.
    pub fn variable(&self) -> String {
        format!("REFOLD_{}", self.key().to_uppercase())
    }
}

const fn plain(flag: &'static str, kind: Kind, default: &'static str, scopes: &'static [Scope], meaning: &'static str) -> Setting {
    Setting { flag, kind, default, scopes, tuning: false, meaning }
}

const fn tuning(flag: &'static str, kind: Kind, default: &'static str, scopes: &'static [Scope], meaning: &'static str) -> Setting {
    Setting { flag, kind, default, scopes, tuning: true, meaning }
}

const ALL: &[Scope] = &[Scope::Up, Scope::Process, Scope::Serve, Scope::Collect, Scope::Check, Scope::Client, Scope::Plan];
const LOCAL: &[Scope] = &[Scope::Up, Scope::Process, Scope::Serve, Scope::Collect, Scope::Check, Scope::Plan];
const DATA: &[Scope] = &[Scope::Up, Scope::Process, Scope::Collect];
const UP: &[Scope] = &[Scope::Up];
/// Verbs that collect.
const COLLECTING: &[Scope] = &[Scope::Up, Scope::Collect];
/// Verbs that run versions.
const ENGINE: &[Scope] = &[Scope::Up, Scope::Process];
/// Verbs that answer HTTP.
const API: &[Scope] = &[Scope::Up, Scope::Process, Scope::Serve];
/// Verbs that open the log.
const LOG: &[Scope] = &[Scope::Up, Scope::Process, Scope::Serve, Scope::Collect];
/// Verbs that open the view store.
const STORE: &[Scope] = API;
const CLIENT: &[Scope] = &[Scope::Client, Scope::Plan];
const TOKEN: &[Scope] = &[Scope::Up, Scope::Process, Scope::Serve, Scope::Collect, Scope::Client, Scope::Plan];

/// The longest time in milliseconds: a century.
const CENTURY_MS: u64 = 100 * 365 * 86_400_000;

/// All settings.
pub const SETTINGS: &[Setting] = &[
    plain("data", Kind::Folder, "./refold-data", DATA, "The folder of log, rows, state and resume points"),
    plain("schemas", Kind::Folder, "schemas", LOCAL, "The folder of sources.toml, events/*.avsc and views/*.sql"),
    plain(
        "app",
        Kind::Text,
        "",
        LOCAL,
        "An application of the folder apps, instead of schemas: apps/NAME; its data folder is ./refold-data-NAME unless told",
    ),
    plain(
        "listen",
        Kind::Address,
        "127.0.0.1:7070",
        API,
        "The address of the API; port 0 takes a free one; refold process takes port 7071 unless told",
    ),
    plain(
        "source",
        Kind::Text,
        "generate:20?backlog=3d&backlog_rate=3",
        UP,
        "Where events come from: generate:RATE?backlog=DURATION, jsonl:FILE (- is standard input), bluesky, wikimedia, mastodon:HOST, x, sse:URL, \
         websocket:URL, http:URL, stream:NAME, or none, which is the default over Kafka; a source that declares what to collect has that as its default",
    ),
    plain("into", Kind::Text, "", UP, "The declared source that the events of --source are of; needed when several are declared"),
    plain(
        "contact",
        Kind::Text,
        "",
        COLLECTING,
        "An address of yours, such as a mail address, which is said to live sources that want to know who asks (wikimedia)",
    ),
    plain("kafka", Kind::Text, "", LOG, "Kafka as the log: some of its brokers, HOST:PORT,…; without it the log is in the data folder"),
    plain(
        "kafka-config",
        Kind::File,
        "",
        LOG,
        "A file of librdkafka properties, NAME=VALUE a line, for instance for passwords and certificates",
    ),
    plain(
        "registry",
        Kind::Text,
        "",
        LOG,
        "The schema registry, http://HOST:PORT; without it writers' schemas are in the schemas folder and the catalogue",
    ),
    plain(
        "registry-auth",
        Kind::Text,
        "",
        LOG,
        "Credentials for the registry, USER:PASSWORD; visible in ps when given as a flag: prefer registry_auth_file",
    ),
    plain("registry-auth-file", Kind::File, "", LOG, "A file with the credentials for the registry, USER:PASSWORD"),
    plain(
        "cassandra",
        Kind::Text,
        "",
        STORE,
        "Cassandra as the view store: some of its nodes, HOST:PORT,…; without it rows are in the data folder",
    ),
    plain("cassandra-keyspace", Kind::Text, "refold", STORE, "The keyspace of tables and catalogue; it is made when it is not there"),
    plain(
        "cassandra-config",
        Kind::File,
        "",
        STORE,
        "A TOML file of further settings of Cassandra: user, password, tls, replication, consistency",
    ),
    plain("server", Kind::Url, "http://127.0.0.1:7070", CLIENT, "The address of a running refold up"),
    plain(
        "own-names",
        Kind::Text,
        "",
        API,
        "Host names of the API, NAME,…; on a loopback address it accepts only localhost, addresses and these names",
    ),
    plain(
        "token",
        Kind::Text,
        "",
        TOKEN,
        "The bearer token of role admin, one is needed when listening beyond this machine; visible in ps when given as a flag: prefer token_file",
    ),
    plain("token-file", Kind::File, "", TOKEN, "A file with the token in it"),
    plain(
        "tokens-file",
        Kind::File,
        "",
        API,
        "A TOML file of further tokens with roles, read again when it has changed: [[token]] with name, role (read, operate, admin) and sha256",
    ),
    plain(
        "public-reads",
        Kind::Switch,
        "false",
        API,
        "Whoever reaches the API may read views without a token; on a loopback address they may anyway",
    ),
    plain("origins", Kind::Text, "", API, "Origins of other sites whose pages may use the API, https://HOST,…"),
    plain(
        "tls-certificate",
        Kind::File,
        "",
        API,
        "The certificate of the API and those that it is signed by, PEM; with it the API speaks TLS; read again when it has changed",
    ),
    plain("tls-key", Kind::File, "", API, "The key of the certificate, PEM"),
    plain("memory-mb", Kind::Number(192, 1 << 20), "512", ENGINE, "Memory of the process, MiB; what of the state does not fit is on disk"),
    plain(
        "threads",
        Kind::Number(0, 1024),
        "0",
        ENGINE,
        "Threads that read and decode, for each read of the log; 0: one for each processor",
    ),
    plain(
        "log",
        Kind::Text,
        "warn,refold_processor=info,refold_collector=info,refold_api=info,refold_replayer=info",
        ALL,
        "What is written to stderr: tracing filters",
    ),
    plain("log-json", Kind::Switch, "false", ALL, "Writes it as JSON, one object a line"),
    tuning("shards", Kind::Number(0, 1024), "0", ENGINE, "Shards of each version, merged in parallel; 0: one for each processor"),
    tuning("chunk-kb", Kind::Number(16, 65_536), "1024", ENGINE, "About how much is read from the log at a time, KiB of records"),
    tuning(
        "commit-interval-ms",
        Kind::Number(1, 60_000),
        "20",
        ENGINE,
        "A version in service commits so long after the first event of a commit, milliseconds; while its rows wait for the view store, later, up to building_commit_interval_ms",
    ),
    tuning(
        "building-commit-interval-ms",
        Kind::Number(1, 600_000),
        "1000",
        ENGINE,
        "A version that is being built commits so often, milliseconds",
    ),
    tuning(
        "sweep-windows",
        Kind::Number(1, 1 << 20),
        "64",
        ENGINE,
        "A version that is being built writes the rows of closed windows when so many have closed",
    ),
    tuning(
        "caught-up-lag-events",
        Kind::Number(0, 1 << 40),
        "1000",
        API,
        "A version is caught up when it is at most so many events behind the log; a switch to a version with more lag than this is refused",
    ),
    tuning(
        "quarantine-percent",
        Kind::Number(0, 100),
        "1",
        API,
        "A switch is refused when the new version quarantines a share of its events that is by more than so many percentage points greater than that of the version in service; so too of late events",
    ),
    tuning(
        "drop-grace-ms",
        Kind::Number(0, CENTURY_MS),
        "600000",
        API,
        "A version that was in service is not dropped for so long after, milliseconds, unless with --force",
    ),
    tuning(
        "retire-after-ms",
        Kind::Number(0, CENTURY_MS),
        "0",
        API,
        "A retired version is dropped by itself so long after it was retired, milliseconds; 0: never; the same for all processes",
    ),
    tuning("queued-rows", Kind::Number(100, 1 << 30), "100000", ENGINE, "Rows of a version that may wait in memory to be written"),
    tuning("rows-per-write", Kind::Number(1, 1 << 20), "5000", ENGINE, "Rows written at a time"),
    tuning(
        "idle-after-ms",
        Kind::Number(10, CENTURY_MS),
        "5000",
        ENGINE,
        "A partition that is read to its end and quiet for so long holds the watermark back no more, milliseconds",
    ),
    tuning(
        "idle-drop-after-ms",
        Kind::Number(10, CENTURY_MS),
        "86400000",
        ENGINE,
        "A partition that is quiet for so long keeps no state from being dropped, milliseconds",
    ),
    tuning(
        "lease-ms",
        Kind::Number(1_000, 600_000),
        "10000",
        ENGINE,
        "How long a worker keeps its versions unless it renews its lease, milliseconds",
    ),
    tuning(
        "reconcile-interval-ms",
        Kind::Number(10, 60_000),
        "500",
        ENGINE,
        "How often the catalogue is looked at, milliseconds; at most a third of the lease",
    ),
    tuning("log-retention-ms", Kind::Number(0, CENTURY_MS), "0", UP, "Events older than this leave the log, milliseconds; 0: never"),
    tuning("log-retention-mb", Kind::Number(0, 1 << 40), "0", UP, "A partition larger than this loses its oldest events, MiB; 0: never"),
    tuning("log-block-kb", Kind::Number(4, 65_536), "256", UP, "The size of a block of the log, KiB of records"),
    tuning("log-sync", Kind::Switch, "true", UP, "An append waits for the disk; without it a power cut may lose the last events"),
    tuning(
        "maintain-interval-ms",
        Kind::Number(1_000, 86_400_000),
        "30000",
        UP,
        "How often small blocks are merged and expired ones removed, milliseconds",
    ),
    tuning("max-body-mb", Kind::Number(1, 1024), "16", API, "The largest body of events that the API takes, MiB"),
    tuning(
        "live-streams",
        Kind::Number(0, 1_000_000),
        "1000",
        API,
        "Streams of changes that may be open at once; further ones are refused",
    ),
    tuning(
        "ingest-requests",
        Kind::Number(1, 1024),
        "8",
        API,
        "Bodies of events processed concurrently, and of the maximum size in memory; further ones wait on their connection",
    ),
    tuning(
        "spool-mb",
        Kind::Number(1, 1 << 20),
        "256",
        COLLECTING,
        "MiB on disk for messages of a live source that the log has not taken yet; when it is full, the source is not read",
    ),
    tuning("rows-default", Kind::Number(1, 100_000), "100", API, "Rows of a page when the reader names no limit"),
    tuning("rows-max", Kind::Number(1, 100_000), "10000", API, "The greatest limit that a reader may name"),
    tuning("kafka-compression", Kind::Text, "lz4", LOG, "How appended records are compressed: none, lz4 or zstd"),
    tuning(
        "kafka-replication",
        Kind::Number(0, 100),
        "0",
        LOG,
        "Copies of each partition of topics that are created; 0: the cluster's default",
    ),
    tuning(
        "kafka-group-offsets",
        Kind::Switch,
        "true",
        ENGINE,
        "Over Kafka, positions are committed to a consumer group for each version, for tools that watch lag; nothing reads them back",
    ),
    tuning(
        "change-feed",
        Kind::Switch,
        "true",
        API,
        "Over Kafka, changed rows go to a compacted topic for each version, where refold serve and others follow them",
    ),
    tuning(
        "view-feeds",
        Kind::Switch,
        "false",
        API,
        "Over Kafka, the rows of each view go to a compacted topic whose name stays; a switch reaches it as the rows that differ",
    ),
    tuning("fault", Kind::Text, "", ENGINE, "For tests: ends the process, as kill -9 would, at a step of the engine, STEP:N"),
];

/// The setting with this flag.
pub fn find(flag: &str) -> Option<&'static Setting> {
    SETTINGS.iter().find(|setting| setting.flag == flag)
}
