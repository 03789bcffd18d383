//! Every bound of a live session, with its why.

/// Longest text of a session, in bytes of UTF-8: what a browser's editor still edits smoothly.
pub const DOCUMENT_BYTES_MAX: usize = 4 << 20;

/// Largest update after reassembly, in bytes: a pasted chapter fits.
pub const UPDATE_BYTES_MAX: usize = 1 << 20;

/// Imports after which the document is loaded afresh: each keeps about 160 bytes in memory
/// (measured: 42 MB after 250 000 keystrokes, 0.6 MB loaded afresh).
pub const IMPORTS_MAX: usize = 20_000;

/// Largest frame in either direction, in bytes; the bound of the Loro sync protocol.
pub const FRAME_BYTES_MAX: usize = 256 << 10;

/// Most fragments of one update: it has at most [`UPDATE_BYTES_MAX`].
pub const FRAGMENTS_MAX: u64 = 4_096;

/// How long an update may take to arrive in fragments, in milliseconds.
pub const FRAGMENTS_MS: u64 = 10_000;

/// Connections to one room.
pub const CLIENTS_MAX: usize = 500;

/// Frames a client may send in a second; twice as many at once. A page sends 25.
pub const FRAMES_PER_S: u64 = 200;

/// Bytes a client may send in a second. Four times as many at once: a long text pasted, or what a
/// day without the network left behind.
pub const BYTES_PER_S: u64 = 1 << 20;

/// Updates that wait for their turn, over all clients of a room, in bytes.
pub const INBOX_BYTES_MAX: usize = 16 << 20;

/// What an update costs besides its bytes, while it waits.
pub const UPDATE_COST_BYTES: usize = 64;

/// How long somebody whose updates broke or strained the document stays out, in milliseconds: each
/// such update costs the time of loading the document.
pub const SHUT_OUT_MS: u64 = 3_000;

/// How long the first update of a turn waits for others, in milliseconds: those who strike at the
/// same moment share a turn, with one write to the disk and one frame to each reader.
pub const GATHER_MS: u64 = 1;

/// Updates imported in one turn: the others hear of the first before the last is in.
pub const TURN_UPDATES_MAX: usize = 512;

/// Bytes that wait for a client to take them; more, and it is synced anew when it is through.
pub const OUTBOX_BYTES_MAX: usize = 2 << 20;

/// Frames that wait for a client to take them.
pub const OUTBOX_FRAMES_MAX: usize = 1_024;

/// How long a client may lag behind before it is sent away, in milliseconds.
pub const LAG_MS: u64 = 10_000;

/// A frame of presence, in bytes: cursors have 50 to 110.
pub const PRESENCE_BYTES_MAX: usize = 4 << 10;

/// Entries of presence that one connection may have.
pub const PRESENCE_KEYS_MAX: usize = 4;

/// A checkpoint follows this long after the last edit, in milliseconds: within the two seconds in
/// which an edit is to be on disk.
pub const QUIET_MS: u64 = 1_000;

/// How long the oldest edit waits for a checkpoint while somebody types on, in milliseconds: within
/// the same two seconds; and where checkpoints take long themselves, at most.
pub const CHECKPOINT_MS: (u64, u64) = (1_500, 5_000);

/// The share of a room's time that checkpoints may take while somebody types on: one in so many.
pub const CHECKPOINT_SHARE: u64 = 10;

/// How long an emptied or deleted file is not yet believed, in milliseconds: editors that write
/// in place empty a file before they fill it.
pub const DISBELIEF_MS: u64 = 2_000;

/// A session ends this long after the last one left, in milliseconds.
pub const LEFT_MS: u64 = 60_000;

/// A session ends this long after the last edit, in milliseconds.
pub const IDLE_MS: u64 = 30 * 60_000;

/// Between two times that a room looks at its clocks, in milliseconds: at least, where something is
/// to be tried again, and at most.
pub const TICK_MS: (u64, u64) = (100, 5_000);

/// Between two messages that say who is here, in milliseconds.
pub const PEOPLE_MS: u64 = 250;

/// Connections that such a message names; their number is in it too.
pub const PEOPLE_TOLD_MAX: usize = 100;

/// First and longest wait before a failed write is tried again, in milliseconds.
pub const RETRY_MS: (u64, u64) = (500, 30_000);

/// The journal of a session is replaced by a snapshot above this, in bytes.
pub const JOURNAL_BYTES_MAX: usize = 1 << 20;

/// The share of a room's time that looks at its text may take while many write: one in so many.
/// (Each costs 0.3 to 2.5 ms then; one a turn was four times the work of all the rest, and with a
/// twentieth of the time it was still some third of all that twenty fast writers cost a server.)
pub const LOOK_SHARE: u64 = 100;

/// The longest time that taken updates go without a look, in milliseconds.
pub const UNLOOKED_MS: u64 = 500;

/// How often a question is asked again that ended the process with the documents, where nothing is
/// found that did it: other sessions' updates end it too, until they are found.
pub const IN_VAIN_MAX: u32 = 10;

/// Questions that the process with the documents works on at a time, each of another document: so
/// many that take long at once keep the others waiting.
pub const WORKERS: usize = 8;

/// Largest message between a server and the process that keeps its documents, in bytes: a journal
/// and a snapshot.
pub const MESSAGE_BYTES_MAX: usize = 64 << 20;
