//! HTML → text, as posts of Mastodon and texts of X have it: no renderer, but nothing of what people wrote is lost.

/// The text of a piece of HTML: `<br>` is a line's end, a paragraph after another one has an empty line before it, other tags go, and entities are decoded after that, so
/// that a `&lt;` never begins a tag. A `<` that begins no tag stays.
pub(super) fn to_text(html: &str) -> String {
    let mut text = String::with_capacity(html.len());
    let mut rest = html;
    while let Some(at) = rest.find('<') {
        let (before, from) = rest.split_at(at);
        text.push_str(before);
        let is_tag = from.chars().nth(1).is_some_and(|first| first.is_ascii_alphabetic() || matches!(first, '/' | '!' | '?'));
        let Some(end) = from.find('>').filter(|_| is_tag) else {
            text.push('<');
            rest = from.get(1..).unwrap_or_default();
            continue;
        };
        let tag = from.get(1..end).unwrap_or_default();
        match tag.split(|c: char| c.is_ascii_whitespace()).next().unwrap_or_default().trim_end_matches('/').to_ascii_lowercase().as_str() {
            "br" => text.push('\n'),
            "p" if !text.is_empty() => text.push_str("\n\n"),
            _ => {}
        }
        rest = from.get(end + 1..).unwrap_or_default();
    }
    text.push_str(rest);
    decode_entities(&text)
}

fn decode_entities(text: &str) -> String {
    let mut decoded = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('&') {
        let (before, from) = rest.split_at(at);
        decoded.push_str(before);
        // The longest name here has eight letters.
        let end = from.bytes().take(12).position(|byte| byte == b';');
        match end.and_then(|end| Some((entity(from.get(1..end)?)?, end))) {
            Some((character, end)) => {
                decoded.push(character);
                rest = from.get(end + 1..).unwrap_or_default();
            }
            None => {
                decoded.push('&');
                rest = from.get(1..).unwrap_or_default();
            }
        }
    }
    decoded.push_str(rest);
    decoded
}

fn entity(name: &str) -> Option<char> {
    if let Some(number) = name.strip_prefix('#') {
        let code = match number.strip_prefix(['x', 'X']) {
            Some(hex) => u32::from_str_radix(hex, 16).ok()?,
            None => number.parse().ok()?,
        };
        return char::from_u32(code);
    }
    Some(match name {
        "amp" => '&',
        "lt" => '<',
        "gt" => '>',
        "quot" => '"',
        "apos" => '\'',
        "nbsp" => '\u{a0}',
        "hellip" => '…',
        "mdash" => '—',
        "ndash" => '–',
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::to_text;

    #[test]
    fn tags_go_and_what_people_wrote_stays() {
        for (html, text) in [
            ("<p>one<br>two<br />three</p><p>four</p>", "one\ntwo\nthree\n\nfour"),
            ("<p>see <a href=\"https://x.y\"><span class=\"invisible\">https://</span>x.y</a></p>", "see https://x.y"),
            ("a &lt;b&gt; &amp;amp; &quot;c&quot; &#39;d&#x27; e&nbsp;f", "a <b> &amp; \"c\" 'd' e\u{a0}f"),
            ("1 < 2 & 3 <3 &unknown; &#1114112;", "1 < 2 & 3 <3 &unknown; &#1114112;"),
            ("<p>#<span>rust</span></p>", "#rust"),
            ("<unclosed", "<unclosed"),
            ("", ""),
        ] {
            assert_eq!(to_text(html), text, "{html}");
        }
    }
}
