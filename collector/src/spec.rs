//! What the user names as a source: `KIND:ARGUMENT?OPTION=VALUE&…`.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use refold_processor::source::parse_duration_us;

use crate::format::{LineFormat, MAX_LINE_BYTES, Watcher};
use crate::generate::{Backlog, Generate, GenerateSettings};
use crate::jsonl::JsonLines;
use crate::live::presets::Preset;
use crate::live_spec::{LiveKind, LiveSpec};
use crate::{CollectError, Encoder, EventSource, Mapping, Timer};

/// All kinds of sources, for usage texts.
pub const KINDS: &str = "jsonl:FILE (jsonl:- for standard input), generate:RATE, bluesky, wikimedia, mastodon:HOST, x, sse:URL, websocket:URL, http:URL, \
                         stream:NAME";
/// Their names, for the hint at a misspelt one.
const NAMES: [&str; 10] = ["jsonl", "generate", "bluesky", "wikimedia", "mastodon", "x", "sse", "websocket", "http", "stream"];

const JSONL_OPTIONS: [&str; 2] = ["mapping", "max_line_bytes"];
const GENERATE_OPTIONS: [&str; 4] = ["count", "seed", "backlog", "backlog_rate"];
/// The usual most bytes of a spool.
const SPOOL_BYTES: u64 = 256 << 20;
/// Posts a second of a backlog for which none is given.
const BACKLOG_RATE: u64 = 50;

/// A source as the user named it: valid in itself, nothing opened yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Spec {
    /// `jsonl:FILE?mapping=NAME&max_line_bytes=N`
    JsonLines {
        /// `None`: standard input.
        path: Option<PathBuf>,
        /// The mapping in `sources.toml`; `None`: objects of the record's own fields.
        mapping: Option<String>,
        /// The longest line, in bytes.
        max_line_bytes: usize,
    },
    /// `generate:RATE?count=N&seed=N&backlog=DURATION&backlog_rate=N`
    Generate(GenerateSettings),
    /// `bluesky`, `wikimedia`, `mastodon:HOST`, `x`, `sse:URL`, `websocket:URL`, `http:URL`, `stream:NAME`
    Live(LiveSpec),
}

/// With what a source is opened.
pub struct Opening<'o> {
    /// The folder of `sources.toml`, where mappings and streams are.
    pub schemas: &'o Path,
    /// The collector's own folder, for spools.
    pub folder: &'o Path,
    /// Paces what is generated.
    pub timer: Arc<dyn Timer>,
    /// Who collects, for servers that want to know.
    pub contact: Option<&'o str>,
    /// The most bytes of a spool.
    pub spool_bytes: u64,
    /// Who is shown what becomes of each line.
    pub watcher: Option<Arc<dyn Watcher>>,
}

impl<'o> Opening<'o> {
    /// With the usual spool, and without a contact.
    pub fn new(schemas: &'o Path, folder: &'o Path, timer: Arc<dyn Timer>) -> Opening<'o> {
        Opening { schemas, folder, timer, contact: None, spool_bytes: SPOOL_BYTES, watcher: None }
    }
}

impl Spec {
    /// Reads a specification. What follows the last `?` are options; a file whose name has one is written with another `?` at its end.
    ///
    /// # Errors
    /// When there is no such kind or option, or a value is not valid: with what there is.
    pub fn parse(text: &str) -> Result<Spec, CollectError> {
        Spec::parse_parts(text).map_err(|message| CollectError::Invalid(format!("source {text:?}: {message}")))
    }

    fn parse_parts(text: &str) -> Result<Spec, String> {
        let (kind, rest) = text.split_once(':').unwrap_or((text, ""));
        let (argument, options) = rest.rsplit_once('?').unwrap_or((rest, ""));
        match kind {
            "jsonl" => {
                let options = Options::parse(options, &JSONL_OPTIONS)?;
                if argument.is_empty() {
                    return Err("name a file, or - for standard input: jsonl:posts.jsonl.gz".into());
                }
                Ok(Spec::JsonLines {
                    path: (argument != "-").then(|| PathBuf::from(argument)),
                    mapping: options.get("mapping").map(str::to_string),
                    max_line_bytes: options.number("max_line_bytes")?.map_or(MAX_LINE_BYTES, |bytes| bytes as usize),
                })
            }
            "generate" => {
                let options = Options::parse(options, &GENERATE_OPTIONS)?;
                let rate = positive(argument).ok_or("name the posts a second, at least 1: generate:100")?;
                let backlog_rate = options.number("backlog_rate")?;
                let backlog = match options.get("backlog") {
                    Some(span) => {
                        let span_us = parse_duration_us(span).filter(|span| *span > 0);
                        let span_us = span_us.ok_or_else(|| format!("backlog: {span:?} is not a duration; write for instance 3d"))?;
                        Some(Backlog { span_us, rate: backlog_rate.unwrap_or(BACKLOG_RATE) })
                    }
                    None if backlog_rate.is_some() => return Err("backlog_rate goes with backlog".into()),
                    None => None,
                };
                let seed = options.get("seed").map(|seed| seed.parse().map_err(|_| format!("seed: {seed:?} is not a number")));
                let seed = seed.transpose()?.unwrap_or(1);
                Ok(Spec::Generate(GenerateSettings { rate, seed, count: options.number("count")?, backlog }))
            }
            "sse" | "websocket" | "http" | "stream" => LiveKind::parse(kind, rest).map(Spec::Live),
            _ if Preset::ALL.iter().any(|(name, _)| *name == kind.split('?').next().unwrap_or(kind)) => {
                LiveSpec::by_name(text).map(Spec::Live)
            }
            _ => {
                let near = NAMES.into_iter().find(|known| known.len() > 2 && strsim::damerau_levenshtein(known, kind) <= 2);
                let is_file = || kind.contains(".json") || Path::new(text).exists();
                let hint = match near {
                    Some(near) => format!("; did you mean {near}"),
                    None if is_file() => format!("; did you mean jsonl:{text}"),
                    None => String::new(),
                };
                Err(format!("there is no source {kind:?}{hint}; there is {KINDS}"))
            }
        }
    }

    /// Whether events are made of lines, so that a dry run has something to show.
    pub fn has_lines(&self) -> bool {
        !matches!(self, Spec::Generate(_))
    }

    /// Opens the source. One that is live is not connected before its first event is asked for.
    ///
    /// # Errors
    /// When its file, its mapping or its schema does not permit it.
    pub fn open(self, encoder: Encoder, opening: &Opening<'_>) -> Result<Box<dyn EventSource>, CollectError> {
        match self {
            Spec::JsonLines { path, mapping, max_line_bytes } => {
                let mapping = mapping.map(|name| Mapping::load(opening.schemas, &name, &encoder)).transpose()?;
                if mapping.as_ref().is_some_and(Mapping::needs_receipt) {
                    return Err(CollectError::Invalid("the mapping has line = \"received\", which only live sources note".into()));
                }
                let format = LineFormat { encoder, mapping, max_line_bytes, watcher: opening.watcher.clone() };
                Ok(match path {
                    Some(path) => Box::new(JsonLines::file(&path, format)?),
                    None => Box::new(JsonLines::stream(std::io::stdin(), format)),
                })
            }
            Spec::Generate(settings) => Ok(Box::new(Generate::new(settings, encoder, opening.timer.clone())?)),
            Spec::Live(live) => Ok(Box::new(live.open(encoder, opening)?)),
        }
    }
}

pub(crate) struct Options<'t>(Vec<(&'t str, &'t str)>);

impl<'t> Options<'t> {
    pub(crate) fn parse(text: &'t str, known: &[&str]) -> Result<Options<'t>, String> {
        let mut options: Vec<(&str, &str)> = Vec::new();
        for option in text.split('&').filter(|option| !option.is_empty()) {
            let (name, value) = option.split_once('=').ok_or_else(|| format!("option {option:?} has no value; write {option}=…"))?;
            if !known.contains(&name) {
                return Err(format!("there is no option {name:?}; there is {}", known.join(", ")));
            }
            if options.iter().any(|(other, _)| *other == name) {
                return Err(format!("option {name} is given twice"));
            }
            options.push((name, value));
        }
        Ok(Options(options))
    }

    pub(crate) fn get(&self, name: &str) -> Option<&'t str> {
        self.0.iter().find(|(known, _)| *known == name).map(|(_, value)| *value)
    }

    /// All of them.
    pub(crate) fn all(&self) -> Vec<(String, String)> {
        self.0.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    fn number(&self, name: &str) -> Result<Option<u64>, String> {
        let number = self.get(name).map(|text| positive(text).ok_or_else(|| format!("{name}: {text:?} is not a number of at least 1")));
        number.transpose()
    }
}

fn positive(text: &str) -> Option<u64> {
    text.parse().ok().filter(|number| *number > 0)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn refused(text: &str) -> String {
        Spec::parse(text).unwrap_err().to_string()
    }

    #[test]
    fn files_and_standard_input() {
        let spec = Spec::parse("jsonl:dir/posts.jsonl.gz?mapping=plain_posts&max_line_bytes=99").unwrap();
        let path = Some(PathBuf::from("dir/posts.jsonl.gz"));
        assert_eq!(spec, Spec::JsonLines { path, mapping: Some("plain_posts".into()), max_line_bytes: 99 });
        let spec = Spec::parse("jsonl:-").unwrap();
        assert_eq!(spec, Spec::JsonLines { path: None, mapping: None, max_line_bytes: 1 << 20 });
        let spec = Spec::parse("jsonl:what?.jsonl?").unwrap();
        assert_eq!(spec, Spec::JsonLines { path: Some("what?.jsonl".into()), mapping: None, max_line_bytes: 1 << 20 });
    }

    #[test]
    fn generated_posts() {
        let spec = Spec::parse("generate:100").unwrap();
        assert_eq!(spec, Spec::Generate(GenerateSettings { rate: 100, seed: 1, count: None, backlog: None }));
        let spec = Spec::parse("generate:7?count=9&seed=0&backlog=3d&backlog_rate=2").unwrap();
        let backlog = Some(Backlog { span_us: 3 * 86_400_000_000, rate: 2 });
        assert_eq!(spec, Spec::Generate(GenerateSettings { rate: 7, seed: 0, count: Some(9), backlog }));
    }

    #[test]
    fn refusals_name_what_there_is() {
        assert!(refused("jsnol:x").contains("did you mean jsonl;"));
        assert!(refused("kafka:x").contains("jsonl:FILE (jsonl:- for standard input), generate:RATE"));
        assert!(refused("jsonl").contains("name a file"));
        assert!(refused("generate:fast").contains("generate:100"));
        assert!(refused("generate:0").contains("at least 1"));
        assert!(refused("generate:1?sed=3").contains("there is count, seed, backlog, backlog_rate"));
        assert!(refused("generate:1?backlog=often").contains("write for instance 3d"));
        assert!(refused("generate:1?backlog_rate=3").contains("goes with backlog"));
        assert!(refused("generate:1?count=1&count=2").contains("twice"));
        assert!(refused("jsonl:x?mapping").contains("write mapping=…"));
    }

    #[test]
    fn live_sources_by_name_address_or_declaration() {
        use crate::live::Preset;
        use crate::{LiveKind, LiveSpec};
        let live = |kind: LiveKind, name: &str, options: &[(&str, &str)]| {
            let options = options.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
            Spec::Live(LiveSpec { kind, name: name.to_owned(), options })
        };
        let parsed = |text: &str| Spec::parse(text).unwrap();
        assert_eq!(parsed("bluesky"), live(LiveKind::Preset(Preset::Bluesky, String::new()), "bluesky", &[]));
        assert_eq!(parsed("x?stream=sample"), live(LiveKind::Preset(Preset::X, String::new()), "x", &[("stream", "sample")]));
        let mastodon = LiveKind::Preset(Preset::Mastodon, "h.example".into());
        assert_eq!(parsed("mastodon:h.example?tag=a"), live(mastodon, "mastodon:h.example", &[("tag", "a")]));
        let url = |kind: &str, url: &str| LiveKind::Url(kind.into(), url.into());
        assert_eq!(parsed("sse:https://h/s"), live(url("sse", "https://h/s"), "sse:https://h/s", &[]));
        assert_eq!(
            parsed("websocket:wss://h/s?a=b?mapping=m"),
            live(url("websocket", "wss://h/s?a=b"), "websocket:wss://h/s", &[("mapping", "m")])
        );
        assert_eq!(parsed("http://h/s"), live(url("http", "http://h/s"), "http:http://h/s", &[]));
        assert_eq!(parsed("stream:quakes"), live(LiveKind::Declared("quakes".into()), "stream:quakes", &[]));
        assert!(refused("sse:h/s").contains("http:// or https://"));
        assert!(refused("bluesky:h").contains("write bluesky"));
        assert!(refused("wikimdia").contains("did you mean wikimedia"));
    }
}
