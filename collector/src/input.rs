//! Bytes of an input → its text: decompressed, or refused with the way to read it all the same.

use std::io::{BufRead, BufReader, Cursor, Error, ErrorKind, Read};

/// Bytes that come one after another, from wherever.
pub(crate) type Bytes = Box<dyn Read + Send>;

/// The text of an input that may be compressed with gzip or zstd, in one part or in several.
///
/// # Errors
/// When the input cannot be read, or is of a kind that has no lines of text.
pub(crate) fn text(input: Bytes) -> std::io::Result<Bytes> {
    let (magic, input) = magic(input)?;
    let Some(compression) = Compression::of(&magic) else {
        refuse(&magic)?;
        return Ok(input);
    };
    let (magic, text) = self::magic(Box::new(Parts::new(compression, input)?))?;
    if Compression::of(&magic).is_some() {
        return Err(unreadable("it is compressed twice; decompress it once"));
    }
    refuse(&magic)?;
    Ok(text)
}

/// Why a whole body has no lines of plain text, with the way to send it all the same; `None`: it has.
pub(crate) fn refused(body: &[u8]) -> Option<String> {
    let magic = body.get(..MAGIC_BYTES).unwrap_or(body);
    match Compression::of(magic) {
        Some(_) => Some("it is compressed; send it decompressed, or use: refold collect jsonl:FILE".to_owned()),
        None => refuse(magic).err().map(|error| error.to_string()),
    }
}

/// Whether reading ended because something else than a compressed part came behind the last one: its text is whole up to there.
pub(crate) fn is_behind_parts(error: &Error) -> bool {
    error.get_ref().is_some_and(|inner| inner.is::<BehindParts>())
}

/// How many bytes tell what an input is. More are not waited for: a stream may bring a short line now, and the next one in an hour.
const MAGIC_BYTES: usize = 4;

/// The first bytes of an input, and the whole of it.
fn magic(mut input: Bytes) -> std::io::Result<(Vec<u8>, Bytes)> {
    let mut magic = Vec::with_capacity(MAGIC_BYTES);
    input.by_ref().take(MAGIC_BYTES as u64).read_to_end(&mut magic)?;
    Ok((magic.clone(), Box::new(Cursor::new(magic).chain(input))))
}

/// Refuses what is no lines of UTF-8 text, with what to do about it.
fn refuse(magic: &[u8]) -> std::io::Result<()> {
    let (what, way_out) = match magic {
        [0xFF, 0xFE, 0, 0] | [0, 0, 0xFE, 0xFF] => ("UTF-32 text", "iconv -f UTF-32 -t UTF-8 FILE | refold collect jsonl:-"),
        // With a mark, or without one and ASCII at its beginning, as JSON is.
        [0xFF, 0xFE, ..] | [0xFE, 0xFF, ..] => ("UTF-16 text", "iconv -f UTF-16 -t UTF-8 FILE | refold collect jsonl:-"),
        [1..=0x7F, 0, 1..=0x7F, 0] => ("UTF-16 text", "iconv -f UTF-16LE -t UTF-8 FILE | refold collect jsonl:-"),
        [0, 1..=0x7F, 0, 1..=0x7F] => ("UTF-16 text", "iconv -f UTF-16BE -t UTF-8 FILE | refold collect jsonl:-"),
        [b'B', b'Z', b'h', b'1'..=b'9'] => ("compressed with bzip2", "bzcat FILE | refold collect jsonl:-"),
        [b'P', b'K', 3, 4] | [b'P', b'K', 5, 6] => ("a zip archive", "unzip -p FILE | refold collect jsonl:-"),
        [0xFD, b'7', b'z', b'X'] => ("compressed with xz", "xzcat FILE | refold collect jsonl:-"),
        [4, 0x22, 0x4D, 0x18] => ("compressed with lz4", "lz4cat FILE | refold collect jsonl:-"),
        [b'7', b'z', 0xBC, 0xAF] => ("a 7-Zip archive", "7z x -so FILE | refold collect jsonl:-"),
        [b'P', b'A', b'R', b'1'] => ("a Parquet file", "write it as JSON lines first"),
        [b'O', b'b', b'j', 1] => ("an Avro container file", "avro-tools tojson FILE | refold collect jsonl:-"),
        _ => return Ok(()),
    };
    Err(unreadable(&format!("it is {what}, and JSON lines are UTF-8 text, plain or compressed with gzip or zstd; use: {way_out}")))
}

fn unreadable(message: &str) -> Error {
    Error::new(ErrorKind::InvalidData, message)
}

#[derive(Clone, Copy)]
enum Compression {
    Gzip,
    Zstd,
}

impl Compression {
    fn of(magic: &[u8]) -> Option<Compression> {
        match magic {
            [0x1F, 0x8B, ..] => Some(Compression::Gzip),
            // A frame, or one to skip.
            [0x28, 0xB5, 0x2F, 0xFD] | [0x50..=0x5F, 0x2A, 0x4D, 0x18] => Some(Compression::Zstd),
            _ => None,
        }
    }
}

/// What follows the last part of a compressed input is none.
#[derive(Debug, thiserror::Error)]
#[error(
    "what follows its last compressed part is none (it begins with {begins}): everything before it was read; cut it off, or decompress the file and \
     collect the text"
)]
struct BehindParts {
    begins: String,
}

/// The text of compressed parts in a row, as `cat one.gz two.gz` makes them.
struct Parts {
    /// `None` at the end.
    part: Option<Part>,
}

enum Part {
    Gzip(flate2::bufread::GzDecoder<Ahead>),
    Zstd(zstd::stream::read::Decoder<'static, Ahead>),
}

impl Parts {
    fn new(compression: Compression, input: Bytes) -> std::io::Result<Parts> {
        let input = Ahead { ahead: Vec::new(), input: BufReader::new(input) };
        Ok(Parts { part: Some(Part::new(compression, input)?) })
    }
}

impl Part {
    fn new(compression: Compression, input: Ahead) -> std::io::Result<Part> {
        Ok(match compression {
            Compression::Gzip => Part::Gzip(flate2::bufread::GzDecoder::new(input)),
            Compression::Zstd => Part::Zstd(zstd::stream::read::Decoder::with_buffer(input)?.single_frame()),
        })
    }

    fn read(&mut self, into: &mut [u8]) -> std::io::Result<usize> {
        match self {
            Part::Gzip(part) => part.read(into),
            Part::Zstd(part) => part.read(into),
        }
    }

    /// The part after this one, which has ended; `None` at the end of the input.
    fn next(self) -> std::io::Result<Option<Part>> {
        let mut input = match self {
            Part::Gzip(part) => part.into_inner(),
            Part::Zstd(part) => part.finish(),
        };
        // Tapes and disks fill up with zeros.
        while let [0, ..] = input.fill_buf()? {
            input.consume(1);
        }
        let magic = input.look(MAGIC_BYTES)?;
        match Compression::of(magic) {
            Some(compression) => Part::new(compression, input).map(Some),
            None if magic.is_empty() => Ok(None),
            None => {
                let begins: Vec<String> = magic.iter().map(|byte| format!("{byte:02x}")).collect();
                Err(Error::new(ErrorKind::InvalidData, BehindParts { begins: begins.join(" ") }))
            }
        }
    }
}

impl Read for Parts {
    fn read(&mut self, into: &mut [u8]) -> std::io::Result<usize> {
        while let Some(part) = &mut self.part {
            let read = part.read(into)?;
            if read > 0 || into.is_empty() {
                return Ok(read);
            }
            self.part = self.part.take().map(Part::next).transpose()?.flatten();
        }
        Ok(0)
    }
}

/// An input of which some bytes were looked at already.
struct Ahead {
    ahead: Vec<u8>,
    input: BufReader<Bytes>,
}

impl Ahead {
    /// The next bytes, so many if there are as many, which stay the next ones.
    fn look(&mut self, bytes: usize) -> std::io::Result<&[u8]> {
        let missing = bytes.saturating_sub(self.ahead.len());
        self.input.by_ref().take(missing as u64).read_to_end(&mut self.ahead)?;
        Ok(&self.ahead)
    }
}

impl Read for Ahead {
    fn read(&mut self, into: &mut [u8]) -> std::io::Result<usize> {
        let mut here = self.fill_buf()?;
        let read = here.read(into)?;
        self.consume(read);
        Ok(read)
    }
}

impl BufRead for Ahead {
    fn fill_buf(&mut self) -> std::io::Result<&[u8]> {
        if self.ahead.is_empty() { self.input.fill_buf() } else { Ok(&self.ahead) }
    }

    fn consume(&mut self, bytes: usize) {
        if self.ahead.is_empty() {
            self.input.consume(bytes);
        } else {
            self.ahead.drain(..bytes.min(self.ahead.len()));
        }
    }
}
