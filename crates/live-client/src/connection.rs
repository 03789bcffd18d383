//! A WebSocket into a session: messages out, messages in, fragments put together.

use anyhow::{Context, Result, bail};
pub use crucible_live::frames::BatchId;
use crucible_live::frames::{self, CrdtType, Message, Status};
use futures_util::{SinkExt, StreamExt};
use loro::LoroDoc;
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::http::HeaderValue;
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_tungstenite::tungstenite::{self, Message as WsMessage};
use tokio_tungstenite::{WebSocketStream, client_async_with_config};

use crate::http::Account;

/// What came.
#[derive(Debug, Clone)]
pub enum Heard {
    /// The document's room let us in: the server's version, and what it says beside.
    Joined(Vec<u8>, serde_json::Value),
    /// Edits.
    Update(Vec<u8>),
    /// What became of ours.
    Ack(BatchId, Status),
    /// We are to join again.
    Rejoin(String),
    /// Anything else: presence, control.
    Other,
}

/// One connection.
#[derive(Debug)]
pub struct Connection {
    socket: WebSocketStream<TcpStream>,
    room: String,
    fragments: Vec<u8>,
    awaited: u64,
    batches: u64,
    /// Bytes of frames sent, with the WebSocket's own.
    pub sent_bytes: u64,
    /// Bytes of frames received, with the WebSocket's own.
    pub received_bytes: u64,
}

impl Connection {
    /// Connects; joins nothing yet.
    ///
    /// # Errors
    /// The server is not there or refuses, with its status: 404 when there is no such session.
    pub async fn open(account: &Account, session: &str) -> Result<Self> {
        let url = format!("ws://{}/api/sessions/{session}/ws", account.address);
        let mut request = url.into_client_request()?;
        let offered = format!("loro.v1, bearer.{}", account.token.trim_end_matches('='));
        request.headers_mut().insert("sec-websocket-protocol", HeaderValue::from_str(&offered)?);
        let stream = TcpStream::connect(account.address).await?;
        stream.set_nodelay(true)?;
        let (socket, _) = client_async_with_config(request, stream, Some(thrifty())).await?;
        let room = session.to_owned();
        let fragments = Vec::new();
        let (sent_bytes, received_bytes) = (0, 0);
        Ok(Self { socket, room, fragments, awaited: 0, batches: 0, sent_bytes, received_bytes })
    }

    /// Joins the document's room; `version` is what is here, or empty.
    ///
    /// # Errors
    /// The connection is gone.
    pub async fn join(&mut self, version: Vec<u8>) -> Result<()> {
        let (crdt, room_id) = (CrdtType::Loro, self.room.clone());
        self.send(&Message::JoinRequest { crdt, room_id, auth: Vec::new(), version }).await
    }

    /// Sends edits; gives the batch that the Ack will name.
    ///
    /// # Errors
    /// The connection is gone.
    pub async fn update(&mut self, update: Vec<u8>) -> Result<BatchId> {
        self.batches += 1;
        let batch = BatchId(self.batches.to_be_bytes());
        for frame in frames::update(CrdtType::Loro, &self.room, update, batch) {
            self.send_frame(frame.to_vec()).await?;
        }
        Ok(batch)
    }

    async fn send(&mut self, message: &Message) -> Result<()> {
        self.send_frame(frames::encode(message).to_vec()).await
    }

    async fn send_frame(&mut self, frame: Vec<u8>) -> Result<()> {
        // A client's frames have a mask of four bytes.
        self.sent_bytes += framed(frame.len()) + 4;
        Ok(self.socket.send(WsMessage::Binary(frame.into())).await?)
    }

    /// The next that comes. Can be cancelled.
    ///
    /// # Errors
    /// The connection is gone, or what came is no frame.
    pub async fn next(&mut self) -> Result<Heard> {
        loop {
            let message = self.socket.next().await.context("the connection ended")??;
            let frame = match message {
                WsMessage::Binary(frame) => frame,
                WsMessage::Close(why) => bail!("closed: {why:?}"),
                _ => continue,
            };
            self.received_bytes += framed(frame.len());
            match frames::decode(&frame)? {
                Message::JoinResponseOk { crdt: CrdtType::Loro, version, extra, .. } => {
                    let extra = serde_json::from_slice(&extra.unwrap_or_default())?;
                    return Ok(Heard::Joined(version, extra));
                }
                Message::JoinError { message, .. } => bail!("not let in: {message}"),
                Message::DocUpdate { crdt: CrdtType::Loro, updates, .. } => {
                    return Ok(Heard::Update(updates.concat()));
                }
                Message::DocUpdateFragmentHeader {
                    crdt: CrdtType::Loro, total_size_bytes, ..
                } => {
                    self.awaited = total_size_bytes;
                    self.fragments.clear();
                }
                Message::DocUpdateFragment { crdt: CrdtType::Loro, fragment, .. } => {
                    // The server sends them in order.
                    self.fragments.extend(fragment);
                    if self.fragments.len() as u64 == self.awaited {
                        return Ok(Heard::Update(std::mem::take(&mut self.fragments)));
                    }
                }
                Message::Ack { ref_id, status, .. } => return Ok(Heard::Ack(ref_id, status)),
                Message::RoomError { message, .. } => return Ok(Heard::Rejoin(message)),
                _ => return Ok(Heard::Other),
            }
        }
    }

    /// Closes it as a page does that is left.
    ///
    /// # Errors
    /// It is gone already.
    pub async fn close(mut self) -> Result<()> {
        Ok(self.socket.close(None).await?)
    }
}

/// Little room for what comes in: it is made zero before each read, and thousands read.
pub fn thrifty() -> WebSocketConfig {
    WebSocketConfig::default().read_buffer_size(4 << 10)
}

/// The status with which a WebSocket was refused, if that is why there is none.
pub fn refusal(error: &anyhow::Error) -> Option<u16> {
    match error.downcast_ref()? {
        tungstenite::Error::Http(answer) => Some(answer.status().as_u16()),
        _ => None,
    }
}

/// A frame with the head that a WebSocket puts before it.
fn framed(length: usize) -> u64 {
    let head = match length {
        0..126 => 2,
        126..65_536 => 4,
        _ => 10,
    };
    (length + head) as u64
}

/// A peer that nobody has used.
pub fn fresh_peer() -> u64 {
    LoroDoc::new().peer_id()
}
