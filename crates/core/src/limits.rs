//! Every bound of the model, each with its why. Bounds of one machine's queues live beside it.

/// Longest path in bytes: below `PATH_MAX` (4096) with room for the vault's own location.
pub const PATH_BYTES_MAX: usize = 2048;
/// Longest path component in bytes: `NAME_MAX` on every file system we write to.
pub const COMPONENT_BYTES_MAX: usize = 255;
/// Deepest path in components; a bound on recursion over directories.
pub const PATH_DEPTH_MAX: usize = 96;
/// Largest `.md` file that is a note; a larger one is an asset, so that no merge is unbounded.
pub const NOTE_BYTES_MAX: u64 = 16 << 20;
/// Most parents of one version: heads beyond these are merged in a second merge version.
pub const PARENTS_MAX: usize = 64;
/// Most replicas in one note's clock.
pub const CLOCK_ENTRIES_MAX: usize = 4096;
/// Most frontmatter keys with a stamp, and most tags with dots, in one version.
pub const STAMPED_KEYS_MAX: usize = 1024;
/// Most dots of one tag.
pub const TAG_DOTS_MAX: usize = 64;
/// Longest frontmatter key or tag that carries a stamp or dots, in bytes.
pub const KEY_BYTES_MAX: usize = 1024;
/// How far ahead of the receiver's clock a stamp is believed, in milliseconds.
pub const CLOCK_AHEAD_MAX_MS: u64 = 10 * 60 * 1000;
/// Fanout of the Merkle trie and of the tree over a note's blocks.
pub const FANOUT: usize = 16;
/// Deepest recursion over criss-cross merge bases; beyond it the newest base is taken.
pub const MERGE_BASE_DEPTH_MAX: usize = 16;
/// Largest stretch of changed lines, over all three texts, that is merged word by word; beyond it
/// the winner's lines stand and the loser's go into the record.
pub const WORD_MERGE_BYTES_MAX: usize = 16 << 20;
