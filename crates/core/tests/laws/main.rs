//! The laws of the model, held over generated values. Histories come from [`dag`]: replicas that
//! edit, merge and tell each other, so that stamps and clocks are what real ones would be.

#![expect(clippy::unwrap_used, reason = "generated values that do not fit are a bug of the test")]

mod ancestry;
mod clocks;
mod dag;
mod head_set;
mod paths;
mod versions;
