//! Live sources as the user names them.

use crate::format::{LineFormat, MAX_LINE_BYTES};
use crate::live::declared::{Protocol, Stream};
use crate::live::presets::{self, Preset};
use crate::live::{Closer, Live, LiveParts};
use crate::spec::{Opening, Options};
use crate::spool::SpoolSettings;
use crate::{CollectError, Encoder, Mapping};

/// A live source as it was named: valid in itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LiveSpec {
    /// Which one.
    pub kind: LiveKind,
    /// As it is called in resume points: without options.
    pub name: String,
    /// Its options.
    pub options: Vec<(String, String)>,
}

/// Which live source.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LiveKind {
    /// An address, and how messages come from it: `sse`, `websocket` or `http` (lines).
    Url(String, String),
    /// A stream that `sources.toml` declares.
    Declared(String),
    /// A source that is known by name, with what stands behind the colon.
    Preset(Preset, String),
}

impl LiveKind {
    /// Reads what stands behind `sse:`, `websocket:`, `http:` or `stream:`.
    ///
    /// # Errors
    /// When it is missing, or an option is not known.
    pub(crate) fn parse(kind: &str, rest: &str) -> Result<LiveSpec, String> {
        let (argument, options) = rest.rsplit_once('?').unwrap_or((rest, ""));
        if kind == "stream" {
            let options = Options::parse(options, &["mapping"])?;
            if argument.is_empty() {
                return Err("name a stream of sources.toml: stream:NAME".into());
            }
            return Ok(LiveSpec {
                kind: LiveKind::Declared(argument.to_owned()),
                name: format!("stream:{argument}"),
                options: options.all(),
            });
        }
        let options = Options::parse(options, &["mapping"])
            .map_err(|message| format!("{message}; where the ? is of the address, write another one at its end: {kind}:{rest}?"))?;
        // http:https://h/p, and http://h/p as people write it.
        let address = if argument.starts_with("//") { format!("http:{argument}") } else { argument.to_owned() };
        Stream::of_url(protocol(kind), &address)?;
        let name = format!("{kind}:{}", address.split('?').next().unwrap_or_default());
        Ok(LiveSpec { kind: LiveKind::Url(kind.to_owned(), address), name, options: options.all() })
    }
}

fn protocol(kind: &str) -> Protocol {
    match kind {
        "sse" => Protocol::Sse,
        "websocket" => Protocol::Websocket,
        _ => Protocol::Lines,
    }
}

impl LiveSpec {
    /// Reads a source that is known by name.
    ///
    /// # Errors
    /// When an option is not known.
    pub(crate) fn by_name(text: &str) -> Result<LiveSpec, String> {
        let (named, options) = text.split_once('?').unwrap_or((text, ""));
        let (name, argument) = named.split_once(':').unwrap_or((named, ""));
        let preset = Preset::ALL.iter().find(|(known, _)| *known == name).map(|(_, preset)| *preset).ok_or("there is no such source")?;
        if !argument.is_empty() && preset != Preset::Mastodon {
            return Err(format!("{name} has nothing behind it; write {name}, or {name}?OPTION=VALUE"));
        }
        let options = Options::parse(options, preset.options())?;
        if preset == Preset::Mastodon && argument.is_empty() {
            return Err("name the instance: mastodon:HOST".into());
        }
        Ok(LiveSpec { kind: LiveKind::Preset(preset, argument.to_owned()), name: named.to_owned(), options: options.all() })
    }

    fn stream(&self, opening: &Opening<'_>) -> Result<Stream, CollectError> {
        match &self.kind {
            LiveKind::Url(kind, url) => Stream::of_url(protocol(kind), url).map_err(CollectError::Invalid),
            LiveKind::Declared(name) => Stream::load(opening.schemas, name),
            LiveKind::Preset(preset, argument) => {
                let mut options = self.options.clone();
                let is_said = options.iter().any(|(name, _)| name == "contact");
                if let Some(contact) = opening.contact.filter(|_| !is_said) {
                    options.push(("contact".into(), contact.to_owned()));
                }
                preset.stream(opening.schemas, argument, &options)
            }
        }
    }

    /// The mapping: the one that was said, that of the stream, or that of its name. `None`: messages are the record's own fields.
    fn mapping(&self, stream: &Stream, encoder: &Encoder, opening: &Opening<'_>) -> Result<Option<Mapping>, CollectError> {
        let said = self.options.iter().find(|(name, _)| name == "mapping").map(|(_, value)| value);
        if let Some(name) = said.or(stream.mapping.as_ref()) {
            return Mapping::load(opening.schemas, name, encoder).map(Some);
        }
        let usual = match &self.kind {
            LiveKind::Url(..) => return Ok(None),
            LiveKind::Declared(name) => name.as_str(),
            LiveKind::Preset(preset, _) => preset.name(),
        };
        match (Mapping::is_declared(opening.schemas, usual, encoder)?, &self.kind) {
            (true, _) => Mapping::load(opening.schemas, usual, encoder).map(Some),
            (false, LiveKind::Preset(..)) => Err(CollectError::Invalid(format!(
                "{} has no mapping {usual} for source {}; declare one there, name another one with ?mapping=NAME, or take an application that has one (--app)",
                opening.schemas.join("sources.toml").display(),
                encoder.source()
            ))),
            (false, _) => Ok(None),
        }
    }

    /// Opens the source; it is not connected before its first event is asked for.
    ///
    /// # Errors
    /// When its declaration or its mapping is not valid.
    pub(crate) fn open(self, encoder: Encoder, opening: &Opening<'_>) -> Result<Live, CollectError> {
        let stream = self.stream(opening)?;
        let mapping = self.mapping(&stream, &encoder, opening)?;
        let preset = match self.kind {
            LiveKind::Preset(preset, _) => Some(preset),
            _ => None,
        };
        let name = format!("{} into {}", self.name, encoder.source());
        let format = LineFormat { encoder, mapping, max_line_bytes: MAX_LINE_BYTES, watcher: opening.watcher.clone() };
        let closer = Closer::default();
        let (source, limits) = presets::source(stream, preset, closer.clone());
        let parts = LiveParts { name, format, source, limits, closer };
        Ok(Live::new(parts, opening.folder, SpoolSettings::of_bytes(opening.spool_bytes)))
    }
}
