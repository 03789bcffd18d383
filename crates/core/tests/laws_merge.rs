//! The laws of merging, over texts as nasty as notes get.
//!
//! Texts are built from a small vocabulary (so that lines repeat and diffs are ambiguous) or from
//! unique words (so that nothing that goes missing can hide behind its twin).

mod laws_merge {
    mod blocks;
    mod choices;
    mod diffs;
    mod notes;
    mod texts;
    mod world;
}
