//! A parcel: versions and their contents, each said in as few bytes as both sides' common
//! knowledge allows. `sync::pack` makes parcels, `sync::unpack` turns them back into versions.
//!
//! A record is relative to its parent version, named by the first eight bytes of its id (unique
//! on the receiver, or the receiver asks for a whole parcel). Hashes of contents always travel:
//! they are what a receiver verifies before anything is stored.

use crucible_core::hash::ContentHash;
use crucible_core::id::{ReplicaId, VersionId};
use crucible_core::limits::{
    CLOCK_ENTRIES_MAX, KEY_BYTES_MAX, PARENTS_MAX, PATH_BYTES_MAX, STAMPED_KEYS_MAX, TAG_DOTS_MAX,
};
use crucible_core::vault_path::VaultPath;
use crucible_core::version::Kind;
use minicbor::{Decoder, Encoder};

use crate::limits::{
    GROUPS_MAX, MOVED_MAX, NAMES_MAX, PACK_RAW_MAX, PACKS_MAX, RECORDS_MAX, RECORDS_RAW_MAX,
    VERSION_BYTES_MAX,
};
use crate::wire::{
    DecodeError, Sink, Wire, get_array, get_bytes, get_list, get_list_with, put_array, put_bytes,
    put_list, rule,
};
use crate::zip;

/// The first bytes of a version's id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Prefix(pub [u8; 8]);

impl Prefix {
    /// Of a version.
    pub fn of(id: &VersionId) -> Self {
        Self(id.as_bytes()[..8].try_into().expect("an id is longer than its prefix"))
    }
}

/// Where the bytes of a version's content are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Bytes {
    /// The receiver has them, or gets them as a blob.
    Elsewhere,
    /// The next `bytes` bytes of the pack with this number, in the order of records.
    Packed(u32),
    /// `bytes` bytes of the pack with this number, from this one on; the next follow them.
    PackedAt(u32, u32),
    /// A frame against the content of the record's parent.
    Delta(Vec<u8>),
    /// A frame against other content that the receiver has.
    DeltaTo(ContentHash, Vec<u8>),
}

/// The content of a version.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Content {
    /// Of the raw bytes.
    pub hash: ContentHash,
    /// Raw size.
    pub bytes: u64,
    /// Where they are.
    pub source: Bytes,
}

/// One version, or a folder of them. `ticks` and `counter` are relative to the previous record
/// of the group (the first to the group's own), as the author's clock ran.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Record {
    /// The canonical encoding; ticks and counter are in it.
    Full {
        /// See `Version::encode`.
        version: Vec<u8>,
        /// Where its content is; `None` for a tombstone.
        source: Option<Bytes>,
    },
    /// The first version of the note born at `path`.
    Create {
        /// Advance of the stamp.
        ticks: u64,
        /// Advance of the counter.
        counter: u64,
        /// At creation.
        path: VaultPath,
        /// See `NoteId::derive`.
        generation: u32,
        /// Note or asset.
        kind: Kind,
        /// Its bytes.
        content: Content,
    },
    /// New content at the same path.
    Edit {
        /// Advance of the stamp.
        ticks: u64,
        /// Advance of the counter.
        counter: u64,
        /// What was edited.
        parent: Prefix,
        /// Its bytes.
        content: Content,
        /// Frontmatter keys that this version stamps.
        keys: Vec<String>,
        /// Tags that this version dots.
        tags: Vec<String>,
    },
    /// The same content at another path.
    Move {
        /// Advance of the stamp.
        ticks: u64,
        /// Advance of the counter.
        counter: u64,
        /// What was renamed.
        parent: Prefix,
        /// The new path.
        path: VaultPath,
    },
    /// A tombstone.
    Delete {
        /// Advance of the stamp.
        ticks: u64,
        /// Advance of the counter.
        counter: u64,
        /// What was deleted.
        parent: Prefix,
    },
    /// Everything that was live below `from` at the common root, in path order, one tick and one
    /// counter apart, below `to` instead.
    FolderMove {
        /// Advance of the stamp to the first version.
        ticks: u64,
        /// Advance of the counter to the first version.
        counter: u64,
        /// The folder.
        from: VaultPath,
        /// Its new path.
        to: VaultPath,
        /// How many versions this stands for.
        count: u32,
        /// `H(Batch, version ids)`; the receiver derives the versions and compares.
        digest: [u8; 32],
    },
}

/// Records of one author, in the order its clock ran.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Group {
    /// Who; for groups of `Full` records it does not matter and is nobody.
    pub replica: ReplicaId,
    /// Where the stamps begin.
    pub ticks: u64,
    /// Where the counters begin.
    pub counter: u64,
    /// The versions.
    pub records: Vec<Record>,
}

/// A zstd frame of many contents.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PackFrame {
    /// Raw size.
    pub raw_bytes: u32,
    /// See [`zip::zip`].
    pub frame: Vec<u8>,
}

/// Versions and contents on their way.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Parcel {
    /// What `Bytes::Packed` points into.
    pub packs: Vec<PackFrame>,
    /// The versions.
    pub groups: Vec<Group>,
}

impl Parcel {
    /// Whether there is nothing in it.
    pub fn is_empty(&self) -> bool {
        self.groups.is_empty()
    }
}

/// Below this the frame's own overhead eats what compression gains.
const RECORDS_ZIP_MIN: usize = 512;

impl Wire for Parcel {
    fn put(&self, sink: &mut Sink) {
        put_array(sink, 3);
        put_list(sink, &self.packs);
        let mut records = Encoder::new(Vec::new());
        put_list(&mut records, &self.groups);
        let records = records.into_writer();
        let frame = (records.len() >= RECORDS_ZIP_MIN).then(|| zip::zip(&records));
        match frame.filter(|frame| frame.len() < records.len()) {
            Some(frame) => {
                (records.len() as u32).put(sink);
                put_bytes(sink, &frame);
            }
            None => {
                0u32.put(sink);
                put_bytes(sink, &records);
            }
        }
    }

    fn get(d: &mut Decoder<'_>) -> Result<Self, DecodeError> {
        get_array(d, 3)?;
        let packs: Vec<PackFrame> = get_list(d, PACKS_MAX)?;
        let raw: usize = packs.iter().map(|pack| pack.raw_bytes as usize).sum();
        rule(raw <= 2 * PACK_RAW_MAX, "the packs of a parcel are within their bound")?;
        let raw_bytes = u32::get(d)? as usize;
        rule(raw_bytes <= RECORDS_RAW_MAX, "records are within their bound")?;
        let bytes = get_bytes(d, RECORDS_RAW_MAX)?;
        let groups = if raw_bytes == 0 {
            get_groups(bytes)?
        } else {
            let records = zip::unzip(bytes, raw_bytes)
                .map_err(|_| DecodeError::Rule("records decode to their announced size"))?;
            get_groups(&records)?
        };
        Ok(Self { packs, groups })
    }
}

/// What the records of one parcel may still hold. Kept while they are read: a small frame can
/// hold more empty records, or names of one letter, than memory.
struct Budget {
    records: usize,
    names: usize,
    moved: u64,
}

impl Budget {
    fn full() -> Self {
        Self { records: RECORDS_MAX, names: NAMES_MAX, moved: MOVED_MAX }
    }

    fn spend(&mut self, record: &Record) -> Result<(), DecodeError> {
        let (names, moved) = match record {
            Record::Edit { keys, tags, .. } => (keys.len() + tags.len(), 0),
            Record::FolderMove { count, .. } => (0, u64::from(*count)),
            Record::Full { .. }
            | Record::Create { .. }
            | Record::Move { .. }
            | Record::Delete { .. } => (0, 0),
        };
        let records = self.records.checked_sub(1);
        let (names, moved) = (self.names.checked_sub(names), self.moved.checked_sub(moved));
        let (Some(records), Some(names), Some(moved)) = (records, names, moved) else {
            return Err(DecodeError::Rule("the records of a parcel are within their bound"));
        };
        *self = Self { records, names, moved };
        Ok(())
    }
}

fn get_groups(bytes: &[u8]) -> Result<Vec<Group>, DecodeError> {
    let mut d = Decoder::new(bytes);
    let mut budget = Budget::full();
    let groups = get_list_with(&mut d, GROUPS_MAX, |d| get_group(d, &mut budget))?;
    rule(d.position() == bytes.len(), "nothing follows the records")?;
    Ok(groups)
}

fn get_group(d: &mut Decoder<'_>, budget: &mut Budget) -> Result<Group, DecodeError> {
    get_array(d, 4)?;
    let replica = ReplicaId::get(d)?;
    let (ticks, counter) = (u64::get(d)?, u64::get(d)?);
    let records = get_list_with(d, RECORDS_MAX, |d| {
        let record = Record::get(d)?;
        budget.spend(&record)?;
        Ok(record)
    })?;
    Ok(Group { replica, ticks, counter, records })
}

impl Wire for PackFrame {
    fn put(&self, sink: &mut Sink) {
        put_array(sink, 2);
        self.raw_bytes.put(sink);
        put_bytes(sink, &self.frame);
    }
    fn get(d: &mut Decoder<'_>) -> Result<Self, DecodeError> {
        get_array(d, 2)?;
        let raw_bytes = u32::get(d)?;
        rule(raw_bytes as usize <= PACK_RAW_MAX, "a pack is within its bound")?;
        Ok(Self { raw_bytes, frame: get_bytes(d, PACK_RAW_MAX)?.to_vec() })
    }
}

impl Wire for Group {
    fn put(&self, sink: &mut Sink) {
        put_array(sink, 4);
        self.replica.put(sink);
        self.ticks.put(sink);
        self.counter.put(sink);
        put_list(sink, &self.records);
    }
    fn get(d: &mut Decoder<'_>) -> Result<Self, DecodeError> {
        get_group(d, &mut Budget::full())
    }
}

impl Wire for Prefix {
    fn put(&self, sink: &mut Sink) {
        put_bytes(sink, &self.0);
    }
    fn get(d: &mut Decoder<'_>) -> Result<Self, DecodeError> {
        let bytes = d.bytes()?.try_into();
        bytes.map(Self).map_err(|_| DecodeError::Rule("a prefix has eight bytes"))
    }
}

impl Wire for Kind {
    fn put(&self, sink: &mut Sink) {
        (*self == Kind::Asset).put(sink);
    }
    fn get(d: &mut Decoder<'_>) -> Result<Self, DecodeError> {
        Ok(if bool::get(d)? { Self::Asset } else { Self::Note })
    }
}

impl Wire for Bytes {
    fn put(&self, sink: &mut Sink) {
        match self {
            Self::Elsewhere => None::<u32>.put(sink),
            Self::Packed(pack) => pack.put(sink),
            Self::PackedAt(pack, at) => {
                put_array(sink, 2);
                pack.put(sink);
                at.put(sink);
            }
            Self::Delta(frame) => put_bytes(sink, frame),
            Self::DeltaTo(base, frame) => {
                put_array(sink, 2);
                base.put(sink);
                put_bytes(sink, frame);
            }
        }
    }
    fn get(d: &mut Decoder<'_>) -> Result<Self, DecodeError> {
        use minicbor::data::Type;
        Ok(match d.datatype()? {
            Type::Null => {
                d.null()?;
                Self::Elsewhere
            }
            Type::Bytes => Self::Delta(get_bytes(d, PACK_RAW_MAX)?.to_vec()),
            Type::Array => {
                get_array(d, 2)?;
                if d.datatype()? != Type::Bytes {
                    return Ok(Self::PackedAt(pack_number(d)?, u32::get(d)?));
                }
                let base = ContentHash::get(d)?;
                Self::DeltaTo(base, get_bytes(d, PACK_RAW_MAX)?.to_vec())
            }
            _ => Self::Packed(pack_number(d)?),
        })
    }
}

fn pack_number(d: &mut Decoder<'_>) -> Result<u32, DecodeError> {
    let pack = u32::get(d)?;
    rule((pack as usize) < PACKS_MAX, "a pack's number is within its bound")?;
    Ok(pack)
}

impl Wire for Content {
    fn put(&self, sink: &mut Sink) {
        put_array(sink, 3);
        self.hash.put(sink);
        self.bytes.put(sink);
        self.source.put(sink);
    }
    fn get(d: &mut Decoder<'_>) -> Result<Self, DecodeError> {
        get_array(d, 3)?;
        Ok(Self { hash: ContentHash::get(d)?, bytes: u64::get(d)?, source: Bytes::get(d)? })
    }
}

impl Wire for Record {
    fn put(&self, sink: &mut Sink) {
        let head = |sink: &mut Sink, fields, tag: u32| {
            put_array(sink, fields);
            tag.put(sink);
        };
        match self {
            Self::Full { version, source } => {
                head(sink, 3, 0);
                put_bytes(sink, version);
                put_array(sink, usize::from(source.is_some()));
                if let Some(source) = source {
                    source.put(sink);
                }
            }
            Self::Create { ticks, counter, path, generation, kind, content } => {
                head(sink, 7, 1);
                ticks.put(sink);
                counter.put(sink);
                path.put(sink);
                generation.put(sink);
                kind.put(sink);
                content.put(sink);
            }
            Self::Edit { ticks, counter, parent, content, keys, tags } => {
                head(sink, 7, 2);
                ticks.put(sink);
                counter.put(sink);
                parent.put(sink);
                content.put(sink);
                put_list(sink, keys);
                put_list(sink, tags);
            }
            Self::Move { ticks, counter, parent, path } => {
                head(sink, 5, 3);
                ticks.put(sink);
                counter.put(sink);
                parent.put(sink);
                path.put(sink);
            }
            Self::Delete { ticks, counter, parent } => {
                head(sink, 4, 4);
                ticks.put(sink);
                counter.put(sink);
                parent.put(sink);
            }
            Self::FolderMove { ticks, counter, from, to, count, digest } => {
                head(sink, 7, 5);
                ticks.put(sink);
                counter.put(sink);
                from.put(sink);
                to.put(sink);
                count.put(sink);
                put_bytes(sink, digest);
            }
        }
    }

    fn get(d: &mut Decoder<'_>) -> Result<Self, DecodeError> {
        let fields = d.array()?;
        let tag = u32::get(d)?;
        let known = [3, 7, 7, 5, 4, 7].get(tag as usize).copied();
        rule(known.is_some() && fields == known, "a record is of a known form")?;
        if tag == 0 {
            return get_full(d);
        }
        let (ticks, counter) = (u64::get(d)?, u64::get(d)?);
        Ok(match tag {
            1 => Self::Create {
                ticks,
                counter,
                path: VaultPath::get(d)?,
                generation: u32::get(d)?,
                kind: Kind::get(d)?,
                content: Content::get(d)?,
            },
            2 => Self::Edit {
                ticks,
                counter,
                parent: Prefix::get(d)?,
                content: Content::get(d)?,
                keys: get_names(d)?,
                tags: get_names(d)?,
            },
            3 => Self::Move { ticks, counter, parent: Prefix::get(d)?, path: VaultPath::get(d)? },
            4 => Self::Delete { ticks, counter, parent: Prefix::get(d)? },
            _ => Self::FolderMove {
                ticks,
                counter,
                from: VaultPath::get(d)?,
                to: VaultPath::get(d)?,
                count: u32::get(d)?,
                digest: get_bytes(d, 32)?
                    .try_into()
                    .map_err(|_| DecodeError::Rule("a digest has 32 bytes"))?,
            },
        })
    }
}

fn get_full(d: &mut Decoder<'_>) -> Result<Record, DecodeError> {
    let version = get_bytes(d, VERSION_BYTES_MAX)?.to_vec();
    let mut source: Vec<Bytes> = get_list(d, 1)?;
    Ok(Record::Full { version, source: source.pop() })
}

fn get_names(d: &mut Decoder<'_>) -> Result<Vec<String>, DecodeError> {
    let names: Vec<String> = get_list(d, STAMPED_KEYS_MAX)?;
    rule(names.iter().all(|name| name.len() <= KEY_BYTES_MAX), "a key is within its bound")?;
    Ok(names)
}

// Whatever the model allows can travel: heads of CBOR strings take up to 3 bytes, counters 9.
const _: () = {
    const DOT: usize = 1 + 17 + 9;
    const STAMP: usize = 1 + 9 + 17;
    let parents = PARENTS_MAX * 34;
    let clock = CLOCK_ENTRIES_MAX * (17 + 9);
    let keys = STAMPED_KEYS_MAX * (3 + KEY_BYTES_MAX + STAMP);
    let tags = STAMPED_KEYS_MAX * (3 + KEY_BYTES_MAX + 2 + TAG_DOTS_MAX * DOT);
    let fixed = 256 + PATH_BYTES_MAX;
    assert!(parents + clock + keys + tags + fixed <= VERSION_BYTES_MAX);
};
