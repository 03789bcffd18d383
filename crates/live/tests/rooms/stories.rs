//! Single stories, each about one rule.
