//! `GET /v1/live`, and `/v1/views/{view}/live` with `Upgrade: websocket`: many subscriptions on one connection.
//!
//! Text frames of one JSON object each.
//!
//! | from the client | |
//! |---|---|
//! | `{"op":"subscribe","id","view","key":{…},"limit"?,"after"?}` | follows a partition; `latest` in the key stands for the newest window; `after` names `version`, `positions` and `epoch` of the last message before a reconnect |
//! | `{"op":"unsubscribe","id"}` | ends that |
//! | `{"op":"ping"}` | is answered with `pong` |
//!
//! | from the server | |
//! |---|---|
//! | `snapshot` | the rows; from here on messages say what becomes of them |
//! | `changes` | rows that are new or other (`changed`), keys of rows that are no more (`deleted`) |
//! | `resumed` | what comes next goes on after `after`, without a snapshot |
//! | `skipped` | the rows anew, for a client that was too slow |
//! | `switched` | another version is in service, and how its rows differ |
//! | `moved` | another window is the newest one; its rows |
//! | `unavailable` | the rows cannot be read for now; the subscription goes on by itself |
//! | `error` | the subscription, or what was sent, is refused |
//! | `pong` | the answer to `ping` |

use std::sync::Arc;
use std::time::Duration;

use axum::extract::ws::{CloseFrame, Message, WebSocket, WebSocketUpgrade, close_code};
use axum::extract::{FromRequestParts, Path, Query, Request, State};
use axum::http::HeaderMap;
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use serde_json::{Map, Value, json};
use tokio::sync::Notify;
use tokio::time::{Instant, interval_at, timeout};

use super::guard::is_upgrade;
use super::live::{follow, refuse_bounds};
use crate::access::{Access, Role};
use crate::live::{After, Due, KEEP_ALIVE, Live, Open, Subscription};
use crate::parameters::parameter;
use crate::problem::Problem;
use crate::serving::Connection;

/// The longest message of a client, bytes.
const MESSAGE_BYTES: usize = 16 << 10;
/// The most subscriptions of a connection.
const SUBSCRIPTIONS_MAX: usize = 100;
/// The most rows of a subscription: messages are not sent in pieces.
const ROWS_MAX: usize = 1_000;
/// A client that sends so much that is no request is not served any more.
const MISTAKES_MAX: usize = 10;
/// The longest name of a subscription, bytes.
const ID_BYTES: usize = 200;
/// How many pings may go unanswered.
const PINGS_MAX: u32 = 2;
/// The buffer that a connection reads into and, as long as messages are no longer, writes from, bytes.
const BUFFER_BYTES: usize = 4 << 10;

/// `GET /v1/views/{view}/live`: a WebSocket where that is asked for, otherwise server-sent events.
pub async fn of_view(
    State(live): State<Arc<Live>>,
    State(access): State<Arc<Access>>,
    Path(view): Path<String>,
    Query(parameters): Query<Vec<(String, String)>>,
    request: Request,
) -> Result<Response, Problem> {
    if !is_upgrade(request.headers()) {
        return Ok(follow(State(live), Path(view), Query(parameters)).await?.into_response());
    }
    refuse_bounds(&parameters)?;
    if parameters.iter().any(|(name, _)| name == "version") {
        return Err(Problem::parameter("parameter version has no meaning for a WebSocket: it follows the version in service"));
    }
    let limit = parameters.iter().find(|(name, _)| name == "limit").and_then(|(_, limit)| limit.parse().ok());
    limit.map_or(Ok(()), check_limit)?;
    upgrade(live, access, Some((view, parameters)), request).await
}

fn check_limit(limit: usize) -> Result<(), Problem> {
    match limit > ROWS_MAX {
        true => Err(Problem::parameter(format!("limit: {limit} is more than {ROWS_MAX}; read /rows for more"))),
        false => Ok(()),
    }
}

/// `GET /v1/live`
pub async fn of_all(State(live): State<Arc<Live>>, State(access): State<Arc<Access>>, request: Request) -> Result<Response, Problem> {
    if !is_upgrade(request.headers()) {
        return Err(Problem::parameter(
            "a WebSocket is expected here (upgrade: websocket); /v1/views/{view}/live has server-sent events of one partition",
        ));
    }
    upgrade(live, access, None, request).await
}

/// The view of the path, and what its query names.
type OfPath = Option<(String, Vec<(String, String)>)>;

async fn upgrade(live: Arc<Live>, access: Arc<Access>, of_path: OfPath, request: Request) -> Result<Response, Problem> {
    let (mut parts, _) = request.into_parts();
    let open = live.admit()?;
    let headers = parts.headers.clone();
    // Held until the socket is closed, so that a shutdown waits for it and the limit of connections counts it.
    let connection = parts.extensions.get::<Connection>().cloned();
    let upgrade = WebSocketUpgrade::from_request_parts(&mut parts, &()).await;
    let upgrade = upgrade.map_err(|refused| Problem::parameter(format!("the WebSocket is refused: {}", refused.body_text())))?;
    let upgrade = upgrade.max_message_size(MESSAGE_BYTES).max_frame_size(MESSAGE_BYTES).read_buffer_size(BUFFER_BYTES).write_buffer_size(0);
    Ok(upgrade.on_upgrade(move |socket| async move {
        let path_view = of_path.as_ref().map(|(view, _)| view.clone());
        let mut client =
            Client { live, access, headers, path_view, subscriptions: Vec::new(), wake: Arc::default(), mistakes: 0, _open: open };
        if let Some((view, parameters)) = of_path.filter(|(_, parameters)| !parameters.is_empty()) {
            client.begin(view.clone(), &view, &parameters, None);
        }
        // It only ends when the client is gone, or is not to be served any more.
        let _ = client.serve(socket).await;
        drop(connection);
    }))
}

/// The connection is over.
struct Ended;

/// One connected client.
struct Client {
    live: Arc<Live>,
    access: Arc<Access>,
    /// Of the request: what it may do is looked at again and again.
    headers: HeaderMap,
    /// The view of the path, which subscriptions need not name.
    path_view: Option<String>,
    subscriptions: Vec<Subscription>,
    wake: Arc<Notify>,
    mistakes: usize,
    _open: Open,
}

/// What a client sends.
#[derive(Debug, Deserialize)]
#[serde(tag = "op", rename_all = "lowercase", deny_unknown_fields)]
enum Op {
    Subscribe(Box<Subscribe>),
    Unsubscribe { id: String },
    Ping {},
}

/// What is to be followed.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Subscribe {
    id: String,
    view: Option<String>,
    #[serde(default)]
    key: Map<String, Value>,
    limit: Option<usize>,
    after: Option<Value>,
}

impl Client {
    async fn serve(&mut self, mut socket: WebSocket) -> Result<(), Ended> {
        let mut pings = interval_at(Instant::now() + KEEP_ALIVE, KEEP_ALIVE);
        let mut closing = self.live.closing();
        let mut unanswered = 0;
        loop {
            self.send_due(&mut socket).await?;
            tokio::select! {
                () = self.wake.notified() => {}
                received = socket.recv() => {
                    unanswered = 0;
                    match received {
                        Some(Ok(Message::Text(text))) => self.take(&mut socket, text.as_str()).await?,
                        Some(Ok(Message::Binary(_))) => {
                            return self.close(socket, close_code::UNSUPPORTED, "text frames of one JSON object each are expected").await;
                        }
                        Some(Ok(Message::Ping(_) | Message::Pong(_))) => {}
                        Some(Ok(Message::Close(_)) | Err(_)) | None => return Err(Ended),
                    }
                    if self.mistakes > MISTAKES_MAX {
                        return self.close(socket, close_code::POLICY, "too many messages that are no requests").await;
                    }
                }
                _ = pings.tick() => {
                    if unanswered >= PINGS_MAX {
                        return Err(Ended);
                    }
                    unanswered += 1;
                    if !self.may_read() {
                        return self.close(socket, close_code::POLICY, "the token is not valid any more").await;
                    }
                    self.send(&mut socket, Message::Ping(Default::default())).await?;
                }
                () = closing.closed() => {
                    return self.close(socket, close_code::AWAY, "the server is stopping; connect again").await;
                }
            }
        }
    }

    fn may_read(&self) -> bool {
        self.access.caller(&self.headers).is_ok_and(|caller| self.access.require(&caller, Role::Read).is_ok())
    }

    /// Sends what is due for every subscription, one message of each at a time.
    async fn send_due(&mut self, socket: &mut WebSocket) -> Result<(), Ended> {
        loop {
            let mut is_done = true;
            let mut index = 0;
            while let Some(subscription) = self.subscriptions.get_mut(index) {
                match subscription.due() {
                    Due::Message(message) => {
                        is_done = false;
                        self.send(socket, Message::Text(message.into())).await?;
                        index += 1;
                    }
                    Due::Nothing => index += 1,
                    Due::Refused(problem) => {
                        let over = self.subscriptions.remove(index);
                        self.refuse(socket, Some(&over.id), &problem).await?;
                    }
                }
            }
            if is_done {
                return Ok(());
            }
        }
    }

    async fn take(&mut self, socket: &mut WebSocket, text: &str) -> Result<(), Ended> {
        let op = match serde_json::from_str::<Op>(text) {
            Ok(op) => op,
            Err(error) => {
                self.mistakes += 1;
                let detail = format!("the message is no request: {error}; send {{\"op\":\"subscribe\",\"id\":…,\"view\":…,\"key\":{{…}}}}");
                let id = serde_json::from_str::<Value>(text).ok().and_then(|value| Some(value.get("id")?.as_str()?.to_owned()));
                return self.refuse(socket, id.as_deref(), &Problem::body(detail)).await;
            }
        };
        match op {
            Op::Ping {} => self.send(socket, Message::Text(r#"{"type":"pong"}"#.into())).await,
            Op::Unsubscribe { id } => {
                self.subscriptions.retain(|subscription| subscription.id != id);
                Ok(())
            }
            Op::Subscribe(wanted) => {
                let id = wanted.id.clone();
                match self.subscribe(*wanted) {
                    Ok(()) => Ok(()),
                    Err(problem) => {
                        self.mistakes += 1;
                        self.refuse(socket, Some(&id), &problem).await
                    }
                }
            }
        }
    }

    fn subscribe(&mut self, wanted: Subscribe) -> Result<(), Problem> {
        let Subscribe { id, view, key, limit, after } = wanted;
        if id.len() > ID_BYTES {
            return Err(Problem::body(format!("id has {} bytes; it may have {ID_BYTES}", id.len())));
        }
        if self.subscriptions.iter().any(|subscription| subscription.id == id) {
            return Err(Problem::body(format!("id {id:?} is subscribed already; unsubscribe it first, or take another")));
        }
        if self.subscriptions.len() >= SUBSCRIPTIONS_MAX {
            return Err(Problem::body(format!("{SUBSCRIPTIONS_MAX} subscriptions are open, as many as a connection may have")));
        }
        let view =
            view.or_else(|| self.path_view.clone()).ok_or_else(|| Problem::body("view is missing: the name of the view to follow"))?;
        if self.path_view.as_ref().is_some_and(|own| *own != view) {
            return Err(Problem::body(format!("this connection follows one view; connect to /v1/live to follow {view}")));
        }
        let after = after.as_ref().map(|after| {
            After::of(after).ok_or_else(|| Problem::body("after is not {\"version\":…,\"positions\":{…}} as the last message had them"))
        });
        let after = after.transpose()?;
        let text = |value: Value| match value {
            Value::String(text) => text,
            other => other.to_string(),
        };
        let mut parameters: Vec<(String, String)> = key.into_iter().map(|(column, value)| (parameter(&column), text(value))).collect();
        if let Some(limit) = limit {
            check_limit(limit)?;
            parameters.push(("limit".into(), limit.to_string()));
        }
        self.begin(id, &view, &parameters, after);
        Ok(())
    }

    fn begin(&mut self, id: String, view: &str, parameters: &[(String, String)], after: Option<After>) {
        self.subscriptions.push(Subscription::begin(&self.live, id, (view, parameters), after, &self.wake));
    }

    async fn refuse(&self, socket: &mut WebSocket, id: Option<&str>, problem: &Problem) -> Result<(), Ended> {
        let mut message = json!({ "type": "error", "id": id });
        if id.is_none()
            && let Some(members) = message.as_object_mut()
        {
            members.remove("id");
        }
        if let (Some(message), Value::Object(document)) = (message.as_object_mut(), problem.document()) {
            // Its own type is that of the message.
            message.extend(
                document.into_iter().map(|(name, value)| if name == "type" { ("problem".to_owned(), value) } else { (name, value) }),
            );
        }
        self.send(socket, Message::Text(message.to_string().into())).await
    }

    /// Sends a message. A client that takes nothing for too long is given up.
    async fn send(&self, socket: &mut WebSocket, message: Message) -> Result<(), Ended> {
        let mut closing = self.live.closing();
        tokio::select! {
            sent = timeout(self.live.limits.stream_for, socket.send(message)) => match sent {
                Ok(Ok(())) => Ok(()),
                _ => Err(Ended),
            },
            () = closing.closed() => Err(Ended),
        }
    }

    async fn close(&self, mut socket: WebSocket, code: u16, reason: &'static str) -> Result<(), Ended> {
        let frame = CloseFrame { code, reason: reason.into() };
        let _ = timeout(CLOSE_FOR, async {
            socket.send(Message::Close(Some(frame))).await?;
            // Until the client has closed its side too; what it still sends is dropped.
            while let Some(Ok(_)) = socket.recv().await {}
            Ok::<(), axum::Error>(())
        })
        .await;
        Err(Ended)
    }
}

/// How long the end of a connection may take.
const CLOSE_FOR: Duration = Duration::from_secs(1);
