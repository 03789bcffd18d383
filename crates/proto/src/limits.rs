//! Every bound of the wire, each with its why.

/// Content up to this size travels and is kept in packs; larger assets are blobs of their own.
pub const INLINE_BYTES_MAX: u64 = 128 << 10;
/// Raw bytes gathered into one pack: large enough to compress well (1 MiB frames of real notes
/// take 3 % more than 4 MiB ones), small enough that reading one note back is cheap.
pub const PACK_RAW_AIM: usize = 1 << 20;
/// Largest raw pack: one note of the greatest size, and a pack's worth beside it.
pub const PACK_RAW_MAX: usize = (crucible_core::limits::NOTE_BYTES_MAX as usize) + PACK_RAW_AIM;
/// Raw bytes gathered into one request or answer before it is sent as a page.
pub const PAGE_RAW_AIM: usize = 4 << 20;
/// Notes gathered into one page.
pub const PAGE_NOTES_MAX: usize = 4096;
/// Largest body of a round in either direction.
pub const ROUND_BYTES_MAX: usize = 32 << 20;
/// Raw bytes of the records of one parcel.
pub const RECORDS_RAW_MAX: usize = 32 << 20;
/// Records of one parcel: a page, its merges, and ancestors sent after a walk.
pub const RECORDS_MAX: usize = 8 * PAGE_NOTES_MAX;
/// Groups of one parcel: one an author.
pub const GROUPS_MAX: usize = RECORDS_MAX;
/// Frontmatter keys and tags named by the edit records of one parcel, all together. A few bytes
/// on the wire become a few dozen in memory, so their number is bounded apart from their size.
pub const NAMES_MAX: usize = 1 << 20;
/// Versions that the folder renames of one parcel stand for, all together: a record of a hundred
/// bytes asks the receiver to derive that many.
pub const MOVED_MAX: u64 = 1 << 20;
/// Packs of one parcel.
pub const PACKS_MAX: usize = 64;
/// Canonical encoding of one version, every list in it as long as the model allows.
pub const VERSION_BYTES_MAX: usize = 4 << 20;
/// The first request of a walk, carried by a round.
pub const WALK_BYTES_MAX: usize = 4 << 10;
/// Notes that one round after a walk speaks of.
pub const HAVE_MAX: usize = PAGE_NOTES_MAX;
/// Conflict records, or closings, in one message.
pub const CONFLICTS_MAX: usize = 4096;
/// Contents named as missing in one answer.
pub const MISSING_MAX: usize = 4096;
/// Policy rules of one replica.
pub const POLICIES_MAX: usize = 256;
/// Longest glob of a policy.
pub const POLICY_BYTES_MAX: usize = 1024;
