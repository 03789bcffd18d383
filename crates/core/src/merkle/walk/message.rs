//! What a walk says over the wire, and its one encoding.
//!
//! Invariant: positions in a message are in strictly rising order, what is shown at a position
//! belongs there, and equal messages have equal bytes. Layout: docs/protocol/merkle.md.

use crate::id::{NoteId, RootHash, Tag};
use crate::limits::{FANOUT, PATH_BYTES_MAX};
use crate::merkle::bytes::{BytesError, Reader, put_count, put_name, rule};
use crate::merkle::node::{
    Entry, EntryOrder, KEY_DIGITS, Key, Node, bitmap, is_bucket, read_children,
};
pub use crate::merkle::view::Area;
use crate::merkle::view::View;
use crate::vault_path::VaultPath;

/// Largest message that is looked at: many times what a side gathers before it sends, because
/// the notes that claim one path are never parted.
pub const MESSAGE_BYTES_MAX: usize = 16 << 20;
/// Most positions in one message: a bound on memory, as a position can be three bytes.
pub const ITEMS_MAX: usize = 1 << 16;

const FORMAT: u8 = 1;
/// The bits of an item's first byte.
const CONTENT: u8 = 0b0011;
const TOMBSTONES: u8 = 0b0100;
const SAME_FOLDER: u8 = 0b1000;

/// Why bytes are no message of a walk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a message of a walk {0}")]
pub struct DecodeWalkError(#[from] BytesError);

/// A place in a tree, whether or not the tree has a node exactly there: a trie, and the first
/// digits of the keys below it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Position {
    /// Which trie.
    pub area: Area,
    /// Digits from the top of the trie, each below 16; at most 64.
    pub digits: Box<[u8]>,
}

/// An entry as a walk shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Summary {
    /// A folder.
    Dir {
        /// Its name.
        name: Box<str>,
        /// Of its top node.
        tag: Tag,
    },
    /// A note that exists.
    Note {
        /// The last component of its path.
        name: Box<str>,
        /// Which note.
        note: NoteId,
        /// Of its leaf.
        tag: Tag,
    },
    /// A tombstone.
    Gone {
        /// Which note.
        note: NoteId,
        /// Of its leaf.
        tag: Tag,
    },
}

/// What one side has at a position.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Content {
    /// Nothing.
    Absent,
    /// Too many entries to list: the tags of the children.
    Branch(Box<[Option<Tag>; FANOUT]>),
    /// All entries.
    Bucket(Vec<Summary>),
    /// Only in answers: in what the entries differ from those that were asked about.
    Edits {
        /// Notes or tombstones that are other, or not there, on the asking side.
        entries: Vec<Summary>,
        /// Notes or tombstones of the asking side that are not here; in rising order.
        lacking: Vec<NoteId>,
    },
}

/// One position and what is there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Item {
    /// Where.
    pub at: Position,
    /// What.
    pub content: Content,
}

/// One request of a walk: what the asking side has where the two are known to differ.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WalkAsk {
    /// The asking side's root.
    pub mine: RootHash,
    /// The root the walk began with on the answering side; `None` in the first request.
    pub theirs: Option<RootHash>,
    /// By position.
    pub items: Vec<Item>,
}

/// One answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum WalkAnswer {
    /// What the answering side has where it differs.
    Contents {
        /// Its root.
        root: RootHash,
        /// How many items of the request, from the first, this answers.
        covered: usize,
        /// By position. No item for what was asked: no difference there.
        items: Vec<Item>,
    },
    /// The root the walk began with is gone.
    Restart {
        /// The root there is now.
        root: RootHash,
    },
}

impl Position {
    /// The top of a trie.
    pub fn top(area: Area) -> Self {
        Self { area, digits: Box::default() }
    }

    /// One digit further down.
    pub fn child(&self, digit: usize) -> Self {
        let mut digits = self.digits.to_vec();
        digits.push(digit as u8);
        Self { area: self.area.clone(), digits: digits.into() }
    }

    /// Digits from the top of the trie.
    pub fn depth(&self) -> usize {
        self.digits.len()
    }
}

impl Summary {
    /// The position in a bucket, as [`Entry::order`].
    pub fn order(&self) -> EntryOrder<'_> {
        match self {
            Self::Dir { name, .. } => (name, 0, None),
            Self::Note { name, note, .. } => (name, 1, Some(note)),
            Self::Gone { note, .. } => ("", 1, Some(note)),
        }
    }

    /// The hash that says whether it is the same on both sides.
    pub fn tag(&self) -> Tag {
        match self {
            Self::Dir { tag, .. } | Self::Note { tag, .. } | Self::Gone { tag, .. } => *tag,
        }
    }

    fn key(&self) -> Key {
        match self {
            Self::Dir { name, .. } | Self::Note { name, .. } => Key::of_name(name),
            Self::Gone { note, .. } => Key::of_tombstone(note),
        }
    }

    fn encoded_len(&self) -> usize {
        match self {
            Self::Dir { name, .. } => 2 + name.len() + Tag::LEN,
            Self::Note { name, .. } => 2 + name.len() + NoteId::LEN + Tag::LEN,
            Self::Gone { .. } => NoteId::LEN + Tag::LEN,
        }
    }
}

impl From<&Entry> for Summary {
    fn from(entry: &Entry) -> Self {
        match entry {
            Entry::Dir { name, top } => Self::Dir { name: name.clone(), tag: top.tag() },
            Entry::Note { name, note, leaf } => {
                Self::Note { name: name.clone(), note: *note, tag: leaf.tag() }
            }
            Entry::Gone { note, leaf } => Self::Gone { note: *note, tag: leaf.tag() },
        }
    }
}

impl From<&View> for Content {
    fn from(view: &View) -> Self {
        let of_entries =
            |entries: &[Entry]| Self::Bucket(entries.iter().map(Summary::from).collect());
        match view {
            View::Absent => Self::Absent,
            View::Part(entries) => of_entries(entries),
            View::Stored(_, node) => match &**node {
                Node::Branch(children) => {
                    Self::Branch(Box::new(children.map(|child| child.map(|hash| hash.tag()))))
                }
                Node::Bucket(entries) => of_entries(entries),
                Node::Root(_) => unreachable!("a view is never of a root"),
            },
        }
    }
}

impl Item {
    /// At least the size of the encoding.
    pub(super) fn encoded_len(&self) -> usize {
        let path = self.at.area.folder().map_or(0, |folder| folder.as_str().len() + 4);
        let content = match &self.content {
            Content::Absent => 0,
            Content::Branch(children) => 2 + Tag::LEN * children.iter().flatten().count(),
            Content::Bucket(entries) => 4 + entries.iter().map(Summary::encoded_len).sum::<usize>(),
            Content::Edits { entries, lacking } => {
                let entries = entries.iter().map(Summary::encoded_len).sum::<usize>();
                8 + entries + NoteId::LEN * lacking.len()
            }
        };
        2 + path + self.at.depth().div_ceil(2) + content
    }

    /// What must hold for an item that came over a wire.
    fn check(&self) -> Result<(), BytesError> {
        let empty: &[Summary] = &[];
        let (entries, whole) = match &self.content {
            Content::Absent => (empty, false),
            Content::Branch(_) => {
                rule(self.at.depth() < KEY_DIGITS, "a branch is above the last digit")?;
                (empty, false)
            }
            Content::Bucket(entries) => {
                rule(!entries.is_empty(), "a bucket has entries")?;
                (entries.as_slice(), true)
            }
            Content::Edits { entries, lacking } => {
                rule(!entries.is_empty() || !lacking.is_empty(), "edits are some")?;
                rule(lacking.is_sorted_by(|a, b| a < b), "notes are sorted and unique")?;
                let leaves = !entries.iter().any(|entry| matches!(entry, Summary::Dir { .. }));
                rule(leaves, "edits are of notes")?;
                (entries.as_slice(), false)
            }
        };
        let sorted = entries.is_sorted_by(|a, b| a.order() < b.order());
        rule(sorted, "entries are sorted and unique")?;
        let keys: Vec<Key> = entries.iter().map(Summary::key).collect();
        let here = keys.iter().all(|key| key.starts_with(&self.at.digits));
        rule(here, "an entry is where its key leads")?;
        rule(!whole || is_bucket(keys.len(), keys), "more entries than the fanout have one key")
    }
}

impl WalkAsk {
    /// The canonical encoding.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = vec![FORMAT];
        out.extend_from_slice(self.mine.as_bytes());
        out.push(u8::from(self.theirs.is_some()));
        out.extend_from_slice(self.theirs.as_ref().map_or(&[][..], |root| root.as_bytes()));
        put_items(&mut out, &self.items);
        out
    }

    /// Reads one canonical encoding that fills `bytes` exactly.
    ///
    /// # Errors
    /// [`DecodeWalkError`] for anything [`Self::encode`] would not have written.
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeWalkError> {
        let mut reader = begin(bytes)?;
        let mine = RootHash::from_bytes(reader.array()?);
        let theirs = match reader.u8()? {
            0 => None,
            1 => Some(RootHash::from_bytes(reader.array()?)),
            _ => return Err(BytesError::Rule("a root is there or not").into()),
        };
        let items = read_items(&mut reader)?;
        let edits = items.iter().any(|item| matches!(item.content, Content::Edits { .. }));
        rule(!edits, "only answers have edits")?;
        let ask = Self { mine, theirs, items };
        rule(ask.encode() == bytes, "the encoding is canonical")?;
        Ok(ask)
    }
}

impl WalkAnswer {
    /// The canonical encoding.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = vec![FORMAT];
        match self {
            Self::Restart { root } => {
                out.push(1);
                out.extend_from_slice(root.as_bytes());
            }
            Self::Contents { root, covered, items } => {
                out.push(0);
                out.extend_from_slice(root.as_bytes());
                put_count(&mut out, *covered);
                put_items(&mut out, items);
            }
        }
        out
    }

    /// Reads one canonical encoding that fills `bytes` exactly.
    ///
    /// # Errors
    /// [`DecodeWalkError`] for anything [`Self::encode`] would not have written.
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeWalkError> {
        let mut reader = begin(bytes)?;
        let kind = reader.u8()?;
        let root = RootHash::from_bytes(reader.array()?);
        let answer = match kind {
            0 => {
                let covered = reader.count()?;
                Self::Contents { root, covered, items: read_items(&mut reader)? }
            }
            1 => Self::Restart { root },
            _ => return Err(BytesError::Rule("an answer is of a known kind").into()),
        };
        rule(answer.encode() == bytes, "the encoding is canonical")?;
        Ok(answer)
    }
}

fn begin(bytes: &[u8]) -> Result<Reader<'_>, BytesError> {
    rule(bytes.len() <= MESSAGE_BYTES_MAX, "a message is of bounded size")?;
    let mut reader = Reader::new(bytes);
    rule(reader.u8()? == FORMAT, "the first byte is the format")?;
    Ok(reader)
}

fn put_items(out: &mut Vec<u8>, items: &[Item]) {
    put_count(out, items.len());
    let mut before: Option<&VaultPath> = None;
    for Item { at, content } in items {
        put_position(out, at, content, before);
        before = at.area.folder();
        match content {
            Content::Absent => {}
            Content::Branch(children) => {
                out.extend_from_slice(&bitmap(children).to_be_bytes());
                for tag in children.iter().flatten() {
                    out.extend_from_slice(tag.as_bytes());
                }
            }
            Content::Bucket(entries) => put_summaries(out, entries),
            Content::Edits { entries, lacking } => {
                put_summaries(out, entries);
                put_count(out, lacking.len());
                for note in lacking {
                    out.extend_from_slice(note.as_bytes());
                }
            }
        }
    }
}

/// The folder is written as what it shares with the one of the item before.
fn put_position(out: &mut Vec<u8>, at: &Position, content: &Content, before: Option<&VaultPath>) {
    let mut first = match content {
        Content::Absent => 0,
        Content::Branch(_) => 1,
        Content::Bucket(_) => 2,
        Content::Edits { .. } => 3,
    };
    if at.area == Area::Tombstones {
        first |= TOMBSTONES;
    }
    if at.area.folder() == before {
        first |= SAME_FOLDER;
    }
    out.push(first);
    if let Some(folder) = at.area.folder().filter(|&folder| Some(folder) != before) {
        let before = before.map_or("", VaultPath::as_str).bytes();
        let shared = folder.as_str().bytes().zip(before).take_while(|(a, b)| a == b).count();
        put_count(out, shared);
        put_count(out, folder.as_str().len() - shared);
        out.extend_from_slice(&folder.as_str().as_bytes()[shared..]);
    }
    out.push(at.depth() as u8);
    for pair in at.digits.chunks(2) {
        out.push(pair[0] << 4 | pair.get(1).copied().unwrap_or(0));
    }
}

fn put_summaries(out: &mut Vec<u8>, entries: &[Summary]) {
    put_count(out, entries.len());
    for entry in entries {
        match entry {
            Summary::Dir { name, .. } => {
                out.push(0);
                put_name(out, name);
            }
            Summary::Note { name, note, .. } => {
                out.push(1);
                put_name(out, name);
                out.extend_from_slice(note.as_bytes());
            }
            Summary::Gone { note, .. } => out.extend_from_slice(note.as_bytes()),
        }
        out.extend_from_slice(entry.tag().as_bytes());
    }
}

fn read_items(reader: &mut Reader<'_>) -> Result<Vec<Item>, BytesError> {
    let count = reader.count_of(2)?;
    rule(count <= ITEMS_MAX, "a message has a bounded number of positions")?;
    let mut items: Vec<Item> = Vec::new();
    let mut before: Option<VaultPath> = None;
    for _ in 0..count {
        let item = read_item(reader, before.as_ref())?;
        item.check()?;
        let sorted = items.last().is_none_or(|last| last.at < item.at);
        rule(sorted, "positions are sorted and unique")?;
        before = item.at.area.folder().cloned();
        items.push(item);
    }
    rule(reader.is_empty(), "nothing follows a message")?;
    Ok(items)
}

fn read_item(reader: &mut Reader<'_>, before: Option<&VaultPath>) -> Result<Item, BytesError> {
    let first = reader.u8()?;
    rule(first & !(CONTENT | TOMBSTONES | SAME_FOLDER) == 0, "an item is of a known kind")?;
    let gone = first & TOMBSTONES != 0;
    let folder = if first & SAME_FOLDER != 0 {
        before.cloned()
    } else if gone {
        None
    } else {
        read_folder(reader, before)?
    };
    rule(!gone || folder.is_none(), "tombstones are in no folder")?;
    let area = if gone { Area::Tombstones } else { Area::Folder(folder) };
    let at = Position { area, digits: read_digits(reader)? };
    let content = match first & CONTENT {
        0 => Content::Absent,
        1 => Content::Branch(read_children(reader, |reader| reader.array().map(Tag::from_bytes))?),
        2 => Content::Bucket(read_summaries(reader, gone)?),
        _ => {
            let entries = read_summaries(reader, gone)?;
            let count = reader.count_of(NoteId::LEN)?;
            let lacking = (0..count).map(|_| reader.array().map(NoteId::from_bytes));
            Content::Edits { entries, lacking: lacking.collect::<Result<_, _>>()? }
        }
    };
    Ok(Item { at, content })
}

fn read_folder(
    reader: &mut Reader<'_>,
    before: Option<&VaultPath>,
) -> Result<Option<VaultPath>, BytesError> {
    let shared = reader.count()?;
    let before = before.map_or("", VaultPath::as_str).as_bytes();
    let shared = before.get(..shared).ok_or(BytesError::Rule("a folder shares what is there"))?;
    let len = reader.count()?;
    rule(shared.len() + len <= PATH_BYTES_MAX, "a folder is a vault path")?;
    let path = [shared, reader.take(len)?].concat();
    let path = std::str::from_utf8(&path).ok().and_then(|path| VaultPath::new(path).ok());
    path.map(Some).ok_or(BytesError::Rule("a folder is a vault path"))
}

fn read_digits(reader: &mut Reader<'_>) -> Result<Box<[u8]>, BytesError> {
    let count = usize::from(reader.u8()?);
    rule(count <= KEY_DIGITS, "a position has at most 64 digits")?;
    let packed = reader.take(count.div_ceil(2))?;
    let digits: Vec<u8> = packed.iter().flat_map(|byte| [byte >> 4, byte & 15]).collect();
    Ok(digits[..count].into())
}

fn read_summaries(reader: &mut Reader<'_>, gone: bool) -> Result<Vec<Summary>, BytesError> {
    let count = reader.count_of(if gone { NoteId::LEN + Tag::LEN } else { 3 + Tag::LEN })?;
    (0..count).map(|_| if gone { read_gone(reader) } else { read_live(reader) }).collect()
}

fn read_gone(reader: &mut Reader<'_>) -> Result<Summary, BytesError> {
    let note = NoteId::from_bytes(reader.array()?);
    Ok(Summary::Gone { note, tag: Tag::from_bytes(reader.array()?) })
}

fn read_live(reader: &mut Reader<'_>) -> Result<Summary, BytesError> {
    let kind = reader.u8()?;
    let name: Box<str> = reader.name()?.into();
    match kind {
        0 => Ok(Summary::Dir { name, tag: Tag::from_bytes(reader.array()?) }),
        1 => {
            let note = NoteId::from_bytes(reader.array()?);
            Ok(Summary::Note { name, note, tag: Tag::from_bytes(reader.array()?) })
        }
        _ => Err(BytesError::Rule("an entry is of a known kind")),
    }
}
