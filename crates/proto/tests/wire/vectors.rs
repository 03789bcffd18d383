//! The bytes of the protocol, fixed: `vectors/*.hex` and the appendix of docs/protocol.md.
//!
//! `cargo run -p crucible-proto --example vectors` writes both again after an intended change.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use crucible_core::hash::{ContentHash, Domain, keyed};
use crucible_proto::parcel::{Bytes, Parcel, Record};
use crucible_proto::{wire, zip};

use crate::samples::{Sample, derived, history, samples, vector_file};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).to_owned()
}

fn vector(name: &str) -> String {
    let file = root().join("tests/vectors").join(name);
    std::fs::read_to_string(&file).unwrap_or_else(|error| panic!("{}: {error}", file.display()))
}

fn unhex(text: &str) -> Vec<u8> {
    let digits: Vec<u32> = text.chars().filter_map(|c| c.to_digit(16)).collect();
    digits.chunks(2).map(|pair| (pair[0] * 16 + pair[1]) as u8).collect()
}

#[test]
fn every_sample_is_written_as_its_vector_and_the_vector_is_read_as_the_sample() {
    for (name, sample) in samples() {
        let file = vector(&format!("{name}.hex"));
        assert_eq!(vector_file(&sample), file, "{name} is written otherwise");
        assert_eq!(sample.decode_like(&unhex(&file)).unwrap(), sample, "{name} is read otherwise");
    }
    assert_eq!(derived(), vector("derived.txt"));
}

#[test]
fn no_vector_is_without_its_sample() {
    let names: BTreeSet<String> =
        samples().into_iter().map(|(name, _)| format!("{name}.hex")).collect();
    let files = std::fs::read_dir(root().join("tests/vectors")).unwrap();
    for file in files {
        let file = file.unwrap().file_name().into_string().unwrap();
        assert!(names.contains(&file) || file == "derived.txt", "{file}");
    }
}

#[test]
fn the_specification_quotes_every_vector() {
    let spec = std::fs::read_to_string(root().join("../../docs/protocol.md")).unwrap();
    for (name, sample) in samples() {
        let quoted = format!("`{name}`\n\n```\n{}```", vector_file(&sample));
        assert!(spec.contains(&quoted), "docs/protocol.md does not quote {name}");
    }
    assert!(spec.contains(&derived()), "docs/protocol.md does not quote derived.txt");
}

#[test]
fn the_contents_in_the_vectors_are_those_their_hashes_name() {
    let (_, sample) = samples().into_iter().find(|(n, _)| *n == "parcel-create-and-edit").unwrap();
    let Sample::Parcel(Parcel { packs, groups }) = sample else { panic!("it is a parcel") };
    let born = zip::unzip(&packs[0].frame, packs[0].raw_bytes as usize).unwrap();
    let Record::Edit { content, .. } = &groups[0].records[1] else { panic!("it is an edit") };
    let Bytes::Delta(frame) = &content.source else { panic!("it is a delta") };
    let edited = zip::undelta(&born, frame, content.bytes as usize).unwrap();
    assert_eq!(ContentHash::of_text(std::str::from_utf8(&edited).unwrap()), content.hash);
}

#[test]
fn the_records_in_the_vectors_say_the_versions_of_the_history() {
    let history = history();
    let by_name = |name: &str| match samples().into_iter().find(|(n, _)| *n == name) {
        Some((_, Sample::Parcel(parcel))) => parcel,
        _ => panic!("{name} is a parcel"),
    };
    let folder = by_name("parcel-folder-move");
    let Record::FolderMove { digest, .. } = &folder.groups[0].records[0] else { panic!() };
    assert_eq!(*digest, keyed(Domain::Batch, &[history.moved.id().as_bytes()]));
    let group = &by_name("parcel-create-and-edit").groups[0];
    let Record::Edit { ticks, counter, .. } = &group.records[1] else { panic!() };
    assert_eq!(group.ticks + ticks, history.edited.stamp.ticks());
    assert_eq!(group.counter + counter, history.edited.clock.get(&group.replica));
    for version in [
        &history.born,
        &history.edited,
        &history.other,
        &history.merged,
        &history.moved,
        &history.deleted,
    ] {
        version.check().unwrap();
    }
}

#[test]
fn zipped_records_are_read_whatever_compressor_made_them() {
    // One raw block instead of what our own compressor would write.
    let (_, sample) = samples().into_iter().find(|(n, _)| *n == "parcel-full").unwrap();
    let Sample::Parcel(parcel) = sample else { panic!("it is a parcel") };
    let mut records = minicbor::Encoder::new(Vec::new());
    wire::put_list(&mut records, &parcel.groups);
    let records = records.into_writer();
    let size = ((records.len() as u32) << 3 | 1).to_le_bytes();
    let frame = [&[0x00, 0x08][..], &size[..3], &records].concat();
    let mut body = minicbor::Encoder::new(Vec::new());
    wire::put_array(&mut body, 3);
    wire::put_array(&mut body, 0);
    wire::Wire::put(&(records.len() as u32), &mut body);
    wire::put_bytes(&mut body, &frame);
    assert_eq!(wire::decode::<Parcel>(&body.into_writer()).unwrap(), parcel);
}
