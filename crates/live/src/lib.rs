//! Live sessions: several people write in one note at the same time.
//!
//! Pure: no socket, clock or disk. In reading order: [`document`] is the shared text and the one
//! file that names the CRDT library; [`documents`] keeps many of them in a process of their own;
//! [`frames`] is the protocol on the wire; [`room`] is the session as a machine; [`presence`] is
//! who is where; [`stored`] what is durable; [`line_ends`] what a session leaves as it is;
//! [`limits`] the bounds.

pub mod document;
pub mod documents;
pub mod frames;
pub mod limits;
pub mod line_ends;
pub mod presence;
pub mod room;
pub mod stored;
