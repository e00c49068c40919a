//! The rules a second time, slowly: as the regular expressions that they are published as, with look-arounds taken apart.

use std::ops::Range;
use std::sync::LazyLock;

use regex::Regex;

use super::super::tlds;

const WORD_LETTERS: &str = r"\p{L}\p{M}\x{f870}-\x{f87f}\x{f882}\x{f884}-\x{f89f}\x{f8b8}\x{f8c1}-\x{f8d6}";
const WORD_OTHERS: &str = r"\p{Nd}_\x{200c}\x{200d}\x{a67e}\x{05be}\x{05f3}\x{05f4}\x{ff5e}\x{301c}\x{309b}\x{309c}\x{30a0}\x{30fb}\x{3003}\x{0f0b}\x{0f0c}\x{00b7}";
const LATIN: &str = r"\x{c0}-\x{d6}\x{d8}-\x{f6}\x{f8}-\x{24f}\x{253}\x{254}\x{256}\x{257}\x{259}\x{25b}\x{263}\x{268}\x{26f}\x{272}\x{289}\x{28b}\x{2bb}\x{300}-\x{36f}\x{1e00}-\x{1eff}";
const IN_QUERY: &str = r"[a-zA-Z0-9!?*'();:&=+$/%#\[\]\-_.,~|@]";
const ENDS_QUERY: &str = r"[a-zA-Z0-9\-_&=#/]";

fn regex(pattern: &str) -> Regex {
    regex::RegexBuilder::new(pattern).size_limit(1 << 28).build().unwrap()
}

static HASHTAG: LazyLock<Regex> = LazyLock::new(|| {
    let (a, o) = (WORD_LETTERS, WORD_OTHERS);
    // The published look-ahead after the sign is in the first character of the word here.
    regex(&format!(
        r"(?:^|\x{{fe0e}}|\x{{fe0f}}|[^&{a}{o}])([#＃](?:[[{a}]--[\x{{fe0f}}\x{{20e3}}]][{a}{o}]*|[{o}][{a}{o}]*[{a}][{a}{o}]*))"
    ))
});
static AFTER_HASHTAG: LazyLock<Regex> = LazyLock::new(|| regex("^(?:[#＃]|://)"));
static MENTION: LazyLock<Regex> = LazyLock::new(|| {
    regex(r"(?:^|[^a-zA-Z0-9_!#$%&*@＠]|(?:^|[^a-zA-Z0-9_+~.-])(?:rt|RT|rT|Rt):?)[@＠]([a-zA-Z0-9_]{1,20})(/[a-zA-Z][a-zA-Z0-9_\-]{0,24})?")
});
static AFTER_MENTION: LazyLock<Regex> = LazyLock::new(|| regex(&format!("^(?:[@＠{LATIN}]|://)")));

static BEFORE_LINK: LazyLock<Regex> = LazyLock::new(|| regex(r"^[^a-zA-Z0-9@＠$#＃\x{fffe}\x{feff}\x{ffff}]$"));
static PROTOCOL: LazyLock<Regex> = LazyLock::new(|| regex("^(?i:https?://)"));
static TLD: LazyLock<String> = LazyLock::new(|| {
    let mut names = [tlds::ASCII, tlds::BEYOND_ASCII].concat();
    names.sort_by_key(|name| std::cmp::Reverse(name.len()));
    format!("(?i:{})", names.join("|"))
});
static PLAIN_HOST: LazyLock<Regex> = LazyLock::new(|| {
    let v = format!("a-zA-Z0-9{LATIN}");
    let tld = &*TLD;
    regex(&format!(
        r"^(?:[{v}](?:[{v}_\-]*[{v}])?\.)*(?:[{v}](?:[{v}\-]*[{v}])?\.)(?:{tld}(?P<look>[^a-zA-Z0-9@+\-]|$)|(?i:xn--)[-0-9a-zA-Z]+)"
    ))
});
static UNICODE_HOST: LazyLock<Regex> = LazyLock::new(|| {
    let out = r##"_!"#$%&'()*+,./:;<=>?@\[\]^`{|}~ \t\n\x0b\x0c\r\p{Z}\x{2000}-\x{206f}"##;
    let tld = &*TLD;
    regex(&format!(r"^[^{out}\-](?:[^{out}]*[^{out}\-])?\.{tld}(?P<look>[^a-zA-Z0-9@+\-]|$)"))
});
static PORT: LazyLock<Regex> = LazyLock::new(|| regex("^:[0-9]+"));
static PATH_PART: LazyLock<Regex> = LazyLock::new(|| {
    let g = format!(r"[a-zA-Z0-9!*';:=+,.$/%#\[\]\-\x{{2013}}_~|&@{LATIN}\x{{400}}-\x{{4ff}}]");
    let balanced = format!(r"\((?:{g}+|(?:{g}*\({g}+\){g}*))\)");
    regex(&format!(r"^(?:{g}*(?:{balanced}{g}*)*(?:[a-zA-Z0-9=_#/\-+{LATIN}\x{{400}}-\x{{4ff}}]|{balanced})|@{g}+/)"))
});
static QUERY: LazyLock<Regex> = LazyLock::new(|| regex(&format!(r"^\?{IN_QUERY}*{ENDS_QUERY}")));
static TCO: LazyLock<Regex> = LazyLock::new(|| regex(&format!(r"^(?i:https?://t\.co/)([a-zA-Z0-9]+)(?:\?{IN_QUERY}*{ENDS_QUERY})?")));

/// The hashtags of a text, without their signs.
pub fn hashtags(text: &str) -> Vec<String> {
    let mut entities: Vec<(Range<usize>, bool)> = Vec::new();
    for found in HASHTAG.captures_iter(text) {
        let hashtag = found.get(1).unwrap();
        if !AFTER_HASHTAG.is_match(&text[hashtag.end()..]) {
            entities.push((hashtag.range(), true));
        }
    }
    entities.extend(links(text).into_iter().map(|link| (link, false)));
    entities.sort_by_key(|(span, _)| span.start);
    let mut kept_to = 0;
    let mut kept = Vec::new();
    for (span, is_hashtag) in entities {
        if span.start < kept_to {
            continue;
        }
        kept_to = span.end;
        if is_hashtag {
            kept.push(text[span].chars().skip(1).collect());
        }
    }
    kept
}

/// The screen names mentioned in a text.
pub fn mentions(text: &str) -> Vec<String> {
    let found = MENTION.captures_iter(text).filter(|m| m.get(2).is_none() && !AFTER_MENTION.is_match(&text[m.get(0).unwrap().end()..]));
    found.map(|m| m[1].to_string()).collect()
}

fn links(text: &str) -> Vec<Range<usize>> {
    let mut links = Vec::new();
    let mut at = 0;
    while let Some(c) = text[at..].chars().next() {
        let after = at + c.len_utf8();
        let preceded = BEFORE_LINK.is_match(&text[at..after]).then(|| link(text, after)).flatten();
        let found = match preceded {
            Some(link) => Some((&text[at..after], link)),
            None if at == 0 => link(text, 0).map(|link| ("", link)),
            None => None,
        };
        let Some((before, (span, host, has_protocol))) = found else {
            at = after;
            continue;
        };
        at = span.end;
        if !has_protocol && ["-", "_", ".", "/"].contains(&before) {
            continue;
        }
        let mut end = span.end;
        if let Some(tco) = TCO.captures(&text[span.clone()]) {
            if tco[1].len() > 40 {
                continue;
            }
            end = span.start + tco[0].len();
        }
        let length = text[span.start..end].chars().count() + if has_protocol { 0 } else { 8 };
        if length <= 4096 && text[host].split('.').all(|label| label.chars().count() <= 63) {
            links.push(span.start..end);
        }
    }
    links
}

fn link(text: &str, start: usize) -> Option<(Range<usize>, Range<usize>, bool)> {
    let with_protocol = PROTOCOL.find(&text[start..]).and_then(|p| Some((start + p.end(), host(text, start + p.end())?)));
    let (host_start, host_end) = match with_protocol {
        Some(found) => found,
        None => (start, host(text, start)?),
    };
    let mut end = host_end;
    end += PORT.find(&text[end..]).map_or(0, |found| found.end());
    if text[end..].starts_with('/') {
        end += 1;
        while let Some(part) = PATH_PART.find(&text[end..]) {
            end += part.end();
        }
    }
    end += QUERY.find(&text[end..]).map_or(0, |found| found.end());
    Some((start..end, host_start..host_end, with_protocol.is_some()))
}

fn host(text: &str, start: usize) -> Option<usize> {
    let end = |regex: &Regex| {
        let found = regex.captures(&text[start..])?;
        Some(start + found.name("look").map_or(found.get(0).unwrap().end(), |look| look.start()))
    };
    let after_protocol = ["http://", "https://"].iter().any(|p| text[..start].to_ascii_lowercase().ends_with(p));
    end(&PLAIN_HOST).or_else(|| if after_protocol { end(&UNICODE_HOST) } else { None })
}
