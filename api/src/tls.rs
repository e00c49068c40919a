//! TLS of the listener, with a certificate and a key whose files are read again when they have changed.

use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::time::SystemTime;

use openssl::ssl::{AlpnError, Ssl, SslAcceptor, SslFiletype, SslMethod, SslVersion, select_next_proto};
use parking_lot::RwLock;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_openssl::SslStream;

/// The one protocol that is spoken, as clients offer protocols.
const PROTOCOLS: &[u8] = b"\x08http/1.1";

/// The files of a listener.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsSettings {
    /// The certificate and those that it is signed by, PEM.
    pub certificate: PathBuf,
    /// Its key, PEM.
    pub key: PathBuf,
}

/// Why TLS cannot be spoken.
#[derive(Debug, thiserror::Error)]
#[error("TLS cannot be spoken with {} and {}: {message}", settings.certificate.display(), settings.key.display())]
pub struct TlsError {
    settings: Box<TlsSettings>,
    message: String,
}

/// When the two files were changed last.
type Stamps = [Option<SystemTime>; 2];

/// TLS of a listener.
pub struct Tls {
    settings: TlsSettings,
    inner: RwLock<(Stamps, SslAcceptor)>,
}

impl Tls {
    /// TLS with these files.
    ///
    /// # Errors
    /// When they are not a certificate and its key.
    pub fn new(settings: &TlsSettings) -> Result<Tls, TlsError> {
        let stamps = stamps(settings);
        Ok(Tls { settings: settings.clone(), inner: RwLock::new((stamps, acceptor(settings)?)) })
    }

    /// Reads the files again if they have changed. While they are not valid, those before are in use: a certificate may be replaced before its key is.
    pub fn reread(&self) {
        let seen = stamps(&self.settings);
        if self.inner.read().0 == seen {
            return;
        }
        match acceptor(&self.settings) {
            Ok(acceptor) => {
                tracing::info!(certificate = %self.settings.certificate.display(), "the certificate was read again");
                *self.inner.write() = (seen, acceptor);
            }
            Err(error) => {
                tracing::error!(%error, "the files of TLS have changed and are not valid: those before are in use");
                self.inner.write().0 = seen;
            }
        }
    }

    /// Shakes hands; the error is for the log.
    pub async fn accept<S: AsyncRead + AsyncWrite + Unpin>(&self, stream: S) -> Result<SslStream<S>, String> {
        let ssl = Ssl::new(self.inner.read().1.context()).map_err(|error| error.to_string())?;
        let mut stream = SslStream::new(ssl, stream).map_err(|error| error.to_string())?;
        Pin::new(&mut stream).accept().await.map_err(|error| error.to_string())?;
        Ok(stream)
    }
}

fn stamps(settings: &TlsSettings) -> Stamps {
    let changed = |file: &Path| std::fs::metadata(file).and_then(|metadata| metadata.modified()).ok();
    [changed(&settings.certificate), changed(&settings.key)]
}

fn acceptor(settings: &TlsSettings) -> Result<SslAcceptor, TlsError> {
    let build = || -> Result<SslAcceptor, openssl::error::ErrorStack> {
        let mut builder = SslAcceptor::mozilla_intermediate_v5(SslMethod::tls_server())?;
        builder.set_min_proto_version(Some(SslVersion::TLS1_2))?;
        builder.set_certificate_chain_file(&settings.certificate)?;
        builder.set_private_key_file(&settings.key, SslFiletype::PEM)?;
        builder.check_private_key()?;
        builder.set_alpn_select_callback(|_, offered| select_next_proto(PROTOCOLS, offered).ok_or(AlpnError::NOACK));
        Ok(builder.build())
    };
    build().map_err(|error| TlsError { settings: Box::new(settings.clone()), message: error.to_string() })
}
