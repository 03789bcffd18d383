//! Hocuspocus from npm with its SQLite extension, and clients that talk as its published provider
//! does: y-protocols inside its own framing (the document's name, a type, the rest).

use std::collections::VecDeque;
use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use crucible_live_client::connection::{fresh_peer, thrifty};
use futures_util::{SinkExt, StreamExt};
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::{WebSocketStream, client_async_with_config};
use yrs::updates::decoder::Decode;
use yrs::updates::encoder::Encode;
use yrs::{Doc, GetString, ReadTxn, StateVector, Text, Transact, Update};

use super::side::{Came, Client, Ends, Setting, Side, Version};

/// What the page of an editor calls its text.
const CONTAINER: &str = "text";
/// The version of the provider that the clients pose as.
const PROVIDER: &str = "4.7.0";

/// Types of messages.
mod kind {
    pub const SYNC: u64 = 0;
    pub const AUTH: u64 = 2;
    pub const SYNC_REPLY: u64 = 4;
    pub const SYNC_STATUS: u64 = 8;
}

/// Steps inside a message of sync, and inside one of authentication.
mod step {
    pub const ASK: u64 = 0;
    pub const ANSWER: u64 = 1;
    pub const UPDATE: u64 = 2;
    pub const TOKEN: u64 = 0;
    pub const AUTHENTICATED: u64 = 2;
}

/// A running Hocuspocus.
pub struct Hocuspocus {
    child: Child,
    folder: PathBuf,
    data: PathBuf,
    address: SocketAddr,
}

impl Side for Hocuspocus {
    const NAME: &'static str = "Hocuspocus";
    type Client = Person;

    async fn start(setting: &Setting, folder: &Path, _notes: usize) -> Result<Self> {
        launch(&setting.hocuspocus, folder)
    }

    async fn join(&self, note: usize) -> Result<Person> {
        // As Yjs does: an id of 32 bits.
        let id = fresh_peer() & 0xffff_ffff;
        let mut person = Person {
            address: self.address,
            name: format!("note-{note}"),
            socket: None,
            doc: Doc::with_client_id(id),
            typed: 0,
            sent: VecDeque::new(),
        };
        person.join_again().await?;
        Ok(person)
    }

    fn pids(&self) -> Vec<u32> {
        vec![self.child.id()]
    }

    async fn fall(mut self) -> Result<Self> {
        self.child.kill()?;
        self.child.wait()?;
        launch(&self.folder, &self.data)
    }
}

impl Drop for Hocuspocus {
    fn drop(&mut self) {
        // It may have ended by itself.
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

fn launch(folder: &Path, data: &Path) -> Result<Hocuspocus> {
    let mut node = Command::new("node");
    node.arg(folder.join("server.mjs")).arg(data.join("hocuspocus.db")).arg("0");
    node.env("NODE_ENV", "production").stdin(Stdio::null()).stdout(Stdio::piped());
    let mut child = node.spawn().context("node does not start")?;
    let mut line = String::new();
    BufReader::new(child.stdout.take().context("its output is piped")?).read_line(&mut line)?;
    let port: u16 = line.trim().parse().context("Hocuspocus did not say its port")?;
    let address = SocketAddr::from(([127, 0, 0, 1], port));
    Ok(Hocuspocus { child, folder: folder.to_owned(), data: data.to_owned(), address })
}

/// Somebody with a document open.
pub struct Person {
    address: SocketAddr,
    name: String,
    socket: Option<WebSocketStream<TcpStream>>,
    doc: Doc,
    typed: u32,
    /// Ends of own edits without an answer: answers come in the order of what was sent.
    sent: VecDeque<u64>,
}

impl Person {
    async fn send(&mut self, kind: u64, step: u64, body: &[u8]) -> Result<()> {
        let mut frame = Vec::with_capacity(self.name.len() + body.len() + 8);
        put(&mut frame, self.name.len() as u64);
        frame.extend(self.name.as_bytes());
        put(&mut frame, kind);
        put(&mut frame, step);
        put(&mut frame, body.len() as u64);
        frame.extend(body);
        if kind == kind::AUTH {
            put(&mut frame, PROVIDER.len() as u64);
            frame.extend(PROVIDER.as_bytes());
        }
        let socket = self.socket.as_mut().context("not connected")?;
        Ok(socket.send(Message::Binary(frame.into())).await?)
    }

    async fn hear(&mut self) -> Result<Said> {
        let Some(socket) = &mut self.socket else { return std::future::pending().await };
        loop {
            let frame = match socket.next().await.context("the connection ended")?? {
                Message::Binary(frame) => frame,
                Message::Close(why) => bail!("closed: {why:?}"),
                _ => continue,
            };
            return Said::read(&frame);
        }
    }

    fn end(&self) -> u64 {
        u64::from(self.doc.transact().state_vector().get(&self.doc.client_id()))
    }
}

impl Client for Person {
    fn peer(&self) -> u64 {
        self.doc.client_id().get()
    }

    async fn type_one(&mut self) -> Result<u64> {
        let text = self.doc.get_or_insert_text(CONTAINER);
        let update = {
            let mut edit = self.doc.transact_mut();
            text.insert(&mut edit, self.typed, "x");
            edit.encode_update_v1()
        };
        self.typed += 1;
        let end = self.end();
        if self.socket.is_some() {
            self.send(kind::SYNC, step::UPDATE, &update).await?;
            self.sent.push_back(end);
        }
        Ok(end)
    }

    async fn next(&mut self) -> Result<Came> {
        Ok(match self.hear().await? {
            Said::Edits(_, edits) => Came::Edits(edits),
            Said::Saved(true) => self.sent.pop_front().map_or(Came::Other, Came::Acked),
            Said::Saved(false) => bail!("an edit was refused"),
            Said::Asks(_) | Said::Welcome | Said::Other => Came::Other,
        })
    }

    fn ends(edits: &[u8]) -> Result<Ends> {
        let ranges = Update::decode_v1(edits)?.insertions(true);
        let ends = ranges.iter().map(|(client, ranges)| {
            let end = ranges.iter().map(|range| range.end).max();
            (client.get(), end.map_or(0, u64::from))
        });
        Ok(ends.collect())
    }

    fn take_in(&mut self, edits: Vec<Vec<u8>>) -> Result<()> {
        let mut taking = self.doc.transact_mut();
        for edits in edits {
            taking.apply_update(Update::decode_v1(&edits)?)?;
        }
        Ok(())
    }

    fn version(&self) -> Version {
        let version = self.doc.transact().state_vector();
        version.iter().map(|(client, end)| (client.get(), u64::from(*end))).collect()
    }

    fn text(&self) -> String {
        self.doc.get_or_insert_text(CONTAINER).get_string(&self.doc.transact())
    }

    fn cut(&mut self) {
        self.socket = None;
        self.sent.clear();
    }

    async fn join_again(&mut self) -> Result<()> {
        let stream = TcpStream::connect(self.address).await?;
        stream.set_nodelay(true)?;
        let url = format!("ws://{}/", self.address);
        let (socket, _) = client_async_with_config(url, stream, Some(thrifty())).await?;
        self.socket = Some(socket);
        self.send(kind::AUTH, step::TOKEN, b"").await?;
        let (mut taken, mut sent) = (false, false);
        while !taken || !sent {
            match self.hear().await? {
                Said::Welcome => {
                    let here = self.doc.transact().state_vector().encode_v1();
                    self.send(kind::SYNC, step::ASK, &here).await?;
                }
                Said::Asks(has) => {
                    let has = StateVector::decode_v1(&has)?;
                    let update = self.doc.transact().encode_diff_v1(&has);
                    self.send(kind::SYNC, step::ANSWER, &update).await?;
                    self.sent.push_back(self.end());
                    sent = true;
                }
                Said::Edits(step, edits) => {
                    taken |= step == step::ANSWER;
                    self.take_in(vec![edits])?;
                }
                Said::Saved(_) | Said::Other => {}
            }
        }
        Ok(())
    }

    fn patience(tries: u32, dice: f64) -> Duration {
        // @hocuspocus/provider: a second after the connection ended, then at random between a
        // second and one that doubles, up to 30 s.
        let most = f64::from(tries.saturating_sub(1)).exp2().min(30.0);
        Duration::from_secs_f64(1.0 + (most - 1.0) * dice)
    }
}

/// A message of the server.
enum Said {
    Asks(Vec<u8>),
    Edits(u64, Vec<u8>),
    Saved(bool),
    Welcome,
    Other,
}

impl Said {
    fn read(mut frame: &[u8]) -> Result<Self> {
        let name = take(&mut frame)?;
        skip(&mut frame, name)?;
        Ok(match take(&mut frame)? {
            kind::SYNC | kind::SYNC_REPLY => {
                let step = take(&mut frame)?;
                let length = take(&mut frame)?;
                let body = skip(&mut frame, length)?.to_vec();
                match step {
                    step::ASK => Self::Asks(body),
                    step::ANSWER | step::UPDATE => Self::Edits(step, body),
                    other => bail!("no step of sync is called {other}"),
                }
            }
            kind::AUTH => {
                ensure!(take(&mut frame)? == step::AUTHENTICATED, "not let in");
                Self::Welcome
            }
            kind::SYNC_STATUS => Self::Saved(take(&mut frame)? == 1),
            _ => Self::Other,
        })
    }
}

fn put(frame: &mut Vec<u8>, mut number: u64) {
    while number > 0x7f {
        frame.push((number & 0x7f) as u8 | 0x80);
        number >>= 7;
    }
    frame.push(number as u8);
}

fn take(frame: &mut &[u8]) -> Result<u64> {
    let mut number = 0;
    for place in 0..9 {
        let (first, rest) = frame.split_first().context("a message was cut")?;
        *frame = rest;
        number |= u64::from(first & 0x7f) << (7 * place);
        if first & 0x80 == 0 {
            return Ok(number);
        }
    }
    bail!("a number is too long")
}

fn skip<'a>(frame: &mut &'a [u8], length: u64) -> Result<&'a [u8]> {
    let length = usize::try_from(length)?;
    let (part, rest) = frame.split_at_checked(length).context("a message was cut")?;
    *frame = rest;
    Ok(part)
}
