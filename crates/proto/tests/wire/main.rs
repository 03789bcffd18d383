//! The wire from outside: every message both ways, the vectors that fix the bytes, and what
//! hostile bytes come to.

#![expect(clippy::unwrap_used, reason = "generated values that do not fit are a bug of the test")]

mod arbitrary;
#[path = "../../../../fuzz/bodies.rs"]
mod bodies;
mod fuzz;
mod hostile;
mod round_trip;
mod samples;
mod vectors;
