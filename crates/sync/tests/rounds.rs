//! Devices and a server as bare stores: rounds, merges, copies and wrong clocks, without a disk.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::sync::Arc;

use crucible_core::hash::ContentHash;
use crucible_core::id::{DeviceId, NoteId, ReplicaId, UserId, VaultId, VersionId};
use crucible_core::merkle::diff;
use crucible_core::vault_path::VaultPath;
use crucible_core::version::Kind;
use crucible_proto::message::{self, Answer, Round};
use crucible_proto::parcel::{Bytes, Content, Group, PackFrame, Parcel, Record};
use crucible_proto::zip;
use crucible_store::server_repo::{Origin, ServerRepo};
use crucible_sync::ask::{self, Asking, Losses};
use crucible_sync::mint::{self, Again, Change, Found, Minter};
use crucible_sync::policy::Policies;
use crucible_sync::replica::{ReplicaBatch, ReplicaMeta, ReplicaStore};
use crucible_sync::repo::{Body, Pack, Repo};
use crucible_sync::serve::{Access, ServeError, serve};
use crucible_sync::staged::{Staged, Tree};
use crucible_sync::unpack::UnpackError;
use crucible_testkit::memory_store::MemoryStore;

const VAULT: VaultId = VaultId::from_bytes([7; 16]);

struct Server {
    store: MemoryStore,
    now_ms: u64,
    requests: u64,
    bytes: u64,
}

impl Server {
    fn new() -> Self {
        Self { store: MemoryStore::server(), now_ms: 1_000_000, requests: 0, bytes: 0 }
    }

    /// Answers over the wire format, as a real one does.
    fn round(&mut self, round: &Round) -> Answer {
        let body = message::body(round);
        self.requests += 1;
        let round = message::parse(&body).unwrap();
        let served = serve(&self.store, VAULT, round, self.now_ms, Access::Write).unwrap();
        if !served.batch.is_empty() {
            self.store.commit_from(&served.batch, &origin()).unwrap();
        }
        let answer = message::body(&served.answer);
        self.bytes += (body.len() + answer.len()) as u64;
        message::parse(&answer).unwrap()
    }
}

struct Device {
    store: MemoryStore,
    now_ms: u64,
}

impl Device {
    fn new(number: u8) -> Self {
        let meta = ReplicaMeta::new(VAULT, ReplicaId::from_bytes([number; 16]));
        Self { store: MemoryStore::device(meta), now_ms: 1_000_000 + u64::from(number) }
    }

    fn commit(&mut self, change: Change, text: Option<&str>) -> VersionId {
        self.now_ms += 1;
        self.commit_all(&[(change, text)])[0]
    }

    /// Several changes found by one scan.
    fn commit_all(&mut self, changes: &[(Change, Option<&str>)]) -> Vec<VersionId> {
        let mut meta = self.store.meta().unwrap();
        let store = self.store.clone();
        let mut staged = Staged::new(&store);
        let mut minter = Minter::new(&mut meta, self.now_ms);
        let mut unsent = Vec::new();
        for (change, text) in changes {
            if let Some(text) = text {
                let bytes: Arc<[u8]> = text.as_bytes().into();
                staged.put_new_content(ContentHash::of_text(text), bytes, None).unwrap();
            }
            unsent.push(minter.mint(&mut staged, change).unwrap());
        }
        let repo = staged.finish().unwrap();
        let ids = unsent.clone();
        let batch = ReplicaBatch { repo, meta: Some(meta), unsent, ..ReplicaBatch::default() };
        ReplicaStore::commit(&mut self.store, &batch).unwrap();
        ids
    }

    fn create(&mut self, path: &str, text: &str) -> VersionId {
        self.commit(Change::Created { path: p(path), found: found(text) }, Some(text))
    }

    fn note(&self, path: &str) -> NoteId {
        NoteId::derive(&VAULT, &p(path), 0)
    }

    fn head(&self, path: &str) -> VersionId {
        let heads = self.store.heads(&self.note(path)).unwrap();
        assert_eq!(heads.len(), 1, "{path} has one head");
        heads[0]
    }

    fn edit(&mut self, path: &str, text: &str) -> VersionId {
        let base = self.head(path);
        self.commit(Change::Edited { base, path: None, found: found(text) }, Some(text))
    }

    fn moved(&self, path: &str, to: &str) -> (Change, Option<&'static str>) {
        (Change::Moved { base: self.head(path), path: p(to) }, None)
    }

    fn delete(&mut self, path: &str) -> VersionId {
        let base = self.head(path);
        self.commit(Change::Deleted { base }, None)
    }

    fn text(&self, path: &str) -> Option<String> {
        let version = self.store.version(&self.head(path)).unwrap().unwrap();
        let bytes = self.store.content(&version.live()?.content).unwrap().unwrap();
        Some(String::from_utf8(bytes.to_vec()).unwrap())
    }

    fn path(&self, born: &str) -> Option<String> {
        let version = self.store.version(&self.head(born)).unwrap().unwrap();
        version.path().map(ToString::to_string)
    }

    /// Rounds until both sides are in step; how many requests that took.
    fn sync(&mut self, server: &mut Server) -> u64 {
        let before = server.requests;
        let mut asking = Asking::default();
        for _ in 0..10 {
            let request = ask::request(&self.store, &asking).unwrap();
            let done = match server.round(&request.round) {
                Answer::Done(done) => done,
                Answer::Unresolved => {
                    asking.whole = true;
                    continue;
                }
                Answer::UnknownRoot { .. } => {
                    self.walk(server);
                    continue;
                }
                Answer::ClockAhead { now_ms } => {
                    self.remint(Again::Ahead { now_ms }, |meta| {
                        meta.clock_correction_ms = now_ms as i64 - 9_000_000_000;
                    });
                    continue;
                }
                Answer::Cloned { .. } => {
                    self.remint(Again::OtherId, |meta| {
                        mint::start_over(meta, ReplicaId::from_bytes([99; 16]));
                    });
                    continue;
                }
                other => panic!("{other:?}"),
            };
            if self.absorb(&request, *done, &mut asking) {
                return server.requests - before;
            }
        }
        panic!("not in step after ten requests");
    }

    fn absorb(&mut self, request: &ask::Request, done: message::Done, asking: &mut Asking) -> bool {
        let next = done.next;
        let absorbed =
            ask::absorb(&self.store, request, done, &Policies::default(), Losses::Followed);
        let absorbed = match absorbed {
            Ok(absorbed) => absorbed,
            Err(UnpackError::Unresolved) => {
                asking.whole = true;
                return false;
            }
            Err(other) => panic!("{other}"),
        };
        ReplicaStore::commit(&mut self.store, &absorbed.batch).unwrap();
        asking.cursor = next;
        absorbed.in_step && self.store.unsent().unwrap().is_empty()
    }

    /// Both trees side by side, in place of the wire's walk.
    fn walk(&mut self, server: &mut Server) {
        let (mine, theirs) = (self.store.root().unwrap(), server.store.root().unwrap());
        let (store, other) = (self.store.clone(), server.store.clone());
        let differing = diff(&Tree(&store), mine.as_ref(), &Tree(&other), theirs.as_ref()).unwrap();
        let differing: Vec<_> = ask::notes(&differing).collect();
        let mut asking = Asking::default();
        let request = ask::request_for(&self.store, &asking, &differing).unwrap();
        let Answer::Done(done) = server.round(&request.round) else { panic!("no answer") };
        self.absorb(&request, *done, &mut asking);
    }

    fn remint(&mut self, again: Again, change: impl Fn(&mut ReplicaMeta)) {
        let mut meta = self.store.meta().unwrap();
        change(&mut meta);
        let store = self.store.clone();
        let unsent = store.unsent().unwrap();
        let mut staged = Staged::new(&store);
        let now_ms = 9_000_000_000;
        let reminted = mint::remint(&mut staged, &mut meta, now_ms, &unsent, again).unwrap();
        let repo = staged.finish().unwrap();
        let unsent = reminted.into_values().collect();
        let batch = ReplicaBatch { repo, meta: Some(meta), unsent, ..ReplicaBatch::default() };
        ReplicaStore::commit(&mut self.store, &batch).unwrap();
    }
}

fn origin() -> Origin {
    Origin {
        user: UserId::from_bytes([1; 16]),
        device: DeviceId::from_bytes([1; 32]),
        received_ms: 0,
        address: String::new(),
        others: Vec::new(),
    }
}

fn p(path: &str) -> VaultPath {
    VaultPath::new(path).unwrap()
}

fn found(text: &str) -> Found {
    let content = ContentHash::of_text(text);
    Found { kind: Kind::Note, content, bytes: text.len() as u64 }
}

fn pair() -> (Server, Device, Device) {
    (Server::new(), Device::new(1), Device::new(2))
}

#[test]
fn an_edit_reaches_the_other_device_in_one_request_each() {
    let (mut server, mut a, mut b) = pair();
    a.create("a.md", "one\n");
    assert_eq!(a.sync(&mut server), 1);
    assert_eq!(b.sync(&mut server), 1);
    assert_eq!(b.text("a.md").as_deref(), Some("one\n"));
    a.edit("a.md", "one\ntwo\n");
    assert_eq!(a.sync(&mut server), 1);
    assert_eq!(b.sync(&mut server), 1);
    assert_eq!(b.text("a.md").as_deref(), Some("one\ntwo\n"));
    assert_eq!(a.store.root().unwrap(), b.store.root().unwrap());
    assert_eq!(b.sync(&mut server), 1, "nothing to do is one request");
}

#[test]
fn edits_apart_come_together_with_every_word_of_both() {
    let (mut server, mut a, mut b) = pair();
    a.create("a.md", "# Title\n\nOne sentence here.\n\nAnother there.\n");
    a.sync(&mut server);
    b.sync(&mut server);
    a.edit("a.md", "# Title\n\nOne long sentence here.\n\nAnother there.\n");
    b.edit("a.md", "# Title\n\nOne sentence here.\n\nAnother one there.\n");
    assert_eq!(a.sync(&mut server), 1);
    assert_eq!(b.sync(&mut server), 1);
    assert_eq!(a.sync(&mut server), 1);
    let merged = "# Title\n\nOne long sentence here.\n\nAnother one there.\n";
    assert_eq!(a.text("a.md").as_deref(), Some(merged));
    assert_eq!(b.text("a.md").as_deref(), Some(merged));
    assert_eq!(a.store.root().unwrap(), server.store.root().unwrap());
    assert!(a.store.open_conflicts(9).unwrap().is_empty());
}

#[test]
fn overlapping_edits_leave_the_loser_in_a_record_on_both_devices() {
    let (mut server, mut a, mut b) = pair();
    a.create("a.md", "The sky is blue.\n");
    a.sync(&mut server);
    b.sync(&mut server);
    a.edit("a.md", "The sky is green.\n");
    b.now_ms += 50;
    b.edit("a.md", "The sky is red.\n");
    a.sync(&mut server);
    b.sync(&mut server);
    a.sync(&mut server);
    assert_eq!(a.text("a.md").as_deref(), Some("The sky is red.\n"));
    assert_eq!(b.text("a.md"), a.text("a.md"));
    for device in [&a, &b] {
        let open = device.store.open_conflicts(9).unwrap();
        assert_eq!(open.len(), 1);
        let crucible_core::conflict::Clash::Body(hunk) = &open[0].clash else { panic!() };
        assert!(hunk.loser.contains("green"), "{hunk:?}");
    }
}

#[test]
fn a_deletion_spreads_and_an_edit_apart_beats_it() {
    let (mut server, mut a, mut b) = pair();
    a.create("gone.md", "x\n");
    a.create("kept.md", "y\n");
    a.sync(&mut server);
    b.sync(&mut server);
    a.delete("gone.md");
    a.delete("kept.md");
    b.edit("kept.md", "y edited\n");
    a.sync(&mut server);
    b.sync(&mut server);
    a.sync(&mut server);
    for device in [&a, &b] {
        assert_eq!(device.text("gone.md"), None);
        assert_eq!(device.text("kept.md").as_deref(), Some("y edited\n"));
    }
    assert_eq!(a.store.root().unwrap(), b.store.root().unwrap());
    a.create("gone.md", "born again\n");
    a.sync(&mut server);
    b.sync(&mut server);
    assert_eq!(b.text("gone.md").as_deref(), Some("born again\n"));
}

#[test]
fn a_renamed_folder_travels_as_one_record_in_one_request_both_ways() {
    let (mut server, mut a, mut b) = pair();
    for i in 0..300 {
        a.create(&format!("old/sub/n{i:03}.md"), &format!("note {i}\n"));
    }
    a.create("other.md", "z\n");
    a.sync(&mut server);
    b.sync(&mut server);
    let path = |folder: &str, i| format!("{folder}/sub/n{i:03}.md");
    let moves: Vec<_> = (0..300).map(|i| a.moved(&path("old", i), &path("new", i))).collect();
    a.commit_all(&moves);
    let before = server.bytes;
    assert_eq!(a.sync(&mut server), 1);
    assert!(server.bytes - before < 600, "{} bytes up", server.bytes - before);
    let before = server.bytes;
    assert_eq!(b.sync(&mut server), 1);
    assert!(server.bytes - before < 600, "{} bytes down", server.bytes - before);
    assert_eq!(b.path("old/sub/n123.md").as_deref(), Some("new/sub/n123.md"));
    assert_eq!(a.store.root().unwrap(), b.store.root().unwrap());
}

#[test]
fn a_lost_answer_changes_nothing() {
    let (mut server, mut a, mut b) = pair();
    a.create("a.md", "one\n");
    a.sync(&mut server);
    b.sync(&mut server);
    a.edit("a.md", "one two\n");
    let request = ask::request(&a.store, &Asking::default()).unwrap();
    server.round(&request.round);
    b.edit("a.md", "zero\none\n");
    b.sync(&mut server);
    a.sync(&mut server);
    b.sync(&mut server);
    assert_eq!(a.text("a.md").as_deref(), Some("zero\none two\n"));
    assert_eq!(b.text("a.md"), a.text("a.md"));
    assert_eq!(a.store.root().unwrap(), b.store.root().unwrap());
}

#[test]
fn two_filled_folders_meet_with_both_texts_kept() {
    let (mut server, mut a, mut b) = pair();
    a.create("same.md", "equal\n");
    b.create("same.md", "equal\n");
    a.create("daily.md", "# Day\n\nfrom a\n");
    b.create("daily.md", "# Day\n\nfrom b\n");
    a.sync(&mut server);
    b.sync(&mut server);
    a.sync(&mut server);
    let daily = a.text("daily.md").unwrap();
    assert!(daily.contains("from a") && daily.contains("from b"), "{daily}");
    assert_eq!(daily.matches("# Day").count(), 1, "{daily}");
    assert_eq!(b.text("daily.md").as_deref(), Some(&*daily));
    assert_eq!(a.text("same.md").as_deref(), Some("equal\n"));
    assert_eq!(a.store.root().unwrap(), b.store.root().unwrap());
}

#[test]
fn a_server_from_an_old_backup_gets_back_what_it_forgot() {
    let (mut server, mut a, mut b) = pair();
    a.create("a.md", "one\n");
    a.sync(&mut server);
    b.sync(&mut server);
    let backup = server.store.clone();
    a.edit("a.md", "one\ntwo\n");
    a.create("new.md", "fresh\n");
    a.sync(&mut server);
    b.sync(&mut server);
    server.store = backup;
    a.sync(&mut server);
    assert_eq!(server.store.root().unwrap(), a.store.root().unwrap());
    b.edit("a.md", "one\ntwo\nthree\n");
    b.sync(&mut server);
    a.sync(&mut server);
    assert_eq!(a.text("a.md").as_deref(), Some("one\ntwo\nthree\n"));
    assert_eq!(a.text("new.md").as_deref(), Some("fresh\n"));
    assert!(a.store.open_conflicts(9).unwrap().is_empty());
}

#[test]
fn a_copied_folder_finds_out_and_loses_nothing() {
    let (mut server, mut a, _) = pair();
    a.create("a.md", "one\n");
    a.sync(&mut server);
    let mut copy = Device { store: a.store.clone(), now_ms: 1_500_000 };
    a.edit("a.md", "one\nfrom a\n");
    copy.edit("a.md", "from the copy\none\n");
    a.sync(&mut server);
    copy.sync(&mut server);
    a.sync(&mut server);
    assert_eq!(a.text("a.md").as_deref(), Some("from the copy\none\nfrom a\n"));
    assert_eq!(copy.text("a.md"), a.text("a.md"));
    assert_ne!(copy.store.meta().unwrap().replica, a.store.meta().unwrap().replica);
}

#[test]
fn a_copy_that_has_counted_further_than_its_original_finds_out_as_well() {
    let (mut server, mut a, _) = pair();
    a.create("a.md", "one\ntwo\nthree\n");
    a.sync(&mut server);
    let mut copy = Device { store: a.store.clone(), now_ms: 1_500_000 };
    // It has made a large asset that it took back again before it was sent.
    let meta = copy.store.meta().unwrap();
    let meta = Some(ReplicaMeta { counter: meta.counter + 5, ..meta });
    ReplicaStore::commit(&mut copy.store, &ReplicaBatch { meta, ..ReplicaBatch::default() })
        .unwrap();
    copy.edit("a.md", "one\ntwo\nthree by the copy\n");
    a.edit("a.md", "one by a\ntwo\nthree\n");
    a.sync(&mut server);
    copy.sync(&mut server);
    let merge = copy.store.version(&copy.head("a.md")).unwrap().unwrap();
    // Whoever had the note open goes on from what they see, which is not the merge.
    let known = |id: &&VersionId| copy.store.version(id).unwrap().is_some();
    let base = *merge.parents.iter().find(known).unwrap();
    let text = "one\ntwo\nthree again by the copy\n";
    copy.commit(Change::Edited { base, path: None, found: found(text) }, Some(text));
    copy.sync(&mut server);
    let merged = "one by a\ntwo\nthree again by the copy\n";
    assert_eq!(copy.text("a.md").as_deref(), Some(merged));
    assert_ne!(copy.store.meta().unwrap().replica, a.store.meta().unwrap().replica);
}

#[test]
fn a_clock_an_hour_ahead_is_corrected_before_anybody_sees_its_stamps() {
    let (mut server, mut a, mut b) = pair();
    a.create("a.md", "one\n");
    a.sync(&mut server);
    b.sync(&mut server);
    a.now_ms = 9_000_000_000;
    a.edit("a.md", "one from the future\n");
    b.edit("a.md", "one from the present\n");
    a.sync(&mut server);
    b.sync(&mut server);
    a.sync(&mut server);
    let newest = a.store.version(&a.head("a.md")).unwrap().unwrap().stamp;
    assert!(newest.ms() < 2_000_000, "{newest}");
    assert_eq!(a.text("a.md"), b.text("a.md"));
}

#[test]
fn a_first_sync_of_many_notes_goes_in_pages_and_comes_out_whole() {
    let (mut server, mut a, mut b) = pair();
    let texts: Vec<String> = (0..5_000).map(|i| format!("note number {i}\n")).collect();
    let create = |(i, text): (usize, &'static str)| {
        (Change::Created { path: p(&format!("n{i}.md")), found: found(text) }, Some(text))
    };
    let changes: Vec<_> = texts.leak().iter().map(|text| &**text).enumerate().map(create).collect();
    a.commit_all(&changes);
    assert_eq!(a.sync(&mut server), 2);
    assert_eq!(b.sync(&mut server), 2);
    assert_eq!(b.text("n4999.md").as_deref(), Some("note number 4999\n"));
    assert_eq!(a.store.root().unwrap(), b.store.root().unwrap());
}

#[test]
fn a_note_of_several_huge_heads_makes_a_page_of_its_own() {
    let mut server = Server::new();
    let huge = |mark: &str| {
        let line = |n: u32| format!("{mark} {:08x}\n", n.wrapping_mul(2_654_435_761));
        let mut text: String = (0..1_600_000).map(line).collect();
        text.truncate(16 << 20);
        text
    };
    let mut author = Device::new(1);
    let small = huge("a");
    author.create("a.md", &small[..4_000_000]);
    author.commit(Change::Created { path: p("b.md"), found: found(&small) }, Some(&small));
    // Two births of one note that nobody has merged yet.
    let mut other = Device::new(2);
    let second = huge("b");
    other.create("b.md", &second);
    for device in [&author, &other] {
        let mut staged = Staged::new(&server.store);
        let mut unsent = device.store.unsent().unwrap();
        for id in unsent.drain(..) {
            let version = device.store.version(&id).unwrap().unwrap();
            let live = version.live().unwrap();
            let bytes = device.store.content(&live.content).unwrap().unwrap();
            staged.put_new_content(live.content, bytes, None).unwrap();
            staged.put_version((*version).clone()).unwrap();
        }
        let batch = staged.finish().unwrap();
        server.store.commit_from(&batch, &origin()).unwrap();
    }
    assert_eq!(server.store.heads(&author.note("b.md")).unwrap().len(), 2);
    let mut reader = Device::new(3);
    reader.sync(&mut server);
    for text in [&small[..4_000_000], &small, &second] {
        let hash = ContentHash::of_text(text);
        assert!(reader.store.has_content(&hash).unwrap());
    }
}

#[test]
fn bytes_that_are_not_those_a_version_names_are_refused_by_path() {
    let server = Server::new();
    let mut a = Device::new(1);
    a.create("a.md", "what was written\n");
    let mut round = ask::request(&a.store, &Asking::default()).unwrap().round;
    for record in round.push.groups.iter_mut().flat_map(|group| &mut group.records) {
        let Record::Create { content, .. } = record else { panic!("{record:?}") };
        content.hash = ContentHash::of_text("what was said\n");
    }
    let refused = serve(&server.store, VAULT, round, 1_000_000, Access::Write).unwrap_err();
    let ServeError::Unpack(UnpackError::Mismatch { path }) = refused else { panic!("{refused}") };
    assert_eq!(path, p("a.md"));
}

impl Device {
    /// Notes whose first texts share one pack.
    fn create_packed(&mut self, texts: &[(String, String)]) {
        let mut meta = self.store.meta().unwrap();
        let store = self.store.clone();
        let mut staged = Staged::new(&store);
        let raw = texts.iter().map(|(_, text)| text.as_str()).collect::<String>();
        let frame = zip::zip_tight(raw.as_bytes());
        let pack = staged.put_pack(Pack { raw_bytes: raw.len() as u32, frame });
        let (mut offset, mut unsent) = (0, Vec::new());
        self.now_ms += 1;
        let mut minter = Minter::new(&mut meta, self.now_ms);
        for (path, text) in texts {
            let (bytes, body) = (text.as_bytes().into(), Body::Packed { pack, offset });
            staged.put_content(ContentHash::of_text(text), bytes, body).unwrap();
            offset += text.len() as u32;
            let change = Change::Created { path: p(path), found: found(text) };
            unsent.push(minter.mint(&mut staged, &change).unwrap());
        }
        let repo = staged.finish().unwrap();
        let batch = ReplicaBatch { repo, meta: Some(meta), unsent, ..ReplicaBatch::default() };
        ReplicaStore::commit(&mut self.store, &batch).unwrap();
    }
}

#[test]
fn a_pack_goes_on_as_it_is_stored_while_nearly_all_of_it_is_needed() {
    let (mut server, mut author, mut second) = pair();
    let text = |n: u32| format!("note {n}\n{}\n", format!("{n:04} ").repeat(1_000));
    let texts: Vec<_> = (0..16).map(|n| (format!("{n:02}.md"), text(n))).collect();
    author.create_packed(&texts);
    let last = ContentHash::of_text(&texts[15].1);
    let pack = |store: &MemoryStore| store.pack_of(&last).unwrap().map(|(_, pack)| pack);
    let made = pack(&author.store);
    assert!(made.is_some());
    author.sync(&mut server);
    second.sync(&mut server);
    assert_eq!(pack(&server.store), made, "nobody compressed it again on its way up");
    assert_eq!(pack(&second.store), made, "nor on its way down");
    // One of sixteen is another text by now: the pack goes all the same, with a gap.
    author.edit("05.md", "edited\n");
    author.sync(&mut server);
    let mut third = Device::new(3);
    third.sync(&mut server);
    assert_eq!(pack(&third.store), made);
    assert_eq!(third.text("05.md").as_deref(), Some("edited\n"));
    // Of one that is half stale only what is needed goes.
    for n in 6..14 {
        author.edit(&format!("{n:02}.md"), &format!("edited {n}\n"));
    }
    author.sync(&mut server);
    let mut fourth = Device::new(4);
    fourth.sync(&mut server);
    let gathered = pack(&fourth.store).unwrap();
    assert!(gathered.raw_bytes < made.unwrap().raw_bytes);
    for (path, _) in &texts {
        assert_eq!(fourth.text(path), author.text(path), "{path}");
        assert_eq!(third.text(path).is_some(), author.text(path).is_some());
    }
    assert_eq!(fourth.store.root().unwrap(), server.store.root().unwrap());
}

#[test]
fn many_notes_that_each_lie_in_a_pack_of_their_own_go_in_one_parcel() {
    for bytes in [8, 70_000] {
        let (mut server, mut author, mut second) = pair();
        for n in 0..100 {
            let text = format!("{n:03}\n{}", "x".repeat(bytes));
            author.create_packed(&[(format!("{n}.md"), text)]);
        }
        author.sync(&mut server);
        second.sync(&mut server);
        assert_eq!(second.store.root().unwrap(), author.store.root().unwrap());
    }
}

/// What a server says to two new notes with one text, whose pack is `frame`.
fn refusal(frame: Vec<u8>, sources: [Bytes; 2]) -> String {
    let store = MemoryStore::server();
    let text = "twice\n";
    let record = |(path, source): (&str, Bytes)| Record::Create {
        ticks: 1,
        counter: 1,
        path: p(path),
        generation: 0,
        kind: Kind::Note,
        content: Content { hash: ContentHash::of_text(text), bytes: text.len() as u64, source },
    };
    let records = ["a.md", "b.md"].into_iter().zip(sources).map(record).collect();
    let replica = ReplicaId::from_bytes([1; 16]);
    let groups = vec![Group { replica, ticks: 1 << 20, counter: 0, records }];
    let packs = vec![PackFrame { raw_bytes: text.len() as u32, frame }];
    let round = Round {
        replica,
        common: None,
        cursor: None,
        push: Parcel { packs, groups },
        more: false,
        have: Vec::new(),
        allow_mass_delete: false,
        whole: false,
        policies: Vec::new(),
        conflicts_seen: 0,
        closed: Vec::new(),
        walk: None,
    };
    match serve(&store, VAULT, round, 1_000_000, Access::Write) {
        Ok(served) => format!("{:?}", served.answer),
        Err(error) => error.to_string(),
    }
}

#[test]
fn the_records_of_a_parcel_take_each_byte_of_a_pack_once() {
    let frame = zip::zip(b"twice\n");
    let once = refusal(frame.clone(), [Bytes::Packed(0), Bytes::Elsewhere]);
    assert!(once.starts_with("Done"), "{once}");
    let twice = refusal(frame.clone(), [Bytes::Packed(0), Bytes::PackedAt(0, 0)]);
    assert!(twice.contains("take a pack's bytes once"), "{twice}");
    let outside = refusal(frame, [Bytes::PackedAt(0, u32::MAX), Bytes::Elsewhere]);
    assert!(outside.contains("a pack holds its records"), "{outside}");
}

#[test]
fn a_frame_much_longer_than_its_content_is_not_kept_for_others() {
    let mut frame = zip::zip(b"twice\n");
    // Another frame, of nothing, behind it, again and again.
    let empty = zip::zip(b"");
    for _ in 0..100 {
        frame.extend_from_slice(&[0x50, 0x2a, 0x4d, 0x18, 8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
    }
    frame.extend_from_slice(&empty);
    let answer = refusal(frame, [Bytes::Packed(0), Bytes::Elsewhere]);
    assert!(!answer.starts_with("Done"), "{answer}");
}
