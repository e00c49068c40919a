//! Live sources by name: a declaration each, which `sources.toml` can override key by key, and what cannot be declared.

use std::path::Path;
use std::sync::Arc;

use super::closer::Closer;
use super::connection::LiveSource;
use super::declared::{Limits, Stream};
use super::general::{General, Plain, Special};
use super::mastodon::Mastodon;
use super::wikimedia::Wikimedia;
use super::x::{SampleX, X};
use crate::CollectError;

/// A source by name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Preset {
    /// Public posts of Bluesky.
    Bluesky,
    /// Changes of Wikipedia and its sisters.
    Wikimedia,
    /// Public posts of an instance of Mastodon.
    Mastodon,
    /// Posts of X.
    X,
}

impl Preset {
    /// All of them, by name.
    pub const ALL: [(&'static str, Preset); 4] =
        [("bluesky", Preset::Bluesky), ("wikimedia", Preset::Wikimedia), ("mastodon", Preset::Mastodon), ("x", Preset::X)];

    /// Its name.
    pub fn name(self) -> &'static str {
        Preset::ALL.iter().find(|(_, preset)| *preset == self).map_or("", |(name, _)| name)
    }

    fn declaration(self) -> &'static str {
        match self {
            Preset::Bluesky => include_str!("bluesky.toml"),
            Preset::Wikimedia => include_str!("wikimedia.toml"),
            Preset::Mastodon => include_str!("mastodon.toml"),
            Preset::X => include_str!("x.toml"),
        }
    }

    /// The options that it has in a specification.
    pub fn options(self) -> &'static [&'static str] {
        match self {
            Preset::Bluesky => &["mapping", "url", "collections"],
            Preset::Wikimedia => &["mapping", "url", "contact"],
            Preset::Mastodon => &["mapping", "url", "stream", "tag"],
            Preset::X => &["mapping", "url", "stream", "backfill_minutes"],
        }
    }

    /// The stream: as it is declared here, and in `sources.toml` of `folder` for what is said there, with these options.
    ///
    /// # Errors
    /// When a declaration or an option is not valid.
    pub(crate) fn stream(self, folder: &Path, argument: &str, options: &[(String, String)]) -> Result<Stream, CollectError> {
        let option = |name: &str| options.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str());
        let mut stream = Stream::overridden(self.name(), self.declaration(), folder)?;
        if let Some(url) = option("url") {
            stream.urls = vec![url.to_owned()];
        }
        let is_own = option("url").is_some();
        let mut address = |change: &dyn Fn(&str) -> String| stream.urls.iter_mut().for_each(|url| *url = change(url));
        match self {
            Preset::Bluesky => {
                if let Some(collections) = option("collections") {
                    let wanted: Vec<String> = collections.split(',').map(|name| format!("wantedCollections={name}")).collect();
                    address(&|url| format!("{}?{}", url.split('?').next().unwrap_or(url), wanted.join("&")));
                } else if is_own {
                    address(&|url| if url.contains('?') { url.to_owned() } else { format!("{url}?wantedCollections=app.bsky.feed.post") });
                }
            }
            Preset::Wikimedia => {
                let contact = option("contact").map_or("${REFOLD_CONTACT}", |contact| contact);
                if !stream.headers.iter().any(|(name, _)| name.eq_ignore_ascii_case("user-agent")) {
                    let agent = format!("refold/{} ({contact})", env!("CARGO_PKG_VERSION"));
                    stream.headers.push(("User-Agent".into(), agent));
                }
            }
            Preset::Mastodon => {
                let host = argument.trim_end_matches('/');
                if host.is_empty() && !is_own {
                    return Err(CollectError::Invalid("source mastodon: name the instance: mastodon:HOST".into()));
                }
                let path = match (option("stream"), option("tag")) {
                    (Some(stream), None) => format!("/api/v1/streaming/{stream}"),
                    (None, Some(tag)) => format!("/api/v1/streaming/hashtag?tag={tag}"),
                    (None, None) => "/api/v1/streaming/public".to_owned(),
                    (Some(_), Some(_)) => {
                        return Err(CollectError::Invalid("source mastodon: tag is a stream itself; name one of the two".into()));
                    }
                };
                match option("url") {
                    Some(base) => stream.urls = vec![format!("{}{path}", base.trim_end_matches('/'))],
                    None => stream.urls = vec![format!("https://{host}{path}")],
                }
                stream.name = format!("mastodon:{host}");
            }
            Preset::X => {
                let base = option("url").map_or("https://api.x.com", |base| base.trim_end_matches('/'));
                let path = match option("stream").unwrap_or("filtered") {
                    "filtered" => "/2/tweets/search/stream",
                    "sample" => "/2/tweets/sample/stream",
                    other => {
                        return Err(CollectError::Invalid(format!("source x: there is no stream {other:?}; there is filtered, sample")));
                    }
                };
                let mut url = format!("{base}{path}?{X_FIELDS}");
                if let Some(minutes) = option("backfill_minutes") {
                    let minutes: u8 = minutes.parse().ok().filter(|minutes| *minutes <= 5).ok_or_else(|| {
                        CollectError::Invalid("source x: backfill_minutes is a number from 0 to 5, and needs an enterprise contract".into())
                    })?;
                    url.push_str(&format!("&backfill_minutes={minutes}"));
                }
                stream.urls = vec![url];
            }
        }
        Ok(stream)
    }
}

/// Checks what `sources.toml` in `folder` declares of streams.
///
/// # Errors
/// The first one that is not valid.
pub fn check_streams(folder: &Path) -> Result<(), CollectError> {
    Stream::check_all(folder, |name| Preset::ALL.iter().find(|(known, _)| *known == name).map(|(_, preset)| preset.declaration()))
}

/// What is asked of X for each post; without it only the id and the text come.
const X_FIELDS: &str = "tweet.fields=created_at,author_id,lang,entities,referenced_tweets,edit_history_tweet_ids,note_tweet&expansions=author_id&user.fields=username";

/// A stream, ready to be connected.
pub(crate) fn source(stream: Stream, preset: Option<Preset>, closer: Closer) -> (Box<dyn LiveSource>, Limits) {
    let limits = stream.limits.clone();
    let is_sample = stream.urls.iter().any(|url| url.contains("/sample"));
    let special: Arc<dyn Special> = match preset {
        None | Some(Preset::Bluesky) => Arc::new(Plain),
        Some(Preset::Wikimedia) => Arc::new(Wikimedia),
        Some(Preset::Mastodon) => Arc::new(Mastodon::new(&stream)),
        Some(Preset::X) if is_sample => Arc::new(SampleX),
        Some(Preset::X) => Arc::new(X::new(&stream)),
    };
    (Box::new(General::new(stream, special, closer)), limits)
}
