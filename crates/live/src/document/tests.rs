//! The document against clients that are honest, late, and hostile.

use loro::{ExportMode, LoroDoc};
use proptest::prelude::*;

use super::{
    CONTAINER, DocVersion, Document, EDIT_STEPS_MAX, HOST_PEERS, Imported, Look, Peer, Refusal,
    Replaced, replaced,
};
use crate::limits::{DOCUMENT_BYTES_MAX, IMPORTS_MAX};

/// A client: what a browser has.
struct Client {
    doc: LoroDoc,
}

impl Client {
    fn of(host: &mut Document, peer: Peer) -> Self {
        let doc = LoroDoc::new();
        doc.set_peer_id(peer).unwrap();
        let client = Self { doc };
        client.pull(host);
        client
    }

    fn version(&self) -> DocVersion {
        DocVersion::of(&self.doc.oplog_vv())
    }

    fn pull(&self, host: &mut Document) {
        self.doc.import(&host.updates_since(&self.version()).unwrap()).unwrap();
    }

    fn text(&self) -> String {
        self.doc.get_text(CONTAINER).to_string()
    }

    /// Writes, and returns the update that says so.
    fn write(&self, edit: impl FnOnce(&LoroDoc)) -> Vec<u8> {
        let before = self.doc.oplog_vv();
        edit(&self.doc);
        self.doc.commit();
        self.doc.export(ExportMode::updates(&before)).unwrap()
    }

    fn insert(&self, at: usize, text: &str) -> Vec<u8> {
        self.write(|doc| doc.get_text(CONTAINER).insert(at, text).unwrap())
    }
}

impl Document {
    /// What a quiet room does: import, and look at once.
    fn hear(&mut self, update: &[u8], is_senders: fn(Peer) -> bool) -> Result<Imported, Refusal> {
        self.import(1, update, is_senders, Look::Now)
    }
}

fn anybody(_: Peer) -> bool {
    true
}

#[test]
fn what_two_write_at_once_stands_in_both_and_here() {
    let mut host = Document::seed("one\ntwo\n");
    let (a, b) = (Client::of(&mut host, 1), Client::of(&mut host, 2));
    let (from_a, from_b) = (a.insert(3, " and a half"), b.insert(8, "three\n"));
    assert_eq!(host.hear(&from_b, anybody).unwrap().peers, [2].into());
    assert_eq!(host.hear(&from_a, anybody).unwrap().peers, [1].into());
    a.pull(&mut host);
    b.pull(&mut host);
    assert_eq!(host.text(), "one and a half\ntwo\nthree\n");
    assert_eq!((a.text(), b.text()), (host.text(), host.text()));
}

#[test]
fn an_update_taken_twice_changes_nothing() {
    let mut host = Document::seed("one");
    let update = Client::of(&mut host, 1).insert(3, " two");
    host.hear(&update, anybody).unwrap();
    let version = host.version();
    assert!(host.hear(&update, |_| false).unwrap().peers.is_empty());
    assert_eq!((host.text().as_str(), host.version()), ("one two", version));
}

#[test]
fn it_opens_again_as_it_was() {
    let mut host = Document::seed("one");
    let client = Client::of(&mut host, 1);
    host.hear(&client.insert(3, " two"), anybody).unwrap();
    let mut again = Document::open(&host.snapshot().unwrap()).unwrap();
    assert_eq!((again.text(), again.version()), (host.text(), host.version()));
    again.hear(&client.insert(7, " three"), anybody).unwrap();
    assert_eq!(again.text(), "one two three");
    assert!(Document::open(b"something else").is_err());
}

#[test]
fn a_journal_brings_back_what_came_after_the_snapshot() {
    let mut host = Document::seed("one");
    let snapshot = host.snapshot().unwrap();
    let client = Client::of(&mut host, 1);
    let updates = [client.insert(3, " two"), client.insert(7, " three")];
    let mut again = Document::open(&snapshot).unwrap();
    assert!(again.replay(7, &updates[1]).is_err(), "the second alone leaves a gap");
    for update in &updates {
        again.replay(7, update).unwrap();
    }
    assert_eq!(again.text(), "one two three");
}

#[test]
fn a_stale_copy_deletes_nothing_that_came_after_it() {
    let mut host = Document::seed("one\ntwo\n");
    let (flushed, client) = (host.version(), Client::of(&mut host, 1));
    host.hear(&client.insert(8, "typed since\n"), anybody).unwrap();
    let (update, at) = host.edit_at(&flushed, "ONE\ntwo\n").unwrap();
    assert_eq!(host.text(), "ONE\ntwo\ntyped since\n");
    client.doc.import(&update).unwrap();
    assert_eq!(client.text(), host.text());

    // And the next one starts where that one ended.
    host.edit_at(&at, "ONE\nTWO\n").unwrap();
    assert_eq!(host.text(), "ONE\nTWO\ntyped since\n");
}

#[test]
fn an_emptied_copy_leaves_what_was_typed_since() {
    let mut host = Document::seed("one\n");
    let (flushed, client) = (host.version(), Client::of(&mut host, 1));
    host.hear(&client.insert(4, "two\n"), anybody).unwrap();
    host.edit_at(&flushed, "").unwrap();
    assert_eq!(host.text(), "two\n");
}

#[test]
fn what_others_type_is_never_put_inside_a_word_from_outside() {
    let mut host = Document::seed("line\nw6w o14o\nsecond line\no20o\n");
    let (flushed, client) = (host.version(), Client::of(&mut host, 1));
    host.hear(&client.insert(9, "typed "), anybody).unwrap();
    host.edit_at(&flushed, "line\no36o\no14o\no37o\nsecond line\no20o\n").unwrap();
    for word in ["typed", "o36o", "o14o", "o37o"] {
        let text = host.text();
        assert_eq!(text.split_whitespace().filter(|w| *w == word).count(), 1, "{word}: {text:?}");
    }
}

#[test]
fn one_changed_line_of_a_long_text_is_a_short_update() {
    let lines = |changed: &str| -> String {
        (0..10_000).map(|n| if n == 5_000 { changed.into() } else { format!("{n}\n") }).collect()
    };
    let mut host = Document::seed(&lines("5000\n"));
    let flushed = host.version();
    let (update, _) = host.edit_at(&flushed, &lines("changed\n")).unwrap();
    assert_eq!(host.text(), lines("changed\n"));
    assert!(update.len() < 1_000, "{} bytes for one line", update.len());
}

#[test]
fn a_long_text_written_anew_is_replaced_in_few_pieces() {
    let text = |word: &str| -> String {
        (0..60_000).map(|n| format!("{n} {word}{}", if n % 8 == 0 { "\n" } else { " " })).collect()
    };
    let (before, after) = (text("old"), text("new"));
    let pieces = replaced(&before, &after);
    assert!(pieces.len() * before.len() <= EDIT_STEPS_MAX, "{} pieces", pieces.len());
    let (mut made, mut read) = (String::new(), 0);
    for Replaced { gone, new } in pieces {
        made = made + &before[read..gone.start] + &after[new];
        read = gone.end;
    }
    assert_eq!(made + &before[read..], after);
}

#[test]
fn a_version_from_elsewhere_is_not_edited_at() {
    let mut host = Document::seed("one");
    let mut other = Document::seed("one");
    let client = Client::of(&mut other, 1);
    other.hear(&client.insert(0, "x"), anybody).unwrap();
    assert!(host.edit_at(&other.version(), "two").is_err());
    assert_eq!(host.text(), "one");
}

#[test]
fn the_hosts_peers_are_the_hosts() {
    let mut host = Document::seed("one");
    for peer in [HOST_PEERS.start, HOST_PEERS.start + 1, HOST_PEERS.end - 1] {
        let update = Client::of(&mut host, peer).insert(3, "!");
        assert_eq!(host.hear(&update, anybody), Err(Refusal::ForeignPeer));
    }
    assert_eq!(host.text(), "one");
}

#[test]
fn nobody_writes_in_the_name_of_another() {
    let mut host = Document::seed("one");
    let update = Client::of(&mut host, 1).insert(3, "!");
    assert_eq!(host.hear(&update, |peer| peer == 2), Err(Refusal::ForeignPeer));
    assert_eq!(host.text(), "one");
    host.hear(&update, |peer| peer == 1).unwrap();
    assert_eq!(host.text(), "one!");
}

#[test]
fn an_edit_of_another_container_is_undone_and_the_rest_goes_on() {
    let mut host = Document::seed("one");
    let honest = Client::of(&mut host, 1);
    host.hear(&honest.insert(3, " two"), anybody).unwrap();
    let hostile = Client::of(&mut host, 2);
    let stray = hostile.write(|doc| doc.get_map("other").insert("k", 1).unwrap());
    assert_eq!(host.hear(&stray, anybody), Err(Refusal::ForeignContainer));
    let mixed = Client::of(&mut host, 3).write(|doc| {
        doc.get_text(CONTAINER).insert(0, "x").unwrap();
        doc.get_list("more").insert(0, "y").unwrap();
    });
    assert_eq!(host.hear(&mixed, anybody), Err(Refusal::ForeignContainer));
    assert_eq!(host.text(), "one two");
    host.hear(&honest.insert(7, " three"), anybody).unwrap();
    assert_eq!(host.text(), "one two three");
    honest.pull(&mut host);
    assert_eq!(honest.text(), host.text());
}

#[test]
fn an_update_that_comes_too_early_is_refused_until_the_other_is_here() {
    let mut host = Document::seed("one");
    let client = Client::of(&mut host, 1);
    let (first, second) = (client.insert(3, "2"), client.insert(4, "3"));
    assert_eq!(host.hear(&second, anybody), Err(Refusal::Gap));
    host.hear(&first, anybody).unwrap();
    host.hear(&second, anybody).unwrap();
    assert_eq!(host.text(), "one23");

    // The same when it is another peer's edit that is missing.
    let (a, b) = (Client::of(&mut host, 2), Client::of(&mut host, 3));
    let from_a = a.insert(0, "a");
    b.doc.import(&from_a).unwrap();
    let from_b = b.insert(1, "b");
    assert_eq!(host.hear(&from_b, anybody), Err(Refusal::Gap));
    host.hear(&from_a, anybody).unwrap();
    host.hear(&from_b, anybody).unwrap();
    assert_eq!(host.text(), "abone23");
}

/// An edit by peer 2 at a place that is not in the text, and peer 1, who made it so: the same
/// edits by their names with other text, so that what peer 2 saw was longer.
fn beyond_the_end(host: &mut Document) -> (Client, Vec<u8>) {
    let mut elsewhere = Document::seed("one");
    let (here, there) = (Client::of(host, 1), Client::of(&mut elsewhere, 1));
    host.hear(&here.insert(3, "12345"), anybody).unwrap();
    let emptied = here.write(|doc| doc.get_text(CONTAINER).delete(3, 5).unwrap());
    host.hear(&emptied, anybody).unwrap();
    elsewhere.hear(&there.insert(3, "1234567890"), anybody).unwrap();
    (here, Client::of(&mut elsewhere, 2).insert(13, "!"))
}

#[test]
fn what_a_late_look_finds_is_taken_out_again_and_says_who_brought_it() {
    let mut host = Document::seed("one");
    let (here, update) = beyond_the_end(&mut host);
    host.import(5, &here.insert(3, " two"), anybody, Look::Later).unwrap();
    host.import(6, &update, anybody, Look::Later).unwrap();
    host.import(5, &here.insert(7, " three"), anybody, Look::Later).unwrap();
    assert!(host.poisoners().is_empty());
    assert_eq!(host.text(), "one two three");
    assert_eq!(host.poisoners(), [6].into());
    assert!(host.poisoners().is_empty());
    host.hear(&here.insert(0, "zero "), anybody).unwrap();
    assert_eq!(host.text(), "zero one two three");
}

#[test]
fn who_is_looked_at_does_not_answer_for_those_before() {
    let mut host = Document::seed("one");
    let (here, update) = beyond_the_end(&mut host);
    host.import(6, &update, anybody, Look::Later).unwrap();
    host.import(5, &here.insert(3, " two"), anybody, Look::Now).unwrap();
    assert_eq!((host.poisoners(), host.text().as_str()), ([6].into(), "one two"));
}

#[test]
fn an_edit_beyond_the_end_is_refused_before_anybody_hears_of_it() {
    let mut host = Document::seed("one");
    let (here, update) = beyond_the_end(&mut host);
    assert!(host.hear(&update, anybody).is_err());
    assert_eq!(host.text(), "one");
    host.hear(&here.insert(3, " two"), anybody).unwrap();
    assert_eq!(host.text(), "one two");
}

#[test]
fn snapshots_and_other_bytes_are_refused() {
    let mut host = Document::seed("one");
    let client = Client::of(&mut host, 1);
    client.insert(0, "x");
    let snapshot = client.doc.export(ExportMode::Snapshot).unwrap();
    assert_eq!(host.hear(&snapshot, anybody), Err(Refusal::NotAnUpdate));
    assert_eq!(host.hear(b"", anybody), Err(Refusal::Malformed));
    assert_eq!(host.hear(&[0; 4_000], anybody), Err(Refusal::Malformed));
    assert_eq!(host.hear(&vec![0; 2 << 20], anybody), Err(Refusal::TooLarge));
    assert_eq!(host.text(), "one");
    assert!(DocVersion::decode(&[0xff; 9]).is_none());
}

#[test]
fn a_note_does_not_grow_beyond_its_bound() {
    let mut host = Document::seed(&"x".repeat(DOCUMENT_BYTES_MAX - 10));
    let client = Client::of(&mut host, 1);
    host.hear(&client.insert(0, "123456789"), anybody).unwrap();
    let update = client.insert(0, "12");
    assert_eq!(host.hear(&update, anybody), Err(Refusal::TooLong));
    assert_eq!(host.text().len(), DOCUMENT_BYTES_MAX - 1);
}

#[test]
fn after_many_edits_it_is_loaded_afresh_and_loses_none() {
    let mut host = Document::seed("");
    let client = Client::of(&mut host, 1);
    for n in 0..IMPORTS_MAX {
        host.hear(&client.insert(n, "x"), anybody).unwrap();
    }
    assert!(host.log.updates.is_empty());
    host.hear(&client.insert(0, "y"), anybody).unwrap();
    assert_eq!(host.text(), client.text());
}

proptest! {
    /// Whatever arrives broken, the document answers, and honest edits still meet. Nearly all of it
    /// fails its checksum; what has a right one may end a process, and is tried on one, in
    /// `crates/cli/tests/outside/mutants.rs`.
    #[test]
    fn mutated_updates_neither_stop_nor_change_it(
        flips in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8),
        cut in any::<prop::sample::Index>(),
    ) {
        let mut host = Document::seed("one two three\n");
        let honest = Client::of(&mut host, 1);
        let mut update = Client::of(&mut host, 2).insert(4, "or more ");
        for (at, byte) in flips {
            let at = at.index(update.len());
            update[at] = byte;
        }
        update.truncate(cut.index(update.len()) + 1);
        let before = host.text();
        if host.hear(&update, anybody).is_err() {
            prop_assert_eq!(host.text(), before);
        }
        host.hear(&honest.insert(0, "zero "), anybody).unwrap();
        honest.pull(&mut host);
        prop_assert_eq!(honest.text(), host.text());
    }
}
