//! Serves connections, with limits on their number and timeouts for handshakes, request heads, idle connections and stalled responses.

use std::future::Future;
use std::io;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::Router;
use axum::http::Request;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, watch};
use tokio::time::{Sleep, timeout};
use tower::Service;

use crate::limits::Limits;
use crate::tls::Tls;

/// Read buffer of each connection, bytes: the maximum size of a request's head.
const HEAD_BYTES: usize = 64 << 10;
/// The response on a connection beyond the limit.
const BUSY: &[u8] = b"HTTP/1.1 503 Service Unavailable\r\nretry-after: 1\r\nconnection: close\r\ncontent-length: 0\r\n\r\n";
/// Timeout for that response, and how many are sent concurrently; connections beyond that are closed without a response.
const TELL_FOR: Duration = Duration::from_secs(1);
const TOLD_AT_ONCE: usize = 64;
/// Pause when the system cannot accept connections, for instance for lack of file descriptors.
const PAUSE: Duration = Duration::from_millis(200);

/// What holds the connection of a request open: it counts as one until the last of these is dropped. A WebSocket outlives the request that it began as.
#[derive(Clone)]
pub struct Connection(#[allow(dead_code, reason = "held, not looked at")] Arc<(OwnedSemaphorePermit, mpsc::Sender<()>)>);

/// Serves connections until `shutdown` completes, then drains the requests that are in flight.
pub async fn serve(listener: TcpListener, router: Router, limits: &Limits, tls: Option<&Arc<Tls>>, shutdown: impl Future<Output = ()>) {
    let (places, told) = (Arc::new(Semaphore::new(limits.connections.max(1))), Arc::new(Semaphore::new(TOLD_AT_ONCE)));
    let (stop, stopping) = watch::channel(false);
    // Never sent to: the receiver completes when the last connection has ended.
    let (open, mut closed) = mpsc::channel::<()>(1);
    let mut shutdown = pin!(shutdown);
    loop {
        let accepted = tokio::select! {
            accepted = accept(&listener) => accepted,
            () = &mut shutdown => break,
        };
        let Ok(place) = places.clone().try_acquire_owned() else {
            if let Ok(telling) = told.clone().try_acquire_owned() {
                tokio::spawn(async move {
                    tell(accepted).await;
                    drop(telling);
                });
            }
            continue;
        };
        let connection = Connection(Arc::new((place, open.clone())));
        let serving = Serving { router: router.clone(), connection, head_for: limits.head_for, stopping: stopping.clone() };
        let (patient, tls) = (Patient::new(accepted, limits.write_for), tls.cloned());
        tokio::spawn(async move {
            match tls {
                None => serving.serve(patient).await,
                Some(tls) => match timeout(serving.head_for, tls.accept(patient)).await {
                    Ok(Ok(stream)) => serving.serve(stream).await,
                    Ok(Err(error)) => tracing::debug!(error, "a handshake failed"),
                    Err(_) => tracing::debug!("a handshake took too long"),
                },
            }
        });
    }
    drop((listener, open));
    stop.send_replace(true);
    let _ = closed.recv().await;
}

/// One connection that is served.
struct Serving {
    router: Router,
    connection: Connection,
    head_for: Duration,
    stopping: watch::Receiver<bool>,
}

impl Serving {
    async fn serve(mut self, stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static) {
        let mut builder = http1::Builder::new();
        builder.timer(TokioTimer::new()).header_read_timeout(self.head_for).max_buf_size(HEAD_BYTES);
        let service = Holding { router: self.router, connection: self.connection.clone() };
        let mut served = pin!(builder.serve_connection(TokioIo::new(stream), TowerToHyperService::new(service)).with_upgrades());
        let ended = tokio::select! {
            ended = served.as_mut() => Some(ended),
            _ = self.stopping.wait_for(|is_stopping| *is_stopping) => None,
        };
        let ended = match ended {
            Some(ended) => ended,
            None => {
                served.as_mut().graceful_shutdown();
                served.await
            }
        };
        if let Err(error) = ended {
            tracing::debug!(%error, "a connection ended early");
        }
        drop(self.connection);
    }
}

/// The routes, whose requests hold their connection open.
#[derive(Clone)]
struct Holding {
    router: Router,
    connection: Connection,
}

impl<B> Service<Request<B>> for Holding
where
    Router: Service<Request<B>>,
{
    type Response = <Router as Service<Request<B>>>::Response;
    type Error = <Router as Service<Request<B>>>::Error;
    type Future = <Router as Service<Request<B>>>::Future;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.router.poll_ready(context)
    }

    fn call(&mut self, mut request: Request<B>) -> Self::Future {
        request.extensions_mut().insert(self.connection.clone());
        self.router.call(request)
    }
}

/// Accepts the next connection; retries on errors.
async fn accept(listener: &TcpListener) -> TcpStream {
    loop {
        match listener.accept().await {
            Ok((stream, _)) => return stream,
            Err(error) if is_of_connection(&error) => {}
            Err(error) => {
                tracing::warn!(%error, "a connection cannot be accepted; trying again");
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
}

fn is_of_connection(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::ConnectionRefused | io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset)
}

async fn tell(mut stream: TcpStream) {
    let _ = tokio::time::timeout(TELL_FOR, async {
        stream.write_all(BUSY).await?;
        stream.shutdown().await
    })
    .await;
}

/// A connection whose writes time out when the client accepts no bytes for too long.
struct Patient {
    stream: TcpStream,
    patience: Duration,
    waiting: Option<Pin<Box<Sleep>>>,
}

impl Patient {
    fn new(stream: TcpStream, patience: Duration) -> Patient {
        Patient { stream, patience, waiting: None }
    }

    fn written<T>(&mut self, context: &mut Context<'_>, written: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if written.is_ready() {
            self.waiting = None;
            return written;
        }
        let patience = self.patience;
        ready!(self.waiting.get_or_insert_with(|| Box::pin(tokio::time::sleep(patience))).as_mut().poll(context));
        Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, "the client accepts no data")))
    }
}

impl AsyncRead for Patient {
    fn poll_read(mut self: Pin<&mut Self>, context: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl AsyncWrite for Patient {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(context, bytes);
        self.written(context, written)
    }

    fn poll_write_vectored(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[io::IoSlice<'_>]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(context, bytes);
        self.written(context, written)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}
