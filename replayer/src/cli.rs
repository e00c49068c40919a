//! What can be written on the command line.

mod groups;
mod versions;

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};
use clap_complete::Shell;

pub use self::groups::command;
use self::versions::{
    APPLY_EXAMPLES, AUDIT_EXAMPLES, DIFF_EXAMPLES, DROP_EXAMPLES, PAUSE_EXAMPLES, PLAN_EXAMPLES, REPLAY_EXAMPLES, RESUME_EXAMPLES,
    ROLLBACK_EXAMPLES, SWITCH_EXAMPLES, THROTTLE_EXAMPLES, VERIFY_EXAMPLES, WHY_EXAMPLES,
};
pub use self::versions::{Apply, Audit, Diff, Drop, Pause, Plan, Replay, Resume, Rollback, Switch, Throttle, Verify, Why};
use crate::settings::{ForCheck, ForClient, ForCollect, ForPlan, ForProcess, ForServe, ForUp, SettingFlags};

/// Materialized views of an event log: kept up to date, changed by replay, switched in one step.
#[derive(Debug, Parser)]
#[command(name = "refold", version, max_term_width = 120, after_help = AFTER_HELP)]
pub struct Refold {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

const AFTER_HELP: &str = "\
Settings: a flag counts before an environment variable (REFOLD_…), before refold.toml, before the default.
Exit status: 0 done, 1 failed, 2 wrong usage, 3 a gate was not passed, or someone else was first,
4 there are changes (plan --detailed-exitcode).";

/// The verbs.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Runs everything in one process: collector, log, processor, view store, API
    #[command(after_help = UP_EXAMPLES)]
    Up(Up),
    /// Runs versions of views: a worker over Kafka and Cassandra
    #[command(after_help = PROCESS_EXAMPLES)]
    Process(Process),
    /// Answers HTTP: the API over Kafka and Cassandra, without running versions
    #[command(after_help = SERVE_EXAMPLES)]
    Serve(Serve),
    /// Brings events from a source into the log
    #[command(after_help = COLLECT_EXAMPLES)]
    Collect(Collect),
    /// Helps to declare a source
    #[command(subcommand)]
    Source(SourceVerb),
    /// Writes a small project to begin with: a source, a view, a case
    #[command(after_help = NEW_EXAMPLES)]
    New(New),
    /// Parses, plans and explains view files
    #[command(after_help = CHECK_EXAMPLES)]
    Check(Check),
    /// Runs the cases of views: events in, rows expected, without any service
    #[command(after_help = TEST_EXAMPLES)]
    Test(Test),
    /// Shows how far each version of each view is
    #[command(after_help = STATUS_EXAMPLES)]
    Status(Status),
    /// Shows what the schemas folder would change of what runs, and what that takes
    #[command(after_help = PLAN_EXAMPLES)]
    Plan(Plan),
    /// Carries a plan out: replays what has changed, waits, compares, and switches
    #[command(after_help = APPLY_EXAMPLES)]
    Apply(Apply),
    /// Starts a new version of a view, built from the start of the log
    #[command(after_help = REPLAY_EXAMPLES)]
    Replay(Replay),
    /// Sends readers to another version of a view, in one step
    #[command(after_help = SWITCH_EXAMPLES)]
    Switch(Switch),
    /// Shows how the rows of two versions of a view differ
    #[command(after_help = DIFF_EXAMPLES)]
    Diff(Diff),
    /// Checks the rows of a version against the audits that its view declares
    #[command(after_help = AUDIT_EXAMPLES)]
    Audit(Audit),
    /// Computes the closed windows of a version anew from the log, and compares the rows
    #[command(after_help = VERIFY_EXAMPLES)]
    Verify(Verify),
    /// Shows the events behind a row of a view
    #[command(after_help = WHY_EXAMPLES)]
    Why(Why),
    /// Sends readers back to the version that was in service before, in one step
    #[command(after_help = ROLLBACK_EXAMPLES)]
    Rollback(Rollback),
    /// Drops a version, or a whole view: table, change feed and state are removed
    #[command(after_help = DROP_EXAMPLES)]
    Drop(Drop),
    /// Has a version that is being built stand still; resume lets it go on
    #[command(after_help = PAUSE_EXAMPLES)]
    Pause(Pause),
    /// Sets how fast a version may be built
    #[command(after_help = THROTTLE_EXAMPLES)]
    Throttle(Throttle),
    /// Resumes a version where it stopped: a paused one, or a failed one after the cause was fixed
    #[command(after_help = RESUME_EXAMPLES)]
    Resume(Resume),
    /// Shows the events that a version did not apply, and why
    #[command(subcommand)]
    Quarantine(Quarantine),
    /// Shows what was done to views: by whom, when, why
    #[command(after_help = HISTORY_EXAMPLES)]
    History(History),
    /// Prints all settings with their meaning and default, as a refold.toml
    Settings,
    /// Writes shell completions
    Completions(Completions),
}

const UP_EXAMPLES: &str = "\
Examples:
  refold up                                     generated posts: some days of history, then in real time
  refold up --source none                       no source: post events to /v1/sources/<source>/events
  refold up --source jsonl:posts.jsonl.gz       events of a file
  refold up --source bluesky                    public posts, as they are made
  refold up --app wikipedia --contact me@example.org   another application: changes of Wikipedia
  refold up --listen 0.0.0.0:7070 --token-file token   reachable from other machines
  refold up --kafka localhost:9092 --cassandra localhost:9042   the log in Kafka, rows in Cassandra";

const PROCESS_EXAMPLES: &str = "\
Examples:
  refold process --kafka broker:9092 --cassandra node:9042
  refold process --kafka broker:9092 --cassandra node:9042 --pool replay --data /var/lib/refold/replay";

const SERVE_EXAMPLES: &str = "\
Examples:
  refold serve --kafka broker:9092 --cassandra node:9042 --listen 0.0.0.0:7070 --token-file /etc/refold/token";

const COLLECT_EXAMPLES: &str = "\
Examples:
  refold collect jsonl:posts.jsonl.gz                          into the refold up on this machine
  zcat posts.gz | refold collect jsonl:- --mapping plain_posts posts of another shape, by a mapping of sources.toml
  refold collect generate:1000 --count 100000 --seed 7         generated posts
  refold collect bluesky --print 5                             five public posts, as they would be written
  refold collect bluesky                                       public posts of Bluesky, until it is stopped
  refold collect jsonl:posts.jsonl --data ./refold-data        straight into the log, while no refold up is running
  refold collect generate:1000 --kafka broker:9092             straight into Kafka";

const INFER_EXAMPLES: &str = "\
Examples:
  refold source infer orders.jsonl                             prints schema, mapping, event time and key
  refold source infer orders.jsonl --write schemas             writes them, where nothing is yet";

const NEW_EXAMPLES: &str = "\
Examples:
  refold new visits
  refold up --schemas visits";

const CHECK_EXAMPLES: &str = "\
Examples:
  refold check                                  all files in schemas/views
  refold check schemas/views/hashtag_counts.sql";

const TEST_EXAMPLES: &str = "\
Examples:
  refold test                                   all cases in schemas/tests
  refold test hashtag_counts
  refold test --seed 7                          cut at the same places as the run that printed this seed
  refold test --record hashtag_counts           a case from the log: rows of the newest closed window, and their events
  refold test --record hashtag_counts --key hashtag=rust --key slot=2026-11-23T13:30:00Z
  refold test --json | jq 'select(.ok | not)'";

const STATUS_EXAMPLES: &str = "\
Examples:
  refold status
  refold status hashtag_counts --watch
  refold status --wait                                          until every version has caught up
  refold status --json | jq 'select(.lag > 1000)'";

const QUARANTINE_EXAMPLES: &str = "\
Examples:
  refold quarantine list hashtag_counts                        of the version in service
  refold quarantine list hashtag_counts --version 2 --reason too_late
  refold quarantine list hashtag_counts --json | jq -r .reason | sort | uniq -c";

const QUARANTINED_EXAMPLES: &str = "\
Examples:
  refold quarantine show hashtag_counts 3 1041                 the event at offset 1041 of partition 3";

const HISTORY_EXAMPLES: &str = "\
Examples:
  refold history
  refold history hashtag_counts --limit 10";

/// `refold up`
#[derive(Debug, Args)]
pub struct Up {
    /// Reads the source from its start, and appends everything again
    #[arg(long)]
    pub restart: bool,
    /// Prints what it listens on as JSON
    #[arg(long)]
    pub json: bool,
    #[command(flatten)]
    pub settings: SettingFlags<ForUp>,
}

/// `refold process`
#[derive(Debug, Args)]
pub struct Process {
    /// Which versions it runs: those in service (live), those that are being built beside them (replay), or all
    #[arg(long, value_enum, default_value_t = PoolArgument::All)]
    pub pool: PoolArgument,
    /// Prints what it listens on as JSON
    #[arg(long)]
    pub json: bool,
    #[command(flatten)]
    pub settings: SettingFlags<ForProcess>,
}

/// Which versions a worker runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum PoolArgument {
    /// All
    All,
    /// Those that readers are or were sent to, and the first one of each view
    Live,
    /// Those that are being built beside one in service
    Replay,
}

/// `refold serve`
#[derive(Debug, Args)]
pub struct Serve {
    /// Prints what it listens on as JSON
    #[arg(long)]
    pub json: bool,
    #[command(flatten)]
    pub settings: SettingFlags<ForServe>,
}

/// `refold collect`
#[derive(Debug, Args)]
pub struct Collect {
    /// Where events come from: jsonl:FILE (- is standard input), generate:RATE, bluesky, wikimedia, mastodon:HOST, x, sse:URL, websocket:URL, http:URL,
    /// stream:NAME
    #[arg(value_name = "SPEC")]
    pub spec: String,
    /// The running refold up that takes the events [default: http://127.0.0.1:7070]
    #[arg(long, value_name = "URL", conflicts_with = "data")]
    pub to: Option<String>,
    /// The declared source that the events are of; needed when several are declared
    #[arg(long, value_name = "NAME")]
    pub source: Option<String>,
    /// The mapping of sources.toml that turns lines into events
    #[arg(long, value_name = "NAME")]
    pub mapping: Option<String>,
    /// Ends after so many generated posts
    #[arg(long, value_name = "N")]
    pub count: Option<u64>,
    /// Decides what is generated
    #[arg(long, value_name = "N")]
    pub seed: Option<u64>,
    /// Generates a history of this length first, as fast as it is taken, for instance 3d
    #[arg(long, value_name = "DURATION")]
    pub backlog: Option<String>,
    /// Reads the source from its start again; events that were read before are written twice
    #[arg(long)]
    pub restart: bool,
    /// A dry run: prints so many events as they would be written, and what is left out and why; writes nothing
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..), conflicts_with_all = ["restart", "to"])]
    pub print: Option<u64>,
    /// Prints the totals as JSON
    #[arg(long)]
    pub json: bool,
    #[command(flatten)]
    pub settings: SettingFlags<ForCollect>,
}

/// `refold source`
#[derive(Debug, Subcommand)]
pub enum SourceVerb {
    /// Proposes schema, mapping, event time and key for a sample of JSON lines
    #[command(after_help = INFER_EXAMPLES)]
    Infer(Infer),
}

/// `refold source infer`
#[derive(Debug, Args)]
pub struct Infer {
    /// A file of JSON lines
    #[arg(value_name = "FILE")]
    pub file: PathBuf,
    /// The name of the source [default: that of the file]
    #[arg(long, value_name = "NAME", value_parser = source_name)]
    pub name: Option<String>,
    /// Looks at so many lines
    #[arg(long, value_name = "N", default_value_t = 10_000, value_parser = clap::value_parser!(u64).range(1..))]
    pub lines: u64,
    /// Writes them into this folder instead of printing them; what is there is left alone
    #[arg(long, value_name = "DIR")]
    pub write: Option<PathBuf>,
    /// Prints the proposal as JSON
    #[arg(long)]
    pub json: bool,
}

/// `refold new`
#[derive(Debug, Args)]
pub struct New {
    /// The folder, which is made
    #[arg(value_name = "DIR")]
    pub folder: PathBuf,
    /// Prints what was written as JSON
    #[arg(long)]
    pub json: bool,
}

/// `refold check`
#[derive(Debug, Args)]
pub struct Check {
    /// View files, or folders of them [default: all in the schemas folder]
    #[arg(value_name = "FILE")]
    pub files: Vec<PathBuf>,
    /// Prints one object a file
    #[arg(long)]
    pub json: bool,
    #[command(flatten)]
    pub settings: SettingFlags<ForCheck>,
}

/// `refold test`
#[derive(Debug, Args)]
pub struct Test {
    /// Views whose cases are run [default: all]
    #[arg(value_name = "VIEW")]
    pub views: Vec<String>,
    /// Decides where cases are cut: chunks, commits and restarts [default: another with each run]
    #[arg(long, value_name = "N")]
    pub seed: Option<u64>,
    /// Makes a case of this view from the log of a running refold: rows, and the events behind them
    #[arg(long, value_name = "VIEW", conflicts_with_all = ["views", "json"])]
    pub record: Option<String>,
    /// Which rows are recorded, by columns of their key [default: some of the newest closed window]
    #[arg(long, value_name = "COLUMN=VALUE", requires = "record", value_parser = versions::column_value)]
    pub key: Vec<(String, String)>,
    /// Prints one object a case
    #[arg(long)]
    pub json: bool,
    #[command(flatten)]
    pub settings: SettingFlags<ForPlan>,
}

/// `refold status`
#[derive(Debug, Args)]
pub struct Status {
    /// Of this view only
    #[arg(value_name = "VIEW")]
    pub view: Option<String>,
    /// Shows it again every second, until stopped
    #[arg(long)]
    pub watch: bool,
    /// Waits until every version has caught up; ends with status 1 if one has failed
    #[arg(long, conflicts_with = "watch")]
    pub wait: bool,
    /// Prints one object a version
    #[arg(long)]
    pub json: bool,
    #[command(flatten)]
    pub settings: SettingFlags<ForClient>,
}

/// `refold quarantine`
#[derive(Debug, Subcommand)]
pub enum Quarantine {
    /// Lists them, in the order of partitions and offsets
    #[command(after_help = QUARANTINE_EXAMPLES)]
    List(QuarantineList),
    /// Shows one of them, with its value as far as it is kept
    #[command(after_help = QUARANTINED_EXAMPLES)]
    Show(QuarantineShow),
}

/// `refold quarantine list`
#[derive(Debug, Args)]
pub struct QuarantineList {
    /// The view
    #[arg(value_name = "VIEW")]
    pub view: String,
    /// The version, such as 2 [default: the one in service]
    #[arg(long, value_name = "VERSION", value_parser = version)]
    pub version: Option<u32>,
    /// Those with this reason only, such as too_late
    #[arg(long, value_name = "REASON")]
    pub reason: Option<String>,
    /// At most so many
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u64).range(1..))]
    pub limit: u64,
    /// Prints one object an event
    #[arg(long)]
    pub json: bool,
    #[command(flatten)]
    pub settings: SettingFlags<ForClient>,
}

/// `refold quarantine show`
#[derive(Debug, Args)]
pub struct QuarantineShow {
    /// The view
    #[arg(value_name = "VIEW")]
    pub view: String,
    /// The partition of the event
    #[arg(value_name = "PARTITION")]
    pub partition: u32,
    /// Its offset
    #[arg(value_name = "OFFSET")]
    pub offset: u64,
    /// The version, such as 2 [default: the one in service]
    #[arg(long, value_name = "VERSION", value_parser = version)]
    pub version: Option<u32>,
    /// Prints it as JSON
    #[arg(long)]
    pub json: bool,
    #[command(flatten)]
    pub settings: SettingFlags<ForClient>,
}

/// `refold history`
#[derive(Debug, Args)]
pub struct History {
    /// Of this view only
    #[arg(value_name = "VIEW")]
    pub view: Option<String>,
    /// At most so many, the newest of all
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u64).range(1..=1000))]
    pub limit: u64,
    /// Prints one object an entry
    #[arg(long)]
    pub json: bool,
    #[command(flatten)]
    pub settings: SettingFlags<ForClient>,
}

/// `refold completions`
#[derive(Debug, Args)]
pub struct Completions {
    /// The shell
    pub shell: Shell,
}

fn source_name(text: &str) -> Result<String, String> {
    let is_name = text.starts_with(|c: char| c.is_ascii_lowercase())
        && text.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_');
    if is_name { Ok(text.to_owned()) } else { Err(format!("{text:?} is no name of a source; write small letters, digits and _")) }
}

fn version(text: &str) -> Result<u32, String> {
    text.strip_prefix('v').unwrap_or(text).parse().map_err(|_| format!("{text:?} is not the number of a version"))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn flags_do_not_collide() {
        command().debug_assert();
    }

    #[test]
    fn a_setting_is_said_by_its_flag() {
        let refold = Refold::try_parse_from(["refold", "up", "--memory-mb", "64", "--log-sync=false", "--log-json"]).unwrap();
        let Command::Up(up) = refold.command else { unreachable!("up was said") };
        assert_eq!(up.settings.values, [("memory-mb", "64".to_owned()), ("log-json", "true".to_owned()), ("log-sync", "false".to_owned())]);
        assert!(Refold::try_parse_from(["refold", "status", "--memory-mb", "64"]).is_err(), "a setting of up alone");
    }
}
