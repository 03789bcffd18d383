//! The world: what happens, in which order, and what must hold in the end.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};

use crucible_core::hash::ContentHash;
use crucible_core::id::{DeviceId, UserId, VersionId};
use crucible_core::text_merge::{Overlap, Side, merge};
use crucible_live::documents::{Answer, Ask, Documents, Question, Reply, Version};
use crucible_live::frames::{self, BatchId, CrdtType, Message, Status};
use crucible_live::line_ends::Ends;
use crucible_live::room::{
    Action, ClientId, Closing, Content, Event, Flushed, Head, Person, Role, Room, Write, text_hash,
};
use crucible_live::stored::Stored;
use loro::{ExportMode, LoroDoc, VersionVector};

pub const ROOM: &str = "session";

/// SplitMix64.
pub struct Rng(u64);

impl Rng {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound as u64) as usize
    }

    pub fn one_in(&mut self, odds: usize) -> bool {
        self.below(odds) == 0
    }
}

/// Layer 1: versions of one note, and the merge of what does not follow its head.
pub struct Layer1 {
    pub versions: Vec<(Vec<usize>, Option<String>)>,
    pub head: usize,
    pub saves: Vec<(String, Vec<String>)>,
    /// What merges had to choose against; a conflict record keeps it.
    pub set_aside: Vec<String>,
}

pub fn version_id(number: usize) -> VersionId {
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&(number as u64 + 1).to_be_bytes());
    VersionId::from_bytes(bytes)
}

fn number(id: VersionId) -> usize {
    u64::from_be_bytes(id.as_bytes()[..8].try_into().unwrap()) as usize - 1
}

impl Layer1 {
    fn text(&self, number: usize) -> String {
        self.versions[number].1.clone().unwrap_or_default()
    }

    /// A version on top of `base`; a merge when that is not the head.
    pub fn write(&mut self, base: usize, text: Option<String>) -> usize {
        self.versions.push((vec![base], text));
        let new = self.versions.len() - 1;
        if base == self.head {
            self.head = new;
        } else {
            let base = self.common(new, self.head);
            let (base, ours, theirs) = (self.text(base), self.text(self.head), self.text(new));
            let merged = merge(&base, &ours, &theirs, Side::Theirs, Overlap::Lww);
            self.set_aside.extend(merged.hunks.into_iter().map(|hunk| hunk.loser));
            self.versions.push((vec![self.head, new], Some(merged.text)));
            self.head = self.versions.len() - 1;
        }
        new
    }

    fn ancestors(&self, of: usize) -> BTreeSet<usize> {
        let (mut all, mut open) = (BTreeSet::new(), vec![of]);
        while let Some(at) = open.pop() {
            if all.insert(at) {
                open.extend(&self.versions[at].0);
            }
        }
        all
    }

    fn common(&self, a: usize, b: usize) -> usize {
        let a = self.ancestors(a);
        *a.intersection(&self.ancestors(b)).max().unwrap()
    }

    pub fn head(&self) -> Head {
        let text = self.versions[self.head].1.clone();
        let content = text.map_or(Content::Deleted, Content::Text);
        Head { version: version_id(self.head), content, by: "somebody".to_owned() }
    }

    /// The version that was made of this intent, if it was.
    fn made(&self, base: VersionId, stored: &ContentHash) -> Option<VersionId> {
        let base = number(base);
        let made = |(parents, text): &(Vec<usize>, Option<String>)| {
            let hash = text.as_deref().map(ContentHash::of_text);
            *parents == [base] && hash.as_ref() == Some(stored)
        };
        self.versions.iter().position(made).map(version_id)
    }
}

/// A page: its document outlives its connections.
pub struct Page {
    pub doc: LoroDoc,
    pub person: Person,
    pub role: Role,
    connection: Option<Connection>,
    /// Edits it wrote, and the version of its own peer up to which each goes.
    written: Vec<(String, i32)>,
    /// How far its own edits were acknowledged.
    acked: i32,
    epoch: String,
    /// It has the document of its epoch, and may write.
    pub ready: bool,
    /// It wants to join again over the same connection.
    rejoin: bool,
    /// Written in a former epoch and never acknowledged.
    homeless: Vec<String>,
}

struct Connection {
    id: ClientId,
    joined: bool,
    /// On their way to the page, each from this time on.
    down: VecDeque<(u64, frames::Frame)>,
    batches: HashMap<BatchId, i32>,
    sent_up_to: VersionVector,
    assembly: Option<frames::Assembly>,
}

pub struct World {
    rng: Rng,
    seed: u64,
    pub now: u64,
    pub room: Option<Room>,
    documents: Documents,
    pub stored: Option<Stored>,
    pub layer1: Layer1,
    pub pages: Vec<Page>,
    ids: u64,
    tokens: usize,
    asks: VecDeque<Ask>,
    writes: VecDeque<Write>,
    saves: VecDeque<(VersionId, String)>,
    /// Everything that was acknowledged, or stored in Layer 1 from outside.
    pub promised: BTreeSet<String>,
    sessions: usize,
    pub closed: Vec<Closing>,
    quiet: bool,
    pub disk_full: bool,
    /// Layer 1 stores nothing for now; it does not fail either.
    pub layer1_waits: bool,
    /// Pages that take nothing of what is sent to them.
    pub deaf: BTreeSet<usize>,
}

impl World {
    pub fn new(seed: u64, text: &str) -> Self {
        let layer1 = Layer1 {
            versions: vec![(Vec::new(), Some(text.to_owned()))],
            head: 0,
            saves: Vec::new(),
            set_aside: Vec::new(),
        };
        let mut world = Self {
            rng: Rng(seed),
            seed,
            now: 1_000_000,
            room: None,
            documents: Documents::default(),
            stored: None,
            layer1,
            pages: Vec::new(),
            ids: 0,
            tokens: 0,
            asks: VecDeque::new(),
            writes: VecDeque::new(),
            saves: VecDeque::new(),
            promised: BTreeSet::new(),
            sessions: 0,
            closed: Vec::new(),
            quiet: false,
            disk_full: false,
            layer1_waits: false,
            deaf: BTreeSet::new(),
        };
        world.open();
        for no in 0..3 {
            world.page(no, Role::Write);
        }
        world
    }

    pub fn page(&mut self, no: u8, role: Role) -> usize {
        let person = Person {
            user: UserId::from_bytes([no; 16]),
            device: DeviceId::from_bytes([no; 32]),
            name: format!("page {no}"),
        };
        let doc = LoroDoc::new();
        doc.set_peer_id(u64::from(no) + 100).unwrap();
        self.pages.push(Page {
            doc,
            person,
            role,
            connection: None,
            written: Vec::new(),
            acked: 0,
            epoch: String::new(),
            ready: false,
            rejoin: false,
            homeless: Vec::new(),
        });
        self.pages.len() - 1
    }

    fn question(&mut self, ask: Ask) -> Reply {
        let (doc, ticks) = (1, std::cell::Cell::new(0));
        let odds = self.rng.below(3_000) as u64;
        self.documents.answer(Question { doc, ask, no: 0 }, || {
            ticks.set(ticks.get() + odds);
            ticks.get()
        })
    }

    /// Opens the session: the stored one, or a new one.
    pub fn open(&mut self) {
        if self.stored.is_none() {
            let text = self.layer1.text(self.layer1.head);
            let reply = self.question(Ask::Seed(crucible_live::line_ends::lf(&text)));
            let Answer::Opened(version, snapshot) = reply.answer else { panic!("{reply:?}") };
            let base = version_id(self.layer1.head);
            let hash = text_hash(&crucible_live::line_ends::lf(&text));
            self.sessions += 1;
            self.stored = Some(Stored {
                id: ROOM.to_owned(),
                epoch: format!("epoch {}", self.sessions),
                flushed: Flushed { base, hash, at: version, turn: 0 },
                intent: None,
                snapshot,
                snapshot_turn: 0,
                turns: BTreeMap::new(),
                people: Vec::new(),
                authors: BTreeMap::new(),
                editors: Vec::new(),
            });
        }
        let version = self.reopen();
        // What a crash left undecided is decided in memory; the disk hears of it with a write.
        let mut stored = self.stored.clone().unwrap();
        let made = stored.intent.as_ref().and_then(|i| self.layer1.made(i.base, &i.stored));
        let decided = stored.resolve(made);
        let base = self.layer1.text(number(stored.flushed.base));
        let begun = stored.begun(version, Ends::of(&base), decided);
        self.room = Some(Room::new(begun, self.now));
        let head = self.layer1.head();
        self.event(Event::Outside(head));
    }

    fn reopen(&mut self) -> Version {
        let ask = self.stored.as_ref().unwrap().ask();
        let reply = self.question(ask);
        let Answer::Opened(version, _) = reply.answer else { panic!("{reply:?}") };
        version
    }

    pub fn event(&mut self, event: Event) {
        let now = self.now;
        let Some(room) = &mut self.room else { return };
        room.handle(now, event);
        self.take_actions();
    }

    fn take_actions(&mut self) {
        while let Some(action) = self.room.as_mut().and_then(Room::poll_action) {
            match action {
                Action::Ask(ask) => self.asks.push_back(ask),
                Action::Journal(write) => self.writes.push_back(write),
                Action::Send(id, frame) => {
                    let from = self.now + if self.quiet { 1 } else { self.rng.next() % 120 };
                    if let Some(connection) = self.connection(id) {
                        // A connection keeps its order.
                        let last = connection.down.back().map_or(0, |(at, _)| *at);
                        connection.down.push_back((from.max(last), frame));
                    }
                }
                Action::Close(id, why) => {
                    self.closed.push(why);
                    self.pages
                        .iter_mut()
                        .filter(|page| page.connection.as_ref().is_some_and(|c| c.id == id))
                        .for_each(|page| page.connection = None);
                }
                Action::Save { base, text, editor, others } => {
                    let others = others.into_iter().map(|person| person.name).collect();
                    self.layer1.saves.push((editor.name, others));
                    self.saves.push_back((base, text));
                }
                Action::Over => {
                    self.room = None;
                    self.stored = None;
                    self.asks.clear();
                }
            }
        }
    }

    fn connection(&mut self, id: ClientId) -> Option<&mut Connection> {
        let connections = self.pages.iter_mut().filter_map(|page| page.connection.as_mut());
        connections.into_iter().find(|connection| connection.id == id)
    }

    /// Does what the room waits for, if it waits.
    pub fn work(&mut self) -> bool {
        if self.answer() {
            return true;
        }
        if let Some(write) = self.writes.pop_front() {
            if self.disk_full {
                self.reopen();
                self.event(Event::JournalFailed("the disk is full".to_owned()));
            } else {
                self.keep(write);
                self.event(Event::Journaled);
            }
        } else if !self.layer1_waits && !self.saves.is_empty() {
            if self.disk_full {
                self.saves.pop_front();
                self.event(Event::SaveFailed("the disk is full".to_owned()));
            } else {
                self.save();
            }
        } else {
            return false;
        }
        true
    }

    /// Answers what the room asks of its document, if it asks.
    pub fn answer(&mut self) -> bool {
        let Some(ask) = self.asks.pop_front() else { return false };
        let mut reply = self.question(ask.clone());
        if reply.answer == Answer::Absent && self.stored.is_some() {
            // The process died between two questions.
            self.reopen();
            reply = self.question(ask);
        }
        self.event(Event::Answered(reply.answer, reply.poisoners));
        true
    }

    fn keep(&mut self, write: Write) {
        if !write.over {
            self.stored.as_mut().unwrap().apply(write);
        }
    }

    /// Layer 1 stores the checkpoint under way, whatever else is.
    pub fn save(&mut self) {
        let new = self.save_unheard();
        let head = self.layer1.head();
        self.event(Event::Saved(version_id(new), head));
    }

    /// Layer 1 stores the checkpoint under way, and the room does not hear of it.
    pub fn save_unheard(&mut self) -> usize {
        let (base, text) = self.saves.pop_front().unwrap();
        self.layer1.write(number(base), Some(text))
    }

    /// Layer 1 never hears of the checkpoint that waits.
    pub fn lose_save(&mut self) {
        self.saves.pop_front().unwrap();
    }

    /// The server is killed: what was under way may or may not have been done.
    pub fn crash(&mut self) {
        if let Some(write) = self.writes.pop_front()
            && self.rng.one_in(2)
        {
            match write.over {
                true => self.stored = None,
                false => self.keep(write),
            }
        }
        if !self.saves.is_empty() && self.rng.one_in(2) {
            self.save_unheard();
        }
        self.asks.clear();
        self.writes.clear();
        self.saves.clear();
        self.room = None;
        self.documents = Documents::default();
        self.pages.iter_mut().for_each(|page| page.connection = None);
    }

    pub fn connect(&mut self, at: usize) {
        if self.room.is_none() {
            self.open();
        }
        self.ids += 1;
        let id = ClientId(self.ids);
        let page = &mut self.pages[at];
        let epoch = self.stored.as_ref().unwrap().epoch.clone();
        if page.epoch != epoch {
            // Another document: what was not acknowledged is written again, as the page's text.
            page.begin_again(epoch);
        }
        let version = page.doc.oplog_vv().encode();
        page.connection = Some(Connection {
            id,
            joined: false,
            down: VecDeque::new(),
            batches: HashMap::new(),
            sent_up_to: VersionVector::default(),
            assembly: None,
        });
        let (person, role) = (page.person.clone(), page.role);
        self.event(Event::Connected(id, person, role));
        self.say(
            id,
            &Message::JoinRequest {
                crdt: CrdtType::Loro,
                room_id: ROOM.to_owned(),
                auth: Vec::new(),
                version,
            },
        );
    }

    pub fn cut(&mut self, at: usize) {
        if let Some(connection) = self.pages[at].connection.take() {
            self.event(Event::Gone(connection.id));
        }
    }

    pub fn say(&mut self, id: ClientId, message: &Message) {
        self.event(Event::Frame(id, frames::encode(message).to_vec()));
    }

    pub fn id_of(&self, at: usize) -> ClientId {
        self.pages[at].connection.as_ref().unwrap().id
    }

    /// Somebody writes a word of their own, once.
    pub fn type_something(&mut self, at: usize) -> String {
        self.tokens += 1;
        let token = format!("w{}w", self.tokens);
        let page = &mut self.pages[at];
        page.write(&mut self.rng, &token);
        token
    }
}

impl Page {
    fn write(&mut self, rng: &mut Rng, token: &str) {
        let text = self.doc.get_text("text");
        let here = rng.below(text.len_unicode() + 1);
        // Never inside another one's word.
        let chars: Vec<char> = text.to_string().chars().collect();
        let mut here = here.min(chars.len());
        while here > 0 && here < chars.len() && !chars[here - 1].is_whitespace() {
            here -= 1;
        }
        text.insert(here, &format!("{token} ")).unwrap();
        self.doc.commit();
        self.written.push((token.to_owned(), self.counter()));
    }
}

impl World {
    /// Sends what a page has written and not sent.
    pub fn flush(&mut self, at: usize) {
        let page = &mut self.pages[at];
        let counter = page.counter();
        let Some(connection) = page.connection.as_mut().filter(|c| c.joined) else { return };
        if page.doc.oplog_vv() == connection.sent_up_to {
            return;
        }
        let update = page.doc.export(ExportMode::updates(&connection.sent_up_to)).unwrap();
        connection.sent_up_to = page.doc.oplog_vv();
        let batch = BatchId(self.rng.next().to_be_bytes());
        connection.batches.insert(batch, counter);
        let id = connection.id;
        for frame in frames::update(CrdtType::Loro, ROOM, update, batch) {
            self.event(Event::Frame(id, frame.to_vec()));
        }
    }

    /// A page takes the next frame that has arrived.
    pub fn receive(&mut self, at: usize) -> bool {
        let now = self.now;
        let Some(connection) = self.pages[at].connection.as_mut() else { return false };
        let is_here = connection.down.front().is_some_and(|(from, _)| *from <= now);
        if !is_here || self.deaf.contains(&at) {
            return false;
        }
        let (_, frame) = connection.down.pop_front().unwrap();
        let id = connection.id;
        self.event(Event::Sent(id, 1, frame.len()));
        let page = &mut self.pages[at];
        page.hear(frames::decode(&frame).unwrap(), &mut self.promised);
        if std::mem::take(&mut page.rejoin) {
            let version = page.doc.oplog_vv().encode();
            let (room_id, auth) = (ROOM.to_owned(), Vec::new());
            self.say(id, &Message::JoinRequest { crdt: CrdtType::Loro, room_id, auth, version });
        }
        true
    }

    /// Somebody edits the file on another device, from what the note was some time ago.
    pub fn edit_outside(&mut self) {
        self.tokens += 1;
        let token = format!("o{}o", self.tokens);
        let ancestors = self.layer1.ancestors(self.layer1.head);
        let back = self.rng.below(3.min(ancestors.len()));
        let base = *ancestors.iter().rev().nth(back).unwrap();
        let base = if self.layer1.versions[base].1.is_some() { base } else { self.layer1.head };
        let mut lines: Vec<String> =
            self.layer1.text(base).split_inclusive('\n').map(str::to_owned).collect();
        let at = self.rng.below(lines.len() + 1);
        lines.insert(at, format!("{token}\n"));
        if at > 0 && !lines[at - 1].ends_with('\n') {
            lines[at - 1].push('\n');
        }
        self.layer1.write(base, Some(lines.concat()));
        self.promised.insert(token);
        let head = self.layer1.head();
        self.event(Event::Outside(head));
    }

    /// From now on nothing is late.
    pub fn calm(&mut self) {
        self.quiet = true;
    }

    /// A millisecond passes: updates that waited for others wait no more.
    pub fn pass(&mut self) {
        self.now += 1;
        self.event(Event::Tick);
    }

    /// Everything that is under way arrives and is done.
    pub fn rest(&mut self) {
        for _ in 0..20 {
            self.pass();
            while self.work() {}
            for at in 0..self.pages.len() {
                while self.receive(at) {}
                self.flush(at);
            }
        }
    }

    /// So much time passes, in which everything arrives.
    pub fn wait(&mut self, ms: u64) {
        let end = self.now + ms;
        while self.now <= end {
            self.now += (ms / 50).max(20);
            self.event(Event::Tick);
            self.rest();
        }
    }

    /// Everything on its way to a page, taken without being heard.
    pub fn frames_for(&mut self, at: usize) -> Vec<Message> {
        let Some(connection) = self.pages[at].connection.as_mut() else { return Vec::new() };
        let id = connection.id;
        let frames: Vec<_> = connection.down.drain(..).map(|(_, frame)| frame).collect();
        let bytes = frames.iter().map(|frame| frame.len()).sum();
        self.event(Event::Sent(id, frames.len(), bytes));
        frames.iter().map(|frame| frames::decode(frame).unwrap()).collect()
    }

    /// Bytes on their way to a page.
    pub fn waiting_for(&self, at: usize) -> usize {
        let connection = self.pages[at].connection.as_ref();
        connection.map_or(0, |c| c.down.iter().map(|(_, frame)| frame.len()).sum())
    }

    /// A version is made elsewhere.
    pub fn outside(&mut self, base: usize, text: Option<&str>) {
        self.layer1.write(base, text.map(str::to_owned));
        let head = self.layer1.head();
        self.event(Event::Outside(head));
    }

    pub fn step(&mut self) {
        self.now += self.rng.next() % 60;
        let at = self.rng.below(self.pages.len());
        match self.rng.below(100) {
            0..30 => drop(self.work()),
            30..50 => drop(self.receive(at)),
            50..68 => {
                if self.pages[at].ready && self.pages[at].role == Role::Write {
                    self.type_something(at);
                }
                if self.rng.one_in(2) {
                    self.flush(at);
                }
            }
            68..76 => self.flush(at),
            76..84 => {
                if self.pages[at].connection.is_none() {
                    self.connect(at);
                }
            }
            84..87 => self.cut(at),
            87..90 => self.edit_outside(),
            90 => self.crash(),
            91 => self.child_dies(),
            92 => self.disk_full = !self.disk_full,
            93 => self.event(Event::End),
            _ => {
                self.now += self.rng.next() % 1_500;
                if self.room.is_none() && self.rng.one_in(2) {
                    self.open();
                }
                self.event(Event::Tick);
            }
        }
    }

    /// The process with the documents ends, whatever it was asked.
    pub fn child_dies(&mut self) {
        self.documents = Documents::default();
        if self.asks.pop_front().is_some() {
            self.reopen();
            self.event(Event::Reopened(Vec::new(), Vec::new()));
        }
    }

    /// The network and the disk behave, everybody is there, until nothing moves any more.
    pub fn settle(&mut self) {
        self.quiet = true;
        self.disk_full = false;
        for at in 0..self.pages.len() {
            self.cut(at);
        }
        for _ in 0..400 {
            self.now += 200;
            for at in 0..self.pages.len() {
                if self.pages[at].connection.is_none() {
                    self.connect(at);
                }
                while self.receive(at) {}
                self.flush(at);
                while self.work() {}
            }
            self.event(Event::Tick);
            while self.work() {}
        }
    }

    pub fn check(&self) {
        let seed = self.seed;
        let text = self.layer1.text(self.layer1.head);
        for page in &self.pages {
            assert_eq!(page.text(), text, "seed {seed}: {:?}", self.room);
            assert_eq!(page.acked, page.counter(), "seed {seed}: all is acknowledged");
            let written = page.written.iter().map(|(token, _)| token);
            written.for_each(|token| self.stands_once(token, &text));
        }
        self.promised.iter().for_each(|token| self.stands_once(token, &text));
    }

    fn stands_once(&self, token: &str, text: &str) {
        let seed = self.seed;
        let count = text.matches(token).count();
        let is_kept = self.layer1.set_aside.iter().any(|lost| lost.contains(token));
        let stands = count == 1 || count == 0 && is_kept;
        assert!(stands, "seed {seed}: {count} {token} in {text:?}");
    }
}

impl Page {
    pub fn text(&self) -> String {
        self.doc.get_text("text").to_string()
    }

    /// An update with `text` at the beginning, which this page never sends by itself.
    pub fn unsent(&self, text: &str) -> Vec<u8> {
        let fork = self.doc.fork();
        fork.set_peer_id(self.doc.peer_id()).unwrap();
        let before = fork.oplog_vv();
        fork.get_text("text").insert(0, text).unwrap();
        fork.commit();
        fork.export(ExportMode::updates(&before)).unwrap()
    }

    fn counter(&self) -> i32 {
        self.doc.oplog_vv().get(&self.doc.peer_id()).copied().unwrap_or(0)
    }

    /// A new document; what was not acknowledged in the old one is typed again once it is here.
    fn begin_again(&mut self, epoch: String) {
        let peer = self.doc.peer_id() + 1_000;
        self.doc = LoroDoc::new();
        self.doc.set_peer_id(peer).unwrap();
        let acked = self.acked;
        let unsaved = self.written.drain(..).filter(|(_, counter)| *counter > acked);
        self.homeless.extend(unsaved.map(|(token, _)| token));
        self.acked = 0;
        self.ready = false;
        self.epoch = epoch;
    }

    fn hear(&mut self, message: Message, promised: &mut BTreeSet<String>) {
        let connection = self.connection.as_mut().unwrap();
        match message {
            Message::JoinResponseOk { crdt: CrdtType::Loro, version, .. } => {
                connection.joined = true;
                connection.sent_up_to = VersionVector::decode(&version).unwrap();
                // What the server has is durable there.
                let there = connection.sent_up_to.get(&self.doc.peer_id()).copied();
                self.acked = self.acked.max(there.unwrap_or(0));
            }
            Message::DocUpdate { crdt: CrdtType::Loro, updates, .. } if connection.joined => {
                for update in updates {
                    self.import(&update);
                }
            }
            Message::DocUpdateFragmentHeader {
                batch_id, fragment_count, total_size_bytes, ..
            } => {
                let begun = frames::Assembly::begin(batch_id, fragment_count, total_size_bytes, 0);
                connection.assembly = Some(begun.unwrap());
            }
            Message::DocUpdateFragment { index, fragment, .. } => {
                let assembly = connection.assembly.as_mut().unwrap();
                if let Some(update) = assembly.take(index, fragment).unwrap() {
                    self.import(&update);
                }
            }
            Message::RoomError { .. } => {
                connection.joined = false;
                self.rejoin = true;
            }
            Message::Ack { ref_id, status, .. } => {
                let counter = connection.batches.remove(&ref_id).unwrap();
                if status == Status::Ok {
                    self.acked = self.acked.max(counter);
                    let acked = self.written.iter().filter(|(_, at)| *at <= counter);
                    promised.extend(acked.map(|(token, _)| token.clone()));
                } else {
                    // It joins again and sends it again.
                    connection.joined = false;
                    self.rejoin = true;
                }
            }
            _ => {}
        }
    }

    fn import(&mut self, update: &[u8]) {
        let status = self.doc.import(update).unwrap();
        assert!(status.pending.is_none(), "a page hears everything in order");
        if !self.ready {
            self.ready = true;
            // What stands there already was taken, and only the answer was lost.
            let text = self.text();
            for token in std::mem::take(&mut self.homeless) {
                if !text.contains(&token) {
                    self.write(&mut Rng(7), &token);
                }
            }
        }
        if let Some(connection) = &mut self.connection {
            // What came from there is there.
            for (peer, range) in status.success.iter() {
                let end = range.1;
                if connection.sent_up_to.get(peer).is_none_or(|have| *have < end) {
                    connection.sent_up_to.insert(*peer, end);
                }
            }
        }
    }
}
