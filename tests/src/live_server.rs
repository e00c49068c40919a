//! A server of live messages on this machine, which misbehaves as those of others do: it cuts connections at any byte, repeats, stalls, refuses and sends rubbish.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// What a client asks for.
#[derive(Clone, Debug, Default)]
pub struct Asked {
    /// `GET` or `POST`.
    pub method: String,
    /// Path and query.
    pub path: String,
    /// Headers, their names in small letters.
    pub headers: Vec<(String, String)>,
    /// The body, where its length is said.
    pub body: String,
    /// The number of the connection, from 0.
    pub number: u64,
}

impl Asked {
    /// The value of a header.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    /// The value of a parameter.
    pub fn parameter(&self, name: &str) -> Option<&str> {
        let query = self.path.split_once('?')?.1;
        query.split('&').find_map(|pair| pair.split_once('=').filter(|(known, _)| *known == name).map(|(_, value)| value))
    }
}

/// A server: each connection is answered by a function, in a thread of its own.
pub struct LiveServer {
    /// Its port on the loopback address.
    pub port: u16,
    /// How many connections there were.
    pub connections: Arc<AtomicU64>,
}

impl LiveServer {
    /// Starts one. It ends with the process of the test.
    pub fn start(answer: impl Fn(Asked, TcpStream) + Send + Sync + 'static) -> LiveServer {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let (port, connections) = (listener.local_addr().unwrap().port(), Arc::new(AtomicU64::new(0)));
        let (answer, counted) = (Arc::new(answer), connections.clone());
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let answer = answer.clone();
                let number = counted.fetch_add(1, Ordering::SeqCst);
                std::thread::spawn(move || {
                    let Some(asked) = asked(&stream, number) else { return };
                    answer(asked, stream);
                });
            }
        });
        LiveServer { port, connections }
    }

    /// Scheme, host and port.
    pub fn url(&self, scheme: &str) -> String {
        format!("{scheme}://127.0.0.1:{}", self.port)
    }
}

/// Reads a request without taking more of the stream than it has. The head of a WebSocket's request is left to be read again.
fn asked(stream: &TcpStream, number: u64) -> Option<Asked> {
    stream.set_read_timeout(Some(Duration::from_secs(10))).ok()?;
    let mut seen = vec![0; 16 << 10];
    let mut length = stream.peek(&mut seen).ok()?;
    while !seen[..length].windows(4).any(|end| end == b"\r\n\r\n") {
        std::thread::sleep(Duration::from_millis(1));
        length = stream.peek(&mut seen).ok().filter(|more| *more > 0)?;
    }
    let head = String::from_utf8_lossy(&seen[..length]).into_owned();
    let head = head.split("\r\n\r\n").next()?.to_owned();
    let mut lines = head.split("\r\n");
    let mut first = lines.next()?.split(' ');
    let (method, path) = (first.next()?.to_owned(), first.next()?.to_owned());
    let header = |line: &str| line.split_once(':').map(|(name, value)| (name.trim().to_lowercase(), value.trim().to_owned()));
    let headers = lines.filter_map(header).collect();
    let mut asked = Asked { method, path, headers, body: String::new(), number };
    if asked.header("upgrade").is_none() {
        let mut reader = BufReader::new(stream.try_clone().ok()?);
        let mut line = String::new();
        while reader.read_line(&mut line).ok()? > 2 {
            line.clear();
        }
        let bytes = asked.header("content-length").and_then(|length| length.parse().ok()).unwrap_or(0);
        let mut body = vec![0; bytes];
        reader.read_exact(&mut body).ok()?;
        asked.body = String::from_utf8_lossy(&body).into_owned();
    }
    Some(asked)
}

/// Answers with a status and a whole body.
pub fn respond(stream: &mut TcpStream, status: u16, headers: &str, body: &str) {
    let _ = write!(stream, "HTTP/1.1 {status} X\r\ncontent-length: {}\r\nconnection: close\r\n{headers}\r\n{body}", body.len());
}

/// Begins a body that does not end; it is written in chunks.
pub fn begin(stream: &mut TcpStream, content_type: &str) {
    let _ = write!(stream, "HTTP/1.1 200 OK\r\ncontent-type: {content_type}\r\ntransfer-encoding: chunked\r\n\r\n");
}

/// Writes a part of a body, in chunks of so many bytes. `false`: nobody reads any more.
pub fn chunks(stream: &mut TcpStream, part: &[u8], bytes: usize) -> bool {
    part.chunks(bytes).all(|chunk| {
        let framed = [format!("{:x}\r\n", chunk.len()).as_bytes(), chunk, b"\r\n"].concat();
        stream.write_all(&framed).is_ok()
    })
}

/// A stream that is cut after so many written bytes.
pub struct Cut {
    /// The connection.
    pub stream: TcpStream,
    /// What may still be written.
    pub left: usize,
}

impl Read for Cut {
    fn read(&mut self, into: &mut [u8]) -> std::io::Result<usize> {
        self.stream.read(into)
    }
}

impl Write for Cut {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        let written = self.stream.write(&bytes[..bytes.len().min(self.left)])?;
        self.left -= written;
        if self.left == 0 {
            let _ = self.stream.shutdown(std::net::Shutdown::Both);
            return Err(std::io::ErrorKind::BrokenPipe.into());
        }
        Ok(written)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.stream.flush()
    }
}
