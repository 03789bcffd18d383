//! Documents in a process of their own: what a server asks of it and what it answers, as messages
//! over a pipe (`docs/decisions/0015`).
//!
//! Invariants: one answer to each ask; a document that takes its time keeps no other waiting while
//! fewer than [`crate::limits::WORKERS`] do; nothing here is the only copy of anything: whoever asks has the
//! snapshot and the journal, and opens the document again after the process ended.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Read, Write};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use minicbor::{Decode, Encode};

use crate::document::{DocVersion, Document, Look, Peer, Refusal, Sender};
use crate::limits::MESSAGE_BYTES_MAX;

/// Which document, as the asking side numbers them.
pub type DocId = u64;

/// An update and who brought it.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct Brought {
    /// The connection, or the person of a journal's record.
    #[n(0)]
    pub by: Sender,
    /// The person behind the connection: what their former connections wrote is theirs.
    #[n(1)]
    pub person: Sender,
    /// The update.
    #[n(2)]
    #[cbor(with = "minicbor::bytes")]
    pub bytes: Vec<u8>,
}

/// What is asked.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub enum Ask {
    /// A new document with this text.
    #[n(0)]
    Seed(#[n(0)] String),
    /// A document from the store: snapshot, journal, and who may write for which peer.
    #[n(1)]
    Open(
        #[n(0)]
        #[cbor(with = "minicbor::bytes")]
        Vec<u8>,
        #[n(1)] Vec<Brought>,
        #[n(2)] Vec<(Peer, Sender)>,
    ),
    /// Take these updates; look at the text or not. Before, these peers are these connections',
    /// unless they have written for another one.
    #[n(2)]
    Import(#[n(0)] Vec<Brought>, #[n(1)] bool, #[n(2)] Vec<(Peer, Sender)>),
    /// Everything this version lacks; a snapshot when it is empty or from elsewhere.
    #[n(3)]
    Since(
        #[n(0)]
        #[cbor(with = "minicbor::bytes")]
        Vec<u8>,
    ),
    /// The text, for the session.
    #[n(4)]
    Text,
    /// Make this text of what the document was at these versions together.
    #[n(5)]
    EditAt(#[n(0)] Vec<Version>, #[n(1)] String),
    /// The whole document in one piece.
    #[n(6)]
    Snapshot,
    /// The first has ended: peers it wrote for are the second's from now on.
    #[n(7)]
    Hand(#[n(0)] Sender, #[n(1)] Sender),
    /// Forget the document.
    #[n(8)]
    Close,
    /// The text, for somebody else: poisoners stay to be told to the session.
    #[n(9)]
    Show,
}

/// A [`DocVersion`]'s bytes.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct Version(
    #[n(0)]
    #[cbor(with = "minicbor::bytes")]
    pub Vec<u8>,
);

impl From<&DocVersion> for Version {
    fn from(version: &DocVersion) -> Self {
        Self(version.as_bytes().to_vec())
    }
}

/// What became of an update.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub enum Verdict {
    /// It is in; these peers write for its sender from now on.
    #[n(0)]
    Taken(#[n(0)] Vec<Peer>),
    /// It was in already.
    #[n(1)]
    Known,
    /// It is not in.
    #[n(2)]
    Refused(#[n(0)] Why),
}

/// A [`Refusal`] on the wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
#[cbor(index_only)]
pub enum Why {
    /// [`Refusal::Malformed`], [`Refusal::NotAnUpdate`]; or its sender had one refused in this
    /// turn that cost a document.
    #[n(0)]
    Invalid,
    /// [`Refusal::TooLarge`], [`Refusal::TooLong`].
    #[n(1)]
    TooLarge,
    /// [`Refusal::ForeignPeer`].
    #[n(2)]
    Foreign,
    /// [`Refusal::Gap`].
    #[n(3)]
    Gap,
    /// [`Refusal::Panicked`].
    #[n(4)]
    Broke,
    /// [`Refusal::ForeignContainer`], [`Refusal::Misleading`]: no page of ours sends that.
    #[n(5)]
    Strange,
}

impl From<Refusal> for Why {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::Malformed | Refusal::NotAnUpdate => Self::Invalid,
            Refusal::ForeignContainer | Refusal::Misleading => Self::Strange,
            Refusal::TooLarge | Refusal::TooLong => Self::TooLarge,
            Refusal::ForeignPeer => Self::Foreign,
            Refusal::Gap => Self::Gap,
            Refusal::Panicked => Self::Broke,
        }
    }
}

/// What is answered.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub enum Answer {
    /// To `Seed` and `Open`: the version, and after `Seed` the snapshot.
    #[n(0)]
    Opened(
        #[n(0)] Version,
        #[n(1)]
        #[cbor(with = "minicbor::bytes")]
        Vec<u8>,
    ),
    /// To `Import`: a verdict an update, all that is new as one update, the version after it, and
    /// what the look took, in microseconds.
    #[n(1)]
    Imported(
        #[n(0)] Vec<Verdict>,
        #[n(1)]
        #[cbor(with = "minicbor::bytes")]
        Vec<u8>,
        #[n(2)] Version,
        #[n(3)] u64,
    ),
    /// To `Since`, with the version it leads to.
    #[n(2)]
    Since(
        #[n(0)]
        #[cbor(with = "minicbor::bytes")]
        Vec<u8>,
        #[n(1)] Version,
    ),
    /// To `Text` and `Show`, with its version.
    #[n(3)]
    Text(#[n(0)] String, #[n(1)] Version),
    /// To `EditAt`: the update that did it, the version that has exactly that text, and the
    /// document's version after it.
    #[n(4)]
    Edited(
        #[n(0)]
        #[cbor(with = "minicbor::bytes")]
        Vec<u8>,
        #[n(1)] Version,
        #[n(2)] Version,
    ),
    /// To `Snapshot`.
    #[n(5)]
    Snapshot(
        #[n(0)]
        #[cbor(with = "minicbor::bytes")]
        Vec<u8>,
    ),
    /// To `Hand` and `Close`.
    #[n(6)]
    Done,
    /// The bytes are no document, the version is not of this document, or nothing that a client
    /// could take can be made of it.
    #[n(7)]
    Unreadable,
    /// No document of this number is open.
    #[n(8)]
    Absent,
}

/// An ask and its document.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct Question {
    /// Of which document.
    #[n(0)]
    pub doc: DocId,
    /// What.
    #[n(1)]
    pub ask: Ask,
    /// Names its reply: those to other documents may come before.
    #[n(2)]
    pub no: u64,
}

/// An answer.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct Reply {
    /// To which question.
    #[n(0)]
    pub no: u64,
    /// What.
    #[n(1)]
    pub answer: Answer,
    /// Who brought what broke the document after it was taken; it is without that now, and
    /// everybody who heard of it needs another document.
    #[n(2)]
    pub poisoners: Vec<Sender>,
}

struct Held {
    document: Document,
    /// Who wrote for which peer.
    owners: BTreeMap<Peer, Sender>,
    /// Who says they will; everybody has heard of it.
    claims: BTreeMap<Peer, Sender>,
}

/// Documents by their numbers.
#[derive(Default)]
pub struct Documents {
    open: Mutex<BTreeMap<DocId, Arc<Mutex<Held>>>>,
}

impl Documents {
    /// Answers; `now_us` tells microseconds since whenever. Waits for others only where they ask
    /// of the same document.
    pub fn answer(&self, question: Question, now_us: impl Fn() -> u64) -> Reply {
        let Question { doc, ask, no } = question;
        let reply = |answer| Reply { no, answer, poisoners: Vec::new() };
        let opened = match &ask {
            Ask::Seed(text) => Ok((Document::seed(text), BTreeMap::new())),
            Ask::Open(snapshot, journal, owners) => reopened(snapshot, journal)
                .map(|document| (document, owners.iter().copied().collect())),
            Ask::Close => {
                locked(&self.open).remove(&doc);
                return reply(Answer::Done);
            }
            _ => {
                let held = locked(&self.open).get(&doc).map(Arc::clone);
                return held.map_or(reply(Answer::Absent), |h| locked(&h).reply(no, ask, now_us));
            }
        };
        let Ok((mut document, owners)) = opened else { return reply(Answer::Unreadable) };
        document.look();
        let snapshot = match ask {
            Ask::Seed(_) => document.snapshot(),
            _ => Ok(Arc::from([])),
        };
        let version = Version::from(&document.version());
        let poisoners = document.poisoners().into_iter().collect();
        let held = Held { document, owners, claims: BTreeMap::new() };
        locked(&self.open).insert(doc, Arc::new(Mutex::new(held)));
        let answer = snapshot.map_or(Answer::Unreadable, |s| Answer::Opened(version, s.to_vec()));
        Reply { no, answer, poisoners }
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // A panic outside the documents' own guards ends the process.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

struct Unopened;

fn reopened(snapshot: &[u8], journal: &[Brought]) -> Result<Document, Unopened> {
    let mut document = Document::open(snapshot).map_err(|_| Unopened)?;
    for record in journal {
        // What cannot be read builds on what was taken out; the look tells who brought that.
        let _ = document.replay(record.by, &record.bytes);
    }
    Ok(document)
}

impl Held {
    fn reply(&mut self, no: u64, ask: Ask, now_us: impl Fn() -> u64) -> Reply {
        let is_show = ask == Ask::Show;
        let answer = self.answer(ask, now_us);
        let poisoners = if is_show { BTreeSet::new() } else { self.document.poisoners() };
        Reply { no, answer, poisoners: poisoners.into_iter().collect() }
    }

    fn answer(&mut self, ask: Ask, now_us: impl Fn() -> u64) -> Answer {
        let document = &mut self.document;
        match ask {
            Ask::Import(updates, look, claims) => {
                for (peer, sender) in claims {
                    self.claims.entry(peer).or_insert(sender);
                }
                self.import(&updates, look, now_us)
            }
            Ask::Since(version) => {
                let known = DocVersion::decode(&version).filter(|_| !version.is_empty());
                let bytes = match known {
                    Some(known) => document.updates_since(&known),
                    None => document.snapshot().map(|snapshot| snapshot.to_vec()),
                };
                let version = Version::from(&document.version());
                bytes.map_or(Answer::Unreadable, |bytes| Answer::Since(bytes, version))
            }
            Ask::Text | Ask::Show => {
                Answer::Text(document.text(), Version::from(&document.version()))
            }
            Ask::EditAt(at, text) => {
                let at: Option<Vec<_>> = at.iter().map(|v| DocVersion::decode(&v.0)).collect();
                let Some(at) = at.as_deref().and_then(DocVersion::join) else {
                    return Answer::Unreadable;
                };
                match document.edit_at(&at, &text) {
                    Ok((update, edited)) => {
                        let whole = Version::from(&document.version());
                        Answer::Edited(update, Version::from(&edited), whole)
                    }
                    Err(_) => Answer::Unreadable,
                }
            }
            Ask::Snapshot => {
                document.snapshot().map_or(Answer::Unreadable, |s| Answer::Snapshot(s.to_vec()))
            }
            Ask::Hand(from, to) => {
                self.owners.values_mut().filter(|owner| **owner == from).for_each(|o| *o = to);
                self.claims.retain(|_, claimant| *claimant != from);
                Answer::Done
            }
            Ask::Seed(_) | Ask::Open(..) | Ask::Close => Answer::Absent,
        }
    }

    fn import(&mut self, updates: &[Brought], look: bool, now_us: impl Fn() -> u64) -> Answer {
        let before = self.document.version();
        // One update is looked at with its import, several together: when that fails, the look
        // finds whose it was.
        let each = if look && updates.len() == 1 { Look::Now } else { Look::Later };
        let began_us = now_us();
        // Whoever had one refused that was in already does not get another document for the next.
        let mut refused = BTreeSet::new();
        let mut verdicts = Vec::new();
        for (brought, at) in updates.iter().zip(0..) {
            let verdict = match refused.contains(&brought.by) {
                true => Verdict::Refused(Why::Invalid),
                false => self.take(brought, at, each),
            };
            if let Verdict::Refused(Why::Strange | Why::TooLarge | Why::Broke) = verdict {
                refused.insert(brought.by);
            }
            verdicts.push(verdict);
        }
        let each_us = now_us().saturating_sub(began_us);
        if look {
            self.document.look();
        }
        let merged = self.document.news(&before);
        let looked_us = match (look, each) {
            (false, _) => 0,
            (true, Look::Now) => now_us().saturating_sub(began_us),
            (true, Look::Later) => now_us().saturating_sub(began_us + each_us),
        };
        for at in self.document.poisoners_among(TURN..TURN + updates.len() as u64) {
            verdicts[(at - TURN) as usize] = Verdict::Refused(Why::Broke);
        }
        self.document.rename_senders(TURN, updates.iter().map(|brought| brought.person));
        let version = Version::from(&self.document.version());
        merged.map_or(Answer::Unreadable, |merged| {
            Answer::Imported(verdicts, merged, version, looked_us)
        })
    }

    fn take(&mut self, brought: &Brought, at: u64, look: Look) -> Verdict {
        let (owners, claims) = (&self.owners, &self.claims);
        let is_senders = |peer: Peer| match owners.get(&peer).or_else(|| claims.get(&peer)) {
            None => true,
            Some(owner) => *owner == brought.by || *owner == brought.person,
        };
        match self.document.import(TURN + at, &brought.bytes, is_senders, look) {
            Ok(imported) if imported.peers.is_empty() => Verdict::Known,
            Ok(imported) => {
                let new = |peer: &Peer| self.owners.insert(*peer, brought.by).is_none();
                Verdict::Taken(imported.peers.into_iter().filter(new).collect())
            }
            Err(refusal) => Verdict::Refused(refusal.into()),
        }
    }
}

/// Senders of the turn at hand are numbered from here on; persons are below.
const TURN: Sender = 1 << 62;

/// Writes one message: its length in four bytes, and CBOR.
///
/// # Errors
/// What the pipe says.
pub fn send(pipe: &mut impl Write, message: &impl Encode<()>) -> io::Result<()> {
    let mut bytes = vec![0; 4];
    minicbor::encode(message, &mut bytes).map_err(io::Error::other)?;
    let length = bytes.len() - 4;
    let within = u32::try_from(length).ok().filter(|_| length <= MESSAGE_BYTES_MAX);
    let length = within.ok_or_else(|| io::Error::other("a message is too long"))?;
    bytes[..4].copy_from_slice(&length.to_be_bytes());
    pipe.write_all(&bytes)?;
    pipe.flush()
}

/// Reads one message; `None` when the other end closed between two.
///
/// # Errors
/// What the pipe says; bytes that are no message.
pub fn receive<T: for<'b> Decode<'b, ()>>(pipe: &mut impl Read) -> io::Result<Option<T>> {
    let mut length = [0; 4];
    let mut have = 0;
    while have < length.len() {
        match pipe.read(&mut length[have..]) {
            Ok(0) if have == 0 => return Ok(None),
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(more) => have += more,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    let length = u32::from_be_bytes(length) as usize;
    if length > MESSAGE_BYTES_MAX {
        return Err(io::Error::other("a message is too long"));
    }
    let mut bytes = vec![0; length];
    pipe.read_exact(&mut bytes)?;
    minicbor::decode(&bytes).map(Some).map_err(io::Error::other)
}
