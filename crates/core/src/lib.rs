//! The model of Crucible: pure values and their laws.
//!
//! No I/O, no clock, no randomness, no async, no logging, no serde. In reading order:
//! [`id`] and [`hash`] name things, [`vault_path`] says what a path can be, [`version_vector`] and
//! [`timestamp`] say before and after, [`version`] is one immutable state of one note,
//! [`ancestry`] relates versions, [`block`] and [`frontmatter`] take a note apart,
//! [`text_merge`] and [`note_merge`] put two edits together, [`view`] makes one record of several
//! heads, [`merkle`] makes one root of a vault. [`limits`] holds every bound.

pub mod ancestry;
pub mod block;
pub mod conflict;
pub mod conflict_choice;
pub mod frontmatter;
pub mod hash;
pub mod heads;
pub mod id;
pub mod identity;
pub mod limits;
pub mod lines;
pub mod links;
mod list_value;
pub mod merkle;
pub mod note_merge;
pub mod tags;
pub mod text_diff;
pub mod text_merge;
pub mod timestamp;
pub mod vault_path;
pub mod version;
pub mod version_vector;
pub mod view;
mod words;
