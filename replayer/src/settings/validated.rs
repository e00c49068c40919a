//! The second stage: settings that are valid, typed, and have every default.

use std::net::SocketAddr;
use std::net::ToSocketAddrs;
use std::path::{Path, PathBuf};

use super::said::Said;
use super::table::{Kind, find};

/// What a process takes however large its state is: the program, what is being read and decoded, and what RocksDB needs to compact. The rest
/// of the memory that it may take is for state.
const PROGRAM_BYTES: usize = 156 << 20;

/// Valid settings. The table in [`super::table`] says what each means.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    pub data: PathBuf,
    pub schemas: PathBuf,
    pub listen: SocketAddr,
    /// Whether the user named the address.
    pub listen_was_said: bool,
    /// Whether positions are committed to consumer groups, for tools that watch lag.
    pub kafka_group_offsets: bool,
    /// Brokers; without any, the log is embedded.
    pub kafka: Option<String>,
    pub kafka_config: Option<PathBuf>,
    pub kafka_compression: String,
    pub kafka_replication: Option<u16>,
    pub change_feed: bool,
    pub view_feeds: bool,
    pub registry: Option<String>,
    /// User and password.
    pub registry_auth: Option<(String, String)>,
    /// Nodes; without any, the view store is embedded.
    pub cassandra: Vec<String>,
    pub cassandra_keyspace: String,
    pub cassandra_config: Option<PathBuf>,
    pub source: String,
    /// Whether the user named the source.
    pub source_was_said: bool,
    pub into: Option<String>,
    /// Said to live sources.
    pub contact: Option<String>,
    /// The most bytes of a spool.
    pub spool_bytes: u64,
    pub server: String,
    pub token: Option<String>,
    /// A file of further tokens, with roles.
    pub tokens_file: Option<PathBuf>,
    pub public_reads: bool,
    /// Origins of other sites.
    pub origins: Vec<String>,
    /// Certificate and key.
    pub tls: Option<(PathBuf, PathBuf)>,
    /// Accepted host names on a loopback listener.
    pub own_names: Vec<String>,
    /// How many streams of changes may be open at once.
    pub live_streams: usize,
    /// Memory for state, caches, buffers and groups that are not committed yet.
    pub memory_bytes: usize,
    pub threads: usize,
    pub log: String,
    pub log_json: bool,
    pub shards: usize,
    pub chunk_bytes: usize,
    pub commit_interval_ms: u64,
    pub building_commit_interval_ms: u64,
    pub sweep_windows: usize,
    pub caught_up_lag_events: u64,
    pub quarantine_percent: u32,
    pub drop_grace_ms: i64,
    /// `None`: never.
    pub retire_after_ms: Option<i64>,
    pub queued_rows: usize,
    pub rows_per_write: usize,
    pub idle_after_ms: i64,
    pub idle_drop_after_ms: i64,
    pub lease_ms: i64,
    pub reconcile_interval_ms: u64,
    pub log_retention_ms: Option<u64>,
    pub log_retention_bytes: Option<u64>,
    pub log_block_bytes: usize,
    pub log_sync: bool,
    pub maintain_interval_ms: u64,
    pub max_body_bytes: usize,
    pub ingest_requests: usize,
    pub rows_default: usize,
    pub rows_max: usize,
    pub fault: Option<String>,
}

/// Where applications are, beside the folder of the sample: each in a folder of its name.
const APPS: &str = "apps";

/// The folder of an application.
fn application(sample: &Path, name: &str) -> Result<PathBuf, String> {
    let apps = sample.with_file_name(APPS);
    let folder = apps.join(name);
    if name.contains(['/', '\\', '.']) || !folder.join("sources.toml").exists() {
        let there = std::fs::read_dir(&apps).into_iter().flatten().flatten().filter(|entry| entry.path().join("sources.toml").exists());
        let mut names: Vec<String> = there.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
        names.sort();
        let names = if names.is_empty() { "there is none here".into() } else { format!("there is {}", names.join(", ")) };
        return Err(format!("app: there is no application {name:?} in {}; {names}", apps.display()));
    }
    Ok(folder)
}

impl Settings {
    /// Validates what was said, and adds the defaults.
    ///
    /// # Errors
    /// The first value that is not valid: where it was said, and what it may be.
    pub fn validate(said: &Said) -> Result<Settings, String> {
        let reader = Reader { said };
        let processors = std::thread::available_parallelism().map_or(1, usize::from);
        let or_processors = |number: usize| if number == 0 { processors } else { number };
        let app = reader.optional("app")?;
        let settings = Settings {
            data: match app.as_deref().filter(|_| said.get("data").is_none()) {
                Some(app) => format!("./refold-data-{app}").into(),
                None => reader.text("data")?.into(),
            },
            schemas: match app.as_deref() {
                Some(app) => application(reader.text("schemas")?.as_ref(), app)?,
                None => reader.text("schemas")?.into(),
            },
            listen: reader.address("listen")?,
            listen_was_said: said.get("listen").is_some(),
            kafka: reader.optional("kafka")?,
            kafka_config: reader.optional("kafka-config")?.map(PathBuf::from),
            kafka_compression: reader.text("kafka-compression")?,
            kafka_replication: Some(reader.number("kafka-replication")? as u16).filter(|copies| *copies > 0),
            kafka_group_offsets: reader.switch("kafka-group-offsets")?,
            change_feed: reader.switch("change-feed")?,
            view_feeds: reader.switch("view-feeds")?,
            registry: reader.optional("registry")?,
            registry_auth: reader.pair("registry-auth", "registry-auth-file")?,
            cassandra: reader.list("cassandra")?,
            cassandra_keyspace: reader.text("cassandra-keyspace")?,
            cassandra_config: reader.optional("cassandra-config")?.map(PathBuf::from),
            // Generated posts are for trying things out: nobody wants them in a log that others share.
            source: match (said.get("source"), said.get("kafka")) {
                (None, Some(_)) => "none".to_owned(),
                _ => reader.text("source")?,
            },
            source_was_said: said.get("source").is_some(),
            into: reader.optional("into")?,
            contact: reader.optional("contact")?,
            spool_bytes: reader.number("spool-mb")? << 20,
            server: reader.url("server")?,
            token: reader.secret("token", "token-file")?.map(|(token, _)| token),
            tokens_file: reader.optional("tokens-file")?.map(PathBuf::from),
            public_reads: reader.switch("public-reads")?,
            origins: reader.origins("origins")?,
            tls: reader.both("tls-certificate", "tls-key")?,
            own_names: reader.list("own-names")?,
            memory_bytes: reader.size("memory-mb", 1 << 20)?.saturating_sub(PROGRAM_BYTES),
            threads: or_processors(reader.number("threads")? as usize),
            log: reader.text("log")?,
            log_json: reader.switch("log-json")?,
            shards: or_processors(reader.number("shards")? as usize),
            chunk_bytes: reader.size("chunk-kb", 1 << 10)?,
            commit_interval_ms: reader.number("commit-interval-ms")?,
            building_commit_interval_ms: reader.number("building-commit-interval-ms")?,
            sweep_windows: reader.size("sweep-windows", 1)?,
            caught_up_lag_events: reader.number("caught-up-lag-events")?,
            quarantine_percent: reader.number("quarantine-percent")? as u32,
            drop_grace_ms: reader.number("drop-grace-ms")? as i64,
            retire_after_ms: Some(reader.number("retire-after-ms")? as i64).filter(|ms| *ms > 0),
            queued_rows: reader.size("queued-rows", 1)?,
            rows_per_write: reader.size("rows-per-write", 1)?,
            idle_after_ms: reader.number("idle-after-ms")? as i64,
            idle_drop_after_ms: reader.number("idle-drop-after-ms")? as i64,
            lease_ms: reader.number("lease-ms")? as i64,
            reconcile_interval_ms: reader.number("reconcile-interval-ms")?,
            log_retention_ms: Some(reader.number("log-retention-ms")?).filter(|ms| *ms > 0),
            log_retention_bytes: Some(reader.number("log-retention-mb")? << 20).filter(|bytes| *bytes > 0),
            log_block_bytes: reader.size("log-block-kb", 1 << 10)?,
            log_sync: reader.switch("log-sync")?,
            maintain_interval_ms: reader.number("maintain-interval-ms")?,
            max_body_bytes: reader.size("max-body-mb", 1 << 20)?,
            live_streams: reader.size("live-streams", 1)?,
            ingest_requests: reader.size("ingest-requests", 1)?,
            rows_default: reader.size("rows-default", 1)?,
            rows_max: reader.size("rows-max", 1)?,
            fault: reader.optional("fault")?,
        };
        if settings.reconcile_interval_ms.saturating_mul(3) > settings.lease_ms as u64 {
            let (interval, lease) = (settings.reconcile_interval_ms, settings.lease_ms);
            return Err(format!(
                "reconcile_interval_ms is {interval}, more than a third of lease_ms, {lease}: the lease would end before it is renewed"
            ));
        }
        if settings.retire_after_ms.is_some_and(|retire_after_ms| retire_after_ms < settings.drop_grace_ms) {
            let (after, grace) = (settings.retire_after_ms.unwrap_or_default(), settings.drop_grace_ms);
            return Err(format!("retire_after_ms is {after}, less than drop_grace_ms, {grace}: a version would not be kept for its grace"));
        }
        if settings.rows_default > settings.rows_max {
            return Err(format!("rows_default is {}, more than rows_max, {}", settings.rows_default, settings.rows_max));
        }
        Ok(settings)
    }
}

struct Reader<'s> {
    said: &'s Said,
}

impl Reader<'_> {
    /// The value, where it was said, and what it may be.
    fn value(&self, flag: &'static str) -> Result<(String, String, Kind), String> {
        let setting = find(flag).ok_or_else(|| format!("setting {flag} is not in the table"))?;
        Ok(match self.said.get(flag) {
            Some(value) => (value.text.clone(), value.place.clone(), setting.kind),
            None => (setting.default.to_owned(), format!("the default of {}", setting.key()), setting.kind),
        })
    }

    fn optional(&self, flag: &'static str) -> Result<Option<String>, String> {
        let (text, ..) = self.value(flag)?;
        Ok(Some(text).filter(|text| !text.is_empty()))
    }

    fn text(&self, flag: &'static str) -> Result<String, String> {
        let (text, place, _) = self.value(flag)?;
        if text.is_empty() { Err(format!("{place}: a value is missing")) } else { Ok(text) }
    }

    /// Texts with commas between them.
    fn list(&self, flag: &'static str) -> Result<Vec<String>, String> {
        let text = self.optional(flag)?.unwrap_or_default();
        Ok(text.split(',').map(str::trim).filter(|entry| !entry.is_empty()).map(str::to_owned).collect())
    }

    /// A secret given directly or in a file, and the place where it was given.
    fn secret(&self, flag: &'static str, file_flag: &'static str) -> Result<Option<(String, String)>, String> {
        let ((text, place, _), (path, file_place, _)) = (self.value(flag)?, self.value(file_flag)?);
        match (text.is_empty(), path.is_empty()) {
            (true, true) => Ok(None),
            (false, true) => Ok(Some((text, place))),
            (false, false) => Err(format!("{place} and {file_place} set the same value; remove one of the two")),
            (true, false) => {
                let secret = std::fs::read_to_string(&path).map_err(|error| format!("{file_place}: cannot read {path}: {error}"))?;
                match secret.trim() {
                    "" => Err(format!("{file_place}: {path} is empty")),
                    secret => Ok(Some((secret.to_owned(), format!("{path}, {file_place}")))),
                }
            }
        }
    }

    /// A secret of two parts separated by a colon.
    fn pair(&self, flag: &'static str, file_flag: &'static str) -> Result<Option<(String, String)>, String> {
        let Some((text, place)) = self.secret(flag, file_flag)? else { return Ok(None) };
        match text.split_once(':') {
            Some((first, second)) => Ok(Some((first.to_owned(), second.to_owned()))),
            None => Err(format!("{place}: write USER:PASSWORD")),
        }
    }

    /// Two files, or none.
    fn both(&self, first: &'static str, second: &'static str) -> Result<Option<(PathBuf, PathBuf)>, String> {
        match (self.optional(first)?, self.optional(second)?) {
            (None, None) => Ok(None),
            (Some(first), Some(second)) => Ok(Some((first.into(), second.into()))),
            (Some(_), None) => Err(format!("{} is set without {}; set both", first.replace('-', "_"), second.replace('-', "_"))),
            (None, Some(_)) => Err(format!("{} is set without {}; set both", second.replace('-', "_"), first.replace('-', "_"))),
        }
    }

    /// Origins as browsers send them.
    fn origins(&self, flag: &'static str) -> Result<Vec<String>, String> {
        let (_, place, _) = self.value(flag)?;
        let origins = self.list(flag)?;
        let is_origin = |origin: &String| {
            let host = ["http://", "https://"].iter().find_map(|scheme| origin.strip_prefix(scheme));
            host.is_some_and(|host| !host.is_empty() && !host.contains(['/', '*', ' ']))
        };
        match origins.iter().find(|origin| !is_origin(origin)) {
            Some(wrong) => Err(format!("{place}: {wrong:?} is not an origin; write https://HOST or https://HOST:PORT, without a path")),
            None => Ok(origins),
        }
    }

    fn number(&self, flag: &'static str) -> Result<u64, String> {
        let (text, place, kind) = self.value(flag)?;
        let Kind::Number(least, most) = kind else { return Err(format!("setting {flag} is not a number")) };
        let number = text.parse().ok().filter(|number| (least..=most).contains(number));
        number.ok_or_else(|| format!("{place}: {text:?} is not a whole number from {least} to {most}"))
    }

    fn size(&self, flag: &'static str, unit: usize) -> Result<usize, String> {
        Ok((self.number(flag)? as usize).saturating_mul(unit))
    }

    fn switch(&self, flag: &'static str) -> Result<bool, String> {
        let (text, place, _) = self.value(flag)?;
        text.parse().map_err(|_| format!("{place}: {text:?} is not true or false"))
    }

    fn address(&self, flag: &'static str) -> Result<SocketAddr, String> {
        let (text, place, _) = self.value(flag)?;
        let address = text.to_socket_addrs().ok().and_then(|mut addresses| addresses.next());
        address.ok_or_else(|| format!("{place}: {text:?} is not an address; write HOST:PORT, such as 127.0.0.1:7070"))
    }

    fn url(&self, flag: &'static str) -> Result<String, String> {
        let (text, place, _) = self.value(flag)?;
        let url = text.trim_end_matches('/');
        let is_url = ["http://", "https://"].iter().any(|scheme| url.len() > scheme.len() && url.starts_with(scheme));
        if is_url { Ok(url.to_owned()) } else { Err(format!("{place}: {text:?} is not an address; write http://HOST:PORT")) }
    }
}
