//! Single stories, each about one rule.

use crucible_live::frames::{BatchId, CrdtType, Message, Status};
use crucible_live::limits::{
    DISBELIEF_MS, FRAMES_PER_S, IDLE_MS, LAG_MS, LEFT_MS, OUTBOX_BYTES_MAX, QUIET_MS, RETRY_MS,
};
use crucible_live::room::{Closing, Content, Event, Role};
use loro::awareness::EphemeralStore;
use loro::{ExportMode, LoroDoc};

use crate::world::{ROOM, World};

const NOTE: &str = "one\ntwo\n";

/// A world in which nothing happens by itself, with these pages joined.
fn joined(text: &str, pages: &[usize]) -> World {
    let mut world = World::new(1, text);
    world.calm();
    for at in pages {
        world.connect(*at);
    }
    world.rest();
    world
}

fn update(updates: Vec<Vec<u8>>) -> Message {
    let (crdt, room_id) = (CrdtType::Loro, ROOM.to_owned());
    Message::DocUpdate { crdt, room_id, updates, batch_id: BatchId([9; 8]) }
}

/// The statuses of Acks that a page gets for what it says.
fn answer(world: &mut World, at: usize, message: &Message) -> Vec<Status> {
    let id = world.id_of(at);
    world.say(id, message);
    world.pass();
    while world.work() {}
    let heard = world.frames_for(at);
    let status = |message: &Message| match message {
        Message::Ack { status, .. } => Some(*status),
        _ => None,
    };
    heard.iter().filter_map(status).collect()
}

#[test]
fn what_one_types_the_other_sees_and_the_file_has_after_a_pause() {
    let mut world = joined(NOTE, &[0, 1]);
    let word = world.type_something(0);
    world.flush(0);
    world.rest();
    assert!(world.pages[1].text().contains(&word));
    assert_eq!(world.layer1.head, 0, "nobody has paused yet");
    world.wait(QUIET_MS);
    assert!(world.layer1.head().content.text().unwrap().contains(&word));
    assert_eq!(world.layer1.saves, [("page 0".to_owned(), Vec::new())]);
}

#[test]
fn what_is_typed_without_a_pause_is_in_the_file_within_two_seconds() {
    let mut world = joined(NOTE, &[0]);
    let mut words = Vec::new();
    for _ in 0..40 {
        words.push(world.type_something(0));
        world.flush(0);
        world.wait(QUIET_MS / 5);
        let file = world.layer1.head().content.text().unwrap().to_owned();
        let old = words.len().saturating_sub(2_000 / (QUIET_MS as usize / 5));
        for word in &words[..old] {
            assert!(file.contains(word), "{word} of {words:?}");
        }
    }
    assert!(world.layer1.saves.len() < 10, "{} versions in 8 s", world.layer1.saves.len());
}

#[test]
fn a_checkpoint_is_by_the_last_editor_and_names_the_others() {
    let mut world = joined(NOTE, &[0, 1, 2]);
    for at in [0, 2, 1, 2] {
        world.type_something(at);
        world.flush(at);
        world.rest();
    }
    world.wait(QUIET_MS);
    let others = vec!["page 0".to_owned(), "page 1".to_owned()];
    assert_eq!(world.layer1.saves, [("page 2".to_owned(), others)]);
}

#[test]
fn line_ends_and_byte_order_marks_stay_in_the_file_and_out_of_the_session() {
    let mut world = joined("\u{feff}one\r\ntwo\r\n", &[0]);
    assert_eq!(world.pages[0].text(), NOTE);
    world.type_something(0);
    world.flush(0);
    world.wait(QUIET_MS);
    let file = world.layer1.head().content.text().unwrap().to_owned();
    assert!(file.starts_with('\u{feff}') && file.matches("\r\n").count() == 2, "{file:?}");
    assert_eq!(file.matches('\n').count(), 2);
}

#[test]
fn who_may_only_read_sees_and_is_refused_and_may_write_once_allowed() {
    let mut world = World::new(1, NOTE);
    world.calm();
    let reader = world.page(7, Role::Read);
    world.connect(0);
    world.connect(reader);
    world.rest();
    let word = world.type_something(0);
    world.flush(0);
    world.rest();
    assert!(world.pages[reader].text().contains(&word));
    let edit = world.pages[reader].unsent("x");
    assert_eq!(answer(&mut world, reader, &update(vec![edit.clone()])), [Status::PermissionDenied]);
    let id = world.id_of(reader);
    world.event(Event::Role(id, Role::Write));
    assert_eq!(answer(&mut world, reader, &update(vec![edit])), [Status::Ok]);
}

#[test]
fn hostile_updates_get_a_status_and_the_others_go_on() {
    let mut world = joined(NOTE, &[0, 1]);
    let stray = LoroDoc::new();
    stray.set_peer_id(55).unwrap();
    stray.get_map("map").insert("key", 1).unwrap();
    stray.commit();
    let stray = stray.export(ExportMode::all_updates()).unwrap();
    let seed = LoroDoc::new();
    seed.set_peer_id(u64::MAX - 1).unwrap();
    seed.get_text("text").insert(0, "again").unwrap();
    seed.commit();
    let seed = seed.export(ExportMode::all_updates()).unwrap();
    for (bytes, status) in [
        (b"nothing".to_vec(), Status::InvalidUpdate),
        (seed, Status::PermissionDenied),
        (vec![0; 2], Status::InvalidUpdate),
    ] {
        assert_eq!(answer(&mut world, 0, &update(vec![bytes])), [status]);
    }
    assert!(world.closed.is_empty());
    // This one was in before it could be refused: taking it out is work, and who does so goes.
    answer(&mut world, 0, &update(vec![stray]));
    assert_eq!(world.closed, [Closing::Malformed]);
    world.connect(0);
    world.rest();
    assert_eq!(world.closed, [Closing::Malformed, Closing::Fast], "not back at once");
    let word = world.type_something(1);
    world.flush(1);
    world.wait(2 * QUIET_MS);
    assert_eq!(world.layer1.head().content.text().unwrap().matches(&word).count(), 1);
}

#[test]
fn nobody_writes_in_the_name_of_another_connection() {
    let mut world = joined(NOTE, &[0, 1]);
    world.type_something(0);
    world.flush(0);
    world.rest();
    let theirs = world.pages[0].unsent("forged");
    assert_eq!(answer(&mut world, 1, &update(vec![theirs])), [Status::PermissionDenied]);
}

#[test]
fn nobody_writes_in_a_name_that_another_connection_has_only_shown() {
    let mut world = joined(NOTE, &[0, 1]);
    let peer = world.pages[0].doc.peer_id();
    let caret = EphemeralStore::new(30_000);
    caret.set(&peer.to_string(), true);
    let (crdt, room_id) = (CrdtType::LoroEphemeralStore, ROOM.to_owned());
    let updates = vec![caret.encode_all()];
    let said = Message::DocUpdate { crdt, room_id, updates, batch_id: BatchId([3; 8]) };
    let id = world.id_of(0);
    world.say(id, &said);
    let forged = LoroDoc::new();
    forged.set_peer_id(peer).unwrap();
    forged.get_text("text").insert(0, "forged").unwrap();
    forged.commit();
    let forged = forged.export(ExportMode::all_updates()).unwrap();
    assert_eq!(answer(&mut world, 1, &update(vec![forged])), [Status::PermissionDenied]);
    let own = world.pages[0].unsent("own ");
    assert_eq!(answer(&mut world, 0, &update(vec![own])), [Status::Ok]);
}

#[test]
fn bytes_that_are_no_frame_end_their_connection_only() {
    let mut world = joined(NOTE, &[0, 1]);
    let id = world.id_of(0);
    world.event(Event::Frame(id, vec![0xff; 40]));
    assert_eq!(world.closed, [Closing::Malformed]);
    let word = world.type_something(1);
    world.flush(1);
    world.wait(2 * QUIET_MS);
    assert!(world.layer1.head().content.text().unwrap().contains(&word));
}

#[test]
fn who_sends_too_much_is_sent_away() {
    let mut world = joined(NOTE, &[0]);
    let id = world.id_of(0);
    let leave = Message::Leave { crdt: CrdtType::LoroEphemeralStore, room_id: ROOM.to_owned() };
    for _ in 0..=2 * FRAMES_PER_S {
        world.say(id, &leave);
    }
    assert_eq!(world.closed, [Closing::Fast]);
}

#[test]
fn who_takes_nothing_is_sent_away_and_the_room_keeps_no_more_than_its_bound() {
    let mut world = joined(NOTE, &[0, 1]);
    world.deaf.insert(1);
    let chapter = "x".repeat(200 << 10);
    let mut waiting = 0;
    for _ in 0..16 {
        world.wait(300);
        let text = world.pages[0].doc.get_text("text");
        text.insert(0, &chapter).unwrap();
        world.pages[0].doc.commit();
        world.flush(0);
        world.rest();
        waiting = waiting.max(world.waiting_for(1));
    }
    assert!(waiting > OUTBOX_BYTES_MAX / 2, "{waiting}");
    assert!(waiting < OUTBOX_BYTES_MAX + (1 << 20), "{waiting}");
    world.now += LAG_MS + 1;
    world.event(Event::Tick);
    assert_eq!(world.closed, [Closing::Slow]);
}

#[test]
fn a_stale_copy_from_outside_deletes_nothing_typed_since() {
    let mut world = joined(NOTE, &[0]);
    let word = world.type_something(0);
    world.flush(0);
    world.rest();
    world.outside(0, Some("one\ntwo\nthree\n"));
    world.rest();
    let text = world.pages[0].text();
    assert!(text.contains(&word) && text.contains("three"), "{text:?}");
    world.wait(QUIET_MS);
    assert_eq!(world.layer1.head().content.text().unwrap(), text);
}

#[test]
fn an_emptied_file_is_believed_only_after_it_stays_so() {
    let mut world = joined(NOTE, &[0]);
    world.outside(0, Some(""));
    world.rest();
    assert_eq!(world.pages[0].text(), NOTE);
    let emptied = world.layer1.head;
    world.outside(emptied, Some("one\ntwo\nthree\n"));
    world.rest();
    assert_eq!(world.pages[0].text(), "one\ntwo\nthree\n");
    let filled = world.layer1.head;
    world.outside(filled, Some(""));
    world.wait(DISBELIEF_MS);
    assert_eq!(world.pages[0].text(), "");
}

#[test]
fn a_deleted_note_ends_the_session() {
    let mut world = joined(NOTE, &[0]);
    world.outside(0, None);
    world.wait(DISBELIEF_MS);
    assert!(world.room.is_none() && world.stored.is_none());
    assert_eq!(world.closed, [Closing::Over]);
    assert_eq!(world.layer1.head().content, Content::Deleted);
}

#[test]
fn a_deleted_note_comes_back_when_somebody_typed() {
    let mut world = joined(NOTE, &[0]);
    let word = world.type_something(0);
    world.flush(0);
    world.rest();
    world.outside(0, None);
    world.wait(DISBELIEF_MS + QUIET_MS);
    assert!(world.layer1.head().content.text().unwrap().contains(&word));
    assert!(world.room.is_some());
}

#[test]
fn it_ends_when_all_have_left_and_not_before_everything_is_stored() {
    let mut world = joined(NOTE, &[0]);
    let word = world.type_something(0);
    world.flush(0);
    world.rest();
    world.disk_full = true;
    world.cut(0);
    world.wait(LEFT_MS);
    assert!(world.room.is_some() && world.layer1.head == 0);
    world.disk_full = false;
    world.wait(LEFT_MS);
    assert!(world.room.is_none() && world.stored.is_none());
    assert!(world.layer1.head().content.text().unwrap().contains(&word));
}

#[test]
fn it_ends_when_asked_and_when_nobody_edits_for_long() {
    let mut world = joined(NOTE, &[0]);
    let word = world.type_something(0);
    world.flush(0);
    world.event(Event::End);
    world.rest();
    assert!(world.room.is_none());
    assert!(world.layer1.head().content.text().unwrap().contains(&word));
    let mut world = joined(NOTE, &[0]);
    world.wait(IDLE_MS);
    assert!(world.room.is_none());
    assert_eq!(world.closed, [Closing::Over]);
}

#[test]
fn a_full_disk_acknowledges_nothing_and_loses_nothing() {
    let mut world = joined(NOTE, &[0, 1]);
    world.disk_full = true;
    let word = world.type_something(0);
    world.flush(0);
    world.rest();
    assert!(!world.promised.contains(&word) && !world.pages[1].text().contains(&word));
    world.disk_full = false;
    world.settle();
    world.check();
    assert!(world.layer1.head().content.text().unwrap().contains(&word));
}

#[test]
fn after_a_full_disk_the_file_follows_as_soon_as_words_are_taken_again() {
    let mut world = joined(NOTE, &[0]);
    world.type_something(0);
    world.flush(0);
    world.rest();
    world.disk_full = true;
    world.wait(RETRY_MS.1);
    assert_eq!(world.layer1.head, 0, "it was tried many times");
    world.disk_full = false;
    let word = world.type_something(0);
    world.flush(0);
    world.wait(2 * QUIET_MS + RETRY_MS.0);
    assert!(world.layer1.head().content.text().unwrap().contains(&word));
}

#[test]
fn a_checkpoint_that_a_restart_found_is_known_at_the_next_one_too() {
    let mut world = joined(NOTE, &[0]);
    world.layer1_waits = true;
    world.type_something(0);
    world.flush(0);
    world.wait(QUIET_MS);
    world.save_unheard();
    world.crash();
    world.connect(0);
    world.rest();
    // Nothing but the intent of another one is written down, and that comes to nothing.
    world.type_something(0);
    world.flush(0);
    world.wait(QUIET_MS);
    world.lose_save();
    world.crash();
    world.layer1_waits = false;
    world.settle();
    world.check();
}

#[test]
fn a_checkpoint_is_known_again_after_a_crash_though_a_write_failed_meanwhile() {
    let mut world = joined(NOTE, &[0]);
    world.layer1_waits = true;
    world.type_something(0);
    world.flush(0);
    world.rest();
    world.wait(QUIET_MS);
    assert_eq!(world.layer1.saves.len(), 1, "it is under way");
    world.disk_full = true;
    world.type_something(0);
    world.flush(0);
    world.rest();
    world.disk_full = false;
    world.rest();
    world.save_unheard();
    world.crash();
    world.layer1_waits = false;
    world.settle();
    world.check();
}

#[test]
fn what_layer_1_had_is_not_written_over_what_a_checkpoint_became_meanwhile() {
    let mut world = joined(NOTE, &[0]);
    world.layer1_waits = true;
    let word = world.type_something(0);
    world.flush(0);
    world.wait(QUIET_MS);
    world.disk_full = true;
    // It does not hear that it was refused, and sends nothing again.
    world.deaf.insert(0);
    world.type_something(0);
    world.flush(0);
    world.rest();
    world.disk_full = false;
    // Whatever is tried again now is on its way when the checkpoint is done.
    world.now += RETRY_MS.1;
    world.pass();
    while world.answer() {}
    world.save();
    world.deaf.clear();
    world.layer1_waits = false;
    world.rest();
    let head = world.layer1.head();
    world.event(Event::Outside(head));
    world.rest();
    assert_eq!(world.pages[0].text().matches(&word).count(), 1, "{:?}", world.pages[0].text());
    world.settle();
    world.check();
}

/// An update of page `by` that breaks the text once it is looked at, and not before: it stands
/// beyond the end, after what page `of` never wrote, under names that edits of that page have.
fn poison(world: &mut World, of: usize, by: usize) -> Vec<u8> {
    let elsewhere = world.pages[of].doc.fork();
    let text = world.pages[of].doc.get_text("text");
    let end = text.len_unicode();
    elsewhere.set_peer_id(world.pages[of].doc.peer_id()).unwrap();
    elsewhere.get_text("text").insert(end, "1234567890").unwrap();
    elsewhere.commit();
    text.insert(end, "12345").unwrap();
    world.pages[of].doc.commit();
    text.delete(end, 5).unwrap();
    world.pages[of].doc.commit();
    let known = elsewhere.oplog_vv();
    elsewhere.set_peer_id(world.pages[by].doc.peer_id()).unwrap();
    elsewhere.get_text("text").insert(end + 10, "!").unwrap();
    elsewhere.commit();
    elsewhere.export(ExportMode::updates(&known)).unwrap()
}

#[test]
fn who_poisons_the_document_goes_and_the_others_begin_anew_with_all_they_wrote() {
    let mut world = joined(NOTE, &[0, 1, 2]);
    let words: Vec<_> = [0, 1].map(|at| world.type_something(at)).into();
    world.flush(0);
    world.flush(1);
    world.rest();
    words.iter().for_each(|word| assert!(world.promised.contains(word)));
    let bytes = poison(&mut world, 0, 2);
    world.flush(0);
    world.pass();
    while world.work() {}
    // So shortly after the last look nobody looks; and nobody hears of it before somebody does.
    world.deaf.extend([0, 1, 2]);
    let id = world.id_of(2);
    world.say(id, &update(vec![bytes]));
    world.pass();
    while world.work() {}
    let taken = world.stored.as_ref().unwrap().turns.values().flatten();
    assert!(taken.clone().any(|record| record.person == Some(2)), "it was taken and journaled");
    let epoch = world.stored.as_ref().unwrap().epoch.clone();
    world.type_something(0);
    world.flush(0);
    world.pass();
    while world.work() {}
    world.type_something(1);
    world.wait(QUIET_MS);
    assert_eq!(world.closed, [Closing::Broke, Closing::Renewed, Closing::Renewed]);
    assert!(world.stored.is_none(), "what was sent is in Layer 1 and the epoch is over");
    world.deaf.clear();
    world.settle();
    world.check();
    assert_ne!(world.stored.as_ref().unwrap().epoch, epoch);
    let text = world.layer1.head().content.text().unwrap().to_owned();
    assert!(!text.contains('!'), "{text:?}");
    let mut words: Vec<_> = text.split_whitespace().filter(|word| word.starts_with('w')).collect();
    words.sort_unstable();
    assert_eq!(words, ["w1w", "w2w", "w3w", "w4w"]);
}
