//! A live session as a machine: clients, turns, checkpoints, edits from outside, the end.
//!
//! [`Room::handle`] takes an event and the time, [`Room::poll_action`] gives what is to be done.
//! The document is elsewhere ([`crate::documents`]), so is the journal: both are asked by actions
//! and answer by events.
//!
//! Invariants:
//! - One ask or one write is under way at a time; nobody hears of an edit, and no edit is
//!   acknowledged, before it is in the journal.
//! - The flushed text and its version in the document are known at every moment: what comes from
//!   outside is applied to the document as it was *there*.
//! - A checkpoint is written down as intended before Layer 1 is asked to store it, so that a crash
//!   between the two does not take our own text for somebody else's edit.
//! - Everything that clients make grow is bounded by [`crate::limits`].

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use crucible_core::hash::ContentHash;
use crucible_core::id::{DeviceId, UserId, VersionId};

use crate::document::{Peer, Sender};
use crate::documents::{Answer, Ask, Brought, Version};
use crate::frames::Frame;
use crate::limits::{
    GATHER_MS, IDLE_MS, IN_VAIN_MAX, LAG_MS, LEFT_MS, PEOPLE_MS, QUIET_MS, RETRY_MS, TICK_MS,
    UNLOOKED_MS,
};
use crate::line_ends::{Ends, lf};
use crate::presence::Presence;

mod clients;
mod saving;
mod turn;

use clients::{Batch, Client};
use saving::{Outside, Saving};
use turn::Turn;

/// A connection to this room; never used twice while the room lives.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ClientId(pub u64);

/// Somebody who takes part, on one of their devices.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Person {
    /// Who.
    pub user: UserId,
    /// On what.
    pub device: DeviceId,
    /// How others see them; what they chose or their address of mail.
    pub name: String,
}

/// A person's number in the session; what the journal names them by.
pub type PersonNo = u32;

/// Persons as senders: above all connections, below what the documents use.
const PERSONS: Sender = 1 << 61;

/// The sender number of a person.
pub fn sender_of(person: PersonNo) -> Sender {
    PERSONS + u64::from(person)
}

/// What a connection may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// See the text and who is there.
    Read,
    /// Edit.
    Write,
}

/// What Layer 1 has of the note, as the session knows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Flushed {
    /// The note's version there.
    pub base: VersionId,
    /// Hash of its text with line feeds, [`text_hash`].
    pub hash: ContentHash,
    /// The document's version that has exactly that text.
    pub at: Version,
    /// All turns up to this one are in it.
    pub turn: u64,
}

/// A checkpoint that was begun: Layer 1 may or may not have stored it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Intent {
    /// On top of this version.
    pub base: VersionId,
    /// The content hash of the version that Layer 1 makes: of the text with the file's own line ends.
    pub stored: ContentHash,
    /// What [`Flushed`] will be, but for the version's name.
    pub hash: ContentHash,
    /// See [`Flushed::at`].
    pub at: Version,
    /// See [`Flushed::turn`].
    pub turn: u64,
}

/// One record of the journal: an update as it was taken, and whose.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// `None` for an edit from outside.
    pub person: Option<PersonNo>,
    /// The update.
    pub update: Vec<u8>,
}

/// What is to be made durable in one transaction.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Write {
    /// A turn's records, under its number.
    pub turn: Option<(u64, Vec<Record>)>,
    /// Persons seen for the first time.
    pub people: Vec<(PersonNo, Person)>,
    /// Peers used for the first time, and by whom.
    pub authors: Vec<(Peer, PersonNo)>,
    /// A snapshot that has everything up to this turn: the records before go.
    pub snapshot: Option<(u64, Vec<u8>)>,
    /// What Layer 1 has now; the intent is fulfilled or void.
    pub flushed: Option<Flushed>,
    /// What Layer 1 is asked to store next.
    pub intent: Option<Intent>,
    /// The session is over: all of it goes.
    pub over: bool,
}

/// What a room is made of at its beginning, or after a restart.
#[derive(Debug, Clone)]
pub struct Begun {
    /// The session's name, which is the protocol's name of the room.
    pub id: String,
    /// What the page compares: another document has another epoch.
    pub epoch: String,
    /// What Layer 1 has.
    pub flushed: Flushed,
    /// The journal has an older one, and the intent that led to this: it hears of it with the
    /// first write, or the next intent would hide that this one was fulfilled.
    pub flushed_unwritten: bool,
    /// The text of [`Flushed`] as the file has it; for its line ends.
    pub ends: Ends,
    /// The document's version.
    pub version: Version,
    /// The last turn in the journal.
    pub turn: u64,
    /// Size of the journal, in bytes.
    pub journal_bytes: usize,
    /// Everybody who ever took part.
    pub people: Vec<Person>,
    /// Who has written since [`Flushed`], in that order; the last one last.
    pub editors: Vec<PersonNo>,
}

/// What a version of the note holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Content {
    /// Text, as the file has it.
    Text(String),
    /// The note is deleted.
    Deleted,
    /// Bytes that are no text, or none that can be read.
    NotText,
}

impl Content {
    /// The text, if it is one.
    pub fn text(&self) -> Option<&str> {
        match self {
            Self::Text(text) => Some(text),
            Self::Deleted | Self::NotText => None,
        }
    }
}

/// What the note is in Layer 1 now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Head {
    /// The version.
    pub version: VersionId,
    /// What the file holds.
    pub content: Content,
    /// Who made it, for the others to see.
    pub by: String,
}

/// What happens to a room.
#[derive(Debug, Clone)]
pub enum Event {
    /// Somebody connected.
    Connected(ClientId, Person, Role),
    /// A frame from a connection.
    Frame(ClientId, Vec<u8>),
    /// So many frames and bytes have been taken by a connection.
    Sent(ClientId, usize, usize),
    /// A connection has ended, whoever ended it.
    Gone(ClientId),
    /// What a connection may do has changed.
    Role(ClientId, Role),
    /// The documents' answer, with the senders of what broke the document.
    Answered(Answer, Vec<Sender>),
    /// The process with the document has ended. It was opened again as the journal has it; what
    /// was asked is to be asked again, without the updates at these places of the turn, each of
    /// which ends the process by itself; the journal was read without what these senders wrote
    /// there, for the same reason.
    Reopened(Vec<usize>, Vec<Sender>),
    /// The write is durable.
    Journaled,
    /// The write failed; the text says why. Nothing of it is stored, and the document was opened
    /// again as the journal has it.
    JournalFailed(String),
    /// The checkpoint is in Layer 1 as this version, and this is the note's head after it.
    Saved(VersionId, Head),
    /// The checkpoint is not in Layer 1; the text says why.
    SaveFailed(String),
    /// The note has this head in Layer 1.
    Outside(Head),
    /// The note is elsewhere now.
    Moved(String),
    /// Somebody asked to end the session.
    End,
    /// The server is about to end: everything goes to Layer 1 at once.
    Settle,
    /// Time has passed.
    Tick,
}

/// What a room wants done.
#[derive(Debug, Clone, PartialEq)]
pub enum Action {
    /// Ask the documents; answered by [`Event::Answered`] or [`Event::Reopened`].
    Ask(Ask),
    /// Make this durable; answered by [`Event::Journaled`] or [`Event::JournalFailed`].
    Journal(Write),
    /// Send a frame; answered by [`Event::Sent`].
    Send(ClientId, Frame),
    /// End a connection; answered by [`Event::Gone`].
    Close(ClientId, Closing),
    /// Store a version; answered by [`Event::Saved`] or [`Event::SaveFailed`].
    Save {
        /// Its parent.
        base: VersionId,
        /// As the file has it.
        text: String,
        /// Who wrote last.
        editor: Person,
        /// Who else has written since the last one.
        others: Vec<Person>,
    },
    /// Everything is in Layer 1 and the session is forgotten; nothing follows.
    Over,
}

/// Why a connection is ended: the code of its WebSocket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Closing {
    /// A frame that is none, or not of this room.
    Malformed,
    /// Its update broke the document.
    Broke,
    /// The room is full.
    Full,
    /// It takes frames too slowly; it may come again.
    Slow,
    /// The session began anew, under another epoch.
    Renewed,
    /// The session has ended.
    Over,
    /// More than a client may send.
    Fast,
}

impl Closing {
    /// The close code.
    pub fn code(self) -> u16 {
        match self {
            Self::Malformed | Self::Broke => 4400,
            Self::Full => 4403,
            Self::Slow => 4408,
            Self::Renewed => 4409,
            Self::Over => 4410,
            Self::Fast => 4429,
        }
    }

    /// What the code means, for a person.
    pub fn reason(self) -> &'static str {
        match self {
            Self::Malformed => "a frame could not be read",
            Self::Broke => "an update broke the document and was taken out",
            Self::Full => "the session is full",
            Self::Slow => "the connection is too slow; join again",
            Self::Renewed => "the session began anew; join again",
            Self::Over => "the session has ended",
            Self::Fast => "too many frames in too short a time",
        }
    }
}

/// Why a session ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ending {
    /// Nobody is there any more.
    Left,
    /// Somebody asked, or nobody has edited for long.
    Asked,
    /// The note was deleted, and nobody has typed since.
    Deleted,
    /// What the file holds is no text any more.
    NotText,
    /// The document broke; there is to be another one.
    Renewed,
}

/// What is under way.
#[derive(Debug)]
enum Busy {
    /// `Ask::Import`.
    Importing(Turn),
    /// `Ask::Since` for this client.
    Joining(ClientId),
    /// `Ask::Text`.
    Reading,
    /// `Ask::EditAt`, which brings the note's head into the document.
    Editing(Outside),
    /// `Ask::Snapshot`.
    Compacting,
    /// `Ask::Hand`.
    Handing,
    /// `Action::Journal`, and what follows it.
    Writing(Box<Then>),
}

/// What follows a write.
#[derive(Debug)]
enum Then {
    /// Everybody hears of the turn.
    Tell(Turn),
    /// Everybody hears of the edit from outside.
    TellOutside(Outside, Flushed, Vec<u8>, Version),
    /// Layer 1 is asked to store.
    Save(Saving),
    /// Nothing but to remember it.
    Flushed(Flushed),
    /// The journal is short again.
    Compacted,
    /// The end.
    Over,
}

/// A session.
#[derive(Debug)]
pub struct Room {
    id: String,
    epoch: String,
    clients: BTreeMap<ClientId, Client>,
    people: Vec<Person>,
    /// How many of `people` the journal knows, and how many with the write under way.
    people_kept: (usize, usize),
    /// Who was evicted, and until when they may not come back.
    shut_out: BTreeMap<PersonNo, u64>,
    presence: Presence,
    /// Whose the peers are that presence names, as far as the document has not been told.
    claims: Vec<(Peer, Sender)>,
    inbox: VecDeque<Batch>,
    inbox_bytes: usize,
    /// When the first of the inbox came, as long as it waits for others.
    inbox_since_ms: Option<u64>,
    joins: VecDeque<ClientId>,
    hands: VecDeque<(Sender, Sender)>,
    busy: Option<Busy>,
    /// What is asked, in case it has to be asked again, and how often it was in vain.
    asked: Option<Ask>,
    in_vain: u32,
    /// The document's version that everybody may know of.
    version: Version,
    turn: u64,
    journal_bytes: usize,
    flushed: Flushed,
    /// The journal has an older one, or only the intent of it.
    flushed_unwritten: bool,
    ends: Ends,
    /// Who has written since the last checkpoint; the last one last.
    editors: Vec<PersonNo>,
    /// When the oldest and the newest edit came that are in no checkpoint.
    unsaved: Option<(u64, u64)>,
    saving: Option<Saving>,
    /// When the text of the last checkpoint was asked for, and how long it took to be stored.
    save_begun_ms: u64,
    save_took_ms: u64,
    outside: Option<Outside>,
    /// No checkpoint before this time, after one failed; and how long to wait after the next.
    retry: Option<(u64, u64)>,
    ending: Option<Ending>,
    /// No edit waits for a pause any more.
    settling: bool,
    empty_since: Option<u64>,
    last_edit_ms: u64,
    /// When the text was last looked at, and when it may be again.
    looked_ms: u64,
    look_from_ms: u64,
    unlooked: bool,
    /// Who is here has changed since it was last told, and when that was.
    people_changed: bool,
    people_told_ms: u64,
    batches: u64,
    now_ms: u64,
    actions: VecDeque<Action>,
    over: bool,
}

/// The hash by which texts of a session are compared.
pub fn text_hash(text: &str) -> ContentHash {
    ContentHash::of_blob(text.as_bytes())
}

impl Room {
    /// A room whose document is open.
    pub fn new(begun: Begun, now_ms: u64) -> Self {
        let unsaved = (begun.turn > begun.flushed.turn).then_some((now_ms, now_ms));
        Self {
            id: begun.id,
            epoch: begun.epoch,
            clients: BTreeMap::new(),
            people_kept: (begun.people.len(), 0),
            people: begun.people,
            shut_out: BTreeMap::new(),
            presence: Presence::default(),
            claims: Vec::new(),
            inbox: VecDeque::new(),
            inbox_bytes: 0,
            inbox_since_ms: None,
            joins: VecDeque::new(),
            hands: VecDeque::new(),
            busy: None,
            asked: None,
            in_vain: 0,
            version: begun.version,
            turn: begun.turn,
            journal_bytes: begun.journal_bytes,
            flushed: begun.flushed,
            flushed_unwritten: begun.flushed_unwritten,
            ends: begun.ends,
            editors: begun.editors,
            unsaved,
            saving: None,
            save_begun_ms: now_ms,
            save_took_ms: 0,
            outside: None,
            retry: None,
            ending: None,
            settling: false,
            empty_since: Some(now_ms),
            last_edit_ms: now_ms,
            looked_ms: now_ms,
            look_from_ms: now_ms,
            unlooked: false,
            people_changed: false,
            people_told_ms: 0,
            batches: 0,
            now_ms,
            actions: VecDeque::new(),
            over: false,
        }
    }

    /// Takes an event.
    pub fn handle(&mut self, now_ms: u64, event: Event) {
        if self.over {
            return;
        }
        self.now_ms = now_ms;
        match event {
            Event::Connected(id, person, role) => self.connected(now_ms, id, person, role),
            Event::Frame(id, frame) => self.heard(now_ms, id, &frame),
            Event::Sent(id, frames, bytes) => self.sent(id, frames, bytes),
            Event::Gone(id) => self.gone(now_ms, id),
            Event::Role(id, role) => self.role(id, role),
            Event::Answered(answer, poisoners) => {
                if !poisoners.is_empty() {
                    self.poisoned(&poisoners);
                }
                self.answered(now_ms, answer);
            }
            Event::Reopened(killers, poisoners) => {
                self.reopened(&killers);
                if !poisoners.is_empty() {
                    self.poisoned(&poisoners);
                }
            }
            Event::Journaled => self.journaled(now_ms),
            Event::JournalFailed(why) => self.journal_failed(now_ms, &why),
            Event::Saved(version, head) => self.saved(now_ms, version, head),
            Event::SaveFailed(why) => self.save_failed(now_ms, &why),
            Event::Outside(head) => self.came_from_outside(now_ms, head),
            Event::Moved(path) => {
                self.tell(&serde_json::json!({ "type": "moved", "path": path }));
            }
            Event::End => self.end(Ending::Asked),
            Event::Settle => self.settling = true,
            Event::Tick => self.inbox_since_ms = None,
        }
        self.sweep(now_ms);
        self.go_on(now_ms);
        self.tell_people(now_ms);
    }

    /// The next thing to do.
    pub fn poll_action(&mut self) -> Option<Action> {
        self.actions.pop_front()
    }

    /// When [`Event::Tick`] is next of use, at the latest.
    pub fn next_tick_ms(&self, now_ms: u64) -> u64 {
        if self.busy.is_none() && !self.inbox.is_empty() {
            return now_ms + GATHER_MS;
        }
        let waits = |client: &Client| client.lagging_since.is_some() || client.assembles();
        let soon = self.flushed_unwritten
            || self.ending.is_some()
            || self.settling
            || self.clients.values().any(waits);
        let due = [
            soon.then_some(now_ms + TICK_MS.0),
            self.unsaved.map(|(first, last)| (last + QUIET_MS).min(first + self.checkpoint_ms())),
            self.unlooked.then_some(self.looked_ms + UNLOOKED_MS),
            self.outside.as_ref().map(Outside::believed_from_ms),
            self.people_changed.then_some(self.people_told_ms + PEOPLE_MS),
            self.empty_since.map(|since| since + LEFT_MS),
            Some(self.last_edit_ms + IDLE_MS),
        ];
        // What is due and cannot be yet, after a failure, is looked at again before long.
        let next = due.into_iter().flatten().min().unwrap_or(u64::MAX);
        next.clamp(now_ms + TICK_MS.0, now_ms + TICK_MS.1)
    }

    /// Who is connected.
    pub fn present(&self) -> BTreeSet<(UserId, DeviceId)> {
        let person = |client: &Client| {
            let person = &self.people[client.person as usize];
            (person.user, person.device)
        };
        self.clients.values().map(person).collect()
    }

    /// Whether everything written is in Layer 1.
    pub fn is_flushed(&self) -> bool {
        let idle = self.inbox.is_empty() && self.busy.is_none() && self.saving.is_none();
        idle && self.unsaved.is_none()
    }

    fn act(&mut self, action: Action) {
        self.actions.push_back(action);
    }

    fn ask(&mut self, busy: Busy, ask: Ask) {
        debug_assert!(self.busy.is_none(), "one at a time");
        self.asked = Some(ask.clone());
        self.busy = Some(busy);
        self.act(Action::Ask(ask));
    }

    fn write(&mut self, then: Then, mut write: Write) {
        debug_assert!(self.busy.is_none(), "one at a time");
        let new = self.people.iter().enumerate().skip(self.people_kept.0);
        self.people_kept.1 = self.people.len();
        write.people = new.map(|(no, person)| (no as PersonNo, person.clone())).collect();
        if write.flushed.is_none() && self.flushed_unwritten {
            write.flushed = Some(self.flushed.clone());
        }
        if write.flushed.is_some() && write.intent.is_none() {
            // It ends what was intended before; what Layer 1 is storing just now is not over.
            write.intent = self.saving.as_ref().map(|saving| saving.intent().clone());
        }
        self.flushed_unwritten = false;
        self.busy = Some(Busy::Writing(Box::new(then)));
        self.act(Action::Journal(write));
    }

    /// Begins what is next, if nothing is under way.
    fn go_on(&mut self, now_ms: u64) {
        while self.busy.is_none() && !self.over {
            if let Some((from, to)) = self.hands.pop_front() {
                self.ask(Busy::Handing, Ask::Hand(from, to));
            } else if let Some(id) = self.next_join() {
                let version = self.clients.get(&id).map(|client| client.version.0.clone());
                self.ask(Busy::Joining(id), Ask::Since(version.unwrap_or_default()));
            } else if let Some(outside) = self.believed(now_ms) {
                self.bring_in(outside);
            } else if self.inbox_is_gathered(now_ms) {
                self.begin_turn(now_ms);
            } else if self.checkpoint_is_due(now_ms) || self.look_is_due(now_ms) {
                self.ask(Busy::Reading, Ask::Text);
            } else if self.journal_is_long() {
                self.ask(Busy::Compacting, Ask::Snapshot);
            } else if self.flushed_unwritten && self.saving.is_none() && self.may_try(now_ms) {
                // Not beside a checkpoint: what that makes of it would be overwritten by this.
                self.write(Then::Flushed(self.flushed.clone()), Write::default());
            } else if self.may_end(now_ms) {
                self.write(Then::Over, Write { over: true, ..Write::default() });
            } else {
                return;
            }
        }
    }

    fn answered(&mut self, now_ms: u64, answer: Answer) {
        self.asked = None;
        self.in_vain = 0;
        match (self.busy.take(), answer) {
            // Handed over, or nothing that we asked: no answer says more.
            (Some(Busy::Handing), _) | (None, _) => {}
            (Some(busy), Answer::Unreadable | Answer::Absent) => self.unanswered(now_ms, busy),
            (Some(Busy::Importing(turn)), Answer::Imported(verdicts, merged, version, look_us)) => {
                self.imported(now_ms, turn, verdicts, merged, version, look_us);
            }
            (Some(Busy::Joining(id)), Answer::Since(update, version)) => {
                self.joined(id, update, version);
            }
            (Some(Busy::Reading), Answer::Text(text, version)) => {
                self.unlooked = false;
                self.looked_ms = now_ms;
                self.read(now_ms, &text, version);
            }
            (Some(Busy::Editing(outside)), Answer::Edited(update, at, version)) => {
                self.edited(outside, update, at, version);
            }
            (Some(Busy::Compacting), Answer::Snapshot(bytes)) => {
                self.journal_bytes = 0;
                let write = Write { snapshot: Some((self.turn, bytes)), ..Write::default() };
                self.write(Then::Compacted, write);
            }
            (Some(busy), answer) => {
                debug_assert!(false, "{answer:?} to {busy:?}");
                self.end(Ending::Renewed);
            }
        }
    }

    /// The document is what the journal says; what was asked is asked again.
    fn reopened(&mut self, killers: &[usize]) {
        let Some(mut ask) = self.asked.take() else { return };
        let Some(busy) = self.busy.take() else { return };
        self.in_vain += 1;
        if killers.is_empty() && self.in_vain > IN_VAIN_MAX {
            return self.unanswered(self.now_ms, busy);
        }
        match (busy, &mut ask) {
            (Busy::Importing(turn), Ask::Import(updates, look, claims)) => {
                // The document knows of none any more.
                self.claims.clear();
                claims.clone_from(&self.presence.claims());
                let claims = std::mem::take(claims);
                let (turn, left) = self.without(turn, std::mem::take(updates), killers);
                *look = true;
                if left.is_empty() {
                    self.acknowledge(&turn);
                    return;
                }
                self.ask(Busy::Importing(turn), Ask::Import(left, true, claims));
            }
            (busy, _) => {
                self.claims = self.presence.claims();
                self.ask(busy, ask);
            }
        }
    }

    /// The document cannot answer, or not without ending its process: it is left with the text it
    /// has, for another one. Whoever's edits are not taken yet sends them again there.
    fn unanswered(&mut self, now_ms: u64, busy: Busy) {
        if let Busy::Joining(id) = busy {
            self.close(id, Closing::Renewed);
        }
        self.unlooked = false;
        self.end(Ending::Renewed);
        self.wait(now_ms);
    }

    /// Somebody's updates broke the document after others had heard of them: those persons go,
    /// and the others begin anew from the text without them.
    fn poisoned(&mut self, poisoners: &[Sender]) {
        let of = |client: &Client| poisoners.contains(&sender_of(client.person));
        let culprits: Vec<_> =
            self.clients.iter().filter(|(_, client)| of(client)).map(|(id, _)| *id).collect();
        for id in culprits {
            self.evict(id, Closing::Broke);
        }
        self.end(Ending::Renewed);
    }

    fn journaled(&mut self, now_ms: u64) {
        let Some(Busy::Writing(then)) = self.busy.take() else { return };
        self.people_kept.0 = self.people_kept.1;
        match *then {
            Then::Tell(turn) => {
                // There is room again: what waits for it need not wait long any more.
                let soon_ms = now_ms + RETRY_MS.0;
                self.retry = self.retry.map(|(from, pause)| (from.min(soon_ms), pause));
                self.tell_turn(now_ms, turn);
            }
            Then::TellOutside(outside, flushed, update, version) => {
                self.flushed = flushed;
                self.retry = None;
                self.turn += 1;
                self.version = version;
                self.broadcast(None, update);
                self.tell(&serde_json::json!({ "type": "outside", "by": outside.by() }));
            }
            Then::Save(saving) => {
                self.act(saving.action(&self.people));
                self.saving = Some(saving);
            }
            Then::Flushed(flushed) => self.flushed = flushed,
            Then::Compacted => {}
            Then::Over => {
                let why = match self.ending {
                    Some(Ending::Renewed) => Closing::Renewed,
                    _ => Closing::Over,
                };
                let ids: Vec<_> = self.clients.keys().copied().collect();
                ids.into_iter().for_each(|id| self.close(id, why));
                self.act(Action::Ask(Ask::Close));
                self.act(Action::Over);
                self.over = true;
            }
        }
    }

    /// Nothing of the write is stored, and the document is what the journal has.
    fn journal_failed(&mut self, now_ms: u64, why: &str) {
        let Some(Busy::Writing(then)) = self.busy.take() else { return };
        self.flushed_unwritten = true;
        self.tell(&serde_json::json!({ "type": "unsaved", "why": why }));
        match *then {
            Then::Tell(mut turn) => {
                turn.fail_all();
                self.acknowledge(&turn);
            }
            Then::Save(saving) => self.unsave(saving),
            Then::TellOutside(outside, ..) => self.outside = self.outside.take().or(Some(outside)),
            // They come due again.
            Then::Flushed(_) | Then::Over => {}
            Then::Compacted => self.journal_bytes = 0,
        }
        self.wait(now_ms);
    }

    /// No checkpoint, no end and no edit from outside for a while.
    fn wait(&mut self, now_ms: u64) {
        let (first, longest) = RETRY_MS;
        let pause = self.retry.map_or(first, |(_, pause)| pause);
        self.retry = Some((now_ms + pause, (pause * 2).min(longest)));
    }

    fn may_try(&self, now_ms: u64) -> bool {
        self.retry.is_none_or(|(from, _)| now_ms >= from)
    }

    /// What time alone brings about.
    fn sweep(&mut self, now_ms: u64) {
        let slow = |client: &Client| {
            client.overflows()
                || client.lagging_since.is_some_and(|since| now_ms.saturating_sub(since) > LAG_MS)
        };
        let late: Vec<_> =
            self.clients.iter().filter(|(_, client)| slow(client)).map(|(id, _)| *id).collect();
        late.into_iter().for_each(|id| self.close(id, Closing::Slow));
        self.give_up_fragments(now_ms);
        self.end_in_time(now_ms);
    }

    fn brought(&self, batch: &Batch, bytes: &[u8]) -> Brought {
        let person = sender_of(batch.person);
        // What a connection left behind is its person's, who comes again over another one.
        let by = if self.clients.contains_key(&batch.client) { batch.client.0 } else { person };
        Brought { by, person, bytes: bytes.to_vec() }
    }

    fn take_ends(&mut self, text: &str) -> String {
        self.ends = Ends::of(text);
        lf(text)
    }
}
