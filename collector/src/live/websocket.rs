//! WebSocket connections, over TCP or TLS.

use std::io::{ErrorKind, Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};
use tungstenite::client::IntoClientRequest;
use tungstenite::error::ProtocolError;
use tungstenite::http::{HeaderName, HeaderValue, Uri};
use tungstenite::protocol::WebSocketConfig;
use tungstenite::{Error, HandshakeError, Message, WebSocket};

use super::closer::Closer;
use super::declared::Limits;
use super::error::{LiveError, of_status, retry_after};
use super::frame::{Frame, Frames};
use super::http::Request;

/// A larger message ends the connection; one that is only larger than declared is skipped.
const MOST_HELD_BYTES: usize = 64 << 20;
/// How long a read waits before the clock is looked at.
const SLICE: Duration = Duration::from_millis(250);

/// A connection.
pub(crate) struct SocketFrames {
    socket: WebSocket<Box<dyn Stream>>,
    silence: Duration,
    max_bytes: usize,
    heard: Instant,
    /// Whether it was asked since whether it is alive.
    has_asked: bool,
}

/// Bytes both ways.
trait Stream: Read + Write + Send {}
impl<T: Read + Write + Send> Stream for T {}

impl SocketFrames {
    /// Connects, and sends the messages that begin the stream.
    #[allow(clippy::disallowed_methods, reason = "tells how long a server is silent, and reaches no record")]
    pub fn connect(request: &Request, greetings: &[String], limits: &Limits, closer: &Closer) -> Result<SocketFrames, LiveError> {
        let invalid = |what: &str| LiveError::operator(format!("{what} of the stream is not valid"));
        let uri: Uri = request.url.parse().map_err(|_| invalid("the address"))?;
        let host = uri.host().ok_or_else(|| invalid("the address"))?.to_owned();
        let is_tls = uri.scheme_str() == Some("wss");
        let port = uri.port_u16().unwrap_or(if is_tls { 443 } else { 80 });
        let tcp = dial(&host, port, limits.connect)?;
        closer.note_socket(&tcp);
        tcp.set_read_timeout(Some(limits.headers))
            .and_then(|()| tcp.set_write_timeout(Some(limits.connect)))
            .map_err(|error| lost(&error))?;
        let slices = tcp.try_clone().map_err(|error| lost(&error))?;
        let stream: Box<dyn Stream> = if is_tls { Box::new(tls(&host, tcp)?) } else { Box::new(tcp) };

        let mut upgrade = request.url.as_str().into_client_request().map_err(|_| invalid("the address"))?;
        let own = ("user-agent".to_owned(), concat!("refold/", env!("CARGO_PKG_VERSION")).to_owned());
        for (name, value) in [&own].into_iter().chain(&request.headers) {
            let name = HeaderName::try_from(name.as_str()).map_err(|_| invalid(&format!("the name of header {name:?}")))?;
            let value = HeaderValue::try_from(value.as_str()).map_err(|_| invalid(&format!("the value of header {name}")))?;
            upgrade.headers_mut().insert(name, value);
        }
        let most = Some(limits.max_message_bytes.max(MOST_HELD_BYTES));
        let config = WebSocketConfig::default().max_message_size(most).max_frame_size(most);
        let (mut socket, _) = tungstenite::client::client_with_config(upgrade, stream, Some(config)).map_err(refused)?;
        for greeting in greetings {
            socket.send(Message::text(greeting.clone())).map_err(|error| ended(&error))?;
        }
        slices.set_read_timeout(Some(SLICE)).map_err(|error| lost(&error))?;
        Ok(SocketFrames { socket, silence: limits.silence, max_bytes: limits.max_message_bytes, heard: Instant::now(), has_asked: false })
    }

    #[allow(clippy::disallowed_methods, reason = "tells how long a server is silent, and reaches no record")]
    fn heard(&mut self) {
        self.heard = Instant::now();
        self.has_asked = false;
    }

    /// Nothing came in a slice of time: a server that is alive answers a ping.
    fn is_silent(&mut self) -> Result<(), LiveError> {
        let silent = self.heard.elapsed();
        if silent >= self.silence {
            return Err(LiveError::transient(format!("nothing was received for {} s", self.silence.as_secs())));
        }
        if silent >= self.silence / 2 && !std::mem::replace(&mut self.has_asked, true) {
            self.socket.send(Message::Ping(bytes::Bytes::new())).map_err(|error| ended(&error))?;
        }
        Ok(())
    }
}

impl Frames for SocketFrames {
    fn next(&mut self) -> Result<Frame, LiveError> {
        loop {
            let message = match self.socket.read() {
                Ok(message) => message,
                Err(Error::Io(error)) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                    self.is_silent()?;
                    continue;
                }
                Err(Error::Io(error)) if error.kind() == ErrorKind::Interrupted => continue,
                Err(Error::Capacity(_)) => {
                    return Err(LiveError::operator(
                        "the server sent a message that is much larger than max_message_bytes; let that be larger",
                    ));
                }
                Err(error) => return Err(ended(&error)),
            };
            self.heard();
            return match message {
                Message::Text(text) if text.len() > self.max_bytes => Ok(Frame::TooLarge),
                Message::Binary(data) if data.len() > self.max_bytes => Ok(Frame::TooLarge),
                Message::Text(text) => Ok(Frame::Message { name: None, id: None, data: bytes::Bytes::copy_from_slice(text.as_bytes()) }),
                Message::Binary(data) => Ok(Frame::Message { name: None, id: None, data }),
                Message::Close(close) => {
                    let why = close.map_or(String::new(), |close| format!(" ({} {})", u16::from(close.code), close.reason));
                    Err(LiveError::transient(format!("the server has ended the stream{}", why.trim_end())))
                }
                Message::Ping(_) | Message::Pong(_) | Message::Frame(_) => {
                    // The answer to a ping is queued by the library, and goes out with this.
                    let _ = self.socket.flush();
                    Ok(Frame::Sign)
                }
            };
        }
    }
}

impl Drop for SocketFrames {
    fn drop(&mut self) {
        // A server that was told counts the connection no more.
        let _ = self.socket.close(None);
        let _ = self.socket.flush();
    }
}

fn dial(host: &str, port: u16, within: Duration) -> Result<TcpStream, LiveError> {
    let host = host.trim_start_matches('[').trim_end_matches(']');
    let addresses = (host, port).to_socket_addrs().map_err(|error| LiveError::transient(format!("the host is not found: {error}")))?;
    let mut failed = LiveError::transient("the host has no address");
    for address in addresses {
        match TcpStream::connect_timeout(&address, within) {
            Ok(stream) => {
                let _ = stream.set_nodelay(true);
                return Ok(stream);
            }
            Err(error) => failed = LiveError::transient(format!("the server cannot be reached: {error}")),
        }
    }
    Err(failed)
}

fn tls(host: &str, tcp: TcpStream) -> Result<StreamOwned<ClientConnection, TcpStream>, LiveError> {
    let unusable = |error: &dyn std::fmt::Display| LiveError::operator(format!("TLS is not possible: {error}"));
    let roots = RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.to_vec() };
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().map_err(|error| unusable(&error))?;
    let config = builder.with_root_certificates(roots).with_no_client_auth();
    let name = ServerName::try_from(host.to_owned()).map_err(|error| unusable(&error))?;
    let connection = ClientConnection::new(Arc::new(config), name).map_err(|error| unusable(&error))?;
    Ok(StreamOwned::new(connection, tcp))
}

/// Why the stream did not begin.
fn refused(error: HandshakeError<tungstenite::ClientHandshake<Box<dyn Stream>>>) -> LiveError {
    match error {
        HandshakeError::Interrupted(_) => LiveError::transient("the server does not answer in time"),
        HandshakeError::Failure(Error::Http(response)) => {
            let header = |name: &str| response.headers().get(name).and_then(|value| value.to_str().ok());
            let after = retry_after(header, refold_processor::clock::Clock::now_ms(&refold_processor::clock::SystemClock));
            let text = response.body().as_deref().map(String::from_utf8_lossy).unwrap_or_default();
            of_status(response.status().as_u16(), after, &text)
        }
        HandshakeError::Failure(error) => ended(&error),
    }
}

fn ended(error: &Error) -> LiveError {
    match error {
        Error::ConnectionClosed | Error::AlreadyClosed => LiveError::transient("the server has ended the stream"),
        Error::Io(error) => lost(error),
        Error::Protocol(ProtocolError::ResetWithoutClosingHandshake) => LiveError::transient("the connection was lost"),
        error => LiveError::transient(format!("the server does not keep to the protocol: {error}")),
    }
}

fn lost(error: &std::io::Error) -> LiveError {
    LiveError::transient(format!("the connection was lost: {error}"))
}
