//! `/api/sessions/{id}/ws`: a connection into a session as a WebSocket (RFC 6455).
//!
//! Invariant: what comes from a client is read only as fast as its room takes it.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::ws::{CloseFrame, Message, Utf8Bytes, WebSocket, WebSocketUpgrade};
use axum::extract::{Path, State};
use axum::response::Response;
use crucible_live::limits::{FRAME_BYTES_MAX, FRAMES_PER_S, OUTBOX_BYTES_MAX, OUTBOX_FRAMES_MAX};
use futures_util::stream::SplitSink;
use futures_util::{SinkExt, StreamExt};
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::time::{Instant, sleep};

use super::connection::{
    Connection, Ended, FAST, MALFORMED, RESTART, SLOW, TOO_LARGE, ended, over, until,
};
use crate::caller::Caller;
use crate::error::ApiError;
use crate::live::Out;
use crate::state::Server;

/// The name of the protocol, as browsers and the published clients offer it.
pub const PROTOCOL: &str = "loro.v1";
/// Frames written to the socket before it is flushed, and their bytes.
const TOGETHER: (usize, usize) = (64, 256 << 10);
/// The longest time for a client to take one such flush; who takes longer is sent away, and has as
/// long again to hear why.
const FLUSH_MAX: Duration = Duration::from_secs(15);
/// Messages up to this long are read, so that a frame that is too long is answered with a reason.
const MESSAGE_BYTES_MAX: usize = 4 * FRAME_BYTES_MAX;
/// Messages taken after a connection was ended, so that it hears why.
const AFTER_CLOSE_MAX: usize = 4_096;
/// Room for what comes in, in bytes: it is made zero before each read, and a keystroke has a
/// hundred. (With the 128 KiB of the library that was an eighth of all that fifty readers cost.)
const READ_BYTES: usize = 4 << 10;
/// The room hears of frames that were taken when there are so many, or of so many bytes, ...
const SAID_AT: (usize, usize) = (OUTBOX_FRAMES_MAX / 16, OUTBOX_BYTES_MAX / 16);
/// ... or after this long: a room with hundreds of readers would hear of little else.
const SAID_AFTER: Duration = Duration::from_millis(250);

pub async fn connect(
    State(server): State<Arc<Server>>,
    caller: Caller,
    Path(id): Path<String>,
    upgrade: WebSocketUpgrade,
) -> Result<Response, ApiError> {
    let connection = Connection::new(server, caller, &id).await?;
    let upgrade = upgrade
        .protocols([PROTOCOL])
        .read_buffer_size(READ_BYTES)
        .max_message_size(MESSAGE_BYTES_MAX)
        .max_frame_size(MESSAGE_BYTES_MAX);
    Ok(upgrade.on_upgrade(move |socket| run(connection, socket)))
}

async fn run(mut connection: Connection, socket: WebSocket) {
    let Ok(out) = connection.join().await else { return };
    let server = Arc::clone(&connection.server);
    let _present = server.metrics().session_sockets.enter();
    let (mut sink, mut stream) = socket.split();
    let ended = pump(&mut connection, &mut sink, &mut stream, out).await;
    connection.leave().await;
    if let Some((code, reason)) = ended {
        let close = CloseFrame { code, reason: Utf8Bytes::from_static(reason) };
        let goodbye = async {
            sink.send(Message::Close(Some(close))).await?;
            // What is still coming is taken, or the system would answer it with a reset, and the
            // reason would be lost on its way.
            for _ in 0..AFTER_CLOSE_MAX {
                if stream.next().await.is_none_or(|message| message.is_err()) {
                    break;
                }
            }
            Ok::<_, axum::Error>(())
        };
        // Whoever does not take it hears the end of the connection instead.
        let _ = tokio::time::timeout(FLUSH_MAX, goodbye).await;
    }
}

/// Counts what comes beside frames of the protocol: pings and their like.
struct Beside {
    since: Instant,
    count: u64,
}

impl Beside {
    /// Whether one more is not too many for the second.
    fn one_more(&mut self) -> bool {
        if self.since.elapsed() >= Duration::from_secs(1) {
            *self = Self { since: Instant::now(), count: 0 };
        }
        self.count += 1;
        self.count <= FRAMES_PER_S
    }
}

type Sink = SplitSink<WebSocket, Message>;

/// Carries frames both ways until the connection ends; `None` when the other end is gone.
async fn pump(
    connection: &mut Connection,
    sink: &mut Sink,
    stream: &mut (impl futures_util::Stream<Item = Result<Message, axum::Error>> + Unpin),
    mut out: UnboundedReceiver<Out>,
) -> Option<Ended> {
    let mut closing = connection.server.closing();
    let mut rechecks = connection.server.live().rechecks();
    let period = Duration::from_millis(connection.server.limits().heartbeat_ms);
    let mut heartbeat = tokio::time::interval(period);
    let mut beside = Beside { since: Instant::now(), count: 0 };
    // Frames and bytes that the client has taken and the room has not heard of.
    let mut taken = (0, 0);
    let mut due = pin!(sleep(SAID_AFTER));
    loop {
        let done = tokio::select! {
            () = until(&mut closing, |closing| *closing) => return Some(RESTART),
            first = out.recv() => match first {
                Some(first) => {
                    let write = write(sink, first, &mut out);
                    let written = tokio::time::timeout(FLUSH_MAX, write).await;
                    written.unwrap_or(Err(Some(SLOW))).map(|(frames, bytes)| {
                        if taken == (0, 0) {
                            due.as_mut().reset(Instant::now() + SAID_AFTER);
                        }
                        taken = (taken.0 + frames, taken.1 + bytes);
                    })
                }
                None => Err(Some(over(&connection.server))),
            },
            () = &mut due, if taken != (0, 0) => say(connection, &mut taken).await,
            message = stream.next() => match message {
                Some(Ok(Message::Binary(bytes))) if bytes.len() > FRAME_BYTES_MAX => {
                    Err(Some(TOO_LARGE))
                }
                Some(Ok(Message::Binary(bytes))) => {
                    connection.frame(bytes.to_vec()).await.map_err(Some)
                }
                Some(Ok(Message::Close(_))) => return None,
                Some(Ok(_)) if !beside.one_more() => Err(Some(FAST)),
                Some(Ok(Message::Text(text))) if text.as_str() == "ping" => {
                    send(sink, Message::Text(Utf8Bytes::from_static("pong"))).await
                }
                Some(Ok(Message::Ping(_) | Message::Pong(_))) => Ok(()),
                Some(Ok(Message::Text(_))) => Err(Some(MALFORMED)),
                Some(Err(_)) | None => return None,
            },
            _ = heartbeat.tick() => match connection.check().await {
                Ok(()) => send(sink, Message::Ping(Vec::new().into())).await,
                Err(ended) => Err(Some(ended)),
            },
            _ = rechecks.changed() => connection.check().await.map_err(Some),
        };
        if let Err(ended) = done {
            return ended;
        }
        if (taken.0 >= SAID_AT.0 || taken.1 >= SAID_AT.1)
            && let Err(ended) = say(connection, &mut taken).await
        {
            return ended;
        }
    }
}

/// Tells the room what was taken.
async fn say(connection: &Connection, taken: &mut (usize, usize)) -> Result<(), Option<Ended>> {
    let (frames, bytes) = std::mem::take(taken);
    connection.sent(frames, bytes).await.map_err(Some)
}

/// Writes what waits for the client, in one flush; gives how many frames and bytes that were.
async fn write(
    sink: &mut Sink,
    first: Out,
    out: &mut UnboundedReceiver<Out>,
) -> Result<(usize, usize), Option<Ended>> {
    let (mut frames, mut bytes) = (0, 0);
    let mut next = Some(first);
    let mut end = None;
    while let Some(now) = next.take() {
        match now {
            Out::Frame(frame) => {
                frames += 1;
                bytes += frame.len();
                let message = Message::Binary(frame.to_vec().into());
                sink.feed(message).await.map_err(|_| None)?;
            }
            Out::Close(why) => {
                end = Some(ended(why));
                break;
            }
        }
        if frames < TOGETHER.0 && bytes < TOGETHER.1 {
            next = out.try_recv().ok();
        }
    }
    sink.flush().await.map_err(|_| None)?;
    match end {
        Some(end) => Err(Some(end)),
        None => Ok((frames, bytes)),
    }
}

async fn send(sink: &mut Sink, message: Message) -> Result<(), Option<Ended>> {
    let sent = tokio::time::timeout(FLUSH_MAX, sink.send(message)).await;
    sent.ok().and_then(Result::ok).ok_or(None)
}
