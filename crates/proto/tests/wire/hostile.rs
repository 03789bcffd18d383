//! Bytes that mean harm: a typed refusal, bounded work, bounded memory.
//!
//! A list that announces more than its bound is refused at its head; one that announces less than
//! it holds runs out of input; what is refused has never been collected.

use crucible_core::id::ReplicaId;
use crucible_proto::limits::{
    CONFLICTS_MAX, GROUPS_MAX, HAVE_MAX, MISSING_MAX, MOVED_MAX, NAMES_MAX, PACK_RAW_MAX,
    PACKS_MAX, POLICIES_MAX, RECORDS_MAX, RECORDS_RAW_MAX,
};
use crucible_proto::message::{self, Answer, PROTOCOL, PolicyRule, Round};
use crucible_proto::parcel::{Bytes, Content, Group, PackFrame, Parcel, Prefix, Record};
use crucible_proto::wire::{self, DecodeError, Wire};
use crucible_proto::zip;
use minicbor::{Decoder, Encoder};
use proptest::prelude::*;

use crate::arbitrary::{answer, round};
use crate::samples::{Sample, samples};

fn refused<T: std::fmt::Debug>(read: Result<T, DecodeError>) -> &'static str {
    match read {
        Err(DecodeError::Rule(rule)) => rule,
        other => panic!("expected a broken rule, got {other:?}"),
    }
}

/// A parcel of these raw records, zipped, with any announced size.
fn parcel_of(records: &[u8], announced: usize) -> Vec<u8> {
    let mut e = Encoder::new(Vec::new());
    e.array(3).unwrap().array(0).unwrap().u32(announced as u32).unwrap();
    e.bytes(&zip::zip(records)).unwrap();
    e.into_writer()
}

fn zipped(records: &[u8]) -> Vec<u8> {
    parcel_of(records, records.len())
}

/// Raw records: groups of one author with as many copies of an encoded record as said.
fn groups(groups: usize, copies: usize, record: &[u8]) -> Vec<u8> {
    let mut e = Encoder::new(Vec::new());
    e.array(groups as u64).unwrap();
    for _ in 0..groups {
        e.array(4).unwrap().bytes(&[1; 16]).unwrap().u8(0).unwrap().u8(0).unwrap();
        e.array(copies as u64).unwrap();
        for _ in 0..copies {
            e.writer_mut().extend_from_slice(record);
        }
    }
    e.into_writer()
}

fn edit(names: usize) -> Record {
    Record::Edit {
        ticks: 1,
        counter: 1,
        parent: Prefix([0; 8]),
        content: Content {
            hash: crucible_core::hash::ContentHash::from_bytes([0; 32]),
            bytes: 0,
            source: Bytes::Elsewhere,
        },
        keys: vec![String::new(); names],
        tags: Vec::new(),
    }
}

fn folder_move(count: u32) -> Record {
    let path = |p| crucible_core::vault_path::VaultPath::new(p).unwrap();
    let (from, to) = (path("a"), path("b"));
    Record::FolderMove { ticks: 1, counter: 1, from, to, count, digest: [0; 32] }
}

#[test]
fn records_beyond_the_bound_are_refused_while_they_are_read() {
    let empty = wire::encode(&Record::Full { version: Vec::new(), source: None });
    assert_eq!(empty.len(), 4);
    let at_the_bound = groups(2, RECORDS_MAX / 2, &empty);
    assert!(wire::decode::<Parcel>(&zipped(&at_the_bound)).is_ok());
    // Eight million of them would be more than a gigabyte in memory and a few kilobytes here.
    let bomb = groups(256, RECORDS_MAX, &empty);
    let frame = zipped(&bomb);
    assert!(frame.len() < 64 << 10, "{} bytes", frame.len());
    let rule = refused(wire::decode::<Parcel>(&frame));
    assert_eq!(rule, "records are within their bound");
    let bomb = groups(200, RECORDS_MAX, &empty);
    let rule = refused(wire::decode::<Parcel>(&zipped(&bomb)));
    assert_eq!(rule, "the records of a parcel are within their bound");
    let one_more = groups(2, RECORDS_MAX / 2 + 1, &empty);
    let rule = refused(wire::decode::<Parcel>(&zipped(&one_more)));
    assert_eq!(rule, "the records of a parcel are within their bound");
}

#[test]
fn names_of_no_letters_do_not_fill_memory() {
    let record = wire::encode(&edit(1_024));
    let fits = NAMES_MAX / 1_024;
    assert!(wire::decode::<Parcel>(&zipped(&groups(1, fits, &record))).is_ok());
    let rule = refused(wire::decode::<Parcel>(&zipped(&groups(1, fits + 1, &record))));
    assert_eq!(rule, "the records of a parcel are within their bound");
    let rule = refused(wire::decode::<Record>(&wire::encode(&edit(1_025))));
    assert_eq!(rule, "a list is within its bound");
}

#[test]
fn folder_renames_stand_for_a_bounded_number_of_versions() {
    let all = wire::encode(&folder_move(MOVED_MAX as u32));
    assert!(wire::decode::<Parcel>(&zipped(&groups(1, 1, &all))).is_ok());
    let rule = refused(wire::decode::<Parcel>(&zipped(&groups(2, 1, &all))));
    assert_eq!(rule, "the records of a parcel are within their bound");
    let one_more = wire::encode(&folder_move(MOVED_MAX as u32 + 1));
    assert!(wire::decode::<Parcel>(&zipped(&groups(1, 1, &one_more))).is_err());
}

#[test]
fn a_frame_of_records_holds_what_it_announces_and_announces_what_is_allowed() {
    let records = groups(0, 0, &[]);
    assert!(wire::decode::<Parcel>(&zipped(&records)).is_ok());
    for announced in [records.len() + 1, 2_000, RECORDS_RAW_MAX] {
        let rule = refused(wire::decode::<Parcel>(&parcel_of(&records, announced)));
        assert_eq!(rule, "records decode to their announced size");
    }
    for announced in [RECORDS_RAW_MAX + 1, u32::MAX as usize] {
        let rule = refused(wire::decode::<Parcel>(&parcel_of(&records, announced)));
        assert_eq!(rule, "records are within their bound");
    }
    let bomb = vec![0x80; 100 << 20];
    let rule = refused(wire::decode::<Parcel>(&parcel_of(&bomb, 1_000)));
    assert_eq!(rule, "records decode to their announced size");
    let followed = [&records[..], &[0]].concat();
    assert_eq!(refused(wire::decode::<Parcel>(&zipped(&followed))), "nothing follows the records");
}

#[test]
fn what_a_frame_decodes_to_takes_no_more_memory_than_announced() {
    let raw = vec![7; 1 << 20];
    let unzipped = zip::unzip(&zip::zip(&raw), raw.len()).unwrap();
    assert_eq!(unzipped.capacity(), raw.len());
    for announced in [0, 1, raw.len() - 1, raw.len() + 1] {
        let error = zip::unzip(&zip::zip(&raw), announced).unwrap_err();
        assert_eq!(error.expected, announced);
    }
}

#[test]
fn packs_are_bounded_alone_and_together() {
    let parcel = |sizes: &[usize]| {
        let pack = |size: &usize| PackFrame { raw_bytes: *size as u32, frame: vec![0] };
        wire::encode(&Parcel { packs: sizes.iter().map(pack).collect(), groups: Vec::new() })
    };
    assert!(wire::decode::<Parcel>(&parcel(&[PACK_RAW_MAX, PACK_RAW_MAX])).is_ok());
    let rule = refused(wire::decode::<Parcel>(&parcel(&[PACK_RAW_MAX + 1])));
    assert_eq!(rule, "a pack is within its bound");
    let rule = refused(wire::decode::<Parcel>(&parcel(&[PACK_RAW_MAX, PACK_RAW_MAX, 1])));
    assert_eq!(rule, "the packs of a parcel are within their bound");
    let rule = refused(wire::decode::<Parcel>(&parcel(&[0; PACKS_MAX + 1])));
    assert_eq!(rule, "a list is within its bound");
}

/// Reads a list whose head announces `length` items and which then ends.
fn announced<T: Wire + std::fmt::Debug>(length: u64, max: usize) -> Result<Vec<T>, DecodeError> {
    let mut e = Encoder::new(Vec::new());
    e.array(length).unwrap();
    let bytes = e.into_writer();
    wire::get_list(&mut Decoder::new(&bytes), max)
}

#[test]
fn a_list_is_refused_at_its_head_when_it_is_too_long_and_at_its_end_when_it_is_absent() {
    for max in [HAVE_MAX, CONFLICTS_MAX, MISSING_MAX, POLICIES_MAX, GROUPS_MAX, RECORDS_MAX] {
        for length in [max as u64 + 1, u64::from(u32::MAX), u64::MAX] {
            assert_eq!(refused(announced::<Group>(length, max)), "a list is within its bound");
        }
        for length in [1, max as u64] {
            let read = announced::<PolicyRule>(length, max);
            assert!(matches!(read, Err(DecodeError::Malformed(_))), "{read:?}");
        }
    }
}

#[test]
fn lists_of_unknown_length_are_refused() {
    let read = wire::decode::<Parcel>(&[0x9f, 0x80, 0x00, 0x41, 0x80, 0xff]);
    assert_eq!(refused(read), "a structure has its fixed number of fields");
    // Byte and text strings in pieces, where a frame and a path are expected.
    let pieces = [0x83, 0x80, 0x00, 0x5f, 0x41, 0x80, 0xff];
    assert!(matches!(wire::decode::<Parcel>(&pieces), Err(DecodeError::Malformed(_))));
}

#[test]
fn another_protocol_and_no_protocol_are_told_apart() {
    assert_eq!(message::protocol_of(&[]), None);
    assert_eq!(message::protocol_of(&[PROTOCOL + 1, 0]), Some(PROTOCOL + 1));
    for body in [&[][..], &[0], &[PROTOCOL + 1, 0x80], b"GET / HTTP/1.1"] {
        let rule = refused(message::parse::<Round>(body));
        assert_eq!(rule, "a body begins with the protocol version");
    }
    let read = message::parse::<Answer>(&[PROTOCOL]);
    assert!(matches!(read, Err(DecodeError::Malformed(_))), "{read:?}");
}

#[test]
fn unknown_kinds_of_answers_and_records_are_refused_by_name() {
    let rule = refused(message::parse::<Answer>(&[PROTOCOL, 0x82, 0x07, 0xf6]));
    assert_eq!(rule, "an answer is of a known form");
    for record in [&[0x84, 0x06, 0x00, 0x00, 0x00][..], &[0x84, 0x03, 0x00, 0x00, 0x00]] {
        assert_eq!(refused(wire::decode::<Record>(record)), "a record is of a known form");
    }
}

#[test]
fn every_sample_cut_anywhere_is_refused_and_so_is_one_with_a_tail() {
    for (name, sample) in samples() {
        let bytes = sample.encode();
        for end in 0..bytes.len() {
            assert!(sample.decode_like(&bytes[..end]).is_err(), "{name} cut at {end}");
        }
        let longer = [&bytes[..], &[0]].concat();
        assert!(sample.decode_like(&longer).is_err(), "{name} with a tail");
    }
}

proptest! {
    #[test]
    fn every_cut_of_any_round_or_answer_is_refused(
        round in round(), answer in answer(), cut in any::<prop::sample::Index>(),
    ) {
        let body = message::body(&round);
        prop_assert!(message::parse::<Round>(&body[..cut.index(body.len())]).is_err());
        let body = message::body(&answer);
        prop_assert!(message::parse::<Answer>(&body[..cut.index(body.len())]).is_err());
    }

    #[test]
    fn a_damaged_sample_is_refused_or_means_something_that_reads_back(
        which in any::<prop::sample::Index>(),
        damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
    ) {
        let all = samples();
        let (name, sample) = &all[which.index(all.len())];
        let mut bytes = sample.encode();
        for (at, byte) in damage {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        if let Ok(read) = sample.decode_like(&bytes) {
            let again = read.decode_like(&read.encode());
            prop_assert_eq!(again.as_ref(), Ok(&read), "{}", name);
            if let Sample::Version(version) = &read {
                prop_assert_eq!(version.encode(), bytes, "one encoding per version");
            }
        }
    }
}

#[test]
fn a_group_of_nobody_reads_like_any_other() {
    // Groups of whole records say no author; what they hold is checked when it is unpacked.
    let group = Group { replica: ReplicaId::NOBODY, ticks: 0, counter: 0, records: Vec::new() };
    assert_eq!(wire::decode::<Group>(&wire::encode(&group)).unwrap(), group);
}
