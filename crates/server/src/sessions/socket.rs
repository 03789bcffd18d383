//! `/api/sessions/{id}/ws`: a connection into a session as a WebSocket (RFC 6455).
//!
//! Invariants: what waits for a client is bounded by its room; what comes from it is read only as
//! fast as its room takes it; a token that ends or is revoked ends the connection within one
//! heartbeat.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::ws::{CloseFrame, Message as WsMessage, Utf8Bytes, WebSocket, WebSocketUpgrade};
use axum::extract::{Path, State};
use axum::response::Response;
use crucible_live::limits::FRAME_BYTES_MAX;
use crucible_live::room::{ClientId, Event, Person, Role};
use crucible_trust::rights::{Access, Op};
use futures_util::{SinkExt, StreamExt};
use tokio::sync::{mpsc, watch};

use super::{enter, person};
use crate::caller::{Caller, still_good};
use crate::error::{ApiError, Code};
use crate::live::{Handle, Message, Out};
use crate::state::Server;

/// The name of the protocol, as browsers and the published clients offer it.
pub const PROTOCOL: &str = "loro.v1";
/// The server is going down.
const RESTART: u16 = 1012;
/// The token is no longer good.
const SIGNED_OUT: u16 = 4401;
/// Frames written to the socket before it is flushed.
const TOGETHER: usize = 64;

pub async fn connect(
    State(server): State<Arc<Server>>,
    caller: Caller,
    Path(id): Path<String>,
    upgrade: WebSocketUpgrade,
) -> Result<Response, ApiError> {
    let (handle, entry) = enter(&server, &caller, &id, Op::Read).await?;
    let (person, role) = person(&server, &caller, entry.access).await?;
    let upgrade = upgrade
        .protocols([PROTOCOL])
        .max_message_size(FRAME_BYTES_MAX)
        .max_frame_size(FRAME_BYTES_MAX);
    Ok(upgrade.on_upgrade(move |socket| async move {
        let connection = Connection { server, caller, handle, person, role };
        connection.run(socket).await;
    }))
}

/// The server is going down.
async fn ended(closing: &mut watch::Receiver<bool>) {
    drop(closing.wait_for(|closing| *closing).await);
}

struct Connection {
    server: Arc<Server>,
    caller: Caller,
    handle: Handle,
    person: Person,
    role: Role,
}

impl Connection {
    async fn run(self, socket: WebSocket) {
        let id = self.server.live().client();
        let (out, frames) = mpsc::unbounded_channel();
        let join = Message::Join(id, self.person.clone(), self.role, out);
        if self.handle.tell(join).await.is_err() {
            return;
        }
        self.pump(id, socket, frames).await;
        // The session may have ended before its connections.
        let _ = self.handle.tell(Message::Event(Event::Gone(id))).await;
    }

    async fn pump(&self, id: ClientId, socket: WebSocket, mut out: mpsc::UnboundedReceiver<Out>) {
        let (mut sink, mut stream) = socket.split();
        let mut closing = self.server.closing();
        let period = Duration::from_millis(self.server.limits().heartbeat_ms);
        let mut heartbeat = tokio::time::interval(period);
        let mut role = self.role;
        let (code, reason) = loop {
            tokio::select! {
                () = ended(&mut closing) => break (RESTART, "the server restarts"),
                next = out.recv() => {
                    let mut next = next;
                    let (mut count, mut bytes) = (0, 0);
                    let end = loop {
                        match next {
                            Some(Out::Frame(frame)) => {
                                count += 1;
                                bytes += frame.len();
                                let message = WsMessage::Binary(frame.to_vec().into());
                                if sink.feed(message).await.is_err() {
                                    return;
                                }
                            }
                            Some(Out::Close(why)) => break Some((why.code(), why.reason())),
                            None => break Some((4410, "the session has ended")),
                        }
                        match out.try_recv() {
                            Ok(more) if count < TOGETHER => next = Some(more),
                            Ok(more) => {
                                next = Some(more);
                                if sink.flush().await.is_err() {
                                    return;
                                }
                            }
                            Err(_) => break None,
                        }
                    };
                    if sink.flush().await.is_err() {
                        return;
                    }
                    if count > 0 && self.tell(Event::Sent(id, count, bytes)).await.is_err() {
                        return;
                    }
                    if let Some(end) = end {
                        break end;
                    }
                }
                message = stream.next() => match message {
                    Some(Ok(WsMessage::Binary(bytes))) => {
                        if self.tell(Event::Frame(id, bytes.to_vec())).await.is_err() {
                            break (4410, "the session has ended");
                        }
                    }
                    Some(Ok(WsMessage::Text(text))) => {
                        if text.as_str() == "ping" {
                            let pong = WsMessage::Text(Utf8Bytes::from_static("pong"));
                            if sink.send(pong).await.is_err() {
                                return;
                            }
                        }
                    }
                    Some(Ok(WsMessage::Ping(_) | WsMessage::Pong(_))) => {}
                    Some(Ok(WsMessage::Close(_)) | Err(_)) | None => return,
                },
                _ = heartbeat.tick() => {
                    let Some(now) = self.role_now().await else {
                        break (SIGNED_OUT, "the token is no longer good");
                    };
                    if now != role && self.tell(Event::Role(id, now)).await.is_err() {
                        break (4410, "the session has ended");
                    }
                    role = now;
                    if sink.send(WsMessage::Ping(Vec::new().into())).await.is_err() {
                        return;
                    }
                }
            }
        };
        let close = CloseFrame { code, reason: Utf8Bytes::from_static(reason) };
        // Whoever does not take it hears the end of the connection instead.
        let _ = sink.send(WsMessage::Close(Some(close))).await;
    }

    async fn tell(&self, event: Event) -> Result<(), ApiError> {
        self.handle.tell(Message::Event(event)).await
    }

    /// What the caller may do now; `None` when they may not even read.
    async fn role_now(&self) -> Option<Role> {
        let caller = self.caller.clone();
        let good = self.server.quick(move |s| still_good(s, &caller)).await;
        let entry = self.server.enter(&self.caller, &self.handle.vault_name, Op::Read).await;
        match (good, entry) {
            (Ok(()), Ok(entry)) => Some(match entry.access {
                Access::Read => Role::Read,
                Access::Write => Role::Write,
            }),
            // A server that is busy for a moment revokes nothing.
            (Err(error), _) | (_, Err(error)) if error.code == Code::Unavailable => {
                Some(self.role)
            }
            _ => None,
        }
    }
}
