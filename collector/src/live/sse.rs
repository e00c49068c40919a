//! Server-sent events, by bytes: a line ends with LF, CR or CRLF and nothing else, and only whole lines are decoded. So neither a character that is cut by the network
//! nor U+0085 or U+2028 in a text does harm.

/// One event of a stream.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Event {
    /// Its name, where it has one.
    pub name: Option<String>,
    /// The last id that the stream has said.
    pub id: Option<String>,
    /// Its data, lines joined by LF.
    pub data: Vec<u8>,
}

/// What a stream brings.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Item {
    /// An event.
    Event(Event),
    /// A comment, or a line that means nothing: the stream is alive.
    Sign,
    /// An event was larger than allowed, and was skipped without being held.
    TooLarge,
}

/// Takes bytes as they come, and makes events of them.
pub(crate) struct Parser {
    max_bytes: usize,
    line: Vec<u8>,
    /// The last byte was a CR: an LF now is of the same line end.
    after_cr: bool,
    /// The line was too long, and is not held to its end.
    is_line_dropped: bool,
    /// The event was too large, and is not held to its end.
    is_event_dropped: bool,
    has_begun: bool,
    event: Event,
    has_data: bool,
    last_id: Option<String>,
}

impl Parser {
    /// A parser that holds no event larger than `max_bytes`.
    pub fn new(max_bytes: usize) -> Parser {
        Parser {
            max_bytes,
            line: Vec::new(),
            after_cr: false,
            is_line_dropped: false,
            is_event_dropped: false,
            has_begun: false,
            event: Event::default(),
            has_data: false,
            last_id: None,
        }
    }

    /// Takes `bytes`, and appends what they complete.
    pub fn push(&mut self, mut bytes: &[u8], items: &mut Vec<Item>) {
        if std::mem::take(&mut self.after_cr) && bytes.first() == Some(&b'\n') {
            bytes = bytes.get(1..).unwrap_or_default();
        }
        while let Some(at) = memchr::memchr2(b'\n', b'\r', bytes) {
            let (line, rest) = bytes.split_at(at);
            self.hold(line);
            let is_cr = rest.first() == Some(&b'\r');
            bytes = rest.get(1..).unwrap_or_default();
            if is_cr {
                match bytes.first() {
                    Some(b'\n') => bytes = bytes.get(1..).unwrap_or_default(),
                    Some(_) => {}
                    None => self.after_cr = true,
                }
            }
            self.end_line(items);
        }
        self.hold(bytes);
    }

    fn hold(&mut self, bytes: &[u8]) {
        if self.line.len() + self.event.data.len() + bytes.len() > self.max_bytes + FIELD_BYTES {
            self.is_line_dropped = true;
            self.line.clear();
            self.event.data.clear();
        }
        if !self.is_line_dropped {
            self.line.extend_from_slice(bytes);
        }
    }

    fn end_line(&mut self, items: &mut Vec<Item>) {
        if std::mem::take(&mut self.is_line_dropped) {
            self.is_event_dropped = true;
            return;
        }
        let mut line = std::mem::take(&mut self.line);
        let is_first = !std::mem::replace(&mut self.has_begun, true);
        let content = if is_first { line.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(&line) } else { &line };
        match (content.is_empty(), self.is_event_dropped) {
            (true, true) => {
                self.is_event_dropped = false;
                self.reset();
                items.push(Item::TooLarge);
            }
            (true, false) => self.dispatch(items),
            (false, true) => {}
            (false, false) => self.field(content, items),
        }
        line.clear();
        self.line = line;
    }

    fn field(&mut self, line: &[u8], items: &mut Vec<Item>) {
        let (name, value) = match memchr::memchr(b':', line) {
            Some(0) => return items.push(Item::Sign),
            Some(at) => {
                let value = line.get(at + 1..).unwrap_or_default();
                (line.get(..at).unwrap_or_default(), value.strip_prefix(b" ").unwrap_or(value))
            }
            None => (line, &b""[..]),
        };
        match name {
            b"data" => {
                if self.has_data {
                    self.event.data.push(b'\n');
                }
                self.has_data = true;
                self.event.data.extend_from_slice(value);
            }
            b"event" => self.event.name = Some(String::from_utf8_lossy(value).into_owned()),
            b"id" if !value.contains(&0) => self.last_id = Some(String::from_utf8_lossy(value).into_owned()),
            _ => items.push(Item::Sign),
        }
    }

    fn dispatch(&mut self, items: &mut Vec<Item>) {
        if !self.has_data {
            self.reset();
            return items.push(Item::Sign);
        }
        let mut event = std::mem::take(&mut self.event);
        event.id.clone_from(&self.last_id);
        self.reset();
        items.push(Item::Event(event));
    }

    fn reset(&mut self) {
        self.event = Event::default();
        self.has_data = false;
    }
}

/// What a line has beside its data.
const FIELD_BYTES: usize = 16;

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing)]
    use super::*;
    use proptest::prelude::*;

    fn parse(chunks: &[&[u8]]) -> Vec<Item> {
        let mut parser = Parser::new(40);
        let mut items = Vec::new();
        chunks.iter().for_each(|chunk| parser.push(chunk, &mut items));
        items
    }

    fn events(chunks: &[&[u8]]) -> Vec<(Option<String>, Option<String>, String)> {
        let text = |event: Event| (event.name, event.id, String::from_utf8(event.data).unwrap());
        let of = |item| if let Item::Event(event) = item { Some(text(event)) } else { None };
        parse(chunks).into_iter().filter_map(of).collect()
    }

    fn data(text: &str) -> (Option<String>, Option<String>, String) {
        (None, None, text.to_owned())
    }

    const MIXED: &str = ":ok\n\nid: 7\nevent: update\ndata: {\"a\":1}\r\n\r\ndata:one\rdata: two\r\r:)\n:thump\ndata: \u{85}\u{2028}ü\n\nretry: 5\n\nid\ndata\n\n";

    #[test]
    fn every_kind_of_line_end_and_nothing_else_ends_a_line() {
        let id = Some("7".to_owned());
        let expected = vec![
            (Some("update".to_owned()), id.clone(), "{\"a\":1}".to_owned()),
            (None, id.clone(), "one\ntwo".to_owned()),
            (None, id, "\u{85}\u{2028}ü".to_owned()),
            (None, Some(String::new()), String::new()),
        ];
        assert_eq!(events(&[MIXED.as_bytes()]), expected);
    }

    #[test]
    fn an_event_that_has_not_ended_is_none() {
        assert_eq!(events(&[b"data: a\n\ndata: half\n"]), [data("a")]);
        assert_eq!(events(&[b"data: a\n\ndata: ha"]), [data("a")]);
    }

    #[test]
    fn an_event_that_is_too_large_is_skipped_and_the_next_one_read() {
        let long = format!("data: {}\n\ndata: next\n\n", "x".repeat(500));
        for chunk in [1, 7, 1000] {
            let chunks: Vec<&[u8]> = long.as_bytes().chunks(chunk).collect();
            assert_eq!(parse(&chunks), [Item::TooLarge, Item::Event(Event { data: b"next".to_vec(), ..Event::default() })], "{chunk}");
        }
        let many = format!("{}\ndata: next\n\n", "data: 0123456789\n".repeat(20));
        assert_eq!(parse(&[many.as_bytes()]), [Item::TooLarge, Item::Event(Event { data: b"next".to_vec(), ..Event::default() })]);
    }

    proptest! {
        #[test]
        fn events_are_the_same_however_the_bytes_arrive(sizes in prop::collection::vec(1_usize..9, 1..99)) {
            let mut rest = MIXED.as_bytes();
            let mut chunks = Vec::new();
            for size in sizes {
                let (chunk, left) = rest.split_at(size.min(rest.len()));
                chunks.push(chunk);
                rest = left;
            }
            chunks.push(rest);
            prop_assert_eq!(events(&chunks), events(&[MIXED.as_bytes()]));
        }
    }
}
